/* SPDX-License-Identifier: Apache-2.0 */
/* LIMITS: RFC 9422. Says beforehand where 421 and 452 will come. */
#include "smtp/ext.h"

#define VALUE_MAX 999999u /* RFC 9422 §4: one to six digits */

static void add(struct buf *b, const char *name, uint32_t value)
{
	buf_add(b, str_z(name));
	buf_add_u64(b, value < VALUE_MAX ? value : VALUE_MAX);
}

static bool line(const struct ext_offer *o, struct buf *b)
{
	if (o->transactions == 0 || o->recipients == 0)
		return false;
	add(b, "LIMITS MAILMAX=", o->transactions);
	add(b, " RCPTMAX=", o->recipients);
	return true;
}

const struct ext ext_limits = { .line = line };
