/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests: the plainest index that a spool can have, and what it takes to run one. A message is a row
 * of an array; nothing is ever removed from it, `live` says what counts.
 */
#ifndef QUEUE_SPOOL_MODEL_H
#define QUEUE_SPOOL_MODEL_H

#include "base/test.h"
#include "queue/spool.h"

#define MODEL_STATES 4u

struct model_row {
	uint64_t id;
	bool live, ending;
	struct spool_live at;
	struct spool_state states[MODEL_STATES];
	bool has[MODEL_STATES];
	char texts[MODEL_STATES][40];
};

struct model {
	struct mem *mem;
	struct model_row *rows;
	size_t n, cap, cursor;
	unsigned damages, gone_failures;
	char last_damage[300];
};

static inline struct model_row *model_row(struct model *m, uint64_t id)
{
	for (size_t i = m->n; i-- > 0;)
		if (m->rows[i].id == id)
			return &m->rows[i];
	return NULL;
}

static inline struct model_row *model_add(struct model *m, const struct spool_live *live)
{
	struct model_row *r = model_row(m, live->id);
	if (!r) {
		if (m->n == m->cap) {
			m->cap = m->cap ? m->cap * 2 : 64;
			void *rows = mem_resize(m->mem, m->rows, m->cap * sizeof *m->rows);
			assert_non_null(rows);
			m->rows = rows;
		}
		r = &m->rows[m->n++];
	}
	*r = (struct model_row){ .id = live->id, .live = true, .at = *live };
	return r;
}

static inline void model_set(struct model_row *r, const struct spool_state *st)
{
	assert_true(st->number < MODEL_STATES);
	r->states[st->number] = *st;
	r->has[st->number] = true;
	size_t n = st->text.n < sizeof r->texts[0] ? st->text.n : sizeof r->texts[0];
	memcpy(r->texts[st->number], st->text.p ? st->text.p : "", n);
	r->states[st->number].text.n = n;
	r->states[st->number].enhanced = r->states[st->number].by = r->states[st->number].address = STR_NONE;
}

static inline enum err model_message(void *arg, const struct spool_live *live, const struct spool_state *st, size_t n)
{
	struct model_row *r = model_add(arg, live);
	for (size_t i = 0; i < n; i++)
		model_set(r, &st[i]);
	return ERR_NONE;
}

static inline enum err model_state(void *arg, uint64_t id, const struct spool_state *st)
{
	struct model_row *r = model_row(arg, id);
	if (r && r->live)
		model_set(r, st);
	return ERR_NONE;
}

static inline void model_gone(void *arg, uint64_t id)
{
	struct model_row *r = model_row(arg, id);
	if (r)
		r->live = false;
}

static inline void model_damage(void *arg, struct str text)
{
	struct model *m = arg;
	m->damages++;
	snprintf(m->last_damage, sizeof m->last_damage, "%.*s", STR_ARG(text));
}

static inline bool model_known(void *arg, uint64_t id)
{
	struct model_row *r = model_row(arg, id);
	return r && r->live;
}

static inline bool model_next(void *arg, bool first, struct spool_live *out)
{
	struct model *m = arg;
	if (first)
		m->cursor = 0;
	while (m->cursor < m->n && !m->rows[m->cursor].live)
		m->cursor++;
	if (m->cursor == m->n)
		return false;
	*out = m->rows[m->cursor++].at;
	return true;
}

static inline bool model_oldest(void *arg, uint64_t segment, struct spool_live *out, enum err *busy_out)
{
	struct model *m = arg;
	*busy_out = ERR_NONE;
	for (size_t i = 0; i < m->n; i++) {
		if (!m->rows[i].live || m->rows[i].at.ref.segment != segment)
			continue;
		if (m->rows[i].ending) {
			*busy_out = ERR_BUSY;
			continue;
		}
		*out = m->rows[i].at;
		*busy_out = ERR_NONE;
		return true;
	}
	return *busy_out == ERR_BUSY;
}

static inline bool model_states_of(void *arg, uint64_t id, bool ending, struct spool_state *st, size_t *n_out)
{
	struct model_row *r = model_row(arg, id);
	*n_out = 0;
	if (!r || !r->live || (!ending && r->ending)) /* S8 */
		return false;
	for (unsigned i = 0; i < MODEL_STATES; i++)
		if (r->has[i]) {
			st[*n_out] = r->states[i];
			st[(*n_out)++].text.p = r->texts[i];
		}
	return true;
}

static inline bool model_moved(void *arg, uint64_t id, const struct spool_ref *to, struct spool_ref *old_out)
{
	struct model_row *r = model_row(arg, id);
	if (!r || !r->live)
		return false;
	*old_out = r->at.ref;
	r->at.ref = *to;
	return true;
}

static inline bool model_gone_saved(void *arg, uint64_t id, enum err e, struct spool_ref *ref_out)
{
	struct model *m = arg;
	struct model_row *r = model_row(arg, id);
	r->ending = false;
	if (e != ERR_NONE) {
		m->gone_failures++;
		return false;
	}
	r->live = false;
	*ref_out = r->at.ref;
	return true;
}

static inline struct spool_index model_index(struct model *m)
{
	return (struct spool_index){
		.arg = m, .message = model_message, .state = model_state, .gone = model_gone, .damage = model_damage,
		.known = model_known, .next = model_next, .oldest = model_oldest, .states_of = model_states_of,
		.moved = model_moved, .gone_saved = model_gone_saved,
	};
}

static inline size_t model_live(const struct model *m)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n; i++)
		n += m->rows[i].live;
	return n;
}

static inline void model_free(struct model *m)
{
	mem_free(m->mem, m->rows);
	*m = (struct model){ .mem = m->mem };
}

/* ---- a world, a log that says nothing, a directory ------------------------------------------------- */

struct bed {
	struct world *w;
	struct loop *loop;
	struct log log;
	char dir[200];
};

static inline enum err bed_log_write(void *arg, struct str s)
{
	struct world *w = arg;
	return world_env(w, STR("GODWIT_TEST_LOG")).n ? world_write(w, 2, s) : ERR_NONE;
}

static inline int64_t bed_log_now(void *arg)
{
	return 0;
}

static inline void bed_open(struct bed *b, struct world *w)
{
	struct log_sink sink = { bed_log_write, bed_log_now, w };
	b->w = w;
	assert_non_null(w);
	assert_int_equal(log_init(&b->log, world_mem(w), sink, LOG_FORMAT_TEXT, LEVEL_INFO, STR("test")), ERR_NONE);
	assert_int_equal(loop_new(w, &b->loop), ERR_NONE);
}

enum bed_place { BED_MEMORY, BED_DISK };

/* An empty directory: in memory if that can be had, where syncs cost nothing; else in the build directory. */
static inline void bed_dir(struct bed *b, enum bed_place place)
{
	struct str build = world_env(b->w, STR("GODWIT_BUILD"));
	uint64_t r;
	world_random(b->w, &r, sizeof r);
	snprintf(b->dir, sizeof b->dir, "/dev/shm/godwit-spool-test-%016llx", (unsigned long long)r);
	if (place == BED_MEMORY && world_mkdir(b->w, WORLD_ABSOLUTE, str_z(b->dir), 0700) == ERR_NONE)
		return;
	snprintf(b->dir, sizeof b->dir, "%.*s/spool-test-%016llx", STR_ARG(build.n ? build : STR("/tmp")),
		 (unsigned long long)r);
	assert_int_equal(world_mkdir(b->w, WORLD_ABSOLUTE, str_z(b->dir), 0700), ERR_NONE);
}

struct bed_removal {
	struct world *w;
	int fd;
};

static inline enum err bed_remove_name(void *arg, struct str name)
{
	struct bed_removal *r = arg, below = { .w = r->w };
	if (world_open(r->w, r->fd, name, WORLD_READ | WORLD_DIR, 0, &below.fd) != ERR_NONE)
		return world_unlink(r->w, r->fd, name);
	enum err e = world_list(r->w, below.fd, bed_remove_name, &below);
	world_close(r->w, below.fd);
	return e;
}

/* Its files; empty directories stay, world.h knows no way to remove them. */
static inline void bed_empty(struct bed *b)
{
	struct bed_removal r = { .w = b->w };
	assert_int_equal(world_open(b->w, WORLD_ABSOLUTE, str_z(b->dir), WORLD_READ | WORLD_DIR, 0, &r.fd), ERR_NONE);
	assert_int_equal(world_list(b->w, r.fd, bed_remove_name, &r), ERR_NONE);
	world_close(b->w, r.fd);
}

static inline void bed_close(struct bed *b)
{
	loop_free(b->loop);
	log_close(&b->log);
}

static inline struct spool_config bed_config(struct bed *b, struct model *m, uint64_t segment_bytes)
{
	return (struct spool_config){ .w = b->w, .loop = b->loop, .log = &b->log, .path = str_z(b->dir),
				      .segment_bytes = segment_bytes, .index = model_index(m) };
}

/* ---- messages whose content follows from their id ----------------------------------------------------- */

static inline struct envelope bed_envelope(uint64_t id, struct envelope_rcpt rcpts[MODEL_STATES], size_t n)
{
	for (size_t i = 0; i < n; i++)
		rcpts[i] = (struct envelope_rcpt){
			.target = { TARGET_KIND_MAILBOX, STR("user@example.org"), STR("example.org/user") },
			.forward_path = STR("User@example.org"), .orcpt = STR("rfc822;user@example.org"), .notify = (uint8_t)i };
	struct envelope env = { .id = id, .arrived_ms = (int64_t)id * 10, .reverse_path = STR("sender@example.net"),
				.helo = STR("client.example.net"), .protocol = STR("ESMTPS"), .account = STR("joe"),
				.body = BODY_KIND_EIGHT_BIT_MIME, .smtputf8 = true, .ret = DSN_RET_HDRS,
				.envid = STR("env"), .priority = 4, .message_id = STR("<1@example.net>"),
				.expires_ms = 77, .recipients = rcpts, .recipients_n = n };
	return env;
}

static inline void bed_body(uint64_t id, char *to, size_t n)
{
	uint64_t state = id * 7919 + 1;
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = test_random(&state);
		memcpy(to + i, &v, n - i < 8 ? n - i : 8);
	}
}

#endif
