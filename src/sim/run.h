/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of one scenario in one universe: a machine `mx` with the server, and a machine `net` where one
 * process, the tester, plays the script and all clients as coroutines. Being part of the experiment and
 * not of the system, the tester may also cut the power, read the disk and so on.
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "co/stream.h"
#include "ipc/calls.h"
#include "sim/ledger.h"
#include "sim/scenario.h"
#include "world/sim.h"

#define RUN_CONF_PATH "/etc/godwit/godwit.conf"
#define RUN_DIRECTORY "/srv/godwit"

/* What a plain run does besides the scenario. */
struct run_options {
	uint64_t seed;
	bool verbose;
	struct sim_fault fault; /* count 0: none; counts from when the server is ready */
	/* random traffic instead of a scenario */
	bool random;
	unsigned messages, crashes;
};
struct run_result {
	bool passed;
	uint64_t ops[SIM_OPS]; /* after the server was ready first */
	size_t accepted, delivered, queued;
	int64_t took_ns; /* virtual */
};

struct run {
	const struct scenario *sc;
	const struct run_options *opt;
	struct run_result *result;
	struct sim *s;
	struct sim_host *mx, *net;
	/* the tester */
	struct world *w;
	struct mem *mem;
	struct loop *loop;
	struct arena arena;
	struct ledger ledger;
	struct scope background;
	int master_pid;
	size_t log_from; /* of the running server's first line */
	bool stopped;	 /* in order, by the script */
	bool dropped;	 /* the operator dropped mail: it may be missing */
	bool done, armed;
	struct peer *peers; /* servers elsewhere: peer.h */
	unsigned crashes; /* so far: of the machine, or of a process */
	uint64_t ops_before[SIM_OPS];
	struct str conf_text;
};

/* Runs it; prints the log when it fails and is not verbose. begins: told before anything happens. */
void run_scenario(const struct scenario *sc, const struct run_options *opt,
		  void (*begins)(struct sim *s, uint64_t seed), struct run_result *result_out);

/* The programs of a server. */
extern const struct sim_program run_programs[];

/* Failures with the statement's place. */
void run_fail(struct run *r, const struct statement *st, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ---- server.c: what an operator does -------------------------------------------------------------- */

/* Writes the configuration and starts; waits until it serves. False: it does not (reported). */
YIELDS bool server_start(struct run *r);
/* In order; its status must be 0. */
YIELDS void server_stop(struct run *r);
/* Waits until all processes serve (after a crash); boots the machine when it is down. */
YIELDS bool server_ready(struct run *r);
YIELDS enum err server_change(struct run *r, enum directory_kind kind, struct str name, struct str targets) MUST_CHECK;
YIELDS enum err server_queue_list(struct run *r, const struct queue_list_in *in, struct arena *arena,
				  struct queue_list_out *out) MUST_CHECK;
YIELDS enum err server_queue_show(struct run *r, uint64_t id, struct arena *arena, struct queue_show_out *out) MUST_CHECK;
YIELDS enum err server_queue_act(struct run *r, enum queue_action action, struct str match, struct str route, uint64_t *count_out) MUST_CHECK;
YIELDS enum err server_dns(struct run *r, struct str name, enum dns_type type, struct arena *arena,
			   struct dns_lookup_out *out) MUST_CHECK;
YIELDS void run_sleep(struct run *r, int64_t ns);

/* ---- client.c ------------------------------------------------------------------------------------------ */

YIELDS void client_play(struct run *r, const struct statement *st);
/* Starts it in r->background. */
void client_start(struct run *r, const struct statement *st);

/* ---- load.c ---------------------------------------------------------------------------------------------- */

struct load {
	struct run *r;
	const struct statement *st; /* for messages */
	unsigned messages, connections;
	size_t bytes; /* 0: sizes at random */
	struct str to[16];
	size_t to_n;
	struct ip from;
	const char *const *senders; /* for a tenth of the messages each */
	size_t senders_n;
	unsigned next; /* number of the next message */
};
/* `load …`: in the background. */
void load_start(struct run *r, const struct statement *st);
/* Copied. */
void load_run(const struct load *l);

/* One connection; shared by both kinds of client. */
struct dialogue {
	struct run *r;
	struct stream stream;
	struct talk talk;
	bool open;
	struct buf reply; /* all lines of the last one */
	unsigned code;
	uint64_t timeout_ns;
};
YIELDS enum err dialogue_open(struct dialogue *d, struct run *r, const struct ip *from) MUST_CHECK;
void dialogue_close(struct dialogue *d);
/* Sends and flushes. */
YIELDS enum err dialogue_send(struct dialogue *d, struct str bytes) MUST_CHECK;
YIELDS enum err dialogue_reply(struct dialogue *d) MUST_CHECK;

/* ---- oracle.c ------------------------------------------------------------------------------------------------ */

/* Messages in a mailbox that contain `text` (all when it is empty). */
size_t oracle_mailbox_count(struct run *r, struct str address, struct str text);
/* P1 and P2, from the ledger, the mailboxes and the queue. */
YIELDS void oracle_judge(struct run *r);

#endif
