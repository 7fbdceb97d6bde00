/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages (RFC 1035 §4): writes questions, reads answers. Pure functions, used by the process
 * resolver. Whoever runs a zone writes the bytes that are read here, and so may anybody on the path:
 * nothing in them is believed before it is checked, and no length, count or pointer moves the reader
 * out of the packet or round in a circle (H83).
 *
 * What an answer means, by RFC 2308 and for mail, where "there is no such name" bounces a message:
 *  N1  no_name only by response code 3 with no data for the question; no_data only by code 0 with none.
 *      Everything else that holds no usable record is `failed`, with a sentence that says why.
 *  N2  Names that leave the reader are letters, digits, "-", "_" and dots, in lower case (H87); the
 *      canonical name and that of a CNAME may hold "/" (RFC 2317). Records with other names are left
 *      out; when none is left over for that reason, the answer is `failed`.
 *  N3  Limits. Leaving some addresses or PTR names out loses nothing that matters: the first ones are
 *      kept; of MX, the best ones. TXT and TLSA records are all there or the answer is `failed`.
 *  N4  Strings of one TXT record are joined. Their bytes are any bytes, also control characters.
 */
#ifndef DNS_DNS_H
#define DNS_DNS_H

#include "base/arena.h"
#include "ipc/calls.h"

#define DNS_NAME_MAX 253u      /* as text, without the final dot */
#define DNS_PACKET_MAX 65535u
#define DNS_UDP_BYTES 1232u    /* what we say that we take by UDP: fits every path without fragments */
#define DNS_QUERY_MAX 512u
#define DNS_CHAIN_MAX 16u      /* CNAMEs that are followed */
#define DNS_TTL_MAX 86400u
#define DNS_TTL_NEGATIVE_MAX 900u

/* The number that stands for it in packets. */
uint16_t dns_type_number(enum dns_type type);

/* Whether a question may be asked for it: labels of letters, digits, "-", "_" (and "/"), without a final dot. */
bool dns_name_is_valid(struct str name);

/*
 * A question with recursion desired, EDNS (RFC 6891), and the AD bit, which asks the server to say
 * whether it has validated the answer (RFC 6840 §5.7). ERR_SYNTAX: the name is not valid.
 */
enum err dns_write_query(struct buf *b, uint16_t id, struct str name, enum dns_type type) MUST_CHECK;

/* What the head of a packet says. */
struct dns_head {
	bool truncated; /* TC: ask again by TCP */
	bool validated; /* AD; worth something only from a server that is trusted and near */
};
/* ERR_SYNTAX unless it is an answer to this very question, as dns_write_query() wrote it. */
enum err dns_check(struct str packet, uint16_t id, struct str name, enum dns_type type,
		   struct dns_head *head_out) MUST_CHECK;

/*
 * Reads a whole answer to the question (name, type); its id is not looked at. All of *out is set but
 * `secure`; strings are in `arena` or static. Errors are those of the arena only: what is wrong with
 * the packet is the status `failed`.
 */
enum err dns_read(struct str packet, struct str name, enum dns_type type, struct arena *arena,
		  struct dns_lookup_out *out) MUST_CHECK;

/* Makes *out a `failed` for this reason, which must live as long as *out; ttl: for how long it holds. */
void dns_fail(struct dns_lookup_out *out, struct str why, uint32_t ttl);

#endif
