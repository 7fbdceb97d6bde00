/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server answers to us: RFC 5321 §4.2, §4.2.1 (replies of several lines), RFC 2034 and RFC 3463
 * (enhanced status codes). Pure and incremental; every byte is a stranger's (H17).
 *
 * Invariants, for any input:
 *  R1  A reply has at most CLIENT_REPLY_LINES_MAX lines and CLIENT_REPLY_BYTES_MAX bytes; one that goes on
 *      is bad, and so is one with a NUL, with a code outside 200–559, or whose lines differ in their code.
 *  R2  `text` is well-formed UTF-8 without control characters, at most CLIENT_REPLY_TEXT_MAX bytes: it may
 *      stand in logs and in delivery status notifications. What was something else is shown as '?'.
 *  R3  `enhanced` is empty, or of the class of the code.
 *  R4  However the input is cut, the result is the same.
 */
#ifndef SMTP_CLIENT_REPLY_H
#define SMTP_CLIENT_REPLY_H

#include "base/str.h"

#define CLIENT_REPLY_TEXT_MAX  400u
#define CLIENT_REPLY_LINE_MAX  2000u /* RFC 5321 §4.5.3.1.5 says 512; with its end of line */
#define CLIENT_REPLY_LINES_MAX 128u
#define CLIENT_REPLY_BYTES_MAX 32768u

struct client_reply {
	uint16_t code; /* 0: nothing was read yet */
	uint8_t enhanced_n;
	char enhanced[12];
	uint16_t text_n; /* the lines' texts, a blank between them */
	char text[CLIENT_REPLY_TEXT_MAX];
	uint32_t lines, bytes; /* private */
};

enum client_reply_result {
	CLIENT_REPLY_NEED_MORE, /* no whole line; nothing was used */
	CLIENT_REPLY_LINE,	/* a line, and others follow */
	CLIENT_REPLY_LAST,	/* a line, and the reply is whole */
	CLIENT_REPLY_BAD	/* this is no reply: hang up */
};
/*
 * Takes the next line of a reply from `in`; r is zeroed before the first. *line_out is a view of what
 * follows the code, without the end of line. *used_out bytes are done with.
 */
enum client_reply_result client_reply_next(struct client_reply *r, struct str in, struct str *line_out,
					   size_t *used_out);

static inline struct str client_reply_text(const struct client_reply *r)
{
	return str_of(r->text, r->text_n);
}
static inline struct str client_reply_enhanced(const struct client_reply *r)
{
	return str_of(r->enhanced, r->enhanced_n);
}

/* RFC 3463 §2: "5.7.1" at the start of s, followed by a blank or nothing: its length, else 0. */
size_t enhanced_code_length(struct str s);

#endif
