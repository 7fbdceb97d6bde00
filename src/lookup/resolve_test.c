/* SPDX-License-Identifier: Apache-2.0 */
/* From forward-paths to destinations, on a real directory (SQLite) in a temporary place. */
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/test.h"
#include "lookup/lookup.h"
#include "lookup/resolve.h"

#define NOW (INT64_C(20780) * 86400000)
#define DAY INT64_C(86400000)

struct fixture {
	struct world *w;
	char dir[64];
	struct directory *d;
	struct conf conf;
	struct conf_domain domains[3];
	struct conf_relay_domain relay_domains[2];
	struct ip relay[1];
	struct arena arena;
	struct table listed; /* recipients of listed.net */
	struct srs srs;
};

static void add(struct fixture *f, enum directory_kind kind, const char *name, const char *targets)
{
	struct directory_change_in in = { .kind = kind, .name = str_z(name), .targets = str_z(targets) };
	struct directory_change_out out = { 0 };
	assert_int_equal(lookup_change(f->d, &f->conf, &in, 1, &f->arena, &out), ERR_NONE);
	if (!out.done)
		fail_msg("%s: %.*s", name, STR_ARG(out.text));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	strcpy(f->dir, "/tmp/godwit-directory.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->w = world_linux_new();
	f->arena = arena_make(world_mem(f->w), 64 << 20);
	assert_int_equal(directory_open(f->w, str_z(f->dir), &f->d), ERR_NONE);
	f->domains[0] = (struct conf_domain){ .name = STR("a.org"), .subaddress = STR("+") };
	f->domains[1] = (struct conf_domain){ .name = STR("b.org"), .catch_all = STR("all@a.org"), .subaddress = STR("") };
	f->domains[2] = (struct conf_domain){ .name = STR("l.org"), .subaddress = STR("+"), .mailbox = MAILBOX_KIND_LMTP };
	assert_int_equal(ip_parse_prefix(STR("10.0.0.0/8"), &f->relay[0]), ERR_NONE);
	f->relay_domains[0] = (struct conf_relay_domain){ .name = STR("listed.net"), .recipients = STR("/a/file") };
	f->relay_domains[1] = (struct conf_relay_domain){ .name = STR("any.net") };
	f->listed = table_make(world_mem(f->w), (struct sip_key){ 1, 2 }, 10);
	assert_int_equal(table_put(&f->listed, STR("r@listed.net"), f), ERR_NONE);
	assert_int_equal(table_put(&f->listed, STR("a%b@listed.net"), f), ERR_NONE);
	f->srs = (struct srs){ .secrets = { STR("0123456789abcdef") }, .secrets_n = 1, .domain = STR("a.org") };
	f->conf = (struct conf){ .hostname = STR("mx.a.org"), .domains = f->domains, .domains_n = 3, .relay_from = f->relay, .relay_from_n = 1, .relay_domains = f->relay_domains, .relay_domains_n = 2 };
	add(f, DIRECTORY_KIND_ACCOUNT, "u@a.org", "");
	add(f, DIRECTORY_KIND_ACCOUNT, "All@A.org", "");
	add(f, DIRECTORY_KIND_ACCOUNT, "v@b.org", "");
	add(f, DIRECTORY_KIND_DOMAIN, "c.org", "");
	add(f, DIRECTORY_KIND_ACCOUNT, "w@c.org", "");
	add(f, DIRECTORY_KIND_ALIAS, "team@a.org", "u@a.org, v@b.org, u@a.org, crew@a.org");
	add(f, DIRECTORY_KIND_ALIAS, "crew@a.org", "team@a.org");
	add(f, DIRECTORY_KIND_ALIAS, "loop1@a.org", "loop2@a.org");
	add(f, DIRECTORY_KIND_ALIAS, "loop2@a.org", "loop1@a.org");
	add(f, DIRECTORY_KIND_ALIAS, "@c.org", "w@c.org");
	add(f, DIRECTORY_KIND_ALIAS, "away@a.org", "Some.One@Elsewhere.org");
	add(f, DIRECTORY_KIND_ALIAS, "both@a.org", "u@a.org, x@elsewhere.org, X@elsewhere.org, away@a.org");
	add(f, DIRECTORY_KIND_ACCOUNT, "m@l.org", "");
	add(f, DIRECTORY_KIND_ALIAS, "n@l.org", "m@l.org, u@a.org");
	add(f, DIRECTORY_KIND_ALIAS, "to-m@a.org", "m@l.org, M+x@l.org");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char line[128];
	table_free(&f->listed);
	directory_close(f->d);
	arena_close(&f->arena);
	world_linux_free(f->w);
	snprintf(line, sizeof line, "rm -rf %s", f->dir);
	assert_int_equal(system(line), 0);
	free(f);
	return 0;
}

static struct resolver resolver_of(struct fixture *f)
{
	return (struct resolver){ .conf = &f->conf, .directory = f->d, .relay_recipients = &f->listed, .srs = &f->srs, .now_ms = NOW };
}

static struct lookup_rcpt_out ask(struct fixture *f, struct str address, const char *client, int64_t now_ms)
{
	struct resolver r = resolver_of(f);
	struct lookup_rcpt_in in = { .address = address };
	struct lookup_rcpt_out out = { 0 };
	r.now_ms = now_ms;
	if (strcmp(client, "unix") == 0)
		in.client.family = IP_UNIX;
	else
		assert_int_equal(ip_parse(str_z(client), &in.client), ERR_NONE);
	assert_int_equal(resolve_rcpt(&r, &in, &f->arena, &out), ERR_NONE);
	return out;
}

/* Address, client, reply code or 0, then mailboxes in order; what is sent on has > before it. */
static const struct {
	const char *address, *client;
	unsigned code;
	const char *mailboxes;
} cases[] = {
	{ "u@a.org", "192.0.2.1", 0, "a.org/u" },
	{ "U@A.org", "192.0.2.1", 0, "a.org/u" },
	{ "u+lists@a.org", "192.0.2.1", 0, "a.org/u" },
	{ "+u@a.org", "192.0.2.1", 550, "" },
	{ "x@a.org", "192.0.2.1", 550, "" },
	/* mailboxes that another server keeps */
	{ "m@l.org", "192.0.2.1", 0, ">m@l.org" },
	{ "M+x@L.org", "192.0.2.1", 0, ">m@l.org" },
	{ "n@l.org", "192.0.2.1", 0, ">m@l.org a.org/u" },
	{ "to-m@a.org", "192.0.2.1", 0, ">m@l.org" },
	{ "postmaster@l.org", "192.0.2.1", 0, ">postmaster@l.org" },
	{ "nobody@l.org", "192.0.2.1", 550, "" },
	{ "v+x@b.org", "192.0.2.1", 0, "a.org/all" }, /* no subaddresses there: the catch-all */
	{ "nobody@b.org", "192.0.2.1", 0, "a.org/all" },
	{ "anything@c.org", "192.0.2.1", 0, "c.org/w" },
	{ "team@a.org", "192.0.2.1", 0, "a.org/u b.org/v" },
	{ "crew@a.org", "192.0.2.1", 0, "a.org/u b.org/v" },
	{ "loop1@a.org", "192.0.2.1", 550, "" },
	{ "postmaster", "192.0.2.1", 0, "a.org/postmaster" },
	{ "postmaster@c.org", "192.0.2.1", 0, "c.org/w" },
	{ "Postmaster@a.org", "192.0.2.1", 0, "a.org/postmaster" },
	/* RFC 5321 §4.5.1; and whoever answers a report's From field */
	{ "postmaster@mx.a.org", "192.0.2.1", 0, "a.org/postmaster" },
	{ "PostMaster@MX.a.org", "192.0.2.1", 0, "a.org/postmaster" },
	{ "MAILER-DAEMON@mx.a.org", "unix", 0, "a.org/postmaster" },
	{ "other@mx.a.org", "192.0.2.1", 550, "" },
	{ "postmaster@x.mx.a.org", "192.0.2.1", 550, "" },
	{ "postmaster@elsewhere.org", "192.0.2.1", 550, "" },
	/* never an open relay (P5, H28) */
	{ "x@elsewhere.org", "192.0.2.1", 550, "" },
	{ "x%elsewhere.org@a.org", "192.0.2.1", 550, "" },
	{ "elsewhere.org!x@a.org", "192.0.2.1", 550, "" },
	{ "\"x@elsewhere.org\"@a.org", "192.0.2.1", 550, "" },
	{ "x@[127.0.0.1]", "192.0.2.1", 550, "" },
	{ "postmaster", "10.1.2.3", 0, "a.org/postmaster" },
	{ "\"u@elsewhere.org\"@a.org", "10.1.2.3", 550, "" },
	{ "u%elsewhere.org@a.org", "10.1.2.3", 550, "" },
	{ "elsewhere.org!u@a.org", "10.1.2.3", 550, "" },
	{ "x@a.org.elsewhere.org", "192.0.2.1", 550, "" },
	{ "x@sub.a.org", "192.0.2.1", 550, "" },
	{ "x@[192.0.2.9]", "192.0.2.1", 550, "" },
	{ "x@[IPv6:::1]", "192.0.2.1", 550, "" },
	{ "x@[t:a@a.org]", "192.0.2.1", 550, "" },
	{ "u@a.org@elsewhere.org", "192.0.2.1", 550, "" },
	{ "x@elsewhere.org", "::ffff:11.0.0.1", 550, "" },
	{ "x@elsewhere.org", "127.0.0.1", 550, "" }, /* being near is no permission */
	{ "x@elsewhere.org", "11.0.0.1", 550, "" },
	{ "@elsewhere.org", "192.0.2.1", 550, "" },
	/* R3: clients of ours, but not back to ourselves by a literal (H29) */
	{ "Some.One@Elsewhere.ORG", "10.1.2.3", 0, ">Some.One@elsewhere.org" },
	{ "Some.One@elsewhere.org", "unix", 0, ">Some.One@elsewhere.org" },
	{ "x@[127.0.0.1]", "unix", 550, "" },
	{ "x@[192.0.2.9]", "10.1.2.3", 0, ">x@[192.0.2.9]" },
	{ "x@[127.0.0.1]", "10.1.2.3", 550, "" },
	{ "x@[127.9.9.9]", "10.1.2.3", 550, "" },
	{ "x@[0.0.0.0]", "10.1.2.3", 550, "" },
	{ "x@[IPv6:::1]", "10.1.2.3", 550, "" },
	{ "x@[IPv6:::]", "10.1.2.3", 550, "" },
	{ "x@[IPv6:::ffff:127.0.0.1]", "10.1.2.3", 550, "" },
	/* R2: relay domains, for everyone; recipients that are known not to exist for nobody */
	{ "R@listed.net", "192.0.2.1", 0, ">R@listed.net" },
	{ "r+x@listed.net", "192.0.2.1", 0, ">r+x@listed.net" },
	{ "Postmaster@listed.net", "192.0.2.1", 0, ">Postmaster@listed.net" },
	{ "q@listed.net", "192.0.2.1", 550, "" },
	{ "q@listed.net", "10.1.2.3", 550, "" },
	{ "+r@listed.net", "192.0.2.1", 550, "" },
	{ "r%elsewhere.org@listed.net", "192.0.2.1", 550, "" },
	{ "a%b@listed.net", "192.0.2.1", 0, ">a%b@listed.net" },
	{ "q@any.net", "192.0.2.1", 0, ">q@any.net" },
	{ "q@sub.any.net", "192.0.2.1", 550, "" },
	{ "q%elsewhere.org@any.net", "192.0.2.1", 550, "" },
	{ "elsewhere.org!q@any.net", "192.0.2.1", 550, "" },
	{ "\"q@elsewhere.org\"@any.net", "192.0.2.1", 550, "" },
	{ "q%elsewhere.org@any.net", "10.1.2.3", 0, ">q%elsewhere.org@any.net" },
	/* aliases that lead away, for everyone: the operator wants it so */
	{ "away@a.org", "192.0.2.1", 0, ">Some.One@elsewhere.org" },
	{ "both@a.org", "192.0.2.1", 0, "a.org/u >x@elsewhere.org >Some.One@elsewhere.org" },
	/* data, never a path or a command (H26, H27) */
	{ "../../etc/passwd@a.org", "192.0.2.1", 550, "" },
	{ "|cmd@a.org", "192.0.2.1", 550, "" },
	{ "-f@a.org", "192.0.2.1", 550, "" },
};

static void targets_are(const struct lookup_rcpt_out *out, const char *address, unsigned code, const char *wanted)
{
	char got[512];
	struct buf b = buf_fixed(got, sizeof got);
	for (size_t k = 0; k < out->targets_n; k++) {
		const struct target *t = &out->targets[k];
		if (k)
			buf_add_char(&b, ' ');
		if (t->kind == TARGET_KIND_REMOTE)
			buf_add_char(&b, '>');
		buf_add(&b, t->kind == TARGET_KIND_REMOTE ? t->address : t->mailbox);
	}
	bool right = code ? out->verdict == VERDICT_REFUSE && out->code == code && out->text.n > 0 : out->verdict == VERDICT_ACCEPT;
	if (!right || !str_eq(buf_str(&b), str_z(wanted)))
		fail_msg("%s: %u %.*s, to %.*s", address, out->code, STR_ARG(out->text), STR_ARG(buf_str(&b)));
}

static void finds_destinations(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct lookup_rcpt_out out = ask(f, str_z(cases[i].address), cases[i].client, NOW);
		targets_are(&out, cases[i].address, cases[i].code, cases[i].mailboxes);
		assert_true(out.cacheable);
	}
}

/* All domains may be in the database; postmaster, and reports that nobody else gets, still have a place. */
static void postmaster_without_a_configured_domain(void **state)
{
	struct fixture *f = *state;
	f->conf.domains_n = 0;
	static const char *const all[] = { "postmaster", "Postmaster@mx.a.org", "mailer-daemon@mx.a.org" };
	for (size_t i = 0; i < COUNT(all); i++) {
		struct lookup_rcpt_out out = ask(f, str_z(all[i]), i ? "192.0.2.1" : "unix", NOW);
		targets_are(&out, all[i], 0, "mx.a.org/postmaster");
	}
	struct lookup_rcpt_out out = ask(f, STR("ann@mx.a.org"), "192.0.2.1", NOW);
	targets_are(&out, "ann", 550, "");
	add(f, DIRECTORY_KIND_DOMAIN, "mx.a.org", "");
	add(f, DIRECTORY_KIND_ACCOUNT, "w@mx.a.org", "");
	add(f, DIRECTORY_KIND_ALIAS, "postmaster@mx.a.org", "w@mx.a.org");
	out = ask(f, STR("postmaster@mx.a.org"), "192.0.2.1", NOW);
	targets_are(&out, "its alias", 0, "mx.a.org/w");
}

/* The reasons, where several lead to the same code. */
static void says_why(void **state)
{
	static const struct {
		const char *address, *client, *enhanced;
	} table[] = {
		{ "x@elsewhere.org", "192.0.2.1", "5.7.1" }, { "x@[127.0.0.1]", "192.0.2.1", "5.7.1" },
		{ "x@[127.0.0.1]", "10.1.2.3", "5.1.2" },    { "q@listed.net", "192.0.2.1", "5.1.1" },
		{ "q%b@any.net", "192.0.2.1", "5.7.1" },     { "loop1@a.org", "192.0.2.1", "5.4.6" },
	};
	for (size_t i = 0; i < COUNT(table); i++)
		assert_str(ask(*state, str_z(table[i].address), table[i].client, NOW).enhanced, str_z(table[i].enhanced));
}

static struct str rewritten(struct fixture *f, const char *address)
{
	struct buf b = buf_fixed(arena_alloc(&f->arena, 300), 300);
	assert_int_equal(srs_forward(&f->srs, str_z(address), NOW, &b), ERR_NONE);
	return buf_str(&b);
}

/* R1: what we signed leads back, from everywhere; nothing else does. */
static void takes_bounces_of_forwarded_mail(void **state)
{
	static const struct {
		const char *original;
		unsigned code;
		const char *to;
	} table[] = {
		{ "Carol@elsewhere.org", 0, ">Carol@elsewhere.org" },
		{ "SRS0=HH=JM=x.org=ann@other.org", 0, ">SRS0=HH=JM=x.org=ann@other.org" },
		{ "U@b.org", 0, "a.org/all" }, /* it was of a domain that is ours now */
		{ "w@c.org", 0, "c.org/w" },
		{ "x@[127.0.0.1]", 550, "" }, /* no way to ourselves (H29) */
		{ "q%z@any.net", 0, ">q%z@any.net" },
	};
	struct fixture *f = *state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct str made = rewritten(f, table[i].original);
		struct lookup_rcpt_out out = ask(f, made, "192.0.2.1", NOW + 20 * DAY);
		targets_are(&out, table[i].original, table[i].code, table[i].to);
		assert_false(out.cacheable);
		out = ask(f, made, "192.0.2.1", NOW + 30 * DAY);
		targets_are(&out, table[i].original, 550, "");
		assert_false(out.cacheable);
		char *bad = arena_alloc(&f->arena, made.n);
		memcpy(bad, made.p, made.n);
		size_t at = str_find_str(made, STR("SRS")) + 6;
		bad[at] = bad[at] == 'A' ? 'B' : 'A';
		out = ask(f, str_of(bad, made.n), "192.0.2.1", NOW);
		targets_are(&out, "forged", 550, "");
		assert_str(out.enhanced, STR("5.1.1"));
	}
}

static void rewrites_what_is_sent_on(void **state)
{
	struct fixture *f = *state;
	struct resolver r = resolver_of(f);
	static const char *const kept[] = { "", "u@a.org", "U@B.org", "w@c.org" };
	struct str got;
	for (size_t i = 0; i < COUNT(kept); i++) {
		assert_int_equal(resolve_forward(&r, str_z(kept[i]), &f->arena, &got), ERR_NONE);
		assert_str(got, str_z(kept[i]));
	}
	assert_int_equal(resolve_forward(&r, STR("carol@elsewhere.org"), &f->arena, &got), ERR_NONE);
	assert_str(got, rewritten(f, "carol@elsewhere.org"));
	struct lookup_rcpt_out out = ask(f, got, "192.0.2.1", NOW);
	targets_are(&out, "carol", 0, ">carol@elsewhere.org");
	char longest[260];
	memset(longest, 'a', sizeof longest);
	memcpy(longest + 230, "@elsewhere.org", 14);
	assert_int_equal(resolve_forward(&r, str_of(longest, 244), &f->arena, &got), ERR_NONE);
	assert_str(got, str_of(longest, 244));
}

/* Mail that came through us twice: SRS1 at us, behind it SRS0 at us. */
static void unwraps_twice(void **state)
{
	struct fixture *f = *state;
	struct str first = rewritten(f, "carol@elsewhere.org"), local = str_sub(first, 5, str_find(first, '@'));
	struct str theirs = arena_strf(&f->arena, "SRS1=XX=a.org==%.*s@other.org", STR_ARG(local));
	char z[300];
	snprintf(z, sizeof z, "%.*s", STR_ARG(theirs));
	struct lookup_rcpt_out out = ask(f, rewritten(f, z), "192.0.2.1", NOW);
	targets_are(&out, z, 0, ">carol@elsewhere.org");
}

static void has_a_domain_of_its_own_for_them(void **state)
{
	struct fixture *f = *state;
	f->srs.domain = STR("bounce.a.org"); /* not a domain that is configured */
	struct lookup_rcpt_out out = ask(f, rewritten(f, "carol@elsewhere.org"), "192.0.2.1", NOW);
	targets_are(&out, "own domain for it", 0, ">carol@elsewhere.org");
	out = ask(f, STR("x@bounce.a.org"), "192.0.2.1", NOW);
	targets_are(&out, "x@bounce.a.org", 550, "");
	out = ask(f, STR("SRS0=AAAAAAAA=JM=elsewhere.org=carol@a.org"), "192.0.2.1", NOW);
	targets_are(&out, "not the domain for it", 550, "");
}

static void mailbox_paths_are_plain(void **state)
{
	static const struct {
		const char *local, *path;
	} table[] = {
		{ "user", "d/user" },		{ "..", "d/%2e." },	      { ".", "d/%2e" },
		{ "a/b", "d/a%2fb" },		{ "../x", "d/%2e.%2fx" },     { "a b", "d/a%20b" },
		{ "\"q\"", "d/%22q%22" },	{ "100%", "d/100%25" },	      { "\xc3\xbc", "d/%c3%bc" },
		{ "first.last+x", "d/first.last+x" },
	};
	struct fixture *f = *state;
	for (size_t i = 0; i < COUNT(table); i++)
		assert_str(resolve_mailbox(&f->arena, str_z(table[i].local), STR("d")), str_z(table[i].path));
	assert_null(resolve_mailbox(&f->arena, STR(""), STR("d")).p);
}

static const struct {
	enum directory_kind kind;
	const char *name, *targets, *says;
} bad_changes[] = {
	{ DIRECTORY_KIND_ACCOUNT, "u@nowhere.org", "", "godwit domain add nowhere.org" },
	{ DIRECTORY_KIND_ACCOUNT, "not an address", "", "is not an address" },
	{ DIRECTORY_KIND_ACCOUNT, "a@b@c", "", "is not an address" },
	{ DIRECTORY_KIND_DOMAIN, "no_domain!", "", "is not a domain name" },
	{ DIRECTORY_KIND_ALIAS, "x@a.org", "", "at least one target" },
	{ DIRECTORY_KIND_ALIAS, "x@a.org", "|/bin/sh", "is not an address" },
	{ DIRECTORY_KIND_ALIAS, "x@nowhere.org", "u@a.org", "not a domain of this server" },
	{ DIRECTORY_KIND_ALIAS, "x@a.org", "@a.org", "is not an address" },
	{ DIRECTORY_KIND_ACCOUNT, "@a.org", "", "is not an address" },
};

static void refuses_bad_changes(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < COUNT(bad_changes); i++) {
		struct directory_change_in in = { .kind = bad_changes[i].kind, .name = str_z(bad_changes[i].name), .targets = str_z(bad_changes[i].targets) };
		struct directory_change_out out = { 0 };
		assert_int_equal(lookup_change(f->d, &f->conf, &in, 1, &f->arena, &out), ERR_NONE);
		if (out.done || str_find_str(out.text, str_z(bad_changes[i].says)) == out.text.n)
			fail_msg("%s: %.*s", bad_changes[i].name, STR_ARG(out.text));
	}
}

static void lists_in_pages(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 120; i++) {
		char name[32];
		snprintf(name, sizeof name, "user%03d@a.org", i);
		add(f, DIRECTORY_KIND_ACCOUNT, name, "");
	}
	struct directory_list_in in = { .kind = DIRECTORY_KIND_ACCOUNT, .match = STR("user") };
	struct directory_list_out out;
	size_t seen = 0;
	do {
		out = (struct directory_list_out){ 0 };
		assert_int_equal(directory_list(f->d, &in, &f->arena, &out), ERR_NONE);
		seen += out.accounts_n;
		in.after = out.accounts[out.accounts_n - 1].address;
	} while (out.more);
	assert_int_equal(seen, 120);
}

/* ---- accounts from elsewhere ---- */

struct elsewhere {
	struct backend backend;
	unsigned asked;
	bool dead;
};

static enum err must_be_asked(struct backend *b UNUSED, struct str account UNUSED)
{
	return ERR_BUSY;
}

static YIELDS enum err exists(struct backend *b, struct str account) /* yields: indirect */
{
	struct elsewhere *e = (struct elsewhere *)b;
	e->asked++;
	return e->dead ? ERR_CLOSED : str_starts(account, STR("u")) ? ERR_NONE : ERR_NOT_FOUND;
}

/* What lookup does: ask, and resolve again. */
static YIELDS enum err ask_elsewhere(struct fixture *f, struct elsewhere *x, struct lookup_rcpt_in in, struct lookup_rcpt_out *out)
{
	static const struct backend_ops ops = { .knows = must_be_asked, .exists = exists };
	struct backend *list[] = { &x->backend };
	struct backends backends = { list, 1 };
	struct backend_answers answers = { .arena = &f->arena };
	struct resolver r = resolver_of(f);
	x->backend = (struct backend){ &ops, STR("a.org") };
	r.backends = &backends;
	r.answers = &answers;
	enum err e = ERR_BUSY;
	for (unsigned round = 0; e == ERR_BUSY && round < 10; round++) {
		*out = (struct lookup_rcpt_out){ 0 };
		e = resolve_rcpt(&r, &in, &f->arena, out);
		if (e == ERR_BUSY) {
			assert_true(answers.open);
			TRY(backend_ask(&answers));
		}
	}
	return e;
}

/* coroutine */
static void asks_who_keeps_the_accounts(void **state)
{
	static const struct {
		const char *address, *account;
		unsigned asked, code;
		const char *mailboxes;
	} questions[] = {
		{ "u@a.org", "", 1, 0, "a.org/u" },
		{ "u+tag@a.org", "", 1, 0, "a.org/u+tag" }, /* that is an account there, too */
		{ "x+tag@a.org", "", 2, 550, "" },
		{ "x@a.org", "", 1, 550, "" },
		{ "All@a.org", "", 1, 550, "" }, /* what the database has does not count */
		{ "v@b.org", "", 0, 0, "b.org/v" }, /* nobody waits */
		{ "team@a.org", "", 1, 0, "a.org/u b.org/v" },
		{ "nobody@b.org", "", 1, 550, "" },
		{ "x@elsewhere.org", "u9@a.org", 1, 0, ">x@elsewhere.org" },
		{ "x@elsewhere.org", "gone@a.org", 1, 550, "" },
	};
	struct fixture *f = *state;
	struct lookup_rcpt_out out;
	for (size_t i = 0; i < COUNT(questions); i++) {
		struct elsewhere x = { 0 };
		struct lookup_rcpt_in in = { .address = str_z(questions[i].address), .account = str_z(questions[i].account) };
		assert_int_equal(ask_elsewhere(f, &x, in, &out), ERR_NONE);
		targets_are(&out, questions[i].address, questions[i].code, questions[i].mailboxes);
		assert_int_equal(x.asked, questions[i].asked);
		x = (struct elsewhere){ .dead = true }; /* B1 */
		assert_int_equal(ask_elsewhere(f, &x, in, &out), questions[i].asked ? ERR_CLOSED : ERR_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_destinations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(postmaster_without_a_configured_domain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(says_why, set_up, tear_down),
		cmocka_unit_test_setup_teardown(takes_bounces_of_forwarded_mail, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rewrites_what_is_sent_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unwraps_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(has_a_domain_of_its_own_for_them, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mailbox_paths_are_plain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_bad_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(asks_who_keeps_the_accounts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lists_in_pages, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
