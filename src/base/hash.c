/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4 and the tables keyed with it. The keys of a table are chosen by strangers (addresses,
 * domains): only a secret hash key keeps them from filling one chain.
 *
 * Tables: a power of two of slots, linear probing. Invariants:
 *  1. A slot is empty (value NULL), dead (value DEAD) or live; n and dead count the latter two.
 *  2. Between a live entry's home slot and its place no slot is empty.
 *  3. n + dead <= 3/4 cap, so that each search meets an empty slot.
 * Deleting moves nothing, so that an iteration may delete; put rebuilds when 3 would break.
 *
 * Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF" (2012).
 */
#include "base/hash.h"

#define FIRST_CAP 8

struct sip_state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip_state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 = rotl(s->v2, 32);
}

static inline struct sip_state sip_start(struct sip_key key)
{
	return (struct sip_state){
		.v0 = key.k0 ^ UINT64_C(0x736f6d6570736575),
		.v1 = key.k1 ^ UINT64_C(0x646f72616e646f6d),
		.v2 = key.k0 ^ UINT64_C(0x6c7967656e657261),
		.v3 = key.k1 ^ UINT64_C(0x7465646279746573),
	};
}

static inline void sip_word(struct sip_state *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static inline uint64_t sip_end(struct sip_state *s)
{
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static inline uint64_t load_le64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

uint64_t siphash(struct sip_key key, struct str s)
{
	struct sip_state state = sip_start(key);
	uint64_t last = (uint64_t)s.n << 56; /* the length modulo 256, above the bytes left over */
	size_t i = 0;

	for (; s.n - i >= 8; i += 8)
		sip_word(&state, load_le64(s.p + i));
	for (unsigned shift = 0; i < s.n; i++, shift += 8)
		last |= (uint64_t)(unsigned char)s.p[i] << shift;
	sip_word(&state, last);
	return sip_end(&state);
}

/* siphash() of the 8 bytes of `key`. */
static inline uint64_t siphash_u64(struct sip_key key, uint64_t value)
{
	struct sip_state state = sip_start(key);

	sip_word(&state, value);
	sip_word(&state, UINT64_C(8) << 56);
	return sip_end(&state);
}

static const char dead_mark;
#define DEAD ((void *)(uintptr_t)&dead_mark)

static inline bool is_live(const void *value)
{
	return value && value != DEAD;
}

/* The slots that n entries need: at most half full, so that the next rebuild is far away. */
static size_t cap_for(size_t n)
{
	size_t cap = FIRST_CAP;

	while (cap / 2 < n)
		cap *= 2;
	return cap;
}

static bool is_crowded(size_t n, size_t dead, size_t cap)
{
	return n + dead + 1 > cap - cap / 4;
}

/* --- byte-string keys --- */

struct table_slot {
	struct str key;
	uint64_t hash;
	void *value;
};

struct table table_make(struct mem *mem, struct sip_key key, size_t max_entries)
{
	return (struct table){ .mem = mem, .key = key, .max_entries = max_entries };
}

void table_free(struct table *t)
{
	mem_free(t->mem, t->slots);
	*t = table_make(t->mem, t->key, t->max_entries);
}

/* The live slot of the key, or NULL. */
static struct table_slot *table_search(const struct table *t, struct str key, uint64_t hash)
{
	if (!t->cap)
		return NULL;
	for (size_t i = hash & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
		struct table_slot *slot = &t->slots[i];

		if (!slot->value)
			return NULL;
		if (slot->hash == hash && slot->value != DEAD && str_eq(slot->key, key))
			return slot;
	}
}

/* The first slot from the hash's home on that holds no live entry. */
static struct table_slot *table_room(const struct table *t, uint64_t hash)
{
	size_t i = hash & (t->cap - 1);

	while (is_live(t->slots[i].value))
		i = (i + 1) & (t->cap - 1);
	return &t->slots[i];
}

static enum err table_rebuild(struct table *t)
{
	struct table fresh = *t;

	fresh.cap = cap_for(t->n + 1);
	fresh.dead = 0;
	if (fresh.cap > SIZE_MAX / sizeof *fresh.slots)
		return ERR_LIMIT;
	fresh.slots = mem_alloc(t->mem, fresh.cap * sizeof *fresh.slots);
	if (!fresh.slots)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < t->cap; i++)
		if (is_live(t->slots[i].value))
			*table_room(&fresh, t->slots[i].hash) = t->slots[i];
	mem_free(t->mem, t->slots);
	*t = fresh;
	return ERR_NONE;
}

void *table_get(const struct table *t, struct str key)
{
	if (!t->n)
		return NULL;

	struct table_slot *slot = table_search(t, key, siphash(t->key, key));

	return slot ? slot->value : NULL;
}

enum err table_put(struct table *t, struct str key, void *value)
{
	uint64_t hash = siphash(t->key, key);

	ASSERT(is_live(value));
	if (table_search(t, key, hash))
		return ERR_EXISTS;
	if (t->n >= t->max_entries)
		return ERR_LIMIT;
	if (is_crowded(t->n, t->dead, t->cap))
		TRY(table_rebuild(t));

	struct table_slot *slot = table_room(t, hash);

	t->dead -= slot->value == DEAD;
	t->n++;
	*slot = (struct table_slot){ key, hash, value };
	return ERR_NONE;
}

void *table_del(struct table *t, struct str key)
{
	struct table_slot *slot = table_search(t, key, siphash(t->key, key));

	if (!slot)
		return NULL;

	void *value = slot->value;
	size_t next = ((size_t)(slot - t->slots) + 1) & (t->cap - 1);
	bool ends_chain = !t->slots[next].value; /* then no search has to pass this slot */

	*slot = (struct table_slot){ .value = ends_chain ? NULL : DEAD };
	t->dead += !ends_chain;
	t->n--;
	return value;
}

void *table_next(const struct table *t, size_t *it, struct str *key_out)
{
	while (*it < t->cap) {
		const struct table_slot *slot = &t->slots[(*it)++];

		if (is_live(slot->value)) {
			if (key_out)
				*key_out = slot->key;
			return slot->value;
		}
	}
	return NULL;
}

/* --- 64-bit keys --- */

struct table64_slot {
	uint64_t key;
	void *value;
};

struct table64 table64_make(struct mem *mem, struct sip_key key, size_t max_entries)
{
	return (struct table64){ .mem = mem, .key = key, .max_entries = max_entries };
}

void table64_free(struct table64 *t)
{
	mem_free(t->mem, t->slots);
	*t = table64_make(t->mem, t->key, t->max_entries);
}

static struct table64_slot *table64_search(const struct table64 *t, uint64_t key)
{
	if (!t->cap)
		return NULL;
	for (size_t i = siphash_u64(t->key, key) & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
		struct table64_slot *slot = &t->slots[i];

		if (!slot->value)
			return NULL;
		if (slot->key == key && slot->value != DEAD)
			return slot;
	}
}

static struct table64_slot *table64_room(const struct table64 *t, uint64_t key)
{
	size_t i = siphash_u64(t->key, key) & (t->cap - 1);

	while (is_live(t->slots[i].value))
		i = (i + 1) & (t->cap - 1);
	return &t->slots[i];
}

static enum err table64_rebuild(struct table64 *t)
{
	struct table64 fresh = *t;

	fresh.cap = cap_for(t->n + 1);
	fresh.dead = 0;
	if (fresh.cap > SIZE_MAX / sizeof *fresh.slots)
		return ERR_LIMIT;
	fresh.slots = mem_alloc(t->mem, fresh.cap * sizeof *fresh.slots);
	if (!fresh.slots)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < t->cap; i++)
		if (is_live(t->slots[i].value))
			*table64_room(&fresh, t->slots[i].key) = t->slots[i];
	mem_free(t->mem, t->slots);
	*t = fresh;
	return ERR_NONE;
}

void *table64_get(const struct table64 *t, uint64_t key)
{
	if (!t->n)
		return NULL;

	struct table64_slot *slot = table64_search(t, key);

	return slot ? slot->value : NULL;
}

enum err table64_put(struct table64 *t, uint64_t key, void *value)
{
	ASSERT(is_live(value));
	if (table64_search(t, key))
		return ERR_EXISTS;
	if (t->n >= t->max_entries)
		return ERR_LIMIT;
	if (is_crowded(t->n, t->dead, t->cap))
		TRY(table64_rebuild(t));

	struct table64_slot *slot = table64_room(t, key);

	t->dead -= slot->value == DEAD;
	t->n++;
	*slot = (struct table64_slot){ key, value };
	return ERR_NONE;
}

void *table64_del(struct table64 *t, uint64_t key)
{
	struct table64_slot *slot = table64_search(t, key);

	if (!slot)
		return NULL;

	void *value = slot->value;
	size_t next = ((size_t)(slot - t->slots) + 1) & (t->cap - 1);
	bool ends_chain = !t->slots[next].value;

	*slot = (struct table64_slot){ .value = ends_chain ? NULL : DEAD };
	t->dead += !ends_chain;
	t->n--;
	return value;
}

void *table64_next(const struct table64 *t, size_t *it, uint64_t *key_out)
{
	while (*it < t->cap) {
		const struct table64_slot *slot = &t->slots[(*it)++];

		if (is_live(slot->value)) {
			if (key_out)
				*key_out = slot->key;
			return slot->value;
		}
	}
	return NULL;
}
