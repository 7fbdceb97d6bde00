/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many connections there are, in all and from each client: an IPv4 address, or an IPv6 /64, which is
 * what one customer is given (H25). Every smtpd counts its own in memory that only it can write, and reads
 * the others' when it lets somebody in. There is no lock: who enters is counted first and looks then, so
 * that a limit is never passed; two who come for the last place at the same moment may both be refused.
 * Master clears the counts of an smtpd that died. One that was taken over can lie about its own, no more.
 *
 * Clients share counters by a keyed hash, in several rows of which the lowest sum counts: that a client is
 * counted too high takes one collision in each, with somebody who has many connections.
 */
#ifndef SMTPD_CLIENTS_H
#define SMTPD_CLIENTS_H

#include <stdatomic.h>

#include "base/hash.h"
#include "base/ip.h"

#define CLIENTS_OTHERS_MAX 31u
#define CLIENTS_MEMORY_MIN ((size_t)16384 + 64)

struct clients {
	struct sip_key key;
	size_t cells; /* of a row, a power of two */
	_Atomic uint32_t *own;
	const _Atomic uint32_t *others[CLIENTS_OTHERS_MAX];
	size_t others_n;
};
/* The memory is zeros at first, as large for each (at least CLIENTS_MEMORY_MIN), and lives as long as this does. */
void clients_init(struct clients *c, struct sip_key key, void *own, size_t bytes);
enum err clients_add_other(struct clients *c, const void *memory) MUST_CHECK;

enum clients_answer { CLIENTS_WELCOME, CLIENTS_TOO_MANY, CLIENTS_TOO_MANY_HERE };
/* ip NULL: counted among all only. Who is welcome must leave, with the same ip. */
enum clients_answer clients_enter(struct clients *c, const struct ip *ip_or_null, uint32_t max, uint32_t max_here) MUST_CHECK;
void clients_leave(struct clients *c, const struct ip *ip_or_null);

#endif
