/* SPDX-License-Identifier: Apache-2.0 */
/* godwit spool verify|dump|recover: the spool of a stopped server, read under its owner's user. */
#include "cli/cli.h"
#include "queue/spool_tools.h"

static void print_line(void *arg, struct str text)
{
	cli_print(arg, text);
	cli_print(arg, STR("\n"));
}

static int failed(struct cli *c, enum err e)
{
	if (e == ERR_BUSY)
		return cli_fail(c, EXIT_TEMPORARY, "the spool is in use: stop the server first (godwit stop)");
	if (e == ERR_EXISTS)
		return cli_fail(c, EXIT_CANT_CREATE, "there are files of an earlier recovery: name an empty directory");
	if (e == ERR_NOT_FOUND)
		return cli_fail(c, EXIT_DATA, "there is no spool in %.*s", STR_ARG(c->conf.spool));
	return cli_fail(c, e == ERR_DENIED ? EXIT_PERMISSION : EXIT_IO, "cannot read the spool in %.*s: %s",
			STR_ARG(c->conf.spool), err_name(e));
}

/* The recovered files go where the operator says, so this runs as who called; the others as the spool's owner. */
static enum err run(struct cli *c, struct str what, const struct spool_printer *to, struct spool_summary *sum)
{
	if (str_eq(what, STR("recover")))
		return spool_recover_to(c->w, c->conf.spool, c->args[1], to, sum);
	TRY(world_change_user(c->w, c->conf.users.uid_queue, 0));
	return str_eq(what, STR("verify")) ? spool_verify(c->w, c->conf.spool, to, sum) :
		spool_dump(c->w, c->conf.spool, to, sum);
}

YIELDS int cmd_spool(struct cli *c) /* yields: indirect */
{
	struct spool_printer to = { c, print_line };
	struct spool_summary sum = { 0 };
	struct str what = c->args_n ? c->args[0] : STR("");
	bool recover = str_eq(what, STR("recover"));
	if (!recover && !str_eq(what, STR("verify")) && !str_eq(what, STR("dump")))
		return cli_fail(c, EXIT_USAGE, "usage: godwit spool verify|dump, or godwit spool recover DIRECTORY");
	if (c->args_n != (recover ? 2 : 1))
		return cli_fail(c, EXIT_USAGE, recover ? "recover into which directory?" : "this takes no argument");
	enum err e = run(c, what, &to, &sum);
	if (e != ERR_NONE)
		return failed(c, e);
	cli_printf(c, "%llu segments, %llu records, %llu messages, %llu of them live (%llu bytes, %llu body files)\n",
		   (unsigned long long)sum.segments, (unsigned long long)sum.records, (unsigned long long)sum.messages,
		   (unsigned long long)sum.live, (unsigned long long)sum.live_bytes, (unsigned long long)sum.bodies);
	if (recover)
		cli_printf(c, "%llu messages written, %llu could not be read\n", (unsigned long long)sum.written,
			   (unsigned long long)sum.failed);
	if (sum.torn)
		cli_printf(c, "%llu unfinished ends, which a crash leaves and nobody was promised\n", (unsigned long long)sum.torn);
	if (sum.damaged)
		return cli_fail(c, EXIT_DATA, "%llu places are damaged; what is above can be saved with: godwit spool recover DIRECTORY",
				(unsigned long long)sum.damaged);
	cli_print(c, STR("no damage\n"));
	return 0;
}
