/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates and message ids as text. No time zone, no locale, no libc: times outside the years 1970 to
 * 9999 are shown as the nearest of these (RFC 5322 §3.3 has four digits for the year).
 */
#include "base/clockfmt.h"

#define DAY_MS	    INT64_C(86400000)
#define LAST_MS	    INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define ID_EPOCH_MS INT64_C(1577836800000)   /* 2020-01-01T00:00:00Z */

struct civil {
	unsigned year, month, day; /* month 1..12, day 1..31 */
	unsigned weekday;	   /* 0 = Sunday */
	unsigned hour, minute, second, ms;
};

/*
 * Days are counted from 0000-03-01, so that the leap day is the last of its year; an era is the
 * Gregorian cycle of 400 years = 146097 days.
 */
static struct civil civil_of(int64_t wall_ms)
{
	if (wall_ms < 0)
		wall_ms = 0;
	if (wall_ms > LAST_MS)
		wall_ms = LAST_MS;

	unsigned days = (unsigned)(wall_ms / DAY_MS);
	unsigned ms = (unsigned)(wall_ms % DAY_MS);
	unsigned since_march = days + 719468; /* days from 0000-03-01 to 1970-01-01 */
	unsigned era = since_march / 146097;
	unsigned day_of_era = since_march % 146097;
	unsigned year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned month_from_march = (5 * day_of_year + 2) / 153;
	unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;

	return (struct civil){
		.year = era * 400 + year_of_era + (month <= 2),
		.month = month,
		.day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
		.weekday = (days + 4) % 7, /* 1970-01-01 was a Thursday */
		.hour = ms / 3600000,
		.minute = ms / 60000 % 60,
		.second = ms / 1000 % 60,
		.ms = ms % 1000,
	};
}

static void digits(char *p, unsigned v, unsigned n)
{
	while (n > 0) {
		p[--n] = (char)('0' + v % 10);
		v /= 10;
	}
}

void date_add_rfc5322(struct buf *b, int64_t wall_ms)
{
	static const char weekdays[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct civil t = civil_of(wall_ms);
	char text[] = "Www, dd Mmm yyyy hh:mm:ss +0000";

	memcpy(text, weekdays + 3 * t.weekday, 3);
	digits(text + 5, t.day, 2);
	memcpy(text + 8, months + 3 * (t.month - 1), 3);
	digits(text + 12, t.year, 4);
	digits(text + 17, t.hour, 2);
	digits(text + 20, t.minute, 2);
	digits(text + 23, t.second, 2);
	buf_add(b, str_of(text, sizeof text - 1));
}

void date_add_rfc3339(struct buf *b, int64_t wall_ms)
{
	struct civil t = civil_of(wall_ms);
	char text[] = "yyyy-mm-ddThh:mm:ss.mmmZ";

	digits(text, t.year, 4);
	digits(text + 5, t.month, 2);
	digits(text + 8, t.day, 2);
	digits(text + 11, t.hour, 2);
	digits(text + 14, t.minute, 2);
	digits(text + 17, t.second, 2);
	digits(text + 20, t.ms, 3);
	buf_add(b, str_of(text, sizeof text - 1));
}

uint64_t msg_id_make(int64_t wall_ms, unsigned worker, unsigned counter)
{
	uint64_t ms = wall_ms > ID_EPOCH_MS ? (uint64_t)(wall_ms - ID_EPOCH_MS) : 0;

	return (ms & ((UINT64_C(1) << 41) - 1)) << 23 | (uint64_t)(worker & 0x7f) << 16 |
	       (counter & 0xffff);
}

static const char crockford[] = "0123456789abcdefghjkmnpqrstvwxyz";

void msg_id_add(struct buf *b, uint64_t id)
{
	char text[MSG_ID_CHARS];

	for (size_t i = MSG_ID_CHARS; i > 0; i--) {
		text[i - 1] = crockford[id & 31];
		id >>= 5;
	}
	buf_add(b, str_of(text, sizeof text));
}

enum err msg_id_parse(struct str s, uint64_t *id_out)
{
	uint64_t id = 0;

	if (s.n != MSG_ID_CHARS)
		return ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		size_t digit = str_find(str_of(crockford, 32), ascii_lower(s.p[i]));

		if (digit >= 32 || (i == 0 && digit > 15)) /* 13 characters would hold 65 bits */
			return ERR_SYNTAX;
		id = id << 5 | digit;
	}
	*id_out = id;
	return ERR_NONE;
}
