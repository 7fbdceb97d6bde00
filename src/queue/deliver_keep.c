/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for a place that is only full, kept in memory as it is: reading it back from the spool would
 * cost more than the delivery. Runs in queue. Bounded in bytes and time; who comes when it is full is read
 * back in the end, as is what had to wait long (a place that has died meanwhile).
 */
#include "queue/delivery.h"

#define KEPT_BYTES ((size_t)16 << 20)
#define KEPT_ONE_BYTES (KEPT_BYTES / 16)
#define KEPT_NS (30 * 1000000000LL)

static size_t bytes_of(const struct delivery *d)
{
	return sizeof *d + d->arena.used;
}

/* A recipient is due, and its place will take it as soon as it has room. */
static bool waits_for_room(struct queue *q, const struct message *m, int64_t now_ms)
{
	for (size_t i = 0; i < m->rcpts_n; i++) {
		const struct rcpt *r = &m->rcpts[i];
		if (r->state == RCPT_STATE_QUEUED && r->next_ms <= now_ms && r->dest != DEST_UNKNOWN && r->dest != DEST_LOCAL &&
		    !site_in_back_off(dest_get(&q->sites, r->dest)->site, now_ms))
			return true;
	}
	return false;
}

bool deliver_keep(struct delivery *d, const struct message *m)
{
	struct queue *q = d->q;
	size_t bytes = bytes_of(d);
	if (!d->have_data || d->in_file || q->stopping || bytes > KEPT_ONE_BYTES || q->kept_bytes + bytes > KEPT_BYTES ||
	    arena_err(&d->arena) != ERR_NONE || !waits_for_room(q, m, world_wall_ms(q->p->w)) ||
	    table64_put(&q->kept_by_id, d->id, d) != ERR_NONE)
		return false;
	d->kept_ns = world_mono_ns(q->p->w);
	list_push_back(&q->kept, &d->link);
	q->kept_bytes += bytes;
	return true;
}

static void take(struct queue *q, struct delivery *d)
{
	(void)table64_del(&q->kept_by_id, d->id);
	list_remove(&d->link);
	q->kept_bytes -= bytes_of(d);
}

struct delivery *deliver_kept(struct queue *q, uint64_t id)
{
	struct delivery *d = table64_get(&q->kept_by_id, id);
	if (d)
		take(q, d);
	return d;
}

void deliver_kept_forget(struct queue *q, int64_t ns)
{
	int64_t until_ns = world_mono_ns(q->p->w) - ns;
	while (!list_is_empty(&q->kept)) {
		struct delivery *d = CONTAINER_OF(q->kept.next, struct delivery, link);
		if (d->kept_ns > until_ns)
			return;
		take(q, d);
		arena_close(&d->arena);
		mem_free(q->p->mem, d);
	}
}

void deliver_kept_look(struct queue *q)
{
	deliver_kept_forget(q, KEPT_NS);
}
