/* SPDX-License-Identifier: Apache-2.0 */
/* Rewritten reverse-paths: worked examples, what expires, what is forged. */
#include "message/srs.h"

#include "base/test.h"

#define DAY INT64_C(86400000)
#define NOW (INT64_C(20780) * DAY) /* 20780 mod 1024 = 300: "JM" */

static struct srs ours(void)
{
	return (struct srs){ .secrets = { STR("a secret of ours, long enough") },
			     .secrets_n = 1,
			     .domain = STR("fwd.example") };
}

static struct str forward(const struct srs *s, struct str address, char room[1200])
{
	struct buf b = buf_fixed(room, 1200);
	assert_int_equal(srs_forward(s, address, NOW, &b), ERR_NONE);
	return buf_str(&b);
}

static enum srs_verdict reverse(const struct srs *s, struct str address, int64_t now_ms,
				char room[1200], struct str *back_out)
{
	struct buf b = buf_fixed(room, 1200);
	enum srs_verdict v;
	assert_int_equal(srs_reverse(s, address, now_ms, &b, &v), ERR_NONE);
	*back_out = buf_str(&b);
	return v;
}

/* The hash is replaced by dots before comparing. */
static const struct {
	const char *address, *made, *back;
} cases[] = {
	{ "", "", NULL },
	{ "ann@fwd.example", "ann@fwd.example", NULL },
	{ "ann@a.org", "SRS0=........=JM=a.org=ann@fwd.example", "ann@a.org" },
	{ "Ann.B+c@a.org", "SRS0=........=JM=a.org=Ann.B+c@fwd.example", "Ann.B+c@a.org" },
	{ "a=b=c@a.org", "SRS0=........=JM=a.org=a=b=c@fwd.example", "a=b=c@a.org" },
	{ "\"a b\"@a.org", "\"SRS0=........=JM=a.org=a b\"@fwd.example", "\"a b\"@a.org" },
	{ "\"a\\\"@b\"@a.org", "\"SRS0=........=JM=a.org=a\\\"@b\"@fwd.example",
	  "\"a\\\"@b\"@a.org" },
	{ "x@[192.0.2.1]", "\"SRS0=........=JM=[192.0.2.1]=x\"@fwd.example", "x@[192.0.2.1]" },
	{ "x@[t:a=b@c]", "\"SRS0=........=JM=[t:a=b@c]=x\"@fwd.example", "x@[t:a=b@c]" },
	{ "j\xc3\xbcrg@a.org", "SRS0=........=JM=a.org=j\xc3\xbcrg@fwd.example",
	  "j\xc3\xbcrg@a.org" },
	{ "SRS0=HH=JM=x.org=ann@a.org", "SRS1=JM........=a.org==HH=JM=x.org=ann@fwd.example",
	  "SRS0=HH=JM=x.org=ann@a.org" },
	{ "srs0+HH=JM=x.org=ann@a.org", "SRS1=JM........=a.org=+HH=JM=x.org=ann@fwd.example",
	  "SRS0+HH=JM=x.org=ann@a.org" },
	{ "SRS1=HH=x.org==HH=JM=y.org=ann@a.org",
	  "SRS1=JM........=x.org==HH=JM=y.org=ann@fwd.example", "SRS0=HH=JM=y.org=ann@x.org" },
	/* names that only look like it */
	{ "SRS0@a.org", "SRS0=........=JM=a.org=SRS0@fwd.example", "SRS0@a.org" },
	{ "SRS1=@a.org", "SRS0=........=JM=a.org=SRS1=@fwd.example", "SRS1=@a.org" },
	{ "SRS1=x@a.org", "SRS0=........=JM=a.org=SRS1=x@fwd.example", "SRS1=x@a.org" },
};

static void goes_there_and_back(void **state)
{
	struct srs s = ours();
	for (size_t i = 0; i < COUNT(cases); i++) {
		char room[1200], back_room[1200], shown[1200];
		struct str made = forward(&s, str_z(cases[i].address), room), back;
		memcpy(shown, made.p ? made.p : "", made.n);
		size_t at = str_find_str(str_of(shown, made.n), STR("SRS"));
		if (cases[i].back)
			memcpy(shown + at + (shown[at + 3] == '1' ? 7 : 5), "........", 8);
		assert_str(str_of(shown, made.n), str_z(cases[i].made));
		if (!cases[i].back)
			continue;
		assert_int_equal(reverse(&s, made, NOW, back_room, &back), SRS_OK);
		assert_str(back, str_z(cases[i].back));
	}
}

/* The hash itself: made with another implementation of HMAC-SHA256 (RFC 2104) and RFC 4648. */
static void signs_as_documented(void **state)
{
	struct srs s = ours();
	char room[1200];
	assert_str(forward(&s, STR("ann@a.org"), room),
		   STR("SRS0=PQED6LRK=JM=a.org=ann@fwd.example"));
	assert_str(forward(&s, STR("SRS0=HH=JM=x.org=ann@a.org"), room),
		   STR("SRS1=JMRC7XMOAM=a.org==HH=JM=x.org=ann@fwd.example"));
}

static void expires_one(const char *address)
{
	struct srs s = ours();
	char room[1200], back_room[1200];
	struct str made = forward(&s, str_z(address), room), back;
	static const struct {
		int days;
		enum srs_verdict verdict;
	} table[] = { { 0, SRS_OK },	    { 21, SRS_OK },	   { 22, SRS_EXPIRED },
		      { 500, SRS_EXPIRED }, { 1022, SRS_EXPIRED }, { -1, SRS_OK },
		      { -2, SRS_EXPIRED } };
	for (size_t i = 0; i < COUNT(table); i++) {
		enum srs_verdict v = reverse(&s, made, NOW + table[i].days * DAY, back_room, &back);
		assert_int_equal(v, table[i].verdict);
		assert_int_equal(back.n > 0, v == SRS_OK);
	}
}

static void expires(void **state)
{
	expires_one("ann@a.org");
	expires_one("SRS0=HH=AA=x.org=ann@a.org"); /* our day counts, not the first forwarder's */
	expires_one("SRS1=HH=x.org==HH=AA=y.org=ann@a.org");
}

static void refuses_forgeries_of(const char *address)
{
	struct srs s = ours(), other = ours();
	other.secrets[0] = STR("a secret of somebody else");
	char room[1200], back_room[1200], bad[1200];
	struct str made = forward(&s, str_z(address), room), back;
	assert_int_equal(reverse(&other, made, NOW, back_room, &back), SRS_BAD_HASH);
	/* each character behind the tag counts, be it of hash, day, domain or local part */
	for (size_t i = 5; i < str_find(made, '@'); i++) {
		memcpy(bad, made.p, made.n);
		bad[i] = ascii_lower(bad[i]) == 'x' ? 'y' : 'x';
		assert_int_not_equal(reverse(&s, str_of(bad, made.n), NOW, back_room, &back),
				     SRS_OK);
		assert_int_equal(back.n, 0);
	}
}

static void refuses_forgeries(void **state)
{
	struct srs s = ours();
	char back_room[1200];
	struct str back;
	refuses_forgeries_of("ann@a.org");
	refuses_forgeries_of("SRS0=HH=JM=x.org=ann@a.org");
	static const struct {
		const char *address;
		enum srs_verdict verdict;
	} table[] = {
		{ "ann@fwd.example", SRS_NONE },
		{ "SRS0=AAAAAAAA=JM=a.org=ann@elsewhere.example", SRS_NONE },
		{ "SRS0=AAAAAAAA=JM=a.org=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS0=AAAAAAA=JM=a.org=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS0==JM=a.org=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS1=JMAAAAAAAA=a.org==HH=JM=x=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS1=AAAAAAAA=a.org==HH=JM=x=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS1=J=a.org==HH=JM=x=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS1==a.org==HH=JM=x=ann@fwd.example", SRS_BAD_HASH },
		{ "SRS0=AAAAAAAA@fwd.example", SRS_NONE },
		{ "SRS0=@fwd.example", SRS_NONE },
		{ "SRS0@fwd.example", SRS_NONE },
		{ "@fwd.example", SRS_NONE },
		{ "fwd.example", SRS_NONE },
		{ "", SRS_NONE },
	};
	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(reverse(&s, str_z(table[i].address), NOW, back_room, &back),
				 table[i].verdict);
}

static void survives_folded_case(void **state)
{
	struct srs s = ours();
	char room[1200], back_room[1200], small[1200];
	struct str made = forward(&s, STR("Ann@a.org"), room), back;
	for (size_t i = 0; i < made.n; i++)
		small[i] = ascii_lower(made.p[i]);
	assert_int_equal(reverse(&s, str_of(small, made.n), NOW, back_room, &back), SRS_OK);
	assert_str(back, STR("ann@a.org"));
}

static void secrets_may_change(void **state)
{
	struct srs before = ours(), s = { .domain = STR("fwd.example") };
	char room[1200], back_room[1200];
	struct str made = forward(&before, STR("ann@a.org"), room), back;
	assert_int_equal(srs_secrets_parse(&s, STR("# new\n  the new secret, which signs \r\n\n"
						   "a secret of ours, long enough")),
			 ERR_NONE);
	assert_int_equal(s.secrets_n, 2);
	assert_str(s.secrets[0], STR("the new secret, which signs"));
	assert_int_equal(reverse(&s, made, NOW, back_room, &back), SRS_OK);
	made = forward(&s, STR("ann@a.org"), room);
	assert_int_equal(reverse(&before, made, NOW, back_room, &back), SRS_BAD_HASH);
	assert_int_equal(srs_secrets_parse(&s, STR("# nothing\n")), ERR_SYNTAX);
	assert_int_equal(srs_secrets_parse(&s, STR("tooshort\n")), ERR_SYNTAX);
	assert_int_equal(srs_secrets_parse(&s, STR("0123456789abcdef\n0123456789abcdef\n"
						   "0123456789abcdef\n0123456789abcdef\n"
						   "0123456789abcdef\n0123456789abcdef\n"
						   "0123456789abcdef\n0123456789abcdef\n"
						   "0123456789abcdef\n")),
			 ERR_LIMIT);
}

/* RFC 5321 §4.5.3.1: above 64 octets for a local part, never above 254 in all. */
static void bounds_its_length(void **state)
{
	struct srs s = ours();
	char address[300], room[1200];
	for (size_t n = 1; n < 280; n++) {
		struct buf b = buf_fixed(room, sizeof room);
		memset(address, 'a', n);
		memcpy(address + n, "@a.org", 6);
		size_t whole = sizeof "SRS0=HHHHHHHH=TT=a.org=@fwd.example" - 1 + n;
		assert_int_equal(srs_forward(&s, str_of(address, n + 6), NOW, &b),
				 whole <= SRS_ADDRESS_MAX ? ERR_NONE : ERR_LIMIT);
		assert_int_equal(b.n, whole <= SRS_ADDRESS_MAX ? whole : 0);
	}
	struct buf b = buf_fixed(room, sizeof room);
	assert_int_equal(srs_forward(&s, STR("no address"), NOW, &b), ERR_SYNTAX);
	assert_int_equal(srs_forward(&s, STR("a b@c.org"), NOW, &b), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_there_and_back),
		cmocka_unit_test(signs_as_documented),
		cmocka_unit_test(expires),
		cmocka_unit_test(refuses_forgeries),
		cmocka_unit_test(survives_folded_case),
		cmocka_unit_test(secrets_may_change),
		cmocka_unit_test(bounds_its_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
