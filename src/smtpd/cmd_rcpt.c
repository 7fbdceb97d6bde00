/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RCPT: RFC 5321 §4.1.1.3. Whether the address exists, where it leads and whether this client may
 * send there is lookup's to say, and nobody else's (P5).
 */
#include "dsn/dsn.h"
#include "smtpd/session.h"

#define LOOKUP_MS	 60000u
#define RECIPIENTS_FIRST 4u
#define RECIPIENTS_MAX	 1000u /* targets of a message: calls.def */
#define UNKNOWN_FREE	 4u    /* unknown recipients before answers become slow (H36) */
#define SLOW_FIRST_MS	 100u
#define SLOW_MAX_MS	 1000u

static enum reply_id path_refusal(enum path_fault fault)
{
	switch (fault) {
	case PATH_OK:
		return REPLY_NONE;
	case PATH_LOCAL_TOO_LONG:
	case PATH_DOMAIN_TOO_LONG:
	case PATH_TOO_LONG:
		return REPLY_RECIPIENT_TOO_LONG; /* RFC 5321 §4.5.3.1.10 */
	case PATH_BAD_DOMAIN:
		return REPLY_BAD_RECIPIENT_DOMAIN;
	case PATH_BAD_UTF8:
		return REPLY_RECIPIENT_BAD_UTF8;
	case PATH_NO_MEMORY:
		return REPLY_SESSION_MEMORY;
	case PATH_SYNTAX:
		break;
	}
	return REPLY_BAD_RECIPIENT;
}

/* Same mailbox or same remote address: delivered once, however often it is named. */
static bool known_target(const struct transaction *t, const struct target *target)
{
	for (size_t i = 0; i < t->recipients_n; i++) {
		const struct target *other = &t->recipients[i].target;
		if (other->kind != target->kind)
			continue;
		if (target->kind == TARGET_KIND_MAILBOX ? str_eq(other->mailbox, target->mailbox)
							: str_eq(other->address, target->address))
			return true;
	}
	return false;
}

static enum err make_room(struct session *s, size_t more)
{
	struct transaction *t = s->tx;
	size_t cap = t->recipients_cap ? t->recipients_cap : RECIPIENTS_FIRST;
	while (cap < t->recipients_n + more)
		cap *= 2;
	if (cap == t->recipients_cap)
		return ERR_NONE;
	struct envelope_rcpt *v = ARENA_ARRAY(&s->tx_arena, struct envelope_rcpt, cap);
	if (!v)
		return ERR_NO_MEMORY;
	if (t->recipients_n)
		memcpy(v, t->recipients, t->recipients_n * sizeof *v);
	t->recipients = v;
	t->recipients_cap = cap;
	return ERR_NONE;
}

/* RFC 3461 §5.2.7.3 (c): an alias with several targets is reported itself, as "expanded". */
static bool is_to_be_reported(const struct rcpt_params *params,
			      const struct lookup_rcpt_out *answer)
{
	return answer->targets_n > 1 && (params->notify & DSN_NOTIFY_SUCCESS);
}

static enum err add_targets(struct session *s, const struct path *path,
			    const struct rcpt_params *params, const struct lookup_rcpt_out *answer)
{
	struct transaction *t = s->tx;
	struct arena *a = &s->tx_arena;
	size_t before = t->recipients_n;
	bool several = answer->targets_n > 1;
	struct target alias = { TARGET_KIND_EXPANSION, path->canonical, STR("") };
	TRY(make_room(s, answer->targets_n + 1));
	struct str as_given = arena_str(a, path->text), orcpt = arena_str(a, params->orcpt);
	for (size_t i = 0; i < answer->targets_n; i++) {
		const struct target *from = &answer->targets[i];
		if (known_target(t, from))
			continue;
		struct envelope_rcpt *r = &t->recipients[t->recipients_n++];
		r->target.kind = from->kind;
		r->target.address = arena_str(a, from->address);
		r->target.mailbox = arena_str(a, from->mailbox);
		r->forward_path = as_given;
		r->orcpt = orcpt;
		r->notify = several ? dsn_notify_of_expanded(params->notify) : params->notify;
	}
	if (is_to_be_reported(params, answer) && !known_target(t, &alias))
		t->recipients[t->recipients_n++] = (struct envelope_rcpt){
			.target = { alias.kind, arena_str(a, alias.address), STR("") },
			.forward_path = as_given, .orcpt = orcpt, .notify = DSN_NOTIFY_SUCCESS,
		};
	if (arena_err(a) != ERR_NONE)
		t->recipients_n = before;
	return arena_err(a);
}

static YIELDS
enum err ask(struct session *s, const struct path *path, struct lookup_rcpt_out *answer)
{
	struct smtpd *d = s->d;
	struct lookup_rcpt_in in = {
		.client = s->client,
		.account = s->account,
		.address = path->canonical,
		.smtputf8 = s->tx->params.smtputf8,
	};
	in.client.port = 0;
	if (cache_get(&d->cache, &in, &s->command, answer)) {
		counter_add(d->count.cache_hits, 1);
		return ERR_NONE;
	}
	counter_add(d->count.cache_misses, 1);
	session_deadline(s, LOOKUP_MS);
	TRY(d->backend->ask_rcpt(d->backend_arg, &in, &s->command, answer));
	cache_put(&d->cache, &in, answer);
	return ERR_NONE;
}

/* H36: who guesses addresses gets slower answers, up to a bound; limits.errors ends it. */
static YIELDS
enum err slow_down(struct session *s)
{
	s->unknown_rcpts++;
	if (s->trusted || s->unknown_rcpts <= UNKNOWN_FREE)
		return ERR_NONE;
	unsigned step = s->unknown_rcpts - UNKNOWN_FREE - 1;
	int64_t ms = step > 8 ? SLOW_MAX_MS : (int64_t)SLOW_FIRST_MS << step;
	ms = ms < SLOW_MAX_MS ? ms : SLOW_MAX_MS;
	(void)co_set_deadline(s->end_ns);
	return co_sleep_until(world_mono_ns(s->d->w) + ms * 1000000);
}

static void refusal_of(const struct lookup_rcpt_out *answer, struct reply *reply_out)
{
	bool refuse = answer->verdict == VERDICT_REFUSE;
	uint16_t low = refuse ? 500 : 400;
	*reply_out = (struct reply){ answer->code, answer->enhanced, answer->text };
	if (answer->code < low || answer->code > low + 99)
		reply_out->code = refuse ? 550 : 451;
}

/* What lookup says about an address that is well-formed. */
static YIELDS
enum err decide(struct session *s, const struct path *path, const struct rcpt_params *params,
		struct reply *reply_out, struct str *rule_out)
{
	struct lookup_rcpt_out answer = { 0 };
	struct transaction *t = s->tx;
	enum err e = ask(s, path, &answer);
	if (e == ERR_CANCELLED)
		return e;
	if (e != ERR_NONE || (answer.verdict == VERDICT_ACCEPT && answer.targets_n == 0))
		return session_say(reply_out, REPLY_LOOKUP_UNREACHABLE);
	*rule_out = answer.rule;
	if (answer.verdict != VERDICT_ACCEPT) {
		refusal_of(&answer, reply_out);
		return answer.verdict == VERDICT_REFUSE ? slow_down(s) : ERR_NONE;
	}
	if (t->recipients_n + answer.targets_n + is_to_be_reported(params, &answer) > RECIPIENTS_MAX) {
		t->over_limit++;
		return session_say(reply_out, REPLY_TOO_MANY_RECIPIENTS);
	}
	if (add_targets(s, path, params, &answer) != ERR_NONE)
		return session_say(reply_out, REPLY_SESSION_MEMORY);
	if (t->accepted++ == 0)
		t->first_rcpt = arena_str(&s->tx_arena, path->canonical);
	return session_say(reply_out, REPLY_RECIPIENT_OK);
}

/* Order of commands and syntax; the path lives in the command's arena. */
static enum reply_id parse(struct session *s, struct str args, struct path *path,
			   struct rcpt_params *params)
{
	struct transaction *t = s->tx;
	if (!t)
		return s->helo.n ? REPLY_MAIL_FIRST : REPLY_HELO_FIRST; /* RFC 5321 §4.1.4 */
	if (t->bdat)
		return REPLY_RCPT_AFTER_BDAT; /* RFC 3030 §2 */
	if (!str_starts_nocase(args, STR("TO:")))
		return REPLY_TO_SYNTAX;
	if (t->accepted >= s->d->conf->limits.recipients) { /* RFC 5321 §4.5.3.1.10; H35 */
		if (t->over_limit++ >= s->d->conf->limits.recipients)
			s->errors++;
		return REPLY_TOO_MANY_RECIPIENTS;
	}
	struct str rest = str_trim(str_sub(args, 3, args.n));
	enum reply_id r = path_refusal(path_parse(rest, PATH_FORWARD, &s->command, path, &rest));
	if (r == REPLY_NONE)
		r = ext_rcpt_params(&s->d->offer, rest, params);
	if (r == REPLY_NONE && path->non_ascii && !t->params.smtputf8)
		r = REPLY_NEEDS_SMTPUTF8; /* RFC 6531 §3.5 */
	return r;
}

static YIELDS
enum err rcpt(struct session *s, struct str args, struct reply *reply_out)
{
	struct path path = { 0 };
	struct rcpt_params params;
	struct str rule = STR("protocol");
	enum reply_id r = parse(s, args, &path, &params);
	if (r == REPLY_NONE)
		TRY(decide(s, &path, &params, reply_out, &rule));
	else
		(void)session_say(reply_out, r);
	if (reply_is_refusal(reply_out))
		session_refused(s, reply_out, path.canonical, rule);
	return ERR_NONE;
}

const struct smtpd_command cmd_rcpt = { .handle_command = rcpt };
