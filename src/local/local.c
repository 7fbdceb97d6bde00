/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery into mailboxes. Runs in the process local, which may touch the mail root and nothing else.
 * What it is given are a stranger's message bytes (never interpreted here) and mailbox paths that lookup made from
 * addresses (confined again by the kernel, see maildir.h).
 *
 * Calls gather while a batch is being synced; the next batch takes all of them, so that under load many
 * messages share two syncs. A batch is one helper-thread job; there is one at a time.
 */
#include "local/local.h"

#include "base/events.h"
#include "local/maildir.h"

#define PENDING_BYTES_MAX ((size_t)64 << 20)
#define UPLOADS_MAX 256u
#define BODY_MAX ((size_t)1 << 20)
#define CALL_ARENA_MAX ((size_t)4 << 20)
#define SLOW_SYNC_NS (200 * 1000000LL)	   /* beyond it somebody else's writes cost us more than syncs */
#define AVOID_SYNCFS_NS (30 * 1000000000LL)
#define GATHER_NS (500 * 1000LL)	   /* a lone message waits so long for company under load */

/* A body that comes in parts, or as a file, before its local_deliver. */
struct upload {
	struct list link;
	uint64_t id;
	struct buf body;
	int fd;
};

/* One local_deliver call. Lives on its coroutine's stack until all its jobs are done. */
struct delivery {
	struct list link; /* local.pending */
	struct maildir_job *jobs;
	size_t n, next;	  /* next job to go into a batch */
	size_t left;	  /* jobs not done */
	struct co_queue done;
};

struct local {
	struct proc *p;
	int root_fd;
	unsigned uid;
	struct list uploads, pending;
	size_t uploads_n, pending_bytes;
	struct co_queue work;
	bool closing, batch_was_full, dirs_in_doubt;
	int64_t avoid_syncfs_until_ns;
	struct counter *delivered, *failed, *batches, *bytes;
	struct histogram *batch_sizes;
};

/* ---- bodies that come in parts --------------------------------------------------------------------- */

static struct upload *upload_find(struct local *l, uint64_t id)
{
	LIST_EACH(&l->uploads, it) {
		struct upload *u = CONTAINER_OF(it, struct upload, link);
		if (u->id == id)
			return u;
	}
	return NULL;
}

static void upload_free(struct local *l, struct upload *u)
{
	if (!u)
		return;
	list_remove(&u->link);
	l->uploads_n--;
	l->pending_bytes -= u->body.n;
	if (u->fd >= 0)
		world_close(l->p->w, u->fd);
	buf_free(&u->body);
	mem_free(l->p->mem, u);
}

static struct upload *upload_new(struct local *l, uint64_t id)
{
	struct upload *u = l->uploads_n < UPLOADS_MAX ? mem_alloc(l->p->mem, sizeof *u) : NULL;
	if (!u)
		return NULL;
	*u = (struct upload){ .id = id, .fd = -1, .body = buf_grow(l->p->mem, BODY_MAX) };
	list_push_back(&l->uploads, &u->link);
	l->uploads_n++;
	return u;
}

static enum err on_part(void *self, struct ipc *from UNUSED, const struct local_part_in *in,
			struct arena *arena UNUSED, struct local_part_out *out UNUSED)
{
	struct local *l = self;
	struct upload *u = upload_find(l, in->id);
	if (in->offset == 0 && u) { /* queue began again */
		upload_free(l, u);
		u = NULL;
	}
	if (!u)
		u = upload_new(l, in->id);
	if (!u || l->pending_bytes + in->bytes.n > PENDING_BYTES_MAX)
		return ERR_BUSY;
	if (in->offset != u->body.n)
		return ERR_SYNTAX;
	buf_add(&u->body, in->bytes);
	TRY(buf_err(&u->body));
	l->pending_bytes += in->bytes.n;
	return ERR_NONE;
}

static void on_file(void *self, struct ipc *from UNUSED, const struct local_file_in *in)
{
	struct local *l = self;
	upload_free(l, upload_find(l, in->id));
	struct upload *u = upload_new(l, in->id);
	if (u)
		u->fd = in->file;
	else
		world_close(l->p->w, in->file);
}

/* ---- one delivery --------------------------------------------------------------------------------------- */

/* CRLF to LF, the line end of Maildir; other CRs stay. `to` has room for s.n bytes. */
static size_t copy_lf(char *to, struct str s)
{
	size_t n = 0;
	while (s.n > 0) {
		size_t cr = str_find(s, '\r');
		bool end = cr + 1 < s.n && s.p[cr + 1] == '\n';
		size_t take = cr == s.n || end ? cr : cr + 1;
		memcpy(to + n, s.p, take);
		n += take;
		s = str_sub(s, end ? cr + 1 : take, s.n);
	}
	return n;
}

static struct str native_text(struct arena *a, struct str s, bool keep_crlf)
{
	if (keep_crlf)
		return s;
	char *to = arena_alloc(a, s.n ? s.n : 1);
	return to ? str_of(to, copy_lf(to, s)) : STR_NONE;
}

static struct str own_fields(struct arena *a, const struct local_deliver_in *in, const struct local_rcpt *r)
{
	const char *end = in->binary ? "\r\n" : "\n";
	size_t room = in->reverse_path.n + r->address.n + 64;
	struct buf b = buf_fixed(arena_alloc(a, room), room);
	buf_add(&b, STR("Return-Path: <"));
	buf_add(&b, in->reverse_path);
	buf_add(&b, STR(">"));
	buf_add(&b, str_z(end));
	buf_add(&b, STR("Delivered-To: "));
	buf_add(&b, r->address);
	buf_add(&b, str_z(end));
	return buf_err(&b) == ERR_NONE ? buf_str(&b) : STR_NONE;
}

static struct str job_name(struct local *l, struct arena *a, const struct local_deliver_in *in, const struct local_rcpt *r)
{
	struct buf b = buf_fixed(arena_alloc(a, MAILDIR_NAME_MAX), MAILDIR_NAME_MAX);
	maildir_name(&b, in->arrived_ms, in->id, r->number, l->p->conf.hostname);
	return buf_str(&b);
}

static enum err make_jobs(struct local *l, const struct local_deliver_in *in, struct upload *u, struct arena *a,
			  struct delivery *d)
{
	struct buf whole = buf_grow(l->p->mem, BODY_MAX + IPC_BODY_PART);
	struct str body = in->body;
	if (u && u->fd < 0) { /* the parts, and the last one */
		buf_add(&whole, buf_str(&u->body));
		buf_add(&whole, in->body);
		body = buf_str(&whole);
	}
	struct str prefix = native_text(a, in->prefix, in->binary);
	d->jobs = ARENA_ARRAY(a, struct maildir_job, in->recipients_n);
	bool in_file = in->in_file && u && u->fd >= 0;
	bool whole_body = in_file || (!in->in_file && body.n == in->body_bytes);
	body = in_file ? str_of("", 0) : native_text(a, body, in->binary);
	/* One for all jobs: a batch is written by one thread, one file after the other. */
	char *copy_buffer = in_file ? arena_alloc(a, MAILDIR_COPY_BYTES + 16) : NULL;
	for (size_t i = 0; d->jobs && i < in->recipients_n; i++) {
		const struct local_rcpt *r = &in->recipients[i];
		struct maildir_job *j = &d->jobs[d->n++];
		*j = (struct maildir_job){ .mailbox = r->mailbox, .name = job_name(l, a, in, r), .body_fd = -1,
					   .parts = { own_fields(a, in, r), prefix, body },
					   .keep_crlf = in->binary, .repeated = in->repeated };
		if (in_file) {
			j->body_fd = u->fd;
			j->body_fd_bytes = in->body_bytes;
			j->copy_buffer = copy_buffer;
		}
	}
	enum err e = buf_err(&whole);
	buf_free(&whole);
	TRY(e);
	TRY(arena_err(a));
	return whole_body ? ERR_NONE : ERR_SYNTAX;
}

static struct outcome outcome_of(const struct local_rcpt *r, const struct maildir_job *j)
{
	struct outcome o = { .number = r->number, .verdict = VERDICT_DEFER };
	switch (j->err) {
	case ERR_NONE:
		o.verdict = VERDICT_ACCEPT;
		o.enhanced = STR("2.0.0");
		o.text = j->already ? STR("was in the mailbox already") : STR("delivered to the mailbox");
		return o;
	case ERR_NO_SPACE:
		o.enhanced = STR("4.2.2");
		o.text = STR("the disk or the quota of the mailbox is full");
		return o;
	case ERR_DENIED:
		o.enhanced = STR("4.3.0");
		o.text = STR("the mailbox cannot be trusted: a symbolic link, another owner, or writable by others");
		return o;
	case ERR_SYNTAX:
	case ERR_LIMIT:
		o.enhanced = STR("4.3.5");
		o.text = STR("the mailbox has no usable path");
		return o;
	default:
		o.enhanced = STR("4.3.0");
		o.text = STR("writing to the mailbox failed");
		return o;
	}
}

static enum err answer(struct local *l, const struct local_deliver_in *in, const struct delivery *d, struct arena *a,
		       struct local_deliver_out *out)
{
	out->outcomes = ARENA_ARRAY(a, struct outcome, d->n ? d->n : 1);
	if (!out->outcomes)
		return arena_err(a);
	for (size_t i = 0; i < d->n; i++) {
		const struct maildir_job *j = &d->jobs[i];
		out->outcomes[out->outcomes_n++] = outcome_of(&in->recipients[i], j);
		counter_add(j->err == ERR_NONE ? l->delivered : l->failed, 1);
		if (j->err != ERR_NONE)
			log_io_error(&l->p->log, (struct log_ids){ .message = in->id }, STR("deliver to a mailbox"),
				     j->err, j->mailbox);
	}
	return ERR_NONE;
}

static YIELDS enum err on_deliver(void *self, struct ipc *from UNUSED, const struct local_deliver_in *in,
				  struct arena *arena, struct local_deliver_out *out)
{
	struct local *l = self;
	struct delivery d = { 0 };
	struct upload *u = upload_find(l, in->id);
	if (u) { /* ours from here on: a second call may come with its own */
		list_remove(&u->link);
		list_init(&u->link);
	}
	enum err e = l->closing ? ERR_CLOSED : make_jobs(l, in, u, arena, &d);
	if (e == ERR_NONE && d.n > 0) {
		co_queue_init(&d.done);
		d.left = d.n;
		list_push_back(&l->pending, &d.link);
		co_wake_one(&l->work);
		co_shield(); /* a batch points to our stack */
		while (d.left > 0)
			if (co_wait(&d.done) != ERR_NONE)
				continue;
		co_unshield();
	}
	upload_free(l, u);
	return e == ERR_NONE ? answer(l, in, &d, arena, out) : e;
}

/* ---- batches ------------------------------------------------------------------------------------------------ */


static void fill_batch(struct local *l, struct maildir_batch *b, struct delivery **owners)
{
	LIST_EACH(&l->pending, it) {
		struct delivery *d = CONTAINER_OF(it, struct delivery, link);
		while (d->next < d->n && b->n < MAILDIR_BATCH_MAX) {
			owners[b->n] = d;
			b->jobs[b->n++] = &d->jobs[d->next++];
		}
		if (d->next == d->n)
			list_remove(&d->link);
		if (b->n == MAILDIR_BATCH_MAX)
			return;
	}
}

static YIELDS void run_batch(struct local *l, struct maildir_batch *b, struct delivery **owners)
{
	*b = (struct maildir_batch){ .root_fd = l->root_fd, .uid = l->uid };
	b->dirs_in_doubt = l->dirs_in_doubt;
	b->avoid_syncfs = world_mono_ns(l->p->w) < l->avoid_syncfs_until_ns;
	fill_batch(l, b, owners);
	enum err e = co_offload(maildir_write_batch, b);
	l->dirs_in_doubt = b->dirs_in_doubt;
	if (b->slowest_sync_ns > SLOW_SYNC_NS)
		l->avoid_syncfs_until_ns = world_mono_ns(l->p->w) + AVOID_SYNCFS_NS;
	counter_add(l->batches, 1);
	histogram_add(l->batch_sizes, b->n);
	l->batch_was_full = b->n > 1;
	for (size_t i = 0; i < b->n; i++) {
		if (e != ERR_NONE)
			b->jobs[i]->err = e;
		b->jobs[i]->done = true;
		if (--owners[i]->left == 0)
			co_wake_all(&owners[i]->done);
	}
}

/* coroutine */
static void batcher(void *arg)
{
	struct local *l = arg;
	struct maildir_batch *b = mem_alloc(l->p->mem, sizeof *b);
	struct delivery **owners = mem_alloc(l->p->mem, sizeof(struct delivery *) * MAILDIR_BATCH_MAX);
	while (b && owners) {
		if (list_is_empty(&l->pending)) {
			if (co_wait(&l->work) != ERR_NONE)
				break;
			/* After a batch of several, the next are on their way: let them catch this one. */
			if (l->batch_was_full && co_sleep_until(world_mono_ns(l->p->w) + GATHER_NS) != ERR_NONE)
				break;
			continue;
		}
		run_batch(l, b, owners);
	}
	mem_free(l->p->mem, b);
	mem_free(l->p->mem, owners);
}

/* ---- the process ---------------------------------------------------------------------------------------------- */

static void user(const struct conf *c, unsigned *uid_out, unsigned *gid_out)
{
	*uid_out = *gid_out = c->users.uid_mail;
}

static void register_metrics(struct local *l)
{
	static const struct histogram_shape sizes = { 8, 1, { 1, 2, 4, 8, 16, 32, 64, 128 } };
	struct metrics *m = l->p->metrics;
	l->delivered = metrics_counter(m, "godwit_local_delivered_total", STR_NONE, "Recipients delivered to a mailbox.");
	l->failed = metrics_counter(m, "godwit_local_failed_total", STR_NONE, "Deliveries that failed for the moment.");
	l->batches = metrics_counter(m, "godwit_local_batches_total", STR_NONE, "Batches written and synced.");
	l->batch_sizes = metrics_histogram(m, "godwit_local_batch_size", STR_NONE, "Files a batch.", &sizes);
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out) /* yields: indirect */
{
	struct local *l = self;
	l->p = p;
	list_init(&l->uploads);
	list_init(&l->pending);
	co_queue_init(&l->work);
	l->uid = world_uid(p->w);
	register_metrics(l);
	TRY(world_open(p->w, WORLD_ABSOLUTE, p->conf.mail, WORLD_READ | WORLD_DIR, 0, &l->root_fd));
	TRY(world_syncfs(p->w, l->root_fd)); /* mailboxes that a predecessor made and did not live to sync */
	jail_out->may = WORLD_MAY_FILES | WORLD_MAY_THREADS;
	jail_out->dirs = &p->conf.mail;
	jail_out->dir_count = 1;
	jail_out->max_file_bytes = p->conf.limits.message_bytes + ((uint64_t)1 << 20);
	return ERR_NONE;
}

static YIELDS enum err work(struct proc *p, void *self) /* yields: indirect */
{
	return scope_spawn(&p->work, "batcher", CO_STACK_SMALL, batcher, self);
}

/* Queue has stopped before us; what is still pending is written. */
static YIELDS void stop(struct proc *p, void *self)
{
	struct local *l = self;
	l->closing = true;
	for (int i = 0; i < 200 && !list_is_empty(&l->pending); i++)
		if (co_sleep_until(world_mono_ns(p->w) + 10 * 1000000LL) != ERR_NONE)
			break;
}

static const struct ipc_handlers handlers = {
	.local_deliver = on_deliver, .local_part = on_part, .local_file = on_file
};

const struct proc_ops local_ops = {
	.role = ROLE_LOCAL,
	.state_bytes = sizeof(struct local),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.user = user,
	.start = start,
	.work = work,
	.stop = stop,
};
