/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tls/ share. Nobody else includes this. */
#ifndef TLS_TLS_INTERNAL_H
#define TLS_TLS_INTERNAL_H

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "tls/tls.h"

/* One side of one stream: stream.tls. */
struct tls_conn {
	SSL *ssl;
	struct stream *s;
	struct mem *mem;
	const char *why;      /* constant */
	enum err io, sign;    /* what the socket and the signer said last, if it was an error */
	uint8_t result;	      /* enum tls_result */
	uint16_t late;	      /* handshake messages behind the handshake */
	bool done, dead;      /* the handshake is over; nothing more can be done with it */
	bool ended, verified; /* close_notify is sent */
};

/*
 * OpenSSL, with a library context of our own: what the system's openssl.cnf says does not concern us, and
 * other users of OpenSSL in the process do not either.
 */
struct tls_library {
	OSSL_LIB_CTX *ctx;
	OSSL_PROVIDER *base, *remote;
	BIO_METHOD *bio;
};
enum err tls_library_open(struct tls_library *l) MUST_CHECK;
void tls_library_close(struct tls_library *l);

/* provider.c: a private key that is somewhere else. `current`: whose handshake OpenSSL is in just now. */
struct tls_remote {
	struct tls_signer signer;
	uint32_t key;
	EVP_PKEY *public_half;
	struct tls_conn **current;
};
/* NULL: no memory, or a kind of key that we do not have. Takes over nothing: the public half gets a reference. */
EVP_PKEY *tls_remote_key(const struct tls_library *l, const struct tls_remote *r);
extern OSSL_provider_init_fn tls_remote_init;

/* conn.c */
/* Settings that both sides have. */
enum err tls_context_settings(SSL_CTX *c, enum tls_least least) MUST_CHECK;
/* Makes the connection over s and its ops. ERR_NO_MEMORY. */
enum err tls_conn_open(const struct tls_library *l, SSL_CTX *c, struct stream *s, struct tls_conn **out) MUST_CHECK;
/* current: set before each call of OpenSSL, or NULL. */
YIELDS enum err tls_handshake(struct tls_conn *c, struct tls_conn **current) MUST_CHECK;
struct tls_conn *tls_conn_of(const struct stream *s); /* NULL: plain */
/* Fills in why and result from OpenSSL's queue of errors; `fallback` when that is empty. */
void tls_note_failure(struct tls_conn *c, const char *fallback);

#endif
