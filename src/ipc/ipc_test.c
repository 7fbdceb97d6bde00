/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between two ends in one process: calls, notes, descriptors, windows, death, garbage. */
#include "base/test.h"
#include "ipc/calls.h"

struct fixture {
	struct world *w;
	struct loop *l;
	struct ipc *smtpd, *queue; /* each end's view: smtpd calls, queue serves */
	int raw_fd;		   /* the other end, for tests that speak bytes */
	size_t submitted, aborted, closed, bytes;
	struct co_queue gate;
	bool hold_answers;
	size_t in_flight, most_in_flight, answered;
};

static YIELDS enum err serve_submit(void *self, struct ipc *from, const struct queue_submit_in *in, struct arena *arena,
			     struct queue_submit_out *out)
{
	struct fixture *f = self;
	assert_int_equal(ipc_peer_role(from), ROLE_SMTPD);
	f->submitted++;
	f->bytes += in->body.n;
	f->in_flight++;
	if (f->in_flight > f->most_in_flight)
		f->most_in_flight = f->in_flight;
	while (f->hold_answers)
		if (co_wait(&f->gate) != ERR_NONE)
			break;
	f->in_flight--;
	return in->envelope.id == 13 ? ERR_NO_SPACE : ERR_NONE;
}

static enum err serve_file(void *self, struct ipc *from, const struct queue_file_in *in, struct arena *arena,
			   struct queue_file_out *out)
{
	struct fixture *f = self;
	return world_open(f->w, WORLD_ABSOLUTE, STR("/dev/null"), WORLD_WRITE, 0, &out->file);
}

static void serve_abort(void *self, struct ipc *from, const struct queue_abort_in *in)
{
	struct fixture *f = self;
	f->aborted += in->id;
}

static const struct ipc_handlers handlers = {
	.queue_submit = serve_submit, .queue_file = serve_file, .queue_abort = serve_abort
};

static enum err dispatch(void *self, struct ipc_request *rq)
{
	return ipc_serve(&handlers, ROLE_QUEUE, self, rq);
}

static void on_closed(void *self, struct ipc *ch)
{
	struct fixture *f = self;
	f->closed++;
	if (f->smtpd == ch)
		f->smtpd = NULL;
}

static struct ipc *open_end(struct fixture *f, int fd, enum role peer, bool serves)
{
	struct ipc *ch;
	struct ipc_config cfg = { .loop = f->l, .scope = co_scope(), .fd = fd, .peer_role = (uint8_t)peer, .self = f,
				  .dispatch = serves ? dispatch : NULL, .arena_max = 1 << 20, .on_closed = on_closed };
	assert_int_equal(ipc_open(&cfg, &ch), ERR_NONE);
	return ch;
}

static void open_both(struct fixture *f)
{
	int fds[2];
	assert_int_equal(world_pair(f->w, fds), ERR_NONE);
	f->smtpd = open_end(f, fds[0], ROLE_QUEUE, false);
	f->queue = open_end(f, fds[1], ROLE_SMTPD, true);
}

static void run(void (*fn)(void *))
{
	struct world *w = world_linux_new();
	struct fixture *f = mem_alloc(world_mem(w), sizeof *f);
	assert_non_null(f);
	f->w = w;
	co_queue_init(&f->gate);
	assert_int_equal(loop_new(w, &f->l), ERR_NONE);
	loop_run(f->l, fn, f);
	loop_free(f->l);
	mem_free(world_mem(w), f);
	assert_int_equal(mem_blocks(world_mem(w)), 1);
	world_linux_free(w);
}

static YIELDS enum err submit(struct fixture *f, uint64_t id, struct str body)
{
	struct arena ARENA_SCOPED a = arena_make(world_mem(f->w), 65536);
	struct envelope_rcpt rcpt = { .forward_path = STR("a@b"), .target = { TARGET_KIND_MAILBOX, STR("a@b"), STR("b/a") } };
	struct queue_submit_in in = { .envelope = { .id = id, .recipients = &rcpt, .recipients_n = 1 }, .body = body, .body_bytes = body.n };
	struct queue_submit_out out;
	return call_queue_submit(f->smtpd, &in, &a, &out);
}

/* coroutine */
static void calls_and_notes(void *arg)
{
	struct fixture *f = arg;
	char big[IPC_BODY_PART];
	memset(big, 'x', sizeof big);
	open_both(f);
	assert_int_equal(submit(f, 1, STR("hello")), ERR_NONE);
	assert_int_equal(submit(f, 2, str_of(big, sizeof big)), ERR_NONE);
	assert_int_equal(submit(f, 13, STR("")), ERR_NO_SPACE); /* the handler's error arrives as it is */
	assert_int_equal(note_queue_abort(f->smtpd, &(struct queue_abort_in){ 40 }), ERR_NONE);
	assert_int_equal(note_queue_abort(f->smtpd, &(struct queue_abort_in){ 2 }), ERR_NONE);
	assert_int_equal(submit(f, 3, STR("x")), ERR_NONE);
	assert_int_equal(f->aborted, 42); /* in order: before the answer */
	assert_int_equal(f->submitted, 4);
	assert_int_equal(f->bytes, 5 + sizeof big + 1);
	ipc_close(f->smtpd);
}

static void test_calls_and_notes(void **state)
{
	run(calls_and_notes);
}

/* coroutine */
static void descriptors(void *arg)
{
	struct fixture *f = arg;
	struct arena ARENA_SCOPED a = arena_make(world_mem(f->w), 65536);
	struct queue_file_out out;
	open_both(f);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(call_queue_file(f->smtpd, &(struct queue_file_in){ 1 }, &a, &out), ERR_NONE);
		assert_int_equal(world_write(f->w, out.file, STR("x")), ERR_NONE);
		world_close(f->w, out.file);
	}
	ipc_close(f->queue);
}

static void test_descriptors_travel(void **state)
{
	run(descriptors);
}

/* coroutine */
static void one_of_many(void *arg)
{
	struct fixture *f = arg;
	assert_int_equal(submit(f, 1, STR("0123456789")), ERR_NONE);
	f->answered++;
}

/* coroutine */
static void window(void *arg)
{
	struct fixture *f = arg;
	struct scope s;
	open_both(f);
	f->hold_answers = true;
	scope_open(&s, f->l, co_scope());
	for (unsigned i = 0; i < IPC_WINDOW + 200; i++)
		assert_int_equal(scope_spawn(&s, "m", CO_STACK_SMALL, one_of_many, f), ERR_NONE);
	for (int i = 0; i < 500 && f->in_flight < IPC_WINDOW; i++)
		assert_int_equal(co_sleep_until(world_mono_ns(f->w) + 20 * 1000000LL), ERR_NONE);
	assert_int_equal(co_sleep_until(world_mono_ns(f->w) + 20 * 1000000LL), ERR_NONE); /* and no more come */
	assert_int_equal(f->in_flight, IPC_WINDOW);
	assert_int_equal(ipc_outstanding(f->smtpd), IPC_WINDOW);
	f->hold_answers = false;
	co_wake_all(&f->gate);
	scope_wait(&s);
	scope_close(&s);
	assert_int_equal(f->answered, IPC_WINDOW + 200);
	assert_int_equal(f->most_in_flight, IPC_WINDOW);
	ipc_close(f->smtpd);
}

static void test_the_window_is_the_back_pressure(void **state)
{
	run(window);
}

/* coroutine */
static void hears_of_death(void *arg)
{
	struct fixture *f = arg;
	assert_int_equal(submit(f, 1, STR("x")), ERR_CLOSED);
	f->answered++;
}

/* coroutine */
static void death(void *arg)
{
	struct fixture *f = arg;
	struct scope s;
	open_both(f);
	f->hold_answers = true;
	scope_open(&s, f->l, co_scope());
	for (int i = 0; i < 5; i++)
		assert_int_equal(scope_spawn(&s, "d", CO_STACK_SMALL, hears_of_death, f), ERR_NONE);
	assert_int_equal(co_sleep_until(world_mono_ns(f->w) + 10 * 1000000LL), ERR_NONE);
	ipc_close(f->queue); /* dies with five calls in its hands */
	scope_wait(&s);
	scope_close(&s);
	assert_int_equal(f->answered, 5);
	assert_null(f->smtpd); /* on_closed was called */
	f->hold_answers = false;
	co_wake_all(&f->gate);
}

static void test_death_fails_pending_calls(void **state)
{
	run(death);
}

/* coroutine */
static void impatience(void *arg)
{
	struct fixture *f = arg;
	open_both(f);
	f->hold_answers = true;
	int64_t before = co_set_deadline(world_mono_ns(f->w) + 5 * 1000000LL);
	assert_int_equal(submit(f, 1, STR("x")), ERR_TIMEOUT);
	co_set_deadline(before);
	f->hold_answers = false;
	co_wake_all(&f->gate);
	assert_int_equal(submit(f, 2, STR("y")), ERR_NONE); /* the late answer was dropped */
	assert_int_equal(ipc_outstanding(f->smtpd), 0);
	ipc_close(f->smtpd);
}

static void test_a_late_answer_is_dropped(void **state)
{
	run(impatience);
}

/* Bytes that a compromised peer might send: each must close the channel, and nothing else (hostile row H104). */
static const struct {
	const char *what;
	struct str bytes;
} garbage[] = {
	{ "empty frame", STR("\0\0\0\0") },
	{ "length beyond the packet", STR("\xff\xff\xff\x7f\0\0\0\0\0\0\0\0") },
	{ "no hello first", STR("\x08\0\0\0\x01\0\x01\0\0\0\0\0") },
	{ "hello of another build", STR("\x0b\0\0\0\0\0\0\0\0\0\0\0abc") },
	{ "answer to nothing", STR("\x08\0\0\0\x02\0\x01\0\x05\0\0\0") },
	{ "unknown kind", STR("\x08\0\0\0\x63\0\x01\0\0\0\0\0") },
	{ "descriptors that did not come", STR("\x08\0\0\0\0\x03\x01\0\0\0\0\0") },
	{ "half a head", STR("\x08\0\0") },
};

/* coroutine */
static void hears_garbage(void *arg)
{
	struct fixture *f = arg;
	for (size_t i = 0; i < COUNT(garbage); i++) {
		int fds[2];
		assert_int_equal(world_pair(f->w, fds), ERR_NONE);
		struct ipc *ch = open_end(f, fds[0], ROLE_SMTPD, true);
		assert_int_equal(world_packet_send(f->w, fds[1], &garbage[i].bytes, 1, NULL, 0), ERR_NONE);
		assert_int_equal(co_sleep_until(world_mono_ns(f->w) + 2 * 1000000LL), ERR_NONE);
		if (f->closed != i + 1)
			fail_msg("not closed: %s", garbage[i].what);
		world_close(f->w, fds[1]);
		(void)ch;
	}
}

static void test_garbage_closes_the_channel(void **state)
{
	run(hears_garbage);
}

static void test_roles_and_pairs(void **state)
{
	assert_true(role_pair(ROLE_SMTPD, ROLE_QUEUE));
	assert_true(role_pair(ROLE_QUEUE, ROLE_LOCAL));
	assert_false(role_pair(ROLE_SMTPD, ROLE_LOCAL)); /* who parses strangers' bytes reaches no mailbox */
	assert_false(role_pair(ROLE_LOCAL, ROLE_LOOKUP));
	assert_int_equal(call_cli_role(CALL_QUEUE_LIST), ROLE_QUEUE);
	assert_int_equal(call_cli_role(CALL_QUEUE_SUBMIT), ROLE_COUNT);
	assert_int_equal(call_cli_role(60000), ROLE_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_and_notes),
		cmocka_unit_test(test_descriptors_travel),
		cmocka_unit_test(test_the_window_is_the_back_pressure),
		cmocka_unit_test(test_death_fails_pending_calls),
		cmocka_unit_test(test_a_late_answer_is_dropped),
		cmocka_unit_test(test_garbage_closes_the_channel),
		cmocka_unit_test(test_roles_and_pairs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
