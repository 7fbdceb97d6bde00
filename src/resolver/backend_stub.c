/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the resolvers that the operator named: see backend.h. They do recursion and validation; that their
 * word (the AD bit, RFC 6840 §5.8) counts is the operator's decision, who must also see to it that nobody
 * sits on the path to them. What arrives on the sockets may be forged all the same: an answer counts when
 * it comes from the server's address to our random port, with our random id and our question (RFC 5452 §9).
 *
 * UDP first; by TCP when the answer is truncated (RFC 7766 §5). A server that fails, refuses or says
 * nothing is passed over for the next one, and the last that answered well is asked first.
 */
#include "resolver/backend.h"

#include "co/stream.h"

#define TRIES 3u /* questions sent for one lookup at least; with more servers each gets one */
#define UDP_FIRST_NS (2 * 1000000000LL)
#define UDP_LATER_NS (4 * 1000000000LL)
#define TCP_NS (4 * 1000000000LL)
#define STRAYS_MAX 64u /* datagrams that are not ours, until a try is given up */
#define UDP_ROOM 4096u

struct backend {
	struct world *w;
	struct loop *loop;
	struct mem *mem;
	const struct conf_resolver *conf;
	size_t first; /* index of the server to begin with */
};

/* One lookup. */
struct job {
	struct backend *b;
	struct str name;
	enum dns_type type;
	struct arena *arena;
	const struct ip *server;
	uint16_t id;
	struct buf query;
	char query_bytes[DNS_QUERY_MAX];
	struct dns_head head;
	int64_t deadline_ns; /* of the whole */
};

static YIELDS enum err stub_open(const struct backend_config *cfg, struct world_jail *jail_out,
				 struct backend **b_out) /* yields: indirect */
{
	struct backend *b = mem_alloc(cfg->mem, sizeof *b);
	if (!b)
		return ERR_NO_MEMORY;
	*b = (struct backend){ .w = cfg->w, .loop = cfg->loop, .mem = cfg->mem, .conf = cfg->conf };
	jail_out->may = WORLD_MAY_CONNECT;
	for (size_t i = 0; i < cfg->conf->servers_n; i++)
		jail_out->tcp_ports[jail_out->tcp_port_count++] = cfg->conf->servers[i].port;
	*b_out = b;
	return ERR_NONE;
}

static void stub_close(struct backend *b)
{
	mem_free(b->mem, b);
}

static int64_t soon(const struct job *j, int64_t ns)
{
	int64_t at_ns = world_mono_ns(j->b->w) + ns;
	return at_ns < j->deadline_ns ? at_ns : j->deadline_ns;
}

/* ---- UDP ------------------------------------------------------------------------------------------------- */

/* Waits for our answer among what comes. ERR_LIMIT: too much that is not ours. */
static YIELDS enum err udp_receive(struct job *j, struct source *s, char *room, struct str *packet_out)
{
	size_t n = 0;
	for (unsigned strays = 0; strays < STRAYS_MAX;) {
		enum err e = world_recv(j->b->w, s->fd, room, UDP_ROOM, &n);
		if (e == ERR_BUSY) {
			source_block(s, WORLD_IN);
			TRY(source_wait(s, WORLD_IN));
			continue;
		}
		if (e == ERR_NONE && dns_check(str_of(room, n), j->id, j->name, j->type, &j->head) == ERR_NONE) {
			*packet_out = str_of(room, n);
			return ERR_NONE;
		}
		if (e != ERR_NONE && e != ERR_EOF)
			return e;
		strays++;
	}
	return ERR_LIMIT;
}

static YIELDS enum err udp_exchange(struct job *j, struct str *packet_out)
{
	struct str query = buf_str(&j->query);
	struct source s;
	size_t n;
	int fd;
	char *room = arena_alloc(j->arena, UDP_ROOM);
	if (!room)
		return ERR_NO_MEMORY;
	TRY(world_udp_open(j->b->w, j->server, &fd));
	enum err e = source_open(&s, j->b->loop, fd);
	if (e != ERR_NONE) {
		world_close(j->b->w, fd);
		return e;
	}
	e = world_send(j->b->w, fd, &query, 1, &n);
	if (e == ERR_NONE)
		e = udp_receive(j, &s, room, packet_out);
	source_close(&s);
	return e;
}

/* ---- TCP -------------------------------------------------------------------------------------------------- */

/* Exactly n bytes. */
static YIELDS enum err tcp_read(struct stream *s, char *to, size_t n)
{
	while (n > 0) {
		struct str in = stream_input(s);
		if (in.n == 0) {
			TRY(stream_fill(s));
			continue;
		}
		size_t take = in.n < n ? in.n : n;
		memcpy(to, in.p, take);
		stream_consume(s, take);
		to += take;
		n -= take;
	}
	return ERR_NONE;
}

/* RFC 1035 §4.2.2: two bytes of length before each message. */
static YIELDS enum err tcp_talk(struct job *j, struct stream *s, struct str *packet_out)
{
	unsigned char length[2] = { (unsigned char)(j->query.n >> 8), (unsigned char)j->query.n };
	source_block(&s->src, WORLD_OUT);
	TRY(source_wait(&s->src, WORLD_OUT));
	TRY(world_connect_result(j->b->w, s->src.fd));
	TRY(stream_write(s, str_of((const char *)length, 2)));
	TRY(stream_write(s, buf_str(&j->query)));
	TRY(stream_flush(s));
	TRY(tcp_read(s, (char *)length, 2));
	size_t n = (size_t)length[0] << 8 | length[1];
	char *room = arena_alloc(j->arena, n ? n : 1);
	if (!room)
		return ERR_NO_MEMORY;
	TRY(tcp_read(s, room, n));
	*packet_out = str_of(room, n);
	TRY(dns_check(*packet_out, j->id, j->name, j->type, &j->head));
	return j->head.truncated ? ERR_SYNTAX : ERR_NONE;
}

static YIELDS enum err tcp_exchange(struct job *j, struct str *packet_out)
{
	struct stream s;
	int fd;
	TRY(world_connect(j->b->w, j->server, NULL, &fd));
	enum err e = stream_open(&s, j->b->loop, fd);
	if (e != ERR_NONE) {
		world_close(j->b->w, fd);
		return e;
	}
	e = tcp_talk(j, &s, packet_out);
	stream_close(&s);
	return e;
}

/* ---- one server after the other ------------------------------------------------------------------------------ */

static YIELDS enum err try_server(struct job *j, int64_t udp_ns, struct dns_lookup_out *out)
{
	struct str packet = STR_NONE;
	world_random(j->b->w, &j->id, sizeof j->id);
	buf_clear(&j->query);
	TRY(dns_write_query(&j->query, j->id, j->name, j->type));
	(void)co_set_deadline(soon(j, udp_ns));
	enum err e = udp_exchange(j, &packet);
	if (e == ERR_NONE && j->head.truncated) {
		(void)co_set_deadline(soon(j, TCP_NS));
		e = tcp_exchange(j, &packet);
	}
	TRY(e);
	TRY(dns_read(packet, j->name, j->type, j->arena, out));
	out->secure = j->head.validated && j->b->conf->dnssec && out->status != DNS_STATUS_FAILED;
	return ERR_NONE;
}

static struct str no_answer(struct job *j, enum err e)
{
	char text[IP_TEXT_MAX + 16];
	struct buf b = buf_fixed(text, sizeof text);
	ip_add_port(&b, j->server);
	return arena_strf(j->arena, "the resolver %.*s does not answer (%s)", STR_ARG(buf_str(&b)), err_name(e));
}

static YIELDS enum err stub_ask(struct backend *b, struct str name, enum dns_type type, struct arena *arena,
				struct dns_lookup_out *out)
{
	struct job j = { .b = b, .name = name, .type = type, .arena = arena };
	size_t servers = b->conf->servers_n, tries = servers > TRIES ? servers : TRIES, first = b->first;
	j.deadline_ns = co_set_deadline(NEVER);
	j.query = buf_fixed(j.query_bytes, sizeof j.query_bytes);
	enum err e = ERR_TIMEOUT;
	for (size_t i = 0; i < tries && world_mono_ns(b->w) < j.deadline_ns; i++) {
		size_t k = (first + i) % servers;
		j.server = &b->conf->servers[k];
		e = try_server(&j, i < servers ? UDP_FIRST_NS : UDP_LATER_NS, out);
		if (e == ERR_CANCELLED || e == ERR_NO_MEMORY)
			break;
		if (e != ERR_NONE)
			dns_fail(out, no_answer(&j, e), 0);
		else if (out->status != DNS_STATUS_FAILED) {
			b->first = k;
			break;
		}
	}
	(void)co_set_deadline(j.deadline_ns);
	TRY(arena_err(arena));
	return e == ERR_CANCELLED || e == ERR_NO_MEMORY ? e : ERR_NONE;
}

const struct backend_ops backend_stub = {
	.open = stub_open,
	.ask = stub_ask,
	.close = stub_close,
};
