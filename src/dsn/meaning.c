/* SPDX-License-Identifier: Apache-2.0 */
/* What enhanced status codes mean (RFC 3463, RFC 5248 and its registry), said to a sender of mail.
 */
#include "dsn/parts.h"

#define SPELLING "Check the spelling of the address, or ask the recipient for the right one."
#define LATER	 "Try again later, or reach the recipient by other means."
#define ASK	 "Ask the recipient, or who runs that server, what it wants changed."
#define OPERATOR "Please show this report to those who run your mail server."
#define SMALLER	 "Send less at a time, or put large files where the recipient can fetch them."

/* The first row that fits counts. */
static const struct dsn_meaning meanings[] = {
	{ "2.*.*", "The message was taken.", "" },

	{ "*.1.1", "The address does not exist there.", SPELLING },
	{ "*.1.2", "The domain behind the @ does not exist, or has no mail server.", SPELLING },
	{ "*.1.3", "The server there does not understand the address.", SPELLING },
	{ "*.1.4", "The address stands for more than one mailbox there.", SPELLING },
	{ "*.1.6", "The mailbox has moved, and its new address was not given.", SPELLING },
	{ "*.1.7", "The server there does not understand the sender's address.", OPERATOR },
	{ "*.1.8", "The domain of the sender's address is not accepted there.", OPERATOR },
	{ "*.1.10", "The domain behind the @ declares that it takes no mail at all.", SPELLING },
	{ "*.1.*", "The address was not accepted there.", SPELLING },

	{ "*.2.1", "The mailbox exists, but is closed.", LATER },
	{ "*.2.2", "The mailbox is full.", "The recipient has to make room first. " LATER },
	{ "*.2.3", "The message is larger than this mailbox may receive.", SMALLER },
	{ "*.2.4", "The mailing list could not be expanded.", ASK },
	{ "*.2.*", "The mailbox could not take the message.", LATER },

	{ "*.3.1", "The server there has no room left.", LATER },
	{ "*.3.2", "The server there takes no mail at present.", LATER },
	{ "*.3.3", "The server there lacks something that the message needs.", ASK },
	{ "*.3.4", "The message is larger than the server there accepts.", SMALLER },
	{ "*.3.*", "The server there has a problem of its own.", LATER },

	{ "*.4.1", "The server of this domain did not answer.", LATER },
	{ "*.4.2", "The connection to the server broke off.", LATER },
	{ "*.4.3", "A directory or name server that is needed did not answer.", LATER },
	{ "*.4.4", "No way to a mail server of this domain could be found.", SPELLING },
	{ "*.4.5", "The servers on the way have too much mail to do.", LATER },
	{ "*.4.6", "The message went round in a circle: addresses forward to one another.",
	  "Who set up the forwarding has to undo it. " OPERATOR },
	{ "*.4.7", "The time that was allowed for the delivery is over.", LATER },
	{ "*.4.*", "The network or the way through it failed.", LATER },

	{ "*.5.3", "The message had more recipients at once than the server accepts.",
	  "Send it to fewer recipients at a time." },
	{ "*.5.*", "The servers did not understand one another.", OPERATOR },

	{ "*.6.1", "The server there does not accept this kind of content.", ASK },
	{ "*.6.3", "The content would have to be converted, which was not possible.", ASK },
	{ "*.6.7", "The address has letters beyond ASCII, and the server cannot handle them.",
	  "Ask the recipient for an address in plain ASCII." },
	{ "*.6.8", "The server there cannot handle addresses with letters beyond ASCII.",
	  "Write from an address in plain ASCII." },
	{ "*.6.9", "The server there cannot handle headers with letters beyond ASCII.",
	  "Write from and to addresses in plain ASCII." },
	{ "*.6.*", "The content of the message was not accepted.", ASK },

	{ "*.7.1", "The server there refused the message by its rules.", ASK },
	{ "*.7.2", "You are not permitted to write to this mailing list.", ASK },
	{ "*.7.10", "The message may only travel encrypted, and that was not possible.", ASK },
	{ "*.7.20", "No valid DKIM signature was found, which the server there requires.",
	  OPERATOR },
	{ "*.7.23", "The sender's domain does not permit our server to send for it (SPF).",
	  OPERATOR },
	{ "*.7.25", "The server there does not accept the name of ours (reverse DNS).", OPERATOR },
	{ "*.7.26", "The message could not be proved to come from its sender's domain.", OPERATOR },
	{ "*.7.27", "The sender's domain declares that it sends no mail.", OPERATOR },
	{ "*.7.28", "Too much mail came at once.", LATER },
	{ "*.7.30", "The message requires TLS all the way, and a server on it has none.", ASK },
	{ "*.7.*", "The message was refused for reasons of security.", ASK },

	{ "4.*.*", "The delivery failed for a reason that may pass.", LATER },
	{ "*", "The delivery failed, and no reason was given.", ASK },
};

static bool fits(struct str pattern, struct str status)
{
	if (str_eq(pattern, STR("*")))
		return true;
	while (pattern.n > 0) {
		struct str wanted = str_split(pattern, '.', &pattern);
		struct str number = str_split(status, '.', &status);
		if (number.n == 0 || (!str_eq(wanted, STR("*")) && !str_eq(wanted, number)))
			return false;
	}
	return status.n == 0;
}

const struct dsn_meaning *dsn_meaning(struct str status)
{
	size_t last = sizeof meanings / sizeof meanings[0] - 1;
	for (size_t i = 0; i < last; i++)
		if (fits(str_z(meanings[i].status), status))
			return &meanings[i];
	return &meanings[last];
}
