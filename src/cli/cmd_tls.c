/* SPDX-License-Identifier: Apache-2.0 */
/* godwit reload, and what check and status say of certificates. */
#include "cli/cli.h"
#include "keys/vault.h"

#define OTHERS_MAY_READ 0004u

void cli_print_certificates(struct cli *c, const struct certificate_status *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct certificate_status *s = &list[i];
		cli_printf(c, "certificate %.*s: ", STR_ARG(s->file));
		if (s->expires_ms) {
			cli_printf(c, "for %.*s until ", STR_ARG(s->names));
			cli_print_time(c, s->expires_ms);
		} else {
			cli_print(c, STR("none in use"));
		}
		if (s->text.n)
			cli_printf(c, "; what is in the files now is not used: %.*s", STR_ARG(s->text));
		cli_print(c, STR("\n"));
	}
}

int cmd_reload(struct cli *c)
{
	struct master_reload_out out;
	if (cli_no_more(c, 0))
		return EXIT_USAGE;
	enum err e = CLI_CALL(c, CALL_MASTER_RELOAD, master_reload, &(struct master_reload_in){ 0 }, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	cli_print_certificates(c, out.certificates, out.certificates_n);
	if (!out.accounts_good)
		return cli_fail(c, EXIT_CONFIG, "a file of accounts cannot be used; what was read before stays in use: the server's log says why");
	cli_print(c, STR("certificates, keys and files of accounts were read again; for the rest of the configuration restart the server\n"));
	return out.good ? 0 : EXIT_CONFIG;
}

static enum err read_file(struct cli *c, struct str path, struct str *out, unsigned *mode_out)
{
	struct world_stat st;
	int fd;
	TRY(world_open(c->w, WORLD_ABSOLUTE, path, WORLD_READ, 0, &fd));
	enum err e = world_stat(c->w, fd, &st);
	*mode_out = st.mode;
	world_close(c->w, fd);
	TRY(e);
	struct buf b = buf_grow(c->mem, VAULT_FILE_MAX + 2);
	e = world_read_file(c->w, WORLD_ABSOLUTE, path, VAULT_FILE_MAX, &b);
	*out = arena_str(&c->arena, buf_str(&b));
	buf_free(&b);
	return e == ERR_NONE ? arena_err(&c->arena) : e;
}

static int check_pair(struct cli *c, struct vault *v, const struct conf_certificate *pair)
{
	struct str certificate, key;
	struct vault_report report;
	unsigned mode;
	enum err e = read_file(c, pair->certificate, &certificate, &mode);
	if (e != ERR_NONE)
		return cli_fail(c, EXIT_CONFIG, "%.*s cannot be read: %s", STR_ARG(pair->certificate), err_name(e));
	e = read_file(c, pair->key, &key, &mode);
	if (e != ERR_NONE)
		return cli_fail(c, EXIT_CONFIG, "%.*s cannot be read: %s", STR_ARG(pair->key), err_name(e));
	if (mode & OTHERS_MAY_READ)
		return cli_fail(c, EXIT_CONFIG, "everybody on this machine can read the private key %.*s: chmod 600 it", STR_ARG(pair->key));
	e = vault_load(v, 0, certificate, key, &c->arena, &report);
	if (e != ERR_NONE)
		return cli_fail(c, EXIT_CONFIG, "%.*s and %.*s: %.*s", STR_ARG(pair->certificate), STR_ARG(pair->key),
				STR_ARG(report.text.n ? report.text : str_z(err_name(e))));
	if (report.expires_ms < world_wall_ms(c->w))
		return cli_fail(c, EXIT_CONFIG, "the certificate %.*s has expired", STR_ARG(pair->certificate));
	return 0;
}

int cli_check_certificates(struct cli *c)
{
	struct vault *v;
	int status = 0;
	if (c->conf.tls.certificates_n == 0)
		return 0;
	if (vault_new(c->w, &v) != ERR_NONE)
		return EXIT_OS;
	for (size_t i = 0; i < c->conf.tls.certificates_n; i++) {
		int one = check_pair(c, v, &c->conf.tls.certificates[i]);
		status = one ? one : status;
	}
	vault_free(v);
	return status;
}
