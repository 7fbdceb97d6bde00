/* SPDX-License-Identifier: Apache-2.0 */
/* The index and the reasons: what is counted, in which order it is due, what a walk sees. */
#include "base/test.h"
#include "queue/index.h"

static const struct sip_key key = { 1, 2 };

static struct message *add(struct index *ix, uint64_t id, uint16_t rcpts, uint64_t segment)
{
	struct message *m;
	struct spool_live live = { .id = id, .recipients_n = rcpts, .arrived_ms = 5,
				   .ref = { .segment = segment, .offset = 4096, .meta_bytes = 10, .data_bytes = 30,
					    .prefix_bytes = 10, .body_bytes = 20 } };
	assert_int_equal(index_reserve(ix, id, rcpts, &m), ERR_NONE);
	assert_null(index_get(ix, id));
	assert_int_equal(index_reserve(ix, id, rcpts, &m), ERR_EXISTS);
	index_admit(ix, m, &live);
	return m;
}

static void states(void **state)
{
	struct mem *mem = mem_new(0);
	struct index ix;
	index_open(&ix, mem, key);
	struct message *m = add(&ix, 7, 2, 1);
	assert_int_equal(ix.recipients, 2);
	struct spool_ref ref = message_ref(m);
	assert_int_equal(ref.data_bytes, 30);
	assert_int_equal(message_bytes(m), 30);
	struct spool_state st = { .number = 1, .state = RCPT_STATE_HELD, .attempts = 70000, .enhanced = STR("4.2.2"), .text = STR("full") };
	index_set(&ix, m, &st);
	assert_int_equal(ix.held, 1);
	assert_int_equal(ix.recipients, 2);
	assert_true(index_state(&ix, m, 1, &st));
	assert_int_equal(st.attempts, 65535); /* as many as are kept */
	assert_str(st.enhanced, STR("4.2.2"));
	assert_int_equal(st.route.n, 0);
	st.route = STR("hub");
	index_set(&ix, m, &st);
	char hub[] = "hub";
	st.route = str_z(hub); /* the same name, elsewhere */
	index_set(&ix, m, &st);
	assert_int_equal(ix.routes_n, 2);
	memset(hub, 'x', 3);
	assert_true(index_state(&ix, m, 1, &st));
	assert_str(st.route, STR("hub"));
	index_set(&ix, m, &st); /* with its own strings */
	assert_true(index_state(&ix, m, 1, &st));
	assert_str(st.text, STR("full"));
	assert_false(index_state(&ix, m, 0, &st));
	for (uint16_t i = 0; i < 2; i++) {
		st = (struct spool_state){ .number = i, .state = RCPT_STATE_DELIVERED };
		index_set(&ix, m, &st);
	}
	assert_true(message_is_final(m));
	assert_int_equal(ix.recipients + ix.held, 0);
	assert_int_equal(index_route(&ix, &m->rcpts[0]).n, 0);
	index_end(&ix, m);
	assert_int_equal(ix.messages, 0);
	struct spool_index sx = index_for_spool(&ix);
	size_t n;
	struct spool_state all[2];
	assert_false(sx.states_of(sx.arg, 7, false, all, &n)); /* S8 */
	assert_true(sx.gone_saved(sx.arg, 7, ERR_NONE, &ref));
	assert_null(index_get(&ix, 7));
	assert_int_equal(ix.ending, 0);
	index_close(&ix);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

static void due_order(void **state)
{
	struct mem *mem = mem_new(0);
	struct index ix;
	index_open(&ix, mem, key);
	static const int64_t times[] = { 30, 10, 20 };
	for (uint64_t i = 0; i < 3; i++) {
		struct message *m = add(&ix, i + 1, 1, 1);
		m->rcpts[0].next_ms = times[i];
		assert_int_equal(index_schedule(&ix, m), ERR_NONE);
	}
	struct message *first = CONTAINER_OF(heap_min(&ix.due), struct message, due);
	assert_int_equal(first->id, 2);
	first->flags |= MESSAGE_BUSY; /* who is worked on is not due */
	assert_int_equal(index_schedule(&ix, first), ERR_NONE);
	assert_int_equal(CONTAINER_OF(heap_min(&ix.due), struct message, due)->id, 3);
	index_close(&ix);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

/* A walk sees each message that is there all the time, whatever comes, goes and moves meanwhile. */
static void walking(void **state)
{
	struct mem *mem = mem_new(0);
	struct index ix;
	index_open(&ix, mem, key);
	struct spool_index sx = index_for_spool(&ix);
	struct spool_live live;
	struct spool_ref ref;
	enum err busy;
	bool seen[100] = { false };
	for (uint64_t id = 1; id <= 50; id++)
		add(&ix, id, 1, id <= 25 ? 1 : 2);
	uint64_t next = 51;
	for (bool first = true; sx.next(sx.arg, first, &live); first = false) {
		seen[live.id] = true;
		if (live.id % 5 == 0 && live.id < 50)
			sx.gone(sx.arg, live.id + (live.id % 2 ? 1 : 0)); /* itself, or the next one */
		if (live.id % 7 == 0 && next < 60)
			add(&ix, next++, 1, 3);
		if (live.id == 3) {
			struct spool_ref to = { .segment = 3, .offset = 9, .meta_bytes = 1, .prefix_bytes = 1, .body_bytes = 20 };
			assert_true(sx.moved(sx.arg, 4, &to, &ref)); /* to the end: still ahead */
			assert_int_equal(ref.segment, 1);
		}
	}
	for (uint64_t id = 1; id < next; id++)
		if (index_get(&ix, id))
			assert_true(seen[id]);
	assert_true(sx.oldest(sx.arg, 1, &live, &busy));
	assert_int_equal(live.id, 1);
	assert_false(sx.oldest(sx.arg, 2, &live, &busy)); /* not while an older one has messages */
	index_close(&ix);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

static void reasons(void **state)
{
	struct mem *mem = mem_new(0);
	struct reasons r;
	reasons_open(&r, mem, key);
	assert_int_equal(reason_get(&r, STR(""), STR("")), REASON_NONE);
	uint32_t a = reason_get(&r, STR("4.1.1"), STR("one")), b = reason_get(&r, STR("4.1.1"), STR("two"));
	assert_int_not_equal(a, b);
	assert_int_equal(reason_get(&r, STR("4.1.1"), STR("one")), a);
	assert_str(reason_text(&r, a), STR("one"));
	assert_str(reason_enhanced(&r, b), STR("4.1.1"));
	reason_drop(&r, a);
	assert_str(reason_text(&r, a), STR("one"));
	reason_drop(&r, a);
	assert_str(reason_text(&r, a), STR(""));
	assert_int_equal(reason_get(&r, STR("5.0.0"), STR("three")), a); /* its place is free */
	char text[40];
	for (uint32_t i = 0; i < REASONS_MAX + 100; i++) {
		int n = snprintf(text, sizeof text, "reason %u", i);
		assert_int_not_equal(reason_get(&r, STR("4.0.0"), str_of(text, (size_t)n)), REASON_NONE);
	}
	assert_true(r.by_text.n <= REASONS_MAX + 1);
	reasons_close(&r);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

/* The n-th allocation fails: a message is there as a whole or not at all. */
static void no_memory(void **state)
{
	for (uint64_t n = 1; n < 60; n++) {
		struct mem *mem = mem_new(0);
		struct index ix;
		struct message *m;
		index_open(&ix, mem, key);
		mem_fail_at(mem, n, 1);
		for (uint64_t id = 1; id <= 20; id++) {
			struct spool_live live = { .id = id, .recipients_n = 1 };
			if (index_reserve(&ix, id, 1, &m) != ERR_NONE)
				continue;
			index_admit(&ix, m, &live);
			assert_int_equal(index_schedule(&ix, m), ERR_NONE);
			struct spool_state st = { .state = RCPT_STATE_QUEUED, .text = STR("later") };
			index_set(&ix, m, &st);
		}
		assert_int_equal(ix.due.n, ix.messages);
		assert_true(ix.messages >= 19);
		index_close(&ix);
		assert_int_equal(mem_blocks(mem), 0);
		mem_destroy(mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states),  cmocka_unit_test(due_order), cmocka_unit_test(walking),
		cmocka_unit_test(reasons), cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
