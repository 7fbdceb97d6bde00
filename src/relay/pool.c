/* SPDX-License-Identifier: Apache-2.0 */
/* Idle connections: see pool.h. Runs in relay. */
#include "relay/pool.h"

void pool_init(struct pool *p, struct relay_env *env, struct scope *scope)
{
	*p = (struct pool){ .env = env, .scope = scope };
	list_init(&p->idle);
	co_queue_init(&p->changed);
}

static bool fits(const struct client *c, const struct conf_route *route, const struct mx_target *t)
{
	if (c->route != route || c->address.family != t->address.family)
		return false;
	if (t->address.family == IP_UNIX)
		return str_eq(c->path, t->host);
	return c->address.port == t->address.port && ip_eq(&c->address, &t->address);
}

/* Nothing has come since: neither the end nor words (a 421). */
static bool is_alive(const struct client *c)
{
	char byte;
	size_t n;
	if (stream_input(&c->stream).n > 0 || tls_has_more(&c->stream))
		return false;
	return world_peek(c->env->w, c->stream.src.fd, &byte, 1, &n) == ERR_BUSY;
}

static void unlink_client(struct pool *p, struct client *c)
{
	list_remove(&c->link);
	p->n--;
}

struct client *pool_take(struct pool *p, const struct conf_route *route, const struct mx_target *target, uint64_t secure_key)
{
	struct list *before;
	for (struct list *it = p->idle.prev; it != &p->idle; it = before) {
		struct client *c = CONTAINER_OF(it, struct client, link);
		before = it->prev;
		if (!fits(c, route, target) || c->secure_key != secure_key)
			continue;
		unlink_client(p, c);
		if (is_alive(c)) {
			c->reused = true;
			c->heard = false;
			counter_add(p->env->count.reuses, 1);
			return c;
		}
		client_drop(c);
	}
	return NULL;
}

static size_t idle_at(const struct pool *p, const struct client *like)
{
	struct mx_target t = { .host = like->path, .address = like->address };
	size_t n = 0;
	LIST_EACH(&p->idle, it)
		n += fits(CONTAINER_OF(it, struct client, link), like->route, &t);
	return n;
}

void pool_put(struct pool *p, struct client *c)
{
	size_t most = c->route->connections ? c->route->connections : 1;
	bool room = p->n < POOL_MAX && idle_at(p, c) < most;
	if (!room || !client_can_go_on(c, NULL) || scope_stopping(p->scope)) {
		pool_quit(p, c);
		return;
	}
	stream_idle(&c->stream);
	c->idle_until_ns = world_mono_ns(p->env->w) + POOL_IDLE_NS;
	list_push_back(&p->idle, &c->link);
	p->n++;
	co_wake_all(&p->changed);
}

/* coroutine */
static void quit(void *arg)
{
	client_quit(arg);
}

void pool_quit(struct pool *p, struct client *c)
{
	if (scope_spawn(p->scope, "quit", CO_STACK_SMALL, quit, c) != ERR_NONE)
		client_drop(c);
}

void pool_empty(struct pool *p)
{
	LIST_EACH(&p->idle, it) {
		struct client *c = CONTAINER_OF(it, struct client, link);
		unlink_client(p, c);
		pool_quit(p, c);
	}
}

/* The next to end, or NULL. */
static struct client *first(struct pool *p)
{
	return list_is_empty(&p->idle) ? NULL : CONTAINER_OF(p->idle.next, struct client, link);
}

void pool_tend(struct pool *p)
{
	for (;;) {
		struct client *c = first(p);
		enum err e;
		if (!c) {
			e = co_wait(&p->changed);
		} else if (c->idle_until_ns > world_mono_ns(p->env->w)) {
			e = co_sleep_until(c->idle_until_ns);
		} else {
			unlink_client(p, c);
			pool_quit(p, c);
			e = ERR_NONE;
		}
		if (e != ERR_NONE)
			return;
	}
}
