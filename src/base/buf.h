/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct buf: bytes that grow up to a declared maximum. The error sticks: after the first append that
 * does not fit (or find memory) nothing more is added, and buf_err() says so at the end.
 * Either fixed (over the caller's memory: buf_fixed) or growing from a struct mem (buf_grow).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/mem.h"
#include "base/str.h"

struct buf {
	char *p;
	size_t n, cap, max;
	struct mem *mem; /* NULL: fixed */
	enum err err;
};

/* Over `cap` bytes at p, which outlive the buf. p NULL (an allocation that failed): room for nothing. */
struct buf buf_fixed(char *p, size_t cap);
/* Grows by doubling, never beyond max bytes. Allocates nothing before the first append. */
struct buf buf_grow(struct mem *mem, size_t max);
/* Frees a growing buf's memory; a fixed one is only emptied. Safe to call twice. */
void buf_free(struct buf *b);
/* Empties and clears the sticky error; keeps the memory. */
void buf_clear(struct buf *b);

/* s must not lie in b itself. */
void buf_add(struct buf *b, struct str s);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t v);		  /* decimal */
void buf_add_i64(struct buf *b, int64_t v);		  /* decimal */
void buf_add_hex(struct buf *b, uint64_t v, unsigned digits); /* lower case, zero padded */
/* A text above 255 bytes needs one spare byte of room for vsnprintf()'s NUL. */
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Text that is safe to print: bytes outside 0x20..0x7e and '\\' become \xHH; at most max_bytes of s. */
void buf_add_safe(struct buf *b, struct str s, size_t max_bytes);
/* n bytes of room at the end, not yet counted (NULL and sticky error if there is none); then buf_commit(). */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Drops the first n bytes (memmove). */
void buf_consume(struct buf *b, size_t n);

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->p, b->n };
}
static inline enum err buf_err(const struct buf *b)
{
	return b->err;
}

#endif
