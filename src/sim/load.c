/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load: many messages over several connections, by clients that do as RFC 5321 §4.5.4 wants: what was not answered,
 * or put off, is sent again.
 */
#include "sim/run.h"

#define TRIES_MAX 400u
#define SIZES_MAX 20000u

/* Which recipients, what size and how it is sent depend on the message's number and the seed. */
struct load_message {
	unsigned number;
	uint64_t dice;
	const char *from;
	struct buf body;
	bool pipelined;
};

struct sender {
	struct load *l;
	struct dialogue d;
	bool greeted;
};

/* Most are the load's own address; some of those that `senders` names besides. */
static const char *sender_of(const struct load *l, const struct load_message *m)
{
	uint64_t n = (m->dice >> 40) % 10;
	return n < l->senders_n ? l->senders[n] : "load@example.net";
}

static void compose(struct load *l, struct load_message *m)
{
	struct buf *b = &m->body;
	size_t want = l->bytes ? l->bytes : 200 + (size_t)(m->dice >> 20) % SIZES_MAX;
	buf_clear(b);
	buf_addf(b, "From: load@example.net\r\nSubject: message %u\r\nMessage-ID: <%u.%llu@example.net>\r\n\r\n", m->number,
		 m->number, (unsigned long long)(m->dice % 1000000));
	while (b->n + 40 < want)
		buf_addf(b, "%sline %zu of message %u\r\n", b->n % 7 == 0 ? "." : "", b->n, m->number);
	buf_addf(b, "end of message %u\r\n", m->number);
}

static bool chosen(const struct load *l, const struct load_message *m, size_t i)
{
	uint64_t mask = m->dice % ((UINT64_C(1) << l->to_n) - 1) + 1; /* never none */
	return mask >> i & 1;
}

static YIELDS enum err say(struct dialogue *d, unsigned want, const char *fmt, struct str arg)
{
	char line[600];
	struct buf b = buf_fixed(line, sizeof line);
	buf_add(&b, str_z(fmt));
	if (arg.p) { /* an empty one is in brackets too */
		buf_add(&b, arg);
		buf_add(&b, STR(">"));
	}
	buf_add(&b, STR("\r\n"));
	TRY(dialogue_send(d, buf_str(&b)));
	TRY(dialogue_reply(d));
	return d->code == want ? ERR_NONE : ERR_BUSY;
}

static YIELDS enum err greet(struct sender *s)
{
	if (s->d.open)
		return ERR_NONE;
	TRY(dialogue_open(&s->d, s->l->r, &s->l->from));
	TRY(dialogue_reply(&s->d));
	if (s->d.code != 220)
		return ERR_BUSY;
	return say(&s->d, 250, "EHLO load.example.net", STR_NONE);
}

static YIELDS enum err body(struct sender *s, const struct load_message *m)
{
	struct run *r = s->l->r;
	struct buf out = buf_grow(r->mem, (size_t)64 << 20);
	struct str rest = buf_str(&m->body);
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		if (line.p[0] == '.')
			buf_add_char(&out, '.');
		buf_add(&out, line);
		buf_add_char(&out, '\n');
	}
	buf_add(&out, STR(".\r\n"));
	enum err e = dialogue_send(&s->d, buf_str(&out));
	buf_free(&out);
	return e;
}

static YIELDS enum err group(struct sender *s, const struct load_message *m)
{
	struct load *l = s->l;
	char room[4096];
	struct buf b = buf_fixed(room, sizeof room);
	size_t replies = 2;
	buf_addf(&b, "MAIL FROM:<%s>\r\n", m->from);
	for (size_t i = 0; i < l->to_n; i++)
		if (chosen(l, m, i)) {
			buf_addf(&b, "RCPT TO:<%.*s>\r\n", STR_ARG(l->to[i]));
			replies++;
		}
	buf_add(&b, STR("DATA\r\n"));
	TRY(dialogue_send(&s->d, buf_str(&b)));
	bool all = true;
	for (size_t i = 0; i < replies; i++) {
		TRY(dialogue_reply(&s->d));
		all &= s->d.code / 100 == 2 || s->d.code == 354;
	}
	if (s->d.code == 354 && !all) /* some recipients only: the whole is tried again later (RFC 2920 §3.1) */
		return ERR_CLOSED;
	return s->d.code == 354 ? ERR_NONE : ERR_BUSY;
}

static YIELDS enum err one_by_one(struct sender *s, const struct load_message *m)
{
	struct load *l = s->l;
	TRY(say(&s->d, 250, "MAIL FROM:<", str_z(m->from)));
	for (size_t i = 0; i < l->to_n; i++)
		if (chosen(l, m, i))
			TRY(say(&s->d, 250, "RCPT TO:<", l->to[i]));
	return say(&s->d, 354, "DATA", STR_NONE);
}

static YIELDS enum err send_once(struct sender *s, const struct load_message *m)
{
	TRY(greet(s));
	TRY(m->pipelined ? group(s, m) : one_by_one(s, m));
	TRY(body(s, m));
	TRY(dialogue_reply(&s->d));
	return s->d.code == 250 ? ERR_NONE : ERR_BUSY;
}

static YIELDS void send_until_accepted(struct sender *s, const struct load_message *m)
{
	struct run *r = s->l->r;
	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		if (send_once(s, m) == ERR_NONE)
			return;
		dialogue_close(&s->d);
		uint64_t most_ms = 100u << (tries < 8 ? tries : 8);
		run_sleep(r, (int64_t)(50 + sim_below(r->s, most_ms)) * 1000000);
	}
	run_fail(r, s->l->st, "message %u was not accepted after %u tries; the last reply was: %.*s", m->number, TRIES_MAX,
		 STR_ARG(s->d.open ? buf_str(&s->d.reply) : STR("none")));
}

/* coroutine */
static void sender_main(void *arg)
{
	struct load *l = arg;
	struct run *r = l->r;
	struct sender s = { .l = l };
	struct load_message m = { .body = buf_grow(r->mem, (size_t)64 << 20) };
	while (l->next < l->messages) {
		m.number = l->next++;
		m.dice = sim_random(r->s);
		m.pipelined = sim_below(r->s, 2) == 0;
		m.from = sender_of(l, &m);
		compose(l, &m);
		send_until_accepted(&s, &m);
		if (sim_below(r->s, 20) == 0)
			dialogue_close(&s.d);
	}
	if (s.d.open && dialogue_send(&s.d, STR("QUIT\r\n")) == ERR_NONE && dialogue_reply(&s.d) != ERR_NONE)
		sim_note(r->s, "a sender heard no answer to QUIT");
	dialogue_close(&s.d);
	buf_free(&m.body);
}

void load_run(const struct load *l)
{
	struct load *copy = arena_alloc(&l->r->arena, sizeof *copy);
	ASSERT(copy);
	*copy = *l;
	for (unsigned i = 0; i < l->connections; i++)
		if (scope_spawn(&l->r->background, "sender", CO_STACK_LARGE, sender_main, copy) != ERR_NONE)
			run_fail(l->r, l->st, "cannot start a sender");
}

static struct str without_comma(struct str s)
{
	return str_ends(s, STR(",")) ? str_sub(s, 0, s.n - 1) : s;
}

void load_start(struct run *r, const struct statement *st)
{
	struct load l = { .r = r, .st = st, .connections = 1 };
	uint64_t n = 0;
	l.from = (struct ip){ .family = IP_V4, .bits = 32, .b = { 198, 51, 100, 9 } };
	enum err e = str_to_u64(st->words[1], 1000000, &n);
	l.messages = (unsigned)n;
	for (size_t i = 3; i < st->n && e == ERR_NONE; i++) {
		if (word_is(st, i, "of") && i + 1 < st->n) {
			e = scenario_size(st->words[++i], &n);
			l.bytes = (size_t)n;
		} else if (word_is(st, i, "over") && i + 2 < st->n) {
			e = str_to_u64(st->words[i + 1], 1000, &n);
			l.connections = (unsigned)n;
			i += 2;
		} else if (word_is(st, i, "from") && i + 1 < st->n) {
			e = ip_parse(st->words[++i], &l.from);
		} else if (!word_is(st, i, "to")) {
			if (l.to_n == sizeof l.to / sizeof l.to[0])
				e = ERR_LIMIT;
			else
				l.to[l.to_n++] = without_comma(st->words[i]);
		}
	}
	if (e != ERR_NONE || l.to_n == 0)
		run_fail(r, st, "load N messages [of SIZE] to ADDRESS, … [over N connections] [from ADDRESS]");
	else
		load_run(&l);
}
