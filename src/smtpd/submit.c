/* SPDX-License-Identifier: Apache-2.0 */
/* Handing a message over to queue, and waiting until it is stored (P1): see session.h. */
#include "base/clockfmt.h"
#include "base/events.h"
#include "message/received.h"
#include "smtpd/session.h"
#include "tls/tls.h"

#define PREFIX_BYTES_MAX 4096u
#define SUBMIT_MS	 240000u /* clients wait ten minutes (RFC 5321 §4.5.3.2.6) */

enum reply_id submit_failure(enum err e)
{
	switch (e) {
	case ERR_NO_SPACE:
		return REPLY_NO_SPACE;
	case ERR_LIMIT:
	case ERR_BUSY:
	case ERR_NO_MEMORY:
		return REPLY_QUEUE_BUSY;
	case ERR_CLOSED:
	case ERR_TIMEOUT:
		return REPLY_QUEUE_UNREACHABLE;
	default:
		return REPLY_STORAGE_FAILED;
	}
}

/* The client's, or the one that it is given. */
static struct str message_id_of(struct session *s)
{
	char room[MSG_ID_CHARS + 1];
	struct buf b = buf_fixed(room, sizeof room);
	if (!s->tx->add_message_id)
		return header_message_id(s->tx->head);
	msg_id_add(&b, s->tx->id);
	return arena_strf(&s->tx_arena, "<%.*s@%.*s>", STR_ARG(buf_str(&b)), STR_ARG(s->d->conf->hostname));
}

static struct str trace_fields(struct session *s, int64_t wall_ms)
{
	const struct transaction *t = s->tx;
	struct buf b = buf_fixed(arena_alloc(&s->tx_arena, PREFIX_BYTES_MAX), PREFIX_BYTES_MAX);
	struct received r = {
		.helo = s->account.n && s->listener->hide_client ? STR("") : s->helo,
		.client = s->client,
		.hostname = s->d->conf->hostname,
		.protocol = received_protocol(s->esmtp, t->params.smtputf8, s->encrypted, s->account.n > 0),
		.tls_version = tls_info(&s->stream).version,
		.tls_cipher = tls_info(&s->stream).cipher,
		.id = t->id,
		.wall_ms = wall_ms,
	};
	if (t->accepted == 1 && str_find(t->first_rcpt, '@') < t->first_rcpt.n)
		r.only_recipient = t->first_rcpt;
	received_add(&b, &r);
	if (t->add_date) {
		buf_add(&b, STR("Date: "));
		date_add_rfc5322(&b, wall_ms);
		buf_add(&b, STR("\r\n"));
	}
	if (t->add_message_id) {
		buf_add(&b, STR("Message-ID: "));
		buf_add(&b, message_id_of(s));
		buf_add(&b, STR("\r\n"));
	}
	return buf_err(&b) == ERR_NONE ? buf_str(&b) : STR_NONE;
}

static struct envelope envelope_of(struct session *s, int64_t wall_ms)
{
	const struct transaction *t = s->tx;
	enum body_kind body = t->params.body;
	if (body == BODY_KIND_SEVEN_BIT && t->reader.has_8bit)
		body = BODY_KIND_EIGHT_BIT_MIME; /* the client did not say so; relays must know
						    (H55) */
	return (struct envelope){
		.id = t->id,
		.arrived_ms = wall_ms,
		.reverse_path = t->reverse_path,
		.client = s->client,
		.helo = s->helo,
		.protocol = received_protocol(s->esmtp, t->params.smtputf8, s->encrypted, s->account.n > 0),
		.account = s->account,
		.body = body,
		.smtputf8 = t->params.smtputf8,
		.ret = t->params.ret,
		.envid = t->params.envid,
		.priority = 4,
		.not_before_ms = t->params.not_before_ms,
		/* its time begins when it is released */
		.expires_ms = t->params.not_before_ms ? t->params.not_before_ms + (int64_t)s->d->conf->times.expire : 0,
		.message_id = message_id_of(s),
		.recipients = t->recipients,
		.recipients_n = t->recipients_n,
	};
}

/* All but the last part of a body in memory. */
static YIELDS
enum err send_parts(struct session *s, struct str *rest)
{
	uint64_t offset = 0;
	while (rest->n > IPC_BODY_PART) {
		struct queue_part_in in = { s->tx->id, (uint32_t)offset,
					    str_sub(*rest, 0, IPC_BODY_PART) };
		s->tx->told_queue = true;
		TRY(s->d->backend->submit_part(s->d->backend_arg, &in, &s->command));
		offset += IPC_BODY_PART;
		*rest = str_sub(*rest, IPC_BODY_PART, rest->n);
	}
	return ERR_NONE;
}

static YIELDS
enum err hand_over(struct session *s, int64_t wall_ms)
{
	struct transaction *t = s->tx;
	TRY(body_finish(s, &t->body));
	struct queue_submit_in in = {
		.envelope = envelope_of(s, wall_ms),
		.prefix = trace_fields(s, wall_ms),
		.body = buf_str(&t->body.memory),
		.body_bytes = t->body.bytes,
		.in_file = t->body.fd >= 0,
	};
	if (!in.prefix.p)
		return ERR_NO_MEMORY;
	if (!in.in_file)
		TRY(send_parts(s, &in.body));
	return s->d->backend->submit_message(s->d->backend_arg, &in, &s->command);
}

static void log_accepted(struct session *s)
{
	const struct transaction *t = s->tx;
	struct smtpd *d = s->d;
	int64_t took_ms = (world_mono_ns(d->w) - t->began_ns) / 1000000;
	counter_add(d->count.messages, 1);
	counter_add(d->count.recipients, t->accepted);
	counter_add(d->count.bytes, t->body.bytes);
	log_smtpd_accepted(d->log, (struct log_ids){ s->id, t->id }, &s->client, s->helo,
			   t->reverse_path, t->accepted, t->first_rcpt, t->body.bytes,
			   (uint64_t)took_ms);
}

void submit(struct session *s, struct reply *reply_out)
{
	char room[MSG_ID_CHARS + 16];
	struct buf id = buf_fixed(room, sizeof room);
	session_deadline(s, SUBMIT_MS);
	enum err e = hand_over(s, world_wall_ms(s->d->w));
	if (e != ERR_NONE) {
		*reply_out = reply_of(submit_failure(e));
		return;
	}
	s->tx->told_queue = false; /* it is queue's now */
	s->messages++;
	s->junk = 0;
	log_accepted(s);
	buf_add(&id, STR("Queued as "));
	msg_id_add(&id, s->tx->id);
	*reply_out = reply_of(REPLY_OK);
	reply_out->text = arena_str(&s->command, buf_str(&id));
	if (!reply_out->text.p)
		reply_out->text = STR("Queued");
}
