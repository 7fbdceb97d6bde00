/* SPDX-License-Identifier: Apache-2.0 */
/* arena: alignment, zeros, growth of the blocks, the bound, the error, and that closing frees all.
 */
#include "base/arena.h"

#include "base/test.h"

static void allocates(void **state)
{
	struct mem *m = mem_new(0);
	struct arena a = arena_make(m, 1 << 20);
	uint64_t random = 1;

	assert_int_equal(mem_blocks(m), 0);
	for (int i = 0; i < 2000; i++) {
		size_t n = test_random(&random) % (i % 100 == 99 ? 20000 : 200);
		unsigned char *p = arena_alloc(&a, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(p[k], 0);
		memset(p, 0xff, n); /* a later overlap would not be zero */
	}
	assert_int_equal(arena_err(&a), ERR_NONE);
	assert_true(mem_blocks(m) < 50);
	arena_close(&a);
	assert_int_equal(mem_blocks(m), 0);
	assert_non_null(arena_alloc(&a, 1)); /* usable again */
	arena_close(&a);
	arena_close(&a);
	mem_destroy(m);
}

static void stays_small(void **state)
{
	struct mem *m = mem_new(0);
	struct arena a = arena_make(m, 1 << 20);

	assert_non_null(arena_alloc(&a, 100));
	assert_int_equal(mem_used(m), 512);
	for (int i = 0; i < 20; i++)
		assert_non_null(arena_alloc(&a, 60));
	assert_true(mem_used(m) <= 512 + 1024 + 2048);
	arena_close(&a);
	mem_destroy(m);
}

static void is_bounded(void **state)
{
	struct mem *m = mem_new(0);
	struct arena a = arena_make(m, 1000);

	assert_non_null(arena_alloc(&a, 900));
	assert_null(arena_alloc(&a, 101));
	assert_int_equal(arena_err(&a), ERR_LIMIT);
	assert_non_null(arena_alloc(&a, 50));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_array(&a, SIZE_MAX / 2, 3));
	arena_close(&a);
	assert_int_equal(arena_err(&a), ERR_NONE);
	assert_non_null(arena_alloc(&a, 1000)); /* the bound itself */
	arena_close(&a);

	a = arena_make(m, SIZE_MAX);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_array(&a, SIZE_MAX, 2));
	assert_int_equal(arena_err(&a), ERR_LIMIT);
	arena_close(&a);
	mem_destroy(m);
}

static void memory_fails(void **state)
{
	struct mem *m = mem_new(0);
	struct arena a = arena_make(m, 1 << 20);

	mem_fail_at(m, 1, 1);
	assert_str(arena_str(&a, STR("x")), STR_NONE);
	assert_int_equal(arena_err(&a), ERR_NO_MEMORY);
	assert_null(arena_alloc(&a, 1 << 21));
	assert_int_equal(arena_err(&a), ERR_NO_MEMORY); /* the first one stays */
	arena_close(&a);
	mem_destroy(m);
}

static void closes_at_return(struct mem *m)
{
	ARENA_SCOPED struct arena a = arena_make(m, 1000);

	assert_non_null(arena_alloc(&a, 1));
}

static void texts(void **state)
{
	struct mem *m = mem_new(0);
	struct arena a = arena_make(m, 1 << 20);

	assert_str(arena_str(&a, STR("a\0b")), STR("a\0b"));
	assert_str(arena_strf(&a, "%d-%s", 7, "x"), STR("7-x"));
	for (int n = 250; n < 260; n++)
		assert_int_equal(arena_strf(&a, "%*d", n, 1).n, n);
	assert_int_equal(arena_strf(&a, "%4096d", 1).n, 4096);
	assert_int_equal(arena_err(&a), ERR_NONE);
	assert_null(arena_strf(&a, "%4097d", 1).p);
	assert_int_equal(arena_err(&a), ERR_LIMIT);
	arena_close(&a);
	assert_string_equal(arena_z(&a, STR("abc")), "abc");
	assert_string_equal(arena_z(&a, STR_NONE), "");
	assert_int_equal(arena_err(&a), ERR_NONE);
	assert_null(arena_z(&a, STR("a\0b")));
	assert_int_equal(arena_err(&a), ERR_SYNTAX);
	arena_close(&a);
	closes_at_return(m);
	assert_int_equal(mem_blocks(m), 0);
	mem_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocates),  cmocka_unit_test(stays_small),
		cmocka_unit_test(is_bounded), cmocka_unit_test(memory_fails),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
