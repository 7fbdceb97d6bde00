/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: the one writer of the spool. Runs in queue. What is appended gathers in the pending
 * batch; the committer takes it as a whole, and a helper thread seals, writes and syncs it while the
 * next one gathers.
 *
 * The linger rule (docs/measurements.md, section 2): after a commit its clients are about to come back;
 * taking the first of them at once would split them into halves that take turns, with twice the syncs. So
 * the next batch waits until as many have gathered as waited before, or for 300 µs.
 *
 * To wake a thread and be woken by it costs more than all else (section 1 there). So as long as the disk
 * is quick, the loop waits for it: what arrives meanwhile waits in the kernel and is the next batch. After
 * one slow sync, helper threads do it for a while.
 */
#include "queue/spool_internal.h"

#include "base/events.h"

void batch_init(struct spool *sp, struct batch *b)
{
	b->bytes = buf_grow(sp->mem, BATCH_LAZY_BYTES + RECORD_META_MAX + RECORD_DATA_MAX + 2 * WORLD_DIRECT_ALIGN);
	b->gones = buf_grow(sp->mem, (size_t)1 << 20);
	list_init(&b->appends);
	co_queue_init(&b->done);
}

void batch_free(struct batch *b)
{
	buf_free(&b->bytes);
	buf_free(&b->gones);
}

/* ---- appending ------------------------------------------------------------------------------------- */

enum err spool_wait_room(struct spool *sp)
{
	while (!sp->closing && sp->pending->bytes.n > BATCH_BYTES)
		TRY(co_wait(&sp->room));
	return sp->closing ? ERR_CLOSED : ERR_NONE;
}

enum err spool_wait_commit(struct spool *sp, struct append *a)
{
	struct batch *b = sp->pending->records > 0 ? sp->pending : sp->flying;
	a->done = false;
	list_push_back(&b->appends, &a->link);
	if (b == sp->pending) {
		b->urgent++;
		if (b->urgent >= sp->want || b->bytes.n > BATCH_BYTES / 2)
			co_wake_one(&sp->work);
	}
	co_shield(); /* the batch points to our stack */
	int64_t before = co_set_deadline(NEVER);
	enum err e = ERR_NONE;
	while (!a->done && e == ERR_NONE)
		e = co_wait(&b->done);
	co_set_deadline(before);
	co_unshield();
	ASSERT(a->done);
	return a->err;
}

static enum err add_lazy(struct spool *sp, enum record_type type, uint64_t id, const struct spool_state *st, size_t n)
{
	struct batch *b = sp->pending;
	if (sp->closing)
		return ERR_CLOSED;
	if (b->bytes.n > BATCH_LAZY_BYTES)
		return ERR_BUSY;
	size_t at = b->bytes.n;
	TRY(record_put_states(&b->bytes, type, id, st, n));
	if (type == RECORD_GONE) {
		struct gone_note g = { .id = id };
		buf_add(&b->gones, str_of((const char *)&g, sizeof g));
		enum err e = buf_err(&b->gones);
		if (e != ERR_NONE) {
			b->gones.err = ERR_NONE;
			b->bytes.n = at;
			return e == ERR_LIMIT ? ERR_BUSY : e;
		}
	}
	if (b->records++ == 0 || b->lazy_since_ns == 0) {
		b->lazy_since_ns = world_mono_ns(sp->w);
		if (b->urgent == 0) /* the committer sets its clock */
			co_wake_one(&sp->work);
	}
	return ERR_NONE;
}

enum err spool_add_states(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n)
{
	return add_lazy(sp, RECORD_STATE, id, st, n);
}

enum err spool_add_gone(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n)
{
	return add_lazy(sp, RECORD_GONE, id, st, n);
}

enum err spool_flush(struct spool *sp)
{
	uint64_t failures = sp->totals.failures;
	while (sp->pending->records > 0 || sp->flying) {
		struct append a;
		bool last = sp->pending->records > 0;
		TRY(spool_wait_commit(sp, &a));
		if (last)
			break;
	}
	return sp->totals.failures == failures ? ERR_NONE : ERR_IO;
}

/* ---- gathering ----------------------------------------------------------------------------------------- */

enum err spool_wait_until(struct co_queue *q, int64_t at_ns)
{
	int64_t before = co_set_deadline(at_ns);
	enum err e = co_wait(q);
	co_set_deadline(before);
	return e == ERR_TIMEOUT && before == NEVER ? ERR_NONE : e;
}

/* When the pending batch is to be written: a time, 0: now, NEVER: when something comes. */
static int64_t batch_due(const struct spool *sp)
{
	const struct batch *b = sp->pending;
	if (b->records == 0)
		return sp->closing ? 0 : NEVER;
	if (sp->closing || b->bytes.n > BATCH_BYTES / 2)
		return 0;
	if (b->urgent == 0)
		return b->lazy_since_ns + SPOOL_LAZY_NS;
	return b->urgent >= sp->outstanding ? 0 : sp->linger_until_ns;
}

/* Waits for a batch that is to be written; false: there will be none. */
static YIELDS bool gather(struct spool *sp)
{
	for (;;) {
		int64_t now_ns = world_mono_ns(sp->w), due = batch_due(sp);
		if (due <= now_ns)
			return sp->pending->records > 0;
		bool linger = now_ns < sp->linger_until_ns && sp->outstanding > 1;
		sp->want = linger ? sp->outstanding : 1;
		if (linger && sp->linger_until_ns < due)
			due = sp->linger_until_ns;
		if (spool_wait_until(&sp->work, due) != ERR_NONE)
			sp->closing = true;
	}
}

/* ---- writing -------------------------------------------------------------------------------------------- */

struct commit_job {
	int fd;
	struct segment_header header;
	char *direct;
	char *bytes;
	size_t n;
	uint64_t at;
	enum err err;
};

static void write_batch(struct world *w, void *arg)
{
	struct commit_job *j = arg;
	record_seal(j->bytes, j->n, &j->header, j->at, j->at);
	j->err = segment_write(w, j->fd, j->direct, str_of(j->bytes, j->n), j->at);
	if (j->err == ERR_NONE)
		j->err = world_datasync(w, j->fd);
}

static YIELDS void write_soon(struct spool *sp, struct commit_job *j)
{
	int64_t before_ns = world_measure_ns(sp->w);
	if (before_ns < sp->threaded_until_ns)
		spool_job(sp, write_batch, j);
	else
		write_batch(sp->w, j);
	int64_t now_ns = world_measure_ns(sp->w);
	if (now_ns - before_ns > SLOW_SYNC_NS)
		sp->threaded_until_ns = now_ns + THREADED_NS;
	world_clock_refresh(sp->w);
}

static bool must_roll(const struct spool *sp, size_t bytes)
{
	const struct segment *s = sp->current;
	if (!s)
		return true;
	if (sp->spare_new && s->file_bytes < sp->cfg.segment_bytes)
		return true;
	if (s->direct) /* and what fills the last page */
		bytes += 2 * WORLD_DIRECT_ALIGN;
	return s->end + bytes > sp->cfg.segment_bytes && s->end > SEGMENT_START;
}

static YIELDS enum err commit(struct spool *sp, struct batch *b, uint64_t *at_out)
{
	if (world_mono_ns(sp->w) < sp->fail_until_ns && !sp->closing)
		return sp->fail_err;
	if (must_roll(sp, b->bytes.n))
		TRY(segment_roll(sp));
	struct segment *s = sp->current;
	if (s->direct)
		TRY(record_put_fill(&b->bytes, WORLD_DIRECT_ALIGN));
	struct commit_job j = { .fd = s->fd, .header = s->header, .direct = s->direct ? sp->direct : NULL,
				.bytes = b->bytes.p, .n = b->bytes.n, .at = s->end };
	*at_out = s->end;
	write_soon(sp, &j);
	if (j.err != ERR_NONE) {
		segment_fail(sp); /* S2 */
		return j.err;
	}
	s->end += b->bytes.n;
	sp->totals.bytes_written += b->bytes.n;
	return ERR_NONE;
}

/* Told at once, then every ten seconds while it lasts. */
static enum err note_failure(struct spool *sp, enum err e, uint64_t segment)
{
	int64_t now_ns = world_mono_ns(sp->w);
	if (e == ERR_NONE) {
		sp->fail_told_ns = 0;
		return e;
	}
	if (now_ns >= sp->fail_until_ns) {
		sp->fail_err = e == ERR_NO_SPACE || e == ERR_NO_MEMORY ? e : ERR_IO;
		sp->fail_until_ns = now_ns + FAIL_PAUSE_NS;
	}
	if (sp->fail_told_ns == 0 || now_ns >= sp->fail_told_ns + FAIL_TELL_NS) {
		log_spool_write_failed(sp->cfg.log, (struct log_ids){ 0 }, segment, e);
		sp->fail_told_ns = now_ns;
	}
	return sp->fail_err;
}

static void tell_gones(struct spool *sp, struct batch *b, enum err e)
{
	/* The index may add to the pending batch meanwhile: that is the other one. */
	for (size_t at = 0; at + sizeof(struct gone_note) <= b->gones.n; at += sizeof(struct gone_note)) {
		struct gone_note g;
		struct spool_ref ref;
		memcpy(&g, b->gones.p + at, sizeof g);
		if (!sp->cfg.index.gone_saved(sp->cfg.index.arg, g.id, e, &ref))
			continue;
		segment_live_drop(sp, &ref);
		if (!ref.in_file)
			continue;
		/* No memory for the list: the file is found unreferenced at the next start. */
		buf_add(&sp->dead_bodies, str_of((const char *)&g.id, sizeof g.id));
		sp->dead_bodies.err = ERR_NONE;
	}
}

static void tell_waiters(struct batch *b, enum err e, uint64_t segment, uint64_t at)
{
	struct list *l;
	while ((l = list_pop_front(&b->appends))) {
		struct append *a = CONTAINER_OF(l, struct append, link);
		a->segment = segment;
		a->base = at;
		a->err = e;
		a->done = true;
	}
	co_wake_all(&b->done);
}

static void count(struct spool *sp, const struct batch *b, enum err e)
{
	struct spool_totals *t = &sp->totals;
	unsigned size = 0;
	if (e != ERR_NONE) {
		t->failures++;
		return;
	}
	while (size < 11 && (size_t)1 << size < b->records)
		size++;
	t->batch_records[size]++;
	t->commits++;
	t->records += b->records;
}

static void batch_clear(struct batch *b)
{
	if (b->bytes.cap > BATCH_KEEP_BYTES) {
		buf_free(&b->bytes);
		buf_free(&b->gones);
	}
	buf_clear(&b->bytes);
	buf_clear(&b->gones);
	b->records = b->urgent = 0;
	b->lazy_since_ns = 0;
}

static YIELDS void commit_pending(struct spool *sp)
{
	struct batch *b = sp->pending;
	uint64_t at = 0;
	sp->flying = b;
	sp->pending = b == &sp->batches[0] ? &sp->batches[1] : &sp->batches[0];
	co_wake_all(&sp->room);
	uint64_t segment = sp->current ? sp->current->header.seq : sp->next_seq;
	enum err e = note_failure(sp, commit(sp, b, &at), segment);
	count(sp, b, e);
	sp->outstanding = b->urgent + sp->pending->urgent;
	sp->linger_until_ns = world_mono_ns(sp->w) + LINGER_NS;
	sp->flying = NULL;
	tell_waiters(b, e, e == ERR_NONE ? sp->current->header.seq : 0, at);
	tell_gones(sp, b, e);
	batch_clear(b);
	if (sp->dead_bodies.n > 0)
		co_wake_one(&sp->duties);
}

/* coroutine */
void spool_committer(void *arg)
{
	struct spool *sp = arg;
	while (gather(sp))
		commit_pending(sp);
	/* What came while the last one was written: nobody may be left waiting. */
	while (sp->pending->records > 0)
		commit_pending(sp);
	co_wake_all(&sp->room);
}
