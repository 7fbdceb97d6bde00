/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one process. Every heap block belongs to a `struct mem`, so that a process's memory has a
 * bound (P7), an n-th-allocation fault can be injected, and a simulated process that is killed gives
 * all of it back. Not thread-safe: helper threads allocate nothing.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct mem;

/* A new handle; limit_bytes 0 = no limit. NULL when the system has no memory. */
struct mem *mem_new(size_t limit_bytes);
/* The same for a process that ends with its memory: cheaper; mem_destroy() frees the handle alone. */
struct mem *mem_new_unlisted(size_t limit_bytes);
/* Frees the handle and every block that is still allocated from it. */
void mem_destroy(struct mem *m);

/* n zeroed bytes, 16-byte aligned, or NULL (limit, fault, system). n may be 0. */
void *mem_alloc(struct mem *m, size_t n) MUST_CHECK;
/* The same for memory that the caller overwrites at once: not zeroed. */
void *mem_alloc_raw(struct mem *m, size_t n) MUST_CHECK;
/* Like realloc(): on failure returns NULL and the old block stays. New bytes are not zeroed. */
void *mem_resize(struct mem *m, void *p, size_t n) MUST_CHECK;
/* p may be NULL. */
void mem_free(struct mem *m, void *p);

size_t mem_used(const struct mem *m);	/* bytes allocated now, without overhead */
size_t mem_blocks(const struct mem *m); /* blocks allocated now */
size_t mem_limit(const struct mem *m);

/* Fault injection: the nth allocation from now fails (1 = the next), then `count` in all; 0 = none. */
void mem_fail_at(struct mem *m, uint64_t nth, uint64_t count);
/* Allocations asked for so far: what a fault run counts up to. */
uint64_t mem_requests(const struct mem *m);

#endif
