/* SPDX-License-Identifier: Apache-2.0 */
/* What accounts may send: see budget.h. Runs in lookup; accounts are ones that have logged in. */
#include "lookup/budget.h"

#include "base/heap.h"

#define HOUR_MS (3600 * 1000LL)

/* Used up, in units of 1/HOUR_MS: each millisecond gives `limit` of them back. */
struct budget {
	struct list recent;
	uint64_t key;
	int64_t at_ms, messages, recipients;
	bool refused;
};

void budgets_init(struct budgets *b, struct mem *mem, struct sip_key key, uint32_t messages, uint32_t recipients)
{
	*b = (struct budgets){ .mem = mem, .key = key, .messages = messages, .recipients = recipients };
	b->by_key = table64_make(mem, key, BUDGETS_MAX);
	list_init(&b->recent);
}

static void forget(struct budgets *b, struct budget *one)
{
	(void)table64_del(&b->by_key, one->key);
	list_remove(&one->recent);
	mem_free(b->mem, one);
}

void budgets_done(struct budgets *b)
{
	while (!list_is_empty(&b->recent))
		forget(b, CONTAINER_OF(b->recent.next, struct budget, recent));
	table64_free(&b->by_key);
}

static struct budget *find(struct budgets *b, struct str account, int64_t now_ms)
{
	uint64_t key = siphash(b->key, account);
	struct budget *one = table64_get(&b->by_key, key);
	if (one) {
		list_remove(&one->recent);
		list_push_front(&b->recent, &one->recent);
		return one;
	}
	if (b->by_key.n >= BUDGETS_MAX - 1)
		forget(b, CONTAINER_OF(b->recent.prev, struct budget, recent));
	one = mem_alloc(b->mem, sizeof *one);
	if (!one)
		return NULL;
	one->key = key;
	one->at_ms = now_ms;
	if (table64_put(&b->by_key, key, one) != ERR_NONE) {
		mem_free(b->mem, one);
		return NULL;
	}
	list_push_front(&b->recent, &one->recent);
	return one;
}

static int64_t refill(int64_t used, uint32_t limit, int64_t passed_ms)
{
	int64_t back = passed_ms > HOUR_MS ? INT64_MAX : passed_ms * (int64_t)limit;
	return used > back ? used - back : 0;
}

/* How long until `more` fits; 0: it does. What never fits is taken as the whole. */
static int64_t wait_ms(int64_t used, uint32_t limit, uint32_t more)
{
	if (limit == 0)
		return 0;
	int64_t n = more < limit ? more : limit, over = used + n * HOUR_MS - (int64_t)limit * HOUR_MS;
	return over > 0 ? (over + limit - 1) / limit : 0;
}

struct budget_answer budget_take(struct budgets *b, struct str account, uint32_t recipients, int64_t now_ms)
{
	struct budget_answer a = { .allowed = true };
	struct budget *one = b->messages || b->recipients ? find(b, account, now_ms) : NULL;
	if (!one)
		return a;
	int64_t passed_ms = now_ms > one->at_ms ? now_ms - one->at_ms : 0;
	one->messages = refill(one->messages, b->messages, passed_ms);
	one->recipients = refill(one->recipients, b->recipients, passed_ms);
	one->at_ms = now_ms;
	int64_t by_messages = wait_ms(one->messages, b->messages, 1), by_recipients = wait_ms(one->recipients, b->recipients, recipients);
	a.by_recipients = by_recipients > by_messages;
	a.wait_ms = a.by_recipients ? by_recipients : by_messages;
	a.allowed = a.wait_ms == 0 && (b->recipients == 0 || recipients <= b->recipients);
	a.by_recipients = a.by_recipients || (!a.allowed && a.wait_ms == 0);
	a.first = !a.allowed && !one->refused;
	one->refused = !a.allowed;
	if (a.allowed) {
		one->messages += HOUR_MS;
		one->recipients += (int64_t)recipients * HOUR_MS;
	}
	return a;
}
