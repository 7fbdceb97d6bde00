/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of coroutines, scopes, deadlines, sources and parking, in the real world. */
#include "base/test.h"
#include "co/stream.h"

struct fixture {
	struct world *w;
	struct loop *l;
	char trail[256]; /* what happened, a letter each */
	size_t n;
	struct scope scope;
	struct co_queue q;
	enum err seen;
	int fds[2];
	struct source a, b;
	int64_t took_ns;
};

static void mark(struct fixture *f, char c)
{
	assert_true(f->n + 1 < sizeof f->trail);
	f->trail[f->n++] = c;
	f->trail[f->n] = '\0';
}

static struct fixture *new_fixture(void)
{
	struct world *w = world_linux_new();
	assert_non_null(w);
	struct fixture *f = mem_alloc(world_mem(w), sizeof *f);
	assert_non_null(f);
	f->w = w;
	assert_int_equal(loop_new(w, &f->l), ERR_NONE);
	co_queue_init(&f->q);
	return f;
}

static void end_fixture(struct fixture *f)
{
	struct world *w = f->w;
	loop_free(f->l);
	mem_free(world_mem(w), f);
	assert_int_equal(mem_blocks(world_mem(w)), 1); /* the world itself */
	world_linux_free(w);
}

static void run(struct fixture *f, void (*fn)(void *))
{
	loop_run(f->l, fn, f);
}

/* ---- spawning and waiting ------------------------------------------------------------------------ */

/* coroutine */
static void child_b(void *arg)
{
	struct fixture *f = arg;
	mark(f, 'b');
	assert_int_equal(co_yield(), ERR_NONE);
	mark(f, 'B');
}

/* coroutine */
static void child_c(void *arg)
{
	mark(arg, 'c');
}

/* coroutine */
static void parent(void *arg)
{
	struct fixture *f = arg;
	struct scope s;
	scope_open(&s, f->l, co_scope());
	assert_int_equal(scope_spawn(&s, "b", CO_STACK_SMALL, child_b, f), ERR_NONE);
	assert_int_equal(scope_spawn(&s, "c", CO_STACK_SMALL, child_c, f), ERR_NONE);
	mark(f, 'a');
	scope_wait(&s);
	scope_close(&s);
	mark(f, 'A');
}

static void test_a_scope_waits_for_its_children(void **state)
{
	struct fixture *f = new_fixture();
	run(f, parent);
	assert_string_equal(f->trail, "abcBA");
	end_fixture(f);
}

/* coroutine */
static void waits_for_ever(void *arg)
{
	struct fixture *f = arg;
	f->seen = co_wait(&f->q);
	mark(f, 'x');
}

/* coroutine */
static void canceller(void *arg)
{
	struct fixture *f = arg;
	struct scope s, inner;
	scope_open(&s, f->l, co_scope());
	scope_open(&inner, f->l, &s);
	assert_int_equal(scope_spawn(&inner, "w", CO_STACK_SMALL, waits_for_ever, f), ERR_NONE);
	assert_int_equal(co_yield(), ERR_NONE);
	scope_cancel(&s); /* reaches down */
	scope_wait(&inner);
	scope_close(&inner);
	scope_close(&s);
	mark(f, 'y');
}

static void test_cancel_reaches_inner_scopes(void **state)
{
	struct fixture *f = new_fixture();
	run(f, canceller);
	assert_string_equal(f->trail, "xy");
	assert_int_equal(f->seen, ERR_CANCELLED);
	end_fixture(f);
}

/* coroutine */
static void shielded(void *arg)
{
	struct fixture *f = arg;
	co_shield();
	f->seen = co_sleep_until(world_mono_ns(f->w) + 5 * 1000000LL);
	co_unshield();
	mark(f, f->seen == ERR_NONE ? 'k' : '!');
	mark(f, co_yield() == ERR_CANCELLED ? 'c' : '!');
}

/* coroutine */
static void cancels_shielded(void *arg)
{
	struct fixture *f = arg;
	struct scope s;
	scope_open(&s, f->l, co_scope());
	assert_int_equal(scope_spawn(&s, "s", CO_STACK_SMALL, shielded, f), ERR_NONE);
	assert_int_equal(co_yield(), ERR_NONE);
	scope_close(&s);
}

static void test_a_shield_holds_cancel_off(void **state)
{
	struct fixture *f = new_fixture();
	run(f, cancels_shielded);
	assert_string_equal(f->trail, "kc");
	end_fixture(f);
}

/* ---- deadlines ------------------------------------------------------------------------------------ */

/* coroutine */
static void deadlines(void *arg)
{
	struct fixture *f = arg;
	int64_t now = world_mono_ns(f->w);
	assert_int_equal(co_set_deadline(now + 3 * 1000000LL), NEVER);
	mark(f, co_wait(&f->q) == ERR_TIMEOUT ? 't' : '!');
	mark(f, co_sleep_until(now + 10 * 1000000000LL) == ERR_TIMEOUT ? 't' : '!'); /* it has passed for good */
	co_set_deadline(NEVER);
	mark(f, co_sleep_until(world_mono_ns(f->w) + 2 * 1000000LL) == ERR_NONE ? 's' : '!');
	struct scope *mine = co_scope();
	mine->deadline_ns = world_mono_ns(f->w) + 2 * 1000000LL; /* the scope's is the nearer one */
	co_set_deadline(world_mono_ns(f->w) + 10 * 1000000000LL);
	mark(f, co_wait(&f->q) == ERR_TIMEOUT ? 'T' : '!');
	mine->deadline_ns = NEVER;
}

static void test_the_nearer_deadline_wins(void **state)
{
	struct fixture *f = new_fixture();
	run(f, deadlines);
	assert_string_equal(f->trail, "ttsT");
	end_fixture(f);
}

/* coroutine */
static void wakes(void *arg)
{
	struct fixture *f = arg;
	co_wake_all(&f->q);
	mark(f, 'w');
}

/* coroutine */
static void woken(void *arg)
{
	struct fixture *f = arg;
	assert_int_equal(scope_spawn(co_scope(), "w", CO_STACK_SMALL, wakes, f), ERR_NONE);
	mark(f, co_wait(&f->q) == ERR_NONE ? 'n' : '!');
}

static void test_a_wake_ends_a_wait(void **state)
{
	struct fixture *f = new_fixture();
	run(f, woken);
	assert_string_equal(f->trail, "wn");
	end_fixture(f);
}

/* ---- helper threads ------------------------------------------------------------------------------- */

static void job(struct world *w, void *arg)
{
	*(int64_t *)arg = world_measure_ns(w);
}

/* coroutine */
static void offloads(void *arg)
{
	struct fixture *f = arg;
	for (int i = 0; i < 100; i++) {
		f->took_ns = 0;
		assert_int_equal(co_offload(job, &f->took_ns), ERR_NONE);
		assert_true(f->took_ns > 0);
	}
	mark(f, 'j');
}

static void test_jobs_come_back(void **state)
{
	struct fixture *f = new_fixture();
	run(f, offloads);
	assert_string_equal(f->trail, "j");
	end_fixture(f);
}

/* coroutine */
static void offloads_while_cancelled(void *arg)
{
	struct fixture *f = arg;
	int64_t at = 0;
	assert_int_equal(co_offload(job, &at), ERR_NONE); /* its argument is on this stack: it must not leave early */
	assert_true(at > 0);
	mark(f, 'o');
}

/* coroutine */
static void cancels_a_job(void *arg)
{
	struct fixture *f = arg;
	struct scope s;
	scope_open(&s, f->l, co_scope());
	assert_int_equal(scope_spawn(&s, "o", CO_STACK_SMALL, offloads_while_cancelled, f), ERR_NONE);
	assert_int_equal(co_yield(), ERR_NONE);
	scope_close(&s);
}

static void test_cancel_waits_for_a_running_job(void **state)
{
	struct fixture *f = new_fixture();
	run(f, cancels_a_job);
	assert_string_equal(f->trail, "o");
	end_fixture(f);
}

/* ---- streams, parking ------------------------------------------------------------------------------ */

struct pair {
	struct fixture *f;
	struct stream a, b;
	char deep[16]; /* what the reader kept on its stack while parked */
};

static YIELDS void open_pair(struct pair *p)
{
	struct ip any = { .family = IP_V4, .b = { 127, 0, 0, 1 } }, peer;
	int listener, client, server;
	assert_int_equal(world_listen(p->f->w, &any, 0, &listener), ERR_NONE);
	assert_int_equal(world_local_addr(p->f->w, listener, &any), ERR_NONE);
	assert_int_equal(world_connect(p->f->w, &any, NULL, &client), ERR_NONE);
	while (world_accept(p->f->w, listener, &server, &peer) == ERR_BUSY)
		assert_int_equal(co_yield(), ERR_NONE);
	assert_true(ip_is_loopback(&peer));
	world_close(p->f->w, listener);
	assert_int_equal(stream_open(&p->a, p->f->l, client), ERR_NONE);
	assert_int_equal(stream_open(&p->b, p->f->l, server), ERR_NONE);
}

/* coroutine */
static void idle_reader(void *arg)
{
	struct pair *p = arg;
	char kept[16] = "kept on stack";
	assert_int_equal(stream_fill_idle(&p->b), ERR_NONE);
	assert_str(stream_input(&p->b), STR("hello"));
	stream_consume(&p->b, 5);
	memcpy(p->deep, kept, sizeof kept);
}

/* coroutine */
static void parks(void *arg)
{
	struct pair *p = arg;
	open_pair(p);
	assert_int_equal(scope_spawn(co_scope(), "r", CO_STACK_SMALL, idle_reader, p), ERR_NONE);
	assert_int_equal(co_sleep_until(world_mono_ns(p->f->w) + 300 * 1000000LL), ERR_NONE);
	mark(p->f, loop_stats(p->f->l).parked_now == 1 ? 'p' : 'u');
	assert_int_equal(stream_write(&p->a, STR("hello")), ERR_NONE);
	assert_int_equal(stream_flush(&p->a), ERR_NONE);
	assert_int_equal(co_sleep_until(world_mono_ns(p->f->w) + 20 * 1000000LL), ERR_NONE);
	assert_string_equal(p->deep, "kept on stack");
	mark(p->f, loop_stats(p->f->l).parked_now == 0 ? 'n' : '!');
	stream_close(&p->a);
	stream_close(&p->b);
}

static void test_an_idle_session_is_parked_and_comes_back(void **state)
{
	struct fixture *f = new_fixture();
	struct pair *p = mem_alloc(world_mem(f->w), sizeof *p);
	assert_non_null(p);
	p->f = f;
	loop_run(f->l, parks, p);
	/* Sanitizer builds and valgrind do not park. */
	assert_true(!strcmp(f->trail, "pn") || !strcmp(f->trail, "un"));
	mem_free(world_mem(f->w), p);
	end_fixture(f);
}

/* coroutine */
static void stopped_reader(void *arg)
{
	struct pair *p = arg;
	mark(p->f, stream_fill_idle(&p->b) == ERR_CANCELLED ? 's' : '!');
	mark(p->f, stream_write(&p->b, STR("421 bye")) == ERR_NONE && stream_flush(&p->b) == ERR_NONE ? 'b' : '!');
}

/* coroutine */
static void stops(void *arg)
{
	struct pair *p = arg;
	struct scope s;
	open_pair(p);
	scope_open(&s, p->f->l, co_scope());
	assert_int_equal(scope_spawn(&s, "r", CO_STACK_SMALL, stopped_reader, p), ERR_NONE);
	assert_int_equal(co_yield(), ERR_NONE);
	scope_stop(&s);
	scope_wait(&s);
	scope_close(&s);
	assert_int_equal(stream_fill(&p->a), ERR_NONE);
	assert_str(stream_input(&p->a), STR("421 bye"));
	stream_close(&p->b);
	stream_consume(&p->a, 7);
	mark(p->f, stream_fill(&p->a) == ERR_EOF ? 'e' : '!');
	stream_close(&p->a);
}

static void test_stop_is_seen_at_the_boundary_and_leaves_time_to_speak(void **state)
{
	struct fixture *f = new_fixture();
	struct pair *p = mem_alloc(world_mem(f->w), sizeof *p);
	assert_non_null(p);
	p->f = f;
	loop_run(f->l, stops, p);
	assert_string_equal(f->trail, "sbe");
	mem_free(world_mem(f->w), p);
	end_fixture(f);
}

/* coroutine */
static void big_writer(void *arg)
{
	struct pair *p = arg;
	for (int i = 0; i < 4000; i++)
		assert_int_equal(stream_write(&p->a, STR("0123456789012345678901234567890123456789012345678901234567890123"
						       "0123456789012345678901234567890123456789012345678901234567890123")), ERR_NONE);
	assert_int_equal(stream_flush(&p->a), ERR_NONE);
	stream_close(&p->a);
}

/* coroutine */
static void big_transfer(void *arg)
{
	struct pair *p = arg;
	size_t total = 0;
	enum err e;
	open_pair(p);
	assert_int_equal(scope_spawn(co_scope(), "w", CO_STACK_SMALL, big_writer, p), ERR_NONE);
	while ((e = stream_fill(&p->b)) == ERR_NONE) {
		total += stream_input(&p->b).n;
		stream_consume(&p->b, stream_input(&p->b).n);
	}
	assert_int_equal(e, ERR_EOF);
	assert_int_equal(total, 4000 * 128);
	stream_close(&p->b);
}

static void test_a_writer_waits_for_its_reader(void **state)
{
	struct fixture *f = new_fixture();
	struct pair *p = mem_alloc(world_mem(f->w), sizeof *p);
	assert_non_null(p);
	p->f = f;
	loop_run(f->l, big_transfer, p);
	mem_free(world_mem(f->w), p);
	end_fixture(f);
}

/* ---- level-triggered sources: for libraries ---- */

/* coroutine */
static void watches_levels(void *arg)
{
	struct fixture *f = arg;
	struct co_queue notify;
	struct source s;
	int fds[2];
	co_queue_init(&notify);
	assert_int_equal(world_pair(f->w, fds), ERR_NONE);
	assert_int_equal(source_watch_level(&s, f->l, fds[0], WORLD_IN, &notify), ERR_NONE);
	(void)co_set_deadline(world_mono_ns(f->w) + 20 * 1000000LL);
	assert_int_equal(co_wait(&notify), ERR_TIMEOUT); /* nothing is there yet, and writing is not asked for */
	(void)co_set_deadline(world_mono_ns(f->w) + 5000 * 1000000LL);
	struct str text = STR("x");
	assert_int_equal(world_packet_send(f->w, fds[1], &text, 1, NULL, 0), ERR_NONE);
	for (int i = 0; i < 3; i++) { /* as long as nobody reads it */
		assert_int_equal(co_wait(&notify), ERR_NONE);
		assert_int_equal(s.ready, WORLD_IN);
		s.ready = 0;
	}
	assert_int_equal(source_watch_level(&s, f->l, fds[0], WORLD_OUT, &notify), ERR_NONE); /* on the same one */
	assert_int_equal(co_wait(&notify), ERR_NONE);
	assert_int_equal(s.ready, WORLD_OUT);
	source_forget(&s);
	(void)co_set_deadline(world_mono_ns(f->w) + 20 * 1000000LL);
	assert_int_equal(co_wait(&notify), ERR_TIMEOUT);
	world_close(f->w, fds[0]);
	world_close(f->w, fds[1]);
}

static void test_a_level_is_told_each_turn(void **state)
{
	struct fixture *f = new_fixture();
	loop_run(f->l, watches_levels, f);
	end_fixture(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_scope_waits_for_its_children),
		cmocka_unit_test(test_cancel_reaches_inner_scopes),
		cmocka_unit_test(test_a_shield_holds_cancel_off),
		cmocka_unit_test(test_the_nearer_deadline_wins),
		cmocka_unit_test(test_a_wake_ends_a_wait),
		cmocka_unit_test(test_jobs_come_back),
		cmocka_unit_test(test_cancel_waits_for_a_running_job),
		cmocka_unit_test(test_an_idle_session_is_parked_and_comes_back),
		cmocka_unit_test(test_stop_is_seen_at_the_boundary_and_leaves_time_to_speak),
		cmocka_unit_test(test_a_writer_waits_for_its_reader),
		cmocka_unit_test(test_a_level_is_told_each_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
