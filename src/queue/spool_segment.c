/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: made, laid out in advance, rolled, failed, read, retired. Runs in queue. The transitions of
 * spool.c's diagram that concern files are here.
 */
#include "queue/spool_internal.h"

#include "base/events.h"

#define READ_FDS_MAX 32u
#define LAY_STEP_BYTES ((size_t)2 << 20)
#define LAY_PAUSE_NS (4 * 1000000LL)
#define LAYING STR("laying")

/* ---- names and the list ------------------------------------------------------------------------------ */

struct str segment_name(char place[SEGMENT_NAME_BYTES], const char *prefix, uint64_t seq)
{
	struct buf b = buf_fixed(place, SEGMENT_NAME_BYTES);
	buf_add(&b, str_z(prefix));
	buf_add_hex(&b, seq, 16);
	return buf_str(&b);
}

bool segment_name_parse(struct str name, const char *prefix, uint64_t *seq_out)
{
	struct str p = str_z(prefix);
	uint64_t v = 0;
	if (name.n != p.n + 16 || !str_starts(name, p))
		return false;
	for (size_t i = p.n; i < name.n; i++) {
		char c = name.p[i];
		if (!ascii_is_digit(c) && (c < 'a' || c > 'f'))
			return false;
		v = v << 4 | (uint64_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
	}
	*seq_out = v;
	return v > 0;
}

struct segment *segment_find(const struct spool *sp, uint64_t seq)
{
	size_t lo = 0, hi = sp->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (sp->segments[mid]->header.seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < sp->n && sp->segments[lo]->header.seq == seq ? sp->segments[lo] : NULL;
}

struct segment *segment_add(struct spool *sp, const struct segment_header *h)
{
	if (sp->n == sp->cap) {
		size_t cap = sp->cap ? sp->cap * 2 : 16;
		void *v = mem_resize(sp->mem, sp->segments, cap * sizeof(struct segment *));
		if (!v)
			return NULL;
		sp->segments = v;
		sp->cap = cap;
	}
	struct segment *s = mem_alloc(sp->mem, sizeof *s);
	if (!s)
		return NULL;
	s->header = *h;
	s->end = s->file_bytes = SEGMENT_START;
	s->fd = -1;
	sp->segments[sp->n++] = s;
	return s;
}

void segment_forget(struct spool *sp, size_t index)
{
	struct segment *s = sp->segments[index];
	ASSERT(s->users == 0);
	world_close(sp->w, s->fd);
	if (sp->current == s)
		sp->current = NULL;
	mem_free(sp->mem, s);
	memmove(&sp->segments[index], &sp->segments[index + 1], (sp->n - index - 1) * sizeof(struct segment *));
	sp->n--;
}

void segment_live_add(struct spool *sp, const struct spool_ref *ref)
{
	struct segment *s = segment_find(sp, ref->segment);
	if (!s)
		return;
	s->live++;
	s->live_bytes += ref_bytes(ref);
	sp->totals.live_messages++;
	sp->totals.live_bytes += ref_bytes(ref);
}

void segment_live_drop(struct spool *sp, const struct spool_ref *ref)
{
	struct segment *s = segment_find(sp, ref->segment);
	if (!s)
		return;
	ASSERT(s->live > 0 && s->live_bytes >= ref_bytes(ref));
	s->live--;
	s->live_bytes -= ref_bytes(ref);
	sp->totals.live_messages--;
	sp->totals.live_bytes -= ref_bytes(ref);
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static void close_fd(struct spool *sp, struct segment *s)
{
	world_close(sp->w, s->fd);
	s->fd = -1;
	s->direct = false;
}

/* Old segments are opened when needed; not too many stay open. */
static void close_idle(struct spool *sp)
{
	size_t open = 0;
	for (size_t i = sp->n; i-- > 0;) {
		struct segment *s = sp->segments[i];
		if (s->fd < 0 || s == sp->current || ++open < READ_FDS_MAX || s->users > 0)
			continue;
		close_fd(sp, s);
	}
}

enum err segment_open(struct spool *sp, struct segment *s, int *fd_out)
{
	char place[SEGMENT_NAME_BYTES];
	return world_open(sp->w, sp->dir_fd, segment_name(place, "seg-", s->header.seq), WORLD_READ | WORLD_REGULAR, 0, fd_out);
}

enum err segment_use(struct spool *sp, struct segment *s, int *fd_out)
{
	if (s->fd < 0) {
		close_idle(sp);
		TRY(segment_open(sp, s, &s->fd));
	}
	s->users++;
	*fd_out = s->fd;
	return ERR_NONE;
}

void segment_unuse(struct segment *s)
{
	s->users--;
}

/* ---- past the page cache ------------------------------------------------------------------------------------ */

/*
 * What is written is not read again soon: new mail waits for its delivery in memory. So the page cache
 * would only cost, most of all where fresh pages are dear (docs/measurements.md §2).
 */
static char *align_up(char *p)
{
	return p + (-(uintptr_t)p & (WORLD_DIRECT_ALIGN - 1));
}

enum err segment_write(struct world *w, int fd, char *direct, struct str bytes, uint64_t at)
{
	if (!direct)
		return world_pwritev(w, fd, &bytes, 1, at);
	while (bytes.n > 0) {
		struct str part = str_of(direct, bytes.n < DIRECT_BYTES ? bytes.n : DIRECT_BYTES);
		memcpy(direct, bytes.p, part.n);
		TRY(world_pwritev(w, fd, &part, 1, at));
		at += part.n;
		bytes = str_sub(bytes, part.n, bytes.n);
	}
	return ERR_NONE;
}

static enum err try_direct(struct spool *sp)
{
	int fd;
	TRY(world_open(sp->w, sp->dir_fd, LAYING, WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC | WORLD_REGULAR | WORLD_DIRECT,
		       0600, &fd));
	memset(sp->direct, 0, WORLD_DIRECT_ALIGN);
	struct str zeros = str_of(sp->direct, WORLD_DIRECT_ALIGN);
	enum err e = world_pwritev(sp->w, fd, &zeros, 1, 0);
	world_close(sp->w, fd);
	return e;
}

enum err segment_try_direct(struct spool *sp)
{
	if (!sp->cfg.reserve_space)
		return ERR_NONE;
	sp->direct_place = mem_alloc_raw(sp->mem, DIRECT_BYTES + WORLD_DIRECT_ALIGN);
	if (!sp->direct_place)
		return ERR_NO_MEMORY;
	sp->direct = align_up(sp->direct_place);
	if (try_direct(sp) == ERR_NONE)
		return ERR_NONE;
	mem_free(sp->mem, sp->direct_place);
	sp->direct_place = sp->direct = NULL;
	return ERR_NONE;
}

/* ---- roll ---------------------------------------------------------------------------------------------------- */

struct roll_job {
	int dir_fd;
	int seal_fd; /* -1: nothing to seal */
	char *seal_direct, *direct;
	struct segment_header seal_header;
	uint64_t seal_at;
	struct segment_header header;
	uint64_t spare; /* 0: none */
	int fd;
	uint64_t file_bytes;
	enum err err, seal_err;
};

static enum err write_seal(struct world *w, int fd, char *direct, const struct segment_header *h, uint64_t at)
{
	char bytes[RECORD_HEAD + WORLD_DIRECT_ALIGN];
	struct buf b = buf_fixed(bytes, sizeof bytes);
	TRY(record_put_states(&b, RECORD_SEAL, 0, NULL, 0));
	if (direct)
		TRY(record_put_fill(&b, WORLD_DIRECT_ALIGN));
	record_seal(bytes, b.n, h, at, at);
	TRY(segment_write(w, fd, direct, buf_str(&b), at));
	return world_datasync(w, fd);
}

/* The header is durable before the name, the name before any record counts (S1). */
static enum err write_segment(struct world *w, struct roll_job *j, struct str name)
{
	char header[SEGMENT_START], place[SEGMENT_NAME_BYTES];
	segment_header_put(header, &j->header);
	TRY(segment_write(w, j->fd, j->direct, str_of(header, sizeof header), 0));
	TRY(j->spare ? world_datasync(w, j->fd) : world_sync(w, j->fd));
	if (j->spare)
		TRY(world_rename(w, j->dir_fd, segment_name(place, "spare-", j->spare), j->dir_fd, name));
	return world_sync(w, j->dir_fd);
}

static void roll(struct world *w, void *arg)
{
	struct roll_job *j = arg;
	char place[SEGMENT_NAME_BYTES], spare[SEGMENT_NAME_BYTES];
	struct str name = segment_name(place, "seg-", j->header.seq);
	struct world_stat st;
	if (j->seal_fd >= 0)
		j->seal_err = write_seal(w, j->seal_fd, j->seal_direct, &j->seal_header, j->seal_at);
	unsigned flags = WORLD_READ | WORLD_WRITE | WORLD_REGULAR, direct = j->direct ? WORLD_DIRECT : 0;
	if (j->spare && (world_open(w, j->dir_fd, segment_name(spare, "spare-", j->spare), flags | direct, 0, &j->fd) !=
				 ERR_NONE ||
			 world_stat(w, j->fd, &st) != ERR_NONE)) {
		world_close(w, j->fd);
		j->spare = 0;
	}
	if (!j->spare) /* what grows gains nothing by it */
		j->direct = NULL;
	if (j->spare)
		j->file_bytes = st.bytes;
	else
		j->err = world_open(w, j->dir_fd, name, flags | WORLD_CREATE | WORLD_EXCL, 0600, &j->fd);
	if (j->err != ERR_NONE)
		return;
	j->header.flags = j->spare ? SEGMENT_RECYCLED : 0;
	j->err = write_segment(w, j, name);
	if (j->err == ERR_NONE)
		return;
	world_close(w, j->fd);
	/* Best effort: it holds no record, and recovery passes over it. */
	if (world_unlink(w, j->dir_fd, name) != ERR_NONE)
		return;
}

enum err segment_roll(struct spool *sp)
{
	struct roll_job j = { .dir_fd = sp->dir_fd, .seal_fd = -1, .fd = -1 };
	struct segment *old = sp->current;
	if (old) {
		j.seal_fd = old->fd;
		j.seal_direct = old->direct ? sp->direct : NULL;
		j.seal_header = old->header;
		j.seal_at = old->end;
		old->end += RECORD_HEAD;
	}
	j.header = (struct segment_header){ .version = SEGMENT_VERSION, .seq = sp->next_seq++,
					    .prev_seq = sp->bad_seq, .prev_end = sp->bad_end };
	world_random(sp->w, &j.header.salt, sizeof j.header.salt);
	if (sp->cfg.reserve_space && sp->spare_n > 0)
		j.spare = sp->spares[--sp->spare_n];
	j.direct = sp->direct;
	sp->current = NULL;
	spool_job(sp, roll, &j);
	if (old && old->direct && old->users == 0)
		close_fd(sp, old); /* from now on it is read through the cache */
	if (j.seal_err != ERR_NONE) /* only recovery would have liked it */
		log_io_error(sp->cfg.log, (struct log_ids){ 0 }, STR("seal a segment"), j.seal_err, sp->cfg.path);
	TRY(j.err);
	struct segment *s = segment_add(sp, &j.header);
	if (!s) {
		world_close(sp->w, j.fd);
		return ERR_NO_MEMORY;
	}
	s->fd = j.fd;
	s->direct = j.direct != NULL;
	if (j.spare)
		s->file_bytes = j.file_bytes;
	sp->current = s;
	sp->spare_new = false;
	sp->checkpoint_due = true;
	co_wake_all(&sp->duties);
	co_wake_all(&sp->preparing);
	return ERR_NONE;
}

static void seal_only(struct world *w, void *arg)
{
	struct roll_job *j = arg;
	j->seal_err = write_seal(w, j->seal_fd, j->seal_direct, &j->seal_header, j->seal_at);
}

void segment_seal(struct spool *sp)
{
	struct segment *s = sp->current;
	struct roll_job j = { .seal_fd = s->fd, .seal_header = s->header, .seal_at = s->end,
			      .seal_direct = s->direct ? sp->direct : NULL };
	spool_job(sp, seal_only, &j);
	if (j.seal_err != ERR_NONE)
		log_io_error(sp->cfg.log, (struct log_ids){ 0 }, STR("seal a segment"), j.seal_err, sp->cfg.path);
	s->end += RECORD_HEAD;
	sp->current = NULL;
}

/* ---- S2 ------------------------------------------------------------------------------------------------------- */

struct cut_job {
	int dir_fd, fd;
	uint64_t seq, end;
	bool empty, removed;
	enum err err;
};

/* The sync is for the new length alone; of the pages that failed nothing is hoped. */
static void cut(struct world *w, void *arg)
{
	struct cut_job *j = arg;
	char place[SEGMENT_NAME_BYTES];
	j->err = world_truncate(w, j->fd, j->end);
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->fd);
	if (j->err == ERR_NONE && j->empty)
		j->removed = world_unlink(w, j->dir_fd, segment_name(place, "seg-", j->seq)) == ERR_NONE;
}

/*
 * What the failed batch left behind is cut, if the disk lets us; whether or not, the next segment's
 * header says that it does not count. A segment without any other record goes away.
 */
void segment_fail(struct spool *sp)
{
	struct segment *s = sp->current;
	struct cut_job j = { .dir_fd = sp->dir_fd, .fd = s->fd, .seq = s->header.seq, .end = s->end,
			     .empty = s->end == SEGMENT_START };
	sp->current = NULL;
	s->failed = true;
	spool_job(sp, cut, &j);
	if (j.err != ERR_NONE)
		sp->uncut = true;
	if (j.removed) { /* marks of the segment before go on to the next */
		sp->bad_seq = s->header.prev_seq;
		sp->bad_end = s->header.prev_end;
		for (size_t i = 0; i < sp->n; i++)
			if (sp->segments[i] == s) {
				segment_forget(sp, i);
				break;
			}
		return;
	}
	s->file_bytes = s->end;
	sp->bad_seq = s->header.seq;
	sp->bad_end = s->end;
}

/* ---- retire, lay out --------------------------------------------------------------------------------------------- */

struct retire_job {
	int dir_fd;
	uint64_t seq;
	bool keep;
	enum err err;
};

/* The directory is synced each time: a younger segment must not vanish before an older one (S4). */
static void retire(struct world *w, void *arg)
{
	struct retire_job *j = arg;
	char from[SEGMENT_NAME_BYTES], to[SEGMENT_NAME_BYTES];
	struct str name = segment_name(from, "seg-", j->seq);
	if (j->keep)
		j->err = world_rename(w, j->dir_fd, name, j->dir_fd, segment_name(to, "spare-", j->seq));
	else
		j->err = world_unlink(w, j->dir_fd, name);
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->dir_fd);
}

enum err segment_retire(struct spool *sp)
{
	struct segment *s = sp->segments[0];
	ASSERT(s != sp->current && s->live == 0);
	uint64_t bytes = s->file_bytes > s->end ? s->file_bytes : s->end;
	struct retire_job j = { .dir_fd = sp->dir_fd, .seq = s->header.seq };
	j.keep = sp->cfg.reserve_space && !s->failed && sp->spare_n < SPARES_MAX &&
		 bytes >= sp->cfg.segment_bytes - sp->cfg.segment_bytes / 8 &&
		 bytes <= sp->cfg.segment_bytes + BATCH_LAZY_BYTES;
	spool_job(sp, retire, &j);
	TRY(j.err);
	/* One may have been laid out meanwhile; a file too many is found at the next start. */
	if (j.keep && sp->spare_n < SPARES_MAX)
		sp->spares[sp->spare_n++] = s->header.seq;
	segment_forget(sp, 0);
	return ERR_NONE;
}

struct lay_job {
	int dir_fd, fd;
	uint64_t at, n, seq;
	const char *zeros;
	bool last, direct;
	enum err err;
};

static void lay_step(struct world *w, void *arg)
{
	struct lay_job *j = arg;
	if (j->fd < 0)
		j->err = world_open(w, j->dir_fd, LAYING, WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC | WORLD_REGULAR |
				    (j->direct ? WORLD_DIRECT : 0), 0600, &j->fd);
	struct str part = str_of(j->zeros, j->n);
	if (j->err == ERR_NONE)
		j->err = world_pwritev(w, j->fd, &part, 1, j->at);
	if (j->err == ERR_NONE)
		j->err = j->last ? world_sync(w, j->fd) : world_datasync(w, j->fd);
	if (j->err != ERR_NONE || !j->last)
		return;
	char place[SEGMENT_NAME_BYTES];
	j->err = world_rename(w, j->dir_fd, LAYING, j->dir_fd, segment_name(place, "spare-", j->seq));
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->dir_fd);
}

/* In steps with pauses: commits go on meanwhile. */
static YIELDS enum err lay_out(struct spool *sp, const char *zeros)
{
	struct lay_job j = { .dir_fd = sp->dir_fd, .fd = -1, .zeros = zeros, .seq = sp->next_seq++ };
	j.direct = sp->direct && sp->cfg.segment_bytes % WORLD_DIRECT_ALIGN == 0;
	while (!j.last && j.err == ERR_NONE && !sp->closing) {
		uint64_t left = sp->cfg.segment_bytes - j.at;
		j.n = left < LAY_STEP_BYTES ? left : LAY_STEP_BYTES;
		j.last = j.n == left;
		spool_job(sp, lay_step, &j);
		j.at += j.n;
		if (!j.last && j.err == ERR_NONE)
			j.err = co_sleep_until(world_mono_ns(sp->w) + LAY_PAUSE_NS);
	}
	world_close(sp->w, j.fd);
	TRY(j.err);
	if (!j.last)
		return ERR_CANCELLED;
	if (sp->spare_n < SPARES_MAX) {
		sp->spares[sp->spare_n++] = j.seq;
		sp->spare_new = true;
	}
	return ERR_NONE;
}

/* Laying out must not take the space that mail needs. */
static bool may_lay_out(struct spool *sp)
{
	uint64_t bytes = 0, inodes = 0;
	return sp->cfg.reserve_space && sp->spare_n == 0 &&
	       world_free_space(sp->w, sp->dir_fd, &bytes, &inodes) == ERR_NONE && bytes > 8 * sp->cfg.segment_bytes;
}

/* coroutine */
void spool_preparer(void *arg)
{
	struct spool *sp = arg;
	while (!sp->closing) {
		if (may_lay_out(sp)) {
			char *zeros = mem_alloc(sp->mem, LAY_STEP_BYTES + WORLD_DIRECT_ALIGN);
			enum err e = zeros ? lay_out(sp, align_up(zeros)) : ERR_NO_MEMORY;
			mem_free(sp->mem, zeros);
			if (e == ERR_CANCELLED)
				break;
		}
		if (spool_wait_until(&sp->preparing, world_mono_ns(sp->w) + 10 * 1000000000LL) != ERR_NONE)
			break;
	}
}
