/* SPDX-License-Identifier: Apache-2.0 */
/* The route block: patterns, hosts, and the route that is always there. Input: the operator's file. */
#include "conf/conf_internal.h"

#define SUBMISSIONS_PORT 465u /* RFC 8314 §3.3 */

/* "example.org", "*.example.org", "<>" */
void conf_set_patterns(struct parser *p, void *at)
{
	struct conf_word **list = at;
	size_t n = p->words_n - 1;
	*list = ARENA_ARRAY(p->arena, struct conf_word, n);
	size_t *count = (size_t *)(void *)((char *)at + sizeof *list);
	*count = 0;
	for (size_t i = 1; *list && i <= n; i++) {
		struct str word = p->words[i].text, domain = str_starts(word, STR("*.")) ? str_sub(word, 2, word.n) : word;
		if (i > 256)
			conf_fail(p, &p->words[i], STR("too many domains: at most 256"));
		else if (conf_is_domain(domain) || str_eq(word, STR("<>")))
			(*list)[(*count)++].text = conf_lower_case(p, word);
		else
			conf_fail_word(p, &p->words[i], "a domain (example.org, *.example.org) or <>");
	}
}

/* HOST, HOST:PORT, an address with or without a port, or (LMTP) unix:/PATH. */
static bool parse_hop(struct parser *p, struct str word, enum route_kind kind, struct conf_hop *hop_out)
{
	struct ip ip;
	uint64_t port = 0;
	*hop_out = (struct conf_hop){ .weight = 1, .port = kind == ROUTE_KIND_LMTP ? 24 : 25 };
	if (kind == ROUTE_KIND_LMTP && str_starts(word, STR("unix:/"))) {
		hop_out->host = arena_str(p->arena, str_sub(word, 5, word.n));
		hop_out->port = 0;
		return word.n - 5 <= 100; /* sockaddr_un */
	}
	size_t colon = str_rfind(word, ':');
	bool bracket = word.n > 0 && word.p[word.n - 1] == ']';
	if (!bracket && str_find(word, ':') == colon && colon < word.n) {
		if (str_to_u64(str_sub(word, colon + 1, word.n), 65535, &port) != ERR_NONE || port == 0)
			return false;
		hop_out->port = (uint16_t)port;
		word = str_sub(word, 0, colon);
	} else if (ip_parse_port(word, &ip) == ERR_NONE && ip.port) {
		hop_out->port = ip.port;
		word = str_sub(word, 0, colon);
	}
	if (word.n > 2 && word.p[0] == '[')
		word = str_sub(word, 1, word.n - 1);
	hop_out->host = conf_lower_case(p, word);
	hop_out->tls = kind == ROUTE_KIND_SMTP && hop_out->port == SUBMISSIONS_PORT;
	return ip_parse(word, &ip) == ERR_NONE || conf_is_domain(word);
}

/* order N, weight N behind a host. True: the word was one of them. */
static bool hop_option(struct parser *p, size_t i, struct conf_hop *hop)
{
	struct str word = p->words[i].text;
	uint64_t v = 0;
	if (!str_eq(word, STR("order")) && !str_eq(word, STR("weight")))
		return false;
	if (!hop)
		conf_fail(p, &p->words[i], STR("order and weight stand behind a host"));
	else if (i + 1 == p->words_n || str_to_u64(p->words[i + 1].text, 65535, &v) != ERR_NONE)
		conf_fail(p, &p->words[i], STR("order and weight take a number of at most 65535"));
	else if (str_eq(word, STR("order")))
		hop->order = (uint16_t)v;
	else
		hop->weight = v ? (uint16_t)v : 1;
	return true;
}

void conf_set_via(struct parser *p, struct conf_route *r)
{
	const struct conf_token *t = &p->words[1];
	r->hops_n = 0;
	r->kind = str_eq(t->text, STR("smtp")) ? ROUTE_KIND_SMTP : str_eq(t->text, STR("lmtp")) ? ROUTE_KIND_LMTP : ROUTE_KIND_MX;
	if (r->kind == ROUTE_KIND_MX) {
		if (!str_eq(t->text, STR("mx")) || p->words_n > 2)
			conf_fail_word(p, t, "mx, smtp HOST … or lmtp HOST …");
		return;
	}
	r->hops = ARENA_ARRAY(p->arena, struct conf_hop, 16);
	for (size_t i = 2; r->hops && i < p->words_n; i++) {
		struct conf_hop *last = r->hops_n ? &r->hops[r->hops_n - 1] : NULL;
		if (hop_option(p, i, last)) {
			i++;
			continue;
		}
		if (last && str_eq(p->words[i].text, STR("tls"))) {
			last->tls = true;
			continue;
		}
		if (r->hops_n == 16)
			conf_fail(p, &p->words[i], STR("too many hosts: at most 16"));
		else if (parse_hop(p, p->words[i].text, r->kind, &r->hops[r->hops_n]))
			r->hops_n++;
		else
			conf_fail_word(p, &p->words[i], "a host (relay.example.net, 192.0.2.1:25, [2001:db8::1]:25; for lmtp also unix:/path)");
	}
	if (p->words_n == 2)
		conf_fail(p, t, STR("which host? write via smtp relay.example.net:25;"));
}

void conf_set_source(struct parser *p, struct conf_route *r)
{
	r->source_v4 = r->source_v6 = (struct ip){ .family = IP_NONE };
	for (size_t i = 1; i < p->words_n; i++) {
		struct ip ip;
		if (ip_parse(p->words[i].text, &ip) != ERR_NONE)
			conf_fail_word(p, &p->words[i], "an address of this machine");
		else if ((ip.family == IP_V4 ? r->source_v4 : r->source_v6).family != IP_NONE)
			conf_fail(p, &p->words[i], STR("source takes one IPv4 and one IPv6 address at most"));
		else if (ip.family == IP_V4)
			r->source_v4 = ip;
		else
			r->source_v6 = ip;
	}
}

/* P4. A file that we may not look at, root will read. */
static void check_secret(struct parser *p, const struct conf_token *t)
{
	struct world_stat st = { 0 };
	int fd;
	if (!p->w)
		return;
	enum err e = world_open(p->w, WORLD_ABSOLUTE, t->text, WORLD_READ | WORLD_REGULAR, 0, &fd);
	if (e == ERR_NONE) {
		if (world_stat(p->w, fd, &st) == ERR_NONE && st.mode & 07)
			conf_fail(p, t, STR("everybody on this machine can use this file with a password: chmod 600, and change the password"));
		world_close(p->w, fd);
	} else if (e != ERR_DENIED) {
		conf_fail(p, t, STR("this file with a password cannot be read, or is none"));
	}
}

void conf_set_route_auth(struct parser *p, struct conf_route *r)
{
	if (p->words_n != 3) {
		conf_fail(p, &p->words[0], STR("auth takes a user name and the file with its password: auth ann@example.net /etc/godwit/relay.password;"));
		return;
	}
	struct str user = p->words[1].text, file = p->words[2].text;
	if (user.n == 0 || user.n > 255 || str_has_control(user))
		conf_fail_word(p, &p->words[1], "a user name of at most 255 bytes");
	else if (file.n == 0 || file.p[0] != '/' || file.n > 1000)
		conf_fail_word(p, &p->words[2], "an absolute path");
	else
		check_secret(p, &p->words[2]);
	r->auth_user = arena_str(p->arena, user);
	r->auth_file = arena_str(p->arena, file);
}

bool conf_open_route(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (t->text.n == 0 || t->text.n > 64) {
		conf_fail_word(p, t, "a name of 1 to 64 characters");
		return false;
	}
	for (size_t i = 0; i < c->routes_n; i++)
		if (str_eq(c->routes[i].name, t->text))
			conf_fail(p, t, arena_strf(p->arena, "route %.*s is given twice", STR_ARG(t->text)));
	struct conf_route *r = conf_list_add(p, (void **)&c->routes, &c->routes_n, &p->routes_cap, 511, sizeof *r);
	if (!r) {
		conf_fail(p, t, STR("too many routes: at most 511"));
		return false;
	}
	*r = (struct conf_route){ .name = arena_str(p->arena, t->text) };
	conf_set_defaults(p, CONF_IN_ROUTE, r);
	return true;
}

/* ---- which fits ------------------------------------------------------------------------------------- */

bool conf_pattern_fits(struct str pattern, struct str domain)
{
	if (!str_starts(pattern, STR("*.")))
		return str_eq_nocase(pattern, domain);
	struct str tail = str_sub(pattern, 1, pattern.n);
	return domain.n > tail.n && str_eq_nocase(str_sub(domain, domain.n - tail.n, domain.n), tail);
}

/* The first route that some mail for this domain would take and that is not by lmtp; NULL: there is none. */
static const struct conf_route *not_by_lmtp(const struct conf *c, struct str domain)
{
	for (size_t i = 0; i < c->routes_n; i++) {
		const struct conf_route *r = &c->routes[i];
		bool fits = r->to_n == 0;
		for (size_t k = 0; k < r->to_n; k++)
			fits |= conf_pattern_fits(r->to[k].text, domain);
		if (fits && r->kind != ROUTE_KIND_LMTP)
			return r;
		if (fits && r->from_n == 0)
			return NULL;
	}
	return NULL;
}

void conf_check_lmtp(struct parser *p)
{
	const struct conf *c = p->conf;
	struct str file = p->file;
	for (size_t i = 0; i < p->lmtp_n; i++) {
		const struct conf_place *at = &p->lmtp[i];
		const struct conf_domain *d = &c->domains[at->domain];
		const struct conf_route *r = d->mailbox == MAILBOX_KIND_LMTP ? not_by_lmtp(c, d->name) : NULL;
		p->file = at->file;
		if (r)
			conf_fail_at(p, at->line, at->column,
				     arena_strf(p->arena, "mailbox lmtp: mail for %.*s would go by route %.*s, which is not by lmtp: "
						"write route boxes { to %.*s; via lmtp unix:/path; } before it",
						STR_ARG(d->name), STR_ARG(r->name), STR_ARG(d->name)));
	}
	p->file = file;
}

static void route_wrong(struct parser *p, const struct conf_route *r, const char *text)
{
	conf_fail_at(p, 0, 0, arena_strf(p->arena, "route %.*s: %s", STR_ARG(r->name), text));
}

/* What we may not look at, root will read. */
static bool is_missing(struct parser *p, struct str path)
{
	int fd;
	enum err e = p->w ? world_open(p->w, WORLD_ABSOLUTE, path, WORLD_READ | WORLD_REGULAR, 0, &fd) : ERR_DENIED;
	if (e == ERR_NONE)
		world_close(p->w, fd);
	return e != ERR_NONE && e != ERR_DENIED;
}

void conf_check_route_tls(struct parser *p)
{
	for (size_t i = 0; i < p->conf->routes_n; i++) {
		const struct conf_route *r = &p->conf->routes[i];
		bool socket = false, address = false, first = false;
		struct ip ip;
		for (size_t k = 0; k < r->hops_n; k++) {
			socket = socket || str_starts(r->hops[k].host, STR("/"));
			address = address || ip_parse(r->hops[k].host, &ip) == ERR_NONE;
			first = first || r->hops[k].tls;
		}
		if (r->tls >= ROUTE_TLS_REQUIRED && socket)
			route_wrong(p, r, "there is no TLS over a Unix socket: write tls none");
		if (r->tls == ROUTE_TLS_VERIFY && address)
			route_wrong(p, r, "tls verify needs the name that a host's certificate is for: write the name in place of the address");
		if (r->tls == ROUTE_TLS_NONE && first)
			route_wrong(p, r, "a host with tls from the first byte, or at port 465, contradicts tls none");
		if (r->auth_user.n && r->tls < ROUTE_TLS_REQUIRED)
			route_wrong(p, r, "auth needs TLS, or others read the password: write tls verify");
		if (r->auth_user.n && r->kind == ROUTE_KIND_MX)
			route_wrong(p, r, "auth is for the hosts of via smtp: any MX host would be told the password");
		if (r->tls_ca.n && r->tls != ROUTE_TLS_VERIFY)
			route_wrong(p, r, "tls_ca does nothing without tls verify");
		if (r->tls_ca.n && is_missing(p, r->tls_ca))
			route_wrong(p, r, "the file tls_ca cannot be read, or is none");
	}
}

void conf_default_route(struct parser *p)
{
	struct conf *c = p->conf;
	struct conf_route last = { .name = STR("default") };
	size_t at = 0;
	while (at < c->routes_n && !str_eq(c->routes[at].name, last.name))
		at++;
	if (at == c->routes_n) {
		conf_set_defaults(p, CONF_IN_ROUTE, &last);
		struct conf_route *r = conf_list_add(p, (void **)&c->routes, &c->routes_n, &p->routes_cap, 512, sizeof *r);
		if (r)
			*r = last;
		return;
	}
	last = c->routes[at];
	if (last.to_n || last.from_n)
		conf_fail_at(p, 0, 0, STR("the route default takes what no other route takes: it has no to and no from"));
	memmove(&c->routes[at], &c->routes[at + 1], (c->routes_n - at - 1) * sizeof last);
	c->routes[c->routes_n - 1] = last;
}
