/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sessions of one smtpd share. Runs in smtpd, whose clients are strangers: every byte that
 * a session reads is hostile. It asks lookup about recipients and hands messages to queue; both
 * stand behind struct smtpd_backend, so that a session can be tested and fuzzed without other
 * processes.
 */
#ifndef SMTPD_SERVER_H
#define SMTPD_SERVER_H

#include "base/log.h"
#include "base/metrics.h"
#include "co/co.h"
#include "ipc/calls.h"
#include "smtp/ext.h"
#include "smtpd/cache.h"
#include "smtpd/clients.h"
#include "smtpd/refusals.h"
#include "tls/tls.h"

/* Questions to other processes. Errors as ipc_call() gives them. */
struct smtpd_backend {
	YIELDS
	enum err (*ask_rcpt)(void *arg, const struct lookup_rcpt_in *in, struct arena *arena,
			     struct lookup_rcpt_out *out);
	YIELDS
	enum err (*submit_part)(void *arg, const struct queue_part_in *in, struct arena *arena);
	YIELDS
	enum err (*submit_file)(void *arg, uint64_t id, struct arena *arena, int *fd_out);
	YIELDS
	enum err (*submit_message)(void *arg, const struct queue_submit_in *in,
				   struct arena *arena);
	YIELDS
	enum err (*ask_password)(void *arg, const struct auth_password_in *in, struct arena *arena,
				 struct auth_password_out *out);
	YIELDS
	enum err (*ask_scram_first)(void *arg, const struct auth_scram_first_in *in, struct arena *arena,
				    struct auth_scram_first_out *out);
	YIELDS
	enum err (*ask_scram_final)(void *arg, const struct auth_scram_final_in *in, struct arena *arena,
				    struct auth_scram_final_out *out);
	YIELDS
	enum err (*ask_sender)(void *arg, const struct auth_sender_in *in, struct arena *arena,
			       struct auth_sender_out *out);
	YIELDS
	enum err (*ask_charge)(void *arg, const struct auth_charge_in *in, struct arena *arena,
			       struct auth_charge_out *out);
	YIELDS
	enum err (*certificate)(void *arg, const struct keys_certificate_in *in, struct arena *arena,
				struct keys_certificate_out *out);
	YIELDS
	enum err (*tickets)(void *arg, struct arena *arena, struct keys_tickets_out *out);
	YIELDS
	enum err (*sign)(void *arg, const struct keys_sign_in *in, struct arena *arena,
			 struct keys_sign_out *out);
	bool (*may_sign)(void *arg); /* keys is there, as far as we know */
	void (*abort_message)(void *arg, uint64_t id);
	void (*tell_refused)(void *arg, const struct history_refused_in *in);
};

struct smtpd_metrics {
	struct counter *connections, *turned_away, *messages, *recipients, *bytes, *refused;
	struct counter *cache_hits, *cache_misses, *tls, *tls_failed, *tls_resumed;
	struct gauge *sessions, *body_bytes;
};

#define SMTPD_LISTENERS_MAX 32u

struct smtpd {
	struct loop *loop;
	struct world *w;
	struct mem *mem;
	struct log *log;
	const struct conf *conf;
	struct scope *work; /* sessions and listeners run in it */
	const struct smtpd_backend *backend;
	void *backend_arg;
	unsigned index; /* among the smtpds: part of message ids */
	uint16_t id_counter;
	struct ext_offer offer;
	struct cache cache;
	struct clients clients;
	struct refusals refusals;
	struct smtpd_metrics count;
	size_t sessions;
	size_t body_bytes; /* of messages, in memory, all sessions */
	struct tls_server *tls; /* NULL: no listener has TLS */
	struct co_queue tls_changed;
	bool tls_stale; /* keys is to be asked */
	struct co_queue session_ended;
	struct source listeners[SMTPD_LISTENERS_MAX];
	size_t listener_count;
	bool queue_full; /* P7: new MAIL gets 452 */
	uint8_t queue_text_n;
	char queue_text[200];
};

/* Everything but log, work, backend and clients, which the caller sets. */
enum err smtpd_init(struct smtpd *d, struct loop *loop, const struct conf *conf, unsigned index,
		    struct metrics *metrics) MUST_CHECK;
void smtpd_done(struct smtpd *d);

/* A new id, for a session or a message. */
uint64_t smtpd_new_id(struct smtpd *d);
/* Loopback, `trusted`, `relay_from`: not made to wait, not slowed down, not counted by address. */
bool smtpd_trusts(const struct smtpd *d, const struct ip *client);

/* ---- certificates (certificates.c) ---------------------------------------------------------- */

/* Before the jail. */
enum err smtpd_tls_init(struct smtpd *d) MUST_CHECK;
/* Whether a handshake can succeed. */
bool smtpd_tls_ready(const struct smtpd *d);
/* Asks keys for certificates and ticket keys, and uses them. */
YIELDS
enum err smtpd_tls_fetch(struct smtpd *d) MUST_CHECK;
/* Fetches whenever smtpd_tls_renew() says so, until cancelled. */
YIELDS
void smtpd_tls_keep(struct smtpd *d);
/* keys has changed something, or was started again. */
void smtpd_tls_renew(struct smtpd *d);

/* ---- listeners (accept.c) ------------------------------------------------------------------ */

/* Accepts on fd (taken over) until the scope `work` stops. listener: index in conf.listeners. */
enum err smtpd_listen(struct smtpd *d, int fd, unsigned listener) MUST_CHECK;
/* Stops accepting. */
void smtpd_close_listeners(struct smtpd *d);

#endif
