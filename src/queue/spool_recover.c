/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: from what lies in the directory to the index and a list of segments (S3, S5). BLOCKING, runs
 * once before the process serves. Its input is a disk after a crash; nothing that it finds there stops
 * the start: what it cannot use it reports and keeps.
 */
#include <stdarg.h>
#include <stdio.h>

#include "queue/spool_internal.h"

#include "base/clockfmt.h"
#include "base/events.h"

#define FOREIGN_TOLD_MAX 5u
#define UNBORN_MAX 64u
#define QUARANTINE STR("quarantine")
#define QUARANTINE_COPY_BYTES ((size_t)65536)

struct recovery {
	struct spool *sp;
	struct spool_state *states; /* SPOOL_STATES_MAX */
	struct segment *segment;    /* being scanned */
	struct segment_reader *reader;
	uint64_t *found;	    /* sequence numbers of files seg-… */
	size_t found_n, found_cap;
	uint64_t unborn[UNBORN_MAX]; /* segments without a header, not yet judged */
	size_t unborn_n;
	uint64_t newest;	    /* greatest number of any file, readable or not */
	uint64_t foreign;
	bool unsure; /* something was damaged or unreadable: keep body files that nobody names */
	enum err err;
};

void spool_damage(struct spool *sp, const char *fmt, ...)
{
	char text[300];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	struct str s = str_of(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
	sp->totals.damaged++;
	log_spool_damage(sp->cfg.log, (struct log_ids){ 0 }, s);
	if (sp->cfg.index.damage)
		sp->cfg.index.damage(sp->cfg.index.arg, s);
}

/* ---- what lies in the directory ------------------------------------------------------------------------ */

static enum err found_add(struct recovery *r, uint64_t seq)
{
	if (r->found_n == r->found_cap) {
		size_t cap = r->found_cap ? r->found_cap * 2 : 64;
		void *v = mem_resize(r->sp->mem, r->found, cap * sizeof(uint64_t));
		if (!v)
			return ERR_NO_MEMORY;
		r->found = v;
		r->found_cap = cap;
	}
	size_t i = r->found_n++;
	for (; i > 0 && r->found[i - 1] > seq; i--)
		r->found[i] = r->found[i - 1];
	r->found[i] = seq;
	return ERR_NONE;
}

static bool is_ours(struct str name)
{
	static const char *const names[] = { "lock", "body", "quarantine", "checkpoint", "checkpoint.new", "laying",
					     "lost+found" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (str_eq(name, str_z(names[i])))
			return true;
	return false;
}

static enum err take_name(void *arg, struct str name)
{
	struct recovery *r = arg;
	struct spool *sp = r->sp;
	uint64_t seq;
	if (segment_name_parse(name, "seg-", &seq)) {
		r->newest = seq > r->newest ? seq : r->newest;
		return found_add(r, seq);
	}
	if (segment_name_parse(name, "spare-", &seq)) {
		r->newest = seq > r->newest ? seq : r->newest;
		if (sp->spare_n < SPARES_MAX && sp->cfg.reserve_space) {
			sp->spares[sp->spare_n++] = seq;
			return ERR_NONE;
		}
		if (world_unlink(sp->w, sp->dir_fd, name) != ERR_NONE)
			r->foreign++;
		return ERR_NONE;
	}
	if (is_ours(name))
		return ERR_NONE;
	if (r->foreign++ < FOREIGN_TOLD_MAX) {
		char place[120];
		struct buf safe = buf_fixed(place, sizeof place);
		buf_add_safe(&safe, name, 20);
		spool_damage(sp, "%.*s is not a file of the spool: left alone", STR_ARG(buf_str(&safe)));
	}
	return ERR_NONE;
}

/* ---- quarantine ------------------------------------------------------------------------------------------- */

static enum err quarantine_fd(struct spool *sp, int *fd_out)
{
	enum err e = world_mkdir(sp->w, sp->dir_fd, QUARANTINE, 0700);
	if (e != ERR_NONE && e != ERR_EXISTS)
		return e;
	return world_open(sp->w, sp->dir_fd, QUARANTINE, WORLD_READ | WORLD_DIR, 0, fd_out);
}

static void quarantine_segment(struct recovery *r, uint64_t seq, const char *why)
{
	struct spool *sp = r->sp;
	char place[SEGMENT_NAME_BYTES];
	struct str name = segment_name(place, "seg-", seq);
	int fd = -1;
	enum err e = quarantine_fd(sp, &fd);
	if (e == ERR_NONE)
		e = world_rename(sp->w, sp->dir_fd, name, fd, name);
	world_close(sp->w, fd);
	r->unsure = true;
	spool_damage(sp, "segment %016llx: %s: %s", (unsigned long long)seq, why,
		     e == ERR_NONE ? "moved to quarantine" : "left in place");
}

static enum err copy_bytes(struct recovery *r, int to_fd, uint64_t from, uint64_t to)
{
	struct spool *sp = r->sp;
	char *bytes = mem_alloc_raw(sp->mem, QUARANTINE_COPY_BYTES);
	enum err e = bytes ? ERR_NONE : ERR_NO_MEMORY;
	for (uint64_t at = from; at < to && e == ERR_NONE;) {
		size_t n = to - at < QUARANTINE_COPY_BYTES ? (size_t)(to - at) : QUARANTINE_COPY_BYTES, got = 0;
		e = world_pread(sp->w, r->reader->fd, bytes, n, at, &got);
		struct str part = str_of(bytes, got);
		if (e == ERR_NONE)
			e = got > 0 ? world_pwritev(sp->w, to_fd, &part, 1, at - from) : ERR_EOF;
		at += got;
	}
	mem_free(sp->mem, bytes);
	return e == ERR_EOF ? ERR_NONE : e;
}

/* S3: the bytes are kept aside, for a person to look at. */
static void on_damage(void *arg, uint64_t from, uint64_t to)
{
	struct recovery *r = arg;
	struct spool *sp = r->sp;
	uint64_t seq = r->segment->header.seq;
	char place[64];
	struct buf name = buf_fixed(place, sizeof place);
	buf_add_hex(&name, seq, 16);
	buf_add_char(&name, '-');
	buf_add_hex(&name, from, 8);
	int dir = -1, fd = -1;
	enum err e = quarantine_fd(sp, &dir);
	if (e == ERR_NONE)
		e = world_open(sp->w, dir, buf_str(&name), WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC | WORLD_REGULAR, 0600,
			       &fd);
	if (e == ERR_NONE)
		e = copy_bytes(r, fd, from, to);
	world_close(sp->w, fd);
	world_close(sp->w, dir);
	r->unsure = true;
	spool_damage(sp, "segment %016llx: bytes %llu to %llu are damaged: %s, the rest is used", (unsigned long long)seq,
		     (unsigned long long)from, (unsigned long long)to,
		     e == ERR_NONE ? "copied to quarantine" : "left in place");
}

/* ---- records ------------------------------------------------------------------------------------------------ */

static void bad_meta(struct recovery *r, const struct record *rec)
{
	on_damage(r, rec->offset, rec->next);
}

static enum err on_record(void *arg, const struct record *rec)
{
	struct recovery *r = arg;
	struct spool_index *ix = &r->sp->cfg.index;
	struct spool_live live;
	size_t n = 0;
	enum err e;
	if (rec->type == RECORD_MESSAGE) {
		e = record_get_message(rec, &live, r->states, &n, NULL, NULL);
		live.ref.segment = r->segment->header.seq;
		if (e == ERR_NONE)
			return ix->message(ix->arg, &live, r->states, n);
		bad_meta(r, rec);
		return ERR_NONE;
	}
	e = record_get_states(rec, r->states, &n);
	if (e != ERR_NONE)
		bad_meta(r, rec);
	if (rec->type == RECORD_GONE) { /* what it says counts even so */
		ix->gone(ix->arg, rec->id);
		return ERR_NONE;
	}
	for (size_t i = 0; i < n && e == ERR_NONE; i++)
		TRY(ix->state(ix->arg, rec->id, &r->states[i]));
	return ERR_NONE;
}

/* ---- segments -------------------------------------------------------------------------------------------------- */

static bool has_a_record(struct segment_reader *rd)
{
	struct record rec;
	uint32_t meta_bytes;
	char head[RECORD_HEAD];
	size_t n = 0;
	return world_pread(rd->w, rd->fd, head, sizeof head, SEGMENT_START, &n) == ERR_NONE && n == sizeof head &&
	       record_head_get(head, &rd->header, SEGMENT_START, &rec, &meta_bytes);
}

/*
 * Without a header, no longer than one, and nothing later has a record: begun and not finished when the
 * machine stopped, so nothing in it ever counted (S1). Otherwise it is damage.
 */
static void judge_unborn(struct recovery *r, bool later_records)
{
	struct spool *sp = r->sp;
	for (size_t i = 0; i < r->unborn_n; i++) {
		char place[SEGMENT_NAME_BYTES];
		uint64_t seq = r->unborn[i];
		if (later_records || world_unlink(sp->w, sp->dir_fd, segment_name(place, "seg-", seq)) != ERR_NONE)
			quarantine_segment(r, seq, "no whole header");
		else
			log_spool_cut(sp->cfg.log, (struct log_ids){ 0 }, seq, 0, 0);
	}
	r->unborn_n = 0;
}

/* S5: it keeps its place in the list, so that nothing behind it is removed. */
static enum err leave_unread(struct recovery *r, uint64_t seq, const char *why)
{
	struct spool *sp = r->sp;
	struct segment_header h = { .seq = seq, .prev_end = UINT64_MAX };
	struct segment *s = segment_add(sp, &h);
	if (!s)
		return ERR_NO_MEMORY;
	s->unread = sp->unread = true;
	spool_damage(sp, "segment %016llx: %s: left in place, not used, and the log not shortened until it is read",
		     (unsigned long long)seq, why);
	return ERR_NONE;
}

/* Reads the header; a segment that can be used is added to the list. */
static enum err take_segment(struct recovery *r, uint64_t seq, bool *has_records_out)
{
	struct spool *sp = r->sp;
	char place[SEGMENT_NAME_BYTES];
	struct segment_reader rd;
	struct world_stat st = { 0 };
	int fd = -1;
	*has_records_out = false;
	enum err e = world_open(sp->w, sp->dir_fd, segment_name(place, "seg-", seq), WORLD_READ | WORLD_WRITE | WORLD_REGULAR, 0, &fd);
	if (e == ERR_NONE)
		e = world_stat(sp->w, fd, &st);
	if (e != ERR_NONE) {
		world_close(sp->w, fd);
		return e == ERR_NO_MEMORY || e == ERR_LIMIT ? e : leave_unread(r, seq, err_name(e));
	}
	segment_reader_open(&rd, sp->w, fd, st.bytes);
	e = segment_reader_header(&rd);
	if (e == ERR_NONE && rd.header.seq != seq)
		e = ERR_CORRUPT;
	if (e == ERR_NONE) {
		*has_records_out = has_a_record(&rd);
		struct segment *s = segment_add(sp, &rd.header);
		e = s ? ERR_NONE : ERR_NO_MEMORY;
		if (s)
			s->file_bytes = st.bytes;
	} else if (e == ERR_DENIED || rd.err != ERR_NONE) {
		e = leave_unread(r, seq, e == ERR_DENIED ? "a format that this version does not know" : err_name(rd.err));
	} else if (e == ERR_CORRUPT) {
		if (st.bytes <= SEGMENT_START && r->unborn_n < UNBORN_MAX)
			r->unborn[r->unborn_n++] = seq;
		else
			quarantine_segment(r, seq, "no whole header");
		e = ERR_NONE;
	}
	segment_reader_close(&rd);
	world_close(sp->w, fd);
	return e;
}

/* The torn tail goes, and a seal says that all before it was durable. */
static enum err mend(struct recovery *r, struct segment_scan *scan)
{
	struct spool *sp = r->sp;
	char bytes[RECORD_HEAD];
	struct buf b = buf_fixed(bytes, sizeof bytes);
	if (scan->torn) {
		sp->totals.cut_bytes += scan->torn_bytes;
		log_spool_cut(sp->cfg.log, (struct log_ids){ 0 }, r->segment->header.seq, scan->end, scan->torn_bytes);
		TRY(world_truncate(sp->w, r->reader->fd, scan->end));
	}
	TRY(record_put_states(&b, RECORD_SEAL, 0, NULL, 0));
	record_seal(bytes, b.n, &r->segment->header, scan->end, scan->end);
	struct str part = buf_str(&b);
	TRY(world_pwritev(sp->w, r->reader->fd, &part, 1, scan->end));
	TRY(world_sync(sp->w, r->reader->fd));
	scan->end += RECORD_HEAD;
	return ERR_NONE;
}

static enum err scan_segment(struct recovery *r, size_t i, uint64_t from, bool tail)
{
	struct spool *sp = r->sp;
	struct segment *s = r->segment = sp->segments[i];
	char place[SEGMENT_NAME_BYTES];
	struct segment_reader rd;
	int fd;
	TRY(world_open(sp->w, sp->dir_fd, segment_name(place, "seg-", s->header.seq), WORLD_READ | WORLD_WRITE | WORLD_REGULAR, 0,
		       &fd));
	segment_reader_open(&rd, sp->w, fd, s->file_bytes);
	rd.header = s->header;
	r->reader = &rd;
	struct segment_scan scan = { .from = from, .known_synced = from, .check_data = tail, .arg = r, .record = on_record,
				     .damage = on_damage };
	const struct segment_header *next = i + 1 < sp->n ? &sp->segments[i + 1]->header : NULL;
	if (next && next->prev_seq == s->header.seq) /* S2 */
		scan.limit = scan.known_synced = next->prev_end;
	enum err e = segment_scan(&rd, &scan);
	if (e == ERR_NONE && !scan.sealed && tail && !scan.limit && scan.end % 8 == 0) {
		enum err mended = mend(r, &scan);
		if (mended != ERR_NONE) /* as it is: the next recovery finds the same again */
			log_io_error(sp->cfg.log, (struct log_ids){ 0 }, STR("mend a segment"), mended, sp->cfg.path);
	}
	s->end = scan.end;
	if (scan.torn)
		s->file_bytes = scan.end;
	if (rd.err != ERR_NONE) /* what was taken for damage may be there next time */
		s->unread = sp->unread = true;
	segment_reader_close(&rd);
	world_close(sp->w, fd);
	return e;
}

/* `last`: the newest segment with whole records (SIZE_MAX: none). From there on a batch may be torn. */
static enum err scan_segments(struct recovery *r, struct spool_position from, size_t last)
{
	struct spool *sp = r->sp;
	for (size_t i = 0; i < sp->n; i++) {
		struct segment *s = sp->segments[i];
		if (s->unread)
			continue;
		if (s->header.seq < from.segment) { /* the checkpoint knows; the end only matters for statistics */
			s->end = s->file_bytes;
			continue;
		}
		TRY(scan_segment(r, i, s->header.seq == from.segment ? from.offset : 0,
				 last == SIZE_MAX || i >= last));
	}
	return ERR_NONE;
}

/* ---- body files ---------------------------------------------------------------------------------------------- */

static enum err take_body(void *arg, struct str name)
{
	struct recovery *r = arg;
	struct spool *sp = r->sp;
	uint64_t id;
	if (name.n != MSG_ID_CHARS || msg_id_parse(name, &id) != ERR_NONE) {
		r->foreign++;
		return ERR_NONE;
	}
	if (sp->cfg.index.known(sp->cfg.index.arg, id) || sp->unread)
		return ERR_NONE;
	enum err e;
	int fd = -1;
	if (r->unsure) { /* its record may be among the damaged */
		e = quarantine_fd(sp, &fd);
		if (e == ERR_NONE)
			e = world_rename(sp->w, sp->body_fd, name, fd, name);
		world_close(sp->w, fd);
	} else {
		e = world_unlink(sp->w, sp->body_fd, name);
	}
	if (e != ERR_NONE)
		log_io_error(sp->cfg.log, (struct log_ids){ .message = id }, STR("remove an unused body"), e, name);
	return ERR_NONE;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static void count_live(struct spool *sp)
{
	struct spool_index *ix = &sp->cfg.index;
	struct spool_live live;
	for (bool first = true; ix->next(ix->arg, first, &live); first = false)
		segment_live_add(sp, &live.ref);
}

static enum err take_segments(struct recovery *r)
{
	struct spool *sp = r->sp;
	size_t last = SIZE_MAX;
	for (size_t i = 0; i < r->found_n; i++) {
		bool has_records;
		size_t before = sp->n;
		TRY(take_segment(r, r->found[i], &has_records));
		if (sp->n > before && has_records)
			last = before;
		if (sp->n > before && (has_records || sp->segments[before]->unread))
			judge_unborn(r, true);
	}
	judge_unborn(r, false);
	struct spool_position from = { 0 };
	enum err e = checkpoint_load(sp, &from);
	if (e == ERR_CORRUPT)
		spool_damage(sp, "the checkpoint is damaged: all segments are read instead");
	else if (e != ERR_NONE && e != ERR_NOT_FOUND)
		return e;
	return scan_segments(r, from, last);
}

enum err spool_recover(struct spool *sp)
{
	struct recovery r = { .sp = sp };
	int64_t began_ns = world_measure_ns(sp->w);
	r.states = mem_alloc(sp->mem, SPOOL_STATES_MAX * sizeof *r.states);
	enum err e = r.states ? world_list(sp->w, sp->dir_fd, take_name, &r) : ERR_NO_MEMORY;
	if (e == ERR_NONE)
		e = take_segments(&r);
	if (e == ERR_NONE)
		e = world_list(sp->w, sp->body_fd, take_body, &r);
	mem_free(sp->mem, r.states);
	mem_free(sp->mem, r.found);
	TRY(e);
	if (r.foreign > FOREIGN_TOLD_MAX)
		spool_damage(sp, "%llu files are none of the spool's: left alone", (unsigned long long)r.foreign);
	count_live(sp);
	sp->next_seq = r.newest + 1;
	sp->totals.recovery_ns = world_measure_ns(sp->w) - began_ns;
	return ERR_NONE;
}
