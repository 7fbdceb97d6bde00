/* SPDX-License-Identifier: Apache-2.0 */
/* The back ends (backend.h) of the configuration: made, given their files and sockets, ended. Runs in lookup. */
#ifndef LOOKUP_ELSEWHERE_H
#define LOOKUP_ELSEWHERE_H

#include "lookup/dovecot.h"
#include "lookup/passwd.h"
#include "proc/proc.h"

struct elsewhere {
	struct proc *p;
	struct backends backends;
	struct backend **by_domain; /* by index in conf.domains; NULL: the database */
	struct sip_key key;	    /* which account stands in for one that does not exist */
	struct dovecot_env env;
	struct dovecot_link links[DOVECOT_LINKS_MAX];
	size_t links_n;
	struct scope scope; /* of the links */
	bool open;
};
/* secret: of the server, so that what is made up stays the same. */
enum err elsewhere_open(struct elsewhere *e, struct proc *p, struct str secret) MUST_CHECK;
YIELDS void elsewhere_close(struct elsewhere *e);
/* A file from master. Reads it on a helper thread; out->good: what is known of accounts has changed. */
YIELDS enum err elsewhere_load(struct elsewhere *e, const struct accounts_load_in *in, struct arena *arena, struct accounts_load_out *out) MUST_CHECK;

#endif
