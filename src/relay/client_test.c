/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions as dialogues: what the server says, what we say, what becomes of the recipients. Each is played
 * whole and byte by byte.
 */
#include "relay/relay_rig.h"

#include "base/test.h"
#include "relay/client_internal.h"

#define HI "220 mx.example.net ESMTP\r\n"
#define OK "250 ok\r\n"
#define GO "354 go\r\n"
#define EHLO_OK(more) "250-mx.example.net hello\r\n" more "250 HELP\r\n"
#define FAST EHLO_OK("250-PIPELINING\r\n")
#define SLOW EHLO_OK("")

#define C_EHLO "EHLO us.example.org\r\n"
#define C_MAIL "MAIL FROM:<s@example.org>\r\n"
#define C_R0 "RCPT TO:<r0@example.net>\r\n"
#define C_R1 "RCPT TO:<r1@example.net>\r\n"
#define C_R2 "RCPT TO:<r2@example.net>\r\n"
#define TEXT "A: b\r\n\r\nhi\r\n"
#define C_TEXT TEXT ".\r\n"
#define C_ONE C_EHLO C_MAIL C_R0 "DATA\r\n" C_TEXT

enum { LMTP = 1, EIGHT = 2, BINARY = 4, UTF8 = 8, DSN = 16, RESET = 32 };

struct dialogue {
	const char *name;
	size_t recipients;
	unsigned flags;
	struct str body, server, client;
	const char *outcomes;
	enum err result;
	const char *reach; /* first letter */
};
#define S(lit) { "" lit, sizeof(lit) - 1 }
#define T S(TEXT)

static const struct dialogue dialogues[] = {
	/* ---- RFC 5321 §3.3, RFC 2920 ---- */
	{ "step by step", 1, 0, T, S(HI SLOW OK OK GO "250 2.0.0 queued as 1\r\n"), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },
	{ "pipelined", 1, 0, T, S(HI FAST OK OK GO OK), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },
	{ "HELO", 1, 0, T, S(HI "502 what\r\n" OK OK OK GO OK), S(C_EHLO "HELO us.example.org\r\n" C_MAIL C_R0 "DATA\r\n" C_TEXT),
	  "A250/2.0.0", ERR_NONE, "r" },
	{ "HELO refused", 1, 0, T, S(HI "502 what\r\n" "550 no\r\n"), S(C_EHLO "HELO us.example.org\r\n"), "-", ERR_CLOSED, "b" },
	{ "EHLO put off", 1, 0, T, S(HI "451 later\r\n"), S(C_EHLO), "-", ERR_CLOSED, "b" },
	{ "no final CRLF", 1, 0, S("a"), S(HI FAST OK OK GO OK), S(C_EHLO C_MAIL C_R0 "DATA\r\na\r\n.\r\n"), "A250/2.0.0", ERR_NONE, "r" },
	{ "dots", 1, 0, S(".\r\n..\r\na.\r\n"), S(HI FAST OK OK GO OK), S(C_EHLO C_MAIL C_R0 "DATA\r\n..\r\n...\r\na.\r\n.\r\n"),
	  "A250/2.0.0", ERR_NONE, "r" },
	{ "H2 bare LF is not sent to its end", 1, 0, S("a\n.\r\nMAIL\r\n"), S(HI FAST OK OK GO), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "R0/5.6.0", ERR_IO, "r" },
	{ "251 is good", 1, 0, T, S(HI FAST OK "251 forwards\r\n" GO OK), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },

	/* ---- what servers refuse ---- */
	{ "greeting 554", 1, 0, T, S("554 5.7.1 go away\r\n"), S(""), "-", ERR_CLOSED, "b" },
	{ "greeting 421", 1, 0, T, S("421 busy\r\n"), S(""), "-", ERR_CLOSED, "b" },
	{ "greeting 521 (RFC 7504)", 1, 0, T, S("521 never\r\n"), S(""), "-", ERR_CLOSED, "b" },
	{ "MAIL 550", 2, 0, T, S(HI FAST "550 5.1.8 no\r\n503 x\r\n503 x\r\n503 x\r\n"), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n"),
	  "R550/5.1.8 R550/5.1.8", ERR_NONE, "r" },
	{ "MAIL 451", 1, 0, T, S(HI FAST "451 no\r\n503 x\r\n503 x\r\n"), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "D451/4.0.0", ERR_NONE, "b" },
	{ "MAIL 550 step by step", 1, 0, T, S(HI SLOW "550 no\r\n"), S(C_EHLO C_MAIL), "R550/5.0.0", ERR_NONE, "r" },
	{ "RCPT 550 of two", 2, 0, T, S(HI FAST OK "550 5.1.1 who\r\n" OK GO OK), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT),
	  "R550/5.1.1 A250/2.0.0", ERR_NONE, "r" },
	{ "RCPT 450 of two", 2, 0, T, S(HI FAST OK OK "450 4.2.1 busy\r\n" GO OK), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT),
	  "A250/2.0.0 D450/4.2.1", ERR_NONE, "r" },
	{ "all refused, DATA refused", 1, 0, T, S(HI FAST OK "550 no\r\n" "554 no\r\n"), S(C_EHLO C_MAIL C_R0 "DATA\r\n"),
	  "R550/5.0.0", ERR_NONE, "r" },
	{ "all refused, DATA accepted (RFC 2920 §3.1)", 1, 0, T, S(HI FAST OK "550 no\r\n" GO "554 no recipients\r\n"),
	  S(C_EHLO C_MAIL C_R0 "DATA\r\n.\r\n"), "R550/5.0.0", ERR_NONE, "r" },
	{ "all refused, DATA accepted, the end too", 1, 0, T, S(HI FAST OK "550 no\r\n" GO OK), S(C_EHLO C_MAIL C_R0 "DATA\r\n.\r\n"),
	  "R550/5.0.0", ERR_NONE, "r" },
	{ "all refused step by step", 1, 0, T, S(HI SLOW OK "550 no\r\n"), S(C_EHLO C_MAIL C_R0), "R550/5.0.0", ERR_NONE, "r" },
	{ "MAIL refused, DATA accepted", 1, 0, T, S(HI FAST "550 no\r\n503 x\r\n" GO OK), S(C_EHLO C_MAIL C_R0 "DATA\r\n.\r\n"),
	  "R550/5.0.0", ERR_NONE, "r" },
	{ "DATA 451", 1, 0, T, S(HI FAST OK OK "451 4.3.0 x\r\n"), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "D451/4.3.0", ERR_NONE, "r" },
	{ "DATA 554", 1, 0, T, S(HI FAST OK OK "554 x\r\n"), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "R554/5.0.0", ERR_NONE, "r" },
	{ "end 550", 1, 0, T, S(HI FAST OK OK GO "550 5.7.1 spam\r\n"), S(C_ONE), "R550/5.7.1", ERR_NONE, "r" },
	{ "end 452", 1, 0, T, S(HI FAST OK OK GO "452 4.3.1 full\r\n"), S(C_ONE), "D452/4.3.1", ERR_NONE, "r" },

	/* ---- H99: recipients in parts ---- */
	{ "452 behind one: another transaction", 3, 0, T, S(HI FAST OK OK "452 4.5.3 enough\r\n" "452 enough\r\n" GO OK
	  OK OK OK GO OK), S(C_EHLO C_MAIL C_R0 C_R1 C_R2 "DATA\r\n" C_TEXT C_MAIL C_R1 C_R2 "DATA\r\n" C_TEXT),
	  "A250/2.0.0 A250/2.0.0 A250/2.0.0", ERR_NONE, "r" },
	{ "552 of old servers", 2, 0, T, S(HI FAST OK OK "552 enough\r\n" GO OK OK OK GO OK),
	  S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT C_MAIL C_R1 "DATA\r\n" C_TEXT), "A250/2.0.0 A250/2.0.0", ERR_NONE, "r" },
	{ "552 5.2.2 is the mailbox", 2, 0, T, S(HI FAST OK OK "552 5.2.2 full\r\n" GO OK), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT),
	  "A250/2.0.0 R552/5.2.2", ERR_NONE, "r" },
	{ "452 alone waits", 2, 0, T, S(HI FAST OK "452 full\r\n452 full\r\n554 x\r\n"), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n"),
	  "D452/4.0.0 D452/4.0.0", ERR_NONE, "r" },
	{ "RCPTMAX (RFC 9422)", 3, 0, T, S(HI EHLO_OK("250-PIPELINING\r\n250-LIMITS RCPTMAX=2\r\n") OK OK OK GO OK OK OK GO OK),
	  S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT C_MAIL C_R2 "DATA\r\n" C_TEXT), "A250/2.0.0 A250/2.0.0 A250/2.0.0", ERR_NONE, "r" },
	{ "after an aborted transaction RSET", 3, 0, T, S(HI EHLO_OK("250-LIMITS RCPTMAX=1\r\n") OK "550 no\r\n" OK OK "550 no\r\n" OK OK OK GO OK),
	  S(C_EHLO C_MAIL C_R0 "RSET\r\n" C_MAIL C_R1 "RSET\r\n" C_MAIL C_R2 "DATA\r\n" C_TEXT),
	  "R550/5.0.0 R550/5.0.0 A250/2.0.0", ERR_NONE, "r" },

	/* ---- extensions ---- */
	{ "SIZE (RFC 1870)", 1, 0, T, S(HI EHLO_OK("250-SIZE 1000\r\n") OK OK GO OK), S(C_EHLO "MAIL FROM:<s@example.org> SIZE=12\r\n"
	  C_R0 "DATA\r\n" C_TEXT), "A250/2.0.0", ERR_NONE, "r" },
	{ "too large", 1, 0, T, S(HI EHLO_OK("250-SIZE 11\r\n")), S(C_EHLO), "R0/5.3.4", ERR_NONE, "r" },
	{ "8BITMIME", 1, EIGHT, S("\xc3\xa4\r\n"), S(HI EHLO_OK("250-8BITMIME\r\n") OK OK GO OK),
	  S(C_EHLO "MAIL FROM:<s@example.org> BODY=8BITMIME\r\n" C_R0 "DATA\r\n\xc3\xa4\r\n.\r\n"), "A250/2.0.0", ERR_NONE, "r" },
	{ "8 bit without 8BITMIME (RFC 6152 §3)", 1, EIGHT, S("\xc3\xa4\r\n"), S(HI SLOW), S(C_EHLO), "R0/5.6.3", ERR_NONE, "r" },
	{ "declared 8 bit, and is 7", 1, EIGHT, T, S(HI SLOW OK OK GO OK), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },
	{ "BINARYMIME (RFC 3030)", 1, BINARY, S(".\n\r\0"), S(HI EHLO_OK("250-PIPELINING\r\n250-CHUNKING\r\n250-BINARYMIME\r\n") OK OK OK),
	  S(C_EHLO "MAIL FROM:<s@example.org> BODY=BINARYMIME\r\n" C_R0 "BDAT 4 LAST\r\n.\n\r\0"), "A250/2.0.0", ERR_NONE, "r" },
	{ "BDAT refused", 1, BINARY, S("x"), S(HI EHLO_OK("250-CHUNKING\r\n250-BINARYMIME\r\n") OK OK "552 5.3.4 big\r\n"),
	  S(C_EHLO "MAIL FROM:<s@example.org> BODY=BINARYMIME\r\n" C_R0 "BDAT 1 LAST\r\nx"), "R552/5.3.4", ERR_NONE, "r" },
	{ "no BDAT without a recipient", 1, BINARY, S("x"), S(HI EHLO_OK("250-CHUNKING\r\n250-BINARYMIME\r\n") OK "550 no\r\n"),
	  S(C_EHLO "MAIL FROM:<s@example.org> BODY=BINARYMIME\r\n" C_R0), "R550/5.0.0", ERR_NONE, "r" },
	{ "binary without BINARYMIME", 1, BINARY, S("x"), S(HI EHLO_OK("250-CHUNKING\r\n")), S(C_EHLO), "R0/5.6.1", ERR_NONE, "r" },
	{ "SMTPUTF8", 1, UTF8, T, S(HI EHLO_OK("250-SMTPUTF8\r\n") OK OK GO OK), S(C_EHLO "MAIL FROM:<s@example.org> SMTPUTF8\r\n"
	  C_R0 "DATA\r\n" C_TEXT), "A250/2.0.0", ERR_NONE, "r" },
	{ "needs SMTPUTF8 (RFC 6531 §3.2)", 1, UTF8, S("\xc3\xa4: b\r\n"), S(HI SLOW), S(C_EHLO), "R0/5.6.7", ERR_NONE, "r" },
	{ "asked for SMTPUTF8, and is ASCII", 1, UTF8, T, S(HI SLOW OK OK GO OK), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },
	{ "DSN (RFC 3461)", 2, DSN, T, S(HI EHLO_OK("250-DSN\r\n") OK OK OK GO OK), S(C_EHLO "MAIL FROM:<s@example.org> RET=HDRS ENVID=e+2B1\r\n"
	  "RCPT TO:<r0@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@y\r\nRCPT TO:<r1@example.net> NOTIFY=NEVER\r\n" "DATA\r\n" C_TEXT),
	  "A250/2.0.0 A250/2.0.0", ERR_NONE, "r" },
	{ "DSN is not offered", 1, DSN, T, S(HI SLOW OK OK GO OK), S(C_ONE), "A250/2.0.0", ERR_NONE, "r" },

	/* ---- 421 and nonsense: RFC 5321 §3.8 ---- */
	{ "421 to MAIL", 1, 0, T, S(HI SLOW "421 bye\r\n"), S(C_EHLO C_MAIL), "-", ERR_CLOSED, "b" },
	{ "H99 421 between RCPTs", 3, 0, T, S(HI SLOW OK OK "421 bye\r\n"), S(C_EHLO C_MAIL C_R0 C_R1), "- - -", ERR_CLOSED, "b" },
	{ "421 behind a refused RCPT", 2, 0, T, S(HI FAST OK "550 no\r\n421 bye\r\n"), S(C_EHLO C_MAIL C_R0 C_R1 "DATA\r\n"),
	  "R550/5.0.0 -", ERR_CLOSED, "b" },
	{ "421 to DATA", 1, 0, T, S(HI SLOW OK OK "421 bye\r\n"), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "-", ERR_CLOSED, "b" },
	{ "421 to the end", 1, 0, T, S(HI SLOW OK OK GO "421 bye\r\n"), S(C_ONE), "-", ERR_CLOSED, "b" },
	{ "354 to RCPT", 1, 0, T, S(HI SLOW OK GO), S(C_EHLO C_MAIL C_R0), "-", ERR_SYNTAX, "r" },
	{ "250 to DATA", 1, 0, T, S(HI SLOW OK OK OK), S(C_EHLO C_MAIL C_R0 "DATA\r\n"), "-", ERR_SYNTAX, "r" },
	{ "354 to the end", 1, 0, T, S(HI SLOW OK OK GO GO), S(C_ONE), "D0/4.5.0?", ERR_SYNTAX, "r" },
	{ "H17 999 to the end", 1, 0, T, S(HI SLOW OK OK GO "999 x\r\n"), S(C_ONE), "D0/4.5.0?", ERR_SYNTAX, "r" },
	{ "H17 NUL in the greeting", 1, 0, T, S("220 \0\r\n"), S(""), "-", ERR_SYNTAX, "u" },
	{ "H17 other codes in EHLO", 1, 0, T, S(HI "250-a\r\n220 b\r\n"), S(C_EHLO), "-", ERR_SYNTAX, "u" },
	{ "H17 250 lines first", 1, 0, T, S("250 x\r\n" HI SLOW), S(""), "-", ERR_SYNTAX, "u" },
	{ "H100 it greets as us", 1, 0, T, S("220 US.example.org ESMTP\r\n"), S(""), "-", ERR_EXISTS, "u" },
	{ "H100 its EHLO is ours", 1, 0, T, S("220 x\r\n250 us.example.org\r\n"), S(C_EHLO), "-", ERR_EXISTS, "u" },

	/* ---- LMTP: RFC 2033 ---- */
	{ "LMTP", 2, LMTP, T, S(HI FAST OK OK OK GO "250 2.1.5 a\r\n452 4.2.2 full\r\n"), S("LHLO us.example.org\r\n" C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT),
	  "A250/2.1.5 D452/4.2.2", ERR_NONE, "r" },
	{ "LMTP, one refused", 3, LMTP, T, S(HI FAST OK OK "550 no\r\n" OK GO "250 a\r\n550 5.2.1 c\r\n"),
	  S("LHLO us.example.org\r\n" C_MAIL C_R0 C_R1 C_R2 "DATA\r\n" C_TEXT), "A250/2.0.0 R550/5.0.0 R550/5.2.1", ERR_NONE, "r" },
	{ "LMTP, our own name is no loop", 1, LMTP, T, S("220 us.example.org\r\n250 us.example.org\r\n" OK OK GO OK),
	  S("LHLO us.example.org\r\n" C_MAIL C_R0 "DATA\r\n" C_TEXT), "A250/2.0.0", ERR_NONE, "r" },
	{ "LMTP, cut between replies", 2, LMTP, T, S(HI FAST OK OK OK GO "250 a\r\n"), S("LHLO us.example.org\r\n" C_MAIL C_R0 C_R1 "DATA\r\n" C_TEXT),
	  "A250/2.0.0 D0/4.4.2?", ERR_EOF, "r" },
	{ "LMTP, 421 between replies", 3, LMTP, T, S(HI FAST OK OK OK OK GO "250 a\r\n421 4.3.2 b\r\n"),
	  S("LHLO us.example.org\r\n" C_MAIL C_R0 C_R1 C_R2 "DATA\r\n" C_TEXT), "A250/2.0.0 D421/4.3.2 D0/4.3.2?", ERR_CLOSED, "b" },
	{ "LMTP, no HELO", 1, LMTP, T, S(HI "500 what\r\n"), S("LHLO us.example.org\r\n"), "-", ERR_CLOSED, "b" },
	{ "LMTP, DATA refused", 2, LMTP, T, S(HI FAST OK OK OK "451 4.3.0 x\r\n"), S("LHLO us.example.org\r\n" C_MAIL C_R0 C_R1 "DATA\r\n"),
	  "D451/4.3.0 D451/4.3.0", ERR_NONE, "r" },
};

static struct rig rig;
static enum err result;

static const struct mx_target target = { .host = { "mx.example.net", 14 },
					 .address = { .family = IP_V4, .bits = 32, .port = 25, .b = { 192, 0, 2, 1 } } };

static struct client *played_client(struct rig *r, int *other_out)
{
	struct client *c = mem_alloc(r->env.mem, sizeof *c);
	int fds[2];
	assert_non_null(c);
	assert_int_equal(world_pair(r->w, fds), ERR_NONE);
	c->env = &r->env;
	c->route = &r->route;
	c->address = target.address;
	c->lmtp = r->route.kind == ROUTE_KIND_LMTP;
	c->check_name = !c->lmtp;
	c->by_n = 29;
	memcpy(c->by, "mx.example.net [192.0.2.1]:25", 29);
	assert_int_equal(stream_open(&c->stream, r->loop, fds[0]), ERR_NONE);
	c->stream.ops = &rig_ops;
	c->stream.tls = r;
	*other_out = fds[1];
	return c;
}

/* coroutine */
static void session(void *arg)
{
	struct rig *r = arg;
	int other;
	struct client *c = played_client(r, &other);
	result = client_greet(c, &r->d);
	while (result == ERR_NONE && r->d.open > 0 && client_can_go_on(c, &r->d))
		result = client_deliver(c, &r->d);
	client_drop(c);
	world_close(r->w, other);
}

static void set_message(const struct dialogue *g)
{
	rig_message(&rig, g->recipients, g->body);
	rig.route.kind = g->flags & LMTP ? ROUTE_KIND_LMTP : ROUTE_KIND_MX;
	rig.in.body_kind = g->flags & EIGHT ? BODY_KIND_EIGHT_BIT_MIME : g->flags & BINARY ? BODY_KIND_BINARY_MIME : BODY_KIND_SEVEN_BIT;
	rig.in.smtputf8 = g->flags & UTF8;
	if (g->flags & DSN) {
		rig.in.ret = DSN_RET_HDRS;
		rig.in.envid = STR("e+2B1");
		rig.rcpts[0].notify = 2 | 8;
		rig.rcpts[0].orcpt = STR("rfc822;x@y");
		rig.rcpts[1].notify = 1;
	}
	rig_delivery(&rig, -1);
}

static void play(const struct dialogue *g, struct str server, size_t step)
{
	set_message(g);
	rig.script = server;
	rig.step = step;
	loop_run(rig.loop, session, &rig);
	log_flush(&rig.log);
}

static void assert_outcomes(const struct dialogue *g, const char *expected)
{
	char room[400];
	struct buf b = buf_fixed(room, sizeof room);
	rig_outcomes(&rig, &b);
	if (!str_eq(buf_str(&b), str_z(expected)))
		fprintf(stderr, "%s: %.*s instead of %s\n", g->name, STR_ARG(buf_str(&b)), expected);
	assert_str(buf_str(&b), str_z(expected));
}

static void all_dialogues(void **state)
{
	static const size_t steps[] = { SIZE_MAX, 1, 3 };
	static const char reaches[] = "rubk";
	for (size_t i = 0; i < COUNT(dialogues); i++)
		for (size_t k = 0; k < COUNT(steps); k++) {
			const struct dialogue *g = &dialogues[i];
			play(g, g->server, steps[k]);
			if (!str_eq(buf_str(&rig.output), g->client))
				fprintf(stderr, "%s: we said\n%.*s\n", g->name, STR_ARG(buf_str(&rig.output)));
			assert_outcomes(g, g->outcomes);
			assert_str(buf_str(&rig.output), g->client);
			if (result != g->result || reaches[rig.d.reach] != g->reach[0])
				fprintf(stderr, "%s: %s, reach %c\n", g->name, err_name(result), reaches[rig.d.reach]);
			assert_int_equal(result, g->result);
			assert_int_equal(reaches[rig.d.reach], g->reach[0]);
		}
}

/*
 * P2, E2: cut at every byte. Accepted exactly if all of the last reply was there; uncertain exactly if the
 * end had been sent and no reply came; else open or as the replies said.
 */
static void cut_everywhere(void **state)
{
	static const char server[] = HI SLOW OK OK GO "250 2.0.0 queued\r\n";
	static const struct dialogue g = { .name = "cut", .recipients = 1, .body = T };
	static const enum err ends[] = { ERR_EOF, ERR_CLOSED };
	size_t all = sizeof server - 1, go = all - 18;
	for (size_t k = 0; k < COUNT(ends); k++) {
		rig.at_end = ends[k];
		for (size_t n = 0; n <= all; n++) {
			play(&g, str_of(server, n), SIZE_MAX);
			assert_outcomes(&g, n == all ? "A250/2.0.0" : n >= go ? "D0/4.4.2?" : "-");
			assert_int_equal(result, n == all ? ERR_NONE : ends[k]);
		}
	}
	rig.at_end = ERR_EOF;
}

/* A send that fails: the end was not sent, so another host may try. What the server had said counts. */
static void sends_fail(void **state)
{
	static const struct dialogue g = { .name = "send", .recipients = 1, .body = T };
	rig.send_err = ERR_CLOSED;
	for (size_t n = 0; n < sizeof C_EHLO C_MAIL C_R0 "DATA\r\n"; n++) {
		rig.send_err_after = n;
		play(&g, STR(HI SLOW OK OK GO), SIZE_MAX);
		assert_outcomes(&g, "-");
		assert_int_not_equal(result, ERR_NONE);
	}
	rig.send_err_after = sizeof C_EHLO C_MAIL C_R0 "DATA\r\n" - 1;
	play(&g, STR(HI SLOW OK OK GO "552 5.3.4 too much\r\n"), SIZE_MAX);
	assert_outcomes(&g, "-");
	assert_int_equal(rig.d.trouble.code, 552);
	rig.send_err = ERR_NONE;
}

/* Three round trips and three sends behind EHLO at most, and all of a small message in one of them. */
static void pipelining_saves_sends(void **state)
{
	static const struct dialogue g = { .name = "sends", .recipients = 3, .body = T };
	play(&g, STR(HI FAST OK OK OK OK GO OK), SIZE_MAX);
	assert_outcomes(&g, "A250/2.0.0 A250/2.0.0 A250/2.0.0");
	assert_int_equal(rig.sends, 3); /* EHLO; MAIL to DATA; the message */
}

/* The answer for queue fits into a frame whatever servers say, and nobody is left out (E3). */
static void answer_is_bounded(void **state)
{
	static struct relay_rcpt many[1000];
	struct relay_deliver_out out = { 0 };
	struct ipc_writer w = { .b = buf_grow(rig.env.mem, IPC_FRAME_MAX) };
	rig_message(&rig, 1, STR(TEXT));
	for (size_t i = 0; i < COUNT(many); i++)
		many[i] = (struct relay_rcpt){ .number = (uint16_t)i, .address = STR("x@example.net") };
	rig.in.recipients = many;
	rig.in.recipients_n = COUNT(many);
	rig_delivery(&rig, -1);
	static char text[400], by[300], set[255];
	memset(text, 'x', sizeof text);
	memset(by, 'y', sizeof by);
	memset(set, 'z', sizeof set);
	rig.d.trouble = finding_make("4.1.123", str_of(text, sizeof text));
	rig.d.trouble_by = str_of(by, sizeof by);
	assert_int_equal(delivery_answer(&rig.d, str_of(set, sizeof set), &out), ERR_NONE);
	assert_int_equal(out.outcomes_n, COUNT(many));
	relay_deliver_out_put(&w, &out);
	assert_int_equal(buf_err(&w.b), ERR_NONE);
	buf_free(&w.b);
	out = (struct relay_deliver_out){ 0 };
	rig_message(&rig, 1, STR("x"));
	rig_delivery(&rig, -1);
	rig.d.trouble.text = str_of(text, sizeof text);
	assert_int_equal(delivery_answer(&rig.d, STR(""), &out), ERR_NONE);
	assert_int_equal(out.outcomes[0].text.n, sizeof text);
}

static size_t blocks_before;

static int setup(void **state)
{
	struct world *w = world_linux_new();
	blocks_before = mem_blocks(world_mem(w));
	rig_open(&rig, w);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = rig.w;
	rig_close_all(&rig);
	assert_int_equal(mem_blocks(world_mem(w)), blocks_before);
	world_linux_free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_dialogues),
		cmocka_unit_test(cut_everywhere),
		cmocka_unit_test(sends_fail),
		cmocka_unit_test(pipelining_saves_sends),
		cmocka_unit_test(answer_is_bounded),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
