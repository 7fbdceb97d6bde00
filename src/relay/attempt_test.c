/* SPDX-License-Identifier: Apache-2.0 */
/* Whole attempts over loopback: hosts in order, connections used again, servers that go away. */
#include "relay/relay_rig.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/test.h"
#include "relay/relay_server.h"

#define HI "220 mx.example.net"
#define EHLO "250-mx\r\n250 PIPELINING"
#define HELLO HI, EHLO
#define MESSAGE "250 m", "250 r", "354 go", "250 2.0.0 taken"
#define TEXT "A: b\r\n\r\nhi\r\n"
#define C_MESSAGE "MAIL FROM:<s@example.org>\r\nRCPT TO:<r0@example.net>\r\nDATA\r\n" TEXT ".\r\n"
#define C_EHLO "EHLO us.example.org\r\n"

static struct rig rig;
static struct pool pool;
static struct scope pool_scope;
static struct server servers[3];
static struct conf_hop hops[3];
static struct attempt attempt;

static void loopback(struct server *s)
{
	*s = (struct server){ .address = { .family = IP_V4, .bits = 32, .b = { 127, 0, 0, 1 } } };
}

/* A route to the first n servers, in order. */
static void route_to(size_t n)
{
	rig.route = (struct conf_route){ .name = STR("default"), .kind = ROUTE_KIND_SMTP, .hops = hops, .hops_n = n };
	for (size_t i = 0; i < n; i++)
		hops[i] = (struct conf_hop){ .host = STR("127.0.0.1"), .port = servers[i].address.port, .order = (uint16_t)i, .weight = 1 };
}

/* What rig_message() made, perhaps changed since. */
static YIELDS void send_it(const char *expected)
{
	char room[400];
	struct buf b = buf_fixed(room, sizeof room);
	rig_delivery(&rig, -1);
	attempt = (struct attempt){ .pool = &pool, .dns = &rig.mx_dns, .route = &rig.route, .d = &rig.d };
	attempt_run(&attempt);
	rig_outcomes(&rig, &b);
	if (!str_eq(buf_str(&b), str_z(expected)))
		fprintf(stderr, "%.*s instead of %s; %.*s\n", STR_ARG(buf_str(&b)), expected, STR_ARG(rig.d.trouble.text));
	assert_str(buf_str(&b), str_z(expected));
}

static YIELDS void send_one(size_t recipients, const char *expected)
{
	rig_message(&rig, recipients, STR(TEXT));
	send_it(expected);
}

static void begin(size_t n)
{
	for (size_t i = 0; i < n; i++)
		server_open(&servers[i], rig.loop);
	route_to(n);
	scope_open(&pool_scope, rig.loop, co_scope());
	pool_init(&pool, &rig.env, &pool_scope);
}

static YIELDS void end(size_t n)
{
	pool_empty(&pool);
	(void)co_set_deadline(NEVER);
	for (size_t i = 0; i < n; i++)
		server_stop(&servers[i]);
	scope_close(&pool_scope);
}

#define RUN(fn) loop_run(rig.loop, fn, NULL)
#define ANSWERS(s, k, ...) memcpy(servers[s].connections[k], ((const char *[]){ __VA_ARGS__ }), sizeof((const char *[]){ __VA_ARGS__ }))

/* ---- the pool --------------------------------------------------------------------------------------- */

/* coroutine */
static void reuse_body(void *arg UNUSED)
{
	uint64_t before = rig.env.count.connections->n;
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE, MESSAGE, MESSAGE, "221 bye");
	begin(1);
	for (int i = 0; i < 3; i++)
		send_one(1, "A250/2.0.0");
	assert_int_equal(servers[0].n, 1);
	assert_int_equal(pool.n, 1);
	assert_int_equal(rig.env.count.connections->n - before, 1);
	assert_str(buf_str(&servers[0].heard), STR(C_EHLO C_MESSAGE C_MESSAGE C_MESSAGE));
	assert_null(CONTAINER_OF(pool.idle.next, struct client, link)->stream.in); /* idle ones hold no buffer */
	end(1);
}

/* RFC 5321 §4.1.4: a name that belongs to the address which we come from. */
/* coroutine */
static void hostname_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HI, "502 what", "250 mx", MESSAGE, "221 bye");
	begin(1);
	rig.route.hostname = STR("out.example.org");
	send_one(1, "A250/2.0.0");
	assert_str(buf_str(&servers[0].heard), STR("EHLO out.example.org\r\nHELO out.example.org\r\n" C_MESSAGE));
	end(1);
}

/* coroutine */
static void stale_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE, SERVER_CLOSE);     /* closes when MAIL comes */
	ANSWERS(0, 1, HELLO, MESSAGE, "421 4.3.2 bored"); /* says so then */
	ANSWERS(0, 2, HELLO, MESSAGE);		      /* has closed before */
	ANSWERS(0, 3, HELLO, MESSAGE, "221 bye");
	begin(1);
	for (int i = 0; i < 3; i++)
		send_one(1, "A250/2.0.0");
	assert_int_equal(servers[0].n, 3);
	assert_int_equal(co_sleep_until(world_mono_ns(rig.w) + 50000000), ERR_NONE);
	send_one(1, "A250/2.0.0");
	assert_int_equal(servers[0].n, 4);
	end(1);
}

/* Answers that nobody asked for must not count for the next message. */
/* coroutine */
static void injected_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, "250 m", "250 r", "354 go", "250 2.0.0 taken\r\n250 x\r\n250 x\r\n354 x\r\n250 x", SERVER_HANG);
	ANSWERS(0, 1, HELLO, "250 m", "550 5.1.1 no", "554 no", "221 bye");
	begin(1);
	send_one(1, "A250/2.0.0");
	send_one(1, "R550/5.1.1");
	assert_int_equal(servers[0].n, 2);
	end(1);
}

/* E2: what died after the message's end is not sent again. */
/* coroutine */
static void uncertain_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE, "250 m", "250 r", "354 go", SERVER_CLOSE);
	ANSWERS(0, 1, HELLO, MESSAGE);
	begin(1);
	send_one(1, "A250/2.0.0");
	send_one(1, "D0/4.4.2?");
	assert_int_equal(servers[0].n, 1);
	end(1);
}

/* coroutine */
static void mailmax_body(void *arg UNUSED)
{
	static const char limits[] = "250-mx\r\n250 LIMITS MAILMAX=2 RCPTMAX=1";
	loopback(&servers[0]);
	ANSWERS(0, 0, HI, limits, MESSAGE, MESSAGE, "221 bye");
	ANSWERS(0, 1, HI, limits, MESSAGE, MESSAGE, "221 bye");
	ANSWERS(0, 2, HI, limits, MESSAGE, "221 bye");
	begin(1);
	send_one(5, "A250/2.0.0 A250/2.0.0 A250/2.0.0 A250/2.0.0 A250/2.0.0");
	assert_int_equal(servers[0].n, 3);
	assert_int_equal(pool.n, 1);
	end(1);
}

static YIELDS void send_to(const char *const *addresses, size_t n, const char *expected)
{
	rig_message(&rig, n, STR(TEXT));
	for (size_t i = 0; i < n; i++)
		rig.rcpts[i].address = str_z(addresses[i]);
	send_it(expected);
}

#define C_FROM "MAIL FROM:<s@example.org>\r\n"
#define C_TO(who) "RCPT TO:<" who ">\r\n"
#define C_DATA "DATA\r\n" TEXT ".\r\n"

/* RFC 9422 §4.3: RCPTDOMAINMAX counts over the session, refused ones too, and in the pool as well. */
/* coroutine */
static void domainmax_body(void *arg UNUSED)
{
	static const char limits[] = "250-mx\r\n250 LIMITS RCPTDOMAINMAX=2";
	static const char *const some[] = { "a@one.example", "b@two.example", "c@three.example", "d@one.example" };
	loopback(&servers[0]);
	ANSWERS(0, 0, HI, limits, "250 m", "550 5.1.1 who", "250 r", "250 r", "354 go", "250 2.0.0 taken", MESSAGE, "221 bye");
	ANSWERS(0, 1, HI, limits, MESSAGE, MESSAGE, "221 bye");
	begin(1);
	rig.route.connections = 5;
	send_to(some, 4, "R550/5.1.1 A250/2.0.0 A250/2.0.0 A250/2.0.0");
	assert_int_equal(servers[0].n, 2);
	send_to(some, 1, "A250/2.0.0"); /* the second session knew one domain only */
	assert_int_equal(servers[0].n, 2);
	assert_str(buf_str(&servers[0].heard),
		   STR(C_EHLO C_FROM C_TO("a@one.example") C_TO("b@two.example") C_TO("d@one.example") C_DATA "|" C_EHLO C_FROM
		       C_TO("c@three.example") C_DATA C_FROM C_TO("a@one.example") C_DATA));
	end(1);
}

/* Sessions in the pool that know as many domains as they may are of no use for yet another. */
/* coroutine */
static void domainmax_pool_body(void *arg UNUSED)
{
	static const char limits[] = "250-mx\r\n250 LIMITS RCPTDOMAINMAX=1";
	static const char *const some[] = { "a@one.example", "b@two.example" };
	loopback(&servers[0]);
	ANSWERS(0, 0, HI, limits, MESSAGE, MESSAGE, "221 bye");
	ANSWERS(0, 1, HI, limits, MESSAGE, "221 bye");
	begin(1);
	rig.route.connections = 5;
	send_to(some, 1, "A250/2.0.0");
	send_to(some + 1, 1, "A250/2.0.0");
	assert_int_equal(servers[0].n, 2);
	assert_int_equal(pool.n, 2);
	end(1);
}

/* coroutine */
static void tend(void *arg)
{
	pool_tend(arg);
}

/* coroutine */
static void expiry_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE, "221 bye");
	begin(1);
	assert_int_equal(scope_spawn(&pool_scope, "tend", CO_STACK_SMALL, tend, &pool), ERR_NONE);
	send_one(1, "A250/2.0.0");
	CONTAINER_OF(pool.idle.next, struct client, link)->idle_until_ns = world_mono_ns(rig.w);
	for (int i = 0; i < 100 && !str_ends(buf_str(&servers[0].heard), STR("QUIT\r\n")); i++)
		assert_int_equal(co_sleep_until(world_mono_ns(rig.w) + 10000000), ERR_NONE);
	assert_int_equal(pool.n, 0);
	assert_str(buf_str(&servers[0].heard), STR(C_EHLO C_MESSAGE "QUIT\r\n"));
	end(1);
}

/* ---- the next host: RFC 5321 §5.1 ------------------------------------------------------------------------ */

static const char *const turned_away[][6] = {
	{ "421 busy" },
	{ "554 5.7.1 not you" },
	{ "521 never" },
	{ SERVER_CLOSE },
	{ HI, SERVER_CLOSE },
	{ HI, "451 not now" },
	{ HI, EHLO, "421 bye" },
	{ HI, EHLO, "250 m", "421 bye" },
	{ HI, EHLO, "250 m", SERVER_CLOSE },
	{ HI, EHLO, "250 m", "250 r", "421 bye" },
	{ HI, EHLO, "250 m", "250 r", "354 go", "421 bye" },
	{ HI, EHLO, "999 what" },
};

/* coroutine */
static void next_host_body(void *arg UNUSED)
{
	for (size_t i = 0; i < COUNT(turned_away); i++) {
		loopback(&servers[0]);
		loopback(&servers[1]);
		memcpy(servers[0].connections[0], turned_away[i], sizeof turned_away[i]);
		ANSWERS(1, 0, HELLO, MESSAGE, "221 bye");
		begin(2);
		send_one(1, "A250/2.0.0");
		assert_int_equal(rig.d.reach, RELAY_REACH_REACHED);
		assert_true(str_starts(rig.d.rcpts[0].by, STR("127.0.0.1 [127.0.0.1]:")));
		end(2);
	}
}

/* coroutine */
static void refused_port_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	loopback(&servers[1]);
	ANSWERS(1, 0, HELLO, MESSAGE, "221 bye");
	begin(2);
	hops[0].port = 1; /* nobody listens there */
	send_one(1, "A250/2.0.0");
	pool_empty(&pool);
	hops[1].port = 1;
	send_one(1, "-");
	assert_str(rig.d.trouble.enhanced, STR("4.4.1"));
	assert_int_equal(rig.d.reach, RELAY_REACH_UNREACHABLE);
	struct relay_deliver_out out = { 0 };
	assert_int_equal(delivery_answer(&rig.d, attempt.mx_set, &out), ERR_NONE);
	assert_int_equal(out.outcomes_n, 1);
	assert_int_equal(out.outcomes[0].verdict, VERDICT_DEFER);
	end(2);
}

/* What a host says about a recipient is final; only who is open goes on. */
/* coroutine */
static void split_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	loopback(&servers[1]);
	ANSWERS(0, 0, HI, "250 mx", "250 m", "550 5.1.1 who", "421 bye");
	ANSWERS(1, 0, HI, "250 mx", MESSAGE, "221 bye");
	begin(2);
	send_one(2, "R550/5.1.1 A250/2.0.0");
	assert_str(buf_str(&servers[1].heard), STR("EHLO us.example.org\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<r1@example.net>\r\nDATA\r\n"
						   TEXT ".\r\n"));
	end(2);
}

/* RFC 7504 §3: permanent only when no host left hope. */
/* coroutine */
static void never_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	loopback(&servers[1]);
	ANSWERS(0, 0, "521 never");
	ANSWERS(1, 0, "521 never");
	ANSWERS(1, 1, "421 busy");
	ANSWERS(0, 1, "521 never");
	begin(2);
	send_one(1, "-");
	assert_int_equal(rig.d.trouble.verdict, VERDICT_REFUSE);
	send_one(1, "-");
	assert_int_equal(rig.d.trouble.verdict, VERDICT_DEFER);
	end(2);
}

/* X2 by connecting: a listener of ours at "*". */
/* coroutine */
static void ourselves_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE);
	begin(1);
	rig.listeners[1].address = (struct ip){ .family = IP_NONE, .port = servers[0].address.port };
	rig.conf.listeners_n = 2;
	send_one(1, "D0/4.4.6");
	rig.conf.listeners_n = 1;
	end(1);
}

/* coroutine */
static void silent_body(void *arg UNUSED)
{
	loopback(&servers[0]);
	loopback(&servers[1]);
	ANSWERS(0, 0, SERVER_HANG);
	ANSWERS(1, 0, HELLO, MESSAGE, "221 bye");
	rig.conf.times.greeting = 100;
	begin(2);
	send_one(1, "A250/2.0.0");
	rig.conf.times.greeting = 3000;
	end(2);
}

/* ---- bodies ---------------------------------------------------------------------------------------------------- */

#define BIG_BYTES 700000u

/* An open file without a name. */
static int file_with(struct str bytes)
{
	char room[64];
	struct buf name = buf_fixed(room, sizeof room);
	int fd, dir;
	buf_addf(&name, "/tmp/godwit-relay-%d", world_pid(rig.w));
	assert_int_equal(world_open(rig.w, WORLD_ABSOLUTE, buf_str(&name), WORLD_READ | WORLD_WRITE | WORLD_CREATE | WORLD_EXCL,
				    0600, &fd), ERR_NONE);
	assert_int_equal(world_open(rig.w, WORLD_ABSOLUTE, STR("/tmp"), WORLD_READ | WORLD_DIR, 0, &dir), ERR_NONE);
	assert_int_equal(world_unlink(rig.w, dir, str_sub(buf_str(&name), 5, name.n)), ERR_NONE);
	world_close(rig.w, dir);
	assert_int_equal(world_pwritev(rig.w, fd, &bytes, 1, 0), ERR_NONE);
	return fd;
}

static struct str big_text(void)
{
	static char big[BIG_BYTES];
	memset(big, 'x', sizeof big);
	for (size_t i = 70; i + 4 < sizeof big; i += 71)
		memcpy(big + i, "\r\n.", 3);
	memcpy(big + sizeof big - 2, "\r\n", 2);
	return str_of(big, sizeof big);
}

static void assert_stuffed(struct str heard, struct str text)
{
	size_t k = 0;
	for (size_t i = 0; i < text.n; i++, k++) {
		if (i > 0 && text.p[i] == '.' && text.p[i - 1] == '\n')
			assert_int_equal(heard.p[k++], '.');
		assert_int_equal(heard.p[k], text.p[i]);
	}
	assert_str(str_sub(heard, k, heard.n), STR(".\r\n"));
}

/* coroutine */
static void file_body(void *arg UNUSED)
{
	struct str text = big_text();
	int fd = file_with(text);
	loopback(&servers[0]);
	ANSWERS(0, 0, HELLO, MESSAGE, MESSAGE, "221 bye");
	begin(1);
	rig_message(&rig, 1, STR(""));
	rig.in.prefix = STR("Received: x\r\n");
	rig.in.in_file = true;
	rig.in.body_bytes = text.n;
	rig_delivery(&rig, fd);
	attempt = (struct attempt){ .pool = &pool, .dns = &rig.mx_dns, .route = &rig.route, .d = &rig.d };
	attempt_run(&attempt);
	assert_int_equal(rig.d.rcpts[0].found.verdict, VERDICT_ACCEPT);
	struct str heard = buf_str(&servers[0].heard), head = STR("DATA\r\nReceived: x\r\n");
	assert_stuffed(str_sub(heard, str_find_str(heard, head) + head.n, heard.n), text);
	/* a file that is shorter than it should be: not the server's fault */
	rig.in.body_bytes++;
	rig_delivery(&rig, fd);
	attempt_run(&attempt);
	assert_str(rig.d.rcpts[0].found.enhanced, STR("4.3.0"));
	world_close(rig.w, fd);
	end(1);
}

/* coroutine */
static void unix_socket_body(void *arg UNUSED)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct buf name = buf_fixed(a.sun_path, sizeof a.sun_path - 1);
	buf_addf(&name, "/tmp/godwit-lmtp-%d", world_pid(rig.w));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 5), 0);
	loopback(&servers[0]);
	servers[0].listen_fd = fd;
	ANSWERS(0, 0, HELLO, "250 m", "250 r", "250 r", "354 go", "250 2.1.5 a\r\n450 4.2.2 b", MESSAGE, "221 bye");
	begin(1);
	rig.route.kind = ROUTE_KIND_LMTP;
	hops[0] = (struct conf_hop){ .host = buf_str(&name), .weight = 1 };
	send_one(2, "A250/2.1.5 D450/4.2.2");
	send_one(1, "A250/2.0.0");
	assert_int_equal(servers[0].n, 1);
	assert_str(rig.d.rcpts[0].by, buf_str(&name));
	pool_empty(&pool);
	hops[0].host = STR("/tmp/there-is-no-such-socket");
	send_one(1, "-");
	assert_str(rig.d.trouble.enhanced, STR("4.4.1"));
	end(1);
	(void)unlink(a.sun_path);
}

#define TEST(name)                      \
	static void name(void **state)  \
	{                               \
		RUN(name##_body);       \
		log_flush(&rig.log);    \
	}
TEST(reuse)
TEST(hostname)
TEST(stale)
TEST(injected)
TEST(uncertain)
TEST(mailmax)
TEST(domainmax)
TEST(domainmax_pool)
TEST(expiry)
TEST(next_host)
TEST(refused_port)
TEST(split)
TEST(never)
TEST(ourselves)
TEST(silent)
TEST(file)
TEST(unix_socket)

static int setup(void **state)
{
	rig_open(&rig, world_linux_new());
	return 0;
}

static int teardown(void **state)
{
	struct world *w = rig.w;
	rig_close_all(&rig);
	world_linux_free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reuse),	cmocka_unit_test(hostname),	cmocka_unit_test(stale), cmocka_unit_test(uncertain),
		cmocka_unit_test(injected),	cmocka_unit_test(mailmax),	cmocka_unit_test(domainmax),	cmocka_unit_test(domainmax_pool),
		cmocka_unit_test(expiry), cmocka_unit_test(next_host),
		cmocka_unit_test(refused_port), cmocka_unit_test(split), cmocka_unit_test(never),
		cmocka_unit_test(ourselves),	cmocka_unit_test(silent), cmocka_unit_test(file),
		cmocka_unit_test(unix_socket),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
