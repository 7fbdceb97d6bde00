/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts from elsewhere: see backend.h. Names are canonical. */
#include "lookup/backend.h"

static struct str domain_of(struct str account)
{
	return str_sub(account, str_rfind(account, '@') + 1, account.n);
}

struct backend *backends_find(const struct backends *b, struct str account)
{
	struct str domain = domain_of(account);
	for (size_t i = 0; i < b->n; i++)
		if (str_eq(b->v[i]->domain, domain))
			return b->v[i];
	return NULL;
}

static enum err note(struct backend_answers *a, struct backend *b, struct str account)
{
	if (a->n == BACKEND_ANSWERS_MAX)
		return ERR_LIMIT;
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 8;
		struct backend_answer *v = ARENA_ARRAY(a->arena, struct backend_answer, cap);
		if (!v)
			return arena_err(a->arena);
		if (a->n)
			memcpy(v, a->v, a->n * sizeof *v);
		a->v = v;
		a->cap = cap;
	}
	a->v[a->n++] = (struct backend_answer){ b, arena_str(a->arena, account), ERR_BUSY };
	a->open = true;
	TRY(arena_err(a->arena));
	return ERR_BUSY;
}

enum err backend_answer(struct backend_answers *a, struct backend *b, struct str account)
{
	enum err e = b->ops->knows(b, account);
	if (e != ERR_BUSY || !b->ops->exists)
		return e;
	if (!a) /* whoever asks does not wait */
		return ERR_CLOSED;
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].of == b && str_eq(a->v[i].account, account))
			return a->v[i].said;
	return note(a, b, account);
}

enum err backend_ask(struct backend_answers *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct backend_answer *one = &a->v[i];
		if (one->said != ERR_BUSY)
			continue;
		enum err e = one->of->ops->exists(one->of, one->account);
		if (e != ERR_NONE && e != ERR_NOT_FOUND)
			return e == ERR_BUSY ? ERR_LIMIT : e;
		one->said = e;
	}
	a->open = false;
	return ERR_NONE;
}

void backend_name_add(struct buf *b, const struct conf_domain *d)
{
	if (d->accounts == ACCOUNTS_KIND_SQLITE)
		buf_add(b, STR("sqlite"));
	else
		buf_addf(b, d->accounts == ACCOUNTS_KIND_DOVECOT ? "dovecot unix:%.*s" : "passwd_file %.*s", STR_ARG(d->accounts_path));
}

const struct conf_domain *backend_domain(const struct conf *c, struct str account)
{
	struct str domain = domain_of(account);
	for (size_t i = 0; i < c->domains_n; i++)
		if (str_eq(c->domains[i].name, domain))
			return c->domains[i].accounts == ACCOUNTS_KIND_SQLITE ? NULL : &c->domains[i];
	return NULL;
}
