/* SPDX-License-Identifier: Apache-2.0 */
/* From words to values, by the kind of the directive: see conf_table.h. Input: the operator's file. */
#include "conf/conf_internal.h"

#include "base/log.h"

#define DNS_PORT 53u
#define SERVERS_MAX 8u
#define STUBS_MAX 32u

bool conf_is_domain(struct str s)
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

struct str conf_lower_case(struct parser *p, struct str s)
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
			conf_fail_word(p, &p->words[i], "a network (192.0.2.0/24, 2001:db8::/32; host bits must be 0)");
	(void)d;
}

static void set_listen(struct parser *p)
{
	struct conf *c = p->conf;
	struct conf_listener shape = c->listeners[p->block_first];
	for (size_t i = 1; i < p->words_n; i++) {
		struct conf_listener *l = i == 1 ? &c->listeners[p->block_first] :
			conf_list_add(p, (void **)&c->listeners, &c->listeners_n, &p->listeners_cap, 32, sizeof *l);
		if (!l) {
			conf_fail(p, &p->words[i], STR("too many addresses: at most 32"));
			return;
		}
		*l = shape;
		if (ip_parse_port(p->words[i].text, &l->address) != ERR_NONE || l->address.port == 0)
			conf_fail_word(p, &p->words[i], "an address with a port (192.0.2.1:25, [::1]:25, *:25)");
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
		conf_fail(p, &p->words[0], STR("too many resolvers: at most 8"));
	for (size_t i = 1; r->servers && i <= n && i <= SERVERS_MAX; i++)
		if (server_of(p->words[i].text, &r->servers[r->servers_n]))
			r->servers_n++;
		else
			conf_fail_word(p, &p->words[i], "the address of a resolver (127.0.0.1, [::1]:5353)");
}

static void set_stub(struct parser *p)
{
	struct conf_resolver *r = &p->conf->resolver;
	struct conf_stub stub = { .insecure = p->words_n == 4 };
	struct str zone = p->words[1].text;
	bool root = str_eq(zone, STR("."));
	if (p->words_n < 3 || p->words_n > 4 || (stub.insecure && !str_eq(p->words[3].text, STR("insecure"))))
		conf_fail(p, &p->words[0], STR("stub takes a zone, the address of its name server, and perhaps the word insecure"));
	else if (!root && !conf_is_domain(zone))
		conf_fail_word(p, &p->words[1], "a domain name");
	else if (!server_of(p->words[2].text, &stub.server))
		conf_fail_word(p, &p->words[2], "the address of a name server (192.0.2.53, [2001:db8::53]:5353)");
	else {
		stub.zone = root ? STR("") : conf_lower_case(p, zone);
		struct conf_stub *s = conf_list_add(p, (void **)&r->stubs, &r->stubs_n, &p->stubs_cap, STUBS_MAX, sizeof *s);
		if (s)
			*s = stub;
		else
			conf_fail(p, &p->words[0], STR("too many stubs: at most 32"));
	}
}

static void set_number(struct parser *p, const struct conf_directive *d, void *at)
{
	const struct conf_token *t = &p->words[1];
	uint64_t v = 0;
	bool ok = d->kind == CONF_TIME ? conf_time(t->text, &v) : d->kind == CONF_SIZE ? conf_size(t->text, &v) :
		str_to_u64(t->text, UINT32_MAX, &v) == ERR_NONE;
	if (!ok)
		conf_fail_word(p, t, d->kind == CONF_TIME ? "a time (300ms, 30s, 5min, 4h, 5d)" :
			  d->kind == CONF_SIZE ? "a size (500, 64K, 50M, 2G)" : "a number");
	else if (v < d->min || (d->max && v > d->max))
		conf_fail(p, t, arena_strf(p->arena, "%s is out of range: %llu to %llu", d->name, (unsigned long long)d->min,
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
		conf_fail_word(p, t, "an absolute path");
	else if (d->kind == CONF_PATH && s.n > 1000)
		conf_fail_word(p, t, "a path of at most 1000 bytes");
	else if (d->kind == CONF_NAME && s.n == 0 && t->line == 0)
		*at = str_of("", 0); /* its default: not given */
	else if (d->kind == CONF_NAME && !conf_is_domain(s))
		conf_fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
	else if (d->kind == CONF_ADDRESS && !str_eq(s, STR("none")) &&
		 (str_rfind(s, '@') == 0 || !conf_is_domain(str_sub(s, str_rfind(s, '@') + 1, s.n)) || s.n > 320))
		conf_fail_word(p, t, "an address (local-part@domain) or none");
	else if (d->kind == CONF_TEXT && s.n > 8)
		conf_fail_word(p, t, "a text of at most 8 characters");
	else if (d->kind == CONF_ADDRESS && str_eq(s, STR("none")))
		*at = str_of("", 0);
	else
		*at = d->kind == CONF_NAME || d->kind == CONF_ADDRESS ? conf_lower_case(p, s) : arena_str(p->arena, s);
}

static void set_directory(struct parser *p)
{
	struct str dir = p->words[1].text;
	if (dir.n == 0)
		return; /* the default: no common directory */
	if (dir.p[0] != '/' || dir.n > 1000) {
		conf_fail_word(p, &p->words[1], "an absolute path");
		return;
	}
	p->conf->spool = arena_strf(p->arena, "%.*s/spool", STR_ARG(dir));
	p->conf->state = arena_strf(p->arena, "%.*s/state", STR_ARG(dir));
	p->conf->mail = arena_strf(p->arena, "%.*s/mail", STR_ARG(dir));
	p->conf->run = arena_strf(p->arena, "%.*s/run", STR_ARG(dir));
}

/* In the order of enum ip_choice. */
static void set_auth(struct parser *p, enum auth_mode *at)
{
	static const char *const words[] = { "none", "optional", "required" };
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
		if (str_eq(p->words[1].text, str_z(words[i]))) {
			*at = (enum auth_mode)i;
			return;
		}
	conf_fail_word(p, &p->words[1], "none, optional or required");
}

static const char *const ip_choices[] = { "any", "prefer_v4", "prefer_v6", "only_v4", "only_v6" };
static const char *const route_tls_words[] = { "none", "opportunistic", "required", "verify" };

static void set_route_tls(struct parser *p, enum route_tls *at)
{
	for (unsigned i = 0; i < sizeof route_tls_words / sizeof route_tls_words[0]; i++)
		if (str_eq(p->words[1].text, str_z(route_tls_words[i]))) {
			*at = (enum route_tls)i;
			return;
		}
	conf_fail_word(p, &p->words[1], "none, opportunistic, required or verify");
}

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
			conf_fail_word(p, t, "yes or no");
		*(bool *)at = d->kind == CONF_BOOL ? yes : !yes;
		return;
	case CONF_LOG_FORMAT:
		if (log_format_parse(t->text, &format) != ERR_NONE)
			conf_fail_word(p, t, "text, json or journald");
		else
			*(uint8_t *)at = (uint8_t)format;
		return;
	case CONF_LOG_LEVEL:
		if (log_level_parse(t->text, &level) != ERR_NONE)
			conf_fail_word(p, t, "debug, info, notice, warning or error");
		else
			*(uint8_t *)at = (uint8_t)level;
		return;
	case CONF_TLS:
		p->tls_given = true;
		for (unsigned i = 0; i <= TLS_MODE_IMPLICIT; i++)
			if (str_eq(t->text, str_z(tls_mode_name(i)))) {
				*(enum tls_mode *)at = (enum tls_mode)i;
				return;
			}
		conf_fail_word(p, t, "none, starttls or implicit");
		return;
	case CONF_TLS_VERSION:
		*(bool *)at = str_eq(t->text, STR("1.3"));
		if (!*(bool *)at && !str_eq(t->text, STR("1.2")))
			conf_fail_word(p, t, "1.2 or 1.3");
		return;
	case CONF_AUTH:
		set_auth(p, at);
		return;
	case CONF_ROUTE_TLS:
		set_route_tls(p, at);
		return;
	case CONF_IP_CHOICE:
		for (unsigned i = 0; i < sizeof ip_choices / sizeof ip_choices[0]; i++)
			if (str_eq(t->text, str_z(ip_choices[i]))) {
				*(enum ip_choice *)at = (enum ip_choice)i;
				return;
			}
		conf_fail_word(p, t, "any, prefer_v4, prefer_v6, only_v4 or only_v6");
		return;
	default:
		if (!str_eq(t->text, str_z(d->initial)))
			conf_fail_word(p, t, d->initial);
	}
}

static void set_mailbox(struct parser *p, enum mailbox_kind *at)
{
	const struct conf_token *t = &p->words[1];
	*at = str_eq(t->text, STR("lmtp")) ? MAILBOX_KIND_LMTP : MAILBOX_KIND_MAILDIR;
	if (*at == MAILBOX_KIND_LMTP) {
		struct conf_place *place = conf_list_add(p, (void **)&p->lmtp, &p->lmtp_n, &p->lmtp_cap, 100000, sizeof *place);
		if (place)
			*place = (struct conf_place){ p->file, p->words[0].line, p->words[0].column, p->conf->domains_n - 1 };
	} else if (!str_eq(t->text, STR("maildir"))) {
		conf_fail_word(p, t, "maildir or lmtp");
	}
}

static void set_certificate(struct parser *p, const struct conf_directive *d)
{
	struct conf_tls *c = &p->conf->tls;
	const struct conf_token *t = &p->words[1];
	struct conf_certificate *last = c->certificates_n ? &c->certificates[c->certificates_n - 1] : NULL;
	if (t->text.n == 0 || t->text.p[0] != '/' || t->text.n > 1000) {
		conf_fail_word(p, t, "an absolute path");
	} else if (d->kind == CONF_KEY) {
		if (!last || last->key.n)
			conf_fail(p, &p->words[0], STR("a key follows its certificate: write certificate FILE; before it"));
		else
			last->key = arena_str(p->arena, t->text);
	} else {
		if (last && last->key.n == 0)
			conf_fail(p, &p->words[0], STR("the certificate before this one has no key: write key FILE; behind it"));
		last = conf_list_add(p, (void **)&c->certificates, &c->certificates_n, &p->certificates_cap, 64, sizeof *last);
		if (last)
			*last = (struct conf_certificate){ .certificate = arena_str(p->arena, t->text) };
		else
			conf_fail(p, t, STR("too many certificates: at most 64"));
	}
}

static bool takes_many(enum conf_kind kind)
{
	return kind == CONF_NETWORKS || kind == CONF_LISTEN || kind == CONF_PATTERNS || kind == CONF_VIA ||
	       kind == CONF_SOURCE || kind == CONF_ROUTE_AUTH || kind == CONF_SERVERS || kind == CONF_STUB || kind == CONF_ACCOUNTS;
}

void conf_set_value(struct parser *p, const struct conf_directive *d, void *base)
{
	void *at = (char *)base + d->offset;
	bool many = takes_many(d->kind);
	if (p->words_n < 2 || (!many && p->words_n > 2)) {
		conf_fail(p, &p->words[0], arena_strf(p->arena, "%s takes %s", d->name, many ? "one or more values" : "one value"));
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
		conf_set_patterns(p, at);
		return;
	case CONF_VIA:
		conf_set_via(p, base);
		return;
	case CONF_SOURCE:
		conf_set_source(p, base);
		return;
	case CONF_ROUTE_AUTH:
		conf_set_route_auth(p, base);
		return;
	case CONF_SERVERS:
		set_servers(p);
		return;
	case CONF_STUB:
		set_stub(p);
		return;
	case CONF_ACCOUNTS:
		conf_set_accounts(p, base);
		return;
	case CONF_MAILBOX:
		set_mailbox(p, at);
		return;
	case CONF_CERTIFICATE:
	case CONF_KEY:
		set_certificate(p, d);
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

void conf_set_defaults(struct parser *p, enum conf_block block, void *base)
{
	for (size_t i = 0; i < conf_directives_n; i++) {
		const struct conf_directive *d = &conf_directives[i];
		if (d->block != block || !d->initial || d->kind == CONF_LISTEN || d->kind == CONF_NETWORKS ||
		    d->kind == CONF_SERVERS || d->kind == CONF_STUB || d->kind == CONF_PATTERNS ||
		    d->kind == CONF_SOURCE || d->kind == CONF_ROUTE_AUTH || d->kind == CONF_CERTIFICATE || d->kind == CONF_KEY)
			continue;
		p->words[1] = (struct conf_token){ .kind = CONF_WORD, .text = str_z(d->initial) };
		p->words_n = 2;
		conf_set_value(p, d, base);
	}
}
