/* SPDX-License-Identifier: Apache-2.0 */
/* Host after host: see attempt.h. Runs in relay. */
#include "relay/attempt.h"

#include "base/events.h"

/* No further host is begun after so long: queue's next attempt begins again. */
#define SEARCH_NS (15 * 60 * 1000000000LL)
#define UNREACHED_MAX 20u /* addresses of a family that this machine has no way to, which cost no time */

/* Transactions on one connection until nothing is open or it is of no use. */
static YIELDS enum err use(struct client *c, struct delivery *d)
{
	enum err e = ERR_NONE;
	while (e == ERR_NONE && d->open > 0 && client_can_go_on(c, d))
		e = client_deliver(c, d);
	return e;
}

/* A connection that lay in the pool may have died there unseen: that is no failure of the host. */
static bool died_in_pool(const struct client *c, enum err e)
{
	return e != ERR_NONE && e != ERR_CANCELLED && e != ERR_IO && c->reused && !c->heard;
}

/* C1. A host whose demands are unknown is as one that cannot be reached. */
static YIELDS enum err secure_of(struct attempt *a, struct mx_search *s, const struct mx_target *t)
{
	struct delivery *d = a->d;
	struct str why;
	if (a->secure_host.p == t->host.p && a->secure_port == t->address.port) /* another address of the same host */
		return a->secure_err;
	a->secure_err = secure_find(s, t, d->env->pool_key, &a->secure, &why);
	a->secure_host = t->host;
	a->secure_port = t->address.port;
	if (a->secure_err != ERR_BUSY)
		return a->secure_err;
	a->secure_err = ERR_DENIED; /* no connection was made: the next host may do, and costs no try */
	delivery_trouble(d, finding_make("4.7.5", arena_strf(d->arena, "whether DANE protects this host is not known now: %.*s",
							       STR_ARG(why))), t->host);
	log_relay_dane_failed(d->env->log, (struct log_ids){ .message = d->in->id }, t->host, why);
	d->reach = RELAY_REACH_UNREACHABLE;
	return ERR_DENIED;
}

static YIELDS enum err try_target(struct attempt *a, struct mx_search *s, const struct mx_target *t)
{
	struct delivery *d = a->d;
	TRY(secure_of(a, s, t));
	struct finding trouble = d->trouble;
	bool in_trouble = d->in_trouble;
	struct client *c = pool_take(a->pool, a->route, t, a->secure.key);
	while (d->open > 0) { /* again when a limit of the server's on a session was reached */
		if (!c)
			TRY(client_open(d->env, a->route, t, &a->secure, d, &c));
		enum err e = use(c, d);
		bool stale = died_in_pool(c, e);
		if (e == ERR_NONE)
			pool_put(a->pool, c);
		else
			client_drop(c);
		c = NULL;
		if (!stale)
			TRY(e);
		d->trouble = stale ? trouble : d->trouble;
		d->in_trouble = stale ? in_trouble : d->in_trouble;
	}
	return ERR_NONE;
}

static YIELDS enum err try_all(struct attempt *a, struct mx_search *s)
{
	struct world *w = a->d->env->w;
	int64_t until_ns = world_mono_ns(w) + SEARCH_NS;
	size_t tries = 0, unreached = 0;
	while (a->d->open > 0 && !scope_stopping(a->pool->scope) && tries < ATTEMPT_ADDRESSES_MAX && unreached < UNREACHED_MAX && world_mono_ns(w) < until_ns) {
		struct mx_target t;
		(void)co_set_deadline(until_ns); /* for the resolver; the client sets its own */
		TRY(mx_next(s, &t));
		enum err e = try_target(a, s, &t);
		if (e == ERR_CANCELLED || e == ERR_NO_MEMORY)
			return e;
		if (e == ERR_EXISTS)
			mx_is_us(s, &t);
		unreached += e == ERR_DENIED;
		tries += e != ERR_DENIED;
	}
	return ERR_NONE;
}

/* RFC 8689 §4.2.1: without TLS such a message goes nowhere. */
static bool needs_what_we_lack(struct delivery *d)
{
	if (d->in->require_tls)
		delivery_decide_open(d, finding_make("5.7.30", STR("the message must travel with REQUIRETLS, which this server cannot do")),
				     STR_NONE);
	return d->open == 0;
}

/* Whatever was accepted once is clean; still, nothing that could end a command goes into one. */
static bool is_clean(struct str s)
{
	size_t quote = str_rfind(s, '"');
	struct str plain = quote < s.n ? str_sub(s, quote + 1, s.n) : s;
	return !str_has_control(s) && str_find(plain, '>') == plain.n && str_find(plain, ' ') == plain.n;
}

static bool is_word(struct str s)
{
	return !str_has_control(s) && str_find(s, ' ') == s.n;
}

static void refuse_unclean(struct delivery *d)
{
	const struct relay_deliver_in *in = d->in;
	if (!is_clean(in->reverse_path) || !is_word(in->envid))
		delivery_decide_open(d, finding_make("5.1.7", STR("the reverse-path cannot stand in a command")), STR_NONE);
	for (size_t i = 0; i < d->n; i++)
		if (!is_clean(d->rcpts[i].in->address) || !is_word(d->rcpts[i].in->orcpt) || d->rcpts[i].in->address.n == 0)
			delivery_decide(d, i, finding_make("5.1.3", STR("the address cannot stand in a command")), STR_NONE, false);
}

void attempt_run(struct attempt *a)
{
	struct delivery *d = a->d;
	refuse_unclean(d);
	if (d->open == 0 || needs_what_we_lack(d))
		return;
	struct mx_search *s = ARENA_NEW(d->arena, struct mx_search);
	if (!s) {
		delivery_trouble(d, finding_make("4.3.0", STR("we had no memory")), STR_NONE);
		return;
	}
	*s = (struct mx_search){ .w = d->env->w, .conf = d->env->conf, .dns = a->dns, .route = a->route, .domain = d->in->domain,
				 .arena = d->arena };
	int64_t before = co_set_deadline(world_mono_ns(d->env->w) + SEARCH_NS);
	enum err e = mx_begin(s);
	if (e == ERR_NONE)
		e = try_all(a, s);
	(void)co_set_deadline(before);
	a->mx_set = s->set;
	if (e == ERR_NOT_FOUND && mx_decides(s)) {
		delivery_decide_open(d, s->found, STR_NONE);
		d->reach = s->found.verdict == VERDICT_DEFER ? RELAY_REACH_UNREACHABLE : RELAY_REACH_UNKNOWN;
	}
}
