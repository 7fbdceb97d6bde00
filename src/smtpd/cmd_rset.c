/* SPDX-License-Identifier: Apache-2.0 */
/* RSET: RFC 5321 §4.1.1.5. */
#include "smtpd/session.h"

static enum err rset(struct session *s, struct str args, struct reply *reply_out)
{
	if (args.n > 0)
		return session_say(reply_out, REPLY_NO_ARGUMENT);
	transaction_end(s);
	return session_say(reply_out, REPLY_RSET);
}

const struct smtpd_command cmd_rset = { .handle_command = rset, .junk = true };
