/* SPDX-License-Identifier: Apache-2.0 */
/* SMTPUTF8: RFC 6531. The parameter of VRFY and EXPN changes nothing, as they answer the same to
 * all. */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o, struct buf *b)
{
	if (o->smtputf8)
		buf_add(b, STR("SMTPUTF8"));
	return o->smtputf8;
}

static enum reply_id mail(const struct ext_offer *o, const struct param *p, struct mail_params *out)
{
	if (!o->smtputf8 || !str_eq_nocase(p->keyword, STR("SMTPUTF8")))
		return REPLY_UNKNOWN_PARAMETER;
	if (p->has_value) /* RFC 6531 §3.1 (4): "does not accept a value" */
		return REPLY_BAD_PARAMETER;
	out->smtputf8 = true;
	return REPLY_NONE;
}

const struct ext ext_smtputf8 = { .line = line, .mail = mail };
