/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views of bytes. Every input may be hostile; nothing here reads outside its view, and an empty
 * view may have a NULL pointer (hence the tests of n before each mem*() call).
 */
#include "base/str.h"

struct str str_z(const char *z)
{
	return z ? (struct str){ z, strlen(z) } : STR_NONE;
}

bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_nocase(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq(str_of(s.p, prefix.n), prefix);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq_nocase(str_of(s.p, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq(str_sub(s, s.n - suffix.n, s.n), suffix);
}

bool str_ends_nocase(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq_nocase(str_sub(s, s.n - suffix.n, s.n), suffix);
}

int str_cmp(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n ? memcmp(a.p, b.p, n) : 0;

	if (order != 0)
		return order;
	return a.n < b.n ? -1 : a.n > b.n;
}

size_t str_find(struct str s, char c)
{
	const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

size_t str_rfind(struct str s, char c)
{
	const char *hit = s.n ? memrchr(s.p, c, s.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

size_t str_find_str(struct str s, struct str what)
{
	if (what.n == 0)
		return 0;
	if (what.n > s.n)
		return s.n;

	const char *hit = memmem(s.p, s.n, what.p, what.n);

	return hit ? (size_t)(hit - s.p) : s.n;
}

struct str str_sub(struct str s, size_t from, size_t to)
{
	if (to > s.n)
		to = s.n;
	if (from > to)
		from = to;
	return (struct str){ s.p ? s.p + from : NULL, to - from };
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
	size_t from = 0, to = s.n;

	while (from < to && is_blank(s.p[from]))
		from++;
	while (to > from && is_blank(s.p[to - 1]))
		to--;
	return str_sub(s, from, to);
}

struct str str_split(struct str s, char sep, struct str *rest_out)
{
	size_t at = str_find(s, sep);

	*rest_out = str_sub(s, at < s.n ? at + 1 : s.n, s.n);
	return str_sub(s, 0, at);
}

enum err str_to_u64(struct str s, uint64_t max, uint64_t *value_out)
{
	uint64_t v = 0;
	bool over = false;

	if (s.n == 0)
		return ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_is_digit(s.p[i]))
			return ERR_SYNTAX; /* takes precedence over a limit that was passed before
					    */
		over = over || __builtin_mul_overflow(v, 10, &v) ||
		       __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v);
	}
	if (over || v > max)
		return ERR_LIMIT;
	*value_out = v;
	return ERR_NONE;
}

bool str_is_printable_ascii(struct str s)
{
	bool bad = false;

	for (size_t i = 0; i < s.n; i++)
		bad |= (unsigned char)(s.p[i] - 0x20) > 0x7e - 0x20;
	return !bad;
}

/* Of 8 bytes, the top bits: how ASCII is passed over quickly. */
static uint64_t top_bits(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof word);
	return word & UINT64_C(0x8080808080808080);
}

bool str_has_8bit(struct str s)
{
	size_t i = 0;

	for (; s.n - i >= 8; i += 8)
		if (top_bits(s.p + i))
			return true;
	for (; i < s.n; i++)
		if (s.p[i] & 0x80)
			return true;
	return false;
}

bool str_has_control(struct str s)
{
	bool found = false;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		found |= c < 0x20 || c == 0x7f;
	}
	return found;
}

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/*
 * Of the one multi-byte character at the start of p[0..n), or 0.
 * RFC 3629 §4: the second byte's range is what excludes overlong forms, surrogates and > U+10FFFF.
 */
static size_t utf8_char_bytes(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (n < len || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (!is_tail(p[i]))
			return 0;
	return len;
}

size_t str_utf8_first(struct str s)
{
	if (s.n == 0)
		return 0;
	return s.p[0] & 0x80 ? utf8_char_bytes((const unsigned char *)s.p, s.n) : 1;
}

bool str_is_utf8(struct str s)
{
	size_t i = 0;

	while (i < s.n) {
		if (s.n - i >= 8 && !top_bits(s.p + i)) {
			i += 8;
		} else if (!(s.p[i] & 0x80)) {
			i++;
		} else {
			size_t len = utf8_char_bytes((const unsigned char *)s.p + i, s.n - i);

			if (len == 0)
				return false;
			i += len;
		}
	}
	return true;
}
