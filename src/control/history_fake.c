/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history for the simulator: see history.h. The newest rows, in memory; a file keeps nothing but the
 * promise, so that its syncs take time and can fail.
 */
#include "control/history.h"

#define ROWS_MAX 4096u
#define FOUND_MAX 25u

struct row {
	int64_t at_ms;
	uint64_t id;
	enum { ROW_MESSAGE, ROW_ATTEMPT, ROW_REFUSED } kind;
	enum rcpt_state state;
	uint16_t code;
	char address[320], reverse_path[320], text[200], message_id[200];
};

struct history {
	struct world *w;
	struct mem *mem;
	int fd;
	struct row *rows; /* a ring */
	size_t n;
};

enum err history_open(struct world *w, struct str dir, struct history **h_out)
{
	int dir_fd;
	struct history *h = mem_alloc(world_mem(w), sizeof *h);
	if (!h)
		return ERR_NO_MEMORY;
	h->w = w;
	h->mem = world_mem(w);
	h->rows = mem_alloc(h->mem, ROWS_MAX * sizeof *h->rows);
	enum err e = h->rows ? world_open(w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &dir_fd) : ERR_NO_MEMORY;
	if (e == ERR_NONE) {
		e = world_open(w, dir_fd, STR("history"), WORLD_READ | WORLD_WRITE | WORLD_CREATE, 0600, &h->fd);
		world_close(w, dir_fd);
	}
	if (e != ERR_NONE) {
		mem_free(h->mem, h->rows);
		mem_free(h->mem, h);
		return e;
	}
	*h_out = h;
	return ERR_NONE;
}

void history_close(struct history *h)
{
	world_close(h->w, h->fd);
	mem_free(h->mem, h->rows);
	mem_free(h->mem, h);
}

static void set(char *to, size_t cap, struct str s)
{
	size_t n = s.n < cap - 1 ? s.n : cap - 1;
	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
}

static struct row *row_new(struct history *h)
{
	struct row *r = &h->rows[h->n++ % ROWS_MAX];
	*r = (struct row){ 0 };
	return r;
}

static void store_message(struct history *h, const struct history_message_in *m)
{
	for (size_t i = 0; i < m->envelope.recipients_n; i++) {
		struct row *r = row_new(h);
		r->kind = ROW_MESSAGE;
		r->id = m->envelope.id;
		r->at_ms = m->envelope.arrived_ms;
		set(r->address, sizeof r->address, m->envelope.recipients[i].forward_path);
		set(r->reverse_path, sizeof r->reverse_path, m->envelope.reverse_path);
		set(r->message_id, sizeof r->message_id, m->envelope.message_id);
	}
}

enum err history_store(struct history *h, const struct history_batch *b)
{
	struct str mark = STR("stored\n");
	TRY(world_pwritev(h->w, h->fd, &mark, 1, 0));
	for (size_t i = 0; i < b->messages_n; i++)
		store_message(h, &b->messages[i]);
	for (size_t i = 0; i < b->attempts_n; i++) {
		struct row *r = row_new(h);
		r->kind = ROW_ATTEMPT;
		r->id = b->attempts[i].id;
		r->at_ms = b->attempts[i].at_ms;
		r->state = b->attempts[i].state;
		set(r->address, sizeof r->address, b->attempts[i].address);
		set(r->text, sizeof r->text, b->attempts[i].text);
	}
	for (size_t i = 0; i < b->refused_n; i++) {
		struct row *r = row_new(h);
		r->kind = ROW_REFUSED;
		r->id = b->refused[i].id;
		r->at_ms = b->refused[i].at_ms;
		r->code = b->refused[i].code;
		set(r->address, sizeof r->address, b->refused[i].forward_path);
		set(r->reverse_path, sizeof r->reverse_path, b->refused[i].reverse_path);
		set(r->text, sizeof r->text, b->refused[i].text);
	}
	return ERR_NONE;
}

enum err history_sync(struct history *h)
{
	return world_datasync(h->w, h->fd);
}

enum err history_expire(struct history *h UNUSED, int64_t before_ms UNUSED, bool *more_out)
{
	*more_out = false;
	return ERR_NONE;
}

static bool row_fits(const struct row *r, struct str what)
{
	return str_eq_nocase(str_z(r->address), what) || str_eq_nocase(str_z(r->reverse_path), what) ||
	       str_eq_nocase(str_z(r->message_id), what);
}

enum err history_find(struct history *h, const struct trace_find_in *in, struct arena *arena, struct trace_find_out *out)
{
	size_t first = h->n > ROWS_MAX ? h->n - ROWS_MAX : 0;
	out->rows = ARENA_ARRAY(arena, struct trace_row, FOUND_MAX);
	TRY(arena_err(arena));
	for (size_t i = first; i < h->n && out->rows_n < FOUND_MAX; i++) {
		const struct row *r = &h->rows[i % ROWS_MAX];
		if (!row_fits(r, in->what))
			continue;
		struct trace_row *t = &out->rows[out->rows_n++];
		t->at_ms = r->at_ms;
		t->id = r->id;
		t->kind = r->kind == ROW_MESSAGE ? STR("accepted") : r->kind == ROW_REFUSED ? STR("refused") : str_z(rcpt_state_name(r->state));
		t->address = arena_str(arena, str_z(r->address));
		t->reverse_path = arena_str(arena, str_z(r->reverse_path));
		t->text = arena_str(arena, str_z(r->text));
	}
	return arena_err(arena);
}
