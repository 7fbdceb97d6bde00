/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses the configuration by the table of directives: see conf.h. An error does not end the parse: it
 * is noted, the directive skipped, and the next one read.
 */
#include "conf/conf.h"

#include "conf/conf_internal.h"

#define SUBMISSIONS_PORT 465u /* RFC 8314 §7.3 */

void conf_fail_at(struct parser *p, unsigned line, unsigned column, struct str text)
{
	struct conf_errors *e = p->errs;
	if (e->n == CONF_ERRORS_MAX)
		e->more++;
	else
		e->v[e->n++] = (struct conf_error){ p->file, line, column, text };
}

void conf_fail(struct parser *p, const struct conf_token *t, struct str text)
{
	conf_fail_at(p, t->line, t->column, text);
}

void conf_fail_word(struct parser *p, const struct conf_token *t, const char *what)
{
	struct buf b = buf_fixed(arena_alloc(p->arena, 400), 400);
	buf_add_safe(&b, t->text, 100);
	conf_fail(p, t, arena_strf(p->arena, "'%.*s' is not %s", STR_ARG(buf_str(&b)), what));
}

void *conf_list_add(struct parser *p, void **list, size_t *n, size_t *cap, size_t most, size_t bytes)
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
	conf_fail(p, t, arena_strf(p->arena, "unknown directive '%.*s'%s%s%s%s%s", STR_ARG(buf_str(&b)),
			      block == CONF_TOP ? "" : " in a block ", conf_block_names[block],
			      near ? ": did you mean '" : "", near ? near : "", near ? "'?" : ""));
}

static void use_directive(struct parser *p, enum conf_block block)
{
	for (size_t i = 0; i < conf_directives_n; i++) {
		const struct conf_directive *d = &conf_directives[i];
		if (d->block != block || !str_eq(p->words[0].text, str_z(d->name)))
			continue;
		/* these add to what is there */
		bool once = d->kind != CONF_STUB && d->kind != CONF_CERTIFICATE && d->kind != CONF_KEY;
		if (once && p->given[i])
			conf_fail(p, &p->words[0], arena_strf(p->arena, "%s is given twice", d->name));
		p->given[i] |= once;
		conf_set_value(p, d, block_base(p, block));
		return;
	}
	unknown(p, block, &p->words[0]);
}

/* Each named block is a new one; the others are one wherever they stand. */
static void begin_named(struct parser *p, enum conf_block block)
{
	for (size_t i = 0; i < conf_directives_n; i++)
		if (conf_directives[i].block == block)
			p->given[i] = false;
}

static bool open_listen(struct parser *p)
{
	struct conf *c = p->conf;
	p->block_first = c->listeners_n;
	struct conf_listener *l = conf_list_add(p, (void **)&c->listeners, &c->listeners_n, &p->listeners_cap, 32, sizeof *l);
	if (!l) {
		conf_fail(p, &p->words[0], STR("too many listeners: at most 32"));
		return false;
	}
	*l = (struct conf_listener){ .name = arena_str(p->arena, p->words[1].text), .tls = TLS_MODE_STARTTLS };
	p->tls_given = false;
	if (l->name.n > 32)
		conf_fail_word(p, &p->words[1], "a name of at most 32 characters");
	return true;
}

static bool open_domain(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (!conf_is_domain(t->text)) {
		conf_fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
		return false;
	}
	struct str name = conf_lower_case(p, t->text);
	for (size_t i = 0; i < c->domains_n; i++)
		if (str_eq(c->domains[i].name, name))
			conf_fail(p, t, arena_strf(p->arena, "domain %.*s is given twice", STR_ARG(name)));
	struct conf_domain *d = conf_list_add(p, (void **)&c->domains, &c->domains_n, &p->domains_cap, 4096, sizeof *d);
	if (!d) {
		conf_fail(p, t, STR("too many domains: at most 4096"));
		return false;
	}
	*d = (struct conf_domain){ .name = name };
	conf_set_defaults(p, CONF_IN_DOMAIN, d);
	return true;
}

static bool open_relay_domain(struct parser *p)
{
	struct conf *c = p->conf;
	const struct conf_token *t = &p->words[1];
	if (!conf_is_domain(t->text)) {
		conf_fail_word(p, t, "a domain name (write international names as A-labels: xn--…)");
		return false;
	}
	struct str name = conf_lower_case(p, t->text);
	for (size_t i = 0; i < c->relay_domains_n; i++)
		if (str_eq(c->relay_domains[i].name, name))
			conf_fail(p, t, arena_strf(p->arena, "relay_domain %.*s is given twice", STR_ARG(name)));
	struct conf_relay_domain *d = conf_list_add(p, (void **)&c->relay_domains, &c->relay_domains_n,
					       &p->relay_domains_cap, 4096, sizeof *d);
	if (!d) {
		conf_fail(p, t, STR("too many relay domains: at most 4096"));
		return false;
	}
	*d = (struct conf_relay_domain){ .name = name };
	conf_set_defaults(p, CONF_IN_RELAY_DOMAIN, d);
	return true;
}

static enum conf_block block_of(const struct conf_token *t)
{
	for (unsigned i = 1; i < CONF_BLOCKS; i++)
		if (str_eq(t->text, str_z(conf_block_names[i])))
			return (enum conf_block)i;
	return CONF_TOP;
}

static bool is_top_directive(const struct conf_token *t)
{
	for (size_t i = 0; i < conf_directives_n; i++)
		if (conf_directives[i].block == CONF_TOP && str_eq(t->text, str_z(conf_directives[i].name)))
			return true;
	return false;
}

/* `hostname a.org listen smtp {`: a directive without its ; is taken off the words of the block behind it. */
static void split_off_directive(struct parser *p)
{
	if (p->words_n == 0 || !is_top_directive(&p->words[0]))
		return;
	conf_fail(p, &p->words[0], STR("a ; is missing at the end of this directive"));
	size_t all = p->words_n, at = 1;
	while (at < all && (block_of(&p->words[at]) == CONF_TOP || p->words[at].line == p->words[0].line))
		at++;
	p->words_n = at;
	use_directive(p, CONF_TOP);
	memmove(p->words, p->words + at, (all - at) * sizeof p->words[0]);
	p->words_n = all - at;
}

/* Which block the words before "{" open; CONF_TOP: none, the error is noted. */
static enum conf_block open_block(struct parser *p, enum conf_block outer)
{
	if (outer == CONF_TOP)
		split_off_directive(p);
	const struct conf_token *t = &p->words[0];
	enum conf_block block = p->words_n > 0 ? block_of(t) : CONF_TOP;
	bool named = is_named(block);
	if (p->words_n == 0 || block == CONF_TOP) {
		if (p->words_n)
			unknown(p, CONF_TOP, t);
		return CONF_TOP;
	}
	if (outer != CONF_TOP) {
		conf_fail(p, t, STR("blocks do not nest: is a } missing before this line?"));
		return CONF_TOP;
	}
	if (p->words_n != (named ? 2 : 1)) {
		conf_fail(p, t, arena_strf(p->arena, "%s takes %s before {", conf_block_names[block], named ? "one name" : "nothing"));
		return CONF_TOP;
	}
	if ((block == CONF_IN_LISTEN && !open_listen(p)) || (block == CONF_IN_DOMAIN && !open_domain(p)) ||
	    (block == CONF_IN_ROUTE && !conf_open_route(p)) || (block == CONF_IN_RELAY_DOMAIN && !open_relay_domain(p)))
		return CONF_TOP;
	if (named)
		begin_named(p, block);
	return block;
}

static void close_listen(struct parser *p, const struct conf_token *opened)
{
	bool fine = p->errs->n == p->block_errors; /* an address that is wrong was said already */
	if (p->block_first >= p->conf->listeners_n)
		return; /* no memory for it */
	const struct conf_listener first = p->conf->listeners[p->block_first];
	if (fine && first.address.port == 0)
		conf_fail(p, opened, STR("this listen block has no address: write address *:25;"));
	for (size_t i = p->block_first; i < p->conf->listeners_n; i++) { /* what the block says is for all its addresses */
		struct conf_listener *one = &p->conf->listeners[i];
		struct ip address = one->address;
		*one = first;
		one->address = address;
		if (!p->tls_given && address.port == SUBMISSIONS_PORT)
			one->tls = TLS_MODE_IMPLICIT;
	}
}

static void close_block(struct parser *p, enum conf_block block, const struct conf_token *opened)
{
	const struct conf_tls *tls = &p->conf->tls;
	if (block == CONF_IN_LISTEN)
		close_listen(p, opened);
	if (block == CONF_IN_TLS && tls->certificates_n && tls->certificates[tls->certificates_n - 1].key.n == 0)
		conf_fail(p, opened, STR("the last certificate of this block has no key: write key FILE; behind it"));
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
			conf_fail(p, &t, t.text);
		if (t.kind != CONF_WORD && t.kind != CONF_BAD)
			return t;
		if (p->words_n < CONF_WORDS_MAX)
			p->words[p->words_n++] = t;
		else
			conf_fail(p, &t, STR("too many words: is a ; missing?"));
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
			enum conf_block inner = open_block(p, block);
			if (inner == CONF_TOP) {
				skip_block(p);
				continue;
			}
			block = inner;
			opened = p->words[0];
			p->block_errors = p->errs->n;
			continue;
		}
		if (p->words_n > 0)
			conf_fail(p, first, STR("a ; is missing at the end of this directive"));
		if (end.kind == CONF_CLOSE && block == CONF_TOP)
			conf_fail(p, &end, STR("a } without its {"));
		if (end.kind == CONF_CLOSE || (end.kind == CONF_END && block != CONF_TOP)) {
			if (end.kind == CONF_END)
				conf_fail(p, &opened, STR("this block has no closing }"));
			close_block(p, block, &opened);
			block = CONF_TOP;
		}
		if (end.kind == CONF_END)
			return;
	}
}

/* ---- files ------------------------------------------------------------------------------------------- */

static const char *why_unreadable(enum err e)
{
	switch (e) {
	case ERR_NOT_FOUND:
		return "there is no such file";
	case ERR_DENIED:
		return "not permitted";
	case ERR_LIMIT:
		return "it is too large";
	default:
		return err_name(e);
	}
}

static enum err parse_file(struct parser *p, struct str path, const struct conf_token *at)
{
	struct buf b = buf_grow(p->arena->mem, CONF_FILE_MAX + 2);
	enum err e = world_read_file(p->w, WORLD_ABSOLUTE, path, CONF_FILE_MAX, &b);
	struct str text = arena_str(p->arena, buf_str(&b));
	buf_free(&b);
	if (e != ERR_NONE) {
		conf_fail_at(p, at ? at->line : 0, at ? at->column : 0,
			arena_strf(p->arena, "cannot read %.*s: %s", STR_ARG(path), why_unreadable(e)));
		return e;
	}
	struct conf_lexer lx = p->lx;
	struct str file = p->file;
	p->file = arena_str(p->arena, path);
	p->lx = (struct conf_lexer){ .rest = text, .line = 1, .column = 1, .arena = p->arena };
	parse_text(p);
	p->lx = lx;
	p->file = file;
	return ERR_NONE;
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
		conf_fail(p, at, arena_strf(p->arena, "cannot list %.*s: %s", STR_ARG(dir), err_name(e)));
		return;
	}
	for (size_t i = 0; i < m->n; i++)
		(void)parse_file(p, arena_strf(p->arena, "%.*s/%.*s", STR_ARG(dir), STR_ARG(m->v[i])), at);
}

static void include(struct parser *p, enum conf_block block)
{
	struct conf_token at = p->words[0];
	if (block != CONF_TOP || p->words_n != 2 || !p->w) {
		conf_fail(p, &at, STR("include takes one file name and stands outside blocks"));
		return;
	}
	if (p->depth == CONF_INCLUDE_DEPTH) {
		conf_fail(p, &at, STR("includes nest too deeply: does a file include itself?"));
		return;
	}
	struct str path = p->words[1].text;
	if (path.n == 0 || path.p[0] != '/') {
		size_t end = str_rfind(p->file, '/');
		struct str here = end < p->file.n ? str_sub(p->file, 0, end) : STR(".");
		path = arena_strf(p->arena, "%.*s/%.*s", STR_ARG(here), STR_ARG(path));
	}
	p->depth++;
	size_t slash = str_rfind(path, '/');
	struct str last = str_sub(path, slash + 1, path.n);
	if (str_find(last, '*') < last.n)
		include_pattern(p, str_sub(path, 0, slash), last, &at);
	else
		(void)parse_file(p, path, &at);
	p->depth--;
}

static void check_whole(struct parser *p)
{
	struct conf *c = p->conf;
	if (c->hostname.n == 0)
		conf_fail_at(p, 0, 0, STR("hostname is missing: write hostname mx.example.org;"));
	if (c->listeners_n == 0)
		conf_fail_at(p, 0, 0, STR("nothing to listen on: write listen smtp { address *:25; }"));
	if (c->resolver.servers_n && c->resolver.stubs_n)
		conf_fail_at(p, 0, 0, STR("resolver: servers and stub exclude each other: the servers named know where to ask"));
	for (size_t i = 0; i < c->listeners_n; i++)
		for (size_t k = 0; k < i; k++)
			if (ip_eq(&c->listeners[i].address, &c->listeners[k].address) &&
			    c->listeners[i].address.port == c->listeners[k].address.port)
				conf_fail_at(p, 0, 0, arena_strf(p->arena, "two listen blocks have the same address (port %u)",
							    c->listeners[i].address.port));
}

/* We are either the last server of a domain or one on the way there. */
static void check_relay_domains(struct parser *p)
{
	const struct conf *c = p->conf;
	for (size_t i = 0; i < c->relay_domains_n; i++)
		for (size_t k = 0; k < c->domains_n; k++)
			if (str_eq(c->relay_domains[i].name, c->domains[k].name))
				conf_fail_at(p, 0, 0, arena_strf(p->arena, "%.*s is given as domain and as relay_domain: delete one",
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
			conf_set_defaults(p, (enum conf_block)block, c);
	*p_out = p;
	return ERR_NONE;
}

static enum err parser_end(struct parser *p)
{
	check_whole(p);
	check_relay_domains(p);
	conf_default_route(p);
	conf_check_lmtp(p);
	conf_check_route_tls(p);
	TRY(arena_err(p->arena));
	return p->errs->n ? ERR_SYNTAX : ERR_NONE;
}

enum err conf_load(struct world *w, struct str path, struct arena *arena, struct conf *conf_out, struct conf_errors *errs)
{
	struct parser *p;
	TRY(parser_new(w, arena, conf_out, errs, &p));
	p->file = path;
	if (parse_file(p, path, NULL) != ERR_NONE)
		return ERR_SYNTAX; /* what else is missing does not matter */
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
