/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One relay_deliver call while it is worked on: the message, its recipients, and what became of them.
 *
 * Invariants:
 *  E1  A recipient is decided once; what is decided stays so.
 *  E2  No recipient is given to a second host after the first may have taken the message for it: a lost
 *      reply to the message's end decides (RFC 5321 §4.5.4.1 lets us try again later; a duplicate then
 *      arises only where an acknowledgement was lost, P2).
 *  E3  When the call ends each recipient is decided; who is not yet by then waits for the next attempt.
 */
#ifndef RELAY_DELIVERY_H
#define RELAY_DELIVERY_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "co/co.h"
#include "ipc/calls.h"

struct tls_client;
#define RELAY_TRUSTS_MAX 16u /* different files tls_ca, the system's included */

/* What every session of the process uses. */
struct relay_env {
	struct world *w;
	struct loop *loop;
	struct mem *mem;
	const struct conf *conf;
	struct log *log;
	/* Made at the first use; and for routes with tls verify, made before the jail. */
	struct tls_client *tls;
	struct relay_trust {
		struct str ca_file; /* empty: the system's */
		struct tls_client *tls;
	} trusts[RELAY_TRUSTS_MAX];
	size_t trusts_n;
	struct str *passwords; /* by index in conf->routes; NULL: no route has one */
	struct sip_key pool_key;
	struct {
		struct counter *tls, *tls_verified, *tls_failed;
		struct counter *connections, *failed_connections, *reuses, *delivered, *deferred, *refused;
		struct histogram *took_ms;
	} count;
};

/* Why something is as it is; strings live in the call's arena, or for ever. */
struct finding {
	enum verdict verdict;
	uint16_t code; /* of the remote reply; 0: the text is ours */
	struct str enhanced, text;
	bool uncertain;
};

enum delivery_state {
	DELIVERY_OPEN, /* not decided, in no transaction */
	DELIVERY_SENT, /* in the present transaction */
	DELIVERY_TAKEN, /* … and its RCPT was accepted */
	DELIVERY_DONE
};
struct delivery_rcpt {
	const struct relay_rcpt *in;
	enum delivery_state state;
	struct finding found;
	struct str by;
	bool dsn;
};

struct delivery {
	struct relay_env *env;
	const struct relay_deliver_in *in;
	struct arena *arena; /* as long as the call */
	struct str parts[3]; /* prefix, and the body unless it is in the file */
	int fd;		     /* -1: none */
	uint64_t bytes;	     /* prefix and body */
	struct delivery_rcpt *rcpts;
	size_t n, open; /* open: not DONE */
	size_t *group;	/* room for n indexes: the present transaction */
	int64_t end_ns; /* nothing but the reply to the message's end is waited for beyond it */
	/* How the last host failed that we could not talk to until the end. */
	struct finding trouble;
	struct str trouble_by;
	struct finding own; /* the message itself cannot be sent */
	enum relay_reach reach;
	bool in_trouble; /* trouble is a host's */
	uint8_t eight_bit; /* private: 0 not looked yet, 1 no, 2 yes */
};

/* Sets d up; the file, if any, stays the caller's. ERR_SYNTAX: the body is not whole. ERR_NO_MEMORY, ERR_LIMIT. */
enum err delivery_init(struct delivery *d, struct relay_env *env, const struct relay_deliver_in *in, struct str early_parts,
		       int fd, struct arena *arena) MUST_CHECK;
/* E1. by: copied by the caller if it must be. */
void delivery_decide(struct delivery *d, size_t i, struct finding f, struct str by, bool dsn);
/* Decides all that are open, in no transaction. */
void delivery_decide_open(struct delivery *d, struct finding f, struct str by);
/* Those of a transaction that ended without an answer for them are open again. */
void delivery_reopen(struct delivery *d);
/*
 * Notes how a host failed; the last counts, but nothing permanent after something temporary: then another
 * attempt has hope.
 */
void delivery_trouble(struct delivery *d, struct finding f, struct str by);
/* RFC 6531 §3.6: the server must offer SMTPUTF8 (for which recipients, client.c says). */
bool delivery_needs_utf8(const struct delivery *d);
/* Text of ours; "4.x.y" is a temporary verdict. */
struct finding finding_make(const char *enhanced, struct str text);
/* Whether any byte of the message is above 127; reads the file if there is one. */
YIELDS enum err delivery_has_8bit(struct delivery *d, bool *yes_out) MUST_CHECK;
/* The next up to n bytes of the file. ERR_SYNTAX: it is shorter than was said. */
YIELDS enum err delivery_read(struct delivery *d, char *to, size_t n, uint64_t offset) MUST_CHECK;
/*
 * The answer for queue (E3): texts are cut so that it fits into one frame of a channel. mx_set is in the
 * arena already.
 */
enum err delivery_answer(struct delivery *d, struct str mx_set, struct relay_deliver_out *out) MUST_CHECK;

#define DELIVERY_READ_BYTES 65536u

#endif
