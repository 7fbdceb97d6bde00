/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to the outside: clock, random, files, sockets, processes, helper threads, stacks.
 *
 * Two implementations, chosen at link time: linux_*.c (the real thing) and sim_*.c, in which time, disk
 * and network are simulated and a whole installation runs inside one program. So nothing above this
 * layer makes a system call, and every function takes the `struct world` of the process it works for.
 *
 * Conventions. No call waits, except world_poll() and the calls marked BLOCKING, which may take disk
 * time: the loop gives those to world_offload(), start-up code may call them directly. A call that
 * would wait for a socket returns ERR_BUSY. Running out of descriptors or kernel memory for one is
 * ERR_LIMIT. Times: *_ns are nanoseconds of the monotonic clock, wall_ms milliseconds since 1970 UTC.
 * Descriptors are small integers, close-on-exec and non-blocking.
 * Paths are views without NUL; a path is resolved beneath its directory descriptor (openat2
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS), unless that is WORLD_ABSOLUTE, which
 * is for paths that the operator wrote, before the jail is entered.
 */
#ifndef WORLD_WORLD_H
#define WORLD_WORLD_H

#include "base/ip.h"
#include "base/mem.h"
#include "base/str.h"

struct world;

/* ---- the process itself ------------------------------------------------------------------ */

struct mem *world_mem(struct world *w);	      /* the process's memory */
int64_t world_mono_ns(struct world *w);	      /* cached until the next world_poll() or world_clock_refresh() */
int64_t world_wall_ms(struct world *w);	      /* cached likewise */
void world_clock_refresh(struct world *w);
int64_t world_measure_ns(struct world *w); /* the clock itself; also on helper threads, to time a call */
void world_random(struct world *w, void *p, size_t n); /* cryptographic; seeded in the simulation */
int world_pid(struct world *w);
unsigned world_uid(struct world *w); /* effective user id; 0 = root */
unsigned world_cpus(struct world *w);
/* Value of an environment variable, or STR_NONE. */
struct str world_env(struct world *w, struct str name);

/* ---- waiting ------------------------------------------------------------------------------ */

enum world_ready {
	WORLD_IN = 1,	  /* readable, at its end, or failed (or a listener has a connection) */
	WORLD_OUT = 2,	  /* writable, or failed */
	WORLD_END = 4,	  /* the other end has sent its last byte, or failed: comes with WORLD_IN */
	WORLD_JOB = 8,	  /* a job is done; data is the job's */
	WORLD_SIGNAL = 16 /* world_next_signal() has something; data as registered */
};
struct world_event {
	void *data;
	unsigned ready;
};
/* Edge-triggered watch of both directions; data comes back in events, until unwatch or close. */
enum err world_watch(struct world *w, int fd, void *data) MUST_CHECK;
/*
 * The same for a socket of packets, whose every packet that the other end reads would be an event of
 * WORLD_OUT: that direction is only watched while `output` says so. What is possible then is an event.
 */
enum err world_watch_packets(struct world *w, int fd, void *data) MUST_CHECK;
enum err world_watch_output(struct world *w, int fd, void *data, bool output) MUST_CHECK;
/* For a listening socket shared by several processes: level-triggered, wakes one of them. */
enum err world_watch_listener(struct world *w, int fd, void *data) MUST_CHECK;
/*
 * Level-triggered, for libraries that are used to it: as long as one of `what` (WORLD_IN, WORLD_OUT) is
 * ready, each poll says so. Again for the same fd: changes what is watched, and data. The simulation
 * has none: ERR_DENIED.
 */
enum err world_watch_level(struct world *w, int fd, unsigned what, void *data) MUST_CHECK;
void world_unwatch(struct world *w, int fd);
/*
 * Waits until an event or the deadline (0: do not wait; INT64_MAX: no deadline), refreshes the clock,
 * returns how many events were stored. May return 0 early.
 */
size_t world_poll(struct world *w, struct world_event *ev, size_t max, int64_t deadline_ns);

/* A blocking piece of work for a helper thread. fn may only use BLOCKING file calls and `arg`. */
struct world_job {
	void (*fn)(struct world *w, void *arg);
	void *arg;
	void *data; /* comes back in a WORLD_JOB event on the loop */
	struct world_job *next_; /* private */
};
/* ERR_LIMIT when threads cannot be had. The job must live until its event. */
enum err world_offload(struct world *w, struct world_job *job) MUST_CHECK;

enum world_signal { WORLD_SIG_NONE, WORLD_SIG_STOP, WORLD_SIG_RELOAD, WORLD_SIG_CHILD };
/* From now on SIGTERM, SIGINT, SIGHUP and SIGCHLD are events with this data. */
enum err world_watch_signals(struct world *w, void *data) MUST_CHECK;
enum world_signal world_next_signal(struct world *w);

/* ---- stacks of coroutines ----------------------------------------------------------------- */

/* `bytes` usable, a multiple of 4096, with a guard below. *lo_out is the lowest usable address. */
enum err world_stack_new(struct world *w, size_t bytes, void **lo_out) MUST_CHECK;
void world_stack_free(struct world *w, void *lo, size_t bytes);
/* Gives whole pages in [lo, lo+bytes) back to the system; they read as zeros afterwards. */
void world_stack_release(struct world *w, void *lo, size_t bytes);

/* ---- files -------------------------------------------------------------------------------- */

#define WORLD_ABSOLUTE (-100)
enum world_open {
	WORLD_READ = 1,
	WORLD_WRITE = 2,
	WORLD_CREATE = 4,
	WORLD_EXCL = 8,
	WORLD_DIR = 16,	   /* must be a directory */
	WORLD_TRUNC = 32,
	WORLD_REGULAR = 64, /* must be a regular file with one link; FIFO, device, symlink: ERR_DENIED */
	WORLD_DIRECT = 128  /* past the page cache; some error, here or at the first read or write, where that cannot be */
};
/* With WORLD_DIRECT, the addresses, offsets and lengths of reads and writes are multiples of this. */
#define WORLD_DIRECT_ALIGN ((size_t)4096)
enum world_kind { WORLD_FILE, WORLD_DIRECTORY, WORLD_OTHER };
struct world_stat {
	uint64_t bytes, inode;
	int64_t mtime_ms;
	unsigned uid, gid, mode, links;
	enum world_kind kind;
};
enum err world_open(struct world *w, int dirfd, struct str path, unsigned flags, unsigned mode,
		    int *fd_out) MUST_CHECK;
void world_close(struct world *w, int fd);
/* BLOCKING. Fewer bytes than asked only at the end of the file. */
enum err world_pread(struct world *w, int fd, void *p, size_t n, uint64_t offset, size_t *n_out) MUST_CHECK;
/* BLOCKING. All parts or an error; what was written before an error is undefined. */
enum err world_pwritev(struct world *w, int fd, const struct str *parts, size_t count,
		       uint64_t offset) MUST_CHECK;
/* BLOCKING. To descriptors without a position (standard error, a pipe); all or an error. */
enum err world_write(struct world *w, int fd, struct str s) MUST_CHECK;
/*
 * BLOCKING. A line of standard input, without its end; from a terminal after `prompt`, and not shown there.
 * ERR_LIMIT: longer than cap. ERR_EOF: there is none. The simulation has none: ERR_DENIED.
 */
enum err world_read_secret(struct world *w, struct str prompt, char *to, size_t cap, size_t *n_out) MUST_CHECK;
enum err world_truncate(struct world *w, int fd, uint64_t bytes) MUST_CHECK;	       /* BLOCKING */
/* BLOCKING. Reserves space and sets the size: what is not written reads as zeros. */
enum err world_allocate(struct world *w, int fd, uint64_t bytes) MUST_CHECK;
enum err world_datasync(struct world *w, int fd) MUST_CHECK;			       /* BLOCKING */
enum err world_sync(struct world *w, int fd) MUST_CHECK; /* BLOCKING; files and directories */
enum err world_syncfs(struct world *w, int fd) MUST_CHECK;			       /* BLOCKING */
enum err world_rename(struct world *w, int from_dirfd, struct str from, int to_dirfd,
		      struct str to) MUST_CHECK;				       /* BLOCKING */
enum err world_unlink(struct world *w, int dirfd, struct str name) MUST_CHECK;	       /* BLOCKING */
enum err world_mkdir(struct world *w, int dirfd, struct str name, unsigned mode) MUST_CHECK; /* BLOCKING */
enum err world_stat(struct world *w, int fd, struct world_stat *st_out) MUST_CHECK;
/* Owner and permission bits of an open file or directory; uid and gid only change when we are root. */
enum err world_set_owner(struct world *w, int fd, unsigned uid, unsigned gid, unsigned mode) MUST_CHECK;
/* BLOCKING. Calls each() for every entry but "." and ".."; stops at its first error and returns it. */
enum err world_list(struct world *w, int dirfd, enum err (*each)(void *arg, struct str name), void *arg) MUST_CHECK;
enum err world_free_space(struct world *w, int fd, uint64_t *bytes_out, uint64_t *inodes_out) MUST_CHECK;
/* An exclusive lock on the open file, held until it is closed; ERR_BUSY when another process has it. */
enum err world_lock(struct world *w, int fd) MUST_CHECK;
/* BLOCKING. What is left of a file, pipe or stream socket, at most max bytes, into b. */
struct buf;
enum err world_read_all(struct world *w, int fd, size_t max, struct buf *b) MUST_CHECK;
/* BLOCKING. A whole file of at most max bytes into b. */
enum err world_read_file(struct world *w, int dirfd, struct str path, size_t max, struct buf *b) MUST_CHECK;

/* ---- sockets ------------------------------------------------------------------------------ */

/* A SOCK_SEQPACKET pair. */
enum err world_pair(struct world *w, int fds_out[2]) MUST_CHECK;
/* TCP. addr->family IP_NONE: all addresses of both families. reuse_port: SO_REUSEPORT. */
enum err world_listen(struct world *w, const struct ip *addr, int reuse_port, int *fd_out) MUST_CHECK;
/* A SOCK_SEQPACKET socket in the file system, replacing a dead one; mode e.g. 0660. */
enum err world_listen_path(struct world *w, struct str path, unsigned mode, int *fd_out) MUST_CHECK;
enum err world_connect_path(struct world *w, struct str path, int *fd_out) MUST_CHECK;
/*
 * journald's datagram socket takes the place of standard output, here and in all that are started later;
 * WORLD_JOURNAL_FD is for world_write(), a datagram each. Who does not read for long loses some.
 */
#define WORLD_JOURNAL_PATH "/run/systemd/journal/socket"
#define WORLD_JOURNAL_FD 1
enum err world_open_journal(struct world *w) MUST_CHECK;
/*
 * Connects to a SOCK_STREAM socket in the file system (LMTP). ERR_BUSY: its queue is full; ERR_NOT_FOUND. Goes
 * on in the jail when that has WORLD_MAY_CONNECT and the socket's directory among dirs[], or WORLD_MAY_CONNECT_PATH.
 */
enum err world_connect_stream_path(struct world *w, struct str path, int *fd_out) MUST_CHECK;
/* ERR_BUSY: none waits. ERR_LIMIT: no descriptor to be had; the connection keeps waiting. */
enum err world_accept(struct world *w, int listen_fd, int *fd_out, struct ip *peer_out) MUST_CHECK;
/* Starts connecting; when WORLD_OUT is ready world_connect_result() tells how it went. */
enum err world_connect(struct world *w, const struct ip *to, const struct ip *from_or_null, int *fd_out) MUST_CHECK;
/*
 * A UDP socket from a random port that only takes datagrams from `to`; world_send() and world_recv() pass
 * one each (an empty one is ERR_EOF). The simulation has none: ERR_DENIED.
 */
enum err world_udp_open(struct world *w, const struct ip *to, int *fd_out) MUST_CHECK;
enum err world_connect_result(struct world *w, int fd) MUST_CHECK;
enum err world_local_addr(struct world *w, int fd, struct ip *ip_out) MUST_CHECK;
/*
 * ERR_EOF: orderly end. ERR_CLOSED: reset. ERR_BUSY: nothing yet. *n_out >= 1 on success; less than n
 * means that nothing more is there for now (but after WORLD_END the end itself still is).
 */
enum err world_recv(struct world *w, int fd, void *p, size_t n, size_t *n_out) MUST_CHECK;
/* Like world_recv, but what was seen stays to be read. */
enum err world_peek(struct world *w, int fd, void *p, size_t n, size_t *n_out) MUST_CHECK;
/* May send a part. ERR_BUSY: nothing could be sent. */
enum err world_send(struct world *w, int fd, const struct str *parts, size_t count, size_t *n_out) MUST_CHECK;
/* As world_send, for what is soon followed by more or by the end: it may wait, up to 0.2 s, to share a packet with that. */
enum err world_send_more(struct world *w, int fd, const struct str *parts, size_t count, size_t *n_out) MUST_CHECK;
/* Half-close: nothing more will be sent. */
void world_shutdown_send(struct world *w, int fd);
/* The close will be a reset: what is unsent is dropped. */
void world_set_abort_on_close(struct world *w, int fd);

/* Packets with descriptors, on SEQPACKET sockets. Descriptors sent stay open at the sender. */
#define WORLD_PACKET_MAX 65536u
#define WORLD_PACKET_FDS 8u
enum err world_packet_send(struct world *w, int fd, const struct str *parts, size_t count,
			   const int *fds, size_t fd_count) MUST_CHECK;
/* cap must be WORLD_PACKET_MAX; a longer packet is ERR_LIMIT. ERR_EOF: the other end is closed. */
enum err world_packet_recv(struct world *w, int fd, void *p, size_t cap, size_t *n_out, int *fds_out,
			   size_t *fd_count_out) MUST_CHECK;
/* Who is at the other end of a local socket. */
enum err world_peer_cred(struct world *w, int fd, int *pid_out, unsigned *uid_out, unsigned *gid_out) MUST_CHECK;

/* ---- memory that processes share ------------------------------------------------------------ */

/*
 * Zeros, in a size that nobody can change. Whoever is handed the first descriptor can map them to write, who
 * gets the second only to read, whatever they try.
 */
enum err world_shared_new(struct world *w, size_t bytes, int *write_fd_out, int *read_fd_out) MUST_CHECK;
enum world_shared_right { WORLD_SHARED_READ, WORLD_SHARED_WRITE };
/* All of it, until unmapped; the descriptor may be closed. ERR_SYNTAX: it has another size. ERR_DENIED: only to read. */
enum err world_shared_map(struct world *w, int fd, size_t bytes, enum world_shared_right right, void **out) MUST_CHECK;
void world_shared_unmap(struct world *w, void *p, size_t bytes);

/* ---- processes ---------------------------------------------------------------------------- */

/* The one descriptor that a started process finds: its channel to master. */
#define WORLD_MASTER_FD 3
struct world_spawn {
	struct str role;  /* "smtpd": the program libexec/godwit/smtpd */
	unsigned index;	  /* 0, 1, … among those of one role */
	int master_fd;	  /* becomes WORLD_MASTER_FD; all others but 0–2 are closed */
};
enum err world_spawn(struct world *w, const struct world_spawn *spec, int *pid_out) MUST_CHECK;
/* Becomes another program of ours, found like the others; returns only when that fails. */
enum err world_exec(struct world *w, struct str program, const struct str *args, size_t n) MUST_CHECK;
enum err world_kill(struct world *w, int pid, int hard) MUST_CHECK; /* hard: SIGKILL, else SIGTERM */
/* A child that ended: its status is 0..255, or 256 + signal. ERR_BUSY: none. */
enum err world_reap(struct world *w, int *pid_out, int *status_out) MUST_CHECK;

/*
 * As root: become this user for good, without groups and capabilities. No-op for an ordinary user and
 * for uid 0. Before files are opened, by processes that own some.
 */
enum err world_change_user(struct world *w, unsigned uid, unsigned gid) MUST_CHECK;

/* ---- jail --------------------------------------------------------------------------------- */

/* What a process may still do afterwards; everything else is refused by the kernel. */
enum world_may {
	WORLD_MAY_ACCEPT = 1,	  /* accept on inherited listeners */
	WORLD_MAY_CONNECT = 2,	  /* outgoing IP connections */
	WORLD_MAY_FILES = 4,	  /* open, create, rename and delete beneath dirs[] */
	WORLD_MAY_SPAWN = 8,	  /* fork, exec, kill, bind: master */
	WORLD_MAY_THREADS = 16,	  /* helper threads */
	WORLD_MAY_LISTEN_PATH = 32, /* a control socket beneath dirs[] */
	WORLD_MAY_CONNECT_PATH = 128, /* connect to Unix sockets, and to nothing else; needs no directory of dirs[] */
	WORLD_MAY_DATABASE = 64	  /* what SQLite needs: locks, mmap, ftruncate, … */
};
#define WORLD_JAIL_PORTS_MAX 44u
struct world_jail {
	const char *role;
	unsigned may;
	const struct str *dirs; /* absolute; the whole file system that remains */
	size_t dir_count;
	unsigned uid, gid;	/* change to these when started as root; 0 = stay */
	uint64_t max_file_bytes; /* RLIMIT_FSIZE; 0 = no limit */
	uint64_t max_fds;	/* RLIMIT_NOFILE; 0 = as it is */
	/* With WORLD_MAY_CONNECT: TCP to these ports only, where the kernel can tell; none listed: to all. */
	uint16_t tcp_ports[WORLD_JAIL_PORTS_MAX];
	size_t tcp_port_count;
};
/*
 * no_new_privs, capabilities dropped, user changed (as root), Landlock where the kernel has it, chroot
 * to an empty directory where no file is needed (as root), seccomp. Once, after start-up. In
 * sanitizer builds the seccomp list is wider. The simulation checks calls against `may` and `dirs`.
 */
enum err world_jail_enter(struct world *w, const struct world_jail *jail) MUST_CHECK;

/* ---- making one (for main.c only) ---------------------------------------------------------- */

struct world *world_linux_new(void);
void world_linux_free(struct world *w);

#endif
