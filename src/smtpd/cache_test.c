/* SPDX-License-Identifier: Apache-2.0 */
/* What smtpd remembers: lookup's answers, and refusals on their way to the history (P8). */
#include "smtpd/cache.h"

#include "base/test.h"
#include "smtpd/refusals.h"

static const struct sip_key key = { 1, 2 };

static struct lookup_rcpt_in question(const char *address)
{
	struct lookup_rcpt_in in = { .client = { .family = IP_V4, .b = { 192, 0, 2, 1 } }, .address = str_z(address) };
	return in;
}

static struct lookup_rcpt_out answer(struct target *targets, size_t n, uint64_t generation)
{
	struct lookup_rcpt_out out = { .verdict = VERDICT_ACCEPT, .code = 250, .cacheable = true, .generation = generation,
				       .rule = STR("account"), .targets = targets, .targets_n = n };
	return out;
}

static bool known(struct cache *c, const struct lookup_rcpt_in *in)
{
	struct mem *mem = mem_new(0);
	struct arena a = arena_make(mem, 1 << 16);
	struct lookup_rcpt_out out;
	bool hit = cache_get(c, in, &a, &out);
	if (hit) {
		assert_str(out.rule, STR("account"));
		assert_int_equal(out.targets_n, 1);
		assert_str(out.targets[0].mailbox, STR("box"));
	}
	arena_close(&a);
	mem_destroy(mem);
	return hit;
}

static void remembers(void **state)
{
	struct mem *mem = mem_new(0);
	struct cache c;
	struct target t[CACHE_TARGETS_MAX + 1] = { { TARGET_KIND_MAILBOX, STR("a@b"), STR("box") } };
	struct lookup_rcpt_in in = question("a@b"), other = question("a@b");
	struct lookup_rcpt_out out = answer(t, 1, 7);
	other.client.b[3] = 2; /* P5: another client may be told something else */
	cache_init(&c, mem, key);
	cache_put(&c, &in, &out);
	assert_false(known(&c, &in)); /* no generation yet */
	cache_renew(&c, 7);
	cache_put(&c, &in, &out);
	assert_true(known(&c, &in));
	assert_false(known(&c, &other));
	other = in;
	other.smtputf8 = true;
	assert_false(known(&c, &other));
	cache_renew(&c, 8);
	assert_false(known(&c, &in));
	cache_put(&c, &in, &out); /* of an older generation */
	assert_false(known(&c, &in));
	out = answer(t, 1, 8);
	out.cacheable = false;
	cache_put(&c, &in, &out);
	assert_false(known(&c, &in));
	out = answer(t, CACHE_TARGETS_MAX + 1, 8);
	cache_put(&c, &in, &out);
	assert_int_equal(c.by_key.n, 0);
	cache_done(&c);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

static void is_bounded(void **state)
{
	struct mem *mem = mem_new(0);
	struct cache c;
	struct target t = { TARGET_KIND_MAILBOX, STR("a@b"), STR("box") };
	struct lookup_rcpt_out out = answer(&t, 1, 1);
	char room[32];
	cache_init(&c, mem, key);
	cache_renew(&c, 1);
	struct lookup_rcpt_in kept = question("kept@b");
	cache_put(&c, &kept, &out);
	for (unsigned i = 0; i < 3 * CACHE_ENTRIES_MAX; i++) {
		snprintf(room, sizeof room, "u%u@b", i);
		struct lookup_rcpt_in in = question(room);
		cache_put(&c, &in, &out);
		assert_true(c.by_key.n <= CACHE_ENTRIES_MAX);
		if (i % 100 == 0)
			assert_true(known(&c, &kept)); /* what is used stays */
	}
	struct lookup_rcpt_in first = question("u0@b");
	assert_false(known(&c, &first));
	cache_done(&c);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

struct told {
	size_t rows;
	uint64_t count;
	struct str last_forward;
};

static void tell(void *arg, const struct history_refused_in *w)
{
	struct told *t = arg;
	t->rows++;
	t->count += w->count;
	t->last_forward = w->forward_path;
}

static void refusals_count(void **state)
{
	struct mem *mem = mem_new(0);
	struct refusals r;
	struct told t = { 0 };
	struct history_refused_in w = { .code = 550, .client = { .family = IP_V4 }, .forward_path = STR("x@y") };
	refusals_init(&r, mem, key);
	assert_false(refusals_pending(&r));
	for (int i = 0; i < 1000; i++)
		refusals_add(&r, &w);
	w.code = 451;
	refusals_add(&r, &w);
	refusals_flush(&r, tell, &t);
	assert_int_equal(t.rows, 2);
	assert_int_equal(t.count, 1001);
	assert_false(refusals_pending(&r));
	/* a flood of different ones (H36): bounded, and still counted */
	char room[32];
	t = (struct told){ 0 };
	for (int i = 0; i < 100000; i++) {
		snprintf(room, sizeof room, "u%d@y", i);
		w.forward_path = str_z(room);
		refusals_add(&r, &w);
	}
	assert_true(mem_used(mem) < (size_t)2 << 20);
	refusals_flush(&r, tell, &t);
	assert_int_equal(t.rows, REFUSALS_MAX + 1);
	assert_int_equal(t.count, 100000);
	assert_int_equal(t.last_forward.n, 0);
	refusals_done(&r);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(refusals_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
