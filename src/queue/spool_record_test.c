/* SPDX-License-Identifier: Apache-2.0 */
/* Records, without a disk: what is read back is what was put, and the format is as it was released. */
#include "base/hash.h"
#include "queue/spool_model.h"
#include "queue/spool_record.h"

#define GOLDEN_BYTES 0x1f8u
#define GOLDEN_CRC 0xb892a044u
#define GOLDEN_HEADER_CRC 0x59d24cdcu

/*
 * What is on disk now is read by every later version: whoever changes this raises SEGMENT_VERSION and keeps
 * the old reader.
 */
static void golden(void **state)
{
	struct segment_header h = { .version = 1, .seq = 2, .salt = 3, .prev_end = UINT64_MAX };
	struct envelope_rcpt r[MODEL_STATES];
	struct envelope env = bed_envelope(42, r, 2);
	struct spool_state st = { .number = 1, .state = RCPT_STATE_HELD, .attempts = 3, .next_ms = 4, .at_ms = 5,
				  .enhanced = STR("4.2.2"), .text = STR("full"), .address = STR("a@b"), .by = STR("local") };
	struct str body = STR("body");
	struct record_message m = { .env = &env, .states = &st, .states_n = 1, .prefix = STR("prefix"), .body = &body,
				    .body_n = 1, .body_bytes = 4 };
	struct spool_ref ref;
	struct mem *mem = mem_new(0);
	struct buf b = buf_grow(mem, 10000);
	static char header[SEGMENT_START];
	assert_int_equal(record_put_message(&b, &m, &ref), ERR_NONE);
	assert_int_equal(record_put_states(&b, RECORD_GONE, 42, &st, 1), ERR_NONE);
	record_seal(b.p, b.n, &h, SEGMENT_START, SEGMENT_START);
	segment_header_put(header, &h);
	assert_int_equal(b.n, GOLDEN_BYTES);
	assert_int_equal(crc32c(0, b.p, b.n), GOLDEN_CRC);
	assert_int_equal(crc32c(0, header, sizeof header), GOLDEN_HEADER_CRC);
	buf_free(&b);
	mem_destroy(mem);
}

static struct spool_state some_state(uint64_t r)
{
	static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	return (struct spool_state){
		.number = (uint16_t)(r % 1000), .state = (enum rcpt_state)(r % 6), .attempts = (uint32_t)(r >> 8),
		.next_ms = (int64_t)(r >> 3), .at_ms = -(int64_t)(r >> 5), .enhanced = str_of(text, r % 17),
		.text = str_of(text, r % 37), .address = str_of(text, r % 29), .by = str_of(text, r % 5),
		.route = str_of(text, r % 3 * 11), .told = r % 7 == 0,
	};
}

static void states_there_and_back(void **state)
{
	struct segment_header h = { .version = SEGMENT_VERSION, .seq = 9, .salt = 77 };
	struct mem *mem = mem_new(0);
	struct spool_state *put = mem_alloc(mem, SPOOL_STATES_MAX * sizeof *put);
	struct spool_state *got = mem_alloc(mem, SPOOL_STATES_MAX * sizeof *got);
	uint64_t random = 5;
	for (size_t n = 0; n <= SPOOL_STATES_MAX; n = n * 3 + 1) {
		struct buf b = buf_grow(mem, 1 << 20);
		for (size_t i = 0; i < n; i++)
			put[i] = some_state(test_random(&random) >> 8);
		assert_int_equal(record_put_states(&b, RECORD_STATE, 0x1234567890abcdef, put, n), ERR_NONE);
		record_seal(b.p, b.n, &h, 8000, 4096);
		struct record r;
		uint32_t meta_bytes;
		size_t got_n;
		assert_true(record_head_get(b.p, &h, 8000, &r, &meta_bytes));
		assert_int_equal(r.next, 8000 + b.n);
		assert_int_equal(r.synced_before, 4096);
		assert_int_equal(r.id, 0x1234567890abcdef);
		r.meta = str_of(b.p + RECORD_HEAD, meta_bytes);
		assert_true(record_meta_ok(b.p, r.meta, &h, 8000));
		assert_int_equal(record_get_states(&r, got, &got_n), ERR_NONE);
		assert_int_equal(got_n, n);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(got[i].number, put[i].number);
			assert_int_equal(got[i].state, put[i].state);
			assert_int_equal(got[i].attempts, put[i].attempts);
			assert_int_equal(got[i].next_ms, put[i].next_ms);
			assert_int_equal(got[i].at_ms, put[i].at_ms);
			assert_str(got[i].enhanced, str_sub(put[i].enhanced, 0, 16));
			assert_str(got[i].text, put[i].text);
			assert_str(got[i].address, put[i].address);
			assert_str(got[i].by, put[i].by);
			assert_str(got[i].route, put[i].route);
			assert_int_equal(got[i].told, put[i].told);
		}
		/* bound to its place: not there under another number, salt or offset */
		struct segment_header other = h;
		assert_false(record_head_get(b.p, &h, 8008, &r, &meta_bytes));
		other.salt++;
		assert_false(record_head_get(b.p, &other, 8000, &r, &meta_bytes));
		other = h;
		other.seq++;
		assert_false(record_head_get(b.p, &other, 8000, &r, &meta_bytes));
		buf_free(&b);
	}
	assert_int_equal(record_put_states(&(struct buf){ .mem = mem, .max = 1 << 20 }, RECORD_STATE, 1, put,
					   SPOOL_STATES_MAX + 1), ERR_LIMIT);
	mem_destroy(mem);
}

/* What does not fit, or finds no memory, leaves the buffer as it was (S6). */
static void nothing_half(void **state)
{
	struct mem *mem = mem_new(0);
	char place[200];
	struct buf b = buf_fixed(place, sizeof place);
	struct spool_state st = some_state(35);
	assert_int_equal(record_put_states(&b, RECORD_STATE, 1, &st, 1), ERR_NONE);
	size_t n = b.n;
	struct spool_state many[9] = { st, st, st, st, st, st, st, st, st };
	assert_int_equal(record_put_states(&b, RECORD_STATE, 2, many, 9), ERR_LIMIT);
	assert_int_equal(b.n, n);
	assert_int_equal(buf_err(&b), ERR_NONE);
	assert_int_equal(record_put_states(&b, RECORD_SEAL, 0, NULL, 0), ERR_NONE);
	mem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(golden), cmocka_unit_test(states_there_and_back),
					    cmocka_unit_test(nothing_half) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
