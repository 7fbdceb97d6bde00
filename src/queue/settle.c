/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of recipients: the states that follow, told to log and history, and written down. Runs in
 * queue. Texts are remote servers', sanitised and bounded by relay.
 */
#include "queue/delivery.h"

#include "base/events.h"

#define AWAY_TOLD_NS (10 * 1000000000LL)

static struct spool_state *new_state(struct group *g, uint16_t number, struct str by, struct str enhanced, struct str text)
{
	const struct message *m = delivery_message(g->d);
	struct spool_state *st = &g->states[g->states_n++];
	*st = (struct spool_state){ .number = number, .attempts = m->rcpts[number].attempts + 1u,
				    .at_ms = world_wall_ms(g->d->q->p->w), .told = m->rcpts[number].told,
				    .address = number < g->d->env.recipients_n ?
					g->d->env.recipients[number].target.address : STR("unknown"),
				    .by = by, .enhanced = enhanced, .text = text };
	return st;
}

void settle_delivered(struct group *g, uint16_t number, enum rcpt_state state, struct str by, struct str enhanced, struct str text)
{
	struct queue *q = g->d->q;
	struct spool_state *st = new_state(g, number, by, enhanced, text);
	st->state = state;
	if (state == RCPT_STATE_RELAYED) {
		counter_add(q->m.relayed, 1);
		log_message_relayed(&q->p->log, message_ids(g->d->id), st->address, by, text);
	} else {
		counter_add(q->m.delivered, 1);
		log_message_delivered(&q->p->log, message_ids(g->d->id), st->address, text);
	}
}

void settle_held(struct group *g, uint16_t number, struct str enhanced, struct str text)
{
	struct queue *q = g->d->q;
	struct spool_state *st = new_state(g, number, STR("queue"), enhanced, text);
	st->state = RCPT_STATE_HELD;
	counter_add(q->m.failed, 1);
	log_message_held(&q->p->log, message_ids(g->d->id), st->address, enhanced, text);
}

void settle_failed(struct group *g, uint16_t number, struct str by, struct str enhanced, struct str text)
{
	settle_held(g, number, enhanced, text);
	g->states[g->states_n - 1].by = by;
}

void settle_deferred(struct group *g, uint16_t number, struct str by, struct str enhanced, struct str text)
{
	struct queue *q = g->d->q;
	const struct message *m = delivery_message(g->d);
	int64_t now_ms = world_wall_ms(q->p->w);
	if (now_ms >= queue_expiry_ms(q, m)) {
		struct str why = arena_strf(&g->d->arena, "given up after %u attempts: %.*s", m->rcpts[number].attempts + 1u,
					    STR_ARG(str_sub(text, 0, 300)));
		settle_failed(g, number, by, enhanced, why.n ? why : STR("given up"));
		return;
	}
	struct spool_state *st = new_state(g, number, by, enhanced, text);
	int64_t wait_ms = queue_retry_ms(q, st->attempts);
	st->state = RCPT_STATE_QUEUED;
	st->next_ms = now_ms + wait_ms;
	counter_add(q->m.deferred, 1);
	log_message_deferred(&q->p->log, message_ids(g->d->id), st->address, enhanced, text, wait_ms);
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

static enum verdict verdict_of(enum rcpt_state state)
{
	if (state == RCPT_STATE_DELIVERED || state == RCPT_STATE_RELAYED)
		return VERDICT_ACCEPT;
	return state == RCPT_STATE_QUEUED ? VERDICT_DEFER : VERDICT_REFUSE;
}

void settle_group(struct group *g)
{
	struct queue *q = g->d->q;
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
