/* SPDX-License-Identifier: Apache-2.0 */
/* Names and records in packets: see wire.h. Every byte is a stranger's. */
#include "dns/wire.h"

#define LABEL_MAX 63u
#define POINTER_BITS 0xc0u

uint8_t wire_u8(struct wire *w)
{
	if (w->bad || w->at >= w->packet.n) {
		w->bad = true;
		return 0;
	}
	return (uint8_t)w->packet.p[w->at++];
}

uint16_t wire_u16(struct wire *w)
{
	unsigned high = wire_u8(w);
	return (uint16_t)(high << 8 | wire_u8(w));
}

uint32_t wire_u32(struct wire *w)
{
	uint32_t high = wire_u16(w);
	return high << 16 | wire_u16(w);
}

/* One label into the name; false when the name is full. */
static bool add_label(struct wire *w, struct wire_name *name, size_t n)
{
	if (n > LABEL_MAX || name->n + 1 + n + 1 > sizeof name->b)
		return false;
	name->b[name->n++] = (uint8_t)n;
	for (size_t i = 0; i < n; i++)
		name->b[name->n++] = (uint8_t)ascii_lower((char)wire_u8(w));
	return true;
}

void wire_read_name(struct wire *w, struct wire_name *name_out)
{
	size_t began = w->at, resume = 0;
	name_out->n = 0;
	while (!w->bad) {
		unsigned n = wire_u8(w);
		if ((n & POINTER_BITS) == POINTER_BITS) {
			size_t to = (n & ~POINTER_BITS) << 8 | wire_u8(w);
			resume = resume ? resume : w->at;
			w->bad |= to >= began; /* only further back each time: no circle */
			w->at = began = to;
		} else if (n == 0) {
			name_out->b[name_out->n++] = 0;
			w->at = resume ? resume : w->at;
			return;
		} else if (!add_label(w, name_out, n)) {
			w->bad = true;
		}
	}
	name_out->b[0] = 0;
	name_out->n = 1;
}

void wire_read_record(struct wire *w, struct wire_record *r_out)
{
	wire_read_name(w, &r_out->owner);
	r_out->type = wire_u16(w);
	r_out->class = wire_u16(w);
	r_out->ttl = wire_u32(w);
	size_t bytes = wire_u16(w);
	if (w->bad || bytes > w->packet.n - w->at) {
		w->bad = true;
		bytes = 0;
	}
	r_out->data = w->at;
	r_out->data_end = w->at += bytes;
	if (r_out->ttl >> 31) /* RFC 2181 §8: the top bit set is to be taken as zero */
		r_out->ttl = 0;
}

bool wire_name_eq(const struct wire_name *a, const struct wire_name *b)
{
	return a->n == b->n && memcmp(a->b, b->b, a->n) == 0;
}

static bool is_plain(char c, const char *also)
{
	return ascii_is_alnum(c) || c == '-' || c == '_' || (c != '\0' && strchr(also, c));
}

enum err wire_name_of(struct str text, struct wire_name *name_out)
{
	name_out->n = 0;
	for (struct str rest = text; rest.n > 0;) {
		bool dot = str_find(rest, '.') < rest.n;
		struct str label = str_split(rest, '.', &rest);
		if (label.n == 0 || label.n > LABEL_MAX || name_out->n + 1 + label.n + 1 > sizeof name_out->b ||
		    (dot && rest.n == 0))
			return ERR_SYNTAX;
		name_out->b[name_out->n++] = (uint8_t)label.n;
		for (size_t i = 0; i < label.n; i++) {
			if (!is_plain(label.p[i], "/"))
				return ERR_SYNTAX;
			name_out->b[name_out->n++] = (uint8_t)ascii_lower(label.p[i]);
		}
	}
	name_out->b[name_out->n++] = 0;
	return name_out->n > 1 ? ERR_NONE : ERR_SYNTAX;
}

enum err wire_name_text(const struct wire_name *name, const char *also, struct buf *b)
{
	size_t at = 0;
	while (name->b[at] != 0) {
		if (at > 0)
			buf_add_char(b, '.');
		size_t end = at + 1 + name->b[at];
		for (at++; at < end; at++) {
			if (!is_plain((char)name->b[at], also))
				return ERR_SYNTAX;
			buf_add_char(b, (char)name->b[at]);
		}
	}
	return buf_err(b);
}

void wire_put_u16(struct buf *b, uint16_t v)
{
	buf_add_char(b, (char)(v >> 8));
	buf_add_char(b, (char)(v & 0xff));
}
