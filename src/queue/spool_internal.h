/* SPDX-License-Identifier: Apache-2.0 */
/* What the files spool*.c share; nobody else includes this. The whole is explained in spool.c. */
#ifndef QUEUE_SPOOL_INTERNAL_H
#define QUEUE_SPOOL_INTERNAL_H

#include "queue/spool.h"
#include "queue/spool_record.h"

#define SPARES_MAX 2u
#define BATCH_BYTES ((size_t)8 << 20)	       /* S6: more has to wait for the next batch */
#define BATCH_LAZY_BYTES ((size_t)10 << 20)    /* what does not wait may use a little more */
#define BATCH_KEEP_BYTES ((size_t)1 << 20)     /* larger buffers are given back after use */
#define SLOW_SYNC_NS (8 * 1000000LL) /* the loop waits for syncs itself while none takes longer … */
#define THREADED_NS (30 * 1000000000LL) /* … within this time */
#define LINGER_NS (300 * 1000LL)
#define FAIL_PAUSE_NS (100 * 1000000LL)	       /* after a failed commit the next ones fail at once */
#define FAIL_TELL_NS (10 * 1000000000LL)
#define DIRECT_BYTES ((size_t)1 << 20) /* written at once past the page cache */
#define SEGMENT_NAME_BYTES 32u
#define COMPACT_SPARE_SEGMENTS 4u	       /* S4: log bytes may be 2 x live bytes + so many segments */

struct segment {
	struct segment_header header;
	uint64_t end;	     /* behind the last durable record */
	uint64_t file_bytes; /* what the file was laid out to, or `end` */
	uint64_t live_bytes; /* of MESSAGE records that an index holds */
	uint32_t live, users; /* users: reads that have its descriptor */
	int fd;		     /* -1: not open */
	bool direct;	     /* fd goes past the page cache */
	bool failed, told; /* told: of a message in it that cannot be read */
	bool unread;	   /* recovery could not read (all of) it: S5 */
};

/* One who waits for a batch; stands on its stack. */
struct append {
	struct list link;
	uint64_t segment, base; /* where the batch went */
	enum err err;
	bool done;
};

/* A record whose fate the index is told. */
struct gone_note {
	uint64_t id;
};

struct batch {
	struct buf bytes; /* whole records, not sealed */
	struct buf gones; /* struct gone_note each */
	struct list appends;
	struct co_queue done;
	size_t records, urgent; /* urgent: somebody waits */
	int64_t lazy_since_ns;
};

/* A body file that was handed out and not yet put. */
struct body_file {
	struct list link;
	uint64_t id;
	int fd;
};

struct spool {
	struct spool_config cfg;
	struct world *w;
	struct mem *mem;
	struct scope scope;
	int dir_fd, body_fd, lock_fd;
	struct segment **segments; /* oldest first; the last may be current */
	size_t n, cap;
	struct segment *current; /* NULL: the next commit makes one */
	uint64_t next_seq;
	uint64_t bad_seq, bad_end; /* S2: records of this segment at or behind bad_end never counted */
	uint64_t spares[SPARES_MAX];
	size_t spare_n;
	bool spare_new; /* one was laid out: leave a segment that was not */
	char *direct;	/* DIRECT_BYTES, aligned; NULL: the disk does not do it. Whoever writes the current segment has it. */
	void *direct_place;
	struct batch batches[2], *pending, *flying; /* flying: NULL when none is being written */
	struct co_queue work, room, duties, preparing;
	size_t outstanding; /* how many waited at the last commit: the linger rule */
	size_t want;	    /* the committer wants to be woken at so many urgent records */
	int64_t linger_until_ns, fail_until_ns;
	int64_t threaded_until_ns; /* until then syncs are a helper thread's: the disk is slow */
	int64_t fail_told_ns;
	enum err fail_err;
	struct list bodies;
	struct buf dead_bodies; /* ids whose files are to be removed */
	uint64_t history_saved, history_from;
	uint64_t checkpoint_at, checkpoint_bytes; /* totals.bytes_written at the last one, and its size */
	bool closing, checkpoint_due;
	bool uncut;  /* a failed batch may still be on disk: a crash before the next segment would let it count */
	bool unread; /* some segment is: no checkpoint may stand for it */
	struct spool_totals totals;
};

/* On a helper thread if there is one; otherwise here. */
YIELDS void spool_job(struct spool *sp, void (*fn)(struct world *w, void *arg), void *arg);
/* co_wait() with a deadline; its passing is no error. */
YIELDS enum err spool_wait_until(struct co_queue *q, int64_t at_ns) MUST_CHECK;

/* ---- spool_segment.c ---------------------------------------------------------------------------- */

/* "seg-" or "spare-" and 16 digits, in place. */
struct str segment_name(char place[SEGMENT_NAME_BYTES], const char *prefix, uint64_t seq);
bool segment_name_parse(struct str name, const char *prefix, uint64_t *seq_out);
struct segment *segment_find(const struct spool *sp, uint64_t seq);
/* Adds to the end; NULL: no memory. */
struct segment *segment_add(struct spool *sp, const struct segment_header *h);
void segment_forget(struct spool *sp, size_t index);
/* BLOCKING, at the start. Whether the disk takes writes past the page cache; then the memory for it. */
enum err segment_try_direct(struct spool *sp) MUST_CHECK;
/* Writes whole records; direct: NULL, or what spool.direct is, and the bytes are a multiple of what that needs. */
enum err segment_write(struct world *w, int fd, char *direct, struct str bytes, uint64_t at) MUST_CHECK;
/* Seals the current segment and makes the next one current. */
YIELDS enum err segment_roll(struct spool *sp) MUST_CHECK;
/* At the end: the current segment is closed in good order. */
YIELDS void segment_seal(struct spool *sp);
/* S2: the current segment takes no more. */
YIELDS void segment_fail(struct spool *sp);
/* A descriptor for reading; to be given back. */
enum err segment_use(struct spool *sp, struct segment *s, int *fd_out) MUST_CHECK;
void segment_unuse(struct segment *s);
/* Another descriptor for reading; the caller closes it. */
enum err segment_open(struct spool *sp, struct segment *s, int *fd_out) MUST_CHECK;
void segment_live_add(struct spool *sp, const struct spool_ref *ref);
void segment_live_drop(struct spool *sp, const struct spool_ref *ref);
/* S4: removes the oldest segment, or makes it a spare. */
YIELDS enum err segment_retire(struct spool *sp) MUST_CHECK;
/* coroutine: lays out spare segments */
void spool_preparer(void *arg);

/* ---- spool_commit.c ------------------------------------------------------------------------------- */

void batch_init(struct spool *sp, struct batch *b);
void batch_free(struct batch *b);
/* coroutine: the one writer */
void spool_committer(void *arg);
/* Waits for a batch with room. */
YIELDS enum err spool_wait_room(struct spool *sp) MUST_CHECK;
/* A record was added to the pending batch: waits for its commit. */
YIELDS enum err spool_wait_commit(struct spool *sp, struct append *a) MUST_CHECK;

/* ---- spool_read.c ---------------------------------------------------------------------------------- */

#define BODY_NAME_BYTES 16u
struct str body_name(char place[BODY_NAME_BYTES], uint64_t id);
/* ERR_SYNTAX: the file has not so many bytes. */
YIELDS enum err spool_body_sync(struct spool *sp, uint64_t id, uint64_t bytes) MUST_CHECK;
void spool_body_done(struct spool *sp, uint64_t id);

/* ---- spool_recover.c, spool_checkpoint.c, spool_compact.c ------------------------------------------ */

enum err spool_recover(struct spool *sp) MUST_CHECK;
struct spool_position {
	uint64_t segment, offset; /* 0: from the beginning */
};
/* BLOCKING. ERR_NOT_FOUND: none; ERR_CORRUPT: a bad one; *pos_out is untouched then. */
enum err checkpoint_load(struct spool *sp, struct spool_position *pos_out) MUST_CHECK;
YIELDS enum err checkpoint_write(struct spool *sp) MUST_CHECK;
/* coroutine: removal, compaction, checkpoints, dead body files */
void spool_janitor(void *arg);
YIELDS void spool_remove_bodies(struct spool *sp);
void spool_damage(struct spool *sp, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
