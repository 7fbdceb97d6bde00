/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of message bytes against the obvious, slow one, in one piece and cut at the places
 * that the first bytes of the input choose (invariants D1–D3, H2–H5).
 */
#include "smtp/data.h"

#include <stdlib.h>

struct result {
	char *content;
	size_t n, used;
	bool ended, bare, nul, has_8bit;
};

static bool is_crlf(struct str s, size_t i)
{
	return i + 1 < s.n && s.p[i] == '\r' && s.p[i + 1] == '\n';
}

/* RFC 5321 read literally, a byte at a time. */
static void slow(struct str s, enum data_framing framing, struct result *r)
{
	bool start = true;
	size_t i = 0;
	while (i < s.n) {
		char c = s.p[i];
		if (framing == DATA_DOTS && start && c == '.') {
			if (is_crlf(s, i + 1)) {
				r->ended = true;
				r->used = i + 3;
				return;
			}
			start = false;
			i++;
			continue;
		}
		if (is_crlf(s, i)) {
			r->content[r->n++] = '\r';
			r->content[r->n++] = '\n';
			start = true;
			i += 2;
			continue;
		}
		if (framing != DATA_BINARY && (c == '\r' || c == '\n'))
			r->bare = true;
		if (framing != DATA_BINARY && c == '\0')
			r->nul = true;
		r->has_8bit |= (unsigned char)c >= 0x80;
		r->content[r->n++] = c;
		start = false;
		i++;
	}
	r->used = i;
}

static void fast(struct str s, enum data_framing framing, const uint8_t *cuts, size_t cuts_n,
		 struct result *r)
{
	struct data_reader d = data_reader_make(framing);
	size_t at = 0, k = 0;
	while (at < s.n && !d.ended) {
		size_t n = cuts_n ? cuts[k++ % cuts_n] + 1u : s.n;
		struct str in = str_sub(s, at, at + n);
		while (in.n > 0 && !d.ended) {
			size_t used;
			struct str piece = data_next(&d, in, &used);
			ASSERT(used > 0 && used <= in.n && piece.n <= used);
			if (piece.n)
				memcpy(r->content + r->n, piece.p, piece.n);
			r->n += piece.n;
			at += used;
			in = str_sub(in, used, in.n);
		}
	}
	data_finish(&d);
	r->used = at;
	r->ended = d.ended;
	r->bare = d.bare;
	r->nul = d.nul;
	r->has_8bit = d.has_8bit;
}

static void compare(const struct result *a, const struct result *b, struct str s)
{
	ASSERT(a->ended == b->ended && a->bare == b->bare);
	ASSERT(a->used == b->used);
	if (a->bare)
		return; /* refused: D2 holds for what is kept */
	/* what hangs in a dot at the end of an unfinished message is no content yet */
	bool hanging = !a->ended && s.n >= 1 && (s.p[s.n - 1] == '.' || s.p[s.n - 1] == '\r');
	ASSERT(hanging || (a->n == b->n && a->nul == b->nul && a->has_8bit == b->has_8bit));
	size_t n = a->n < b->n ? a->n : b->n;
	ASSERT(memcmp(a->content, b->content, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 5)
		return 0;
	enum data_framing framing = (enum data_framing)(data[0] % 3);
	struct str s = str_of((const char *)data + 5, size - 5);
	struct result r[3] = { 0 };
	for (size_t i = 0; i < 3; i++) {
		r[i].content = malloc(s.n + 1);
		if (!r[i].content)
			abort();
	}
	slow(s, framing, &r[0]);
	fast(s, framing, NULL, 0, &r[1]);
	fast(s, framing, data + 1, 4, &r[2]);
	compare(&r[0], &r[1], s);
	compare(&r[0], &r[2], s);
	for (size_t i = 0; i < 3; i++)
		free(r[i].content);
	return 0;
}
