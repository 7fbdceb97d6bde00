/* SPDX-License-Identifier: Apache-2.0 */
/* The process control: the command line's server and the history. See control.c, send.c, history.h. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "control/history.h"
#include "proc/proc.h"

extern const struct proc_ops control_ops;

#define CONTROL_CLIENTS_MAX 64u
#define CONTROL_SENDING_MAX 16u

struct sending; /* a message of `godwit send` that is still arriving */

struct control {
	struct proc *p;
	struct history *history;
	struct arena arena;
	struct str history_dir, socket_path;
	int listen_fd;
	struct source listener;
	size_t clients;
	/* history */
	struct history_batch *batch;
	struct co_queue gathered;
	bool closing;
	uint64_t segment_seen, segment_saved;
	bool lost;	  /* rows of accepted mail: nothing is said to be saved until they are told again */
	bool storable;	  /* since then something could be stored: time to ask for what was lost */
	int64_t again_ns; /* when that was asked for last */
	/* godwit send */
	struct sending *sendings[CONTROL_SENDING_MAX];
	uint16_t send_counter;
	struct counter *rows, *lost_rows, *calls;
};

/* send.c */
YIELDS enum err control_send(void *self, struct ipc *from, const struct send_message_in *in, struct arena *arena,
			     struct send_message_out *out) MUST_CHECK;
void control_send_abort(struct control *c, struct ipc *from);

#endif
