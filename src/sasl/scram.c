/* SPDX-License-Identifier: Apache-2.0 */
/* SCRAM's messages (RFC 5802 §7), the server's side: see sasl.h. What is read is a stranger's. */
#include "base/base64.h"
#include "sasl/sasl.h"

#define NONCE_MAX 256u

/* The value of "k=value", up to the next comma. */
static bool take(struct str *s, char key, struct str *value_out)
{
	if (s->n < 2 || s->p[0] != key || s->p[1] != '=')
		return false;
	*value_out = str_split(str_sub(*s, 2, s->n), ',', s);
	return true;
}

static bool is_nonce(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e)
			return false;
	return s.n > 0 && s.n <= NONCE_MAX;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign, any other "=" is wrong. */
static enum err undo_escapes(struct str s, struct arena *a, struct str *out)
{
	char *to = arena_alloc(a, s.n + 1);
	struct buf b = buf_fixed(to, to ? s.n : 0);
	if (!to)
		return arena_err(a);
	if (!str_is_utf8(s) || str_has_control(s))
		return ERR_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		struct str three = str_sub(s, i, i + 3);
		if (s.p[i] != '=') {
			buf_add_char(&b, s.p[i]);
			continue;
		}
		if (!str_eq(three, STR("=2C")) && !str_eq(three, STR("=3D")))
			return ERR_SYNTAX;
		buf_add_char(&b, three.p[2] == 'C' ? ',' : '=');
		i += 2;
	}
	*out = buf_str(&b);
	return ERR_NONE;
}

/* attr-val: a letter, "=", something. We know none, and may leave them out of account. */
static bool are_extensions(struct str s)
{
	while (s.n > 0) {
		struct str one = str_split(s, ',', &s);
		if (one.n < 3 || !ascii_is_alpha(one.p[0]) || one.p[1] != '=' || str_has_control(one))
			return false;
	}
	return true;
}

static bool is_binding_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '-')
			return false;
	return s.n > 0 && s.n <= 64;
}

/* gs2-header; *rest_out is what follows. */
static enum err read_header(struct str message, struct arena *a, struct sasl_scram_first *out, struct str *rest_out)
{
	struct str rest, flag = str_split(message, ',', &rest);
	if (str_find(message, ',') == message.n || str_find(rest, ',') == rest.n || flag.n == 0)
		return ERR_SYNTAX;
	struct str authzid = str_split(rest, ',', rest_out);
	out->binding = flag.p[0];
	out->binding_type = STR("");
	if (flag.p[0] == 'p' && flag.n > 2 && flag.p[1] == '=')
		out->binding_type = str_sub(flag, 2, flag.n);
	bool good = flag.p[0] == 'p' ? is_binding_name(out->binding_type) : flag.n == 1 && (flag.p[0] == 'n' || flag.p[0] == 'y');
	if (!good || (authzid.n > 0 && !str_starts(authzid, STR("a="))))
		return ERR_SYNTAX;
	out->gs2_header = str_sub(message, 0, message.n - rest_out->n);
	return undo_escapes(authzid.n ? str_sub(authzid, 2, authzid.n) : STR(""), a, &out->authzid);
}

enum err sasl_scram_first_read(struct str message, struct arena *a, struct sasl_scram_first *out)
{
	struct str rest, name;
	*out = (struct sasl_scram_first){ 0 };
	if (message.n > SASL_MESSAGE_MAX)
		return ERR_SYNTAX;
	TRY(read_header(message, a, out, &rest));
	out->bare = rest;
	if (str_starts(rest, STR("m=")))
		return ERR_DENIED;
	if (!take(&rest, 'n', &name) || name.n == 0 || !take(&rest, 'r', &out->nonce) || !is_nonce(out->nonce) || !are_extensions(rest))
		return ERR_SYNTAX;
	return undo_escapes(name, a, &out->user);
}

struct str sasl_scram_server_first(struct arena *a, struct str client_nonce, struct str server_nonce, struct str salt, uint32_t iterations)
{
	struct str text = base64_encode(a, salt);
	return arena_strf(a, "r=%.*s%.*s,s=%.*s,i=%u", STR_ARG(client_nonce), STR_ARG(server_nonce), STR_ARG(text), iterations);
}

enum err sasl_scram_final_read(struct str message, struct arena *a, struct sasl_scram_final *out)
{
	struct str rest = message, binding, proof;
	*out = (struct sasl_scram_final){ 0 };
	if (message.n > SASL_MESSAGE_MAX || !take(&rest, 'c', &binding) || !take(&rest, 'r', &out->nonce) || !is_nonce(out->nonce))
		return ERR_SYNTAX;
	size_t at = str_rfind(message, ',');
	if (at == message.n)
		return ERR_SYNTAX;
	struct str last = str_sub(message, at + 1, message.n);
	if (last.n > rest.n || !take(&last, 'p', &proof) || last.n > 0)
		return ERR_SYNTAX;
	size_t between = rest.n - (message.n - at - 1); /* "x=y," … before the proof */
	if (between == 1 || (between > 1 && !are_extensions(str_sub(rest, 0, between - 1))))
		return ERR_SYNTAX;
	out->without_proof = str_sub(message, 0, at);
	TRY(base64_decode(a, binding, &out->cbind_input));
	return base64_decode(a, proof, &out->proof);
}
