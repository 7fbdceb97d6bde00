/* SPDX-License-Identifier: Apache-2.0 */
/* Recipients with a mailbox here: to the process local, in as few calls as packets allow. Runs in queue. */
#include "queue/delivery.h"

/* All of the body but what fits into the call itself. */
static YIELDS enum err send_parts(struct delivery *d, struct ipc *ch, struct local_deliver_in *in, size_t used)
{
	size_t room = CALL_BYTES > used + 512 ? CALL_BYTES - used - 512 : 512;
	uint64_t offset = 0;
	struct str rest = d->body;
	if (room > IPC_BODY_PART)
		room = IPC_BODY_PART;
	while (rest.n > room) {
		size_t n = rest.n < IPC_BODY_PART ? rest.n : IPC_BODY_PART;
		struct local_part_in part = { .id = d->id, .offset = offset, .bytes = str_sub(rest, 0, n) };
		struct local_part_out nothing;
		ARENA_SCOPED struct arena arena = arena_make(d->q->p->mem, 4096);
		TRY(call_local_part(ch, &part, &arena, &nothing));
		rest = str_sub(rest, n, rest.n);
		offset += n;
	}
	in->body = rest;
	return ERR_NONE;
}

/* *fd_out stays open until the call is answered: by then it has been sent. */
static YIELDS enum err send_file(struct delivery *d, struct ipc *ch, int *fd_out)
{
	struct local_file_in file = { .id = d->id };
	TRY(spool_body_open(d->q->sp, d->id, &file.file));
	*fd_out = file.file;
	return note_local_file(ch, &file);
}

/* One call for these recipients; outcomes live in d->arena. */
static YIELDS enum err call_local(struct delivery *d, struct local_rcpt *rcpts, size_t n, size_t bytes, bool repeated,
				  struct local_deliver_out *out)
{
	struct ipc *ch = proc_peer(d->q->p, ROLE_LOCAL, 0);
	struct local_deliver_in in = {
		.id = d->id, .arrived_ms = d->env.arrived_ms, .reverse_path = d->env.reverse_path, .recipients = rcpts,
		.recipients_n = n, .prefix = d->prefix, .body_bytes = d->body_bytes, .in_file = d->in_file,
		.binary = d->env.body == BODY_KIND_BINARY_MIME, .repeated = repeated,
	};
	int fd = -1;
	if (!ch)
		return ERR_CLOSED;
	enum err e = d->in_file ? send_file(d, ch, &fd) :
				  send_parts(d, ch, &in, bytes + d->prefix.n + d->env.reverse_path.n);
	ch = proc_peer(d->q->p, ROLE_LOCAL, 0);
	if (e == ERR_NONE)
		e = ch ? call_local_deliver(ch, &in, &d->arena, out) : ERR_CLOSED;
	world_close(d->q->p->w, fd);
	return e;
}

static const struct outcome *outcome_for(const struct local_deliver_out *out, uint16_t number)
{
	for (size_t i = 0; i < out->outcomes_n; i++)
		if (out->outcomes[i].number == number)
			return &out->outcomes[i];
	return NULL;
}

static void settle(struct group *g, uint16_t number, const struct outcome *o)
{
	struct found f = { .by = STR("local"), .enhanced = o ? o->enhanced : STR("4.3.0"),
			   .text = o ? o->text : STR("no outcome was reported") };
	if (o && o->verdict == VERDICT_ACCEPT)
		settle_delivered(g, number, RCPT_STATE_DELIVERED, &f);
	else if (o && o->verdict == VERDICT_REFUSE)
		settle_failed(g, number, &f);
	else
		settle_deferred(g, number, &f);
}

static YIELDS void deliver_some(struct group *g, const uint16_t *numbers, struct local_rcpt *rcpts, size_t n, size_t bytes)
{
	struct local_deliver_out out = { 0 };
	bool repeated = delivery_message(g->d)->flags & MESSAGE_REPEATED;
	enum err e = call_local(g->d, rcpts, n, bytes, repeated, &out);
	if (e != ERR_NONE) {
		settle_unknown(g, numbers, n, "local", e);
		return;
	}
	for (size_t i = 0; i < n; i++)
		settle(g, numbers[i], outcome_for(&out, numbers[i]));
}

void deliver_to_mailboxes(struct group *g)
{
	struct delivery *d = g->d;
	struct local_rcpt *rcpts = ARENA_ARRAY(&d->arena, struct local_rcpt, g->n);
	size_t first = 0, bytes = 0;
	if (!rcpts) {
		settle_unknown(g, g->numbers, g->n, "queue", ERR_NO_MEMORY);
		return;
	}
	for (size_t i = 0; i < g->n; i++) {
		const struct target *t = &d->env.recipients[g->numbers[i]].target;
		size_t more = t->mailbox.n + t->address.n + 16;
		if (i > first && bytes + more > GROUP_BYTES) {
			deliver_some(g, g->numbers + first, rcpts + first, i - first, bytes);
			first = i;
			bytes = 0;
		}
		rcpts[i] = (struct local_rcpt){ .number = g->numbers[i], .mailbox = t->mailbox, .address = t->address };
		bytes += more;
	}
	deliver_some(g, g->numbers + first, rcpts + first, g->n - first, bytes);
}
