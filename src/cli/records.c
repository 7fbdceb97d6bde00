/* SPDX-License-Identifier: Apache-2.0 */
/* Zone files: see records.h. Input: the operator's configuration. */
#include "cli/records.h"

bool records_is_private(const struct ip *ip)
{
	static const char *const networks[] = { "10.0.0.0/8",	  "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
						"169.254.0.0/16", "fc00::/7",	   "fe80::/10",	     "::1/128" };
	for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++) {
		struct ip network;
		if (ip_parse_prefix(str_z(networks[i]), &network) == ERR_NONE && ip_in(ip, &network))
			return true;
	}
	return false;
}

/* "name. IN TYPE data", after lines of comment. */
static void comment(struct buf *b, const char *text)
{
	buf_addf(b, "\n; %s\n", text);
}

static void name(struct buf *b, const char *label, struct str domain)
{
	buf_addf(b, "%s%.*s. IN ", label, STR_ARG(domain));
}

static void add_hosts(struct buf *b, const struct records *r)
{
	comment(b, "The server. Its address must lead back to this name (PTR): whoever lends you the address sets that; others refuse mail without.");
	if (r->ips_n == 0)
		buf_addf(b, "; %.*s. IN A     (the address under which the Internet reaches this machine: it was not found out; give it with --ip)\n",
			 STR_ARG(r->hostname));
	for (size_t i = 0; i < r->ips_n; i++) {
		name(b, "", r->hostname);
		buf_add(b, r->ips[i].family == IP_V4 ? STR("A ") : STR("AAAA "));
		ip_add(b, &r->ips[i]);
		buf_add(b, STR("\n"));
	}
}

static void add_policies(struct buf *b, const struct records *r)
{
	comment(b, "Who may send as this domain: its MX, and nobody else (SPF, RFC 7208). Add others that send for you before the -all.");
	name(b, "", r->domain);
	buf_add(b, STR("TXT \"v=spf1 mx -all\"\n"));
	if (!str_eq(r->domain, r->hostname)) {
		name(b, "", r->hostname);
		buf_add(b, STR("TXT \"v=spf1 a -all\"\n"));
	}
	comment(b, "What others are to do with mail that is not from you (DMARC): report it, for now. Make it p=reject when the reports look right.");
	name(b, "_dmarc.", r->domain);
	buf_addf(b, "TXT \"v=DMARC1; p=none; rua=mailto:postmaster@%.*s\"\n", STR_ARG(r->domain));
	comment(b, "Where others may report trouble with encryption on the way to you (TLSRPT, RFC 8460).");
	name(b, "_smtp._tls.", r->domain);
	buf_addf(b, "TXT \"v=TLSRPTv1; rua=mailto:postmaster@%.*s\"\n", STR_ARG(r->domain));
}

static void add_service(struct buf *b, const struct records *r, const char *label, uint16_t port)
{
	name(b, label, r->domain);
	if (port)
		buf_addf(b, "SRV 0 1 %u %.*s.\n", port, STR_ARG(r->hostname));
	else
		buf_add(b, STR("SRV 0 0 0 .\n"));
}

static void add_tlsa(struct buf *b, const struct records *r)
{
	comment(b, "The server's key, for others that check it (DANE, RFC 7672). Only in a zone that is signed by DNSSEC; when the key changes, publish the new\n"
		   "; record a day before it is used.");
	for (size_t i = 0; i < r->keys_n; i++) {
		name(b, "_25._tcp.", r->hostname); /* where other servers come, whatever port they are led to */
		buf_add(b, STR("TLSA 3 1 1 "));
		for (size_t k = 0; k < sizeof r->keys[i]; k++)
			buf_add_hex(b, r->keys[i][k], 2);
		buf_add(b, STR("\n"));
	}
	if (r->keys_n == 0)
		buf_add(b, STR("; (no certificate yet: `godwit records` prints it once the server has one)\n"));
}

void records_add(struct buf *b, const struct records *r)
{
	buf_addf(b, "; DNS records for mail of %.*s. Lines that begin with ; explain.\n$TTL 3600\n", STR_ARG(r->domain));
	comment(b, "Where mail for the domain goes.");
	name(b, "", r->domain);
	buf_addf(b, "MX 10 %.*s.\n", STR_ARG(r->hostname));
	add_hosts(b, r);
	add_policies(b, r);
	comment(b, "Where mail programs find the server for sending (RFC 6186, 8314). A dot: there is none.");
	add_service(b, r, "_submissions._tcp.", r->submissions_port);
	add_service(b, r, "_submission._tcp.", r->submission_port);
	add_tlsa(b, r);
	comment(b, "Who may issue certificates for the domain (CAA, RFC 8659): take the ; away and name yours.");
	buf_addf(b, "; %.*s. IN CAA 0 issue \"letsencrypt.org\"\n", STR_ARG(r->domain));
}
