/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS towards other servers: what is demanded (RFC 7672 §2, table), and whole deliveries over loopback to
 * servers with good, bad and no certificates, and to those that play tricks.
 */
#include "relay/relay_rig.h"

#include <stdio.h>
#include <unistd.h>

#include "base/test.h"
#include "relay/certificate_rig.h"
#include "relay/relay_server.h"

static struct rig rig;

/* ---- what is demanded ---------------------------------------------------------------------------------- */

#define EE "3 1 1 0000000000000000000000000000000000000000000000000000000000000001"
#define TA "2 0 1 0000000000000000000000000000000000000000000000000000000000000002"
#define USELESS "1 1 1 0000000000000000000000000000000000000000000000000000000000000003"
#define FOUND(name, type, ...) { name, DNS_TYPE_##type, DNS_STATUS_FOUND, { __VA_ARGS__ } }
#define BAD(name, type, status) { name, DNS_TYPE_##type, DNS_STATUS_##status, { NULL } }
#define TLSA_OF(name) "_25._tcp." name

struct demand {
	const char *name;
	enum route_tls tls;
	bool lmtp, own_ca;
	struct rig_dns dns[6];
	enum secure_level level;
	bool dane;
	const char *names; /* "a b" */
	enum err result;
};
#define MX_ROWS FOUND("example.net", MX, "10 mx.example.org"), FOUND("mx.example.org", A, "192.0.2.1")
#define PLAIN_MX FOUND("!example.net", MX, "10 mx.example.org")

static const struct demand demands[] = {
	{ "nothing published", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS }, SECURE_OPPORTUNISTIC, false, "mx.example.org", ERR_NONE },
	{ "all is proved", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_DANE, true,
	  "mx.example.org", ERR_NONE },
	{ "DANE-TA: also the domain's name (§3.2.2)", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, TA, EE) },
	  SECURE_DANE, true, "mx.example.org example.net", ERR_NONE },
	{ "MX is not proved", ROUTE_TLS_OPPORTUNISTIC, false, false, { PLAIN_MX, FOUND("mx.example.org", A, "192.0.2.1"),
	  FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_OPPORTUNISTIC, false, "mx.example.org", ERR_NONE },
	{ "the address is not proved: nobody asks further", ROUTE_TLS_OPPORTUNISTIC, false, false, { FOUND("example.net", MX, "10 mx.example.org"),
	  FOUND("!mx.example.org", A, "192.0.2.1"), BAD(TLSA_OF("mx.example.org"), TLSA, FAILED) }, SECURE_OPPORTUNISTIC, false, "mx.example.org",
	  ERR_NONE },
	{ "TLSA is not proved", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, FOUND("!" TLSA_OF("mx.example.org"), TLSA, EE) },
	  SECURE_OPPORTUNISTIC, false, "mx.example.org", ERR_NONE },
	{ "H62 TLSA is bogus", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, BAD(TLSA_OF("mx.example.org"), TLSA, BOGUS) }, SECURE_OPPORTUNISTIC,
	  false, "mx.example.org", ERR_BUSY },
	{ "H62 TLSA does not come", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, BAD(TLSA_OF("mx.example.org"), TLSA, FAILED) },
	  SECURE_OPPORTUNISTIC, false, "mx.example.org", ERR_BUSY },
	{ "none is usable: encrypted (§2.2)", ROUTE_TLS_OPPORTUNISTIC, false, false, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, USELESS) },
	  SECURE_ENCRYPTED, true, "mx.example.org", ERR_NONE },
	{ "none is usable, and the route is stricter", ROUTE_TLS_VERIFY, false, false, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, USELESS) },
	  SECURE_PKIX, false, "mx.example.org", ERR_NONE },
	{ "the route demands TLS, DANE more", ROUTE_TLS_REQUIRED, false, false, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_DANE,
	  true, "mx.example.org", ERR_NONE },
	{ "the route's own authority", ROUTE_TLS_VERIFY, false, true, { MX_ROWS, FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_PKIX, false,
	  "mx.example.org", ERR_NONE },
	{ "the operator says none", ROUTE_TLS_NONE, false, false, { MX_ROWS, BAD(TLSA_OF("mx.example.org"), TLSA, FAILED) }, SECURE_NEVER, false, "",
	  ERR_NONE },
	{ "without MX (§2.2.1)", ROUTE_TLS_OPPORTUNISTIC, false, false, { FOUND("example.net", A, "192.0.2.1"), FOUND(TLSA_OF("example.net"), TLSA, TA) },
	  SECURE_DANE, true, "example.net", ERR_NONE },
	/* §2.2.2: a host that is an alias */
	{ "alias: where it leads to", ROUTE_TLS_OPPORTUNISTIC, false, false, { FOUND("example.net", MX, "10 mx.example.org"),
	  FOUND("mx.example.org", A, ">real.example.com", "192.0.2.1"), FOUND(TLSA_OF("real.example.com"), TLSA, EE) }, SECURE_DANE, true,
	  "real.example.com", ERR_NONE },
	{ "alias: else its own name", ROUTE_TLS_OPPORTUNISTIC, false, false, { FOUND("example.net", MX, "10 mx.example.org"),
	  FOUND("mx.example.org", A, ">real.example.com", "192.0.2.1"), FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_DANE, true,
	  "mx.example.org", ERR_NONE },
	{ "alias out of what is signed", ROUTE_TLS_OPPORTUNISTIC, false, false, { FOUND("example.net", MX, "10 mx.example.org"),
	  FOUND("!mx.example.org", A, ">real.example.com", "192.0.2.1"), FOUND("mx.example.org", CNAME, "real.example.com"),
	  FOUND(TLSA_OF("mx.example.org"), TLSA, EE) }, SECURE_DANE, true, "mx.example.org", ERR_NONE },
};

static enum err demand_result;
static struct secure demanded;

/* coroutine */
static void find_demand(void *arg)
{
	const struct demand *g = arg;
	struct mx_search s = { .w = rig.w, .conf = &rig.conf, .dns = &rig.mx_dns, .route = &rig.route, .domain = STR("example.net"), .arena = &rig.arena };
	struct mx_target t;
	struct str why;
	rig.dns = g->dns;
	rig.route.tls = g->tls;
	rig.route.tls_ca = g->own_ca ? STR("/ca") : STR("");
	assert_int_equal(mx_begin(&s), ERR_NONE);
	assert_int_equal(mx_next(&s, &t), ERR_NONE);
	demand_result = secure_find(&s, &t, (struct sip_key){ 1, 2 }, &demanded, &why);
}

static void what_is_demanded(void **state)
{
	rig.dns_secure = true;
	for (size_t i = 0; i < COUNT(demands); i++) {
		const struct demand *g = &demands[i];
		char room[400];
		struct buf b = buf_fixed(room, sizeof room);
		rig_message(&rig, 1, STR("x"));
		loop_run(rig.loop, find_demand, (void *)(uintptr_t)g);
		for (size_t k = 0; k < demanded.names_n; k++) {
			if (k > 0)
				buf_add_char(&b, ' ');
			buf_add(&b, demanded.names[k]);
		}
		if (demand_result != g->result || demanded.level != g->level || demanded.dane != g->dane || !str_eq(buf_str(&b), str_z(g->names)))
			fprintf(stderr, "%s: %s, level %d, dane %d, %.*s\n", g->name, err_name(demand_result), demanded.level, demanded.dane,
				STR_ARG(buf_str(&b)));
		assert_int_equal(demand_result, g->result);
		assert_int_equal(demanded.level, g->level);
		assert_int_equal(demanded.dane, g->dane);
		assert_str(buf_str(&b), str_z(g->names));
	}
	rig.route.tls_ca = STR("");
}

/* ---- deliveries ------------------------------------------------------------------------------------------ */

#define HI "220 mx.example.net"
#define OFFER "250-mx\r\n250-SIZE 5\r\n250 STARTTLS" /* what is said in clear of sizes must not count */
#define NO_OFFER "250-mx\r\n250 PIPELINING"
#define SECOND "250-mx\r\n250 PIPELINING"
#define MESSAGE "250 m", "250 r", "354 go", "250 2.0.0 taken"
#define TEXT "A: b\r\n\r\nhi\r\n"
#define C_EHLO "EHLO us.example.org\r\n"
#define C_MESSAGE "MAIL FROM:<s@example.org>\r\nRCPT TO:<r0@example.net>\r\nDATA\r\n" TEXT ".\r\n"
#define C_TLS C_EHLO "STARTTLS\r\n" C_EHLO
#define GOES_TLS HI, OFFER, "220 go", SERVER_TLS, SECOND, MESSAGE
#define GOES_CLEAR HI, NO_OFFER, MESSAGE

enum { SELF, GOOD, EXPIRED, OTHER_NAME, STRANGER, CERTIFICATES };
enum published { NOTHING, RIGHT_EE, WRONG_EE, RIGHT_TA, WRONG_TA, UNUSABLE, BOGUS };

static struct certificate ca, other_ca, certificates[CERTIFICATES], *current;
static struct tls_server *tls;
static struct arena pems;
static struct pool pool;
static struct scope pool_scope;
static struct server server;
static struct conf_hop hop;
static char tlsa_name[64];
static struct rig_dns table[3];

struct story {
	const char *name;
	enum route_tls tls;
	int certificate;
	enum published published;
	const char *answers[2][12];
	const char *outcome, *heard; /* all that the server was told */
	size_t connections;
	const char *by; /* how it ends; NULL: any */
	const char *why; /* a part of the reason */
};

static const struct story stories[] = {
	/* ---- RFC 7435 ---- */
	{ "opportunistic, signed by itself", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1,
	  ", TLSv1.3, not verified", NULL },
	{ "opportunistic, expired", ROUTE_TLS_OPPORTUNISTIC, EXPIRED, NOTHING, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, NULL, NULL },
	{ "opportunistic, not offered", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { GOES_CLEAR } }, "A250/2.0.0", C_EHLO C_MESSAGE, 1,
	  ", in clear", NULL },
	{ "opportunistic, refused", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { HI, "250-mx\r\n250 STARTTLS", "454 no", MESSAGE } }, "A250/2.0.0",
	  C_EHLO "STARTTLS\r\n" C_MESSAGE, 1, ", in clear", NULL },
	{ "opportunistic, the handshake fails: once more in clear", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING,
	  { { HI, OFFER, "220 go", "nonsense" }, { HI, "250-mx\r\n250 STARTTLS", MESSAGE } }, "A250/2.0.0", NULL, 2, ", in clear since TLS failed", NULL },
	{ "opportunistic, cut in the handshake", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING,
	  { { HI, OFFER, "220 go" }, { GOES_CLEAR } }, "A250/2.0.0", C_EHLO "STARTTLS\r\n|" C_EHLO C_MESSAGE, 2, NULL, NULL },
	{ "opportunistic, cut behind the handshake", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING,
	  { { HI, OFFER, "220 go", SERVER_TLS }, { GOES_CLEAR } }, "A250/2.0.0", C_EHLO "STARTTLS\r\n|" C_EHLO C_MESSAGE, 2, NULL, NULL },
	{ "opportunistic, 421 under TLS is the server's word", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING,
	  { { HI, OFFER, "220 go", SERVER_TLS, "421 bye" }, { GOES_CLEAR } }, "-", C_TLS, 1, NULL, "EHLO: bye" },
	{ "none, though offered", ROUTE_TLS_NONE, SELF, NOTHING, { { HI, "250-mx\r\n250 STARTTLS", MESSAGE } }, "A250/2.0.0", C_EHLO C_MESSAGE, 1,
	  NULL, NULL },
	/* ---- H16 ---- */
	{ "H16 words behind 220", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { HI, OFFER, "220 go\r\n250 SIZE 1", SERVER_TLS, SECOND, MESSAGE }, { GOES_CLEAR } },
	  "-", C_EHLO "STARTTLS\r\n", 1, NULL, "meddles" },
	{ "no 220", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { HI, OFFER, "250 go" } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL, "no SMTP reply" },
	/* ---- required ---- */
	{ "required", ROUTE_TLS_REQUIRED, SELF, NOTHING, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, ", not verified", NULL },
	{ "H62 required, not offered", ROUTE_TLS_REQUIRED, SELF, NOTHING, { { GOES_CLEAR }, { GOES_CLEAR } }, "-", C_EHLO, 1, NULL, "does not offer TLS" },
	{ "H62 required, refused", ROUTE_TLS_REQUIRED, SELF, NOTHING, { { HI, OFFER, "502 no", MESSAGE } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "the route demands it" },
	{ "H62 required, the handshake fails", ROUTE_TLS_REQUIRED, SELF, NOTHING, { { HI, OFFER, "220 go" }, { GOES_CLEAR } }, "-",
	  C_EHLO "STARTTLS\r\n", 1, NULL, "TLS failed" },
	/* ---- verify ---- */
	{ "verify", ROUTE_TLS_VERIFY, GOOD, NOTHING, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, ", TLSv1.3, verified by its authority", NULL },
	{ "verify, expired", ROUTE_TLS_VERIFY, EXPIRED, NOTHING, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL, "expired" },
	{ "verify, another name", ROUTE_TLS_VERIFY, OTHER_NAME, NOTHING, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "certificate: hostname mismatch" },
	{ "verify, signed by itself", ROUTE_TLS_VERIFY, SELF, NOTHING, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "the server's certificate" },
	{ "verify, an unknown authority", ROUTE_TLS_VERIFY, STRANGER, NOTHING, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "the server's certificate" },
	{ "verify, not offered", ROUTE_TLS_VERIFY, GOOD, NOTHING, { { GOES_CLEAR } }, "-", C_EHLO, 1, NULL, "does not offer" },
	/* ---- DANE: RFC 7672 ---- */
	{ "DANE-EE", ROUTE_TLS_OPPORTUNISTIC, SELF, RIGHT_EE, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, ", TLSv1.3, verified by DANE", NULL },
	{ "DANE-EE, expired and of another name (§3.1.1)", ROUTE_TLS_OPPORTUNISTIC, EXPIRED, RIGHT_EE, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1,
	  ", verified by DANE", NULL },
	{ "H62 DANE-EE, another key", ROUTE_TLS_OPPORTUNISTIC, GOOD, WRONG_EE, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "TLSA records (DANE)" },
	{ "DANE-TA", ROUTE_TLS_OPPORTUNISTIC, GOOD, RIGHT_TA, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, ", verified by DANE", NULL },
	{ "H62 DANE-TA, another name", ROUTE_TLS_OPPORTUNISTIC, OTHER_NAME, RIGHT_TA, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "hostname mismatch" },
	{ "H62 DANE-TA, expired", ROUTE_TLS_OPPORTUNISTIC, EXPIRED, RIGHT_TA, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL, "expired" },
	{ "H62 DANE-TA, another authority", ROUTE_TLS_OPPORTUNISTIC, GOOD, WRONG_TA, { { GOES_TLS }, { GOES_CLEAR } }, "-", C_EHLO "STARTTLS\r\n", 1, NULL,
	  "the server's certificate" },
	{ "H62 DANE, STARTTLS stripped", ROUTE_TLS_OPPORTUNISTIC, GOOD, RIGHT_EE, { { GOES_CLEAR }, { GOES_CLEAR } }, "-", C_EHLO, 1, NULL, "does not offer" },
	{ "H62 DANE, cut in the handshake", ROUTE_TLS_OPPORTUNISTIC, GOOD, RIGHT_EE, { { HI, OFFER, "220 go" }, { GOES_CLEAR } }, "-",
	  C_EHLO "STARTTLS\r\n", 1, NULL, "DANE" },
	{ "no usable record: any certificate", ROUTE_TLS_OPPORTUNISTIC, SELF, UNUSABLE, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1,
	  ", not verified", NULL },
	{ "H62 no usable record, and no TLS", ROUTE_TLS_OPPORTUNISTIC, SELF, UNUSABLE, { { GOES_CLEAR }, { GOES_CLEAR } }, "-", C_EHLO, 1, NULL, "DANE" },
	{ "H62 bogus: nobody is connected to", ROUTE_TLS_OPPORTUNISTIC, GOOD, BOGUS, { { GOES_CLEAR } }, "-", "", 0, NULL, "not valid (DNSSEC)" },
	{ "DANE in place of an authority", ROUTE_TLS_VERIFY, SELF, RIGHT_EE, { { GOES_TLS } }, "A250/2.0.0", C_TLS C_MESSAGE, 1, ", verified by DANE", NULL },
	/* ---- TLS first: RFC 8314 ---- */
	{ "implicit", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { SERVER_TLS, HI, NO_OFFER, MESSAGE } }, "A250/2.0.0", C_EHLO C_MESSAGE, 1,
	  ", not verified", NULL },
	{ "implicit, never in clear", ROUTE_TLS_OPPORTUNISTIC, SELF, NOTHING, { { GOES_CLEAR }, { GOES_CLEAR } }, "-", NULL, 1, NULL,
	  "TLS failed" },
};

static const char *record_of(enum published p)
{
	switch (p) {
	case RIGHT_EE:
		return certificate_tlsa(&pems, current, "3 1 1");
	case WRONG_EE:
		return certificate_tlsa(&pems, &certificates[STRANGER], "3 1 1");
	case RIGHT_TA:
		return certificate_tlsa(&pems, &ca, "2 0 1");
	case WRONG_TA:
		return certificate_tlsa(&pems, &other_ca, "2 0 1");
	default:
		return USELESS;
	}
}

static void publish(enum published p)
{
	snprintf(tlsa_name, sizeof tlsa_name, "_%u._tcp.mx.example.net", server.address.port);
	table[0] = (struct rig_dns)FOUND("mx.example.net", A, "127.0.0.1");
	table[1] = (struct rig_dns){ p == NOTHING ? "-" : tlsa_name, DNS_TYPE_TLSA, p == BOGUS ? DNS_STATUS_BOGUS : DNS_STATUS_FOUND, { record_of(p) } };
	rig.dns = table;
	rig.dns_secure = true;
}

static void use_certificate(int which)
{
	current = &certificates[which];
	certificate_use(tls, &pems, current, which == SELF ? NULL : &ca);
}

static const char *story = "";

static YIELDS void send_one(const char *expected)
{
	char room[400];
	struct buf b = buf_fixed(room, sizeof room);
	rig_message(&rig, 1, STR(TEXT));
	rig_delivery(&rig, -1);
	struct attempt a = { .pool = &pool, .dns = &rig.mx_dns, .route = &rig.route, .d = &rig.d };
	attempt_run(&a);
	rig_outcomes(&rig, &b);
	if (!str_eq(buf_str(&b), str_z(expected)))
		fprintf(stderr, "%s: %.*s instead of %s: %.*s\n", story, STR_ARG(buf_str(&b)), expected, STR_ARG(rig.d.trouble.text));
	assert_str(buf_str(&b), str_z(expected));
}

static void begin(void)
{
	server.address = (struct ip){ .family = IP_V4, .bits = 32, .b = { 127, 0, 0, 1 } };
	server.tls = tls;
	server_open(&server, rig.loop);
	hop = (struct conf_hop){ .host = STR("mx.example.net"), .port = server.address.port, .weight = 1 };
	rig.route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_SMTP, .hops = &hop, .hops_n = 1, .connections = 5 };
	scope_open(&pool_scope, rig.loop, co_scope());
	pool_init(&pool, &rig.env, &pool_scope);
}

static YIELDS void end(void)
{
	pool_empty(&pool);
	(void)co_set_deadline(NEVER);
	server_stop(&server);
	scope_close(&pool_scope);
}

/* coroutine */
static void tell(void *arg)
{
	const struct story *g = arg;
	server = (struct server){ 0 };
	memcpy(server.connections[0], g->answers[0], sizeof g->answers[0]);
	memcpy(server.connections[1], g->answers[1], sizeof g->answers[1]);
	use_certificate(g->certificate);
	begin();
	hop.tls = str_starts(str_z(g->name), STR("implicit"));
	rig.route.tls = g->tls;
	publish(g->published);
	story = g->name;
	send_one(g->outcome);
	struct str by = rig.d.rcpts[0].by;
	if (g->by && !str_ends(by, str_z(g->by)))
		fprintf(stderr, "%s: by %.*s\n", story, STR_ARG(by));
	assert_true(!g->by || str_ends(by, str_z(g->by)));
	struct str why = rig.d.trouble.text;
	if (g->why && str_find_str(why, str_z(g->why)) == why.n)
		fprintf(stderr, "%s: why: %.*s\n", story, STR_ARG(why));
	assert_true(!g->why || str_find_str(why, str_z(g->why)) < why.n);
	assert_true(g->outcome[0] == 'A' || (rig.d.trouble.verdict == VERDICT_DEFER && str_starts(rig.d.trouble.enhanced, STR("4."))));
	assert_int_equal(server.n, g->connections);
	if (g->heard)
		assert_str(buf_str(&server.heard), str_z(g->heard));
	assert_true(g->outcome[0] == 'A' || str_find_str(buf_str(&server.heard), STR("MAIL")) == server.heard.n);
	end();
}

/* On a stack as a delivery has it. */
/* coroutine */
static void tell_it(void *arg)
{
	struct scope scope;
	scope_open(&scope, rig.loop, co_scope());
	assert_int_equal(scope_spawn(&scope, "delivery", TLS_STACK, tell, arg), ERR_NONE);
	scope_wait(&scope);
	scope_close(&scope);
}

static void deliveries(void **state)
{
	for (size_t i = 0; i < COUNT(stories); i++)
		loop_run(rig.loop, tell_it, (void *)(uintptr_t)&stories[i]);
}

/* ---- AUTH: RFC 4954 ----------------------------------------------------------------------------------- */

#define AUTH_SECOND(mechanisms) "250-mx\r\n250-PIPELINING\r\n250 AUTH " mechanisms
#define C_BEFORE C_EHLO "STARTTLS\r\n" C_EHLO
#define C_PLAIN "AUTH PLAIN AHVzZXIAcGVuY2ls\r\n"
#define C_LOGIN "AUTH LOGIN\r\ndXNlcg==\r\ncGVuY2ls\r\n"

struct login_story {
	const char *name, *answers[12], *outcome, *heard, *why;
};
#define TO_TLS(mechanisms) HI, OFFER, "220 go", SERVER_TLS, AUTH_SECOND(mechanisms)

static const struct login_story logins[] = {
	{ "PLAIN", { TO_TLS("LOGIN PLAIN"), "235 yes", MESSAGE }, "A250/2.0.0", C_BEFORE C_PLAIN C_MESSAGE, NULL },
	{ "LOGIN", { TO_TLS("LOGIN X"), "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 yes", MESSAGE }, "A250/2.0.0", C_BEFORE C_LOGIN C_MESSAGE, NULL },
	{ "535 is no bounce", { TO_TLS("PLAIN"), "535 5.7.8 no" }, "-", C_BEFORE C_PLAIN, "could not log in: no" },
	{ "our words are not repeated", { TO_TLS("PLAIN"), "535 5.7.8 not pencil!" }, "-", C_BEFORE C_PLAIN, "not shown" },
	{ "454", { TO_TLS("PLAIN"), "454 later" }, "-", C_BEFORE C_PLAIN, "could not log in: later" },
	{ "250 to AUTH", { TO_TLS("PLAIN"), "250 hm" }, "-", C_BEFORE C_PLAIN, "could not log in" },
	{ "nothing that we know", { TO_TLS("GSSAPI") }, "-", C_BEFORE, "no way to log in" },
	{ "a challenge to PLAIN", { TO_TLS("PLAIN"), "334 AAAA" }, "-", C_BEFORE C_PLAIN, "makes no sense" },
	{ "challenges without end", { TO_TLS("LOGIN"), "334 AAAA", "334 AAAA", "334 AAAA" }, "-", C_BEFORE C_LOGIN, "makes no sense" },
	{ "SCRAM without proof", { TO_TLS("SCRAM-SHA-256"), "235 welcome" }, "-", NULL, "did not prove" },
	{ "SCRAM with a nonce that is not ours", { TO_TLS("SCRAM-SHA-1 PLAIN"), "334 cj14eXoscz1BQUFBLGk9NDA5Ng==" }, "-", NULL, "makes no sense" },
	{ "SCRAM, not base64", { TO_TLS("SCRAM-SHA-1"), "334 ?" }, "-", NULL, "makes no sense" },
};

/* coroutine */
static void log_in(void *arg)
{
	const struct login_story *g = arg;
	static struct str password = { "pencil", 6 };
	server = (struct server){ 0 };
	memcpy(server.connections[0], g->answers, sizeof g->answers);
	use_certificate(GOOD);
	begin();
	story = g->name;
	rig.route.tls = ROUTE_TLS_VERIFY;
	rig.route.auth_user = STR("user");
	rig.env.passwords = &password;
	publish(NOTHING);
	send_one(g->outcome);
	struct str why = rig.d.trouble.text;
	if (g->why && str_find_str(why, str_z(g->why)) == why.n)
		fprintf(stderr, "%s: why: %.*s\n", g->name, STR_ARG(why));
	assert_true(!g->why || str_find_str(why, str_z(g->why)) < why.n);
	assert_true(str_find_str(why, password) == why.n);
	assert_true(g->outcome[0] == 'A' || rig.d.trouble.verdict == VERDICT_DEFER);
	if (g->heard)
		assert_str(buf_str(&server.heard), str_z(g->heard));
	rig.env.passwords = NULL;
	end();
}

/* coroutine */
static void log_in_clear(void *arg UNUSED)
{
	static struct str password = { "pencil", 6 };
	server = (struct server){ 0 };
	memcpy(server.connections[0], ((const char *[]){ HI, AUTH_SECOND("PLAIN"), "235 yes", MESSAGE }), 7 * sizeof(char *));
	begin();
	rig.route.tls = ROUTE_TLS_OPPORTUNISTIC; /* which no configuration can say */
	rig.route.auth_user = STR("user");
	rig.env.passwords = &password;
	publish(NOTHING);
	send_one("-");
	assert_str(buf_str(&server.heard), STR(C_EHLO));
	rig.env.passwords = NULL;
	end();
}

static void authentication(void **state)
{
	for (size_t i = 0; i < COUNT(logins); i++)
		loop_run(rig.loop, log_in, (void *)(uintptr_t)&logins[i]);
	loop_run(rig.loop, log_in_clear, NULL);
}

/* C3 */
/* coroutine */
static void pool_body(void *arg UNUSED)
{
	static const char *const answers[] = { HI, OFFER, "220 go", SERVER_TLS, SECOND, MESSAGE, MESSAGE, "221 bye" };
	server = (struct server){ 0 };
	for (size_t i = 0; i < 3; i++)
		memcpy(server.connections[i], answers, sizeof answers);
	use_certificate(GOOD);
	begin();
	rig.route.tls = ROUTE_TLS_OPPORTUNISTIC;
	publish(NOTHING);
	send_one("A250/2.0.0");
	send_one("A250/2.0.0");
	assert_int_equal(server.n, 1);
	publish(RIGHT_TA);
	send_one("A250/2.0.0");
	assert_int_equal(server.n, 2);
	publish(RIGHT_EE);
	send_one("A250/2.0.0");
	send_one("A250/2.0.0");
	assert_int_equal(server.n, 3);
	publish(WRONG_EE);
	memset(server.connections[3], 0, sizeof server.connections[3]);
	memcpy(server.connections[3], answers, sizeof answers);
	send_one("-");
	assert_int_equal(server.n, 4);
	end();
}

static void pool_keeps_apart(void **state)
{
	loop_run(rig.loop, pool_body, NULL);
}

static void open_trust(void)
{
	char path[] = "/tmp/godwit_secure_test.XXXXXX";
	const struct certificate *list[] = { &ca };
	struct str pem = certificate_pem(&pems, list, 1);
	int fd = mkstemp(path);
	assert_true(fd >= 0 && write(fd, pem.p, pem.n) == (ssize_t)pem.n);
	close(fd);
	rig.env.trusts[0].ca_file = STR("");
	assert_int_equal(tls_client_new(rig.w, str_z(path), &rig.env.trusts[0].tls), ERR_NONE);
	rig.env.trusts_n = 1;
	unlink(path);
}

static size_t blocks_before;

static int setup(void **state)
{
	struct world *w = world_linux_new();
	blocks_before = mem_blocks(world_mem(w));
	rig_open(&rig, w);
	pems = arena_make(world_mem(w), (size_t)1 << 20);
	ca = certificate_make(NULL, NULL, 10 * CERTIFICATE_DAY);
	other_ca = certificate_make(NULL, NULL, 10 * CERTIFICATE_DAY);
	certificates[SELF] = certificate_make("DNS:localhost", NULL, CERTIFICATE_DAY);
	certificates[GOOD] = certificate_make("DNS:mx.example.net", &ca, CERTIFICATE_DAY);
	certificates[EXPIRED] = certificate_make("DNS:mx.example.net", &ca, -CERTIFICATE_DAY);
	certificates[OTHER_NAME] = certificate_make("DNS:mx.example.com", &ca, CERTIFICATE_DAY);
	certificates[STRANGER] = certificate_make("DNS:mx.example.net", &other_ca, CERTIFICATE_DAY);
	tls = certificate_server(w, &current);
	open_trust();
	return 0;
}

static int teardown(void **state)
{
	struct world *w = rig.w;
	tls_server_free(tls);
	for (size_t i = 0; i < CERTIFICATES; i++)
		certificate_free(&certificates[i]);
	certificate_free(&ca);
	certificate_free(&other_ca);
	arena_close(&pems);
	rig_close_all(&rig);
	assert_int_equal(mem_blocks(world_mem(w)), blocks_before);
	world_linux_free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_demanded),
		cmocka_unit_test(deliveries),
		cmocka_unit_test(authentication),
		cmocka_unit_test(pool_keeps_apart),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
