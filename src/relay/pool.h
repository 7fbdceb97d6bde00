/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idle connections to other servers, kept for a moment: the next message to the same address by the same
 * route saves connecting and EHLO, whatever its domain. One that was closed meanwhile, or on which the
 * server said something unasked, is never handed out. The youngest goes first, so that those that a burst
 * has left over end in time.
 */
#ifndef RELAY_POOL_H
#define RELAY_POOL_H

#include "relay/client.h"

#define POOL_IDLE_NS (5 * 1000000000LL)
#define POOL_MAX 500u /* idle ones in all; to one address no more than its route may open */

struct pool {
	struct relay_env *env;
	struct scope *scope; /* those who say QUIT work in it */
	struct list idle;    /* in the order of their time */
	size_t n;
	struct co_queue changed;
};

void pool_init(struct pool *p, struct relay_env *env, struct scope *scope);
/* An idle connection to the target, made for the same demands (C3), or NULL. It is the caller's. */
struct client *pool_take(struct pool *p, const struct conf_route *route, const struct mx_target *target, uint64_t secure_key);
/* A connection after a whole transaction: kept, or ended in good order. */
void pool_put(struct pool *p, struct client *c);
/* Ends it in the background. */
void pool_quit(struct pool *p, struct client *c);
/* Ends those whose time has come; returns when cancelled or stopped. */
YIELDS void pool_tend(struct pool *p);
/* Ends all. */
void pool_empty(struct pool *p);

#endif
