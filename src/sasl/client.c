/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of SASL: see sasl.h. Runs in relay; what is heard is a stranger's. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "sasl/sasl.h"

#define ITERATIONS_MIN 4096u   /* RFC 7677 §4: fewer make guessing cheap for whoever poses as the server */
#define ITERATIONS_MAX 500000u /* half a second of a helper's time */
#define SALT_MAX 128u

static const EVP_MD *digest_of(const struct sasl_client *c)
{
	return c->mechanism == SASL_SCRAM_SHA_256 ? EVP_sha256() : EVP_sha1();
}

static size_t key_bytes(const struct sasl_client *c)
{
	return c->mechanism == SASL_SCRAM_SHA_256 ? 32 : 20;
}

static bool is_scram(const struct sasl_client *c)
{
	return c->mechanism == SASL_SCRAM_SHA_256 || c->mechanism == SASL_SCRAM_SHA_1;
}

/* saslname: RFC 5802 §5.1 */
static struct str escaped(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, 3 * s.n + 1);
	struct buf b = buf_fixed(p, p ? 3 * s.n : 0);
	for (size_t i = 0; p && i < s.n; i++)
		if (s.p[i] == ',' || s.p[i] == '=')
			buf_add(&b, s.p[i] == ',' ? STR("=2C") : STR("=3D"));
		else
			buf_add_char(&b, s.p[i]);
	return buf_str(&b);
}

enum err sasl_client_start(struct sasl_client *c, bool *has_initial_out, struct str *initial_out)
{
	static const char nul[1] = "";
	*has_initial_out = c->mechanism != SASL_LOGIN;
	*initial_out = STR("");
	c->step = 0;
	if (c->user.n == 0 || c->password.n == 0 || memchr(c->user.p, 0, c->user.n) || memchr(c->password.p, 0, c->password.n))
		return ERR_SYNTAX;
	if (c->mechanism == SASL_PLAIN) {
		struct str parts[] = { str_of(nul, 1), c->user, str_of(nul, 1), c->password };
		size_t n = c->user.n + c->password.n + 2;
		char *p = arena_alloc(c->arena, n);
		struct buf b = buf_fixed(p, p ? n : 0);
		for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
			buf_add(&b, parts[i]);
		*initial_out = buf_str(&b);
	} else if (is_scram(c)) {
		struct str nonce = base64_encode(c->arena, str_of((const char *)c->random, sizeof c->random));
		struct str name = escaped(c->arena, c->user);
		c->bare = arena_strf(c->arena, "n=%.*s,r=%.*s", STR_ARG(name), STR_ARG(nonce));
		c->nonce = nonce;
		*initial_out = arena_strf(c->arena, "n,,%.*s", STR_ARG(c->bare));
	} else if (c->mechanism != SASL_LOGIN) {
		return ERR_SYNTAX;
	}
	return arena_err(c->arena);
}

/* "k=value" up to the next comma. */
static bool take(struct str *s, char key, struct str *value_out)
{
	if (s->n < 2 || s->p[0] != key || s->p[1] != '=')
		return false;
	*value_out = str_split(str_sub(*s, 2, s->n), ',', s);
	return true;
}

/* "r=…,s=…,i=…" */
static enum err hear_first(struct sasl_client *c, struct str message)
{
	struct str rest = message, salt, number;
	uint64_t iterations;
	if (!take(&rest, 'r', &c->both) || !take(&rest, 's', &salt) || !take(&rest, 'i', &number))
		return ERR_SYNTAX;
	/* RFC 5802 §5.1: the server's nonce begins with ours, and is not ours alone */
	if (!str_starts(c->both, c->nonce) || c->both.n <= c->nonce.n || str_to_u64(number, UINT32_MAX, &iterations) != ERR_NONE)
		return ERR_SYNTAX;
	if (iterations < ITERATIONS_MIN || iterations > ITERATIONS_MAX)
		return ERR_LIMIT;
	TRY(base64_decode(c->arena, salt, &c->salt));
	if (c->salt.n == 0 || c->salt.n > SALT_MAX)
		return ERR_SYNTAX;
	c->both = arena_str(c->arena, c->both);
	c->server_first = arena_str(c->arena, message);
	c->iterations = (uint32_t)iterations;
	return arena_err(c->arena);
}

/* "v=…"; "e=…" is a refusal. */
static enum err hear_final(struct sasl_client *c, struct str message)
{
	struct str rest = message, text, signature;
	if (!take(&rest, 'v', &text))
		return message.n > 1 && message.p[0] == 'e' ? ERR_DENIED : ERR_SYNTAX;
	TRY(base64_decode(c->arena, text, &signature));
	bool same = signature.n == key_bytes(c) && CRYPTO_memcmp(signature.p, c->server_signature, signature.n) == 0;
	c->proved = same;
	return same ? ERR_NONE : ERR_DENIED;
}

enum err sasl_client_hear(struct sasl_client *c, struct str challenge)
{
	c->step++;
	if (challenge.n > SASL_MESSAGE_MAX)
		return ERR_SYNTAX;
	if (is_scram(c))
		return c->step == 1 ? hear_first(c, challenge) : c->step == 2 ? hear_final(c, challenge) : ERR_SYNTAX;
	/* LOGIN asks for the name, then for the password, in words that nobody has standardised. */
	return c->mechanism == SASL_LOGIN && c->step <= 2 ? ERR_NONE : ERR_SYNTAX;
}

static bool hmac(const struct sasl_client *c, const void *key, struct str s, unsigned char *out)
{
	unsigned n = 0;
	return HMAC(digest_of(c), key, (int)key_bytes(c), (const unsigned char *)s.p, s.n, out, &n) != NULL;
}

/* RFC 5802 §3 */
enum err sasl_client_work(struct sasl_client *c)
{
	unsigned char salted[32], client[32], stored[32], server[32], signature[32];
	size_t n = key_bytes(c);
	unsigned hashed = 0;
	if (!is_scram(c) || c->step != 1)
		return ERR_NONE;
	char *room = c->auth_room;
	struct buf auth = buf_fixed(room, sizeof c->auth_room);
	buf_add(&auth, c->bare);
	buf_add(&auth, STR(","));
	buf_add(&auth, c->server_first);
	buf_add(&auth, STR(",c=biws,r="));
	buf_add(&auth, c->both);
	TRY(buf_err(&auth));
	bool ok = PKCS5_PBKDF2_HMAC(c->password.p, (int)c->password.n, (const unsigned char *)c->salt.p, (int)c->salt.n, (int)c->iterations,
				    digest_of(c), (int)n, salted) == 1 &&
		  hmac(c, salted, STR("Client Key"), client) && EVP_Digest(client, n, stored, &hashed, digest_of(c), NULL) == 1 &&
		  hmac(c, stored, buf_str(&auth), signature) && hmac(c, salted, STR("Server Key"), server) &&
		  hmac(c, server, buf_str(&auth), c->server_signature);
	for (size_t i = 0; i < n; i++)
		c->proof[i] = client[i] ^ signature[i];
	OPENSSL_cleanse(salted, sizeof salted);
	OPENSSL_cleanse(client, sizeof client);
	return ok ? ERR_NONE : ERR_NO_MEMORY;
}

enum err sasl_client_answer(struct sasl_client *c, struct str *answer_out)
{
	*answer_out = STR("");
	if (c->mechanism == SASL_LOGIN)
		*answer_out = c->step == 1 ? c->user : c->password;
	if (is_scram(c) && c->step == 1) {
		struct str proof = base64_encode(c->arena, str_of((const char *)c->proof, key_bytes(c)));
		*answer_out = arena_strf(c->arena, "c=biws,r=%.*s,p=%.*s", STR_ARG(c->both), STR_ARG(proof));
	}
	return arena_err(c->arena);
}

bool sasl_client_is_over(const struct sasl_client *c)
{
	return is_scram(c) ? c->proved : true;
}
