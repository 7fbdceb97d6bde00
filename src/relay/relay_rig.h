/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests only: what a relay session stands on, in the real world; a server that is a text played over
 * memory instead of a socket; a DNS that is a table.
 */
#ifndef RELAY_RELAY_RIG_H
#define RELAY_RELAY_RIG_H

#include "relay/attempt.h"

struct rig_dns {
	const char *name; /* "!": the answer is not proved, though rig.dns_secure is set */
	enum dns_type type;
	enum dns_status status;
	const char *data[24]; /* addresses; "10 mx.example.net"; "3 1 1 0123456789abcdef…" */
};

struct rig {
	struct world *w;
	struct loop *loop;
	struct metrics *metrics;
	struct log log;
	struct conf conf;
	struct conf_listener listeners[2];
	struct conf_route route;
	struct relay_env env;
	struct arena arena;
	struct relay_deliver_in in;
	struct relay_rcpt rcpts[8];
	struct delivery d;
	/* the played server */
	struct str script;
	size_t step; /* bytes a receive gives at most */
	enum err at_end;
	struct buf output;
	size_t sends;
	enum err send_err;	 /* what sends say … */
	size_t send_err_after; /* … once so many bytes have gone */
	/* the table */
	const struct rig_dns *dns;
	bool dns_secure;
	size_t lookups;
	struct mx_dns mx_dns;
};

/* ---- the stream ------------------------------------------------------------------------------------ */

UNUSED static enum err rig_recv(struct stream *st, void *p, size_t n, size_t *n_out, unsigned *wait_out)
{
	struct rig *r = st->tls;
	*wait_out = WORLD_IN;
	if (r->script.n == 0)
		return r->at_end;
	n = n < r->step ? n : r->step;
	*n_out = n < r->script.n ? n : r->script.n;
	memcpy(p, r->script.p, *n_out);
	r->script = str_sub(r->script, *n_out, r->script.n);
	return ERR_NONE;
}

UNUSED static enum err rig_send(struct stream *st, const struct str *parts, size_t count, size_t *n_out, unsigned *wait_out)
{
	struct rig *r = st->tls;
	*wait_out = WORLD_OUT;
	*n_out = 0;
	if (r->send_err != ERR_NONE && r->output.n >= r->send_err_after)
		return r->send_err;
	for (size_t i = 0; i < count; i++) {
		buf_add(&r->output, parts[i]);
		*n_out += parts[i].n;
	}
	r->sends++;
	return ERR_NONE;
}

UNUSED static void rig_close(struct stream *st UNUSED)
{
}

UNUSED static const struct stream_ops rig_ops = { rig_recv, rig_send, rig_close, rig_close };

/* ---- the DNS ------------------------------------------------------------------------------------------ */

static int hex_value(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void rig_record(struct arena *a, enum dns_type type, struct str data, struct dns_lookup_out *out)
{
	if (type == DNS_TYPE_MX) {
		uint64_t preference = 0;
		struct str host, number = str_split(data, ' ', &host);
		ASSERT(str_to_u64(number, 65535, &preference) == ERR_NONE);
		out->mx[out->mx_n++] = (struct dns_mx){ (uint16_t)preference, arena_str(a, host) };
	} else if (type == DNS_TYPE_TLSA) {
		struct buf b = buf_fixed(arena_alloc(a, data.n), data.n);
		for (size_t i = 6; i + 1 < data.n; i += 2)
			buf_add_char(&b, (char)(hex_value(data.p[i]) << 4 | hex_value(data.p[i + 1])));
		out->tlsa[out->tlsa_n++] = (struct dns_tlsa){ (uint8_t)(data.p[0] - '0'), (uint8_t)(data.p[2] - '0'),
							      (uint8_t)(data.p[4] - '0'), buf_str(&b) };
	} else if (type == DNS_TYPE_CNAME) {
		out->names[out->names_n++].name = arena_str(a, data);
	} else {
		ASSERT(ip_parse(data, &out->addresses[out->addresses_n++]) == ERR_NONE);
	}
}

/* What is not in the table does not exist; a name that is there has no data of other types. */
UNUSED static enum err rig_lookup(void *arg, const struct dns_lookup_in *in, struct arena *a, struct dns_lookup_out *out)
{
	struct rig *r = arg;
	r->lookups++;
	out->status = DNS_STATUS_NO_NAME;
	out->secure = r->dns_secure;
	out->canonical = in->name;
	for (const struct rig_dns *row = r->dns; row && row->name; row++) {
		bool proved = row->name[0] != '!';
		if (!str_eq_nocase(in->name, str_z(row->name + !proved)))
			continue;
		if (out->status == DNS_STATUS_NO_NAME)
			out->status = DNS_STATUS_NO_DATA;
		if (row->type != in->type)
			continue;
		out->status = row->status;
		out->secure = out->secure && proved;
		out->mx = ARENA_ARRAY(a, struct dns_mx, 64);
		out->addresses = ARENA_ARRAY(a, struct ip, 64);
		out->tlsa = ARENA_ARRAY(a, struct dns_tlsa, 64);
		out->names = ARENA_ARRAY(a, struct dns_name, 64);
		bool alias = in->type != DNS_TYPE_CNAME && row->data[0] && row->data[0][0] == '>'; /* ">name": it is behind a CNAME */
		if (alias)
			out->canonical = str_z(row->data[0] + 1);
		for (size_t i = alias; i < 24 && row->data[i]; i++)
			rig_record(a, in->type, str_z(row->data[i]), out);
		return ERR_NONE;
	}
	return ERR_NONE;
}

/* ---- set up ---------------------------------------------------------------------------------------------- */

static enum err rig_log(void *arg UNUSED, struct str bytes UNUSED)
{
	return ERR_NONE;
}

static int64_t rig_now(void *arg)
{
	return world_wall_ms(arg);
}

static void rig_conf(struct rig *r)
{
	r->conf.hostname = STR("us.example.org");
	r->listeners[0].address = (struct ip){ .family = IP_V4, .bits = 32, .port = 25, .b = { 192, 0, 2, 99 } };
	r->conf.listeners = r->listeners;
	r->conf.listeners_n = 1;
	r->conf.routes = &r->route;
	r->conf.routes_n = 1;
	r->conf.times = (struct conf_times){ .connect = 2000, .greeting = 3000, .reply = 3000, .data_start = 3000,
					     .data_send = 3000, .data_end = 3000, .data_total = 60000, .tls_handshake = 3000 };
	r->route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_MX, .ip = IP_CHOICE_ANY };
}

static void rig_metrics(struct rig *r)
{
	static const struct histogram_shape times = { 1, 1, { 1 } };
	r->metrics = metrics_new(world_mem(r->w), STR_NONE);
	ASSERT(r->metrics);
	r->env.count.connections = metrics_counter(r->metrics, "a", STR_NONE, "");
	r->env.count.failed_connections = metrics_counter(r->metrics, "b", STR_NONE, "");
	r->env.count.reuses = metrics_counter(r->metrics, "c", STR_NONE, "");
	r->env.count.delivered = metrics_counter(r->metrics, "d", STR_NONE, "");
	r->env.count.deferred = metrics_counter(r->metrics, "e", STR_NONE, "");
	r->env.count.refused = metrics_counter(r->metrics, "f", STR_NONE, "");
	r->env.count.tls = metrics_counter(r->metrics, "h", STR_NONE, "");
	r->env.count.tls_verified = metrics_counter(r->metrics, "i", STR_NONE, "");
	r->env.count.tls_failed = metrics_counter(r->metrics, "j", STR_NONE, "");
	r->env.count.took_ms = metrics_histogram(r->metrics, "g", STR_NONE, "", &times);
}

UNUSED static void rig_open(struct rig *r, struct world *w)
{
	*r = (struct rig){ .w = w, .at_end = ERR_EOF, .step = SIZE_MAX };
	ASSERT(loop_new(w, &r->loop) == ERR_NONE);
	struct mem *mem = world_mem(w);
	struct log_sink sink = { rig_log, rig_now, w };
	ASSERT(log_init(&r->log, mem, sink, LOG_FORMAT_TEXT, LEVEL_DEBUG, STR("relay")) == ERR_NONE);
	rig_conf(r);
	r->env = (struct relay_env){ .w = w, .loop = r->loop, .mem = mem, .conf = &r->conf, .log = &r->log };
	rig_metrics(r);
	r->mx_dns = (struct mx_dns){ rig_lookup, r };
	r->arena = arena_make(mem, (size_t)8 << 20);
	r->output = buf_grow(mem, (size_t)8 << 20);
}

UNUSED static void rig_close_all(struct rig *r)
{
	arena_close(&r->arena);
	tls_client_free(r->env.tls);
	for (size_t i = 0; i < r->env.trusts_n; i++)
		tls_client_free(r->env.trusts[i].tls);
	buf_free(&r->output);
	log_close(&r->log);
	metrics_free(r->metrics);
	loop_free(r->loop);
}

/* A message for n recipients r0@example.net, r1@… */
UNUSED static void rig_message(struct rig *r, size_t n, struct str body)
{
	static const char *const names[] = { "r0@example.net", "r1@example.net", "r2@example.net", "r3@example.net",
					     "r4@example.net", "r5@example.net", "r6@example.net", "r7@example.net" };
	arena_close(&r->arena);
	buf_clear(&r->output);
	r->sends = r->lookups = 0;
	r->in = (struct relay_deliver_in){ .id = 1, .route = STR("default"), .domain = STR("example.net"),
					   .reverse_path = STR("s@example.org"), .recipients = r->rcpts, .recipients_n = n,
					   .prefix = STR(""), .body = body, .body_bytes = body.n };
	for (size_t i = 0; i < n; i++)
		r->rcpts[i] = (struct relay_rcpt){ .number = (uint16_t)i, .address = str_z(names[i]) };
}

/* After r->in is as it shall be. */
UNUSED static void rig_delivery(struct rig *r, int fd)
{
	ASSERT(delivery_init(&r->d, &r->env, &r->in, STR(""), fd, &r->arena) == ERR_NONE);
	r->d.end_ns = NEVER;
}

/* "A250/2.0.0 R550/5.1.1 D0/4.4.2? -": accept, refuse, defer; "?" uncertain; "-" open. */
UNUSED static void rig_outcomes(const struct rig *r, struct buf *b)
{
	for (size_t i = 0; i < r->d.n; i++) {
		const struct delivery_rcpt *rcpt = &r->d.rcpts[i];
		const struct finding *f = &rcpt->found;
		if (i > 0)
			buf_add_char(b, ' ');
		if (rcpt->state != DELIVERY_DONE)
			buf_add_char(b, '-');
		else
			buf_addf(b, "%c%u/%.*s%s", f->verdict == VERDICT_ACCEPT ? 'A' : f->verdict == VERDICT_DEFER ? 'D' : 'R',
				 f->code, STR_ARG(f->enhanced), f->uncertain ? "?" : "");
	}
}

#endif
