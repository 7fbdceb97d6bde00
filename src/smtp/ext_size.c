/* SPDX-License-Identifier: Apache-2.0 */
/* SIZE: RFC 1870. The declared size is a promise only; the real count is what is enforced (H32). */
#include "smtp/ext.h"

#define SIZE_DIGITS_MAX 20u

static bool line(const struct ext_offer *o, struct buf *b)
{
	buf_add(b, STR("SIZE "));
	buf_add_u64(b, o->message_bytes);
	return true;
}

static enum reply_id mail(const struct ext_offer *o, const struct param *p, struct mail_params *out)
{
	if (!str_eq_nocase(p->keyword, STR("SIZE")))
		return REPLY_UNKNOWN_PARAMETER;
	/* RFC 1870 §4: size-value = 1*20DIGIT */
	enum err e = str_to_u64(p->value, o->message_bytes, &out->size);
	if (e == ERR_SYNTAX || p->value.n > SIZE_DIGITS_MAX)
		return REPLY_BAD_PARAMETER;
	return e == ERR_NONE ? REPLY_NONE : REPLY_TOO_BIG; /* RFC 1870 §6.1 (1) */
}

const struct ext ext_size = { .line = line, .mail = mail };
