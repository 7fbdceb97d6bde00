/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What queue knows of its messages without reading the disk: where each one stands, and the small state
 * of its recipients. Everything else (addresses, paths) is read back when needed, so that a deferred
 * recipient costs about 200 bytes and a million of them fit into a few hundred MB.
 *
 * It is the other half of the spool (struct spool_index): see the rule in spool.h. Runs in queue.
 */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include "base/heap.h"
#include "base/list.h"
#include "queue/reasons.h"
#include "queue/spool.h"

enum message_flag {
	MESSAGE_IN_FILE = 1,
	MESSAGE_BUSY = 2,      /* a delivery, or the operator, works on it */
	MESSAGE_ENDING = 4,    /* all recipients are final; its end is being written */
	MESSAGE_REPEATED = 8,  /* an attempt may have succeeded without our knowing */
	MESSAGE_END_FAILED = 16, /* its end could not be written: again */
	MESSAGE_COMING = 32,   /* reserved, not yet durable: nobody sees it */
	MESSAGE_REPORT = 64    /* its reverse-path is known to be null */
};

struct rcpt {
	int64_t next_ms; /* queued: not before */
	int64_t at_ms;	 /* when the state became so; 0: never tried */
	uint32_t reason;
	uint16_t attempts;
	uint8_t state; /* enum rcpt_state */
	bool told;     /* its sender knows that it is late */
	uint32_t dest; /* number of its destination (site.h) */
	uint16_t route; /* by which the operator sends it: a place in index.routes; 0: the configuration says */
};

struct message {
	uint64_t id;
	struct list link;     /* index.all, by segment */
	struct list wait;     /* of a site, or of the queue (new mail); while it waits so, due is when it is looked at anyway */
	struct heap_node due; /* index.due, while a recipient is queued and nobody works on it */
	int64_t arrived_ms, expires_ms;
	uint64_t segment, body_bytes;
	uint32_t offset, meta_bytes;
	uint16_t prefix_bytes, rcpts_n;
	uint8_t priority, flags;
	uint8_t sender; /* a hash: which group of senders it waits in */
	struct rcpt rcpts[];
};

struct index {
	struct mem *mem;
	struct table64 by_id;
	struct list all;    /* in order of segments, the oldest first */
	struct list cursor; /* of the walk for a checkpoint */
	struct heap due;
	struct reasons reasons;
	struct str *routes; /* names that states have had; [0] is empty */
	uint16_t routes_n;
	size_t messages, recipients, held; /* what is still to be done */
	size_t ending, ends_failed, coming;
	void (*on_gone)(void *arg, uint64_t id); /* a message has left; may be NULL */
	void (*on_dest)(void *arg, uint32_t dest); /* a recipient needs its destination no longer; may be NULL */
	void *arg;
};

void index_open(struct index *ix, struct mem *mem, struct sip_key key);
void index_close(struct index *ix);
/* The spool's view of it. damage is the caller's to fill in. */
struct spool_index index_for_spool(struct index *ix);

struct message *index_get(const struct index *ix, uint64_t id);
/*
 * A new message takes two steps, because nothing may fail once it is durable: its place is reserved
 * first (ERR_NO_MEMORY, ERR_EXISTS); then it is admitted, nothing tried and not yet due, or cancelled.
 */
enum err index_reserve(struct index *ix, uint64_t id, uint16_t rcpts_n, struct message **m_out) MUST_CHECK;
void index_admit(struct index *ix, struct message *m, const struct spool_live *live);
void index_cancel(struct index *ix, struct message *m);
struct spool_ref message_ref(const struct message *m);
uint64_t message_bytes(const struct message *m);

/* Sets a recipient's state; the number is within rcpts_n. */
void index_set(struct index *ix, struct message *m, const struct spool_state *st);
/* The state of one recipient as the spool stores it; strings are the index's. False: queued and never tried. */
bool index_state(const struct index *ix, const struct message *m, uint16_t number, struct spool_state *st_out);
/* The route that the operator gave it, or an empty name. */
struct str index_route(const struct index *ix, const struct rcpt *r);
bool rcpt_is_final(const struct rcpt *r);
bool message_is_final(const struct message *m);
/* All its recipients are final: its end is about to be written. */
void index_end(struct index *ix, struct message *m);
/* Puts it into the order of due times, or takes it out. ERR_NO_MEMORY. */
enum err index_schedule(struct index *ix, struct message *m) MUST_CHECK;
/* Now known, for a recipient that has none yet. */
void index_set_dest(struct index *ix, struct message *m, uint16_t number, uint32_t dest);
/* All forget theirs: the routes may have changed, or the operator wants another. */
void index_forget_dest(struct index *ix, struct message *m, uint16_t number);

#endif
