/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests and fuzzing only: certificates made on the spot, a signer in the same process, and a client of
 * plain OpenSSL whose bytes travel in pieces of any size.
 */
#ifndef TLS_TLS_RIG_H
#define TLS_TLS_RIG_H

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "tls/tls_internal.h"

#define RIG_KEYS_MAX 16u
#define RIG_DAY 86400L

enum rig_kind { RIG_RSA, RIG_EC, RIG_ED };

struct rig_cert {
	EVP_PKEY *key;
	X509 *x;
	struct str pem;
};
struct rig {
	struct world *w;
	struct loop *l;
	struct arena arena;
	struct rig_cert ca, certs[RIG_KEYS_MAX];
	size_t certs_n;
	struct tls_server *server;
	struct tls_client *client;
	/* the signer */
	unsigned sign_yields; /* turns of the loop that a signature takes */
	enum err sign_err;
	size_t signatures;
};

UNUSED static EVP_PKEY *rig_key(enum rig_kind kind)
{
	return kind == RIG_RSA ? EVP_RSA_gen(2048) : kind == RIG_EC ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static void rig_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX c;
	X509V3_set_ctx_nodb(&c);
	X509V3_set_ctx(&c, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
	ASSERT(e && X509_add_ext(x, e, -1) == 1);
	X509_EXTENSION_free(e);
}

/* names: "DNS:a.example,DNS:b.example"; by NULL: signed by itself. Valid from, to: seconds from now. */
UNUSED static struct rig_cert rig_cert(struct rig *r, EVP_PKEY *key, const char *names, const struct rig_cert *by, long from, long to)
{
	struct rig_cert c = { .key = key, .x = X509_new() };
	X509_NAME *subject = X509_get_subject_name(c.x);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x), 100 + (long)r->certs_n);
	X509_set_version(c.x, 2);
	X509_gmtime_adj(X509_getm_notBefore(c.x), from);
	X509_gmtime_adj(X509_getm_notAfter(c.x), to);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)(by ? "leaf" : "root"), -1, -1, 0);
	X509_set_issuer_name(c.x, by ? X509_get_subject_name(by->x) : subject);
	X509_set_pubkey(c.x, key);
	rig_extension(c.x, NID_basic_constraints, names ? "CA:FALSE" : "critical,CA:TRUE");
	if (names)
		rig_extension(c.x, NID_subject_alt_name, names);
	EVP_PKEY *signs = by ? by->key : key;
	ASSERT(X509_sign(c.x, signs, EVP_PKEY_is_a(signs, "ED25519") ? NULL : EVP_sha256()) > 0);
	BIO *b = BIO_new(BIO_s_mem());
	char *p;
	PEM_write_bio_X509(b, c.x);
	long n = BIO_get_mem_data(b, &p);
	c.pem = arena_str(&r->arena, str_of(p, (size_t)n));
	BIO_free(b);
	return c;
}

/* Number of the new certificate, which is also its key's number. */
UNUSED static uint32_t rig_add(struct rig *r, enum rig_kind kind, const char *names, long from, long to)
{
	ASSERT(r->certs_n < RIG_KEYS_MAX);
	r->certs[r->certs_n] = rig_cert(r, rig_key(kind), names, &r->ca, from, to);
	return (uint32_t)r->certs_n++;
}

static YIELDS enum err rig_sign(void *arg, uint32_t key, struct str digest, enum tls_padding padding, struct str bytes, char *sig,
				size_t *sig_n_out)
{
	struct rig *r = arg;
	char name[32] = "";
	for (unsigned i = 0; i < r->sign_yields; i++)
		TRY(co_yield());
	r->signatures++;
	if (r->sign_err != ERR_NONE)
		return r->sign_err;
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	EVP_PKEY_CTX *p;
	*sig_n_out = TLS_SIGNATURE_MAX;
	if (digest.n < sizeof name && digest.n)
		memcpy(name, digest.p, digest.n);
	int ok = EVP_DigestSignInit_ex(m, &p, name[0] ? name : NULL, NULL, NULL, r->certs[key].key, NULL);
	if (ok == 1 && padding == TLS_PADDING_PSS)
		ok = EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) > 0 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_DIGEST) > 0;
	if (ok == 1)
		ok = EVP_DigestSign(m, (unsigned char *)sig, sig_n_out, (const unsigned char *)bytes.p, bytes.n);
	EVP_MD_CTX_free(m);
	return ok == 1 ? ERR_NONE : ERR_IO;
}

UNUSED static struct tls_server *rig_server(struct rig *r, const uint32_t *numbers, size_t n)
{
	struct tls_certificate list[RIG_KEYS_MAX];
	struct tls_signer signer = { rig_sign, r };
	struct tls_server *t;
	size_t bad;
	for (size_t i = 0; i < n; i++)
		list[i] = (struct tls_certificate){ numbers[i], r->certs[numbers[i]].pem };
	enum err e = tls_server_new(r->w, &signer, TLS_LEAST_1_2, &t);
	ASSERT(e == ERR_NONE);
	e = tls_server_certificates(t, list, n, &bad);
	ASSERT(e == ERR_NONE);
	return t;
}

UNUSED static void rig_open(struct rig *r)
{
	*r = (struct rig){ .w = world_linux_new() };
	ASSERT(r->w && loop_new(r->w, &r->l) == ERR_NONE);
	r->arena = arena_make(world_mem(r->w), 1 << 20);
	r->ca = rig_cert(r, rig_key(RIG_EC), NULL, NULL, -RIG_DAY, 10 * RIG_DAY);
}

UNUSED static void rig_close(struct rig *r)
{
	tls_server_free(r->server);
	tls_client_free(r->client);
	for (size_t i = 0; i < r->certs_n; i++) {
		X509_free(r->certs[i].x);
		EVP_PKEY_free(r->certs[i].key);
	}
	X509_free(r->ca.x);
	EVP_PKEY_free(r->ca.key);
	arena_close(&r->arena);
	loop_free(r->l);
	world_linux_free(r->w);
}

/* A TCP connection over loopback. */
UNUSED static void rig_sockets(struct rig *r, int fds[2])
{
	struct ip at = { .family = IP_V4, .bits = 32, .b = { 127, 0, 0, 1 } }, peer;
	int listener;
	enum err e = world_listen(r->w, &at, 0, &listener);
	if (e == ERR_NONE)
		e = world_local_addr(r->w, listener, &at);
	if (e == ERR_NONE)
		e = world_connect(r->w, &at, NULL, &fds[1]);
	for (unsigned i = 0; e == ERR_NONE && i < 10000 && (e = world_accept(r->w, listener, &fds[0], &peer)) == ERR_BUSY; i++)
		e = ERR_NONE;
	ASSERT(e == ERR_NONE);
	world_close(r->w, listener);
}

/* ---- a client of plain OpenSSL ------------------------------------------------------------------------- */

struct raw {
	struct rig *r;
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
	size_t piece; /* bytes of one send; 0: all */
	bool closed;  /* the server has */
};

/* version: 0 any. The client verifies nothing. */
UNUSED static void raw_open(struct raw *c, struct rig *r, int fd, int version)
{
	*c = (struct raw){ .r = r, .fd = fd, .ctx = SSL_CTX_new(TLS_client_method()) };
	SSL_CTX_set_min_proto_version(c->ctx, version);
	SSL_CTX_set_max_proto_version(c->ctx, version);
	c->ssl = SSL_new(c->ctx);
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(c->in, -1);
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
}

UNUSED static void raw_close(struct raw *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	ERR_clear_error();
	if (c->fd >= 0)
		world_close(c->r->w, c->fd);
}

/* What OpenSSL wants to send is sent; what has come is given to it. */
UNUSED static YIELDS void raw_pump(struct raw *c)
{
	char buf[16384];
	size_t n, done;
	for (;;) {
		int got = BIO_read(c->out, buf, (int)(c->piece ? c->piece : sizeof buf));
		if (got <= 0)
			break;
		struct str s = str_of(buf, (size_t)got);
		while (s.n > 0 && world_send(c->r->w, c->fd, &s, 1, &done) == ERR_NONE)
			s = str_sub(s, done, s.n);
		if (c->piece && co_yield() != ERR_NONE)
			return;
	}
	enum err e = world_recv(c->r->w, c->fd, buf, sizeof buf, &n);
	if (e == ERR_NONE)
		BIO_write(c->in, buf, (int)n);
	else if (e != ERR_BUSY)
		c->closed = true;
	else if (co_sleep_until(world_measure_ns(c->r->w) + 100000) != ERR_NONE)
		c->closed = true;
}

/* 1, or OpenSSL's return code. */
UNUSED static YIELDS int raw_handshake(struct raw *c)
{
	for (;;) {
		ERR_clear_error();
		int r = SSL_do_handshake(c->ssl);
		int why = SSL_get_error(c->ssl, r);
		if (r == 1 || why != SSL_ERROR_WANT_READ || c->closed) {
			raw_pump(c);
			return r;
		}
		raw_pump(c);
	}
}

UNUSED static YIELDS int raw_read(struct raw *c, char *p, size_t n)
{
	for (;;) {
		ERR_clear_error();
		int r = SSL_read(c->ssl, p, (int)n);
		if (r > 0 || SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ || c->closed)
			return r;
		raw_pump(c);
	}
}

UNUSED static YIELDS void raw_write(struct raw *c, const char *text)
{
	ERR_clear_error();
	SSL_write(c->ssl, text, (int)strlen(text));
	raw_pump(c);
}

#endif
