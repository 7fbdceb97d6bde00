/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What unit tests share: cmocka with what it needs before it, and a generator of random numbers
 * whose every run is the same.
 */
#ifndef BASE_TEST_H
#define BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

#define assert_str(actual, expected)                                              \
	do {                                                                      \
		struct str actual_ = (actual), expected_ = (expected);            \
		assert_int_equal(actual_.n, expected_.n);                         \
		if (expected_.n)                                                  \
			assert_memory_equal(actual_.p, expected_.p, expected_.n); \
	} while (0)

/* xorshift64*; the state is any number but 0. */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

#endif
