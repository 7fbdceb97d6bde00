/* SPDX-License-Identifier: Apache-2.0 */
/* MAIL: RFC 5321 §4.1.1.2. Begins a transaction. */
#include "smtpd/session.h"

static enum reply_id path_refusal(enum path_fault fault)
{
	switch (fault) {
	case PATH_OK:
		return REPLY_NONE;
	case PATH_LOCAL_TOO_LONG:
	case PATH_DOMAIN_TOO_LONG:
	case PATH_TOO_LONG:
		return REPLY_SENDER_TOO_LONG; /* RFC 5321 §4.5.3.1.10 */
	case PATH_BAD_DOMAIN:
		return REPLY_BAD_SENDER_DOMAIN;
	case PATH_BAD_UTF8:
		return REPLY_SENDER_BAD_UTF8;
	case PATH_NO_MEMORY:
		return REPLY_SESSION_MEMORY;
	case PATH_SYNTAX:
		break;
	}
	return REPLY_BAD_SENDER;
}

/* Whether a transaction may begin at all. */
static enum reply_id may_begin(const struct session *s)
{
	if (s->helo.n == 0)
		return REPLY_HELO_FIRST; /* RFC 5321 §4.1.1.1: "MUST issue HELO or EHLO before" */
	if (s->tx)
		return REPLY_NESTED_MAIL; /* RFC 5321 §4.1.4 */
	if (s->listener && s->listener->auth == AUTH_MODE_REQUIRED && s->account.n == 0)
		return REPLY_AUTH_FIRST;
	if (s->transactions >= s->d->conf->limits.transactions)
		return REPLY_TOO_MANY_MESSAGES; /* RFC 9422 §4.1: MAILMAX counts every MAIL */
	return s->d->queue_full ? REPLY_QUEUE_FULL : REPLY_NONE;
}

static enum reply_id begin(struct session *s, struct str rest)
{
	struct path path;
	struct mail_params params;
	struct transaction *t = transaction_begin(s);
	if (!t)
		return REPLY_NO_MEMORY;
	enum reply_id r = path_refusal(path_parse(rest, PATH_REVERSE, &s->tx_arena, &path, &rest));
	if (r == REPLY_NONE)
	{
		struct ext_offer offer = session_offer(s);
		r = ext_mail_params(&offer, rest, &params);
	}
	if (r == REPLY_NONE && path.non_ascii && !params.smtputf8)
		r = REPLY_NEEDS_SMTPUTF8; /* RFC 6531 §3.5 has 550 here; 553 says it better */
	if (r != REPLY_NONE)
		return r;
	t->reverse_path = path.canonical;
	t->reverse_text = arena_str(&s->tx_arena, path.text);
	t->params = params;
	t->params.envid = arena_str(&s->tx_arena, params.envid);
	return arena_err(&s->tx_arena) == ERR_NONE ? REPLY_NONE : REPLY_SESSION_MEMORY;
}

/* RFC 6409 §6.1: a submitter sends in its own name. */
static YIELDS
enum err look_at_sender(struct session *s, enum reply_id *r)
{
	bool allowed = true;
	if (*r != REPLY_NONE)
		return ERR_NONE;
	enum err e = session_may_send(s, s->tx->reverse_path, &allowed);
	if (e == ERR_CANCELLED)
		return e;
	if (e != ERR_NONE)
		*r = REPLY_LOOKUP_UNREACHABLE;
	else if (!allowed)
		*r = REPLY_NOT_YOUR_SENDER;
	return ERR_NONE;
}

static YIELDS
enum err mail(struct session *s, struct str args, struct reply *reply_out)
{
	enum reply_id r = may_begin(s);
	s->transactions++;
	if (r == REPLY_NONE && !str_starts_nocase(args, STR("FROM:")))
		r = REPLY_FROM_SYNTAX;
	if (r == REPLY_NONE) {
		/* RFC 5321 §3.3 forbids blanks behind the colon; many clients write one */
		r = begin(s, str_trim(str_sub(args, 5, args.n)));
		TRY(look_at_sender(s, &r));
		if (r != REPLY_NONE)
			transaction_end(s);
	}
	(void)session_say(reply_out, r == REPLY_NONE ? REPLY_SENDER_OK : r);
	if (r == REPLY_QUEUE_FULL && s->d->queue_text_n > 0)
		reply_out->text = str_of(s->d->queue_text, s->d->queue_text_n);
	return ERR_NONE;
}

const struct smtpd_command cmd_mail = { .handle_command = mail };
