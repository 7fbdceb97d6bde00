/* SPDX-License-Identifier: Apache-2.0 */
/* AUTH: RFC 4954 §4. Whether it may begin; authenticate.c goes on. */
#include "smtpd/session.h"

/* H63: before a secret is sent. */
static enum reply_id may_begin(const struct session *s)
{
	if (!s->listener || s->listener->auth == AUTH_MODE_NONE)
		return REPLY_NOT_OFFERED;
	if (s->helo.n == 0 || !s->esmtp)
		return REPLY_HELO_FIRST;
	if (s->account.n > 0)
		return REPLY_AUTH_TWICE;
	if (s->tx)
		return REPLY_AUTH_IN_MAIL;
	if (!s->encrypted && !s->listener->auth_in_clear)
		return REPLY_AUTH_NEEDS_TLS;
	return REPLY_NONE;
}

static enum err auth(struct session *s, struct str args, struct reply *reply_out)
{
	struct str first, mechanism = str_split(args, ' ', &first);
	bool has_first = mechanism.n < args.n;
	enum reply_id r = may_begin(s);
	if (r == REPLY_NONE && mechanism.n == 0)
		r = REPLY_NEEDS_ARGUMENT;
	if (r == REPLY_NONE)
		r = session_begin_auth(s, mechanism, str_trim(first), has_first);
	stream_wipe(&s->stream, first); /* it has been copied, or is not wanted */
	if (r == REPLY_NONE)
		s->next = NEXT_AUTH;
	else
		(void)session_say(reply_out, r);
	return ERR_NONE;
}

const struct smtpd_command cmd_auth = { .handle_command = auth, .junk = true };
