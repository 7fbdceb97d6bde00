/* SPDX-License-Identifier: Apache-2.0 */
/* Where the accounts of a domain are: the directive `accounts`. Input: the operator's file. */
#include "conf/conf_internal.h"

#define SOCKET_PATH_MAX 100u /* sockaddr_un */

static bool is_path(struct str s)
{
	return s.n > 1 && s.p[0] == '/' && s.n <= 1000 && !str_has_control(s);
}

/* For conf_check_files(). */
static void note_file(struct parser *p, const struct conf_token *t)
{
	if (p->errs->files_n < CONF_FILES_MAX)
		p->errs->files[p->errs->files_n++] = (struct conf_file){ arena_str(p->arena, t->text), p->file, t->line, t->column };
}

static void set_passwd_file(struct parser *p, struct conf_domain *d)
{
	d->accounts_scram = p->words_n == 4 && str_eq(p->words[3].text, STR("scram"));
	if (p->words_n != (d->accounts_scram ? 4 : 3)) {
		conf_fail(p, &p->words[0], STR("accounts passwd_file takes one file, and perhaps the word scram"));
	} else if (!is_path(p->words[2].text)) {
		conf_fail_word(p, &p->words[2], "an absolute path");
	} else {
		d->accounts_path = arena_str(p->arena, p->words[2].text);
		note_file(p, &p->words[2]);
	}
}

static struct str socket_of(struct parser *p, const struct conf_token *t)
{
	struct str path = str_starts(t->text, STR("unix:")) ? str_sub(t->text, 5, t->text.n) : STR("");
	if (!is_path(path) || path.n > SOCKET_PATH_MAX) {
		conf_fail_word(p, t, "a socket: write unix:/PATH, of at most 100 bytes");
		return STR("");
	}
	return arena_str(p->arena, path);
}

static void set_dovecot(struct parser *p, struct conf_domain *d)
{
	if (p->words_n != 4) {
		conf_fail(p, &p->words[0], STR("accounts dovecot takes two sockets: unix:/run/dovecot/auth-client unix:/run/dovecot/auth-userdb"));
		return;
	}
	d->accounts_path = socket_of(p, &p->words[2]);
	d->accounts_users = socket_of(p, &p->words[3]);
}

void conf_set_accounts(struct parser *p, struct conf_domain *d)
{
	static const char *const kinds[] = { "sqlite", "passwd_file", "dovecot" };
	const struct conf_token *t = &p->words[1];
	unsigned kind = 0;
	while (kind < sizeof kinds / sizeof kinds[0] && !str_eq(t->text, str_z(kinds[kind])))
		kind++;
	d->accounts = (enum accounts_kind)kind;
	if (d->accounts == ACCOUNTS_KIND_SQLITE && p->words_n > 2)
		conf_fail(p, &p->words[2], STR("nothing stands behind accounts sqlite"));
	else if (d->accounts == ACCOUNTS_KIND_PASSWD_FILE)
		set_passwd_file(p, d);
	else if (d->accounts == ACCOUNTS_KIND_DOVECOT)
		set_dovecot(p, d);
	else if (d->accounts != ACCOUNTS_KIND_SQLITE)
		conf_fail_word(p, t, "sqlite, passwd_file or dovecot");
}

enum err conf_check_files(struct world *w, struct arena *arena, struct conf_errors *errs)
{
	for (size_t i = 0; i < errs->files_n; i++) {
		const struct conf_file *f = &errs->files[i];
		int fd;
		enum err e = world_open(w, WORLD_ABSOLUTE, f->path, WORLD_READ, 0, &fd);
		if (e == ERR_NONE)
			world_close(w, fd);
		else if (errs->n == CONF_ERRORS_MAX)
			errs->more++;
		else
			errs->v[errs->n++] = (struct conf_error){
				f->file, f->line, f->column,
				arena_strf(arena, "cannot read %.*s: %s", STR_ARG(f->path),
					   e == ERR_NOT_FOUND ? "there is no such file" : e == ERR_DENIED ? "not permitted" : err_name(e)),
			};
	}
	TRY(arena_err(arena));
	return errs->n ? ERR_SYNTAX : ERR_NONE;
}

bool conf_offers_scram(const struct conf *c)
{
	for (size_t i = 0; i < c->domains_n; i++)
		if (c->domains[i].accounts != ACCOUNTS_KIND_SQLITE && !c->domains[i].accounts_scram)
			return false;
	return true;
}
