/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A provider for OpenSSL whose private keys are elsewhere: KEYMGMT and SIGNATURE for RSA (PKCS #1, PSS), EC
 * and Ed25519. A key is a struct tls_remote; what is asked about its public half is answered by the
 * default provider's key. Signing asks struct tls_signer and waits, in the middle of SSL_do_handshake().
 *
 * export() gives the public half only. Therefore OpenSSL, which tries first to move a key to the provider
 * that it would rather sign with, comes back to this one.
 */
#include "tls/tls_internal.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#define FN(f) ((void (*)(void))(f))
#define PARAM_REMOTE "godwit-remote" /* the bytes of a pointer to struct tls_remote */

/* ---- keys --------------------------------------------------------------------------------------- */

static void *key_new(void *provider UNUSED)
{
	return OPENSSL_zalloc(sizeof(struct tls_remote));
}

static void key_free(void *data)
{
	struct tls_remote *k = data;
	if (!k)
		return;
	EVP_PKEY_free(k->public_half);
	OPENSSL_free(k);
}

static int key_import(void *data, int selection UNUSED, const OSSL_PARAM params[])
{
	struct tls_remote *k = data, *from = NULL;
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, PARAM_REMOTE);
	if (!p || p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != sizeof from)
		return 0;
	memcpy(&from, p->data, sizeof from);
	if (!EVP_PKEY_up_ref(from->public_half))
		return 0;
	*k = *from;
	return 1;
}

static const OSSL_PARAM *key_import_types(int selection UNUSED)
{
	static const OSSL_PARAM types[] = { OSSL_PARAM_octet_string(PARAM_REMOTE, NULL, 0), OSSL_PARAM_END };
	return types;
}

static int key_has(const void *data, int selection UNUSED)
{
	const struct tls_remote *k = data;
	return k && k->public_half;
}

static int key_match(const void *a, const void *b, int selection UNUSED)
{
	const struct tls_remote *one = a, *other = b;
	return EVP_PKEY_eq(one->public_half, other->public_half) == 1;
}

static int key_export(void *data, int selection, OSSL_CALLBACK *take, void *arg)
{
	const struct tls_remote *k = data;
	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return 0;
	return EVP_PKEY_export(k->public_half, selection, take, arg);
}

/* Anything: the caller takes what it knows. */
static const OSSL_PARAM *key_export_types(int selection UNUSED)
{
	static const OSSL_PARAM types[] = { OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END };
	return types;
}

static int key_get_params(void *data, OSSL_PARAM params[])
{
	const struct tls_remote *k = data;
	return EVP_PKEY_get_params(k->public_half, params);
}

static const OSSL_PARAM *key_gettable_params(void *provider UNUSED)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_END,
	};
	return types;
}

static const char *rsa_operation(int operation UNUSED)
{
	return "RSA";
}
static const char *ec_operation(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ECDSA" : "EC";
}
static const char *ed25519_operation(int operation UNUSED)
{
	return "ED25519";
}

#define KEYMGMT(operation)                                                                                                    \
	{                                                                                                                     \
		{ OSSL_FUNC_KEYMGMT_NEW, FN(key_new) }, { OSSL_FUNC_KEYMGMT_FREE, FN(key_free) },                             \
		{ OSSL_FUNC_KEYMGMT_IMPORT, FN(key_import) }, { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(key_import_types) },       \
		{ OSSL_FUNC_KEYMGMT_HAS, FN(key_has) }, { OSSL_FUNC_KEYMGMT_MATCH, FN(key_match) },                           \
		{ OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export) }, { OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(key_export_types) },       \
		{ OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params) },                                                         \
		{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable_params) },                                               \
		{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(operation) }, { 0, NULL }                                        \
	}
static const OSSL_DISPATCH rsa_keys[] = KEYMGMT(rsa_operation);
static const OSSL_DISPATCH ec_keys[] = KEYMGMT(ec_operation);
static const OSSL_DISPATCH ed25519_keys[] = KEYMGMT(ed25519_operation);

/* ---- signatures ----------------------------------------------------------------------------------- */

struct signing {
	const struct tls_remote *key;
	enum tls_padding padding;
	char digest[32];
};

static void *signing_new(void *provider UNUSED, const char *properties UNUSED)
{
	return OPENSSL_zalloc(sizeof(struct signing));
}

static void signing_free(void *data)
{
	OPENSSL_free(data);
}

static int signing_set(void *data, const OSSL_PARAM params[])
{
	struct signing *g = data;
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
	int mode = 0;
	if (!p)
		return 1; /* the salt is always as long as the digest (RFC 8446 §4.2.3) */
	if (p->data_type == OSSL_PARAM_UTF8_STRING)
		mode = strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0 ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
	else if (!OSSL_PARAM_get_int(p, &mode))
		return 0;
	if (mode != RSA_PKCS1_PADDING && mode != RSA_PKCS1_PSS_PADDING)
		return 0;
	g->padding = mode == RSA_PKCS1_PSS_PADDING ? TLS_PADDING_PSS : TLS_PADDING_PKCS1;
	return 1;
}

static const OSSL_PARAM *signing_settable(void *data UNUSED, void *provider UNUSED)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END,
	};
	return types;
}

static int signing_init(void *data, const char *digest, void *key, const OSSL_PARAM params[])
{
	struct signing *g = data;
	size_t n = digest ? strlen(digest) : 0;
	if (!key || n >= sizeof g->digest)
		return 0;
	g->key = key;
	g->padding = EVP_PKEY_is_a(g->key->public_half, "RSA") ? TLS_PADDING_PKCS1 : TLS_PADDING_NONE;
	memcpy(g->digest, digest ? digest : "", n + 1);
	return !params || signing_set(data, params);
}

/* The one place where a handshake waits for somebody else's process. */
static YIELDS int signing_sign(void *data, unsigned char *sig, size_t *sig_n, size_t sig_room, const unsigned char *bytes, size_t n)
{
	const struct signing *g = data;
	const struct tls_remote *k = g->key;
	char out[TLS_SIGNATURE_MAX];
	size_t out_n = 0;
	int size = EVP_PKEY_get_size(k->public_half);
	if (size <= 0 || (size_t)size > sizeof out || n > TLS_SIGNED_MAX)
		return 0;
	if (!sig) {
		*sig_n = (size_t)size;
		return 1;
	}
	struct tls_conn *c = *k->current; /* before the wait: others' handshakes go on during it */
	enum err e = k->signer.sign(k->signer.arg, k->key, str_z(g->digest), g->padding, str_of((const char *)bytes, n), out, &out_n);
	ERR_clear_error(); /* what is there now is others' */
	if (e == ERR_NONE && (out_n == 0 || out_n > sig_room || out_n > (size_t)size))
		e = ERR_LIMIT;
	if (e != ERR_NONE) {
		if (c)
			c->sign = e;
		return 0;
	}
	memcpy(sig, out, out_n);
	*sig_n = out_n;
	return 1;
}

static const OSSL_DISPATCH signatures[] = {
	{ OSSL_FUNC_SIGNATURE_NEWCTX, FN(signing_new) },
	{ OSSL_FUNC_SIGNATURE_FREECTX, FN(signing_free) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(signing_init) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(signing_sign) },
	{ OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, FN(signing_set) },
	{ OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, FN(signing_settable) },
	{ 0, NULL },
};

/* ---- the provider ----------------------------------------------------------------------------------- */

#define PROPERTIES "provider=godwit"
static const OSSL_ALGORITHM key_kinds[] = {
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, rsa_keys, NULL },
	{ "EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTIES, ec_keys, NULL },
	{ "ED25519:1.3.101.112", PROPERTIES, ed25519_keys, NULL },
	{ NULL, NULL, NULL, NULL },
};
static const OSSL_ALGORITHM signature_kinds[] = {
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, signatures, NULL },
	{ "ECDSA", PROPERTIES, signatures, NULL },
	{ "ED25519:1.3.101.112", PROPERTIES, signatures, NULL },
	{ NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM *query(void *provider UNUSED, int operation, int *no_cache)
{
	*no_cache = 0;
	return operation == OSSL_OP_KEYMGMT ? key_kinds : operation == OSSL_OP_SIGNATURE ? signature_kinds : NULL;
}

static const OSSL_DISPATCH provider[] = { { OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query) }, { 0, NULL } };

int tls_remote_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in UNUSED, const OSSL_DISPATCH **out, void **provider_out)
{
	*provider_out = (void *)(uintptr_t)handle; /* there is no state */
	*out = provider;
	return 1;
}

EVP_PKEY *tls_remote_key(const struct tls_library *l, const struct tls_remote *r)
{
	EVP_PKEY *key = NULL;
	const char *kind = EVP_PKEY_is_a(r->public_half, "RSA") ? "RSA" : EVP_PKEY_is_a(r->public_half, "EC") ? "EC" : "ED25519";
	if (!EVP_PKEY_is_a(r->public_half, kind))
		return NULL;
	OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(PARAM_REMOTE, (void *)&r, sizeof r), OSSL_PARAM_construct_end() };
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(l->ctx, kind, PROPERTIES);
	if (!c || EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	return key;
}
