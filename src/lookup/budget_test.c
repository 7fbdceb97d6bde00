/* SPDX-License-Identifier: Apache-2.0 */
/* H68: an account sends so much an hour, and no more; others are not concerned. */
#include "lookup/budget.h"

#include "base/test.h"

#define MINUTE 60000LL
#define HOUR (60 * MINUTE)
#define ALICE STR("alice@example.org")

static struct mem *mem;
static struct budgets b;

static int begin(void **state UNUSED)
{
	mem = mem_new(64 << 20);
	budgets_init(&b, mem, (struct sip_key){ 1, 2 }, 60, 100);
	return 0;
}

static int end(void **state UNUSED)
{
	budgets_done(&b);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
	return 0;
}

static void messages(void **state UNUSED)
{
	for (unsigned i = 0; i < 60; i++)
		assert_true(budget_take(&b, ALICE, 1, 0).allowed);
	struct budget_answer a = budget_take(&b, ALICE, 1, 0);
	assert_false(a.allowed || a.by_recipients);
	assert_true(a.first);
	assert_int_equal(a.wait_ms, MINUTE);
	assert_false(budget_take(&b, ALICE, 1, 0).first);
	assert_true(budget_take(&b, STR("bob@example.org"), 1, 0).allowed);
	assert_false(budget_take(&b, ALICE, 1, MINUTE - 1).allowed);
	assert_true(budget_take(&b, ALICE, 1, MINUTE).allowed); /* what was refused did not count */
	assert_true(budget_take(&b, ALICE, 1, MINUTE).first);	 /* told again after something was allowed */
	for (unsigned i = 0; i < 60; i++)
		assert_true(budget_take(&b, ALICE, 1, 3 * HOUR).allowed);
	assert_false(budget_take(&b, ALICE, 1, 3 * HOUR).allowed);
}

static void recipients(void **state UNUSED)
{
	assert_true(budget_take(&b, ALICE, 100, 0).allowed);
	struct budget_answer a = budget_take(&b, ALICE, 50, 0);
	assert_false(a.allowed);
	assert_true(a.by_recipients);
	assert_int_equal(a.wait_ms, HOUR / 2);
	assert_true(budget_take(&b, ALICE, 50, HOUR / 2).allowed);
	a = budget_take(&b, STR("carol@example.org"), 101, 0); /* never: more than an hour's */
	assert_false(a.allowed);
	assert_true(a.by_recipients);
	assert_true(budget_take(&b, STR("carol@example.org"), 100, -HOUR).allowed); /* the clock was set back */
}

static void no_limit(void **state UNUSED)
{
	b.messages = b.recipients = 0;
	for (unsigned i = 0; i < 1000; i++)
		assert_true(budget_take(&b, ALICE, 1000, 0).allowed);
}

static void bounded(void **state UNUSED)
{
	for (uint32_t i = 0; i < 2 * BUDGETS_MAX; i++)
		assert_true(budget_take(&b, str_of((const char *)&i, sizeof i), 1, 0).allowed);
	assert_true(b.by_key.n <= BUDGETS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages, begin, end),
		cmocka_unit_test_setup_teardown(recipients, begin, end),
		cmocka_unit_test_setup_teardown(no_limit, begin, end),
		cmocka_unit_test_setup_teardown(bounded, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
