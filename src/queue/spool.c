/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: opening, closing, putting. Runs in queue. What it reads is a disk after whatever happened.
 *
 * Invariants (code and tests cite them):
 *  S1  A caller hears ERR_NONE only after a sync that covers its record has succeeded, its body file
 *      and the directory entries of file and segment included.
 *  S2  After a failed write or sync nothing of that batch is acknowledged, the segment takes no further
 *      record, and pages are never synced again as though still dirty: a new segment is begun, whose
 *      header says where the old one ended, so that a half-written batch never counts.
 *  S3  At recovery a bad record at or beyond the greatest synced-before of its segment is a torn tail:
 *      it and what follows is cut. A bad record below is damage: copied to quarantine, reported, and the
 *      scan goes on behind it. Neither stops the start.
 *  S4  Segments are removed from the oldest only, each removal durable before the next, and only when no
 *      live message has its MESSAGE record there (live ones are copied forward first): so no record that a
 *      kept record depends on is lost. And not before the history of its messages is saved.
 *  S5  Readers refuse a segment of a version that they do not know: reported, left in place, the start goes on.
 *      The same for one that the device does not give us now. Until a start has read it, nothing is done that
 *      would be wrong once it can be read: no checkpoint is written, nothing behind it is removed.
 *  S6  Memory is bounded: a batch takes BATCH_BYTES, who comes later waits for the next one; a record
 *      that fits no batch is refused with ERR_LIMIT.
 *  S7  Records may be applied twice, in order, and lead to the same index: so a checkpoint may be written
 *      while work goes on.
 *  S8  A copy of a message carries the states of the moment at which it is appended, and is not made
 *      while the message's end is being written: so in the order of the log the last word on a message
 *      is the true one.
 *
 * A segment                                              A record
 *
 *   (laying) --lay_out()--> spare                          given      spool_put(), spool_add_*()
 *                             |  segment_roll()              |  encoded into the pending batch
 *   (nothing) --------------> current                      pending
 *            segment_roll()   |        |                     |  commit_pending(): sealed, written, synced
 *              segment_roll() |        | segment_fail()    flying
 *                             v        v (S2)                |            |
 *                          closed    failed                durable      failed: told to its caller, never
 *   segment_retire() (S4)     |        |                     (S1)       again on these pages (S2)
 *                             v        v
 *                    spare or removed  removed
 *
 * A live message is copied from the oldest closed segment to the pending batch by copy_one().
 */
#include "queue/spool_internal.h"

#include "base/events.h"

/* ---- small things ------------------------------------------------------------------------------------ */

void spool_job(struct spool *sp, void (*fn)(struct world *w, void *arg), void *arg)
{
	/* Without a thread it is done here: slow, but the mail goes on (H113). */
	if (co_offload(fn, arg) != ERR_NONE)
		fn(sp->w, arg);
}

struct spool_totals spool_totals(const struct spool *sp)
{
	struct spool_totals t = sp->totals;
	t.segments = sp->n;
	t.spares = sp->spare_n;
	for (size_t i = 0; i < sp->n; i++)
		t.log_bytes += sp->segments[i]->end;
	return t;
}

enum err spool_free_space(struct spool *sp, uint64_t *bytes_out, uint64_t *inodes_out)
{
	return world_free_space(sp->w, sp->dir_fd, bytes_out, inodes_out);
}

void spool_history_saved(struct spool *sp, uint64_t segment)
{
	sp->history_saved = segment;
	co_wake_one(&sp->duties);
}

uint64_t spool_history_from(const struct spool *sp)
{
	return sp->history_from > spool_first_segment(sp) ? sp->history_from : spool_first_segment(sp);
}

uint64_t spool_segment(const struct spool *sp)
{
	return sp->current ? sp->current->header.seq : sp->next_seq;
}

uint64_t spool_first_segment(const struct spool *sp)
{
	return sp->n > 0 ? sp->segments[0]->header.seq : sp->next_seq;
}

/* ---- a message comes ----------------------------------------------------------------------------------- */

static YIELDS enum err put_record(struct spool *sp, const struct record_message *m, struct spool_ref *ref_out)
{
	struct append a;
	TRY(spool_wait_room(sp));
	TRY(record_put_message(&sp->pending->bytes, m, ref_out));
	sp->pending->records++;
	TRY(spool_wait_commit(sp, &a));
	ref_out->segment = a.segment;
	ref_out->offset += a.base;
	segment_live_add(sp, ref_out);
	return ERR_NONE;
}

enum err spool_put(struct spool *sp, const struct envelope *env, struct str prefix, const struct str *body, size_t body_n,
		   uint64_t body_bytes, bool in_file, struct spool_ref *ref_out)
{
	struct record_message m = { .env = env, .prefix = prefix, .body = body, .body_n = body_n, .body_bytes = body_bytes,
				    .in_file = in_file };
	uint64_t sum = prefix.n;
	for (size_t i = 0; !in_file && i < body_n; i++)
		sum += body[i].n;
	if (sum > RECORD_DATA_MAX || (!in_file && sum != prefix.n + body_bytes))
		return ERR_LIMIT;
	if (in_file)
		TRY(spool_body_sync(sp, env->id, body_bytes));
	TRY(put_record(sp, &m, ref_out));
	if (in_file)
		spool_body_done(sp, env->id);
	return ERR_NONE;
}

/* ---- opening --------------------------------------------------------------------------------------------- */

/* S1: the spool's own name, too. Who may not read the directory above did not make it: whoever did, synced it. */
static enum err sync_above(struct spool *sp)
{
	int fd;
	size_t slash = str_rfind(sp->cfg.path, '/');
	struct str above = slash == 0 || slash == sp->cfg.path.n ? STR("/") : str_sub(sp->cfg.path, 0, slash);
	enum err e = world_open(sp->w, WORLD_ABSOLUTE, above, WORLD_READ | WORLD_DIR, 0, &fd);
	if (e != ERR_NONE)
		return e == ERR_DENIED ? ERR_NONE : e;
	e = world_sync(sp->w, fd);
	world_close(sp->w, fd);
	return e;
}

static enum err open_directories(struct spool *sp)
{
	struct world *w = sp->w;
	enum err e = world_mkdir(w, WORLD_ABSOLUTE, sp->cfg.path, 0700);
	if (e != ERR_NONE && e != ERR_EXISTS)
		return e;
	TRY(sync_above(sp));
	TRY(world_open(w, WORLD_ABSOLUTE, sp->cfg.path, WORLD_READ | WORLD_DIR, 0, &sp->dir_fd));
	TRY(world_open(w, sp->dir_fd, STR("lock"), WORLD_READ | WORLD_WRITE | WORLD_CREATE | WORLD_REGULAR, 0600,
		       &sp->lock_fd));
	TRY(world_lock(w, sp->lock_fd));
	e = world_mkdir(w, sp->dir_fd, STR("body"), 0700);
	if (e != ERR_NONE && e != ERR_EXISTS)
		return e;
	TRY(world_open(w, sp->dir_fd, STR("body"), WORLD_READ | WORLD_DIR, 0, &sp->body_fd));
	return world_sync(w, sp->dir_fd);
}

static void spool_free(struct spool *sp)
{
	while (sp->n > 0)
		segment_forget(sp, sp->n - 1);
	while (!list_is_empty(&sp->bodies)) {
		struct body_file *b = CONTAINER_OF(sp->bodies.next, struct body_file, link);
		list_remove(&b->link);
		world_close(sp->w, b->fd);
		mem_free(sp->mem, b);
	}
	batch_free(&sp->batches[0]);
	batch_free(&sp->batches[1]);
	buf_free(&sp->dead_bodies);
	world_close(sp->w, sp->body_fd);
	world_close(sp->w, sp->dir_fd);
	world_close(sp->w, sp->lock_fd);
	mem_free(sp->mem, sp->segments);
	mem_free(sp->mem, sp->direct_place);
	mem_free(sp->mem, sp);
}

static struct spool *spool_new(const struct spool_config *cfg)
{
	struct spool *sp = mem_alloc(world_mem(cfg->w), sizeof *sp);
	if (!sp)
		return NULL;
	sp->cfg = *cfg;
	if (sp->cfg.segment_bytes == 0)
		sp->cfg.segment_bytes = SPOOL_SEGMENT_BYTES;
	sp->w = cfg->w;
	sp->mem = world_mem(cfg->w);
	sp->dir_fd = sp->body_fd = sp->lock_fd = -1;
	sp->history_saved = UINT64_MAX;
	sp->bad_end = UINT64_MAX;
	sp->pending = &sp->batches[0];
	sp->dead_bodies = buf_grow(sp->mem, (size_t)16 << 20);
	list_init(&sp->bodies);
	co_queue_init(&sp->work);
	co_queue_init(&sp->room);
	co_queue_init(&sp->duties);
	co_queue_init(&sp->preparing);
	batch_init(sp, &sp->batches[0]);
	batch_init(sp, &sp->batches[1]);
	return sp;
}

static YIELDS enum err start_coroutines(struct spool *sp)
{
	scope_open(&sp->scope, sp->cfg.loop, sp->cfg.scope);
	enum err e = scope_spawn(&sp->scope, "spool committer", CO_STACK_SMALL, spool_committer, sp);
	if (e == ERR_NONE)
		e = scope_spawn(&sp->scope, "spool janitor", CO_STACK_SMALL, spool_janitor, sp);
	if (e == ERR_NONE)
		e = scope_spawn(&sp->scope, "spool preparer", CO_STACK_SMALL, spool_preparer, sp);
	if (e != ERR_NONE) {
		sp->closing = true;
		scope_close(&sp->scope);
	}
	return e;
}

enum err spool_open(const struct spool_config *cfg, struct spool **sp_out)
{
	struct spool *sp = spool_new(cfg);
	if (!sp)
		return ERR_NO_MEMORY;
	enum err e = open_directories(sp);
	if (e == ERR_NONE)
		e = segment_try_direct(sp);
	if (e == ERR_NONE)
		e = spool_recover(sp);
	if (e == ERR_NONE)
		e = start_coroutines(sp);
	if (e != ERR_NONE) {
		spool_free(sp);
		return e;
	}
	*sp_out = sp;
	return ERR_NONE;
}

void spool_close(struct spool *sp)
{
	sp->closing = true;
	co_wake_all(&sp->work);
	co_wake_all(&sp->room);
	co_wake_all(&sp->duties);
	co_wake_all(&sp->preparing);
	scope_wait(&sp->scope);
	spool_remove_bodies(sp);
	/* Whatever goes wrong here: recovery reads the segments. */
	if (checkpoint_write(sp) != ERR_NONE)
		sp->checkpoint_due = true;
	if (sp->current)
		segment_seal(sp);
	scope_close(&sp->scope);
	spool_free(sp);
}
