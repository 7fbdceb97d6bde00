/* SPDX-License-Identifier: Apache-2.0 */
/* godwit account|domain|alias add|del|list: through the server, or on the database when none runs. */
#include "cli/cli.h"
#include "lookup/auth.h"
#include "lookup/lookup.h"
#include "master/dirs.h"

/* The directory at rest, under its owner's user; *d_out NULL: a server runs. blocked: what is in that user's way. */
static enum err open_at_rest(struct cli *c, struct directory **d_out, struct str *blocked_out)
{
	*d_out = NULL;
	enum err e = cli_connect(c);
	if (e != ERR_NOT_FOUND && e != ERR_CLOSED)
		return e;
	c->control = NULL;
	struct str dir = arena_strf(&c->arena, "%.*s/accounts", STR_ARG(c->conf.state));
	unsigned uid = c->conf.users.uid_lookup;
	TRY(dir_make(c->w, c->conf.state, 0, 0, 0755));
	TRY(dir_make(c->w, dir, uid, uid, 0700));
	TRY(dir_check_way(c->w, dir, uid, uid, blocked_out));
	*blocked_out = STR("");
	TRY(world_change_user(c->w, uid, 0));
	return directory_open(c->w, dir, d_out);
}

static int opening_failed(struct cli *c, enum err e)
{
	if (e == ERR_NOT_FOUND || e == ERR_IO || e == ERR_CORRUPT || e == ERR_DENIED)
		return cli_fail(c, e == ERR_DENIED ? EXIT_PERMISSION : EXIT_IO, "cannot open the accounts in %.*s/accounts: %s",
				STR_ARG(c->conf.state), err_name(e));
	return cli_call_failed(c, e);
}

static YIELDS int change(struct cli *c, struct directory *d, enum directory_kind kind, bool remove, struct str name, struct str targets)
{
	struct directory_change_in in = { .kind = kind, .remove = remove, .name = str_sub(name, 0, 320), .targets = targets };
	struct directory_change_out out = { 0 };
	enum err e = d ? lookup_change(d, &c->conf, &in, world_wall_ms(c->w), &c->arena, &out) :
		CLI_CALL(c, CALL_DIRECTORY_CHANGE, directory_change, &in, &out);
	if (e != ERR_NONE)
		return d ? opening_failed(c, e) : cli_call_failed(c, e);
	bool said = str_ends(out.text, STR(" there")) || str_ends(out.text, STR("already"));
	if (!out.done && !said)
		return cli_fail(c, EXIT_DATA, "%.*s", STR_ARG(out.text));
	cli_print_safe(c, out.text);
	cli_print(c, STR("\n"));
	return 0;
}

static YIELDS int change_all(struct cli *c, struct directory *d, enum directory_kind kind, bool remove)
{
	if (kind == DIRECTORY_KIND_ALIAS && !remove) {
		struct buf targets = buf_fixed(arena_alloc(&c->arena, 4000), 4000);
		for (size_t i = 2; i < c->args_n; i++) {
			if (targets.n)
				buf_add_char(&targets, ',');
			buf_add(&targets, c->args[i]);
		}
		if (c->args_n < 3 || buf_err(&targets) != ERR_NONE)
			return cli_fail(c, EXIT_USAGE, "usage: godwit alias add ADDRESS TARGET… (targets: 4,000 bytes at most)");
		return change(c, d, kind, false, c->args[1], buf_str(&targets));
	}
	int status = 0;
	for (size_t i = 1; i < c->args_n && status == 0; i++)
		status = change(c, d, kind, remove, c->args[i], STR(""));
	return status;
}

static void print_row(struct cli *c, struct str name, struct str more, bool first)
{
	if (c->json) {
		cli_print(c, first ? STR("") : STR(",\n"));
		cli_print(c, STR("{\"name\":"));
		cli_print_json(c, name);
		cli_print(c, STR(",\"info\":"));
		cli_print_json(c, more);
		cli_print(c, STR("}"));
		return;
	}
	cli_print_safe(c, name);
	if (more.n) {
		cli_print(c, STR("\t"));
		cli_print_safe(c, more);
	}
	cli_print(c, STR("\n"));
}

static struct str print_rows(struct cli *c, const struct directory_list_out *out, bool *first)
{
	struct str last = STR("");
	for (size_t i = 0; i < out->accounts_n; i++, *first = false)
		print_row(c, last = out->accounts[i].address, out->accounts[i].disabled ? STR("disabled") : STR(""), *first);
	for (size_t i = 0; i < out->aliases_n; i++, *first = false)
		print_row(c, last = out->aliases[i].address, out->aliases[i].targets, *first);
	for (size_t i = 0; i < out->domains_n; i++, *first = false) {
		print_row(c, out->domains[i].name, out->domains[i].from_configuration ? STR("from the configuration") : STR(""), *first);
		if (!out->domains[i].from_configuration)
			last = out->domains[i].name;
	}
	return last;
}

/* Whose accounts such a list cannot have. */
static void say_what_is_elsewhere(struct cli *c)
{
	for (size_t i = 0; i < c->conf.domains_n; i++) {
		const struct conf_domain *d = &c->conf.domains[i];
		char room[1200];
		struct buf b = buf_fixed(room, sizeof room);
		if (d->accounts == ACCOUNTS_KIND_SQLITE)
			continue;
		backend_name_add(&b, d);
		(void)cli_fail(c, 0, "the accounts of %.*s are kept elsewhere: %.*s", STR_ARG(d->name), STR_ARG(buf_str(&b)));
	}
}

static YIELDS int list(struct cli *c, struct directory *d, enum directory_kind kind)
{
	struct directory_list_in in = { .kind = kind, .match = c->args_n > 1 ? str_sub(c->args[1], 0, 320) : STR("") };
	struct directory_list_out out = { .more = true };
	bool first = true;
	if (c->json)
		cli_print(c, STR("["));
	while (out.more) {
		out = (struct directory_list_out){ 0 };
		enum err e = d ? directory_list(d, &in, &c->arena, &out) : CLI_CALL(c, CALL_DIRECTORY_LIST, directory_list, &in, &out);
		if (e != ERR_NONE)
			return d ? opening_failed(c, e) : cli_call_failed(c, e);
		in.after = print_rows(c, &out, &first);
	}
	if (c->json)
		cli_print(c, STR("]\n"));
	if (kind == DIRECTORY_KIND_ACCOUNT)
		say_what_is_elsewhere(c);
	return 0;
}

/* The same, with words for what goes wrong: 0, or the exit status. */
static int open_or_say(struct cli *c, struct directory **d_out)
{
	struct str blocked = STR("");
	enum err e = open_at_rest(c, d_out, &blocked);
	if (e != ERR_NONE && blocked.n)
		return cli_fail(c, EXIT_PERMISSION, "the accounts' user cannot pass %.*s: chmod o+x, or choose another place",
				STR_ARG(blocked));
	return e == ERR_NONE ? 0 : opening_failed(c, e);
}

static YIELDS int directory_command(struct cli *c, enum directory_kind kind)
{
	struct directory *d;
	struct str what = c->args_n ? c->args[0] : STR("list");
	bool add = str_eq(what, STR("add")), del = str_eq(what, STR("del"));
	if ((!add && !del && !str_eq(what, STR("list"))) || ((add || del) && c->args_n < 2))
		return cli_fail(c, EXIT_USAGE, "usage: godwit %s add|del|list …; see: godwit help", directory_kind_name(kind));
	int failed = open_or_say(c, &d);
	if (failed)
		return failed;
	int status = add || del ? change_all(c, d, kind, del) : list(c, d, kind);
	if (d)
		directory_close(d);
	return status;
}

/* ---- passwords ---- */

#define SECRET_MAX 1024u

/* Through the server, or with the same code at rest. */
static YIELDS enum err set_password(struct cli *c, struct directory *d, const struct account_password_in *in, struct account_password_out *out)
{
	if (!d)
		return CLI_CALL(c, CALL_ACCOUNT_PASSWORD, account_password, in, out);
	struct auth_change *change = ARENA_NEW(&c->arena, struct auth_change);
	if (!change)
		return arena_err(&c->arena);
	if (!auth_change_begin(d, c->w, &c->conf, in, &c->arena, change)) {
		out->text = change->text;
		return ERR_NONE;
	}
	auth_change_work(c->w, change);
	return auth_change_end(d, world_wall_ms(c->w), change, &c->arena, out);
}

/* Never an argument: others see those. */
static int read_password(struct cli *c, char room[SECRET_MAX], struct str *password_out)
{
	size_t n = 0;
	enum err e = world_read_secret(c->w, STR("New password: "), room, SECRET_MAX, &n);
	*password_out = str_of(room, n);
	if (e == ERR_LIMIT)
		return cli_fail(c, EXIT_DATA, "a password has at most %u bytes", SECRET_MAX);
	if (e != ERR_NONE || n == 0)
		return cli_fail(c, EXIT_DATA, "no password: it is a line of standard input");
	return 0;
}

static YIELDS int change_password(struct cli *c, struct directory *d, struct account_password_in *in, bool made)
{
	char room[SECRET_MAX];
	struct account_password_out out = { 0 };
	int status = in->remove || made ? 0 : read_password(c, room, &in->password);
	if (status != 0)
		return status;
	enum err e = set_password(c, d, in, &out);
	explicit_bzero(room, sizeof room);
	if (e != ERR_NONE)
		return d ? opening_failed(c, e) : cli_call_failed(c, e);
	if (!out.done && !in->remove)
		return cli_fail(c, EXIT_DATA, "%.*s", STR_ARG(out.text));
	if (out.password.n)
		cli_printf(c, "%.*s\n", STR_ARG(out.password));
	else
		cli_print_safe(c, out.text), cli_print(c, STR("\n"));
	return 0;
}

static YIELDS int list_passwords(struct cli *c, struct directory *d, struct str account)
{
	struct account_passwords_in in = { .account = account };
	struct account_passwords_out out = { 0 };
	enum err e = d ? auth_list(d, &in, &c->arena, &out) : CLI_CALL(c, CALL_ACCOUNT_PASSWORDS, account_passwords, &in, &out);
	if (e != ERR_NONE)
		return d ? opening_failed(c, e) : cli_call_failed(c, e);
	for (size_t i = 0; i < out.rows_n; i++) {
		cli_print_safe(c, out.rows[i].label.n ? out.rows[i].label : STR("(main)"));
		cli_print(c, STR("\t"));
		cli_print_time(c, out.rows[i].created_ms);
		cli_printf(c, "\t%.*s\n", STR_ARG(out.rows[i].kind));
	}
	return 0;
}

/* passwd ADDRESS [--remove]; app add|del|list ADDRESS [LABEL] */
static YIELDS int password_command(struct cli *c, struct directory *d, bool app)
{
	bool remove = cli_option(c, "--remove", NULL);
	struct str what = app && c->args_n > 1 ? c->args[1] : STR("");
	struct str *rest = &c->args[app ? 2 : 1];
	size_t n = c->args_n > (app ? 2u : 1u) ? c->args_n - (app ? 2u : 1u) : 0;
	struct account_password_in in = { .account = n ? rest[0] : STR(""), .label = app && n > 1 ? rest[1] : STR(""),
					  .password = STR(""), .remove = remove || str_eq(what, STR("del")) };
	if (app && str_eq(what, STR("list")) && n == 1)
		return list_passwords(c, d, in.account);
	bool known = !app || str_eq(what, STR("add")) || str_eq(what, STR("del"));
	if (!known || n != (app ? 2u : 1u) || (app && in.label.n == 0))
		return cli_fail(c, EXIT_USAGE, app ? "usage: godwit account app add|del ADDRESS LABEL, or app list ADDRESS"
						   : "usage: godwit account passwd ADDRESS [--remove]; the password is a line of standard input");
	if (in.account.n > 320 || in.label.n > 64)
		return cli_fail(c, EXIT_DATA, "the address or the label is too long");
	return change_password(c, d, &in, app);
}

int cmd_account(struct cli *c)
{
	struct directory *d;
	bool app = c->args_n > 0 && str_eq(c->args[0], STR("app"));
	if (!app && (c->args_n == 0 || !str_eq(c->args[0], STR("passwd"))))
		return directory_command(c, DIRECTORY_KIND_ACCOUNT);
	int failed = open_or_say(c, &d);
	if (failed)
		return failed;
	int status = password_command(c, d, app);
	if (d)
		directory_close(d);
	return status;
}

int cmd_domain(struct cli *c)
{
	return directory_command(c, DIRECTORY_KIND_DOMAIN);
}

int cmd_alias(struct cli *c)
{
	return directory_command(c, DIRECTORY_KIND_ALIAS);
}
