/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process as master and queue see it, jailed, in the simulated world: parts, a message by them, a
 * file, an unknown route, no resolver, the end.
 */
#include "relay/relay.h"

#include <stdlib.h>

#include "base/test.h"
#include "relay/relay_server.h"
#include "world/sim.h"

#define SECOND_NS INT64_C(1000000000)

static const struct ip server_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 1 } };
static const struct ip our_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 2 } };

struct fixture {
	struct server server;
	struct str heard;
	char heard_room[2000];
	struct ipc *master, *queue;
	struct scope scope;
	struct arena arena;
	struct world *w;
	bool done;
};

/* ---- the other server ----------------------------------------------------------------------------------- */

/* coroutine */
static void serve(void *arg)
{
	static const char *const answers[] = { "220 x", "250-x\r\n250 PIPELINING", "250 m", "250 r", "354 go", "250 2.0.0 one", "250 m",
					       "550 5.1.1 who", "354 go", "554 none", "250 m", "250 r", "354 go", "250 2.0.0 two",
					       "221 bye" };
	struct fixture *f = arg;
	f->server = (struct server){ .address = server_ip };
	f->server.address.port = 25;
	memcpy(f->server.connections[0], answers, sizeof answers);
	server_open(&f->server, co_loop());
	scope_wait(&f->server.scope);
}

static int server_main(struct world *w, void *arg)
{
	struct loop *l;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, serve, arg);
	return 0;
}

/* ---- master and queue ------------------------------------------------------------------------------------- */

static int main_relay(struct world *w, unsigned index)
{
	return proc_main(w, &relay_ops, index);
}

static const struct sim_program programs[] = { { "relay", main_relay }, { NULL, NULL } };

static void closed(void *self, struct ipc *ch)
{
	struct fixture *f = self;
	if (ch == f->master)
		f->master = NULL;
	else
		f->queue = NULL;
}

static struct ipc *channel(struct fixture *f, int fd)
{
	struct ipc *ch;
	struct ipc_config cfg = { .loop = co_loop(), .scope = &f->scope, .fd = fd, .peer_role = ROLE_RELAY, .self = f,
				  .arena_max = 65536, .on_closed = closed };
	assert_int_equal(ipc_open(&cfg, &ch), ERR_NONE);
	return ch;
}

static YIELDS void configure(struct fixture *f)
{
	struct conf_hop hop = { .host = STR("192.0.2.1"), .weight = 1 };
	struct conf_route routes[] = { { .name = STR("to there"), .kind = ROUTE_KIND_SMTP, .hops = &hop, .hops_n = 1 },
				       { .name = STR("default"), .kind = ROUTE_KIND_MX } };
	struct conf c = { .hostname = STR("us.example.org"), .routes = routes, .routes_n = COUNT(routes) };
	c.times = (struct conf_times){ .connect = 2000, .greeting = 2000, .reply = 2000, .data_start = 2000, .data_send = 2000,
				       .data_end = 2000, .data_total = 60000 };
	struct ipc_writer w = { .b = buf_grow(loop_mem(co_loop()), 30000) };
	conf_put(&w, &c);
	assert_int_equal(buf_err(&w.b), ERR_NONE);
	struct proc_configure_in in = { .bytes = buf_str(&w.b), .last = true };
	struct proc_configure_out out;
	assert_int_equal(call_proc_configure(f->master, &in, &f->arena, &out), ERR_NONE);
	buf_free(&w.b);
}

static YIELDS void start(struct fixture *f)
{
	int fds[2], pid;
	assert_int_equal(world_pair(f->w, fds), ERR_NONE);
	struct world_spawn spec = { .role = STR("relay"), .master_fd = fds[1] };
	assert_int_equal(world_spawn(f->w, &spec, &pid), ERR_NONE);
	world_close(f->w, fds[1]);
	f->master = channel(f, fds[0]);
	configure(f);
	assert_int_equal(world_pair(f->w, fds), ERR_NONE);
	struct proc_peer_in peer = { ROLE_QUEUE, 0, fds[1], 1, 1 };
	assert_int_equal(note_proc_peer(f->master, &peer), ERR_NONE);
	struct proc_start_out out;
	assert_int_equal(call_proc_start(f->master, &(struct proc_start_in){ 0 }, &f->arena, &out), ERR_NONE);
	world_close(f->w, fds[1]);
	f->queue = channel(f, fds[0]);
}

static YIELDS struct relay_deliver_out deliver(struct fixture *f, const char *route, struct str body, uint64_t bytes, bool in_file)
{
	struct relay_rcpt rcpt = { .number = 7, .address = STR("r@example.net") };
	struct relay_deliver_in in = { .id = 1, .route = str_z(route), .domain = STR("example.net"), .reverse_path = STR(""),
				       .recipients = &rcpt, .recipients_n = 1, .prefix = STR("P: p\r\n"), .body = body,
				       .body_bytes = bytes, .in_file = in_file };
	struct relay_deliver_out out = { 0 };
	assert_int_equal(call_relay_deliver(f->queue, &in, &f->arena, &out), ERR_NONE);
	assert_int_equal(out.outcomes_n, 1);
	assert_int_equal(out.outcomes[0].number, 7);
	return out;
}

static YIELDS void part(struct fixture *f, uint64_t offset, struct str bytes, enum err expected)
{
	struct relay_part_in in = { .id = 1, .offset = offset, .bytes = bytes };
	struct relay_part_out out;
	assert_int_equal(call_relay_part(f->queue, &in, &f->arena, &out), expected);
}

static YIELDS void with_parts(struct fixture *f)
{
	part(f, 0, STR("gone\r\n"), ERR_NONE);
	part(f, 0, STR("A: b\r\n"), ERR_NONE); /* begins again */
	part(f, 6, STR("\r\n.x\r\n"), ERR_NONE);
	part(f, 7, STR("hole"), ERR_SYNTAX);
	struct relay_deliver_out out = deliver(f, "to there", STR("end\r\n"), 17, false);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_ACCEPT);
	assert_str(out.outcomes[0].text, STR("one"));
	assert_str(out.outcomes[0].by, STR("192.0.2.1 [192.0.2.1]:25"));
	assert_str(out.mx_set, STR("192.0.2.1"));
	assert_int_equal(out.reach, RELAY_REACH_REACHED);
	out = deliver(f, "to there", STR("x\r\n"), 3, false);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_REFUSE);
	assert_int_equal(out.outcomes[0].code, 550);
}

static YIELDS void with_file(struct fixture *f)
{
	int fd;
	assert_int_equal(world_open(f->w, WORLD_ABSOLUTE, STR("/body"), WORLD_READ | WORLD_REGULAR, 0, &fd), ERR_NONE);
	assert_int_equal(note_relay_file(f->queue, &(struct relay_file_in){ .id = 1, .file = fd }), ERR_NONE);
	struct relay_deliver_out out = deliver(f, "to there", STR(""), 12, true);
	world_close(f->w, fd);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_ACCEPT);
	assert_str(out.outcomes[0].text, STR("two"));
}

static YIELDS void without_way(struct fixture *f)
{
	struct relay_deliver_out out = deliver(f, "default", STR("x\r\n"), 3, false);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_DEFER); /* X1: there is no resolver */
	assert_str(out.outcomes[0].enhanced, STR("4.4.3"));
	out = deliver(f, "an old one", STR("x\r\n"), 3, false);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_DEFER);
	assert_str(out.outcomes[0].enhanced, STR("4.3.5"));
}

/* coroutine */
static void run(void *arg)
{
	struct fixture *f = arg;
	f->arena = arena_make(loop_mem(co_loop()), (size_t)4 << 20);
	scope_open(&f->scope, co_loop(), co_scope());
	assert_int_equal(co_sleep_until(world_mono_ns(f->w) + SECOND_NS), ERR_NONE); /* the server is up */
	start(f);
	with_parts(f);
	with_file(f);
	without_way(f);
	assert_int_equal(note_proc_stop(f->master, &(struct proc_stop_in){ 0 }), ERR_NONE);
	while (f->master)
		assert_int_equal(co_sleep_until(world_mono_ns(f->w) + SECOND_NS / 10), ERR_NONE);
	scope_close(&f->scope);
	arena_close(&f->arena);
	f->done = true;
}

static int master_main_played(struct world *w, void *arg)
{
	struct fixture *f = arg;
	struct loop *l;
	f->w = w;
	assert_int_equal(loop_new(w, &l), ERR_NONE);
	loop_run(l, run, f);
	loop_free(l);
	return 0;
}

static void process(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	struct sim *s = sim_new(3, programs);
	struct sim_host *there = sim_host_new(s, "there", &server_ip, 0);
	struct sim_host *here = sim_host_new(s, "here", &our_ip, 0);
	assert_int_equal(sim_file_put(here, STR("/body"), STR("B: c\r\n\r\n.y\r\n")), ERR_NONE);
	sim_process_start(there, "server", server_main, f);
	sim_process_start(here, "master", master_main_played, f);
	sim_run_until(s, 120 * SECOND_NS);
	if (!f->done || sim_failures(s))
		fprintf(stderr, "%.*s\n", STR_ARG(sim_log(s)));
	assert_true(f->done);
	assert_int_equal(sim_failures(s), 0);
	assert_int_equal(f->server.n, 1); /* one connection for all */
	assert_str(buf_str(&f->server.heard),
		   STR("EHLO us.example.org\r\n"
		       "MAIL FROM:<>\r\nRCPT TO:<r@example.net>\r\nDATA\r\nP: p\r\nA: b\r\n\r\n..x\r\nend\r\n.\r\n"
		       "MAIL FROM:<>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n.\r\n"
		       "MAIL FROM:<>\r\nRCPT TO:<r@example.net>\r\nDATA\r\nP: p\r\nB: c\r\n\r\n..y\r\n.\r\nQUIT\r\n"));
	sim_free(s);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(process) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
