/* SPDX-License-Identifier: Apache-2.0 */
/* Children that hang: each is asked now and then, and killed when it does not answer in `timeouts { process_hang }`. */
#include "base/events.h"
#include "master/master_internal.h"

#define HANG_PARTS 6u

/* coroutine */
static void ask(void *arg)
{
	struct child *c = arg;
	struct arena ARENA_SCOPED arena = arena_make(c->m->mem, 1024);
	struct proc_ping_out out;
	int pid = c->pid;
	(void)!call_proc_ping(c->ch, &(struct proc_ping_in){ 0 }, &arena, &out); /* any answer is one */
	if (c->asked_pid == pid)
		c->asked_pid = 0;
}

/* At the end of a part: whether somebody has not answered yet. */
static bool look_after(struct master *m)
{
	bool any = false;
	for (size_t i = 0; i < m->children_n; i++) {
		struct child *c = &m->children[i];
		if (c->asked_pid == 0 || c->asked_pid != c->pid || c->state != CHILD_READY)
			continue;
		any = true;
		if (++c->silent < HANG_PARTS)
			continue;
		log_process_hangs(&m->log, NO_IDS, str_z(role_name(c->role)), (uint64_t)c->pid, m->conf.times.process_hang);
		c->asked_pid = 0;
		if (world_kill(m->w, c->pid, 1) != ERR_NONE)
			master_failed(m, "kill a process that hangs", ERR_DENIED, str_z(role_name(c->role)));
	}
	return any;
}

static void ask_all(struct master *m)
{
	for (size_t i = 0; i < m->children_n; i++) {
		struct child *c = &m->children[i];
		if (c->state != CHILD_READY || !c->ch || (c->asked_pid && c->asked_pid == c->pid))
			continue;
		c->silent = 0;
		c->asked_pid = c->pid;
		if (scope_spawn(&m->scope, "ping", CO_STACK_SMALL, ask, c) != ERR_NONE)
			c->asked_pid = 0;
	}
}

/*
 * Silence is counted in parts of the time, each after a sleep of our own: where we did not run either (the
 * machine was suspended, or has no time for anybody) hardly any of it counts.
 */
/* coroutine */
void master_watch_children(void *arg)
{
	struct master *m = arg;
	int64_t part_ns = (int64_t)m->conf.times.process_hang * 1000000 / HANG_PARTS;
	for (;;) {
		ask_all(m);
		do
			if (co_sleep_until(world_mono_ns(m->w) + part_ns) != ERR_NONE)
				return;
		while (look_after(m));
		if (co_sleep_until(world_mono_ns(m->w) + part_ns * HANG_PARTS) != ERR_NONE)
			return;
	}
}
