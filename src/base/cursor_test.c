/* SPDX-License-Identifier: Apache-2.0 */
/* cursor: what was put is read back; everything cut short is an error that sticks. */
#include "base/cursor.h"

#include "base/buf.h"
#include "base/test.h"

static struct str put_all(struct buf *b)
{
	put_u8(b, 0xfe);
	put_u16(b, 0x1234);
	put_u32(b, 0xdeadbeef);
	put_u64(b, UINT64_C(0x0123456789abcdef));
	put_str(b, STR("hello"));
	put_str(b, STR_NONE);
	assert_int_equal(buf_err(b), ERR_NONE);
	return buf_str(b);
}

static void reads_back(void **state)
{
	char room[100];
	struct buf b = buf_fixed(room, sizeof room);
	struct cursor c = cursor_of(put_all(&b));

	assert_memory_equal(room, "\xfe\x34\x12\xef\xbe\xad\xde", 7); /* little-endian */
	assert_int_equal(cursor_left(&c), 28);
	assert_int_equal(cursor_u8(&c), 0xfe);
	assert_int_equal(cursor_u16(&c), 0x1234);
	assert_int_equal(cursor_u32(&c), 0xdeadbeef);
	assert_int_equal(cursor_u64(&c), UINT64_C(0x0123456789abcdef));
	assert_int_equal(cursor_end(&c), ERR_SYNTAX); /* bytes are left */
	assert_str(cursor_str(&c, 5), STR("hello"));
	assert_str(cursor_str(&c, 0), STR(""));
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(cursor_end(&c), ERR_NONE);
}

static void cut_short(void **state)
{
	char room[100];
	struct buf b = buf_fixed(room, sizeof room);
	struct str whole = put_all(&b);

	for (size_t n = 0; n < whole.n; n++) {
		struct cursor c = cursor_of(str_sub(whole, 0, n));

		cursor_u8(&c);
		cursor_u16(&c);
		cursor_u32(&c);
		cursor_u64(&c);
		cursor_str(&c, 100);
		cursor_str(&c, 100);
		assert_int_equal(cursor_end(&c), ERR_SYNTAX);
	}
}

static void error_sticks(void **state)
{
	struct cursor c = cursor_of(STR("\x01\x02\x03"));

	assert_int_equal(cursor_u32(&c), 0);
	assert_int_equal(cursor_u8(&c), 0); /* though a byte is there */
	assert_null(cursor_bytes(&c, 0).p);
	assert_int_equal(cursor_left(&c), 0);
	cursor_fail(&c, ERR_LIMIT);
	assert_int_equal(cursor_end(&c), ERR_SYNTAX);
}

static void limits(void **state)
{
	struct cursor c = cursor_of(STR("\x06\0\0\0hello!"));

	assert_str(cursor_str(&c, 5), STR(""));
	assert_int_equal(cursor_end(&c), ERR_LIMIT);
	c = cursor_of(STR("\xff\xff\xff\xffhello"));
	assert_str(cursor_str(&c, SIZE_MAX), STR(""));
	assert_int_equal(cursor_end(&c), ERR_SYNTAX);
	c = cursor_of(STR("abc"));
	assert_str(cursor_bytes(&c, SIZE_MAX), STR(""));
	assert_int_equal(cursor_end(&c), ERR_SYNTAX);
	c = cursor_of(STR_NONE);
	assert_str(cursor_bytes(&c, 0), STR(""));
	assert_int_equal(cursor_end(&c), ERR_NONE);
	assert_int_equal(cursor_u8(&c), 0);
	assert_int_equal(cursor_end(&c), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_back),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(error_sticks),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
