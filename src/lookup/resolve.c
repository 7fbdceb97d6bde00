/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a forward-path to final destinations: see resolve.h. The address is a stranger's, but smtpd made
 * it canonical; it is data here, never a path, a command or an option (H26, H27).
 */
#include "base/hash.h"
#include "lookup/resolve.h"

#define MAILBOX_MAX 600u

struct step {
	struct str address;
	bool catch_all; /* came from one: must not lead to another */
};

struct expansion {
	const struct resolver *r;
	struct arena *arena;
	struct lookup_rcpt_out *out;
	struct step *todo; /* every address ever seen, so that each is expanded once */
	size_t todo_n;
	bool too_many;
	bool waiting;  /* a back end is to be asked */
	bool returned; /* a bounce to a reverse-path that we rewrote */
};

static struct str lower(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n ? s.n : 1);
	for (size_t i = 0; p && i < s.n; i++)
		p[i] = ascii_lower(s.p[i]);
	return p ? str_of(p, s.n) : STR_NONE;
}

static const struct conf_domain *conf_domain_find(const struct conf *c, struct str name)
{
	for (size_t i = 0; i < c->domains_n; i++)
		if (str_eq(c->domains[i].name, name))
			return &c->domains[i];
	return NULL;
}

enum err resolve_domain_is_ours(const struct resolver *r, struct str domain, bool *ours_out)
{
	*ours_out = conf_domain_find(r->conf, domain) != NULL;
	if (*ours_out)
		return ERR_NONE;
	enum err e = directory_find(r->directory, DIRECTORY_KIND_DOMAIN, domain, NULL, NULL);
	*ours_out = e == ERR_NONE;
	return e == ERR_NOT_FOUND ? ERR_NONE : e;
}

struct str resolve_mailbox(struct arena *arena, struct str local, struct str domain)
{
	struct buf b = buf_fixed(arena_alloc(arena, MAILBOX_MAX), MAILBOX_MAX);
	buf_add(&b, domain);
	buf_add_char(&b, '/');
	for (size_t i = 0; i < local.n; i++) {
		char c = local.p[i];
		bool plain = ascii_is_alnum(c) || c == '-' || c == '_' || c == '+' || c == '=' || (c == '.' && i > 0);
		if (plain) {
			buf_add_char(&b, c);
		} else {
			buf_add_char(&b, '%');
			buf_add_hex(&b, (unsigned char)c, 2);
		}
	}
	return buf_err(&b) == ERR_NONE && local.n > 0 ? buf_str(&b) : STR_NONE;
}

static void push(struct expansion *x, struct str address, bool catch_all)
{
	for (size_t i = 0; i < x->todo_n; i++)
		if (str_eq_nocase(x->todo[i].address, address))
			return;
	if (x->todo_n == RESOLVE_STEPS_MAX) {
		x->too_many = true;
		return;
	}
	x->todo[x->todo_n++] = (struct step){ address, catch_all };
}

static void push_targets(struct expansion *x, struct str targets, bool catch_all)
{
	while (targets.n > 0 && !x->too_many) {
		struct str one = str_trim(str_split(targets, ',', &targets));
		if (one.n > 0)
			push(x, one, catch_all);
	}
}

static void add_target(struct expansion *x, enum target_kind kind, struct str address, struct str mailbox)
{
	struct lookup_rcpt_out *out = x->out;
	for (size_t i = 0; i < out->targets_n; i++)
		if (kind == TARGET_KIND_MAILBOX ? str_eq(out->targets[i].mailbox, mailbox) :
						  str_eq_nocase(out->targets[i].address, address))
			return;
	if (out->targets_n == RESOLVE_TARGETS_MAX) {
		x->too_many = true;
		return;
	}
	out->targets[out->targets_n++] = (struct target){ kind, address, mailbox };
}

/* The mailbox of an address of ours: here, or with the server that the domain's route leads to. */
static void add_mailbox(struct expansion *x, struct str local, struct str domain)
{
	const struct conf_domain *cd = conf_domain_find(x->r->conf, domain);
	struct str address = arena_strf(x->arena, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain));
	if (cd && cd->mailbox == MAILBOX_KIND_LMTP)
		add_target(x, TARGET_KIND_REMOTE, address, STR(""));
	else
		add_target(x, TARGET_KIND_MAILBOX, address, resolve_mailbox(x->arena, local, domain));
}

/* Whether there is such an account: ERR_NONE, ERR_NOT_FOUND; ERR_BUSY: its back end is to be asked. */
static enum err find_account(const struct resolver *r, struct str address)
{
	struct backend *b = r->backends && r->backends->n ? backends_find(r->backends, address) : NULL;
	if (b)
		return backend_answer(r->answers, b, address);
	enum err e = directory_find(r->directory, DIRECTORY_KIND_ACCOUNT, address, NULL, NULL);
	return e == ERR_BUSY ? ERR_LIMIT : e;
}

/* Alias or account of exactly this address. */
static enum err try_exact(struct expansion *x, struct str local, struct str domain, bool catch_all, bool *hit_out)
{
	struct str address = arena_strf(x->arena, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain)), targets;
	struct alias_entry *file = x->r->file_aliases ? table_get(x->r->file_aliases, address) : NULL;
	*hit_out = true;
	TRY(arena_err(x->arena));
	if (file) {
		push_targets(x, file->targets, catch_all);
		return ERR_NONE;
	}
	enum err e = directory_find(x->r->directory, DIRECTORY_KIND_ALIAS, address, x->arena, &targets);
	if (e == ERR_NONE)
		push_targets(x, targets, catch_all);
	if (e != ERR_NOT_FOUND)
		return e;
	e = find_account(x->r, address);
	if (e == ERR_NONE)
		add_mailbox(x, local, domain);
	x->waiting = x->waiting || e == ERR_BUSY; /* the other addresses meanwhile: what they need is asked for at once */
	*hit_out = e == ERR_NONE || e == ERR_BUSY;
	return e == ERR_NOT_FOUND || e == ERR_BUSY ? ERR_NONE : e;
}

static enum err try_domain(struct expansion *x, struct str domain, const struct conf_domain *cd, bool *hit_out)
{
	struct str whole = arena_strf(x->arena, "@%.*s", STR_ARG(domain)), targets;
	TRY(arena_err(x->arena));
	struct alias_entry *file = x->r->file_aliases ? table_get(x->r->file_aliases, whole) : NULL;
	enum err e = file ? ERR_NONE : directory_find(x->r->directory, DIRECTORY_KIND_ALIAS, whole, x->arena, &targets);
	if (e != ERR_NONE && e != ERR_NOT_FOUND)
		return e;
	*hit_out = e == ERR_NONE || (cd && cd->catch_all.n > 0);
	if (e == ERR_NONE)
		push_targets(x, file ? file->targets : targets, true);
	else if (*hit_out)
		push(x, cd->catch_all, true);
	return ERR_NONE;
}

static size_t detail_at(struct str local, struct str separators)
{
	for (size_t i = 1; i < local.n; i++) /* not the first character: "+user" is a name */
		if (str_find(separators, local.p[i]) < separators.n)
			return i;
	return local.n;
}

static enum err expand(struct expansion *x, struct step s)
{
	struct str address = lower(x->arena, s.address);
	size_t at = str_rfind(address, '@');
	struct str local = str_sub(address, 0, at), domain = str_sub(address, at + 1, address.n);
	bool ours, hit = false;
	TRY(arena_err(x->arena));
	TRY(resolve_domain_is_ours(x->r, domain, &ours));
	if (!ours) { /* RFC 5321 §2.4: the case of its local part is for others to judge */
		add_target(x, TARGET_KIND_REMOTE, s.address, STR(""));
		return ERR_NONE;
	}
	const struct conf_domain *cd = conf_domain_find(x->r->conf, domain);
	TRY(try_exact(x, local, domain, s.catch_all, &hit));
	size_t detail = detail_at(local, cd ? cd->subaddress : STR("+"));
	if (!hit && detail < local.n)
		TRY(try_exact(x, str_sub(local, 0, detail), domain, s.catch_all, &hit));
	if (!hit && !s.catch_all)
		TRY(try_domain(x, domain, cd, &hit));
	/* RFC 5321 §4.5.1: mail to postmaster is accepted in any case. */
	if (!hit && str_eq(local, STR("postmaster")))
		add_mailbox(x, local, domain);
	return ERR_NONE;
}

static void verdict(struct lookup_rcpt_out *out, enum verdict v, uint16_t code, const char *enhanced, const char *text,
		    const char *rule)
{
	out->verdict = v;
	out->code = code;
	out->enhanced = str_z(enhanced);
	out->text = str_z(text);
	out->rule = str_z(rule);
	if (v != VERDICT_ACCEPT)
		out->targets_n = 0;
}

static bool may_relay(const struct resolver *r, const struct ip *client)
{
	if (client->family == IP_UNIX)
		return true;
	for (size_t i = 0; i < r->conf->relay_from_n; i++)
		if (ip_in(client, &r->conf->relay_from[i]))
			return true;
	return false;
}

/* R4. It must still be there: a session may be older than its account's end. */
static enum err has_logged_in(const struct resolver *r, struct str account, bool *yes_out)
{
	enum err e = account.n ? find_account(r, account) : ERR_NOT_FOUND;
	*yes_out = e == ERR_NONE;
	return e == ERR_NOT_FOUND ? ERR_NONE : e;
}

static void accept_remote(struct expansion *x, struct str address, const char *rule)
{
	add_target(x, TARGET_KIND_REMOTE, address, STR(""));
	verdict(x->out, VERDICT_ACCEPT, 250, "2.1.5", "", rule);
}

static const struct conf_relay_domain *relay_domain_find(const struct conf *c, struct str name)
{
	for (size_t i = 0; i < c->relay_domains_n; i++)
		if (str_eq(c->relay_domains[i].name, name))
			return &c->relay_domains[i];
	return NULL;
}

/* The list of a relay domain has the address, be it without its detail; or it is postmaster's. */
static bool relay_recipient_exists(const struct resolver *r, struct arena *a, struct str address)
{
	struct str all = lower(a, address);
	size_t at = str_rfind(all, '@');
	struct str local = str_sub(all, 0, at), domain = str_sub(all, at, all.n);
	struct str base = arena_strf(a, "%.*s%.*s", (int)detail_at(local, STR("+")), all.p, STR_ARG(domain));
	if (str_eq(local, STR("postmaster"))) /* RFC 5321 §4.5.1 */
		return true;
	return r->relay_recipients && all.p &&
	       (table_get(r->relay_recipients, all) || (base.p && table_get(r->relay_recipients, base)));
}

/*
 * Whoever stands behind us might take such a local part for a way to yet another domain, and us for
 * someone it trusts (H28): only known recipients and clients of ours may have one.
 */
static bool names_a_route(struct str local)
{
	return str_find(local, '%') < local.n || str_find(local, '!') < local.n || str_find(local, '@') < local.n;
}

static void to_relay_domain(struct expansion *x, const struct conf_relay_domain *d, struct str address, bool trusted)
{
	struct str local = str_sub(address, 0, str_rfind(address, '@'));
	if (d->recipients.n > 0 && !relay_recipient_exists(x->r, x->arena, address))
		verdict(x->out, VERDICT_REFUSE, 550, "5.1.1", "There is no such recipient in this domain", "relay domain: not listed");
	else if (d->recipients.n == 0 && !trusted && names_a_route(local))
		verdict(x->out, VERDICT_REFUSE, 550, "5.7.1", "Routes within addresses are not followed", "relay domain: source route");
	else
		accept_remote(x, address, "relay domain");
}

/* 127.0.0.1, ::1, 0.0.0.0 and :: in brackets: ourselves, by a way around our own rules (H29). */
static bool is_own_literal(struct str domain)
{
	static const struct ip zero;
	struct ip ip;
	if (domain.n < 3 || domain.p[0] != '[')
		return false;
	struct str inner = str_sub(domain, 1, domain.n - 1);
	if (str_starts_nocase(inner, STR("IPv6:")))
		inner = str_sub(inner, 5, inner.n);
	return ip_parse(inner, &ip) == ERR_NONE && (ip_is_loopback(&ip) || memcmp(ip.b, zero.b, sizeof ip.b) == 0);
}

static const char *trust_of(const struct lookup_rcpt_in *in, bool logged_in)
{
	return in->client.family == IP_UNIX ? "our own" : logged_in ? "authenticated" : "relay_from";
}

/* A domain that is not ours: R2, R3, R4. */
static enum err elsewhere(struct expansion *x, const struct lookup_rcpt_in *in, struct str address, struct str domain)
{
	const struct conf_relay_domain *d = relay_domain_find(x->r->conf, domain);
	bool logged_in;
	TRY(has_logged_in(x->r, in->account, &logged_in));
	bool trusted = logged_in || may_relay(x->r, &in->client);
	if (d)
		to_relay_domain(x, d, address, trusted);
	else if (!trusted) /* P5 */
		verdict(x->out, VERDICT_REFUSE, 550, "5.7.1", "This server takes mail for its own domains only", "not a local domain");
	else if (is_own_literal(domain))
		verdict(x->out, VERDICT_REFUSE, 550, "5.1.2", "This address is of the server itself and names no domain of it", "own literal");
	else
		accept_remote(x, address, trust_of(in, logged_in));
	return ERR_NONE;
}

static void judge(struct expansion *x)
{
	struct lookup_rcpt_out *out = x->out;
	if (x->too_many)
		verdict(out, VERDICT_REFUSE, 550, "5.4.6", "This address expands to too many others", "alias limit");
	else if (out->targets_n > 0)
		verdict(out, VERDICT_ACCEPT, 250, "2.1.5", "", x->returned ? "rewritten reverse-path" : x->todo_n > 1 ? "alias" : "account");
	else if (x->todo_n > 1)
		verdict(out, VERDICT_REFUSE, 550, "5.4.6", "This address is an alias that leads nowhere", "alias loop or dead alias");
	else
		verdict(out, VERDICT_REFUSE, 550, "5.1.1", "There is no such mailbox here", "unknown user");
}

/* The address with its domain in lower case, as configuration and directory have it. */
static struct str with_domain(const struct resolver *r, struct arena *arena, struct str address)
{
	size_t at = str_rfind(address, '@');
	struct str domain = lower(arena, str_sub(address, at + 1, address.n));
	if (at == address.n) /* RFC 5321 §4.5.1: <Postmaster> without a domain */
		domain = r->conf->domains_n ? r->conf->domains[0].name : r->conf->hostname;
	return arena_strf(arena, "%.*s@%.*s", STR_ARG(str_sub(address, 0, at)), STR_ARG(domain));
}

/* Postmaster of our host name, or an answer to a report, which that name signs. It need not be a mail domain. */
static bool is_hosts_postmaster(const struct resolver *r, struct str address)
{
	size_t at = str_rfind(address, '@');
	struct str local = str_sub(address, 0, at), domain = str_sub(address, at + 1, address.n);
	return str_eq(domain, r->conf->hostname) && !relay_domain_find(r->conf, domain) &&
	       (str_eq_nocase(local, STR("postmaster")) || str_eq_nocase(local, STR("mailer-daemon")));
}

/* Where it goes: to the first domain's postmaster, or a mailbox of its own when the configuration has none. */
static void to_hosts_postmaster(struct expansion *x)
{
	const struct conf *c = x->r->conf;
	if (c->domains_n)
		push(x, arena_strf(x->arena, "postmaster@%.*s", STR_ARG(c->domains[0].name)), false);
	else
		add_mailbox(x, STR("postmaster"), c->hostname);
}

/*
 * R1: what stands behind a rewritten reverse-path; twice when mail came through us twice. With
 * anything but SRS_OK and SRS_NONE the verdict is given.
 */
static enum err unwrap(struct expansion *x, struct str *address)
{
	enum srs_verdict v = SRS_OK;
	for (unsigned i = 0; x->r->srs && v == SRS_OK && i < 3; i++) {
		char room[700];
		struct buf b = buf_fixed(room, sizeof room);
		TRY(srs_reverse(x->r->srs, *address, x->r->now_ms, &b, &v));
		if (v == SRS_OK) {
			*address = arena_str(x->arena, buf_str(&b));
			x->returned = true;
		}
	}
	if (v == SRS_BAD_HASH)
		verdict(x->out, VERDICT_REFUSE, 550, "5.1.1", "This forwarding address was not made by this server", "rewritten reverse-path: bad hash");
	else if (v == SRS_EXPIRED)
		verdict(x->out, VERDICT_REFUSE, 550, "5.1.1", "This forwarding address has expired", "rewritten reverse-path: expired");
	x->out->cacheable = !x->returned && v != SRS_EXPIRED; /* it depends on the day */
	return arena_err(x->arena);
}

enum err resolve_rcpt(const struct resolver *r, const struct lookup_rcpt_in *in, struct arena *arena,
		      struct lookup_rcpt_out *out)
{
	struct expansion x = { .r = r, .arena = arena, .out = out };
	struct str address = with_domain(r, arena, in->address);
	bool ours;
	x.todo = ARENA_ARRAY(arena, struct step, RESOLVE_STEPS_MAX);
	out->targets = ARENA_ARRAY(arena, struct target, RESOLVE_TARGETS_MAX);
	TRY(arena_err(arena));
	TRY(unwrap(&x, &address));
	if (out->code != 0)
		return ERR_NONE;
	struct str domain = str_sub(address, str_rfind(address, '@') + 1, address.n);
	TRY(resolve_domain_is_ours(r, domain, &ours));
	bool postmaster = !ours && is_hosts_postmaster(r, address);
	if (!ours && !postmaster && (!x.returned || is_own_literal(domain))) {
		TRY(elsewhere(&x, in, address, domain));
		return arena_err(arena);
	}
	if (postmaster)
		to_hosts_postmaster(&x);
	else
		push(&x, address, false);
	for (size_t i = 0; i < x.todo_n && !x.too_many; i++)
		TRY(expand(&x, x.todo[i]));
	if (x.waiting)
		return ERR_BUSY;
	judge(&x);
	return arena_err(arena);
}

enum err resolve_forward(const struct resolver *r, struct str path, struct arena *arena, struct str *path_out)
{
	char room[SRS_ADDRESS_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	struct str domain = lower(arena, str_sub(path, str_rfind(path, '@') + 1, path.n));
	bool ours = false;
	*path_out = arena_str(arena, path);
	TRY(arena_err(arena));
	TRY(resolve_domain_is_ours(r, domain, &ours));
	if (ours || !r->srs)
		return ERR_NONE;
	enum err e = srs_forward(r->srs, path, r->now_ms, &b);
	if (e == ERR_LIMIT || e == ERR_SYNTAX)
		return ERR_NONE;
	if (b.n > 0)
		*path_out = arena_str(arena, buf_str(&b));
	return e == ERR_NONE ? arena_err(arena) : e;
}
