/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry: a list of families (one name, type and help), each a list of samples (one label
 * set). Only our own code registers; nothing here is hostile but label values, which
 * metrics_label() escapes.
 */
#include "base/metrics.h"

#include "base/arena.h"
#include "base/list.h"

#define METRICS_MAX_BYTES ((size_t)1 << 20)

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };
static const char *const kind_names[] = { "counter", "gauge", "histogram" };

struct sample {
	struct list link;
	struct str labels;
	union {
		struct counter counter;
		struct gauge gauge;
		struct histogram histogram;
	};
};

struct family {
	struct list link;
	struct list samples;
	struct str name, help;
	enum kind kind;
};

struct metrics {
	struct mem *mem;
	struct arena arena;
	struct list families;
	struct str common;
	struct sample lost; /* what a failed registration hands out */
	uint64_t lost_bucket;
};

/* A histogram without bounds: all goes into the one bucket. */
static const struct histogram_shape shapeless = { .per_unit = 1 };

struct metrics *metrics_new(struct mem *mem, struct str common)
{
	struct metrics *m = mem_alloc(mem, sizeof *m);

	if (!m)
		return NULL;
	m->mem = mem;
	m->arena = arena_make(mem, METRICS_MAX_BYTES);
	list_init(&m->families);
	m->common = arena_str(&m->arena, common);
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	arena_close(&m->arena);
	mem_free(m->mem, m);
}

enum err metrics_err(const struct metrics *m)
{
	return arena_err(&m->arena);
}

static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alpha(s.p[i]) && s.p[i] != '_' && (i == 0 || !ascii_is_digit(s.p[i])))
			return false;
	return s.n > 0;
}

static struct family *family_find(struct metrics *m, struct str name)
{
	LIST_EACH (&m->families, it) {
		struct family *f = (struct family *)it; /* link is the first member, below too */

		if (str_eq(f->name, name))
			return f;
	}
	return NULL;
}

static struct family *family_get(struct metrics *m, enum kind kind, struct str name,
				 struct str help)
{
	struct family *f = family_find(m, name);

	ASSERT(is_name(name));
	if (f) {
		ASSERT(f->kind == kind);
		return f;
	}
	f = ARENA_NEW(&m->arena, struct family);
	if (!f)
		return NULL;
	list_init(&f->samples);
	f->kind = kind;
	f->name = arena_str(&m->arena, name);
	f->help = arena_str(&m->arena, help);
	if (arena_err(&m->arena))
		return NULL;
	list_push_back(&m->families, &f->link);
	return f;
}

/* The sample with these labels, which for a new histogram still lacks its buckets; never NULL. */
static struct sample *sample_get(struct metrics *m, enum kind kind, const char *name,
				 struct str labels, const char *help)
{
	struct family *f = family_get(m, kind, str_z(name), str_z(help));
	struct sample *s;

	if (!f)
		return &m->lost;
	LIST_EACH (&f->samples, it) {
		s = (struct sample *)it;
		if (str_eq(s->labels, labels))
			return s;
	}
	s = ARENA_NEW(&m->arena, struct sample);
	if (!s)
		return &m->lost;
	s->labels = arena_str(&m->arena, labels);
	if (arena_err(&m->arena))
		return &m->lost;
	list_push_back(&f->samples, &s->link);
	return s;
}

struct counter *metrics_counter(struct metrics *m, const char *name, struct str labels,
				const char *help)
{
	return &sample_get(m, KIND_COUNTER, name, labels, help)->counter;
}

struct gauge *metrics_gauge(struct metrics *m, const char *name, struct str labels,
			    const char *help)
{
	return &sample_get(m, KIND_GAUGE, name, labels, help)->gauge;
}

static struct histogram *histogram_lost(struct metrics *m)
{
	m->lost.histogram = (struct histogram){ .shape = &shapeless, .buckets = &m->lost_bucket };
	return &m->lost.histogram;
}

static bool is_power_of_ten(uint32_t n)
{
	while (n > 0 && n % 10 == 0)
		n /= 10;
	return n == 1;
}

struct histogram *metrics_histogram(struct metrics *m, const char *name, struct str labels,
				    const char *help, const struct histogram_shape *shape)
{
	ASSERT(shape->n_bounds <= HISTOGRAM_BOUNDS_MAX && is_power_of_ten(shape->per_unit));

	/* before the sample: one that is in the list has buckets */
	uint64_t *buckets = ARENA_ARRAY(&m->arena, uint64_t, shape->n_bounds + 1);

	if (!buckets)
		return histogram_lost(m);

	struct sample *s = sample_get(m, KIND_HISTOGRAM, name, labels, help);

	if (s == &m->lost)
		return histogram_lost(m);
	if (!s->histogram.buckets)
		s->histogram = (struct histogram){ .shape = shape, .buckets = buckets };
	return &s->histogram;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	uint32_t i = 0;

	while (i < h->shape->n_bounds && value > h->shape->bounds[i])
		i++;
	h->buckets[i]++;
	h->sum += value;
}

static void add_escaped(struct buf *b, struct str s, bool quotes)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n') {
			buf_add(b, STR("\\n"));
			continue;
		}
		if (s.p[i] == '\\' || (quotes && s.p[i] == '"'))
			buf_add_char(b, '\\');
		buf_add_char(b, s.p[i]);
	}
}

void metrics_label(struct buf *b, const char *name, struct str value)
{
	ASSERT(is_name(str_z(name)));
	if (b->n > 0)
		buf_add_char(b, ',');
	buf_add(b, str_z(name));
	buf_add(b, STR("=\""));
	if (str_is_utf8(value)) {
		add_escaped(b, value, true);
	} else { /* the format is UTF-8 throughout */
		char text[256];
		struct buf safe = buf_fixed(text, sizeof text);

		buf_add_safe(&safe, value, sizeof text / 4);
		add_escaped(b, buf_str(&safe), true);
	}
	buf_add_char(b, '"');
}

/* v / per_unit, exactly: 2500 of 1000 is 2.5. */
static void add_scaled(struct buf *b, uint64_t v, uint32_t per_unit)
{
	uint64_t rest = v % per_unit;

	buf_add_u64(b, v / per_unit);
	if (rest)
		buf_add_char(b, '.');
	for (uint64_t digit_unit = per_unit / 10; rest; digit_unit /= 10) {
		buf_add_char(b, (char)('0' + rest / digit_unit));
		rest %= digit_unit;
	}
}

/* name + suffix + {common,labels,le="…"} + " ". le is empty but for buckets. */
static void add_start(const struct metrics *m, const struct family *f, const struct sample *s,
		      const char *suffix, struct str le, struct buf *b)
{
	const struct str parts[] = { m->common, s->labels, le };
	char before = '{';

	buf_add(b, f->name);
	buf_add(b, str_z(suffix));
	for (int i = 0; i < 3; i++) {
		if (parts[i].n == 0)
			continue;
		buf_add_char(b, before);
		buf_add(b, parts[i]);
		before = ',';
	}
	if (before == ',')
		buf_add_char(b, '}');
	buf_add_char(b, ' ');
}

static void add_count(const struct metrics *m, const struct family *f, const struct sample *s,
		      const char *suffix, struct str le, uint64_t n, struct buf *b)
{
	add_start(m, f, s, suffix, le, b);
	buf_add_u64(b, n);
	buf_add_char(b, '\n');
}

static void print_histogram(const struct metrics *m, const struct family *f, const struct sample *s,
			    struct buf *b)
{
	const struct histogram_shape *shape = s->histogram.shape;
	uint64_t count = 0;

	for (uint32_t i = 0; i < shape->n_bounds; i++) {
		char text[48];
		struct buf le = buf_fixed(text, sizeof text);

		buf_add(&le, STR("le=\""));
		add_scaled(&le, shape->bounds[i], shape->per_unit);
		buf_add_char(&le, '"');
		count += s->histogram.buckets[i];
		add_count(m, f, s, "_bucket", buf_str(&le), count, b);
	}
	count += s->histogram.buckets[shape->n_bounds];
	add_count(m, f, s, "_bucket", STR("le=\"+Inf\""), count, b);
	add_start(m, f, s, "_sum", STR_NONE, b);
	add_scaled(b, s->histogram.sum, shape->per_unit);
	buf_add_char(b, '\n');
	add_count(m, f, s, "_count", STR_NONE, count, b);
}

static void print_sample(const struct metrics *m, const struct family *f, const struct sample *s,
			 struct buf *b)
{
	switch (f->kind) {
	case KIND_COUNTER:
		add_count(m, f, s, "", STR_NONE, s->counter.n, b);
		break;
	case KIND_GAUGE:
		add_start(m, f, s, "", STR_NONE, b);
		buf_add_i64(b, s->gauge.n);
		buf_add_char(b, '\n');
		break;
	case KIND_HISTOGRAM:
		print_histogram(m, f, s, b);
		break;
	}
}

void metrics_print(const struct metrics *m, struct buf *b)
{
	LIST_EACH (&m->families, it) {
		const struct family *f = (const struct family *)it;

		buf_add(b, STR("# HELP "));
		buf_add(b, f->name);
		buf_add_char(b, ' ');
		add_escaped(b, f->help, false);
		buf_add(b, STR("\n# TYPE "));
		buf_add(b, f->name);
		buf_add_char(b, ' ');
		buf_add(b, str_z(kind_names[f->kind]));
		buf_add_char(b, '\n');
		LIST_EACH (&f->samples, sit)
			print_sample(m, f, (const struct sample *)sit, b);
	}
}
