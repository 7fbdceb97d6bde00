/* SPDX-License-Identifier: Apache-2.0 */
/* Recipients elsewhere: to a process relay, one call a message and destination. Runs in queue. */
#include "queue/delivery.h"

#include "base/hash.h"

#define RELAY_RCPTS_MAX 100u /* of one call: the outcomes with their texts must fit into its answer */
#define RELAY_MS (4 * 3600 * 1000LL) /* many addresses, each with its own times; relay ends long before */

_Static_assert(SITES_STRANGERS_MAX < IPC_WINDOW, "calls about strangers would keep the others' waiting");

/* One site has one relay, which keeps its connections; another when that is away. */
static struct ipc *relay_of(struct queue *q, const struct site *site)
{
	struct ipc *peers[PROC_PEERS_MAX];
	size_t n = proc_peers(q->p, ROLE_RELAY, peers, PROC_PEERS_MAX);
	return n ? peers[crc32c(0, site->name.p, site->name.n) % n] : NULL;
}

/* All of the body but what fits into the call itself. */
static YIELDS enum err send_parts(struct group *g, struct relay_deliver_in *in, size_t used)
{
	struct delivery *d = g->d;
	size_t room = CALL_BYTES > used + 512 ? CALL_BYTES - used - 512 : 512;
	uint64_t offset = 0;
	struct str rest = d->body;
	struct ipc *ch;
	if (room > IPC_BODY_PART)
		room = IPC_BODY_PART;
	while (rest.n > room) {
		size_t n = rest.n < IPC_BODY_PART ? rest.n : IPC_BODY_PART;
		struct relay_part_in part = { .id = d->id, .group = g->dest, .offset = offset, .bytes = str_sub(rest, 0, n) };
		struct relay_part_out nothing;
		ARENA_SCOPED struct arena arena = arena_make(d->q->p->mem, 4096);
		if (!(ch = relay_of(d->q, g->site)))
			return ERR_CLOSED;
		TRY(call_relay_part(ch, &part, &arena, &nothing));
		rest = str_sub(rest, n, rest.n);
		offset += n;
	}
	in->body = rest;
	return ERR_NONE;
}

/* *fd_out stays open until the call is answered: by then it has been sent. */
static YIELDS enum err send_file(struct group *g, int *fd_out)
{
	struct relay_file_in file = { .id = g->d->id, .group = g->dest };
	TRY(spool_body_open(g->d->q->sp, g->d->id, &file.file));
	*fd_out = file.file;
	struct ipc *ch = relay_of(g->d->q, g->site);
	return ch ? note_relay_file(ch, &file) : ERR_CLOSED;
}

static YIELDS enum err call_relay(struct group *g, struct relay_deliver_in *in, size_t bytes, struct relay_deliver_out *out)
{
	struct delivery *d = g->d;
	struct queue *q = d->q;
	int fd = -1;
	enum err e = d->in_file ? send_file(g, &fd) : send_parts(g, in, bytes + in->prefix.n + in->reverse_path.n);
	struct ipc *ch = relay_of(q, g->site);
	if (e == ERR_NONE)
		e = ch ? call_relay_deliver(ch, in, &d->arena, out) : ERR_CLOSED;
	world_close(q->p->w, fd);
	return e;
}

static const struct relay_outcome *outcome_for(const struct relay_deliver_out *out, uint16_t number)
{
	for (size_t i = 0; i < out->outcomes_n; i++)
		if (out->outcomes[i].number == number)
			return &out->outcomes[i];
	return NULL;
}

static bool is_by_lmtp(const struct group *g)
{
	return dest_get(&g->d->q->sites, g->dest)->route->kind == ROUTE_KIND_LMTP;
}

static void settle(struct group *g, uint16_t number, const struct relay_outcome *o)
{
	struct found f = { .by = STR("relay"), .enhanced = STR("4.3.0"), .text = STR("no outcome was reported") };
	if (o)
		f = (struct found){ .by = o->by.n ? o->by : STR("relay"), .enhanced = o->enhanced, .text = o->text,
				    .code = o->code, .next_reports = o->dsn };
	if (o && o->verdict == VERDICT_ACCEPT)
		settle_delivered(g, number, is_by_lmtp(g) ? RCPT_STATE_DELIVERED : RCPT_STATE_RELAYED, &f);
	else if (o && o->verdict == VERDICT_REFUSE)
		settle_failed(g, number, &f);
	else
		settle_deferred(g, number, &f);
}

/*
 * Reached by an alias of ours: the next server must not take us for a forger of the sender's domain
 * (message/srs.h). Mail that a client sends to that address itself goes as it is, and so does what is
 * delivered by LMTP: there it ends (RFC 2033).
 */
static bool is_forwarded(const struct group *g, uint16_t number)
{
	const struct envelope_rcpt *r = &g->d->env.recipients[number];
	return !is_by_lmtp(g) && !str_eq_nocase(r->forward_path, r->target.address);
}

/* Those that are forwarded stand behind the others: they have another reverse-path. Returns where they begin. */
static size_t part(struct group *g)
{
	size_t direct = 0;
	for (size_t i = 0; i < g->n; i++)
		if (!is_forwarded(g, g->numbers[i])) {
			uint16_t number = g->numbers[i];
			memmove(&g->numbers[direct + 1], &g->numbers[direct], (i - direct) * sizeof number);
			g->numbers[direct++] = number;
		}
	return direct;
}

static YIELDS enum err rewrite(struct group *g, struct str *reverse_path)
{
	struct ipc *lookup = proc_peer(g->d->q->p, ROLE_LOOKUP, 0);
	struct lookup_forward_in in = { .reverse_path = *reverse_path };
	struct lookup_forward_out out = { 0 };
	if (reverse_path->n == 0)
		return ERR_NONE;
	TRY(lookup ? call_lookup_forward(lookup, &in, &g->d->arena, &out) : ERR_CLOSED);
	*reverse_path = out.reverse_path;
	return ERR_NONE;
}

static YIELDS void deliver_some(struct group *g, size_t first, struct relay_rcpt *rcpts, size_t n, size_t bytes,
				struct site_news *news)
{
	struct delivery *d = g->d;
	const struct destination *dest = dest_get(&d->q->sites, g->dest);
	struct relay_deliver_out out = { .reach = RELAY_REACH_UNKNOWN };
	struct relay_deliver_in in = {
		.id = d->id, .group = g->dest, .route = dest->route->name, .domain = dest->domain, .reverse_path = d->env.reverse_path,
		.body_kind = d->env.body, .smtputf8 = d->env.smtputf8, .require_tls = d->env.require_tls, .ret = d->env.ret,
		.envid = d->env.envid, .recipients = rcpts, .recipients_n = n, .prefix = d->prefix,
		.body_bytes = d->body_bytes, .in_file = d->in_file,
	};
	int64_t before = co_set_deadline(world_mono_ns(d->q->p->w) + RELAY_MS * 1000000);
	enum err e = is_forwarded(g, g->numbers[first]) ? rewrite(g, &in.reverse_path) : ERR_NONE;
	if (e == ERR_NONE)
		e = call_relay(g, &in, bytes, &out);
	co_set_deadline(before);
	if (e != ERR_NONE) {
		settle_unknown(g, g->numbers + first, n, "relay", e);
		return;
	}
	news->reach = out.reach;
	news->mx_set = out.mx_set;
	news->why = out.outcomes_n ? out.outcomes[0].text : STR("");
	for (size_t i = 0; i < n; i++)
		settle(g, g->numbers[first + i], outcome_for(&out, g->numbers[first + i]));
}

void deliver_to_relay(struct group *g)
{
	struct delivery *d = g->d;
	struct queue *q = d->q;
	struct relay_rcpt *rcpts = ARENA_ARRAY(&d->arena, struct relay_rcpt, g->n);
	struct site_news news = { .reach = RELAY_REACH_UNKNOWN };
	size_t first = 0, bytes = 0, forwarded = part(g);
	if (!rcpts)
		settle_unknown(g, g->numbers, g->n, "queue", ERR_NO_MEMORY);
	for (size_t i = 0; rcpts && i < g->n; i++) {
		const struct envelope_rcpt *r = &d->env.recipients[g->numbers[i]];
		size_t more = r->target.address.n + r->orcpt.n + 16;
		if (i > first && (bytes + more > GROUP_BYTES || i == forwarded || i - first == RELAY_RCPTS_MAX)) {
			deliver_some(g, first, rcpts + first, i - first, bytes, &news);
			first = i;
			bytes = 0;
		}
		rcpts[i] = (struct relay_rcpt){ .number = g->numbers[i], .address = r->target.address, .orcpt = r->orcpt,
						.notify = r->notify };
		bytes += more;
	}
	if (rcpts)
		deliver_some(g, first, rcpts + first, g->n - first, bytes, &news);
	world_random(q->p->w, &news.jitter, sizeof news.jitter);
	news.now_ms = world_wall_ms(q->p->w);
	dest_end(&q->sites, g->dest, g->site, &news);
	co_wake_one(&q->schedule); /* who waits for this place */
}
