/* SPDX-License-Identifier: Apache-2.0 */
/* buf: growth up to the maximum, the sticky error, and the printers. */
#include "base/buf.h"

#include "base/test.h"

static void fixed_fills_exactly(void **state)
{
	char room[5];
	struct buf b = buf_fixed(room, sizeof room);

	buf_add(&b, STR("abc"));
	buf_add(&b, STR_NONE);
	buf_add(&b, STR("de"));
	assert_int_equal(buf_err(&b), ERR_NONE);
	assert_str(buf_str(&b), STR("abcde"));
	buf_add(&b, STR(""));
	assert_int_equal(buf_err(&b), ERR_NONE);
	buf_add_char(&b, 'f');
	assert_int_equal(buf_err(&b), ERR_LIMIT);
	buf_clear(&b);
	assert_int_equal(buf_err(&b), ERR_NONE);
	assert_int_equal(buf_str(&b).n, 0);
}

static void error_sticks(void **state)
{
	char room[5];
	struct buf b = buf_fixed(room, sizeof room);

	buf_add(&b, STR("abcdef"));
	assert_int_equal(buf_err(&b), ERR_LIMIT);
	buf_add_char(&b, 'a'); /* would fit */
	assert_null(buf_reserve(&b, 1));
	assert_int_equal(buf_str(&b).n, 0);
}

static void grows_to_its_maximum(void **state)
{
	struct mem *m = mem_new(0);
	struct buf b = buf_grow(m, 1000);

	assert_int_equal(mem_blocks(m), 0);
	for (int i = 0; i < 1000; i++)
		buf_add_char(&b, (char)('a' + i % 26));
	assert_int_equal(buf_err(&b), ERR_NONE);
	assert_int_equal(b.n, 1000);
	assert_int_equal(mem_used(m), 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(b.p[i], 'a' + i % 26);
	buf_add_char(&b, 'x');
	assert_int_equal(buf_err(&b), ERR_LIMIT);
	assert_int_equal(b.n, 1000);
	buf_free(&b);
	assert_int_equal(mem_blocks(m), 0);
	buf_free(&b);
	buf_add(&b, STR("again"));
	assert_str(buf_str(&b), STR("again"));
	buf_free(&b);
	mem_destroy(m);
}

static void memory_runs_out(void **state)
{
	struct mem *m = mem_new(100);
	struct buf b = buf_grow(m, 1000);

	buf_add(&b, STR("abc"));
	while (!buf_err(&b))
		buf_add_char(&b, 'x');
	assert_int_equal(buf_err(&b), ERR_NO_MEMORY);
	assert_int_equal(b.n, 64);
	assert_memory_equal(b.p, "abcx", 4);
	buf_free(&b);
	mem_destroy(m);
}

static void numbers(void **state)
{
	char room[200];
	struct buf b = buf_fixed(room, sizeof room);

	buf_add_u64(&b, 0);
	buf_add_char(&b, ' ');
	buf_add_u64(&b, UINT64_MAX);
	buf_add_char(&b, ' ');
	buf_add_i64(&b, INT64_MIN);
	buf_add_char(&b, ' ');
	buf_add_i64(&b, 42);
	buf_add_char(&b, ' ');
	buf_add_hex(&b, 0xbeef, 6);
	buf_add_char(&b, ' ');
	buf_add_hex(&b, UINT64_MAX, 16);
	buf_add_hex(&b, 1, 0);
	assert_str(buf_str(&b), STR("0 18446744073709551615 -9223372036854775808 42 00beef "
				    "ffffffffffffffff"));
}

/* Lengths around the size at which the text is formatted in place. */
static void formats(void **state)
{
	struct mem *m = mem_new(0);
	struct buf b = buf_grow(m, 100000);
	char small[10];

	for (int n = 0; n < 600; n++) {
		buf_clear(&b);
		buf_addf(&b, "<%*d>", n, 7);
		assert_int_equal(b.n, (n ? n : 1) + 2);
		assert_memory_equal(b.p + b.n - 2, "7>", 2);
	}
	buf_free(&b);
	b = buf_fixed(small, sizeof small);
	buf_addf(&b, "%s", "0123456789");
	assert_str(buf_str(&b), STR("0123456789"));
	buf_clear(&b);
	buf_addf(&b, "%d%s", 1, "0123456789");
	assert_int_equal(buf_err(&b), ERR_LIMIT);
	mem_destroy(m);
}

static void safe_text(void **state)
{
	static const struct {
		struct str in;
		size_t max;
		struct str out;
	} rows[] = {
		{ STR("plain ~text"), 99, STR("plain ~text") },
		{ STR("a\r\nb"), 99, STR("a\\x0d\\x0ab") },
		{ STR("\x1b[31m"), 99, STR("\\x1b[31m") },
		{ STR("\\x0d"), 99, STR("\\x5cx0d") },
		{ STR("\0\x7f\x80\xff"), 99, STR("\\x00\\x7f\\x80\\xff") },
		{ STR("abcdef"), 3, STR("abc") },
		{ STR("ab\ncd"), 3, STR("ab\\x0a") },
		{ STR_NONE, 3, STR("") },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[100];
		struct buf b = buf_fixed(room, sizeof room);

		buf_add_safe(&b, rows[i].in, rows[i].max);
		assert_str(buf_str(&b), rows[i].out);
	}
}

static void reserve_and_consume(void **state)
{
	struct mem *m = mem_new(0);
	struct buf b = buf_grow(m, 300);
	char *p = buf_reserve(&b, 200);

	assert_non_null(p);
	memcpy(p, "hello world", 11);
	assert_int_equal(b.n, 0);
	buf_commit(&b, 11);
	buf_consume(&b, 6);
	assert_str(buf_str(&b), STR("world"));
	buf_consume(&b, 0);
	buf_consume(&b, 5);
	assert_int_equal(b.n, 0);
	assert_null(buf_reserve(&b, 301));
	assert_int_equal(buf_err(&b), ERR_LIMIT);
	buf_free(&b);
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_free(&b);
	mem_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_fills_exactly),
		cmocka_unit_test(error_sticks),
		cmocka_unit_test(grows_to_its_maximum),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(numbers),
		cmocka_unit_test(formats),
		cmocka_unit_test(safe_text),
		cmocka_unit_test(reserve_and_consume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
