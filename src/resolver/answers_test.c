/* SPDX-License-Identifier: Apache-2.0 */
/* Remembered answers: their time, and their bounds. */
#include "resolver/answers.h"

#include "base/test.h"

#define S INT64_C(1000000000)

static void remembers_until_the_time_is_over(void **state)
{
	struct mem *mem = mem_new(0);
	struct answers a;
	struct str got;
	uint32_t ttl = 0;
	answers_init(&a, mem, (struct sip_key){ 1, 2 });
	answers_put(&a, STR("k"), STR("one"), 10, 5 * S);
	assert_true(answers_get(&a, STR("k"), 8 * S + 1, &got, &ttl));
	assert_str(got, STR("one"));
	assert_int_equal(ttl, 6);
	assert_false(answers_get(&a, STR("K"), 8 * S, &got, &ttl));
	answers_put(&a, STR("k"), STR("two"), 2, 9 * S);
	assert_true(answers_get(&a, STR("k"), 9 * S, &got, &ttl));
	assert_str(got, STR("two"));
	assert_int_equal(a.n, 1);
	assert_false(answers_get(&a, STR("k"), 11 * S, &got, &ttl));
	assert_int_equal(a.n, 0);
	answers_put(&a, STR("k"), STR("none"), 0, 9 * S);
	assert_false(answers_get(&a, STR("k"), 9 * S, &got, &ttl));
	answers_free(&a);
	assert_int_equal(mem_used(mem), 0);
	mem_destroy(mem);
}

static void is_bounded(void **state)
{
	struct mem *mem = mem_new(0);
	struct answers a;
	struct str got;
	uint32_t ttl;
	char key[32];
	answers_init(&a, mem, (struct sip_key){ 1, 2 });
	for (unsigned i = 0; i < ANSWERS_MAX + 5; i++) {
		int n = snprintf(key, sizeof key, "%u", i);
		answers_put(&a, str_of(key, (size_t)n), STR("x"), 100, 0);
	}
	assert_int_equal(a.n, ANSWERS_MAX);
	assert_false(answers_get(&a, STR("4"), 0, &got, &ttl)); /* the first went */
	assert_true(answers_get(&a, STR("5"), 0, &got, &ttl));
	static char large[60000];
	for (unsigned i = 0; i < 1000; i++) {
		int n = snprintf(key, sizeof key, "l%u", i);
		answers_put(&a, str_of(key, (size_t)n), str_of(large, sizeof large), 100, 0);
	}
	assert_true(a.bytes <= ANSWERS_BYTES_MAX && a.bytes > ANSWERS_BYTES_MAX / 2);
	mem_fail_at(mem, 1, 1); /* without memory it goes on */
	answers_put(&a, STR("last"), STR("x"), 100, 0);
	assert_false(answers_get(&a, STR("last"), 0, &got, &ttl));
	answers_free(&a);
	assert_int_equal(mem_used(mem), 0);
	mem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_until_the_time_is_over),
		cmocka_unit_test(is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
