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

/* Of sendmail's options: -fADDRESS in one word; -i and -o… change nothing here. */
static void take_sendmail_options(struct cli *c, struct str *reverse_path)
{
	size_t n = 0;
	for (size_t i = 0; i < c->args_n; i++) {
		struct str arg = c->args[i];
		if (str_eq(arg, STR("--"))) { /* from here on addresses */
			while (++i < c->args_n)
				c->args[n++] = c->args[i];
			break;
		}
		if (str_starts(arg, STR("-f")))
			*reverse_path = str_sub(arg, 2, arg.n);
		else if (!str_eq(arg, STR("-i")) && !str_starts(arg, STR("-o")))
			c->args[n++] = arg;
	}
	c->args_n = n;
}

int cmd_send(struct cli *c)
{
	struct target_address *to = ARENA_ARRAY(&c->arena, struct target_address, 100);
	struct send_message_in in = { .recipients = to };
	struct str ignored;
	bool from_header = cli_option(c, "-t", NULL);
	(void)cli_option(c, "-f", &in.reverse_path);
	(void)cli_option(c, "-F", &ignored); /* sendmail's full name */
	take_sendmail_options(c, &in.reverse_path);
	if (!to)
		return EXIT_OS;
	if (c->args_n > 100)
		return cli_fail(c, EXIT_USAGE, "at most 100 recipients");
	for (size_t i = 0; i < c->args_n; i++)
		to[in.recipients_n++].address = c->args[i];
	struct buf raw = buf_grow(c->mem, MESSAGE_MAX + 2), bytes = buf_grow(c->mem, MESSAGE_MAX);
	enum err e = world_read_all(c->w, 0, MESSAGE_MAX, &raw); /* not by name: it may be another user's pipe, or a socket */
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
