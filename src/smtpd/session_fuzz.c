/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole session over any bytes. Whatever a client sends, what comes back is replies, nothing is
 * left in memory, and it makes no difference whether the bytes come line by line or one by one
 * (H4).
 */
#include "smtpd/session_rig.h"

#include <stdlib.h>

struct played {
	char codes[16384];
	size_t codes_n, messages;
	uint64_t hash;
};

static void play(struct rig *r, struct str input, enum rig_cut cut, struct played *o)
{
	struct buf codes = buf_fixed(o->codes, sizeof o->codes);
	rig_play(r, input, cut);
	rig_codes(r, &codes);
	ASSERT(buf_err(&codes) != ERR_NONE || str_find(buf_str(&codes), '(') == codes.n);
	ASSERT(r->d.body_bytes == 0);
	o->codes_n = codes.n;
	o->messages = r->messages_n;
	o->hash = 0;
	for (size_t i = 0; i < r->messages_n; i++) {
		o->hash = o->hash * 31 + siphash((struct sip_key){ 1, 2 }, r->messages[i].body);
		ASSERT(r->messages[i].envelope.recipients_n > 0);
		ASSERT(str_ends(r->messages[i].prefix, STR("\r\n")));
	}
}

static void set_up(struct rig *r)
{
	if (!rig_open(r))
		abort();
	r->client = (struct ip){ .family = IP_V4,
				 .bits = 32,
				 .b = { 127, 0, 0, 1 } }; /* never slowed down */
	r->conf.limits.message_bytes = r->d.offer.message_bytes = 4000;
	r->conf.limits.body_memory = 1024;
	r->conf.limits.recipients = r->d.offer.recipients = 5;
	r->conf.limits.errors = 12;
	r->list_n = 3;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig; /* a world for all runs: threads and descriptors are dear */
	static struct played lines, bytes;
	struct str input = str_of((const char *)data, size);
	if (size > 8192)
		return 0;
	if (!rig.w)
		set_up(&rig);
	play(&rig, input, RIG_WHOLE, &lines);
	play(&rig, input, RIG_LINES, &lines);
	play(&rig, input, RIG_BYTES, &bytes);
	ASSERT(lines.messages == bytes.messages && lines.hash == bytes.hash);
	ASSERT(str_eq(str_of(lines.codes, lines.codes_n), str_of(bytes.codes, bytes.codes_n)));
	return 0;
}
