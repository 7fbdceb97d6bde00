/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over a stream (RFC 8446, 5246; recommendations of RFC 9325), by OpenSSL. After a handshake the
 * stream is used as before: stream_fill(), stream_write() and the rest carry plaintext.
 *
 * Private keys are not here (P4). A certificate is used with a handle that names its key in the process
 * `keys`; OpenSSL asks our provider (provider.c) to sign, which asks struct tls_signer and waits in the
 * coroutine: a handshake yields, inside OpenSSL, on the session's own stack.
 *
 * OpenSSL keeps one queue of errors a thread, which all coroutines share: each call of it is preceded by
 * ERR_clear_error(), and nothing of the queue is read after a yield.
 *
 * Input from the other end is hostile at every byte. OpenSSL's own limits hold, ours are: handshake messages
 * behind the handshake (KeyUpdate, renegotiation; H57), and the deadline of the coroutine.
 *
 * An end without close_notify is ERR_CLOSED, never ERR_EOF: somebody may have cut the stream off (RFC 8446 §6.1).
 *
 * The coroutine of a handshake needs TLS_STACK: signatures and certificates are worked on there.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "base/arena.h"
#include "co/stream.h"

/* ---- keys elsewhere ---------------------------------------------------------------------------- */

enum tls_padding { TLS_PADDING_NONE, TLS_PADDING_PKCS1, TLS_PADDING_PSS };

#define TLS_SIGNATURE_MAX 1024u /* RSA of 8192 bits */
#define TLS_SIGNED_MAX 512u	/* the bytes to be signed: a TLS 1.2 ServerKeyExchange has up to 201 */
#define TLS_STACK CO_STACK_SMALL /* measured: docs/measurements.md */

/* Who signs. */
struct tls_signer {
	/*
	 * Signs `bytes` with the key of this number. digest: "SHA256", …; empty for Ed25519, which hashes
	 * itself. sig: room for TLS_SIGNATURE_MAX. Any error fails the handshake and nothing else;
	 * tls_accept() returns it.
	 */
	YIELDS enum err (*sign)(void *arg, uint32_t key, struct str digest, enum tls_padding padding, struct str bytes,
				char *sig, size_t *sig_n_out);
	void *arg;
};

/* ---- the server's side --------------------------------------------------------------------------- */

struct tls_server; /* certificates, ticket keys and settings of one process */

/* One certificate. Several may be for one name (ECDSA and RSA): the client's offer decides. */
struct tls_certificate {
	uint32_t key;	   /* for the signer */
	struct str chain;  /* PEM: ours first, then those that vouch for it */
};

#define TLS_TICKET_NAME_BYTES 16u
#define TLS_TICKET_KEY_BYTES 80u /* name, AES key, HMAC key */
#define TLS_TICKET_KEYS_MAX 4u
struct tls_ticket_key {
	unsigned char bytes[TLS_TICKET_KEY_BYTES];
};

enum tls_least { TLS_LEAST_1_2, TLS_LEAST_1_3 };
/*
 * w: for the clock and memory. Loads what OpenSSL needs: before the jail. *signer is copied. Freed after the
 * last stream of it was closed.
 */
enum err tls_server_new(struct world *w, const struct tls_signer *signer, enum tls_least least, struct tls_server **out) MUST_CHECK;
void tls_server_free(struct tls_server *t);
/*
 * Replaces all certificates; sessions under way keep theirs. The first one is for clients that ask for no
 * name or one that none has. ERR_SYNTAX: *bad_out is the one that cannot be read, and nothing changed.
 * Names are those of the certificate (subjectAltName; wildcards as RFC 6125).
 */
enum err tls_server_certificates(struct tls_server *t, const struct tls_certificate *list, size_t n, size_t *bad_out) MUST_CHECK;
/* The first one encrypts, all decrypt (RFC 5077); at most TLS_TICKET_KEYS_MAX. None: no tickets. */
void tls_server_ticket_keys(struct tls_server *t, const struct tls_ticket_key *keys, size_t n);
/* Whether there is a certificate: without one STARTTLS is not offered. */
bool tls_server_ready(const struct tls_server *t);

/*
 * The server's handshake on a stream. Plaintext that was received beyond the command STARTTLS is the
 * caller's to refuse (H15, H16): there must be none in the stream's buffer (asserted).
 * ERR_SYNTAX: the handshake failed, tls_why() says why; ERR_TIMEOUT, ERR_CLOSED, ERR_EOF as streams do.
 * The stream is still open afterwards, but of no use.
 */
YIELDS enum err tls_accept(struct tls_server *t, struct stream *s) MUST_CHECK;

/* ---- the client's side ----------------------------------------------------------------------------- */

struct tls_client; /* trust store and settings of one process */

enum tls_verify {
	TLS_VERIFY_NONE,  /* opportunistic: any certificate will do (RFC 7435) */
	TLS_VERIFY_PKIX,  /* by the system's CAs, for one of `names` (RFC 6125, 8461) */
	TLS_VERIFY_DANE	  /* by `tlsa` (RFC 7672) */
};
struct tls_tlsa {
	uint8_t usage, selector, matching;
	struct str data;
};
struct tls_wish {
	enum tls_verify verify;
	struct str sni;		  /* the server name to send; empty: none */
	const struct str *names;  /* reference identities */
	size_t names_n;
	const struct tls_tlsa *tlsa;
	size_t tlsa_n;
};
/* ca_file: absolute, PEM, read now: before the jail; empty: the system's. BLOCKING. */
enum err tls_client_new(struct world *w, struct str ca_file, struct tls_client **out) MUST_CHECK;
/* One that trusts nobody: for all but TLS_VERIFY_PKIX. */
enum err tls_client_new_trustless(struct world *w, struct tls_client **out) MUST_CHECK;
void tls_client_free(struct tls_client *t);
/*
 * The client's handshake. ERR_SYNTAX: it failed, or the certificate does not satisfy the wish:
 * tls_result() and tls_why() tell. With DANE and not one usable record the caller has to decide
 * beforehand: tls_tlsa_usable().
 */
YIELDS enum err tls_connect(struct tls_client *t, struct stream *s, const struct tls_wish *wish) MUST_CHECK;
/* RFC 7672 §3.1: usages 2 and 3 with known selector and matching type, and data of the right length. */
bool tls_tlsa_usable(const struct tls_tlsa *r);

/* ---- what was agreed ---------------------------------------------------------------------------------- */

/* Why a handshake failed; the result types of RFC 8460 §4.3 are made from these. */
enum tls_result {
	TLS_RESULT_OK,
	TLS_RESULT_NOT_TRUSTED,	 /* no chain to a trusted authority */
	TLS_RESULT_WRONG_NAME,
	TLS_RESULT_EXPIRED,
	TLS_RESULT_TLSA_MISMATCH,
	TLS_RESULT_NO_AGREEMENT, /* versions, ciphers */
	TLS_RESULT_BROKEN	 /* all else: nonsense, alerts, the end of the connection */
};

struct tls_info {
	struct str version;	/* "TLSv1.3" */
	struct str cipher;	/* "TLS_AES_256_GCM_SHA384" */
	unsigned bits;
	struct str server_name; /* SNI; empty: none */
	bool resumed, verified; /* verified: the other end's certificate satisfied the wish */
};
/* Constant strings and strings that live as long as the stream. All zero without TLS. */
struct tls_info tls_info(const struct stream *s);
/* After a handshake that succeeded. */
bool stream_is_tls(const struct stream *s);
/* Whether bytes have been received that are not in the stream's buffer yet. */
bool tls_has_more(const struct stream *s);
/* Of the last handshake on this stream. */
enum tls_result tls_result(const struct stream *s);
/* A sentence, constant or as long as the stream lives; never the other end's own words. */
struct str tls_why(const struct stream *s);

/* Channel bindings. ERR_NOT_FOUND: this connection has none of that type. */
#define TLS_BINDING_MAX 64u
enum tls_binding { TLS_BINDING_EXPORTER /* RFC 9266 */, TLS_BINDING_SERVER_END_POINT /* RFC 5929 §4 */ };
enum err tls_binding(const struct stream *s, enum tls_binding type, unsigned char out[TLS_BINDING_MAX], size_t *n_out) MUST_CHECK;

#endif
