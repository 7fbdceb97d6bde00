/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines, scopes and the loop: see co.h. Runs in every process; sees no hostile input.
 *
 * Invariants:
 *  C1  A coroutine is in exactly one state: READY (in the run queue), RUNNING, WAITING, or gone.
 *  C2  WAITING: its link may be in one co_queue's list, and its timer is in the heap if it has a deadline.
 *      Whoever wakes it takes it out of both, so it is woken once.
 *  C3  A stack is given back only from another stack (the loop's), after the last switch away from it.
 *  C4  A parked coroutine is WAITING; its bytes are put back at the same address before it runs.
 */
#include "co/co.h"

#include "base/ctx.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define STACK_SMALL_BYTES ((size_t)64 * 1024)
#define STACK_LARGE_BYTES ((size_t)256 * 1024)
#define STACK_HUGE_BYTES ((size_t)1024 * 1024)
#define STACK_POOL_MAX 256u
#define BUFFER_POOL_MAX 256u
#define TURN_SWITCHES_MAX 256u /* coroutines run between two looks at the descriptors */
#define EVENTS_PER_POLL 256u
#define PARK_AFTER_NS (200 * 1000000LL)
#define PARK_MAX_BYTES ((size_t)3072)

enum co_state { CO_READY, CO_RUNNING, CO_WAITING };

struct co {
	struct ctx ctx;
	struct list link;     /* run queue, or a co_queue */
	struct list in_scope; /* scope.coroutines */
	struct list idle;     /* loop.idle, while waiting at a command boundary */
	struct heap_node timer;
	struct scope *scope;
	struct loop *loop;
	const char *name;
	void (*fn)(void *arg);
	void *arg;
	int64_t deadline_ns;
	int64_t idle_since_ns;
	char *parked; /* saved top of the stack, or NULL */
	uint32_t parked_bytes;
	uint16_t shield;
	uint8_t state;
	uint8_t stack;	   /* enum co_stack */
	uint8_t wake_err;  /* enum err */
	uint8_t timer_err; /* what the timer wakes with: ERR_TIMEOUT, or ERR_NONE for a sleep */
	bool idle_wait, firm; /* firm: not even cancel wakes it (a job has its stack) */
};

struct stack_pool {
	void *free[STACK_POOL_MAX];
	size_t n, bytes;
};

struct turn_hook {
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	struct world *w;
	struct mem *mem;
	struct ctx main;
	struct list ready, idle;
	struct heap timers;
	struct scope root;
	struct stack_pool stacks[CO_STACK_HUGE + 1];
	char *buffers[BUFFER_POOL_MAX];
	size_t buffer_count;
	struct co *dead;
	struct turn_hook hooks[8];
	size_t hook_count;
	struct loop_stats stats;
	bool may_park;
};

static _Thread_local struct co *current;

/* ---- loop --------------------------------------------------------------------------------- */

enum err loop_new(struct world *w, struct loop **loop_out)
{
	struct mem *mem = world_mem(w);
	struct loop *l = mem_alloc(mem, sizeof *l);
	if (!l)
		return ERR_NO_MEMORY;
	l->w = w;
	l->mem = mem;
	list_init(&l->ready);
	list_init(&l->idle);
	l->timers = heap_make(mem);
	l->stacks[CO_STACK_SMALL].bytes = STACK_SMALL_BYTES;
	l->stacks[CO_STACK_LARGE].bytes = STACK_LARGE_BYTES;
	l->stacks[CO_STACK_HUGE].bytes = STACK_HUGE_BYTES;
#ifdef GODWIT_ASAN
	l->may_park = false;
#else
	l->may_park = !RUNNING_ON_VALGRIND;
#endif
	ctx_init_thread(&l->main);
	scope_open(&l->root, l, NULL);
	*loop_out = l;
	return ERR_NONE;
}

void loop_free(struct loop *l)
{
	ASSERT(l->root.live == 0);
	for (size_t k = 0; k <= CO_STACK_HUGE; k++)
		for (size_t i = 0; i < l->stacks[k].n; i++)
			world_stack_free(l->w, l->stacks[k].free[i], l->stacks[k].bytes);
	for (size_t i = 0; i < l->buffer_count; i++)
		mem_free(l->mem, l->buffers[i]);
	heap_free(&l->timers);
	ctx_done(&l->main);
	mem_free(l->mem, l);
}

struct world *loop_world(struct loop *l)
{
	return l->w;
}

struct mem *loop_mem(struct loop *l)
{
	return l->mem;
}

struct scope *loop_root(struct loop *l)
{
	return &l->root;
}

struct loop_stats loop_stats(const struct loop *l)
{
	return l->stats;
}

void loop_on_turn(struct loop *l, void (*fn)(void *arg), void *arg)
{
	ASSERT(l->hook_count < sizeof l->hooks / sizeof l->hooks[0]);
	l->hooks[l->hook_count++] = (struct turn_hook){ fn, arg };
}

char *loop_buffer_get(struct loop *l)
{
	if (l->buffer_count > 0)
		return l->buffers[--l->buffer_count];
	return mem_alloc_raw(l->mem, LOOP_BUFFER_BYTES);
}

void loop_buffer_put(struct loop *l, char *buffer)
{
	if (!buffer)
		return;
	if (l->buffer_count < BUFFER_POOL_MAX)
		l->buffers[l->buffer_count++] = buffer;
	else
		mem_free(l->mem, buffer);
}

static enum err stack_get(struct loop *l, unsigned kind, void **lo_out)
{
	struct stack_pool *pool = &l->stacks[kind];
	if (pool->n > 0) {
		*lo_out = pool->free[--pool->n];
		return ERR_NONE;
	}
	return world_stack_new(l->w, pool->bytes, lo_out);
}

static void stack_put(struct loop *l, unsigned kind, void *lo)
{
	struct stack_pool *pool = &l->stacks[kind];
	if (pool->n < STACK_POOL_MAX)
		pool->free[pool->n++] = lo;
	else
		world_stack_free(l->w, lo, pool->bytes);
}

/* ---- waking and parking -------------------------------------------------------------------- */

static void wake(struct co *c, enum err e)
{
	if (c->state != CO_WAITING)
		return;
	list_remove(&c->link);
	list_remove(&c->idle);
	heap_del(&c->loop->timers, &c->timer);
	c->wake_err = (uint8_t)e;
	c->state = CO_READY;
	list_push_back(&c->loop->ready, &c->link);
}

static void park(struct loop *l, struct co *c)
{
	char *hi = (char *)c->ctx.lo + c->ctx.size;
	size_t used = (size_t)(hi - (char *)c->ctx.sp);
	list_remove(&c->idle);
	if (used > PARK_MAX_BYTES)
		return;
	char *copy = mem_alloc_raw(l->mem, used);
	if (!copy)
		return; /* stays as it is: dearer, not wrong */
	memcpy(copy, c->ctx.sp, used);
	world_stack_release(l->w, c->ctx.lo, c->ctx.size);
	c->parked = copy;
	c->parked_bytes = (uint32_t)used;
	l->stats.parked++;
	l->stats.parked_now++;
}

static void unpark(struct loop *l, struct co *c)
{
	memcpy(c->ctx.sp, c->parked, c->parked_bytes);
	mem_free(l->mem, c->parked);
	c->parked = NULL;
	l->stats.unparked++;
	l->stats.parked_now--;
}

static void park_idle(struct loop *l, int64_t now_ns)
{
	while (!list_is_empty(&l->idle)) {
		struct co *c = CONTAINER_OF(l->idle.next, struct co, idle);
		if (c->idle_since_ns + PARK_AFTER_NS > now_ns)
			return;
		park(l, c);
	}
}

/* ---- running ------------------------------------------------------------------------------- */

static void resume(struct loop *l, struct co *c)
{
	list_remove(&c->link);
	if (c->parked)
		unpark(l, c);
	c->state = CO_RUNNING;
	l->stats.switches++;
	current = c;
	ctx_switch(&l->main, &c->ctx);
	current = NULL;
	if (l->dead) { /* C3 */
		struct co *d = l->dead;
		void *stack = d->ctx.lo; /* ctx_done() forgets it */
		l->dead = NULL;
		ctx_done(&d->ctx);
		stack_put(l, d->stack, stack);
		mem_free(l->mem, d);
	}
}

static void run_ready(struct loop *l)
{
	for (unsigned i = 0; i < TURN_SWITCHES_MAX && !list_is_empty(&l->ready); i++)
		resume(l, CONTAINER_OF(l->ready.next, struct co, link));
}

static void fire_timers(struct loop *l, int64_t now_ns)
{
	struct heap_node *n;
	while ((n = heap_min(&l->timers)) && n->key <= now_ns) {
		struct co *c = CONTAINER_OF(n, struct co, timer);
		wake(c, (enum err)c->timer_err);
	}
}

static void take_event(const struct world_event *ev)
{
	if (ev->ready & WORLD_JOB) {
		wake(ev->data, ERR_NONE);
		return;
	}
	if (ev->ready & WORLD_SIGNAL) {
		co_wake_all(ev->data);
		return;
	}
	struct source *s = ev->data;
	s->ready |= ev->ready;
	if (s->notify)
		co_wake_all(s->notify);
	if (s->reader && (ev->ready & WORLD_IN))
		wake(s->reader, ERR_NONE);
	if (s->writer && (ev->ready & WORLD_OUT))
		wake(s->writer, ERR_NONE);
}

static int64_t poll_deadline(const struct loop *l)
{
	if (!list_is_empty(&l->ready))
		return 0;
	struct heap_node *n = heap_min(&l->timers);
	int64_t at = n ? n->key : NEVER;
	if (l->may_park && !list_is_empty(&l->idle)) {
		struct co *c = CONTAINER_OF(l->idle.next, struct co, idle);
		int64_t park_at = c->idle_since_ns + PARK_AFTER_NS;
		at = park_at < at ? park_at : at;
	}
	return at;
}

static void loop_turn(struct loop *l)
{
	struct world_event ev[EVENTS_PER_POLL];
	l->stats.turns++;
	run_ready(l);
	for (size_t i = 0; i < l->hook_count; i++)
		l->hooks[i].fn(l->hooks[i].arg);
	if (l->root.live == 0)
		return;
	size_t n = world_poll(l->w, ev, EVENTS_PER_POLL, poll_deadline(l));
	for (size_t i = 0; i < n; i++)
		take_event(&ev[i]);
	int64_t now_ns = world_mono_ns(l->w);
	fire_timers(l, now_ns);
	if (l->may_park)
		park_idle(l, now_ns);
}

void loop_run(struct loop *l, void (*fn)(void *arg), void *arg)
{
	enum err e = scope_spawn(&l->root, "main", CO_STACK_LARGE, fn, arg);
	ASSERT(e == ERR_NONE);
	while (l->root.live > 0)
		loop_turn(l);
}

enum err loop_watch_signals(struct loop *l, struct co_queue *q)
{
	return world_watch_signals(l->w, q);
}

/* ---- scopes --------------------------------------------------------------------------------- */

void scope_open(struct scope *s, struct loop *l, struct scope *parent)
{
	*s = (struct scope){ .loop = l, .deadline_ns = NEVER };
	list_init(&s->child_scopes);
	list_init(&s->coroutines);
	list_init(&s->waiters);
	if (!parent && s != &l->root)
		parent = &l->root;
	s->parent = parent;
	if (parent)
		list_push_back(&parent->child_scopes, &s->sibling);
}

static bool scope_is_cancelled(const struct scope *s)
{
	for (; s; s = s->parent)
		if (s->cancelled)
			return true;
	return false;
}

bool scope_stopping(const struct scope *s)
{
	for (; s; s = s->parent)
		if (s->stopping || s->cancelled)
			return true;
	return false;
}

/* Wakes those below s whom a cancel (or a stop) concerns. Depth is the program's, not the network's. */
static void scope_disturb(struct scope *s, bool only_idle)
{
	LIST_EACH(&s->coroutines, it) {
		struct co *c = CONTAINER_OF(it, struct co, in_scope);
		if (c->firm || c->shield > 0 || (only_idle && !c->idle_wait))
			continue;
		wake(c, ERR_CANCELLED);
	}
	LIST_EACH(&s->child_scopes, it)
		scope_disturb(CONTAINER_OF(it, struct scope, sibling), only_idle);
}

void scope_cancel(struct scope *s)
{
	s->cancelled = true;
	scope_disturb(s, false);
}

void scope_stop(struct scope *s)
{
	s->stopping = true;
	scope_disturb(s, true);
}

static void trampoline(void *arg)
{
	struct co *c = arg;
	c->fn(c->arg);
	struct scope *s = c->scope;
	struct loop *l = c->loop;
	list_remove(&c->in_scope);
	s->live--;
	l->stats.coroutines--;
	if (s->live == 0)
		LIST_EACH(&s->waiters, it)
			wake(CONTAINER_OF(it, struct co, link), ERR_NONE);
	l->dead = c;
	ctx_switch_dying(&c->ctx, &l->main);
}

enum err scope_spawn(struct scope *s, const char *name, enum co_stack stack, void (*fn)(void *arg),
		     void *arg)
{
	struct loop *l = s->loop;
	TRY(heap_reserve(&l->timers, l->stats.coroutines + 1)); /* so that no wait fails for want of memory */
	struct co *c = mem_alloc(l->mem, sizeof *c);
	if (!c)
		return ERR_NO_MEMORY;
	void *lo;
	enum err e = stack_get(l, stack, &lo);
	if (e == ERR_NONE) {
		e = ctx_init(&c->ctx, lo, l->stacks[stack].bytes, trampoline, c);
		if (e != ERR_NONE)
			stack_put(l, stack, lo);
	}
	if (e != ERR_NONE) {
		mem_free(l->mem, c);
		return e;
	}
	c->scope = s;
	c->loop = l;
	c->name = name;
	c->fn = fn;
	c->arg = arg;
	c->deadline_ns = NEVER;
	c->stack = (uint8_t)stack;
	c->state = CO_READY;
	list_push_back(&l->ready, &c->link);
	list_push_back(&s->coroutines, &c->in_scope);
	s->live++;
	l->stats.coroutines++;
	l->stats.spawned++;
	return ERR_NONE;
}

/* ---- the running coroutine ------------------------------------------------------------------- */

struct co *co_self(void)
{
	return current;
}

struct scope *co_scope(void)
{
	return current->scope;
}

struct loop *co_loop(void)
{
	return current->loop;
}

int64_t co_set_deadline(int64_t at_ns)
{
	int64_t before = current->deadline_ns;
	current->deadline_ns = at_ns;
	return before;
}

void co_shield(void)
{
	current->shield++;
}

void co_unshield(void)
{
	ASSERT(current->shield > 0);
	current->shield--;
}

static int64_t effective_deadline(const struct co *c)
{
	int64_t at = c->deadline_ns;
	if (c->shield == 0)
		for (const struct scope *s = c->scope; s; s = s->parent)
			at = s->deadline_ns < at ? s->deadline_ns : at;
	return at;
}

/*
 * The one place where a coroutine waits. c->link may be in somebody's list already. wake_at_ns, if
 * earlier than the deadline, ends the wait with ERR_NONE.
 */
static enum err wait_here(struct list *queue, int64_t wake_at_ns)
{
	struct co *c = current;
	struct loop *l = c->loop;
	int64_t at = NEVER;
	c->timer_err = ERR_TIMEOUT;
	if (!c->firm) {
		if (c->shield == 0 && scope_is_cancelled(c->scope))
			return ERR_CANCELLED;
		at = effective_deadline(c);
		if (at <= world_mono_ns(l->w))
			return ERR_TIMEOUT;
	}
	if (wake_at_ns < at) {
		at = wake_at_ns;
		c->timer_err = ERR_NONE;
	}
	if (at != NEVER)
		TRY(heap_put(&l->timers, &c->timer, at));
	if (queue)
		list_push_back(queue, &c->link);
	c->state = CO_WAITING;
	ctx_switch(&c->ctx, &l->main);
	return (enum err)c->wake_err;
}

enum err co_yield(void)
{
	struct co *c = current;
	struct loop *l = c->loop;
	c->state = CO_READY;
	list_push_back(&l->ready, &c->link);
	ctx_switch(&c->ctx, &l->main);
	return c->shield == 0 && scope_is_cancelled(c->scope) ? ERR_CANCELLED : ERR_NONE;
}

enum err co_sleep_until(int64_t at_ns)
{
	return wait_here(NULL, at_ns);
}


enum err co_offload(void (*fn)(struct world *w, void *arg), void *arg)
{
	struct co *c = current;
	struct world_job job = { .fn = fn, .arg = arg, .data = c };
	c->firm = true;
	c->state = CO_RUNNING;
	enum err e = world_offload(c->loop->w, &job);
	if (e == ERR_NONE)
		e = wait_here(NULL, NEVER);
	c->firm = false;
	return e;
}

/* ---- queues ---------------------------------------------------------------------------------- */

void co_queue_init(struct co_queue *q)
{
	list_init(&q->waiters);
}

enum err co_wait(struct co_queue *q)
{
	return wait_here(&q->waiters, NEVER);
}

void co_wake_one(struct co_queue *q)
{
	if (!list_is_empty(&q->waiters))
		wake(CONTAINER_OF(q->waiters.next, struct co, link), ERR_NONE);
}

void co_wake_all(struct co_queue *q)
{
	while (!list_is_empty(&q->waiters))
		wake(CONTAINER_OF(q->waiters.next, struct co, link), ERR_NONE);
}

void scope_wait(struct scope *s)
{
	co_shield();
	int64_t before = co_set_deadline(NEVER);
	while (s->live > 0)
		if (wait_here(&s->waiters, NEVER) == ERR_NO_MEMORY)
			break; /* cannot happen: no deadline, so no heap entry */
	co_set_deadline(before);
	co_unshield();
}

void scope_close(struct scope *s)
{
	if (s->live > 0) {
		scope_cancel(s);
		scope_wait(s);
	}
	list_remove(&s->sibling);
}

/* ---- sources ---------------------------------------------------------------------------------- */

enum err source_open(struct source *s, struct loop *l, int fd)
{
	*s = (struct source){ .loop = l, .fd = fd, .ready = WORLD_OUT }; /* what is there to read is an event */
	return world_watch(l->w, fd, s);
}

enum err source_open_packets(struct source *s, struct loop *l, int fd)
{
	*s = (struct source){ .loop = l, .fd = fd, .ready = WORLD_OUT };
	return world_watch_packets(l->w, fd, s);
}

enum err source_wait_output(struct source *s)
{
	source_block(s, WORLD_OUT);
	TRY(world_watch_output(s->loop->w, s->fd, s, true));
	enum err e = source_wait(s, WORLD_OUT);
	enum err unwatched = world_watch_output(s->loop->w, s->fd, s, false);
	return e == ERR_NONE ? unwatched : e;
}

enum err source_open_listener(struct source *s, struct loop *l, int fd)
{
	*s = (struct source){ .loop = l, .fd = fd };
	return world_watch_listener(l->w, fd, s);
}

void source_close(struct source *s)
{
	if (s->fd < 0)
		return;
	ASSERT(!s->reader && !s->writer);
	world_close(s->loop->w, s->fd); /* which unwatches it, too */
	s->fd = -1;
}

enum err source_watch_level(struct source *s, struct loop *l, int fd, unsigned what, struct co_queue *notify)
{
	*s = (struct source){ .loop = l, .fd = fd, .notify = notify };
	return world_watch_level(l->w, fd, what, s);
}

void source_forget(struct source *s)
{
	world_unwatch(s->loop->w, s->fd);
	*s = (struct source){ .fd = -1 };
}

void source_block(struct source *s, unsigned what)
{
	s->ready &= ~what;
}

enum err source_wait(struct source *s, unsigned what)
{
	if (s->ready & what)
		return ERR_NONE;
	struct co **slot = what & WORLD_IN ? &s->reader : &s->writer;
	ASSERT(!*slot);
	*slot = current;
	enum err e = wait_here(NULL, NEVER);
	*slot = NULL;
	return e;
}

enum err source_wait_idle(struct source *s)
{
	struct co *c = current;
	if (s->ready & WORLD_IN)
		return ERR_NONE;
	if (scope_stopping(c->scope))
		return ERR_CANCELLED;
	c->idle_since_ns = world_mono_ns(c->loop->w);
	c->idle_wait = true;
	list_push_back(&c->loop->idle, &c->idle);
	enum err e = source_wait(s, WORLD_IN);
	list_remove(&c->idle);
	c->idle_wait = false;
	return e;
}

void source_interrupt(struct source *s)
{
	if (s->reader)
		wake(s->reader, ERR_CANCELLED);
	if (s->writer)
		wake(s->writer, ERR_CANCELLED);
}
