/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint: all live messages with their states at one place of the log, so that recovery reads
 * only what comes behind it. Runs in queue; reads the disk.
 *
 * It is written while work goes on, so it may show later things than its place says: reading the records
 * behind that place again leads to the same end (S7). It is built under another name and renamed, and checked as a whole
 * before any of it is used; without it everything is scanned.
 *
 * File: header of 64 bytes (magic u64, version u32, zero u32, segment u64, offset u64, first segment whose history
 *       may not be saved u64, zeros, CRC32C at 60);
 *       blocks: length u32, CRC32C u32, so many bytes of whole entries; the last block has length 0 and,
 *       in place of the CRC, the low 32 bits of the number of entries.
 * Entry: id, segment, offset, body bytes, arrived, not before, expires u64; meta, data, prefix bytes u32;
 *       recipients u16, priority, flags u8 (1 in a file, 2 hold); states as in records.
 */
#include "queue/spool_internal.h"

#include "base/events.h"
#include "base/hash.h"

#define CHECKPOINT_MAGIC   0x3154504b43495747u /* "GWICKPT1" */
#define CHECKPOINT_VERSION 2u /* 1 had no routes in states */
#define HEADER_BYTES	   64u
#define BLOCK_BYTES	   ((size_t)256 << 10)
#define ENTRY_MAX	   ((size_t)1 << 20)
#define NAME		   STR("checkpoint")
#define NAME_NEW	   STR("checkpoint.new")

/* ---- writing ---------------------------------------------------------------------------------------- */

static void entry_put(struct buf *b, const struct spool_live *l, const struct spool_state *st, size_t n)
{
	put_u64(b, l->id);
	put_u64(b, l->ref.segment);
	put_u64(b, l->ref.offset);
	put_u64(b, l->ref.body_bytes);
	put_u64(b, (uint64_t)l->arrived_ms);
	put_u64(b, (uint64_t)l->not_before_ms);
	put_u64(b, (uint64_t)l->expires_ms);
	put_u32(b, l->ref.meta_bytes);
	put_u32(b, l->ref.data_bytes);
	put_u32(b, l->ref.prefix_bytes);
	put_u16(b, l->recipients_n);
	put_u8(b, l->priority);
	put_u8(b, (uint8_t)((l->ref.in_file ? 1 : 0) | (l->hold ? 2 : 0)));
	put_u16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++)
		state_put(b, &st[i]);
}

struct writer {
	struct spool *sp;
	struct buf block;
	struct spool_state *states;
	uint64_t at, entries;
};

struct write_job {
	int dir_fd;
	int *fd;
	struct str head, bytes;
	uint64_t at;
	bool last;
	enum err err;
};

static void write_piece(struct world *w, void *arg)
{
	struct write_job *j = arg;
	if (*j->fd < 0)
		j->err = world_open(w, j->dir_fd, NAME_NEW, WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC | WORLD_REGULAR, 0600,
				    j->fd);
	struct str parts[2] = { j->head, j->bytes };
	if (j->err == ERR_NONE)
		j->err = world_pwritev(w, *j->fd, parts, 2, j->at);
	if (j->err != ERR_NONE || !j->last)
		return;
	j->err = world_sync(w, *j->fd);
	if (j->err == ERR_NONE)
		j->err = world_rename(w, j->dir_fd, NAME_NEW, j->dir_fd, NAME);
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->dir_fd);
}

static YIELDS enum err write_out(struct writer *cw, int *fd, struct str head, struct str bytes, bool last)
{
	struct write_job j = { .dir_fd = cw->sp->dir_fd, .fd = fd, .head = head, .bytes = bytes, .at = cw->at,
			       .last = last };
	spool_job(cw->sp, write_piece, &j);
	cw->at += head.n + bytes.n;
	return j.err;
}

static YIELDS enum err write_block(struct writer *cw, int *fd)
{
	char place[8];
	struct buf head = buf_fixed(place, sizeof place);
	TRY(buf_err(&cw->block));
	if (cw->block.n == 0)
		return ERR_NONE;
	put_u32(&head, (uint32_t)cw->block.n);
	put_u32(&head, crc32c(0, cw->block.p, cw->block.n));
	enum err e = write_out(cw, fd, buf_str(&head), buf_str(&cw->block), false);
	buf_clear(&cw->block);
	return e;
}

static YIELDS enum err write_entries(struct writer *cw, int *fd)
{
	struct spool_index *ix = &cw->sp->cfg.index;
	struct spool_live live;
	for (bool first = true; ix->next(ix->arg, first, &live); first = false) {
		size_t n = 0;
		/* One whose end is being written is there, too: should that fail, it must not vanish and come back. */
		if (!ix->states_of(ix->arg, live.id, true, cw->states, &n))
			continue;
		entry_put(&cw->block, &live, cw->states, n);
		cw->entries++;
		if (cw->block.n >= BLOCK_BYTES)
			TRY(write_block(cw, fd));
	}
	return write_block(cw, fd);
}

static void header_put(char *to, struct spool_position pos, uint64_t history)
{
	struct buf b = buf_fixed(to, HEADER_BYTES);
	memset(to, 0, HEADER_BYTES);
	put_u64(&b, CHECKPOINT_MAGIC);
	put_u32(&b, CHECKPOINT_VERSION);
	put_u32(&b, 0);
	put_u64(&b, pos.segment);
	put_u64(&b, pos.offset);
	put_u64(&b, history);
	b.n = HEADER_BYTES - 4;
	put_u32(&b, crc32c(0, to, HEADER_BYTES - 4));
}

static YIELDS enum err write_all(struct writer *cw, int *fd, struct spool_position pos)
{
	char header[HEADER_BYTES], place[8];
	struct buf tail = buf_fixed(place, sizeof place);
	uint64_t history = cw->sp->history_saved == UINT64_MAX ? pos.segment : cw->sp->history_saved;
	header_put(header, pos, history);
	TRY(write_out(cw, fd, str_of(header, sizeof header), STR(""), false));
	TRY(write_entries(cw, fd));
	put_u32(&tail, 0);
	put_u32(&tail, (uint32_t)cw->entries);
	return write_out(cw, fd, buf_str(&tail), STR(""), true);
}

/*
 * Its place is where the log ended when all who had been told of their commits had run: the rule in
 * spool.h says that by their next wait the index knows. Two turns of the run queue are enough.
 */
static YIELDS enum err take_place(struct spool *sp, struct spool_position *pos_out)
{
	const struct segment *s = sp->current;
	if (!s || sp->unread)
		return ERR_NOT_FOUND; /* the next commit makes one; S5 */
	*pos_out = (struct spool_position){ s->header.seq, s->end };
	TRY(co_yield());
	return co_yield();
}

enum err checkpoint_write(struct spool *sp)
{
	struct writer cw = { .sp = sp, .block = buf_grow(sp->mem, BLOCK_BYTES + ENTRY_MAX) };
	struct spool_position pos;
	int fd = -1;
	enum err e = take_place(sp, &pos);
	if (e == ERR_NOT_FOUND)
		return ERR_NONE;
	TRY(e);
	cw.states = mem_alloc(sp->mem, SPOOL_STATES_MAX * sizeof *cw.states);
	e = cw.states ? write_all(&cw, &fd, pos) : ERR_NO_MEMORY;
	mem_free(sp->mem, cw.states);
	buf_free(&cw.block);
	world_close(sp->w, fd);
	if (e != ERR_NONE) {
		log_io_error(sp->cfg.log, (struct log_ids){ 0 }, STR("write the checkpoint"), e, sp->cfg.path);
		return e;
	}
	sp->totals.checkpoints++;
	sp->checkpoint_bytes = cw.at;
	sp->checkpoint_at = sp->totals.bytes_written;
	return ERR_NONE;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void entry_get(struct cursor *c, struct spool_live *l, struct spool_state *st, size_t *n_out)
{
	*l = (struct spool_live){ .id = cursor_u64(c) };
	l->ref.segment = cursor_u64(c);
	l->ref.offset = cursor_u64(c);
	l->ref.body_bytes = cursor_u64(c);
	l->arrived_ms = (int64_t)cursor_u64(c);
	l->not_before_ms = (int64_t)cursor_u64(c);
	l->expires_ms = (int64_t)cursor_u64(c);
	l->ref.meta_bytes = cursor_u32(c);
	l->ref.data_bytes = cursor_u32(c);
	l->ref.prefix_bytes = cursor_u32(c);
	l->recipients_n = cursor_u16(c);
	l->priority = cursor_u8(c);
	uint8_t flags = cursor_u8(c);
	l->ref.in_file = flags & 1;
	l->hold = flags & 2;
	*n_out = cursor_u16(c);
	if (*n_out > SPOOL_STATES_MAX || l->recipients_n > SPOOL_STATES_MAX)
		cursor_fail(c, ERR_LIMIT);
	for (size_t i = 0; i < *n_out && c->err == ERR_NONE; i++)
		state_get(c, &st[i]);
}

struct load {
	struct spool *sp;
	int fd;
	uint64_t at, entries;
	char *block; /* BLOCK_BYTES + ENTRY_MAX */
	struct spool_state *states;
	struct spool_position pos;
	uint64_t history;
};

static enum err read_exactly(struct load *l, char *to, size_t n)
{
	size_t got = 0;
	enum err e = world_pread(l->sp->w, l->fd, to, n, l->at, &got);
	l->at += n;
	if (e == ERR_NO_MEMORY)
		return e;
	return e == ERR_NONE && got == n ? ERR_NONE : ERR_CORRUPT;
}

static enum err read_header(struct load *l)
{
	char header[HEADER_BYTES];
	l->at = 0;
	TRY(read_exactly(l, header, sizeof header));
	struct cursor c = cursor_of(str_of(header, sizeof header));
	uint64_t magic = cursor_u64(&c);
	uint32_t version = cursor_u32(&c);
	cursor_u32(&c);
	l->pos.segment = cursor_u64(&c);
	l->pos.offset = cursor_u64(&c);
	l->history = cursor_u64(&c);
	cursor_bytes(&c, HEADER_BYTES - 4 - 40);
	if (magic != CHECKPOINT_MAGIC || cursor_u32(&c) != crc32c(0, header, HEADER_BYTES - 4))
		return ERR_CORRUPT;
	/* Another version's is no damage: there are the segments. */
	return version >= 1 && version <= CHECKPOINT_VERSION ? ERR_NONE : ERR_NOT_FOUND;
}

/* A message whose segment is gone: removed since, which needs its end or its copy behind our place. */
static enum err apply_entry(struct load *l, const struct spool_live *live, size_t n)
{
	struct spool *sp = l->sp;
	struct spool_index *ix = &sp->cfg.index;
	const struct segment *s = segment_find(sp, live->ref.segment);
	if (s && s->unread) /* told already */
		return ERR_NONE;
	if (s)
		return ix->message(ix->arg, live, l->states, n);
	if (sp->n > 0 && live->ref.segment > sp->segments[0]->header.seq)
		spool_damage(sp, "segment %016llx is missing: a message in it is lost unless a later segment has it",
			     (unsigned long long)live->ref.segment);
	return ERR_NONE;
}

static enum err read_block(struct load *l, bool apply, bool *last_out)
{
	char place[8];
	TRY(read_exactly(l, place, sizeof place));
	struct cursor c = cursor_of(str_of(place, sizeof place));
	uint32_t n = cursor_u32(&c), crc = cursor_u32(&c);
	*last_out = n == 0;
	if (n == 0)
		return crc == (uint32_t)l->entries ? ERR_NONE : ERR_CORRUPT;
	if (n > BLOCK_BYTES + ENTRY_MAX)
		return ERR_CORRUPT;
	TRY(read_exactly(l, l->block, n));
	if (crc32c(0, l->block, n) != crc)
		return ERR_CORRUPT;
	c = cursor_of(str_of(l->block, n));
	while (cursor_left(&c) > 0 && c.err == ERR_NONE) {
		struct spool_live live;
		size_t states_n = 0;
		entry_get(&c, &live, l->states, &states_n);
		l->entries++;
		if (apply && c.err == ERR_NONE)
			TRY(apply_entry(l, &live, states_n));
	}
	return c.err == ERR_NONE ? ERR_NONE : ERR_CORRUPT;
}

static enum err read_all(struct load *l, bool apply)
{
	TRY(read_header(l));
	l->entries = 0;
	bool last = false;
	while (!last)
		TRY(read_block(l, apply, &last));
	return ERR_NONE;
}

/*
 * The log must reach as far as the checkpoint says. Its segment may be gone in good order: removed, or
 * failed before its first record; then reading everything is right, and nothing is wrong.
 */
static enum err place_exists(const struct load *l)
{
	const struct segment *s = segment_find(l->sp, l->pos.segment);
	if (!s)
		return ERR_NOT_FOUND;
	if (s->unread) /* how long it is we do not know */
		return ERR_NONE;
	return l->pos.offset >= SEGMENT_START && l->pos.offset <= s->file_bytes ? ERR_NONE : ERR_CORRUPT;
}

enum err checkpoint_load(struct spool *sp, struct spool_position *pos_out)
{
	struct load l = { .sp = sp, .fd = -1 };
	enum err e = world_open(sp->w, sp->dir_fd, NAME, WORLD_READ | WORLD_REGULAR, 0, &l.fd);
	if (e != ERR_NONE)
		return e == ERR_NOT_FOUND ? e : ERR_CORRUPT;
	l.block = mem_alloc_raw(sp->mem, BLOCK_BYTES + ENTRY_MAX);
	l.states = mem_alloc(sp->mem, SPOOL_STATES_MAX * sizeof *l.states);
	e = l.block && l.states ? read_all(&l, false) : ERR_NO_MEMORY;
	if (e == ERR_NONE)
		e = place_exists(&l);
	if (e == ERR_NONE)
		e = read_all(&l, true);
	if (e == ERR_NONE) { /* else: what was applied is applied once more by the scan of everything (S7) */
		*pos_out = l.pos;
		sp->history_from = l.history;
	}
	mem_free(sp->mem, l.block);
	mem_free(sp->mem, l.states);
	world_close(sp->w, l.fd);
	return e;
}
