/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between client.c (transactions), client_wire.c (bytes, connecting, closing) and client_tls.c. Each function that fails
 * has noted why in d->trouble, unless it says otherwise.
 */
#ifndef RELAY_CLIENT_INTERNAL_H
#define RELAY_CLIENT_INTERNAL_H

#include "relay/client.h"

/* A point in time: `ms` from now, but not beyond what is left for the delivery. */
int64_t client_deadline(const struct client *c, const struct delivery *d, uint64_t ms);

YIELDS enum err client_write(struct client *c, struct delivery *d, struct str bytes, const char *what) MUST_CHECK;
YIELDS enum err client_flush(struct client *c, struct delivery *d, const char *what) MUST_CHECK;
/*
 * A whole reply, until at_ns. ERR_CLOSED with r_out->code 421: the server ends the connection; the
 * caller is to do so too. Also ERR_TIMEOUT, ERR_EOF, ERR_SYNTAX (no reply), ERR_CANCELLED.
 */
YIELDS enum err client_reply_read(struct client *c, struct delivery *d, int64_t at_ns, const char *what,
				  struct client_reply *r_out) MUST_CHECK;
/* Sends a line and wants 2xx. */
YIELDS enum err client_command(struct client *c, struct delivery *d, struct str line, const char *what) MUST_CHECK;
/* EHLO, or what else fits; all that was known of the server before is forgotten. */
YIELDS enum err client_hello(struct client *c, struct delivery *d) MUST_CHECK;
/* The server does not want to talk now. ERR_CLOSED. */
enum err client_turned_away(struct client *c, struct delivery *d, const struct client_reply *r, const char *what) MUST_CHECK;
/* Notes in d->trouble, and in the log. */
void client_trouble(struct client *c, struct delivery *d, struct finding f);
/* What becomes of c->by. */
void client_by_add(struct client *c, struct str text);
/* STARTTLS (RFC 3207) if it is offered and wanted, the handshake, and EHLO again. */
YIELDS enum err client_starttls(struct client *c, struct delivery *d) MUST_CHECK;
/* AUTH (RFC 4954) if the route says so. */
YIELDS enum err client_auth(struct client *c, struct delivery *d) MUST_CHECK;
YIELDS enum err client_handshake(struct client *c, struct delivery *d) MUST_CHECK;
/* The reply is one, but not to this. ERR_SYNTAX. */
enum err client_nonsense(struct client *c, struct delivery *d, const char *what) MUST_CHECK;
/*
 * The whole message and its end. ERR_IO: the message itself cannot be sent, to nobody; d->own says why.
 * After another error the end has not been sent.
 */
YIELDS enum err client_send_message(struct client *c, struct delivery *d, bool bdat) MUST_CHECK;
/* Notes in d->own that we could not read the message, and returns ERR_IO. */
enum err client_own_trouble(struct delivery *d, enum err e) MUST_CHECK;

#endif
