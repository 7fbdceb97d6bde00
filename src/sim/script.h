/* SPDX-License-Identifier: Apache-2.0 */
/* The statements of a scenario outside of clients. */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include "sim/run.h"

YIELDS void script_play(struct run *r);
/* The zone of a `dns { … }`, for the server's machine. */
void script_dns(struct run *r, const struct statement *st);
/* accounts { … } and aliases { … }: told to the running server. */
YIELDS void script_accounts(struct run *r);

#endif
