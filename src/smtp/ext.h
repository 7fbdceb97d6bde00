/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMTP service extensions (RFC 5321 §2.2, §4.1.1.1). One extension is one file ext_*.c: its line
 * after EHLO and when it is offered, and its parameters of MAIL and RCPT. ext.c lists them.
 */
#ifndef SMTP_EXT_H
#define SMTP_EXT_H

#include "ipc/calls.h"
#include "smtp/params.h"
#include "smtp/reply.h"

/* What an offer depends on. */
struct ext_offer {
	uint64_t message_bytes;
	uint32_t recipients, transactions;
	bool smtputf8, starttls;
	bool auth;	   /* AUTH is spoken of: its parameter of MAIL is known */
	struct str auth_mechanisms; /* empty: none now */
	int64_t now_ms, hold_ms; /* the wall clock; the longest that a message may be held for its sender; 0: not offered */
};

/* What the parameters of MAIL say; strings are views into the command line. */
struct mail_params {
	uint64_t size; /* 0: not declared */
	enum body_kind body;
	bool smtputf8;
	enum dsn_ret ret;
	struct str envid; /* as given */
	int64_t not_before_ms; /* RFC 4865; 0: at once */
};
struct rcpt_params {
	uint8_t notify;	  /* bits of envelope_rcpt.notify */
	struct str orcpt; /* as given */
};

struct ext {
	/* Appends its EHLO line, keyword and parameters; false and nothing: not offered. */
	bool (*line)(const struct ext_offer *o, struct buf *b);
	/*
	 * Takes one parameter: REPLY_NONE, REPLY_UNKNOWN_PARAMETER when it belongs to somebody
	 * else, or a refusal. NULL: has none.
	 */
	enum reply_id (*mail)(const struct ext_offer *o, const struct param *p,
			      struct mail_params *out);
	enum reply_id (*rcpt)(const struct ext_offer *o, const struct param *p,
			      struct rcpt_params *out);
};

extern const struct ext ext_size, ext_8bitmime, ext_pipelining, ext_enhancedstatuscodes,
	ext_smtputf8, ext_chunking, ext_binarymime, ext_limits, ext_dsn, ext_starttls, ext_auth, ext_futurerelease;

/* Appends the lines that are offered, each after an LF. */
void ext_lines_add(const struct ext_offer *o, struct buf *b);

/* All parameters of a MAIL or RCPT command. REPLY_NONE, or why it is refused. */
enum reply_id ext_mail_params(const struct ext_offer *o, struct str s, struct mail_params *out);
enum reply_id ext_rcpt_params(const struct ext_offer *o, struct str s, struct rcpt_params *out);

#endif
