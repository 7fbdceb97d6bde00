/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals, counted together: see refusals.h. Strangers' bytes are only copied. */
#include "smtpd/refusals.h"

#include "base/heap.h"

#define ARENA_MAX ((size_t)4 << 20)

struct refusal {
	struct list link;
	struct history_refused_in what;
};

void refusals_init(struct refusals *r, struct mem *mem, struct sip_key key)
{
	*r = (struct refusals){ .mem = mem, .key = key };
	r->by_hash = table64_make(mem, key, REFUSALS_MAX + REFUSALS_COARSE);
	r->arena = arena_make(mem, ARENA_MAX);
	list_init(&r->all);
}

void refusals_done(struct refusals *r)
{
	table64_free(&r->by_hash);
	arena_close(&r->arena);
	list_init(&r->all);
}

bool refusals_pending(const struct refusals *r)
{
	return !list_is_empty(&r->all);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t hash_of(const struct refusals *r, const struct history_refused_in *w, bool coarse)
{
	uint64_t h = siphash(r->key, str_of((const char *)w->client.b, sizeof w->client.b));
	h = mix(h, w->code);
	if (coarse)
		return mix(h, 1);
	h = mix(h, siphash(r->key, w->rule));
	h = mix(h, siphash(r->key, w->reverse_path));
	return mix(h, siphash(r->key, w->forward_path));
}

static void keep(struct refusals *r, const struct history_refused_in *w, uint64_t hash)
{
	struct refusal *f = ARENA_NEW(&r->arena, struct refusal);
	if (f) {
		f->what = *w;
		f->what.count = 1;
		f->what.helo = arena_str(&r->arena, w->helo);
		f->what.reverse_path = arena_str(&r->arena, w->reverse_path);
		f->what.forward_path = arena_str(&r->arena, w->forward_path);
		f->what.enhanced = arena_str(&r->arena, w->enhanced);
		f->what.text = arena_str(&r->arena, w->text);
		f->what.rule = arena_str(&r->arena, w->rule);
	}
	if (!f || arena_err(&r->arena) != ERR_NONE || table64_put(&r->by_hash, hash, f) != ERR_NONE)
		r->lost++;
	else
		list_push_back(&r->all, &f->link);
}

void refusals_add(struct refusals *r, const struct history_refused_in *what)
{
	bool coarse = r->by_hash.n >= REFUSALS_MAX;
	uint64_t hash = hash_of(r, what, false);
	struct refusal *f = table64_get(&r->by_hash, hash);
	if (!f && coarse) {
		hash = hash_of(r, what, true);
		f = table64_get(&r->by_hash, hash);
	}
	if (f) {
		f->what.count++;
		return;
	}
	struct history_refused_in w = *what;
	if (coarse)
		w.reverse_path = w.forward_path = w.helo = str_of("", 0);
	keep(r, &w, hash);
}

void refusals_flush(struct refusals *r,
		    void (*each)(void *arg, const struct history_refused_in *what), void *arg)
{
	LIST_EACH(&r->all, it)
	each(arg, &CONTAINER_OF(it, struct refusal, link)->what);
	struct mem *mem = r->mem;
	struct sip_key key = r->key;
	refusals_done(r);
	refusals_init(r, mem, key);
}
