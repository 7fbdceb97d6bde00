/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk: names. Each directory entry has a live and a stable inode; each change of an entry is
 * remembered in order until a sync of its directory (or syncfs) makes it durable.
 *
 * After a power cut the changes that were not durable happened as a prefix of that order, as a
 * journalling file system leaves them, or, harsher, each by itself or not.
 *
 * Invariant T1: a sync of a directory makes durable the changes of its own entries that had been made
 * before it began, and promises nothing of others.
 */
#include "world/sim_internal.h"

#define NAME_BYTES_MAX 255u

static struct sim_entry *entry_of(struct sim_inode *dir, struct str name)
{
	struct sim *s = dir->host->sim;
	struct sim_entry *e = table_get(&dir->entries, name);
	if (e)
		return e;
	char *copy;
	e = sim_alloc(s, sizeof *e + name.n);
	copy = (char *)(e + 1);
	memcpy(copy, name.p, name.n);
	e->name = str_of(copy, name.n);
	if (table_put(&dir->entries, e->name, e) != ERR_NONE)
		sim_abort(s, "no memory");
	return e;
}

/* An entry that names nothing any more. */
static void entry_drop_empty(struct sim_inode *dir, struct sim_entry *e)
{
	if (e->live || e->stable)
		return;
	(void)table_del(&dir->entries, e->name);
	sim_dealloc(dir->host->sim, e);
}

static void set_live(struct sim_inode *dir, struct str name, struct sim_inode *i)
{
	struct sim_entry *e = entry_of(dir, name);
	struct sim_inode *old = e->live;
	if (i) {
		sim_inode_ref(i);
		i->links++;
	}
	e->live = i;
	entry_drop_empty(dir, e);
	if (old) {
		old->links--;
		sim_inode_unref(old);
	}
}

static void set_stable(struct sim_inode *dir, struct str name, struct sim_inode *i)
{
	struct sim_entry *e = entry_of(dir, name);
	struct sim_inode *old = e->stable;
	if (i)
		sim_inode_ref(i);
	e->stable = i;
	entry_drop_empty(dir, e);
	if (old)
		sim_inode_unref(old);
}

struct sim_inode *sim_dir_get(const struct sim_inode *dir, struct str name)
{
	const struct sim_entry *e = table_get(&dir->entries, name);
	return e ? e->live : NULL;
}

/* ---- changes ------------------------------------------------------------------------------------ */

static struct str name_copy(struct sim *s, struct str name)
{
	char *p = sim_alloc(s, name.n + 1);
	memcpy(p, name.p, name.n);
	return str_of(p, name.n);
}

static void name_free(struct sim *s, struct str name)
{
	union {
		const char *from;
		char *to;
	} p = { .from = name.p };
	sim_dealloc(s, p.to);
}

static struct sim_meta *remember(enum sim_meta_kind kind, struct sim_inode *dir, struct str name,
				 struct sim_inode *i)
{
	struct sim_disk *d = &dir->host->disk;
	struct sim_meta *m = sim_alloc(dir->host->sim, sizeof *m);
	m->kind = kind;
	m->seq = ++d->next_seq;
	m->dir = dir;
	m->inode = i;
	m->name = name_copy(dir->host->sim, name);
	sim_inode_ref(dir);
	sim_inode_ref(i);
	list_push_back(&d->metas, &m->link);
	return m;
}

static void forget(struct sim_meta *m)
{
	struct sim *s = m->dir->host->sim;
	list_remove(&m->link);
	name_free(s, m->name);
	name_free(s, m->to_name);
	if (m->to_dir)
		sim_inode_unref(m->to_dir);
	sim_inode_unref(m->inode);
	sim_inode_unref(m->dir);
	sim_dealloc(s, m);
}

static void happens(const struct sim_meta *m)
{
	const struct sim_entry *e = table_get(&m->dir->entries, m->name);
	bool is_it = e && e->stable == m->inode;
	if (m->kind == META_LINK)
		set_stable(m->dir, m->name, m->inode);
	else if (is_it)
		set_stable(m->dir, m->name, NULL);
	if (m->kind == META_RENAME)
		set_stable(m->to_dir, m->to_name, m->inode);
}

void sim_dir_link(struct sim_inode *dir, struct str name, struct sim_inode *i)
{
	(void)remember(META_LINK, dir, name, i);
	set_live(dir, name, i);
	if (i->kind == WORLD_DIRECTORY)
		i->parent = dir;
}

void sim_dir_unlink(struct sim_inode *dir, struct str name)
{
	struct sim_inode *i = sim_dir_get(dir, name);
	(void)remember(META_UNLINK, dir, name, i);
	set_live(dir, name, NULL);
}

void sim_dir_rename(struct sim_inode *from, struct str name, struct sim_inode *to, struct str to_name)
{
	struct sim_inode *i = sim_dir_get(from, name);
	struct sim_meta *m = remember(META_RENAME, from, name, i);
	m->to_dir = to;
	m->to_name = name_copy(from->host->sim, to_name);
	sim_inode_ref(to);
	set_live(to, m->to_name, i);
	set_live(from, m->name, NULL);
	if (i->kind == WORLD_DIRECTORY)
		i->parent = to;
}

void sim_dir_durable(struct sim_host *h, const struct sim_inode *dir, uint64_t seq)
{
	LIST_EACH(&h->disk.metas, it) {
		struct sim_meta *m = CONTAINER_OF(it, struct sim_meta, link);
		if (m->seq > seq || (dir && m->dir != dir && m->to_dir != dir))
			continue;
		happens(m);
		forget(m);
	}
}

void sim_disk_settle(struct sim_host *h)
{
	sim_dir_durable(h, NULL, UINT64_MAX);
	LIST_EACH(&h->disk.inodes, it) {
		struct sim_inode *i = CONTAINER_OF(it, struct sim_inode, all);
		if (i->kind == WORLD_FILE && !i->syncing && sim_inode_is_dirty(i)) {
			sim_sync_begin(i);
			sim_sync_done(i);
		}
	}
}

/* ---- paths ------------------------------------------------------------------------------------------ */

enum err sim_walk_parent(struct sim_inode *dir, struct str path, struct sim_inode **dir_out, struct str *last_out)
{
	bool absolute = path.n > 0 && path.p[0] == '/';
	if (path.n == 0 || str_find(path, '\0') < path.n)
		return ERR_SYNTAX;
	if (absolute && dir != dir->host->disk.root)
		return ERR_DENIED; /* leaves what it must stay beneath */
	*dir_out = dir;
	*last_out = STR(".");
	while (path.n > 0) {
		struct str name = str_split(path, '/', &path);
		if (name.n == 0 || str_eq(name, STR(".")))
			continue;
		if (str_eq(name, STR("..")))
			return ERR_DENIED;
		if (name.n > NAME_BYTES_MAX)
			return ERR_LIMIT;
		if (!str_eq(*last_out, STR("."))) {
			struct sim_inode *next = sim_dir_get(*dir_out, *last_out);
			if (!next || next->kind != WORLD_DIRECTORY)
				return ERR_NOT_FOUND;
			*dir_out = next;
		}
		*last_out = name;
	}
	return ERR_NONE;
}

enum err sim_walk(struct sim_inode *dir, struct str path, struct sim_inode **out)
{
	struct str last;
	TRY(sim_walk_parent(dir, path, &dir, &last));
	*out = str_eq(last, STR(".")) ? dir : sim_dir_get(dir, last);
	return *out ? ERR_NONE : ERR_NOT_FOUND;
}

/* ---- power cut ----------------------------------------------------------------------------------------- */

static void replay_metas(struct sim_host *h)
{
	struct sim *s = h->sim;
	size_t n = 0, k = 0;
	LIST_EACH(&h->disk.metas, count)
		n += count != NULL;
	bool by_itself = sim_chance(s, 50);
	size_t prefix = (size_t)sim_below(s, n + 1);
	unsigned percent = (unsigned)sim_below(s, 101);
	LIST_EACH(&h->disk.metas, it) {
		struct sim_meta *m = CONTAINER_OF(it, struct sim_meta, link);
		if (by_itself ? sim_chance(s, percent) : k < prefix)
			happens(m);
		k++;
		forget(m);
	}
}

static void entries_to_stable(struct sim_inode *dir)
{
	size_t it = 0;
	struct sim_entry *e;
	while ((e = table_next(&dir->entries, &it, NULL))) {
		if (e->live == e->stable)
			continue;
		if (e->stable && e->stable->kind == WORLD_DIRECTORY)
			e->stable->parent = dir;
		set_live(dir, e->name, e->stable);
	}
}

void sim_disk_crash(struct sim_host *h)
{
	replay_metas(h);
	LIST_EACH(&h->disk.inodes, it)
		sim_inode_ref(CONTAINER_OF(it, struct sim_inode, all)); /* none goes while we look */
	LIST_EACH(&h->disk.inodes, it) {
		struct sim_inode *i = CONTAINER_OF(it, struct sim_inode, all);
		if (i->kind == WORLD_DIRECTORY)
			entries_to_stable(i);
		else
			sim_inode_crash(i);
	}
	for (struct list *it = h->disk.inodes.next; it != &h->disk.inodes;) {
		struct sim_inode *i = CONTAINER_OF(it, struct sim_inode, all);
		it = it->next;
		sim_inode_unref(i);
	}
}

void sim_disk_init(struct sim_host *h, uint64_t bytes)
{
	struct sim_disk *d = &h->disk;
	d->host = h;
	list_init(&d->inodes);
	list_init(&d->metas);
	d->pages_max = bytes ? bytes / 4096 : UINT64_MAX / 2;
	d->root = sim_inode_new(h, WORLD_DIRECTORY, 0755);
	d->root->links = 1;
}
