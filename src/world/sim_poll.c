/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's descriptors, watches, poll and helper threads.
 *
 * Edge-triggered watches behave like epoll's: a change queues the watch, and what is reported is all
 * that is possible when the process looks. Descriptors are handed out round about, not lowest
 * first, so that the use of a closed one is noticed.
 */
#include "world/sim_internal.h"

#define FDS_GROW 64

/* ---- objects -------------------------------------------------------------------------------- */

void sim_object_init(struct sim_object *o, enum sim_kind kind)
{
	o->kind = kind;
	o->refs = 1;
	list_init(&o->watches);
}

void sim_object_ref(struct sim_object *o)
{
	o->refs++;
}

void sim_object_unref(struct sim *s, struct sim_object *o)
{
	ASSERT(o->refs > 0);
	if (--o->refs == 0)
		o->close(s, o);
}

static void watch_fire(struct sim_watch *watch)
{
	if (!list_linked(&watch->queued))
		list_push_back(&watch->w->ready, &watch->queued);
	sim_wake(watch->w);
}

void sim_notify(struct sim *s, struct sim_object *o)
{
	size_t levels = 0;
	LIST_EACH(&o->watches, it) {
		struct sim_watch *watch = CONTAINER_OF(it, struct sim_watch, of_object);
		if (watch->level)
			levels++;
		else
			watch_fire(watch);
	}
	if (levels == 0)
		return;
	size_t pick = sim_below(s, levels); /* EPOLLEXCLUSIVE: one of them */
	LIST_EACH(&o->watches, it) {
		struct sim_watch *watch = CONTAINER_OF(it, struct sim_watch, of_object);
		if (watch->level && pick-- == 0) {
			watch_fire(watch);
			return;
		}
	}
}

/* ---- descriptors ------------------------------------------------------------------------------- */

static void fds_grow(struct world *w)
{
	int cap = w->fd_cap ? w->fd_cap * 2 : FDS_GROW;
	struct sim_fd *fds = sim_alloc(w->sim, (size_t)cap * sizeof *fds);
	if (w->fd_cap)
		memcpy(fds, w->fds, (size_t)w->fd_cap * sizeof *fds);
	sim_dealloc(w->sim, w->fds);
	w->fds = fds;
	w->fd_cap = cap;
}

enum err sim_fd_new(struct world *w, struct sim_object *o, unsigned flags, int *fd_out)
{
	if (w->fd_open >= w->fd_max || w->fd_open >= SIM_FDS_MAX)
		return ERR_LIMIT;
	while (w->fd_open + 8 >= w->fd_cap)
		fds_grow(w);
	int fd = w->fd_next;
	while (fd >= w->fd_cap || fd < WORLD_MASTER_FD || w->fds[fd].o)
		fd = fd + 1 >= w->fd_cap ? WORLD_MASTER_FD + 1 : fd + 1;
	w->fd_next = fd + 1;
	w->fd_open++;
	w->fds[fd] = (struct sim_fd){ .o = o, .flags = flags, .was_open = true };
	*fd_out = fd;
	return ERR_NONE;
}

struct sim_object *sim_fd_any(struct world *w, int fd)
{
	if (fd < 0 || fd >= w->fd_cap || !w->fds[fd].o)
		sim_abort(w->sim, "%s/%s uses descriptor %d, which is %s", w->host->name, w->role, fd,
			  fd >= 0 && fd < w->fd_cap && w->fds[fd].was_open ? "closed" : "none");
	return w->fds[fd].o;
}

struct sim_object *sim_fd_object(struct world *w, int fd, enum sim_kind kind)
{
	struct sim_object *o = sim_fd_any(w, fd);
	if (o->kind != kind)
		sim_abort(w->sim, "%s/%s uses descriptor %d as what it is not", w->host->name, w->role, fd);
	return o;
}

static void unwatch(struct world *w, int fd)
{
	struct sim_watch *watch = w->fds[fd].watch;
	if (!watch)
		return;
	struct sim_object *o = watch->o;
	bool level = watch->level;
	list_remove(&watch->of_object);
	list_remove(&watch->queued);
	w->fds[fd].watch = NULL;
	sim_dealloc(w->sim, watch);
	if (level && o->ready(o)) /* it may have been the one that was woken */
		sim_notify(w->sim, o);
}

static void fd_close(struct world *w, int fd)
{
	struct sim_object *o = w->fds[fd].o;
	unwatch(w, fd);
	w->fds[fd].o = NULL;
	w->fd_open--;
	sim_object_unref(w->sim, o);
}

void sim_fds_close_all(struct world *w)
{
	for (int fd = 0; fd < w->fd_cap; fd++)
		if (w->fds[fd].o)
			fd_close(w, fd);
	sim_dealloc(w->sim, w->fds);
	w->fds = NULL;
	w->fd_cap = 0;
}

void world_close(struct world *w, int fd)
{
	if (fd < 0)
		return;
	sim_enter(w, US);
	(void)sim_fd_any(w, fd);
	fd_close(w, fd);
}

/* ---- watches ---------------------------------------------------------------------------------------- */

static enum err watch(struct world *w, int fd, void *data, bool level)
{
	sim_enter(w, US);
	struct sim_object *o = sim_fd_any(w, fd);
	if (w->fds[fd].watch)
		return ERR_EXISTS;
	if (!o->ready)
		return ERR_DENIED; /* EPERM: epoll takes no files */
	struct sim_watch *watch = sim_alloc(w->sim, sizeof *watch);
	watch->w = w;
	watch->o = o;
	watch->data = data;
	watch->level = level;
	w->fds[fd].watch = watch;
	list_push_back(&o->watches, &watch->of_object);
	list_push_back(&w->ready, &watch->queued); /* what is possible already is an event */
	return ERR_NONE;
}

enum err world_watch(struct world *w, int fd, void *data)
{
	return watch(w, fd, data, false);
}

/* Events that nobody waits for cost nothing here. */
enum err world_watch_packets(struct world *w, int fd, void *data)
{
	return watch(w, fd, data, false);
}

enum err world_watch_output(struct world *w, int fd UNUSED, void *data UNUSED, bool output UNUSED)
{
	sim_enter(w, US);
	return ERR_NONE;
}

enum err world_watch_listener(struct world *w, int fd, void *data)
{
	return watch(w, fd, data, true);
}

enum err world_watch_level(struct world *w, int fd UNUSED, unsigned what UNUSED, void *data UNUSED)
{
	sim_enter(w, US);
	return ERR_DENIED;
}

void world_unwatch(struct world *w, int fd)
{
	sim_enter(w, US);
	(void)sim_fd_any(w, fd);
	unwatch(w, fd);
}

/* ---- poll -------------------------------------------------------------------------------------------- */

static int64_t jitter(struct sim *s)
{
	return (int64_t)sim_below(s, sim_chance(s, 5) ? 300 * US : 15 * US) + US;
}

void sim_wake(struct world *w)
{
	if (!w->polling)
		return;
	struct sim *s = w->sim;
	int64_t at = s->now_ns + jitter(s);
	if (at < w->free_at_ns)
		at = w->free_at_ns;
	if (!heap_holds(&w->main.wake.node) || w->main.wake.node.key > at)
		sim_at(s, &w->main.wake, at);
}

static bool has_events(const struct world *w)
{
	return !list_is_empty(&w->ready) || w->done || (w->signal_new && w->watches_signals);
}

static size_t take_watches(struct world *w, struct world_event *ev, size_t max)
{
	struct list again;
	size_t n = 0;
	list_init(&again);
	while (n < max && !list_is_empty(&w->ready)) {
		struct list *it = sim_chance(w->sim, 75) ? w->ready.next : w->ready.prev;
		struct sim_watch *watch = CONTAINER_OF(it, struct sim_watch, queued);
		unsigned ready = watch->o->ready(watch->o);
		list_remove(it);
		if (ready)
			ev[n++] = (struct world_event){ watch->data, ready };
		if (ready && watch->level)
			list_push_back(&again, it);
	}
	struct list *it;
	while ((it = list_pop_front(&again)))
		list_push_back(&w->ready, it);
	return n;
}

static size_t take_events(struct world *w, struct world_event *ev, size_t max)
{
	size_t n = 0;
	if (w->signal_new && w->watches_signals) {
		w->signal_new = false;
		ev[n++] = (struct world_event){ w->signal_data, WORLD_SIGNAL };
	}
	while (w->done && n < max) {
		struct world_job *job = w->done;
		w->done = job->next_;
		if (!w->done)
			w->done_tail = &w->done;
		ev[n++] = (struct world_event){ job->data, WORLD_JOB };
	}
	return n + take_watches(w, ev + n, max - n);
}

size_t world_poll(struct world *w, struct world_event *ev, size_t max, int64_t deadline_ns)
{
	struct sim *s = w->sim;
	if (s->current != &w->main)
		sim_abort(s, "%s polls on a helper thread", w->role);
	sim_enter(w, US);
	w->free_at_ns = s->now_ns + w->busy_ns + jitter(s);
	w->polling = true;
	if (has_events(w) || deadline_ns <= w->free_at_ns)
		sim_at(s, &w->main.wake, w->free_at_ns);
	else if (deadline_ns != INT64_MAX)
		sim_at(s, &w->main.wake, deadline_ns);
	sim_fiber_wait(&w->main);
	w->polling = false;
	w->busy_ns = 0;
	world_clock_refresh(w);
	return take_events(w, ev, max);
}

/* ---- helper threads -------------------------------------------------------------------------------------- */

void sim_job_helper(void *arg)
{
	struct sim_fiber *f = arg;
	struct world *w = f->w;
	for (;;) {
		struct world_job *job = f->job;
		job->fn(w, job->arg);
		job->next_ = NULL;
		*w->done_tail = job;
		w->done_tail = &job->next_;
		sim_wake(w);
		f->job = w->todo;
		if (f->job) {
			w->todo = f->job->next_;
			if (!w->todo)
				w->todo_tail = &w->todo;
			continue;
		}
		f->idle = true;
		sim_fiber_wait(f);
	}
}

enum err world_offload(struct world *w, struct world_job *job)
{
	struct sim *s = w->sim;
	sim_enter(w, 3 * US);
	TRY(sim_jail_check(w, WORLD_MAY_THREADS, "a helper thread"));
	int64_t at = s->now_ns + w->busy_ns + jitter(s);
	job->next_ = NULL;
	for (unsigned i = 0; i < SIM_HELPERS; i++) {
		struct sim_fiber *f = &w->helper[i];
		if (f->exists && !f->idle)
			continue;
		f->job = job;
		f->idle = false;
		if (f->exists)
			sim_at(s, &f->wake, at);
		else
			sim_fiber_start(f, w, sim_job_helper, at);
		return ERR_NONE;
	}
	*w->todo_tail = job;
	w->todo_tail = &job->next_;
	return ERR_NONE;
}
