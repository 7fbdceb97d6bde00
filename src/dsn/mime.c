/* SPDX-License-Identifier: Apache-2.0 */
/* Text for header fields and MIME parts: see mime.h. Hostile input (H91, H92). */
#include "dsn/mime.h"

#define WORD_MAX	 400u /* longer ones are cut: no line comes near 998 octets */
#define ENCODED_WORD_MAX 75u  /* RFC 2047 §2 */

/* C1 controls, line separators, controls of direction: they make a text read as another one. */
static bool misleads(struct str c)
{
	static const char *const bad[] = { "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
					   "\xe2\x80\xa9", "\xe2\x80\xaa", "\xe2\x80\xab",
					   "\xe2\x80\xac", "\xe2\x80\xad", "\xe2\x80\xae",
					   "\xe2\x81\xa6", "\xe2\x81\xa7", "\xe2\x81\xa8",
					   "\xe2\x81\xa9", "\xef\xbb\xbf" };
	if (c.n == 2 && (unsigned char)c.p[0] == 0xc2 && (unsigned char)c.p[1] < 0xa0)
		return true;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (str_eq(c, str_z(bad[i])))
			return true;
	return false;
}

enum blanks { SQUEEZE_BLANKS, KEEP_BLANKS };

static void add_clean(struct buf *b, struct str s, enum mime_charset charset, size_t max,
		      enum blanks blanks)
{
	bool gap = false;
	size_t start = b->n;
	while (s.n > 0 && b->err == ERR_NONE) {
		unsigned char c = (unsigned char)s.p[0];
		size_t n = c < 0x80 ? 1 : str_utf8_first(s);
		struct str one = str_sub(s, 0, n ? n : 1);
		s = str_sub(s, one.n, s.n);
		if (c < 0x20 || c == 0x7f || (c == ' ' && blanks == SQUEEZE_BLANKS)) {
			gap = true;
			continue;
		}
		if (c >= 0x80 && (charset == MIME_ASCII || n == 0 || misleads(one)))
			one = STR("?");
		gap = gap && b->n > start; /* none at the start */
		if (b->n - start + one.n + gap > max)
			return;
		if (gap)
			buf_add_char(b, ' ');
		gap = false;
		buf_add(b, one);
	}
}

void mime_add_clean(struct buf *b, struct str s, enum mime_charset charset, size_t max)
{
	add_clean(b, s, charset, max, SQUEEZE_BLANKS);
}

void mime_add_address(struct buf *b, struct str s, enum mime_charset charset)
{
	add_clean(b, s, charset, MIME_ADDRESS_MAX, KEEP_BLANKS);
}

/* How much of a word of more than `most` bytes may stand before a cut: whole characters. */
static size_t cut_at(struct str word, size_t most)
{
	size_t n = most;
	while (n > most - 4 && ((unsigned char)word.p[n] & 0xc0) == 0x80)
		n--;
	return n;
}

/* The next word with the spaces before it. */
static struct str next_word(struct str *rest)
{
	size_t n = 0;
	while (n < rest->n && rest->p[n] == ' ')
		n++;
	while (n < rest->n && rest->p[n] != ' ')
		n++;
	if (n > WORD_MAX)
		n = cut_at(*rest, WORD_MAX);
	struct str word = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n, rest->n);
	return word;
}

void mime_add_field(struct buf *b, struct str name, struct str value)
{
	size_t column = name.n + 1;
	bool first = true;
	buf_add(b, name);
	buf_add_char(b, ':');
	for (value = str_trim(value); value.n > 0 && buf_err(b) == ERR_NONE; first = false) {
		struct str word = next_word(&value);
		bool spaced = word.p[0] == ' ';
		if (!first && column + word.n + !spaced > MIME_LINE_GOOD) {
			buf_add(b, STR("\r\n"));
			column = 0;
			if (!spaced) /* the rest of a word that was cut */
				buf_add_char(b, ' ');
		} else if (first) {
			buf_add_char(b, ' ');
		}
		buf_add(b, word);
		column += word.n + 1;
	}
	buf_add(b, STR("\r\n"));
}

/* RFC 2047 §4.2, §5 (3): what may stand for itself in the Q encoding. */
static bool is_plain_in_q(char c)
{
	return ascii_is_alnum(c) || c == '!' || c == '*' || c == '+' || c == '-' || c == '/';
}

static void add_escaped(struct buf *b, char c)
{
	static const char digits[] = "0123456789ABCDEF";
	buf_add_char(b, '=');
	buf_add_char(b, digits[(unsigned char)c >> 4]);
	buf_add_char(b, digits[(unsigned char)c & 15]);
}

/* As many whole characters as one encoded word holds. */
static void add_encoded_word(struct buf *b, struct str *rest)
{
	size_t room = ENCODED_WORD_MAX - 12, n; /* "=?utf-8?q?" and "?=" */
	buf_add(b, STR("=?utf-8?q?"));
	while (rest->n > 0) {
		n = str_utf8_first(*rest);
		n = n ? n : 1;
		bool plain = n == 1 && is_plain_in_q(rest->p[0]);
		size_t needs = plain || rest->p[0] == ' ' ? 1 : 3 * n;
		if (needs > room)
			break;
		room -= needs;
		for (size_t i = 0; i < n; i++)
			if (plain || rest->p[i] == ' ')
				buf_add_char(b, plain ? rest->p[i] : '_');
			else
				add_escaped(b, rest->p[i]);
		*rest = str_sub(*rest, n, rest->n);
	}
	buf_add(b, STR("?="));
}

void mime_add_field_encoded(struct buf *b, struct str name, struct str value)
{
	if (!str_has_8bit(value)) {
		mime_add_field(b, name, value);
		return;
	}
	buf_add(b, name);
	buf_add_char(b, ':');
	for (bool first = true; value.n > 0 && buf_err(b) == ERR_NONE; first = false) {
		buf_add(b, first ? STR(" ") : STR("\r\n "));
		add_encoded_word(b, &value);
	}
	buf_add(b, STR("\r\n"));
}

static void add_indent(struct buf *b, size_t indent)
{
	for (size_t i = 0; i < indent; i++)
		buf_add_char(b, ' ');
}

void mime_add_wrapped(struct buf *b, size_t indent, struct str s)
{
	size_t column = 0;
	for (s = str_trim(s); s.n > 0 && buf_err(b) == ERR_NONE;) {
		struct str word = str_trim(next_word(&s));
		if (column > 0 && column + 1 + word.n > MIME_LINE_GOOD) {
			buf_add(b, STR("\r\n"));
			column = 0;
		}
		if (column == 0)
			add_indent(b, indent);
		else
			buf_add_char(b, ' ');
		buf_add(b, word);
		column += word.n + (column ? 1 : indent);
	}
	buf_add(b, STR("\r\n"));
}

static bool is_crlf_at(struct str s, size_t i)
{
	return i + 1 < s.n && s.p[i] == '\r' && s.p[i + 1] == '\n';
}

void mime_add_quoted_printable(struct buf *b, struct str s)
{
	size_t column = 0;
	for (size_t i = 0; i < s.n && buf_err(b) == ERR_NONE; i++) {
		char c = s.p[i];
		if (is_crlf_at(s, i)) {
			buf_add(b, STR("\r\n"));
			column = 0;
			i++;
			continue;
		}
		/* RFC 2045 §6.7 (3): a blank must not end a line */
		bool last = i + 1 == s.n || is_crlf_at(s, i + 1);
		bool plain =
			(c >= 33 && c <= 126 && c != '=') || ((c == ' ' || c == '\t') && !last);
		if (column + (plain ? 1 : 3) > MIME_LINE_GOOD - 1) { /* (5): and its "=" */
			buf_add(b, STR("=\r\n"));
			column = 0;
		}
		if (plain)
			buf_add_char(b, c);
		else
			add_escaped(b, c);
		column += plain ? 1 : 3;
	}
	if (column > 0)
		buf_add(b, STR("\r\n"));
}

struct mime_facts mime_look(struct str s)
{
	struct mime_facts facts = { 0 };
	size_t line = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (is_crlf_at(s, i)) {
			line = 0;
			i++;
			continue;
		}
		facts.eight_bit |= (unsigned char)s.p[i] >= 0x80;
		if (++line > MIME_LINE_MAX || s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
			facts.bad = true;
	}
	return facts;
}
