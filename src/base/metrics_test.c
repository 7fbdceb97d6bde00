/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the exposition text, same name same handle, and registrations that fail. */
#include "base/metrics.h"

#include "base/test.h"

static const struct histogram_shape seconds = {
	.n_bounds = 3,
	.per_unit = 1000,
	.bounds = { 5, 100, 2500 },
};

static void prints(void **state)
{
	struct mem *mem = mem_new(0);
	struct metrics *m = metrics_new(mem, STR("process=\"smtpd\""));
	struct counter *ok =
		metrics_counter(m, "replies_total", STR("class=\"2\""), "Replies sent.");
	struct gauge *open = metrics_gauge(m, "sessions", STR_NONE, "Now\nopen.");
	struct counter *bad =
		metrics_counter(m, "replies_total", STR("class=\"5\""), "Replies sent.");
	struct histogram *h = metrics_histogram(m, "took_seconds", STR_NONE, "Time.", &seconds);
	struct buf b = buf_grow(mem, 10000);

	assert_int_equal(metrics_err(m), ERR_NONE);
	assert_ptr_equal(metrics_counter(m, "replies_total", STR("class=\"2\""), ""), ok);
	assert_ptr_equal(metrics_histogram(m, "took_seconds", STR_NONE, "", &seconds), h);
	counter_add(ok, 3);
	counter_add(bad, UINT64_MAX);
	gauge_add(open, 2);
	gauge_add(open, -5);
	histogram_add(h, 0);
	histogram_add(h, 5);
	histogram_add(h, 6);
	histogram_add(h, 9000);
	metrics_print(m, &b);
	assert_str(buf_str(&b),
		   STR("# HELP replies_total Replies sent.\n# TYPE replies_total counter\n"
		       "replies_total{process=\"smtpd\",class=\"2\"} 3\n"
		       "replies_total{process=\"smtpd\",class=\"5\"} 18446744073709551615\n"
		       "# HELP sessions Now\\nopen.\n# TYPE sessions gauge\n"
		       "sessions{process=\"smtpd\"} -3\n"
		       "# HELP took_seconds Time.\n# TYPE took_seconds histogram\n"
		       "took_seconds_bucket{process=\"smtpd\",le=\"0.005\"} 2\n"
		       "took_seconds_bucket{process=\"smtpd\",le=\"0.1\"} 3\n"
		       "took_seconds_bucket{process=\"smtpd\",le=\"2.5\"} 3\n"
		       "took_seconds_bucket{process=\"smtpd\",le=\"+Inf\"} 4\n"
		       "took_seconds_sum{process=\"smtpd\"} 9.011\n"
		       "took_seconds_count{process=\"smtpd\"} 4\n"));
	buf_free(&b);
	metrics_free(m);
	assert_int_equal(mem_blocks(mem), 0);
	mem_destroy(mem);
}

static void labels(void **state)
{
	char room[200];
	struct buf b = buf_fixed(room, sizeof room);

	metrics_label(&b, "a", STR("x\"y\\z\n"));
	metrics_label(&b, "b", STR("\xc3\xa4"));
	metrics_label(&b, "c", STR("\xff"));
	assert_str(buf_str(&b), STR("a=\"x\\\"y\\\\z\\n\",b=\"\xc3\xa4\",c=\"\\\\xff\""));
}

/* Whichever allocation fails: every handle can be used, and the error is told. */
static void memory_fails(void **state)
{
	for (uint64_t nth = 1;; nth++) {
		struct mem *mem = mem_new(0);

		mem_fail_at(mem, nth, UINT64_MAX);

		struct metrics *m = metrics_new(mem, STR("a=\"b\""));

		if (m) {
			for (int i = 0; i < 40; i++) {
				char name[16];

				snprintf(name, sizeof name, "n%d", i);
				counter_add(metrics_counter(m, name, STR_NONE, "help"), 1);
				name[0] = 'h';
				histogram_add(metrics_histogram(m, name, STR_NONE, "", &seconds),
					      1);
			}
			if (metrics_err(m) == ERR_NONE) {
				metrics_free(m);
				mem_destroy(mem);
				return;
			}
			assert_int_equal(metrics_err(m), ERR_NO_MEMORY);
			metrics_free(m);
		}
		assert_int_equal(mem_blocks(mem), 0);
		mem_destroy(mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prints),
		cmocka_unit_test(labels),
		cmocka_unit_test(memory_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
