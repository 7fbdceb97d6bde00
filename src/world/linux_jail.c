/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: what remains of the kernel for one process once it has started. In this order: resource
 * limits, Landlock (paths are opened while they still can be), chroot, user, capabilities,
 * no_new_privs, seccomp. Each step that the kernel or our rights do not allow is left out, but seccomp
 * and no_new_privs never.
 *
 * Sanitizer builds allow more calls (their run-time maps, reads /proc and prints reports).
 */
#include "world/linux_internal.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define NET_BIND_TCP (1ULL << 0)    /* Landlock ABI 4; Debian 12's headers lack the names */
#define NET_CONNECT_TCP (1ULL << 1)

struct ruleset_attr { /* struct landlock_ruleset_attr of ABI 4 */
	uint64_t handled_access_fs, handled_access_net;
};

/* ---- limits -------------------------------------------------------------------------------- */

static enum err limit(int what, uint64_t value)
{
	struct rlimit old, r = { value, value };
	if (getrlimit((__rlimit_resource_t)what, &old) == 0 && old.rlim_max < r.rlim_max)
		r.rlim_max = r.rlim_cur = old.rlim_max;
	return setrlimit((__rlimit_resource_t)what, &r) == 0 ? ERR_NONE : errno_err();
}

static enum err set_limits(const struct world_jail *j)
{
	if (j->max_fds)
		TRY(limit(RLIMIT_NOFILE, j->max_fds));
	if (j->max_file_bytes)
		TRY(limit(RLIMIT_FSIZE, j->max_file_bytes));
	TRY(limit(RLIMIT_CORE, 0)); /* no secret in a core (P4) */
	return prctl(PR_SET_DUMPABLE, 0) == 0 ? ERR_NONE : errno_err();
}

/* ---- Landlock ------------------------------------------------------------------------------ */

static uint64_t fs_rights(long abi)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* ABI 1: the 13 first */
	if (abi >= 2)
		all |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		all |= LANDLOCK_ACCESS_FS_TRUNCATE;
	return all;
}

static enum err allow_dir(int ruleset, struct str dir, uint64_t rights)
{
	char path[PATH_BYTES];
	TRY(linux_path(dir, path));
	struct landlock_path_beneath_attr rule = { .allowed_access = rights };
	rule.parent_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno_err();
	long r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
	return r == 0 ? ERR_NONE : errno_err();
}

struct net_port_attr { /* struct landlock_net_port_attr of ABI 4 */
	uint64_t allowed_access, port;
};
#define RULE_NET_PORT 2

/* Who may connect to any port may choose an own address for it, with a port that the kernel picks. */
static enum err allow_ports(int ruleset, const struct world_jail *j)
{
	struct net_port_attr any = { .allowed_access = NET_BIND_TCP, .port = 0 };
	if (j->tcp_port_count == 0 && syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &any, 0) != 0)
		return errno_err();
	for (size_t i = 0; i < j->tcp_port_count; i++) {
		struct net_port_attr rule = { .allowed_access = NET_CONNECT_TCP, .port = j->tcp_ports[i] };
		if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) != 0)
			return errno_err();
	}
	return ERR_NONE;
}

static enum err landlock(const struct world_jail *j)
{
	bool any_port = j->may & WORLD_MAY_CONNECT && j->tcp_port_count == 0;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		return ERR_NONE; /* a kernel without it: the other walls stand */
	struct ruleset_attr attr = { .handled_access_fs = fs_rights(abi) };
	if (abi >= 4)
		attr.handled_access_net = NET_BIND_TCP | (any_port ? 0 : NET_CONNECT_TCP);
	size_t bytes = abi >= 4 ? sizeof attr : sizeof attr.handled_access_fs;
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, bytes, 0);
	if (ruleset < 0)
		return errno_err();
	uint64_t rights = fs_rights(abi) & ~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
						       LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM);
	enum err e = ERR_NONE;
	for (size_t i = 0; e == ERR_NONE && i < j->dir_count; i++) {
		e = allow_dir(ruleset, j->dirs[i], rights);
		if (e == ERR_NOT_FOUND) /* where another server's socket will be; connecting needs no right of ours */
			e = ERR_NONE;
	}
	if (e == ERR_NONE && abi >= 4 && j->may & WORLD_MAY_CONNECT)
		e = allow_ports(ruleset, j);
	if (e == ERR_NONE && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		e = errno_err();
	close(ruleset);
	return e;
}

/* ---- user, root directory, capabilities -------------------------------------------------------- */

static enum err change_root_directory(const struct world_jail *j)
{
	if (j->dir_count > 0 || geteuid() != 0)
		return ERR_NONE;
	/* An empty directory that nobody can write: the kernel's own is always there. */
	if (chroot("/proc/self/fdinfo") != 0 || chdir("/") != 0)
		return errno_err();
	return ERR_NONE;
}

enum err world_change_user(struct world *w UNUSED, unsigned uid, unsigned gid)
{
	if (geteuid() != 0 || uid == 0)
		return ERR_NONE;
	gid_t group = gid ? gid : uid;
	if (setgroups(0, NULL) != 0 || setresgid(group, group, group) != 0 || setresuid(uid, uid, uid) != 0)
		return errno_err();
	return setuid(0) == 0 ? ERR_DENIED : ERR_NONE;
}

/* ---- seccomp ------------------------------------------------------------------------------------ */

#define NR(name) SCMP_SYS(name)

static const int always[] = {
	NR(read), NR(write), NR(readv), NR(writev), NR(close), NR(fstat), NR(newfstatat), NR(lseek), NR(fcntl), NR(dup),
	NR(epoll_wait), NR(epoll_pwait), NR(epoll_pwait2), NR(epoll_ctl), NR(clock_gettime), NR(gettimeofday),
	NR(getrandom), NR(recvmsg), NR(sendmsg), NR(recvfrom), NR(sendto), NR(shutdown), NR(getsockopt),
	NR(setsockopt), NR(getsockname), NR(getpeername), NR(mmap), NR(munmap), NR(mprotect), NR(madvise),
	NR(mremap), NR(brk), NR(futex), NR(rt_sigprocmask), NR(rt_sigaction), NR(rt_sigreturn), NR(sigaltstack),
	NR(pwrite64), NR(pwritev), NR(pread64), /* smtpd and relay write to and read from files that queue handed out */
	NR(exit), NR(exit_group), NR(getpid), NR(gettid), NR(geteuid), NR(tgkill), NR(restart_syscall), NR(sched_yield),
	NR(clock_nanosleep), NR(nanosleep), NR(sched_getaffinity), NR(membarrier), NR(prlimit64), NR(getuid),
};
static const int for_accept[] = { NR(accept4) };
static const int for_connect[] = { NR(socket), NR(connect), NR(bind) };
static const int for_files[] = {
	NR(openat), NR(openat2), NR(pread64), NR(pwrite64), NR(preadv), NR(pwritev), NR(fsync), NR(fdatasync),
	NR(syncfs), NR(fallocate), NR(ftruncate), NR(renameat), NR(renameat2), NR(unlinkat), NR(mkdirat), NR(getdents64),
	NR(flock), NR(fstatfs), NR(statfs), NR(fchmod), NR(utimensat), NR(pwritev2),
};
static const int for_threads[] = {
	NR(clone), NR(clone3), NR(set_robust_list), NR(rseq), NR(eventfd2), NR(prctl), NR(set_tid_address),
};
static const int for_database[] = {
	NR(open), NR(stat), NR(lstat), NR(access), NR(faccessat), NR(faccessat2), NR(unlink), NR(getcwd), NR(readlink),
	NR(readlinkat), NR(fchown), NR(mkdir), NR(rmdir), NR(umask), NR(uname), NR(statx), NR(sysinfo),
};
static const int for_listen_path[] = { NR(accept4), NR(socket), NR(bind), NR(listen), NR(unlink), NR(chmod), NR(connect), NR(umask) };
/*
 * Master's children inherit its filter and need more than it does until they enter their own jails; so it
 * is a list of what none of us ever needs: other processes' memory, mounts, modules, clocks, keys.
 */
static const int never[] = {
	NR(ptrace), NR(process_vm_readv), NR(process_vm_writev), NR(kcmp), NR(pidfd_getfd), NR(mount), NR(umount2), NR(pivot_root),
	NR(move_mount), NR(open_tree), NR(fsopen), NR(fsconfig), NR(fsmount), NR(fspick), NR(mount_setattr), NR(unshare), NR(setns),
	NR(init_module), NR(finit_module), NR(delete_module), NR(kexec_load), NR(kexec_file_load), NR(reboot), NR(swapon), NR(swapoff),
	NR(bpf), NR(perf_event_open), NR(userfaultfd), NR(add_key), NR(request_key), NR(keyctl), NR(settimeofday), NR(clock_settime),
	NR(clock_adjtime), NR(adjtimex), NR(iopl), NR(ioperm), NR(quotactl), NR(acct), NR(open_by_handle_at), NR(name_to_handle_at),
	NR(mknod), NR(mknodat), NR(sethostname), NR(setdomainname), NR(syslog), NR(lookup_dcookie), NR(nfsservctl), NR(uselib),
	NR(personality), NR(vhangup), NR(modify_ldt), NR(io_uring_setup), NR(io_uring_enter), NR(io_uring_register),
};
static const int for_sanitizers[] = {
	NR(open), NR(openat), NR(readlink), NR(readlinkat), NR(stat), NR(pread64), NR(prctl), NR(clone), NR(ptrace), NR(wait4), NR(set_robust_list),
	NR(getdents64), NR(personality), NR(arch_prctl), NR(kill), NR(process_vm_readv), NR(rseq), NR(clone3), NR(pipe2), NR(getppid), NR(ioctl), NR(sched_getparam), NR(sched_getscheduler),
};

static int allow(scmp_filter_ctx f, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (calls[i] < 0)
			continue; /* this architecture has no such call */
		int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
		if (r != 0)
			return r;
	}
	return 0;
}
#define ALLOW(f, calls) allow((f), (calls), sizeof(calls) / sizeof((calls)[0]))

/* No other kind of socket: a filter sees the family, as it is an argument. */
static int allow_unix_sockets(scmp_filter_ctx f)
{
	struct scmp_arg_cmp family = { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX };
	int r = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, NR(socket), 1, &family);
	return r == 0 ? seccomp_rule_add(f, SCMP_ACT_ALLOW, NR(connect), 0) : r;
}

static int allow_by(scmp_filter_ctx f, unsigned may)
{
	int r = ALLOW(f, always);
	if (r == 0 && may & WORLD_MAY_ACCEPT)
		r = ALLOW(f, for_accept);
	if (r == 0 && may & WORLD_MAY_CONNECT)
		r = ALLOW(f, for_connect);
	if (r == 0 && may & WORLD_MAY_CONNECT_PATH)
		r = allow_unix_sockets(f);
	if (r == 0 && may & (WORLD_MAY_FILES | WORLD_MAY_DATABASE))
		r = ALLOW(f, for_files);
	if (r == 0 && may & WORLD_MAY_THREADS)
		r = ALLOW(f, for_threads);
	if (r == 0 && may & WORLD_MAY_DATABASE)
		r = ALLOW(f, for_database);
	if (r == 0 && may & WORLD_MAY_LISTEN_PATH)
		r = ALLOW(f, for_listen_path);
#ifdef GODWIT_ASAN
	if (r == 0)
		r = ALLOW(f, for_sanitizers);
#else
	(void)for_sanitizers;
#endif
	return r;
}

/*
 * What is not listed fails with EPERM: a library that asks for more than it needs gets an error, an
 * attacker gets nothing. (Killing would let a stranger's bytes choose when a process dies.)
 */
static enum err filter_calls(const struct world_jail *j)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!f)
		return ERR_NO_MEMORY;
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	int r = allow_by(f, j->may);
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r == 0 ? ERR_NONE : err_from_errno(-r);
}

static enum err refuse_calls(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	int r = f ? 0 : -ENOMEM;
#ifdef GODWIT_ASAN
	size_t first = 3; /* the leak checker traces its own process */
#else
	size_t first = 0;
#endif
	for (size_t i = first; r == 0 && i < sizeof never / sizeof never[0]; i++)
		if (never[i] >= 0)
			r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), never[i], 0);
	if (r == 0)
		r = seccomp_load(f);
	if (f)
		seccomp_release(f);
	return r == 0 ? ERR_NONE : err_from_errno(-r);
}

#define CAP(name) (UINT64_C(1) << (name))

/* What starting the others takes as root; its children drop these too when they change their user. */
static enum err drop_capabilities(void)
{
	const uint64_t keep = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER) | CAP(CAP_FSETID) |
			      CAP(CAP_KILL) | CAP(CAP_SETGID) | CAP(CAP_SETUID) | CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_NET_ADMIN) |
			      CAP(CAP_SYS_CHROOT) | CAP(CAP_SYS_RESOURCE);
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	for (unsigned long c = 0; c < 64; c++)
		if (!(keep >> c & 1) && prctl(PR_CAPBSET_READ, c) == 1 && prctl(PR_CAPBSET_DROP, c) != 0 && errno != EPERM)
			return errno_err();
	if (syscall(SYS_capget, &head, data) != 0)
		return errno_err();
	for (unsigned i = 0; i < 2; i++) {
		data[i].effective &= (uint32_t)(keep >> (32 * i));
		data[i].permitted &= (uint32_t)(keep >> (32 * i));
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) == 0 ? ERR_NONE : errno_err();
}

enum err world_jail_enter(struct world *w, const struct world_jail *jail)
{
	TRY(set_limits(jail));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return errno_err();
	if (jail->may & WORLD_MAY_SPAWN) { /* master: its walls are its children's, too */
		TRY(drop_capabilities());
		return refuse_calls();
	}
	TRY(landlock(jail));
	TRY(change_root_directory(jail));
	TRY(world_change_user(w, jail->uid, jail->gid));
	return filter_calls(jail);
}
