/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one SMTP connection: see session.h. Everything that is read here is hostile.
 *
 * RFC 2920 §3.1: replies gather in the output buffer and leave together when no further whole
 * command has arrived. RFC 5321 §4.5.3.2.7: each command has its time, counted from the end of the
 * one before. Nothing deep may be on the stack in wait_for_command(): there the coroutine is
 * parked.
 */
#include "smtpd/session.h"

#include "base/events.h"

#define NOINLINE __attribute__((noinline))

#define COMMAND_ARENA_MAX ((size_t)3 << 20) /* an answer of lookup with 1,000 targets */
#define FAREWELL_MS	  2000u
#define LINGER_BYTES_MAX  ((uint64_t)256 << 10)
#define HARD_ERRORS	  10u /* times limits.errors, while a transaction has recipients */

/* ---- time ---------------------------------------------------------------------------------- */

static int64_t in_ms(const struct session *s, uint64_t ms)
{
	int64_t now_ns = world_mono_ns(s->d->w);
	return ms < (uint64_t)(INT64_MAX - now_ns) / 1000000 ? now_ns + (int64_t)ms * 1000000
							     : NEVER;
}

void session_deadline(struct session *s, uint64_t for_ms)
{
	int64_t at_ns = in_ms(s, for_ms);
	(void)co_set_deadline(at_ns < s->end_ns ? at_ns : s->end_ns);
}

/* ---- transactions -------------------------------------------------------------------------- */

struct transaction *transaction_begin(struct session *s)
{
	s->tx_arena = arena_make(s->d->mem, s->d->conf->limits.session_memory);
	struct transaction *t = ARENA_NEW(&s->tx_arena, struct transaction);
	struct header_scan *head = ARENA_NEW(&s->tx_arena, struct header_scan);
	if (!t || !head) {
		arena_close(&s->tx_arena);
		return NULL;
	}
	t->id = smtpd_new_id(s->d);
	t->began_ns = world_mono_ns(s->d->w);
	t->head = head;
	t->body = (struct body){ .memory = buf_grow(s->d->mem, s->d->conf->limits.body_memory),
				 .fd = -1 };
	s->tx = t;
	return t;
}

void transaction_end(struct session *s)
{
	struct transaction *t = s->tx;
	if (!t)
		return;
	body_free(s, &t->body);
	if (t->told_queue)
		s->d->backend->abort_message(s->d->backend_arg, t->id);
	s->tx = NULL;
	arena_close(&s->tx_arena);
}

/* ---- replies ------------------------------------------------------------------------------- */

enum err session_flush(struct session *s)
{
	session_deadline(s, s->d->conf->times.write); /* H24 */
	return stream_flush(&s->stream);
}

static YIELDS
NOINLINE enum err reply_send(struct session *s, const struct reply *r)
{
	char line[REPLY_LINE_MAX + 8];
	bool single = str_find(r->text, '\n') == r->text.n;
	size_t room = single ? sizeof line : REPLY_BYTES_MAX;
	struct buf b = buf_fixed(single ? line : arena_alloc(&s->command, room), room);
	reply_add(&b, r);
	if (buf_err(&b) != ERR_NONE)
		return ERR_NO_MEMORY;
	session_deadline(s, s->d->conf->times.write);
	return stream_write(&s->stream, buf_str(&b));
}

void session_refused(struct session *s, const struct reply *reply, struct str forward_path,
		     struct str rule)
{
	struct history_refused_in w = {
		.at_ms = world_wall_ms(s->d->w),
		.session = s->id,
		.id = s->tx ? s->tx->id : 0,
		.client = s->client,
		.helo = s->helo,
		.reverse_path = s->tx ? s->tx->reverse_path : str_of("", 0),
		.forward_path = forward_path,
		.code = reply->code,
		.enhanced = reply->enhanced,
		.text = str_sub(reply->text, 0, 400),
		.rule = str_sub(rule, 0, 80),
	};
	s->noted = true;
	counter_add(s->d->count.refused, 1);
	refusals_add(&s->d->refusals, &w);
}

/* ---- commands ------------------------------------------------------------------------------ */

/* H20: what a client may do wrong, or without sending mail. */
static enum reply_id over_budget(const struct session *s)
{
	const struct conf_limits *l = &s->d->conf->limits;
	bool mail_at_stake = s->tx && s->tx->accepted > 0;
	if (s->errors >= l->errors && (!mail_at_stake || s->errors / HARD_ERRORS >= l->errors))
		return REPLY_TOO_MANY_ERRORS;
	if (s->junk >= l->junk_commands)
		return REPLY_TOO_MANY_COMMANDS;
	return REPLY_NONE;
}

static YIELDS
enum err command_run(struct session *s, struct command c, struct reply *reply_out)
{
	const struct smtpd_command *cmd = smtpd_command_of(c.verb);
	enum reply_id over = c.verb == VERB_QUIT ? REPLY_NONE : over_budget(s);
	s->commands++;
	if (over != REPLY_NONE) {
		s->end_reason = END_LIMIT;
		return session_say(reply_out, over);
	}
	if (cmd->junk)
		s->junk++;
	return cmd->handle_command(s, c.args, reply_out);
}

static YIELDS
enum err line_run(struct session *s, enum line_result result, struct str line,
		  struct reply *reply_out)
{
	enum reply_id bad = result == LINE_BAD ? REPLY_BAD_LINE : REPLY_LINE_TOO_LONG;
	if (result == LINE_WHOLE)
		return command_run(s, command_parse(line), reply_out);
	s->commands++;
	if (result == LINE_ENDLESS) {
		s->linger = true;
		s->end_reason = END_LIMIT;
		return session_say(reply_out, REPLY_ENDLESS);
	}
	enum reply_id over = over_budget(s);
	return session_say(reply_out, over == REPLY_NONE ? bad : over);
}

/* What every reply entails, whoever gave it. */
static YIELDS
enum err reply_finish(struct session *s, const struct reply *r)
{
	if (r->code >= 500)
		s->errors++;
	if (reply_is_refusal(r) && !s->noted)
		session_refused(s, r, str_of("", 0), STR("protocol"));
	s->noted = false;
	if (r->code == 421) {
		s->next = NEXT_CLOSE;
		s->linger = true;
		if (s->end_reason == END_CLOSED)
			s->end_reason = END_LIMIT;
	}
	return reply_send(s, r);
}

/* What follows the command: message bytes, a chunk, the end. */
static YIELDS
enum err follow(struct session *s)
{
	struct reply reply = { 0 };
	uint8_t next = s->next;
	s->next = NEXT_COMMAND;
	switch ((enum session_next)next) {
	case NEXT_COMMAND:
		return ERR_NONE;
	case NEXT_CLOSE:
		return ERR_EOF;
	case NEXT_DATA:
		TRY(session_flush(s));
		TRY(receive_data(s, &reply));
		break;
	case NEXT_CHUNK:
		TRY(receive_chunk(s, &reply));
		break;
	case NEXT_AUTH:
		TRY(session_authenticate(s, &reply));
		break;
	case NEXT_TLS:
		TRY(session_flush(s));
		return session_tls(s);
	}
	TRY(reply_finish(s, &reply));
	return s->next == NEXT_CLOSE ? ERR_EOF : ERR_NONE;
}

/* A refused DATA, and something came behind it: RFC 2920 §3.1 forbids that, and it may be a
 * message. */
static YIELDS
enum err out_of_step(struct session *s)
{
	struct reply r = reply_of(REPLY_NOT_IN_STEP);
	return reply_finish(s, &r);
}

static YIELDS
enum err not_smtp(struct session *s)
{
	struct reply r = reply_of(REPLY_NOT_SMTP); /* H18 */
	s->end_reason = END_NOT_SMTP;
	s->linger = true;
	TRY(reply_finish(s, &r));
	return ERR_EOF;
}

/* One command, if a whole one has arrived. */
static YIELDS
NOINLINE enum err session_step(struct session *s, bool *need_more_out)
{
	struct str line, in = stream_input(&s->stream);
	struct reply reply = { 0 };
	size_t used;
	if (s->commands == 0 && command_is_foreign(in))
		return not_smtp(s);
	enum line_result result = line_next(&s->lines, in, &line, &used);
	*need_more_out = result == LINE_NEED_MORE;
	if (*need_more_out) {
		stream_consume(&s->stream, used);
		return ERR_NONE;
	}
	s->more_input = in.n > used;
	bool is_data = result == LINE_WHOLE && command_parse(line).verb == VERB_DATA;
	TRY(line_run(s, result, line, &reply));
	if (reply.code)
		TRY(reply_finish(s, &reply));
	if (is_data && reply.code >= 500 && in.n > used && s->next != NEXT_CLOSE)
		TRY(out_of_step(s));
	stream_consume(&s->stream, used);
	arena_close(&s->command);
	enum err e = follow(s);
	arena_close(&s->command);
	s->command_end_ns = 0;
	return e;
}

static YIELDS
NOINLINE enum err wait_for_command(struct session *s)
{
	if (s->stream.out_n > 0)
		TRY(session_flush(s));
	if (s->command_end_ns == 0) {
		s->command_end_ns = in_ms(s, s->d->conf->times.command);
		if (s->end_ns < s->command_end_ns)
			s->command_end_ns = s->end_ns;
	}
	(void)co_set_deadline(s->command_end_ns);
	return stream_fill_idle(&s->stream);
}

/* ---- first and last ------------------------------------------------------------------------ */

/* H13: RFC 5321 §4.3.1: "The sender SHOULD wait for this greeting message". */
static YIELDS
enum err look_for_early_talk(struct session *s)
{
	char byte;
	size_t n;
	session_deadline(s, s->d->conf->times.greet_delay);
	for (;;) {
		enum err e = world_peek(s->d->w, s->stream.src.fd, &byte, 1, &n);
		if (e == ERR_NONE)
			return ERR_DENIED;
		if (e != ERR_BUSY)
			return e;
		source_block(&s->stream.src, WORLD_IN);
		e = source_wait(&s->stream.src, WORLD_IN);
		if (e != ERR_NONE)
			return e == ERR_TIMEOUT ? ERR_NONE : e;
	}
}

static YIELDS
NOINLINE enum err greet(struct session *s)
{
	struct reply r = { 220, STR(""), STR_NONE };
	if (!s->trusted && !s->encrypted && s->d->conf->times.greet_delay > 0) {
		enum err e = look_for_early_talk(s);
		if (e == ERR_DENIED) {
			r = reply_of(REPLY_EARLY_TALKER);
			s->end_reason = END_EARLY_TALKER;
			s->linger = true;
			TRY(reply_finish(s, &r));
		}
		TRY(e);
	}
	/* RFC 5321 §4.2: the greeting begins with the name */
	r.text = arena_strf(&s->command, "%.*s ESMTP godwit", STR_ARG(s->d->conf->hostname));
	TRY(arena_err(&s->command));
	TRY(reply_send(s, &r));
	arena_close(&s->command);
	return ERR_NONE;
}

static enum reply_id last_words(struct session *s, enum err e)
{
	switch (e) {
	case ERR_TIMEOUT:
		s->end_reason = END_TIMEOUT;
		return s->tx && s->tx->received > 0 ? REPLY_DATA_LATE : REPLY_IDLE;
	case ERR_CANCELLED: /* RFC 5321 §3.8: a server that must stop says 421 */
		s->end_reason = END_STOPPING;
		return REPLY_SHUTDOWN;
	case ERR_NO_MEMORY:
		s->end_reason = END_NO_MEMORY;
		return REPLY_NO_MEMORY;
	case ERR_LIMIT:
		s->end_reason = END_LIMIT;
		return REPLY_TOO_BIG;
	case ERR_EOF:
	case ERR_CLOSED:
	case ERR_DENIED:
		return REPLY_NONE;
	default:
		s->end_reason = END_FAILED;
		return REPLY_NONE;
	}
}

static YIELDS
NOINLINE void farewell(struct session *s, enum err e)
{
	struct reply r = reply_of(last_words(s, e));
	enum err sent = ERR_NONE;
	if (e == ERR_CLOSED)
		return;
	s->end_ns = NEVER;
	if (r.code)
		sent = reply_send(s, &r);
	session_deadline(s, FAREWELL_MS);
	if (sent == ERR_NONE)
		sent = stream_flush_last(&s->stream);
	if (sent == ERR_NONE && r.code == 421)
		s->linger = true;
}

void session_serve(struct session *s)
{
	s->began_ns = world_mono_ns(s->d->w);
	s->end_ns = in_ms(s, s->d->conf->times.session_total);
	s->command = arena_make(s->d->mem, COMMAND_ARENA_MAX);
	s->trusted = smtpd_trusts(s->d, &s->client);
	bool tls_first = s->listener && s->listener->tls == TLS_MODE_IMPLICIT;
	enum err e = tls_first ? session_tls(s) : ERR_NONE;
	if (e == ERR_NONE)
		e = greet(s);
	while (e == ERR_NONE) {
		bool need_more = false;
		e = session_step(s, &need_more);
		if (e == ERR_NONE && need_more)
			e = wait_for_command(s);
	}
	farewell(s, e);
}

/*
 * A close with unread input resets the connection, which would take our last reply with it: so the
 * rest is read for a moment.
 */
static YIELDS
void linger(struct session *s)
{
	uint64_t before = s->stream.received_bytes;
	stream_end(&s->stream);
	session_deadline(s, FAREWELL_MS);
	while (s->stream.received_bytes - before < LINGER_BYTES_MAX) {
		stream_consume(&s->stream, stream_input(&s->stream).n);
		if (stream_fill(&s->stream) != ERR_NONE)
			return;
	}
}

static struct str end_name(unsigned reason)
{
	static const char *const names[] = {
		[END_CLOSED] = "closed by the client",
		[END_QUIT] = "quit",
		[END_TIMEOUT] = "timeout",
		[END_STOPPING] = "the server stops",
		[END_EARLY_TALKER] = "early talker",
		[END_NOT_SMTP] = "not SMTP",
		[END_LIMIT] = "a limit was reached",
		[END_TLS] = "TLS failed",
		[END_NO_MEMORY] = "no memory",
		[END_FAILED] = "failed",
	};
	return str_z(reason < sizeof names / sizeof names[0] ? names[reason] : "");
}

void session_done(struct session *s)
{
	transaction_end(s);
	arena_close(&s->command);
	char tls[80];
	struct buf tls_text = buf_fixed(tls, sizeof tls);
	struct tls_info i = tls_info(&s->stream);
	if (i.version.n)
		buf_addf(&tls_text, "%.*s %.*s", STR_ARG(i.version), STR_ARG(i.cipher));
	if (s->linger || stream_input(&s->stream).n > 0)
		linger(s);
	stream_close(&s->stream);
	session_forget_auth(s);
	mem_free(s->d->mem, (void *)(uintptr_t)s->account.p);
	mem_free(s->d->mem, (void *)(uintptr_t)s->helo.p);
	s->helo = STR_NONE;
	int64_t took_ms = (world_mono_ns(s->d->w) - s->began_ns) / 1000000;
	log_smtpd_disconnected(s->d->log, (struct log_ids){ .session = s->id }, &s->client,
			       end_name(s->end_reason), s->messages, s->errors, buf_str(&tls_text), (uint64_t)took_ms);
}
