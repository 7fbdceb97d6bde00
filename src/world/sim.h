/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated universe: machines with disks and processes, the network between them, one virtual
 * clock, one seed. Every choice (order, delay, segmentation, what a power cut leaves on a disk) comes from
 * the seed, so that one seed is one history, replayed exactly. Used by src/sim and by *_simtest.c; the
 * server itself knows only world.h.
 *
 * Each process runs its ordinary main function on a fiber of its own. It is left only in world_poll(),
 * in blocking calls on helper threads (which are fibers too), and at its end. Between two polls
 * a process runs in no time, but its calls cost virtual microseconds before it is resumed.
 */
#ifndef WORLD_SIM_H
#define WORLD_SIM_H

#include "base/buf.h"
#include "base/ip.h"
#include "world/world.h"

struct sim;
struct sim_host;

/* A program that world_spawn() can start. */
struct sim_program {
	const char *role;
	int (*main)(struct world *w, unsigned index);
};

/* Operations that can be counted and made to fail. */
enum sim_op {
	SIM_OPEN,
	SIM_READ,
	SIM_WRITE,
	SIM_SYNC, /* sync, datasync, syncfs */
	SIM_RENAME,
	SIM_UNLINK,
	SIM_MKDIR,
	SIM_RESERVE, /* world_allocate() */
	SIM_MEMORY,
	SIM_SEND, /* bytes on TCP and packets: only descriptors and kernel memory can be short */
	SIM_OPS
};
extern const char *const sim_op_names[SIM_OPS];

/* 2026-01-01T00:00:00Z, when every universe begins. */
#define SIM_EPOCH_MS INT64_C(1767225600000)

/* programs: ends with role NULL; outlives the universe. NULL when there is no memory. */
struct sim *sim_new(uint64_t seed, const struct sim_program *programs);
void sim_free(struct sim *s);
uint64_t sim_random(struct sim *s);
/* 0 <= result < n */
uint64_t sim_below(struct sim *s, uint64_t n);
int64_t sim_now_ns(const struct sim *s);
/* Runs until nothing is left to happen, or *stop becomes true. */
void sim_run(struct sim *s, const bool *stop);
/* Runs what happens up to a point in time, and sets the clock to it. Not from inside a process. */
void sim_run_until(struct sim *s, int64_t at_ns);

/* ---- what went wrong: facts that no run may show ------------------------------------------------ */

void sim_fail(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
size_t sim_failures(const struct sim *s);
/* Everything that processes wrote to standard error, a line each: "seconds host/role[index]: text". */
struct str sim_log(const struct sim *s);
/* A line of the simulator's own in that log. */
void sim_note(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* From now on the log goes to standard error too. */
void sim_set_verbose(struct sim *s);

/* ---- machines -------------------------------------------------------------------------------------- */

/* disk_bytes 0: no limit. name: a literal. It is up, with an empty disk and no process. */
struct sim_host *sim_host_new(struct sim *s, const char *name, const struct ip *ip, uint64_t disk_bytes);
/* How much can still be written; UINT64_MAX: all there ever was. */
void sim_disk_set_free(struct sim_host *h, uint64_t bytes);
/* Processes vanish, what was not synced is kept, lost or torn; nobody outside hears of it. */
void sim_host_crash(struct sim_host *h);
bool sim_host_is_up(const struct sim_host *h);
void sim_host_boot(struct sim_host *h);
void sim_clock_jump(struct sim_host *h, int64_t by_ms);
/* Nothing passes between this address and the host. */
void sim_partition(struct sim_host *h, const struct ip *other);
void sim_heal(struct sim_host *h, const struct ip *other);

/* ---- files from outside: as a process would see them ------------------------------------------------ */

/* Makes the file and its directories, durable at once. */
enum err sim_file_put(struct sim_host *h, struct str path, struct str bytes) MUST_CHECK;
enum err sim_file_get(struct sim_host *h, struct str path, struct buf *b) MUST_CHECK;
/* Names in a directory, sorted by the table's own order; ERR_NOT_FOUND. */
enum err sim_file_list(struct sim_host *h, struct str path, void (*each)(void *arg, struct str name),
		       void *arg) MUST_CHECK;

/* world_connect_path() to a socket of another machine: only the experimenter can do that. */
enum err sim_connect_path(struct world *w, struct sim_host *h, struct str path, int *fd_out) MUST_CHECK;

/* ---- processes --------------------------------------------------------------------------------------- */

/* Starts fn(w, arg) as a process that nothing is parent of. The number is its pid. */
int sim_process_start(struct sim_host *h, const char *role, int (*fn)(struct world *w, void *arg), void *arg);
/* Starts a program of the table in the same way. */
int sim_program_start(struct sim_host *h, const char *role);
bool sim_process_lives(const struct sim *s, int pid);
/* Exit status of a process without a parent that has ended, else -1. */
int sim_process_status(const struct sim *s, int pid);
/* SIGKILL and SIGTERM from outside. */
void sim_process_kill(struct sim *s, int pid);
void sim_process_stop(struct sim *s, int pid);
/* Kills every process of the role; returns how many. */
unsigned sim_role_kill(struct sim_host *h, const char *role);
/* Until then none of the role can be spawned. */
void sim_role_block(struct sim_host *h, const char *role, int64_t until_ns);
/*
 * When processes of the role have together entered n calls to the world from now, that one is killed
 * in the middle (role NULL: those of all roles; machine: the power fails instead).
 */
void sim_crash_at_call(struct sim_host *h, const char *role, uint64_t n, bool machine);
bool sim_crash_is_armed(const struct sim_host *h);
/* Calls to the world by this machine's processes so far. */
uint64_t sim_calls(const struct sim_host *h);

/* ---- faults ---------------------------------------------------------------------------------------------- */

/* The nth to (nth+count-1)st operation from now by processes of the role (NULL: any) of h fails. */
struct sim_fault {
	const char *role;
	enum sim_op op;
	uint64_t nth, count;
	enum err err;
};
void sim_fault_add(struct sim_host *h, const struct sim_fault *f);
void sim_faults_clear(struct sim_host *h);
/* Operations by processes of h so far; memory: allocations. */
uint64_t sim_op_count(const struct sim_host *h, enum sim_op op);

#endif
