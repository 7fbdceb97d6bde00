/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: what makes P1 true. Append-only segments of self-describing records, written by one
 * writer with group commit: while one sync runs, what arrives gathers for the next. Runs in queue (the
 * command line has spool_tools.h for a spool at rest). Its input is what our own processes sent,
 * bounds-checked, and the disk, which may have lost, torn or altered anything that was not synced, and
 * rarely what was. The invariants S1 to S8 stand in spool.c, the bytes on disk in spool_record.h.
 *
 * Directory:  lock  seg-<16 hex digits>  spare-<16 hex digits>  laying  checkpoint  checkpoint.new
 *             body/<13 characters of the id>  quarantine/<segment>-<offset>
 * Names that are none of these are reported and left alone.
 *
 * Who keeps what: the spool knows segments, the caller's index knows messages. Both meet in struct
 * spool_index. The rule that holds them together: the index changes in the same step (without a wait
 * in between) in which the record of that change is given to the spool; only a new message enters the
 * index after spool_put() has returned, and leaves it in gone_saved().
 */
#ifndef QUEUE_SPOOL_H
#define QUEUE_SPOOL_H

#include "base/arena.h"
#include "base/log.h"
#include "ipc/calls.h"

struct spool;

#define SPOOL_SEGMENT_BYTES ((uint64_t)64 << 20)
#define SPOOL_BODY_IN_LOG_MAX ((uint64_t)1 << 20) /* larger bodies are files of their own */
#define SPOOL_STATES_MAX 1000u			  /* recipients of one message, as in calls.def */
#define SPOOL_TEXT_MAX 400u
#define SPOOL_BY_MAX 300u
#define SPOOL_LAZY_NS (100 * 1000000LL) /* a record that nobody waits for is written at the latest then */

/* Where a message stands on disk; value, copied freely. segment 0: nowhere. */
struct spool_ref {
	uint64_t segment, offset;
	uint32_t meta_bytes, data_bytes; /* data: prefix, and body unless in_file */
	uint32_t prefix_bytes;
	bool in_file;
	uint64_t body_bytes;
};

/* What is kept of a live message in memory and in the checkpoint: no strings. */
struct spool_live {
	uint64_t id;
	struct spool_ref ref;
	int64_t arrived_ms, not_before_ms, expires_ms;
	uint16_t recipients_n;
	uint8_t priority;
	bool hold;
};

/* State of one recipient as it is stored. Recipients without one are queued and were never tried. */
struct spool_state {
	uint16_t number;	/* index in envelope.recipients */
	enum rcpt_state state;
	uint32_t attempts;
	int64_t next_ms;	/* 0: at once or held */
	int64_t at_ms;		/* when this became so */
	bool told;		/* the sender knows that it is late */
	struct str enhanced, text; /* of the last attempt; bounded as in calls.def */
	struct str route;	/* by which the operator sends it; empty: the configuration says */
	struct str address, by;	/* whose, and who did it: for the history; not kept in copies and checkpoints */
};

/* The caller's index of live messages. No function of it may wait. */
struct spool_index {
	void *arg;
	/* Recovery: a message, or a newer place of one that is known, with states; strings are lent. */
	enum err (*message)(void *arg, const struct spool_live *live, const struct spool_state *st, size_t n);
	/* Recovery: a later state; the id may be unknown. */
	enum err (*state)(void *arg, uint64_t id, const struct spool_state *st);
	/* Recovery: dead; the id may be unknown. */
	void (*gone)(void *arg, uint64_t id);
	/* Recovery: a finding; text names segment, offset and what was done. */
	void (*damage)(void *arg, struct str text);
	bool (*known)(void *arg, uint64_t id);
	/* Walks over all live messages. Messages may come and go between two calls; only one walk at a time. */
	bool (*next)(void *arg, bool first, struct spool_live *out);
	/* A live message of this segment; false: none. ERR_BUSY in *busy_out: there is one, but its end is being written. */
	bool (*oldest)(void *arg, uint64_t segment, struct spool_live *out, enum err *busy_out);
	/*
	 * Its states into st[SPOOL_STATES_MAX]; strings live until the next wait. False: not live, or its end
	 * is being written and `ending` does not ask for those.
	 */
	bool (*states_of)(void *arg, uint64_t id, bool ending, struct spool_state *st, size_t *n_out);
	/* A live message was copied forward: the index takes the new place and gives *old_out; false: not live any more. */
	bool (*moved)(void *arg, uint64_t id, const struct spool_ref *to, struct spool_ref *old_out);
	/* What spool_add_gone() began: ERR_NONE: the index removes it and gives its place; else it must be added again. */
	bool (*gone_saved)(void *arg, uint64_t id, enum err e, struct spool_ref *ref_out);
};

struct spool_config {
	struct world *w;
	struct loop *loop;
	struct scope *scope;	/* the spool's coroutines run below it */
	struct log *log;
	struct str path;	/* absolute directory; created with mode 0700 if missing */
	uint64_t segment_bytes;	/* 0: SPOOL_SEGMENT_BYTES; tests use small ones */
	bool reserve_space;	/* lay segments out in advance and use them again */
	struct spool_index index;
};

struct spool_totals {
	uint64_t segments, log_bytes, live_bytes, live_messages, spares;
	uint64_t commits, records, bytes_written, failures, copied;
	uint64_t damaged, cut_bytes, checkpoints;
	uint64_t batch_records[12]; /* commits by number of records: [i] up to 2^i, the last all above */
	int64_t recovery_ns;
};

/* Locks, recovers (BLOCKING), starts its coroutines. ERR_BUSY: another process has it. */
YIELDS enum err spool_open(const struct spool_config *cfg, struct spool **sp_out) MUST_CHECK;
/* Writes what is pending, then a checkpoint, seals, closes, frees. Nobody may be waiting in a call. */
YIELDS void spool_close(struct spool *sp);
struct spool_totals spool_totals(const struct spool *sp);
/* Of the disk that it is on. */
enum err spool_free_space(struct spool *sp, uint64_t *bytes_out, uint64_t *inodes_out) MUST_CHECK;

/*
 * Appends a message and waits until it is durable. body: parts, in order. in_file: the body is the file
 * that spool_body_file() made for env->id; it is synced first. Waits while too much is pending (S6).
 * ERR_NO_SPACE, ERR_IO (S2); ERR_LIMIT: too long for a record; ERR_CLOSED: closing.
 */
YIELDS enum err spool_put(struct spool *sp, const struct envelope *env, struct str prefix, const struct str *body,
			  size_t body_n, uint64_t body_bytes, bool in_file, struct spool_ref *ref_out) MUST_CHECK;
/*
 * Appends new states of a message; does not wait. Durable SPOOL_LAZY_NS later at the latest, or when
 * spool_flush() returns. ERR_BUSY: too much is pending; ERR_NO_MEMORY.
 */
enum err spool_add_states(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n) MUST_CHECK;
/* The same for the end of a message: st are the last states. index.gone_saved() tells how it went. */
enum err spool_add_gone(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n) MUST_CHECK;
/* Waits until all that was appended before is durable; the error of any commit that failed meanwhile. */
YIELDS enum err spool_flush(struct spool *sp) MUST_CHECK;

/* For large bodies: a new empty file; the descriptor stays the spool's until put or abort. */
YIELDS enum err spool_body_file(struct spool *sp, uint64_t id, int *fd_out) MUST_CHECK;
void spool_body_abort(struct spool *sp, uint64_t id);
/* Read-only descriptor of a message's body file; the caller closes it. */
YIELDS enum err spool_body_open(struct spool *sp, uint64_t id, int *fd_out) MUST_CHECK;

/* Reads; checksums are verified: ERR_CORRUPT. Strings live in `arena`. */
YIELDS enum err spool_read_meta(struct spool *sp, const struct spool_ref *ref, struct arena *arena,
				struct envelope *env_out) MUST_CHECK;
/* The same with prefix, and body (empty when in_file). */
YIELDS enum err spool_read(struct spool *sp, const struct spool_ref *ref, struct arena *arena,
			   struct envelope *env_out, struct str *prefix_out, struct str *body_out) MUST_CHECK;

/* History of all segments below this one is saved elsewhere (S4). At first UINT64_MAX: nobody keeps it. */
void spool_history_saved(struct spool *sp, uint64_t segment);
/* Where it stood at the last checkpoint: the history from this segment on is to be told again. */
uint64_t spool_history_from(const struct spool *sp);
/* The segment that records go to now, and the oldest one. */
uint64_t spool_segment(const struct spool *sp);
uint64_t spool_first_segment(const struct spool *sp);
/*
 * Reads all records from this segment on again, up to what was there at the call, for the history.
 * Either function may return an error, which ends it. Segments that vanish meanwhile are passed over.
 */
struct spool_replay {
	void *arg;
	YIELDS enum err (*replay_message)(void *arg, const struct envelope *env, const struct spool_ref *ref);
	YIELDS enum err (*replay_state)(void *arg, uint64_t id, const struct spool_state *st, uint64_t segment);
};
YIELDS enum err spool_replay(struct spool *sp, uint64_t from_segment, const struct spool_replay *to) MUST_CHECK;

#endif
