/* SPDX-License-Identifier: Apache-2.0 */
/*
 * godwit setup and records: from a domain name to a configuration, a certificate, a first account and the DNS
 * records. Says what it will do, does it only when told to, never overwrites a file, and takes away what it has
 * made when a later step fails.
 */
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/records.h"
#include "keys/vault.h"
#include "lookup/auth.h"
#include "lookup/lookup.h"
#include "master/certificates.h"
#include "master/dirs.h"
#include "smtp/address.h"

#define TEXT_MAX 16384u
#define MADE_MAX 8u

struct setup {
	struct cli *c;
	struct records r;
	struct str account, directory, listen, zone, log;
	bool yes, behind_nat;
	struct str made[MADE_MAX]; /* files, to be taken away again */
	size_t made_n;
	struct buf told; /* all that was printed: the log */
};

static void say(struct setup *s, struct str text)
{
	cli_print(s->c, text);
	buf_add(&s->told, text);
}

static void sayf(struct setup *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void sayf(struct setup *s, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	say(s, str_of(text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
}

/* ---- what is asked for -------------------------------------------------------------------------------- */

static struct str lower(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);
	for (size_t i = 0; p && i < s.n; i++)
		p[i] = ascii_lower(s.p[i]);
	return p ? str_of(p, s.n) : STR_NONE;
}

static int take_ips(struct cli *c, struct records *r)
{
	struct str text;
	while (cli_option(c, "--ip", &text)) {
		struct ip ip;
		if (ip_parse(text, &ip) != ERR_NONE)
			return cli_fail(c, EXIT_USAGE, "'%.*s' is not an IP address", STR_ARG(text));
		if (r->ips_n < RECORDS_IPS_MAX)
			r->ips[r->ips_n++] = ip;
	}
	return 0;
}

static int take_ports(struct setup *s, struct str text)
{
	uint16_t *const to[] = { &s->r.smtp_port, &s->r.submission_port, &s->r.submissions_port };
	for (size_t i = 0; i < 3; i++) {
		uint64_t port = 0;
		if (str_to_u64(str_split(text, ',', &text), 65535, &port) != ERR_NONE || port == 0)
			return cli_fail(s->c, EXIT_USAGE, "--ports takes three numbers: SMTP, submission, submissions; usually 25,587,465");
		*to[i] = (uint16_t)port;
	}
	return 0;
}

static struct str beside(struct setup *s, struct str name)
{
	struct str conf = s->c->conf_path;
	size_t slash = str_rfind(conf, '/');
	return arena_strf(&s->c->arena, "%.*s%.*s", (int)(slash < conf.n ? slash + 1 : 0), conf.p, STR_ARG(name));
}

static int take_names(struct setup *s, struct str hostname, struct str account)
{
	struct cli *c = s->c;
	s->r.domain = lower(&c->arena, c->args[0]);
	s->r.hostname = hostname.n ? lower(&c->arena, hostname) : arena_strf(&c->arena, "mx.%.*s", STR_ARG(s->r.domain));
	if (!smtp_domain_is_valid(s->r.domain) || str_find(s->r.domain, '.') == s->r.domain.n)
		return cli_fail(c, EXIT_DATA, "'%.*s' is not a domain name", STR_ARG(s->r.domain));
	if (!smtp_domain_is_valid(s->r.hostname))
		return cli_fail(c, EXIT_DATA, "'%.*s' is not a host name", STR_ARG(s->r.hostname));
	struct str whole = str_find(account, '@') < account.n ? account : arena_strf(&c->arena, "%.*s@%.*s", STR_ARG(account), STR_ARG(s->r.domain));
	if (smtp_address_canonical(whole, &c->arena, &s->account) != ERR_NONE)
		return cli_fail(c, EXIT_DATA, "'%.*s' is not an address", STR_ARG(whole));
	s->zone = beside(s, arena_strf(&c->arena, "%.*s.zone", STR_ARG(s->r.domain)));
	s->log = beside(s, arena_strf(&c->arena, "setup-%.*s.log", STR_ARG(s->r.domain)));
	return 0;
}

static int take_arguments(struct setup *s)
{
	struct cli *c = s->c;
	struct str hostname = STR(""), account = STR("postmaster"), ports = STR("25,587,465");
	(void)cli_option(c, "--hostname", &hostname);
	(void)cli_option(c, "--account", &account);
	(void)cli_option(c, "--directory", &s->directory);
	(void)cli_option(c, "--listen", &s->listen);
	(void)cli_option(c, "--ports", &ports);
	s->yes = cli_option(c, "--yes", NULL);
	int status = take_ips(c, &s->r);
	if (status == 0)
		status = take_ports(s, ports);
	if (status == 0 && c->args_n != 1)
		return cli_fail(c, EXIT_USAGE, "usage: godwit setup DOMAIN [--hostname NAME] [--ip ADDRESS]… [--account NAME] [--directory DIR]\n"
				"       [--listen ADDRESS] [--ports SMTP,SUBMISSION,SUBMISSIONS] [-c FILE] [--yes]");
	if (status == 0 && s->directory.n && s->directory.p[0] != '/')
		return cli_fail(c, EXIT_USAGE, "--directory takes an absolute path");
	return status ? status : take_names(s, hostname, account);
}

/* The address that packets to the Internet leave from; none is sent. */
static void find_address(struct setup *s, struct str towards)
{
	struct ip to, own;
	int fd;
	if (ip_parse_port(towards, &to) != ERR_NONE || world_udp_open(s->c->w, &to, &fd) != ERR_NONE)
		return;
	if (world_local_addr(s->c->w, fd, &own) == ERR_NONE) {
		own.port = 0;
		if (records_is_private(&own))
			s->behind_nat = own.family == IP_V4 || s->behind_nat;
		else if (s->r.ips_n < RECORDS_IPS_MAX)
			s->r.ips[s->r.ips_n++] = own;
	}
	world_close(s->c->w, fd);
}

/* ---- the steps ----------------------------------------------------------------------------------------------- */

static struct str configuration(struct setup *s)
{
	struct buf b = buf_fixed(arena_alloc(&s->c->arena, TEXT_MAX), TEXT_MAX);
	const char *l = arena_z(&s->c->arena, s->listen);
	buf_addf(&b, "# Made by godwit setup. All directives: docs/configuration.md, or godwit check --manual.\n\n");
	buf_addf(&b, "hostname %.*s;\n", STR_ARG(s->r.hostname));
	if (s->directory.n)
		buf_addf(&b, "directory \"%.*s\";\n", STR_ARG(s->directory));
	buf_addf(&b, "\nlisten smtp        { address %s:%u; }\n", l, s->r.smtp_port);
	buf_addf(&b, "listen submission  { address %s:%u; auth required; }\n", l, s->r.submission_port);
	buf_addf(&b, "listen submissions { address %s:%u; auth required; tls implicit; }\n", l, s->r.submissions_port);
	buf_addf(&b, "\n# A certificate that others trust, for mail programs; other servers are content with the one that was made:\n");
	buf_addf(&b, "# tls { certificate /etc/letsencrypt/live/%.*s/fullchain.pem; key /etc/letsencrypt/live/%.*s/privkey.pem; }\n", STR_ARG(s->r.hostname),
		 STR_ARG(s->r.hostname));
	buf_addf(&b, "\ndomain %.*s { }\n", STR_ARG(s->r.domain));
	return buf_err(&b) == ERR_NONE ? buf_str(&b) : STR_NONE;
}

static void plan(struct setup *s)
{
	sayf(s, "godwit setup for %.*s\n\n", STR_ARG(s->r.domain));
	sayf(s, "  server name     %.*s\n", STR_ARG(s->r.hostname));
	for (size_t i = 0; i < s->r.ips_n; i++) {
		char room[IP_TEXT_MAX];
		struct buf b = buf_fixed(room, sizeof room);
		ip_add(&b, &s->r.ips[i]);
		sayf(s, "  its address     %.*s\n", STR_ARG(buf_str(&b)));
	}
	if (s->r.ips_n == 0)
		sayf(s, "  its address     unknown%s: give it with --ip\n", s->behind_nat ? "; this machine has a private one, behind NAT" : "");
	sayf(s, "  configuration   %.*s\n", STR_ARG(s->c->conf_path));
	sayf(s, "  everything else %.*s\n", s->directory.n ? (int)s->directory.n : 37, s->directory.n ? s->directory.p : "below /var/spool, /var/lib and /var/mail");
	sayf(s, "  first account   %.*s, with a password that is shown once\n", STR_ARG(s->account));
	sayf(s, "  DNS records     %.*s\n  what was said   %.*s\n\n", STR_ARG(s->zone), STR_ARG(s->log));
}

static int failed(struct setup *s, const char *what, struct str path, enum err e)
{
	return cli_fail(s->c, EXIT_CANT_CREATE, "%s %.*s: %s%s", what, STR_ARG(path), err_name(e),
			e == ERR_EXISTS ? "; setup overwrites nothing: move it away, or use another name" : "");
}

static int write_new(struct setup *s, struct str path, struct str text, unsigned mode)
{
	int fd;
	enum err e = text.p ? world_open(s->c->w, WORLD_ABSOLUTE, path, WORLD_WRITE | WORLD_CREATE | WORLD_EXCL, mode, &fd) : ERR_NO_MEMORY;
	if (e != ERR_NONE)
		return failed(s, "cannot make", path, e);
	s->made[s->made_n++] = path;
	e = world_pwritev(s->c->w, fd, &text, 1, 0);
	if (e == ERR_NONE)
		e = world_sync(s->c->w, fd);
	world_close(s->c->w, fd);
	return e == ERR_NONE ? 0 : failed(s, "cannot write", path, e);
}

static void undo(struct setup *s)
{
	while (s->made_n > 0) {
		struct str path = s->made[--s->made_n];
		if (world_unlink(s->c->w, WORLD_ABSOLUTE, path) == ERR_NONE)
			sayf(s, "removed %.*s again\n", STR_ARG(path));
	}
}

static int load(struct setup *s)
{
	struct cli *c = s->c;
	struct conf_errors *errs = ARENA_NEW(&c->arena, struct conf_errors);
	if (errs && conf_load(c->w, c->conf_path, &c->arena, &c->conf, errs) == ERR_NONE)
		return 0;
	struct buf b = buf_grow(c->mem, 65536);
	if (errs)
		conf_errors_add(&b, errs);
	(void)!world_write(c->w, 2, buf_str(&b));
	buf_free(&b);
	return EXIT_CONFIG;
}

static bool read_key_digest(struct cli *c, struct str path, struct records *r)
{
	struct buf b = buf_grow(c->mem, VAULT_FILE_MAX + 2);
	bool good = r->keys_n < RECORDS_KEYS_MAX && world_read_file(c->w, WORLD_ABSOLUTE, path, VAULT_FILE_MAX, &b) == ERR_NONE &&
		    vault_key_digest(buf_str(&b), r->keys[r->keys_n]) == ERR_NONE;
	r->keys_n += good;
	buf_free(&b);
	return good;
}

/* The one that the server would make at its first start: so that its key can be in the DNS before. */
static int make_certificate(struct setup *s)
{
	struct cli *c = s->c;
	struct vault *v;
	struct str dir = arena_strf(&c->arena, "%.*s/tls", STR_ARG(c->conf.state));
	struct str certificate_path = arena_strf(&c->arena, "%.*s/" OWN_CERTIFICATE, STR_ARG(dir));
	struct str key_path = arena_strf(&c->arena, "%.*s/" OWN_KEY, STR_ARG(dir));
	enum err e = dir_make(c->w, c->conf.state, 0, 0, 0755);
	if (e == ERR_NONE)
		e = dir_make(c->w, dir, 0, 0, 0700);
	if (e == ERR_NONE && read_key_digest(c, certificate_path, &s->r))
		return 0; /* of an earlier start: it may be in the DNS already */
	if (e == ERR_NONE)
		e = vault_new(c->w, &v);
	if (e != ERR_NONE)
		return failed(s, "cannot make", dir, e);
	struct buf certificate = buf_grow(c->mem, VAULT_FILE_MAX), key = buf_grow(c->mem, VAULT_FILE_MAX);
	e = vault_generate(v, c->conf.hostname, &certificate, &key);
	int status = e == ERR_NONE ? write_new(s, key_path, buf_str(&key), 0600) : failed(s, "cannot make a key for", c->conf.hostname, e);
	if (status == 0)
		status = write_new(s, certificate_path, buf_str(&certificate), 0600);
	if (status == 0 && vault_key_digest(buf_str(&certificate), s->r.keys[0]) == ERR_NONE)
		s->r.keys_n = 1;
	if (key.p)
		OPENSSL_cleanse(key.p, key.cap);
	buf_free(&certificate);
	buf_free(&key);
	vault_free(v);
	return status;
}

struct owner {
	struct world *w;
	int dir;
	unsigned uid;
};

static enum err own_one(void *arg, struct str name)
{
	struct owner *o = arg;
	int fd;
	TRY(world_open(o->w, o->dir, name, WORLD_READ, 0, &fd));
	enum err e = world_set_owner(o->w, fd, o->uid, o->uid, 0600);
	world_close(o->w, fd);
	return e;
}

/* The database belongs to lookup, whoever has made it. */
static enum err give_away(struct setup *s, struct str dir)
{
	struct owner o = { s->c->w, -1, s->c->conf.users.uid_lookup };
	if (world_uid(o.w) != 0)
		return ERR_NONE;
	TRY(world_open(o.w, WORLD_ABSOLUTE, dir, WORLD_READ | WORLD_DIR, 0, &o.dir));
	enum err e = world_list(o.w, o.dir, own_one, &o);
	world_close(o.w, o.dir);
	return e;
}

static enum err add_account(struct setup *s, struct directory *d, struct str *password_out, struct str *text_out)
{
	struct cli *c = s->c;
	struct auth_change *change = ARENA_NEW(&c->arena, struct auth_change);
	struct directory_change_in add = { .kind = DIRECTORY_KIND_ACCOUNT, .name = s->account, .targets = STR("") };
	struct directory_change_out added = { 0 };
	struct account_password_in in = { .account = s->account, .label = STR(""), .password = STR("") };
	struct account_password_out out = { 0 };
	if (!change)
		return ERR_NO_MEMORY;
	TRY(lookup_change(d, &c->conf, &add, world_wall_ms(c->w), &c->arena, &added));
	*text_out = added.text;
	if (!auth_change_begin(d, c->w, &c->conf, &in, &c->arena, change)) {
		*text_out = change->text;
		return ERR_SYNTAX;
	}
	auth_change_work(c->w, change);
	TRY(auth_change_end(d, world_wall_ms(c->w), change, &c->arena, &out));
	*password_out = out.password;
	return ERR_NONE;
}

static int make_account(struct setup *s, struct str *password_out)
{
	struct cli *c = s->c;
	struct directory *d;
	struct str text = STR(""), dir = arena_strf(&c->arena, "%.*s/accounts", STR_ARG(c->conf.state));
	enum err e = dir_make(c->w, dir, c->conf.users.uid_lookup, c->conf.users.uid_lookup, 0700);
	if (e == ERR_NONE)
		e = directory_open(c->w, dir, &d);
	if (e != ERR_NONE)
		return failed(s, "cannot open the accounts in", dir, e);
	e = add_account(s, d, password_out, &text);
	directory_close(d);
	enum err given = give_away(s, dir);
	if (e == ERR_NONE && given == ERR_NONE)
		return 0;
	return cli_fail(c, EXIT_DATA, "cannot make the account %.*s: %.*s %s", STR_ARG(s->account), STR_ARG(text),
			err_name(e != ERR_NONE ? e : given));
}

static struct str zone_of(struct cli *c, const struct records *r)
{
	struct buf b = buf_fixed(arena_alloc(&c->arena, TEXT_MAX), TEXT_MAX);
	records_add(&b, r);
	return buf_err(&b) == ERR_NONE ? buf_str(&b) : STR_NONE;
}

static int steps(struct setup *s)
{
	struct str password = STR(""), zone;
	int status = write_new(s, s->c->conf_path, configuration(s), 0644);
	if (status == 0)
		status = load(s);
	if (status == 0)
		status = make_certificate(s);
	zone = zone_of(s->c, &s->r);
	if (status == 0)
		status = write_new(s, s->zone, zone, 0644);
	if (status == 0)
		status = make_account(s, &password);
	if (status != 0)
		return status;
	sayf(s, "done. The DNS records, also in %.*s:\n\n", STR_ARG(s->zone));
	say(s, zone);
	sayf(s, "\nnext:\n  1. put these records into the DNS of %.*s\n  2. godwit serve -c %.*s\n  3. godwit send … and godwit trace tell whether mail flows; port 25 outward is closed at some providers\n",
	     STR_ARG(s->r.domain), STR_ARG(s->c->conf_path));
	status = write_new(s, s->log, buf_str(&s->told), 0600);
	/* not into the log */
	cli_printf(s->c, "\naccount %.*s, password %.*s\n", STR_ARG(s->account), STR_ARG(password));
	return status;
}

YIELDS int cmd_setup(struct cli *c) /* yields: indirect */
{
	struct setup *s = ARENA_NEW(&c->arena, struct setup);
	if (!s)
		return EXIT_OS;
	*s = (struct setup){ .c = c, .listen = STR("*"), .directory = STR(""), .told = buf_grow(c->mem, 65536) };
	int status = take_arguments(s);
	if (status == 0 && s->r.ips_n == 0) {
		find_address(s, STR("192.0.2.1:53"));
		find_address(s, STR("[2001:db8::1]:53"));
	}
	if (status == 0) {
		plan(s);
		if (s->yes)
			status = steps(s);
		else
			cli_print(c, STR("Nothing was done yet. The same with --yes does it.\n"));
	}
	if (status != 0)
		undo(s);
	buf_free(&s->told);
	return status;
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* Keys of the certificates in use; only root can read the one that was made. */
static void read_keys(struct cli *c, struct records *r)
{
	struct str own = arena_strf(&c->arena, "%.*s/tls/" OWN_CERTIFICATE, STR_ARG(c->conf.state));
	size_t n = c->conf.tls.certificates_n;
	for (size_t i = 0; i < (n ? n : 1); i++)
		(void)read_key_digest(c, n ? c->conf.tls.certificates[i].certificate : own, r);
}

static void read_listeners(const struct conf *c, struct records *r)
{
	for (size_t i = 0; i < c->listeners_n; i++) {
		const struct conf_listener *l = &c->listeners[i];
		uint16_t *to = l->auth != AUTH_MODE_REQUIRED ? &r->smtp_port : l->tls == TLS_MODE_IMPLICIT ? &r->submissions_port : &r->submission_port;
		*to = l->address.port;
	}
}

YIELDS int cmd_records(struct cli *c) /* yields: indirect */
{
	struct records r = { .hostname = c->conf.hostname };
	int status = take_ips(c, &r);
	if (status == 0)
		status = cli_no_more(c, 1);
	if (status != 0)
		return status;
	if (c->args_n == 0 && c->conf.domains_n == 0)
		return cli_fail(c, EXIT_USAGE, "which domain? usage: godwit records DOMAIN");
	r.domain = c->args_n ? lower(&c->arena, c->args[0]) : c->conf.domains[0].name;
	if (!smtp_domain_is_valid(r.domain))
		return cli_fail(c, EXIT_DATA, "'%.*s' is not a domain name", STR_ARG(r.domain));
	read_keys(c, &r);
	read_listeners(&c->conf, &r);
	cli_print(c, zone_of(c, &r));
	return 0;
}
