/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process queue: takes messages over from smtpd, keeps them in the spool, has them delivered, and
 * writes down what became of them. Runs alone, may touch its spool directory and nothing else. What
 * smtpd and control send was decoded with bounds; message bytes are a stranger's, and only carried.
 *
 * submit.c     taking over (P1)              index.c     what is known without the disk
 * schedule.c   when what is tried; space     deliver.c   one delivery
 * history.c    what control is told          operator.c  list, show, hold, release, drop
 * spool*.c     the disk
 */
#include "queue/queue_internal.h"

#include "base/events.h"

#define SEGMENT_BYTES_MIN ((uint64_t)2 << 20) /* holds the largest record */
#define CALL_ARENA_MAX ((size_t)24 << 20)
#define STOP_DELIVERIES_NS (3 * 1000000000LL)

static void user(const struct conf *c, unsigned *uid_out, unsigned *gid_out)
{
	*uid_out = *gid_out = c->users.uid_queue;
}

static void register_metrics(struct queue *q)
{
	struct metrics *m = q->p->metrics;
	struct queue_metrics *k = &q->m;
	static const char *const sizes[12] = { "1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024", "+Inf" };
	k->accepted = metrics_counter(m, "godwit_queue_accepted_total", STR_NONE, "Messages taken over.");
	k->accepted_bytes = metrics_counter(m, "godwit_queue_accepted_bytes_total", STR_NONE, "Their bytes.");
	k->refused = metrics_counter(m, "godwit_queue_refused_total", STR_NONE, "Messages not taken over.");
	k->delivered = metrics_counter(m, "godwit_queue_delivered_total", STR_NONE, "Recipients delivered.");
	k->relayed = metrics_counter(m, "godwit_queue_relayed_total", STR_NONE, "Recipients taken over by another server.");
	k->deferred = metrics_counter(m, "godwit_queue_deferred_total", STR_NONE, "Attempts put off.");
	k->failed = metrics_counter(m, "godwit_queue_failed_total", STR_NONE, "Recipients that failed for good.");
	k->held_back = metrics_counter(m, "godwit_queue_held_total", STR_NONE, "Recipients put on hold.");
	k->reports = metrics_counter(m, "godwit_queue_reports_total", STR_NONE, "Delivery status notifications composed.");
	k->messages = metrics_gauge(m, "godwit_queue_messages", STR_NONE, "Messages in the queue.");
	k->recipients = metrics_gauge(m, "godwit_queue_recipients", STR_NONE, "Recipients in the queue.");
	k->held = metrics_gauge(m, "godwit_queue_held", STR_NONE, "Recipients on hold.");
	k->flying = metrics_gauge(m, "godwit_queue_deliveries", STR_NONE, "Deliveries under way.");
	k->memory = metrics_gauge(m, "godwit_queue_memory_bytes", STR_NONE, "Memory in use.");
	k->commits = metrics_counter(m, "godwit_spool_commits_total", STR_NONE, "Batches written and synced.");
	k->commit_failures = metrics_counter(m, "godwit_spool_commit_failures_total", STR_NONE, "Batches that failed.");
	k->records = metrics_counter(m, "godwit_spool_records_total", STR_NONE, "Records written.");
	k->written = metrics_counter(m, "godwit_spool_written_bytes_total", STR_NONE, "Bytes written to the log.");
	k->copied = metrics_counter(m, "godwit_spool_copied_total", STR_NONE, "Messages copied forward.");
	k->damaged = metrics_counter(m, "godwit_spool_damaged_total", STR_NONE, "Findings of damage.");
	k->log_bytes = metrics_gauge(m, "godwit_spool_log_bytes", STR_NONE, "Bytes of the log.");
	k->live_bytes = metrics_gauge(m, "godwit_spool_live_bytes", STR_NONE, "Bytes of messages in the queue.");
	k->segments = metrics_gauge(m, "godwit_spool_segments", STR_NONE, "Files of the log.");
	k->free_bytes = metrics_gauge(m, "godwit_spool_free_bytes", STR_NONE, "Free space of its disk.");
	k->recovery_ms = metrics_gauge(m, "godwit_spool_recovery_milliseconds", STR_NONE, "Duration of the last recovery.");
	for (size_t i = 0; i < 12; i++) {
		char place[40];
		struct buf b = buf_fixed(place, sizeof place);
		metrics_label(&b, "upto", str_z(sizes[i]));
		k->batch[i] = metrics_counter(m, "godwit_spool_commit_records", buf_str(&b), "Commits by number of records.");
	}
}
/* On a small disk segments are small, so that a few dead ones make room. */
static uint64_t segment_bytes(struct proc *p)
{
	uint64_t free_bytes, inodes;
	int fd;
	if (world_open(p->w, WORLD_ABSOLUTE, p->conf.spool, WORLD_READ | WORLD_DIR, 0, &fd) != ERR_NONE)
		return 0; /* not made yet, or spool_open() says why not */
	enum err e = world_free_space(p->w, fd, &free_bytes, &inodes);
	world_close(p->w, fd);
	if (e != ERR_NONE || free_bytes / 16 >= SPOOL_SEGMENT_BYTES)
		return 0;
	return free_bytes / 16 > SEGMENT_BYTES_MIN ? free_bytes / 16 & ~(uint64_t)4095 : SEGMENT_BYTES_MIN;
}


/* ---- start -------------------------------------------------------------------------------------------- */

static YIELDS enum err open_spool(struct queue *q)
{
	struct proc *p = q->p;
	struct spool_config cfg = {
		.w = p->w,
		.loop = p->loop,
		.log = &p->log,
		.path = p->conf.spool,
		.reserve_space = p->conf.reserve_space,
		.segment_bytes = segment_bytes(p),
		.index = index_for_spool(&q->ix),
	};
	TRY(spool_open(&cfg, &q->sp));
	struct spool_totals t = spool_totals(q->sp);
	int64_t took_ms = t.recovery_ns / 1000000;
	gauge_set(q->m.recovery_ms, took_ms);
	log_spool_recovered(&p->log, (struct log_ids){ 0 }, q->ix.messages, t.segments, (uint64_t)took_ms);
	q->history_from = spool_history_from(q->sp);
	spool_history_saved(q->sp, q->history_from);
	return ERR_NONE;
}

/* What was queued is due again; what had ended without its end being written ends now. */
static void schedule_recovered(struct queue *q)
{
	LIST_EACH(&q->ix.all, it) {
		struct message *m = CONTAINER_OF(it, struct message, link);
		if (it == &q->ix.cursor)
			continue;
		if (!message_is_final(m)) {
			queue_schedule(q, m);
			continue;
		}
		index_end(&q->ix, m);
		m->flags |= MESSAGE_END_FAILED; /* the keeper writes it */
		q->ix.ends_failed++;
	}
}

static void drop_dest(void *arg, uint32_t dest)
{
	struct queue *q = arg;
	dest_drop(&q->sites, dest);
}

/* Whoever wants retries soon wants dead places looked at soon. */
static void shorten(int64_t *ms, uint64_t most)
{
	if (most > 0 && most < (uint64_t)*ms)
		*ms = (int64_t)most;
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out)
{
	struct queue *q = self;
	struct sip_key key;
	q->p = p;
	list_init(&q->uploads);
	list_init(&q->waiting);
	list_init(&q->kept);
	co_queue_init(&q->schedule);
	co_queue_init(&q->idle);
	co_queue_init(&q->control_came);
	world_random(p->w, &key, sizeof key);
	index_open(&q->ix, p->mem, key);
	q->kept_by_id = table64_make(p->mem, key, KEPT_MAX);
	TRY(sites_open(&q->sites, p->mem, key));
	shorten(&q->sites.back_off_first_ms, p->conf.times.retry_first);
	shorten(&q->sites.back_off_max_ms, p->conf.times.retry_max);
	q->ix.on_dest = drop_dest;
	q->ix.arg = q;
	register_metrics(q);
	q->control_gone_ns = world_mono_ns(p->w);
	TRY(open_spool(q));
	schedule_recovered(q);
	jail_out->may = WORLD_MAY_FILES | WORLD_MAY_THREADS;
	jail_out->dirs = &p->conf.spool;
	jail_out->dir_count = 1;
	return ERR_NONE;
}

static enum err work(struct proc *p, void *self)
{
	TRY(scope_spawn(&p->work, "dispatcher", CO_STACK_SMALL, queue_dispatcher, self));
	TRY(scope_spawn(&p->work, "keeper", CO_STACK_SMALL, queue_keeper, self));
	return scope_spawn(&p->work, "history", CO_STACK_SMALL, queue_replayer, self);
}

/* ---- peers, stop -------------------------------------------------------------------------------------------- */

static void peer(struct proc *p UNUSED, void *self, enum role role, unsigned index, struct ipc *channel)
{
	struct queue *q = self;
	if (q->stopping)
		return;
	if (!channel)
		queue_drop_uploads(q, (uint8_t)role, (uint16_t)index);
	if (role == ROLE_CONTROL)
		queue_history_peer(q, channel);
	if ((role == ROLE_LOCAL || role == ROLE_RELAY) && channel) {
		deliver_waiting(q);
		co_wake_all(&q->schedule);
	}
	if (role == ROLE_SMTPD && channel && q->full) {
		struct queue_pressure_in note = { .full = true, .text = STR("the queue is full") };
		if (note_queue_pressure(channel, &note) != ERR_NONE)
			q->full = false; /* noticed, and told, again within a second */
	}
}

/* Deliveries under way may end; what they have done is written. Messages that come now are put off. */
static YIELDS void stop(struct proc *p, void *self)
{
	struct queue *q = self;
	int64_t until_ns = world_mono_ns(p->w) + STOP_DELIVERIES_NS;
	q->stopping = true;
	while (q->flying > 0 && world_mono_ns(p->w) < until_ns)
		if (co_sleep_until(world_mono_ns(p->w) + 10 * 1000000LL) != ERR_NONE)
			break;
	deliver_forget(q);
	scope_close(&p->work); /* whoever still works here is cancelled, and has ended when this returns */
	while (q->serving > 0) /* commits end soon, one way or the other */
		if (co_sleep_until(world_mono_ns(p->w) + 1000000LL) != ERR_NONE)
			break;
	while (!list_is_empty(&q->uploads)) {
		const struct upload *u = CONTAINER_OF(q->uploads.next, struct upload, link);
		queue_drop_uploads(q, u->role, u->index);
	}
	if (q->sp)
		spool_close(q->sp);
	q->sp = NULL;
	mem_free(p->mem, q->list.ids);
	q->ix.on_dest = NULL;
	deliver_kept_forget(q, 0);
	table64_free(&q->kept_by_id);
	index_close(&q->ix);
	sites_close(&q->sites);
}

/* ---- calls: none begins once we are stopping, and stop() waits for those under way ----------------------- */

#define SERVE(function)                                                \
	struct queue *q = self;                                        \
	if (q->stopping)                                               \
		return ERR_CLOSED;                                     \
	q->serving++;                                                  \
	enum err e = function(self, from, in, arena, out);             \
	q->serving--;                                                  \
	return e

static YIELDS enum err on_submit(void *self, struct ipc *from, const struct queue_submit_in *in, struct arena *arena,
				 struct queue_submit_out *out)
{
	SERVE(queue_on_submit);
}

static YIELDS enum err on_file(void *self, struct ipc *from, const struct queue_file_in *in, struct arena *arena,
			       struct queue_file_out *out)
{
	SERVE(queue_on_file);
}

static YIELDS enum err on_list(void *self, struct ipc *from, const struct queue_list_in *in, struct arena *arena,
			       struct queue_list_out *out)
{
	SERVE(queue_on_list);
}

static YIELDS enum err on_show(void *self, struct ipc *from, const struct queue_show_in *in, struct arena *arena,
			       struct queue_show_out *out)
{
	SERVE(queue_on_show);
}

static YIELDS enum err on_act(void *self, struct ipc *from, const struct queue_act_in *in, struct arena *arena,
			      struct queue_act_out *out)
{
	SERVE(queue_on_act);
}

static const struct ipc_handlers handlers = {
	.queue_submit = on_submit,
	.queue_part = queue_on_part,
	.queue_file = on_file,
	.queue_abort = queue_on_abort,
	.history_saved = queue_on_history_saved,
	.history_lost = queue_on_history_lost,
	.queue_list = on_list,
	.queue_show = on_show,
	.queue_act = on_act,
	.queue_sites = queue_on_sites,
};

const struct proc_ops queue_ops = {
	.role = ROLE_QUEUE,
	.state_bytes = sizeof(struct queue),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.user = user,
	.start = start,
	.work = work,
	.stop = stop,
	.peer = peer,
};
