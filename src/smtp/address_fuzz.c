/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: what is accepted has a harmless canonical form, which is its own canonical form. */
#include "smtp/address.h"

static void check_path(struct str s, enum path_kind kind, struct arena *a)
{
	struct path p, again;
	struct str rest;
	if (path_parse(s, kind, a, &p, &rest) != PATH_OK)
		return;
	ASSERT(p.is_null == (p.canonical.n == 0));
	ASSERT(!p.is_null || kind == PATH_REVERSE);
	if (p.is_null)
		return;
	ASSERT(p.text.n <= ADDRESS_PATH_MAX && p.local.n > 0);
	ASSERT(!str_has_control(p.canonical) && str_is_utf8(p.canonical) && str_is_utf8(p.text));
	ASSERT(p.non_ascii || !str_has_8bit(p.text));
	ASSERT(!str_has_8bit(p.domain)); /* A-labels */
	ASSERT(p.domain.n == 0 || p.is_literal || smtp_domain_is_valid(p.domain));
	struct str in_brackets = arena_strf(a, "<%.*s>", STR_ARG(p.canonical));
	ASSERT(arena_err(a) != ERR_NONE || in_brackets.n == p.canonical.n + 2);
	/* longer than it was only by A-labels, quotes gone, or NFC */
	enum path_fault f = path_parse(in_brackets, PATH_REVERSE, a, &again, &rest);
	if (p.domain.n > 0 && f != PATH_TOO_LONG && f != PATH_DOMAIN_TOO_LONG &&
	    f != PATH_NO_MEMORY) {
		ASSERT(f == PATH_OK);
		ASSERT(str_eq(again.canonical, p.canonical) && rest.n == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new(1 << 20);
	struct str s = str_of((const char *)data, size), out;
	if (!mem || size > 4096)
		return 0;
	struct arena a = arena_make(mem, 1 << 18);
	check_path(s, PATH_REVERSE, &a);
	check_path(s, PATH_FORWARD, &a);
	if (smtp_helo_parse(s, &out) == ERR_NONE)
		ASSERT(str_is_printable_ascii(out) && str_find(out, ';') == out.n &&
		       str_find(out, '(') == out.n);
	if (smtp_domain_canonical(s, &a, &out) == ERR_NONE)
		ASSERT(smtp_domain_is_valid(out) && !str_has_8bit(out));
	if (smtp_address_canonical(s, &a, &out) == ERR_NONE)
		ASSERT(str_find(out, '@') < out.n);
	arena_close(&a);
	ASSERT(mem_blocks(mem) == 0);
	mem_destroy(mem);
	return 0;
}
