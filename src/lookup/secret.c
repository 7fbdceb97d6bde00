/* SPDX-License-Identifier: Apache-2.0 */
/* The secrets of rewritten reverse-paths: see secret.h. Runs in lookup, at its start. */
#include "lookup/secret.h"

#include "base/events.h"

#define FILE_NAME    "srs_secret"
#define FILE_MAX     ((size_t)64 << 10)
#define RANDOM_BYTES 32u

static enum err write_secret(struct world *w, int dir_fd, struct str text)
{
	int fd;
	TRY(world_open(w, dir_fd, STR(FILE_NAME ".new"), WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC,
		       0600, &fd));
	enum err e = world_pwritev(w, fd, &text, 1, 0);
	if (e == ERR_NONE)
		e = world_sync(w, fd);
	world_close(w, fd);
	TRY(e);
	TRY(world_rename(w, dir_fd, STR(FILE_NAME ".new"), dir_fd, STR(FILE_NAME)));
	return world_sync(w, dir_fd);
}

static enum err make_secret(struct world *w, int dir_fd, struct buf *b)
{
	uint8_t random[RANDOM_BYTES];
	world_random(w, random, sizeof random);
	buf_clear(b);
	for (size_t i = 0; i < sizeof random; i++)
		buf_add_hex(b, random[i], 2);
	buf_add_char(b, '\n');
	TRY(buf_err(b));
	return write_secret(w, dir_fd, buf_str(b));
}

static enum err read_own(struct world *w, struct str dir, struct buf *b)
{
	int fd;
	TRY(world_open(w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &fd));
	enum err e = world_read_file(w, fd, STR(FILE_NAME), FILE_MAX, b);
	if (e == ERR_NOT_FOUND)
		e = make_secret(w, fd, b);
	world_close(w, fd);
	return e;
}

/* P4. Not through a symlink, and not a FIFO, which can be read but once. */
static void warn_if_exposed(struct proc *p, struct str path)
{
	struct world_stat st = { 0 };
	int fd;
	if (world_open(p->w, WORLD_ABSOLUTE, path, WORLD_READ | WORLD_REGULAR, 0, &fd) != ERR_NONE)
		return;
	if (world_stat(p->w, fd, &st) == ERR_NONE && st.mode & 06)
		log_srs_secret_exposed(&p->log, (struct log_ids){ 0 }, path);
	world_close(p->w, fd);
}

/* The first use makes libcrypto read its configuration. */
static enum err try_it(const struct srs *s)
{
	char room[SRS_ADDRESS_MAX];
	struct buf b = buf_fixed(room, sizeof room);
	enum err e = srs_forward(s, STR("a@b.invalid"), 0, &b);
	return e == ERR_LIMIT ? ERR_NONE : e; /* of a very long domain of ours */
}

enum err secret_load(struct proc *p, struct str dir, struct arena *arena, struct srs *srs_out)
{
	const struct conf *c = &p->conf;
	struct buf b = buf_grow(p->mem, FILE_MAX + 2);
	struct str path = c->srs_secret.n ? c->srs_secret
					  : arena_strf(arena, "%.*s/" FILE_NAME, STR_ARG(dir));
	enum err e = c->srs_secret.n ? world_read_file(p->w, WORLD_ABSOLUTE, path, FILE_MAX, &b)
				     : read_own(p->w, dir, &b);
	struct str text = arena_str(arena, buf_str(&b));
	buf_free(&b);
	if (e == ERR_NONE)
		e = arena_err(arena);
	if (e == ERR_NONE) {
		*srs_out = (struct srs){ .domain = c->srs_domain.n ? c->srs_domain
						   : c->domains_n  ? c->domains[0].name
								   : c->hostname };
		e = srs_secrets_parse(srs_out, text);
		if (e == ERR_SYNTAX || e == ERR_LIMIT)
			log_config_error(&p->log, (struct log_ids){ 0 }, path, 0,
					 STR("expected: up to 8 secrets of 16 characters or more, "
					     "one a line"));
	}
	if (e == ERR_NONE)
		warn_if_exposed(p, path);
	if (e == ERR_NONE)
		e = try_it(srs_out);
	if (e != ERR_NONE && e != ERR_SYNTAX && e != ERR_LIMIT)
		log_io_error(&p->log, (struct log_ids){ 0 }, STR("load srs_secret"), e, path);
	return e;
}
