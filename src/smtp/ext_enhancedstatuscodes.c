/* SPDX-License-Identifier: Apache-2.0 */
/* ENHANCEDSTATUSCODES: RFC 2034. The codes stand in replies.def. */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("ENHANCEDSTATUSCODES"));
	return true;
}

const struct ext ext_enhancedstatuscodes = { .line = line };
