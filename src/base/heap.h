/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary min-heap of intrusive nodes ordered by a signed 64-bit key (a time). A node is in at most
 * one heap; its index is kept in it, so that removal and change of key are O(log n).
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include "base/mem.h"

struct heap_node {
	int64_t key;
	uint32_t index_plus_1; /* 0: in no heap */
};
struct heap {
	struct mem *mem;
	struct heap_node **v;
	uint32_t n, cap;
};

struct heap heap_make(struct mem *mem);
void heap_free(struct heap *h);
/* A node that is in this heap already gets the new key (and no error). */
enum err heap_put(struct heap *h, struct heap_node *node, int64_t key) MUST_CHECK;
/* Room for n nodes in all: as long as there are no more, heap_put() cannot fail. */
enum err heap_reserve(struct heap *h, size_t n) MUST_CHECK;
/* No-op when the node is in no heap. */
void heap_del(struct heap *h, struct heap_node *node);
/* The node with the smallest key, or NULL; it stays in the heap. */
struct heap_node *heap_min(const struct heap *h);

static inline int heap_holds(const struct heap_node *node)
{
	return node->index_plus_1 != 0;
}

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#endif
