/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and domains: RFC 5321 §4.1.2, §4.1.3, §4.5.3.1; RFC 6531; H26–H30. */
#include "smtp/address.h"

#include "base/test.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }
#define TEN "0123456789"
#define SIXTY TEN TEN TEN TEN TEN TEN

static struct mem *mem;
static struct arena arena;

static int set_up(void **state)
{
	mem = mem_new(0);
	arena = arena_make(mem, 1 << 20);
	return mem ? 0 : 1;
}

static int tear_down(void **state)
{
	arena_close(&arena);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
	return 0;
}

struct row {
	struct str in;
	enum path_fault fault; /* as a forward-path */
	struct str canonical;
};

static const struct row rows[] = {
	/* RFC 5321 §4.1.1.2, §4.1.1.3, appendix D */
	{ S("<Smith@bar.com>"), PATH_OK, S("Smith@bar.com") },
	{ S("<JONES@XYZ.COM>"), PATH_OK, S("JONES@xyz.com") },
	{ S("<@hosta.int,@jkl.org:userc@d.bar.org>"), PATH_OK, S("userc@d.bar.org") },
	{ S("<Postmaster>"), PATH_OK, S("Postmaster") },
	{ S("<postMASTER@a.example>"), PATH_OK, S("postMASTER@a.example") },
	{ S("<someone>"), PATH_SYNTAX, S("") },
	{ S("<>"), PATH_SYNTAX, S("") },
	/* local parts */
	{ S("<a.b!#$%&'*+-/=?^_`{|}~@x.example>"), PATH_OK, S("a.b!#$%&'*+-/=?^_`{|}~@x.example") },
	{ S("<\"a.b\"@x.example>"), PATH_OK, S("a.b@x.example") },
	{ S("<\"a b\"@x.example>"), PATH_OK, S("\"a b\"@x.example") },
	{ S("<\"a\\ \\b\"@x.example>"), PATH_OK, S("\"a b\"@x.example") },
	{ S("<\"\\\"\\\\\"@x.example>"), PATH_OK, S("\"\\\"\\\\\"@x.example") },
	{ S("<\"a@b>\"@c.example>"), PATH_OK, S("\"a@b>\"@c.example") },
	{ S("<\"Postmaster\">"), PATH_OK, S("Postmaster") },
	{ S("<\"\"@x.example>"), PATH_SYNTAX, S("") },
	{ S("<\"a@x.example>"), PATH_SYNTAX, S("") },
	{ S("<\"a\"b@x.example>"), PATH_SYNTAX, S("") },
	{ S("<\"a\tb\"@x.example>"), PATH_SYNTAX, S("") },
	{ S("<\"a\\\tb\"@x.example>"), PATH_SYNTAX, S("") },
	{ S("<\"a\\"), PATH_SYNTAX, S("") },
	{ S("<.a@x.example>"), PATH_SYNTAX, S("") },
	{ S("<a.@x.example>"), PATH_SYNTAX, S("") },
	{ S("<a..b@x.example>"), PATH_SYNTAX, S("") },
	{ S("<a b@x.example>"), PATH_SYNTAX, S("") },
	{ S("<a\0b@x.example>"), PATH_SYNTAX, S("") },
	{ S("<@x.example>"), PATH_SYNTAX, S("") },
	/* H26, H28 */
	{ S("<;sh;>"), PATH_SYNTAX, S("") },
	{ S("<|cmd@x.example>"), PATH_OK, S("|cmd@x.example") },
	{ S("<-oQ@x.example>"), PATH_OK, S("-oQ@x.example") },
	{ S("<a@-x.example>"), PATH_BAD_DOMAIN, S("") },
	{ S("<@a,@b:c@d>"), PATH_OK, S("c@d") },
	{ S("<@a,b:c@d>"), PATH_SYNTAX, S("") },
	{ S("<@a:@b:c@d>"), PATH_SYNTAX, S("") },
	{ S("<@a,:c@d>"), PATH_SYNTAX, S("") },
	{ S("<@a c@d>"), PATH_SYNTAX, S("") },
	{ S("<user%x@y>"), PATH_OK, S("user%x@y") },
	{ S("<x!y@z>"), PATH_OK, S("x!y@z") },
	{ S("<a@b@c>"), PATH_BAD_DOMAIN, S("") },
	{ S("<<a@b>>"), PATH_SYNTAX, S("") },
	{ S("< a@b>"), PATH_SYNTAX, S("") },
	{ S("<a@b >"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@b"), PATH_SYNTAX, S("") },
	{ S("a@b"), PATH_SYNTAX, S("") },
	{ S(""), PATH_SYNTAX, S("") },
	/* domains: H29 */
	{ S("<a@x>"), PATH_OK, S("a@x") },
	{ S("<a@x-y.1a.example>"), PATH_OK, S("a@x-y.1a.example") },
	{ S("<a@x.example.>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@.x.example>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@x..example>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@x_y.example>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@1.2.3.4>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@12345>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@" SIXTY "012.example>"), PATH_OK, S("a@" SIXTY "012.example") },
	{ S("<a@" SIXTY "0123.example>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[127.0.0.1]>"), PATH_OK, S("a@[127.0.0.1]") },
	{ S("<a@[127.0.0.01]>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[127.0.0.1]x>"), PATH_SYNTAX, S("") },
	{ S("<a@[IPv6:2001:DB8::0:1]>"), PATH_OK, S("a@[IPv6:2001:db8::1]") },
	{ S("<a@[2001:db8::1]>"), PATH_OK, S("a@[2001:db8::1]") }, /* a General-address-literal of tag 2001 */
	{ S("<a@[IPv6:fe80::1%eth0]>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[IPv6:1.2.3.4]>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[IPv6:::1>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[]>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[x-tag:text!]>"), PATH_OK, S("a@[x-tag:text!]") },
	{ S("<a@[x-tag:]>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@[x-tag:a b]>"), PATH_BAD_DOMAIN, S("") },
	/* sizes: RFC 5321 §4.5.3.1 */
	{ S("<" SIXTY "0123@x>"), PATH_OK, S(SIXTY "0123@x") },
	{ S("<" SIXTY "01234@x>"), PATH_LOCAL_TOO_LONG, S("") },
	{ S("<a@" SIXTY "." SIXTY "." SIXTY "." SIXTY ".012345.x>"), PATH_OK, S("a@" SIXTY "." SIXTY "." SIXTY "." SIXTY ".012345.x") },
	{ S("<a@" SIXTY "." SIXTY "." SIXTY "." SIXTY ".0123456.x>"), PATH_TOO_LONG, S("") },
	{ S("<a@" SIXTY "." SIXTY "." SIXTY "." SIXTY "." TEN ".x>"), PATH_DOMAIN_TOO_LONG, S("") },
	/* H30; the first three are the same address in NFC, NFD and with an A-label */
	{ S("<\xc3\xa4@b\xc3\xbc" "cher.example>"), PATH_OK, S("\xc3\xa4@xn--bcher-kva.example") },
	{ S("<a\xcc\x88@bu\xcc\x88" "cher.example>"), PATH_OK, S("\xc3\xa4@xn--bcher-kva.example") },
	{ S("<\xc3\xa4@XN--BCHER-KVA.example>"), PATH_OK, S("\xc3\xa4@xn--bcher-kva.example") },
	{ S("<\"\xc3\xa4 b\"@x>"), PATH_OK, S("\"\xc3\xa4 b\"@x") },
	{ S("<a@stra\xc3\x9f" "e.example>"), PATH_OK, S("a@xn--strae-oqa.example") },
	{ S("<\xc0\xaf@x>"), PATH_BAD_UTF8, S("") },
	{ S("<\xed\xa0\x80@x>"), PATH_BAD_UTF8, S("") },
	{ S("<\xf4\x90\x80\x80@x>"), PATH_BAD_UTF8, S("") },
	{ S("<\xc3@x>"), PATH_BAD_UTF8, S("") },
	{ S("<a\xe2\x80\xae@x>"), PATH_BAD_UTF8, S("") },
	{ S("<a\xc2\x85@x>"), PATH_BAD_UTF8, S("") },
	{ S("<a\xef\xbf\xbf@x>"), PATH_BAD_UTF8, S("") },
	{ S("<a@\xc3>"), PATH_BAD_UTF8, S("") },
	{ S("<a@ex\xef\xbc\xa0" "ample.org>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@ex\xe2\x80\x8b" "ample.org>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@ex\xc2\xad" "ample.org>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a@\xef\xbc\x91.2.3.4>"), PATH_BAD_DOMAIN, S("") },
	{ S("<a\xef\xbc\xa0" "b@x>"), PATH_OK, S("a\xef\xbc\xa0" "b@x") },
};

static void paths(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct path p;
		struct str rest;
		enum path_fault f = path_parse(rows[i].in, PATH_FORWARD, &arena, &p, &rest);
		if (f != rows[i].fault)
			print_message("%.*s: %d\n", STR_ARG(rows[i].in), f);
		assert_int_equal(f, rows[i].fault);
		if (f != PATH_OK)
			continue;
		assert_str(p.canonical, rows[i].canonical);
		assert_int_equal(p.local.n + (p.domain.n ? p.domain.n + 1 : 0), p.canonical.n);
		assert_int_equal(p.non_ascii, str_has_8bit(rows[i].in));
		assert_int_equal(rest.n, 0);
	}
}

static void reverse_paths(void **state)
{
	struct path p;
	struct str rest;
	assert_int_equal(path_parse(STR("<> SIZE=1"), PATH_REVERSE, &arena, &p, &rest), PATH_OK);
	assert_true(p.is_null && p.canonical.n == 0);
	assert_str(rest, STR(" SIZE=1"));
	assert_int_equal(path_parse(STR("<postmaster>"), PATH_REVERSE, &arena, &p, &rest), PATH_SYNTAX);
	/* VERP and the like: RFC 5321 §4.5.3.1 "techniques that impose no limits" are preferred */
	assert_int_equal(path_parse(STR("<" SIXTY SIXTY SIXTY "@x.example>"), PATH_REVERSE, &arena, &p, &rest), PATH_OK);
	assert_str(p.text, STR(SIXTY SIXTY SIXTY "@x.example"));
	assert_int_equal(path_parse(STR("<" SIXTY SIXTY SIXTY SIXTY TEN "@x.example>"), PATH_REVERSE, &arena, &p, &rest),
			 PATH_TOO_LONG);
}

static void addresses(void **state)
{
	struct str out;
	assert_int_equal(smtp_address_canonical(STR("Ann@EXAMPLE.org"), &arena, &out), ERR_NONE);
	assert_str(out, STR("Ann@example.org"));
	assert_int_equal(smtp_address_canonical(STR("\"a\"@b\xc3\xbc" "cher.example"), &arena, &out), ERR_NONE);
	assert_str(out, STR("a@xn--bcher-kva.example"));
	static const struct str bad[] = { S(""), S("ann"), S("postmaster"), S("@x"), S("a@"), S("a@b c"), S("<a@b>"), S("a@b>") };
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(smtp_address_canonical(bad[i], &arena, &out), ERR_SYNTAX);
}

/* H19: RFC 5321 §4.1.1.1 */
static void helo(void **state)
{
	static const struct {
		struct str in;
		bool good;
		struct str name;
	} names[] = {
		{ S("mail.example.net"), true, S("mail.example.net") },
		{ S("  x  "), true, S("x") },
		{ S("WIN-1_a.local."), true, S("WIN-1_a.local.") },
		{ S("192.0.2.1"), true, S("192.0.2.1") },
		{ S("[192.0.2.1]"), true, S("[192.0.2.1]") },
		{ S("[192.0.2.1] some text"), true, S("[192.0.2.1]") },
		{ S("[IPv6:2001:db8::1]"), true, S("[IPv6:2001:db8::1]") },
		{ S(""), false, S("") },
		{ S("a b"), false, S("") },
		{ S(".a"), false, S("") },
		{ S("a..b"), false, S("") },
		{ S("x;dmarc=pass"), false, S("") },
		{ S("x(y)"), false, S("") },
		{ S("x\0y"), false, S("") },
		{ S("x\x7f"), false, S("") },
		{ S("x\xc3\xa4"), false, S("") },
		{ S("[x"), false, S("") },
		{ S("[]"), false, S("") },
		{ S("[1.2.3]"), false, S("") },
		{ S("[tag:x;dmarc=pass]"), false, S("") },
	};
	for (size_t i = 0; i < COUNT(names); i++) {
		struct str name;
		bool good = smtp_helo_parse(names[i].in, &name) == ERR_NONE;
		if (good != names[i].good)
			print_message("%.*s\n", STR_ARG(names[i].in));
		assert_int_equal(good, names[i].good);
		if (good)
			assert_str(name, names[i].name);
	}
	static char longest[65536];
	memset(longest, 'a', sizeof longest);
	struct str name;
	assert_int_equal(smtp_helo_parse(str_of(longest, 255), &name), ERR_NONE);
	assert_int_equal(smtp_helo_parse(str_of(longest, 256), &name), ERR_SYNTAX);
	assert_int_equal(smtp_helo_parse(str_of(longest, sizeof longest), &name), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(paths, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reverse_paths, set_up, tear_down),
		cmocka_unit_test_setup_teardown(addresses, set_up, tear_down),
		cmocka_unit_test(helo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
