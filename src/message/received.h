/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Received field that a server adds (RFC 5321 §4.4; protocol names RFC 3848, RFC 6531 §4.3).
 * Only what a parser has checked may stand in it: the HELO name by smtp_helo_parse(), canonical
 * addresses.
 */
#ifndef MESSAGE_RECEIVED_H
#define MESSAGE_RECEIVED_H

#include "base/buf.h"
#include "base/ip.h"

struct received {
	struct str helo; /* checked; empty: neither it nor the client's address is told */
	struct ip client;
	struct str hostname; /* ours */
	struct str protocol; /* "ESMTP", … */
	struct str tls_version, tls_cipher; /* empty: it came without */
	uint64_t id;
	struct str only_recipient; /* canonical; empty: none or several, whose names are nobody's
				      business */
	int64_t wall_ms;
};
/* Appends the whole field, folded, with its last CRLF. */
void received_add(struct buf *b, const struct received *r);

/* SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA (RFC 3848); UTF8SMTP and so on (RFC 6531 §4.3). */
struct str received_protocol(bool esmtp, bool smtputf8, bool tls, bool auth);

#endif
