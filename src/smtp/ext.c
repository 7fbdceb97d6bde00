/* SPDX-License-Identifier: Apache-2.0 */
/* The extensions, in the order of EHLO's lines: see ext.h. */
#include "smtp/ext.h"

static const struct ext *const all[] = {
	&ext_pipelining,	  &ext_size,	 &ext_8bitmime,
	&ext_enhancedstatuscodes, &ext_smtputf8, &ext_chunking,
	&ext_binarymime,	  &ext_limits,	 &ext_dsn,
	&ext_starttls,		  &ext_auth,	 &ext_futurerelease,
};
#define ALL (sizeof all / sizeof all[0])

void ext_lines_add(const struct ext_offer *o, struct buf *b)
{
	for (size_t i = 0; i < ALL; i++) {
		if (!all[i]->line)
			continue;
		buf_add_char(b, '\n');
		if (!all[i]->line(o, b))
			b->n--;
	}
}

enum reply_id ext_mail_params(const struct ext_offer *o, struct str s, struct mail_params *out)
{
	struct params ps;
	*out = (struct mail_params){ 0 };
	if (params_parse(s, &ps) != ERR_NONE)
		return REPLY_BAD_PARAMETER;
	for (size_t k = 0; k < ps.n; k++) {
		/* RFC 5321 §4.1.1.11: 555 for what is not known */
		enum reply_id r = REPLY_UNKNOWN_PARAMETER;
		for (size_t i = 0; i < ALL && r == REPLY_UNKNOWN_PARAMETER; i++)
			if (all[i]->mail)
				r = all[i]->mail(o, &ps.v[k], out);
		if (r != REPLY_NONE)
			return r;
	}
	return REPLY_NONE;
}

enum reply_id ext_rcpt_params(const struct ext_offer *o, struct str s, struct rcpt_params *out)
{
	struct params ps;
	*out = (struct rcpt_params){ 0 };
	if (params_parse(s, &ps) != ERR_NONE)
		return REPLY_BAD_PARAMETER;
	for (size_t k = 0; k < ps.n; k++) {
		enum reply_id r = REPLY_UNKNOWN_PARAMETER;
		for (size_t i = 0; i < ALL && r == REPLY_UNKNOWN_PARAMETER; i++)
			if (all[i]->rcpt)
				r = all[i]->rcpt(o, &ps.v[k], out);
		if (r != REPLY_NONE)
			return r;
	}
	return REPLY_NONE;
}
