/* SPDX-License-Identifier: Apache-2.0 */
/* Files of accounts: see account_files.h. Nothing of them is read here. */
#include "master/account_files.h"

#include "base/events.h"

#define BUSY_NS (20 * 1000000LL)
#define CALL_NS (60 * 1000000000LL)
#define SETTLED_MS 1000
#define NO_IDS ((struct log_ids){ 0 })

enum err account_files_init(struct account_files *f, struct world *w, struct log *log, const struct conf *conf)
{
	*f = (struct account_files){ .w = w, .mem = world_mem(w), .log = log, .conf = conf };
	for (size_t i = 0; i < conf->domains_n; i++)
		f->n += conf->domains[i].accounts == ACCOUNTS_KIND_PASSWD_FILE;
	if (f->n == 0)
		return ERR_NONE;
	f->v = mem_alloc(f->mem, conf->domains_n * sizeof *f->v);
	return f->v ? ERR_NONE : ERR_NO_MEMORY;
}

void account_files_done(struct account_files *f)
{
	mem_free(f->mem, f->v);
	f->v = NULL;
	f->n = 0;
}

static bool is_same(const struct world_stat *a, const struct world_stat *b)
{
	return a->inode == b->inode && a->mtime_ms == b->mtime_ms && a->bytes == b->bytes;
}

static bool is_settled(struct account_files *f, const struct world_stat *st)
{
	int64_t age_ms = world_wall_ms(f->w) - st->mtime_ms;
	return age_ms < 0 || age_ms >= SETTLED_MS;
}

static YIELDS bool hand_over(struct account_files *f, size_t domain, struct ipc **lookup, int fd)
{
	struct arena ARENA_SCOPED arena = arena_make(f->mem, 65536);
	struct accounts_load_in in = { (uint32_t)domain, fd };
	struct accounts_load_out out = { 0 };
	int64_t before = co_set_deadline(world_mono_ns(f->w) + CALL_NS);
	enum err e = *lookup ? call_accounts_load(*lookup, &in, &arena, &out) : ERR_CLOSED;
	(void)co_set_deadline(before);
	if (e != ERR_NONE) { /* it will be started again, and get everything then; or at the next look */
		f->v[domain].stat = (struct world_stat){ 0 };
		log_accounts_failed(f->log, NO_IDS, f->conf->domains[domain].accounts_path, str_z(err_name(e)));
	}
	return e == ERR_NONE && out.good;
}

static YIELDS bool load_one(struct account_files *f, size_t domain, struct ipc **lookup, enum account_files_which which)
{
	struct account_file *one = &f->v[domain];
	struct str path = f->conf->domains[domain].accounts_path;
	struct world_stat st;
	bool good = true;
	int fd = -1;
	enum err e = world_open(f->w, WORLD_ABSOLUTE, path, WORLD_READ, 0, &fd);
	if (e == ERR_NONE)
		e = world_stat(f->w, fd, &st);
	if (e == ERR_NONE && st.kind != WORLD_FILE)
		e = ERR_DENIED;
	if (e != ERR_NONE) {
		good = false;
		if (which == ACCOUNT_FILES_ALL || !one->failed)
			log_accounts_failed(f->log, NO_IDS, path, e == ERR_NOT_FOUND ? STR("there is no such file") : str_z(err_name(e)));
		*one = (struct account_file){ .failed = true };
	} else if (which == ACCOUNT_FILES_ALL || (!is_same(&st, &one->stat) && is_settled(f, &st))) {
		*one = (struct account_file){ .stat = st };
		good = hand_over(f, domain, lookup, fd);
	}
	if (fd >= 0)
		world_close(f->w, fd);
	return good;
}

bool account_files_load(struct account_files *f, struct ipc **lookup, enum account_files_which which)
{
	bool good = true;
	while (f->busy)
		if (co_sleep_until(world_mono_ns(f->w) + BUSY_NS) != ERR_NONE)
			return false;
	f->busy = true;
	for (size_t i = 0; f->n && i < f->conf->domains_n && *lookup; i++)
		if (f->conf->domains[i].accounts == ACCOUNTS_KIND_PASSWD_FILE)
			good = load_one(f, i, lookup, which) && good;
	f->busy = false;
	return good;
}
