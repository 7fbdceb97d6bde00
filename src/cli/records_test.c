/* SPDX-License-Identifier: Apache-2.0 */
/* The records of a domain, line by line; what is missing is said. */
#include "cli/records.h"

#include "base/test.h"

static struct str zone(const struct records *r, char *room, size_t n)
{
	struct buf b = buf_fixed(room, n);
	records_add(&b, r);
	assert_int_equal(buf_err(&b), ERR_NONE);
	return buf_str(&b);
}

static bool has_line(struct str text, const char *line)
{
	while (text.n > 0)
		if (str_eq(str_split(text, '\n', &text), str_z(line)))
			return true;
	return false;
}

static void whole(void **state)
{
	char room[8192];
	struct records r = { .domain = STR("example.org"), .hostname = STR("mx.example.org"), .keys_n = 1, .smtp_port = 25,
			     .submission_port = 587, .submissions_port = 465, .ips_n = 2 };
	assert_int_equal(ip_parse(STR("192.0.2.1"), &r.ips[0]), ERR_NONE);
	assert_int_equal(ip_parse(STR("2001:db8::1"), &r.ips[1]), ERR_NONE);
	memset(r.keys[0], 0xab, sizeof r.keys[0]);
	struct str z = zone(&r, room, sizeof room);
	assert_true(has_line(z, "example.org. IN MX 10 mx.example.org."));
	assert_true(has_line(z, "mx.example.org. IN A 192.0.2.1"));
	assert_true(has_line(z, "mx.example.org. IN AAAA 2001:db8::1"));
	assert_true(has_line(z, "example.org. IN TXT \"v=spf1 mx -all\""));
	assert_true(has_line(z, "mx.example.org. IN TXT \"v=spf1 a -all\""));
	assert_true(has_line(z, "_dmarc.example.org. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@example.org\""));
	assert_true(has_line(z, "_smtp._tls.example.org. IN TXT \"v=TLSRPTv1; rua=mailto:postmaster@example.org\""));
	assert_true(has_line(z, "_submissions._tcp.example.org. IN SRV 0 1 465 mx.example.org."));
	assert_true(has_line(z, "_25._tcp.mx.example.org. IN TLSA 3 1 1 abababababababababababababababababababababababababababababababab"));
	(void)state;
}

static void what_is_missing(void **state)
{
	char room[8192];
	struct records r = { .domain = STR("example.org"), .hostname = STR("example.org") };
	struct str z = zone(&r, room, sizeof room);
	assert_true(has_line(z, "_submission._tcp.example.org. IN SRV 0 0 0 ."));
	assert_false(has_line(z, "example.org. IN TXT \"v=spf1 a -all\"")); /* two SPF records are none (RFC 7208 §4.5) */
	assert_true(str_find_str(z, STR("was not found out")) < z.n);
	assert_true(str_find_str(z, STR("no certificate yet")) < z.n);
	(void)state;
}

static void private_addresses(void **state)
{
	static const struct {
		struct str text;
		bool private;
	} rows[] = {
		{ STR("10.1.2.3"), true },	 { STR("172.16.0.1"), true }, { STR("172.32.0.1"), false }, { STR("192.168.0.1"), true },
		{ STR("100.64.0.1"), true },	 { STR("127.0.0.1"), true },  { STR("192.0.2.1"), false },  { STR("::1"), true },
		{ STR("fe80::1"), true },	 { STR("fd00::1"), true },    { STR("2001:db8::1"), false },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ip ip;
		assert_int_equal(ip_parse(rows[i].text, &ip), ERR_NONE);
		assert_int_equal(records_is_private(&ip), rows[i].private);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(whole), cmocka_unit_test(what_is_missing), cmocka_unit_test(private_addresses) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
