/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: a small block grammar, and the table of directives that drives the parser,
 * `godwit check` and the reference manual. Read by master and by the command line; written by the
 * operator, so not hostile, but often wrong: every error of all files is reported at once, with
 * file:line:column and what to do.
 *
 *   file      = *( directive / comment )
 *   directive = word *( word ) ( ";" / "{" *( directive / comment ) "}" )
 *   word      = 1*( any byte but blank, quote, ";", "{", "}", "#" ) / DQUOTE text DQUOTE   ; \" and \\ inside
 *   comment   = "#" … end of line
 * Units: sizes 500, 64K, 50M, 2G (powers of 1024); times 300ms, 30s, 5min, 4h, 5d; yes and no.
 * `include "conf.d/NAME.conf";`, where NAME may be an asterisk, reads files in order of their names, relative to the including file.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/arena.h"
#include "ipc/calls.h"

#define CONF_FILE_MAX ((size_t)4 << 20)
#define CONF_INCLUDE_DEPTH 8u
#define CONF_ERRORS_MAX 100u
#define CONF_FILES_MAX 100u

struct conf_error {
	struct str file;
	unsigned line, column; /* 1-based; 0: the file as a whole */
	struct str text;
};
struct conf_file { /* that the configuration names, and where it does */
	struct str path, file;
	unsigned line, column;
};
struct conf_errors {
	struct conf_error v[CONF_ERRORS_MAX];
	size_t n;
	size_t more; /* beyond the table */
	struct conf_file files[CONF_FILES_MAX]; /* for conf_check_files() */
	size_t files_n;
};

/* BLOCKING. ERR_SYNTAX when errs->n > 0; strings live in `arena`. */
enum err conf_load(struct world *w, struct str path, struct arena *arena, struct conf *conf_out,
		   struct conf_errors *errs) MUST_CHECK;
/* The same from memory; `file` is only for messages, `include` is refused. */
enum err conf_parse(struct str text, struct str file, struct arena *arena, struct conf *conf_out,
		    struct conf_errors *errs) MUST_CHECK;
/* BLOCKING. Files of accounts that cannot be opened become errors: ERR_SYNTAX. A server starts without them. */
enum err conf_check_files(struct world *w, struct arena *arena, struct conf_errors *errs) MUST_CHECK;
/* Whether clients may be offered SCRAM: all domains keep the keys that it takes. */
bool conf_offers_scram(const struct conf *c);
/* Whether a domain is meant by a pattern of a route: example.org, *.example.org (what is below it), or <>. */
bool conf_pattern_fits(struct str pattern, struct str domain);
/* "file:line:column: text\n" for each. */
void conf_errors_add(struct buf *b, const struct conf_errors *errs);
/* The reference manual of all directives as Markdown. */
void conf_manual_add(struct buf *b);

#endif
