/* SPDX-License-Identifier: Apache-2.0 */
/* DATA: RFC 5321 §4.1.1.4. The message itself is read by receive.c. */
#include "smtpd/session.h"

static enum reply_id may_send(const struct session *s, struct str args)
{
	const struct transaction *t = s->tx;
	if (args.n > 0)
		return REPLY_NO_ARGUMENT;
	if (!t)
		return s->helo.n ? REPLY_MAIL_FIRST : REPLY_HELO_FIRST;
	if (t->bdat)
		return REPLY_DATA_AFTER_BDAT; /* RFC 3030 §2 */
	if (t->params.body == BODY_KIND_BINARY_MIME)
		return REPLY_DATA_IS_BINARY; /* RFC 3030 §3 */
	if (t->accepted == 0)
		return REPLY_RCPT_FIRST; /* RFC 5321 §3.3: 503 or 554 */
	return REPLY_NONE;
}

static enum err data(struct session *s, struct str args, struct reply *reply_out)
{
	enum reply_id r = may_send(s, args);
	if (r != REPLY_NONE)
		return session_say(reply_out, r);
	s->next = NEXT_DATA;
	return session_say(reply_out, REPLY_START_DATA);
}

const struct smtpd_command cmd_data = { .handle_command = data };
