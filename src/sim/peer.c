/* SPDX-License-Identifier: Apache-2.0 */
/* Servers elsewhere: see peer.h. What they keep lies in the tester's arena. */
#include "sim/peer.h"

#define BODY_MAX ((size_t)256 << 20)
#define LINE_BYTES 4000u
#define ALL_EXTENSIONS "250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n" \
		       "250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n"

/* One connection. */
struct guest {
	struct peer *p;
	struct stream stream;
	struct arena arena;
	struct peer_message *unheard; /* answered 250, and nothing has come since */
	/* the open transaction */
	struct str from;
	struct buf envelope, body;
	struct peer_rcpt *rcpts, **rcpts_tail;
	uint64_t rcpts_n;
	bool open, leaves;
	unsigned code; /* of the last reply */
};

/* ---- rules ------------------------------------------------------------------------------------------ */

static bool seen_for(struct peer *p, struct peer_rule *rule, const struct guest *g, struct str to)
{
	struct arena *a = &p->r->arena;
	int64_t now_ns = sim_now_ns(p->r->s);
	for (struct peer_seen *s = rule->seen; s; s = s->next)
		if (str_eq(s->from, g->from) && str_eq_nocase(s->to, to))
			return now_ns < s->at_ns + rule->for_ns;
	struct peer_seen *s = ARENA_NEW(a, struct peer_seen);
	ASSERT(s);
	*s = (struct peer_seen){ rule->seen, arena_str(a, g->from), arena_str(a, to), now_ns };
	rule->seen = s;
	return true;
}

static struct peer_rule *rule_for(struct guest *g, enum peer_step step, struct str to)
{
	struct peer *p = g->p;
	for (struct peer_rule *it = p->rules; it; it = it->next) {
		if (it->step != step || (it->to.n && !str_eq_nocase(it->to, to)) || (it->times && it->used == it->times) ||
		    g->rcpts_n < it->after || (it->chance && sim_below(p->r->s, 100) >= it->chance) ||
		    (it->for_ns && !seen_for(p, it, g, to)))
			continue;
		it->used++;
		return it;
	}
	return NULL;
}

/* ---- bytes ------------------------------------------------------------------------------------------ */

static YIELDS enum err say(struct guest *g, struct str text)
{
	struct peer *p = g->p;
	for (size_t i = 0; p->byte_ns && i < text.n; i++) {
		TRY(co_sleep_until(sim_now_ns(p->r->s) + p->byte_ns));
		TRY(stream_write(&g->stream, str_sub(text, i, i + 1)));
		TRY(stream_flush(&g->stream));
	}
	if (!p->byte_ns)
		TRY(stream_write(&g->stream, text));
	return stream_flush(&g->stream);
}

static YIELDS enum err hear(struct guest *g)
{
	TRY(stream_fill(&g->stream));
	if (g->unheard)
		g->unheard->heard = true;
	g->unheard = NULL;
	return ERR_NONE;
}

static YIELDS enum err stay_silent(struct guest *g, enum peer_step step)
{
	if (step == PEER_CONTENT) /* and deaf */
		return co_sleep_until(NEVER - 1);
	for (;;) {
		stream_consume(&g->stream, stream_input(&g->stream).n);
		TRY(stream_fill(&g->stream));
	}
}

/* What a rule says about this step; else `normal`. g->code: what was said, 0: nothing was to be said. */
static YIELDS enum err answer(struct guest *g, enum peer_step step, struct str to, struct str normal)
{
	struct peer *p = g->p;
	struct peer_rule *rule = rule_for(g, step, to);
	uint64_t code = 0;
	if (rule && rule->act == PEER_SILENT)
		TRY(stay_silent(g, step));
	if (rule && rule->act == PEER_CLOSE)
		return ERR_CLOSED;
	if (rule)
		normal = rule->text;
	if (str_to_u64(str_sub(normal, 0, 3), 999, &code) != ERR_NONE)
		code = 0;
	g->code = (unsigned)code;
	if (rule)
		sim_note(p->r->s, "%.*s says: %.*s", STR_ARG(p->name), STR_ARG(str_sub(normal, 0, str_find(normal, '\r'))));
	if (normal.n)
		TRY(say(g, normal));
	return code == 421 ? ERR_CLOSED : ERR_NONE;
}

static YIELDS enum err read_line(struct guest *g, struct str *line_out)
{
	for (;;) {
		struct str in = stream_input(&g->stream);
		size_t lf = str_find(in, '\n');
		if (lf < in.n) {
			size_t end = lf > 0 && in.p[lf - 1] == '\r' ? lf - 1 : lf;
			*line_out = arena_str(&g->arena, str_sub(in, 0, end));
			stream_consume(&g->stream, lf + 1);
			return ERR_NONE;
		}
		TRY(hear(g));
	}
}

/* Up to "." alone, without the doubled dots (RFC 5321 §4.5.2). */
static YIELDS enum err read_content(struct guest *g)
{
	bool begins = true;
	for (;;) {
		struct str in = stream_input(&g->stream), rest;
		size_t lf = str_find(in, '\n');
		if (lf == in.n && in.n < STREAM_IN_BYTES) {
			TRY(hear(g));
			continue;
		}
		struct str line = lf < in.n ? str_split(in, '\n', &rest) : in;
		line.n += lf < in.n;
		if (begins && str_eq(line, STR(".\r\n"))) {
			stream_consume(&g->stream, line.n);
			return ERR_NONE;
		}
		buf_add(&g->body, begins && line.p[0] == '.' ? str_sub(line, 1, line.n) : line);
		begins = lf < in.n;
		stream_consume(&g->stream, line.n);
	}
}

static YIELDS enum err read_chunk(struct guest *g, uint64_t n)
{
	while (n > 0) {
		struct str in = stream_input(&g->stream);
		if (in.n == 0) {
			TRY(hear(g));
			continue;
		}
		struct str part = str_sub(in, 0, n < in.n ? (size_t)n : in.n);
		buf_add(&g->body, part);
		stream_consume(&g->stream, part.n);
		n -= part.n;
	}
	return ERR_NONE;
}

/* ---- a transaction ---------------------------------------------------------------------------------- */

static void forget(struct guest *g)
{
	buf_clear(&g->envelope);
	buf_clear(&g->body);
	g->rcpts = NULL;
	g->rcpts_tail = &g->rcpts;
	g->rcpts_n = 0;
	g->open = false;
}

static struct str in_brackets(struct str line)
{
	size_t from = str_find(line, '<'), to = str_find(line, '>'); /* quoted ones with > are not played */
	return from < to && to < line.n ? str_sub(line, from + 1, to) : STR("");
}

static YIELDS enum err mail(struct guest *g, struct str line)
{
	if (g->open)
		return say(g, STR("503 5.5.1 nested MAIL\r\n"));
	g->from = in_brackets(line);
	TRY(answer(g, PEER_MAIL, STR(""), STR("250 2.1.0 ok\r\n")));
	g->open = g->code == 250;
	if (g->open)
		buf_addf(&g->envelope, "%.*s\n", STR_ARG(line));
	return ERR_NONE;
}

static YIELDS enum err rcpt(struct guest *g, struct str line)
{
	struct str to = in_brackets(line);
	if (!g->open)
		return say(g, STR("503 5.5.1 MAIL first\r\n"));
	TRY(answer(g, PEER_RCPT, to, STR("250 2.1.5 ok\r\n")));
	if (g->code / 100 != 2)
		return ERR_NONE;
	struct peer_rcpt *it = ARENA_NEW(&g->arena, struct peer_rcpt);
	ASSERT(it);
	it->address = to;
	*g->rcpts_tail = it;
	g->rcpts_tail = &it->next;
	g->rcpts_n++;
	buf_addf(&g->envelope, "%.*s\n", STR_ARG(line));
	return ERR_NONE;
}

/* only: one recipient (LMTP), or NULL for all. */
static struct peer_message *keep(struct guest *g, const struct peer_rcpt *only)
{
	struct peer *p = g->p;
	struct arena *a = &p->r->arena;
	struct peer_message *m = ARENA_NEW(a, struct peer_message);
	ASSERT(m);
	m->envelope = arena_str(a, buf_str(&g->envelope));
	m->from = arena_str(a, g->from);
	m->bytes = arena_str(a, buf_str(&g->body));
	for (const struct peer_rcpt *it = only ? only : g->rcpts; it; it = only ? NULL : it->next) {
		struct peer_rcpt *copy = ARENA_NEW(a, struct peer_rcpt);
		ASSERT(copy);
		*copy = (struct peer_rcpt){ m->rcpts, arena_str(a, it->address) };
		m->rcpts = copy;
	}
	ASSERT(arena_err(a) == ERR_NONE);
	m->next = p->messages;
	p->messages = m;
	return m;
}

static YIELDS enum err ended_one(struct guest *g, const struct peer_rcpt *only)
{
	struct str to = only ? only->address : STR("");
	struct peer_rule *rule = rule_for(g, PEER_END, to);
	if (rule && rule->act == PEER_SILENT)
		TRY(stay_silent(g, PEER_END));
	if (rule && rule->act == PEER_CLOSE)
		return ERR_CLOSED;
	if (rule && rule->code / 100 != 2)
		return say(g, rule->text);
	struct peer_message *m = keep(g, only);
	TRY(answer(g, PEER_KEPT, to, STR("250 2.0.0 kept\r\n")));
	g->unheard = m;
	return ERR_NONE;
}

static YIELDS enum err ended(struct guest *g)
{
	if (!g->p->lmtp)
		TRY(ended_one(g, NULL));
	for (const struct peer_rcpt *it = g->p->lmtp ? g->rcpts : NULL; it; it = it->next)
		TRY(ended_one(g, it)); /* RFC 2033 §4.2 */
	forget(g);
	return ERR_NONE;
}

static YIELDS enum err data(struct guest *g)
{
	if (g->rcpts_n == 0)
		return say(g, STR("554 5.5.1 no valid recipients\r\n"));
	TRY(answer(g, PEER_DATA, STR(""), STR("354 go\r\n")));
	if (g->code != 354)
		return ERR_NONE;
	TRY(hear(g));
	TRY(answer(g, PEER_CONTENT, STR(""), STR("")));
	TRY(read_content(g));
	return ended(g);
}

static YIELDS enum err bdat(struct guest *g, struct str line)
{
	struct str rest, number = str_split(str_sub(line, 5, line.n), ' ', &rest);
	uint64_t n;
	TRY(str_to_u64(number, UINT64_C(1) << 40, &n));
	TRY(read_chunk(g, n));
	if (!str_eq_nocase(str_trim(rest), STR("LAST")))
		return say(g, STR("250 2.0.0 more\r\n"));
	if (g->rcpts_n == 0)
		return say(g, STR("554 5.5.1 no valid recipients\r\n"));
	return ended(g);
}

/* ---- a connection ----------------------------------------------------------------------------------- */

static YIELDS enum err ehlo(struct guest *g)
{
	char room[LINE_BYTES];
	struct buf b = buf_fixed(room, sizeof room);
	const struct statement *st = g->p->extensions;
	forget(g);
	buf_addf(&b, "250-%.*s\r\n", STR_ARG(g->p->greets_as));
	for (size_t i = 1; st && i < st->n; i++) {
		struct str rest, name = str_split(st->words[i], '=', &rest);
		buf_addf(&b, "250-%.*s%s%.*s\r\n", STR_ARG(name), rest.n ? " " : "", STR_ARG(rest));
	}
	buf_add(&b, st ? STR("250 HELP\r\n") : STR(ALL_EXTENSIONS));
	return answer(g, PEER_EHLO, STR(""), buf_str(&b));
}

static YIELDS enum err command(struct guest *g, struct str line)
{
	struct str rest, verb = str_split(line, ' ', &rest);
	sim_note(g->p->r->s, "%.*s hears: %.*s", STR_ARG(g->p->name), STR_ARG(line));
	if (str_eq_nocase(verb, STR("MAIL")))
		return mail(g, line);
	if (str_eq_nocase(verb, STR("RCPT")))
		return rcpt(g, line);
	if (str_eq_nocase(verb, STR("DATA")))
		return data(g);
	if (str_eq_nocase(verb, STR("BDAT")))
		return bdat(g, line);
	if (str_eq_nocase(verb, g->p->lmtp ? STR("LHLO") : STR("EHLO")))
		return ehlo(g);
	if (str_eq_nocase(verb, STR("QUIT"))) {
		g->leaves = true;
		return say(g, STR("221 2.0.0 bye\r\n"));
	}
	if (str_eq_nocase(verb, STR("RSET")) || str_eq_nocase(verb, STR("HELO")))
		forget(g);
	else if (!str_eq_nocase(verb, STR("NOOP")))
		return say(g, STR("500 5.5.2 what?\r\n"));
	return say(g, STR("250 2.0.0 ok\r\n"));
}

static YIELDS enum err talk(struct guest *g)
{
	char room[LINE_BYTES];
	struct buf b = buf_fixed(room, sizeof room);
	buf_addf(&b, "220 %.*s ready\r\n", STR_ARG(g->p->greets_as));
	TRY(answer(g, PEER_GREETING, STR(""), buf_str(&b)));
	while (!g->leaves) {
		struct str line;
		TRY(read_line(g, &line));
		TRY(command(g, line));
	}
	return ERR_NONE;
}

/* coroutine */
static void guest_main(void *arg)
{
	struct guest *g = arg;
	struct mem *mem = loop_mem(g->stream.src.loop);
	g->arena = arena_make(mem, BODY_MAX);
	g->envelope = buf_grow(mem, BODY_MAX);
	g->body = buf_grow(mem, BODY_MAX);
	forget(g);
	enum err e = talk(g);
	if (e != ERR_NONE && e != ERR_CLOSED)
		sim_note(g->p->r->s, "%.*s ends a connection: %s", STR_ARG(g->p->name), err_name(e));
	stream_close(&g->stream);
	buf_free(&g->envelope);
	buf_free(&g->body);
	arena_close(&g->arena);
	mem_free(mem, g);
}

/* ---- the process ------------------------------------------------------------------------------------ */

struct reception {
	struct peer *p;
	struct world *w;
	struct loop *loop;
	struct source listener;
};

static void receive(struct reception *re, int fd)
{
	struct guest *g = mem_alloc(world_mem(re->w), sizeof *g);
	ASSERT(g);
	g->p = re->p;
	enum err e = stream_open(&g->stream, re->loop, fd);
	ASSERT(e == ERR_NONE);
	e = scope_spawn(co_scope(), "guest", CO_STACK_LARGE, guest_main, g);
	ASSERT(e == ERR_NONE);
}

/* coroutine */
static void reception_main(void *arg)
{
	struct reception *re = arg;
	int fd;
	struct ip peer;
	enum err e = world_listen(re->w, &re->p->address, 0, &fd);
	ASSERT(e == ERR_NONE);
	e = source_open_listener(&re->listener, re->loop, fd);
	ASSERT(e == ERR_NONE);
	while (e == ERR_NONE) {
		e = world_accept(re->w, re->listener.fd, &fd, &peer);
		if (e == ERR_NONE) {
			receive(re, fd);
		} else if (e == ERR_BUSY) {
			source_block(&re->listener, WORLD_IN);
			e = source_wait(&re->listener, WORLD_IN);
		}
	}
}

static int peer_main(struct world *w, void *arg)
{
	struct reception re = { .p = arg, .w = w };
	if (loop_new(w, &re.loop) != ERR_NONE)
		return 1;
	loop_run(re.loop, reception_main, &re);
	loop_free(re.loop);
	return 0;
}

/* ---- statements -------------------------------------------------------------------------------------- */

static struct peer *peer_named(struct run *r, struct str name)
{
	struct peer *p = r->peers;
	while (p && !str_eq(p->name, name))
		p = p->next;
	return p;
}

static bool step_of(const struct statement *st, size_t i, enum peer_step *out)
{
	static const char *const names[PEER_STEPS] = { "GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "END", "KEPT" };
	for (unsigned k = 0; k < PEER_STEPS; k++)
		if (word_is(st, i, names[k])) {
			*out = (enum peer_step)k;
			return true;
		}
	return false;
}

/* What stands behind: [to ADDRESS] [N times] [after N] [chance N] [for TIME] */
static bool read_limits(const struct statement *st, size_t i, struct peer_rule *rule)
{
	for (; i + 1 < st->n; i += 2) {
		enum err e = ERR_NONE;
		if (word_is(st, i, "to"))
			rule->to = st->words[i + 1];
		else if (word_is(st, i, "after"))
			e = str_to_u64(st->words[i + 1], 100000, &rule->after);
		else if (word_is(st, i, "chance"))
			e = str_to_u64(st->words[i + 1], 100, &rule->chance);
		else if (word_is(st, i, "for"))
			e = scenario_time(st->words[i + 1], &rule->for_ns);
		else if (word_is(st, i + 1, "times"))
			e = str_to_u64(st->words[i], 100000, &rule->times);
		else
			return false;
		if (e != ERR_NONE)
			return false;
	}
	return i == st->n;
}

static bool read_reply(struct run *r, const struct statement *st, struct peer_rule *rule)
{
	uint64_t code;
	struct buf b = buf_grow(r->mem, LINE_BYTES);
	size_t i = 3;
	if (!step_of(st, 1, &rule->step) || st->n < 4)
		return false;
	if (word_is(st, 2, "raw")) {
		rule->text = st->words[i];
		rule->code = str_starts(rule->text, STR("2")) ? 250 : 550;
		return read_limits(st, i + 1, rule);
	}
	if (str_to_u64(st->words[2], 999, &code) != ERR_NONE)
		return false;
	rule->code = (unsigned)code;
	buf_addf(&b, "%llu", (unsigned long long)code);
	for (bool text = false; i < st->n && !text; i++) { /* [ENHANCED] "text" */
		text = st->quoted[i];
		buf_add_char(&b, ' ');
		buf_add(&b, st->words[i]);
	}
	buf_add(&b, STR("\r\n"));
	rule->text = arena_str(&r->arena, buf_str(&b));
	buf_free(&b);
	return read_limits(st, i, rule);
}

static bool read_rule(struct run *r, const struct statement *st, struct peer_rule *rule)
{
	if (word_is(st, 0, "reply"))
		return read_reply(r, st, rule);
	rule->act = word_is(st, 0, "silent") ? PEER_SILENT : PEER_CLOSE;
	return (rule->act == PEER_SILENT || word_is(st, 0, "close")) && word_is(st, 1, "at") && step_of(st, 2, &rule->step) &&
	       read_limits(st, 3, rule);
}

static bool read_line_of(struct peer *p, const struct statement *st, struct peer_rule ***tail)
{
	if (word_is(st, 0, "extensions")) {
		p->extensions = st;
		return true;
	}
	if (word_is(st, 0, "greets") && word_is(st, 1, "as") && st->n == 3) {
		p->greets_as = st->words[2];
		return true;
	}
	if (word_is(st, 0, "slow") && st->n == 2)
		return scenario_time(st->words[1], &p->byte_ns) == ERR_NONE;
	struct peer_rule *rule = ARENA_NEW(&p->r->arena, struct peer_rule);
	ASSERT(rule);
	if (!read_rule(p->r, st, rule))
		return false;
	**tail = rule;
	*tail = &rule->next;
	return true;
}

static void behave(struct peer *p, const struct statement *st)
{
	struct peer_rule **tail = &p->rules;
	p->rules = NULL;
	p->extensions = NULL;
	p->byte_ns = 0;
	p->greets_as = p->name;
	for (const struct statement *it = st->inside; it; it = it->next)
		if (!word_is(it, 0, "down") && !read_line_of(p, it, &tail))
			run_fail(p->r, it, "this is no behaviour of a server; see docs/scenarios.md");
}

static void set_up(struct peer *p, bool up)
{
	if (up == sim_process_lives(p->r->s, p->pid))
		return;
	if (up)
		p->pid = sim_process_start(p->host, "server", peer_main, p);
	else
		sim_process_kill(p->r->s, p->pid);
}

static void peer_start(struct run *r, const struct statement *st)
{
	struct peer *p = ARENA_NEW(&r->arena, struct peer);
	ASSERT(p);
	*p = (struct peer){ .next = r->peers, .r = r, .name = st->words[1], .lmtp = word_is(st, 4, "lmtp"), .pid = -1 };
	if (ip_parse_port(st->words[3], &p->address) != ERR_NONE) {
		if (ip_parse(st->words[3], &p->address) != ERR_NONE) {
			run_fail(r, st, "server NAME at ADDRESS[:PORT] [lmtp] { … }");
			return;
		}
		p->address.port = 25;
	}
	const char *name = arena_strf(&r->arena, "%.*s%c", STR_ARG(p->name), '\0').p;
	p->host = sim_host_new(r->s, name, &p->address, 0);
	behave(p, st);
	r->peers = p;
	bool down = false;
	for (const struct statement *it = st->inside; it; it = it->next)
		down |= word_is(it, 0, "down");
	set_up(p, !down);
}

void peers_start(struct run *r)
{
	for (const struct statement *st = r->sc->first; st; st = st->next)
		if (word_is(st, 0, "server") && word_is(st, 2, "at") && st->n > 3)
			peer_start(r, st);
}

void peers_stop(struct run *r)
{
	for (struct peer *p = r->peers; p; p = p->next)
		set_up(p, false);
}

bool peer_change(struct run *r, const struct statement *st)
{
	struct peer *p = st->n > 1 ? peer_named(r, st->words[1]) : NULL;
	if (!p || word_is(st, 2, "at"))
		return p != NULL;
	if (st->n == 2)
		behave(p, st);
	else if (word_is(st, 2, "up") || word_is(st, 2, "down"))
		set_up(p, word_is(st, 2, "up"));
	else
		return false;
	return true;
}

/* ---- what it has ------------------------------------------------------------------------------------- */

static bool is_for(const struct peer_message *m, struct str address)
{
	const struct peer_rcpt *it = m->rcpts;
	while (it && address.n && !str_eq(it->address, address))
		it = it->next;
	return it || address.n == 0;
}

enum err peer_count(struct run *r, const struct statement *st, uint64_t *n_out)
{
	struct str to = STR(""), text = STR("");
	const struct peer *p = peer_named(r, st->words[1]);
	if (!p)
		return ERR_NOT_FOUND;
	for (size_t i = 5; i + 1 < st->n; i += 2)
		*(word_is(st, i, "for") ? &to : &text) = st->words[i + 1];
	*n_out = 0;
	for (const struct peer_message *m = p->messages; m; m = m->next)
		*n_out += is_for(m, to) && (text.n == 0 || str_find_str(m->bytes, text) < m->bytes.n ||
					    str_find_str(m->envelope, text) < m->envelope.n);
	return ERR_NONE;
}

struct str peer_last_sender(struct run *r, struct str name)
{
	const struct peer *p = peer_named(r, name);
	return p && p->messages ? p->messages->from : STR("");
}
