/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of connections over several processes, in memory that they share (H25). */
#include "smtpd/clients.h"

#include "base/mem.h"
#include "base/test.h"
#include "world/world.h"

#define MANY 1000u
#define BYTES ((size_t)65536 + 64)
#define LARGE ((size_t)1048576 + 64)

struct three {
	struct mem *mem;
	void *memory[3];
	struct clients c[3];
};

static void three_open(struct three *t, size_t bytes)
{
	t->mem = mem_new(0);
	for (int i = 0; i < 3; i++) {
		t->memory[i] = mem_alloc(t->mem, bytes);
		assert_non_null(t->memory[i]);
		clients_init(&t->c[i], (struct sip_key){ 1, 2 }, t->memory[i], bytes);
	}
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 3; k++)
			if (k != i)
				assert_int_equal(clients_add_other(&t->c[i], t->memory[k]), ERR_NONE);
}

static struct ip v4(uint32_t n)
{
	return (struct ip){ .family = IP_V4, .b = { 10, (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n } };
}

static void by_network(void **state)
{
	struct three t;
	struct ip a = v4(1), b = v4(2);
	struct ip v6 = { .family = IP_V6, .b = { 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 9 } }, same = v6, next = v6;
	same.b[15] = 7; /* the same /64 */
	next.b[7] = 2;
	three_open(&t, BYTES);
	for (int i = 0; i < 3; i++)
		assert_int_equal(clients_enter(&t.c[0], &a, 100, 3), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[0], &a, 100, 3), CLIENTS_TOO_MANY_HERE);
	assert_int_equal(clients_enter(&t.c[0], &b, 100, 3), CLIENTS_WELCOME);
	clients_leave(&t.c[0], &a);
	assert_int_equal(clients_enter(&t.c[0], &a, 100, 3), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[0], &v6, 100, 2), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[0], &same, 100, 2), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[0], &v6, 100, 2), CLIENTS_TOO_MANY_HERE);
	assert_int_equal(clients_enter(&t.c[0], &next, 100, 2), CLIENTS_WELCOME);
	mem_destroy(t.mem);
}

static void over_processes(void **state)
{
	struct three t;
	struct ip a = v4(1), b = v4(2);
	three_open(&t, BYTES);
	for (int i = 0; i < 6; i++)
		assert_int_equal(clients_enter(&t.c[i % 3], &a, 8, 6), CLIENTS_WELCOME);
	for (int i = 0; i < 3; i++)
		assert_int_equal(clients_enter(&t.c[i], &a, 8, 6), CLIENTS_TOO_MANY_HERE);
	assert_int_equal(clients_enter(&t.c[0], &b, 8, 6), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[1], NULL, 8, 6), CLIENTS_WELCOME); /* trusted: one of all only */
	assert_int_equal(clients_enter(&t.c[2], NULL, 8, 6), CLIENTS_TOO_MANY);
	assert_int_equal(clients_enter(&t.c[2], &b, 8, 6), CLIENTS_TOO_MANY);
	memset(t.memory[0], 0, BYTES); /* what master does when it died */
	assert_int_equal(clients_enter(&t.c[2], &a, 8, 6), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[2], &a, 8, 6), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[2], &a, 8, 6), CLIENTS_TOO_MANY_HERE);
	for (int i = 0; i < 2; i++) {
		clients_leave(&t.c[1], &a);
		clients_leave(&t.c[2], &a);
		clients_leave(&t.c[2], &a);
	}
	clients_leave(&t.c[1], NULL);
	for (size_t i = 0; i < BYTES; i++)
		assert_int_equal(((char *)t.memory[1])[i] | ((char *)t.memory[2])[i], 0);
	mem_destroy(t.mem);
}

/* Many clients with one connection each do not stand in one another's way, not even when one is the limit. */
static void collisions(void **state)
{
	struct three t;
	unsigned refused = 0;
	three_open(&t, LARGE);
	for (unsigned i = 0; i < 10 * MANY; i++) {
		struct ip a = v4(i);
		refused += clients_enter(&t.c[i % 3], &a, 1000000, 1) != CLIENTS_WELCOME;
	}
	assert_true(refused < 10);
	mem_destroy(t.mem);
}

/* An smtpd that was taken over: others keep working, and have their own limits. */
static void lies(void **state)
{
	struct three t;
	struct ip a = v4(1);
	three_open(&t, BYTES);
	memset(t.memory[2], 0xff, BYTES);
	assert_int_equal(clients_enter(&t.c[0], &a, 1000000, 1000000), CLIENTS_TOO_MANY);
	memset(t.memory[2], 0, BYTES);
	assert_int_equal(clients_enter(&t.c[0], &a, 1, 1), CLIENTS_WELCOME);
	assert_int_equal(clients_enter(&t.c[1], &a, 1, 1), CLIENTS_TOO_MANY);
	mem_destroy(t.mem);
}

/* Who was given memory to read cannot write it. */
static void rights(void **state)
{
	struct world *w = world_linux_new();
	int writer, reader;
	void *p, *q, *none;
	assert_int_equal(world_shared_new(w, 8192, &writer, &reader), ERR_NONE);
	assert_int_equal(world_shared_map(w, writer, 8192, WORLD_SHARED_WRITE, &p), ERR_NONE);
	assert_int_equal(world_shared_map(w, reader, 8192, WORLD_SHARED_READ, &q), ERR_NONE);
	assert_int_equal(world_shared_map(w, reader, 8192, WORLD_SHARED_WRITE, &none), ERR_DENIED);
	assert_int_equal(world_shared_map(w, reader, 4096, WORLD_SHARED_READ, &none), ERR_SYNTAX);
	assert_int_not_equal(world_truncate(w, writer, 4096), ERR_NONE);
	world_close(w, writer);
	world_close(w, reader);
	memset(p, 7, 8192);
	assert_memory_equal(p, q, 8192);
	world_shared_unmap(w, p, 8192);
	world_shared_unmap(w, q, 8192);
	world_linux_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_network), cmocka_unit_test(over_processes), cmocka_unit_test(collisions),
		cmocka_unit_test(lies),	      cmocka_unit_test(rights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
