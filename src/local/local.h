/* SPDX-License-Identifier: Apache-2.0 */
/* The process local: writes messages into mailboxes for queue. See local.c. */
#ifndef LOCAL_LOCAL_H
#define LOCAL_LOCAL_H

#include "proc/proc.h"

extern const struct proc_ops local_ops;

#endif
