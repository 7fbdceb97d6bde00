/* SPDX-License-Identifier: Apache-2.0 */
/* The process resolver: asks the DNS for the others. See resolver.c. */
#ifndef RESOLVER_RESOLVER_H
#define RESOLVER_RESOLVER_H

#include "proc/proc.h"

extern const struct proc_ops resolver_ops;

#endif
