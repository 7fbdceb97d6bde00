/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction as the client: see client.h. Runs in relay; every reply is a stranger's.
 *
 * Round trips on a warm connection with PIPELINING: MAIL, RCPT and DATA leave in one write (RFC 2920
 * §3.1), then the message with its end. What is unanswered at any time fits into one stream buffer,
 * so that neither end can be stuck in a write while the other is (ibid., "window size").
 *
 * Every wait has a deadline of its own (RFC 5321 §4.5.3.2), counted for the whole of what is waited
 * for: a server that sends a byte now and then gains nothing (H98).
 */
#include "relay/client.h"

#include "base/hash.h"
#include "relay/client_internal.h"

#define STEP_MAIL 0u
#define COMMAND_MAX 3072u
#define GROUP_MAX 100u /* RFC 5321 §4.5.3.1.8: so many a server must take */

/* One transaction. Steps: MAIL, a RCPT for each of the group, DATA. */
struct transaction {
	struct client *c;
	struct delivery *d;
	struct str by; /* in the call's arena */
	size_t n;      /* in d->group */
	size_t written, answered; /* steps */
	size_t accepted;	  /* RCPT */
	bool mail_ok, go, bdat;
};

static size_t last_step(const struct transaction *t)
{
	return t->n + (t->bdat ? 0 : 1);
}

static struct finding finding_of(struct delivery *d, const struct client_reply *r, const char *what)
{
	struct finding f = { .verdict = r->code >= 500 ? VERDICT_REFUSE : VERDICT_DEFER, .code = r->code };
	f.enhanced = r->enhanced_n ? arena_str(d->arena, client_reply_enhanced(r)) :
		     r->code >= 500 ? STR("5.0.0") : r->code >= 400 ? STR("4.0.0") : STR("2.0.0");
	f.text = r->text_n ? arena_str(d->arena, client_reply_text(r)) : arena_strf(d->arena, "(no text, to %s)", what);
	if (r->code < 400)
		f.verdict = VERDICT_ACCEPT;
	return f;
}

/* ---- who is in it ------------------------------------------------------------------------------------ */

/* Two with one number only cost a refusal that the server gives anyway. */
static uint32_t domain_of(struct str address)
{
	struct str domain = str_sub(address, str_rfind(address, '@') + 1, address.n);
	return crc32c(0, domain.p, domain.n);
}

/* RFC 9422 §4.3: RCPTDOMAINMAX counts the different domains of all RCPT commands of a session. */
static bool domain_fits(const struct client *c, uint32_t domain)
{
	size_t max = c->caps.rcpt_domain_max < CLIENT_DOMAINS_MAX ? c->caps.rcpt_domain_max : CLIENT_DOMAINS_MAX;
	for (size_t i = 0; i < c->domains_n; i++)
		if (c->domains[i] == domain)
			return true;
	return c->caps.rcpt_domain_max == 0 || c->domains_n < max;
}

static void domain_count(struct client *c, uint32_t domain)
{
	for (size_t i = 0; i < c->domains_n; i++)
		if (c->domains[i] == domain)
			return;
	if (c->caps.rcpt_domain_max)
		c->domains[c->domains_n++] = domain;
}

/* RFC 9422 §4: as many as the server takes at once. */
static void choose_group(struct transaction *t)
{
	struct delivery *d = t->d;
	size_t max = t->c->caps.rcpt_max ? t->c->caps.rcpt_max : GROUP_MAX;
	for (size_t i = 0; i < d->n && t->n < max; i++) {
		uint32_t domain = domain_of(d->rcpts[i].in->address);
		if (d->rcpts[i].state != DELIVERY_OPEN || !domain_fits(t->c, domain))
			continue;
		domain_count(t->c, domain);
		d->rcpts[i].state = DELIVERY_SENT;
		d->group[t->n++] = i;
	}
}

static void decide(struct transaction *t, size_t i, struct finding f)
{
	delivery_decide(t->d, t->d->group[i], f, t->by, t->c->caps.has & CAP_DSN);
}

/* All of the group that are in this state. */
static void decide_all(struct transaction *t, enum delivery_state state, struct finding f)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->d->rcpts[t->d->group[i]].state == state)
			decide(t, i, f);
}

/* ---- commands ---------------------------------------------------------------------------------------- */

static void mail_parameters(const struct transaction *t, struct buf *b)
{
	const struct relay_deliver_in *in = t->d->in;
	unsigned has = t->c->caps.has;
	if (has & CAP_SIZE)
		buf_addf(b, " SIZE=%llu", (unsigned long long)t->d->bytes);
	if (t->bdat)
		buf_add(b, STR(" BODY=BINARYMIME"));
	else if (in->body_kind != BODY_KIND_SEVEN_BIT && has & CAP_8BITMIME)
		buf_add(b, STR(" BODY=8BITMIME"));
	if (delivery_needs_utf8(t->d) && has & CAP_SMTPUTF8)
		buf_add(b, STR(" SMTPUTF8"));
	if (!(has & CAP_DSN)) /* RFC 3461 §5.2.2: then RET, ENVID, NOTIFY and ORCPT are not passed on */
		return;
	if (in->ret != DSN_RET_UNSET)
		buf_add(b, in->ret == DSN_RET_FULL ? STR(" RET=FULL") : STR(" RET=HDRS"));
	if (in->envid.n) {
		buf_add(b, STR(" ENVID="));
		buf_add(b, in->envid);
	}
}

/* RFC 3461 §5.2.1: both as they were received. */
static void rcpt_parameters(const struct transaction *t, const struct relay_rcpt *r, struct buf *b)
{
	static const struct {
		unsigned bit;
		const char *name;
	} kinds[] = { { 1, "NEVER" }, { 2, "SUCCESS" }, { 4, "FAILURE" }, { 8, "DELAY" } };
	const char *separator = " NOTIFY=";
	if (!(t->c->caps.has & CAP_DSN))
		return;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		if (!(r->notify & kinds[i].bit))
			continue;
		buf_add(b, str_z(separator));
		buf_add(b, str_z(kinds[i].name));
		separator = ",";
	}
	bool printable = !str_has_8bit(r->orcpt) || t->c->caps.has & CAP_SMTPUTF8;
	if (r->orcpt.n && printable) {
		buf_add(b, STR(" ORCPT="));
		buf_add(b, r->orcpt);
	}
}

static void add_command(const struct transaction *t, size_t step, struct buf *b)
{
	if (step == STEP_MAIL) {
		buf_add(b, STR("MAIL FROM:<"));
		buf_add(b, t->d->in->reverse_path);
		buf_add(b, STR(">"));
		mail_parameters(t, b);
	} else if (step <= t->n) {
		const struct relay_rcpt *r = t->d->rcpts[t->d->group[step - 1]].in;
		buf_add(b, STR("RCPT TO:<"));
		buf_add(b, r->address);
		buf_add(b, STR(">"));
		rcpt_parameters(t, r, b);
	} else {
		buf_add(b, STR("DATA"));
	}
	buf_add(b, STR("\r\n"));
}

static const char *step_name(const struct transaction *t, size_t step)
{
	return step == STEP_MAIL ? "MAIL" : step <= t->n ? "RCPT" : "DATA";
}

/* ---- replies to them ----------------------------------------------------------------------------------- */

static void mail_answered(struct transaction *t, const struct client_reply *r)
{
	t->mail_ok = r->code < 300;
	t->c->heard = t->c->heard || t->mail_ok;
	t->c->in_transaction = t->mail_ok;
	if (t->mail_ok)
		return;
	t->d->reach = r->code < 500 ? RELAY_REACH_BUSY : RELAY_REACH_REACHED;
	decide_all(t, DELIVERY_SENT, finding_of(t->d, r, "MAIL"));
}

/*
 * RFC 5321 §4.5.3.1.10: 452, or 552 from older servers, also means that there are enough recipients; then
 * the next transaction takes the others (H99). Only behind one that was accepted, or it would never end.
 */
static bool is_enough(const struct transaction *t, const struct client_reply *r)
{
	bool code = r->code == 452 || r->code == 552;
	struct str e = client_reply_enhanced(r);
	bool other = e.n && !str_eq(e, STR("4.5.3")) && !str_eq(e, STR("5.5.3")) && !str_eq(e, STR("4.3.1"));
	return code && t->accepted > 0 && !other;
}

static void rcpt_answered(struct transaction *t, size_t i, const struct client_reply *r)
{
	struct delivery_rcpt *rcpt = &t->d->rcpts[t->d->group[i]];
	if (!t->mail_ok)
		return; /* 503, most likely; MAIL's reply has decided */
	if (r->code < 300) {
		rcpt->state = DELIVERY_TAKEN;
		t->accepted++;
	} else if (is_enough(t, r)) {
		rcpt->state = DELIVERY_OPEN;
	} else {
		decide(t, i, finding_of(t->d, r, "RCPT"));
	}
}

static void data_answered(struct transaction *t, const struct client_reply *r)
{
	t->go = r->code == 354;
	if (!t->go && t->mail_ok)
		decide_all(t, DELIVERY_TAKEN, finding_of(t->d, r, "DATA"));
}

/* Sends what is written and hears its replies, in order. */
static YIELDS enum err hear_answers(struct transaction *t)
{
	struct client *c = t->c;
	const struct conf_times *times = &c->env->conf->times;
	if (t->answered < t->written)
		TRY(client_flush(c, t->d, step_name(t, t->answered)));
	for (; t->answered < t->written; t->answered++) {
		struct client_reply r;
		bool data = t->answered > t->n;
		const char *what = step_name(t, t->answered);
		uint64_t ms = data ? times->data_start : times->reply;
		TRY(client_reply_read(c, t->d, client_deadline(c, t->d, ms), what, &r));
		if ((r.code >= 300 && r.code < 400) != (data && r.code == 354) || (data && r.code < 300))
			return client_nonsense(c, t->d, what);
		if (t->answered == STEP_MAIL)
			mail_answered(t, &r);
		else if (data)
			data_answered(t, &r);
		else
			rcpt_answered(t, t->answered - 1, &r);
	}
	return arena_err(t->d->arena);
}

/* MAIL, RCPT and DATA, by ones or, with PIPELINING, together. */
static YIELDS enum err envelope(struct transaction *t)
{
	struct client *c = t->c;
	bool together = c->caps.has & CAP_PIPELINING;
	for (; t->written <= last_step(t); t->written++) {
		char room[COMMAND_MAX];
		struct buf b = buf_fixed(room, sizeof room);
		bool data = t->written > t->n;
		add_command(t, t->written, &b);
		TRY(buf_err(&b)); /* calls.def bounds all of it */
		if (!together || c->stream.out_n + b.n > STREAM_OUT_BYTES)
			TRY(hear_answers(t));
		if (t->answered > STEP_MAIL && !t->mail_ok)
			return ERR_NONE;
		if (data && t->answered == t->written && t->accepted == 0)
			return ERR_NONE; /* all is heard, and nobody was accepted */
		TRY(client_write(c, t->d, buf_str(&b), step_name(t, t->written)));
	}
	return hear_answers(t);
}

/* ---- the message ---------------------------------------------------------------------------------------- */

/* The reply to the end was not heard, or is none: E2. */
static enum err end_is_lost(struct transaction *t, enum err e)
{
	struct finding f = t->d->trouble;
	f.verdict = VERDICT_DEFER;
	f.uncertain = true;
	f.code = 0;
	if (!str_starts(f.enhanced, STR("4")))
		f.enhanced = STR("4.4.2");
	f.text = arena_strf(t->d->arena, "the message may have arrived: %.*s", STR_ARG(t->d->trouble.text));
	decide_all(t, DELIVERY_TAKEN, f);
	return e;
}

/* The reply to the end is waited for as long as the standard asks: cut short, it makes duplicates. */
static int64_t end_deadline(const struct transaction *t)
{
	uint64_t ms = t->c->env->conf->times.data_end;
	int64_t now_ns = world_mono_ns(t->c->env->w);
	return ms < (uint64_t)(INT64_MAX - now_ns) / 1000000 ? now_ns + (int64_t)ms * 1000000 : NEVER;
}

static YIELDS enum err end_reply(struct transaction *t, struct client_reply *r_out)
{
	TRY(client_reply_read(t->c, t->d, end_deadline(t), "the end of the message", r_out));
	bool verdict = r_out->code < 300 || r_out->code >= 400;
	return verdict ? ERR_NONE : client_nonsense(t->c, t->d, "the end of the message");
}

/* RFC 2033 §4.2: a reply for each accepted recipient, in their order. */
static YIELDS enum err end_replies_lmtp(struct transaction *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct client_reply r;
		if (t->d->rcpts[t->d->group[i]].state != DELIVERY_TAKEN)
			continue;
		enum err e = end_reply(t, &r);
		if (e == ERR_NONE || r.code == 421)
			decide(t, i, finding_of(t->d, &r, "the end of the message"));
		if (e != ERR_NONE)
			return end_is_lost(t, e); /* the others' replies may have been good ones */
	}
	return arena_err(t->d->arena);
}

static YIELDS enum err end_heard(struct transaction *t)
{
	struct client_reply r;
	if (t->c->lmtp)
		return end_replies_lmtp(t);
	enum err e = end_reply(t, &r);
	if (e != ERR_NONE) /* a 421 says that the message was not taken */
		return r.code == 421 ? e : end_is_lost(t, e);
	decide_all(t, DELIVERY_TAKEN, finding_of(t->d, &r, "the end of the message"));
	return arena_err(t->d->arena);
}

/* RFC 2920 §3.1: DATA was accepted although no recipient was: "the client SMTP should send a single dot". */
static YIELDS enum err empty_message(struct transaction *t)
{
	struct client_reply r;
	if (t->c->lmtp)
		return ERR_CLOSED; /* how many replies would come nobody says */
	TRY(client_write(t->c, t->d, STR(".\r\n"), "the end of the message"));
	TRY(client_flush(t->c, t->d, "the end of the message"));
	t->c->in_transaction = false;
	return client_reply_read(t->c, t->d, client_deadline(t->c, t->d, t->c->env->conf->times.data_end), "an empty message", &r);
}

static YIELDS enum err message(struct transaction *t)
{
	struct client *c = t->c;
	if (t->go && t->accepted == 0)
		return empty_message(t);
	if (t->accepted == 0 || (!t->go && !t->bdat))
		return ERR_NONE;
	enum err e = client_send_message(c, t->d, t->bdat);
	if (e == ERR_IO)
		decide_all(t, DELIVERY_TAKEN, t->d->own);
	TRY(e);
	c->in_transaction = false;
	return end_heard(t);
}

/* ---- what the server cannot take ------------------------------------------------------------------------ */

static void refuse_open(struct transaction *t, const char *enhanced, struct str text)
{
	delivery_decide_open(t->d, finding_make(enhanced, text), t->by);
}

static YIELDS enum err look_for_8bit(struct delivery *d, bool *yes_out)
{
	enum err e = delivery_has_8bit(d, yes_out);
	return e == ERR_NONE || e == ERR_CANCELLED ? e : client_own_trouble(d, e);
}

/*
 * RFC 6531 §3.2: never to a server without SMTPUTF8. Many clients ask for it whatever they send: what is all
 * ASCII needs it not. (With 8-bit bytes somewhere they may be those of a header within the MIME structure.)
 */
static YIELDS enum err check_utf8(struct transaction *t)
{
	struct delivery *d = t->d;
	struct str text = STR("the address is not ASCII, and the server does not offer SMTPUTF8");
	bool global = str_has_8bit(d->in->reverse_path);
	if (t->c->caps.has & CAP_SMTPUTF8)
		return ERR_NONE;
	if (!global && d->in->smtputf8)
		TRY(look_for_8bit(d, &global));
	if (global)
		refuse_open(t, "5.6.7", STR("the message needs SMTPUTF8, which the server does not offer"));
	for (size_t i = 0; i < d->n; i++)
		if (d->rcpts[i].state == DELIVERY_OPEN && str_has_8bit(d->rcpts[i].in->address))
			delivery_decide(d, i, finding_make("5.6.7", text), t->by, false);
	return ERR_NONE;
}

/* RFC 6152 §3: what is not 7 bit goes to a server that offers 8BITMIME, or back; RFC 3030 §3 likewise. */
static YIELDS enum err check_body(struct transaction *t)
{
	struct delivery *d = t->d;
	unsigned has = t->c->caps.has;
	bool eight = false;
	if (d->in->body_kind == BODY_KIND_BINARY_MIME && (!(has & CAP_CHUNKING) || !(has & CAP_BINARYMIME)))
		refuse_open(t, "5.6.1", STR("the message is binary, and the server does not offer BINARYMIME"));
	if (d->in->body_kind != BODY_KIND_EIGHT_BIT_MIME || has & CAP_8BITMIME)
		return ERR_NONE;
	TRY(look_for_8bit(d, &eight));
	if (eight)
		refuse_open(t, "5.6.3", STR("the message has 8-bit bytes, and the server does not offer 8BITMIME"));
	return ERR_NONE;
}

static YIELDS enum err check_fit(struct transaction *t)
{
	struct delivery *d = t->d;
	uint64_t max = t->c->caps.size_max;
	if (max && d->bytes > max) /* RFC 1870 §6.1 */
		refuse_open(t, "5.3.4", arena_strf(d->arena, "the message has %llu bytes, and the server takes %llu at most",
						   (unsigned long long)d->bytes, (unsigned long long)max));
	TRY(check_utf8(t));
	return check_body(t);
}

/* ---- one transaction -------------------------------------------------------------------------------------- */

enum err client_deliver(struct client *c, struct delivery *d)
{
	struct transaction t = { .c = c, .d = d, .by = arena_str(d->arena, client_by(c)) };
	d->reach = RELAY_REACH_REACHED;
	d->trouble_by = t.by;
	t.bdat = d->in->body_kind == BODY_KIND_BINARY_MIME;
	enum err e = check_fit(&t);
	if (e == ERR_IO)
		delivery_decide_open(d, d->own, t.by);
	TRY(e);
	if (d->open == 0)
		return arena_err(d->arena);
	choose_group(&t);
	if (t.n == 0) /* no room for the domains of those that are open */
		return arena_err(d->arena);
	c->messages++;
	e = c->in_transaction ? client_command(c, d, STR("RSET\r\n"), "RSET") : ERR_NONE;
	c->in_transaction = false;
	if (e == ERR_NONE)
		e = envelope(&t);
	if (e == ERR_NONE)
		e = message(&t);
	delivery_reopen(d);
	return e;
}

bool client_can_go_on(const struct client *c, const struct delivery *d)
{
	uint32_t max = c->caps.mail_max && c->caps.mail_max < CLIENT_MESSAGES_MAX ? c->caps.mail_max : CLIENT_MESSAGES_MAX;
	if (c->messages >= max || !d)
		return c->messages < max;
	for (size_t i = 0; i < d->n; i++)
		if (d->rcpts[i].state != DELIVERY_DONE && domain_fits(c, domain_of(d->rcpts[i].in->address)))
			return true;
	return false;
}
