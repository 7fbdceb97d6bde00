/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords, hashed and compared: see password.h. Input: what clients and operators typed, and what is stored. */
#include "lookup/password.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <uninorm.h>

#include "base/base64.h"

/* ---- preparation ------------------------------------------------------------------------------------- */

/* Blanks beyond ASCII, by RFC 3454 table C.1.2, as UTF-8. */
static const struct str blanks[] = {
	STR("\xc2\xa0"), STR("\xe1\x9a\x80"), STR("\xe2\x80\x80"), STR("\xe2\x80\x81"), STR("\xe2\x80\x82"), STR("\xe2\x80\x83"),
	STR("\xe2\x80\x84"), STR("\xe2\x80\x85"), STR("\xe2\x80\x86"), STR("\xe2\x80\x87"), STR("\xe2\x80\x88"), STR("\xe2\x80\x89"),
	STR("\xe2\x80\x8a"), STR("\xe2\x80\xaf"), STR("\xe2\x81\x9f"), STR("\xe3\x80\x80"),
};

static size_t blank_at(struct str s)
{
	for (size_t i = 0; i < sizeof blanks / sizeof blanks[0]; i++)
		if (str_starts(s, blanks[i]))
			return blanks[i].n;
	return 0;
}

enum err password_prepare(struct arena *a, struct str password, struct str *out)
{
	if (password.n == 0 || password.n > PASSWORD_MAX || !str_is_utf8(password) || str_has_control(password))
		return ERR_SYNTAX;
	*out = password;
	if (!str_has_8bit(password))
		return ERR_NONE;
	char *to = arena_alloc(a, password.n);
	struct buf b = buf_fixed(to, to ? password.n : 0);
	for (size_t i = 0; i < password.n;) {
		size_t blank = blank_at(str_sub(password, i, password.n));
		buf_add_char(&b, blank ? ' ' : password.p[i]);
		i += blank ? blank : 1;
	}
	size_t n = 4 * PASSWORD_MAX;
	uint8_t *normal = arena_alloc(a, n);
	TRY(arena_err(a));
	if (!u8_normalize(UNINORM_NFKC, (const uint8_t *)b.p, b.n, normal, &n))
		return ERR_SYNTAX;
	*out = str_of((const char *)normal, n);
	return ERR_NONE;
}

/* ---- hashes ---------------------------------------------------------------------------------------------- */

static bool take_scheme(struct str hash, struct str *text_out)
{
	static const struct str schemes[] = { STR("{CRYPT}"), STR("{BLF-CRYPT}"), STR("{SHA512-CRYPT}"), STR("{SHA256-CRYPT}") };
	*text_out = hash;
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
		if (str_starts_nocase(hash, schemes[i]))
			*text_out = str_sub(hash, schemes[i].n, hash.n);
	static const struct str kinds[] = { STR("$y$"), STR("$gy$"), STR("$7$"), STR("$6$"), STR("$5$"), STR("$2a$"), STR("$2b$"), STR("$2y$") };
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (str_starts(*text_out, kinds[i]))
			return true;
	return false;
}

static bool is_argon2(struct str hash, struct str *text_out)
{
	*text_out = hash;
	if (str_starts_nocase(hash, STR("{ARGON2ID}")))
		*text_out = str_sub(hash, 10, hash.n);
	else if (str_starts_nocase(hash, STR("{ARGON2I}")))
		*text_out = str_sub(hash, 9, hash.n);
	return str_starts(*text_out, STR("$argon2"));
}

bool password_is_understood(struct str hash)
{
	struct argon2_hash h;
	struct str text;
	return is_argon2(hash, &text) ? argon2_read(text, &h) == ERR_NONE : take_scheme(hash, &text);
}

static enum err run_crypt(struct str password, const char *setting, struct str *hash_out, struct crypt_data *data)
{
	char word[PASSWORD_MAX + 1];
	if (password.n > PASSWORD_MAX || str_find(password, '\0') < password.n)
		return ERR_SYNTAX;
	if (password.n)
		memcpy(word, password.p, password.n);
	word[password.n] = '\0';
	const char *hash = crypt_rn(word, setting, data, sizeof *data);
	OPENSSL_cleanse(word, sizeof word);
	*hash_out = hash ? str_z(hash) : STR_NONE;
	return hash ? ERR_NONE : ERR_SYNTAX;
}

/* struct crypt_data is 32 KiB: too much for a stack. */
static struct crypt_data *workspace(void)
{
	return OPENSSL_zalloc(sizeof(struct crypt_data));
}

static void workspace_free(struct crypt_data *data)
{
	OPENSSL_clear_free(data, sizeof *data);
}

enum err password_hash(struct str password, const unsigned char random[PASSWORD_SALT_BYTES], struct buf *b)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	struct str hash;
	if (!crypt_gensalt_rn("$y$", 0, (const char *)random, PASSWORD_SALT_BYTES, setting, sizeof setting))
		return ERR_IO;
	struct crypt_data *data = workspace();
	if (!data)
		return ERR_NO_MEMORY;
	enum err e = run_crypt(password, setting, &hash, data);
	if (e == ERR_NONE) {
		buf_add(b, STR("{CRYPT}"));
		buf_add(b, hash);
		e = buf_err(b);
	}
	workspace_free(data);
	return e;
}

enum err password_check(struct str hash, struct str password, bool *right_out)
{
	char setting[PASSWORD_HASH_MAX];
	struct str text, made;
	struct argon2_hash argon2;
	*right_out = false;
	if (is_argon2(hash, &text)) {
		TRY(argon2_read(text, &argon2));
		return argon2_check(&argon2, password, right_out);
	}
	if (!take_scheme(hash, &text) || text.n >= sizeof setting || str_find(text, '\0') < text.n)
		return ERR_SYNTAX;
	memcpy(setting, text.p, text.n);
	setting[text.n] = '\0';
	struct crypt_data *data = workspace();
	if (!data)
		return ERR_NO_MEMORY;
	enum err e = run_crypt(password, setting, &made, data);
	*right_out = e == ERR_NONE && made.n == text.n && CRYPTO_memcmp(made.p, text.p, text.n) == 0;
	workspace_free(data);
	return e;
}

bool password_is_weak(struct str hash)
{
	struct str text;
	return !take_scheme(hash, &text) || !str_starts(text, STR("$y$"));
}

/* ---- SCRAM ------------------------------------------------------------------------------------------------- */

static const EVP_MD *digest_of(size_t n)
{
	return n == 32 ? EVP_sha256() : EVP_sha1();
}

static bool mac(size_t n, const unsigned char *key, struct str text, unsigned char out[SCRAM_KEY_MAX])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned md_n = sizeof md;
	if (!HMAC(digest_of(n), key, (int)n, (const unsigned char *)(text.n ? text.p : ""), text.n, md, &md_n) || md_n != n)
		return false;
	memcpy(out, md, n);
	OPENSSL_cleanse(md, sizeof md);
	return true;
}

static bool hash(size_t n, const unsigned char *in, unsigned char out[SCRAM_KEY_MAX])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned md_n = sizeof md;
	if (!EVP_Digest(in, n, md, &md_n, digest_of(n), NULL) || md_n != n)
		return false;
	memcpy(out, md, n);
	return true;
}

enum err scram_keys_make(bool sha256, struct str password, struct str salt, uint32_t iterations, struct scram_keys *out)
{
	unsigned char salted[SCRAM_KEY_MAX], client[SCRAM_KEY_MAX];
	*out = (struct scram_keys){ .iterations = iterations, .n = sha256 ? 32 : 20, .salt_n = salt.n };
	if (salt.n == 0 || salt.n > sizeof out->salt || iterations == 0 || iterations > INT32_MAX)
		return ERR_SYNTAX;
	memcpy(out->salt, salt.p, salt.n);
	bool good = PKCS5_PBKDF2_HMAC(password.n ? password.p : "", (int)password.n, out->salt, (int)salt.n, (int)iterations,
				      digest_of(out->n), (int)out->n, salted) == 1 &&
		    mac(out->n, salted, STR("Client Key"), client) && hash(out->n, client, out->stored) &&
		    mac(out->n, salted, STR("Server Key"), out->server);
	OPENSSL_cleanse(salted, sizeof salted);
	OPENSSL_cleanse(client, sizeof client);
	return good ? ERR_NONE : ERR_NO_MEMORY;
}

void scram_keys_add(struct buf *b, const struct scram_keys *k)
{
	buf_add_u64(b, k->iterations);
	buf_add_char(b, ',');
	base64_add(b, str_of((const char *)k->salt, k->salt_n));
	buf_add_char(b, ',');
	base64_add(b, str_of((const char *)k->stored, k->n));
	buf_add_char(b, ',');
	base64_add(b, str_of((const char *)k->server, k->n));
}

/* Exactly n bytes (0: 1 to 64), or false. */
static bool take_bytes(struct arena *a, struct str *rest, size_t n, unsigned char *to, size_t *n_out)
{
	struct str bytes;
	if (base64_decode(a, str_split(*rest, ',', rest), &bytes) != ERR_NONE || bytes.n == 0 || (n ? bytes.n != n : bytes.n > 64))
		return false;
	memcpy(to, bytes.p, bytes.n);
	*n_out = bytes.n;
	return true;
}

enum err scram_keys_read(bool sha256, struct str text, struct scram_keys *out)
{
	uint64_t iterations = 0;
	size_t n;
	struct mem *mem = mem_new(8192);
	if (!mem)
		return ERR_NO_MEMORY;
	struct arena a = arena_make(mem, 4096);
	struct str rest = text;
	*out = (struct scram_keys){ .n = sha256 ? 32 : 20 };
	bool good = str_to_u64(str_split(rest, ',', &rest), INT32_MAX, &iterations) == ERR_NONE && iterations > 0 &&
		    take_bytes(&a, &rest, 0, out->salt, &out->salt_n) && take_bytes(&a, &rest, out->n, out->stored, &n) &&
		    take_bytes(&a, &rest, out->n, out->server, &n) && rest.n == 0;
	out->iterations = (uint32_t)iterations;
	arena_close(&a);
	mem_destroy(mem);
	return good ? ERR_NONE : ERR_SYNTAX;
}

bool scram_check(const struct scram_keys *k, struct str auth_message, struct str proof, unsigned char signature_out[SCRAM_KEY_MAX])
{
	unsigned char signature[SCRAM_KEY_MAX], client[SCRAM_KEY_MAX], stored[SCRAM_KEY_MAX];
	if (proof.n != k->n || !mac(k->n, k->stored, auth_message, signature))
		return false;
	for (size_t i = 0; i < k->n; i++)
		client[i] = (unsigned char)proof.p[i] ^ signature[i];
	bool right = hash(k->n, client, stored) && CRYPTO_memcmp(stored, k->stored, k->n) == 0;
	OPENSSL_cleanse(client, sizeof client);
	return right && mac(k->n, k->server, auth_message, signature_out);
}

bool scram_same_key(const struct scram_keys *a, const struct scram_keys *b)
{
	return a->n == b->n && CRYPTO_memcmp(a->stored, b->stored, a->n) == 0;
}
