/* SPDX-License-Identifier: Apache-2.0 */
/* What the files conf*.c that parse share: the parser, how it reports, values. Nobody else includes this. */
#ifndef CONF_CONF_INTERNAL_H
#define CONF_CONF_INTERNAL_H

#include "conf/conf_table.h"

#define CONF_WORDS_MAX 300u

/* Where something stands that can only be checked when all is known. */
struct conf_place {
	struct str file;
	unsigned line, column;
	size_t domain; /* index in conf.domains */
};

struct parser {
	struct world *w; /* NULL: no includes */
	struct arena *arena;
	struct conf *conf;
	struct conf_errors *errs;
	struct conf_lexer lx;
	struct str file;
	unsigned depth;
	struct conf_token words[CONF_WORDS_MAX];
	size_t words_n;
	size_t listeners_cap, domains_cap, routes_cap, stubs_cap, relay_domains_cap, certificates_cap;
	struct conf_place *lmtp; /* the mailbox lmtp directives */
	size_t lmtp_n, lmtp_cap;
	size_t block_first; /* listen: the first listener of the open block */
	size_t block_errors; /* errors noted when the open block began */
	bool tls_given;	    /* … says how TLS starts */
	bool given[192];    /* by index in conf_directives: of the open block, if it is a named one */
};

/* ---- conf.c ---- */

/* Notes an error; the parse goes on. Line 0: of the file as a whole. */
void conf_fail_at(struct parser *p, unsigned line, unsigned column, struct str text);
void conf_fail(struct parser *p, const struct conf_token *t, struct str text);
/* "'word' is not …" */
void conf_fail_word(struct parser *p, const struct conf_token *t, const char *what);
/* Grows a list in the arena by one element; NULL: it has `most`. */
void *conf_list_add(struct parser *p, void **list, size_t *n, size_t *cap, size_t most, size_t bytes);

/* ---- conf_value.c ---- */

bool conf_is_domain(struct str s);
struct str conf_lower_case(struct parser *p, struct str s);
/* Stores the words of the directive that was read; base: the struct that its offset is in. */
void conf_set_value(struct parser *p, const struct conf_directive *d, void *base);
/* Gives the directives of a block their defaults, through the same code as what is written. */
void conf_set_defaults(struct parser *p, enum conf_block block, void *base);

/* ---- conf_accounts.c ---- */

void conf_set_accounts(struct parser *p, struct conf_domain *d);

/* ---- conf_route.c ---- */

void conf_set_patterns(struct parser *p, void *at);
void conf_set_via(struct parser *p, struct conf_route *r);
void conf_set_source(struct parser *p, struct conf_route *r);
void conf_set_route_auth(struct parser *p, struct conf_route *r);
/* A route block begins; false: it cannot, the error is noted. */
bool conf_open_route(struct parser *p);
/* At the end, with the routes in order: domains by lmtp have a route by lmtp, for every sender. */
void conf_check_lmtp(struct parser *p);
/* At the end: what a route asks of TLS its hosts can give. */
void conf_check_route_tls(struct parser *p);
/* At the end: the route "default" is the last one, and always there. */
void conf_default_route(struct parser *p);

#endif
