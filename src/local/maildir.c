/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maildir delivery: see maildir.h. How a batch is synced was measured (docs/measurements.md §3): one
 * message alone by fsync, more by syncfs before and after the renames.
 */
#include "local/maildir.h"

#include "base/buf.h"
#include "base/clockfmt.h"

#define PATH_MAX_BYTES 900u

void maildir_name(struct buf *b, int64_t arrived_ms, uint64_t id, unsigned recipient, struct str hostname)
{
	buf_add_i64(b, arrived_ms / 1000);
	buf_add(b, STR(".M"));
	msg_id_add(b, id);
	buf_add_char(b, 'R');
	buf_add_u64(b, recipient);
	buf_add_char(b, '.');
	buf_add(b, str_sub(hostname, 0, 64));
}

static struct str join(char *to, struct str a, const char *b, struct str c)
{
	struct buf path = buf_fixed(to, PATH_MAX_BYTES);
	buf_add(&path, a);
	buf_add(&path, str_z(b));
	buf_add(&path, c);
	return buf_err(&path) == ERR_NONE ? buf_str(&path) : STR_NONE;
}

static enum err sync_path(struct world *w, int root_fd, struct str path)
{
	int fd;
	TRY(world_open(w, root_fd, path, WORLD_READ | WORLD_DIR, 0, &fd));
	enum err e = world_sync(w, fd);
	world_close(w, fd);
	return e;
}

/*
 * Makes mailbox, tmp, new and cur, and the domain's directory above, all durable: a message is only as
 * safe as the directories above it. (What a predecessor made and did not sync, start() has synced.)
 */
static enum err make_dirs(struct world *w, int root_fd, struct str mailbox)
{
	static const char *const dirs[] = { "", "/new", "/cur", "/tmp" };
	char path[PATH_MAX_BYTES];
	size_t slash = str_find(mailbox, '/');
	if (slash < mailbox.n) {
		enum err e = world_mkdir(w, root_fd, str_sub(mailbox, 0, slash), 0700);
		if (e != ERR_NONE && e != ERR_EXISTS)
			return e;
	}
	for (size_t i = 0; i < 4; i++) {
		enum err e = world_mkdir(w, root_fd, join(path, mailbox, dirs[i], STR("")), 0700);
		if (e != ERR_NONE && e != ERR_EXISTS)
			return e;
	}
	TRY(sync_path(w, root_fd, mailbox));
	if (slash < mailbox.n)
		TRY(sync_path(w, root_fd, str_sub(mailbox, 0, slash)));
	return world_sync(w, root_fd);
}

/* When it fails, what it made is there and perhaps not durable: nobody may trust it before a sync. */
static enum err make_mailbox(struct world *w, struct maildir_batch *b, struct str mailbox)
{
	enum err e = make_dirs(w, b->root_fd, mailbox);
	b->dirs_in_doubt |= e != ERR_NONE;
	return e;
}

/* D3 */
static enum err open_mailbox(struct world *w, struct maildir_batch *b, struct str mailbox, int *fd_out)
{
	struct world_stat st;
	enum err e = world_open(w, b->root_fd, mailbox, WORLD_READ | WORLD_DIR, 0, fd_out);
	if (e == ERR_NOT_FOUND) {
		TRY(make_mailbox(w, b, mailbox));
		e = world_open(w, b->root_fd, mailbox, WORLD_READ | WORLD_DIR, 0, fd_out);
	}
	TRY(e);
	e = world_stat(w, *fd_out, &st);
	if (e == ERR_NONE && (st.uid != b->uid || st.mode & 022))
		e = ERR_DENIED;
	if (e != ERR_NONE)
		world_close(w, *fd_out);
	return e;
}

static enum err create_file(struct world *w, int box_fd, struct str name, int *fd_out)
{
	char path[PATH_MAX_BYTES];
	struct str tmp = join(path, STR("tmp/"), "", name);
	unsigned flags = WORLD_WRITE | WORLD_CREATE | WORLD_EXCL;
	enum err e = world_open(w, box_fd, tmp, flags, 0600, fd_out);
	if (e == ERR_EXISTS) { /* left by a crash in mid-write */
		TRY(world_unlink(w, box_fd, tmp));
		e = world_open(w, box_fd, tmp, flags, 0600, fd_out);
	}
	return e;
}

/* CRLF to LF in place; a CR at the end is held back in *cr for the next piece. */
static size_t to_lf(char *p, size_t n, bool *cr)
{
	size_t out = 0;
	for (size_t i = 0; i < n; i++) {
		bool held = *cr;
		*cr = p[i] == '\r';
		if (held && p[i] != '\n')
			p[out++] = '\r'; /* never overtakes i: the CR was not written when it was read */
		if (!*cr)
			p[out++] = p[i];
	}
	return out;
}

static enum err copy_body_file(struct world *w, const struct maildir_job *j, int fd, uint64_t at)
{
	bool cr = false;
	for (uint64_t from = 0; from < j->body_fd_bytes;) {
		size_t n, want = MAILDIR_COPY_BYTES - 1;
		if (want > j->body_fd_bytes - from)
			want = (size_t)(j->body_fd_bytes - from);
		/* One byte of room in front, for a CR that was held back. */
		TRY(world_pread(w, j->body_fd, j->copy_buffer + 1, want, from, &n));
		if (n != want)
			return ERR_CORRUPT;
		from += n;
		char *p = j->copy_buffer + 1;
		if (!j->keep_crlf) {
			bool had = cr;
			if (had) {
				p = j->copy_buffer;
				p[0] = '\r';
				cr = false;
				n++;
			}
			n = to_lf(p, n, &cr);
		}
		struct str part = str_of(p, n);
		TRY(world_pwritev(w, fd, &part, 1, at));
		at += n;
	}
	if (cr)
		return world_pwritev(w, fd, &STR("\r"), 1, at);
	return ERR_NONE;
}

static enum err write_file(struct world *w, const struct maildir_job *j, bool sync, int box_fd)
{
	char path[PATH_MAX_BYTES];
	int fd;
	TRY(create_file(w, box_fd, j->name, &fd));
	enum err e = world_pwritev(w, fd, j->parts, 3, 0);
	if (e == ERR_NONE && j->body_fd >= 0)
		e = copy_body_file(w, j, fd, j->parts[0].n + j->parts[1].n);
	if (e == ERR_NONE && sync)
		e = world_sync(w, fd);
	world_close(w, fd);
	if (e != ERR_NONE)
		(void)!world_unlink(w, box_fd, join(path, STR("tmp/"), "", j->name)); /* on a full disk, half a mail is in the way */
	return e;
}

struct search {
	struct str name;
	bool found;
};

static enum err see_name(void *arg, struct str name)
{
	struct search *s = arg;
	s->found |= str_starts(name, s->name) && (name.n == s->name.n || name.p[s->name.n] == ':');
	return ERR_NONE;
}

/* After a crash: the reader may have seen the message and moved it. */
static bool is_in_cur(struct world *w, int box_fd, struct str name)
{
	int fd;
	struct search s = { .name = name };
	if (world_open(w, box_fd, STR("cur"), WORLD_READ | WORLD_DIR, 0, &fd) != ERR_NONE)
		return false;
	if (world_list(w, fd, see_name, &s) != ERR_NONE)
		s.found = false;
	world_close(w, fd);
	return s.found;
}

static enum err prepare(struct world *w, struct maildir_batch *b, struct maildir_job *j, bool sync)
{
	int box_fd;
	TRY(open_mailbox(w, b, j->mailbox, &box_fd));
	j->already = j->repeated && is_in_cur(w, box_fd, j->name);
	enum err e = j->already ? ERR_NONE : write_file(w, j, sync, box_fd);
	if (e == ERR_NOT_FOUND) { /* half a mailbox: its making was interrupted */
		e = make_mailbox(w, b, j->mailbox);
		if (e == ERR_NONE)
			e = write_file(w, j, sync, box_fd);
	}
	world_close(w, box_fd);
	return e;
}

static enum err show(struct world *w, struct maildir_batch *b, struct maildir_job *j)
{
	char from[PATH_MAX_BYTES], to[PATH_MAX_BYTES];
	if (j->already)
		return ERR_NONE;
	struct str tmp = join(from, j->mailbox, "/tmp/", j->name), new = join(to, j->mailbox, "/new/", j->name);
	enum err e = world_rename(w, b->root_fd, tmp, b->root_fd, new);
	if (e != ERR_NOT_FOUND)
		return e;
	TRY(make_mailbox(w, b, j->mailbox)); /* half a mailbox, as above */
	return world_rename(w, b->root_fd, tmp, b->root_fd, new);
}

static enum err sync_dir(struct world *w, struct maildir_batch *b, struct maildir_job *j)
{
	char path[PATH_MAX_BYTES];
	int fd;
	TRY(world_open(w, b->root_fd, join(path, j->mailbox, "/new", STR("")), WORLD_READ | WORLD_DIR, 0, &fd));
	enum err e = world_sync(w, fd);
	world_close(w, fd);
	return e;
}

static enum err timed_syncfs(struct world *w, struct maildir_batch *b)
{
	int64_t before, after;
	before = world_measure_ns(w);
	enum err e = world_syncfs(w, b->root_fd);
	after = world_measure_ns(w);
	if (after - before > b->slowest_sync_ns)
		b->slowest_sync_ns = after - before;
	return e;
}

static void fail_rest(struct maildir_batch *b, enum err e)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->jobs[i]->err == ERR_NONE)
			b->jobs[i]->err = e;
}

void maildir_write_batch(struct world *w, void *arg)
{
	struct maildir_batch *b = arg;
	bool each = b->n == 1 || b->avoid_syncfs;
	enum err e = b->dirs_in_doubt ? timed_syncfs(w, b) : ERR_NONE;
	if (e != ERR_NONE) {
		fail_rest(b, e);
		return;
	}
	b->dirs_in_doubt = false;
	for (size_t i = 0; i < b->n; i++)
		b->jobs[i]->err = prepare(w, b, b->jobs[i], each);
	if (!each)
		e = timed_syncfs(w, b); /* D1: content first … */
	if (e != ERR_NONE) {
		fail_rest(b, e);
		return;
	}
	for (size_t i = 0; i < b->n; i++)
		if (b->jobs[i]->err == ERR_NONE)
			b->jobs[i]->err = show(w, b, b->jobs[i]);
	for (size_t i = 0; each && i < b->n; i++)
		if (b->jobs[i]->err == ERR_NONE)
			b->jobs[i]->err = sync_dir(w, b, b->jobs[i]);
	if (!each)
		e = timed_syncfs(w, b); /* … then its name */
	if (e != ERR_NONE)
		fail_rest(b, e);
}
