/* SPDX-License-Identifier: Apache-2.0 */
/* The process keys: holds private keys and signs. See keys.c. */
#ifndef KEYS_KEYS_H
#define KEYS_KEYS_H

#include "proc/proc.h"

extern const struct proc_ops keys_ops;

#endif
