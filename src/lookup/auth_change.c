/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords, set and taken away: see auth.h. Input: the operator's. Runs in lookup and in the command line. */
#include <openssl/crypto.h>

#include "lookup/auth.h"
#include "lookup/password.h"

#define LABEL_MAX 64u
#define MADE_CHARS 24u /* five groups of four, of 32 letters: 100 bits */

static bool refuse(struct auth_change *c, struct str text)
{
	c->text = text;
	return false;
}

static bool is_label(struct str s)
{
	return s.n <= LABEL_MAX && str_is_utf8(s) && !str_has_control(s) && str_eq(str_trim(s), s);
}

/* Letters and digits that are not taken for one another. */
static struct str make_password(struct arena *arena, const unsigned char *random)
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	_Static_assert(sizeof letters == 33, "five bits a letter");
	struct buf b = buf_fixed(arena_alloc(arena, MADE_CHARS), MADE_CHARS);
	for (size_t i = 0; i < 20; i++) {
		if (i && i % 4 == 0)
			buf_add_char(&b, '-');
		buf_add_char(&b, letters[random[i] & 31]);
	}
	return buf_str(&b);
}

/* All passwords of an account share a salt: SCRAM tells the client one before it says which it has. */
static enum err choose_salt(struct directory *d, struct world *w, struct arena *arena, struct auth_change *c)
{
	struct credential *list;
	struct scram_keys k;
	size_t n;
	unsigned char random[PASSWORD_SALT_BYTES];
	TRY(directory_credentials(d, c->account, arena, &list, &n));
	for (size_t i = 0; i < n; i++)
		if (!str_eq(list[i].label, c->label) && scram_keys_read(true, list[i].scram256, &k) == ERR_NONE) {
			c->salt = arena_str(arena, str_of((const char *)k.salt, k.salt_n));
			return arena_err(arena);
		}
	world_random(w, random, sizeof random);
	c->salt = arena_str(arena, str_of((const char *)random, sizeof random));
	return arena_err(arena);
}

bool auth_change_begin(struct directory *d, struct world *w, const struct conf *conf, const struct account_password_in *in, struct arena *arena,
		       struct auth_change *c)
{
	*c = (struct auth_change){ .label = in->label, .remove = in->remove };
	if (auth_account(conf, in->account, arena, &c->account) != ERR_NONE)
		return refuse(c, STR("that is not an account: write local-part@domain"));
	const struct conf_domain *elsewhere = backend_domain(conf, c->account);
	if (elsewhere) {
		struct buf b = buf_fixed(arena_alloc(arena, 1200), 1200);
		buf_addf(&b, "the accounts of %.*s and their passwords are kept elsewhere: ", STR_ARG(elsewhere->name));
		backend_name_add(&b, elsewhere);
		return refuse(c, buf_str(&b));
	}
	if (directory_find(d, DIRECTORY_KIND_ACCOUNT, c->account, arena, NULL) != ERR_NONE)
		return refuse(c, arena_strf(arena, "there is no account %.*s; add it with: godwit account add %.*s", STR_ARG(c->account), STR_ARG(c->account)));
	if (!is_label(c->label))
		return refuse(c, STR("a label is up to 64 characters, without control characters and outer blanks"));
	if (c->remove)
		return true;
	world_random(w, c->random, sizeof c->random);
	c->generated = in->password.n == 0;
	c->password = in->password;
	if (c->generated)
		c->password = make_password(arena, c->random);
	else if (c->label.n)
		return refuse(c, STR("an app password is made, not chosen"));
	else if (in->password.n < 8)
		return refuse(c, STR("a password has at least 8 characters"));
	if (!c->password.p || password_prepare(arena, c->password, &c->password) != ERR_NONE)
		return refuse(c, STR("a password is UTF-8 without control characters, of at most 1,024 bytes"));
	if (choose_salt(d, w, arena, c) != ERR_NONE)
		return refuse(c, STR("the accounts cannot be read"));
	return true;
}

static enum err keys_text(const struct auth_change *c, bool sha256, char *to, size_t cap, size_t *n_out)
{
	struct scram_keys k;
	struct buf b = buf_fixed(to, cap);
	TRY(scram_keys_make(sha256, c->password, c->salt, SCRAM_ITERATIONS, &k));
	scram_keys_add(&b, &k);
	OPENSSL_cleanse(&k, sizeof k);
	*n_out = b.n;
	return buf_err(&b);
}

void auth_change_work(struct world *w UNUSED, void *change)
{
	struct auth_change *c = change;
	struct buf hash = buf_fixed(c->hash, sizeof c->hash);
	if (c->remove)
		return;
	/* an app password is random and of our making: SCRAM's derivation is enough for it */
	if (c->label.n == 0)
		c->err = password_hash(c->password, c->random + 20, &hash);
	c->hash_n = hash.n;
	if (c->err == ERR_NONE)
		c->err = keys_text(c, true, c->scram256, sizeof c->scram256, &c->scram256_n);
	if (c->err == ERR_NONE)
		c->err = keys_text(c, false, c->scram1, sizeof c->scram1, &c->scram1_n);
}

enum err auth_change_end(struct directory *d, int64_t now_ms, struct auth_change *c, struct arena *arena, struct account_password_out *out)
{
	const char *what = c->label.n ? "app password" : "password";
	TRY(c->err);
	if (c->remove) {
		TRY(directory_drop_credential(d, c->account, c->label, &out->done));
		out->text = arena_strf(arena, "%s of %.*s %s", what, STR_ARG(c->account), out->done ? "removed" : "was not there");
		return arena_err(arena);
	}
	struct credential one = { c->label, str_of(c->hash, c->hash_n), str_of(c->scram256, c->scram256_n), str_of(c->scram1, c->scram1_n), now_ms };
	enum err e = directory_set_credential(d, c->account, &one);
	OPENSSL_cleanse(c->hash, sizeof c->hash);
	TRY(e);
	out->done = true;
	out->password = c->generated ? c->password : STR("");
	out->text = arena_strf(arena, "%s of %.*s set", what, STR_ARG(c->account));
	return arena_err(arena);
}

enum err auth_list(struct directory *d, const struct account_passwords_in *in, struct arena *arena, struct account_passwords_out *out)
{
	struct credential *list;
	size_t n;
	TRY(directory_credentials(d, in->account, arena, &list, &n));
	out->rows = ARENA_ARRAY(arena, struct credential_row, n ? n : 1);
	TRY(arena_err(arena));
	for (size_t i = 0; i < n; i++) {
		struct str hash = list[i].hash;
		struct str kind = hash.n == 0 ? STR("SCRAM keys") : password_is_weak(hash) ? STR("an old hash, made anew at the next login") : STR("yescrypt and SCRAM keys");
		out->rows[out->rows_n++] = (struct credential_row){ list[i].label, list[i].created_ms, kind };
	}
	return ERR_NONE;
}
