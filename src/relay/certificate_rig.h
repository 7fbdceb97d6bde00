/* SPDX-License-Identifier: Apache-2.0 */
/* For tests only: certificates made on the spot, a TLS server that signs with their keys, TLSA data. */
#ifndef RELAY_CERTIFICATE_RIG_H
#define RELAY_CERTIFICATE_RIG_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/arena.h"
#include "tls/tls.h"

#define CERTIFICATE_DAY 86400L

struct certificate {
	EVP_PKEY *key;
	X509 *x;
};

static void certificate_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX c;
	X509V3_set_ctx_nodb(&c);
	X509V3_set_ctx(&c, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
	ASSERT(e && X509_add_ext(x, e, -1) == 1);
	X509_EXTENSION_free(e);
}

/* names: "DNS:a.example"; NULL: an authority. by NULL: signed by itself. until: seconds from now. */
static struct certificate certificate_make(const char *names, const struct certificate *by, long until)
{
	struct certificate c = { .key = EVP_EC_gen("P-256"), .x = X509_new() };
	X509_NAME *subject = X509_get_subject_name(c.x);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x), names ? 2 : 1);
	X509_set_version(c.x, 2);
	X509_gmtime_adj(X509_getm_notBefore(c.x), -10 * CERTIFICATE_DAY);
	X509_gmtime_adj(X509_getm_notAfter(c.x), until);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)(names ? "leaf" : "root"), -1, -1, 0);
	X509_set_issuer_name(c.x, by ? X509_get_subject_name(by->x) : subject);
	X509_set_pubkey(c.x, c.key);
	certificate_extension(c.x, NID_basic_constraints, names ? "CA:FALSE" : "critical,CA:TRUE");
	if (names)
		certificate_extension(c.x, NID_subject_alt_name, names);
	ASSERT(X509_sign(c.x, by ? by->key : c.key, EVP_sha256()) > 0);
	return c;
}

static void certificate_free(struct certificate *c)
{
	X509_free(c->x);
	EVP_PKEY_free(c->key);
}

static struct str certificate_pem(struct arena *a, const struct certificate *const *list, size_t n)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p;
	for (size_t i = 0; i < n; i++)
		PEM_write_bio_X509(b, list[i]->x);
	long bytes = BIO_get_mem_data(b, &p);
	struct str s = arena_str(a, str_of(p, (size_t)bytes));
	BIO_free(b);
	return s;
}

/* "3 1 1 …" or "2 0 1 …" */
static const char *certificate_tlsa(struct arena *a, const struct certificate *c, const char *kind)
{
	unsigned char hash[32], *der = NULL;
	char room[128];
	struct buf b = buf_fixed(room, sizeof room);
	unsigned n = 0;
	int len = kind[2] == '1' ? i2d_PUBKEY(c->key, &der) : i2d_X509(c->x, &der);
	ASSERT(len > 0 && EVP_Digest(der, (size_t)len, hash, &n, EVP_sha256(), NULL) == 1);
	OPENSSL_free(der);
	buf_add(&b, str_z(kind));
	buf_add_char(&b, ' ');
	for (size_t i = 0; i < n; i++)
		buf_add_hex(&b, hash[i], 2);
	buf_add_char(&b, '\0');
	return arena_str(a, buf_str(&b)).p;
}

static enum err certificate_sign(void *arg, uint32_t key UNUSED, struct str digest UNUSED, enum tls_padding padding UNUSED,
				 struct str bytes, char *sig, size_t *sig_n_out)
{
	struct certificate *const *current = arg;
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	*sig_n_out = TLS_SIGNATURE_MAX;
	int ok = EVP_DigestSignInit(m, NULL, EVP_sha256(), NULL, (*current)->key);
	if (ok == 1)
		ok = EVP_DigestSign(m, (unsigned char *)sig, sig_n_out, (const unsigned char *)bytes.p, bytes.n);
	EVP_MD_CTX_free(m);
	return ok == 1 ? ERR_NONE : ERR_IO;
}

/* A server that has *current, which may change: then certificate_use() again. */
static struct tls_server *certificate_server(struct world *w, struct certificate **current)
{
	struct tls_signer signer = { certificate_sign, current };
	struct tls_server *t;
	ASSERT(tls_server_new(w, &signer, TLS_LEAST_1_2, &t) == ERR_NONE);
	return t;
}

static void certificate_use(struct tls_server *t, struct arena *a, const struct certificate *c, const struct certificate *by)
{
	const struct certificate *chain[] = { c, by };
	struct tls_certificate one = { 0, certificate_pem(a, chain, by ? 2 : 1) };
	size_t bad;
	ASSERT(tls_server_certificates(t, &one, 1, &bad) == ERR_NONE);
}

#endif
