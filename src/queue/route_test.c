/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and sites: who goes where, and how much at a time. */
#include "base/test.h"

#include "queue/route.h"
#include "queue/site.h"

static struct conf_word to_corp[] = { { { "corp.example", 12 } }, { { "*.corp.example", 14 } } };
static struct conf_word from_news[] = { { { "news.example", 12 } } };
static struct conf_word from_null[] = { { { "<>", 2 } } };
static struct conf_hop hop = { .host = { "relay.example.net", 17 }, .port = 2525 };

static struct conf_route routes[] = {
	{ .name = { "corp", 4 }, .to = to_corp, .to_n = 2, .kind = ROUTE_KIND_SMTP, .hops = &hop, .hops_n = 1, .connections = 3 },
	{ .name = { "bulk", 4 }, .from = from_news, .from_n = 1, .kind = ROUTE_KIND_MX, .connections = 2 },
	{ .name = { "bounces", 7 }, .from = from_null, .from_n = 1, .kind = ROUTE_KIND_MX, .connections = 2 },
	{ .name = { "default", 7 }, .kind = ROUTE_KIND_MX, .connections = 20 },
};
static const struct conf conf = { .routes = routes, .routes_n = 4 };

static struct str route_name(const char *from, const char *to)
{
	return route_for(&conf, str_z(from), str_z(to))->name;
}

static void test_route_for(void **state)
{
	assert_str(route_name("a@x.example", "b@corp.example"), STR("corp"));
	assert_str(route_name("a@x.example", "b@CORP.example"), STR("corp"));
	assert_str(route_name("a@x.example", "b@a.b.corp.example"), STR("corp"));
	assert_str(route_name("a@x.example", "b@xcorp.example"), STR("default"));
	assert_str(route_name("a@news.example", "b@y.example"), STR("bulk"));
	assert_str(route_name("a@news.example", "b@corp.example"), STR("corp")); /* the first that fits */
	assert_str(route_name("", "b@y.example"), STR("bounces"));
	assert_str(route_name("a@sub.news.example", "b@y.example"), STR("default"));
	assert_str(route_name("a@x.example", "b@[192.0.2.1]"), STR("default"));
	struct conf none = { 0 };
	assert_str(route_for(&none, STR(""), STR("b@y.example"))->name, STR("default"));
	char place[100];
	struct buf b = buf_fixed(place, sizeof place);
	route_describe(&b, &routes[0]);
	assert_str(buf_str(&b), STR("smtp relay.example.net:2525"));
}

struct waiter {
	struct list wait;
};

struct bed {
	struct mem *mem;
	struct sites s;
};

static void bed_open(struct bed *b)
{
	struct sip_key key = { 1, 2 };
	*b = (struct bed){ .mem = mem_new(0) };
	assert_int_equal(sites_open(&b->s, b->mem, key), ERR_NONE);
}

static void bed_close(struct bed *b)
{
	sites_close(&b->s);
	assert_int_equal(mem_blocks(b->mem), 0);
	mem_destroy(b->mem);
}

static uint32_t find(struct bed *b, const struct conf_route *route, const char *address)
{
	uint32_t dest = 0;
	assert_int_equal(dest_find(&b->s, route, str_z(address), &dest), ERR_NONE);
	assert_true(dest > DEST_LOCAL);
	return dest;
}

static void end(struct bed *b, uint32_t dest, struct site *site, enum relay_reach reach, const char *set, int64_t now_ms)
{
	struct site_news news = { .reach = reach, .mx_set = str_z(set), .why = STR("it failed"), .now_ms = now_ms };
	dest_end(&b->s, dest, site, &news);
}

/* The window lets so many begin, opens with success, and closes with failures. */
static void test_window(void **state)
{
	struct bed b;
	bed_open(&b);
	uint32_t dest = find(&b, &routes[3], "a@one.example");
	struct site *site = NULL;
	for (unsigned i = 0; i < SITE_WINDOW_FIRST; i++) {
		assert_true(site_may_start(dest_get(&b.s, dest)->site, 1000));
		site = dest_start(&b.s, dest, 1000);
	}
	assert_false(site_may_start(site, 1000));
	end(&b, dest, site, RELAY_REACH_REACHED, "", 1000);
	assert_int_equal(site->window, SITE_WINDOW_FIRST + 1);
	assert_true(site_may_start(site, 1000));
	end(&b, dest, site, RELAY_REACH_UNREACHABLE, "", 1000);
	assert_int_equal(site->window, (SITE_WINDOW_FIRST + 1) / 2);
	assert_false(site_in_back_off(site, 1000));
	end(&b, dest, site, RELAY_REACH_UNREACHABLE, "", 1000);
	assert_true(site_in_back_off(site, 1000)); /* two in a row */
	assert_int_equal(site->window, 1);
	assert_str(site->why, STR("it failed"));
	int64_t first = site->open_at_ms;
	assert_in_range(first - 1000, 50000, 70000);
	end(&b, dest, site, RELAY_REACH_UNREACHABLE, "", 2000); /* was under way already: not counted again */
	assert_int_equal(site->open_at_ms, first);
	end(&b, dest, site, RELAY_REACH_UNKNOWN, "", 2000);
	site = dest_start(&b.s, dest, first);
	end(&b, dest, site, RELAY_REACH_BUSY, "", first);
	assert_in_range(site->open_at_ms - first, 100000, 140000); /* twice as long */
	site = dest_start(&b.s, dest, site->open_at_ms);
	end(&b, dest, site, RELAY_REACH_REACHED, "", site->open_at_ms);
	assert_false(site_in_back_off(site, first));
	assert_int_equal(site->why.n, 0);
	dest_drop(&b.s, dest);
	bed_close(&b);
}

/* H97: what waits for one place does not keep another; senders take turns. */
static void test_waiting(void **state)
{
	struct bed b;
	struct waiter many[10] = { 0 }, one = { 0 }, other = { 0 };
	bed_open(&b);
	uint32_t dead = find(&b, &routes[1], "a@dead.example"), alive = find(&b, &routes[1], "a@alive.example");
	struct site *d = dest_start(&b.s, dead, 0);
	end(&b, dead, d, RELAY_REACH_UNREACHABLE, "", 0);
	d = dest_start(&b.s, dead, 0);
	end(&b, dead, d, RELAY_REACH_UNREACHABLE, "", 0);
	for (size_t i = 0; i < 10; i++)
		site_wait(&b.s, d, &many[i].wait, 3, 1);
	site_wait(&b.s, d, &one.wait, 4, 1);
	assert_null(sites_next(&b.s, 1));
	assert_int_equal(sites_wake_ms(&b.s), d->open_at_ms);
	struct site *a = dest_start(&b.s, alive, 1);
	a = dest_start(&b.s, alive, 1);
	site_wait(&b.s, a, &other.wait, 0, 1);
	assert_null(sites_next(&b.s, 1)); /* full: two at a time */
	end(&b, alive, a, RELAY_REACH_REACHED, "", 1);
	assert_ptr_equal(sites_next(&b.s, 1), &other.wait);
	assert_null(sites_next(&b.s, 1));
	end(&b, alive, a, RELAY_REACH_REACHED, "", 1);
	int64_t then = d->open_at_ms;
	assert_ptr_equal(sites_next(&b.s, then), &many[0].wait);
	d = dest_start(&b.s, dead, then);
	assert_null(sites_next(&b.s, then)); /* one looks first */
	end(&b, dead, d, RELAY_REACH_REACHED, "", then);
	assert_ptr_equal(sites_next(&b.s, then), &one.wait); /* the other sender's turn */
	assert_ptr_equal(sites_next(&b.s, then), &many[1].wait);
	list_remove(&many[2].wait); /* the operator took it */
	assert_ptr_equal(sites_next(&b.s, then), &many[3].wait);
	for (size_t i = 4; i < 10; i++)
		list_remove(&many[i].wait);
	assert_null(sites_next(&b.s, then));
	dest_drop(&b.s, dead);
	dest_drop(&b.s, alive);
	bed_close(&b);
}

static struct site *fails_twice(struct bed *b, uint32_t dest, int64_t now_ms)
{
	for (unsigned i = 0; i < 2; i++)
		end(b, dest, dest_start(&b->s, dest, now_ms), RELAY_REACH_UNREACHABLE, "", now_ms);
	return dest_get(&b->s, dest)->site;
}

/* Deliveries to ever more places, until this one could begin none. */
static size_t crowd_in(struct bed *b, const struct site *until, uint32_t *dest, struct site **held)
{
	size_t n = 0, places = 0;
	for (; site_may_start(until, 0); places++) {
		char name[40];
		snprintf(name, sizeof name, "a@tar%zu.example", places);
		uint32_t tar = find(b, &routes[3], name);
		while (n < SITES_FLIGHT_MAX && site_may_start(dest_get(&b->s, tar)->site, 0)) {
			dest[n] = tar;
			held[n++] = dest_start(&b->s, tar, 0);
		}
	}
	assert_in_range(places, SITES_STRANGERS_MAX - SITES_CROWD_MAX, SITES_STRANGERS_MAX);
	return n;
}

/* H98: places that hold what they get leave room for mailboxes and for others; W3. */
static void test_crowd(void **state)
{
	static struct site *held[SITES_FLIGHT_MAX];
	static uint32_t dest[SITES_FLIGHT_MAX];
	struct bed b;
	struct waiter one = { 0 }, two = { 0 }, three = { 0 };
	bed_open(&b);
	uint32_t good = find(&b, &routes[3], "a@good.example"), new = find(&b, &routes[3], "a@new.example");
	end(&b, good, dest_start(&b.s, good, 0), RELAY_REACH_REACHED, "", 0);
	size_t n = crowd_in(&b, dest_get(&b.s, new)->site, dest, held);
	assert_int_equal(n, SITES_STRANGERS_MAX);
	site_wait(&b.s, held[0], &one.wait, 0, 0);
	site_wait(&b.s, dest_get(&b.s, new)->site, &two.wait, 0, 0);
	assert_null(sites_next(&b.s, 0));
	struct site *g = dest_get(&b.s, good)->site;
	assert_true(site_may_start(g, 0)); /* it has just answered */
	site_wait(&b.s, g, &three.wait, 0, 0);
	assert_ptr_equal(sites_next(&b.s, 0), &three.wait);
	end(&b, dest[n - 1], held[n - 1], RELAY_REACH_UNREACHABLE, "", 0);
	assert_ptr_equal(sites_next(&b.s, 0), &two.wait);
	assert_null(sites_next(&b.s, 0)); /* another's second waits for longer */
	for (size_t i = n - 1; i-- > 0;)
		end(&b, dest[i], held[i], RELAY_REACH_UNKNOWN, "", 0);
	assert_ptr_equal(sites_next(&b.s, 0), &one.wait);
	assert_int_equal(b.s.flying[0] + b.s.flying[1], 0);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || dest[i] != dest[i - 1])
			dest_drop(&b.s, dest[i]);
	dest_drop(&b.s, good);
	dest_drop(&b.s, new);
	bed_close(&b);
}

/* The operator's flush opens the places of what it concerns, each once. */
static void test_flush(void **state)
{
	struct bed b;
	bed_open(&b);
	uint32_t x = find(&b, &routes[1], "a@x.example"), y = find(&b, &routes[3], "a@y.example");
	struct site *sx = fails_twice(&b, x, 0), *sy = fails_twice(&b, y, 0);
	sites_begin_flush(&b.s);
	dest_flush(&b.s, DEST_UNKNOWN, 1);
	dest_flush(&b.s, x, 1);
	assert_true(site_may_start(sx, 1));
	assert_true(site_in_back_off(sy, 1));
	(void)fails_twice(&b, x, 2);
	dest_flush(&b.s, x, 3);
	assert_true(site_in_back_off(sx, 3));
	sites_begin_flush(&b.s);
	dest_flush(&b.s, x, 3);
	assert_true(site_may_start(sx, 3));
	assert_true(site_in_back_off(sy, 3));
	sites_open_all(&b.s, 3);
	assert_true(site_may_start(sy, 3));
	dest_drop(&b.s, x);
	dest_drop(&b.s, y);
	bed_close(&b);
}

/* Domains of one provider share a window once their MX hosts are known. */
static void test_shared(void **state)
{
	struct bed b;
	struct waiter w = { 0 };
	bed_open(&b);
	uint32_t x = find(&b, &routes[3], "a@x.example"), y = find(&b, &routes[3], "a@y.example");
	assert_int_equal(find(&b, &routes[3], "b@x.example"), x);
	dest_drop(&b.s, x);
	assert_ptr_not_equal(dest_get(&b.s, x)->site, dest_get(&b.s, y)->site);
	site_wait(&b.s, dest_get(&b.s, x)->site, &w.wait, 0, 0);
	struct site *sx = dest_start(&b.s, x, 0), *sy = dest_start(&b.s, y, 0);
	end(&b, x, sx, RELAY_REACH_REACHED, "mx.provider.example", 0);
	end(&b, y, sy, RELAY_REACH_REACHED, "mx.provider.example", 0);
	assert_ptr_equal(dest_get(&b.s, x)->site, dest_get(&b.s, y)->site);
	assert_ptr_equal(sites_next(&b.s, 0), &w.wait); /* it went along */
	dest_drop(&b.s, x);
	dest_drop(&b.s, y);
	bed_close(&b);
}

/* Room that a message being read keeps is room taken; a rate spaces deliveries. */
static void test_reserve_and_rate(void **state)
{
	struct bed b;
	struct conf_route slow = routes[3];
	slow.rate = 60;
	bed_open(&b);
	uint32_t dest = find(&b, &routes[1], "a@x.example");
	struct site *one = dest_reserve(&b.s, dest), *two = dest_reserve(&b.s, dest);
	assert_false(site_may_start(one, 0));
	dest_unreserve(&b.s, dest, one, 0);
	assert_true(site_may_start(two, 0));
	dest_drop(&b.s, dest); /* the destination lives until the last is done with it */
	dest_unreserve(&b.s, dest, two, 0);
	slow.name = STR("slow");
	dest = find(&b, &slow, "a@x.example");
	struct site *site = dest_start(&b.s, dest, 5000);
	assert_false(site_may_start(site, 5500));
	assert_true(site_may_start(site, 6000));
	end(&b, dest, site, RELAY_REACH_REACHED, "", 6000);
	dest_drop(&b.s, dest);
	bed_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_route_for), cmocka_unit_test(test_window), cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_flush),	  cmocka_unit_test(test_crowd),	  cmocka_unit_test(test_shared),
		cmocka_unit_test(test_reserve_and_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
