/* SPDX-License-Identifier: Apache-2.0 */
/* The command `godwit`: takes the options that all subcommands share, and runs one. */
#include <stdlib.h>

#include "cli/cli.h"
#include "conf/conf_table.h"
#include "config.h"
#include "master/master.h"

#define ARENA_MAX ((size_t)256 << 20)

static YIELDS int cmd_help(struct cli *c); /* yields: indirect */

const struct command cli_commands[] = {
	{ "serve", "[-c FILE]", "run the server in the foreground", NULL, false },
	{ "setup", "DOMAIN [--hostname NAME] [--ip ADDRESS]… [--account NAME] [--directory DIR] [--listen ADDRESS] [--ports N,N,N] [-c FILE] [--yes]",
	  "make a configuration, a certificate and a first account, and show the DNS records; says what it would do, and does it with --yes", cmd_setup, true },
	{ "records", "[DOMAIN] [--ip ADDRESS]…", "the DNS records that the domain needs, as a zone file", cmd_records, false },
	{ "check", "[-c FILE] [--manual]", "check the configuration and say all that is wrong", cmd_check, true },
	{ "stop", "", "stop the server in order", cmd_stop, false },
	{ "status", "", "show the server's processes and certificates", cmd_status, false },
	{ "reload", "", "read certificates, keys and files of accounts again (nothing else: restart for the configuration)", cmd_reload, false },
	{ "send", "[-f FROM] [-t] TO… < MESSAGE", "put a message into the queue", cmd_send, false },
	{ "queue", "[list [WHICH] | show ID | sites [WHAT] | flush|retry|hold|release|drop WHICH | move WHICH --route NAME]\n            WHICH: ID, part of an address, --domain D, --sender A, --older TIME, --newer TIME, --all", "look at waiting mail and change it", cmd_queue, false },
	{ "trace", "ID|ADDRESS|MESSAGE-ID", "show what happened to mail, and why", cmd_trace, false },
	{ "account", "add|del ADDRESS… | list [WHAT] | passwd ADDRESS [--remove] | app add|del|list ADDRESS [LABEL]",
	  "mailboxes and their passwords, which are read from standard input", cmd_account, false },
	{ "domain", "add|del NAME… | list [WHAT]", "domains of this server", cmd_domain, false },
	{ "alias", "add ADDRESS TARGET… | del ADDRESS… | list [WHAT]", "other names of addresses; @domain for all of one", cmd_alias, false },
	{ "explain", "--to ADDRESS [--from ADDRESS] [--ip CLIENT] [--account ADDRESS]", "what would happen to a recipient: by which rule, to where, by which route and hosts", cmd_explain, false },
	{ "dns", "NAME TYPE", "ask the DNS as the server does: a, aaaa, mx, txt, ptr, tlsa, cname", cmd_dns, false },
	{ "spool", "verify|dump|recover [DIRECTORY]", "examine the spool of a stopped server", cmd_spool, false },
	{ "metrics", "", "counters of all processes, as Prometheus reads them", cmd_metrics, false },
	{ "bench", "HOST:PORT [-c CLIENTS] [-n MESSAGES] [-s BYTES] [-m PER-CONNECTION] -t TO", "an SMTP load generator", cmd_bench, true },
	{ "test", "FILE…", "run scenario files in the simulated world", cmd_test, true },
	{ "version", "", "show the version", cmd_version, true },
	{ "help", "", "show this", cmd_help, true },
};
const size_t cli_commands_n = sizeof cli_commands / sizeof cli_commands[0];

static YIELDS int cmd_help(struct cli *c) /* yields: indirect */
{
	cli_printf(c, "godwit %s, a mail server\n\nusage: godwit COMMAND [-c FILE] [--json] …\n\n", GODWIT_VERSION);
	for (size_t i = 0; i < cli_commands_n; i++)
		cli_printf(c, "  %-9s %s\n            %s\n", cli_commands[i].name, cli_commands[i].help, cli_commands[i].arguments);
	cli_printf(c, "\nThe configuration is read from -c FILE, or the file that GODWIT_CONF names, or %s/godwit/godwit.conf.\n",
		   GODWIT_SYSCONFDIR);
	return 0;
}

YIELDS int cmd_version(struct cli *c) /* yields: indirect */
{
	cli_printf(c, "godwit %s (%s)\n", GODWIT_VERSION, GODWIT_BUILD_ID);
	return cli_no_more(c, 0);
}

static const struct command *find_command(struct cli *c, struct str name)
{
	const char *names[32], *near;
	for (size_t i = 0; i < cli_commands_n; i++) {
		names[i] = cli_commands[i].name;
		if (str_eq(name, str_z(names[i])))
			return &cli_commands[i];
	}
	near = conf_nearest(name, names, cli_commands_n);
	cli_fail(c, EXIT_USAGE, "there is no command '%.*s'%s%s%s See: godwit help", (int)(name.n < 40 ? name.n : 40), name.p,
		 near ? ": did you mean '" : ".", near ? near : "", near ? "'?" : "");
	return NULL;
}

static int load_conf(struct cli *c)
{
	struct conf_errors *errs = ARENA_NEW(&c->arena, struct conf_errors);
	if (!errs)
		return EXIT_OS;
	if (conf_load(c->w, c->conf_path, &c->arena, &c->conf, errs) == ERR_NONE) {
		c->conf_loaded = true;
		return 0;
	}
	struct buf b = buf_grow(c->mem, 1 << 20);
	conf_errors_add(&b, errs);
	enum err e = world_write(c->w, 2, buf_str(&b));
	buf_free(&b);
	return e == ERR_NONE ? EXIT_CONFIG : EXIT_IO;
}

struct run {
	struct cli *c;
	const struct command *cmd;
};

/* coroutine */
static void run_command(void *arg)
{
	struct run *r = arg;
	struct cli *c = r->c;
	scope_open(&c->channels, c->loop, NULL);
	int status = r->cmd->run(c);
	cli_flush(c);
	c->status = status ? status : c->status;
	if (c->control)
		ipc_close(c->control);
	scope_close(&c->channels);
}

static int run_in_loop(struct cli *c, const struct command *cmd)
{
	struct run r = { c, cmd };
	if (loop_new(c->w, &c->loop) != ERR_NONE)
		return EXIT_OS;
	loop_run(c->loop, run_command, &r);
	loop_free(c->loop);
	return c->status;
}

/* sendmail, mailq and newaliases are the same program by other names. */
static struct str command_name(struct cli *c, int argc, char **argv, int *first)
{
	struct str self = str_z(argv[0]);
	c->program = self;
	self = str_sub(self, str_rfind(self, '/') == self.n ? 0 : str_rfind(self, '/') + 1, self.n);
	*first = 1;
	if (str_eq(self, STR("sendmail")))
		return STR("send");
	if (str_eq(self, STR("mailq")))
		return STR("queue");
	if (str_eq(self, STR("newaliases")))
		return STR("version");
	*first = 2;
	return argc > 1 ? str_z(argv[1]) : STR("help");
}

static int run(struct cli *c, int argc, char **argv)
{
	int first;
	struct str name = command_name(c, argc, argv, &first);
	const struct command *cmd = find_command(c, name);
	if (!cmd)
		return EXIT_USAGE;
	for (int i = first; i < argc; i++) {
		if (c->args_n == CLI_ARGS_MAX)
			return cli_fail(c, EXIT_USAGE, "too many arguments: %u at most", CLI_ARGS_MAX);
		c->args[c->args_n++] = str_z(argv[i]);
	}
	bool is_bench = cmd->run == cmd_bench;
	struct str env = world_env(c->w, STR("GODWIT_CONF"));
	if (is_bench || !cli_option(c, "-c", &c->conf_path))
		c->conf_path = env.n ? env : STR(GODWIT_SYSCONFDIR "/godwit/godwit.conf");
	c->json = cli_option(c, "--json", NULL);
	if (!cmd->run) /* serve */
		return cli_no_more(c, 0) ? EXIT_USAGE : master_main(c->w, c->conf_path);
	if (!cmd->no_conf) {
		int status = load_conf(c);
		if (status)
			return status;
	}
	return run_in_loop(c, cmd);
}

int main(int argc, char **argv)
{
	struct world *w = world_linux_new();
	if (!w)
		return EXIT_OS;
	struct cli *c = mem_alloc(world_mem(w), sizeof *c);
	if (!c)
		return EXIT_OS;
	c->w = w;
	c->mem = world_mem(w);
	c->arena = arena_make(c->mem, ARENA_MAX);
	c->page = arena_make(c->mem, ARENA_MAX);
	c->out = buf_grow(c->mem, 65536);
	int status = run(c, argc, argv);
	cli_flush(c);
	buf_free(&c->out);
	arena_close(&c->page);
	arena_close(&c->arena);
	mem_free(c->mem, c);
	world_linux_free(w);
	return status;
}
