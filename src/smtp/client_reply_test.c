/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of servers, good and hostile (H17); each whole and byte by byte (R4). */
#include "smtp/client_reply.h"

#include "base/test.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }

struct row {
	struct str in;
	enum client_reply_result result;
	uint16_t code;
	const char *enhanced, *text;
};

static const struct row rows[] = {
	/* RFC 5321 §4.2, §4.2.1 */
	{ S("250 ok\r\n"), CLIENT_REPLY_LAST, 250, "", "ok" },
	{ S("250\r\n"), CLIENT_REPLY_LAST, 250, "", "" },
	{ S("250 \r\n"), CLIENT_REPLY_LAST, 250, "", "" },
	{ S("250 ok\n"), CLIENT_REPLY_LAST, 250, "", "ok" },
	{ S("250-mx\r\n250-SIZE 1\r\n250 DSN\r\n"), CLIENT_REPLY_LAST, 250, "", "mx SIZE 1 DSN" },
	{ S("250-\r\n250\r\n"), CLIENT_REPLY_LAST, 250, "", "" },
	{ S("250 ok\r\n250 behind"), CLIENT_REPLY_LAST, 250, "", "ok" },
	/* RFC 2034, RFC 3463 */
	{ S("550 5.1.1 no such user\r\n"), CLIENT_REPLY_LAST, 550, "5.1.1", "no such user" },
	{ S("550-5.7.123 one\r\n550 5.7.123 two\r\n"), CLIENT_REPLY_LAST, 550, "5.7.123", "one two" },
	{ S("550 5.7.2\r\n"), CLIENT_REPLY_LAST, 550, "5.7.2", "" },
	{ S("550 4.1.1 wrong class\r\n"), CLIENT_REPLY_LAST, 550, "", "4.1.1 wrong class" },
	{ S("250 5.1.1\r\n"), CLIENT_REPLY_LAST, 250, "", "5.1.1" },
	{ S("550 5.1.1234 x\r\n"), CLIENT_REPLY_LAST, 550, "", "5.1.1234 x" },
	{ S("550 5.1.1.1 x\r\n"), CLIENT_REPLY_LAST, 550, "", "5.1.1.1 x" },
	{ S("550 5..1 x\r\n"), CLIENT_REPLY_LAST, 550, "", "5..1 x" },
	{ S("550 5.1. x\r\n"), CLIENT_REPLY_LAST, 550, "", "5.1. x" },
	{ S("550 5.1\r\n"), CLIENT_REPLY_LAST, 550, "", "5.1" },
	/* R2 */
	{ S("550 a\x1b[2Jb\tc\x7f\r\n"), CLIENT_REPLY_LAST, 550, "", "a?[2Jb?c?" },
	{ S("550 gr\xc3\xbc\xc3\x9f \xff\xc3(\r\n"), CLIENT_REPLY_LAST, 550, "", "gr\xc3\xbc\xc3\x9f ?" "?(" },
	{ S("550 \xc2\x85x\xc2\xa0y\r\n"), CLIENT_REPLY_LAST, 550, "", "?x\xc2\xa0y" },
	{ S("550 a\rb\r\n"), CLIENT_REPLY_LAST, 550, "", "a?b" },
	/* R1, H17 */
	{ S("999 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("199 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("260 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("600 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("25 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("2500 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("250x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("HTTP/1.1 400 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("-250 x\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("250 a\0b\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("250-a\r\n251 b\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("250-a\r\n550 b\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	{ S("250-a\r\nb\r\n"), CLIENT_REPLY_BAD, 0, NULL, NULL },
	/* not whole */
	{ S(""), CLIENT_REPLY_NEED_MORE, 0, NULL, NULL },
	{ S("250 ok"), CLIENT_REPLY_NEED_MORE, 0, NULL, NULL },
	{ S("250 ok\r"), CLIENT_REPLY_NEED_MORE, 0, NULL, NULL },
	{ S("250-ok\r\n250"), CLIENT_REPLY_NEED_MORE, 250, NULL, NULL },
};

/* Plays the input in pieces of `step` bytes; returns how the reply ended. */
static enum client_reply_result play(struct client_reply *r, struct str in, size_t step, size_t *used_out)
{
	enum client_reply_result result = CLIENT_REPLY_NEED_MORE;
	size_t at = 0, have = 0;
	*r = (struct client_reply){ 0 };
	for (;;) {
		struct str line;
		size_t used;
		result = client_reply_next(r, str_sub(in, at, have), &line, &used);
		at += used;
		if (result == CLIENT_REPLY_LINE)
			continue;
		if (result != CLIENT_REPLY_NEED_MORE || have == in.n)
			break;
		have = have + step < in.n ? have + step : in.n;
	}
	*used_out = at;
	return result;
}

static void replies(void **state)
{
	static const size_t steps[] = { 100000, 1, 2, 7 };
	for (size_t i = 0; i < COUNT(rows); i++) {
		for (size_t k = 0; k < COUNT(steps); k++) {
			struct client_reply r;
			size_t used;
			assert_int_equal(play(&r, rows[i].in, steps[k], &used), rows[i].result);
			if (rows[i].result == CLIENT_REPLY_BAD)
				continue;
			assert_int_equal(r.code, rows[i].code);
			if (!rows[i].text)
				continue;
			assert_str(client_reply_enhanced(&r), str_z(rows[i].enhanced));
			assert_str(client_reply_text(&r), str_z(rows[i].text));
		}
	}
}

static void what_is_behind_is_left(void **state)
{
	struct client_reply r;
	size_t used;
	assert_int_equal(play(&r, STR("250-a\r\n250 b\r\n550 c\r\n"), 1000, &used), CLIENT_REPLY_LAST);
	assert_int_equal(used, 14);
}

static char big[600000];

/* `count` lines of `width` bytes each, the last one with a blank. */
static struct str lines(size_t count, size_t width)
{
	size_t n = 0;
	for (size_t i = 0; i < count && n + width <= sizeof big; i++, n += width) {
		memset(big + n, 'x', width);
		memcpy(big + n, i + 1 < count ? "250-" : "250 ", 4);
		memcpy(big + n + width - 2, "\r\n", 2);
	}
	return str_of(big, n);
}

static void bounds(void **state)
{
	struct client_reply r;
	size_t used;
	assert_int_equal(play(&r, lines(CLIENT_REPLY_LINES_MAX, 40), 16384, &used), CLIENT_REPLY_LAST);
	assert_int_equal(r.text_n, CLIENT_REPLY_TEXT_MAX);
	assert_int_equal(play(&r, lines(CLIENT_REPLY_LINES_MAX + 1, 40), 16384, &used), CLIENT_REPLY_BAD);
	assert_int_equal(play(&r, lines(100, 5000), 16384, &used), CLIENT_REPLY_BAD);
	assert_int_equal(play(&r, lines(500, 1000), 16384, &used), CLIENT_REPLY_BAD);
	assert_true(used <= CLIENT_REPLY_BYTES_MAX + CLIENT_REPLY_LINE_MAX);
	assert_int_equal(play(&r, lines(1, CLIENT_REPLY_LINE_MAX), 1, &used), CLIENT_REPLY_LAST);
	assert_int_equal(play(&r, lines(1, CLIENT_REPLY_LINE_MAX + 1), 1, &used), CLIENT_REPLY_BAD);
}

static void text_is_cut_at_a_character(void **state)
{
	struct client_reply r;
	size_t used, n = 0;
	memcpy(big, "250 x", 5);
	for (n = 5; n < 900; n += 2)
		memcpy(big + n, "\xc3\xa4", 2);
	memcpy(big + n, "\r\n", 2);
	assert_int_equal(play(&r, str_of(big, n + 2), 9000, &used), CLIENT_REPLY_LAST);
	assert_int_equal(r.text_n, CLIENT_REPLY_TEXT_MAX - 1);
	assert_true(str_is_utf8(client_reply_text(&r)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies),
		cmocka_unit_test(what_is_behind_is_left),
		cmocka_unit_test(bounds),
		cmocka_unit_test(text_is_cut_at_a_character),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
