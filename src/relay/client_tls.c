/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS on a connection to another server (RFC 3207, 7435, 7672): see client.h and secure.h. Runs in relay,
 * the handshake on the delivery's own stack; certificates and all else are a stranger's.
 *
 *  L1  What was said in clear never counts under TLS: what comes behind the answer to STARTTLS and before the
 *      handshake ends the connection (H16), and EHLO's answer is forgotten.
 *  L2  Where TLS is demanded nothing but EHLO, STARTTLS and QUIT is said without it.
 */
#include "base/events.h"
#include "relay/client_internal.h"

#define WHY_MAX 100

static bool is_demanded(const struct client *c)
{
	return c->secure->level > SECURE_OPPORTUNISTIC;
}

static enum err tls_trouble(struct client *c, struct delivery *d, const char *enhanced, struct str text)
{
	d->reach = RELAY_REACH_UNREACHABLE;
	client_trouble(c, d, finding_make(enhanced, text));
	return ERR_CLOSED;
}

/* Without TLS: the end if it is demanded (L2), else the connection goes on as it is. */
static enum err without(struct client *c, struct delivery *d, const char *why)
{
	struct str because = secure_because(c->secure);
	if (is_demanded(c))
		return tls_trouble(c, d, "4.7.4", arena_strf(d->arena, "%s; mail waits, because %.*s", why, STR_ARG(because)));
	client_by_add(c, STR(", in clear"));
	return ERR_NONE;
}

/* ---- who vouches ------------------------------------------------------------------------------------- */

static struct tls_client *trust_of(struct relay_env *env, const struct conf_route *route)
{
	for (size_t i = 0; i < env->trusts_n; i++)
		if (str_eq(env->trusts[i].ca_file, route->tls_ca))
			return env->trusts[i].tls;
	return NULL;
}

static enum err library(struct client *c, struct tls_client **out)
{
	struct relay_env *env = c->env;
	if (c->secure->level == SECURE_PKIX) {
		*out = trust_of(env, c->route);
		return *out ? ERR_NONE : ERR_NOT_FOUND;
	}
	if (!env->tls)
		TRY(tls_client_new_trustless(env->w, &env->tls));
	*out = env->tls;
	return ERR_NONE;
}

/* ---- the handshake ------------------------------------------------------------------------------------- */

static struct tls_wish wish_of(const struct secure *s)
{
	struct tls_wish w = { .verify = s->level == SECURE_DANE ? TLS_VERIFY_DANE : s->level == SECURE_PKIX ? TLS_VERIFY_PKIX :
													     TLS_VERIFY_NONE };
	w.sni = s->names_n ? s->names[0] : STR_NONE;
	w.names = s->names;
	w.names_n = s->names_n;
	w.tlsa = s->tlsa;
	w.tlsa_n = s->tlsa_n;
	return w;
}

static enum err failed(struct client *c, struct delivery *d, enum err e, int64_t began_ns)
{
	enum tls_result result = tls_result(&c->stream);
	bool certificate = result >= TLS_RESULT_NOT_TRUSTED && result <= TLS_RESULT_TLSA_MISMATCH;
	struct str why = arena_str(d->arena, str_sub(tls_why(&c->stream), 0, WHY_MAX));
	struct str text = arena_strf(d->arena, "TLS failed: %s%.*s", certificate ? "the server's certificate: " : "", STR_ARG(why));
	uint64_t took_ms = (uint64_t)(world_mono_ns(c->env->w) - began_ns) / 1000000;
	bool waits = is_demanded(c) || e == ERR_CANCELLED;
	if (is_demanded(c))
		text = arena_strf(d->arena, "%.*s; mail waits, because %.*s", STR_ARG(text), STR_ARG(secure_because(c->secure)));
	c->tls_failed = true;
	counter_add(c->env->count.tls_failed, 1);
	log_relay_tls_failed(c->env->log, (struct log_ids){ .message = d->in->id }, client_by(c), why,
			     waits ? STR("mail waits") : STR("without TLS"), took_ms);
	(void)!tls_trouble(c, d, "4.7.5", text);
	return e == ERR_CANCELLED || e == ERR_NO_MEMORY ? e : ERR_CLOSED;
}

static void agreed(struct client *c, struct delivery *d, int64_t began_ns)
{
	static const char *const by[] = { [SECURE_PKIX] = "verified by its authority", [SECURE_DANE] = "verified by DANE" };
	struct tls_info i = tls_info(&c->stream);
	const char *verified = i.verified && c->secure->level >= SECURE_PKIX ? by[c->secure->level] : "not verified";
	struct str by_whom = client_by(c);
	counter_add(c->env->count.tls, 1);
	counter_add(c->env->count.tls_verified, i.verified);
	log_relay_tls(c->env->log, (struct log_ids){ .message = d->in->id }, by_whom, i.version, i.cipher, str_z(verified),
		      (uint64_t)(world_mono_ns(c->env->w) - began_ns) / 1000000);
	client_by_add(c, STR(", "));
	client_by_add(c, i.version);
	client_by_add(c, STR(", "));
	client_by_add(c, str_z(verified));
}

enum err client_handshake(struct client *c, struct delivery *d)
{
	struct tls_wish wish = wish_of(c->secure);
	int64_t began_ns = world_mono_ns(c->env->w);
	struct tls_client *t = NULL;
	enum err e = library(c, &t);
	if (e != ERR_NONE) {
		(void)!tls_trouble(c, d, "4.3.0", STR("TLS cannot be used here for the moment"));
		return e;
	}
	(void)co_set_deadline(client_deadline(c, d, c->env->conf->times.tls_handshake));
	stream_idle(&c->stream);
	e = tls_connect(t, &c->stream, &wish);
	if (e != ERR_NONE)
		return failed(c, d, e, began_ns);
	agreed(c, d, began_ns);
	return ERR_NONE;
}

/* ---- STARTTLS ------------------------------------------------------------------------------------------- */

/* Whatever the server says before our ClientHello, it or somebody on the way wants taken for what comes later. */
static bool is_injected(const struct client *c)
{
	char byte;
	size_t n;
	return stream_input(&c->stream).n > 0 || world_peek(c->env->w, c->stream.src.fd, &byte, 1, &n) == ERR_NONE;
}

/* The handshake went well, and the server may still end it: a TLS 1.3 server learns last what we think of it. */
static YIELDS enum err hello_again(struct client *c, struct delivery *d)
{
	c->heard_tls = false;
	enum err e = client_hello(c, d);
	c->tls_failed = e != ERR_NONE && !c->heard_tls;
	return e;
}

enum err client_starttls(struct client *c, struct delivery *d)
{
	struct client_reply r;
	if (!c->secure || c->secure->level == SECURE_NEVER || stream_is_tls(&c->stream))
		return ERR_NONE;
	if (c->in_clear) {
		client_by_add(c, STR(", in clear since TLS failed"));
		return ERR_NONE;
	}
	if (!(c->caps.has & CAP_STARTTLS))
		return without(c, d, "the server does not offer TLS");
	TRY(client_write(c, d, STR("STARTTLS\r\n"), "STARTTLS"));
	TRY(client_flush(c, d, "STARTTLS"));
	TRY(client_reply_read(c, d, client_deadline(c, d, c->env->conf->times.reply), "STARTTLS", &r));
	if (r.code >= 400)
		return without(c, d, "the server offers TLS and refuses to begin it");
	if (r.code != 220)
		return client_nonsense(c, d, "STARTTLS");
	if (is_injected(c)) /* L1 */
		return tls_trouble(c, d, "4.7.5", STR("words in clear behind the answer to STARTTLS: somebody meddles with this connection"));
	TRY(client_handshake(c, d));
	return hello_again(c, d);
}
