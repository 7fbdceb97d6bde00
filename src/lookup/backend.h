/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts of a domain that come from elsewhere: a file (passwd.c), a running Dovecot (dovecot.c). Runs in lookup.
 * The database (directory.h) is none of these: it is there for every domain that names no other, and never waits.
 *
 * What a back end promises:
 *  B1  "No such account" is only said by whoever keeps the accounts. A file that cannot be used, a server that does
 *      not answer, or answers nonsense: an error, which is temporary to clients (451 4.3.0, 454 4.7.0).
 *  B2  Each question has an end in time, and there are so many at once at most.
 *  B3  For an account that does not exist the same is done as for one that does (H65).
 *  B4  Where answers may change without lookup hearing of it (knows() says ERR_BUSY), nobody keeps them; where it hears
 *      of it, it begins a new generation.
 *
 * resolve.c asks without waiting. What it cannot be told so, it notes in struct backend_answers; whoever called
 * resolve_rcpt() asks then, and calls again.
 */
#ifndef LOOKUP_BACKEND_H
#define LOOKUP_BACKEND_H

#include "base/ip.h"
#include "co/co.h"
#include "lookup/directory.h"

#define BACKEND_QUESTION_NS (10 * 1000000000LL)
#define BACKEND_PASSWORD_NS (20 * 1000000000LL) /* a Dovecot makes those wait who guess: 17 s at most */

struct backend;
struct backend_ops {
	/* ERR_NONE: it exists. ERR_NOT_FOUND. ERR_BUSY: only exists() can tell. Else: not known now. */
	enum err (*knows)(struct backend *b, struct str account);
	/* The same, with waiting; NULL where knows() always knows. */
	YIELDS enum err (*exists)(struct backend *b, struct str account);
	/*
	 * As directory_credentials(). *stand_in_out: for an account that does not exist, what is to be compared in its
	 * place (B3). NULL: only check() can tell.
	 */
	enum err (*credentials)(struct backend *b, struct str account, struct arena *arena, struct credential **list_out, size_t *n_out,
				struct credential *stand_in_out);
	/* Whether this is the password. NULL where there are credentials(). */
	YIELDS enum err (*check)(struct backend *b, struct str account, struct str password, const struct ip *client, struct arena *arena,
				 bool *right_out);
};
/* The first member of each back end's own struct. */
struct backend {
	const struct backend_ops *ops;
	struct str domain;
};
struct backends {
	struct backend **v;
	size_t n;
};
/* The one for this account; NULL: the database has it. */
struct backend *backends_find(const struct backends *b, struct str account);

/* ---- what resolve_rcpt() has to be told ---------------------------------------------------------------- */

#define BACKEND_ANSWERS_MAX 1000u
struct backend_answer {
	struct backend *of;
	struct str account;
	enum err said; /* ERR_BUSY: to be asked */
};
struct backend_answers { /* of one question to lookup */
	struct arena *arena;
	struct backend_answer *v;
	size_t n, cap;
	bool open; /* some are to be asked */
};
/* Whether the account exists: ERR_BUSY when it was noted as a question. */
enum err backend_answer(struct backend_answers *a, struct backend *b, struct str account) MUST_CHECK;
/* Asks what is open. An error: not known now. */
YIELDS enum err backend_ask(struct backend_answers *a) MUST_CHECK;

/* "passwd_file /etc/…": for people. */
void backend_name_add(struct buf *b, const struct conf_domain *d);
/* The domain of an account, if its accounts are kept elsewhere; NULL: they are in the database. */
const struct conf_domain *backend_domain(const struct conf *c, struct str account);

#endif
