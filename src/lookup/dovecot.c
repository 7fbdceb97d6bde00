/* SPDX-License-Identifier: Apache-2.0 */
/* Dovecot's authentication protocol as text, and the back end over it: see dovecot.h. Its lines are not trusted. */
#include "lookup/dovecot.h"

#include "base/base64.h"

/* ---- what it says ------------------------------------------------------------------------------------- */

/* One of the fields, or one that begins with it and "=". */
static bool has_field(struct str fields, struct str name)
{
	while (fields.n > 0) {
		struct str value, one = str_split(fields, '\t', &fields);
		if (str_eq(str_split(one, '=', &value), name))
			return true;
	}
	return false;
}

static struct str field_value(struct str fields, struct str name)
{
	while (fields.n > 0) {
		struct str value, one = str_split(fields, '\t', &fields);
		if (str_eq(str_split(one, '=', &value), name))
			return value;
	}
	return STR("");
}

/* FAIL of a password: wrong, or that it could not be checked. */
static enum dovecot_says password_failure(struct str fields)
{
	return has_field(fields, STR("temp")) || str_eq(field_value(fields, STR("code")), STR("temp_fail")) ? DOVECOT_FAILED : DOVECOT_NO;
}

static enum dovecot_says says_of(enum dovecot_kind kind, struct str word, struct str fields)
{
	if (kind == DOVECOT_PASSWORDS) {
		if (str_eq(word, STR("OK")))
			return DOVECOT_YES;
		if (str_eq(word, STR("CONT"))) /* PLAIN has nothing more to say */
			return DOVECOT_FAILED;
		return str_eq(word, STR("FAIL")) ? password_failure(fields) : DOVECOT_NOTHING;
	}
	return str_eq(word, STR("USER")) ? DOVECOT_YES : str_eq(word, STR("NOTFOUND")) ? DOVECOT_NO : str_eq(word, STR("FAIL")) ? DOVECOT_FAILED : DOVECOT_NOTHING;
}

enum err dovecot_read_line(enum dovecot_kind kind, struct str line, struct dovecot_line *out)
{
	struct str fields, word = str_split(line, '\t', &fields);
	uint64_t n = 0;
	*out = (struct dovecot_line){ .says = DOVECOT_NOTHING };
	if (str_eq(word, STR("VERSION"))) { /* major, minor: another major is another protocol */
		out->says = DOVECOT_VERSION;
		return str_eq(str_split(fields, '\t', &fields), STR("1")) ? ERR_NONE : ERR_SYNTAX;
	}
	if (str_eq(word, kind == DOVECOT_PASSWORDS ? STR("DONE") : STR("SPID"))) {
		out->says = DOVECOT_READY;
		return ERR_NONE;
	}
	struct str id = str_split(fields, '\t', &fields);
	enum dovecot_says says = says_of(kind, word, fields);
	if (says == DOVECOT_NOTHING)
		return ERR_NONE;
	TRY(str_to_u64(id, UINT32_MAX, &n) == ERR_NONE ? ERR_NONE : ERR_SYNTAX);
	*out = (struct dovecot_line){ says, (uint32_t)n };
	return ERR_NONE;
}

/* ---- what it is asked ------------------------------------------------------------------------------------ */

static bool may_be_asked(struct str account)
{
	return account.n > 0 && account.n <= 320 && !str_has_control(account);
}

enum err dovecot_add_auth(struct buf *b, uint32_t id, struct str account, struct str password, const struct ip *client)
{
	char message[2048], address[IP_TEXT_MAX];
	struct buf m = buf_fixed(message, sizeof message), a = buf_fixed(address, sizeof address);
	if (!may_be_asked(account))
		return ERR_SYNTAX;
	buf_add_char(&m, '\0'); /* RFC 4616: authzid, authcid, password */
	buf_add(&m, account);
	buf_add_char(&m, '\0');
	buf_add(&m, password);
	if (client->family == IP_V4 || client->family == IP_V6)
		ip_add(&a, client);
	buf_addf(b, "AUTH\t%u\tPLAIN\tservice=smtp\tsecured\tnologin%s%.*s\tresp=", id, a.n ? "\trip=" : "", STR_ARG(buf_str(&a)));
	base64_add(b, buf_str(&m));
	buf_add_char(b, '\n');
	explicit_bzero(message, sizeof message);
	return buf_err(&m) == ERR_NONE ? buf_err(b) : ERR_SYNTAX;
}

enum err dovecot_add_user(struct buf *b, uint32_t id, struct str account)
{
	if (!may_be_asked(account))
		return ERR_SYNTAX;
	buf_addf(b, "USER\t%u\t", id);
	buf_add(b, account);
	buf_add(b, STR("\tservice=smtp\n"));
	return buf_err(b);
}

/* ---- the back end ------------------------------------------------------------------------------------------ */

static enum err knows(struct backend *b UNUSED, struct str account)
{
	return may_be_asked(account) ? ERR_BUSY : ERR_NOT_FOUND;
}

static YIELDS enum err exists(struct backend *b, struct str account)
{
	struct dovecot *d = (struct dovecot *)b;
	enum dovecot_says says;
	TRY(dovecot_ask(d->users, account, NULL, NULL, &says));
	return says == DOVECOT_YES ? ERR_NONE : ERR_NOT_FOUND;
}

static YIELDS enum err check(struct backend *b, struct str account, struct str password, const struct ip *client, struct arena *arena UNUSED,
			     bool *right_out)
{
	struct dovecot *d = (struct dovecot *)b;
	enum dovecot_says says;
	*right_out = false;
	TRY(dovecot_ask(d->passwords, account, &password, client, &says));
	*right_out = says == DOVECOT_YES;
	return ERR_NONE;
}

static const struct backend_ops ops = { .knows = knows, .exists = exists, .check = check };

void dovecot_init(struct dovecot *d, struct str domain, struct dovecot_link *passwords, struct dovecot_link *users)
{
	*d = (struct dovecot){ { &ops, domain }, passwords, users };
}
