/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of last attempts: see reasons.h. Runs in queue. */
#include "queue/reasons.h"

#define ENHANCED_MAX 16u
#define TEXT_MAX 400u

struct reason {
	uint32_t refs, number;
	uint16_t enhanced_n, n; /* n: both, joined */
	char bytes[];
};

void reasons_open(struct reasons *r, struct mem *mem, struct sip_key key)
{
	*r = (struct reasons){ .mem = mem, .n = 1 };
	r->by_text = table_make(mem, key, REASONS_MAX + 1);
}

void reasons_close(struct reasons *r)
{
	for (uint32_t i = 0; i < r->n && r->v; i++)
		mem_free(r->mem, r->v[i]);
	mem_free(r->mem, r->v);
	table_free(&r->by_text);
}

static struct reason *at(const struct reasons *r, uint32_t number)
{
	return number > 0 && number < r->n && r->v ? r->v[number] : NULL;
}

static uint32_t free_number(struct reasons *r)
{
	for (uint32_t i = r->first_free; i > 0 && i < r->n; i++)
		if (!r->v[i]) {
			r->first_free = i + 1;
			return i;
		}
	r->first_free = 0;
	if (r->n >= r->cap) {
		uint32_t cap = r->cap ? r->cap * 2 : 64;
		struct reason **v = mem_resize(r->mem, r->v, cap * sizeof *v);
		if (!v)
			return REASON_NONE;
		if (r->cap == 0)
			v[0] = NULL;
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n] = NULL;
	return r->n++;
}

static uint32_t add(struct reasons *r, struct str key, size_t enhanced_n)
{
	struct reason *x = mem_alloc_raw(r->mem, sizeof *x + key.n);
	if (!x)
		return REASON_NONE;
	uint32_t number = free_number(r);
	*x = (struct reason){ .refs = 1, .number = number, .enhanced_n = (uint16_t)enhanced_n, .n = (uint16_t)key.n };
	memcpy(x->bytes, key.p, key.n);
	if (number == REASON_NONE || table_put(&r->by_text, str_of(x->bytes, x->n), x) != ERR_NONE) {
		mem_free(r->mem, x);
		return REASON_NONE;
	}
	r->v[number] = x;
	return number;
}

uint32_t reason_get(struct reasons *r, struct str enhanced, struct str text)
{
	char key[ENHANCED_MAX + 1 + TEXT_MAX];
	if (enhanced.n == 0 && text.n == 0)
		return REASON_NONE;
	if (r->by_text.n >= REASONS_MAX)
		text = STR("one of very many reasons: see godwit trace");
	enhanced = str_sub(enhanced, 0, ENHANCED_MAX);
	text = str_sub(text, 0, TEXT_MAX);
	struct buf b = buf_fixed(key, sizeof key);
	buf_add(&b, enhanced);
	buf_add_char(&b, ' '); /* no code has one: so that no two reasons share a key */
	buf_add(&b, text);
	struct reason *x = table_get(&r->by_text, buf_str(&b));
	if (!x)
		return add(r, buf_str(&b), enhanced.n);
	x->refs++;
	return x->number;
}

void reason_drop(struct reasons *r, uint32_t number)
{
	struct reason *x = at(r, number);
	if (!x || --x->refs > 0)
		return;
	(void)table_del(&r->by_text, str_of(x->bytes, x->n));
	r->v[number] = NULL;
	if (r->first_free == 0 || number < r->first_free)
		r->first_free = number;
	mem_free(r->mem, x);
}

struct str reason_enhanced(const struct reasons *r, uint32_t number)
{
	const struct reason *x = at(r, number);
	return x ? str_of(x->bytes, x->enhanced_n) : str_of("", 0);
}

struct str reason_text(const struct reasons *r, uint32_t number)
{
	const struct reason *x = at(r, number);
	return x ? str_of(x->bytes + x->enhanced_n + 1, (size_t)x->n - x->enhanced_n - 1u) : str_of("", 0);
}
