/* SPDX-License-Identifier: Apache-2.0 */
/* What keys holds and what it signs. */
#include "base/test.h"
#include "keys/permit.h"
#include "keys/vault.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#define BLANKS "                                                                "
#define VERIFY BLANKS "TLS 1.3, server CertificateVerify\0"
#define HASH "0123456789abcdef0123456789abcdef"
#define RANDOM HASH HASH

#define S(lit) STR(lit)

static void permits_handshakes_only(void **state)
{
	static const struct {
		struct str bytes, digest;
		enum tls_padding padding;
		bool ok;
	} rows[] = {
		{ S(VERIFY HASH), S("SHA256"), TLS_PADDING_PSS, true },
		{ S(VERIFY HASH "0123456789abcdef"), S("SHA384"), TLS_PADDING_NONE, true },
		{ S(VERIFY HASH), S(""), TLS_PADDING_NONE, true },
		{ S(VERIFY HASH), S("SHA256"), TLS_PADDING_PKCS1, false }, /* K1 */
		{ S(VERIFY HASH "x"), S("SHA256"), TLS_PADDING_PSS, false },
		{ S(VERIFY), S("SHA256"), TLS_PADDING_PSS, false },
		{ S(BLANKS "TLS 1.3, client CertificateVerify\0" HASH), S("SHA256"), TLS_PADDING_PSS, false },
		{ S("x" VERIFY HASH), S("SHA256"), TLS_PADDING_PSS, false },
		{ S(RANDOM "\3\0\x1d\x20" HASH), S("SHA256"), TLS_PADDING_PKCS1, true },
		{ S(RANDOM "\3\0\x17\x41\4" HASH HASH), S("SHA512"), TLS_PADDING_PSS, true },
		{ S(RANDOM "\3\0\x1d\x20" HASH "x"), S("SHA256"), TLS_PADDING_PKCS1, false }, /* K2 */
		{ S(RANDOM "\3\0\x1d\x1f" HASH), S("SHA256"), TLS_PADDING_PKCS1, false },
		{ S(RANDOM "\1\0\x1d\x20" HASH), S("SHA256"), TLS_PADDING_PKCS1, false },
		{ S(RANDOM "\3\0\x12\x20" HASH), S("SHA256"), TLS_PADDING_PKCS1, false },
		{ S(RANDOM), S("SHA256"), TLS_PADDING_PKCS1, false },
		{ S(VERIFY HASH), S("SHA1"), TLS_PADDING_PSS, false }, /* K3 */
		{ S(VERIFY HASH), S("MD5-SHA1"), TLS_PADDING_PSS, false },
		{ S(""), S("SHA256"), TLS_PADDING_PSS, false },
		{ S("from:to:subject; a mail to be signed"), S("SHA256"), TLS_PADDING_PKCS1, false },
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		if (keys_permits(rows[i].digest, rows[i].padding, rows[i].bytes) != rows[i].ok)
			fail_msg("row %zu", i);
}

struct fixture {
	struct world *w;
	struct vault *v;
	struct arena arena;
	struct buf certificate, key;
};

static void fixture_open(struct fixture *f)
{
	f->w = world_linux_new();
	assert_int_equal(vault_new(f->w, &f->v), ERR_NONE);
	f->arena = arena_make(world_mem(f->w), 1 << 20);
	f->certificate = buf_grow(world_mem(f->w), VAULT_FILE_MAX);
	f->key = buf_grow(world_mem(f->w), VAULT_FILE_MAX);
	assert_int_equal(vault_generate(f->v, STR("mx.example.org"), &f->certificate, &f->key), ERR_NONE);
}

static void fixture_close(struct fixture *f)
{
	vault_free(f->v);
	buf_free(&f->certificate);
	buf_free(&f->key);
	arena_close(&f->arena);
	world_linux_free(f->w);
}

static bool verifies(struct str pem, struct str bytes, const char *sig, size_t n)
{
	BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	bool ok = EVP_DigestVerifyInit(m, NULL, EVP_sha256(), NULL, X509_get0_pubkey(x)) == 1 &&
		  EVP_DigestVerify(m, (const unsigned char *)sig, n, (const unsigned char *)bytes.p, bytes.n) == 1;
	EVP_MD_CTX_free(m);
	X509_free(x);
	BIO_free(b);
	return ok;
}

static void makes_loads_and_signs(void **state)
{
	struct fixture f;
	struct vault_report r;
	struct vault_entry e;
	char sig[TLS_SIGNATURE_MAX];
	size_t n;
	fixture_open(&f);
	assert_int_equal(vault_load(f.v, 3, buf_str(&f.certificate), buf_str(&f.key), &f.arena, &r), ERR_NONE);
	assert_str(r.names, STR("mx.example.org"));
	assert_true(r.changed && r.expires_ms > world_wall_ms(f.w) + INT64_C(3650) * 86400000);
	assert_int_equal(vault_count(f.v), 1);
	assert_true(vault_entry(f.v, 0, &e) && !vault_entry(f.v, 1, &e));
	assert_true(vault_entry(f.v, 0, &e));
	assert_str(e.chain, buf_str(&f.certificate));
	assert_int_equal(vault_sign(f.v, e.key, STR("SHA256"), TLS_PADDING_NONE, S(VERIFY HASH), sig, &n), ERR_NONE);
	assert_true(verifies(e.chain, S(VERIFY HASH), sig, n));
	assert_int_equal(vault_sign(f.v, e.key, STR("SHA256"), TLS_PADDING_NONE, S("anything else"), sig, &n), ERR_DENIED);
	assert_int_equal(vault_sign(f.v, e.key, STR(""), TLS_PADDING_NONE, S(VERIFY HASH), sig, &n), ERR_DENIED);
	assert_int_equal(vault_sign(f.v, e.key + 1, STR("SHA256"), TLS_PADDING_NONE, S(VERIFY HASH), sig, &n), ERR_NOT_FOUND);
	/* the same once more is no change; V3: its number is the same in another vault */
	assert_int_equal(vault_load(f.v, 3, buf_str(&f.certificate), buf_str(&f.key), &f.arena, &r), ERR_NONE);
	assert_false(r.changed);
	struct vault *other;
	struct vault_entry same;
	assert_int_equal(vault_new(f.w, &other), ERR_NONE);
	assert_int_equal(vault_load(other, 0, buf_str(&f.certificate), buf_str(&f.key), &f.arena, &r), ERR_NONE);
	assert_true(vault_entry(other, 0, &same) && same.key == e.key);
	vault_free(other);
	fixture_close(&f);
}

static void refuses_what_does_not_fit(void **state)
{
	struct fixture f;
	struct vault_report r;
	struct vault_entry before, after;
	char sig[TLS_SIGNATURE_MAX];
	size_t n;
	fixture_open(&f);
	struct buf other = buf_grow(world_mem(f.w), VAULT_FILE_MAX), other_key = buf_grow(world_mem(f.w), VAULT_FILE_MAX);
	struct str pem = buf_str(&f.certificate), key = buf_str(&f.key);
	assert_int_equal(vault_generate(f.v, STR("b.example"), &other, &other_key), ERR_NONE);
	assert_int_equal(vault_load(f.v, 0, pem, key, &f.arena, &r), ERR_NONE);
	assert_true(vault_entry(f.v, 0, &before));
	const struct {
		struct str certificate, key;
		const char *says;
	} rows[] = {
		{ pem, buf_str(&other_key), "does not belong" },
		{ STR(""), key, "no certificate" },
		{ STR("nonsense"), key, "no certificate" },
		{ pem, STR(""), "no private key" },
		{ pem, pem, "no private key" },
		{ str_sub(pem, 0, pem.n / 2), key, "no certificate" },
		{ pem, STR("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHeMEkGCSqGSIb3DQEFDTA8\n-----END ENCRYPTED PRIVATE KEY-----\n"), "no private key" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(vault_load(f.v, 0, rows[i].certificate, rows[i].key, &f.arena, &r), ERR_SYNTAX);
		assert_true(str_find_str(r.text, str_z(rows[i].says)) < r.text.n);
		assert_true(vault_entry(f.v, 0, &after) && after.key == before.key); /* V1 */
	}
	assert_int_equal(vault_load(f.v, 0, buf_str(&other), buf_str(&other_key), &f.arena, &r), ERR_NONE);
	assert_int_equal(vault_sign(f.v, before.key, STR("SHA256"), TLS_PADDING_NONE, S(VERIFY HASH), sig, &n), ERR_NONE); /* V2 */
	vault_tidy(f.v, 0);
	assert_int_equal(vault_count(f.v), 0);
	assert_int_equal(vault_sign(f.v, before.key, STR("SHA256"), TLS_PADDING_NONE, S(VERIFY HASH), sig, &n), ERR_NONE);
	buf_free(&other);
	buf_free(&other_key);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(permits_handshakes_only),
		cmocka_unit_test(makes_loads_and_signs),
		cmocka_unit_test(refuses_what_does_not_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
