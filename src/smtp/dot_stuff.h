/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message on its way out by DATA: RFC 5321 §4.5.2 (transparency), §4.1.1.4 (the end). Pure and
 * incremental; the opposite of data.h. The message's bytes are views: nothing is copied.
 *
 * Invariants:
 *  T1  What goes out is the message with a dot added before each dot that begins a line, a CRLF added when
 *      the message does not end in one, and ".CRLF"; nothing else is added or changed. An empty message
 *      is the end alone.
 *  T2  A CR or LF that is not part of CRLF sets `bare`: somebody might end a line there, and so be made to
 *      see the end of the message (P6, H2). Such a message must not be finished.
 */
#ifndef SMTP_DOT_STUFF_H
#define SMTP_DOT_STUFF_H

#include "base/str.h"

struct dot_stuff {
	bool bare;
	uint8_t state; /* private */
};

/*
 * d is zeroed before the first call. The next piece of `in`, a view of it that may be sent as it is; when *dot_out, a dot goes out before
 * it. Call again with what is behind the piece, until nothing is left.
 */
struct str dot_stuff_next(struct dot_stuff *d, struct str in, bool *dot_out);
/* What ends the message. Sets `bare` when a CR is left over. */
struct str dot_stuff_end(struct dot_stuff *d);

#endif
