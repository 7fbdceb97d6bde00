/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Linux world's processes: master starts the others by executing them, with nothing but standard
 * input, output and error and their channel to master.
 */
#include "world/linux_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* Beside our own executable (a build tree), else where `meson install` put it. */
static enum err program_path(struct str role, char out[PATH_BYTES])
{
	char self[PATH_BYTES];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (role.n == 0 || memchr(role.p, '/', role.n))
		return ERR_SYNTAX;
	self[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(self, '/');
	static const char *const beside[] = { "libexec/", "" };
	for (size_t i = 0; slash && i < 2; i++) {
		*slash = '\0';
		int len = snprintf(out, PATH_BYTES, "%s/%s%.*s", self, beside[i], STR_ARG(role));
		if (len > 0 && len < PATH_BYTES && access(out, X_OK) == 0)
			return ERR_NONE;
	}
	int len = snprintf(out, PATH_BYTES, "%s/%.*s", GODWIT_LIBEXEC, STR_ARG(role));
	return len > 0 && len < PATH_BYTES && access(out, X_OK) == 0 ? ERR_NONE : ERR_NOT_FOUND;
}

/* In the child: only async-signal-safe calls. */
static _Noreturn void run_child(const char *path, char *const argv[], int master_fd)
{
#ifdef GODWIT_ASAN /* in its jail a process cannot search itself for leaks */
	static char options[] = "ASAN_OPTIONS=abort_on_error=1:detect_leaks=0:strict_string_checks=1:handle_abort=0";
	char *const env[] = { options, NULL };
#else
	char *const env[] = { NULL };
#endif
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGTERM, SIG_IGN); /* a service manager signals all of us: only master decides the order */
	signal(SIGINT, SIG_IGN);
	setsid(); /* a terminal's interrupt goes to master, which stops the others in order */
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody outlives a master that was killed */
	if (master_fd == WORLD_MASTER_FD)
		fcntl(master_fd, F_SETFD, 0);
	else if (dup2(master_fd, WORLD_MASTER_FD) < 0)
		_exit(71);
	syscall(SYS_close_range, WORLD_MASTER_FD + 1, ~0u, 0);
	execve(path, argv, env);
	_exit(71); /* EX_OSERR */
}

enum err world_spawn(struct world *w UNUSED, const struct world_spawn *spec, int *pid_out)
{
	char path[PATH_BYTES], role[32], index[16];
	TRY(program_path(spec->role, path));
	if (snprintf(role, sizeof role, "godwit-%.*s", STR_ARG(spec->role)) >= (int)sizeof role)
		return ERR_LIMIT;
	snprintf(index, sizeof index, "%u", spec->index);
	char *const argv[] = { role, index, NULL };
	pid_t pid = fork();
	if (pid < 0)
		return errno == EAGAIN || errno == ENOMEM ? ERR_LIMIT : errno_err();
	if (pid == 0)
		run_child(path, argv, spec->master_fd);
	*pid_out = pid;
	return ERR_NONE;
}

#define EXEC_ARGS_MAX 256

enum err world_exec(struct world *w UNUSED, struct str program, const struct str *args, size_t n)
{
	char path[PATH_BYTES];
	char copies[65536];
	char *argv[EXEC_ARGS_MAX + 2];
	size_t used = 0;
	TRY(program_path(program, path));
	if (n > EXEC_ARGS_MAX)
		return ERR_LIMIT;
	argv[0] = path;
	for (size_t i = 0; i < n; i++) {
		if (args[i].n + 1 > sizeof copies - used)
			return ERR_LIMIT;
		argv[i + 1] = copies + used;
		memcpy(argv[i + 1], args[i].p, args[i].n);
		used += args[i].n;
		copies[used++] = '\0';
	}
	argv[n + 1] = NULL;
	execv(path, argv);
	return errno_err();
}

enum err world_kill(struct world *w UNUSED, int pid, int hard)
{
	ASSERT(pid > 1);
	return kill(pid, hard ? SIGKILL : SIGTERM) == 0 ? ERR_NONE : errno_err();
}

enum err world_reap(struct world *w UNUSED, int *pid_out, int *status_out)
{
	int status;
	pid_t pid = waitpid(-1, &status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == ECHILD))
		return ERR_BUSY;
	if (pid < 0)
		return errno_err();
	*pid_out = pid;
	*status_out = WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
	return ERR_NONE;
}
