/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BDAT: RFC 3030 §2. The octets that follow are read whatever becomes of them, so that none of them
 * is taken for a command (H11); nothing is allocated by the declared size (H8).
 */
#include "smtpd/session.h"

#define CHUNK_BEYOND_MAX ((uint64_t)64 << 20) /* larger than any message by this: not even read */

static enum err hang_up(struct session *s, enum reply_id why, struct reply *reply_out)
{
	s->next = NEXT_CLOSE;
	s->linger = true;
	s->end_reason = END_LIMIT;
	return session_say(reply_out, why);
}

/* Why the chunk will be dropped. */
static enum reply_id chunk_refusal(const struct session *s)
{
	const struct transaction *t = s->tx;
	if (!t)
		return s->helo.n ? REPLY_MAIL_FIRST : REPLY_HELO_FIRST; /* H10, H11 */
	if (t->accepted == 0)
		return REPLY_RCPT_FIRST;
	if (t->bdat && t->refusal != REPLY_NONE)
		return REPLY_BDAT_FAILED; /* RFC 3030 §2: only RSET helps */
	return REPLY_NONE;
}

static enum err bdat(struct session *s, struct str args, struct reply *reply_out)
{
	struct str mark, size = str_split(args, ' ', &mark);
	uint64_t bytes = 0;
	bool has_mark = size.n < args.n,
	     last = has_mark && str_eq_nocase(str_trim(mark), STR("LAST"));
	enum err e = str_to_u64(size, s->d->conf->limits.message_bytes + CHUNK_BEYOND_MAX, &bytes);
	/* H8: where the chunk ends is unknown, so what follows cannot be read */
	if (e == ERR_SYNTAX || (has_mark && !last))
		return hang_up(s, REPLY_BAD_CHUNK_SIZE, reply_out);
	if (e != ERR_NONE)
		return hang_up(s, REPLY_TOO_BIG, reply_out);
	if (bytes == 0 && !last)
		return session_say(reply_out, REPLY_EMPTY_CHUNK);
	s->chunk_left = bytes;
	s->chunk_last = last;
	s->chunk_refusal = (uint8_t)chunk_refusal(s);
	s->next = NEXT_CHUNK;
	return ERR_NONE; /* the reply follows the chunk */
}

const struct smtpd_command cmd_bdat = { .handle_command = bdat };
