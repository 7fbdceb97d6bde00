/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the configuration by the table of directives: see conf.h. An error does not end the parse: it
 * is noted, the directive skipped, and the next one read.
 */
#include "conf/conf.h"

#include "base/log.h"
#include "conf/conf_table.h"

#define WORDS_MAX 300u
#define DNS_PORT 53u
#define SERVERS_MAX 8u
#define STUBS_MAX 32u

struct parser {
	struct world *w; /* NULL: no includes */
	struct arena *arena;
	struct conf *conf;
	struct conf_errors *errs;
	struct conf_lexer lx;
	struct str file;
	unsigned depth;
	struct conf_token words[WORDS_MAX];
	size_t words_n;
	size_t listeners_cap, domains_cap, routes_cap, stubs_cap, relay_domains_cap;
	size_t block_first; /* listen: the first listener of the open block */
	bool given[192];    /* by index in conf_directives, of the top and the once-only blocks */
};

static void fail_at(struct parser *p, unsigned line, unsigned column, struct str text)
{
	struct conf_errors *e = p->errs;
	if (e->n == CONF_ERRORS_MAX)
		e->more++;
	else
		e->v[e->n++] = (struct conf_error){ p->file, line, column, text };
}

static void fail(struct parser *p, const struct conf_token *t, struct str text)
{
	fail_at(p, t->line, t->column, text);
}

static void fail_word(struct parser *p, const struct conf_token *t, const char *what)
{
	struct buf b = buf_fixed(arena_alloc(p->arena, 400), 400);
	buf_add_safe(&b, t->text, 100);
	fail(p, t, arena_strf(p->arena, "'%.*s' is not %s", STR_ARG(buf_str(&b)), what));
}

/* Grows a list in the arena by one element. */
static void *list_add(struct parser *p, void **list, size_t *n, size_t *cap, size_t most, size_t bytes)
{
	if (*n == *cap) {
		size_t grown = *cap ? *cap * 2 : 8;
		char *v = *n < most ? arena_array(p->arena, grown, bytes) : NULL;
		if (!v)
			return NULL;
		if (*n)
			memcpy(v, *list, *n * bytes);
		*list = v;
		*cap = grown;
	}
	return (char *)*list + (*n)++ * bytes;
}

/* ---- values ------------------------------------------------------------------------------------- */

static bool is_domain(struct str s)
{
	size_t label = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '.' ? label == 0 : !ascii_is_alnum(c) && (c != '-' || label == 0))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return s.n > 0 && s.n <= 255 && label > 0;
}

static struct str lower_case(struct parser *p, struct str s)
{
	char *to = arena_alloc(p->arena, s.n + 1);
	for (size_t i = 0; to && i < s.n; i++)
		to[i] = ascii_lower(s.p[i]);
	return str_of(to, to ? s.n : 0);
}

static void set_networks(struct parser *p, const struct conf_directive *d, void *at)
{
	struct ip **list = at;
	size_t n = p->words_n - 1;
	*list = ARENA_ARRAY(p->arena, struct ip, n ? n : 1);
	size_t *count = (size_t *)(void *)((char *)at + sizeof *list);
	*count = 0;
	for (size_t i = 1; *list && i <= n; i++)
		if (ip_parse_prefix(p->words[i].text, &(*list)[*count]) == ERR_NONE)
			++*count;
		else
			fail_word(p, &p->words[i], "a network (192.0.2.0/24, 2001:db8::/32; host bits must be 0)");
	(void)d;
}

static void set_listen(struct parser *p)
{
	struct conf *c = p->conf;
	struct conf_listener shape = c->listeners[p->block_first];
	for (size_t i = 1; i < p->words_n; i++) {
		struct conf_listener *l = i == 1 ? &c->listeners[p->block_first] :
			list_add(p, (void **)&c->listeners, &c->listeners_n, &p->listeners_cap, 32, sizeof *l);
		if (!l) {
			fail(p, &p->words[i], STR("too many addresses: at most 32"));
			return;
		}
		*l = shape;
		if (ip_parse_port(p->words[i].text, &l->address) != ERR_NONE || l->address.port == 0)
			fail_word(p, &p->words[i], "an address with a port (192.0.2.1:25, [::1]:25, *:25)");
	}
}

/* "127.0.0.1", "::1", or with a port. */
static bool server_of(struct str s, struct ip *ip_out)
{
	if (ip_parse(s, ip_out) == ERR_NONE) {
		ip_out->port = DNS_PORT;
		return true;
	}
	return ip_parse_port(s, ip_out) == ERR_NONE && ip_out->port != 0 && ip_out->family != IP_NONE;
}

static void set_servers(struct parser *p)
{
	struct conf_resolver *r = &p->conf->resolver;
	size_t n = p->words_n - 1;
	r->servers = ARENA_ARRAY(p->arena, struct ip, n);
	if (n > SERVERS_MAX)
		fail(p, &p->words[0], STR("too many resolvers: at most 8"));
	for (size_t i = 1; r->servers && i <= n && i <= SERVERS_MAX; i++)
		if (server_of(p->words[i].text, &r->servers[r->servers_n]))
			r->servers_n++;
		else
			fail_word(p, &p->words[i], "the address of a resolver (127.0.0.1, [::1]:5353)");
}

static void set_stub(struct parser *p)
{
	struct conf_resolver *r = &p->conf->resolver;
	struct conf_stub stub = { .insecure = p->words_n == 4 };
	struct str zone = p->words[1].text;
	bool root = str_eq(zone, STR("."));
	if (p->words_n < 3 || p->words_n > 4 || (stub.insecure && !str_eq(p->words[3].text, STR("insecure"))))
		fail(p, &p->words[0], STR("stub takes a zone, the address of its name server, and perhaps the word insecure"));
	else if (!root && !is_domain(zone))
		fail_word(p, &p->words[1], "a domain name");
	else if (!server_of(p->words[2].text, &stub.server))
		fail_word(p, &p->words[2], "the address of a name server (192.0.2.53, [2001:db8::53]:5353)");
	else {
		stub.zone = root ? STR("") : lower_case(p, zone);
		struct conf_stub *s = list_add(p, (void **)&r->stubs, &r->stubs_n, &p->stubs_cap, STUBS_MAX, sizeof *s);
		if (s)
			*s = stub;
		else
			fail(p, &p->words[0], STR("too many stubs: at most 32"));
	}
}

static void set_number(struct parser *p, const struct conf_directive *d, void *at)
{
	const struct conf_token *t = &p->words[1];
	uint64_t v = 0;
	bool ok = d->kind == CONF_TIME ? conf_time(t->text, &v) : d->kind == CONF_SIZE ? conf_size(t->text, &v) :
		str_to_u64(t->text, UINT32_MAX, &v) == ERR_NONE;
	if (!ok)
		fail_word(p, t, d->kind == CONF_TIME ? "a time (300ms, 30s, 5min, 4h, 5d)" :
			  d->kind == CONF_SIZE ? "a size (500, 64K, 50M, 2G)" : "a number");
	else if (v < d->min || (d->max && v > d->max))
		fail(p, t, arena_strf(p->arena, "%s is out of range: %llu to %llu", d->name, (unsigned long long)d->min,
				      (unsigned long long)(d->max ? d->max : UINT64_MAX)));
	else if (d->kind == CONF_COUNT)
		*(uint32_t *)at = (uint32_t)v;
	else
		*(uint64_t *)at = v;
}

static void set_text(struct parser *p, const struct conf_directive *d, struct str *at)
{
	const struct conf_token *t = &p->words[1];
	struct str s = t->text;
	if (d->kind == CONF_PATH && s.n > 0 && s.p[0] != '/')
		fail_word(p, t, "an absolute path");
	else if (d->kind == CONF_PATH && s.n > 1000)
		fail_word(p, t, "a path of at most 1000 bytes");
	else if (d->kind == CONF_NAME && s.n == 0 && t->line == 0)
		*at = str_of("", 0); /* its default: not given */
	else if (d->kind == CONF_NAME && !is_domain(s))
		fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
	else if (d->kind == CONF_ADDRESS && !str_eq(s, STR("none")) &&
		 (str_rfind(s, '@') == 0 || !is_domain(str_sub(s, str_rfind(s, '@') + 1, s.n)) || s.n > 320))
		fail_word(p, t, "an address (local-part@domain) or none");
	else if (d->kind == CONF_TEXT && s.n > 8)
		fail_word(p, t, "a text of at most 8 characters");
	else if (d->kind == CONF_ADDRESS && str_eq(s, STR("none")))
		*at = str_of("", 0);
	else
		*at = d->kind == CONF_NAME || d->kind == CONF_ADDRESS ? lower_case(p, s) : arena_str(p->arena, s);
}

static void set_directory(struct parser *p)
{
	struct str dir = p->words[1].text;
	if (dir.n == 0)
		return; /* the default: no common directory */
	if (dir.p[0] != '/' || dir.n > 1000) {
		fail_word(p, &p->words[1], "an absolute path");
		return;
	}
	p->conf->spool = arena_strf(p->arena, "%.*s/spool", STR_ARG(dir));
	p->conf->state = arena_strf(p->arena, "%.*s/state", STR_ARG(dir));
	p->conf->mail = arena_strf(p->arena, "%.*s/mail", STR_ARG(dir));
	p->conf->run = arena_strf(p->arena, "%.*s/run", STR_ARG(dir));
}

/* In the order of enum ip_choice. */
static const char *const ip_choices[] = { "any", "prefer_v4", "prefer_v6", "only_v4", "only_v6" };

static void set_word(struct parser *p, const struct conf_directive *d, void *at)
{
	const struct conf_token *t = &p->words[1];
	enum log_format format;
	enum log_level level;
	bool yes = str_eq(t->text, STR("yes"));
	switch (d->kind) {
	case CONF_BOOL:
	case CONF_NOT_BOOL:
		if (!yes && !str_eq(t->text, STR("no")))
			fail_word(p, t, "yes or no");
		*(bool *)at = d->kind == CONF_BOOL ? yes : !yes;
		return;
	case CONF_LOG_FORMAT:
		if (log_format_parse(t->text, &format) != ERR_NONE)
			fail_word(p, t, "text, json or journald");
		else
			*(uint8_t *)at = (uint8_t)format;
		return;
	case CONF_LOG_LEVEL:
		if (log_level_parse(t->text, &level) != ERR_NONE)
			fail_word(p, t, "debug, info, notice, warning or error");
		else
			*(uint8_t *)at = (uint8_t)level;
		return;
	case CONF_TLS:
		if (!str_eq(t->text, STR("none")))
			fail(p, t, STR("this version has no TLS yet: write none"));
		*(enum tls_mode *)at = TLS_MODE_NONE;
		return;
	case CONF_IP_CHOICE:
		for (unsigned i = 0; i < sizeof ip_choices / sizeof ip_choices[0]; i++)
			if (str_eq(t->text, str_z(ip_choices[i]))) {
				*(enum ip_choice *)at = (enum ip_choice)i;
				return;
			}
		fail_word(p, t, "any, prefer_v4, prefer_v6, only_v4 or only_v6");
		return;
	default:
		if (!str_eq(t->text, str_z(d->initial)))
			fail_word(p, t, d->initial);
	}
}

/* "example.org", "*.example.org", "<>" */
static void set_patterns(struct parser *p, void *at)
{
	struct conf_word **list = at;
	size_t n = p->words_n - 1;
	*list = ARENA_ARRAY(p->arena, struct conf_word, n);
	size_t *count = (size_t *)(void *)((char *)at + sizeof *list);
	*count = 0;
	for (size_t i = 1; *list && i <= n; i++) {
		struct str word = p->words[i].text, domain = str_starts(word, STR("*.")) ? str_sub(word, 2, word.n) : word;
		if (i > 256)
			fail(p, &p->words[i], STR("too many domains: at most 256"));
		else if (is_domain(domain) || str_eq(word, STR("<>")))
			(*list)[(*count)++].text = lower_case(p, word);
		else
			fail_word(p, &p->words[i], "a domain (example.org, *.example.org) or <>");
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
	hop_out->host = lower_case(p, word);
	return ip_parse(word, &ip) == ERR_NONE || is_domain(word);
}

/* order N, weight N behind a host. True: the word was one of them. */
static bool hop_option(struct parser *p, size_t i, struct conf_hop *hop)
{
	struct str word = p->words[i].text;
	uint64_t v = 0;
	if (!str_eq(word, STR("order")) && !str_eq(word, STR("weight")))
		return false;
	if (i + 1 == p->words_n || str_to_u64(p->words[i + 1].text, 65535, &v) != ERR_NONE)
		fail(p, &p->words[i], STR("order and weight take a number of at most 65535"));
	else if (str_eq(word, STR("order")))
		hop->order = (uint16_t)v;
	else
		hop->weight = v ? (uint16_t)v : 1;
	return true;
}

static void set_via(struct parser *p, struct conf_route *r)
{
	const struct conf_token *t = &p->words[1];
	r->hops_n = 0;
	r->kind = str_eq(t->text, STR("smtp")) ? ROUTE_KIND_SMTP : str_eq(t->text, STR("lmtp")) ? ROUTE_KIND_LMTP : ROUTE_KIND_MX;
	if (r->kind == ROUTE_KIND_MX) {
		if (!str_eq(t->text, STR("mx")) || p->words_n > 2)
			fail_word(p, t, "mx, smtp HOST … or lmtp HOST …");
		return;
	}
	r->hops = ARENA_ARRAY(p->arena, struct conf_hop, 16);
	for (size_t i = 2; r->hops && i < p->words_n; i++) {
		if (r->hops_n > 0 && hop_option(p, i, &r->hops[r->hops_n - 1])) {
			i++;
			continue;
		}
		if (r->hops_n == 16)
			fail(p, &p->words[i], STR("too many hosts: at most 16"));
		else if (parse_hop(p, p->words[i].text, r->kind, &r->hops[r->hops_n]))
			r->hops_n++;
		else
			fail_word(p, &p->words[i], "a host (relay.example.net, 192.0.2.1:25, [2001:db8::1]:25; for lmtp also unix:/path)");
	}
	if (p->words_n == 2)
		fail(p, t, STR("which host? write via smtp relay.example.net:25;"));
}

static void set_source(struct parser *p, struct conf_route *r)
{
	for (size_t i = 1; i < p->words_n; i++) {
		struct ip ip;
		if (ip_parse(p->words[i].text, &ip) != ERR_NONE)
			fail_word(p, &p->words[i], "an address of this machine");
		else if (ip.family == IP_V4)
			r->source_v4 = ip;
		else
			r->source_v6 = ip;
	}
}

static bool takes_many(enum conf_kind kind)
{
	return kind == CONF_NETWORKS || kind == CONF_LISTEN || kind == CONF_PATTERNS || kind == CONF_VIA ||
	       kind == CONF_SOURCE || kind == CONF_SERVERS || kind == CONF_STUB;
}

static void set_value(struct parser *p, const struct conf_directive *d, void *base)
{
	void *at = (char *)base + d->offset;
	bool many = takes_many(d->kind);
	if (p->words_n < 2 || (!many && p->words_n > 2)) {
		fail(p, &p->words[0], arena_strf(p->arena, "%s takes %s", d->name, many ? "one or more values" : "one value"));
		return;
	}
	switch (d->kind) {
	case CONF_SIZE:
	case CONF_TIME:
	case CONF_COUNT:
		set_number(p, d, at);
		return;
	case CONF_NETWORKS:
		set_networks(p, d, at);
		return;
	case CONF_LISTEN:
		set_listen(p);
		return;
	case CONF_PATTERNS:
		set_patterns(p, at);
		return;
	case CONF_VIA:
		set_via(p, base);
		return;
	case CONF_SOURCE:
		set_source(p, base);
		return;
	case CONF_SERVERS:
		set_servers(p);
		return;
	case CONF_STUB:
		set_stub(p);
		return;
	case CONF_TEXT:
	case CONF_PATH:
	case CONF_NAME:
	case CONF_ADDRESS:
		if (str_eq(str_z(d->name), STR("directory")))
			set_directory(p);
		else
			set_text(p, d, at);
		return;
	default:
		set_word(p, d, at);
	}
}

/* Gives the directives of a block their defaults, through the same code as what is written. */
static void set_defaults(struct parser *p, enum conf_block block, void *base)
{
	for (size_t i = 0; i < conf_directives_n; i++) {
		const struct conf_directive *d = &conf_directives[i];
		if (d->block != block || !d->initial || d->kind == CONF_LISTEN || d->kind == CONF_NETWORKS ||
		    d->kind == CONF_SERVERS || d->kind == CONF_STUB || d->kind == CONF_CHOICE || d->kind == CONF_PATTERNS ||
		    d->kind == CONF_SOURCE)
			continue;
		p->words[1] = (struct conf_token){ .kind = CONF_WORD, .text = str_z(d->initial) };
		p->words_n = 2;
		set_value(p, d, base);
	}
}

/* ---- directives and blocks -------------------------------------------------------------------------- */

/* Blocks of which there may be several, each with a name. */
static bool is_named(enum conf_block block)
{
	return block == CONF_IN_LISTEN || block == CONF_IN_DOMAIN || block == CONF_IN_RELAY_DOMAIN ||
	       block == CONF_IN_ROUTE;
}

static void *block_base(struct parser *p, enum conf_block block)
{
	if (block == CONF_IN_LISTEN)
		return &p->conf->listeners[p->block_first];
	if (block == CONF_IN_DOMAIN)
		return &p->conf->domains[p->conf->domains_n - 1];
	if (block == CONF_IN_ROUTE)
		return &p->conf->routes[p->conf->routes_n - 1];
	if (block == CONF_IN_RELAY_DOMAIN)
		return &p->conf->relay_domains[p->conf->relay_domains_n - 1];
	return p->conf;
}

static void unknown(struct parser *p, enum conf_block block, const struct conf_token *t)
{
	const char *names[120];
	size_t n = 0;
	for (size_t i = 0; i < conf_directives_n && n < 100; i++)
		if (conf_directives[i].block == block)
			names[n++] = conf_directives[i].name;
	if (block == CONF_TOP) {
		names[n++] = "include";
		for (size_t i = 1; i < CONF_BLOCKS; i++)
			names[n++] = conf_block_names[i];
	}
	struct buf b = buf_fixed(arena_alloc(p->arena, 400), 400);
	buf_add_safe(&b, t->text, 60);
	const char *near = conf_nearest(t->text, names, n);
	fail(p, t, arena_strf(p->arena, "unknown directive '%.*s'%s%s%s%s%s", STR_ARG(buf_str(&b)),
			      block == CONF_TOP ? "" : " in a block ", conf_block_names[block],
			      near ? ": did you mean '" : "", near ? near : "", near ? "'?" : ""));
}

static void use_directive(struct parser *p, enum conf_block block)
{
	for (size_t i = 0; i < conf_directives_n; i++) {
		const struct conf_directive *d = &conf_directives[i];
		if (d->block != block || !str_eq(p->words[0].text, str_z(d->name)))
			continue;
		bool once = !is_named(block) && d->kind != CONF_STUB;
		if (once && p->given[i])
			fail(p, &p->words[0], arena_strf(p->arena, "%s is given twice", d->name));
		p->given[i] |= once;
		set_value(p, d, block_base(p, block));
		return;
	}
	unknown(p, block, &p->words[0]);
}

static bool open_listen(struct parser *p)
{
	struct conf *c = p->conf;
	p->block_first = c->listeners_n;
	struct conf_listener *l = list_add(p, (void **)&c->listeners, &c->listeners_n, &p->listeners_cap, 32, sizeof *l);
	if (!l) {
		fail(p, &p->words[0], STR("too many listeners: at most 32"));
		return false;
	}
	*l = (struct conf_listener){ .name = arena_str(p->arena, p->words[1].text) };
	if (l->name.n > 32)
		fail_word(p, &p->words[1], "a name of at most 32 characters");
	return true;
}

static bool open_domain(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (!is_domain(t->text)) {
		fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
		return false;
	}
	struct str name = lower_case(p, t->text);
	for (size_t i = 0; i < c->domains_n; i++)
		if (str_eq(c->domains[i].name, name))
			fail(p, t, arena_strf(p->arena, "domain %.*s is given twice", STR_ARG(name)));
	struct conf_domain *d = list_add(p, (void **)&c->domains, &c->domains_n, &p->domains_cap, 4096, sizeof *d);
	if (!d) {
		fail(p, t, STR("too many domains: at most 4096"));
		return false;
	}
	*d = (struct conf_domain){ .name = name };
	set_defaults(p, CONF_IN_DOMAIN, d);
	return true;
}

static bool open_route(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (t->text.n == 0 || t->text.n > 64) {
		fail_word(p, t, "a name of 1 to 64 characters");
		return false;
	}
	for (size_t i = 0; i < c->routes_n; i++)
		if (str_eq(c->routes[i].name, t->text))
			fail(p, t, arena_strf(p->arena, "route %.*s is given twice", STR_ARG(t->text)));
	struct conf_route *r = list_add(p, (void **)&c->routes, &c->routes_n, &p->routes_cap, 511, sizeof *r);
	if (!r) {
		fail(p, t, STR("too many routes: at most 511"));
		return false;
	}
	*r = (struct conf_route){ .name = arena_str(p->arena, t->text) };
	set_defaults(p, CONF_IN_ROUTE, r);
	return true;
}

static bool open_relay_domain(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (!is_domain(t->text)) {
		fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
		return false;
	}
	struct str name = lower_case(p, t->text);
	for (size_t i = 0; i < c->relay_domains_n; i++)
		if (str_eq(c->relay_domains[i].name, name))
			fail(p, t, arena_strf(p->arena, "relay_domain %.*s is given twice", STR_ARG(name)));
	struct conf_relay_domain *d = list_add(p, (void **)&c->relay_domains, &c->relay_domains_n,
					       &p->relay_domains_cap, 4096, sizeof *d);
	if (!d) {
		fail(p, t, STR("too many relay domains: at most 4096"));
		return false;
	}
	*d = (struct conf_relay_domain){ .name = name };
	set_defaults(p, CONF_IN_RELAY_DOMAIN, d);
	return true;
}

/* Which block the words before "{" open; CONF_TOP: none, the error is noted. */
static enum conf_block open_block(struct parser *p, enum conf_block outer)
{
	const struct conf_token *t = &p->words[0];
	enum conf_block block = CONF_TOP;
	for (unsigned i = 1; i < CONF_BLOCKS; i++)
		if (p->words_n > 0 && str_eq(t->text, str_z(conf_block_names[i])))
			block = (enum conf_block)i;
	bool named = is_named(block);
	if (p->words_n == 0 || block == CONF_TOP) {
		if (p->words_n)
			unknown(p, CONF_TOP, t);
		return CONF_TOP;
	}
	if (outer != CONF_TOP) {
		fail(p, t, STR("blocks do not nest: is a } missing before this line?"));
		return CONF_TOP;
	}
	if (p->words_n != (named ? 2 : 1)) {
		fail(p, t, arena_strf(p->arena, "%s takes %s before {", conf_block_names[block], named ? "one name" : "nothing"));
		return CONF_TOP;
	}
	if ((block == CONF_IN_LISTEN && !open_listen(p)) || (block == CONF_IN_DOMAIN && !open_domain(p)) ||
	    (block == CONF_IN_ROUTE && !open_route(p)) || (block == CONF_IN_RELAY_DOMAIN && !open_relay_domain(p)))
		return CONF_TOP;
	return block;
}

static void close_block(struct parser *p, enum conf_block block, const struct conf_token *opened)
{
	if (block == CONF_IN_LISTEN && p->conf->listeners[p->block_first].address.port == 0)
		fail(p, opened, STR("this listen block has no address: write address *:25;"));
}

static void skip_block(struct parser *p)
{
	for (unsigned depth = 1; depth > 0;) {
		struct conf_token t = conf_next_token(&p->lx);
		if (t.kind == CONF_END)
			return;
		depth += t.kind == CONF_OPEN;
		depth -= t.kind == CONF_CLOSE;
	}
}

static void include(struct parser *p, enum conf_block block);

/* Reads one directive's words; the token that ended them is returned. */
static struct conf_token read_words(struct parser *p)
{
	p->words_n = 0;
	for (;;) {
		struct conf_token t = conf_next_token(&p->lx);
		if (t.kind == CONF_BAD)
			fail(p, &t, t.text);
		if (t.kind != CONF_WORD && t.kind != CONF_BAD)
			return t;
		if (p->words_n < WORDS_MAX)
			p->words[p->words_n++] = t;
		else
			fail(p, &t, STR("too many words: is a ; missing?"));
	}
}

static void parse_text(struct parser *p)
{
	enum conf_block block = CONF_TOP;
	struct conf_token opened = { 0 };
	for (;;) {
		struct conf_token end = read_words(p);
		struct conf_token *first = p->words_n ? &p->words[0] : &end;
		if (end.kind == CONF_SEMICOLON && p->words_n > 0) {
			if (str_eq(first->text, STR("include")))
				include(p, block);
			else
				use_directive(p, block);
			continue;
		}
		if (end.kind == CONF_OPEN) {
			opened = *first;
			enum conf_block inner = open_block(p, block);
			if (inner == CONF_TOP)
				skip_block(p);
			else
				block = inner;
			continue;
		}
		if (p->words_n > 0)
			fail(p, first, STR("a ; is missing at the end of this directive"));
		if (end.kind == CONF_CLOSE && block == CONF_TOP)
			fail(p, &end, STR("a } without its {"));
		if (end.kind == CONF_CLOSE || (end.kind == CONF_END && block != CONF_TOP)) {
			if (end.kind == CONF_END)
				fail(p, &opened, STR("this block has no closing }"));
			close_block(p, block, &opened);
			block = CONF_TOP;
		}
		if (end.kind == CONF_END)
			return;
	}
}

/* ---- files ------------------------------------------------------------------------------------------- */

static void parse_file(struct parser *p, struct str path, const struct conf_token *at)
{
	struct buf b = buf_grow(p->arena->mem, CONF_FILE_MAX + 2);
	enum err e = world_read_file(p->w, WORLD_ABSOLUTE, path, CONF_FILE_MAX, &b);
	struct str text = arena_str(p->arena, buf_str(&b));
	buf_free(&b);
	if (e != ERR_NONE) {
		fail_at(p, at ? at->line : 0, at ? at->column : 0,
			arena_strf(p->arena, "cannot read %.*s: %s", STR_ARG(path), err_name(e)));
		return;
	}
	struct conf_lexer lx = p->lx;
	struct str file = p->file;
	p->file = arena_str(p->arena, path);
	p->lx = (struct conf_lexer){ .rest = text, .line = 1, .column = 1, .arena = p->arena };
	parse_text(p);
	p->lx = lx;
	p->file = file;
}

struct names {
	struct arena *arena;
	struct str v[512];
	size_t n;
	struct str prefix, suffix;
};

/* Keeps names that match prefix*suffix, sorted. */
static enum err keep_name(void *arg, struct str name)
{
	struct names *m = arg;
	if (name.n < m->prefix.n + m->suffix.n || !str_starts(name, m->prefix) || !str_ends(name, m->suffix) ||
	    name.p[0] == '.')
		return ERR_NONE;
	if (m->n == sizeof m->v / sizeof m->v[0])
		return ERR_LIMIT;
	size_t i = m->n++;
	for (; i > 0 && str_cmp(name, m->v[i - 1]) < 0; i--)
		m->v[i] = m->v[i - 1];
	m->v[i] = arena_str(m->arena, name);
	return arena_err(m->arena);
}

static void include_pattern(struct parser *p, struct str dir, struct str pattern, const struct conf_token *at)
{
	int fd;
	struct names *m = arena_alloc(p->arena, sizeof *m);
	size_t star = str_find(pattern, '*');
	enum err e = m ? world_open(p->w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &fd) : ERR_NO_MEMORY;
	if (e == ERR_NONE) {
		m->arena = p->arena;
		m->prefix = str_sub(pattern, 0, star);
		m->suffix = str_sub(pattern, star + 1, pattern.n);
		e = world_list(p->w, fd, keep_name, m);
		world_close(p->w, fd);
	}
	if (e == ERR_NOT_FOUND)
		return; /* an empty conf.d need not exist */
	if (e != ERR_NONE) {
		fail(p, at, arena_strf(p->arena, "cannot list %.*s: %s", STR_ARG(dir), err_name(e)));
		return;
	}
	for (size_t i = 0; i < m->n; i++)
		parse_file(p, arena_strf(p->arena, "%.*s/%.*s", STR_ARG(dir), STR_ARG(m->v[i])), at);
}

static void include(struct parser *p, enum conf_block block)
{
	struct conf_token at = p->words[0];
	if (block != CONF_TOP || p->words_n != 2 || !p->w) {
		fail(p, &at, STR("include takes one file name and stands outside blocks"));
		return;
	}
	if (p->depth == CONF_INCLUDE_DEPTH) {
		fail(p, &at, STR("includes nest too deeply: does a file include itself?"));
		return;
	}
	struct str path = p->words[1].text;
	if (path.n == 0 || path.p[0] != '/') {
		struct str here = str_sub(p->file, 0, str_rfind(p->file, '/'));
		path = arena_strf(p->arena, "%.*s/%.*s", STR_ARG(here), STR_ARG(path));
	}
	p->depth++;
	size_t slash = str_rfind(path, '/');
	struct str last = str_sub(path, slash + 1, path.n);
	if (str_find(last, '*') < last.n)
		include_pattern(p, str_sub(path, 0, slash), last, &at);
	else
		parse_file(p, path, &at);
	p->depth--;
}

static void check_whole(struct parser *p)
{
	struct conf *c = p->conf;
	if (c->hostname.n == 0)
		fail_at(p, 0, 0, STR("hostname is missing: write hostname mx.example.org;"));
	if (c->listeners_n == 0)
		fail_at(p, 0, 0, STR("nothing to listen on: write listen smtp { address *:25; }"));
	if (c->resolver.servers_n && c->resolver.stubs_n)
		fail_at(p, 0, 0, STR("resolver: servers and stub exclude each other: the servers named know where to ask"));
	for (size_t i = 0; i < c->listeners_n; i++)
		for (size_t k = 0; k < i; k++)
			if (ip_eq(&c->listeners[i].address, &c->listeners[k].address) &&
			    c->listeners[i].address.port == c->listeners[k].address.port)
				fail_at(p, 0, 0, arena_strf(p->arena, "two listen blocks have the same address (port %u)",
							    c->listeners[i].address.port));
}

/* We are either the last server of a domain or one on the way there. */
static void check_relay_domains(struct parser *p)
{
	const struct conf *c = p->conf;
	for (size_t i = 0; i < c->relay_domains_n; i++)
		for (size_t k = 0; k < c->domains_n; k++)
			if (str_eq(c->relay_domains[i].name, c->domains[k].name))
				fail_at(p, 0, 0, arena_strf(p->arena, "%.*s is given as domain and as relay_domain: delete one",
							    STR_ARG(c->domains[k].name)));
}

static enum err parser_new(struct world *w, struct arena *arena, struct conf *c, struct conf_errors *errs,
			   struct parser **p_out)
{
	struct parser *p = ARENA_NEW(arena, struct parser);
	if (!p)
		return ERR_NO_MEMORY;
	*c = (struct conf){ 0 };
	*errs = (struct conf_errors){ 0 };
	*p = (struct parser){ .w = w, .arena = arena, .conf = c, .errs = errs };
	for (unsigned block = 0; block < CONF_BLOCKS; block++)
		if (!is_named((enum conf_block)block))
			set_defaults(p, (enum conf_block)block, c);
	*p_out = p;
	return ERR_NONE;
}

/* The route "default" is the last one, and always there. */
static void default_route(struct parser *p)
{
	struct conf *c = p->conf;
	struct conf_route last = { .name = STR("default") };
	size_t at = 0;
	while (at < c->routes_n && !str_eq(c->routes[at].name, last.name))
		at++;
	if (at == c->routes_n) {
		set_defaults(p, CONF_IN_ROUTE, &last);
		struct conf_route *r = list_add(p, (void **)&c->routes, &c->routes_n, &p->routes_cap, 512, sizeof *r);
		if (r)
			*r = last;
		return;
	}
	last = c->routes[at];
	if (last.to_n || last.from_n)
		fail_at(p, 0, 0, STR("the route default takes what no other route takes: it has no to and no from"));
	memmove(&c->routes[at], &c->routes[at + 1], (c->routes_n - at - 1) * sizeof last);
	c->routes[c->routes_n - 1] = last;
}

static enum err parser_end(struct parser *p)
{
	check_whole(p);
	check_relay_domains(p);
	default_route(p);
	TRY(arena_err(p->arena));
	return p->errs->n ? ERR_SYNTAX : ERR_NONE;
}

enum err conf_load(struct world *w, struct str path, struct arena *arena, struct conf *conf_out, struct conf_errors *errs)
{
	struct parser *p;
	TRY(parser_new(w, arena, conf_out, errs, &p));
	p->file = path;
	parse_file(p, path, NULL);
	p->file = path;
	return parser_end(p);
}

enum err conf_parse(struct str text, struct str file, struct arena *arena, struct conf *conf_out, struct conf_errors *errs)
{
	struct parser *p;
	TRY(parser_new(NULL, arena, conf_out, errs, &p));
	p->file = file;
	p->lx = (struct conf_lexer){ .rest = text, .line = 1, .column = 1, .arena = arena };
	parse_text(p);
	return parser_end(p);
}

void conf_errors_add(struct buf *b, const struct conf_errors *errs)
{
	for (size_t i = 0; i < errs->n; i++) {
		const struct conf_error *e = &errs->v[i];
		buf_add_safe(b, e->file, 1000);
		if (e->line)
			buf_addf(b, ":%u:%u", e->line, e->column);
		buf_add(b, STR(": "));
		buf_add(b, e->text);
		buf_add_char(b, '\n');
	}
	if (errs->more)
		buf_addf(b, "… and %zu more\n", errs->more);
}
