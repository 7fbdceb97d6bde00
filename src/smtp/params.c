/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of MAIL and RCPT: see params.h. */
#include "smtp/params.h"

/* RFC 5321 §4.1.2: esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-") */
static bool is_keyword(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && (s.p[i] != '-' || i == 0))
			return false;
	return s.n > 0;
}

/* esmtp-value = 1*(%d33-60 / %d62-126); RFC 6531 §3.3: and UTF8-non-ascii. */
static bool is_value(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] == '=' || (unsigned char)s.p[i] <= 32 || s.p[i] == 127)
			return false;
	return s.n > 0 && (!str_has_8bit(s) || str_is_utf8(s));
}

static bool has(const struct params *ps, struct str keyword)
{
	for (size_t i = 0; i < ps->n; i++)
		if (str_eq_nocase(ps->v[i].keyword, keyword))
			return true;
	return false;
}

enum err params_parse(struct str s, struct params *params_out)
{
	params_out->n = 0;
	if (s.n > 0 && s.p[0] != ' ')
		return ERR_SYNTAX;
	for (s = str_trim(s); s.n > 0;) {
		struct param p;
		struct str word = str_split(s, ' ', &s);
		if (word.n == 0) /* RFC 5321 §4.1.1: more than one blank is tolerated */
			continue;
		p.has_value = str_find(word, '=') < word.n;
		p.keyword = str_split(word, '=', &p.value);
		if (!is_keyword(p.keyword) || (p.has_value && !is_value(p.value)))
			return ERR_SYNTAX;
		if (params_out->n == PARAMS_MAX || has(params_out, p.keyword))
			return ERR_SYNTAX; /* H34: of two, which one would count? */
		params_out->v[params_out->n++] = p;
	}
	return ERR_NONE;
}

/* RFC 3461 §4: hexchar = "+" two upper-case digits. */
static int hex_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum err xtext_decode(struct str x, struct buf *b)
{
	for (size_t i = 0; i < x.n; i++) {
		char c = x.p[i];
		if (c == '+') {
			int high = x.n - i > 2 ? hex_value(x.p[i + 1]) : -1;
			int low = x.n - i > 2 ? hex_value(x.p[i + 2]) : -1;
			if (high < 0 || low < 0)
				return ERR_SYNTAX;
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c < 33 || c > 126 || c == '=') {
			return ERR_SYNTAX;
		}
		buf_add_char(b, c);
	}
	return buf_err(b);
}
