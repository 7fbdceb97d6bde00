/* SPDX-License-Identifier: Apache-2.0 */
/* err: each error has its own name; errno values map as declared. */
#include "base/err.h"

#include <errno.h>

#include "base/test.h"

static void names_differ(void **state)
{
	for (int a = ERR_NONE; a <= ERR_CORRUPT; a++) {
		assert_string_not_equal(err_name((enum err)a), "unknown");
		for (int b = ERR_NONE; b < a; b++)
			assert_string_not_equal(err_name((enum err)a), err_name((enum err)b));
	}
	assert_string_equal(err_name((enum err)999), "unknown");
}

static void errno_maps(void **state)
{
	static const struct {
		int errnum;
		enum err err;
	} rows[] = {
		{ 0, ERR_NONE },
		{ EAGAIN, ERR_BUSY },
		{ ENOMEM, ERR_NO_MEMORY },
		{ ENOSPC, ERR_NO_SPACE },
		{ EDQUOT, ERR_NO_SPACE },
		{ ENOENT, ERR_NOT_FOUND },
		{ EEXIST, ERR_EXISTS },
		{ EACCES, ERR_DENIED },
		{ EPIPE, ERR_CLOSED },
		{ ECONNRESET, ERR_CLOSED },
		{ ETIMEDOUT, ERR_TIMEOUT },
		{ EFBIG, ERR_LIMIT },
		{ ECANCELED, ERR_CANCELLED },
		{ EIO, ERR_IO },
		{ EBADF, ERR_IO },
		{ -1, ERR_IO },
		{ 99999, ERR_IO },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(err_from_errno(rows[i].errnum), rows[i].err);
}

static enum err twice(enum err e, int *reached)
{
	TRY(e);
	++*reached;
	return ERR_EOF;
}

static void try_returns_early(void **state)
{
	int reached = 0;

	assert_int_equal(twice(ERR_LIMIT, &reached), ERR_LIMIT);
	assert_int_equal(reached, 0);
	assert_int_equal(twice(ERR_NONE, &reached), ERR_EOF);
	assert_int_equal(reached, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_differ),
		cmocka_unit_test(errno_maps),
		cmocka_unit_test(try_returns_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
