/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan of a segment: finds what is whole, and tells a torn tail from damage (S3). Input: the disk's
 * bytes. What cannot be read counts as zeros, so that a bad sector is damage like any other.
 */
#include "queue/spool_record.h"

#include "base/hash.h"

#define WINDOW_BYTES ((size_t)1 << 20)
#define PAGE_BYTES ((size_t)4096)

/* ---- the window ----------------------------------------------------------------------------------- */

void segment_reader_open(struct segment_reader *r, struct world *w, int fd, uint64_t bytes)
{
	*r = (struct segment_reader){ .w = w, .mem = world_mem(w), .fd = fd, .bytes = bytes };
}

void segment_reader_open_bytes(struct segment_reader *r, struct mem *mem, struct str bytes)
{
	*r = (struct segment_reader){ .mem = mem, .fd = -1, .bytes = bytes.n, .n = bytes.n };
	r->window = mem_alloc_raw(mem, bytes.n ? bytes.n : 1);
	if (r->window && bytes.n)
		memcpy(r->window, bytes.p, bytes.n);
	if (!r->window)
		r->bytes = 0;
}

void segment_reader_close(struct segment_reader *r)
{
	mem_free(r->mem, r->window);
	r->window = NULL;
	r->n = r->cap = 0;
}

/* The device refuses some of this window: page by page, with zeros for what is lost. */
static void fill_around_errors(struct segment_reader *r, size_t want)
{
	memset(r->window, 0, want);
	for (size_t at = 0; at < want; at += PAGE_BYTES) {
		size_t got, n = want - at < PAGE_BYTES ? want - at : PAGE_BYTES;
		enum err e = world_pread(r->w, r->fd, r->window + at, n, r->at + at, &got);
		if (e != ERR_NONE)
			r->err = e;
	}
	r->n = want;
}

static bool window_fill(struct segment_reader *r, uint64_t offset, size_t n)
{
	size_t cap = n > WINDOW_BYTES ? n : WINDOW_BYTES;
	if (r->bytes < cap)
		cap = (size_t)r->bytes;
	if (cap > r->cap) {
		mem_free(r->mem, r->window);
		r->n = r->cap = 0;
		r->window = mem_alloc_raw(r->mem, cap);
		if (!r->window) {
			r->err = ERR_NO_MEMORY;
			return false;
		}
		r->cap = cap;
	}
	r->at = offset;
	size_t most = n > WINDOW_BYTES ? n : WINDOW_BYTES;
	most = most < r->cap ? most : r->cap;
	size_t want = r->bytes - offset < most ? (size_t)(r->bytes - offset) : most;
	if (world_pread(r->w, r->fd, r->window, want, offset, &r->n) != ERR_NONE)
		fill_around_errors(r, want);
	return r->n >= n;
}

enum err segment_reader_reserve(struct segment_reader *r)
{
	size_t n = RECORD_META_MAX + RECORD_HEAD;
	if (r->bytes < n)
		n = (size_t)r->bytes;
	mem_free(r->mem, r->window);
	r->n = 0;
	r->cap = n;
	r->window = mem_alloc_raw(r->mem, n ? n : 1);
	return r->window ? ERR_NONE : ERR_NO_MEMORY;
}

/* n bytes at offset, or NULL; valid until the next call. */
static const char *view(struct segment_reader *r, uint64_t offset, size_t n)
{
	if (offset > r->bytes || n > r->bytes - offset)
		return NULL;
	if (n == 0)
		return "";
	if (offset < r->at || offset - r->at > r->n || n > r->n - (offset - r->at))
		if (r->fd < 0 || !window_fill(r, offset, n))
			return NULL;
	return r->window + (offset - r->at);
}

enum err segment_reader_header(struct segment_reader *r)
{
	size_t n = r->bytes < SEGMENT_START ? (size_t)r->bytes : SEGMENT_START;
	const char *p = view(r, 0, n);
	if (!p)
		return r->err == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_CORRUPT;
	return segment_header_get(str_of(p, n), &r->header);
}

/* ---- one record --------------------------------------------------------------------------------------- */

static bool data_ok(struct segment_reader *r, const struct record *rec, uint64_t at)
{
	uint32_t crc = record_seed(&r->header, rec->offset);
	for (uint32_t done = 0; done < rec->data_bytes;) {
		uint32_t n = rec->data_bytes - done < WINDOW_BYTES / 4 ? rec->data_bytes - done : WINDOW_BYTES / 4;
		const char *p = view(r, at + done, n);
		if (!p)
			return false;
		crc = crc32c(crc, p, n);
		done += n;
	}
	const char *stored = view(r, at + rec->data_bytes, 4);
	struct cursor c = cursor_of(str_of(stored, stored ? 4 : 0));
	return stored && cursor_u32(&c) == crc;
}

enum found { FOUND_NOTHING, FOUND_HEAD, FOUND_WHOLE };

static enum found record_at(struct segment_reader *r, uint64_t offset, uint64_t limit, bool check_data,
			    struct record *rec)
{
	uint32_t meta_bytes;
	const char *head = limit - offset >= RECORD_HEAD ? view(r, offset, RECORD_HEAD) : NULL;
	if (!head || !record_head_get(head, &r->header, offset, rec, &meta_bytes))
		return FOUND_NOTHING;
	if (rec->next > limit)
		return FOUND_HEAD;
	uint64_t data_at = offset + RECORD_HEAD + meta_bytes;
	if (check_data && rec->data_bytes && !data_ok(r, rec, data_at))
		return FOUND_HEAD;
	head = view(r, offset, RECORD_HEAD + meta_bytes); /* last: it stays in the window for the caller */
	if (!head)
		return FOUND_HEAD;
	rec->meta = str_of(head + RECORD_HEAD, meta_bytes);
	return record_meta_ok(head, rec->meta, &r->header, offset) ? FOUND_WHOLE : FOUND_HEAD;
}

/* ---- behind a bad record ---------------------------------------------------------------------------------- */

struct search {
	uint64_t first;	/* the first whole head behind the bad record; 0: none */
	uint64_t last;	/* where the last one's record ends */
	bool synced;	/* a head says that the bad record was durable */
};

static bool could_begin(const char *p)
{
	return p[0] == 'G' && p[1] == 'W' && p[2] == 'R' && p[3] == '1';
}

static void search_behind(struct segment_reader *r, uint64_t bad, uint64_t limit, struct search *found)
{
	*found = (struct search){ 0 };
	for (uint64_t at = bad + 8; limit >= RECORD_HEAD && at <= limit - RECORD_HEAD;) {
		size_t n = limit - at < WINDOW_BYTES / 2 ? (size_t)(limit - at) : WINDOW_BYTES / 2;
		const char *p = view(r, at, n);
		if (!p)
			return;
		size_t i = 0;
		while (i + RECORD_HEAD <= n && !could_begin(p + i))
			i += 8;
		if (i + RECORD_HEAD > n) { /* the last heads of this piece again with the next one */
			at += n > RECORD_HEAD ? (n - RECORD_HEAD + 8) & ~(size_t)7 : 8;
			continue;
		}
		struct record rec;
		uint32_t meta_bytes;
		if (record_head_get(p + i, &r->header, at + i, &rec, &meta_bytes)) {
			if (!found->first)
				found->first = at + i;
			found->last = rec.next;
			if (rec.synced_before > bad) {
				found->synced = true;
				return;
			}
		}
		at += i + 8;
	}
}

static bool all_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* Whether something was begun at `end` that is not whole. */
static bool looks_torn(struct segment_reader *r, uint64_t end, uint64_t limit, enum found what)
{
	if (what == FOUND_HEAD)
		return true;
	size_t n = limit - end < RECORD_HEAD ? (size_t)(limit - end) : RECORD_HEAD;
	const char *p = view(r, end, n);
	return p && !(r->header.flags & SEGMENT_RECYCLED) && !all_zero(p, n);
}

/* A bad record at s->end: true when the scan can go on behind it. */
static bool pass_damage(struct segment_reader *r, struct segment_scan *s, uint64_t limit, uint64_t synced,
			enum found what)
{
	struct search f;
	uint64_t bad = s->end;
	search_behind(r, bad, limit, &f);
	if (bad < synced || f.synced || r->err != ERR_NONE) { /* it was durable, or we cannot know */
		uint64_t to = f.first ? f.first : synced > bad ? synced : limit;
		if (s->damage)
			s->damage(s->arg, bad, to);
		s->end = to;
		return f.first != 0;
	}
	s->torn = f.first != 0 || looks_torn(r, bad, limit, what);
	s->torn_bytes = !s->torn ? 0 : f.last > bad ? f.last - bad : RECORD_HEAD;
	return false;
}

enum err segment_scan(struct segment_reader *r, struct segment_scan *s)
{
	uint64_t limit = s->limit && s->limit < r->bytes ? s->limit : r->bytes, synced = s->known_synced;
	s->end = s->from ? s->from : SEGMENT_START;
	while (s->end < limit && !s->sealed) {
		struct record rec;
		enum found what = record_at(r, s->end, limit, s->check_data, &rec);
		if (r->err == ERR_NO_MEMORY)
			return ERR_NO_MEMORY;
		if (what != FOUND_WHOLE) {
			if (!pass_damage(r, s, limit, synced, what))
				break;
			continue;
		}
		if (rec.synced_before > synced)
			synced = rec.synced_before;
		if (rec.type == RECORD_SEAL)
			s->sealed = true;
		else if (rec.type != RECORD_FILL)
			TRY(s->record(s->arg, &rec));
		s->records++;
		s->end = rec.next;
	}
	return ERR_NONE;
}
