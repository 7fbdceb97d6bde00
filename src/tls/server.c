/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side: certificates by name, tickets. See tls.h.
 *
 * A `face` is what one name shows: the first certificate of each kind of key that has it, in one SSL_CTX.
 * Names that show the same share a face. Face 0 is the first certificate's, and for all who ask for none of
 * our names. A handshake keeps its SSL_CTX, so all of this may be replaced at any time.
 */
#include "tls/tls_internal.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define CERTIFICATES_MAX 64u
#define NAMES_MAX 1024u
#define CHAIN_MAX 10
#define KINDS 3u /* RSA, EC, Ed25519 */
#define TICKET_SECONDS 86400L
#define SESSION_CONTEXT "godwit" /* all servers with the same ticket keys are one */

struct face {
	SSL_CTX *ctx;
	int16_t certificate[KINDS]; /* -1: none */
};
struct name {
	char text[256]; /* lower case */
	uint16_t face;
};
struct loaded {
	X509 *own;
	STACK_OF(X509) *others;
	EVP_PKEY *key;
	unsigned kind;
};

struct certificates {
	struct loaded v[CERTIFICATES_MAX];
	size_t n;
	struct face faces[256];
	size_t faces_n;
	struct name names[NAMES_MAX];
	size_t names_n;
};

struct tls_server {
	struct world *w;
	struct mem *mem;
	struct tls_library library;
	struct tls_signer signer;
	enum tls_least least;
	struct certificates *now; /* NULL: none */
	struct tls_conn *current; /* whose handshake OpenSSL is in */
	struct tls_ticket_key tickets[TLS_TICKET_KEYS_MAX];
	size_t tickets_n;
	EVP_CIPHER *ticket_cipher;
};

/* ---- tickets -------------------------------------------------------------------------------------- */

/* name, AES-256 key, HMAC key */
#define AES_AT TLS_TICKET_NAME_BYTES
#define MAC_AT (TLS_TICKET_NAME_BYTES + 32)

static int ticket_keys_use(const struct tls_server *t, const struct tls_ticket_key *k, unsigned char *iv, EVP_CIPHER_CTX *cipher,
			   EVP_MAC_CTX *mac, int encrypt)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)(k->bytes + MAC_AT), 32),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	return EVP_MAC_CTX_set_params(mac, params) == 1 &&
	       EVP_CipherInit_ex(cipher, t->ticket_cipher, NULL, k->bytes + AES_AT, iv, encrypt) == 1;
}

/* RFC 5077 §4. -1: no session; 0: not ours, a full handshake; 1: take it; 2: take it and give a new one. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	struct tls_server *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	if (encrypt) {
		if (t->tickets_n == 0)
			return 0;
		memcpy(name, t->tickets[0].bytes, TLS_TICKET_NAME_BYTES);
		world_random(t->w, iv, (size_t)EVP_CIPHER_get_iv_length(t->ticket_cipher));
		return ticket_keys_use(t, &t->tickets[0], iv, cipher, mac, 1) ? 1 : -1;
	}
	bool once = SSL_version(ssl) >= TLS1_3_VERSION; /* RFC 8446 §C.4: clients use a ticket once */
	for (size_t i = 0; i < t->tickets_n; i++)
		if (memcmp(name, t->tickets[i].bytes, TLS_TICKET_NAME_BYTES) == 0)
			return !ticket_keys_use(t, &t->tickets[i], iv, cipher, mac, 0) ? -1 : i > 0 || once ? 2 : 1;
	return 0;
}

void tls_server_ticket_keys(struct tls_server *t, const struct tls_ticket_key *keys, size_t n)
{
	OPENSSL_cleanse(t->tickets, sizeof t->tickets);
	t->tickets_n = n < TLS_TICKET_KEYS_MAX ? n : TLS_TICKET_KEYS_MAX;
	if (t->tickets_n)
		memcpy(t->tickets, keys, t->tickets_n * sizeof *keys);
}

/* ---- names ------------------------------------------------------------------------------------------ */

static const struct face *face_by_name(const struct certificates *c, const char *name)
{
	for (size_t i = 0; i < c->names_n; i++)
		if (OPENSSL_strcasecmp(c->names[i].text, name) == 0)
			return &c->faces[c->names[i].face];
	return NULL;
}

/* RFC 6066 §3. H58: a name is only looked up in memory, and an unknown one gets the first certificate. */
static int on_server_name(SSL *ssl, int *alert UNUSED, void *arg)
{
	struct tls_server *t = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	char pattern[258] = "*";
	if (!name || !t->now)
		return SSL_TLSEXT_ERR_NOACK;
	const struct face *f = face_by_name(t->now, name);
	const char *dot = strchr(name, '.');
	if (!f && dot && strlen(dot) < sizeof pattern - 1) {
		memcpy(pattern + 1, dot, strlen(dot) + 1);
		f = face_by_name(t->now, pattern);
	}
	if (!f)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_set_SSL_CTX(ssl, f->ctx) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/*
 * RFC 7301 §3.2: a client that names protocols and not ours gets the alert no_application_protocol. So a web
 * browser that was led here ends before it has said anything (H60).
 */
static int on_protocols(SSL *ssl UNUSED, const unsigned char **out, unsigned char *n_out, const unsigned char *list, unsigned n,
			void *arg UNUSED)
{
	static const unsigned char ours[] = { 's', 'm', 't', 'p' };
	for (unsigned at = 0; at < n && list[at] < n - at; at += list[at] + 1u)
		if (list[at] == sizeof ours && memcmp(list + at + 1, ours, sizeof ours) == 0) {
			*out = ours;
			*n_out = sizeof ours;
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Whether certificate i has the name itself (wildcards compare as text). */
static bool has_name(const struct loaded *l, const char *name)
{
	return X509_check_host(l->own, name, 0, name[0] == '*' ? X509_CHECK_FLAG_NO_WILDCARDS : 0, NULL) == 1;
}

/* ---- loading ------------------------------------------------------------------------------------------ */

static X509 *next_certificate(const struct tls_server *t, BIO *b)
{
	X509 *x = X509_new_ex(t->library.ctx, NULL);
	if (x && !PEM_read_bio_X509(b, &x, NULL, NULL)) {
		X509_free(x);
		return NULL;
	}
	return x;
}

static enum err load_chain(const struct tls_server *t, struct str pem, struct loaded *l)
{
	BIO *b = pem.n && pem.n < INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	l->others = sk_X509_new_null();
	l->own = b ? next_certificate(t, b) : NULL;
	enum err e = l->own && l->others ? ERR_NONE : ERR_SYNTAX;
	for (X509 *x; e == ERR_NONE && (x = next_certificate(t, b));) {
		if (sk_X509_num(l->others) < CHAIN_MAX && sk_X509_push(l->others, x) > 0)
			continue;
		X509_free(x);
		e = ERR_SYNTAX;
	}
	BIO_free(b);
	ERR_clear_error();
	return e;
}

static enum err load(struct tls_server *t, const struct tls_certificate *from, struct loaded *l)
{
	TRY(load_chain(t, from->chain, l));
	struct tls_remote r = { t->signer, from->key, X509_get0_pubkey(l->own), &t->current };
	if (!r.public_half)
		return ERR_SYNTAX;
	l->kind = EVP_PKEY_is_a(r.public_half, "RSA") ? 0 : EVP_PKEY_is_a(r.public_half, "EC") ? 1 : 2;
	l->key = tls_remote_key(&t->library, &r);
	return l->key ? ERR_NONE : ERR_SYNTAX;
}

static enum err face_context(struct tls_server *t, const struct certificates *c, struct face *f)
{
	f->ctx = SSL_CTX_new_ex(t->library.ctx, NULL, TLS_server_method());
	if (!f->ctx)
		return ERR_NO_MEMORY;
	TRY(tls_context_settings(f->ctx, t->least));
	SSL_CTX_set_app_data(f->ctx, t);
	SSL_CTX_set_timeout(f->ctx, TICKET_SECONDS);
	SSL_CTX_set_num_tickets(f->ctx, 1);
	SSL_CTX_set_tlsext_servername_callback(f->ctx, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(f->ctx, t);
	SSL_CTX_set_alpn_select_cb(f->ctx, on_protocols, NULL);
	bool ok = SSL_CTX_set_tlsext_ticket_key_evp_cb(f->ctx, on_ticket) == 1 &&
		  SSL_CTX_set_session_id_context(f->ctx, (const unsigned char *)SESSION_CONTEXT, sizeof SESSION_CONTEXT - 1) == 1;
	for (unsigned k = 0; ok && k < KINDS; k++) {
		const struct loaded *l = f->certificate[k] < 0 ? NULL : &c->v[f->certificate[k]];
		if (l && SSL_CTX_use_cert_and_key(f->ctx, l->own, l->key, l->others, 1) != 1)
			return ERR_SYNTAX; /* a key too weak, a curve that TLS does not have */
	}
	return ok ? ERR_NONE : ERR_NO_MEMORY;
}

/* The face that shows `certificate`, made if there is none. */
static enum err face_of(struct tls_server *t, struct certificates *c, const int16_t certificate[KINDS], uint16_t *out)
{
	for (size_t i = 0; i < c->faces_n; i++)
		if (memcmp(c->faces[i].certificate, certificate, sizeof c->faces[i].certificate) == 0) {
			*out = (uint16_t)i;
			return ERR_NONE;
		}
	if (c->faces_n == sizeof c->faces / sizeof c->faces[0])
		return ERR_LIMIT;
	struct face *f = &c->faces[c->faces_n];
	memcpy(f->certificate, certificate, sizeof f->certificate);
	*out = (uint16_t)c->faces_n++;
	return face_context(t, c, f);
}

static enum err add_name(struct tls_server *t, struct certificates *c, struct str name)
{
	char text[256];
	int16_t show[KINDS] = { -1, -1, -1 };
	if (name.n == 0 || name.n >= sizeof text || memchr(name.p, 0, name.n) || c->names_n == NAMES_MAX)
		return ERR_NONE; /* nobody can ask for it; or enough */
	memcpy(text, name.p, name.n);
	text[name.n] = '\0';
	for (size_t i = 0; i < c->names_n; i++)
		if (OPENSSL_strcasecmp(c->names[i].text, text) == 0)
			return ERR_NONE;
	for (size_t i = 0; i < c->n; i++)
		if (show[c->v[i].kind] < 0 && has_name(&c->v[i], text))
			show[c->v[i].kind] = (int16_t)i;
	struct name *to = &c->names[c->names_n];
	TRY(face_of(t, c, show, &to->face));
	memcpy(to->text, text, name.n + 1);
	c->names_n++;
	return ERR_NONE;
}

static enum err add_names(struct tls_server *t, struct certificates *c, const struct loaded *l)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(l->own, NID_subject_alt_name, NULL, NULL);
	enum err e = ERR_NONE;
	for (int i = 0; e == ERR_NONE && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type == GEN_DNS)
			e = add_name(t, c, str_of((const char *)ASN1_STRING_get0_data(g->d.dNSName),
						  (size_t)ASN1_STRING_length(g->d.dNSName)));
	}
	GENERAL_NAMES_free(names);
	return e;
}

/* Face 0: the first certificate, and of other kinds those that share a name with it. */
static enum err first_face(struct tls_server *t, struct certificates *c)
{
	int16_t show[KINDS] = { -1, -1, -1 };
	uint16_t face;
	show[c->v[0].kind] = 0;
	GENERAL_NAMES *names = X509_get_ext_d2i(c->v[0].own, NID_subject_alt_name, NULL, NULL);
	for (int k = 0; k < sk_GENERAL_NAME_num(names); k++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, k);
		for (size_t i = 1; g->type == GEN_DNS && i < c->n; i++)
			if (show[c->v[i].kind] < 0 && ASN1_STRING_length(g->d.dNSName) > 0 &&
			    has_name(&c->v[i], (const char *)ASN1_STRING_get0_data(g->d.dNSName)))
				show[c->v[i].kind] = (int16_t)i;
	}
	GENERAL_NAMES_free(names);
	return face_of(t, c, show, &face);
}

static void certificates_free(struct tls_server *t, struct certificates *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->faces_n; i++)
		SSL_CTX_free(c->faces[i].ctx);
	for (size_t i = 0; i < CERTIFICATES_MAX; i++) {
		X509_free(c->v[i].own);
		sk_X509_pop_free(c->v[i].others, X509_free);
		EVP_PKEY_free(c->v[i].key);
	}
	mem_free(t->mem, c);
	ERR_clear_error();
}

enum err tls_server_certificates(struct tls_server *t, const struct tls_certificate *list, size_t n, size_t *bad_out)
{
	struct certificates *c = n ? mem_alloc(t->mem, sizeof *c) : NULL;
	enum err e = n > CERTIFICATES_MAX ? ERR_LIMIT : n && !c ? ERR_NO_MEMORY : ERR_NONE;
	*bad_out = n;
	for (size_t i = 0; e == ERR_NONE && i < n; i++) {
		e = load(t, &list[i], &c->v[i]);
		if (e == ERR_NONE) { /* alone first: so we know which one is bad */
			struct face alone = { .certificate = { -1, -1, -1 } };
			alone.certificate[c->v[i].kind] = (int16_t)i;
			e = face_context(t, c, &alone);
			SSL_CTX_free(alone.ctx);
		}
		if (e == ERR_SYNTAX)
			*bad_out = i;
		c->n = i + 1;
	}
	if (e == ERR_NONE && n)
		e = first_face(t, c);
	for (size_t i = 0; e == ERR_NONE && i < n; i++)
		e = add_names(t, c, &c->v[i]);
	if (e != ERR_NONE) {
		certificates_free(t, c);
		return e;
	}
	certificates_free(t, t->now);
	t->now = c;
	return ERR_NONE;
}

bool tls_server_ready(const struct tls_server *t)
{
	return t && t->now;
}

/* ---- first and last -------------------------------------------------------------------------------------- */

enum err tls_server_new(struct world *w, const struct tls_signer *signer, enum tls_least least, struct tls_server **out)
{
	struct tls_server *t = mem_alloc(world_mem(w), sizeof *t);
	if (!t)
		return ERR_NO_MEMORY;
	*t = (struct tls_server){ .w = w, .mem = world_mem(w), .signer = *signer, .least = least };
	enum err e = tls_library_open(&t->library);
	if (e == ERR_NONE)
		t->ticket_cipher = EVP_CIPHER_fetch(t->library.ctx, "AES-256-CBC", NULL);
	if (!t->ticket_cipher) {
		tls_server_free(t);
		return ERR_NO_MEMORY;
	}
	*out = t;
	return ERR_NONE;
}

void tls_server_free(struct tls_server *t)
{
	if (!t)
		return;
	certificates_free(t, t->now);
	EVP_CIPHER_free(t->ticket_cipher);
	tls_library_close(&t->library);
	OPENSSL_cleanse(t->tickets, sizeof t->tickets);
	mem_free(t->mem, t);
}

enum err tls_accept(struct tls_server *t, struct stream *s)
{
	struct tls_conn *c;
	ASSERT(s->in_from == s->in_to && tls_server_ready(t));
	TRY(tls_conn_open(&t->library, t->now->faces[0].ctx, s, &c));
	if (t->tickets_n == 0) {
		SSL_set_options(c->ssl, SSL_OP_NO_TICKET);
		SSL_set_num_tickets(c->ssl, 0);
	}
	SSL_set_accept_state(c->ssl);
	return tls_handshake(c, &t->current);
}
