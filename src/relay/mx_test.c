/* SPDX-License-Identifier: Apache-2.0 */
/* From domain and route to addresses, with a DNS that is a table (H83, H84). */
#include "relay/relay_rig.h"

#include "base/test.h"

static const struct rig_dns zone[] = {
	{ "plain.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "20 mx2.example", "10 mx1.example" } },
	{ "mx1.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.1" } },
	{ "mx2.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.2" } },
	{ "implicit.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.3" } },
	{ "bare.example", DNS_TYPE_TXT, DNS_STATUS_FOUND, { NULL } },
	{ "null.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "0 " } },
	{ "nulldot.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "0 ." } },
	{ "nullandmore.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "0 .", "5 mx1.example" } },
	{ "servfail.example", DNS_TYPE_MX, DNS_STATUS_FAILED, { NULL } },
	{ "bogus.example", DNS_TYPE_MX, DNS_STATUS_BOGUS, { NULL } },
	{ "cname.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 alias.example" } },
	{ "alias.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.4" } }, /* the resolver has followed it */
	{ "mxfail.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 broken.example" } },
	{ "broken.example", DNS_TYPE_A, DNS_STATUS_FAILED, { NULL } },
	{ "onefails.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 broken.example", "20 mx1.example" } },
	{ "nohosts.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 gone.example" } },
	{ "both.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 dual.example" } },
	{ "dual.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.5" } },
	{ "dual.example", DNS_TYPE_AAAA, DNS_STATUS_FOUND, { "2001:db8::5", "2001:db8::6" } },
	/* ourselves */
	{ "backup.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 mx1.example", "20 US.example.org", "20 mx2.example", "30 alias.example" } },
	{ "ours.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 us.example.org", "10 mx1.example", "20 mx2.example" } },
	{ "byaddress.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 mx1.example", "20 hidden.example", "20 mx2.example" } },
	{ "hidden.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.99" } },
	{ "bestbyaddress.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 hidden.example", "20 mx2.example" } },
	/* X3 */
	{ "loop.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 localhost.example" } },
	{ "localhost.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "127.0.0.1", "127.8.9.1" } },
	{ "localhost.example", DNS_TYPE_AAAA, DNS_STATUS_FOUND, { "::1" } },
	{ "zero.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 zerohost.example" } },
	{ "zerohost.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "0.0.0.0" } },
	{ "zerohost.example", DNS_TYPE_AAAA, DNS_STATUS_FOUND, { "::" } },
	{ "multi.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 multihost.example" } },
	{ "multihost.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "224.0.0.1", "255.255.255.255" } },
	{ "multihost.example", DNS_TYPE_AAAA, DNS_STATUS_FOUND, { "ff02::1" } },
	{ "mapped.example", DNS_TYPE_AAAA, DNS_STATUS_FOUND, { "2001:db8::77" } },
	{ "partly.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 localhost.example", "20 mx1.example" } },
	{ "private.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 inside.example" } },
	{ "inside.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "10.0.0.1" } },
	/* X4 */
	{ "many.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "24 mx1.example", "23 mx1.example", "22 mx1.example", "21 mx1.example",
	  "20 mx1.example", "19 mx1.example", "18 mx1.example", "17 mx1.example", "16 mx1.example", "15 mx1.example",
	  "14 mx1.example", "13 mx1.example", "12 mx1.example", "11 mx1.example", "10 mx1.example", "9 mx1.example",
	  "8 mx1.example", "7 mx1.example", "6 mx1.example", "5 mx1.example", "4 mx1.example", "3 mx1.example",
	  "2 mx1.example", "1 mx2.example" } },
	{ "wide.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "192.0.2.15",
	  "192.0.2.16", "192.0.2.17", "192.0.2.18", "192.0.2.19", "192.0.2.20" } },
	{ NULL, 0, 0, { NULL } },
};

static struct rig rig;

struct search_run {
	struct mx_search s;
	enum err end;
	struct buf targets; /* "192.0.2.1:25 …" */
	struct ip us;	    /* found to be ourselves when connecting */
};
static struct search_run run;
static char run_room[2000];

/* coroutine */
static void search(void *arg)
{
	struct search_run *r = arg;
	struct mx_target t;
	r->end = mx_begin(&r->s);
	while (r->end == ERR_NONE && (r->end = mx_next(&r->s, &t)) == ERR_NONE) {
		if (r->targets.n > 0)
			buf_add_char(&r->targets, ' ');
		if (t.address.family == IP_UNIX)
			buf_add(&r->targets, t.host);
		else
			ip_add_port(&r->targets, &t.address);
		if (ip_eq(&t.address, &r->us))
			mx_is_us(&r->s, &t);
	}
}

static void find(const char *domain, struct ip us)
{
	arena_close(&rig.arena);
	rig.dns = zone;
	run = (struct search_run){ .targets = buf_fixed(run_room, sizeof run_room), .us = us };
	run.s = (struct mx_search){ .w = rig.w, .conf = &rig.conf, .dns = &rig.mx_dns, .route = &rig.route, .domain = str_z(domain),
				    .arena = &rig.arena };
	loop_run(rig.loop, search, &run);
	assert_int_equal(run.end, ERR_NOT_FOUND);
}

static const struct {
	const char *domain, *targets, *enhanced; /* enhanced: of `found`, when that decides */
} rows[] = {
	/* RFC 5321 §5.1 */
	{ "plain.example", "192.0.2.1:25 192.0.2.2:25", NULL },
	{ "implicit.example", "192.0.2.3:25", NULL },
	{ "cname.example", "192.0.2.4:25", NULL },
	{ "both.example", NULL, NULL },
	{ "private.example", "10.0.0.1:25", NULL },
	{ "nothing.example", "", "5.1.2" },
	{ "bare.example", "", "5.1.2" },
	{ "nohosts.example", "", "5.4.4" },
	/* RFC 7505 */
	{ "null.example", "", "5.1.10" },
	{ "nulldot.example", "", "5.1.10" },
	{ "nullandmore.example", "192.0.2.1:25", NULL },
	/* X1 */
	{ "servfail.example", "", "4.4.3" },
	{ "bogus.example", "", "4.4.3" },
	{ "mxfail.example", "", "4.4.3" },
	{ "onefails.example", "192.0.2.1:25", NULL },
	/* X2 */
	{ "backup.example", "192.0.2.1:25", NULL },
	{ "byaddress.example", "192.0.2.1:25", NULL },
	{ "ours.example", "", "5.4.6" },
	{ "bestbyaddress.example", "", "5.4.6" },
	/* X3 */
	{ "loop.example", "", "5.4.4" },
	{ "zero.example", "", "5.4.4" },
	{ "multi.example", "", "5.4.4" },
	{ "partly.example", "192.0.2.1:25", NULL },
	/* RFC 5321 §4.1.3 */
	{ "[192.0.2.7]", "192.0.2.7:25", NULL },
	{ "[IPv6:2001:db8::7]", "[2001:db8::7]:25", NULL },
	{ "[192.0.2.7", "", "5.1.2" },
	{ "[x]", "", "5.1.2" },
	{ "[127.0.0.1]", "", "5.4.4" },
	{ "[192.0.2.99]", "", "5.4.6" },
};

static const struct ip nobody = { 0 };

static void by_mx(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++) {
		find(rows[i].domain, nobody);
		if (rows[i].targets && !str_eq(buf_str(&run.targets), str_z(rows[i].targets)))
			fprintf(stderr, "%s: %.*s\n", rows[i].domain, STR_ARG(buf_str(&run.targets)));
		if (rows[i].targets)
			assert_str(buf_str(&run.targets), str_z(rows[i].targets));
		assert_int_equal(mx_decides(&run.s), rows[i].enhanced != NULL);
		if (!rows[i].enhanced)
			continue;
		if (!str_eq(run.s.found.enhanced, str_z(rows[i].enhanced)))
			fprintf(stderr, "%s: %.*s\n", rows[i].domain, STR_ARG(run.s.found.text));
		assert_str(run.s.found.enhanced, str_z(rows[i].enhanced));
		assert_int_equal(run.s.found.verdict, rows[i].enhanced[0] == '4' ? VERDICT_DEFER : VERDICT_REFUSE);
		assert_true(run.s.found.text.n > 0);
	}
}

/* Nobody answers: X1. */
static enum err dead(void *arg, const struct dns_lookup_in *in, struct arena *a, struct dns_lookup_out *out)
{
	return ERR_CLOSED;
}

static void no_resolver(void **state)
{
	rig.mx_dns.lookup = dead;
	find("plain.example", nobody);
	rig.mx_dns.lookup = rig_lookup;
	assert_true(mx_decides(&run.s));
	assert_str(run.s.found.enhanced, STR("4.4.3"));
}

/* A resolver that hands out what was in the packet: ::ffff:127.0.0.1. */
static enum err mapped(void *arg, const struct dns_lookup_in *in, struct arena *a, struct dns_lookup_out *out)
{
	TRY(rig_lookup(arg, in, a, out));
	for (size_t i = 0; i < out->addresses_n; i++)
		out->addresses[i] = (struct ip){ .family = IP_V6, .bits = 128, .b = { [10] = 0xff, [11] = 0xff, 127, 0, 0, 1 } };
	return ERR_NONE;
}

static void mapped_loopback(void **state)
{
	rig.mx_dns.lookup = mapped;
	find("mapped.example", nobody);
	rig.mx_dns.lookup = rig_lookup;
	assert_str(buf_str(&run.targets), STR(""));
	assert_str(run.s.found.enhanced, STR("5.4.4"));
}

/* §5.1: the addresses of lower preference numbers first; families by choice. */
static void families(void **state)
{
	static const struct {
		enum ip_choice choice;
		const char *begin, *end;
		size_t n;
	} choices[] = {
		{ IP_CHOICE_ANY, "[2001:db8::", "]:25", 3 }, /* 6 4 6 */
		{ IP_CHOICE_PREFER_V4, "192.0.2.5:25 [", "]:25", 3 },
		{ IP_CHOICE_PREFER_V6, "[", " 192.0.2.5:25", 3 },
		{ IP_CHOICE_ONLY_V4, "192.0.2.5:25", "192.0.2.5:25", 1 },
		{ IP_CHOICE_ONLY_V6, "[", "]:25", 2 },
	};
	for (size_t i = 0; i < COUNT(choices); i++) {
		size_t n = 1;
		rig.route.ip = choices[i].choice;
		find("both.example", nobody);
		struct str s = buf_str(&run.targets);
		for (size_t k = 0; k < s.n; k++)
			n += s.p[k] == ' ';
		assert_int_equal(n, choices[i].n);
		assert_true(str_starts(s, str_z(choices[i].begin)));
		assert_true(str_ends(s, str_z(choices[i].end)));
	}
	rig.route.ip = IP_CHOICE_ANY;
}

/* X2 found only when connecting: what is not better is dropped; the best one decides. */
static void us_when_connecting(void **state)
{
	struct ip us;
	assert_int_equal(ip_parse(STR("192.0.2.2"), &us), ERR_NONE);
	find("plain.example", us);
	assert_false(mx_decides(&run.s));
	assert_int_equal(ip_parse(STR("192.0.2.1"), &us), ERR_NONE);
	find("plain.example", us);
	assert_str(buf_str(&run.targets), STR("192.0.2.1:25"));
	assert_true(mx_decides(&run.s));
	assert_str(run.s.found.enhanced, STR("5.4.6"));
}

/* X4 */
static void bounds(void **state)
{
	find("many.example", nobody);
	assert_int_equal(run.s.hosts_n, MX_HOSTS_MAX);
	assert_true(str_starts(buf_str(&run.targets), STR("192.0.2.2:25 192.0.2.1:25")));
	find("wide.example", nobody);
	size_t n = 1;
	for (size_t i = 0; i < run.targets.n; i++)
		n += run.targets.p[i] == ' ';
	assert_int_equal(n, MX_ADDRESSES_MAX);
}

/* Random among equals: neither first always. */
static void equal_ones_in_any_order(void **state)
{
	static struct rig_dns equal[] = {
		{ "e.example", DNS_TYPE_MX, DNS_STATUS_FOUND, { "10 mx1.example", "10 mx2.example" } },
		{ "mx1.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.1" } },
		{ "mx2.example", DNS_TYPE_A, DNS_STATUS_FOUND, { "192.0.2.2" } },
		{ NULL, 0, 0, { NULL } },
	};
	unsigned first = 0;
	for (int i = 0; i < 400; i++) {
		arena_close(&rig.arena);
		rig.dns = equal;
		run = (struct search_run){ .targets = buf_fixed(run_room, sizeof run_room) };
		run.s = (struct mx_search){ .w = rig.w, .conf = &rig.conf, .dns = &rig.mx_dns, .route = &rig.route,
					    .domain = STR("e.example"), .arena = &rig.arena };
		loop_run(rig.loop, search, &run);
		first += str_starts(buf_str(&run.targets), STR("192.0.2.1"));
		assert_str(run.s.set, STR("mx1.example mx2.example")); /* the same for both orders */
	}
	assert_in_range(first, 120, 280);
}

static void long_set_is_a_hash(void **state)
{
	static struct conf_hop hops[16];
	static char names[16][100];
	for (size_t i = 0; i < 16; i++) {
		memset(names[i], (int)('a' + i), sizeof names[i]);
		hops[i] = (struct conf_hop){ .host = str_of(names[i], 100), .weight = 1 };
	}
	rig.route = (struct conf_route){ .name = STR("x"), .kind = ROUTE_KIND_SMTP, .hops = hops, .hops_n = 16 };
	find("", nobody);
	char room[256];
	struct buf b = buf_fixed(room, sizeof room);
	buf_add(&b, run.s.set);
	assert_true(run.s.set.n > 0 && run.s.set.n < 60);
	find("", nobody);
	assert_str(run.s.set, buf_str(&b));
	assert_str(run.s.found.enhanced, STR("4.3.5")); /* none exists: the operator's mistake */
	rig.route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_MX };
}

/* Routes by hosts: what the operator wrote is done, loopback too. */
static void hops(void **state)
{
	static struct conf_hop hops[] = {
		{ .host = { "/run/lmtp", 9 }, .order = 3, .weight = 1 },
		{ .host = { "127.0.0.1", 9 }, .port = 10025, .order = 1, .weight = 1 },
		{ .host = { "MX1.example", 11 }, .order = 2, .weight = 1 },
		{ .host = { "::1", 3 }, .order = 4, .weight = 1 },
	};
	rig.route = (struct conf_route){ .name = STR("x"), .kind = ROUTE_KIND_LMTP, .hops = hops, .hops_n = COUNT(hops) };
	find("", nobody);
	assert_str(buf_str(&run.targets), STR("127.0.0.1:10025 192.0.2.1:24 /run/lmtp [::1]:24"));
	assert_str(run.s.set, STR("/run/lmtp 127.0.0.1:10025 ::1:24 mx1.example:24"));
	rig.route.kind = ROUTE_KIND_SMTP;
	find("", nobody);
	assert_str(buf_str(&run.targets), STR("127.0.0.1:10025 192.0.2.1:25 /run/lmtp [::1]:25"));
	rig.route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_MX };
}

static void weights(void **state)
{
	static struct conf_hop hops[] = { { .host = { "192.0.2.1", 9 }, .weight = 3 }, { .host = { "192.0.2.2", 9 }, .weight = 1 } };
	unsigned first = 0;
	rig.route = (struct conf_route){ .name = STR("x"), .kind = ROUTE_KIND_SMTP, .hops = hops, .hops_n = COUNT(hops) };
	for (int i = 0; i < 2000; i++) {
		find("", nobody);
		first += str_starts(buf_str(&run.targets), STR("192.0.2.1"));
	}
	assert_in_range(first, 1380, 1620);
	rig.route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_MX };
}

static int setup(void **state)
{
	rig_open(&rig, world_linux_new());
	return 0;
}

static int teardown(void **state)
{
	struct world *w = rig.w;
	rig_close_all(&rig);
	world_linux_free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_mx),
		cmocka_unit_test(no_resolver),
		cmocka_unit_test(mapped_loopback),
		cmocka_unit_test(families),
		cmocka_unit_test(us_when_connecting),
		cmocka_unit_test(bounds),
		cmocka_unit_test(equal_ones_in_any_order),
		cmocka_unit_test(long_set_is_a_hash),
		cmocka_unit_test(hops),
		cmocka_unit_test(weights),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
