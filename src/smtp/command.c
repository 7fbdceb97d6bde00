/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: see command.h. */
#include "smtp/command.h"

static const struct str verb_names[VERB_COUNT] = {
	{ "", 0 },     { "EHLO", 4 }, { "HELO", 4 }, { "MAIL", 4 },	{ "RCPT", 4 },
	{ "DATA", 4 }, { "BDAT", 4 }, { "RSET", 4 }, { "NOOP", 4 },	{ "QUIT", 4 },
	{ "VRFY", 4 }, { "EXPN", 4 }, { "HELP", 4 }, { "STARTTLS", 8 }, { "AUTH", 4 },
	{ "ETRN", 4 }, { "ATRN", 4 }, { "TURN", 4 },
};

/* Drops the rest of a line that was too long. */
static enum line_result discard(struct line_reader *r, struct str in, size_t *used_out)
{
	size_t lf = str_find(in, '\n');
	*used_out = lf < in.n ? lf + 1 : in.n;
	r->discarding = lf == in.n;
	r->discarded += (uint32_t)*used_out;
	if (r->discarded > COMMAND_DISCARD_MAX)
		return LINE_ENDLESS;
	if (!r->discarding)
		r->discarded = 0;
	return LINE_NEED_MORE;
}

enum line_result line_next(struct line_reader *r, struct str in, struct str *line_out,
			   size_t *used_out)
{
	*line_out = str_of("", 0);
	*used_out = 0;
	if (r->discarding) {
		enum line_result result = discard(r, in, used_out);
		if (result == LINE_ENDLESS || r->discarding || *used_out == in.n)
			return result;
		in = str_sub(in, *used_out, in.n);
	}
	size_t most = str_starts_nocase(in, STR("AUTH ")) ? COMMAND_AUTH_LINE_MAX : COMMAND_LINE_MAX;
	size_t lf = str_find(str_sub(in, 0, most), '\n');
	if (lf == most) { /* RFC 5321 §4.5.3.1.10: 500 Line too long */
		size_t dropped = 0;
		r->discarding = true;
		r->discarded = 0;
		enum line_result result = discard(r, in, &dropped);
		*used_out += dropped;
		return result == LINE_ENDLESS ? result : LINE_TOO_LONG;
	}
	if (lf == in.n)
		return LINE_NEED_MORE;
	*used_out += lf + 1;
	bool crlf = lf > 0 && in.p[lf - 1] == '\r';
	struct str line = str_sub(in, 0, crlf ? lf - 1 : lf);
	bool tail = r->tail;
	r->tail = !crlf;
	/* RFC 5321 §2.3.8: "MUST NOT recognize or generate any other character" than CRLF as an
	 * end. */
	if (!crlf || tail || str_find(line, '\r') < line.n || str_find(line, '\0') < line.n)
		return LINE_BAD;
	*line_out = line;
	return LINE_WHOLE;
}

struct command command_parse(struct str line)
{
	struct str args, word = str_split(line, ' ', &args);
	struct command c = { VERB_UNKNOWN, str_trim(args) };
	/* RFC 5321 §2.4: "Verbs … are not case sensitive"; §4.1.1: trailing blanks are tolerated */
	for (unsigned v = VERB_UNKNOWN + 1; v < VERB_COUNT; v++)
		if (str_eq_nocase(word, verb_names[v]))
			c.verb = (enum verb)v;
	return c;
}

struct str verb_name(enum verb v)
{
	return verb_names[v < VERB_COUNT ? v : VERB_UNKNOWN];
}

bool command_is_foreign(struct str s)
{
	static const struct str openings[] = {
		{ "GET ", 4 },	   { "POST ", 5 },    { "PUT ", 4 },	{ "HEAD ", 5 },
		{ "OPTIONS ", 8 }, { "CONNECT ", 8 }, { "DELETE ", 7 }, { "TRACE ", 6 },
		{ "PATCH ", 6 },   { "PRI ", 4 },     { "SSH-", 4 },	{ "\x16\x03", 2 },
	};
	for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++)
		if (str_starts(s, openings[i]))
			return true;
	return false;
}
