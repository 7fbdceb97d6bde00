/* SPDX-License-Identifier: Apache-2.0 */
/* str: each operation at its edges; UTF-8 by RFC 3629; and that nothing reads outside its view. */
#include "base/str.h"

#include <stdlib.h>

#include "base/test.h"

static void compares(void **state)
{
	static const struct {
		struct str a, b;
		bool eq, eq_nocase;
		int cmp;
	} rows[] = {
		{ STR(""), STR_NONE, true, true, 0 },
		{ STR("abc"), STR("abc"), true, true, 0 },
		{ STR("abc"), STR("aBC"), false, true, 1 },
		{ STR("abc"), STR("abcd"), false, false, -1 },
		{ STR("a\0b"), STR("a\0c"), false, false, -1 },
		{ STR("\xe4"), STR("a"), false, false, 1 },
		{ STR("\xc4"), STR("\xe4"), false, false, -1 }, /* only ASCII has a case */
		{ STR("["), STR("{"), false, false, -1 },
		{ STR("@"), STR("`"), false, false, -1 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		int cmp = str_cmp(rows[i].a, rows[i].b);

		assert_int_equal(str_eq(rows[i].a, rows[i].b), rows[i].eq);
		assert_int_equal(str_eq_nocase(rows[i].a, rows[i].b), rows[i].eq_nocase);
		assert_int_equal((cmp > 0) - (cmp < 0), rows[i].cmp);
		cmp = str_cmp(rows[i].b, rows[i].a);
		assert_int_equal((cmp > 0) - (cmp < 0), -rows[i].cmp);
	}
}

static void starts_and_ends(void **state)
{
	struct str s = STR("MAIL FROM:");

	assert_true(str_starts(s, STR("MAIL")));
	assert_false(str_starts(s, STR("mail")));
	assert_true(str_starts_nocase(s, STR("mail")));
	assert_true(str_starts(s, STR_NONE));
	assert_false(str_starts(STR("MA"), STR("MAIL")));
	assert_true(str_ends(s, STR("ROM:")));
	assert_false(str_ends(s, STR("rom:")));
	assert_true(str_ends_nocase(s, STR("rom:")));
	assert_true(str_ends(STR_NONE, STR("")));
	assert_false(str_ends_nocase(STR(":"), STR("rom:")));
}

static void finds(void **state)
{
	struct str s = STR("a.b.c");

	assert_int_equal(str_find(s, '.'), 1);
	assert_int_equal(str_rfind(s, '.'), 3);
	assert_int_equal(str_find(s, 'x'), 5);
	assert_int_equal(str_rfind(s, 'x'), 5);
	assert_int_equal(str_find(STR_NONE, 'x'), 0);
	assert_int_equal(str_rfind(STR_NONE, 'x'), 0);
	assert_int_equal(str_find(STR("a\0b"), '\0'), 1);
	assert_int_equal(str_find_str(s, STR("b.c")), 2);
	assert_int_equal(str_find_str(s, STR("b.d")), 5);
	assert_int_equal(str_find_str(s, STR("")), 0);
	assert_int_equal(str_find_str(s, STR("a.b.c.d")), 5);
	assert_int_equal(str_find_str(STR_NONE, STR("a")), 0);
}

static void cuts(void **state)
{
	struct str rest;

	assert_str(str_sub(STR("abcdef"), 2, 4), STR("cd"));
	assert_str(str_sub(STR("abcdef"), 4, 99), STR("ef"));
	assert_str(str_sub(STR("abcdef"), 99, 99), STR(""));
	assert_str(str_sub(STR("abcdef"), 4, 2), STR(""));
	assert_str(str_sub(STR_NONE, 1, 2), STR(""));
	assert_str(str_trim(STR(" \t a b\t ")), STR("a b"));
	assert_str(str_trim(STR(" \t ")), STR(""));
	assert_str(str_trim(STR("\r\n")), STR("\r\n"));
	assert_str(str_split(STR("a=b=c"), '=', &rest), STR("a"));
	assert_str(rest, STR("b=c"));
	assert_str(str_split(STR("abc"), '=', &rest), STR("abc"));
	assert_str(rest, STR(""));
	assert_str(str_split(STR("abc="), '=', &rest), STR("abc"));
	assert_str(rest, STR(""));
	assert_str(str_z(NULL), STR(""));
	assert_str(str_z("xyz"), STR("xyz"));
}

static void numbers(void **state)
{
	static const struct {
		struct str text;
		uint64_t max;
		enum err err;
		uint64_t value;
	} rows[] = {
		{ STR("0"), 10, ERR_NONE, 0 },
		{ STR("007"), 10, ERR_NONE, 7 },
		{ STR("10"), 10, ERR_NONE, 10 },
		{ STR("11"), 10, ERR_LIMIT, 0 },
		{ STR("18446744073709551615"), UINT64_MAX, ERR_NONE, UINT64_MAX },
		{ STR("18446744073709551616"), UINT64_MAX, ERR_LIMIT, 0 },
		{ STR("99999999999999999999999999"), UINT64_MAX, ERR_LIMIT, 0 },
		{ STR("99999999999999999999999999x"), UINT64_MAX, ERR_SYNTAX, 0 },
		{ STR(""), 10, ERR_SYNTAX, 0 },
		{ STR_NONE, 10, ERR_SYNTAX, 0 },
		{ STR("+1"), 10, ERR_SYNTAX, 0 },
		{ STR("-1"), 10, ERR_SYNTAX, 0 },
		{ STR(" 1"), 10, ERR_SYNTAX, 0 },
		{ STR("1\0"), 10, ERR_SYNTAX, 0 },
		{ STR("0x1"), 10, ERR_SYNTAX, 0 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t v = 0;

		assert_int_equal(str_to_u64(rows[i].text, rows[i].max, &v), rows[i].err);
		assert_int_equal(v, rows[i].value);
	}
}

static void classes(void **state)
{
	assert_true(str_is_printable_ascii(STR_NONE));
	for (int c = 0; c < 256; c++) {
		char text[20];

		memset(text, 'a', sizeof text);
		text[c % 20] = (char)c;

		struct str s = str_of(text, sizeof text);

		assert_int_equal(str_is_printable_ascii(s), c >= 0x20 && c <= 0x7e);
		assert_int_equal(str_has_8bit(s), c >= 0x80);
		assert_int_equal(str_has_control(s), c < 0x20 || c == 0x7f);
	}
}

/* RFC 3629 §3, §4, §10 */
static void utf8(void **state)
{
	static const struct {
		struct str text;
		bool ok;
	} rows[] = {
		{ STR_NONE, true },
		{ STR("a\0b"), true },
		{ STR("\x7f"), true },
		{ STR("\xc2\x80"), true },
		{ STR("\xdf\xbf"), true },
		{ STR("\xe0\xa0\x80"), true },
		{ STR("\xed\x9f\xbf"), true },
		{ STR("\xee\x80\x80"), true },
		{ STR("\xef\xbf\xbf"), true },
		{ STR("\xf0\x90\x80\x80"), true },
		{ STR("\xf4\x8f\xbf\xbf"), true },
		{ STR("12345678\xc3\xa4"
		      "1234567\xe2\x82\xac"),
		  true },
		{ STR("\x80"), false }, /* a tail alone */
		{ STR("\xbf"
		      "12345678"),
		  false },
		{ STR("\xc0\x80"), false }, /* overlong NUL */
		{ STR("\xc0\xaf"), false }, /* overlong '/' */
		{ STR("\xc1\xbf"), false },
		{ STR("\xe0\x80\xaf"), false },
		{ STR("\xe0\x9f\xbf"), false },
		{ STR("\xf0\x80\x80\xaf"), false },
		{ STR("\xf0\x8f\xbf\xbf"), false },
		{ STR("\xed\xa0\x80"), false }, /* surrogates */
		{ STR("\xed\xbf\xbf"), false },
		{ STR("\xf4\x90\x80\x80"), false }, /* above U+10FFFF */
		{ STR("\xf5\x80\x80\x80"), false },
		{ STR("\xf8\x88\x80\x80\x80"), false }, /* five bytes */
		{ STR("\xfe"), false },
		{ STR("\xff"), false },
		{ STR("\xc3"), false }, /* cut short */
		{ STR("\xe2\x82"), false },
		{ STR("\xf0\x9f\x98"), false },
		{ STR("\xe2\x82"
		      "a"),
		  false },
		{ STR("\xc3\xc3\xa4"), false },
		{ STR("1234567\xc3"
		      "2"),
		  false },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(str_is_utf8(rows[i].text), rows[i].ok);
	assert_int_equal(str_utf8_first(STR_NONE), 0);
	assert_int_equal(str_utf8_first(STR("a\xff")), 1);
	assert_int_equal(str_utf8_first(STR("\xe2\x82\xac\xff")), 3);
	assert_int_equal(str_utf8_first(STR("\xe2\x82\xff")), 0);
}

/* Every code point, surrogates apart, is well-formed in its shortest form. */
static void utf8_all(void **state)
{
	for (unsigned c = 0x80; c <= 0x10ffff; c++) {
		char t[4] = { (char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 0x3f)),
			      (char)(0x80 | (c >> 6 & 0x3f)), (char)(0x80 | (c & 0x3f)) };
		size_t from = c < 0x800 ? 2 : c < 0x10000 ? 1 : 0;

		if (from == 2)
			t[2] = (char)(0xc0 | c >> 6);
		else if (from == 1)
			t[1] = (char)(0xe0 | c >> 12);
		assert_int_equal(str_is_utf8(str_of(t + from, 4 - from)), c < 0xd800 || c > 0xdfff);
	}
}

/* With the view at the end of a block, where a sanitizer or valgrind sees one byte too many. */
static void reads_only_its_view(void **state)
{
	for (size_t n = 0; n < 20; n++) {
		char *p = malloc(n + 1);
		struct str s = str_of(p + 1, n), rest;
		uint64_t v;

		assert_non_null(p);
		memset(p, '1', n + 1);
		assert_true(str_is_utf8(s) && !str_has_8bit(s) && !str_has_control(s));
		assert_int_equal(str_find(s, 'x'), n);
		assert_int_equal(str_rfind(s, 'x'), n);
		assert_int_equal(str_find_str(s, STR("1x")), n);
		assert_int_equal(str_trim(s).n, n);
		assert_int_equal(str_split(s, 'x', &rest).n, n);
		assert_int_equal(str_to_u64(s, UINT64_MAX, &v), n ? ERR_NONE : ERR_SYNTAX);
		if (n) {
			p[n] = (char)0xf0;
			assert_false(str_is_utf8(s));
		}
		free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares),
		cmocka_unit_test(starts_and_ends),
		cmocka_unit_test(finds),
		cmocka_unit_test(cuts),
		cmocka_unit_test(numbers),
		cmocka_unit_test(classes),
		cmocka_unit_test(utf8),
		cmocka_unit_test(utf8_all),
		cmocka_unit_test(reads_only_its_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
