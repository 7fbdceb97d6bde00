/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting, greeting, bytes both ways, closing: see client.h and client_internal.h. Runs in relay; what
 * arrives is a stranger's.
 */
#include "base/events.h"
#include "relay/client_internal.h"
#include "smtp/dot_stuff.h"

#define QUIT_MS 2000u
#define LAST_WORDS_MS 1000u
#define SLICE_BYTES 65536u /* so much at a time has times.data_send (RFC 5321 §4.5.3.2.5) */
#define LINE_MAX_BYTES 320u

static int64_t in_ms(const struct client *c, uint64_t ms)
{
	int64_t now_ns = world_mono_ns(c->env->w);
	return ms < (uint64_t)(INT64_MAX - now_ns) / 1000000 ? now_ns + (int64_t)ms * 1000000 : NEVER;
}

int64_t client_deadline(const struct client *c, const struct delivery *d, uint64_t ms)
{
	int64_t at_ns = in_ms(c, ms);
	return at_ns < d->end_ns ? at_ns : d->end_ns;
}

/* ---- trouble ------------------------------------------------------------------------------------------- */

void client_trouble(struct client *c, struct delivery *d, struct finding f)
{
	struct str by = arena_str(d->arena, client_by(c));
	delivery_trouble(d, f, by);
	log_relay_trouble(c->env->log, (struct log_ids){ .message = d->in->id }, by, f.code, f.text);
}

/* The connection is of no use any more, and the server did not say why. */
static enum err lost(struct client *c, struct delivery *d, enum err e, const char *what)
{
	const char *how = e == ERR_TIMEOUT ? "no answer in time to" :
			  e == ERR_CANCELLED ? "we stopped before the answer to" :
			  e == ERR_NO_MEMORY ? "we had no memory for the answer to" :
					       "the connection broke before the answer to";
	client_trouble(c, d, finding_make("4.4.2", arena_strf(d->arena, "%s %s", how, what)));
	if (!c->heard)
		d->reach = RELAY_REACH_UNREACHABLE;
	return e;
}

enum err client_nonsense(struct client *c, struct delivery *d, const char *what)
{
	client_trouble(c, d, finding_make("4.5.0", arena_strf(d->arena, "the server's answer to %s is no SMTP reply", what)));
	if (!c->heard)
		d->reach = RELAY_REACH_UNREACHABLE;
	return ERR_SYNTAX;
}

enum err client_own_trouble(struct delivery *d, enum err e)
{
	d->own = finding_make("4.3.0", arena_strf(d->arena, "we cannot read the message: %s", err_name(e)));
	return ERR_IO;
}

/* The server does not want to talk now, whatever its code: never permanent, but for one. */
enum err client_turned_away(struct client *c, struct delivery *d, const struct client_reply *r, const char *what)
{
	struct finding f = { .verdict = VERDICT_DEFER, .code = r->code };
	f.enhanced = r->enhanced_n && r->code < 500 ? arena_str(d->arena, client_reply_enhanced(r)) : STR("4.3.2");
	if (r->code == 521) { /* RFC 7504 §3: a host that never takes mail */
		f.verdict = VERDICT_REFUSE;
		f.enhanced = STR("5.3.2");
	}
	f.text = arena_strf(d->arena, "%s: %.*s", what, STR_ARG(client_reply_text(r)));
	f.text = str_sub(f.text, 0, CLIENT_REPLY_TEXT_MAX);
	d->reach = RELAY_REACH_BUSY;
	client_trouble(c, d, f);
	return ERR_CLOSED;
}

/* ---- bytes ------------------------------------------------------------------------------------------------ */

/* A server that gives up while we still send has perhaps said why (552, 451, …). */
static YIELDS enum err broken(struct client *c, struct delivery *d, enum err e, const char *what)
{
	struct client_reply r;
	if (e != ERR_CLOSED)
		return lost(c, d, e, what);
	TRY(client_reply_read(c, d, client_deadline(c, d, LAST_WORDS_MS), what, &r));
	if (r.code < 400)
		return lost(c, d, e, what);
	struct finding f = { r.code >= 500 ? VERDICT_REFUSE : VERDICT_DEFER, r.code,
			     arena_str(d->arena, client_reply_enhanced(&r)), arena_str(d->arena, client_reply_text(&r)), false };
	if (f.enhanced.n == 0)
		f.enhanced = r.code >= 500 ? STR("5.0.0") : STR("4.0.0");
	client_trouble(c, d, f);
	return e;
}

enum err client_write(struct client *c, struct delivery *d, struct str bytes, const char *what)
{
	(void)co_set_deadline(client_deadline(c, d, c->env->conf->times.data_send)); /* H24 */
	enum err e = stream_write(&c->stream, bytes);
	return e == ERR_NONE ? e : broken(c, d, e, what);
}

enum err client_flush(struct client *c, struct delivery *d, const char *what)
{
	(void)co_set_deadline(client_deadline(c, d, c->env->conf->times.data_send));
	enum err e = stream_flush(&c->stream);
	return e == ERR_NONE ? e : broken(c, d, e, what);
}

struct listener {
	struct capabilities *caps; /* of EHLO: NULL for other replies */
	bool is_us;
};

/* RFC 5321 §4.2: greeting and EHLO's answer begin with the server's name. H100: is it ours? */
static void hear_line(const struct client *c, struct listener *to, const struct client_reply *r, struct str line)
{
	struct str rest, name = str_split(line, ' ', &rest);
	if (r->lines == 1)
		to->is_us = str_eq_nocase(name, c->env->conf->hostname);
	else if (to->caps)
		capabilities_add(to->caps, line);
}

static YIELDS enum err read_reply(struct client *c, struct delivery *d, int64_t at_ns, const char *what,
				  struct listener *to, struct client_reply *r)
{
	*r = (struct client_reply){ 0 };
	(void)co_set_deadline(at_ns);
	for (;;) {
		struct str line;
		size_t used;
		enum client_reply_result result = client_reply_next(r, stream_input(&c->stream), &line, &used);
		if (result == CLIENT_REPLY_BAD) {
			r->code = 0;
			return client_nonsense(c, d, what);
		}
		if (result != CLIENT_REPLY_NEED_MORE && to)
			hear_line(c, to, r, line);
		stream_consume(&c->stream, used);
		c->heard_tls = c->heard_tls || result == CLIENT_REPLY_LAST;
		if (result == CLIENT_REPLY_LAST)
			return r->code == 421 ? client_turned_away(c, d, r, what) : ERR_NONE;
		enum err e = result == CLIENT_REPLY_NEED_MORE ? stream_fill(&c->stream) : ERR_NONE;
		if (e != ERR_NONE)
			return lost(c, d, e, what);
	}
}

enum err client_reply_read(struct client *c, struct delivery *d, int64_t at_ns, const char *what, struct client_reply *r_out)
{
	return read_reply(c, d, at_ns, what, NULL, r_out);
}

enum err client_command(struct client *c, struct delivery *d, struct str line, const char *what)
{
	struct client_reply r;
	TRY(client_write(c, d, line, what));
	TRY(client_flush(c, d, what));
	TRY(client_reply_read(c, d, client_deadline(c, d, c->env->conf->times.reply), what, &r));
	return r.code < 300 ? ERR_NONE : client_turned_away(c, d, &r, what);
}

/* ---- the message -------------------------------------------------------------------------------------------- */

struct sender {
	struct client *c;
	struct delivery *d;
	struct dot_stuff dots;
	bool bdat;
};

static YIELDS enum err send_slices(struct sender *s, struct str bytes)
{
	while (bytes.n > 0) {
		struct str slice = str_sub(bytes, 0, SLICE_BYTES);
		TRY(client_write(s->c, s->d, slice, "the message"));
		bytes = str_sub(bytes, slice.n, bytes.n);
	}
	return ERR_NONE;
}

static YIELDS enum err send_bytes(struct sender *s, struct str bytes)
{
	if (s->bdat)
		return send_slices(s, bytes);
	while (bytes.n > 0 && !s->dots.bare) {
		bool dot;
		struct str piece = dot_stuff_next(&s->dots, bytes, &dot);
		if (dot)
			TRY(client_write(s->c, s->d, STR("."), "the message"));
		TRY(send_slices(s, piece));
		bytes = str_sub(bytes, piece.n, bytes.n);
	}
	return ERR_NONE;
}

static YIELDS enum err send_file(struct sender *s)
{
	char *buffer = mem_alloc_raw(s->c->env->mem, DELIVERY_READ_BYTES);
	enum err e = buffer ? ERR_NONE : client_own_trouble(s->d, ERR_NO_MEMORY);
	uint64_t left = s->d->in->body_bytes, at = 0;
	while (e == ERR_NONE && left > 0 && !s->dots.bare) {
		size_t n = left < DELIVERY_READ_BYTES ? (size_t)left : DELIVERY_READ_BYTES;
		e = delivery_read(s->d, buffer, n, at);
		e = e == ERR_NONE ? send_bytes(s, str_of(buffer, n)) : client_own_trouble(s->d, e);
		at += n;
		left -= n;
	}
	mem_free(s->c->env->mem, buffer);
	return e;
}

enum err client_send_message(struct client *c, struct delivery *d, bool bdat)
{
	struct sender s = { .c = c, .d = d, .bdat = bdat };
	struct str end = STR("");
	if (bdat) {
		char line[64];
		struct buf b = buf_fixed(line, sizeof line);
		buf_addf(&b, "BDAT %llu LAST\r\n", (unsigned long long)d->bytes);
		TRY(client_write(c, d, buf_str(&b), "BDAT"));
	}
	for (size_t i = 0; i < sizeof d->parts / sizeof d->parts[0]; i++)
		TRY(send_bytes(&s, d->parts[i]));
	if (d->fd >= 0)
		TRY(send_file(&s));
	if (!bdat)
		end = dot_stuff_end(&s.dots);
	if (s.dots.bare) { /* P6: somebody might see the message's end in it, and commands behind */
		d->own = finding_make("5.6.0", STR("the message has a bare CR or LF, which SMTP cannot carry"));
		return ERR_IO;
	}
	TRY(client_write(c, d, end, "the end of the message"));
	return client_flush(c, d, "the end of the message");
}

/* ---- connecting ---------------------------------------------------------------------------------------------- */

static void name_it(struct client *c, const struct mx_target *t)
{
	struct buf b = buf_fixed(c->by, sizeof c->by);
	char room[IP_TEXT_MAX + 16];
	struct buf address = buf_fixed(room, sizeof room);
	buf_add(&b, str_sub(t->host, 0, 255));
	if (t->address.family != IP_UNIX) { /* "name [address]:port", both families */
		ip_add(&address, &t->address);
		buf_addf(&b, " [%.*s]:%u", STR_ARG(buf_str(&address)), t->address.port);
	}
	c->by_n = (uint16_t)b.n;
}

static struct client *client_new(struct relay_env *env, const struct conf_route *route, const struct mx_target *t)
{
	struct client *c = mem_alloc(env->mem, sizeof *c);
	if (!c)
		return NULL;
	c->env = env;
	c->route = route;
	c->address = t->address;
	c->stream.src.fd = -1;
	c->lmtp = route->kind == ROUTE_KIND_LMTP;
	/* A filter on this machine may well have our name; it is there because the operator says so. */
	bool filter = route->kind == ROUTE_KIND_SMTP && ip_is_loopback(&t->address);
	c->check_name = !c->lmtp && !filter;
	if (t->address.family == IP_UNIX)
		c->path = t->host;
	name_it(c, t);
	return c;
}

void client_by_add(struct client *c, struct str text)
{
	text = str_sub(text, 0, sizeof c->by - c->by_n);
	memcpy(c->by + c->by_n, text.p, text.n);
	c->by_n = (uint16_t)(c->by_n + text.n);
}

static YIELDS enum err wait_connected(struct client *c)
{
	for (;;) {
		enum err e = world_connect_result(c->env->w, c->stream.src.fd);
		if (e != ERR_BUSY)
			return e;
		source_block(&c->stream.src, WORLD_OUT);
		TRY(source_wait(&c->stream.src, WORLD_OUT));
	}
}

static YIELDS enum err connect_to(struct client *c, struct delivery *d, bool *at_once_out)
{
	const struct ip *from = c->address.family == IP_V4 ? &c->route->source_v4 : &c->route->source_v6;
	int fd = -1;
	enum err e = c->address.family == IP_UNIX ?
			     world_connect_stream_path(c->env->w, c->path, &fd) :
			     world_connect(c->env->w, &c->address, from->family == IP_NONE ? NULL : from, &fd);
	*at_once_out = e != ERR_NONE;
	TRY(e);
	e = stream_open(&c->stream, c->env->loop, fd);
	if (e != ERR_NONE) {
		world_close(c->env->w, fd);
		c->stream.src.fd = -1;
		return e;
	}
	(void)co_set_deadline(client_deadline(c, d, c->env->conf->times.connect));
	source_block(&c->stream.src, WORLD_OUT);
	TRY(source_wait(&c->stream.src, WORLD_OUT));
	return wait_connected(c);
}

/* X2, for listeners at "*": both ends have one address, and the port is one of ours. */
static bool is_ourselves(const struct client *c)
{
	struct ip local;
	if (c->address.family == IP_UNIX || world_local_addr(c->env->w, c->stream.src.fd, &local) != ERR_NONE ||
	    !ip_eq(&local, &c->address))
		return false;
	for (size_t i = 0; i < c->env->conf->listeners_n; i++) {
		const struct ip *at = &c->env->conf->listeners[i].address;
		if (at->port == c->address.port && (at->family == IP_NONE || ip_eq(at, &local)))
			return true;
	}
	return false;
}

static enum err it_is_us(struct client *c, struct delivery *d)
{
	client_trouble(c, d, finding_make("4.4.6", STR("this server is ourselves")));
	log_relay_loop(c->env->log, (struct log_ids){ .message = d->in->id }, client_by(c), c->route->name, d->in->domain);
	return ERR_EXISTS;
}

static enum err no_connection(struct client *c, struct delivery *d, enum err e, bool at_once)
{
	const struct ip *source = c->address.family == IP_V4 ? &c->route->source_v4 : &c->route->source_v6;
	bool own = c->address.family != IP_UNIX && source->family != IP_NONE;
	counter_add(c->env->count.failed_connections, 1);
	const char *why = e == ERR_TIMEOUT ? "no answer to the attempt to connect" :
			  e == ERR_LIMIT   ? "we have no descriptor for a connection" :
			  at_once && own   ? "there is no way to this address from the route's source" :
			  at_once	   ? "there is no way to this address from here" :
					     "connecting was refused, or there is no way there";
	d->reach = RELAY_REACH_UNREACHABLE;
	client_trouble(c, d, finding_make("4.4.1", str_z(why)));
	return at_once ? ERR_DENIED : e;
}

static YIELDS enum err open_it(struct client *c, struct delivery *d)
{
	bool at_once = true;
	enum err e = connect_to(c, d, &at_once);
	if (e != ERR_NONE)
		e = no_connection(c, d, e, at_once);
	else if (is_ourselves(c))
		e = it_is_us(c, d);
	else
		e = client_greet(c, d);
	c->secure = NULL;
	return e;
}

/* RFC 7435 §3: what was to be had opportunistically, and was not, is no reason to keep mail. Once. */
static bool in_clear_then(const struct client *c, const struct secure *secure, enum err e)
{
	return c->tls_failed && !c->in_clear && secure->level == SECURE_OPPORTUNISTIC && e != ERR_CANCELLED && e != ERR_NO_MEMORY;
}

enum err client_open(struct relay_env *env, const struct conf_route *route, const struct mx_target *target,
		     const struct secure *secure, struct delivery *d, struct client **client_out)
{
	bool in_clear = false;
	for (;;) {
		struct client *c = client_new(env, route, target);
		if (!c) {
			delivery_trouble(d, finding_make("4.3.0", STR("we had no memory for a connection")), STR_NONE);
			return ERR_NO_MEMORY;
		}
		c->secure = secure;
		c->secure_key = secure->key;
		c->in_clear = in_clear;
		enum err e = open_it(c, d);
		in_clear = in_clear_then(c, secure, e);
		if (e == ERR_NONE)
			*client_out = c;
		else
			client_drop(c);
		if (!in_clear)
			return e;
	}
}

/* ---- greeting --------------------------------------------------------------------------------------------------- */

static YIELDS enum err say_hello(struct client *c, struct delivery *d, const char *verb, struct client_reply *r)
{
	char room[LINE_MAX_BYTES];
	struct buf b = buf_fixed(room, sizeof room);
	struct listener to = { .caps = &c->caps };
	buf_addf(&b, "%s ", verb);
	buf_add(&b, c->route->hostname.n ? c->route->hostname : c->env->conf->hostname);
	buf_add(&b, STR("\r\n"));
	TRY(buf_err(&b));
	c->caps = (struct capabilities){ 0 };
	TRY(client_write(c, d, buf_str(&b), verb));
	TRY(client_flush(c, d, verb));
	TRY(read_reply(c, d, client_deadline(c, d, c->env->conf->times.reply), verb, &to, r));
	return to.is_us && c->check_name && r->code < 300 ? it_is_us(c, d) : ERR_NONE;
}

static YIELDS enum err hear_greeting(struct client *c, struct delivery *d)
{
	struct client_reply r;
	struct listener to = { 0 };
	TRY(read_reply(c, d, client_deadline(c, d, c->env->conf->times.greeting), "connecting", &to, &r));
	if (r.code >= 400)
		return client_turned_away(c, d, &r, "greeting");
	if (r.code != 220)
		return client_nonsense(c, d, "connecting");
	if (to.is_us && c->check_name)
		return it_is_us(c, d);
	counter_add(c->env->count.connections, 1);
	return ERR_NONE;
}

enum err client_hello(struct client *c, struct delivery *d)
{
	struct client_reply r;
	TRY(say_hello(c, d, c->lmtp ? "LHLO" : "EHLO", &r));
	if (r.code >= 500 && !c->lmtp) /* RFC 5321 §3.2: an old server */
		TRY(say_hello(c, d, "HELO", &r));
	if (r.code >= 300)
		return client_turned_away(c, d, &r, c->lmtp ? "LHLO" : "EHLO");
	return ERR_NONE;
}

enum err client_greet(struct client *c, struct delivery *d)
{
	if (c->secure && c->secure->first)
		TRY(client_handshake(c, d));
	TRY(hear_greeting(c, d));
	TRY(client_hello(c, d));
	TRY(client_starttls(c, d));
	return client_auth(c, d);
}

/* ---- the end ------------------------------------------------------------------------------------------------------ */

void client_quit(struct client *c)
{
	(void)co_set_deadline(in_ms(c, QUIT_MS));
	enum err e = stream_write(&c->stream, STR("QUIT\r\n"));
	if (e == ERR_NONE)
		e = stream_flush(&c->stream);
	stream_consume(&c->stream, stream_input(&c->stream).n);
	if (e == ERR_NONE)
		e = stream_fill(&c->stream); /* RFC 5321 §4.1.1.10: wait for the reply; what it says is all one */
	(void)co_set_deadline(NEVER);
	client_drop(c);
}

void client_drop(struct client *c)
{
	list_remove(&c->link);
	stream_close(&c->stream);
	mem_free(c->env->mem, c);
}
