/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers elsewhere, `server NAME at ADDRESS { … }` (docs/scenarios.md): each a process on a machine of its
 * own, that keeps what it accepts and behaves as its rules say. What it remembers outlives its process.
 */
#ifndef SIM_PEER_H
#define SIM_PEER_H

#include "sim/run.h"

enum peer_step { PEER_GREETING, PEER_EHLO, PEER_MAIL, PEER_RCPT, PEER_DATA, PEER_CONTENT, PEER_END, PEER_KEPT, PEER_STEPS };
enum peer_act { PEER_REPLY, PEER_CLOSE, PEER_SILENT };
struct peer_seen { /* who tried first when, for `for TIME` */
	struct peer_seen *next;
	struct str from, to;
	int64_t at_ns;
};
struct peer_rule {
	struct peer_rule *next;
	enum peer_step step;
	enum peer_act act;
	unsigned code;
	struct str text;       /* the whole reply line */
	struct str to;	       /* only for this recipient */
	uint64_t times, used;  /* 0: always */
	uint64_t after;	       /* only behind so many accepted recipients of the transaction */
	uint64_t chance;       /* in a hundred */
	int64_t for_ns;
	struct peer_seen *seen;
};
struct peer_rcpt {
	struct peer_rcpt *next;
	struct str address;
};
struct peer_message {
	struct peer_message *next;
	struct str envelope; /* its commands, for `containing` */
	struct str from;
	struct peer_rcpt *rcpts;
	struct str bytes;
	bool heard; /* the client went on after our 250: it knows */
};
struct peer {
	struct peer *next;
	struct run *r;
	struct str name, greets_as;
	struct ip address;
	struct sim_host *host;
	int pid;
	bool lmtp;
	int64_t byte_ns;
	const struct statement *extensions; /* NULL: all of ours */
	struct peer_rule *rules;
	struct peer_message *messages; /* newest first */
};

/* All `server … at …` of the scenario, on machines of their own. */
void peers_start(struct run *r);
void peers_stop(struct run *r);
/* `server NAME up`, `down` or `{ … }`: other behaviour; false: it is no such statement. */
bool peer_change(struct run *r, const struct statement *st);
/* For `server NAME has …`: messages for this address (empty: any) that hold the text. ERR_NOT_FOUND: no such server. */
enum err peer_count(struct run *r, const struct statement *st, uint64_t *n_out) MUST_CHECK;
/* The reverse-path of the newest message there; empty: none. */
struct str peer_last_sender(struct run *r, struct str name);

#endif
