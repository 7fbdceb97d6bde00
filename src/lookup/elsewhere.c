/* SPDX-License-Identifier: Apache-2.0 */
/* The back ends of the configuration: see elsewhere.h. Input: the operator's files, by descriptors of master's. */
#include "lookup/elsewhere.h"

#include "base/events.h"

static enum err link_of(struct elsewhere *e, enum dovecot_kind kind, struct str path, struct dovecot_link **link_out)
{
	for (size_t i = 0; i < e->links_n; i++) {
		*link_out = &e->links[i];
		if (e->links[i].kind == kind && str_eq(e->links[i].path, path))
			return ERR_NONE;
	}
	if (e->links_n == DOVECOT_LINKS_MAX)
		return ERR_LIMIT;
	*link_out = &e->links[e->links_n++];
	dovecot_link_init(*link_out, &e->env, kind, path);
	return ERR_NONE;
}

static enum err open_domain(struct elsewhere *e, const struct conf_domain *c, struct backend **out)
{
	if (c->accounts == ACCOUNTS_KIND_PASSWD_FILE) {
		struct passwd *f = ARENA_NEW(&e->p->arena, struct passwd);
		if (!f)
			return ERR_NO_MEMORY;
		passwd_init(f, c->name);
		*out = &f->backend;
		return ERR_NONE;
	}
	struct dovecot *d = ARENA_NEW(&e->p->arena, struct dovecot);
	struct dovecot_link *passwords, *users;
	if (!d)
		return ERR_NO_MEMORY;
	TRY(link_of(e, DOVECOT_PASSWORDS, c->accounts_path, &passwords));
	TRY(link_of(e, DOVECOT_USERS, c->accounts_users, &users));
	dovecot_init(d, c->name, passwords, users);
	*out = &d->backend;
	return ERR_NONE;
}

enum err elsewhere_open(struct elsewhere *e, struct proc *p, struct str secret)
{
	const struct conf *c = &p->conf;
	*e = (struct elsewhere){ .p = p, .open = true };
	e->env = (struct dovecot_env){ .w = p->w, .loop = p->loop, .scope = &e->scope, .mem = p->mem, .log = &p->log };
	e->key = (struct sip_key){ siphash((struct sip_key){ 1, 2 }, secret), siphash((struct sip_key){ 3, 4 }, secret) };
	scope_open(&e->scope, p->loop, &p->work);
	e->by_domain = ARENA_ARRAY(&p->arena, struct backend *, c->domains_n + 1);
	e->backends.v = ARENA_ARRAY(&p->arena, struct backend *, c->domains_n + 1);
	TRY(arena_err(&p->arena));
	for (size_t i = 0; i < c->domains_n; i++) {
		if (c->domains[i].accounts == ACCOUNTS_KIND_SQLITE)
			continue;
		enum err err = open_domain(e, &c->domains[i], &e->by_domain[i]);
		if (err != ERR_NONE) {
			log_io_error(&p->log, (struct log_ids){ 0 }, STR("set up the accounts of a domain"), err, c->domains[i].name);
			return err;
		}
		e->backends.v[e->backends.n++] = e->by_domain[i];
	}
	return ERR_NONE;
}

void elsewhere_close(struct elsewhere *e)
{
	if (!e->open)
		return;
	scope_close(&e->scope);
	for (size_t i = 0; i < e->links_n; i++)
		dovecot_link_done(&e->links[i]);
	for (size_t i = 0; i < e->p->conf.domains_n; i++)
		if (e->p->conf.domains[i].accounts == ACCOUNTS_KIND_PASSWD_FILE && e->by_domain[i])
			passwd_done((struct passwd *)e->by_domain[i]);
	e->open = false;
}

/* ---- files ------------------------------------------------------------------------------------------- */

struct reading {
	int fd;
	struct str domain;
	struct passwd_list *list;
	struct buf text; /* of the list's own memory */
	enum err err;
};

static void read_file(struct world *w, void *arg)
{
	struct reading *r = arg;
	r->text = buf_grow(r->list->mem, PASSWD_FILE_MAX + 2);
	r->err = world_read_all(w, r->fd, PASSWD_FILE_MAX, &r->text);
	if (r->err == ERR_NONE)
		r->err = passwd_list_read(r->list, r->domain, buf_str(&r->text));
	if (r->text.n)
		explicit_bzero(r->text.p, r->text.n);
	buf_free(&r->text);
}

static void log_notes(struct elsewhere *e, struct str file, const struct passwd_list *l)
{
	for (size_t i = 0; i < l->notes_n; i++)
		log_config_error(&e->p->log, (struct log_ids){ 0 }, file, l->notes[i].line, l->notes[i].text);
	if (l->notes_more)
		log_config_error(&e->p->log, (struct log_ids){ 0 }, file, 0, STR("and more such lines"));
}

static void not_used(struct elsewhere *e, struct str file, struct str text, struct accounts_load_out *out)
{
	out->text = text;
	log_accounts_failed(&e->p->log, (struct log_ids){ 0 }, file, text);
}

/* What was read takes its place, or is freed. */
static void use(struct elsewhere *e, struct passwd *f, struct reading *r, struct str file, struct accounts_load_out *out)
{
	log_notes(e, file, r->list);
	out->accounts = (uint32_t)r->list->n;
	out->skipped = (uint32_t)r->list->skipped;
	if (r->err != ERR_NONE) {
		not_used(e, file, r->err == ERR_LIMIT ? STR("it is too large") : str_z(err_name(r->err)), out);
		passwd_list_free(r->list);
	} else if (!passwd_use(f, r->list)) { /* F1 */
		not_used(e, file, STR("it has no account of this domain: taken for an accident"), out);
	} else {
		out->good = true;
		log_accounts_loaded(&e->p->log, (struct log_ids){ 0 }, file, out->accounts, out->skipped);
	}
}

enum err elsewhere_load(struct elsewhere *e, const struct accounts_load_in *in, struct arena *arena, struct accounts_load_out *out)
{
	const struct conf *c = &e->p->conf;
	bool known = in->domain < c->domains_n && c->domains[in->domain].accounts == ACCOUNTS_KIND_PASSWD_FILE;
	struct reading *r = ARENA_NEW(arena, struct reading);
	*out = (struct accounts_load_out){ .text = STR("") };
	enum err err = !known || !e->open ? ERR_NOT_FOUND : r ? ERR_NONE : ERR_NO_MEMORY;
	if (err == ERR_NONE) {
		*r = (struct reading){ .fd = in->file, .domain = c->domains[in->domain].name, .list = passwd_list_new(e->key) };
		err = r->list ? co_offload(read_file, r) : ERR_NO_MEMORY;
		if (err == ERR_NONE && e->open)
			use(e, (struct passwd *)e->by_domain[in->domain], r, c->domains[in->domain].accounts_path, out);
		else if (r->list)
			passwd_list_free(r->list);
	}
	world_close(e->p->w, in->file);
	return err;
}
