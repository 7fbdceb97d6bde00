/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `godwit`: what its subcommands share. It talks to control's socket; where no server runs,
 * what can be done at rest is done by the same code under the role's user. Output is for people, or
 * JSON with --json. Exit codes follow sysexits.h.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/arena.h"
#include "conf/conf.h"
#include "ipc/calls.h"

enum exit_code { EXIT_OK = 0, EXIT_USAGE = 64, EXIT_DATA = 65, EXIT_NO_USER = 67, EXIT_UNAVAILABLE = 69, EXIT_SOFTWARE = 70,
		 EXIT_OS = 71, EXIT_CANT_CREATE = 73, EXIT_IO = 74, EXIT_TEMPORARY = 75, EXIT_PERMISSION = 77, EXIT_CONFIG = 78 };

#define CLI_ARGS_MAX 4096u

struct cli {
	struct world *w;
	struct mem *mem;
	struct loop *loop;
	struct arena arena;	       /* the configuration; as long as the command */
	struct arena page;	       /* what calls answered; may be closed between calls */
	struct str args[CLI_ARGS_MAX]; /* after the subcommand, options taken out */
	size_t args_n;
	struct str program;	       /* argv[0] */
	struct str conf_path;
	struct conf conf;
	bool conf_loaded, json;
	struct ipc *control;	       /* NULL: not connected */
	struct scope channels;
	struct buf out;
	int status;
};

struct command {
	const char *name, *arguments, *help;
	YIELDS int (*run)(struct cli *c);
	bool no_conf; /* works without a configuration */
};
extern const struct command cli_commands[];
extern const size_t cli_commands_n;

/* Printing; c->out is written out as it grows and at the end. */
void cli_print(struct cli *c, struct str s);
void cli_printf(struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Text of a stranger's: what is not printable ASCII becomes \xHH. */
void cli_print_safe(struct cli *c, struct str s);
void cli_print_json(struct cli *c, struct str s); /* with quotes */
void cli_print_time(struct cli *c, int64_t wall_ms);
void cli_flush(struct cli *c);
/* "godwit: …\n" on standard error; returns code. */
int cli_fail(struct cli *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Takes `name` (and its value, if value_out) out of the arguments. */
bool cli_option(struct cli *c, const char *name, struct str *value_out);
/* Refuses what is left over: EXIT_USAGE, or 0. */
int cli_no_more(struct cli *c, size_t from);

/* Connects to control (at once, or not at all); ERR_NOT_FOUND or ERR_CLOSED when no server runs. */
enum err cli_connect(struct cli *c) MUST_CHECK;
/* For CLI_CALL: sends encoded bytes through control. */
YIELDS enum err cli_call(struct cli *c, uint16_t type, struct ipc_writer *in, struct ipc_reader *out) MUST_CHECK;
/* Why a call failed, in words; returns the exit code. */
int cli_call_failed(struct cli *c, enum err e);

/* A call by name through control: in and out are the structs of calls.h. Evaluates to an enum err. */
#define CLI_CALL(c, type, name, in, out)                                                           \
	({                                                                                         \
		struct ipc_writer w_ = { .b = buf_grow((c)->mem, IPC_FRAME_MAX) };                 \
		struct ipc_reader r_ = { .arena = &(c)->page };                                   \
		name##_in_put(&w_, (in));                                                          \
		enum err e_ = cli_call((c), (type), &w_, &r_);                                     \
		if (e_ == ERR_NONE)                                                                \
			e_ = name##_out_get(&r_, (out));                                           \
		buf_free(&w_.b);                                                                   \
		e_;                                                                                \
	})

struct certificate_status;
void cli_print_certificates(struct cli *c, const struct certificate_status *list, size_t n);
/* Whether the configuration's certificates and keys can be used; says what is wrong. An exit code. */
int cli_check_certificates(struct cli *c);

/* The subcommands. */
YIELDS int cmd_check(struct cli *c);
YIELDS int cmd_stop(struct cli *c);
YIELDS int cmd_status(struct cli *c);
YIELDS int cmd_reload(struct cli *c);
YIELDS int cmd_setup(struct cli *c);
YIELDS int cmd_records(struct cli *c);
YIELDS int cmd_metrics(struct cli *c);
YIELDS int cmd_send(struct cli *c);
YIELDS int cmd_queue(struct cli *c);
YIELDS int cmd_trace(struct cli *c);
YIELDS int cmd_account(struct cli *c);
YIELDS int cmd_domain(struct cli *c);
YIELDS int cmd_alias(struct cli *c);
YIELDS int cmd_spool(struct cli *c);
YIELDS int cmd_bench(struct cli *c);
YIELDS int cmd_test(struct cli *c);
YIELDS int cmd_explain(struct cli *c);
YIELDS int cmd_dns(struct cli *c);
YIELDS int cmd_version(struct cli *c);

#endif
