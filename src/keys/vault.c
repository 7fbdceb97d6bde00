/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and private keys: see vault.h. */
#include "keys/vault.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "keys/permit.h"

#define RETIRED_MAX 128u
#define CERTIFICATES_MAX 11 /* of one chain */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define NAMES_BYTES 1000u
#define SELF_SIGNED_SECONDS (3653L * 86400)

struct pair {
	EVP_PKEY *key; /* NULL: empty */
	uint32_t number;
	struct str chain; /* own memory */
};
struct vault {
	struct world *w;
	struct mem *mem;
	struct pair slots[VAULT_SLOTS];
	struct {
		EVP_PKEY *key;
		uint32_t number;
		int64_t until_ns;
	} retired[RETIRED_MAX]; /* V2 */
	size_t retired_n;
};

enum err vault_new(struct world *w, struct vault **out)
{
	struct vault *v = mem_alloc(world_mem(w), sizeof *v);
	if (!v)
		return ERR_NO_MEMORY;
	*v = (struct vault){ .w = w, .mem = world_mem(w) };
	/* Loaded now, before the jail: no configuration file of the system's counts here. */
	if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL)) {
		mem_free(v->mem, v);
		return ERR_NO_MEMORY;
	}
	*out = v;
	return ERR_NONE;
}

static void pair_free(struct vault *v, struct pair *p)
{
	EVP_PKEY_free(p->key);
	mem_free(v->mem, (void *)(uintptr_t)p->chain.p);
	*p = (struct pair){ 0 };
}

void vault_free(struct vault *v)
{
	for (size_t i = 0; i < VAULT_SLOTS; i++)
		pair_free(v, &v->slots[i]);
	for (size_t i = 0; i < v->retired_n; i++)
		EVP_PKEY_free(v->retired[i].key);
	mem_free(v->mem, v);
}

static void retire(struct vault *v, struct pair *p)
{
	if (p->key && v->retired_n < RETIRED_MAX && EVP_PKEY_up_ref(p->key)) {
		v->retired[v->retired_n].key = p->key;
		v->retired[v->retired_n].number = p->number;
		v->retired[v->retired_n++].until_ns = world_mono_ns(v->w) + VAULT_KEEP_NS;
	}
	pair_free(v, p);
}

void vault_tidy(struct vault *v, size_t count)
{
	for (size_t i = count; i < VAULT_SLOTS; i++)
		retire(v, &v->slots[i]);
	for (size_t i = 0; i < v->retired_n;)
		if (v->retired[i].until_ns <= world_mono_ns(v->w)) {
			EVP_PKEY_free(v->retired[i].key);
			v->retired[i] = v->retired[--v->retired_n];
		} else {
			i++;
		}
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* V3 */
static enum err number_of(EVP_PKEY *key, uint32_t *out)
{
	unsigned char digest[EVP_MAX_MD_SIZE], *der = NULL;
	unsigned n = 0;
	int len = i2d_PUBKEY(key, &der);
	bool ok = len > 0 && EVP_Digest(der, (size_t)len, digest, &n, EVP_sha256(), NULL) == 1;
	OPENSSL_free(der);
	if (!ok)
		return ERR_NO_MEMORY;
	*out = (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 | (uint32_t)digest[2] << 8 | digest[3];
	return ERR_NONE;
}

static int no_passphrase(char *p UNUSED, int n UNUSED, int write UNUSED, void *arg UNUSED)
{
	return -1; /* nobody is there to be asked */
}

static EVP_PKEY *read_key(struct str pem)
{
	BIO *b = pem.n ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL) : NULL;
	BIO_free(b);
	return key;
}

/* The first certificate, and how many there are; NULL: the text is not a chain. */
static X509 *read_chain(struct str pem, int *n_out)
{
	BIO *b = pem.n ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	X509 *first = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
	*n_out = first ? 1 : 0;
	for (X509 *x; first && (x = PEM_read_bio_X509(b, NULL, NULL, NULL)); ++*n_out)
		X509_free(x);
	bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	BIO_free(b);
	if (first && !at_end) {
		X509_free(first);
		return NULL;
	}
	return first;
}

/* Whether TLS can use it: as OpenSSL's level 2 asks (RFC 9325 §4.5). */
static const char *objection_to_key(EVP_PKEY *key)
{
	char curve[32] = "";
	int bits = EVP_PKEY_get_bits(key);
	if (EVP_PKEY_is_a(key, "RSA"))
		return bits < RSA_BITS_MIN ? "the RSA key is too short: at least 2048 bits" :
			bits > RSA_BITS_MAX ? "the RSA key is too long: at most 8192 bits" : NULL;
	if (EVP_PKEY_is_a(key, "ED25519"))
		return NULL;
	if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) == 1 &&
	    (strcmp(curve, "prime256v1") == 0 || strcmp(curve, "secp384r1") == 0 || strcmp(curve, "secp521r1") == 0))
		return NULL;
	return "the key is of a kind that TLS servers do not use: RSA, ECDSA on P-256, P-384 or P-521, or Ed25519";
}

static int64_t expires_ms(const X509 *x)
{
	struct tm tm;
	return ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

static struct str names_of(X509 *x, struct arena *arena)
{
	struct buf b = buf_fixed(arena_alloc(arena, NAMES_BYTES), NAMES_BYTES);
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type != GEN_DNS)
			continue;
		struct str name = str_of((const char *)ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName));
		if (b.n + 4 * name.n + 1 > NAMES_BYTES)
			break;
		if (b.n)
			buf_add_char(&b, ' ');
		buf_add_safe(&b, name, 255);
	}
	GENERAL_NAMES_free(names);
	return buf_str(&b);
}

static const char *objection(X509 *x, EVP_PKEY *key, int chain)
{
	if (!x)
		return "the certificate file has no certificate in PEM, or is damaged";
	if (chain > CERTIFICATES_MAX)
		return "the certificate file has too many certificates: at most 11";
	if (!key)
		return "the key file has no private key in PEM without a passphrase";
	if (X509_check_private_key(x, key) != 1)
		return "the key does not belong to the certificate: the certificate file begins with the server's own";
	return objection_to_key(key);
}

static enum err keep(struct vault *v, size_t slot, EVP_PKEY *key, struct str chain, bool *changed_out)
{
	struct pair next = { .key = key }, *now = &v->slots[slot];
	TRY(number_of(key, &next.number));
	*changed_out = !now->key || now->number != next.number || !str_eq(now->chain, chain);
	if (!*changed_out)
		return ERR_NONE;
	char *p = mem_alloc_raw(v->mem, chain.n);
	if (!p || !EVP_PKEY_up_ref(key)) {
		mem_free(v->mem, p);
		return ERR_NO_MEMORY;
	}
	memcpy(p, chain.p, chain.n);
	next.chain = str_of(p, chain.n);
	retire(v, now);
	*now = next;
	return ERR_NONE;
}

enum err vault_load(struct vault *v, size_t slot, struct str certificate, struct str key_text, struct arena *arena,
		    struct vault_report *out)
{
	int chain = 0;
	*out = (struct vault_report){ 0 };
	ERR_clear_error();
	X509 *x = certificate.n <= VAULT_CHAIN_MAX ? read_chain(certificate, &chain) : NULL;
	EVP_PKEY *key = x ? read_key(key_text) : NULL;
	const char *wrong = objection(x, key, chain);
	enum err e = wrong ? ERR_SYNTAX : keep(v, slot, key, certificate, &out->changed);
	if (x) {
		out->names = names_of(x, arena);
		out->expires_ms = expires_ms(x);
	}
	out->text = str_z(wrong);
	X509_free(x);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return e;
}

/* ---- using ----------------------------------------------------------------------------------------- */

bool vault_entry(const struct vault *v, size_t index, struct vault_entry *out)
{
	for (size_t i = 0; i < VAULT_SLOTS; i++)
		if (v->slots[i].key && index-- == 0) {
			*out = (struct vault_entry){ v->slots[i].number, v->slots[i].chain };
			return true;
		}
	return false;
}

size_t vault_count(const struct vault *v)
{
	size_t n = 0;
	for (size_t i = 0; i < VAULT_SLOTS; i++)
		n += v->slots[i].key != NULL;
	return n;
}

static EVP_PKEY *key_of(const struct vault *v, uint32_t number)
{
	for (size_t i = 0; i < VAULT_SLOTS; i++)
		if (v->slots[i].key && v->slots[i].number == number)
			return v->slots[i].key;
	for (size_t i = 0; i < v->retired_n; i++)
		if (v->retired[i].number == number)
			return v->retired[i].key;
	return NULL;
}

enum err vault_sign(struct vault *v, uint32_t number, struct str digest, enum tls_padding padding, struct str bytes,
		    char sig[TLS_SIGNATURE_MAX], size_t *sig_n_out)
{
	char md[16];
	EVP_PKEY_CTX *p;
	EVP_PKEY *key = key_of(v, number);
	if (!key)
		return ERR_NOT_FOUND;
	bool hashes_itself = EVP_PKEY_is_a(key, "ED25519");
	if (!keys_permits(digest, padding, bytes) || (digest.n == 0) != hashes_itself || digest.n >= sizeof md)
		return ERR_DENIED;
	memcpy(md, digest.p ? digest.p : "", digest.n);
	md[digest.n] = '\0';
	ERR_clear_error();
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	bool ok = m && EVP_DigestSignInit_ex(m, &p, hashes_itself ? NULL : md, NULL, NULL, key, NULL) == 1;
	if (ok && padding == TLS_PADDING_PSS)
		ok = EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) > 0 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_DIGEST) > 0;
	*sig_n_out = TLS_SIGNATURE_MAX;
	ok = ok && EVP_DigestSign(m, (unsigned char *)sig, sig_n_out, (const unsigned char *)bytes.p, bytes.n) == 1;
	EVP_MD_CTX_free(m);
	ERR_clear_error();
	return ok ? ERR_NONE : ERR_IO;
}

/* ---- making ---------------------------------------------------------------------------------------- */

static bool extend(X509 *x, int nid, const char *value)
{
	X509V3_CTX c;
	X509V3_set_ctx_nodb(&c);
	X509V3_set_ctx(&c, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
	bool ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

static bool self_sign(struct vault *v, X509 *x, EVP_PKEY *key, struct str name)
{
	char san[300];
	unsigned char serial[8];
	struct buf b = buf_fixed(san, sizeof san - 1);
	BIGNUM *number = BN_new();
	X509_NAME *subject = X509_get_subject_name(x);
	time_t now = (time_t)(world_wall_ms(v->w) / 1000);
	world_random(v->w, serial, sizeof serial);
	serial[0] &= 0x7f;
	buf_addf(&b, "DNS:%.*s", STR_ARG(name));
	san[b.n] = '\0';
	/* RFC 5280 §4.1.2.6: the CN has 64 characters at most; the name that counts is in subjectAltName */
	bool ok = number && buf_err(&b) == ERR_NONE && X509_set_version(x, 2) == 1 &&
		  BN_bin2bn(serial, sizeof serial, number) && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) &&
		  ASN1_TIME_set(X509_getm_notBefore(x), now - 3600) && ASN1_TIME_set(X509_getm_notAfter(x), now + SELF_SIGNED_SECONDS) &&
		  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)san + 4, name.n > 64 ? 64 : (int)name.n, -1, 0) == 1 &&
		  X509_set_issuer_name(x, subject) == 1 && X509_set_pubkey(x, key) == 1 && extend(x, NID_subject_alt_name, san) &&
		  extend(x, NID_basic_constraints, "critical,CA:FALSE") && extend(x, NID_key_usage, "critical,digitalSignature") &&
		  extend(x, NID_ext_key_usage, "serverAuth") && X509_sign(x, key, EVP_sha256()) > 0;
	BN_free(number);
	return ok;
}

static void take(BIO *b, struct buf *out)
{
	char *p = NULL;
	long n = BIO_get_mem_data(b, &p);
	if (n > 0)
		buf_add(out, str_of(p, (size_t)n));
	OPENSSL_cleanse(p, n > 0 ? (size_t)n : 0);
	BIO_free(b);
}

enum err vault_generate(struct vault *v, struct str name, struct buf *certificate, struct buf *key_text)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *to_certificate = BIO_new(BIO_s_mem()), *to_key = BIO_new(BIO_s_mem());
	bool ok = key && x && to_certificate && to_key && self_sign(v, x, key, name) && PEM_write_bio_X509(to_certificate, x) == 1 &&
		  PEM_write_bio_PrivateKey(to_key, key, NULL, NULL, 0, NULL, NULL) == 1;
	if (to_certificate)
		take(to_certificate, certificate);
	if (to_key)
		take(to_key, key_text);
	X509_free(x);
	EVP_PKEY_free(key);
	ERR_clear_error();
	if (!ok)
		return ERR_NO_MEMORY;
	return buf_err(certificate) == ERR_NONE ? buf_err(key_text) : buf_err(certificate);
}

enum err vault_key_digest(struct str pem, unsigned char out[32])
{
	int chain = 0;
	unsigned n = 0;
	unsigned char *der = NULL;
	X509 *x = read_chain(pem, &chain);
	int der_n = x ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der) : 0;
	bool ok = der_n > 0 && EVP_Digest(der, (size_t)der_n, out, &n, EVP_sha256(), NULL) == 1 && n == 32;
	OPENSSL_free(der);
	X509_free(x);
	ERR_clear_error();
	return ok ? ERR_NONE : ERR_SYNTAX;
}
