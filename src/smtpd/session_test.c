/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole sessions as dialogues: what the client sends, the codes that come back, the messages that
 * were handed over. Each is played whole, line by line, byte by byte and in sevens (H4).
 */
#include "smtpd/session_rig.h"

#include "base/test.h"

#define EHLO "EHLO client.example.net\r\n"
#define MAIL "MAIL FROM:<carol@example.net>\r\n"
#define RCPT "RCPT TO:<ann@example.org>\r\n"
#define OPEN EHLO MAIL RCPT
#define TEXT "Subject: x\r\n\r\nhello\r\n"

enum { WAITS = 1 }; /* the client waits for each reply: not to be played whole */

struct dialogue {
	const char *name;
	struct str input;
	const char *codes;
	size_t messages;
	struct str body; /* of the last message */
	unsigned flags;
};
#define S(lit) { "" lit, sizeof(lit) - 1 }

static const struct dialogue dialogues[] = {
	/* ---- RFC 5321 §3.1–§3.3, appendix D.1 ---- */
	{ "plain", S(EHLO MAIL RCPT "DATA\r\n" TEXT ".\r\nQUIT\r\n"), "220 250 250 250 354 250 221", 1, S(TEXT), 0 },
	{ "helo", S("HELO client\r\n" MAIL RCPT "DATA\r\n" TEXT ".\r\nQUIT\r\n"), "220 250 250 250 354 250 221", 1,
	  S(TEXT), 0 },
	{ "null reverse-path", S(EHLO "MAIL FROM:<>\r\n" RCPT "DATA\r\n" TEXT ".\r\n"), "220 250 250 250 354 250", 1,
	  S(TEXT), 0 },
	{ "postmaster alone", S(EHLO MAIL "RCPT TO:<Postmaster>\r\nDATA\r\n" TEXT ".\r\n"),
	  "220 250 250 250 354 250", 1, S(TEXT), 0 },
	{ "case and blanks", S("ehlo client\r\nmail from: <a@b.example> \r\nRcPt To: <ann@EXAMPLE.org>\r\ndata \r\n.\r\n"),
	  "220 250 250 250 354 250", 1, S(""), 0 },
	{ "two messages", S(OPEN "DATA\r\na\r\n.\r\n" MAIL RCPT "DATA\r\nb\r\n.\r\nQUIT\r\n"),
	  "220 250 250 250 354 250 250 250 354 250 221", 2, S("b\r\n"), 0 },
	{ "dots", S(OPEN "DATA\r\n..\r\n...\r\n.a\r\na.\r\n..a\r\n\r\n.\r\n"), "220 250 250 250 354 250", 1,
	  S(".\r\n..\r\na\r\na.\r\n.a\r\n\r\n"), 0 },
	{ "one recipient refused", S(EHLO MAIL "RCPT TO:<nobody@example.org>\r\n" RCPT "DATA\r\nx\r\n.\r\n"),
	  "220 250 250 550 250 354 250", 1, S("x\r\n"), 0 },
	{ "recipient deferred", S(EHLO MAIL "RCPT TO:<later@example.org>\r\nQUIT\r\n"), "220 250 250 451 221", 0, S(""), 0 },
	{ "no relay (P5)", S(EHLO MAIL "RCPT TO:<x@elsewhere.example>\r\n"), "220 250 250 550", 0, S(""), 0 },
	{ "others", S("NOOP\r\nNOOP x y\r\nHELP\r\nVRFY ann\r\nEXPN list\r\nRSET\r\nQUIT\r\n"),
	  "220 250 250 214 252 252 250 221", 0, S(""), 0 },
	{ "H36 VRFY says the same of all", S("VRFY ann\r\nVRFY nobody@example.org\r\nVRFY x@elsewhere.example\r\nEXPN nobody\r\n"),
	  "220 252 252 252 252", 0, S(""), 0 },
	{ "not offered (H39)", S("STARTTLS\r\nAUTH PLAIN x\r\nETRN '; DROP\r\nTURN\r\nATRN x\r\n"),
	  "220 502 502 502 502 502", 0, S(""), 0 },
	{ "arguments", S(EHLO "RSET x\r\nQUIT x\r\nVRFY\r\nEHLO\r\nHELO\r\nQUIT\r\n"),
	  "220 250 501 501 501 501 501 221", 0, S(""), 0 },

	/* ---- H1, H5, H6: lines ---- */
	{ "H1 LF ends no command", S("NOOP\nNOOP\r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },
	{ "H1 CR ends no command", S("NOOP\rNOOP\r\nNOOP\r\n"), "220 500 250", 0, S(""), 0 },
	{ "H1 LF hides a command", S(EHLO "NOOP\n" MAIL RCPT "QUIT\r\n"), "220 250 500 500 503 221", 0, S(""), 0 },
	{ "H5 NUL in a command", S("NO\0OP\r\nMAIL FROM:<a\0@b>\r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },
	{ "empty line", S("\r\n \r\nNOOP\r\n"), "220 500 500 250", 0, S(""), 0 },

	/* ---- H2: smuggling through DATA ---- */
#define SMUGGLE(name, seq)                                                                                   \
	{ "H2 " name, S(OPEN "DATA\r\n" TEXT "a" seq MAIL RCPT "DATA\r\nsmuggled\r\n.\r\nQUIT\r\n"),         \
	  "220 250 250 250 354 554 221", 0, S(""), 0 }
	SMUGGLE("LF.LF", "\n.\n"),
	SMUGGLE("LF.CRLF", "\n.\r\n"),
	SMUGGLE("CRLF.LF", "\r\n.\n"),
	SMUGGLE("CR.CR", "\r.\r"),
	SMUGGLE("CR.CRLF", "\r.\r\n"),
	SMUGGLE("CR.LF", "\r.\n"),
	SMUGGLE("LF.CR", "\n.\r"),
	SMUGGLE("CRLF.CR", "\r\n.\r"),
	SMUGGLE("CRLF NUL .CRLF", "\r\n\0.\r\n"),
	SMUGGLE("CRLF.NUL CRLF", "\r\n.\0\r\n"),
	SMUGGLE("CRCRLF.CRCRLF", "\r\r\n.\r\r\n"),
	SMUGGLE("LFCR.LFCR", "\n\r.\n\r"),
	SMUGGLE("CRLF.CRCR", "\r\n.\r\r"),
	{ "H2 bare CR right before the end", S(OPEN "DATA\r\na\r\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H2 bare LF in the first line", S(OPEN "DATA\r\n\n.\r\n\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H5 NUL in the body", S(OPEN "DATA\r\na\0b\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },
	{ "H43 CR before a field", S(OPEN "DATA\r\nA: b\rFrom: x\r\n\r\n.\r\nQUIT\r\n"), "220 250 250 250 354 554 221", 0, S(""), 0 },

	/* ---- H3, H8–H12: BDAT ---- */
	{ "BDAT", S(OPEN "BDAT 7\r\nhello\r\nBDAT 7 LAST\r\nworld\r\nQUIT\r\n"), "220 250 250 250 250 250 221", 1,
	  S("hello\r\nworld\r\n"), 0 },
	{ "BDAT keeps dots", S(OPEN "BDAT 9 last\r\n.\r\n..\r\n\r\n"), "220 250 250 250 250", 1, S(".\r\n..\r\n\r\n"), 0 },
	{ "BDAT 0 LAST", S(OPEN "BDAT 3\r\na\r\nBDAT 0 LAST\r\nQUIT\r\n"), "220 250 250 250 250 250 221", 1, S("a\r\n"), 0 },
	{ "BDAT in a CRLF", S(OPEN "BDAT 2\r\na\rBDAT 1 LAST\r\n\nQUIT\r\n"), "220 250 250 250 250 250 221", 1, S("a\r\n"), 0 },
	{ "H3 LF in BDAT", S(OPEN "BDAT 9 LAST\r\na\n.\nb\r\n\r\nQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "H3 CR ends BDAT", S(OPEN "BDAT 2 LAST\r\na\rQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "H5 NUL in BDAT", S(OPEN "BDAT 5 LAST\r\na\0b\r\nQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "BINARYMIME", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT "BDAT 14 LAST\r\nA: b\r\n\r\n\0\r\n\n\r."
	  "QUIT\r\n"), "220 250 250 250 250 221", 1, S("A: b\r\n\r\n\0\r\n\n\r."), 0 },
	{ "H43 LF in a BINARYMIME header", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT
	  "BDAT 9 LAST\r\nA: b\nC: dQUIT\r\n"), "220 250 250 250 554 221", 0, S(""), 0 },
	{ "BINARYMIME needs BDAT", S(EHLO "MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n" RCPT "DATA\r\nQUIT\r\n"),
	  "220 250 250 250 503 221", 0, S(""), WAITS },
	{ "H8 negative", S(OPEN "BDAT -1\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 hexadecimal", S(OPEN "BDAT 0x10\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 2^64", S(OPEN "BDAT 18446744073709551616\r\nQUIT\r\n"), "220 250 250 250 552", 0, S(""), 0 },
	{ "H8 2^63-1", S(OPEN "BDAT 9223372036854775807 LAST\r\nQUIT\r\n"), "220 250 250 250 552", 0, S(""), 0 },
	{ "H8 two blanks", S(OPEN "BDAT 1 5\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 none", S(OPEN "BDAT\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H8 0 without LAST", S(OPEN "BDAT 0\r\nQUIT\r\n"), "220 250 250 250 501 221", 0, S(""), 0 },
	{ "H8 LAST LAST", S(OPEN "BDAT 0 LAST LAST\r\nQUIT\r\n"), "220 250 250 250 501", 0, S(""), 0 },
	{ "H9 cut short", S(OPEN "BDAT 100 LAST\r\nhello\r\n"), "220 250 250 250", 0, S(""), 0 },
	{ "H10 after LAST", S(OPEN "BDAT 2 LAST\r\n\r\nBDAT 6 LAST\r\nQUIT\r\nQUIT\r\n"), "220 250 250 250 250 503 221",
	  1, S("\r\n"), 0 },
	{ "H11 without recipient", S(EHLO MAIL "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), "220 250 250 503 250", 0, S(""), 0 },
	{ "H11 without MAIL", S(EHLO "BDAT 6\r\nQUIT\r\nNOOP\r\n"), "220 250 503 250", 0, S(""), 0 },
	{ "H11 without EHLO", S("BDAT 6\r\nQUIT\r\nNOOP\r\n"), "220 503 250", 0, S(""), 0 },
	{ "H12 the end in a chunk", S(OPEN "BDAT 6\r\nhell"), "220 250 250 250", 0, S(""), 0 },
	{ "H12 STARTTLS between chunks", S(OPEN "BDAT 2\r\n\r\nSTARTTLS\r\nBDAT 2 LAST\r\n\r\n"), "220 250 250 250 250 502 250",
	  1, S("\r\n\r\n"), 0 },
	{ "BDAT and DATA", S(OPEN "BDAT 2\r\n\r\nDATA\r\nBDAT 0 LAST\r\n"), "220 250 250 250 250 503 250", 1, S("\r\n"), WAITS },
	{ "RCPT after BDAT", S(OPEN "BDAT 2\r\n\r\n" RCPT MAIL "RSET\r\n"), "220 250 250 250 250 503 503 250", 0, S(""), 0 },
	{ "RSET between chunks", S(OPEN "BDAT 2\r\nx\nRSET\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n"), "220 250 250 250 554 250 503 221", 0, S(""), 0 },
	{ "chunks after a bad one", S(OPEN "BDAT 2\r\nx\nBDAT 2\r\n\r\nBDAT 0 LAST\r\n" MAIL), "220 250 250 250 554 503 503 250", 0, S(""), 0 },

	{ "H15 STARTTLS is not offered: what follows it is plain and answered as such",
	  S(EHLO "STARTTLS\r\n" MAIL RCPT "DATA\r\n" TEXT ".\r\nQUIT\r\n"), "220 250 502 250 250 354 250 221", 1, S(TEXT), 0 },

	/* ---- H14: RFC 2920 ---- */
	{ "H14 DATA ends the batch", S(OPEN "DATA\r\n" TEXT ".\r\n" MAIL "QUIT\r\n"), "220 250 250 250 354 250 250 221", 1,
	  S(TEXT), 0 },
	{ "H14 refused DATA", S(EHLO MAIL "DATA\r\nQUIT\r\n"), "220 250 250 503 221", 0, S(""), WAITS },

	/* ---- H18, H19 ---- */
	{ "H18 HTTP", S("POST / HTTP/1.1\r\nHost: x\r\n\r\n" OPEN), "220 554", 0, S(""), 0 },
	{ "H18 TLS", S("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), "220 554", 0, S(""), 0 },
	{ "H18 SSH", S("SSH-2.0-OpenSSH_9.2\r\n" OPEN), "220 554", 0, S(""), 0 },
	{ "H19 forged result", S("EHLO x;dmarc=pass\r\nEHLO a b\r\nEHLO x(y)\r\nEHLO \x01\r\nEHLO [1.2.3]\r\nEHLO -\xc3\xa4\r\n" MAIL),
	  "220 501 501 501 501 501 501 503", 0, S(""), 0 },
	{ "H19 what is taken", S("EHLO x_y.example\r\nEHLO [192.0.2.1]\r\nEHLO [IPv6:2001:db8::1] hello\r\nHELO localhost\r\n"),
	  "220 250 250 250 250", 0, S(""), 0 },

	/* ---- H21: RFC 5321 §4.1.4 ---- */
	{ "H21 no EHLO", S(MAIL RCPT "DATA\r\n"), "220 503 503 503", 0, S(""), WAITS },
	{ "H21 no MAIL", S(EHLO RCPT "DATA\r\nBDAT 0 LAST\r\n"), "220 250 503 503 503", 0, S(""), WAITS },
	{ "H21 second MAIL", S(EHLO MAIL MAIL), "220 250 250 503", 0, S(""), 0 },
	{ "H21 all refused", S(EHLO MAIL "RCPT TO:<nobody@example.org>\r\nDATA\r\n"), "220 250 250 550 503", 0, S(""), WAITS },
	{ "H21 RSET forgets", S(OPEN "RSET\r\nDATA\r\n" MAIL "DATA\r\n"), "220 250 250 250 250 503 250 503", 0, S(""), WAITS },
	{ "H21 EHLO forgets", S(OPEN EHLO "DATA\r\n"), "220 250 250 250 250 503", 0, S(""), WAITS },
	{ "H21 a bad EHLO does not", S(OPEN "EHLO ;\r\nDATA\r\n.\r\n"), "220 250 250 250 501 354 250", 1, S(""), 0 },

	/* ---- H22 ---- */
	{ "H22 the end in DATA", S(OPEN "DATA\r\n" TEXT), "220 250 250 250 354", 0, S(""), 0 },
	{ "H22 the end in the dot", S(OPEN "DATA\r\n" TEXT ".\r"), "220 250 250 250 354", 0, S(""), 0 },

	/* ---- H26–H30: paths ---- */
	{ "H26 shell", S(EHLO "MAIL FROM:<;sh;>\r\nMAIL FROM:<`id`@b.example>\r\nRCPT TO:<|cmd@example.org>\r\n"
	  "RCPT TO:</etc/passwd@example.org>\r\nRCPT TO:<-oQ@example.org>\r\nRCPT TO:<$(id)@example.org>\r\n"
	  "RCPT TO::include:/x\r\n"), "220 250 501 250 250 250 250 501 501", 0, S(""), 0 },
	{ "H27 local parts", S(EHLO MAIL "RCPT TO:<../../etc/x@example.org>\r\nRCPT TO:<.@example.org>\r\n"
	  "RCPT TO:<\"\"@example.org>\r\nRCPT TO:<\"../x\"@example.org>\r\nRCPT TO:<a..b@example.org>\r\n"),
	  "220 250 250 501 501 501 250 501", 0, S(""), 0 },
	{ "H28 routes", S(EHLO MAIL "RCPT TO:<@a.example,@b.example:ann@example.org>\r\nRCPT TO:<ann@example.org@x.example>\r\n"
	  "RCPT TO:<\"x@y\"@elsewhere.example>\r\nRCPT TO:<user%x.example@elsewhere.example>\r\n"
	  "RCPT TO:<@a.example:c@elsewhere.example>\r\n"), "220 250 250 250 501 550 550 550", 0, S(""), 0 },
	{ "H29 domains", S(EHLO MAIL "RCPT TO:<a@[127.0.0.1]>\r\nRCPT TO:<a@[IPv6:::1%eth0]>\r\nRCPT TO:<a@[IPv6:::1>\r\n"
	  "RCPT TO:<a@1.2.3.4>\r\nRCPT TO:<a@example.org.>\r\nRCPT TO:<a@.example.org>\r\nRCPT TO:<a@>\r\nRCPT TO:<a>\r\n"),
	  "220 250 250 550 501 501 501 501 501 501 501", 0, S(""), 0 },
	{ "H30 UTF-8", S(EHLO "MAIL FROM:<\xc3\xa4@b.example>\r\nMAIL FROM:<a@b.example>\r\n"
	  "RCPT TO:<\xc3\xa4@example.org>\r\nRSET\r\nMAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\n"
	  "RCPT TO:<\xc3\xa4@example.org>\r\nRCPT TO:<\xc0\xaf@example.org>\r\nRCPT TO:<\xed\xa0\x80@example.org>\r\n"
	  "RCPT TO:<a\xe2\x80\xae@example.org>\r\nRCPT TO:<a@b\xef\xbc\xa0" "c.example>\r\n"),
	  "220 250 553 250 553 250 250 250 501 501 501 501", 0, S(""), 0 },
	{ "paths without brackets", S(EHLO "MAIL FROM:a@b.example\r\nMAIL FROM\r\nMAIL\r\nMAIL TO:<a@b.example>\r\n" MAIL
	  "RCPT TO:ann@example.org\r\nRCPT TO:<>\r\nRCPT\r\nRCPT FROM:<a@b.example>\r\n"),
	  "220 250 501 501 501 501 250 501 501 501 501", 0, S(""), 0 },

	/* ---- H31–H34: parameters ---- */
	{ "parameters", S(EHLO "MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n"
	  "RCPT TO:<ann@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;ann@example.org\r\nDATA\r\n.\r\n"),
	  "220 250 250 250 354 250", 1, S(""), 0 },
	{ "H31 ORCPT", S(EHLO MAIL "RCPT TO:<ann@example.org> ORCPT=rfc822;a+0D+0Ab\r\nRCPT TO:<ann@example.org> ORCPT=rfc822;+00\r\n"
	  "RCPT TO:<ann@example.org> ORCPT=rfc822;+ZZ\r\nRCPT TO:<ann@example.org> NOTIFY=NEVER,SUCCESS\r\n"
	  "RCPT TO:<ann@example.org> NOTIFY=\r\nRCPT TO:<ann@example.org> ORCPT=x\r\n"),
	  "220 250 250 501 501 501 501 501 501", 0, S(""), 0 },
	{ "H31 RET, ENVID", S(EHLO "MAIL FROM:<> RET=x\r\nMAIL FROM:<> ENVID=+0A\r\nMAIL FROM:<> RET\r\n"), "220 250 501 501 501", 0, S(""), 0 },
	{ "H32 SIZE", S(EHLO "MAIL FROM:<> SIZE=-1\r\nMAIL FROM:<> SIZE=18446744073709551616\r\nMAIL FROM:<> SIZE=1000001\r\n"
	  "MAIL FROM:<> SIZE=\r\nMAIL FROM:<> SIZE\r\nMAIL FROM:<> SIZE=1000000\r\n"), "220 250 501 552 552 501 501 250", 0, S(""), 0 },
	{ "H33 AUTH", S(EHLO "MAIL FROM:<> AUTH=<>\r\nMAIL FROM:<> AUTH=\"\r\n"), "220 250 555 555", 0, S(""), 0 },
	{ "H34 twice, unknown", S(EHLO "MAIL FROM:<> SIZE=1 size=2\r\nMAIL FROM:<> HOLDFOR=99999999999\r\n"
	  "MAIL FROM:<> BY=-999999999999\r\nMAIL FROM:<> MT-PRIORITY=99\r\nMAIL FROM:<> REQUIRETLS\r\nMAIL FROM:<> BODY=9BIT\r\n"
	  "MAIL FROM:<>SIZE=1\r\nMAIL FROM:<> SMTPUTF8=1\r\nMAIL FROM:<> =\r\n"), "220 250 501 555 555 555 555 501 501 501 501", 0, S(""), 0 },
};

static struct rig rig;

static int group_setup(void **state)
{
	return rig_open(&rig) ? 0 : 1;
}

static int group_teardown(void **state)
{
	rig_close_all(&rig);
	return 0;
}

static void check(const struct dialogue *d, enum rig_cut cut)
{
	char room[2000];
	struct buf codes = buf_fixed(room, sizeof room);
	rig_play(&rig, d->input, cut);
	rig_codes(&rig, &codes);
	struct str got = buf_str(&codes), want = str_z(d->codes);
	if (!str_eq(got, want) || rig.messages_n != d->messages)
		print_message("%s (cut %d): %.*s, %zu messages\n", d->name, cut, STR_ARG(got), rig.messages_n);
	assert_str(got, want);
	assert_int_equal(rig.messages_n, d->messages);
	if (d->messages)
		assert_str(rig.messages[d->messages - 1].body, d->body);
	assert_int_equal(rig.d.body_bytes, 0);
}

static void plays_all(void **state)
{
	for (size_t i = 0; i < COUNT(dialogues); i++)
		for (int cut = RIG_WHOLE; cut <= RIG_SEVENS; cut++)
			if (!(dialogues[i].flags & WAITS) || cut == RIG_LINES || cut == RIG_BYTES)
				check(&dialogues[i], (enum rig_cut)cut);
}

/* ---- what a table cannot say ---------------------------------------------------------------- */

static struct buf script;

/* n times `text`, where a '#' stands for the number. */
static void add_times(size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		for (const char *c = text; *c; c++) {
			if (*c == '#')
				buf_add_u64(&script, i);
			else
				buf_add_char(&script, *c);
		}
}

static void begin(const char *text)
{
	buf_free(&script);
	script = buf_grow(world_mem(rig.w), (size_t)64 << 20);
	add_times(1, text);
}

static size_t count_replies(const char *code)
{
	struct str rest = buf_str(&rig.output);
	size_t n = 0;
	while (rest.n > 0)
		n += str_starts(str_split(rest, '\n', &rest), str_z(code));
	return n;
}

static struct str last_reply(void)
{
	struct str out = buf_str(&rig.output);
	size_t lf = str_rfind(str_sub(out, 0, out.n ? out.n - 1 : 0), '\n');
	return str_sub(out, lf < out.n - 1 ? lf + 1 : 0, out.n);
}

static void play_script(enum rig_cut cut)
{
	assert_int_equal(buf_err(&script), ERR_NONE);
	rig_play(&rig, buf_str(&script), cut);
	assert_int_equal(rig.d.body_bytes, 0);
	assert_int_equal(rig.d.sessions, 0);
}

/* RFC 2920 §3.1: the replies to a group leave together. */
static void pipelined_replies_in_one_write(void **state)
{
	rig_play(&rig, STR(OPEN "RSET\r\n" MAIL RCPT "NOOP\r\nQUIT\r\n"), RIG_WHOLE);
	assert_int_equal(count_replies("250 "), 7);
	assert_int_equal(rig.sends, 2); /* greeting; all others */
}

static void ehlo_offers(void **state)
{
	rig_play(&rig, STR(EHLO), RIG_WHOLE);
	assert_str(buf_str(&rig.output),
		   STR("220 mx.example.org ESMTP godwit\r\n250-mx.example.org\r\n250-PIPELINING\r\n"
			   "250-SIZE 1000000\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-SMTPUTF8\r\n"
			   "250-CHUNKING\r\n250-BINARYMIME\r\n250-LIMITS MAILMAX=1000 RCPTMAX=100\r\n250 DSN\r\n"));
	rig.d.offer.smtputf8 = false;
	rig_play(&rig, STR(EHLO "MAIL FROM:<> SMTPUTF8\r\n"), RIG_WHOLE);
	rig.d.offer.smtputf8 = true;
	assert_int_equal(count_replies("250-SMTPUTF8"), 0);
	assert_int_equal(count_replies("555 5.5.4"), 1);
}

static void received_and_envelope(void **state)
{
	rig_play(&rig, STR("EHLO client.example.net\r\nMAIL FROM:<Carol@EXAMPLE.net> SMTPUTF8 ENVID=x+2By RET=FULL\r\n"
			       "RCPT TO:<\"ann\"@EXAMPLE.org> NOTIFY=NEVER ORCPT=rfc822;ann\r\nDATA\r\n"
			       "Message-ID: <1@x>\r\n\r\n\xff\r\n.\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 1);
	const struct envelope *e = &rig.messages[0].envelope;
	struct str p = rig.messages[0].prefix;
	assert_str(e->reverse_path, STR("Carol@example.net"));
	assert_str(e->message_id, STR("<1@x>"));
	assert_str(e->envid, STR("x+2By"));
	assert_str(e->protocol, STR("UTF8SMTP"));
	assert_int_equal(e->ret, DSN_RET_FULL);
	assert_int_equal(e->body, BODY_KIND_EIGHT_BIT_MIME);
	assert_int_equal(e->recipients_n, 1);
	assert_int_equal(e->recipients[0].notify, 1);
	assert_str(e->recipients[0].target.address, STR("ann@example.org"));
	assert_str(e->recipients[0].forward_path, STR("\"ann\"@EXAMPLE.org"));
	assert_str(e->recipients[0].orcpt, STR("rfc822;ann"));
	assert_true(str_starts(p, STR("Received: from client.example.net ([192.0.2.7])\r\n\tby mx.example.org with UTF8SMTP id ")));
	assert_true(str_find_str(p, STR("\r\n\tfor <ann@example.org>;\r\n\t")) < p.n);
	assert_true(str_ends(p, STR(" +0000\r\n")));
	/* RFC 5321 §7.2: not with two */
	rig_play(&rig, STR(OPEN "RCPT TO:<bob@example.org>\r\nDATA\r\n.\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 1);
	assert_int_equal(str_find_str(rig.messages[0].prefix, STR("for <")), rig.messages[0].prefix.n);
	assert_str(rig.messages[0].envelope.protocol, STR("ESMTP"));
}

static const struct envelope *few_with(const char *input)
{
	rig_play(&rig, str_z(input), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 1);
	return &rig.messages[0].envelope;
}

/* RFC 3461 §5.2.7.3 (c): SUCCESS is answered here, once, and not by the targets. */
static void alias_with_several_targets_is_expanded(void **state)
{
	const struct envelope *e = few_with(EHLO MAIL "RCPT TO:<few@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;l\r\n"
					     "DATA\r\n.\r\n");
	assert_int_equal(e->recipients_n, 4);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(e->recipients[i].target.kind, TARGET_KIND_MAILBOX);
		assert_int_equal(e->recipients[i].notify, 4);
		assert_str(e->recipients[i].orcpt, STR("rfc822;l"));
	}
	assert_int_equal(e->recipients[3].target.kind, TARGET_KIND_EXPANSION);
	assert_int_equal(e->recipients[3].notify, 2);
	assert_str(e->recipients[3].target.address, STR("few@example.org"));
	assert_str(e->recipients[3].orcpt, STR("rfc822;l"));
	e = few_with(EHLO MAIL "RCPT TO:<few@example.org> NOTIFY=SUCCESS\r\nRCPT TO:<few@example.org> NOTIFY=SUCCESS\r\n"
		      "DATA\r\n.\r\n");
	assert_int_equal(e->recipients_n, 4);
	assert_int_equal(e->recipients[0].notify, 1); /* not "unset" */
	e = few_with(EHLO MAIL "RCPT TO:<few@example.org> NOTIFY=DELAY\r\nDATA\r\n.\r\n");
	assert_int_equal(e->recipients_n, 3);
	assert_int_equal(e->recipients[0].notify, 8);
	e = few_with(EHLO MAIL "RCPT TO:<few@example.org>\r\nDATA\r\n.\r\n");
	assert_int_equal(e->recipients_n, 3);
	assert_int_equal(e->recipients[0].notify, 0);
	/* with one target it is a recipient like others: §5.2.7.2 */
	rig_play(&rig, STR(EHLO MAIL "RCPT TO:<ann@example.org> NOTIFY=SUCCESS\r\nDATA\r\n.\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages[0].envelope.recipients_n, 1);
	assert_int_equal(rig.messages[0].envelope.recipients[0].notify, 2);
}

static void same_mailbox_once(void **state)
{
	rig_play(&rig, STR(OPEN RCPT RCPT "RCPT TO:<list@example.org>\r\nRCPT TO:<list@example.org>\r\n"
				    "DATA\r\n.\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 1);
	assert_int_equal(rig.messages[0].envelope.recipients_n, 401);
	assert_true(rig.lookups <= 3); /* list's answer is too long to be kept */
}

/* The targets of a message are bounded by calls.def. */
static void too_many_targets(void **state)
{
	rig_play(&rig, STR(OPEN "RCPT TO:<list@example.org>\r\nRCPT TO:<list@EXAMPLE.org>\r\nRCPT TO:<bob@example.org>\r\n"), RIG_WHOLE);
	assert_int_equal(count_replies("452 4.5.3"), 0);
}

/* Sizes around every border between memory, parts and file; pieces of every kind. */
static void bodies_of_all_sizes(void **state)
{
	static const size_t lines[] = { 0, 1, 1000, 1023, 1024, 1025, 1200, 5000, 14000 };
	for (size_t i = 0; i < COUNT(lines); i++)
		for (int bdat = 0; bdat < 2; bdat++) {
			begin(OPEN);
			size_t from;
			if (bdat) {
				add_times(1, "BDAT ");
				buf_add_u64(&script, lines[i] * 64);
				add_times(1, " LAST\r\n");
			} else {
				add_times(1, "DATA\r\n");
			}
			from = script.n;
			for (size_t k = 0; k < lines[i]; k++)
				buf_addf(&script, "%061zu.\r\n", k);
			struct str body = str_sub(buf_str(&script), from, script.n);
			if (!bdat)
				add_times(1, ".\r\n");
			body.p = script.p + from;
			play_script(i % 2 ? RIG_SEVENS : RIG_WHOLE);
			assert_int_equal(rig.messages_n, 1);
			assert_int_equal(rig.messages[0].in_file, lines[i] * 64 > rig.conf.limits.body_memory);
			assert_str(rig.messages[0].body, body);
			assert_int_equal(rig.aborts, 0);
		}
}

static void storage_failures(void **state)
{
	static const struct {
		enum err err;
		const char *reply;
	} rows[] = {
		{ ERR_NO_SPACE, "452 4.3.1" }, { ERR_LIMIT, "452 4.3.1" }, { ERR_IO, "451 4.3.0" },
		{ ERR_CLOSED, "451 4.3.0" },   { ERR_TIMEOUT, "451 4.3.0" }, { ERR_CORRUPT, "451 4.3.0" },
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		rig.submit_err = rows[i].err;
		rig_play(&rig, STR(OPEN "DATA\r\na\r\n.\r\n" MAIL), RIG_WHOLE);
		assert_int_equal(count_replies(rows[i].reply), 1);
		assert_true(str_starts(last_reply(), STR("250 2.1.0")));
		rig.submit_err = ERR_NONE;
	}
	rig.part_err = rig.file_err = ERR_NO_SPACE;
	begin(OPEN "DATA\r\n");
	add_times(1000, "0123456789012345678901234567890123456789012345678901234567890\r\n");
	add_times(1, ".\r\n");
	play_script(RIG_WHOLE); /* parts */
	assert_int_equal(count_replies("452 4.3.1"), 1);
	assert_int_equal(rig.aborts, 1);
	begin(OPEN "DATA\r\n");
	add_times(2000, "0123456789012345678901234567890123456789012345678901234567890\r\n");
	add_times(1, ".\r\nQUIT\r\n");
	play_script(RIG_WHOLE); /* file */
	assert_int_equal(count_replies("452 4.3.1"), 1);
	assert_int_equal(count_replies("221"), 1);
	rig.part_err = rig.file_err = ERR_NONE;
	rig.lookup_err = ERR_CLOSED;
	rig_play(&rig, STR(EHLO MAIL "RCPT TO:<new@example.org>\r\n"), RIG_WHOLE);
	rig.lookup_err = ERR_NONE;
	assert_true(str_starts(last_reply(), STR("451 4.3.0")));
	rig.d.queue_full = true; /* P7 */
	rig_play(&rig, STR(EHLO MAIL), RIG_WHOLE);
	rig.d.queue_full = false;
	assert_true(str_starts(last_reply(), STR("452 4.3.1")));
}

/* H6 */
static void long_lines(void **state)
{
	for (int cut = RIG_WHOLE; cut <= RIG_SEVENS; cut++) {
		begin("NOOP ");
		add_times(2041, "x");
		add_times(1, "\r\nNOOP ");
		add_times(2042, "x");
		add_times(1, "\r\nNOOP ");
		add_times(30000, "x");
		add_times(1, "\r\nNOOP\r\n");
		play_script((enum rig_cut)cut);
		assert_int_equal(count_replies("250"), 2);
		assert_int_equal(count_replies("500 5.5.2"), 2);
		begin("NOOP ");
		add_times(1 << 20, "x");
		play_script((enum rig_cut)cut);
		assert_int_equal(count_replies("500 5.5.2"), 1);
		assert_int_equal(count_replies("421 4.7.0"), 1);
	}
}

/* H19, H27, H29, H31, H33: one word of a command is long, within the line's limit and beyond it. */
static void long_words(void **state)
{
	static const struct {
		const char *before, *after;
		size_t n;
		const char *reply;
	} rows[] = {
		{ "EHLO ", "", 255, "250" },
		{ "EHLO ", "", 256, "501 5.5.4" },
		{ "EHLO ", "", 65536, "500 5.5.2" },
		{ EHLO MAIL "RCPT TO:<", "@example.org>", 64, "250 2.1.5" },
		{ EHLO MAIL "RCPT TO:<", "@example.org>", 65, "501 5.1.3" },
		{ EHLO MAIL "RCPT TO:<", "@example.org>", 1000, "501 5.1.3" },
		{ EHLO MAIL "RCPT TO:<", "@example.org>", 100000, "500 5.5.2" },
		{ EHLO MAIL "RCPT TO:<a@", ".example.org>", 64, "501 5.1.2" },
		{ EHLO MAIL "RCPT TO:<a@", ".example.org>", 1000, "501 5.1." },
		{ EHLO "MAIL FROM:<a@b.example> ENVID=", "", 100, "250 2.1.0" },
		{ EHLO "MAIL FROM:<a@b.example> ENVID=", "", 101, "501 5.5.4" },
		{ EHLO "MAIL FROM:<a@b.example> ENVID=", "", 102400, "500 5.5.2" },
		{ EHLO MAIL "RCPT TO:<ann@example.org> ORCPT=rfc822;", "", 493, "250 2.1.5" },
		{ EHLO MAIL "RCPT TO:<ann@example.org> ORCPT=rfc822;", "", 494, "501 5.5.4" },
		{ EHLO MAIL "RCPT TO:<ann@example.org> ORCPT=rfc822;", "", 102400, "500 5.5.2" },
		{ EHLO "MAIL FROM:<> AUTH=", "", 500, "555 5.5.4" },
		{ EHLO "MAIL FROM:<> AUTH=", "", 4096, "500 5.5.2" },
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		for (int cut = RIG_WHOLE; cut <= RIG_SEVENS; cut++) {
			begin(rows[i].before);
			add_times(rows[i].n, "u");
			add_times(1, rows[i].after);
			add_times(1, "\r\nNOOP\r\n");
			play_script((enum rig_cut)cut);
			if (count_replies(rows[i].reply) < 1)
				fail_msg("row %zu: %.*s", i, STR_ARG(last_reply()));
			bool endless = rows[i].n >= 65536; /* H6: then the connection ends */
			assert_true(str_starts(last_reply(), endless ? STR("421") : STR("250")));
		}
}

/* H7, H32, H40, H46: what is too large or loops is read to its end and refused once. */
static void bad_messages(void **state)
{
	static const struct {
		size_t n;
		const char *text, *end, *reply;
	} rows[] = {
		{ 999, "x", "\r\n", "250 " },
		{ 1001, "x", "\r\n", "250 " },
		{ 100 << 10, "x", "\r\n", "250 " },
		{ 1 << 20, "x", "\r\n", "552 5.3.4" },
		{ 20000, "012345678901234567890123456789012345678901234567\r\n", "", "250 " },
		{ 20001, "012345678901234567890123456789012345678901234567\r\n", "", "552 5.3.4" },
		{ 50 << 16, "0123456789012\r\n\r\n", "", "552 5.3.4" },
		{ 5001, "A#: b\r\n", "\r\n", "552 5.3.4" },
		{ 4000, "A#: b\r\n c\r\n", "\r\n", "250 " },
		{ 100, "Received: x\r\n", "\r\n", "250 " },
		{ 101, "received : x\r\n", "\r\n", "554 5.4.6" },
		{ 101, "Received: x\r\n", "", "554 5.4.6" },
		{ 200, "\r\nReceived: x\r\n", "", "250 " },
		{ 1, "Delivered-To: Ann@Example.org\r\n", "\r\n", "554 5.4.6" },
		{ 1, "Delivered-To: bob@example.org\r\n", "\r\n", "250 " },
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		for (int cut = RIG_WHOLE; cut <= RIG_LINES; cut++) {
			begin(OPEN "DATA\r\n");
			add_times(rows[i].n, rows[i].text);
			add_times(1, rows[i].end);
			add_times(1, ".\r\nRSET\r\nQUIT\r\n");
			play_script((enum rig_cut)cut);
			bool fine = str_eq(str_z(rows[i].reply), STR("250 "));
			assert_int_equal(rig.messages_n, fine);
			assert_int_equal(count_replies(rows[i].reply), fine ? 5 : 1);
			assert_int_equal(count_replies("221"), 1);
		}
}

/* H20 */
static void budgets(void **state)
{
	static const char *const commands[] = { "NOOP\r\n", "RSET\r\n", "VRFY a\r\n", "EXPN a\r\n", "HELP\r\n",
						EHLO, "NONSENSE\r\n", "MAIL\r\n", "AUTH\r\n", "NOOP\n" };
	for (size_t i = 0; i < COUNT(commands); i++) {
		begin("");
		add_times(10000, commands[i]);
		play_script(RIG_WHOLE);
		assert_true(str_starts(last_reply(), STR("421 4.7.0")));
		assert_true(rig.output.n < 30000);
	}
	begin(EHLO); /* a message gives the junk budget back */
	for (int i = 0; i < 20; i++)
		add_times(1, "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n" MAIL RCPT "DATA\r\n.\r\n");
	play_script(RIG_WHOLE);
	assert_int_equal(rig.messages_n, 20);
}

/* H35 */
static void very_many_recipients(void **state)
{
	begin(EHLO MAIL);
	add_times(100000, "RCPT TO:<u#@example.org>\r\n");
	add_times(1, "DATA\r\n.\r\n");
	size_t before = mem_used(world_mem(rig.w));
	play_script(RIG_WHOLE);
	assert_int_equal(count_replies("250 2.1.5"), 100);
	assert_true(count_replies("452 4.5.3") >= 100);
	assert_true(count_replies("452 4.5.3") <= 500);
	assert_true(str_starts(last_reply(), STR("421 4.7.0")));
	assert_true(mem_used(world_mem(rig.w)) < before + (size_t)(2 << 20));
}

/* A mailing list with some dead addresses gets its message through, though it makes 30 errors. */
static void errors_do_not_cost_a_message(void **state)
{
	struct ip before = rig.client;
	rig.client = (struct ip){ .family = IP_V4, .bits = 32, .b = { 127, 0, 0, 1 } }; /* not slowed down */
	begin(OPEN);
	add_times(30, "RCPT TO:<nobody#@example.org>\r\n");
	add_times(1, "DATA\r\n.\r\nNOOP\r\n");
	play_script(RIG_WHOLE);
	rig.client = before;
	assert_int_equal(rig.messages_n, 1);
	assert_true(str_starts(last_reply(), STR("421 4.7.0")));
}

static void transactions_are_counted(void **state)
{
	rig.conf.limits.transactions = 3; /* RFC 9422: MAILMAX */
	begin(EHLO);
	add_times(4, MAIL RCPT "DATA\r\n.\r\n");
	play_script(RIG_LINES);
	rig.conf.limits.transactions = 1000;
	assert_int_equal(rig.messages_n, 3);
	assert_true(str_starts(last_reply(), STR("421 4.7.0")));
}

/* P8: a flood of equal refusals is one row with a count. */
static void refusals_are_counted_together(void **state)
{
	begin(EHLO);
	add_times(15, "NONSENSE\r\n");
	play_script(RIG_WHOLE);
	assert_int_equal(rig.refusals, 15);
}

/* RFC 2920 §3.1: nothing may follow a DATA that could be refused; a body might be taken for commands. */
static void body_behind_a_refused_data(void **state)
{
	rig_play(&rig, STR(EHLO MAIL "RCPT TO:<nobody@example.org>\r\nDATA\r\n" MAIL RCPT "DATA\r\nx\r\n.\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 0);
	assert_true(str_starts(last_reply(), STR("421 4.7.0")));
}

static void timeouts(void **state)
{
	static const struct {
		const char *input, *reply;
	} rows[] = {
		{ "", "421 4.4.2 No command" },
		{ EHLO "MA", "421 4.4.2 No command" },
		{ OPEN "DATA\r\nhello", "421 4.4.2 The message" },
		{ OPEN "BDAT 10\r\nhello", "421 4.4.2 The message" },
	};
	rig.at_end = ERR_TIMEOUT;
	for (size_t i = 0; i < COUNT(rows); i++) {
		rig_play(&rig, str_z(rows[i].input), RIG_WHOLE);
		assert_true(str_starts(last_reply(), str_z(rows[i].reply)));
		assert_int_equal(rig.messages_n, 0);
	}
	rig.at_end = ERR_CANCELLED; /* the server stops: RFC 5321 §3.8 */
	rig_play(&rig, STR(EHLO MAIL), RIG_WHOLE);
	assert_true(str_starts(last_reply(), STR("421 4.3.2")));
	rig.at_end = ERR_CLOSED; /* H22 */
	rig_play(&rig, STR(OPEN "DATA\r\nx\r\n"), RIG_WHOLE);
	assert_int_equal(rig.messages_n, 0);
	rig.at_end = ERR_EOF;
}

/* H113: every single allocation fails once; nothing is lost, nothing leaks. */
static void every_allocation_fails(void **state)
{
	struct mem *mem = world_mem(rig.w);
	struct str input = STR(OPEN "RCPT TO:<list@example.org>\r\nDATA\r\n" TEXT ".\r\nQUIT\r\n");
	rig_play(&rig, input, RIG_WHOLE);
	uint64_t n = mem_requests(mem), blocks = 0;
	rig_play(&rig, input, RIG_WHOLE);
	n = mem_requests(mem) - n;
	blocks = mem_blocks(mem);
	for (uint64_t i = 1; i <= n; i++) {
		cache_renew(&rig.d.cache, 1);
		rig.fail_nth = i;
		rig_play(&rig, input, RIG_LINES);
		rig.fail_nth = 0;
		bool told = str_find_str(buf_str(&rig.output), STR("Queued")) < rig.output.n;
		assert_true(!told || rig.messages_n == 1);
	}
	cache_renew(&rig.d.cache, 1);
	rig_play(&rig, input, RIG_WHOLE);
	assert_int_equal(rig.messages_n, 1);
	assert_true(mem_blocks(mem) <= blocks + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plays_all),
		cmocka_unit_test(pipelined_replies_in_one_write),
		cmocka_unit_test(ehlo_offers),
		cmocka_unit_test(received_and_envelope),
		cmocka_unit_test(alias_with_several_targets_is_expanded), cmocka_unit_test(same_mailbox_once),
		cmocka_unit_test(too_many_targets),
		cmocka_unit_test(bodies_of_all_sizes),
		cmocka_unit_test(storage_failures),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(long_words),
		cmocka_unit_test(bad_messages),
		cmocka_unit_test(budgets),
		cmocka_unit_test(very_many_recipients),
		cmocka_unit_test(errors_do_not_cost_a_message),
		cmocka_unit_test(transactions_are_counted),
		cmocka_unit_test(refusals_are_counted_together),
		cmocka_unit_test(body_behind_a_refused_data),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(every_allocation_fails),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
