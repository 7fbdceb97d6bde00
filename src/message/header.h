/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at the header section of a message while it arrives: RFC 5322 §2.2, RFC 5321 §6.3 (loops).
 * Pure, incremental; the bytes are a stranger's and are only counted and compared, never changed.
 *
 * The section ends at the first empty line, or before the first line that is no field (H41): that
 * line begins the body. Sizes are bounded (H40): beyond them `too_big` is set and nothing is looked
 * at any more.
 */
#ifndef MESSAGE_HEADER_H
#define MESSAGE_HEADER_H

#include "base/str.h"

#define HEADER_BYTES_MAX      ((uint64_t)1 << 20)
#define HEADER_FIELDS_MAX     5000u
#define HEADER_LINES_MAX      50000u
#define HEADER_MESSAGE_ID_MAX 300u
#define HEADER_CAPTURE_BYTES  512u

struct header_scan {
	uint64_t bytes; /* of the section so far, without the empty line */
	uint32_t fields, lines, received;
	bool ended, too_big;
	bool bare; /* a CR or LF that is no CRLF, or a NUL, in the section */
	/* private from here on */
	bool last_was_cr;
	uint8_t current; /* the field that a folded line continues */
	uint16_t line_n, message_id_n, delivered_n;
	uint32_t line_bytes; /* of the line, beyond what `line` holds */
	char line[HEADER_CAPTURE_BYTES];
	char message_id[HEADER_MESSAGE_ID_MAX];
	char delivered[1024]; /* addresses, each with an LF behind it */
};

/* A zeroed struct is one at the start of a message. */
void header_scan_feed(struct header_scan *h, struct str bytes);
/* The value of the first Message-ID field, without blanks around it; empty: none. */
struct str header_message_id(const struct header_scan *h);
/* A Delivered-To field names this address (without regard to case). */
bool header_was_delivered_to(const struct header_scan *h, struct str address);

#endif
