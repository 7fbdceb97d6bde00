/* SPDX-License-Identifier: Apache-2.0 */
/* SASL messages: the examples of RFC 4616, 5802, 7677 and 7628, and what must be refused (H64, H66). */
#include "sasl/sasl.h"

#include "base/base64.h"
#include "base/test.h"

static struct mem *mem;
static struct arena a;

static int begin(void **state UNUSED)
{
	mem = mem_new(1 << 20);
	a = arena_make(mem, 1 << 18);
	return 0;
}

static int end(void **state UNUSED)
{
	arena_close(&a);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
	return 0;
}

static void mechanism_names(void **state UNUSED)
{
	for (unsigned m = SASL_NONE + 1; m < SASL_MECHANISMS; m++)
		assert_int_equal(sasl_by_name(sasl_name((enum sasl_mechanism)m)), m);
	assert_int_equal(sasl_by_name(STR("scram-sha-256-plus")), SASL_SCRAM_SHA_256_PLUS);
	assert_int_equal(sasl_by_name(STR("")), SASL_NONE);
	assert_int_equal(sasl_by_name(STR("CRAM-MD5")), SASL_NONE);
}

static void plain(void **state UNUSED)
{
	struct sasl_plain p;
	assert_int_equal(sasl_plain_read(STR("\0tim\0tanstaaftanstaaf"), &p), ERR_NONE);
	assert_str(p.authzid, STR(""));
	assert_str(p.authcid, STR("tim"));
	assert_str(p.password, STR("tanstaaftanstaaf"));
	assert_int_equal(sasl_plain_read(STR("Ursel\0Kurt\0xipj3plmq"), &p), ERR_NONE);
	assert_str(p.authzid, STR("Ursel"));
	static const struct str bad[] = {
		STR(""), STR("tim"), STR("\0tim"), STR("\0tim\0"), STR("\0\0pass"), STR("\0tim\0pa\0ss"), STR("a\0b\0c\0d"),
		STR("\0t\xff\0pass"), STR("\0tim\0\xc0\x80"), STR("\0\0"), STR("\0\0\0"),
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(sasl_plain_read(bad[i], &p), ERR_SYNTAX);
}

static void bearer(void **state UNUSED)
{
	struct sasl_bearer b;
	assert_int_equal(sasl_oauthbearer_read(STR("n,a=user@example.com,\1host=server.example.com\1port=587\1"
						   "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"), &b), ERR_NONE);
	assert_str(b.user, STR("user@example.com"));
	assert_str(b.token, STR("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="));
	assert_int_equal(sasl_xoauth2_read(STR("user=a@example.org\1auth=Bearer ya29.x\1\1"), &b), ERR_NONE);
	assert_str(b.user, STR("a@example.org"));
	assert_str(b.token, STR("ya29.x"));
	static const struct str bad[] = {
		STR(""), STR("n,,"), STR("n,,\1\1"), STR("n,,\1auth=Bearer \1\1"), STR("n,,\1auth=Basic eA==\1\1"), STR("n,,\1auth=Bearer x\1"),
		STR("p=tls-exporter,,\1auth=Bearer x\1\1"), STR("n,user,\1auth=Bearer x\1\1"), STR("n,,\1auth=Bearer x y\1\1"),
		STR("n,,\1auth=Bearer x\1auth=Bearer y\1\1"), STR("n,,\1auth=Bearer x\1\1rest"), STR("n,a=\xff,\1auth=Bearer x\1\1"),
		STR("n,,x,\1auth=Bearer x\1\1"),
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(sasl_oauthbearer_read(bad[i], &b), ERR_SYNTAX);
	assert_int_equal(sasl_xoauth2_read(STR("auth=Bearer x\1\1"), &b), ERR_SYNTAX);
}

static void scram_first(void **state UNUSED)
{
	struct sasl_scram_first f;
	assert_int_equal(sasl_scram_first_read(STR("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"), &a, &f), ERR_NONE);
	assert_int_equal(f.binding, 'n');
	assert_str(f.gs2_header, STR("n,,"));
	assert_str(f.user, STR("user"));
	assert_str(f.nonce, STR("fyko+d2lbbFgONRv9qkxdawL"));
	assert_str(f.bare, STR("n=user,r=fyko+d2lbbFgONRv9qkxdawL"));
	assert_int_equal(sasl_scram_first_read(STR("p=tls-exporter,a=x=2Cy=3Dz,n=u=3D,r=q,x=y"), &a, &f), ERR_NONE);
	assert_int_equal(f.binding, 'p');
	assert_str(f.binding_type, STR("tls-exporter"));
	assert_str(f.gs2_header, STR("p=tls-exporter,a=x=2Cy=3Dz,"));
	assert_str(f.authzid, STR("x,y=z"));
	assert_str(f.user, STR("u="));
	assert_int_equal(sasl_scram_first_read(STR("y,,n=user,r=a"), &a, &f), ERR_NONE);
	assert_int_equal(f.binding, 'y');
	assert_int_equal(sasl_scram_first_read(STR("n,,m=x,n=user,r=a"), &a, &f), ERR_DENIED);
	static const struct str bad[] = {
		STR(""), STR("n"), STR("n,"), STR("n,,"), STR("n,,n=user"), STR("n,,n=,r=a"), STR("n,,n=user,r="), STR("n,,r=a,n=user"),
		STR("q,,n=user,r=a"), STR("nn,,n=user,r=a"), STR("p,,n=user,r=a"), STR("p=,,n=user,r=a"), STR("p=a b,,n=user,r=a"),
		STR("n,b=x,n=user,r=a"), STR("n,,n=us=er,r=a"), STR("n,,n=us=2c,r=a"), STR("n,,n=user=,r=a"), STR("n,,n=\xff,r=a"),
		STR("n,,n=a\0b,r=a"), STR("n,,n=user,r=a b"), STR("n,,n=user,r=a,x"), STR("n,,n=user,r=a,1=x"), STR("n,,n=user,r=\x7f"),
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(sasl_scram_first_read(bad[i], &a, &f), ERR_SYNTAX);
}

static void scram_rest(void **state UNUSED)
{
	struct str salt;
	struct sasl_scram_final f;
	assert_int_equal(base64_decode(&a, STR("W22ZaJ0SNY7soEsUEjb6gQ=="), &salt), ERR_NONE);
	assert_str(sasl_scram_server_first(&a, STR("rOprNGfwEbeRWgbNEkqO"), STR("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), salt, 4096),
		   STR("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
	assert_int_equal(sasl_scram_final_read(STR("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
						   "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), &a, &f), ERR_NONE);
	assert_str(f.cbind_input, STR("n,,"));
	assert_str(f.without_proof, STR("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"));
	assert_int_equal(f.proof.n, 32);
	assert_int_equal(sasl_scram_final_read(STR("c=biws,r=ab,x=y,p=AAAA"), &a, &f), ERR_NONE);
	assert_str(f.without_proof, STR("c=biws,r=ab,x=y"));
	static const struct str bad[] = {
		STR(""), STR("c=biws"), STR("c=biws,r=a"), STR("c=biws,p=AAAA"), STR("r=a,c=biws,p=AAAA"), STR("c=bi,r=a,p=AAAA"),
		STR("c=biws,r=a,p=AAA"), STR("c=biws,r=a,p=AAAA,x=y"), STR("c=biws,r=a,xx,p=AAAA"), STR("c=biws,r=,p=AAAA"), STR("p=AAAA"),
		STR("c=biws,r=a,,p=AAAA"), STR("c=biws,r=p=AAAA"),
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(sasl_scram_final_read(bad[i], &a, &f), ERR_SYNTAX);
}

/* The examples of RFC 5802 §5 and RFC 7677 §3. Their nonces are given; `random` would make others. */
static void scram_client(void **state UNUSED)
{
	static const struct {
		enum sasl_mechanism m;
		const char *nonce, *first, *final, *server_final;
	} v[] = {
		{ SASL_SCRAM_SHA_1, "fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
		  "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=" },
		{ SASL_SCRAM_SHA_256, "rOprNGfwEbeRWgbNEkqO",
		  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		  "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },
	};
	for (size_t i = 0; i < COUNT(v); i++) {
		struct sasl_client c = { .mechanism = v[i].m, .user = STR("user"), .password = STR("pencil"), .arena = &a };
		struct str out;
		bool has;
		assert_int_equal(sasl_client_start(&c, &has, &out), ERR_NONE);
		assert_true(has && str_starts(out, STR("n,,n=user,r=")));
		c.nonce = str_z(v[i].nonce);
		c.bare = arena_strf(&a, "n=user,r=%s", v[i].nonce);
		assert_int_equal(sasl_client_hear(&c, str_z(v[i].first)), ERR_NONE);
		assert_int_equal(sasl_client_work(&c), ERR_NONE);
		assert_int_equal(sasl_client_answer(&c, &out), ERR_NONE);
		assert_str(out, str_z(v[i].final));
		assert_false(sasl_client_is_over(&c));
		struct sasl_client before = c;
		assert_int_equal(sasl_client_hear(&c, str_z(v[i].server_final)), ERR_NONE);
		assert_int_equal(sasl_client_answer(&c, &out), ERR_NONE);
		assert_true(out.n == 0 && sasl_client_is_over(&c));
		c = before;
		assert_int_equal(sasl_client_hear(&c, STR("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")), ERR_SYNTAX);
		c = before;
		assert_int_equal(sasl_client_hear(&c, STR("v=AAAA")), ERR_DENIED);
		c = before;
		assert_int_equal(sasl_client_hear(&c, STR("e=invalid-proof")), ERR_DENIED);
	}
}

static void scram_client_hears_nonsense(void **state UNUSED)
{
	static const struct {
		struct str s;
		enum err e;
	} v[] = {
		{ STR(""), ERR_SYNTAX }, { STR("r=abc,s=QSXCR+Q6sek8bf92,i=4096"), ERR_SYNTAX }, { STR("r=abcd,s=,i=4096"), ERR_SYNTAX },
		{ STR("r=xbcd,s=QSXCR+Q6sek8bf92,i=4096"), ERR_SYNTAX }, { STR("r=abcd,s=QSXCR+Q6sek8bf92"), ERR_SYNTAX },
		{ STR("r=abcd,s=QSXCR+Q6sek8bf92,i=4095"), ERR_LIMIT }, { STR("r=abcd,s=QSXCR+Q6sek8bf92,i=4000000000"), ERR_LIMIT },
		{ STR("r=abcd,s=QSXCR+Q6sek8bf92,i=x"), ERR_SYNTAX }, { STR("m=x,r=abcd,s=QSXCR+Q6sek8bf92,i=4096"), ERR_SYNTAX },
		{ STR("r=abcd,s=QSXCR+Q6sek8bf9,i=4096"), ERR_SYNTAX }, { STR("e=unknown-user"), ERR_SYNTAX },
	};
	for (size_t i = 0; i < COUNT(v); i++) {
		struct sasl_client c = { .mechanism = SASL_SCRAM_SHA_256, .user = STR("a,b="), .password = STR("p"), .arena = &a };
		struct str out;
		bool has;
		assert_int_equal(sasl_client_start(&c, &has, &out), ERR_NONE);
		assert_true(str_starts(out, STR("n,,n=a=2Cb=3D,r=")));
		c.nonce = STR("abc");
		assert_int_equal(sasl_client_hear(&c, v[i].s), v[i].e);
	}
}

static void plain_and_login_client(void **state UNUSED)
{
	struct sasl_client c = { .mechanism = SASL_PLAIN, .user = STR("tim"), .password = STR("tanstaaftanstaaf"), .arena = &a };
	struct str out;
	bool has;
	assert_int_equal(sasl_client_start(&c, &has, &out), ERR_NONE);
	assert_true(has);
	assert_str(out, STR("\0tim\0tanstaaftanstaaf")); /* RFC 4616 §4 */
	assert_int_equal(sasl_client_hear(&c, STR("")), ERR_SYNTAX);
	c.mechanism = SASL_LOGIN;
	assert_int_equal(sasl_client_start(&c, &has, &out), ERR_NONE);
	assert_false(has);
	assert_int_equal(sasl_client_hear(&c, STR("Username:")), ERR_NONE);
	assert_int_equal(sasl_client_answer(&c, &out), ERR_NONE);
	assert_str(out, STR("tim"));
	assert_int_equal(sasl_client_hear(&c, STR("Password:")), ERR_NONE);
	assert_int_equal(sasl_client_answer(&c, &out), ERR_NONE);
	assert_str(out, STR("tanstaaftanstaaf"));
	assert_int_equal(sasl_client_hear(&c, STR("More:")), ERR_SYNTAX);
	c.password = STR("a\0b");
	assert_int_equal(sasl_client_start(&c, &has, &out), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mechanism_names),
		cmocka_unit_test(plain),
		cmocka_unit_test(bearer),
		cmocka_unit_test_setup_teardown(scram_first, begin, end),
		cmocka_unit_test_setup_teardown(scram_rest, begin, end),
		cmocka_unit_test_setup_teardown(scram_client, begin, end),
		cmocka_unit_test_setup_teardown(scram_client_hears_nonsense, begin, end),
		cmocka_unit_test_setup_teardown(plain_and_login_client, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
