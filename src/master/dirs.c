/* SPDX-License-Identifier: Apache-2.0 */
/* The directories that must be there before anybody starts: see dirs.h. */
#include "master/dirs.h"

/* A directory that a power cut takes away takes what lies in it along. */
static enum err sync_parent(struct world *w, struct str path)
{
	int fd;
	size_t slash = str_rfind(path, '/');
	TRY(world_open(w, WORLD_ABSOLUTE, slash ? str_sub(path, 0, slash) : STR("/"), WORLD_READ | WORLD_DIR, 0, &fd));
	enum err e = world_sync(w, fd);
	world_close(w, fd);
	return e;
}

enum err dir_make(struct world *w, struct str path, unsigned uid, unsigned gid, unsigned mode)
{
	int fd;
	enum err e = world_mkdir(w, WORLD_ABSOLUTE, path, mode);
	if (e == ERR_NOT_FOUND) { /* parents, readable by all: the walls are further in */
		struct str parent = str_sub(path, 0, str_rfind(path, '/'));
		e = parent.n ? dir_make(w, parent, 0, 0, 0755) : e;
		if (e == ERR_NONE)
			e = world_mkdir(w, WORLD_ABSOLUTE, path, mode);
	}
	if (e != ERR_NONE && e != ERR_EXISTS)
		return e;
	bool ours = e == ERR_NONE;
	TRY(world_open(w, WORLD_ABSOLUTE, path, WORLD_READ | WORLD_DIR, 0, &fd));
	struct world_stat st;
	e = world_stat(w, fd, &st);
	if (e == ERR_NONE && world_uid(w) == 0 && (ours || st.uid != uid))
		e = world_set_owner(w, fd, uid, gid, mode);
	if (e == ERR_NONE)
		e = world_sync(w, fd);
	world_close(w, fd);
	/* Even when it was there: whoever made it may have been killed before this. */
	TRY(e);
	e = sync_parent(w, path);
	return e == ERR_DENIED && !ours ? ERR_NONE : e;
}

static bool may_pass(const struct world_stat *st, unsigned uid, unsigned gid)
{
	return st->mode & (st->uid == uid ? 0100u : st->gid == gid ? 0010u : 0001u);
}

enum err dir_check_way(struct world *w, struct str path, unsigned uid, unsigned gid, struct str *blocked_out)
{
	if (world_uid(w) != 0)
		return ERR_NONE;
	for (size_t n = 1; n < path.n; n++) {
		struct world_stat st;
		int fd;
		if (path.p[n] != '/')
			continue;
		*blocked_out = str_sub(path, 0, n);
		TRY(world_open(w, WORLD_ABSOLUTE, *blocked_out, WORLD_READ | WORLD_DIR, 0, &fd));
		enum err e = world_stat(w, fd, &st);
		world_close(w, fd);
		TRY(e);
		if (!may_pass(&st, uid, gid))
			return ERR_DENIED;
	}
	return ERR_NONE;
}
