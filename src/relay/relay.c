/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process relay: sends mail to other servers. It may connect out and nothing else; what servers and the
 * DNS say to it is hostile. See attempt.h, client.h, mx.h.
 *
 * Each relay_deliver call is a coroutine. Bodies come with the call, in parts before it, or as a file, as
 * in local. A queue that has many processes of this role may use any; all parts of one message go to the
 * same.
 */
#include "relay/relay.h"

#include "base/events.h"
#include "relay/attempt.h"

#define PENDING_BYTES_MAX ((size_t)64 << 20)
#define UPLOADS_MAX 1024u
#define DELIVERIES_MAX 1000u
#define BODY_MAX ((size_t)1 << 20)
#define CALL_ARENA_MAX ((size_t)4 << 20)
#define STOP_NS (8 * 1000000000LL) /* of the ten seconds that a process has */
#define STOP_LOOK_NS (20 * 1000000LL)
#define SOCKET_DIRS_MAX 32u
#define SPARE_DESCRIPTORS 64u
#define PASSWORD_FILE_MAX 4096u

/* A body that comes in parts, or as a file, before its relay_deliver. */
struct upload {
	struct list link;
	uint64_t id;
	uint32_t group;
	struct buf body;
	int fd;
};

struct relay {
	struct proc *p;
	struct relay_env env;
	struct pool pool;
	struct mx_dns dns;
	struct list uploads;
	size_t uploads_n, pending_bytes, deliveries;
	bool closing;
	struct str dirs[SOCKET_DIRS_MAX];
	struct gauge *active;
};

/* ---- bodies ------------------------------------------------------------------------------------------- */

static struct upload *upload_find(struct relay *l, uint64_t id, uint32_t group)
{
	LIST_EACH(&l->uploads, it) {
		struct upload *u = CONTAINER_OF(it, struct upload, link);
		if (u->id == id && u->group == group)
			return u;
	}
	return NULL;
}

static void upload_free(struct relay *l, struct upload *u)
{
	if (!u)
		return;
	list_remove(&u->link);
	l->uploads_n--;
	l->pending_bytes -= u->body.n;
	if (u->fd >= 0)
		world_close(l->p->w, u->fd);
	buf_free(&u->body);
	mem_free(l->p->mem, u);
}

static struct upload *upload_new(struct relay *l, uint64_t id, uint32_t group)
{
	struct upload *u = l->uploads_n < UPLOADS_MAX ? mem_alloc(l->p->mem, sizeof *u) : NULL;
	if (!u)
		return NULL;
	*u = (struct upload){ .id = id, .group = group, .fd = -1, .body = buf_grow(l->p->mem, BODY_MAX) };
	list_push_back(&l->uploads, &u->link);
	l->uploads_n++;
	return u;
}

static enum err on_part(void *self, struct ipc *from UNUSED, const struct relay_part_in *in, struct arena *arena UNUSED,
			struct relay_part_out *out UNUSED)
{
	struct relay *l = self;
	struct upload *u = upload_find(l, in->id, in->group);
	if (in->offset == 0 && u) { /* queue began again */
		upload_free(l, u);
		u = NULL;
	}
	if (!u)
		u = upload_new(l, in->id, in->group);
	if (!u || l->pending_bytes + in->bytes.n > PENDING_BYTES_MAX)
		return ERR_BUSY;
	if (in->offset != u->body.n)
		return ERR_SYNTAX;
	buf_add(&u->body, in->bytes);
	TRY(buf_err(&u->body));
	l->pending_bytes += in->bytes.n;
	return ERR_NONE;
}

static void on_file(void *self, struct ipc *from UNUSED, const struct relay_file_in *in)
{
	struct relay *l = self;
	upload_free(l, upload_find(l, in->id, in->group));
	struct upload *u = upload_new(l, in->id, in->group);
	if (u)
		u->fd = in->file;
	else
		world_close(l->p->w, in->file);
}

/* ---- delivering ----------------------------------------------------------------------------------------- */

static const struct conf_route *route_of(const struct relay *l, struct str name)
{
	for (size_t i = 0; i < l->p->conf.routes_n; i++)
		if (str_eq(l->p->conf.routes[i].name, name))
			return &l->p->conf.routes[i];
	return NULL;
}

static YIELDS enum err deliver(struct relay *l, const struct relay_deliver_in *in, struct upload *u, struct arena *arena,
			       struct relay_deliver_out *out)
{
	struct delivery d;
	int64_t began_ns = world_mono_ns(l->p->w);
	TRY(delivery_init(&d, &l->env, in, u ? buf_str(&u->body) : str_of("", 0), u ? u->fd : -1, arena));
	uint64_t total_ms = l->p->conf.times.data_total;
	d.end_ns = total_ms < (uint64_t)(NEVER - began_ns) / 1000000 ? began_ns + (int64_t)total_ms * 1000000 : NEVER;
	struct attempt a = { .pool = &l->pool, .dns = &l->dns, .route = route_of(l, in->route), .d = &d, .mx_set = STR("") };
	if (a.route) {
		attempt_run(&a);
	} else { /* of an earlier configuration, perhaps */
		d.reach = RELAY_REACH_UNKNOWN;
		d.trouble = finding_make("4.3.5", STR("the configuration has no such route"));
	}
	histogram_add(l->env.count.took_ms, (uint64_t)((world_mono_ns(l->p->w) - began_ns) / 1000000));
	return delivery_answer(&d, a.mx_set, out);
}

static YIELDS enum err on_deliver(void *self, struct ipc *from UNUSED, const struct relay_deliver_in *in,
				  struct arena *arena, struct relay_deliver_out *out)
{
	struct relay *l = self;
	struct upload *u = upload_find(l, in->id, in->group);
	if (u) { /* ours from here on: a second call may come with its own */
		list_remove(&u->link);
		list_init(&u->link);
	}
	enum err e = l->closing ? ERR_CLOSED : l->deliveries >= DELIVERIES_MAX ? ERR_BUSY : ERR_NONE;
	if (e == ERR_NONE) {
		l->deliveries++;
		gauge_add(l->active, 1);
		e = deliver(l, in, u, arena, out);
		gauge_add(l->active, -1);
		l->deliveries--;
	}
	upload_free(l, u);
	return e;
}

/* ---- the resolver ---------------------------------------------------------------------------------------- */

static YIELDS enum err ask_resolver(void *arg, const struct dns_lookup_in *in, struct arena *arena, struct dns_lookup_out *out)
{
	struct relay *l = arg;
	struct ipc *ch = proc_peer(l->p, ROLE_RESOLVER, 0);
	return ch ? call_dns_lookup(ch, in, arena, out) : ERR_CLOSED;
}

/* ---- the process ------------------------------------------------------------------------------------------ */

static void register_metrics(struct relay *l)
{
	static const struct histogram_shape times = { 10, 1000, { 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000, 600000 } };
	struct metrics *m = l->p->metrics;
	l->env.count.connections = metrics_counter(m, "godwit_relay_connections_total", STR_NONE, "Connections made to other servers.");
	l->env.count.failed_connections = metrics_counter(m, "godwit_relay_connections_failed_total", STR_NONE, "Attempts to connect that failed.");
	l->env.count.reuses = metrics_counter(m, "godwit_relay_connections_reused_total", STR_NONE, "Messages for which a connection was there.");
	l->env.count.delivered = metrics_counter(m, "godwit_relay_delivered_total", STR_NONE, "Recipients that another server accepted.");
	l->env.count.deferred = metrics_counter(m, "godwit_relay_deferred_total", STR_NONE, "… that did not work for the moment.");
	l->env.count.refused = metrics_counter(m, "godwit_relay_refused_total", STR_NONE, "… that failed for good.");
	l->env.count.took_ms = metrics_histogram(m, "godwit_relay_seconds", STR_NONE, "One attempt for one message.", &times);
	l->env.count.tls = metrics_counter(m, "godwit_relay_tls_total", STR_NONE, "Connections to other servers with TLS.");
	l->env.count.tls_verified = metrics_counter(m, "godwit_relay_tls_verified_total", STR_NONE, "… whose certificate was verified.");
	l->env.count.tls_failed = metrics_counter(m, "godwit_relay_tls_failed_total", STR_NONE, "TLS handshakes with other servers that failed.");
	l->active = metrics_gauge(m, "godwit_relay_active", STR_NONE, "Attempts at present.");
}

/* LMTP servers at paths: their directories are all that we may see, and only if there are any. */
static void allow_sockets(struct relay *l, struct world_jail *jail)
{
	size_t n = 0;
	for (size_t i = 0; i < l->p->conf.routes_n; i++) {
		const struct conf_route *r = &l->p->conf.routes[i];
		for (size_t k = 0; k < r->hops_n && n < SOCKET_DIRS_MAX; k++) {
			struct str path = r->hops[k].host;
			size_t slash = str_rfind(path, '/');
			if (str_starts(path, STR("/")))
				l->dirs[n++] = slash ? str_sub(path, 0, slash) : STR("/");
		}
	}
	jail->dirs = l->dirs;
	jail->dir_count = n;
}

/* The authorities of routes with tls verify; a file for each different one. BLOCKING. */
static enum err read_trusts(struct relay *l)
{
	struct relay_env *env = &l->env;
	for (size_t i = 0; i < l->p->conf.routes_n; i++) {
		const struct conf_route *r = &l->p->conf.routes[i];
		size_t k = 0;
		while (k < env->trusts_n && !str_eq(env->trusts[k].ca_file, r->tls_ca))
			k++;
		if (r->tls != ROUTE_TLS_VERIFY || k < env->trusts_n)
			continue;
		enum err e = k < RELAY_TRUSTS_MAX ? tls_client_new(l->p->w, r->tls_ca, &env->trusts[k].tls) : ERR_LIMIT;
		if (e != ERR_NONE) {
			log_io_error(&l->p->log, (struct log_ids){ 0 }, STR("load authorities (tls_ca)"), e, r->tls_ca);
			return e;
		}
		env->trusts[k].ca_file = r->tls_ca;
		env->trusts_n++;
	}
	return ERR_NONE;
}

/* The first line of a file. BLOCKING. */
static enum err read_password(struct relay *l, struct str file, struct str *out)
{
	char room[PASSWORD_FILE_MAX + 2];
	struct buf b = buf_fixed(room, sizeof room);
	struct str rest;
	enum err e = world_read_file(l->p->w, WORLD_ABSOLUTE, file, PASSWORD_FILE_MAX, &b);
	struct str line = str_split(buf_str(&b), '\n', &rest);
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (e == ERR_NONE && (line.n == 0 || str_has_control(line)))
		e = ERR_SYNTAX;
	if (e == ERR_NONE)
		*out = arena_str(&l->p->arena, line);
	explicit_bzero(room, sizeof room);
	return e == ERR_NONE ? arena_err(&l->p->arena) : e;
}

/* P4: read here and not told by master, so that no other process ever has them, nor any log. */
static enum err read_passwords(struct relay *l)
{
	const struct conf *c = &l->p->conf;
	l->env.passwords = ARENA_ARRAY(&l->p->arena, struct str, c->routes_n ? c->routes_n : 1);
	TRY(arena_err(&l->p->arena));
	for (size_t i = 0; i < c->routes_n; i++) {
		const struct conf_route *r = &c->routes[i];
		enum err e = r->auth_file.n ? read_password(l, r->auth_file, &l->env.passwords[i]) : ERR_NONE;
		if (e != ERR_NONE) {
			log_io_error(&l->p->log, (struct log_ids){ 0 }, STR("read the password of a route (auth)"), e, r->auth_file);
			return e;
		}
	}
	return ERR_NONE;
}

static void free_tls(struct relay_env *env)
{
	tls_client_free(env->tls);
	env->tls = NULL;
	while (env->trusts_n > 0)
		tls_client_free(env->trusts[--env->trusts_n].tls);
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out) /* yields: indirect */
{
	struct relay *l = self;
	l->p = p;
	list_init(&l->uploads);
	l->env = (struct relay_env){ .w = p->w, .loop = p->loop, .mem = p->mem, .conf = &p->conf, .log = &p->log };
	l->dns = (struct mx_dns){ ask_resolver, l };
	pool_init(&l->pool, &l->env, &p->work);
	register_metrics(l);
	world_random(p->w, &l->env.pool_key, sizeof l->env.pool_key);
	TRY(read_trusts(l));
	TRY(read_passwords(l));
	jail_out->may = WORLD_MAY_CONNECT | WORLD_MAY_THREADS;
	jail_out->uid = jail_out->gid = p->conf.users.uid_relay; /* it owns nothing: also chroot, by the jail */
	jail_out->max_fds = 2 * (DELIVERIES_MAX + POOL_MAX) + SPARE_DESCRIPTORS; /* a connection and a file each */
	allow_sockets(l, jail_out);
	return ERR_NONE;
}

/* coroutine */
static void tend(void *arg)
{
	pool_tend(arg);
}

static YIELDS enum err work(struct proc *p, void *self) /* yields: indirect */
{
	struct relay *l = self;
	return scope_spawn(&p->work, "idle connections", CO_STACK_SMALL, tend, &l->pool);
}

/* Queue has stopped before us, having waited for what it could wait for; what is past its end is finished. */
static YIELDS void stop(struct proc *p, void *self)
{
	struct relay *l = self;
	int64_t until_ns = world_mono_ns(p->w) + STOP_NS;
	l->closing = true;
	pool_empty(&l->pool);
	while (l->deliveries > 0 && world_mono_ns(p->w) < until_ns)
		if (co_sleep_until(world_mono_ns(p->w) + STOP_LOOK_NS) != ERR_NONE)
			break;
	scope_close(&p->work);
	if (l->deliveries == 0)
		free_tls(&l->env);
}

static const struct ipc_handlers handlers = {
	.relay_deliver = on_deliver, .relay_part = on_part, .relay_file = on_file
};

const struct proc_ops relay_ops = {
	.role = ROLE_RELAY,
	.state_bytes = sizeof(struct relay),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.start = start,
	.work = work,
	.stop = stop,
};
