/* SPDX-License-Identifier: Apache-2.0 */
/* ip: what is an address and what only looks like one; the text of RFC 5952; networks. */
#include "base/ip.h"

#include "base/test.h"

static struct str text_of(struct buf *b, void (*add)(struct buf *, const struct ip *),
			  const struct ip *ip)
{
	buf_clear(b);
	add(b, ip);
	return buf_str(b);
}

static void addresses(void **state)
{
	static const struct {
		struct str in, out; /* out.n == 0: no address */
	} rows[] = {
		{ STR("192.0.2.1"), STR("192.0.2.1") },
		{ STR("0.0.0.0"), STR("0.0.0.0") },
		{ STR("255.255.255.255"), STR("255.255.255.255") },
		{ STR("256.0.0.1"), STR("") },
		{ STR("1.2.3"), STR("") },
		{ STR("1.2.3.4.5"), STR("") },
		{ STR("1.2.3."), STR("") },
		{ STR(".1.2.3"), STR("") },
		{ STR("01.2.3.4"), STR("") },
		{ STR("0x1.2.3.4"), STR("") },
		{ STR("1.2.3.4 "), STR("") },
		{ STR("1.2.3.4\0"), STR("") },
		{ STR("16909060"), STR("") },
		{ STR(""), STR("") },
		{ STR("::"), STR("::") },
		{ STR("::1"), STR("::1") },
		{ STR("1::"), STR("1::") },
		{ STR("2001:DB8::a"), STR("2001:db8::a") },
		{ STR("2001:db8:0:0:1:0:0:1"), STR("2001:db8::1:0:0:1") },
		{ STR("2001:0db8:0000:0000:0000:0000:0000:0001"), STR("2001:db8::1") },
		{ STR("2001:db8:0:1:1:1:1:1"), STR("2001:db8:0:1:1:1:1:1") },
		{ STR("1:0:0:2:0:0:0:3"), STR("1:0:0:2::3") },
		{ STR("0:0:0:0:0:0:0:1"), STR("::1") },
		{ STR("1:2:3:4:5:6:7:8"), STR("1:2:3:4:5:6:7:8") },
		{ STR("1:2:3:4:5:6:7::"), STR("1:2:3:4:5:6:7:0") },
		{ STR("::ffff:192.0.2.1"), STR("192.0.2.1") },
		{ STR("::FFFF:c000:201"), STR("192.0.2.1") },
		{ STR("64:ff9b::192.0.2.33"), STR("64:ff9b::c000:221") },
		{ STR("1:2:3:4:5:6:1.2.3.4"), STR("1:2:3:4:5:6:102:304") },
		{ STR("1:2:3:4:5:6:7:1.2.3.4"), STR("") },
		{ STR("::1.2.3.4:1"), STR("") },
		{ STR("1.2.3.4::"), STR("") },
		{ STR(":"), STR("") },
		{ STR(":::"), STR("") },
		{ STR(":1"), STR("") },
		{ STR("1:"), STR("") },
		{ STR("1::2::3"), STR("") },
		{ STR("1:::2"), STR("") },
		{ STR("1:2:3:4:5:6:7"), STR("") },
		{ STR("1:2:3:4:5:6:7:8:9"), STR("") },
		{ STR("1:2:3:4:5:6:7:8::"), STR("") },
		{ STR("::1:2:3:4:5:6:7:8"), STR("") },
		{ STR("12345::"), STR("") },
		{ STR("::g"), STR("") },
		{ STR("fe80::1%eth0"), STR("") },
		{ STR("[::1]"), STR("") },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[IP_TEXT_MAX];
		struct buf b = buf_fixed(room, sizeof room);
		struct ip ip, again;
		enum err e = ip_parse(rows[i].in, &ip);

		assert_int_equal(e, rows[i].out.n ? ERR_NONE : ERR_SYNTAX);
		if (e)
			continue;
		assert_str(text_of(&b, ip_add, &ip), rows[i].out);
		assert_int_equal(ip_parse(buf_str(&b), &again), ERR_NONE);
		assert_true(ip_eq(&ip, &again));
		assert_int_equal(ip.port, 0);
		assert_int_equal(ip.bits, ip.family == IP_V4 ? 32 : 128);
	}
}

static void prefixes(void **state)
{
	static const struct {
		struct str net, ip;
		int in; /* -1: no network */
	} rows[] = {
		{ STR("192.0.2.0/24"), STR("192.0.2.255"), 1 },
		{ STR("192.0.2.0/24"), STR("192.0.3.0"), 0 },
		{ STR("192.0.2.128/25"), STR("192.0.2.127"), 0 },
		{ STR("192.0.2.128/25"), STR("192.0.2.128"), 1 },
		{ STR("0.0.0.0/0"), STR("203.0.113.7"), 1 },
		{ STR("0.0.0.0/0"), STR("2001:db8::1"), 0 },
		{ STR("::/0"), STR("192.0.2.1"), 0 },
		{ STR("192.0.2.1"), STR("192.0.2.1"), 1 },
		{ STR("192.0.2.1"), STR("192.0.2.2"), 0 },
		{ STR("192.0.2.1/32"), STR("::ffff:192.0.2.1"), 1 },
		{ STR("2001:db8::/33"), STR("2001:db8:7fff::"), 1 },
		{ STR("2001:db8::/33"), STR("2001:db8:8000::"), 0 },
		{ STR("::1/128"), STR("::1"), 1 },
		{ STR("::ffff:192.0.2.0/120"), STR("192.0.2.9"), 1 },
		{ STR("::ffff:0:0/96"), STR("192.0.2.9"), 1 },
		{ STR("::ffff:0:0/95"), STR("192.0.2.9"), -1 },
		{ STR("192.0.2.1/24"), STR("192.0.2.1"), -1 },
		{ STR("192.0.2.0/33"), STR("192.0.2.1"), -1 },
		{ STR("2001:db8::/129"), STR("192.0.2.1"), -1 },
		{ STR("2001:db8::1/64"), STR("192.0.2.1"), -1 },
		{ STR("192.0.2.0/"), STR("192.0.2.1"), -1 },
		{ STR("192.0.2.0/024"), STR("192.0.2.1"), -1 },
		{ STR("192.0.2.0/24/24"), STR("192.0.2.1"), -1 },
		{ STR("192.0.2/24"), STR("192.0.2.1"), -1 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ip net, ip;
		enum err e = ip_parse_prefix(rows[i].net, &net);

		assert_int_equal(ip_parse(rows[i].ip, &ip), ERR_NONE);
		assert_int_equal(e, rows[i].in < 0 ? ERR_SYNTAX : ERR_NONE);
		if (!e)
			assert_int_equal(ip_in(&ip, &net), rows[i].in);
	}
}

static void ports(void **state)
{
	static const struct {
		struct str in, out;
	} rows[] = {
		{ STR("127.0.0.1:25"), STR("127.0.0.1:25") },
		{ STR("[::1]:65535"), STR("[::1]:65535") },
		{ STR("[::ffff:127.0.0.1]:25"), STR("127.0.0.1:25") },
		{ STR("*:25"), STR("*:25") },
		{ STR(":25"), STR("*:25") },
		{ STR("::1:25"), STR("") },
		{ STR("[::1]"), STR("") },
		{ STR("[::1]25"), STR("") },
		{ STR("[127.0.0.1]:25"), STR("") },
		{ STR("[]:25"), STR("") },
		{ STR("[:25"), STR("") },
		{ STR("127.0.0.1"), STR("") },
		{ STR("127.0.0.1:"), STR("") },
		{ STR("127.0.0.1:65536"), STR("") },
		{ STR("127.0.0.1:-1"), STR("") },
		{ STR("localhost:25"), STR("") },
		{ STR(""), STR("") },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[IP_TEXT_MAX];
		struct buf b = buf_fixed(room, sizeof room);
		struct ip ip;
		enum err e = ip_parse_port(rows[i].in, &ip);

		assert_int_equal(e, rows[i].out.n ? ERR_NONE : ERR_SYNTAX);
		if (!e)
			assert_str(text_of(&b, ip_add_port, &ip), rows[i].out);
	}
}

/* RFC 5321 §4.1.3 */
static void literals(void **state)
{
	char room[IP_TEXT_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	struct ip ip;

	assert_int_equal(ip_parse(STR("192.0.2.1"), &ip), ERR_NONE);
	assert_str(text_of(&b, ip_add_literal, &ip), STR("[192.0.2.1]"));
	assert_int_equal(ip_parse(STR("2001:db8::1"), &ip), ERR_NONE);
	assert_str(text_of(&b, ip_add_literal, &ip), STR("[IPv6:2001:db8::1]"));
}

static void loopback(void **state)
{
	static const struct {
		struct str ip;
		bool is;
	} rows[] = {
		{ STR("127.0.0.1"), true },	   { STR("127.255.0.9"), true },
		{ STR("128.0.0.1"), false },	   { STR("::1"), true },
		{ STR("::ffff:127.0.0.1"), true }, { STR("::2"), false },
		{ STR("7f00::1"), false },	   { STR("0.0.0.0"), false },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ip ip;

		assert_int_equal(ip_parse(rows[i].ip, &ip), ERR_NONE);
		assert_int_equal(ip_is_loopback(&ip), rows[i].is);
	}
	assert_false(ip_is_loopback(&(struct ip){ 0 }));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(prefixes), cmocka_unit_test(ports),
		cmocka_unit_test(literals),  cmocka_unit_test(loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
