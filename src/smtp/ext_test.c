/* SPDX-License-Identifier: Apache-2.0 */
/* The extensions' parameters and lines (RFC 1870, 6152, 3030, 6531, 9422, 3461), and replies (RFC 2034). */
#include "smtp/ext.h"

#include "base/test.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static const struct ext_offer offer = { .message_bytes = 1000, .recipients = 50, .transactions = 2000000, .smtputf8 = true };

static void mail_parameters(void **state)
{
	static const struct {
		struct str in;
		enum reply_id reply;
	} rows[] = {
		{ S(""), REPLY_NONE },
		{ S(" SIZE=1000"), REPLY_NONE },
		{ S(" SIZE=1001"), REPLY_TOO_BIG },
		{ S(" SIZE=99999999999999999999"), REPLY_TOO_BIG },
		{ S(" SIZE=100000000000000000000"), REPLY_BAD_PARAMETER },
		{ S(" SIZE=00000000000000000001"), REPLY_NONE },
		{ S(" SIZE=-1"), REPLY_BAD_PARAMETER },
		{ S(" SIZE=+1"), REPLY_BAD_PARAMETER },
		{ S(" SIZE=1e9"), REPLY_BAD_PARAMETER },
		{ S(" SIZE"), REPLY_BAD_PARAMETER },
		{ S(" body=7bit"), REPLY_NONE },
		{ S(" BODY=8BITMIME"), REPLY_NONE },
		{ S(" BODY=BINARYMIME"), REPLY_NONE },
		{ S(" BODY=x"), REPLY_BAD_PARAMETER },
		{ S(" BODY"), REPLY_BAD_PARAMETER },
		{ S(" SMTPUTF8"), REPLY_NONE },
		{ S(" SMTPUTF8=yes"), REPLY_BAD_PARAMETER },
		{ S(" RET=full ENVID=a+2Bb"), REPLY_NONE },
		{ S(" RET=x"), REPLY_BAD_PARAMETER },
		{ S(" ENVID=+0D+0A"), REPLY_BAD_PARAMETER },
		{ S(" ENVID"), REPLY_BAD_PARAMETER },
		{ S(" ENVID=" HUNDRED), REPLY_NONE },
		{ S(" ENVID=" HUNDRED "x"), REPLY_BAD_PARAMETER },
		{ S(" NOTIFY=NEVER"), REPLY_UNKNOWN_PARAMETER },
		{ S(" X=1"), REPLY_UNKNOWN_PARAMETER },
		{ S(" X=1 X=2"), REPLY_BAD_PARAMETER },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct mail_params p;
		enum reply_id r = ext_mail_params(&offer, rows[i].in, &p);
		if (r != rows[i].reply)
			print_message("%.*s\n", STR_ARG(rows[i].in));
		assert_int_equal(r, rows[i].reply);
	}
	struct mail_params p;
	assert_int_equal(ext_mail_params(&offer, STR(" BODY=BINARYMIME SIZE=7 SMTPUTF8 RET=HDRS ENVID=x"), &p), REPLY_NONE);
	assert_true(p.body == BODY_KIND_BINARY_MIME && p.size == 7 && p.smtputf8 && p.ret == DSN_RET_HDRS);
	assert_str(p.envid, STR("x"));
}

static void rcpt_parameters(void **state)
{
	static const struct {
		struct str in;
		enum reply_id reply;
		uint8_t notify;
	} rows[] = {
		{ S(" NOTIFY=NEVER"), REPLY_NONE, 1 },
		{ S(" NOTIFY=delay,SUCCESS,Failure"), REPLY_NONE, 14 },
		{ S(" NOTIFY=NEVER,SUCCESS"), REPLY_BAD_PARAMETER, 0 },
		{ S(" NOTIFY=SUCCESS,SUCCESS"), REPLY_BAD_PARAMETER, 0 },
		{ S(" NOTIFY=SUCCESS,"), REPLY_BAD_PARAMETER, 0 },
		{ S(" NOTIFY=,"), REPLY_BAD_PARAMETER, 0 },
		{ S(" NOTIFY"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=rfc822;Bob+2Bx@Example.com"), REPLY_NONE, 0 },
		{ S(" ORCPT=utf-8;\xc3\xa4@x"), REPLY_NONE, 0 },
		{ S(" ORCPT=rfc822;\xc3\xa4@x"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=rfc822;+00"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=rfc822;"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=;x"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=x"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=a b;x"), REPLY_BAD_PARAMETER, 0 },
		{ S(" ORCPT=rfc822;" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED), REPLY_BAD_PARAMETER, 0 },
		{ S(" SIZE=1"), REPLY_UNKNOWN_PARAMETER, 0 },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct rcpt_params p;
		enum reply_id r = ext_rcpt_params(&offer, rows[i].in, &p);
		if (r != rows[i].reply)
			print_message("%.*s\n", STR_ARG(rows[i].in));
		assert_int_equal(r, rows[i].reply);
		if (r == REPLY_NONE)
			assert_int_equal(p.notify, rows[i].notify);
	}
}

/* RFC 9422 §4: values have at most six digits. */
/* RFC 4865; H34: values that are no time, or too long */
static void future_release(void **state)
{
	static const struct ext_offer held = { .message_bytes = 1000, .now_ms = 1795459863123, .hold_ms = 86400000 };
	static const struct {
		struct str in;
		enum reply_id r;
		int64_t not_before_ms;
	} rows[] = {
		{ STR(" HOLDFOR=60"), REPLY_NONE, 1795459923123 },
		{ STR(" holdfor=86400"), REPLY_NONE, 1795546263123 },
		{ STR(" HOLDFOR=86401"), REPLY_HELD_TOO_LONG, 0 },
		{ STR(" HOLDFOR=0"), REPLY_BAD_PARAMETER, 0 },
		{ STR(" HOLDFOR="), REPLY_BAD_PARAMETER, 0 },
		{ STR(" HOLDFOR=-1"), REPLY_BAD_PARAMETER, 0 },
		{ STR(" HOLDFOR=99999999999"), REPLY_BAD_PARAMETER, 0 },
		{ STR(" HOLDUNTIL=2026-11-23T19:51:03Z"), REPLY_NONE, 1795463463000 },
		{ STR(" HOLDUNTIL=2020-01-01T00:00:00Z"), REPLY_NONE, 0 }, /* past: at once */
		{ STR(" HOLDUNTIL=2027-01-01T00:00:00Z"), REPLY_HELD_TOO_LONG, 0 },
		{ STR(" HOLDUNTIL=tomorrow"), REPLY_BAD_PARAMETER, 0 },
		{ STR(" HOLDFOR=60 HOLDUNTIL=2026-11-23T19:51:03Z"), REPLY_BAD_PARAMETER, 0 },
	};
	char room[500];
	struct buf b = buf_fixed(room, sizeof room);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct mail_params p;
		assert_int_equal(ext_mail_params(&held, rows[i].in, &p), rows[i].r);
		if (rows[i].r == REPLY_NONE)
			assert_int_equal(p.not_before_ms, rows[i].not_before_ms);
	}
	struct mail_params p;
	assert_int_equal(ext_mail_params(&offer, STR(" HOLDFOR=60"), &p), REPLY_UNKNOWN_PARAMETER);
	ext_lines_add(&held, &b);
	assert_true(str_ends(buf_str(&b), STR("\nFUTURERELEASE 86400 2026-11-24T18:51:03Z")));
}

static void ehlo_lines(void **state)
{
	char room[500];
	struct buf b = buf_fixed(room, sizeof room);
	struct ext_offer less = { .message_bytes = 5, .starttls = true };
	ext_lines_add(&offer, &b);
	assert_str(buf_str(&b), STR("\nPIPELINING\nSIZE 1000\n8BITMIME\nENHANCEDSTATUSCODES\nSMTPUTF8\nCHUNKING\nBINARYMIME\n"
				    "LIMITS MAILMAX=999999 RCPTMAX=50\nDSN"));
	buf_clear(&b);
	ext_lines_add(&less, &b);
	assert_str(buf_str(&b), STR("\nPIPELINING\nSIZE 5\n8BITMIME\nENHANCEDSTATUSCODES\nCHUNKING\nBINARYMIME\nDSN\nSTARTTLS"));
}

static void print(struct buf *b, uint16_t code, struct str enhanced, struct str text)
{
	struct reply r = { code, enhanced, text };
	buf_clear(b);
	reply_add(b, &r);
	assert_int_equal(buf_err(b), ERR_NONE);
}

/* RFC 5321 §4.2, §4.5.3.1.5; RFC 2034 §4 */
static void replies(void **state)
{
	char room[REPLY_BYTES_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	print(&b, 250, STR("2.0.0"), STR("OK"));
	assert_str(buf_str(&b), STR("250 2.0.0 OK\r\n"));
	print(&b, 354, STR(""), STR("Go"));
	assert_str(buf_str(&b), STR("354 Go\r\n"));
	print(&b, 550, STR("5.1.1"), STR("one\ntwo\nthree"));
	assert_str(buf_str(&b), STR("550-5.1.1 one\r\n550-5.1.1 two\r\n550 5.1.1 three\r\n"));
	print(&b, 550, STR(""), STR("a\rb\0c\x1b[0m\xc3\xa4\xff"));
	assert_str(buf_str(&b), STR("550 a?b?c?[0m???\r\n"));
	print(&b, 550, STR(""), STR("\xc3\xa4\t"));
	assert_str(buf_str(&b), STR("550 \xc3\xa4\t\r\n"));
	print(&b, 550, STR(""), STR(""));
	assert_str(buf_str(&b), STR("550 \r\n"));
	static char text[20000];
	memset(text, 'x', sizeof text);
	print(&b, 550, STR("5.0.0"), str_of(text, sizeof text));
	assert_int_equal(b.n, REPLY_LINE_MAX);
	for (size_t i = 99; i < sizeof text; i += 100)
		text[i] = '\n';
	print(&b, 550, STR("5.0.0"), str_of(text, sizeof text));
	assert_true(b.n <= REPLY_BYTES_MAX && str_ends(buf_str(&b), STR("\r\n")));
}

/* The classes of code and enhanced code agree; texts fit on a line. */
static void standard_replies(void **state)
{
	char room[REPLY_BYTES_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	for (unsigned i = 1; i < REPLY_COUNT; i++) {
		struct reply r = reply_of((enum reply_id)i);
		assert_true(r.code >= 200 && r.code < 560);
		if (r.code / 100 == 3)
			assert_int_equal(r.enhanced.n, 0);
		else
			assert_int_equal(r.enhanced.p[0] - '0', r.code / 100);
		assert_true(str_is_printable_ascii(r.text) && r.text.n < 100);
		print(&b, r.code, r.enhanced, r.text);
		assert_true(reply_name((enum reply_id)i).n > 0);
	}
	assert_int_equal(reply_of(REPLY_NONE).code, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_parameters), cmocka_unit_test(rcpt_parameters), cmocka_unit_test(ehlo_lines), cmocka_unit_test(future_release),
		cmocka_unit_test(replies),	   cmocka_unit_test(standard_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
