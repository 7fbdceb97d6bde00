/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's local sockets: packets with descriptors, in pairs and at paths. Bounded like
 * the kernel's: a full one says ERR_BUSY, and WORLD_OUT when the other end has read.
 */
#include "world/sim_internal.h"

#define BYTES_MAX ((size_t)1 << 20)
#define PACKETS_MAX 64u
#define COST_NS (4 * US)

struct sim_packet {
	struct list link;
	size_t n, fd_count;
	struct {
		struct sim_object *o;
		unsigned flags;
	} fds[WORLD_PACKET_FDS];
	char bytes[];
};
struct end {
	struct sim_object o;
	struct end *other; /* NULL: gone */
	struct list packets;
	size_t bytes, count;
	bool blocked; /* somebody waits to send */
	int pid;      /* credentials of who is at the other end */
	unsigned uid, gid;
};

static struct end *end_of(struct sim_object *o)
{
	return CONTAINER_OF(o, struct end, o);
}

static bool is_full(const struct end *to)
{
	return to->bytes >= BYTES_MAX || to->count >= PACKETS_MAX;
}

static unsigned end_ready(struct sim_object *o)
{
	const struct end *e = CONTAINER_OF(o, struct end, o);
	unsigned r = 0;
	if (!list_is_empty(&e->packets) || !e->other)
		r |= WORLD_IN;
	if (!e->other || !is_full(e->other))
		r |= WORLD_OUT;
	return r;
}

static void packet_free(struct sim *s, struct sim_packet *p)
{
	for (size_t i = 0; i < p->fd_count; i++)
		if (p->fds[i].o)
			sim_object_unref(s, p->fds[i].o);
	sim_dealloc(s, p);
}

static void end_close(struct sim *s, struct sim_object *o)
{
	struct end *e = end_of(o);
	struct list *n;
	if (e->other) {
		e->other->other = NULL;
		sim_notify(s, &e->other->o);
	}
	while ((n = list_pop_front(&e->packets)))
		packet_free(s, CONTAINER_OF(n, struct sim_packet, link));
	sim_dealloc(s, e);
}

static struct end *end_new(struct sim *s)
{
	struct end *e = sim_alloc(s, sizeof *e);
	sim_object_init(&e->o, OBJ_PACKETS);
	e->o.ready = end_ready;
	e->o.close = end_close;
	list_init(&e->packets);
	return e;
}

static void join(struct end *a, struct end *b)
{
	a->other = b;
	b->other = a;
}

enum err world_pair(struct world *w, int fds_out[2])
{
	sim_enter(w, COST_NS);
	struct end *a = end_new(w->sim), *b = end_new(w->sim);
	join(a, b);
	a->pid = b->pid = w->pid;
	a->uid = b->uid = a->gid = b->gid = w->uid;
	enum err e = sim_fd_new(w, &a->o, 0, &fds_out[0]);
	if (e != ERR_NONE) {
		sim_object_unref(w->sim, &a->o);
		sim_object_unref(w->sim, &b->o);
		return e;
	}
	e = sim_fd_new(w, &b->o, 0, &fds_out[1]);
	if (e != ERR_NONE) {
		sim_object_unref(w->sim, &b->o);
		world_close(w, fds_out[0]);
	}
	return e;
}

struct sim_object *sim_packets_connect(struct world *w, struct sim_listener *l)
{
	struct end *near = end_new(w->sim), *far = end_new(w->sim);
	join(near, far);
	near->pid = l->pid;
	near->uid = l->uid;
	near->gid = l->gid;
	far->pid = w->pid;
	far->uid = far->gid = w->uid;
	sim_listener_push(w->sim, l, &far->o, &(struct ip){ .family = IP_UNIX });
	return &near->o;
}

enum err world_packet_send(struct world *w, int fd, const struct str *parts, size_t count, const int *fds,
			   size_t fd_count)
{
	struct end *e = end_of(sim_fd_object(w, fd, OBJ_PACKETS));
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		n += parts[i].n;
	TRY(sim_enter_op(w, SIM_SEND, COST_NS + (int64_t)n / 8));
	if (n == 0 || n > WORLD_PACKET_MAX || fd_count > WORLD_PACKET_FDS)
		sim_abort(w->sim, "%s sends a packet of %zu bytes and %zu descriptors", w->role, n, fd_count);
	if (!e->other)
		return ERR_CLOSED;
	if (is_full(e->other)) {
		e->blocked = true;
		return ERR_BUSY;
	}
	struct sim_packet *p = sim_alloc(w->sim, sizeof *p + n);
	for (size_t i = 0; i < count; i++) {
		if (parts[i].n)
			memcpy(p->bytes + p->n, parts[i].p, parts[i].n);
		p->n += parts[i].n;
	}
	for (size_t i = 0; i < fd_count; i++) {
		p->fds[i].o = sim_fd_any(w, fds[i]);
		p->fds[i].flags = w->fds[fds[i]].flags;
		sim_object_ref(p->fds[i].o);
		p->fd_count++;
	}
	list_push_back(&e->other->packets, &p->link);
	e->other->bytes += n;
	e->other->count++;
	sim_notify(w->sim, &e->other->o);
	return ERR_NONE;
}

/* All or, when there is no descriptor to be had, none: the kernel closes what it cannot hand over. */
static enum err take_fds(struct world *w, struct sim_packet *p, int *fds_out)
{
	for (size_t i = 0; i < p->fd_count; i++) {
		enum err e = sim_fd_new(w, p->fds[i].o, p->fds[i].flags, &fds_out[i]);
		if (e != ERR_NONE) {
			while (i-- > 0)
				world_close(w, fds_out[i]);
			return e;
		}
		p->fds[i].o = NULL;
	}
	return ERR_NONE;
}

enum err world_packet_recv(struct world *w, int fd, void *p, size_t cap, size_t *n_out, int *fds_out,
			   size_t *fd_count_out)
{
	struct end *e = end_of(sim_fd_object(w, fd, OBJ_PACKETS));
	sim_enter(w, COST_NS);
	if (cap != WORLD_PACKET_MAX)
		sim_abort(w->sim, "%s receives packets with room for %zu bytes", w->role, cap);
	struct list *first = list_pop_front(&e->packets);
	if (!first)
		return e->other ? ERR_BUSY : ERR_EOF;
	struct sim_packet *packet = CONTAINER_OF(first, struct sim_packet, link);
	e->bytes -= packet->n;
	e->count--;
	memcpy(p, packet->bytes, packet->n);
	*n_out = packet->n;
	*fd_count_out = packet->fd_count;
	enum err result = take_fds(w, packet, fds_out);
	packet_free(w->sim, packet);
	if (e->other && e->other->blocked && !is_full(e)) {
		e->other->blocked = false;
		sim_notify(w->sim, &e->other->o);
	}
	return result;
}

enum err world_peer_cred(struct world *w, int fd, int *pid_out, unsigned *uid_out, unsigned *gid_out)
{
	const struct end *e = end_of(sim_fd_object(w, fd, OBJ_PACKETS));
	sim_enter(w, US);
	*pid_out = e->pid;
	*uid_out = e->uid;
	*gid_out = e->gid;
	return ERR_NONE;
}
