/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated universe: clock, seed, events, fibers, log; see sim.h. Runs in godwit-sim and in tests.
 *
 * Everything happens from one heap of events, in order of time; what stands at the same time was put
 * there with jitter from the seed, so that each seed tries another order.
 */
#include "world/sim_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef GODWIT_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define GUARD_BYTES ((size_t)4096)
#define LOG_MAX ((size_t)1 << 30)
#define LOG_TAIL 6000u

const char *const sim_op_names[SIM_OPS] = { "open",   "read",  "write",	  "sync",   "rename",
					    "unlink", "mkdir", "reserve", "memory", "send" };

void *sim_alloc(struct sim *s, size_t n)
{
	void *p = mem_alloc(s->mem, n);
	if (!p)
		sim_abort(s, "the simulator has no memory for %zu bytes", n);
	return p;
}

void sim_dealloc(struct sim *s, void *p)
{
	mem_free(s->mem, p);
}

/* ---- random numbers: splitmix64 --------------------------------------------------------------- */

uint64_t sim_random(struct sim *s)
{
	uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
	return n ? sim_random(s) % n : 0;
}

bool sim_chance(struct sim *s, unsigned percent)
{
	return sim_below(s, 100) < percent;
}

/* ---- log and failures ---------------------------------------------------------------------------- */

static void log_head(struct sim *s, struct buf *b)
{
	buf_addf(b, "%lld.%06lld ", (long long)(s->now_ns / SECOND), (long long)(s->now_ns % SECOND / US));
}

static void log_text(struct sim *s, const char *prefix, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
static void log_text(struct sim *s, const char *prefix, const char *fmt, va_list args)
{
	char text[2048];
	size_t before = s->log.n;
	vsnprintf(text, sizeof text, fmt, args);
	log_head(s, &s->log);
	buf_add(&s->log, str_z(prefix));
	buf_add(&s->log, str_z(text));
	buf_add_char(&s->log, '\n');
	if (s->verbose)
		fwrite(s->log.p + before, 1, s->log.n - before, stderr);
}

void sim_note(struct sim *s, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	log_text(s, "-- ", fmt, args);
	va_end(args);
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	s->failures++;
	log_text(s, "FAILED ", fmt, args);
	va_end(args);
}

void sim_abort(struct sim *s, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	log_text(s, "BUG ", fmt, args);
	va_end(args);
	size_t from = s->log.n > LOG_TAIL ? s->log.n - LOG_TAIL : 0;
	if (!s->verbose)
		fwrite(s->log.p + from, 1, s->log.n - from, stderr);
	fprintf(stderr, "simulator, seed %llu\n", (unsigned long long)s->seed);
	abort();
}

size_t sim_failures(const struct sim *s)
{
	return s->failures;
}

struct str sim_log(const struct sim *s)
{
	return buf_str(&s->log);
}

void sim_set_verbose(struct sim *s)
{
	s->verbose = true;
}

/* ---- stacks ---------------------------------------------------------------------------------------- */

static unsigned stack_kind(struct sim *s, size_t bytes)
{
	for (unsigned k = 0; k < SIM_STACKS; k++)
		if (s->stacks[k].bytes == bytes || s->stacks[k].bytes == 0) {
			s->stacks[k].bytes = bytes;
			return k;
		}
	sim_abort(s, "a fourth size of stack: %zu", bytes);
}

void *sim_stack_get(struct sim *s, size_t bytes)
{
	unsigned k = stack_kind(s, bytes);
	if (s->stacks[k].n > 0)
		return s->stacks[k].v[--s->stacks[k].n];
	char *p = mmap(NULL, bytes + GUARD_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (p == MAP_FAILED || mprotect(p, GUARD_BYTES, PROT_NONE) != 0)
		sim_abort(s, "no memory for a stack");
	return p + GUARD_BYTES;
}

void sim_stack_put(struct sim *s, void *lo, size_t bytes)
{
	unsigned k = stack_kind(s, bytes);
	if (s->stacks[k].n == s->stacks[k].cap) {
		size_t cap = s->stacks[k].cap ? s->stacks[k].cap * 2 : 64;
		void **v = mem_resize(s->mem, s->stacks[k].v, cap * sizeof *v);
		if (!v)
			sim_abort(s, "no memory");
		s->stacks[k].v = v;
		s->stacks[k].cap = cap;
	}
	s->stacks[k].v[s->stacks[k].n++] = lo;
}

static void stacks_free(struct sim *s)
{
	for (unsigned k = 0; k < SIM_STACKS; k++)
		for (size_t i = 0; i < s->stacks[k].n; i++) {
#ifdef GODWIT_ASAN
			/* Frames that never returned left their marks; others may get this memory. */
			__asan_unpoison_memory_region(s->stacks[k].v[i], s->stacks[k].bytes);
#endif
			munmap((char *)s->stacks[k].v[i] - GUARD_BYTES, s->stacks[k].bytes + GUARD_BYTES);
		}
}

/* ---- events -------------------------------------------------------------------------------------------- */

void sim_at(struct sim *s, struct sim_event *ev, int64_t at_ns)
{
	if (heap_put(&s->events, &ev->node, at_ns > s->now_ns ? at_ns : s->now_ns) != ERR_NONE)
		sim_abort(s, "no memory");
}

void sim_never(struct sim *s, struct sim_event *ev)
{
	heap_del(&s->events, &ev->node);
}

int64_t sim_now_ns(const struct sim *s)
{
	return s->now_ns;
}

/* After a fiber gave up the processor: did it die, or take the machine with it? */
static void after_event(struct sim *s)
{
	if (s->crash_now) {
		struct sim_host *h = s->crash_now;
		s->crash_now = NULL;
		sim_host_crash(h);
	}
	sim_bury(s);
}

static void step(struct sim *s, struct heap_node *n)
{
	struct sim_event *ev = CONTAINER_OF(n, struct sim_event, node);
	if (n->key > s->now_ns)
		s->now_ns = n->key;
	heap_del(&s->events, n);
	ev->fire(s, ev);
	after_event(s);
}

void sim_run(struct sim *s, const bool *stop)
{
	struct heap_node *n;
	while (!*stop && (n = heap_min(&s->events)))
		step(s, n);
}

void sim_run_until(struct sim *s, int64_t at_ns)
{
	struct heap_node *n;
	while ((n = heap_min(&s->events)) && n->key <= at_ns)
		step(s, n);
	if (s->now_ns < at_ns)
		s->now_ns = at_ns;
}

/* ---- fibers --------------------------------------------------------------------------------------------- */

static void fiber_resume(struct sim *s, struct sim_event *ev)
{
	struct sim_fiber *f = CONTAINER_OF(ev, struct sim_fiber, wake);
	s->current = f;
	ctx_switch(&s->main_ctx, &f->ctx);
	s->current = NULL;
}

void sim_fiber_start(struct sim_fiber *f, struct world *w, void (*fn)(void *arg), int64_t at_ns)
{
	f->w = w;
	f->lo = sim_stack_get(w->sim, SIM_FIBER_BYTES);
	f->wake.fire = fiber_resume;
	f->exists = true;
	if (ctx_init(&f->ctx, f->lo, SIM_FIBER_BYTES, fn, f) != ERR_NONE)
		sim_abort(w->sim, "ctx_init");
	sim_at(w->sim, &f->wake, at_ns);
}

void sim_fiber_wait(struct sim_fiber *f)
{
	ctx_switch(&f->ctx, &f->w->sim->main_ctx);
}

void sim_fiber_leave(struct sim_fiber *f)
{
	ctx_switch_dying(&f->ctx, &f->w->sim->main_ctx);
}

void sim_fiber_free(struct sim_fiber *f)
{
	if (!f->exists)
		return;
	sim_never(f->w->sim, &f->wake);
	ctx_done(&f->ctx);
	sim_stack_put(f->w->sim, f->lo, SIM_FIBER_BYTES);
	f->exists = false;
}

/* ---- first and last ------------------------------------------------------------------------------------------ */

struct sim *sim_new(uint64_t seed, const struct sim_program *programs)
{
	struct mem *mem = mem_new(0);
	struct sim *s = mem ? mem_alloc(mem, sizeof *s) : NULL;
	if (!s)
		return NULL;
	s->mem = mem;
	s->seed = seed;
	s->random = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
	s->now_ns = SECOND;
	s->programs = programs;
	s->next_pid = 100;
	s->next_port = 40000;
	s->events = heap_make(mem);
	s->log = buf_grow(mem, LOG_MAX);
	list_init(&s->hosts);
	list_init(&s->processes);
	list_init(&s->graves);
	list_init(&s->listeners);
	ctx_init_thread(&s->main_ctx);
	return s;
}

void sim_free(struct sim *s)
{
	if (!s)
		return;
	s->ending = true;
	LIST_EACH(&s->processes, it)
		sim_process_end(CONTAINER_OF(it, struct world, link), 256 + 9);
	sim_bury(s);
	stacks_free(s);
	ctx_done(&s->main_ctx);
	mem_destroy(s->mem);
}
