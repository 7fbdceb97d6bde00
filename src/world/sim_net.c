/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network: TCP. Bytes travel in segments that the seed chooses, each with its delay, in
 * order; a receiver that does not read closes the window. A machine without power says nothing: its
 * peers find out when they are told so by the machine that has booted again.
 *
 * An address belongs to the machine of that name, or to no machine: then it is just where a client says it
 * comes from, and the client's own machine answers for it.
 */
#include "world/sim_internal.h"

#define WINDOW_BYTES ((size_t)128 * 1024)
#define SEGMENT_BYTES 1460u
#define RETRANSMIT_NS (400 * MS)
#define COST_NS (5 * US)

enum segment_kind { SEG_DATA, SEG_FIN, SEG_RST };
struct segment {
	struct list link;
	enum segment_kind kind;
	int64_t at_ns;
	size_t from, n;
	char bytes[];
};

enum sock_state { SOCK_CONNECTING, SOCK_OPEN, SOCK_FAILED };
struct conn;
struct sock {
	struct sim_object o;
	struct conn *conn;
	struct sim_host *host;
	struct ip local, remote;
	enum sock_state state;
	/* what has arrived */
	struct list in;
	size_t in_bytes;
	bool in_eof, in_reset;
	/* what is on its way to the other side */
	struct list out;
	size_t out_bytes;
	struct sim_event deliver;
	int64_t last_at_ns;
	bool fin_sent, blocked, abort, closed, crashed;
};
struct conn {
	struct sock side[2]; /* 0 connected, 1 was accepted */
	struct sim_event connect;
	bool has_far;
};

static struct sock *sock_of(struct sim_object *o)
{
	return CONTAINER_OF(o, struct sock, o);
}

static struct sock *other_of(struct sock *k)
{
	return k == &k->conn->side[0] ? &k->conn->side[1] : &k->conn->side[0];
}

static size_t window_of(const struct sock *k)
{
	const struct sock *to = k == &k->conn->side[0] ? &k->conn->side[1] : &k->conn->side[0];
	size_t used = k->out_bytes + to->in_bytes;
	return used < WINDOW_BYTES ? WINDOW_BYTES - used : 0;
}

static unsigned sock_ready(struct sim_object *o)
{
	const struct sock *k = CONTAINER_OF(o, struct sock, o);
	unsigned r = 0;
	if (k->state == SOCK_CONNECTING)
		return 0;
	if (k->in_bytes || k->in_eof || k->in_reset || k->state == SOCK_FAILED)
		r |= WORLD_IN;
	if (k->in_eof || k->in_reset || k->state == SOCK_FAILED)
		r |= WORLD_END;
	if (k->in_reset || k->state == SOCK_FAILED || window_of(k) > 0)
		r |= WORLD_OUT;
	return r;
}

/* ---- segments ----------------------------------------------------------------------------------- */

static void drop_segments(struct sim *s, struct list *l)
{
	struct list *n;
	while ((n = list_pop_front(l)))
		sim_dealloc(s, CONTAINER_OF(n, struct segment, link));
}

static void conn_free_if_done(struct conn *c)
{
	struct sim *s = c->side[0].host->sim;
	for (unsigned i = 0; i < 2; i++)
		if (!c->side[i].closed || !list_is_empty(&c->side[i].out))
			return;
	for (unsigned i = 0; i < 2; i++) {
		sim_never(s, &c->side[i].deliver);
		drop_segments(s, &c->side[i].in);
	}
	sim_never(s, &c->connect);
	sim_dealloc(s, c);
}

static void schedule(struct sim *s, struct sock *k)
{
	if (!list_is_empty(&k->out))
		sim_at(s, &k->deliver, CONTAINER_OF(k->out.next, struct segment, link)->at_ns);
}

static int64_t delay(struct sim *s)
{
	int64_t ns = 100 * US + (int64_t)sim_below(s, 900 * US);
	return sim_chance(s, 2) ? ns + (int64_t)sim_below(s, RETRANSMIT_NS) : ns;
}

static void push_segment(struct sock *k, enum segment_kind kind, const char *p, size_t n, int64_t after_ns)
{
	struct sim *s = k->host->sim;
	struct segment *g = sim_alloc(s, sizeof *g + n);
	g->kind = kind;
	g->n = n;
	if (n)
		memcpy(g->bytes, p, n);
	g->at_ns = s->now_ns + after_ns;
	if (g->at_ns < k->last_at_ns)
		g->at_ns = k->last_at_ns;
	k->last_at_ns = g->at_ns;
	k->out_bytes += n;
	list_push_back(&k->out, &g->link);
	schedule(s, k);
}

static void reset_arrives(struct sock *k)
{
	struct sim *s = k->host->sim;
	if (k->closed)
		return;
	k->in_reset = true;
	drop_segments(s, &k->out); /* nobody is there to take them */
	k->out_bytes = 0;
	sim_never(s, &k->deliver);
	sim_notify(s, &k->o);
}

/* Data for a socket that is gone: its machine answers with a reset, when it can. */
static void answer_reset(struct sock *to)
{
	struct sim *s = to->host->sim;
	struct sock *from = other_of(to);
	if (!from->closed && list_is_empty(&to->out))
		push_segment(to, SEG_RST, NULL, 0, to->crashed ? 6 * SECOND + (int64_t)sim_below(s, 10 * SECOND) : delay(s));
}

static void arrives(struct sock *from, struct segment *g)
{
	struct sim *s = from->host->sim;
	struct sock *to = other_of(from);
	from->out_bytes -= g->n;
	if (to->closed) {
		if (g->kind == SEG_DATA)
			answer_reset(to);
		sim_dealloc(s, g);
		return;
	}
	if (g->kind == SEG_DATA) {
		list_push_back(&to->in, &g->link);
		to->in_bytes += g->n;
		sim_notify(s, &to->o);
		return;
	}
	if (g->kind == SEG_FIN) {
		to->in_eof = true;
		sim_notify(s, &to->o);
	} else {
		reset_arrives(to);
	}
	sim_dealloc(s, g);
}

static bool is_cut(const struct sock *k)
{
	return sim_is_walled(k->host, &k->remote) ||
	       sim_is_walled(((k == &k->conn->side[0]) ? &k->conn->side[1] : &k->conn->side[0])->host, &k->local);
}

static void deliver(struct sim *s, struct sim_event *ev)
{
	struct sock *k = CONTAINER_OF(ev, struct sock, deliver);
	if (is_cut(k)) { /* tried again until it passes */
		struct segment *g = CONTAINER_OF(k->out.next, struct segment, link);
		g->at_ns = s->now_ns + RETRANSMIT_NS;
		sim_at(s, ev, g->at_ns);
		return;
	}
	while (!list_is_empty(&k->out)) {
		struct segment *g = CONTAINER_OF(k->out.next, struct segment, link);
		if (g->at_ns > s->now_ns)
			break;
		list_remove(&g->link);
		arrives(k, g);
	}
	schedule(s, k);
	conn_free_if_done(k->conn);
}

/* ---- ends ----------------------------------------------------------------------------------------- */

static void sock_close(struct sim *s, struct sim_object *o)
{
	struct sock *k = sock_of(o);
	k->closed = true;
	k->crashed = k->host->crashing;
	if (k->state != SOCK_OPEN || k->in_reset) {
		if (k == &k->conn->side[0] && !k->conn->has_far)
			k->conn->side[1].closed = true;
		conn_free_if_done(k->conn);
		return;
	}
	if (k->crashed) { /* says nothing; the other side hears of it when it, or somebody, asks */
		drop_segments(s, &k->out);
		k->out_bytes = 0;
		if (!s->ending)
			push_segment(k, SEG_RST, NULL, 0, 6 * SECOND + (int64_t)sim_below(s, 10 * SECOND));
	} else if (k->abort || k->in_bytes) {
		if (k->abort) {
			drop_segments(s, &k->out);
			k->out_bytes = 0;
		}
		push_segment(k, SEG_RST, NULL, 0, delay(s));
	} else if (!k->fin_sent) {
		push_segment(k, SEG_FIN, NULL, 0, delay(s));
	}
	drop_segments(s, &k->in);
	k->in_bytes = 0;
	if (other_of(k)->closed) { /* nobody is left to hear */
		drop_segments(s, &k->out);
		k->out_bytes = 0;
	}
	conn_free_if_done(k->conn);
}

static void sock_init(struct sock *k, struct conn *c, struct sim_host *h)
{
	sim_object_init(&k->o, OBJ_STREAM);
	k->o.ready = sock_ready;
	k->o.close = sock_close;
	k->conn = c;
	k->host = h;
	k->deliver.fire = deliver;
	list_init(&k->in);
	list_init(&k->out);
}

static struct sim_listener *find_listener(struct sim *s, const struct sim_host *h, const struct ip *to)
{
	struct sim_listener *found = NULL;
	uint64_t n = 0;
	LIST_EACH(&s->listeners, it) {
		struct sim_listener *l = CONTAINER_OF(it, struct sim_listener, link);
		bool fits = l->addr.family == IP_NONE || ip_eq(&l->addr, to);
		if (l->host != h || l->addr.port != to->port || !fits)
			continue;
		if (sim_below(s, ++n) == 0) /* SO_REUSEPORT: one of them */
			found = l;
	}
	return found;
}

static void connect_arrives(struct sim *s, struct sim_event *ev)
{
	struct conn *c = CONTAINER_OF(ev, struct conn, connect);
	struct sock *near = &c->side[0], *far = &c->side[1];
	struct sim_host *h = far->host;
	if (!h->up || is_cut(near)) {
		near->state = SOCK_FAILED;
		sim_notify(s, &near->o);
		return;
	}
	struct sim_listener *l = find_listener(s, h, &near->remote);
	if (!l) {
		near->state = SOCK_FAILED;
		sim_notify(s, &near->o);
		return;
	}
	near->state = far->state = SOCK_OPEN;
	far->closed = false;
	c->has_far = true;
	sim_notify(s, &near->o);
	sim_listener_push(s, l, &far->o, &far->remote);
}

enum err world_connect(struct world *w, const struct ip *to, const struct ip *from_or_null, int *fd_out)
{
	struct sim *s = w->sim;
	sim_enter(w, COST_NS);
	TRY(sim_jail_check(w, WORLD_MAY_CONNECT, "connect"));
	struct sim_host *h = sim_host_by_ip(s, to);
	if (!h)
		return ERR_CLOSED; /* EHOSTUNREACH */
	struct conn *c = sim_alloc(s, sizeof *c);
	c->connect.fire = connect_arrives;
	sock_init(&c->side[0], c, w->host);
	sock_init(&c->side[1], c, h);
	c->side[1].closed = true; /* until it is there */
	struct sock *k = &c->side[0];
	k->local = from_or_null ? *from_or_null : w->host->ip;
	k->local.port = s->next_port = s->next_port < 60000 ? s->next_port + 1 : 40000;
	k->remote = *to;
	c->side[1].local = *to;
	c->side[1].remote = k->local;
	enum err e = sim_fd_new(w, &k->o, 0, fd_out);
	if (e != ERR_NONE) {
		sim_object_unref(s, &k->o);
		return e;
	}
	bool slow = !h->up || is_cut(k);
	sim_at(s, &c->connect, s->now_ns + w->busy_ns + (slow ? 3 * SECOND : delay(s)));
	return ERR_NONE;
}

enum err world_udp_open(struct world *w, const struct ip *to UNUSED, int *fd_out UNUSED)
{
	sim_enter(w, US);
	return ERR_DENIED;
}

enum err world_read_secret(struct world *w, struct str prompt UNUSED, char *to UNUSED, size_t cap UNUSED, size_t *n_out UNUSED)
{
	sim_enter(w, US);
	return ERR_DENIED;
}

enum err world_connect_result(struct world *w, int fd)
{
	const struct sock *k = sock_of(sim_fd_object(w, fd, OBJ_STREAM));
	sim_enter(w, US);
	if (k->state == SOCK_FAILED)
		return ERR_CLOSED;
	return k->state == SOCK_CONNECTING ? ERR_BUSY : ERR_NONE;
}

enum err world_local_addr(struct world *w, int fd, struct ip *ip_out)
{
	struct sim_object *o = sim_fd_any(w, fd);
	sim_enter(w, US);
	if (o->kind == OBJ_LISTENER)
		*ip_out = CONTAINER_OF(o, struct sim_listener, o)->addr;
	else
		*ip_out = sock_of(sim_fd_object(w, fd, OBJ_STREAM))->local;
	return ERR_NONE;
}

/* ---- bytes ------------------------------------------------------------------------------------------- */

static size_t copy_out(struct sock *k, char *p, size_t n, bool keep)
{
	struct sim *s = k->host->sim;
	size_t done = 0;
	LIST_EACH(&k->in, it) {
		struct segment *g = CONTAINER_OF(it, struct segment, link);
		size_t part = g->n - g->from < n - done ? g->n - g->from : n - done;
		memcpy(p + done, g->bytes + g->from, part);
		done += part;
		if (!keep) {
			g->from += part;
			k->in_bytes -= part;
			if (g->from == g->n) {
				list_remove(it);
				sim_dealloc(s, g);
			}
		}
		if (done == n)
			break;
	}
	return done;
}

static enum err receive(struct world *w, int fd, void *p, size_t n, size_t *n_out, bool keep)
{
	struct sock *k = sock_of(sim_fd_object(w, fd, OBJ_STREAM));
	sim_enter(w, COST_NS);
	if (k->state == SOCK_FAILED)
		return ERR_CLOSED;
	if (k->in_bytes == 0)
		return k->in_reset ? ERR_CLOSED : k->in_eof ? ERR_EOF : ERR_BUSY;
	if (n == 0)
		sim_abort(w->sim, "%s receives 0 bytes", w->role);
	*n_out = copy_out(k, p, n, keep);
	struct sock *from = other_of(k);
	if (from->blocked && !from->closed && window_of(from) > 0) {
		from->blocked = false;
		sim_notify(w->sim, &from->o);
	}
	return ERR_NONE;
}

enum err world_recv(struct world *w, int fd, void *p, size_t n, size_t *n_out)
{
	return receive(w, fd, p, n, n_out, false);
}

enum err world_peek(struct world *w, int fd, void *p, size_t n, size_t *n_out)
{
	return receive(w, fd, p, n, n_out, true);
}

/* One part, in segments of the seed's choice. */
static void send_part(struct world *w, struct sock *k, struct str part)
{
	struct sim *s = w->sim;
	int64_t after = w->busy_ns + delay(s);
	while (part.n > 0) {
		size_t n = part.n < SEGMENT_BYTES * 8 ? part.n : SEGMENT_BYTES * 8;
		if (sim_chance(s, 15))
			n = 1 + (size_t)sim_below(s, n);
		push_segment(k, SEG_DATA, part.p, n, after);
		after += (int64_t)sim_below(s, 50 * US);
		part = str_sub(part, n, part.n);
	}
}

enum err world_send(struct world *w, int fd, const struct str *parts, size_t count, size_t *n_out)
{
	struct sock *k = sock_of(sim_fd_object(w, fd, OBJ_STREAM));
	TRY(sim_enter_op(w, SIM_SEND, COST_NS));
	if (k->state == SOCK_CONNECTING)
		return ERR_BUSY;
	if (k->state == SOCK_FAILED || k->in_reset || k->fin_sent)
		return ERR_CLOSED;
	size_t room = window_of(k), done = 0;
	if (room == 0) {
		k->blocked = true;
		return ERR_BUSY;
	}
	if (sim_chance(w->sim, 5))
		room = 1 + (size_t)sim_below(w->sim, room);
	for (size_t i = 0; i < count && done < room; i++) {
		struct str part = str_sub(parts[i], 0, room - done);
		send_part(w, k, part);
		done += part.n;
	}
	*n_out = done;
	return ERR_NONE;
}

enum err world_send_more(struct world *w, int fd, const struct str *parts, size_t count, size_t *n_out)
{
	return world_send(w, fd, parts, count, n_out);
}

void world_shutdown_send(struct world *w, int fd)
{
	struct sock *k = sock_of(sim_fd_object(w, fd, OBJ_STREAM));
	sim_enter(w, US);
	if (k->state != SOCK_OPEN || k->fin_sent || k->in_reset)
		return;
	k->fin_sent = true;
	push_segment(k, SEG_FIN, NULL, 0, w->busy_ns + delay(w->sim));
}

void world_set_abort_on_close(struct world *w, int fd)
{
	sim_enter(w, US);
	sock_of(sim_fd_object(w, fd, OBJ_STREAM))->abort = true;
}
