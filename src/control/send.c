/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `godwit send`: a message from this machine enters the queue by the same calls as one from SMTP. Its
 * recipients are asked of lookup like a stranger's. Missing Date and Message-ID fields are added (RFC 6409 §8).
 */
#include "base/clockfmt.h"
#include "base/events.h"
#include "control/control.h"
#include "smtp/address.h"

#define SENDING_MAX ((size_t)64 << 20)
#define RECIPIENTS_MAX 1000u /* of a message: calls.def */
#define SEND_WORKER 127u /* of message ids: not that of an smtpd */

struct sending {
	uint64_t id;
	struct ipc *from;
	struct buf bytes;
	bool busy;
};

static void sending_free(struct control *c, size_t slot)
{
	buf_free(&c->sendings[slot]->bytes);
	mem_free(c->p->mem, c->sendings[slot]);
	c->sendings[slot] = NULL;
}

void control_send_abort(struct control *c, struct ipc *from)
{
	for (size_t i = 0; i < CONTROL_SENDING_MAX; i++)
		if (c->sendings[i] && c->sendings[i]->from == from && !c->sendings[i]->busy)
			sending_free(c, i);
}

static void refuse(struct send_message_out *out, unsigned code, struct str text)
{
	out->code = (uint16_t)code;
	out->text = text;
}

static bool has_field(struct str message, struct str name)
{
	while (message.n > 0) {
		struct str line = str_split(message, '\n', &message);
		if (line.n == 0 || str_eq(line, STR("\r")))
			return false;
		if (str_starts_nocase(line, name) && line.n > name.n && line.p[name.n] == ':')
			return true;
	}
	return false;
}

static struct str make_prefix(struct control *c, struct arena *a, const struct sending *s)
{
	struct buf b = buf_fixed(arena_alloc(a, 2048), 2048);
	int64_t now_ms = world_wall_ms(c->p->w);
	buf_add(&b, STR("Received: by "));
	buf_add(&b, c->p->conf.hostname);
	buf_add(&b, STR(" (godwit, from a local user) id "));
	msg_id_add(&b, s->id);
	buf_add(&b, STR(";\r\n\t"));
	date_add_rfc5322(&b, now_ms);
	buf_add(&b, STR("\r\n"));
	if (!has_field(buf_str(&s->bytes), STR("Date"))) {
		buf_add(&b, STR("Date: "));
		date_add_rfc5322(&b, now_ms);
		buf_add(&b, STR("\r\n"));
	}
	if (!has_field(buf_str(&s->bytes), STR("Message-ID"))) {
		buf_add(&b, STR("Message-ID: <"));
		msg_id_add(&b, s->id);
		buf_addf(&b, "@%.*s>\r\n", STR_ARG(c->p->conf.hostname));
	}
	return buf_str(&b);
}

/* One recipient: its targets are added to the envelope, or `out` says why not. */
static YIELDS enum err add_recipient(struct control *c, struct str address, struct arena *a, struct envelope *e,
				     struct send_message_out *out)
{
	struct ipc *lookup = proc_peer(c->p, ROLE_LOOKUP, 0);
	struct lookup_rcpt_in in = { .client = { .family = IP_UNIX } };
	struct lookup_rcpt_out answer = { 0 };
	if (smtp_address_canonical(address, a, &in.address) != ERR_NONE) {
		refuse(out, 501, arena_strf(a, "5.1.3 not an address: %.*s", (int)(address.n < 200 ? address.n : 200), address.p));
		return arena_err(a);
	}
	enum err err = lookup ? call_lookup_rcpt(lookup, &in, a, &answer) : ERR_CLOSED;
	if (err != ERR_NONE || answer.verdict != VERDICT_ACCEPT) {
		if (err != ERR_NONE)
			refuse(out, 451, STR("4.3.0 recipients cannot be looked up for the moment"));
		else
			refuse(out, answer.code, arena_strf(a, "%.*s %.*s: %.*s", STR_ARG(answer.enhanced), STR_ARG(answer.text), STR_ARG(in.address)));
		return arena_err(a);
	}
	if (e->recipients_n + answer.targets_n > RECIPIENTS_MAX) {
		refuse(out, 452, STR("4.5.3 too many recipients: at most 1000, with the members of aliases"));
		return ERR_NONE;
	}
	for (size_t i = 0; i < answer.targets_n; i++)
		e->recipients[e->recipients_n++] = (struct envelope_rcpt){ .target = answer.targets[i], .forward_path = in.address };
	return ERR_NONE;
}

static YIELDS enum err write_body_file(struct control *c, struct ipc *queue, const struct sending *s, struct arena *a)
{
	struct queue_file_out file;
	TRY(call_queue_file(queue, &(struct queue_file_in){ s->id }, a, &file));
	struct str part = buf_str(&s->bytes);
	enum err e = world_pwritev(c->p->w, file.file, &part, 1, 0);
	world_close(c->p->w, file.file);
	return e;
}

static YIELDS enum err submit(struct control *c, const struct sending *s, struct envelope *e, struct arena *a)
{
	struct ipc *queue = proc_peer(c->p, ROLE_QUEUE, 0);
	struct str body = buf_str(&s->bytes);
	struct queue_submit_in in = { .envelope = *e, .prefix = make_prefix(c, a, s), .body_bytes = body.n };
	struct queue_submit_out out;
	if (!queue)
		return ERR_CLOSED;
	if (body.n > (size_t)1 << 20) {
		in.in_file = true;
		TRY(write_body_file(c, queue, s, a));
		return call_queue_submit(queue, &in, a, &out);
	}
	size_t at = 0;
	for (; body.n - at > IPC_BODY_PART; at += IPC_BODY_PART) {
		struct queue_part_in part = { s->id, at, str_sub(body, at, at + IPC_BODY_PART) };
		struct queue_part_out nothing;
		TRY(call_queue_part(queue, &part, a, &nothing));
	}
	in.body = str_sub(body, at, body.n);
	return call_queue_submit(queue, &in, a, &out);
}

static YIELDS enum err finish(struct control *c, const struct sending *s, const struct send_message_in *in, struct arena *a,
			      struct send_message_out *out)
{
	struct envelope e = { .id = s->id, .arrived_ms = world_wall_ms(c->p->w), .client = { .family = IP_UNIX },
			      .protocol = STR("local"), .priority = 4 };
	e.body = str_has_8bit(buf_str(&s->bytes)) ? BODY_KIND_EIGHT_BIT_MIME : BODY_KIND_SEVEN_BIT;
	e.recipients = ARENA_ARRAY(a, struct envelope_rcpt, RECIPIENTS_MAX);
	TRY(arena_err(a));
	if (in->reverse_path.n > 0 && smtp_address_canonical(in->reverse_path, a, &e.reverse_path) != ERR_NONE) {
		refuse(out, 501, STR("5.1.7 the sender is not an address"));
		return arena_err(a);
	}
	for (size_t i = 0; i < in->recipients_n && out->code == 0; i++)
		TRY(add_recipient(c, in->recipients[i].address, a, &e, out));
	if (out->code != 0)
		return ERR_NONE;
	enum err err = e.recipients_n ? submit(c, s, &e, a) : ERR_SYNTAX;
	if (err == ERR_NONE)
		refuse(out, 250, STR("2.0.0 queued"));
	else if (err == ERR_NO_SPACE)
		refuse(out, 452, STR("4.3.1 the queue's disk is full"));
	else
		refuse(out, 451, arena_strf(a, "4.3.0 the queue did not take it: %s", err_name(err)));
	return arena_err(a);
}

static size_t sending_new(struct control *c, struct ipc *from)
{
	size_t i = 0;
	while (i < CONTROL_SENDING_MAX && c->sendings[i])
		i++;
	if (i < CONTROL_SENDING_MAX)
		c->sendings[i] = mem_alloc(c->p->mem, sizeof *c->sendings[i]);
	if (i == CONTROL_SENDING_MAX || !c->sendings[i])
		return CONTROL_SENDING_MAX;
	*c->sendings[i] = (struct sending){ .from = from, .bytes = buf_grow(c->p->mem, SENDING_MAX) };
	c->sendings[i]->id = msg_id_make(world_wall_ms(c->p->w), SEND_WORKER, c->send_counter++);
	return i;
}

enum err control_send(void *self, struct ipc *from, const struct send_message_in *in, struct arena *arena,
		      struct send_message_out *out)
{
	struct control *c = self;
	size_t slot = 0;
	if (in->id == 0)
		slot = sending_new(c, from);
	else
		while (slot < CONTROL_SENDING_MAX && (!c->sendings[slot] || c->sendings[slot]->id != in->id || c->sendings[slot]->busy))
			slot++;
	if (slot == CONTROL_SENDING_MAX)
		return ERR_BUSY;
	struct sending *s = c->sendings[slot];
	out->id = s->id;
	buf_add(&s->bytes, in->bytes);
	if (buf_err(&s->bytes) != ERR_NONE || s->bytes.n > c->p->conf.limits.message_bytes) {
		refuse(out, 552, STR("5.3.4 the message is too large"));
		sending_free(c, slot);
		return ERR_NONE;
	}
	if (!in->last)
		return ERR_NONE;
	s->busy = true;
	enum err e = finish(c, s, in, arena, out);
	sending_free(c, slot);
	return e;
}
