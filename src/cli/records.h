/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS records that a mail domain needs, as a zone file with comments (RFC 1035 §5): for people to read, and
 * for name servers to load. A function of the configuration, the addresses and the certificates.
 */
#ifndef CLI_RECORDS_H
#define CLI_RECORDS_H

#include "base/buf.h"
#include "ipc/calls.h"

#define RECORDS_IPS_MAX 8u
#define RECORDS_KEYS_MAX 8u

struct records {
	struct str domain, hostname; /* canonical, without final dots */
	struct ip ips[RECORDS_IPS_MAX]; /* where hostname is to lead; none: the zone file says so */
	size_t ips_n;
	/* SHA-256 of the public keys of the certificates for hostname: TLSA 3 1 1 (RFC 7672 §3.1.1) */
	unsigned char keys[RECORDS_KEYS_MAX][32];
	size_t keys_n;
	uint16_t smtp_port, submission_port, submissions_port; /* 0: there is no such listener */
};
/* Whether an address is of a private network, and so of no use in the DNS. */
bool records_is_private(const struct ip *ip);
void records_add(struct buf *b, const struct records *r);

#endif
