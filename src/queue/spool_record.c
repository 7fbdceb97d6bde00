/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding of what a segment holds: see spool_record.h. Input: the disk's bytes, which may be damaged. */
#include "queue/spool_record.h"

#include "base/hash.h"

#define SEGMENT_MAGIC	0x3147455354495747u /* "GWITSEG1" */
#define RECORD_MAGIC	0x31525747u	    /* "GWR1" */
#define HEADER_BYTES	64u
#define HEADER_CRC_AT	60u
#define FLAG_IN_FILE	1u
#define META_CRC_AT	32u
#define HEAD_CRC_AT	36u

/* ---- little-endian words in place ----------------------------------------------------------------- */

static void set_u32(char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char)(v >> 8 * i & 0xff);
}

static void set_u64(char *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (char)(v >> 8 * i & 0xff);
}

static uint32_t get_u32(const char *p)
{
	const unsigned char *b = (const unsigned char *)p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t get_u64(const char *p)
{
	return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

/* ---- segment header --------------------------------------------------------------------------------- */

void segment_header_put(char *to, const struct segment_header *h)
{
	memset(to, 0, SEGMENT_START);
	set_u64(to, SEGMENT_MAGIC);
	set_u32(to + 8, h->version);
	set_u32(to + 12, h->flags);
	set_u64(to + 16, h->seq);
	set_u64(to + 24, h->salt);
	set_u64(to + 32, h->prev_seq);
	set_u64(to + 40, h->prev_end);
	set_u32(to + HEADER_CRC_AT, crc32c(0, to, HEADER_CRC_AT));
	memcpy(to + SEGMENT_START - HEADER_BYTES, to, HEADER_BYTES);
}

static enum err header_get(const char *p, struct segment_header *h_out)
{
	if (get_u64(p) != SEGMENT_MAGIC || get_u32(p + HEADER_CRC_AT) != crc32c(0, p, HEADER_CRC_AT))
		return ERR_CORRUPT;
	*h_out = (struct segment_header){
		.version = get_u32(p + 8),
		.flags = get_u32(p + 12),
		.seq = get_u64(p + 16),
		.salt = get_u64(p + 24),
		.prev_seq = get_u64(p + 32),
		.prev_end = get_u64(p + 40),
	};
	return h_out->version >= 1 && h_out->version <= SEGMENT_VERSION ? ERR_NONE : ERR_DENIED;
}

enum err segment_header_get(struct str block, struct segment_header *h_out)
{
	enum err e = block.n >= HEADER_BYTES ? header_get(block.p, h_out) : ERR_CORRUPT;
	if (e == ERR_CORRUPT && block.n >= SEGMENT_START)
		e = header_get(block.p + SEGMENT_START - HEADER_BYTES, h_out);
	return e;
}

/* ---- small values --------------------------------------------------------------------------------------- */

static void put_text(struct buf *b, struct str s)
{
	uint16_t n = s.n > UINT16_MAX ? UINT16_MAX : (uint16_t)s.n;
	put_u16(b, n);
	buf_add(b, str_of(s.p, n));
}

static struct str get_text(struct cursor *c, size_t max)
{
	size_t n = cursor_u16(c);
	if (n > max)
		cursor_fail(c, ERR_LIMIT);
	return cursor_bytes(c, n);
}

static uint8_t get_enum(struct cursor *c, unsigned count)
{
	uint8_t v = cursor_u8(c);
	if (v >= count)
		cursor_fail(c, ERR_SYNTAX);
	return v;
}

/* In the byte of the state; a route stands last. Without one the bytes are those of versions 1 and 2. */
#define STATE_TOLD 0x80u
#define STATE_ROUTED 0x40u
#define ROUTE_MAX 64u

void state_put(struct buf *b, const struct spool_state *st)
{
	put_u16(b, st->number);
	put_u8(b, (uint8_t)((unsigned)st->state | (st->told ? STATE_TOLD : 0) | (st->route.n ? STATE_ROUTED : 0)));
	put_u32(b, st->attempts);
	put_u64(b, (uint64_t)st->next_ms);
	put_u64(b, (uint64_t)st->at_ms);
	put_text(b, str_sub(st->enhanced, 0, 16));
	put_text(b, str_sub(st->text, 0, SPOOL_TEXT_MAX));
	put_text(b, str_sub(st->address, 0, 320));
	put_text(b, str_sub(st->by, 0, SPOOL_BY_MAX));
	if (st->route.n)
		put_text(b, str_sub(st->route, 0, ROUTE_MAX));
}

void state_get(struct cursor *c, struct spool_state *st)
{
	st->number = cursor_u16(c);
	uint8_t state = cursor_u8(c);
	st->told = (state & STATE_TOLD) != 0;
	bool routed = (state & STATE_ROUTED) != 0;
	state &= (uint8_t)~(STATE_TOLD | STATE_ROUTED);
	if (state > RCPT_STATE_HELD)
		cursor_fail(c, ERR_SYNTAX);
	st->state = state > RCPT_STATE_HELD ? RCPT_STATE_HELD : (enum rcpt_state)state;
	st->attempts = cursor_u32(c);
	st->next_ms = (int64_t)cursor_u64(c);
	st->at_ms = (int64_t)cursor_u64(c);
	st->enhanced = get_text(c, 16);
	st->text = get_text(c, SPOOL_TEXT_MAX);
	st->address = get_text(c, 320);
	st->by = get_text(c, SPOOL_BY_MAX);
	st->route = routed ? get_text(c, ROUTE_MAX) : str_of("", 0);
}

static void states_put(struct buf *b, const struct spool_state *st, size_t n)
{
	put_u16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++)
		state_put(b, &st[i]);
}

static size_t states_get(struct cursor *c, struct spool_state *st)
{
	size_t n = cursor_u16(c);
	if (n > SPOOL_STATES_MAX) {
		cursor_fail(c, ERR_LIMIT);
		return 0;
	}
	struct spool_state passed_over;
	for (size_t i = 0; i < n && c->err == ERR_NONE; i++)
		state_get(c, st ? &st[i] : &passed_over);
	return n;
}

/*
 * The envelope on disk. Not that of ipc/: a call may change with each version, what is on disk is
 * read by the next one. Whoever changes this raises SEGMENT_VERSION and keeps the old reader.
 */
static void envelope_store(struct buf *b, const struct envelope *env)
{
	struct ipc_writer w = { .b = *b };
	ipc_put_ip(&w, &env->client);
	*b = w.b;
	put_text(b, env->reverse_path);
	put_text(b, env->helo);
	put_text(b, env->protocol);
	put_text(b, env->account);
	put_u8(b, (uint8_t)env->body);
	put_u8(b, (uint8_t)((env->smtputf8 ? 1 : 0) | (env->require_tls ? 2 : 0)));
	put_u8(b, (uint8_t)env->ret);
	put_text(b, env->envid);
	put_text(b, env->message_id);
	for (size_t i = 0; i < env->recipients_n; i++) {
		const struct envelope_rcpt *r = &env->recipients[i];
		put_u8(b, (uint8_t)r->target.kind);
		put_text(b, r->target.address);
		put_text(b, r->target.mailbox);
		put_text(b, r->forward_path);
		put_text(b, r->orcpt);
		put_u8(b, r->notify);
	}
}

static void rcpt_load(struct cursor *c, struct envelope_rcpt *r)
{
	r->target.kind = (enum target_kind)get_enum(c, TARGET_KIND_EXPANSION + 1);
	r->target.address = get_text(c, 320);
	r->target.mailbox = get_text(c, 600);
	r->forward_path = get_text(c, 1100);
	r->orcpt = get_text(c, 600);
	r->notify = cursor_u8(c);
}

/* env has id, times and recipients_n already. */
static enum err envelope_load(struct cursor *c, struct arena *arena, struct envelope *env)
{
	struct ipc_reader r = { .c = *c };
	ipc_get_ip(&r, &env->client);
	*c = r.c;
	env->reverse_path = get_text(c, 1100);
	env->helo = get_text(c, 300);
	env->protocol = get_text(c, 16);
	env->account = get_text(c, 320);
	env->body = (enum body_kind)get_enum(c, BODY_KIND_BINARY_MIME + 1);
	uint8_t bits = cursor_u8(c);
	env->smtputf8 = bits & 1;
	env->require_tls = bits & 2;
	env->ret = (enum dsn_ret)get_enum(c, DSN_RET_HDRS + 1);
	env->envid = get_text(c, 300);
	env->message_id = get_text(c, 300);
	env->recipients = ARENA_ARRAY(arena, struct envelope_rcpt, env->recipients_n ? env->recipients_n : 1);
	if (!env->recipients)
		return arena_err(arena);
	for (size_t i = 0; i < env->recipients_n && c->err == ERR_NONE; i++)
		rcpt_load(c, &env->recipients[i]);
	return cursor_end(c);
}

/* ---- encoding ----------------------------------------------------------------------------------------- */

uint64_t record_bytes(uint32_t meta_bytes, uint32_t data_bytes)
{
	uint64_t n = (uint64_t)RECORD_HEAD + meta_bytes + (data_bytes ? (uint64_t)data_bytes + 4 : 0);
	return (n + 7) & ~(uint64_t)7;
}

/* Begins a record; returns where, for record_end(). */
static size_t record_begin(struct buf *b, enum record_type type, uint8_t flags, uint64_t id)
{
	size_t at = b->n;
	put_u32(b, RECORD_MAGIC);
	put_u8(b, (uint8_t)type);
	put_u8(b, flags);
	put_u16(b, 0);
	put_u64(b, id);
	for (int i = 0; i < 3; i++)
		put_u64(b, 0);
	return at;
}

/* data_bytes are at the end of b already. On an error b is as it was before the record. */
static enum err record_end(struct buf *b, size_t at, size_t meta_bytes, size_t data_bytes)
{
	static const char zeros[8];
	if (data_bytes > 0)
		put_u32(b, 0);
	buf_add(b, str_of(zeros, (size_t)(-(b->n - at) & 7)));
	enum err e = buf_err(b);
	if (e == ERR_NONE && (meta_bytes > RECORD_META_MAX || data_bytes > RECORD_DATA_MAX))
		e = ERR_LIMIT;
	if (e != ERR_NONE) {
		b->n = at;
		b->err = ERR_NONE;
		return e;
	}
	set_u32(b->p + at + 16, (uint32_t)meta_bytes);
	set_u32(b->p + at + 20, (uint32_t)data_bytes);
	return ERR_NONE;
}

enum err record_put_message(struct buf *b, const struct record_message *m, struct spool_ref *ref_out)
{
	const struct envelope *env = m->env;
	if (env->recipients_n > SPOOL_STATES_MAX || m->states_n > SPOOL_STATES_MAX)
		return ERR_LIMIT;
	size_t at = record_begin(b, RECORD_MESSAGE, m->in_file ? FLAG_IN_FILE : 0, env->id);
	size_t meta_at = at + RECORD_HEAD;
	put_u16(b, (uint16_t)env->recipients_n);
	put_u8(b, env->priority);
	put_u8(b, env->hold ? 1 : 0);
	put_u64(b, (uint64_t)env->arrived_ms);
	put_u64(b, (uint64_t)env->not_before_ms);
	put_u64(b, (uint64_t)env->expires_ms);
	put_u32(b, (uint32_t)m->prefix.n);
	put_u64(b, m->body_bytes);
	states_put(b, m->states, m->states_n);
	envelope_store(b, env);
	size_t data_at = b->n;
	buf_add(b, m->prefix);
	for (size_t i = 0; !m->in_file && i < m->body_n; i++)
		buf_add(b, m->body[i]);
	size_t end = b->n;
	TRY(record_end(b, at, data_at - meta_at, end - data_at));
	*ref_out = (struct spool_ref){
		.offset = at,
		.meta_bytes = (uint32_t)(data_at - meta_at),
		.data_bytes = (uint32_t)(end - data_at),
		.prefix_bytes = (uint32_t)m->prefix.n,
		.in_file = m->in_file,
		.body_bytes = m->body_bytes,
	};
	return ERR_NONE;
}

enum err record_put_states(struct buf *b, enum record_type type, uint64_t id, const struct spool_state *st, size_t n)
{
	if (n > SPOOL_STATES_MAX)
		return ERR_LIMIT;
	size_t at = record_begin(b, type, 0, id);
	if (type != RECORD_SEAL)
		states_put(b, st, n);
	return record_end(b, at, b->n - at - RECORD_HEAD, 0);
}

enum err record_put_fill(struct buf *b, size_t align)
{
	size_t gap = -b->n & (align - 1);
	if (gap == 0)
		return ERR_NONE;
	if (gap < RECORD_HEAD)
		gap += align;
	size_t at = record_begin(b, RECORD_FILL, 0, 0), n = gap - RECORD_HEAD;
	char *zeros = buf_reserve(b, n);
	if (zeros) {
		memset(zeros, 0, n);
		buf_commit(b, n);
	}
	return record_end(b, at, n, 0);
}

static uint32_t seed(const struct segment_header *h, uint64_t offset)
{
	char bytes[24];
	set_u64(bytes, h->seq);
	set_u64(bytes + 8, h->salt);
	set_u64(bytes + 16, offset);
	return crc32c(0, bytes, sizeof bytes);
}

void record_seal(char *bytes, size_t n, const struct segment_header *h, uint64_t offset, uint64_t synced_before)
{
	for (size_t at = 0; at < n;) {
		char *p = bytes + at;
		uint32_t meta_bytes = get_u32(p + 16), data_bytes = get_u32(p + 20), s = seed(h, offset + at);
		set_u64(p + 24, synced_before);
		set_u32(p + META_CRC_AT, crc32c(s, p + RECORD_HEAD, meta_bytes));
		set_u32(p + HEAD_CRC_AT, crc32c(s, p, HEAD_CRC_AT));
		if (data_bytes > 0) {
			char *data = p + RECORD_HEAD + meta_bytes;
			set_u32(data + data_bytes, crc32c(s, data, data_bytes));
		}
		at += record_bytes(meta_bytes, data_bytes);
	}
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

bool record_head_get(const char *p, const struct segment_header *h, uint64_t offset, struct record *r_out,
		     uint32_t *meta_bytes_out)
{
	if (get_u32(p) != RECORD_MAGIC || get_u32(p + HEAD_CRC_AT) != crc32c(seed(h, offset), p, HEAD_CRC_AT))
		return false;
	uint32_t meta_bytes = get_u32(p + 16), data_bytes = get_u32(p + 20);
	uint8_t type = (uint8_t)p[4];
	if (meta_bytes > RECORD_META_MAX || data_bytes > RECORD_DATA_MAX || type < RECORD_MESSAGE || type > RECORD_FILL)
		return false;
	*r_out = (struct record){
		.type = (enum record_type)type,
		.id = get_u64(p + 8),
		.offset = offset,
		.next = offset + record_bytes(meta_bytes, data_bytes),
		.synced_before = get_u64(p + 24),
		.in_file = (unsigned char)p[5] & FLAG_IN_FILE,
		.data_bytes = data_bytes,
	};
	*meta_bytes_out = meta_bytes;
	return true;
}

uint32_t record_seed(const struct segment_header *h, uint64_t offset)
{
	return seed(h, offset);
}

bool record_meta_ok(const char *head, struct str meta, const struct segment_header *h, uint64_t offset)
{
	return get_u32(head + META_CRC_AT) == crc32c(seed(h, offset), meta.p, meta.n);
}

enum err record_check(struct str whole, const struct segment_header *h, const struct spool_ref *ref,
		      struct record *r_out, struct str *data_out)
{
	uint32_t meta_bytes;
	if (whole.n < record_bytes(ref->meta_bytes, ref->data_bytes) ||
	    !record_head_get(whole.p, h, ref->offset, r_out, &meta_bytes) || r_out->type != RECORD_MESSAGE ||
	    meta_bytes != ref->meta_bytes || r_out->data_bytes != ref->data_bytes)
		return ERR_CORRUPT;
	r_out->meta = str_of(whole.p + RECORD_HEAD, meta_bytes);
	struct str data = str_of(whole.p + RECORD_HEAD + meta_bytes, r_out->data_bytes);
	if (!record_meta_ok(whole.p, r_out->meta, h, ref->offset))
		return ERR_CORRUPT;
	if (data.n > 0 && get_u32(data.p + data.n) != crc32c(seed(h, ref->offset), data.p, data.n))
		return ERR_CORRUPT;
	*data_out = data;
	return ERR_NONE;
}

enum err record_get_message(const struct record *r, struct spool_live *live_out, struct spool_state *st, size_t *n_out,
			    struct arena *arena, struct envelope *env_out)
{
	struct cursor c = cursor_of(r->meta);
	*live_out = (struct spool_live){ .id = r->id };
	live_out->recipients_n = cursor_u16(&c);
	live_out->priority = cursor_u8(&c);
	live_out->hold = cursor_u8(&c) != 0;
	live_out->arrived_ms = (int64_t)cursor_u64(&c);
	live_out->not_before_ms = (int64_t)cursor_u64(&c);
	live_out->expires_ms = (int64_t)cursor_u64(&c);
	struct spool_ref *ref = &live_out->ref;
	*ref = (struct spool_ref){ .offset = r->offset, .meta_bytes = (uint32_t)r->meta.n, .data_bytes = r->data_bytes,
				   .in_file = r->in_file };
	ref->prefix_bytes = cursor_u32(&c);
	ref->body_bytes = cursor_u64(&c);
	*n_out = states_get(&c, st);
	if (c.err != ERR_NONE || live_out->recipients_n > SPOOL_STATES_MAX || ref->prefix_bytes > r->data_bytes ||
	    (!r->in_file && r->data_bytes - ref->prefix_bytes != ref->body_bytes))
		return ERR_CORRUPT;
	if (!env_out)
		return ERR_NONE;
	*env_out = (struct envelope){
		.id = r->id,
		.arrived_ms = live_out->arrived_ms,
		.not_before_ms = live_out->not_before_ms,
		.expires_ms = live_out->expires_ms,
		.priority = live_out->priority,
		.hold = live_out->hold,
		.recipients_n = live_out->recipients_n,
	};
	enum err e = envelope_load(&c, arena, env_out);
	return e == ERR_SYNTAX || (e == ERR_LIMIT && arena_err(arena) == ERR_NONE) ? ERR_CORRUPT : e;
}

enum err record_get_states(const struct record *r, struct spool_state *st, size_t *n_out)
{
	struct cursor c = cursor_of(r->meta);
	*n_out = states_get(&c, st);
	return cursor_end(&c) == ERR_NONE ? ERR_NONE : ERR_CORRUPT;
}
