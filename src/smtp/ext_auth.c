/* SPDX-License-Identifier: Apache-2.0 */
/* AUTH: RFC 4954. The mechanisms depend on the session; the parameter of MAIL is checked and not used (§5). */
#include "smtp/ext.h"

static bool line(const struct ext_offer *o, struct buf *b)
{
	if (o->auth_mechanisms.n == 0)
		return false;
	buf_add(b, STR("AUTH "));
	buf_add(b, o->auth_mechanisms);
	return true;
}

/* AUTH=<> or AUTH= and an address as xtext: we do not trust clients that far, which §5 allows. */
static enum reply_id mail(const struct ext_offer *o, const struct param *p, struct mail_params *out UNUSED)
{
	char room[500];
	struct buf b = buf_fixed(room, sizeof room);
	if (!o->auth || !str_eq_nocase(p->keyword, STR("AUTH")))
		return REPLY_UNKNOWN_PARAMETER;
	bool good = p->value.n > 0 && xtext_decode(p->value, &b) == ERR_NONE && !str_has_control(buf_str(&b));
	return good ? REPLY_NONE : REPLY_BAD_PARAMETER;
}

const struct ext ext_auth = { .line = line, .mail = mail };
