/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One delivery: an attempt at the due recipients of one message. What the files deliver*.c, settle.c and
 * bounce.c share; nobody else includes this. Message bytes are a stranger's and only carried.
 *
 * A message under way is MESSAGE_BUSY and out of the order of due times; its delivery alone changes it.
 * Recipients of one destination are a group; groups run side by side, each in its own coroutine, and each
 * writes down what became of it when it ends. Outcomes need no sync of their own: a crash before they are
 * written repeats the attempt, so they share the commits of new mail.
 */
#ifndef QUEUE_DELIVERY_H
#define QUEUE_DELIVERY_H

#include "queue/queue_internal.h"

#define DELIVERY_ARENA_MAX ((size_t)24 << 20)
#define GROUPS_MAX 32u	      /* side by side for one message; the rest of its recipients come next */
#define GROUP_BYTES 24000u    /* recipients of one call, encoded */
#define CALL_BYTES 60000u     /* what one call may hold in all */
#define AWAY_MS 1000	      /* the process that delivers does not answer: again after this time, uncounted */
#define UNREADABLE_MS (60 * 1000)

struct delivery {
	struct list link; /* queue.waiting */
	struct queue *q;
	uint64_t id;
	struct arena arena;
	size_t bytes; /* of the window */
	bool have_data;
	/* what is to be delivered; in arena */
	struct envelope env;
	struct str prefix, body;
	uint64_t body_bytes;
	bool in_file;
	struct scope scope; /* of the groups */
	uint32_t reserved;  /* a destination where room is kept until the groups are made; DEST_UNKNOWN: none */
	struct site *reserved_site;
};

struct group {
	struct delivery *d;
	uint32_t dest;
	struct site *site; /* NULL: DEST_LOCAL, or nothing is to be sent */
	uint16_t *numbers;
	size_t n;
	/* what became of them */
	struct spool_state *states;
	size_t states_n;
};

static inline struct message *delivery_message(const struct delivery *d)
{
	return index_get(&d->q->ix, d->id);
}

/* ---- deliver_local.c, deliver_relay.c: one group; every recipient gets a state, or is put off ---- */

YIELDS void deliver_to_mailboxes(struct group *g);
YIELDS void deliver_to_relay(struct group *g);

/* ---- settle.c: outcomes -------------------------------------------------------------------------- */

/* by: who said so, in an arena of the delivery. */
void settle_delivered(struct group *g, uint16_t number, enum rcpt_state state, struct str by, struct str enhanced, struct str text);
void settle_deferred(struct group *g, uint16_t number, struct str by, struct str enhanced, struct str text);
void settle_failed(struct group *g, uint16_t number, struct str by, struct str enhanced, struct str text);
/* Waits for the operator. */
void settle_held(struct group *g, uint16_t number, struct str enhanced, struct str text);
/* No answer: what was done we do not know. Uncounted, and tried again soon. */
void settle_unknown(struct group *g, const uint16_t *numbers, size_t n, const char *who, enum err e);
/* All states of the group are written down; the message stays busy. */
YIELDS void settle_group(struct group *g);

#endif
