/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4 (keyed: attackers choose the keys of our tables), CRC32C (Castagnoli; SSE4.2 or ARMv8
 * instructions where the CPU has them), and a hash table keyed with SipHash.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/mem.h"
#include "base/str.h"

struct sip_key {
	uint64_t k0, k1;
};
uint64_t siphash(struct sip_key key, struct str s);

/* crc of nothing is 0; feed pieces in order: crc = crc32c(crc, p, n). */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without the CPU's instruction: for machines that lack it, and for its test. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

/*
 * Open addressing, byte-string keys -> void *. The table does not copy keys: a key must live as long
 * as its entry (usually inside the value). Grows at 3/4 full up to max_entries.
 */
struct table {
	struct mem *mem;
	struct table_slot *slots;
	size_t n, cap, max_entries;
	size_t dead; /* slots of deleted entries that a search still has to pass */
	struct sip_key key;
};
struct table table_make(struct mem *mem, struct sip_key key, size_t max_entries);
void table_free(struct table *t);
void *table_get(const struct table *t, struct str key);
/* ERR_EXISTS, ERR_LIMIT, ERR_NO_MEMORY. value must not be NULL. */
enum err table_put(struct table *t, struct str key, void *value) MUST_CHECK;
/* Removes and returns the value, or NULL. */
void *table_del(struct table *t, struct str key);
/* Iterate: *it starts at 0; returns NULL at the end. Deleting entries meanwhile is allowed. */
void *table_next(const struct table *t, size_t *it, struct str *key_out);

/* The same with 64-bit keys. */
struct table64 {
	struct mem *mem;
	struct table64_slot *slots;
	size_t n, cap, max_entries;
	size_t dead; /* slots of deleted entries that a search still has to pass */
	struct sip_key key;
};
struct table64 table64_make(struct mem *mem, struct sip_key key, size_t max_entries);
void table64_free(struct table64 *t);
void *table64_get(const struct table64 *t, uint64_t key);
enum err table64_put(struct table64 *t, uint64_t key, void *value) MUST_CHECK;
void *table64_del(struct table64 *t, uint64_t key);
void *table64_next(const struct table64 *t, size_t *it, uint64_t *key_out);

#endif
