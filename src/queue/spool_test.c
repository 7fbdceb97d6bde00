/* SPDX-License-Identifier: Apache-2.0 */
/* The spool on a real disk: S1 to S8 of spool.c, and H103. */
#include "base/clockfmt.h"
#include "queue/spool_model.h"
#include "queue/spool_record.h"
#include "queue/spool_tools.h"

static struct bed bed; /* of the running test */
static struct model model;

static void run(void (*fn)(void *arg), void *arg)
{
	loop_run(bed.loop, fn, arg);
}

static YIELDS enum err put(struct spool *sp, uint64_t id, size_t rcpts, size_t body_bytes)
{
	struct envelope_rcpt r[MODEL_STATES];
	struct envelope env = bed_envelope(id, r, rcpts);
	char *body = mem_alloc_raw(world_mem(bed.w), body_bytes + 8);
	bed_body(id, body, body_bytes);
	struct str parts[2] = { str_of(body, body_bytes / 2), str_of(body + body_bytes / 2, body_bytes - body_bytes / 2) };
	struct spool_live live = { .id = id, .arrived_ms = env.arrived_ms, .expires_ms = 77, .priority = 4,
				   .recipients_n = (uint16_t)rcpts };
	enum err e = spool_put(sp, &env, STR("Received: x\r\n"), parts, 2, body_bytes, false, &live.ref);
	mem_free(world_mem(bed.w), body);
	if (e == ERR_NONE)
		model_add(&model, &live);
	return e;
}

static YIELDS void check_message(struct spool *sp, uint64_t id, size_t rcpts, size_t body_bytes)
{
	struct model_row *r = model_row(&model, id);
	assert_non_null(r);
	assert_true(r->live);
	ARENA_SCOPED struct arena arena = arena_make(world_mem(bed.w), 8 << 20);
	struct envelope env;
	struct str prefix, body;
	char *want = mem_alloc_raw(world_mem(bed.w), body_bytes + 8);
	bed_body(id, want, body_bytes);
	assert_int_equal(spool_read(sp, &r->at.ref, &arena, &env, &prefix, &body), ERR_NONE);
	assert_str(prefix, STR("Received: x\r\n"));
	assert_int_equal(body.n, body_bytes);
	assert_memory_equal(body.p, want, body_bytes);
	assert_int_equal(env.recipients_n, rcpts);
	assert_str(env.reverse_path, STR("sender@example.net"));
	assert_str(env.recipients[rcpts - 1].orcpt, STR("rfc822;user@example.org"));
	assert_int_equal(env.recipients[rcpts - 1].notify, rcpts - 1);
	assert_int_equal(env.id, id);
	assert_int_equal(env.arrived_ms, (int64_t)id * 10);
	assert_true(env.smtputf8);
	assert_int_equal(env.ret, DSN_RET_HDRS);
	mem_free(world_mem(bed.w), want);
}

static int dir_fd(void)
{
	int fd;
	assert_int_equal(world_open(bed.w, WORLD_ABSOLUTE, str_z(bed.dir), WORLD_READ | WORLD_DIR, 0, &fd), ERR_NONE);
	return fd;
}

static void remove_file(const char *name)
{
	int fd = dir_fd();
	assert_int_equal(world_unlink(bed.w, fd, str_z(name)), ERR_NONE);
	world_close(bed.w, fd);
}

static int setup(void **state)
{
	bed_open(&bed, world_linux_new());
	bed_dir(&bed, BED_MEMORY);
	model.mem = world_mem(bed.w);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = bed.w;
	model_free(&model);
	bed_empty(&bed);
	bed_close(&bed);
	assert_int_equal(mem_blocks(world_mem(w)), 1); /* the world itself */
	world_linux_free(w);
	return 0;
}

static YIELDS struct spool *open_spool(uint64_t segment_bytes)
{
	struct spool_config cfg = bed_config(&bed, &model, segment_bytes);
	struct spool *sp;
	assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
	return sp;
}

/* ---- put, read, states, gone, and all of it again after a restart ------------------------------------ */

/* coroutine */
static void life(void *arg)
{
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 20; id++)
		assert_int_equal(put(sp, id, 1 + id % 3, id * 500), ERR_NONE);
	check_message(sp, 7, 2, 3500);
	struct spool_state st = { .number = 1, .state = RCPT_STATE_HELD, .attempts = 3, .next_ms = 9, .at_ms = 8,
				  .enhanced = STR("4.2.2"), .text = STR("full"), .by = STR("local") };
	model_set(model_row(&model, 7), &st);
	assert_int_equal(spool_add_states(sp, 7, &st, 1), ERR_NONE);
	model_row(&model, 8)->ending = true;
	assert_int_equal(spool_add_gone(sp, 8, &st, 1), ERR_NONE);
	assert_int_equal(spool_flush(sp), ERR_NONE);
	assert_false(model_row(&model, 8)->live);
	assert_int_equal(spool_totals(sp).live_messages, 19);
	spool_close(sp);

	for (int round = 0; round < 3; round++) {
		model_free(&model);
		if (round == 1) { /* a missing checkpoint */
			remove_file("checkpoint");
		}
		sp = open_spool(0);
		assert_int_equal(model.damages, 0);
		assert_int_equal(model_live(&model), 19);
		assert_int_equal(spool_totals(sp).live_messages, 19);
		check_message(sp, 7, 2, 3500);
		struct model_row *r = model_row(&model, 7);
		assert_int_equal(r->states[1].state, RCPT_STATE_HELD);
		assert_int_equal(r->states[1].attempts, 3);
		assert_memory_equal(r->texts[1], "full", 4);
		assert_int_equal(put(sp, 100 + (uint64_t)round, 1, 4096), ERR_NONE);
		model_row(&model, 100 + (uint64_t)round)->ending = true;
		assert_int_equal(spool_add_gone(sp, 100 + (uint64_t)round, NULL, 0), ERR_NONE);
		spool_close(sp);
	}
}

static void test_life(void **state)
{
	run(life, NULL);
}

/* ---- files of a spool at rest, changed by hand ------------------------------------------------------------ */

static size_t load(const char *name, char *to, size_t max)
{
	int dir = dir_fd(), fd;
	size_t n = 0;
	assert_int_equal(world_open(bed.w, dir, str_z(name), WORLD_READ, 0, &fd), ERR_NONE);
	assert_int_equal(world_pread(bed.w, fd, to, max, 0, &n), ERR_NONE);
	world_close(bed.w, fd);
	world_close(bed.w, dir);
	return n;
}

static void store(const char *name, const char *bytes, size_t n)
{
	int dir = dir_fd(), fd;
	struct str part = str_of(bytes, n);
	assert_int_equal(world_open(bed.w, dir, str_z(name), WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC, 0600, &fd), ERR_NONE);
	assert_int_equal(world_pwritev(bed.w, fd, &part, 1, 0), ERR_NONE);
	world_close(bed.w, fd);
	world_close(bed.w, dir);
}

static bool exists(const char *name)
{
	int dir = dir_fd(), fd;
	enum err e = world_open(bed.w, dir, str_z(name), WORLD_READ, 0, &fd);
	if (e == ERR_NONE)
		world_close(bed.w, fd);
	world_close(bed.w, dir);
	return e == ERR_NONE;
}

static enum err drop_name(void *arg, struct str name)
{
	int *dir = arg;
	if (str_starts(name, STR("seg-")) || str_starts(name, STR("checkpoint")) || str_starts(name, STR("spare-")))
		assert_int_equal(world_unlink(bed.w, *dir, name), ERR_NONE);
	return ERR_NONE;
}

/* No segment and no checkpoint: as new. */
static void wipe(void)
{
	int dir = dir_fd();
	assert_int_equal(world_list(bed.w, dir, drop_name, &dir), ERR_NONE);
	world_close(bed.w, dir);
	model_free(&model);
}

#define SEG1 "seg-0000000000000001"
#define IMAGE_MAX 60000u

struct image {
	char bytes[IMAGE_MAX];
	size_t n;
	uint64_t ends[16]; /* behind each record */
	size_t records;
};

static enum err note_end(void *arg, const struct record *r)
{
	struct image *im = arg;
	im->ends[im->records++] = r->next;
	return ERR_NONE;
}

/*
 * A crashed segment of five messages in batches of their own, without its seal: the last batch (message
 * 5) is what a crash may tear.
 */
static YIELDS void make_image(struct image *im)
{
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 5; id++)
		assert_int_equal(put(sp, id, 1, 100), ERR_NONE);
	spool_close(sp);
	im->n = load(SEG1, im->bytes, sizeof im->bytes);
	struct segment_reader r;
	segment_reader_open_bytes(&r, world_mem(bed.w), str_of(im->bytes, im->n));
	assert_int_equal(segment_reader_header(&r), ERR_NONE);
	struct segment_scan s = { .arg = im, .record = note_end };
	im->records = 0;
	assert_int_equal(segment_scan(&r, &s), ERR_NONE);
	segment_reader_close(&r);
	assert_true(s.sealed);
	assert_int_equal(im->records, 5);
	assert_int_equal(im->ends[4] + RECORD_HEAD, im->n);
	im->n = im->ends[4];
	wipe();
}

/* Recovers from these bytes; what it kept must be as it was put. *live_out: messages 1 to so many. */
static YIELDS void recover_from(const char *bytes, size_t n, size_t *live_out)
{
	store(SEG1, bytes, n);
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 5; id++)
		if (model_known(&model, id))
			check_message(sp, id, 1, 100);
	*live_out = model_live(&model);
	spool_close(sp);
}

/* S3: whatever of the last batch is missing, it is cut; all before is there, and nothing is damage. */
/* coroutine */
static void truncation(void *arg)
{
	static struct image im;
	make_image(&im);
	for (size_t n = im.ends[3]; n <= im.n; n++) {
		size_t live;
		recover_from(im.bytes, n, &live);
		assert_int_equal(live, n == im.n ? 5 : 4);
		assert_int_equal(model.damages, 0);
		model_free(&model);
		struct spool *sp = open_spool(0); /* and it stays so */
		assert_int_equal(model_live(&model), live);
		assert_int_equal(model.damages, 0);
		assert_int_equal(spool_totals(sp).cut_bytes, 0);
		spool_close(sp);
		wipe();
	}
}

static void test_truncation(void **state)
{
	run(truncation, NULL);
}

/* S3: a flipped bit costs the record that it is in, and is damage below the synced boundary only. */
/* coroutine */
static void flips(void *arg)
{
	static struct image im;
	make_image(&im);
	for (size_t at = 0; at < im.n; at += at < SEGMENT_START ? 61 : 3) {
		size_t live;
		im.bytes[at] = (char)(im.bytes[at] ^ 1 << at % 8);
		recover_from(im.bytes, im.n, &live);
		bool last_batch = at >= im.ends[3], padding = false;
		for (size_t i = 0; i < 5; i++)
			padding |= at < im.ends[i] && at + 8 > im.ends[i];
		if (at < SEGMENT_START) { /* one of two headers, or nothing */
			assert_int_equal(live, 5);
		} else if (last_batch) {
			assert_true(live == 4 || (padding && live == 5));
			assert_int_equal(model.damages, 0);
		} else { /* data of synced records is not read at the start; a read finds it */
			assert_true(live == 4 || padding);
			assert_true(model.damages == 1 || padding);
			assert_true(model_known(&model, 5));
		}
		im.bytes[at] = (char)(im.bytes[at] ^ 1 << at % 8);
		wipe();
	}
}

static void test_flips(void **state)
{
	run(flips, NULL);
}

/* A sealed segment's data is read when it is needed: ERR_CORRUPT, and the others are there. */
/* coroutine */
static void damaged_data(void *arg)
{
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(put(sp, id, 1, 1000), ERR_NONE);
	spool_close(sp);
	static char bytes[IMAGE_MAX];
	size_t n = load(SEG1, bytes, sizeof bytes);
	struct spool_ref ref = model_row(&model, 2)->at.ref;
	bytes[ref.offset + RECORD_HEAD + ref.meta_bytes + 500] ^= 4;
	store(SEG1, bytes, n);
	model_free(&model);
	sp = open_spool(0);
	assert_int_equal(model_live(&model), 3);
	check_message(sp, 1, 1, 1000);
	check_message(sp, 3, 1, 1000);
	ARENA_SCOPED struct arena arena = arena_make(world_mem(bed.w), 1 << 20);
	struct envelope env;
	struct str prefix, body;
	assert_int_equal(spool_read(sp, &ref, &arena, &env, &prefix, &body), ERR_CORRUPT);
	assert_int_equal(model.damages, 1);
	assert_int_equal(spool_read_meta(sp, &ref, &arena, &env), ERR_NONE);
	spool_close(sp);
}

static void test_damaged_data(void **state)
{
	run(damaged_data, NULL);
}

/* S5 and H103: what is not ours or not readable is told, and the start goes on. */
/* coroutine */
static void strange_files(void *arg)
{
	static struct image im;
	make_image(&im);
	static char future[SEGMENT_START];
	struct segment_header h = { .version = SEGMENT_VERSION + 1, .seq = 9 };
	segment_header_put(future, &h);
	store(SEG1, im.bytes, im.n);
	store("seg-0000000000000009", future, sizeof future);
	store("seg-0000000000000003", "", 0);
	store("seg-0000000000000004", "garbage", 7);
	store("seg-000000000000000A", "upper case is no name of ours", 3);
	store("README", "hello", 5);
	store("spare-0000000000000007", "", 0);
	store("checkpoint.new", "half", 4);
	store("laying", "half", 4);
	struct spool *sp = open_spool(0);
	assert_int_equal(model_live(&model), 5);
	assert_int_equal(model.damages, 5); /* future, empty, garbage, two foreign names */
	assert_true(exists("seg-0000000000000009"));
	assert_true(exists("README"));
	assert_false(exists("seg-0000000000000004"));
	assert_true(exists("quarantine/seg-0000000000000004"));
	assert_false(exists("spare-0000000000000007")); /* no space is reserved here */
	assert_int_equal(put(sp, 6, 1, 10), ERR_NONE);
	assert_int_equal(model_row(&model, 6)->at.ref.segment, 10); /* behind all that is there */
	spool_close(sp);
	struct spool *other = open_spool(0);
	struct spool_config cfg = bed_config(&bed, &model, 0);
	assert_int_equal(spool_open(&cfg, &sp), ERR_BUSY); /* one at a time */
	spool_close(other);
	remove_file("seg-0000000000000009");
}

static void test_strange_files(void **state)
{
	run(strange_files, NULL);
}

/* S2: records at or behind the end that the next header states never counted, however whole they are. */
/* coroutine */
static void failed_batch(void *arg)
{
	static struct image im;
	make_image(&im);
	static char next[SEGMENT_START];
	struct segment_header h = { .version = SEGMENT_VERSION, .seq = 2, .salt = 77, .prev_seq = 1, .prev_end = im.ends[3] };
	segment_header_put(next, &h);
	store("seg-0000000000000002", next, sizeof next);
	size_t live;
	recover_from(im.bytes, im.n, &live);
	assert_int_equal(live, 4);
	assert_int_equal(model.damages, 0);
}

static void test_failed_batch(void **state)
{
	run(failed_batch, NULL);
}

/* Stale records of a recycled segment never count: same bytes, other incarnation. */
/* coroutine */
static void stale_records(void *arg)
{
	static struct image im;
	make_image(&im);
	struct segment_header h = { .version = SEGMENT_VERSION, .seq = 1, .salt = 12345, .flags = SEGMENT_RECYCLED };
	segment_header_put(im.bytes, &h);
	size_t live;
	recover_from(im.bytes, im.n, &live);
	assert_int_equal(live, 0);
	assert_int_equal(model.damages, 0);
}

static void test_stale_records(void **state)
{
	run(stale_records, NULL);
}

/* ---- checkpoints --------------------------------------------------------------------------------------------- */

/* Bad, cut or old: all that is live is there all the same. */
/* coroutine */
static void checkpoints(void *arg)
{
	struct spool *sp = open_spool(0);
	for (uint64_t id = 1; id <= 30; id++)
		assert_int_equal(put(sp, id, 2, 300), ERR_NONE);
	spool_close(sp);
	static char old[IMAGE_MAX], bytes[IMAGE_MAX];
	size_t old_n = load("checkpoint", old, sizeof old);
	for (size_t at = 0; at < old_n; at += 7) {
		memcpy(bytes, old, old_n);
		bytes[at] ^= 16;
		store("checkpoint", bytes, at % 3 ? old_n : at);
		model_free(&model);
		sp = open_spool(0);
		assert_int_equal(model_live(&model), 30);
		spool_close(sp);
	}
	sp = open_spool(0);
	for (uint64_t id = 1; id <= 10; id++) {
		model_row(&model, id)->ending = true;
		assert_int_equal(spool_add_gone(sp, id, NULL, 0), ERR_NONE);
	}
	assert_int_equal(put(sp, 31, 1, 10), ERR_NONE);
	spool_close(sp);
	store("checkpoint", old, old_n); /* from before all that */
	model_free(&model);
	sp = open_spool(0);
	assert_int_equal(model_live(&model), 21);
	check_message(sp, 31, 1, 10);
	spool_close(sp);
}

static void test_checkpoints(void **state)
{
	run(checkpoints, NULL);
}

/* ---- body files ------------------------------------------------------------------------------------------------ */

static YIELDS enum err put_file(struct spool *sp, uint64_t id, struct str body, uint64_t claimed)
{
	struct envelope_rcpt r[MODEL_STATES];
	struct envelope env = bed_envelope(id, r, 1);
	struct spool_live live = { .id = id, .recipients_n = 1 };
	int fd;
	TRY(spool_body_file(sp, id, &fd));
	TRY(world_pwritev(bed.w, fd, &body, 1, 0));
	TRY(spool_put(sp, &env, STR("Received: x\r\n"), NULL, 0, claimed, true, &live.ref));
	model_add(&model, &live);
	return ERR_NONE;
}

static const char *body_path(uint64_t id)
{
	static char path[40];
	struct buf b = buf_fixed(path, sizeof path);
	buf_add(&b, STR("body/"));
	msg_id_add(&b, id);
	buf_add_char(&b, '\0');
	return path;
}

/* coroutine */
static void body_files(void *arg)
{
	struct spool *sp = open_spool(0);
	assert_int_equal(put_file(sp, 1, STR("a large body"), 12), ERR_NONE);
	assert_int_equal(put_file(sp, 2, STR("another"), 7), ERR_NONE);
	assert_int_equal(put_file(sp, 3, STR("short"), 99), ERR_SYNTAX);
	spool_body_abort(sp, 3);
	int fd;
	assert_int_equal(spool_body_file(sp, 4, &fd), ERR_NONE); /* and then nothing */
	assert_int_equal(spool_body_file(sp, 4, &fd), ERR_EXISTS);
	model_row(&model, 2)->ending = true;
	assert_int_equal(spool_add_gone(sp, 2, NULL, 0), ERR_NONE);
	spool_close(sp);
	assert_true(exists(body_path(1)));
	assert_false(exists(body_path(2)));
	assert_false(exists(body_path(3)));
	assert_true(exists(body_path(4)));
	model_free(&model);
	sp = open_spool(0);
	assert_false(exists(body_path(4))); /* nobody names it */
	assert_int_equal(model_live(&model), 1);
	char text[20];
	size_t n;
	assert_int_equal(spool_body_open(sp, 1, &fd), ERR_NONE);
	assert_int_equal(world_pread(bed.w, fd, text, sizeof text, 0, &n), ERR_NONE);
	assert_str(str_of(text, n), STR("a large body"));
	world_close(bed.w, fd);
	spool_close(sp);
	/* When something is damaged, a body that nobody names may be that one's: kept aside. */
	store(body_path(9), "x", 1);
	store("seg-0000000000000000", "", 0);
	static char long_garbage[SEGMENT_START + 1];
	store("seg-0000000000000099", long_garbage, sizeof long_garbage);
	model_free(&model);
	sp = open_spool(0);
	assert_false(exists(body_path(9)));
	spool_close(sp);
	remove_file("seg-0000000000000000");
	assert_true(exists("quarantine/0000000000009"));
}

static void test_body_files(void **state)
{
	run(body_files, NULL);
}

/* ---- compaction and recycling under random work, against the model ---------------------------------------------- */

struct work_case {
	uint64_t seed;
	bool reserve;
};

static YIELDS void random_work(struct spool *sp, uint64_t *random, uint64_t *next_id, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		uint64_t r = test_random(random) >> 8;
		if (r % 10 < 5) {
			uint64_t id = ++*next_id;
			assert_int_equal(put(sp, id, 1 + id % 3, id * 37 % 3000), ERR_NONE);
			continue;
		}
		struct model_row *row = *next_id ? model_row(&model, 1 + r / 10 % *next_id) : NULL;
		if (!row || !row->live || row->ending)
			continue;
		if (row->id % 20 == 0 || r % 10 < 7) { /* every twentieth stays for ever: it has to be copied */
			struct spool_state st = { .number = (uint16_t)(row->id % 3), .state = RCPT_STATE_QUEUED,
						  .attempts = (uint32_t)i, .next_ms = (int64_t)i + 1, .text = STR("later") };
			model_set(row, &st);
			assert_int_equal(spool_add_states(sp, row->id, &st, 1), ERR_NONE);
		} else {
			row->ending = true;
			assert_int_equal(spool_add_gone(sp, row->id, NULL, 0), ERR_NONE);
		}
		if (r % 7 == 0)
			assert_int_equal(co_sleep_until(world_mono_ns(bed.w) + 3000000), ERR_NONE);
	}
}

static YIELDS void compare_with(struct spool *sp, const struct model *before)
{
	assert_int_equal(model.damages, 0);
	assert_int_equal(model_live(&model), model_live(before));
	for (size_t i = 0; i < before->n; i++) {
		const struct model_row *was = &before->rows[i];
		const struct model_row *is = model_row(&model, was->id);
		if (!was->live) {
			assert_true(!is || !is->live);
			continue;
		}
		check_message(sp, was->id, 1 + was->id % 3, was->id * 37 % 3000);
		for (unsigned k = 0; k < MODEL_STATES; k++)
			if (was->has[k]) {
				assert_true(is->has[k]);
				assert_int_equal(is->states[k].attempts, was->states[k].attempts);
				assert_int_equal(is->states[k].next_ms, was->states[k].next_ms);
			}
	}
}

/* S4 holds once the janitor has had its turn, which a busy disk delays. */
static YIELDS struct spool_totals settled_totals(struct spool *sp, uint64_t segment_bytes)
{
	struct spool_totals t = spool_totals(sp);
	for (int i = 0; i < 1000 && t.log_bytes > 2 * t.live_bytes + 8 * segment_bytes; i++) {
		assert_int_equal(co_sleep_until(world_mono_ns(bed.w) + 10 * 1000000), ERR_NONE);
		t = spool_totals(sp);
	}
	return t;
}

/* coroutine */
static void compaction(void *arg)
{
	const struct work_case *c = arg;
	uint64_t random = c->seed, next_id = 0;
	/* past the page cache each batch takes whole pages */
	struct spool_config cfg = bed_config(&bed, &model, c->reserve ? 65536 : 16384);
	cfg.reserve_space = c->reserve;
	uint64_t copied = 0;
	for (unsigned round = 0; round < 4; round++) {
		struct model before = model;
		struct spool *sp;
		model = (struct model){ .mem = before.mem };
		assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
		compare_with(sp, &before);
		model_free(&before);
		random_work(sp, &random, &next_id, 250);
		struct spool_totals t = settled_totals(sp, cfg.segment_bytes);
		assert_true(t.log_bytes <= 2 * t.live_bytes + 8 * cfg.segment_bytes);
		assert_true(t.spares <= 2);
		copied += t.copied;
		spool_close(sp);
		for (size_t i = 0; i < model.n; i++) /* ends were written when it was closed */
			assert_false(model.rows[i].ending && model.rows[i].live);
		if (round == 1)
			remove_file("checkpoint");
	}
	assert_true(copied > 0);
}

static void test_compaction(void **state)
{
	struct work_case cases[] = { { 1, false }, { 2, true }, { 3, false } };
	for (size_t i = 0; i < COUNT(cases); i++) {
		run(compaction, &cases[i]);
		wipe();
	}
}

/* S4: a segment whose history is not saved stays, however dead. */
/* coroutine */
static void history(void *arg)
{
	struct spool_config cfg = bed_config(&bed, &model, 8192);
	struct spool *sp;
	assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
	spool_history_saved(sp, 1);
	for (uint64_t id = 1; id <= 30; id++) {
		assert_int_equal(put(sp, id, 1, 1000), ERR_NONE);
		model_row(&model, id)->ending = true;
		assert_int_equal(spool_add_gone(sp, id, NULL, 0), ERR_NONE);
	}
	assert_int_equal(co_sleep_until(world_mono_ns(bed.w) + 300000000), ERR_NONE);
	assert_int_equal(spool_first_segment(sp), 1);
	uint64_t now = spool_segment(sp);
	assert_true(now > 3);
	spool_history_saved(sp, 3);
	assert_int_equal(co_sleep_until(world_mono_ns(bed.w) + 300000000), ERR_NONE);
	assert_int_equal(spool_first_segment(sp), 3);
	spool_close(sp);
	model_free(&model);
	assert_int_equal(spool_open(&cfg, &sp), ERR_NONE);
	assert_int_equal(spool_history_from(sp), 3);
	spool_close(sp);
}

static void test_history(void **state)
{
	run(history, NULL);
}

/* ---- the command line's view ------------------------------------------------------------------------------------ */

static void count_line(void *arg, struct str text)
{
	unsigned *lines = arg;
	assert_true(str_is_printable_ascii(text));
	(*lines)++;
}

/* coroutine */
static void tools(void *arg)
{
	struct spool *sp = open_spool(0);
	unsigned lines = 0;
	struct spool_printer to = { &lines, count_line };
	struct spool_summary sum;
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(put(sp, id, 1, 1000), ERR_NONE);
	assert_int_equal(put_file(sp, 4, STR("a large body"), 12), ERR_NONE);
	assert_int_equal(spool_verify(bed.w, str_z(bed.dir), &to, &sum), ERR_BUSY);
	model_row(&model, 1)->ending = true;
	assert_int_equal(spool_add_gone(sp, 1, NULL, 0), ERR_NONE);
	assert_int_equal(spool_add_states(sp, 2, &(struct spool_state){ .route = STR("hub") }, 1), ERR_NONE);
	spool_close(sp);
	assert_int_equal(spool_verify(bed.w, str_z(bed.dir), &to, &sum), ERR_NONE);
	assert_int_equal(lines, 0);
	assert_int_equal(sum.live, 3);
	assert_int_equal(sum.records, 6);
	assert_int_equal(sum.bodies, 1);
	assert_int_equal(sum.damaged, 0);
	assert_int_equal(spool_dump(bed.w, str_z(bed.dir), &to, &sum), ERR_NONE);
	assert_int_equal(lines, 7);
	char out[300];
	snprintf(out, sizeof out, "%s/body/out", bed.dir);
	assert_int_equal(spool_recover_to(bed.w, str_z(bed.dir), str_z(out), &to, &sum), ERR_NONE);
	assert_int_equal(sum.written, 3);
	assert_int_equal(sum.failed, 0);
	static char text[4000];
	size_t n = load("body/out/0000000000004.eml", text, sizeof text);
	assert_str(str_of(text, n), STR("Received: x\r\na large body"));
	n = load("body/out/0000000000002.envelope", text, sizeof text);
	assert_true(str_ends(str_of(text, n), STR("queued route hub\n")));
	assert_false(exists("body/out/0000000000001.eml"));
	/* and with damage */
	static char bytes[IMAGE_MAX];
	n = load(SEG1, bytes, sizeof bytes);
	bytes[model_row(&model, 2)->at.ref.offset + 600] ^= 1;
	store(SEG1, bytes, n);
	remove_file(body_path(4));
	assert_int_equal(spool_verify(bed.w, str_z(bed.dir), &to, &sum), ERR_NONE);
	assert_int_equal(sum.damaged, 2);
	assert_int_equal(sum.live, 2);
}

static void test_tools(void **state)
{
	run(tools, NULL);
}

struct replayed {
	uint64_t messages, states, last_id;
};

static enum err replayed_message(void *arg, const struct envelope *env, const struct spool_ref *ref)
{
	struct replayed *r = arg;
	r->messages++;
	assert_true(env->id > r->last_id);
	r->last_id = env->id;
	assert_str(env->recipients[0].target.mailbox, STR("example.org/user"));
	return ERR_NONE;
}

static enum err replayed_state(void *arg, uint64_t id, const struct spool_state *st, uint64_t segment)
{
	struct replayed *r = arg;
	r->states++;
	assert_str(st->by, STR("local"));
	assert_str(st->address, STR("user@example.org"));
	return ERR_NONE;
}

/* coroutine */
static void replay(void *arg)
{
	struct spool *sp = open_spool(50000);
	struct spool_state st = { .state = RCPT_STATE_DELIVERED, .address = STR("user@example.org"), .by = STR("local") };
	spool_history_saved(sp, 1);
	for (uint64_t id = 1; id <= 300; id++) {
		assert_int_equal(put(sp, id, 1, 500), ERR_NONE);
		model_row(&model, id)->ending = true;
		assert_int_equal(spool_add_gone(sp, id, &st, 1), ERR_NONE);
	}
	assert_int_equal(spool_flush(sp), ERR_NONE);
	struct replayed seen = { 0 };
	struct spool_replay to = { .arg = &seen, .replay_message = replayed_message, .replay_state = replayed_state };
	assert_int_equal(spool_replay(sp, 1, &to), ERR_NONE);
	assert_int_equal(seen.messages, 300);
	assert_int_equal(seen.states, 300);
	spool_close(sp);
}

static void test_replay(void **state)
{
	run(replay, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strange_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_batch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_checkpoints, setup, teardown),
		cmocka_unit_test_setup_teardown(test_body_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compaction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_history, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tools, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
