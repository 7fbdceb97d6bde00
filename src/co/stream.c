/* SPDX-License-Identifier: Apache-2.0 */
/* Buffered byte streams: see stream.h. The bytes are a stranger's; nothing here looks at them. */
#include "co/stream.h"

_Static_assert(STREAM_IN_BYTES <= LOOP_BUFFER_BYTES && STREAM_OUT_BYTES <= LOOP_BUFFER_BYTES,
	       "stream buffers come from the loop's pool");

#define SEND_AGAIN_NS (10 * 1000000LL)

static enum err plain_recv(struct stream *s, void *p, size_t n, size_t *n_out, unsigned *wait_out)
{
	*wait_out = WORLD_IN;
	if (!(s->src.ready & WORLD_IN))
		return ERR_BUSY;
	enum err e = world_recv(loop_world(s->src.loop), s->src.fd, p, n, n_out);
	/* A short read has emptied the socket: a call saved. But an end that is there makes no new event. */
	if (e == ERR_NONE && *n_out < n && !(s->src.ready & WORLD_END))
		source_block(&s->src, WORLD_IN);
	return e;
}

static enum err plain_send(struct stream *s, const struct str *parts, size_t count, size_t *n_out,
			   unsigned *wait_out)
{
	*wait_out = WORLD_OUT;
	struct world *w = loop_world(s->src.loop);
	return s->more ? world_send_more(w, s->src.fd, parts, count, n_out) : world_send(w, s->src.fd, parts, count, n_out);
}

static void plain_end(struct stream *s)
{
	world_shutdown_send(loop_world(s->src.loop), s->src.fd);
}

static void plain_close(struct stream *s UNUSED)
{
}

static const struct stream_ops plain_ops = { plain_recv, plain_send, plain_end, plain_close };

enum err stream_open(struct stream *s, struct loop *l, int fd)
{
	*s = (struct stream){ .ops = &plain_ops };
	return source_open(&s->src, l, fd);
}

void stream_close(struct stream *s)
{
	if (s->src.fd < 0)
		return;
	s->ops->close(s);
	loop_buffer_put(s->src.loop, s->in);
	loop_buffer_put(s->src.loop, s->out);
	s->in = s->out = NULL;
	s->in_from = s->in_to = s->out_n = 0;
	source_close(&s->src);
}

void stream_end(struct stream *s)
{
	s->ops->end(s);
}

struct str stream_input(const struct stream *s)
{
	return s->in ? str_of(s->in + s->in_from, s->in_to - s->in_from) : str_of("", 0);
}

void stream_consume(struct stream *s, size_t n)
{
	ASSERT(n <= s->in_to - s->in_from);
	s->in_from += (uint32_t)n;
	if (s->in_from == s->in_to)
		s->in_from = s->in_to = 0;
}

void stream_wipe(struct stream *s, struct str secret)
{
	ASSERT(secret.n == 0 || (s->in && secret.p >= s->in + s->in_from && secret.p + secret.n <= s->in + s->in_to));
	if (secret.n)
		explicit_bzero(s->in + (secret.p - s->in), secret.n);
}

/* Makes room for at least one byte. */
static enum err make_room(struct stream *s)
{
	if (!s->in) {
		s->in = loop_buffer_get(s->src.loop);
		if (!s->in)
			return ERR_NO_MEMORY;
	}
	if (s->in_to < STREAM_IN_BYTES)
		return ERR_NONE;
	if (s->in_from == 0)
		return ERR_LIMIT;
	memmove(s->in, s->in + s->in_from, s->in_to - s->in_from);
	s->in_to -= s->in_from;
	s->in_from = 0;
	return ERR_NONE;
}

static enum err recv_now(struct stream *s, unsigned *wait_out)
{
	size_t n = 0;
	TRY(make_room(s));
	TRY(s->ops->recv(s, s->in + s->in_to, STREAM_IN_BYTES - s->in_to, &n, wait_out));
	s->in_to += (uint32_t)n;
	s->received_bytes += n;
	return ERR_NONE;
}

enum err stream_fill(struct stream *s)
{
	for (;;) {
		unsigned wait = WORLD_IN;
		enum err e = recv_now(s, &wait);
		if (e != ERR_BUSY)
			return e;
		source_block(&s->src, wait);
		TRY(source_wait(&s->src, wait));
	}
}

enum err stream_fill_idle(struct stream *s)
{
	for (;;) {
		unsigned wait = WORLD_IN;
		enum err e = recv_now(s, &wait);
		if (e != ERR_BUSY)
			return e;
		source_block(&s->src, wait);
		if (s->in_from == s->in_to) {
			loop_buffer_put(s->src.loop, s->in);
			s->in = NULL;
		}
		TRY(wait == WORLD_IN ? source_wait_idle(&s->src) : source_wait(&s->src, wait));
	}
}

void stream_idle(struct stream *s)
{
	if (s->in && s->in_from == s->in_to) {
		loop_buffer_put(s->src.loop, s->in);
		s->in = NULL;
	}
	if (s->out && s->out_n == 0) {
		loop_buffer_put(s->src.loop, s->out);
		s->out = NULL;
	}
}

/* Sends `first` (what is buffered) and then `rest`. */
static YIELDS enum err send_all(struct stream *s, struct str first, struct str rest)
{
	while (first.n + rest.n > 0) {
		struct str parts[2] = { first, rest };
		unsigned wait = WORLD_OUT;
		size_t n = 0;
		size_t from = first.n ? 0 : 1;
		size_t count = rest.n ? 2 - from : 1;
		enum err e = s->ops->send(s, parts + from, count, &n, &wait);
		if (e == ERR_BUSY) {
			source_block(&s->src, wait);
			TRY(source_wait(&s->src, wait));
			continue;
		}
		if (e == ERR_LIMIT) { /* the kernel is short of memory for a moment; callers mean other limits by this */
			TRY(co_sleep_until(world_mono_ns(loop_world(s->src.loop)) + SEND_AGAIN_NS));
			continue;
		}
		TRY(e);
		s->sent_bytes += n;
		size_t of_first = n < first.n ? n : first.n;
		first = str_of(first.p + of_first, first.n - of_first);
		rest = str_of(rest.p + (n - of_first), rest.n - (n - of_first));
	}
	return ERR_NONE;
}

enum err stream_flush(struct stream *s)
{
	if (!s->out)
		return ERR_NONE;
	enum err e = send_all(s, str_of(s->out, s->out_n), str_of("", 0));
	s->out_n = 0;
	loop_buffer_put(s->src.loop, s->out);
	s->out = NULL;
	return e;
}

enum err stream_flush_last(struct stream *s)
{
	s->more = true;
	enum err e = stream_flush(s);
	s->more = false;
	return e;
}

enum err stream_write(struct stream *s, struct str bytes)
{
	if (!s->out) {
		s->out = loop_buffer_get(s->src.loop);
		if (!s->out)
			return ERR_NO_MEMORY;
		s->out_n = 0;
	}
	if (bytes.n <= STREAM_OUT_BYTES - s->out_n) {
		memcpy(s->out + s->out_n, bytes.p, bytes.n);
		s->out_n += (uint32_t)bytes.n;
		return ERR_NONE;
	}
	enum err e = send_all(s, str_of(s->out, s->out_n), bytes);
	s->out_n = 0;
	return e;
}
