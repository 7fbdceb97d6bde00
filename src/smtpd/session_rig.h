/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests and fuzzing only: one session over memory instead of a socket, with a lookup and a
 * queue made of a few lines. What the client sends is given in advance; each receive gives the next
 * piece, so that the server always speaks before it hears more.
 */
#ifndef SMTPD_SESSION_RIG_H
#define SMTPD_SESSION_RIG_H

#include "smtpd/session.h"

#define RIG_MESSAGES_MAX 64u
#define RIG_OUTPUT_MAX	 ((size_t)4 << 20)

enum rig_cut { RIG_WHOLE, RIG_LINES, RIG_BYTES, RIG_SEVENS };

struct rig_message {
	struct envelope envelope; /* strings copied */
	struct str prefix, body;
	bool in_file;
};

struct rig {
	struct world *w;
	struct mem *own;   /* so that failing allocations concern the server only */
	uint64_t fail_nth; /* allocation of the session that fails; 0: none */
	struct loop *loop;
	struct metrics *metrics;
	struct log log;
	struct conf conf;
	struct conf_listener listener;
	struct smtpd d;
	struct session *s;
	struct ip client;
	struct arena arena; /* what tests look at afterwards */
	/* the client */
	struct str input;
	enum rig_cut cut;
	enum err at_end; /* what the last receive says: ERR_EOF, ERR_CLOSED, ERR_TIMEOUT */
	struct buf output;
	size_t sends;
	/* lookup and queue */
	size_t list_n; /* targets of list@example.org */
	size_t lookups, aborts, refusals, passwords;
	bool over_budget;
	enum auth_result auth_result; /* what lookup says instead of ACCEPTED */
	enum err lookup_err, part_err, file_err, submit_err;
	struct buf parts; /* of the message that is being submitted */
	int file_fd;	  /* of the message that is being submitted, or -1 */
	struct rig_message messages[RIG_MESSAGES_MAX];
	size_t messages_n;
};

/* ---- the stream ---------------------------------------------------------------------------- */

static size_t rig_piece(const struct rig *r, size_t n)
{
	size_t have = r->input.n, lf;
	switch (r->cut) {
	case RIG_LINES:
		lf = str_find(r->input, '\n') + 1;
		have = lf < have ? lf : have;
		break;
	case RIG_BYTES:
		have = 1;
		break;
	case RIG_SEVENS:
		have = have < 7 ? have : 7;
		break;
	case RIG_WHOLE:
		break;
	}
	return have < n ? have : n;
}

static enum err rig_recv(struct stream *st, void *p, size_t n, size_t *n_out, unsigned *wait_out)
{
	struct rig *r = st->tls;
	*wait_out = WORLD_IN;
	if (r->input.n == 0)
		return r->at_end;
	*n_out = rig_piece(r, n);
	memcpy(p, r->input.p, *n_out);
	r->input = str_sub(r->input, *n_out, r->input.n);
	return ERR_NONE;
}

static enum err rig_send(struct stream *st, const struct str *parts, size_t count, size_t *n_out,
			 unsigned *wait_out)
{
	struct rig *r = st->tls;
	*wait_out = WORLD_OUT;
	*n_out = 0;
	for (size_t i = 0; i < count; i++) {
		buf_add(&r->output, parts[i]);
		*n_out += parts[i].n;
	}
	r->sends++;
	return ERR_NONE;
}

static void rig_close(struct stream *st UNUSED)
{
}

static const struct stream_ops rig_ops = { rig_recv, rig_send, rig_close, rig_close };

/* ---- lookup and queue ------------------------------------------------------------------------ */

static void rig_targets(struct arena *a, struct str address, size_t n, struct lookup_rcpt_out *out)
{
	out->targets = ARENA_ARRAY(a, struct target, n);
	for (size_t i = 0; out->targets && i < n; i++) {
		out->targets[i].kind = TARGET_KIND_MAILBOX;
		out->targets[i].address = arena_str(a, address);
		out->targets[i].mailbox = arena_strf(a, "%.*s-%zu", STR_ARG(address), i);
		out->targets_n++;
	}
}

static enum err rig_ask(void *arg, const struct lookup_rcpt_in *in, struct arena *a,
			struct lookup_rcpt_out *out)
{
	struct rig *r = arg;
	size_t at = str_find(in->address, '@');
	struct str local = str_sub(in->address, 0, at);
	struct str domain = at < in->address.n ? str_sub(in->address, at + 1, in->address.n)
					       : STR("example.org");
	r->lookups++;
	out->generation = 1;
	out->cacheable = true;
	if (r->lookup_err != ERR_NONE)
		return r->lookup_err;
	if (!str_eq(domain, STR("example.org"))) {
		out->verdict = VERDICT_REFUSE;
		out->code = 550;
		out->enhanced = STR("5.7.1");
		out->text = STR("This server takes mail for its own domains only");
		out->rule = STR("not a local domain");
	} else if (str_starts(local, STR("nobody"))) {
		out->verdict = VERDICT_REFUSE;
		out->code = 550;
		out->enhanced = STR("5.1.1");
		out->text = STR("There is no such mailbox here");
		out->rule = STR("unknown user");
	} else if (str_eq(local, STR("later"))) {
		out->verdict = VERDICT_DEFER;
		out->code = 451;
		out->enhanced = STR("4.2.1");
		out->text = STR("Come back later");
	} else {
		rig_targets(a, in->address, str_eq(local, STR("list")) ? r->list_n : str_eq(local, STR("few")) ? 3 : 1, out);
	}
	return arena_err(a);
}

static enum err rig_part(void *arg, const struct queue_part_in *in, struct arena *a UNUSED)
{
	struct rig *r = arg;
	if (r->part_err != ERR_NONE)
		return r->part_err;
	ASSERT(in->offset == r->parts.n && in->bytes.n <= IPC_BODY_PART);
	buf_add(&r->parts, in->bytes);
	return buf_err(&r->parts);
}

/* An unlinked file of the real world; the simulator is not needed here. */
static enum err rig_file(void *arg, uint64_t id, struct arena *a UNUSED, int *fd_out)
{
	struct rig *r = arg;
	char room[64];
	struct buf name = buf_fixed(room, sizeof room);
	if (r->file_err != ERR_NONE)
		return r->file_err;
	buf_addf(&name, "/tmp/godwit-rig-%d-%llx", world_pid(r->w), (unsigned long long)id);
	TRY(world_open(r->w, WORLD_ABSOLUTE, buf_str(&name),
		       WORLD_READ | WORLD_WRITE | WORLD_CREATE | WORLD_EXCL, 0600, &r->file_fd));
	int fd;
	TRY(world_open(r->w, WORLD_ABSOLUTE, buf_str(&name), WORLD_READ | WORLD_WRITE, 0, &fd));
	int dir;
	TRY(world_open(r->w, WORLD_ABSOLUTE, STR("/tmp"), WORLD_READ | WORLD_DIR, 0, &dir));
	enum err e = world_unlink(r->w, dir, str_sub(buf_str(&name), 5, name.n));
	world_close(r->w, dir);
	*fd_out = fd;
	return e;
}

static struct str rig_file_bytes(struct rig *r, uint64_t n)
{
	char *p = arena_alloc(&r->arena, n ? (size_t)n : 1);
	size_t got = 0;
	if (!p || world_pread(r->w, r->file_fd, p, (size_t)n, 0, &got) != ERR_NONE || got != n)
		return STR_NONE;
	return str_of(p, got);
}

static void rig_forget(struct rig *r)
{
	buf_clear(&r->parts);
	if (r->file_fd >= 0)
		world_close(r->w, r->file_fd);
	r->file_fd = -1;
}

static struct envelope rig_envelope(struct rig *r, const struct envelope *from)
{
	struct envelope e = *from;
	e.reverse_path = arena_str(&r->arena, from->reverse_path);
	e.helo = arena_str(&r->arena, from->helo);
	e.account = arena_str(&r->arena, from->account);
	e.message_id = arena_str(&r->arena, from->message_id);
	e.envid = arena_str(&r->arena, from->envid);
	e.recipients = ARENA_ARRAY(&r->arena, struct envelope_rcpt, from->recipients_n);
	for (size_t i = 0; e.recipients && i < e.recipients_n; i++) {
		e.recipients[i] = from->recipients[i];
		e.recipients[i].target.address =
			arena_str(&r->arena, from->recipients[i].target.address);
		e.recipients[i].forward_path =
			arena_str(&r->arena, from->recipients[i].forward_path);
		e.recipients[i].orcpt = arena_str(&r->arena, from->recipients[i].orcpt);
	}
	return e;
}

static enum err rig_submit(void *arg, const struct queue_submit_in *in, struct arena *a UNUSED)
{
	struct rig *r = arg;
	if (r->submit_err != ERR_NONE)
		return r->submit_err;
	ASSERT(in->prefix.n <= 8192 && in->body.n <= IPC_BODY_PART &&
	       in->envelope.recipients_n <= 1000);
	buf_add(&r->parts, in->body);
	ASSERT(buf_err(&r->parts) == ERR_NONE);
	struct rig_message m = { .in_file = in->in_file };
	m.envelope = rig_envelope(r, &in->envelope);
	m.prefix = arena_str(&r->arena, in->prefix);
	m.body = in->in_file ? rig_file_bytes(r, in->body_bytes)
			     : arena_str(&r->arena, buf_str(&r->parts));
	ASSERT(m.body.n == in->body_bytes && arena_err(&r->arena) == ERR_NONE);
	if (r->messages_n < RIG_MESSAGES_MAX)
		r->messages[r->messages_n++] = m;
	rig_forget(r);
	return ERR_NONE;
}

static void rig_abort(void *arg, uint64_t id UNUSED)
{
	struct rig *r = arg;
	r->aborts++;
	rig_forget(r);
}

static void rig_refused(void *arg, const struct history_refused_in *in)
{
	struct rig *r = arg;
	r->refusals += in->count;
}

/* alice@example.org, whose password is "sesame"; she may also send as staff@example.org. */
static enum err rig_password(void *arg, const struct auth_password_in *in, struct arena *arena UNUSED, struct auth_password_out *out)
{
	struct rig *r = arg;
	bool right = str_eq(in->authcid, STR("alice@example.org")) && str_eq(in->password, STR("sesame")) &&
		     (in->authzid.n == 0 || str_eq(in->authzid, in->authcid));
	r->passwords++;
	out->result = r->auth_result != AUTH_RESULT_ACCEPTED ? r->auth_result : right ? AUTH_RESULT_ACCEPTED : AUTH_RESULT_REFUSED;
	out->account = STR("alice@example.org");
	out->text = right ? STR("") : STR("wrong password");
	return ERR_NONE;
}

static enum err rig_scram_first(void *arg UNUSED, const struct auth_scram_first_in *in UNUSED, struct arena *arena UNUSED,
				struct auth_scram_first_out *out)
{
	*out = (struct auth_scram_first_out){ AUTH_RESULT_ACCEPTED, STR("salt"), 4096 };
	return ERR_NONE;
}

static enum err rig_scram_final(void *arg, const struct auth_scram_final_in *in, struct arena *arena UNUSED, struct auth_scram_final_out *out)
{
	struct rig *r = arg;
	r->passwords++;
	bool right = str_eq(in->user, STR("alice@example.org")) && str_eq(in->proof, STR("yes"));
	out->result = right ? AUTH_RESULT_ACCEPTED : AUTH_RESULT_REFUSED;
	out->account = STR("alice@example.org");
	out->signature = STR("mine");
	return ERR_NONE;
}

static enum err rig_sender(void *arg UNUSED, const struct auth_sender_in *in, struct arena *arena UNUSED, struct auth_sender_out *out)
{
	out->allowed = str_eq(in->address, STR("staff@example.org"));
	return ERR_NONE;
}

static enum err rig_charge(void *arg, const struct auth_charge_in *in, struct arena *arena UNUSED, struct auth_charge_out *out)
{
	struct rig *r = arg;
	out->allowed = !r->over_budget && str_eq(in->account, STR("alice@example.org")) && in->recipients > 0;
	out->text = STR("Your account may send 300 messages an hour; please wait 5 minutes");
	return ERR_NONE;
}

static const struct smtpd_backend rig_backend = {
	.ask_rcpt = rig_ask, .submit_part = rig_part, .submit_file = rig_file, .submit_message = rig_submit,
	.ask_password = rig_password, .ask_scram_first = rig_scram_first, .ask_scram_final = rig_scram_final, .ask_sender = rig_sender,
	.ask_charge = rig_charge,
	.abort_message = rig_abort, .tell_refused = rig_refused,
};

/* ---- running --------------------------------------------------------------------------------- */

static enum err rig_log(void *arg UNUSED, struct str bytes UNUSED)
{
	return ERR_NONE;
}

static int64_t rig_now(void *arg)
{
	return world_wall_ms(arg);
}

static void rig_conf(struct conf *c, struct conf_listener *listener)
{
	c->hostname = STR("mx.example.org");
	c->smtputf8 = true;
	c->listeners = listener;
	c->listeners_n = 1;
	c->limits = (struct conf_limits){ 1000000, 100, 1000,	 100,	  10, 20,
					  100,	   100, 4 << 20, 1 << 16, 0,  0, 0, 0 };
	c->times = (struct conf_times){ .command = 300000,
					.data_block = 180000,
					.data_total = 7200000,
					.session_total = 86400000,
					.write = 180000 };
}

/* A world, loop and server for any number of sessions. */
static bool rig_open(struct rig *r)
{
	*r = (struct rig){ .at_end = ERR_EOF, .file_fd = -1, .list_n = 400 };
	r->w = world_linux_new();
	r->own = mem_new(0);
	if (!r->w || !r->own || loop_new(r->w, &r->loop) != ERR_NONE)
		return false;
	struct mem *mem = world_mem(r->w);
	r->metrics = metrics_new(mem, STR_NONE);
	struct log_sink sink = { rig_log, rig_now, r->w };
	if (!r->metrics ||
	    log_init(&r->log, mem, sink, LOG_FORMAT_TEXT, LEVEL_DEBUG, STR("smtpd")) != ERR_NONE)
		return false;
	rig_conf(&r->conf, &r->listener);
	r->client = (struct ip){ .family = IP_V4, .bits = 32, .port = 4711, .b = { 192, 0, 2, 7 } };
	r->arena = arena_make(r->own, (size_t)64 << 20);
	r->output = buf_grow(r->own, RIG_OUTPUT_MAX);
	r->parts = buf_grow(r->own, (size_t)16 << 20);
	if (smtpd_init(&r->d, r->loop, &r->conf, 3, r->metrics) != ERR_NONE)
		return false;
	void *counts = mem_alloc(r->own, CLIENTS_MEMORY_MIN);
	if (!counts)
		return false;
	clients_init(&r->d.clients, (struct sip_key){ 1, 2 }, counts, CLIENTS_MEMORY_MIN);
	r->d.log = &r->log;
	r->d.work = loop_root(r->loop);
	r->d.backend = &rig_backend;
	r->d.backend_arg = r;
	cache_renew(&r->d.cache, 1);
	return true;
}

/* coroutine */
static void rig_session(void *arg)
{
	struct rig *r = arg;
	int fds[2];
	struct session *s = mem_alloc(world_mem(r->w), sizeof *s);
	if (!s || world_pair(r->w, fds) != ERR_NONE)
		return;
	s->d = &r->d;
	s->client = r->client;
	s->listener = &r->listener;
	enum err e = stream_open(&s->stream, r->loop, fds[0]);
	ASSERT(e == ERR_NONE);
	s->stream.ops = &rig_ops;
	s->stream.tls = r;
	mem_fail_at(world_mem(r->w), r->fail_nth, 1);
	session_serve(s);
	session_done(s);
	mem_fail_at(world_mem(r->w), 0, 0);
	mem_free(world_mem(r->w), s);
	world_close(r->w, fds[1]);
}

/* Plays one connection. Output and messages of the one before are forgotten. */
UNUSED static void rig_play(struct rig *r, struct str input, enum rig_cut cut)
{
	arena_close(&r->arena);
	buf_clear(&r->output);
	rig_forget(r);
	r->sends = r->lookups = r->aborts = r->refusals = r->messages_n = 0;
	r->input = input;
	r->cut = cut;
	loop_run(r->loop, rig_session, r);
	refusals_flush(&r->d.refusals, rig_refused, r);
	log_flush(&r->log);
}

/* Everything is given back: what is left over has leaked. */
UNUSED static void rig_close_all(struct rig *r)
{
	rig_forget(r);
	smtpd_done(&r->d);
	arena_close(&r->arena);
	buf_free(&r->output);
	buf_free(&r->parts);
	log_close(&r->log);
	metrics_free(r->metrics);
	loop_free(r->loop);
	world_linux_free(r->w);
	mem_destroy(r->own);
}

/* "220 250 354 …": the codes of all replies, and "(!)" for bytes that are no reply. */
UNUSED static void rig_codes(const struct rig *r, struct buf *codes)
{
	struct str rest = buf_str(&r->output), line;
	while (rest.n > 0) {
		bool whole = str_find(rest, '\n') < rest.n;
		line = str_split(rest, '\n', &rest);
		bool good = whole && line.n >= 5 && line.n <= REPLY_LINE_MAX &&
			    line.p[line.n - 1] == '\r' && ascii_is_digit(line.p[0]) &&
			    ascii_is_digit(line.p[1]) && ascii_is_digit(line.p[2]);
		if (good && line.p[3] == '-')
			continue;
		if (codes->n)
			buf_add_char(codes, ' ');
		buf_add(codes, good && line.p[3] == ' ' ? str_sub(line, 0, 3) : STR("(!)"));
	}
}

#endif
