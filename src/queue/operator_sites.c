/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places that mail goes to, for the operator: those with trouble first, then the busy ones. Runs in
 * queue, called by control; names and reasons are strangers'. Bounded: what one answer holds.
 */
#include "queue/queue_internal.h"

#define ROWS_MAX 60u
#define WAITING_MAX 10000u /* is all that is counted: the lists know no length */

/* Whether x comes before y. */
static bool is_before(const struct site *x, const struct site *y, int64_t now_ms)
{
	if (site_in_back_off(x, now_ms) != site_in_back_off(y, now_ms))
		return site_in_back_off(x, now_ms);
	if (x->failures != y->failures)
		return x->failures > y->failures;
	if (x->flying != y->flying)
		return x->flying > y->flying;
	return str_cmp(x->name, y->name) < 0;
}

static bool contains(struct str s, struct str part)
{
	for (size_t i = 0; i + part.n <= s.n; i++)
		if (str_eq_nocase(str_sub(s, i, i + part.n), part))
			return true;
	return false;
}

/* Keeps the first ROWS_MAX, in order. */
static void keep(struct site **best, size_t *n, struct site *site, int64_t now_ms)
{
	size_t i = *n;
	if (i == ROWS_MAX && !is_before(site, best[i - 1], now_ms))
		return;
	if (i == ROWS_MAX)
		i--;
	else
		++*n;
	for (; i > 0 && is_before(site, best[i - 1], now_ms); i--)
		best[i] = best[i - 1];
	best[i] = site;
}

static uint32_t waiting(const struct site *site)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < SITE_SENDERS; i++)
		LIST_EACH(&site->waiting[i], it)
			if (++n == WAITING_MAX)
				return n;
	return n;
}

enum err queue_on_sites(void *self, struct ipc *from UNUSED, const struct queue_sites_in *in, struct arena *arena,
			struct queue_sites_out *out)
{
	struct queue *q = self;
	struct site *best[ROWS_MAX], *site;
	int64_t now_ms = world_wall_ms(q->p->w);
	size_t it = 0, n = 0;
	struct str name;
	while ((site = table_next(&q->sites.by_name, &it, &name)))
		if (in->match.n == 0 || contains(name, in->match)) {
			keep(best, &n, site, now_ms);
			out->sites++;
		}
	out->rows = ARENA_ARRAY(arena, struct site_row, ROWS_MAX);
	for (size_t i = 0; out->rows && i < n; i++)
		out->rows[out->rows_n++] = (struct site_row){
			.name = arena_str(arena, str_sub(best[i]->name, 0, 320)), .window = best[i]->window,
			.under_way = best[i]->flying, .waiting = waiting(best[i]), .failures = best[i]->failures,
			.closed_ms = site_in_back_off(best[i], now_ms) ? best[i]->open_at_ms : 0,
			.why = arena_str(arena, str_sub(best[i]->why, 0, 300)),
		};
	return arena_err(arena);
}
