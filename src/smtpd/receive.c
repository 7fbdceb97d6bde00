/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a message: after 354 up to CRLF.CRLF (RFC 5321 §4.1.1.4), or a chunk of BDAT (RFC 3030
 * §2). Whatever is wrong with it is remembered, the rest is read up to its true end and dropped,
 * and one reply is given there: no byte of it is ever taken for a command (P6).
 */
#include "message/fixup.h"
#include "smtpd/session.h"

/* Beyond its limit so much of a message is still read, to give the right reply; then we hang up. */
#define DROPPED_BYTES_MAX ((uint64_t)64 << 20)
#define LOOKUP_MS	  60000u

static void refuse(struct session *s, enum reply_id why)
{
	struct transaction *t = s->tx;
	if (t->refusal != REPLY_NONE)
		return;
	t->refusal = why;
	body_free(s, &t->body);
}

/* What can be seen in the bytes so far. */
static void judge(struct session *s)
{
	struct transaction *t = s->tx;
	const struct data_reader *r = &t->reader;
	if (r->bare || (t->head->bare && r->framing == DATA_BINARY))
		refuse(s, REPLY_BARE_LINE_END); /* H2, H3, H43 */
	if (r->nul)
		refuse(s, REPLY_NUL_IN_TEXT); /* H5 */
	if (r->long_line)
		refuse(s, REPLY_LINE_OF_TEXT_TOO_LONG); /* H7 */
	if (t->received > s->d->conf->limits.message_bytes)
		refuse(s, REPLY_TOO_BIG); /* RFC 1870 §6.3, by the real count (H32) */
	if (t->head->too_big)
		refuse(s, REPLY_HEADER_TOO_BIG); /* H40 */
	if (t->head->received > s->d->conf->limits.received_lines)
		refuse(s, REPLY_LOOP); /* RFC 5321 §6.3 */
}

/* What has logged in submits, and gets its message mended (RFC 6409 §8). head_n: bytes of the header section. */
static void mend(struct session *s, size_t head_n)
{
	struct transaction *t = s->tx;
	struct buf *m = &t->body.memory;
	if (s->account.n == 0 || t->mended || t->refusal != REPLY_NONE)
		return;
	t->mended = true;
	if (t->body.fd >= 0 || head_n > m->n) { /* it is in a file already */
		refuse(s, REPLY_HEADER_TOO_BIG);
		return;
	}
	struct fixup f = fixup_look(str_of(m->p, head_n));
	size_t less = head_n - fixup_drop_bcc(m->p, head_n);
	if (less > 0)
		memmove(m->p + head_n - less, m->p + head_n, m->n - head_n);
	m->n -= less;
	t->body.bytes -= less;
	s->d->body_bytes -= less;
	t->add_date = !f.has_date;
	t->add_message_id = !f.has_message_id;
}

static YIELDS
enum err take(struct session *s, struct str piece)
{
	struct transaction *t = s->tx;
	t->received += piece.n;
	if (t->refusal == REPLY_NONE && !t->head->ended)
		header_scan_feed(t->head, piece);
	judge(s);
	if (t->refusal == REPLY_NONE && piece.n > 0) {
		enum err e = body_add(s, &t->body, piece);
		if (e == ERR_CANCELLED)
			return e;
		if (e != ERR_NONE)
			refuse(s, submit_failure(e));
	}
	if (t->head->ended)
		mend(s, (size_t)t->head->bytes);
	return t->received > s->d->conf->limits.message_bytes + DROPPED_BYTES_MAX ? ERR_LIMIT
										  : ERR_NONE;
}

/* At most `max` bytes of what has arrived. */
static YIELDS
enum err take_input(struct session *s, uint64_t max, uint64_t *taken_out)
{
	struct str in = stream_input(&s->stream);
	*taken_out = 0;
	in = str_sub(in, 0, max < in.n ? (size_t)max : in.n);
	while (in.n > 0 && !s->tx->reader.ended) {
		size_t used;
		struct str piece = data_next(&s->tx->reader, in, &used);
		TRY(take(s, piece));
		stream_consume(&s->stream, used);
		*taken_out += used;
		in = str_sub(in, used, in.n);
	}
	return ERR_NONE;
}

/* Waits for more bytes; replies to what came before leave first. */
static YIELDS
enum err more_input(struct session *s)
{
	if (s->stream.out_n > 0)
		TRY(session_flush(s));
	session_deadline(s, s->d->conf->times.data_block); /* RFC 5321 §4.5.3.2.5 */
	if (s->tx && s->tx->data_end_ns > 0) {
		int64_t at = co_set_deadline(NEVER);
		(void)co_set_deadline(at < s->tx->data_end_ns ? at : s->tx->data_end_ns);
	}
	return stream_fill(&s->stream);
}

static void prepare(struct session *s, enum data_framing framing)
{
	struct transaction *t = s->tx;
	t->reader = data_reader_make(framing);
	t->data_end_ns = world_mono_ns(s->d->w) + (int64_t)s->d->conf->times.data_total * 1000000;
}

/* RFC 5321 §6.3 in its other form: what we delivered into a mailbox has come back to it (H46). */
static bool was_delivered_here(const struct transaction *t)
{
	for (size_t i = 0; i < t->recipients_n; i++)
		if (t->recipients[i].target.kind == TARGET_KIND_MAILBOX &&
		    header_was_delivered_to(t->head, t->recipients[i].target.address))
			return true;
	return false;
}

/* H68: what an account may send. */
static YIELDS
enum err charge(struct session *s, struct reply *reply_out)
{
	struct auth_charge_in in = { s->id, s->account, s->tx->accepted };
	struct auth_charge_out out = { 0 };
	if (s->account.n == 0)
		return ERR_NONE;
	session_deadline(s, LOOKUP_MS);
	enum err e = s->d->backend->ask_charge(s->d->backend_arg, &in, &s->command, &out);
	if (e == ERR_CANCELLED)
		return e;
	if (e == ERR_NONE && out.allowed)
		return ERR_NONE;
	*reply_out = reply_of(e == ERR_NONE ? REPLY_ACCOUNT_LIMIT : REPLY_LOOKUP_UNREACHABLE);
	if (e == ERR_NONE && out.text.n)
		reply_out->text = out.text;
	return ERR_NONE;
}

/* The message is complete. */
static YIELDS
enum err conclude(struct session *s, struct reply *reply_out)
{
	struct transaction *t = s->tx;
	data_finish(&t->reader);
	judge(s);
	mend(s, t->head->ended ? (size_t)t->head->bytes : t->body.memory.n);
	if (t->refusal == REPLY_NONE && was_delivered_here(t))
		refuse(s, REPLY_DELIVERED_BEFORE);
	if (t->refusal == REPLY_NONE)
		TRY(charge(s, reply_out));
	if (t->refusal == REPLY_NONE && reply_out->code == 0)
		submit(s, reply_out);
	else if (t->refusal != REPLY_NONE)
		*reply_out = reply_of(t->refusal);
	if (reply_is_refusal(reply_out))
		session_refused(s, reply_out, t->first_rcpt, STR(""));
	transaction_end(s);
	return ERR_NONE;
}

enum err receive_data(struct session *s, struct reply *reply_out)
{
	uint64_t taken;
	prepare(s, DATA_DOTS);
	for (;;) {
		TRY(take_input(s, UINT64_MAX, &taken));
		if (s->tx->reader.ended)
			return conclude(s, reply_out);
		TRY(more_input(s));
	}
}

/* The chunk's bytes, whatever becomes of them (H11). */
static YIELDS
enum err read_chunk(struct session *s)
{
	while (s->chunk_left > 0) {
		struct str in = stream_input(&s->stream);
		uint64_t taken = s->chunk_left < in.n ? s->chunk_left : in.n;
		if (s->chunk_refusal == REPLY_NONE)
			TRY(take_input(s, taken, &taken));
		else
			stream_consume(&s->stream, (size_t)taken);
		s->chunk_left -= taken;
		if (s->chunk_left > 0)
			TRY(more_input(s));
	}
	return ERR_NONE;
}

enum err receive_chunk(struct session *s, struct reply *reply_out)
{
	struct transaction *t = s->tx;
	if (s->chunk_refusal == REPLY_NONE && !t->bdat) {
		bool binary = t->params.body == BODY_KIND_BINARY_MIME;
		t->bdat = true;
		prepare(s, binary ? DATA_BINARY : DATA_PLAIN);
	}
	uint64_t bytes = s->chunk_left;
	TRY(read_chunk(s));
	if (s->chunk_refusal != REPLY_NONE) {
		*reply_out = reply_of(s->chunk_refusal);
		if (s->chunk_refusal == REPLY_BDAT_FAILED && s->chunk_last)
			transaction_end(s);
		return ERR_NONE;
	}
	if (s->chunk_last)
		return conclude(s, reply_out);
	if (t->refusal != REPLY_NONE) { /* RFC 3030 §2: then the transaction is failed until RSET */
		*reply_out = reply_of(t->refusal);
		session_refused(s, reply_out, t->first_rcpt, STR(""));
		return ERR_NONE;
	}
	*reply_out = reply_of(REPLY_OK);
	reply_out->text =
		arena_strf(&s->command, "%llu octets received", (unsigned long long)bytes);
	return ERR_NONE;
}
