/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history's end in queue (P8): notes to control as things happen, and again what it may not have
 * stored when it, or we, come back. The spool is what remembers: segments stay until control has said
 * that their history is saved. That claim is bounded: without any control for a minute, or when the
 * disk runs short, old segments go; what they would have told is then lost to the history alone.
 */
#include "queue/queue_internal.h"

#include "base/events.h"

#define CONTROL_PATIENCE_NS (60 * 1000000000LL)
#define SETTLE_NS (5 * 1000000000LL) /* control stores what it was told within this time */

static struct ipc *control(struct queue *q)
{
	return proc_peer(q->p, ROLE_CONTROL, 0);
}

void queue_history_message(struct queue *q, const struct envelope *env, uint64_t bytes, uint64_t segment)
{
	struct ipc *ch = control(q);
	struct history_message_in note = { .envelope = *env, .bytes = bytes, .segment = segment };
	if (ch && note_history_message(ch, &note) != ERR_NONE)
		q->replay_wanted = true; /* it does not keep up: told again later */
}

static struct history_attempt_in attempt_of(uint64_t id, const struct spool_state *st, uint64_t segment)
{
	enum verdict v = st->state == RCPT_STATE_QUEUED || st->state == RCPT_STATE_HELD ? VERDICT_DEFER : VERDICT_ACCEPT;
	return (struct history_attempt_in){
		.id = id, .number = st->number, .at_ms = st->at_ms, .address = st->address, .verdict = v,
		.state = st->state, .enhanced = st->enhanced, .text = st->text, .by = st->by, .segment = segment,
	};
}

void queue_history_attempt(struct queue *q, uint64_t id, const struct spool_state *st, enum verdict verdict)
{
	struct ipc *ch = control(q);
	struct history_attempt_in note = attempt_of(id, st, spool_segment(q->sp));
	note.verdict = verdict;
	if (ch && note_history_attempt(ch, &note) != ERR_NONE)
		q->replay_wanted = true;
}

/* ---- what is saved ---------------------------------------------------------------------------------------- */

/* While something is told again, what control says it has may be younger than what it still lacks. */
static void apply_saved(struct queue *q)
{
	bool settled = !q->replaying && !q->replay_wanted && !q->history_lost &&
		       (q->replayed_ns == 0 || world_mono_ns(q->p->w) > q->replayed_ns + SETTLE_NS);
	if (!settled || q->history_said <= q->history_from)
		return;
	q->history_from = q->history_said;
	spool_history_saved(q->sp, q->history_from);
}

void queue_on_history_saved(void *self, struct ipc *from UNUSED, const struct history_saved_in *in)
{
	struct queue *q = self;
	if (q->stopping)
		return;
	if (in->segment <= spool_segment(q->sp)) /* nobody can have saved what is to come */
		q->history_said = in->segment;
	apply_saved(q);
}

/* A full disk, for instance. When it can store again, all that it may lack is told again. */
void queue_on_history_lost(void *self, struct ipc *from UNUSED, const struct history_lost_in *in)
{
	struct queue *q = self;
	q->history_said = 0;
	q->history_lost = !in->again;
	q->replay_wanted |= in->again;
	if (in->again)
		co_wake_all(&q->control_came);
}

void queue_history_peer(struct queue *q, struct ipc *channel)
{
	if (!channel || q->stopping) {
		q->control_gone_ns = world_mono_ns(q->p->w);
		return;
	}
	q->control_gone_ns = 0;
	q->history_said = 0;
	q->history_lost = false;
	q->replay_wanted = true;
	spool_history_saved(q->sp, q->history_from);
	co_wake_all(&q->control_came);
}

void queue_history_look(struct queue *q)
{
	apply_saved(q);
	bool gone = !control(q) && world_mono_ns(q->p->w) > q->control_gone_ns + CONTROL_PATIENCE_NS;
	if (gone || q->full) {
		spool_history_saved(q->sp, UINT64_MAX);
		if (q->history_from < spool_first_segment(q->sp))
			q->history_from = spool_first_segment(q->sp);
	} else {
		spool_history_saved(q->sp, q->history_from);
	}
	if (q->replay_wanted && control(q))
		co_wake_all(&q->control_came);
}

/* ---- telling again -------------------------------------------------------------------------------------------- */

/* Does not outrun control: live notes need the channel's room, too. */
static YIELDS enum err patience(struct queue *q, enum err e)
{
	if (e != ERR_BUSY)
		return e;
	TRY(co_sleep_until(world_mono_ns(q->p->w) + 50 * 1000000LL));
	return ERR_BUSY;
}

static YIELDS enum err again_message(void *arg, const struct envelope *env, const struct spool_ref *ref)
{
	struct queue *q = arg;
	struct history_message_in note = { .envelope = *env, .bytes = ref->prefix_bytes + ref->body_bytes,
					   .segment = ref->segment };
	enum err e = ERR_BUSY;
	while (e == ERR_BUSY && !q->stopping) {
		struct ipc *ch = control(q);
		e = patience(q, ch ? note_history_message(ch, &note) : ERR_CLOSED);
	}
	return e == ERR_LIMIT ? ERR_NONE : e; /* too long for a packet: it came another way */
}

static YIELDS enum err again_state(void *arg, uint64_t id, const struct spool_state *st, uint64_t segment)
{
	struct queue *q = arg;
	struct history_attempt_in note = attempt_of(id, st, segment);
	enum err e = st->address.n ? ERR_BUSY : ERR_NONE; /* copies are no attempts */
	while (e == ERR_BUSY && !q->stopping) {
		struct ipc *ch = control(q);
		e = patience(q, ch ? note_history_attempt(ch, &note) : ERR_CLOSED);
	}
	return e;
}

/* coroutine */
void queue_replayer(void *arg)
{
	struct queue *q = arg;
	struct spool_replay to = { .arg = q, .replay_message = again_message, .replay_state = again_state };
	for (;;) {
		if (!q->replay_wanted || !control(q)) {
			if (co_wait(&q->control_came) != ERR_NONE)
				return;
			continue;
		}
		q->replay_wanted = false;
		q->replaying = true;
		enum err e = spool_replay(q->sp, q->history_from, &to);
		q->replaying = false;
		q->replayed_ns = world_mono_ns(q->p->w);
		if (e == ERR_CANCELLED)
			return;
		if (e != ERR_NONE) {
			q->replay_wanted = true;
			if (co_sleep_until(world_mono_ns(q->p->w) + SETTLE_NS) != ERR_NONE)
				return;
		}
	}
}
