/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The janitor: what the spool does besides committing (S4). Runs in queue as one coroutine. It removes
 * segments whose mail is gone, copies the last live messages of the oldest one forward when the log has
 * grown too long for what lives in it, writes checkpoints and removes the body files of dead messages.
 */
#include "queue/spool_internal.h"

#include "base/events.h"

#define LOOK_NS (1000000000LL)
#define COPY_ARENA_MAX (RECORD_META_MAX + RECORD_DATA_MAX + ((size_t)8 << 20))
#define COPIES_A_TURN 64u /* then removal, checkpoints and bodies have their turn again */
#define BODIES_A_JOB 64u

/* ---- body files of dead messages ------------------------------------------------------------------- */

struct remove_job {
	int body_fd;
	uint64_t ids[BODIES_A_JOB];
	size_t n;
};

static void remove_some(struct world *w, void *arg)
{
	struct remove_job *j = arg;
	for (size_t i = 0; i < j->n; i++) {
		char place[BODY_NAME_BYTES];
		/* One that stays is unreferenced, and removed at the next start. */
		if (world_unlink(w, j->body_fd, body_name(place, j->ids[i])) != ERR_NONE)
			continue;
	}
}

void spool_remove_bodies(struct spool *sp)
{
	while (sp->dead_bodies.n >= sizeof(uint64_t)) {
		struct remove_job j = { .body_fd = sp->body_fd };
		while (j.n < BODIES_A_JOB && (j.n + 1) * sizeof(uint64_t) <= sp->dead_bodies.n)
			j.n++;
		memcpy(j.ids, sp->dead_bodies.p, j.n * sizeof(uint64_t));
		buf_consume(&sp->dead_bodies, j.n * sizeof(uint64_t));
		spool_job(sp, remove_some, &j);
	}
	buf_free(&sp->dead_bodies);
}

/* ---- the oldest segment ------------------------------------------------------------------------------ */

static uint64_t log_bytes(const struct spool *sp)
{
	uint64_t n = 0;
	for (size_t i = 0; i < sp->n; i++)
		n += sp->segments[i]->end;
	return n;
}

/* Only behind the current one, and when its history is saved (S4). */
static bool oldest_is_closed(const struct spool *sp)
{
	return sp->n > 0 && sp->segments[0] != sp->current && sp->segments[0]->users == 0 && !sp->segments[0]->unread &&
	       sp->segments[0]->header.seq < sp->history_saved &&
	       (sp->n > 1 || sp->current == NULL);
}

static YIELDS enum err retire_dead(struct spool *sp)
{
	while (!sp->closing && oldest_is_closed(sp) && sp->segments[0]->live == 0)
		TRY(segment_retire(sp));
	return ERR_NONE;
}

static bool must_compact(const struct spool *sp)
{
	return oldest_is_closed(sp) &&
	       log_bytes(sp) > 2 * sp->totals.live_bytes + COMPACT_SPARE_SEGMENTS * sp->cfg.segment_bytes;
}

/* Appends the copy; the states are those of this moment, and none of them is pending elsewhere (spool.h). */
static enum err append_copy(struct spool *sp, const struct spool_live *live, struct record_message *m,
			    struct spool_state *st, struct spool_ref *to)
{
	struct spool_index *ix = &sp->cfg.index;
	if (!ix->states_of(ix->arg, live->id, false, st, &m->states_n))
		return ERR_NOT_FOUND;
	m->states = st;
	TRY(record_put_message(&sp->pending->bytes, m, to));
	sp->pending->records++;
	return ERR_NONE;
}

static YIELDS enum err copy_one(struct spool *sp, const struct spool_live *live, struct spool_state *st)
{
	struct spool_index *ix = &sp->cfg.index;
	ARENA_SCOPED struct arena arena = arena_make(sp->mem, COPY_ARENA_MAX);
	struct envelope env;
	struct str body;
	struct record_message m = { .env = &env, .body = &body, .body_n = 1, .body_bytes = live->ref.body_bytes,
				    .in_file = live->ref.in_file };
	struct spool_ref to, old;
	struct append a;
	TRY(spool_read(sp, &live->ref, &arena, &env, &m.prefix, &body));
	TRY(spool_wait_room(sp));
	TRY(append_copy(sp, live, &m, st, &to));
	TRY(spool_wait_commit(sp, &a));
	to.segment = a.segment;
	to.offset += a.base;
	sp->totals.copied++;
	segment_live_add(sp, &to);
	if (ix->moved(ix->arg, live->id, &to, &old))
		segment_live_drop(sp, &old);
	else
		segment_live_drop(sp, &to);
	return ERR_NONE;
}

/*
 * A live message that cannot be read stays where it is: its segment is kept for a person to look at, and
 * so are those behind it.
 */
static void give_up_on(struct spool *sp, uint64_t id, enum err e)
{
	struct segment *s = sp->segments[0];
	if (!s->told)
		spool_damage(sp, "segment %016llx: a live message cannot be read (%s): the segment is kept",
			     (unsigned long long)s->header.seq, err_name(e));
	if (!s->told)
		log_io_error(sp->cfg.log, (struct log_ids){ .message = id }, STR("copy a message forward"), e, sp->cfg.path);
	s->told = true;
}

static YIELDS enum err compact(struct spool *sp)
{
	struct spool_index *ix = &sp->cfg.index;
	struct spool_state *st = mem_alloc(sp->mem, SPOOL_STATES_MAX * sizeof *st);
	enum err e = st ? ERR_NONE : ERR_NO_MEMORY, busy = ERR_NONE;
	for (unsigned i = 0; i < COPIES_A_TURN && e == ERR_NONE && !sp->closing && must_compact(sp); i++) {
		struct spool_live live;
		if (sp->segments[0]->live == 0 || sp->segments[0]->told ||
		    !ix->oldest(ix->arg, sp->segments[0]->header.seq, &live, &busy))
			break;
		if (busy != ERR_NONE)
			break;
		e = copy_one(sp, &live, st);
		if (e == ERR_CORRUPT)
			give_up_on(sp, live.id, e);
		if (e == ERR_NOT_FOUND) /* it ended meanwhile */
			e = ERR_NONE;
	}
	mem_free(sp->mem, st);
	return e;
}

/* ---- checkpoints -------------------------------------------------------------------------------------- */

/* At a roll, unless the last one was so large that it would cost more than a quarter of what the log does. */
static bool must_checkpoint(const struct spool *sp)
{
	return sp->checkpoint_due && sp->current && !sp->unread &&
	       sp->totals.bytes_written - sp->checkpoint_at >= 4 * sp->checkpoint_bytes;
}

/* ---- the coroutine -------------------------------------------------------------------------------------- */

static bool has_work(const struct spool *sp)
{
	const struct segment *s = sp->n > 0 ? sp->segments[0] : NULL;
	return must_checkpoint(sp) || sp->dead_bodies.n > 0 || (oldest_is_closed(sp) && s->live == 0) ||
	       (must_compact(sp) && !s->told);
}

/* Buffers of a burst are given back when it is over. */
static void shrink_when_idle(struct spool *sp, uint64_t *commits_seen)
{
	struct batch *b = sp->pending;
	if (*commits_seen == sp->totals.commits && b->records == 0 && !sp->flying) {
		buf_free(&sp->batches[0].bytes);
		buf_free(&sp->batches[1].bytes);
		buf_free(&sp->batches[0].gones);
		buf_free(&sp->batches[1].gones);
	}
	*commits_seen = sp->totals.commits;
}

/* coroutine */
void spool_janitor(void *arg)
{
	struct spool *sp = arg;
	uint64_t commits_seen = 0;
	while (!sp->closing) {
		enum err e = ERR_NONE;
		if (must_checkpoint(sp)) {
			sp->checkpoint_due = false;
			e = checkpoint_write(sp);
		}
		spool_remove_bodies(sp);
		if (e == ERR_NONE)
			e = retire_dead(sp);
		if (e == ERR_NONE && must_compact(sp))
			e = compact(sp);
		/* What failed, or cannot be done yet, is tried again a little later. */
		bool more = e == ERR_NONE && has_work(sp);
		int64_t pause_ns = more ? SPOOL_LAZY_NS / 10 : LOOK_NS;
		if (spool_wait_until(&sp->duties, world_mono_ns(sp->w) + pause_ns) != ERR_NONE)
			break;
		if (!more)
			shrink_when_idle(sp, &commits_seen);
	}
}
