/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses, ports and prefixes: values, text both ways. IPv4-mapped IPv6 becomes IPv4 when parsed or received. */
#ifndef BASE_IP_H
#define BASE_IP_H

#include "base/buf.h"

enum ip_family { IP_NONE = 0, IP_V4 = 4, IP_V6 = 6, IP_UNIX = 1 };

struct ip {
	uint8_t family;	 /* enum ip_family */
	uint8_t bits;	 /* prefix length where it stands for a network; else 32 or 128 */
	uint16_t port;	 /* host order; 0 = none */
	uint8_t b[16];	 /* network order; IPv4 uses the first 4 */
};

/* "192.0.2.1", "2001:db8::1"; no zone, no brackets, no leading zeros in IPv4. */
enum err ip_parse(struct str s, struct ip *ip_out) MUST_CHECK;
/* "192.0.2.0/24", "2001:db8::/32", or a bare address (= /32, /128). Host bits must be 0. */
enum err ip_parse_prefix(struct str s, struct ip *ip_out) MUST_CHECK;
/* "127.0.0.1:25", "[::1]:25", "*:25" and ":25" (any, both families: family IP_NONE). */
enum err ip_parse_port(struct str s, struct ip *ip_out) MUST_CHECK;
/* RFC 5952 text, without the port. */
void ip_add(struct buf *b, const struct ip *ip);
/* RFC 5321 §4.1.3 address literal with brackets: [192.0.2.1], [IPv6:2001:db8::1]. */
void ip_add_literal(struct buf *b, const struct ip *ip);
/* address:port or [address]:port */
void ip_add_port(struct buf *b, const struct ip *ip);
bool ip_in(const struct ip *ip, const struct ip *prefix);
bool ip_eq(const struct ip *a, const struct ip *b); /* family and address, not port */
bool ip_is_loopback(const struct ip *ip);

#define IP_TEXT_MAX 64
#endif
