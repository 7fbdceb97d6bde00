/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of accounts (`accounts passwd_file`): master opens them and hands the descriptors to lookup, which thus needs no
 * right to read them: at its start, when they have changed, and when it is asked. A file that was written to less
 * than a second ago is left alone for now: its writer may not be done.
 */
#ifndef MASTER_ACCOUNT_FILES_H
#define MASTER_ACCOUNT_FILES_H

#include "base/log.h"
#include "ipc/calls.h"

struct account_file {
	struct world_stat stat; /* as it was when it was last handed over */
	bool failed;		/* said already that it cannot be opened */
};
struct account_files {
	struct world *w;
	struct mem *mem;
	struct log *log;
	const struct conf *conf;
	struct account_file *v; /* by index in conf.domains */
	size_t n;		/* of passwd_file */
	bool busy;
};
enum err account_files_init(struct account_files *f, struct world *w, struct log *log, const struct conf *conf) MUST_CHECK;
void account_files_done(struct account_files *f);
enum account_files_which { ACCOUNT_FILES_ALL, ACCOUNT_FILES_CHANGED };
/* *lookup may become NULL at any time: then nothing more is done. True: all that were looked at are in use. */
YIELDS bool account_files_load(struct account_files *f, struct ipc **lookup, enum account_files_which which);

#endif
