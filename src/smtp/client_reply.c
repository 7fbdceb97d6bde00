/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of servers: see client_reply.h. Runs in relay. */
#include "smtp/client_reply.h"

#define CODE_DIGITS 3u

static bool digits(struct str s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (!ascii_is_digit(s.p[i]))
			return false;
	return true;
}

/* How many digits stand at i: 1 to 3, or 0 for none or more. */
static size_t number_at(struct str s, size_t i)
{
	size_t n = 0;
	while (i + n < s.n && ascii_is_digit(s.p[i + n]))
		n++;
	return n <= 3 ? n : 0;
}

size_t enhanced_code_length(struct str s)
{
	size_t subject, detail;
	if (s.n < 5 || (s.p[0] != '2' && s.p[0] != '4' && s.p[0] != '5') || s.p[1] != '.')
		return 0;
	subject = number_at(s, 2);
	if (subject == 0 || 2 + subject >= s.n || s.p[2 + subject] != '.')
		return 0;
	detail = number_at(s, 3 + subject);
	size_t n = 3 + subject + detail;
	return detail > 0 && (n == s.n || s.p[n] == ' ') ? n : 0;
}

/* RFC 5321 §4.2: %x32-35 %x30-35 %x30-39. 0: it is none. */
static uint16_t code_of(struct str line)
{
	if (line.n < CODE_DIGITS || !digits(line, 0, CODE_DIGITS))
		return 0;
	if (line.p[0] < '2' || line.p[0] > '5' || line.p[1] > '5')
		return 0;
	return (uint16_t)((line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0'));
}

/* A character for people: printable ASCII, or UTF-8 beyond the C1 controls. */
static bool is_plain(struct str character)
{
	unsigned char c = (unsigned char)character.p[0];
	if (character.n == 1)
		return c >= 0x20 && c <= 0x7e;
	return !(c == 0xc2 && (unsigned char)character.p[1] < 0xa0);
}

static void add_text(struct client_reply *r, struct str s)
{
	while (s.n > 0) {
		size_t n = str_utf8_first(s);
		struct str character = str_sub(s, 0, n ? n : 1);
		s = str_sub(s, character.n, s.n);
		if (n == 0 || !is_plain(character))
			character = STR("?");
		if (r->text_n + character.n > CLIENT_REPLY_TEXT_MAX)
			return;
		memcpy(r->text + r->text_n, character.p, character.n);
		r->text_n = (uint16_t)(r->text_n + character.n);
	}
}

/* The enhanced code of the first line counts; RFC 2034 §4 has it on each, which people need only once. */
static void note_line(struct client_reply *r, struct str text)
{
	size_t n = enhanced_code_length(text);
	if (n > 0 && text.p[0] - '0' == r->code / 100) {
		if (r->lines == 1) {
			memcpy(r->enhanced, text.p, n);
			r->enhanced_n = (uint8_t)n;
		}
		text = str_sub(text, n, text.n);
	}
	text = str_trim(text);
	if (r->text_n > 0 && text.n > 0)
		add_text(r, STR(" "));
	add_text(r, text);
}

/*
 * A line without its end. RFC 5321 §4.2.1: "-" or a blank behind the code, which the last line need not
 * have when there is no text.
 */
static enum client_reply_result take_line(struct client_reply *r, struct str line, struct str *text_out)
{
	uint16_t code = code_of(line);
	char mark = line.n > CODE_DIGITS ? line.p[CODE_DIGITS] : ' ';
	if (code == 0 || (mark != ' ' && mark != '-') || memchr(line.p, 0, line.n))
		return CLIENT_REPLY_BAD;
	if (r->code != 0 && r->code != code) /* §4.2.1: "the reply code … on each line MUST be the same" */
		return CLIENT_REPLY_BAD;
	r->code = code;
	r->lines++;
	*text_out = str_sub(line, CODE_DIGITS + 1, line.n);
	note_line(r, *text_out);
	if (mark == ' ')
		return CLIENT_REPLY_LAST;
	return r->lines < CLIENT_REPLY_LINES_MAX ? CLIENT_REPLY_LINE : CLIENT_REPLY_BAD;
}

enum client_reply_result client_reply_next(struct client_reply *r, struct str in, struct str *line_out,
					   size_t *used_out)
{
	struct str window = str_sub(in, 0, CLIENT_REPLY_LINE_MAX);
	size_t lf = str_find(window, '\n');
	*used_out = 0;
	*line_out = STR_NONE;
	if (lf == window.n)
		return in.n >= CLIENT_REPLY_LINE_MAX ? CLIENT_REPLY_BAD : CLIENT_REPLY_NEED_MORE;
	r->bytes += (uint32_t)lf + 1;
	if (r->bytes > CLIENT_REPLY_BYTES_MAX)
		return CLIENT_REPLY_BAD;
	*used_out = lf + 1;
	/* Servers that end lines with LF alone exist; for a reply that is harmless. */
	struct str line = str_sub(in, 0, lf > 0 && in.p[lf - 1] == '\r' ? lf - 1 : lf);
	return take_line(r, line, line_out);
}
