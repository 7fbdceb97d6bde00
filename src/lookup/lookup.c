/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who exists and where mail goes. Runs in the process lookup, which holds the accounts. Its questions
 * come from smtpd and control, with addresses that strangers wrote (canonical, bounded).
 */
#include "lookup/lookup.h"

#include "base/events.h"
#include "base/hash.h"
#include "lookup/auth.h"
#include "lookup/budget.h"
#include "lookup/elsewhere.h"
#include "lookup/resolve.h"
#include "lookup/secret.h"
#include "smtp/address.h"

#define CALL_ARENA_MAX ((size_t)2 << 20)
#define ALIAS_FILE_MAX ((size_t)16 << 20)
#define SMTPDS_MAX 32u
#define ASK_ROUNDS_MAX 10u

struct lookup {
	struct proc *p;
	struct directory *directory;
	struct arena arena;
	struct table file_aliases, relay_recipients;
	struct srs srs;
	struct elsewhere elsewhere;
	struct auth auth;
	struct budgets budgets;
	struct str dir;
	uint64_t generation;
	struct counter *questions, *accepted, *refused, *failed;
};

/* ---- files of aliases and of recipients ------------------------------------------------------------------------------------- */

/* A file with something on each line; "#" begins a comment. */
struct lines {
	struct str path, domain; /* whose names stand there without @ */
	enum err (*take)(struct lookup *l, const struct lines *f, struct str line, unsigned number);
};

static void bad_line(struct lookup *l, const struct lines *f, unsigned line, const char *text)
{
	log_config_error(&l->p->log, (struct log_ids){ 0 }, f->path, line, str_z(text));
}

static struct str whole_address(struct lookup *l, struct str s, const struct lines *f)
{
	if (str_find(s, '@') < s.n)
		return arena_str(&l->arena, s);
	return arena_strf(&l->arena, "%.*s@%.*s", STR_ARG(s), STR_ARG(f->domain));
}

static struct str full_address(struct lookup *l, struct str s, const struct lines *f)
{
	struct str whole = whole_address(l, s, f);
	struct buf b = buf_fixed(arena_alloc(&l->arena, whole.n + 1), whole.n + 1);
	for (size_t i = 0; i < whole.n; i++)
		buf_add_char(&b, ascii_lower(whole.p[i]));
	return buf_str(&b);
}

/* Canonical; the case of the local part stays, for another server may mind it. */
static bool target_address(struct lookup *l, struct str s, const struct lines *f, struct str *address_out)
{
	return smtp_address_canonical(whole_address(l, s, f), &l->arena, address_out) == ERR_NONE;
}

/* "name: target, target"; names without @ are of the domain. No files, no commands (H26, H93). */
static enum err take_alias(struct lookup *l, const struct lines *f, struct str line, unsigned number)
{
	struct str targets, address, name = str_trim(str_split(line, ':', &targets)), list = targets;
	struct buf b = buf_grow(l->p->mem, 65536);
	if (name.n == 0 || str_trim(targets).n == 0) {
		bad_line(l, f, number, "expected: name: target, target");
		return ERR_NONE;
	}
	while (list.n > 0) {
		struct str one = str_trim(str_split(list, ',', &list));
		if (one.n == 0)
			continue;
		if (one.p[0] == '|' || one.p[0] == '/' || one.p[0] == ':' || one.p[0] == '"' ||
		    !target_address(l, one, f, &address)) {
			bad_line(l, f, number, "a target is an address; commands, files and includes are not supported");
			continue;
		}
		if (b.n)
			buf_add_char(&b, ',');
		buf_add(&b, address);
	}
	struct alias_entry *entry = ARENA_NEW(&l->arena, struct alias_entry);
	enum err e = buf_err(&b);
	if (e == ERR_NONE && entry) {
		entry->address = full_address(l, name, f);
		entry->targets = arena_str(&l->arena, buf_str(&b));
		e = arena_err(&l->arena);
		if (e == ERR_NONE)
			e = table_put(&l->file_aliases, entry->address, entry);
	}
	buf_free(&b);
	if (e == ERR_EXISTS) {
		bad_line(l, f, number, "this name stands here twice; the first one counts");
		e = ERR_NONE;
	}
	return e;
}

/* An address of a relay domain, or its local part. */
static enum err take_recipient(struct lookup *l, const struct lines *f, struct str line, unsigned number)
{
	struct str address, all = full_address(l, line, f);
	if (smtp_address_canonical(all, &l->arena, &address) != ERR_NONE ||
	    !str_eq(str_sub(address, str_rfind(address, '@') + 1, address.n), f->domain)) {
		TRY(arena_err(&l->arena));
		bad_line(l, f, number, "expected: an address of this domain");
		return ERR_NONE;
	}
	struct str *entry = ARENA_NEW(&l->arena, struct str);
	if (!entry)
		return arena_err(&l->arena);
	*entry = address;
	enum err e = table_put(&l->relay_recipients, *entry, entry);
	return e == ERR_EXISTS ? ERR_NONE : e;
}

static enum err read_lines(struct lookup *l, struct lines f)
{
	struct buf b = buf_grow(l->p->mem, ALIAS_FILE_MAX + 2);
	enum err e = world_read_file(l->p->w, WORLD_ABSOLUTE, f.path, ALIAS_FILE_MAX, &b);
	struct str rest = buf_str(&b);
	for (unsigned number = 1; e == ERR_NONE && rest.n > 0; number++) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_ends(line, STR("\r")))
			line.n--;
		line = str_trim(line);
		if (line.n > 0 && line.p[0] != '#')
			e = f.take(l, &f, line, number);
	}
	buf_free(&b);
	if (e != ERR_NONE)
		log_io_error(&l->p->log, (struct log_ids){ 0 }, STR("read addresses"), e, f.path);
	return e;
}

static enum err read_files(struct lookup *l)
{
	const struct conf *c = &l->p->conf;
	for (size_t i = 0; i < c->domains_n; i++)
		if (c->domains[i].aliases.n)
			TRY(read_lines(l, (struct lines){ c->domains[i].aliases, c->domains[i].name, take_alias }));
	for (size_t i = 0; i < c->relay_domains_n; i++)
		if (c->relay_domains[i].recipients.n)
			TRY(read_lines(l, (struct lines){ c->relay_domains[i].recipients, c->relay_domains[i].name, take_recipient }));
	return ERR_NONE;
}

/* ---- questions -------------------------------------------------------------------------------------------- */

static struct resolver resolver_of(struct lookup *l)
{
	return (struct resolver){
		.conf = &l->p->conf,
		.directory = l->directory,
		.file_aliases = &l->file_aliases,
		.relay_recipients = &l->relay_recipients,
		.backends = &l->elsewhere.backends,
		.srs = &l->srs,
		.now_ms = world_wall_ms(l->p->w),
	};
}

static bool is_smtpd(const struct lookup *l, const struct ipc *from)
{
	struct ipc *smtpds[SMTPDS_MAX];
	size_t n = proc_peers(l->p, ROLE_SMTPD, smtpds, SMTPDS_MAX);
	for (size_t i = 0; i < n; i++)
		if (smtpds[i] == from)
			return true;
	return false;
}

/* resolve_rcpt(), which does not wait, and between the calls what it has to know: an alias leads to the next question. */
static YIELDS enum err resolve_and_ask(struct lookup *l, const struct lookup_rcpt_in *in, struct arena *arena, struct lookup_rcpt_out *out)
{
	struct backend_answers answers = { .arena = arena };
	uint64_t generation = l->generation;
	enum err e = ERR_BUSY;
	for (unsigned round = 0; e == ERR_BUSY && round < ASK_ROUNDS_MAX; round++) {
		struct resolver r = resolver_of(l);
		r.answers = &answers;
		*out = (struct lookup_rcpt_out){ 0 };
		e = resolve_rcpt(&r, in, arena, out);
		if (e == ERR_BUSY)
			TRY(answers.open ? backend_ask(&answers) : ERR_LIMIT);
	}
	out->generation = generation;
	out->cacheable = out->cacheable && answers.n == 0; /* B4 */
	return e;
}

static YIELDS enum err on_rcpt(void *self, struct ipc *from, const struct lookup_rcpt_in *in, struct arena *arena,
			       struct lookup_rcpt_out *out)
{
	struct lookup *l = self;
	struct lookup_rcpt_in asked = *in;
	counter_add(l->questions, 1);
	if (asked.client.family == IP_UNIX && is_smtpd(l, from))
		asked.client.family = IP_NONE; /* R3: who talks to strangers cannot lend our own rights */
	enum err e = resolve_and_ask(l, &asked, arena, out);
	counter_add(e != ERR_NONE ? l->failed : out->verdict == VERDICT_ACCEPT ? l->accepted : l->refused, 1);
	if (e != ERR_NONE)
		log_io_error(&l->p->log, (struct log_ids){ 0 }, STR("look up a recipient"), e, in->address);
	return e;
}

static enum err on_forward(void *self, struct ipc *from UNUSED, const struct lookup_forward_in *in, struct arena *arena,
			   struct lookup_forward_out *out)
{
	struct lookup *l = self;
	struct resolver r = resolver_of(l);
	enum err e = resolve_forward(&r, in->reverse_path, arena, &out->reverse_path);
	if (e != ERR_NONE)
		log_io_error(&l->p->log, (struct log_ids){ 0 }, STR("rewrite a reverse-path"), e, in->reverse_path);
	return e;
}

static void changed(struct lookup *l)
{
	struct ipc *smtpds[SMTPDS_MAX];
	l->generation++;
	struct lookup_changed_in note = { l->generation };
	size_t n = proc_peers(l->p, ROLE_SMTPD, smtpds, SMTPDS_MAX);
	for (size_t i = 0; i < n; i++)
		if (note_lookup_changed(smtpds[i], &note) != ERR_NONE)
			ipc_close(smtpds[i]); /* it must not go on with old answers */
}

static enum err on_change(void *self, struct ipc *from UNUSED, const struct directory_change_in *in, struct arena *arena,
			  struct directory_change_out *out)
{
	struct lookup *l = self;
	TRY(lookup_change(l->directory, &l->p->conf, in, world_wall_ms(l->p->w), arena, out));
	if (out->done)
		changed(l);
	return ERR_NONE;
}

static void add_configured_domains(struct lookup *l, const struct directory_list_in *in, struct directory_list_out *out)
{
	const struct conf *c = &l->p->conf;
	for (size_t i = 0; i < c->domains_n && out->domains_n < 50 && in->after.n == 0; i++)
		if (str_find_str(c->domains[i].name, in->match) < c->domains[i].name.n || in->match.n == 0)
			out->domains[out->domains_n++] = (struct domain_row){ c->domains[i].name, 0, true };
}

static enum err on_list(void *self, struct ipc *from UNUSED, const struct directory_list_in *in, struct arena *arena,
			struct directory_list_out *out)
{
	struct lookup *l = self;
	TRY(directory_list(l->directory, in, arena, out));
	if (in->kind == DIRECTORY_KIND_DOMAIN)
		add_configured_domains(l, in, out);
	return ERR_NONE;
}

/* ---- the process -------------------------------------------------------------------------------------------- */

static void peer(struct proc *p UNUSED, void *self, enum role role, unsigned index UNUSED, struct ipc *channel)
{
	struct lookup *l = self;
	struct lookup_changed_in note = { l->generation };
	if (role == ROLE_SMTPD && channel && note_lookup_changed(channel, &note) != ERR_NONE)
		ipc_close(channel);
}

static void user(const struct conf *c, unsigned *uid_out, unsigned *gid_out)
{
	*uid_out = *gid_out = c->users.uid_lookup;
}

static void register_metrics(struct lookup *l)
{
	struct metrics *m = l->p->metrics;
	l->questions = metrics_counter(m, "godwit_lookup_questions_total", STR_NONE, "Recipients asked for.");
	l->accepted = metrics_counter(m, "godwit_lookup_accepted_total", STR_NONE, "… that exist.");
	l->refused = metrics_counter(m, "godwit_lookup_refused_total", STR_NONE, "… that do not, or may not be relayed to.");
	l->failed = metrics_counter(m, "godwit_lookup_failed_total", STR_NONE, "… that could not be answered.");
}

static YIELDS enum err start(struct proc *p, void *self, struct world_jail *jail_out) /* yields: indirect */
{
	struct lookup *l = self;
	struct sip_key key;
	l->p = p;
	l->generation = (uint64_t)world_wall_ms(p->w); /* never that of a lookup before us */
	l->arena = arena_make(p->mem, (size_t)64 << 20);
	world_random(p->w, &key, sizeof key);
	budgets_init(&l->budgets, p->mem, key, p->conf.limits.account_messages, p->conf.limits.account_recipients);
	l->file_aliases = table_make(p->mem, key, 1000000);
	register_metrics(l);
	l->relay_recipients = table_make(p->mem, key, 10000000);
	TRY(read_files(l));
	l->dir = arena_strf(&l->arena, "%.*s/accounts", STR_ARG(p->conf.state));
	TRY(arena_err(&l->arena));
	TRY(directory_open(p->w, l->dir, &l->directory));
	TRY(secret_load(p, l->dir, &l->arena, &l->srs));
	TRY(elsewhere_open(&l->elsewhere, p, l->srs.secrets[0]));
	TRY(auth_init(&l->auth, p, l->directory, &l->elsewhere.backends, l->srs.secrets[0]));
	jail_out->may = WORLD_MAY_FILES | WORLD_MAY_DATABASE | WORLD_MAY_THREADS | (l->elsewhere.links_n ? WORLD_MAY_CONNECT_PATH : 0);
	jail_out->dirs = &l->dir;
	jail_out->dir_count = 1;
	return ERR_NONE;
}

static YIELDS void stop(struct proc *p UNUSED, void *self) /* yields: indirect */
{
	struct lookup *l = self;
	elsewhere_close(&l->elsewhere);
	auth_done(&l->auth);
	budgets_done(&l->budgets);
	directory_close(l->directory);
	table_free(&l->file_aliases);
	table_free(&l->relay_recipients);
	arena_close(&l->arena);
}

/* ---- who somebody is: auth.h ---- */

static YIELDS enum err on_password(void *self, struct ipc *from UNUSED, const struct auth_password_in *in, struct arena *arena,
				   struct auth_password_out *out)
{
	struct lookup *l = self;
	enum err e = auth_password(&l->auth, in, arena, out);
	memset((char *)(uintptr_t)in->password.p, 0, in->password.n); /* our own copy, in the call's arena */
	return e;
}

static enum err on_scram_first(void *self, struct ipc *from UNUSED, const struct auth_scram_first_in *in, struct arena *arena,
			       struct auth_scram_first_out *out)
{
	struct lookup *l = self;
	return auth_scram_first(&l->auth, in, arena, out);
}

static enum err on_scram_final(void *self, struct ipc *from UNUSED, const struct auth_scram_final_in *in, struct arena *arena,
			       struct auth_scram_final_out *out)
{
	struct lookup *l = self;
	return auth_scram_final(&l->auth, in, arena, out);
}

/* An account may call itself whatever is delivered to it. */
static YIELDS enum err on_sender(void *self, struct ipc *from UNUSED, const struct auth_sender_in *in, struct arena *arena,
			  struct auth_sender_out *out)
{
	struct lookup *l = self;
	struct lookup_rcpt_in asked = { .client = { .family = IP_NONE }, .address = in->address, .smtputf8 = true };
	struct lookup_rcpt_out found = { 0 };
	out->allowed = in->address.n == 0;
	TRY(resolve_and_ask(l, &asked, arena, &found));
	for (size_t i = 0; found.verdict == VERDICT_ACCEPT && i < found.targets_n; i++)
		out->allowed = out->allowed || str_eq_nocase(found.targets[i].address, in->account);
	return ERR_NONE;
}

static enum err on_charge(void *self, struct ipc *from UNUSED, const struct auth_charge_in *in, struct arena *arena, struct auth_charge_out *out)
{
	struct lookup *l = self;
	struct budget_answer a = budget_take(&l->budgets, in->account, in->recipients, world_wall_ms(l->p->w));
	uint32_t limit = a.by_recipients ? l->budgets.recipients : l->budgets.messages;
	const char *of = a.by_recipients ? "recipients" : "messages", *to = a.by_recipients ? "to " : "";
	out->allowed = a.allowed;
	if (a.allowed)
		return ERR_NONE;
	int64_t minutes = (a.wait_ms + 59999) / 60000;
	out->text = minutes ? arena_strf(arena, "Your account may send %s%u %s an hour; please wait %lld minutes", to, limit, of, (long long)minutes)
			    : arena_strf(arena, "Your account may send %s%u %s an hour, which this message exceeds", to, limit, of);
	if (a.first)
		log_account_limit(&l->p->log, (struct log_ids){ .session = in->session }, in->account, limit, str_z(of));
	return arena_err(arena);
}

static YIELDS enum err on_account_password(void *self, struct ipc *from UNUSED, const struct account_password_in *in, struct arena *arena,
					   struct account_password_out *out)
{
	struct lookup *l = self;
	struct auth_change *c = ARENA_NEW(arena, struct auth_change);
	if (!c)
		return arena_err(arena);
	if (!auth_change_begin(l->directory, l->p->w, &l->p->conf, in, arena, c)) {
		out->text = c->text;
		return arena_err(arena);
	}
	TRY(co_offload(auth_change_work, c));
	return auth_change_end(l->directory, world_wall_ms(l->p->w), c, arena, out);
}

static enum err on_account_passwords(void *self, struct ipc *from UNUSED, const struct account_passwords_in *in, struct arena *arena,
				     struct account_passwords_out *out)
{
	struct lookup *l = self;
	return auth_list(l->directory, in, arena, out);
}

static YIELDS enum err on_load(void *self, struct ipc *from UNUSED, const struct accounts_load_in *in, struct arena *arena,
			       struct accounts_load_out *out)
{
	struct lookup *l = self;
	enum err e = elsewhere_load(&l->elsewhere, in, arena, out);
	if (e == ERR_NONE && out->good)
		changed(l); /* B4 */
	return e;
}

static const struct ipc_handlers handlers = {
	.lookup_rcpt = on_rcpt, .lookup_forward = on_forward, .directory_change = on_change, .directory_list = on_list,
	.auth_password = on_password, .auth_scram_first = on_scram_first, .auth_scram_final = on_scram_final, .auth_sender = on_sender,
	.auth_charge = on_charge, .accounts_load = on_load, .account_password = on_account_password, .account_passwords = on_account_passwords,
};

const struct proc_ops lookup_ops = {
	.role = ROLE_LOOKUP,
	.state_bytes = sizeof(struct lookup),
	.handlers = &handlers,
	.call_arena_max = CALL_ARENA_MAX,
	.user = user,
	.start = start,
	.stop = stop,
	.peer = peer,
};
