/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way mail leaves: the first route of the configuration that fits recipient and sender. Pure; used
 * by queue and by `godwit explain`. Addresses are canonical (lower case, A-labels).
 */
#ifndef QUEUE_ROUTE_H
#define QUEUE_ROUTE_H

#include "ipc/calls.h"

/* Behind the last @; of a string without one: all of it. */
struct str address_domain(struct str address);
/* Never NULL: the route "default" takes everything. reverse_path: empty for the null reverse-path. */
const struct conf_route *route_for(const struct conf *c, struct str reverse_path, struct str address);
/* The route of this name, or NULL. */
const struct conf_route *route_named(const struct conf *c, struct str name);
/* One line for people: "mx", "smtp relay.example.net:25, …". */
void route_describe(struct buf *b, const struct conf_route *r);

#endif
