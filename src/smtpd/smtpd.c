/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process smtpd: accepts connections and receives mail. Strangers' bytes come in through every
 * session; the process itself may accept, talk over what it was given, and nothing else (P4): no
 * file is opened, queue hands out the ones for large messages.
 */
#include "smtpd/smtpd.h"

#include "base/events.h"
#include "smtpd/server.h"

#define CALL_ARENA_MAX	  ((size_t)1 << 18)
#define FLUSH_NS	  (1000 * 1000000LL)
#define STOP_NS		  (8 * 1000000000LL) /* sessions in the middle of a message have so long */
#define SPARE_DESCRIPTORS 256u

struct process {
	struct smtpd d;
	struct proc *p;
	void *counts[PROC_COUNTS_MAX]; /* mapped, as p->counts */
};

/* ---- the other processes -------------------------------------------------------------------- */

static YIELDS
enum err ask_rcpt(void *arg, const struct lookup_rcpt_in *in, struct arena *arena,
		  struct lookup_rcpt_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_lookup_rcpt(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err submit_part(void *arg, const struct queue_part_in *in, struct arena *arena)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_QUEUE, 0);
	struct queue_part_out out;
	return ch ? call_queue_part(ch, in, arena, &out) : ERR_CLOSED;
}

static YIELDS
enum err submit_file(void *arg, uint64_t id, struct arena *arena, int *fd_out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_QUEUE, 0);
	struct queue_file_in in = { id };
	struct queue_file_out out = { .file = -1 };
	TRY(ch ? call_queue_file(ch, &in, arena, &out) : ERR_CLOSED);
	*fd_out = out.file;
	return ERR_NONE;
}

static YIELDS
enum err submit_message(void *arg, const struct queue_submit_in *in, struct arena *arena)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_QUEUE, 0);
	struct queue_submit_out out;
	return ch ? call_queue_submit(ch, in, arena, &out) : ERR_CLOSED;
}

static YIELDS
enum err ask_password(void *arg, const struct auth_password_in *in, struct arena *arena, struct auth_password_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_auth_password(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_scram_first(void *arg, const struct auth_scram_first_in *in, struct arena *arena, struct auth_scram_first_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_auth_scram_first(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_scram_final(void *arg, const struct auth_scram_final_in *in, struct arena *arena, struct auth_scram_final_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_auth_scram_final(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_sender(void *arg, const struct auth_sender_in *in, struct arena *arena, struct auth_sender_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_auth_sender(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_charge(void *arg, const struct auth_charge_in *in, struct arena *arena, struct auth_charge_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_LOOKUP, 0);
	return ch ? call_auth_charge(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_certificate(void *arg, const struct keys_certificate_in *in, struct arena *arena,
			 struct keys_certificate_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_KEYS, 0);
	return ch ? call_keys_certificate(ch, in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_tickets(void *arg, struct arena *arena, struct keys_tickets_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_KEYS, 0);
	struct keys_tickets_in in = { 0 };
	return ch ? call_keys_tickets(ch, &in, arena, out) : ERR_CLOSED;
}

static YIELDS
enum err ask_signature(void *arg, const struct keys_sign_in *in, struct arena *arena,
		       struct keys_sign_out *out)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_KEYS, 0);
	return ch ? call_keys_sign(ch, in, arena, out) : ERR_CLOSED;
}

static bool may_sign(void *arg)
{
	struct process *self = arg;
	return proc_peer(self->p, ROLE_KEYS, 0) != NULL;
}

static void abort_message(void *arg, uint64_t id)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_QUEUE, 0);
	struct queue_abort_in in = { id };
	if (ch) /* when it fails, queue forgets what is unfinished by itself */
		(void)!note_queue_abort(ch, &in);
}

static void tell_refused(void *arg, const struct history_refused_in *in)
{
	struct process *self = arg;
	struct ipc *ch = proc_peer(self->p, ROLE_CONTROL, 0);
	if (ch) /* P8: a crash, or a control that is down, may cost refusals */
		(void)!note_history_refused(ch, in);
}

static const struct smtpd_backend backend = {
	.ask_rcpt = ask_rcpt,
	.submit_part = submit_part,
	.submit_file = submit_file,
	.submit_message = submit_message,
	.ask_password = ask_password,
	.ask_scram_first = ask_scram_first,
	.ask_scram_final = ask_scram_final,
	.ask_sender = ask_sender,
	.ask_charge = ask_charge,
	.certificate = ask_certificate,
	.tickets = ask_tickets,
	.sign = ask_signature,
	.may_sign = may_sign,
	.abort_message = abort_message,
	.tell_refused = tell_refused,
};

/* ---- refusals, once a second ----------------------------------------------------------------- */

static void tell_one(void *arg, const struct history_refused_in *w)
{
	struct process *self = arg;
	log_smtpd_refused(&self->p->log, (struct log_ids){ w->session, w->id }, &w->client, w->helo,
			  w->reverse_path, w->forward_path, w->code, w->text, w->rule, w->count);
	self->d.backend->tell_refused(self->d.backend_arg, w);
}

/* coroutine */
static void refusals_run(void *arg)
{
	struct process *self = arg;
	while (co_sleep_until(world_mono_ns(self->p->w) + FLUSH_NS) == ERR_NONE)
		if (refusals_pending(&self->d.refusals))
			refusals_flush(&self->d.refusals, tell_one, self);
	refusals_flush(&self->d.refusals, tell_one, self);
}

/* ---- what others tell us --------------------------------------------------------------------- */

static void set_pressure(struct smtpd *d, bool full, struct str text)
{
	text = str_sub(text, 0, sizeof d->queue_text);
	d->queue_full = full;
	if (text.n)
		memcpy(d->queue_text, text.p, text.n);
	d->queue_text_n = (uint8_t)text.n;
}

static void on_pressure(void *arg, struct ipc *from UNUSED, const struct queue_pressure_in *in)
{
	struct process *self = arg;
	if (in->full != self->d.queue_full)
		log_smtpd_queue_pressure(&self->p->log, (struct log_ids){ 0 },
					 in->full ? STR("yes") : STR("no"), in->text);
	set_pressure(&self->d, in->full, in->text);
}

static void on_changed(void *arg, struct ipc *from UNUSED, const struct lookup_changed_in *in)
{
	struct process *self = arg;
	cache_renew(&self->d.cache, in->generation);
}

static void on_keys_changed(void *arg, struct ipc *from UNUSED,
			    const struct keys_changed_in *in UNUSED)
{
	struct process *self = arg;
	smtpd_tls_renew(&self->d);
}

/* A new lookup tells its generation itself, a new queue its pressure. */
static void peer(struct proc *p UNUSED, void *arg, enum role role, unsigned index UNUSED,
		 struct ipc *channel)
{
	struct process *self = arg;
	if (role == ROLE_LOOKUP && !channel)
		cache_renew(&self->d.cache, 0);
	if (role == ROLE_KEYS && channel)
		smtpd_tls_renew(&self->d);
	if (role == ROLE_QUEUE)
		set_pressure(&self->d, false, str_of("", 0));
}

/* ---- the process ----------------------------------------------------------------------------- */

static enum err map_counts(struct process *self)
{
	struct proc *p = self->p;
	enum err e = ERR_NONE;
	size_t own = p->counts_n;
	for (size_t i = 0; i < p->counts_n; i++) {
		const struct proc_counts_in *in = &p->counts[i];
		bool mine = in->index == p->index;
		if (e == ERR_NONE)
			e = world_shared_map(p->w, in->memory, in->bytes, mine ? WORLD_SHARED_WRITE : WORLD_SHARED_READ, &self->counts[i]);
		world_close(p->w, in->memory);
		if (mine)
			own = i;
	}
	if (e != ERR_NONE || own == p->counts_n)
		return e != ERR_NONE ? e : ERR_NOT_FOUND;
	struct sip_key key = { p->counts[own].key0, p->counts[own].key1 };
	clients_init(&self->d.clients, key, self->counts[own], p->counts[own].bytes);
	for (size_t i = 0; i < p->counts_n; i++)
		if (i != own)
			TRY(clients_add_other(&self->d.clients, self->counts[i]));
	return ERR_NONE;
}

static enum err start(struct proc *p, void *arg, struct world_jail *jail_out) /* yields: indirect */
{
	struct process *self = arg;
	self->p = p;
	TRY(smtpd_init(&self->d, p->loop, &p->conf, p->index, p->metrics));
	TRY(map_counts(self));
	self->d.log = &p->log;
	self->d.work = &p->work;
	self->d.backend = &backend;
	self->d.backend_arg = self;
	TRY(smtpd_tls_init(&self->d));
	jail_out->may = WORLD_MAY_ACCEPT | WORLD_MAY_THREADS;
	jail_out->uid = jail_out->gid = p->conf.users.uid_smtpd; /* it owns nothing: also chroot, by the jail */
	jail_out->max_file_bytes = p->conf.limits.message_bytes + ((uint64_t)1 << 20);
	jail_out->max_fds = 2 * (uint64_t)p->conf.limits.connections + SPARE_DESCRIPTORS;
	return ERR_NONE;
}

/*
 * With TLS, certificates come before the first client. Not in work(): notes of keys wait until that is over,
 * and its answers would wait behind them.
 */
/* coroutine */
static void begin_with_tls(void *arg)
{
	struct process *self = arg;
	(void)!smtpd_tls_fetch(&self->d); /* when it fails, it is tried again below */
	for (size_t i = 0; i < self->p->listener_count && !scope_stopping(co_scope()); i++) {
		enum err e = smtpd_listen(&self->d, self->p->listeners[i].fd, self->p->listeners[i].listener);
		if (e != ERR_NONE)
			log_io_error(&self->p->log, (struct log_ids){ 0 }, STR("listen"), e, STR(""));
	}
	smtpd_tls_keep(&self->d);
}

static enum err work(struct proc *p, void *arg)
{
	struct process *self = arg;
	TRY(scope_spawn(&p->work, "refusals", CO_STACK_SMALL, refusals_run, self));
	if (self->d.tls)
		return scope_spawn(&p->work, "certificates", CO_STACK_LARGE, begin_with_tls, self);
	for (size_t i = 0; i < p->listener_count; i++)
		TRY(smtpd_listen(&self->d, p->listeners[i].fd, p->listeners[i].listener));
	return ERR_NONE;
}

/* RFC 5321 §3.8: idle sessions hear 421 at once, the others after their message. */
static YIELDS
void stop(struct proc *p, void *arg)
{
	struct process *self = arg;
	int64_t before = co_set_deadline(world_mono_ns(p->w) + STOP_NS);
	smtpd_close_listeners(&self->d);
	while (self->d.sessions > 0)
		if (co_wait(&self->d.session_ended) != ERR_NONE)
			break;
	(void)co_set_deadline(before);
	scope_close(&p->work);
	smtpd_done(&self->d);
}

static const struct ipc_handlers handlers = {
	.queue_pressure = on_pressure,
	.lookup_changed = on_changed,
	.keys_changed = on_keys_changed,
};

const struct proc_ops smtpd_ops = {
	.role = ROLE_SMTPD,
	.state_bytes = sizeof(struct process),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.start = start,
	.work = work,
	.stop = stop,
	.peer = peer,
};
