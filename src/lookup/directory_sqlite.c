/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory in SQLite: see directory.h. One file, accounts.db, in write-ahead mode with full syncs:
 * what an operator was told is stored survives a power cut.
 */
#include <sqlite3.h>

#include "lookup/directory.h"

#define BUSY_MS 2000

enum statement { FIND_ACCOUNT, FIND_DOMAIN, FIND_ALIAS, ADD_ACCOUNT, ADD_DOMAIN, ADD_ALIAS, DEL_ACCOUNT, DEL_DOMAIN, DEL_ALIAS,
		 LIST_ACCOUNT, LIST_DOMAIN, LIST_ALIAS, GET_CREDENTIALS, SET_CREDENTIAL, DEL_CREDENTIAL, STATEMENTS };

struct directory {
	struct mem *mem;
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
};

/* In the order of enum statement; kinds within in the order of enum directory_kind. */
static const char *const sql[STATEMENTS] = {
	"SELECT NULL FROM account WHERE address = ?1 AND NOT disabled",
	"SELECT NULL FROM domain WHERE name = ?1",
	"SELECT targets FROM alias WHERE address = ?1",
	"INSERT INTO account(address, created_ms) VALUES(?1, ?3) ON CONFLICT DO NOTHING",
	"INSERT INTO domain(name) VALUES(?1) ON CONFLICT DO NOTHING",
	"INSERT INTO alias(address, targets) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET targets = ?2 WHERE targets <> ?2",
	"DELETE FROM account WHERE address = ?1",
	"DELETE FROM domain WHERE name = ?1",
	"DELETE FROM alias WHERE address = ?1",
	"SELECT address, created_ms, disabled FROM account WHERE address > ?1 AND instr(address, ?2) ORDER BY address",
	("SELECT name, (SELECT count(*) FROM account WHERE address LIKE '%@' || name) FROM domain"
	 " WHERE name > ?1 AND instr(name, ?2) ORDER BY name"),
	"SELECT address, targets FROM alias WHERE address > ?1 AND instr(address, ?2) ORDER BY address",
	("SELECT label, hash, scram256, scram1, credential.created_ms FROM credential JOIN account USING(address)"
	 " WHERE address = ?1 AND NOT disabled ORDER BY label"),
	"INSERT OR REPLACE INTO credential(address, label, hash, scram256, scram1, created_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	"DELETE FROM credential WHERE address = ?1 AND label = ?2",
};

static const char schema[] =
	"PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048;"
	"CREATE TABLE IF NOT EXISTS account(address TEXT PRIMARY KEY, created_ms INTEGER NOT NULL,"
	" disabled INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS domain(name TEXT PRIMARY KEY) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS alias(address TEXT PRIMARY KEY, targets TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS credential(address TEXT NOT NULL REFERENCES account(address) ON DELETE CASCADE, label TEXT NOT NULL,"
	" hash TEXT NOT NULL, scram256 TEXT NOT NULL, scram1 TEXT NOT NULL, created_ms INTEGER NOT NULL,"
	" PRIMARY KEY(address, label)) WITHOUT ROWID;";

static enum err sqlite_err(int r)
{
	switch (r & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return ERR_NONE;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_BUSY;
	case SQLITE_NOMEM:
		return ERR_NO_MEMORY;
	case SQLITE_FULL:
		return ERR_NO_SPACE;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_AUTH:
		return ERR_DENIED;
	case SQLITE_CONSTRAINT:
		return ERR_NOT_FOUND; /* a password of an account that is not there */
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ERR_CORRUPT;
	default:
		return ERR_IO;
	}
}

enum err directory_open(struct world *w, struct str dir, struct directory **d_out)
{
	char path[1200];
	struct buf b = buf_fixed(path, sizeof path - 1);
	buf_add(&b, dir);
	buf_add(&b, STR("/accounts.db"));
	TRY(buf_err(&b));
	path[b.n] = '\0';
	struct directory *d = mem_alloc(world_mem(w), sizeof *d);
	if (!d)
		return ERR_NO_MEMORY;
	d->mem = world_mem(w);
	int r = sqlite3_open_v2(path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_busy_timeout(d->db, BUSY_MS);
	if (r == SQLITE_OK)
		r = sqlite3_exec(d->db, schema, NULL, NULL, NULL);
	for (int i = 0; r == SQLITE_OK && i < STATEMENTS; i++)
		r = sqlite3_prepare_v3(d->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &d->st[i], NULL);
	if (r != SQLITE_OK) {
		directory_close(d);
		return sqlite_err(r);
	}
	*d_out = d;
	return ERR_NONE;
}

void directory_close(struct directory *d)
{
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(d->st[i]);
	sqlite3_close(d->db);
	mem_free(d->mem, d);
}

/* Text parameters stay valid until the statement is reset, which is before the caller's views end. */
static int bind(sqlite3_stmt *st, int at, struct str s)
{
	return sqlite3_bind_text(st, at, s.n ? s.p : "", (int)s.n, SQLITE_STATIC);
}

static struct str column(sqlite3_stmt *st, int at, struct arena *a)
{
	const void *p = sqlite3_column_text(st, at);
	return arena_str(a, str_of(p ? p : "", (size_t)sqlite3_column_bytes(st, at)));
}

/* enum directory_kind is account, domain, alias: the order of the statements. */
enum err directory_find(struct directory *d, enum directory_kind kind, struct str name, struct arena *arena,
			struct str *targets_out)
{
	sqlite3_stmt *st = d->st[FIND_ACCOUNT + kind];
	int r = bind(st, 1, name);
	if (r == SQLITE_OK)
		r = sqlite3_step(st);
	enum err e = r == SQLITE_DONE ? ERR_NOT_FOUND : sqlite_err(r);
	if (r == SQLITE_ROW && kind == DIRECTORY_KIND_ALIAS && targets_out) {
		*targets_out = column(st, 0, arena);
		e = arena_err(arena);
	}
	sqlite3_reset(st);
	return e;
}

enum err directory_change(struct directory *d, enum directory_kind kind, bool remove, struct str name,
			  struct str targets, int64_t now_ms, bool *done_out)
{
	sqlite3_stmt *st = d->st[(remove ? DEL_ACCOUNT : ADD_ACCOUNT) + kind];
	int r = bind(st, 1, name);
	if (r == SQLITE_OK && !remove && kind == DIRECTORY_KIND_ALIAS)
		r = bind(st, 2, targets);
	if (r == SQLITE_OK && !remove && kind == DIRECTORY_KIND_ACCOUNT)
		r = sqlite3_bind_int64(st, 3, now_ms);
	if (r == SQLITE_OK)
		r = sqlite3_step(st);
	*done_out = r == SQLITE_DONE && sqlite3_changes(d->db) > 0;
	sqlite3_reset(st);
	return sqlite_err(r);
}

static void take_row(sqlite3_stmt *st, enum directory_kind kind, struct arena *a, struct directory_list_out *out)
{
	struct str name = column(st, 0, a);
	if (kind == DIRECTORY_KIND_ACCOUNT)
		out->accounts[out->accounts_n++] = (struct account_row){ name, sqlite3_column_int64(st, 1), sqlite3_column_int(st, 2) != 0 };
	else if (kind == DIRECTORY_KIND_ALIAS)
		out->aliases[out->aliases_n++] = (struct alias_row){ name, column(st, 1, a) };
	else
		out->domains[out->domains_n++] = (struct domain_row){ name, (uint64_t)sqlite3_column_int64(st, 1), false };
}

enum err directory_list(struct directory *d, const struct directory_list_in *in, struct arena *arena,
			struct directory_list_out *out)
{
	size_t most = in->kind == DIRECTORY_KIND_ALIAS ? 12 : 50, n = 0;
	sqlite3_stmt *st = d->st[LIST_ACCOUNT + in->kind];
	out->accounts = ARENA_ARRAY(arena, struct account_row, most);
	out->aliases = ARENA_ARRAY(arena, struct alias_row, most);
	out->domains = ARENA_ARRAY(arena, struct domain_row, most);
	TRY(arena_err(arena));
	int r = bind(st, 1, in->after);
	if (r == SQLITE_OK)
		r = bind(st, 2, in->match);
	while (r == SQLITE_OK || r == SQLITE_ROW) {
		r = sqlite3_step(st);
		if (r != SQLITE_ROW)
			break;
		if (n++ == most) {
			out->more = true;
			break;
		}
		take_row(st, in->kind, arena, out);
	}
	sqlite3_reset(st);
	TRY(arena_err(arena));
	return sqlite_err(r);
}

/* ---- passwords ---- */

enum err directory_credentials(struct directory *d, struct str account, struct arena *arena, struct credential **list_out,
			       size_t *n_out)
{
	sqlite3_stmt *st = d->st[GET_CREDENTIALS];
	struct credential *list = ARENA_ARRAY(arena, struct credential, DIRECTORY_CREDENTIALS_MAX);
	*list_out = list;
	*n_out = 0;
	TRY(arena_err(arena));
	int r = bind(st, 1, account);
	while (r == SQLITE_OK && *n_out < DIRECTORY_CREDENTIALS_MAX && (r = sqlite3_step(st)) == SQLITE_ROW) {
		list[(*n_out)++] = (struct credential){ column(st, 0, arena), column(st, 1, arena), column(st, 2, arena),
							column(st, 3, arena), sqlite3_column_int64(st, 4) };
		r = SQLITE_OK;
	}
	sqlite3_reset(st);
	TRY(arena_err(arena));
	return sqlite_err(r);
}

enum err directory_set_credential(struct directory *d, struct str account, const struct credential *c)
{
	sqlite3_stmt *st = d->st[SET_CREDENTIAL];
	const struct str texts[] = { account, c->label, c->hash, c->scram256, c->scram1 };
	int r = SQLITE_OK;
	for (int i = 0; r == SQLITE_OK && i < 5; i++)
		r = bind(st, i + 1, texts[i]);
	if (r == SQLITE_OK)
		r = sqlite3_bind_int64(st, 6, c->created_ms);
	if (r == SQLITE_OK)
		r = sqlite3_step(st);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return sqlite_err(r);
}

enum err directory_drop_credential(struct directory *d, struct str account, struct str label, bool *done_out)
{
	sqlite3_stmt *st = d->st[DEL_CREDENTIAL];
	int r = bind(st, 1, account);
	if (r == SQLITE_OK)
		r = bind(st, 2, label);
	if (r == SQLITE_OK)
		r = sqlite3_step(st);
	*done_out = r == SQLITE_DONE && sqlite3_changes(d->db) > 0;
	sqlite3_reset(st);
	return sqlite_err(r);
}
