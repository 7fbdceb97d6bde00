/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that are remembered until their time is over (RFC 1035 §7.4, RFC 2308): bounded in number and
 * bytes; when there is no room, those that were put in first go.
 */
#ifndef RESOLVER_ANSWERS_H
#define RESOLVER_ANSWERS_H

#include "base/hash.h"
#include "base/list.h"

#define ANSWERS_MAX 20000u
#define ANSWERS_BYTES_MAX ((size_t)16 << 20)

struct answers {
	struct mem *mem;
	struct table table;
	struct list oldest; /* in the order of their arrival */
	size_t n, bytes;
};

/* The struct must stay where it is: its list points to itself. */
void answers_init(struct answers *a, struct mem *mem, struct sip_key key);
void answers_free(struct answers *a);
/* The bytes (valid until the next answers_put()) and the whole seconds that are left; false: there is none. */
bool answers_get(struct answers *a, struct str key, int64_t now_ns, struct str *bytes_out, uint32_t *ttl_out);
/* Copies; replaces. ttl 0 is not kept. What finds no memory is not kept either. */
void answers_put(struct answers *a, struct str key, struct str bytes, uint32_t ttl, int64_t now_ns);

#endif
