/* SPDX-License-Identifier: Apache-2.0 */
/* list: order, removal (of the current one too), and that removing twice does nothing. */
#include "base/list.h"

#include "base/test.h"

static void order(void **state)
{
	struct list l, n[4] = { 0 };
	int i = 0;

	list_init(&l);
	assert_true(list_is_empty(&l));
	assert_null(list_pop_front(&l));
	list_push_back(&l, &n[1]);
	list_push_back(&l, &n[2]);
	list_push_front(&l, &n[0]);
	list_push_back(&l, &n[3]);
	LIST_EACH (&l, it) {
		assert_ptr_equal(it, &n[i]);
		i++;
		if (i == 2)
			list_remove(it);
	}
	assert_int_equal(i, 4);
	assert_false(list_linked(&n[1]));
	list_remove(&n[1]);
	assert_ptr_equal(list_pop_front(&l), &n[0]);
	assert_ptr_equal(list_pop_front(&l), &n[2]);
	assert_ptr_equal(list_pop_front(&l), &n[3]);
	assert_true(list_is_empty(&l));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(order) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
