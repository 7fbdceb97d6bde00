/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and answers: see dns.h, whose N1–N4 are referred to here. Every byte of an answer is a
 * stranger's.
 */
#include "dns/dns.h"

#include "dns/wire.h"

#define HEAD_BYTES 12u
#define FLAG_ANSWER 0x8000u
#define FLAG_TRUNCATED 0x0200u
#define FLAG_RECURSE 0x0100u
#define FLAG_RECURSES 0x0080u
#define FLAG_VALIDATED 0x0020u
#define OPCODE_BITS 0x7800u
#define RCODE_BITS 0x000fu
#define CLASS_IN 1u
#define RCODE_NAME_ERROR 3u
#define TYPE_NS 2u
#define TYPE_CNAME 5u
#define TYPE_SOA 6u
#define TYPE_OPT 41u

#define ADDRESSES_MAX 64u
#define MX_MAX 64u
#define TEXTS_MAX 100u
#define NAMES_MAX 16u
#define TLSA_MAX 100u
#define TEXT_BYTES_MAX 4096u
#define TLSA_BYTES_MAX 4096u
#define ANSWER_BYTES_MAX 49152u /* of all TXT or TLSA: with the rest it fits into one call */
#define FAILED_TTL 5u

/* The answer while it is read. */
struct reader {
	struct wire w;
	struct arena *arena;
	struct dns_lookup_out *out;
	enum dns_type type;
	unsigned flags, rcode;
	uint16_t answers, authorities, additionals;
	size_t answers_at, authorities_at;
	struct wire_name at; /* the name that the chain has led to */
	uint32_t ttl;
	size_t seen;	     /* records of the type at that name */
	size_t bytes;	     /* of what was kept of TXT and TLSA */
	bool chained;	     /* a CNAME was followed */
	const char *wrong;   /* why it is `failed`; NULL: it is not */
};

uint16_t dns_type_number(enum dns_type type)
{
	static const uint16_t numbers[] = {
		[DNS_TYPE_A] = 1,    [DNS_TYPE_AAAA] = 28, [DNS_TYPE_MX] = 15,	 [DNS_TYPE_TXT] = 16,
		[DNS_TYPE_PTR] = 12, [DNS_TYPE_TLSA] = 52, [DNS_TYPE_CNAME] = TYPE_CNAME,
	};
	return (size_t)type < sizeof numbers / sizeof numbers[0] ? numbers[type] : 0;
}

bool dns_name_is_valid(struct str name)
{
	struct wire_name wire;
	return wire_name_of(name, &wire) == ERR_NONE;
}

void dns_fail(struct dns_lookup_out *out, struct str why, uint32_t ttl)
{
	*out = (struct dns_lookup_out){ .status = DNS_STATUS_FAILED, .why = str_sub(why, 0, 200), .ttl = ttl };
}

/* ---- questions ---------------------------------------------------------------------------------------- */

enum err dns_write_query(struct buf *b, uint16_t id, struct str name, enum dns_type type)
{
	struct wire_name wire;
	TRY(wire_name_of(name, &wire));
	const uint16_t head[] = { id, FLAG_RECURSE | FLAG_VALIDATED, 1, 0, 0, 1 };
	for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
		wire_put_u16(b, head[i]);
	buf_add(b, str_of((const char *)wire.b, wire.n));
	wire_put_u16(b, dns_type_number(type));
	wire_put_u16(b, CLASS_IN);
	/* RFC 6891 §6.1.2: the root's name, OPT, our size, version and flags 0, no options */
	buf_add_char(b, '\0');
	wire_put_u16(b, TYPE_OPT);
	wire_put_u16(b, DNS_UDP_BYTES);
	for (size_t i = 0; i < 3; i++)
		wire_put_u16(b, 0);
	return buf_err(b);
}

/* The question section holds this question and no other. */
static bool read_question(struct wire *w, uint16_t count, const struct wire_name *name, enum dns_type type)
{
	struct wire_name asked;
	if (count != 1)
		return false;
	wire_read_name(w, &asked);
	uint16_t number = wire_u16(w);
	uint16_t class = wire_u16(w);
	return !w->bad && wire_name_eq(&asked, name) && number == dns_type_number(type) && class == CLASS_IN;
}

enum err dns_check(struct str packet, uint16_t id, struct str name, enum dns_type type, struct dns_head *head_out)
{
	struct wire w = { .packet = packet };
	struct wire_name wire;
	TRY(wire_name_of(name, &wire));
	uint16_t got = wire_u16(&w), flags = wire_u16(&w), questions = wire_u16(&w);
	w.at = HEAD_BYTES;
	if (w.bad || got != id || !(flags & FLAG_ANSWER) || flags & OPCODE_BITS || !read_question(&w, questions, &wire, type))
		return ERR_SYNTAX;
	head_out->truncated = flags & FLAG_TRUNCATED;
	head_out->validated = flags & FLAG_VALIDATED;
	return ERR_NONE;
}

/* ---- one record ---------------------------------------------------------------------------------------- */

/* The name at the reader's place as text in the arena; {NULL,0}: it holds odd bytes, or there is no memory. */
static struct str take_name(struct reader *r, struct wire *w, const char *also)
{
	struct wire_name name;
	char text[DNS_NAME_MAX + 1];
	struct buf b = buf_fixed(text, sizeof text);
	wire_read_name(w, &name);
	if (w->bad || wire_name_text(&name, also, &b) != ERR_NONE)
		return STR_NONE;
	return b.n ? arena_str(r->arena, buf_str(&b)) : STR("");
}

static void take_address(struct reader *r, const struct wire_record *rec)
{
	struct dns_lookup_out *out = r->out;
	size_t n = r->type == DNS_TYPE_A ? 4 : 16;
	if (rec->data_end - rec->data != n) {
		r->wrong = "an address record has the wrong length";
		return;
	}
	if (out->addresses_n == ADDRESSES_MAX)
		return; /* N3 */
	struct ip ip = { .family = n == 4 ? IP_V4 : IP_V6, .bits = (uint8_t)(n * 8) };
	memcpy(ip.b, r->w.packet.p + rec->data, n);
	out->addresses[out->addresses_n++] = ip;
}

/* Keeps the best ones; among equals the first (N3). */
static void keep_mx(struct dns_lookup_out *out, struct dns_mx mx)
{
	if (out->mx_n < MX_MAX) {
		out->mx[out->mx_n++] = mx;
		return;
	}
	size_t worst = 0;
	for (size_t i = 1; i < out->mx_n; i++)
		if (out->mx[i].preference >= out->mx[worst].preference)
			worst = i;
	if (mx.preference >= out->mx[worst].preference)
		return;
	memmove(&out->mx[worst], &out->mx[worst + 1], (out->mx_n - worst - 1) * sizeof mx);
	out->mx[out->mx_n - 1] = mx;
}

static void take_mx(struct reader *r, const struct wire_record *rec)
{
	struct wire w = { .packet = str_sub(r->w.packet, 0, rec->data_end), .at = rec->data };
	struct dns_mx mx = { .preference = wire_u16(&w) };
	mx.host = take_name(r, &w, "");
	if (w.bad || w.at != rec->data_end)
		r->wrong = "an MX record is malformed";
	else if (mx.host.p)
		keep_mx(r->out, mx); /* the root: "" (RFC 7505) */
}

static void take_target(struct reader *r, const struct wire_record *rec)
{
	struct wire w = { .packet = str_sub(r->w.packet, 0, rec->data_end), .at = rec->data };
	struct str name = take_name(r, &w, r->type == DNS_TYPE_CNAME ? "/" : "");
	if (w.bad || w.at != rec->data_end)
		r->wrong = "a record's name is malformed";
	else if (name.n > 0 && r->out->names_n < NAMES_MAX)
		r->out->names[r->out->names_n++] = (struct dns_name){ name };
}

/* RFC 1035 §3.3.14: one or more character-strings. */
static void take_text(struct reader *r, const struct wire_record *rec)
{
	struct wire w = { .packet = str_sub(r->w.packet, 0, rec->data_end), .at = rec->data };
	char joined[TEXT_BYTES_MAX];
	struct buf b = buf_fixed(joined, sizeof joined);
	while (!w.bad && w.at < rec->data_end) {
		size_t n = wire_u8(&w);
		w.bad |= n > rec->data_end - w.at;
		if (!w.bad)
			buf_add(&b, str_sub(w.packet, w.at, w.at + n));
		w.at += n;
	}
	r->bytes += b.n;
	if (w.bad || rec->data == rec->data_end)
		r->wrong = "a TXT record is malformed";
	else if (buf_err(&b) != ERR_NONE)
		r->wrong = "a TXT record is longer than 4096 bytes";
	else if (r->out->texts_n == TEXTS_MAX || r->bytes > ANSWER_BYTES_MAX)
		r->wrong = "there are too many TXT records";
	else
		r->out->texts[r->out->texts_n++] = (struct dns_text){ b.n ? arena_str(r->arena, buf_str(&b)) : STR("") };
}

static void take_tlsa(struct reader *r, const struct wire_record *rec)
{
	struct wire w = { .packet = str_sub(r->w.packet, 0, rec->data_end), .at = rec->data };
	struct dns_tlsa t = { .usage = wire_u8(&w), .selector = wire_u8(&w), .matching = wire_u8(&w) };
	struct str data = w.bad ? STR("") : str_sub(w.packet, w.at, rec->data_end);
	/* RFC 7672 §3.1: what cannot be used is unusable, not absent: it stays, and says so by no data */
	data = data.n > TLSA_BYTES_MAX ? STR("") : data;
	r->bytes += data.n;
	if (w.bad)
		r->wrong = "a TLSA record is malformed";
	else if (r->out->tlsa_n == TLSA_MAX || r->bytes > ANSWER_BYTES_MAX)
		r->wrong = "there are too many TLSA records";
	else {
		t.data = data.n ? arena_str(r->arena, data) : STR("");
		r->out->tlsa[r->out->tlsa_n++] = t;
	}
}

static void take_record(struct reader *r, const struct wire_record *rec)
{
	static void (*const takers[])(struct reader *r, const struct wire_record *rec) = {
		[DNS_TYPE_A] = take_address, [DNS_TYPE_AAAA] = take_address, [DNS_TYPE_MX] = take_mx,
		[DNS_TYPE_TXT] = take_text,  [DNS_TYPE_PTR] = take_target,   [DNS_TYPE_TLSA] = take_tlsa,
		[DNS_TYPE_CNAME] = take_target,
	};
	r->seen++;
	takers[r->type](r, rec);
}

/* ---- the chain of names --------------------------------------------------------------------------------- */

static void lower_ttl(struct reader *r, uint32_t ttl)
{
	if (ttl < r->ttl)
		r->ttl = ttl;
}

/* Takes all records of the type at the present name; *next_out: where a CNAME there leads to. */
static bool scan_answers(struct reader *r, struct wire_name *next_out)
{
	uint16_t number = dns_type_number(r->type);
	struct wire_record rec;
	bool alias = false;
	r->w.at = r->answers_at;
	for (unsigned i = 0; i < r->answers && !r->wrong; i++) {
		wire_read_record(&r->w, &rec);
		if (r->w.bad || rec.class != CLASS_IN || !wire_name_eq(&rec.owner, &r->at))
			continue;
		if (rec.type == number) {
			lower_ttl(r, rec.ttl);
			take_record(r, &rec);
		} else if (rec.type == TYPE_CNAME && !alias) {
			struct wire w = { .packet = str_sub(r->w.packet, 0, rec.data_end), .at = rec.data };
			wire_read_name(&w, next_out);
			if (w.bad || w.at != rec.data_end)
				r->wrong = "a CNAME record is malformed";
			lower_ttl(r, rec.ttl);
			alias = true;
		}
	}
	return alias && r->seen == 0;
}

static void follow_chain(struct reader *r)
{
	struct wire_name next;
	for (unsigned links = 0; !r->wrong && scan_answers(r, &next) && !r->wrong; links++) {
		if (links == DNS_CHAIN_MAX)
			r->wrong = "the chain of CNAMEs is too long or runs in a circle";
		r->at = next;
		r->chained = true;
	}
	char text[DNS_NAME_MAX + 1];
	struct buf b = buf_fixed(text, sizeof text);
	if (wire_name_text(&r->at, "/", &b) != ERR_NONE || b.n == 0)
		r->wrong = r->wrong ? r->wrong : "a CNAME leads to a name that is none";
	else
		r->out->canonical = arena_str(r->arena, buf_str(&b));
}

/* ---- the other sections ---------------------------------------------------------------------------------- */

/* Reads every record once, so that what follows knows them to be whole; finds OPT's half of the code. */
static void walk_sections(struct reader *r)
{
	struct wire_record rec;
	unsigned in_all = (unsigned)r->answers + r->authorities + r->additionals;
	r->answers_at = r->w.at;
	for (unsigned i = 0; i < in_all && !r->w.bad; i++) {
		if (i == r->answers)
			r->authorities_at = r->w.at;
		wire_read_record(&r->w, &rec);
		/* RFC 6891 §6.1.3: BADVERS would else read as code 0 */
		if (!r->w.bad && rec.type == TYPE_OPT && i >= (unsigned)r->answers + r->authorities)
			r->rcode |= rec.ttl >> 24 << 4;
	}
	if (r->w.bad)
		r->wrong = "the answer is malformed";
}

/* RFC 2308 §5: the lesser of the SOA's TTL and its last field. Without SOA it should not be cached, and
 * what stands there instead may say that this is no answer. */
static uint32_t negative_ttl(struct reader *r)
{
	struct wire_record rec;
	struct wire_name name;
	bool ns = false;
	r->w.at = r->authorities_at;
	for (unsigned i = 0; i < r->authorities; i++) {
		wire_read_record(&r->w, &rec);
		ns |= rec.type == TYPE_NS;
		if (rec.type != TYPE_SOA || rec.class != CLASS_IN)
			continue;
		struct wire w = { .packet = str_sub(r->w.packet, 0, rec.data_end), .at = rec.data };
		wire_read_name(&w, &name);
		wire_read_name(&w, &name);
		w.at += 16;
		uint32_t minimum = wire_u32(&w);
		uint32_t ttl = w.bad || minimum >> 31 ? 0 : minimum < rec.ttl ? minimum : rec.ttl;
		return ttl < DNS_TTL_NEGATIVE_MAX ? ttl : DNS_TTL_NEGATIVE_MAX;
	}
	if (ns)
		r->wrong = "the name server sent a referral instead of an answer";
	else if (r->chained && !(r->flags & FLAG_RECURSES))
		r->wrong = "the name server did not follow a CNAME to its end";
	return 0;
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

static const char *rcode_trouble(const struct reader *r)
{
	switch (r->rcode) {
	case 0:
	case RCODE_NAME_ERROR:
		return NULL;
	case 1:
		return "the name server could not read the question (FORMERR)";
	case 2:
		return "the name server failed (SERVFAIL)";
	case 4:
		return "the name server does not answer such questions (NOTIMP)";
	case 5:
		return "the name server refused to answer (REFUSED)";
	default:
		return "the name server answered with an unknown code";
	}
}

static void read_head(struct reader *r, struct str name)
{
	(void)wire_u16(&r->w);
	r->flags = wire_u16(&r->w);
	uint16_t questions = wire_u16(&r->w);
	r->answers = wire_u16(&r->w);
	r->authorities = wire_u16(&r->w);
	r->additionals = wire_u16(&r->w);
	r->rcode = r->flags & RCODE_BITS;
	if (wire_name_of(name, &r->at) != ERR_NONE)
		r->wrong = "the question's name is not a domain name";
	else if (r->w.bad || !(r->flags & FLAG_ANSWER) || !read_question(&r->w, questions, &r->at, r->type))
		r->wrong = "the answer is to another question";
	else if (r->flags & FLAG_TRUNCATED)
		r->wrong = "the answer is truncated";
	else
		walk_sections(r);
	if (!r->wrong)
		r->wrong = rcode_trouble(r);
}

static enum err make_room(struct reader *r)
{
	struct dns_lookup_out *out = r->out;
	struct arena *a = r->arena;
	switch (r->type) {
	case DNS_TYPE_A:
	case DNS_TYPE_AAAA:
		out->addresses = ARENA_ARRAY(a, struct ip, ADDRESSES_MAX);
		break;
	case DNS_TYPE_MX:
		out->mx = ARENA_ARRAY(a, struct dns_mx, MX_MAX);
		break;
	case DNS_TYPE_TXT:
		out->texts = ARENA_ARRAY(a, struct dns_text, TEXTS_MAX);
		break;
	case DNS_TYPE_TLSA:
		out->tlsa = ARENA_ARRAY(a, struct dns_tlsa, TLSA_MAX);
		break;
	default:
		out->names = ARENA_ARRAY(a, struct dns_name, NAMES_MAX);
	}
	return arena_err(a);
}

static bool kept_any(const struct dns_lookup_out *out)
{
	return out->addresses_n + out->mx_n + out->texts_n + out->names_n + out->tlsa_n > 0;
}

/* N1. */
static void conclude(struct reader *r)
{
	if (r->seen > 0) {
		r->out->status = DNS_STATUS_FOUND;
		r->out->ttl = r->ttl;
		if (r->rcode != 0)
			r->wrong = "the name server sent data and says that there is no such name";
		else if (!kept_any(r->out))
			r->wrong = "the records hold no usable name"; /* N2 */
		return;
	}
	uint32_t ttl = negative_ttl(r);
	r->out->ttl = ttl < r->ttl ? ttl : r->ttl;
	r->out->status = r->rcode == RCODE_NAME_ERROR ? DNS_STATUS_NO_NAME : DNS_STATUS_NO_DATA;
}

enum err dns_read(struct str packet, struct str name, enum dns_type type, struct arena *arena, struct dns_lookup_out *out)
{
	struct reader r = { .w = { .packet = packet }, .arena = arena, .out = out, .type = type, .ttl = DNS_TTL_MAX };
	*out = (struct dns_lookup_out){ 0 };
	if (dns_type_number(type) == 0) {
		dns_fail(out, STR("the question's type is unknown"), 0);
		return ERR_NONE;
	}
	TRY(make_room(&r));
	read_head(&r, name);
	if (!r.wrong)
		follow_chain(&r);
	if (!r.wrong)
		conclude(&r);
	if (r.wrong)
		dns_fail(out, str_z(r.wrong), FAILED_TTL);
	return arena_err(arena);
}
