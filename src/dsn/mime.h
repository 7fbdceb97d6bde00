/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for header fields and MIME parts: cleaning of a stranger's words, folding (RFC 5322 §2.2.3),
 * quoted-printable (RFC 2045 §6.7), encoded words (RFC 2047). Pure functions.
 */
#ifndef DSN_MIME_H
#define DSN_MIME_H

#include "base/buf.h"

#define MIME_LINE_MAX  998u /* RFC 5322 §2.1.1, without CRLF */
#define MIME_LINE_GOOD 76u

enum mime_charset { MIME_ASCII, MIME_UTF8 };

/*
 * At most max bytes of s on one line: a run of blanks and controls becomes one space; what is not
 * in the charset, malformed UTF-8, and characters that turn or break a line become '?'.
 */
void mime_add_clean(struct buf *b, struct str s, enum mime_charset charset, size_t max);
/* An address, whose blanks count: they stay as they are. At most MIME_ADDRESS_MAX bytes. */
#define MIME_ADDRESS_MAX 390u
void mime_add_address(struct buf *b, struct str s, enum mime_charset charset);

/* A field "Name: value" with CRLF, folded before spaces. The value must be clean. */
void mime_add_field(struct buf *b, struct str name, struct str value);
/* The same where the value may have UTF-8, but the header may not: as encoded words. */
void mime_add_field_encoded(struct buf *b, struct str name, struct str value);

/* Words of a clean text in lines of 76, each behind `indent` spaces; over-long words are cut. */
void mime_add_wrapped(struct buf *b, size_t indent, struct str s);

/* s has lines with CRLF; any other CR, LF or control is encoded. Ends with CRLF if s has any byte.
 */
void mime_add_quoted_printable(struct buf *b, struct str s);

struct mime_facts {
	bool eight_bit; /* bytes above 0x7f */
	bool bad;	/* NUL, a bare CR or LF, or a line above 998 octets: not for 7bit or 8bit */
};
struct mime_facts mime_look(struct str s);

#endif
