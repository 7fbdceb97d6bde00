/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and their private keys, as the process keys holds them. No input of strangers' but what
 * vault_sign() is asked. Memory with private keys is OpenSSL's own, which overwrites it when it is freed.
 *
 *  V1  A slot changes only to a pair that was read, fits together and can be used for TLS.
 *  V2  A key that was replaced still signs for VAULT_KEEP_NS: handshakes are under way with its certificate.
 *  V3  A key's number is made from its public half: the same in every process and after every restart.
 */
#ifndef KEYS_VAULT_H
#define KEYS_VAULT_H

#include "base/arena.h"
#include "tls/tls.h"
#include "world/world.h"

#define VAULT_SLOTS 64u
#define VAULT_CHAIN_MAX ((size_t)57344) /* as calls.def says */
#define VAULT_FILE_MAX ((size_t)65536)
#define VAULT_KEEP_NS (INT64_C(120) * 1000000000)

struct vault;
struct vault_report {
	struct str text;  /* what is wrong; constant */
	struct str names; /* with blanks between them; in the arena */
	int64_t expires_ms;
	bool changed;	  /* it is not what the slot had */
};
struct vault_entry {
	uint32_t key;
	struct str chain; /* PEM */
};

enum err vault_new(struct world *w, struct vault **out) MUST_CHECK;
void vault_free(struct vault *v);
/* From PEM texts. ERR_SYNTAX: out->text says what is wrong, and the slot keeps what it has (V1). slot < VAULT_SLOTS */
enum err vault_load(struct vault *v, size_t slot, struct str certificate, struct str key, struct arena *arena,
		    struct vault_report *out) MUST_CHECK;
/* The pairs in use, in order of slots. False: there is none of this index. Valid until the next vault_load(). */
bool vault_entry(const struct vault *v, size_t index, struct vault_entry *out);
size_t vault_count(const struct vault *v);
/* Slots from `count` on are emptied; keys whose time is over (V2) are forgotten. */
void vault_tidy(struct vault *v, size_t count);
/* ERR_DENIED: it is not for TLS (permit.h). ERR_NOT_FOUND: no such key. */
enum err vault_sign(struct vault *v, uint32_t key, struct str digest, enum tls_padding padding, struct str bytes,
		    char sig[TLS_SIGNATURE_MAX], size_t *sig_n_out) MUST_CHECK;
/* An ECDSA key on P-256 and a certificate for `name` that it signs, for ten years; PEM. */
enum err vault_generate(struct vault *v, struct str name, struct buf *certificate, struct buf *key) MUST_CHECK;

/* SHA-256 of the public key of the first certificate: TLSA 3 1 1. ERR_SYNTAX: there is none. */
enum err vault_key_digest(struct str pem, unsigned char out[32]) MUST_CHECK;

#endif
