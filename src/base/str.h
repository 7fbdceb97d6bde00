/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct str: a view of n bytes, by value; NUL is an ordinary byte, and nothing ends with one.
 * A view never owns; the caller knows how long what it points to lives.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct str {
	const char *p;
	size_t n;
};

#define STR(lit) ((struct str){ "" lit, sizeof(lit) - 1 })
#define STR_NONE ((struct str){ NULL, 0 })
/* For printf("%.*s", STR_ARG(s)); only where the bytes are known to be printable. */
#define STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_of(const char *p, size_t n)
{
	return (struct str){ p, n };
}
/* From a NUL-terminated string at a library's door; NULL gives the empty view. */
struct str str_z(const char *z);

bool str_eq(struct str a, struct str b);
/* ASCII letters compare without case; all other bytes exactly. */
bool str_eq_nocase(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_starts_nocase(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_ends_nocase(struct str s, struct str suffix);
/* Bytewise order, shorter first on a tie: <0, 0, >0. */
int str_cmp(struct str a, struct str b);
/* Index of the first/last `c`, or s.n when there is none. */
size_t str_find(struct str s, char c);
size_t str_rfind(struct str s, char c);
/* Index of the first occurrence of `what`, or s.n. */
size_t str_find_str(struct str s, struct str what);
/* The part [from, to), clamped to the view. */
struct str str_sub(struct str s, size_t from, size_t to);
/* Without leading and trailing SP and HTAB. */
struct str str_trim(struct str s);
/* Splits at the first `sep`: returns what is before it, *rest_out is what follows (empty if none). */
struct str str_split(struct str s, char sep, struct str *rest_out);

/* Whole view is one decimal number without sign, blank or leading '+': ERR_SYNTAX, ERR_LIMIT if > max. */
enum err str_to_u64(struct str s, uint64_t max, uint64_t *value_out) MUST_CHECK;

/* All bytes are 0x20..0x7e. */
bool str_is_printable_ascii(struct str s);
/* Well-formed UTF-8 by RFC 3629 (no overlong forms, surrogates, or values above U+10FFFF). */
bool str_is_utf8(struct str s);
/* Length in bytes of the first character, or 0 when it is malformed (or s is empty). */
size_t str_utf8_first(struct str s);
/* Some byte is >= 0x80. */
bool str_has_8bit(struct str s);
/* Some byte is below 0x20 or 0x7f. */
bool str_has_control(struct str s);

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline bool ascii_is_digit(char c)
{
	return c >= '0' && c <= '9';
}
static inline bool ascii_is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool ascii_is_alnum(char c)
{
	return ascii_is_alpha(c) || ascii_is_digit(c);
}

#endif
