/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: what is understood, and that what is wrong is said, where, and all at once. */
#include "base/test.h"
#include "conf/conf_table.h"

#define GOOD "hostname mx.example.org; listen smtp { address 127.0.0.1:2525; }\n"

struct result {
	struct mem *mem;
	struct arena arena;
	struct conf conf;
	struct conf_errors errs;
	enum err err;
};

static struct result *parse(const char *text)
{
	struct mem *mem = mem_new(0);
	struct result *r = mem_alloc(mem, sizeof *r);
	assert_non_null(r);
	r->mem = mem;
	r->arena = arena_make(mem, 16 << 20);
	r->err = conf_parse(str_z(text), STR("test.conf"), &r->arena, &r->conf, &r->errs);
	return r;
}

static void done(struct result *r)
{
	struct mem *mem = r->mem;
	arena_close(&r->arena);
	mem_destroy(mem);
}

static void understands_a_whole_file(void **state)
{
	struct result *r = parse("# a comment\nhostname MX.Example.org; directory \"/srv/god wit\";\n"
				 "listen smtp { address 127.0.0.1:25 [::1]:25 ; }\nlisten other { address *:2525; }\n"
				 "domain Example.ORG { catch_all Info@example.org; subaddress \"+-\"; }\n"
				 "relay_from 10.0.0.0/8 2001:db8::/32;\n"
				 "limits { message_size 10M; recipients 200; }\ntimeouts { command 90s; expire 3d; }\n"
				 "relay_domain Example.NET { recipients \"/etc/godwit/relay/example.net\"; }\n"
				 "relay_domain b.example { }\n"
				 "srs_secret /etc/godwit/srs; srs_domain Bounce.Example.org; postmaster Boss@Example.org;\n"
				 "hold_from spam.example <>; hold_to *.Held.example;\n"
				 "deliver no; log_format json; log_level debug;");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->err, ERR_NONE);
	assert_str(r->conf.hostname, STR("mx.example.org"));
	assert_str(r->conf.spool, STR("/srv/god wit/spool"));
	assert_int_equal(r->conf.listeners_n, 3);
	assert_str(r->conf.listeners[1].name, STR("smtp"));
	assert_int_equal(r->conf.listeners[2].address.family, IP_NONE);
	assert_int_equal(r->conf.domains_n, 1);
	assert_str(r->conf.domains[0].name, STR("example.org"));
	assert_str(r->conf.domains[0].catch_all, STR("info@example.org"));
	assert_str(r->conf.domains[0].subaddress, STR("+-"));
	assert_int_equal(r->conf.relay_from_n, 2);
	assert_int_equal(r->conf.limits.message_bytes, 10 << 20);
	assert_int_equal(r->conf.limits.recipients, 200);
	assert_int_equal(r->conf.limits.errors, 20); /* a default */
	assert_int_equal(r->conf.times.command, 90000);
	assert_int_equal(r->conf.times.expire, 3 * 86400000LL);
	assert_int_equal(r->conf.relay_domains_n, 2);
	assert_str(r->conf.relay_domains[0].name, STR("example.net"));
	assert_str(r->conf.relay_domains[0].recipients, STR("/etc/godwit/relay/example.net"));
	assert_str(r->conf.relay_domains[1].name, STR("b.example"));
	assert_str(r->conf.relay_domains[1].recipients, STR(""));
	assert_str(r->conf.srs_secret, STR("/etc/godwit/srs"));
	assert_str(r->conf.srs_domain, STR("bounce.example.org"));
	assert_str(r->conf.postmaster, STR("boss@example.org"));
	assert_true(r->conf.hold_all);
	assert_int_equal(r->conf.hold_from_n, 2);
	assert_str(r->conf.hold_from[1].text, STR("<>"));
	assert_str(r->conf.hold_to[0].text, STR("*.held.example"));
	assert_true(r->conf.smtputf8);
	done(r);
}

/* One error each: where it is, and a part of what is said. */
static const struct {
	const char *text;
	unsigned line, column;
	const char *says;
} wrong[] = {
	{ GOOD "hostnam x.org;", 2, 1, "did you mean 'hostname'?" },
	{ GOOD "limits { mesage_size 1M; }", 2, 10, "did you mean 'message_size'?" },
	{ GOOD "limits { message_size 1Q; }", 2, 23, "is not a size" },
	{ GOOD "limits { message_size 1; }", 2, 23, "out of range" },
	{ GOOD "timeouts { command soon; }", 2, 20, "is not a time" },
	{ GOOD "hold_from b@a.org;", 2, 11, "is not a domain" },
	{ GOOD "hold_to a.org; hold_to b.org;", 2, 16, "given twice" },
	{ GOOD "smtputf8 maybe;", 2, 10, "yes or no" },
	{ GOOD "relay_from 10.0.0.1/8;", 2, 12, "is not a network" },
	{ GOOD "relay_from 10.0.0.0/33;", 2, 12, "is not a network" },
	{ GOOD "spool relative/path;", 2, 7, "absolute path" },
	{ GOOD "domain a.org { accounts ldap; }", 2, 25, "passwd_file or dovecot" },
	{ GOOD "domain a.org { accounts sqlite x; }", 2, 32, "nothing stands behind" },
	{ GOOD "domain a.org { accounts passwd_file; }", 2, 16, "takes one file" },
	{ GOOD "domain a.org { accounts passwd_file /a b; }", 2, 16, "takes one file" },
	{ GOOD "domain a.org { accounts passwd_file a; }", 2, 37, "absolute path" },
	{ GOOD "domain a.org { accounts dovecot unix:/a; }", 2, 16, "takes two sockets" },
	{ GOOD "domain a.org { accounts dovecot unix:/a /b; }", 2, 41, "a socket" },
	{ GOOD "domain ex..org { }", 2, 8, "not a domain name" },
	{ GOOD "domain a.org { } domain A.ORG { }", 2, 25, "given twice" },
	{ GOOD "relay_domain a..org { }", 2, 14, "not a domain name" },
	{ GOOD "relay_domain a.org { } relay_domain A.org { }", 2, 37, "given twice" },
	{ GOOD "domain a.org { } relay_domain A.org { }", 0, 0, "delete one" },
	{ GOOD "relay_domain a.org { recipients names; }", 2, 33, "absolute path" },
	{ GOOD "relay_domain { }", 2, 1, "takes one name" },
	{ GOOD "srs_domain \"\";", 2, 12, "not a domain name" },
	{ GOOD "srs_secret secret;", 2, 12, "absolute path" },
	{ GOOD "postmaster nobody;", 2, 12, "not an address" },
	{ GOOD "smtputf8 yes; smtputf8 no;", 2, 15, "given twice" },
	{ GOOD "smtputf8 yes", 2, 1, "a ; is missing" },
	{ GOOD "smtputf8 yes no;", 2, 1, "one value" },
	{ GOOD "domain a.org {", 2, 1, "no closing }" },
	{ GOOD "}", 2, 1, "a } without its {" },
	{ GOOD "spool \"/a", 2, 7, "does not end" },
	{ GOOD "listen two { }", 2, 1, "no address" },
	{ GOOD "listen two { address 1.2.3.4; }", 2, 22, "with a port" },
	{ GOOD "listen two { address 127.0.0.1:2525; }", 0, 0, "same address" },
	{ GOOD "listen two { address *:26; tls perhaps; }", 2, 32, "none, starttls or implicit" },
	{ GOOD "tls { min_version 1.1; }", 2, 19, "1.2 or 1.3" },
	{ GOOD "tls { key /k; }", 2, 7, "follows its certificate" },
	{ GOOD "tls { certificate /c; }", 2, 1, "has no key" },
	{ GOOD "tls { certificate /c; certificate /d; key /e; }", 2, 23, "the certificate before this one" },
	{ GOOD "tls { certificate c; }", 2, 19, "absolute path" },
	{ GOOD "domain a.org { limits { errors 5; } }", 2, 16, "do not nest" },
	{ GOOD "domain a.org { mailbox mbox; }", 2, 24, "maildir or lmtp" },
	{ GOOD "domain a.org { mailbox lmtp; }", 2, 16, "would go by route default, which is not by lmtp" },
	{ GOOD "route r { to *.a.org; via lmtp unix:/l; } domain b.a.org { }\ndomain a.org { mailbox lmtp; }", 3, 16, "route default" },
	{ GOOD "route r { from <>; via smtp a; } route s { via lmtp unix:/l; } domain a.org { mailbox lmtp; }", 2, 79, "by route r" },
	{ GOOD "route r { from <>; via lmtp a; } domain a.org { mailbox lmtp; }", 2, 49, "by route default" },
	{ GOOD "include \"x\";", 2, 1, "include" },
	{ GOOD "limits x { }", 2, 1, "takes nothing" },
	{ GOOD "resolver { servers localhost; }", 2, 20, "address of a resolver" },
	{ GOOD "resolver { servers *:53; }", 2, 20, "address of a resolver" },
	{ GOOD "resolver { servers 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7 1.1.1.8 1.1.1.9; }", 2, 12, "at most 8" },
	{ GOOD "resolver { trust_anchor root.key; }", 2, 25, "absolute path" },
	{ GOOD "resolver { stub example.org; }", 2, 12, "stub takes" },
	{ GOOD "resolver { stub example.org 1.2.3.4 secure; }", 2, 12, "stub takes" },
	{ GOOD "resolver { stub ex..org 1.2.3.4; }", 2, 17, "not a domain name" },
	{ GOOD "resolver { stub a.org ns.a.org; }", 2, 23, "address of a name server" },
	{ GOOD "resolver { stub a.org 1.2.3.4; servers ::1; }", 0, 0, "exclude each other" },
	{ GOOD "resolver { dnssec no; } resolver { dnssec no; }", 2, 36, "given twice" },
	{ GOOD "nonsense { a b; }", 2, 1, "unknown directive" },
	{ GOOD "route { }", 2, 1, "takes one name" },
	{ GOOD "route \"\" { }", 2, 7, "1 to 64 characters" },
	{ GOOD "route a { rate 5; } route b { rate 5; connections 1; rate 6; }", 2, 54, "rate is given twice" },
	{ GOOD "route a { to a.org; to b.org; }", 2, 21, "to is given twice" },
	{ GOOD "route a { via smtp a; via smtp b; }", 2, 23, "via is given twice" },
	{ GOOD "domain a.org { mailbox maildir; mailbox maildir; }", 2, 33, "mailbox is given twice" },
	{ GOOD "relay_domain a.org { recipients \"/a\"; recipients \"/b\"; }", 2, 39, "recipients is given twice" },
	{ GOOD "listen two { address *:26; tls none; tls none; }", 2, 38, "tls is given twice" },
	{ GOOD "listen two { address *:26; address *:27; }", 2, 28, "address is given twice" },
	{ GOOD "route a { } route a { }", 2, 19, "route a is given twice" },
	{ GOOD "route a { vai mx; }", 2, 11, "did you mean 'via'?" },
	{ GOOD "route a { to; }", 2, 11, "one or more values" },
	{ GOOD "route a { to a..b; }", 2, 14, "is not a domain (example.org, *.example.org) or <>" },
	{ GOOD "route a { to *; }", 2, 14, "is not a domain" },
	{ GOOD "route a { from a.org b@a.org; }", 2, 22, "is not a domain" },
	{ GOOD "route a { via uucp a.org; }", 2, 15, "mx, smtp HOST" },
	{ GOOD "route a { via mx a.org; }", 2, 15, "mx, smtp HOST" },
	{ GOOD "route a { via smtp; }", 2, 15, "which host?" },
	{ GOOD "route a { via smtp a..org; }", 2, 20, "is not a host" },
	{ GOOD "route a { via smtp a.org:0; }", 2, 20, "is not a host" },
	{ GOOD "route a { via smtp a.org:70000; }", 2, 20, "is not a host" },
	{ GOOD "route a { via smtp unix:/run/lmtp; }", 2, 20, "is not a host" },
	{ GOOD "route a { via smtp a.org order many; }", 2, 26, "order and weight take a number" },
	{ GOOD "route a { via smtp a.org weight; }", 2, 26, "order and weight take a number" },
	{ GOOD "route a { via smtp order 5; }", 2, 20, "stand behind a host" },
	{ GOOD "route a { via smtp a b c d e f g h i j k l m n o p q; }", 2, 52, "at most 16" },
	{ GOOD "route a { source eth0; }", 2, 18, "is not an address of this machine" },
	{ GOOD "route a { source 192.0.2.1 192.0.2.2; }", 2, 28, "one IPv4 and one IPv6 address" },
	{ GOOD "route a { hostname out..example; }", 2, 20, "not a domain name" },
	{ GOOD "route a { tls perhaps; }", 2, 15, "none, opportunistic, required or verify" },
	{ GOOD "route a { via lmtp unix:/l; tls required; }", 0, 0, "no TLS over a Unix socket" },
	{ GOOD "route a { via smtp 192.0.2.1; tls verify; }", 0, 0, "needs the name" },
	{ GOOD "route a { via smtp b.org:465; tls none; }", 0, 0, "contradicts tls none" },
	{ GOOD "route a { via smtp b.org:26 tls; tls none; }", 0, 0, "contradicts tls none" },
	{ GOOD "route a { tls required; tls_ca /c; }", 0, 0, "nothing without tls verify" },
	{ GOOD "route a { via smtp b.org; tls verify; auth ann; }", 2, 39, "auth takes a user name and the file" },
	{ GOOD "route a { via smtp b.org; tls verify; auth ann b; }", 2, 48, "absolute path" },
	{ GOOD "route a { via smtp b.org; auth ann /b; }", 0, 0, "auth needs TLS" },
	{ GOOD "route a { tls required; auth ann /b; }", 0, 0, "auth is for the hosts of via smtp" },
	{ GOOD "route a { ip v4; }", 2, 14, "prefer_v4, prefer_v6, only_v4 or only_v6" },
	{ GOOD "route a { connections 0; }", 2, 23, "connections is out of range: 1 to 1000" },
	{ GOOD "route a { rate some; }", 2, 16, "is not a number" },
	{ GOOD "route a { rate 1000001; }", 2, 16, "out of range" },
	{ GOOD "route default { to a.org; }", 0, 0, "it has no to and no from" },
	{ GOOD "route default { from <>; }", 0, 0, "it has no to and no from" },
	{ "listen smtp { address *:25; }", 0, 0, "hostname is missing" },
	{ "hostname a.org;", 0, 0, "nothing to listen on" },
	{ "hostname mx_1.org; listen s { address *:25; }", 1, 10, "not a domain name" },
};

static void tls_of_listeners(void **state)
{
	struct result *r = parse(GOOD "listen a { address *:465 *:26; } listen b { tls implicit; address *:27 *:28; auth required; hide_client yes; }\n"
				 "listen c { address *:466 *:29; tls none; }\n"
				 "tls { certificate /a; key /ak; certificate /b; key /bk; min_version 1.3; }");
	static const enum tls_mode modes[] = { TLS_MODE_STARTTLS, TLS_MODE_IMPLICIT, TLS_MODE_STARTTLS, TLS_MODE_IMPLICIT,
					       TLS_MODE_IMPLICIT, TLS_MODE_NONE,     TLS_MODE_NONE };
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.listeners_n, COUNT(modes));
	for (size_t i = 0; i < COUNT(modes); i++)
		assert_int_equal(r->conf.listeners[i].tls, modes[i]);
	for (size_t i = 0; i < COUNT(modes); i++) { /* what a block says is for all its addresses */
		assert_int_equal(r->conf.listeners[i].auth, i == 3 || i == 4 ? AUTH_MODE_REQUIRED : AUTH_MODE_NONE);
		assert_int_equal(r->conf.listeners[i].hide_client, i == 3 || i == 4);
	}
	assert_int_equal(r->conf.tls.certificates_n, 2);
	assert_str(r->conf.tls.certificates[1].certificate, STR("/b"));
	assert_str(r->conf.tls.certificates[1].key, STR("/bk"));
	assert_true(r->conf.tls.least_1_3);
	done(r);
}

static void knows_where_accounts_are(void **state)
{
	struct result *r = parse(GOOD "domain a.org { } domain b.org { accounts passwd_file /b scram; }");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.domains[0].accounts, ACCOUNTS_KIND_SQLITE);
	assert_int_equal(r->conf.domains[1].accounts, ACCOUNTS_KIND_PASSWD_FILE);
	assert_str(r->conf.domains[1].accounts_path, STR("/b"));
	assert_true(conf_offers_scram(&r->conf));
	assert_int_equal(r->errs.files_n, 1);
	assert_int_equal(r->errs.files[0].column, 54);
	done(r);
	r = parse(GOOD "domain b.org { accounts dovecot unix:/p unix:/u; }");
	assert_int_equal(r->errs.n, 0);
	assert_str(r->conf.domains[0].accounts_path, STR("/p"));
	assert_str(r->conf.domains[0].accounts_users, STR("/u"));
	assert_false(conf_offers_scram(&r->conf));
	done(r);
}

static void says_what_is_wrong(void **state)
{
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct result *r = parse(wrong[i].text);
		bool found = false;
		assert_int_equal(r->err, ERR_SYNTAX);
		for (size_t k = 0; k < r->errs.n; k++) {
			const struct conf_error *e = &r->errs.v[k];
			found |= e->line == wrong[i].line && e->column == wrong[i].column &&
				 str_find_str(e->text, str_z(wrong[i].says)) < e->text.n;
		}
		if (!found)
			fail_msg("%s: %u:%u %.*s", wrong[i].text, r->errs.v[0].line, r->errs.v[0].column, STR_ARG(r->errs.v[0].text));
		done(r);
	}
}

static void knows_where_to_ask_the_dns(void **state)
{
	struct result *r = parse(GOOD);
	assert_int_equal(r->conf.resolver.servers_n, 0);
	assert_true(r->conf.resolver.dnssec);
	done(r);
	r = parse(GOOD "resolver { servers 127.0.0.1 [::1]:5353 2001:db8::1; dnssec no; root_hints \"/h\"; }");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.resolver.servers_n, 3);
	assert_int_equal(r->conf.resolver.servers[0].port, 53);
	assert_int_equal(r->conf.resolver.servers[1].port, 5353);
	assert_int_equal(r->conf.resolver.servers[1].family, IP_V6);
	assert_int_equal(r->conf.resolver.servers[2].port, 53);
	assert_false(r->conf.resolver.dnssec);
	assert_str(r->conf.resolver.root_hints, STR("/h"));
	done(r);
	r = parse(GOOD "resolver { trust_anchor \"/a\"; stub Corp.example 127.0.0.1:5355; stub . ::1 insecure; }");
	assert_int_equal(r->errs.n, 0);
	assert_str(r->conf.resolver.trust_anchor, STR("/a"));
	assert_int_equal(r->conf.resolver.stubs_n, 2);
	assert_str(r->conf.resolver.stubs[0].zone, STR("corp.example"));
	assert_int_equal(r->conf.resolver.stubs[0].server.port, 5355);
	assert_false(r->conf.resolver.stubs[0].insecure);
	assert_int_equal(r->conf.resolver.stubs[1].zone.n, 0);
	assert_true(r->conf.resolver.stubs[1].insecure);
	done(r);
}

static void default_route_is_always_there(void **state)
{
	struct result *r = parse(GOOD);
	assert_int_equal(r->conf.routes_n, 1);
	const struct conf_route *d = &r->conf.routes[0];
	assert_str(d->name, STR("default"));
	assert_int_equal(d->kind, ROUTE_KIND_MX);
	assert_int_equal(d->hops_n, 0);
	assert_int_equal(d->connections, 20);
	assert_int_equal(d->rate, 0);
	assert_int_equal(d->ip, IP_CHOICE_ANY);
	assert_int_equal(d->source_v4.family, IP_NONE);
	done(r);
	r = parse(GOOD "route default { via smtp relay.example.net; rate 60; } route a { to a.org; } route b { }");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.routes_n, 3);
	assert_str(r->conf.routes[0].name, STR("a"));
	assert_str(r->conf.routes[1].name, STR("b"));
	assert_str(r->conf.routes[2].name, STR("default"));
	assert_int_equal(r->conf.routes[2].rate, 60);
	assert_str(r->conf.routes[2].hops[0].host, STR("relay.example.net"));
	done(r);
}

static void assert_hop(const struct conf_hop *h, const char *host, unsigned port, unsigned order, unsigned weight)
{
	assert_str(h->host, str_z(host));
	assert_int_equal(h->port, port);
	assert_int_equal(h->order, order);
	assert_int_equal(h->weight, weight);
}

static void understands_tls_of_routes(void **state)
{
	struct result *r = parse(GOOD "route a { via smtp b.org:465 order 5 c.org:587 d.org:26 tls weight 3; tls verify; tls_ca /c; auth ann /p; }");
	assert_int_equal(r->errs.n, 0);
	const struct conf_route *a = &r->conf.routes[0], *d = &r->conf.routes[1];
	assert_true(a->hops[0].tls && !a->hops[1].tls && a->hops[2].tls);
	assert_int_equal(a->hops[2].weight, 3);
	assert_int_equal(a->tls, ROUTE_TLS_VERIFY);
	assert_str(a->auth_user, STR("ann"));
	assert_str(a->auth_file, STR("/p"));
	assert_int_equal(d->tls, ROUTE_TLS_OPPORTUNISTIC);
	done(r);
}

static void understands_routes(void **state)
{
	struct result *r = parse(GOOD "route \"to the hub\" {\n"
				      "to Example.NET *.Example.net; from a.org <>;\n"
				      "via smtp Hub.example.net order 10 weight 3 192.0.2.1:2525 order 20 [2001:db8::1]:26\n"
				      "2001:db8::2 weight 0 h.example:587;\n"
				      "source 192.0.2.9 2001:db8::9; hostname Out.example.net; ip only_v6; connections 3; rate 600; }\n"
				      "route boxes { to b.org; via lmtp unix:/run/lmtp.sock 127.0.0.1 localhost:2424; }\n"
				      "route plain { via mx; ip prefer_v4; }");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.routes_n, 4);
	const struct conf_route *a = &r->conf.routes[0], *b = &r->conf.routes[1];
	assert_str(a->name, STR("to the hub"));
	assert_int_equal(a->kind, ROUTE_KIND_SMTP);
	assert_int_equal(a->to_n, 2);
	assert_str(a->to[0].text, STR("example.net"));
	assert_str(a->to[1].text, STR("*.example.net"));
	assert_int_equal(a->from_n, 2);
	assert_str(a->from[1].text, STR("<>"));
	assert_int_equal(a->hops_n, 5);
	assert_hop(&a->hops[0], "hub.example.net", 25, 10, 3);
	assert_hop(&a->hops[1], "192.0.2.1", 2525, 20, 1);
	assert_hop(&a->hops[2], "2001:db8::1", 26, 0, 1);
	assert_hop(&a->hops[3], "2001:db8::2", 25, 0, 1);
	assert_hop(&a->hops[4], "h.example", 587, 0, 1);
	assert_int_equal(a->source_v4.family, IP_V4);
	assert_int_equal(a->source_v6.family, IP_V6);
	assert_str(a->hostname, STR("out.example.net"));
	assert_str(b->hostname, STR(""));
	assert_int_equal(a->ip, IP_CHOICE_ONLY_V6);
	assert_int_equal(a->connections, 3);
	assert_int_equal(a->rate, 600);
	assert_int_equal(b->kind, ROUTE_KIND_LMTP);
	assert_int_equal(b->hops_n, 3);
	assert_hop(&b->hops[0], "/run/lmtp.sock", 0, 0, 1);
	assert_hop(&b->hops[1], "127.0.0.1", 24, 0, 1);
	assert_hop(&b->hops[2], "localhost", 2424, 0, 1);
	assert_int_equal(r->conf.routes[2].kind, ROUTE_KIND_MX);
	assert_int_equal(r->conf.routes[2].ip, IP_CHOICE_PREFER_V4);
	done(r);
	r = parse(GOOD "route r { to b.org *.a.org; via lmtp unix:/l; } domain b.org { mailbox lmtp; } domain x.a.org { mailbox lmtp; }\n"
		       "domain c.org { mailbox maildir; } domain d.org { }");
	assert_int_equal(r->errs.n, 0);
	assert_int_equal(r->conf.domains[0].mailbox, MAILBOX_KIND_LMTP);
	assert_int_equal(r->conf.domains[2].mailbox, MAILBOX_KIND_MAILDIR);
	assert_int_equal(r->conf.domains[3].mailbox, MAILBOX_KIND_MAILDIR);
	done(r);
	r = parse(GOOD "route default { via lmtp 127.0.0.1; } domain b.org { mailbox lmtp; }");
	assert_int_equal(r->errs.n, 0);
	done(r);
}

static void says_all_at_once(void **state)
{
	struct result *r = parse("hostname a.org\nlisten smtp { adress *:25; }\nlimits { recipients many; }\nsmtputf9 yes;\n");
	struct buf b = buf_grow(r->mem, 65536);
	conf_errors_add(&b, &r->errs);
	/* A missing ; is reported where the directive began, and hides nothing of the block behind it. */
	assert_int_equal(r->errs.n, 4);
	assert_true(str_find_str(buf_str(&b), STR("test.conf:1:1: a ; is missing")) < b.n);
	assert_true(str_find_str(buf_str(&b), STR("test.conf:2:15: unknown directive 'adress'")) < b.n);
	assert_true(str_find_str(buf_str(&b), STR("test.conf:3:21: 'many'")) < b.n);
	assert_true(str_find_str(buf_str(&b), STR("test.conf:4:1: unknown directive 'smtputf9': did you mean 'smtputf8'?")) < b.n);
	buf_free(&b);
	done(r);
}

static void manual_names_every_directive(void **state)
{
	struct mem *mem = mem_new(0);
	struct buf b = buf_grow(mem, 1 << 20);
	conf_manual_add(&b);
	for (size_t i = 0; i < conf_directives_n; i++)
		assert_true(str_find_str(buf_str(&b), str_z(conf_directives[i].name)) < b.n);
	buf_free(&b);
	mem_destroy(mem);
}

static void units(void **state)
{
	uint64_t v;
	assert_true(conf_size(STR("2G"), &v) && v == 2ULL << 30);
	assert_true(conf_size(STR("17"), &v) && v == 17);
	assert_false(conf_size(STR("G"), &v));
	assert_false(conf_size(STR("99999999999999999999"), &v));
	assert_false(conf_size(STR("18446744073709551615K"), &v));
	assert_true(conf_time(STR("300ms"), &v) && v == 300);
	assert_true(conf_time(STR("5min"), &v) && v == 300000);
	assert_false(conf_time(STR("5"), &v));
	assert_false(conf_time(STR("-5s"), &v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(understands_a_whole_file), cmocka_unit_test(tls_of_listeners), cmocka_unit_test(knows_where_accounts_are), cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(knows_where_to_ask_the_dns),
		cmocka_unit_test(default_route_is_always_there), cmocka_unit_test(understands_routes), cmocka_unit_test(understands_tls_of_routes),
		cmocka_unit_test(says_all_at_once),	    cmocka_unit_test(manual_names_every_directive),
		cmocka_unit_test(units),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
