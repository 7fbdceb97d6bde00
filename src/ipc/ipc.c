/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels between processes: see ipc.h. The other end may be a compromised parser, so every length,
 * type and id is checked; what does not decode closes the channel.
 *
 * Invariants:
 *  I1  A channel has two coroutines, reader and writer; the reader is the last to leave and cleans up.
 *  I2  `refs` counts the coroutines that hold a pointer to the channel; the last one frees it.
 *  I3  A call's slot is given back only by its answer or by the channel's end, never by the caller's
 *      impatience: a late answer finds its slot abandoned and is dropped.
 */
#include "ipc/ipc.h"

#include "config.h"

#define SEND_BACKLOG_MAX ((size_t)4 << 20)
#define TRY_AGAIN_NS	 (10 * 1000000LL)
#define TRY_AGAIN_MAX	 100u
#define SLOT_NONE UINT32_MAX

enum frame_kind { FRAME_HELLO, FRAME_CALL, FRAME_ANSWER, FRAME_ERROR, FRAME_NOTE };

struct packet {
	struct list link;
	struct ipc_writer w;
};

struct call {
	struct co_queue done;
	struct arena *arena;
	enum err (*get)(struct ipc_reader *, void *);
	void *out;
	enum err err;
	bool answered;
};

struct slot {
	struct call *call; /* NULL: free, or abandoned by its caller */
	uint32_t next_free;
	uint16_t generation;
	bool used;
};

struct ipc {
	struct ipc_config cfg;
	struct source src;
	struct mem *mem;
	struct list packets; /* to be sent; the last one is still filled */
	size_t backlog_bytes;
	struct co_queue to_send, window;
	struct slot slots[IPC_WINDOW];
	uint32_t free_slot;
	size_t outstanding;
	unsigned refs;
	bool open, hello_seen, writer_gone;
	char *recv_buffer;
};

static void unref(struct ipc *ch)
{
	if (--ch->refs > 0)
		return;
	mem_free(ch->mem, ch->recv_buffer);
	mem_free(ch->mem, ch);
}

static void close_fds(struct ipc *ch, const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		world_close(loop_world(ch->cfg.loop), fds[i]);
}

/* ---- sending -------------------------------------------------------------------------------- */

static void packet_free(struct ipc *ch, struct packet *p)
{
	list_remove(&p->link);
	ch->backlog_bytes -= p->w.b.n;
	buf_free(&p->w.b);
	mem_free(ch->mem, p);
}

/* The packet that a frame of `bytes` with `fds` descriptors goes into, or NULL. */
static struct packet *packet_for(struct ipc *ch, size_t bytes, size_t fds)
{
	if (!list_is_empty(&ch->packets)) {
		struct packet *last = CONTAINER_OF(ch->packets.prev, struct packet, link);
		if (last->w.b.n + bytes <= WORLD_PACKET_MAX &&
		    last->w.fd_count + fds <= WORLD_PACKET_FDS)
			return last;
	}
	struct packet *p = mem_alloc(ch->mem, sizeof *p);
	if (!p)
		return NULL;
	p->w.b = buf_grow(ch->mem, WORLD_PACKET_MAX);
	list_push_back(&ch->packets, &p->link);
	return p;
}

static enum err frame_send(struct ipc *ch, uint8_t kind, uint16_t type, uint32_t id,
			   const struct ipc_writer *body)
{
	if (!ch->open || ch->writer_gone)
		return ERR_CLOSED;
	struct str bytes = body ? buf_str(&body->b) : str_of("", 0);
	uint8_t fds = body ? body->fd_count : 0;
	struct packet *p = packet_for(ch, IPC_FRAME_HEAD + bytes.n, fds);
	if (!p)
		return ERR_NO_MEMORY;
	size_t before = p->w.b.n;
	put_u32(&p->w.b, (uint32_t)(IPC_FRAME_HEAD - 4 + bytes.n));
	put_u8(&p->w.b, kind);
	put_u8(&p->w.b, fds);
	put_u16(&p->w.b, type);
	put_u32(&p->w.b, id);
	buf_add(&p->w.b, bytes);
	enum err e = buf_err(&p->w.b);
	if (e != ERR_NONE) { /* out of memory: take the half frame back */
		p->w.b.n = before;
		p->w.b.err = ERR_NONE;
		if (before == 0)
			packet_free(ch, p);
		return e;
	}
	for (uint8_t i = 0; i < fds; i++)
		p->w.fds[p->w.fd_count++] = body->fds[i];
	ch->backlog_bytes += p->w.b.n - before;
	co_wake_one(&ch->to_send);
	return ERR_NONE;
}

/* Encodes with put(w, in); the frame's bytes are in w->b until the caller frees it. */
static enum err encode(struct ipc *ch, void (*put)(struct ipc_writer *, const void *), const void *in,
		       struct ipc_writer *w)
{
	*w = (struct ipc_writer){ .b = buf_grow(ch->mem, IPC_FRAME_MAX) };
	put(w, in);
	return buf_err(&w->b);
}

static YIELDS enum err packet_send(struct ipc *ch, struct packet *p)
{
	struct str part = buf_str(&p->w.b);
	for (;;) {
		enum err e = world_packet_send(loop_world(ch->cfg.loop), ch->src.fd, &part, 1,
					       p->w.fds, p->w.fd_count);
		if (e == ERR_LIMIT) { /* the kernel is short of memory for a moment: no reason to part */
			TRY(co_sleep_until(world_mono_ns(loop_world(ch->cfg.loop)) + TRY_AGAIN_NS));
			continue;
		}
		if (e != ERR_BUSY)
			return e;
		TRY(source_wait_output(&ch->src));
	}
}

/* coroutine */
static void writer(void *arg)
{
	struct ipc *ch = arg;
	enum err e = ERR_NONE;
	while (e == ERR_NONE && (ch->open || !list_is_empty(&ch->packets))) {
		if (list_is_empty(&ch->packets)) {
			e = co_wait(&ch->to_send);
			continue;
		}
		struct packet *p = CONTAINER_OF(ch->packets.next, struct packet, link);
		list_remove(&p->link); /* no further frames go into it */
		e = packet_send(ch, p);
		packet_free(ch, p);
	}
	ch->writer_gone = true;
	while (!list_is_empty(&ch->packets))
		packet_free(ch, CONTAINER_OF(ch->packets.next, struct packet, link));
	source_interrupt(&ch->src); /* the reader cleans up */
	unref(ch);
}

/* ---- receiving ------------------------------------------------------------------------------- */

struct served {
	struct ipc *ch;
	struct ipc_request rq;
	uint32_t id;
	struct arena arena;
	int fds[WORLD_PACKET_FDS];
};

/* Without an answer the caller would wait for ever: even when memory is short for a moment it gets one. */
static YIELDS enum err answer_error(struct ipc *ch, uint16_t type, uint32_t id, enum err why)
{
	for (;;) {
		struct ipc_writer w = { .b = buf_grow(ch->mem, 1) };
		put_u8(&w.b, (uint8_t)why);
		enum err e = buf_err(&w.b) == ERR_NONE ? frame_send(ch, FRAME_ERROR, type, id, &w) : ERR_NO_MEMORY;
		buf_free(&w.b);
		if (e != ERR_NO_MEMORY)
			return e;
		TRY(co_sleep_until(world_mono_ns(loop_world(ch->cfg.loop)) + TRY_AGAIN_NS));
	}
}

static YIELDS enum err serve_now(struct served *s)
{
	struct ipc *ch = s->ch;
	enum err e = ch->cfg.dispatch ? ch->cfg.dispatch(ch->cfg.self, &s->rq) : ERR_DENIED;
	if (e != ERR_NONE)
		close_fds(ch, s->rq.in.fds, s->rq.in.fd_count);
	if (s->rq.is_note)
		return ERR_NONE;
	if (e == ERR_NONE)
		e = frame_send(ch, FRAME_ANSWER, s->rq.type, s->id, s->rq.out);
	return e == ERR_NONE ? e : answer_error(ch, s->rq.type, s->id, e);
}

/* coroutine */
static void serve_call(void *arg)
{
	struct served *s = arg;
	struct ipc_writer out = { .b = buf_grow(s->ch->mem, IPC_FRAME_MAX) };
	s->rq.out = &out;
	if (serve_now(s) != ERR_NONE)
		ipc_close(s->ch); /* cancelled, or closed already */
	buf_free(&out.b);
	unref(s->ch);
	struct mem *mem = s->arena.mem;
	arena_close(&s->arena);
	mem_free(mem, s);
}

struct frame {
	uint8_t kind, fd_count;
	uint16_t type;
	uint32_t id;
	struct str body;
	const int *fds;
};

static YIELDS enum err take_request(struct ipc *ch, const struct frame *f)
{
	struct served *s = mem_alloc(ch->mem, sizeof *s);
	if (!s)
		return ERR_NO_MEMORY;
	s->ch = ch;
	s->id = f->id;
	s->arena = arena_make(ch->mem, ch->cfg.arena_max);
	memcpy(s->fds, f->fds, f->fd_count * sizeof s->fds[0]);
	s->rq = (struct ipc_request){ .from = ch, .type = f->type, .is_note = f->kind == FRAME_NOTE };
	s->rq.in = (struct ipc_reader){ .arena = &s->arena, .fds = s->fds, .fd_count = f->fd_count };
	if (s->rq.is_note) { /* served at once: the bytes stay where they are */
		s->rq.in.c = cursor_of(f->body);
		enum err served = serve_now(s);
		arena_close(&s->arena);
		mem_free(ch->mem, s);
		return served;
	}
	struct str copy = arena_str(&s->arena, f->body);
	s->rq.in.c = cursor_of(copy);
	enum err e = arena_err(&s->arena);
	if (e == ERR_NONE) {
		ch->refs++;
		e = scope_spawn(ch->cfg.scope, "ipc call", CO_STACK_SMALL, serve_call, s);
		if (e == ERR_NONE)
			return ERR_NONE;
		ch->refs--;
	}
	arena_close(&s->arena);
	mem_free(ch->mem, s);
	return e;
}

/*
 * Memory that is short now may be there in a moment; until then nothing more is read. A call that still
 * cannot be begun is refused, a note is lost; the channel stays.
 */
static YIELDS enum err take_request_patiently(struct ipc *ch, const struct frame *f)
{
	enum err e = take_request(ch, f);
	for (unsigned i = 0; e == ERR_NO_MEMORY && i < TRY_AGAIN_MAX; i++) {
		TRY(co_sleep_until(world_mono_ns(loop_world(ch->cfg.loop)) + TRY_AGAIN_NS));
		e = take_request(ch, f);
	}
	if (e == ERR_NONE)
		return e;
	close_fds(ch, f->fds, f->fd_count);
	return f->kind == FRAME_NOTE ? ERR_NONE : answer_error(ch, f->type, f->id, e);
}

static void slot_free(struct ipc *ch, uint32_t i)
{
	struct slot *s = &ch->slots[i];
	s->used = false;
	s->call = NULL;
	s->generation++;
	s->next_free = ch->free_slot;
	ch->free_slot = i;
	ch->outstanding--;
	co_wake_one(&ch->window);
}

static enum err decode_answer(struct call *call, const struct frame *f)
{
	struct str copy = arena_str(call->arena, f->body);
	if (f->body.n && !copy.p)
		return arena_err(call->arena);
	struct ipc_reader r = { .c = cursor_of(copy), .arena = call->arena, .fds = f->fds, .fd_count = f->fd_count };
	TRY(call->get(&r, call->out));
	return cursor_end(&r.c);
}

static enum err take_answer(struct ipc *ch, const struct frame *f)
{
	uint32_t i = f->id & 0xffff;
	if (i >= IPC_WINDOW || !ch->slots[i].used || ch->slots[i].generation != f->id >> 16)
		return ERR_SYNTAX;
	struct call *call = ch->slots[i].call;
	slot_free(ch, i);
	if (!call) {
		close_fds(ch, f->fds, f->fd_count);
		return ERR_NONE;
	}
	if (f->kind == FRAME_ERROR) {
		uint8_t code = f->body.n == 1 ? (uint8_t)f->body.p[0] : 0;
		call->err = code > 0 && code <= ERR_CORRUPT ? (enum err)code : ERR_IO;
	} else {
		call->err = decode_answer(call, f);
	}
	if (call->err != ERR_NONE)
		close_fds(ch, f->fds, f->fd_count);
	call->answered = true;
	co_wake_all(&call->done);
	return ERR_NONE;
}

static YIELDS enum err take_frame(struct ipc *ch, const struct frame *f)
{
	if (f->kind == FRAME_HELLO) {
		ch->hello_seen = str_eq(f->body, STR(GODWIT_BUILD_ID));
		return ch->hello_seen ? ERR_NONE : ERR_DENIED;
	}
	if (!ch->hello_seen)
		return ERR_SYNTAX;
	if (f->kind == FRAME_CALL || f->kind == FRAME_NOTE)
		return take_request_patiently(ch, f);
	if (f->kind == FRAME_ANSWER || f->kind == FRAME_ERROR)
		return take_answer(ch, f);
	return ERR_SYNTAX;
}

static YIELDS enum err take_packet(struct ipc *ch, struct str packet, const int *fds, size_t fd_count)
{
	struct cursor c = cursor_of(packet);
	size_t fds_used = 0;
	enum err e = ERR_NONE;
	while (e == ERR_NONE && cursor_left(&c) > 0) {
		struct frame f = { 0 };
		uint32_t length = cursor_u32(&c);
		if (length < IPC_FRAME_HEAD - 4) {
			e = ERR_SYNTAX;
			break;
		}
		f.kind = cursor_u8(&c);
		f.fd_count = cursor_u8(&c);
		f.type = cursor_u16(&c);
		f.id = cursor_u32(&c);
		f.body = cursor_bytes(&c, length - (IPC_FRAME_HEAD - 4));
		f.fds = fds + fds_used;
		if (c.err != ERR_NONE || f.fd_count > fd_count - fds_used) {
			e = ERR_SYNTAX;
			break;
		}
		fds_used += f.fd_count;
		e = take_frame(ch, &f);
	}
	close_fds(ch, fds + fds_used, fd_count - fds_used);
	return e;
}

static YIELDS enum err receive(struct ipc *ch)
{
	int fds[WORLD_PACKET_FDS];
	size_t n = 0, fd_count = 0;
	for (;;) {
		if (!ch->open || ch->writer_gone)
			return ERR_CLOSED;
		enum err e = world_packet_recv(loop_world(ch->cfg.loop), ch->src.fd, ch->recv_buffer,
					       WORLD_PACKET_MAX, &n, fds, &fd_count);
		if (e == ERR_NONE)
			break;
		if (e != ERR_BUSY)
			return e;
		source_block(&ch->src, WORLD_IN);
		TRY(source_wait(&ch->src, WORLD_IN));
	}
	return take_packet(ch, str_of(ch->recv_buffer, n), fds, fd_count);
}

static void fail_pending(struct ipc *ch)
{
	for (uint32_t i = 0; i < IPC_WINDOW; i++) {
		struct slot *s = &ch->slots[i];
		if (!s->used)
			continue;
		struct call *call = s->call;
		slot_free(ch, i);
		if (call) {
			call->err = ERR_CLOSED;
			call->answered = true;
			co_wake_all(&call->done);
		}
	}
	co_wake_all(&ch->window);
}

/* coroutine */
static void reader(void *arg)
{
	struct ipc *ch = arg;
	enum err e = ERR_NONE;
	unsigned turns = 0;
	while (e == ERR_NONE) {
		e = receive(ch);
		if (e == ERR_NONE && ++turns % 16 == 0)
			e = co_yield(); /* let the handlers run: a busy peer must not starve them */
	}
	ch->open = false;
	co_wake_all(&ch->to_send);
	source_interrupt(&ch->src);
	co_shield();
	while (!ch->writer_gone)
		if (co_yield() != ERR_NONE)
			break;
	co_unshield();
	source_close(&ch->src);
	fail_pending(ch);
	if (ch->cfg.on_closed)
		ch->cfg.on_closed(ch->cfg.self, ch);
	unref(ch);
}

/* ---- the channel ------------------------------------------------------------------------------ */

static void drop_packets(struct ipc *ch)
{
	while (!list_is_empty(&ch->packets))
		packet_free(ch, CONTAINER_OF(ch->packets.next, struct packet, link));
}

static enum err say_hello(struct ipc *ch)
{
	struct ipc_writer hello = { .b = buf_grow(ch->mem, sizeof GODWIT_BUILD_ID) };
	buf_add(&hello.b, STR(GODWIT_BUILD_ID));
	enum err e = frame_send(ch, FRAME_HELLO, 0, 0, &hello);
	buf_free(&hello.b);
	return e;
}

/* Not yet watched; ch->refs is 2, for the two coroutines. */
static enum err channel_new(const struct ipc_config *cfg, struct ipc **ch_out)
{
	struct mem *mem = loop_mem(cfg->loop);
	struct ipc *ch = mem_alloc(mem, sizeof *ch);
	if (!ch)
		return ERR_NO_MEMORY;
	ch->cfg = *cfg;
	ch->mem = mem;
	list_init(&ch->packets);
	co_queue_init(&ch->to_send);
	co_queue_init(&ch->window);
	for (uint32_t i = 0; i < IPC_WINDOW; i++)
		ch->slots[i].next_free = i + 1 < IPC_WINDOW ? i + 1 : SLOT_NONE;
	ch->recv_buffer = mem_alloc_raw(mem, WORLD_PACKET_MAX);
	ch->open = true;
	ch->refs = 2;
	enum err e = ch->recv_buffer ? say_hello(ch) : ERR_NO_MEMORY;
	if (e != ERR_NONE) {
		drop_packets(ch);
		mem_free(mem, ch->recv_buffer);
		mem_free(mem, ch);
		return e;
	}
	*ch_out = ch;
	return ERR_NONE;
}

enum err ipc_open(const struct ipc_config *cfg, struct ipc **ch_out)
{
	struct ipc *ch;
	enum err e = channel_new(cfg, &ch);
	if (e != ERR_NONE) {
		world_close(loop_world(cfg->loop), cfg->fd);
		return e;
	}
	bool has_writer = false;
	e = source_open_packets(&ch->src, cfg->loop, cfg->fd);
	if (e == ERR_NONE) {
		e = scope_spawn(cfg->scope, "ipc writer", CO_STACK_SMALL, writer, ch);
		has_writer = e == ERR_NONE;
	}
	if (e == ERR_NONE)
		e = scope_spawn(cfg->scope, "ipc reader", CO_STACK_SMALL, reader, ch);
	if (e == ERR_NONE) {
		*ch_out = ch;
		return ERR_NONE;
	}
	ch->refs = has_writer ? 2 : 1; /* the writer finds nothing to do and leaves */
	ch->open = false;
	drop_packets(ch);
	source_close(&ch->src);
	unref(ch);
	return e;
}

void ipc_close(struct ipc *ch)
{
	if (!ch->open)
		return;
	ch->open = false;
	co_wake_all(&ch->to_send);
	if (ch->src.reader)
		source_interrupt(&ch->src);
}

bool ipc_is_open(const struct ipc *ch)
{
	return ch->open && !ch->writer_gone;
}

bool ipc_is_sent(const struct ipc *ch)
{
	return ch->backlog_bytes == 0;
}

uint8_t ipc_peer_role(const struct ipc *ch)
{
	return ch->cfg.peer_role;
}

uint16_t ipc_peer_index(const struct ipc *ch)
{
	return ch->cfg.peer_index;
}

size_t ipc_outstanding(const struct ipc *ch)
{
	return ch->outstanding;
}

/* ---- calling ----------------------------------------------------------------------------------- */

static YIELDS enum err slot_get(struct ipc *ch, struct call *call, uint32_t *id_out)
{
	while (ipc_is_open(ch) && ch->free_slot == SLOT_NONE)
		TRY(co_wait(&ch->window));
	if (!ipc_is_open(ch))
		return ERR_CLOSED;
	uint32_t i = ch->free_slot;
	struct slot *s = &ch->slots[i];
	ch->free_slot = s->next_free;
	ch->outstanding++;
	s->used = true;
	s->call = call;
	*id_out = (uint32_t)s->generation << 16 | i;
	return ERR_NONE;
}

/* Sends encoded bytes and waits; the caller holds a reference. */
static YIELDS enum err call_and_wait(struct ipc *ch, uint16_t type, const struct ipc_writer *w, struct call *call)
{
	uint32_t id = 0;
	TRY(slot_get(ch, call, &id));
	enum err e = frame_send(ch, FRAME_CALL, type, id, w);
	if (e != ERR_NONE) {
		slot_free(ch, id & 0xffff);
		return e;
	}
	while (!call->answered) {
		e = co_wait(&call->done);
		if (e != ERR_NONE && !call->answered) {
			ch->slots[id & 0xffff].call = NULL; /* I3 */
			return e;
		}
	}
	return call->err;
}

enum err ipc_call(struct ipc *ch, uint16_t type, void (*put)(struct ipc_writer *, const void *),
		  const void *in, struct arena *arena, enum err (*get)(struct ipc_reader *, void *), void *out)
{
	struct call call = { .arena = arena, .get = get, .out = out };
	struct ipc_writer w;
	co_queue_init(&call.done);
	enum err e = encode(ch, put, in, &w);
	if (e == ERR_NONE) {
		ch->refs++;
		e = call_and_wait(ch, type, &w, &call);
		unref(ch);
	}
	buf_free(&w.b);
	return e;
}

enum err ipc_note(struct ipc *ch, uint16_t type, void (*put)(struct ipc_writer *, const void *), const void *in)
{
	struct ipc_writer w;
	if (!ipc_is_open(ch))
		return ERR_CLOSED;
	if (ch->backlog_bytes > SEND_BACKLOG_MAX)
		return ERR_BUSY;
	enum err e = encode(ch, put, in, &w);
	if (e == ERR_NONE)
		e = frame_send(ch, FRAME_NOTE, type, 0, &w);
	buf_free(&w.b);
	return e;
}

static enum err get_raw(struct ipc_reader *r, void *out)
{
	*(struct str *)out = cursor_bytes(&r->c, cursor_left(&r->c));
	return r->c.err;
}

static void put_raw(struct ipc_writer *w, const void *in)
{
	buf_add(&w->b, *(const struct str *)in);
}

enum err ipc_call_raw(struct ipc *ch, uint16_t type, struct str in, struct arena *arena, struct str *out)
{
	return ipc_call(ch, type, put_raw, &in, arena, get_raw, out);
}

/* ---- values -------------------------------------------------------------------------------------- */

void ipc_put_fd(struct ipc_writer *w, int fd)
{
	if (w->fd_count == WORLD_PACKET_FDS)
		w->b.err = ERR_LIMIT;
	else
		w->fds[w->fd_count++] = fd;
}

int ipc_get_fd(struct ipc_reader *r)
{
	if (r->fd_next < r->fd_count)
		return r->fds[r->fd_next++];
	cursor_fail(&r->c, ERR_SYNTAX);
	return -1;
}

void ipc_put_ip(struct ipc_writer *w, const struct ip *ip)
{
	put_u8(&w->b, ip->family);
	put_u8(&w->b, ip->bits);
	put_u16(&w->b, ip->port);
	buf_add(&w->b, str_of((const char *)ip->b, sizeof ip->b));
}

void ipc_get_ip(struct ipc_reader *r, struct ip *ip_out)
{
	ip_out->family = cursor_u8(&r->c);
	ip_out->bits = cursor_u8(&r->c);
	ip_out->port = cursor_u16(&r->c);
	struct str b = cursor_bytes(&r->c, sizeof ip_out->b);
	if (b.n == sizeof ip_out->b)
		memcpy(ip_out->b, b.p, b.n);
	if ((ip_out->family != IP_NONE && ip_out->family != IP_V4 && ip_out->family != IP_V6 &&
	     ip_out->family != IP_UNIX) || ip_out->bits > 128)
		cursor_fail(&r->c, ERR_SYNTAX);
}
