/* SPDX-License-Identifier: Apache-2.0 */
/* HELP: RFC 5321 §4.1.1.8. */
#include "smtpd/session.h"

static enum err help(struct session *s UNUSED, struct str args UNUSED, struct reply *reply_out)
{
	*reply_out = (struct reply){
		214, STR("2.0.0"),
		STR("Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP\n"
		    "See RFC 5321. For help by a person, write to postmaster.")
	};
	return ERR_NONE;
}

const struct smtpd_command cmd_help = { .handle_command = help, .junk = true };
