/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session with a server that says anything. The first byte chooses the message and how the replies are
 * cut. Whatever is said: nobody is decided twice, what is accepted was answered 2xx, texts may be printed, and
 * what we say is whole lines.
 */
#include "relay/relay_rig.h"

#define RECIPIENTS 4u

static void check_outcomes(struct rig *r)
{
	struct relay_deliver_out out = { 0 };
	ASSERT(delivery_answer(&r->d, STR(""), &out) == ERR_NONE && out.outcomes_n == RECIPIENTS && r->d.open == 0);
	for (size_t i = 0; i < out.outcomes_n; i++) {
		const struct relay_outcome *o = &out.outcomes[i];
		ASSERT(o->number == i && str_is_utf8(o->text) && !str_has_control(o->text) && !str_has_control(o->enhanced));
		ASSERT((o->verdict == VERDICT_ACCEPT) == (o->code >= 200 && o->code < 300));
		ASSERT(o->verdict != VERDICT_REFUSE || o->code == 0 || o->code >= 500);
		ASSERT(!o->uncertain || o->verdict == VERDICT_DEFER);
		ASSERT(o->enhanced.n > 0 && o->enhanced.p[0] == (o->verdict == VERDICT_ACCEPT ? '2' : o->verdict == VERDICT_DEFER ? '4' : '5'));
	}
	struct str said = buf_str(&r->output);
	ASSERT(said.n == 0 || str_ends(said, STR("\r\n")) || r->in.body_kind == BODY_KIND_BINARY_MIME || r->d.rcpts[0].found.code == 0);
}

/* coroutine */
static void session(void *arg)
{
	struct rig *r = arg;
	int fds[2];
	struct client *c = mem_alloc(r->env.mem, sizeof *c);
	ASSERT(c && world_pair(r->w, fds) == ERR_NONE && stream_open(&c->stream, r->loop, fds[0]) == ERR_NONE);
	c->env = &r->env;
	c->route = &r->route;
	c->lmtp = r->route.kind == ROUTE_KIND_LMTP;
	c->check_name = !c->lmtp;
	c->stream.ops = &rig_ops;
	c->stream.tls = r;
	enum err e = client_greet(c, &r->d);
	while (e == ERR_NONE && r->d.open > 0 && client_can_go_on(c, &r->d)) {
		size_t open = r->d.open;
		e = client_deliver(c, &r->d);
		ASSERT(e != ERR_NONE || r->d.open < open); /* or it would never end */
	}
	client_drop(c);
	world_close(r->w, fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rig r;
	if (size < 1)
		return 0;
	struct world *w = world_linux_new();
	ASSERT(w);
	rig_open(&r, w);
	rig_message(&r, RECIPIENTS, STR("A: b\r\n\r\n.\xc3\xa4\r\n"));
	r.route.kind = data[0] & 1 ? ROUTE_KIND_LMTP : ROUTE_KIND_MX;
	r.in.body_kind = (enum body_kind)(data[0] / 2 % 3);
	r.in.smtputf8 = data[0] & 32;
	r.step = data[0] & 64 ? 1 : SIZE_MAX;
	r.at_end = data[0] & 128 ? ERR_TIMEOUT : ERR_EOF;
	rig_delivery(&r, -1);
	r.script = str_of((const char *)data + 1, size - 1);
	loop_run(r.loop, session, &r);
	check_outcomes(&r);
	rig_close_all(&r);
	world_linux_free(w);
	return 0;
}
