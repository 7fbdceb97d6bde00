/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of Dovecot's authentication protocol, both ways. */
#include "base/test.h"
#include "lookup/dovecot.h"

#define P DOVECOT_PASSWORDS
#define U DOVECOT_USERS

static const struct {
	enum dovecot_kind kind;
	const char *line;
	enum err err;
	enum dovecot_says says;
	uint32_t id;
} lines[] = {
	{ P, "VERSION\t1\t2", ERR_NONE, DOVECOT_VERSION, 0 },
	{ U, "VERSION\t1\t1", ERR_NONE, DOVECOT_VERSION, 0 },
	{ P, "VERSION\t2\t0", ERR_SYNTAX, 0, 0 },
	{ P, "VERSION", ERR_SYNTAX, 0, 0 },
	{ P, "MECH\tPLAIN\tplaintext", ERR_NONE, DOVECOT_NOTHING, 0 },
	{ P, "SPID\t123", ERR_NONE, DOVECOT_NOTHING, 0 },
	{ P, "DONE", ERR_NONE, DOVECOT_READY, 0 },
	{ U, "SPID\t123", ERR_NONE, DOVECOT_READY, 0 },
	{ U, "DONE", ERR_NONE, DOVECOT_NOTHING, 0 },
	{ P, "OK\t1\tuser=u@a.org\tnologin", ERR_NONE, DOVECOT_YES, 1 },
	{ P, "OK\t4294967295", ERR_NONE, DOVECOT_YES, 4294967295u },
	{ P, "OK\t4294967296", ERR_SYNTAX, 0, 0 },
	{ P, "OK\t-1", ERR_SYNTAX, 0, 0 },
	{ P, "OK", ERR_SYNTAX, 0, 0 },
	{ P, "FAIL\t2\tuser=u@a.org", ERR_NONE, DOVECOT_NO, 2 },
	{ P, "FAIL\t2\tuser=u@a.org\tuser_disabled", ERR_NONE, DOVECOT_NO, 2 },
	{ P, "FAIL\t2\tuser=u@a.org\ttemp", ERR_NONE, DOVECOT_FAILED, 2 },
	{ P, "FAIL\t2\tcode=temp_fail\tuser=u", ERR_NONE, DOVECOT_FAILED, 2 },
	{ P, "FAIL\t2\tuser=temp\treason=temporary", ERR_NONE, DOVECOT_NO, 2 },
	{ P, "CONT\t3\t", ERR_NONE, DOVECOT_FAILED, 3 },
	{ P, "NOTFOUND\t3", ERR_NONE, DOVECOT_NOTHING, 0 },
	{ U, "USER\t4\tu@a.org\tuid=1", ERR_NONE, DOVECOT_YES, 4 },
	{ U, "NOTFOUND\t5", ERR_NONE, DOVECOT_NO, 5 },
	{ U, "FAIL\t6\treason=x", ERR_NONE, DOVECOT_FAILED, 6 },
	{ U, "OK\t6", ERR_NONE, DOVECOT_NOTHING, 0 },
	{ U, "", ERR_NONE, DOVECOT_NOTHING, 0 },
};

static void reads_lines(void **state UNUSED)
{
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		struct dovecot_line l;
		if (dovecot_read_line(lines[i].kind, str_z(lines[i].line), &l) != lines[i].err)
			fail_msg("%s", lines[i].line);
		if (lines[i].err == ERR_NONE && (l.says != lines[i].says || l.id != lines[i].id))
			fail_msg("%s: %d %u", lines[i].line, (int)l.says, l.id);
	}
}

static void asks(void **state UNUSED)
{
	char room[4096];
	struct buf b = buf_fixed(room, sizeof room);
	struct ip client;
	assert_int_equal(ip_parse(STR("2001:db8::1"), &client), ERR_NONE);
	assert_int_equal(dovecot_add_auth(&b, 7, STR("u@a.org"), STR("pass"), &client), ERR_NONE);
	assert_str(buf_str(&b), STR("AUTH\t7\tPLAIN\tservice=smtp\tsecured\tnologin\trip=2001:db8::1\tresp=AHVAYS5vcmcAcGFzcw==\n"));
	buf_clear(&b);
	assert_int_equal(dovecot_add_user(&b, 8, STR("u@a.org")), ERR_NONE);
	assert_str(buf_str(&b), STR("USER\t8\tu@a.org\tservice=smtp\n"));
	/* no line in a line */
	buf_clear(&b);
	assert_int_equal(dovecot_add_user(&b, 8, STR("\"u\nUSER\t1\tx\"@a.org")), ERR_SYNTAX);
	assert_int_equal(dovecot_add_auth(&b, 8, STR("u\t@a.org"), STR("p"), &client), ERR_SYNTAX);
	assert_int_equal(dovecot_add_user(&b, 8, STR("")), ERR_SYNTAX);
	assert_int_equal(b.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(reads_lines), cmocka_unit_test(asks) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
