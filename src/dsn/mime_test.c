/* SPDX-License-Identifier: Apache-2.0 */
/* Quoted-printable, encoded words, folding: worked examples by the RFCs' rules. */
#include "dsn/mime.h"

#include "base/test.h"

static char room[4096];

static struct buf fresh(void)
{
	return buf_fixed(room, sizeof room);
}

/* RFC 2045 §6.7 */
static void quoted_printable(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{ "", "" },
		{ "plain\r\n", "plain\r\n" },
		{ "no end", "no end\r\n" },
		{ "a=b\r\n", "a=3Db\r\n" },
		{ "\xc3\xa4", "=C3=A4\r\n" },
		{ "blank \r\nend\t", "blank=20\r\nend=09\r\n" },
		{ " in the\tmiddle\r\n", " in the\tmiddle\r\n" },
		{ "bare\rand\nbare", "bare=0Dand=0Abare\r\n" },
		{ "\x01\x7f", "=01=7F\r\n" },
		{ "\r\n\r\n", "\r\n\r\n" },
	};
	for (size_t i = 0; i < COUNT(table); i++) {
		struct buf b = fresh();
		mime_add_quoted_printable(&b, str_z(table[i].in));
		assert_str(buf_str(&b), str_z(table[i].out));
	}
	/* (5): lines of at most 76, the soft break's "=" counted */
	char line[300];
	memset(line, 'x', sizeof line);
	struct buf b = fresh();
	mime_add_quoted_printable(&b, str_of(line, sizeof line));
	struct str rest = buf_str(&b);
	for (size_t i = 0; i < 4; i++) {
		struct str one = str_split(rest, '\n', &rest);
		assert_int_equal(one.n, i < 3 ? 77 : 76); /* with its CR; the last has no "=" */
	}
	assert_int_equal(rest.n, 0);
}

static void encoded_words(void **state)
{
	struct buf b = fresh();
	mime_add_field_encoded(&b, STR("Subject"), STR("plain stays"));
	assert_str(buf_str(&b), STR("Subject: plain stays\r\n"));
	b = fresh();
	mime_add_field_encoded(&b, STR("S"), STR("\xc3\xa4 _=?\xe2\x82\xac"));
	assert_str(buf_str(&b), STR("S: =?utf-8?q?=C3=A4_=5F=3D=3F=E2=82=AC?=\r\n"));
	/* RFC 2047 §5: no character is split, §2: 75 at most */
	char long_one[200];
	for (size_t i = 0; i + 2 < sizeof long_one; i += 3)
		memcpy(long_one + i, "\xe2\x82\xac", 3);
	b = fresh();
	mime_add_field_encoded(&b, STR("S"), str_of(long_one, 198));
	size_t characters = 0;
	for (struct str rest = buf_str(&b); rest.n > 0;) {
		struct str line = str_split(rest, '\n', &rest);
		line = str_sub(line, str_find(line, ' ') + 1, line.n - 1);
		assert_true(line.n <= 75 && str_starts(line, STR("=?utf-8?q?")) &&
			    str_ends(line, STR("?=")));
		assert_int_equal((line.n - 12) % 9, 0);
		characters += (line.n - 12) / 9;
	}
	assert_int_equal(characters, 66);
}

static void cleans(void **state)
{
	static const struct {
		const char *in;
		enum mime_charset charset;
		const char *out;
	} table[] = {
		{ "  a \t\r\n b  ", MIME_ASCII, "a b" },
		{ "a\x1b[0m\x7f"
		  "b",
		  MIME_ASCII, "a [0m b" },
		{ "\xc3\xa4", MIME_ASCII, "?" },
		{ "\xc3\xa4", MIME_UTF8, "\xc3\xa4" },
		{ "\xc3", MIME_UTF8, "?" },
		{ "\xc2\x85x\xe2\x80\xa8y\xe2\x80\xaez\xef\xbb\xbf", MIME_UTF8, "?x?y?z?" },
		{ "0123456789abc", MIME_ASCII, "0123456789" },
		{ "01234567 9abc", MIME_ASCII, "01234567 9" },
		{ "012345678\xc3\xa4", MIME_UTF8, "012345678" },
	};
	for (size_t i = 0; i < COUNT(table); i++) {
		struct buf b = fresh();
		mime_add_clean(&b, str_z(table[i].in), table[i].charset, 10);
		assert_str(buf_str(&b), str_z(table[i].out));
	}
	struct buf b = fresh();
	mime_add_address(&b, STR("\"a  b\r\n\"@c"), MIME_ASCII);
	assert_str(buf_str(&b), STR("\"a  b \"@c"));
}

/* Folding only adds CRLF before blanks that are there (RFC 5322 §2.2.3). */
static void folds(void **state)
{
	char value[800];
	for (size_t i = 0; i < sizeof value; i++)
		value[i] = i % 13 == 12 || i % 13 == 5 || i % 13 == 4 ? ' ' : 'v';
	struct buf b = fresh();
	mime_add_field(&b, STR("Name"), str_of(value, sizeof value));
	size_t n = 0;
	char got[900];
	for (struct str rest = buf_str(&b); rest.n > 0;) {
		struct str line = str_split(rest, '\n', &rest);
		assert_true(line.n <= 77 && line.p[line.n - 1] == '\r');
		assert_true(n == 0 || line.p[0] == ' ');
		memcpy(got + n, line.p, line.n - 1);
		n += line.n - 1;
	}
	assert_str(str_of(got, 6), STR("Name: "));
	assert_str(str_of(got + 6, n - 6), str_trim(str_of(value, sizeof value)));
	b = fresh();
	mime_add_field(&b, STR("Empty"), STR(""));
	assert_str(buf_str(&b), STR("Empty:\r\n"));
}

static void looks(void **state)
{
	assert_false(mime_look(STR("a\r\nb")).bad);
	assert_true(mime_look(STR("a\nb")).bad && mime_look(STR("a\rb")).bad);
	assert_true(mime_look(STR("a\r")).bad && mime_look(STR("a\0b")).bad);
	assert_true(mime_look(STR("\xe4")).eight_bit && !mime_look(STR("\x7f")).eight_bit);
	memset(room, 'x', sizeof room);
	assert_false(mime_look(str_of(room, 998)).bad);
	assert_true(mime_look(str_of(room, 999)).bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quoted_printable),
		cmocka_unit_test(encoded_words),
		cmocka_unit_test(cleans),
		cmocka_unit_test(folds),
		cmocka_unit_test(looks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
