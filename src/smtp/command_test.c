/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines (RFC 5321 §2.3.8, §2.4; H1, H5, H6), parameters and xtext (H31–H34). */
#include "smtp/command.h"

#include "base/test.h"
#include "smtp/params.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }

/* All lines of s as text: "W:" whole, "B" bad, "L" too long, "E" endless, "+" more is needed. */
static void lines(struct str s, struct buf *b)
{
	struct line_reader r = { 0 };
	for (;;) {
		struct str line;
		size_t used;
		enum line_result result = line_next(&r, s, &line, &used);
		s = str_sub(s, used, s.n);
		buf_add_char(b, "+WBLE"[result]);
		buf_add(b, line);
		buf_add_char(b, ' ');
		if (result == LINE_NEED_MORE || result == LINE_ENDLESS)
			return;
	}
}

static void line_ends(void **state)
{
	static const struct {
		struct str in;
		const char *out;
	} rows[] = {
		{ S(""), "+ " },
		{ S("NOOP"), "+ " },
		{ S("NOOP\r"), "+ " },
		{ S("NOOP\r\n"), "WNOOP + " },
		{ S("\r\n"), "W + " },
		{ S("A\r\nB\r\n"), "WA WB + " },
		{ S("A\nB\r\nC\r\n"), "B B WC + " },
		{ S("A\nB\nC\r\nD\r\n"), "B B B WD + " },
		{ S("A\rB\r\nC\r\n"), "B WC + " },
		{ S("A\r\r\nC\r\n"), "B WC + " },
		{ S("\nC\r\nD\r\n"), "B B WD + " },
		{ S("A\0B\r\nC\r\n"), "B WC + " },
		{ S("\n\r\nD\r\n"), "B B WD + " },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[100];
		struct buf b = buf_fixed(room, sizeof room);
		lines(rows[i].in, &b);
		assert_str(buf_str(&b), str_z(rows[i].out));
	}
}

static void line_lengths(void **state)
{
	static char text[200000];
	char room[5000];
	struct buf b = buf_fixed(room, sizeof room);
	memset(text, 'x', sizeof text);
	memcpy(text + COMMAND_LINE_MAX - 2, "\r\n", 2);
	lines(str_of(text, COMMAND_LINE_MAX), &b);
	assert_int_equal(b.n, COMMAND_LINE_MAX - 2 + 4); /* whole */
	buf_clear(&b);
	memcpy(text + COMMAND_LINE_MAX - 2, "x\r\nN\r\n", 6);
	lines(str_of(text, COMMAND_LINE_MAX + 4), &b);
	assert_str(buf_str(&b), STR("L WN + "));
	buf_clear(&b);
	memset(text, 'x', sizeof text);
	lines(str_of(text, 16384), &b);
	assert_str(buf_str(&b), STR("L + "));
	buf_clear(&b);
	lines(str_of(text, sizeof text), &b);
	assert_str(buf_str(&b), STR("E "));
}

static void verbs(void **state)
{
	static const struct {
		struct str in;
		enum verb verb;
		struct str args;
	} rows[] = {
		{ S("QUIT"), VERB_QUIT, S("") },	  { S("quit "), VERB_QUIT, S("") },
		{ S("Ehlo  x"), VERB_EHLO, S("x") },	  { S("EHLO\tx"), VERB_UNKNOWN, S("") },
		{ S("MAIL FROM:<>"), VERB_MAIL, S("FROM:<>") }, { S("MAILFROM:<>"), VERB_UNKNOWN, S("") },
		{ S(""), VERB_UNKNOWN, S("") },		  { S(" QUIT"), VERB_UNKNOWN, S("QUIT") },
		{ S("QUITE"), VERB_UNKNOWN, S("") },	  { S("BDAT 5  LAST "), VERB_BDAT, S("5  LAST") },
		{ S("etrn x"), VERB_ETRN, S("x") },	  { S("STARTTLS"), VERB_STARTTLS, S("") },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct command c = command_parse(rows[i].in);
		assert_int_equal(c.verb, rows[i].verb);
		if (c.verb != VERB_UNKNOWN)
			assert_str(c.args, rows[i].args);
	}
	for (unsigned v = 1; v < VERB_COUNT; v++)
		assert_int_equal(command_parse(verb_name((enum verb)v)).verb, v);
}

/* H18 */
static void foreign(void **state)
{
	assert_true(command_is_foreign(STR("GET / HTTP/1.1\r\n")));
	assert_true(command_is_foreign(STR("\x16\x03\x01\x02")));
	assert_true(command_is_foreign(STR("SSH-2.0-x\r\n")));
	assert_true(command_is_foreign(STR("PRI * HTTP/2.0\r\n")));
	assert_false(command_is_foreign(STR("")));
	assert_false(command_is_foreign(STR("EHLO x\r\n")));
	assert_false(command_is_foreign(STR("HELP\r\n")));
}

static void parameters(void **state)
{
	static const struct {
		struct str in;
		size_t n; /* 99: refused */
	} rows[] = {
		{ S(""), 0 },		 { S(" "), 0 },		  { S(" SIZE=1"), 1 },	  { S(" A B=c  D "), 3 },
		{ S(" A-1=x"), 1 },	 { S(" -A=x"), 99 },	  { S(" A="), 99 },	  { S(" =x"), 99 },
		{ S(" A=b=c"), 99 },	 { S("A"), 99 },	  { S(" A=\x7f"), 99 },	  { S(" A=\tx"), 99 },
		{ S(" A_B=x"), 99 },	 { S(" A a"), 99 },	  { S(" A=\xc3\xa4"), 1 }, { S(" A=\xc3"), 99 },
		{ S(" A=\"x"), 1 },
		{ S(" A B C D E F G H I J K L M N O P"), 16 },
		{ S(" A B C D E F G H I J K L M N O P Q"), 99 },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct params ps;
		enum err e = params_parse(rows[i].in, &ps);
		assert_int_equal(e == ERR_NONE ? ps.n : 99, rows[i].n);
	}
}

/* RFC 3461 §4; H31 */
static void xtext(void **state)
{
	static const struct {
		struct str in;
		bool good;
		struct str out;
	} rows[] = {
		{ S("abc"), true, S("abc") },	{ S("a+2Bb+3D"), true, S("a+b=") },
		{ S("+0D+0A"), true, S("\r\n") }, { S("+00"), true, S("\0") },
		{ S("+ZZ"), false, S("") },	{ S("+2b"), false, S("") },
		{ S("+2"), false, S("") },	{ S("+"), false, S("") },
		{ S("a=b"), false, S("") },	{ S("a b"), false, S("") },
		{ S("\xc3\xa4"), false, S("") },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[16];
		struct buf b = buf_fixed(room, sizeof room);
		enum err e = xtext_decode(rows[i].in, &b);
		assert_int_equal(e == ERR_NONE, rows[i].good);
		if (e == ERR_NONE)
			assert_str(buf_str(&b), rows[i].out);
	}
	char small[2];
	struct buf b = buf_fixed(small, sizeof small);
	assert_int_equal(xtext_decode(STR("abc"), &b), ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(line_ends), cmocka_unit_test(line_lengths), cmocka_unit_test(verbs),
		cmocka_unit_test(foreign),   cmocka_unit_test(parameters),   cmocka_unit_test(xtext),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
