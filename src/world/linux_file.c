/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux world's files. Names below a directory may derive from a stranger's address: the kernel
 * itself confines them (openat2 RESOLVE_BENEATH, no symlinks), beside the checks of whoever made them.
 */
#include "world/linux_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <termios.h>

#include "base/buf.h"

#define IOV_PARTS 64

enum err linux_path(struct str path, char out[PATH_BYTES])
{
	if (path.n >= PATH_BYTES)
		return ERR_LIMIT;
	if (path.n == 0 || memchr(path.p, '\0', path.n))
		return ERR_SYNTAX;
	memcpy(out, path.p, path.n);
	out[path.n] = '\0';
	return ERR_NONE;
}

/*
 * Without openat2 (Linux before 5.6, valgrind): one component after the other, none of them a symlink,
 * none "..".
 */
static int open_step_by_step(int dirfd, const char *path, int flags, unsigned mode)
{
	char part[NAME_MAX + 1];
	int at = dirfd;
	for (;;) {
		const char *slash = strchr(path, '/');
		size_t n = slash ? (size_t)(slash - path) : strlen(path);
		int fd = -1;
		errno = n > NAME_MAX ? ENAMETOOLONG : EXDEV;
		if (n > 0 && n <= NAME_MAX && !(n == 2 && path[0] == '.' && path[1] == '.')) {
			memcpy(part, path, n);
			part[n] = '\0';
			int f = slash ? O_PATH | O_DIRECTORY : flags;
			fd = openat(at, part, f | O_NOFOLLOW | O_CLOEXEC, slash ? 0 : mode);
		}
		int why = errno;
		if (at != dirfd)
			close(at);
		errno = why;
		if (fd < 0 || !slash)
			return fd;
		at = fd;
		path = slash + 1;
	}
}

int linux_open_beneath(int dirfd, const char *path, int flags, unsigned mode)
{
	if (dirfd == WORLD_ABSOLUTE)
		return open(path, flags | O_CLOEXEC, mode);
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long r;
	do
		r = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
	while (r < 0 && (errno == EAGAIN || errno == EINTR));
	return r < 0 && errno == ENOSYS ? open_step_by_step(dirfd, path, flags, mode) : (int)r;
}

/* WORLD_REGULAR: whoever can write the directory must not make us write elsewhere (hostile row H101). */
static enum err check_regular(int fd)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return errno_err();
	return S_ISREG(st.st_mode) && st.st_nlink == 1 ? ERR_NONE : ERR_DENIED;
}

static enum err open_error(void)
{
	if (errno == ELOOP || errno == EXDEV || errno == ENXIO || errno == EISDIR)
		return ERR_DENIED; /* a symlink, a way out, a FIFO, a directory in a file's place */
	if (errno == EMFILE || errno == ENFILE)
		return ERR_LIMIT;
	return errno_err();
}

enum err world_open(struct world *w UNUSED, int dirfd, struct str path, unsigned flags, unsigned mode, int *fd_out)
{
	char z[PATH_BYTES];
	int f = flags & WORLD_WRITE ? (flags & WORLD_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
	f |= flags & WORLD_CREATE ? O_CREAT : 0;
	f |= flags & WORLD_EXCL ? O_EXCL : 0;
	f |= flags & WORLD_DIR ? O_DIRECTORY : 0;
	f |= flags & WORLD_TRUNC ? O_TRUNC : 0;
	f |= flags & WORLD_DIRECT ? O_DIRECT : 0;
	f |= flags & WORLD_REGULAR ? O_NONBLOCK | O_NOCTTY : 0; /* a FIFO must not hold us */
	TRY(linux_path(path, z));
	int fd = linux_open_beneath(dirfd, z, f, mode);
	if (fd < 0)
		return open_error();
	enum err e = flags & WORLD_REGULAR ? check_regular(fd) : ERR_NONE;
	if (e != ERR_NONE) {
		close(fd);
		return e;
	}
	*fd_out = fd;
	return ERR_NONE;
}

void world_close(struct world *w UNUSED, int fd)
{
	if (fd >= 0)
		close(fd);
}

enum err world_pread(struct world *w UNUSED, int fd, void *p, size_t n, uint64_t offset, size_t *n_out)
{
	size_t done = 0;
	while (done < n) {
		ssize_t r = pread(fd, (char *)p + done, n - done, (off_t)(offset + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno_err();
		if (r == 0)
			break;
		done += (size_t)r;
	}
	*n_out = done;
	return ERR_NONE;
}

static size_t fill_iov(struct iovec *iov, const struct str *parts, size_t count, size_t skip)
{
	size_t k = 0;
	for (size_t i = 0; i < count && k < IOV_PARTS; i++) {
		if (skip >= parts[i].n) {
			skip -= parts[i].n;
			continue;
		}
		union {
			const char *from;
			void *to;
		} base = { .from = parts[i].p + skip };
		iov[k++] = (struct iovec){ base.to, parts[i].n - skip };
		skip = 0;
	}
	return k;
}

enum err world_pwritev(struct world *w UNUSED, int fd, const struct str *parts, size_t count, uint64_t offset)
{
	struct iovec iov[IOV_PARTS];
	size_t done = 0, k;
	while ((k = fill_iov(iov, parts, count, done)) > 0) {
		ssize_t r = pwritev(fd, iov, (int)k, (off_t)(offset + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno_err();
		done += (size_t)r;
	}
	return ERR_NONE;
}

enum err world_write(struct world *w UNUSED, int fd, struct str s)
{
	while (s.n > 0) {
		ssize_t r = write(fd, s.p, s.n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno_err();
		s = str_sub(s, (size_t)r, s.n);
	}
	return ERR_NONE;
}

/* A line, byte by byte: what follows it is not ours. */
static enum err read_line(int fd, char *to, size_t cap, size_t *n_out)
{
	for (*n_out = 0;;) {
		char c;
		ssize_t r = read(fd, &c, 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno_err();
		if (r == 0)
			return *n_out ? ERR_NONE : ERR_EOF;
		if (c == '\n')
			return ERR_NONE;
		if (*n_out == cap)
			return ERR_LIMIT;
		to[(*n_out)++] = c;
	}
}

enum err world_read_secret(struct world *w, struct str prompt, char *to, size_t cap, size_t *n_out)
{
	struct termios shown, hidden;
	bool terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
	if (terminal) {
		hidden = shown;
		hidden.c_lflag &= ~(tcflag_t)ECHO;
		TRY(world_write(w, STDERR_FILENO, prompt));
		if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) != 0)
			return errno_err();
	}
	enum err e = read_line(STDIN_FILENO, to, cap, n_out);
	if (terminal) {
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
		TRY(world_write(w, STDERR_FILENO, STR("\n")));
	}
	return e;
}

static enum err done(int r)
{
	return r == 0 ? ERR_NONE : errno_err();
}

enum err world_truncate(struct world *w UNUSED, int fd, uint64_t bytes)
{
	return done(ftruncate(fd, (off_t)bytes));
}

enum err world_allocate(struct world *w UNUSED, int fd, uint64_t bytes)
{
	int r;
	do
		r = fallocate(fd, 0, 0, (off_t)bytes);
	while (r != 0 && errno == EINTR);
	if (r != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		r = ftruncate(fd, (off_t)bytes);
	return done(r);
}

enum err world_datasync(struct world *w UNUSED, int fd)
{
	return done(fdatasync(fd));
}

enum err world_sync(struct world *w UNUSED, int fd)
{
	return done(fsync(fd));
}

enum err world_syncfs(struct world *w UNUSED, int fd)
{
	return done(syncfs(fd));
}

/*
 * A name with a directory in it is resolved beneath first, because renameat() and its kin know no
 * RESOLVE_BENEATH. *fd_out is the directory (to be closed if it is not dirfd), *base_out the last part.
 */
static enum err parent_of(int dirfd, char *z, int *fd_out, const char **base_out)
{
	char *slash = strrchr(z, '/');
	*fd_out = dirfd == WORLD_ABSOLUTE ? AT_FDCWD : dirfd;
	*base_out = z;
	if (!slash || dirfd == WORLD_ABSOLUTE)
		return ERR_NONE;
	*slash = '\0';
	*base_out = slash + 1;
	*fd_out = linux_open_beneath(dirfd, z, O_PATH | O_DIRECTORY, 0);
	return *fd_out < 0 ? open_error() : ERR_NONE;
}

static void parent_done(int dirfd, int fd)
{
	if (fd >= 0 && fd != dirfd)
		close(fd);
}

enum err world_rename(struct world *w UNUSED, int from_dirfd, struct str from, int to_dirfd, struct str to)
{
	char a[PATH_BYTES], b[PATH_BYTES];
	int a_fd, b_fd;
	const char *a_base, *b_base;
	TRY(linux_path(from, a));
	TRY(linux_path(to, b));
	TRY(parent_of(from_dirfd, a, &a_fd, &a_base));
	enum err e = parent_of(to_dirfd, b, &b_fd, &b_base);
	if (e == ERR_NONE) {
		e = done(renameat(a_fd, a_base, b_fd, b_base));
		parent_done(to_dirfd, b_fd);
	}
	parent_done(from_dirfd, a_fd);
	return e;
}

enum err world_unlink(struct world *w UNUSED, int dirfd, struct str name)
{
	char z[PATH_BYTES];
	int fd;
	const char *base;
	TRY(linux_path(name, z));
	TRY(parent_of(dirfd, z, &fd, &base));
	enum err e = done(unlinkat(fd, base, 0));
	parent_done(dirfd, fd);
	return e;
}

enum err world_mkdir(struct world *w UNUSED, int dirfd, struct str name, unsigned mode)
{
	char z[PATH_BYTES];
	int fd;
	const char *base;
	TRY(linux_path(name, z));
	TRY(parent_of(dirfd, z, &fd, &base));
	enum err e = done(mkdirat(fd, base, mode));
	parent_done(dirfd, fd);
	return e;
}

enum err world_stat(struct world *w UNUSED, int fd, struct world_stat *st_out)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return errno_err();
	*st_out = (struct world_stat){
		.bytes = (uint64_t)st.st_size,
		.inode = st.st_ino,
		.mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.mode = st.st_mode & 07777,
		.links = (unsigned)st.st_nlink,
		.kind = S_ISREG(st.st_mode) ? WORLD_FILE : S_ISDIR(st.st_mode) ? WORLD_DIRECTORY : WORLD_OTHER,
	};
	return ERR_NONE;
}

enum err world_set_owner(struct world *w UNUSED, int fd, unsigned uid, unsigned gid, unsigned mode)
{
	if (geteuid() == 0 && fchown(fd, uid, gid) != 0)
		return errno_err();
	return done(fchmod(fd, mode));
}

enum err world_list(struct world *w UNUSED, int dirfd, enum err (*each)(void *arg, struct str name), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d) {
		enum err why = errno_err();
		world_close(w, fd);
		return why;
	}
	enum err e = ERR_NONE;
	struct dirent *entry;
	while (e == ERR_NONE && (errno = 0, entry = readdir(d))) {
		struct str name = str_z(entry->d_name);
		if (!str_eq(name, STR(".")) && !str_eq(name, STR("..")))
			e = each(arg, name);
	}
	if (e == ERR_NONE && errno)
		e = errno_err();
	closedir(d);
	return e;
}

enum err world_free_space(struct world *w UNUSED, int fd, uint64_t *bytes_out, uint64_t *inodes_out)
{
	struct statvfs v;
	if (fstatvfs(fd, &v) != 0)
		return errno_err();
	*bytes_out = (uint64_t)v.f_bavail * v.f_frsize;
	*inodes_out = v.f_files ? v.f_favail : UINT64_MAX; /* some file systems do not count */
	return ERR_NONE;
}

enum err world_lock(struct world *w UNUSED, int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return ERR_NONE;
	return errno == EWOULDBLOCK ? ERR_BUSY : errno_err();
}

enum err world_read_all(struct world *w UNUSED, int fd, size_t max, struct buf *b)
{
	enum err e = ERR_NONE;
	for (;;) {
		size_t n = 0, room = max - b->n < 65536 ? max - b->n : 65536;
		char *p = buf_reserve(b, room + 1); /* one more, to notice a file that is too long */
		e = p ? ERR_NONE : buf_err(b);
		ssize_t r = p ? read(fd, p, room + 1) : 0; /* not pread: it may be a pipe */
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			e = errno_err();
		n = r > 0 ? (size_t)r : 0;
		if (e != ERR_NONE || n == 0)
			break;
		if (n > room) {
			e = ERR_LIMIT;
			break;
		}
		buf_commit(b, n);
	}
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
