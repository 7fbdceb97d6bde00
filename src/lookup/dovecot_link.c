/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to Dovecot's authentication: see dovecot.h. Input: what comes over the socket. */
#include "base/events.h"
#include "lookup/dovecot.h"

#define CONNECT_NS (5 * 1000000000LL)
#define DOWN_NS (1 * 1000000000LL)
#define RENEW_NS (60 * 1000000000LL)
#define OUT_MAX ((size_t)1 << 20)
#define GREETING_LINES_MAX 1000u

struct question {
	struct co_queue answered;
	enum dovecot_says says;
	bool done;
	enum err err;
};

void dovecot_link_init(struct dovecot_link *l, struct dovecot_env *env, enum dovecot_kind kind, struct str path)
{
	struct sip_key key;
	world_random(env->w, &key, sizeof key);
	*l = (struct dovecot_link){ .env = env, .kind = kind, .path = path, .state = DOVECOT_IDLE };
	l->stream.src.fd = -1;
	l->out = buf_grow(env->mem, OUT_MAX);
	l->questions = table64_make(env->mem, key, DOVECOT_QUESTIONS_MAX);
	co_queue_init(&l->changed);
	co_queue_init(&l->writer);
}

void dovecot_link_done(struct dovecot_link *l)
{
	buf_free(&l->out);
	table64_free(&l->questions);
}

static void end_question(struct question *q, enum err e, enum dovecot_says says)
{
	q->done = true;
	q->err = e;
	q->says = says;
	co_wake_all(&q->answered);
}

/* K1, K3. What waited to be sent has passwords in it. */
static void fall_down(struct dovecot_link *l, const char *why)
{
	size_t it = 0;
	struct question *q;
	while ((q = table64_next(&l->questions, &it, NULL)))
		end_question(q, ERR_CLOSED, DOVECOT_FAILED);
	if (l->out.n)
		explicit_bzero(l->out.p, l->out.n);
	buf_clear(&l->out);
	l->state = DOVECOT_DOWN;
	l->down_until_ns = world_mono_ns(l->env->w) + DOWN_NS;
	if (!l->failed_before)
		log_accounts_unreachable(l->env->log, (struct log_ids){ 0 }, l->path, str_z(why));
	l->failed_before = true;
	co_wake_all(&l->changed);
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static void take_answer(struct dovecot_link *l, const struct dovecot_line *line)
{
	struct question *q = table64_get(&l->questions, line->id);
	if (q && !q->done) /* one that has given up is forgotten */
		end_question(q, line->says == DOVECOT_FAILED ? ERR_CLOSED : ERR_NONE, line->says);
}

static void become_ready(struct dovecot_link *l)
{
	if (l->failed_before)
		log_accounts_reachable(l->env->log, (struct log_ids){ 0 }, l->path);
	l->failed_before = false;
	l->state = DOVECOT_IS_READY;
	co_wake_all(&l->changed);
	co_wake_one(&l->writer);
}

/* K4: it is time, and nobody waits for an answer; who asks from now on waits for the next connection. */
static bool is_to_be_renewed(struct dovecot_link *l)
{
	(void)co_set_deadline(world_mono_ns(l->env->w) + RENEW_NS);
	if (l->questions.n == 0)
		l->state = DOVECOT_ENDING;
	return l->state == DOVECOT_ENDING;
}

/* The next line, without its end; it stays valid until the next one is read. */
static YIELDS enum err read_line(struct dovecot_link *l, struct str *line_out)
{
	for (;;) {
		struct str in = stream_input(&l->stream);
		size_t lf = str_find(str_sub(in, 0, DOVECOT_LINE_MAX), '\n');
		if (lf < in.n && lf < DOVECOT_LINE_MAX) {
			*line_out = str_sub(in, 0, lf);
			return ERR_NONE;
		}
		if (in.n >= DOVECOT_LINE_MAX)
			return ERR_SYNTAX;
		enum err e = stream_fill(&l->stream);
		if (e == ERR_TIMEOUT && l->state == DOVECOT_IS_READY && !is_to_be_renewed(l))
			continue;
		TRY(e);
	}
}

static YIELDS enum err read_lines(struct dovecot_link *l)
{
	bool version = false;
	for (unsigned greeting = 0;;) {
		struct str text;
		struct dovecot_line line;
		TRY(read_line(l, &text));
		size_t n = text.n + 1;
		TRY(dovecot_read_line(l->kind, text, &line));
		stream_consume(&l->stream, n);
		version = version || line.says == DOVECOT_VERSION;
		bool answer = line.says == DOVECOT_YES || line.says == DOVECOT_NO || line.says == DOVECOT_FAILED;
		if (l->state == DOVECOT_CONNECTING && (answer || ++greeting > GREETING_LINES_MAX || (line.says == DOVECOT_READY && !version)))
			return ERR_SYNTAX;
		if (l->state == DOVECOT_CONNECTING && line.says == DOVECOT_READY) {
			(void)co_set_deadline(world_mono_ns(l->env->w) + RENEW_NS);
			become_ready(l);
		}
		if (answer)
			take_answer(l, &line);
	}
}

/* ---- writing --------------------------------------------------------------------------------------------- */

static YIELDS enum err write_now(struct dovecot_link *l)
{
	struct buf mine = l->out;
	l->out = buf_grow(l->env->mem, OUT_MAX);
	enum err e = stream_write(&l->stream, buf_str(&mine));
	if (e == ERR_NONE)
		e = stream_flush(&l->stream);
	explicit_bzero(mine.p, mine.n);
	buf_free(&mine);
	return e;
}

/* coroutine */
static void writer(void *arg)
{
	struct dovecot_link *l = arg;
	enum err e = ERR_NONE;
	while (e == ERR_NONE) {
		if (l->out.n > 0 && l->state == DOVECOT_IS_READY)
			e = write_now(l);
		else
			e = co_wait(&l->writer);
	}
	if (e != ERR_CANCELLED)
		source_interrupt(&l->stream.src); /* the reader ends it all */
}

static YIELDS enum err say_hello(struct dovecot_link *l)
{
	char text[80];
	struct buf b = buf_fixed(text, sizeof text);
	uint32_t random;
	world_random(l->env->w, &random, sizeof random);
	/* CPID is to be unique among the connections of all clients; process ids of another name space are not. */
	if (l->kind == DOVECOT_PASSWORDS)
		buf_addf(&b, "VERSION\t1\t2\nCPID\t%u\n", random >> 1 | 1);
	else
		buf_add(&b, STR("VERSION\t1\t1\n"));
	TRY(stream_write(&l->stream, buf_str(&b)));
	return stream_flush(&l->stream);
}

static YIELDS enum err converse(struct dovecot_link *l)
{
	struct scope connection;
	scope_open(&connection, l->env->loop, co_scope());
	enum err e = say_hello(l);
	if (e == ERR_NONE)
		e = scope_spawn(&connection, "dovecot writer", CO_STACK_SMALL, writer, l);
	if (e == ERR_NONE)
		e = read_lines(l);
	scope_close(&connection);
	return e;
}

/* coroutine */
static void connection(void *arg)
{
	struct dovecot_link *l = arg;
	int fd;
	enum err e = world_connect_stream_path(l->env->w, l->path, &fd);
	if (e == ERR_NONE) {
		e = stream_open(&l->stream, l->env->loop, fd);
		if (e != ERR_NONE)
			world_close(l->env->w, fd);
	}
	if (e != ERR_NONE) {
		fall_down(l, e == ERR_NOT_FOUND ? "there is no such socket" : e == ERR_DENIED ? "this user may not connect to it" : "nobody listens there");
		return;
	}
	(void)co_set_deadline(world_mono_ns(l->env->w) + CONNECT_NS);
	e = converse(l);
	bool greeted = l->state == DOVECOT_IS_READY;
	stream_close(&l->stream);
	if (l->state == DOVECOT_ENDING) {
		l->state = DOVECOT_IDLE;
		co_wake_all(&l->changed);
		return;
	}
	if (scope_stopping(co_scope()))
		l->failed_before = true; /* no failure of the other side */
	fall_down(l, e == ERR_SYNTAX ? "it does not speak Dovecot's protocol" : e == ERR_TIMEOUT ? "it does not greet" :
		     greeted ? "the connection has ended" : "it has closed the connection");
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

static YIELDS enum err be_ready(struct dovecot_link *l)
{
	while (l->state != DOVECOT_IS_READY) {
		if (l->state == DOVECOT_DOWN && world_mono_ns(l->env->w) < l->down_until_ns)
			return ERR_CLOSED;
		if (l->state == DOVECOT_DOWN || l->state == DOVECOT_IDLE) {
			TRY(scope_spawn(l->env->scope, "dovecot", CO_STACK_SMALL, connection, l));
			l->state = DOVECOT_CONNECTING;
		}
		TRY(co_wait(&l->changed));
	}
	return ERR_NONE;
}

static YIELDS enum err put_question(struct dovecot_link *l, struct str account, const struct str *password, const struct ip *client, struct question *q)
{
	TRY(be_ready(l));
	uint32_t id = ++l->last_id ? l->last_id : ++l->last_id;
	size_t before = l->out.n;
	enum err e = password ? dovecot_add_auth(&l->out, id, account, *password, client) : dovecot_add_user(&l->out, id, account);
	if (e != ERR_NONE) {
		l->out.n = before;
		l->out.err = ERR_NONE;
		if (e == ERR_SYNTAX) /* nobody has such a name, or such a password */
			end_question(q, ERR_NONE, DOVECOT_NO);
		return e == ERR_SYNTAX ? ERR_NONE : e;
	}
	e = table64_put(&l->questions, id, q);
	if (e != ERR_NONE) {
		l->out.n = before;
		return e;
	}
	co_wake_one(&l->writer);
	while (e == ERR_NONE && !q->done)
		e = co_wait(&q->answered);
	(void)table64_del(&l->questions, id);
	return q->done ? ERR_NONE : e;
}

enum err dovecot_ask(struct dovecot_link *l, struct str account, const struct str *password, const struct ip *client, enum dovecot_says *says_out)
{
	struct question q = { .says = DOVECOT_FAILED };
	co_queue_init(&q.answered);
	*says_out = DOVECOT_FAILED;
	if (l->under_way >= DOVECOT_QUESTIONS_MAX || l->env->under_way >= DOVECOT_ALL_MAX) /* K2 */
		return ERR_LIMIT;
	l->under_way++;
	l->env->under_way++;
	int64_t end_ns = world_mono_ns(l->env->w) + (password ? BACKEND_PASSWORD_NS : BACKEND_QUESTION_NS), before = co_set_deadline(end_ns);
	if (before < end_ns)
		(void)co_set_deadline(before);
	enum err e = put_question(l, account, password, client, &q);
	(void)co_set_deadline(before);
	l->under_way--;
	l->env->under_way--;
	TRY(e);
	*says_out = q.says;
	return q.err;
}
