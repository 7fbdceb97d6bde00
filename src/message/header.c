/* SPDX-License-Identifier: Apache-2.0 */
/* The header section as it arrives: see header.h. Hostile input (H40–H46). */
#include "message/header.h"

enum { FIELD_OTHER, FIELD_MESSAGE_ID, FIELD_DELIVERED_TO };

/* RFC 5322 §2.2: printable ASCII without colon; §4.5.1: blanks before the colon are obsolete. */
static bool is_field_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 33 || s.p[i] > 126)
			return false;
	return s.n > 0;
}

static void take_message_id(struct header_scan *h, struct str value)
{
	if (value.n == 0 || value.n > sizeof h->message_id || h->message_id_n > 0)
		return;
	memcpy(h->message_id, value.p, value.n);
	h->message_id_n = (uint16_t)value.n;
}

static void take_delivered_to(struct header_scan *h, struct str value)
{
	if (value.n == 0 || value.n + 1 > sizeof h->delivered - h->delivered_n)
		return;
	memcpy(h->delivered + h->delivered_n, value.p, value.n);
	h->delivered[h->delivered_n + value.n] = '\n';
	h->delivered_n = (uint16_t)(h->delivered_n + value.n + 1);
}

static void take_value(struct header_scan *h, struct str value)
{
	if (value.n == 0)
		return; /* folded right behind the colon: the value follows */
	if (h->current == FIELD_MESSAGE_ID)
		take_message_id(h, value);
	else if (h->current == FIELD_DELIVERED_TO)
		take_delivered_to(h, value);
	h->current = FIELD_OTHER;
}

static void take_field(struct header_scan *h, struct str line)
{
	struct str value, name = str_trim(str_split(line, ':', &value));
	h->fields++;
	h->current = FIELD_OTHER;
	if (str_eq_nocase(name, STR("Received")))
		h->received++;
	else if (str_eq_nocase(name, STR("Message-ID")))
		h->current = FIELD_MESSAGE_ID;
	else if (str_eq_nocase(name, STR("Delivered-To")))
		h->current = FIELD_DELIVERED_TO;
	take_value(h, str_trim(value));
}

/* A whole line, without its LF; its first HEADER_CAPTURE_BYTES are in h->line. */
static void take_line(struct header_scan *h)
{
	struct str line = str_of(h->line, h->line_n);
	bool whole = h->line_bytes == 0;
	if (whole && line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n == 0 && whole) {
		h->ended = true;
	} else if (line.p[0] == ' ' || line.p[0] == '\t') {
		h->ended = h->fields == 0; /* H41: continues nothing */
		take_value(h, str_trim(line));
	} else if (str_find(line, ':') == line.n ||
		   !is_field_name(str_trim(str_sub(line, 0, str_find(line, ':'))))) {
		h->ended = true; /* H41 */
	} else {
		take_field(h, line);
	}
	if (h->ended)
		return;
	h->lines++;
	h->bytes += line.n + h->line_bytes + 2;
	if (h->fields > HEADER_FIELDS_MAX || h->lines > HEADER_LINES_MAX)
		h->too_big = true;
}

static void add_to_line(struct header_scan *h, struct str s)
{
	size_t room = sizeof h->line - h->line_n, n = s.n < room ? s.n : room;
	if (n > 0)
		memcpy(h->line + h->line_n, s.p, n);
	h->line_n = (uint16_t)(h->line_n + n);
	h->line_bytes += (uint32_t)(s.n - n);
	if (h->bytes + h->line_n + h->line_bytes > HEADER_BYTES_MAX)
		h->too_big = true;
}

/* Bare line ends and NULs of one line's bytes; `end`: an LF follows. */
static void check_line(struct header_scan *h, struct str s, bool end)
{
	if (h->last_was_cr && s.n > 0)
		h->bare = true;
	size_t cr = str_find(s, '\r');
	if (cr + 1 < s.n || str_find(s, '\0') < s.n)
		h->bare = true;
	if (s.n > 0)
		h->last_was_cr = cr + 1 == s.n;
	if (end && !h->last_was_cr)
		h->bare = true;
	if (end)
		h->last_was_cr = false;
}

void header_scan_feed(struct header_scan *h, struct str bytes)
{
	while (bytes.n > 0 && !h->ended && !h->too_big) {
		size_t lf = str_find(bytes, '\n');
		struct str part = str_sub(bytes, 0, lf);
		add_to_line(h, part);
		check_line(h, part, lf < bytes.n);
		if (lf == bytes.n)
			return;
		take_line(h);
		h->line_n = 0;
		h->line_bytes = 0;
		bytes = str_sub(bytes, lf + 1, bytes.n);
	}
}

struct str header_message_id(const struct header_scan *h)
{
	return str_of(h->message_id, h->message_id_n);
}

bool header_was_delivered_to(const struct header_scan *h, struct str address)
{
	struct str rest = str_of(h->delivered, h->delivered_n);
	while (rest.n > 0)
		if (str_eq_nocase(str_split(rest, '\n', &rest), address))
			return true;
	return false;
}
