/* SPDX-License-Identifier: Apache-2.0 */
/* Scripted clients: see docs/scenarios.md. Runs in the tester; the server's replies are what it judges. */
#include "sim/peer.h"

#define REPLY_MAX ((size_t)1 << 20)
#define REPLY_TIMEOUT_NS (INT64_C(900) * 1000000000)
#define CONNECT_TIMEOUT_NS (INT64_C(60) * 1000000000)
#define CONNECT_TRIES 60u
#define CONNECT_PAUSE_NS (INT64_C(1) * 1000000000)
#define FILL_LINE "The bar-tailed godwit flies from Alaska to New Zealand without a stop, and arrives.\r\n"

/* ---- one connection --------------------------------------------------------------------------- */

static YIELDS enum err connected(struct dialogue *d)
{
	struct world *w = d->r->w;
	for (;;) {
		enum err e = world_connect_result(w, d->stream.src.fd);
		if (e != ERR_BUSY)
			return e;
		source_block(&d->stream.src, WORLD_OUT);
		TRY(source_wait(&d->stream.src, WORLD_OUT));
	}
}

enum err dialogue_open(struct dialogue *d, struct run *r, const struct ip *from)
{
	struct ip to = { .family = IP_V4, .bits = 32, .port = 25, .b = { 192, 0, 2, 1 } };
	int fd;
	*d = (struct dialogue){ .r = r };
	TRY(world_connect(r->w, &to, from, &fd));
	enum err e = stream_open(&d->stream, r->loop, fd);
	if (e != ERR_NONE) {
		world_close(r->w, fd);
		return e;
	}
	int64_t before = co_set_deadline(world_mono_ns(r->w) + CONNECT_TIMEOUT_NS);
	e = connected(d);
	co_set_deadline(before);
	if (e != ERR_NONE) {
		stream_close(&d->stream);
		return e;
	}
	d->reply = buf_grow(r->mem, REPLY_MAX);
	talk_begin(&d->talk, &r->ledger);
	d->open = true;
	return ERR_NONE;
}

void dialogue_close(struct dialogue *d)
{
	if (!d->open)
		return;
	d->open = false;
	stream_close(&d->stream);
	talk_end(&d->talk);
	buf_free(&d->reply);
}

enum err dialogue_send(struct dialogue *d, struct str bytes)
{
	talk_sent(&d->talk, bytes);
	TRY(stream_write(&d->stream, bytes));
	return stream_flush(&d->stream);
}

static YIELDS enum err reply_line(struct dialogue *d, struct str *line_out)
{
	for (;;) {
		struct str in = stream_input(&d->stream);
		size_t lf = str_find(in, '\n');
		if (lf < in.n) {
			*line_out = str_sub(in, 0, lf + 1);
			return ERR_NONE;
		}
		TRY(stream_fill(&d->stream));
	}
}

static YIELDS enum err reply_lines(struct dialogue *d)
{
	for (;;) {
		struct str line;
		uint64_t code;
		TRY(reply_line(d, &line));
		bool last = line.n < 4 || line.p[3] != '-';
		buf_add(&d->reply, line);
		if (str_to_u64(str_sub(line, 0, 3), 999, &code) != ERR_NONE)
			code = 0;
		stream_consume(&d->stream, line.n);
		d->code = (unsigned)code;
		if (last)
			break;
	}
	talk_reply(&d->talk, d->code);
	return buf_err(&d->reply);
}

enum err dialogue_reply(struct dialogue *d)
{
	int64_t before = co_set_deadline(world_mono_ns(d->r->w) + REPLY_TIMEOUT_NS);
	buf_clear(&d->reply);
	enum err e = reply_lines(d);
	co_set_deadline(before);
	return e;
}

/* ---- steps of a script ------------------------------------------------------------------------------ */

struct client {
	struct run *r;
	const struct statement *st;
	struct dialogue d;
	bool closed; /* by a step of its own */
};

static bool reply_fits(const struct client *c, const struct statement *st)
{
	struct str reply = buf_str(&c->d.reply);
	uint64_t code;
	if (str_to_u64(st->words[1], 999, &code) != ERR_NONE || code != c->d.code)
		return false;
	for (size_t i = 2; i < st->n; i++) {
		if (st->quoted[i] && str_find_str(reply, st->words[i]) == reply.n)
			return false;
		if (!st->quoted[i] && !str_starts(str_sub(reply, 4, reply.n), st->words[i]))
			return false;
	}
	return true;
}

static YIELDS bool step_expect(struct client *c, const struct statement *st)
{
	if (word_is(st, 1, "closed")) {
		buf_clear(&c->d.reply);
		enum err e = dialogue_reply(&c->d);
		if (e == ERR_NONE)
			run_fail(c->r, st, "expected the end of the connection, got: %.*s", STR_ARG(buf_str(&c->d.reply)));
		return e != ERR_NONE;
	}
	enum err e = dialogue_reply(&c->d);
	if (e != ERR_NONE)
		run_fail(c->r, st, "expected %.*s, got no reply: %s", STR_ARG(st->words[1]), err_name(e));
	else if (!reply_fits(c, st))
		run_fail(c->r, st, "expected %.*s, got: %.*s", STR_ARG(st->words[1]), STR_ARG(buf_str(&c->d.reply)));
	else
		return true;
	return false;
}

static YIELDS enum err send_split(struct client *c, size_t piece, struct str bytes)
{
	for (size_t at = 0; at < bytes.n; at += piece) {
		TRY(dialogue_send(&c->d, str_sub(bytes, at, at + piece)));
		run_sleep(c->r, 2000000);
	}
	return ERR_NONE;
}

static YIELDS enum err step_fill(struct client *c, uint64_t bytes)
{
	while (bytes > 0) {
		struct str line = STR(FILL_LINE);
		uint64_t n = bytes < line.n ? bytes : line.n;
		/* the last line ends with CRLF too */
		if (n == line.n || n < 2) {
			TRY(dialogue_send(&c->d, str_sub(line, line.n - (size_t)n, line.n)));
		} else {
			TRY(dialogue_send(&c->d, str_sub(line, 0, (size_t)n - 2)));
			TRY(dialogue_send(&c->d, STR("\r\n")));
		}
		bytes -= n;
	}
	return ERR_NONE;
}

static enum err read_message(struct client *c, const struct statement *st, struct buf *b)
{
	struct buf path = buf_grow(c->r->mem, 4096);
	buf_add(&path, STR("/scenario/")); /* the runner put the files there */
	buf_add(&path, st->words[1]);
	enum err e = sim_file_get(c->r->net, buf_str(&path), b);
	buf_free(&path);
	return e;
}

/* RFC 5321 §4.5.2: a leading dot is doubled. */
static YIELDS enum err step_message(struct client *c, const struct statement *st)
{
	struct buf b = buf_grow(c->r->mem, (size_t)256 << 20), out = buf_grow(c->r->mem, (size_t)512 << 20);
	enum err e = ERR_NONE;
	if (st->n > 1)
		e = read_message(c, st, &b);
	struct str rest = st->n > 1 ? buf_str(&b) : st->text;
	while (e == ERR_NONE && rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_ends(line, STR("\r")))
			line.n--;
		if (line.n > 0 && line.p[0] == '.')
			buf_add_char(&out, '.');
		buf_add(&out, line);
		buf_add(&out, STR("\r\n"));
	}
	buf_add(&out, STR(".\r\n"));
	if (e == ERR_NONE)
		e = dialogue_send(&c->d, buf_str(&out));
	buf_free(&b);
	buf_free(&out);
	return e;
}

static YIELDS enum err step_send(struct client *c, const struct statement *st)
{
	uint64_t n = 0;
	int64_t ns;
	if (word_is(st, 0, "send"))
		return dialogue_send(&c->d, st->words[1]);
	if (word_is(st, 0, "send-split")) {
		TRY(str_to_u64(st->words[1], 1 << 20, &n));
		return send_split(c, n ? (size_t)n : 1, st->words[2]);
	}
	if (word_is(st, 0, "fill")) {
		TRY(scenario_size(st->words[1], &n));
		return step_fill(c, n);
	}
	if (word_is(st, 0, "pause")) {
		TRY(scenario_time(st->words[1], &ns));
		run_sleep(c->r, ns);
		return ERR_NONE;
	}
	if (word_is(st, 0, "rcpt-last-sender-of")) {
		struct str line = arena_strf(&c->r->arena, "RCPT TO:<%.*s>\r\n", STR_ARG(peer_last_sender(c->r, st->words[1])));
		return dialogue_send(&c->d, line);
	}
	return word_is(st, 0, "message") ? step_message(c, st) : ERR_SYNTAX;
}

/* False: the client ends here. */
static YIELDS bool step(struct client *c, const struct statement *st)
{
	if (word_is(st, 0, "close") || word_is(st, 0, "reset")) {
		if (word_is(st, 0, "reset"))
			world_set_abort_on_close(c->r->w, c->d.stream.src.fd);
		dialogue_close(&c->d);
		c->closed = true;
		return false;
	}
	if (word_is(st, 0, "half-close")) {
		world_shutdown_send(c->r->w, c->d.stream.src.fd);
		return true;
	}
	if (word_is(st, 0, "expect") && st->n > 1)
		return step_expect(c, st);
	enum err e = step_send(c, st);
	if (e != ERR_NONE)
		run_fail(c->r, st, "%.*s: %s", STR_ARG(st->words[0]), err_name(e));
	return e == ERR_NONE;
}

static struct ip from_address(const struct statement *st)
{
	struct ip ip = { .family = IP_V4, .bits = 32, .b = { 198, 51, 100, 7 } };
	for (size_t i = 0; i + 1 < st->n; i++)
		if (word_is(st, i, "from") && ip_parse(st->words[i + 1], &ip) != ERR_NONE)
			ip.b[3] = 8;
	return ip;
}

void client_play(struct run *r, const struct statement *st)
{
	struct client c = { .r = r, .st = st };
	struct ip from = from_address(st);
	enum err e = dialogue_open(&c.d, r, &from);
	for (unsigned i = 0; e != ERR_NONE && i < CONNECT_TRIES; i++) { /* it may be starting again */
		run_sleep(r, CONNECT_PAUSE_NS);
		e = dialogue_open(&c.d, r, &from);
	}
	if (e != ERR_NONE) {
		run_fail(r, st, "cannot connect: %s", err_name(e));
		return;
	}
	for (const struct statement *it = st->inside; it; it = it->next)
		if (!step(&c, it))
			break;
	dialogue_close(&c.d);
}

/* coroutine */
static void client_main(void *arg)
{
	struct client *c = arg;
	struct mem *mem = c->r->mem;
	client_play(c->r, c->st);
	mem_free(mem, c);
}

void client_start(struct run *r, const struct statement *st)
{
	struct client *c = mem_alloc(r->mem, sizeof *c);
	ASSERT(c);
	c->r = r;
	c->st = st;
	if (scope_spawn(&r->background, "client", CO_STACK_LARGE, client_main, c) != ERR_NONE)
		run_fail(r, st, "cannot start a client");
}
