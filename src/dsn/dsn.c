/* SPDX-License-Identifier: Apache-2.0 */
/* The whole notification: its header, its three parts, their boundary. See dsn.h. */
#include "dsn/dsn.h"

#include "base/clockfmt.h"
#include "base/hash.h"
#include "dsn/parts.h"

#define ADDRESSEE_MAX	 500u
#define HEADER_BYTES_MAX ((size_t)64 << 10) /* of the original, when only that is returned */
#define SCRATCH_MAX	 ((size_t)16 << 20)
#define BOUNDARY_TRIES	 16u
#define BOUNDARY_PLACES	 5u /* its declaration, three openings, the end */

/* ---- who is told -------------------------------------------------------------------------- */

bool dsn_wanted(uint8_t notify, enum dsn_action action, struct str reverse_path)
{
	static const struct {
		bool unset; /* RFC 3461 §4.1: left to the MTA; failures and delays, as always */
		uint8_t bit;
	} rules[DSN_ACTIONS] = {
		[DSN_FAILED] = { true, DSN_NOTIFY_FAILURE },
		[DSN_DELAYED] = { true, DSN_NOTIFY_DELAY },
		[DSN_RELAYED] = { false, DSN_NOTIFY_SUCCESS },
		[DSN_DELIVERED] = { false, DSN_NOTIFY_SUCCESS },
		[DSN_EXPANDED] = { false, DSN_NOTIFY_SUCCESS },
	};
	/* RFC 3461 §6.1, RFC 5321 §4.5.5: never about mail from the null reverse-path (H90) */
	if (reverse_path.n == 0 || action >= DSN_ACTIONS || (notify & DSN_NOTIFY_NEVER))
		return false;
	return notify == 0 ? rules[action].unset : (notify & rules[action].bit) != 0;
}

uint8_t dsn_notify_of_expanded(uint8_t notify)
{
	/* SUCCESS alone leaves nothing, which must not turn into "unset" */
	if (notify == DSN_NOTIFY_SUCCESS)
		return DSN_NOTIFY_NEVER;
	return notify & (uint8_t)~DSN_NOTIFY_SUCCESS;
}

/* ---- the original ------------------------------------------------------------------------- */

/* RFC 5322 §2.2: a field, or the continuation of one. */
static bool is_header_line(struct str line, bool first)
{
	size_t colon = str_find(line, ':');
	if (line.n > 0 && !first && (line.p[0] == ' ' || line.p[0] == '\t'))
		return true;
	for (size_t i = 0; i < colon && i < line.n; i++)
		if (line.p[i] < 33 || line.p[i] > 126)
			return false;
	return colon > 0 && colon < line.n;
}

/* Whole lines of the header section, without the empty line; at most HEADER_BYTES_MAX. */
static struct str header_of(struct str message)
{
	struct str rest = str_sub(message, 0, HEADER_BYTES_MAX);
	size_t n = 0;
	while (n < message.n) {
		size_t lf = str_find(rest, '\n');
		if (lf == rest.n || !is_header_line(str_sub(rest, 0, lf), n == 0))
			break;
		n += lf + 1;
		rest = str_sub(rest, lf + 1, rest.n);
	}
	return str_sub(message, 0, n);
}

enum encoding { SEVEN_BIT, EIGHT_BIT, QUOTED_PRINTABLE };

/* What is decided before the first byte is written. */
struct plan {
	const struct dsn *d;
	struct mem *mem;
	struct str header;
	struct str to, message_id;
	bool smtputf8, full;
	bool global_report, global_original;
	enum encoding text, report, original;
	enum dsn_action leading; /* of several actions the one for the subject */
	size_t leading_n;
	struct buf part; /* scratch: parts 1 and 2 before they are encoded */
};

/* RFC 3461 §4.3, §6.2: all of it for failures, if the client asked for it and it can be carried. */
static void plan_original(struct plan *p)
{
	const struct dsn *d = p->d;
	struct mime_facts prefix = mime_look(d->prefix), header = mime_look(p->header), whole;
	prefix.bad |= d->prefix.n > 0 && !str_ends(d->prefix, STR("\r\n"));
	p->full = d->envelope->ret == DSN_RET_FULL && p->leading == DSN_FAILED &&
		  d->envelope->body != BODY_KIND_BINARY_MIME && d->message.n == d->message_bytes &&
		  d->message_bytes + d->prefix.n <= d->full_max && d->message.n > 0;
	whole = p->full ? mime_look(d->message) : header;
	p->full = p->full && !prefix.bad && !whole.bad;
	bool eight = header.eight_bit || prefix.eight_bit;
	p->global_original = d->envelope->smtputf8 && eight;
	if (p->full) {
		eight |= whole.eight_bit;
		/* RFC 2046 §5.2.1: message/rfc822 may only be 7bit, 8bit or binary */
		p->original = !eight				   ? SEVEN_BIT
			      : p->global_original && !p->smtputf8 ? QUOTED_PRINTABLE
								   : EIGHT_BIT;
	} else {
		bool bad = header.bad || prefix.bad;
		p->original = !eight && !bad				  ? SEVEN_BIT
			      : p->global_original && p->smtputf8 && !bad ? EIGHT_BIT
									  : QUOTED_PRINTABLE;
	}
}

/* RFC 5322 §3.6.4, as much of it as keeps a field from being broken by it. */
static bool is_message_id(struct str s)
{
	size_t at = str_find(s, '@');
	if (s.n < 5 || s.n > 250 || s.p[0] != '<' || s.p[s.n - 1] != '>' || at < 2 || at + 3 > s.n)
		return false;
	for (size_t i = 1; i + 1 < s.n; i++)
		if (s.p[i] < 33 || s.p[i] > 126 || s.p[i] == '<' || s.p[i] == '>')
			return false;
	return true;
}

/* An address that can stand in "To: <…>"; what is odd in its local part must be quoted there. */
static bool is_addressee(struct str s)
{
	size_t at = str_rfind(s, '@');
	bool quoted = at > 2 && s.p[0] == '"' && s.p[at - 1] == '"';
	if (at == 0 || at + 1 >= s.n || s.n > ADDRESSEE_MAX || !str_is_utf8(s) ||
	    str_has_control(s))
		return false;
	for (size_t i = quoted ? at : 0; i < s.n; i++)
		if (strchr(" <>,;\"()", s.p[i]))
			return false;
	return true;
}

static enum err plan_make(struct plan *p, const struct dsn *d, struct mem *mem)
{
	*p = (struct plan){ .d = d, .mem = mem, .leading = DSN_ACTIONS };
	p->to = d->to.n > 0 ? d->to : d->envelope->reverse_path;
	if (!is_addressee(p->to) || d->rcpts_n == 0)
		return ERR_SYNTAX;
	p->smtputf8 = str_has_8bit(p->to);
	for (size_t i = 0; i < d->rcpts_n; i++) {
		if (d->rcpts[i].action >= DSN_ACTIONS)
			return ERR_SYNTAX;
		if (d->rcpts[i].action < p->leading) {
			p->leading = d->rcpts[i].action;
			p->leading_n = 0;
		}
		p->leading_n += d->rcpts[i].action == p->leading;
	}
	if (is_message_id(d->envelope->message_id))
		p->message_id = d->envelope->message_id;
	p->header = header_of(d->message);
	plan_original(p);
	p->global_report = dsn_report_is_global(d);
	/* RFC 3464 §2.1: 7bit for message/delivery-status; RFC 6533 §4.4 */
	p->report = !p->global_report ? SEVEN_BIT : p->smtputf8 ? EIGHT_BIT : QUOTED_PRINTABLE;
	p->part = buf_grow(mem, SCRATCH_MAX);
	return ERR_NONE;
}

/* ---- the header --------------------------------------------------------------------------- */

static void add_subject(struct buf *b, const struct plan *p)
{
	static const char *const says[DSN_ACTIONS] = { [DSN_FAILED] = "Undelivered mail: ",
						       [DSN_DELAYED] = "Mail is delayed: ",
						       [DSN_RELAYED] = "Mail was handed on: ",
						       [DSN_DELIVERED] = "Mail was delivered: ",
						       [DSN_EXPANDED] = "Mail was distributed: " };
	char room[600];
	struct buf value = buf_fixed(room, sizeof room);
	size_t first = 0;
	while (p->d->rcpts[first].action != p->leading)
		first++;
	buf_add(&value, str_z(says[p->leading]));
	mime_add_address(&value, p->d->rcpts[first].rcpt->target.address, MIME_UTF8);
	if (p->leading_n > 1)
		buf_addf(&value, " and %zu more", p->leading_n - 1);
	if (p->smtputf8)
		mime_add_field(b, STR("Subject"), buf_str(&value));
	else
		mime_add_field_encoded(b, STR("Subject"), buf_str(&value));
}

static void add_header(struct buf *b, const struct plan *p, struct str boundary)
{
	const struct dsn *d = p->d;
	bool eight = p->smtputf8 || p->original == EIGHT_BIT;
	/* RFC 3464 §2: From is who composed it; RFC 5321 §4.5.5 the envelope's is null */
	buf_add(b, STR("From: Mail Delivery System <MAILER-DAEMON@"));
	mime_add_clean(b, d->hostname, MIME_ASCII, 255);
	buf_add(b, STR(">\r\nTo: <"));
	buf_add(b, p->to);
	buf_add(b, STR(">\r\n"));
	add_subject(b, p);
	buf_add(b, STR("Date: "));
	date_add_rfc5322(b, d->now_ms);
	buf_add(b, STR("\r\nMessage-ID: <"));
	msg_id_add(b, d->id);
	buf_add_char(b, '@');
	mime_add_clean(b, d->hostname, MIME_ASCII, 255);
	buf_add(b, STR(">\r\n"));
	if (p->message_id.n > 0) {
		mime_add_field(b, STR("In-Reply-To"), p->message_id);
		mime_add_field(b, STR("References"), p->message_id);
	}
	buf_add(b, STR("Auto-Submitted: auto-replied\r\n" /* RFC 3834 §5 */
		       "MIME-Version: 1.0\r\n"
		       "Content-Type: multipart/report; report-type=delivery-status;\r\n"
		       "\tboundary=\""));
	buf_add(b, boundary);
	buf_add(b, STR("\"\r\nContent-Transfer-Encoding: "));
	buf_add(b, eight ? STR("8bit\r\n\r\n") : STR("7bit\r\n\r\n"));
}

/* ---- the parts ---------------------------------------------------------------------------- */

static void open_part(struct buf *b, struct str boundary, const char *type, enum encoding encoding)
{
	static const char *const names[] = { "7bit", "8bit", "quoted-printable" };
	buf_add(b, STR("\r\n--"));
	buf_add(b, boundary);
	buf_addf(b, "\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", type,
		 names[encoding]);
}

static void add_encoded(struct buf *b, struct str s, enum encoding encoding)
{
	if (encoding == QUOTED_PRINTABLE)
		mime_add_quoted_printable(b, s);
	else
		buf_add(b, s);
}

static void add_text(struct buf *b, struct plan *p, struct str boundary)
{
	size_t start = p->part.n;
	dsn_add_text(&p->part, p->d, p->full);
	struct str text = str_sub(buf_str(&p->part), start, p->part.n);
	enum encoding encoding = !str_has_8bit(text) ? SEVEN_BIT
				 : p->smtputf8	     ? EIGHT_BIT
						     : QUOTED_PRINTABLE;
	open_part(b, boundary, "text/plain; charset=utf-8", encoding);
	add_encoded(b, text, encoding);
}

static void add_report(struct buf *b, struct plan *p, struct str boundary)
{
	size_t start = p->part.n;
	dsn_add_report(&p->part, p->d, p->global_report ? MIME_UTF8 : MIME_ASCII);
	open_part(b, boundary,
		  p->global_report ? "message/global-delivery-status" : "message/delivery-status",
		  p->report);
	add_encoded(b, str_sub(buf_str(&p->part), start, p->part.n), p->report);
}

static void add_original(struct buf *b, struct plan *p, struct str boundary)
{
	const char *type = p->full ? p->global_original ? "message/global" : "message/rfc822"
			   : p->global_original ? "message/global-headers"
						: "text/rfc822-headers";
	open_part(b, boundary, type, p->original);
	add_encoded(b, p->d->prefix, p->original);
	add_encoded(b, p->full ? p->d->message : p->header, p->original);
}

/* ---- the whole ---------------------------------------------------------------------------- */

/* RFC 2045 §6.7: "=_" never stands in quoted-printable, so only raw parts could hold it. */
static struct str make_boundary(const uint8_t random[16], unsigned attempt, struct buf *b)
{
	struct sip_key key;
	char number = (char)attempt;
	memcpy(&key, random, sizeof key);
	uint64_t high = siphash(key, str_of(&number, 1));
	key.k0 = ~key.k0;
	buf_clear(b);
	buf_add(b, STR("=_"));
	buf_add_hex(b, high, 16);
	buf_add_hex(b, siphash(key, str_of(&number, 1)), 16);
	return buf_str(b);
}

static size_t count(struct str s, struct str what)
{
	size_t n = 0;
	for (size_t at; (at = str_find_str(s, what)) < s.n; n++)
		s = str_sub(s, at + what.n, s.n);
	return n;
}

static void compose(struct plan *p, struct str boundary, struct buf *b)
{
	add_header(b, p, boundary);
	add_text(b, p, boundary);
	add_report(b, p, boundary);
	add_original(b, p, boundary);
	buf_add(b, STR("\r\n--"));
	buf_add(b, boundary);
	buf_add(b, STR("--\r\n"));
}

enum err dsn_compose(const struct dsn *d, struct mem *mem, struct buf *out,
		     struct dsn_info *info_out)
{
	struct plan p;
	char room[40];
	struct buf boundary = buf_fixed(room, sizeof room);
	size_t start = out->n;
	enum err e = ERR_LIMIT;
	TRY(plan_make(&p, d, mem));
	for (unsigned i = 0; i < BOUNDARY_TRIES && e == ERR_LIMIT; i++) {
		struct str name = make_boundary(d->random, i, &boundary);
		out->n = start;
		compose(&p, name, out);
		if (buf_err(out) != ERR_NONE || buf_err(&p.part) != ERR_NONE)
			break;
		if (count(str_sub(buf_str(out), start, out->n), name) == BOUNDARY_PLACES)
			e = ERR_NONE;
	}
	if (buf_err(out) != ERR_NONE || buf_err(&p.part) != ERR_NONE)
		e = buf_err(out) != ERR_NONE ? buf_err(out) : buf_err(&p.part);
	buf_free(&p.part);
	*info_out = (struct dsn_info){
		.body = p.smtputf8 || p.original == EIGHT_BIT ? BODY_KIND_EIGHT_BIT_MIME
							      : BODY_KIND_SEVEN_BIT,
		.smtputf8 = p.smtputf8,
		.full = p.full,
	};
	return e;
}
