/* SPDX-License-Identifier: Apache-2.0 */
/* STARTTLS: RFC 3207. The command itself is smtpd/cmd_starttls.c. */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o, struct buf *b)
{
	if (!o->starttls)
		return false;
	buf_add(b, STR("STARTTLS"));
	return true;
}

const struct ext ext_starttls = { .line = line };
