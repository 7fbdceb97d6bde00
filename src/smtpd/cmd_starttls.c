/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STARTTLS (RFC 3207), and the handshake of listeners where TLS comes first (RFC 8314 §3.3).
 *
 *  T1  What was received in plaintext never has an effect under TLS: a command behind STARTTLS ends the
 *      connection (H15, H56), and after the handshake the session is as after the greeting (RFC 3207 §4.2).
 *  T2  Nobody is served in plaintext because TLS failed: a failed handshake ends the connection.
 */
#include "base/events.h"
#include "smtpd/session.h"

bool session_may_start_tls(const struct session *s)
{
	return !s->encrypted && s->listener && s->listener->tls == TLS_MODE_STARTTLS && smtpd_tls_ready(s->d);
}

static enum err starttls(struct session *s, struct str args, struct reply *reply_out)
{
	if (args.n > 0)
		return session_say(reply_out, REPLY_NO_ARGUMENT);
	if (s->encrypted)
		return session_say(reply_out, REPLY_TLS_ALREADY);
	if (!s->listener || s->listener->tls != TLS_MODE_STARTTLS)
		return session_say(reply_out, REPLY_NOT_OFFERED);
	if (s->more_input)
		return session_say(reply_out, REPLY_TLS_INJECTION);
	if (s->tx)
		return session_say(reply_out, REPLY_TLS_IN_TRANSACTION);
	if (!smtpd_tls_ready(s->d))
		return session_say(reply_out, REPLY_TLS_UNAVAILABLE);
	s->next = NEXT_TLS;
	return session_say(reply_out, REPLY_TLS_GO);
}

const struct smtpd_command cmd_starttls = { .handle_command = starttls };

static enum err handshake_failed(struct session *s, struct str why, uint64_t took_ms)
{
	struct reply r = { 454, STR("4.7.0"), why };
	s->end_reason = END_TLS;
	counter_add(s->d->count.tls_failed, 1);
	log_smtpd_tls_failed(s->d->log, (struct log_ids){ .session = s->id }, &s->client, r.text, took_ms);
	session_refused(s, &r, str_of("", 0), STR("tls handshake"));
	return ERR_CLOSED; /* T2 */
}

/* T1: RFC 3207 §4.2: "The server MUST discard any knowledge obtained from the client". */
static void begin_again(struct session *s)
{
	transaction_end(s);
	mem_free(s->d->mem, (void *)(uintptr_t)s->helo.p);
	s->helo = STR_NONE;
	mem_free(s->d->mem, (void *)(uintptr_t)s->account.p);
	s->account = STR_NONE; /* whoever logged in there may have been somebody else */
	s->esmtp = false;
	s->lines = (struct line_reader){ 0 };
	s->encrypted = true;
}

enum err session_tls(struct session *s)
{
	struct smtpd *d = s->d;
	int64_t began_ns = world_mono_ns(d->w);
	if (!smtpd_tls_ready(d))
		return handshake_failed(s, STR("the process that holds the keys is away"), 0);
	session_deadline(s, d->conf->times.tls_handshake);
	stream_idle(&s->stream);
	enum err e = tls_accept(d->tls, &s->stream);
	uint64_t took_ms = (uint64_t)(world_mono_ns(d->w) - began_ns) / 1000000;
	if (e != ERR_NONE)
		return handshake_failed(s, tls_why(&s->stream), took_ms);
	struct tls_info i = tls_info(&s->stream);
	begin_again(s);
	counter_add(d->count.tls, 1);
	counter_add(d->count.tls_resumed, i.resumed);
	log_smtpd_tls(d->log, (struct log_ids){ .session = s->id }, &s->client, i.version, i.cipher, i.server_name,
		      i.resumed ? STR("yes") : STR("no"), took_ms);
	return ERR_NONE;
}
