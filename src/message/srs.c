/* SPDX-License-Identifier: Apache-2.0 */
/* Rewritten reverse-paths: see srs.h. Hostile input; a forged one must not make us relay (P5). */
#include "message/srs.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "smtp/address.h"

#define HASH_CHARS  8u
#define DAY_CHARS   2u
#define DAY_MS	    INT64_C(86400000)
#define DAYS_MODULO 1024u
#define DAYS_EARLY  1u /* a clock that runs behind, or another server's that runs ahead */
#define CONTENT_MAX 1200u

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* ---- secrets ------------------------------------------------------------------------------ */

enum err srs_secrets_parse(struct srs *s, struct str text)
{
	s->secrets_n = 0;
	while (text.n > 0) {
		struct str line = str_split(text, '\n', &text);
		if (str_ends(line, STR("\r")))
			line.n--;
		line = str_trim(line);
		if (line.n == 0 || line.p[0] == '#')
			continue;
		if (line.n < SRS_SECRET_MIN)
			return ERR_SYNTAX;
		if (s->secrets_n == SRS_SECRETS_MAX)
			return ERR_LIMIT;
		s->secrets[s->secrets_n++] = line;
	}
	return s->secrets_n > 0 ? ERR_NONE : ERR_SYNTAX;
}

/* Of "SRS0" or "SRS1" and what is signed, in lower case: servers on the way may have folded it. */
static enum err sign(struct str secret, const char *tag, struct str text, char hash_out[HASH_CHARS])
{
	char room[CONTENT_MAX + 8];
	struct buf b = buf_fixed(room, sizeof room);
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_n = 0;
	uint64_t bits = 0;
	buf_add(&b, str_z(tag));
	for (size_t i = 0; i < text.n; i++)
		buf_add_char(&b, ascii_lower(text.p[i]));
	TRY(buf_err(&b));
	if (!HMAC(EVP_sha256(), secret.p, (int)secret.n, (const unsigned char *)b.p, b.n, mac,
		  &mac_n) ||
	    mac_n < 5)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < 5; i++)
		bits = bits << 8 | mac[i];
	for (size_t i = HASH_CHARS; i-- > 0; bits >>= 5)
		hash_out[i] = base32[bits & 31];
	return ERR_NONE;
}

/* In time that does not tell how much of it is right. */
static bool same_hash(const char a[HASH_CHARS], struct str given)
{
	unsigned differs = given.n != HASH_CHARS;
	for (size_t i = 0; i < HASH_CHARS && i < given.n; i++)
		differs |= (unsigned char)(ascii_lower(a[i]) ^ ascii_lower(given.p[i]));
	return differs == 0;
}

static enum err verify(const struct srs *s, const char *tag, struct str hash, struct str text,
		       bool *good_out)
{
	*good_out = false;
	for (size_t i = 0; i < s->secrets_n; i++) {
		char wanted[HASH_CHARS];
		enum err e = sign(s->secrets[i], tag, text, wanted);
		if (e != ERR_NONE && e != ERR_LIMIT)
			return e;
		*good_out |= e == ERR_NONE && same_hash(wanted, hash);
	}
	return ERR_NONE;
}

/* ---- days --------------------------------------------------------------------------------- */

static unsigned day_of(int64_t now_ms)
{
	return (unsigned)(now_ms / DAY_MS) % DAYS_MODULO;
}

static int base32_value(char c)
{
	if (c >= '2' && c <= '7')
		return c - '2' + 26;
	c = ascii_lower(c);
	return c >= 'a' && c <= 'z' ? c - 'a' : -1;
}

static bool is_fresh(struct str day, int64_t now_ms)
{
	int high = day.n == DAY_CHARS ? base32_value(day.p[0]) : -1;
	int low = day.n == DAY_CHARS ? base32_value(day.p[1]) : -1;
	if (high < 0 || low < 0)
		return false;
	unsigned then = (unsigned)high << 5 | (unsigned)low;
	unsigned age = (day_of(now_ms) + DAYS_MODULO - then) % DAYS_MODULO;
	return age <= SRS_DAYS || age >= DAYS_MODULO - DAYS_EARLY;
}

/* ---- addresses ---------------------------------------------------------------------------- */

/* A literal may hold an '@', but no '['. */
static bool split_address(struct str address, struct str *local_out, struct str *domain_out)
{
	size_t at = str_rfind(address, '@');
	if (str_ends(address, STR("]")) && str_rfind(address, '[') < address.n)
		at = str_rfind(address, '[') - 1;
	if (at == 0 || at >= address.n - 1 || address.p[at] != '@')
		return false;
	*local_out = str_sub(address, 0, at);
	*domain_out = str_sub(address, at + 1, address.n);
	return true;
}

/* "domain=rest"; the domain may be a literal, in which '=' may stand. */
static bool split_domain(struct str s, struct str *domain_out, struct str *rest_out)
{
	size_t n = s.n > 0 && s.p[0] == '[' ? str_find(s, ']') + 1 : str_find(s, '=');
	*domain_out = str_sub(s, 0, n);
	*rest_out = str_sub(s, n + 1, s.n);
	return n > 0 && n < s.n && s.p[n] == '=' && rest_out->n > 0;
}

/* What follows "SRS0" or "SRS1", with its separator: "=", or in some hands "+" or "-". */
static bool after_tag(struct str content, const char *tag, struct str *rest_out)
{
	*rest_out = str_sub(content, 4, content.n);
	return str_starts_nocase(content, str_z(tag)) && rest_out->n > 1 &&
	       strchr("=+-", rest_out->p[0] ? rest_out->p[0] : '!');
}

/* Of "=HASH=signed". */
static bool split_hash(struct str rest, struct str *hash_out, struct str *signed_out)
{
	*hash_out = str_split(str_sub(rest, 1, rest.n), '=', signed_out);
	return signed_out->n > 0;
}

/* ---- there -------------------------------------------------------------------------------- */

/* What is signed, which begins with the day, and the tag that stands before it. */
static const char *make_signed(struct str content, struct str domain, int64_t now_ms, struct buf *b)
{
	struct str rest, hash, inner, first, tail;
	buf_add_char(b, base32[day_of(now_ms) >> 5]);
	buf_add_char(b, base32[day_of(now_ms) & 31]);
	if (after_tag(content, "SRS1", &rest) && split_hash(rest, &hash, &inner) &&
	    split_domain(inner, &first, &tail)) {
		buf_add(b, inner); /* the second forwarder's hash gives way to ours */
		return "SRS1";
	}
	if (after_tag(content, "SRS0", &rest)) {
		buf_add(b, domain);
		buf_add_char(b, '=');
		buf_add(b, rest);
		return "SRS1";
	}
	buf_add_char(b, '=');
	buf_add(b, domain);
	buf_add_char(b, '=');
	buf_add(b, content);
	return "SRS0";
}

static enum err add_rewritten(const struct srs *s, const char *tag, struct str text, struct buf *b)
{
	char hash[HASH_CHARS], content[CONTENT_MAX + 32], whole[SRS_ADDRESS_MAX];
	struct buf c = buf_fixed(content, sizeof content), w = buf_fixed(whole, sizeof whole);
	TRY(sign(s->secrets[0], tag, text, hash));
	buf_add(&c, str_z(tag));
	buf_add_char(&c, '=');
	if (str_eq(str_z(tag), STR("SRS1"))) {
		buf_add(&c, str_sub(text, 0, DAY_CHARS));
		text = str_sub(text, DAY_CHARS, text.n);
	}
	buf_add(&c, str_of(hash, sizeof hash));
	buf_add_char(&c, '=');
	buf_add(&c, text);
	TRY(buf_err(&c));
	smtp_local_add(&w, buf_str(&c));
	buf_add_char(&w, '@');
	buf_add(&w, s->domain);
	TRY(buf_err(&w));
	buf_add(b, buf_str(&w));
	return buf_err(b);
}

enum err srs_forward(const struct srs *s, struct str address, int64_t now_ms, struct buf *b)
{
	char content_room[CONTENT_MAX], text_room[CONTENT_MAX];
	struct buf content = buf_fixed(content_room, sizeof content_room);
	struct buf text = buf_fixed(text_room, sizeof text_room);
	struct str local, domain;
	if (address.n == 0)
		return ERR_NONE;
	if (!split_address(address, &local, &domain) || s->secrets_n == 0)
		return ERR_SYNTAX;
	if (str_eq_nocase(domain, s->domain)) {
		buf_add(b, address);
		return buf_err(b);
	}
	TRY(smtp_local_content(local, &content));
	const char *tag = make_signed(buf_str(&content), domain, now_ms, &text);
	TRY(buf_err(&text));
	return add_rewritten(s, tag, buf_str(&text), b);
}

/* ---- and back ----------------------------------------------------------------------------- */

static void add_address(struct buf *b, struct str content, struct str domain)
{
	smtp_local_add(b, content);
	buf_add_char(b, '@');
	buf_add(b, domain);
}

static enum err reverse_first(const struct srs *s, struct str rest, int64_t now_ms, struct buf *b,
			      enum srs_verdict *verdict_out)
{
	struct str hash, text, day, inner, domain, content;
	bool good;
	if (!split_hash(rest, &hash, &text))
		return ERR_NONE;
	TRY(verify(s, "SRS0", hash, text, &good));
	day = str_split(text, '=', &inner);
	if (!good || !split_domain(inner, &domain, &content)) {
		*verdict_out = SRS_BAD_HASH;
	} else if (!is_fresh(day, now_ms)) {
		*verdict_out = SRS_EXPIRED;
	} else {
		*verdict_out = SRS_OK;
		add_address(b, content, domain);
	}
	return buf_err(b);
}

static enum err reverse_second(const struct srs *s, struct str rest, int64_t now_ms, struct buf *b,
			       enum srs_verdict *verdict_out)
{
	char room[CONTENT_MAX + DAY_CHARS];
	struct buf content = buf_fixed(room, sizeof room);
	struct str hash, text, first, tail;
	bool good;
	if (!split_hash(rest, &hash, &text))
		return ERR_NONE;
	struct str day = str_sub(hash, 0, DAY_CHARS);
	buf_add(&content, day);
	buf_add(&content, text);
	TRY(buf_err(&content));
	TRY(verify(s, "SRS1", str_sub(hash, DAY_CHARS, hash.n), buf_str(&content), &good));
	if (!good || !split_domain(text, &first, &tail)) {
		*verdict_out = SRS_BAD_HASH;
		return ERR_NONE;
	}
	if (!is_fresh(day, now_ms)) {
		*verdict_out = SRS_EXPIRED;
		return ERR_NONE;
	}
	*verdict_out = SRS_OK;
	buf_clear(&content);
	buf_add(&content, STR("SRS0"));
	buf_add(&content, tail);
	TRY(buf_err(&content));
	add_address(b, buf_str(&content), first);
	return buf_err(b);
}

enum err srs_reverse(const struct srs *s, struct str address, int64_t now_ms, struct buf *b,
		     enum srs_verdict *verdict_out)
{
	char room[CONTENT_MAX];
	struct buf content = buf_fixed(room, sizeof room);
	struct str local, domain, rest;
	*verdict_out = SRS_NONE;
	if (!split_address(address, &local, &domain) || !str_eq_nocase(domain, s->domain) ||
	    smtp_local_content(local, &content) != ERR_NONE)
		return ERR_NONE;
	if (after_tag(buf_str(&content), "SRS0", &rest))
		return reverse_first(s, rest, now_ms, b, verdict_out);
	if (after_tag(buf_str(&content), "SRS1", &rest))
		return reverse_second(s, rest, now_ms, b, verdict_out);
	return ERR_NONE;
}
