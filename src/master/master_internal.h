/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of master share; nobody else includes this. */
#ifndef MASTER_MASTER_INTERNAL_H
#define MASTER_MASTER_INTERNAL_H

#include "conf/conf.h"
#include "ipc/calls.h"
#include "master/account_files.h"
#include "master/certificates.h"
#include "master/counts.h"

#define CHILDREN_MAX 48u
#define NO_IDS ((struct log_ids){ 0 })

enum child_state { CHILD_NONE, CHILD_STARTING, CHILD_READY, CHILD_STOPPING, CHILD_DEAD };

struct child {
	struct master *m;
	enum role role;
	unsigned index;
	int pid;
	struct ipc *ch;
	enum child_state state;
	unsigned restarts;
	int64_t started_ns, back_off_ns;
	int asked_pid;	    /* whose answer to a ping is awaited; 0: nobody's */
	unsigned silent;    /* parts of `process_hang` that it has not answered */
	uint64_t lost; /* bits: channels to these children are to be made again */
	uint32_t serials[CHILDREN_MAX]; /* of the channels that it has now */
};

struct master {
	struct world *w;
	struct mem *mem;
	struct loop *loop;
	struct log log;
	struct arena arena;
	struct str conf_path, conf_bytes;
	struct conf conf;
	struct certificates certificates;
	struct account_files account_files;
	struct scope scope, channels;
	struct child children[CHILDREN_MAX];
	size_t children_n;
	int *sockets; /* by listener and smtpd */
	struct counts counts;
	struct co_queue signals, died, lost;
	bool stopping, started;
	uint32_t serial; /* of the last channel */
	int status;
	int64_t began_ns;
};

void master_failed(struct master *m, const char *what, enum err e, struct str detail);

/* hang.c: a coroutine, arg: the master: asks children whether they live, and kills those that are silent too long */
void master_watch_children(void *arg);

#endif
