/* SPDX-License-Identifier: Apache-2.0 */
/* The next host: see mx.h. Runs in relay; the answers of the DNS are hostile. */
#include "relay/mx.h"

#define SET_MAX 255u
#define WHY_MAX 160

static enum err nothing(struct mx_search *s, const char *enhanced, struct str text)
{
	s->found = finding_make(enhanced, text);
	return arena_err(s->arena) == ERR_NONE ? ERR_NOT_FOUND : arena_err(s->arena);
}

/* ---- what we do not send to ----------------------------------------------------------------------- */

static bool is_our_name(const struct mx_search *s, struct str name)
{
	return str_eq_nocase(name, s->conf->hostname);
}

/* One of our listeners has this address and port; those at "*" are known by mx_is_us() only. */
static bool is_our_address(const struct mx_search *s, const struct ip *ip)
{
	for (size_t i = 0; i < s->conf->listeners_n; i++) {
		const struct ip *at = &s->conf->listeners[i].address;
		if (at->port == ip->port && ip_eq(at, ip))
			return true;
	}
	return false;
}

static bool all_zero(const struct ip *ip, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ip->b[i])
			return false;
	return true;
}

/* X3: NULL, or what kind of address it is that others may not send us to. */
static const char *forbidden(const struct ip *ip)
{
	if (ip_is_loopback(ip))
		return "a loopback address";
	if (ip->family == IP_V4) {
		if (ip->b[0] == 0)
			return "no address of a host";
		if (ip->b[0] >= 224)
			return "a multicast or reserved address";
		return NULL;
	}
	if (all_zero(ip, 16))
		return "no address of a host";
	if (all_zero(ip, 10) && ip->b[10] == 0xff && ip->b[11] == 0xff) /* 127.0.0.1 in disguise, for one */
		return "an IPv4-mapped address";
	return ip->b[0] == 0xff ? "a multicast address" : NULL;
}

/* ---- hosts ------------------------------------------------------------------------------------------ */

static uint32_t random32(struct mx_search *s)
{
	uint32_t r;
	world_random(s->w, &r, sizeof r);
	return r;
}

static int host_cmp(const struct mx_host *a, const struct mx_host *b)
{
	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	return a->random < b->random ? -1 : a->random > b->random;
}

/* RFC 5321 §5.1: by preference; "the sender-SMTP MUST randomize" among equal ones. Few: insertion. */
static void sort_hosts(struct mx_search *s)
{
	for (size_t i = 1; i < s->hosts_n; i++) {
		struct mx_host h = s->hosts[i];
		size_t k = i;
		for (; k > 0 && host_cmp(&h, &s->hosts[k - 1]) < 0; k--)
			s->hosts[k] = s->hosts[k - 1];
		s->hosts[k] = h;
	}
}

static struct str lower(struct arena *a, struct str s)
{
	char *to = arena_alloc(a, s.n ? s.n : 1);
	for (size_t i = 0; to && i < s.n; i++)
		to[i] = ascii_lower(s.p[i]);
	return to ? str_of(to, s.n) : STR_NONE;
}

/* X4: of too many, those of the lowest preference numbers stay. */
static void add_host(struct mx_search *s, const struct mx_host *h)
{
	size_t at = s->hosts_n;
	if (s->hosts_n < MX_HOSTS_MAX) {
		s->hosts_n++;
	} else {
		at = 0;
		for (size_t i = 1; i < MX_HOSTS_MAX; i++)
			if (host_cmp(&s->hosts[i], &s->hosts[at]) > 0)
				at = i;
		if (host_cmp(h, &s->hosts[at]) >= 0)
			return;
	}
	s->hosts[at] = *h;
}

/* A name for the set that does not depend on the order of the answer. */
static void name_set(struct mx_search *s)
{
	struct buf b = buf_fixed(arena_alloc(s->arena, SET_MAX), SET_MAX);
	bool used[MX_HOSTS_MAX] = { 0 };
	uint64_t hash = 0;
	for (size_t n = 0; n < s->hosts_n; n++) {
		size_t least = MX_HOSTS_MAX;
		for (size_t i = 0; i < s->hosts_n; i++)
			if (!used[i] && (least == MX_HOSTS_MAX || str_cmp(s->hosts[i].name, s->hosts[least].name) < 0))
				least = i;
		const struct mx_host *h = &s->hosts[least];
		used[least] = true;
		hash = siphash((struct sip_key){ hash, h->port }, h->name);
		if (n > 0)
			buf_add_char(&b, ' ');
		buf_add(&b, h->name);
		if (h->port != MX_PORT && h->port != 0)
			buf_addf(&b, ":%u", h->port);
	}
	if (buf_err(&b) == ERR_LIMIT) {
		buf_clear(&b);
		buf_addf(&b, "%zu hosts #%016llx", s->hosts_n, (unsigned long long)hash);
	}
	s->set = buf_str(&b);
}

/* ---- a route by MX ---------------------------------------------------------------------------------- */

enum err mx_ask(struct mx_search *s, struct str name, enum dns_type type, struct dns_lookup_out *out)
{
	struct dns_lookup_in in = { .name = name, .type = type };
	*out = (struct dns_lookup_out){ 0 };
	enum err e = s->dns->lookup(s->dns->arg, &in, s->arena, out);
	if (e == ERR_CANCELLED)
		return e;
	if (e != ERR_NONE) { /* X1 */
		out->status = DNS_STATUS_FAILED;
		out->why = STR("the resolver does not answer");
	}
	return arena_err(s->arena);
}

static enum err dns_trouble(struct mx_search *s, struct str name, const char *type, const struct dns_lookup_out *a)
{
	s->found.verdict = VERDICT_DEFER;
	return nothing(s, "4.4.3", arena_strf(s->arena, "looking up %.*s %s: %s%s%.*s", STR_ARG(name), type,
					      a->status == DNS_STATUS_BOGUS ? "the answer is not valid (DNSSEC)" : "failed",
					      a->why.n ? ": " : "", STR_ARG(str_sub(a->why, 0, WHY_MAX))));
}

/* RFC 7505 §3: one MX, with an empty name: "this domain accepts no mail". Among others it is ignored. */
static bool is_null_mx(const struct dns_lookup_out *a)
{
	for (size_t i = 0; i < a->mx_n; i++)
		if (a->mx[i].host.n > 0 && !str_eq(a->mx[i].host, STR(".")))
			return false;
	return a->mx_n > 0;
}

/* X2: the hosts from our own preference on are dropped. */
static enum err drop_ourselves(struct mx_search *s)
{
	for (size_t i = 0; i < s->hosts_n && !s->us_found; i++) {
		if (!is_our_name(s, s->hosts[i].name))
			continue;
		while (i > 0 && s->hosts[i - 1].preference == s->hosts[i].preference)
			i--;
		s->hosts_n = i;
		s->us_found = true;
	}
	if (s->hosts_n > 0)
		return ERR_NONE;
	return nothing(s, "5.4.6", arena_strf(s->arena, "mail for %.*s would come back to us: we are its best MX, and the "
					      "configuration has no domain or route for it", STR_ARG(s->domain)));
}

static YIELDS enum err mx_hosts(struct mx_search *s)
{
	struct dns_lookup_out a;
	TRY(mx_ask(s, s->domain, DNS_TYPE_MX, &a));
	if (a.status == DNS_STATUS_FAILED || a.status == DNS_STATUS_BOGUS)
		return dns_trouble(s, s->domain, "MX", &a);
	if (a.status == DNS_STATUS_NO_NAME)
		return nothing(s, "5.1.2", arena_strf(s->arena, "the domain %.*s does not exist", STR_ARG(s->domain)));
	if (is_null_mx(&a))
		return nothing(s, "5.1.10", arena_strf(s->arena, "the domain %.*s accepts no mail (null MX)", STR_ARG(s->domain)));
	for (size_t i = 0; i < a.mx_n; i++) {
		if (a.mx[i].host.n == 0 || str_eq(a.mx[i].host, STR(".")))
			continue;
		struct mx_host h = { .name = lower(s->arena, a.mx[i].host), .preference = a.mx[i].preference,
				     .port = MX_PORT, .random = random32(s), .trusted = a.secure };
		add_host(s, &h);
	}
	if (s->hosts_n == 0) { /* §5.1: "implicit MX" */
		struct mx_host h = { .name = lower(s->arena, s->domain), .port = MX_PORT, .trusted = a.secure };
		add_host(s, &h);
	}
	s->expanded = a.secure ? a.canonical : STR_NONE;
	TRY(arena_err(s->arena));
	sort_hosts(s);
	name_set(s);
	return drop_ourselves(s);
}

/* RFC 5321 §4.1.3: "[192.0.2.1]", "[IPv6:2001:db8::1]". */
static enum err literal_host(struct mx_search *s)
{
	struct str text = str_sub(s->domain, 1, s->domain.n - 1);
	struct mx_host h = { .name = s->domain, .port = MX_PORT };
	bool v6 = str_starts_nocase(text, STR("IPv6:"));
	enum err e = ip_parse(v6 ? str_sub(text, 5, text.n) : text, &h.address);
	if (e != ERR_NONE || !str_ends(s->domain, STR("]")))
		return nothing(s, "5.1.2", arena_strf(s->arena, "%.*s is no address", STR_ARG(s->domain)));
	h.address.port = MX_PORT;
	add_host(s, &h);
	name_set(s);
	return arena_err(s->arena);
}

/* ---- a route by hosts ------------------------------------------------------------------------------- */

/* Ranks for the hosts that are there: drawn one after the other, each by its weight. */
static void rank_by_weight(struct mx_search *s)
{
	uint32_t total = 0, rank = 1;
	for (size_t i = 0; i < s->hosts_n; i++)
		total += s->hosts[i].weight;
	for (; total > 0; rank++) {
		uint32_t at = random32(s) % total;
		size_t i = 0;
		for (; s->hosts[i].random != 0 || at >= s->hosts[i].weight; i++)
			at -= s->hosts[i].random ? 0 : s->hosts[i].weight;
		s->hosts[i].random = rank;
		total -= s->hosts[i].weight;
	}
}

static enum err hop_hosts(struct mx_search *s)
{
	uint16_t own_port = s->route->kind == ROUTE_KIND_LMTP ? MX_LMTP_PORT : MX_PORT;
	for (size_t i = 0; i < s->route->hops_n; i++) {
		const struct conf_hop *hop = &s->route->hops[i];
		struct mx_host h = { .name = hop->host, .preference = hop->order, .port = hop->port ? hop->port : own_port,
				     .weight = hop->weight ? hop->weight : 1, .trusted = true, .tls_first = hop->tls };
		if (str_starts(hop->host, STR("/"))) {
			h.address.family = IP_UNIX;
			h.port = 0;
		} else if (ip_parse(hop->host, &h.address) != ERR_NONE) {
			h.address = (struct ip){ 0 };
			h.name = lower(s->arena, hop->host);
		}
		if (h.address.family == IP_V4 || h.address.family == IP_V6)
			h.address.port = h.port;
		add_host(s, &h);
	}
	rank_by_weight(s);
	sort_hosts(s);
	name_set(s);
	TRY(arena_err(s->arena));
	return s->hosts_n ? ERR_NONE : nothing(s, "4.3.5", STR("the route has no host"));
}

enum err mx_begin(struct mx_search *s)
{
	if (s->route->kind != ROUTE_KIND_MX)
		return hop_hosts(s);
	return str_starts(s->domain, STR("[")) ? literal_host(s) : mx_hosts(s);
}

/* ---- addresses -------------------------------------------------------------------------------------- */

static void shuffle(struct mx_search *s, struct ip *v, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = random32(s) % i;
		struct ip t = v[i - 1];
		v[i - 1] = v[k];
		v[k] = t;
	}
}

struct addresses {
	struct ip v[2][MX_ADDRESSES_MAX]; /* IPv6, IPv4 */
	size_t n[2];
	struct str canonical;
	bool failed, secure;
};

static YIELDS enum err look_up(struct mx_search *s, const struct mx_host *h, struct addresses *out)
{
	static const enum dns_type types[2] = { DNS_TYPE_AAAA, DNS_TYPE_A };
	static const enum ip_choice excludes[2] = { IP_CHOICE_ONLY_V4, IP_CHOICE_ONLY_V6 };
	for (size_t f = 0; f < 2; f++) {
		struct dns_lookup_out a;
		if (s->route->ip == excludes[f])
			continue;
		TRY(mx_ask(s, h->name, types[f], &a));
		if (a.status == DNS_STATUS_FAILED || a.status == DNS_STATUS_BOGUS) {
			out->failed = true;
			(void)dns_trouble(s, h->name, f ? "A" : "AAAA", &a);
		}
		for (size_t i = 0; a.status == DNS_STATUS_FOUND && i < a.addresses_n && out->n[f] < MX_ADDRESSES_MAX; i++)
			if (a.addresses[i].family == (f ? IP_V4 : IP_V6))
				out->v[f][out->n[f]++] = a.addresses[i];
		if (a.status == DNS_STATUS_FOUND && a.addresses_n > 0) {
			out->secure = out->secure || a.secure;
			out->canonical = a.canonical;
		}
		shuffle(s, out->v[f], out->n[f]);
	}
	return arena_err(s->arena);
}

static void refuse_address(struct mx_search *s, const struct mx_host *h, const struct ip *ip, const char *what)
{
	char text[IP_TEXT_MAX];
	struct buf b = buf_fixed(text, sizeof text);
	ip_add(&b, ip);
	s->why_not = arena_strf(s->arena, "%.*s has %.*s, which is %s", STR_ARG(h->name), STR_ARG(buf_str(&b)), what);
}

/* Returns false when the address is our own. a: of a name; NULL: of a literal. */
static bool add_target(struct mx_search *s, const struct mx_host *h, const struct addresses *a, struct ip ip)
{
	bool by_mx = s->route->kind == ROUTE_KIND_MX;
	ip.port = h->port;
	const char *what = by_mx ? forbidden(&ip) : NULL;
	if (by_mx && is_our_address(s, &ip))
		return false;
	if (what)
		refuse_address(s, h, &ip, what);
	else
		s->targets[s->targets_n++] = (struct mx_target){
			.host = h->name, .address = ip, .preference = h->preference, .tls_first = h->tls_first, .trusted = h->trusted,
			.named = a != NULL, .secure = a && a->secure, .canonical = a ? a->canonical : STR_NONE,
		};
	return true;
}

/* By the route's choice of family; with none, IPv6 and IPv4 in turn (RFC 3974 §3, RFC 6724's order). */
static bool add_in_order(struct mx_search *s, const struct mx_host *h, const struct addresses *a)
{
	enum ip_choice choice = s->route->ip;
	size_t first = choice == IP_CHOICE_PREFER_V4 ? 1 : 0, used[2] = { 0, 0 }, n = 0;
	bool ours = false;
	for (size_t f = first; n < MX_ADDRESSES_MAX && used[0] + used[1] < a->n[0] + a->n[1];) {
		if (used[f] < a->n[f]) {
			ours = !add_target(s, h, a, a->v[f][used[f]++]) || ours;
			n++;
			if (choice != IP_CHOICE_ANY && used[f] < a->n[f])
				continue; /* all of the preferred family first */
		}
		f = 1 - f;
	}
	return !ours;
}

static YIELDS enum err resolve_host(struct mx_search *s, const struct mx_host *h, bool *ours_out)
{
	struct addresses a = { 0 };
	if (h->address.family == IP_UNIX) {
		s->targets[s->targets_n++] = (struct mx_target){ .host = h->name, .address = h->address, .preference = h->preference };
		return ERR_NONE;
	}
	if (h->address.family != IP_NONE) {
		*ours_out = !add_target(s, h, NULL, h->address) || *ours_out;
		return ERR_NONE;
	}
	TRY(look_up(s, h, &a));
	s->any_failed = s->any_failed || a.failed;
	*ours_out = !add_in_order(s, h, &a) || *ours_out;
	return ERR_NONE;
}

/* All hosts of the next preference. X2 concerns them together. */
static YIELDS enum err next_preference(struct mx_search *s)
{
	size_t from = s->hosts_next;
	bool ours = false;
	s->targets_n = s->targets_next = 0;
	if (!s->targets)
		s->targets = ARENA_ARRAY(s->arena, struct mx_target, MX_HOSTS_MAX * MX_ADDRESSES_MAX);
	if (!s->targets)
		return arena_err(s->arena);
	while (s->hosts_next < s->hosts_n && s->hosts[s->hosts_next].preference == s->hosts[from].preference)
		TRY(resolve_host(s, &s->hosts[s->hosts_next++], &ours));
	if (ours) {
		s->us_found = true;
		s->targets_n = 0;
		s->hosts_next = s->hosts_n;
	}
	return arena_err(s->arena);
}

/* Not one address: the reason counts that leaves the most hope. */
static enum err no_address(struct mx_search *s)
{
	if (s->any_failed) /* X1; `found` was set where it failed */
		return nothing(s, "4.4.3", s->found.text);
	if (s->route->kind != ROUTE_KIND_MX) /* the operator's mistake, not the sender's */
		return nothing(s, "4.3.5", STR("no host of the route has an address"));
	if (s->us_found)
		return nothing(s, "5.4.6", arena_strf(s->arena, "mail for %.*s would come back to us", STR_ARG(s->domain)));
	if (s->why_not.n)
		return nothing(s, "5.4.4", arena_strf(s->arena, "no usable host for %.*s: %.*s", STR_ARG(s->domain),
						      STR_ARG(s->why_not)));
	bool implicit = s->hosts_n == 1 && str_eq_nocase(s->hosts[0].name, s->domain);
	return nothing(s, implicit ? "5.1.2" : "5.4.4",
		       implicit ? arena_strf(s->arena, "the domain %.*s has neither MX nor address", STR_ARG(s->domain)) :
				  arena_strf(s->arena, "no MX of %.*s has an address", STR_ARG(s->domain)));
}

enum err mx_next(struct mx_search *s, struct mx_target *target_out)
{
	while (s->targets_next == s->targets_n) {
		if (s->hosts_next == s->hosts_n)
			return s->any_target ? ERR_NOT_FOUND : no_address(s);
		TRY(next_preference(s));
	}
	*target_out = s->targets[s->targets_next++];
	s->any_target = true;
	return ERR_NONE;
}

void mx_is_us(struct mx_search *s, const struct mx_target *target)
{
	s->us_found = true;
	s->targets_next = s->targets_n;
	s->hosts_next = s->hosts_n;
	if (s->hosts_n == 0 || s->hosts[0].preference < target->preference)
		return; /* there were better ones: what they said counts */
	/* A route that leads back here is the operator's mistake, which is no reason to return mail. */
	const char *enhanced = s->route->kind == ROUTE_KIND_MX ? "5.4.6" : "4.4.6";
	s->us_best = true;
	s->found = finding_make(enhanced, arena_strf(s->arena, "mail for %.*s comes back to us at %.*s",
						     STR_ARG(s->domain.n ? s->domain : s->route->name), STR_ARG(target->host)));
}
