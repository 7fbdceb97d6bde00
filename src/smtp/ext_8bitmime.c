/* SPDX-License-Identifier: Apache-2.0 */
/* 8BITMIME: RFC 6152. 8-bit bytes are taken without the parameter too, and noted. */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("8BITMIME"));
	return true;
}

static enum reply_id mail(const struct ext_offer *o UNUSED, const struct param *p,
			  struct mail_params *out)
{
	if (!str_eq_nocase(p->keyword, STR("BODY")))
		return REPLY_UNKNOWN_PARAMETER;
	if (str_eq_nocase(p->value, STR("7BIT")))
		out->body = BODY_KIND_SEVEN_BIT;
	else if (str_eq_nocase(p->value, STR("8BITMIME")))
		out->body = BODY_KIND_EIGHT_BIT_MIME;
	else
		return str_eq_nocase(p->value, STR("BINARYMIME")) ? REPLY_UNKNOWN_PARAMETER
								  : REPLY_BAD_PARAMETER;
	return REPLY_NONE;
}

const struct ext ext_8bitmime = { .line = line, .mail = mail };
