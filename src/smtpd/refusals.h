/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was refused, on its way to log and history (P8): equal refusals of one second are counted
 * together, and a flood of different ones is cut down to client and code, so that it costs little.
 */
#ifndef SMTPD_REFUSALS_H
#define SMTPD_REFUSALS_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/list.h"
#include "ipc/calls.h"

#define REFUSALS_MAX	1024u /* with all their fields, each second */
#define REFUSALS_COARSE 1024u /* beyond them: without addresses */

struct refusals {
	struct mem *mem;
	struct sip_key key;
	struct table64 by_hash;
	struct arena arena; /* what is gathered since the last flush */
	struct list all;
	uint64_t lost; /* not even coarsely kept */
};
void refusals_init(struct refusals *r, struct mem *mem, struct sip_key key);
void refusals_done(struct refusals *r);
bool refusals_pending(const struct refusals *r);
/* Copies what it keeps. count is ignored. */
void refusals_add(struct refusals *r, const struct history_refused_in *what);
/* Calls each() for all that was gathered, with counts, and forgets it. */
void refusals_flush(struct refusals *r,
		    void (*each)(void *arg, const struct history_refused_in *what), void *arg);

#endif
