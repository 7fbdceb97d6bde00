/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange behind AUTH (RFC 4954, 4422): lines of base64 both ways. What is said is read here, in fields
 * (sasl/sasl.h); whether it is right is lookup's to say, and what is compared with stays there (P4). Secrets are
 * in an arena of the exchange, which is wiped when it ends, and in no log.
 */
#include "base/base64.h"
#include "conf/conf.h"
#include "sasl/sasl.h"
#include "smtpd/session.h"
#include "tls/tls.h"

#define ARENA_MAX ((size_t)1 << 18)
#define LOOKUP_MS 60000u
#define NONCE_BYTES 18u

struct auth_exchange {
	enum sasl_mechanism mechanism;
	bool has_first;
	struct str first; /* base64, or "=" */
	struct arena arena;
	struct reply reply; /* code 0: go on */
};

/* ---- what is offered ---------------------------------------------------------------------------------- */

struct ext_offer session_offer(const struct session *s)
{
	struct ext_offer o = s->d->offer;
	o.starttls = session_may_start_tls(s); /* RFC 3207 §4.2: not once TLS is in use */
	if (!s->listener || s->listener->auth == AUTH_MODE_NONE)
		return o;
	bool scram = conf_offers_scram(s->d->conf);
	o.auth = true;
	if (s->account.n) { /* RFC 4865 §3: for those who submit */
		o.now_ms = world_wall_ms(s->d->w);
		o.hold_ms = (int64_t)s->d->conf->times.future_release;
	}
	if (s->account.n == 0 && s->encrypted)
		o.auth_mechanisms = scram ? STR("PLAIN LOGIN SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-1") : STR("PLAIN LOGIN");
	else if (s->account.n == 0 && s->listener->auth_in_clear)
		o.auth_mechanisms = scram ? STR("PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-1") : STR("PLAIN LOGIN");
	return o;
}

static bool is_plus(enum sasl_mechanism m)
{
	return m == SASL_SCRAM_SHA_256_PLUS || m == SASL_SCRAM_SHA_1_PLUS;
}

static bool is_offered(const struct session *s, enum sasl_mechanism m)
{
	return m == SASL_PLAIN || m == SASL_LOGIN || m == SASL_SCRAM_SHA_256 || m == SASL_SCRAM_SHA_1 || (is_plus(m) && s->encrypted);
}

enum reply_id session_begin_auth(struct session *s, struct str mechanism, struct str first, bool has_first)
{
	enum sasl_mechanism m = sasl_by_name(mechanism);
	if (!is_offered(s, m))
		return REPLY_AUTH_MECHANISM;
	if (first.n > SASL_MESSAGE_MAX)
		return REPLY_AUTH_TOO_LONG;
	struct auth_exchange *x = mem_alloc(s->d->mem, sizeof *x);
	if (!x)
		return REPLY_NO_MEMORY;
	x->mechanism = m;
	x->has_first = has_first;
	x->arena = arena_make(s->d->mem, ARENA_MAX);
	x->first = arena_str(&x->arena, first);
	s->exchange = x;
	return REPLY_NONE;
}

void session_forget_auth(struct session *s)
{
	struct auth_exchange *x = s->exchange;
	if (!x)
		return;
	arena_wipe(&x->arena);
	mem_free(s->d->mem, x);
	s->exchange = NULL;
}

/* ---- lines -------------------------------------------------------------------------------------------------- */

/* The exchange ends with this reply. */
static enum err answer(struct auth_exchange *x, enum reply_id id)
{
	x->reply = reply_of(id);
	return ERR_NONE;
}

static bool is_over(const struct auth_exchange *x)
{
	return x->reply.code != 0;
}

/* A line of the client's, without its end; ERR_LIMIT when it is too long. */
static YIELDS
enum err read_line(struct session *s, struct str *line_out)
{
	for (;;) {
		struct str in = stream_input(&s->stream);
		size_t lf = str_find(str_sub(in, 0, SASL_MESSAGE_MAX + 2), '\n');
		if (lf < in.n && lf < SASL_MESSAGE_MAX + 2) {
			bool crlf = lf > 0 && in.p[lf - 1] == '\r';
			struct str line = str_sub(in, 0, crlf ? lf - 1 : lf);
			bool good = crlf && str_find(line, '\r') == line.n && str_find(line, '\0') == line.n;
			*line_out = good ? arena_str(&s->exchange->arena, line) : STR("\n"); /* no base64 */
			stream_wipe(&s->stream, line);
			stream_consume(&s->stream, lf + 1);
			return arena_err(&s->exchange->arena);
		}
		if (in.n >= SASL_MESSAGE_MAX + 2)
			return ERR_LIMIT;
		session_deadline(s, s->d->conf->times.command);
		TRY(stream_fill(&s->stream));
	}
}

static YIELDS
enum err say_challenge(struct session *s, struct str challenge)
{
	struct auth_exchange *x = s->exchange;
	struct str text = base64_encode(&x->arena, challenge);
	TRY(arena_err(&x->arena));
	session_deadline(s, s->d->conf->times.write);
	TRY(stream_write(&s->stream, STR("334 ")));
	TRY(stream_write(&s->stream, text));
	TRY(stream_write(&s->stream, STR("\r\n")));
	return session_flush(s);
}

/* Decodes; when it cannot, the exchange is over. */
static enum err decode(struct auth_exchange *x, struct str text, struct str *message_out)
{
	*message_out = STR("");
	if (str_eq(text, STR("*"))) /* RFC 4954 §4: the client has changed its mind */
		return answer(x, REPLY_AUTH_CANCELLED);
	enum err e = base64_decode(&x->arena, text, message_out);
	if (e == ERR_SYNTAX)
		return answer(x, REPLY_AUTH_BAD_BASE64);
	return e;
}

/* Says the challenge, hears the response. */
static YIELDS
enum err ask(struct session *s, struct str challenge, struct str *message_out)
{
	struct auth_exchange *x = s->exchange;
	struct str line;
	*message_out = STR("");
	TRY(say_challenge(s, challenge));
	enum err e = read_line(s, &line);
	if (e == ERR_LIMIT) {
		s->next = NEXT_CLOSE; /* the rest of it is no command */
		s->linger = true;
		return answer(x, REPLY_AUTH_TOO_LONG);
	}
	TRY(e);
	return decode(x, line, message_out);
}

/* What came with AUTH, or the response to an empty challenge. "=" is an empty first message. */
static YIELDS
enum err first_message(struct session *s, struct str *message_out)
{
	struct auth_exchange *x = s->exchange;
	if (!x->has_first)
		return ask(s, STR(""), message_out);
	return decode(x, str_eq(x->first, STR("=")) ? STR("") : x->first, message_out);
}

/* ---- what lookup says --------------------------------------------------------------------------------------- */

static enum err take_account(struct session *s, struct str account)
{
	char *p = mem_alloc_raw(s->d->mem, account.n);
	if (!p)
		return ERR_NO_MEMORY;
	memcpy(p, account.p, account.n);
	s->account = str_of(p, account.n);
	return ERR_NONE;
}

static void note_failure(struct session *s, struct str account, struct str why)
{
	char room[80];
	struct buf b = buf_fixed(room, sizeof room);
	buf_add(&b, STR("auth: "));
	buf_add(&b, str_sub(why, 0, 70));
	session_refused(s, &s->exchange->reply, account, buf_str(&b));
}

static YIELDS
enum err conclude(struct session *s, enum err e, enum auth_result result, struct str account, uint32_t delay_ms, struct str why)
{
	struct auth_exchange *x = s->exchange;
	if (e == ERR_CANCELLED)
		return e;
	if (e != ERR_NONE || result == AUTH_RESULT_UNAVAILABLE)
		return answer(x, REPLY_AUTH_UNAVAILABLE);
	if (result == AUTH_RESULT_ACCEPTED && account.n > 0) {
		TRY(take_account(s, account));
		return answer(x, REPLY_AUTH_OK);
	}
	(void)answer(x, result == AUTH_RESULT_SLOW_DOWN ? REPLY_AUTH_SLOW : REPLY_AUTH_FAILED);
	note_failure(s, account, why);
	(void)co_set_deadline(s->end_ns);
	return co_sleep_until(world_mono_ns(s->d->w) + (int64_t)delay_ms * 1000000); /* H65, H67 */
}

static YIELDS
enum err check_password(struct session *s, struct str authzid, struct str authcid, struct str password)
{
	struct auth_exchange *x = s->exchange;
	struct auth_password_in in = { s->id, s->client, authzid, authcid, password };
	struct auth_password_out out = { 0 };
	if (authzid.n > 320 || authcid.n > 320 || password.n > 1024)
		return answer(x, REPLY_AUTH_FAILED);
	in.client.port = 0;
	session_deadline(s, LOOKUP_MS);
	enum err e = s->d->backend->ask_password(s->d->backend_arg, &in, &x->arena, &out);
	return conclude(s, e, out.result, out.account, out.delay_ms, out.text);
}

/* ---- mechanisms ------------------------------------------------------------------------------------------------ */

static YIELDS
enum err plain(struct session *s)
{
	struct auth_exchange *x = s->exchange;
	struct str message;
	struct sasl_plain p;
	TRY(first_message(s, &message));
	if (is_over(x))
		return ERR_NONE;
	if (sasl_plain_read(message, &p) != ERR_NONE)
		return answer(x, REPLY_AUTH_BAD_MESSAGE);
	return check_password(s, p.authzid, p.authcid, p.password);
}

/* Never standardised; what clients do: draft-murchison-sasl-login. */
static YIELDS
enum err login(struct session *s)
{
	struct auth_exchange *x = s->exchange;
	struct str name, password;
	TRY(x->has_first ? first_message(s, &name) : ask(s, STR("Username:"), &name));
	if (is_over(x))
		return ERR_NONE;
	TRY(ask(s, STR("Password:"), &password));
	if (is_over(x))
		return ERR_NONE;
	bool good = name.n > 0 && password.n > 0 && str_is_utf8(name) && !str_has_control(name) && str_is_utf8(password) &&
		    !str_has_control(password);
	return good ? check_password(s, STR(""), name, password) : answer(x, REPLY_AUTH_BAD_MESSAGE);
}

struct scram {
	bool sha256;
	struct sasl_scram_first first;
	struct str nonce, server_first;
	struct str cbind_input; /* what the client must have bound itself to */
};

static enum err scram_server_first(struct session *s, struct scram *m, struct str salt, uint32_t iterations)
{
	struct arena *a = &s->exchange->arena;
	unsigned char random[NONCE_BYTES];
	world_random(s->d->w, random, sizeof random);
	struct str ours = base64_encode(a, str_of((const char *)random, sizeof random));
	m->nonce = arena_strf(a, "%.*s%.*s", STR_ARG(m->first.nonce), STR_ARG(ours));
	m->server_first = sasl_scram_server_first(a, m->first.nonce, ours, salt, iterations);
	return arena_err(a);
}

/* H66: with -PLUS the client binds itself to this TLS connection; one that could, and thinks that we cannot, has been lied to (RFC 5802 §6). */
static bool binding_is_right(struct session *s, struct scram *m)
{
	const struct sasl_scram_first *f = &m->first;
	unsigned char data[TLS_BINDING_MAX];
	size_t n = 0;
	bool plus = is_plus(s->exchange->mechanism), exporter = str_eq(f->binding_type, STR("tls-exporter"));
	if (plus != (f->binding == 'p') || (f->binding == 'y' && s->encrypted))
		return false;
	if (plus && !exporter && !str_eq(f->binding_type, STR("tls-server-end-point")))
		return false;
	if (plus && tls_binding(&s->stream, exporter ? TLS_BINDING_EXPORTER : TLS_BINDING_SERVER_END_POINT, data, &n) != ERR_NONE)
		return false;
	char *p = arena_alloc(&s->exchange->arena, f->gs2_header.n + n);
	struct buf b = buf_fixed(p, p ? f->gs2_header.n + n : 0);
	buf_add(&b, f->gs2_header);
	buf_add(&b, str_of((const char *)data, n));
	m->cbind_input = buf_str(&b);
	return p != NULL;
}

static YIELDS
enum err scram_begin(struct session *s, struct scram *m)
{
	struct auth_exchange *x = s->exchange;
	struct str message;
	struct auth_scram_first_out out = { 0 };
	TRY(first_message(s, &message));
	if (is_over(x))
		return ERR_NONE;
	if (sasl_scram_first_read(message, &x->arena, &m->first) != ERR_NONE || m->first.user.n > 320 || m->first.authzid.n > 320)
		return answer(x, REPLY_AUTH_BAD_MESSAGE);
	if (!binding_is_right(s, m))
		return answer(x, REPLY_AUTH_FAILED);
	struct auth_scram_first_in in = { s->client, m->first.user, m->sha256 };
	in.client.port = 0;
	session_deadline(s, LOOKUP_MS);
	enum err e = s->d->backend->ask_scram_first(s->d->backend_arg, &in, &x->arena, &out);
	if (e == ERR_CANCELLED)
		return e;
	if (e != ERR_NONE || out.result != AUTH_RESULT_ACCEPTED)
		return answer(x, out.result == AUTH_RESULT_SLOW_DOWN ? REPLY_AUTH_SLOW : REPLY_AUTH_UNAVAILABLE);
	return scram_server_first(s, m, out.salt, out.iterations);
}

static YIELDS
enum err scram_finish(struct session *s, const struct scram *m, struct str message)
{
	struct auth_exchange *x = s->exchange;
	struct sasl_scram_final f;
	struct str nothing;
	if (sasl_scram_final_read(message, &x->arena, &f) != ERR_NONE || f.proof.n > 64)
		return answer(x, REPLY_AUTH_BAD_MESSAGE);
	if (!str_eq(f.nonce, m->nonce) || !str_eq(f.cbind_input, m->cbind_input))
		return answer(x, REPLY_AUTH_FAILED);
	struct auth_scram_final_in in = { s->id, s->client, m->first.authzid, m->first.user, m->sha256, STR(""), f.proof };
	struct auth_scram_final_out out = { 0 };
	size_t n = m->first.bare.n + m->server_first.n + f.without_proof.n + 2;
	struct buf b = buf_fixed(arena_alloc(&x->arena, n), n);
	const struct str parts[] = { m->first.bare, STR(","), m->server_first, STR(","), f.without_proof };
	TRY(arena_err(&x->arena));
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		buf_add(&b, parts[i]);
	in.auth_message = buf_str(&b);
	if (in.auth_message.n > 16384)
		return answer(x, REPLY_AUTH_TOO_LONG);
	in.client.port = 0;
	session_deadline(s, LOOKUP_MS);
	enum err e = s->d->backend->ask_scram_final(s->d->backend_arg, &in, &x->arena, &out);
	if (e == ERR_NONE && out.result == AUTH_RESULT_ACCEPTED) { /* RFC 4954 §4: what is said beside success is a challenge */
		struct str signature = base64_encode(&x->arena, out.signature);
		TRY(ask(s, arena_strf(&x->arena, "v=%.*s", STR_ARG(signature)), &nothing));
		if (is_over(x))
			return ERR_NONE;
	}
	return conclude(s, e, out.result, out.account, out.delay_ms, out.text);
}

static YIELDS
enum err scram(struct session *s, bool sha256)
{
	struct scram m = { .sha256 = sha256 };
	struct str message;
	TRY(scram_begin(s, &m));
	if (is_over(s->exchange))
		return ERR_NONE;
	TRY(ask(s, m.server_first, &message));
	if (is_over(s->exchange))
		return ERR_NONE;
	return scram_finish(s, &m, message);
}

enum err session_authenticate(struct session *s, struct reply *reply_out)
{
	struct auth_exchange *x = s->exchange;
	enum err e = ERR_DENIED;
	if (x->mechanism == SASL_PLAIN)
		e = plain(s);
	else if (x->mechanism == SASL_LOGIN)
		e = login(s);
	else
		e = scram(s, x->mechanism == SASL_SCRAM_SHA_256 || x->mechanism == SASL_SCRAM_SHA_256_PLUS);
	if (e == ERR_NO_MEMORY || e == ERR_LIMIT)
		e = answer(x, REPLY_AUTH_UNAVAILABLE);
	*reply_out = x->reply;
	session_forget_auth(s);
	return e;
}

enum err session_may_send(struct session *s, struct str reverse_path, bool *allowed_out)
{
	struct auth_sender_in in = { s->account, reverse_path };
	struct auth_sender_out out = { 0 };
	*allowed_out = true;
	if (s->account.n == 0 || reverse_path.n == 0 || str_eq_nocase(reverse_path, s->account))
		return ERR_NONE;
	session_deadline(s, LOOKUP_MS);
	TRY(s->d->backend->ask_sender(s->d->backend_arg, &in, &s->command, &out));
	*allowed_out = out.allowed;
	return ERR_NONE;
}
