/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk: what a power cut may leave (a table of histories, each over many seeds). `must`
 * has to be there after every crash, and each of `may` after at least one.
 */
#include "base/test.h"

#include "world/sim.h"

#define SEEDS 300u
#define OLD "oooooooo"
#define NEW "nnnnnnnn"

enum step { END, CREATE, WRITE_OLD, WRITE_NEW, SYNC_FILE, SYNC_FAILS, SYNC_DIR, SYNC_FS, RENAME, UNLINK, TRUNCATE, BIG };

struct history {
	const char *name;
	enum step steps[10];
	/* a: /d/a (or /d/b after a rename): '-' no such file, 'o', 'n', '0' empty or zeros, 'm' mixed */
	const char *must; /* outcomes that are allowed; others fail */
	const char *may;  /* outcomes that must be seen */
};

static const struct history histories[] = {
	{ "nothing synced", { CREATE, WRITE_OLD }, "-o0", "-o0" },
	{ "file synced, its name not", { CREATE, WRITE_OLD, SYNC_FILE }, "-o", "-o" },
	{ "name synced, content not", { CREATE, WRITE_OLD, SYNC_DIR }, "o0", "o0" },
	{ "both synced", { CREATE, WRITE_OLD, SYNC_FILE, SYNC_DIR }, "o", "o" },
	{ "syncfs", { CREATE, WRITE_OLD, SYNC_FS }, "o", "o" },
	{ "overwritten", { CREATE, WRITE_OLD, SYNC_FS, WRITE_NEW }, "on", "on" },
	{ "overwritten and synced", { CREATE, WRITE_OLD, SYNC_FS, WRITE_NEW, SYNC_FILE }, "n", "n" },
	{ "a failed sync is not made good by the next",
	  { CREATE, WRITE_OLD, SYNC_FS, WRITE_NEW, SYNC_FAILS, SYNC_FILE }, "on", "on" },
	{ "unlinked", { CREATE, WRITE_OLD, SYNC_FS, UNLINK }, "-o", "-o" },
	{ "unlinked and synced", { CREATE, WRITE_OLD, SYNC_FS, UNLINK, SYNC_DIR }, "-", "-" },
	{ "renamed", { CREATE, WRITE_OLD, SYNC_FS, RENAME }, "-o", "-o" },
	{ "renamed and synced", { CREATE, WRITE_OLD, SYNC_FS, RENAME, SYNC_DIR }, "o", "o" },
	{ "renamed before the content was synced", { CREATE, WRITE_OLD, SYNC_DIR, RENAME, SYNC_DIR }, "o0", "o0" },
	{ "truncated", { CREATE, WRITE_OLD, SYNC_FS, TRUNCATE }, "o0", "o0" },
	{ "truncated and synced", { CREATE, WRITE_OLD, SYNC_FS, TRUNCATE, SYNC_FILE }, "0", "0" },
	{ "many pages are torn", { CREATE, SYNC_FS, BIG }, "0mn", "0mn" },
};

struct run {
	struct sim *s;
	struct sim_host *h;
	const struct history *history;
};

static void step(struct run *r, struct world *w, enum step what, int dir, int *fd)
{
	static char big[40000];
	struct str old = STR(OLD), new = STR(NEW);
	struct sim_fault fault = { .op = SIM_SYNC, .nth = 1, .count = 1, .err = ERR_IO };
	enum err e = ERR_NONE;
	switch (what) {
	case CREATE: e = world_open(w, dir, STR("a"), WORLD_READ | WORLD_WRITE | WORLD_CREATE, 0600, fd); break;
	case WRITE_OLD: e = world_pwritev(w, *fd, &old, 1, 0); break;
	case WRITE_NEW: e = world_pwritev(w, *fd, &new, 1, 0); break;
	case SYNC_FILE: e = world_datasync(w, *fd); break;
	case SYNC_FAILS:
		sim_fault_add(r->h, &fault);
		assert_int_equal(world_datasync(w, *fd), ERR_IO);
		sim_faults_clear(r->h);
		break;
	case SYNC_DIR: e = world_sync(w, dir); break;
	case SYNC_FS: e = world_syncfs(w, dir); break;
	case RENAME: e = world_rename(w, dir, STR("a"), dir, STR("b")); break;
	case UNLINK: e = world_unlink(w, dir, STR("a")); break;
	case TRUNCATE: e = world_truncate(w, *fd, 0); break;
	case BIG:
		memset(big, 'n', sizeof big);
		e = world_pwritev(w, *fd, &(struct str){ big, sizeof big }, 1, 0);
		break;
	case END: break;
	}
	assert_int_equal(e, ERR_NONE);
}

static int run_main(struct world *w, void *arg)
{
	struct run *r = arg;
	int dir, fd = -1;
	assert_int_equal(world_open(w, WORLD_ABSOLUTE, STR("/d"), WORLD_READ | WORLD_DIR, 0, &dir), ERR_NONE);
	for (size_t i = 0; i < COUNT(r->history->steps) && r->history->steps[i] != END; i++)
		step(r, w, r->history->steps[i], dir, &fd);
	world_close(w, fd);
	world_close(w, dir);
	return 0;
}

static char outcome(struct sim_host *h, struct mem *mem, bool renamed)
{
	struct buf b = buf_grow(mem, 100000);
	bool has[256] = { false };
	char result = '-';
	enum err a = sim_file_get(h, STR("/d/a"), &b);
	enum err other = renamed ? sim_file_get(h, STR("/d/b"), &b) : a;
	if (other == ERR_NONE) {
		for (size_t i = 0; i < b.n; i++)
			has[(unsigned char)b.p[i]] = true;
		result = (has['o'] + has['n'] + has[0]) > 1 ? 'm' : has['o'] ? 'o' : has['n'] ? 'n' : '0';
	}
	if (renamed && other != ERR_NONE)
		assert_int_equal(a, ERR_NONE); /* a rename loses neither name */
	buf_free(&b);
	return result;
}

static bool renames(const struct history *h)
{
	for (size_t i = 0; i < COUNT(h->steps); i++)
		if (h->steps[i] == RENAME)
			return true;
	return false;
}

static char one(const struct history *history, uint64_t seed, struct mem *mem)
{
	static const bool never = false;
	struct ip ip = { .family = IP_V4, .b = { 192, 0, 2, 1 } };
	struct run r = { .s = sim_new(seed, NULL), .history = history };
	r.h = sim_host_new(r.s, "mx", &ip, 0);
	assert_int_equal(sim_file_put(r.h, STR("/d/other"), STR("x")), ERR_NONE);
	(void)sim_process_start(r.h, "writer", run_main, &r);
	sim_run(r.s, &never);
	assert_int_equal(sim_failures(r.s), 0);
	sim_host_crash(r.h);
	sim_host_boot(r.h);
	char c = outcome(r.h, mem, renames(history));
	struct buf b = buf_grow(mem, 10); /* what was durable before stays so */
	assert_int_equal(sim_file_get(r.h, STR("/d/other"), &b), ERR_NONE);
	assert_str(buf_str(&b), STR("x"));
	buf_free(&b);
	sim_free(r.s);
	return c;
}

static void power_cuts(void **state)
{
	struct mem *mem = mem_new(0);
	for (size_t i = 0; i < COUNT(histories); i++) {
		const struct history *h = &histories[i];
		bool seen[256] = { false };
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			char c = one(h, seed, mem);
			if (!strchr(h->must, c))
				fail_msg("%s, seed %u: '%c'", h->name, (unsigned)seed, c);
			seen[(unsigned char)c] = true;
		}
		for (const char *c = h->may; *c; c++)
			if (!seen[(unsigned char)*c])
				fail_msg("%s: never '%c'", h->name, *c);
	}
	mem_destroy(mem);
}

/* ---- full disk, sparse files ------------------------------------------------------------------------ */

static int full_main(struct world *w, void *arg)
{
	struct run *r = arg;
	int fd;
	static char big[20000];
	struct str all = { big, sizeof big };
	uint64_t bytes, inodes;
	char back[4];
	size_t n;
	assert_int_equal(world_open(w, WORLD_ABSOLUTE, STR("/f"), WORLD_READ | WORLD_WRITE | WORLD_CREATE, 0600, &fd), ERR_NONE);
	assert_int_equal(world_allocate(w, fd, (uint64_t)64 << 20), ERR_NONE);
	assert_int_equal(world_free_space(w, fd, &bytes, &inodes), ERR_NONE);
	assert_int_equal(bytes, (uint64_t)64 << 20);
	assert_int_equal(world_pread(w, fd, back, 4, (uint64_t)60 << 20, &n), ERR_NONE);
	assert_int_equal(n, 4);
	assert_memory_equal(back, "\0\0\0\0", 4);
	world_close(w, fd);
	sim_disk_set_free(r->h, 8192);
	assert_int_equal(world_open(w, WORLD_ABSOLUTE, STR("/g"), WORLD_READ | WORLD_WRITE | WORLD_CREATE, 0600, &fd), ERR_NONE);
	assert_int_equal(world_pwritev(w, fd, &all, 1, 0), ERR_NO_SPACE);
	assert_int_equal(world_unlink(w, WORLD_ABSOLUTE, STR("/g")), ERR_NONE);
	assert_int_equal(world_pread(w, fd, back, 4, 0, &n), ERR_NONE); /* open: still there */
	assert_int_equal(n, 4);
	world_close(w, fd);
	sim_disk_set_free(r->h, UINT64_MAX);
	return 0;
}

static void disks_fill(void **state)
{
	static const bool never = false;
	struct ip ip = { .family = IP_V4, .b = { 192, 0, 2, 1 } };
	struct run r = { .s = sim_new(1, NULL) };
	r.h = sim_host_new(r.s, "mx", &ip, (uint64_t)128 << 20);
	int pid = sim_process_start(r.h, "writer", full_main, &r);
	sim_run(r.s, &never);
	assert_int_equal(sim_process_status(r.s, pid), 0);
	assert_int_equal(sim_failures(r.s), 0);
	sim_free(r.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(power_cuts), cmocka_unit_test(disks_fill) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
