/* SPDX-License-Identifier: Apache-2.0 */
/* The table of directives: the only list of what may stand in a configuration. See conf_table.c. */
#ifndef CONF_CONF_TABLE_H
#define CONF_CONF_TABLE_H

#include "conf/conf.h"

enum conf_kind {
	CONF_TEXT,	/* struct str */
	CONF_PATH,	/* struct str, absolute */
	CONF_NAME,	/* struct str, a domain name in lower case */
	CONF_ADDRESS,	/* struct str, local-part@domain or empty by "none" */
	CONF_SIZE,	/* uint64_t, bytes */
	CONF_TIME,	/* uint64_t, milliseconds */
	CONF_COUNT,	/* uint32_t */
	CONF_BOOL,	/* bool */
	CONF_NOT_BOOL,	/* bool, reversed */
	CONF_NETWORKS,	/* list of ip, one or more words */
	CONF_LISTEN,	/* listeners: address words of the open listen block */
	CONF_LOG_FORMAT, CONF_LOG_LEVEL, /* uint8_t */
	CONF_TLS,	/* enum tls_mode */
	CONF_AUTH,	/* enum auth_mode */
	CONF_SERVERS,	/* list of ip with ports, 53 unless given; one or more words */
	CONF_STUB,	/* one more element of conf.resolver.stubs */
	CONF_MAILBOX,	/* enum mailbox_kind, of the open domain block */
	CONF_ACCOUNTS,	/* of the open domain block: where its accounts are */
	CONF_PATTERNS,	/* list of conf_word: domains, *.domains and <> */
	CONF_VIA,	/* of the open route block: kind and hops */
	CONF_SOURCE,	/* of the open route block: outbound addresses */
	CONF_IP_CHOICE, /* enum ip_choice */
	CONF_ROUTE_AUTH, /* of the open route block: user and file */
	CONF_ROUTE_TLS, /* enum route_tls */
	CONF_CERTIFICATE, CONF_KEY, /* of conf.tls.certificates: another pair; the other half of the last */
	CONF_TLS_VERSION, /* bool: nothing below TLS 1.3 */
};
enum conf_block { CONF_TOP, CONF_IN_LISTEN, CONF_IN_DOMAIN, CONF_IN_RELAY_DOMAIN, CONF_IN_ROUTE, CONF_IN_LIMITS, CONF_IN_TIMEOUTS, CONF_IN_RESOLVER, CONF_IN_TLS, CONF_IN_USERS, CONF_BLOCKS };

struct conf_directive {
	enum conf_block block;
	const char *name;
	enum conf_kind kind;
	size_t offset;	 /* in struct conf, or in the block's own struct */
	const char *initial; /* default as it would be written; NULL: must be given */
	uint64_t min, max; /* of numbers; max 0: no limit */
	const char *doc;
};
extern const struct conf_directive conf_directives[];
extern const size_t conf_directives_n;
extern const char *const conf_block_names[CONF_BLOCKS]; /* "listen", …; CONF_TOP is "" */

/* Lexer. */
enum conf_token_kind { CONF_WORD, CONF_SEMICOLON, CONF_OPEN, CONF_CLOSE, CONF_END, CONF_BAD };
struct conf_token {
	enum conf_token_kind kind;
	struct str text; /* of a word, unquoted, in the arena if it was quoted */
	unsigned line, column;
	bool quoted;
};
struct conf_lexer {
	struct str rest;
	unsigned line, column;
	struct arena *arena;
};
struct conf_token conf_next_token(struct conf_lexer *lx);

/* Values: false when the word is not one. */
bool conf_size(struct str s, uint64_t *bytes_out);
bool conf_time(struct str s, uint64_t *ms_out);
/* Nearest of the names by edit distance, or NULL when none is near. */
const char *conf_nearest(struct str word, const char *const *names, size_t n);

#endif
