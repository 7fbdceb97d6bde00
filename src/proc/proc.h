/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every process but master has in common: it is started by master with one descriptor, receives
 * the configuration and its channels to other processes, opens what it needs, enters its jail, says
 * that it is ready, works, and ends when told. No global state: `struct proc` is passed down, so that
 * a whole installation fits into the simulated world.
 */
#ifndef PROC_PROC_H
#define PROC_PROC_H

#include "base/log.h"
#include "base/metrics.h"
#include "co/co.h"
#include "ipc/calls.h"

#define PROC_PEERS_MAX 64u
#define PROC_LISTENERS_MAX 32u
#define PROC_COUNTS_MAX 32u

struct proc;

/* What a role is made of. `self` is its own state: state_bytes, zeroed, living as long as the process. */
struct proc_ops {
	enum role role;
	size_t state_bytes;
	const struct ipc_handlers *handlers; /* self is `self` */
	size_t call_arena_max;		     /* bytes that one served call may use */
	/* Who the process is when started as root, from before start(); NULL: whoever the jail says. */
	void (*user)(const struct conf *c, unsigned *uid_out, unsigned *gid_out);
	/*
	 * Opens files and sets up state; configuration and channels are there. Fills in *jail_out
	 * (strings in p->arena). Runs before the jail is entered.
	 */
	YIELDS enum err (*start)(struct proc *p, void *self, struct world_jail *jail_out);
	/* In the jail now; spawn what works in p->work. May be NULL. */
	YIELDS enum err (*work)(struct proc *p, void *self);
	/* Stop in order: p->work is stopping already; returns when what matters is done. May be NULL. */
	YIELDS void (*stop)(struct proc *p, void *self);
	/* A channel was opened or replaced (channel), or has died (NULL). May be NULL; must not wait. */
	void (*peer)(struct proc *p, void *self, enum role role, unsigned index, struct ipc *channel);
};

struct proc {
	struct world *w;
	struct loop *loop;
	struct mem *mem;
	const struct proc_ops *ops;
	void *self;
	unsigned index;
	struct conf conf;	 /* strings in `arena` */
	struct arena arena;	 /* as long as the process */
	struct log log;
	struct metrics *metrics;
	struct scope channels;	 /* readers, writers and served calls */
	struct scope work;	 /* the role's own coroutines */
	bool stopping;
	struct ipc *master; /* NULL: it is gone, and we are going */
	struct {
		enum role role;
		unsigned index;
		struct ipc *channel; /* NULL: dead for the moment */
		uint32_t serial;     /* of the channel, as master said */
	} peers[PROC_PEERS_MAX];
	size_t peer_count;
	struct {
		int fd;
		unsigned listener; /* index in conf.listeners */
	} listeners[PROC_LISTENERS_MAX];
	size_t listener_count;
	/* smtpd: memory with counts of connections, from master; start() maps them and closes the descriptors. */
	struct proc_counts_in counts[PROC_COUNTS_MAX];
	size_t counts_n;
	struct co_queue stop_queue, start_queue;
	/* private */
	struct buf conf_bytes;
	bool configured, started;
};

/* The whole life of a process; returns its exit status. Called by main.c and by the simulated world. */
int proc_main(struct world *w, const struct proc_ops *ops, unsigned index);

/* The open channel to a peer, or NULL: temporarily unavailable. */
struct ipc *proc_peer(struct proc *p, enum role role, unsigned index);
/* n of a role that have an open channel, in order of index. */
size_t proc_peers(struct proc *p, enum role role, struct ipc **channels_out, size_t max);

#endif
