/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena: many small allocations freed together. One per scope: session ⊃ transaction ⊃ command.
 * Bounded; going over the bound gives NULL (ERR_LIMIT or ERR_NO_MEMORY by arena_err()). Belongs to one
 * coroutine. Keep small: struct arena is 40 bytes and takes no block before the first allocation.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

struct arena_block;
struct arena {
	struct mem *mem;
	struct arena_block *head;
	size_t used, max;
	enum err err; /* why the first failed allocation failed */
};

/* max_bytes bounds the sum of all allocations. */
struct arena arena_make(struct mem *mem, size_t max_bytes);
/* Frees everything; the arena is empty and usable again. */
void arena_close(struct arena *a);
/* The same for what was secret: overwritten before it is freed. */
void arena_wipe(struct arena *a);
#define ARENA_SCOPED __attribute__((cleanup(arena_close)))

/* n zeroed bytes, 16-byte aligned, or NULL. */
void *arena_alloc(struct arena *a, size_t n) MUST_CHECK;
/* Overflow-checked array of count elements. */
void *arena_array(struct arena *a, size_t count, size_t elem_bytes) MUST_CHECK;
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_array((a), (count), sizeof(type)))

/* A copy of s in the arena; on failure {NULL,0} and the arena's error is set. */
struct str arena_str(struct arena *a, struct str s);
/* Formatted text in the arena (at most 4096 bytes); {NULL,0} on failure. */
struct str arena_strf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A NUL-terminated copy for a library's door; NULL on failure or when s holds a NUL. */
const char *arena_z(struct arena *a, struct str s);
/* ERR_NONE, or why an allocation failed: test once, at the end. */
static inline enum err arena_err(const struct arena *a)
{
	return a->err;
}

#endif
