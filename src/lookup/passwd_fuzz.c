/* SPDX-License-Identifier: Apache-2.0 */
/* Files of accounts, hashes of Argon2, and lines of Dovecot's: whatever is in them, no bound is passed and names are canonical. */
#include <stddef.h>
#include <stdint.h>

#include "lookup/dovecot.h"
#include "lookup/passwd.h"
#include "lookup/password.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const struct passwd_list *l)
{
	ASSERT(l->notes_n <= PASSWD_NOTES_MAX);
	for (size_t i = 0; i < l->n; i++) {
		const struct passwd_entry *e = l->v[i];
		ASSERT(str_ends(e->account, STR("@a.org")) && !str_has_control(e->account));
		ASSERT(passwd_list_find(l, e->account) == e);
		ASSERT(e->hash.n < PASSWORD_HASH_MAX && (e->hash.n == 0 || e->scram256.n == 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_of((const char *)data, size), rest = text;
	struct passwd_list *l = passwd_list_new((struct sip_key){ 1, 2 });
	struct dovecot_line line;
	struct argon2_hash h;
	ASSERT(l);
	if (passwd_list_read(l, STR("a.org"), text) == ERR_NONE)
		check_list(l);
	passwd_list_free(l);
	if (argon2_read(text, &h) == ERR_NONE)
		ASSERT(h.kib <= ARGON2_KIB_MAX && h.salt_n <= sizeof h.salt && h.hash_n <= sizeof h.hash);
	while (rest.n > 0) {
		struct str one = str_split(rest, '\n', &rest);
		for (unsigned kind = 0; kind < 2; kind++)
			if (dovecot_read_line((enum dovecot_kind)kind, one, &line) == ERR_NONE)
				ASSERT(line.id == 0 || line.says >= DOVECOT_YES);
	}
	return 0;
}
