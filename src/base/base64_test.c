/* SPDX-License-Identifier: Apache-2.0 */
/* base64: the vectors of RFC 4648 §10, all bytes there and back, and what is no base64. */
#include "base/base64.h"

#include "base/test.h"

static struct arena room(struct mem *mem)
{
	return arena_make(mem, 1 << 16);
}

static void vectors(void **state)
{
	static const struct {
		struct str plain, text;
	} rows[] = {
		{ STR(""), STR("") },	       { STR("f"), STR("Zg==") },	  { STR("fo"), STR("Zm8=") },
		{ STR("foo"), STR("Zm9v") },   { STR("foob"), STR("Zm9vYg==") }, { STR("fooba"), STR("Zm9vYmE=") },
		{ STR("foobar"), STR("Zm9vYmFy") }, { STR("\0a\0b"), STR("AGEAYg==") },
	};
	struct mem *mem = mem_new(1 << 20);
	struct arena a = room(mem);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct str back;
		assert_str(base64_encode(&a, rows[i].plain), rows[i].text);
		assert_int_equal(base64_decode(&a, rows[i].text, &back), ERR_NONE);
		assert_str(back, rows[i].plain);
	}
	arena_close(&a);
	mem_destroy(mem);
	(void)state;
}

static void all_bytes(void **state)
{
	char bytes[256];
	struct mem *mem = mem_new(1 << 20);
	struct arena a = room(mem);
	for (unsigned i = 0; i < 256; i++)
		bytes[i] = (char)i;
	for (size_t n = 0; n <= 256; n++) {
		struct str back;
		assert_int_equal(base64_decode(&a, base64_encode(&a, str_of(bytes, n)), &back), ERR_NONE);
		assert_str(back, str_of(bytes, n));
		arena_close(&a);
	}
	mem_destroy(mem);
	(void)state;
}

static void not_base64(void **state)
{
	static const struct str bad[] = {
		STR("Z"),    STR("Zg"),	  STR("Zg="),  STR("Zg==="), STR("===="), STR("Z==="), STR("Zg=a"),   STR("Zm9\n"),
		STR("Zm-v"), STR("Zm 9"), STR("Zh=="), STR("Zm9="),  STR("="),	  STR("Zg==Zg=="), STR("\0AAA"),
	};
	struct mem *mem = mem_new(1 << 20);
	struct arena a = room(mem);
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct str out;
		assert_int_equal(base64_decode(&a, bad[i], &out), ERR_SYNTAX);
	}
	arena_close(&a);
	mem_destroy(mem);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(vectors), cmocka_unit_test(all_bytes), cmocka_unit_test(not_base64) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
