/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destinations and sites: see site.h. Names are strangers' domains, used as keys of a keyed hash table.
 *
 * Invariants:
 *  W1  A site where something waits and a delivery may start is in sites.ready.
 *  W2  A site that waits for time (back-off, rate) and has something waiting is in sites.wakes.
 *      (Messages leave its lists without its knowing: it may be there with nothing waiting.)
 *  W3  A site where something waits, and that only the bounds on all sites stop, is in sites.crowd. One of
 *      each kind is looked at when a delivery ends, and whenever no other is ready.
 *  W4  A site lives while a destination or a delivery refers to it; a destination while a recipient or a
 *      delivery does.
 */
#include "queue/site.h"

#include "queue/route.h"

#define DESTINATIONS_MAX ((size_t)4000000)
#define FAILURES_TO_BACK_OFF 2u /* in a row, before a place counts as dead */
#define BACK_OFF_FIRST_MS (60 * 1000LL)
#define BACK_OFF_MAX_MS (30 * 60 * 1000LL)
#define MINUTE_MS 60000
#define SITE_WHY_MAX 300u

/* ---- opening and closing ------------------------------------------------------------------------------ */

enum err sites_open(struct sites *s, struct mem *mem, struct sip_key key)
{
	*s = (struct sites){ .mem = mem, .wakes = heap_make(mem), .back_off_first_ms = BACK_OFF_FIRST_MS,
			     .back_off_max_ms = BACK_OFF_MAX_MS };
	s->by_key = table_make(mem, key, DESTINATIONS_MAX);
	s->by_name = table_make(mem, key, DESTINATIONS_MAX);
	list_init(&s->ready);
	for (unsigned i = 0; i < SITE_KINDS; i++)
		list_init(&s->crowd[i]);
	s->dests_cap = 16;
	s->dests_n = 2; /* DEST_UNKNOWN, DEST_LOCAL */
	s->dests = mem_alloc(mem, s->dests_cap * sizeof s->dests[0]);
	return s->dests ? ERR_NONE : ERR_NO_MEMORY;
}

static void free_memory(struct sites *s, struct site *site)
{
	mem_free(s->mem, (void *)(uintptr_t)site->name.p);
	mem_free(s->mem, (void *)(uintptr_t)site->why.p);
	mem_free(s->mem, site);
}

static void site_free(struct sites *s, struct site *site)
{
	list_remove(&site->ready);
	heap_del(&s->wakes, &site->wake);
	(void)table_del(&s->by_name, site->name);
	s->sites_n--;
	free_memory(s, site);
}

static bool site_waits(const struct site *site)
{
	for (unsigned i = 0; i < SITE_SENDERS; i++)
		if (!list_is_empty(&site->waiting[i]))
			return true;
	return false;
}

static void site_release(struct sites *s, struct site *site)
{
	ASSERT(site->refs > 0);
	if (--site->refs == 0 && !site_waits(site))
		site_free(s, site);
}

void sites_close(struct sites *s)
{
	size_t it = 0;
	struct str name;
	struct site *site;
	for (uint32_t i = 2; i < s->dests_n; i++)
		if (s->dests[i].site)
			mem_free(s->mem, (void *)(uintptr_t)s->dests[i].key.p);
	heap_free(&s->wakes); /* touches its nodes */
	while ((site = table_next(&s->by_name, &it, &name)))
		free_memory(s, site);
	table_free(&s->by_key);
	table_free(&s->by_name);
	mem_free(s->mem, s->dests);
}

/* ---- names --------------------------------------------------------------------------------------------- */

static struct str join(struct mem *mem, struct str route, struct str rest)
{
	char *p = mem_alloc_raw(mem, route.n + 1 + rest.n);
	if (!p)
		return STR_NONE;
	memcpy(p, route.p, route.n);
	p[route.n] = ' ';
	if (rest.n)
		memcpy(p + route.n + 1, rest.p, rest.n);
	return str_of(p, route.n + 1 + rest.n);
}

/* The site of this name, made if new; NULL: no memory. */
static struct site *site_find(struct sites *s, const struct conf_route *route, struct str set)
{
	struct str name = join(s->mem, route->name, set);
	struct site *site = name.p ? table_get(&s->by_name, name) : NULL;
	if (site || !name.p) {
		mem_free(s->mem, (void *)(uintptr_t)name.p);
		return site;
	}
	site = mem_alloc(s->mem, sizeof *site);
	if (!site || heap_reserve(&s->wakes, s->sites_n + 1) != ERR_NONE || table_put(&s->by_name, name, site) != ERR_NONE) {
		mem_free(s->mem, site);
		mem_free(s->mem, (void *)(uintptr_t)name.p);
		return NULL;
	}
	s->sites_n++;
	site->all = s;
	site->name = name;
	site->limit = route->connections ? route->connections : 1;
	site->rate = route->rate;
	site->window = site->limit < SITE_WINDOW_FIRST ? site->limit : SITE_WINDOW_FIRST;
	for (unsigned i = 0; i < SITE_SENDERS; i++)
		list_init(&site->waiting[i]);
	return site;
}

/* ---- destinations ------------------------------------------------------------------------------------------ */

struct destination *dest_get(struct sites *s, uint32_t dest)
{
	ASSERT(dest >= 2 && dest < s->dests_n && s->dests[dest].site);
	return &s->dests[dest];
}

static enum err dest_place(struct sites *s, uint32_t *dest_out)
{
	if (s->free) {
		*dest_out = s->free;
		s->free = s->dests[s->free].next_free;
		return ERR_NONE;
	}
	if (s->dests_n == s->dests_cap) {
		void *v = mem_resize(s->mem, s->dests, 2 * s->dests_cap * sizeof s->dests[0]);
		if (!v)
			return ERR_NO_MEMORY;
		s->dests = v;
		s->dests_cap *= 2;
	}
	*dest_out = s->dests_n++;
	return ERR_NONE;
}

static void dest_put_back(struct sites *s, uint32_t dest)
{
	s->dests[dest] = (struct destination){ .next_free = s->free };
	s->free = dest;
}

static enum err dest_new(struct sites *s, const struct conf_route *route, struct str domain, struct str key, uint32_t *dest_out)
{
	struct site *site = site_find(s, route, domain);
	if (!site)
		return ERR_NO_MEMORY;
	site->refs++;
	enum err e = dest_place(s, dest_out);
	if (e == ERR_NONE) {
		struct destination *d = &s->dests[*dest_out];
		*d = (struct destination){ .site = site, .route = route, .key = key, .rcpts = 1 };
		d->domain = str_sub(key, route->name.n + 1, key.n);
		/* the value is the number; as a pointer, which is never NULL */
		e = table_put(&s->by_key, key, (void *)(uintptr_t)*dest_out);
		if (e != ERR_NONE)
			dest_put_back(s, *dest_out);
	}
	if (e != ERR_NONE)
		site_release(s, site);
	return e == ERR_NONE ? ERR_NONE : ERR_NO_MEMORY;
}

enum err dest_find(struct sites *s, const struct conf_route *route, struct str address, uint32_t *dest_out)
{
	struct str domain = route->kind == ROUTE_KIND_MX ? address_domain(address) : STR("");
	struct str key = join(s->mem, route->name, domain);
	if (!key.p)
		return ERR_NO_MEMORY;
	uint32_t dest = (uint32_t)(uintptr_t)table_get(&s->by_key, key);
	if (!dest) {
		enum err e = dest_new(s, route, domain, key, dest_out);
		if (e != ERR_NONE)
			mem_free(s->mem, (void *)(uintptr_t)key.p);
		return e;
	}
	mem_free(s->mem, (void *)(uintptr_t)key.p);
	s->dests[dest].rcpts++;
	*dest_out = dest;
	return ERR_NONE;
}

static void dest_look(struct sites *s, uint32_t dest)
{
	struct destination *d = &s->dests[dest];
	if (d->rcpts > 0 || d->flying > 0)
		return;
	(void)table_del(&s->by_key, d->key);
	mem_free(s->mem, (void *)(uintptr_t)d->key.p);
	struct site *site = d->site;
	dest_put_back(s, dest);
	site_release(s, site);
}

void dest_drop(struct sites *s, uint32_t dest)
{
	if (dest == DEST_UNKNOWN || dest == DEST_LOCAL)
		return;
	ASSERT(dest < s->dests_n && s->dests[dest].rcpts > 0);
	s->dests[dest].rcpts--;
	dest_look(s, dest);
}

/* ---- windows -------------------------------------------------------------------------------------------------- */

bool site_in_back_off(const struct site *site, int64_t now_ms)
{
	return site->open_at_ms > now_ms;
}

static bool has_window(const struct site *site, int64_t now_ms)
{
	return site->flying + site->coming < site->window && site->open_at_ms <= now_ms && site->next_start_ms <= now_ms;
}

static enum site_kind kind_of(const struct site *site)
{
	return site->known ? SITE_KNOWN : site->flying + site->coming == 0 ? SITE_IDLE_STRANGER : SITE_STRANGER;
}

static bool kind_may_start(const struct sites *s, enum site_kind kind)
{
	uint32_t strangers = s->flying[false], most = kind == SITE_STRANGER ? SITES_CROWD_MAX : SITES_STRANGERS_MAX;
	size_t bytes = kind == SITE_STRANGER ? SITES_CROWD_BYTES : SITES_STRANGERS_BYTES;
	return strangers + s->flying[true] < SITES_FLIGHT_MAX &&
	       (kind == SITE_KNOWN || (strangers < most && s->stranger_bytes < bytes));
}

bool site_may_start(const struct site *site, int64_t now_ms)
{
	return has_window(site, now_ms) && kind_may_start(site->all, kind_of(site));
}

static void set_known(struct sites *s, struct site *site, bool known)
{
	uint32_t n = site->flying + site->coming;
	s->flying[site->known] -= n;
	s->flying[known] += n;
	site->known = known;
}

/* W1, W2, W3. */
static void site_look(struct sites *s, struct site *site, int64_t now_ms)
{
	list_remove(&site->ready);
	heap_del(&s->wakes, &site->wake);
	if (!site_waits(site)) {
		if (site->refs == 0)
			site_free(s, site);
		return;
	}
	if (has_window(site, now_ms)) {
		enum site_kind kind = kind_of(site);
		list_push_back(kind_may_start(s, kind) ? &s->ready : &s->crowd[kind], &site->ready);
		return;
	}
	int64_t at = site->open_at_ms > site->next_start_ms ? site->open_at_ms : site->next_start_ms;
	if (at <= now_ms)
		return; /* full: dest_end() looks again */
	enum err e = heap_put(&s->wakes, &site->wake, at);
	ASSERT(e == ERR_NONE); /* reserved when it was made */
}

/* The first of each kind that may start now is ready. */
static void crowd_look(struct sites *s, int64_t now_ms)
{
	for (unsigned kind = SITE_KINDS; kind-- > 0;) {
		bool starts = false;
		while (!starts && kind_may_start(s, kind) && !list_is_empty(&s->crowd[kind])) {
			struct site *site = CONTAINER_OF(s->crowd[kind].next, struct site, ready);
			starts = site_waits(site) && site_may_start(site, now_ms);
			site_look(s, site, now_ms); /* takes it out: it may be of another kind by now, or have nothing */
		}
	}
}

struct site *dest_reserve(struct sites *s, uint32_t dest)
{
	struct destination *d = dest_get(s, dest);
	d->flying++;
	d->site->refs++;
	d->site->coming++;
	s->flying[d->site->known]++;
	return d->site;
}

void dest_unreserve(struct sites *s, uint32_t dest, struct site *site, int64_t now_ms)
{
	site->coming--;
	s->flying[site->known]--;
	site->refs--;
	site_look(s, site, now_ms);
	dest_get(s, dest)->flying--;
	dest_look(s, dest);
	crowd_look(s, now_ms);
}

struct site *dest_start(struct sites *s, uint32_t dest, int64_t now_ms)
{
	struct destination *d = dest_get(s, dest);
	struct site *site = d->site;
	d->flying++;
	site->refs++;
	site->flying++;
	s->flying[site->known]++;
	if (site->rate > 0) {
		int64_t from = site->next_start_ms > now_ms - MINUTE_MS / 4 ? site->next_start_ms : now_ms;
		site->next_start_ms = (from > now_ms ? from : now_ms) + MINUTE_MS / (int64_t)site->rate;
	}
	site_look(s, site, now_ms);
	return site;
}

static void back_off(const struct sites *s, struct site *site, int64_t now_ms, uint64_t jitter)
{
	site->window = 1; /* the first that comes back looks, the others wait for it */
	site->back_off_ms = site->back_off_ms ? site->back_off_ms * 2 : s->back_off_first_ms;
	if (site->back_off_ms > s->back_off_max_ms)
		site->back_off_ms = s->back_off_max_ms;
	int64_t ms = site->back_off_ms - site->back_off_ms / 8 + (int64_t)(jitter % (uint64_t)(site->back_off_ms / 4 + 1));
	site->open_at_ms = now_ms + ms;
}

static void set_why(struct sites *s, struct site *site, struct str why)
{
	if (str_eq(site->why, why))
		return;
	mem_free(s->mem, (void *)(uintptr_t)site->why.p);
	why = str_sub(why, 0, SITE_WHY_MAX);
	char *p = why.n ? mem_alloc_raw(s->mem, why.n) : NULL;
	if (p)
		memcpy(p, why.p, why.n);
	site->why = str_of(p, p ? why.n : 0);
}

static void learn(struct sites *s, struct site *site, const struct site_news *news)
{
	int64_t now_ms = news->now_ms;
	if (news->reach != RELAY_REACH_UNKNOWN) {
		set_known(s, site, news->reach == RELAY_REACH_REACHED);
		set_why(s, site, news->reach == RELAY_REACH_REACHED ? STR("") : news->why);
	}
	switch (news->reach) {
	case RELAY_REACH_REACHED:
		site->failures = 0;
		site->back_off_ms = 0;
		site->open_at_ms = 0;
		if (site->window < site->limit)
			site->window++;
		return;
	case RELAY_REACH_UNREACHABLE:
	case RELAY_REACH_BUSY:
		if (site->open_at_ms > now_ms)
			return; /* one of those under way when it closed */
		if (site->failures < UINT16_MAX)
			site->failures++;
		site->window = site->window > 1 ? site->window / 2 : 1;
		if (site->failures >= FAILURES_TO_BACK_OFF)
			back_off(s, site, now_ms, news->jitter);
		return;
	case RELAY_REACH_UNKNOWN:
		return;
	}
}

static void move_waiting(struct sites *s, struct site *from, struct site *to, int64_t now_ms)
{
	for (unsigned i = 0; i < SITE_SENDERS; i++) {
		struct list *link;
		while ((link = list_pop_front(&from->waiting[i])))
			list_push_back(&to->waiting[i], link);
	}
	site_look(s, to, now_ms);
}

/* What waits goes along when nobody else had the site. */
static void share(struct sites *s, struct destination *d, struct str mx_set, int64_t now_ms)
{
	struct site *old = d->site, *site = site_find(s, d->route, mx_set);
	if (!site || site == old) /* no memory: nothing is lost but the sharing */
		return;
	site->refs++;
	d->site = site;
	if (str_eq(old->name, d->key))
		move_waiting(s, old, site, now_ms);
	site_release(s, old);
}

void dest_end(struct sites *s, uint32_t dest, struct site *site, const struct site_news *news)
{
	struct destination *d = dest_get(s, dest);
	site->flying--;
	s->flying[site->known]--;
	learn(s, site, news);
	if (news->mx_set.n > 0 && d->route->kind == ROUTE_KIND_MX)
		share(s, d, news->mx_set, news->now_ms);
	site->refs--;
	site_look(s, site, news->now_ms); /* frees it when nobody has it any more */
	d->flying--;
	dest_look(s, dest);
	crowd_look(s, news->now_ms);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

void site_wait(struct sites *s, struct site *site, struct list *link, uint8_t sender, int64_t now_ms)
{
	list_push_back(&site->waiting[sender % SITE_SENDERS], link);
	if (!list_linked(&site->ready) && !heap_holds(&site->wake))
		site_look(s, site, now_ms);
}

/* The next of the site, from the senders in turn. */
static struct list *take_one(struct site *site)
{
	for (unsigned i = 0; i < SITE_SENDERS; i++) {
		unsigned k = (site->turn + i) % SITE_SENDERS;
		struct list *link = list_pop_front(&site->waiting[k]);
		if (link) {
			site->turn = (uint8_t)((k + 1) % SITE_SENDERS);
			return link;
		}
	}
	return NULL;
}

static void wake_sites(struct sites *s, int64_t now_ms)
{
	struct heap_node *n;
	while ((n = heap_min(&s->wakes)) && n->key <= now_ms)
		site_look(s, CONTAINER_OF(n, struct site, wake), now_ms);
}

struct list *sites_next(struct sites *s, int64_t now_ms)
{
	wake_sites(s, now_ms);
	for (;;) {
		if (list_is_empty(&s->ready))
			crowd_look(s, now_ms);
		if (list_is_empty(&s->ready))
			return NULL;
		struct site *site = CONTAINER_OF(s->ready.next, struct site, ready);
		if (!site_may_start(site, now_ms)) {
			site_look(s, site, now_ms);
			continue;
		}
		list_remove(&site->ready); /* to the end of the line */
		list_push_back(&s->ready, &site->ready);
		struct list *link = take_one(site);
		if (link)
			return link;
		site_look(s, site, now_ms);
	}
}

int64_t sites_wake_ms(const struct sites *s)
{
	const struct heap_node *n = heap_min(&s->wakes);
	return n ? n->key : INT64_MAX;
}

static void site_open(struct sites *s, struct site *site, int64_t now_ms)
{
	site->open_at_ms = 0;
	if (site->window < SITE_WINDOW_FIRST && site->limit >= SITE_WINDOW_FIRST)
		site->window = SITE_WINDOW_FIRST;
	site_look(s, site, now_ms);
}

void sites_open_all(struct sites *s, int64_t now_ms)
{
	size_t it = 0;
	struct str name;
	struct site *site;
	while ((site = table_next(&s->by_name, &it, &name)))
		site_open(s, site, now_ms);
}

void sites_begin_flush(struct sites *s)
{
	s->flushes++;
}

void dest_flush(struct sites *s, uint32_t dest, int64_t now_ms)
{
	if (dest == DEST_UNKNOWN || dest == DEST_LOCAL)
		return;
	struct site *site = dest_get(s, dest)->site;
	if (site->flushed == s->flushes)
		return;
	site->flushed = s->flushes;
	site_open(s, site, now_ms);
}
