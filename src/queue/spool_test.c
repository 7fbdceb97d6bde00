/* SPDX-License-Identifier: Apache-2.0 */
/* The spool on a real disk: S1 to S8 of spool.c, and H103. */
#include "queue/spool_model.h"
#include "queue/spool_record.h"

static struct bed bed; /* of the running test */
static struct model model;

static void run(void (*fn)(void *arg), void *arg)
{
	loop_run(bed.loop, fn, arg);
}

static YIELDS enum err put(struct spool *sp, uint64_t id, size_t rcpts, size_t body_bytes)
{
	struct envelope_rcpt r[MODEL_STATES];
	struct envelope env = bed_envelope(id, r, rcpts);
	char *body = mem_alloc_raw(world_mem(bed.w), body_bytes + 8);
	bed_body(id, body, body_bytes);
	struct str parts[2] = { str_of(body, body_bytes / 2), str_of(body + body_bytes / 2, body_bytes - body_bytes / 2) };
	struct spool_live live = { .id = id, .arrived_ms = env.arrived_ms, .expires_ms = 77, .priority = 4,
				   .recipients_n = (uint16_t)rcpts };
	enum err e = spool_put(sp, &env, STR("Received: x\r\n"), parts, 2, body_bytes, false, &live.ref);
	mem_free(world_mem(bed.w), body);
	if (e == ERR_NONE)
		model_add(&model, &live);
	return e;
}

static YIELDS void check_message(struct spool *sp, uint64_t id, size_t rcpts, size_t body_bytes)
{
	struct model_row *r = model_row(&model, id);
	assert_non_null(r);
	assert_true(r->live);
	ARENA_SCOPED struct arena arena = arena_make(world_mem(bed.w), 8 << 20);
	struct envelope env;
	struct str prefix, body;
	char *want = mem_alloc_raw(world_mem(bed.w), body_bytes + 8);
	bed_body(id, want, body_bytes);
	assert_int_equal(spool_read(sp, &r->at.ref, &arena, &env, &prefix, &body), ERR_NONE);
	assert_str(prefix, STR("Received: x\r\n"));
	assert_int_equal(body.n, body_bytes);
	assert_memory_equal(body.p, want, body_bytes);
	assert_int_equal(env.recipients_n, rcpts);
	assert_str(env.reverse_path, STR("sender@example.net"));
	assert_str(env.recipients[rcpts - 1].orcpt, STR("rfc822;user@example.org"));
	assert_int_equal(env.recipients[rcpts - 1].notify, rcpts - 1);
	assert_int_equal(env.id, id);
	assert_int_equal(env.arrived_ms, (int64_t)id * 10);
	assert_true(env.smtputf8);
	assert_int_equal(env.ret, DSN_RET_HDRS);
	mem_free(world_mem(bed.w), want);
}

static int dir_fd(void)
{
	int fd;
	assert_int_equal(world_open(bed.w, WORLD_ABSOLUTE, str_z(bed.dir), WORLD_READ | WORLD_DIR, 0, &fd), ERR_NONE);
	return fd;
}

static void remove_file(const char *name)
{
	int fd = dir_fd();
	assert_int_equal(world_unlink(bed.w, fd, str_z(name)), ERR_NONE);
	world_close(bed.w, fd);
}

static int setup(void **state)
{
	bed_open(&bed, world_linux_new());
	bed_dir(&bed);
	model.mem = world_mem(bed.w);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = bed.w;
	model_free(&model);
	bed_empty(&bed);
	bed_close(&bed);
	assert_int_equal(mem_blocks(world_mem(w)), 1); /* the world itself */
	world_linux_free(w);
	return 0;
}

static YIELDS struct spool *open_spool(uint64_t segment_bytes)
{
	struct spool_config cfg = bed_config(&bed, &model, segment_bytes);
	struct spool *sp;
	assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
	return sp;
}

/* ---- put, read, states, gone, and all of it again after a restart ------------------------------------ */

/* coroutine */
static void life(void *arg)
{
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 20; id++)
		assert_int_equal(put(sp, id, 1 + id % 3, id * 500), ERR_NONE);
	check_message(sp, 7, 2, 3500);
	struct spool_state st = { .number = 1, .state = RCPT_STATE_HELD, .attempts = 3, .next_ms = 9, .at_ms = 8,
				  .enhanced = STR("4.2.2"), .text = STR("full"), .by = STR("local") };
	model_set(model_row(&model, 7), &st);
	assert_int_equal(spool_add_states(sp, 7, &st, 1), ERR_NONE);
	model_row(&model, 8)->ending = true;
	assert_int_equal(spool_add_gone(sp, 8, &st, 1), ERR_NONE);
	assert_int_equal(spool_flush(sp), ERR_NONE);
	assert_false(model_row(&model, 8)->live);
	assert_int_equal(spool_totals(sp).live_messages, 19);
	spool_close(sp);

	for (int round = 0; round < 3; round++) {
		model_free(&model);
		if (round == 1) { /* a missing checkpoint */
			remove_file("checkpoint");
		}
		sp = open_spool(0);
		assert_int_equal(model.damages, 0);
		assert_int_equal(model_live(&model), 19);
		assert_int_equal(spool_totals(sp).live_messages, 19);
		check_message(sp, 7, 2, 3500);
		struct model_row *r = model_row(&model, 7);
		assert_int_equal(r->states[1].state, RCPT_STATE_HELD);
		assert_int_equal(r->states[1].attempts, 3);
		assert_memory_equal(r->texts[1], "full", 4);
		assert_int_equal(put(sp, 100 + (uint64_t)round, 1, 4096), ERR_NONE);
		model_row(&model, 100 + (uint64_t)round)->ending = true;
		assert_int_equal(spool_add_gone(sp, 100 + (uint64_t)round, NULL, 0), ERR_NONE);
		spool_close(sp);
	}
}

static void test_life(void **state)
{
	run(life, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
