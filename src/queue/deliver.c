/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliveries: a message's due recipients go to local, and what became of them is written down. Runs in
 * queue, one coroutine a delivery, at most QUEUE_FLIGHT_MAX at a time so that local can batch its syncs.
 * Message bytes are a stranger's and only carried.
 *
 * A message under way is MESSAGE_BUSY and out of the order of due times; its delivery alone changes it.
 * Outcomes need no sync of their own: a crash before they are written repeats the delivery, which local
 * recognises by its name (`repeated`), so they share the commits of new mail.
 */
#include "queue/queue_internal.h"

#include "base/events.h"

#define DELIVERY_ARENA_MAX ((size_t)16 << 20)
#define GROUP_BYTES 24000u    /* recipients of one call, encoded */
#define CALL_BYTES 60000u     /* what one call may hold in all */
#define AWAY_MS 1000	      /* local does not answer: again after this time, uncounted */
#define AWAY_TOLD_NS (10 * 1000000000LL)
#define UNREADABLE_MS (60 * 1000)

struct delivery {
	struct list link; /* queue.waiting */
	struct queue *q;
	uint64_t id;
	struct arena arena;
	size_t bytes; /* of the window */
	bool have_data;
	/* what is to be delivered; in arena */
	int64_t arrived_ms;
	struct str reverse_path, prefix, body;
	uint64_t body_bytes;
	bool binary, in_file;
	const struct envelope_rcpt *rcpts; /* those of the envelope */
	size_t rcpts_n;
	/* what became of it */
	struct spool_state *states;
	size_t states_n;
};

/* ---- beginning and end ----------------------------------------------------------------------------- */

static void delivery_run(void *arg);

static void delivery_free(struct delivery *d)
{
	struct queue *q = d->q;
	q->flying_bytes -= d->bytes;
	arena_close(&d->arena);
	mem_free(q->p->mem, d);
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
		delivery_free(d);
}

static void delivery_start(struct queue *q, struct message *m, struct delivery *d)
{
	m->flags |= MESSAGE_BUSY;
	heap_del(&q->ix.due, &m->due);
	if (!d || scope_spawn(&q->p->work, "delivery", CO_STACK_SMALL, delivery_run, d) != ERR_NONE)
		not_started(q, m, d);
	else
		q->flying++;
}

void deliver_queued(struct queue *q, struct message *m)
{
	delivery_start(q, m, delivery_new(q, m));
}

void deliver_waiting(struct queue *q)
{
	while (q->flying < QUEUE_FLIGHT_FRESH && !q->stopping && proc_peer(q->p, ROLE_LOCAL, 0)) {
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

static void delivery_end(struct delivery *d)
{
	struct queue *q = d->q;
	q->flying--;
	delivery_free(d);
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

/* What a delivery needs of the envelope, copied. */
static void copy_envelope(struct delivery *d, const struct envelope *env)
{
	struct envelope_rcpt *r = ARENA_ARRAY(&d->arena, struct envelope_rcpt, env->recipients_n);
	for (size_t i = 0; r && i < env->recipients_n; i++) {
		r[i].target.kind = env->recipients[i].target.kind;
		r[i].target.address = arena_str(&d->arena, env->recipients[i].target.address);
		r[i].target.mailbox = arena_str(&d->arena, env->recipients[i].target.mailbox);
	}
	d->rcpts = r;
	d->rcpts_n = env->recipients_n;
	d->arrived_ms = env->arrived_ms;
	d->reverse_path = arena_str(&d->arena, env->reverse_path);
	d->binary = env->body == BODY_KIND_BINARY_MIME;
}

void deliver_fresh(struct queue *q, struct message *m, const struct queue_submit_in *in, const struct str *body, size_t body_n)
{
	struct delivery *d = delivery_new(q, m);
	if (d) {
		copy_envelope(d, &in->envelope);
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
	struct envelope env;
	arena_close(&d->arena);
	TRY(spool_read(d->q->sp, &ref, &d->arena, &env, &d->prefix, &d->body));
	d->rcpts = env.recipients;
	d->rcpts_n = env.recipients_n;
	d->arrived_ms = env.arrived_ms;
	d->reverse_path = env.reverse_path;
	d->binary = env.body == BODY_KIND_BINARY_MIME;
	d->in_file = ref.in_file;
	d->body_bytes = ref.body_bytes;
	d->have_data = true;
	return ERR_NONE;
}

/* ---- outcomes ---------------------------------------------------------------------------------------------- */

static struct spool_state *new_state(struct delivery *d, const struct message *m, uint16_t number)
{
	struct spool_state *st = &d->states[d->states_n++];
	*st = (struct spool_state){ .number = number, .attempts = m->rcpts[number].attempts + 1u,
				    .at_ms = world_wall_ms(d->q->p->w), .address = d->rcpts[number].target.address,
				    .by = STR("local") };
	return st;
}

static void hold(struct delivery *d, const struct message *m, uint16_t number, struct str enhanced, struct str text)
{
	struct queue *q = d->q;
	struct spool_state *st = new_state(d, m, number);
	st->state = RCPT_STATE_HELD;
	st->enhanced = enhanced;
	st->text = text;
	counter_add(q->m.failed, 1);
	log_message_held(&q->p->log, message_ids(d->id), st->address, enhanced, text);
}

static void defer(struct delivery *d, const struct message *m, uint16_t number, struct str enhanced, struct str text)
{
	struct queue *q = d->q;
	int64_t now_ms = world_wall_ms(q->p->w);
	if (now_ms >= queue_expiry_ms(q, m)) { /* never dropped: who sent it is not told yet, so the operator decides */
		struct str why = arena_strf(&d->arena, "given up after %u attempts: %.*s", m->rcpts[number].attempts + 1u,
					    STR_ARG(str_sub(text, 0, 300)));
		hold(d, m, number, enhanced, why.n ? why : STR("given up"));
		return;
	}
	struct spool_state *st = new_state(d, m, number);
	int64_t wait_ms = queue_retry_ms(q, st->attempts);
	st->state = RCPT_STATE_QUEUED;
	st->next_ms = now_ms + wait_ms;
	st->enhanced = enhanced;
	st->text = text;
	counter_add(q->m.deferred, 1);
	log_message_deferred(&q->p->log, message_ids(d->id), st->address, enhanced, text, wait_ms);
}

static void settle(struct delivery *d, const struct message *m, uint16_t number, const struct outcome *o)
{
	if (o->verdict == VERDICT_DEFER) {
		defer(d, m, number, o->enhanced, o->text);
		return;
	}
	if (o->verdict == VERDICT_REFUSE) {
		hold(d, m, number, o->enhanced, o->text);
		return;
	}
	struct spool_state *st = new_state(d, m, number);
	st->state = RCPT_STATE_DELIVERED;
	st->enhanced = o->enhanced;
	st->text = o->text;
	counter_add(d->q->m.delivered, 1);
	log_message_delivered(&d->q->p->log, message_ids(d->id), st->address, o->text);
}

/* ---- local ---------------------------------------------------------------------------------------------------- */

/* All of the body but what fits into the call itself. */
static YIELDS enum err send_parts(struct delivery *d, struct ipc *ch, struct local_deliver_in *in, size_t used)
{
	size_t room = CALL_BYTES > used + 512 ? CALL_BYTES - used - 512 : 512;
	uint64_t offset = 0;
	struct str rest = d->body;
	if (room > IPC_BODY_PART)
		room = IPC_BODY_PART;
	while (rest.n > room) {
		size_t n = rest.n < IPC_BODY_PART ? rest.n : IPC_BODY_PART;
		struct local_part_in part = { .id = d->id, .offset = offset, .bytes = str_sub(rest, 0, n) };
		struct local_part_out nothing;
		ARENA_SCOPED struct arena arena = arena_make(d->q->p->mem, 4096);
		TRY(call_local_part(ch, &part, &arena, &nothing));
		rest = str_sub(rest, n, rest.n);
		offset += n;
	}
	in->body = rest;
	return ERR_NONE;
}

/* *fd_out stays open until the call is answered: by then it has been sent. */
static YIELDS enum err send_file(struct delivery *d, struct ipc *ch, int *fd_out)
{
	struct local_file_in file = { .id = d->id };
	TRY(spool_body_open(d->q->sp, d->id, &file.file));
	*fd_out = file.file;
	return note_local_file(ch, &file);
}

/* One call for these recipients; outcomes live in d->arena. */
static YIELDS enum err call_local(struct delivery *d, struct local_rcpt *rcpts, size_t n, size_t bytes, bool repeated,
				  struct local_deliver_out *out)
{
	struct ipc *ch = proc_peer(d->q->p, ROLE_LOCAL, 0);
	struct local_deliver_in in = {
		.id = d->id, .arrived_ms = d->arrived_ms, .reverse_path = d->reverse_path, .recipients = rcpts,
		.recipients_n = n, .prefix = d->prefix, .body_bytes = d->body_bytes, .in_file = d->in_file,
		.binary = d->binary, .repeated = repeated,
	};
	int fd = -1;
	if (!ch)
		return ERR_CLOSED;
	enum err e = d->in_file ? send_file(d, ch, &fd) :
				  send_parts(d, ch, &in, bytes + d->prefix.n + d->reverse_path.n);
	ch = proc_peer(d->q->p, ROLE_LOCAL, 0);
	if (e == ERR_NONE)
		e = ch ? call_local_deliver(ch, &in, &d->arena, out) : ERR_CLOSED;
	world_close(d->q->p->w, fd);
	return e;
}

static void tell_away(struct queue *q, enum err e)
{
	int64_t now_ns = world_mono_ns(q->p->w);
	if (q->local_told_ns && now_ns < q->local_told_ns + AWAY_TOLD_NS)
		return;
	q->local_told_ns = now_ns;
	log_local_away(&q->p->log, message_ids(0), e);
}

static const struct outcome *outcome_for(const struct local_deliver_out *out, uint16_t number)
{
	for (size_t i = 0; i < out->outcomes_n; i++)
		if (out->outcomes[i].number == number)
			return &out->outcomes[i];
	return NULL;
}

/* No answer: what local has done we do not know. Uncounted, and tried again soon. */
static void no_answer(struct queue *q, struct message *m, const struct local_rcpt *rcpts, size_t n, enum err e)
{
	int64_t at_ms = world_wall_ms(q->p->w) + AWAY_MS;
	m->flags |= MESSAGE_REPEATED;
	for (size_t i = 0; i < n; i++)
		m->rcpts[rcpts[i].number].next_ms = at_ms;
	if (e != ERR_CANCELLED)
		tell_away(q, e);
}

static YIELDS void deliver_group(struct delivery *d, struct local_rcpt *rcpts, size_t n, size_t bytes)
{
	struct queue *q = d->q;
	struct message *m = index_get(&q->ix, d->id);
	struct local_deliver_out out = { 0 };
	enum err e = call_local(d, rcpts, n, bytes, m->flags & MESSAGE_REPEATED, &out);
	m = index_get(&q->ix, d->id);
	if (e != ERR_NONE) {
		no_answer(q, m, rcpts, n, e);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const struct outcome *o = outcome_for(&out, rcpts[i].number);
		if (o)
			settle(d, m, rcpts[i].number, o);
		else
			defer(d, m, rcpts[i].number, STR("4.3.0"), STR("no outcome was reported"));
	}
}

/* ---- one delivery ------------------------------------------------------------------------------------------------ */

/* All due recipients, as many a call as its packet holds. */
static YIELDS void deliver_due(struct delivery *d)
{
	struct queue *q = d->q;
	struct message *m = index_get(&q->ix, d->id);
	struct local_rcpt *rcpts = ARENA_ARRAY(&d->arena, struct local_rcpt, m->rcpts_n);
	int64_t now_ms = world_wall_ms(q->p->w);
	size_t n = 0, bytes = 0;
	for (uint16_t i = 0; rcpts && i < m->rcpts_n && i < d->rcpts_n; i++) {
		const struct target *t = &d->rcpts[i].target;
		if (m->rcpts[i].state != RCPT_STATE_QUEUED || m->rcpts[i].next_ms > now_ms)
			continue;
		if (t->kind != TARGET_KIND_MAILBOX) {
			hold(d, m, i, STR("4.4.0"), STR("this version cannot send to other servers"));
			continue;
		}
		size_t more = t->mailbox.n + t->address.n + 16;
		if (n > 0 && bytes + more > GROUP_BYTES) {
			deliver_group(d, rcpts, n, bytes);
			m = index_get(&q->ix, d->id);
			n = bytes = 0;
		}
		rcpts[n++] = (struct local_rcpt){ .number = i, .mailbox = t->mailbox, .address = t->address };
		bytes += more;
	}
	if (n > 0)
		deliver_group(d, rcpts, n, bytes);
}

/* What cannot be read now may be readable in a minute; what fails its checks waits for the operator. */
static void cannot_read(struct delivery *d, struct message *m, enum err e)
{
	if (e != ERR_CORRUPT && e != ERR_NOT_FOUND) {
		log_io_error(&d->q->p->log, message_ids(d->id), STR("read a queued message"), e, STR(""));
		put_off(d->q, m, UNREADABLE_MS);
		return;
	}
	static const struct envelope_rcpt unknown;
	struct envelope_rcpt *rcpts = ARENA_ARRAY(&d->arena, struct envelope_rcpt, m->rcpts_n);
	for (uint16_t i = 0; rcpts && i < m->rcpts_n; i++) {
		rcpts[i] = unknown;
		d->rcpts = rcpts;
		if (m->rcpts[i].state == RCPT_STATE_QUEUED)
			hold(d, m, i, STR("5.6.0"), STR("the stored message is damaged"));
	}
	if (!rcpts)
		put_off(d->q, m, UNREADABLE_MS);
}

/* coroutine */
static void delivery_run(void *arg)
{
	struct delivery *d = arg;
	struct queue *q = d->q;
	struct message *m = index_get(&q->ix, d->id);
	enum err e = d->have_data ? ERR_NONE : read_back(d, m);
	m = index_get(&q->ix, d->id);
	d->states = ARENA_ARRAY(&d->arena, struct spool_state, m->rcpts_n);
	if (e == ERR_NONE && !d->states)
		e = ERR_NO_MEMORY;
	if (e == ERR_NONE)
		deliver_due(d);
	else if (d->states)
		cannot_read(d, m, e);
	else
		put_off(q, m, AWAY_MS);
	m = index_get(&q->ix, d->id);
	for (size_t i = 0; i < d->states_n; i++) {
		const struct spool_state *st = &d->states[i];
		queue_history_attempt(q, d->id, st, st->state == RCPT_STATE_DELIVERED ? VERDICT_ACCEPT :
					  st->state == RCPT_STATE_QUEUED ? VERDICT_DEFER : VERDICT_REFUSE);
		index_set(&q->ix, m, st);
	}
	if (d->states_n > 0)
		queue_store_states(q, m, d->states, d->states_n);
	m = index_get(&q->ix, d->id);
	if (m) {
		m->flags &= (uint8_t)~MESSAGE_BUSY;
		queue_schedule(q, m);
	}
	delivery_end(d);
}

/* ---- what became of it, written down ---------------------------------------------------------------------------- */

/* The index has the states already. The caller keeps the message busy; afterwards it may be gone. */
void queue_store_states(struct queue *q, struct message *m, const struct spool_state *st, size_t n)
{
	uint64_t id = m->id;
	bool final = message_is_final(m);
	enum err e;
	if (final)
		index_end(&q->ix, m); /* S8: no copy of it is made from here on */
	while ((e = final ? spool_add_gone(q->sp, id, st, n) : spool_add_states(q->sp, id, st, n)) == ERR_BUSY)
		if (co_sleep_until(world_mono_ns(q->p->w) + 10 * 1000000LL) != ERR_NONE)
			break;
	if (e == ERR_NONE || !final)
		return; /* a state that is lost costs an attempt, nothing else */
	m = index_get(&q->ix, id);
	if (m && !(m->flags & MESSAGE_END_FAILED)) {
		m->flags |= MESSAGE_END_FAILED;
		q->ix.ends_failed++;
	}
}
