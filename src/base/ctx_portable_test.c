/* SPDX-License-Identifier: Apache-2.0 */
/* The tests of ctx.h with the switch of other processors, swapcontext(3), which this one does not use otherwise. */
#define CTX_SWAPCONTEXT 1
#include "base/ctx.c"
#include "base/ctx_test.c"
