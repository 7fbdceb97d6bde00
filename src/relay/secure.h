/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection to a host must satisfy before mail goes over it: the stricter of what the route says and
 * of what the host's domain publishes by DANE (RFC 7672).
 *
 *  C1  DANE counts where each step of the way is proved: the MX answer, the host's addresses, the TLSA
 *      records. What is not proved asks for nothing; what cannot be found out now (failed, bogus) makes the
 *      host unusable for now, because whoever can suppress an answer could suppress the protection.
 *  C2  Where DANE counts or the route demands TLS, no byte of a message leaves in clear (H62).
 *  C3  A connection is used again only for what it would have been made for: equal keys.
 */
#ifndef RELAY_SECURE_H
#define RELAY_SECURE_H

#include "relay/mx.h"
#include "tls/tls.h"

/* Each asks for more than those before. */
enum secure_level {
	SECURE_NEVER,	    /* TLS is not used */
	SECURE_OPPORTUNISTIC, /* RFC 7435: any TLS is better than none */
	SECURE_ENCRYPTED,   /* by whatever certificate */
	SECURE_PKIX,	    /* a certificate for the host's name, by an authority */
	SECURE_DANE	    /* a certificate that TLSA records vouch for */
};

#define SECURE_NAMES_MAX 3u

struct secure {
	enum secure_level level;
	bool first;	 /* TLS comes before the greeting */
	bool dane;	 /* TLSA records are the reason for `level` */
	struct str names[SECURE_NAMES_MAX]; /* that the certificate may be for; the first is told the server (SNI) */
	size_t names_n;
	struct tls_tlsa *tlsa;
	size_t tlsa_n;
	uint64_t key; /* C3 */
};

/*
 * For one target of a search. Strings are the target's, the search's, or in its arena. ERR_BUSY: C1, *why_out
 * says what the DNS said. ERR_NO_MEMORY, ERR_LIMIT, ERR_CANCELLED.
 */
YIELDS enum err secure_find(struct mx_search *s, const struct mx_target *t, struct sip_key key, struct secure *out,
			    struct str *why_out) MUST_CHECK;
/* Why the level is what it is, for people: "the route asks for it". */
struct str secure_because(const struct secure *s);

#endif
