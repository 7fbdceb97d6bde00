/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that grow. All appends go through buf_reserve(), which is where the maximum is kept and the
 * error becomes sticky; the bytes appended may be hostile, their number is bounded by b->max.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define FIRST_BYTES 64 /* of a growing buf */

struct buf buf_fixed(char *p, size_t cap)
{
	return (struct buf){ .p = p, .cap = p ? cap : 0, .max = p ? cap : 0 };
}

struct buf buf_grow(struct mem *mem, size_t max)
{
	return (struct buf){ .mem = mem, .max = max };
}

void buf_free(struct buf *b)
{
	if (b->mem) {
		mem_free(b->mem, b->p);
		b->p = NULL;
		b->cap = 0;
	}
	buf_clear(b);
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	b->err = ERR_NONE;
}

/* Makes room for n more bytes, n > cap - b->n. */
__attribute__((noinline)) static enum err buf_enlarge(struct buf *b, size_t n)
{
	if (!b->mem || n > b->max - b->n)
		return ERR_LIMIT;

	size_t need = b->n + n;
	size_t cap = b->cap ? b->cap : FIRST_BYTES;

	while (cap < need)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	if (cap > b->max)
		cap = b->max;

	char *p = mem_resize(b->mem, b->p, cap);

	if (!p)
		return ERR_NO_MEMORY;
	b->p = p;
	b->cap = cap;
	return ERR_NONE;
}

/* The usual case inline: there is room. */
static inline char *reserve(struct buf *b, size_t n)
{
	if (__builtin_expect(b->err != ERR_NONE, 0))
		return NULL;
	if (__builtin_expect(n > b->cap - b->n || !b->p, 0)) {
		b->err = buf_enlarge(b, n);
		if (b->err)
			return NULL;
	}
	return b->p + b->n;
}

char *buf_reserve(struct buf *b, size_t n)
{
	return reserve(b, n);
}

void buf_commit(struct buf *b, size_t n)
{
	ASSERT(n <= b->cap - b->n);
	b->n += n;
}

void buf_consume(struct buf *b, size_t n)
{
	ASSERT(n <= b->n);
	if (n == 0)
		return;
	b->n -= n;
	if (b->n)
		memmove(b->p, b->p + n, b->n);
}

void buf_add(struct buf *b, struct str s)
{
	if (s.n == 0)
		return;

	char *p = reserve(b, s.n);

	if (!p)
		return;
	memcpy(p, s.p, s.n);
	b->n += s.n;
}

void buf_add_char(struct buf *b, char c)
{
	char *p = reserve(b, 1);

	if (!p)
		return;
	*p = c;
	b->n++;
}

void buf_add_u64(struct buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	buf_add(b, str_of(digits + at, sizeof digits - at));
}

void buf_add_i64(struct buf *b, int64_t v)
{
	if (v < 0)
		buf_add_char(b, '-');
	buf_add_u64(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

static const char hex_digit[] = "0123456789abcdef";

void buf_add_hex(struct buf *b, uint64_t v, unsigned digits)
{
	char text[16];

	ASSERT(digits <= sizeof text);
	for (unsigned i = digits; i > 0; i--) {
		text[i - 1] = hex_digit[v & 15];
		v >>= 4;
	}
	buf_add(b, str_of(text, digits));
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (n < 0) {
		b->err = b->err ? b->err : ERR_SYNTAX;
		return;
	}
	if ((size_t)n < sizeof text) {
		buf_add(b, str_of(text, (size_t)n));
		return;
	}

	char *p = buf_reserve(
		b, (size_t)n + 1); /* with room for vsnprintf's NUL, which is not counted */

	if (!p)
		return;
	va_start(args, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, args);
	va_end(args);
	b->n += (size_t)n;
}

void buf_add_safe(struct buf *b, struct str s, size_t max_bytes)
{
	s = str_sub(s, 0, max_bytes);
	for (size_t i = 0; i < s.n && !b->err; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 0x20 && c <= 0x7e && c != '\\') {
			buf_add_char(b, (char)c);
		} else {
			char esc[4] = { '\\', 'x', hex_digit[c >> 4], hex_digit[c & 15] };

			buf_add(b, str_of(esc, sizeof esc));
		}
	}
}
