/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of wrong passwords: see guesses.h. Clients are strangers; account names are what they wrote. */
#include "lookup/guesses.h"

#include "base/buf.h"
#include "base/heap.h"

#define ONE_LESS_NS (60 * 1000000000LL)
#define FREE_WRONG 3u
#define DELAY_STEP_NS (200 * 1000000LL)
#define SCORE_MAX 10000u

enum kind { NETWORK = 'n', ACCOUNT = 'a', PAIR = 'p' };

struct guess {
	struct list recent;
	uint64_t key;
	int64_t since_ns; /* when the score was right */
	uint32_t score, at_once;
	bool known; /* a pair: it was right once */
};

void guesses_init(struct guesses *g, struct mem *mem, struct sip_key key)
{
	*g = (struct guesses){ .mem = mem, .key = key, .by_key = table64_make(mem, key, GUESSES_MAX) };
	list_init(&g->recent);
}

static void forget(struct guesses *g, struct guess *e)
{
	(void)table64_del(&g->by_key, e->key);
	list_remove(&e->recent);
	mem_free(g->mem, e);
}

void guesses_done(struct guesses *g)
{
	while (!list_is_empty(&g->recent))
		forget(g, CONTAINER_OF(g->recent.next, struct guess, recent));
	table64_free(&g->by_key);
}

static uint64_t key_of(const struct guesses *g, enum kind kind, const struct ip *client, struct str account)
{
	char room[400];
	struct buf b = buf_fixed(room, sizeof room);
	buf_add_char(&b, (char)kind);
	if (kind != ACCOUNT) {
		struct ip network = *client;
		if (network.family == IP_V6)
			memset(network.b + 8, 0, 8);
		network.port = 0;
		ip_add(&b, &network);
	}
	buf_add_char(&b, ' ');
	if (kind != NETWORK)
		buf_add(&b, str_sub(account, 0, 320));
	return siphash(g->key, buf_str(&b));
}

static void make_room(struct guesses *g)
{
	for (struct list *it = g->recent.prev; it != &g->recent && g->by_key.n >= GUESSES_MAX - 8;) {
		struct guess *e = CONTAINER_OF(it, struct guess, recent);
		it = it->prev;
		if (e->at_once == 0)
			forget(g, e);
	}
}

/* As it stands now; NULL: never seen, and `add` is false or there is no memory. */
static struct guess *find(struct guesses *g, uint64_t key, int64_t now_ns, bool add)
{
	struct guess *e = table64_get(&g->by_key, key);
	if (!e && add) {
		make_room(g);
		e = mem_alloc(g->mem, sizeof *e);
		if (!e)
			return NULL;
		e->key = key;
		e->since_ns = now_ns;
		if (table64_put(&g->by_key, key, e) != ERR_NONE) {
			mem_free(g->mem, e);
			return NULL;
		}
	}
	if (!e)
		return NULL;
	int64_t less = (now_ns - e->since_ns) / ONE_LESS_NS;
	e->score = less >= e->score ? 0 : e->score - (uint32_t)less;
	e->since_ns = e->score ? e->since_ns + less * ONE_LESS_NS : now_ns;
	list_remove(&e->recent);
	list_push_front(&g->recent, &e->recent);
	return e;
}

bool guesses_begin(struct guesses *g, const struct ip *client, struct str account, int64_t now_ns)
{
	const struct guess *pair = find(g, key_of(g, PAIR, client, account), now_ns, false);
	struct guess *network = find(g, key_of(g, NETWORK, client, account), now_ns, true);
	if (!network || network->at_once >= GUESSES_AT_ONCE_MAX)
		return false;
	bool owner = pair && pair->known;
	if (owner ? pair->score >= GUESSES_PAIR_MAX : network->score >= GUESSES_NETWORK_MAX)
		return false;
	network->at_once++;
	return true;
}

static void wrong(struct guess *e)
{
	if (e && e->score < SCORE_MAX)
		e->score++;
}

static int64_t delay_of(const struct guess *e)
{
	uint32_t n = e ? e->score : 0;
	if (n <= FREE_WRONG)
		return 0;
	int64_t ns = (int64_t)(n - FREE_WRONG) * DELAY_STEP_NS;
	return ns < GUESSES_DELAY_MAX_NS ? ns : GUESSES_DELAY_MAX_NS;
}

int64_t guesses_end(struct guesses *g, const struct ip *client, struct str account, enum guess_outcome outcome, int64_t now_ns)
{
	struct guess *network = find(g, key_of(g, NETWORK, client, account), now_ns, true);
	if (network && network->at_once > 0)
		network->at_once--;
	if (outcome == GUESS_UNKNOWN)
		return 0;
	struct guess *pair = find(g, key_of(g, PAIR, client, account), now_ns, true);
	if (outcome == GUESS_RIGHT) {
		if (pair) {
			pair->known = true;
			pair->score = 0;
		}
		return 0;
	}
	struct guess *of_account = find(g, key_of(g, ACCOUNT, client, account), now_ns, true);
	wrong(network);
	wrong(pair);
	wrong(of_account);
	if (pair && pair->known)
		return delay_of(pair);
	int64_t a = delay_of(network), b = delay_of(of_account);
	return a > b ? a : b;
}
