/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SASL mechanisms (RFC 4422) as pure functions: messages read and written, nothing decided. The server's
 * side is used by smtpd, which knows no password and no stored key (P4): what it reads here it hands to
 * lookup in fields. The client's side is used by relay for smarthosts. Input of the server's side is hostile.
 *
 * All strings are decoded (no base64) and views into the input, unless an arena is given.
 */
#ifndef SASL_SASL_H
#define SASL_SASL_H

#include "base/arena.h"
#include "base/str.h"

enum sasl_mechanism {
	SASL_NONE, SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_1, SASL_SCRAM_SHA_1_PLUS, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_256_PLUS,
	SASL_OAUTHBEARER, SASL_XOAUTH2, SASL_EXTERNAL, SASL_MECHANISMS
};
/* The registered name; and back, without regard to case (SASL_NONE: unknown). */
struct str sasl_name(enum sasl_mechanism m);
enum sasl_mechanism sasl_by_name(struct str name);

#define SASL_MESSAGE_MAX 12288u /* RFC 4954 §4: a line of AUTH may be so long */

/* PLAIN (RFC 4616): [authzid] NUL authcid NUL passwd, each valid UTF-8 without NUL. ERR_SYNTAX. */
struct sasl_plain {
	struct str authzid, authcid, password;
};
enum err sasl_plain_read(struct str message, struct sasl_plain *out) MUST_CHECK;

/* OAUTHBEARER (RFC 7628) and XOAUTH2: the user, if named, and the token. */
struct sasl_bearer {
	struct str user, token;
};
enum err sasl_oauthbearer_read(struct str message, struct sasl_bearer *out) MUST_CHECK;
enum err sasl_xoauth2_read(struct str message, struct sasl_bearer *out) MUST_CHECK;

/* ---- SCRAM, the server's side (RFC 5802, 7677) --------------------------------------------------- */

struct sasl_scram_first {
	struct str gs2_header; /* "n,,", "y,,", "p=tls-exporter,," with authzid */
	char binding;	       /* 'n', 'y' or 'p' */
	struct str binding_type;
	struct str authzid, user; /* =2C and =3D undone */
	struct str nonce;
	struct str bare;       /* client-first-message-bare */
};
/* ERR_SYNTAX. ERR_DENIED: a mandatory extension (m=), of which we know none. */
enum err sasl_scram_first_read(struct str message, struct arena *a, struct sasl_scram_first *out) MUST_CHECK;
/* "r=…,s=…,i=…" */
struct str sasl_scram_server_first(struct arena *a, struct str client_nonce, struct str server_nonce, struct str salt, uint32_t iterations);

struct sasl_scram_final {
	struct str cbind_input; /* c=, decoded */
	struct str nonce;	/* both, as sent */
	struct str proof;	/* decoded */
	struct str without_proof;
};
enum err sasl_scram_final_read(struct str message, struct arena *a, struct sasl_scram_final *out) MUST_CHECK;

/* ---- the client's side: PLAIN, LOGIN, SCRAM without channel binding ---------------------------------- */

#define SASL_CLIENT_RANDOM 18u

struct sasl_client {
	/* given; strings live as long as this */
	enum sasl_mechanism mechanism;
	struct str user, password;
	unsigned char random[SASL_CLIENT_RANDOM];
	struct arena *arena;
	/* private */
	unsigned step;
	struct str nonce, bare, both, salt, server_first;
	uint32_t iterations;
	unsigned char proof[32], server_signature[32];
	bool proved;
	char auth_room[2048];
};
/*
 * One exchange: start; then for each challenge hear, work, answer; at the end is_over. All messages are decoded
 * (no base64). ERR_SYNTAX: a name or password that cannot be sent, or a challenge that makes no sense.
 */
enum err sasl_client_start(struct sasl_client *c, bool *has_initial_out, struct str *initial_out) MUST_CHECK;
/* ERR_LIMIT: an iteration count that is too small or too large. ERR_DENIED: the server does not know the password. */
enum err sasl_client_hear(struct sasl_client *c, struct str challenge) MUST_CHECK;
/* What takes a while: touches nothing but *c, so that a helper thread may do it. BLOCKING. */
enum err sasl_client_work(struct sasl_client *c) MUST_CHECK;
enum err sasl_client_answer(struct sasl_client *c, struct str *answer_out) MUST_CHECK;
/* Whether the server may say now that all is well: with SCRAM it must have proved that it knows the password. */
bool sasl_client_is_over(const struct sasl_client *c);

#endif
