/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of recipients: the states that follow, told to log and history, and written down. Runs in
 * queue. Texts are remote servers', sanitised and bounded by relay.
 */
#include "queue/delivery.h"

#include "base/events.h"

#define AWAY_TOLD_NS (10 * 1000000000LL)

static const struct envelope_rcpt *rcpt_of(const struct group *g, uint16_t number)
{
	static const struct envelope_rcpt unknown = { .target = { .address = { "unknown", 7 } } };
	return number < g->d->env.recipients_n ? &g->d->env.recipients[number] : &unknown;
}

/* A remote's words with their code; ours as they are. */
static struct str words(struct group *g, const struct found *f)
{
	return f->code ? arena_strf(&g->d->arena, "%u %.*s", f->code, STR_ARG(f->text)) : f->text;
}

static struct spool_state *new_state(struct group *g, uint16_t number, enum rcpt_state state, const struct found *f)
{
	const struct message *m = delivery_message(g->d);
	g->news[g->states_n] = (struct news){ .found = *f };
	struct spool_state *st = &g->states[g->states_n++];
	*st = (struct spool_state){ .number = number, .state = state, .attempts = m->rcpts[number].attempts + 1u,
				    .at_ms = world_wall_ms(g->d->q->p->w), .told = m->rcpts[number].told,
				    .route = index_route(&g->d->q->ix, &m->rcpts[number]),
				    .address = rcpt_of(g, number)->target.address,
				    .by = f->by, .enhanced = f->enhanced, .text = words(g, f) };
	return st;
}

/* The news of the last state. */
static struct news *tell(struct group *g, uint16_t number, enum dsn_action action)
{
	struct news *n = &g->news[g->states_n - 1];
	n->action = action;
	n->tell = dsn_wanted(rcpt_of(g, number)->notify, action, g->d->env.reverse_path);
	return n;
}

void settle_delivered(struct group *g, uint16_t number, enum rcpt_state state, const struct found *f)
{
	struct queue *q = g->d->q;
	struct spool_state *st = new_state(g, number, state, f);
	if (state == RCPT_STATE_RELAYED) {
		counter_add(q->m.relayed, 1);
		log_message_relayed(&q->p->log, message_ids(g->d->id), st->address, f->by, st->text);
		if (!f->next_reports)
			tell(g, number, DSN_RELAYED);
	} else {
		counter_add(q->m.delivered, 1);
		log_message_delivered(&q->p->log, message_ids(g->d->id), st->address, st->text);
		if (!f->next_reports)
			tell(g, number, DSN_DELIVERED);
	}
}

void settle_expanded(struct group *g, uint16_t number)
{
	struct found f = { .by = STR("queue"), .enhanced = STR("2.0.0"),
			   .text = STR("an alias with several targets: its sender is told so") };
	(void)new_state(g, number, RCPT_STATE_DELIVERED, &f);
	g->news[g->states_n - 1].found.text = STR(""); /* the report says it better */
	tell(g, number, DSN_EXPANDED);
}

void settle_held(struct group *g, uint16_t number, struct str enhanced, struct str text)
{
	struct queue *q = g->d->q;
	struct found f = { .by = STR("queue"), .enhanced = enhanced, .text = text };
	struct spool_state *st = new_state(g, number, RCPT_STATE_HELD, &f);
	counter_add(q->m.held_back, 1);
	log_message_held(&q->p->log, message_ids(g->d->id), st->address, enhanced, text);
}

void settle_failed(struct group *g, uint16_t number, const struct found *f)
{
	(void)new_state(g, number, RCPT_STATE_BOUNCED, f);
	tell(g, number, DSN_FAILED)->failed = true;
}

/* Once, when mail has waited for so long. */
static void tell_if_late(struct group *g, struct spool_state *st, int64_t now_ms)
{
	struct queue *q = g->d->q;
	if (st->told || !queue_is_late(q, delivery_message(g->d), now_ms))
		return;
	st->told = true;
	tell(g, st->number, DSN_DELAYED);
}

/* Not beyond the times at which the sender is to hear that it takes long, or that it is given up. */
static int64_t next_wait_ms(const struct queue *q, const struct message *m, const struct spool_state *st, int64_t now_ms,
			    uint64_t jitter)
{
	int64_t wait_ms = queue_retry_ms(q, st->attempts, jitter);
	int64_t late_ms = queue_late_ms(q, m), end_ms = queue_expiry_ms(q, m);
	if (!st->told && late_ms > now_ms && late_ms - now_ms < wait_ms)
		wait_ms = late_ms - now_ms;
	return end_ms - now_ms < wait_ms ? end_ms - now_ms : wait_ms;
}

void settle_deferred(struct group *g, uint16_t number, const struct found *f)
{
	struct queue *q = g->d->q;
	const struct message *m = delivery_message(g->d);
	int64_t now_ms = world_wall_ms(q->p->w);
	if (now_ms >= queue_expiry_ms(q, m)) { /* RFC 3463 §3.5: X.4.7 delivery time expired; the reason stays */
		settle_failed(g, number, f);
		return;
	}
	struct spool_state *st = new_state(g, number, RCPT_STATE_QUEUED, f);
	int64_t wait_ms = next_wait_ms(q, m, st, now_ms, g->d->jitter);
	st->next_ms = now_ms + wait_ms;
	counter_add(q->m.deferred, 1);
	log_message_deferred(&q->p->log, message_ids(g->d->id), st->address, f->enhanced, st->text, wait_ms);
	tell_if_late(g, st, now_ms);
}

void settle_late(struct group *g, uint16_t number, const struct found *f)
{
	const struct message *m = delivery_message(g->d);
	struct spool_state *st = new_state(g, number, RCPT_STATE_QUEUED, f);
	st->attempts = m->rcpts[number].attempts;
	st->next_ms = m->rcpts[number].next_ms;
	tell_if_late(g, st, world_wall_ms(g->d->q->p->w));
}

static void tell_away(struct queue *q, const char *who, enum err e)
{
	int64_t now_ns = world_mono_ns(q->p->w);
	if (q->away_told_ns && now_ns < q->away_told_ns + AWAY_TOLD_NS)
		return;
	q->away_told_ns = now_ns;
	log_deliverer_away(&q->p->log, message_ids(0), str_z(who), e);
}

void settle_unknown(struct group *g, const uint16_t *numbers, size_t n, const char *who, enum err e)
{
	struct queue *q = g->d->q;
	struct message *m = delivery_message(g->d);
	int64_t at_ms = world_wall_ms(q->p->w) + AWAY_MS;
	m->flags |= MESSAGE_REPEATED;
	for (size_t i = 0; i < n; i++)
		m->rcpts[numbers[i]].next_ms = at_ms;
	if (e != ERR_CANCELLED)
		tell_away(q, who, e);
}

/* ---- a group ends ---------------------------------------------------------------------------------------- */

/* Nobody could be told: as though it had only failed for the moment. */
static void not_yet(struct group *g, size_t i)
{
	struct queue *q = g->d->q;
	struct spool_state *st = &g->states[i];
	st->state = RCPT_STATE_QUEUED;
	int64_t wait_ms = queue_retry_ms(q, 1, g->d->jitter);
	st->next_ms = world_wall_ms(q->p->w) + wait_ms;
	log_message_deferred(&q->p->log, message_ids(g->d->id), st->address, st->enhanced,
			     STR("its sender cannot be told now"), wait_ms);
}

/* P2: bounced with a DSN, or discarded by a rule that is named. */
static void has_failed(struct group *g, size_t i)
{
	struct queue *q = g->d->q;
	struct spool_state *st = &g->states[i];
	if (!g->news[i].tell) {
		st->state = RCPT_STATE_DISCARDED;
		const char *why = g->d->env.reverse_path.n == 0			       ? "the report itself failed" :
				  rcpt_of(g, st->number)->notify & DSN_NOTIFY_NEVER ? "NOTIFY=NEVER" :
										      "NOTIFY without FAILURE";
		st->text = arena_strf(&g->d->arena, "not returned, %s: %.*s", why, STR_ARG(str_sub(st->text, 0, 300)));
	}
	counter_add(q->m.failed, 1);
	log_message_bounced(&q->p->log, message_ids(g->d->id), st->address, st->enhanced, st->text);
}

/* That it is late. Not at once, or what cannot be told would keep us busy. */
static void tell_later(struct group *g, struct spool_state *st)
{
	int64_t at_ms = world_wall_ms(g->d->q->p->w) + queue_retry_ms(g->d->q, 1, g->d->jitter);
	st->told = false;
	if (st->next_ms < at_ms)
		st->next_ms = at_ms;
}

static void conclude(struct group *g, enum err told)
{
	for (size_t i = 0; i < g->states_n; i++) {
		struct news *n = &g->news[i];
		if ((n->failed || n->action == DSN_EXPANDED) && n->tell && told != ERR_NONE)
			not_yet(g, i);
		else if (n->failed)
			has_failed(g, i);
		else if (n->action == DSN_DELAYED && n->tell && told != ERR_NONE)
			tell_later(g, &g->states[i]);
	}
}

static enum verdict verdict_of(enum rcpt_state state)
{
	if (state == RCPT_STATE_DELIVERED || state == RCPT_STATE_RELAYED)
		return VERDICT_ACCEPT;
	return state == RCPT_STATE_QUEUED ? VERDICT_DEFER : VERDICT_REFUSE;
}

void settle_group(struct group *g)
{
	struct queue *q = g->d->q;
	conclude(g, bounce_tell(g));
	struct message *m = delivery_message(g->d);
	for (size_t i = 0; i < g->states_n; i++) {
		const struct spool_state *st = &g->states[i];
		queue_history_attempt(q, g->d->id, st, verdict_of(st->state));
		index_set(&q->ix, m, st);
	}
	if (g->states_n > 0)
		queue_store_states(q, m, g->states, g->states_n);
}

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
