/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications about anything: the input is cut into texts at 0xff, which become addresses, the
 * remote's words, and the original. What comes out keeps N1 to N4.
 */
#include "dsn/dsn_check.h"

static struct str take(struct str *rest)
{
	return str_split(*rest, (char)0xff, rest);
}

static uint8_t take_u8(struct str *rest)
{
	uint8_t v = rest->n ? (uint8_t)rest->p[0] : 0;
	*rest = str_sub(*rest, 1, rest->n);
	return v;
}

static void fill(struct str *in, struct envelope *e, struct envelope_rcpt *to, struct dsn_rcpt *r,
		 struct dsn *d)
{
	uint8_t bits = take_u8(in);
	e->smtputf8 = bits & 1;
	e->ret = bits & 2 ? DSN_RET_FULL : DSN_RET_UNSET;
	d->full_max = bits & 4 ? 0 : 65536;
	d->rcpts_n = bits & 8 ? 2 : 1;
	e->arrived_ms = bits & 16 ? 1700000000000 : 0;
	e->reverse_path = take(in);
	e->envid = take(in);
	e->message_id = take(in);
	for (size_t i = 0; i < d->rcpts_n; i++) {
		r[i].rcpt = &to[i];
		r[i].action = (enum dsn_action)(take_u8(in) % DSN_ACTIONS);
		r[i].code = (uint16_t)(take_u8(in) * 4);
		r[i].will_retry_until_ms = r[i].code;
		to[i].target.address = take(in);
		to[i].forward_path = take(in);
		to[i].orcpt = take(in);
		r[i].status = take(in);
		r[i].text = take(in);
		r[i].remote = take(in);
	}
	d->prefix = take(in);
	d->message = *in;
	d->message_bytes = d->message.n + (bits & 32 ? 1 : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new(0);
	struct str in = str_of((const char *)data, size);
	struct envelope e = { 0 };
	struct envelope_rcpt to[2] = { 0 };
	struct dsn_rcpt r[2] = { 0 };
	struct dsn d = {
		.envelope = &e, .rcpts = r, .hostname = STR("mx.example.org"), .id = size
	};
	struct dsn_info info;
	struct check c;
	if (!mem || size > 65536)
		return 0;
	fill(&in, &e, to, r, &d);
	struct buf out = buf_grow(mem, 1 << 20);
	if (dsn_compose(&d, mem, &out, &info) == ERR_NONE) {
		char *room = mem_alloc(mem, out.n + 1);
		ASSERT(room);
		const char *wrong = check_dsn(&c, buf_str(&out), &info, room);
		if (wrong)
			assert_failed(wrong, __FILE__, __LINE__);
		ASSERT(check_group(&c, d.rcpts_n).n > 0 && check_group(&c, d.rcpts_n + 1).n == 0);
		mem_free(mem, room);
	}
	buf_free(&out);
	ASSERT(mem_blocks(mem) == 0);
	mem_destroy(mem);
	return 0;
}
