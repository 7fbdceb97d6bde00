/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Master: see master.h.
 *
 * Invariants:
 *  M1  Between two live children whose roles calls.def pairs there is exactly one channel; when one dies
 *      and is started again, its peers get new ones. One that breaks while both live is made again.
 *  M2  Listening sockets belong to master and outlive every smtpd: clients that connect while one is
 *      started again wait in the kernel.
 *  M3  Children are stopped in the order in which mail flows, so that nobody calls the dead.
 *  M4  What an smtpd counted of connections ends with it: its counts are cleared before the next one starts.
 */
#include "master/master.h"

#include "base/events.h"
#include "config.h"
#include "master/dirs.h"
#include "master/master_internal.h"

#define CONF_ARENA_MAX ((size_t)64 << 20)
#define CONF_PIECE 32768u
#define BACK_OFF_FIRST_NS (100 * 1000000LL)
#define BACK_OFF_MAX_NS (30 * 1000000000LL)
#define LIVED_LONG_NS (60 * 1000000000LL)
#define MEND_AFTER_NS (200 * 1000000LL)
#define STOP_ONE_NS (12 * 1000000000LL)
#define OTHER_SERVER_NS (2 * 1000000000LL)
#define START_ONE_NS (600 * 1000000000LL) /* a huge spool is recovered */
#define MASTER_ARENA ((size_t)512 << 10)
#define CERTIFICATES_NS (60 * 1000000000LL)
#define CERTIFICATES_TURNS (24u * 60)
#define ACCOUNT_FILES_NS (3 * 1000000000LL)

static const char *const state_names[] = { "none", "starting", "ready", "stopping", "dead" };

/* Order of starting; the reverse is not the order of stopping (M3). */
static const enum role start_order[] = { ROLE_CONTROL, ROLE_KEYS, ROLE_RESOLVER, ROLE_LOOKUP, ROLE_LOCAL, ROLE_RELAY, ROLE_QUEUE, ROLE_SMTPD };
static const enum role stop_order[] = { ROLE_SMTPD, ROLE_QUEUE, ROLE_LOCAL, ROLE_RELAY, ROLE_LOOKUP, ROLE_RESOLVER, ROLE_KEYS, ROLE_CONTROL };

void master_failed(struct master *m, const char *what, enum err e, struct str detail)
{
	log_server_start_failed(&m->log, NO_IDS, str_z(what), e, detail);
}

/* ---- what must be there before anybody starts ------------------------------------------------------- */

static enum err make_dirs(struct master *m)
{
	const struct conf *c = &m->conf;
	const struct conf_users *u = &c->users;
	struct {
		struct str path;
		unsigned uid, gid, mode;
	} dirs[] = {
		{ c->spool, u->uid_queue, u->uid_queue, 0700 },
		{ c->state, 0, 0, 0755 },
		{ arena_strf(&m->arena, "%.*s/accounts", STR_ARG(c->state)), u->uid_lookup, u->uid_lookup, 0700 },
		{ arena_strf(&m->arena, "%.*s/history", STR_ARG(c->state)), u->uid_control, u->uid_control, 0700 },
		{ c->mail, u->uid_mail, u->uid_mail, 0711 },
		{ c->run, u->uid_control, u->gid_control, 0755 },
		{ m->certificates.dir, 0, 0, 0700 },
	};
	for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
		enum err e = dirs[i].path.n ? dir_make(m->w, dirs[i].path, dirs[i].uid, dirs[i].gid, dirs[i].mode) : ERR_NONE;
		if (e != ERR_NONE) {
			master_failed(m, "make a directory", e, dirs[i].path);
			return e;
		}
		struct str blocked = STR("");
		e = dir_check_way(m->w, dirs[i].path, dirs[i].uid, dirs[i].gid, &blocked);
		if (e != ERR_NONE) {
			master_failed(m, "a user of the server's own cannot pass this directory: chmod o+x, or choose another place", e, blocked);
			return e;
		}
	}
	return ERR_NONE;
}

/* Its sockets would share our ports (SO_REUSEPORT), and clients would be lost on the way to nobody. One that
 * was killed may take a moment to be gone. */
static YIELDS enum err be_alone(struct master *m)
{
	struct str path = arena_strf(&m->arena, "%.*s/control.sock", STR_ARG(m->conf.run));
	int64_t until = world_mono_ns(m->w) + OTHER_SERVER_NS;
	int fd;
	while (world_connect_path(m->w, path, &fd) == ERR_NONE) {
		world_close(m->w, fd);
		if (world_mono_ns(m->w) > until) {
			master_failed(m, "start: another server runs with this configuration", ERR_EXISTS, path);
			return ERR_EXISTS;
		}
		TRY(co_sleep_until(world_mono_ns(m->w) + 50 * 1000000LL));
	}
	return ERR_NONE;
}

static unsigned smtpd_count(const struct master *m)
{
	unsigned n = m->conf.smtpd_processes ? m->conf.smtpd_processes : world_cpus(m->w);
	return n > COUNTS_MAX ? COUNTS_MAX : n;
}

static unsigned relay_count(const struct master *m)
{
	unsigned n = world_cpus(m->w);
	return n > 8 ? 8 : n;
}

/* One socket for each listener and smtpd: SO_REUSEPORT spreads clients evenly (docs/measurements.md §6). */
static enum err open_listeners(struct master *m)
{
	unsigned n = smtpd_count(m);
	m->sockets = mem_alloc(m->mem, sizeof(int) * n * (m->conf.listeners_n + 1));
	if (!m->sockets)
		return ERR_NO_MEMORY;
	for (size_t l = 0; l < m->conf.listeners_n; l++) {
		const struct ip *at = &m->conf.listeners[l].address;
		for (unsigned i = 0; i < n; i++) {
			enum err e = world_listen(m->w, at, n > 1, &m->sockets[l * n + i]);
			if (e == ERR_NONE)
				continue;
			char text[IP_TEXT_MAX + 16];
			struct buf b = buf_fixed(text, sizeof text);
			ip_add_port(&b, at);
			master_failed(m, e == ERR_EXISTS ? "listen: the port is taken by another program" :
				   e == ERR_DENIED ? "listen: ports below 1024 need root" : "listen", e, buf_str(&b));
			return e;
		}
	}
	return ERR_NONE;
}

/* ---- children ------------------------------------------------------------------------------------------ */

static enum err dispatch(void *arg, struct ipc_request *rq);

static void channel_closed(void *arg, struct ipc *ch)
{
	struct master *m = arg;
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].ch == ch)
			m->children[i].ch = NULL;
}

static unsigned role_count(const struct master *m, enum role role)
{
	if (role == ROLE_KEYS)
		return certificates_wanted(&m->conf) ? 1 : 0;
	return role == ROLE_SMTPD ? smtpd_count(m) : role == ROLE_RELAY ? relay_count(m) : 1;
}

/* Tells both of a new channel between them (M1). */
static YIELDS enum err pair_up(struct master *m, struct child *a, struct child *b)
{
	int fds[2];
	TRY(world_pair(m->w, fds));
	size_t a_at = (size_t)(a - m->children), b_at = (size_t)(b - m->children);
	uint32_t serial = ++m->serial;
	struct proc_peer_in to_a = { (uint8_t)b->role, (uint16_t)b->index, fds[0], (uint16_t)role_count(m, b->role), serial };
	struct proc_peer_in to_b = { (uint8_t)a->role, (uint16_t)a->index, fds[1], (uint16_t)role_count(m, a->role), serial };
	a->serials[b_at] = b->serials[a_at] = serial;
	a->lost &= ~(UINT64_C(1) << b_at); /* what they say of the one before is over */
	b->lost &= ~(UINT64_C(1) << a_at);
	enum err e = note_proc_peer(a->ch, &to_a);
	if (e == ERR_NONE)
		e = note_proc_peer(b->ch, &to_b);
	/* The notes leave when the writers run; the packets hold the descriptors from then on. */
	while (e == ERR_NONE && ((a->ch && !ipc_is_sent(a->ch)) || (b->ch && !ipc_is_sent(b->ch))))
		e = co_yield();
	world_close(m->w, fds[0]);
	world_close(m->w, fds[1]);
	return e;
}

static YIELDS enum err send_configuration(struct master *m, struct child *c, struct arena *arena)
{
	for (size_t at = 0; at < m->conf_bytes.n; at += CONF_PIECE) {
		struct proc_configure_in in = {
			.offset = (uint32_t)at,
			.bytes = str_sub(m->conf_bytes, at, at + CONF_PIECE),
			.last = at + CONF_PIECE >= m->conf_bytes.n,
		};
		struct proc_configure_out out;
		if (!c->ch)
			return ERR_CLOSED;
		TRY(call_proc_configure(c->ch, &in, arena, &out));
	}
	return ERR_NONE;
}

static enum err send_listeners(struct master *m, struct child *c)
{
	unsigned n = smtpd_count(m);
	if (c->role == ROLE_SMTPD)
		TRY(c->ch ? counts_send(&m->counts, c->ch, c->index) : ERR_CLOSED);
	for (size_t l = 0; c->role == ROLE_SMTPD && l < m->conf.listeners_n; l++) {
		struct proc_listener_in in = { .socket = m->sockets[l * n + c->index], .listener = (uint16_t)l };
		if (!c->ch)
			return ERR_CLOSED;
		TRY(note_proc_listener(c->ch, &in));
	}
	return ERR_NONE;
}

static YIELDS enum err connect_child(struct master *m, struct child *c)
{
	for (size_t i = 0; i < m->children_n; i++) {
		struct child *other = &m->children[i];
		if (other == c || !other->ch || !role_pair(c->role, other->role))
			continue;
		if (!c->ch)
			return ERR_CLOSED;
		TRY(pair_up(m, c, other));
	}
	return ERR_NONE;
}

static enum err spawn_child(struct master *m, struct child *c)
{
	int fds[2];
	TRY(world_pair(m->w, fds));
	struct world_spawn spec = { .role = str_z(role_name(c->role)), .index = c->index, .master_fd = fds[1] };
	enum err e = world_spawn(m->w, &spec, &c->pid);
	world_close(m->w, fds[1]);
	if (e != ERR_NONE) {
		world_close(m->w, fds[0]);
		return e;
	}
	c->state = CHILD_STARTING;
	c->lost = 0;
	c->started_ns = world_mono_ns(m->w);
	struct ipc_config cfg = { .loop = m->loop, .scope = &m->channels, .fd = fds[0], .peer_role = (uint8_t)c->role,
				  .peer_index = (uint16_t)c->index, .dispatch = dispatch, .self = m,
				  .arena_max = MASTER_ARENA, .on_closed = channel_closed };
	return ipc_open(&cfg, &c->ch);
}

/* Starts one child and waits until it is ready. */
static YIELDS enum err start_child(struct master *m, struct child *c)
{
	struct arena ARENA_SCOPED arena = arena_make(m->mem, 65536);
	int64_t before = co_set_deadline(world_mono_ns(m->w) + START_ONE_NS);
	struct proc_start_out out;
	enum err e = spawn_child(m, c);
	if (e == ERR_NONE)
		e = send_configuration(m, c, &arena);
	if (e == ERR_NONE)
		e = send_listeners(m, c);
	if (e == ERR_NONE)
		e = connect_child(m, c);
	if (e == ERR_NONE)
		e = c->ch ? call_proc_start(c->ch, &(struct proc_start_in){ 0 }, &arena, &out) : ERR_CLOSED;
	co_set_deadline(before);
	if (e == ERR_NONE && c->state == CHILD_STARTING)
		c->state = CHILD_READY;
	if (e == ERR_NONE && c->role == ROLE_KEYS)
		certificates_load(&m->certificates, &c->ch, CERTIFICATES_ALL);
	if (e == ERR_NONE && c->role == ROLE_LOOKUP)
		(void)account_files_load(&m->account_files, &c->ch, ACCOUNT_FILES_ALL);
	return e;
}

static void restart(void *arg);

static void child_died(struct master *m, struct child *c, int status)
{
	char text[32];
	struct buf b = buf_fixed(text, sizeof text);
	buf_add(&b, status >= 256 ? STR("signal ") : STR("status "));
	buf_add_u64(&b, (uint64_t)(status >= 256 ? status - 256 : status));
	if (!m->stopping)
		log_process_exit(&m->log, NO_IDS, str_z(role_name(c->role)), (uint64_t)c->pid, buf_str(&b));
	bool was_ready = c->state == CHILD_READY;
	bool lived_long = world_mono_ns(m->w) - c->started_ns > LIVED_LONG_NS;
	c->state = CHILD_DEAD;
	c->pid = 0;
	if (c->ch)
		ipc_close(c->ch);
	c->ch = NULL;
	c->back_off_ns = lived_long || !c->back_off_ns ? BACK_OFF_FIRST_NS : c->back_off_ns * 2;
	if (c->back_off_ns > BACK_OFF_MAX_NS)
		c->back_off_ns = BACK_OFF_MAX_NS;
	if (c->role == ROLE_SMTPD)
		counts_clear(&m->counts, c->index); /* M4 */
	co_wake_all(&m->died);
	if (m->stopping || (!m->started && !was_ready)) /* start_all() hears it, and gives up */
		return;
	log_process_restart(&m->log, NO_IDS, str_z(role_name(c->role)), (uint64_t)(c->back_off_ns / 1000000));
	if (scope_spawn(&m->scope, "restart", CO_STACK_SMALL, restart, c) != ERR_NONE)
		m->stopping = true; /* not even memory for that: an orderly end, and the service manager's turn */
}

/* coroutine */
static void restart(void *arg)
{
	struct child *c = arg;
	struct master *m = c->m;
	if (co_sleep_until(world_mono_ns(m->w) + c->back_off_ns) != ERR_NONE || m->stopping)
		return;
	c->restarts++;
	enum err e = start_child(m, c);
	if (e == ERR_NONE || m->stopping)
		return;
	master_failed(m, "start a process again", e, str_z(role_name(c->role)));
	if (c->pid > 0) {
		if (world_kill(m->w, c->pid, 1) != ERR_NONE)
			c->pid = 0; /* it is gone already; its end is being told */
	} else {
		child_died(m, c, 71);
	}
}

static void reap_children(struct master *m)
{
	int pid, status;
	while (world_reap(m->w, &pid, &status) == ERR_NONE)
		for (size_t i = 0; i < m->children_n; i++)
			if (m->children[i].pid == pid)
				child_died(m, &m->children[i], status);
}

/* ---- channels that break between two that live ---------------------------------------------------------------- */

static void on_lost(void *self, struct ipc *from, const struct proc_lost_in *in)
{
	struct master *m = self;
	struct child *a = NULL;
	size_t b = m->children_n;
	for (size_t i = 0; i < m->children_n; i++) {
		if (m->children[i].ch == from)
			a = &m->children[i];
		if (m->children[i].role == (enum role)in->role && m->children[i].index == in->index)
			b = i;
	}
	if (!a || b == m->children_n || a == &m->children[b] || in->serial != a->serials[b])
		return;
	a->lost |= UINT64_C(1) << b;
	co_wake_one(&m->lost);
}

static YIELDS void mend(struct master *m, struct child *a, struct child *b)
{
	if (a->state != CHILD_READY || b->state != CHILD_READY || !a->ch || !b->ch || !role_pair(a->role, b->role))
		return; /* whoever is started gets all of its channels */
	enum err e = pair_up(m, a, b);
	log_channel_mended(&m->log, NO_IDS, str_z(role_name(a->role)), str_z(role_name(b->role)), e);
}

/* coroutine */
static void mender(void *arg)
{
	struct master *m = arg; /* M1; the pause is for a death to be noticed */
	while (!m->stopping && co_wait(&m->lost) == ERR_NONE) {
		if (co_sleep_until(world_mono_ns(m->w) + MEND_AFTER_NS) != ERR_NONE)
			return;
		for (size_t i = 0; i < m->children_n; i++)
			for (size_t k = 0; k < m->children_n; k++) {
				bool a = m->children[i].lost >> k & 1, b = m->children[k].lost >> i & 1;
				m->children[i].lost &= ~(UINT64_C(1) << k);
				m->children[k].lost &= ~(UINT64_C(1) << i);
				if (a || b)
					mend(m, &m->children[i], &m->children[k]);
			}
	}
}

/* ---- certificates ------------------------------------------------------------------------------------------- */

static YIELDS void load_certificates(struct master *m, enum certificates_which which)
{
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].role == ROLE_KEYS && m->children[i].state == CHILD_READY)
			certificates_load(&m->certificates, &m->children[i].ch, which);
}

/* coroutine */
static void watch_certificates(void *arg)
{
	struct master *m = arg;
	for (unsigned turn = 0; m->certificates.n; turn = (turn + 1) % CERTIFICATES_TURNS) {
		if (turn == 0)
			certificates_look(&m->certificates);
		if (co_sleep_until(world_mono_ns(m->w) + CERTIFICATES_NS) != ERR_NONE)
			return;
		load_certificates(m, CERTIFICATES_CHANGED);
	}
}

/* True: all that were looked at are in use. */
static YIELDS bool load_account_files(struct master *m, enum account_files_which which)
{
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].role == ROLE_LOOKUP && m->children[i].state == CHILD_READY)
			return account_files_load(&m->account_files, &m->children[i].ch, which);
	return false;
}

/* coroutine */
static void watch_account_files(void *arg)
{
	struct master *m = arg;
	while (m->account_files.n && co_sleep_until(world_mono_ns(m->w) + ACCOUNT_FILES_NS) == ERR_NONE)
		(void)load_account_files(m, ACCOUNT_FILES_CHANGED);
}

static YIELDS bool reload(struct master *m)
{
	uint64_t bad = 0;
	bool good = m->account_files.n == 0 || load_account_files(m, ACCOUNT_FILES_ALL);
	load_certificates(m, CERTIFICATES_ALL);
	for (size_t i = 0; i < m->certificates.n; i++)
		bad += m->certificates.v[i].text_n > 0;
	log_certificates_reloaded(&m->log, NO_IDS, m->certificates.n - bad, bad);
	return good;
}

/* coroutine */
static void reload_once(void *arg)
{
	(void)reload(arg);
}

/* ---- calls from control ------------------------------------------------------------------------------------ */

static enum err on_stop(void *self, struct ipc *from UNUSED, const struct master_stop_in *in UNUSED,
			struct arena *arena UNUSED, struct master_stop_out *out UNUSED)
{
	struct master *m = self;
	m->stopping = true;
	co_wake_all(&m->died);
	return ERR_NONE;
}

static YIELDS enum err on_reload(void *self, struct ipc *from UNUSED, const struct master_reload_in *in UNUSED,
			 struct arena *arena, struct master_reload_out *out)
{
	struct master *m = self;
	out->accounts_good = reload(m);
	TRY(certificates_status(&m->certificates, arena, &out->certificates, &out->certificates_n));
	out->good = true;
	for (size_t i = 0; i < out->certificates_n; i++)
		out->good = out->good && out->certificates[i].text.n == 0;
	return ERR_NONE;
}

static enum err on_status(void *self, struct ipc *from UNUSED, const struct master_status_in *in UNUSED,
			  struct arena *arena, struct master_status_out *out)
{
	struct master *m = self;
	out->version = STR(GODWIT_VERSION);
	out->processes = ARENA_ARRAY(arena, struct proc_status, m->children_n);
	if (!out->processes)
		return arena_err(arena);
	for (size_t i = 0; i < m->children_n; i++) {
		const struct child *c = &m->children[i];
		out->processes[out->processes_n++] = (struct proc_status){
			.role = (uint8_t)c->role, .index = (uint16_t)c->index, .pid = (uint32_t)c->pid,
			.state = str_z(state_names[c->state]), .restarts = c->restarts,
			.uptime_ms = (uint64_t)((world_mono_ns(m->w) - c->started_ns) / 1000000),
		};
	}
	return certificates_status(&m->certificates, arena, &out->certificates, &out->certificates_n);
}

static enum err on_metrics(void *self, struct ipc *from UNUSED, const struct proc_metrics_in *in UNUSED,
			   struct arena *arena, struct proc_metrics_out *out)
{
	struct master *m = self;
	struct buf b = buf_grow(m->mem, 60000);
	for (size_t i = 0; i < m->children_n; i++)
		buf_addf(&b, "godwit_process_restarts_total{role=\"%s\",index=\"%u\"} %u\n",
			 role_name(m->children[i].role), m->children[i].index, m->children[i].restarts);
	out->text = arena_str(arena, buf_str(&b));
	buf_free(&b);
	return arena_err(arena);
}

static const struct ipc_handlers handlers = {
	.master_stop = on_stop, .master_status = on_status, .master_reload = on_reload, .proc_metrics = on_metrics, .proc_lost = on_lost
};

static enum err dispatch(void *arg, struct ipc_request *rq)
{
	return ipc_serve(&handlers, ROLE_MASTER, arg, rq);
}

/* ---- first to last ------------------------------------------------------------------------------------------- */

static void list_children(struct master *m)
{
	for (size_t r = 0; r < sizeof start_order / sizeof start_order[0]; r++)
		for (unsigned i = 0; i < role_count(m, start_order[r]); i++)
			m->children[m->children_n++] = (struct child){ .m = m, .role = start_order[r], .index = i };
}

/* All directories and sockets are there; from here on it starts, watches and stops. */
static enum err enter_jail(struct master *m)
{
	static const struct str everything[] = { STR("/") }; /* it opens files for keys and lookup, wherever they are */
	bool opens = m->account_files.n + m->certificates.n > 0;
	struct world_jail jail = { .role = "master", .may = WORLD_MAY_SPAWN | (opens ? WORLD_MAY_FILES : 0), .dirs = everything, .dir_count = opens };
	enum err e = world_jail_enter(m->w, &jail);
	if (e != ERR_NONE)
		master_failed(m, "enter the jail", e, STR("master"));
	return e;
}

static enum err make_counts(struct master *m)
{
	enum err e = counts_init(&m->counts, m->w, smtpd_count(m), m->conf.limits.connections);
	if (e != ERR_NONE)
		master_failed(m, "make memory that processes share (memfd; /proc must be mounted)", e, STR("counts of connections"));
	return e;
}

static YIELDS enum err start_all(struct master *m)
{
	TRY(be_alone(m));
	TRY(certificates_init(&m->certificates, m->w, &m->log, &m->conf, &m->arena));
	TRY(account_files_init(&m->account_files, m->w, &m->log, &m->conf));
	TRY(make_dirs(m));
	TRY(open_listeners(m));
	TRY(make_counts(m));
	TRY(scope_spawn(&m->scope, "mender", CO_STACK_SMALL, mender, m));
	TRY(loop_watch_signals(m->loop, &m->signals));
	TRY(enter_jail(m));
	list_children(m);
	for (size_t i = 0; i < m->children_n; i++) {
		enum err e = start_child(m, &m->children[i]);
		if (e != ERR_NONE) {
			master_failed(m, "start a process", e, str_z(role_name(m->children[i].role)));
			return e;
		}
	}
	m->started = true;
	TRY(scope_spawn(&m->scope, "certificates", CO_STACK_SMALL, watch_certificates, m));
	TRY(scope_spawn(&m->scope, "account files", CO_STACK_SMALL, watch_account_files, m));
	TRY(scope_spawn(&m->scope, "hangs", CO_STACK_SMALL, master_watch_children, m));
	log_server_ready(&m->log, NO_IDS, (uint64_t)((world_mono_ns(m->w) - m->began_ns) / 1000000));
	return ERR_NONE;
}

static bool role_is_gone(const struct master *m, enum role role)
{
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].role == role && m->children[i].pid > 0)
			return false;
	return true;
}

static YIELDS void stop_role(struct master *m, enum role role)
{
	for (size_t i = 0; i < m->children_n; i++) {
		struct child *c = &m->children[i];
		if (c->role != role || c->pid <= 0)
			continue;
		c->state = CHILD_STOPPING;
		if ((!c->ch || note_proc_stop(c->ch, &(struct proc_stop_in){ 0 }) != ERR_NONE) &&
		    world_kill(m->w, c->pid, 1) != ERR_NONE)
			c->pid = 0;
	}
	int64_t before = co_set_deadline(world_mono_ns(m->w) + STOP_ONE_NS);
	while (!role_is_gone(m, role))
		if (co_wait(&m->died) != ERR_NONE)
			break;
	co_set_deadline(before);
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].role == role && m->children[i].pid > 0 && world_kill(m->w, m->children[i].pid, 1) != ERR_NONE)
			m->children[i].pid = 0;
}

static void signal_reload(struct master *m)
{
	if (m->started && scope_spawn(&m->scope, "reload", CO_STACK_SMALL, reload_once, m) != ERR_NONE)
		master_failed(m, "reload", ERR_NO_MEMORY, STR("certificates"));
}

/* coroutine */
static void reaper(void *arg)
{
	struct master *m = arg;
	for (;;) {
		enum world_signal sig;
		while ((sig = world_next_signal(m->w)) != WORLD_SIG_NONE) {
			if (sig == WORLD_SIG_CHILD)
				reap_children(m);
			else if (sig == WORLD_SIG_RELOAD)
				signal_reload(m);
			else
				m->stopping = true;
			if (m->stopping)
				co_wake_all(&m->died);
		}
		if (co_wait(&m->signals) != ERR_NONE)
			return;
	}
}

/* coroutine */
static void run(void *arg)
{
	struct master *m = arg;
	struct scope reaping;
	scope_open(&m->scope, m->loop, NULL);
	scope_open(&m->channels, m->loop, NULL);
	scope_open(&reaping, m->loop, NULL);
	/* The reaper must hear of children that die while others start. */
	enum err e = scope_spawn(&reaping, "reaper", CO_STACK_SMALL, reaper, m);
	if (e == ERR_NONE)
		e = start_all(m);
	m->status = e == ERR_NONE ? 0 : 71;
	while (e == ERR_NONE && !m->stopping)
		e = co_wait(&m->died);
	m->stopping = true;
	scope_close(&m->scope);
	for (size_t i = 0; i < sizeof stop_order / sizeof stop_order[0]; i++)
		stop_role(m, stop_order[i]);
	for (size_t i = 0; i < m->children_n; i++)
		if (m->children[i].ch)
			ipc_close(m->children[i].ch);
	scope_close(&m->channels);
	scope_close(&reaping);
	log_process_stop(&m->log, NO_IDS, m->status == 0 ? STR("signal or command") : STR("the start failed"));
}

static enum err log_write(void *arg, struct str bytes)
{
	struct master *m = arg;
	return world_write(m->w, m->log.format == LOG_FORMAT_JOURNALD ? WORLD_JOURNAL_FD : 2, bytes);
}

static int64_t log_now(void *arg)
{
	struct master *m = arg;
	return world_wall_ms(m->w);
}

static void on_turn(void *arg)
{
	struct master *m = arg;
	log_flush(&m->log);
}

static enum err load(struct master *m)
{
	struct conf_errors *errs = ARENA_NEW(&m->arena, struct conf_errors);
	if (!errs)
		return ERR_NO_MEMORY;
	enum err e = conf_load(m->w, m->conf_path, &m->arena, &m->conf, errs);
	if (errs->n > 0)
		for (size_t i = 0; i < errs->n; i++)
			log_config_error(&m->log, NO_IDS, errs->v[i].file, errs->v[i].line, errs->v[i].text);
	TRY(e);
	if (m->conf.log_format == LOG_FORMAT_JOURNALD && (e = world_open_journal(m->w)) != ERR_NONE) {
		master_failed(m, "log to journald: events go to standard error, as text", e, STR(WORLD_JOURNAL_PATH));
		m->conf.log_format = LOG_FORMAT_TEXT;
	}
	log_flush(&m->log);
	m->log.format = (enum log_format)m->conf.log_format;
	m->log.min_level = (enum log_level)m->conf.log_level;
	struct ipc_writer w = { .b = buf_grow(m->mem, (size_t)16 << 20) };
	conf_put(&w, &m->conf);
	m->conf_bytes = arena_str(&m->arena, buf_str(&w.b));
	e = buf_err(&w.b);
	buf_free(&w.b);
	return e == ERR_NONE ? arena_err(&m->arena) : e;
}

int master_main(struct world *w, struct str conf_path)
{
	struct mem *mem = world_mem(w);
	struct master *m = mem_alloc(mem, sizeof *m);
	if (!m)
		return 71;
	*m = (struct master){ .w = w, .mem = mem, .conf_path = conf_path, .began_ns = world_mono_ns(w) };
	m->arena = arena_make(mem, CONF_ARENA_MAX);
	co_queue_init(&m->signals);
	co_queue_init(&m->died);
	co_queue_init(&m->lost);
	struct log_sink sink = { log_write, log_now, m };
	if (log_init(&m->log, mem, sink, LOG_FORMAT_TEXT, LEVEL_INFO, STR("master")) != ERR_NONE)
		return 71;
	if (load(m) != ERR_NONE) {
		log_close(&m->log);
		return 78; /* EX_CONFIG */
	}
	log_process_start(&m->log, NO_IDS, STR(GODWIT_VERSION), (uint64_t)world_pid(w));
	if (loop_new(w, &m->loop) != ERR_NONE)
		return 71;
	loop_on_turn(m->loop, on_turn, m);
	loop_run(m->loop, run, m);
	int status = m->status;
	loop_free(m->loop);
	log_close(&m->log);
	certificates_done(&m->certificates);
	account_files_done(&m->account_files);
	counts_done(&m->counts);
	mem_free(mem, m->sockets);
	arena_close(&m->arena);
	mem_free(mem, m);
	return status;
}
