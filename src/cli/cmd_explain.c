/* SPDX-License-Identifier: Apache-2.0 */
/*
 * godwit explain: what would happen to a recipient, and nothing happens. The rules, routes and hosts are
 * found by the same functions as in the server; accounts, rewriting and the DNS are asked of it when it
 * runs. Without one the accounts are read at rest, and what stays unknown is said.
 */
#include "cli/cli.h"
#include "lookup/auth.h"
#include "lookup/resolve.h"
#include "queue/route.h"
#include "relay/mx.h"
#include "smtp/address.h"

#define REMOTES_MAX 20u /* of which hosts are looked up */
#define HOSTS_MAX 64u

struct explain {
	struct cli *c;
	bool online;
	struct str from, to;
	struct lookup_rcpt_in in;
	struct lookup_rcpt_out out;
	struct mx_dns dns;
	struct mx_search search;
	size_t remotes;
};

/* ---- asking -------------------------------------------------------------------------------------------- */

static YIELDS enum err ask_dns(void *arg, const struct dns_lookup_in *in, struct arena *arena UNUSED, struct dns_lookup_out *out)
{
	struct cli *c = arg;
	return CLI_CALL(c, CALL_DNS_LOOKUP, dns_lookup, in, out);
}

/* The accounts at rest, under their owner's user. */
static enum err ask_at_rest(struct explain *x)
{
	struct cli *c = x->c;
	struct directory *d;
	struct resolver r = { .conf = &c->conf, .now_ms = world_wall_ms(c->w) };
	struct str dir = arena_strf(&c->arena, "%.*s/accounts", STR_ARG(c->conf.state));
	TRY(arena_err(&c->arena));
	TRY(world_change_user(c->w, c->conf.users.uid_lookup, 0));
	TRY(directory_open(c->w, dir, &d));
	r.directory = d;
	enum err e = resolve_rcpt(&r, &x->in, &c->arena, &x->out);
	directory_close(d);
	return e;
}

static YIELDS enum err ask(struct explain *x)
{
	struct cli *c = x->c;
	enum err e = CLI_CALL(c, CALL_LOOKUP_RCPT, lookup_rcpt, &x->in, &x->out);
	x->online = e == ERR_NONE;
	if (e != ERR_NOT_FOUND && e != ERR_CLOSED)
		return e;
	c->control = NULL;
	return ask_at_rest(x);
}

/* What at rest is not known: files that only the server reads. */
static const char *what_is_missing(const struct explain *x)
{
	const struct conf *c = &x->c->conf;
	struct str domain = address_domain(x->in.address);
	if (x->online)
		return "";
	for (size_t i = 0; i < c->domains_n; i++)
		if (str_eq(c->domains[i].name, domain) && c->domains[i].accounts != ACCOUNTS_KIND_SQLITE)
			return "its accounts are kept elsewhere, and were not looked at: start the server";
		else if (str_eq(c->domains[i].name, domain) && c->domains[i].aliases.n)
			return "its file of aliases was not read";
	for (size_t i = 0; i < c->relay_domains_n; i++)
		if (str_eq(c->relay_domains[i].name, domain) && c->relay_domains[i].recipients.n)
			return "its file of recipients was not read: any may exist";
	return "the DNS was not asked";
}

/* The reverse-path that it would leave with; *sure_out: false when only the server can say. */
static YIELDS struct str leaves_with(struct explain *x, const struct conf_route *route, const struct target *t, bool *sure_out)
{
	struct lookup_forward_in in = { .reverse_path = x->from };
	struct lookup_forward_out out;
	*sure_out = true;
	if (x->from.n == 0 || route->kind == ROUTE_KIND_LMTP || str_eq_nocase(t->address, x->in.address))
		return x->from;
	*sure_out = x->online && CLI_CALL(x->c, CALL_LOOKUP_FORWARD, lookup_forward, &in, &out) == ERR_NONE;
	return *sure_out ? out.reverse_path : x->from;
}

/* ---- printing ------------------------------------------------------------------------------------------- */

static void print_field(struct cli *c, const char *name, struct str value)
{
	cli_printf(c, "\"%s\":", name);
	cli_print_json(c, value);
}

static void print_address(struct cli *c, const struct mx_target *t)
{
	char text[IP_TEXT_MAX + 10];
	struct buf b = buf_fixed(text, sizeof text);
	if (t->address.family != IP_UNIX)
		ip_add_port(&b, &t->address);
	cli_print(c, buf_str(&b));
}

static void print_host(struct cli *c, const struct mx_target *t, bool first)
{
	if (!c->json) {
		cli_printf(c, "    %5u  %.*s  ", t->preference, STR_ARG(t->host));
		print_address(c, t);
		cli_print(c, STR("\n"));
		return;
	}
	cli_printf(c, "%s{\"preference\":%u,", first ? "" : ",", t->preference);
	print_field(c, "host", t->host);
	cli_print(c, STR(",\"address\":\""));
	print_address(c, t);
	cli_print(c, STR("\"}"));
}

/* Connections would be tried in this order. */
static YIELDS enum err print_hosts(struct explain *x, const struct conf_route *route, struct str address)
{
	struct cli *c = x->c;
	struct mx_target t;
	size_t n = 0;
	x->search = (struct mx_search){ .w = c->w, .conf = &c->conf, .dns = &x->dns, .route = route, .arena = &c->arena,
					.domain = route->kind == ROUTE_KIND_MX ? address_domain(address) : STR("") };
	if (c->json)
		cli_print(c, STR(",\"hosts\":["));
	enum err e = mx_begin(&x->search);
	while (e == ERR_NONE && n < HOSTS_MAX) {
		e = mx_next(&x->search, &t);
		if (e == ERR_NONE)
			print_host(c, &t, n++ == 0);
	}
	bool none = e == ERR_NOT_FOUND && n == 0;
	if (c->json) {
		cli_print(c, STR("],"));
		print_field(c, "trouble", none ? arena_strf(&c->arena, "%.*s %.*s", STR_ARG(x->search.found.enhanced), STR_ARG(x->search.found.text)) : STR(""));
	} else if (none) {
		cli_printf(c, "    no host: %.*s ", STR_ARG(x->search.found.enhanced));
		cli_print_safe(c, x->search.found.text);
		cli_print(c, STR("\n"));
	}
	return e == ERR_NOT_FOUND ? ERR_NONE : e;
}

static YIELDS enum err print_route(struct explain *x, const struct target *t)
{
	struct cli *c = x->c;
	const struct conf_route *route = route_for(&c->conf, x->from, t->address);
	char room[4096];
	struct buf via = buf_fixed(room, sizeof room);
	bool sure, named = route->kind == ROUTE_KIND_MX;
	struct str reverse_path = leaves_with(x, route, t, &sure);
	route_describe(&via, route);
	if (c->json) {
		cli_print(c, STR(","));
		print_field(c, "route", route->name);
		cli_print(c, STR(","));
		print_field(c, "via", buf_str(&via));
		cli_print(c, STR(","));
		print_field(c, "reverse_path", reverse_path);
		cli_printf(c, ",\"reverse_path_known\":%s", sure ? "true" : "false");
	} else {
		cli_printf(c, "  route %.*s: %.*s\n  reverse-path <", STR_ARG(route->name), STR_ARG(buf_str(&via)));
		cli_print_safe(c, reverse_path);
		cli_printf(c, ">%s\n", sure ? "" : ", rewritten if it is of another domain");
	}
	if (x->remotes++ >= REMOTES_MAX || (!x->online && named))
		return ERR_NONE;
	return print_hosts(x, route, t->address);
}

static YIELDS enum err print_target(struct explain *x, const struct target *t, bool first)
{
	struct cli *c = x->c;
	enum err e = ERR_NONE;
	if (c->json) {
		cli_printf(c, "%s{\"kind\":\"%s\",", first ? "" : ",", target_kind_name(t->kind));
		print_field(c, "address", t->address);
		cli_print(c, STR(","));
		print_field(c, "mailbox", t->mailbox.n ? arena_strf(&c->arena, "%.*s/%.*s", STR_ARG(c->conf.mail), STR_ARG(t->mailbox)) : STR(""));
	} else {
		cli_printf(c, "to %s ", target_kind_name(t->kind));
		cli_print_safe(c, t->address);
		if (t->mailbox.n)
			cli_printf(c, " (%.*s/%.*s)", STR_ARG(c->conf.mail), STR_ARG(t->mailbox));
		cli_print(c, STR("\n"));
	}
	if (t->kind == TARGET_KIND_REMOTE)
		e = print_route(x, t);
	if (c->json)
		cli_print(c, STR("}"));
	return e;
}

/* Whether the account may use this sender, when both are given and a server can say so. */
static YIELDS enum err print_sender(struct explain *x)
{
	struct cli *c = x->c;
	struct auth_sender_in in = { x->in.account, x->from };
	struct auth_sender_out out = { 0 };
	if (x->in.account.n == 0 || x->from.n == 0 || !x->online || c->json)
		return ERR_NONE;
	TRY(CLI_CALL(c, CALL_AUTH_SENDER, auth_sender, &in, &out));
	if (!out.allowed)
		cli_printf(c, "but refused at MAIL: 550 5.7.1 <%.*s> is not an address of %.*s\n", STR_ARG(x->from), STR_ARG(in.account));
	return ERR_NONE;
}

static YIELDS enum err print_answer(struct explain *x)
{
	struct cli *c = x->c;
	const struct lookup_rcpt_out *out = &x->out;
	const char *missing = what_is_missing(x);
	enum err e = ERR_NONE;
	if (c->json) {
		cli_printf(c, "{\"verdict\":\"%s\",\"code\":%u,\"server\":%s,", verdict_name(out->verdict), out->code, x->online ? "true" : "false");
		print_field(c, "enhanced", out->enhanced);
		cli_print(c, STR(","));
		print_field(c, "text", out->text);
		cli_print(c, STR(","));
		print_field(c, "rule", out->rule);
		cli_print(c, STR(",\"targets\":["));
	} else if (out->verdict != VERDICT_ACCEPT) {
		cli_printf(c, "refused: %u %.*s %.*s\n", out->code, STR_ARG(out->enhanced), STR_ARG(out->text));
	} else {
		cli_print(c, STR("accepted\n"));
	}
	if (!c->json)
		cli_printf(c, "rule: %.*s\n", STR_ARG(out->rule));
	for (size_t i = 0; i < out->targets_n && e == ERR_NONE; i++)
		e = print_target(x, &out->targets[i], i == 0);
	if (e == ERR_NONE)
		e = print_sender(x);
	if (c->json)
		cli_print(c, STR("]}\n"));
	else if (!x->online)
		cli_printf(c, "no server runs: %s\n", missing);
	return e;
}

/* ---- the command ------------------------------------------------------------------------------------------- */

static int take_arguments(struct explain *x)
{
	struct cli *c = x->c;
	struct str ip = STR("127.0.0.1"), account = STR("");
	bool have_to = cli_option(c, "--to", &x->to);
	(void)cli_option(c, "--from", &x->from);
	(void)cli_option(c, "--ip", &ip);
	(void)cli_option(c, "--account", &account);
	if (!have_to || c->args_n > 0)
		return cli_fail(c, EXIT_USAGE, "usage: godwit explain --to ADDRESS [--from ADDRESS] [--ip CLIENT] [--account ADDRESS]");
	if (account.n && auth_account(&c->conf, account, &c->arena, &x->in.account) != ERR_NONE)
		return cli_fail(c, EXIT_DATA, "'%.*s' is not an account", STR_ARG(account));
	if (ip_parse(ip, &x->in.client) != ERR_NONE)
		return cli_fail(c, EXIT_USAGE, "'%.*s' is not an IP address", STR_ARG(ip));
	if (smtp_address_canonical(x->to, &c->arena, &x->in.address) != ERR_NONE)
		return cli_fail(c, EXIT_DATA, "'%.*s' is not an address", STR_ARG(x->to));
	if (str_eq(x->from, STR("<>")))
		x->from = STR("");
	if (x->from.n && smtp_address_canonical(x->from, &c->arena, &x->from) != ERR_NONE)
		return cli_fail(c, EXIT_DATA, "'%.*s' is not an address", STR_ARG(x->from));
	return 0;
}

int cmd_explain(struct cli *c)
{
	struct explain *x = ARENA_NEW(&c->arena, struct explain);
	if (!x)
		return EXIT_OS;
	*x = (struct explain){ .c = c, .from = STR(""), .dns = { ask_dns, c } };
	int status = take_arguments(x);
	if (status)
		return status;
	enum err e = ask(x);
	if (e == ERR_NONE)
		e = print_answer(x);
	if (e == ERR_NONE)
		return 0;
	return x->online ? cli_call_failed(c, e) :
	       cli_fail(c, EXIT_UNAVAILABLE, "no server runs, and the accounts in %.*s/accounts cannot be read: %s",
			STR_ARG(c->conf.state), err_name(e));
}
