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

/* n digits, no more than max, then the separator (0: none). */
static bool take_number(struct str *s, size_t n, unsigned max, char separator, unsigned *v_out)
{
	uint64_t v = 0;
	if (s->n < n + (separator != 0) || str_to_u64(str_sub(*s, 0, n), max, &v) != ERR_NONE ||
	    (separator && (s->p[n] | (ascii_is_alpha(separator) ? 0x20 : 0)) != separator))
		return false;
	*v_out = (unsigned)v;
	*s = str_sub(*s, n + (separator != 0), s->n);
	return true;
}

/* ".123", of any length; then "Z", "+hh:mm" or "-hh:mm". */
static bool take_rest(struct str s, unsigned *ms_out, int *offset_minutes_out)
{
	unsigned hours = 0, minutes = 0, scale = 100;
	*ms_out = 0;
	if (s.n > 1 && s.p[0] == '.' && ascii_is_digit(s.p[1]))
		for (s = str_sub(s, 1, s.n); s.n > 0 && ascii_is_digit(s.p[0]); s = str_sub(s, 1, s.n)) {
			*ms_out += (unsigned)(s.p[0] - '0') * scale;
			scale /= 10;
		}
	char sign = s.n > 0 ? s.p[0] : '\0';
	s = str_sub(s, 1, s.n);
	*offset_minutes_out = 0;
	if (sign == 'Z' || sign == 'z')
		return s.n == 0;
	if ((sign != '+' && sign != '-') || !take_number(&s, 2, 23, ':', &hours) || !take_number(&s, 2, 59, '\0', &minutes) || s.n > 0)
		return false;
	*offset_minutes_out = (sign == '-' ? -1 : 1) * (int)(hours * 60 + minutes);
	return true;
}

/* Days from 1970-01-01; the year begins in March, so that a leap day is its last. */
static int64_t days_of(unsigned year, unsigned month, unsigned day)
{
	int64_t y = (int64_t)year - (month <= 2);
	unsigned m = (month + 9) % 12;
	return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

enum err date_parse_rfc3339(struct str s, int64_t *wall_ms_out)
{
	static const uint8_t lengths[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned year, month, day, hour, minute, second, ms;
	int offset;
	if (!take_number(&s, 4, 9999, '-', &year) || !take_number(&s, 2, 12, '-', &month) || !take_number(&s, 2, 31, 't', &day) ||
	    !take_number(&s, 2, 23, ':', &hour) || !take_number(&s, 2, 59, ':', &minute) || !take_number(&s, 2, 60, '\0', &second) ||
	    !take_rest(s, &ms, &offset))
		return ERR_SYNTAX;
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	if (month == 0 || day == 0 || day > lengths[month - 1] + (unsigned)(leap && month == 2))
		return ERR_SYNTAX;
	int64_t at = days_of(year, month, day) * DAY_MS + ((int64_t)hour * 60 + minute - offset) * 60000 + second * 1000LL + ms;
	if (at < 0)
		return ERR_SYNTAX;
	*wall_ms_out = at;
	return ERR_NONE;
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
