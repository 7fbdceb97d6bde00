/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole sessions as dialogues: what the client sends, the codes that come back, the messages that
 * were handed over. Each is played whole, line by line, byte by byte and in sevens (H4).
 */
#include "smtpd/session_rig.h"

#include "base/test.h"

#define EHLO "EHLO client.example.net\r\n"
#define MAIL "MAIL FROM:<carol@example.net>\r\n"
#define RCPT "RCPT TO:<ann@example.org>\r\n"
#define OPEN EHLO MAIL RCPT
#define TEXT "Subject: x\r\n\r\nhello\r\n"

enum { WAITS = 1 }; /* the client waits for each reply: not to be played whole */

struct dialogue {
	const char *name;
	struct str input;
	const char *codes;
	size_t messages;
	struct str body; /* of the last message */
	unsigned flags;
};
#define S(lit) { "" lit, sizeof(lit) - 1 }

static const struct dialogue dialogues[] = {
	/* ---- RFC 5321 §3.1–§3.3, appendix D.1 ---- */
	{ "plain", S(EHLO MAIL RCPT "DATA\r\n" TEXT ".\r\nQUIT\r\n"), "220 250 250 250 354 250 221", 1, S(TEXT), 0 },
	{ "helo", S("HELO client\r\n" MAIL RCPT "DATA\r\n" TEXT ".\r\nQUIT\r\n"), "220 250 250 250 354 250 221", 1,
	  S(TEXT), 0 },
	{ "null reverse-path", S(EHLO "MAIL FROM:<>\r\n" RCPT "DATA\r\n" TEXT ".\r\n"), "220 250 250 250 354 250", 1,
	  S(TEXT), 0 },
	{ "postmaster alone", S(EHLO MAIL "RCPT TO:<Postmaster>\r\nDATA\r\n" TEXT ".\r\n"),
	  "220 250 250 250 354 250", 1, S(TEXT), 0 },
	{ "case and blanks", S("ehlo client\r\nmail from: <a@b.example> \r\nRcPt To: <ann@EXAMPLE.org>\r\ndata \r\n.\r\n"),
	  "220 250 250 250 354 250", 1, S(""), 0 },
	{ "two messages", S(OPEN "DATA\r\na\r\n.\r\n" MAIL RCPT "DATA\r\nb\r\n.\r\nQUIT\r\n"),
	  "220 250 250 250 354 250 250 250 354 250 221", 2, S("b\r\n"), 0 },
	{ "dots", S(OPEN "DATA\r\n..\r\n...\r\n.a\r\na.\r\n..a\r\n\r\n.\r\n"), "220 250 250 250 354 250", 1,
	  S(".\r\n..\r\na\r\na.\r\n.a\r\n\r\n"), 0 },
	{ "one recipient refused", S(EHLO MAIL "RCPT TO:<nobody@example.org>\r\n" RCPT "DATA\r\nx\r\n.\r\n"),
	  "220 250 250 550 250 354 250", 1, S("x\r\n"), 0 },
	{ "recipient deferred", S(EHLO MAIL "RCPT TO:<later@example.org>\r\nQUIT\r\n"), "220 250 250 451 221", 0, S(""), 0 },
	{ "no relay (P5)", S(EHLO MAIL "RCPT TO:<x@elsewhere.example>\r\n"), "220 250 250 550", 0, S(""), 0 },
	{ "others", S("NOOP\r\nNOOP x y\r\nHELP\r\nVRFY ann\r\nEXPN list\r\nRSET\r\nQUIT\r\n"),
	  "220 250 250 214 252 252 250 221", 0, S(""), 0 },
	{ "not offered (H39)", S("STARTTLS\r\nAUTH PLAIN x\r\nETRN '; DROP\r\nTURN\r\nATRN x\r\n"),
	  "220 502 502 502 502 502", 0, S(""), 0 },
	{ "arguments", S(EHLO "RSET x\r\nQUIT x\r\nVRFY\r\nEHLO\r\nHELO\r\nQUIT\r\n"),
	  "220 250 501 501 501 501 501 221", 0, S(""), 0 },

	/* ---- H1, H5, H6: lines ---- */
	{ "H1 LF ends no command", S("NOOP\nNOOP\r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },
	{ "H1 CR ends no command", S("NOOP\rNOOP\r\nNOOP\r\n"), "220 500 250", 0, S(""), 0 },
	{ "H1 LF hides a command", S(EHLO "NOOP\n" MAIL RCPT "QUIT\r\n"), "220 250 500 500 503 221", 0, S(""), 0 },
	{ "H5 NUL in a command", S("NO\0OP\r\nMAIL FROM:<a\0@b>\r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },
	{ "empty line", S("\r\n \r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },

	/* ---- H2: smuggling through DATA ---- */
#define SMUGGLE(name, seq)                                                                                   \
	{ "H2 " name, S(OPEN "DATA\r\n" TEXT "a" seq MAIL RCPT "DATA\r\nsmuggled\r\n.\r\nQUIT\r\n"),         \
	  "220 250 250 250 354 554 221", 0, S(""), 0 }
	SMUGGLE("LF.LF", "\n.\n"),
	SMUGGLE("LF.CRLF", "\n.\r\n"),
	SMUGGLE("CRLF.LF", "\r\n.\n"),
	SMUGGLE("CR.CR", "\r.\r"),
	SMUGGLE("CR.CRLF", "\r.\r\n"),
	SMUGGLE("CR.LF", "\r.\n"),
	SMUGGLE("LF.CR", "\n.\r"),
	SMUGGLE("CRLF.CR", "\r\n.\r"),
	SMUGGLE("CRLF NUL .CRLF", "\r\n\0.\r\n"),
	SMUGGLE("CRLF.NUL CRLF", "\r\n.\0\r\n"),
	SMUGGLE("CRCRLF.CRCRLF", "\r\r\n.\r\r\n"),
	SMUGGLE("LFCR.LFCR", "\n\r.\n\r"),
	SMUGGLE("CRLF.CRCR", "\r\n.\r\r"),
	{ "H2 bare CR right before the end", S(OPEN "DATA\r\na\r\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H2 bare LF in the first line", S(OPEN "DATA\r\n\n.\r\n\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H5 NUL in the body", S(OPEN "DATA\r\na\0b\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H43 CR before a field", S(OPEN "DATA\r\nA: b\rFrom: x\r\n\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },

	/* ---- H3, H8–H12: BDAT ---- */
	{ "BDAT", S(OPEN "BDAT 7\r\nhello\r\nBDAT 7 LAST\r\nworld\r\nQUIT\r\n"), "220 250 250 250 250 250 221", 1,
	  S("hello\r\nworld\r\n"), 0 },
	{ "BDAT keeps dots", S(OPEN "BDAT 9 last\r\n.\r\n..\r\n\r\n"), "220 250 250 250 250", 1, S(".\r\n..\r\n\r\n"), 0 },
	{ "BDAT 0 LAST", S(OPEN "BDAT 3\r\na\r\nBDAT 0 LAST\r\nQUIT\r\n"), "220 250 250 250 250 250 221", 1, S("a\r\n"), 0 },
	{ "BDAT in a CRLF", S(OPEN "BDAT 2\r\na\rBDAT 1 LAST\r\n\nQUIT\r\n"), "220 250 250 250 250 250 221", 1, S("a\r\n"), 0 },
	{ "H3 LF in BDAT", S(OPEN "BDAT 9 LAST\r\na\n.\nb\r\n\r\nQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "H3 CR ends BDAT", S(OPEN "BDAT 2 LAST\r\na\rQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "H5 NUL in BDAT", S(OPEN "BDAT 5 LAST\r\na\0b\r\nQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "BINARYMIME", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT "BDAT 14 LAST\r\nA: b\r\n\r\n\0\r\n\n\r."
	  "QUIT\r\n"), "220 250 250 250 250 221", 1, S("A: b\r\n\r\n\0\r\n\n\r."), 0 },
	{ "H43 LF in a BINARYMIME header", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT
	  "BDAT 9 LAST\r\nA: b\nC: dQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "BINARYMIME needs BDAT", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT "DATA\r\nQUIT\r\n"),
	  "220 250 250 250 503 221", 0, S(""), WAITS },
	{ "H8 negative", S(OPEN "BDAT -1\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 hexadecimal", S(OPEN "BDAT 0x10\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 2^64", S(OPEN "BDAT 18446744073709551616\r\nQUIT\r\n"), "220 250 250 250 552", 0, S(""), 0 },
	{ "H8 2^63-1", S(OPEN "BDAT 9223372036854775807 LAST\r\nQUIT\r\n"), "220 250 250 250 552", 0, S(""), 0 },
	{ "H8 two blanks", S(OPEN "BDAT 1 5\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 none", S(OPEN "BDAT\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 0 without LAST", S(OPEN "BDAT 0\r\nQUIT\r\n"), "220 250 250 250 501 221", 0, S(""), 0 },
	{ "H8 LAST LAST", S(OPEN "BDAT 0 LAST LAST\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H9 cut short", S(OPEN "BDAT 100 LAST\r\nhello\r\n"), "220 250 250 250", 0, S(""), 0 },
	{ "H10 after LAST", S(OPEN "BDAT 2 LAST\r\n\r\nBDAT 6 LAST\r\nQUIT\r\nQUIT\r\n"), "220 250 250 250 250 503 221",
	  1, S("\r\n"), 0 },
	{ "H11 without recipient", S(EHLO MAIL "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), "220 250 250 503 250", 0, S(""), 0 },
	{ "H11 without MAIL", S(EHLO "BDAT 6\r\nQUIT\r\nNOOP\r\n"), "220 250 503 250", 0, S(""), 0 },
	{ "H11 without EHLO", S("BDAT 6\r\nQUIT\r\nNOOP\r\n"), "220 503 250", 0, S(""), 0 },
	{ "H12 the end in a chunk", S(OPEN "BDAT 6\r\nhell"), "220 250 250 250", 0, S(""), 0 },
	{ "H12 STARTTLS between chunks", S(OPEN "BDAT 2\r\n\r\nSTARTTLS\r\nBDAT 2 LAST\r\n\r\n"), "220 250 250 250 250 502 250",
	  1, S("\r\n\r\n"), 0 },
	{ "BDAT and DATA", S(OPEN "BDAT 2\r\n\r\nDATA\r\nBDAT 0 LAST\r\n"), "220 250 250 250 250 503 250", 1, S("\r\n"), WAITS },
	{ "RCPT after BDAT", S(OPEN "BDAT 2\r\n\r\n" RCPT MAIL "RSET\r\n"), "220 250 250 250 250 503 503 250", 0, S(""), 0 },
	{ "RSET between chunks", S(OPEN "BDAT 2\r\nx\nRSET\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n"), "220 250 250 250 554 250 503 221", 0, S(""), 0 },
	{ "chunks after a bad one", S(OPEN "BDAT 2\r\nx\nBDAT 2\r\n\r\nBDAT 0 LAST\r\n" MAIL), "220 250 250 250 554 503 503 250", 0, S(""), 0 },

	/* ---- H14: RFC 2920 ---- */
	{ "H14 DATA ends the batch", S(OPEN "DATA\r\n" TEXT ".\r\n" MAIL "QUIT\r\n"), "220 250 250 250 354 250 250 221", 1,
	  S(TEXT), 0 },
	{ "H14 refused DATA", S(EHLO MAIL "DATA\r\nQUIT\r\n"), "220 250 250 503 221", 0, S(""), WAITS },

	/* ---- H18, H19 ---- */
	{ "H18 HTTP", S("POST / HTTP/1.1\r\nHost: x\r\n\r\n" OPEN), "220 554", 0, S(""), 0 },
	{ "H18 TLS", S("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), "220 554", 0, S(""), 0 },
	{ "H18 SSH", S("SSH-2.0-OpenSSH_9.2\r\n" OPEN), "220 554", 0, S(""), 0 },
	{ "H19 forged result", S("EHLO x;dmarc=pass\r\nEHLO a b\r\nEHLO x(y)\r\nEHLO \x01\r\nEHLO [1.2.3]\r\nEHLO -\xc3\xa4\r\n" MAIL),
	  "220 501 501 501 501 501 501 503", 0, S(""), 0 },
	{ "H19 what is taken", S("EHLO x_y.example\r\nEHLO [192.0.2.1]\r\nEHLO [IPv6:2001:db8::1] hello\r\nHELO localhost\r\n"),
	  "220 250 250 250 250", 0, S(""), 0 },

	/* ---- H21: RFC 5321 §4.1.4 ---- */
	{ "H21 no EHLO", S(MAIL RCPT "DATA\r\n"), "220 503 503 503", 0, S(""), WAITS },
	{ "H21 no MAIL", S(EHLO RCPT "DATA\r\nBDAT 0 LAST\r\n"), "220 250 503 503 503", 0, S(""), WAITS },
	{ "H21 second MAIL", S(EHLO MAIL MAIL), "220 250 250 503", 0, S(""), 0 },
	{ "H21 all refused", S(EHLO MAIL "RCPT TO:<nobody@example.org>\r\nDATA\r\n"), "220 250 250 550 503", 0, S(""), WAITS },
	{ "H21 RSET forgets", S(OPEN "RSET\r\nDATA\r\n" MAIL "DATA\r\n"), "220 250 250 250 250 503 250 503", 0, S(""), WAITS },
	{ "H21 EHLO forgets", S(OPEN EHLO "DATA\r\n"), "220 250 250 250 250 503", 0, S(""), WAITS },
	{ "H21 a bad EHLO does not", S(OPEN "EHLO ;\r\nDATA\r\n.\r\n"), "220 250 250 250 501 354 250", 1, S(""), 0 },

	/* ---- H22 ---- */
	{ "H22 the end in DATA", S(OPEN "DATA\r\n" TEXT), "220 250 250 250 354", 0, S(""), 0 },
	{ "H22 the end in the dot", S(OPEN "DATA\r\n" TEXT ".\r"), "220 250 250 250 354", 0, S(""), 0 },

	/* ---- H26–H30: paths ---- */
	{ "H26 shell", S(EHLO "MAIL FROM:<;sh;>\r\nMAIL FROM:<`id`@b.example>\r\nRCPT TO:<|cmd@example.org>\r\n"
	  "RCPT TO:</etc/passwd@example.org>\r\nRCPT TO:<-oQ@example.org>\r\nRCPT TO:<$(id)@example.org>\r\n"
	  "RCPT TO::include:/x\r\n"), "220 250 501 250 250 250 250 501 501", 0, S(""), 0 },
	{ "H27 local parts", S(EHLO MAIL "RCPT TO:<../../etc/x@example.org>\r\nRCPT TO:<.@example.org>\r\n"
	  "RCPT TO:<\"\"@example.org>\r\nRCPT TO:<\"../x\"@example.org>\r\nRCPT TO:<a..b@example.org>\r\n"),
	  "220 250 250 501 501 501 250 501", 0, S(""), 0 },
	{ "H28 routes", S(EHLO MAIL "RCPT TO:<@a.example,@b.example:ann@example.org>\r\nRCPT TO:<ann@example.org@x.example>\r\n"
	  "RCPT TO:<\"x@y\"@elsewhere.example>\r\nRCPT TO:<user%x.example@elsewhere.example>\r\n"
	  "RCPT TO:<@a.example:c@elsewhere.example>\r\n"), "220 250 250 250 501 550 550 550", 0, S(""), 0 },
	{ "H29 domains", S(EHLO MAIL "RCPT TO:<a@[127.0.0.1]>\r\nRCPT TO:<a@[IPv6:::1%eth0]>\r\nRCPT TO:<a@[IPv6:::1>\r\n"
	  "RCPT TO:<a@1.2.3.4>\r\nRCPT TO:<a@example.org.>\r\nRCPT TO:<a@.example.org>\r\nRCPT TO:<a@>\r\nRCPT TO:<a>\r\n"),
	  "220 250 250 550 501 501 501 501 501 501 501", 0, S(""), 0 },
	{ "H30 UTF-8", S(EHLO "MAIL FROM:<\xc3\xa4@b.example>\r\nMAIL FROM:<a@b.example>\r\n"
	  "RCPT TO:<\xc3\xa4@example.org>\r\nRSET\r\nMAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\n"
	  "RCPT TO:<\xc3\xa4@example.org>\r\nRCPT TO:<\xc0\xaf@example.org>\r\nRCPT TO:<\xed\xa0\x80@example.org>\r\n"
	  "RCPT TO:<a\xe2\x80\xae@example.org>\r\nRCPT TO:<a@b\xef\xbc\xa0" "c.example>\r\n"),
	  "220 250 553 250 553 250 250 250 501 501 501 501", 0, S(""), 0 },
	{ "paths without brackets", S(EHLO "MAIL FROM:a@b.example\r\nMAIL FROM\r\nMAIL\r\nMAIL TO:<a@b.example>\r\n" MAIL
	  "RCPT TO:ann@example.org\r\nRCPT TO:<>\r\nRCPT\r\nRCPT FROM:<a@b.example>\r\n"),
	  "220 250 501 501 501 501 250 501 501 501 501", 0, S(""), 0 },

	/* ---- H31–H34: parameters ---- */
	{ "parameters", S(EHLO "MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n"
	  "RCPT TO:<ann@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;ann@example.org\r\nDATA\r\n.\r\n"),
	  "220 250 250 250 354 250", 1, S(""), 0 },
	{ "H31 ORCPT", S(EHLO MAIL "RCPT TO:<ann@example.org> ORCPT=rfc822;a+0D+0Ab\r\nRCPT TO:<ann@example.org> ORCPT=rfc822;+00\r\n"
	  "RCPT TO:<ann@example.org> ORCPT=rfc822;+ZZ\r\nRCPT TO:<ann@example.org> NOTIFY=NEVER,SUCCESS\r\n"
	  "RCPT TO:<ann@example.org> NOTIFY=\r\nRCPT TO:<ann@example.org> ORCPT=x\r\n"),
	  "220 250 250 501 501 501 501 501 501", 0, S(""), 0 },
	{ "H31 RET, ENVID", S(EHLO "MAIL FROM:<> RET=x\r\nMAIL FROM:<> ENVID=+0A\r\nMAIL FROM:<> RET\r\n"), "220 250 501 501 501", 0, S(""), 0 },
	{ "H32 SIZE", S(EHLO "MAIL FROM:<> SIZE=-1\r\nMAIL FROM:<> SIZE=18446744073709551616\r\nMAIL FROM:<> SIZE=1000001\r\n"
	  "MAIL FROM:<> SIZE=\r\nMAIL FROM:<> SIZE\r\nMAIL FROM:<> SIZE=1000000\r\n"), "220 250 501 552 552 501 501 250", 0, S(""), 0 },
	{ "H33 AUTH", S(EHLO "MAIL FROM:<> AUTH=<>\r\nMAIL FROM:<> AUTH=\"\r\n"), "220 250 555 555", 0, S(""), 0 },
	{ "H34 twice, unknown", S(EHLO "MAIL FROM:<> SIZE=1 size=2\r\nMAIL FROM:<> HOLDFOR=99999999999\r\n"
	  "MAIL FROM:<> BY=-999999999999\r\nMAIL FROM:<> MT-PRIORITY=99\r\nMAIL FROM:<> REQUIRETLS\r\nMAIL FROM:<> BODY=9BIT\r\n"
	  "MAIL FROM:<>SIZE=1\r\nMAIL FROM:<> SMTPUTF8=1\r\nMAIL FROM:<> =\r\n"), "220 250 501 555 555 555 555 501 501 501 501", 0, S(""), 0 },
};

static struct rig rig;

static int group_setup(void **state)
{
	return rig_open(&rig) ? 0 : 1;
}

static int group_teardown(void **state)
{
	rig_close_all(&rig);
	return 0;
}

static void check(const struct dialogue *d, enum rig_cut cut)
{
	char room[2000];
	struct buf codes = buf_fixed(room, sizeof room);
	rig_play(&rig, d->input, cut);
	rig_codes(&rig, &codes);
	struct str got = buf_str(&codes), want = str_z(d->codes);
	if (!str_eq(got, want) || rig.messages_n != d->messages)
		print_message("%s (cut %d): %.*s, %zu messages\n", d->name, cut, STR_ARG(got), rig.messages_n);
	assert_str(got, want);
	assert_int_equal(rig.messages_n, d->messages);
	if (d->messages)
		assert_str(rig.messages[d->messages - 1].body, d->body);
	assert_int_equal(rig.d.body_bytes, 0);
}

static void plays_all(void **state)
{
	for (size_t i = 0; i < COUNT(dialogues); i++)
		for (int cut = RIG_WHOLE; cut <= RIG_SEVENS; cut++)
			if (!(dialogues[i].flags & WAITS) || cut == RIG_LINES || cut == RIG_BYTES)
				check(&dialogues[i], (enum rig_cut)cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plays_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
