/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How passwords are kept and compared. Runs on helper threads (it takes milliseconds, on purpose) in lookup
 * and in the command line; pure but for libcrypt and libcrypto, and knows no account.
 *
 * A hash is "{SCHEME}text" as Dovecot writes it, or bare "$y$…". Made here: yescrypt. Understood: whatever
 * crypt(5) knows (yescrypt, bcrypt, SHA-512 and SHA-256; {CRYPT}, {BLF-CRYPT}, {SHA512-CRYPT}, {SHA256-CRYPT}),
 * and Argon2 (argon2.c: {ARGON2ID}, {ARGON2I}), which other programs make.
 * Not understood, and so never right: everything reversible or unsalted ({PLAIN}, {MD5}, …).
 */
#ifndef LOOKUP_PASSWORD_H
#define LOOKUP_PASSWORD_H

#include "base/arena.h"
#include "base/buf.h"

#define PASSWORD_MAX 1024u /* bytes */
#define PASSWORD_HASH_MAX 384u
#define PASSWORD_SALT_BYTES 16u

/*
 * The form in which passwords are compared (RFC 4013 as far as it matters: NFKC, all blanks alike). ERR_SYNTAX:
 * not UTF-8, or with control characters.
 */
enum err password_prepare(struct arena *a, struct str password, struct str *out) MUST_CHECK;

/* Appends "{CRYPT}$y$…". random: 16 bytes. Takes about 20 ms. */
enum err password_hash(struct str password, const unsigned char random[PASSWORD_SALT_BYTES], struct buf *b) MUST_CHECK;
/* ERR_SYNTAX: a scheme or hash that is not understood. */
enum err password_check(struct str hash, struct str password, bool *right_out) MUST_CHECK;
/* Whether password_check() understands it, as far as can be told without a password. */
bool password_is_understood(struct str hash);
/* Whether it should be made anew when the password is known next time. */
bool password_is_weak(struct str hash);

/* ---- Argon2 (RFC 9106), as "$argon2id$v=19$m=65536,t=3,p=1$salt$hash" ------------------------------------ */

#define ARGON2_KIB_MAX (1u << 18) /* 256 MiB */
#define ARGON2_PASSES_MAX 32u
#define ARGON2_LANES_MAX 16u
struct argon2_hash {
	bool id; /* argon2id; else argon2i */
	uint32_t version, kib, passes, lanes;
	size_t salt_n, hash_n;
	unsigned char salt[64], hash[64];
};
enum err argon2_read(struct str text, struct argon2_hash *out) MUST_CHECK;
enum err argon2_check(const struct argon2_hash *h, struct str password, bool *right_out) MUST_CHECK;

/* ---- SCRAM (RFC 5802 §3) ---------------------------------------------------------------------------- */

#define SCRAM_ITERATIONS 10000u /* for new ones; RFC 7677 §4: at least 4096 */
#define SCRAM_KEY_MAX 32u
struct scram_keys {
	uint32_t iterations;
	size_t n; /* bytes of a key: 20 (SHA-1) or 32 (SHA-256) */
	size_t salt_n;
	unsigned char salt[64], stored[SCRAM_KEY_MAX], server[SCRAM_KEY_MAX];
};
enum err scram_keys_make(bool sha256, struct str password, struct str salt, uint32_t iterations, struct scram_keys *out) MUST_CHECK;
/* "iterations,salt,StoredKey,ServerKey", in base64. */
void scram_keys_add(struct buf *b, const struct scram_keys *k);
enum err scram_keys_read(bool sha256, struct str text, struct scram_keys *out) MUST_CHECK;
/* Whether the client has proved that it knows the password; then the server's own proof. */
bool scram_check(const struct scram_keys *k, struct str auth_message, struct str proof, unsigned char signature_out[SCRAM_KEY_MAX]);
/* In the same time wherever they differ. */
bool scram_same_key(const struct scram_keys *a, const struct scram_keys *b);

#endif
