/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS for the simulator: see backend.h. The zone is a file that the scenario's `dns { }` made; it is
 * read at each question, so that a scenario can change it.
 */
#include "resolver/backend.h"

#define ZONE_MAX ((size_t)1 << 20)
#define WORDS_MAX 8u
#define TTL 300u

struct backend {
	struct world *w;
	struct mem *mem;
	int dir_fd;
};

struct line {
	struct str words[WORDS_MAX];
	size_t n;
};

static YIELDS enum err fake_open(const struct backend_config *cfg, struct world_jail *jail_out,
				 struct backend **b_out) /* yields: indirect */
{
	static const struct str dir = { BACKEND_FAKE_DIR, sizeof BACKEND_FAKE_DIR - 1 };
	struct backend *b = mem_alloc(cfg->mem, sizeof *b);
	if (!b)
		return ERR_NO_MEMORY;
	*b = (struct backend){ .w = cfg->w, .mem = cfg->mem };
	enum err e = world_open(b->w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &b->dir_fd);
	if (e != ERR_NONE) {
		mem_free(b->mem, b);
		return e;
	}
	jail_out->may = WORLD_MAY_FILES;
	jail_out->dirs = &dir;
	jail_out->dir_count = 1;
	*b_out = b;
	return ERR_NONE;
}

static void fake_close(struct backend *b)
{
	world_close(b->w, b->dir_fd);
	mem_free(b->mem, b);
}

static struct line split(struct str text)
{
	struct line l = { .n = 0 };
	while (text.n > 0 && l.n < WORDS_MAX)
		l.words[l.n++] = str_split(text, '\t', &text);
	return l;
}

static bool word_is(const struct line *l, size_t i, const char *word)
{
	return i < l->n && str_eq_nocase(l->words[i], str_z(word));
}

static uint64_t number(const struct line *l, size_t i)
{
	uint64_t v = 0;
	return i < l->n && str_to_u64(l->words[i], 65535, &v) == ERR_NONE ? v : 0;
}

static struct str from_hex(struct arena *a, struct str hex)
{
	char *p = arena_alloc(a, hex.n / 2 + 1);
	for (size_t i = 0; p && i < hex.n / 2 * 2; i++) {
		char c = ascii_lower(hex.p[i]);
		unsigned digit = (unsigned)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10) & 15;
		p[i / 2] = (char)(i % 2 ? (unsigned char)p[i / 2] | digit : digit << 4);
	}
	return str_of(p, p ? hex.n / 2 : 0);
}

/* Answers name "." in MX with an empty host (RFC 7505). */
static struct str host(struct arena *a, struct str s)
{
	return str_eq(s, STR(".")) ? STR("") : arena_str(a, s);
}

/* One record of the asked type. */
static void take(const struct line *l, enum dns_type type, struct arena *a, struct dns_lookup_out *out)
{
	struct str value = l->n > 2 ? l->words[2] : STR("");
	struct ip ip;
	switch (type) {
	case DNS_TYPE_A:
	case DNS_TYPE_AAAA:
		if (out->addresses_n < 64 && ip_parse(value, &ip) == ERR_NONE)
			out->addresses[out->addresses_n++] = ip;
		break;
	case DNS_TYPE_MX:
		if (out->mx_n < 64 && l->n > 3)
			out->mx[out->mx_n++] = (struct dns_mx){ (uint16_t)number(l, 2), host(a, l->words[3]) };
		break;
	case DNS_TYPE_TXT:
		if (out->texts_n < 100)
			out->texts[out->texts_n++] = (struct dns_text){ arena_str(a, value) };
		break;
	case DNS_TYPE_TLSA:
		if (out->tlsa_n < 100 && l->n > 5)
			out->tlsa[out->tlsa_n++] = (struct dns_tlsa){ (uint8_t)number(l, 2), (uint8_t)number(l, 3),
								      (uint8_t)number(l, 4), from_hex(a, l->words[5]) };
		break;
	default:
		if (out->names_n < 16)
			out->names[out->names_n++] = (struct dns_name){ arena_str(a, value) };
	}
}

static enum err make_room(struct arena *a, struct dns_lookup_out *out)
{
	out->addresses = ARENA_ARRAY(a, struct ip, 64);
	out->mx = ARENA_ARRAY(a, struct dns_mx, 64);
	out->texts = ARENA_ARRAY(a, struct dns_text, 100);
	out->tlsa = ARENA_ARRAY(a, struct dns_tlsa, 100);
	out->names = ARENA_ARRAY(a, struct dns_name, 16);
	return arena_err(a);
}

/* Looks at all lines of one name. *next_out: where its CNAME leads to, or empty; *silent_out: it never answers. */
static void look(struct str zone, struct str name, enum dns_type type, struct arena *a, struct dns_lookup_out *out,
		 struct str *next_out, bool *silent_out)
{
	bool secure = true;
	out->status = DNS_STATUS_NO_NAME;
	*next_out = STR("");
	while (zone.n > 0) {
		struct line l = split(str_split(zone, '\n', &zone));
		if (l.n < 2 || !str_eq_nocase(l.words[0], name))
			continue;
		if (out->status == DNS_STATUS_NO_NAME)
			out->status = DNS_STATUS_NO_DATA;
		bool fits = word_is(&l, 1, dns_type_name(type));
		if (word_is(&l, 1, "FAIL"))
			dns_fail(out, STR("the name servers fail"), 0);
		else if (word_is(&l, 1, "BOGUS"))
			*out = (struct dns_lookup_out){ .status = DNS_STATUS_BOGUS, .why = STR("signature does not fit") };
		else if (fits)
			out->status = DNS_STATUS_FOUND;
		else if (word_is(&l, 1, "CNAME") && l.n > 2)
			*next_out = l.words[2];
		*silent_out |= word_is(&l, 1, "SILENT");
		if (fits)
			take(&l, type, a, out);
		secure &= word_is(&l, l.n - 1, "SECURE");
	}
	out->secure = secure && out->status != DNS_STATUS_NO_NAME && out->status < DNS_STATUS_FAILED;
}

static YIELDS enum err fake_ask(struct backend *b, struct str name, enum dns_type type, struct arena *arena,
				struct dns_lookup_out *out)
{
	struct buf zone = buf_grow(b->mem, ZONE_MAX + 2);
	bool silent = false, secure = true;
	struct str next = name;
	enum err e = world_read_file(b->w, b->dir_fd, STR("zone"), ZONE_MAX, &zone);
	struct str text = e == ERR_NONE ? arena_str(arena, buf_str(&zone)) : STR("");
	buf_free(&zone);
	if (e != ERR_NONE && e != ERR_NOT_FOUND)
		return e;
	for (unsigned links = 0; next.n > 0 && links <= DNS_CHAIN_MAX; links++) {
		name = next;
		*out = (struct dns_lookup_out){ .ttl = TTL };
		TRY(make_room(arena, out));
		look(text, name, type, arena, out, &next, &silent);
		secure &= out->secure;
		if (out->status != DNS_STATUS_NO_DATA)
			break;
	}
	out->canonical = out->status < DNS_STATUS_FAILED ? arena_str(arena, name) : STR("");
	out->secure = secure;
	while (silent) /* until the deadline */
		TRY(co_sleep_until(NEVER));
	if (next.n > 0 && out->status == DNS_STATUS_NO_DATA)
		dns_fail(out, STR("the chain of CNAMEs is too long or runs in a circle"), 0);
	return arena_err(arena);
}

const struct backend_ops backend_recursive = {
	.caches = true, /* nothing is remembered: a scenario may change the zone */
	.open = fake_open,
	.ask = fake_ask,
	.close = fake_close,
};
