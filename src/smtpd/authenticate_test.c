/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AUTH as clients play it: RFC 4954, H63 (in the clear), H64 (nonsense), H66 (SCRAM), H68 (another's sender).
 * The passwords are in session_rig.h.
 */
#include "base/base64.h"
#include "base/test.h"
#include "smtpd/session_rig.h"

#define EHLO "EHLO client\r\n"
#define MAIL "MAIL FROM:<alice@example.org>\r\n"
#define RCPT "RCPT TO:<ann@example.org>\r\n"
#define RIGHT "AGFsaWNlQGV4YW1wbGUub3JnAHNlc2FtZQ==" /* NUL alice@example.org NUL sesame */
#define WRONG "AGFsaWNlQGV4YW1wbGUub3JnAHNlc2FtMQ=="
#define NAME  "YWxpY2VAZXhhbXBsZS5vcmc="

static struct rig rig;

static int group_setup(void **state UNUSED)
{
	return rig_open(&rig) ? 0 : 1;
}

static int group_teardown(void **state UNUSED)
{
	rig_close_all(&rig);
	return 0;
}

static void listener(enum auth_mode mode, bool in_clear)
{
	rig.listener.auth = mode;
	rig.listener.auth_in_clear = in_clear;
	rig.auth_result = AUTH_RESULT_ACCEPTED;
}

static void play(const char *input, const char *want)
{
	for (int cut = RIG_WHOLE; cut <= RIG_SEVENS; cut++) {
		char room[2000];
		struct buf codes = buf_fixed(room, sizeof room);
		rig_play(&rig, str_z(input), (enum rig_cut)cut);
		rig_codes(&rig, &codes);
		if (!str_eq(buf_str(&codes), str_z(want)))
			print_message("%s\n", input);
		assert_str(buf_str(&codes), str_z(want));
	}
}

static bool said(const char *what)
{
	return str_find_str(buf_str(&rig.output), str_z(what)) < rig.output.n;
}

static void plain_and_login(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	play(EHLO "AUTH PLAIN " RIGHT "\r\nQUIT\r\n", "220 250 235 221");
	play(EHLO "AUTH plain\r\n" RIGHT "\r\n", "220 250 334 235");
	assert_true(said("334 \r\n"));
	play(EHLO "AUTH PLAIN " WRONG "\r\nAUTH PLAIN " RIGHT "\r\n", "220 250 535 235");
	play(EHLO "AUTH LOGIN\r\n" NAME "\r\nc2VzYW1l\r\n", "220 250 334 334 235");
	assert_true(said("334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"));
	play(EHLO "AUTH LOGIN " NAME "\r\nc2VzYW1l\r\n", "220 250 334 235");
	play(EHLO "AUTH LOGIN\r\n" NAME "\r\nc2VzYW0x\r\n", "220 250 334 334 535");
	/* authzid: for itself, and for another */
	play(EHLO "AUTH PLAIN YWxpY2VAZXhhbXBsZS5vcmcAYWxpY2VAZXhhbXBsZS5vcmcAc2VzYW1l\r\n", "220 250 235");
	play(EHLO "AUTH PLAIN Ym9iQGV4YW1wbGUub3JnAGFsaWNlQGV4YW1wbGUub3JnAHNlc2FtZQ==\r\n", "220 250 535");
}

static void offered(void **state UNUSED)
{
	listener(AUTH_MODE_OPTIONAL, true);
	play(EHLO, "220 250");
	assert_true(said("AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-1\r\n"));
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" EHLO, "220 250 235 250");
	assert_int_equal(rig.passwords > 0, true);
	listener(AUTH_MODE_NONE, true);
	play(EHLO "AUTH PLAIN " RIGHT "\r\nMAIL FROM:<> AUTH=<>\r\n", "220 250 502 555");
	assert_false(said("AUTH"));
}

/* H63: refused before the secret is sent, and nobody is asked. */
static void in_the_clear(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, false);
	rig.passwords = 0;
	play(EHLO "AUTH PLAIN\r\nAUTH PLAIN " RIGHT "\r\nAUTH LOGIN\r\n" MAIL, "220 250 538 538 538 530");
	assert_int_equal(rig.passwords, 0);
	assert_false(said("334"));
	play(EHLO, "220 250");
	assert_false(said("AUTH"));
}

static void order(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	play(EHLO MAIL "AUTH PLAIN " RIGHT "\r\n" MAIL RCPT, "220 250 530 235 250 250");
	play(EHLO "AUTH PLAIN " RIGHT "\r\nAUTH PLAIN " RIGHT "\r\n", "220 250 235 503");
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL "AUTH PLAIN " RIGHT "\r\n", "220 250 235 250 503");
	play("AUTH PLAIN " RIGHT "\r\nHELO client\r\nAUTH PLAIN " RIGHT "\r\n", "220 503 250 503");
	listener(AUTH_MODE_OPTIONAL, true);
	play(EHLO "MAIL FROM:<x@y.example>\r\nAUTH PLAIN " RIGHT "\r\n", "220 250 250 503");
}

/* H64 */
static void nonsense(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	rig.passwords = 0;
	play(EHLO "AUTH\r\nAUTH CRAM-MD5\r\nAUTH NTLM x\r\nAUTH PLAIN !!!\r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN\r\n\r\nNOOP\r\n",
	     "220 250 501 504 504 501 501 334 501 334 501 250");
	play(EHLO "AUTH PLAIN AGFiAA==\r\nAUTH PLAIN YWI=\r\nAUTH PLAIN YQBiAGMAZA==\r\nAUTH LOGIN\r\n*\r\nAUTH LOGIN\r\n=\r\nAUTH LOGIN\r\n\r\nQQ==\r\nNOOP\r\n",
	     "220 250 501 501 501 334 501 334 501 334 334 501 250");
	play(EHLO "AUTH PLAIN\r\nAGFi\rYw==\r\nAUTH PLAIN\r\nAGFi\nNOOP\r\n", "220 250 334 501 334 501 250");
	assert_int_equal(rig.passwords, 0);
}

/* H64: no line is without bound, and its rest is no command. */
static void endless_line(void **state UNUSED)
{
	struct buf b = buf_grow(world_mem(rig.w), (size_t)2 << 20);
	listener(AUTH_MODE_REQUIRED, true);
	buf_add(&b, STR(EHLO "AUTH PLAIN\r\n"));
	while (b.n < (1 << 20))
		buf_add(&b, STR("AAAAAAAAAAAAAAAA"));
	buf_add(&b, STR("\r\n" MAIL "QUIT\r\n"));
	rig_play(&rig, buf_str(&b), RIG_WHOLE);
	assert_true(said("334 \r\n500 5.5.6"));
	assert_false(said("530"));
	assert_false(said("221"));
	buf_free(&b);
}

static void long_first_message(void **state UNUSED)
{
	struct buf b = buf_grow(world_mem(rig.w), 65536);
	listener(AUTH_MODE_REQUIRED, true);
	buf_add(&b, STR(EHLO "AUTH PLAIN "));
	for (unsigned i = 0; i < 8000; i += 4)
		buf_add(&b, STR("AAAA"));
	buf_add(&b, STR("\r\nNOOP\r\n"));
	rig_play(&rig, buf_str(&b), RIG_WHOLE);
	assert_true(said("501 5.5.2"));
	assert_true(said("250 2.0.0"));
	buf_free(&b);
}

static void not_checked(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	rig.auth_result = AUTH_RESULT_SLOW_DOWN;
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL, "220 250 454 530");
	rig.auth_result = AUTH_RESULT_UNAVAILABLE;
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL, "220 250 454 530");
}

/* H68 */
static void senders(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	play(EHLO "AUTH PLAIN " RIGHT "\r\nMAIL FROM:<bob@example.org>\r\nMAIL FROM:<staff@example.org> AUTH=<>\r\nRSET\r\nMAIL FROM:<>\r\nRSET\r\n"
	     "MAIL FROM:<ALICE@example.org> AUTH=e+3Dmc2@example.com\r\nRSET\r\nMAIL FROM:<alice@example.org> AUTH=+0A\r\n",
	     "220 250 235 550 250 250 250 250 250 250 501");
}

static void envelope(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL RCPT "DATA\r\nSubject: x\r\n\r\n.\r\n", "220 250 235 250 250 354 250");
	assert_str(rig.messages[0].envelope.account, STR("alice@example.org"));
	assert_str(rig.messages[0].envelope.protocol, STR("ESMTPA"));
	assert_true(str_find_str(rig.messages[0].prefix, STR(" with ESMTPA id ")) < rig.messages[0].prefix.n);
}

/* H68: too much is put off, with a reason, and not taken */
static void limits(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	rig.over_budget = true;
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL RCPT "DATA\r\n\r\n.\r\n" MAIL RCPT "BDAT 2 LAST\r\n\r\nQUIT\r\n",
	     "220 250 235 250 250 354 451 250 250 451 221");
	assert_true(said("451 4.7.1 Your account may send 300 messages an hour; please wait 5 minutes"));
	assert_int_equal(rig.messages_n, 0);
	rig.over_budget = false;
	play(EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL RCPT "DATA\r\n\r\n.\r\n", "220 250 235 250 250 354 250");
}

#define LOGIN EHLO "AUTH PLAIN " RIGHT "\r\n" MAIL RCPT "DATA\r\n"

static bool in_prefix(const char *what)
{
	return str_find_str(rig.messages[0].prefix, str_z(what)) < rig.messages[0].prefix.n;
}

/* RFC 6409 §8 */
static void mended(void **state UNUSED)
{
	listener(AUTH_MODE_OPTIONAL, true);
	play(LOGIN "To: a@b.example\r\nBcc: secret@b.example,\r\n other@b.example\r\nSubject: x\r\n\r\nBcc: body\r\n.\r\n", "220 250 235 250 250 354 250");
	assert_str(rig.messages[0].body, STR("To: a@b.example\r\nSubject: x\r\n\r\nBcc: body\r\n"));
	assert_true(in_prefix("\r\nDate: ") && in_prefix("\r\nMessage-ID: <") && in_prefix("@mx.example.org>\r\n"));
	assert_true(str_ends(rig.messages[0].envelope.message_id, STR("@mx.example.org>")));
	play(LOGIN "date: Mon, 23 Nov 2026 18:51:03 +0000\r\nMessage-Id: <a@b>\r\n\r\n.\r\n", "220 250 235 250 250 354 250");
	assert_false(in_prefix("Date:") || in_prefix("Message-ID:"));
	assert_str(rig.messages[0].envelope.message_id, STR("<a@b>"));
	play(LOGIN "Bcc: x\r\n.\r\n", "220 250 235 250 250 354 250"); /* no empty line */
	assert_str(rig.messages[0].body, STR(""));
	/* relayed mail is nobody's to mend */
	play(EHLO MAIL RCPT "DATA\r\nBcc: x@b.example\r\n\r\n.\r\n", "220 250 250 250 354 250");
	assert_str(rig.messages[0].body, STR("Bcc: x@b.example\r\n\r\n"));
	assert_false(in_prefix("Date:"));
}

static void hides_the_client(void **state UNUSED)
{
	listener(AUTH_MODE_OPTIONAL, true);
	rig.listener.hide_client = true;
	play(LOGIN "\r\n.\r\n", "220 250 235 250 250 354 250");
	assert_true(str_starts(rig.messages[0].prefix, STR("Received: by mx.example.org with ESMTPA id ")));
	assert_false(in_prefix("192.0.2.7") || in_prefix("client"));
	play(EHLO MAIL RCPT "DATA\r\n\r\n.\r\n", "220 250 250 250 354 250"); /* no submitter */
	assert_true(in_prefix("from client ([192.0.2.7])"));
	rig.listener.hide_client = false;
}

/* The nonce is ours as far as the client can know it, so the whole exchange is for the live tests. */
static void scram(void **state UNUSED)
{
	listener(AUTH_MODE_REQUIRED, true);
	rig.passwords = 0;
	/* n,,n=alice@example.org,r=abc; then a final message with a nonce that is not ours */
	play(EHLO "AUTH SCRAM-SHA-256 biwsbj1hbGljZUBleGFtcGxlLm9yZyxyPWFiYw==\r\nYz1iaXdzLHI9YWJjLHA9ZVdWeg==\r\n", "220 250 334 535");
	/* nonsense instead of it; and first messages that want a channel binding, or an extension */
	play(EHLO "AUTH SCRAM-SHA-1 biwsbj1hbGljZUBleGFtcGxlLm9yZyxyPWFiYw==\r\nAAAA\r\n", "220 250 334 501");
	play(EHLO "AUTH SCRAM-SHA-256 cD10bHMtZXhwb3J0ZXIsLG49YSxyPWFiYw==\r\nAUTH SCRAM-SHA-256 bixdbT14LG49YSxyPWI=\r\nAUTH SCRAM-SHA-256 AAAA\r\n",
	     "220 250 535 501 501");
	assert_int_equal(rig.passwords, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_and_login), cmocka_unit_test(offered),	  cmocka_unit_test(in_the_clear),
		cmocka_unit_test(order),	   cmocka_unit_test(nonsense),	  cmocka_unit_test(endless_line),
		cmocka_unit_test(long_first_message), cmocka_unit_test(not_checked), cmocka_unit_test(senders),
		cmocka_unit_test(envelope),	   cmocka_unit_test(mended),	  cmocka_unit_test(hides_the_client), cmocka_unit_test(limits),	  cmocka_unit_test(scram),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
