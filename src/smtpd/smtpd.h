/* SPDX-License-Identifier: Apache-2.0 */
/* The process smtpd: receives mail by SMTP. See server.h for what it is made of. */
#ifndef SMTPD_SMTPD_H
#define SMTPD_SMTPD_H

#include "proc/proc.h"

extern const struct proc_ops smtpd_ops;

#endif
