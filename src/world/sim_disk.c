/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk: content of files. What a power cut may leave is no more than POSIX promises and
 * no better than ext4 does: see sim_tree.c for names.
 *
 * A page has up to three contents: `live`, which is read; `stable`, which the disk holds (when it is
 * another: split); `wb`, which a running sync writes (when it was overwritten meanwhile).
 *
 *	clean --write--> dirty --sync begins--> in_wb --sync succeeds--> clean
 *	                   ^-------write---------'  `-----sync fails----> clean, but stable is in doubt
 *
 * Invariants:
 *  F1  After a successful sync, stable is at least as new as what was live when the sync began.
 *  F2  Nothing written after a sync began is made durable by it.
 *  F3  A failed sync leaves the pages clean: the next one does not write them (as Linux does).
 */
#include "world/sim_internal.h"

#define PAGE ((size_t)4096)
#define SECTOR ((size_t)512)
#define PAGES_MAX ((size_t)1 << 20) /* 4 GiB a file */

static uint64_t pages_of(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE;
}

/* ---- inodes ------------------------------------------------------------------------------------- */

struct sim_inode *sim_inode_new(struct sim_host *h, enum world_kind kind, unsigned mode)
{
	struct sim_inode *i = sim_alloc(h->sim, sizeof *i);
	i->host = h;
	i->ino = ++h->disk.next_ino;
	i->kind = kind;
	i->mode = mode;
	i->refs = 1;
	i->mtime_ms = SIM_EPOCH_MS + h->sim->now_ns / MS + h->wall_offset_ms;
	if (kind == WORLD_DIRECTORY)
		i->entries = table_make(h->sim->mem, (struct sip_key){ sim_random(h->sim), 1 }, 1u << 24);
	list_push_back(&h->disk.inodes, &i->all);
	return i;
}

void sim_inode_ref(struct sim_inode *i)
{
	i->refs++;
}

static void page_drop(struct sim *s, struct sim_page *p)
{
	sim_dealloc(s, p->live);
	sim_dealloc(s, p->stable);
	sim_dealloc(s, p->wb);
	*p = (struct sim_page){ 0 };
}

void sim_inode_unref(struct sim_inode *i)
{
	struct sim *s = i->host->sim;
	ASSERT(i->refs > 0);
	if (--i->refs > 0)
		return;
	for (size_t k = 0; k < i->page_cap; k++)
		page_drop(s, &i->pages[k]);
	i->host->disk.pages_used -= i->charged;
	sim_dealloc(s, i->pages);
	sim_dealloc(s, i->dirty);
	sim_dealloc(s, i->wb);
	if (i->kind == WORLD_DIRECTORY) {
		size_t it = 0;
		struct sim_entry *e;
		while ((e = table_next(&i->entries, &it, NULL))) {
			struct sim_inode *live = e->live, *stable = e->stable;
			(void)table_del(&i->entries, e->name);
			sim_dealloc(s, e);
			if (live) {
				live->links--;
				sim_inode_unref(live);
			}
			if (stable)
				sim_inode_unref(stable);
		}
		table_free(&i->entries);
	}
	list_remove(&i->all);
	sim_dealloc(s, i);
}

/* ---- pages ----------------------------------------------------------------------------------------- */

static char *page_copy(struct sim *s, const char *from)
{
	char *p = sim_alloc(s, PAGE);
	if (from)
		memcpy(p, from, PAGE);
	return p;
}

static void pages_grow(struct sim_inode *i, size_t want)
{
	struct sim *s = i->host->sim;
	size_t cap = i->page_cap ? i->page_cap : 4;
	while (cap < want)
		cap *= 2;
	struct sim_page *pages = sim_alloc(s, cap * sizeof *pages);
	if (i->page_cap)
		memcpy(pages, i->pages, i->page_cap * sizeof *pages);
	sim_dealloc(s, i->pages);
	i->pages = pages;
	i->page_cap = cap;
}

static void push(struct sim *s, uint32_t **v, size_t *n, size_t *cap, uint32_t value)
{
	if (*n == *cap) {
		*cap = *cap ? *cap * 2 : 16;
		*v = mem_resize(s->mem, *v, *cap * sizeof **v);
		if (!*v)
			sim_abort(s, "no memory");
	}
	(*v)[(*n)++] = value;
}

/* A page that is about to be written to; its bytes. */
static char *page_touch(struct sim_inode *i, size_t k)
{
	struct sim *s = i->host->sim;
	struct sim_page *p = &i->pages[k];
	if (p->in_wb && !p->wb_copied) {
		p->wb = page_copy(s, p->live);
		p->wb_copied = true;
	}
	if (!p->split) {
		p->stable = p->live ? page_copy(s, p->live) : NULL;
		p->split = true;
	}
	if (!p->dirty) {
		p->dirty = true;
		push(s, &i->dirty, &i->dirty_n, &i->dirty_cap, (uint32_t)k);
	}
	if (!p->live)
		p->live = page_copy(s, NULL);
	return p->live;
}

static enum err charge(struct sim_inode *i, uint64_t pages)
{
	struct sim_disk *d = &i->host->disk;
	if (pages > d->pages_max - d->pages_used)
		return ERR_NO_SPACE;
	d->pages_used += pages;
	i->charged += pages;
	return ERR_NONE;
}

size_t sim_inode_read(const struct sim_inode *i, char *p, size_t n, uint64_t offset)
{
	size_t done = 0;
	if (offset >= i->size)
		return 0;
	if (n > i->size - offset)
		n = (size_t)(i->size - offset);
	while (done < n) {
		size_t k = (size_t)((offset + done) / PAGE), at = (size_t)((offset + done) % PAGE);
		size_t part = PAGE - at < n - done ? PAGE - at : n - done;
		const char *live = k < i->page_cap ? i->pages[k].live : NULL;
		if (live)
			memcpy(p + done, live + at, part);
		else
			memset(p + done, 0, part);
		done += part;
	}
	return n;
}

enum err sim_inode_write(struct sim_inode *i, struct str bytes, uint64_t offset)
{
	size_t done = 0;
	if (pages_of(offset + bytes.n) > PAGES_MAX)
		return ERR_LIMIT;
	if (pages_of(offset + bytes.n) > i->page_cap)
		pages_grow(i, (size_t)pages_of(offset + bytes.n));
	while (done < bytes.n) {
		size_t k = (size_t)((offset + done) / PAGE), at = (size_t)((offset + done) % PAGE);
		size_t part = PAGE - at < bytes.n - done ? PAGE - at : bytes.n - done;
		if (!i->pages[k].live && ++i->filled > i->charged) {
			enum err e = charge(i, 1);
			if (e != ERR_NONE) {
				i->filled--;
				return e; /* what was written before is written */
			}
		}
		memcpy(page_touch(i, k) + at, bytes.p + done, part);
		done += part;
		if (offset + done > i->size)
			i->size = offset + done;
	}
	i->mtime_ms = SIM_EPOCH_MS + i->host->sim->now_ns / MS + i->host->wall_offset_ms;
	return ERR_NONE;
}

enum err sim_inode_resize(struct sim_inode *i, uint64_t bytes)
{
	if (pages_of(bytes) > PAGES_MAX)
		return ERR_LIMIT;
	for (size_t k = (size_t)(bytes / PAGE); k < i->page_cap && bytes < i->size; k++) {
		size_t from = k == bytes / PAGE ? (size_t)(bytes % PAGE) : 0;
		if (i->pages[k].live)
			memset(page_touch(i, k) + from, 0, PAGE - from);
	}
	i->size = bytes;
	return ERR_NONE;
}

enum err sim_inode_reserve(struct sim_inode *i, uint64_t bytes)
{
	uint64_t want = pages_of(bytes);
	if (want > PAGES_MAX)
		return ERR_LIMIT;
	if (want > i->charged)
		TRY(charge(i, want - i->charged));
	if (bytes > i->size)
		i->size = bytes;
	return ERR_NONE;
}

/* ---- syncs -------------------------------------------------------------------------------------------- */

bool sim_inode_is_dirty(const struct sim_inode *i)
{
	return i->dirty_n > 0 || i->size != i->stable_size;
}

void sim_sync_begin(struct sim_inode *i)
{
	struct sim *s = i->host->sim;
	ASSERT(!i->syncing && i->wb_n == 0);
	i->syncing = true;
	i->wb_size = i->size;
	for (size_t n = 0; n < i->dirty_n; n++) {
		struct sim_page *p = &i->pages[i->dirty[n]];
		p->dirty = false;
		p->in_wb = true;
		p->wb_copied = false;
		push(s, &i->wb, &i->wb_n, &i->wb_cap, i->dirty[n]);
	}
	i->dirty_n = 0;
}

static void page_is_stable(struct sim *s, struct sim_page *p)
{
	sim_dealloc(s, p->stable);
	p->stable = NULL;
	if (p->wb_copied)
		p->stable = p->wb; /* F2: still split, and dirty */
	else
		p->split = false;
	p->wb = NULL;
	p->in_wb = p->wb_copied = false;
}

void sim_sync_done(struct sim_inode *i)
{
	for (size_t n = 0; n < i->wb_n; n++)
		page_is_stable(i->host->sim, &i->pages[i->wb[n]]);
	i->wb_n = 0;
	i->stable_size = i->wb_size;
	i->syncing = false;
}

/* F3: each page was written, or not and stays in memory for a while, or not and is gone at once. */
void sim_sync_failed(struct sim_inode *i)
{
	struct sim *s = i->host->sim;
	for (size_t n = 0; n < i->wb_n; n++) {
		struct sim_page *p = &i->pages[i->wb[n]];
		if (sim_chance(s, 34)) {
			page_is_stable(s, p);
			continue;
		}
		if (sim_chance(s, 50) && !p->dirty) {
			sim_dealloc(s, p->live);
			p->live = page_copy(s, p->stable);
		}
		sim_dealloc(s, p->wb);
		p->wb = NULL;
		p->in_wb = p->wb_copied = false;
	}
	i->wb_n = 0;
	if (sim_chance(s, 50))
		i->stable_size = i->wb_size;
	i->syncing = false;
}

/* ---- power cut --------------------------------------------------------------------------------------------- */

enum fate { ALL_KEPT, ALL_LOST, BY_PAGE, BY_SECTOR, CUT_BEHIND, FATES };

/* One of the contents that may have reached the disk. */
static const char *content(const struct sim_page *p, uint64_t pick)
{
	if (p->in_wb && p->wb_copied && pick % 3 == 0)
		return p->wb;
	return pick % 3 == 1 || (pick % 3 == 0 && !p->in_wb) ? p->stable : p->live;
}

static const char zeros[PAGE];

static void page_crash(struct sim_inode *i, size_t k, enum fate fate, size_t cut)
{
	struct sim *s = i->host->sim;
	struct sim_page *p = &i->pages[k];
	char result[PAGE];
	if (fate == CUT_BEHIND)
		fate = k < cut ? ALL_KEPT : k > cut ? ALL_LOST : BY_SECTOR;
	uint64_t pick = sim_random(s);
	for (size_t at = 0; at < PAGE; at += SECTOR) {
		const char *from = fate == ALL_KEPT ? p->live : fate == ALL_LOST ? p->stable : content(p, pick);
		memcpy(result + at, (from ? from : zeros) + at, SECTOR);
		if (fate == BY_SECTOR)
			pick = sim_random(s);
	}
	bool had = p->live != NULL;
	page_drop(s, p);
	p->live = page_copy(s, result);
	if (!had)
		i->filled++;
}

static uint64_t size_after(struct sim *s, const struct sim_inode *i, enum fate fate)
{
	if (fate == ALL_KEPT)
		return i->size;
	if (fate == ALL_LOST)
		return i->stable_size;
	uint64_t of[] = { i->stable_size, i->size, i->syncing ? i->wb_size : i->size };
	return of[sim_below(s, 3)];
}

void sim_inode_crash(struct sim_inode *i)
{
	struct sim *s = i->host->sim;
	enum fate fate = (enum fate)sim_below(s, FATES);
	uint64_t size = size_after(s, i, fate);
	size_t cut = i->page_cap ? (size_t)sim_below(s, i->page_cap) : 0;
	if (fate == CUT_BEHIND && i->dirty_n + i->wb_n > 0) { /* among those in question */
		size_t n = (size_t)sim_below(s, i->dirty_n + i->wb_n);
		cut = n < i->dirty_n ? i->dirty[n] : i->wb[n - i->dirty_n];
	}
	for (size_t k = 0; k < i->page_cap; k++) {
		bool whole_old = size > i->size && k * PAGE >= i->size; /* a truncation that did not happen */
		if (i->pages[k].split)
			page_crash(i, k, whole_old ? ALL_LOST : fate, cut);
	}
	i->dirty_n = i->wb_n = 0;
	i->syncing = false;
	i->size = size;
	if (i->filled > i->charged) {
		i->host->disk.pages_used += i->filled - i->charged;
		i->charged = i->filled;
	}
	/* beyond its end a file holds zeros */
	for (size_t k = (size_t)(size / PAGE); k < i->page_cap; k++) {
		size_t from = k == size / PAGE ? (size_t)(size % PAGE) : 0;
		if (i->pages[k].live)
			memset(i->pages[k].live + from, 0, PAGE - from);
	}
	i->stable_size = size;
	i->locked_by = NULL;
	i->bound = NULL;
}
