/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SMTP connection: RFC 5321, from the greeting to QUIT. A coroutine runs session_serve(); it is
 * on the heap, so that a parked one is small: between commands without a transaction it holds this
 * struct, the HELO name, and nothing else.
 */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include "co/stream.h"
#include "message/header.h"
#include "smtp/address.h"
#include "smtp/command.h"
#include "smtp/data.h"
#include "smtpd/server.h"

/* The body of a message: in memory up to limits.body_memory, then in a file of queue. */
struct body {
	struct buf memory;   /* all of it, or what is not in the file yet */
	uint64_t bytes;	     /* in all */
	uint64_t file_bytes; /* of them in the file */
	int fd;		     /* -1: none */
};

/* RFC 5321 §3.3: a mail transaction, from MAIL to the reply after the message. In s->tx_arena. */
struct transaction {
	uint64_t id;
	int64_t began_ns, data_end_ns;
	struct str reverse_path; /* canonical; empty: null */
	struct str reverse_text; /* as given */
	struct mail_params params;
	struct envelope_rcpt *recipients; /* targets of all accepted forward-paths */
	size_t recipients_n, recipients_cap;
	uint32_t accepted;     /* RCPT commands answered 250 */
	uint32_t over_limit;   /* … 452 because there were too many */
	struct str first_rcpt; /* canonical */
	struct data_reader reader;
	struct header_scan *head;
	struct body body;
	enum reply_id refusal; /* the message will be refused: what comes is read and dropped */
	uint64_t received;     /* bytes, dropped ones too */
	bool bdat;	       /* began with BDAT */
	bool mended, add_date, add_message_id; /* of a submission (RFC 6409 §8) */
	bool told_queue;       /* parts or a file: queue must hear of an abort */
};

enum session_next { NEXT_COMMAND, NEXT_DATA, NEXT_CHUNK, NEXT_AUTH, NEXT_TLS, NEXT_CLOSE };

struct auth_exchange; /* authenticate.c */

struct session {
	struct smtpd *d;
	struct stream stream;
	const struct conf_listener *listener;
	uint64_t id;
	struct ip client;
	int64_t began_ns, end_ns, command_end_ns;
	struct str helo; /* own memory; empty: not said yet */
	struct line_reader lines;
	struct arena command;	/* what lives as long as a command */
	struct arena tx_arena;	/* what lives as long as a transaction */
	struct transaction *tx; /* NULL: none */
	struct auth_exchange *exchange; /* NULL: nobody is logging in */
	struct str account; /* own memory; empty: nobody has logged in */
	uint64_t chunk_left;
	uint32_t errors, junk, unknown_rcpts, transactions, messages, commands;
	uint8_t next;	       /* enum session_next */
	uint8_t chunk_refusal; /* enum reply_id: the chunk is read, dropped and answered so */
	uint8_t end_reason;    /* enum session_end */
	bool esmtp, trusted, chunk_last;
	bool noted;  /* the refusal that is being answered is in log and history already */
	bool encrypted;	 /* TLS is in use */
	bool more_input; /* there is something behind the command that is being run */
	bool linger; /* the client may not be reading yet: close gently */
};

/* What a session's log line calls its end. */
enum session_end {
	END_CLOSED,
	END_QUIT,
	END_TIMEOUT,
	END_STOPPING,
	END_EARLY_TALKER,
	END_NOT_SMTP,
	END_LIMIT,
	END_TLS,
	END_NO_MEMORY,
	END_FAILED
};

/* stream, client, listener, d are set. Returns when the connection is over; does not close the
 * stream. */
YIELDS
void session_serve(struct session *s);
/* Frees what a session holds, and closes the stream. */
YIELDS
void session_done(struct session *s);

/* ---- for the commands (cmd_*.c) ------------------------------------------------------------- */

/* A verb's handler fills in the reply and sets s->next; an error ends the session. */
struct smtpd_command {
	YIELDS
	enum err (*handle_command)(struct session *s, struct str args, struct reply *reply_out);
	bool junk; /* moves no mail by itself */
};
extern const struct smtpd_command cmd_ehlo, cmd_helo, cmd_mail, cmd_rcpt, cmd_data, cmd_bdat,
	cmd_rset, cmd_noop, cmd_quit, cmd_starttls, cmd_vrfy, cmd_help, cmd_unavailable, cmd_unknown,
	cmd_auth;
/* commands.c: the table by verb. */
const struct smtpd_command *smtpd_command_of(enum verb v);

/* Begins a transaction; NULL when there is no memory. */
struct transaction *transaction_begin(struct session *s);
/* Ends it, if there is one: nothing of it stays (RFC 5321 §4.1.1.5). */
void transaction_end(struct session *s);

/* At most until `for_ms` from now, and never beyond the session's end. */
void session_deadline(struct session *s, uint64_t for_ms);
/* Sends what is buffered. */
YIELDS
enum err session_flush(struct session *s) MUST_CHECK;
/* Sets *reply_out to a standard reply. */
static inline enum err session_say(struct reply *reply_out, enum reply_id id)
{
	*reply_out = reply_of(id);
	return ERR_NONE;
}
/* Notes a refusal for log and history. */
void session_refused(struct session *s, const struct reply *reply, struct str forward_path,
		     struct str rule);

/* ---- who the client is (authenticate.c) ------------------------------------------------------- */

/* Keeps the mechanism and the first message for session_authenticate(). REPLY_NONE, or why not. */
enum reply_id session_begin_auth(struct session *s, struct str mechanism, struct str first, bool has_first) MUST_CHECK;
/* After AUTH: the rest of the exchange; fills in the reply. */
YIELDS
enum err session_authenticate(struct session *s, struct reply *reply_out) MUST_CHECK;
void session_forget_auth(struct session *s);
/* What EHLO offers in this session, now. */
struct ext_offer session_offer(const struct session *s);
/* Whether the account may use this sender; true when nobody has logged in. */
YIELDS
enum err session_may_send(struct session *s, struct str reverse_path, bool *allowed_out) MUST_CHECK;
/* ---- TLS (cmd_starttls.c) -------------------------------------------------------------------- */

/* Whether STARTTLS would be granted now. */
bool session_may_start_tls(const struct session *s);
/* The handshake; afterwards the session is a new one. Any error is the end, and was told to log and history. */
YIELDS
enum err session_tls(struct session *s) MUST_CHECK;

/* ---- message bytes (receive.c, body.c, submit.c) -------------------------------------------- */

/* After 354: reads the message, hands it over, fills in the reply. */
YIELDS
enum err receive_data(struct session *s, struct reply *reply_out) MUST_CHECK;
/* After BDAT: the same for one chunk of s->chunk_left octets. */
YIELDS
enum err receive_chunk(struct session *s, struct reply *reply_out) MUST_CHECK;

/* ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY, ERR_CLOSED (queue), …: the message cannot be kept. */
YIELDS
enum err body_add(struct session *s, struct body *b, struct str piece) MUST_CHECK;
/* What is still in memory goes to the file, if there is one. */
YIELDS
enum err body_finish(struct session *s, struct body *b) MUST_CHECK;
void body_free(struct session *s, struct body *b);

/* Hands the message to queue: 250 only once queue says that it is on stable storage (P1). */
YIELDS
void submit(struct session *s, struct reply *reply_out);
/* What an error of queue or of the file means to the client. */
enum reply_id submit_failure(enum err e);

#endif
