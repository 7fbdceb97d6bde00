/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of EHLO's answer. */
#include "smtp/capabilities.h"

#include "base/test.h"

static struct capabilities of(const char *lines)
{
	struct capabilities c = { 0 };
	struct str rest = str_z(lines);
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		capabilities_add(&c, line);
	}
	return c;
}

static void keywords(void **state)
{
	struct capabilities c = of("pipelining\nSIZE 1000\n8BITMIME\nSMTPUTF8\nChunking\nBINARYMIME\nDSN\n"
				   "ENHANCEDSTATUSCODES\nSTARTTLS\nAUTH PLAIN\nX-OTHER\n\n \nVRFY\n");
	assert_int_equal(c.has, 1023);
	assert_int_equal(c.size_max, 1000);
	assert_int_equal(of("PIPELININGX\n8BIT\nDSN=1\n").has, 0);
}

/* RFC 1870 §4 */
static void size(void **state)
{
	assert_int_equal(of("SIZE").size_max, 0);
	assert_int_equal(of("SIZE 0").size_max, 0);
	assert_int_equal(of("SIZE -1").size_max, 0);
	assert_int_equal(of("SIZE 99999999999999999999").size_max, 0);
	assert_int_equal(of("SIZE 10\nSIZE 20").size_max, 20);
	assert_int_equal(of("SIZE 18446744073709551615").size_max, UINT64_MAX);
}

/* RFC 9422 §3, §4 */
static void limits(void **state)
{
	struct capabilities c = of("LIMITS MAILMAX=5 RCPTMAX=20 RCPTDOMAINMAX=1 NEW=x");
	assert_int_equal(c.mail_max, 5);
	assert_int_equal(c.rcpt_max, 20);
	assert_int_equal(c.rcpt_domain_max, 1);
	c = of("LIMITS mailmax=7  RCPTMAX= RCPTMAX=x RCPTMAX=99999999999 =3 =");
	assert_int_equal(c.mail_max, 7);
	assert_int_equal(c.rcpt_max, 0);
	assert_int_equal(of("LIMITS").has, CAP_LIMITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keywords),
		cmocka_unit_test(size),
		cmocka_unit_test(limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
