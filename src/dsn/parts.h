/* SPDX-License-Identifier: Apache-2.0 */
/* The content of a DSN's first two parts. Private to this folder; what is promised stands in dsn.h.
 */
#ifndef DSN_PARTS_H
#define DSN_PARTS_H

#include "dsn/dsn.h"
#include "dsn/mime.h"

/* The status to report: the given one when it is well-formed and of the action's class. */
struct str dsn_status(const struct dsn_rcpt *r);

/* Part 1: plain text for the sender, lines of 76, in UTF-8 (which may all be ASCII). */
void dsn_add_text(struct buf *b, const struct dsn *d, bool full);

/* Part 2 (RFC 3464 §2). With MIME_UTF8: message/global-delivery-status (RFC 6533 §4.1). */
void dsn_add_report(struct buf *b, const struct dsn *d, enum mime_charset charset);
/* Whether something in the report cannot be said in ASCII. */
bool dsn_report_is_global(const struct dsn *d);

/* What a status means, for people; never NULL. Advice may be empty. */
struct dsn_meaning {
	const char *status; /* "5.1.1"; "*" stands for any of the three numbers */
	const char *text, *advice;
};
const struct dsn_meaning *dsn_meaning(struct str status);

#endif
