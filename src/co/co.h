/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines, scopes and the loop. One loop a process, one thread; waiting is a function call.
 *
 * A function that may wait is marked YIELDS; tools/lint.py compares the marks with the call graph.
 * A coroutine lives in a scope; scope_close() waits for the scope's children, so there are no orphans.
 * Every wait ends with ERR_TIMEOUT at the nearer of the coroutine's and its scope's (and the scope's
 * parents') deadline, and with ERR_CANCELLED once the scope or a parent is cancelled; clean-up is then
 * ordinary code, which may wait again only under co_shield(). Stop is gentler: it is only seen by
 * those who ask scope_stopping() (or wait with co_wait_or_stop), at a command boundary.
 *
 * Between coroutines go ids and copies; after a wait, what is shared is looked up again.
 */
#ifndef CO_CO_H
#define CO_CO_H

#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "world/world.h"

#define YIELDS

struct loop;
struct co;

#define NEVER INT64_MAX

/* ---- loop --------------------------------------------------------------------------------- */

enum err loop_new(struct world *w, struct loop **loop_out) MUST_CHECK;
void loop_free(struct loop *l);
/* Runs fn(arg) as the first coroutine of the root scope; returns when the root scope is empty. */
void loop_run(struct loop *l, void (*fn)(void *arg), void *arg);
struct world *loop_world(struct loop *l);
struct mem *loop_mem(struct loop *l);
/* Called once per turn, after all runnable coroutines ran and before waiting: flush logs, send batches. */
void loop_on_turn(struct loop *l, void (*fn)(void *arg), void *arg);
struct loop_stats {
	uint64_t turns, switches, spawned, parked, unparked;
	size_t coroutines, parked_now;
};
struct loop_stats loop_stats(const struct loop *l);

/* ---- scopes ------------------------------------------------------------------------------- */

struct scope {
	struct loop *loop;
	struct scope *parent;
	struct list child_scopes, sibling; /* so that cancel reaches down */
	struct list coroutines;
	struct list waiters;	     /* co_queue of those in scope_wait() */
	int64_t deadline_ns;
	bool stopping, cancelled;
	size_t live;
};
/* parent NULL: the loop's root scope. */
void scope_open(struct scope *s, struct loop *l, struct scope *parent);
/* Waits for all children (coroutines and, through them, their scopes). */
YIELDS void scope_wait(struct scope *s);
/* Cancels, then waits (shielded). The scope may then be forgotten. */
YIELDS void scope_close(struct scope *s);
void scope_cancel(struct scope *s);
void scope_stop(struct scope *s);
bool scope_stopping(const struct scope *s); /* it or a parent is stopping or cancelled */
struct scope *loop_root(struct loop *l);

/* 64 KiB; 256 KiB where foreign code runs; 1 MiB where it keeps whole DNS records there. Only what is touched is memory. */
enum co_stack { CO_STACK_SMALL, CO_STACK_LARGE, CO_STACK_HUGE };
/* Starts fn(arg) soon (not before the caller waits). ERR_NO_MEMORY, ERR_LIMIT. name: a literal. */
enum err scope_spawn(struct scope *s, const char *name, enum co_stack stack, void (*fn)(void *arg),
		     void *arg) MUST_CHECK;

/* ---- the running coroutine ---------------------------------------------------------------- */

struct co *co_self(void);
struct scope *co_scope(void);
struct loop *co_loop(void);
/* Sets the coroutine's own deadline (absolute ns or NEVER), returns the one before: to put it back. */
int64_t co_set_deadline(int64_t at_ns);
/* While shielded > 0 waits ignore cancel and scope deadlines (not the own one). Nests. */
void co_shield(void);
void co_unshield(void);
/* Lets the others run once. */
YIELDS enum err co_yield(void) MUST_CHECK;
/* ERR_NONE after the time, ERR_CANCELLED before. A deadline that comes first is ERR_TIMEOUT. */
YIELDS enum err co_sleep_until(int64_t at_ns) MUST_CHECK;
/* Runs fn(w, arg) on a helper thread and waits for it, shielded: arg may stand on the caller's stack. */
YIELDS enum err co_offload(void (*fn)(struct world *w, void *arg), void *arg) MUST_CHECK;

/* ---- waiting for one another -------------------------------------------------------------- */

struct co_queue {
	struct list waiters;
};
void co_queue_init(struct co_queue *q);
/* Until woken, timeout or cancel. Wakes are not remembered: test the condition in a loop. */
YIELDS enum err co_wait(struct co_queue *q) MUST_CHECK;
void co_wake_one(struct co_queue *q);
void co_wake_all(struct co_queue *q);

/* ---- waiting for descriptors -------------------------------------------------------------- */

struct source {
	struct loop *loop;
	int fd;
	unsigned ready;		       /* enum world_ready bits seen and not yet used up */
	struct co *reader, *writer;    /* at most one of each */
	struct co_queue *notify;       /* level-triggered sources */
};
/* Watches fd. The source must stay where it is until source_close(). */
enum err source_open(struct source *s, struct loop *l, int fd) MUST_CHECK;
enum err source_open_listener(struct source *s, struct loop *l, int fd) MUST_CHECK;
/* For a socket of packets: sending is waited for by source_wait_output(). */
enum err source_open_packets(struct source *s, struct loop *l, int fd) MUST_CHECK;
/* Unwatches and closes fd. Nobody may be waiting. Safe to call twice. */
void source_close(struct source *s);
/*
 * Waits until WORLD_IN or WORLD_OUT. Edge-triggered: first try the operation; on ERR_BUSY call
 * source_block(s, what) and then source_wait(s, what).
 */
void source_block(struct source *s, unsigned what);
YIELDS enum err source_wait(struct source *s, unsigned what) MUST_CHECK;
/* Of a socket of packets, after ERR_BUSY. */
YIELDS enum err source_wait_output(struct source *s) MUST_CHECK;
/*
 * The same for input at a command boundary, where the coroutine may be idle for minutes: it also ends
 * with ERR_CANCELLED when its scope is stopping, and after a short while its stack is parked: copied
 * out and the pages given back.
 */
YIELDS enum err source_wait_idle(struct source *s) MUST_CHECK;

/*
 * For a library that brings its own descriptors and expects level-triggered events: as long as one of
 * `what` is ready, each turn of the loop sets it in s->ready and wakes all in `notify`; whoever is woken
 * clears s->ready. Again on a watched source: changes `what`. The descriptor is not the source's:
 * source_forget() before it is closed. Not in the simulation (ERR_DENIED).
 */
enum err source_watch_level(struct source *s, struct loop *l, int fd, unsigned what, struct co_queue *notify) MUST_CHECK;
void source_forget(struct source *s);

/* Ends the waits of the source's reader and writer with ERR_CANCELLED. */
void source_interrupt(struct source *s);

/* ---- signals (master) --------------------------------------------------------------------- */

/* From now on each signal wakes all who wait in q; then ask world_next_signal(). */
enum err loop_watch_signals(struct loop *l, struct co_queue *q) MUST_CHECK;

/* ---- pool of stream buffers (co/stream.c, ipc/) ---------------------------------------------- */

#define LOOP_BUFFER_BYTES 16384u
/* NULL when memory has run out. */
char *loop_buffer_get(struct loop *l);
void loop_buffer_put(struct loop *l, char *buffer);

#endif
