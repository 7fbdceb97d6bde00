/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VRFY and EXPN: RFC 5321 §4.1.1.6, §4.1.1.7, §7.3. Nobody learns here who exists: the answer is
 * the same for all (H36), as §3.5.3 allows with 252.
 */
#include "smtpd/session.h"

static enum err vrfy(struct session *s UNUSED, struct str args, struct reply *reply_out)
{
	return session_say(reply_out, args.n ? REPLY_VERIFY : REPLY_NEEDS_ARGUMENT);
}

const struct smtpd_command cmd_vrfy = { .handle_command = vrfy, .junk = true };
