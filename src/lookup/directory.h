/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: which accounts, aliases and domains there are. One interface; directory_sqlite.c is
 * the real one, the simulation has directory_fake.c. Opened by lookup, and by the command line when no
 * server runs. All calls may touch the disk (BLOCKING); look-ups are answered from its cache in microseconds.
 *
 * Names are canonical: lower case, domains as A-labels. Alias targets are addresses with commas between.
 */
#ifndef LOOKUP_DIRECTORY_H
#define LOOKUP_DIRECTORY_H

#include "base/arena.h"
#include "ipc/calls.h"

struct directory;

/* `dir` is an absolute path; the files in it are created if missing. ERR_BUSY, ERR_CORRUPT, ERR_DENIED, … */
enum err directory_open(struct world *w, struct str dir, struct directory **d_out) MUST_CHECK;
void directory_close(struct directory *d);

/*
 * Exact look-up. ERR_NOT_FOUND when there is none. For an alias, targets_out (in `arena`) gets its
 * targets; may be NULL otherwise.
 */
enum err directory_find(struct directory *d, enum directory_kind kind, struct str name, struct arena *arena,
			struct str *targets_out) MUST_CHECK;
/*
 * Adds or removes; durable when it returns. *done_out false: nothing changed (it was there with the same value, or was not there).
 * Adding an alias that exists replaces its targets.
 */
enum err directory_change(struct directory *d, enum directory_kind kind, bool remove, struct str name,
			  struct str targets, int64_t now_ms, bool *done_out) MUST_CHECK;
/* Rows in order of name, behind `after`, whose name contains `match`; at most what the answer's lists hold. */
enum err directory_list(struct directory *d, const struct directory_list_in *in, struct arena *arena,
			struct directory_list_out *out) MUST_CHECK;

/* ---- passwords --------------------------------------------------------------------------------------- */

#define DIRECTORY_CREDENTIALS_MAX 32u
/* How the password of an account is kept; src/lookup/password.h reads it. */
struct credential {
	struct str label;	/* empty: the main password; else an app password */
	struct str hash;	/* "{CRYPT}$y$…"; empty: only what SCRAM needs is kept */
	struct str scram256, scram1; /* "4096,salt,StoredKey,ServerKey"; empty: cannot be used with SCRAM */
	int64_t created_ms;
};
/* Those of an account, the main one first; strings in `arena`. An account without one, or that is not there: none. */
enum err directory_credentials(struct directory *d, struct str account, struct arena *arena, struct credential **list_out,
			       size_t *n_out) MUST_CHECK;
/* Adds or replaces the one with this label. ERR_NOT_FOUND: no such account. ERR_LIMIT: it has too many. Durable. */
enum err directory_set_credential(struct directory *d, struct str account, const struct credential *c) MUST_CHECK;
enum err directory_drop_credential(struct directory *d, struct str account, struct str label, bool *done_out) MUST_CHECK;

#endif
