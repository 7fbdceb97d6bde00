/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world's listening sockets, of TCP and at paths, and its machines. */
#include "world/sim_internal.h"

#define BACKLOG 4096u

/* ---- listeners ------------------------------------------------------------------------------ */

static struct sim_listener *listener_of(struct world *w, int fd)
{
	return CONTAINER_OF(sim_fd_object(w, fd, OBJ_LISTENER), struct sim_listener, o);
}

static unsigned listener_ready(struct sim_object *o)
{
	const struct sim_listener *l = CONTAINER_OF(o, struct sim_listener, o);
	return l->waiting_n > 0 ? WORLD_IN : 0;
}

static void listener_close(struct sim *s, struct sim_object *o)
{
	struct sim_listener *l = CONTAINER_OF(o, struct sim_listener, o);
	struct list *n;
	list_remove(&l->link);
	while ((n = list_pop_front(&l->waiting))) {
		struct sim_waiting *wait = CONTAINER_OF(n, struct sim_waiting, link);
		sim_object_unref(s, wait->o);
		sim_dealloc(s, wait);
	}
	if (l->inode) {
		l->inode->bound = NULL; /* the name stays, as a dead socket */
		sim_inode_unref(l->inode);
	}
	sim_dealloc(s, l);
}

static struct sim_listener *listener_new(struct world *w)
{
	struct sim_listener *l = sim_alloc(w->sim, sizeof *l);
	sim_object_init(&l->o, OBJ_LISTENER);
	l->o.ready = listener_ready;
	l->o.close = listener_close;
	l->host = w->host;
	l->pid = w->pid;
	l->uid = l->gid = w->uid;
	list_init(&l->waiting);
	return l;
}

void sim_listener_push(struct sim *s, struct sim_listener *l, struct sim_object *end, const struct ip *peer)
{
	if (l->waiting_n >= BACKLOG) {
		sim_object_unref(s, end);
		return;
	}
	struct sim_waiting *wait = sim_alloc(s, sizeof *wait);
	wait->o = end;
	wait->peer = *peer;
	list_push_back(&l->waiting, &wait->link);
	l->waiting_n++;
	sim_notify(s, &l->o);
}

enum err world_listen(struct world *w, const struct ip *addr, int reuse_port, int *fd_out)
{
	sim_enter(w, 10 * US);
	TRY(sim_jail_check(w, WORLD_MAY_SPAWN, "listen"));
	LIST_EACH(&w->sim->listeners, it) {
		const struct sim_listener *l = CONTAINER_OF(it, struct sim_listener, link);
		if (l->host == w->host && l->addr.port == addr->port && !reuse_port)
			return ERR_EXISTS;
	}
	struct sim_listener *l = listener_new(w);
	l->addr = *addr;
	enum err e = sim_fd_new(w, &l->o, 0, fd_out);
	if (e != ERR_NONE) {
		sim_object_unref(w->sim, &l->o);
		return e;
	}
	list_push_back(&w->sim->listeners, &l->link);
	return ERR_NONE;
}

enum err world_accept(struct world *w, int listen_fd, int *fd_out, struct ip *peer_out)
{
	sim_enter(w, 8 * US);
	struct sim_listener *l = listener_of(w, listen_fd);
	TRY(sim_jail_check(w, WORLD_MAY_ACCEPT | WORLD_MAY_LISTEN_PATH, "accept"));
	struct list *n = l->waiting.next;
	if (l->waiting_n == 0)
		return ERR_BUSY;
	struct sim_waiting *wait = CONTAINER_OF(n, struct sim_waiting, link);
	TRY(sim_fd_new(w, wait->o, 0, fd_out)); /* ERR_LIMIT: it goes on waiting */
	list_remove(n);
	l->waiting_n--;
	*peer_out = wait->peer;
	sim_dealloc(w->sim, wait);
	return ERR_NONE;
}

enum err world_listen_path(struct world *w, struct str path, unsigned mode, int *fd_out)
{
	struct sim_inode *dir;
	struct str name;
	sim_enter(w, 20 * US);
	TRY(sim_jail_check(w, WORLD_MAY_LISTEN_PATH, "listen at a path"));
	TRY(sim_walk_parent(w->host->disk.root, path, &dir, &name));
	TRY(sim_jail_path(w, dir));
	struct sim_inode *old = sim_dir_get(dir, name);
	if (old && old->bound)
		return ERR_EXISTS;
	if (old)
		sim_dir_unlink(dir, name);
	struct sim_inode *i = sim_inode_new(w->host, WORLD_OTHER, mode);
	i->uid = i->gid = w->uid;
	sim_dir_link(dir, name, i);
	struct sim_listener *l = listener_new(w);
	l->inode = i;
	i->bound = &l->o;
	enum err e = sim_fd_new(w, &l->o, 0, fd_out);
	if (e != ERR_NONE)
		sim_object_unref(w->sim, &l->o);
	return e;
}

enum err world_open_journal(struct world *w UNUSED)
{
	return ERR_NOT_FOUND;
}

enum err world_connect_path(struct world *w, struct str path, int *fd_out)
{
	return sim_connect_path(w, w->host, path, fd_out);
}

/* The simulation has no such socket: nothing in it listens on one. */
enum err world_connect_stream_path(struct world *w, struct str path UNUSED, int *fd_out UNUSED)
{
	sim_enter(w, 10 * US);
	TRY(sim_jail_check(w, WORLD_MAY_CONNECT | WORLD_MAY_CONNECT_PATH, "connect to a path"));
	return ERR_NOT_FOUND;
}

enum err sim_connect_path(struct world *w, struct sim_host *h, struct str path, int *fd_out)
{
	struct sim_inode *i;
	sim_enter(w, 10 * US);
	TRY(sim_walk(h->disk.root, path, &i));
	if (!i->bound)
		return ERR_CLOSED;
	struct sim_object *o = sim_packets_connect(w, CONTAINER_OF(i->bound, struct sim_listener, o));
	enum err e = sim_fd_new(w, o, 0, fd_out);
	if (e != ERR_NONE)
		sim_object_unref(w->sim, o);
	return e;
}

/* ---- machines ---------------------------------------------------------------------------------- */

struct sim_host *sim_host_new(struct sim *s, const char *name, const struct ip *ip, uint64_t disk_bytes)
{
	struct sim_host *h = sim_alloc(s, sizeof *h);
	h->sim = s;
	h->name = name;
	h->ip = *ip;
	h->up = true;
	list_init(&h->walls);
	list_init(&h->faults);
	list_init(&h->blocks);
	list_push_back(&s->hosts, &h->link);
	sim_disk_init(h, disk_bytes);
	return h;
}

struct sim_host *sim_host_by_ip(struct sim *s, const struct ip *ip)
{
	LIST_EACH(&s->hosts, it) {
		struct sim_host *h = CONTAINER_OF(it, struct sim_host, link);
		if (ip_eq(&h->ip, ip))
			return h;
	}
	return NULL;
}

void sim_host_crash(struct sim_host *h)
{
	struct sim *s = h->sim;
	if (!h->up)
		return;
	if (s->current && s->current->w->host == h)
		sim_abort(s, "a process crashes its own machine");
	sim_note(s, "%s loses its power", h->name);
	h->up = false;
	h->crashing = true;
	h->crash_armed = false;
	(void)sim_role_kill(h, NULL);
	sim_disk_crash(h);
	h->crashing = false;
}

bool sim_host_is_up(const struct sim_host *h)
{
	return h->up;
}

void sim_host_boot(struct sim_host *h)
{
	h->up = true;
	h->booted_ns = h->sim->now_ns;
	sim_note(h->sim, "%s boots", h->name);
}

void sim_clock_jump(struct sim_host *h, int64_t by_ms)
{
	sim_note(h->sim, "the clock of %s jumps by %lld ms", h->name, (long long)by_ms);
	h->wall_offset_ms += by_ms;
}

void sim_disk_set_free(struct sim_host *h, uint64_t bytes)
{
	struct sim_disk *d = &h->disk;
	d->pages_max = bytes == UINT64_MAX ? UINT64_MAX / 2 : d->pages_used + bytes / 4096;
}

bool sim_is_walled(const struct sim_host *h, const struct ip *other)
{
	LIST_EACH(&h->walls, it)
		if (ip_eq(&CONTAINER_OF(it, struct sim_wall, link)->other, other))
			return true;
	return false;
}

void sim_partition(struct sim_host *h, const struct ip *other)
{
	struct sim_wall *wall = sim_alloc(h->sim, sizeof *wall);
	wall->other = *other;
	list_push_back(&h->walls, &wall->link);
}

void sim_heal(struct sim_host *h, const struct ip *other)
{
	LIST_EACH(&h->walls, it) {
		struct sim_wall *wall = CONTAINER_OF(it, struct sim_wall, link);
		if (!ip_eq(&wall->other, other))
			continue;
		list_remove(it);
		sim_dealloc(h->sim, wall);
	}
}
