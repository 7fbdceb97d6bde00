/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a process: see proc.h. Runs in every process but master; what it reads comes from master.
 *
 * Order: channel to master → configuration in pieces → channels and listeners → proc_start (start,
 * jail, work) → serve → proc_stop or master's death → stop, end.
 */
#include "proc/proc.h"

#include "base/events.h"
#include "config.h"

#define CONF_BYTES_MAX ((size_t)16 << 20)
#define CONF_ARENA_MAX ((size_t)64 << 20)
#define STOP_NS (10 * 1000000000LL) /* what a stop may take in all */

/* ---- channels ----------------------------------------------------------------------------------- */

static YIELDS enum err dispatch(void *arg, struct ipc_request *rq);

/* Most often the peer died, which master knows; if not, only we can tell. */
static void tell_lost(struct proc *p, size_t i)
{
	struct proc_lost_in note = { (uint8_t)p->peers[i].role, (uint16_t)p->peers[i].index, p->peers[i].serial };
	if (p->master && !p->stopping && note_proc_lost(p->master, &note) != ERR_NONE)
		log_io_error(&p->log, (struct log_ids){ 0 }, STR("tell of a lost channel"), ERR_CLOSED, str_z(role_name(note.role)));
}

static void peer_closed(void *arg, struct ipc *ch)
{
	struct proc *p = arg;
	for (size_t i = 0; i < p->peer_count; i++) {
		if (p->peers[i].channel != ch)
			continue;
		p->peers[i].channel = NULL;
		if (p->ops->peer && p->started)
			p->ops->peer(p, p->self, p->peers[i].role, p->peers[i].index, NULL);
		tell_lost(p, i);
	}
	if (ch == p->master) { /* nobody to work for any more */
		p->master = NULL;
		p->stopping = true;
		co_wake_all(&p->stop_queue);
		co_wake_all(&p->start_queue);
	}
}

static enum err open_channel(struct proc *p, int fd, enum role role, unsigned index, struct ipc **ch_out)
{
	struct ipc_config cfg = {
		.loop = p->loop,
		.scope = &p->channels,
		.fd = fd,
		.peer_role = (uint8_t)role,
		.peer_index = (uint16_t)index,
		.dispatch = dispatch,
		.self = p,
		.arena_max = p->ops->call_arena_max,
		.on_closed = peer_closed,
	};
	return ipc_open(&cfg, ch_out);
}

static enum err add_peer(struct proc *p, enum role role, unsigned index, uint32_t serial, struct ipc *ch)
{
	size_t i = 0;
	while (i < p->peer_count && (p->peers[i].role != role || p->peers[i].index != index))
		i++;
	if (i == PROC_PEERS_MAX)
		return ERR_LIMIT;
	if (i == p->peer_count)
		p->peer_count++;
	struct ipc *old = p->peers[i].channel;
	p->peers[i].role = role;
	p->peers[i].index = index;
	p->peers[i].channel = ch;
	p->peers[i].serial = serial;
	if (old)
		ipc_close(old);
	return ERR_NONE;
}

struct ipc *proc_peer(struct proc *p, enum role role, unsigned index)
{
	for (size_t i = 0; i < p->peer_count; i++)
		if (p->peers[i].role == role && p->peers[i].index == index && p->peers[i].channel &&
		    ipc_is_open(p->peers[i].channel))
			return p->peers[i].channel;
	return NULL;
}

size_t proc_peers(struct proc *p, enum role role, struct ipc **channels_out, size_t max)
{
	size_t n = 0;
	for (unsigned index = 0; index < PROC_PEERS_MAX && n < max; index++) {
		struct ipc *ch = proc_peer(p, role, index);
		if (ch)
			channels_out[n++] = ch;
	}
	return n;
}

/* ---- what master says ------------------------------------------------------------------------------ */

static enum err use_configuration(struct proc *p)
{
	struct ipc_reader r = { .arena = &p->arena };
	struct str copy = arena_str(&p->arena, buf_str(&p->conf_bytes));
	buf_free(&p->conf_bytes);
	TRY(arena_err(&p->arena));
	r.c = cursor_of(copy);
	TRY(conf_get(&r, &p->conf));
	TRY(cursor_end(&r.c));
	log_flush(&p->log); /* in the form that it began with */
	p->log.format = (enum log_format)p->conf.log_format;
	p->log.min_level = (enum log_level)p->conf.log_level;
	p->configured = true;
	log_process_start(&p->log, (struct log_ids){ 0 }, STR(GODWIT_VERSION), (uint64_t)world_pid(p->w));
	return ERR_NONE;
}

static enum err on_configure(void *self, struct ipc *from UNUSED, const struct proc_configure_in *in,
			     struct arena *arena UNUSED, struct proc_configure_out *out UNUSED)
{
	struct proc *p = self;
	if (p->configured || in->offset != p->conf_bytes.n)
		return ERR_SYNTAX;
	buf_add(&p->conf_bytes, in->bytes);
	TRY(buf_err(&p->conf_bytes));
	return in->last ? use_configuration(p) : ERR_NONE;
}

static void on_peer(void *self, struct ipc *from UNUSED, const struct proc_peer_in *in)
{
	struct proc *p = self;
	struct ipc *ch;
	enum err e = open_channel(p, in->channel, in->role, in->index, &ch);
	if (e == ERR_NONE)
		e = add_peer(p, in->role, in->index, in->serial, ch);
	if (e != ERR_NONE)
		log_io_error(&p->log, (struct log_ids){ 0 }, STR("open a channel"), e, str_z(role_name(in->role)));
	else if (p->ops->peer && p->started)
		p->ops->peer(p, p->self, in->role, in->index, ch);
}

static void on_listener(void *self, struct ipc *from UNUSED, const struct proc_listener_in *in)
{
	struct proc *p = self;
	if (p->listener_count == PROC_LISTENERS_MAX) {
		world_close(p->w, in->socket);
		return;
	}
	p->listeners[p->listener_count].fd = in->socket;
	p->listeners[p->listener_count++].listener = in->listener;
}

static void on_counts(void *self, struct ipc *from UNUSED, const struct proc_counts_in *in)
{
	struct proc *p = self;
	if (p->counts_n == PROC_COUNTS_MAX || p->started)
		world_close(p->w, in->memory);
	else
		p->counts[p->counts_n++] = *in;
}

static YIELDS enum err on_start(void *self, struct ipc *from UNUSED, const struct proc_start_in *in UNUSED,
			 struct arena *arena UNUSED, struct proc_start_out *out UNUSED)
{
	struct proc *p = self;
	int64_t began_ns = world_mono_ns(p->w);
	if (!p->configured || p->started)
		return ERR_SYNTAX;
	struct world_jail jail = { .role = role_name(p->ops->role) };
	unsigned uid = 0, gid = 0;
	if (p->ops->user)
		p->ops->user(&p->conf, &uid, &gid);
	enum err e = world_change_user(p->w, uid, gid);
	if (e == ERR_NONE)
		e = p->ops->start(p, p->self, &jail);
	if (e == ERR_NONE)
		e = metrics_err(p->metrics);
	if (e == ERR_NONE)
		e = world_jail_enter(p->w, &jail);
	if (e != ERR_NONE) {
		log_io_error(&p->log, (struct log_ids){ 0 }, STR("start"), e, str_z(role_name(p->ops->role)));
		return e;
	}
	p->started = true;
	if (p->ops->peer)
		for (size_t i = 0; i < p->peer_count; i++)
			if (p->peers[i].channel)
				p->ops->peer(p, p->self, p->peers[i].role, p->peers[i].index, p->peers[i].channel);
	/* Before work(): a note that waits holds up its channel, and work() may wait for an answer from there. */
	co_wake_all(&p->start_queue);
	if (p->ops->work)
		TRY(p->ops->work(p, p->self));
	log_process_ready(&p->log, (struct log_ids){ 0 }, (uint64_t)((world_mono_ns(p->w) - began_ns) / 1000000));
	return ERR_NONE;
}

static enum err on_ping(void *self UNUSED, struct ipc *from UNUSED, const struct proc_ping_in *in UNUSED,
			struct arena *arena UNUSED, struct proc_ping_out *out UNUSED)
{
	return ERR_NONE;
}

static void on_stop(void *self, struct ipc *from UNUSED, const struct proc_stop_in *in UNUSED)
{
	struct proc *p = self;
	p->stopping = true;
	co_wake_all(&p->stop_queue);
	co_wake_all(&p->start_queue);
}

static enum err on_metrics(void *self, struct ipc *from UNUSED, const struct proc_metrics_in *in UNUSED,
			   struct arena *arena, struct proc_metrics_out *out)
{
	struct proc *p = self;
	struct buf b = buf_grow(p->mem, 60000);
	metrics_print(p->metrics, &b);
	out->text = arena_str(arena, buf_str(&b));
	enum err e = buf_err(&b);
	buf_free(&b);
	return e == ERR_NONE ? arena_err(arena) : e;
}

static const struct ipc_handlers own_handlers = {
	.proc_configure = on_configure,
	.proc_peer = on_peer,
	.proc_listener = on_listener,
	.proc_counts = on_counts,
	.proc_start = on_start,
	.proc_ping = on_ping,
	.proc_stop = on_stop,
	.proc_metrics = on_metrics,
};

static YIELDS enum err dispatch(void *arg, struct ipc_request *rq)
{
	struct proc *p = arg;
	switch (rq->type) {
	case CALL_PROC_CONFIGURE:
	case CALL_PROC_PEER:
	case CALL_PROC_LISTENER:
	case CALL_PROC_COUNTS:
	case CALL_PROC_START:
	case CALL_PROC_PING:
	case CALL_PROC_STOP:
	case CALL_PROC_METRICS:
		return ipc_serve(&own_handlers, p->ops->role, p, rq);
	default:
		/* Peers may be ahead of us: what they say waits in its channel, and is not lost. */
		while (!p->started && !p->stopping)
			TRY(co_wait(&p->start_queue));
		if (!p->started)
			return ERR_CLOSED;
		return ipc_serve(p->ops->handlers, p->ops->role, p->self, rq);
	}
}

/* ---- from first to last ----------------------------------------------------------------------------- */

static enum err log_write(void *arg, struct str bytes)
{
	struct proc *p = arg;
	return world_write(p->w, p->log.format == LOG_FORMAT_JOURNALD ? WORLD_JOURNAL_FD : 2, bytes);
}

static int64_t log_now(void *arg)
{
	struct proc *p = arg;
	return world_wall_ms(p->w);
}

static void on_turn(void *arg)
{
	struct proc *p = arg;
	log_flush(&p->log);
}

static YIELDS void proc_end(struct proc *p)
{
	scope_stop(&p->work);
	p->channels.deadline_ns = world_mono_ns(p->w) + STOP_NS;
	if (p->started && p->ops->stop)
		p->ops->stop(p, p->self);
	scope_close(&p->work);
	for (size_t i = 0; i < p->peer_count; i++)
		if (p->peers[i].channel)
			ipc_close(p->peers[i].channel);
	if (p->master)
		ipc_close(p->master);
	scope_close(&p->channels);
	log_process_stop(&p->log, (struct log_ids){ 0 }, STR("master"));
	log_flush(&p->log);
}

/* coroutine */
static void proc_run(void *arg)
{
	struct proc *p = arg;
	scope_open(&p->channels, p->loop, NULL);
	scope_open(&p->work, p->loop, NULL);
	if (open_channel(p, WORLD_MASTER_FD, ROLE_MASTER, 0, &p->master) != ERR_NONE)
		return;
	while (!p->stopping)
		if (co_wait(&p->stop_queue) != ERR_NONE)
			break;
	proc_end(p);
}

static enum err proc_init(struct proc *p, struct world *w, const struct proc_ops *ops, unsigned index)
{
	p->w = w;
	p->mem = world_mem(w);
	p->ops = ops;
	p->index = index;
	p->arena = arena_make(p->mem, CONF_ARENA_MAX);
	p->conf_bytes = buf_grow(p->mem, CONF_BYTES_MAX);
	p->metrics = metrics_new(p->mem, STR_NONE);
	p->self = mem_alloc(p->mem, ops->state_bytes);
	co_queue_init(&p->stop_queue);
	co_queue_init(&p->start_queue);
	if (!p->metrics || !p->self)
		return ERR_NO_MEMORY;
	struct log_sink sink = { log_write, log_now, p };
	TRY(log_init(&p->log, p->mem, sink, LOG_FORMAT_TEXT, LEVEL_INFO, str_z(role_name(ops->role))));
	TRY(loop_new(w, &p->loop));
	loop_on_turn(p->loop, on_turn, p);
	return ERR_NONE;
}

int proc_main(struct world *w, const struct proc_ops *ops, unsigned index)
{
	struct proc *p = mem_alloc(world_mem(w), sizeof *p);
	if (!p || proc_init(p, w, ops, index) != ERR_NONE)
		return 71; /* EX_OSERR; memory goes with the process */
	loop_run(p->loop, proc_run, p);
	loop_free(p->loop);
	log_close(&p->log);
	metrics_free(p->metrics);
	buf_free(&p->conf_bytes);
	arena_close(&p->arena);
	mem_free(p->mem, p->self);
	mem_free(p->mem, p);
	return 0;
}
