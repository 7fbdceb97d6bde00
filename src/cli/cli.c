/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share: see cli.h. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clockfmt.h"

#define OUT_MAX 65536u

void cli_flush(struct cli *c)
{
	if (c->out.n && world_write(c->w, 1, buf_str(&c->out)) != ERR_NONE)
		c->status = EXIT_IO; /* the reader went away */
	buf_clear(&c->out);
}

void cli_print(struct cli *c, struct str s)
{
	if (c->out.n + s.n > OUT_MAX)
		cli_flush(c);
	if (s.n > OUT_MAX) {
		if (world_write(c->w, 1, s) != ERR_NONE)
			c->status = EXIT_IO;
		return;
	}
	buf_add(&c->out, s);
}

void cli_printf(struct cli *c, const char *fmt, ...)
{
	char text[4096];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	cli_print(c, str_of(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
}

void cli_print_safe(struct cli *c, struct str s)
{
	struct buf b = buf_grow(c->mem, 4 * s.n + 16);
	buf_add_safe(&b, s, s.n);
	cli_print(c, buf_str(&b));
	buf_free(&b);
}

void cli_print_json(struct cli *c, struct str s)
{
	bool utf8 = str_is_utf8(s);
	struct buf b = buf_grow(c->mem, 6 * s.n + 16);
	buf_add_char(&b, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char x = (unsigned char)s.p[i];
		if (x == '"' || x == '\\') {
			buf_add_char(&b, '\\');
			buf_add_char(&b, (char)x);
		} else if (x < 0x20 || x == 0x7f || (x >= 0x80 && !utf8)) {
			buf_add(&b, STR("\\u"));
			buf_add_hex(&b, x, 4);
		} else {
			buf_add_char(&b, (char)x);
		}
	}
	buf_add_char(&b, '"');
	cli_print(c, buf_str(&b));
	buf_free(&b);
}

void cli_print_time(struct cli *c, int64_t wall_ms)
{
	char text[40];
	struct buf b = buf_fixed(text, sizeof text);
	date_add_rfc3339(&b, wall_ms);
	cli_print(c, buf_str(&b));
}

int cli_fail(struct cli *c, int code, const char *fmt, ...)
{
	char text[4096];
	va_list args;
	cli_flush(c);
	int n = snprintf(text, sizeof text, "godwit: ");
	va_start(args, fmt);
	int more = vsnprintf(text + n, sizeof text - (size_t)n - 1, fmt, args);
	va_end(args);
	size_t length = (size_t)n + (more > 0 ? (size_t)more : 0);
	length = length < sizeof text - 1 ? length : sizeof text - 2;
	text[length++] = '\n';
	if (world_write(c->w, 2, str_of(text, length)) != ERR_NONE)
		return EXIT_IO;
	return code;
}

bool cli_option(struct cli *c, const char *name, struct str *value_out)
{
	for (size_t i = 0; i < c->args_n; i++) {
		if (str_eq(c->args[i], STR("--")))
			return false;
		if (!str_eq(c->args[i], str_z(name)))
			continue;
		size_t take = value_out && i + 1 < c->args_n ? 2 : 1;
		if (value_out)
			*value_out = take == 2 ? c->args[i + 1] : STR("");
		memmove(&c->args[i], &c->args[i + take], (c->args_n - i - take) * sizeof c->args[0]);
		c->args_n -= take;
		return true;
	}
	return false;
}

int cli_no_more(struct cli *c, size_t from)
{
	if (c->args_n <= from)
		return 0;
	return cli_fail(c, EXIT_USAGE, "what is '%.*s'? See: godwit help", STR_ARG(c->args[from]));
}

static void connection_closed(void *self, struct ipc *ch UNUSED)
{
	struct cli *c = self;
	c->control = NULL;
}

enum err cli_connect(struct cli *c)
{
	int fd;
	if (c->control)
		return ipc_is_open(c->control) ? ERR_NONE : ERR_CLOSED; /* on its way to on_closed */
	struct str path = arena_strf(&c->arena, "%.*s/control.sock", STR_ARG(c->conf.run));
	TRY(arena_err(&c->arena));
	TRY(world_connect_path(c->w, path, &fd));
	struct ipc_config cfg = { .loop = c->loop, .scope = &c->channels, .fd = fd, .peer_role = ROLE_CONTROL,
				  .arena_max = 65536, .self = c, .on_closed = connection_closed };
	return ipc_open(&cfg, &c->control);
}

enum err cli_call(struct cli *c, uint16_t type, struct ipc_writer *in, struct ipc_reader *out)
{
	TRY(buf_err(&in->b));
	TRY(cli_connect(c));
	struct control_call_in call = { .type = type, .bytes = buf_str(&in->b) };
	struct control_call_out answer;
	TRY(call_control_call(c->control, &call, &c->page, &answer));
	out->c = cursor_of(answer.bytes);
	return ERR_NONE;
}

int cli_call_failed(struct cli *c, enum err e)
{
	switch (e) {
	case ERR_NOT_FOUND:
	case ERR_CLOSED:
		return cli_fail(c, EXIT_UNAVAILABLE, "no server runs with this configuration (%.*s); start it with: godwit serve",
				STR_ARG(c->conf_path));
	case ERR_DENIED:
		return cli_fail(c, EXIT_PERMISSION, "not permitted: the control socket in %.*s belongs to another user or group",
				STR_ARG(c->conf.run));
	case ERR_BUSY:
		return cli_fail(c, EXIT_TEMPORARY, "the server is too busy for the moment; try again");
	default:
		return cli_fail(c, EXIT_SOFTWARE, "the server answered: %s", err_name(e));
	}
}
