/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maildir, written in batches. Runs on a helper thread of local: touches no struct mem and no coroutine.
 * Names of mailboxes derive from addresses that strangers wrote: the path is resolved by the kernel
 * beneath the mail root, without symlinks (H27, H101).
 *
 * Invariants:
 *  D1  A message shows in new/ only after its content is on stable storage, and is reported delivered
 *      only after its name there is.
 *  D2  The name is made from message id and recipient alone: delivering again after a crash replaces
 *      the same file, or finds it moved to cur/ by the reader.
 *  D3  Only a directory that is ours and that nobody else can write is delivered to.
 */
#ifndef LOCAL_MAILDIR_H
#define LOCAL_MAILDIR_H

#include "world/world.h"

#define MAILDIR_NAME_MAX 160u
#define MAILDIR_BATCH_MAX 256u

struct maildir_job {
	struct str mailbox;	/* path beneath the root: example.org/user */
	struct str name;	/* file name, as maildir_name() makes it */
	struct str parts[3];	/* header fields of this recipient; prefix; body */
	int body_fd;		/* >= 0: the body is this file instead of parts[2] */
	uint64_t body_fd_bytes;
	char *copy_buffer;	/* of MAILDIR_COPY_BYTES, when body_fd >= 0 */
	bool keep_crlf, repeated;
	enum err err;		/* the result */
	bool done, already;	/* already: it was there */
};
#define MAILDIR_COPY_BYTES ((size_t)65536)

struct maildir_batch {
	int root_fd;
	unsigned uid; /* whose the mailboxes must be */
	struct maildir_job *jobs[MAILDIR_BATCH_MAX];
	size_t n;
	bool avoid_syncfs;	/* somebody else's writes make it slow: sync each file */
	bool dirs_in_doubt;	/* in and out: an earlier batch made directories and could not sync them */
	int64_t slowest_sync_ns; /* out */
};

/* The unique name of a message for a recipient (D2). */
struct buf;
void maildir_name(struct buf *b, int64_t arrived_ms, uint64_t id, unsigned recipient, struct str hostname);
/* BLOCKING; arg is a struct maildir_batch. */
void maildir_write_batch(struct world *w, void *arg);

#endif
