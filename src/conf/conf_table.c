/* SPDX-License-Identifier: Apache-2.0 */
/* The directives, in the order of the manual. A new one is a line here and a field of struct conf. */
#include "conf/conf_table.h"

#include "base/log.h"

const char *const conf_block_names[CONF_BLOCKS] = { "", "listen", "domain", "relay_domain", "route", "limits", "timeouts", "resolver", "tls", "users" };

#define TOP(field) offsetof(struct conf, field)
#define LIM(field) offsetof(struct conf, limits.field)
#define TIM(field) offsetof(struct conf, times.field)
#define RES(field) offsetof(struct conf, resolver.field)
#define TLS(field) offsetof(struct conf, tls.field)
#define USR(field) offsetof(struct conf, users.field)
#define DOM(field) offsetof(struct conf_domain, field)
#define REL(field) offsetof(struct conf_relay_domain, field)
#define LIS(field) offsetof(struct conf_listener, field)
#define ROU(field) offsetof(struct conf_route, field)

const struct conf_directive conf_directives[] = {
	{ CONF_TOP, "hostname", CONF_NAME, TOP(hostname), NULL, 0, 0,
	  "Our name: in the greeting, after EHLO and in Received. It should resolve to this machine's address and back." },
	{ CONF_TOP, "directory", CONF_PATH, TOP(run), "", 0, 0,
	  "Keeps everything under one directory (spool, state, mail, run): for a server of an ordinary user." },
	{ CONF_TOP, "spool", CONF_PATH, TOP(spool), "/var/spool/godwit", 0, 0, "Where mail waits. It must be on a disk that keeps what it syncs." },
	{ CONF_TOP, "state", CONF_PATH, TOP(state), "/var/lib/godwit", 0, 0, "Accounts and history." },
	{ CONF_TOP, "mail", CONF_PATH, TOP(mail), "/var/mail/godwit", 0, 0, "Root of the mailboxes: DOMAIN/LOCAL-PART/ below it." },
	{ CONF_TOP, "run", CONF_PATH, TOP(run), "/run/godwit", 0, 0, "The control socket that the command line talks to." },
	{ CONF_TOP, "log_format", CONF_LOG_FORMAT, TOP(log_format), "text", 0, 0, "How events are written: text or json, to standard error; journald, to its socket." },
	{ CONF_TOP, "log_level", CONF_LOG_LEVEL, TOP(log_level), "info", 0, 0, "Least level that is logged: debug, info, notice, warning or error." },
	{ CONF_TOP, "smtpd_processes", CONF_COUNT, TOP(smtpd_processes), "0", 0, 32, "Processes that receive mail; 0: one for each core." },
	{ CONF_TOP, "deliver", CONF_NOT_BOOL, TOP(hold_all), "yes", 0, 0, "With no, mail is accepted and kept in the queue until this is yes again." },
	{ CONF_TOP, "reserve_space", CONF_BOOL, TOP(reserve_space), "yes", 0, 0, "Lays out queue segments in advance, which makes each sync cheaper." },
	{ CONF_TOP, "smtputf8", CONF_BOOL, TOP(smtputf8), "yes", 0, 0, "Offers SMTPUTF8 (RFC 6531): addresses beyond ASCII." },
	{ CONF_TOP, "relay_from", CONF_NETWORKS, TOP(relay_from), "", 0, 0, "Networks whose clients may send to any domain. Without it nobody may." },
	{ CONF_TOP, "trusted", CONF_NETWORKS, TOP(trusted), "", 0, 0, "Networks whose clients are not made to wait before the greeting." },
	{ CONF_TOP, "hold_from", CONF_PATTERNS, TOP(hold_from), "", 0, 0, "Sender domains whose new mail is held for the operator (godwit queue release); *.example.org: all below; <>: the null reverse-path." },
	{ CONF_TOP, "hold_to", CONF_PATTERNS, TOP(hold_to), "", 0, 0, "Likewise by recipient domains; of a message with such a recipient all recipients are held." },
	{ CONF_TOP, "postmaster", CONF_ADDRESS, TOP(postmaster), "none", 0, 0, "Who gets reports that cannot be returned; none: postmaster of the first domain." },
	{ CONF_TOP, "srs_secret", CONF_PATH, TOP(srs_secret), "", 0, 0, "File with the secrets of rewritten reverse-paths, one a line: the first signs, the others still verify. For several servers of one domain; else one is made." },
	{ CONF_TOP, "srs_domain", CONF_NAME, TOP(srs_domain), "", 0, 0, "Domain of rewritten reverse-paths, whose mail must come here; default: the first domain." },

	{ CONF_IN_LISTEN, "address", CONF_LISTEN, LIS(address), NULL, 0, 0, "Addresses with ports: 192.0.2.1:25, [2001:db8::1]:25, or *:25 for all." },
	{ CONF_IN_LISTEN, "tls", CONF_TLS, LIS(tls), "starttls", 0, 0, "How TLS starts: starttls, by the command STARTTLS, if the client likes; implicit, at once (RFC 8314; the default at port 465); none." },
	{ CONF_IN_LISTEN, "auth", CONF_AUTH, LIS(auth), "none", 0, 0, "Whether clients may log in: none; optional; or required, for submission (RFC 6409): no mail without." },
	{ CONF_IN_LISTEN, "hide_client", CONF_BOOL, LIS(hide_client), "no", 0, 0, "Leaves name and address of clients that have logged in out of Received: where people write from is nobody's business. Log and history have them." },
	{ CONF_IN_LISTEN, "auth_in_clear", CONF_BOOL, LIS(auth_in_clear), "no", 0, 0, "Takes passwords without TLS. Whoever is on the way can read them: for listeners of this machine alone." },

	{ CONF_IN_DOMAIN, "accounts", CONF_ACCOUNTS, DOM(accounts), "sqlite", 0, 0, "Where the domain's accounts and their passwords are. sqlite: the built-in database, by `godwit account`. passwd_file FILE: Dovecot's file, a line each: user:{SCHEME}hash:…; the word scram behind it: all of its passwords are {SCRAM-SHA-256}. dovecot unix:/PATH unix:/PATH: a running Dovecot, by its sockets auth-client (passwords) and auth-userdb (who exists). See docs/accounts.md." },
	{ CONF_IN_DOMAIN, "mailbox", CONF_MAILBOX, DOM(mailbox), "maildir", 0, 0, "Who keeps the mailboxes: maildir, here, below `mail`; lmtp, the server of the first route that fits, which must be one by lmtp." },
	{ CONF_IN_DOMAIN, "aliases", CONF_PATH, DOM(aliases), "", 0, 0, "File of aliases, a line each: name: target, target. Beside those of `godwit alias`." },
	{ CONF_IN_DOMAIN, "subaddress", CONF_TEXT, DOM(subaddress), "+", 0, 0, "Characters that begin a detail: user+detail is user (RFC 5233). \"\": none." },
	{ CONF_IN_DOMAIN, "catch_all", CONF_ADDRESS, DOM(catch_all), "none", 0, 0, "Address that gets mail for unknown local parts." },

	{ CONF_IN_ROUTE, "to", CONF_PATTERNS, ROU(to), "", 0, 0, "Recipient domains that go this way; *.example.org: all below example.org. Without it: any." },
	{ CONF_IN_ROUTE, "from", CONF_PATTERNS, ROU(from), "", 0, 0, "Sender domains, likewise; <>: the null reverse-path. Without it: any." },
	{ CONF_IN_ROUTE, "via", CONF_VIA, ROU(kind), "mx", 0, 0, "mx: the recipient domain's MX hosts. smtp HOST[:PORT] …: these hosts. lmtp HOST:PORT or lmtp unix:/PATH: by LMTP (RFC 2033). Behind a host, order N and weight N: lower orders first, those of one order by their weights; and tls: TLS from the first byte (RFC 8314), as always at port 465." },
	{ CONF_IN_ROUTE, "source", CONF_SOURCE, ROU(source_v4), "", 0, 0, "Address to send from: at most one IPv4 and one IPv6 address." },
	{ CONF_IN_ROUTE, "hostname", CONF_NAME, ROU(hostname), "", 0, 0, "Our name after EHLO, where the route's source address has one of its own: it should resolve to that address and back. Default: hostname at the top." },
	{ CONF_IN_ROUTE, "ip", CONF_IP_CHOICE, ROU(ip), "any", 0, 0, "Which addresses of a host: any (both families in turn), prefer_v4, prefer_v6, only_v4 or only_v6." },
	{ CONF_IN_ROUTE, "connections", CONF_COUNT, ROU(connections), "20", 1, 1000, "Most messages under way to one destination." },
	{ CONF_IN_ROUTE, "rate", CONF_COUNT, ROU(rate), "0", 0, 1000000, "Most messages a minute to one destination; 0: no limit." },
	{ CONF_IN_ROUTE, "tls", CONF_ROUTE_TLS, ROU(tls), "opportunistic", 0, 0, "Least encryption on the way: none, never; opportunistic, wherever the host offers it, whatever its certificate; required, or mail waits; verify, with a certificate of the host's name from an authority of this machine's, or mail waits. Except with none, DANE (RFC 7672) asks for a host's own certificate where its domain publishes one, and mail waits for that. Over Unix sockets always none." },
	{ CONF_IN_ROUTE, "auth", CONF_ROUTE_AUTH, ROU(auth_user), "", 0, 0, "USER FILE: logs in at the route's hosts (SCRAM-SHA-256, SCRAM-SHA-1, PLAIN or LOGIN) with the password in the file's first line, which nobody but its owner and group may read. Only with tls verify, or required. Read at the start. A login that fails leaves the mail waiting." },
	{ CONF_IN_ROUTE, "tls_ca", CONF_PATH, ROU(tls_ca), "", 0, 0, "File of the authorities, PEM, that vouch for this route's hosts, in place of the system's and of DANE; with tls verify. Read at the start." },

	{ CONF_IN_RELAY_DOMAIN, "recipients", CONF_PATH, REL(recipients), "", 0, 0, "File of the addresses that exist, one a line; without it all are taken, and mail to unknown ones has to be returned later." },

	{ CONF_IN_LIMITS, "message_size", CONF_SIZE, LIM(message_bytes), "50M", 65536, 2147483648, "Largest message, announced by SIZE (RFC 1870)." },
	{ CONF_IN_LIMITS, "recipients", CONF_COUNT, LIM(recipients), "1000", 100, 1000, "Recipients a message; RFC 5321 §4.5.3.1.8 asks for at least 100." },
	{ CONF_IN_LIMITS, "transactions", CONF_COUNT, LIM(transactions), "100000", 1, 0, "Messages a connection." },
	{ CONF_IN_LIMITS, "connections", CONF_COUNT, LIM(connections), "10000", 1, 1000000, "Connections at a time, of all clients together." },
	{ CONF_IN_LIMITS, "connections_per_client", CONF_COUNT, LIM(connections_client), "100", 1, 1000000, "Connections at a time from one IPv4 address or one IPv6 /64; loopback, trusted and relay_from are not counted." },
	{ CONF_IN_LIMITS, "errors", CONF_COUNT, LIM(errors), "20", 1, 1000, "Wrong commands and unknown recipients before a client is cut off with 421." },
	{ CONF_IN_LIMITS, "junk_commands", CONF_COUNT, LIM(junk_commands), "100", 1, 100000, "Commands without mail between two messages before 421." },
	{ CONF_IN_LIMITS, "received_lines", CONF_COUNT, LIM(received_lines), "100", 10, 1000, "Received fields from which on a message is taken to loop (RFC 5321 §6.3)." },
	{ CONF_IN_LIMITS, "session_memory", CONF_SIZE, LIM(session_memory), "4M", 65536, 1073741824, "Memory of one connection, message body aside." },
	{ CONF_IN_LIMITS, "body_memory", CONF_SIZE, LIM(body_memory), "1M", 65536, 1048576, "Message bytes kept in memory before a file is used." },
	{ CONF_IN_LIMITS, "account_messages", CONF_COUNT, LIM(account_messages), "300", 0, 0, "Messages that one account may send an hour; 0: no limit. A stolen password does no more harm than that." },
	{ CONF_IN_LIMITS, "account_recipients", CONF_COUNT, LIM(account_recipients), "1000", 0, 0, "Recipients that one account may send to an hour; 0: no limit." },
	{ CONF_IN_LIMITS, "queue_free_space", CONF_SIZE, LIM(queue_bytes), "256M", 0, 0, "Free space of the spool's disk below which new mail is put off (452)." },
	{ CONF_IN_LIMITS, "queue_messages", CONF_SIZE, LIM(queue_messages), "5000000", 1, 0, "Messages in the queue at which new mail is put off (452)." },

	{ CONF_IN_TIMEOUTS, "command", CONF_TIME, TIM(command), "5min", 1000, 0, "Waiting for a command (RFC 5321 §4.5.3.2.7)." },
	{ CONF_IN_TIMEOUTS, "data_block", CONF_TIME, TIM(data_block), "3min", 1000, 0, "Waiting for the next bytes of a message (§4.5.3.2.5)." },
	{ CONF_IN_TIMEOUTS, "data_total", CONF_TIME, TIM(data_total), "2h", 1000, 0, "A whole message." },
	{ CONF_IN_TIMEOUTS, "session", CONF_TIME, TIM(session_total), "24h", 1000, 0, "A whole connection." },
	{ CONF_IN_TIMEOUTS, "write", CONF_TIME, TIM(write), "3min", 1000, 0, "A client that does not read our replies." },
	{ CONF_IN_TIMEOUTS, "tls_handshake", CONF_TIME, TIM(tls_handshake), "30s", 1000, 0, "A TLS handshake, with a client or with another server." },
	{ CONF_IN_TIMEOUTS, "connect", CONF_TIME, TIM(connect), "30s", 1000, 0, "Outbound: making a TCP connection to one address." },
	{ CONF_IN_TIMEOUTS, "greeting", CONF_TIME, TIM(greeting), "5min", 1000, 0, "Outbound: the greeting (RFC 5321 §4.5.3.2.1)." },
	{ CONF_IN_TIMEOUTS, "reply", CONF_TIME, TIM(reply), "5min", 1000, 0, "Outbound: replies to MAIL, RCPT and all but DATA (§4.5.3.2.2, §4.5.3.2.3)." },
	{ CONF_IN_TIMEOUTS, "data_start", CONF_TIME, TIM(data_start), "2min", 1000, 0, "Outbound: the reply to DATA (§4.5.3.2.4)." },
	{ CONF_IN_TIMEOUTS, "data_send", CONF_TIME, TIM(data_send), "3min", 1000, 0, "Outbound: sending a block of message bytes (§4.5.3.2.5)." },
	{ CONF_IN_TIMEOUTS, "data_end", CONF_TIME, TIM(data_end), "10min", 1000, 0, "Outbound: the reply to the end of a message (§4.5.3.2.6); cut short, it makes duplicates." },
	{ CONF_IN_TIMEOUTS, "delay_notice", CONF_TIME, TIM(delay_notice), "4h", 0, 0, "When a sender is told that mail still waits; 0s: never." },
	{ CONF_IN_TIMEOUTS, "bounce_expire", CONF_TIME, TIM(bounce_expire), "2d", 60000, 0, "When to give up on a delivery status notification." },
	{ CONF_IN_TIMEOUTS, "process_hang", CONF_TIME, TIM(process_hang), "1min", 1000, 0, "A process of the server that does not answer master for so long is killed and started again." },
	{ CONF_IN_TIMEOUTS, "greet_delay", CONF_TIME, TIM(greet_delay), "1s", 0, 60000, "How long to look whether a stranger talks before our greeting; 0s: not at all." },
	{ CONF_IN_TIMEOUTS, "retry_first", CONF_TIME, TIM(retry_first), "5min", 1000, 0, "First retry of a delivery that failed for the moment." },
	{ CONF_IN_TIMEOUTS, "retry_max", CONF_TIME, TIM(retry_max), "4h", 1000, 0, "Longest pause between retries." },
	{ CONF_IN_TIMEOUTS, "expire", CONF_TIME, TIM(expire), "5d", 60000, 0, "When to give up (RFC 5321 §4.5.4.1: at least 4 to 5 days)." },
	{ CONF_IN_TIMEOUTS, "future_release", CONF_TIME, TIM(future_release), "30d", 0, 0, "How long a submitted message may be held at its sender's wish (FUTURERELEASE, RFC 4865); 0s: not offered." },
	{ CONF_IN_TIMEOUTS, "history", CONF_TIME, TIM(history_keep), "90d", 60000, 0, "How long `godwit trace` remembers." },

	{ CONF_IN_RESOLVER, "servers", CONF_SERVERS, RES(servers), "", 0, 0, "Validating resolvers that are asked instead of the name servers themselves, 127.0.0.1 or [::1]:5353. Their word on DNSSEC is believed: they must be yours, and nobody may sit on the path to them." },
	{ CONF_IN_RESOLVER, "dnssec", CONF_BOOL, RES(dnssec), "yes", 0, 0, "Validates answers; what is proved wrong is not used. With no, no answer counts as secure, and DANE is off." },
	{ CONF_IN_RESOLVER, "trust_anchor", CONF_PATH, RES(trust_anchor), "", 0, 0, "File with the root's DS or DNSKEY records. Without it /usr/share/dns/root.key is used." },
	{ CONF_IN_RESOLVER, "root_hints", CONF_PATH, RES(root_hints), "", 0, 0, "File with the root's name servers. Without it the built-in list is used." },
	{ CONF_IN_RESOLVER, "stub", CONF_STUB, RES(stubs), "", 0, 0, "A zone and the address of its name server: names in it are asked there (split horizon). A third word insecure: the zone is unsigned although its parent says otherwise. May be given several times; not together with servers." },

	{ CONF_IN_TLS, "certificate", CONF_CERTIFICATE, TLS(certificates), "", 0, 0, "File of a certificate and those that vouch for it, PEM, ours first (certbot's fullchain.pem). May be given several times, each followed by its key: for several names, and ECDSA and RSA for one name. Clients get the one for the name they ask for, else the first. Without any, one that is signed by itself is made." },
	{ CONF_IN_TLS, "key", CONF_KEY, TLS(certificates), "", 0, 0, "File of the private key of the certificate before, PEM, without a passphrase: RSA of 2048 bits or more, ECDSA (P-256, P-384, P-521) or Ed25519." },
	{ CONF_IN_TLS, "min_version", CONF_TLS_VERSION, TLS(least_1_3), "1.2", 0, 0, "Oldest version of TLS: 1.2 or 1.3. Servers that do not have it send without encryption instead." },

	{ CONF_IN_USERS, "smtpd", CONF_COUNT, USR(uid_smtpd), "901", 1, 65534, "User id of the processes that parse strangers' bytes." },
	{ CONF_IN_USERS, "queue", CONF_COUNT, USR(uid_queue), "902", 1, 65534, "Owner of the spool." },
	{ CONF_IN_USERS, "mail", CONF_COUNT, USR(uid_mail), "903", 1, 65534, "Owner of the mailboxes." },
	{ CONF_IN_USERS, "lookup", CONF_COUNT, USR(uid_lookup), "904", 1, 65534, "Owner of the accounts." },
	{ CONF_IN_USERS, "control", CONF_COUNT, USR(uid_control), "905", 1, 65534, "Owner of history and control socket." },
	{ CONF_IN_USERS, "relay", CONF_COUNT, USR(uid_relay), "906", 1, 65534, "User id of the processes that send mail to other servers." },
	{ CONF_IN_USERS, "resolver", CONF_COUNT, USR(uid_resolver), "907", 1, 65534, "User id of the process that asks name servers." },
	{ CONF_IN_USERS, "keys", CONF_COUNT, USR(uid_keys), "908", 1, 65534, "User id of the process that holds the private keys." },
	{ CONF_IN_USERS, "control_group", CONF_COUNT, USR(gid_control), "905", 1, 65534, "Group that may use the command line." },
};
const size_t conf_directives_n = sizeof conf_directives / sizeof conf_directives[0];

static const char intro[] =
	"# Configuration\n\n"
	"Made by `godwit check --manual` from the table that also drives the parser (`src/conf/conf_table.c`): what stands here is what is understood.\n\n"
	"    hostname mx.example.org;\n"
	"    listen smtp { address *:25; }\n"
	"    domain example.org { subaddress \"+\"; }\n"
	"    relay_from 192.0.2.0/24;\n"
	"    route hub { to *.corp.example; via smtp hub.corp.example order 10 backup.corp.example order 20; }\n"
	"    include \"conf.d/*.conf\";\n\n"
	"A directive is words and a semicolon; a block is words and braces. A word with blanks, braces or semicolons stands in double quotes, where\n"
	"`\\\"` and `\\\\` mean themselves. `#` begins a comment. Sizes: `500`, `64K`, `50M`, `2G`. Times: `300ms`, `30s`, `5min`, `4h`, `5d`. Blocks do not nest.\n"
	"`include` reads files in order of their names, relative to the file it stands in. `godwit check` says all mistakes at once, with line and column;\n"
	"a running server keeps the configuration that it was started with.\n";

/* In the order of enum conf_block. */
static const char *const block_docs[CONF_BLOCKS] = {
	"",
	"`listen NAME { … }`: where clients connect. Several may be given.",
	"`domain NAME { … }`: a domain whose mail ends here. International names as A-labels. `godwit domain add` adds others without a restart.",
	"`relay_domain NAME { … }`: a domain whose mail is taken from everybody and sent on to its other MX hosts, or by a route (see docs/relaying.md).",
	"`route NAME { … }`: how mail leaves. The first route whose `to` and `from` both fit counts; the route `default` is the last one, and always there.",
	"`limits { … }`: what one client and all of them may use.",
	"`timeouts { … }`: RFC 5321 §4.5.3.2 asks for at least these in most cases.",
	"`resolver { … }`: where answers of the DNS come from.",
	"`tls { … }`: encryption, for listeners that offer it. Changed files are noticed within a minute, or at once by `godwit reload`.",
	"`users { … }`: numeric ids, used when the server is started as root.",
};

void conf_manual_add(struct buf *b)
{
	buf_add(b, str_z(intro));
	for (unsigned block = 0; block < CONF_BLOCKS; block++) {
		buf_addf(b, "\n## %s\n\n", block == CONF_TOP ? "At the top" : conf_block_names[block]);
		if (*block_docs[block])
			buf_addf(b, "%s\n\n", block_docs[block]);
		buf_add(b, STR("| directive | default | meaning |\n|---|---|---|\n"));
		for (size_t i = 0; i < conf_directives_n; i++) {
			const struct conf_directive *d = &conf_directives[i];
			if (d->block == block)
				buf_addf(b, "| `%s` | %s%s%s | %s |\n", d->name, d->initial ? "`" : "",
					 !d->initial ? "must be given" : *d->initial ? d->initial : "(none)",
					 d->initial ? "`" : "", d->doc);
		}
	}
}
