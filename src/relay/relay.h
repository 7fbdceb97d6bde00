/* SPDX-License-Identifier: Apache-2.0 */
/* The process relay: sends messages to other servers for queue. See relay.c. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "proc/proc.h"

extern const struct proc_ops relay_ops;

#endif
