/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many connections each client has: an IPv4 address, or an IPv6 /64, which is what one customer
 * is given. Bounded by the number of connections (H25).
 */
#ifndef SMTPD_CLIENTS_H
#define SMTPD_CLIENTS_H

#include "base/hash.h"
#include "base/ip.h"

struct clients {
	struct mem *mem;
	struct table64 by_key;
};
void clients_init(struct clients *c, struct mem *mem, struct sip_key key, size_t max);
void clients_done(struct clients *c);
/* ERR_LIMIT when it has `max` already. ERR_NO_MEMORY. */
enum err clients_enter(struct clients *c, const struct ip *ip, uint32_t max) MUST_CHECK;
void clients_leave(struct clients *c, const struct ip *ip);

#endif
