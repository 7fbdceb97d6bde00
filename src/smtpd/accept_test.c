/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners and sessions over real sockets: what needs time, the kernel's buffers, or several clients. */
#include "smtpd/session_rig.h"

#include "base/test.h"

#define MS 1000000LL
#define OPEN "EHLO client\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.org>\r\n"

/* A scene: the server listens, a client plays, then all is closed. */
struct scene {
	struct rig rig;
	struct ip address;
	struct scope work;
	void (*client)(struct scene *sc);
	int64_t took_ns;
};

static struct scene scene;

/* ---- the client's side ----------------------------------------------------------------------- */

static YIELDS void dial(struct scene *sc, struct stream *st)
{
	int fd;
	assert_int_equal(world_connect(sc->rig.w, &sc->address, NULL, &fd), ERR_NONE);
	assert_int_equal(stream_open(st, sc->rig.loop, fd), ERR_NONE);
	source_block(&st->src, WORLD_OUT);
	assert_int_equal(source_wait(&st->src, WORLD_OUT), ERR_NONE);
	assert_int_equal(world_connect_result(sc->rig.w, fd), ERR_NONE);
}

static YIELDS void say(struct stream *st, struct str s)
{
	assert_int_equal(stream_write(st, s), ERR_NONE);
	assert_int_equal(stream_flush(st), ERR_NONE);
}

/* Everything up to the n-th last line of a reply, then looks at its code; "" when the server has closed. */
static YIELDS void hear(struct stream *st, const char *code)
{
	for (;;) {
		struct str in = stream_input(st), rest = in;
		while (str_find(rest, '\n') < rest.n) {
			struct str line = str_split(rest, '\n', &rest);
			if (line.n < 4 || line.p[3] != ' ')
				continue;
			assert_str(str_sub(line, 0, str_z(code).n), str_z(code));
			stream_consume(st, in.n - rest.n);
			return;
		}
		enum err e = stream_fill(st);
		if (e != ERR_NONE) {
			assert_int_equal(*code, 0);
			return;
		}
	}
}

static YIELDS void pause_ms(struct scene *sc, int64_t ms)
{
	assert_int_equal(co_sleep_until(world_mono_ns(sc->rig.w) + ms * MS), ERR_NONE);
}

/* ---- the scene --------------------------------------------------------------------------------- */

static YIELDS void until_no_session(struct scene *sc)
{
	int64_t until = world_mono_ns(sc->rig.w) + 5000 * MS;
	while (sc->rig.d.sessions > 0 && world_mono_ns(sc->rig.w) < until)
		pause_ms(sc, 1);
	assert_int_equal(sc->rig.d.sessions, 0);
}

/* coroutine */
static void play(void *arg)
{
	struct scene *sc = arg;
	struct ip any = { .family = IP_V4, .bits = 32, .b = { 127, 0, 0, 1 } };
	int fd;
	scope_open(&sc->work, sc->rig.loop, NULL);
	sc->rig.d.work = &sc->work;
	assert_int_equal(world_listen(sc->rig.w, &any, 0, &fd), ERR_NONE);
	assert_int_equal(world_local_addr(sc->rig.w, fd, &sc->address), ERR_NONE);
	sc->rig.d.listener_count = 0;
	assert_int_equal(smtpd_listen(&sc->rig.d, fd, 0), ERR_NONE);
	int64_t began_ns = world_mono_ns(sc->rig.w);
	sc->client(sc); /* yields: through a pointer */
	sc->took_ns = world_mono_ns(sc->rig.w) - began_ns;
	until_no_session(sc);
	scope_stop(&sc->work);
	smtpd_close_listeners(&sc->rig.d);
	scope_close(&sc->work);
}

static void run(void (*client)(struct scene *sc))
{
	scene.client = client;
	scene.rig.messages_n = 0;
	loop_run(scene.rig.loop, play, &scene);
	assert_int_equal(scene.rig.d.body_bytes, 0);
}

static int group_setup(void **state)
{
	return rig_open(&scene.rig) ? 0 : 1;
}

static int group_teardown(void **state)
{
	rig_close_all(&scene.rig);
	return 0;
}

static int conf_reset(void **state)
{
	rig_conf(&scene.rig.conf, &scene.rig.listener);
	return 0;
}

/* ---- scenes -------------------------------------------------------------------------------------- */

static YIELDS void client_plain(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	hear(&st, "220");
	say(&st, STR("EHLO client\r\n"));
	hear(&st, "250");
	say(&st, STR("MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n"));
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "354");
	say(&st, STR("x\r\n.\r"));
	pause_ms(sc, 5); /* H4 */
	say(&st, STR("\nQUIT\r\n"));
	hear(&st, "250");
	hear(&st, "221");
	hear(&st, "");
	stream_close(&st);
}

static void plain(void **state)
{
	run(client_plain);
	assert_int_equal(scene.rig.messages_n, 1);
	assert_str(scene.rig.messages[0].body, STR("x\r\n"));
}

/* H25: in all; who comes one too many hears 421. */
static YIELDS void client_many(struct scene *sc)
{
	struct stream st[4];
	for (size_t i = 0; i < 4; i++) {
		dial(sc, &st[i]);
		hear(&st[i], i < 3 ? "220" : "421 4.3.2");
	}
	hear(&st[3], "");
	stream_close(&st[0]);
	while (sc->rig.d.sessions == 3)
		pause_ms(sc, 1);
	stream_close(&st[3]);
	dial(sc, &st[3]);
	hear(&st[3], "220");
	for (size_t i = 1; i < 4; i++)
		stream_close(&st[i]);
}

static void too_many(void **state)
{
	scene.rig.conf.limits.connections = 3;
	run(client_many);
}

/* H23: a byte now and then does not prolong a command's time. */
static YIELDS void client_slow(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	hear(&st, "220");
	for (int i = 0; i < 4; i++) {
		say(&st, STR("N"));
		pause_ms(sc, 20);
	}
	hear(&st, "421 4.4.2");
	hear(&st, "");
	stream_close(&st);
}

static void slow(void **state)
{
	scene.rig.conf.times.command = 100;
	run(client_slow);
	assert_true(scene.took_ns < 2000 * MS);
}

/* H23, RFC 5321 §4.5.3.2.5: neither does it a message's. */
static YIELDS void client_slow_data(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	say(&st, STR(OPEN "DATA\r\n"));
	hear(&st, "220");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "354");
	for (int i = 0; i < 8; i++) {
		say(&st, STR("N"));
		pause_ms(sc, 20);
	}
	hear(&st, "421 4.4.2");
	stream_close(&st);
}

static void slow_data(void **state)
{
	scene.rig.conf.times.data_block = 50;
	scene.rig.conf.times.data_total = 100;
	run(client_slow_data);
	assert_int_equal(scene.rig.messages_n, 0);
}

/* H24: a client that reads nothing is left after the time for writing. */
static YIELDS void client_deaf(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	(void)co_set_deadline(world_mono_ns(sc->rig.w) + 10000 * MS);
	while (sc->rig.d.sessions > 0 || st.sent_bytes == 0)
		if (stream_write(&st, STR("HELP\r\nHELP\r\nHELP\r\nHELP\r\nHELP\r\nHELP\r\nHELP\r\n")) != ERR_NONE ||
		    stream_flush(&st) != ERR_NONE)
			break;
	(void)co_set_deadline(NEVER);
	stream_close(&st);
}

static void deaf(void **state)
{
	scene.rig.conf.limits.junk_commands = 100000000;
	scene.rig.conf.times.write = 100;
	run(client_deaf);
	assert_true(scene.took_ns < 9000 * MS);
}

/* H22: the connection is reset in the middle of a message. */
static YIELDS void client_reset(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	say(&st, STR(OPEN "DATA\r\n"));
	hear(&st, "220");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "354");
	say(&st, STR("half of it\r\n"));
	pause_ms(sc, 2);
	world_set_abort_on_close(sc->rig.w, st.src.fd);
	stream_close(&st);
}

/* H22: a client that has sent all and closes its half still gets its message through, once. */
static YIELDS void client_half_close(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	say(&st, STR(OPEN "DATA\r\nwhole\r\n.\r\n"));
	world_shutdown_send(sc->rig.w, st.src.fd);
	hear(&st, "220");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "250");
	hear(&st, "354");
	hear(&st, "250 2.0.0");
	hear(&st, "");
	stream_close(&st);
}

/* H22: the connection is reset while the 250 is on its way: the message is there, once. */
static YIELDS void client_reset_at_the_end(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	say(&st, STR(OPEN "DATA\r\nall of it\r\n.\r\n"));
	hear(&st, "220");
	for (int i = 0; i < 3; i++)
		hear(&st, "250");
	hear(&st, "354");
	int64_t until = world_mono_ns(sc->rig.w) + 5000 * MS;
	while (sc->rig.messages_n == 0 && world_mono_ns(sc->rig.w) < until)
		pause_ms(sc, 1);
	world_set_abort_on_close(sc->rig.w, st.src.fd); /* the reply was never read */
	stream_close(&st);
}

static void ends(void **state)
{
	run(client_reset);
	assert_int_equal(scene.rig.messages_n, 0);
	run(client_reset_at_the_end);
	assert_int_equal(scene.rig.messages_n, 1);
	run(client_half_close);
	assert_int_equal(scene.rig.messages_n, 1);
}

/* RFC 5321 §3.8: who is idle hears 421 at once, who sends a message may finish it. */
static YIELDS void client_of_a_stopping_server(struct scene *sc)
{
	struct stream idle, busy;
	dial(sc, &idle);
	dial(sc, &busy);
	hear(&idle, "220");
	say(&busy, STR(OPEN "DATA\r\n"));
	hear(&busy, "220");
	hear(&busy, "250");
	hear(&busy, "250");
	hear(&busy, "250");
	hear(&busy, "354");
	scope_stop(&sc->work);
	hear(&idle, "421 4.3.2");
	hear(&idle, "");
	say(&busy, STR("x\r\n.\r\n"));
	hear(&busy, "250 2.0.0");
	hear(&busy, "421 4.3.2");
	stream_close(&idle);
	stream_close(&busy);
}

static void stopping(void **state)
{
	run(client_of_a_stopping_server);
	assert_int_equal(scene.rig.messages_n, 1);
}

/* H113: without descriptors the connection waits, and is served as soon as there are some. */
static YIELDS void client_without_descriptors(struct scene *sc)
{
	static int fds[200000];
	struct stream st;
	size_t n = 0;
	while (n < COUNT(fds) && world_open(sc->rig.w, WORLD_ABSOLUTE, STR("/dev/null"), WORLD_READ, 0, &fds[n]) == ERR_NONE)
		n++;
	if (n == COUNT(fds)) /* this machine has too many to use them up */
		n = 0;
	else
		world_close(sc->rig.w, fds[--n]);
	dial(sc, &st);
	pause_ms(sc, 50);
	assert_true(n == 0 || sc->rig.d.sessions == 0);
	while (n > 0)
		world_close(sc->rig.w, fds[--n]);
	hear(&st, "220");
	stream_close(&st);
}

static void without_descriptors(void **state)
{
	run(client_without_descriptors);
}

/* H36: guessing addresses becomes slow, then ends. */
static YIELDS void client_guesses(struct scene *sc)
{
	struct stream st;
	dial(sc, &st);
	say(&st, STR("EHLO client\r\nMAIL FROM:<>\r\n"));
	for (int i = 0; i < 7; i++)
		say(&st, STR("RCPT TO:<nobody@example.org>\r\n"));
	for (int i = 0; i < 3; i++)
		hear(&st, i == 0 ? "220" : "250");
	for (int i = 0; i < 6; i++)
		hear(&st, "550 5.1.1");
	hear(&st, "421 4.7.0");
	stream_close(&st);
}

/* The reply before a close arrives, though the client has sent more than was read. */
static YIELDS void client_foreign(struct scene *sc)
{
	struct stream st;
	static char junk[100000];
	dial(sc, &st);
	memset(junk, 'x', sizeof junk);
	memcpy(junk, "GET / HTTP/1.1\r\n", 16);
	say(&st, str_of(junk, sizeof junk));
	pause_ms(sc, 20);
	hear(&st, "220");
	hear(&st, "554 5.5.1");
	hear(&st, "");
	stream_close(&st);
}

static void foreign(void **state)
{
	run(client_foreign);
}

/* H13. Loopback is trusted, so the session is made by hand, with a stranger's address. */
struct stranger {
	struct scene *sc;
	int fds[2];
	struct str early; /* what the client says before it is greeted */
};

/* coroutine */
static void stranger_run(void *arg)
{
	struct stranger *x = arg;
	struct rig *r = &x->sc->rig;
	struct session *s = mem_alloc(world_mem(r->w), sizeof *s);
	assert_non_null(s);
	s->d = &r->d;
	s->client = r->client;
	assert_int_equal(stream_open(&s->stream, r->loop, x->fds[0]), ERR_NONE);
	if (x->early.n)
		assert_int_equal(world_packet_send(r->w, x->fds[1], &x->early, 1, NULL, 0), ERR_NONE);
	world_shutdown_send(r->w, x->fds[1]);
	int64_t began_ns = world_mono_ns(r->w);
	session_serve(s);
	x->sc->took_ns = world_mono_ns(r->w) - began_ns;
	session_done(s);
	mem_free(world_mem(r->w), s);
}

static void early(struct str what, const char *reply)
{
	static char packet[WORLD_PACKET_MAX];
	struct stranger x = { .sc = &scene, .early = what };
	size_t n = 0, fds_n = 0;
	int fds[WORLD_PACKET_FDS];
	assert_int_equal(world_pair(scene.rig.w, x.fds), ERR_NONE);
	loop_run(scene.rig.loop, stranger_run, &x);
	enum err e = world_packet_recv(scene.rig.w, x.fds[1], packet, sizeof packet, &n, fds, &fds_n);
	assert_int_equal(e == ERR_NONE, *reply != 0);
	assert_str(str_sub(str_of(packet, n), 0, str_z(reply).n), str_z(reply));
	world_close(scene.rig.w, x.fds[1]);
}

static void guesses(void **state)
{
	static const char all[] = "EHLO client\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
					"RCPT TO:<nobody@example.org>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
					"RCPT TO:<nobody@example.org>\r\nRCPT TO:<nobody@example.org>\r\n";
	scene.rig.conf.limits.errors = 6;
	int64_t began_ns = world_measure_ns(scene.rig.w);
	rig_play(&scene.rig, str_z(all), RIG_WHOLE);
	int64_t took_ns = world_measure_ns(scene.rig.w) - began_ns;
	assert_true(took_ns >= 300 * MS && took_ns < 5000 * MS); /* 100 + 200 */
	assert_true(str_find_str(buf_str(&scene.rig.output), STR("421 4.7.0")) < scene.rig.output.n);
	run(client_guesses); /* from loopback: not slowed down, but ended too */
	assert_true(scene.took_ns < 250 * MS);
}

static void early_talkers(void **state)
{
	scene.rig.conf.times.greet_delay = 60;
	early(STR(OPEN "DATA\r\nx\r\n.\r\n"), "554 5.5.1");
	assert_true(scene.took_ns < 50 * MS); /* no longer than needed */
	early(STR(""), ""); /* hung up before the greeting */
	assert_int_equal(scene.rig.messages_n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(plain, conf_reset),	  cmocka_unit_test_setup(too_many, conf_reset),
		cmocka_unit_test_setup(slow, conf_reset),	  cmocka_unit_test_setup(slow_data, conf_reset),
		cmocka_unit_test_setup(deaf, conf_reset),	  cmocka_unit_test_setup(ends, conf_reset),
		cmocka_unit_test_setup(stopping, conf_reset),	  cmocka_unit_test_setup(foreign, conf_reset),
		cmocka_unit_test_setup(early_talkers, conf_reset), cmocka_unit_test_setup(guesses, conf_reset),
		cmocka_unit_test_setup(without_descriptors, conf_reset),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
