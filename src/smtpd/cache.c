/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of lookup, kept: see cache.h. */
#include "smtpd/cache.h"

#include "base/heap.h"

#define KEY_BYTES_MAX	1600u
#define ENTRY_BYTES_MAX 16384u

struct entry {
	struct list link;
	struct str key;
	struct arena arena; /* holds the entry itself */
	struct lookup_rcpt_out answer;
};

void cache_init(struct cache *c, struct mem *mem, struct sip_key key)
{
	*c = (struct cache){ .mem = mem, .by_key = table_make(mem, key, CACHE_ENTRIES_MAX) };
	list_init(&c->recent);
}

static void drop(struct cache *c, struct entry *e)
{
	struct arena arena = e->arena;
	list_remove(&e->link);
	(void)table_del(&c->by_key, e->key);
	arena_close(&arena);
}

static void drop_all(struct cache *c)
{
	LIST_EACH(&c->recent, it)
	drop(c, CONTAINER_OF(it, struct entry, link));
}

void cache_done(struct cache *c)
{
	drop_all(c);
	table_free(&c->by_key);
}

void cache_renew(struct cache *c, uint64_t generation)
{
	drop_all(c);
	c->generation = generation;
}

/* Client and account are part of it, because lookup's answer depends on who may relay. */
static struct str key_of(const struct lookup_rcpt_in *in, char *room, size_t cap)
{
	struct buf b = buf_fixed(room, cap);
	buf_add_char(&b, (char)in->client.family);
	buf_add(&b, str_of((const char *)in->client.b, in->client.family == IP_V4 ? 4 : 16));
	buf_add_char(&b, in->smtputf8 ? 'u' : 'a');
	buf_add(&b, in->account);
	buf_add_char(&b, '\n');
	buf_add(&b, in->address);
	return buf_err(&b) == ERR_NONE ? buf_str(&b) : STR_NONE;
}

static bool copy_answer(struct arena *a, const struct lookup_rcpt_out *from,
			struct lookup_rcpt_out *to)
{
	*to = *from;
	to->enhanced = arena_str(a, from->enhanced);
	to->text = arena_str(a, from->text);
	to->rule = arena_str(a, from->rule);
	to->targets = ARENA_ARRAY(a, struct target, from->targets_n ? from->targets_n : 1);
	for (size_t i = 0; to->targets && i < from->targets_n; i++) {
		to->targets[i].kind = from->targets[i].kind;
		to->targets[i].address = arena_str(a, from->targets[i].address);
		to->targets[i].mailbox = arena_str(a, from->targets[i].mailbox);
	}
	return arena_err(a) == ERR_NONE;
}

bool cache_get(struct cache *c, const struct lookup_rcpt_in *in, struct arena *arena,
	       struct lookup_rcpt_out *out)
{
	char room[KEY_BYTES_MAX];
	struct str key = key_of(in, room, sizeof room);
	struct entry *e = key.p && in->account.n == 0 ? table_get(&c->by_key, key) : NULL;
	if (!e)
		return false;
	list_remove(&e->link);
	list_push_front(&c->recent, &e->link);
	return copy_answer(arena, &e->answer, out);
}

void cache_put(struct cache *c, const struct lookup_rcpt_in *in, const struct lookup_rcpt_out *out)
{
	char room[KEY_BYTES_MAX];
	struct str key = key_of(in, room, sizeof room);
	if (!out->cacheable || out->generation != c->generation || c->generation == 0 || !key.p ||
	    in->account.n > 0 || out->targets_n > CACHE_TARGETS_MAX || table_get(&c->by_key, key))
		return;
	if (c->by_key.n >= CACHE_ENTRIES_MAX)
		drop(c, CONTAINER_OF(c->recent.prev, struct entry, link));
	struct arena a = arena_make(c->mem, ENTRY_BYTES_MAX);
	struct entry *e = ARENA_NEW(&a, struct entry);
	struct str own = arena_str(&a, key);
	if (e && copy_answer(&a, out, &e->answer) && table_put(&c->by_key, own, e) == ERR_NONE) {
		e->key = own;
		e->arena = a;
		list_push_front(&c->recent, &e->link);
		return;
	}
	arena_close(&a);
}
