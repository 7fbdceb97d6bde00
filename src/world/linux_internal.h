/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Linux world share. Nobody else includes this. */
#ifndef WORLD_LINUX_INTERNAL_H
#define WORLD_LINUX_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <sys/types.h>

#include "world/world.h"

#define JOB_THREADS_MAX 4

struct world {
	struct mem *mem;
	int64_t mono_ns, wall_ms;
	int epoll_fd;
	/* helper threads */
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct world_job *todo, **todo_tail, *done, **done_tail;
	unsigned threads, idle_threads, jobs_open;
	int job_event_fd;
	bool quit;
	pthread_t thread[JOB_THREADS_MAX];
	/* signals */
	int signal_fd;
	void *signal_data;
	int stop_pending, reload_pending, child_pending;
	/* stacks */
	bool no_guard_install, no_pwait2;
	/* random bytes in store */
	unsigned char random[512];
	size_t random_left;
};

/* For a system call's -1. */
static inline enum err errno_err(void)
{
	return err_from_errno(errno);
}

#define PATH_BYTES 4096
/* A NUL-terminated copy of a path; ERR_LIMIT when too long, ERR_SYNTAX when it holds a NUL or is empty. */
enum err linux_path(struct str path, char out[PATH_BYTES]) MUST_CHECK;
/* Like openat(), beneath dirfd unless that is WORLD_ABSOLUTE. Returns a descriptor or -1 with errno. */
int linux_open_beneath(int dirfd, const char *path, int flags, unsigned mode);

#endif
