/* SPDX-License-Identifier: Apache-2.0 */
/* The process queue: owns the spool and the schedule. See queue.c. */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "proc/proc.h"

extern const struct proc_ops queue_ops;

#endif
