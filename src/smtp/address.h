/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reverse-paths, forward-paths and domains: RFC 5321 §4.1.2, §4.1.3, §4.5.3.1 (syntax and sizes),
 * RFC 6531 §3.3 (UTF-8), RFC 5890 (A-labels). Pure functions over a stranger's bytes.
 *
 * The canonical form is the one that look-ups, comparisons and trace fields use:
 * `local-part@domain`, the domain in lower case and A-labels, an address literal as RFC 5952 writes
 * it, the local part quoted only where it must be, and in NFC when it is not ASCII. The case of the
 * local part stays.
 */
#ifndef SMTP_ADDRESS_H
#define SMTP_ADDRESS_H

#include "base/arena.h"

/* RFC 5321 §4.5.3.1.1–3, octets. A path is measured with its brackets, without a source route. */
#define ADDRESS_LOCAL_MAX  64u
#define ADDRESS_DOMAIN_MAX 255u
#define ADDRESS_PATH_MAX   256u

enum path_kind {
	PATH_REVERSE, /* may be null; its local part is bounded by the path only: VERP needs more
			 than 64 */
	PATH_FORWARD  /* may be "postmaster" without a domain; its local part above 64 only by SRS */
};
enum path_fault {
	PATH_OK,
	PATH_SYNTAX,
	PATH_LOCAL_TOO_LONG,
	PATH_DOMAIN_TOO_LONG,
	PATH_TOO_LONG,
	PATH_BAD_DOMAIN, /* not LDH labels, not a literal, or no valid internationalized name */
	PATH_BAD_UTF8,	 /* malformed, or controls among it */
	PATH_NO_MEMORY	 /* the arena's error says which */
};
struct path {
	struct str text;	  /* as received, without brackets and source route: a view */
	struct str canonical;	  /* in the arena; empty for the null reverse-path */
	struct str local, domain; /* views of canonical; domain empty: <postmaster> */
	bool is_null, is_literal;
	bool non_ascii; /* RFC 6531 §3.4: only with SMTPUTF8 */
};

/*
 * Parses "<…>" at the start of s; *rest_out is what follows the bracket. Whether non-ASCII is
 * allowed is the caller's to decide, because the SMTPUTF8 parameter comes behind the path.
 */
enum path_fault path_parse(struct str s, enum path_kind kind, struct arena *arena,
			   struct path *path_out, struct str *rest_out);

/* A mailbox without brackets, with a domain. ERR_SYNTAX, ERR_NO_MEMORY, ERR_LIMIT (the arena). */
enum err smtp_address_canonical(struct str text, struct arena *arena, struct str *canonical_out)
	MUST_CHECK;

/* Appends a local part with this content, quoted only if it must be. */
void smtp_local_add(struct buf *b, struct str content);
/* The other way round: appends a local part's content. ERR_SYNTAX, ERR_LIMIT (of b). */
enum err smtp_local_content(struct str local, struct buf *b) MUST_CHECK;

/* ASCII: labels of letters, digits and inner hyphens, 1 to 63 octets; the last is not a number. */
bool smtp_domain_is_valid(struct str domain);
/* Lower case and A-labels. ERR_SYNTAX when it is no domain. */
enum err smtp_domain_canonical(struct str domain, struct arena *arena, struct str *canonical_out)
	MUST_CHECK;

/*
 * The argument of EHLO and HELO. RFC 5321 §4.1.1.1; more liberal in what cannot harm: underscores,
 * plain numbers. *name_out is the part that may be repeated in Received and logs.
 */
enum err smtp_helo_parse(struct str argument, struct str *name_out) MUST_CHECK;

#endif
