/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world's memory that processes share: one piece of the universe's, counted by who uses it. */
#include "world/sim_internal.h"

#define COST_NS (20 * US)
#define ALIGN_BYTES ((uintptr_t)64)

struct shared {
	struct sim_object o; /* descriptors and mappings */
	size_t bytes;
	char *memory; /* on a boundary of ALIGN_BYTES behind this, as a page is */
};

static void shared_close(struct sim *s, struct sim_object *o)
{
	sim_dealloc(s, CONTAINER_OF(o, struct shared, o));
}

enum err world_shared_new(struct world *w, size_t bytes, int *write_fd_out, int *read_fd_out)
{
	sim_enter(w, COST_NS);
	struct shared *m = sim_alloc(w->sim, sizeof *m + bytes + ALIGN_BYTES);
	uintptr_t behind = (uintptr_t)(m + 1);
	m->memory = (char *)(m + 1) + (ALIGN_BYTES - behind % ALIGN_BYTES) % ALIGN_BYTES;
	sim_object_init(&m->o, OBJ_SHARED);
	m->o.close = shared_close;
	m->bytes = bytes;
	enum err e = sim_fd_new(w, &m->o, WORLD_READ | WORLD_WRITE, write_fd_out);
	if (e != ERR_NONE) {
		sim_object_unref(w->sim, &m->o);
		return e;
	}
	sim_object_ref(&m->o);
	e = sim_fd_new(w, &m->o, WORLD_READ, read_fd_out);
	if (e != ERR_NONE) {
		sim_object_unref(w->sim, &m->o);
		world_close(w, *write_fd_out);
	}
	return e;
}

enum err world_shared_map(struct world *w, int fd, size_t bytes, enum world_shared_right right, void **out)
{
	sim_enter(w, COST_NS);
	struct shared *m = CONTAINER_OF(sim_fd_object(w, fd, OBJ_SHARED), struct shared, o);
	if (right == WORLD_SHARED_WRITE && !(w->fds[fd].flags & WORLD_WRITE))
		return ERR_DENIED;
	if (bytes != m->bytes)
		return ERR_SYNTAX;
	struct sim_mapping *map = sim_alloc(w->sim, sizeof *map);
	map->o = &m->o;
	map->p = m->memory;
	sim_object_ref(&m->o);
	list_push_back(&w->mappings, &map->link);
	*out = map->p;
	return ERR_NONE;
}

static void unmap(struct world *w, struct sim_mapping *map)
{
	list_remove(&map->link);
	sim_object_unref(w->sim, map->o);
	sim_dealloc(w->sim, map);
}

void world_shared_unmap(struct world *w, void *p, size_t bytes UNUSED)
{
	LIST_EACH(&w->mappings, it) {
		struct sim_mapping *map = CONTAINER_OF(it, struct sim_mapping, link);
		if (map->p != p)
			continue;
		unmap(w, map);
		return;
	}
	sim_abort(w->sim, "%s unmaps what it has not mapped", w->role);
}

void sim_mappings_end(struct world *w)
{
	while (!list_is_empty(&w->mappings))
		unmap(w, CONTAINER_OF(w->mappings.next, struct sim_mapping, link));
}
