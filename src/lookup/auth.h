/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who somebody is: passwords and SCRAM proofs of accounts, and what an account may call itself. Runs in lookup,
 * which alone holds what is stored (P4); smtpd asks with what a stranger sent, in fields. Comparing takes tens of
 * milliseconds and is done on helper threads, so that look-ups of recipients go on.
 *
 * Nobody learns which accounts exist (H65): for an unknown one a made-up hash is compared, SCRAM gets a salt that
 * is always the same, and every "no" is to be told after the same time, or later (guesses.h).
 */
#ifndef LOOKUP_AUTH_H
#define LOOKUP_AUTH_H

#include "lookup/backend.h"
#include "lookup/guesses.h"
#include "proc/proc.h"

#define AUTH_AT_ONCE_MAX 64u	  /* comparisons under way; more are put off */
#define AUTH_NO_MS 300		  /* a "no" comes so long after the question, at least */
#define AUTH_CACHE_MAX 1024u	  /* passwords that were right lately: compared by their HMAC */
#define AUTH_CACHE_NS (300 * 1000000000LL)

struct auth_cached;
struct auth {
	struct proc *p;
	struct directory *directory;
	const struct backends *backends; /* of domains whose accounts are kept elsewhere */
	struct guesses guesses;
	struct str secret; /* of salts that are made up */
	struct auth_cached *cache;
	unsigned char cache_key[32];
	size_t under_way;
	struct counter *right, *wrong, *slowed, *cache_hits, *rehashed;
};
/* secret and b live as long as the process. */
enum err auth_init(struct auth *a, struct proc *p, struct directory *d, const struct backends *b, struct str secret) MUST_CHECK;
void auth_done(struct auth *a);

YIELDS enum err auth_password(struct auth *a, const struct auth_password_in *in, struct arena *arena, struct auth_password_out *out) MUST_CHECK;
enum err auth_scram_first(struct auth *a, const struct auth_scram_first_in *in, struct arena *arena, struct auth_scram_first_out *out) MUST_CHECK;
enum err auth_scram_final(struct auth *a, const struct auth_scram_final_in *in, struct arena *arena, struct auth_scram_final_out *out) MUST_CHECK;

/* ---- changing passwords: a server does the middle part on a helper thread, the command line at rest at once ---- */

struct auth_change {
	struct str account, label, password;
	bool remove, generated;
	unsigned char random[36]; /* 20 for a password, 16 for a salt */
	struct str salt;
	char hash[400], scram256[300], scram1[300];
	size_t hash_n, scram256_n, scram1_n;
	enum err err;
	struct str text; /* why it cannot be done */
};
/* Checks. False: c->text says why not. */
bool auth_change_begin(struct directory *d, struct world *w, const struct conf *conf, const struct account_password_in *in, struct arena *arena,
		       struct auth_change *c) MUST_CHECK;
/* BLOCKING; touches nothing but c. */
void auth_change_work(struct world *w, void *change);
enum err auth_change_end(struct directory *d, int64_t now_ms, struct auth_change *c, struct arena *arena, struct account_password_out *out) MUST_CHECK;
enum err auth_list(struct directory *d, const struct account_passwords_in *in, struct arena *arena, struct account_passwords_out *out) MUST_CHECK;

/* The canonical account that somebody calls himself; without a domain it is of the first one. ERR_SYNTAX. */
enum err auth_account(const struct conf *c, struct str name, struct arena *arena, struct str *account_out) MUST_CHECK;

#endif
