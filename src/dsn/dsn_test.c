/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications are read back by dsn_check.h. With GODWIT_DSN_DIR in the environment each one that
 * is composed here is also written into that directory, for tests/live/test_dsn_format.py.
 */
#include <stdlib.h>

#include "base/test.h"
#include "dsn/dsn_check.h"
#include "dsn/parts.h"

#define ARRIVED 1795459863000 /* Mon, 23 Nov 2026 18:51:03 +0000 */
#define HEADER                                                                     \
	"From: Carol <carol@example.net>\r\nTo: ann@example.org\r\nSubject: A\r\n" \
	" folded one\r\nMessage-ID: <m1@example.net>\r\n"

struct sample {
	struct mem *mem;
	struct envelope e;
	struct envelope_rcpt to[3];
	struct dsn_rcpt r[3];
	struct dsn d;
	struct buf out;
	struct dsn_info info;
	struct check c;
	char *room;
};

/* One recipient, refused by a remote; a test changes what it is about. */
static struct sample *sample(void)
{
	struct sample *s = calloc(1, sizeof *s);
	s->mem = mem_new(0);
	s->e = (struct envelope){
		.reverse_path = STR("carol@example.net"),
		.arrived_ms = ARRIVED,
		.message_id = STR("<m1@example.net>"),
	};
	for (size_t i = 0; i < COUNT(s->to); i++)
		s->r[i].rcpt = &s->to[i];
	s->to[0].target.address = s->to[0].forward_path = STR("ann@example.org");
	s->r[0] = (struct dsn_rcpt){
		.rcpt = &s->to[0],
		.status = STR("5.1.1"),
		.code = 550,
		.text = STR("No such user"),
		.remote = STR("mx.example.org [192.0.2.1]:25"),
		.last_attempt_ms = ARRIVED + 5000,
	};
	s->d = (struct dsn){
		.envelope = &s->e,
		.rcpts = s->r,
		.rcpts_n = 1,
		.hostname = STR("mx.example.com"),
		.contact = STR("postmaster@example.com"),
		.id = 77,
		.now_ms = ARRIVED + 6000,
		.random = { 1, 2, 3 },
		.prefix = STR("Received: from x\r\n\tby y; now\r\n"),
		.message = STR(HEADER "\r\nThe body.\r\n"),
		.full_max = 1 << 20,
	};
	s->d.message_bytes = s->d.message.n;
	s->out = buf_grow(s->mem, 8 << 20);
	return s;
}

static void message_is(struct sample *s, struct str bytes)
{
	s->d.message = bytes;
	s->d.message_bytes = bytes.n;
}

static void keep(const struct sample *s, const char *name)
{
	const char *dir = getenv("GODWIT_DSN_DIR");
	char path[300];
	if (!dir)
		return;
	snprintf(path, sizeof path, "%s/%s.%s.eml", dir, name, s->info.smtputf8 ? "utf8" : "ascii");
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(s->out.p, 1, s->out.n, f), s->out.n);
	assert_int_equal(fclose(f), 0);
}

static void compose(struct sample *s, const char *name)
{
	assert_int_equal(dsn_compose(&s->d, s->mem, &s->out, &s->info), ERR_NONE);
	s->room = malloc(s->out.n + 1);
	const char *wrong = check_dsn(&s->c, buf_str(&s->out), &s->info, s->room);
	if (wrong)
		fail_msg("%s: %s\n%.*s", name, wrong, STR_ARG(buf_str(&s->out)));
	keep(s, name);
}

static void done(struct sample *s)
{
	free(s->room);
	buf_free(&s->out);
	assert_int_equal(mem_blocks(s->mem), 0);
	mem_destroy(s->mem);
	free(s);
}

static void has(struct str text, const char *part)
{
	if (str_find_str(text, str_z(part)) == text.n)
		fail_msg("no \"%s\" in\n%.*s", part, STR_ARG(text));
}

static void has_not(struct str text, const char *part)
{
	if (str_find_str(text, str_z(part)) < text.n)
		fail_msg("\"%s\" in\n%.*s", part, STR_ARG(text));
}

/* value NULL: the field must not be there. */
static void field_is(struct str header, const char *name, const char *value)
{
	char room[3000];
	struct str got = check_field(header, name, room, sizeof room);
	if (value ? !got.p || !str_eq(got, str_z(value)) : got.p != NULL)
		fail_msg("%s: '%.*s', not '%s'", name, STR_ARG(got), value ? value : "(none)");
}

static void reports_a_refusal(void **state)
{
	struct sample *s = sample();
	s->e.envid = STR("a+2Bb+3Dc");
	s->to[0].orcpt = STR("rfc822;Ann+2Bx@Example.ORG");
	compose(s, "refusal");
	struct str h = s->c.header, m = check_group(&s->c, 0), r = check_group(&s->c, 1);
	field_is(h, "From", "Mail Delivery System <MAILER-DAEMON@mx.example.com>");
	field_is(h, "To", "<carol@example.net>");
	field_is(h, "Subject", "Undelivered mail: ann@example.org");
	field_is(h, "Date", "Mon, 23 Nov 2026 18:51:09 +0000");
	field_is(h, "Message-ID", "<000000000002d@mx.example.com>");
	field_is(h, "In-Reply-To", "<m1@example.net>");
	field_is(h, "References", "<m1@example.net>");
	field_is(h, "Auto-Submitted", "auto-replied");
	field_is(h, "MIME-Version", "1.0");
	field_is(h, "Content-Transfer-Encoding", "7bit");
	field_is(m, "Original-Envelope-Id", "a+b=c"); /* RFC 3461 §6.3 (a): decoded */
	field_is(m, "Reporting-MTA", "dns; mx.example.com");
	field_is(m, "Arrival-Date", "Mon, 23 Nov 2026 18:51:03 +0000");
	field_is(r, "Original-Recipient", "rfc822; Ann+x@Example.ORG");
	field_is(r, "Final-Recipient", "rfc822; ann@example.org");
	field_is(r, "Action", "failed");
	field_is(r, "Status", "5.1.1");
	field_is(r, "Remote-MTA", "dns; mx.example.org");
	field_is(r, "Diagnostic-Code", "smtp; 550 5.1.1 No such user");
	field_is(r, "Last-Attempt-Date", "Mon, 23 Nov 2026 18:51:08 +0000");
	field_is(r, "Will-Retry-Until", NULL);
	has(s->c.parts[0].body, "could not be delivered to\r\nthis recipient:");
	has(s->c.parts[0].body, "<ann@example.org>");
	has(s->c.parts[0].body, "The address does not exist there.");
	has(s->c.parts[0].body, "        550 5.1.1 No such user\r\n");
	has(s->c.parts[0].body, "postmaster@example.com");
	field_is(s->c.parts[0].header, "Content-Type", "text/plain; charset=utf-8");
	field_is(s->c.parts[1].header, "Content-Type", "message/delivery-status");
	field_is(s->c.parts[2].header, "Content-Type", "text/rfc822-headers");
	assert_str(s->c.parts[2].body, STR("Received: from x\r\n\tby y; now\r\n" HEADER));
	assert_int_equal(s->info.body, BODY_KIND_SEVEN_BIT);
	assert_false(s->info.smtputf8 || s->info.full);
	done(s);
}

static void reports_what_is_not_given(void **state)
{
	struct sample *s = sample();
	s->r[0] = (struct dsn_rcpt){ .rcpt = &s->to[0], .text = STR("the disk is broken") };
	s->e.message_id = STR("<bad id@x>");
	s->e.arrived_ms = 0;
	s->d.contact = STR("");
	s->d.prefix = STR("");
	message_is(s, STR(""));
	compose(s, "sparse");
	struct str m = check_group(&s->c, 0), r = check_group(&s->c, 1);
	field_is(s->c.header, "In-Reply-To", NULL);
	field_is(m, "Original-Envelope-Id", NULL);
	field_is(m, "Arrival-Date", NULL);
	field_is(r, "Original-Recipient", NULL); /* RFC 3461 §6.3 (d) */
	field_is(r, "Remote-MTA", NULL);
	field_is(r, "Last-Attempt-Date", NULL);
	field_is(r, "Status", "5.0.0");
	field_is(r, "Diagnostic-Code", "x-godwit; the disk is broken");
	has(s->c.parts[0].body, "In detail:\r\n        the disk is broken");
	assert_int_equal(s->c.parts[2].body.n, 0);
	done(s);
}

static void reports_several(void **state)
{
	struct sample *s = sample();
	s->d.rcpts_n = 3;
	s->to[1].target.address = STR("bob@example.org");
	s->to[1].forward_path = STR("team@example.com");
	s->to[2].target.address = STR("\"d  e\"@example.org");
	s->r[1].action = DSN_DELAYED;
	s->r[1].status = STR("4.4.1");
	s->r[1].text = STR("no answer");
	s->r[1].will_retry_until_ms = ARRIVED + 5 * 86400000LL;
	s->r[2].action = DSN_DELIVERED;
	s->r[2].status = STR("5.1.1"); /* cannot be: replaced */
	compose(s, "several");
	field_is(s->c.header, "Subject", "Undelivered mail: ann@example.org");
	field_is(check_group(&s->c, 2), "Action", "delayed");
	field_is(check_group(&s->c, 2), "Will-Retry-Until", "Sat, 28 Nov 2026 18:51:03 +0000");
	field_is(check_group(&s->c, 3), "Final-Recipient", "rfc822; \"d  e\"@example.org");
	field_is(check_group(&s->c, 3), "Status", "2.0.0");
	assert_int_equal(check_group(&s->c, 4).n, 0);
	has(s->c.parts[0].body, "<bob@example.org> (sent to <team@example.com>)");
	has(s->c.parts[0].body, "It is tried again until Sat, 28 Nov 2026");
	has(s->c.parts[0].body, "was delivered to this\r\nrecipient:");
	done(s);
}

static const struct {
	enum dsn_action action;
	const char *subject, *name, *says;
} kinds[] = {
	{ DSN_FAILED, "Undelivered mail: ann@example.org and 1 more", "failed", "could not be" },
	{ DSN_DELAYED, "Mail is delayed: ann@example.org and 1 more", "delayed", "not lost" },
	{ DSN_RELAYED, "Mail was handed on: ann@example.org and 1 more", "relayed", "handed on" },
	{ DSN_DELIVERED, "Mail was delivered: ann@example.org and 1 more", "delivered",
	  "in the mailbox" },
	{ DSN_EXPANDED, "Mail was distributed: ann@example.org and 1 more", "expanded",
	  "all members" },
};

static void names_each_kind(void **state)
{
	for (size_t i = 0; i < COUNT(kinds); i++) {
		struct sample *s = sample();
		s->to[1] = s->to[0];
		s->r[1] = s->r[0];
		s->r[1].rcpt = &s->to[1];
		s->d.rcpts_n = 2;
		s->r[0].action = s->r[1].action = kinds[i].action;
		compose(s, kinds[i].name);
		field_is(s->c.header, "Subject", kinds[i].subject);
		field_is(check_group(&s->c, 2), "Action", kinds[i].name);
		has(s->c.parts[0].body, kinds[i].says);
		done(s);
	}
}

/* RFC 3461 §4.3, §6.2: what of the original is returned. */
static const struct {
	const char *name;
	enum dsn_ret ret;
	enum dsn_action action;
	enum body_kind body;
	const char *message;
	unsigned missing, full_max;
	bool full;
	const char *type, *encoding;
} returns[] = {
	{ "full", DSN_RET_FULL, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 0, 999, true,
	  "message/rfc822", "7bit" },
	{ "full8", DSN_RET_FULL, DSN_FAILED, BODY_KIND_EIGHT_BIT_MIME, "S: a\r\n\r\n\xfc\r\n", 0,
	  999, true, "message/rfc822", "8bit" },
	{ "hdrs", DSN_RET_HDRS, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 0, 999, false,
	  "text/rfc822-headers", "7bit" },
	{ "unset", DSN_RET_UNSET, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 0, 999,
	  false, "text/rfc822-headers", "7bit" },
	{ "delay", DSN_RET_FULL, DSN_DELAYED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 0, 999,
	  false, "text/rfc822-headers", "7bit" },
	{ "large", DSN_RET_FULL, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 0, 30, false,
	  "text/rfc822-headers", "7bit" },
	{ "part", DSN_RET_FULL, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\r\n", 1, 999, false,
	  "text/rfc822-headers", "7bit" },
	{ "binary", DSN_RET_FULL, DSN_FAILED, BODY_KIND_BINARY_MIME, "S: a\r\n\r\nb\r\n", 0, 999,
	  false, "text/rfc822-headers", "7bit" },
	{ "bare", DSN_RET_FULL, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\r\n\r\nb\nc\r\n", 0, 999,
	  false, "text/rfc822-headers", "7bit" },
	{ "header8", DSN_RET_HDRS, DSN_FAILED, BODY_KIND_EIGHT_BIT_MIME, "S: \xfc\r\n\r\nb\r\n", 0,
	  999, false, "text/rfc822-headers", "quoted-printable" },
	{ "barehead", DSN_RET_FULL, DSN_FAILED, BODY_KIND_SEVEN_BIT, "S: a\nT: b\rc\r\n\r\nb\r\n",
	  0, 999, false, "text/rfc822-headers", "quoted-printable" },
};

static void returns_what_was_asked(void **state)
{
	for (size_t i = 0; i < COUNT(returns); i++) {
		struct sample *s = sample();
		struct str m = str_z(returns[i].message);
		size_t head = str_find_str(m, STR("\r\n\r\n")) + 2;
		s->e.ret = returns[i].ret;
		s->e.body = returns[i].body;
		s->r[0].action = returns[i].action;
		message_is(s, m);
		s->d.message_bytes += returns[i].missing;
		s->d.full_max = returns[i].full_max;
		compose(s, returns[i].name);
		assert_int_equal(s->info.full, returns[i].full);
		assert_int_equal(s->info.body == BODY_KIND_EIGHT_BIT_MIME,
				 strcmp(returns[i].encoding, "8bit") == 0);
		field_is(s->c.parts[2].header, "Content-Type", returns[i].type);
		field_is(s->c.parts[2].header, "Content-Transfer-Encoding", returns[i].encoding);
		assert_str(str_sub(s->c.parts[2].body, s->d.prefix.n, 9999),
			   returns[i].full ? m : str_sub(m, 0, head));
		done(s);
	}
}

static void returns_no_more_than_a_header(void **state)
{
	static const char *const messages[] = {
		"no header\r\nat: all\r\n", " starts folded: x\r\n", ": no name\r\n",
		"\r\nX: body\r\n",	    "bad name: x\r\n\r\n",   "no line end: x"
	};
	for (size_t i = 0; i < COUNT(messages); i++) {
		struct sample *s = sample();
		message_is(s, str_z(messages[i]));
		compose(s, "nohead");
		assert_int_equal(s->c.parts[2].body.n, s->d.prefix.n);
		done(s);
	}
}

/* H91: large, with long lines; only the header, and a bounded part of it. */
static void bounds_what_it_returns(void **state)
{
	struct sample *s = sample();
	size_t n = 2 << 20;
	char *big = malloc(n);
	memset(big, 'x', n);
	memcpy(big, "A: ", 3);
	for (size_t i = 500; i < n; i += 500)
		memcpy(big + i, "\r\nB: ", 5);
	s->e.ret = DSN_RET_FULL;
	s->d.full_max = 1 << 20;
	message_is(s, str_of(big, n));
	compose(s, "big");
	assert_in_range(s->c.parts[2].body.n, 60000, 66000);
	assert_true(s->out.n < 70000);
	done(s);
	s = sample();
	memset(big, 'y', n);
	memcpy(big, "A: ", 3);
	memcpy(big + 3000, "\r\n\r\n", 4);
	message_is(s, str_of(big, 5000));
	compose(s, "longline");
	assert_int_equal(s->c.parts[2].body.n, s->d.prefix.n + 3002);
	done(s);
	free(big);
}

/* H92: what a remote says never becomes a field, a line, a part or an address. */
static void survives_hostile_words(void **state)
{
	static const char evil[] =
		"no\r\nBcc: x@evil\r\n\r\n--=_x\r\nFinal-Recipient: rfc822;e\n\nA:"
		"\0b\x1b[31m\x7f \xff\xfe \xe2\x80\xae"
		"c \\ \"q\" =20";
	struct sample *s = sample();
	struct str e = str_of(evil, sizeof evil - 1);
	s->r[0].text = s->r[0].remote = s->r[0].status = e;
	s->to[0].orcpt = s->to[0].forward_path = e;
	s->e.envid = s->e.message_id = e;
	compose(s, "evil");
	struct str r = check_group(&s->c, 1);
	assert_int_equal(check_group(&s->c, 2).n, 0);
	field_is(s->c.header, "Bcc", NULL);
	field_is(r, "Bcc", NULL);
	field_is(r, "Status", "5.0.0");
	field_is(check_group(&s->c, 0), "Original-Envelope-Id", NULL);
	field_is(r, "Diagnostic-Code",
		 "smtp; 550 no Bcc: x@evil --=_x Final-Recipient: rfc822;e A: b [31m ?? ?c \\ "
		 "\"q\" =20");
	has(s->c.parts[0].body, "no Bcc: x@evil");
	has_not(s->c.parts[0].body, "\r\nBcc");
	has_not(s->c.parts[0].body, "\xe2\x80\xae"); /* a control of direction */
	done(s);
}

static void refuses_bad_addressees(void **state)
{
	static const char *const bad[] = { "",	     "x",	  "@x",
					   "x@",     "a b@x",	  "a@x\r\nBcc: y@z",
					   "a>@x",   "a@x>",	  "a,b@x",
					   "\xff@x", "\"a\"b@x y" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct sample *s = sample();
		s->e.reverse_path = str_z(bad[i]);
		assert_int_equal(dsn_compose(&s->d, s->mem, &s->out, &s->info), ERR_SYNTAX);
		done(s);
	}
	struct sample *s = sample();
	s->d.to = STR("\"a b\"@example.com"); /* goes to somebody else */
	compose(s, "quoted");
	field_is(s->c.header, "To", "<\"a b\"@example.com>");
	done(s);
}

/* N2: an original that contains the boundary gets another one. */
static void boundary_is_unique(void **state)
{
	struct sample *s = sample();
	char first[200], second[200], message[400];
	compose(s, "boundary1");
	struct str type = check_field(s->c.header, "Content-Type", first, sizeof first);
	struct str mark = str_sub(type, str_find(type, '"') + 1, type.n - 1);
	int n = snprintf(message, sizeof message, "X: --%.*s--\r\n\r\n--%.*s\r\n", STR_ARG(mark),
			 STR_ARG(mark));
	done(s);
	s = sample();
	s->e.ret = DSN_RET_FULL;
	message_is(s, str_of(message, (size_t)n));
	compose(s, "boundary2");
	assert_true(s->info.full);
	struct str other = check_field(s->c.header, "Content-Type", second, sizeof second);
	assert_int_equal(other.n, type.n);
	assert_false(str_eq(other, type));
	done(s);
}

/* RFC 6533: UTF-8 where it is needed, and 7bit as long as the addressee is ASCII. */
static void speaks_utf8(void **state)
{
	struct sample *s = sample();
	s->e.smtputf8 = true;
	s->to[0].target.address = STR("j\xc3\xbcrg@example.org");
	s->to[0].orcpt = STR("utf-8;j\\x{FC}rg@example.org");
	message_is(s, STR("Subject: \xc3\xa4\r\n\r\nx\r\n"));
	compose(s, "global7");
	assert_int_equal(s->info.body, BODY_KIND_SEVEN_BIT);
	assert_false(s->info.smtputf8);
	field_is(s->c.header, "Subject",
		 "=?utf-8?q?Undelivered_mail=3A_j=C3=BCrg=40example=2Eorg?=");
	field_is(s->c.parts[1].header, "Content-Type", "message/global-delivery-status");
	field_is(s->c.parts[2].header, "Content-Type", "message/global-headers");
	field_is(check_group(&s->c, 1), "Final-Recipient", "utf-8; j\xc3\xbcrg@example.org");
	/* RFC 6533 §3: converted to the utf-8-address form */
	field_is(check_group(&s->c, 1), "Original-Recipient", "utf-8; j\xc3\xbcrg@example.org");
	has(s->c.parts[0].body, "<j\xc3\xbcrg@example.org>");
	assert_str(str_sub(s->c.parts[2].body, s->d.prefix.n, 99), STR("Subject: \xc3\xa4\r\n"));
	done(s);

	s = sample();
	s->e.smtputf8 = true;
	s->e.ret = DSN_RET_FULL;
	s->e.reverse_path = STR("zo\xc3\xab@example.net");
	s->to[0].target.address = STR("j\xc3\xbcrg@example.org");
	message_is(s, STR("Subject: \xc3\xa4\r\n\r\n\xc3\xa4\r\n"));
	compose(s, "global8");
	assert_true(s->info.smtputf8 && s->info.full);
	assert_int_equal(s->info.body, BODY_KIND_EIGHT_BIT_MIME);
	field_is(s->c.header, "To", "<zo\xc3\xab@example.net>");
	field_is(s->c.header, "Subject", "Undelivered mail: j\xc3\xbcrg@example.org");
	field_is(s->c.parts[1].header, "Content-Transfer-Encoding", "8bit");
	field_is(s->c.parts[2].header, "Content-Type", "message/global");
	done(s);
}

/* RFC 6533 §3: with an all-ASCII report the 7bit form; the plain types where nothing is UTF-8. */
static void stays_plain_where_it_can(void **state)
{
	struct sample *s = sample();
	s->e.smtputf8 = true;
	compose(s, "plain");
	field_is(s->c.parts[1].header, "Content-Type", "message/delivery-status");
	field_is(s->c.parts[2].header, "Content-Type", "text/rfc822-headers");
	done(s);
	s = sample();
	s->to[0].orcpt = STR("utf-8;\xe2\x82\xac+x\\x{FC}@example.org");
	s->to[0].target.address = STR("\xf0\x9f\x93\xa7@example.org");
	compose(s, "unitext");
	field_is(check_group(&s->c, 1), "Original-Recipient",
		 "utf-8; \\x{20AC}\\x{2B}x\\x{FC}@example.org");
	field_is(check_group(&s->c, 1), "Final-Recipient", "utf-8; \\x{1F4E7}@example.org");
	done(s);
}

static void folds_long_fields(void **state)
{
	struct sample *s = sample();
	char words[1200], one[1200];
	for (size_t i = 0; i < sizeof words; i++)
		words[i] = i % 7 == 6 ? ' ' : 'w';
	memset(one, 'o', sizeof one);
	s->r[0].text = str_of(words, 990);
	compose(s, "words");
	char room[2000];
	struct str got = check_field(check_group(&s->c, 1), "Diagnostic-Code", room, sizeof room);
	assert_int_equal(got.n, sizeof "smtp; 550 5.1.1 " - 1 + 990);
	for (struct str rest = s->c.parts[0].body; rest.n > 0;)
		assert_true(check_line(&rest).n <= 76);
	for (struct str rest = s->c.parts[1].body; rest.n > 0;)
		assert_true(check_line(&rest).n <= 76);
	done(s);
	s = sample();
	s->r[0].text = str_of(one, sizeof one); /* no place to fold: N1 all the same */
	compose(s, "oneword");
	done(s);
}

static void stops_when_full(void **state)
{
	struct sample *s = sample();
	char room[1000];
	struct buf small = buf_fixed(room, sizeof room);
	assert_int_equal(dsn_compose(&s->d, s->mem, &small, &s->info), ERR_LIMIT);
	s->d.rcpts_n = 0;
	assert_int_equal(dsn_compose(&s->d, s->mem, &s->out, &s->info), ERR_SYNTAX);
	s->d.rcpts_n = 1;
	for (uint64_t n = 1;; n++) {
		buf_free(&s->out);
		s->out = buf_grow(s->mem, 1 << 20);
		uint64_t before = mem_requests(s->mem);
		mem_fail_at(s->mem, n, 1);
		enum err e = dsn_compose(&s->d, s->mem, &s->out, &s->info);
		mem_fail_at(s->mem, 0, 0);
		if (mem_requests(s->mem) - before < n) {
			assert_int_equal(e, ERR_NONE);
			assert_true(n > 2);
			break;
		}
		assert_int_equal(e, ERR_NO_MEMORY);
	}
	done(s);
}

/* RFC 3461 §4.1: NOTIFY, then for failed, delayed, relayed, delivered, expanded. */
static const struct {
	unsigned notify;
	const char *path, *wanted;
} rules[] = {
	{ 0, "a@b", "yynnn" },
	{ DSN_NOTIFY_NEVER, "a@b", "nnnnn" },
	{ DSN_NOTIFY_SUCCESS, "a@b", "nnyyy" },
	{ DSN_NOTIFY_FAILURE, "a@b", "ynnnn" },
	{ DSN_NOTIFY_DELAY, "a@b", "nynnn" },
	{ DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE | DSN_NOTIFY_DELAY, "a@b", "yyyyy" },
	{ DSN_NOTIFY_FAILURE | DSN_NOTIFY_DELAY, "a@b", "yynnn" },
	{ 0, "", "nnnnn" }, /* H90 */
	{ DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE | DSN_NOTIFY_DELAY, "", "nnnnn" },
};

static void tells_who_wants_it(void **state)
{
	for (size_t i = 0; i < COUNT(rules); i++)
		for (size_t k = 0; k < DSN_ACTIONS; k++)
			assert_int_equal(dsn_wanted((uint8_t)rules[i].notify, (enum dsn_action)k,
						    str_z(rules[i].path)),
					 rules[i].wanted[k] == 'y');
	/* RFC 3461 §5.2.7.3 (c) */
	assert_int_equal(dsn_notify_of_expanded(0), 0);
	assert_int_equal(dsn_notify_of_expanded(DSN_NOTIFY_SUCCESS), DSN_NOTIFY_NEVER);
	assert_int_equal(dsn_notify_of_expanded(DSN_NOTIFY_SUCCESS | DSN_NOTIFY_DELAY),
			 DSN_NOTIFY_DELAY);
}

static void explains(void **state)
{
	static const struct {
		const char *status, *says;
	} table[] = {
		{ "5.1.1", "does not exist" },
		{ "4.4.1", "did not answer" },
		{ "5.7.1", "by its rules" },
		{ "5.2.2", "full" },
		{ "5.3.4", "larger" },
		{ "5.4.6", "circle" },
		{ "5.1.10", "no mail at all" },
		{ "4.9.9", "may pass" },
		{ "5.0.0", "no reason" },
		{ "5.7.999", "security" },
		{ "", "no reason" },
		{ "5.1", "no reason" },
	};
	for (size_t i = 0; i < COUNT(table); i++)
		has(str_z(dsn_meaning(str_z(table[i].status))->text), table[i].says);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reports_a_refusal),
		cmocka_unit_test(reports_what_is_not_given),
		cmocka_unit_test(reports_several),
		cmocka_unit_test(names_each_kind),
		cmocka_unit_test(returns_what_was_asked),
		cmocka_unit_test(returns_no_more_than_a_header),
		cmocka_unit_test(bounds_what_it_returns),
		cmocka_unit_test(survives_hostile_words),
		cmocka_unit_test(refuses_bad_addressees),
		cmocka_unit_test(boundary_is_unique),
		cmocka_unit_test(speaks_utf8),
		cmocka_unit_test(stays_plain_where_it_can),
		cmocka_unit_test(folds_long_fields),
		cmocka_unit_test(stops_when_full),
		cmocka_unit_test(tells_who_wants_it),
		cmocka_unit_test(explains),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
