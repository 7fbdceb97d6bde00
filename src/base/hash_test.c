/* SPDX-License-Identifier: Apache-2.0 */
/* hash: the vectors of SipHash and CRC-32C, and the tables against a plain array. */
#include "base/hash.h"

#include <stdlib.h>

#include "base/test.h"

static const struct sip_key paper_key = { UINT64_C(0x0706050403020100),
					  UINT64_C(0x0f0e0d0c0b0a0908) };

/* The paper's appendix A, and the first of the reference implementation's vectors. */
static void siphash_vectors(void **state)
{
	static const struct {
		size_t n;
		uint64_t hash;
	} rows[] = {
		{ 0, UINT64_C(0x726fdb47dd0e0e31) }, { 1, UINT64_C(0x74f839c593dc67fd) },
		{ 2, UINT64_C(0x0d6c8009d9a94f5a) }, { 7, UINT64_C(0xab0200f58b01d137) },
		{ 8, UINT64_C(0x93f5f5799a932462) }, { 15, UINT64_C(0xa129ca6149be45e5) },
	};
	char in[16];

	for (int i = 0; i < 16; i++)
		in[i] = (char)i;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(siphash(paper_key, str_of(in, rows[i].n)), rows[i].hash);
	assert_int_equal(siphash(paper_key, STR_NONE), rows[0].hash);
}

/* RFC 3720 §B.4, and the usual check value. */
static void crc_vectors(void **state)
{
	char zeros[32] = { 0 }, ones[32], up[32], down[32];

	for (int i = 0; i < 32; i++) {
		ones[i] = (char)0xff;
		up[i] = (char)i;
		down[i] = (char)(31 - i);
	}

	const struct {
		struct str in;
		uint32_t crc;
	} rows[] = {
		{ STR_NONE, 0 },
		{ STR("123456789"), 0xe3069283 },
		{ str_of(zeros, 32), 0x8a9136aa },
		{ str_of(ones, 32), 0x62a8ab43 },
		{ str_of(up, 32), 0x46dd794e },
		{ str_of(down, 32), 0x113fdb5c },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(crc32c(0, rows[i].in.p, rows[i].in.n), rows[i].crc);
		assert_int_equal(crc32c_by_table(0, rows[i].in.p, rows[i].in.n), rows[i].crc);
	}
}

static uint32_t crc_bit_by_bit(const unsigned char *p, size_t n)
{
	uint32_t crc = ~UINT32_C(0);

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

/* Every length, alignment and cut in two gives what the definition gives. */
static void crc_pieces(void **state)
{
	unsigned char bytes[200];
	uint64_t random = 11;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(test_random(&random) >> 32);
	for (size_t n = 0; n < 180; n++) {
		const unsigned char *p = bytes + n % 9;
		size_t cut = n ? test_random(&random) % n : 0;
		uint32_t crc = crc_bit_by_bit(p, n);

		assert_int_equal(crc32c(0, p, n), crc);
		assert_int_equal(crc32c_by_table(0, p, n), crc);
		assert_int_equal(crc32c(crc32c(0, p, cut), p + cut, n - cut), crc);
		assert_int_equal(crc32c_by_table(crc32c(0, p, cut), p + cut, n - cut), crc);
	}
}

#define KEYS 300

struct model {
	char name[KEYS][16];
	bool in[KEYS];
	size_t n;
};

static struct str model_key(const struct model *m, size_t i)
{
	return str_z(m->name[i]);
}

static void table_checks(const struct table *t, const struct model *m)
{
	size_t it = 0, n = 0;
	struct str key;

	assert_int_equal(t->n, m->n);
	for (const char *v; (v = table_next(t, &it, &key)) != NULL; n++) {
		assert_true(m->in[(size_t)(v - m->name[0]) / sizeof m->name[0]]);
		assert_str(key, str_z(v));
	}
	assert_int_equal(n, m->n);
}

static void table_step(struct table *t, struct model *m, size_t i, bool put)
{
	void *value = m->name[i];

	assert_ptr_equal(table_get(t, model_key(m, i)), m->in[i] ? value : NULL);
	if (put) {
		assert_int_equal(table_put(t, model_key(m, i), value),
				 m->in[i] ? ERR_EXISTS : ERR_NONE);
		m->n += !m->in[i];
	} else {
		assert_ptr_equal(table_del(t, model_key(m, i)), m->in[i] ? value : NULL);
		m->n -= m->in[i];
	}
	m->in[i] = put;
}

static void table_against_an_array(void **state)
{
	struct mem *mem = mem_new(0);
	struct table t = table_make(mem, paper_key, KEYS);
	struct model m = { 0 };
	uint64_t random = 5;

	for (int i = 0; i < KEYS; i++)
		snprintf(m.name[i], sizeof m.name[i], "k%d", i);
	assert_null(table_get(&t, STR("x")));
	assert_null(table_del(&t, STR("x")));
	for (int round = 0; round < 60000; round++) {
		unsigned puts_of_8 = round / 10000 % 2 ? 2 : 6; /* it fills and drains in turns */

		table_step(&t, &m, test_random(&random) % KEYS,
			   test_random(&random) % 8 < puts_of_8);
		if (round % 500 == 0)
			table_checks(&t, &m);
	}
	table_free(&t);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

/* Deleting while iterating: each entry is seen once. */
static void table_drains(void **state)
{
	struct mem *mem = mem_new(0);
	struct table64 t = table64_make(mem, paper_key, 1000);
	static char values[1000];
	size_t it = 0, n = 0;
	uint64_t key;

	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(table64_put(&t, i << 40, &values[i]), ERR_NONE);
	assert_int_equal(table64_put(&t, 1, values), ERR_LIMIT);
	assert_int_equal(table64_put(&t, 0, values), ERR_EXISTS);
	for (char *v; (v = table64_next(&t, &it, &key)) != NULL; n++) {
		assert_ptr_equal(v, &values[key >> 40]);
		assert_ptr_equal(table64_del(&t, key), v);
	}
	assert_int_equal(n, 1000);
	assert_int_equal(t.n, 0);
	table64_free(&t);
	mem_destroy(mem);
}

static void table64_against_an_array(void **state)
{
	struct mem *mem = mem_new(0);
	struct table64 t = table64_make(mem, paper_key, KEYS);
	static char values[KEYS];
	bool in[KEYS] = { 0 };
	size_t n = 0;
	uint64_t random = 9;

	for (int round = 0; round < 60000; round++) {
		uint64_t i = test_random(&random) % KEYS;
		bool put = test_random(&random) % 2;

		assert_ptr_equal(table64_get(&t, i), in[i] ? &values[i] : NULL);
		if (put)
			assert_int_equal(table64_put(&t, i, &values[i]),
					 in[i] ? ERR_EXISTS : ERR_NONE);
		else
			assert_ptr_equal(table64_del(&t, i), in[i] ? &values[i] : NULL);
		n = n + (put && !in[i]) - (!put && in[i]);
		in[i] = put;
		assert_int_equal(t.n, n);
		assert_true(t.n + t.dead <= t.cap - t.cap / 4);
	}
	table64_free(&t);
	mem_destroy(mem);
}

static void memory_fails(void **state)
{
	struct mem *mem = mem_new(0);
	struct table t = table_make(mem, paper_key, 100);
	static char names[20][16];

	mem_fail_at(mem, 1, 1);
	assert_int_equal(table_put(&t, STR("a"), names), ERR_NO_MEMORY);
	for (int i = 0; i < 20; i++) {
		snprintf(names[i], sizeof names[i], "%d", i);
		mem_fail_at(mem, 1, 1);

		enum err e = table_put(&t, str_z(names[i]), names[i]);

		mem_fail_at(mem, 0, 0);
		if (e) {
			assert_int_equal(e, ERR_NO_MEMORY);
			assert_null(table_get(&t, str_z(names[i])));
			assert_int_equal(table_put(&t, str_z(names[i]), names[i]), ERR_NONE);
		}
		for (int k = 0; k <= i; k++)
			assert_ptr_equal(table_get(&t, str_z(names[k])), names[k]);
	}
	table_free(&t);
	mem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_vectors),
		cmocka_unit_test(crc_vectors),
		cmocka_unit_test(crc_pieces),
		cmocka_unit_test(table_against_an_array),
		cmocka_unit_test(table64_against_an_array),
		cmocka_unit_test(table_drains),
		cmocka_unit_test(memory_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
