/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys as files: see certificates.h. */
#include "master/certificates.h"

#include "base/events.h"

#define SOON_MS (INT64_C(14) * 86400000)
#define BUSY_NS (20 * 1000000LL)
#define CALL_NS (30 * 1000000000LL)
#define NO_IDS ((struct log_ids){ 0 })

bool certificates_wanted(const struct conf *c)
{
	for (size_t i = 0; i < c->listeners_n; i++)
		if (c->listeners[i].tls != TLS_MODE_NONE)
			return true;
	return false;
}

enum err certificates_init(struct certificates *c, struct world *w, struct log *log, const struct conf *conf, struct arena *arena)
{
	*c = (struct certificates){ .w = w, .mem = world_mem(w), .log = log, .conf = conf };
	if (!certificates_wanted(conf))
		return ERR_NONE;
	c->own = conf->tls.certificates_n == 0;
	c->n = c->own ? 1 : conf->tls.certificates_n;
	c->v = mem_alloc(c->mem, c->n * sizeof *c->v);
	if (!c->v)
		return ERR_NO_MEMORY;
	c->dir = arena_strf(arena, "%.*s/tls", STR_ARG(conf->state));
	for (size_t i = 0; i < c->n && !c->own; i++) {
		c->v[i].path = conf->tls.certificates[i].certificate;
		c->v[i].key_path = conf->tls.certificates[i].key;
	}
	if (c->own) {
		c->v[0].path = arena_strf(arena, "%.*s/" OWN_CERTIFICATE, STR_ARG(c->dir));
		c->v[0].key_path = arena_strf(arena, "%.*s/" OWN_KEY, STR_ARG(c->dir));
	}
	return arena_err(arena);
}

void certificates_done(struct certificates *c)
{
	mem_free(c->mem, c->v);
	c->v = NULL;
	c->n = 0;
}

static void set_text(char *to, size_t room, uint16_t *n_out, struct str s)
{
	s = str_sub(s, 0, room);
	if (s.n)
		memcpy(to, s.p, s.n);
	*n_out = (uint16_t)s.n;
}

static void failed(struct certificates *c, struct certificate_file *f, struct str text)
{
	set_text(f->text, sizeof f->text, &f->text_n, text);
	log_certificate_failed(c->log, NO_IDS, f->path, text);
}

static void failed_file(struct certificates *c, struct certificate_file *f, const char *which, enum err e)
{
	char room[100];
	struct buf b = buf_fixed(room, sizeof room);
	buf_addf(&b, "the %s cannot be opened: %s", which, err_name(e));
	failed(c, f, buf_str(&b));
}

/* ---- making one ------------------------------------------------------------------------------------ */

static enum err put_in_place(struct certificates *c, int dir, const int fds[2])
{
	enum err e = world_sync(c->w, fds[0]);
	if (e == ERR_NONE)
		e = world_sync(c->w, fds[1]);
	/* The certificate is the last one: where it is, its key is. */
	if (e == ERR_NONE)
		e = world_rename(c->w, dir, STR(OWN_KEY ".new"), dir, STR(OWN_KEY));
	if (e == ERR_NONE)
		e = world_rename(c->w, dir, STR(OWN_CERTIFICATE ".new"), dir, STR(OWN_CERTIFICATE));
	return e == ERR_NONE ? world_sync(c->w, dir) : e;
}

static YIELDS enum err make_in(struct certificates *c, int dir, struct ipc **keys)
{
	struct arena ARENA_SCOPED arena = arena_make(c->mem, 65536);
	struct keys_generate_out out;
	int fds[2] = { -1, -1 };
	const unsigned how = WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC;
	enum err e = world_open(c->w, dir, STR(OWN_CERTIFICATE ".new"), how, 0600, &fds[0]);
	if (e == ERR_NONE)
		e = world_open(c->w, dir, STR(OWN_KEY ".new"), how, 0600, &fds[1]);
	if (e == ERR_NONE) {
		struct keys_generate_in in = { c->conf->hostname, fds[0], fds[1] };
		e = *keys ? call_keys_generate(*keys, &in, &arena, &out) : ERR_CLOSED;
	}
	if (e == ERR_NONE)
		e = put_in_place(c, dir, fds);
	for (unsigned i = 0; i < 2; i++)
		if (fds[i] >= 0)
			world_close(c->w, fds[i]);
	return e;
}

/* The certificate and its key, if they are not there. */
static YIELDS void make_own(struct certificates *c, struct ipc **keys)
{
	int dir, fd;
	enum err e = world_open(c->w, WORLD_ABSOLUTE, c->dir, WORLD_READ | WORLD_DIR, 0, &dir);
	if (e == ERR_NONE) {
		e = world_open(c->w, dir, STR(OWN_CERTIFICATE), WORLD_READ, 0, &fd);
		if (e == ERR_NONE)
			world_close(c->w, fd);
		if (e == ERR_NOT_FOUND) {
			e = make_in(c, dir, keys);
			if (e == ERR_NONE)
				log_certificate_made(c->log, NO_IDS, c->v[0].path);
		}
		world_close(c->w, dir);
	}
	if (e != ERR_NONE)
		failed_file(c, &c->v[0], "file", e);
}

/* ---- handing over ----------------------------------------------------------------------------------- */

static bool is_same(const struct world_stat *a, const struct world_stat *b)
{
	return a->inode == b->inode && a->mtime_ms == b->mtime_ms && a->bytes == b->bytes;
}

static YIELDS void hand_over(struct certificates *c, struct certificate_file *f, struct ipc **keys, int certificate, int key)
{
	struct arena ARENA_SCOPED arena = arena_make(c->mem, 65536);
	struct keys_load_in in = { (uint16_t)(f - c->v), (uint16_t)c->n, certificate, key };
	struct keys_load_out out = { 0 };
	int64_t before = co_set_deadline(world_mono_ns(c->w) + CALL_NS);
	enum err e = *keys ? call_keys_load(*keys, &in, &arena, &out) : ERR_CLOSED;
	co_set_deadline(before);
	if (e != ERR_NONE) { /* it will be started again, and get everything then */
		failed(c, f, str_z(err_name(e)));
		return;
	}
	if (!out.good) {
		failed(c, f, out.text);
		return;
	}
	f->text_n = 0;
	set_text(f->names, sizeof f->names, &f->names_n, out.names);
	f->expires_ms = out.expires_ms;
	log_certificate_loaded(c->log, NO_IDS, f->path, out.names, out.expires_ms);
}

static YIELDS void load_one(struct certificates *c, struct certificate_file *f, struct ipc **keys, enum certificates_which which)
{
	struct world_stat st, key_st;
	int certificate = -1, key = -1;
	enum err e = world_open(c->w, WORLD_ABSOLUTE, f->path, WORLD_READ, 0, &certificate);
	enum err key_e = world_open(c->w, WORLD_ABSOLUTE, f->key_path, WORLD_READ, 0, &key);
	if (e == ERR_NONE)
		e = world_stat(c->w, certificate, &st);
	if (key_e == ERR_NONE)
		key_e = world_stat(c->w, key, &key_st);
	if (e != ERR_NONE || key_e != ERR_NONE) {
		if (which == CERTIFICATES_ALL || f->text_n == 0)
			failed_file(c, f, e != ERR_NONE ? "certificate file" : "key file", e != ERR_NONE ? e : key_e);
		f->stat = (struct world_stat){ 0 };
	} else if (which == CERTIFICATES_ALL || !is_same(&st, &f->stat) || !is_same(&key_st, &f->key_stat)) {
		f->stat = st;
		f->key_stat = key_st;
		hand_over(c, f, keys, certificate, key);
	}
	if (certificate >= 0)
		world_close(c->w, certificate);
	if (key >= 0)
		world_close(c->w, key);
}

void certificates_load(struct certificates *c, struct ipc **keys, enum certificates_which which)
{
	while (c->busy)
		if (co_sleep_until(world_mono_ns(c->w) + BUSY_NS) != ERR_NONE)
			return;
	c->busy = true;
	if (c->own && *keys)
		make_own(c, keys);
	for (size_t i = 0; i < c->n && *keys; i++)
		load_one(c, &c->v[i], keys, which);
	c->busy = false;
}

void certificates_look(struct certificates *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].expires_ms && c->v[i].expires_ms < world_wall_ms(c->w) + SOON_MS)
			log_certificate_expires(c->log, NO_IDS, c->v[i].path, c->v[i].expires_ms);
}

enum err certificates_status(const struct certificates *c, struct arena *arena, struct certificate_status **list_out, size_t *n_out)
{
	*n_out = 0;
	*list_out = ARENA_ARRAY(arena, struct certificate_status, c->n + 1);
	for (size_t i = 0; *list_out && i < c->n; i++)
		(*list_out)[(*n_out)++] = (struct certificate_status){
			.file = c->v[i].path,
			.names = arena_str(arena, str_of(c->v[i].names, c->v[i].names_n)),
			.expires_ms = c->v[i].expires_ms,
			.text = arena_str(arena, str_of(c->v[i].text, c->v[i].text_n)),
		};
	return arena_err(arena);
}
