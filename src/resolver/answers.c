/* SPDX-License-Identifier: Apache-2.0 */
/* Remembered answers: see answers.h. Runs in the process resolver. */
#include "resolver/answers.h"

#include "base/heap.h"

#define SECOND_NS INT64_C(1000000000)

struct answer {
	struct list link;
	int64_t until_ns;
	struct str key, bytes; /* behind the struct */
};

void answers_init(struct answers *a, struct mem *mem, struct sip_key key)
{
	*a = (struct answers){ .mem = mem, .table = table_make(mem, key, ANSWERS_MAX + 1) };
	list_init(&a->oldest);
}

static size_t size_of(const struct answer *it)
{
	return sizeof *it + it->key.n + it->bytes.n;
}

static void drop(struct answers *a, struct answer *it)
{
	(void)table_del(&a->table, it->key);
	list_remove(&it->link);
	a->n--;
	a->bytes -= size_of(it);
	mem_free(a->mem, it);
}

void answers_free(struct answers *a)
{
	LIST_EACH(&a->oldest, it)
		drop(a, CONTAINER_OF(it, struct answer, link));
	table_free(&a->table);
}

bool answers_get(struct answers *a, struct str key, int64_t now_ns, struct str *bytes_out, uint32_t *ttl_out)
{
	struct answer *it = table_get(&a->table, key);
	if (!it)
		return false;
	if (it->until_ns - now_ns < SECOND_NS) {
		drop(a, it);
		return false;
	}
	*bytes_out = it->bytes;
	*ttl_out = (uint32_t)((it->until_ns - now_ns) / SECOND_NS);
	return true;
}

static struct answer *answer_new(struct answers *a, struct str key, struct str bytes)
{
	struct answer *it = mem_alloc(a->mem, sizeof *it + key.n + bytes.n);
	if (!it)
		return NULL;
	char *p = (char *)(it + 1);
	memcpy(p, key.p, key.n);
	memcpy(p + key.n, bytes.p, bytes.n);
	it->key = str_of(p, key.n);
	it->bytes = str_of(p + key.n, bytes.n);
	return it;
}

void answers_put(struct answers *a, struct str key, struct str bytes, uint32_t ttl, int64_t now_ns)
{
	struct answer *old = table_get(&a->table, key);
	if (old)
		drop(a, old);
	struct answer *it = ttl > 0 ? answer_new(a, key, bytes) : NULL;
	if (!it)
		return;
	it->until_ns = now_ns + ttl * SECOND_NS;
	while (a->n > 0 && (a->n >= ANSWERS_MAX || a->bytes + size_of(it) > ANSWERS_BYTES_MAX))
		drop(a, CONTAINER_OF(a->oldest.next, struct answer, link));
	if (table_put(&a->table, it->key, it) != ERR_NONE) {
		mem_free(a->mem, it);
		return;
	}
	list_push_back(&a->oldest, &it->link);
	a->n++;
	a->bytes += size_of(it);
}
