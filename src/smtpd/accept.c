/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners: a coroutine each, which accepts, counts and starts a session (H25). When descriptors
 * run out it pauses, and goes on by itself (H113). The connection waits in the kernel meanwhile.
 */
#include "base/events.h"
#include "smtpd/session.h"

#define ACCEPTS_PER_TURN 64u
#define PAUSE_NS	 (200 * 1000000LL)

struct listen_arg {
	struct smtpd *d;
	struct source *src;
	unsigned listener;
};

/* coroutine */
static void session_run(void *arg)
{
	struct session *s = arg;
	struct smtpd *d = s->d;
	session_serve(s);
	session_done(s);
	clients_leave(&d->clients, s->trusted ? NULL : &s->client);
	mem_free(d->mem, s);
	d->sessions--;
	gauge_add(d->count.sessions, -1);
	co_wake_all(&d->session_ended);
}

/* Says why not, if the socket takes it, and hangs up. */
static void turn_away(struct smtpd *d, int fd, const struct ip *client, unsigned listener,
		      enum reply_id why)
{
	const struct conf *c = d->conf;
	char room[REPLY_LINE_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	struct reply r = reply_of(why);
	size_t n;
	reply_add(&b, &r);
	struct str line = buf_str(&b);
	if (listener >= c->listeners_n || c->listeners[listener].tls != TLS_MODE_IMPLICIT)
		(void)!world_send(d->w, fd, &line, 1, &n);
	world_close(d->w, fd);
	counter_add(d->count.turned_away, 1);
	struct history_refused_in w = {
		.at_ms = world_wall_ms(d->w),
		.client = *client,
		.code = r.code,
		.enhanced = r.enhanced,
		.text = r.text,
		.rule = STR("connections"),
	};
	w.client.port = 0;
	refusals_add(&d->refusals, &w);
}

static enum err session_start(struct smtpd *d, int fd, const struct ip *client, unsigned listener)
{
	struct session *s = mem_alloc(d->mem, sizeof *s);
	if (!s)
		return ERR_NO_MEMORY;
	s->d = d;
	s->client = *client;
	s->id = smtpd_new_id(d);
	s->listener = listener < d->conf->listeners_n ? &d->conf->listeners[listener] : NULL;
	enum err e = stream_open(&s->stream, d->loop, fd);
	if (e == ERR_NONE) {
		e = scope_spawn(d->work, "session", TLS_STACK, session_run, s);
		if (e != ERR_NONE) {
			world_unwatch(d->w, fd);
			s->stream.src.fd = -1;
		}
	}
	if (e != ERR_NONE) {
		mem_free(d->mem, s);
		return e;
	}
	log_smtpd_connected(d->log, (struct log_ids){ .session = s->id }, client,
			    s->listener ? s->listener->name : STR(""));
	return ERR_NONE;
}

static void admit(struct smtpd *d, int fd, const struct ip *client, unsigned listener)
{
	const struct conf_limits *l = &d->conf->limits;
	bool trusted = smtpd_trusts(d, client);
	counter_add(d->count.connections, 1);
	enum clients_answer a = clients_enter(&d->clients, trusted ? NULL : client, l->connections, l->connections_client);
	if (a != CLIENTS_WELCOME) {
		turn_away(d, fd, client, listener,
			  a == CLIENTS_TOO_MANY ? REPLY_TOO_MANY_CLIENTS : REPLY_TOO_MANY_FROM_CLIENT);
		return;
	}
	if (session_start(d, fd, client, listener) != ERR_NONE) {
		clients_leave(&d->clients, trusted ? NULL : client);
		turn_away(d, fd, client, listener, REPLY_NO_MEMORY);
		return;
	}
	d->sessions++;
	gauge_add(d->count.sessions, 1);
}

/* Takes what waits. ERR_BUSY: nothing more. ERR_LIMIT: no descriptors. */
static enum err accept_some(struct smtpd *d, struct source *src, unsigned listener)
{
	for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct ip client = { 0 };
		int fd;
		TRY(world_accept(d->w, src->fd, &fd, &client));
		admit(d, fd, &client, listener);
	}
	return ERR_NONE;
}

static YIELDS
enum err accept_pause(struct smtpd *d)
{
	log_smtpd_no_descriptors(d->log, (struct log_ids){ 0 }, d->sessions);
	return co_sleep_until(world_mono_ns(d->w) + PAUSE_NS);
}

/* coroutine */
static void accept_run(void *arg)
{
	struct listen_arg a = *(struct listen_arg *)arg;
	enum err e = ERR_NONE;
	mem_free(a.d->mem, arg);
	while (e == ERR_NONE && !scope_stopping(co_scope())) {
		e = accept_some(a.d, a.src, a.listener);
		if (e == ERR_BUSY) {
			source_block(a.src, WORLD_IN);
			e = source_wait(a.src, WORLD_IN);
		} else if (e == ERR_NONE) {
			e = co_yield ();
		} else {
			e = accept_pause(a.d);
		}
	}
	source_close(a.src);
}

enum err smtpd_listen(struct smtpd *d, int fd, unsigned listener)
{
	if (d->listener_count == SMTPD_LISTENERS_MAX)
		return ERR_LIMIT;
	struct listen_arg *a = mem_alloc(d->mem, sizeof *a);
	if (!a)
		return ERR_NO_MEMORY;
	struct source *src = &d->listeners[d->listener_count];
	*a = (struct listen_arg){ d, src, listener };
	enum err e = source_open_listener(src, d->loop, fd);
	if (e == ERR_NONE)
		e = scope_spawn(d->work, "accept", CO_STACK_SMALL, accept_run, a);
	if (e != ERR_NONE) {
		mem_free(d->mem, a);
		return e;
	}
	d->listener_count++;
	return ERR_NONE;
}

void smtpd_close_listeners(struct smtpd *d)
{
	for (size_t i = 0; i < d->listener_count; i++)
		source_interrupt(&d->listeners[i]);
}
