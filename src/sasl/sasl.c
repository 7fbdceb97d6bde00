/* SPDX-License-Identifier: Apache-2.0 */
/* Mechanisms of one message: see sasl.h. What is read is a stranger's. */
#include "sasl/sasl.h"

static const struct str names[SASL_MECHANISMS] = {
	[SASL_NONE] = STR(""),
	[SASL_PLAIN] = STR("PLAIN"),
	[SASL_LOGIN] = STR("LOGIN"),
	[SASL_SCRAM_SHA_1] = STR("SCRAM-SHA-1"),
	[SASL_SCRAM_SHA_1_PLUS] = STR("SCRAM-SHA-1-PLUS"),
	[SASL_SCRAM_SHA_256] = STR("SCRAM-SHA-256"),
	[SASL_SCRAM_SHA_256_PLUS] = STR("SCRAM-SHA-256-PLUS"),
	[SASL_OAUTHBEARER] = STR("OAUTHBEARER"),
	[SASL_XOAUTH2] = STR("XOAUTH2"),
	[SASL_EXTERNAL] = STR("EXTERNAL"),
};

struct str sasl_name(enum sasl_mechanism m)
{
	return (unsigned)m < SASL_MECHANISMS ? names[m] : STR("");
}

enum sasl_mechanism sasl_by_name(struct str name)
{
	for (unsigned m = SASL_NONE + 1; m < SASL_MECHANISMS; m++)
		if (str_eq_nocase(name, names[m]))
			return (enum sasl_mechanism)m;
	return SASL_NONE;
}

static bool is_text(struct str s)
{
	return s.n <= SASL_MESSAGE_MAX && str_is_utf8(s) && str_find(s, '\0') == s.n;
}

/* ---- PLAIN ------------------------------------------------------------------------------------------ */

enum err sasl_plain_read(struct str message, struct sasl_plain *out)
{
	struct str rest;
	if (message.n > SASL_MESSAGE_MAX || str_find(message, '\0') == message.n)
		return ERR_SYNTAX;
	out->authzid = str_split(message, '\0', &rest);
	if (str_find(rest, '\0') == rest.n)
		return ERR_SYNTAX;
	out->authcid = str_split(rest, '\0', &out->password);
	/* RFC 4616 §2: a password may not be empty, nor hold NUL */
	bool good = out->authcid.n > 0 && out->password.n > 0 && is_text(out->authzid) && is_text(out->authcid) && is_text(out->password);
	return good ? ERR_NONE : ERR_SYNTAX;
}

/* ---- bearer tokens ------------------------------------------------------------------------------------ */

#define KEY_END '\1'

/* RFC 6750 §2.1, with the prefix that RFC 7628 §3.1 wants. */
static bool take_token(struct str value, struct str *token_out)
{
	struct str prefix = STR("Bearer ");
	if (!str_starts_nocase(value, prefix))
		return false;
	struct str token = str_trim(str_sub(value, prefix.n, value.n));
	for (size_t i = 0; i < token.n; i++)
		if (!ascii_is_alnum(token.p[i]) && str_find(STR("-._~+/="), token.p[i]) == 7)
			return false;
	*token_out = token;
	return token.n > 0;
}

/* key=value, each ended by ^A, then another ^A. */
static enum err read_pairs(struct str s, struct sasl_bearer *out)
{
	while (s.n > 0 && s.p[0] != KEY_END) {
		if (str_find(s, KEY_END) == s.n)
			return ERR_SYNTAX;
		struct str value, key = str_split(str_split(s, KEY_END, &s), '=', &value);
		if (str_eq(key, STR("auth")) && (out->token.n > 0 || !take_token(value, &out->token)))
			return ERR_SYNTAX;
		if (str_eq(key, STR("user")))
			out->user = value;
	}
	bool good = s.n == 1 && out->token.n > 0 && is_text(out->user) && !str_has_control(out->user);
	return good ? ERR_NONE : ERR_SYNTAX;
}

enum err sasl_xoauth2_read(struct str message, struct sasl_bearer *out)
{
	*out = (struct sasl_bearer){ .user = STR("") };
	TRY(message.n <= SASL_MESSAGE_MAX ? ERR_NONE : ERR_SYNTAX);
	TRY(read_pairs(message, out));
	return out->user.n > 0 ? ERR_NONE : ERR_SYNTAX;
}

enum err sasl_oauthbearer_read(struct str message, struct sasl_bearer *out)
{
	struct str rest, flag, authzid;
	*out = (struct sasl_bearer){ .user = STR("") };
	if (message.n > SASL_MESSAGE_MAX || str_find(message, KEY_END) == message.n)
		return ERR_SYNTAX;
	struct str header = str_split(message, KEY_END, &rest); /* gs2-header: n,a=user, */
	flag = str_split(header, ',', &header);
	authzid = str_split(header, ',', &header);
	if ((!str_eq(flag, STR("n")) && !str_eq(flag, STR("y"))) || header.n > 0)
		return ERR_SYNTAX;
	if (authzid.n > 0 && !str_starts(authzid, STR("a=")))
		return ERR_SYNTAX;
	TRY(read_pairs(rest, out));
	out->user = authzid.n ? str_sub(authzid, 2, authzid.n) : STR("");
	return is_text(out->user) ? ERR_NONE : ERR_SYNTAX;
}
