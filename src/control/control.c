/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process control: keeps the history and serves the command line. The socket's file permissions
 * say who may come (its owner, its group, root); what comes is bounds-checked like any call (H104), and
 * only calls that calls.def marks `cli` are forwarded.
 *
 * History rows gather for up to a second and are stored in one transaction. When they come faster than
 * the disk takes them, refusals are dropped and counted; rows of accepted mail are not: queue keeps
 * their segments until history_saved, and tells them again after a restart (P8).
 */
#include "control/control.h"

#include "base/events.h"

#define CALL_ARENA_MAX ((size_t)8 << 20)
#define BATCH_ARENA_MAX ((size_t)32 << 20)
#define STORE_EVERY_NS (1000 * 1000000LL)
#define AGAIN_EVERY_NS (30 * 1000000000LL)
#define EXPIRE_EVERY_NS (600 * 1000000000LL)
#define NO_IDS ((struct log_ids){ 0 })

/* ---- history --------------------------------------------------------------------------------------------- */

static struct history_batch *batch_new(struct control *c)
{
	struct history_batch *b = mem_alloc(c->p->mem, sizeof *b);
	if (b)
		b->arena = arena_make(c->p->mem, BATCH_ARENA_MAX);
	return b;
}

static void batch_clear(struct history_batch *b)
{
	arena_close(&b->arena);
	b->messages_n = b->attempts_n = b->refused_n = 0;
}

static size_t batch_rows(const struct history_batch *b)
{
	return b->messages_n + b->attempts_n + b->refused_n;
}

static struct ipc *queue_peer(struct control *c)
{
	return proc_peer(c->p, ROLE_QUEUE, 0);
}

static void tell_saved(struct control *c)
{
	struct ipc *queue = queue_peer(c);
	struct history_saved_in note = { c->segment_saved };
	if (queue && c->segment_saved && note_history_saved(queue, &note) != ERR_NONE)
		c->segment_saved = 0; /* told again with the next batch */
}

/* P8: rows of accepted mail are lost; queue must not take what was said before for the whole. */
static void note_loss(struct control *c)
{
	struct ipc *queue = queue_peer(c);
	struct history_lost_in note = { .again = false };
	if (!c->lost && queue && note_history_lost(queue, &note) != ERR_NONE)
		log_io_error(&c->p->log, NO_IDS, STR("tell queue of lost history"), ERR_BUSY, STR("queue"));
	c->lost = true;
	c->storable = false;
	c->segment_saved = 0;
}

/* What was lost can be stored now: queue tells it again, not more often than it is worth. */
static void ask_again(struct control *c)
{
	struct ipc *queue = queue_peer(c);
	int64_t now_ns = world_mono_ns(c->p->w);
	struct history_lost_in note = { .again = true };
	if (!queue || (c->again_ns && now_ns < c->again_ns + AGAIN_EVERY_NS) || note_history_lost(queue, &note) != ERR_NONE)
		return;
	c->again_ns = now_ns;
	c->lost = c->storable = false;
}

/* Stores what has gathered. SQLite blocks this process alone: nobody waits for it but the command line. */
static void store_now(struct control *c)
{
	struct history_batch *b = c->batch;
	if (batch_rows(b) == 0)
		return;
	enum err e = history_store(c->history, b);
	if (e != ERR_NONE) {
		log_io_error(&c->p->log, NO_IDS, STR("store history"), e, c->history_dir);
		counter_add(c->lost_rows, batch_rows(b));
		if (b->messages_n + b->attempts_n > 0)
			note_loss(c);
	} else {
		counter_add(c->rows, batch_rows(b));
		c->storable = c->lost;
	}
	batch_clear(b);
	if (e == ERR_NONE && !c->lost && c->segment_seen > c->segment_saved && history_sync(c->history) == ERR_NONE) {
		c->segment_saved = c->segment_seen;
		tell_saved(c);
	}
}

static bool batch_is_full(const struct history_batch *b)
{
	return b->messages_n == HISTORY_BATCH_ROWS || b->attempts_n == HISTORY_BATCH_ROWS ||
	       b->refused_n == HISTORY_BATCH_ROWS || b->arena.used > BATCH_ARENA_MAX / 2;
}

static void see_segment(struct control *c, uint64_t segment)
{
	c->segment_seen = segment > c->segment_seen ? segment : c->segment_seen;
}

static void lose_one(struct control *c)
{
	counter_add(c->lost_rows, 1);
	note_loss(c);
}

static void keep(struct arena *a, struct str *s)
{
	*s = arena_str(a, *s);
}

static void on_message(void *self, struct ipc *from UNUSED, const struct history_message_in *in)
{
	struct control *c = self;
	struct history_batch *b = c->batch;
	struct arena *a = &b->arena;
	struct history_message_in *m = &b->messages[b->messages_n];
	*m = *in;
	struct envelope *e = &m->envelope;
	struct envelope_rcpt *copy = ARENA_ARRAY(a, struct envelope_rcpt, e->recipients_n);
	keep(a, &e->reverse_path);
	keep(a, &e->helo);
	keep(a, &e->protocol);
	keep(a, &e->account);
	keep(a, &e->message_id);
	for (size_t i = 0; copy && i < e->recipients_n; i++) {
		copy[i] = e->recipients[i];
		keep(a, &copy[i].forward_path);
		keep(a, &copy[i].target.address);
	}
	e->recipients = copy;
	if (arena_err(a) == ERR_NONE)
		b->messages_n++;
	else
		lose_one(c);
	see_segment(c, in->segment);
	if (batch_is_full(b))
		store_now(c);
	co_wake_one(&c->gathered);
}

static void on_attempt(void *self, struct ipc *from UNUSED, const struct history_attempt_in *in)
{
	struct control *c = self;
	struct history_batch *b = c->batch;
	struct history_attempt_in *t = &b->attempts[b->attempts_n];
	*t = *in;
	keep(&b->arena, &t->address);
	keep(&b->arena, &t->enhanced);
	keep(&b->arena, &t->text);
	keep(&b->arena, &t->by);
	if (arena_err(&b->arena) == ERR_NONE)
		b->attempts_n++;
	else
		lose_one(c);
	see_segment(c, in->segment);
	if (batch_is_full(b))
		store_now(c);
	co_wake_one(&c->gathered);
}

static void on_refused(void *self, struct ipc *from UNUSED, const struct history_refused_in *in)
{
	struct control *c = self;
	struct history_batch *b = c->batch;
	struct history_refused_in *f = &b->refused[b->refused_n];
	*f = *in;
	keep(&b->arena, &f->helo);
	keep(&b->arena, &f->reverse_path);
	keep(&b->arena, &f->forward_path);
	keep(&b->arena, &f->enhanced);
	keep(&b->arena, &f->text);
	keep(&b->arena, &f->rule);
	if (arena_err(&b->arena) == ERR_NONE)
		b->refused_n++;
	else
		counter_add(c->lost_rows, 1);
	if (batch_is_full(b))
		store_now(c);
	co_wake_one(&c->gathered);
}

/* coroutine */
static void storer(void *arg)
{
	struct control *c = arg;
	struct world *w = c->p->w;
	for (;;) {
		while (batch_rows(c->batch) == 0 && !c->storable)
			if (co_wait(&c->gathered) != ERR_NONE)
				return;
		if (co_sleep_until(world_mono_ns(w) + STORE_EVERY_NS) != ERR_NONE)
			return; /* stop() stores the rest */
		store_now(c);
		if (c->storable) /* asked for lately: it is due when no more mail comes, too */
			ask_again(c);
	}
}

/* coroutine */
static void expirer(void *arg)
{
	struct control *c = arg;
	struct world *w = c->p->w;
	for (;;) {
		bool more = true;
		int64_t before_ms = world_wall_ms(w) - (int64_t)c->p->conf.times.history_keep;
		while (more) {
			enum err e = history_expire(c->history, before_ms, &more);
			if (e != ERR_NONE) {
				log_io_error(&c->p->log, NO_IDS, STR("expire history"), e, c->history_dir);
				more = false;
			}
			if (co_yield() != ERR_NONE)
				return;
		}
		if (co_sleep_until(world_mono_ns(w) + EXPIRE_EVERY_NS) != ERR_NONE)
			return;
	}
}

static enum err on_trace(void *self, struct ipc *from UNUSED, const struct trace_find_in *in, struct arena *arena,
			 struct trace_find_out *out)
{
	struct control *c = self;
	store_now(c); /* what happened a moment ago is asked for most */
	return history_find(c->history, in, arena, out);
}

/* ---- the command line ----------------------------------------------------------------------------------------- */

static YIELDS void add_metrics(struct ipc *ch, struct arena *arena, struct buf *b)
{
	struct proc_metrics_out out;
	if (call_proc_metrics(ch, &(struct proc_metrics_in){ 0 }, arena, &out) == ERR_NONE)
		buf_add(b, out.text);
}

static YIELDS enum err on_metrics(void *self, struct ipc *from UNUSED, const struct control_metrics_in *in UNUSED,
				  struct arena *arena, struct control_metrics_out *out)
{
	struct control *c = self;
	struct buf b = buf_grow(c->p->mem, 60000);
	metrics_print(c->p->metrics, &b);
	for (size_t i = 0; i < c->p->peer_count; i++)
		if (c->p->peers[i].channel && ipc_is_open(c->p->peers[i].channel))
			add_metrics(c->p->peers[i].channel, arena, &b);
	if (c->p->master)
		add_metrics(c->p->master, arena, &b);
	out->text = arena_str(arena, buf_str(&b));
	buf_free(&b);
	return arena_err(arena);
}

static const struct ipc_handlers cli_handlers = {
	.trace_find = on_trace, .control_metrics = on_metrics, .send_message = control_send
};

static YIELDS enum err call_own(struct control *c, struct ipc *from, const struct control_call_in *in,
				struct arena *arena, struct control_call_out *out) /* yields: indirect */
{
	struct ipc_writer w = { .b = buf_grow(c->p->mem, IPC_FRAME_MAX) };
	struct ipc_request rq = { .from = from, .type = in->type, .out = &w };
	rq.in = (struct ipc_reader){ .c = cursor_of(in->bytes), .arena = arena };
	enum err e = ipc_serve(&cli_handlers, ROLE_CONTROL, c, &rq);
	if (e == ERR_NONE) {
		out->bytes = arena_str(arena, buf_str(&w.b));
		e = arena_err(arena);
	}
	buf_free(&w.b);
	return e;
}

static YIELDS enum err on_call(void *self, struct ipc *from, const struct control_call_in *in, struct arena *arena,
			       struct control_call_out *out)
{
	struct control *c = self;
	unsigned role = call_cli_role(in->type);
	counter_add(c->calls, 1);
	if (role == ROLE_COUNT)
		return ERR_DENIED;
	if (role == ROLE_CONTROL)
		return call_own(c, from, in, arena, out);
	struct ipc *ch = role == ROLE_MASTER ? c->p->master : proc_peer(c->p, role, 0);
	return ch ? ipc_call_raw(ch, in->type, in->bytes, arena, &out->bytes) : ERR_CLOSED;
}

/* What a client of the socket may ask: this one call. */
static const struct ipc_handlers client_handlers = { .control_call = on_call };

static enum err client_dispatch(void *arg, struct ipc_request *rq)
{
	return ipc_serve(&client_handlers, ROLE_CONTROL, arg, rq);
}

static void client_closed(void *arg, struct ipc *ch)
{
	struct control *c = arg;
	c->clients--;
	control_send_abort(c, ch);
}

static void take_client(struct control *c, int fd)
{
	struct ipc *ch;
	struct ipc_config cfg = { .loop = c->p->loop, .scope = &c->p->work, .fd = fd, .peer_role = ROLE_CONTROL,
				  .dispatch = client_dispatch, .self = c, .arena_max = CALL_ARENA_MAX, .on_closed = client_closed };
	if (c->clients == CONTROL_CLIENTS_MAX)
		world_close(c->p->w, fd);
	else if (ipc_open(&cfg, &ch) == ERR_NONE)
		c->clients++;
}

/* coroutine */
static void acceptor(void *arg)
{
	struct control *c = arg;
	struct ip peer;
	for (;;) {
		int fd;
		enum err e = world_accept(c->p->w, c->listen_fd, &fd, &peer);
		if (e == ERR_NONE) {
			take_client(c, fd);
			continue;
		}
		if (e == ERR_LIMIT && co_sleep_until(world_mono_ns(c->p->w) + 100 * 1000000LL) != ERR_NONE)
			break;
		source_block(&c->listener, WORLD_IN);
		if (source_wait(&c->listener, WORLD_IN) != ERR_NONE)
			break;
	}
	source_close(&c->listener);
}

/* ---- the process -------------------------------------------------------------------------------------------------- */

static void peer(struct proc *p UNUSED, void *self, enum role role, unsigned index UNUSED, struct ipc *channel)
{
	if (role == ROLE_QUEUE && channel)
		tell_saved(self);
}

static void user(const struct conf *c, unsigned *uid_out, unsigned *gid_out)
{
	*uid_out = c->users.uid_control;
	*gid_out = c->users.gid_control;
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out) /* yields: indirect */
{
	struct control *c = self;
	c->p = p;
	co_queue_init(&c->gathered);
	c->arena = arena_make(p->mem, 65536);
	c->batch = batch_new(c);
	c->rows = metrics_counter(p->metrics, "godwit_history_rows_total", STR_NONE, "Rows stored in the history.");
	c->lost_rows = metrics_counter(p->metrics, "godwit_history_lost_rows_total", STR_NONE, "Rows that could not be stored.");
	c->calls = metrics_counter(p->metrics, "godwit_control_calls_total", STR_NONE, "Calls of the command line.");
	struct str *dirs = ARENA_ARRAY(&c->arena, struct str, 2);
	c->history_dir = arena_strf(&c->arena, "%.*s/history", STR_ARG(p->conf.state));
	c->socket_path = arena_strf(&c->arena, "%.*s/control.sock", STR_ARG(p->conf.run));
	TRY(arena_err(&c->arena));
	if (!c->batch)
		return ERR_NO_MEMORY;
	TRY(history_open(p->w, c->history_dir, &c->history));
	TRY(world_listen_path(p->w, c->socket_path, 0660, &c->listen_fd));
	dirs[0] = c->history_dir;
	dirs[1] = p->conf.run;
	jail_out->may = WORLD_MAY_FILES | WORLD_MAY_DATABASE | WORLD_MAY_LISTEN_PATH | WORLD_MAY_ACCEPT;
	jail_out->dirs = dirs;
	jail_out->dir_count = 2;
	return ERR_NONE;
}

static YIELDS enum err work(struct proc *p, void *self) /* yields: indirect */
{
	struct control *c = self;
	TRY(source_open_listener(&c->listener, p->loop, c->listen_fd));
	TRY(scope_spawn(&p->work, "acceptor", CO_STACK_SMALL, acceptor, c));
	TRY(scope_spawn(&p->work, "storer", CO_STACK_LARGE, storer, c));
	return scope_spawn(&p->work, "expirer", CO_STACK_LARGE, expirer, c);
}

static YIELDS void stop(struct proc *p, void *self)
{
	struct control *c = self;
	c->closing = true;
	scope_close(&p->work);
	scope_open(&p->work, p->loop, NULL); /* proc closes it again */
	store_now(c);
	history_close(c->history);
	arena_close(&c->batch->arena);
	mem_free(p->mem, c->batch);
	arena_close(&c->arena);
}

static const struct ipc_handlers handlers = {
	.history_message = on_message, .history_attempt = on_attempt, .history_refused = on_refused
};

const struct proc_ops control_ops = {
	.role = ROLE_CONTROL,
	.state_bytes = sizeof(struct control),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.user = user,
	.start = start,
	.work = work,
	.stop = stop,
	.peer = peer,
};
