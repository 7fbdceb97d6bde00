/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a notification back, for tests: what dsn.h promises (N1 to N4), MIME structure, fields. It
 * shares no code with what composes them.
 */
#ifndef DSN_DSN_CHECK_H
#define DSN_DSN_CHECK_H

#include "dsn/dsn.h"

struct check_part {
	struct str header, body; /* body decoded */
};
struct check {
	struct str header;
	struct check_part parts[3];
	char *room; /* decoded bodies */
	size_t used;
};

static struct str check_line(struct str *rest)
{
	size_t n = str_find_str(*rest, STR("\r\n"));
	struct str line = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n + 2, rest->n);
	return line;
}

/* The unfolded value of a field, from `header` alone; .p NULL when it is not there. */
static struct str check_field(struct str header, const char *name, char *room, size_t size)
{
	struct str wanted = str_z(name);
	size_t n = 0;
	bool in = false, found = false;
	while (header.n > 0) {
		struct str line = check_line(&header);
		if (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t')) {
			if (!in)
				continue;
		} else {
			in = !found && str_starts_nocase(line, wanted) && line.n > wanted.n &&
			     line.p[wanted.n] == ':';
			if (!in)
				continue;
			found = true;
			line = str_trim(str_sub(line, wanted.n + 1, line.n));
		}
		if (line.n > 0 && n + line.n <= size) {
			memcpy(room + n, line.p, line.n);
			n += line.n;
		}
	}
	return found ? str_of(room, n) : STR_NONE;
}

static bool check_is_header(struct str header)
{
	for (bool first = true; header.n > 0; first = false) {
		struct str line = check_line(&header);
		size_t colon = str_find(line, ':'), blanks = 0;
		bool folded = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');
		while (blanks < line.n && (line.p[blanks] == ' ' || line.p[blanks] == '\t'))
			blanks++;
		if (blanks == line.n || (folded && first))
			return false; /* empty, or nothing but blanks */
		for (size_t i = 0; !folded && i < colon; i++)
			if (!ascii_is_alnum(line.p[i]) && line.p[i] != '-')
				return false;
		if (!folded && (colon == 0 || colon == line.n))
			return false;
	}
	return true;
}

static int check_hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *check_decode(struct check *c, struct str s, struct str *out)
{
	char *start = c->room + c->used;
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] >= 0x80)
			return "8bit in quoted-printable";
		if (s.p[i] != '=') {
			start[n++] = s.p[i];
		} else if (i + 2 < s.n && s.p[i + 1] == '\r' && s.p[i + 2] == '\n') {
			i += 2;
		} else {
			if (i + 2 >= s.n || check_hex(s.p[i + 1]) < 0 || check_hex(s.p[i + 2]) < 0)
				return "a bad = in quoted-printable";
			start[n++] = (char)(check_hex(s.p[i + 1]) << 4 | check_hex(s.p[i + 2]));
			i += 2;
		}
	}
	c->used += n;
	*out = str_of(start, n);
	return NULL;
}

static const char *check_lines(struct str s)
{
	size_t line = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n') {
			line = 0;
			i++;
		} else if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0') {
			return "N1: a bare CR or LF, or a NUL";
		} else if (++line > 998) {
			return "N1: a line is too long";
		}
	}
	return line == 0 ? NULL : "N1: no CRLF at the end";
}

static const char *check_part(struct check *c, struct str raw, struct check_part *part)
{
	char room[100];
	size_t end = str_find_str(raw, STR("\r\n\r\n"));
	if (end == raw.n)
		return "a part without an empty line";
	part->header = str_sub(raw, 0, end + 2);
	part->body = str_sub(raw, end + 4, raw.n);
	if (!check_is_header(part->header))
		return "N3: a part's header";
	struct str cte = check_field(part->header, "Content-Transfer-Encoding", room, sizeof room);
	if (str_eq(cte, STR("quoted-printable")))
		return check_decode(c, part->body, &part->body);
	if (!str_eq(cte, STR("8bit")) && str_has_8bit(part->body))
		return "N4: 8bit in a 7bit part";
	return NULL;
}

static const char *check_parts(struct check *c, struct str body, struct str boundary)
{
	char delimiter[100];
	struct buf d = buf_fixed(delimiter, sizeof delimiter);
	buf_add(&d, STR("\r\n--"));
	buf_add(&d, boundary);
	size_t at = str_find_str(body, buf_str(&d));
	if (at != 0)
		return "N2: no delimiter right behind the header";
	for (size_t i = 0; i < 3; i++) {
		body = str_sub(body, d.n + 2, body.n);
		at = str_find_str(body, buf_str(&d));
		if (at == body.n)
			return "N2: too few parts";
		const char *wrong = check_part(c, str_sub(body, 0, at), &c->parts[i]);
		if (wrong)
			return wrong;
		body = str_sub(body, at, body.n);
	}
	return str_eq(str_sub(body, d.n, body.n), STR("--\r\n")) ? NULL
								 : "N2: more than three parts";
}

/* What is wrong with it, or NULL. The room is for decoded parts: as many bytes as the message. */
static const char *check_dsn(struct check *c, struct str s, const struct dsn_info *info, char *room)
{
	char value[300];
	size_t end = str_find_str(s, STR("\r\n\r\n"));
	*c = (struct check){ .header = str_sub(s, 0, end + 2), .room = room };
	const char *wrong = check_lines(s);
	if (wrong)
		return wrong;
	if (!check_is_header(c->header))
		return "N3: the header";
	if (str_has_8bit(c->header) && !info->smtputf8)
		return "N4: 8bit in the header";
	if (str_has_8bit(s) && info->body != BODY_KIND_EIGHT_BIT_MIME)
		return "N4: 8bit, and not said";
	struct str type = check_field(c->header, "Content-Type", value, sizeof value);
	size_t at = str_find_str(type, STR("boundary=\""));
	if (!str_starts(type, STR("multipart/report; report-type=delivery-status;")) ||
	    at == type.n)
		return "the content type";
	struct str boundary = str_sub(type, at + 10, type.n - 1);
	/* the empty line's CRLF belongs to the first delimiter */
	wrong = check_parts(c, str_sub(s, end + 4, s.n), boundary);
	if (wrong)
		return wrong;
	for (struct str rest = c->parts[1].body; rest.n > 0;) {
		size_t group = str_find_str(rest, STR("\r\n\r\n"));
		if (!check_is_header(str_sub(rest, 0, group + 2)))
			return "N3: the report";
		rest = str_sub(rest, group + 4, rest.n);
	}
	return NULL;
}

/* Group n of the report: 0 of the message, 1 … of the recipients; empty when there is none. */
static struct str check_group(const struct check *c, size_t n)
{
	struct str rest = c->parts[1].body;
	for (;; n--) {
		size_t end = str_find_str(rest, STR("\r\n\r\n"));
		if (n == 0)
			return str_sub(rest, 0, end + 2);
		if (end == rest.n)
			return str_of("", 0);
		rest = str_sub(rest, end + 4, rest.n);
	}
}

#endif
