/* SPDX-License-Identifier: Apache-2.0 */
/* From forward-paths to destinations, on a real directory (SQLite) in a temporary place. */
#include <stdlib.h>
#include <unistd.h>

#include "base/test.h"
#include "lookup/lookup.h"
#include "lookup/resolve.h"

struct fixture {
	struct world *w;
	char dir[64];
	struct directory *d;
	struct conf conf;
	struct conf_domain domains[2];
	struct ip relay[1];
	struct arena arena;
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
	assert_int_equal(ip_parse_prefix(STR("10.0.0.0/8"), &f->relay[0]), ERR_NONE);
	f->conf = (struct conf){ .hostname = STR("mx.a.org"), .domains = f->domains, .domains_n = 2, .relay_from = f->relay, .relay_from_n = 1 };
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
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char line[128];
	directory_close(f->d);
	arena_close(&f->arena);
	world_linux_free(f->w);
	snprintf(line, sizeof line, "rm -rf %s", f->dir);
	assert_int_equal(system(line), 0);
	free(f);
	return 0;
}

/* Address, client, reply code or 0, then mailboxes in order. */
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
	{ "v+x@b.org", "192.0.2.1", 0, "a.org/all" }, /* no subaddresses there: the catch-all */
	{ "nobody@b.org", "192.0.2.1", 0, "a.org/all" },
	{ "anything@c.org", "192.0.2.1", 0, "c.org/w" },
	{ "team@a.org", "192.0.2.1", 0, "a.org/u b.org/v" },
	{ "crew@a.org", "192.0.2.1", 0, "a.org/u b.org/v" },
	{ "loop1@a.org", "192.0.2.1", 550, "" },
	{ "postmaster", "192.0.2.1", 0, "a.org/postmaster" },
	{ "postmaster@c.org", "192.0.2.1", 0, "c.org/w" },
	{ "Postmaster@a.org", "192.0.2.1", 0, "a.org/postmaster" },
	/* never an open relay (P5, H28) */
	{ "x@elsewhere.org", "192.0.2.1", 550, "" },
	{ "x%elsewhere.org@a.org", "192.0.2.1", 550, "" },
	{ "elsewhere.org!x@a.org", "192.0.2.1", 550, "" },
	{ "\"x@elsewhere.org\"@a.org", "192.0.2.1", 550, "" },
	{ "x@[127.0.0.1]", "192.0.2.1", 550, "" },
	{ "x@elsewhere.org", "10.1.2.3", 550, "" }, /* no relay in this version */
	/* data, never a path or a command (H26, H27) */
	{ "../../etc/passwd@a.org", "192.0.2.1", 550, "" },
	{ "|cmd@a.org", "192.0.2.1", 550, "" },
	{ "-f@a.org", "192.0.2.1", 550, "" },
};

static void finds_destinations(void **state)
{
	struct fixture *f = *state;
	struct resolver r = { &f->conf, f->d, NULL };
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct lookup_rcpt_in in = { .address = str_z(cases[i].address) };
		struct lookup_rcpt_out out = { 0 };
		char got[256];
		struct buf b = buf_fixed(got, sizeof got);
		assert_int_equal(ip_parse(str_z(cases[i].client), &in.client), ERR_NONE);
		assert_int_equal(resolve_rcpt(&r, &in, &f->arena, &out), ERR_NONE);
		for (size_t k = 0; k < out.targets_n; k++) {
			if (k)
				buf_add_char(&b, ' ');
			buf_add(&b, out.targets[k].mailbox);
		}
		bool right = cases[i].code ? out.verdict == VERDICT_REFUSE && out.code == cases[i].code && out.text.n > 0 :
			out.verdict == VERDICT_ACCEPT;
		if (!right || !str_eq(buf_str(&b), str_z(cases[i].mailboxes)))
			fail_msg("%s: %u %.*s, to %.*s", cases[i].address, out.code, STR_ARG(out.text), STR_ARG(buf_str(&b)));
	}
}

static void held_mail_may_go_anywhere(void **state)
{
	struct fixture *f = *state;
	f->conf.hold_all = true;
	struct resolver r = { &f->conf, f->d, NULL };
	struct lookup_rcpt_in in = { .address = STR("x@elsewhere.org") };
	struct lookup_rcpt_out out = { 0 };
	assert_int_equal(ip_parse(STR("10.9.9.9"), &in.client), ERR_NONE);
	assert_int_equal(resolve_rcpt(&r, &in, &f->arena, &out), ERR_NONE);
	assert_int_equal(out.verdict, VERDICT_ACCEPT);
	assert_int_equal(out.targets[0].kind, TARGET_KIND_REMOTE);
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
	{ DIRECTORY_KIND_ALIAS, "x@a.org", "u@nowhere.org", "not a domain of this server" },
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_destinations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(held_mail_may_go_anywhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mailbox_paths_are_plain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_bad_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lists_in_pages, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
