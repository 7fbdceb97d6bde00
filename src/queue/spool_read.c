/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what is in the log, and the files of large bodies. Runs in queue, the disk's part on a helper
 * thread. What is read back is checked (spool_record.h); what fails its checks is ERR_CORRUPT.
 */
#include "queue/spool_internal.h"

#include "base/clockfmt.h"
#include "base/events.h"

/* ---- messages ---------------------------------------------------------------------------------------- */

struct read_job {
	int fd;
	char *to; /* with offset and length a multiple of WORLD_DIRECT_ALIGN */
	size_t n, got;
	uint64_t at;
	enum err err;
};

static void read_bytes(struct world *w, void *arg)
{
	struct read_job *j = arg;
	j->err = world_pread(w, j->fd, j->to, j->n, j->at, &j->got);
}

static YIELDS enum err read_whole(struct spool *sp, const struct spool_ref *ref, struct arena *arena, size_t n,
				  struct str *whole_out, struct segment_header *h_out)
{
	struct segment *s = segment_find(sp, ref->segment);
	if (!s)
		return ERR_NOT_FOUND;
	size_t skip = (size_t)(ref->offset & (WORLD_DIRECT_ALIGN - 1));
	struct read_job j = { .n = (skip + n + WORLD_DIRECT_ALIGN - 1) & ~(WORLD_DIRECT_ALIGN - 1), .at = ref->offset - skip };
	char *room = arena_alloc(arena, j.n + WORLD_DIRECT_ALIGN);
	if (!room)
		return arena_err(arena);
	j.to = room + (-(uintptr_t)room & (WORLD_DIRECT_ALIGN - 1));
	TRY(segment_use(sp, s, &j.fd));
	spool_job(sp, read_bytes, &j);
	*h_out = s->header; /* used: it is still there */
	segment_unuse(s);
	TRY(j.err);
	*whole_out = str_sub(str_of(j.to, j.got), skip, skip + n);
	return ERR_NONE;
}

static enum err tell_corrupt(struct spool *sp, const struct spool_ref *ref, enum err e)
{
	if (e == ERR_CORRUPT)
		spool_damage(sp, "segment %016llx, offset %llu: a message fails its checks", (unsigned long long)ref->segment,
			     (unsigned long long)ref->offset);
	return e;
}

static enum err decode(const struct record *r, struct arena *arena, struct envelope *env_out)
{
	struct spool_live live;
	size_t n;
	return record_get_message(r, &live, NULL, &n, arena, env_out);
}

enum err spool_read(struct spool *sp, const struct spool_ref *ref, struct arena *arena, struct envelope *env_out,
		    struct str *prefix_out, struct str *body_out)
{
	struct segment_header h;
	struct record r;
	struct str whole = STR_NONE, data = STR_NONE;
	const struct spool_ref place = *ref; /* the caller's may change while we wait: the message is copied forward */
	ref = &place;
	TRY(read_whole(sp, ref, arena, (size_t)ref_bytes(ref), &whole, &h));
	enum err e = record_check(whole, &h, ref, &r, &data);
	if (e == ERR_NONE)
		e = decode(&r, arena, env_out);
	TRY(tell_corrupt(sp, ref, e));
	*prefix_out = str_sub(data, 0, ref->prefix_bytes);
	*body_out = str_sub(data, ref->prefix_bytes, data.n);
	return ERR_NONE;
}

enum err spool_read_meta(struct spool *sp, const struct spool_ref *ref, struct arena *arena, struct envelope *env_out)
{
	struct segment_header h;
	struct record r;
	uint32_t meta_bytes = 0;
	struct str whole = STR_NONE;
	const struct spool_ref place = *ref;
	ref = &place;
	TRY(read_whole(sp, ref, arena, (size_t)RECORD_HEAD + ref->meta_bytes, &whole, &h));
	enum err e = ERR_CORRUPT;
	if (whole.n == (size_t)RECORD_HEAD + ref->meta_bytes && record_head_get(whole.p, &h, ref->offset, &r, &meta_bytes) &&
	    r.type == RECORD_MESSAGE && meta_bytes == ref->meta_bytes) {
		r.meta = str_sub(whole, RECORD_HEAD, whole.n);
		if (record_meta_ok(whole.p, r.meta, &h, ref->offset))
			e = decode(&r, arena, env_out);
	}
	return tell_corrupt(sp, ref, e);
}

/* ---- the history once more ------------------------------------------------------------------------------ */

#define REPLAY_ARENA_MAX ((size_t)16 << 20)
#define REPLAY_RECORDS 64u

/* Copies of records' metas: reading is on a helper thread, which allocates nothing and calls nobody. */
struct replay_job {
	struct segment_reader reader;
	uint64_t at, end;
	struct buf metas; /* of fixed size */
	struct record records[REPLAY_RECORDS];
	size_t n;
	enum err err;
};

static enum err keep_record(void *arg, const struct record *r)
{
	struct replay_job *j = arg;
	if (j->n == REPLAY_RECORDS || r->meta.n > j->metas.cap - j->metas.n)
		return ERR_LIMIT; /* the scan goes on here next time */
	struct record *k = &j->records[j->n++];
	*k = *r;
	k->meta = str_of(j->metas.p + j->metas.n, r->meta.n);
	buf_add(&j->metas, r->meta);
	j->at = r->next;
	return ERR_NONE;
}

static void read_records(struct world *w UNUSED, void *arg)
{
	struct replay_job *j = arg;
	struct segment_scan scan = { .from = j->at, .known_synced = j->end, .limit = j->end, .arg = j, .record = keep_record };
	j->err = segment_scan(&j->reader, &scan);
	if (j->err == ERR_NONE)
		j->at = j->end;
	if (j->err == ERR_LIMIT)
		j->err = ERR_NONE;
}

static YIELDS enum err replay_record(const struct spool_replay *to, struct arena *arena, const struct record *r,
				     uint64_t segment)
{
	struct spool_live live;
	struct envelope env;
	size_t n = 0;
	struct spool_state *st = ARENA_ARRAY(arena, struct spool_state, SPOOL_STATES_MAX);
	if (!st)
		return arena_err(arena);
	enum err e;
	if (r->type == RECORD_MESSAGE) {
		e = record_get_message(r, &live, st, &n, arena, &env);
		if (e == ERR_CORRUPT) /* told at the start */
			return ERR_NONE;
		TRY(e);
		live.ref.segment = segment;
		TRY(to->replay_message(to->arg, &env, &live.ref));
	} else if (record_get_states(r, st, &n) != ERR_NONE) {
		return ERR_NONE;
	}
	for (size_t i = 0; i < n; i++)
		TRY(to->replay_state(to->arg, r->id, &st[i], segment));
	return ERR_NONE;
}

static YIELDS enum err replay_piece(struct spool *sp, struct replay_job *j, const struct spool_replay *to,
				    uint64_t segment)
{
	ARENA_SCOPED struct arena arena = arena_make(sp->mem, REPLAY_ARENA_MAX);
	for (size_t i = 0; i < j->n; i++) {
		TRY(replay_record(to, &arena, &j->records[i], segment));
		arena_close(&arena);
	}
	return ERR_NONE;
}

static YIELDS enum err replay_segment(struct spool *sp, struct segment *s, struct replay_job *j,
				      const struct spool_replay *to)
{
	uint64_t segment = s->header.seq;
	enum err e = ERR_NONE;
	j->at = SEGMENT_START;
	j->end = s->end;
	int fd, own_fd = -1;
	TRY(segment_use(sp, s, &fd));
	if (s->direct) /* the scan reads at any offset */
		e = segment_open(sp, s, &own_fd);
	segment_reader_open(&j->reader, sp->w, own_fd >= 0 ? own_fd : fd, j->end);
	j->reader.header = s->header;
	/* The window is made here, where memory may be asked for. */
	if (e == ERR_NONE)
		e = segment_reader_reserve(&j->reader);
	while (e == ERR_NONE && j->at < j->end && !sp->closing) {
		j->n = 0;
		buf_clear(&j->metas);
		uint64_t before = j->at;
		spool_job(sp, read_records, j);
		e = j->err;
		if (e == ERR_NONE)
			e = replay_piece(sp, j, to, segment);
		if (j->at == before)
			break;
	}
	segment_reader_close(&j->reader);
	world_close(sp->w, own_fd);
	segment_unuse(s);
	return e;
}

enum err spool_replay(struct spool *sp, uint64_t from_segment, const struct spool_replay *to)
{
	struct replay_job *j = mem_alloc(sp->mem, sizeof *j);
	char *metas = mem_alloc_raw(sp->mem, RECORD_META_MAX);
	enum err e = j && metas ? ERR_NONE : ERR_NO_MEMORY;
	if (e == ERR_NONE)
		j->metas = buf_fixed(metas, RECORD_META_MAX);
	uint64_t last = sp->current ? sp->current->header.seq : sp->next_seq;
	for (uint64_t seq = from_segment; e == ERR_NONE && seq <= last && !sp->closing;) {
		size_t i = 0;
		while (i < sp->n && sp->segments[i]->header.seq < seq)
			i++;
		if (i == sp->n)
			break;
		seq = sp->segments[i]->header.seq;
		if (seq <= last)
			e = replay_segment(sp, sp->segments[i], j, to);
		seq++;
	}
	mem_free(sp->mem, metas);
	mem_free(sp->mem, j);
	return sp->closing && e == ERR_NONE ? ERR_CLOSED : e;
}

/* ---- large bodies ------------------------------------------------------------------------------------------ */

struct str body_name(char place[BODY_NAME_BYTES], uint64_t id)
{
	struct buf b = buf_fixed(place, BODY_NAME_BYTES);
	msg_id_add(&b, id);
	return buf_str(&b);
}

struct body_job {
	int body_fd, fd;
	uint64_t id;
	uint64_t bytes;
	enum err err;
};

static struct body_file *body_find(struct spool *sp, uint64_t id)
{
	LIST_EACH(&sp->bodies, it) {
		struct body_file *b = CONTAINER_OF(it, struct body_file, link);
		if (b->id == id)
			return b;
	}
	return NULL;
}

static void body_create(struct world *w, void *arg)
{
	struct body_job *j = arg;
	char place[BODY_NAME_BYTES];
	j->err = world_open(w, j->body_fd, body_name(place, j->id),
			    WORLD_READ | WORLD_WRITE | WORLD_CREATE | WORLD_EXCL | WORLD_REGULAR, 0600, &j->fd);
}

enum err spool_body_file(struct spool *sp, uint64_t id, int *fd_out)
{
	if (sp->closing)
		return ERR_CLOSED;
	if (body_find(sp, id) || sp->cfg.index.known(sp->cfg.index.arg, id))
		return ERR_EXISTS;
	struct body_file *b = mem_alloc(sp->mem, sizeof *b);
	if (!b)
		return ERR_NO_MEMORY;
	b->id = id;
	b->fd = -1;
	list_push_back(&sp->bodies, &b->link);
	struct body_job j = { .body_fd = sp->body_fd, .fd = -1, .id = id };
	spool_job(sp, body_create, &j);
	if (j.err != ERR_NONE) {
		list_remove(&b->link);
		mem_free(sp->mem, b);
		return j.err;
	}
	b->fd = *fd_out = j.fd;
	return ERR_NONE;
}

void spool_body_abort(struct spool *sp, uint64_t id)
{
	struct body_file *b = body_find(sp, id);
	if (!b || b->fd < 0) /* still being made, or being put */
		return;
	list_remove(&b->link);
	world_close(sp->w, b->fd);
	mem_free(sp->mem, b);
	if (sp->uncut) /* a record may name it after a crash: whether one does the next start knows */
		return;
	buf_add(&sp->dead_bodies, str_of((const char *)&id, sizeof id));
	sp->dead_bodies.err = ERR_NONE; /* no memory: removed at the next start */
	co_wake_one(&sp->duties);
}

static void body_sync(struct world *w, void *arg)
{
	struct body_job *j = arg;
	struct world_stat st;
	j->err = world_stat(w, j->fd, &st);
	if (j->err == ERR_NONE && st.bytes != j->bytes)
		j->err = ERR_SYNTAX;
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->fd);
	if (j->err == ERR_NONE)
		j->err = world_sync(w, j->body_fd); /* S1: its name, too */
}

enum err spool_body_sync(struct spool *sp, uint64_t id, uint64_t bytes)
{
	struct body_file *b = body_find(sp, id);
	if (!b || b->fd < 0)
		return ERR_NOT_FOUND;
	struct body_job j = { .body_fd = sp->body_fd, .fd = b->fd, .bytes = bytes };
	b->fd = -1;
	spool_job(sp, body_sync, &j);
	b->fd = j.fd;
	if (j.err != ERR_NONE && j.err != ERR_NO_SPACE && j.err != ERR_SYNTAX)
		log_io_error(sp->cfg.log, (struct log_ids){ .message = id }, STR("sync a body file"), j.err, sp->cfg.path);
	return j.err;
}

/* The record that names it is durable. */
void spool_body_done(struct spool *sp, uint64_t id)
{
	struct body_file *b = body_find(sp, id);
	if (!b)
		return;
	list_remove(&b->link);
	world_close(sp->w, b->fd);
	mem_free(sp->mem, b);
}

static void body_open(struct world *w, void *arg)
{
	struct body_job *j = arg;
	char place[BODY_NAME_BYTES];
	j->err = world_open(w, j->body_fd, body_name(place, j->id), WORLD_READ | WORLD_REGULAR, 0, &j->fd);
}

enum err spool_body_open(struct spool *sp, uint64_t id, int *fd_out)
{
	struct body_job j = { .body_fd = sp->body_fd, .fd = -1, .id = id };
	spool_job(sp, body_open, &j);
	if (j.err == ERR_NONE)
		*fd_out = j.fd;
	return j.err;
}
