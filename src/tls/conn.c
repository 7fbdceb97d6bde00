/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over OpenSSL: the way to the socket, the handshake, what was agreed. See tls.h; input is hostile. */
#include "tls/tls_internal.h"

#include <openssl/provider.h>
#include <openssl/x509_vfy.h>

#define LATE_MAX 64u /* KeyUpdates and attempted renegotiations of one connection (H57) */
#define BIO_KIND (BIO_TYPE_SOURCE_SINK | 200)
#define BINDING_LABEL "EXPORTER-Channel-Binding" /* RFC 9266 §2 */
#define BINDING_BYTES 32u

/* ---- the way to the socket ------------------------------------------------------------------------- */

static int bio_read(BIO *b, char *p, size_t n, size_t *n_out)
{
	struct tls_conn *c = BIO_get_data(b);
	struct source *src = &c->s->src;
	BIO_clear_retry_flags(b);
	enum err e = c->late > LATE_MAX ? ERR_LIMIT : ERR_BUSY;
	if (e == ERR_BUSY && src->ready & WORLD_IN)
		e = world_recv(loop_world(src->loop), src->fd, p, n, n_out);
	if (e == ERR_NONE) {
		/* A short read has emptied the socket: a call saved. But an end that is there makes no new event. */
		if (*n_out < n && !(src->ready & WORLD_END))
			source_block(src, WORLD_IN);
		return 1;
	}
	if (e == ERR_BUSY)
		BIO_set_retry_read(b);
	else
		c->io = e;
	return 0;
}

/* The server's tickets need no haste: what is said next goes with them. */
static bool is_ticket(const struct tls_conn *c)
{
	return SSL_version(c->ssl) == TLS1_3_VERSION && SSL_get_state(c->ssl) == TLS_ST_SW_SESSION_TICKET;
}

static int bio_write(BIO *b, const char *p, size_t n, size_t *n_out)
{
	struct tls_conn *c = BIO_get_data(b);
	struct str part = str_of(p, n);
	BIO_clear_retry_flags(b);
	struct world *w = loop_world(c->s->src.loop);
	bool more = c->s->more || is_ticket(c);
	enum err e = more ? world_send_more(w, c->s->src.fd, &part, 1, n_out) : world_send(w, c->s->src.fd, &part, 1, n_out);
	if (e == ERR_NONE)
		return 1;
	if (e == ERR_BUSY || e == ERR_LIMIT) /* the latter: the kernel is short of memory for a moment */
		BIO_set_retry_write(b);
	if (e != ERR_BUSY)
		c->io = e;
	return 0;
}

static long bio_control(BIO *b UNUSED, int what, long n UNUSED, void *p UNUSED)
{
	return what == BIO_CTRL_FLUSH;
}

enum err tls_library_open(struct tls_library *l)
{
	*l = (struct tls_library){ 0 };
	/* No configuration file, no atexit(): the process ends as it likes. */
	if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
		return ERR_NO_MEMORY;
	l->ctx = OSSL_LIB_CTX_new();
	l->bio = BIO_meth_new(BIO_KIND, "stream");
	if (!l->ctx || !l->bio)
		return ERR_NO_MEMORY;
	BIO_meth_set_read_ex(l->bio, bio_read);
	BIO_meth_set_write_ex(l->bio, bio_write);
	BIO_meth_set_ctrl(l->bio, bio_control);
	l->base = OSSL_PROVIDER_load(l->ctx, "default");
	if (l->base && OSSL_PROVIDER_add_builtin(l->ctx, "godwit", tls_remote_init))
		l->remote = OSSL_PROVIDER_load(l->ctx, "godwit");
	if (!l->remote || !EVP_set_default_properties(l->ctx, "?provider!=godwit"))
		return ERR_NO_MEMORY;
	return ERR_NONE;
}

void tls_library_close(struct tls_library *l)
{
	if (l->remote)
		OSSL_PROVIDER_unload(l->remote);
	if (l->base)
		OSSL_PROVIDER_unload(l->base);
	OSSL_LIB_CTX_free(l->ctx);
	BIO_meth_free(l->bio);
	ERR_clear_error();
	*l = (struct tls_library){ 0 };
}

/* ---- connections --------------------------------------------------------------------------------------- */

static enum err result_of(struct tls_conn *c, int r, unsigned *wait_out)
{
	switch (SSL_get_error(c->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		*wait_out = WORLD_IN;
		return ERR_BUSY;
	case SSL_ERROR_WANT_WRITE:
		*wait_out = WORLD_OUT;
		if (c->io != ERR_LIMIT)
			return ERR_BUSY;
		c->io = ERR_NONE;
		return ERR_LIMIT;
	case SSL_ERROR_ZERO_RETURN:
		return ERR_EOF;
	default:
		c->dead = true;
		return ERR_CLOSED;
	}
}

static enum err tls_recv(struct stream *s, void *p, size_t n, size_t *n_out, unsigned *wait_out)
{
	struct tls_conn *c = s->tls;
	if (!c->done || c->dead)
		return ERR_CLOSED;
	ERR_clear_error();
	int r = SSL_read_ex(c->ssl, p, n, n_out);
	return r == 1 ? ERR_NONE : result_of(c, r, wait_out);
}

static enum err tls_send(struct stream *s, const struct str *parts, size_t count, size_t *n_out, unsigned *wait_out)
{
	struct tls_conn *c = s->tls;
	*n_out = 0;
	if (!c->done || c->dead || c->ended)
		return ERR_CLOSED;
	for (size_t i = 0; i < count; i++) {
		size_t n = 0;
		ERR_clear_error();
		int r = parts[i].n ? SSL_write_ex(c->ssl, parts[i].p, parts[i].n, &n) : 1;
		if (r != 1)
			return *n_out ? ERR_NONE : result_of(c, r, wait_out);
		*n_out += n;
		if (n < parts[i].n)
			break;
	}
	return ERR_NONE;
}

/* RFC 8446 §6.1: close_notify. What does not go out at once is left: nobody waits at the end. */
static void say_goodbye(struct tls_conn *c)
{
	if (!c->done || c->dead || c->ended)
		return;
	c->ended = true;
	ERR_clear_error();
	c->s->more = true; /* both who call end the connection next: one packet */
	(void)SSL_shutdown(c->ssl);
}

static void tls_end(struct stream *s)
{
	say_goodbye(s->tls);
	world_shutdown_send(loop_world(s->src.loop), s->src.fd);
}

static void tls_close(struct stream *s)
{
	struct tls_conn *c = s->tls;
	say_goodbye(c);
	SSL_free(c->ssl);
	ERR_clear_error();
	mem_free(c->mem, c);
	s->tls = NULL;
}

static const struct stream_ops tls_ops = { tls_recv, tls_send, tls_end, tls_close };

struct tls_conn *tls_conn_of(const struct stream *s)
{
	return s->ops == &tls_ops ? s->tls : NULL;
}

/* H57: KeyUpdate (24) and what begins another handshake (ClientHello 1, HelloRequest 0), once the first is over. */
static void count_late(int write, int version UNUSED, int type, const void *p, size_t n, SSL *ssl UNUSED, void *arg)
{
	struct tls_conn *c = arg;
	const unsigned char *message = p;
	if (!write && type == SSL3_RT_HANDSHAKE && n > 0 && c->done &&
	    (message[0] == SSL3_MT_KEY_UPDATE || message[0] == SSL3_MT_CLIENT_HELLO || message[0] == SSL3_MT_HELLO_REQUEST))
		c->late++;
}

enum err tls_context_settings(SSL_CTX *c, enum tls_least least)
{
	char groups[] = "X25519:P-256:X448:P-384:P-521"; /* OpenSSL's macro casts const away */
	/* RFC 9325 §3.1.1, §3.3, §3.5, §4.2: no older versions, compression or renegotiation; AEAD with forward secrecy */
	SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
				       SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				    SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(c, 1);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify_depth(c, 10);
	SSL_CTX_set_msg_callback(c, count_late);
	bool ok = SSL_CTX_set_min_proto_version(c, least == TLS_LEAST_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
		  SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) == 1 &&
		  SSL_CTX_set_cipher_list(c, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
		  SSL_CTX_set1_groups_list(c, groups) == 1;
	return ok ? ERR_NONE : ERR_NO_MEMORY;
}

enum err tls_conn_open(const struct tls_library *l, SSL_CTX *ctx, struct stream *s, struct tls_conn **out)
{
	struct mem *mem = loop_mem(s->src.loop);
	struct tls_conn *c = mem_alloc(mem, sizeof *c);
	if (!c)
		return ERR_NO_MEMORY;
	ERR_clear_error();
	*c = (struct tls_conn){ .ssl = SSL_new(ctx), .s = s, .mem = mem, .why = "", .result = TLS_RESULT_BROKEN };
	BIO *b = BIO_new(l->bio);
	if (!c->ssl || !b) {
		BIO_free(b);
		SSL_free(c->ssl);
		mem_free(mem, c);
		ERR_clear_error();
		return ERR_NO_MEMORY;
	}
	BIO_set_data(b, c);
	BIO_set_init(b, 1);
	SSL_set_bio(c->ssl, b, b);
	SSL_set_msg_callback_arg(c->ssl, c);
	s->tls = c;
	s->ops = &tls_ops;
	*out = c;
	return ERR_NONE;
}

/* ---- the handshake ---------------------------------------------------------------------------------- */

static enum tls_result agreement(int reason)
{
	switch (reason) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_NO_PROTOCOLS_AVAILABLE:
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_GROUPS:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
	case SSL_R_NO_SHARED_GROUPS:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
	case SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
		return TLS_RESULT_NO_AGREEMENT;
	default:
		return TLS_RESULT_BROKEN;
	}
}

static enum tls_result by_verification(long v)
{
	switch (v) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return TLS_RESULT_WRONG_NAME;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return TLS_RESULT_EXPIRED;
	case X509_V_ERR_DANE_NO_MATCH:
		return TLS_RESULT_TLSA_MISMATCH;
	default:
		return TLS_RESULT_NOT_TRUSTED;
	}
}

void tls_note_failure(struct tls_conn *c, const char *fallback)
{
	unsigned long code = ERR_peek_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;
	long v = SSL_is_server(c->ssl) ? X509_V_OK : SSL_get_verify_result(c->ssl);
	c->why = text ? text : fallback;
	c->result = (uint8_t)(code ? agreement(ERR_GET_REASON(code)) : TLS_RESULT_BROKEN);
	if (c->sign != ERR_NONE)
		c->why = "the private key was not to be had";
	if (v != X509_V_OK && SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE) {
		c->why = X509_verify_cert_error_string(v);
		c->result = (uint8_t)by_verification(v);
	}
}

static enum err handshake_failed(struct tls_conn *c)
{
	if (c->io != ERR_NONE && ERR_peek_error() == 0) {
		c->why = c->io == ERR_EOF ? "the connection was closed" : c->io == ERR_CLOSED ? "the connection broke" : err_name(c->io);
		return c->io;
	}
	tls_note_failure(c, "the connection was closed");
	if (c->io == ERR_EOF && c->sign == ERR_NONE && c->result == TLS_RESULT_BROKEN) {
		c->why = "the connection was closed";
		return ERR_EOF;
	}
	return c->sign != ERR_NONE ? c->sign : ERR_SYNTAX;
}

enum err tls_handshake(struct tls_conn *c, struct tls_conn **current)
{
	struct source *src = &c->s->src;
	for (;;) {
		unsigned wait = WORLD_IN;
		ERR_clear_error();
		if (current)
			*current = c;
		int r = SSL_do_handshake(c->ssl);
		if (r == 1)
			break;
		enum err e = result_of(c, r, &wait);
		if (e != ERR_BUSY)
			return handshake_failed(c);
		source_block(src, wait);
		e = source_wait(src, wait);
		if (e != ERR_NONE) {
			c->dead = true;
			c->why = e == ERR_TIMEOUT ? "it took too long" : "it was given up";
			return e;
		}
	}
	c->done = true;
	c->result = TLS_RESULT_OK;
	return ERR_NONE;
}

/* ---- what was agreed ------------------------------------------------------------------------------------ */

bool stream_is_tls(const struct stream *s)
{
	const struct tls_conn *c = tls_conn_of(s);
	return c && c->done;
}

struct tls_info tls_info(const struct stream *s)
{
	const struct tls_conn *c = tls_conn_of(s);
	if (!c || !c->done)
		return (struct tls_info){ 0 };
	return (struct tls_info){
		.version = str_z(SSL_get_version(c->ssl)),
		.cipher = str_z(SSL_get_cipher_name(c->ssl)),
		.bits = (unsigned)SSL_get_cipher_bits(c->ssl, NULL),
		.server_name = str_z(SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name)),
		.resumed = SSL_session_reused(c->ssl) == 1,
		.verified = c->verified,
	};
}

bool tls_has_more(const struct stream *s)
{
	const struct tls_conn *c = tls_conn_of(s);
	return c && SSL_has_pending(c->ssl) == 1;
}

enum tls_result tls_result(const struct stream *s)
{
	const struct tls_conn *c = tls_conn_of(s);
	return c ? (enum tls_result)c->result : TLS_RESULT_BROKEN;
}

struct str tls_why(const struct stream *s)
{
	const struct tls_conn *c = tls_conn_of(s);
	return str_z(c ? c->why : "");
}

/* RFC 5929 §4.1: the hash of the server's certificate; that of its signature, SHA-256 for MD5 and SHA-1. */
static enum err end_point(const struct tls_conn *c, unsigned char *out, size_t *n_out)
{
	X509 *own = SSL_is_server(c->ssl) ? SSL_get_certificate(c->ssl) : NULL;
	X509 *theirs = own ? NULL : SSL_get1_peer_certificate(c->ssl);
	int digest = NID_undef;
	unsigned n = 0;
	enum err e = ERR_NOT_FOUND;
	if ((own || theirs) && X509_get_signature_info(own ? own : theirs, &digest, NULL, NULL, NULL) == 1 && digest != NID_undef) {
		const EVP_MD *md = digest == NID_md5 || digest == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest);
		if (md && EVP_MD_get_size(md) <= (int)TLS_BINDING_MAX && X509_digest(own ? own : theirs, md, out, &n) == 1)
			e = ERR_NONE;
	}
	X509_free(theirs);
	*n_out = n;
	return e;
}

enum err tls_binding(const struct stream *s, enum tls_binding type, unsigned char out[TLS_BINDING_MAX], size_t *n_out)
{
	const struct tls_conn *c = tls_conn_of(s);
	if (!c || !c->done)
		return ERR_NOT_FOUND;
	ERR_clear_error();
	if (type == TLS_BINDING_SERVER_END_POINT)
		return end_point(c, out, n_out);
	/* RFC 9266 §2; §3: with TLS 1.2 only where the extended master secret makes it unique */
	if (SSL_version(c->ssl) < TLS1_3_VERSION && SSL_get_extms_support(c->ssl) != 1)
		return ERR_NOT_FOUND;
	if (SSL_export_keying_material(c->ssl, out, BINDING_BYTES, BINDING_LABEL, sizeof BINDING_LABEL - 1, (const unsigned char *)"", 0,
				       1) != 1)
		return ERR_NOT_FOUND;
	*n_out = BINDING_BYTES;
	return ERR_NONE;
}
