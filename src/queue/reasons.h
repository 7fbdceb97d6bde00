/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why recipients wait: enhanced code and text of the last attempt, each different one kept once, because
 * a million deferred recipients have a handful of reasons. Runs in queue; the texts are strangers'.
 * Bounded: beyond REASONS_MAX different ones a general one stands in for the newcomers.
 */
#ifndef QUEUE_REASONS_H
#define QUEUE_REASONS_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"

#define REASONS_MAX 50000u
#define REASON_NONE 0u

struct reason;
struct reasons {
	struct mem *mem;
	struct table by_text;
	struct reason **v; /* [0] and free places: NULL */
	uint32_t n, cap, first_free;
};
void reasons_open(struct reasons *r, struct mem *mem, struct sip_key key);
void reasons_close(struct reasons *r);
/* A number for it, counted; REASON_NONE for an empty one and when memory has run out. */
uint32_t reason_get(struct reasons *r, struct str enhanced, struct str text);
void reason_drop(struct reasons *r, uint32_t number);
/* Lent until it is dropped. */
struct str reason_enhanced(const struct reasons *r, uint32_t number);
struct str reason_text(const struct reasons *r, uint32_t number);

#endif
