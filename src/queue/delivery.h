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

#include "dsn/dsn.h"
#include "queue/queue_internal.h"

#define DELIVERY_ARENA_MAX ((size_t)24 << 20)
#define GROUPS_MAX 32u	      /* side by side for one message; the rest of its recipients come next */
#define GROUP_BYTES 24000u    /* recipients of one call, encoded */
#define CALL_BYTES 60000u     /* what one call may hold in all */
#define AWAY_MS 1000	      /* the process that delivers does not answer: again after this time, uncounted */
#define UNREADABLE_MS (60 * 1000)

struct delivery {
	struct list link; /* queue.waiting or queue.kept */
	struct queue *q;
	uint64_t id;
	struct arena arena;
	size_t bytes; /* of the window */
	bool have_data;
	bool with_stranger; /* its bytes count among sites.stranger_bytes */
	/* what is to be delivered; in arena */
	struct envelope env;
	struct str prefix, body;
	uint64_t body_bytes;
	bool in_file;
	struct scope scope; /* of the groups */
	uint32_t reserved;  /* a destination where room is kept until the groups are made; DEST_UNKNOWN: none */
	struct site *reserved_site;
	int64_t kept_ns;   /* since when */
	uint64_t jitter; /* random: the same for all recipients, so that those of one place stay together */
};

/* What was found of a recipient at one attempt; strings in an arena of the delivery, or constant. */
struct found {
	struct str by;	     /* "local", "queue", or the remote host and address */
	struct str enhanced, text;
	uint16_t code;	     /* of a remote reply; 0: the words are ours */
	bool next_reports;   /* the next host announced DSN: it tells the sender what becomes of it */
};

/* Beside each state: what its sender is to hear. */
struct news {
	enum dsn_action action;
	bool tell;
	bool failed; /* to be bounced: the state is only true once somebody is told, or need not be */
	struct found found;
};

struct group {
	struct delivery *d;
	uint32_t dest;
	struct site *site; /* NULL: DEST_LOCAL, or nothing is to be sent */
	uint16_t *numbers;
	size_t n;
	/* what became of them */
	struct spool_state *states;
	struct news *news; /* of the same number */
	size_t states_n;
};

static inline struct message *delivery_message(const struct delivery *d)
{
	return index_get(&d->q->ix, d->id);
}

/* ---- deliver_keep.c: what waits for a place that is full ------------------------------------------- */

/* Keeps what was read for the next attempt, which is to come soon; false: the caller frees it. */
bool deliver_keep(struct delivery *d, const struct message *m);
/* What was kept of this message, now the caller's; NULL: nothing. */
struct delivery *deliver_kept(struct queue *q, uint64_t id);

/* ---- deliver_local.c, deliver_relay.c: one group; every recipient gets a state, or is put off ---- */

YIELDS void deliver_to_mailboxes(struct group *g);
YIELDS void deliver_to_relay(struct group *g);

/* ---- settle.c: outcomes -------------------------------------------------------------------------- */

/* state: delivered or relayed */
void settle_delivered(struct group *g, uint16_t number, enum rcpt_state state, const struct found *f);
void settle_deferred(struct group *g, uint16_t number, const struct found *f);
void settle_failed(struct group *g, uint16_t number, const struct found *f);
/* Still waits for its place, and its sender is to hear so. */
void settle_late(struct group *g, uint16_t number, const struct found *f);
/* An alias: its targets are recipients of their own; its sender is told so. */
void settle_expanded(struct group *g, uint16_t number);
/* Waits for the operator. */
void settle_held(struct group *g, uint16_t number, struct str enhanced, struct str text);
/* No answer: what was done we do not know. Uncounted, and tried again soon. */
void settle_unknown(struct group *g, const uint16_t *numbers, size_t n, const char *who, enum err e);
/* Senders are told (P2), then all states of the group are written down; the message stays busy. */
YIELDS void settle_group(struct group *g);

/* ---- bounce.c ------------------------------------------------------------------------------------ */

/*
 * Composes what is to be told and takes it over into the queue. ERR_NONE: states whose news are `failed`
 * may become bounced or discarded, as bounce_outcome() says. Others: the failure must wait.
 */
YIELDS enum err bounce_tell(struct group *g) MUST_CHECK;

#endif
