/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of bytes whose error sticks: after the first failure each operation returns zeros or
 * nothing, and cursor_end() tells. Numbers are little-endian.
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/str.h"

struct cursor {
	const char *p, *end;
	enum err err;
};

struct cursor cursor_of(struct str s);
size_t cursor_left(const struct cursor *c);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
/* The next n bytes as a view; ERR_SYNTAX if there are fewer. */
struct str cursor_bytes(struct cursor *c, size_t n);
/* u32 length, then that many bytes; a length above max is ERR_LIMIT. */
struct str cursor_str(struct cursor *c, size_t max);
/* Sets the sticky error, if none is set yet. */
void cursor_fail(struct cursor *c, enum err e);
/* The sticky error, or ERR_SYNTAX when bytes are left over. */
enum err cursor_end(const struct cursor *c) MUST_CHECK;

/* Writers, for symmetry: append to a buf (whose error sticks too). */
struct buf;
void put_u8(struct buf *b, uint8_t v);
void put_u16(struct buf *b, uint16_t v);
void put_u32(struct buf *b, uint32_t v);
void put_u64(struct buf *b, uint64_t v);
void put_str(struct buf *b, struct str s); /* u32 length + bytes */

#endif
