/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's file calls, over sim_disk.c (content) and sim_tree.c (names). Each call takes
 * virtual time: on a helper thread others run meanwhile, and the power may fail in between.
 */
#include "world/sim_internal.h"

#define SEEK_NS (8 * US)

static void file_close(struct sim *s, struct sim_object *o)
{
	struct sim_file *f = CONTAINER_OF(o, struct sim_file, o);
	if (f->inode->locked_by == o)
		f->inode->locked_by = NULL;
	sim_inode_unref(f->inode);
	sim_dealloc(s, f);
}

static enum err file_new(struct world *w, struct sim_inode *i, unsigned flags, int *fd_out)
{
	struct sim_file *f = sim_alloc(w->sim, sizeof *f);
	sim_object_init(&f->o, OBJ_FILE);
	f->o.close = file_close;
	f->inode = i;
	sim_inode_ref(i);
	enum err e = sim_fd_new(w, &f->o, flags, fd_out);
	if (e != ERR_NONE)
		sim_object_unref(w->sim, &f->o);
	return e;
}

static struct sim_inode *inode_of(struct world *w, int fd)
{
	return CONTAINER_OF(sim_fd_object(w, fd, OBJ_FILE), struct sim_file, o)->inode;
}

/* Where a path starts; its directory is checked against the jail. */
static enum err start_of(struct world *w, int dirfd, struct sim_inode **dir_out)
{
	*dir_out = dirfd == WORLD_ABSOLUTE ? w->host->disk.root : inode_of(w, dirfd);
	return (*dir_out)->kind == WORLD_DIRECTORY ? ERR_NONE : ERR_NOT_FOUND;
}

static enum err parent_of(struct world *w, int dirfd, struct str path, const char *call,
			  struct sim_inode **dir_out, struct str *name_out)
{
	struct sim_inode *start;
	TRY(sim_jail_check(w, WORLD_MAY_FILES | WORLD_MAY_DATABASE, call));
	TRY(start_of(w, dirfd, &start));
	TRY(sim_walk_parent(start, path, dir_out, name_out));
	return sim_jail_path(w, *dir_out);
}

static enum err create(struct world *w, struct sim_inode *dir, struct str name, enum world_kind kind,
		       unsigned mode, struct sim_inode **out)
{
	struct sim_disk *d = &w->host->disk;
	if (d->pages_used >= d->pages_max)
		return ERR_NO_SPACE;
	struct sim_inode *i = sim_inode_new(w->host, kind, mode & 07777);
	i->uid = i->gid = w->uid;
	sim_dir_link(dir, name, i);
	sim_inode_unref(i); /* the entry has it */
	*out = i;
	return ERR_NONE;
}

static enum err open_check(const struct sim_inode *i, unsigned flags)
{
	if (i->kind == WORLD_OTHER)
		return ERR_DENIED; /* ENXIO: a socket */
	if (i->kind == WORLD_DIRECTORY && flags & (WORLD_WRITE | WORLD_REGULAR))
		return ERR_DENIED;
	if (i->kind != WORLD_DIRECTORY && flags & WORLD_DIR)
		return ERR_NOT_FOUND; /* ENOTDIR */
	return flags & WORLD_REGULAR && i->links != 1 ? ERR_DENIED : ERR_NONE;
}

enum err world_open(struct world *w, int dirfd, struct str path, unsigned flags, unsigned mode, int *fd_out)
{
	struct sim_inode *dir, *i;
	struct str name;
	TRY(sim_enter_op(w, SIM_OPEN, SEEK_NS));
	TRY(parent_of(w, dirfd, path, "open", &dir, &name));
	i = str_eq(name, STR(".")) ? dir : sim_dir_get(dir, name);
	if (!i && dir->kind != WORLD_DIRECTORY)
		return ERR_NOT_FOUND;
	if (i && flags & WORLD_EXCL)
		return ERR_EXISTS;
	if (!i && !(flags & WORLD_CREATE))
		return ERR_NOT_FOUND;
	if (!i)
		TRY(create(w, dir, name, WORLD_FILE, mode, &i));
	TRY(open_check(i, flags));
	if (flags & WORLD_TRUNC)
		TRY(sim_inode_resize(i, 0));
	return file_new(w, i, flags, fd_out);
}

static bool aligned(uint64_t v)
{
	return v % WORLD_DIRECT_ALIGN == 0;
}

/* What the kernel would refuse. */
static void check_direct(struct world *w, int fd, const void *p, size_t n, uint64_t offset)
{
	if (w->fds[fd].flags & WORLD_DIRECT && !(aligned((uintptr_t)p) && aligned(n) && aligned(offset)))
		sim_fail(w->sim, "%s: a direct call with unaligned memory, length %zu or offset %llu", w->role, n,
			 (unsigned long long)offset);
}

/* Syncing needs the file calls in the jail's list even on inherited descriptors; reading and writing do not. */
static enum err file_call(struct world *w, int fd, unsigned need, const char *call, struct sim_inode **out)
{
	*out = inode_of(w, fd);
	TRY(sim_jail_check(w, WORLD_MAY_FILES | WORLD_MAY_DATABASE, call));
	return need && !(w->fds[fd].flags & need) ? ERR_DENIED : ERR_NONE;
}

enum err world_pread(struct world *w, int fd, void *p, size_t n, uint64_t offset, size_t *n_out)
{
	struct sim_inode *i;
	TRY(sim_enter_op(w, SIM_READ, 5 * US + (int64_t)n / 4));
	i = inode_of(w, fd);
	if (!(w->fds[fd].flags & WORLD_READ))
		return ERR_DENIED;
	check_direct(w, fd, p, n, offset);
	*n_out = sim_inode_read(i, p, n, offset);
	return ERR_NONE;
}

enum err world_pwritev(struct world *w, int fd, const struct str *parts, size_t count, uint64_t offset)
{
	struct sim_inode *i;
	size_t total = 0;
	for (size_t k = 0; k < count; k++)
		total += parts[k].n;
	enum err fault = sim_enter_op(w, SIM_WRITE, 6 * US + (int64_t)total / 2);
	i = inode_of(w, fd);
	if (!(w->fds[fd].flags & WORLD_WRITE))
		return ERR_DENIED;
	for (size_t k = 0; k < count; k++) {
		struct str part = parts[k];
		check_direct(w, fd, part.p, part.n, offset);
		if (fault != ERR_NONE) /* a part of it may have been written */
			part = str_sub(part, 0, (size_t)sim_below(w->sim, part.n + 1));
		if (w->max_file_bytes && offset + part.n > w->max_file_bytes)
			return ERR_LIMIT;
		TRY(sim_inode_write(i, part, offset));
		if (fault != ERR_NONE)
			return fault;
		offset += part.n;
	}
	return fault;
}

/* Standard error: whole lines go to the log. */
enum err world_write(struct world *w, int fd, struct str s)
{
	sim_enter(w, 2 * US);
	if (fd != 2)
		sim_abort(w->sim, "%s writes to descriptor %d, which has no position", w->role, fd);
	for (;;) {
		size_t n = str_find(s, '\n');
		buf_add(&w->log_line, str_sub(s, 0, n));
		if (n == s.n)
			return ERR_NONE;
		sim_note(w->sim, "%s/%s[%u]: %.*s", w->host->name, w->role, w->index, (int)w->log_line.n,
			 w->log_line.p ? w->log_line.p : "");
		buf_clear(&w->log_line);
		s = str_sub(s, n + 1, s.n);
	}
}

enum err world_truncate(struct world *w, int fd, uint64_t bytes)
{
	struct sim_inode *i;
	TRY(sim_enter_op(w, SIM_WRITE, SEEK_NS));
	TRY(file_call(w, fd, WORLD_WRITE, "ftruncate", &i));
	return sim_inode_resize(i, bytes);
}

enum err world_allocate(struct world *w, int fd, uint64_t bytes)
{
	struct sim_inode *i;
	TRY(sim_enter_op(w, SIM_RESERVE, 30 * US));
	TRY(file_call(w, fd, WORLD_WRITE, "fallocate", &i));
	return sim_inode_reserve(i, bytes);
}

/* ---- syncs -------------------------------------------------------------------------------------- */

static int64_t sync_time(struct world *w)
{
	struct sim *s = w->sim;
	return 150 * US + (int64_t)sim_below(s, sim_chance(s, 3) ? 30 * MS : MS);
}

/* The disk works. On the process's own stack that is no time in which others run. */
static void disk_works(struct world *w, int64_t ns)
{
	struct sim_fiber *f = w->sim->current;
	if (f == &w->main) {
		w->busy_ns += ns;
		return;
	}
	sim_at(w->sim, &f->wake, w->sim->now_ns + ns);
	sim_fiber_wait(f);
}

static enum err sync_file(struct world *w, struct sim_inode *i, int64_t ns, enum err fault)
{
	struct sim_fiber *f = w->sim->current;
	sim_inode_ref(i); /* not even a close meanwhile takes it away */
	while (i->syncing) { /* another's sync comes first; here we cannot wait for it: it is done now */
		if (f == &w->main)
			sim_sync_done(i);
		else
			disk_works(w, 50 * US);
	}
	sim_sync_begin(i);
	f->syncing = i;
	disk_works(w, ns);
	f->syncing = NULL;
	if (fault == ERR_NONE)
		sim_sync_done(i);
	else
		sim_sync_failed(i);
	sim_inode_unref(i);
	return fault;
}

static enum err sync_dir(struct world *w, struct sim_inode *i, enum err fault)
{
	uint64_t seq = w->host->disk.next_seq;
	sim_inode_ref(i);
	disk_works(w, sync_time(w));
	if (fault == ERR_NONE)
		sim_dir_durable(w->host, i, seq);
	sim_inode_unref(i);
	return fault;
}

enum err world_sync(struct world *w, int fd)
{
	struct sim_inode *i;
	enum err fault = sim_enter_op(w, SIM_SYNC, 10 * US);
	TRY(file_call(w, fd, 0, "fsync", &i));
	return i->kind == WORLD_DIRECTORY ? sync_dir(w, i, fault) :
						   sync_file(w, i, sync_time(w), fault);
}

enum err world_datasync(struct world *w, int fd)
{
	return world_sync(w, fd);
}

static struct sim_inode *next_dirty(struct sim_host *h, uint64_t after_ino)
{
	struct sim_inode *best = NULL;
	LIST_EACH(&h->disk.inodes, it) {
		struct sim_inode *i = CONTAINER_OF(it, struct sim_inode, all);
		if (i->kind != WORLD_DIRECTORY && i->ino > after_ino && (sim_inode_is_dirty(i) || i->syncing) &&
		    (!best || i->ino < best->ino))
			best = i;
	}
	return best;
}

enum err world_syncfs(struct world *w, int fd)
{
	struct sim_inode *i, *dirty;
	enum err fault = sim_enter_op(w, SIM_SYNC, 10 * US);
	TRY(file_call(w, fd, 0, "syncfs", &i));
	struct sim_host *h = w->host;
	uint64_t seq = h->disk.next_seq, last = h->disk.next_ino;
	for (uint64_t ino = 0; (dirty = next_dirty(h, ino)) && dirty->ino <= last;) {
		ino = dirty->ino;
		if (sync_file(w, dirty, 20 * US, fault) != fault)
			sim_abort(w->sim, "syncfs");
	}
	disk_works(w, sync_time(w));
	if (fault == ERR_NONE)
		sim_dir_durable(h, NULL, seq);
	return fault;
}

/* ---- names ----------------------------------------------------------------------------------------- */

enum err world_rename(struct world *w, int from_dirfd, struct str from, int to_dirfd, struct str to)
{
	struct sim_inode *a, *b;
	struct str a_name, b_name;
	TRY(sim_enter_op(w, SIM_RENAME, SEEK_NS));
	TRY(parent_of(w, from_dirfd, from, "rename", &a, &a_name));
	TRY(parent_of(w, to_dirfd, to, "rename", &b, &b_name));
	struct sim_inode *i = sim_dir_get(a, a_name), *old = sim_dir_get(b, b_name);
	if (!i)
		return ERR_NOT_FOUND;
	if (old && old->kind != i->kind)
		return ERR_EXISTS;
	if (i != old)
		sim_dir_rename(a, a_name, b, b_name);
	return ERR_NONE;
}

enum err world_unlink(struct world *w, int dirfd, struct str name)
{
	struct sim_inode *dir;
	struct str last;
	TRY(sim_enter_op(w, SIM_UNLINK, SEEK_NS));
	TRY(parent_of(w, dirfd, name, "unlink", &dir, &last));
	struct sim_inode *i = sim_dir_get(dir, last);
	if (!i)
		return ERR_NOT_FOUND;
	if (i->kind == WORLD_DIRECTORY)
		return ERR_DENIED;
	sim_dir_unlink(dir, last);
	return ERR_NONE;
}

enum err world_mkdir(struct world *w, int dirfd, struct str name, unsigned mode)
{
	struct sim_inode *dir, *i;
	struct str last;
	TRY(sim_enter_op(w, SIM_MKDIR, SEEK_NS));
	TRY(parent_of(w, dirfd, name, "mkdir", &dir, &last));
	if (str_eq(last, STR(".")) || sim_dir_get(dir, last))
		return ERR_EXISTS;
	return create(w, dir, last, WORLD_DIRECTORY, mode, &i);
}

enum err world_stat(struct world *w, int fd, struct world_stat *st_out)
{
	sim_enter(w, US);
	const struct sim_inode *i = inode_of(w, fd);
	*st_out = (struct world_stat){
		.bytes = i->size,
		.inode = i->ino,
		.mtime_ms = i->mtime_ms,
		.uid = i->uid,
		.gid = i->gid,
		.mode = i->mode,
		.links = i->links,
		.kind = i->kind,
	};
	return ERR_NONE;
}

enum err world_set_owner(struct world *w, int fd, unsigned uid, unsigned gid, unsigned mode)
{
	struct sim_inode *i;
	sim_enter(w, 2 * US);
	TRY(file_call(w, fd, 0, "fchmod", &i));
	if (w->uid == 0) {
		i->uid = uid;
		i->gid = gid;
	}
	i->mode = mode & 07777;
	return ERR_NONE;
}

struct names {
	struct sim *s;
	struct str *v;
	size_t n;
};

/* A copy: each() may change the directory. */
static struct names names_of(struct sim *s, const struct sim_inode *dir)
{
	struct names names = { .s = s };
	size_t it = 0;
	const struct sim_entry *e;
	names.v = sim_alloc(s, (dir->entries.n + 1) * sizeof *names.v);
	while ((e = table_next(&dir->entries, &it, NULL))) {
		if (!e->live)
			continue;
		char *p = sim_alloc(s, e->name.n);
		memcpy(p, e->name.p, e->name.n);
		names.v[names.n++] = str_of(p, e->name.n);
	}
	return names;
}

static void names_free(struct names *names)
{
	for (size_t k = 0; k < names->n; k++) {
		union {
			const char *from;
			char *to;
		} p = { .from = names->v[k].p };
		sim_dealloc(names->s, p.to);
	}
	sim_dealloc(names->s, names->v);
}

enum err world_list(struct world *w, int dirfd, enum err (*each)(void *arg, struct str name), void *arg)
{
	struct sim_inode *dir;
	TRY(sim_enter_op(w, SIM_READ, SEEK_NS));
	TRY(file_call(w, dirfd, 0, "getdents", &dir));
	if (dir->kind != WORLD_DIRECTORY)
		return ERR_NOT_FOUND;
	struct names names = names_of(w->sim, dir);
	enum err e = ERR_NONE;
	for (size_t k = 0; e == ERR_NONE && k < names.n; k++)
		e = each(arg, names.v[k]);
	names_free(&names);
	return e;
}

enum err world_free_space(struct world *w, int fd, uint64_t *bytes_out, uint64_t *inodes_out)
{
	struct sim_inode *i;
	sim_enter(w, 2 * US);
	TRY(file_call(w, fd, 0, "fstatvfs", &i));
	const struct sim_disk *d = &w->host->disk;
	uint64_t pages = d->pages_max > d->pages_used ? d->pages_max - d->pages_used : 0;
	*bytes_out = pages > (uint64_t)1 << 40 ? (uint64_t)1 << 52 : pages * 4096;
	*inodes_out = UINT64_MAX;
	return ERR_NONE;
}

enum err world_lock(struct world *w, int fd)
{
	struct sim_inode *i;
	sim_enter(w, 2 * US);
	TRY(file_call(w, fd, 0, "flock", &i));
	struct sim_object *o = sim_fd_any(w, fd);
	if (i->locked_by && i->locked_by != o)
		return ERR_BUSY;
	i->locked_by = o;
	return ERR_NONE;
}

enum err world_read_all(struct world *w, int fd, size_t max, struct buf *b)
{
	size_t n = 0;
	enum err e = sim_enter_op(w, SIM_READ, 20 * US);
	const struct sim_inode *i = inode_of(w, fd);
	if (e == ERR_NONE && i->size > max - b->n)
		e = ERR_LIMIT;
	char *p = e == ERR_NONE ? buf_reserve(b, (size_t)i->size) : NULL;
	if (p)
		n = sim_inode_read(i, p, (size_t)i->size, 0);
	else if (e == ERR_NONE && i->size > 0)
		e = buf_err(b);
	if (n)
		buf_commit(b, n);
	return e;
}

enum err world_read_file(struct world *w, int dirfd, struct str path, size_t max, struct buf *b)
{
	int fd;
	TRY(world_open(w, dirfd, path, WORLD_READ, 0, &fd));
	enum err e = world_read_all(w, fd, max, b);
	world_close(w, fd);
	return e;
}

/* ---- from outside ------------------------------------------------------------------------------------- */

static struct sim_inode *make_path(struct sim_host *h, struct str path, struct str *last_out)
{
	struct sim_inode *dir = h->disk.root;
	path = str_sub(path, 1, path.n);
	for (;;) {
		struct str rest, name = str_split(path, '/', &rest);
		if (name.n == path.n) {
			*last_out = name;
			return dir;
		}
		struct sim_inode *next = sim_dir_get(dir, name);
		if (!next) {
			next = sim_inode_new(h, WORLD_DIRECTORY, 0755);
			sim_dir_link(dir, name, next);
			sim_inode_unref(next);
		}
		dir = next;
		path = rest;
	}
}

enum err sim_file_put(struct sim_host *h, struct str path, struct str bytes)
{
	struct str name;
	struct sim_inode *dir = make_path(h, path, &name), *i = sim_dir_get(dir, name);
	if (!i) {
		i = sim_inode_new(h, WORLD_FILE, 0644);
		sim_dir_link(dir, name, i);
		sim_inode_unref(i);
	}
	TRY(sim_inode_resize(i, 0));
	TRY(sim_inode_write(i, bytes, 0));
	sim_disk_settle(h);
	return ERR_NONE;
}

enum err sim_file_get(struct sim_host *h, struct str path, struct buf *b)
{
	struct sim_inode *i;
	TRY(sim_walk(h->disk.root, path, &i));
	if (i->kind != WORLD_FILE)
		return ERR_NOT_FOUND;
	if (i->size == 0)
		return ERR_NONE;
	char *p = buf_reserve(b, (size_t)i->size);
	if (!p)
		return buf_err(b);
	buf_commit(b, sim_inode_read(i, p, (size_t)i->size, 0));
	return ERR_NONE;
}

enum err sim_file_list(struct sim_host *h, struct str path, void (*each)(void *arg, struct str name), void *arg)
{
	struct sim_inode *i;
	TRY(sim_walk(h->disk.root, path, &i));
	if (i->kind != WORLD_DIRECTORY)
		return ERR_NOT_FOUND;
	struct names names = names_of(h->sim, i);
	for (size_t k = 0; k < names.n; k++)
		each(arg, names.v[k]);
	names_free(&names);
	return ERR_NONE;
}
