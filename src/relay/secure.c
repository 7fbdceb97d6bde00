/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection must satisfy: see secure.h. Runs in relay; TLSA records are a stranger's. */
#include "relay/secure.h"

#define TLSA_NAME_MAX 255u

/* A search's question, and what becomes of it. */
struct dane {
	struct mx_search *s;
	const struct mx_target *t;
	struct secure *out;
	struct str *why_out;
};

struct str secure_because(const struct secure *s)
{
	return s->dane ? STR("its domain publishes TLSA records (DANE)") : s->first ? STR("the route begins with TLS") :
									    STR("the route demands it");
}

static enum err unknown(struct dane *q, struct str name, const struct dns_lookup_out *a)
{
	*q->why_out = arena_strf(q->s->arena, "looking up %.*s: %s%s%.*s", STR_ARG(name),
				 a->status == DNS_STATUS_BOGUS ? "the answer is not valid (DNSSEC)" : "failed", a->why.n ? ": " : "",
				 STR_ARG(str_sub(a->why, 0, 160)));
	return arena_err(q->s->arena) == ERR_NONE ? ERR_BUSY : arena_err(q->s->arena);
}

/* RFC 7672 §3.2.2: names for certificates of an authority; for our own host's (DANE-EE) none counts (§3.1.1). */
static void add_names(struct dane *q, struct str base)
{
	struct secure *o = q->out;
	bool authority = false;
	for (size_t i = 0; i < o->tlsa_n; i++)
		authority = authority || o->tlsa[i].usage == 2;
	o->names[0] = base;
	o->names_n = 1;
	if (!authority || q->s->route->kind != ROUTE_KIND_MX)
		return;
	if (!str_eq_nocase(q->s->domain, base))
		o->names[o->names_n++] = q->s->domain;
	if (q->s->expanded.n && !str_eq_nocase(q->s->expanded, q->s->domain) && !str_eq_nocase(q->s->expanded, base))
		o->names[o->names_n++] = q->s->expanded;
}

/* The records of `base` count. RFC 7672 §2.2: with not one that is usable TLS is demanded, and nothing of it verified. */
static enum err use(struct dane *q, struct str base, const struct dns_lookup_out *a)
{
	struct secure *o = q->out;
	o->tlsa = ARENA_ARRAY(q->s->arena, struct tls_tlsa, a->tlsa_n ? a->tlsa_n : 1);
	TRY(arena_err(q->s->arena));
	for (size_t i = 0; i < a->tlsa_n; i++) {
		struct tls_tlsa r = { a->tlsa[i].usage, a->tlsa[i].selector, a->tlsa[i].matching, a->tlsa[i].data };
		if (tls_tlsa_usable(&r))
			o->tlsa[o->tlsa_n++] = r;
	}
	if (o->tlsa_n > 0) {
		o->level = SECURE_DANE;
		o->dane = true;
		add_names(q, base);
	} else if (o->level < SECURE_ENCRYPTED) {
		o->level = SECURE_ENCRYPTED;
		o->dane = true;
	}
	return ERR_NONE;
}

/* *found_out: there are records that count. */
static YIELDS enum err records_of(struct dane *q, struct str base, bool *found_out)
{
	struct dns_lookup_out a;
	struct str name = arena_strf(q->s->arena, "_%u._tcp.%.*s", q->t->address.port, STR_ARG(base));
	*found_out = false;
	TRY(arena_err(q->s->arena));
	if (name.n > TLSA_NAME_MAX) /* no such name can be */
		return ERR_NONE;
	TRY(mx_ask(q->s, name, DNS_TYPE_TLSA, &a));
	if (a.status == DNS_STATUS_FAILED || a.status == DNS_STATUS_BOGUS)
		return unknown(q, arena_strf(q->s->arena, "%.*s TLSA", STR_ARG(name)), &a);
	*found_out = a.status == DNS_STATUS_FOUND && a.secure;
	return *found_out ? use(q, base, &a) : ERR_NONE;
}

/*
 * RFC 7672 §2.2.2: of a host that is an alias, the name that it leads to comes first, if all of the way is
 * proved; else its own, if at least that it is an alias is.
 */
static YIELDS enum err dane(struct dane *q)
{
	const struct mx_target *t = q->t;
	bool found = false, alias = !str_eq_nocase(t->host, t->canonical) && t->canonical.n > 0;
	if (t->secure && alias)
		TRY(records_of(q, t->canonical, &found));
	if (found)
		return ERR_NONE;
	if (!t->secure) {
		struct dns_lookup_out a;
		if (!alias)
			return ERR_NONE;
		TRY(mx_ask(q->s, t->host, DNS_TYPE_CNAME, &a));
		if (a.status == DNS_STATUS_FAILED || a.status == DNS_STATUS_BOGUS)
			return unknown(q, arena_strf(q->s->arena, "%.*s CNAME", STR_ARG(t->host)), &a);
		if (a.status != DNS_STATUS_FOUND || !a.secure)
			return ERR_NONE;
	}
	return records_of(q, t->host, &found);
}

/* C3. What is not verified does not tell connections apart. */
static void make_key(struct secure *o, struct sip_key key)
{
	uint64_t h = siphash(key, str_of((char[]){ (char)o->level, (char)o->first }, 2));
	if (o->level >= SECURE_PKIX)
		for (size_t i = 0; i < o->names_n; i++)
			h = siphash((struct sip_key){ key.k0 ^ h, key.k1 }, o->names[i]);
	for (size_t i = 0; i < o->tlsa_n; i++) {
		const struct tls_tlsa *r = &o->tlsa[i];
		char head[] = { (char)r->usage, (char)r->selector, (char)r->matching };
		h = siphash((struct sip_key){ key.k0 ^ h, key.k1 }, str_of(head, sizeof head));
		h = siphash((struct sip_key){ key.k0 ^ h, key.k1 }, r->data);
	}
	o->key = h;
}

static enum secure_level level_of(const struct mx_search *s, const struct mx_target *t)
{
	static const enum secure_level levels[] = {
		[ROUTE_TLS_NONE] = SECURE_NEVER, [ROUTE_TLS_OPPORTUNISTIC] = SECURE_OPPORTUNISTIC,
		[ROUTE_TLS_REQUIRED] = SECURE_ENCRYPTED, [ROUTE_TLS_VERIFY] = SECURE_PKIX,
	};
	enum secure_level level = levels[s->route->tls];
	if (t->address.family == IP_UNIX)
		return SECURE_NEVER;
	return t->tls_first && level < SECURE_ENCRYPTED ? SECURE_ENCRYPTED : level;
}

enum err secure_find(struct mx_search *s, const struct mx_target *t, struct sip_key key, struct secure *out, struct str *why_out)
{
	struct dane q = { s, t, out, why_out };
	*out = (struct secure){ .level = level_of(s, t), .first = t->tls_first };
	if (t->named && out->level > SECURE_NEVER) {
		out->names[0] = t->host;
		out->names_n = 1;
	}
	bool by_dane = t->named && t->trusted && s->route->kind != ROUTE_KIND_LMTP && s->route->tls_ca.n == 0;
	if (by_dane && out->level > SECURE_NEVER)
		TRY(dane(&q));
	make_key(out, key);
	return arena_err(s->arena);
}
