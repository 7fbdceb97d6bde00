/* SPDX-License-Identifier: Apache-2.0 */
/* PIPELINING: RFC 2920. The session keeps its rules: see smtpd/session.c. */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("PIPELINING"));
	return true;
}

const struct ext ext_pipelining = { .line = line };
