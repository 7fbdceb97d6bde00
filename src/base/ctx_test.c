/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctx: the switch keeps what a call keeps, many stacks, ends and reuse of a stack. To be run under
 * ASan, TSan and valgrind too, whose annotations are half of what is tested.
 */
#include "base/ctx.h"

#include <stdlib.h>

#include "base/test.h"

#define STACK_BYTES 65536

struct pair {
	struct ctx main, co;
	struct ctx *back; /* where co goes: main, but for a nested one */
	unsigned steps;
	bool done;
};

static void count_steps(void *arg)
{
	struct pair *p = arg;
	volatile unsigned char on_stack[512];

	for (size_t i = 0; i < sizeof on_stack; i++)
		on_stack[i] = (unsigned char)i;
	for (int i = 0; i < 1000; i++) {
		p->steps++;
		ctx_switch(&p->co, p->back);
		for (size_t k = 0; k < sizeof on_stack; k++)
			assert_int_equal(on_stack[k], (unsigned char)k);
	}
	p->done = true;
	ctx_switch_dying(&p->co, p->back);
}

/* The same stack several times: frames that a dead context left behind must not matter. */
static void switches(void **state)
{
	void *stack = malloc(STACK_BYTES);

	assert_non_null(stack);
	for (int round = 0; round < 3; round++) {
		struct pair p = { 0 };

		p.back = &p.main;
		ctx_init_thread(&p.main);
		assert_int_equal(ctx_init(&p.co, stack, STACK_BYTES, count_steps, &p), ERR_NONE);
		for (unsigned i = 1; !p.done; i++) {
			ctx_switch(&p.main, &p.co);
			assert_int_equal(p.steps, i > 1000 ? 1000 : i);
		}
		ctx_done(&p.co);
		ctx_done(&p.main);
	}
	free(stack);
}

static void too_small(void **state)
{
	char stack[512];
	struct pair p;

	assert_int_equal(ctx_init(&p.co, stack, sizeof stack, count_steps, &p), ERR_LIMIT);
}

/* Stacks of odd address and size. */
static void stack_is_aligned(void **state)
{
	char *stack = malloc(STACK_BYTES);

	assert_non_null(stack);
	for (size_t off = 0; off < 64; off += 7) {
		struct pair p = { 0 };

		p.back = &p.main;
		ctx_init_thread(&p.main);
		assert_int_equal(ctx_init(&p.co, stack + off, STACK_BYTES - 2 * off - off % 5,
					  count_steps, &p),
				 ERR_NONE);
		ctx_switch(&p.main, &p.co);
		assert_int_equal(p.steps, 1);
		ctx_done(&p.co); /* given up in the middle */
	}
	free(stack);
}

struct ring {
	struct ctx main;
	struct member {
		struct ctx ctx;
		struct ring *ring;
		unsigned index;
		double sum;
		uint64_t random;
		char text[32];
	} members[50];
	unsigned rounds;
};

/* Integers, floating point and a libc call that wants an aligned stack. */
static void ring_member(void *arg)
{
	struct member *me = arg;
	struct ring *r = me->ring;
	struct member *next = &r->members[(me->index + 1) % COUNT(r->members)];
	double x = me->index * 0.5;
	uint64_t a = me->index, b = a * 3, c = a * 5, d = a * 7, e = a * 11, f = a * 13;

	for (unsigned i = 0; i < r->rounds; i++) {
		me->sum += x;
		a += b, b += c, c += d, d += e, e += f, f += 1;
		ctx_switch(&me->ctx, &next->ctx);
	}
	me->random = a ^ b ^ c ^ d ^ e ^ f;
	snprintf(me->text, sizeof me->text, "%u %.3f", me->index, me->sum);
	if (next->index == 0)
		ctx_switch_dying(&me->ctx, &r->main);
	ctx_switch_dying(&me->ctx, &next->ctx);
}

static uint64_t ring_expected(uint64_t index, unsigned rounds)
{
	uint64_t v[6] = { index, index * 3, index * 5, index * 7, index * 11, index * 13 };

	for (unsigned i = 0; i < rounds; i++) {
		for (int k = 0; k < 5; k++)
			v[k] += v[k + 1];
		v[5]++;
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3] ^ v[4] ^ v[5];
}

static void ring_keeps_registers(void **state)
{
	static struct ring r; /* the stacks' own memory is what is tested */
	char *stacks = malloc(COUNT(r.members) * STACK_BYTES);

	assert_non_null(stacks);
	r.rounds = 200;
	ctx_init_thread(&r.main);
	for (unsigned i = 0; i < COUNT(r.members); i++) {
		r.members[i].ring = &r;
		r.members[i].index = i;
		assert_int_equal(ctx_init(&r.members[i].ctx, stacks + (size_t)i * STACK_BYTES,
					  STACK_BYTES, ring_member, &r.members[i]),
				 ERR_NONE);
	}
	ctx_switch(&r.main, &r.members[0].ctx);
	for (unsigned i = 0; i < COUNT(r.members); i++) {
		char expected[32];

		snprintf(expected, sizeof expected, "%u %.3f", i, i * 0.5 * r.rounds);
		assert_string_equal(r.members[i].text, expected);
		assert_int_equal(r.members[i].random, ring_expected(i, r.rounds));
		ctx_done(&r.members[i].ctx);
	}
	free(stacks);
}

static void starts_another(void *arg)
{
	struct pair *outer = arg;
	struct pair inner = { .back = &outer->co };
	void *stack = malloc(STACK_BYTES);

	assert_non_null(stack);
	assert_int_equal(ctx_init(&inner.co, stack, STACK_BYTES, count_steps, &inner), ERR_NONE);
	while (!inner.done)
		ctx_switch(&outer->co, &inner.co);
	ctx_done(&inner.co);
	free(stack);
	outer->done = true;
	ctx_switch_dying(&outer->co, &outer->main);
}

/* A context that runs contexts, as the simulated world does with whole processes. */
static void nests(void **state)
{
	void *stack = malloc(STACK_BYTES);
	struct pair p = { 0 };

	assert_non_null(stack);
	ctx_init_thread(&p.main);
	assert_int_equal(ctx_init(&p.co, stack, STACK_BYTES, starts_another, &p), ERR_NONE);
	ctx_switch(&p.main, &p.co);
	assert_true(p.done);
	ctx_done(&p.co);
	free(stack);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(switches),
		cmocka_unit_test(too_small),
		cmocka_unit_test(stack_is_aligned),
		cmocka_unit_test(ring_keeps_registers),
		cmocka_unit_test(nests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
