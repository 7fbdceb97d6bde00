/* SPDX-License-Identifier: Apache-2.0 */
/* FUTURERELEASE: RFC 4865. For those who submit: the message waits in the queue until the time that they name. */
#include "base/clockfmt.h"
#include "smtp/ext.h"

#define SECONDS_MAX 999999999u /* nine digits, RFC 4865 §3 */

static bool line(const struct ext_offer *o, struct buf *b)
{
	int64_t seconds = o->hold_ms / 1000 < SECONDS_MAX ? o->hold_ms / 1000 : SECONDS_MAX;
	char room[32];
	struct buf until = buf_fixed(room, sizeof room);
	if (o->hold_ms <= 0)
		return false;
	date_add_rfc3339(&until, o->now_ms + o->hold_ms);
	buf_add(b, STR("FUTURERELEASE "));
	buf_add_i64(b, seconds);
	buf_add_char(b, ' ');
	buf_add(b, str_sub(buf_str(&until), 0, 19)); /* the RFC's examples have no fraction */
	buf_add_char(b, 'Z');
	return true;
}

static enum reply_id mail(const struct ext_offer *o, const struct param *p, struct mail_params *out)
{
	uint64_t seconds;
	int64_t until_ms;
	bool by_time = str_eq_nocase(p->keyword, STR("HOLDUNTIL"));
	if (o->hold_ms <= 0 || (!by_time && !str_eq_nocase(p->keyword, STR("HOLDFOR"))))
		return REPLY_UNKNOWN_PARAMETER;
	if (out->not_before_ms)
		return REPLY_BAD_PARAMETER; /* RFC 4865 §4.2: one of them */
	if (by_time) {
		if (date_parse_rfc3339(p->value, &until_ms) != ERR_NONE)
			return REPLY_BAD_PARAMETER;
	} else {
		if (p->value.n > 9 || str_to_u64(p->value, SECONDS_MAX, &seconds) != ERR_NONE || seconds == 0)
			return REPLY_BAD_PARAMETER;
		until_ms = o->now_ms + (int64_t)seconds * 1000;
	}
	if (until_ms > o->now_ms + o->hold_ms)
		return REPLY_HELD_TOO_LONG;
	out->not_before_ms = until_ms > o->now_ms ? until_ms : 0;
	return REPLY_NONE;
}

const struct ext ext_futurerelease = { .line = line, .mail = mail };
