/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When what is tried. Runs in queue as two coroutines: the dispatcher starts deliveries in the order of
 * their due times while the window has room, the keeper looks once a second at space, metrics and what
 * could not be written.
 */
#include "queue/queue_internal.h"

#include "base/events.h"

#define LONGEST_SLEEP_NS (30 * 1000000000LL) /* the wall clock may be set */
#define KEEP_NS (1000000000LL)
#define AWAY_RETRY_MS 1000
#define DISPATCH_A_TURN 256u

/* ---- due times ------------------------------------------------------------------------------------------ */

bool queue_may_deliver(const struct queue *q, size_t bytes)
{
	return !q->stopping && q->flying < QUEUE_FLIGHT_MAX &&
	       (q->flying == 0 || q->flying_bytes + bytes <= QUEUE_FLIGHT_BYTES);
}

bool queue_may_keep(const struct queue *q, size_t bytes)
{
	return !q->stopping && q->flying_bytes + bytes <= QUEUE_FLIGHT_BYTES;
}

void queue_schedule(struct queue *q, struct message *m)
{
	if (index_schedule(&q->ix, m) != ERR_NONE) /* no memory for the heap: the keeper will find it */
		log_io_error(&q->p->log, message_ids(m->id), STR("schedule a message"), ERR_NO_MEMORY, STR(""));
	if (heap_min(&q->ix.due) == &m->due)
		co_wake_one(&q->schedule);
}

/* RFC 5321 §4.5.4.1: retries become rarer; the jitter keeps what failed together from coming back together. */
int64_t queue_retry_ms(const struct queue *q, unsigned attempts, uint64_t jitter)
{
	uint64_t ms = q->p->conf.times.retry_first, most = q->p->conf.times.retry_max;
	if (ms == 0)
		ms = 1000;
	for (unsigned i = 1; i < attempts && ms < most; i++)
		ms *= 2;
	if (ms > most && most > 0)
		ms = most;
	return (int64_t)(ms - ms / 8 + jitter % (ms / 4 + 1));
}

int64_t queue_expiry_ms(const struct queue *q, const struct message *m)
{
	const struct conf_times *t = &q->p->conf.times;
	return m->expires_ms ? m->expires_ms : m->arrived_ms + (int64_t)(m->flags & MESSAGE_REPORT ? t->bounce_expire : t->expire);
}

int64_t queue_late_ms(const struct queue *q, const struct message *m)
{
	uint64_t notice = q->p->conf.times.delay_notice;
	/* what its sender held (RFC 4865) has its own end, and is late from its release on */
	int64_t from_ms = m->expires_ms ? m->expires_ms - (int64_t)q->p->conf.times.expire : m->arrived_ms;
	return notice ? from_ms + (int64_t)notice : INT64_MAX;
}

bool queue_is_late(const struct queue *q, const struct message *m, int64_t now_ms)
{
	return now_ms >= queue_late_ms(q, m);
}

/* Whether somebody is there who could deliver to this recipient, and its place takes more now. */
static bool is_open(struct queue *q, const struct rcpt *r, int64_t now_ms, struct site **closed)
{
	if (r->dest == DEST_UNKNOWN)
		return true;
	if (r->dest == DEST_LOCAL)
		return proc_peer(q->p, ROLE_LOCAL, 0) != NULL;
	struct site *site = dest_get(&q->sites, r->dest)->site;
	if (site_may_start(site, now_ms))
		return true;
	if (!*closed || site_in_back_off(*closed, now_ms)) /* rather where it is only full */
		*closed = site;
	return false;
}

/* When a message that waits for a place is looked at anyway. */
static int64_t look_again_ms(struct queue *q, const struct message *m, int64_t now_ms)
{
	int64_t at = queue_expiry_ms(q, m), late = queue_late_ms(q, m);
	for (size_t i = 0; i < m->rcpts_n; i++) {
		const struct rcpt *r = &m->rcpts[i];
		if (r->state != RCPT_STATE_QUEUED)
			continue;
		if (r->next_ms > now_ms && r->next_ms < at) /* it may be for another place */
			at = r->next_ms;
		else if (r->next_ms <= now_ms && !r->told && late < at)
			at = late;
	}
	return at > now_ms ? at : now_ms + AWAY_RETRY_MS;
}

/* A message is due: its delivery begins, or it waits for its place. */
static void take_due(struct queue *q, struct message *m, int64_t now_ms)
{
	struct site *closed = NULL;
	list_remove(&m->wait); /* looked at while it waits: another recipient is due now, or somebody is to be told */
	bool expired = now_ms >= queue_expiry_ms(q, m), late = queue_is_late(q, m, now_ms);
	for (size_t i = 0; i < m->rcpts_n; i++) {
		const struct rcpt *r = &m->rcpts[i];
		if (r->state != RCPT_STATE_QUEUED || r->next_ms > now_ms)
			continue;
		if (expired || (late && !r->told) || is_open(q, r, now_ms, &closed)) {
			deliver_queued(q, m);
			return;
		}
	}
	int64_t at = closed ? look_again_ms(q, m, now_ms) : now_ms + AWAY_RETRY_MS;
	if (heap_put(&q->ix.due, &m->due, at) != ERR_NONE)
		return; /* cannot be: it is in the heap */
	if (closed)
		site_wait(&q->sites, closed, &m->wait, m->sender, now_ms);
}

static bool has_room(const struct queue *q, const struct message *m)
{
	return queue_may_deliver(q, m->flags & MESSAGE_IN_FILE ? 0 : (size_t)m->body_bytes);
}

/* Begins one delivery, or puts one message where it waits; false: there is nothing to do now. */
static bool dispatch_one(struct queue *q, int64_t now_ms)
{
	if (q->p->conf.hold_all || q->stopping || q->flying >= QUEUE_FLIGHT_MAX)
		return false;
	struct list *link = sites_next(&q->sites, now_ms);
	if (link) {
		deliver_queued(q, CONTAINER_OF(link, struct message, wait));
		return true;
	}
	const struct heap_node *first = heap_min(&q->ix.due);
	struct message *m = first && first->key <= now_ms ? CONTAINER_OF(heap_min(&q->ix.due), struct message, due) : NULL;
	if (!m || !has_room(q, m))
		return false;
	take_due(q, m, now_ms);
	return true;
}

/* How long the dispatcher may sleep; it is woken when there is room. */
static int64_t sleep_ns(const struct queue *q, int64_t now_ms)
{
	const struct heap_node *first = heap_min(&q->ix.due);
	int64_t at = sites_wake_ms(&q->sites);
	if (first && first->key > now_ms && first->key < at)
		at = first->key;
	if (q->p->conf.hold_all || q->stopping || at - now_ms > LONGEST_SLEEP_NS / 1000000)
		return LONGEST_SLEEP_NS;
	return at > now_ms ? (at - now_ms) * 1000000 : LONGEST_SLEEP_NS;
}

/* coroutine */
void queue_dispatcher(void *arg)
{
	struct queue *q = arg;
	for (;;) {
		int64_t now_ms = world_wall_ms(q->p->w);
		unsigned n = 0;
		while (n < DISPATCH_A_TURN && dispatch_one(q, now_ms))
			n++;
		if (n == DISPATCH_A_TURN) {
			if (co_yield() != ERR_NONE)
				return;
			continue;
		}
		int64_t before = co_set_deadline(world_mono_ns(q->p->w) + sleep_ns(q, now_ms));
		enum err e = co_wait(&q->schedule);
		(void)co_set_deadline(before);
		if (e != ERR_NONE && e != ERR_TIMEOUT)
			return;
	}
}

/* ---- space (P7) ----------------------------------------------------------------------------------------- */

static struct str scarce(struct queue *q, bool strict)
{
	const struct conf_limits *l = &q->p->conf.limits;
	uint64_t bytes = 0, inodes = 0, more = strict ? 0 : l->queue_bytes / 8;
	size_t fewer = strict ? 0 : (size_t)(l->queue_messages / 16);
	if (spool_free_space(q->sp, &bytes, &inodes) == ERR_NONE) {
		gauge_set(q->m.free_bytes, (int64_t)bytes);
		if (bytes < l->queue_bytes + more)
			return STR("the spool's disk is nearly full");
		if (inodes < (strict ? 100u : 200u))
			return STR("the spool's disk has no inodes left");
	}
	if (l->queue_messages && q->ix.messages + fewer >= l->queue_messages)
		return STR("the queue is full");
	return STR_NONE;
}

/* Full at the limit, and no longer when there is an eighth more room: mail must not flap. */
void queue_look_at_space(struct queue *q)
{
	struct str why = scarce(q, !q->full);
	bool full = why.n > 0;
	q->taken_bytes = 0;
	if (full == q->full)
		return;
	q->full = full;
	if (full)
		log_queue_full(&q->p->log, (struct log_ids){ 0 }, why);
	else
		log_queue_room(&q->p->log, (struct log_ids){ 0 });
	struct ipc *peers[PROC_PEERS_MAX];
	size_t n = proc_peers(q->p, ROLE_SMTPD, peers, PROC_PEERS_MAX);
	struct queue_pressure_in note = { .full = full, .text = full ? why : STR("") };
	for (size_t i = 0; i < n; i++)
		if (note_queue_pressure(peers[i], &note) != ERR_NONE)
			continue; /* a dead peer hears it when it is back; else submit refuses */
}

/* ---- the keeper ------------------------------------------------------------------------------------------- */

static void set_counter(struct counter *c, uint64_t n)
{
	counter_add(c, n - c->n);
}

static void keep_metrics(struct queue *q)
{
	struct spool_totals t = spool_totals(q->sp);
	struct queue_metrics *m = &q->m;
	set_counter(m->commits, t.commits);
	set_counter(m->records, t.records);
	set_counter(m->commit_failures, t.failures);
	set_counter(m->written, t.bytes_written);
	set_counter(m->copied, t.copied);
	set_counter(m->damaged, t.damaged);
	for (size_t i = 0; i < 12; i++)
		set_counter(m->batch[i], t.batch_records[i]);
	gauge_set(m->messages, (int64_t)q->ix.messages);
	gauge_set(m->recipients, (int64_t)q->ix.recipients);
	gauge_set(m->held, (int64_t)q->ix.held);
	gauge_set(m->flying, (int64_t)q->flying);
	gauge_set(m->log_bytes, (int64_t)t.log_bytes);
	gauge_set(m->live_bytes, (int64_t)t.live_bytes);
	gauge_set(m->segments, (int64_t)t.segments);
	gauge_set(m->memory, (int64_t)mem_used(q->p->mem));
}

/* Ends that a failing disk has refused. */
static void end_again(struct queue *q)
{
	size_t it = 0;
	uint64_t id;
	struct message *m;
	while (q->ix.ends_failed > 0 && (m = table64_next(&q->ix.by_id, &it, &id))) {
		if (!(m->flags & MESSAGE_END_FAILED))
			continue;
		if (spool_add_gone(q->sp, id, NULL, 0) != ERR_NONE)
			return;
		m->flags &= (uint8_t)~MESSAGE_END_FAILED;
		q->ix.ends_failed--;
	}
}

/* coroutine */
void queue_keeper(void *arg)
{
	struct queue *q = arg;
	do {
		queue_look_at_space(q);
		keep_metrics(q);
		end_again(q);
		deliver_kept_look(q);
		queue_history_look(q);
		queue_list_forget(q);
	} while (co_sleep_until(world_mono_ns(q->p->w) + KEEP_NS) == ERR_NONE);
}
