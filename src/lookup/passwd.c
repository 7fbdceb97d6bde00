/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts of a passwd-file: see passwd.h. Input: the operator's file. */
#include "lookup/passwd.h"

#include "lookup/password.h"
#include "smtp/address.h"

#define LIST_MEMORY ((size_t)512 << 20)
#define LINE_MAX_BYTES 4096u

struct passwd_list *passwd_list_new(struct sip_key key)
{
	struct mem *mem = mem_new(LIST_MEMORY);
	struct passwd_list *l = mem ? mem_alloc(mem, sizeof *l) : NULL;
	if (!l) {
		if (mem)
			mem_destroy(mem);
		return NULL;
	}
	l->mem = mem;
	l->key = key;
	l->arena = arena_make(mem, LIST_MEMORY);
	l->by_account = table_make(mem, key, PASSWD_ACCOUNTS_MAX);
	return l;
}

void passwd_list_free(struct passwd_list *l)
{
	if (l)
		mem_destroy(l->mem); /* and with it all that is in it, the list too */
}

static void note(struct passwd_list *l, unsigned line, struct str text)
{
	if (l->notes_n < PASSWD_NOTES_MAX)
		l->notes[l->notes_n++] = (struct passwd_note){ line, text };
	else
		l->notes_more++;
}

static enum err skip(struct passwd_list *l, unsigned line, struct str text)
{
	l->skipped++;
	note(l, line, text);
	return arena_err(&l->arena);
}

/* ---- lines ------------------------------------------------------------------------------------------- */

/* Dovecot's extra fields that allow or forbid logging in: what we cannot do must not be let pass. */
static bool is_restricted(struct str extra)
{
	static const struct str names[] = { STR("nologin"), STR("allow_nets"), STR("nopassword"), STR("allow_real_nets") };
	while (extra.n > 0) {
		struct str rest, one = str_trim(str_split(extra, ' ', &extra)), name = str_split(one, '=', &rest);
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
			if (str_eq(name, names[i]))
				return true;
	}
	return false;
}

/* The part behind the sixth colon; empty: there is none. */
static struct str extra_of(struct str fields)
{
	for (unsigned i = 0; i < 5; i++)
		(void)str_split(fields, ':', &fields);
	return fields;
}

static bool is_unsafe(struct str hash)
{
	static const struct str schemes[] = { STR("{PLAIN"), STR("{CLEAR"), STR("{MD5"), STR("{PLAIN-MD5}"), STR("{LDAP-MD5}"), STR("{SMD5}"), STR("{SHA}"),
					      STR("{SHA1}"), STR("{SSHA}"), STR("{SHA256}"), STR("{SSHA256}"), STR("{SHA512}"), STR("{SSHA512}"), STR("{CRAM-MD5}"),
					      STR("{DIGEST-MD5}"), STR("{HMAC-MD5}"), STR("{LANMAN}"), STR("{NTLM}"), STR("{DES-CRYPT}"), STR("{MD5-CRYPT}"), STR("{RPA}"), STR("{OTP}") };
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
		if (str_starts_nocase(hash, schemes[i]))
			return true;
	return false;
}

/* F2. What is not taken is noted. */
static void take_password(struct passwd_list *l, unsigned line, struct str password, struct str extra, struct passwd_entry *e)
{
	struct str scram = str_starts_nocase(password, STR("{SCRAM-SHA-256}")) ? str_sub(password, 15, password.n) : STR("");
	struct scram_keys keys;
	e->hash = e->scram256 = STR("");
	if (password.n == 0 || str_starts(password, STR("*")) || str_starts(password, STR("!")))
		return; /* locked */
	if (is_restricted(extra))
		note(l, line, STR("nologin, nopassword and allow_nets are not supported: this account cannot log in"));
	else if (scram.n && scram_keys_read(true, scram, &keys) == ERR_NONE)
		e->scram256 = arena_str(&l->arena, scram);
	else if (is_unsafe(password))
		note(l, line, STR("a password in this scheme is not safe and not used: make {ARGON2ID} or {BLF-CRYPT} with doveadm pw"));
	else if (password.n < PASSWORD_HASH_MAX && password_is_understood(password))
		e->hash = arena_str(&l->arena, password);
	else
		note(l, line, STR("the password's scheme or hash is not understood: this account cannot log in"));
}

/* The canonical account in lower case; empty: of another domain. ERR_SYNTAX: it is none. */
static enum err take_user(struct passwd_list *l, struct str user, struct str domain, struct str *account_out)
{
	struct str whole = user, canonical;
	*account_out = STR("");
	if (user.n == 0 || user.n > 320)
		return ERR_SYNTAX;
	if (str_find(user, '@') == user.n)
		whole = arena_strf(&l->arena, "%.*s@%.*s", STR_ARG(user), STR_ARG(domain));
	TRY(smtp_address_canonical(whole, &l->arena, &canonical));
	char *p = arena_alloc(&l->arena, canonical.n + 1);
	TRY(arena_err(&l->arena));
	for (size_t i = 0; i < canonical.n; i++)
		p[i] = ascii_lower(canonical.p[i]);
	struct str all = str_of(p, canonical.n);
	if (str_eq(str_sub(all, str_rfind(all, '@') + 1, all.n), domain))
		*account_out = all;
	return ERR_NONE;
}

static enum err put(struct passwd_list *l, struct passwd_entry *e)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct passwd_entry **v = mem_resize(l->mem, l->v, cap * sizeof(*v));
		if (!v)
			return ERR_NO_MEMORY;
		l->v = v;
		l->cap = cap;
	}
	TRY(table_put(&l->by_account, e->account, e));
	l->v[l->n++] = e;
	return ERR_NONE;
}

static enum err take_line(struct passwd_list *l, struct str domain, struct str line, unsigned number)
{
	struct str fields, account, user = str_split(line, ':', &fields);
	if (line.n > LINE_MAX_BYTES || str_has_control(line))
		return skip(l, number, STR("skipped: a line has at most 4,096 bytes, and no control characters"));
	if (user.n == line.n)
		return skip(l, number, STR("skipped: expected user:{SCHEME}hash:…"));
	enum err e = take_user(l, user, domain, &account);
	if (e == ERR_SYNTAX)
		return skip(l, number, STR("skipped: the user is neither a local part nor an address"));
	TRY(e);
	if (account.n == 0)
		return ERR_NONE;
	struct passwd_entry *entry = ARENA_NEW(&l->arena, struct passwd_entry);
	if (!entry)
		return arena_err(&l->arena);
	struct str password = str_split(fields, ':', &fields);
	entry->account = account;
	take_password(l, number, password, extra_of(fields), entry);
	TRY(arena_err(&l->arena));
	e = put(l, entry);
	return e == ERR_EXISTS ? skip(l, number, STR("skipped: this user stands here twice; the first one counts")) : e;
}

enum err passwd_list_read(struct passwd_list *l, struct str domain, struct str text)
{
	struct str rest = text;
	for (unsigned number = 1; rest.n > 0; number++) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_ends(line, STR("\r")))
			line.n--;
		if (str_trim(line).n > 0 && str_trim(line).p[0] != '#')
			TRY(take_line(l, domain, line, number));
	}
	return ERR_NONE;
}

const struct passwd_entry *passwd_list_find(const struct passwd_list *l, struct str account)
{
	return table_get(&l->by_account, account);
}

/* ---- the back end --------------------------------------------------------------------------------------- */

static enum err knows(struct backend *b, struct str account)
{
	const struct passwd *p = (const struct passwd *)b;
	if (!p->list)
		return ERR_CLOSED;
	return passwd_list_find(p->list, account) ? ERR_NONE : ERR_NOT_FOUND;
}

static struct credential credential_of(const struct passwd_entry *e, struct arena *arena)
{
	return (struct credential){ .label = STR(""), .hash = arena_str(arena, e->hash), .scram256 = arena_str(arena, e->scram256), .scram1 = STR("") };
}

/* Copies: a new list may come while they are compared. The stand-in is always the same for the same name. */
static enum err credentials(struct backend *b, struct str account, struct arena *arena, struct credential **list_out, size_t *n_out,
			    struct credential *stand_in_out)
{
	const struct passwd *p = (const struct passwd *)b;
	if (!p->list)
		return ERR_CLOSED;
	const struct passwd_entry *e = passwd_list_find(p->list, account);
	*list_out = ARENA_NEW(arena, struct credential);
	TRY(arena_err(arena));
	*n_out = e && e->hash.n + e->scram256.n > 0 ? 1 : 0;
	*stand_in_out = credential_of(p->list->v[siphash(p->list->key, account) % p->list->n], arena);
	if (*n_out)
		**list_out = credential_of(e, arena);
	return arena_err(arena);
}

static const struct backend_ops ops = { .knows = knows, .credentials = credentials };

void passwd_init(struct passwd *p, struct str domain)
{
	*p = (struct passwd){ .backend = { &ops, domain } };
}

void passwd_done(struct passwd *p)
{
	passwd_list_free(p->list);
	p->list = NULL;
}

bool passwd_use(struct passwd *p, struct passwd_list *l)
{
	if (l->n == 0) { /* F1 */
		passwd_list_free(l);
		return false;
	}
	passwd_list_free(p->list);
	p->list = l;
	return true;
}
