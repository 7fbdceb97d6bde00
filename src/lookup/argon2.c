/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Argon2 (RFC 9106), compared and never made: see password.h. Input: hashes of the operator's files, whose cost is
 * bounded here. libargon2 would start a thread a lane; the lanes are worked through by one instead.
 */
#include <argon2.h>
#include <openssl/crypto.h>

#include "base/base64.h"
#include "lookup/password.h"

#define TEXT_MAX 300u

/* "m=65536": a number between two bounds. */
static bool take_number(struct str part, struct str name, uint32_t least, uint32_t most, uint32_t *out)
{
	uint64_t v = 0;
	if (!str_starts(part, name) || str_to_u64(str_sub(part, name.n, part.n), most, &v) != ERR_NONE || v < least)
		return false;
	*out = (uint32_t)v;
	return true;
}

/* Base64 without padding. */
static bool take_bytes(struct str text, size_t least, unsigned char *to, size_t cap, size_t *n_out)
{
	char padded[100];
	struct buf b = buf_fixed(padded, sizeof padded);
	struct str bytes;
	struct mem *mem = mem_new(8192);
	if (!mem)
		return false;
	struct arena a = arena_make(mem, 4096);
	buf_add(&b, text);
	for (size_t i = text.n; i % 4; i++)
		buf_add_char(&b, '=');
	bool good = buf_err(&b) == ERR_NONE && base64_decode(&a, buf_str(&b), &bytes) == ERR_NONE && bytes.n >= least && bytes.n <= cap;
	*n_out = good ? bytes.n : 0;
	if (good)
		memcpy(to, bytes.p, bytes.n);
	arena_close(&a);
	mem_destroy(mem);
	return good;
}

enum err argon2_read(struct str text, struct argon2_hash *out)
{
	struct str rest = text;
	*out = (struct argon2_hash){ .version = ARGON2_VERSION_10 };
	if (text.n > TEXT_MAX || str_split(rest, '$', &rest).n > 0)
		return ERR_SYNTAX;
	struct str kind = str_split(rest, '$', &rest), costs = str_split(rest, '$', &rest);
	out->id = str_eq(kind, STR("argon2id"));
	if (!out->id && !str_eq(kind, STR("argon2i")))
		return ERR_SYNTAX;
	if (str_starts(costs, STR("v="))) {
		if (!take_number(costs, STR("v="), ARGON2_VERSION_10, ARGON2_VERSION_13, &out->version))
			return ERR_SYNTAX;
		costs = str_split(rest, '$', &rest);
	}
	struct str salt = str_split(rest, '$', &rest), m = str_split(costs, ',', &costs), t = str_split(costs, ',', &costs);
	bool good = costs.n > 2 && str_find(costs, ',') == costs.n && take_number(m, STR("m="), 8, ARGON2_KIB_MAX, &out->kib) && take_number(t, STR("t="), 1, ARGON2_PASSES_MAX, &out->passes) &&
		    take_number(costs, STR("p="), 1, ARGON2_LANES_MAX, &out->lanes) && out->kib >= 8 * out->lanes &&
		    take_bytes(salt, ARGON2_MIN_SALT_LENGTH, out->salt, sizeof out->salt, &out->salt_n) &&
		    take_bytes(rest, 16, out->hash, sizeof out->hash, &out->hash_n);
	return good ? ERR_NONE : ERR_SYNTAX;
}

enum err argon2_check(const struct argon2_hash *h, struct str password, bool *right_out)
{
	unsigned char made[sizeof h->hash], word[PASSWORD_MAX], salt[sizeof h->salt];
	*right_out = false;
	if (password.n > sizeof word)
		return ERR_SYNTAX;
	if (password.n)
		memcpy(word, password.p, password.n);
	memcpy(salt, h->salt, h->salt_n);
	argon2_context c = {
		.out = made, .outlen = (uint32_t)h->hash_n, .pwd = word, .pwdlen = (uint32_t)password.n, .salt = salt,
		.saltlen = (uint32_t)h->salt_n, .t_cost = h->passes, .m_cost = h->kib, .lanes = h->lanes, .threads = 1, .version = h->version,
	};
	int r = argon2_ctx(&c, h->id ? Argon2_id : Argon2_i);
	*right_out = r == ARGON2_OK && CRYPTO_memcmp(made, h->hash, h->hash_n) == 0;
	OPENSSL_cleanse(word, sizeof word);
	OPENSSL_cleanse(made, sizeof made);
	return r == ARGON2_OK ? ERR_NONE : r == ARGON2_MEMORY_ALLOCATION_ERROR ? ERR_NO_MEMORY : ERR_SYNTAX;
}
