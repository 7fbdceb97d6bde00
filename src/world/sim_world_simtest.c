/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world: time, processes, sockets, descriptors, jail, coroutines and calls on top. */
#include "base/test.h"

#include "co/co.h"
#include "ipc/ipc.h"
#include "world/sim.h"

static const struct ip mx_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 1 } };
static const struct ip out_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 99 } };

struct fixture {
	struct sim *s;
	struct sim_host *mx, *out;
	int64_t times[8];
	unsigned n;
	int status, pid;
	struct str path;
	size_t bytes;
};

static struct fixture make(uint64_t seed, const struct sim_program *programs)
{
	struct fixture f = { .s = sim_new(seed, programs) };
	assert_non_null(f.s);
	f.mx = sim_host_new(f.s, "mx", &mx_ip, 0);
	f.out = sim_host_new(f.s, "out", &out_ip, 0);
	return f;
}

static void finish(struct fixture *f)
{
	if (sim_failures(f->s))
		fprintf(stderr, "%.*s\n", STR_ARG(sim_log(f->s)));
	assert_int_equal(sim_failures(f->s), 0);
	sim_free(f->s);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* coroutine */
static void sleeper(void *arg)
{
	struct fixture *f = arg;
	struct world *w = loop_world(co_loop());
	f->times[0] = world_mono_ns(w);
	assert_int_equal(co_sleep_until(world_mono_ns(w) + INT64_C(4) * 3600 * 1000000000), ERR_NONE);
	f->times[1] = world_mono_ns(w);
	f->times[2] = world_wall_ms(w);
}

static int sleeper_main(struct world *w, void *arg)
{
	struct loop *l;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, sleeper, arg);
	loop_free(l);
	return 0;
}

static const bool never = false;

static void time_passes_at_once(void **state)
{
	struct fixture f = make(1, NULL);
	f.pid = sim_process_start(f.mx, "sleeper", sleeper_main, &f);
	sim_run(f.s, &never);
	int64_t slept = f.times[1] - f.times[0];
	assert_true(slept >= INT64_C(14400) * 1000000000 && slept < INT64_C(14401) * 1000000000);
	assert_true(f.times[2] >= SIM_EPOCH_MS + 14400000);
	assert_int_equal(sim_process_status(f.s, f.pid), 0);
	finish(&f);
}

/* ---- sockets ----------------------------------------------------------------------------------- */

#define ECHO_BYTES 300000u

/* coroutine */
static void echo(void *arg)
{
	struct fixture *f = arg;
	struct source listener, src;
	struct ip addr = mx_ip, peer;
	struct loop *l = co_loop();
	struct world *w = loop_world(l);
	int fd;
	char bytes[5000];
	addr.port = 25;
	assert_int_equal(world_listen(w, &addr, 0, &fd), ERR_NONE);
	assert_int_equal(source_open_listener(&listener, l, fd), ERR_NONE);
	while (world_accept(w, listener.fd, &fd, &peer) == ERR_BUSY) {
		source_block(&listener, WORLD_IN);
		assert_int_equal(source_wait(&listener, WORLD_IN), ERR_NONE);
	}
	assert_true(ip_eq(&peer, &out_ip));
	assert_int_equal(source_open(&src, l, fd), ERR_NONE);
	enum err e = ERR_NONE;
	while (e == ERR_NONE) {
		size_t n = 0, sent;
		e = world_recv(w, fd, bytes, sizeof bytes, &n);
		if (e == ERR_BUSY) {
			source_block(&src, WORLD_IN);
			e = source_wait(&src, WORLD_IN);
			continue;
		}
		struct str left = str_of(bytes, n);
		while (e == ERR_NONE && left.n > 0) {
			e = world_send(w, fd, &left, 1, &sent);
			if (e == ERR_NONE)
				left = str_sub(left, sent, left.n);
			if (e == ERR_BUSY) {
				source_block(&src, WORLD_OUT);
				e = source_wait(&src, WORLD_OUT);
			}
		}
	}
	f->status = (int)e;
	source_close(&src);
	source_close(&listener);
}

static int echo_main(struct world *w, void *arg)
{
	struct loop *l;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, echo, arg);
	loop_free(l);
	return 0;
}

struct talk {
	struct source src;
	struct scope scope;
};

/* coroutine */
static void talk_send(void *arg)
{
	struct talk *t = arg;
	struct world *w = loop_world(co_loop());
	for (size_t sent = 0; sent < ECHO_BYTES;) {
		char bytes[7000];
		size_t n = sizeof bytes < ECHO_BYTES - sent ? sizeof bytes : ECHO_BYTES - sent;
		for (size_t i = 0; i < n; i++)
			bytes[i] = (char)((sent + i) * 7 % 251);
		struct str s = str_of(bytes, n);
		enum err e = world_send(w, t->src.fd, &s, 1, &n);
		if (e == ERR_BUSY) {
			source_block(&t->src, WORLD_OUT);
			assert_int_equal(source_wait(&t->src, WORLD_OUT), ERR_NONE);
			continue;
		}
		assert_int_equal(e, ERR_NONE);
		sent += n;
	}
	world_shutdown_send(w, t->src.fd);
}

/* coroutine */
static void talk(void *arg)
{
	struct fixture *f = arg;
	struct talk t;
	struct ip to = mx_ip;
	struct world *w = loop_world(co_loop());
	int fd;
	to.port = 25;
	assert_int_equal(co_sleep_until(world_mono_ns(w) + 100000000), ERR_NONE);
	assert_int_equal(world_connect(w, &to, NULL, &fd), ERR_NONE);
	assert_int_equal(source_open(&t.src, co_loop(), fd), ERR_NONE);
	while (world_connect_result(w, fd) == ERR_BUSY) {
		source_block(&t.src, WORLD_OUT);
		assert_int_equal(source_wait(&t.src, WORLD_OUT), ERR_NONE);
	}
	scope_open(&t.scope, co_loop(), co_scope());
	assert_int_equal(scope_spawn(&t.scope, "send", CO_STACK_SMALL, talk_send, &t), ERR_NONE);
	for (enum err e = ERR_NONE; e != ERR_EOF;) {
		char bytes[3000];
		size_t n = 0;
		e = world_recv(w, fd, bytes, sizeof bytes, &n);
		if (e == ERR_BUSY) {
			source_block(&t.src, WORLD_IN);
			assert_int_equal(source_wait(&t.src, WORLD_IN), ERR_NONE);
			continue;
		}
		for (size_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], (char)((f->bytes + i) * 7 % 251));
		f->bytes += n;
	}
	scope_close(&t.scope);
	source_close(&t.src);
}

static int talk_main(struct world *w, void *arg)
{
	struct loop *l;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, talk, arg);
	loop_free(l);
	return 0;
}

static void bytes_arrive_in_order(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct fixture f = make(seed, NULL);
		(void)sim_process_start(f.mx, "echo", echo_main, &f);
		(void)sim_process_start(f.out, "talk", talk_main, &f);
		sim_run(f.s, &never);
		assert_int_equal(f.bytes, ECHO_BYTES);
		assert_int_equal(f.status, ERR_EOF);
		finish(&f);
	}
}

static void one_seed_is_one_history(void **state)
{
	int64_t at[3];
	for (unsigned i = 0; i < 3; i++) {
		struct fixture f = make(i == 2 ? 8 : 7, NULL);
		(void)sim_process_start(f.mx, "echo", echo_main, &f);
		(void)sim_process_start(f.out, "talk", talk_main, &f);
		sim_run(f.s, &never);
		at[i] = sim_now_ns(f.s);
		finish(&f);
	}
	assert_int_equal(at[0], at[1]);
	assert_int_not_equal(at[0], at[2]);
}

/* ---- processes, descriptors, calls --------------------------------------------------------------- */

#define ASK 1

static void put_nothing(struct ipc_writer *w, const void *in)
{
	put_u32(&w->b, *(const uint32_t *)in);
}

static enum err get_fd(struct ipc_reader *r, void *out)
{
	*(int *)out = ipc_get_fd(r);
	return ERR_NONE;
}

struct child {
	struct ipc *up;
	struct world *w;
};

/* Answers with the read end of a file that it writes. */
static enum err child_serves(void *self, struct ipc_request *rq)
{
	struct child *c = self;
	int fd;
	struct str text = STR("from the child");
	(void)cursor_u32(&rq->in.c);
	TRY(world_open(c->w, WORLD_ABSOLUTE, STR("/file"), WORLD_READ | WORLD_WRITE | WORLD_CREATE, 0600, &fd));
	TRY(world_pwritev(c->w, fd, &text, 1, 0));
	ipc_put_fd(rq->out, fd);
	return ERR_NONE;
}

/* coroutine */
static void child_run(void *arg)
{
	struct child *c = arg;
	struct ipc_config cfg = { .loop = co_loop(), .scope = co_scope(), .fd = WORLD_MASTER_FD,
				  .dispatch = child_serves, .self = c, .arena_max = 4096 };
	assert_int_equal(ipc_open(&cfg, &c->up), ERR_NONE);
}

static int child_main(struct world *w, unsigned index)
{
	struct child c = { .w = w };
	struct loop *l;
	assert_int_equal(index, 3);
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, child_run, &c);
	loop_free(l);
	return 5;
}

static const struct sim_program programs[] = { { "child", child_main }, { NULL, NULL } };

/* coroutine */
static void parent_run(void *arg)
{
	struct fixture *f = arg;
	struct loop *l = co_loop();
	struct world *w = loop_world(l);
	struct arena ARENA_SCOPED arena = arena_make(loop_mem(l), 4096);
	struct co_queue signals;
	struct ipc *ch;
	int fds[2], pid, got = -1;
	uint32_t zero = 0;
	co_queue_init(&signals);
	assert_int_equal(loop_watch_signals(l, &signals), ERR_NONE);
	assert_int_equal(world_pair(w, fds), ERR_NONE);
	struct world_spawn spec = { .role = STR("child"), .index = 3, .master_fd = fds[1] };
	assert_int_equal(world_spawn(w, &spec, &pid), ERR_NONE);
	world_close(w, fds[1]);
	struct ipc_config cfg = { .loop = l, .scope = co_scope(), .fd = fds[0], .arena_max = 4096 };
	assert_int_equal(ipc_open(&cfg, &ch), ERR_NONE);
	assert_int_equal(ipc_call(ch, ASK, put_nothing, &zero, &arena, get_fd, &got), ERR_NONE);
	char text[32];
	size_t n;
	assert_int_equal(world_pread(w, got, text, sizeof text, 0, &n), ERR_NONE);
	assert_str(str_of(text, n), STR("from the child"));
	world_close(w, got);
	if (f->n == 1)
		assert_int_equal(world_kill(w, pid, 1), ERR_NONE);
	else
		ipc_close(ch);
	while (world_reap(w, &f->pid, &f->status) == ERR_BUSY) {
		assert_int_equal(co_wait(&signals), ERR_NONE);
		assert_int_equal(world_next_signal(w), WORLD_SIG_CHILD);
	}
	assert_int_equal(f->pid, pid);
	if (f->n == 1) /* the channel of a killed process is at its end */
		assert_int_equal(ipc_call(ch, ASK, put_nothing, &zero, &arena, get_fd, &got), ERR_CLOSED);
}

static int parent_main(struct world *w, void *arg)
{
	struct loop *l;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, parent_run, arg);
	loop_free(l);
	return 0;
}

static void children_answer_and_end(void **state)
{
	for (unsigned killed = 0; killed < 2; killed++) {
		struct fixture f = make(3, programs);
		f.n = killed;
		(void)sim_process_start(f.mx, "parent", parent_main, &f);
		sim_run(f.s, &never);
		assert_int_equal(f.status, killed ? 256 + 9 : 5);
		finish(&f);
	}
}

static void a_call_may_be_the_last(void **state)
{
	for (uint64_t n = 1; n < 60; n++) {
		struct fixture f = make(3, programs);
		int pid = sim_process_start(f.mx, "parent", parent_main, &f);
		sim_crash_at_call(f.mx, "parent", n, false);
		sim_run(f.s, &never);
		assert_int_equal(sim_process_status(f.s, pid), sim_crash_is_armed(f.mx) ? 0 : 256 + 9);
		finish(&f);
	}
}

/* ---- jail ------------------------------------------------------------------------------------------- */

static int jailed_main(struct world *w, void *arg)
{
	struct fixture *f = arg;
	struct str dir = STR("/spool");
	int fd, other;
	assert_int_equal(world_mkdir(w, WORLD_ABSOLUTE, STR("/spool"), 0700), ERR_NONE);
	assert_int_equal(world_mkdir(w, WORLD_ABSOLUTE, STR("/else"), 0700), ERR_NONE);
	assert_int_equal(world_open(w, WORLD_ABSOLUTE, STR("/else"), WORLD_READ | WORLD_DIR, 0, &other), ERR_NONE);
	struct world_jail jail = { .role = "test", .may = WORLD_MAY_FILES, .dirs = &dir, .dir_count = 1,
				   .max_file_bytes = 100 };
	assert_int_equal(world_jail_enter(w, &jail), ERR_NONE);
	struct ip to = out_ip;
	assert_int_equal(world_connect(w, &to, NULL, &fd), ERR_DENIED);
	assert_int_equal(world_open(w, other, STR("x"), WORLD_WRITE | WORLD_CREATE, 0600, &fd), ERR_DENIED);
	f->n = (unsigned)sim_failures(f->s);
	assert_int_equal(world_open(w, WORLD_ABSOLUTE, STR("/spool/x"), WORLD_WRITE | WORLD_CREATE, 0600, &fd), ERR_NONE);
	assert_int_equal(world_pwritev(w, fd, &STR("0123456789"), 1, 95), ERR_LIMIT);
	return 1;
}

static void jails_are_checked(void **state)
{
	struct fixture f = make(1, NULL);
	(void)sim_process_start(f.mx, "jailed", jailed_main, &f);
	sim_run(f.s, &never);
	assert_int_equal(f.n, 2);
	assert_int_equal(sim_failures(f.s), 2);
	sim_free(f.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_passes_at_once),	  cmocka_unit_test(bytes_arrive_in_order),
		cmocka_unit_test(one_seed_is_one_history), cmocka_unit_test(children_answer_and_end),
		cmocka_unit_test(a_call_may_be_the_last),  cmocka_unit_test(jails_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
