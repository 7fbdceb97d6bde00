/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery status notifications: who is to get one (RFC 3461 §4.1, §5), and how one is composed
 * (RFC 3464 in the multipart/report of RFC 6522; RFC 6533 where addresses or header are UTF-8).
 * Pure functions. Hostile: addresses, the remote's words, the original's header and body (H91,
 * H92).
 *
 * Invariants of what is composed, whatever comes in:
 *   N1  every line ends with CRLF, which nothing else does; no NUL; no line is above 998 octets;
 *   N2  the boundary occurs in its five places and nowhere else;
 *   N3  a stranger's bytes never begin a header field, neither of the DSN nor in its report;
 *   N4  bytes above 0x7f only when info_out says so, in parts that are labelled 8bit, and in the
 *       header only when it says SMTPUTF8.
 */
#ifndef DSN_DSN_H
#define DSN_DSN_H

#include "base/buf.h"
#include "ipc/calls.h"

/* envelope_rcpt.notify */
enum dsn_notify {
	DSN_NOTIFY_NEVER = 1,
	DSN_NOTIFY_SUCCESS = 2,
	DSN_NOTIFY_FAILURE = 4,
	DSN_NOTIFY_DELAY = 8
};
/* RFC 3464 §2.3.3 */
enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_RELAYED, DSN_DELIVERED, DSN_EXPANDED, DSN_ACTIONS };

/*
 * Whether the sender is to be told. `notify` as in the envelope, 0: unset. DSN_RELAYED is asked for
 * only where the next host did not announce DSN: otherwise that host reports (RFC 3461 §5.2.2).
 */
bool dsn_wanted(uint8_t notify, enum dsn_action action, struct str reverse_path);
/* What the targets of an alias with several of them inherit (RFC 3461 §5.2.7.3 c). */
uint8_t dsn_notify_of_expanded(uint8_t notify);

struct dsn_rcpt {
	const struct envelope_rcpt *rcpt;
	enum dsn_action action;
	struct str status;	 /* enhanced code; one that does not fit the action is replaced */
	uint16_t code;		 /* reply code of the remote; 0: the words are ours */
	struct str text;	 /* what the remote said, or we found; empty: nothing */
	struct str remote;	 /* "mx.example.org [192.0.2.1]:25"; empty: none was reached */
	int64_t last_attempt_ms; /* 0: none */
	int64_t will_retry_until_ms; /* delayed only; 0: unknown */
};

struct dsn {
	const struct envelope *envelope; /* of the original */
	const struct dsn_rcpt *rcpts;	 /* at least one; not those who are not to be told of */
	size_t rcpts_n;
	struct str hostname; /* ours: the reporting MTA */
	struct str to;	     /* who gets it; empty: the original's reverse-path */
	struct str contact;  /* address of people who can help; empty: none is named */
	uint64_t id;	     /* message id of the DSN */
	int64_t now_ms;
	uint8_t random[16]; /* makes the boundary: not to be known beforehand */
	/* The original: the trace fields we added, and as much of its start as there is. */
	struct str prefix, message;
	uint64_t message_bytes; /* all of it, without the prefix */
	uint64_t full_max;	/* beyond so many bytes only the header is returned */
};

struct dsn_info {
	enum body_kind body; /* seven_bit or eight_bit_mime: the BODY to send it with */
	bool smtputf8;	     /* can only travel with SMTPUTF8: its addressee is not ASCII */
	bool full;	     /* the whole original is in it */
};

/*
 * Appends the whole message, header and body, to `out`. `mem` is for scratch, freed at return.
 * ERR_SYNTAX: the addressee is no address, or there is no recipient. ERR_LIMIT: `out` is full.
 * ERR_NO_MEMORY.
 */
enum err dsn_compose(const struct dsn *d, struct mem *mem, struct buf *out,
		     struct dsn_info *info_out) MUST_CHECK;

#endif
