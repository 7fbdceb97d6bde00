/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parsers and printers of this layer over any bytes, checked against their own properties
 * rather than for crashes alone.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/clockfmt.h"
#include "base/cursor.h"
#include "base/ip.h"

static void fuzz_cursor(struct str s)
{
	struct cursor c = cursor_of(s);

	while (!c.err && cursor_left(&c) > 0) {
		size_t before = cursor_left(&c);
		struct str piece = STR_NONE;

		switch (cursor_u8(&c) % 6) {
		case 0:
			cursor_u16(&c);
			break;
		case 1:
			cursor_u32(&c);
			break;
		case 2:
			cursor_u64(&c);
			break;
		case 3:
			piece = cursor_str(&c, 100);
			ASSERT(piece.n <= 100);
			break;
		case 4:
			piece = cursor_bytes(&c, cursor_u8(&c));
			break;
		default:
			break;
		}
		ASSERT(piece.n == 0 || (piece.p >= s.p && piece.p + piece.n <= s.p + s.n));
		ASSERT(cursor_left(&c) < before);
	}
	ASSERT(cursor_end(&c) != ERR_NONE || c.p == s.p + s.n);
}

static void fuzz_text(struct str s, struct buf *b)
{
	uint64_t v;
	size_t chars = 0;

	if (str_is_utf8(s)) {
		for (struct str rest = s; rest.n > 0; chars++) {
			size_t n = str_utf8_first(rest);

			ASSERT(n >= 1 && n <= 4);
			rest = str_sub(rest, n, rest.n);
		}
		ASSERT(chars <= s.n);
	}
	ASSERT(!str_is_printable_ascii(s) || (!str_has_8bit(s) && !str_has_control(s)));
	if (str_to_u64(s, UINT64_MAX, &v) == ERR_NONE) {
		buf_clear(b);
		buf_add_u64(b, v);
		ASSERT(b->n <= s.n && str_ends(s, buf_str(b))); /* less leading zeros */
	}
	buf_clear(b);
	buf_add_safe(b, s, s.n);
	ASSERT(str_is_printable_ascii(buf_str(b)));
	ASSERT(buf_err(b) || (b->n >= s.n && b->n <= 4 * s.n));
}

static void fuzz_id(struct str s, struct buf *b)
{
	uint64_t id;

	if (msg_id_parse(s, &id))
		return;
	buf_clear(b);
	msg_id_add(b, id);
	ASSERT(str_eq_nocase(buf_str(b), s));
}

static void fuzz_ip(struct str s, struct buf *b)
{
	struct ip ip, again;

	if (ip_parse(s, &ip) == ERR_NONE) {
		buf_clear(b);
		ip_add(b, &ip);
		ASSERT(ip_parse(buf_str(b), &again) == ERR_NONE && ip_eq(&ip, &again));
	}
	if (ip_parse_port(s, &ip) == ERR_NONE) {
		buf_clear(b);
		ip_add_port(b, &ip);
		ASSERT(ip_parse_port(buf_str(b), &again) == ERR_NONE && ip_eq(&ip, &again));
	}
	if (ip_parse_prefix(s, &ip) == ERR_NONE)
		ASSERT(ip_in(&ip, &ip) && ip.bits <= 128);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new(1 << 20);
	struct arena a = arena_make(mem, 1 << 16);
	struct buf b = buf_grow(mem, 1 << 12); /* small: the sticky error is part of it */
	struct str s = str_of((const char *)data, size);

	if (!mem)
		return 0;
	fuzz_cursor(s);
	fuzz_text(s, &b);
	fuzz_id(s, &b);
	fuzz_ip(s, &b);
	const char *z = arena_z(&a, s);
	ASSERT(!z || strlen(z) == s.n);
	buf_free(&b);
	arena_close(&a);
	ASSERT(mem_blocks(mem) == 0);
	mem_destroy(mem);
	return 0;
}
