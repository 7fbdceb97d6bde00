/* SPDX-License-Identifier: Apache-2.0 */
/* heap: against a plain array, with random operations. */
#include "base/heap.h"

#include "base/test.h"

#define NODES 200

static int64_t smallest(const struct heap_node *nodes)
{
	int64_t min = INT64_MAX;

	for (int i = 0; i < NODES; i++)
		if (heap_holds(&nodes[i]) && nodes[i].key < min)
			min = nodes[i].key;
	return min;
}

static uint32_t held(const struct heap_node *nodes)
{
	uint32_t n = 0;

	for (int i = 0; i < NODES; i++)
		n += (uint32_t)heap_holds(&nodes[i]);
	return n;
}

static void against_an_array(void **state)
{
	struct mem *m = mem_new(0);
	struct heap h = heap_make(m);
	struct heap_node nodes[NODES] = { 0 };
	uint64_t random = 7;

	assert_null(heap_min(&h));
	for (int i = 0; i < 20000; i++) {
		struct heap_node *node = &nodes[test_random(&random) % NODES];
		int64_t key = (int64_t)(test_random(&random) % 1000) - 500;

		if (test_random(&random) % 3)
			assert_int_equal(heap_put(&h, node, key), ERR_NONE);
		else
			heap_del(&h, node);
		assert_int_equal(h.n, held(nodes));
		if (h.n)
			assert_int_equal(heap_min(&h)->key, smallest(nodes));
		else
			assert_null(heap_min(&h));
	}
	for (int64_t last = INT64_MIN; h.n > 0;) {
		struct heap_node *node = heap_min(&h);

		assert_true(node->key >= last);
		last = node->key;
		heap_del(&h, node);
		assert_false(heap_holds(node));
	}
	heap_free(&h);
	mem_destroy(m);
}

static void memory_fails(void **state)
{
	struct mem *m = mem_new(0);
	struct heap h = heap_make(m);
	struct heap_node a = { 0 }, more[16] = { 0 };

	mem_fail_at(m, 1, 1);
	assert_int_equal(heap_put(&h, &a, 1), ERR_NO_MEMORY);
	assert_false(heap_holds(&a));
	for (int i = 0; i < 16; i++)
		assert_int_equal(heap_put(&h, &more[i], INT64_MAX - i), ERR_NONE);
	mem_fail_at(m, 1, 1);
	assert_int_equal(heap_put(&h, &a, 1), ERR_NO_MEMORY);
	assert_int_equal(heap_put(&h, &more[0], INT64_MIN), ERR_NONE); /* change needs no memory */
	assert_ptr_equal(heap_min(&h), &more[0]);
	heap_free(&h);
	assert_false(heap_holds(&more[0]));
	mem_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(against_an_array),
		cmocka_unit_test(memory_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
