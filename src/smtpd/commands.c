/* SPDX-License-Identifier: Apache-2.0 */
/* The commands by verb. Each is one file, cmd_*.c. */
#include "smtpd/session.h"

static const struct smtpd_command *const by_verb[VERB_COUNT] = {
	[VERB_UNKNOWN] = &cmd_unknown,	[VERB_EHLO] = &cmd_ehlo,
	[VERB_HELO] = &cmd_helo,	[VERB_MAIL] = &cmd_mail,
	[VERB_RCPT] = &cmd_rcpt,	[VERB_DATA] = &cmd_data,
	[VERB_BDAT] = &cmd_bdat,	[VERB_RSET] = &cmd_rset,
	[VERB_NOOP] = &cmd_noop,	[VERB_QUIT] = &cmd_quit,
	[VERB_VRFY] = &cmd_vrfy,	[VERB_EXPN] = &cmd_vrfy,
	[VERB_HELP] = &cmd_help,	[VERB_STARTTLS] = &cmd_starttls,
	[VERB_AUTH] = &cmd_auth,	[VERB_ETRN] = &cmd_unavailable,
	[VERB_ATRN] = &cmd_unavailable, [VERB_TURN] = &cmd_unavailable,
};

const struct smtpd_command *smtpd_command_of(enum verb v)
{
	return by_verb[v];
}
