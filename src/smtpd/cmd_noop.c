/* SPDX-License-Identifier: Apache-2.0 */
/* NOOP: RFC 5321 §4.1.1.9. An argument is allowed and ignored. */
#include "smtpd/session.h"

static enum err noop(struct session *s UNUSED, struct str args UNUSED, struct reply *reply_out)
{
	return session_say(reply_out, REPLY_OK);
}

const struct smtpd_command cmd_noop = { .handle_command = noop, .junk = true };
