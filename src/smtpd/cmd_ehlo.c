/* SPDX-License-Identifier: Apache-2.0 */
/* EHLO and HELO: RFC 5321 §4.1.1.1. At any time; they end a transaction (§4.1.4). */
#include "smtpd/session.h"

#define TEXT_BYTES_MAX 2048u

static enum err take_name(struct session *s, struct str name)
{
	char *p = mem_alloc_raw(s->d->mem, name.n);
	if (!p)
		return ERR_NO_MEMORY;
	memcpy(p, name.p, name.n);
	mem_free(s->d->mem, (void *)(uintptr_t)s->helo.p);
	s->helo = str_of(p, name.n);
	return ERR_NONE;
}

/* H19: a name that is not checked would stand in Received and in logs. */
static enum err greeted(struct session *s, struct str args, struct reply *reply_out)
{
	struct str name;
	if (args.n == 0)
		return session_say(reply_out, REPLY_NEEDS_ARGUMENT);
	if (smtp_helo_parse(args, &name) != ERR_NONE)
		return session_say(reply_out, REPLY_BAD_HELO);
	TRY(take_name(s, name));
	transaction_end(s);
	*reply_out = (struct reply){ 250, STR(""), s->d->conf->hostname };
	return ERR_NONE;
}

static enum err helo(struct session *s, struct str args, struct reply *reply_out)
{
	TRY(greeted(s, args, reply_out));
	if (reply_out->code == 250)
		s->esmtp = false;
	return ERR_NONE;
}

static enum err ehlo(struct session *s, struct str args, struct reply *reply_out)
{
	TRY(greeted(s, args, reply_out));
	if (reply_out->code != 250)
		return ERR_NONE;
	struct buf b = buf_fixed(arena_alloc(&s->command, TEXT_BYTES_MAX), TEXT_BYTES_MAX);
	buf_add(&b, s->d->conf->hostname);
	struct ext_offer offer = s->d->offer;
	offer.starttls = session_may_start_tls(s); /* RFC 3207 §4.2: not once TLS is in use */
	ext_lines_add(&offer, &b);
	TRY(buf_err(&b));
	s->esmtp = true;
	reply_out->text = buf_str(&b);
	return ERR_NONE;
}

const struct smtpd_command cmd_ehlo = { .handle_command = ehlo, .junk = true };
const struct smtpd_command cmd_helo = { .handle_command = helo, .junk = true };
