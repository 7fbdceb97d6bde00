/* SPDX-License-Identifier: Apache-2.0 */
/* Words, units and near misses of the configuration: see conf_table.h. */
#include "conf/conf_table.h"

#define NEAR_NAME_MAX 40u

static void advance(struct conf_lexer *lx)
{
	if (lx->rest.p[0] == '\n') {
		lx->line++;
		lx->column = 1;
	} else {
		lx->column++;
	}
	lx->rest = str_sub(lx->rest, 1, lx->rest.n);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blank(struct conf_lexer *lx)
{
	bool comment = false;
	while (lx->rest.n > 0 && (comment || is_blank(lx->rest.p[0]) || lx->rest.p[0] == '#')) {
		comment = lx->rest.p[0] == '\n' ? false : comment || lx->rest.p[0] == '#';
		advance(lx);
	}
}

static struct conf_token quoted(struct conf_lexer *lx, struct conf_token t)
{
	char *to = arena_alloc(lx->arena, lx->rest.n);
	size_t n = 0;
	t.kind = CONF_BAD;
	t.text = STR("a quoted text does not end");
	advance(lx);
	while (to && lx->rest.n > 0 && lx->rest.p[0] != '\n') {
		char c = lx->rest.p[0];
		advance(lx);
		if (c == '"') {
			t.kind = CONF_WORD;
			t.text = str_of(to, n);
			t.quoted = true;
			return t;
		}
		if (c == '\\' && lx->rest.n > 0 && (lx->rest.p[0] == '"' || lx->rest.p[0] == '\\')) {
			c = lx->rest.p[0];
			advance(lx);
		}
		to[n++] = c;
	}
	return t;
}

struct conf_token conf_next_token(struct conf_lexer *lx)
{
	skip_blank(lx);
	struct conf_token t = { .line = lx->line, .column = lx->column, .kind = CONF_END };
	if (lx->rest.n == 0)
		return t;
	char c = lx->rest.p[0];
	if (c == '"')
		return quoted(lx, t);
	if (c == ';' || c == '{' || c == '}') {
		t.kind = c == ';' ? CONF_SEMICOLON : c == '{' ? CONF_OPEN : CONF_CLOSE;
		advance(lx);
		return t;
	}
	struct str from = lx->rest;
	while (lx->rest.n > 0 && !is_blank(lx->rest.p[0]) && !memchr("\";{}#", lx->rest.p[0], 5))
		advance(lx);
	t.kind = CONF_WORD;
	t.text = str_sub(from, 0, from.n - lx->rest.n);
	if (str_has_control(t.text) || !str_is_utf8(t.text)) {
		t.kind = CONF_BAD;
		t.text = STR("a control character or malformed UTF-8");
	}
	return t;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static bool with_unit(struct str s, const struct unit *units, size_t n, uint64_t *out)
{
	size_t digits = 0;
	while (digits < s.n && ascii_is_digit(s.p[digits]))
		digits++;
	struct str unit = str_sub(s, digits, s.n);
	uint64_t v;
	for (size_t i = 0; i < n; i++)
		if (str_eq_nocase(unit, str_z(units[i].name)))
			return str_to_u64(str_sub(s, 0, digits), UINT64_MAX / units[i].factor, &v) == ERR_NONE &&
			       (*out = v * units[i].factor, true);
	return false;
}

bool conf_size(struct str s, uint64_t *bytes_out)
{
	static const struct unit units[] = { { "", 1 }, { "k", 1024 }, { "m", 1 << 20 }, { "g", 1 << 30 } };
	return with_unit(s, units, 4, bytes_out);
}

bool conf_time(struct str s, uint64_t *ms_out)
{
	static const struct unit units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
	return with_unit(s, units, 5, ms_out);
}

static size_t min3(size_t a, size_t b, size_t c)
{
	a = a < b ? a : b;
	return a < c ? a : c;
}

/* Levenshtein distance of two short words, by one row. */
static size_t distance(struct str a, struct str b)
{
	size_t row[NEAR_NAME_MAX + 1];
	for (size_t j = 0; j <= b.n; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			size_t up = row[j];
			row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (ascii_lower(a.p[i - 1]) != b.p[j - 1]));
			diagonal = up;
		}
	}
	return row[b.n];
}

const char *conf_nearest(struct str word, const char *const *names, size_t n)
{
	const char *best = NULL;
	size_t best_distance = word.n / 3 + 1; /* farther would puzzle more than help */
	if (word.n > NEAR_NAME_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		struct str name = str_z(names[i]);
		size_t d = name.n <= NEAR_NAME_MAX ? distance(word, name) : SIZE_MAX;
		if (d <= best_distance && (!best || d < best_distance)) {
			best = names[i];
			best_distance = d;
		}
	}
	return best;
}
