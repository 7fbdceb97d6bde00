/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests only: a server on a real (or simulated) socket that answers what a text says, a line of it for
 * each command and message, a text for each connection.
 */
#ifndef RELAY_RELAY_SERVER_H
#define RELAY_RELAY_SERVER_H

#include "co/stream.h"
#include "tls/tls.h"

#define SERVER_CONNECTIONS_MAX 16u
#define SERVER_ANSWERS_MAX 24u

/* Behaviour instead of an answer. */
#define SERVER_CLOSE "close"
#define SERVER_HANG "hang"
#define SERVER_TLS "tls" /* a handshake; behind it nothing is waited for when it comes first */

struct server {
	struct world *w;
	struct loop *loop;
	struct scope scope;
	struct ip address; /* filled in, unless the port is set */
	/* answers without CRLF; greeting first; NULL: close */
	const char *connections[SERVER_CONNECTIONS_MAX][SERVER_ANSWERS_MAX];
	int listen_fd; /* a socket that listens already; 0: none */
	size_t n;      /* connections so far */
	struct buf heard; /* all lines of all connections, "|" between connections */
	struct source listener;
	int64_t byte_ns; /* a pause before each byte of an answer; 0: none */
	struct tls_server *tls;
	bool read_no_message; /* after 354 nothing is received any more */
};

struct server_connection {
	struct server *s;
	struct stream stream;
	size_t number, answered;
};

/* A line, or a whole message after 354. */
static YIELDS enum err server_hear(struct server_connection *c, bool message)
{
	struct str end = message ? STR("\r\n.\r\n") : STR("\n");
	for (;;) {
		struct str in = stream_input(&c->stream);
		struct str alone = STR(".\r\n");
		size_t at = message && str_eq(in, alone) ? 0 : str_find_str(in, end);
		size_t used = message && str_eq(in, alone) ? alone.n : at + end.n;
		if (at < in.n) {
			buf_add(&c->s->heard, str_sub(in, 0, used));
			stream_consume(&c->stream, used);
			return ERR_NONE;
		}
		if (message && in.n > 8) { /* what cannot hold the end is forgotten */
			buf_add(&c->s->heard, str_sub(in, 0, in.n - 4));
			stream_consume(&c->stream, in.n - 4);
		}
		TRY(stream_fill(&c->stream));
	}
}

static YIELDS enum err server_say(struct server_connection *c, struct str answer)
{
	for (size_t i = 0; i < answer.n && c->s->byte_ns; i++) {
		TRY(co_sleep_until(world_mono_ns(c->s->w) + c->s->byte_ns));
		TRY(stream_write(&c->stream, str_sub(answer, i, i + 1)));
		TRY(stream_flush(&c->stream));
	}
	if (!c->s->byte_ns)
		TRY(stream_write(&c->stream, answer));
	TRY(stream_write(&c->stream, STR("\r\n")));
	return stream_flush(&c->stream);
}

static YIELDS enum err server_talk(struct server_connection *c)
{
	const char *const *answers = c->s->connections[c->number];
	bool message = false, first = true;
	for (size_t i = 0; i < SERVER_ANSWERS_MAX && answers[i]; i++) {
		struct str answer = str_z(answers[i]);
		if (str_eq(answer, STR(SERVER_TLS))) {
			TRY(tls_accept(c->s->tls, &c->stream));
			continue;
		}
		if (!first)
			TRY(server_hear(c, message));
		first = false;
		if (str_eq(answer, STR(SERVER_HANG)))
			return co_sleep_until(NEVER - 1);
		if (str_eq(answer, STR(SERVER_CLOSE)))
			return ERR_NONE;
		TRY(server_say(c, answer));
		message = str_starts(answer, STR("354"));
		if (message && c->s->read_no_message)
			return co_sleep_until(NEVER - 1);
	}
	return ERR_NONE;
}

/* coroutine */
UNUSED static void server_connection(void *arg)
{
	struct server_connection *c = arg;
	struct server *s = c->s;
	enum err e = server_talk(c);
	(void)e; /* a client that is gone is what many tests are about */
	stream_close(&c->stream);
	mem_free(loop_mem(s->loop), c);
}

/* coroutine */
UNUSED static void server_accept(void *arg)
{
	struct server *s = arg;
	for (;;) {
		struct ip peer;
		int fd;
		enum err e = world_accept(s->w, s->listener.fd, &fd, &peer);
		if (e == ERR_BUSY) {
			source_block(&s->listener, WORLD_IN);
			if (source_wait(&s->listener, WORLD_IN) != ERR_NONE)
				return;
			continue;
		}
		struct server_connection *c = mem_alloc(loop_mem(s->loop), sizeof *c);
		ASSERT(c && s->n < SERVER_CONNECTIONS_MAX);
		if (s->n > 0)
			buf_add_char(&s->heard, '|');
		c->s = s;
		c->number = s->n++;
		ASSERT(stream_open(&c->stream, s->loop, fd) == ERR_NONE);
		ASSERT(scope_spawn(&s->scope, "connection", CO_STACK_SMALL, server_connection, c) == ERR_NONE);
	}
}

/* In a coroutine. The texts are set; so is the address, with port 0 for any. */
UNUSED static void server_open(struct server *s, struct loop *l)
{
	int fd = s->listen_fd;
	s->w = loop_world(l);
	s->loop = l;
	s->n = 0;
	s->heard = buf_grow(loop_mem(l), (size_t)8 << 20);
	scope_open(&s->scope, l, co_scope());
	if (!fd)
		ASSERT(world_listen(s->w, &s->address, 0, &fd) == ERR_NONE);
	if (s->address.port == 0)
		ASSERT(world_local_addr(s->w, fd, &s->address) == ERR_NONE);
	ASSERT(source_open_listener(&s->listener, l, fd) == ERR_NONE);
	ASSERT(scope_spawn(&s->scope, "server", CO_STACK_SMALL, server_accept, s) == ERR_NONE);
}

UNUSED static YIELDS void server_stop(struct server *s)
{
	scope_close(&s->scope);
	source_close(&s->listener);
	buf_free(&s->heard);
}

#endif
