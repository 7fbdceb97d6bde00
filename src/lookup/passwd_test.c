/* SPDX-License-Identifier: Apache-2.0 */
/* Files of accounts: which lines count, what their passwords are, and what is said of the others. */
#include "base/test.h"
#include "lookup/passwd.h"

#define KEYS "4096,AAECAwQFBgcICQoLDA0ODw==,AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define ID "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static struct passwd_list *read_text(const char *text)
{
	struct passwd_list *l = passwd_list_new((struct sip_key){ 1, 2 });
	assert_non_null(l);
	assert_int_equal(passwd_list_read(l, STR("a.org"), str_z(text)), ERR_NONE);
	return l;
}

/* A line; its account, or ""; h, s or nothing: a hash, keys for SCRAM; what is said of it. */
static const struct {
	const char *line, *account, *has, *note;
} lines[] = {
	{ "u:{CRYPT}$6$salt$hash:1000:1000:U:/home/u:/bin/sh:userdb_x=y", "u@a.org", "h", "" },
	{ "U@A.ORG:$2y$05$abc", "u@a.org", "h", "" },
	{ "u:" ID, "u@a.org", "h", "" },
	{ "u:{argon2id}$argon2id$v=19$m=999999999,t=1,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw", "u@a.org", "", "not understood" },
	{ "u:{ARGON2I}$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAECAwQFBgcICQoLDA0ODw", "u@a.org", "", "not understood" },
	{ "u:{SCRAM-SHA-256}" KEYS, "u@a.org", "s", "" },
	{ "u:{SCRAM-SHA-256}" KEYS "x", "u@a.org", "", "not understood" },
	{ "u:{SCRAM-SHA-1}" KEYS, "u@a.org", "", "not understood" },
	{ "u:{PLAIN}secret", "u@a.org", "", "not safe" },
	{ "u:{plain.b64}c2VjcmV0", "u@a.org", "", "not safe" },
	{ "u:{SSHA512}xxxx", "u@a.org", "", "not safe" },
	{ "u:{CRAM-MD5}xxxx", "u@a.org", "", "not safe" },
	{ "u:secret", "u@a.org", "", "not understood" },
	{ "u:{CRYPT}$1$old$md5", "u@a.org", "", "not understood" },
	{ "u:", "u@a.org", "", "" },
	{ "u:*:::::", "u@a.org", "", "" },
	{ "u:!$6$salt$hash", "u@a.org", "", "" },
	{ "u:$6$s$h::::::allow_nets=10.0.0.0/8", "u@a.org", "", "allow_nets" },
	{ "u:$6$s$h::::::userdb_a=b nologin", "u@a.org", "", "nologin" },
	{ "u:$6$s$h::::::x nopassword=y", "u@a.org", "", "nopassword" },
	{ "u:$6$s$h::::nologin::", "u@a.org", "h", "" }, /* a home, not an extra field */
	{ "u:$6$s$h\r", "u@a.org", "h", "" },
	{ "  # a comment", "", "", "" },
	{ "", "", "", "" },
	{ "v@b.org:$6$s$h", "", "", "" },
	{ "v@a.org.b.org:{PLAIN}x", "", "", "" },
	{ "u", "", "", "expected user" },
	{ ":$6$s$h", "", "", "neither a local part" },
	{ "a b:$6$s$h", "", "", "neither a local part" },
	{ "u@:$6$s$h", "", "", "neither a local part" },
	{ "u\t:$6$s$h", "", "", "control characters" },
};

static void reads_lines(void **state UNUSED)
{
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		struct passwd_list *l = read_text(lines[i].line);
		const struct passwd_entry *e = l->n ? l->v[0] : NULL;
		const char *has = e && e->hash.n ? "h" : e && e->scram256.n ? "s" : "";
		assert_str(e ? e->account : STR(""), str_z(lines[i].account));
		assert_string_equal(has, lines[i].has);
		struct str note = l->notes_n ? l->notes[0].text : STR(""), wanted = str_z(lines[i].note);
		if ((note.n > 0) != (wanted.n > 0) || (wanted.n && str_find_str(note, wanted) == note.n))
			fail_msg("%s: %.*s", lines[i].line, STR_ARG(note));
		assert_true(l->skipped == (note.n > 0 && !e));
		passwd_list_free(l);
	}
}

static void the_first_of_two_counts(void **state UNUSED)
{
	struct passwd_list *l = read_text("u:$6$s$first\nv:$6$s$h\nU@a.org:$6$s$second\n");
	assert_int_equal(l->n, 2);
	assert_int_equal(l->notes_n, 1);
	assert_int_equal(l->notes[0].line, 3);
	assert_str(passwd_list_find(l, STR("u@a.org"))->hash, STR("$6$s$first"));
	assert_null(passwd_list_find(l, STR("w@a.org")));
	passwd_list_free(l);
}

static void notes_are_bounded(void **state UNUSED)
{
	char text[1000];
	memset(text, 0, sizeof text);
	for (size_t i = 0; i + 3 < sizeof text; i += 2)
		memcpy(text + i, "x\n", 2);
	struct passwd_list *l = read_text(text);
	assert_int_equal(l->notes_n, PASSWD_NOTES_MAX);
	assert_int_equal(l->skipped, l->notes_n + l->notes_more);
	passwd_list_free(l);
}

/* F1, F3 */
static void an_empty_file_changes_nothing(void **state UNUSED)
{
	struct passwd p;
	struct mem *mem = mem_new(1 << 20);
	struct arena a = arena_make(mem, 1 << 18);
	struct credential *list, stand_in, again;
	size_t n;
	passwd_init(&p, STR("a.org"));
	assert_int_equal(p.backend.ops->knows(&p.backend, STR("u@a.org")), ERR_CLOSED);
	assert_int_equal(p.backend.ops->credentials(&p.backend, STR("u@a.org"), &a, &list, &n, &stand_in), ERR_CLOSED);
	assert_false(passwd_use(&p, read_text("# nothing\n")));
	assert_int_equal(p.backend.ops->knows(&p.backend, STR("u@a.org")), ERR_CLOSED);
	assert_true(passwd_use(&p, read_text("u:$6$s$h\nlocked:*\n")));
	assert_false(passwd_use(&p, read_text("broken\n")));
	assert_int_equal(p.backend.ops->knows(&p.backend, STR("u@a.org")), ERR_NONE);
	assert_int_equal(p.backend.ops->knows(&p.backend, STR("x@a.org")), ERR_NOT_FOUND);
	assert_int_equal(p.backend.ops->credentials(&p.backend, STR("u@a.org"), &a, &list, &n, &stand_in), ERR_NONE);
	assert_int_equal(n, 1);
	assert_str(list[0].hash, STR("$6$s$h"));
	assert_int_equal(p.backend.ops->credentials(&p.backend, STR("locked@a.org"), &a, &list, &n, &stand_in), ERR_NONE);
	assert_int_equal(n, 0);
	assert_int_equal(p.backend.ops->credentials(&p.backend, STR("x@a.org"), &a, &list, &n, &stand_in), ERR_NONE);
	assert_int_equal(p.backend.ops->credentials(&p.backend, STR("x@a.org"), &a, &list, &n, &again), ERR_NONE);
	assert_int_equal(n, 0);
	assert_str(again.hash, stand_in.hash); /* H65 */
	passwd_done(&p);
	arena_close(&a);
	mem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_lines), cmocka_unit_test(the_first_of_two_counts), cmocka_unit_test(notes_are_bounded),
		cmocka_unit_test(an_empty_file_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
