/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AUTH as the client (RFC 4954), at hosts that the operator named: see client.h. Runs in relay, and is where a
 * password may be seen on its way out (P4): never in a log or a trace, and never without TLS.
 *
 * Whatever the server answers, mail only waits: that we cannot log in is no fault of the message.
 */
#include "base/base64.h"
#include "base/events.h"
#include "relay/client_internal.h"
#include "sasl/sasl.h"

#define CHALLENGES_MAX 4u

struct login {
	struct client *c;
	struct delivery *d;
	struct sasl_client sasl;
};

static enum err refused(struct login *l, uint16_t code, struct str text)
{
	struct client *c = l->c;
	struct delivery *d = l->d;
	/* A server that says our own words back: they are not for the log. */
	if (l->sasl.password.n && str_find_str(text, l->sasl.password) < text.n)
		text = STR("(its words are not shown)");
	struct finding f = { .verdict = VERDICT_DEFER, .code = code, .enhanced = STR("4.7.8"),
			     .text = arena_strf(d->arena, "we could not log in: %.*s", STR_ARG(str_sub(text, 0, 300))) };
	log_relay_auth_failed(c->env->log, (struct log_ids){ .message = d->in->id }, client_by(c), c->route->auth_user,
			      sasl_name(l->sasl.mechanism), code, f.text);
	d->reach = RELAY_REACH_UNREACHABLE;
	client_trouble(c, d, f);
	return ERR_CLOSED;
}

static enum sasl_mechanism choose(const struct client *c)
{
	static const struct {
		unsigned bit;
		enum sasl_mechanism m;
	} order[] = { { CAP_AUTH_SCRAM_SHA_256, SASL_SCRAM_SHA_256 }, { CAP_AUTH_SCRAM_SHA_1, SASL_SCRAM_SHA_1 },
		      { CAP_AUTH_PLAIN, SASL_PLAIN }, { CAP_AUTH_LOGIN, SASL_LOGIN } };
	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		if (c->caps.auth & order[i].bit)
			return order[i].m;
	return SASL_NONE;
}

/* verb: "AUTH PLAIN", or empty. */
static YIELDS enum err say(struct login *l, struct str verb, bool has, struct str message, struct client_reply *r)
{
	struct client *c = l->c;
	struct str text = base64_encode(l->d->arena, message);
	TRY(arena_err(l->d->arena));
	TRY(client_write(c, l->d, verb, "AUTH"));
	if (has && verb.n)
		TRY(client_write(c, l->d, message.n ? STR(" ") : STR(" ="), "AUTH"));
	if (has)
		TRY(client_write(c, l->d, text, "AUTH"));
	TRY(client_write(c, l->d, STR("\r\n"), "AUTH"));
	TRY(client_flush(c, l->d, "AUTH"));
	return client_reply_read(c, l->d, client_deadline(c, l->d, c->env->conf->times.reply), "AUTH", r);
}

struct work {
	struct sasl_client *sasl;
	enum err err;
};

static void work(struct world *w UNUSED, void *arg)
{
	struct work *k = arg;
	k->err = sasl_client_work(k->sasl);
}

static YIELDS enum err answer(struct login *l, const struct client_reply *challenge, struct str *out)
{
	struct str decoded;
	struct work k = { &l->sasl, ERR_NONE };
	struct str text = arena_str(l->d->arena, client_reply_text(challenge));
	/* LOGIN's questions are for people; some servers do not even encode them */
	enum err e = l->sasl.mechanism == SASL_LOGIN ? ERR_NONE : base64_decode(l->d->arena, text, &decoded);
	if (e == ERR_NONE)
		e = sasl_client_hear(&l->sasl, l->sasl.mechanism == SASL_LOGIN ? STR("") : decoded);
	if (e == ERR_DENIED)
		return refused(l, 0, STR("the server does not know the password, and perhaps is not the one that it says"));
	if (e == ERR_LIMIT)
		return refused(l, 0, STR("the server asks for an unreasonable number of iterations"));
	if (e != ERR_NONE)
		return refused(l, 0, STR("the server's challenge makes no sense"));
	TRY(co_offload(work, &k));
	TRY(k.err);
	return sasl_client_answer(&l->sasl, out);
}

static YIELDS enum err exchange(struct login *l)
{
	struct client_reply r;
	struct str message;
	bool has;
	if (sasl_client_start(&l->sasl, &has, &message) != ERR_NONE)
		return refused(l, 0, STR("the name or the password cannot be sent"));
	struct str verb = arena_strf(l->d->arena, "AUTH %.*s", STR_ARG(sasl_name(l->sasl.mechanism)));
	TRY(say(l, verb, has, message, &r));
	for (unsigned i = 0; r.code == 334 && i < CHALLENGES_MAX; i++) {
		TRY(answer(l, &r, &message));
		TRY(say(l, STR(""), true, message, &r));
	}
	if (r.code != 235)
		return refused(l, r.code, arena_str(l->d->arena, client_reply_text(&r)));
	if (!sasl_client_is_over(&l->sasl))
		return refused(l, 0, STR("the server did not prove that it knows the password"));
	return ERR_NONE;
}

enum err client_auth(struct client *c, struct delivery *d)
{
	if (c->route->auth_user.n == 0)
		return ERR_NONE;
	struct login *l = ARENA_NEW(d->arena, struct login);
	if (!l)
		return arena_err(d->arena);
	*l = (struct login){ .c = c, .d = d };
	l->sasl = (struct sasl_client){ .mechanism = choose(c), .user = c->route->auth_user, .arena = d->arena };
	if (c->env->passwords)
		l->sasl.password = c->env->passwords[c->route - c->env->conf->routes];
	world_random(c->env->w, l->sasl.random, sizeof l->sasl.random);
	if (!stream_is_tls(&c->stream))
		return refused(l, 0, STR("there is no TLS"));
	if (l->sasl.mechanism == SASL_NONE)
		return refused(l, 0, STR("the server offers no way to log in that we know"));
	return exchange(l);
}
