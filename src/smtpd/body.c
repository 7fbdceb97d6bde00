/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message's bytes while they arrive: see session.h. Memory is bounded for one message
 * (limits.body_memory) and for all together; what is beyond goes to a file that queue opened.
 */
#include "smtpd/session.h"

#define ALL_BODIES_MAX ((size_t)256 << 20) /* beyond: files, even for small messages */
#define WRITE_BYTES    ((size_t)256 << 10) /* gathered for one write to the file */
#define FILE_MS	       60000u

struct write_job {
	int fd;
	struct str bytes;
	uint64_t offset;
	enum err err;
};

static void write_job(struct world *w, void *arg)
{
	struct write_job *j = arg;
	j->err = world_pwritev(w, j->fd, &j->bytes, 1, j->offset);
}

static YIELDS
enum err spill(struct session *s, struct body *b)
{
	struct write_job job = { b->fd, buf_str(&b->memory), b->file_bytes, ERR_NONE };
	if (job.bytes.n == 0)
		return ERR_NONE;
	TRY(co_offload(write_job, &job));
	TRY(job.err);
	b->file_bytes += job.bytes.n;
	s->d->body_bytes -= job.bytes.n;
	buf_clear(&b->memory);
	return ERR_NONE;
}

static YIELDS
enum err file_open(struct session *s, struct body *b)
{
	s->tx->told_queue = true;
	session_deadline(s, FILE_MS);
	b->memory.max = WRITE_BYTES;
	return s->d->backend->submit_file(s->d->backend_arg, s->tx->id, &s->command, &b->fd);
}

enum err body_add(struct session *s, struct body *b, struct str piece)
{
	uint64_t max = b->memory.max;
	bool tight = s->d->body_bytes + piece.n > ALL_BODIES_MAX;
	if (b->memory.n + piece.n > max || (tight && b->fd < 0)) {
		if (b->fd < 0)
			TRY(file_open(s, b));
		TRY(spill(s, b));
	}
	buf_add(&b->memory, piece);
	TRY(buf_err(&b->memory));
	b->bytes += piece.n;
	s->d->body_bytes += piece.n;
	gauge_set(s->d->count.body_bytes, (int64_t)s->d->body_bytes);
	return ERR_NONE;
}

enum err body_finish(struct session *s, struct body *b)
{
	return b->fd >= 0 ? spill(s, b) : ERR_NONE;
}

void body_free(struct session *s, struct body *b)
{
	if (b->fd >= 0)
		world_close(s->d->w, b->fd);
	s->d->body_bytes -= b->memory.n;
	gauge_set(s->d->count.body_bytes, (int64_t)s->d->body_bytes);
	buf_free(&b->memory);
	b->fd = -1;
}
