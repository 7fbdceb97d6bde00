/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords and proofs, checked: see auth.h. Names and passwords are what strangers sent. */
#include "lookup/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "lookup/password.h"
#include "smtp/address.h"

/* For accounts that do not exist: what it is made from nobody knows. */
#define NOBODYS_HASH "{CRYPT}$y$j9T$joP2e2yPJLT0x1SO/.6f//$7DdXDE1QGXTKj6I9d1xFDgZn2/r4/d/HklbgZ6zfkM."
#define MAC_BYTES 32u

struct auth_cached {
	unsigned char mac[MAC_BYTES];
	int64_t until_ns;
	uint8_t label_n;
	char label[64];
};

enum err auth_init(struct auth *a, struct proc *p, struct directory *d, const struct backends *b, struct str secret)
{
	struct sip_key key;
	world_random(p->w, &key, sizeof key);
	*a = (struct auth){ .p = p, .directory = d, .backends = b, .secret = secret };
	world_random(p->w, a->cache_key, sizeof a->cache_key);
	guesses_init(&a->guesses, p->mem, key);
	a->cache = mem_alloc(p->mem, AUTH_CACHE_MAX * sizeof a->cache[0]);
	a->right = metrics_counter(p->metrics, "godwit_auth_right_total", STR_NONE, "Logins that succeeded.");
	a->wrong = metrics_counter(p->metrics, "godwit_auth_wrong_total", STR_NONE, "… that did not.");
	a->slowed = metrics_counter(p->metrics, "godwit_auth_slowed_total", STR_NONE, "… that were not looked at, after too many wrong ones.");
	a->rehashed = metrics_counter(p->metrics, "godwit_auth_rehashed_total", STR_NONE, "Old hashes made anew.");
	a->cache_hits = metrics_counter(p->metrics, "godwit_auth_cache_hits_total", STR_NONE, "Passwords that were right a short time before.");
	return a->cache ? ERR_NONE : ERR_NO_MEMORY;
}

void auth_done(struct auth *a)
{
	guesses_done(&a->guesses);
	mem_free(a->p->mem, a->cache);
}

enum err auth_account(const struct conf *c, struct str name, struct arena *arena, struct str *account_out)
{
	struct str whole = name, address;
	if (name.n == 0 || name.n > 320)
		return ERR_SYNTAX;
	if (str_find(name, '@') == name.n && c->domains_n > 0)
		whole = arena_strf(arena, "%.*s@%.*s", STR_ARG(name), STR_ARG(c->domains[0].name));
	TRY(smtp_address_canonical(whole, arena, &address));
	char *p = arena_alloc(arena, address.n + 1);
	if (!p)
		return arena_err(arena);
	for (size_t i = 0; i < address.n; i++)
		p[i] = ascii_lower(address.p[i]);
	*account_out = str_of(p, address.n);
	return ERR_NONE;
}

/* ---- passwords that were right lately ------------------------------------------------------------------- */

static bool cache_mac(const struct auth *a, struct str account, struct str password, const struct credential *list, size_t n,
		      unsigned char mac[MAC_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE], zero = 0;
	size_t md_n = 0;
	struct str parts[2 + 3 * DIRECTORY_CREDENTIALS_MAX] = { account, password };
	size_t parts_n = 2;
	for (size_t i = 0; i < n; i++) { /* so that a change of any of them makes it another */
		parts[parts_n++] = list[i].label;
		parts[parts_n++] = list[i].hash;
		parts[parts_n++] = list[i].scram256;
	}
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, a->cache_key, sizeof a->cache_key);
	bool good = c && key && EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, key) == 1;
	for (size_t i = 0; good && i < parts_n; i++)
		good = EVP_DigestSignUpdate(c, parts[i].n ? parts[i].p : "", parts[i].n) == 1 && EVP_DigestSignUpdate(c, &zero, 1) == 1;
	md_n = sizeof md;
	good = good && EVP_DigestSignFinal(c, md, &md_n) == 1 && md_n == MAC_BYTES;
	EVP_MD_CTX_free(c);
	EVP_PKEY_free(key);
	memcpy(mac, md, MAC_BYTES);
	return good;
}

static struct auth_cached *cache_place(const struct auth *a, const unsigned char mac[MAC_BYTES])
{
	return &a->cache[(mac[0] | mac[1] << 8) % AUTH_CACHE_MAX];
}

static void cache_put(struct auth *a, const unsigned char mac[MAC_BYTES], struct str label)
{
	struct auth_cached *c = cache_place(a, mac);
	memcpy(c->mac, mac, MAC_BYTES);
	c->label_n = (uint8_t)(label.n < sizeof c->label ? label.n : sizeof c->label);
	if (c->label_n)
		memcpy(c->label, label.p, c->label_n);
	c->until_ns = world_mono_ns(a->p->w) + AUTH_CACHE_NS;
}

static bool cache_get(const struct auth *a, const unsigned char mac[MAC_BYTES], struct str *label_out)
{
	const struct auth_cached *c = cache_place(a, mac);
	if (c->until_ns <= world_mono_ns(a->p->w) || CRYPTO_memcmp(c->mac, mac, MAC_BYTES) != 0)
		return false;
	*label_out = str_of(c->label, c->label_n);
	return true;
}

/* ---- comparing, on a helper thread ------------------------------------------------------------------------ */

struct check {
	const struct credential *list;
	size_t n, which;
	struct str password, prepared;
	struct str stand_in; /* compared when there is nothing to compare with; empty: NOBODYS_HASH */
	bool readable;	     /* the password is one */
	bool elsewhere;	     /* nothing is stored */
	bool right;
	unsigned char random[PASSWORD_SALT_BYTES];
	char rehash[PASSWORD_HASH_MAX]; /* of a weak hash, once the password is known to be right */
	size_t rehash_n;
};

static bool is_app(const struct credential *c)
{
	return c->hash.n == 0 && c->scram256.n > 0;
}

/* The app passwords of an account share a salt: one derivation serves all. */
static void check_app_passwords(struct check *k)
{
	struct scram_keys mine = { 0 }, theirs;
	for (size_t i = 0; i < k->n && !k->right; i++) {
		if (!is_app(&k->list[i]) || scram_keys_read(true, k->list[i].scram256, &theirs) != ERR_NONE)
			continue;
		bool same = mine.n && mine.iterations == theirs.iterations && mine.salt_n == theirs.salt_n &&
			    memcmp(mine.salt, theirs.salt, mine.salt_n) == 0;
		if (!same && scram_keys_make(true, k->prepared, str_of((const char *)theirs.salt, theirs.salt_n), theirs.iterations, &mine) != ERR_NONE)
			continue;
		k->right = scram_same_key(&mine, &theirs);
		k->which = i;
	}
	OPENSSL_cleanse(&mine, sizeof mine);
}

static void check_run(struct world *w UNUSED, void *arg)
{
	struct check *k = arg;
	const struct credential *main_one = k->n && k->list[0].label.n == 0 && k->list[0].hash.n ? &k->list[0] : NULL;
	struct str hash = main_one ? main_one->hash : k->stand_in.n ? k->stand_in : STR(NOBODYS_HASH);
	bool right = false;
	if (password_check(hash, k->prepared, &right) != ERR_NONE)
		right = false;
	if (!right && !str_eq(k->password, k->prepared) && password_check(hash, k->password, &right) != ERR_NONE)
		right = false; /* one that was hashed elsewhere, as it was typed */
	k->right = right && main_one;
	k->which = 0;
	if (!k->right)
		check_app_passwords(k);
	struct buf b = buf_fixed(k->rehash, sizeof k->rehash);
	if (k->right && k->which == 0 && main_one && !k->elsewhere && password_is_weak(hash) && password_hash(k->prepared, k->random, &b) == ERR_NONE)
		k->rehash_n = b.n;
}

/* A better hash than the one that was there; a failure changes nothing. */
static void store_rehash(struct auth *a, struct str account, const struct check *k)
{
	struct credential c = k->list[0];
	if (k->rehash_n == 0)
		return;
	c.hash = str_of(k->rehash, k->rehash_n);
	if (directory_set_credential(a->directory, account, &c) == ERR_NONE)
		counter_add(a->rehashed, 1);
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static int64_t begun(const struct auth *a)
{
	return world_mono_ns(a->p->w);
}

/* How long the client is to wait: so that all "no" take the same time, or longer after many. */
static uint32_t no_delay_ms(struct auth *a, const struct ip *client, struct str account, int64_t since_ns)
{
	int64_t now_ns = world_mono_ns(a->p->w), spent_ms = (now_ns - since_ns) / 1000000;
	int64_t more_ms = guesses_end(&a->guesses, client, account, GUESS_WRONG, now_ns) / 1000000;
	int64_t ms = more_ms + (spent_ms < AUTH_NO_MS ? AUTH_NO_MS - spent_ms : 0);
	counter_add(a->wrong, 1);
	return (uint32_t)ms;
}

static bool acts_for_itself(const struct conf *c, struct str authzid, struct str account, struct arena *arena)
{
	struct str other;
	return authzid.n == 0 || (auth_account(c, authzid, arena, &other) == ERR_NONE && str_eq(other, account));
}

static bool may_begin(struct auth *a, const struct ip *client, struct str account)
{
	if (guesses_begin(&a->guesses, client, account, world_mono_ns(a->p->w)))
		return true;
	counter_add(a->slowed, 1);
	return false;
}

/* Of the database or of the domain's back end; stand_in: what to compare with when there is none. */
static enum err credentials_of(struct auth *a, struct str account, struct arena *arena, struct credential **list_out, size_t *n_out,
			       struct credential *stand_in_out)
{
	struct backend *b = backends_find(a->backends, account);
	*stand_in_out = (struct credential){ .hash = STR(""), .scram256 = STR(""), .scram1 = STR("") };
	if (!b)
		return directory_credentials(a->directory, account, arena, list_out, n_out);
	*n_out = 0;
	return b->ops->credentials ? b->ops->credentials(b, account, arena, list_out, n_out, stand_in_out) : ERR_NONE;
}

/* By a back end that compares itself: bounded by it, so that its being slow leaves the others their places. */
static YIELDS enum err compare_elsewhere(struct backend *b, const struct ip *client, struct str account, struct check *k, struct arena *arena)
{
	static const struct credential main_one;
	k->list = &main_one;
	k->n = 1;
	return k->readable ? b->ops->check(b, account, k->password, client, arena, &k->right) : ERR_NONE;
}

static YIELDS enum err compare(struct auth *a, const struct ip *client, struct str account, struct check *k, struct arena *arena)
{
	unsigned char mac[MAC_BYTES];
	struct credential *list = NULL, stand_in;
	struct str label;
	struct backend *b = backends_find(a->backends, account);
	if (b && b->ops->check)
		return compare_elsewhere(b, client, account, k, arena);
	TRY(credentials_of(a, account, arena, &list, &k->n, &stand_in));
	k->list = list;
	k->elsewhere = b != NULL;
	k->stand_in = stand_in.hash;
	bool have_mac = k->n > 0 && cache_mac(a, account, k->prepared, list, k->n, mac);
	if (have_mac && cache_get(a, mac, &label)) {
		for (size_t i = 0; i < k->n; i++)
			if (str_eq(list[i].label, label))
				k->which = i;
		k->right = true;
		counter_add(a->cache_hits, 1);
		return ERR_NONE;
	}
	if (a->under_way >= AUTH_AT_ONCE_MAX)
		return ERR_BUSY;
	world_random(a->p->w, k->random, sizeof k->random);
	a->under_way++;
	enum err e = co_offload(check_run, k);
	a->under_way--;
	if (e == ERR_NONE && k->right)
		store_rehash(a, account, k);
	if (e == ERR_NONE && k->right && have_mac && k->rehash_n == 0)
		cache_put(a, mac, list[k->which].label);
	return e;
}

enum err auth_password(struct auth *a, const struct auth_password_in *in, struct arena *arena, struct auth_password_out *out)
{
	int64_t since_ns = begun(a);
	struct str account = STR("");
	struct check *k = ARENA_NEW(arena, struct check);
	if (!k)
		return arena_err(arena);
	k->password = k->prepared = in->password;
	bool named = auth_account(&a->p->conf, in->authcid, arena, &account) == ERR_NONE;
	k->readable = password_prepare(arena, in->password, &k->prepared) == ERR_NONE;
	TRY(arena_err(arena));
	out->result = AUTH_RESULT_SLOW_DOWN;
	out->text = STR("too many wrong passwords from there");
	if (!may_begin(a, &in->client, account))
		return ERR_NONE;
	enum err e = compare(a, &in->client, account, k, arena);
	bool right = e == ERR_NONE && named && k->readable && k->right, itself = acts_for_itself(&a->p->conf, in->authzid, account, arena);
	out->result = e != ERR_NONE ? AUTH_RESULT_UNAVAILABLE : right && itself ? AUTH_RESULT_ACCEPTED : AUTH_RESULT_REFUSED;
	out->text = e != ERR_NONE ? str_z(err_name(e)) : !right ? k->n ? STR("wrong password") : STR("no such account, or it has no password") :
						       STR("it asked to act for another account");
	if (right || e != ERR_NONE)
		(void)guesses_end(&a->guesses, &in->client, account, right ? GUESS_RIGHT : GUESS_UNKNOWN, world_mono_ns(a->p->w));
	else
		out->delay_ms = no_delay_ms(a, &in->client, account, since_ns);
	out->account = account;
	if (out->result == AUTH_RESULT_ACCEPTED) {
		out->credential = k->list[k->which].label;
		out->text = STR("");
		counter_add(a->right, 1);
	}
	return ERR_NONE;
}

/* ---- SCRAM ---------------------------------------------------------------------------------------------------- */

/* The keys of the account's passwords for this mechanism; all with the salt of the first. */
static enum err scram_list(struct auth *a, struct str account, bool sha256, struct arena *arena, struct scram_keys *keys, struct str *labels,
			   size_t *n_out, struct credential *stand_in_out)
{
	struct credential *list = NULL;
	size_t n;
	*n_out = 0;
	TRY(credentials_of(a, account, arena, &list, &n, stand_in_out));
	for (size_t i = 0; i < n; i++) {
		struct scram_keys *k = &keys[*n_out];
		if (scram_keys_read(sha256, sha256 ? list[i].scram256 : list[i].scram1, k) != ERR_NONE)
			continue;
		if (*n_out && (k->salt_n != keys[0].salt_n || memcmp(k->salt, keys[0].salt, k->salt_n) != 0 || k->iterations != keys[0].iterations))
			continue;
		labels[(*n_out)++] = list[i].label;
	}
	return ERR_NONE;
}

static bool made_up_salt(const struct auth *a, struct str account, bool sha256, unsigned char out[EVP_MAX_MD_SIZE])
{
	char room[400];
	struct buf b = buf_fixed(room, sizeof room);
	unsigned n = 0;
	buf_add(&b, sha256 ? STR("scram salt 256 ") : STR("scram salt 1 "));
	buf_add(&b, account);
	return HMAC(EVP_sha256(), a->secret.p, (int)a->secret.n, (const unsigned char *)room, b.n, out, &n) != NULL;
}

enum err auth_scram_first(struct auth *a, const struct auth_scram_first_in *in, struct arena *arena, struct auth_scram_first_out *out)
{
	struct str account = in->user, *labels = ARENA_ARRAY(arena, struct str, DIRECTORY_CREDENTIALS_MAX);
	struct scram_keys *keys = ARENA_ARRAY(arena, struct scram_keys, DIRECTORY_CREDENTIALS_MAX);
	struct credential stand_in = { .scram256 = STR("") };
	struct scram_keys shape;
	unsigned char salt[EVP_MAX_MD_SIZE];
	size_t n = 0;
	TRY(arena_err(arena));
	if (auth_account(&a->p->conf, in->user, arena, &account) == ERR_NONE)
		TRY(scram_list(a, account, in->sha256, arena, keys, labels, &n, &stand_in));
	if (n == 0 && !made_up_salt(a, account, in->sha256, salt))
		return ERR_NO_MEMORY;
	/* what is made up looks like what is there (H65) */
	bool shaped = stand_in.scram256.n && scram_keys_read(true, stand_in.scram256, &shape) == ERR_NONE && shape.salt_n <= MAC_BYTES;
	out->result = AUTH_RESULT_ACCEPTED;
	out->iterations = n ? keys[0].iterations : shaped ? shape.iterations : SCRAM_ITERATIONS;
	out->salt = arena_str(arena, n ? str_of((const char *)keys[0].salt, keys[0].salt_n) :
				     str_of((const char *)salt, shaped ? shape.salt_n : PASSWORD_SALT_BYTES));
	return arena_err(arena);
}

enum err auth_scram_final(struct auth *a, const struct auth_scram_final_in *in, struct arena *arena, struct auth_scram_final_out *out)
{
	int64_t since_ns = begun(a);
	struct str account = STR(""), *labels = ARENA_ARRAY(arena, struct str, DIRECTORY_CREDENTIALS_MAX);
	struct scram_keys *keys = ARENA_ARRAY(arena, struct scram_keys, DIRECTORY_CREDENTIALS_MAX);
	struct credential stand_in;
	unsigned char signature[SCRAM_KEY_MAX];
	size_t n = 0, which;
	TRY(arena_err(arena));
	bool named = auth_account(&a->p->conf, in->user, arena, &account) == ERR_NONE;
	out->result = AUTH_RESULT_SLOW_DOWN;
	out->text = STR("too many wrong passwords from there");
	if (!may_begin(a, &in->client, account))
		return ERR_NONE;
	enum err e = named ? scram_list(a, account, in->sha256, arena, keys, labels, &n, &stand_in) : ERR_NONE;
	for (which = 0; which < n; which++)
		if (scram_check(&keys[which], in->auth_message, in->proof, signature))
			break;
	bool right = e == ERR_NONE && which < n, itself = acts_for_itself(&a->p->conf, in->authzid, account, arena);
	out->account = account;
	out->result = e != ERR_NONE ? AUTH_RESULT_UNAVAILABLE : right && itself ? AUTH_RESULT_ACCEPTED : AUTH_RESULT_REFUSED;
	out->text = e != ERR_NONE ? str_z(err_name(e)) : !right ? n ? STR("wrong password") : STR("no such account, or no password for SCRAM") :
						       STR("it asked to act for another account");
	if (right || e != ERR_NONE)
		(void)guesses_end(&a->guesses, &in->client, account, right ? GUESS_RIGHT : GUESS_UNKNOWN, world_mono_ns(a->p->w));
	else
		out->delay_ms = no_delay_ms(a, &in->client, account, since_ns);
	if (out->result == AUTH_RESULT_ACCEPTED) {
		out->credential = labels[which];
		out->signature = arena_str(arena, str_of((const char *)signature, keys[which].n));
		out->text = STR("");
		counter_add(a->right, 1);
	}
	return arena_err(arena);
}
