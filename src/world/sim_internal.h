/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the simulated world share. Nobody else includes this. */
#ifndef WORLD_SIM_INTERNAL_H
#define WORLD_SIM_INTERNAL_H

#include "base/ctx.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "world/sim.h"

#define US INT64_C(1000)
#define MS INT64_C(1000000)
#define SECOND INT64_C(1000000000)

/* From the universe's own memory, zeroed; the program ends when the real system has none. */
void *sim_alloc(struct sim *s, size_t n);
void sim_dealloc(struct sim *s, void *p);
/* A bug in the program under test that cannot be survived (or one of ours): tells seed and log, ends. */
_Noreturn void sim_abort(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- time ------------------------------------------------------------------------------------ */

struct sim_event {
	struct heap_node node;
	void (*fire)(struct sim *s, struct sim_event *ev);
};
/* Moves it when it is there already. */
void sim_at(struct sim *s, struct sim_event *ev, int64_t at_ns);
void sim_never(struct sim *s, struct sim_event *ev);
bool sim_chance(struct sim *s, unsigned percent);

/* ---- fibers ---------------------------------------------------------------------------------- */

#define SIM_FIBER_BYTES ((size_t)512 * 1024)
#define SIM_HELPERS 4u

struct sim_fiber {
	struct ctx ctx;
	struct world *w;
	void *lo;
	struct sim_event wake;
	struct world_job *job;	   /* of a helper */
	struct sim_inode *syncing; /* the file that it syncs: the kernel goes on when the process dies */
	bool exists, idle;
};
void sim_fiber_start(struct sim_fiber *f, struct world *w, void (*fn)(void *arg), int64_t at_ns);
/* From the fiber itself: until its wake event fires. */
void sim_fiber_wait(struct sim_fiber *f);
void sim_fiber_free(struct sim_fiber *f);
/* Leaves the running fiber for good; whoever runs the universe deals with why. */
_Noreturn void sim_fiber_leave(struct sim_fiber *f);

enum sim_stack_kind { SIM_STACK_SMALL, SIM_STACK_LARGE, SIM_STACK_FIBER, SIM_STACKS };
void *sim_stack_get(struct sim *s, size_t bytes);
void sim_stack_put(struct sim *s, void *lo, size_t bytes);

/* ---- open objects ------------------------------------------------------------------------------ */

enum sim_kind { OBJ_FILE, OBJ_STREAM, OBJ_PACKETS, OBJ_LISTENER, OBJ_STDERR, OBJ_SHARED };
struct sim_object {
	enum sim_kind kind;
	unsigned refs; /* descriptors and packets in flight */
	struct list watches;
	unsigned (*ready)(struct sim_object *o);
	void (*close)(struct sim *s, struct sim_object *o);
};
struct sim_watch {
	struct list of_object, queued; /* queued: world.ready */
	struct world *w;
	struct sim_object *o;
	void *data;
	bool level, fresh;
};
void sim_object_init(struct sim_object *o, enum sim_kind kind);
void sim_object_ref(struct sim_object *o);
void sim_object_unref(struct sim *s, struct sim_object *o);
/* Something became possible: whoever watches is told. */
void sim_notify(struct sim *s, struct sim_object *o);

struct sim_fd {
	struct sim_object *o;
	struct sim_watch *watch;
	unsigned flags; /* enum world_open */
	bool was_open;
};
#define SIM_FDS_MAX 20000
/* ERR_LIMIT. Takes over one reference on success. */
enum err sim_fd_new(struct world *w, struct sim_object *o, unsigned flags, int *fd_out) MUST_CHECK;
/* Ends the universe when the descriptor is not open or not of this kind. */
struct sim_object *sim_fd_object(struct world *w, int fd, enum sim_kind kind);
struct sim_object *sim_fd_any(struct world *w, int fd);
void sim_fds_close_all(struct world *w);

/* ---- processes ----------------------------------------------------------------------------------- */

struct sim_zombie {
	struct list link;
	int pid, status;
};
struct world {
	struct list link;    /* sim.processes */
	struct list sibling; /* in its parent's children */
	struct sim *sim;
	struct sim_host *host;
	struct mem *mem;
	int pid, status;
	struct world *parent;
	struct list children; /* alive */
	struct list zombies;  /* struct sim_zombie */
	char role[24];
	unsigned index;
	int (*fn)(struct world *w, void *arg);
	void *fn_arg;
	int (*program)(struct world *w, unsigned index);
	bool dead, killed; /* killed: by itself, in the middle of a call */
	int64_t mono_ns, wall_ms, busy_ns;
	/* descriptors */
	struct sim_fd *fds;
	int fd_cap, fd_next, fd_open, fd_max;
	/* waiting */
	struct sim_fiber main, helper[SIM_HELPERS];
	struct list ready;
	bool polling;
	int64_t free_at_ns; /* when it has done what it did before it polled */
	struct world_job *todo, **todo_tail, *done, **done_tail;
	/* signals */
	bool watches_signals, stop_pending, child_pending, signal_new;
	void *signal_data;
	/* jail */
	bool jailed;
	unsigned may, uid;
	uint64_t max_file_bytes;
	struct sim_inode **dirs;
	size_t dir_count;
	struct list stacks; /* struct sim_stack: of coroutines */
	struct list mappings; /* struct sim_mapping */
	struct buf log_line;
};
struct sim_stack {
	struct list link;
	void *lo;
	size_t bytes;
};
struct sim_mapping { /* of memory that processes share */
	struct list link;
	struct sim_object *o;
	void *p;
};
void sim_mappings_end(struct world *w);

/*
 * Every call to the world begins here: checks who calls, counts, may kill the process, charges time.
 * On a helper thread the time passes before this returns.
 */
void sim_enter(struct world *w, int64_t cost_ns);
/* The same for an operation that can fail by plan. */
enum err sim_enter_op(struct world *w, enum sim_op op, int64_t cost_ns) MUST_CHECK;
/* Reports a call that the jail would refuse. */
enum err sim_jail_check(struct world *w, unsigned may, const char *call) MUST_CHECK;
/* Makes the process look for events. */
void sim_wake(struct world *w);
void sim_process_end(struct world *w, int status);
/* Frees what only dead processes hold; from the universe's own stack. */
void sim_bury(struct sim *s);
struct world *sim_process_by_pid(const struct sim *s, int pid);
struct world *sim_process_new(struct sim_host *h, const char *role, unsigned index, struct world *parent);
void sim_process_run(struct world *w, int64_t at_ns);
void sim_job_helper(void *arg);
void sim_faults_apply_memory(struct world *w);

/* ---- machines and disks ------------------------------------------------------------------------------ */

struct sim_armed_fault {
	struct list link;
	struct sim_fault f;
	uint64_t seen;
};
struct sim_block {
	struct list link;
	const char *role;
	int64_t until_ns;
};
struct sim_wall { /* a partition */
	struct list link;
	struct ip other;
};

struct sim_inode;
struct sim_disk {
	struct sim_host *host;
	struct list inodes; /* all */
	struct list metas;  /* changes of directories that are not durable, oldest first */
	struct sim_inode *root;
	uint64_t next_ino, next_seq;
	uint64_t pages_max, pages_used;
};

struct sim_host {
	struct list link;
	struct sim *sim;
	const char *name;
	struct ip ip;
	bool up, crashing;
	int64_t wall_offset_ms, booted_ns;
	struct sim_disk disk;
	struct list walls, faults, blocks;
	uint64_t calls, ops[SIM_OPS];
	/* sim_crash_at_call() */
	const char *crash_role;
	uint64_t crash_at;
	bool crash_armed, crash_machine;
};
void sim_disk_init(struct sim_host *h, uint64_t bytes);
void sim_disk_crash(struct sim_host *h);

struct sim_page {
	char *live;   /* what is read; NULL: zeros */
	char *stable; /* what the disk holds, when split */
	char *wb;     /* what the running sync writes, when it was overwritten since */
	bool split, dirty, in_wb, wb_copied;
};
struct sim_inode {
	struct list all;
	struct sim_host *host;
	uint64_t ino;
	enum world_kind kind;
	unsigned refs, links, uid, gid, mode;
	int64_t mtime_ms;
	/* files */
	uint64_t size, stable_size, wb_size;
	struct sim_page *pages;
	size_t page_cap;
	uint32_t *dirty, *wb;
	size_t dirty_n, dirty_cap, wb_n, wb_cap;
	uint64_t charged, filled; /* pages: paid for, and holding bytes */
	bool syncing;
	struct sim_object *locked_by;
	/* directories */
	struct table entries; /* of struct sim_entry */
	struct sim_inode *parent;
	/* local sockets */
	struct sim_object *bound;
};
struct sim_entry {
	struct str name;
	struct sim_inode *live, *stable;
};
enum sim_meta_kind { META_LINK, META_UNLINK, META_RENAME };
struct sim_meta {
	struct list link;
	enum sim_meta_kind kind;
	uint64_t seq;
	struct sim_inode *dir, *to_dir, *inode;
	struct str name, to_name;
};
struct sim_file { /* an open file or directory */
	struct sim_object o;
	struct sim_inode *inode;
};

struct sim_inode *sim_inode_new(struct sim_host *h, enum world_kind kind, unsigned mode);
void sim_inode_ref(struct sim_inode *i);
void sim_inode_unref(struct sim_inode *i);
struct sim_inode *sim_dir_get(const struct sim_inode *dir, struct str name);
/* Each also records what has to become durable. inode and names must be as the operation wants them. */
void sim_dir_link(struct sim_inode *dir, struct str name, struct sim_inode *i);
void sim_dir_unlink(struct sim_inode *dir, struct str name);
void sim_dir_rename(struct sim_inode *from, struct str name, struct sim_inode *to, struct str to_name);
/* Everything up to now is durable at once: for files put there from outside. */
void sim_disk_settle(struct sim_host *h);
/* Directory changes that touch dir (NULL: all), up to seq, are on the disk. */
void sim_dir_durable(struct sim_host *h, const struct sim_inode *dir, uint64_t seq);
size_t sim_inode_read(const struct sim_inode *i, char *p, size_t n, uint64_t offset);
enum err sim_inode_write(struct sim_inode *i, struct str bytes, uint64_t offset) MUST_CHECK;
enum err sim_inode_resize(struct sim_inode *i, uint64_t bytes) MUST_CHECK;
enum err sim_inode_reserve(struct sim_inode *i, uint64_t bytes) MUST_CHECK;
void sim_sync_begin(struct sim_inode *i);
void sim_sync_done(struct sim_inode *i);
void sim_sync_failed(struct sim_inode *i);
/* What of the unsynced content is left after a power cut. */
void sim_inode_crash(struct sim_inode *i);
bool sim_inode_is_dirty(const struct sim_inode *i);
/* Beneath dir, for the host's files; *last_out: the name in it, when parent is wanted. */
enum err sim_walk(struct sim_inode *dir, struct str path, struct sim_inode **out) MUST_CHECK;
enum err sim_walk_parent(struct sim_inode *dir, struct str path, struct sim_inode **dir_out,
			 struct str *last_out) MUST_CHECK;
enum err sim_jail_path(struct world *w, const struct sim_inode *dir) MUST_CHECK;

/* ---- network --------------------------------------------------------------------------------------------- */

/* A listening socket: of TCP at an address, or at a path. */
struct sim_listener {
	struct sim_object o;
	struct list link; /* sim.listeners, TCP only */
	struct sim_host *host;
	struct ip addr;
	struct list waiting; /* struct sim_waiting */
	size_t waiting_n;
	struct sim_inode *inode; /* path only */
	int pid;
	unsigned uid, gid;
};
struct sim_waiting {
	struct list link;
	struct sim_object *o;
	struct ip peer;
};
void sim_listener_push(struct sim *s, struct sim_listener *l, struct sim_object *end, const struct ip *peer);
/* One end of a new local connection: the other end goes to the listener. */
struct sim_object *sim_packets_connect(struct world *w, struct sim_listener *l);
enum err sim_packets_accept(struct world *w, struct sim_listener *l, int *fd_out) MUST_CHECK;

/* ---- the universe ------------------------------------------------------------------------------------------ */

struct sim {
	struct mem *mem;
	uint64_t seed, random;
	int64_t now_ns;
	struct heap events;
	struct ctx main_ctx;
	struct sim_fiber *current;
	const struct sim_program *programs;
	struct list hosts, processes, graves, listeners;
	struct sim_host *crash_now;
	int next_pid;
	uint16_t next_port;
	bool verbose, ending;
	size_t failures;
	struct buf log;
	struct {
		void **v;
		size_t n, cap, bytes;
	} stacks[SIM_STACKS];
	struct {
		int pid, status;
	} ended[64]; /* of processes without a parent */
	size_t ended_n;
};
struct sim_host *sim_host_by_ip(struct sim *s, const struct ip *ip);
bool sim_is_walled(const struct sim_host *h, const struct ip *other);

#endif
