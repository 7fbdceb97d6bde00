/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliveries: begun, read back, parted into groups by destination, ended: see delivery.h. Runs in queue,
 * one coroutine a delivery and one a group; at most QUEUE_FLIGHT_MAX messages at a time.
 */
#include "queue/delivery.h"

#include "base/events.h"
#include "base/hash.h"
#include "queue/route.h"

/* ---- beginning and end ----------------------------------------------------------------------------- */

static void delivery_run(void *arg);

static void unreserve(struct delivery *d)
{
	if (d->reserved != DEST_UNKNOWN)
		dest_unreserve(&d->q->sites, d->reserved, d->reserved_site, world_wall_ms(d->q->p->w));
	d->reserved = DEST_UNKNOWN;
}

/* m: its message, if there is any left. */
static void delivery_free(struct delivery *d, const struct message *m)
{
	struct queue *q = d->q;
	unreserve(d);
	q->flying_bytes -= d->bytes;
	q->sites.stranger_bytes -= d->with_stranger ? d->bytes : 0;
	d->with_stranger = false;
	if (!m || !deliver_keep(d, m)) {
		arena_close(&d->arena);
		mem_free(q->p->mem, d);
	}
	co_wake_all(&q->idle);
}

static struct delivery *delivery_new(struct queue *q, struct message *m)
{
	struct delivery *d = mem_alloc(q->p->mem, sizeof *d);
	if (!d)
		return NULL;
	d->q = q;
	d->id = m->id;
	d->arena = arena_make(q->p->mem, DELIVERY_ARENA_MAX);
	world_random(q->p->w, &d->jitter, sizeof d->jitter);
	d->bytes = m->flags & MESSAGE_IN_FILE ? 0 : (size_t)m->body_bytes;
	q->flying_bytes += d->bytes;
	return d;
}

/* Memory or threads have run out: a moment later. */
static void put_off(struct queue *q, struct message *m, int64_t ms)
{
	for (size_t i = 0; i < m->rcpts_n; i++)
		if (m->rcpts[i].state == RCPT_STATE_QUEUED && m->rcpts[i].next_ms < world_wall_ms(q->p->w) + ms)
			m->rcpts[i].next_ms = world_wall_ms(q->p->w) + ms;
	queue_schedule(q, m);
}

static void not_started(struct queue *q, struct message *m, struct delivery *d)
{
	m->flags &= (uint8_t)~MESSAGE_BUSY;
	put_off(q, m, AWAY_MS);
	if (d)
		delivery_free(d, NULL);
}

static void delivery_start(struct queue *q, struct message *m, struct delivery *d)
{
	m->flags |= MESSAGE_BUSY;
	heap_del(&q->ix.due, &m->due);
	list_remove(&m->wait);
	if (!d || scope_spawn(&q->p->work, "delivery", CO_STACK_SMALL, delivery_run, d) != ERR_NONE)
		not_started(q, m, d);
	else
		q->flying++;
}

/* So that no more are read back for a place than it takes. */
static void reserve(struct delivery *d, const struct message *m)
{
	struct queue *q = d->q;
	int64_t now_ms = world_wall_ms(q->p->w);
	for (size_t i = 0; i < m->rcpts_n; i++) {
		const struct rcpt *r = &m->rcpts[i];
		if (r->state != RCPT_STATE_QUEUED || r->next_ms > now_ms || r->dest == DEST_UNKNOWN || r->dest == DEST_LOCAL ||
		    !site_may_start(dest_get(&q->sites, r->dest)->site, now_ms))
			continue;
		d->reserved = r->dest;
		d->reserved_site = dest_reserve(&q->sites, r->dest);
		return;
	}
}

void deliver_queued(struct queue *q, struct message *m)
{
	struct delivery *d = deliver_kept(q, m->id);
	if (d)
		q->flying_bytes += d->bytes;
	else
		d = delivery_new(q, m);
	if (d)
		reserve(d, m);
	delivery_start(q, m, d);
}

void deliver_waiting(struct queue *q)
{
	while (q->flying < QUEUE_FLIGHT_FRESH && !q->stopping) {
		struct list *first = list_pop_front(&q->waiting);
		if (!first)
			return;
		struct delivery *d = CONTAINER_OF(first, struct delivery, link);
		delivery_start(q, index_get(&q->ix, d->id), d);
	}
}

void deliver_forget(struct queue *q)
{
	struct list *first;
	while ((first = list_pop_front(&q->waiting))) {
		struct delivery *d = CONTAINER_OF(first, struct delivery, link);
		not_started(q, index_get(&q->ix, d->id), d);
	}
}

static void delivery_end(struct delivery *d, const struct message *m)
{
	struct queue *q = d->q;
	q->flying--;
	delivery_free(d, m);
	deliver_waiting(q);
	co_wake_one(&q->schedule);
}

static struct str join(struct arena *a, const struct str *parts, size_t n)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++)
		bytes += parts[i].n;
	char *to = arena_alloc(a, bytes ? bytes : 1);
	struct buf b = buf_fixed(to, to ? bytes : 0);
	for (size_t i = 0; i < n; i++)
		buf_add(&b, parts[i]);
	return buf_str(&b);
}

/* All strings of an envelope, copied. */
static void copy_envelope(struct arena *a, const struct envelope *env, struct envelope *to)
{
	struct envelope_rcpt *r = ARENA_ARRAY(a, struct envelope_rcpt, env->recipients_n);
	*to = *env;
	to->reverse_path = arena_str(a, env->reverse_path);
	to->helo = to->protocol = to->account = STR("");
	to->envid = arena_str(a, env->envid);
	to->message_id = arena_str(a, env->message_id);
	to->recipients = r;
	to->recipients_n = r ? env->recipients_n : 0;
	for (size_t i = 0; i < to->recipients_n; i++) {
		const struct envelope_rcpt *from = &env->recipients[i];
		r[i] = *from;
		r[i].target.address = arena_str(a, from->target.address);
		r[i].target.mailbox = arena_str(a, from->target.mailbox);
		r[i].forward_path = arena_str(a, from->forward_path);
		r[i].orcpt = arena_str(a, from->orcpt);
	}
}

void deliver_fresh(struct queue *q, struct message *m, const struct queue_submit_in *in, const struct str *body, size_t body_n)
{
	struct delivery *d = delivery_new(q, m);
	if (d) {
		copy_envelope(&d->arena, &in->envelope, &d->env);
		d->prefix = arena_str(&d->arena, in->prefix);
		d->in_file = in->in_file;
		d->body = in->in_file ? STR_NONE : join(&d->arena, body, body_n);
		d->body_bytes = in->body_bytes;
		d->have_data = arena_err(&d->arena) == ERR_NONE;
	}
	if (!d || q->flying < QUEUE_FLIGHT_FRESH) {
		delivery_start(q, m, d);
		return;
	}
	m->flags |= MESSAGE_BUSY;
	list_push_back(&q->waiting, &d->link);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static YIELDS enum err read_back(struct delivery *d, const struct message *m)
{
	struct spool_ref ref = message_ref(m);
	arena_close(&d->arena);
	TRY(spool_read(d->q->sp, &ref, &d->arena, &d->env, &d->prefix, &d->body));
	d->in_file = ref.in_file;
	d->body_bytes = ref.body_bytes;
	d->have_data = true;
	return ERR_NONE;
}

/* ---- groups ----------------------------------------------------------------------------------------------- */

static struct group *group_new(struct delivery *d, uint32_t dest, size_t most)
{
	struct group *g = ARENA_NEW(&d->arena, struct group);
	if (!g)
		return NULL;
	*g = (struct group){ .d = d, .dest = dest };
	g->numbers = ARENA_ARRAY(&d->arena, uint16_t, most);
	g->states = ARENA_ARRAY(&d->arena, struct spool_state, most);
	g->news = ARENA_ARRAY(&d->arena, struct news, most);
	return g->numbers && g->states && g->news ? g : NULL;
}

const struct conf_route *deliver_route(const struct queue *q, const struct rcpt *r, struct str reverse_path, struct str address)
{
	struct str name = index_route(&q->ix, r);
	const struct conf_route *route = name.n ? route_named(&q->p->conf, name) : NULL;
	return route ? route : route_for(&q->p->conf, reverse_path, address);
}

/* Where a recipient goes; learned once. DEST_UNKNOWN: no memory. */
static uint32_t dest_of(struct delivery *d, struct message *m, uint16_t number)
{
	struct queue *q = d->q;
	const struct target *t = &d->env.recipients[number].target;
	uint32_t dest = m->rcpts[number].dest;
	if (dest != DEST_UNKNOWN)
		return dest;
	if (t->kind == TARGET_KIND_MAILBOX)
		dest = DEST_LOCAL;
	else if (dest_find(&q->sites, deliver_route(q, &m->rcpts[number], d->env.reverse_path, t->address), t->address, &dest) != ERR_NONE)
		return DEST_UNKNOWN;
	index_set_dest(&q->ix, m, number, dest);
	return dest;
}

/* The group of this destination, begun if there may be one; NULL: not now. */
static struct group *group_for(struct delivery *d, struct group **groups, size_t *n, uint32_t dest, size_t most)
{
	int64_t now_ms = world_wall_ms(d->q->p->w);
	for (size_t i = 0; i < *n; i++)
		if (groups[i]->dest == dest)
			return groups[i];
	if (dest == DEST_UNKNOWN || *n == GROUPS_MAX ||
	    (dest != DEST_LOCAL && !site_may_start(dest_get(&d->q->sites, dest)->site, now_ms)))
		return NULL;
	struct group *g = group_new(d, dest, most);
	if (!g)
		return NULL;
	if (dest != DEST_LOCAL)
		g->site = dest_start(&d->q->sites, dest, now_ms);
	if (g->site && !g->site->known && !d->with_stranger) {
		d->with_stranger = true;
		d->q->sites.stranger_bytes += d->bytes;
	}
	groups[(*n)++] = g;
	return g;
}

/* Its place is closed: all the time that was left, or so long that its sender is to hear of it. */
static void keep_waiting(struct group *g, uint16_t number, uint32_t dest, bool expired)
{
	struct str why = dest_get(&g->d->q->sites, dest)->site->why;
	struct found f = { .by = STR("queue"), .enhanced = STR("4.4.7"),
			   .text = why.n ? arena_str(&g->d->arena, why) : STR("the place takes no more at present") };
	if (expired)
		settle_failed(g, number, &f);
	else
		settle_late(g, number, &f);
}

/*
 * Due recipients, by destination. Those of places that are full or closed stay due and wait there; of
 * those whose time is over, or whose senders are to hear that it takes long, `late` takes care.
 */
static size_t make_groups(struct delivery *d, struct message *m, struct group **groups, struct group *late)
{
	int64_t now_ms = world_wall_ms(d->q->p->w);
	bool expired = now_ms >= queue_expiry_ms(d->q, m), is_late = queue_is_late(d->q, m, now_ms);
	size_t n = 0, due = 0;
	unreserve(d);
	for (uint16_t i = 0; i < m->rcpts_n; i++)
		due += m->rcpts[i].state == RCPT_STATE_QUEUED && m->rcpts[i].next_ms <= now_ms;
	for (uint16_t i = 0; i < m->rcpts_n && i < d->env.recipients_n; i++) {
		if (m->rcpts[i].state != RCPT_STATE_QUEUED || m->rcpts[i].next_ms > now_ms)
			continue;
		if (d->env.recipients[i].target.kind == TARGET_KIND_EXPANSION) {
			settle_expanded(late, i);
			continue;
		}
		uint32_t dest = dest_of(d, m, i);
		struct group *g = group_for(d, groups, &n, dest, due);
		if (g)
			g->numbers[g->n++] = i;
		else if (dest == DEST_UNKNOWN)
			m->rcpts[i].next_ms = now_ms + AWAY_MS;
		else if ((expired || (is_late && !m->rcpts[i].told)) && n < GROUPS_MAX)
			keep_waiting(late, i, dest, expired);
	}
	return n;
}

static YIELDS void group_do(struct group *g)
{
	if (g->dest == DEST_LOCAL)
		deliver_to_mailboxes(g);
	else
		deliver_to_relay(g);
	settle_group(g);
}

/* coroutine */
static void group_run(void *arg)
{
	group_do(arg);
}

static YIELDS void run_groups(struct delivery *d, struct group **groups, size_t n)
{
	if (n == 1) {
		group_do(groups[0]);
		return;
	}
	scope_open(&d->scope, d->q->p->loop, &d->q->p->work);
	for (size_t i = 0; i < n; i++)
		if (scope_spawn(&d->scope, "group", CO_STACK_SMALL, group_run, groups[i]) != ERR_NONE)
			group_do(groups[i]); /* one after the other, then */
	scope_wait(&d->scope);
	scope_close(&d->scope);
}

/* All recipients that are due and whose place is open. */
static YIELDS void attempt(struct delivery *d, struct message *m)
{
	struct group *groups[GROUPS_MAX], *late = group_new(d, DEST_LOCAL, m->rcpts_n);
	if (!late) {
		put_off(d->q, m, AWAY_MS);
		return;
	}
	if (d->env.reverse_path.n == 0)
		m->flags |= MESSAGE_REPORT;
	m->sender = (uint8_t)crc32c(0, d->env.reverse_path.p, d->env.reverse_path.n);
	size_t n = make_groups(d, m, groups, late);
	if (n > 0)
		run_groups(d, groups, n);
	settle_group(late);
}

/* ---- one delivery ------------------------------------------------------------------------------------------------ */

/* What cannot be read now may be readable in a minute; what fails its checks waits for the operator. */
static YIELDS void cannot_read(struct delivery *d, struct message *m, enum err e)
{
	struct group *g = group_new(d, DEST_LOCAL, m->rcpts_n);
	if ((e != ERR_CORRUPT && e != ERR_NOT_FOUND) || !g) {
		log_io_error(&d->q->p->log, message_ids(d->id), STR("read a queued message"), e, STR(""));
		put_off(d->q, m, UNREADABLE_MS);
		return;
	}
	d->env.recipients_n = 0;
	for (uint16_t i = 0; i < m->rcpts_n; i++)
		if (m->rcpts[i].state == RCPT_STATE_QUEUED)
			settle_held(g, i, STR("5.6.0"), STR("the stored message is damaged"));
	settle_group(g);
}

/* coroutine */
static void delivery_run(void *arg)
{
	struct delivery *d = arg;
	struct queue *q = d->q;
	struct message *m = index_get(&q->ix, d->id);
	enum err e = d->have_data ? ERR_NONE : read_back(d, m);
	m = index_get(&q->ix, d->id);
	if (e == ERR_NO_MEMORY) {
		put_off(q, m, AWAY_MS);
	} else if (e != ERR_NONE) {
		cannot_read(d, m, e);
	} else {
		attempt(d, m);
	}
	m = index_get(&q->ix, d->id);
	if (m) {
		m->flags &= (uint8_t)~MESSAGE_BUSY;
		queue_schedule(q, m);
	}
	delivery_end(d, m);
}
