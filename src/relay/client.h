/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to another server, in which we are the client: SMTP (RFC 5321) or LMTP (RFC 2033). A
 * coroutine at a time uses it; between messages it may lie in the pool. What the server says is hostile.
 *
 * Extensions used where announced: SIZE, PIPELINING, 8BITMIME, SMTPUTF8, DSN, LIMITS, and CHUNKING for
 * BINARYMIME. A message is never changed to suit a server (RFC 6152 §3 leaves that or a refusal).
 */
#ifndef RELAY_CLIENT_H
#define RELAY_CLIENT_H

#include "co/stream.h"
#include "relay/delivery.h"
#include "relay/secure.h"
#include "smtp/capabilities.h"
#include "smtp/client_reply.h"

#define CLIENT_BY_MAX 420u
#define CLIENT_MESSAGES_MAX 100u /* a connection; a server's MAILMAX may be less */
#define CLIENT_DOMAINS_MAX 32u	 /* likewise, RCPTDOMAINMAX: of a server that has such a limit */

struct client {
	struct list link; /* the pool's */
	struct relay_env *env;
	struct stream stream;
	const struct conf_route *route;
	struct ip address;  /* with port; family IP_UNIX: a path */
	struct str path;    /* of the configuration */
	bool lmtp;
	bool check_name;    /* its greeting with our own name is a loop (H100) */
	bool heard;	    /* since it came from the pool, a MAIL was accepted */
	bool reused;	    /* it came from the pool */
	bool in_transaction; /* MAIL was accepted, and the transaction was not finished: RSET first */
	struct capabilities caps;
	const struct secure *secure; /* while it is opened; NULL: no TLS */
	uint64_t secure_key;	     /* C3 */
	bool in_clear;		     /* the second try: TLS failed, and nothing demands it */
	bool heard_tls;		     /* a reply came under TLS */
	bool tls_failed;	     /* the handshake did, or what should have been said under it */
	uint32_t messages;  /* transactions so far */
	uint32_t domains[CLIENT_DOMAINS_MAX]; /* hashes of those that RCPT named so far, where they are counted */
	uint8_t domains_n;
	int64_t idle_until_ns;
	uint16_t by_n;
	char by[CLIENT_BY_MAX]; /* "mx.example.org [192.0.2.1]:25, TLSv1.3, verified by DANE" */
};

/*
 * Connects, hears the greeting and the answer to EHLO, and begins TLS as `secure` says; when that fails and
 * nothing demands it, all over again without (RFC 7435 §3). On failure d->trouble says why, and
 *   ERR_EXISTS  it is ourselves (a loop)
 *   ERR_DENIED  the system has no way there (another address may do; costs no time)
 *   others      try the next host
 */
YIELDS enum err client_open(struct relay_env *env, const struct conf_route *route, const struct mx_target *target,
			    const struct secure *secure, struct delivery *d, struct client **client_out) MUST_CHECK;
/* The part behind connecting: for client_open(), and for tests that bring their own stream. */
YIELDS enum err client_greet(struct client *c, struct delivery *d) MUST_CHECK;
/*
 * One transaction, for as many open recipients as the server takes at once. ERR_NONE: the connection is
 * good for another; at least one recipient was decided. Otherwise it is to be closed, d->trouble says
 * why, and recipients that are still open may be tried elsewhere.
 */
YIELDS enum err client_deliver(struct client *c, struct delivery *d) MUST_CHECK;
/* Another message may follow. d: this one, for at least one of its open recipients; NULL: any. */
bool client_can_go_on(const struct client *c, const struct delivery *d);
/* Says QUIT, waits a moment for the answer, closes and frees. */
YIELDS void client_quit(struct client *c);
/* Closes and frees without a word. */
void client_drop(struct client *c);

static inline struct str client_by(const struct client *c)
{
	return str_of(c->by, c->by_n);
}

#endif
