/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that are known but not offered, and those that are not known: RFC 5321 §4.2.4. */
#include "smtpd/session.h"

/* RFC 5321 §4.2.4: 502 for a command that is recognized but not implemented (H39: ETRN, TURN). */
static enum err unavailable(struct session *s UNUSED, struct str args UNUSED,
			    struct reply *reply_out)
{
	return session_say(reply_out, REPLY_NOT_OFFERED);
}

static enum err unknown(struct session *s UNUSED, struct str args UNUSED, struct reply *reply_out)
{
	return session_say(reply_out, REPLY_UNKNOWN_COMMAND);
}

const struct smtpd_command cmd_unavailable = { .handle_command = unavailable };
const struct smtpd_command cmd_unknown = { .handle_command = unknown };
