/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's processes: start, end, kill, reap, signals, jail, and the door that every call
 * goes through. A killed process is never resumed; its memory, stacks and descriptors go at once, as
 * the kernel would take them, and whoever holds the other ends sees it.
 */
#include "world/sim_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define START_NS (3 * MS) /* fork, exec, link */
#define FDS_AT_END     16	/* listeners, directories: what a process has all its life */
#define SIGKILL_STATUS (256 + 9)
#define SIGTERM_STATUS (256 + 15)

/* ---- the door -------------------------------------------------------------------------------- */

static bool role_is(const struct world *w, const char *role)
{
	return !role || str_eq(str_z(w->role), str_z(role));
}

static void maybe_die(struct world *w)
{
	struct sim_host *h = w->host;
	if (!h->crash_armed || !role_is(w, h->crash_role) || --h->crash_at > 0)
		return;
	h->crash_armed = false;
	if (h->crash_machine) {
		sim_note(w->sim, "the power of %s fails in the middle of %s", h->name, w->role);
		w->sim->crash_now = h;
	} else {
		sim_note(w->sim, "%s/%s %d is killed in the middle of a call", h->name, w->role, w->pid);
		sim_process_end(w, SIGKILL_STATUS);
	}
	sim_fiber_leave(w->sim->current);
}

void sim_enter(struct world *w, int64_t cost_ns)
{
	struct sim *s = w->sim;
	struct sim_fiber *f = s->current;
	if (!f || f->w != w)
		sim_abort(s, "%s: a call to the world from outside of its process", w->role);
	w->host->calls++;
	maybe_die(w);
	if (f == &w->main) {
		w->busy_ns += cost_ns;
	} else if (cost_ns >= 5 * US) { /* on a helper thread: meanwhile others go on */
		sim_at(s, &f->wake, s->now_ns + cost_ns / 2 + (int64_t)sim_below(s, (uint64_t)cost_ns));
		sim_fiber_wait(f);
	}
}

enum err sim_enter_op(struct world *w, enum sim_op op, int64_t cost_ns)
{
	sim_enter(w, cost_ns);
	w->host->ops[op]++;
	LIST_EACH(&w->host->faults, it) {
		struct sim_armed_fault *a = CONTAINER_OF(it, struct sim_armed_fault, link);
		if (a->f.op != op || !role_is(w, a->f.role))
			continue;
		a->seen++;
		if (a->seen < a->f.nth || a->seen - a->f.nth >= a->f.count)
			continue;
		sim_note(w->sim, "%s/%s: %s number %llu fails: %s", w->host->name, w->role, sim_op_names[op],
			 (unsigned long long)a->seen, err_name(a->f.err));
		return a->f.err;
	}
	return ERR_NONE;
}

void sim_faults_apply_memory(struct world *w)
{
	LIST_EACH(&w->host->faults, it) {
		struct sim_armed_fault *a = CONTAINER_OF(it, struct sim_armed_fault, link);
		if (a->f.op != SIM_MEMORY || a->seen || !role_is(w, a->f.role))
			continue;
		mem_fail_at(w->mem, a->f.nth, a->f.count);
		a->seen = 1;
	}
}

/* ---- one process ------------------------------------------------------------------------------- */

struct world *sim_process_new(struct sim_host *h, const char *role, unsigned index, struct world *parent)
{
	struct sim *s = h->sim;
	struct world *w = sim_alloc(s, sizeof *w);
	w->sim = s;
	w->host = h;
	w->mem = mem_new(0);
	if (!w->mem)
		sim_abort(s, "no memory");
	w->pid = s->next_pid++;
	w->index = index;
	w->parent = parent;
	w->uid = 1000;
	w->fd_next = WORLD_MASTER_FD + 1;
	w->fd_max = 1 << 20;
	w->todo_tail = &w->todo;
	w->done_tail = &w->done;
	w->log_line = buf_grow(s->mem, (size_t)1 << 20);
	snprintf(w->role, sizeof w->role, "%s", role);
	list_init(&w->children);
	list_init(&w->zombies);
	list_init(&w->ready);
	list_init(&w->stacks);
	list_init(&w->mappings);
	list_push_back(&s->processes, &w->link);
	if (parent)
		list_push_back(&parent->children, &w->sibling);
	sim_faults_apply_memory(w);
	return w;
}

/* What an orderly end must not leave behind. */
static void check_end(struct world *w, int status)
{
	if (status != 0 || !list_is_empty(&w->host->faults))
		return; /* what could not be started need not be tidied up */
	if (w->fd_open > FDS_AT_END)
		sim_fail(w->sim, "%s/%s ended with %d descriptors open", w->host->name, w->role, w->fd_open);
	if (mem_blocks(w->mem) > 0)
		sim_fail(w->sim, "%s/%s ended with %zu blocks (%zu bytes) of memory in use", w->host->name,
			 w->role, mem_blocks(w->mem), mem_used(w->mem));
}

static void process_main(void *arg)
{
	struct sim_fiber *f = arg;
	struct world *w = f->w;
	world_clock_refresh(w);
	int status = w->fn ? w->fn(w, w->fn_arg) : w->program(w, w->index);
	check_end(w, status);
	sim_process_end(w, status & 255);
	sim_fiber_leave(f);
}

void sim_process_run(struct world *w, int64_t at_ns)
{
	sim_fiber_start(&w->main, w, process_main, at_ns);
}

static void tell_parent(struct world *w, int status)
{
	struct sim *s = w->sim;
	if (!w->parent) {
		size_t n = sizeof s->ended / sizeof s->ended[0];
		s->ended[s->ended_n % n].pid = w->pid;
		s->ended[s->ended_n++ % n].status = status;
		return;
	}
	struct sim_zombie *z = sim_alloc(s, sizeof *z);
	z->pid = w->pid;
	z->status = status;
	list_push_back(&w->parent->zombies, &z->link);
	list_remove(&w->sibling);
	w->parent->child_pending = true;
	w->parent->signal_new = true;
	sim_wake(w->parent);
}

static void fiber_ends(struct world *w, struct sim_fiber *f)
{
	if (f->exists)
		sim_never(w->sim, &f->wake);
	if (!f->syncing)
		return;
	if (!w->host->crashing)
		sim_sync_done(f->syncing);
	sim_inode_unref(f->syncing);
	f->syncing = NULL;
}

void sim_process_end(struct world *w, int status)
{
	struct sim *s = w->sim;
	ASSERT(!w->dead);
	w->dead = true;
	w->status = status;
	if (w->log_line.n) {
		sim_note(s, "%s/%s: %.*s", w->host->name, w->role, (int)w->log_line.n, w->log_line.p);
		buf_clear(&w->log_line);
	}
	if (!s->ending && !w->host->crashing)
		sim_note(s, "%s/%s[%u] %d ends: %d", w->host->name, w->role, w->index, w->pid, status);
	fiber_ends(w, &w->main);
	for (unsigned i = 0; i < SIM_HELPERS; i++)
		fiber_ends(w, &w->helper[i]);
	/* PR_SET_PDEATHSIG: nobody outlives a master that was killed. Depth is two. */
	while (!list_is_empty(&w->children)) {
		struct world *child = CONTAINER_OF(w->children.next, struct world, sibling);
		list_remove(&child->sibling);
		child->parent = NULL;
		sim_process_end(child, SIGKILL_STATUS);
	}
	sim_fds_close_all(w);
	sim_mappings_end(w);
	list_remove(&w->link);
	list_push_back(&s->graves, &w->link);
	tell_parent(w, status);
}

static void bury_one(struct world *w)
{
	struct sim *s = w->sim;
	struct list *n;
	w->host->ops[SIM_MEMORY] += mem_requests(w->mem);
	sim_fiber_free(&w->main);
	for (unsigned i = 0; i < SIM_HELPERS; i++)
		sim_fiber_free(&w->helper[i]);
	while ((n = list_pop_front(&w->stacks))) {
		struct sim_stack *st = CONTAINER_OF(n, struct sim_stack, link);
		sim_stack_put(s, st->lo, st->bytes);
		sim_dealloc(s, st);
	}
	while ((n = list_pop_front(&w->zombies)))
		sim_dealloc(s, CONTAINER_OF(n, struct sim_zombie, link));
	for (size_t i = 0; i < w->dir_count; i++)
		sim_inode_unref(w->dirs[i]);
	sim_dealloc(s, w->dirs);
	buf_free(&w->log_line);
	mem_destroy(w->mem);
	sim_dealloc(s, w);
}

void sim_bury(struct sim *s)
{
	struct list *n;
	while ((n = list_pop_front(&s->graves)))
		bury_one(CONTAINER_OF(n, struct world, link));
}

struct world *sim_process_by_pid(const struct sim *s, int pid)
{
	LIST_EACH(&s->processes, it) {
		struct world *w = CONTAINER_OF(it, struct world, link);
		if (w->pid == pid)
			return w;
	}
	return NULL;
}

/* ---- from outside --------------------------------------------------------------------------------- */

int sim_process_start(struct sim_host *h, const char *role, int (*fn)(struct world *w, void *arg), void *arg)
{
	struct world *w = sim_process_new(h, role, 0, NULL);
	w->fn = fn;
	w->fn_arg = arg;
	sim_process_run(w, h->sim->now_ns + START_NS);
	return w->pid;
}

static const struct sim_program *program_of(const struct sim *s, struct str role)
{
	for (const struct sim_program *p = s->programs; p && p->role; p++)
		if (str_eq(str_z(p->role), role))
			return p;
	return NULL;
}

int sim_program_start(struct sim_host *h, const char *role)
{
	const struct sim_program *p = program_of(h->sim, str_z(role));
	if (!p)
		sim_abort(h->sim, "no program %s", role);
	struct world *w = sim_process_new(h, role, 0, NULL);
	w->program = p->main;
	sim_process_run(w, h->sim->now_ns + START_NS);
	return w->pid;
}

bool sim_process_lives(const struct sim *s, int pid)
{
	return sim_process_by_pid(s, pid) != NULL;
}

int sim_process_status(const struct sim *s, int pid)
{
	for (size_t i = 0; i < sizeof s->ended / sizeof s->ended[0]; i++)
		if (s->ended[i].pid == pid)
			return s->ended[i].status;
	return -1;
}

void sim_process_kill(struct sim *s, int pid)
{
	struct world *w = sim_process_by_pid(s, pid);
	if (w)
		sim_process_end(w, SIGKILL_STATUS);
}

static void terminate(struct world *w)
{
	if (!w->watches_signals) { /* nobody handles it: the default is death */
		sim_process_end(w, SIGTERM_STATUS);
		return;
	}
	w->stop_pending = w->signal_new = true;
	sim_wake(w);
}

void sim_process_stop(struct sim *s, int pid)
{
	struct world *w = sim_process_by_pid(s, pid);
	if (w)
		terminate(w);
}

unsigned sim_role_kill(struct sim_host *h, const char *role)
{
	unsigned n = 0;
	for (bool more = true; more;) {
		more = false;
		LIST_EACH(&h->sim->processes, it) {
			struct world *w = CONTAINER_OF(it, struct world, link);
			if (w->host != h || !role_is(w, role))
				continue;
			sim_process_end(w, SIGKILL_STATUS);
			n++;
			more = true; /* the list has changed beyond `it` when that was a master */
			break;
		}
	}
	return n;
}

void sim_role_block(struct sim_host *h, const char *role, int64_t until_ns)
{
	struct sim_block *b = sim_alloc(h->sim, sizeof *b);
	b->role = role;
	b->until_ns = until_ns;
	list_push_back(&h->blocks, &b->link);
}

static bool is_blocked(const struct sim_host *h, const char *role)
{
	LIST_EACH(&h->blocks, it) {
		const struct sim_block *b = CONTAINER_OF(it, struct sim_block, link);
		if (b->until_ns > h->sim->now_ns && str_eq(str_z(b->role), str_z(role)))
			return true;
	}
	return false;
}

void sim_crash_at_call(struct sim_host *h, const char *role, uint64_t n, bool machine)
{
	h->crash_role = role;
	h->crash_at = n ? n : 1;
	h->crash_armed = true;
	h->crash_machine = machine;
}

bool sim_crash_is_armed(const struct sim_host *h)
{
	return h->crash_armed;
}

uint64_t sim_calls(const struct sim_host *h)
{
	return h->calls;
}

void sim_fault_add(struct sim_host *h, const struct sim_fault *f)
{
	struct sim_armed_fault *a = sim_alloc(h->sim, sizeof *a);
	a->f = *f;
	list_push_back(&h->faults, &a->link);
	if (f->op != SIM_MEMORY)
		return;
	LIST_EACH(&h->sim->processes, it) {
		struct world *w = CONTAINER_OF(it, struct world, link);
		if (w->host == h && role_is(w, f->role)) {
			sim_faults_apply_memory(w);
			return;
		}
	}
}

void sim_faults_clear(struct sim_host *h)
{
	struct list *n;
	while ((n = list_pop_front(&h->faults)))
		sim_dealloc(h->sim, CONTAINER_OF(n, struct sim_armed_fault, link));
	LIST_EACH(&h->sim->processes, it) {
		struct world *w = CONTAINER_OF(it, struct world, link);
		if (w->host == h)
			mem_fail_at(w->mem, 0, 0);
	}
}

uint64_t sim_op_count(const struct sim_host *h, enum sim_op op)
{
	uint64_t n = h->ops[op];
	if (op == SIM_MEMORY)
		LIST_EACH(&h->sim->processes, it) {
			const struct world *w = CONTAINER_OF(it, struct world, link);
			n += w->host == h ? mem_requests(w->mem) : 0;
		}
	return n;
}

/* ---- world.h: processes --------------------------------------------------------------------------------- */

enum err world_spawn(struct world *w, const struct world_spawn *spec, int *pid_out)
{
	sim_enter(w, 400 * US);
	TRY(sim_jail_check(w, WORLD_MAY_SPAWN, "spawn"));
	const struct sim_program *p = program_of(w->sim, spec->role);
	if (!p)
		return ERR_NOT_FOUND;
	struct world *child = sim_process_new(w->host, p->role, spec->index, w);
	struct sim_object *o = sim_fd_any(w, spec->master_fd);
	sim_object_ref(o);
	child->fd_next = WORLD_MASTER_FD;
	int fd;
	if (sim_fd_new(child, o, 0, &fd) != ERR_NONE || fd != WORLD_MASTER_FD)
		sim_abort(w->sim, "the first descriptor of a new process is %d", fd);
	child->program = p->main;
	child->uid = w->uid;
	*pid_out = child->pid;
	if (is_blocked(w->host, p->role))
		sim_process_end(child, 71); /* it cannot be started: dies at once */
	else
		sim_process_run(child, w->sim->now_ns + w->busy_ns + START_NS + (int64_t)sim_below(w->sim, 2 * MS));
	return ERR_NONE;
}

enum err world_kill(struct world *w, int pid, int hard)
{
	sim_enter(w, 2 * US);
	TRY(sim_jail_check(w, WORLD_MAY_SPAWN, "kill"));
	struct world *other = sim_process_by_pid(w->sim, pid);
	LIST_EACH(&w->zombies, it)
		if (CONTAINER_OF(it, struct sim_zombie, link)->pid == pid)
			return ERR_NONE;
	if (!other || other->host != w->host)
		return ERR_NOT_FOUND;
	if (other->parent != w)
		sim_abort(w->sim, "%s kills %s, which is not its child", w->role, other->role);
	if (hard)
		sim_process_end(other, SIGKILL_STATUS);
	else
		terminate(other);
	return ERR_NONE;
}

enum err world_reap(struct world *w, int *pid_out, int *status_out)
{
	sim_enter(w, 2 * US);
	struct list *n = list_pop_front(&w->zombies);
	if (!n)
		return ERR_BUSY;
	struct sim_zombie *z = CONTAINER_OF(n, struct sim_zombie, link);
	*pid_out = z->pid;
	*status_out = z->status;
	sim_dealloc(w->sim, z);
	return ERR_NONE;
}

enum err world_watch_signals(struct world *w, void *data)
{
	w->watches_signals = true;
	w->signal_data = data;
	return ERR_NONE;
}

enum world_signal world_next_signal(struct world *w)
{
	if (w->stop_pending) {
		w->stop_pending = false;
		return WORLD_SIG_STOP;
	}
	if (w->child_pending) {
		w->child_pending = false;
		return WORLD_SIG_CHILD;
	}
	return WORLD_SIG_NONE;
}

/* ---- world.h: the process itself --------------------------------------------------------------------------- */

struct mem *world_mem(struct world *w)
{
	return w->mem;
}

int64_t world_mono_ns(struct world *w)
{
	return w->mono_ns;
}

int64_t world_wall_ms(struct world *w)
{
	return w->wall_ms;
}

int64_t world_measure_ns(struct world *w)
{
	return w->sim->now_ns + (w->sim->current == &w->main ? w->busy_ns : 0);
}

void world_clock_refresh(struct world *w)
{
	w->mono_ns = w->sim->now_ns + w->busy_ns;
	w->wall_ms = SIM_EPOCH_MS + w->mono_ns / MS + w->host->wall_offset_ms;
}

void world_random(struct world *w, void *p, size_t n)
{
	unsigned char *to = p;
	for (size_t i = 0; i < n; i++)
		to[i] = (unsigned char)(sim_random(w->sim) >> 24);
}

int world_pid(struct world *w)
{
	return w->pid;
}

unsigned world_uid(struct world *w)
{
	return w->uid;
}

unsigned world_cpus(struct world *w UNUSED)
{
	return 2;
}

struct str world_env(struct world *w UNUSED, struct str name UNUSED)
{
	return STR_NONE;
}

/* ---- world.h: stacks ------------------------------------------------------------------------------------------ */

enum err world_stack_new(struct world *w, size_t bytes, void **lo_out)
{
	struct sim_stack *st = sim_alloc(w->sim, sizeof *st);
	st->lo = sim_stack_get(w->sim, bytes);
	st->bytes = bytes;
	list_push_back(&w->stacks, &st->link);
	*lo_out = st->lo;
	return ERR_NONE;
}

void world_stack_free(struct world *w, void *lo, size_t bytes)
{
	LIST_EACH(&w->stacks, it) {
		struct sim_stack *st = CONTAINER_OF(it, struct sim_stack, link);
		if (st->lo != lo)
			continue;
		list_remove(&st->link);
		sim_stack_put(w->sim, lo, bytes);
		sim_dealloc(w->sim, st);
		return;
	}
	sim_abort(w->sim, "%s frees a stack that it has not", w->role);
}

void world_stack_release(struct world *w UNUSED, void *lo, size_t bytes)
{
	memset(lo, 0, bytes);
}

/* ---- world.h: jail ---------------------------------------------------------------------------------------------- */

enum err sim_jail_check(struct world *w, unsigned may, const char *call)
{
	if (!w->jailed || w->may & may)
		return ERR_NONE;
	sim_fail(w->sim, "%s/%s: %s is against its jail", w->host->name, w->role, call);
	return ERR_DENIED;
}

/* Landlock: dir must lie beneath one of the directories that remain. */
enum err sim_jail_path(struct world *w, const struct sim_inode *dir)
{
	if (!w->jailed)
		return ERR_NONE;
	for (const struct sim_inode *d = dir; d; d = d->parent)
		for (size_t i = 0; i < w->dir_count; i++)
			if (w->dirs[i] == d)
				return ERR_NONE;
	sim_fail(w->sim, "%s/%s: a path outside of its jail", w->host->name, w->role);
	return ERR_DENIED;
}

enum err world_change_user(struct world *w, unsigned uid, unsigned gid UNUSED)
{
	if (w->uid == 0 && uid != 0)
		w->uid = uid;
	return ERR_NONE;
}

enum err world_jail_enter(struct world *w, const struct world_jail *jail)
{
	sim_enter(w, 500 * US);
	if (w->jailed)
		sim_abort(w->sim, "%s enters its jail twice", w->role);
	w->dirs = sim_alloc(w->sim, (jail->dir_count + 1) * sizeof *w->dirs);
	for (size_t i = 0; i < jail->dir_count; i++) {
		struct sim_inode *dir;
		TRY(sim_walk(w->host->disk.root, jail->dirs[i], &dir));
		sim_inode_ref(dir);
		w->dirs[w->dir_count++] = dir;
	}
	TRY(world_change_user(w, jail->uid, jail->gid));
	w->may = jail->may;
	w->max_file_bytes = jail->max_file_bytes;
	if (jail->max_fds && jail->max_fds < (uint64_t)w->fd_max)
		w->fd_max = (int)jail->max_fds;
	w->jailed = true;
	return ERR_NONE;
}
