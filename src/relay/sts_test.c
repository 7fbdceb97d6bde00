/* SPDX-License-Identifier: Apache-2.0 */
/* MTA-STS: records, policies and hosts as in RFC 8461, and what is not like that. */
#include "relay/sts.h"

#include "base/buf.h"
#include "base/test.h"

static void records(void **state UNUSED)
{
	static const struct {
		struct str texts[3];
		enum err e;
		const char *id;
	} v[] = {
		{ { STR("v=STSv1; id=20160831085700Z;") }, ERR_NONE, "20160831085700Z" }, /* §3.1 */
		{ { STR("v=STSv1;id=a") }, ERR_NONE, "a" },
		{ { STR("v=STSv1 ; x-1=y\xff; id=a") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1\t;\tx-1=y:z ; id=a ; ") }, ERR_NONE, "a" },
		{ { STR("v=STSv1; id=a; id=b") }, ERR_NONE, "a" },
		{ { STR("v=spf1 -all"), STR("v=STSv1; id=1"), STR("v=STSv2; id=2") }, ERR_NONE, "1" },
		{ { STR("v=STSv1; id=1"), STR("v=STSv1; id=2") }, ERR_NOT_FOUND, "" },
		{ { STR("id=1; v=STSv1") }, ERR_NOT_FOUND, "" },
		{ { STR("V=STSv1; id=1") }, ERR_NOT_FOUND, "" },
		{ { STR("v=STSv1") }, ERR_NOT_FOUND, "" },
		{ { STR("v=STSv1x; id=1") }, ERR_NOT_FOUND, "" },
		{ { STR("") }, ERR_NOT_FOUND, "" },
		{ { STR("v=STSv1;") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; id=") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; id=a-b") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; id=123456789012345678901234567890123") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; ; id=1") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; x; id=1") }, ERR_SYNTAX, "" },
		{ { STR("v=STSv1; id=1; x=a=b") }, ERR_SYNTAX, "" },
	};
	for (size_t i = 0; i < COUNT(v); i++) {
		struct str id = STR("");
		size_t n = 0;
		while (n < 3 && v[i].texts[n].p)
			n++;
		enum err e = sts_record_read(v[i].texts, n, &id);
		if (e != v[i].e)
			fprintf(stderr, "%.*s: %s\n", STR_ARG(v[i].texts[0]), err_name(e));
		assert_int_equal(e, v[i].e);
		if (e == ERR_NONE)
			assert_str(id, str_z(v[i].id));
	}
}

#define HEAD "version: STSv1\n"
#define REST "mode: enforce\nmax_age: 604800\n"

static const struct {
	struct str text;
	enum err e;
	enum sts_mode mode;
	uint32_t max_age;
	size_t mx_n;
} policy_texts[] = {
	/* §3.2 */
	{ STR("version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n"),
	  ERR_NONE, STS_ENFORCE, 604800, 3 },
	{ STR(HEAD REST "mx: a.org"), ERR_NONE, STS_ENFORCE, 604800, 1 },
	{ STR(HEAD "mode:testing  \nmax_age:0\nmx:\ta.org"), ERR_NONE, STS_TESTING, 0, 1 },
	{ STR(HEAD "mode: none\nmax_age: 86400\n"), ERR_NONE, STS_NONE, 86400, 0 },
	{ STR(HEAD REST "mode: none\nmax_age: x\nversion: STSv2\nmx: a.org\n"), ERR_NONE, STS_ENFORCE, 604800, 1 },
	{ STR(HEAD "mode: enforce\nmax_age: 9999999999\nmx: a.org\nx-y: gr\xc3\xbc\xc3\x9f dich\n"), ERR_NONE, STS_ENFORCE, STS_AGE_MAX, 1 },
	{ STR(HEAD REST), ERR_SYNTAX, 0, 0, 0 },
	{ STR(""), ERR_SYNTAX, 0, 0, 0 },
	{ STR(REST "mx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR("version: STSv2\n" REST "mx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD "mode: Enforce\nmax_age: 1\nmx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD "mode: enforce\nmax_age: -1\nmx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD "mode: enforce\nmax_age: 10000000000\nmx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD "mode: enforce\nmax_age:\nmx: a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: *\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a.*.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a..org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a.org.\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: -a.org\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: \n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a.org\n\nx: y\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a.org\nnonsense\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR(HEAD REST "mx: a.org\nx: \x01\n"), ERR_SYNTAX, 0, 0, 0 },
	{ STR("<html><body>Not: found</body></html>\n"), ERR_SYNTAX, 0, 0, 0 },
};

static void policies(void **state UNUSED)
{
	for (size_t i = 0; i < COUNT(policy_texts); i++) {
		struct sts_policy p;
		enum err e = sts_policy_read(policy_texts[i].text, &p);
		if (e != policy_texts[i].e)
			fprintf(stderr, "%.*s: %s\n", STR_ARG(policy_texts[i].text), err_name(e));
		assert_int_equal(e, policy_texts[i].e);
		if (e != ERR_NONE)
			continue;
		assert_int_equal(p.mode, policy_texts[i].mode);
		assert_int_equal(p.max_age, policy_texts[i].max_age);
		assert_int_equal(p.mx_n, policy_texts[i].mx_n);
	}
}

static void limits(void **state UNUSED)
{
	static char text[STS_POLICY_BYTES_MAX + 1];
	struct sts_policy p;
	struct buf b = buf_fixed(text, sizeof text);
	buf_add(&b, STR(HEAD REST));
	for (size_t i = 0; i < STS_MX_MAX; i++)
		buf_add(&b, STR("mx: a.org\n"));
	assert_int_equal(sts_policy_read(buf_str(&b), &p), ERR_NONE);
	buf_add(&b, STR("mx: a.org\n"));
	assert_int_equal(sts_policy_read(buf_str(&b), &p), ERR_LIMIT);
	memset(text, 'x', sizeof text);
	assert_int_equal(sts_policy_read(str_of(text, sizeof text), &p), ERR_LIMIT);
}

static void hosts(void **state UNUSED)
{
	struct sts_policy p;
	assert_int_equal(sts_policy_read(STR(HEAD REST "mx: mail.example.com\nmx: *.example.net\n"), &p), ERR_NONE);
	static const char *const yes[] = { "mail.example.com", "MAIL.example.COM", "a.example.net", "B.Example.Net" };
	static const char *const no[] = { "example.com", "a.mail.example.com", "example.net", "a.b.example.net", ".example.net", "xexample.net",
					  "", ".", "net", "mail.example.com.evil.org" }; /* §4.1: one label, no more */
	for (size_t i = 0; i < COUNT(yes); i++)
		assert_true(sts_policy_has(&p, str_z(yes[i])));
	for (size_t i = 0; i < COUNT(no); i++)
		assert_false(sts_policy_has(&p, str_z(no[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(records), cmocka_unit_test(policies), cmocka_unit_test(limits), cmocka_unit_test(hosts) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
