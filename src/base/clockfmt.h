/* SPDX-License-Identifier: Apache-2.0 */
/* Dates and ids as text: RFC 5322 §3.3 date-time, RFC 3339, and message ids. Pure functions. */
#ifndef BASE_CLOCKFMT_H
#define BASE_CLOCKFMT_H

#include "base/buf.h"

/* "Mon, 23 Nov 2026 18:51:03 +0000" (always UTC). wall_ms is milliseconds since 1970. */
void date_add_rfc5322(struct buf *b, int64_t wall_ms);
/* "2026-11-23T18:51:03.123Z" */
void date_add_rfc3339(struct buf *b, int64_t wall_ms);
/* The same back, of the years 1970 to 9999, with any offset from UTC and any fraction (cut to milliseconds). ERR_SYNTAX. */
enum err date_parse_rfc3339(struct str s, int64_t *wall_ms_out) MUST_CHECK;

/*
 * A message id: 64 bits = 41 bits of wall_ms since 2020-01-01, 7 bits of worker, 16 bits of counter.
 * Shown in exactly 13 characters of Crockford's base 32, lower case (0-9a-z without i l o u).
 */
#define MSG_ID_CHARS 13
uint64_t msg_id_make(int64_t wall_ms, unsigned worker, unsigned counter);
void msg_id_add(struct buf *b, uint64_t id);
/* Upper case is accepted too; anything else than 13 such characters is ERR_SYNTAX. */
enum err msg_id_parse(struct str s, uint64_t *id_out) MUST_CHECK;

#endif
