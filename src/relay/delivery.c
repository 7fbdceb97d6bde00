/* SPDX-License-Identifier: Apache-2.0 */
/* One message on its way to its next host: see delivery.h. Runs in relay. */
#include "relay/delivery.h"

#define ANSWER_BYTES 60000u	/* below IPC_FRAME_MAX, with room for mx_set and the head */
#define OUTCOME_HEAD_BYTES 48u	/* all of an outcome but text and by */
#define TEXT_MAX 400u
#define BY_MAX 300u

enum err delivery_init(struct delivery *d, struct relay_env *env, const struct relay_deliver_in *in, struct str early_parts,
		       int fd, struct arena *arena)
{
	*d = (struct delivery){ .env = env, .in = in, .arena = arena, .fd = in->in_file ? fd : -1, .n = in->recipients_n };
	d->bytes = in->prefix.n + in->body_bytes;
	d->parts[0] = in->prefix;
	d->reach = RELAY_REACH_UNREACHABLE;
	if (!in->in_file) {
		d->parts[1] = early_parts;
		d->parts[2] = in->body;
	}
	bool whole = in->in_file ? fd >= 0 : early_parts.n + in->body.n == in->body_bytes;
	if (!whole)
		return ERR_SYNTAX;
	d->rcpts = ARENA_ARRAY(arena, struct delivery_rcpt, d->n ? d->n : 1);
	d->group = ARENA_ARRAY(arena, size_t, d->n ? d->n : 1);
	TRY(arena_err(arena));
	for (size_t i = 0; i < d->n; i++)
		d->rcpts[i].in = &in->recipients[i];
	d->open = d->n;
	d->trouble = finding_make("4.4.1", STR("no host could be reached"));
	return ERR_NONE;
}

struct finding finding_make(const char *enhanced, struct str text)
{
	return (struct finding){ .verdict = enhanced[0] == '4' ? VERDICT_DEFER : VERDICT_REFUSE, .enhanced = str_z(enhanced),
				 .text = text };
}

void delivery_decide(struct delivery *d, size_t i, struct finding f, struct str by, bool dsn)
{
	struct delivery_rcpt *r = &d->rcpts[i];
	if (r->state == DELIVERY_DONE)
		return;
	r->state = DELIVERY_DONE;
	r->found = f;
	r->by = by;
	r->dsn = dsn;
	d->open--;
}

void delivery_decide_open(struct delivery *d, struct finding f, struct str by)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->rcpts[i].state == DELIVERY_OPEN)
			delivery_decide(d, i, f, by, false);
}

void delivery_reopen(struct delivery *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->rcpts[i].state != DELIVERY_DONE)
			d->rcpts[i].state = DELIVERY_OPEN;
}

void delivery_trouble(struct delivery *d, struct finding f, struct str by)
{
	if (d->in_trouble && d->trouble.verdict == VERDICT_DEFER && f.verdict != VERDICT_DEFER)
		return;
	d->in_trouble = true;
	d->trouble = f;
	d->trouble_by = by;
}

bool delivery_needs_utf8(const struct delivery *d)
{
	if (d->in->smtputf8 || str_has_8bit(d->in->reverse_path))
		return true;
	for (size_t i = 0; i < d->n; i++)
		if (d->rcpts[i].state == DELIVERY_SENT && str_has_8bit(d->rcpts[i].in->address))
			return true;
	return false;
}

/* ---- the bytes --------------------------------------------------------------------------------------- */

struct read_job {
	int fd;
	char *to;
	size_t n, got;
	uint64_t offset;
	enum err err;
};

static void read_file(struct world *w, void *arg)
{
	struct read_job *j = arg;
	j->err = world_pread(w, j->fd, j->to, j->n, j->offset, &j->got);
}

enum err delivery_read(struct delivery *d, char *to, size_t n, uint64_t offset)
{
	struct read_job j = { .fd = d->fd, .to = to, .n = n, .offset = offset };
	TRY(co_offload(read_file, &j));
	TRY(j.err);
	return j.got == n ? ERR_NONE : ERR_SYNTAX;
}

static YIELDS enum err file_has_8bit(struct delivery *d, bool *yes_out)
{
	char *buffer = mem_alloc_raw(d->env->mem, DELIVERY_READ_BYTES);
	enum err e = buffer ? ERR_NONE : ERR_NO_MEMORY;
	uint64_t left = d->in->body_bytes, at = 0;
	while (e == ERR_NONE && left > 0 && !*yes_out) {
		size_t n = left < DELIVERY_READ_BYTES ? (size_t)left : DELIVERY_READ_BYTES;
		e = delivery_read(d, buffer, n, at);
		if (e == ERR_NONE)
			*yes_out = str_has_8bit(str_of(buffer, n));
		at += n;
		left -= n;
	}
	mem_free(d->env->mem, buffer);
	return e;
}

enum err delivery_has_8bit(struct delivery *d, bool *yes_out)
{
	*yes_out = d->eight_bit == 2;
	if (d->eight_bit != 0)
		return ERR_NONE;
	for (size_t i = 0; i < sizeof d->parts / sizeof d->parts[0]; i++)
		*yes_out = *yes_out || str_has_8bit(d->parts[i]);
	if (!*yes_out && d->fd >= 0)
		TRY(file_has_8bit(d, yes_out));
	d->eight_bit = *yes_out ? 2 : 1;
	return ERR_NONE;
}

/* ---- the answer --------------------------------------------------------------------------------------- */

/* s without a half character at its end. */
static struct str cut(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max > 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return str_sub(s, 0, max);
}

static void count(struct delivery *d, enum verdict v)
{
	counter_add(v == VERDICT_ACCEPT ? d->env->count.delivered :
		    v == VERDICT_DEFER	? d->env->count.deferred :
					  d->env->count.refused, 1);
}

enum err delivery_answer(struct delivery *d, struct str mx_set, struct relay_deliver_out *out)
{
	size_t n = d->n ? d->n : 1, share = ANSWER_BYTES / n;
	share = share > OUTCOME_HEAD_BYTES ? share - OUTCOME_HEAD_BYTES : 0;
	size_t by_max = share / 3 < BY_MAX ? share / 3 : BY_MAX;
	delivery_reopen(d);
	delivery_decide_open(d, d->trouble, d->trouble_by);
	out->outcomes = ARENA_ARRAY(d->arena, struct relay_outcome, n);
	if (!out->outcomes)
		return arena_err(d->arena);
	for (size_t i = 0; i < d->n; i++) {
		const struct delivery_rcpt *r = &d->rcpts[i];
		struct str by = cut(r->by, by_max);
		size_t text_max = share - by.n < TEXT_MAX ? share - by.n : TEXT_MAX;
		out->outcomes[out->outcomes_n++] = (struct relay_outcome){
			.number = r->in->number, .verdict = r->found.verdict, .code = r->found.code,
			.enhanced = cut(r->found.enhanced, 16), .text = cut(r->found.text, text_max), .by = by,
			.dsn = r->dsn, .uncertain = r->found.uncertain,
		};
		count(d, r->found.verdict);
	}
	out->reach = d->reach;
	out->mx_set = mx_set;
	return ERR_NONE;
}
