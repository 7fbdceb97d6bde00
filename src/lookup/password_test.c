/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords: the exchanges of RFC 5802 §5 and RFC 7677 §3, hashes made elsewhere and here, and what is refused. */
#include "lookup/password.h"

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
	mem_destroy(mem);
	return 0;
}

static struct str decoded(struct str text)
{
	struct str bytes;
	assert_int_equal(base64_decode(&a, text, &bytes), ERR_NONE);
	return bytes;
}

static void exchange(bool sha256, struct str salt, struct str auth_message, struct str proof, struct str signature)
{
	struct scram_keys k, again;
	unsigned char out[SCRAM_KEY_MAX];
	char room[512];
	struct buf b = buf_fixed(room, sizeof room);
	assert_int_equal(scram_keys_make(sha256, STR("pencil"), decoded(salt), 4096, &k), ERR_NONE);
	assert_true(scram_check(&k, auth_message, decoded(proof), out));
	assert_str(base64_encode(&a, str_of((const char *)out, k.n)), signature);
	assert_false(scram_check(&k, STR("another message"), decoded(proof), out));
	assert_false(scram_check(&k, auth_message, STR("short"), out));
	scram_keys_add(&b, &k);
	assert_int_equal(scram_keys_read(sha256, buf_str(&b), &again), ERR_NONE);
	assert_true(scram_same_key(&k, &again));
	assert_memory_equal(&k, &again, sizeof k);
	assert_int_equal(scram_keys_read(!sha256, buf_str(&b), &again), ERR_SYNTAX);
	assert_int_equal(scram_keys_make(sha256, STR("pencils"), decoded(salt), 4096, &again), ERR_NONE);
	assert_false(scram_same_key(&k, &again));
}

static void rfc_examples(void **state UNUSED)
{
	exchange(false, STR("QSXCR+Q6sek8bf92"),
		 STR("n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
		     "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"),
		 STR("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="), STR("rmF9pqV8S7suAoZWja4dJRkFsKQ="));
	exchange(true, STR("W22ZaJ0SNY7soEsUEjb6gQ=="),
		 STR("n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
		     "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
		 STR("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), STR("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
}

static void bad_keys(void **state UNUSED)
{
	static const struct str bad[] = {
		STR(""), STR("4096"), STR("0,AAAA,AAAA,AAAA"), STR("x,AAAA,AAAA,AAAA"), STR("2147483648,QSXC,QSXC,QSXC"), STR("4096,,AAAA,AAAA"),
		STR("4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=,x"),
	};
	struct scram_keys k;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(scram_keys_read(false, bad[i], &k), ERR_SYNTAX);
	assert_int_equal(scram_keys_read(false, STR("4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE="), &k), ERR_NONE);
	assert_int_equal(scram_keys_make(true, STR("x"), STR(""), 4096, &k), ERR_SYNTAX);
	assert_int_equal(scram_keys_make(true, STR("x"), STR("salt"), 0, &k), ERR_SYNTAX);
}

static void hashes_of_others(void **state UNUSED)
{
	bool right;
	/* The specification's own example of SHA-512 crypt, and one of bcrypt's published vectors. */
	assert_int_equal(password_check(STR("{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
					STR("Hello world!"), &right), ERR_NONE);
	assert_true(right);
	assert_int_equal(password_check(STR("$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
					STR("Hello world"), &right), ERR_NONE);
	assert_false(right);
	assert_int_equal(password_check(STR("{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"), STR("U*U"), &right), ERR_NONE);
	assert_true(right);
	assert_true(password_is_weak(STR("{SHA512-CRYPT}$6$a$b")));
	assert_false(password_is_weak(STR("{CRYPT}$y$j9T$a$b")));
	static const struct str unknown[] = {
		STR(""), STR("{PLAIN}secret"), STR("secret"), STR("{MD5}$1$abc$def"), STR("$1$abc$def"), STR("{CRYPT}ab0123456789x"), STR("{CRYPT}*"),
		STR("{CRYPT}$6$a\0b"),
	};
	for (size_t i = 0; i < COUNT(unknown); i++) {
		assert_int_equal(password_check(unknown[i], STR("secret"), &right), ERR_SYNTAX);
		assert_false(right);
	}
}

/* The reference implementation's own examples, and one with two lanes that another program made. */
static void argon2(void **state UNUSED)
{
	static const struct {
		struct str hash, password;
	} good[] = {
		{ STR("{ARGON2I}$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA"), STR("password") },
		{ STR("{argon2id}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"), STR("password") },
		{ STR("$argon2id$v=19$m=19456,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$1lllPIVvRhHBLq+fZAaqSVu6vt4mR2I9QEvtxXc3Er4"), STR("correct horse") },
	};
	static const struct str bad[] = {
		STR("$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"), STR("$argon2id$v=19$m=262145,t=1,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"),
		STR("$argon2id$v=19$m=64,t=33,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"), STR("$argon2id$v=19$m=64,t=1,p=17$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"),
		STR("$argon2id$v=19$m=8,t=1,p=2$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"), STR("$argon2id$v=19$m=64,t=1,p=1$c2E$AAECAwQFBgcICQoLDA0ODw"),
		STR("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAEC"), STR("$argon2id$v=20$m=64,t=1,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"),
		STR("$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"), STR("$argon2id$"), STR("{ARGON2ID}$argon2id"),
		STR("$argon2id$v=19$m=64,t=1,p=1,x=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw"),
	};
	bool right;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(password_is_understood(good[i].hash));
		assert_int_equal(password_check(good[i].hash, good[i].password, &right), ERR_NONE);
		assert_true(right);
		assert_int_equal(password_check(good[i].hash, STR("Password"), &right), ERR_NONE);
		assert_false(right);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_false(password_is_understood(bad[i]));
		assert_int_equal(password_check(bad[i], STR("password"), &right), ERR_SYNTAX);
		assert_false(right);
	}
}

static void own_hashes(void **state UNUSED)
{
	char room[PASSWORD_HASH_MAX], other[PASSWORD_HASH_MAX];
	struct buf b = buf_fixed(room, sizeof room), c = buf_fixed(other, sizeof other);
	bool right;
	assert_int_equal(password_hash(STR("pencil"), (const unsigned char *)"0123456789abcdef", &b), ERR_NONE);
	assert_true(str_starts(buf_str(&b), STR("{CRYPT}$y$")));
	assert_int_equal(password_check(buf_str(&b), STR("pencil"), &right), ERR_NONE);
	assert_true(right);
	assert_int_equal(password_check(buf_str(&b), STR("Pencil"), &right), ERR_NONE);
	assert_false(right);
	assert_int_equal(password_check(str_sub(buf_str(&b), 0, b.n - 1), STR("pencil"), &right), ERR_NONE);
	assert_false(right);
	assert_int_equal(password_hash(STR("pencil"), (const unsigned char *)"0123456789abcdeg", &c), ERR_NONE);
	assert_false(str_eq(buf_str(&b), buf_str(&c)));
	assert_false(password_is_weak(buf_str(&b)));
}

static void preparation(void **state UNUSED)
{
	struct str out;
	assert_int_equal(password_prepare(&a, STR("pencil"), &out), ERR_NONE);
	assert_str(out, STR("pencil"));
	assert_int_equal(password_prepare(&a, STR("\xc2\xaa"), &out), ERR_NONE); /* RFC 4013 §3: U+00AA becomes "a" */
	assert_str(out, STR("a"));
	assert_int_equal(password_prepare(&a, STR("\xe2\x85\xa8"), &out), ERR_NONE); /* U+2168 becomes "IX" */
	assert_str(out, STR("IX"));
	assert_int_equal(password_prepare(&a, STR("a\xc2\xa0" "b"), &out), ERR_NONE);
	assert_str(out, STR("a b"));
	static const struct str bad[] = { STR(""), STR("\x07"), STR("a\0b"), STR("\xff"), STR("\xc2") };
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(password_prepare(&a, bad[i], &out), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rfc_examples, begin, end),  cmocka_unit_test_setup_teardown(bad_keys, begin, end),
		cmocka_unit_test_setup_teardown(hashes_of_others, begin, end), cmocka_unit_test_setup_teardown(own_hashes, begin, end),
		cmocka_unit_test_setup_teardown(argon2, begin, end),
		cmocka_unit_test_setup_teardown(preparation, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
