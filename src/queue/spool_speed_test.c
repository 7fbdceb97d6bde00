/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the spool is: messages and CPU a message at 1, 20 and 100 outstanding, restart with 100,000.
 * Measures only when GODWIT_SPEED says for how many seconds a case; without it, a short run keeps it usable.
 */
#include <sys/resource.h>

#include "queue/index.h"
#include "queue/spool_model.h"

#define BODY_BYTES 4300u

static struct bed bed;
static struct index ix;
static struct spool *sp;
static double seconds = 0.02;
static uint64_t next_id, done, kept_from;
static bool running, keep;

static double cpu_us(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* coroutine */
static void client(void *arg)
{
	static char body[BODY_BYTES];
	while (running) {
		struct envelope_rcpt r[MODEL_STATES];
		struct envelope env = bed_envelope(++next_id, r, 1);
		struct str part = str_of(body, sizeof body);
		struct spool_live live = { .id = env.id, .arrived_ms = env.arrived_ms, .recipients_n = 1 };
		struct message *m;
		assert_int_equal(index_reserve(&ix, env.id, 1, &m), ERR_NONE);
		assert_int_equal(spool_put(sp, &env, STR("Received: x\r\n"), &part, 1, sizeof body, false, &live.ref), ERR_NONE);
		index_admit(&ix, m, &live);
		done++;
		if (keep) {
			assert_int_equal(index_schedule(&ix, m), ERR_NONE);
			if (next_id >= kept_from + 100000)
				running = false;
			continue;
		}
		struct spool_state st = { .state = RCPT_STATE_DELIVERED, .enhanced = STR("2.0.0"),
					  .text = STR("delivered to the mailbox"), .address = STR("user@example.org"), .by = STR("local") };
		index_set(&ix, m, &st);
		index_end(&ix, m);
		while (spool_add_gone(sp, env.id, &st, 1) == ERR_BUSY)
			assert_int_equal(co_yield(), ERR_NONE);
	}
}

static YIELDS void case_of(unsigned clients)
{
	struct scope scope;
	struct spool_totals before = spool_totals(sp);
	double cpu = cpu_us();
	int64_t began = world_measure_ns(bed.w);
	done = 0;
	running = true;
	scope_open(&scope, bed.loop, NULL);
	for (unsigned i = 0; i < clients; i++)
		assert_int_equal(scope_spawn(&scope, "client", CO_STACK_SMALL, client, NULL), ERR_NONE);
	if (!keep) {
		assert_int_equal(co_sleep_until(world_measure_ns(bed.w) + (int64_t)(seconds * 1e9)), ERR_NONE);
		running = false;
	}
	scope_wait(&scope);
	scope_close(&scope);
	double s = (double)(world_measure_ns(bed.w) - began) / 1e9;
	struct spool_totals t = spool_totals(sp);
	printf("%4u outstanding: %8.0f messages/s, %6.2f us CPU, %5.1f a commit, %llu segments, %llu spares\n", clients,
	       (double)done / s, (cpu_us() - cpu) / (double)done, (double)done / (double)(t.commits - before.commits),
	       (unsigned long long)t.segments, (unsigned long long)t.spares);
}

static void damage(void *arg, struct str text)
{
	printf("%.*s\n", STR_ARG(text));
}

static YIELDS void open_spool(bool reserve)
{
	struct spool_config cfg = { .w = bed.w, .loop = bed.loop, .log = &bed.log, .path = str_z(bed.dir),
				    .reserve_space = reserve, .index = index_for_spool(&ix) };
	cfg.index.damage = damage;
	index_open(&ix, world_mem(bed.w), (struct sip_key){ 1, 2 });
	assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
}

static YIELDS void close_spool(void)
{
	spool_close(sp);
	index_close(&ix);
}

static YIELDS void restart(const char *what)
{
	int64_t began = world_measure_ns(bed.w);
	open_spool(false);
	printf("restart with %zu messages, %s: %.1f ms (recovery %.1f ms)\n", ix.messages, what,
	       (double)(world_measure_ns(bed.w) - began) / 1e6, (double)spool_totals(sp).recovery_ns / 1e6);
	close_spool();
}

/* coroutine */
static void all(void *arg)
{
	static const unsigned outstanding[] = { 1, 20, 100 };
	for (int reserve = 0; reserve < 2; reserve++) {
		printf(reserve ? "segments laid out and recycled:\n" : "plain append:\n");
		open_spool(reserve);
		if (reserve && seconds > 0.5) /* the first spare is laid out meanwhile */
			assert_int_equal(co_sleep_until(world_measure_ns(bed.w) + 2000000000), ERR_NONE);
		for (size_t i = 0; i < COUNT(outstanding); i++)
			case_of(outstanding[i]);
		close_spool();
	}
	if (seconds < 0.5)
		return;
	open_spool(false);
	size_t before = mem_used(world_mem(bed.w));
	kept_from = next_id;
	keep = true;
	case_of(100);
	printf("memory a queued recipient: %.0f bytes asked, %.0f with headers of 32\n",
	       (double)(mem_used(world_mem(bed.w)) - before) / (double)ix.messages,
	       (double)(mem_used(world_mem(bed.w)) - before) / (double)ix.messages + 32);
	close_spool();
	restart("checkpoint");
	int fd;
	assert_int_equal(world_open(bed.w, WORLD_ABSOLUTE, str_z(bed.dir), WORLD_READ | WORLD_DIR, 0, &fd), ERR_NONE);
	assert_int_equal(world_unlink(bed.w, fd, STR("checkpoint")), ERR_NONE);
	restart("no checkpoint");
	world_close(bed.w, fd);
}

static void test_speed(void **state)
{
	struct world *w = world_linux_new();
	bed_open(&bed, w);
	bed_dir(&bed, BED_DISK);
	struct str s = world_env(w, STR("GODWIT_SPEED"));
	uint64_t n;
	if (str_to_u64(s, 1000, &n) == ERR_NONE)
		seconds = (double)n;
	loop_run(bed.loop, all, NULL);
	bed_empty(&bed);
	bed_close(&bed);
	world_linux_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_speed) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
