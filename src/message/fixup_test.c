/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 6409 §8: what is found missing, and Bcc in all its forms. */
#include "message/fixup.h"

#include "base/test.h"

static void looks(void **state)
{
	struct fixup f = fixup_look(STR("Subject: Date: x\r\n Date: y\r\nX-From: z\r\n"));
	assert_false(f.has_date || f.has_message_id || f.has_from);
	f = fixup_look(STR("DATE: x\r\nmessage-id : <a@b>\r\nFrom\t: z"));
	assert_true(f.has_date && f.has_message_id && f.has_from);
	f = fixup_look(STR(""));
	assert_false(f.has_date);
	(void)state;
}

static void drop(const char *before, const char *after)
{
	char room[500];
	size_t n = strlen(before);
	memcpy(room, before, n + 1);
	assert_str(str_of(room, fixup_drop_bcc(room, n)), str_z(after));
}

static void drops_bcc(void **state)
{
	drop("", "");
	drop("To: a\r\nSubject: b\r\n", "To: a\r\nSubject: b\r\n");
	drop("Bcc: a\r\n", "");
	drop("bcc : a\r\nTo: b\r\n", "To: b\r\n");
	drop("To: a\r\nBCC: b,\r\n c,\r\n\td\r\nSubject: x\r\n y\r\n", "To: a\r\nSubject: x\r\n y\r\n");
	drop("Resent-Bcc: b\r\nX-Bcc: c\r\nBcc2: d\r\nBcc:\r\n", "X-Bcc: c\r\nBcc2: d\r\n");
	drop("Subject: x\r\n Bcc: y\r\n", "Subject: x\r\n Bcc: y\r\n"); /* folded: not a field */
	drop("To: a\r\nBcc: b", "To: a\r\n");
	drop("Bcc", "Bcc");
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(looks), cmocka_unit_test(drops_bcc) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
