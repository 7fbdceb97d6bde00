/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process keys: the only one that has private keys (P4). It reads them from descriptors that master hands
 * over, signs for TLS (permit.h), and makes the keys of session tickets: a new one every TICKET_NS, which
 * goes on decrypting while TICKETS_KEPT younger ones came. It may do nothing else: no file, no network, no
 * thread. What smtpd asks may be a stranger's, who has taken smtpd over.
 */
#include "keys/keys.h"

#include <openssl/crypto.h>

#include "base/events.h"
#include "keys/vault.h"

#define CALL_ARENA_MAX ((size_t)256 << 10)
#define TICKET_NS (INT64_C(8) * 3600 * 1000000000)
#define TICKETS_KEPT 4u /* one encrypts, the others decrypt for 24 hours more */
#define TIDY_NS (INT64_C(60) * 1000000000)

_Static_assert(TICKETS_KEPT == TLS_TICKET_KEYS_MAX, "smtpd takes as many");

struct keys {
	struct proc *p;
	struct vault *vault;
	struct tls_ticket_key tickets[TICKETS_KEPT];
	size_t tickets_n;
	bool loaded; /* master has handed over all that there is, usable or not */
	struct counter *signatures, *refused;
};

static void tell_all(struct keys *k)
{
	struct ipc *channels[PROC_PEERS_MAX];
	size_t n = proc_peers(k->p, ROLE_SMTPD, channels, PROC_PEERS_MAX);
	for (size_t i = 0; i < n; i++)
		if (note_keys_changed(channels[i], &(struct keys_changed_in){ 0 }) != ERR_NONE)
			log_io_error(&k->p->log, (struct log_ids){ 0 }, STR("tell of new keys"), ERR_CLOSED, STR("smtpd"));
}

/* ---- from master ---------------------------------------------------------------------------------- */

static enum err read_pair(struct keys *k, const struct keys_load_in *in, struct arena *arena, struct keys_load_out *out)
{
	struct buf certificate = buf_grow(k->p->mem, VAULT_FILE_MAX), key = buf_grow(k->p->mem, VAULT_FILE_MAX);
	char *to_certificate = buf_reserve(&certificate, VAULT_FILE_MAX), *to_key = buf_reserve(&key, VAULT_FILE_MAX);
	size_t certificate_n = 0, key_n = 0;
	struct vault_report report = { 0 };
	enum err e = to_certificate && to_key ? ERR_NONE : ERR_NO_MEMORY;
	if (e == ERR_NONE)
		e = world_pread(k->p->w, in->certificate, to_certificate, VAULT_FILE_MAX, 0, &certificate_n);
	if (e == ERR_NONE)
		e = world_pread(k->p->w, in->key, to_key, VAULT_FILE_MAX, 0, &key_n);
	if (e == ERR_NONE)
		e = vault_load(k->vault, in->slot, str_of(to_certificate, certificate_n), str_of(to_key, key_n), arena, &report);
	if (to_key)
		OPENSSL_cleanse(to_key, VAULT_FILE_MAX);
	buf_free(&certificate);
	buf_free(&key);
	*out = (struct keys_load_out){ e == ERR_NONE, report.text, report.names, report.expires_ms };
	/* After a restart: that there is nothing to sign with must be known, or TLS would be offered in vain. */
	bool all_came = !k->loaded && in->slot + 1u == in->count;
	k->loaded = k->loaded || all_came;
	if ((e == ERR_NONE && report.changed) || all_came)
		tell_all(k);
	if (e != ERR_NONE && report.text.n == 0)
		out->text = str_z(err_name(e));
	return ERR_NONE;
}

static enum err on_load(void *self, struct ipc *from UNUSED, const struct keys_load_in *in, struct arena *arena, struct keys_load_out *out)
{
	struct keys *k = self;
	enum err e = in->slot < VAULT_SLOTS ? read_pair(k, in, arena, out) : ERR_LIMIT;
	world_close(k->p->w, in->certificate);
	world_close(k->p->w, in->key);
	vault_tidy(k->vault, in->count);
	return e;
}

static enum err on_generate(void *self, struct ipc *from UNUSED, const struct keys_generate_in *in, struct arena *arena UNUSED,
			    struct keys_generate_out *out UNUSED)
{
	struct keys *k = self;
	struct buf certificate = buf_grow(k->p->mem, VAULT_FILE_MAX), key = buf_grow(k->p->mem, VAULT_FILE_MAX);
	enum err e = vault_generate(k->vault, in->name, &certificate, &key);
	struct str parts[2] = { buf_str(&certificate), buf_str(&key) };
	if (e == ERR_NONE)
		e = world_pwritev(k->p->w, in->certificate, &parts[0], 1, 0);
	if (e == ERR_NONE)
		e = world_pwritev(k->p->w, in->key, &parts[1], 1, 0);
	if (key.p)
		OPENSSL_cleanse(key.p, key.cap);
	buf_free(&certificate);
	buf_free(&key);
	world_close(k->p->w, in->certificate);
	world_close(k->p->w, in->key);
	return e;
}

/* ---- from smtpd ------------------------------------------------------------------------------------ */

static enum err on_certificate(void *self, struct ipc *from UNUSED, const struct keys_certificate_in *in, struct arena *arena UNUSED,
			       struct keys_certificate_out *out)
{
	struct keys *k = self;
	struct vault_entry entry = { 0 };
	(void)vault_entry(k->vault, in->index, &entry);
	*out = (struct keys_certificate_out){ k->loaded, (uint32_t)vault_count(k->vault), entry.key, entry.chain };
	return ERR_NONE;
}

static enum err on_sign(void *self, struct ipc *from UNUSED, const struct keys_sign_in *in, struct arena *arena, struct keys_sign_out *out)
{
	struct keys *k = self;
	char sig[TLS_SIGNATURE_MAX];
	size_t n = 0;
	enum err e = vault_sign(k->vault, in->key, in->digest, (enum tls_padding)in->padding, in->bytes, sig, &n);
	counter_add(e == ERR_NONE ? k->signatures : k->refused, 1);
	if (e == ERR_DENIED)
		log_keys_refused(&k->p->log, (struct log_ids){ 0 }, in->bytes.n);
	TRY(e);
	out->signature = arena_str(arena, str_of(sig, n));
	return arena_err(arena);
}

static enum err on_tickets(void *self, struct ipc *from UNUSED, const struct keys_tickets_in *in UNUSED, struct arena *arena,
			   struct keys_tickets_out *out)
{
	struct keys *k = self;
	out->keys = ARENA_ARRAY(arena, struct ticket_key, TICKETS_KEPT);
	for (size_t i = 0; out->keys && i < k->tickets_n; i++)
		out->keys[out->keys_n++].bytes = str_of((const char *)k->tickets[i].bytes, TLS_TICKET_KEY_BYTES);
	return arena_err(arena);
}

/* ---- the process ------------------------------------------------------------------------------------- */

static void new_ticket_key(struct keys *k)
{
	memmove(&k->tickets[1], &k->tickets[0], (TICKETS_KEPT - 1) * sizeof k->tickets[0]);
	world_random(k->p->w, &k->tickets[0], sizeof k->tickets[0]);
	if (k->tickets_n < TICKETS_KEPT)
		k->tickets_n++;
}

/* A channel that was replaced may have swallowed a note. */
static void peer(struct proc *p, void *self UNUSED, enum role role, unsigned index UNUSED, struct ipc *channel)
{
	if (role == ROLE_SMTPD && channel && note_keys_changed(channel, &(struct keys_changed_in){ 0 }) != ERR_NONE)
		log_io_error(&p->log, (struct log_ids){ 0 }, STR("tell of new keys"), ERR_CLOSED, STR("smtpd"));
}

/* coroutine */
static void age(void *arg)
{
	struct keys *k = arg;
	int64_t next_ns = world_mono_ns(k->p->w) + TICKET_NS;
	while (co_sleep_until(world_mono_ns(k->p->w) + TIDY_NS) == ERR_NONE) {
		vault_tidy(k->vault, VAULT_SLOTS);
		if (world_mono_ns(k->p->w) < next_ns)
			continue;
		next_ns += TICKET_NS;
		new_ticket_key(k);
		tell_all(k);
	}
}

static enum err start(struct proc *p, void *self, struct world_jail *jail_out) /* yields: indirect */
{
	struct keys *k = self;
	k->p = p;
	TRY(vault_new(p->w, &k->vault));
	new_ticket_key(k);
	k->signatures = metrics_counter(p->metrics, "godwit_keys_signatures_total", STR_NONE, "Signatures made.");
	k->refused = metrics_counter(p->metrics, "godwit_keys_refused_total", STR_NONE, "Signatures refused: no such key, or not for TLS.");
	jail_out->uid = jail_out->gid = p->conf.users.uid_keys; /* it owns nothing: also chroot, by the jail */
	return ERR_NONE;
}

static enum err work(struct proc *p, void *self)
{
	return scope_spawn(&p->work, "age", CO_STACK_SMALL, age, self);
}

static YIELDS void stop(struct proc *p, void *self)
{
	struct keys *k = self;
	scope_cancel(&p->work);
	scope_wait(&p->work);
	vault_free(k->vault);
	OPENSSL_cleanse(k->tickets, sizeof k->tickets);
}

static const struct ipc_handlers handlers = {
	.keys_load = on_load,
	.keys_generate = on_generate,
	.keys_certificate = on_certificate,
	.keys_sign = on_sign,
	.keys_tickets = on_tickets,
};

const struct proc_ops keys_ops = {
	.role = ROLE_KEYS,
	.state_bytes = sizeof(struct keys),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.start = start,
	.work = work,
	.stop = stop,
	.peer = peer,
};
