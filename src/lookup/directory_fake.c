/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory for the simulator: see directory.h. A file of lines, `kind name targets`, kept in
 * memory; a change writes it anew, syncs it, renames it and syncs its directory.
 */
#include "base/hash.h"
#include "lookup/directory.h"

#define FILE_MAX ((size_t)16 << 20)
#define ENTRIES_MAX 100000u

struct entry {
	struct str key; /* kind character, then the name */
	struct str targets;
};

struct directory {
	struct world *w;
	struct mem *mem;
	int dir_fd;
	struct table entries;
};

static const char kind_chars[] = { [DIRECTORY_KIND_ACCOUNT] = 'a', [DIRECTORY_KIND_DOMAIN] = 'd', [DIRECTORY_KIND_ALIAS] = 'l' };

static struct str key_of(struct buf *b, enum directory_kind kind, struct str name)
{
	buf_clear(b);
	buf_add_char(b, kind_chars[kind]);
	buf_add(b, name);
	return buf_err(b) == ERR_NONE ? buf_str(b) : STR_NONE;
}

static enum err add(struct directory *d, struct str key, struct str targets)
{
	struct entry *e = mem_alloc(d->mem, sizeof *e + key.n + targets.n);
	if (!e)
		return ERR_NO_MEMORY;
	char *p = (char *)(e + 1);
	memcpy(p, key.p, key.n);
	if (targets.n)
		memcpy(p + key.n, targets.p, targets.n);
	e->key = str_of(p, key.n);
	e->targets = str_of(p + key.n, targets.n);
	enum err err = table_put(&d->entries, e->key, e);
	if (err != ERR_NONE)
		mem_free(d->mem, e);
	return err;
}

static enum err load(struct directory *d)
{
	struct buf b = buf_grow(d->mem, FILE_MAX);
	enum err e = world_read_file(d->w, d->dir_fd, STR("accounts"), FILE_MAX, &b);
	struct str rest = buf_str(&b);
	while (e == ERR_NONE && rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest), targets;
		struct str key = str_split(line, ' ', &targets);
		e = key.n > 1 ? add(d, key, targets) : ERR_CORRUPT;
	}
	buf_free(&b);
	return e == ERR_NOT_FOUND ? ERR_NONE : e;
}

enum err directory_open(struct world *w, struct str dir, struct directory **d_out)
{
	struct directory *d = mem_alloc(world_mem(w), sizeof *d);
	if (!d)
		return ERR_NO_MEMORY;
	d->w = w;
	d->mem = world_mem(w);
	d->entries = table_make(d->mem, (struct sip_key){ 1, 2 }, ENTRIES_MAX);
	enum err e = world_open(w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &d->dir_fd);
	if (e != ERR_NONE) {
		mem_free(d->mem, d);
		return e;
	}
	e = load(d);
	if (e != ERR_NONE)
		directory_close(d);
	else
		*d_out = d;
	return e;
}

void directory_close(struct directory *d)
{
	size_t it = 0;
	struct entry *e;
	while ((e = table_next(&d->entries, &it, NULL))) {
		(void)table_del(&d->entries, e->key);
		mem_free(d->mem, e);
	}
	table_free(&d->entries);
	world_close(d->w, d->dir_fd);
	mem_free(d->mem, d);
}

enum err directory_find(struct directory *d, enum directory_kind kind, struct str name, struct arena *arena,
			struct str *targets_out)
{
	char room[1400];
	struct buf b = buf_fixed(room, sizeof room);
	const struct entry *e = table_get(&d->entries, key_of(&b, kind, name));
	if (!e)
		return ERR_NOT_FOUND;
	if (kind == DIRECTORY_KIND_ALIAS && targets_out) {
		*targets_out = arena_str(arena, e->targets);
		return arena_err(arena);
	}
	return ERR_NONE;
}

static enum err write_file(struct directory *d, int fd)
{
	struct buf b = buf_grow(d->mem, FILE_MAX);
	size_t it = 0;
	const struct entry *e;
	while ((e = table_next(&d->entries, &it, NULL))) {
		buf_add(&b, e->key);
		buf_add_char(&b, ' ');
		buf_add(&b, e->targets);
		buf_add_char(&b, '\n');
	}
	struct str all = buf_str(&b);
	enum err err = buf_err(&b);
	if (err == ERR_NONE && all.n > 0)
		err = world_pwritev(d->w, fd, &all, 1, 0);
	buf_free(&b);
	return err == ERR_NONE ? world_sync(d->w, fd) : err;
}

static enum err save(struct directory *d)
{
	int fd;
	TRY(world_open(d->w, d->dir_fd, STR("accounts.new"), WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC, 0600, &fd));
	enum err e = write_file(d, fd);
	world_close(d->w, fd);
	TRY(e);
	TRY(world_rename(d->w, d->dir_fd, STR("accounts.new"), d->dir_fd, STR("accounts")));
	return world_sync(d->w, d->dir_fd);
}

enum err directory_change(struct directory *d, enum directory_kind kind, bool remove, struct str name,
			  struct str targets, int64_t now_ms UNUSED, bool *done_out)
{
	char room[1400];
	struct buf b = buf_fixed(room, sizeof room);
	struct str key = key_of(&b, kind, name);
	struct entry *old = table_get(&d->entries, key);
	*done_out = false;
	if (remove ? !old : old && (kind != DIRECTORY_KIND_ALIAS || str_eq(old->targets, targets)))
		return ERR_NONE;
	if (old) {
		(void)table_del(&d->entries, key);
		mem_free(d->mem, old);
	}
	if (!remove)
		TRY(add(d, key, kind == DIRECTORY_KIND_ALIAS ? targets : STR("")));
	TRY(save(d));
	*done_out = true;
	return ERR_NONE;
}

/* The next entry in order of name, behind `after`. */
static const struct entry *next_entry(const struct directory *d, enum directory_kind kind, struct str after, struct str match)
{
	const struct entry *best = NULL, *e;
	size_t it = 0;
	while ((e = table_next(&d->entries, &it, NULL))) {
		struct str name = str_sub(e->key, 1, e->key.n);
		bool fits = e->key.p[0] == kind_chars[kind] && str_cmp(name, after) > 0 &&
			    (match.n == 0 || str_find_str(name, match) < name.n);
		if (fits && (!best || str_cmp(e->key, best->key) < 0))
			best = e;
	}
	return best;
}

enum err directory_list(struct directory *d, const struct directory_list_in *in, struct arena *arena,
			struct directory_list_out *out)
{
	size_t most = in->kind == DIRECTORY_KIND_ALIAS ? 12 : 50;
	struct str after = in->after;
	const struct entry *e;
	out->accounts = ARENA_ARRAY(arena, struct account_row, most);
	out->aliases = ARENA_ARRAY(arena, struct alias_row, most);
	out->domains = ARENA_ARRAY(arena, struct domain_row, most);
	TRY(arena_err(arena));
	for (size_t n = 0; (e = next_entry(d, in->kind, after, in->match)); n++) {
		struct str name = arena_str(arena, str_sub(e->key, 1, e->key.n));
		if (n == most) {
			out->more = true;
			break;
		}
		if (in->kind == DIRECTORY_KIND_ACCOUNT)
			out->accounts[out->accounts_n++] = (struct account_row){ .address = name };
		else if (in->kind == DIRECTORY_KIND_ALIAS)
			out->aliases[out->aliases_n++] = (struct alias_row){ name, arena_str(arena, e->targets) };
		else
			out->domains[out->domains_n++] = (struct domain_row){ .name = name };
		after = name;
	}
	return arena_err(arena);
}

/* ---- passwords: entries of kind "c", named account, tab, label ---- */

static struct str credential_key(struct buf *b, struct str account, struct str label)
{
	buf_clear(b);
	buf_add_char(b, 'c');
	buf_add(b, account);
	buf_add_char(b, '\t');
	buf_add(b, label);
	return buf_err(b) == ERR_NONE ? buf_str(b) : STR_NONE;
}

/* In order of label. */
static void insert(struct credential *list, size_t n, const struct credential *one)
{
	size_t at = n;
	for (; at > 0 && str_cmp(one->label, list[at - 1].label) < 0; at--)
		list[at] = list[at - 1];
	list[at] = *one;
}

enum err directory_credentials(struct directory *d, struct str account, struct arena *arena, struct credential **list_out,
			       size_t *n_out)
{
	char room[1400];
	struct buf b = buf_fixed(room, sizeof room);
	struct str prefix = credential_key(&b, account, STR(""));
	size_t it = 0;
	const struct entry *e;
	*n_out = 0;
	*list_out = ARENA_ARRAY(arena, struct credential, DIRECTORY_CREDENTIALS_MAX);
	TRY(arena_err(arena));
	while ((e = table_next(&d->entries, &it, NULL)) && *n_out < DIRECTORY_CREDENTIALS_MAX) {
		if (!str_starts(e->key, prefix))
			continue;
		struct credential c = { .label = arena_str(arena, str_sub(e->key, prefix.n, e->key.n)) };
		struct str rest = arena_str(arena, e->targets);
		c.hash = str_split(rest, '\t', &rest);
		c.scram256 = str_split(rest, '\t', &rest);
		c.scram1 = str_split(rest, '\t', &rest);
		insert(*list_out, (*n_out)++, &c);
	}
	return arena_err(arena);
}

static enum err replace(struct directory *d, struct str key, struct str value, bool remove)
{
	struct entry *old = table_del(&d->entries, key);
	mem_free(d->mem, old);
	if (!remove)
		TRY(add(d, key, value));
	return save(d);
}

enum err directory_set_credential(struct directory *d, struct str account, const struct credential *c)
{
	char room[1400], value[4096];
	struct buf b = buf_fixed(room, sizeof room), v = buf_fixed(value, sizeof value);
	TRY(directory_find(d, DIRECTORY_KIND_ACCOUNT, account, NULL, NULL));
	const struct str texts[] = { c->hash, c->scram256, c->scram1 };
	for (size_t i = 0; i < 3; i++) {
		buf_add(&v, texts[i]);
		buf_add_char(&v, '\t');
	}
	TRY(buf_err(&v));
	return replace(d, credential_key(&b, account, c->label), buf_str(&v), false);
}

enum err directory_drop_credential(struct directory *d, struct str account, struct str label, bool *done_out)
{
	char room[1400];
	struct buf b = buf_fixed(room, sizeof room);
	struct str key = credential_key(&b, account, label);
	*done_out = table_get(&d->entries, key) != NULL;
	return *done_out ? replace(d, key, STR(""), true) : ERR_NONE;
}
