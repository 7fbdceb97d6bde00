/* SPDX-License-Identifier: Apache-2.0 */
/* DSN: RFC 3461. The parameters are checked and kept; queue acts on them (queue/bounce.c). */
#include "smtp/ext.h"

#define ENVID_MAX 100u /* RFC 3461 §4.4, characters as given */
#define ORCPT_MAX 500u /* RFC 3461 §4.2 */

enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };

/* What is decoded ends up in a DSN's header fields: nothing but printable ASCII (H31). */
static bool is_good_xtext(struct str s)
{
	char room[ORCPT_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	return s.n > 0 && xtext_decode(s, &b) == ERR_NONE && str_is_printable_ascii(buf_str(&b));
}

static bool line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("DSN"));
	return true;
}

static enum reply_id mail(const struct ext_offer *o UNUSED, const struct param *p,
			  struct mail_params *out)
{
	if (str_eq_nocase(p->keyword, STR("RET"))) { /* RFC 3461 §4.3 */
		out->ret = str_eq_nocase(p->value, STR("FULL"))	  ? DSN_RET_FULL
			   : str_eq_nocase(p->value, STR("HDRS")) ? DSN_RET_HDRS
								  : DSN_RET_UNSET;
		return out->ret == DSN_RET_UNSET ? REPLY_BAD_PARAMETER : REPLY_NONE;
	}
	if (!str_eq_nocase(p->keyword, STR("ENVID")))
		return REPLY_UNKNOWN_PARAMETER;
	if (p->value.n > ENVID_MAX || !is_good_xtext(p->value))
		return REPLY_BAD_PARAMETER;
	out->envid = p->value;
	return REPLY_NONE;
}

/* RFC 3461 §4.1: NEVER alone, or a list of the others. */
static enum reply_id notify(struct str list, uint8_t *bits_out)
{
	static const struct {
		const char *name;
		uint8_t bit;
	} kinds[] = { { "NEVER", NOTIFY_NEVER },
		      { "SUCCESS", NOTIFY_SUCCESS },
		      { "FAILURE", NOTIFY_FAILURE },
		      { "DELAY", NOTIFY_DELAY } };
	unsigned bits = 0;
	bool more = true;
	while (more) {
		unsigned bit = 0;
		more = str_find(list, ',') < list.n;
		struct str word = str_split(list, ',', &list);
		for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
			if (str_eq_nocase(word, str_z(kinds[i].name)))
				bit = kinds[i].bit;
		if (bit == 0 || (bits & bit))
			return REPLY_BAD_PARAMETER;
		bits |= bit;
	}
	*bits_out = (uint8_t)bits;
	return (bits & NOTIFY_NEVER) && bits != NOTIFY_NEVER ? REPLY_BAD_PARAMETER : REPLY_NONE;
}

/* RFC 3461 §4.2: addr-type ";" xtext; RFC 6533 §3: with type utf-8 also UTF-8 and \x{…}. */
static bool is_good_orcpt(struct str s)
{
	struct str address, type = str_split(s, ';', &address);
	if (s.n > ORCPT_MAX || type.n == 0 || address.n == 0)
		return false;
	for (size_t i = 0; i < type.n; i++)
		if (!ascii_is_alnum(type.p[i]) && type.p[i] != '-')
			return false;
	if (str_eq_nocase(type, STR("utf-8")))
		return str_is_utf8(address) && !str_has_control(address);
	return is_good_xtext(address);
}

static enum reply_id rcpt(const struct ext_offer *o UNUSED, const struct param *p,
			  struct rcpt_params *out)
{
	if (str_eq_nocase(p->keyword, STR("NOTIFY")))
		return notify(p->value, &out->notify);
	if (!str_eq_nocase(p->keyword, STR("ORCPT")))
		return REPLY_UNKNOWN_PARAMETER;
	if (!is_good_orcpt(p->value))
		return REPLY_BAD_PARAMETER;
	out->orcpt = p->value;
	return REPLY_NONE;
}

const struct ext ext_dsn = { .line = line, .mail = mail, .rcpt = rcpt };
