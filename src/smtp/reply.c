/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: see reply.h. The text may quote other people's words; nothing of it can end a line. */
#include "smtp/reply.h"

struct row {
	uint16_t code;
	const char *enhanced, *text, *name;
};

static const struct row rows[REPLY_COUNT] = {
	[REPLY_NONE] = { 0, "", "", "" },
#define REPLY(id, code_, enhanced_, text_) [REPLY_##id] = { code_, enhanced_, text_, #id },
#include "smtp/replies.def"
#undef REPLY
};

struct reply reply_of(enum reply_id id)
{
	const struct row *r = &rows[id < REPLY_COUNT ? id : REPLY_NONE];
	return (struct reply){ r->code, str_z(r->enhanced), str_z(r->text) };
}

struct str reply_name(enum reply_id id)
{
	return str_z(rows[id < REPLY_COUNT ? id : REPLY_NONE].name);
}

/* RFC 5321 §4.2: textstring = 1*(%d09 / %d32-126). Cut at a character's boundary. */
static void add_text(struct buf *b, struct str s, size_t max)
{
	bool utf8 = str_is_utf8(s);
	if (s.n > max) {
		while (utf8 && max > 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
			max--;
		s.n = max;
	}
	if (str_is_printable_ascii(s)) {
		buf_add(b, s);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool fine = c == '\t' || (c >= 32 && c <= 126) || (c >= 0x80 && utf8);
		buf_add_char(b, fine ? (char)c : '?');
	}
}

void reply_add(struct buf *b, const struct reply *r)
{
	struct str rest = r->text;
	size_t start = b->n;
	bool last;
	do {
		struct str line = str_split(rest, '\n', &rest);
		/* room for this line and for one that ends the reply */
		last = rest.n == 0 || b->n - start + 2 * REPLY_LINE_MAX > REPLY_BYTES_MAX;
		buf_add_u64(b, r->code);
		buf_add_char(b, last ? ' ' : '-');
		size_t before = b->n;
		if (r->enhanced.n) {
			buf_add(b, r->enhanced);
			buf_add_char(b, ' ');
		}
		add_text(b, line, REPLY_LINE_MAX - 6 - (b->n - before));
		buf_add(b, STR("\r\n"));
	} while (!last);
}
