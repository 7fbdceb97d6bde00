/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648 §4): strict, for protocols; no line breaks, no other characters, no bits left over. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/arena.h"
#include "base/buf.h"

#define BASE64_BYTES(n) (((n) + 2) / 3 * 4)

void base64_add(struct buf *b, struct str bytes);
struct str base64_encode(struct arena *a, struct str bytes);
/* Padded, as RFC 4648 §3.2 has it. ERR_SYNTAX; ERR_LIMIT, ERR_NO_MEMORY of the arena. */
enum err base64_decode(struct arena *a, struct str text, struct str *bytes_out) MUST_CHECK;

#endif
