/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `godwit serve`: reads the configuration, opens the listening sockets, makes the directories, starts
 * the other processes, connects them, restarts what dies, and stops all in order. Sees no hostile input.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "world/world.h"

/* Returns the exit status (sysexits): 0 after an orderly stop, 78 for a bad configuration, … */
int master_main(struct world *w, struct str conf_path);

#endif
