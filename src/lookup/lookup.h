/* SPDX-License-Identifier: Apache-2.0 */
/* The process lookup: who exists and where mail goes. See lookup.c and resolve.h. */
#ifndef LOOKUP_LOOKUP_H
#define LOOKUP_LOOKUP_H

#include "lookup/directory.h"
#include "proc/proc.h"

extern const struct proc_ops lookup_ops;

/*
 * Checks and makes canonical what an operator wants to add or delete, then does it. The command line
 * uses it directly when no server runs. *text_out says what was wrong when *done_out is false.
 */
enum err lookup_change(struct directory *d, const struct conf *c, const struct directory_change_in *in, int64_t now_ms,
		       struct arena *arena, struct directory_change_out *out) MUST_CHECK;

#endif
