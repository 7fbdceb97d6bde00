/* SPDX-License-Identifier: Apache-2.0 */
/* SASL messages of strangers: whatever is read stays within the message, and holds what its reader promises. */
#include "base/base64.h"
#include "sasl/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new(1 << 20);
	struct str s = str_of((const char *)data, size), bytes;
	struct sasl_plain p;
	struct sasl_bearer b;
	struct sasl_scram_first first;
	struct sasl_scram_final final;
	if (!mem || size > 8192) {
		mem_destroy(mem);
		return 0;
	}
	struct arena a = arena_make(mem, 1 << 18);
	if (sasl_plain_read(s, &p) == ERR_NONE)
		ASSERT(p.authcid.n > 0 && p.password.n > 0 && p.authzid.n + p.authcid.n + p.password.n + 2 == s.n);
	if (sasl_oauthbearer_read(s, &b) == ERR_NONE || sasl_xoauth2_read(s, &b) == ERR_NONE)
		ASSERT(b.token.n > 0 && str_is_printable_ascii(b.token));
	if (sasl_scram_first_read(s, &a, &first) == ERR_NONE)
		ASSERT(first.user.n > 0 && first.nonce.n > 0 && first.gs2_header.n + first.bare.n == s.n);
	if (sasl_scram_final_read(s, &a, &final) == ERR_NONE)
		ASSERT(final.without_proof.n < s.n && final.nonce.n > 0);
	struct sasl_client c = { .mechanism = SASL_SCRAM_SHA_1, .user = STR("u"), .password = STR("p"), .arena = &a };
	struct str answer;
	bool has;
	ASSERT(sasl_client_start(&c, &has, &answer) == ERR_NONE);
	c.nonce = STR("n");
	if (sasl_client_hear(&c, s) == ERR_NONE)
		ASSERT(c.iterations >= 4096 && c.salt.n > 0 && sasl_client_answer(&c, &answer) == ERR_NONE);
	ASSERT(!sasl_client_is_over(&c));
	if (base64_decode(&a, s, &bytes) == ERR_NONE)
		ASSERT(str_eq(base64_encode(&a, bytes), s));
	arena_close(&a);
	mem_destroy(mem);
	return 0;
}
