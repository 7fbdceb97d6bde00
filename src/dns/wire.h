/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire form of names and resource records: RFC 1035 §3.1, §4.1.3 and §4.1.4. Used by dns.c.
 * Numbers in packets are big-endian.
 */
#ifndef DNS_WIRE_H
#define DNS_WIRE_H

#include "base/buf.h"

/* A name as labels with their lengths, lower case, with the root's 0 at the end. */
struct wire_name {
	uint8_t b[255];
	size_t n;
};

/* Where the reader stands in a packet. The error sticks. */
struct wire {
	struct str packet;
	size_t at;
	bool bad;
};

struct wire_record {
	struct wire_name owner;
	uint16_t type, class;
	uint32_t ttl;
	size_t data, data_end; /* offsets of RDATA in the packet */
};

uint8_t wire_u8(struct wire *w);
uint16_t wire_u16(struct wire *w);
uint32_t wire_u32(struct wire *w);
/*
 * A name, decompressed. Each pointer must lead to before the place where the name, or the part that the
 * last pointer led to, began: so it ends. At most 255 bytes.
 */
void wire_read_name(struct wire *w, struct wire_name *name_out);
/* A record; `at` is behind it afterwards. */
void wire_read_record(struct wire *w, struct wire_record *r_out);

bool wire_name_eq(const struct wire_name *a, const struct wire_name *b);
/* From text that dns_name_is_valid() accepts. ERR_SYNTAX. */
enum err wire_name_of(struct str text, struct wire_name *name_out) MUST_CHECK;
/* Text without the final dot; the root is empty. ERR_SYNTAX when a byte is none of a-z 0-9 - _ and `also`. */
enum err wire_name_text(const struct wire_name *name, const char *also, struct buf *b) MUST_CHECK;

void wire_put_u16(struct buf *b, uint16_t v);

#endif
