/* SPDX-License-Identifier: Apache-2.0 */
/* mem: accounting, the limit, the n-th fault, and that destroying frees what was left behind. */
#include "base/mem.h"

#include "base/test.h"

static void accounts(void **state)
{
	struct mem *m = mem_new(0);
	char *a = mem_alloc(m, 100);
	char *b = mem_alloc(m, 0);

	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal((uintptr_t)a % 16, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(a[i], 0);
	assert_int_equal(mem_used(m), 100);
	assert_int_equal(mem_blocks(m), 2);
	memset(a, 'x', 100);
	a = mem_resize(m, a, 100000);
	assert_non_null(a);
	assert_int_equal(a[99], 'x');
	assert_int_equal(mem_used(m), 100000);
	a = mem_resize(m, a, 10);
	assert_int_equal(mem_used(m), 10);
	mem_free(m, a);
	mem_free(m, NULL);
	assert_int_equal(mem_used(m), 0);
	assert_int_equal(mem_blocks(m), 1);
	mem_destroy(m); /* b is left behind: LeakSanitizer would tell */
	mem_destroy(NULL);
}

static void limits(void **state)
{
	struct mem *m = mem_new(1000);
	char *a = mem_alloc(m, 600);

	assert_int_equal(mem_limit(m), 1000);
	assert_null(mem_alloc(m, 401));
	assert_null(mem_resize(m, a, 1001));
	assert_null(mem_alloc(m, SIZE_MAX));
	assert_null(mem_alloc_raw(m, SIZE_MAX - 8));
	assert_int_equal(mem_used(m), 600);
	a = mem_resize(m, a, 1000);
	assert_non_null(a);
	assert_null(mem_alloc(m, 1));
	mem_free(m, a);
	assert_non_null(mem_alloc(m, 1000));
	mem_destroy(m);

	m = mem_new(0);
	assert_null(mem_alloc(m, SIZE_MAX)); /* no overflow without a limit either */
	assert_null(mem_resize(m, NULL, SIZE_MAX - 31));
	mem_destroy(m);
}

/* Each allocation in turn fails, and only that one. */
static void nth_fails(void **state)
{
	for (uint64_t nth = 1; nth <= 4; nth++) {
		struct mem *m = mem_new(0);
		void *p[4];

		mem_fail_at(m, nth, 1);
		for (uint64_t i = 0; i < 4; i++) {
			p[i] = i % 2 ? mem_alloc(m, 8) : mem_resize(m, NULL, 8);
			assert_int_equal(p[i] == NULL, i + 1 == nth);
		}
		assert_int_equal(mem_requests(m), 4);
		assert_int_equal(mem_blocks(m), 3);
		mem_destroy(m);
	}
}

static void runs_of_faults(void **state)
{
	struct mem *m = mem_new(0);
	void *keep = mem_alloc(m, 1);

	mem_fail_at(m, 2, 3);
	assert_non_null(mem_alloc(m, 1));
	assert_null(mem_alloc(m, 1));
	assert_null(mem_resize(m, keep, 100)); /* and the block stays */
	assert_null(mem_alloc_raw(m, 1));
	assert_non_null(mem_alloc(m, 1));
	mem_fail_at(m, 1, UINT64_MAX);
	assert_null(mem_alloc(m, 1));
	mem_fail_at(m, 0, 0);
	assert_non_null(mem_alloc(m, 1));
	mem_free(m, keep);
	mem_destroy(m);
}

/* The cheaper kind counts and keeps the same. */
static void unlisted(void **state)
{
	struct mem *m = mem_new_unlisted(1000);
	char *p = mem_alloc(m, 100), *q = mem_alloc_raw(m, 200);
	assert_non_null(p);
	assert_non_null(q);
	assert_int_equal((uintptr_t)p % 16 + (uintptr_t)q % 16, 0);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	memset(p, 7, 100);
	p = mem_resize(m, p, 600);
	assert_non_null(p);
	assert_int_equal(p[0] + p[99], 14);
	assert_int_equal(mem_used(m), 800);
	assert_null(mem_alloc(m, 300)); /* the limit */
	mem_free(m, q);
	mem_free(m, p);
	assert_int_equal(mem_blocks(m), 0);
	assert_int_equal(mem_used(m), 0);
	mem_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unlisted),
		cmocka_unit_test(accounts),
		cmocka_unit_test(limits),
		cmocka_unit_test(nth_fails),
		cmocka_unit_test(runs_of_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
