/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw switch between stacks: the floor under co/ and under the simulated world, used by nothing
 * else. Own assembly on x86-64 and aarch64, swapcontext elsewhere. Tells ASan/TSan and valgrind.
 */
#ifndef BASE_CTX_H
#define BASE_CTX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct ctx {
	void *sp;	/* saved stack pointer while switched away */
	void *lo;	/* lowest address of the stack; NULL for a thread's own stack */
	size_t size;	/* bytes */
	void *san;	/* the sanitizer's fiber state */
	unsigned vg_id; /* valgrind's stack id */
	void *uc;	/* swapcontext builds only */
	bool is_thread; /* under ASan lo and size are then learnt at the first switch away */
};

/* Prepares c to run fn(arg) on [lo, lo+size) at the first switch to it. fn must never return. */
enum err ctx_init(struct ctx *c, void *lo, size_t size, void (*fn)(void *arg), void *arg) MUST_CHECK;
/* Makes c stand for the running thread's own stack. */
void ctx_init_thread(struct ctx *c);
/* Releases annotations; the stack's memory belongs to the caller. c must not be running. */
void ctx_done(struct ctx *c);
/* Saves the running context in `from` and goes on in `to`. */
void ctx_switch(struct ctx *from, struct ctx *to);
/* The same, when `from` will never be resumed; *from must not lie on its own stack. */
_Noreturn void ctx_switch_dying(struct ctx *from, struct ctx *to);

#endif
