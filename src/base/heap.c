/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary min-heap. Invariants: v[i]->index_plus_1 == i + 1; v[i]->key >= v[parent(i)]->key.
 */
#include "base/heap.h"

#define FIRST_CAP 16

struct heap heap_make(struct mem *mem)
{
	return (struct heap){ .mem = mem };
}

void heap_free(struct heap *h)
{
	for (uint32_t i = 0; i < h->n; i++)
		h->v[i]->index_plus_1 = 0;
	mem_free(h->mem, h->v);
	*h = heap_make(h->mem);
}

static void heap_set(struct heap *h, uint32_t i, struct heap_node *node)
{
	h->v[i] = node;
	node->index_plus_1 = i + 1;
}

static void sift_up(struct heap *h, uint32_t i, struct heap_node *node)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / 2;

		if (h->v[parent]->key <= node->key)
			break;
		heap_set(h, i, h->v[parent]);
		i = parent;
	}
	heap_set(h, i, node);
}

static void sift_down(struct heap *h, uint32_t i, struct heap_node *node)
{
	for (;;) {
		uint64_t child = (uint64_t)i * 2 + 1;

		if (child >= h->n)
			break;
		if (child + 1 < h->n && h->v[child + 1]->key < h->v[child]->key)
			child++;
		if (node->key <= h->v[child]->key)
			break;
		heap_set(h, i, h->v[child]);
		i = (uint32_t)child;
	}
	heap_set(h, i, node);
}

/* Puts `node` into the hole at i, upwards or downwards. */
static void heap_settle(struct heap *h, uint32_t i, struct heap_node *node)
{
	if (i > 0 && h->v[(i - 1) / 2]->key > node->key)
		sift_up(h, i, node);
	else
		sift_down(h, i, node);
}

static enum err heap_enlarge(struct heap *h)
{
	if (h->cap > UINT32_MAX / 4)
		return ERR_LIMIT;

	uint32_t cap = h->cap ? h->cap * 2 : FIRST_CAP;
	struct heap_node **v = mem_resize(h->mem, h->v, cap * sizeof *v);

	if (!v)
		return ERR_NO_MEMORY;
	h->v = v;
	h->cap = cap;
	return ERR_NONE;
}

enum err heap_reserve(struct heap *h, size_t n)
{
	while (h->cap < n) {
		enum err e = heap_enlarge(h);
		if (e != ERR_NONE)
			return e;
	}
	return ERR_NONE;
}

enum err heap_put(struct heap *h, struct heap_node *node, int64_t key)
{
	if (node->index_plus_1) {
		uint32_t i = node->index_plus_1 - 1;

		ASSERT(i < h->n && h->v[i] == node);
		node->key = key;
		heap_settle(h, i, node);
		return ERR_NONE;
	}
	if (h->n == h->cap)
		TRY(heap_enlarge(h));
	node->key = key;
	sift_up(h, h->n++, node);
	return ERR_NONE;
}

void heap_del(struct heap *h, struct heap_node *node)
{
	if (!node->index_plus_1)
		return;

	uint32_t i = node->index_plus_1 - 1;

	ASSERT(i < h->n && h->v[i] == node);
	node->index_plus_1 = 0;

	struct heap_node *last = h->v[--h->n];

	if (last != node)
		heap_settle(h, i, last);
}

struct heap_node *heap_min(const struct heap *h)
{
	return h->n ? h->v[0] : NULL;
}
