/* SPDX-License-Identifier: Apache-2.0 */
/* H67: guessing is slow and ends; the owner, and other networks, get in meanwhile. */
#include "lookup/guesses.h"

#include "base/test.h"

#define S 1000000000LL

static struct mem *mem;
static struct guesses g;
static const struct ip attacker = { .family = IP_V4, .b = { 192, 0, 2, 66 } }, home = { .family = IP_V4, .b = { 198, 51, 100, 7 } };

static int begin(void **state UNUSED)
{
	mem = mem_new(64 << 20);
	guesses_init(&g, mem, (struct sip_key){ 1, 2 });
	return 0;
}

static int end(void **state UNUSED)
{
	guesses_done(&g);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
	return 0;
}

/* -1: not even checked */
static int64_t try(const struct ip *client, struct str account, bool right, int64_t now_ns)
{
	return guesses_begin(&g, client, account, now_ns) ? guesses_end(&g, client, account, right ? GUESS_RIGHT : GUESS_WRONG, now_ns) : -1;
}

static void brute_force(void **state UNUSED)
{
	int64_t now = S, last = 0;
	unsigned checked = 0;
	assert_int_equal(try(&home, STR("alice@example.org"), true, now), 0);
	for (unsigned i = 0; i < 10000; i++) {
		int64_t delay = try(&attacker, STR("alice@example.org"), false, now);
		if (delay < 0) {
			now += S / 10;
			continue;
		}
		checked++;
		assert_true(delay >= last || i > 60);
		assert_true(i < 3 || delay > 0);
		assert_true(delay <= GUESSES_DELAY_MAX_NS);
		last = delay;
		now += delay;
		/* the owner, at home, is let in at once all the time */
		assert_int_equal(try(&home, STR("alice@example.org"), true, now), 0);
	}
	assert_true(checked < 60 + 40); /* 10,000 tries in about 20 minutes */
	/* from where nobody knows her she waits, but gets in */
	struct ip cafe = { .family = IP_V4, .b = { 203, 0, 113, 9 } };
	assert_true(try(&cafe, STR("alice@example.org"), false, now) > 0);
	assert_int_equal(try(&cafe, STR("alice@example.org"), true, now), 0);
}

static void forgiven(void **state UNUSED)
{
	for (unsigned i = 0; i < GUESSES_NETWORK_MAX; i++)
		assert_true(try(&attacker, STR("a@example.org"), false, S) >= 0);
	assert_int_equal(try(&attacker, STR("a@example.org"), true, S), -1);
	assert_int_equal(try(&attacker, STR("b@example.org"), true, S), -1); /* the network as a whole */
	assert_int_equal(try(&attacker, STR("a@example.org"), true, 62 * S), 0);
	assert_int_equal(try(&attacker, STR("c@example.org"), false, 3 * 3600 * S), 0);
}

static void networks_of_ipv6(void **state UNUSED)
{
	struct ip a = { .family = IP_V6, .b = { 0x20, 1, 0xd, 0xb8, [15] = 1 } }, b = a, c = a;
	b.b[15] = 2; /* the same /64 */
	c.b[7] = 1;
	for (unsigned i = 0; i < GUESSES_NETWORK_MAX; i++)
		assert_true(try(i % 2 ? &a : &b, STR("a@example.org"), false, S) >= 0);
	assert_int_equal(try(&a, STR("x@example.org"), false, S), -1);
	assert_true(try(&c, STR("x@example.org"), false, S) >= 0);
}

static void at_once(void **state UNUSED)
{
	for (unsigned i = 0; i < GUESSES_AT_ONCE_MAX; i++)
		assert_true(guesses_begin(&g, &attacker, STR("a@example.org"), S));
	assert_false(guesses_begin(&g, &attacker, STR("a@example.org"), S));
	assert_true(guesses_begin(&g, &home, STR("a@example.org"), S));
	(void)guesses_end(&g, &attacker, STR("a@example.org"), GUESS_UNKNOWN, S);
	assert_true(guesses_begin(&g, &attacker, STR("a@example.org"), S));
}

static void bounded(void **state UNUSED)
{
	struct ip ip = home;
	for (uint32_t i = 0; i < 3 * GUESSES_MAX; i++) {
		memcpy(ip.b, &i, 4);
		(void)try(&ip, STR("a@example.org"), false, S);
		assert_true(g.by_key.n <= GUESSES_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(brute_force, begin, end),   cmocka_unit_test_setup_teardown(forgiven, begin, end),
		cmocka_unit_test_setup_teardown(networks_of_ipv6, begin, end), cmocka_unit_test_setup_teardown(at_once, begin, end),
		cmocka_unit_test_setup_teardown(bounded, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
