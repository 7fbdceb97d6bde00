/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to the DNS. Runs in the process resolver, which talks to name servers that strangers run and
 * holds nothing. Its questions come from relay, smtpd, lookup and control, with names that strangers wrote.
 *
 * Invariants:
 *  R1  Equal questions that are under way at a time are one question to the back end.
 *  R2  Each question ends, with an answer, within QUESTION_NS.
 *  R3  "No such name" and "bogus" come from the back end; what goes wrong here is `failed`.
 */
#include "resolver/resolver.h"

#include "base/events.h"
#include "resolver/answers.h"
#include "resolver/backend.h"

#define CALL_ARENA_MAX ((size_t)512 << 10)
#define ASK_ARENA_MAX ((size_t)1 << 20)
#define QUESTIONS_MAX 1000u
#define QUESTION_NS (30 * 1000000000LL)
#define FAILED_TTL 5u /* so long a failure is not asked for again */
#define KEY_MAX 256u
#define NO_IDS ((struct log_ids){ 0 })

/* Name and type, once for all who ask. Freed by the last who holds it. */
struct question {
	struct resolver_process *r;
	struct str key;	  /* type, then the name in lower case; behind the struct */
	enum dns_type type;
	unsigned holders; /* its coroutine, and those who wait */
	struct co_queue waiters;
	struct ipc_writer answer; /* encoded: each who waits decodes a copy of its own */
	bool done;
};

struct resolver_process {
	struct proc *p;
	const struct backend_ops *ops;
	struct backend *backend;
	struct table questions;
	struct answers answers;
	bool closing;
	struct counter *asked, *joined, *remembered, *refused, *by_status[5];
	struct histogram *took;
	struct gauge *under_way;
};

/* ---- questions that are under way ------------------------------------------------------------------- */

static void release(struct question *q)
{
	if (--q->holders > 0)
		return;
	buf_free(&q->answer.b);
	mem_free(q->r->p->mem, q);
}

static void note_answer(struct resolver_process *r, const struct question *q, const struct dns_lookup_out *out,
			int64_t took_ns)
{
	struct str name = str_sub(q->key, 1, q->key.n), type = str_z(dns_type_name(q->type));
	counter_add(r->by_status[out->status], 1);
	histogram_add(r->took, (uint64_t)(took_ns / 1000000));
	if (out->status == DNS_STATUS_BOGUS)
		log_dns_bogus(&r->p->log, NO_IDS, name, type, out->why);
	else if (out->status == DNS_STATUS_FAILED)
		log_dns_failed(&r->p->log, NO_IDS, name, type, out->why, (uint64_t)(took_ns / 1000000));
}

static struct str trouble(enum err e)
{
	return e == ERR_TIMEOUT ? STR("no name server answered in time") :
	       e == ERR_CANCELLED ? STR("the resolver is stopping") : STR("the resolver has no memory for the answer");
}

static void remember(struct resolver_process *r, struct question *q, const struct dns_lookup_out *out)
{
	bool good = out->status != DNS_STATUS_FAILED && out->status != DNS_STATUS_BOGUS;
	if (!r->ops->caches)
		answers_put(&r->answers, q->key, buf_str(&q->answer.b), good ? out->ttl : FAILED_TTL,
			    world_mono_ns(r->p->w));
}

/* coroutine */
static void ask(void *arg)
{
	struct question *q = arg;
	struct resolver_process *r = q->r;
	struct arena ARENA_SCOPED arena = arena_make(r->p->mem, ASK_ARENA_MAX);
	struct dns_lookup_out out = { 0 };
	int64_t began_ns = world_mono_ns(r->p->w);
	(void)co_set_deadline(began_ns + QUESTION_NS); /* R2 */
	enum err e = r->ops->ask(r->backend, str_sub(q->key, 1, q->key.n), q->type, &arena, &out);
	if (e != ERR_NONE)
		dns_fail(&out, trouble(e), 0);
	note_answer(r, q, &out, world_mono_ns(r->p->w) - began_ns);
	dns_lookup_out_put(&q->answer, &out);
	if (buf_err(&q->answer.b) == ERR_NONE)
		remember(r, q, &out);
	(void)table_del(&r->questions, q->key);
	gauge_add(r->under_way, -1);
	q->done = true;
	co_wake_all(&q->waiters);
	release(q);
}

/* ERR_LIMIT: too many at a time. */
static enum err question_new(struct resolver_process *r, struct str key, enum dns_type type, struct question **q_out)
{
	struct question *q = mem_alloc(r->p->mem, sizeof *q + key.n);
	if (!q)
		return ERR_NO_MEMORY;
	char *p = (char *)(q + 1);
	memcpy(p, key.p, key.n);
	*q = (struct question){ .r = r, .key = str_of(p, key.n), .type = type, .holders = 1 };
	q->answer.b = buf_grow(r->p->mem, IPC_FRAME_MAX);
	co_queue_init(&q->waiters);
	enum err e = table_put(&r->questions, q->key, q);
	if (e == ERR_NONE) {
		e = scope_spawn(&r->p->work, "question", CO_STACK_SMALL, ask, q);
		if (e != ERR_NONE)
			(void)table_del(&r->questions, q->key);
	}
	if (e != ERR_NONE) {
		mem_free(r->p->mem, q);
		return e;
	}
	gauge_add(r->under_way, 1);
	*q_out = q;
	return ERR_NONE;
}

static enum err decode(struct str bytes, struct arena *arena, struct dns_lookup_out *out)
{
	struct ipc_reader reader = { .arena = arena };
	reader.c = cursor_of(arena_str(arena, bytes)); /* strings point into it */
	TRY(arena_err(arena));
	return dns_lookup_out_get(&reader, out);
}

static YIELDS enum err wait_for(struct question *q, struct arena *arena, struct dns_lookup_out *out)
{
	enum err e = ERR_NONE;
	q->holders++;
	while (!q->done && e == ERR_NONE)
		e = co_wait(&q->waiters);
	if (e == ERR_NONE)
		e = buf_err(&q->answer.b);
	if (e == ERR_NONE)
		e = decode(buf_str(&q->answer.b), arena, out);
	release(q);
	return e;
}

static struct str key_of(struct buf *b, const struct dns_lookup_in *in)
{
	buf_add_char(b, (char)('a' + in->type));
	for (size_t i = 0; i < in->name.n; i++)
		buf_add_char(b, ascii_lower(in->name.p[i]));
	return buf_str(b);
}

static YIELDS enum err on_lookup(void *self, struct ipc *from UNUSED, const struct dns_lookup_in *in,
				 struct arena *arena, struct dns_lookup_out *out)
{
	struct resolver_process *r = self;
	char room[KEY_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	struct str bytes;
	uint32_t ttl;
	if (r->closing)
		return ERR_CLOSED;
	counter_add(r->asked, 1);
	if (!dns_name_is_valid(in->name) || dns_type_number(in->type) == 0) {
		counter_add(r->refused, 1);
		dns_fail(out, STR("this is no domain name that can be asked for"), 0);
		return ERR_NONE;
	}
	struct str key = key_of(&b, in);
	if (!r->ops->caches && answers_get(&r->answers, key, world_mono_ns(r->p->w), &bytes, &ttl)) {
		counter_add(r->remembered, 1);
		TRY(decode(bytes, arena, out));
		out->ttl = ttl;
		return ERR_NONE;
	}
	struct question *q = table_get(&r->questions, key);
	if (q)
		counter_add(r->joined, 1); /* R1 */
	enum err e = q ? ERR_NONE : question_new(r, key, in->type, &q);
	if (e != ERR_NONE) {
		counter_add(r->refused, 1);
		dns_fail(out, STR("too many questions at a time"), 0);
		return ERR_NONE;
	}
	return wait_for(q, arena, out);
}

/* ---- the process ---------------------------------------------------------------------------------------- */

static void register_metrics(struct resolver_process *r)
{
	static const struct histogram_shape times = { 9, 1000, { 1, 5, 20, 50, 100, 250, 1000, 5000, 30000 } };
	struct metrics *m = r->p->metrics;
	const char *answers_help = "Answers of the DNS by what they said.";
	r->asked = metrics_counter(m, "godwit_resolver_questions_total", STR_NONE, "Questions that were asked.");
	r->joined = metrics_counter(m, "godwit_resolver_joined_total", STR_NONE, "… while an equal one was under way.");
	r->remembered = metrics_counter(m, "godwit_resolver_remembered_total", STR_NONE,
					"… that were answered from memory (libunbound's own is not counted).");
	r->refused = metrics_counter(m, "godwit_resolver_refused_total", STR_NONE,
				     "… that were not asked: no name, or too many at a time.");
	for (unsigned i = 0; i < 5; i++) {
		char text[64];
		struct buf b = buf_fixed(text, sizeof text);
		metrics_label(&b, "status", str_z(dns_status_name(i)));
		r->by_status[i] = metrics_counter(m, "godwit_resolver_answers_total", buf_str(&b), answers_help);
	}
	r->took = metrics_histogram(m, "godwit_resolver_answer_seconds", STR_NONE, "Time until the answer.", &times);
	r->under_way = metrics_gauge(m, "godwit_resolver_under_way", STR_NONE, "Questions that wait for an answer.");
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out)
{
	struct resolver_process *r = self;
	struct sip_key key;
	r->p = p;
	world_random(p->w, &key, sizeof key);
	r->questions = table_make(p->mem, key, QUESTIONS_MAX);
	answers_init(&r->answers, p->mem, key);
	register_metrics(r);
	jail_out->uid = jail_out->gid = p->conf.users.uid_resolver; /* it owns nothing: also chroot, by the jail */
	r->ops = p->conf.resolver.servers_n ? &backend_stub : &backend_recursive;
	struct backend_config cfg = { .w = p->w, .loop = p->loop, .scope = &p->work, .mem = p->mem,
				      .arena = &p->arena, .log = &p->log, .conf = &p->conf.resolver };
	return r->ops->open(&cfg, jail_out, &r->backend);
}

static YIELDS void stop(struct proc *p, void *self)
{
	struct resolver_process *r = self;
	r->closing = true;
	scope_cancel(&p->work);
	scope_wait(&p->work); /* questions end, and nobody holds the back end any more */
	r->ops->close(r->backend);
	answers_free(&r->answers);
	table_free(&r->questions);
}

static const struct ipc_handlers handlers = { .dns_lookup = on_lookup };

const struct proc_ops resolver_ops = {
	.role = ROLE_RESOLVER,
	.state_bytes = sizeof(struct resolver_process),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.start = start,
	.stop = stop,
};
