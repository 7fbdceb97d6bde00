/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas of blocks that grow from 512 B to 64 KiB, so that a small session stays small and a large
 * one asks seldom. Under ASan what was not handed out is poisoned, with a gap after each
 * allocation.
 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define GAP_BYTES 16
#else
#define ASAN_POISON_MEMORY_REGION(p, n)	  ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define GAP_BYTES			  0
#endif

#define ALIGN_BYTES	  16
#define FIRST_BLOCK_BYTES 512
#define LAST_BLOCK_BYTES  65536
#define STRF_MAX_BYTES	  4096

/* The bytes follow the header. */
struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	size_t grow_bytes; /* size of the next ordinary block, with its header */
};
_Static_assert(sizeof(struct arena_block) % ALIGN_BYTES == 0, "the bytes behind it are aligned");

struct arena arena_make(struct mem *mem, size_t max_bytes)
{
	return (struct arena){ .mem = mem, .max = max_bytes };
}

void arena_close(struct arena *a)
{
	for (struct arena_block *b = a->head, *next; b; b = next) {
		next = b->next;
		mem_free(a->mem, b);
	}
	*a = arena_make(a->mem, a->max);
}

void arena_wipe(struct arena *a)
{
	for (struct arena_block *b = a->head; b; b = b->next) {
		ASAN_UNPOISON_MEMORY_REGION(b + 1, b->cap);
		explicit_bzero(b + 1, b->cap);
	}
	arena_close(a);
}

static void *arena_fail(struct arena *a, enum err e)
{
	if (!a->err)
		a->err = e;
	return NULL;
}

/* A block with room for n bytes: an ordinary one, or one of its own for what is larger. */
static struct arena_block *block_add(struct arena *a, size_t n)
{
	size_t grow = a->head ? a->head->grow_bytes : FIRST_BLOCK_BYTES;
	size_t bytes = sizeof(struct arena_block) + n;
	bool ordinary = bytes <= grow;
	struct arena_block *b = mem_alloc(a->mem, ordinary ? grow : bytes);

	if (!b)
		return NULL;
	b->cap = (ordinary ? grow : bytes) - sizeof *b;
	b->grow_bytes = ordinary && grow < LAST_BLOCK_BYTES ? grow * 2 : grow;
	ASAN_POISON_MEMORY_REGION(b + 1, b->cap);
	if (ordinary || !a->head) {
		b->next = a->head;
		a->head = b;
	} else { /* keep the head: it may still have room for small things */
		b->next = a->head->next;
		a->head->next = b;
	}
	return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
	if (n > a->max - a->used || n > SIZE_MAX / 2)
		return arena_fail(a, ERR_LIMIT);

	size_t step = (n + (ALIGN_BYTES - 1)) & ~(size_t)(ALIGN_BYTES - 1);
	size_t room = (step ? step : ALIGN_BYTES) + GAP_BYTES;
	struct arena_block *b = a->head;

	if (!b || room > b->cap - b->used) {
		b = block_add(a, room);
		if (!b)
			return arena_fail(a, ERR_NO_MEMORY);
	}

	char *p = (char *)(b + 1) + b->used;

	b->used += room;
	a->used = step > a->max - a->used ? a->max : a->used + step;
	ASAN_UNPOISON_MEMORY_REGION(p, n);
	return p;
}

void *arena_array(struct arena *a, size_t count, size_t elem_bytes)
{
	size_t n;

	if (__builtin_mul_overflow(count, elem_bytes, &n))
		return arena_fail(a, ERR_LIMIT);
	return arena_alloc(a, n);
}

struct str arena_str(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n);

	if (!p)
		return STR_NONE;
	if (s.n)
		memcpy(p, s.p, s.n);
	return str_of(p, s.n);
}

struct str arena_strf(struct arena *a, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (n < 0 || n > STRF_MAX_BYTES) {
		arena_fail(a, ERR_LIMIT);
		return STR_NONE;
	}
	if ((size_t)n < sizeof text)
		return arena_str(a, str_of(text, (size_t)n));

	char *p = arena_alloc(a, (size_t)n + 1);

	if (!p)
		return STR_NONE;
	va_start(args, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, args);
	va_end(args);
	return str_of(p, (size_t)n);
}

const char *arena_z(struct arena *a, struct str s)
{
	if (str_find(s, '\0') < s.n)
		return arena_fail(a, ERR_SYNTAX);

	char *p = arena_alloc(a, s.n + 1); /* zeroed: ends with NUL */

	if (p && s.n)
		memcpy(p, s.p, s.n);
	return p;
}
