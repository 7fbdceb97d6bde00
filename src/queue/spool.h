/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: what makes P1 true. Append-only segments of self-describing records, written by one
 * writer with group commit: while one sync runs, what arrives gathers for the next. Runs in queue (and in the command
 * line for a spool at rest). Its input is what our own processes sent, bounds-checked, and the disk,
 * which may have lost, torn or altered anything that was not synced, and rarely what was.
 *
 * Directory:  lock  seg-<16 hex digits>  checkpoint-<16 hex digits>  body/<13 characters of the id>
 *             quarantine/…
 * Segment:    a header of 64 bytes (magic, format version, sequence number, CRC), then records aligned to 8.
 * Record:     head of 40 bytes: magic u32, type u8, flags u8, reserved u16, message id u64, meta length
 *             u32, data length u32, synced-before u64 (offset in this segment up to which all was known
 *             to be synced when this batch was written), CRC32C of head (with the segment's sequence
 *             number as seed) u32, CRC32C of meta u32; then meta, then data + u32 CRC32C of data if any.
 *             Numbers little-endian.
 * Types:      MESSAGE (meta: envelope of calls.def + recipient states; data: prefix and body, or the
 *             prefix alone when the body is a file), STATE (new state of one or more recipients),
 *             GONE (every recipient is final: the message is dead), SEAL (segment closed in good order).
 *
 * Invariants (code and tests cite them):
 *  S1  A caller hears ERR_NONE only after a sync that covers its record has succeeded, its body file
 *      and the directory entries of file and segment included.
 *  S2  After a failed write or sync nothing of that batch is acknowledged, the segment takes no further record,
 *      and pages are never synced again as though still dirty: a new segment is begun.
 *  S3  At recovery a bad record at or beyond the greatest synced-before of its segment is a torn tail:
 *      it and what follows is cut. A bad record below is damage: quarantined, reported, and the scan
 *      goes on behind it. Neither stops the start.
 *  S4  Segments are removed from the oldest only, and only when no live message has its MESSAGE record
 *      there (live ones are copied forward first): so no record that a kept record depends on is lost.
 *      And not before the history of its messages is saved (spool_history_saved).
 *  S5  Readers refuse a segment of a version they do not know: it is reported, left in place, and the start goes on.
 *  S6  Memory is bounded: see spool_limits; what does not fit is refused with ERR_LIMIT before it is taken.
 */
#ifndef QUEUE_SPOOL_H
#define QUEUE_SPOOL_H

#include "base/arena.h"
#include "base/log.h"
#include "ipc/calls.h"

struct spool;

#define SPOOL_SEGMENT_BYTES ((uint64_t)64 << 20)
#define SPOOL_BODY_IN_LOG_MAX ((uint64_t)1 << 20) /* larger bodies are files of their own */

struct spool_config {
	struct world *w;
	struct loop *loop;	/* NULL: at rest (verify, dump, recover): read-only unless told otherwise */
	struct scope *scope;	/* the committer and the compactor run in it */
	struct log *log;
	struct str path;	/* absolute directory; created with mode 0700 if missing */
	uint64_t segment_bytes;	/* 0: SPOOL_SEGMENT_BYTES; tests use small ones */
	bool reserve_space;	/* preallocate and recycle segments */
	bool read_only;
};

/* Where a message stands on disk; value, copied freely. segment 0: nowhere. */
struct spool_ref {
	uint64_t segment, offset;
	uint32_t meta_bytes, data_bytes; /* data: prefix, and body unless in_file */
	uint32_t prefix_bytes;
	bool in_file;
	uint64_t body_bytes;
};

/* State of one recipient as it is stored. */
struct spool_state {
	uint16_t number;	/* index in envelope.recipients */
	enum rcpt_state state;
	uint32_t attempts;
	int64_t next_ms;	/* 0: at once or held */
	int64_t at_ms;		/* when this became so */
	struct str enhanced, text; /* of the last attempt; bounded as in calls.def */
};

/* What recovery tells, in this order for each message: message, then its states, oldest first. */
struct spool_recovery {
	void *arg;
	/* envelope: only recipients_n, id, arrived_ms and the schedule's fields are needed by most. */
	enum err (*message)(void *arg, const struct spool_ref *ref, const struct envelope *env,
			    const struct spool_state *states, size_t states_n);
	enum err (*state)(void *arg, uint64_t id, const struct spool_state *st);
	void (*gone)(void *arg, uint64_t id);
	/* A finding: text names segment, offset and what was done. */
	void (*damage)(void *arg, struct str text);
};
struct spool_totals {
	uint64_t segments, log_bytes, live_bytes, live_messages, syncs, records, bytes_written, damaged, cut_bytes;
};

/* Locks, recovers (BLOCKING), opens a new segment. ERR_BUSY: another process has it. */
YIELDS enum err spool_open(const struct spool_config *cfg, const struct spool_recovery *rec, struct spool **sp_out) MUST_CHECK;
/* Waits for the running commit, writes a checkpoint, seals, closes. */
YIELDS void spool_close(struct spool *sp);
struct spool_totals spool_totals(const struct spool *sp);

/*
 * Appends a message and waits for its sync. body parts are in order; in_file: the body is the file that
 * spool_body_file() made for env->id (it is synced here too). states NULL: all queued, never tried.
 * ERR_NO_SPACE, ERR_IO (S2), ERR_LIMIT (S6).
 */
YIELDS enum err spool_put(struct spool *sp, const struct envelope *env, struct str prefix, const struct str *body,
			  size_t body_n, uint64_t body_bytes, bool in_file, struct spool_ref *ref_out) MUST_CHECK;
/* Appends states of one message; waits for the sync. */
YIELDS enum err spool_put_states(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n) MUST_CHECK;
/* The message is dead: its states were final. Removes its body file after the sync. Waits. */
YIELDS enum err spool_put_gone(struct spool *sp, uint64_t id, const struct spool_state *st, size_t n,
			       const struct spool_ref *ref) MUST_CHECK;
/* For large bodies: a new empty file; the descriptor stays the spool's until put or abort. */
YIELDS enum err spool_body_file(struct spool *sp, uint64_t id, int *fd_out) MUST_CHECK;
YIELDS void spool_body_abort(struct spool *sp, uint64_t id);
/* Read-only descriptor of a message's body file; the caller closes it. */
YIELDS enum err spool_body_open(struct spool *sp, uint64_t id, int *fd_out) MUST_CHECK;

/* Reads; CRCs are checked: ERR_CORRUPT. env's strings live in `arena`. */
YIELDS enum err spool_read_meta(struct spool *sp, const struct spool_ref *ref, struct arena *arena, struct envelope *env_out) MUST_CHECK;
/* prefix, and `body` (empty when in_file), in `arena`. */
YIELDS enum err spool_read_data(struct spool *sp, const struct spool_ref *ref, struct arena *arena, struct str *prefix_out, struct str *body_out) MUST_CHECK;

/*
 * A live message was copied forward (compaction): the index must take the new place. Set before use.
 * states_of: the current states of a live message, to be stored with the copy; false when it is not live.
 */
struct spool_index {
	void *arg;
	bool (*states_of)(void *arg, uint64_t id, struct arena *arena, struct spool_state **st_out, size_t *n_out);
	void (*moved)(void *arg, uint64_t id, const struct spool_ref *to);
	/* Live messages for the checkpoint: *it starts at 0; false at the end. */
	bool (*next)(void *arg, size_t *it, uint64_t *id_out, struct spool_ref *ref_out);
};
void spool_set_index(struct spool *sp, const struct spool_index *ix);
/* History of all segments below this one is saved elsewhere (S4). UINT64_MAX: nobody keeps history. */
void spool_history_saved(struct spool *sp, uint64_t segment);
/* The segment that records go to now. */
uint64_t spool_segment(const struct spool *sp);

#endif
