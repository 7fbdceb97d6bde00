/* SPDX-License-Identifier: Apache-2.0 */
/* Rewritten reverse-paths: every legal one comes back; nothing unsigned does. */
#include "message/srs.h"
#include "smtp/address.h"

#define DAY INT64_C(86400000)
#define NOW (INT64_C(20780) * DAY)

static const struct srs ours = { .secrets = { { "0123456789abcdef", 16 } },
				 .secrets_n = 1,
				 .domain = { "fwd.example", 11 } };
static const struct srs others = { .secrets = { { "another-secret-of-theirs", 24 } },
				   .secrets_n = 1,
				   .domain = { "fwd.example", 11 } };

static enum srs_verdict reverse(const struct srs *s, struct str address, int64_t now_ms,
				struct buf *b)
{
	enum srs_verdict v;
	buf_clear(b);
	enum err e = srs_reverse(s, address, now_ms, b, &v);
	ASSERT(e == ERR_NONE);
	return v;
}

static bool is_second(struct str local)
{
	return str_find_str(local, STR("SRS1=")) <= 1;
}

/* Rewritten, it is a path that our own parser takes, and leads back. */
static void there_and_back(struct str address, struct str local, struct arena *a)
{
	char there_room[1200], back_room[1200], small_room[1200];
	struct buf there = buf_fixed(there_room, sizeof there_room);
	struct buf back = buf_fixed(back_room, sizeof back_room);
	struct buf small = buf_fixed(small_room, sizeof small_room);
	struct path p;
	struct str rest;
	enum err e = srs_forward(&ours, address, NOW, &there);
	ASSERT(e == ERR_NONE || e == ERR_LIMIT);
	if (e == ERR_LIMIT)
		return;
	struct str made = buf_str(&there);
	if (str_ends(address, STR("@fwd.example"))) {
		ASSERT(str_eq(made, address));
		return;
	}
	ASSERT(made.n <= SRS_ADDRESS_MAX);
	enum path_fault f =
		path_parse(arena_strf(a, "<%.*s>", STR_ARG(made)), PATH_FORWARD, a, &p, &rest);
	ASSERT(f == PATH_NO_MEMORY || (f == PATH_OK && str_eq(p.canonical, made)));
	ASSERT(reverse(&ours, made, NOW + SRS_DAYS * DAY, &back) == SRS_OK);
	bool second = is_second(made);
	ASSERT(second || str_eq(buf_str(&back), address));
	ASSERT(!second || str_starts_nocase(local, STR("SRS")) || local.p[0] == '"');
	ASSERT(reverse(&ours, made, NOW + 22 * DAY, &back) == SRS_EXPIRED);
	ASSERT(reverse(&others, made, NOW, &back) == SRS_BAD_HASH);
	for (size_t i = 0; i < made.n; i++)
		buf_add_char(&small, ascii_lower(made.p[i]));
	ASSERT(reverse(&ours, buf_str(&small), NOW, &back) == SRS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1000)
		return 0;
	struct mem *mem = mem_new(1 << 20);
	struct str s = str_of((const char *)data, size), rest;
	char room[1200];
	struct buf b = buf_fixed(room, sizeof room);
	struct path p;
	ASSERT(mem);
	struct arena a = arena_make(mem, 1 << 18);
	ASSERT(reverse(&ours, s, NOW, &b) != SRS_OK);
	if (path_parse(s, PATH_REVERSE, &a, &p, &rest) == PATH_OK && !p.is_null)
		there_and_back(p.canonical, p.local, &a);
	arena_close(&a);
	ASSERT(mem_blocks(mem) == 0);
	mem_destroy(mem);
	return 0;
}
