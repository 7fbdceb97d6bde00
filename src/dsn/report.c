/* SPDX-License-Identifier: Apache-2.0 */
/* message/delivery-status: RFC 3464 §2, RFC 3461 §6.3, RFC 6533 §3 and §4.1. See parts.h. */
#include "base/clockfmt.h"
#include "dsn/parts.h"
#include "smtp/params.h"

#define VALUE_MAX 2000u

static const char *const action_names[DSN_ACTIONS] = { [DSN_FAILED] = "failed",
						       [DSN_DELAYED] = "delayed",
						       [DSN_RELAYED] = "relayed",
						       [DSN_DELIVERED] = "delivered",
						       [DSN_EXPANDED] = "expanded" };

/* RFC 3463 §2: class "." subject "." detail, of up to three digits each. */
static bool is_status(struct str s)
{
	struct str rest = s, class = str_split(s, '.', &rest);
	uint64_t v;
	if (!str_eq(class, STR("2")) && !str_eq(class, STR("4")) && !str_eq(class, STR("5")))
		return false;
	struct str detail, subject = str_split(rest, '.', &detail);
	return subject.n <= 3 && detail.n <= 3 && str_to_u64(subject, 999, &v) == ERR_NONE &&
	       str_to_u64(detail, 999, &v) == ERR_NONE;
}

struct str dsn_status(const struct dsn_rcpt *r)
{
	bool known = is_status(r->status);
	char class = known ? r->status.p[0] : '0';
	switch (r->action) {
	case DSN_FAILED: /* with 4: what was temporary lasted too long */
		if (class == '4' || class == '5')
			return r->status;
		return r->code >= 400 && r->code < 500 ? STR("4.0.0") : STR("5.0.0");
	case DSN_DELAYED:
		return class == '4' ? r->status : STR("4.0.0");
	default:
		return class == '2' ? r->status : STR("2.0.0");
	}
}

/* RFC 6533 §3: HEXPOINT, without leading zeros but two digits at least. */
static void add_code_point(struct buf *b, struct str c)
{
	static const unsigned char lead[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t v = (unsigned char)c.p[0] & lead[c.n];
	for (size_t i = 1; i < c.n; i++)
		v = v << 6 | ((unsigned char)c.p[i] & 0x3f);
	buf_addf(b, "\\x{%02X}", (unsigned)v);
}

/* The utf-8-addr-xtext form, all ASCII; `given` is in that form already, but for its UTF-8. */
static void add_unitext(struct buf *b, struct str s, bool given)
{
	while (s.n > 0 && buf_err(b) == ERR_NONE) {
		size_t n = str_utf8_first(s);
		struct str c = str_sub(s, 0, n ? n : 1);
		s = str_sub(s, c.n, s.n);
		if (n == 0)
			buf_add_char(b, '?');
		else if (n > 1 || c.p[0] <= ' ' || c.p[0] == 127 || c.p[0] == '+' ||
			 c.p[0] == '=' || (c.p[0] == '\\' && !given))
			add_code_point(b, c);
		else
			buf_add(b, c);
	}
}

static void add_address(struct buf *b, struct str address, enum mime_charset charset)
{
	buf_add(b, str_has_8bit(address) ? STR("utf-8; ") : STR("rfc822; "));
	if (str_has_8bit(address) && charset == MIME_ASCII)
		add_unitext(b, address, false);
	else
		mime_add_address(b, address, charset);
}

/* \\x{HEX} at the start of s: the character in UTF-8, into c; its length, 0 when it is none. */
static size_t unitext_char(struct str s, char c[4], size_t *taken_out)
{
	uint32_t v = 0;
	size_t i = 3;
	if (!str_starts(s, STR("\\x{")))
		return 0;
	for (; i < s.n && i < 9 && s.p[i] != '}'; i++) {
		char x = ascii_lower(s.p[i]);
		if (!ascii_is_digit(x) && (x < 'a' || x > 'f'))
			return 0;
		v = v << 4 | (uint32_t)(ascii_is_digit(x) ? x - '0' : x - 'a' + 10);
	}
	if (i == 3 || i >= s.n || s.p[i] != '}')
		return 0;
	*taken_out = i + 1;
	size_t n = v < 0x80 ? 1 : v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
	for (size_t k = n; k-- > 1; v >>= 6)
		c[k] = (char)(0x80 | (v & 0x3f));
	c[0] = (char)(n == 1 ? v : v | (0xf00u >> n & 0xffu));
	return str_is_utf8(str_of(c, n)) ? n : 0;
}

/* RFC 6533 §3: "SHOULD be converted to the utf-8-address form". */
static void add_utf8_address(struct buf *b, struct str s, struct buf *scratch)
{
	char c[4];
	buf_clear(scratch);
	while (s.n > 0 && buf_err(scratch) == ERR_NONE) {
		size_t taken = 1, n = unitext_char(s, c, &taken);
		buf_add(scratch, n > 0 ? str_of(c, n) : str_sub(s, 0, taken = 1));
		s = str_sub(s, taken, s.n);
	}
	mime_add_address(b, buf_str(scratch), MIME_UTF8);
}

/* ORCPT as it came: type ";" xtext, or UTF-8 with \x{…} (RFC 3461 §4.2, RFC 6533 §3). */
static void add_orcpt(struct buf *b, struct str orcpt, enum mime_charset charset)
{
	char room[700];
	struct buf decoded = buf_fixed(room, sizeof room);
	struct str address, type = str_split(orcpt, ';', &address);
	mime_add_clean(b, type, MIME_ASCII, 40);
	buf_add(b, STR("; "));
	if (str_eq_nocase(type, STR("utf-8")) && charset == MIME_ASCII)
		add_unitext(b, address, true);
	else if (str_eq_nocase(type, STR("utf-8")))
		add_utf8_address(b, address, &decoded);
	else if (xtext_decode(address, &decoded) == ERR_NONE)
		mime_add_address(b, buf_str(&decoded), charset);
	else
		mime_add_address(b, address, charset);
}

bool dsn_report_is_global(const struct dsn *d)
{
	if (!d->envelope->smtputf8)
		return false;
	for (size_t i = 0; i < d->rcpts_n; i++)
		if (str_has_8bit(d->rcpts[i].rcpt->target.address) ||
		    str_has_8bit(d->rcpts[i].rcpt->orcpt) || str_has_8bit(d->rcpts[i].text))
			return true;
	return false;
}

static void add_field(struct buf *b, const char *name, struct buf *value)
{
	mime_add_field(b, str_z(name), buf_str(value));
	buf_clear(value);
}

static void add_date(struct buf *b, const char *name, int64_t ms, struct buf *value)
{
	if (ms == 0)
		return;
	date_add_rfc5322(value, ms);
	add_field(b, name, value);
}

/* RFC 3464 §2.2: fields of the message. */
static void add_per_message(struct buf *b, const struct dsn *d, struct buf *value)
{
	const struct envelope *e = d->envelope;
	char room[320];
	struct buf envid = buf_fixed(room, sizeof room);
	if (e->envid.n > 0 && xtext_decode(e->envid, &envid) == ERR_NONE) {
		mime_add_clean(value, buf_str(&envid), MIME_ASCII, sizeof room);
		add_field(b, "Original-Envelope-Id", value);
	}
	buf_add(value, STR("dns; "));
	mime_add_clean(value, d->hostname, MIME_ASCII, 255);
	add_field(b, "Reporting-MTA", value);
	add_date(b, "Arrival-Date", e->arrived_ms, value);
}

/* RFC 3461 §9.2: type smtp is for words of an SMTP server; ours have a type of their own. */
static void add_diagnostic(struct buf *b, const struct dsn_rcpt *r, enum mime_charset charset,
			   struct buf *value)
{
	if (r->code == 0 && r->text.n == 0)
		return;
	if (r->code == 0) {
		buf_add(value, STR("x-godwit; "));
	} else {
		buf_addf(value, "smtp; %03u ", r->code % 1000u);
		if (is_status(r->status) && !str_starts(r->text, r->status)) {
			buf_add(value, r->status);
			buf_add_char(value, ' ');
		}
	}
	mime_add_clean(value, r->text, charset, 1000);
	add_field(b, "Diagnostic-Code", value);
}

/* The name of "mx.example.org [192.0.2.1]:25", or its address. */
static struct str remote_name(struct str remote)
{
	struct str first = str_sub(remote, 0, str_find(remote, ' '));
	size_t bracket = str_find(first, ']');
	return first.n > 0 && first.p[0] == '[' ? str_sub(first, 0, bracket + 1) : first;
}

/* RFC 3464 §2.3: fields of one recipient. */
static void add_per_recipient(struct buf *b, const struct dsn_rcpt *r, enum mime_charset charset,
			      struct buf *value)
{
	buf_add(b, STR("\r\n"));
	if (r->rcpt->orcpt.n > 0) { /* RFC 3461 §6.3 (d): else it MUST NOT appear */
		add_orcpt(value, r->rcpt->orcpt, charset);
		add_field(b, "Original-Recipient", value);
	}
	add_address(value, r->rcpt->target.address, charset);
	add_field(b, "Final-Recipient", value);
	mime_add_field(b, STR("Action"), str_z(action_names[r->action]));
	mime_add_field(b, STR("Status"), dsn_status(r));
	if (remote_name(r->remote).n > 0) {
		buf_add(value, STR("dns; "));
		mime_add_clean(value, remote_name(r->remote), MIME_ASCII, 255);
		add_field(b, "Remote-MTA", value);
	}
	add_diagnostic(b, r, charset, value);
	add_date(b, "Last-Attempt-Date", r->last_attempt_ms, value);
	if (r->action == DSN_DELAYED)
		add_date(b, "Will-Retry-Until", r->will_retry_until_ms, value);
}

void dsn_add_report(struct buf *b, const struct dsn *d, enum mime_charset charset)
{
	char room[VALUE_MAX * 4];
	struct buf value = buf_fixed(room, sizeof room);
	add_per_message(b, d, &value);
	for (size_t i = 0; i < d->rcpts_n; i++)
		add_per_recipient(b, &d->rcpts[i], charset, &value);
}
