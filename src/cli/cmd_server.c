/* SPDX-License-Identifier: Apache-2.0 */
/* godwit check, stop, status, metrics, test. */
#include "cli/cli.h"

#define STOP_WAIT_NS (90 * 1000000000LL)

YIELDS int cmd_check(struct cli *c) /* yields: indirect */
{
	struct buf b = buf_grow(c->mem, 1 << 20);
	if (cli_option(c, "--manual", NULL)) {
		conf_manual_add(&b);
		cli_print(c, buf_str(&b));
		buf_free(&b);
		return cli_no_more(c, 0);
	}
	if (c->args_n == 1) /* godwit check FILE */
		c->conf_path = c->args[--c->args_n];
	if (cli_no_more(c, 0))
		return EXIT_USAGE;
	struct conf_errors *errs = ARENA_NEW(&c->arena, struct conf_errors);
	enum err e = errs ? conf_load(c->w, c->conf_path, &c->arena, &c->conf, errs) : ERR_NO_MEMORY;
	if (e == ERR_NONE)
		e = conf_check_files(c->w, &c->arena, errs);
	if (e == ERR_NONE) {
		int status = cli_check_certificates(c);
		if (status)
			return status;
		cli_printf(c, "%.*s is fine: %zu listeners, %zu domains\n", STR_ARG(c->conf_path), c->conf.listeners_n,
			   c->conf.domains_n);
		return 0;
	}
	if (errs) {
		conf_errors_add(&b, errs);
		if (world_write(c->w, 2, buf_str(&b)) != ERR_NONE)
			e = ERR_IO;
	}
	buf_free(&b);
	return EXIT_CONFIG;
}

int cmd_stop(struct cli *c)
{
	struct master_stop_out out;
	if (cli_no_more(c, 0))
		return EXIT_USAGE;
	enum err e = CLI_CALL(c, CALL_MASTER_STOP, master_stop, &(struct master_stop_in){ 0 }, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	co_set_deadline(world_mono_ns(c->w) + STOP_WAIT_NS);
	/* Control is the last to go: its end is the server's. */
	while (c->control)
		if (co_sleep_until(world_mono_ns(c->w) + 20 * 1000000LL) != ERR_NONE)
			return cli_fail(c, EXIT_TEMPORARY, "the server is still stopping");
	cli_print(c, STR("stopped\n"));
	return 0;
}

int cmd_status(struct cli *c)
{
	struct master_status_out out;
	if (cli_no_more(c, 0))
		return EXIT_USAGE;
	enum err e = CLI_CALL(c, CALL_MASTER_STATUS, master_status, &(struct master_status_in){ 0 }, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	if (c->json)
		cli_print(c, STR("["));
	for (size_t i = 0; i < out.processes_n; i++) {
		const struct proc_status *p = &out.processes[i];
		if (c->json)
			cli_printf(c, "%s{\"role\":\"%s\",\"index\":%u,\"pid\":%u,\"state\":\"%.*s\",\"restarts\":%u,\"uptime_ms\":%llu}",
				   i ? "," : "", role_name(p->role), p->index, p->pid, STR_ARG(p->state), p->restarts, (unsigned long long)p->uptime_ms);
		else
			cli_printf(c, "%-8s %2u  pid %-7u %-9.*s restarts %-3u up %llu s\n", role_name(p->role), p->index, p->pid,
				   STR_ARG(p->state), p->restarts, (unsigned long long)(p->uptime_ms / 1000));
	}
	if (c->json)
		cli_print(c, STR("]\n"));
	else
		cli_print_certificates(c, out.certificates, out.certificates_n);
	return 0;
}

int cmd_metrics(struct cli *c)
{
	struct control_metrics_out out;
	if (cli_no_more(c, 0))
		return EXIT_USAGE;
	enum err e = CLI_CALL(c, CALL_CONTROL_METRICS, control_metrics, &(struct control_metrics_in){ 0 }, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	cli_print(c, out.text);
	return 0;
}

YIELDS int cmd_test(struct cli *c) /* yields: indirect */
{
	if (c->args_n == 0)
		return cli_fail(c, EXIT_USAGE, "usage: godwit test FILE…");
	enum err e = world_exec(c->w, STR("godwit-sim"), c->args, c->args_n);
	return cli_fail(c, EXIT_UNAVAILABLE, "cannot run godwit-sim: %s", err_name(e));
}
