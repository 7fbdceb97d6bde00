/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines, parameters, xtext and replies over any bytes. */
#include "base/hash.h"
#include "smtp/command.h"
#include "smtp/ext.h"

struct seen {
	uint64_t hash;
	size_t lines, bad, too_long;
	bool endless;
};

/* Lines of s, handed over in steps of `step` bytes. */
static void read_lines(struct str s, size_t step, struct seen *seen)
{
	struct line_reader r = { 0 };
	size_t from = 0, to = 0;
	while (!seen->endless) {
		struct str line;
		size_t used;
		enum line_result result = line_next(&r, str_sub(s, from, to), &line, &used);
		ASSERT(used <= to - from);
		from += used;
		seen->bad += result == LINE_BAD;
		seen->too_long += result == LINE_TOO_LONG;
		seen->endless = result == LINE_ENDLESS;
		if (result == LINE_WHOLE) {
			seen->lines++;
			ASSERT(line.n + 2 <= COMMAND_LINE_MAX && str_find(line, '\n') == line.n);
			seen->hash = seen->hash * 31 + siphash((struct sip_key){ 3, 4 }, line);
		}
		if (result != LINE_NEED_MORE)
			continue;
		ASSERT(to - from < COMMAND_LINE_MAX);
		if (to == s.n)
			return;
		to = to + step < s.n ? to + step : s.n;
	}
}

static void check_params(struct str s)
{
	struct ext_offer offer = { .message_bytes = 1000000, .recipients = 100, .transactions = 100, .smtputf8 = true, .starttls = true, .auth = true };
	struct mail_params mail;
	struct rcpt_params rcpt;
	struct params ps;
	if (params_parse(s, &ps) == ERR_NONE)
		for (size_t i = 0; i < ps.n; i++)
			ASSERT(ps.v[i].keyword.n > 0 && (ps.v[i].value.n > 0) == ps.v[i].has_value);
	if (ext_mail_params(&offer, s, &mail) == REPLY_NONE)
		ASSERT(mail.size <= offer.message_bytes && mail.envid.n <= 100);
	if (ext_rcpt_params(&offer, s, &rcpt) == REPLY_NONE)
		ASSERT(rcpt.notify <= 14 && rcpt.orcpt.n <= 500 && !str_has_control(rcpt.orcpt));
}

static void check_reply(struct str s)
{
	char room[REPLY_BYTES_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	struct reply r = { 550, STR("5.7.1"), s };
	reply_add(&b, &r);
	ASSERT(buf_err(&b) == ERR_NONE && b.n >= 12);
	struct str rest = buf_str(&b);
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		ASSERT(line.n + 1 <= REPLY_LINE_MAX && str_ends(line, STR("\r")));
		ASSERT(str_starts(line, rest.n ? STR("550-5.7.1 ") : STR("550 5.7.1 ")));
		ASSERT(str_find(line, '\r') == line.n - 1 && str_find(line, '\0') == line.n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str s = str_of((const char *)data, size);
	struct seen whole = { 0 }, ones = { 0 };
	char room[300];
	struct buf b = buf_fixed(room, sizeof room);
	read_lines(s, 16384, &whole);
	read_lines(s, 1, &ones);
	ASSERT(whole.hash == ones.hash && whole.lines == ones.lines && whole.bad == ones.bad);
	ASSERT(whole.too_long == ones.too_long && whole.endless == ones.endless);
	struct command c = command_parse(s);
	ASSERT(c.verb < VERB_COUNT && c.args.n <= s.n);
	(void)command_is_foreign(s);
	check_params(s);
	check_reply(s);
	if (xtext_decode(s, &b) == ERR_NONE)
		ASSERT(b.n <= s.n);
	return 0;
}
