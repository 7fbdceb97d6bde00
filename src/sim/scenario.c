/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of scenario files: see scenario.h and docs/scenarios.md. */
#include "sim/scenario.h"

struct parser {
	struct str rest;
	unsigned line;
	struct arena *arena;
	struct str file;
	struct str error;
};

static enum err wrong(struct parser *p, unsigned line, const char *text)
{
	p->error = arena_strf(p->arena, "%.*s:%u: %s", STR_ARG(p->file), line, text);
	return ERR_SYNTAX;
}

bool word_is(const struct statement *st, size_t i, const char *word)
{
	return i < st->n && !st->quoted[i] && str_eq(st->words[i], str_z(word));
}

enum err scenario_time(struct str word, int64_t *ns_out)
{
	static const struct {
		const char *unit;
		int64_t ns;
	} units[] = { { "ms", 1000000 },	      { "s", 1000000000 },
		      { "min", INT64_C(60000000000) }, { "h", INT64_C(3600000000000) },
		      { "d", INT64_C(86400000000000) } };
	size_t digits = 0;
	uint64_t n;
	while (digits < word.n && ascii_is_digit(word.p[digits]))
		digits++;
	TRY(str_to_u64(str_sub(word, 0, digits), 100000, &n));
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (str_eq(str_sub(word, digits, word.n), str_z(units[i].unit))) {
			*ns_out = (int64_t)n * units[i].ns;
			return ERR_NONE;
		}
	return ERR_SYNTAX;
}

enum err scenario_size(struct str word, uint64_t *bytes_out)
{
	unsigned shift = str_ends(word, STR("K")) ? 10 : str_ends(word, STR("M")) ? 20 : 0;
	TRY(str_to_u64(str_sub(word, 0, word.n - (shift ? 1 : 0)), UINT64_C(1) << 40, bytes_out));
	*bytes_out <<= shift;
	return ERR_NONE;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static struct str next_line(struct parser *p)
{
	struct str line = str_split(p->rest, '\n', &p->rest);
	p->line++;
	return line;
}

static int hex_value(char c)
{
	c = ascii_lower(c);
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The escape at s.p[*at], behind its backslash. */
static int escape(struct str s, size_t *at)
{
	char c = s.p[(*at)++];
	switch (c) {
	case 'r': return '\r';
	case 'n': return '\n';
	case 't': return '\t';
	case '"':
	case '\\': return c;
	case 'x':
		if (*at + 2 <= s.n && hex_value(s.p[*at]) >= 0 && hex_value(s.p[*at + 1]) >= 0) {
			*at += 2;
			return hex_value(s.p[*at - 2]) * 16 + hex_value(s.p[*at - 1]);
		}
		return -1;
	default: return -1;
	}
}

/* s begins behind the opening quote; *used_out counts the closing one. */
static enum err read_string(struct parser *p, struct str s, struct str *out, size_t *used_out)
{
	char *to = arena_alloc(p->arena, s.n + 1);
	size_t at = 0, n = 0;
	if (!to)
		return arena_err(p->arena);
	while (at < s.n && s.p[at] != '"') {
		int c = (unsigned char)s.p[at++];
		if (c == '\\' && at < s.n)
			c = escape(s, &at);
		if (c < 0)
			return wrong(p, p->line, "an escape in a string is one of \\r \\n \\t \\\\ \\\" \\xHH");
		to[n++] = (char)c;
	}
	if (at == s.n)
		return wrong(p, p->line, "a string has no end");
	*out = str_of(to, n);
	*used_out = at + 1;
	return ERR_NONE;
}

static enum err add_word(struct parser *p, struct statement *st, struct str word, bool quoted)
{
	if (st->n == SCENARIO_WORDS_MAX)
		return wrong(p, p->line, "too many words");
	st->words[st->n] = word;
	st->quoted[st->n++] = quoted;
	return ERR_NONE;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Words of one statement; *line_io goes on behind its ';'. */
static enum err read_words(struct parser *p, struct str *line_io, struct statement *st)
{
	struct str s = *line_io;
	while (s.n > 0 && s.p[0] != ';' && s.p[0] != '#') {
		size_t n = 1;
		if (is_blank(s.p[0])) {
			s = str_sub(s, 1, s.n);
			continue;
		}
		if (s.p[0] == '"') {
			struct str text = STR_NONE;
			TRY(read_string(p, str_sub(s, 1, s.n), &text, &n));
			TRY(add_word(p, st, text, true));
			s = str_sub(s, n + 1, s.n);
			continue;
		}
		while (n < s.n && !is_blank(s.p[n]) && s.p[n] != ';')
			n++;
		TRY(add_word(p, st, str_sub(s, 0, n), false));
		s = str_sub(s, n, s.n);
	}
	*line_io = s.n > 0 && s.p[0] == ';' ? str_sub(s, 1, s.n) : STR("");
	return ERR_NONE;
}

/* ---- blocks ---------------------------------------------------------------------------------------- */

/* Everything up to the brace that closes the block. */
static enum err read_config(struct parser *p, struct statement *st)
{
	const char *from = p->rest.p;
	int depth = 1;
	while (p->rest.n > 0) {
		const char *line_at = p->rest.p;
		struct str line = next_line(p);
		for (size_t i = 0; i < line.n && line.p[i] != '#'; i++)
			depth += line.p[i] == '{' ? 1 : line.p[i] == '}' ? -1 : 0;
		if (depth == 0) {
			st->text = str_of(from, (size_t)(line_at - from));
			return ERR_NONE;
		}
	}
	return wrong(p, st->line, "this block has no end");
}

static size_t tabs(struct str line)
{
	size_t n = 0;
	while (n < line.n && line.p[n] == '\t')
		n++;
	return n;
}

/* Lines with one tab more than the statement; CRLF line ends. */
static enum err read_message(struct parser *p, struct statement *st, size_t indent)
{
	struct buf b = buf_fixed(arena_alloc(p->arena, p->rest.n * 2 + 1), p->rest.n * 2 + 1);
	while (p->rest.n > 0) {
		struct str line = next_line(p);
		if (tabs(line) == indent && str_eq(str_trim(line), STR("}"))) {
			st->text = buf_str(&b);
			return buf_err(&b);
		}
		size_t cut = tabs(line) < indent + 1 ? tabs(line) : indent + 1;
		buf_add(&b, str_sub(line, cut, line.n));
		buf_add(&b, STR("\r\n"));
	}
	return wrong(p, st->line, "this block has no end");
}

static enum err read_statements(struct parser *p, struct statement **first_out, bool nested);

static enum err read_block(struct parser *p, struct statement *st, size_t indent)
{
	st->n--; /* the brace */
	if (word_is(st, 0, "config"))
		return read_config(p, st);
	if (word_is(st, 0, "message"))
		return read_message(p, st, indent);
	return read_statements(p, &st->inside, true);
}

/* Depth is two: client { message { … } }. */
static enum err read_statements(struct parser *p, struct statement **first_out, bool nested)
{
	struct statement **tail = first_out;
	unsigned opened = p->line;
	while (p->rest.n > 0) {
		struct str line = next_line(p);
		size_t indent = tabs(line);
		while (line.n > 0) {
			struct statement *st = ARENA_NEW(p->arena, struct statement);
			if (!st)
				return arena_err(p->arena);
			st->line = p->line;
			TRY(read_words(p, &line, st));
			if (st->n == 0)
				continue;
			if (st->n == 1 && word_is(st, 0, "}"))
				return nested ? ERR_NONE : wrong(p, p->line, "nothing is open here");
			if (word_is(st, st->n - 1, "{"))
				TRY(read_block(p, st, indent));
			*tail = st;
			tail = &st->next;
		}
	}
	return nested ? wrong(p, opened, "this block has no end") : ERR_NONE;
}

enum err scenario_parse(struct str path, struct str text, struct arena *arena, struct scenario *sc_out,
			struct str *error_out)
{
	struct parser p = { .rest = text, .arena = arena, .file = path };
	size_t slash = str_rfind(path, '/');
	*sc_out = (struct scenario){ 0 };
	sc_out->dir = slash < path.n ? str_sub(path, 0, slash) : STR(".");
	sc_out->name = slash < path.n ? str_sub(path, slash + 1, path.n) : path;
	if (str_ends(sc_out->name, STR(".scn")))
		sc_out->name.n -= 4;
	enum err e = read_statements(&p, &sc_out->first, false);
	*error_out = e == ERR_NONE ? STR("") : p.error.n ? p.error : STR("no memory");
	return e;
}
