/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a message as they arrive: RFC 5321 §4.1.1.4, §4.5.2 (transparency), §2.3.8 (lines),
 * and RFC 3030 (chunks). Pure, incremental: however the input is cut, the result is the same (H4).
 *
 * Invariants, for any input:
 *  D1  DATA ends at CRLF "." CRLF (or "." CRLF at its very start) and nowhere else (P6, H2).
 *  D2  What is handed out is the input without the dot that begins a line and without the last
 * three octets; nothing is added or changed. D3  A CR or LF that is not part of CRLF, anywhere,
 * sets `bare`; a NUL sets `nul`. Such a message is refused after its true end; no byte of it is
 * taken for a command.
 */
#ifndef SMTP_DATA_H
#define SMTP_DATA_H

#include "base/str.h"

/* RFC 5321 §4.5.3.1.6 asks for 1000; longer lines are taken as they are, up to this. */
#define DATA_LINE_MAX ((uint64_t)1 << 20)

enum data_framing {
	DATA_DOTS,  /* DATA: dot-stuffed, ended by a dot */
	DATA_PLAIN, /* BDAT: text, length known from outside */
	DATA_BINARY /* BDAT with BODY=BINARYMIME: no lines at all */
};
struct data_reader {
	uint8_t framing; /* enum data_framing */
	uint8_t state;	 /* private */
	bool bare, nul, long_line, has_8bit;
	bool ended; /* DATA_DOTS: the end has been seen */
	uint64_t line_bytes;
};

struct data_reader data_reader_make(enum data_framing framing);
/*
 * The next piece of content in `in` (a view of it, maybe empty); *used_out bytes are done with.
 * Call again with the rest until nothing is left or r->ended; what is behind the end is not
 * touched.
 */
struct str data_next(struct data_reader *r, struct str in, size_t *used_out);
/* BDAT: the last chunk has been read. A CR may be left over. */
void data_finish(struct data_reader *r);

#endif
