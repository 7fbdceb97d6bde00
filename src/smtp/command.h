/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines: RFC 5321 §2.3.8, §2.4, §4.1.1, §4.5.3.1.4. Pure functions over a stranger's bytes.
 *
 * Only CRLF ends a command (P6). A line that holds a bare CR, a bare LF or a NUL is never executed,
 * and neither is what follows a bare LF up to the next CRLF: for somebody else that was one line
 * (H1).
 */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H

#include "base/str.h"

/*
 * RFC 5321 §4.5.3.1.4: 512 octets, and more for each extension's parameters; this is enough for all
 * of them together. With its CRLF.
 */
#define COMMAND_LINE_MAX 2048u
#define COMMAND_AUTH_LINE_MAX 12288u /* RFC 4954 §4 */
/* So much of an over-long line is read and dropped; then we hang up (H6). */
#define COMMAND_DISCARD_MAX 65536u

/* In the order of the table in command.c. */
enum verb {
	VERB_UNKNOWN,
	VERB_EHLO,
	VERB_HELO,
	VERB_MAIL,
	VERB_RCPT,
	VERB_DATA,
	VERB_BDAT,
	VERB_RSET,
	VERB_NOOP,
	VERB_QUIT,
	VERB_VRFY,
	VERB_EXPN,
	VERB_HELP,
	VERB_STARTTLS,
	VERB_AUTH,
	VERB_ETRN,
	VERB_ATRN,
	VERB_TURN,
	VERB_COUNT
};

struct command {
	enum verb verb;
	struct str args; /* behind the verb, without blanks at its ends */
};

enum line_result {
	LINE_NEED_MORE, /* no end of line yet, and still room */
	LINE_WHOLE,	/* a command line, without its CRLF */
	LINE_BAD,	/* bare CR or LF, or NUL: 500 */
	LINE_TOO_LONG,	/* 500, once; the rest of the line is dropped */
	LINE_ENDLESS	/* close */
};
struct line_reader {
	bool tail;	    /* a bare LF came before: what follows is no command */
	bool discarding;    /* in the rest of an over-long line */
	uint32_t discarded; /* bytes of it */
};
/* Looks at the input; *used_out bytes of it are done with (also with LINE_NEED_MORE, when
 * discarding). */
enum line_result line_next(struct line_reader *r, struct str in, struct str *line_out,
			   size_t *used_out);

struct command command_parse(struct str line);
/* "MAIL"; "" for the unknown one. */
struct str verb_name(enum verb v);

/*
 * H18: the first bytes are not SMTP's: an HTTP request, a TLS ClientHello, an SSH banner. Only
 * certain once a whole line or eight bytes are there.
 */
bool command_is_foreign(struct str first_bytes);

#endif
