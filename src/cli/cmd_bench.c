/* SPDX-License-Identifier: Apache-2.0 */
/*
 * godwit bench: an SMTP load generator. Each client is a coroutine that sends messages as fast as it is
 * answered; every reply code is checked. Meant for servers that are the operator's own.
 */
#include "cli/cli.h"
#include "co/stream.h"

#define CLIENTS_MAX 10000u


struct bench {
	struct cli *c;
	struct ip to_addr;
	struct str from, to;
	uint64_t clients, messages, bytes, per_connection;
	uint64_t started, accepted, refused, broken;
	uint64_t latency_sum_us, latency_max_us;
	struct str body;
};

/* One reply, all its lines; *code_out is 0 when it is not one. */
static YIELDS enum err read_reply(struct stream *s, unsigned *code_out)
{
	*code_out = 0;
	for (;;) {
		struct str in = stream_input(s);
		size_t lf = str_find(in, '\n');
		if (lf == in.n) {
			TRY(stream_fill(s));
			continue;
		}
		uint64_t code;
		bool last = lf < 4 || in.p[3] != '-';
		if (lf >= 3 && str_to_u64(str_sub(in, 0, 3), 999, &code) == ERR_NONE)
			*code_out = (unsigned)code;
		stream_consume(s, lf + 1);
		if (last)
			return *code_out ? ERR_NONE : ERR_SYNTAX;
	}
}

/* Sends a line and expects a reply of this class. ERR_DENIED: another class. */
static YIELDS enum err command(struct stream *s, struct str line, unsigned class)
{
	unsigned code;
	TRY(stream_write(s, line));
	TRY(stream_flush(s));
	TRY(read_reply(s, &code));
	return code / 100 == class ? ERR_NONE : ERR_DENIED;
}

static YIELDS enum err one_message(struct bench *b, struct stream *s, struct arena *a)
{
	struct str mail = arena_strf(a, "MAIL FROM:<%.*s>\r\n", STR_ARG(b->from));
	struct str rcpt = arena_strf(a, "RCPT TO:<%.*s>\r\n", STR_ARG(b->to));
	TRY(arena_err(a));
	world_clock_refresh(b->c->w);
	int64_t before_ns = world_mono_ns(b->c->w);
	TRY(command(s, mail, 2));
	TRY(command(s, rcpt, 2));
	TRY(command(s, STR("DATA\r\n"), 3));
	TRY(command(s, b->body, 2));
	uint64_t took_us = (uint64_t)((world_mono_ns(b->c->w) - before_ns) / 1000);
	b->latency_sum_us += took_us;
	b->latency_max_us = took_us > b->latency_max_us ? took_us : b->latency_max_us;
	return ERR_NONE;
}

static YIELDS enum err open_session(struct bench *b, struct stream *s)
{
	int fd;
	unsigned code;
	TRY(world_connect(b->c->w, &b->to_addr, NULL, &fd));
	enum err e = stream_open(s, b->c->loop, fd);
	if (e != ERR_NONE) {
		world_close(b->c->w, fd);
		return e;
	}
	source_block(&s->src, WORLD_OUT);
	e = source_wait(&s->src, WORLD_OUT);
	if (e == ERR_NONE)
		e = world_connect_result(b->c->w, fd);
	if (e == ERR_NONE)
		e = read_reply(s, &code);
	if (e == ERR_NONE && code / 100 != 2)
		e = ERR_DENIED;
	if (e == ERR_NONE)
		e = command(s, STR("EHLO bench.invalid\r\n"), 2);
	if (e != ERR_NONE)
		stream_close(s);
	return e;
}

/* One connection; false when the client should give up. */
static YIELDS bool one_connection(struct bench *b, struct arena *a)
{
	struct stream s;
	enum err e = open_session(b, &s);
	if (e != ERR_NONE) {
		b->broken++;
		return b->broken < 100;
	}
	for (uint64_t i = 0; e == ERR_NONE && b->started < b->messages && (!b->per_connection || i < b->per_connection); i++) {
		b->started++;
		e = one_message(b, &s, a);
		arena_close(a);
		b->accepted += e == ERR_NONE;
		b->refused += e == ERR_DENIED;
		b->broken += e != ERR_NONE && e != ERR_DENIED;
	}
	if (e == ERR_NONE && command(&s, STR("QUIT\r\n"), 2) != ERR_NONE)
		b->broken++;
	stream_close(&s);
	return b->broken + b->refused < 100;
}

/* coroutine */
static void client(void *arg)
{
	struct bench *b = arg;
	struct arena ARENA_SCOPED a = arena_make(b->c->mem, 8192);
	while (b->started < b->messages)
		if (!one_connection(b, &a))
			return;
}

static bool number_option(struct cli *c, const char *name, uint64_t max, uint64_t *value)
{
	struct str text;
	return !cli_option(c, name, &text) || str_to_u64(text, max, value) == ERR_NONE;
}

static struct str make_body(struct bench *b)
{
	struct buf body = buf_fixed(arena_alloc(&b->c->arena, b->bytes + 512), b->bytes + 512);
	buf_addf(&body, "From: <%.*s>\r\nTo: <%.*s>\r\nSubject: bench\r\n\r\n", STR_ARG(b->from), STR_ARG(b->to));
	while (body.n + 2 < b->bytes) {
		size_t line = b->bytes - body.n - 2 < 70 ? b->bytes - body.n - 2 : 70;
		for (size_t i = 0; i < line; i++)
			buf_add_char(&body, (char)('a' + i % 26));
		buf_add(&body, STR("\r\n"));
	}
	buf_add(&body, STR(".\r\n"));
	return buf_str(&body);
}

static int report(struct cli *c, const struct bench *b, int64_t took_ns)
{
	double seconds = (double)took_ns / 1e9;
	double rate = seconds > 0 ? (double)b->accepted / seconds : 0;
	double mean_ms = b->accepted ? (double)b->latency_sum_us / 1e3 / (double)b->accepted : 0;
	if (c->json)
		cli_printf(c, "{\"accepted\":%llu,\"refused\":%llu,\"broken\":%llu,\"seconds\":%.3f,\"per_second\":%.1f,\"mean_ms\":%.3f,\"max_ms\":%.3f}\n",
			   (unsigned long long)b->accepted, (unsigned long long)b->refused, (unsigned long long)b->broken,
			   seconds, rate, mean_ms, (double)b->latency_max_us / 1e3);
	else
		cli_printf(c, "%llu accepted, %llu refused, %llu broken in %.2f s: %.0f messages/s; a transaction took %.2f ms, at most %.2f ms\n",
			   (unsigned long long)b->accepted, (unsigned long long)b->refused, (unsigned long long)b->broken,
			   seconds, rate, mean_ms, (double)b->latency_max_us / 1e3);
	return b->accepted == b->messages ? 0 : EXIT_TEMPORARY;
}

int cmd_bench(struct cli *c)
{
	struct bench b = { .c = c, .clients = 20, .messages = 10000, .bytes = 4096, .from = STR("bench@bench.invalid") };
	bool good = number_option(c, "-c", CLIENTS_MAX, &b.clients) && number_option(c, "-n", 1000000000, &b.messages) &&
		    number_option(c, "-s", 50 << 20, &b.bytes) && number_option(c, "-m", 1000000, &b.per_connection);
	(void)cli_option(c, "-f", &b.from);
	if (!good || !cli_option(c, "-t", &b.to) || c->args_n != 1 || b.clients == 0)
		return cli_fail(c, EXIT_USAGE, "usage: godwit bench ADDRESS:PORT -t TO [-f FROM] [-c CLIENTS] [-n MESSAGES] [-s BYTES] [-m PER-CONNECTION]");
	if (ip_parse_port(c->args[0], &b.to_addr) != ERR_NONE || b.to_addr.family == IP_NONE)
		return cli_fail(c, EXIT_USAGE, "'%.*s' is not an address with a port, like 127.0.0.1:25", STR_ARG(c->args[0]));
	b.body = make_body(&b);
	int64_t before_ns = world_mono_ns(c->w);
	struct scope clients;
	scope_open(&clients, c->loop, co_scope());
	for (uint64_t i = 0; i < b.clients; i++)
		if (scope_spawn(&clients, "client", CO_STACK_SMALL, client, &b) != ERR_NONE)
			break;
	scope_wait(&clients);
	scope_close(&clients);
	return report(c, &b, world_mono_ns(c->w) - before_ns);
}
