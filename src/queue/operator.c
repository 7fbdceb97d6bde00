/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operator sees and changes: queue list, show, sites, flush, retry, hold, release, drop, move.
 * Runs in queue, called by control. Addresses are read back from the spool, so a listing with a pattern costs
 * disk reads; paging goes over a sorted copy of the ids that is kept for half a minute.
 */
#include <stdlib.h>

#include "queue/queue_internal.h"

#include "base/events.h"
#include "queue/route.h"

#define LIST_KEEP_NS (30 * 1000000000LL)
#define ROWS_MAX 40u
#define ROWS_BYTES 48000u /* of one answer */
#define SHOW_BYTES 20000u
#define SHOW_ROWS_MAX 100u
#define READ_ARENA_MAX ((size_t)16 << 20)
#define BUSY_PATIENCE_NS (5 * 1000000000LL)

/* ---- sorted ids ---------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void list_free(struct queue *q)
{
	mem_free(q->p->mem, q->list.ids);
	q->list = (struct id_list){ 0 };
}

void queue_list_forget(struct queue *q)
{
	if (q->list.ids && world_mono_ns(q->p->w) > q->list.used_ns + LIST_KEEP_NS)
		list_free(q);
}

static enum err ids_sorted(struct queue *q, uint64_t **ids_out, size_t *n_out)
{
	uint64_t *ids = mem_alloc_raw(q->p->mem, (q->ix.messages + q->ix.ending + 1) * sizeof *ids);
	size_t n = 0;
	if (!ids)
		return ERR_NO_MEMORY;
	LIST_EACH(&q->ix.all, it)
		if (it != &q->ix.cursor)
			ids[n++] = CONTAINER_OF(it, struct message, link)->id;
	qsort(ids, n, sizeof *ids, by_number);
	*ids_out = ids;
	*n_out = n;
	return ERR_NONE;
}

static enum err list_make(struct queue *q, bool again)
{
	if (again)
		list_free(q);
	if (!q->list.ids)
		TRY(ids_sorted(q, &q->list.ids, &q->list.n));
	q->list.used_ns = world_mono_ns(q->p->w);
	return ERR_NONE;
}

static size_t first_from(const uint64_t *ids, size_t n, uint64_t id)
{
	size_t lo = 0, hi = n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (ids[mid] < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* ---- matching -------------------------------------------------------------------------------------------- */

static bool contains(struct str s, struct str part)
{
	for (size_t i = 0; i + part.n <= s.n; i++)
		if (str_eq_nocase(str_sub(s, i, i + part.n), part))
			return true;
	return false;
}

static bool fits(const struct envelope *env, const struct envelope_rcpt *r, const struct queue_filter *f)
{
	if (str_eq(f->sender, STR("<>")) ? env->reverse_path.n > 0 : f->sender.n && !contains(env->reverse_path, f->sender))
		return false;
	return (f->domain.n == 0 || str_eq_nocase(address_domain(r->target.address), f->domain)) &&
	       (f->before_ms == 0 || env->arrived_ms < f->before_ms) && env->arrived_ms >= f->after_ms;
}

static bool matches(const struct envelope *env, size_t number, struct str match, const struct queue_filter *f)
{
	const struct envelope_rcpt *r = &env->recipients[number];
	return (match.n == 0 || contains(r->target.address, match) || contains(r->forward_path, match) ||
		contains(env->reverse_path, match)) && fits(env, r, f);
}

/* Whether there is anything to match: what cannot be read fits only if all does. */
static bool is_plain(struct str match, const struct queue_filter *f)
{
	return match.n + f->domain.n + f->sender.n == 0 && f->before_ms == 0 && f->after_ms == 0;
}

/* ---- list -------------------------------------------------------------------------------------------------- */

/* Where it goes, and whether that place takes it now. */
static void add_site(struct queue *q, const struct rcpt *r, const struct envelope *env, uint16_t number, struct arena *arena,
		     struct queue_row *row)
{
	int64_t now_ms = world_wall_ms(q->p->w);
	const struct target *t = number < env->recipients_n ? &env->recipients[number].target : NULL;
	if (!t || t->kind != TARGET_KIND_REMOTE)
		return;
	row->route = deliver_route(q, r, env->reverse_path, t->address)->name;
	row->moved = str_eq(index_route(&q->ix, r), row->route);
	if (r->dest == DEST_UNKNOWN || r->dest == DEST_LOCAL)
		return;
	const struct site *site = dest_get(&q->sites, r->dest)->site;
	row->site = arena_str(arena, str_sub(site->name, 0, 320));
	row->closed_ms = site_in_back_off(site, now_ms) ? site->open_at_ms : 0;
	row->full = !row->closed_ms && !site_may_start(site, now_ms);
	row->why = arena_str(arena, str_sub(site->why, 0, 300));
}

static size_t row_bytes(const struct queue_row *row)
{
	return row->reverse_path.n + row->address.n + row->reason.n + row->route.n + row->site.n + row->why.n + 96;
}

static struct queue_row row_of(struct queue *q, const struct message *m, uint16_t number, const struct envelope *env,
			       struct arena *arena)
{
	struct spool_state st;
	(void)index_state(&q->ix, m, number, &st);
	struct queue_row row = {
		.id = m->id, .number = number, .arrived_ms = m->arrived_ms,
		.next_ms = st.state == RCPT_STATE_HELD ? 0 : st.next_ms ? st.next_ms : m->arrived_ms,
		.bytes = message_bytes(m), .state = st.state, .attempts = st.attempts,
		.reverse_path = arena_str(arena, env->reverse_path),
		.address = arena_str(arena, number < env->recipients_n ? env->recipients[number].target.address : STR("")),
		.reason = arena_strf(arena, "%.*s%s%.*s", STR_ARG(st.enhanced), st.enhanced.n ? " " : "", STR_ARG(st.text)),
	};
	add_site(q, &m->rcpts[number], env, number, arena, &row);
	return row;
}

struct page {
	struct queue *q;
	const struct queue_list_in *in;
	struct arena *arena;
	struct queue_list_out *out;
	size_t limit, bytes;
};

static bool page_full(const struct page *pg)
{
	return pg->out->rows_n == pg->limit || pg->bytes > ROWS_BYTES;
}

/* *stop_out: the page is full in the middle of this message. */
static YIELDS enum err list_message(struct page *pg, uint64_t id, bool *stop_out)
{
	struct queue *q = pg->q;
	struct message *m = index_get(&q->ix, id);
	ARENA_SCOPED struct arena scratch = arena_make(q->p->mem, READ_ARENA_MAX);
	struct envelope env = { .recipients_n = 0 };
	if (!m || (m->flags & MESSAGE_ENDING))
		return ERR_NONE;
	struct spool_ref ref = message_ref(m);
	enum err e = spool_read_meta(q->sp, &ref, &scratch, &env);
	if (e == ERR_CANCELLED || e == ERR_NO_MEMORY)
		return e;
	if (e != ERR_NONE)
		env.recipients_n = 0; /* listed all the same */
	m = index_get(&q->ix, id);
	for (uint16_t i = 0; m && i < m->rcpts_n; i++) {
		if (rcpt_is_final(&m->rcpts[i]) || (id == pg->in->after_id && i <= pg->in->after_number))
			continue;
		if (i < env.recipients_n ? !matches(&env, i, pg->in->match, &pg->in->only) : !is_plain(pg->in->match, &pg->in->only))
			continue;
		if (page_full(pg)) {
			*stop_out = true;
			return ERR_NONE;
		}
		struct queue_row *row = &pg->out->rows[pg->out->rows_n++];
		*row = row_of(q, m, i, &env, pg->arena);
		pg->bytes += row_bytes(row);
	}
	return arena_err(pg->arena);
}

enum err queue_on_list(void *self, struct ipc *from UNUSED, const struct queue_list_in *in, struct arena *arena,
		       struct queue_list_out *out)
{
	struct queue *q = self;
	struct page pg = { .q = q, .in = in, .arena = arena, .out = out };
	pg.limit = in->limit && in->limit < ROWS_MAX ? in->limit : ROWS_MAX;
	out->rows = ARENA_ARRAY(arena, struct queue_row, ROWS_MAX);
	if (!out->rows)
		return arena_err(arena);
	out->messages = q->ix.messages;
	out->recipients = q->ix.recipients;
	out->held = q->ix.held;
	uint64_t at = in->after_id;
	TRY(list_make(q, at == 0));
	for (;;) { /* the list may be replaced while we read */
		size_t i = first_from(q->list.ids, q->list.n, at);
		if (i >= q->list.n)
			return ERR_NONE;
		TRY(list_message(&pg, q->list.ids[i], &out->more));
		if (out->more)
			return ERR_NONE;
		TRY(list_make(q, false));
		i = first_from(q->list.ids, q->list.n, at);
		if (i >= q->list.n)
			return ERR_NONE;
		at = q->list.ids[i] + 1;
	}
}

/* ---- show ----------------------------------------------------------------------------------------------------- */

static YIELDS enum err read_head(struct queue *q, const struct spool_ref *ref, uint64_t id, struct arena *arena,
				 struct envelope *env, struct str *head_out)
{
	struct str prefix, body;
	TRY(spool_read(q->sp, ref, arena, env, &prefix, &body));
	struct buf b = buf_grow(q->p->mem, 16384);
	buf_add(&b, str_sub(prefix, 0, 8192));
	if (!ref->in_file)
		buf_add(&b, str_sub(body, 0, 8192));
	int fd;
	if (ref->in_file && spool_body_open(q->sp, id, &fd) == ERR_NONE) {
		char *to = buf_reserve(&b, 4096);
		size_t n = 0;
		if (to && world_pread(q->p->w, fd, to, 4096, 0, &n) == ERR_NONE)
			buf_commit(&b, n);
		world_close(q->p->w, fd);
	}
	*head_out = arena_str(arena, buf_str(&b));
	buf_free(&b);
	return arena_err(arena);
}

static size_t rcpt_bytes(const struct envelope_rcpt *r)
{
	return r->target.address.n + r->target.mailbox.n + r->forward_path.n + r->orcpt.n + 32;
}

enum err queue_on_show(void *self, struct ipc *from UNUSED, const struct queue_show_in *in, struct arena *arena,
		       struct queue_show_out *out)
{
	struct queue *q = self;
	struct message *m = index_get(&q->ix, in->id);
	if (!m || (m->flags & MESSAGE_ENDING))
		return ERR_NOT_FOUND;
	struct spool_ref ref = message_ref(m);
	TRY(read_head(q, &ref, in->id, arena, &out->envelope, &out->head));
	m = index_get(&q->ix, in->id);
	if (!m)
		return ERR_NOT_FOUND;
	out->bytes = message_bytes(m);
	out->rows = ARENA_ARRAY(arena, struct queue_row, SHOW_ROWS_MAX);
	size_t bytes = 0, shown = 0;
	for (uint16_t i = 0; out->rows && i < m->rcpts_n && i < out->envelope.recipients_n; i++) {
		if (out->rows_n == SHOW_ROWS_MAX || bytes > SHOW_BYTES)
			break;
		struct queue_row *row = &out->rows[out->rows_n++];
		*row = row_of(q, m, i, &out->envelope, arena);
		bytes += row_bytes(row) + rcpt_bytes(&out->envelope.recipients[i]);
		shown = i + 1u;
	}
	out->envelope.recipients_n = shown; /* what one packet holds */
	return arena_err(arena);
}

/* ---- act --------------------------------------------------------------------------------------------------------- */

/* Another way, at once; what it waits for and why stays on record. */
static bool moved(const struct queue *q, const struct message *m, uint16_t number, struct str route, struct spool_state *st)
{
	if (str_eq(index_route(&q->ix, &m->rcpts[number]), route))
		return false;
	(void)index_state(&q->ix, m, number, st);
	st->route = route;
	st->next_ms = 0;
	st->by = STR("operator");
	return true;
}

/* The new state of one recipient; false: the action does not concern it. */
static bool changed(const struct queue *q, const struct message *m, uint16_t number, const struct queue_act_in *in,
		    int64_t now_ms, struct spool_state *st)
{
	const struct rcpt *r = &m->rcpts[number];
	*st = (struct spool_state){ .attempts = r->attempts, .at_ms = now_ms, .by = STR("operator"), .told = r->told,
				    .route = index_route(&q->ix, r) };
	if (rcpt_is_final(r))
		return false;
	switch (in->action) {
	case QUEUE_ACTION_FLUSH:
	case QUEUE_ACTION_RETRY:
		st->state = RCPT_STATE_QUEUED;
		return r->state == RCPT_STATE_QUEUED;
	case QUEUE_ACTION_HOLD:
		st->state = RCPT_STATE_HELD;
		st->text = STR("held by the operator");
		return r->state == RCPT_STATE_QUEUED;
	case QUEUE_ACTION_RELEASE:
		st->state = RCPT_STATE_QUEUED;
		st->text = STR("released by the operator");
		return r->state == RCPT_STATE_HELD;
	case QUEUE_ACTION_DROP:
		st->state = RCPT_STATE_DISCARDED;
		st->text = STR("discarded by the operator");
		return true;
	case QUEUE_ACTION_MOVE:
		return moved(q, m, number, in->route, st);
	}
	return false;
}

/* A delivery under way ends first. NULL: it has not by `until_ns` (0: not waited for) and *busy_out, or the message is gone. */
static YIELDS struct message *wait_idle(struct queue *q, uint64_t id, int64_t until_ns, bool *busy_out)
{
	struct message *m;
	*busy_out = false;
	while ((m = index_get(&q->ix, id)) && (m->flags & MESSAGE_BUSY)) {
		int64_t before = co_set_deadline(until_ns);
		enum err e = until_ns ? co_wait(&q->idle) : ERR_TIMEOUT;
		(void)co_set_deadline(before);
		*busy_out = e != ERR_NONE;
		if (e != ERR_NONE)
			return NULL;
	}
	return m && !(m->flags & MESSAGE_ENDING) ? m : NULL;
}

static void tell_history(struct queue *q, uint64_t id, enum queue_action action, const struct spool_state *st)
{
	struct spool_state told = *st;
	char room[128];
	struct buf b = buf_fixed(room, sizeof room);
	if (action == QUEUE_ACTION_MOVE) { /* the state keeps the reason of its last attempt */
		buf_addf(&b, st->route.n ? "moved by the operator to route %.*s" : "moved by the operator to the configured route%.*s",
			 STR_ARG(st->route));
		told.at_ms = world_wall_ms(q->p->w);
		told.enhanced = str_of("", 0);
		told.text = buf_str(&b);
	}
	queue_history_attempt(q, id, &told, action == QUEUE_ACTION_DROP ? VERDICT_REFUSE : VERDICT_DEFER);
	if (action == QUEUE_ACTION_DROP)
		log_message_dropped(&q->p->log, message_ids(id), st->address);
	if (action == QUEUE_ACTION_HOLD)
		log_message_held(&q->p->log, message_ids(id), st->address, STR(""), st->text);
}

/* Flush and retry only change when, which need not survive a crash. */
static YIELDS void apply(struct queue *q, struct message *m, enum queue_action action, struct spool_state *st, size_t n)
{
	uint64_t id = m->id;
	for (size_t i = 0; i < n; i++) {
		if (action == QUEUE_ACTION_FLUSH || action == QUEUE_ACTION_RETRY) {
			m->rcpts[st[i].number].next_ms = 0;
			if (action == QUEUE_ACTION_FLUSH)
				dest_flush(&q->sites, m->rcpts[st[i].number].dest, world_wall_ms(q->p->w));
			continue;
		}
		if (action == QUEUE_ACTION_MOVE)
			index_forget_dest(&q->ix, m, st[i].number);
		index_set(&q->ix, m, &st[i]);
		tell_history(q, id, action, &st[i]);
	}
	if (action != QUEUE_ACTION_FLUSH && action != QUEUE_ACTION_RETRY) {
		m->flags |= MESSAGE_BUSY;
		queue_store_states(q, m, st, n);
		m = index_get(&q->ix, id);
		if (!m)
			return;
		m->flags &= (uint8_t)~MESSAGE_BUSY;
		co_wake_all(&q->idle);
	}
	queue_schedule(q, m);
}

static bool any_matches(const struct envelope *env, const struct queue_act_in *in)
{
	for (size_t i = 0; i < env->recipients_n; i++)
		if (matches(env, i, in->match, &in->only))
			return true;
	return false;
}

static YIELDS enum err act_on(struct queue *q, const struct queue_act_in *in, uint64_t id, int64_t until_ns, uint64_t *touched,
			      bool *busy_out)
{
	ARENA_SCOPED struct arena arena = arena_make(q->p->mem, READ_ARENA_MAX);
	struct message *m = index_get(&q->ix, id);
	struct envelope env = { 0 };
	*busy_out = false;
	if (!m)
		return ERR_NONE;
	bool plain = (in->action == QUEUE_ACTION_FLUSH || in->action == QUEUE_ACTION_RETRY) && is_plain(in->match, &in->only);
	struct spool_ref ref = message_ref(m);
	enum err e = plain ? ERR_NONE : spool_read_meta(q->sp, &ref, &arena, &env);
	if (e == ERR_CANCELLED || e == ERR_NO_MEMORY)
		return e;
	if (!plain && e == ERR_NONE && !any_matches(&env, in))
		return ERR_NONE; /* whatever is done with it at this moment */
	m = wait_idle(q, id, until_ns, busy_out);
	struct spool_state *st = m ? ARENA_ARRAY(&arena, struct spool_state, m->rcpts_n) : NULL;
	size_t n = 0;
	for (uint16_t i = 0; st && i < m->rcpts_n; i++) {
		if (i < env.recipients_n ? !matches(&env, i, in->match, &in->only) : !is_plain(in->match, &in->only))
			continue;
		if (in->action == QUEUE_ACTION_MOVE && (i >= env.recipients_n || env.recipients[i].target.kind != TARGET_KIND_REMOTE))
			continue;
		if (!changed(q, m, i, in, world_wall_ms(q->p->w), &st[n]))
			continue;
		st[n].number = i;
		st[n].enhanced = arena_str(&arena, st[n].enhanced); /* the index may drop its own */
		st[n].text = arena_str(&arena, st[n].text);
		st[n].address = i < env.recipients_n ? env.recipients[i].target.address : STR("unknown");
		n++;
	}
	*touched += n;
	if (n > 0)
		apply(q, m, in->action, st, n);
	return arena_err(&arena);
}

/* Of `ids` those under way are left in front; their number is returned in *n. Waits for each until `until_ns` (0: not at all). */
static YIELDS enum err act_on_all(struct queue *q, const struct queue_act_in *in, uint64_t *ids, size_t *n, int64_t until_ns,
				  struct queue_act_out *out)
{
	size_t left = 0;
	enum err e = ERR_NONE;
	for (size_t i = 0; i < *n && e == ERR_NONE; i++) {
		bool busy;
		e = act_on(q, in, ids[i], until_ns, &out->recipients, &busy);
		if (busy)
			ids[left++] = ids[i];
		if (e == ERR_NONE && i % 256 == 255)
			e = co_yield(); /* the mail goes on meanwhile */
	}
	*n = left;
	return e;
}

enum err queue_on_act(void *self, struct ipc *from UNUSED, const struct queue_act_in *in, struct arena *arena UNUSED,
		      struct queue_act_out *out)
{
	struct queue *q = self;
	if (in->action == QUEUE_ACTION_MOVE && in->route.n && !route_named(&q->p->conf, in->route))
		return ERR_SYNTAX;
	sites_begin_flush(&q->sites);
	uint64_t one = in->id, *ids = &one;
	size_t n = 1;
	if (in->id && !index_get(&q->ix, in->id))
		return ERR_NOT_FOUND;
	if (!in->id)
		TRY(ids_sorted(q, &ids, &n));
	if (!in->id && in->action == QUEUE_ACTION_FLUSH && is_plain(in->match, &in->only))
		sites_open_all(&q->sites, world_wall_ms(q->p->w));
	/* First what waits, so that none of it is begun meanwhile; then what was under way, all within one time. */
	enum err e = act_on_all(q, in, ids, &n, 0, out);
	if (e == ERR_NONE && n > 0)
		e = act_on_all(q, in, ids, &n, world_mono_ns(q->p->w) + BUSY_PATIENCE_NS, out);
	out->under_way = n;
	if (!in->id)
		mem_free(q->p->mem, ids);
	TRY(e);
	return spool_flush(q->sp);
}
