/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever a disk may hold where a segment should be. The first byte chooses: the image as it is; the
 * rest as a record's meta, past the checksums that would keep the fuzzer out; or an image made of
 * whole records with the rest of the input written over it.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "queue/spool_record.h"

#define ARENA_MAX ((size_t)64 << 20)

struct fuzz {
	struct mem *mem;
	struct spool_state *states;
	uint64_t last_end, bytes, damaged_to;
};

static enum err on_record(void *arg, const struct record *r)
{
	struct fuzz *f = arg;
	ASSERT(r->offset >= f->last_end && r->next > r->offset && r->next <= f->bytes);
	f->last_end = r->next;
	struct spool_live live;
	struct envelope env;
	size_t n = 0;
	ARENA_SCOPED struct arena arena = arena_make(f->mem, ARENA_MAX);
	if (r->type == RECORD_MESSAGE) {
		if (record_get_message(r, &live, f->states, &n, &arena, &env) == ERR_NONE)
			ASSERT(n <= SPOOL_STATES_MAX && env.recipients_n <= SPOOL_STATES_MAX &&
			       (live.ref.in_file || live.ref.prefix_bytes + live.ref.body_bytes == r->data_bytes));
	} else if (record_get_states(r, f->states, &n) == ERR_NONE) {
		ASSERT(n <= SPOOL_STATES_MAX);
	}
	return ERR_NONE;
}

static void on_damage(void *arg, uint64_t from, uint64_t to)
{
	struct fuzz *f = arg;
	ASSERT(from >= f->damaged_to && to > from && to <= f->bytes);
	f->damaged_to = to;
}

static void scan(struct fuzz *f, struct str image, bool check_data)
{
	struct segment_reader r;
	struct segment_scan s = { .check_data = check_data, .arg = f, .record = on_record, .damage = on_damage };
	f->bytes = image.n;
	f->last_end = f->damaged_to = 0;
	segment_reader_open_bytes(&r, f->mem, image);
	if (segment_reader_header(&r) == ERR_NONE) {
		ASSERT(segment_scan(&r, &s) == ERR_NONE);
		ASSERT(s.end <= image.n || s.end == SEGMENT_START);
	}
	segment_reader_close(&r);
}

static void decode(struct fuzz *f, struct str meta)
{
	struct record r = { .type = RECORD_MESSAGE, .id = 1, .offset = 0, .next = 1, .meta = meta, .in_file = true };
	f->bytes = 1;
	f->last_end = 0;
	(void)on_record(f, &r);
	f->last_end = 0;
	r.type = RECORD_STATE;
	(void)on_record(f, &r);
}

/* Three messages, of which the input then spoils what it likes: pairs of offset and value. */
static void spoil(struct fuzz *f, struct str how)
{
	struct segment_header h = { .version = SEGMENT_VERSION, .seq = 1, .salt = 2, .prev_end = UINT64_MAX };
	struct envelope_rcpt rcpt = { .forward_path = STR("a@b") };
	struct envelope env = { .id = 1, .recipients = &rcpt, .recipients_n = 1 };
	struct spool_state st = { .state = RCPT_STATE_HELD, .text = STR("x") };
	struct str body = STR("body");
	struct record_message m = { .env = &env, .states = &st, .states_n = 1, .prefix = STR("prefix"), .body = &body,
				    .body_n = 1, .body_bytes = 4 };
	struct spool_ref ref;
	struct buf b = buf_grow(f->mem, 1 << 16);
	char *head = buf_reserve(&b, SEGMENT_START);
	ASSERT(head);
	segment_header_put(head, &h);
	buf_commit(&b, SEGMENT_START);
	for (int i = 0; i < 3; i++) {
		size_t at = b.n;
		ASSERT(record_put_message(&b, &m, &ref) == ERR_NONE);
		ASSERT(record_put_states(&b, RECORD_STATE, 1, &st, 1) == ERR_NONE);
		record_seal(b.p + at, b.n - at, &h, at, at);
	}
	for (size_t i = 0; i + 3 <= how.n; i += 3) {
		size_t at = (size_t)(((unsigned char)how.p[i] << 8 | (unsigned char)how.p[i + 1]) % (int)(b.n - 64));
		b.p[at + 64] = how.p[i + 2]; /* one header stays */
	}
	scan(f, buf_str(&b), how.n % 2);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct fuzz f = { .mem = mem_new(0) };
	struct str rest = str_of((const char *)data + 1, size - 1);
	f.states = mem_alloc(f.mem, SPOOL_STATES_MAX * sizeof *f.states);
	if (f.states && data[0] % 3 == 0)
		scan(&f, rest, data[0] % 2);
	if (f.states && data[0] % 3 == 1)
		decode(&f, rest);
	if (f.states && data[0] % 3 == 2)
		spoil(&f, rest);
	mem_destroy(f.mem);
	return 0;
}
