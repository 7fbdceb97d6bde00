/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that calls malloc(). Each block has a header in front of it. Where mem_destroy() must find
 * what is left (a killed process of the simulation), a link stands before that; elsewhere it is spared, for
 * it would be read and written in two strange blocks at each call.
 */
#include "base/mem.h"

#include <stdlib.h>

#include "base/list.h"

struct mem {
	struct list blocks;
	size_t used, limit, n_blocks;
	size_t front; /* bytes in front of a block */
	bool listed;
	uint64_t requests;
	uint64_t fail_first, fail_end; /* requests numbered [first, end) fail */
};

/* The sizes keep the block behind them aligned to 16. */
struct header {
	struct mem *owner;
	size_t n;
};
struct listed_header {
	struct list link;
	struct header h;
};
_Static_assert(sizeof(struct header) % 16 == 0 && sizeof(struct listed_header) % 16 == 0, "blocks are 16-byte aligned");

static struct header *header_of(const struct mem *m, void *p)
{
	struct header *h = (struct header *)p - 1;

	ASSERT(h->owner == m); /* freed twice, or by another handle than it came from */
	return h;
}

/* What malloc() gave. */
static void *base_of(const struct mem *m, struct header *h)
{
	return (char *)(h + 1) - m->front;
}

struct mem *mem_new(size_t limit_bytes)
{
	struct mem *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	list_init(&m->blocks);
	m->limit = limit_bytes;
	m->listed = true;
	m->front = sizeof(struct listed_header);
	return m;
}

struct mem *mem_new_unlisted(size_t limit_bytes)
{
	struct mem *m = mem_new(limit_bytes);

	if (m) {
		m->listed = false;
		m->front = sizeof(struct header);
	}
	return m;
}

void mem_destroy(struct mem *m)
{
	if (!m)
		return;
	LIST_EACH (&m->blocks, it) {
		struct listed_header *l = (struct listed_header *)(void *)it; /* link is the first member */

		l->h.owner = NULL;
		free(l);
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

static void *block_adopt(struct mem *m, void *base, size_t n)
{
	if (!base)
		return NULL;
	struct header *h = (struct header *)(void *)((char *)base + m->front) - 1;
	h->owner = m;
	h->n = n;
	if (m->listed)
		list_push_back(&m->blocks, &((struct listed_header *)base)->link);
	m->used += n;
	m->n_blocks++;
	return h + 1;
}

void *mem_alloc(struct mem *m, size_t n)
{
	if (!mem_admits(m, n))
		return NULL;
	return block_adopt(m, calloc(1, m->front + n), n);
}

void *mem_alloc_raw(struct mem *m, size_t n)
{
	if (!mem_admits(m, n))
		return NULL;
	return block_adopt(m, malloc(m->front + n), n);
}

void *mem_resize(struct mem *m, void *p, size_t n)
{
	if (!p)
		return mem_alloc_raw(m, n);

	struct header *h = header_of(m, p);
	size_t old = h->n;

	if (!mem_admits(m, n > old ? n - old : 0))
		return NULL;
	void *base = realloc(base_of(m, h), m->front + n);
	if (!base)
		return NULL;
	if (m->listed) { /* the block may have moved */
		struct list *link = &((struct listed_header *)base)->link;
		link->prev->next = link;
		link->next->prev = link;
	}
	h = (struct header *)(void *)((char *)base + m->front) - 1;
	h->n = n;
	m->used = m->used - old + n;
	return h + 1;
}

void mem_free(struct mem *m, void *p)
{
	if (!p)
		return;

	struct header *h = header_of(m, p);
	void *base = base_of(m, h);

	if (m->listed)
		list_remove(&((struct listed_header *)base)->link);
	m->used -= h->n;
	m->n_blocks--;
	h->owner = NULL;
	free(base);
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
