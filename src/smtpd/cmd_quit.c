/* SPDX-License-Identifier: Apache-2.0 */
/* QUIT: RFC 5321 §4.1.1.10. */
#include "smtpd/session.h"

static enum err quit(struct session *s, struct str args, struct reply *reply_out)
{
	if (args.n > 0)
		return session_say(reply_out, REPLY_NO_ARGUMENT);
	s->next = NEXT_CLOSE;
	s->end_reason = END_QUIT;
	return session_say(reply_out, REPLY_BYE);
}

const struct smtpd_command cmd_quit = { .handle_command = quit };
