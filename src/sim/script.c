/* SPDX-License-Identifier: Apache-2.0 */
/* The statements of a scenario: see docs/scenarios.md. */
#include "sim/script.h"

#include "resolver/backend.h"
#include "sim/peer.h"

#define ASSERT_NS (INT64_C(30) * 1000000000)
#define ASSERT_STEP_NS (INT64_C(100) * 1000000)
#define CALL_ARENA_MAX ((size_t)8 << 20)

static const char *const processes[] = { "machine", "master", "smtpd", "queue", "local", "relay", "lookup", "resolver", "control" };

static const char *process_of(const struct statement *st, size_t i)
{
	for (size_t k = 0; k < sizeof processes / sizeof processes[0]; k++)
		if (word_is(st, i, processes[k]))
			return processes[k];
	return NULL;
}

static void wrong(struct run *r, const struct statement *st)
{
	run_fail(r, st, "this is no statement; see docs/scenarios.md");
}

/* ---- accounts ------------------------------------------------------------------------------------ */

static YIELDS void add(struct run *r, const struct statement *st, enum directory_kind kind, struct str targets)
{
	enum err e = server_change(r, kind, st->words[0], targets);
	if (e != ERR_NONE)
		run_fail(r, st, "cannot add %.*s: %s", STR_ARG(st->words[0]), err_name(e));
}

void script_accounts(struct run *r)
{
	for (const struct statement *st = r->sc->first; st; st = st->next) {
		bool accounts = word_is(st, 0, "accounts");
		if (!accounts && !word_is(st, 0, "aliases"))
			continue;
		for (const struct statement *it = st->inside; it; it = it->next) {
			char room[4000];
			struct buf targets = buf_fixed(room, sizeof room);
			for (size_t i = 2; i < it->n; i++)
				buf_add(&targets, it->words[i]);
			if (accounts ? it->n != 1 : it->n < 3 || !word_is(it, 1, "="))
				wrong(r, it);
			else
				add(r, it, accounts ? DIRECTORY_KIND_ACCOUNT : DIRECTORY_KIND_ALIAS, buf_str(&targets));
		}
	}
}

/* ---- the DNS ------------------------------------------------------------------------------------- */

void script_dns(struct run *r, const struct statement *st)
{
	struct buf zone = buf_grow(r->mem, (size_t)1 << 20);
	for (const struct statement *it = st->inside; it; it = it->next) {
		if (it->n < 2)
			wrong(r, it);
		for (size_t i = 0; i < it->n; i++) {
			buf_add(&zone, it->words[i]);
			buf_add_char(&zone, i + 1 < it->n ? '\t' : '\n');
		}
	}
	enum err e = buf_err(&zone);
	if (e == ERR_NONE)
		e = sim_file_put(r->mx, STR(BACKEND_FAKE_ZONE), buf_str(&zone));
	if (e != ERR_NONE)
		run_fail(r, st, "cannot write the zone: %s", err_name(e));
	buf_free(&zone);
}

/* ---- disasters -------------------------------------------------------------------------------------- */

static void crash_now(struct run *r, const struct statement *st, const char *who)
{
	int64_t ns;
	if (str_eq(str_z(who), STR("machine"))) {
		sim_host_crash(r->mx);
		return;
	}
	if (word_is(st, 2, "for")) {
		if (scenario_time(st->words[3], &ns) != ERR_NONE)
			wrong(r, st);
		else
			sim_role_block(r->mx, who, sim_now_ns(r->s) + ns);
	}
	if (sim_role_kill(r->mx, who) == 0)
		run_fail(r, st, "there is no %s to kill", who);
}

static void do_crash(struct run *r, const struct statement *st)
{
	const char *who = process_of(st, 1);
	uint64_t n;
	r->crashes++;
	if (!who) {
		wrong(r, st);
	} else if (word_is(st, 2, "at") && word_is(st, 3, "call") && st->n > 4 &&
		   str_to_u64(st->words[4], UINT64_C(1) << 40, &n) == ERR_NONE) {
		bool machine = str_eq(str_z(who), STR("machine"));
		sim_crash_at_call(r->mx, machine ? NULL : who, n, machine);
	} else {
		crash_now(r, st, who);
	}
}

static bool error_of(struct str word, enum err *e_out)
{
	static const struct {
		const char *name;
		enum err e;
	} names[] = { { "nospace", ERR_NO_SPACE }, { "io", ERR_IO },	     { "nomemory", ERR_NO_MEMORY },
		      { "limit", ERR_LIMIT },	   { "denied", ERR_DENIED }, { "closed", ERR_CLOSED } };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (str_eq(word, str_z(names[i].name))) {
			*e_out = names[i].e;
			return true;
		}
	return false;
}

static void do_fault(struct run *r, const struct statement *st)
{
	struct sim_fault f = { .nth = 1, .count = 1, .op = SIM_OPS, .err = ERR_IO };
	bool good = st->n > 1;
	if (word_is(st, 1, "none")) {
		sim_faults_clear(r->mx);
		return;
	}
	for (unsigned k = 0; k < SIM_OPS; k++)
		if (word_is(st, 1, sim_op_names[k]))
			f.op = (enum sim_op)k;
	for (size_t i = 2; good && i + 1 < st->n; i += 2) {
		if (word_is(st, i, "nth"))
			good = str_to_u64(st->words[i + 1], UINT64_C(1) << 40, &f.nth) == ERR_NONE;
		else if (word_is(st, i, "count"))
			good = str_to_u64(st->words[i + 1], UINT64_C(1) << 40, &f.count) == ERR_NONE;
		else if (word_is(st, i, "error"))
			good = error_of(st->words[i + 1], &f.err);
		else
			good = word_is(st, i, "in") && (f.role = process_of(st, i + 1));
	}
	if (!good || f.op == SIM_OPS)
		wrong(r, st);
	else
		sim_fault_add(r->mx, &f);
}

static void do_disk(struct run *r, const struct statement *st)
{
	uint64_t n = UINT64_MAX;
	if (!word_is(st, 2, "all") && (st->n < 3 || scenario_size(st->words[2], &n) != ERR_NONE))
		wrong(r, st);
	else
		sim_disk_set_free(r->mx, n);
}

static void do_clock(struct run *r, const struct statement *st)
{
	int64_t ns;
	bool back = word_is(st, 2, "back");
	if (st->n < 3 || scenario_time(st->words[back ? 3 : 2], &ns) != ERR_NONE)
		wrong(r, st);
	else
		sim_clock_jump(r->mx, back ? -ns / 1000000 : ns / 1000000);
}

static void do_partition(struct run *r, const struct statement *st)
{
	struct ip ip;
	if (st->n != 2 || ip_parse(st->words[1], &ip) != ERR_NONE)
		wrong(r, st);
	else if (word_is(st, 0, "partition"))
		sim_partition(r->mx, &ip);
	else
		sim_heal(r->mx, &ip);
}

/* ---- the operator --------------------------------------------------------------------------------------- */

static YIELDS void do_queue(struct run *r, const struct statement *st)
{
	static const char *const names[] = { "flush", "retry", "hold", "release", "drop", "move" };
	static const enum queue_action actions[] = { QUEUE_ACTION_FLUSH, QUEUE_ACTION_RETRY, QUEUE_ACTION_HOLD,
						     QUEUE_ACTION_RELEASE, QUEUE_ACTION_DROP, QUEUE_ACTION_MOVE };
	uint64_t n;
	for (size_t i = 0; i < 6; i++) {
		if (!word_is(st, 1, names[i]))
			continue;
		r->dropped |= actions[i] == QUEUE_ACTION_DROP;
		enum err e = server_queue_act(r, actions[i], st->n > 2 ? st->words[2] : STR(""), st->n > 4 ? st->words[4] : STR(""), &n);
		if (e != ERR_NONE)
			run_fail(r, st, "queue %s: %s", names[i], err_name(e));
		return;
	}
	wrong(r, st);
}

/* ---- what must be ------------------------------------------------------------------------------------------ */

static YIELDS enum err queue_counts(struct run *r, uint64_t *messages_out, uint64_t *held_out)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, CALL_ARENA_MAX);
	struct queue_list_in in = { .limit = 1 };
	struct queue_list_out out = { 0 };
	TRY(server_queue_list(r, &in, &arena, &out));
	*messages_out = out.messages;
	*held_out = out.held;
	return ERR_NONE;
}

/* What the statement counts now; false when that cannot be told. */
static YIELDS bool count_now(struct run *r, const struct statement *st, uint64_t *n_out)
{
	uint64_t messages = 0, held = 0;
	if (word_is(st, 0, "server"))
		return peer_count(r, st, n_out) == ERR_NONE;
	if (!sim_host_is_up(r->mx))
		return false;
	if (word_is(st, 0, "mailbox")) {
		*n_out = oracle_mailbox_count(r, st->words[1], word_is(st, 5, "containing") ? st->words[6] : STR(""));
		return true;
	}
	if (queue_counts(r, &messages, &held) != ERR_NONE)
		return false;
	*n_out = word_is(st, 3, "held") ? held : messages;
	return true;
}

static YIELDS void check_count(struct run *r, const struct statement *st)
{
	size_t at = word_is(st, 0, "queue") ? 2 : 3;
	uint64_t want, n = 0;
	bool known = false;
	if (st->n < at + 2 || str_to_u64(st->words[at], 1000000, &want) != ERR_NONE) {
		wrong(r, st);
		return;
	}
	int64_t until = world_mono_ns(r->w) + ASSERT_NS;
	do {
		known = count_now(r, st, &n);
		if (known && n == want)
			return;
		run_sleep(r, ASSERT_STEP_NS);
	} while (world_mono_ns(r->w) < until);
	if (known)
		run_fail(r, st, "has %llu, not %llu", (unsigned long long)n, (unsigned long long)want);
	else
		run_fail(r, st, "it cannot be told");
}

static bool log_fits(struct run *r, struct str event, struct str text)
{
	struct str rest = sim_log(r->s);
	char room[200];
	struct buf b = buf_fixed(room, sizeof room - 1);
	buf_addf(&b, " %.*s", STR_ARG(event));
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		size_t at = str_find_str(line, buf_str(&b));
		bool ends = at < line.n && (at + b.n == line.n || line.p[at + b.n] == ' ');
		if (ends && (text.n == 0 || str_find_str(line, text) < line.n))
			return true;
	}
	return false;
}

static YIELDS void check_log(struct run *r, const struct statement *st)
{
	int64_t until = world_mono_ns(r->w) + ASSERT_NS;
	struct str text = word_is(st, 3, "containing") ? st->words[4] : STR("");
	do {
		if (log_fits(r, st->words[2], text))
			return;
		run_sleep(r, ASSERT_STEP_NS);
	} while (world_mono_ns(r->w) < until);
	run_fail(r, st, "nobody logged %.*s", STR_ARG(st->words[2]));
}

/* ---- what the resolver must say --------------------------------------------------------------------- */

/* An answer as words, for `containing`. */
static void dns_text(struct buf *b, const struct dns_lookup_out *out)
{
	buf_add(b, out->why);
	buf_add_char(b, ' ');
	buf_add(b, out->canonical);
	for (size_t i = 0; i < out->addresses_n; i++) {
		buf_add_char(b, ' ');
		ip_add(b, &out->addresses[i]);
	}
	for (size_t i = 0; i < out->mx_n; i++)
		buf_addf(b, " %u %.*s", out->mx[i].preference, STR_ARG(out->mx[i].host));
	for (size_t i = 0; i < out->texts_n; i++)
		buf_addf(b, " %.*s", STR_ARG(out->texts[i].text));
	for (size_t i = 0; i < out->names_n; i++)
		buf_addf(b, " %.*s", STR_ARG(out->names[i].name));
	for (size_t i = 0; i < out->tlsa_n; i++) {
		buf_addf(b, " %u %u %u ", out->tlsa[i].usage, out->tlsa[i].selector, out->tlsa[i].matching);
		for (size_t k = 0; k < out->tlsa[i].data.n; k++)
			buf_add_hex(b, (unsigned char)out->tlsa[i].data.p[k], 2);
	}
}

static bool dns_fits(struct run *r, const struct statement *st, const struct dns_lookup_out *out)
{
	bool secure = word_is(st, 5, "secure");
	struct buf b = buf_grow(r->mem, 100000);
	dns_text(&b, out);
	struct str text = buf_str(&b), want = STR("");
	if (word_is(st, st->n - 2, "containing"))
		want = st->words[st->n - 1];
	bool fits = word_is(st, 4, dns_status_name(out->status)) && secure == out->secure &&
		    (want.n == 0 || str_find_str(text, want) < text.n);
	if (!fits)
		sim_note(r->s, "dns: %s %s: %.*s", dns_status_name(out->status), out->secure ? "secure" : "", STR_ARG(text));
	buf_free(&b);
	return fits;
}

static YIELDS void check_dns(struct run *r, const struct statement *st)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, CALL_ARENA_MAX);
	struct dns_lookup_out out = { 0 };
	unsigned type = DNS_TYPE_A;
	while (type <= DNS_TYPE_CNAME && !str_eq_nocase(st->words[3], str_z(dns_type_name(type))))
		type++;
	if (type > DNS_TYPE_CNAME) {
		wrong(r, st);
		return;
	}
	int64_t until = world_mono_ns(r->w) + ASSERT_NS;
	do { /* the resolver may have been killed just now */
		enum err e = server_dns(r, st->words[2], (enum dns_type)type, &arena, &out);
		if (e == ERR_NONE && dns_fits(r, st, &out))
			return;
		run_sleep(r, ASSERT_STEP_NS);
	} while (world_mono_ns(r->w) < until);
	run_fail(r, st, "the resolver says otherwise");
}

/* ---- all ------------------------------------------------------------------------------------------------------- */

static YIELDS void do_service(struct run *r, const struct statement *st)
{
	if (!word_is(st, 0, "start"))
		server_stop(r);
	if (!word_is(st, 0, "stop") && !server_start(r))
		run_fail(r, st, "the server does not start");
}

static YIELDS void do_elapse(struct run *r, const struct statement *st)
{
	int64_t ns;
	if (st->n != 2 || scenario_time(st->words[1], &ns) != ERR_NONE)
		wrong(r, st);
	else
		run_sleep(r, ns);
}

/* Statements that change the world at once; false: it is none of them. */
static bool play_at_once(struct run *r, const struct statement *st)
{
	static const struct {
		const char *word;
		void (*play)(struct run *r, const struct statement *st);
	} table[] = { { "crash", do_crash }, { "fault", do_fault },	     { "disk", do_disk }, { "clock", do_clock },
		      { "heal", do_partition }, { "partition", do_partition }, { "load", load_start },
		      { "dns", script_dns } };
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (word_is(st, 0, table[i].word)) {
			table[i].play(r, st);
			return true;
		}
	if (word_is(st, 0, "server") && peer_change(r, st))
		return true;
	if (!word_is(st, 0, "background"))
		return false;
	client_start(r, st);
	return true;
}

static YIELDS void play_one(struct run *r, const struct statement *st)
{
	if (play_at_once(r, st))
		return;
	if (word_is(st, 0, "client"))
		client_play(r, st);
	else if (word_is(st, 0, "wait"))
		scope_wait(&r->background);
	else if (word_is(st, 0, "elapse"))
		do_elapse(r, st);
	else if (word_is(st, 0, "start") || word_is(st, 0, "stop") || word_is(st, 0, "restart"))
		do_service(r, st);
	else if (word_is(st, 0, "mailbox") || (word_is(st, 0, "queue") && word_is(st, 1, "has")) ||
		 (word_is(st, 0, "server") && word_is(st, 2, "has")))
		check_count(r, st);
	else if (word_is(st, 0, "queue"))
		do_queue(r, st);
	else if (word_is(st, 0, "expect") && word_is(st, 1, "log") && st->n > 2)
		check_log(r, st);
	else if (word_is(st, 0, "expect") && word_is(st, 1, "dns") && st->n > 4)
		check_dns(r, st);
	else if (!word_is(st, 0, "config") && !word_is(st, 0, "accounts") && !word_is(st, 0, "aliases"))
		wrong(r, st);
}

void script_play(struct run *r)
{
	for (const struct statement *st = r->sc->first; st; st = st->next)
		play_one(r, st);
}
