/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's handshake over any bytes: the first half of the input is what the client sends first, the rest
 * comes after what the server has answered. Whatever comes, the handshake ends and nothing is left.
 */
#include "tls/tls_rig.h"

struct play {
	struct rig *r;
	struct str input;
	int fd;
};

static YIELDS void say(struct play *p, struct str s)
{
	size_t n;
	while (s.n > 0 && world_send(p->r->w, p->fd, &s, 1, &n) == ERR_NONE)
		s = str_sub(s, n, s.n);
	for (unsigned i = 0; i < 4; i++)
		if (co_yield() != ERR_NONE)
			return;
}

/* coroutine */
static void stranger(void *arg)
{
	struct play *p = arg;
	say(p, str_sub(p->input, 0, p->input.n / 2));
	say(p, str_sub(p->input, p->input.n / 2, p->input.n));
	world_shutdown_send(p->r->w, p->fd);
}

/* coroutine */
static void play(void *arg)
{
	struct play *p = arg;
	struct stream s;
	int fds[2];
	rig_sockets(p->r, fds);
	p->fd = fds[1];
	enum err e = stream_open(&s, p->r->l, fds[0]);
	ASSERT(e == ERR_NONE);
	e = scope_spawn(co_scope(), "stranger", CO_STACK_LARGE, stranger, p);
	ASSERT(e == ERR_NONE);
	(void)co_set_deadline(world_mono_ns(p->r->w) + INT64_C(2000000000));
	e = tls_accept(p->r->server, &s);
	ASSERT(e != ERR_TIMEOUT && (e == ERR_NONE || tls_why(&s).n > 0));
	while (e == ERR_NONE) {
		stream_consume(&s, stream_input(&s).n);
		e = stream_fill(&s);
	}
	stream_close(&s);
	(void)co_set_deadline(NEVER);
	(void)!co_yield();
	(void)!co_yield();
	world_close(p->r->w, p->fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	if (size > 4096)
		return 0;
	if (!rig.w) {
		uint32_t numbers[2];
		rig_open(&rig);
		numbers[0] = rig_add(&rig, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
		numbers[1] = rig_add(&rig, RIG_ED, "DNS:mail.example.org", -RIG_DAY, RIG_DAY);
		rig.server = rig_server(&rig, numbers, 2);
	}
	struct play p = { .r = &rig, .input = str_of((const char *)data, size) };
	loop_run(rig.l, play, &p);
	return 0;
}
