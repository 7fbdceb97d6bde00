/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parameters of MAIL and RCPT (RFC 5321 §4.1.2: Mail-parameters; RFC 6531 §3.3 adds UTF-8), and
 * xtext (RFC 3461 §4). Pure functions over a stranger's bytes; views into the command line.
 */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H

#include "base/buf.h"

#define PARAMS_MAX 16u

struct param {
	struct str keyword, value;
	bool has_value;
};
struct params {
	struct param v[PARAMS_MAX];
	size_t n;
};

/* What stands behind the path: SP param SP param …; empty is fine. ERR_SYNTAX also for one given
 * twice. */
enum err params_parse(struct str s, struct params *params_out) MUST_CHECK;

/* Appends the decoded form. ERR_SYNTAX; ERR_LIMIT when the buffer is full. */
enum err xtext_decode(struct str xtext, struct buf *b) MUST_CHECK;

#endif
