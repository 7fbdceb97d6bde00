/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates of this smtpd, as keys gives them; private keys stay there (P4). Whenever keys says that
 * something changed, or is started again, all is asked for again; what was in use stays until the answers
 * are there, and stays for the sessions that have it.
 */
#include "base/events.h"
#include "smtpd/server.h"

#define ARENA_BYTES ((size_t)8 << 20)
#define SIGN_ARENA_BYTES ((size_t)16 << 10)
#define LIST_MAX 64u
#define ASK_NS (10 * 1000000000LL)
#define AGAIN_NS (1000 * 1000000LL)

static YIELDS enum err sign(void *arg, uint32_t key, struct str digest, enum tls_padding padding, struct str bytes, char *sig,
			    size_t *sig_n_out)
{
	struct smtpd *d = arg;
	struct arena ARENA_SCOPED arena = arena_make(d->mem, SIGN_ARENA_BYTES);
	struct keys_sign_in in = { key, digest, (uint8_t)padding, bytes };
	struct keys_sign_out out = { 0 };
	TRY(d->backend->sign(d->backend_arg, &in, &arena, &out));
	if (out.signature.n > TLS_SIGNATURE_MAX)
		return ERR_LIMIT;
	if (out.signature.n)
		memcpy(sig, out.signature.p, out.signature.n);
	*sig_n_out = out.signature.n;
	return ERR_NONE;
}

enum err smtpd_tls_init(struct smtpd *d)
{
	struct tls_signer signer = { sign, d };
	bool wanted = false;
	for (size_t i = 0; i < d->conf->listeners_n; i++)
		wanted = wanted || d->conf->listeners[i].tls != TLS_MODE_NONE;
	co_queue_init(&d->tls_changed);
	d->tls_stale = wanted;
	return wanted ? tls_server_new(d->w, &signer, d->conf->tls.least_1_3 ? TLS_LEAST_1_3 : TLS_LEAST_1_2, &d->tls) : ERR_NONE;
}

bool smtpd_tls_ready(const struct smtpd *d)
{
	return d->tls && tls_server_ready(d->tls) && d->backend->may_sign && d->backend->may_sign(d->backend_arg);
}

void smtpd_tls_renew(struct smtpd *d)
{
	d->tls_stale = true;
	co_wake_all(&d->tls_changed);
}

/* A certificate that cannot be used here, which keys should have noticed, is left out. */
static enum err use(struct smtpd *d, struct tls_certificate *list, size_t n)
{
	size_t bad, failed = 0;
	enum err e;
	while ((e = tls_server_certificates(d->tls, list, n, &bad)) == ERR_SYNTAX && bad < n) {
		memmove(&list[bad], &list[bad + 1], (n - bad - 1) * sizeof *list);
		n--;
		failed++;
	}
	if (e == ERR_NONE)
		log_smtpd_certificates(d->log, (struct log_ids){ 0 }, n, failed);
	return e;
}

static YIELDS enum err fetch_certificates(struct smtpd *d, struct arena *arena)
{
	struct tls_certificate *list = ARENA_ARRAY(arena, struct tls_certificate, LIST_MAX);
	struct keys_certificate_out out = { .count = 1 };
	size_t n = 0;
	for (uint32_t i = 0; list && i < out.count && i < LIST_MAX; i++) {
		struct keys_certificate_in in = { i };
		TRY(d->backend->certificate(d->backend_arg, &in, arena, &out));
		if (out.chain.n)
			list[n++] = (struct tls_certificate){ out.key, out.chain };
	}
	TRY(arena_err(arena));
	return out.loaded ? use(d, list, n) : ERR_NONE; /* else it says so when it has them */
}

static YIELDS enum err fetch_tickets(struct smtpd *d, struct arena *arena)
{
	struct tls_ticket_key keys[TLS_TICKET_KEYS_MAX];
	struct keys_tickets_out out = { 0 };
	size_t n = 0;
	TRY(d->backend->tickets(d->backend_arg, arena, &out));
	for (size_t i = 0; i < out.keys_n && n < TLS_TICKET_KEYS_MAX; i++)
		if (out.keys[i].bytes.n == TLS_TICKET_KEY_BYTES)
			memcpy(keys[n++].bytes, out.keys[i].bytes.p, TLS_TICKET_KEY_BYTES);
	tls_server_ticket_keys(d->tls, keys, n);
	memset(keys, 0, sizeof keys);
	return ERR_NONE;
}

enum err smtpd_tls_fetch(struct smtpd *d)
{
	struct arena ARENA_SCOPED arena = arena_make(d->mem, ARENA_BYTES);
	if (!d->tls)
		return ERR_NONE;
	d->tls_stale = false;
	int64_t before = co_set_deadline(world_mono_ns(d->w) + ASK_NS);
	enum err e = fetch_certificates(d, &arena);
	if (e == ERR_NONE)
		e = fetch_tickets(d, &arena);
	co_set_deadline(before);
	if (e != ERR_NONE)
		d->tls_stale = true;
	return e;
}

void smtpd_tls_keep(struct smtpd *d)
{
	enum err e = ERR_NONE;
	while (e == ERR_NONE || e == ERR_TIMEOUT) {
		if (d->tls_stale) {
			enum err fetched = smtpd_tls_fetch(d);
			e = fetched != ERR_NONE ? co_sleep_until(world_mono_ns(d->w) + AGAIN_NS) : ERR_NONE;
		} else {
			e = co_wait(&d->tls_changed);
		}
	}
}
