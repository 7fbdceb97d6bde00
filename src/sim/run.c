/* SPDX-License-Identifier: Apache-2.0 */
/* One run of one scenario: see run.h. */
#include "sim/run.h"

#include <stdarg.h>
#include <stdio.h>

#include "sim/peer.h"
#include "sim/script.h"

#define ARENA_MAX ((size_t)1 << 30)
#define BOOT_NS (INT64_C(5) * 1000000000)
#define WATCH_NS (INT64_C(1) * 1000000000)
#define SETTLE_NS (INT64_C(20) * 1000000000)
#define VIRTUAL_MAX_NS (INT64_C(400) * 24 * 3600 * 1000000000)

void run_fail(struct run *r, const struct statement *st, const char *fmt, ...)
{
	char text[1500];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	/* With an operation failing, replies may be others: then only the oracle judges. */
	void (*tell)(struct sim *s, const char *f, ...) = r->opt->fault.count ? sim_note : sim_fail;
	tell(r->s, "%.*s.scn:%u: %s", STR_ARG(r->sc->name), st ? st->line : 0, text);
}

/* ---- the service manager -------------------------------------------------------------------------- */

/* coroutine */
static void service_manager(void *arg)
{
	struct run *r = arg;
	while (co_sleep_until(world_mono_ns(r->w) + WATCH_NS) == ERR_NONE) {
		if (!sim_host_is_up(r->mx)) {
			if (co_sleep_until(world_mono_ns(r->w) + BOOT_NS) != ERR_NONE)
				return;
			sim_host_boot(r->mx);
		}
		if (r->stopped || sim_process_lives(r->s, r->master_pid))
			continue;
		sim_note(r->s, "the service manager starts the server again");
		r->log_from = sim_log(r->s).n;
		r->master_pid = sim_program_start(r->mx, "master");
	}
}

/* ---- from first to last ------------------------------------------------------------------------------- */

static void write_configuration(struct run *r)
{
	struct buf b = buf_grow(r->mem, 1 << 20);
	buf_add(&b, STR("directory " RUN_DIRECTORY ";\nlisten smtp { address *:25; tls none; }\n"));
	for (const struct statement *st = r->sc->first; st; st = st->next)
		if (word_is(st, 0, "config"))
			buf_add(&b, st->text);
	for (const struct statement *st = r->sc->first; st; st = st->next)
		if (word_is(st, 0, "dns")) { /* the first one is there from the beginning */
			script_dns(r, st);
			break;
		}
	if (sim_file_put(r->mx, STR(RUN_CONF_PATH), buf_str(&b)) != ERR_NONE)
		sim_fail(r->s, "cannot write the configuration");
	buf_free(&b);
}

/* From now on operations count, and the planned one fails. */
static void arm(struct run *r)
{
	for (unsigned k = 0; k < SIM_OPS; k++)
		r->ops_before[k] = sim_op_count(r->mx, (enum sim_op)k);
	r->armed = true;
	if (r->opt->fault.count)
		sim_fault_add(r->mx, &r->opt->fault);
}

static void disarm(struct run *r)
{
	for (unsigned k = 0; k < SIM_OPS; k++)
		r->result->ops[k] = sim_op_count(r->mx, (enum sim_op)k) - r->ops_before[k];
	sim_faults_clear(r->mx);
	sim_disk_set_free(r->mx, UINT64_MAX);
	sim_crash_at_call(r->mx, "nobody", UINT64_MAX, false);
}

#define EMPTY_STEP_NS (INT64_C(10) * 60 * 1000000000)
#define EMPTY_STEPS 300u

/* Every message has had its fate: retries and expiry take hours of the virtual clock. */
static YIELDS void wait_until_empty(struct run *r)
{
	for (unsigned i = 0; i < EMPTY_STEPS; i++) {
		struct arena ARENA_SCOPED arena = arena_make(r->mem, (size_t)8 << 20);
		struct queue_list_in in = { .limit = 1 };
		struct queue_list_out out = { 0 };
		if (server_queue_list(r, &in, &arena, &out) == ERR_NONE && out.messages == 0)
			return;
		run_sleep(r, EMPTY_STEP_NS);
	}
	sim_fail(r->s, "the queue does not become empty");
}

/* Some operation fails, a few times, soon. What came of it may never be heard of, as with a crash. */
static void fault_at_random(struct run *r)
{
	static const struct {
		enum sim_op op;
		enum err e;
	} kinds[] = { { SIM_WRITE, ERR_NO_SPACE }, { SIM_READ, ERR_IO }, { SIM_OPEN, ERR_LIMIT }, { SIM_MEMORY, ERR_NO_MEMORY },
		      { SIM_SEND, ERR_LIMIT }, { SIM_RENAME, ERR_IO } };
	static const char *const roles[] = { "smtpd", "queue", "local", "relay", "lookup", "resolver" };
	size_t k = sim_below(r->s, 2 * (sizeof kinds / sizeof kinds[0]));
	if (k >= sizeof kinds / sizeof kinds[0])
		return;
	struct sim_fault f = { roles[sim_below(r->s, sizeof roles / sizeof roles[0])], kinds[k].op, 1 + sim_below(r->s, 3000),
			       1 + sim_below(r->s, 3), kinds[k].e };
	sim_fault_add(r->mx, &f);
	r->crashes++;
}

/*
 * Random traffic: crashes of all kinds at random calls while the load runs, and while what was put off is tried
 * again. A recipient of the load is here, or at one of the servers that main.c names.
 */
static YIELDS void play_random(struct run *r)
{
	static const char *const roles[] = { NULL,    "master", "smtpd",    "queue",   "local",
					     "relay", "lookup", "resolver", "control" };
	static const char *const senders[] = { "ann@example.org", "x@gone.example", "" };
	static const char *const to[] = { "ann@example.org",   "bob@example.org",   "cat+detail@example.org",
					  "away@example.org",  "joe@fast.example",  "joe@moody.example",
					  "joe@cuts.example",  "no@fast.example",   "joe@dead.example",
					  "joe@second.example", "joe@gone.example", "kim@moody.example",
					  "joe@box.example",   "kim@box.example",   "joe@hub.example", "kim@hub.example" };
	struct load l = { .r = r, .messages = r->opt->messages, .connections = 8, .senders = senders, .senders_n = 3 };
	while (l.to_n < sizeof to / sizeof to[0]) {
		l.to[l.to_n] = str_z(to[l.to_n]);
		l.to_n++;
	}
	l.from = (struct ip){ .family = IP_V4, .bits = 32, .b = { 198, 51, 100, 9 } };
	load_run(&l);
	for (unsigned i = 0; i < r->opt->crashes; i++) {
		unsigned which = (unsigned)sim_below(r->s, sizeof roles / sizeof roles[0] + 3);
		const char *role = which < sizeof roles / sizeof roles[0] ? roles[which] : NULL;
		sim_crash_at_call(r->mx, role, 1 + sim_below(r->s, 20000), role == NULL);
		for (unsigned k = 0; k < 600 && sim_crash_is_armed(r->mx); k++)
			run_sleep(r, INT64_C(20) * 1000000);
		r->crashes++;
		peers_shake(r);
		fault_at_random(r);
		if (sim_below(r->s, 6) == 0 && server_ready(r)) { /* in order, under load */
			server_stop(r);
			if (!server_start(r))
				sim_fail(r->s, "the server does not start again");
		}
	}
	scope_wait(&r->background);
	if (sim_below(r->s, 2) == 0)
		peers_calm(r); /* else some stay away, and mail for them comes back */
	sim_crash_at_call(r->mx, "queue", 1 + sim_below(r->s, 50000), false); /* while it tries again */
	r->crashes++;
	wait_until_empty(r);
	peers_calm(r);
}

static YIELDS void play(struct run *r)
{
	peers_start(r);
	if (!server_start(r)) {
		sim_fail(r->s, "the server does not start");
		return;
	}
	script_accounts(r);
	arm(r);
	if (r->opt->random)
		play_random(r);
	else
		script_play(r);
	scope_wait(&r->background);
	disarm(r);
	if (r->stopped && !server_start(r))
		sim_fail(r->s, "the server does not start again");
	if (!server_ready(r))
		sim_fail(r->s, "the server does not recover");
	run_sleep(r, SETTLE_NS);
	oracle_judge(r);
	server_stop(r);
	peers_stop(r);
}

/* coroutine */
static void tester(void *arg)
{
	struct run *r = arg;
	struct scope manager;
	scope_open(&r->background, r->loop, co_scope());
	scope_open(&manager, r->loop, co_scope());
	if (scope_spawn(&manager, "service manager", CO_STACK_SMALL, service_manager, r) != ERR_NONE)
		sim_fail(r->s, "no memory");
	play(r);
	scope_close(&r->background);
	scope_close(&manager);
	r->done = true;
}

static int tester_main(struct world *w, void *arg)
{
	struct run *r = arg;
	r->w = w;
	r->mem = world_mem(w);
	r->arena = arena_make(r->mem, ARENA_MAX);
	r->ledger = ledger_make(r->mem);
	write_configuration(r);
	if (loop_new(w, &r->loop) != ERR_NONE)
		return 1;
	loop_run(r->loop, tester, r);
	loop_free(r->loop);
	ledger_free(&r->ledger);
	arena_close(&r->arena);
	return 0;
}

static void print_failure(const struct run *r)
{
	struct str rest = sim_log(r->s);
	if (!r->opt->verbose) {
		size_t n = rest.n > 30000 ? rest.n - 30000 : 0;
		struct str tail = str_sub(rest, n, rest.n);
		printf("%s%.*s", n ? "…\n" : "", STR_ARG(tail));
	}
	printf("--- %.*s, seed %llu:\n", STR_ARG(r->sc->name), (unsigned long long)r->opt->seed);
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_find_str(line, STR(" FAILED ")) < line.n)
			printf("%.*s\n", STR_ARG(line));
	}
}

void run_scenario(const struct scenario *sc, const struct run_options *opt,
		  void (*begins)(struct sim *s, uint64_t seed), struct run_result *result_out)
{
	struct ip mx_ip = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 1 } };
	struct ip net_ip = { .family = IP_V4, .bits = 32, .b = { 198, 51, 100, 1 } };
	struct run r = { .sc = sc, .opt = opt, .result = result_out };
	*result_out = (struct run_result){ 0 };
	r.s = sim_new(opt->seed, run_programs);
	if (!r.s)
		return;
	begins(r.s, opt->seed);
	if (opt->verbose)
		sim_set_verbose(r.s);
	r.mx = sim_host_new(r.s, "mx", &mx_ip, 0);
	r.net = sim_host_new(r.s, "net", &net_ip, 0);
	(void)sim_process_start(r.net, "tester", tester_main, &r);
	int64_t began_ns = sim_now_ns(r.s);
	while (!r.done && sim_now_ns(r.s) < VIRTUAL_MAX_NS)
		sim_run_until(r.s, sim_now_ns(r.s) + WATCH_NS);
	if (!r.done)
		sim_fail(r.s, "the scenario does not end");
	sim_run_until(r.s, sim_now_ns(r.s) + WATCH_NS);
	result_out->took_ns = sim_now_ns(r.s) - began_ns;
	result_out->passed = sim_failures(r.s) == 0;
	if (!result_out->passed)
		print_failure(&r);
	sim_free(r.s);
}
