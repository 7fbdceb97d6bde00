/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history in SQLite: see history.h. A batch is one transaction: its rows, and a row in `chunk` with
 * the range of keys it filled and a Bloom filter over the lower-case addresses and Message-IDs in it.
 * A search by one of those reads the filters, newest first, and then only the ranges that may match.
 */
#include <sqlite3.h>

#include "base/clockfmt.h"
#include "base/hash.h"
#include "control/history.h"

#define BITS_PER_KEY 12u
#define PROBES 6u
#define FILTER_BYTES_MAX 65536u
#define FOUND_ROWS_MAX 25u
#define EXPIRE_ROWS "2000"

enum statement { PUT_MESSAGE, PUT_ATTEMPT, PUT_REFUSED, PUT_CHUNK, GET_MESSAGE, GET_MESSAGES, GET_ATTEMPTS, GET_REFUSED,
		 GET_REFUSED_ID, GET_CHUNKS, OLD_ATTEMPTS, OLD_MESSAGES, OLD_REFUSED, OLD_CHUNKS, STATEMENTS };
enum chunk_kind { CHUNK_MESSAGES, CHUNK_REFUSED };

#define MESSAGE_COLUMNS "id, at_ms, client, helo, protocol, account, reverse_path, recipients, message_id, bytes"
#define REFUSED_COLUMNS "at_ms, session, id, client, helo, reverse_path, forward_path, code, enhanced, text, rule, count"

static const char *const sql[STATEMENTS] = {
	[PUT_MESSAGE] = ("INSERT OR REPLACE INTO message(" MESSAGE_COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)"),
	[PUT_ATTEMPT] = ("INSERT OR REPLACE INTO attempt(id, at_ms, number, address, state, enhanced, text, by)"
			" VALUES(?1,?2,?3,?4,?5,?6,?7,?8)"),
	[PUT_REFUSED] = ("INSERT INTO refused(" REFUSED_COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)"),
	[PUT_CHUNK] = "INSERT INTO chunk(kind, first, last, at_ms, filter) VALUES(?1,?2,?3,?4,?5)",
	[GET_MESSAGE] = ("SELECT " MESSAGE_COLUMNS " FROM message WHERE id = ?1"),
	[GET_MESSAGES] = ("SELECT " MESSAGE_COLUMNS " FROM message WHERE id BETWEEN ?1 AND ?2 AND (lower(reverse_path) = ?3"
			 " OR lower(message_id) = ?3 OR instr(recipients, ' ' || ?3 || ' ')) ORDER BY id DESC"),
	[GET_ATTEMPTS] = "SELECT at_ms, address, state, enhanced, text, by FROM attempt WHERE id = ?1 ORDER BY at_ms, number",
	[GET_REFUSED] = ("SELECT " REFUSED_COLUMNS " FROM refused WHERE rowid BETWEEN ?1 AND ?2 AND (lower(reverse_path) = ?3"
			" OR lower(forward_path) = ?3 OR client = ?3) ORDER BY rowid DESC"),
	[GET_REFUSED_ID] = ("SELECT " REFUSED_COLUMNS " FROM refused WHERE rowid > (SELECT max(rowid) - 100000 FROM refused)"
			   " AND id = ?1 ORDER BY rowid"),
	[GET_CHUNKS] = "SELECT first, last, filter FROM chunk WHERE kind = ?1 ORDER BY rowid DESC",
	[OLD_ATTEMPTS] = ("DELETE FROM attempt WHERE id IN (SELECT id FROM message WHERE at_ms < ?1 ORDER BY id LIMIT " EXPIRE_ROWS ")"),
	[OLD_MESSAGES] = ("DELETE FROM message WHERE id IN (SELECT id FROM message WHERE at_ms < ?1 ORDER BY id LIMIT " EXPIRE_ROWS ")"),
	[OLD_REFUSED] = ("DELETE FROM refused WHERE rowid IN (SELECT rowid FROM refused WHERE at_ms < ?1 ORDER BY rowid LIMIT " EXPIRE_ROWS ")"),
	[OLD_CHUNKS] = "DELETE FROM chunk WHERE at_ms < ?1",
};

static const char schema[] =
	"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;"
	"PRAGMA wal_autocheckpoint = 4000;"
	"CREATE TABLE IF NOT EXISTS message(id INTEGER PRIMARY KEY, at_ms INTEGER, client TEXT, helo TEXT, protocol TEXT,"
	" account TEXT, reverse_path TEXT, recipients TEXT, message_id TEXT, bytes INTEGER);"
	"CREATE TABLE IF NOT EXISTS attempt(id INTEGER, number INTEGER, at_ms INTEGER, address TEXT, state INTEGER,"
	" enhanced TEXT, text TEXT, by TEXT, PRIMARY KEY(id, number, at_ms)) WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS refused(at_ms INTEGER, session INTEGER, id INTEGER, client TEXT, helo TEXT,"
	" reverse_path TEXT, forward_path TEXT, code INTEGER, enhanced TEXT, text TEXT, rule TEXT, count INTEGER);"
	"CREATE TABLE IF NOT EXISTS chunk(kind INTEGER, first INTEGER, last INTEGER, at_ms INTEGER, filter BLOB);";

struct history {
	struct mem *mem;
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	unsigned char *filter;
	size_t filter_bytes;
};

static enum err sqlite_err(int r)
{
	int kind = r & 0xff;
	if (kind == SQLITE_OK || kind == SQLITE_ROW || kind == SQLITE_DONE)
		return ERR_NONE;
	return kind == SQLITE_FULL ? ERR_NO_SPACE : kind == SQLITE_BUSY ? ERR_BUSY :
		kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB ? ERR_CORRUPT :
		kind == SQLITE_CANTOPEN || kind == SQLITE_READONLY ? ERR_DENIED : ERR_IO;
}

enum err history_open(struct world *w, struct str dir, struct history **h_out)
{
	char path[1200];
	struct buf b = buf_fixed(path, sizeof path - 1);
	buf_add(&b, dir);
	buf_add(&b, STR("/history.db"));
	TRY(buf_err(&b));
	path[b.n] = '\0';
	struct history *h = mem_alloc(world_mem(w), sizeof *h);
	if (!h)
		return ERR_NO_MEMORY;
	h->mem = world_mem(w);
	h->filter = mem_alloc_raw(h->mem, FILTER_BYTES_MAX);
	int r = h->filter ? sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) : SQLITE_NOMEM;
	if (r == SQLITE_OK)
		r = sqlite3_exec(h->db, schema, NULL, NULL, NULL);
	for (int i = 0; r == SQLITE_OK && i < STATEMENTS; i++)
		r = sqlite3_prepare_v3(h->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &h->st[i], NULL);
	if (r != SQLITE_OK) {
		history_close(h);
		return sqlite_err(r);
	}
	*h_out = h;
	return ERR_NONE;
}

void history_close(struct history *h)
{
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(h->st[i]);
	sqlite3_close(h->db);
	mem_free(h->mem, h->filter);
	mem_free(h->mem, h);
}

/* ---- filters -------------------------------------------------------------------------------------------- */

/* Fixed: filters are on disk. Who could choose colliding addresses gains a slower search, no more. */
static const struct sip_key filter_key = { 0x676f64776974, 1 };

static uint64_t key_hash(struct str s)
{
	char small[1200];
	size_t n = s.n < sizeof small ? s.n : sizeof small;
	for (size_t i = 0; i < n; i++)
		small[i] = ascii_lower(s.p[i]);
	return siphash(filter_key, str_of(small, n));
}

static size_t filter_size(size_t keys)
{
	size_t bytes = (keys * BITS_PER_KEY + 7) / 8;
	return bytes < 8 ? 8 : bytes > FILTER_BYTES_MAX ? FILTER_BYTES_MAX : bytes;
}

static uint64_t probe(uint64_t hash, unsigned i, size_t bytes)
{
	return ((hash & 0xffffffff) + i * (hash >> 32 | 1)) % (bytes * 8);
}

static void filter_add(struct history *h, struct str key)
{
	uint64_t hash = key_hash(key);
	for (unsigned i = 0; key.n > 0 && i < PROBES; i++) {
		uint64_t bit = probe(hash, i, h->filter_bytes);
		h->filter[bit / 8] |= (unsigned char)(1u << bit % 8);
	}
}

static bool filter_may_hold(const unsigned char *filter, size_t bytes, uint64_t hash)
{
	for (unsigned i = 0; bytes > 0 && i < PROBES; i++) {
		uint64_t bit = probe(hash, i, bytes);
		if (!(filter[bit / 8] >> bit % 8 & 1))
			return false;
	}
	return bytes > 0;
}

/* ---- storing ---------------------------------------------------------------------------------------------- */

static void text(sqlite3_stmt *st, int at, struct str s)
{
	sqlite3_bind_text(st, at, s.n ? s.p : "", (int)s.n, SQLITE_STATIC);
}

static int run(sqlite3_stmt *st)
{
	int r = sqlite3_step(st);
	int reset = sqlite3_reset(st);
	return r == SQLITE_DONE || r == SQLITE_ROW ? reset : r;
}

static void ip_text(sqlite3_stmt *st, int at, const struct ip *ip, char room[IP_TEXT_MAX])
{
	struct buf b = buf_fixed(room, IP_TEXT_MAX);
	ip_add(&b, ip);
	text(st, at, buf_str(&b));
}

/* " a@b c@d ", lower case: final addresses and what the client wrote. */
static void recipients_text(const struct envelope *e, struct buf *b)
{
	buf_clear(b);
	buf_add_char(b, ' ');
	for (size_t i = 0; i < e->recipients_n && b->n < 60000; i++) {
		struct str both[2] = { e->recipients[i].forward_path, e->recipients[i].target.address };
		for (size_t k = 0; k < 2; k++) {
			if (k == 1 && str_eq_nocase(both[0], both[1]))
				continue;
			for (size_t c = 0; c < both[k].n; c++)
				buf_add_char(b, ascii_lower(both[k].p[c]));
			buf_add_char(b, ' ');
		}
	}
}

static int put_message(struct history *h, const struct history_message_in *m, struct buf *recipients)
{
	const struct envelope *e = &m->envelope;
	char ip[IP_TEXT_MAX];
	sqlite3_stmt *st = h->st[PUT_MESSAGE];
	recipients_text(e, recipients);
	sqlite3_bind_int64(st, 1, (sqlite3_int64)e->id);
	sqlite3_bind_int64(st, 2, e->arrived_ms);
	ip_text(st, 3, &e->client, ip);
	text(st, 4, e->helo);
	text(st, 5, e->protocol);
	text(st, 6, e->account);
	text(st, 7, e->reverse_path);
	text(st, 8, buf_str(recipients));
	text(st, 9, e->message_id);
	sqlite3_bind_int64(st, 10, (sqlite3_int64)m->bytes);
	filter_add(h, e->reverse_path);
	filter_add(h, e->message_id);
	for (size_t i = 0; i < e->recipients_n; i++) {
		filter_add(h, e->recipients[i].forward_path);
		filter_add(h, e->recipients[i].target.address);
	}
	return run(st);
}

static int put_attempt(struct history *h, const struct history_attempt_in *a)
{
	sqlite3_stmt *st = h->st[PUT_ATTEMPT];
	sqlite3_bind_int64(st, 1, (sqlite3_int64)a->id);
	sqlite3_bind_int64(st, 2, a->at_ms);
	sqlite3_bind_int(st, 3, a->number);
	text(st, 4, a->address);
	sqlite3_bind_int(st, 5, (int)a->state);
	text(st, 6, a->enhanced);
	text(st, 7, a->text);
	text(st, 8, a->by);
	return run(st);
}

static int put_refused(struct history *h, const struct history_refused_in *f)
{
	char ip[IP_TEXT_MAX];
	sqlite3_stmt *st = h->st[PUT_REFUSED];
	sqlite3_bind_int64(st, 1, f->at_ms);
	sqlite3_bind_int64(st, 2, (sqlite3_int64)f->session);
	sqlite3_bind_int64(st, 3, (sqlite3_int64)f->id);
	ip_text(st, 4, &f->client, ip);
	text(st, 5, f->helo);
	text(st, 6, f->reverse_path);
	text(st, 7, f->forward_path);
	sqlite3_bind_int(st, 8, f->code);
	text(st, 9, f->enhanced);
	text(st, 10, f->text);
	text(st, 11, f->rule);
	sqlite3_bind_int64(st, 12, f->count);
	filter_add(h, f->reverse_path);
	filter_add(h, f->forward_path);
	struct buf b = buf_fixed(ip, sizeof ip);
	ip_add(&b, &f->client);
	filter_add(h, buf_str(&b));
	return run(st);
}

static int put_chunk(struct history *h, enum chunk_kind kind, int64_t first, int64_t last, int64_t at_ms)
{
	sqlite3_stmt *st = h->st[PUT_CHUNK];
	sqlite3_bind_int(st, 1, (int)kind);
	sqlite3_bind_int64(st, 2, first);
	sqlite3_bind_int64(st, 3, last);
	sqlite3_bind_int64(st, 4, at_ms);
	sqlite3_bind_blob(st, 5, h->filter, (int)h->filter_bytes, SQLITE_STATIC);
	return run(st);
}

static void filter_begin(struct history *h, size_t keys)
{
	h->filter_bytes = filter_size(keys);
	memset(h->filter, 0, h->filter_bytes);
}

static int store_messages(struct history *h, const struct history_batch *b)
{
	struct buf recipients = buf_grow(h->mem, 70000);
	uint64_t first = UINT64_MAX, last = 0;
	int64_t at_ms = 0;
	size_t keys = 0;
	int r = SQLITE_OK;
	for (size_t i = 0; i < b->messages_n; i++)
		keys += 2 + 2 * b->messages[i].envelope.recipients_n;
	filter_begin(h, keys);
	for (size_t i = 0; r == SQLITE_OK && i < b->messages_n; i++) {
		const struct envelope *e = &b->messages[i].envelope;
		r = put_message(h, &b->messages[i], &recipients);
		first = e->id < first ? e->id : first;
		last = e->id > last ? e->id : last;
		at_ms = e->arrived_ms > at_ms ? e->arrived_ms : at_ms;
	}
	buf_free(&recipients);
	if (r == SQLITE_OK && b->messages_n)
		r = put_chunk(h, CHUNK_MESSAGES, (int64_t)first, (int64_t)last, at_ms);
	return r;
}

static int store_refused(struct history *h, const struct history_batch *b)
{
	int64_t first = 0, at_ms = 0;
	int r = SQLITE_OK;
	filter_begin(h, 3 * b->refused_n);
	for (size_t i = 0; r == SQLITE_OK && i < b->refused_n; i++) {
		r = put_refused(h, &b->refused[i]);
		if (i == 0)
			first = sqlite3_last_insert_rowid(h->db);
		at_ms = b->refused[i].at_ms;
	}
	if (r == SQLITE_OK && b->refused_n)
		r = put_chunk(h, CHUNK_REFUSED, first, sqlite3_last_insert_rowid(h->db), at_ms);
	return r;
}

enum err history_store(struct history *h, const struct history_batch *b)
{
	int r = sqlite3_exec(h->db, "BEGIN", NULL, NULL, NULL);
	if (r == SQLITE_OK)
		r = store_messages(h, b);
	for (size_t i = 0; r == SQLITE_OK && i < b->attempts_n; i++)
		r = put_attempt(h, &b->attempts[i]);
	if (r == SQLITE_OK)
		r = store_refused(h, b);
	if (r == SQLITE_OK)
		r = sqlite3_exec(h->db, "COMMIT", NULL, NULL, NULL);
	if (r != SQLITE_OK)
		sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
	return sqlite_err(r);
}

enum err history_sync(struct history *h)
{
	int in_log, done;
	return sqlite_err(sqlite3_wal_checkpoint_v2(h->db, NULL, SQLITE_CHECKPOINT_FULL, &in_log, &done));
}

enum err history_expire(struct history *h, int64_t before_ms, bool *more_out)
{
	static const enum statement order[] = { OLD_ATTEMPTS, OLD_MESSAGES, OLD_REFUSED, OLD_CHUNKS };
	int r = sqlite3_exec(h->db, "BEGIN", NULL, NULL, NULL), gone = 0;
	for (size_t i = 0; r == SQLITE_OK && i < 4; i++) {
		sqlite3_bind_int64(h->st[order[i]], 1, before_ms);
		r = run(h->st[order[i]]);
		gone += order[i] != OLD_CHUNKS ? sqlite3_changes(h->db) : 0;
	}
	if (r == SQLITE_OK)
		r = sqlite3_exec(h->db, "COMMIT", NULL, NULL, NULL);
	else
		sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
	*more_out = r == SQLITE_OK && gone > 0;
	return sqlite_err(r);
}

/* ---- finding ------------------------------------------------------------------------------------------------ */

struct finding {
	struct history *h;
	struct arena *arena;
	struct trace_find_out *out;
	size_t limit;
};

static struct str column(sqlite3_stmt *st, int at, struct arena *a, size_t most)
{
	const void *p = sqlite3_column_text(st, at);
	return arena_str(a, str_sub(str_of(p ? p : "", (size_t)sqlite3_column_bytes(st, at)), 0, most));
}

static struct trace_row *row_new(struct finding *f)
{
	if (f->out->rows_n == f->limit) {
		f->out->more = true;
		return NULL;
	}
	return &f->out->rows[f->out->rows_n++];
}

static void find_attempts(struct finding *f, uint64_t id)
{
	sqlite3_stmt *st = f->h->st[GET_ATTEMPTS];
	struct trace_row *row;
	sqlite3_bind_int64(st, 1, (sqlite3_int64)id);
	while (sqlite3_step(st) == SQLITE_ROW && (row = row_new(f))) {
		int state = sqlite3_column_int(st, 2);
		row->at_ms = sqlite3_column_int64(st, 0);
		row->id = id;
		row->address = column(st, 1, f->arena, 1100);
		row->kind = state == RCPT_STATE_QUEUED ? STR("deferred") : str_z(rcpt_state_name((unsigned)state));
		row->code = column(st, 3, f->arena, 16);
		row->text = column(st, 4, f->arena, 400);
		row->by = column(st, 5, f->arena, 80);
	}
	sqlite3_reset(st);
}

/* The statement stands on a row of GET_MESSAGE(S). */
static void take_message(struct finding *f, sqlite3_stmt *st)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(st, 0);
	struct trace_row *row = row_new(f);
	if (!row)
		return;
	row->id = id;
	row->at_ms = sqlite3_column_int64(st, 1);
	row->kind = STR("accepted");
	row->client = column(st, 2, f->arena, 64);
	row->by = arena_strf(f->arena, "%.*s", STR_ARG(column(st, 4, f->arena, 16)));
	row->reverse_path = column(st, 6, f->arena, 1100);
	row->address = str_trim(column(st, 7, f->arena, 1100));
	row->text = column(st, 8, f->arena, 300);
	row->bytes = (uint64_t)sqlite3_column_int64(st, 9);
	find_attempts(f, id);
}

static void take_refused(struct finding *f, sqlite3_stmt *st)
{
	struct trace_row *row = row_new(f);
	if (!row)
		return;
	row->at_ms = sqlite3_column_int64(st, 0);
	row->id = (uint64_t)sqlite3_column_int64(st, 2);
	row->kind = STR("refused");
	row->client = column(st, 3, f->arena, 64);
	row->reverse_path = column(st, 5, f->arena, 1100);
	row->address = column(st, 6, f->arena, 1100);
	row->code = arena_strf(f->arena, "%d %.*s", sqlite3_column_int(st, 7), STR_ARG(column(st, 8, f->arena, 11)));
	row->text = column(st, 9, f->arena, 400);
	row->by = column(st, 10, f->arena, 80);
	row->bytes = (uint64_t)sqlite3_column_int64(st, 11);
}

static void find_by_id(struct finding *f, uint64_t id)
{
	sqlite3_stmt *st = f->h->st[GET_MESSAGE];
	sqlite3_bind_int64(st, 1, (sqlite3_int64)id);
	if (sqlite3_step(st) == SQLITE_ROW)
		take_message(f, st);
	sqlite3_reset(st);
	st = f->h->st[GET_REFUSED_ID];
	sqlite3_bind_int64(st, 1, (sqlite3_int64)id);
	while (sqlite3_step(st) == SQLITE_ROW && !f->out->more)
		take_refused(f, st);
	sqlite3_reset(st);
}

static void find_in_range(struct finding *f, enum chunk_kind kind, int64_t first, int64_t last, struct str key)
{
	sqlite3_stmt *st = f->h->st[kind == CHUNK_MESSAGES ? GET_MESSAGES : GET_REFUSED];
	sqlite3_bind_int64(st, 1, first);
	sqlite3_bind_int64(st, 2, last);
	text(st, 3, key);
	while (sqlite3_step(st) == SQLITE_ROW && !f->out->more) {
		if (kind == CHUNK_MESSAGES)
			take_message(f, st);
		else
			take_refused(f, st);
	}
	sqlite3_reset(st);
}

static void find_by_key(struct finding *f, enum chunk_kind kind, struct str key)
{
	sqlite3_stmt *st = f->h->st[GET_CHUNKS];
	uint64_t hash = key_hash(key);
	int64_t before = INT64_MAX; /* chunks may overlap: no message twice */
	sqlite3_bind_int(st, 1, (int)kind);
	while (!f->out->more && sqlite3_step(st) == SQLITE_ROW) {
		int64_t first = sqlite3_column_int64(st, 0), last = sqlite3_column_int64(st, 1);
		if (filter_may_hold(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), hash) && first < before)
			find_in_range(f, kind, first, last < before ? last : before - 1, key);
		before = first < before ? first : before;
	}
	sqlite3_reset(st);
}

enum err history_find(struct history *h, const struct trace_find_in *in, struct arena *arena, struct trace_find_out *out)
{
	struct finding f = { h, arena, out, in->limit && in->limit < FOUND_ROWS_MAX ? in->limit : FOUND_ROWS_MAX };
	uint64_t id;
	char lower[320];
	struct buf key = buf_fixed(lower, sizeof lower);
	for (size_t i = 0; i < in->what.n; i++)
		buf_add_char(&key, ascii_lower(in->what.p[i]));
	out->rows = ARENA_ARRAY(arena, struct trace_row, FOUND_ROWS_MAX);
	if (!out->rows)
		return arena_err(arena);
	if (msg_id_parse(in->what, &id) == ERR_NONE)
		find_by_id(&f, id);
	if (out->rows_n == 0) {
		find_by_key(&f, CHUNK_MESSAGES, buf_str(&key));
		find_by_key(&f, CHUNK_REFUSED, buf_str(&key));
	}
	if (out->rows_n == 0 && key.n > 0 && key.p[0] != '<') /* a Message-ID without its brackets */
		find_by_key(&f, CHUNK_MESSAGES, arena_strf(arena, "<%.*s>", STR_ARG(buf_str(&key))));
	return arena_err(arena);
}
