/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guessing passwords, made slow (H67): wrong ones are counted by network (an IPv4 address, an IPv6 /64), by
 * account, and by both together; a count goes down by one a minute. From the fourth wrong one on, the answer
 * comes later and later; a network with very many gets none. An owner is not locked out: who has logged in from
 * a network before is only held up by wrong passwords of that account from there. Bounded; the oldest is forgotten.
 */
#ifndef LOOKUP_GUESSES_H
#define LOOKUP_GUESSES_H

#include "base/hash.h"
#include "base/ip.h"
#include "base/list.h"

#define GUESSES_MAX 65536u	   /* counts kept */
#define GUESSES_NETWORK_MAX 60u	   /* wrong ones of a network from which on nothing is checked */
#define GUESSES_PAIR_MAX 20u	   /* … of an account from a network that it has logged in from */
#define GUESSES_AT_ONCE_MAX 16u	   /* checks for one network at a time */
#define GUESSES_DELAY_MAX_NS (10 * 1000000000LL)

struct guesses {
	struct mem *mem;
	struct sip_key key;
	struct table64 by_key;
	struct list recent; /* the one used last first */
};
void guesses_init(struct guesses *g, struct mem *mem, struct sip_key key);
void guesses_done(struct guesses *g);
/* Whether a password may be checked now; if so, guesses_end() must follow. */
bool guesses_begin(struct guesses *g, const struct ip *client, struct str account, int64_t now_ns);
enum guess_outcome { GUESS_RIGHT, GUESS_WRONG, GUESS_UNKNOWN /* it could not be checked */ };
/* Returns how long the answer to a wrong one is to wait. */
int64_t guesses_end(struct guesses *g, const struct ip *client, struct str account, enum guess_outcome outcome, int64_t now_ns);

#endif
