/* SPDX-License-Identifier: Apache-2.0 */
/* clockfmt: dates against known ones and against gmtime(), ids there and back. */
#include "base/clockfmt.h"

#include <time.h>

#include "base/test.h"

static void known_dates(void **state)
{
	static const struct {
		int64_t ms;
		struct str rfc5322, rfc3339;
	} rows[] = {
		{ 0, STR("Thu, 01 Jan 1970 00:00:00 +0000"), STR("1970-01-01T00:00:00.000Z") },
		{ -1, STR("Thu, 01 Jan 1970 00:00:00 +0000"), STR("1970-01-01T00:00:00.000Z") },
		{ INT64_MIN, STR("Thu, 01 Jan 1970 00:00:00 +0000"),
		  STR("1970-01-01T00:00:00.000Z") },
		{ 951782400000, STR("Tue, 29 Feb 2000 00:00:00 +0000"),
		  STR("2000-02-29T00:00:00.000Z") },
		{ 1795459863123, STR("Mon, 23 Nov 2026 18:51:03 +0000"),
		  STR("2026-11-23T18:51:03.123Z") },
		{ 2147483648000, STR("Tue, 19 Jan 2038 03:14:08 +0000"),
		  STR("2038-01-19T03:14:08.000Z") },
		{ 4107542399999, STR("Sun, 28 Feb 2100 23:59:59 +0000"),
		  STR("2100-02-28T23:59:59.999Z") },
		{ INT64_MAX, STR("Fri, 31 Dec 9999 23:59:59 +0000"),
		  STR("9999-12-31T23:59:59.999Z") },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char room[64];
		struct buf b = buf_fixed(room, sizeof room);

		date_add_rfc5322(&b, rows[i].ms);
		assert_str(buf_str(&b), rows[i].rfc5322);
		buf_clear(&b);
		date_add_rfc3339(&b, rows[i].ms);
		assert_str(buf_str(&b), rows[i].rfc3339);
	}
}

/* Each day to the year 9999. */
static void against_gmtime(void **state)
{
	for (time_t t = 3661; t < 253402300800; t += 86400) {
		char room[64], expected[64];
		struct buf b = buf_fixed(room, sizeof room);
		struct tm tm;

		gmtime_r(&t, &tm);

		size_t n = strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S +0000", &tm);

		date_add_rfc5322(&b, (int64_t)t * 1000 + 999);
		if (!str_eq(buf_str(&b), str_of(expected, n)))
			fail_msg("%s", expected);
	}
}

static void ids_print_and_parse(void **state)
{
	uint64_t random = 3;

	for (int i = 0; i < 10000; i++) {
		uint64_t id = i == 0 ? 0 : i == 1 ? UINT64_MAX : test_random(&random), back;
		char room[MSG_ID_CHARS];
		struct buf b = buf_fixed(room, sizeof room);

		msg_id_add(&b, id);
		assert_int_equal(b.n, MSG_ID_CHARS);
		assert_int_equal(msg_id_parse(buf_str(&b), &back), ERR_NONE);
		assert_int_equal(back, id);
	}
}

static void ids_order_by_time(void **state)
{
	uint64_t a = msg_id_make(1795459863123, 127, 65535);
	uint64_t b = msg_id_make(1795459863124, 0, 0);

	assert_true(a < b);
	assert_int_equal(a & 0xffff, 65535);
	assert_int_equal(a >> 16 & 0x7f, 127);
	assert_int_equal(a >> 23, 1795459863123 - 1577836800000);
	assert_int_equal(msg_id_make(0, 1, 2), 0x10002);
	assert_int_equal(msg_id_make(INT64_MIN, 1, 2), 0x10002);
	assert_int_equal(msg_id_make(1577836800000, 128, 65536), 0); /* taken modulo */
}

static void bad_ids(void **state)
{
	static const struct str rows[] = {
		STR_NONE,
		STR("000000000000"),
		STR("00000000000000"),
		STR("g000000000000"), /* bit 65 */
		STR("000000000000l"),
		STR("000000000000i"),
		STR("000000000000o"),
		STR("000000000000u"),
		STR("000000000000-"),
		STR("000000000000\0"),
		STR("00000000000\xc3\xa4"),
	};
	uint64_t id = 5;

	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(msg_id_parse(rows[i], &id), ERR_SYNTAX);
	assert_int_equal(id, 5);
	assert_int_equal(msg_id_parse(STR("FZZZZZZZZZZZZ"), &id), ERR_NONE);
	assert_int_equal(id, UINT64_MAX);
}

static void dates_back(void **state)
{
	static const struct {
		struct str text;
		int64_t ms;
	} rows[] = {
		{ STR("1970-01-01T00:00:00Z"), 0 },
		{ STR("2000-02-29T00:00:00.000Z"), 951782400000 },
		{ STR("2026-11-23T18:51:03.123Z"), 1795459863123 },
		{ STR("2026-11-23t18:51:03.1239999z"), 1795459863123 },
		{ STR("2026-11-23T20:51:03+02:00"), 1795459863000 },
		{ STR("2026-11-23T13:21:03-05:30"), 1795459863000 },
		{ STR("2016-12-31T23:59:60Z"), 1483228800000 }, /* a leap second is the next one */
		{ STR("9999-12-31T23:59:59.999Z"), 253402300799999 },
	};
	static const struct str bad[] = {
		STR(""), STR("2026-11-23"), STR("2026-11-23T18:51:03"), STR("2026-11-23 18:51:03Z"), STR("2026-13-23T18:51:03Z"),
		STR("2026-02-29T18:51:03Z"), STR("2026-00-23T18:51:03Z"), STR("2026-11-31T18:51:03Z"), STR("2026-11-23T24:00:00Z"),
		STR("2026-11-23T18:60:00Z"), STR("2026-11-23T18:51:03.Z"), STR("2026-11-23T18:51:03Zx"), STR("2026-11-23T18:51:03+2:00"),
		STR("2026-11-23T18:51:03+24:00"), STR("+026-11-23T18:51:03Z"), STR("1969-12-31T23:59:59Z"), STR("1900-02-29T00:00:00Z"),
	};
	int64_t ms;

	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(date_parse_rfc3339(rows[i].text, &ms), ERR_NONE);
		assert_int_equal(ms, rows[i].ms);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(date_parse_rfc3339(bad[i], &ms), ERR_SYNTAX);
	for (int64_t at = 0; at < 253402300799999; at += 86399999 * 37LL + 1) {
		char room[64];
		struct buf b = buf_fixed(room, sizeof room);
		date_add_rfc3339(&b, at);
		assert_int_equal(date_parse_rfc3339(buf_str(&b), &ms), ERR_NONE);
		assert_int_equal(ms, at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_dates), cmocka_unit_test(dates_back),
		cmocka_unit_test(against_gmtime),
		cmocka_unit_test(ids_print_and_parse),
		cmocka_unit_test(ids_order_by_time),
		cmocka_unit_test(bad_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
