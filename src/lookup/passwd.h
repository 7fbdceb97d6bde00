/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of accounts, as Dovecot has them (passwd-file): user:{SCHEME}hash:uid:gid:gecos:home:shell:extra. Of a line
 * user and password count. A user without @ is of the domain, one of another domain is not ours; "#" begins a
 * comment. master opens the file; lookup reads it before it answers, and again when it has changed.
 *
 *  F1  A file without any account of the domain, or that cannot be read to its end, changes nothing.
 *  F2  A line that is not understood is named by its number, and skipped; a password that is not understood, or not
 *      safe, or restricted in ways that are not supported, is named, too: its account gets mail and cannot log in.
 *  F3  Until a first file was read nothing is known of anybody (B1).
 */
#ifndef LOOKUP_PASSWD_H
#define LOOKUP_PASSWD_H

#include "base/hash.h"
#include "lookup/backend.h"

#define PASSWD_FILE_MAX ((size_t)64 << 20)
#define PASSWD_ACCOUNTS_MAX 1000000u
#define PASSWD_NOTES_MAX 50u

struct passwd_note {
	unsigned line;
	struct str text; /* literal */
};
struct passwd_entry {
	struct str account, hash, scram256;
};
/* What is in one version of a file. */
struct passwd_list {
	struct mem *mem;
	struct arena arena;
	struct sip_key key;
	struct table by_account;
	struct passwd_entry **v;
	size_t n, cap;
	struct passwd_note notes[PASSWD_NOTES_MAX];
	size_t notes_n, notes_more, skipped; /* skipped: lines without effect */
};
/* NULL without memory. */
struct passwd_list *passwd_list_new(struct sip_key key);
void passwd_list_free(struct passwd_list *l); /* NULL: nothing */
/* Adds what is in a text. On helper threads: uses the list's own memory. */
enum err passwd_list_read(struct passwd_list *l, struct str domain, struct str text) MUST_CHECK;
const struct passwd_entry *passwd_list_find(const struct passwd_list *l, struct str account);

struct passwd {
	struct backend backend;
	struct passwd_list *list; /* NULL: nothing was read yet (F3) */
};
void passwd_init(struct passwd *p, struct str domain);
void passwd_done(struct passwd *p);
/* Takes the place of the list before it; false (F1): it does not, and is freed. */
bool passwd_use(struct passwd *p, struct passwd_list *l);

#endif
