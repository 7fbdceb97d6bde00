/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side: what the other end's certificate must satisfy. See tls.h. No session is ever resumed:
 * nothing would be verified then. */
#include "tls/tls_internal.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/buf.h"

#define CA_FILE_MAX ((size_t)8 << 20)
#define SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define ANY_LEVEL 1 /* OpenSSL's security level where anything is better than plaintext (RFC 7435 §3) */

struct tls_client {
	struct world *w;
	struct mem *mem;
	struct tls_library library;
	SSL_CTX *ctx;
};

static enum err trust(struct tls_client *t, struct str pem)
{
	BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
	X509_STORE *store = SSL_CTX_get_cert_store(t->ctx);
	size_t n = 0;
	for (X509 *x; b && (x = PEM_read_bio_X509(b, NULL, NULL, NULL));) {
		n += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	BIO_free(b);
	ERR_clear_error();
	return n ? ERR_NONE : ERR_SYNTAX;
}

static enum err read_trust(struct tls_client *t, struct str ca_file)
{
	struct buf b = buf_grow(t->mem, CA_FILE_MAX);
	enum err e = world_read_file(t->w, WORLD_ABSOLUTE, ca_file.n ? ca_file : STR(SYSTEM_CA_FILE), CA_FILE_MAX, &b);
	if (e == ERR_NONE)
		e = trust(t, buf_str(&b));
	buf_free(&b);
	return e == ERR_NOT_FOUND && ca_file.n == 0 ? ERR_NONE : e; /* then nobody is trusted */
}

enum err tls_client_new_trustless(struct world *w, struct tls_client **out)
{
	struct tls_client *t = mem_alloc(world_mem(w), sizeof *t);
	if (!t)
		return ERR_NO_MEMORY;
	*t = (struct tls_client){ .w = w, .mem = world_mem(w) };
	enum err e = tls_library_open(&t->library);
	if (e == ERR_NONE) {
		t->ctx = SSL_CTX_new_ex(t->library.ctx, NULL, TLS_client_method());
		e = t->ctx ? tls_context_settings(t->ctx, TLS_LEAST_1_2) : ERR_NO_MEMORY;
	}
	if (e == ERR_NONE && SSL_CTX_dane_enable(t->ctx) != 1)
		e = ERR_NO_MEMORY;
	if (e == ERR_NONE) {
		SSL_CTX_dane_set_flags(t->ctx, DANE_FLAG_NO_DANE_EE_NAMECHECKS); /* RFC 7672 §3.1.1 */
		SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET);
		*out = t;
	} else {
		tls_client_free(t);
	}
	return e;
}

enum err tls_client_new(struct world *w, struct str ca_file, struct tls_client **out)
{
	TRY(tls_client_new_trustless(w, out));
	enum err e = read_trust(*out, ca_file);
	if (e != ERR_NONE) {
		tls_client_free(*out);
		*out = NULL;
	}
	return e;
}

void tls_client_free(struct tls_client *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	tls_library_close(&t->library);
	mem_free(t->mem, t);
}

bool tls_tlsa_usable(const struct tls_tlsa *r)
{
	static const size_t bytes[] = { 0, 32, 64 }; /* matching types: all of it, SHA-256, SHA-512 */
	if ((r->usage != 2 && r->usage != 3) || r->selector > 1 || r->matching > 2)
		return false;
	return r->matching == 0 ? r->data.n > 0 : r->data.n == bytes[r->matching];
}

/* ---- what is wished --------------------------------------------------------------------------------- */

/* A C string of a name; false: it cannot be one. */
static bool to_z(struct str s, char out[256])
{
	if (s.n == 0 || s.n > 255 || memchr(s.p, 0, s.n))
		return false;
	memcpy(out, s.p, s.n);
	out[s.n] = '\0';
	return true;
}

static enum err wish_names(SSL *ssl, const struct tls_wish *w, size_t from)
{
	char name[256];
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	for (size_t i = from; i < w->names_n; i++) {
		if (!to_z(w->names[i], name))
			return ERR_SYNTAX;
		if ((i == 0 ? SSL_set1_host(ssl, name) : SSL_add1_host(ssl, name)) != 1)
			return ERR_NO_MEMORY;
	}
	return ERR_NONE;
}

static enum err wish_dane(SSL *ssl, const struct tls_wish *w)
{
	char base[256];
	if (w->names_n == 0 || !to_z(w->names[0], base))
		return ERR_SYNTAX;
	if (SSL_dane_enable(ssl, base) != 1) /* names[0] is a reference identity by this */
		return ERR_NO_MEMORY;
	TRY(wish_names(ssl, w, 1));
	for (size_t i = 0; i < w->tlsa_n; i++) {
		const struct tls_tlsa *r = &w->tlsa[i];
		if (tls_tlsa_usable(r) && SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching,
							    (const unsigned char *)r->data.p, r->data.n) < 0)
			return ERR_NO_MEMORY;
	}
	return ERR_NONE;
}

static enum err wish(const struct tls_client *t, SSL *ssl, const struct tls_wish *w)
{
	char sni[256];
	if (w->sni.n && (!to_z(w->sni, sni) || SSL_set_tlsext_host_name(ssl, sni) != 1))
		return ERR_SYNTAX;
	X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), (time_t)(world_wall_ms(t->w) / 1000));
	if (w->verify == TLS_VERIFY_NONE) {
		SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
		SSL_set_security_level(ssl, ANY_LEVEL);
		return ERR_NONE;
	}
	SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	if (w->verify == TLS_VERIFY_DANE)
		return wish_dane(ssl, w);
	return w->names_n ? wish_names(ssl, w, 0) : ERR_SYNTAX;
}

enum err tls_connect(struct tls_client *t, struct stream *s, const struct tls_wish *w)
{
	struct tls_conn *c;
	ASSERT(s->in_from == s->in_to);
	TRY(tls_conn_open(&t->library, t->ctx, s, &c));
	ERR_clear_error();
	SSL_set_connect_state(c->ssl);
	enum err e = wish(t, c->ssl, w);
	if (e != ERR_NONE) {
		c->dead = true;
		c->why = "the name or the TLSA records cannot be used";
		return e;
	}
	TRY(tls_handshake(c, NULL));
	c->verified = w->verify != TLS_VERIFY_NONE && SSL_get_verify_result(c->ssl) == X509_V_OK;
	return ERR_NONE;
}
