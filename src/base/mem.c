/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that calls malloc(). Each block has a header in front of it that links it into its
 * handle's list, so that mem_destroy() finds what a killed (simulated) process left behind.
 */
#include "base/mem.h"

#include <stdlib.h>

#include "base/list.h"

struct mem {
	struct list blocks;
	size_t used, limit, n_blocks;
	uint64_t requests;
	uint64_t fail_first, fail_end; /* requests numbered [first, end) fail */
};

/* 32 bytes: keeps the block behind it aligned to 16. */
struct header {
	struct list link;
	struct mem *owner;
	size_t n;
};
_Static_assert(sizeof(struct header) % 16 == 0, "blocks are 16-byte aligned");

static struct header *header_of(const struct mem *m, void *p)
{
	struct header *h = (struct header *)p - 1;

	ASSERT(h->owner == m); /* freed twice, or by another handle than it came from */
	return h;
}

struct mem *mem_new(size_t limit_bytes)
{
	struct mem *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	list_init(&m->blocks);
	m->limit = limit_bytes;
	return m;
}

void mem_destroy(struct mem *m)
{
	if (!m)
		return;
	LIST_EACH (&m->blocks, it) {
		struct header *h = (struct header *)it; /* link is the first member */

		h->owner = NULL;
		free(h);
	}
	free(m);
}

/* Counts the request; may `more` bytes be added to what is in use? */
static bool mem_admits(struct mem *m, size_t more)
{
	uint64_t request = m->requests++;

	if (request >= m->fail_first && request < m->fail_end)
		return false;
	if (more > SIZE_MAX / 2)
		return false; /* so that adding a header never overflows, and neither does `used` */
	return !m->limit || (m->used <= m->limit && more <= m->limit - m->used);
}

static void *block_adopt(struct mem *m, struct header *h, size_t n)
{
	if (!h)
		return NULL;
	h->owner = m;
	h->n = n;
	list_push_back(&m->blocks, &h->link);
	m->used += n;
	m->n_blocks++;
	return h + 1;
}

void *mem_alloc(struct mem *m, size_t n)
{
	if (!mem_admits(m, n))
		return NULL;
	return block_adopt(m, calloc(1, sizeof(struct header) + n), n);
}

void *mem_alloc_raw(struct mem *m, size_t n)
{
	if (!mem_admits(m, n))
		return NULL;
	return block_adopt(m, malloc(sizeof(struct header) + n), n);
}

void *mem_resize(struct mem *m, void *p, size_t n)
{
	if (!p)
		return mem_alloc_raw(m, n);

	struct header *h = header_of(m, p);
	size_t old = h->n;

	if (!mem_admits(m, n > old ? n - old : 0))
		return NULL;
	h = realloc(h, sizeof *h + n);
	if (!h)
		return NULL;
	h->link.prev->next = &h->link; /* the block may have moved */
	h->link.next->prev = &h->link;
	h->n = n;
	m->used = m->used - old + n;
	return h + 1;
}

void mem_free(struct mem *m, void *p)
{
	if (!p)
		return;

	struct header *h = header_of(m, p);

	list_remove(&h->link);
	m->used -= h->n;
	m->n_blocks--;
	h->owner = NULL;
	free(h);
}

size_t mem_used(const struct mem *m)
{
	return m->used;
}

size_t mem_blocks(const struct mem *m)
{
	return m->n_blocks;
}

size_t mem_limit(const struct mem *m)
{
	return m->limit;
}

void mem_fail_at(struct mem *m, uint64_t nth, uint64_t count)
{
	m->fail_first = nth ? m->requests + nth - 1 : 0;
	m->fail_end = nth ? m->fail_first + count : 0;
	if (m->fail_end < m->fail_first)
		m->fail_end = UINT64_MAX;
}

uint64_t mem_requests(const struct mem *m)
{
	return m->requests;
}
