/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the directories of a server, with the owners that the jails of its processes need. Used by master, and
 * by the command line, which may be the first to need one: accounts are often made before the first start.
 */
#ifndef MASTER_DIRS_H
#define MASTER_DIRS_H

#include "world/world.h"

/* BLOCKING. Makes the directory, and its parents (readable by all), where they are missing, and syncs them. As
 * root it belongs to the user and has the mode, even when it was there with another owner. Absolute paths. */
enum err dir_make(struct world *w, struct str path, unsigned uid, unsigned gid, unsigned mode) MUST_CHECK;

/* BLOCKING. ERR_DENIED and the path of the first directory above this one that the user may not pass (and is not
 * the owner of, nor in its group); only root is told, for others the same user does it all. */
enum err dir_check_way(struct world *w, struct str path, unsigned uid, unsigned gid, struct str *blocked_out) MUST_CHECK;

#endif
