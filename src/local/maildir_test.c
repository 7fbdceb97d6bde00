/* SPDX-License-Identifier: Apache-2.0 */
/* Maildir on a real file system: content, names, repetition, and what must not be delivered to (H101). */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/test.h"
#include "local/maildir.h"

struct fixture {
	struct world *w;
	char root[64], other[64];
	int root_fd;
};

static void sh(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void sh(const char *fmt, ...)
{
	char line[512];
	va_list args;
	va_start(args, fmt);
	vsnprintf(line, sizeof line, fmt, args);
	va_end(args);
	assert_int_equal(system(line), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	strcpy(f->root, "/tmp/godwit-maildir.XXXXXX");
	strcpy(f->other, "/tmp/godwit-other.XXXXXX");
	assert_non_null(mkdtemp(f->root));
	assert_non_null(mkdtemp(f->other));
	f->w = world_linux_new();
	assert_int_equal(world_open(f->w, WORLD_ABSOLUTE, str_z(f->root), WORLD_READ | WORLD_DIR, 0, &f->root_fd), ERR_NONE);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	world_close(f->w, f->root_fd);
	world_linux_free(f->w);
	sh("rm -rf %s %s", f->root, f->other);
	free(f);
	return 0;
}

static struct maildir_job job(const char *mailbox, const char *name)
{
	return (struct maildir_job){ .mailbox = str_z(mailbox), .name = str_z(name), .body_fd = -1,
				     .parts = { STR("Return-Path: <>\n"), STR("Received: x\n"), STR("\nbody\n") } };
}

static void deliver(struct fixture *f, struct maildir_job *jobs, size_t n)
{
	struct maildir_batch *b = calloc(1, sizeof *b);
	b->root_fd = f->root_fd;
	b->uid = geteuid();
	for (size_t i = 0; i < n; i++)
		b->jobs[b->n++] = &jobs[i];
	maildir_write_batch(f->w, b);
	free(b);
}

static void assert_content(struct fixture *f, const char *path, const char *expected)
{
	char full[256], text[4096] = "";
	snprintf(full, sizeof full, "%s/%s", f->root, path);
	FILE *file = fopen(full, "r");
	assert_non_null(file);
	size_t n = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	assert_int_equal(n, strlen(expected));
	assert_string_equal(text, expected);
}

#define CONTENT "Return-Path: <>\nReceived: x\n\nbody\n"

static void one_and_many(void **state)
{
	struct fixture *f = *state;
	struct maildir_job one = job("a.org/u", "1");
	deliver(f, &one, 1);
	assert_int_equal(one.err, ERR_NONE);
	assert_content(f, "a.org/u/new/1", CONTENT);
	struct maildir_job many[3] = { job("a.org/u", "2"), job("a.org/v", "2"), job("b.org/w", "2") };
	deliver(f, many, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(many[i].err, ERR_NONE);
	assert_content(f, "b.org/w/new/2", CONTENT);
	sh("test $(find %s -type f | wc -l) = 4 && test -z \"$(ls %s/a.org/u/tmp)\"", f->root, f->root);
}

/* D2: a crash before the report, or in mid-write, and the reader's move to cur/. */
static void again_after_a_crash(void **state)
{
	struct fixture *f = *state;
	struct maildir_job first = job("a.org/u", "1"), second = job("a.org/u", "1"), third = job("a.org/u", "1");
	deliver(f, &first, 1);
	sh("echo torn >%s/a.org/u/tmp/1", f->root);
	second.repeated = true;
	deliver(f, &second, 1);
	assert_int_equal(second.err, ERR_NONE);
	sh("test $(find %s -type f | wc -l) = 1", f->root);
	assert_content(f, "a.org/u/new/1", CONTENT);
	sh("mv %s/a.org/u/new/1 %s/a.org/u/cur/1:2,S", f->root, f->root);
	third.repeated = true;
	deliver(f, &third, 1);
	assert_int_equal(third.err, ERR_NONE);
	assert_true(third.already);
	sh("test $(find %s -type f | wc -l) = 1", f->root);
}

static void large_body_from_a_file(void **state)
{
	struct fixture *f = *state;
	char path[128], buffer[MAILDIR_COPY_BYTES + 16];
	snprintf(path, sizeof path, "%s/body", f->other);
	FILE *file = fopen(path, "w");
	for (int i = 0; i < 50000; i++) /* line ends fall on every place of the copy buffer */
		fprintf(file, "line %d%.*s\r\n", i, i % 7, "xxxxxxx");
	fputs("a\rb\r", file);
	fclose(file);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	struct maildir_job j = job("a.org/u", "1");
	j.parts[2] = STR("");
	j.body_fd = open(path, O_RDONLY);
	j.body_fd_bytes = (uint64_t)st.st_size;
	j.copy_buffer = buffer;
	deliver(f, &j, 1);
	close(j.body_fd);
	assert_int_equal(j.err, ERR_NONE);
	sh("{ sed 's/\\r$//' %s; printf '\\r'; } >%s/want && tail -n +3 %s/a.org/u/new/1 | cmp - %s/want", path, f->other, f->root, f->other);
}

static void assert_refused(struct fixture *f, const char *mailbox)
{
	struct maildir_job j = job(mailbox, "1");
	deliver(f, &j, 1);
	if (j.err == ERR_NONE)
		fail_msg("delivered to %s", mailbox);
}

/* H27, H101: each must fail without a byte written outside the mail root. */
static void refuses_what_it_cannot_trust(void **state)
{
	struct fixture *f = *state;
	sh("mkdir -p %s/a.org %s/new %s/tmp && ln -s %s %s/a.org/link", f->root, f->other, f->other, f->other, f->root);
	sh("mkdir -p %s/a.org/half/cur && ln -s %s/new %s/a.org/half/new && ln -s %s/tmp %s/a.org/half/tmp", f->root, f->other,
	   f->root, f->other, f->root);
	sh("mkdir -m 777 %s/a.org/open && chmod 777 %s/a.org/open && mkdir %s/a.org/open/tmp", f->root, f->root, f->root);
	sh("mkfifo %s/a.org/fifo", f->root);
	sh("mkdir -p %s/a.org/dir/tmp %s/a.org/dir/new/1/x %s/a.org/dir/cur", f->root, f->root, f->root);
	sh("echo x >%s/a.org/file && echo x >%s/hard && mkdir -p %s/a.org/twice && ln %s/hard %s/a.org/twice/tmp", f->root, f->other, f->root,
	   f->other, f->root);
	if (geteuid() == 0)
		sh("mknod %s/a.org/device c 1 3 && mkdir -p %s/a.org/foreign/tmp %s/a.org/foreign/new && chown -R 12345 %s/a.org/foreign", f->root,
		   f->root, f->root, f->root);
	static const char *const bad[] = { "a.org/file", "a.org/twice", "a.org/device/x", "a.org/link", "a.org/half", "a.org/open", "a.org/fifo", "../escape", "a.org/../../escape",
					   "/etc", "", "a.org/dir" };
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_refused(f, bad[i]);
	if (geteuid() == 0) {
		assert_refused(f, "a.org/device");
		assert_refused(f, "a.org/foreign");
	}
	assert_content(f, "a.org/file", "x\n");
	sh("test \"$(cat %s/hard)\" = x && rm %s/hard", f->other, f->other);
	sh("test $(find %s -type f | wc -l) = 0 && test ! -e %s/../escape", f->other, f->root);
}

static void a_fifo_or_link_in_tmp_is_not_followed(void **state)
{
	struct fixture *f = *state;
	struct maildir_job j = job("a.org/u", "0");
	deliver(f, &j, 1);
	sh("mkfifo %s/a.org/u/tmp/1 && ln -s %s/target %s/a.org/u/tmp/2", f->root, f->other, f->root);
	struct maildir_job two[2] = { job("a.org/u", "1"), job("a.org/u", "2") };
	deliver(f, two, 2);
	assert_int_equal(two[0].err, ERR_NONE);
	assert_int_equal(two[1].err, ERR_NONE);
	assert_content(f, "a.org/u/new/1", CONTENT);
	sh("test -f %s/a.org/u/new/2 && test ! -L %s/a.org/u/new/2 && test ! -e %s/target", f->root, f->root, f->other);
}

struct swapper {
	char path[128], other[128];
	atomic_bool stop;
};

/* A mailbox's new/ and tmp/ turn into links to elsewhere and back, all the time. */
static void *swap(void *arg)
{
	struct swapper *s = arg;
	char a[160], b[160];
	for (size_t i = 0; !atomic_load(&s->stop); i++) {
		const char *name = i % 2 ? "new" : "tmp";
		snprintf(a, sizeof a, "%s/%s", s->path, name);
		snprintf(b, sizeof b, "%s/was-%s", s->path, name);
		if (rename(a, b) != 0 || symlink(s->other, a) != 0 || unlink(a) != 0 || rename(b, a) != 0)
			break;
	}
	return NULL;
}

/* H101: a race of links against a delivery is never won: openat2 resolves beneath the root and follows none. */
static void a_race_of_links_leads_nowhere(void **state)
{
	struct fixture *f = *state;
	struct swapper s = { .stop = false };
	pthread_t thread;
	char name[32];
	struct maildir_job first = job("a.org/u", "0");
	deliver(f, &first, 1);
	snprintf(s.path, sizeof s.path, "%s/a.org/u", f->root);
	snprintf(s.other, sizeof s.other, "%s", f->other);
	assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
	size_t good = 0;
	for (int i = 1; i <= 1000; i++) {
		snprintf(name, sizeof name, "%d", i);
		struct maildir_job many[2] = { job("a.org/u", name), job("a.org/v", name) };
		deliver(f, many, 1 + i % 2);
		good += many[0].err == ERR_NONE;
		if (i % 2)
			assert_int_equal(many[1].err, ERR_NONE);
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	sh("test -z \"$(ls -A %s)\" && test $(ls %s/a.org/u/new %s/a.org/u/was-new 2>/dev/null | grep -c '^[0-9]') -ge %zu", f->other, f->root,
	   f->root, good);
}

static void one_bad_mailbox_does_not_hurt_the_batch(void **state)
{
	struct fixture *f = *state;
	struct maildir_job jobs[3] = { job("a.org/u", "1"), job("../x", "1"), job("a.org/v", "1") };
	deliver(f, jobs, 3);
	assert_int_equal(jobs[0].err, ERR_NONE);
	assert_int_not_equal(jobs[1].err, ERR_NONE);
	assert_int_equal(jobs[2].err, ERR_NONE);
}

static void names_are_made_from_id_and_recipient(void **state)
{
	char text[MAILDIR_NAME_MAX], again[MAILDIR_NAME_MAX];
	struct buf a = buf_fixed(text, sizeof text), b = buf_fixed(again, sizeof again);
	maildir_name(&a, 1700000000123, 42, 7, STR("mx.example.org"));
	assert_true(str_starts(buf_str(&a), STR("1700000000.M")) && str_ends(buf_str(&a), STR("R7.mx.example.org")));
	maildir_name(&b, 1700000000123, 42, 8, STR("mx.example.org"));
	assert_false(str_eq(buf_str(&a), buf_str(&b)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_and_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(again_after_a_crash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(large_body_from_a_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_what_it_cannot_trust, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_fifo_or_link_in_tmp_is_not_followed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_race_of_links_leads_nowhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_bad_mailbox_does_not_hurt_the_batch, set_up, tear_down),
		cmocka_unit_test(names_are_made_from_id_and_recipient),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
