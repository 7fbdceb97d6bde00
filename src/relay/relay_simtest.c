/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers that are slow on purpose, against the timers of RFC 5321 §4.5.3.2, in virtual time (H24, H98).
 */
#include "relay/relay_rig.h"

#include <stdlib.h>

#include "base/test.h"
#include "relay/relay_server.h"
#include "world/sim.h"

#define MINUTE_NS (INT64_C(60) * 1000000000)
#define BODY_BYTES ((size_t)4 << 20)

static const struct ip server_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 1 } };
static const struct ip our_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 2 } };

struct slow {
	const char *name;
	const char *answers[8];
	int64_t byte_ns;
	bool read_no_message, cut;
	/* what must come of it, and how long it may take */
	const char *outcome;
	int64_t min_ns, max_ns;
};

struct fixture {
	const struct slow *slow;
	struct server server;
	struct rig rig;
	struct str body;
	int64_t took_ns;
	char outcome[64];
	size_t outcome_n;
};

/* coroutine */
static void serve(void *arg)
{
	struct fixture *f = arg;
	f->server = (struct server){ .address = server_ip, .byte_ns = f->slow->byte_ns, .read_no_message = f->slow->read_no_message };
	f->server.address.port = 25;
	memcpy(f->server.connections[0], f->slow->answers, sizeof f->slow->answers);
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

/* coroutine */
static void send_it(void *arg)
{
	struct fixture *f = arg;
	struct rig *r = &f->rig;
	struct pool pool;
	struct scope scope;
	struct conf_hop hop = { .host = STR("192.0.2.1"), .weight = 1 };
	r->route = (struct conf_route){ .name = STR("x"), .kind = ROUTE_KIND_SMTP, .hops = &hop, .hops_n = 1 };
	r->conf.times = (struct conf_times){ .connect = 30000, .greeting = 300000, .reply = 300000, .data_start = 120000,
					     .data_send = 180000, .data_end = 600000, .data_total = 7200000 };
	rig_message(r, 1, f->body);
	rig_delivery(r, -1);
	int64_t began_ns = world_mono_ns(r->w);
	r->d.end_ns = began_ns + 120 * MINUTE_NS;
	scope_open(&scope, r->loop, co_scope());
	pool_init(&pool, &r->env, &scope);
	struct attempt a = { .pool = &pool, .dns = &r->mx_dns, .route = &r->route, .d = &r->d };
	assert_int_equal(co_sleep_until(began_ns + 1000000000), ERR_NONE); /* the server is up */
	began_ns = world_mono_ns(r->w);
	attempt_run(&a);
	f->took_ns = world_mono_ns(r->w) - began_ns;
	pool_empty(&pool);
	scope_close(&scope);
}

static int client_main(struct world *w, void *arg)
{
	struct fixture *f = arg;
	rig_open(&f->rig, w);
	loop_run(f->rig.loop, send_it, f);
	struct buf b = buf_fixed(f->outcome, sizeof f->outcome);
	rig_outcomes(&f->rig, &b);
	f->outcome_n = b.n;
	rig_close_all(&f->rig);
	return 0;
}

static const struct slow slows[] = {
	{ "in good time", { "220 x", "250 x", "250 m", "250 r", "354 go", "250 taken" }, 1000000, false, false, "A250/2.0.0", 0, MINUTE_NS },
	/* §4.5.3.2.1: five minutes for the whole greeting, not for each byte */
	{ "greeting in drops", { "220 x" }, 4 * MINUTE_NS, false, false, "-", 5 * MINUTE_NS, 5 * MINUTE_NS + MINUTE_NS / 60 },
	{ "no greeting", { SERVER_HANG }, 0, false, false, "-", 5 * MINUTE_NS, 5 * MINUTE_NS + MINUTE_NS / 60 },
	{ "no answer to MAIL", { "220 x", "250 x", SERVER_HANG }, 0, false, false, "-", 5 * MINUTE_NS, 5 * MINUTE_NS + MINUTE_NS / 60 },
	/* §4.5.3.2.4 */
	{ "no answer to DATA", { "220 x", "250 x", "250 m", "250 r", SERVER_HANG }, 0, false, false, "-", 2 * MINUTE_NS, 2 * MINUTE_NS + MINUTE_NS / 60 },
	/* §4.5.3.2.5, H24: a window of zero */
	{ "it reads nothing", { "220 x", "250 x", "250 m", "250 r", "354 go" }, 0, true, false, "-", 3 * MINUTE_NS, 7 * MINUTE_NS },
	/* §4.5.3.2.6 */
	{ "no answer to the end", { "220 x", "250 x", "250 m", "250 r", "354 go", SERVER_HANG }, 0, false, false, "D0/4.4.2?",
	  10 * MINUTE_NS, 11 * MINUTE_NS },
	{ "no way there", { "220 x" }, 0, false, true, "-", 0, 31 * INT64_C(1000000000) },
};

static void timers(void **state)
{
	static char body[BODY_BYTES];
	memset(body, 'x', sizeof body);
	for (size_t i = 76; i + 2 <= sizeof body; i += 78)
		memcpy(body + i, "\r\n", 2);
	memcpy(body + sizeof body - 2, "\r\n", 2);
	for (size_t i = 0; i < COUNT(slows); i++) {
		struct fixture *f = calloc(1, sizeof *f);
		assert_non_null(f);
		f->slow = &slows[i];
		f->body = str_of(body + (sizeof body - 78), 78);
		if (slows[i].read_no_message)
			f->body = str_of(body, sizeof body);
		struct sim *s = sim_new(i + 1, NULL);
		struct sim_host *there = sim_host_new(s, "there", &server_ip, 0);
		struct sim_host *here = sim_host_new(s, "here", &our_ip, 0);
		if (slows[i].cut)
			sim_partition(here, &server_ip);
		sim_process_start(there, "server", server_main, f);
		sim_process_start(here, "client", client_main, f);
		sim_run_until(s, 200 * MINUTE_NS);
		if (!str_eq(str_of(f->outcome, f->outcome_n), str_z(slows[i].outcome)) || f->took_ns < slows[i].min_ns ||
		    f->took_ns > slows[i].max_ns)
			fprintf(stderr, "%s: %.*s after %lld ms\n", slows[i].name, (int)f->outcome_n, f->outcome,
				(long long)f->took_ns / 1000000);
		assert_str(str_of(f->outcome, f->outcome_n), str_z(slows[i].outcome));
		assert_true(f->took_ns >= slows[i].min_ns && f->took_ns <= slows[i].max_ns);
		sim_free(s);
		free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(timers) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
