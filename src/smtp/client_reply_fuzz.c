/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's replies: invariants R1–R4, in one piece and cut as the first byte says; and what of them
 * EHLO's answer makes of the capabilities.
 */
#include "smtp/capabilities.h"
#include "smtp/client_reply.h"

#include <stdlib.h>

static void check(const struct client_reply *r)
{
	struct str text = client_reply_text(r), enhanced = client_reply_enhanced(r);
	ASSERT(r->lines <= CLIENT_REPLY_LINES_MAX && r->bytes <= CLIENT_REPLY_BYTES_MAX);
	ASSERT(r->code >= 200 && r->code <= 559);
	ASSERT(text.n <= CLIENT_REPLY_TEXT_MAX && str_is_utf8(text) && !str_has_control(text));
	ASSERT(enhanced.n == 0 || (enhanced_code_length(enhanced) == enhanced.n && enhanced.p[0] - '0' == r->code / 100));
}

struct result {
	enum client_reply_result end;
	struct client_reply reply;
	struct capabilities caps;
	size_t used, replies;
};

/* All replies of the input, as a client would read them. */
static void read_all(struct str in, size_t step, struct result *out)
{
	size_t have = 0;
	*out = (struct result){ 0 };
	for (;;) {
		struct str line;
		size_t used;
		out->end = client_reply_next(&out->reply, str_sub(in, out->used, have), &line, &used);
		ASSERT(used <= have - out->used && (used > 0) == (out->end == CLIENT_REPLY_LINE || out->end == CLIENT_REPLY_LAST ||
								  (out->end == CLIENT_REPLY_BAD && used > 0)));
		out->used += used;
		if (out->end == CLIENT_REPLY_BAD)
			return;
		if (out->end == CLIENT_REPLY_NEED_MORE) {
			if (have == in.n)
				return;
			have = have + step < in.n ? have + step : in.n;
			continue;
		}
		check(&out->reply);
		if (out->reply.lines > 1)
			capabilities_add(&out->caps, line);
		if (out->end == CLIENT_REPLY_LAST) {
			out->reply = (struct client_reply){ 0 };
			out->replies++;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t whole = 1 << 20;
	if (size < 1)
		return 0;
	struct str in = str_of((const char *)data + 1, size - 1);
	struct result a, b;
	read_all(in, whole, &a);
	read_all(in, data[0] + 1u, &b);
	ASSERT(a.end == b.end && a.used == b.used && a.replies == b.replies); /* R4 */
	ASSERT(a.reply.code == b.reply.code && a.reply.text_n == b.reply.text_n);
	ASSERT(memcmp(a.reply.text, b.reply.text, a.reply.text_n) == 0);
	ASSERT(a.caps.has == b.caps.has && a.caps.size_max == b.caps.size_max);
	return 0;
}
