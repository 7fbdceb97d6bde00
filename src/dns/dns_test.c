/* SPDX-License-Identifier: Apache-2.0 */
/* Answers by hand: what they mean (N1–N4 of dns.h), and the hostile ones of H83. */
#include "base/test.h"
#include "dns/dns.h"
#include "dns/wire.h"

#define PACKET_MAX 65535u
#define NAME "www.example.net"
#define AT_QUESTION "\xc0\x0c" /* a pointer to the question's name */

struct packet {
	char bytes[PACKET_MAX];
	struct buf b;
	struct mem *mem;
	struct arena arena;
	struct dns_lookup_out out;
};

static void set_u16(struct packet *p, size_t at, unsigned v)
{
	p->bytes[at] = (char)(v >> 8);
	p->bytes[at + 1] = (char)v;
}

/* flags, and the counts of answers, authorities and additionals; the question is NAME with this type */
static struct packet *packet_of(unsigned flags, enum dns_type type, unsigned an, unsigned ns, unsigned ar)
{
	struct mem *mem = mem_new(0);
	struct packet *p = mem_alloc(mem, sizeof *p);
	assert_non_null(p);
	p->mem = mem;
	p->arena = arena_make(mem, 1 << 20);
	p->b = buf_fixed(p->bytes, sizeof p->bytes);
	assert_int_equal(dns_write_query(&p->b, 0x1234, STR(NAME), type), ERR_NONE);
	p->b.n -= 11; /* OPT */
	set_u16(p, 2, flags);
	set_u16(p, 6, an);
	set_u16(p, 8, ns);
	set_u16(p, 10, ar);
	return p;
}

static void record(struct packet *p, struct str owner, unsigned type, uint32_t ttl, struct str data)
{
	buf_add(&p->b, owner);
	wire_put_u16(&p->b, (uint16_t)type);
	wire_put_u16(&p->b, 1);
	wire_put_u16(&p->b, (uint16_t)(ttl >> 16));
	wire_put_u16(&p->b, (uint16_t)ttl);
	wire_put_u16(&p->b, (uint16_t)data.n);
	buf_add(&p->b, data);
	assert_int_equal(buf_err(&p->b), ERR_NONE);
}

static void soa(struct packet *p, uint32_t ttl, unsigned minimum)
{
	char data[22] = { 0 };
	data[20] = (char)(minimum >> 8);
	data[21] = (char)minimum;
	record(p, STR(AT_QUESTION), 6, ttl, str_of(data, sizeof data));
}

static const struct dns_lookup_out *read_it(struct packet *p, enum dns_type type)
{
	assert_int_equal(dns_read(buf_str(&p->b), STR(NAME), type, &p->arena, &p->out), ERR_NONE);
	return &p->out;
}

static void assert_fails(struct packet *p, enum dns_type type, const char *why)
{
	const struct dns_lookup_out *out = read_it(p, type);
	assert_int_equal(out->status, DNS_STATUS_FAILED);
	if (str_find_str(out->why, str_z(why)) == out->why.n)
		fail_msg("'%.*s' does not say '%s'", STR_ARG(out->why), why);
	assert_int_equal(out->addresses_n + out->mx_n + out->texts_n + out->names_n + out->tlsa_n, 0);
}

static void done(struct packet *p)
{
	struct mem *mem = p->mem;
	arena_close(&p->arena);
	mem_destroy(mem);
}

static void reads_addresses(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_A, 2, 0, 0);
	record(p, STR(AT_QUESTION), 1, 300, STR("\xc0\x00\x02\x01"));
	record(p, STR("\3WWW\7Example\3net\0"), 1, 200, STR("\xc0\x00\x02\x02"));
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_A);
	assert_int_equal(out->status, DNS_STATUS_FOUND);
	assert_int_equal(out->addresses_n, 2);
	assert_int_equal(out->addresses[1].family, IP_V4);
	assert_int_equal(out->addresses[1].b[3], 2);
	assert_int_equal(out->addresses[1].port, 0);
	assert_int_equal(out->ttl, 200);
	assert_str(out->canonical, STR(NAME));
	assert_false(out->secure);
	done(p);
	p = packet_of(0x8180, DNS_TYPE_AAAA, 1, 0, 0);
	record(p, STR(AT_QUESTION), 28, 1u << 30, STR("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"));
	out = read_it(p, DNS_TYPE_AAAA);
	assert_int_equal(out->addresses[0].family, IP_V6);
	assert_int_equal(out->ttl, DNS_TTL_MAX);
	done(p);
}

static void follows_a_chain(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_A, 3, 0, 0);
	record(p, STR("\1b" AT_QUESTION), 1, 300, STR("\xc0\x00\x02\x07")); /* the order is free */
	record(p, STR("\1a\0"), 5, 50, STR("\1b" AT_QUESTION));
	record(p, STR(AT_QUESTION), 5, 100, STR("\1A\0"));
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_A);
	assert_int_equal(out->status, DNS_STATUS_FOUND);
	assert_str(out->canonical, STR("b." NAME));
	assert_int_equal(out->ttl, 50);
	done(p);
	p = packet_of(0x8180, DNS_TYPE_CNAME, 1, 0, 0);
	record(p, STR(AT_QUESTION), 5, 100, STR("\4""0/25\1x\0")); /* RFC 2317 */
	out = read_it(p, DNS_TYPE_CNAME);
	assert_int_equal(out->names_n, 1);
	assert_str(out->names[0].name, STR("0/25.x"));
	assert_str(out->canonical, STR(NAME));
	done(p);
}

static void reads_mx(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_MX, 3, 0, 0);
	record(p, STR(AT_QUESTION), 15, 300, STR("\0\x14\3mx2" AT_QUESTION));
	record(p, STR(AT_QUESTION), 15, 300, STR("\0\x0a\3MX1" AT_QUESTION));
	record(p, STR(AT_QUESTION), 15, 300, STR("\0\x05\5m x;\n" AT_QUESTION)); /* N2: left out */
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_MX);
	assert_int_equal(out->status, DNS_STATUS_FOUND);
	assert_int_equal(out->mx_n, 2);
	assert_int_equal(out->mx[0].preference, 20);
	assert_str(out->mx[0].host, STR("mx2." NAME));
	assert_str(out->mx[1].host, STR("mx1." NAME));
	done(p);
	p = packet_of(0x8180, DNS_TYPE_MX, 1, 0, 0);
	record(p, STR(AT_QUESTION), 15, 300, STR("\0\0\0")); /* null MX (RFC 7505) */
	out = read_it(p, DNS_TYPE_MX);
	assert_int_equal(out->mx_n, 1);
	assert_int_equal(out->mx[0].host.n, 0);
	done(p);
}

static void joins_texts(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_TXT, 2, 0, 0);
	record(p, STR(AT_QUESTION), 16, 300, STR("\5v=spf\7""1 -all\n\0"));
	record(p, STR(AT_QUESTION), 16, 300, STR("\0"));
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_TXT);
	assert_int_equal(out->texts_n, 2);
	assert_str(out->texts[0].text, STR("v=spf1 -all\n"));
	assert_int_equal(out->texts[1].text.n, 0);
	done(p);
}

static void reads_tlsa_and_ptr(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_TLSA, 1, 0, 0);
	record(p, STR(AT_QUESTION), 52, 300, STR("\3\1\1\xaa\xbb\0"));
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_TLSA);
	assert_int_equal(out->tlsa_n, 1);
	assert_int_equal(out->tlsa[0].usage, 3);
	assert_int_equal(out->tlsa[0].matching, 1);
	assert_str(out->tlsa[0].data, STR("\xaa\xbb\0"));
	done(p);
	p = packet_of(0x8180, DNS_TYPE_PTR, 3, 0, 0);
	record(p, STR(AT_QUESTION), 12, 300, STR("\5ev\r\nl\0"));
	record(p, STR(AT_QUESTION), 12, 300, STR("\4good\0"));
	record(p, STR(AT_QUESTION), 12, 300, STR("\4a.b;\0"));
	out = read_it(p, DNS_TYPE_PTR);
	assert_int_equal(out->names_n, 1);
	assert_str(out->names[0].name, STR("good"));
	done(p);
}

/* N1, RFC 2308. */
static void tells_nothing_from_no_name(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_A, 0, 1, 0);
	soa(p, 3000, 120);
	assert_int_equal(read_it(p, DNS_TYPE_A)->status, DNS_STATUS_NO_DATA);
	assert_int_equal(p->out.ttl, 120);
	done(p);
	p = packet_of(0x8183, DNS_TYPE_A, 0, 1, 0);
	soa(p, 3000, 20000);
	assert_int_equal(read_it(p, DNS_TYPE_A)->status, DNS_STATUS_NO_NAME);
	assert_int_equal(p->out.ttl, DNS_TTL_NEGATIVE_MAX);
	done(p);
	p = packet_of(0x8183, DNS_TYPE_A, 1, 0, 0);
	record(p, STR(AT_QUESTION), 5, 30, STR("\1x\0"));
	assert_int_equal(read_it(p, DNS_TYPE_A)->status, DNS_STATUS_NO_NAME);
	assert_str(p->out.canonical, STR("x"));
	assert_int_equal(p->out.ttl, 0); /* no SOA */
	done(p);
	p = packet_of(0x8183, DNS_TYPE_A, 1, 0, 0);
	record(p, STR(AT_QUESTION), 1, 30, STR("\1\2\3\4"));
	assert_fails(p, DNS_TYPE_A, "says that there is no such name");
	done(p);
}

static void fails_by_code(void **state)
{
	static const struct {
		unsigned flags;
		const char *why;
	} table[] = { { 0x8181, "FORMERR" }, { 0x8182, "SERVFAIL" },  { 0x8184, "NOTIMP" },	  { 0x8185, "REFUSED" },
		      { 0x8186, "unknown" }, { 0x8380, "truncated" }, { 0x8383, "truncated" }, { 0x0180, "another question" } };
	for (size_t i = 0; i < COUNT(table); i++) {
		struct packet *p = packet_of(table[i].flags, DNS_TYPE_A, 0, 0, 0);
		assert_fails(p, DNS_TYPE_A, table[i].why);
		done(p);
	}
	struct packet *p = packet_of(0x8180, DNS_TYPE_A, 0, 0, 1);
	record(p, STR("\0"), 41, 1u << 24, STR("")); /* BADVERS */
	assert_fails(p, DNS_TYPE_A, "unknown code");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_A, 0, 1, 0);
	record(p, STR("\3net\0"), 2, 30, STR("\1x\0"));
	assert_fails(p, DNS_TYPE_A, "referral");
	done(p);
	p = packet_of(0x8500, DNS_TYPE_A, 1, 0, 0); /* no recursion there */
	record(p, STR(AT_QUESTION), 5, 30, STR("\1x\0"));
	assert_fails(p, DNS_TYPE_A, "to its end");
	done(p);
}

/* H83: one record each that is not what it says. */
static void refuses_malformed_records(void **state)
{
	static const struct {
		enum dns_type type;
		struct str owner, data;
		const char *why;
	} table[] = {
		{ DNS_TYPE_A, { AT_QUESTION, 2 }, { "\1\2\3", 3 }, "wrong length" },
		{ DNS_TYPE_A, { AT_QUESTION, 2 }, { "\1\2\3\4\5", 5 }, "wrong length" },
		{ DNS_TYPE_AAAA, { AT_QUESTION, 2 }, { "\1\2\3\4", 4 }, "wrong length" },
		{ DNS_TYPE_MX, { AT_QUESTION, 2 }, { "\0", 1 }, "malformed" },
		{ DNS_TYPE_MX, { AT_QUESTION, 2 }, { "\0\1\5ab", 5 }, "malformed" },
		{ DNS_TYPE_MX, { AT_QUESTION, 2 }, { "\0\1\1a\0x", 6 }, "malformed" },
		{ DNS_TYPE_MX, { AT_QUESTION, 2 }, { "\0\1\2a \0", 6 }, "usable" },
		{ DNS_TYPE_PTR, { AT_QUESTION, 2 }, { "\2\\0\0", 4 }, "usable" },
		{ DNS_TYPE_PTR, { AT_QUESTION, 2 }, { "\0", 1 }, "usable" },
		{ DNS_TYPE_TXT, { AT_QUESTION, 2 }, { "\5ab", 3 }, "malformed" },
		{ DNS_TYPE_TXT, { AT_QUESTION, 2 }, { "", 0 }, "malformed" },
		{ DNS_TYPE_TLSA, { AT_QUESTION, 2 }, { "\3\1", 2 }, "malformed" },
		{ DNS_TYPE_CNAME, { AT_QUESTION, 2 }, { "\xc0\xff", 2 }, "malformed" },
		{ DNS_TYPE_A, { "\xc0\x21", 2 }, { "\1\2\3\4", 4 }, "malformed" }, /* a pointer to itself */
		{ DNS_TYPE_A, { "\xc0\x40", 2 }, { "\1\2\3\4", 4 }, "malformed" }, /* forwards */
		{ DNS_TYPE_A, { "\1a\xc0\x21", 4 }, { "\1\2\3\4", 4 }, "malformed" }, /* in a circle */
		{ DNS_TYPE_A, { "\x40", 1 }, { "\1\2\3\4", 4 }, "malformed" }, /* a kind of label that nobody has */
		{ DNS_TYPE_A, { "\x80", 1 }, { "\1\2\3\4", 4 }, "malformed" },
	};
	for (size_t i = 0; i < COUNT(table); i++) {
		struct packet *p = packet_of(0x8180, table[i].type, 1, 0, 0);
		record(p, table[i].owner, dns_type_number(table[i].type), 30, table[i].data);
		assert_fails(p, table[i].type, table[i].why);
		done(p);
	}
}

static void refuses_what_is_cut(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_MX, 1, 1, 1);
	record(p, STR(AT_QUESTION), 15, 300, STR("\0\x14\3mx2" AT_QUESTION));
	soa(p, 3000, 120);
	record(p, STR("\0"), 41, 0, STR("abc"));
	size_t whole = p->b.n;
	assert_int_equal(read_it(p, DNS_TYPE_MX)->status, DNS_STATUS_FOUND);
	for (p->b.n = 0; p->b.n < whole; p->b.n++)
		assert_int_equal(read_it(p, DNS_TYPE_MX)->status, DNS_STATUS_FAILED);
	done(p);
}

static void bounds_names_and_chains(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_A, 2, 0, 0);
	char name[300]; /* five labels of 59 */
	for (size_t i = 0; i < sizeof name; i++)
		name[i] = i % 60 ? 'a' : '\x3b';
	record(p, str_of(name, sizeof name), 1, 30, STR("\1\2\3\4"));
	assert_fails(p, DNS_TYPE_A, "malformed");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_A, 1, 0, 0);
	record(p, STR(AT_QUESTION), 5, 30, STR(AT_QUESTION)); /* its own CNAME */
	assert_fails(p, DNS_TYPE_A, "circle");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_A, 101, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		char owner[3] = { '\1', (char)(i + 127) }, next[3] = { '\1', (char)(i + 128) };
		record(p, i ? str_of(owner, 3) : STR(AT_QUESTION), 5, 30, str_of(next, 3));
	}
	record(p, STR("\1\xe3\0"), 1, 30, STR("\1\2\3\4"));
	assert_fails(p, DNS_TYPE_A, "chain");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_A, 2, 0, 0);
	record(p, STR(AT_QUESTION), 5, 30, STR("\3a\rb\0"));
	record(p, STR("\3a\rb\0"), 1, 30, STR("\1\2\3\4"));
	assert_fails(p, DNS_TYPE_A, "leads to a name that is none");
	done(p);
}

/* N3. */
static void keeps_the_best_of_many(void **state)
{
	struct packet *p = packet_of(0x8180, DNS_TYPE_MX, 1000, 0, 0);
	for (unsigned i = 0; i < 1000; i++) {
		char data[] = { (char)((1000 - i) >> 8), (char)(1000 - i), 1, 'm', '\0' };
		record(p, STR(AT_QUESTION), 15, 30, str_of(data, sizeof data));
	}
	const struct dns_lookup_out *out = read_it(p, DNS_TYPE_MX);
	assert_int_equal(out->mx_n, 64);
	for (size_t i = 0; i < out->mx_n; i++)
		assert_true(out->mx[i].preference <= 64);
	done(p);
	p = packet_of(0x8180, DNS_TYPE_A, 4000, 0, 0);
	for (unsigned i = 0; i < 4000; i++)
		record(p, STR(AT_QUESTION), 1, 30, STR("\1\2\3\4"));
	assert_int_equal(read_it(p, DNS_TYPE_A)->addresses_n, 64);
	done(p);
	p = packet_of(0x8180, DNS_TYPE_TXT, 101, 0, 0);
	for (unsigned i = 0; i < 101; i++)
		record(p, STR(AT_QUESTION), 16, 30, STR("\1x"));
	assert_fails(p, DNS_TYPE_TXT, "too many");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_TXT, 1, 0, 0);
	char text[17 * 256];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i % 256 ? 'x' : '\xff';
	record(p, STR(AT_QUESTION), 16, 30, str_of(text, sizeof text));
	assert_fails(p, DNS_TYPE_TXT, "longer");
	done(p);
	p = packet_of(0x8180, DNS_TYPE_TLSA, 1, 0, 0);
	static const char certificate[5000] = { 3, 0, 0, 1 };
	record(p, STR(AT_QUESTION), 52, 30, str_of(certificate, sizeof certificate));
	out = read_it(p, DNS_TYPE_TLSA);
	assert_int_equal(out->tlsa_n, 1); /* there, and unusable */
	assert_int_equal(out->tlsa[0].data.n, 0);
	done(p);
}

static void writes_questions(void **state)
{
	char bytes[DNS_QUERY_MAX];
	struct buf b = buf_fixed(bytes, sizeof bytes);
	assert_int_equal(dns_write_query(&b, 0xabcd, STR("_25._tcp.MX.example"), DNS_TYPE_TLSA), ERR_NONE);
	assert_str(buf_str(&b), STR("\xab\xcd\x01\x20\0\1\0\0\0\0\0\1\3_25\4_tcp\2mx\7example\0\0\x34\0\1"
				    "\0\0\x29\x04\xd0\0\0\0\0\0\0"));
	static const char *const bad[] = { "", ".", "a..b", ".a", "a.", "a b", "a\n", "a;b", "a\\.b", "\xc3\xa4.de", "a@b" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_false(dns_name_is_valid(str_z(bad[i])));
		assert_int_equal(dns_write_query(&b, 1, str_z(bad[i]), DNS_TYPE_A), ERR_SYNTAX);
	}
	char name[256];
	for (size_t i = 0; i < sizeof name; i++)
		name[i] = i % 50 == 49 ? '.' : 'a';
	assert_true(dns_name_is_valid(str_of(name, 253)));
	assert_false(dns_name_is_valid(str_of(name, 254)));
	memset(name, 'a', sizeof name);
	assert_true(dns_name_is_valid(str_of(name, 63)));
	assert_false(dns_name_is_valid(str_of(name, 64)));
}

/* A wrong id, another question, a question instead of an answer: not ours. */
static void checks_whose_answer_it_is(void **state)
{
	struct packet *p = packet_of(0x83a0, DNS_TYPE_A, 0, 0, 0);
	struct dns_head head;
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR("WWW.example.net"), DNS_TYPE_A, &head), ERR_NONE);
	assert_true(head.truncated);
	assert_true(head.validated);
	assert_int_equal(dns_check(buf_str(&p->b), 0x1235, STR(NAME), DNS_TYPE_A, &head), ERR_SYNTAX);
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR("ww.example.net"), DNS_TYPE_A, &head), ERR_SYNTAX);
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR(NAME), DNS_TYPE_AAAA, &head), ERR_SYNTAX);
	assert_int_equal(dns_check(str_of(p->bytes, 11), 0x1234, STR(NAME), DNS_TYPE_A, &head), ERR_SYNTAX);
	set_u16(p, 2, 0x0180);
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR(NAME), DNS_TYPE_A, &head), ERR_SYNTAX);
	set_u16(p, 2, 0xa180); /* another opcode */
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR(NAME), DNS_TYPE_A, &head), ERR_SYNTAX);
	set_u16(p, 2, 0x8180);
	set_u16(p, 4, 0);
	assert_int_equal(dns_check(buf_str(&p->b), 0x1234, STR(NAME), DNS_TYPE_A, &head), ERR_SYNTAX);
	assert_fails(p, DNS_TYPE_A, "another question");
	done(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_addresses),
		cmocka_unit_test(follows_a_chain),
		cmocka_unit_test(reads_mx),
		cmocka_unit_test(joins_texts),
		cmocka_unit_test(reads_tlsa_and_ptr),
		cmocka_unit_test(tells_nothing_from_no_name),
		cmocka_unit_test(fails_by_code),
		cmocka_unit_test(refuses_malformed_records),
		cmocka_unit_test(refuses_what_is_cut),
		cmocka_unit_test(bounds_names_and_chains),
		cmocka_unit_test(keeps_the_best_of_many),
		cmocka_unit_test(writes_questions),
		cmocka_unit_test(checks_whose_answer_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
