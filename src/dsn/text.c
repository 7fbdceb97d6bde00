/* SPDX-License-Identifier: Apache-2.0 */
/* The part that people read: what happened, to whom, why, and what to do. See parts.h. */
#include "base/clockfmt.h"
#include "dsn/parts.h"

#define INDENT_REASON 4u
#define INDENT_WORDS  8u

struct section {
	enum dsn_action action;
	const char *one, *several; /* recipients, behind "Your message of DATE " */
	const char *after;	   /* what follows the list */
};
static const struct section sections[DSN_ACTIONS] = {
	{ DSN_FAILED, "could not be delivered to this recipient:",
	  "could not be delivered to these recipients:",
	  "It will not be tried again: this report is final." },
	{ DSN_DELAYED, "has not been delivered yet to this recipient:",
	  "has not been delivered yet to these recipients:",
	  "It is not lost: our server goes on trying. You need not send it again." },
	{ DSN_RELAYED, "was handed on for this recipient:", "was handed on for these recipients:",
	  "The server that took it does not report what becomes of it: this is the last that you "
	  "hear from us." },
	{ DSN_DELIVERED, "was delivered to this recipient:", "was delivered to these recipients:",
	  "This says that it is in the mailbox, not that it was read." },
	{ DSN_EXPANDED, "was sent on to all members of this address:",
	  "was sent on to all members of these addresses:",
	  "There is no further report of success from those members." },
};

static void add_line(struct buf *b, size_t indent, struct buf *line)
{
	mime_add_wrapped(b, indent, buf_str(line));
	buf_clear(line);
}

static void add_blank(struct buf *b)
{
	buf_add(b, STR("\r\n"));
}

/* What the remote said, in its words; or what we found. */
static void add_words(struct buf *b, const struct dsn_rcpt *r, struct buf *line)
{
	if (r->code == 0 && r->text.n == 0)
		return;
	if (r->remote.n > 0) {
		buf_add(line, r->code ? STR("The server ") : STR("What happened with the server "));
		mime_add_clean(line, r->remote, MIME_ASCII, 300);
		buf_add(line, r->code ? STR(" said:") : STR(":"));
	} else {
		buf_add(line, r->code ? STR("The other server said:") : STR("In detail:"));
	}
	add_line(b, INDENT_REASON, line);
	if (r->code) {
		buf_addf(line, "%03u ", r->code % 1000u);
		if (r->status.n > 0 && r->status.n < 12 && !str_starts(r->text, r->status)) {
			mime_add_clean(line, r->status, MIME_ASCII, 12);
			buf_add_char(line, ' ');
		}
	}
	mime_add_clean(line, r->text, MIME_UTF8, 1000);
	add_line(b, INDENT_WORDS, line);
}

static void add_who(struct buf *b, const struct dsn_rcpt *r, struct buf *line)
{
	struct str final = r->rcpt->target.address, given = r->rcpt->forward_path;
	buf_add_char(line, '<');
	mime_add_address(line, final, MIME_UTF8);
	buf_add_char(line, '>');
	if (given.n > 0 && !str_eq_nocase(given, final)) {
		buf_add(line, STR(" (sent to <"));
		mime_add_address(line, given, MIME_UTF8);
		buf_add(line, STR(">)"));
	}
	add_line(b, 0, line);
}

static void add_recipient(struct buf *b, const struct dsn_rcpt *r, struct buf *line)
{
	const struct dsn_meaning *m = dsn_meaning(dsn_status(r));
	add_blank(b);
	add_who(b, r, line);
	if (r->action == DSN_FAILED || r->action == DSN_DELAYED)
		mime_add_wrapped(b, INDENT_REASON, str_z(m->text));
	add_words(b, r, line);
	if (r->action == DSN_FAILED && *m->advice)
		mime_add_wrapped(b, INDENT_REASON, str_z(m->advice));
	if (r->action == DSN_DELAYED && r->will_retry_until_ms != 0) {
		buf_add(line, STR("It is tried again until "));
		date_add_rfc5322(line, r->will_retry_until_ms);
		buf_add_char(line, '.');
		add_line(b, INDENT_REASON, line);
	}
}

static void add_section(struct buf *b, const struct dsn *d, const struct section *s,
			struct buf *line)
{
	size_t n = 0;
	for (size_t i = 0; i < d->rcpts_n; i++)
		n += d->rcpts[i].action == s->action;
	if (n == 0)
		return;
	add_blank(b);
	buf_add(line, STR("Your message"));
	if (d->envelope->arrived_ms != 0) {
		buf_add(line, STR(" of "));
		date_add_rfc5322(line, d->envelope->arrived_ms);
	}
	buf_add_char(line, ' ');
	buf_add(line, str_z(n == 1 ? s->one : s->several));
	add_line(b, 0, line);
	for (size_t i = 0; i < d->rcpts_n; i++)
		if (d->rcpts[i].action == s->action)
			add_recipient(b, &d->rcpts[i], line);
	add_blank(b);
	mime_add_wrapped(b, 0, str_z(s->after));
}

void dsn_add_text(struct buf *b, const struct dsn *d, bool full)
{
	char room[2048];
	struct buf line = buf_fixed(room, sizeof room);
	buf_add(&line, STR("This is a report of the mail server "));
	mime_add_clean(&line, d->hostname, MIME_ASCII, 255);
	buf_add_char(&line, '.');
	add_line(b, 0, &line);
	for (size_t i = 0; i < DSN_ACTIONS; i++)
		add_section(b, d, &sections[i], &line);
	add_blank(b);
	if (d->contact.n > 0) {
		buf_add(&line, STR("If you need help, send this report to <"));
		mime_add_address(&line, d->contact, MIME_UTF8);
		buf_add(&line, STR(">."));
		add_line(b, 0, &line);
	}
	mime_add_wrapped(b, 0,
			 full ? STR("The same for programs and your message follow.")
			      : STR("The same for programs and the header of your message "
				    "follow."));
}
