/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewritten reverse-paths: mail that an alias sends on to another domain leaves with an address of
 * ours, so that the sender's SPF policy (RFC 7208) does not forbid it, and a bounce finds its way
 * back through us. The Sender Rewriting Scheme, in its usual form:
 *
 *   SRS0=HHHHHHHH=TT=domain=local@ours           for local@domain
 *   SRS1=TTHHHHHHHH=first==HHH=TT=domain=local@ours for SRS0=HHH=TT=domain=local@first
 *
 * TT is the day, modulo 1024, in base 32; H are 40 bits of HMAC-SHA256 over what follows them, in
 * base 32: forwarders only verify their own, so the length is free, and 20 bits could be guessed.
 * With SRS1 the day of ours, which is signed too, stands before them for the same reason: others
 * replace the whole, and the day behind it is in the hands of the first forwarder.
 * Hash and day compare without case, because some servers fold local parts.
 *
 * Pure functions but for libcrypto. Hostile: every address.
 */
#ifndef MESSAGE_SRS_H
#define MESSAGE_SRS_H

#include "base/buf.h"

#define SRS_SECRETS_MAX 8u
#define SRS_SECRET_MIN	16u  /* characters */
#define SRS_DAYS	21u  /* a bounce may come for so long */
#define SRS_ADDRESS_MAX 254u /* RFC 5321 §4.5.3.1.3, without brackets */

struct srs {
	struct str secrets[SRS_SECRETS_MAX]; /* the first signs, all verify */
	size_t secrets_n;
	struct str domain; /* canonical */
};

/*
 * The secrets in a file's text, one a line, "#" begins a comment; they are views of it.
 * ERR_SYNTAX: none, or a short one. ERR_LIMIT: too many.
 */
enum err srs_secrets_parse(struct srs *s, struct str text) MUST_CHECK;

/*
 * Appends the reverse-path for forwarded mail. `address` is canonical; the null reverse-path and an
 * address of s->domain stay as they are. The local part may exceed 64 octets (RFC 5321 §4.5.3.1.1);
 * ERR_LIMIT: the whole would exceed SRS_ADDRESS_MAX, nothing is appended. ERR_SYNTAX: no address.
 * ERR_NO_MEMORY: libcrypto failed.
 */
enum err srs_forward(const struct srs *s, struct str address, int64_t now_ms, struct buf *b)
	MUST_CHECK;

enum srs_verdict {
	SRS_OK,	      /* the address behind it was appended, canonical */
	SRS_NONE,     /* no rewritten address of ours */
	SRS_BAD_HASH, /* forged, or signed with a secret that is gone */
	SRS_EXPIRED
};
/* `address` is canonical. ERR_LIMIT (of b), ERR_NO_MEMORY. */
enum err srs_reverse(const struct srs *s, struct str address, int64_t now_ms, struct buf *b,
		     enum srs_verdict *verdict_out) MUST_CHECK;

#endif
