/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader with the sticky error, and its writers. What is read may be hostile (a peer's packet,
 * a damaged segment): lengths are compared with what is left, never added to a pointer first.
 */
#include "base/cursor.h"

#include "base/buf.h"

struct cursor cursor_of(struct str s)
{
	return (struct cursor){ s.p, s.p ? s.p + s.n : NULL, ERR_NONE };
}

size_t cursor_left(const struct cursor *c)
{
	return c->err ? 0 : (size_t)(c->end - c->p);
}

void cursor_fail(struct cursor *c, enum err e)
{
	if (!c->err)
		c->err = e;
}

enum err cursor_end(const struct cursor *c)
{
	if (c->err)
		return c->err;
	return c->p == c->end ? ERR_NONE : ERR_SYNTAX;
}

struct str cursor_bytes(struct cursor *c, size_t n)
{
	if (n > cursor_left(c)) {
		cursor_fail(c, ERR_SYNTAX);
		return STR_NONE;
	}
	if (c->err)
		return STR_NONE; /* n is 0 */

	struct str s = { c->p, n };

	if (n)
		c->p += n;
	return s;
}

static uint64_t get_le(struct cursor *c, size_t bytes)
{
	struct str s = cursor_bytes(c, bytes);
	uint64_t v = 0;

	for (size_t i = s.n; i > 0; i--)
		v = v << 8 | (unsigned char)s.p[i - 1];
	return v;
}

uint8_t cursor_u8(struct cursor *c)
{
	return (uint8_t)get_le(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
	return (uint16_t)get_le(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
	return (uint32_t)get_le(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
	return get_le(c, 8);
}

struct str cursor_str(struct cursor *c, size_t max)
{
	size_t n = cursor_u32(c);

	if (n > max)
		cursor_fail(c, ERR_LIMIT);
	return cursor_bytes(c, c->err ? 0 : n);
}

static void put_le(struct buf *b, uint64_t v, size_t bytes)
{
	char text[8];

	for (size_t i = 0; i < bytes; i++)
		text[i] = (char)(v >> (8 * i) & 0xff);
	buf_add(b, str_of(text, bytes));
}

void put_u8(struct buf *b, uint8_t v)
{
	put_le(b, v, 1);
}

void put_u16(struct buf *b, uint16_t v)
{
	put_le(b, v, 2);
}

void put_u32(struct buf *b, uint32_t v)
{
	put_le(b, v, 4);
}

void put_u64(struct buf *b, uint64_t v)
{
	put_le(b, v, 8);
}

void put_str(struct buf *b, struct str s)
{
	if (s.n > UINT32_MAX) {
		b->err = b->err ? b->err : ERR_LIMIT;
		return;
	}
	put_u32(b, (uint32_t)s.n);
	buf_add(b, s);
}
