/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a forward-path to its final destinations: domains, accounts, aliases, subaddresses, catch-all
 * (RFC 5321 §3.6.2, §3.9.1, §4.5.1; RFC 5233); relay domains, clients that may relay, and bounces to
 * reverse-paths that we rewrote. A function of configuration, files, directory and, for those, the day.
 *
 * Order for local-part@domain: alias; account; both without the subaddress; @domain alias; catch_all;
 * postmaster's own mailbox. Aliases are expanded until accounts are reached: bounded, each address once,
 * so a loop ends; the same mailbox is delivered to once. An alias may lead to other domains. Mailboxes of a
 * domain with `mailbox lmtp` are remote targets: the account's address, for the server that its route leads to.
 *
 * A domain that is not ours is accepted only (P5)
 *   R1  behind a rewritten reverse-path that bears our hash (message/srs.h),
 *   R2  as a relay_domain, for a recipient that exists there as far as we know, or
 *   R4  from a client that has logged in to an account that is still there,
 *   R3  from a client of relay_from, or from this machine's own hand: the operator's command line
 *       and the queue's reports, which have the family IP_UNIX and never come through a listener;
 * and never as the literal of a loopback address (H29). The postmaster of our host name is one of ours.
 */
#ifndef LOOKUP_RESOLVE_H
#define LOOKUP_RESOLVE_H

#include "lookup/backend.h"
#include "message/srs.h"

#define RESOLVE_TARGETS_MAX 1000u
#define RESOLVE_STEPS_MAX 4000u

struct resolver {
	const struct conf *conf;
	struct directory *directory;
	struct table *file_aliases; /* canonical address -> struct alias_entry; may be NULL */
	struct table *relay_recipients; /* canonical addresses of relay domains; may be NULL */
	const struct backends *backends; /* of domains whose accounts are kept elsewhere; may be NULL */
	struct backend_answers *answers; /* what they said; NULL: nobody waits for them */
	const struct srs *srs;		/* NULL: nothing is taken for a rewritten reverse-path */
	int64_t now_ms;
};
struct alias_entry {
	struct str address, targets;
};

/*
 * Fills the answer; an error is a failure of the directory (temporary). ERR_BUSY with r->answers->open: back ends are
 * to be asked by backend_ask(), and this again, with an empty answer.
 */
enum err resolve_rcpt(const struct resolver *r, const struct lookup_rcpt_in *in, struct arena *arena,
		      struct lookup_rcpt_out *out) MUST_CHECK;
/*
 * The reverse-path for mail that is sent on (lookup_forward). What cannot be rewritten within its
 * greatest length stays as it is: SPF may fail then, but a bounce still finds its way.
 */
enum err resolve_forward(const struct resolver *r, struct str path, struct arena *arena,
			 struct str *path_out) MUST_CHECK;
/* The mailbox path of a canonical address: domain/local-part, every unusual byte as %XX (H27). */
struct str resolve_mailbox(struct arena *arena, struct str local, struct str domain);
/* Whether we are the final destination of this domain. */
enum err resolve_domain_is_ours(const struct resolver *r, struct str domain, bool *ours_out) MUST_CHECK;

#endif
