/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message bytes: see data.h. Speed matters: the bytes between two line ends are only looked at by
 * memchr() and by loops that the compiler makes wide.
 *
 *	LINE_START --"."--> DOT --CR--> DOT_CR --LF--> ended
 *	    ^  \              \            \
 *	    |   any            any          other: bare
 *	   LF     \              \            \
 *	    |      v              v            v
 *	   CR <--CR-- INSIDE <-----------------
 */
#include "smtp/data.h"

enum state { LINE_START, INSIDE, CR, DOT, DOT_CR };

struct data_reader data_reader_make(enum data_framing framing)
{
	return (struct data_reader){ .framing = (uint8_t)framing, .state = LINE_START };
}

static bool any_8bit(struct str s)
{
	uint64_t seen = 0;
	size_t i = 0;
	for (; i + 8 <= s.n; i += 8) {
		uint64_t word;
		memcpy(&word, s.p + i, 8);
		seen |= word;
	}
	for (; i < s.n; i++)
		seen |= (unsigned char)s.p[i];
	return (seen & UINT64_C(0x8080808080808080)) != 0;
}

static void note_content(struct data_reader *r, struct str s)
{
	if (s.n == 0)
		return;
	r->has_8bit = r->has_8bit || any_8bit(s);
	if (r->framing != DATA_BINARY && !r->nul)
		r->nul = memchr(s.p, 0, s.n) != NULL;
}

/* After a CR at in.p[i-1], or at the end of the last input. Returns how many bytes were eaten. */
static size_t after_cr(struct data_reader *r, char c)
{
	if (c == '\n') {
		r->state = LINE_START;
		r->line_bytes = 0;
		return 1;
	}
	r->bare = true;
	r->state = INSIDE;
	return 0;
}

/* From somewhere inside a line up to and including its CR, or to the end of the input. */
static size_t inside(struct data_reader *r, struct str in)
{
	size_t cr = str_find(in, '\r');
	struct str line = str_sub(in, 0, cr);
	if (str_find(line, '\n') < line.n)
		r->bare = true;
	r->line_bytes += cr;
	if (r->line_bytes > DATA_LINE_MAX)
		r->long_line = true;
	if (cr == in.n)
		return cr;
	r->state = CR;
	return cr + 1;
}

/* Lines of in from i on, as long as they are content without a break. */
static size_t run(struct data_reader *r, struct str in)
{
	size_t i = 0;
	while (i < in.n) {
		if (r->state == CR) {
			i += after_cr(r, in.p[i]);
			continue;
		}
		if (r->state == LINE_START) {
			if (r->framing == DATA_DOTS && in.p[i] == '.')
				break;
			r->state = INSIDE;
		}
		i += inside(r, str_sub(in, i, in.n));
	}
	return i;
}

/* At a dot that begins a line: which of its meanings it has. Returns bytes that are no content. */
static size_t after_dot(struct data_reader *r, struct str in)
{
	size_t i = 0;
	if (r->state == LINE_START) {
		r->state = DOT;
		i++;
	}
	if (i < in.n && r->state == DOT) {
		if (in.p[i] != '\r') { /* RFC 5321 §4.5.2: the dot was added by the client */
			r->state = INSIDE;
			return i;
		}
		r->state = DOT_CR;
		i++;
	}
	if (i < in.n && r->state == DOT_CR) {
		if (in.p[i] == '\n') {
			r->ended = true; /* D1 */
			return i + 1;
		}
		r->bare = true;
		r->state = CR; /* the CR was content; after_cr() sees what follows it */
	}
	return i;
}

struct str data_next(struct data_reader *r, struct str in, size_t *used_out)
{
	size_t skipped = 0;
	*used_out = 0;
	if (r->ended || in.n == 0)
		return str_of("", 0);
	if (r->framing == DATA_BINARY) {
		note_content(r, in);
		*used_out = in.n;
		return in;
	}
	if (r->state == DOT || r->state == DOT_CR ||
	    (r->framing == DATA_DOTS && r->state == LINE_START && in.p[0] == '.'))
		skipped = after_dot(r, in);
	struct str piece = str_sub(in, skipped, in.n);
	if (r->ended || r->state == DOT || r->state == DOT_CR)
		piece.n = 0;
	piece.n = run(r, piece);
	note_content(r, piece);
	*used_out = skipped + piece.n;
	return piece;
}

void data_finish(struct data_reader *r)
{
	if (r->framing != DATA_BINARY && !r->ended && (r->state == CR || r->state == DOT_CR))
		r->bare = true;
}
