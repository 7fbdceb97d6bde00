/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recursion and validation by libunbound: see backend.h. libunbound reads what strangers' name servers
 * send; it runs here, in a process that holds nothing, and what it returns is read again by our own reader.
 *
 * It is driven by our loop: it tells us its descriptors and times through the tables of functions of
 * unbound-event.h, and one coroutine with a huge stack, the driver, makes every call into it: while it reads
 * its files it nests frames of 64 KiB, which 256 KiB do not hold; for answers 24 KiB were seen. Callers
 * hand it a `struct ask` and wait; those that give up leave theirs to the driver.
 */
#include "resolver/backend.h"

#include "base/events.h"

#include <sys/time.h>
#include <unbound-event.h>
#include <unbound.h>

#define ASKS_MAX 2000u /* with those that nobody waits for any more */
#define SYSTEM_ANCHOR STR("/usr/share/dns/root.key")
#define CLASS_IN 1
#define DNS_PORT 53u
#define WHY_MAX 200u

enum { SEC_INSECURE = 0, SEC_BOGUS = 1, SEC_SECURE = 2 };

struct ask {
	struct list link; /* backend.todo, then backend.asked */
	struct backend *b;
	char name[DNS_NAME_MAX + 1];
	enum dns_type type;
	struct arena *arena; /* the caller's, as is out */
	struct dns_lookup_out *out;
	enum err err;
	bool done, abandoned;
	struct co_queue waiter;
};

struct backend {
	struct ub_event_base base; /* first: libunbound gives it back to us */
	struct ub_event_base_vmt base_calls;
	struct ub_event_vmt event_calls;
	struct ub_ctx *ctx;
	struct world *w;
	struct loop *loop;
	struct mem *mem;
	struct arena *arena;
	struct log *log;
	const struct conf_resolver *conf;
	struct list events, todo, asked;
	struct heap timers;
	size_t asks_n;
	struct co_queue wake, opened;
	enum err open_err;
	bool is_open, primed;
};

/* ---- events: libunbound's view of our loop ------------------------------------------------------------- */

struct event {
	struct ub_event base; /* first */
	struct backend *b;
	struct list link;     /* backend.events, while it has a descriptor that is watched */
	struct list due;      /* while it is to be fired */
	int fd;
	short bits;
	void (*fn)(int fd, short bits, void *arg);
	void *arg;
	struct source source;
	struct heap_node timer;
	int64_t every_ns;
};

static struct event *event_of(struct ub_event *ev)
{
	return CONTAINER_OF(ev, struct event, base);
}

static int64_t ns_of(const struct timeval *tv)
{
	return (int64_t)tv->tv_sec * 1000000000 + (int64_t)tv->tv_usec * 1000;
}

static struct ub_event *event_new(struct ub_event_base *base, int fd, short bits, void (*fn)(int, short, void *), void *arg)
{
	struct backend *b = CONTAINER_OF(base, struct backend, base);
	struct event *ev = mem_alloc(b->mem, sizeof *ev);
	if (!ev)
		return NULL;
	*ev = (struct event){ .b = b, .fd = fd, .bits = bits, .fn = fn, .arg = arg };
	ev->base.magic = UB_EVENT_MAGIC;
	ev->base.vmt = &b->event_calls;
	return &ev->base;
}

static void event_add_bits(struct ub_event *base, short bits)
{
	event_of(base)->bits |= bits;
}

static void event_del_bits(struct ub_event *base, short bits)
{
	struct event *ev = event_of(base);
	ev->bits = (short)(ev->bits & ~bits);
}

static void event_set_fd(struct ub_event *base, int fd)
{
	event_of(base)->fd = fd;
}

static int event_del(struct ub_event *base)
{
	struct event *ev = event_of(base);
	heap_del(&ev->b->timers, &ev->timer);
	list_remove(&ev->due);
	if (list_linked(&ev->link)) {
		list_remove(&ev->link);
		source_forget(&ev->source);
	}
	return 0;
}

static int event_add(struct ub_event *base, struct timeval *tv)
{
	struct event *ev = event_of(base);
	struct backend *b = ev->b;
	unsigned what = (ev->bits & UB_EV_READ ? WORLD_IN : 0) | (ev->bits & UB_EV_WRITE ? WORLD_OUT : 0);
	(void)event_del(base);
	if (ev->fd >= 0 && what) {
		if (source_watch_level(&ev->source, b->loop, ev->fd, what, &b->wake) != ERR_NONE)
			return -1;
		list_push_back(&b->events, &ev->link);
	}
	ev->every_ns = tv ? ns_of(tv) : 0;
	if (tv && ev->bits & UB_EV_TIMEOUT)
		return heap_put(&b->timers, &ev->timer, world_mono_ns(b->w) + ev->every_ns) == ERR_NONE ? 0 : -1;
	return 0;
}

static void event_free(struct ub_event *base)
{
	struct event *ev = event_of(base);
	(void)event_del(base);
	mem_free(ev->b->mem, ev);
}

static int timer_add(struct ub_event *base, struct ub_event_base *owner UNUSED, void (*fn)(int, short, void *), void *arg,
		     struct timeval *tv)
{
	struct event *ev = event_of(base);
	ev->fn = fn;
	ev->arg = arg;
	ev->bits = UB_EV_TIMEOUT;
	ev->fd = -1;
	return event_add(base, tv);
}

static void fire(struct event *ev, short what)
{
	struct backend *b = ev->b;
	if (!(ev->bits & UB_EV_PERSIST))
		(void)event_del(&ev->base);
	else if (ev->every_ns > 0 && ev->bits & UB_EV_TIMEOUT &&
		 heap_put(&b->timers, &ev->timer, world_mono_ns(b->w) + ev->every_ns) != ERR_NONE)
		log_io_error(b->log, (struct log_ids){ 0 }, STR("set a timer"), ERR_NO_MEMORY, STR("resolver"));
	ev->fn(ev->fd, what, ev->arg); /* may free it */
}

/* First the list, then the calls: each of them may end any other event. */
static void fire_ready(struct backend *b)
{
	struct list due;
	list_init(&due);
	LIST_EACH(&b->events, it) {
		struct event *ev = CONTAINER_OF(it, struct event, link);
		if (ev->source.ready)
			list_push_back(&due, &ev->due);
	}
	for (struct list *it; (it = list_pop_front(&due));) {
		struct event *ev = CONTAINER_OF(it, struct event, due);
		unsigned ready = ev->source.ready;
		short what = (short)((ready & WORLD_IN ? UB_EV_READ : 0) | (ready & WORLD_OUT ? UB_EV_WRITE : 0));
		ev->source.ready = 0;
		fire(ev, (short)(what & ev->bits));
	}
}

/* Likewise; and a timer of no length that a call sets waits for the next turn. */
static void fire_timers(struct backend *b)
{
	struct heap_node *n;
	struct list due;
	list_init(&due);
	while ((n = heap_min(&b->timers)) && n->key <= world_mono_ns(b->w)) {
		heap_del(&b->timers, n);
		list_push_back(&due, &CONTAINER_OF(n, struct event, timer)->due);
	}
	for (struct list *it; (it = list_pop_front(&due));)
		fire(CONTAINER_OF(it, struct event, due), UB_EV_TIMEOUT);
}

static void set_calls(struct backend *b)
{
	b->base_calls = (struct ub_event_base_vmt){ .new_event = event_new };
	b->event_calls = (struct ub_event_vmt){
		.add_bits = event_add_bits, .del_bits = event_del_bits, .set_fd = event_set_fd, .free = event_free,
		.add = event_add, .del = event_del, .add_timer = timer_add, .del_timer = event_del,
	};
	b->base = (struct ub_event_base){ .magic = UB_EVENT_MAGIC, .vmt = &b->base_calls };
}

/* ---- settings ------------------------------------------------------------------------------------------------ */

static enum err refused(struct backend *b, const char *what, struct str detail, int code)
{
	log_resolver_setting(b->log, (struct log_ids){ 0 }, str_z(what), detail, str_z(ub_strerror(code)));
	return ERR_SYNTAX;
}

static enum err set_option(struct backend *b, const char *name, const char *value)
{
	int code = ub_ctx_set_option(b->ctx, name, value);
	return code == 0 ? ERR_NONE : refused(b, name, str_z(value), code);
}

static enum err set_options(struct backend *b)
{
	static const char *const options[][2] = {
		{ "edns-buffer-size:", "1232" },   { "outgoing-range:", "256" },    { "num-queries-per-thread:", "1024" },
		{ "outgoing-num-tcp:", "16" },     { "incoming-num-tcp:", "0" },    { "msg-cache-size:", "4m" },
		{ "rrset-cache-size:", "8m" },     { "key-cache-size:", "2m" },     { "neg-cache-size:", "1m" },
		{ "cache-max-ttl:", "86400" },     { "cache-max-negative-ttl:", "900" },
		{ "use-syslog:", "no" },
	};
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
		TRY(set_option(b, options[i][0], options[i][1]));
	return set_option(b, "module-config:", b->conf->dnssec ? "validator iterator" : "iterator");
}

/* The keys of the root of 2017 and 2024 (RFC 7958 tells where they are published): for systems without a file. */
static enum err add_built_in_anchors(struct backend *b)
{
	static const char *const anchors[] = {
		". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
		". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
	};
	log_resolver_anchor(b->log, (struct log_ids){ 0 }, SYSTEM_ANCHOR);
	for (size_t i = 0; i < sizeof anchors / sizeof anchors[0]; i++) {
		int code = ub_ctx_add_ta(b->ctx, anchors[i]);
		if (code)
			return refused(b, "trust anchor", str_z(anchors[i]), code);
	}
	return ERR_NONE;
}

static bool can_be_read(struct backend *b, struct str path)
{
	int fd;
	if (world_open(b->w, WORLD_ABSOLUTE, path, WORLD_READ, 0, &fd) != ERR_NONE)
		return false;
	world_close(b->w, fd);
	return true;
}

static enum err add_files(struct backend *b)
{
	struct str anchor = b->conf->trust_anchor.n ? b->conf->trust_anchor : SYSTEM_ANCHOR, hints = b->conf->root_hints;
	if (b->conf->dnssec && !b->conf->trust_anchor.n && !can_be_read(b, anchor)) {
		TRY(add_built_in_anchors(b));
	} else if (b->conf->dnssec) {
		int code = can_be_read(b, anchor) ? ub_ctx_add_ta_file(b->ctx, arena_z(b->arena, anchor)) : UB_READFILE;
		if (code)
			return refused(b, "trust_anchor", anchor, code);
	}
	if (hints.n && !can_be_read(b, hints))
		return refused(b, "root_hints", hints, UB_READFILE);
	return hints.n ? set_option(b, "root-hints:", arena_z(b->arena, hints)) : ERR_NONE;
}

/* libunbound writes a port after an at sign. */
static const char *server_text(struct backend *b, const struct ip *ip)
{
	char text[IP_TEXT_MAX];
	struct buf t = buf_fixed(text, sizeof text);
	ip_add(&t, ip);
	buf_addf(&t, "@%u", ip->port);
	return arena_z(b->arena, buf_str(&t));
}

static enum err add_stubs(struct backend *b)
{
	bool local = false;
	for (size_t i = 0; i < b->conf->stubs_n; i++) {
		const struct conf_stub *s = &b->conf->stubs[i];
		const char *zone = arena_z(b->arena, s->zone.n ? s->zone : STR("."));
		const char *server = server_text(b, &s->server);
		TRY(arena_err(b->arena));
		int code = ub_ctx_set_stub(b->ctx, zone, server, 0);
		if (code)
			return refused(b, "stub", s->zone, code);
		if (s->insecure)
			TRY(set_option(b, "domain-insecure:", zone));
		local |= ip_is_loopback(&s->server);
	}
	return local ? set_option(b, "do-not-query-localhost:", "no") : ERR_NONE;
}

/* libunbound answers some zones (test., invalid., onion., …) itself: not what the operator has a server for. */
static enum err remove_local_zones(struct backend *b)
{
	for (size_t i = 0; i < b->conf->stubs_n; i++)
		for (struct str rest = b->conf->stubs[i].zone; rest.n > 0; (void)str_split(rest, '.', &rest)) {
			const char *zone = arena_z(b->arena, rest);
			int code = zone ? ub_ctx_zone_remove(b->ctx, zone) : UB_NOMEM;
			if (code)
				return refused(b, "stub", rest, code);
		}
	return ERR_NONE;
}

static void primed(void *arg, int rcode UNUSED, void *packet UNUSED, int n UNUSED, int sec UNUSED, char *why UNUSED,
		   int limited UNUSED)
{
	((struct backend *)arg)->primed = true;
}

/* The first question makes libunbound read its files: one that it answers itself, while there is no jail yet. */
static enum err prime(struct backend *b)
{
	int code = ub_resolve_event(b->ctx, "localhost", dns_type_number(DNS_TYPE_A), CLASS_IN, b, primed, NULL);
	return code || !b->primed ? refused(b, "start", STR("localhost"), code) : ERR_NONE;
}

static enum err make_context(struct backend *b)
{
	b->ctx = ub_ctx_create_ub_event(&b->base);
	if (!b->ctx)
		return ERR_NO_MEMORY;
	(void)ub_ctx_debugout(b->ctx, NULL); /* what matters is in the answers */
	TRY(set_options(b));
	TRY(add_files(b));
	TRY(add_stubs(b));
	TRY(remove_local_zones(b));
	return prime(b);
}

/* ---- questions ------------------------------------------------------------------------------------------------- */

static void finish(struct ask *a)
{
	struct backend *b = a->b;
	list_remove(&a->link);
	b->asks_n--;
	if (a->abandoned) {
		mem_free(b->mem, a);
		return;
	}
	a->done = true;
	co_wake_all(&a->waiter);
}

static void bogus(struct ask *a, const char *why)
{
	char text[WHY_MAX];
	struct buf b = buf_fixed(text, sizeof text);
	struct str s = str_z(why);
	for (size_t i = 0; i < s.n && b.n + 4 < sizeof text; i++)
		buf_add_safe(&b, str_sub(s, i, i + 1), 1);
	*a->out = (struct dns_lookup_out){ .status = DNS_STATUS_BOGUS, .ttl = 0 };
	a->out->why = b.n ? arena_str(a->arena, buf_str(&b)) : STR("DNSSEC validation failed");
}

/* In an event, rcode says nothing of names that do not exist, and a bogus answer looks like a good one. */
static void answered(void *arg, int rcode, void *packet, int n, int sec, char *why, int limited UNUSED)
{
	struct ask *a = arg;
	if (a->abandoned) {
		finish(a);
		return;
	}
	if (sec == SEC_BOGUS)
		bogus(a, why);
	else if (rcode != 0 || !packet || n <= 0) /* with a code, the packet may be a head and nothing more */
		dns_fail(a->out, rcode == 2 ? STR("the name servers fail or do not answer (SERVFAIL)") :
					      STR("libunbound could not ask"), 0);
	else
		a->err = dns_read(str_of(packet, (size_t)n), str_z(a->name), a->type, a->arena, a->out);
	a->out->secure = sec == SEC_SECURE && a->out->status < DNS_STATUS_FAILED;
	finish(a);
}

static void start_one(struct backend *b, struct ask *a)
{
	list_push_back(&b->asked, &a->link);
	int code = ub_resolve_event(b->ctx, a->name, dns_type_number(a->type), CLASS_IN, a, answered, NULL);
	if (code == 0)
		return; /* and it may be answered already */
	if (!a->abandoned)
		dns_fail(a->out, str_z(ub_strerror(code)), 0);
	finish(a);
}

/* coroutine */
static void driver(void *arg)
{
	struct backend *b = arg;
	enum err e = b->open_err = make_context(b);
	b->is_open = true;
	co_wake_all(&b->opened);
	while (e == ERR_NONE || e == ERR_TIMEOUT) {
		for (struct list *it; (it = list_pop_front(&b->todo));)
			start_one(b, CONTAINER_OF(it, struct ask, link));
		fire_ready(b);
		fire_timers(b);
		struct heap_node *next = heap_min(&b->timers);
		(void)co_set_deadline(next ? next->key : NEVER);
		e = list_is_empty(&b->todo) ? co_wait(&b->wake) : ERR_NONE;
	}
	if (b->ctx)
		ub_ctx_delete(b->ctx);
	b->ctx = NULL;
}

static YIELDS enum err recursive_open(const struct backend_config *cfg, struct world_jail *jail_out, struct backend **b_out)
{
	struct backend *b = mem_alloc(cfg->mem, sizeof *b);
	if (!b)
		return ERR_NO_MEMORY;
	*b = (struct backend){ .w = cfg->w, .loop = cfg->loop, .mem = cfg->mem, .arena = cfg->arena, .log = cfg->log,
			       .conf = cfg->conf, .timers = heap_make(cfg->mem) };
	list_init(&b->events);
	list_init(&b->todo);
	list_init(&b->asked);
	co_queue_init(&b->wake);
	co_queue_init(&b->opened);
	set_calls(b);
	TRY(scope_spawn(cfg->scope, "libunbound", CO_STACK_HUGE, driver, b)); /* the process ends if this fails */
	while (!b->is_open)
		TRY(co_wait(&b->opened));
	TRY(b->open_err);
	jail_out->may = WORLD_MAY_CONNECT;
	jail_out->tcp_ports[jail_out->tcp_port_count++] = DNS_PORT;
	for (size_t i = 0; i < cfg->conf->stubs_n; i++)
		jail_out->tcp_ports[jail_out->tcp_port_count++] = cfg->conf->stubs[i].server.port;
	*b_out = b;
	return ERR_NONE;
}

static void drop_asks(struct list *asks)
{
	for (struct list *it; (it = list_pop_front(asks));) {
		struct ask *a = CONTAINER_OF(it, struct ask, link);
		mem_free(a->b->mem, a);
	}
}

static void recursive_close(struct backend *b)
{
	drop_asks(&b->todo); /* their callers have gone */
	drop_asks(&b->asked);
	heap_free(&b->timers);
	mem_free(b->mem, b);
}

static YIELDS enum err recursive_ask(struct backend *b, struct str name, enum dns_type type, struct arena *arena,
				     struct dns_lookup_out *out)
{
	struct ask *a = b->asks_n < ASKS_MAX ? mem_alloc(b->mem, sizeof *a) : NULL;
	if (!a || name.n > DNS_NAME_MAX) {
		mem_free(b->mem, a);
		return ERR_NO_MEMORY;
	}
	*a = (struct ask){ .b = b, .type = type, .arena = arena, .out = out };
	memcpy(a->name, name.p, name.n);
	co_queue_init(&a->waiter);
	list_push_back(&b->todo, &a->link);
	b->asks_n++;
	co_wake_one(&b->wake);
	enum err e = ERR_NONE;
	while (!a->done && e == ERR_NONE)
		e = co_wait(&a->waiter);
	if (!a->done) {
		a->abandoned = true; /* libunbound goes on; its answer frees it */
		return e;
	}
	e = a->err;
	mem_free(b->mem, a);
	return e;
}

const struct backend_ops backend_recursive = {
	.caches = true,
	.open = recursive_open,
	.ask = recursive_ask,
	.close = recursive_close,
};
