/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, addresses and domains: see address.h. Hostile input, all of it (H26–H30). */
#include "smtp/address.h"

#include "base/ip.h"
#include "config.h"

#if GODWIT_HAVE_IDN2
#include <idn2.h>
#endif
#if GODWIT_HAVE_UNISTRING
#include <uninorm.h>
#endif

#define LABEL_MAX	  63u
#define SPECIALS_OF_ATEXT "!#$%&'*+-/=?^_`{|}~"

/* What is left of the input, and the first fault. */
struct scan {
	struct str s;
	enum path_fault fault;
	bool non_ascii;
};

static bool scan_take(struct scan *c, char wanted)
{
	if (c->s.n == 0 || c->s.p[0] != wanted)
		return false;
	c->s = str_sub(c->s, 1, c->s.n);
	return true;
}

static void scan_fail(struct scan *c, enum path_fault fault)
{
	if (c->fault == PATH_OK)
		c->fault = fault;
	c->s = str_of("", 0);
}

static uint32_t utf8_value(struct str s, size_t n)
{
	static const unsigned char lead[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	uint32_t v = (unsigned char)s.p[0] & lead[n];
	for (size_t i = 1; i < n; i++)
		v = v << 6 | ((unsigned char)s.p[i] & 0x3f);
	return v;
}

/*
 * Characters that no mailbox needs and that make an address print as another one: C1 controls, line
 * and paragraph separators, controls of direction, the byte order mark (H30).
 */
static bool is_forbidden(uint32_t v)
{
	return (v >= 0x80 && v <= 0x9f) || (v >= 0x200e && v <= 0x200f) ||
	       (v >= 0x2028 && v <= 0x202e) || (v >= 0x2066 && v <= 0x2069) || v == 0xfeff ||
	       (v & 0xfffe) == 0xfffe;
}

/* RFC 6531 §3.3: UTF8-non-ascii in atext and qtextSMTP. The length of one character, or 0. */
static size_t non_ascii_char(struct scan *c, struct str s)
{
	size_t n = str_utf8_first(s);
	if (n < 2 || is_forbidden(utf8_value(s, n))) {
		scan_fail(c, PATH_BAD_UTF8);
		return 0;
	}
	c->non_ascii = true;
	return n;
}

static bool is_atext(char ch)
{
	return ascii_is_alnum(ch) || (ch != '\0' && strchr(SPECIALS_OF_ATEXT, ch));
}

/* RFC 5321 §4.1.2: Dot-string = Atom *("." Atom). Returns the part as it stands. */
static struct str scan_dot_string(struct scan *c)
{
	struct str from = c->s;
	size_t i = 0;
	bool in_atom = false;
	while (i < from.n) {
		size_t n = 1;
		if ((unsigned char)from.p[i] >= 0x80) {
			n = non_ascii_char(c, str_sub(from, i, from.n));
			if (n == 0)
				return STR_NONE;
		} else if (from.p[i] == '.' && !in_atom) {
			break;
		} else if (from.p[i] != '.' && !is_atext(from.p[i])) {
			break;
		}
		in_atom = from.p[i] != '.';
		i += n;
	}
	if (!in_atom)
		scan_fail(c, PATH_SYNTAX);
	c->s = str_sub(c->s, i, c->s.n);
	return str_sub(from, 0, i);
}

/* RFC 5321 §4.1.2: Quoted-string. Returns the content without quotes and backslashes, in b. */
static struct str scan_quoted(struct scan *c, struct buf *b)
{
	struct str s = c->s;
	size_t i = 1; /* the opening quote */
	for (; i < s.n && s.p[i] != '"'; i++) {
		unsigned char ch = (unsigned char)s.p[i];
		size_t n = ch >= 0x80 ? non_ascii_char(c, str_sub(s, i, s.n)) : 1;
		if (ch == '\\' && i + 1 < s.n)
			ch = (unsigned char)s.p[++i];
		if (n == 0 || ch < 0x20 || ch == 0x7f || (ch >= 0x80 && n == 1)) {
			scan_fail(c, PATH_SYNTAX);
			return STR_NONE;
		}
		buf_add(b, str_sub(s, i, i + n));
		i += n - 1;
	}
	if (i >= s.n || b->n == 0) { /* unclosed; or "", which names nobody (H27) */
		scan_fail(c, PATH_SYNTAX);
		return STR_NONE;
	}
	c->s = str_sub(s, i + 1, s.n);
	return buf_str(b);
}

static bool is_dot_string(struct str s)
{
	struct scan c = { .s = s };
	(void)scan_dot_string(&c);
	return s.n > 0 && c.fault == PATH_OK && c.s.n == 0;
}

static struct str normalized(struct str s, struct arena *arena)
{
#if GODWIT_HAVE_UNISTRING
	/* No character of UTF-8 grows to more than three times its bytes in NFC (UAX #15). */
	size_t n = 3 * s.n + 16;
	uint8_t *room = arena_alloc(arena, n);
	if (!room)
		return STR_NONE;
	const uint8_t *made = u8_normalize(UNINORM_NFC, (const uint8_t *)s.p, s.n, room, &n);
	return made == room ? str_of((const char *)room, n) : STR_NONE;
#else
	(void)arena;
	return s;
#endif
}

void smtp_local_add(struct buf *b, struct str content)
{
	if (is_dot_string(content)) {
		buf_add(b, content);
		return;
	}
	buf_add_char(b, '"');
	for (size_t i = 0; i < content.n; i++) {
		if (content.p[i] == '"' || content.p[i] == '\\')
			buf_add_char(b, '\\');
		buf_add_char(b, content.p[i]);
	}
	buf_add_char(b, '"');
}

enum err smtp_local_content(struct str local, struct buf *b)
{
	struct scan c = { .s = local };
	struct str content;
	if (local.n > 0 && local.p[0] == '"') {
		content = scan_quoted(&c, b);
	} else {
		content = scan_dot_string(&c);
		buf_add(b, content);
	}
	return c.fault != PATH_OK || c.s.n > 0 ? ERR_SYNTAX : buf_err(b);
}

/*
 * Reverse-paths that a forwarder rewrote (message/srs.h) are recipients of bounces, and often longer
 * than 64. RFC 5321 §4.5.3.1: the limits are what MUST be accepted, more may be.
 */
static bool is_rewritten(struct str content)
{
	return (str_starts_nocase(content, STR("SRS0")) ||
		str_starts_nocase(content, STR("SRS1"))) &&
	       content.n > 4 && strchr("=+-", content.p[4] ? content.p[4] : '!');
}

/* ---- domains ------------------------------------------------------------------------------ */

static bool label_is_ldh(struct str label)
{
	if (label.n == 0 || label.n > LABEL_MAX || label.p[0] == '-' || label.p[label.n - 1] == '-')
		return false;
	for (size_t i = 0; i < label.n; i++)
		if (!ascii_is_alnum(label.p[i]) && label.p[i] != '-')
			return false;
	return true;
}

static bool is_number(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_digit(s.p[i]))
			return false;
	return true;
}

bool smtp_domain_is_valid(struct str domain)
{
	struct str rest = domain, label;
	if (domain.n == 0 || domain.n > ADDRESS_DOMAIN_MAX)
		return false;
	do {
		bool more = str_find(rest, '.') < rest.n;
		label = str_split(rest, '.', &rest);
		if (!label_is_ldh(label) ||
		    (more && rest.n == 0)) /* RFC 5321 §4.1.2: no trailing dot */
			return false;
	} while (rest.n > 0);
	/* RFC 1123 §2.1: a top-level name is alphabetic, so that no name looks like an address. */
	return !is_number(label);
}

static struct str lower(struct str s, struct arena *arena)
{
	char *p = arena_alloc(arena, s.n ? s.n : 1);
	for (size_t i = 0; p && i < s.n; i++)
		p[i] = ascii_lower(s.p[i]);
	return p ? str_of(p, s.n) : STR_NONE;
}

/* What UTS #46 would silently drop from a name: soft hyphen, zero-width space and joiner, and
 * controls. */
static bool has_ignored(struct str s)
{
	for (size_t n; s.n > 0; s = str_sub(s, n, s.n)) {
		n = str_utf8_first(s);
		uint32_t v = n > 1 ? utf8_value(s, n) : 0;
		if (n == 0 || v == 0xad || v == 0x34f || v == 0x200b || v == 0x2060 ||
		    is_forbidden(v))
			return true;
	}
	return false;
}

/*
 * RFC 5891 §5, with the mapping of UTS #46. Not with libidn2's STD3 rules: they drop an '@' that
 * comes of U+FF20 instead of refusing it; smtp_domain_is_valid() refuses it afterwards (H30).
 */
static enum err to_ascii(struct str domain, struct arena *arena, struct str *ascii_out)
{
#if GODWIT_HAVE_IDN2
	if (!str_is_utf8(domain) || domain.n > ADDRESS_DOMAIN_MAX || has_ignored(domain))
		return ERR_SYNTAX;
	const char *z = arena_z(arena, domain);
	uint8_t *made = NULL;
	if (!z)
		return arena_err(arena) ? arena_err(arena) : ERR_SYNTAX;
	if (idn2_lookup_u8((const uint8_t *)z, &made, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) !=
	    IDN2_OK)
		return ERR_SYNTAX;
	*ascii_out = lower(str_z((const char *)made), arena);
	idn2_free(made);
	return arena_err(arena);
#else
	(void)domain, (void)arena, (void)ascii_out;
	return ERR_SYNTAX;
#endif
}

enum err smtp_domain_canonical(struct str domain, struct arena *arena, struct str *canonical_out)
{
	if (str_has_8bit(domain))
		TRY(to_ascii(domain, arena, canonical_out));
	else
		*canonical_out = lower(domain, arena);
	TRY(arena_err(arena));
	return smtp_domain_is_valid(*canonical_out) ? ERR_NONE : ERR_SYNTAX;
}

static bool is_dcontent(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 33 || s.p[i] > 126 || (s.p[i] >= 91 && s.p[i] <= 93))
			return false;
	return s.n > 0;
}

/* RFC 5321 §4.1.3. `inner` is what stands between the brackets. */
static bool literal_add(struct buf *b, struct str inner)
{
	struct ip ip;
	struct str rest, tag = str_split(inner, ':', &rest);
	if (str_eq_nocase(tag, STR("IPv6"))) {
		/* ip_parse() takes neither a zone (H29) nor an IPv4 address here */
		if (str_find(rest, ':') == rest.n || ip_parse(rest, &ip) != ERR_NONE)
			return false;
		ip_add_literal(b, &ip);
		return true;
	}
	if (tag.n == inner.n) {
		if (ip_parse(inner, &ip) != ERR_NONE)
			return false;
		ip_add_literal(b, &ip);
		return true;
	}
	if (!label_is_ldh(tag) || !is_dcontent(rest))
		return false;
	buf_add_char(b, '[');
	buf_add(b, inner);
	buf_add_char(b, ']');
	return true;
}

/* ---- paths -------------------------------------------------------------------------------- */

/* RFC 5321 §4.1.1.3: source routes SHOULD be accepted and MUST then be ignored. */
static void scan_source_route(struct scan *c)
{
	bool more = scan_take(c, '@');
	while (more && c->fault == PATH_OK) {
		size_t n = 0;
		while (n < c->s.n && c->s.p[n] != ',' && c->s.p[n] != ':')
			n++;
		if (!smtp_domain_is_valid(str_sub(c->s, 0, n)))
			scan_fail(c, PATH_SYNTAX);
		c->s = str_sub(c->s, n, c->s.n);
		if (scan_take(c, ':'))
			return;
		more = scan_take(c, ',') && scan_take(c, '@');
		if (!more)
			scan_fail(c, PATH_SYNTAX);
	}
}

/* The content of the local part: unquoted, normalized. */
static struct str scan_local(struct scan *c, struct arena *arena)
{
	struct str start = c->s, content;
	if (start.n > 0 && start.p[0] == '"') {
		struct buf b = buf_fixed(arena_alloc(arena, start.n), start.n);
		content = scan_quoted(c, &b);
	} else {
		content = scan_dot_string(c);
	}
	if (c->fault == PATH_OK && start.n - c->s.n > ADDRESS_PATH_MAX)
		scan_fail(c, PATH_LOCAL_TOO_LONG);
	if (c->fault == PATH_OK && c->non_ascii)
		content = normalized(content, arena); /* RFC 6532 §3.1: equal look, equal mailbox */
	if (c->fault == PATH_OK && !content.p)
		scan_fail(c, PATH_NO_MEMORY);
	return content;
}

/* Up to (not including) the closing bracket. */
static void scan_domain(struct scan *c, struct buf *b, struct arena *arena, struct path *path)
{
	if (scan_take(c, '[')) {
		size_t n = str_find(c->s, ']');
		if (n == c->s.n || !literal_add(b, str_sub(c->s, 0, n)))
			scan_fail(c, PATH_BAD_DOMAIN);
		c->s = str_sub(c->s, n + 1, c->s.n);
		path->is_literal = true;
		return;
	}
	size_t n = str_find(c->s, '>');
	struct str domain = str_sub(c->s, 0, n), canonical;
	c->non_ascii |= str_has_8bit(domain);
	c->s = str_sub(c->s, n, c->s.n);
	if (domain.n > ADDRESS_DOMAIN_MAX) {
		scan_fail(c, PATH_DOMAIN_TOO_LONG);
		return;
	}
	enum err e = smtp_domain_canonical(domain, arena, &canonical);
	if (e == ERR_SYNTAX)
		scan_fail(c, str_is_utf8(domain) ? PATH_BAD_DOMAIN : PATH_BAD_UTF8);
	else if (e != ERR_NONE)
		scan_fail(c, PATH_NO_MEMORY);
	else
		buf_add(b, canonical);
}

/* Mailbox, and for a forward-path "postmaster" alone. */
static void scan_mailbox(struct scan *c, enum path_kind kind, struct arena *arena,
			 struct path *path)
{
	struct str start = c->s, content = scan_local(c, arena);
	size_t local_octets = start.n - c->s.n, local_n = 0;
	size_t room = 2 * content.n + ADDRESS_DOMAIN_MAX + 64;
	if (c->fault != PATH_OK)
		return;
	struct buf b = buf_fixed(arena_alloc(arena, room), room);
	smtp_local_add(&b, content);
	local_n = b.n;
	if (scan_take(c, '@')) {
		buf_add_char(&b, '@');
		scan_domain(c, &b, arena, path);
	} else if (kind != PATH_FORWARD || !str_eq_nocase(content, STR("postmaster"))) {
		scan_fail(c,
			  PATH_SYNTAX); /* RFC 5321 §4.1.1.3: "postmaster" is the one exception */
	}
	if (c->fault == PATH_OK && kind == PATH_FORWARD && local_octets > ADDRESS_LOCAL_MAX &&
	    !is_rewritten(content))
		scan_fail(c, PATH_LOCAL_TOO_LONG);
	if (c->fault == PATH_OK &&
	    (start.n - c->s.n > ADDRESS_PATH_MAX - 2 || b.n > ADDRESS_PATH_MAX + 64))
		scan_fail(c, PATH_TOO_LONG);
	if (c->fault == PATH_OK && buf_err(&b) != ERR_NONE)
		scan_fail(c, PATH_NO_MEMORY);
	if (c->fault != PATH_OK)
		return;
	path->text = str_sub(start, 0, start.n - c->s.n);
	path->canonical = buf_str(&b);
	path->local = str_sub(path->canonical, 0, local_n);
	path->domain = str_sub(path->canonical, local_n + 1, path->canonical.n);
}

enum path_fault path_parse(struct str s, enum path_kind kind, struct arena *arena,
			   struct path *path_out, struct str *rest_out)
{
	struct scan c = { .s = s };
	*path_out = (struct path){ .text = str_of("", 0), .canonical = str_of("", 0) };
	*rest_out = str_of("", 0);
	if (!scan_take(&c, '<'))
		return PATH_SYNTAX;
	if (scan_take(&c, '>')) { /* RFC 5321 §4.5.5: the null reverse-path */
		path_out->is_null = true;
		*rest_out = c.s;
		return kind == PATH_REVERSE ? PATH_OK : PATH_SYNTAX;
	}
	scan_source_route(&c);
	if (c.fault == PATH_OK)
		scan_mailbox(&c, kind, arena, path_out);
	if (c.fault == PATH_OK && !scan_take(&c, '>'))
		scan_fail(&c, PATH_SYNTAX);
	if (arena_err(arena) != ERR_NONE)
		return PATH_NO_MEMORY;
	path_out->non_ascii = c.non_ascii;
	*rest_out = c.s;
	return c.fault;
}

enum err smtp_address_canonical(struct str text, struct arena *arena, struct str *canonical_out)
{
	struct scan c = { .s = text };
	struct path path = { 0 };
	if (text.n == 0 || text.n > ADDRESS_PATH_MAX)
		return ERR_SYNTAX;
	scan_mailbox(&c, PATH_FORWARD, arena, &path);
	TRY(arena_err(arena));
	if (c.fault != PATH_OK || c.s.n > 0 || path.domain.n == 0)
		return ERR_SYNTAX;
	*canonical_out = path.canonical;
	return ERR_NONE;
}

/* ---- HELO --------------------------------------------------------------------------------- */

enum err smtp_helo_parse(struct str argument, struct str *name_out)
{
	struct str name = str_split(str_trim(argument), ' ', &argument);
	if (name.n == 0 || name.n > ADDRESS_DOMAIN_MAX)
		return ERR_SYNTAX;
	*name_out = name;
	if (name.p[0] == '[') {
		/* RFC 5321 §4.1.1.1: text behind the literal was once encouraged; it is ignored */
		char room[ADDRESS_DOMAIN_MAX + 16];
		struct buf b = buf_fixed(room, sizeof room);
		bool closed = name.n > 2 && name.p[name.n - 1] == ']';
		for (size_t i = 1; closed && i < name.n - 1; i++) /* H19: nothing that means more */
			closed = ascii_is_alnum(name.p[i]) || name.p[i] == '.' || name.p[i] == ':';
		return closed && literal_add(&b, str_sub(name, 1, name.n - 1)) ? ERR_NONE
									       : ERR_SYNTAX;
	}
	if (argument.n > 0)
		return ERR_SYNTAX;
	bool label = false;
	for (size_t i = 0; i < name.n; i++) {
		if (!ascii_is_alnum(name.p[i]) && !strchr("-_.", name.p[i] ? name.p[i] : '!'))
			return ERR_SYNTAX; /* H19: nothing that could be read as more than a name */
		if (name.p[i] == '.' && !label)
			return ERR_SYNTAX;
		label = name.p[i] != '.';
	}
	return ERR_NONE;
}
