/* SPDX-License-Identifier: Apache-2.0 */
/* godwit send, also as sendmail: a message from standard input into the queue. Line ends become CRLF. */
#include "cli/cli.h"

#define MESSAGE_MAX ((size_t)64 << 20)
#define PIECE 57344u

static void to_crlf(struct str from, struct buf *to)
{
	while (from.n > 0) {
		size_t lf = str_find(from, '\n');
		struct str line = str_sub(from, 0, lf);
		bool complete = lf < from.n;
		from = str_sub(from, lf + 1, from.n);
		if (str_ends(line, STR("\r")))
			line.n--;
		buf_add(to, line);
		if (complete || line.n)
			buf_add(to, STR("\r\n"));
	}
}

/* Addresses of the To, Cc and Bcc fields (sendmail -t): what stands in <>, or the whole item. */
static size_t header_recipients(struct cli *c, struct str message, struct target_address *to, size_t max)
{
	size_t n = 0;
	bool in_field = false;
	while (message.n > 0) {
		struct str list, line = str_split(message, '\n', &message);
		if (str_trim(line).n == 0 || str_eq(line, STR("\r")))
			break;
		if (line.p[0] != ' ' && line.p[0] != '\t') {
			in_field = str_starts_nocase(line, STR("to:")) || str_starts_nocase(line, STR("cc:")) || str_starts_nocase(line, STR("bcc:"));
			(void)str_split(line, ':', &list);
		} else {
			list = line;
		}
		while (in_field && list.n > 0 && n < max) {
			struct str one = str_trim(str_split(list, ',', &list));
			size_t open = str_rfind(one, '<'), close = str_rfind(one, '>');
			one = open < close && close < one.n ? str_sub(one, open + 1, close) : str_trim(one);
			if (str_ends(one, STR("\r")))
				one = str_trim(str_sub(one, 0, one.n - 1));
			if (one.n)
				to[n++].address = arena_str(&c->arena, one);
		}
	}
	return n;
}

static YIELDS int send(struct cli *c, struct send_message_in *in, struct str bytes)
{
	struct send_message_out out = { 0 };
	do {
		in->bytes = str_sub(bytes, 0, PIECE);
		bytes = str_sub(bytes, PIECE, bytes.n);
		in->last = bytes.n == 0;
		enum err e = CLI_CALL(c, CALL_SEND_MESSAGE, send_message, in, &out);
		if (e != ERR_NONE)
			return cli_call_failed(c, e);
		in->id = out.id;
	} while (bytes.n > 0 && out.code == 0);
	if (out.code != 250)
		return cli_fail(c, out.code < 500 ? EXIT_TEMPORARY : EXIT_NO_USER, "%u %.*s", out.code, STR_ARG(out.text));
	return 0;
}

int cmd_send(struct cli *c)
{
	struct target_address *to = ARENA_ARRAY(&c->arena, struct target_address, 100);
	struct send_message_in in = { .recipients = to };
	struct str ignored;
	bool from_header = cli_option(c, "-t", NULL);
	(void)cli_option(c, "-f", &in.reverse_path);
	(void)cli_option(c, "-F", &ignored); /* sendmail's full name */
	(void)(cli_option(c, "-i", NULL) || cli_option(c, "-oi", NULL));
	if (!to)
		return EXIT_OS;
	if (c->args_n > 0 && str_eq(c->args[0], STR("--")))
		memmove(c->args, c->args + 1, --c->args_n * sizeof c->args[0]);
	if (c->args_n > 100)
		return cli_fail(c, EXIT_USAGE, "at most 100 recipients");
	for (size_t i = 0; i < c->args_n; i++)
		to[in.recipients_n++].address = c->args[i];
	struct buf raw = buf_grow(c->mem, MESSAGE_MAX + 2), bytes = buf_grow(c->mem, MESSAGE_MAX);
	enum err e = world_read_file(c->w, WORLD_ABSOLUTE, STR("/dev/stdin"), MESSAGE_MAX, &raw);
	to_crlf(buf_str(&raw), &bytes);
	if (e == ERR_NONE)
		e = buf_err(&bytes);
	if (from_header)
		in.recipients_n += header_recipients(c, buf_str(&bytes), to + in.recipients_n, 100 - in.recipients_n);
	int status = e != ERR_NONE ? cli_fail(c, EXIT_DATA, "cannot read the message: %s", err_name(e)) :
		in.recipients_n == 0 ? cli_fail(c, EXIT_USAGE, "to whom? godwit send [-f FROM] TO… < MESSAGE") :
		send(c, &in, buf_str(&bytes));
	buf_free(&raw);
	buf_free(&bytes);
	return status;
}
