/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a segment: encoding, checking, and the scan that finds what is whole. Pure, but for
 * reading the file; used by queue and by the command line. All that is read here may be damaged or
 * torn, and a body may hold bytes that look like records: nothing counts without its checksum, which
 * covers a random salt of the segment, its number and the offset.
 *
 * Segment:  4096 bytes that hold the header twice (at 0 and at 4032), then records aligned to 8. The file may be longer
 *           than its records: zeros, or the stale records of what it was before (their salt differs).
 * Header:   magic u64, version u32, flags u32, sequence number u64, salt u64, previous segment u64, its end
 *           u64 (records at or behind it never counted: a commit failed there, S2; UINT64_MAX: none
 *           such), zeros, CRC32C at 60.
 * Record:   head of 40 bytes: magic u32, type u8, flags u8, zero u16, message id u64, meta length u32,
 *           data length u32, synced-before u64 (all of this segment below it was durable when this was
 *           written), CRC32C of meta u32, CRC32C of the head so far u32; then meta; then data and its
 *           CRC32C u32, if any; then zeros up to 8. A record of the type fill means nothing: it makes a
 *           batch as long as writes past the page cache must be (WORLD_DIRECT).
 * Numbers are little-endian. Strings have a u16 length, bodies none.
 */
#ifndef QUEUE_SPOOL_RECORD_H
#define QUEUE_SPOOL_RECORD_H

#include "queue/spool.h"

#define SEGMENT_VERSION 3u /* 1 had no RECORD_FILL; 2 no recipients that are only reported, no routes in states */
#define SEGMENT_START 4096u /* offset of the first record */
#define SEGMENT_RECYCLED 1u /* flag: stale bytes may follow the records */
#define RECORD_HEAD 40u
#define RECORD_META_MAX ((size_t)4 << 20)
#define RECORD_DATA_MAX ((size_t)2 << 20)

enum record_type { RECORD_MESSAGE = 1, RECORD_STATE, RECORD_GONE, RECORD_SEAL, RECORD_FILL };

struct segment_header {
	uint32_t version, flags;
	uint64_t seq, salt, prev_seq, prev_end;
};
/* to: SEGMENT_START bytes. */
void segment_header_put(char *to, const struct segment_header *h);
/* block: what there is of the first SEGMENT_START bytes. ERR_CORRUPT; ERR_DENIED: a version that we do not know (S5). */
enum err segment_header_get(struct str block, struct segment_header *h_out) MUST_CHECK;

/* Bytes that a record takes in the log. */
uint64_t record_bytes(uint32_t meta_bytes, uint32_t data_bytes);
static inline uint64_t ref_bytes(const struct spool_ref *r)
{
	return record_bytes(r->meta_bytes, r->data_bytes);
}

/* ---- encoding: appends to b; on an error b is as before. Heads stay without checksums until record_seal. */

struct record_message {
	const struct envelope *env;
	const struct spool_state *states;
	size_t states_n;
	struct str prefix;
	const struct str *body;
	size_t body_n;
	uint64_t body_bytes;
	bool in_file;
};
/* *ref_out: sizes; offset is the place in b. ERR_LIMIT, ERR_NO_MEMORY. */
enum err record_put_message(struct buf *b, const struct record_message *m, struct spool_ref *ref_out) MUST_CHECK;
/* type: RECORD_STATE, RECORD_GONE or RECORD_SEAL (id 0, no states) */
enum err record_put_states(struct buf *b, enum record_type type, uint64_t id, const struct spool_state *st,
			   size_t n) MUST_CHECK;
/* A record without meaning that makes b as long as a multiple of `align`. */
enum err record_put_fill(struct buf *b, size_t align) MUST_CHECK;
/* Fills in synced-before and the checksums of all records in `bytes`, which go to `offset`. */
void record_seal(char *bytes, size_t n, const struct segment_header *h, uint64_t offset, uint64_t synced_before);

/* ---- decoding ------------------------------------------------------------------------------------------ */

struct record {
	enum record_type type;
	uint64_t id, offset, next; /* next: where the one behind it begins */
	uint64_t synced_before;
	bool in_file;
	uint32_t data_bytes;
	struct str meta; /* lent until the next record */
};

/* live_out->ref has no segment yet. st: room for SPOOL_STATES_MAX, or NULL. env_out: NULL, or the envelope in arena. */
enum err record_get_message(const struct record *r, struct spool_live *live_out, struct spool_state *st,
			    size_t *n_out, struct arena *arena, struct envelope *env_out) MUST_CHECK;
enum err record_get_states(const struct record *r, struct spool_state *st, size_t *n_out) MUST_CHECK;
/* The checks of one whole record as read back: head, meta and data. ERR_CORRUPT. */
enum err record_check(struct str whole, const struct segment_header *h, const struct spool_ref *ref,
		      struct record *r_out, struct str *data_out) MUST_CHECK;

/* The parts of record_check(), for the scan. p: RECORD_HEAD bytes. False: no whole head. */
bool record_head_get(const char *p, const struct segment_header *h, uint64_t offset, struct record *r_out,
		     uint32_t *meta_bytes_out) MUST_CHECK;
bool record_meta_ok(const char *head, struct str meta, const struct segment_header *h, uint64_t offset) MUST_CHECK;
uint32_t record_seed(const struct segment_header *h, uint64_t offset); /* what the data's CRC starts from */

/* States, as they also stand in the checkpoint. */
void state_put(struct buf *b, const struct spool_state *st);
void state_get(struct cursor *c, struct spool_state *st);

/* ---- scanning ------------------------------------------------------------------------------------------- */

/* A window on a segment's bytes: a file, or (fd < 0) bytes in memory. */
struct segment_reader {
	struct world *w;
	struct mem *mem;
	int fd;
	uint64_t bytes; /* of the file */
	struct segment_header header;
	char *window;	/* in memory: the bytes themselves */
	uint64_t at;	/* offset of window[0] */
	size_t n, cap;
	enum err err;	/* a read that failed; sticks */
};
void segment_reader_open(struct segment_reader *r, struct world *w, int fd, uint64_t bytes);
void segment_reader_open_bytes(struct segment_reader *r, struct mem *mem, struct str bytes);
void segment_reader_close(struct segment_reader *r);
/* Takes the largest window that reading metas needs at once, so that scanning on a helper thread allocates nothing. */
enum err segment_reader_reserve(struct segment_reader *r) MUST_CHECK;
/* BLOCKING. The header; as segment_header_get(), ERR_IO, ERR_NO_MEMORY. */
enum err segment_reader_header(struct segment_reader *r) MUST_CHECK;

struct segment_scan {
	uint64_t from;		/* offset of a record; 0: the first */
	uint64_t known_synced;	/* all below is known to have been durable */
	uint64_t limit;		/* nothing at or behind counts; 0: the whole file */
	bool check_data;	/* the last segment: data of its last batch may be torn (S3) */
	void *arg;
	enum err (*record)(void *arg, const struct record *r); /* an error ends the scan */
	/* S3: bytes [from, to) below the synced boundary are damaged; the scan goes on at `to`. */
	void (*damage)(void *arg, uint64_t from, uint64_t to);
	/* out */
	uint64_t end;		/* behind the last whole record */
	uint64_t records, torn_bytes;
	bool sealed, torn;	/* torn: what follows `end` was begun and not finished */
};
/* BLOCKING. ERR_IO and what record() gave; damage is no error. */
enum err segment_scan(struct segment_reader *r, struct segment_scan *s) MUST_CHECK;

#endif
