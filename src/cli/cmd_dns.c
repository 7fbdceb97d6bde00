/* SPDX-License-Identifier: Apache-2.0 */
/* godwit dns: what the server's resolver says. The bytes of TXT records are strangers': printed escaped. */
#include "cli/cli.h"

#define TYPES 7u

static bool type_of(struct str word, enum dns_type *type_out)
{
	for (unsigned i = 0; i < TYPES; i++)
		if (str_eq_nocase(word, str_z(dns_type_name(i)))) {
			*type_out = (enum dns_type)i;
			return true;
		}
	return false;
}

static void print_ip(struct cli *c, const struct ip *ip)
{
	char text[IP_TEXT_MAX];
	struct buf b = buf_fixed(text, sizeof text);
	ip_add(&b, ip);
	cli_print(c, buf_str(&b));
}

static void print_hex(struct cli *c, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		cli_printf(c, "%02x", (unsigned char)s.p[i]);
}

static void print_records(struct cli *c, const struct dns_lookup_out *out)
{
	for (size_t i = 0; i < out->addresses_n; i++) {
		print_ip(c, &out->addresses[i]);
		cli_print(c, STR("\n"));
	}
	for (size_t i = 0; i < out->mx_n; i++)
		cli_printf(c, "%u %.*s\n", out->mx[i].preference, STR_ARG(out->mx[i].host.n ? out->mx[i].host : STR(".")));
	for (size_t i = 0; i < out->texts_n; i++) {
		cli_print(c, STR("\""));
		cli_print_safe(c, out->texts[i].text);
		cli_print(c, STR("\"\n"));
	}
	for (size_t i = 0; i < out->names_n; i++)
		cli_printf(c, "%.*s\n", STR_ARG(out->names[i].name));
	for (size_t i = 0; i < out->tlsa_n; i++) {
		cli_printf(c, "%u %u %u ", out->tlsa[i].usage, out->tlsa[i].selector, out->tlsa[i].matching);
		print_hex(c, out->tlsa[i].data);
		cli_print(c, STR("\n"));
	}
}

static void print_json_records(struct cli *c, const struct dns_lookup_out *out)
{
	const char *comma = "";
	for (size_t i = 0; i < out->addresses_n; i++, comma = ",") {
		cli_printf(c, "%s\"", comma);
		print_ip(c, &out->addresses[i]);
		cli_print(c, STR("\""));
	}
	for (size_t i = 0; i < out->mx_n; i++, comma = ",") {
		cli_printf(c, "%s{\"preference\":%u,\"host\":", comma, out->mx[i].preference);
		cli_print_json(c, out->mx[i].host);
		cli_print(c, STR("}"));
	}
	for (size_t i = 0; i < out->texts_n; i++, comma = ",") {
		cli_print(c, str_z(comma));
		cli_print_json(c, out->texts[i].text);
	}
	for (size_t i = 0; i < out->names_n; i++, comma = ",") {
		cli_print(c, str_z(comma));
		cli_print_json(c, out->names[i].name);
	}
	for (size_t i = 0; i < out->tlsa_n; i++, comma = ",") {
		cli_printf(c, "%s{\"usage\":%u,\"selector\":%u,\"matching\":%u,\"data\":\"", comma, out->tlsa[i].usage,
			   out->tlsa[i].selector, out->tlsa[i].matching);
		print_hex(c, out->tlsa[i].data);
		cli_print(c, STR("\"}"));
	}
}

static void print_json(struct cli *c, const struct dns_lookup_out *out)
{
	cli_printf(c, "{\"status\":\"%s\",\"secure\":%s,\"ttl\":%u,\"why\":", dns_status_name(out->status),
		   out->secure ? "true" : "false", out->ttl);
	cli_print_json(c, out->why);
	cli_print(c, STR(",\"canonical\":"));
	cli_print_json(c, out->canonical);
	cli_print(c, STR(",\"records\":["));
	print_json_records(c, out);
	cli_print(c, STR("]}\n"));
}

/* RFC 1035 §3.5, RFC 3596 §2.5. */
static struct str reverse_name(struct arena *a, const struct ip *ip)
{
	char text[80];
	struct buf b = buf_fixed(text, sizeof text);
	if (ip->family == IP_V4) {
		buf_addf(&b, "%u.%u.%u.%u.in-addr.arpa", ip->b[3], ip->b[2], ip->b[1], ip->b[0]);
	} else {
		for (size_t i = 16; i > 0; i--)
			buf_addf(&b, "%x.%x.", ip->b[i - 1] & 15u, ip->b[i - 1] >> 4);
		buf_add(&b, STR("ip6.arpa"));
	}
	return arena_strf(a, "%.*s", STR_ARG(buf_str(&b)));
}

int cmd_dns(struct cli *c)
{
	struct ip address;
	struct dns_lookup_in in = { 0 };
	struct dns_lookup_out out;
	if (c->args_n != 2 || !type_of(c->args[1], &in.type))
		return cli_fail(c, EXIT_USAGE, "usage: godwit dns NAME a|aaaa|mx|txt|ptr|tlsa|cname");
	in.name = c->args[0];
	if (in.name.n > 255)
		return cli_fail(c, EXIT_DATA, "the name is too long");
	if (in.type == DNS_TYPE_PTR && ip_parse(in.name, &address) == ERR_NONE)
		in.name = reverse_name(&c->arena, &address);
	if (in.name.n > 1 && str_ends(in.name, STR(".")))
		in.name.n--;
	enum err e = CLI_CALL(c, CALL_DNS_LOOKUP, dns_lookup, &in, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	if (c->json) {
		print_json(c, &out);
		return out.status >= DNS_STATUS_FAILED ? EXIT_TEMPORARY : 0;
	}
	cli_printf(c, "%s, %s, for %u s\n", dns_status_name(out.status), out.secure ? "secure" : "not secure", out.ttl);
	if (out.why.n) {
		cli_print(c, STR("why: "));
		cli_print_safe(c, out.why);
		cli_print(c, STR("\n"));
	}
	if (out.canonical.n && !str_eq_nocase(out.canonical, in.name))
		cli_printf(c, "canonical name: %.*s\n", STR_ARG(out.canonical));
	print_records(c, &out);
	return out.status >= DNS_STATUS_FAILED ? EXIT_TEMPORARY : 0;
}
