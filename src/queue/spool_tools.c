/* SPDX-License-Identifier: Apache-2.0 */
/* A spool at rest: see spool_tools.h. Runs in the command line, on a disk that may be damaged. */
#include <stdarg.h>
#include <stdio.h>

#include "queue/spool_tools.h"

#include "base/clockfmt.h"
#include "base/hash.h"
#include "queue/spool_internal.h"

#define LINE_BYTES 2048u
#define READ_ARENA_MAX ((size_t)32 << 20)
#define COPY_BYTES ((size_t)256 << 10)
#define MESSAGES_MAX ((size_t)20000000)

struct seen {
	struct spool_ref ref;
	size_t states_n;
	struct spool_state *states; /* without texts but their routes, which are ours to free */
};

struct tool {
	struct world *w;
	struct mem *mem;
	const struct spool_printer *to;
	struct spool_summary *sum;
	bool dump, check_data;
	int dir_fd, body_fd, lock_fd;
	uint64_t *seqs;
	size_t seqs_n, seqs_cap;
	struct table64 live;
	struct spool_state *states;
	struct segment_reader reader;
	char line[LINE_BYTES];
};

static void say(struct tool *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct tool *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(t->line, sizeof t->line, fmt, ap);
	va_end(ap);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof t->line ? (size_t)n : sizeof t->line - 1;
	t->to->line(t->to->arg, str_of(t->line, len));
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static enum err take_name(void *arg, struct str name)
{
	struct tool *t = arg;
	uint64_t seq;
	if (!segment_name_parse(name, "seg-", &seq))
		return ERR_NONE;
	if (t->seqs_n == t->seqs_cap) {
		size_t cap = t->seqs_cap ? t->seqs_cap * 2 : 64;
		void *v = mem_resize(t->mem, t->seqs, cap * sizeof(uint64_t));
		if (!v)
			return ERR_NO_MEMORY;
		t->seqs = v;
		t->seqs_cap = cap;
	}
	size_t i = t->seqs_n++;
	for (; i > 0 && t->seqs[i - 1] > seq; i--)
		t->seqs[i] = t->seqs[i - 1];
	t->seqs[i] = seq;
	return ERR_NONE;
}

static enum err tool_open(struct tool *t, struct world *w, struct str path, const struct spool_printer *to,
			  struct spool_summary *sum)
{
	struct sip_key key;
	*sum = (struct spool_summary){ 0 };
	*t = (struct tool){ .w = w, .mem = world_mem(w), .to = to, .sum = sum, .dir_fd = -1, .body_fd = -1, .lock_fd = -1 };
	world_random(w, &key, sizeof key);
	t->live = table64_make(t->mem, key, MESSAGES_MAX);
	t->states = mem_alloc(t->mem, SPOOL_STATES_MAX * sizeof *t->states);
	if (!t->states)
		return ERR_NO_MEMORY;
	TRY(world_open(w, WORLD_ABSOLUTE, path, WORLD_READ | WORLD_DIR, 0, &t->dir_fd));
	TRY(world_open(w, t->dir_fd, STR("lock"), WORLD_READ | WORLD_WRITE | WORLD_REGULAR, 0, &t->lock_fd));
	TRY(world_lock(w, t->lock_fd));
	TRY(world_open(w, t->dir_fd, STR("body"), WORLD_READ | WORLD_DIR, 0, &t->body_fd));
	return world_list(w, t->dir_fd, take_name, t);
}

static void seen_free(struct tool *t, struct seen *s)
{
	if (!s)
		return;
	for (size_t i = 0; s->states && i < s->states_n; i++)
		mem_free(t->mem, (void *)(uintptr_t)s->states[i].route.p);
	mem_free(t->mem, s->states);
	mem_free(t->mem, s);
}

static void tool_close(struct tool *t)
{
	size_t it = 0;
	uint64_t id;
	struct seen *s;
	while ((s = table64_next(&t->live, &it, &id)))
		seen_free(t, table64_del(&t->live, id));
	table64_free(&t->live);
	mem_free(t->mem, t->states);
	mem_free(t->mem, t->seqs);
	world_close(t->w, t->body_fd);
	world_close(t->w, t->dir_fd);
	world_close(t->w, t->lock_fd);
}

/* ---- records ------------------------------------------------------------------------------------------- */

static enum err seen_state(struct tool *t, struct seen *s, const struct spool_state *st)
{
	if (st->number >= s->states_n)
		return ERR_NONE;
	struct spool_state *to = &s->states[st->number];
	mem_free(t->mem, (void *)(uintptr_t)to->route.p);
	*to = *st;
	to->enhanced = to->text = to->address = to->by = to->route = STR_NONE;
	if (st->route.n == 0)
		return ERR_NONE;
	char *route = mem_alloc_raw(t->mem, st->route.n);
	if (!route)
		return ERR_NO_MEMORY;
	memcpy(route, st->route.p, st->route.n);
	to->route = str_of(route, st->route.n);
	return ERR_NONE;
}

static enum err seen_states(struct tool *t, struct seen *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		TRY(seen_state(t, s, &t->states[i]));
	return ERR_NONE;
}

static enum err see_message(struct tool *t, const struct record *r)
{
	struct spool_live live;
	size_t n = 0;
	if (record_get_message(r, &live, t->states, &n, NULL, NULL) != ERR_NONE) {
		t->sum->damaged++;
		say(t, "segment %016llx offset %llu: a message's record makes no sense", (unsigned long long)t->reader.header.seq,
		    (unsigned long long)r->offset);
		return ERR_NONE;
	}
	struct seen *s = mem_alloc(t->mem, sizeof *s);
	if (s)
		s->states = mem_alloc(t->mem, (live.recipients_n + 1u) * sizeof *s->states);
	if (!s || !s->states) {
		seen_free(t, s);
		return ERR_NO_MEMORY;
	}
	s->ref = live.ref;
	s->ref.segment = t->reader.header.seq;
	s->states_n = live.recipients_n;
	enum err e = seen_states(t, s, n);
	if (e != ERR_NONE) {
		seen_free(t, s);
		return e;
	}
	struct seen *old = table64_del(&t->live, r->id);
	if (!old)
		t->sum->messages++;
	seen_free(t, old);
	return table64_put(&t->live, r->id, s);
}

static void print_record(struct tool *t, const struct record *r)
{
	static const char *const types[] = { "?", "message", "state", "gone", "seal" };
	char id[MSG_ID_CHARS], text[700];
	struct buf b = buf_fixed(id, sizeof id), safe;
	msg_id_add(&b, r->id);
	say(t, "%016llx %9llu %-7s %.*s meta %zu data %u synced %llu%s", (unsigned long long)t->reader.header.seq,
	    (unsigned long long)r->offset, types[r->type], STR_ARG(buf_str(&b)), r->meta.n, r->data_bytes,
	    (unsigned long long)r->synced_before, r->in_file ? " body in file" : "");
	size_t n = 0;
	if (r->type == RECORD_MESSAGE || record_get_states(r, t->states, &n) != ERR_NONE)
		return;
	for (size_t i = 0; i < n; i++) {
		safe = buf_fixed(text, sizeof text);
		buf_add_safe(&safe, t->states[i].enhanced, 16);
		buf_add_char(&safe, ' ');
		buf_add_safe(&safe, t->states[i].text, 150);
		say(t, "    recipient %u: %s, %u attempts, %.*s", t->states[i].number, rcpt_state_name(t->states[i].state),
		    t->states[i].attempts, STR_ARG(buf_str(&safe)));
	}
}

static enum err on_record(void *arg, const struct record *r)
{
	struct tool *t = arg;
	size_t n = 0;
	t->sum->records++;
	if (t->dump)
		print_record(t, r);
	if (r->type == RECORD_MESSAGE)
		return see_message(t, r);
	struct seen *s = table64_get(&t->live, r->id);
	if (r->type == RECORD_GONE) {
		seen_free(t, table64_del(&t->live, r->id));
		return ERR_NONE;
	}
	if (s && record_get_states(r, t->states, &n) == ERR_NONE)
		TRY(seen_states(t, s, n));
	return ERR_NONE;
}

static void on_damage(void *arg, uint64_t from, uint64_t to)
{
	struct tool *t = arg;
	t->sum->damaged++;
	say(t, "segment %016llx: bytes %llu to %llu are damaged", (unsigned long long)t->reader.header.seq,
	    (unsigned long long)from, (unsigned long long)to);
}

/* ---- segments -------------------------------------------------------------------------------------------- */

static enum err open_segment(struct tool *t, uint64_t seq, int *fd_out)
{
	char place[SEGMENT_NAME_BYTES];
	struct world_stat st;
	TRY(world_open(t->w, t->dir_fd, segment_name(place, "seg-", seq), WORLD_READ | WORLD_REGULAR, 0, fd_out));
	enum err e = world_stat(t->w, *fd_out, &st);
	if (e != ERR_NONE) {
		world_close(t->w, *fd_out);
		return e;
	}
	segment_reader_open(&t->reader, t->w, *fd_out, st.bytes);
	return ERR_NONE;
}

static enum err peek_header(struct tool *t, uint64_t seq, struct segment_header *h_out)
{
	int fd;
	TRY(open_segment(t, seq, &fd));
	enum err e = segment_reader_header(&t->reader);
	*h_out = t->reader.header;
	segment_reader_close(&t->reader);
	world_close(t->w, fd);
	return e;
}

static enum err scan(struct tool *t, uint64_t seq, const struct segment_header *next)
{
	struct segment_scan s = { .arg = t, .record = on_record, .damage = on_damage, .check_data = t->check_data || !next };
	if (next && next->prev_seq == seq)
		s.limit = s.known_synced = next->prev_end;
	TRY(segment_scan(&t->reader, &s));
	if (s.torn) {
		t->sum->torn++;
		say(t, "segment %016llx: what follows offset %llu was begun and not finished", (unsigned long long)seq,
		    (unsigned long long)s.end);
	}
	return ERR_NONE;
}

static enum err scan_segment(struct tool *t, size_t i)
{
	uint64_t seq = t->seqs[i];
	struct segment_header next;
	bool has_next = i + 1 < t->seqs_n && peek_header(t, t->seqs[i + 1], &next) == ERR_NONE;
	int fd;
	enum err e = open_segment(t, seq, &fd);
	if (e == ERR_NONE) {
		e = segment_reader_header(&t->reader);
		if (e == ERR_NONE && t->reader.header.seq != seq)
			e = ERR_CORRUPT;
		if (e == ERR_NONE) {
			t->sum->segments++;
			e = scan(t, seq, has_next ? &next : NULL);
		}
		segment_reader_close(&t->reader);
		world_close(t->w, fd);
	}
	if (e == ERR_NO_MEMORY)
		return e;
	if (e != ERR_NONE) {
		t->sum->damaged++;
		say(t, "segment %016llx: %s", (unsigned long long)seq,
		    e == ERR_DENIED ? "of a format that this version does not know" :
		    e == ERR_CORRUPT ? "no whole header" : err_name(e));
	}
	return ERR_NONE;
}

static enum err scan_all(struct tool *t)
{
	for (size_t i = 0; i < t->seqs_n; i++)
		TRY(scan_segment(t, i));
	return ERR_NONE;
}

/* ---- verify, dump ------------------------------------------------------------------------------------------ */

static void check_body(struct tool *t, uint64_t id, const struct seen *s)
{
	char place[BODY_NAME_BYTES];
	struct world_stat st = { 0 };
	int fd = -1;
	struct str name = body_name(place, id);
	enum err e = world_open(t->w, t->body_fd, name, WORLD_READ | WORLD_REGULAR, 0, &fd);
	if (e == ERR_NONE)
		e = world_stat(t->w, fd, &st);
	world_close(t->w, fd);
	t->sum->bodies++;
	if (e == ERR_NONE && st.bytes == s->ref.body_bytes)
		return;
	t->sum->damaged++;
	say(t, "message %.*s: its body file is %s", STR_ARG(name), e == ERR_NONE ? "too long or too short" : err_name(e));
}

static void count_live(struct tool *t)
{
	size_t it = 0;
	uint64_t id;
	struct seen *s;
	while ((s = table64_next(&t->live, &it, &id))) {
		t->sum->live++;
		t->sum->live_bytes += s->ref.prefix_bytes + s->ref.body_bytes;
		if (s->ref.in_file)
			check_body(t, id, s);
	}
}

static enum err look(struct tool *t)
{
	TRY(scan_all(t));
	count_live(t);
	return ERR_NONE;
}

enum err spool_verify(struct world *w, struct str path, const struct spool_printer *to, struct spool_summary *sum_out)
{
	struct tool t;
	enum err e = tool_open(&t, w, path, to, sum_out);
	t.check_data = true;
	if (e == ERR_NONE)
		e = look(&t);
	tool_close(&t);
	return e;
}

enum err spool_dump(struct world *w, struct str path, const struct spool_printer *to, struct spool_summary *sum_out)
{
	struct tool t;
	enum err e = tool_open(&t, w, path, to, sum_out);
	t.dump = true;
	if (e == ERR_NONE)
		e = look(&t);
	tool_close(&t);
	return e;
}

/* ---- recover -------------------------------------------------------------------------------------------------- */

static enum err new_file(struct tool *t, int dir, uint64_t id, const char *suffix, int *fd_out)
{
	char place[BODY_NAME_BYTES + 16];
	struct buf name = buf_fixed(place, sizeof place);
	msg_id_add(&name, id);
	buf_add(&name, str_z(suffix));
	return world_open(t->w, dir, buf_str(&name), WORLD_WRITE | WORLD_CREATE | WORLD_EXCL, 0600, fd_out);
}

static enum err copy_body(struct tool *t, uint64_t id, int to_fd, uint64_t at)
{
	char place[BODY_NAME_BYTES];
	int fd;
	TRY(world_open(t->w, t->body_fd, body_name(place, id), WORLD_READ | WORLD_REGULAR, 0, &fd));
	char *bytes = mem_alloc_raw(t->mem, COPY_BYTES);
	enum err e = bytes ? ERR_NONE : ERR_NO_MEMORY;
	for (uint64_t done = 0; e == ERR_NONE;) {
		size_t n = 0;
		e = world_pread(t->w, fd, bytes, COPY_BYTES, done, &n);
		if (e != ERR_NONE || n == 0)
			break;
		struct str part = str_of(bytes, n);
		e = world_pwritev(t->w, to_fd, &part, 1, at + done);
		done += n;
	}
	mem_free(t->mem, bytes);
	world_close(t->w, fd);
	return e;
}

static enum err write_message(struct tool *t, int dir, uint64_t id, const struct seen *s, struct str data)
{
	int fd;
	TRY(new_file(t, dir, id, ".eml", &fd));
	enum err e = world_pwritev(t->w, fd, &data, 1, 0);
	if (e == ERR_NONE && s->ref.in_file)
		e = copy_body(t, id, fd, data.n);
	if (e == ERR_NONE)
		e = world_sync(t->w, fd);
	world_close(t->w, fd);
	return e;
}

static enum err write_envelope(struct tool *t, int dir, const struct envelope *env, const struct seen *s)
{
	struct buf b = buf_grow(t->mem, (size_t)8 << 20);
	buf_add(&b, STR("from: <"));
	buf_add_safe(&b, env->reverse_path, 1100);
	buf_add(&b, STR(">\narrived: "));
	date_add_rfc3339(&b, env->arrived_ms);
	buf_add(&b, STR("\nclient-name: "));
	buf_add_safe(&b, env->helo, 300);
	buf_add(&b, STR("\naccount: "));
	buf_add_safe(&b, env->account, 320);
	for (size_t i = 0; i < env->recipients_n; i++) {
		buf_add(&b, STR("\nto: <"));
		buf_add_safe(&b, env->recipients[i].target.address, 320);
		buf_add(&b, STR("> "));
		buf_add(&b, str_z(rcpt_state_name(i < s->states_n ? s->states[i].state : RCPT_STATE_QUEUED)));
		if (i < s->states_n && s->states[i].route.n > 0) {
			buf_add(&b, STR(" route "));
			buf_add_safe(&b, s->states[i].route, 64);
		}
	}
	buf_add_char(&b, '\n');
	int fd;
	enum err e = buf_err(&b);
	if (e == ERR_NONE)
		e = new_file(t, dir, env->id, ".envelope", &fd);
	if (e == ERR_NONE) {
		struct str part = buf_str(&b);
		e = world_pwritev(t->w, fd, &part, 1, 0);
		world_close(t->w, fd);
	}
	buf_free(&b);
	return e;
}

static enum err read_record(struct tool *t, const struct seen *s, struct arena *arena, struct record *r, struct str *data)
{
	size_t n = (size_t)ref_bytes(&s->ref), got = 0;
	char *bytes = arena_alloc(arena, n);
	int fd;
	if (!bytes)
		return arena_err(arena);
	TRY(open_segment(t, s->ref.segment, &fd));
	enum err e = segment_reader_header(&t->reader);
	if (e == ERR_NONE)
		e = world_pread(t->w, fd, bytes, n, s->ref.offset, &got);
	if (e == ERR_NONE)
		e = record_check(str_of(bytes, got), &t->reader.header, &s->ref, r, data);
	segment_reader_close(&t->reader);
	world_close(t->w, fd);
	return e;
}

static enum err recover_one(struct tool *t, int dir, uint64_t id, const struct seen *s)
{
	ARENA_SCOPED struct arena arena = arena_make(t->mem, READ_ARENA_MAX);
	struct record r;
	struct str data;
	struct spool_live live;
	struct envelope env;
	size_t n;
	TRY(read_record(t, s, &arena, &r, &data));
	TRY(record_get_message(&r, &live, t->states, &n, &arena, &env));
	TRY(write_message(t, dir, id, s, data));
	return write_envelope(t, dir, &env, s);
}

static enum err recover_all(struct tool *t, struct str path)
{
	int dir;
	enum err e = world_mkdir(t->w, WORLD_ABSOLUTE, path, 0700);
	if (e != ERR_NONE && e != ERR_EXISTS)
		return e;
	TRY(world_open(t->w, WORLD_ABSOLUTE, path, WORLD_READ | WORLD_DIR, 0, &dir));
	size_t it = 0;
	uint64_t id;
	struct seen *s;
	e = ERR_NONE;
	while (e != ERR_NO_SPACE && e != ERR_NO_MEMORY && (s = table64_next(&t->live, &it, &id))) {
		char place[BODY_NAME_BYTES];
		e = recover_one(t, dir, id, s);
		if (e == ERR_NONE) {
			t->sum->written++;
			continue;
		}
		t->sum->failed++;
		say(t, "message %.*s: %s", STR_ARG(body_name(place, id)), err_name(e));
	}
	if (e != ERR_NO_SPACE && e != ERR_NO_MEMORY)
		e = world_sync(t->w, dir);
	world_close(t->w, dir);
	return e;
}

enum err spool_recover_to(struct world *w, struct str path, struct str dir, const struct spool_printer *to,
			  struct spool_summary *sum_out)
{
	struct tool t;
	enum err e = tool_open(&t, w, path, to, sum_out);
	if (e == ERR_NONE)
		e = look(&t);
	if (e == ERR_NONE)
		e = recover_all(&t, dir);
	tool_close(&t);
	return e;
}
