/* SPDX-License-Identifier: Apache-2.0 */
/* What the sessions share: see server.h. */
#include "smtpd/server.h"

#include "base/clockfmt.h"

static void register_metrics(struct smtpd_metrics *c, struct metrics *m)
{
	c->connections = metrics_counter(m, "godwit_smtpd_connections_total", STR_NONE,
					 "Connections accepted.");
	c->turned_away = metrics_counter(m, "godwit_smtpd_turned_away_total", STR_NONE,
					 "Connections answered 421 because there were too many.");
	c->messages = metrics_counter(m, "godwit_smtpd_messages_total", STR_NONE,
				      "Messages acknowledged.");
	c->recipients = metrics_counter(m, "godwit_smtpd_recipients_total", STR_NONE,
					"Recipients of acknowledged messages.");
	c->bytes = metrics_counter(m, "godwit_smtpd_bytes_total", STR_NONE,
				   "Bytes of acknowledged messages.");
	c->refused = metrics_counter(m, "godwit_smtpd_refused_total", STR_NONE,
				     "Commands answered 4xx or 5xx.");
	c->cache_hits = metrics_counter(m, "godwit_smtpd_cache_hits_total", STR_NONE,
					"Recipients answered without asking lookup.");
	c->cache_misses = metrics_counter(m, "godwit_smtpd_cache_misses_total", STR_NONE,
					  "Recipients that lookup was asked for.");
	c->tls = metrics_counter(m, "godwit_smtpd_tls_handshakes_total", STR_NONE,
				 "TLS handshakes that ended well.");
	c->tls_failed = metrics_counter(m, "godwit_smtpd_tls_failed_total", STR_NONE,
					"TLS handshakes that failed.");
	c->tls_resumed = metrics_counter(m, "godwit_smtpd_tls_resumed_total", STR_NONE,
					 "TLS handshakes that went on with an earlier session.");
	c->sessions = metrics_gauge(m, "godwit_smtpd_sessions", STR_NONE, "Open connections.");
	c->body_bytes = metrics_gauge(m, "godwit_smtpd_body_bytes", STR_NONE,
				      "Bytes of messages that are being received, in memory.");
}

enum err smtpd_init(struct smtpd *d, struct loop *loop, const struct conf *conf, unsigned index,
		    struct metrics *metrics)
{
	struct sip_key key;
	d->loop = loop;
	d->w = loop_world(loop);
	d->mem = loop_mem(loop);
	d->conf = conf;
	d->index = index;
	world_random(d->w, &d->id_counter, sizeof d->id_counter);
	world_random(d->w, &key, sizeof key);
	d->offer = (struct ext_offer){ .message_bytes = conf->limits.message_bytes,
				       .recipients = conf->limits.recipients,
				       .transactions = conf->limits.transactions,
				       .smtputf8 = conf->smtputf8 };
	cache_init(&d->cache, d->mem, key);
	refusals_init(&d->refusals, d->mem, key);
	co_queue_init(&d->session_ended);
	register_metrics(&d->count, metrics);
	return metrics_err(metrics);
}

void smtpd_done(struct smtpd *d)
{
	cache_done(&d->cache);
	refusals_done(&d->refusals);
	tls_server_free(d->tls);
	d->tls = NULL;
}

uint64_t smtpd_new_id(struct smtpd *d)
{
	return msg_id_make(world_wall_ms(d->w), d->index, d->id_counter++);
}

static bool in_any(const struct ip *ip, const struct ip *networks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ip_in(ip, &networks[i]))
			return true;
	return false;
}

bool smtpd_trusts(const struct smtpd *d, const struct ip *client)
{
	return ip_is_loopback(client) || in_any(client, d->conf->trusted, d->conf->trusted_n) ||
	       in_any(client, d->conf->relay_from, d->conf->relay_from_n);
}
