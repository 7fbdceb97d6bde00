/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies: RFC 5321 §4.2, with enhanced status codes (RFC 2034, RFC 3463). The printer is the only
 * place that writes CRLF. The sentences stand in replies.def.
 */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#include "base/buf.h"

/* RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets, with code and CRLF. */
#define REPLY_LINE_MAX 512u
/* What one reply may take when printed; more lines than fit are left out. */
#define REPLY_BYTES_MAX 4096u

enum reply_id {
	REPLY_NONE = 0, /* no reply: all is well so far */
#define REPLY(name, code, enhanced, text) REPLY_##name,
#include "smtp/replies.def"
#undef REPLY
	REPLY_COUNT
};

struct reply {
	uint16_t code;
	struct str enhanced; /* empty: none */
	struct str text; /* lines separated by LF; other than printable bytes are shown as '?' */
};

/* A standard reply; REPLY_NONE gives code 0. */
struct reply reply_of(enum reply_id id);
/* "HELO_FIRST": for logs and the history. */
struct str reply_name(enum reply_id id);
static inline bool reply_is_refusal(const struct reply *r)
{
	return r->code >= 400;
}

/*
 * Prints it. RFC 2034 §4: each line of a reply has the enhanced code, with HELO too. UTF-8 is printed as it is
 * when it is well-formed (RFC 6531 §3.5), so the text must hold such only for clients that asked
 * for it.
 */
void reply_add(struct buf *b, const struct reply *r);

#endif
