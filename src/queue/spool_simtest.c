/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool on a disk that fails, tears and loses (P1, S1 to S4, S8; H111, H112, H113): the same work again and
 * again, each time with another operation failing, or the power gone at another call. The oracle is a
 * ledger outside of the simulated machine.
 */
#include "queue/spool_model.h"
#include "world/sim.h"

#define IDS_MAX 4000u
#define CLIENTS 6u
#define PUTS_A_LIFE 40u
#define SEGMENT_BYTES 16384u

enum fate {
	FATE_NONE,
	FATE_ASKED,   /* put, no answer yet: may be there */
	FATE_ACKED,   /* must be there */
	FATE_REFUSED, /* must not be there once something later was stored */
	FATE_NEVER,   /* must not be there */
	FATE_ENDING,  /* its end was given to the spool: may be there */
	FATE_ENDED    /* its end is durable: must not be there */
};

/* More of the same: the program's argument. */
static uint64_t factor = 1;

struct ledger {
	struct sim *s;
	struct sim_host *h;
	enum fate fate[IDS_MAX];
	uint32_t attempts[IDS_MAX];	    /* of recipient 0, as last flushed */
	uint32_t attempts_asked[IDS_MAX];   /* as last given to the spool */
	uint64_t next_id, acked, refused, lives, opens_failed;
	bool reserve, faulty; /* faulty: this life has a fault, what it finds may be unreadable for the moment */
	uint64_t random;
};

struct life {
	struct ledger *g;
	struct world *w;
	struct loop *loop;
	struct log log;
	struct model model;
	struct spool *sp;
	unsigned clients, puts;
	int status;
};

static size_t body_bytes(uint64_t id)
{
	return (size_t)(id * 193 % 2500);
}

/* ---- the process's work ---------------------------------------------------------------------------- */

static YIELDS enum err put(struct life *l, uint64_t id)
{
	struct envelope_rcpt r[MODEL_STATES];
	struct envelope env = bed_envelope(id, r, 1 + id % 3);
	char body[2600];
	bed_body(id, body, body_bytes(id));
	struct str part = str_of(body, body_bytes(id));
	struct spool_live live = { .id = id, .arrived_ms = env.arrived_ms, .recipients_n = (uint16_t)env.recipients_n };
	bool in_file = id % 11 == 0;
	int fd;
	l->g->fate[id] = FATE_ASKED;
	if (in_file) {
		TRY(spool_body_file(l->sp, id, &fd));
		enum err e = world_pwritev(l->w, fd, &part, 1, 0);
		if (e == ERR_NONE)
			e = spool_put(l->sp, &env, STR("P"), NULL, 0, part.n, true, &live.ref);
		if (e != ERR_NONE)
			spool_body_abort(l->sp, id);
		TRY(e);
	} else {
		TRY(spool_put(l->sp, &env, STR("P"), &part, 1, part.n, false, &live.ref));
	}
	model_add(&l->model, &live);
	return ERR_NONE;
}

/* What was refused before something later was stored must never be seen again (S2). */
static void close_refused(struct ledger *g)
{
	for (uint64_t id = 1; id <= g->next_id; id++)
		if (g->fate[id] == FATE_REFUSED)
			g->fate[id] = FATE_NEVER;
}

static YIELDS void touch(struct life *l, uint64_t id)
{
	struct model_row *r = model_row(&l->model, id);
	struct ledger *g = l->g;
	if (!r || !r->live || r->ending)
		return;
	if (id % 9 == 0) { /* stays: has to be copied */
		uint32_t asked = ++g->attempts_asked[id]; /* even when it fails: a copy of the message may carry it */
		struct spool_state st = { .state = RCPT_STATE_QUEUED, .attempts = asked, .text = STR("x") };
		model_set(r, &st);
		if (spool_add_states(l->sp, id, &st, 1) != ERR_NONE)
			return;
		if (id % 2 == 0 && spool_flush(l->sp) == ERR_NONE && g->attempts[id] < asked)
			g->attempts[id] = asked;
		return;
	}
	r->ending = true;
	g->fate[id] = FATE_ENDING;
	if (spool_add_gone(l->sp, id, NULL, 0) != ERR_NONE)
		r->ending = false;
}

/* coroutine */
static void client(void *arg)
{
	struct life *l = arg;
	struct ledger *g = l->g;
	while (l->puts < PUTS_A_LIFE && g->next_id + 1 < IDS_MAX) {
		uint64_t id = ++g->next_id;
		l->puts++;
		enum err e = put(l, id);
		if (e == ERR_NONE) {
			g->fate[id] = FATE_ACKED;
			g->acked++;
			close_refused(g);
		} else {
			g->fate[id] = FATE_REFUSED;
			g->refused++;
			if (co_sleep_until(world_mono_ns(l->w) + 30000000) != ERR_NONE)
				break;
		}
		touch(l, 1 + test_random(&g->random) % g->next_id);
		if (id % 5 == 0 && co_sleep_until(world_mono_ns(l->w) + 20000000) != ERR_NONE)
			break;
	}
	l->clients--;
}

static bool gone_saved(void *arg, uint64_t id, enum err e, struct spool_ref *ref_out)
{
	struct life *l = CONTAINER_OF(arg, struct life, model);
	bool gone = model_gone_saved(arg, id, e, ref_out);
	if (gone)
		l->g->fate[id] = FATE_ENDED;
	return gone;
}

/* ---- what must be true after an open --------------------------------------------------------------------- */

static YIELDS void check_content(struct life *l, const struct model_row *r)
{
	ARENA_SCOPED struct arena arena = arena_make(l->w ? world_mem(l->w) : NULL, 1 << 20);
	struct envelope env;
	struct str prefix, body;
	char want[2600], got[2600];
	size_t n = body_bytes(r->id), got_n = 0;
	enum err e = spool_read(l->sp, &r->at.ref, &arena, &env, &prefix, &body);
	int fd;
	if (e == ERR_NONE && r->at.ref.in_file) {
		e = spool_body_open(l->sp, r->id, &fd);
		if (e == ERR_NONE) {
			e = world_pread(l->w, fd, got, sizeof got, 0, &got_n);
			body = str_of(got, got_n);
			world_close(l->w, fd);
		}
	}
	if (e != ERR_NONE && l->g->faulty)
		return;
	bed_body(r->id, want, n);
	if (e != ERR_NONE || body.n != n || memcmp(body.p, want, n) != 0 || env.recipients_n != 1 + r->id % 3)
		sim_fail(l->g->s, "message %llu cannot be read: %s", (unsigned long long)r->id, err_name(e));
}

static YIELDS void check(struct life *l)
{
	struct ledger *g = l->g;
	for (uint64_t id = 1; id <= g->next_id; id++) {
		struct model_row *r = model_row(&l->model, id);
		bool live = r && r->live;
		if (g->faulty && l->model.damages > 0)
			continue; /* a segment could not be read, and that was told: the next life must be right again */
		if (!live && g->fate[id] == FATE_ACKED)
			sim_fail(g->s, "message %llu is lost", (unsigned long long)id);
		if (live && (g->fate[id] == FATE_ENDED || g->fate[id] == FATE_NEVER))
			sim_fail(g->s, "message %llu is there again (%d)", (unsigned long long)id, (int)g->fate[id]);
		if (!live)
			continue;
		check_content(l, r);
		uint32_t attempts = r->has[0] ? r->states[0].attempts : 0;
		if (attempts < g->attempts[id] || attempts > g->attempts_asked[id])
			sim_fail(g->s, "message %llu has %u attempts, not %u to %u", (unsigned long long)id, attempts,
				 g->attempts[id], g->attempts_asked[id]);
		g->attempts_asked[id] = attempts;
		if (g->fate[id] != FATE_ACKED) /* an answer or an end was lost: it is there now */
			g->fate[id] = FATE_ACKED;
	}
	for (size_t i = 0; i < l->model.n; i++)
		if (l->model.rows[i].live && l->model.rows[i].id > g->next_id)
			sim_fail(g->s, "message %llu was never put", (unsigned long long)l->model.rows[i].id);
}

/* ---- one life ------------------------------------------------------------------------------------------------ */

/* coroutine */
static void live(void *arg)
{
	struct life *l = arg;
	struct spool_config cfg = { .w = l->w, .loop = l->loop, .log = &l->log, .path = STR("/spool"),
				    .segment_bytes = SEGMENT_BYTES, .reserve_space = l->g->reserve,
				    .index = model_index(&l->model) };
	cfg.index.gone_saved = gone_saved;
	struct scope scope;
	if (spool_open(&cfg, &l->sp) != ERR_NONE) {
		l->g->opens_failed++;
		if (!l->g->faulty)
			sim_fail(l->g->s, "the spool cannot be opened");
		return;
	}
	if (l->model.damages > 0 && !l->g->faulty)
		sim_fail(l->g->s, "damage: %s", l->model.last_damage);
	check(l);
	scope_open(&scope, l->loop, NULL);
	for (unsigned i = 0; i < CLIENTS; i++)
		if (scope_spawn(&scope, "client", CO_STACK_SMALL, client, l) == ERR_NONE)
			l->clients++;
	scope_wait(&scope);
	scope_close(&scope);
	spool_close(l->sp);
}

/* To the simulator's log, which is shown when a run fails. */
static enum err log_to_sim(void *arg, struct str s)
{
	return world_write(arg, 2, s);
}

static int life_end(struct life *l, int status)
{
	if (l->loop)
		loop_free(l->loop);
	log_close(&l->log);
	model_free(&l->model);
	mem_free(world_mem(l->w), l);
	return status;
}

static int life_main(struct world *w, void *arg)
{
	struct life *l = mem_alloc(world_mem(w), sizeof *l);
	struct log_sink sink = { log_to_sim, bed_log_now, w };
	if (!l)
		return 71;
	l->g = arg;
	l->w = w;
	l->model.mem = world_mem(w);
	l->model.cap = IDS_MAX;
	l->model.rows = mem_alloc(world_mem(w), IDS_MAX * sizeof *l->model.rows);
	if (!l->model.rows || log_init(&l->log, world_mem(w), sink, LOG_FORMAT_TEXT, LEVEL_INFO, STR("spool")) != ERR_NONE ||
	    loop_new(w, &l->loop) != ERR_NONE)
		return life_end(l, 71);
	loop_run(l->loop, live, l);
	return life_end(l, 0);
}

static void run_life(struct ledger *g, bool faulty)
{
	static const bool never = false;
	g->faulty = faulty;
	g->lives++;
	(void)sim_process_start(g->h, "spool", life_main, g);
	sim_run(g->s, &never);
	sim_faults_clear(g->h);
	if (!sim_host_is_up(g->h))
		sim_host_boot(g->h);
}

static struct ledger *ledger_new(uint64_t seed)
{
	static struct ledger g;
	struct ip ip = { .family = IP_V4, .b = { 192, 0, 2, 1 } };
	g = (struct ledger){ .s = sim_new(seed, NULL), .random = seed * 977 + 1, .reserve = seed % 2 };
	g.h = sim_host_new(g.s, "mx", &ip, 0);
	return &g;
}

static void ledger_end(struct ledger *g, const char *what, int op, uint64_t n)
{
	if (sim_failures(g->s))
		fprintf(stderr, "%s %d, %llu:\n%.*s\n", what, op, (unsigned long long)n, STR_ARG(sim_log(g->s)));
	assert_int_equal(sim_failures(g->s), 0);
	assert_true(g->acked > 0);
	sim_free(g->s);
}

/* ---- the tests -------------------------------------------------------------------------------------------------- */

static void plain_lives(void **state)
{
	for (uint64_t seed = 1; seed <= 10 * factor; seed++) {
		struct ledger *g = ledger_new(seed);
		for (int i = 0; i < 5; i++) {
			run_life(g, false);
			sim_host_crash(g->h); /* after an orderly end nothing may be missing */
			sim_host_boot(g->h);
		}
		assert_int_equal(g->refused, 0);
		ledger_end(g, "plain", 0, seed);
	}
}

/* The power goes at the n-th call, twice; then whatever was acknowledged is there. */
static void power_cuts(void **state)
{
	for (uint64_t n = 1; n < 1500 * factor; n += 7) {
		struct ledger *g = ledger_new(n);
		run_life(g, false);
		sim_crash_at_call(g->h, "spool", n % 1499, true);
		run_life(g, false);
		sim_crash_at_call(g->h, "spool", 1 + n * 31 % 900, true);
		run_life(g, false);
		run_life(g, false);
		run_life(g, false);
		ledger_end(g, "power cut", 0, n);
	}
}

/* The process is killed at the n-th call. */
static void kills(void **state)
{
	for (uint64_t n = 1; n < 1500 * factor; n += 13) {
		struct ledger *g = ledger_new(n);
		run_life(g, false);
		sim_crash_at_call(g->h, "spool", n % 1499, false);
		run_life(g, false);
		run_life(g, false);
		run_life(g, false);
		ledger_end(g, "kill", 0, n);
	}
}

/* The n-th operation of a kind fails, once or for a while; the power goes afterwards. */
static void faults(void **state)
{
	static const enum err errs[] = { ERR_IO, ERR_NO_SPACE };
	for (int op = 0; op < SIM_OPS; op++) {
		if (op == SIM_MEMORY || op == SIM_SEND)
			continue;
		for (uint64_t n = 1; n < 120 * factor; n += op == SIM_WRITE || op == SIM_SYNC ? 1 : 3) {
			struct ledger *g = ledger_new(n + (uint64_t)op * 1000);
			struct sim_fault f = { .role = "spool", .op = (enum sim_op)op, .nth = n % 397, .count = n % 3 ? 1 : 8, .err = errs[n % 2] };
			run_life(g, false);
			sim_fault_add(g->h, &f);
			run_life(g, true);
			sim_host_crash(g->h);
			sim_host_boot(g->h);
			run_life(g, false);
			run_life(g, false);
			ledger_end(g, sim_op_names[op], op, n);
		}
	}
}

static void no_memory(void **state)
{
	for (uint64_t n = 1; n < 400 * factor; n += 3) {
		struct ledger *g = ledger_new(n);
		struct sim_fault f = { .role = "spool", .op = SIM_MEMORY, .nth = n, .count = n % 2 ? 1 : 5, .err = ERR_NO_MEMORY };
		run_life(g, false);
		sim_fault_add(g->h, &f);
		run_life(g, true);
		run_life(g, false);
		run_life(g, false);
		ledger_end(g, "memory", 0, n);
	}
}

/* H111: the disk fills up, and is emptied again. */
static void full_disk(void **state)
{
	for (uint64_t n = 1; n < 60 * factor; n++) {
		struct ledger *g = ledger_new(n);
		run_life(g, false);
		sim_disk_set_free(g->h, n % 59 * 1500 + n);
		run_life(g, true);
		run_life(g, true);
		sim_disk_set_free(g->h, UINT64_MAX);
		run_life(g, false);
		run_life(g, false);
		ledger_end(g, "full disk", 0, n);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		factor = (uint64_t)(argv[1][0] - '0') * (argc > 2 ? 10 : 1);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lives), cmocka_unit_test(power_cuts), cmocka_unit_test(kills),
		cmocka_unit_test(faults),      cmocka_unit_test(no_memory),  cmocka_unit_test(full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
