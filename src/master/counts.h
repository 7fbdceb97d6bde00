/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory in which the smtpds count connections, so that limits hold for all of them together: a piece
 * for each, which it alone can write and the others can read. Runs in master, which reads nothing of it
 * (it is a stranger's, once an smtpd is taken over), and clears what a dead one left behind.
 */
#ifndef MASTER_COUNTS_H
#define MASTER_COUNTS_H

#include "ipc/calls.h"

#define COUNTS_MAX 32u

struct counts {
	struct world *w;
	uint64_t key0, key1; /* hash key of clients */
	size_t n, bytes;
	struct {
		int write_fd, read_fd;
		void *memory;
	} v[COUNTS_MAX];
};
/* For n smtpds and that many connections in all; nothing is left behind when it fails. */
enum err counts_init(struct counts *c, struct world *w, unsigned n, uint32_t connections) MUST_CHECK;
/* Hands smtpd `index` its own and all others. */
enum err counts_send(const struct counts *c, struct ipc *ch, unsigned index) MUST_CHECK;
/* smtpd `index` is dead: it has no connections. */
void counts_clear(struct counts *c, unsigned index);
void counts_done(struct counts *c);

#endif
