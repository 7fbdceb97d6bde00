/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of lookup that may be used again: for the same client and address, until lookup says that
 * its data changed (lookup_changed). Bounded; the one used longest ago makes room.
 */
#ifndef SMTPD_CACHE_H
#define SMTPD_CACHE_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/list.h"
#include "ipc/calls.h"

#define CACHE_ENTRIES_MAX 4096u
#define CACHE_TARGETS_MAX 8u /* answers with more are not kept */

struct cache {
	struct mem *mem;
	struct table by_key;
	struct list recent;  /* most recently used first */
	uint64_t generation; /* 0: nothing is kept */
};
void cache_init(struct cache *c, struct mem *mem, struct sip_key key);
void cache_done(struct cache *c);
/* Forgets all, and from now on keeps answers of this generation only. */
void cache_renew(struct cache *c, uint64_t generation);
/* A copy of the answer, strings in `arena`; false: not known. */
bool cache_get(struct cache *c, const struct lookup_rcpt_in *in, struct arena *arena,
	       struct lookup_rcpt_out *out);
/* Keeps a copy, if the answer allows it. */
void cache_put(struct cache *c, const struct lookup_rcpt_in *in, const struct lookup_rcpt_out *out);

#endif
