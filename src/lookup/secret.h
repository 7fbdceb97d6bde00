/* SPDX-License-Identifier: Apache-2.0 */
/* The secrets with which lookup signs rewritten reverse-paths. */
#ifndef LOOKUP_SECRET_H
#define LOOKUP_SECRET_H

#include "message/srs.h"
#include "proc/proc.h"

/*
 * Before the jail, which libcrypto could not open its files in. Reads the file that is configured;
 * else srs_secret in `dir` (absolute), which is made first if there is none: durable, mode 0600.
 * What *srs_out refers to lives in `arena`. Errors are logged; so is a file that all may read.
 */
enum err secret_load(struct proc *p, struct str dir, struct arena *arena, struct srs *srs_out)
	MUST_CHECK;

#endif
