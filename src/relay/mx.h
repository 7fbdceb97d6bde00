/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a message goes next: from a route and a domain to an ordered list of addresses. RFC 5321 §5, §5.1;
 * RFC 7505 (null MX); RFC 3974 (both families). What the DNS says is a stranger's (H84).
 *
 * Invariants:
 *  X1  What the DNS does not know now (failed, bogus, no resolver) is never a permanent failure.
 *  X2  We never send to ourselves: at our own name or address the list ends, with all hosts of the same or
 *      a higher preference number (RFC 5321 §5.1); if nothing is left, that is a permanent failure.
 *  X3  The DNS of others cannot point us at loopback, unspecified, or multicast addresses; a route that
 *      the operator wrote can.
 *  X4  At most MX_HOSTS_MAX hosts and MX_ADDRESSES_MAX addresses of each are looked at.
 *
 * Hosts' addresses are looked up when it is their turn, all hosts of one preference at a time, because
 * X2 concerns them together.
 */
#ifndef RELAY_MX_H
#define RELAY_MX_H

#include "base/hash.h"
#include "relay/delivery.h"

#define MX_HOSTS_MAX 20u
#define MX_ADDRESSES_MAX 8u
#define MX_PORT 25u
#define MX_LMTP_PORT 24u

/* The resolver, or what a test plays. Errors: no answer is to be had at the moment. */
struct mx_dns {
	YIELDS enum err (*lookup)(void *arg, const struct dns_lookup_in *in, struct arena *arena, struct dns_lookup_out *out);
	void *arg;
};

struct mx_host {
	struct str name; /* lower case; an address as text; a path */
	uint16_t preference, port;
	uint32_t random; /* order among those of one preference */
	uint32_t weight;
	struct ip address; /* of a literal; family IP_UNIX: a path; else IP_NONE: look it up */
	bool trusted;	   /* DNSSEC or the operator says that it is a host for this mail */
	bool tls_first;	   /* TLS comes before the greeting */
};
/* One place to connect to. */
struct mx_target {
	struct str host;
	struct ip address; /* with port; family IP_UNIX: `host` is a path */
	uint16_t preference;
	/* For secure.h. */
	struct str canonical; /* behind CNAMEs */
	bool named;	      /* host is a domain name */
	bool trusted;	      /* DNSSEC or the operator says that it is a host for this mail */
	bool secure;	      /* its addresses are proved by DNSSEC */
	bool tls_first;
};

struct mx_search {
	/* given */
	struct world *w;
	const struct conf *conf;
	const struct mx_dns *dns;
	const struct conf_route *route;
	struct str domain;
	struct arena *arena;
	/* private */
	struct mx_host hosts[MX_HOSTS_MAX];
	size_t hosts_n, hosts_next;
	struct mx_target *targets; /* of the present preference */
	size_t targets_n, targets_next;
	bool us_found, us_best, any_failed, any_target;
	struct str expanded; /* the domain behind CNAMEs, if the MX answer is proved by DNSSEC */
	struct str why_not; /* a host's addresses could not be used: the last reason */
	/* result */
	struct finding found; /* when there is nothing (left): why; meaningful after ERR_NOT_FOUND */
	struct str set;	      /* stable name of the hosts, at most 255 bytes; empty before mx_begin() */
};

/*
 * Finds the hosts. The given members are set, the others zero. ERR_NOT_FOUND: there is none, see
 * found. ERR_NO_MEMORY, ERR_LIMIT: the arena is full.
 */
YIELDS enum err mx_begin(struct mx_search *s) MUST_CHECK;
/* The next address. ERR_NOT_FOUND: no (further) one; `found` says why when there was none at all. */
YIELDS enum err mx_next(struct mx_search *s, struct mx_target *target_out) MUST_CHECK;
/* Asks the resolver; that it does not answer is DNS_STATUS_FAILED. ERR_CANCELLED, ERR_NO_MEMORY, ERR_LIMIT. */
YIELDS enum err mx_ask(struct mx_search *s, struct str name, enum dns_type type, struct dns_lookup_out *out) MUST_CHECK;
/* After ERR_NOT_FOUND: `found` is the answer for all recipients; else it is what the hosts said. */
static inline bool mx_decides(const struct mx_search *s)
{
	return !s->any_target || s->us_best;
}
/*
 * The target turned out to be ourselves: it and what X2 says are dropped. If nothing better was there
 * before, `found` is the answer.
 */
void mx_is_us(struct mx_search *s, const struct mx_target *target);

#endif
