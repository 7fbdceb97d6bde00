/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking messages over (P1). Runs in queue, for smtpd and control: the envelope was checked there and is
 * bounds-checked here by the call's decoder; bodies are a stranger's bytes and only carried.
 *
 * Bounds (P7): parts that wait for their queue_submit, by peer and in all; beyond them ERR_BUSY, which a
 * client hears as 4xx. A peer's death drops its parts and files.
 */
#include "queue/queue_internal.h"

#include "base/clockfmt.h"
#include "base/events.h"
#include "conf/conf.h"
#include "queue/route.h"

#define UPLOAD_BYTES_PEER ((size_t)64 << 20)
#define UPLOAD_BYTES_ALL ((size_t)128 << 20)
#define UPLOADS_MAX 4096u

/* ---- parts and files ---------------------------------------------------------------------------------- */

static struct upload *upload_find(struct queue *q, const struct ipc *from, uint64_t id)
{
	LIST_EACH(&q->uploads, it) {
		struct upload *u = CONTAINER_OF(it, struct upload, link);
		if (u->id == id && u->role == ipc_peer_role(from) && u->index == ipc_peer_index(from))
			return u;
	}
	return NULL;
}

static void upload_free(struct queue *q, struct upload *u)
{
	if (!u)
		return;
	list_remove(&u->link);
	q->upload_bytes -= u->body.n;
	buf_free(&u->body);
	mem_free(q->p->mem, u);
}

static size_t peer_bytes(const struct queue *q, const struct ipc *from, size_t *count_out)
{
	size_t bytes = 0;
	*count_out = 0;
	LIST_EACH(&q->uploads, it) {
		const struct upload *u = CONTAINER_OF(it, struct upload, link);
		(*count_out)++;
		if (u->role == ipc_peer_role(from) && u->index == ipc_peer_index(from))
			bytes += u->body.n;
	}
	return bytes;
}

static struct upload *upload_new(struct queue *q, const struct ipc *from, uint64_t id)
{
	struct upload *u = mem_alloc(q->p->mem, sizeof *u);
	if (!u)
		return NULL;
	u->id = id;
	u->role = ipc_peer_role(from);
	u->index = ipc_peer_index(from);
	u->body = buf_grow(q->p->mem, SPOOL_BODY_IN_LOG_MAX + IPC_BODY_PART);
	list_push_back(&q->uploads, &u->link);
	return u;
}

enum err queue_on_part(void *self, struct ipc *from, const struct queue_part_in *in, struct arena *arena UNUSED,
		       struct queue_part_out *out UNUSED)
{
	struct queue *q = self;
	struct upload *u = upload_find(q, from, in->id);
	size_t count, bytes = peer_bytes(q, from, &count);
	if (q->stopping)
		return ERR_CLOSED;
	if (bytes + in->bytes.n > UPLOAD_BYTES_PEER || q->upload_bytes + in->bytes.n > UPLOAD_BYTES_ALL ||
	    (!u && count >= UPLOADS_MAX))
		return ERR_BUSY;
	if (!u)
		u = upload_new(q, from, in->id);
	if (!u)
		return ERR_NO_MEMORY;
	if (u->in_file || in->offset != u->body.n)
		return ERR_SYNTAX;
	buf_add(&u->body, in->bytes);
	TRY(buf_err(&u->body));
	q->upload_bytes += in->bytes.n;
	return ERR_NONE;
}

enum err queue_on_file(void *self, struct ipc *from, const struct queue_file_in *in, struct arena *arena UNUSED,
		       struct queue_file_out *out)
{
	struct queue *q = self;
	if (q->full)
		return ERR_NO_SPACE;
	if (upload_find(q, from, in->id))
		return ERR_EXISTS;
	struct upload *u = upload_new(q, from, in->id);
	if (!u)
		return ERR_NO_MEMORY;
	u->in_file = true;
	enum err e = spool_body_file(q->sp, in->id, &out->file);
	if (e != ERR_NONE) {
		upload_free(q, upload_find(q, from, in->id));
		return e;
	}
	if (upload_find(q, from, in->id))
		return ERR_NONE;
	spool_body_abort(q->sp, in->id); /* the peer died meanwhile */
	return ERR_CLOSED;
}

void queue_on_abort(void *self, struct ipc *from, const struct queue_abort_in *in)
{
	struct queue *q = self;
	struct upload *u = q->stopping ? NULL : upload_find(q, from, in->id);
	if (u && u->in_file)
		spool_body_abort(q->sp, in->id);
	upload_free(q, u);
}

void queue_drop_uploads(struct queue *q, uint8_t role, uint16_t index)
{
	LIST_EACH(&q->uploads, it) {
		struct upload *u = CONTAINER_OF(it, struct upload, link);
		if (u->role != role || u->index != index)
			continue;
		if (u->in_file)
			spool_body_abort(q->sp, u->id);
		upload_free(q, u);
	}
}

/* ---- the message ------------------------------------------------------------------------------------------ */

/* The keeper looks once a second; a flood would use up the reserve sooner (P7: what is queued needs it to go on). */
static void count_space(struct queue *q, uint64_t bytes)
{
	q->taken_bytes += bytes + 1024;
	if (q->taken_bytes > q->p->conf.limits.queue_bytes / 4)
		queue_look_at_space(q);
}

static enum err check(struct queue *q, const struct queue_submit_in *in, const struct upload *u)
{
	uint64_t have = in->body.n + (u ? u->body.n : 0);
	count_space(q, in->body_bytes);
	if (q->full)
		return ERR_NO_SPACE;
	if (in->envelope.recipients_n == 0 || in->envelope.id == 0 || in->in_file != (u && u->in_file) ||
	    (in->in_file ? have != 0 : have != in->body_bytes))
		return ERR_SYNTAX;
	return ERR_NONE;
}

static bool fits_one(const struct conf_word *patterns, size_t n, struct str domain)
{
	for (size_t i = 0; i < n; i++)
		if (conf_pattern_fits(patterns[i].text, domain))
			return true;
	return false;
}

/* The rule of the configuration that holds this message, or empty. */
static struct str hold_rule(const struct conf *c, const struct envelope *env)
{
	struct str from = env->reverse_path.n ? address_domain(env->reverse_path) : STR("<>");
	if (fits_one(c->hold_from, c->hold_from_n, from))
		return STR("held by hold_from");
	for (size_t i = 0; c->hold_to_n > 0 && i < env->recipients_n; i++)
		if (fits_one(c->hold_to, c->hold_to_n, address_domain(env->recipients[i].target.address)))
			return STR("held by hold_to");
	return STR("");
}

/* Submitted with hold: recipients wait for the operator from the start. */
static size_t first_states(struct queue *q, struct message *m, const struct envelope *env, struct spool_state *st)
{
	size_t n = 0;
	int64_t now_ms = world_wall_ms(q->p->w);
	struct str rule = hold_rule(&q->p->conf, env);
	for (size_t i = 0; i < env->recipients_n; i++) {
		st[n] = (struct spool_state){ .number = (uint16_t)i, .state = RCPT_STATE_HELD, .at_ms = now_ms,
					      .enhanced = STR(""), .text = rule.n ? rule : STR("submitted with hold"),
					      .address = env->recipients[i].target.address, .by = STR("queue") };
		index_set(&q->ix, m, &st[n]);
		log_message_held(&q->p->log, message_ids(m->id), st[n].address, st[n].enhanced, st[n].text);
		n++;
	}
	return n;
}

/* It is ours (P1). What may fail from here on only delays its delivery. */
static YIELDS void begin(struct queue *q, struct message *m, const struct queue_submit_in *in, const struct str *body,
			 size_t body_n, struct arena *arena)
{
	const struct envelope *env = &in->envelope;
	uint64_t id = m->id;
	if (env->hold) {
		struct spool_state *st = ARENA_ARRAY(arena, struct spool_state, env->recipients_n);
		size_t n = st ? first_states(q, m, env, st) : 0;
		m->flags |= MESSAGE_BUSY;
		for (size_t i = 0; i < n; i++)
			queue_history_attempt(q, id, &st[i], VERDICT_DEFER);
		if (n > 0)
			queue_store_states(q, m, st, n);
		m = index_get(&q->ix, id);
		if (!m)
			return;
		m->flags &= (uint8_t)~MESSAGE_BUSY;
	}
	if (!q->p->conf.hold_all && env->not_before_ms <= world_wall_ms(q->p->w) && !env->hold &&
	    queue_may_keep(q, (size_t)(in->in_file ? 0 : in->body_bytes)))
		deliver_fresh(q, m, in, body, body_n);
	else
		queue_schedule(q, m);
}

static struct spool_live live_of(const struct envelope *env, const struct spool_ref *ref)
{
	return (struct spool_live){
		.id = env->id,
		.ref = *ref,
		.arrived_ms = env->arrived_ms,
		.not_before_ms = env->not_before_ms,
		.expires_ms = env->expires_ms,
		.recipients_n = (uint16_t)env->recipients_n,
		.priority = env->priority,
		.hold = env->hold,
	};
}

static YIELDS enum err take(struct queue *q, const struct queue_submit_in *in, struct upload *u, struct arena *arena)
{
	const struct envelope *env = &in->envelope;
	struct str body[2] = { u ? buf_str(&u->body) : STR_NONE, in->body };
	struct spool_ref ref;
	struct message *m;
	TRY(index_reserve(&q->ix, env->id, (uint16_t)env->recipients_n, &m));
	enum err e = spool_put(q->sp, env, in->prefix, body, 2, in->body_bytes, in->in_file, &ref);
	if (e != ERR_NONE) {
		index_cancel(&q->ix, m);
		return e;
	}
	struct spool_live live = live_of(env, &ref);
	index_admit(&q->ix, m, &live);
	uint64_t bytes = message_bytes(m);
	counter_add(q->m.accepted, 1);
	counter_add(q->m.accepted_bytes, bytes);
	log_message_accepted(&q->p->log, message_ids(env->id), env->reverse_path, env->recipients_n, bytes);
	queue_history_message(q, env, bytes, ref.segment);
	begin(q, m, in, body, 2, arena);
	return ERR_NONE;
}

enum err queue_take_own(struct queue *q, const struct queue_submit_in *in, struct arena *arena)
{
	if (q->stopping)
		return ERR_CLOSED;
	return take(q, in, NULL, arena);
}

#define OWN_WORKER 126u /* of message ids: neither an smtpd's nor control's */

uint64_t queue_new_id(struct queue *q)
{
	return msg_id_make(world_wall_ms(q->p->w), OWN_WORKER, q->ids++);
}

enum err queue_on_submit(void *self, struct ipc *from, const struct queue_submit_in *in, struct arena *arena,
			 struct queue_submit_out *out UNUSED)
{
	struct queue *q = self;
	struct upload *u = upload_find(q, from, in->envelope.id);
	enum err e = check(q, in, u);
	bool ours = e == ERR_NONE && u;
	if (ours) { /* from here on a second call with this id has nothing, and the peer's death does not concern it */
		list_remove(&u->link);
		list_init(&u->link);
	}
	struct queue_submit_in held = *in;
	if (e == ERR_NONE) {
		held.envelope.hold |= hold_rule(&q->p->conf, &in->envelope).n > 0;
		e = take(q, &held, u, arena);
	}
	if (e != ERR_NONE) {
		counter_add(q->m.refused, 1);
		if (in->in_file && u && u->in_file)
			spool_body_abort(q->sp, in->envelope.id);
		if (e == ERR_NO_SPACE)
			queue_look_at_space(q);
	}
	if (ours || e != ERR_NONE)
		upload_free(q, u);
	return e;
}
