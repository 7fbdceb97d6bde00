/* SPDX-License-Identifier: Apache-2.0 */
/* The messages in memory: see index.h. Runs in queue; its input is the spool's recovery and our own calls. */
#include "queue/index.h"

#define MESSAGES_MAX ((size_t)20000000)
#define ROUTES_MAX 2000u /* names: configurations have fewer, and only the operator gives them */

void index_open(struct index *ix, struct mem *mem, struct sip_key key)
{
	*ix = (struct index){ .mem = mem };
	ix->by_id = table64_make(mem, key, MESSAGES_MAX);
	ix->due = heap_make(mem);
	list_init(&ix->all);
	reasons_open(&ix->reasons, mem, key);
}

void index_close(struct index *ix)
{
	ASSERT(ix->coming == 0);
	list_remove(&ix->cursor);
	heap_free(&ix->due); /* touches its nodes */
	LIST_EACH(&ix->all, it)
		mem_free(ix->mem, CONTAINER_OF(it, struct message, link));
	table64_free(&ix->by_id);
	reasons_close(&ix->reasons);
	for (uint16_t i = 1; i < ix->routes_n; i++)
		mem_free(ix->mem, (void *)(uintptr_t)ix->routes[i].p);
	mem_free(ix->mem, ix->routes);
}

struct message *index_get(const struct index *ix, uint64_t id)
{
	struct message *m = table64_get(&ix->by_id, id);
	return m && !(m->flags & MESSAGE_COMING) ? m : NULL;
}

/* ---- places ------------------------------------------------------------------------------------------ */

struct spool_ref message_ref(const struct message *m)
{
	bool in_file = m->flags & MESSAGE_IN_FILE;
	return (struct spool_ref){
		.segment = m->segment,
		.offset = m->offset,
		.meta_bytes = m->meta_bytes,
		.data_bytes = (uint32_t)(m->prefix_bytes + (in_file ? 0 : m->body_bytes)),
		.prefix_bytes = m->prefix_bytes,
		.in_file = in_file,
		.body_bytes = m->body_bytes,
	};
}

uint64_t message_bytes(const struct message *m)
{
	return m->prefix_bytes + m->body_bytes;
}

static void set_ref(struct message *m, const struct spool_ref *ref)
{
	m->segment = ref->segment;
	m->offset = (uint32_t)ref->offset;
	m->meta_bytes = ref->meta_bytes;
	m->prefix_bytes = (uint16_t)ref->prefix_bytes;
	m->body_bytes = ref->body_bytes;
	m->flags = (uint8_t)(ref->in_file ? m->flags | MESSAGE_IN_FILE : m->flags & ~MESSAGE_IN_FILE);
}

static struct spool_live live_of(const struct message *m)
{
	return (struct spool_live){
		.id = m->id,
		.ref = message_ref(m),
		.arrived_ms = m->arrived_ms,
		.expires_ms = m->expires_ms,
		.recipients_n = m->rcpts_n,
		.priority = m->priority,
	};
}

/* ---- recipients ---------------------------------------------------------------------------------------- */

struct str index_route(const struct index *ix, const struct rcpt *r)
{
	return r->route < ix->routes_n ? ix->routes[r->route] : str_of("", 0);
}

/* The number of a name; 0 as well when there is no room: then the configuration decides again. */
static uint16_t route_number(struct index *ix, struct str name)
{
	for (uint16_t i = 1; name.n > 0 && i < ix->routes_n; i++)
		if (str_eq(ix->routes[i], name))
			return i;
	if (name.n == 0 || ix->routes_n == ROUTES_MAX)
		return 0;
	uint16_t n = ix->routes_n ? ix->routes_n : 1;
	struct str *v = mem_resize(ix->mem, ix->routes, (n + 1u) * sizeof *v);
	if (!v)
		return 0;
	ix->routes = v;
	v[0] = str_of("", 0);
	char *p = mem_alloc_raw(ix->mem, name.n);
	if (!p)
		return 0;
	memcpy(p, name.p, name.n);
	v[n] = str_of(p, name.n);
	ix->routes_n = (uint16_t)(n + 1);
	return n;
}

bool rcpt_is_final(const struct rcpt *r)
{
	return r->state != RCPT_STATE_QUEUED && r->state != RCPT_STATE_HELD;
}

bool message_is_final(const struct message *m)
{
	for (size_t i = 0; i < m->rcpts_n; i++)
		if (!rcpt_is_final(&m->rcpts[i]))
			return false;
	return true;
}

/* What the totals say of a recipient in this state. */
static void count_rcpt(struct index *ix, const struct rcpt *r, int sign)
{
	if (!rcpt_is_final(r))
		ix->recipients += (size_t)sign;
	if (r->state == RCPT_STATE_HELD)
		ix->held += (size_t)sign;
}

void index_set(struct index *ix, struct message *m, const struct spool_state *st)
{
	struct rcpt *r = &m->rcpts[st->number];
	uint32_t reason = reason_get(&ix->reasons, st->enhanced, st->text); /* before the old one goes: it may be the same bytes */
	count_rcpt(ix, r, -1);
	reason_drop(&ix->reasons, r->reason);
	*r = (struct rcpt){
		.next_ms = st->next_ms,
		.at_ms = st->at_ms,
		.reason = reason,
		.attempts = st->attempts > UINT16_MAX ? UINT16_MAX : (uint16_t)st->attempts,
		.state = (uint8_t)st->state,
		.told = st->told,
		.dest = r->dest,
		.route = route_number(ix, st->route),
	};
	count_rcpt(ix, r, 1);
	if (rcpt_is_final(r))
		index_forget_dest(ix, m, st->number);
}

void index_set_dest(struct index *ix UNUSED, struct message *m, uint16_t number, uint32_t dest)
{
	ASSERT(m->rcpts[number].dest == 0);
	m->rcpts[number].dest = dest;
}

void index_forget_dest(struct index *ix, struct message *m, uint16_t number)
{
	uint32_t dest = m->rcpts[number].dest;
	m->rcpts[number].dest = 0;
	if (dest && ix->on_dest)
		ix->on_dest(ix->arg, dest);
}

bool index_state(const struct index *ix, const struct message *m, uint16_t number, struct spool_state *st_out)
{
	const struct rcpt *r = &m->rcpts[number];
	*st_out = (struct spool_state){
		.number = number,
		.state = (enum rcpt_state)r->state,
		.attempts = r->attempts,
		.next_ms = r->next_ms,
		.at_ms = r->at_ms,
		.told = r->told,
		.route = index_route(ix, r),
		.enhanced = reason_enhanced(&ix->reasons, r->reason),
		.text = reason_text(&ix->reasons, r->reason),
	};
	return r->state != RCPT_STATE_QUEUED || r->attempts || r->next_ms || r->reason || r->told || r->route;
}

enum err index_schedule(struct index *ix, struct message *m)
{
	int64_t at = INT64_MAX;
	list_remove(&m->wait);
	if (!(m->flags & (MESSAGE_BUSY | MESSAGE_ENDING)))
		for (size_t i = 0; i < m->rcpts_n; i++)
			if (m->rcpts[i].state == RCPT_STATE_QUEUED && m->rcpts[i].next_ms < at)
				at = m->rcpts[i].next_ms;
	if (at != INT64_MAX)
		return heap_put(&ix->due, &m->due, at);
	heap_del(&ix->due, &m->due);
	return ERR_NONE;
}

/* ---- coming and going ------------------------------------------------------------------------------------- */

enum err index_reserve(struct index *ix, uint64_t id, uint16_t rcpts_n, struct message **m_out)
{
	/* index_schedule() must not fail later: who would notice? */
	TRY(heap_reserve(&ix->due, ix->messages + ix->coming + 1));
	struct message *m = mem_alloc(ix->mem, sizeof *m + rcpts_n * sizeof m->rcpts[0]);
	if (!m)
		return ERR_NO_MEMORY;
	m->id = id;
	m->rcpts_n = rcpts_n;
	m->flags = MESSAGE_COMING;
	enum err e = table64_put(&ix->by_id, id, m);
	if (e != ERR_NONE) {
		mem_free(ix->mem, m);
		return e == ERR_LIMIT ? ERR_NO_MEMORY : e;
	}
	ix->coming++;
	*m_out = m;
	return ERR_NONE;
}

void index_admit(struct index *ix, struct message *m, const struct spool_live *live)
{
	ASSERT(m->flags & MESSAGE_COMING && m->rcpts_n == live->recipients_n);
	m->flags = 0;
	m->arrived_ms = live->arrived_ms;
	m->expires_ms = live->expires_ms;
	m->priority = live->priority;
	set_ref(m, &live->ref);
	for (size_t i = 0; i < m->rcpts_n; i++) {
		m->rcpts[i] = (struct rcpt){ .next_ms = live->not_before_ms,
					     .state = live->hold ? RCPT_STATE_HELD : RCPT_STATE_QUEUED };
		count_rcpt(ix, &m->rcpts[i], 1);
	}
	list_push_back(&ix->all, &m->link);
	ix->messages++;
	ix->coming--;
}

void index_cancel(struct index *ix, struct message *m)
{
	ix->coming--;
	(void)table64_del(&ix->by_id, m->id);
	mem_free(ix->mem, m);
}

void index_end(struct index *ix, struct message *m)
{
	if (m->flags & MESSAGE_ENDING)
		return;
	m->flags |= MESSAGE_ENDING;
	heap_del(&ix->due, &m->due);
	list_remove(&m->wait);
	ix->messages--;
	ix->ending++;
}

static void index_remove(struct index *ix, struct message *m)
{
	(void)table64_del(&ix->by_id, m->id);
	heap_del(&ix->due, &m->due);
	list_remove(&m->wait);
	for (uint16_t i = 0; i < m->rcpts_n; i++) {
		count_rcpt(ix, &m->rcpts[i], -1);
		index_forget_dest(ix, m, i);
		reason_drop(&ix->reasons, m->rcpts[i].reason);
	}
	list_remove(&m->link);
	if (m->flags & MESSAGE_ENDING)
		ix->ending--;
	else
		ix->messages--;
	if (m->flags & MESSAGE_END_FAILED)
		ix->ends_failed--;
	mem_free(ix->mem, m);
}

/* ---- for the spool ------------------------------------------------------------------------------------------ */

static enum err on_message(void *arg, const struct spool_live *live, const struct spool_state *st, size_t n)
{
	struct index *ix = arg;
	struct message *m = index_get(ix, live->id);
	if (m)
		index_remove(ix, m);
	TRY(index_reserve(ix, live->id, live->recipients_n, &m));
	index_admit(ix, m, live);
	m->flags |= MESSAGE_REPEATED; /* whatever was under way when we stopped */
	for (size_t i = 0; i < n; i++)
		if (st[i].number < m->rcpts_n)
			index_set(ix, m, &st[i]);
	return ERR_NONE;
}

static enum err on_state(void *arg, uint64_t id, const struct spool_state *st)
{
	struct index *ix = arg;
	struct message *m = index_get(ix, id);
	if (m && st->number < m->rcpts_n)
		index_set(ix, m, st);
	return ERR_NONE;
}

static void on_gone(void *arg, uint64_t id)
{
	struct index *ix = arg;
	struct message *m = index_get(ix, id);
	if (m)
		index_remove(ix, m);
}

static bool is_known(void *arg, uint64_t id)
{
	const struct index *ix = arg;
	return table64_get(&ix->by_id, id) != NULL; /* one that is coming, too */
}

static bool walk(void *arg, bool first, struct spool_live *out)
{
	struct index *ix = arg;
	if (first) {
		list_remove(&ix->cursor);
		list_push_front(&ix->all, &ix->cursor);
	}
	struct list *next = ix->cursor.next;
	list_remove(&ix->cursor);
	if (next == &ix->all)
		return false;
	list_push_front(next, &ix->cursor); /* right behind it */
	*out = live_of(CONTAINER_OF(next, struct message, link));
	return true;
}

static bool oldest(void *arg, uint64_t segment, struct spool_live *out, enum err *busy_out)
{
	struct index *ix = arg;
	*busy_out = ERR_NONE;
	LIST_EACH(&ix->all, it) {
		struct message *m = CONTAINER_OF(it, struct message, link);
		if (it == &ix->cursor)
			continue;
		if (m->segment != segment)
			break;
		if (m->flags & MESSAGE_ENDING) {
			*busy_out = ERR_BUSY;
			continue;
		}
		*busy_out = ERR_NONE;
		*out = live_of(m);
		return true;
	}
	return *busy_out == ERR_BUSY;
}

static bool states_of(void *arg, uint64_t id, bool ending, struct spool_state *st, size_t *n_out)
{
	struct index *ix = arg;
	const struct message *m = index_get(ix, id);
	*n_out = 0;
	if (!m || (!ending && m->flags & MESSAGE_ENDING)) /* S8 */
		return false;
	for (uint16_t i = 0; i < m->rcpts_n && i < SPOOL_STATES_MAX; i++)
		if (index_state(ix, m, i, &st[*n_out]))
			(*n_out)++;
	return true;
}

static bool moved(void *arg, uint64_t id, const struct spool_ref *to, struct spool_ref *old_out)
{
	struct index *ix = arg;
	struct message *m = index_get(ix, id);
	if (!m)
		return false;
	*old_out = message_ref(m);
	set_ref(m, to);
	list_remove(&m->link);
	list_push_back(&ix->all, &m->link);
	return true;
}

static bool gone_saved(void *arg, uint64_t id, enum err e, struct spool_ref *ref_out)
{
	struct index *ix = arg;
	struct message *m = index_get(ix, id);
	if (!m)
		return false;
	if (e != ERR_NONE) {
		if (!(m->flags & MESSAGE_END_FAILED))
			ix->ends_failed++;
		m->flags |= MESSAGE_END_FAILED;
		return false;
	}
	*ref_out = message_ref(m);
	index_remove(ix, m);
	if (ix->on_gone)
		ix->on_gone(ix->arg, id);
	return true;
}

struct spool_index index_for_spool(struct index *ix)
{
	return (struct spool_index){
		.arg = ix, .message = on_message, .state = on_state, .gone = on_gone, .known = is_known, .next = walk,
		.oldest = oldest, .states_of = states_of, .moved = moved, .gone_saved = gone_saved,
	};
}
