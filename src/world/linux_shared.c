/* SPDX-License-Identifier: Apache-2.0 */
/* The Linux world's memory that processes share: sealed memfds. */
#include "world/linux_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A second open file of the same memory, without the right to write: no mapping of it can get that back. */
static int open_to_read(int fd)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

enum err world_shared_new(struct world *w UNUSED, size_t bytes, int *write_fd_out, int *read_fd_out)
{
	int fd = memfd_create("godwit", MFD_CLOEXEC | MFD_ALLOW_SEALING), other = -1;
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? ERR_LIMIT : errno_err();
	/* Nobody may open it anew; and a shorter one would be SIGBUS for whoever has mapped it. */
	if (ftruncate(fd, (off_t)bytes) != 0 || (other = open_to_read(fd)) < 0 || fchmod(fd, 0) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		enum err e = errno_err();
		if (other >= 0)
			close(other);
		close(fd);
		return e;
	}
	*write_fd_out = fd;
	*read_fd_out = other;
	return ERR_NONE;
}

enum err world_shared_map(struct world *w UNUSED, int fd, size_t bytes, enum world_shared_right right, void **out)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return errno_err();
	if (bytes == 0 || st.st_size < 0 || (uint64_t)st.st_size != bytes)
		return ERR_SYNTAX;
	void *p = mmap(NULL, bytes, right == WORLD_SHARED_WRITE ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return errno_err();
	*out = p;
	return ERR_NONE;
}

void world_shared_unmap(struct world *w UNUSED, void *p, size_t bytes)
{
	munmap(p, bytes);
}
