/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP addresses as text and back. The text may be hostile (an address literal, a HELO name, a
 * header): only the exact grammars of RFC 4291 §2.2 and of dotted decimal are taken, nothing that
 * inet_aton() would guess at (octal, hexadecimal, short forms).
 */
#include "base/ip.h"

/* One decimal octet without leading zeros. */
static enum err octet_parse(struct str s, uint8_t *octet_out)
{
	uint64_t v;

	if (s.n > 3 || (s.n > 1 && s.p[0] == '0'))
		return ERR_SYNTAX;
	if (str_to_u64(s, 255, &v))
		return ERR_SYNTAX;
	*octet_out = (uint8_t)v;
	return ERR_NONE;
}

static enum err v4_parse(struct str s, uint8_t out[4])
{
	for (int i = 0; i < 3; i++) {
		if (str_find(s, '.') == s.n)
			return ERR_SYNTAX;
		TRY(octet_parse(str_split(s, '.', &s), &out[i]));
	}
	return octet_parse(s, &out[3]);
}

/* One group of 1 to 4 hexadecimal digits. */
static enum err group_parse(struct str s, uint8_t out[2])
{
	unsigned v = 0;

	if (s.n < 1 || s.n > 4)
		return ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		char c = ascii_lower(s.p[i]);

		if (ascii_is_digit(c))
			v = v * 16 + (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v * 16 + (unsigned)(c - 'a' + 10);
		else
			return ERR_SYNTAX;
	}
	out[0] = (uint8_t)(v >> 8);
	out[1] = (uint8_t)(v & 0xff);
	return ERR_NONE;
}

/* Groups between colons, the last perhaps an IPv4 address; an empty text is no group. */
static enum err groups_parse(struct str s, bool v4_may_end, uint8_t out[16], size_t *bytes_out)
{
	size_t n = 0;

	while (s.n > 0) {
		size_t colon = str_find(s, ':');
		struct str group = str_sub(s, 0, colon);

		if (v4_may_end && colon == s.n && str_find(group, '.') < group.n) {
			if (n > 12)
				return ERR_SYNTAX;
			TRY(v4_parse(group, out + n));
			n += 4;
		} else {
			if (n > 14)
				return ERR_SYNTAX;
			TRY(group_parse(group, out + n));
			n += 2;
		}
		if (colon + 1 == s.n)
			return ERR_SYNTAX; /* ends with a colon */
		s = str_sub(s, colon + 1, s.n);
	}
	*bytes_out = n;
	return ERR_NONE;
}

static enum err v6_parse(struct str s, uint8_t out[16])
{
	size_t gap = str_find_str(s, STR("::"));
	uint8_t head[16], tail[16];
	size_t n_head = 0, n_tail = 0;

	if (gap == s.n) {
		TRY(groups_parse(s, true, out, &n_head));
		return n_head == 16 ? ERR_NONE : ERR_SYNTAX;
	}
	TRY(groups_parse(str_sub(s, 0, gap), false, head, &n_head));
	TRY(groups_parse(str_sub(s, gap + 2, s.n), true, tail, &n_tail));
	if (n_head + n_tail > 14) /* RFC 4291 §2.2: "::" is one or more groups of zeros */
		return ERR_SYNTAX;
	memset(out, 0, 16);
	memcpy(out, head, n_head);
	memcpy(out + 16 - n_tail, tail, n_tail);
	return ERR_NONE;
}

static enum err ip_parse_as_written(struct str s, struct ip *ip_out)
{
	struct ip ip = { .family = IP_V4, .bits = 32 };

	if (str_find(s, ':') < s.n) {
		ip.family = IP_V6;
		ip.bits = 128;
		TRY(v6_parse(s, ip.b));
	} else {
		TRY(v4_parse(s, ip.b));
	}
	*ip_out = ip;
	return ERR_NONE;
}

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* RFC 4291 §2.5.5.2: an IPv4-mapped address is IPv4. */
static void ip_unmap(struct ip *ip)
{
	if (ip->family != IP_V6 || ip->bits < 96 || memcmp(ip->b, mapped, sizeof mapped) != 0)
		return;
	ip->family = IP_V4;
	ip->bits = (uint8_t)(ip->bits - 96);
	memmove(ip->b, ip->b + 12, 4);
	memset(ip->b + 4, 0, 12);
}

enum err ip_parse(struct str s, struct ip *ip_out)
{
	struct ip ip;

	TRY(ip_parse_as_written(s, &ip));
	ip_unmap(&ip);
	*ip_out = ip;
	return ERR_NONE;
}

static bool host_bits_are_zero(const struct ip *ip)
{
	for (unsigned bit = ip->bits; bit < (ip->family == IP_V4 ? 32u : 128u); bit++)
		if (ip->b[bit / 8] & (0x80u >> bit % 8))
			return false;
	return true;
}

enum err ip_parse_prefix(struct str s, struct ip *ip_out)
{
	size_t slash = str_find(s, '/');
	struct ip ip;

	TRY(ip_parse_as_written(str_sub(s, 0, slash), &ip));
	if (slash < s.n) {
		uint8_t bits;

		TRY(octet_parse(str_sub(s, slash + 1, s.n), &bits));
		if (bits > ip.bits)
			return ERR_SYNTAX;
		ip.bits = bits;
	}
	if (!host_bits_are_zero(&ip))
		return ERR_SYNTAX;
	ip_unmap(&ip);
	*ip_out = ip;
	return ERR_NONE;
}

enum err ip_parse_port(struct str s, struct ip *ip_out)
{
	size_t colon = str_rfind(s, ':');
	struct str host = str_sub(s, 0, colon);
	struct ip ip = { .family = IP_NONE };
	uint64_t port;

	if (colon == s.n || str_to_u64(str_sub(s, colon + 1, s.n), 65535, &port))
		return ERR_SYNTAX;
	if (str_starts(host, STR("[")) && str_ends(host, STR("]"))) {
		host = str_sub(host, 1, host.n - 1);
		if (str_find(host, ':') == host.n)
			return ERR_SYNTAX;
		TRY(ip_parse(host, &ip));
	} else if (host.n > 0 && !str_eq(host, STR("*"))) {
		if (str_find(host, ':') < host.n)
			return ERR_SYNTAX; /* IPv6 needs its brackets: where would the port begin?
					    */
		TRY(ip_parse(host, &ip));
	}
	ip.port = (uint16_t)port;
	*ip_out = ip;
	return ERR_NONE;
}

static void v4_add(struct buf *b, const uint8_t *octets)
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			buf_add_char(b, '.');
		buf_add_u64(b, octets[i]);
	}
}

static unsigned group_of(const struct ip *ip, unsigned i)
{
	return (unsigned)ip->b[2 * i] << 8 | ip->b[2 * i + 1];
}

/* RFC 5952 §4.2: the longest run of two or more zero groups, the first of equals. */
static unsigned longest_zero_run(const struct ip *ip, unsigned *length_out)
{
	unsigned best = 8, best_length = 1;

	for (unsigned i = 0, run = 0; i < 8; i++) {
		run = group_of(ip, i) == 0 ? run + 1 : 0;
		if (run > best_length) {
			best_length = run;
			best = i + 1 - run;
		}
	}
	*length_out = best_length;
	return best;
}

static void v6_add(struct buf *b, const struct ip *ip)
{
	unsigned length;
	unsigned gap = longest_zero_run(ip, &length);

	for (unsigned i = 0; i < 8; i++) {
		unsigned group = group_of(ip, i);

		if (i == gap) {
			buf_add(b, STR("::"));
			i += length - 1;
			continue;
		}
		if (i > 0 && i != gap + length)
			buf_add_char(b, ':');
		buf_add_hex(b, group, group > 0xfff ? 4 : group > 0xff ? 3 : group > 0xf ? 2 : 1);
	}
}

void ip_add(struct buf *b, const struct ip *ip)
{
	if (ip->family == IP_V4)
		v4_add(b, ip->b);
	else if (ip->family == IP_V6)
		v6_add(b, ip);
	else if (ip->family == IP_UNIX)
		buf_add(b, STR("unix"));
	else
		buf_add_char(b, '*');
}

void ip_add_literal(struct buf *b, const struct ip *ip)
{
	buf_add(b, ip->family == IP_V6 ? STR("[IPv6:") : STR("["));
	ip_add(b, ip);
	buf_add_char(b, ']');
}

void ip_add_port(struct buf *b, const struct ip *ip)
{
	if (ip->family == IP_V6)
		buf_add_char(b, '[');
	ip_add(b, ip);
	if (ip->family == IP_V6)
		buf_add_char(b, ']');
	buf_add_char(b, ':');
	buf_add_u64(b, ip->port);
}

bool ip_in(const struct ip *ip, const struct ip *prefix)
{
	unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;

	if (ip->family != prefix->family || prefix->bits > 128)
		return false;
	if (memcmp(ip->b, prefix->b, whole) != 0)
		return false;
	return rest == 0 || (ip->b[whole] ^ prefix->b[whole]) >> (8 - rest) == 0;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	return a->family == b->family && memcmp(a->b, b->b, a->family == IP_V4 ? 4 : 16) == 0;
}

bool ip_is_loopback(const struct ip *ip)
{
	static const uint8_t v6_loopback[16] = { [15] = 1 };

	if (ip->family == IP_V4)
		return ip->b[0] == 127; /* RFC 1122 §3.2.1.3 (g) */
	if (ip->family == IP_V6)
		return memcmp(ip->b, v6_loopback, 16) == 0;
	return ip->family == IP_UNIX;
}
