/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, gauges and histograms of one process. They are registered at start and live as long as
 * the registry; counting is a plain addition through the handle.
 *
 * Registering never gives NULL: when it fails (no memory, too many) the handle is one that nobody
 * prints, and metrics_err() says so, once, at the end of the registrations.
 *
 * Names and help are our own; `labels` is text like `verb="mail",class="2"`, made with
 * metrics_label() where a value is not ours, and {NULL,0} for none. The same name and labels give
 * the same handle. Source: Prometheus, text-based exposition format 0.0.4.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/buf.h"

struct metrics;

struct counter {
	uint64_t n;
};
struct gauge {
	int64_t n;
};

/* Upper bounds, ascending, in the unit counted; printed divided by per_unit, a power of ten up to
 * 10^9: seconds counted in ms have 1000. Static: it outlives the registry. */
#define HISTOGRAM_BOUNDS_MAX 24
struct histogram_shape {
	uint32_t n_bounds;
	uint32_t per_unit;
	uint64_t bounds[HISTOGRAM_BOUNDS_MAX];
};
struct histogram {
	const struct histogram_shape *shape;
	uint64_t sum;
	uint64_t *buckets; /* n_bounds + 1, not cumulative; the last is above all bounds */
};

/* `common` is printed first among the labels of each; copied. NULL when there is no memory. */
struct metrics *metrics_new(struct mem *mem, struct str common);
void metrics_free(struct metrics *m);
struct counter *metrics_counter(struct metrics *m, const char *name, struct str labels,
				const char *help);
struct gauge *metrics_gauge(struct metrics *m, const char *name, struct str labels,
			    const char *help);
struct histogram *metrics_histogram(struct metrics *m, const char *name, struct str labels,
				    const char *help, const struct histogram_shape *shape);
/* ERR_NONE, ERR_NO_MEMORY or ERR_LIMIT. */
enum err metrics_err(const struct metrics *m) MUST_CHECK;

static inline void counter_add(struct counter *c, uint64_t n)
{
	c->n += n;
}
static inline void gauge_add(struct gauge *g, int64_t n)
{
	g->n += n;
}
static inline void gauge_set(struct gauge *g, int64_t n)
{
	g->n = n;
}
void histogram_add(struct histogram *h, uint64_t value);

/* name="value" with the value escaped, after a comma when b is not empty. */
void metrics_label(struct buf *b, const char *name, struct str value);
/* All, in the order of registration, those of one name together. */
void metrics_print(const struct metrics *m, struct buf *b);

#endif
