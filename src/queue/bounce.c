/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling senders what became of their mail (RFC 3461 to 3464): the reports are composed by dsn/ and enter
 * the queue by the same door as all mail, before the failure that they report is written down. A crash in
 * between sends a report twice, and never none (P2).
 *
 * A report that fails itself goes to the postmaster, once; what fails on the way there is discarded, and
 * the history says so (H90). Only what passed RCPT is ever reported: never backscatter (H89).
 */
#include "queue/delivery.h"

#include "base/clockfmt.h"
#include "base/events.h"
#include "smtp/address.h"

#define REPORT_ARENA_MAX ((size_t)8 << 20)
#define REPORT_RCPTS_MAX 100u	       /* of one report */
#define REPORT_BYTES_MAX ((size_t)1000 << 10)
#define ORIGINAL_FULL_MAX 65536u       /* larger ones are returned without their body */
#define ORIGINAL_START_BYTES ((size_t)128 << 10) /* read of one that lies in a file */
#define LOOKUP_MS 60000

/* One report that is being made. */
struct report {
	struct group *g;
	struct arena arena;
	struct envelope env;	  /* of the report */
	struct str to;
	struct dsn_rcpt rcpts[REPORT_RCPTS_MAX];
	size_t n;
	struct str original;	  /* its start */
};

static struct str postmaster(struct queue *q, struct arena *a)
{
	const struct conf *c = &q->p->conf;
	if (c->postmaster.n)
		return c->postmaster;
	return arena_strf(a, "postmaster@%.*s", STR_ARG(c->domains_n ? c->domains[0].name : c->hostname));
}

/* ---- to whom ------------------------------------------------------------------------------------------ */

/* The final destinations of an address; ERR_NOT_FOUND: there is no such address. */
static YIELDS enum err resolve(struct report *r, struct str address)
{
	struct queue *q = r->g->d->q;
	struct ipc *lookup = proc_peer(q->p, ROLE_LOOKUP, 0);
	struct lookup_rcpt_in in = { .client = { .family = IP_UNIX } };
	struct lookup_rcpt_out out = { 0 };
	if (smtp_address_canonical(address, &r->arena, &in.address) != ERR_NONE)
		return ERR_NOT_FOUND;
	if (!lookup)
		return ERR_BUSY;
	int64_t before = co_set_deadline(world_mono_ns(q->p->w) + LOOKUP_MS * 1000000LL);
	enum err e = call_lookup_rcpt(lookup, &in, &r->arena, &out);
	co_set_deadline(before);
	TRY(e);
	if (out.verdict != VERDICT_ACCEPT || out.targets_n == 0)
		return out.verdict == VERDICT_DEFER ? ERR_BUSY : ERR_NOT_FOUND;
	r->env.recipients = ARENA_ARRAY(&r->arena, struct envelope_rcpt, out.targets_n);
	for (size_t i = 0; r->env.recipients && i < out.targets_n; i++)
		r->env.recipients[r->env.recipients_n++] =
			(struct envelope_rcpt){ .target = out.targets[i], .forward_path = in.address, .notify = DSN_NOTIFY_NEVER };
	r->to = in.address;
	return arena_err(&r->arena);
}

/* The sender; when that is nobody, or cannot be, the postmaster. */
static YIELDS enum err address_report(struct report *r)
{
	struct queue *q = r->g->d->q;
	struct str sender = r->g->d->env.reverse_path;
	enum err e = sender.n ? resolve(r, sender) : ERR_NOT_FOUND;
	return e == ERR_NOT_FOUND ? resolve(r, postmaster(q, &r->arena)) : e;
}

/* ---- what --------------------------------------------------------------------------------------------------- */

struct start_job {
	int fd;
	char *to;
	size_t n;
	enum err err;
};

static void read_start(struct world *w, void *arg)
{
	struct start_job *j = arg;
	j->err = world_pread(w, j->fd, j->to, ORIGINAL_START_BYTES, 0, &j->n);
}

static YIELDS enum err find_original(struct report *r)
{
	struct delivery *d = r->g->d;
	r->original = d->body;
	if (!d->in_file)
		return ERR_NONE;
	struct start_job j = { .to = arena_alloc(&r->arena, ORIGINAL_START_BYTES) };
	if (!j.to)
		return ERR_NO_MEMORY;
	TRY(spool_body_open(d->q->sp, d->id, &j.fd));
	enum err e = co_offload(read_start, &j);
	world_close(d->q->p->w, j.fd);
	TRY(e);
	r->original = str_of(j.to, j.n);
	return j.err;
}

static struct dsn_rcpt rcpt_of(const struct group *g, size_t i)
{
	const struct spool_state *st = &g->states[i];
	const struct news *n = &g->news[i];
	return (struct dsn_rcpt){
		.rcpt = &g->d->env.recipients[st->number], .action = n->action, .status = n->found.enhanced,
		.code = n->found.code, .text = n->found.text, .remote = n->found.code ? n->found.by : STR(""),
		.last_attempt_ms = st->at_ms,
		.will_retry_until_ms = n->action == DSN_DELAYED ? queue_expiry_ms(g->d->q, delivery_message(g->d)) : 0,
	};
}

static YIELDS enum err send_report(struct report *r, struct buf *body)
{
	struct delivery *d = r->g->d;
	struct queue *q = d->q;
	struct dsn dsn = {
		.envelope = &d->env, .rcpts = r->rcpts, .rcpts_n = r->n, .hostname = q->p->conf.hostname,
		.to = r->to, .contact = postmaster(q, &r->arena), .id = r->env.id, .now_ms = r->env.arrived_ms,
		.prefix = d->prefix, .message = r->original, .message_bytes = d->body_bytes, .full_max = ORIGINAL_FULL_MAX,
	};
	struct dsn_info info;
	world_random(q->p->w, dsn.random, sizeof dsn.random);
	TRY(dsn_compose(&dsn, q->p->mem, body, &info));
	r->env.body = info.body;
	r->env.smtputf8 = info.smtputf8;
	struct queue_submit_in in = { .envelope = r->env, .prefix = STR(""), .body = buf_str(body), .body_bytes = body->n };
	TRY(queue_take_own(q, &in, &r->arena));
	counter_add(q->m.reports, 1);
	char place[MSG_ID_CHARS + 1];
	struct buf id = buf_fixed(place, sizeof place);
	msg_id_add(&id, r->env.id);
	log_report_sent(&q->p->log, message_ids(d->id), buf_str(&id), r->to);
	return ERR_NONE;
}

static YIELDS enum err make_report(struct report *r)
{
	struct queue *q = r->g->d->q;
	struct buf body = buf_grow(q->p->mem, REPORT_BYTES_MAX);
	r->env = (struct envelope){ .id = queue_new_id(q), .arrived_ms = world_wall_ms(q->p->w), .reverse_path = STR(""),
				    .client = { .family = IP_UNIX }, .helo = STR(""), .protocol = STR("local"), .account = STR(""),
				    .envid = STR(""), .message_id = STR(""), .priority = 4 };
	enum err e = address_report(r);
	if (e == ERR_NONE)
		e = find_original(r);
	if (e == ERR_NONE)
		e = send_report(r, &body);
	buf_free(&body);
	return e;
}

/* ---- whether -------------------------------------------------------------------------------------------------- */

/* A failed report is told to the postmaster, unless it was on its way there. */
static void consider_double_bounce(struct group *g, size_t i, struct str keeper)
{
	struct news *n = &g->news[i];
	if (n->failed && g->d->env.reverse_path.n == 0)
		n->tell = !str_eq_nocase(g->states[i].address, keeper) &&
			  !str_eq_nocase(g->d->env.recipients[g->states[i].number].forward_path, keeper);
}

static YIELDS enum err tell_all(struct group *g, struct report *r)
{
	enum err e = ERR_NONE;
	for (size_t i = 0; i < g->states_n && e == ERR_NONE; i++) {
		if (g->news[i].tell)
			r->rcpts[r->n++] = rcpt_of(g, i);
		if (r->n == REPORT_RCPTS_MAX || (r->n > 0 && i + 1 == g->states_n)) {
			e = make_report(r);
			arena_close(&r->arena);
			r->n = 0;
		}
	}
	return e;
}

enum err bounce_tell(struct group *g)
{
	struct queue *q = g->d->q;
	ARENA_SCOPED struct arena arena = arena_make(q->p->mem, 4096);
	struct str keeper = postmaster(q, &arena);
	size_t tell = 0;
	for (size_t i = 0; i < g->states_n; i++) {
		consider_double_bounce(g, i, keeper);
		tell += g->news[i].tell;
	}
	if (tell == 0)
		return ERR_NONE;
	struct report *r = mem_alloc(q->p->mem, sizeof *r);
	if (!r)
		return ERR_NO_MEMORY;
	r->g = g;
	r->arena = arena_make(q->p->mem, REPORT_ARENA_MAX);
	enum err e = tell_all(g, r);
	arena_close(&r->arena);
	mem_free(q->p->mem, r);
	if (e != ERR_NONE)
		log_report_failed(&q->p->log, message_ids(g->d->id), e, STR("a delivery status notification"));
	return e;
}
