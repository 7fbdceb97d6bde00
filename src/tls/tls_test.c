/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over loopback: versions and keys, names, verification, tickets, ends, slow and broken clients. */
#include "base/test.h"
#include "tls/tls_rig.h"

/* One connection: the server's coroutine, and what came of it. */
struct served {
	struct rig *r;
	struct stream s;
	int64_t deadline_ns;
	enum err handshake, end;
	char why[128], version[16], cipher[64], name[64];
	bool resumed, over;
	unsigned char binding[2][TLS_BINDING_MAX];
	size_t binding_n[2];
	enum tls_result result;
	struct scope *scope;
};

static void copy(char *to, size_t room, struct str s)
{
	size_t n = s.n < room ? s.n : room - 1;
	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
}

/* Echoes what comes until the end. */
/* coroutine */
static void serve(void *arg)
{
	struct served *v = arg;
	if (v->deadline_ns)
		(void)co_set_deadline(v->deadline_ns);
	v->handshake = tls_accept(v->r->server, &v->s);
	struct tls_info i = tls_info(&v->s);
	copy(v->why, sizeof v->why, tls_why(&v->s));
	copy(v->version, sizeof v->version, i.version);
	copy(v->cipher, sizeof v->cipher, i.cipher);
	copy(v->name, sizeof v->name, i.server_name);
	v->resumed = i.resumed;
	v->result = tls_result(&v->s);
	for (unsigned k = 0; k < 2; k++)
		if (tls_binding(&v->s, (enum tls_binding)k, v->binding[k], &v->binding_n[k]) != ERR_NONE)
			v->binding_n[k] = 0;
	v->end = v->handshake;
	while (v->end == ERR_NONE) {
		struct str in = stream_input(&v->s);
		if (in.n) {
			v->end = stream_write(&v->s, in);
			stream_consume(&v->s, in.n);
			if (v->end == ERR_NONE)
				v->end = stream_flush(&v->s);
		} else {
			v->end = stream_fill_idle(&v->s);
		}
	}
	stream_close(&v->s);
	v->over = true;
}

static int server_for(struct served *v, struct rig *r)
{
	int fds[2];
	*v = (struct served){ .r = r, .deadline_ns = v->deadline_ns };
	rig_sockets(r, fds);
	assert_int_equal(stream_open(&v->s, r->l, fds[0]), ERR_NONE);
	assert_int_equal(scope_spawn(co_scope(), "serve", TLS_STACK, serve, v), ERR_NONE);
	return fds[1];
}

static YIELDS void wait_over(struct served *v)
{
	for (unsigned i = 0; i < 20000 && !v->over; i++)
		if (co_sleep_until(world_mono_ns(v->r->w) + 500000) != ERR_NONE)
			break;
	assert_true(v->over);
}

static struct rig rig;

static void run(void (*fn)(void *arg))
{
	rig_open(&rig);
	loop_run(rig.l, fn, &rig);
	rig_close(&rig);
}

/* ---- versions and keys ---------------------------------------------------------------------------------- */

static YIELDS void one_of(struct rig *r, enum rig_kind kind, int version)
{
	static const char *const names[] = { "TLSv1.2", "TLSv1.3" };
	uint32_t number = rig_add(r, kind, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	struct served v = { 0 };
	struct raw c;
	char text[16] = "";
	r->server = rig_server(r, &number, 1);
	r->signatures = 0;
	raw_open(&c, r, server_for(&v, r), version);
	assert_int_equal(raw_handshake(&c), 1);
	raw_write(&c, "hello");
	assert_int_equal(raw_read(&c, text, sizeof text), 5);
	assert_string_equal(text, "hello");
	unsigned char ours[32];
	assert_int_equal(SSL_export_keying_material(c.ssl, ours, 32, "EXPORTER-Channel-Binding", 24, (const unsigned char *)"", 0, 1), 1);
	SSL_shutdown(c.ssl);
	raw_pump(&c);
	wait_over(&v);
	assert_int_equal(v.handshake, ERR_NONE);
	assert_int_equal(v.end, ERR_EOF);
	assert_string_equal(v.version, names[version == TLS1_3_VERSION]);
	assert_int_equal(r->signatures, 1);
	assert_int_equal(v.binding_n[TLS_BINDING_EXPORTER], 32);
	assert_memory_equal(v.binding[TLS_BINDING_EXPORTER], ours, 32);
	assert_int_equal(v.binding_n[TLS_BINDING_SERVER_END_POINT], 32); /* the CA signs with SHA-256 */
	raw_close(&c);
	tls_server_free(r->server);
	r->server = NULL;
}

/* coroutine */
static void all_kinds(void *arg)
{
	for (enum rig_kind k = RIG_RSA; k <= RIG_ED; k++)
		for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
			one_of(arg, k, v);
}

static void test_versions_and_keys(void **state)
{
	run(all_kinds);
}

/* ---- names ---------------------------------------------------------------------------------------------- */

/* Which certificate a client that asks for this name, with these signature algorithms, is shown. */
static YIELDS size_t shown(struct rig *r, const char *name, const char *algorithms)
{
	struct served v = { 0 };
	struct raw c;
	size_t found = RIG_KEYS_MAX;
	raw_open(&c, r, server_for(&v, r), 0);
	if (name)
		SSL_set_tlsext_host_name(c.ssl, (uintptr_t)name);
	if (algorithms)
		SSL_set1_sigalgs_list(c.ssl, (uintptr_t)algorithms);
	assert_int_equal(raw_handshake(&c), 1);
	X509 *x = SSL_get1_peer_certificate(c.ssl);
	for (size_t i = 0; i < r->certs_n; i++)
		if (X509_cmp(x, r->certs[i].x) == 0)
			found = i;
	X509_free(x);
	SSL_shutdown(c.ssl);
	raw_pump(&c);
	wait_over(&v);
	raw_close(&c);
	return found;
}

#define RSA_ONLY "rsa_pss_rsae_sha256:RSA+SHA256"

/* coroutine */
static void names(void *arg)
{
	struct rig *r = arg;
	static const uint32_t all[] = { 0, 1, 2, 3 };
	rig_add(r, RIG_RSA, "DNS:mx.example.org,DNS:mail.example.org", -RIG_DAY, RIG_DAY);
	rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	rig_add(r, RIG_EC, "DNS:*.example.net,DNS:example.net", -RIG_DAY, RIG_DAY);
	rig_add(r, RIG_RSA, "DNS:special.example.net", -RIG_DAY, RIG_DAY);
	r->server = rig_server(r, all, 4);
	assert_int_equal(shown(r, "mx.example.org", "ECDSA+SHA256:" RSA_ONLY), 1);
	assert_int_equal(shown(r, "mx.example.org", RSA_ONLY), 0);
	assert_int_equal(shown(r, "MAIL.example.org", NULL), 0);
	assert_int_equal(shown(r, "a.example.net", NULL), 2);
	assert_int_equal(shown(r, "special.example.net", RSA_ONLY), 3);
	assert_int_equal(shown(r, NULL, RSA_ONLY), 0);
	assert_int_equal(shown(r, "a.b.example.net", RSA_ONLY), 0);	     /* a wildcard is one label */
	assert_int_equal(shown(r, "../../etc/passwd", RSA_ONLY), 0); /* H58 */
	assert_int_equal(shown(r, "mx.example.org\\", RSA_ONLY), 0);
}

static void test_names(void **state)
{
	run(names);
}

/* coroutine */
static void replaced(void *arg)
{
	struct rig *r = arg;
	size_t bad = 99;
	uint32_t first = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	uint32_t next = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	struct tls_certificate good = { next, r->certs[next].pem };
	struct tls_certificate list[2] = { good, { 7, STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") } };
	r->server = rig_server(r, &first, 1);
	struct served v = { 0 };
	struct raw c;
	char text[8] = "";
	raw_open(&c, r, server_for(&v, r), 0);
	assert_int_equal(raw_handshake(&c), 1);
	assert_int_equal(tls_server_certificates(r->server, list, 2, &bad), ERR_SYNTAX);
	assert_int_equal(bad, 1);
	assert_int_equal(shown(r, NULL, NULL), first);
	assert_int_equal(tls_server_certificates(r->server, &good, 1, &bad), ERR_NONE);
	assert_int_equal(shown(r, NULL, NULL), next);
	raw_write(&c, "on"); /* the session of the old one goes on */
	assert_int_equal(raw_read(&c, text, sizeof text), 2);
	raw_close(&c);
	wait_over(&v);
	assert_int_equal(v.end, ERR_CLOSED); /* an end without close_notify */
	assert_int_equal(tls_server_certificates(r->server, NULL, 0, &bad), ERR_NONE);
	assert_false(tls_server_ready(r->server));
}

static void test_replaced(void **state)
{
	run(replaced);
}

/* ---- our client ------------------------------------------------------------------------------------------ */

static YIELDS enum err meet(struct rig *r, const struct tls_wish *w, enum tls_result *result_out, struct tls_info *info_out)
{
	struct served v = { 0 };
	struct stream s;
	assert_int_equal(stream_open(&s, r->l, server_for(&v, r)), ERR_NONE);
	enum err e = tls_connect(r->client, &s, w);
	*result_out = tls_result(&s);
	*info_out = tls_info(&s);
	if (e == ERR_NONE) {
		assert_true(stream_is_tls(&s));
		assert_int_equal(stream_write(&s, STR("ping")), ERR_NONE);
		assert_int_equal(stream_flush(&s), ERR_NONE);
		assert_int_equal(stream_fill(&s), ERR_NONE);
		assert_true(str_eq(stream_input(&s), STR("ping")));
		stream_end(&s);
	} else {
		assert_true(tls_why(&s).n > 0);
	}
	stream_close(&s);
	wait_over(&v);
	assert_int_equal(v.end, e == ERR_NONE ? ERR_EOF : v.end);
	return e;
}

static void use(struct rig *r, uint32_t number)
{
	tls_server_free(r->server);
	r->server = rig_server(r, &number, 1);
}

static void trust(struct rig *r)
{
	char path[64];
	int fd;
	struct buf b = buf_fixed(path, sizeof path);
	buf_addf(&b, "/tmp/godwit-tls-%d.pem", world_pid(r->w));
	assert_int_equal(world_open(r->w, WORLD_ABSOLUTE, buf_str(&b), WORLD_WRITE | WORLD_CREATE | WORLD_TRUNC, 0600, &fd), ERR_NONE);
	assert_int_equal(world_pwritev(r->w, fd, &r->ca.pem, 1, 0), ERR_NONE);
	assert_int_equal(tls_client_new(r->w, buf_str(&b), &r->client), ERR_NONE);
	world_close(r->w, fd);
	path[b.n] = '\0';
	remove(path);
}

/* coroutine */
static void verification(void *arg)
{
	struct rig *r = arg;
	enum tls_result result;
	struct tls_info info;
	struct str mx = STR("mx.example.org"), other = STR("mx.example.net"), both[2] = { other, mx };
	uint32_t good = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	uint32_t old = rig_add(r, RIG_EC, "DNS:mx.example.org", -2 * RIG_DAY, -RIG_DAY);
	uint32_t alone = (uint32_t)r->certs_n++;
	r->certs[alone] = rig_cert(r, rig_key(RIG_EC), "DNS:mx.example.org", NULL, -RIG_DAY, RIG_DAY);
	trust(r);
	struct tls_wish any = { .verify = TLS_VERIFY_NONE, .sni = mx };
	struct tls_wish pkix = { .verify = TLS_VERIFY_PKIX, .sni = mx, .names = &mx, .names_n = 1 };
	struct tls_wish wrong = { .verify = TLS_VERIFY_PKIX, .sni = mx, .names = &other, .names_n = 1 };
	struct tls_wish two = { .verify = TLS_VERIFY_PKIX, .sni = mx, .names = both, .names_n = 2 };
	use(r, good);
	assert_int_equal(meet(r, &any, &result, &info), ERR_NONE);
	assert_false(info.verified);
	assert_int_equal(meet(r, &pkix, &result, &info), ERR_NONE);
	assert_true(info.verified);
	assert_int_equal(result, TLS_RESULT_OK);
	assert_int_equal(meet(r, &two, &result, &info), ERR_NONE);
	assert_int_equal(meet(r, &wrong, &result, &info), ERR_SYNTAX);
	assert_int_equal(result, TLS_RESULT_WRONG_NAME);
	use(r, old);
	assert_int_equal(meet(r, &pkix, &result, &info), ERR_SYNTAX);
	assert_int_equal(result, TLS_RESULT_EXPIRED);
	assert_int_equal(meet(r, &any, &result, &info), ERR_NONE);
	use(r, alone);
	assert_int_equal(meet(r, &pkix, &result, &info), ERR_SYNTAX);
	assert_int_equal(result, TLS_RESULT_NOT_TRUSTED);
	assert_int_equal(meet(r, &any, &result, &info), ERR_NONE);
}

static void test_verification(void **state)
{
	run(verification);
}

/* coroutine */
static void dane(void *arg)
{
	struct rig *r = arg;
	enum tls_result result;
	struct tls_info info;
	unsigned char spki[32], ca[32], *der = NULL;
	unsigned n;
	struct str mx = STR("mx.example.org"), other = STR("mx.example.net");
	uint32_t expired = rig_add(r, RIG_EC, "DNS:mx.example.org", -2 * RIG_DAY, -RIG_DAY);
	uint32_t good = rig_add(r, RIG_RSA, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	trust(r);
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(r->certs[expired].x), &der);
	assert_int_equal(EVP_Digest(der, (size_t)len, spki, &n, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
	assert_int_equal(X509_digest(r->ca.x, EVP_sha256(), ca, &n), 1);
	struct tls_tlsa ee = { 3, 1, 1, str_of((char *)spki, 32) }, ta = { 2, 0, 1, str_of((char *)ca, 32) };
	struct tls_tlsa useless = { 1, 1, 1, str_of((char *)spki, 32) };
	struct tls_wish w = { .verify = TLS_VERIFY_DANE, .sni = mx, .names = &mx, .names_n = 1, .tlsa = &ee, .tlsa_n = 1 };
	assert_true(tls_tlsa_usable(&ee) && tls_tlsa_usable(&ta) && !tls_tlsa_usable(&useless));
	use(r, expired); /* RFC 7672 §3.1.1: with DANE-EE neither dates nor names count */
	assert_int_equal(meet(r, &w, &result, &info), ERR_NONE);
	assert_true(info.verified);
	w.names = &other;
	assert_int_equal(meet(r, &w, &result, &info), ERR_NONE);
	use(r, good);
	assert_int_equal(meet(r, &w, &result, &info), ERR_SYNTAX);
	assert_int_equal(result, TLS_RESULT_TLSA_MISMATCH);
	/* the server sends its chain: a trust anchor by TLSA has to be in it */
	struct tls_certificate chain = { good, arena_strf(&r->arena, "%.*s%.*s", STR_ARG(r->certs[good].pem), STR_ARG(r->ca.pem)) };
	size_t bad;
	assert_int_equal(tls_server_certificates(r->server, &chain, 1, &bad), ERR_NONE);
	w.tlsa = &ta;
	w.names = &mx;
	assert_int_equal(meet(r, &w, &result, &info), ERR_NONE);
	w.names = &other;
	assert_int_equal(meet(r, &w, &result, &info), ERR_SYNTAX);
	assert_int_equal(result, TLS_RESULT_WRONG_NAME);
}

static void test_dane(void **state)
{
	run(dane);
}

/* ---- tickets --------------------------------------------------------------------------------------------- */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION **to = SSL_get_app_data(ssl);
	SSL_SESSION_free(*to);
	*to = session;
	return 1;
}

/* A connection with the session of the one before; whether it was resumed. */
static YIELDS bool visit(struct rig *r, int version, SSL_SESSION **session)
{
	struct served v = { 0 };
	struct raw c;
	char text[8];
	raw_open(&c, r, server_for(&v, r), version);
	SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(c.ctx, keep_session);
	SSL_free(c.ssl);
	c.ssl = SSL_new(c.ctx);
	c.in = BIO_new(BIO_s_mem());
	c.out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(c.in, -1);
	SSL_set_bio(c.ssl, c.in, c.out);
	SSL_set_connect_state(c.ssl);
	SSL_set_app_data(c.ssl, session);
	if (*session)
		SSL_set_session(c.ssl, *session);
	assert_int_equal(raw_handshake(&c), 1);
	raw_write(&c, "x");
	assert_int_equal(raw_read(&c, text, sizeof text), 1);
	SSL_shutdown(c.ssl);
	raw_pump(&c);
	wait_over(&v);
	bool resumed = SSL_session_reused(c.ssl) == 1;
	assert_int_equal(resumed, v.resumed);
	raw_close(&c);
	return resumed;
}

/* coroutine */
static void tickets(void *arg)
{
	struct rig *r = arg;
	struct tls_ticket_key keys[3];
	uint32_t number = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	world_random(r->w, keys, sizeof keys);
	struct tls_server *one = rig_server(r, &number, 1), *two = rig_server(r, &number, 1);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_SESSION *session = NULL;
		tls_server_ticket_keys(one, keys, 1);
		tls_server_ticket_keys(two, keys, 1);
		r->server = one;
		assert_false(visit(r, version, &session));
		assert_non_null(session);
		assert_true(visit(r, version, &session));
		r->server = two; /* another process with the same keys */
		assert_true(visit(r, version, &session));
		struct tls_ticket_key turned[2] = { keys[1], keys[0] };
		tls_server_ticket_keys(two, turned, 2);
		assert_true(visit(r, version, &session)); /* the old key still decrypts */
		tls_server_ticket_keys(two, &keys[2], 1);
		assert_false(visit(r, version, &session));
		tls_server_ticket_keys(two, NULL, 0);
		SSL_SESSION_free(session);
		session = NULL;
		assert_false(visit(r, version, &session));
		assert_null(session);
	}
	tls_server_free(one);
	r->server = two;
}

static void test_tickets(void **state)
{
	run(tickets);
}

/* ---- ends and nonsense --------------------------------------------------------------------------------------- */

static YIELDS void say_and_end(struct rig *r, struct served *v, struct str bytes, bool hang_up)
{
	int fd = server_for(v, r);
	size_t n;
	char rest[64];
	if (bytes.n)
		assert_int_equal(world_send(r->w, fd, &bytes, 1, &n), ERR_NONE);
	if (hang_up)
		world_shutdown_send(r->w, fd);
	wait_over(v);
	while (world_recv(r->w, fd, rest, sizeof rest, &n) == ERR_NONE)
		;
	world_close(r->w, fd);
}

/* coroutine */
static void nonsense(void *arg)
{
	struct rig *r = arg;
	struct served v = { 0 };
	uint32_t number = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	r->server = rig_server(r, &number, 1);
	say_and_end(r, &v, STR("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n"), false);
	assert_int_equal(v.handshake, ERR_SYNTAX);
	assert_true(v.why[0] != '\0');
	say_and_end(r, &v, STR("GET / HTTP/1.1\r\n\r\n"), false);
	assert_int_equal(v.handshake, ERR_SYNTAX);
	say_and_end(r, &v, STR("\x16\x03\x01\x00"), true); /* the beginning of a record */
	assert_int_equal(v.handshake, ERR_EOF);
	say_and_end(r, &v, STR(""), true);
	assert_int_equal(v.handshake, ERR_EOF);
	v.deadline_ns = world_mono_ns(r->w) + 20000000;
	say_and_end(r, &v, STR("\x16\x03\x01"), false);
	assert_int_equal(v.handshake, ERR_TIMEOUT);
	v.deadline_ns = 0;
	struct raw c;
	raw_open(&c, r, server_for(&v, r), TLS1_1_VERSION); /* H56 */
	SSL_set_security_level(c.ssl, 0);
	assert_int_not_equal(raw_handshake(&c), 1);
	wait_over(&v);
	assert_int_equal(v.handshake, ERR_SYNTAX);
	assert_int_equal(v.result, TLS_RESULT_NO_AGREEMENT);
	raw_close(&c);
}

static void test_nonsense(void **state)
{
	run(nonsense);
}

/* coroutine */
static void truncation(void *arg)
{
	struct rig *r = arg;
	struct served v = { 0 };
	struct raw c;
	char text[64];
	uint32_t number = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	r->server = rig_server(r, &number, 1);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		raw_open(&c, r, server_for(&v, r), version);
		assert_int_equal(raw_handshake(&c), 1);
		raw_write(&c, "half of a mess");
		assert_true(raw_read(&c, text, sizeof text) > 0);
		world_shutdown_send(r->w, c.fd);
		wait_over(&v);
		assert_int_equal(v.end, ERR_CLOSED);
		raw_close(&c);
	}
	/* KeyUpdates without end (H57) */
	raw_open(&c, r, server_for(&v, r), TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&c), 1);
	for (unsigned i = 0; i < 200 && !v.over; i++) {
		SSL_key_update(c.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		SSL_do_handshake(c.ssl);
		raw_pump(&c);
	}
	wait_over(&v);
	assert_int_not_equal(v.end, ERR_NONE);
	raw_close(&c);
}

static void test_truncation(void **state)
{
	run(truncation);
}

/* ---- the stack --------------------------------------------------------------------------------------------- */

#define PAINTED 57344u /* of the 64 KiB of TLS_STACK */
#define ENOUGH 49152u  /* what a handshake may use of them */

struct depth {
	struct rig *r;
	struct served v;
	struct tls_wish *wish; /* NULL: the server's side is looked at */
	int fd;
	size_t used;
	bool over;
};

__attribute__((noinline, no_sanitize("address"))) static void paint(uintptr_t top)
{
	for (volatile char *p = (volatile char *)(top - PAINTED); (uintptr_t)p < top; p++)
		*p = 0x5a;
}

__attribute__((noinline, no_sanitize("address"))) static size_t painted(uintptr_t top)
{
	const volatile char *p = (const volatile char *)(top - PAINTED);
	while (*p == 0x5a)
		p++;
	return top - (uintptr_t)p;
}

/* coroutine */
static void deep(void *arg)
{
	struct depth *d = arg;
	struct stream s;
	uintptr_t top = (uintptr_t)__builtin_frame_address(0) - 1024;
	assert_int_equal(stream_open(&s, d->r->l, d->fd), ERR_NONE);
	paint(top);
	enum err e = d->wish ? tls_connect(d->r->client, &s, d->wish) : tls_accept(d->r->server, &s);
	d->used = 1024 + painted(top);
	assert_int_equal(e, ERR_NONE);
	stream_close(&s);
	d->over = true;
}

static YIELDS void depth_of(struct rig *r, struct tls_wish *w, int version, const char *what)
{
	struct depth d = { .r = r, .wish = w };
	struct raw c = { .fd = -1 };
	int fds[2];
	if (w) {
		d.fd = server_for(&d.v, r);
	} else {
		rig_sockets(r, fds);
		d.fd = fds[0];
		raw_open(&c, r, fds[1], version);
	}
	assert_int_equal(scope_spawn(co_scope(), "deep", TLS_STACK, deep, &d), ERR_NONE);
	if (!w) {
		assert_int_equal(raw_handshake(&c), 1);
		raw_close(&c);
	}
	while (!d.over || (w && !d.v.over))
		if (co_sleep_until(world_mono_ns(r->w) + 500000) != ERR_NONE)
			break;
	print_message("             %s: %zu bytes of stack\n", what, d.used);
	assert_true(d.used < ENOUGH);
}

/* coroutine */
static void stack(void *arg)
{
	struct rig *r = arg;
	struct str mx = STR("mx.example.org");
	struct tls_wish pkix = { .verify = TLS_VERIFY_PKIX, .sni = mx, .names = &mx, .names_n = 1 };
	uint32_t rsa = rig_add(r, RIG_RSA, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	uint32_t ec = rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	trust(r);
	use(r, rsa);
	depth_of(r, NULL, TLS1_3_VERSION, "server, TLS 1.3, RSA");
	depth_of(r, NULL, TLS1_2_VERSION, "server, TLS 1.2, RSA");
	depth_of(r, &pkix, 0, "client, TLS 1.3, RSA");
	use(r, ec);
	depth_of(r, NULL, TLS1_3_VERSION, "server, TLS 1.3, P-256");
	depth_of(r, &pkix, 0, "client, TLS 1.3, P-256");
}

static void test_stack(void **state)
{
	run(stack);
}

/* ---- slow clients, slow signatures --------------------------------------------------------------------------- */

/* coroutine */
static void bytewise(void *arg)
{
	struct rig *r = arg;
	struct served v = { 0 };
	struct raw c;
	char text[16];
	uint32_t number = rig_add(r, RIG_RSA, "DNS:mx.example.org", -RIG_DAY, RIG_DAY);
	r->server = rig_server(r, &number, 1);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		raw_open(&c, r, server_for(&v, r), version);
		c.piece = 1;
		assert_int_equal(raw_handshake(&c), 1);
		raw_write(&c, "slowly");
		assert_int_equal(raw_read(&c, text, sizeof text), 6);
		raw_close(&c);
		wait_over(&v);
		assert_int_equal(v.handshake, ERR_NONE);
	}
}

static void test_bytewise(void **state)
{
	run(bytewise);
}

#define CROWD 12

struct guest {
	struct rig *r;
	struct served v;
	bool good, done;
};

/* coroutine */
static void guest(void *arg)
{
	struct guest *g = arg;
	struct raw c;
	char text[16] = "";
	raw_open(&c, g->r, server_for(&g->v, g->r), 0);
	if (g->good) {
		assert_int_equal(raw_handshake(&c), 1);
		raw_write(&c, "me");
		assert_int_equal(raw_read(&c, text, sizeof text), 2);
		SSL_shutdown(c.ssl);
		raw_pump(&c);
	} else {
		BIO_write(c.out, "nonsense that is no handshake", 29);
		raw_pump(&c);
	}
	wait_over(&g->v);
	raw_close(&c);
	g->done = true;
}

/* Good and bad handshakes at the same time, while signatures take turns: nobody gets another's error. */
/* coroutine */
static void crowd(void *arg)
{
	struct rig *r = arg;
	static struct guest guests[CROWD];
	uint32_t numbers[2] = { rig_add(r, RIG_RSA, "DNS:mx.example.org", -RIG_DAY, RIG_DAY),
				rig_add(r, RIG_EC, "DNS:mx.example.org", -RIG_DAY, RIG_DAY) };
	struct scope scope;
	r->server = rig_server(r, numbers, 2);
	r->sign_yields = 5;
	scope_open(&scope, r->l, co_scope());
	for (size_t i = 0; i < CROWD; i++) {
		guests[i] = (struct guest){ .r = r, .good = i % 3 != 1 };
		assert_int_equal(scope_spawn(&scope, "guest", CO_STACK_LARGE, guest, &guests[i]), ERR_NONE);
	}
	scope_wait(&scope);
	for (size_t i = 0; i < CROWD; i++) {
		assert_true(guests[i].done);
		assert_int_equal(guests[i].v.handshake, guests[i].good ? ERR_NONE : ERR_SYNTAX);
		assert_int_equal(guests[i].v.end, guests[i].good ? ERR_EOF : ERR_SYNTAX);
	}
	scope_close(&scope);
	r->sign_err = ERR_CLOSED; /* the process with the keys died */
	struct served v = { 0 };
	struct raw c;
	raw_open(&c, r, server_for(&v, r), 0);
	assert_int_not_equal(raw_handshake(&c), 1);
	wait_over(&v);
	assert_int_equal(v.handshake, ERR_CLOSED);
	assert_string_equal(v.why, "the private key was not to be had");
	raw_close(&c);
}

static void test_crowd(void **state)
{
	run(crowd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions_and_keys), cmocka_unit_test(test_names),	     cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_verification),	  cmocka_unit_test(test_dane),	     cmocka_unit_test(test_tickets),
		cmocka_unit_test(test_nonsense),	  cmocka_unit_test(test_truncation), cmocka_unit_test(test_bytewise),
		cmocka_unit_test(test_crowd),	     cmocka_unit_test(test_stack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
