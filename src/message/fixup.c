/* SPDX-License-Identifier: Apache-2.0 */
/* Mending submitted messages: see fixup.h. Runs in smtpd on strangers' bytes. */
#include "message/fixup.h"

/* The first field with its folded lines (RFC 5322 §2.2.3). */
static struct str first_field(struct str s)
{
	size_t at = 0;
	do {
		size_t lf = str_find(str_sub(s, at, s.n), '\n');
		at += lf < s.n - at ? lf + 1 : lf;
	} while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'));
	return str_sub(s, 0, at);
}

/* Its name, however it is written; RFC 5322 §4.5 lets blanks stand before the colon. */
static bool is_named(struct str field, const char *name)
{
	struct str value;
	if (str_find(field, ':') == field.n)
		return false;
	return str_eq_nocase(str_trim(str_split(field, ':', &value)), str_z(name));
}

struct fixup fixup_look(struct str head)
{
	struct fixup f = { 0 };
	while (head.n > 0) {
		struct str field = first_field(head);
		f.has_date = f.has_date || is_named(field, "Date");
		f.has_message_id = f.has_message_id || is_named(field, "Message-ID");
		f.has_from = f.has_from || is_named(field, "From");
		head = str_sub(head, field.n, head.n);
	}
	return f;
}

size_t fixup_drop_bcc(char *head, size_t n)
{
	struct str rest = str_of(head, n);
	size_t kept = 0;
	while (rest.n > 0) {
		struct str field = first_field(rest);
		rest = str_sub(rest, field.n, rest.n);
		if (is_named(field, "Bcc") || is_named(field, "Resent-Bcc"))
			continue;
		memmove(head + kept, field.p, field.n);
		kept += field.n;
	}
	return kept;
}
