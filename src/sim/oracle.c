/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle of P1 and P2. It knows what clients sent and heard (the ledger), resolves recipients by a
 * model of its own, and looks into mailboxes and queue:
 *
 *  O1  What was answered 250 is in each recipient's mailbox or at the server that it was relayed to, byte for
 *      byte, or in the queue, or a report of its failure is, or a rule says that nobody was to be told (or
 *      the operator dropped it).
 *  O2  No mailbox has a letter more often than it was sent to it. Another server may have it once more for each
 *      acknowledgement that was lost, and for each crash. Each copy has one fate.
 *  O3  Nothing is in a mailbox or at another server that no client sent to it, but trace fields before it,
 *      and DSNs.
 */
#include "sim/oracle.h"
#include "sim/peer.h"

#define FILE_MAX ((size_t)256 << 20)
#define DEPTH_MAX 10u
#define MAILBOX_PATH_MAX 700u
#define ARENA_MAX ((size_t)1 << 30)

/* ---- who gets what ------------------------------------------------------------------------------- */

struct boxes { /* canonical addresses of mailboxes */
	struct str v[64];
	size_t n;
};

static const struct statement *block(const struct run *r, const char *name)
{
	for (const struct statement *st = r->sc->first; st; st = st->next)
		if (word_is(st, 0, name))
			return st;
	return NULL;
}

static bool is_account(const struct run *r, struct str address)
{
	const struct statement *st = block(r, "accounts");
	for (st = st ? st->inside : NULL; st; st = st->next)
		if (str_eq_nocase(st->words[0], address))
			return true;
	return false;
}

static const struct statement *alias_of(const struct run *r, struct str address)
{
	const struct statement *st = block(r, "aliases");
	for (st = st ? st->inside : NULL; st; st = st->next)
		if (str_eq_nocase(st->words[0], address))
			return st;
	return NULL;
}

static struct str catch_all(const struct run *r)
{
	const struct statement *st = block(r, "config");
	struct str text = st ? st->text : STR(""), word = STR("catch_all ");
	size_t at = str_find_str(text, word);
	if (at == text.n)
		return STR("");
	text = str_trim(str_sub(text, at + word.n, text.n));
	return str_trim(str_sub(text, 0, str_find(text, ';')));
}

static void add_box(struct boxes *b, struct str address)
{
	for (size_t i = 0; i < b->n; i++)
		if (str_eq_nocase(b->v[i], address))
			return;
	ASSERT(b->n < sizeof b->v / sizeof b->v[0]);
	b->v[b->n++] = address;
}

static void resolve(const struct run *r, struct arena *a, struct str address, struct boxes *b, unsigned depth);

static bool resolve_exact(const struct run *r, struct arena *a, struct str address, struct boxes *b, unsigned depth)
{
	const struct statement *alias = alias_of(r, address);
	for (size_t i = 2; alias && i < alias->n; i++) {
		struct str to = alias->words[i];
		resolve(r, a, str_ends(to, STR(",")) ? str_sub(to, 0, to.n - 1) : to, b, depth + 1);
	}
	if (!alias && is_account(r, address))
		add_box(b, address);
	return alias || is_account(r, address);
}

/* A line "domain NAME" is in the configuration; `domain` begins with @. */
static bool is_ours(const struct run *r, struct str domain)
{
	const struct statement *st = block(r, "config");
	struct str rest = st ? st->text : STR("");
	while (rest.n > 0 && domain.n > 1) {
		struct str name, line = str_trim(str_split(rest, '\n', &rest));
		if (str_eq(str_split(line, ' ', &name), STR("domain")) &&
		    str_eq_nocase(str_split(name, ' ', &name), str_sub(domain, 1, domain.n)))
			return true;
	}
	return domain.n < 2; /* postmaster alone */
}

/* SRS0=HASH=TIME=domain=local@ours: local@domain (message/srs.h). */
static bool resolve_srs(struct arena *a, struct str address, struct boxes *b)
{
	struct str rest = str_sub(address, 0, str_rfind(address, '@')), domain;
	if (!str_starts_nocase(address, STR("SRS0=")))
		return false;
	for (unsigned i = 0; i < 3; i++)
		(void)str_split(rest, '=', &rest);
	domain = str_split(rest, '=', &rest);
	add_box(b, arena_strf(a, "%.*s@%.*s", STR_ARG(rest), STR_ARG(domain)));
	return true;
}

/* Depth is bounded by DEPTH_MAX. */
static void resolve(const struct run *r, struct arena *a, struct str address, struct boxes *b, unsigned depth)
{
	size_t at = str_rfind(address, '@'), plus = str_find(address, '+');
	struct str domain = str_sub(address, at, address.n);
	if (depth > DEPTH_MAX || resolve_exact(r, a, address, b, depth) || resolve_srs(a, address, b))
		return;
	if (plus > 0 && plus < at) {
		struct str plain = arena_strf(a, "%.*s%.*s", STR_ARG(str_sub(address, 0, plus)), STR_ARG(domain));
		if (resolve_exact(r, a, plain, b, depth))
			return;
	}
	if (resolve_exact(r, a, domain, b, depth))
		return;
	if (!is_ours(r, domain)) {
		add_box(b, address);
		return;
	}
	if (catch_all(r).n > 0)
		resolve_exact(r, a, catch_all(r), b, depth + 1);
	else if (str_eq_nocase(str_sub(address, 0, at), STR("postmaster")))
		add_box(b, at < address.n ? address : STR("postmaster@example.org"));
}

/* ---- mailboxes --------------------------------------------------------------------------------------- */

struct box_file {
	struct box_file *next;
	struct str bytes, name;
};
struct box_reader {
	struct run *r;
	struct arena *arena;
	const char *dir;
	struct box_file *files;
	size_t n;
	struct str only; /* count those that hold it */
};

static void read_one(void *arg, struct str name)
{
	struct box_reader *br = arg;
	struct buf b = buf_grow(br->r->mem, FILE_MAX);
	struct str path = arena_strf(br->arena, "%s/%.*s", br->dir, STR_ARG(name));
	if (sim_file_get(br->r->mx, path, &b) == ERR_NONE) {
		struct box_file *f = ARENA_NEW(br->arena, struct box_file);
		ASSERT(f);
		f->bytes = arena_str(br->arena, buf_str(&b));
		f->name = path;
		f->next = br->files;
		br->files = f;
		if (br->only.n == 0 || str_find_str(f->bytes, br->only) < f->bytes.n)
			br->n++;
	}
	buf_free(&b);
}

static struct box_reader read_box(struct run *r, struct arena *arena, struct str address, struct str only)
{
	static const char *const parts[] = { "new", "cur" };
	struct box_reader br = { .r = r, .arena = arena, .only = only };
	size_t at = str_rfind(address, '@');
	for (size_t i = 0; i < 2; i++) {
		char path[MAILBOX_PATH_MAX];
		struct buf b = buf_fixed(path, sizeof path - 1);
		buf_addf(&b, RUN_DIRECTORY "/mail/%.*s/%.*s/%s", STR_ARG(str_sub(address, at + 1, address.n)),
			 STR_ARG(str_sub(address, 0, at)), parts[i]);
		path[b.n] = '\0';
		br.dir = path;
		if (sim_file_list(r->mx, buf_str(&b), read_one, &br) != ERR_NONE)
			continue; /* no mail yet, no mailbox */
	}
	return br;
}

size_t oracle_mailbox_count(struct run *r, struct str address, struct str text)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, ARENA_MAX);
	return read_box(r, &arena, address, text).n;
}

/* ---- accounts of each letter in each mailbox -------------------------------------------------------------- */

struct tally *judge_tally_of(struct judge *j, struct letter *letter, struct str box)
{
	struct tally *t = j->tallies;
	for (; t; t = t->next)
		if (t->letter == letter && str_eq_nocase(t->box, box))
			return t;
	t = ARENA_NEW(&j->arena, struct tally);
	ASSERT(t);
	t->letter = letter;
	t->box = box;
	t->sender = STR("");
	t->remote = !is_ours(j->r, str_sub(box, str_rfind(box, '@'), box.n));
	t->next = j->tallies;
	j->tallies = t;
	return t;
}

static void count_attempt(struct judge *j, const struct attempt *a)
{
	if (a->end == ATTEMPT_REFUSED)
		return;
	struct boxes must = { .n = 0 };
	for (const struct asked_rcpt *rcpt = a->rcpts; rcpt; rcpt = rcpt->next) {
		struct boxes b = { .n = 0 };
		if (rcpt->answer == RCPT_REFUSED)
			continue;
		resolve(j->r, &j->arena, rcpt->address, &b, 0);
		for (size_t i = 0; i < b.n; i++) {
			struct tally *t = judge_tally_of(j, a->letter, b.v[i]);
			t->may++;
			t->sender = a->reverse_path;
			t->no_report |= rcpt->never || a->reverse_path.n == 0;
			if (a->end == ATTEMPT_ACCEPTED && rcpt->answer == RCPT_ACCEPTED)
				add_box(&must, b.v[i]);
		}
	}
	for (size_t i = 0; i < must.n; i++)
		judge_tally_of(j, a->letter, must.v[i])->must++;
}

/* Only fields that the server puts before a message; when it is relayed, Received only. */
static bool is_trace(struct str head, bool relayed)
{
	static const char *const fields[] = { "Received:", "Return-Path:", "Delivered-To:", "X-Original-To:" };
	while (head.n > 0) {
		struct str line = str_split(head, '\n', &head);
		bool known = line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t');
		for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
			known |= (!relayed || i == 0) && str_starts(line, str_z(fields[i]));
		if (!known)
			return false;
	}
	return true;
}

static bool is_dsn(struct str bytes)
{
	return str_starts(bytes, STR("Return-Path: <>")) &&
	       str_find_str(bytes, STR("multipart/report")) < bytes.n;
}

/* The letter that these bytes end with; the longest when several do. */
static struct letter *letter_in(const struct judge *j, struct str bytes, bool relayed)
{
	struct letter *best = NULL;
	for (struct letter *l = j->r->ledger.letters; l; l = l->next) {
		struct str own = relayed ? l->bytes : l->lf;
		if ((!best || l->lf.n > best->lf.n) && str_ends(bytes, own) &&
		    is_trace(str_sub(bytes, 0, bytes.n - own.n), relayed))
			best = l;
	}
	return best;
}

static void judge_box(struct judge *j, struct str box)
{
	struct box_reader br = read_box(j->r, &j->arena, box, STR(""));
	for (const struct box_file *f = br.files; f; f = f->next) {
		struct letter *l = letter_in(j, f->bytes, false);
		if (l) {
			judge_tally_of(j, l, box)->found++;
			j->found++;
		} else if (is_dsn(f->bytes)) {
			judge_report(j, f->bytes);
		} else { /* O3 */
			sim_fail(j->r->s, "%.*s (%zu bytes) is no letter that a client sent:\n%.*s", STR_ARG(f->name),
				 f->bytes.n, (int)(f->bytes.n < 1500 ? f->bytes.n : 1500), f->bytes.p);
		}
	}
}

/* ---- other servers ------------------------------------------------------------------------------------------ */

static void judge_relayed(struct judge *j, const struct peer *p, const struct peer_message *m)
{
	struct letter *l = letter_in(j, m->bytes, true);
	for (const struct peer_rcpt *it = m->rcpts; l && it; it = it->next) {
		struct tally *t = judge_tally_of(j, l, it->address);
		t->found++;
		t->unheard += !m->heard;
		j->found++;
	}
	if (!l && m->from.n == 0 && str_find_str(m->bytes, STR("multipart/report")) < m->bytes.n)
		judge_report(j, m->bytes);
	else if (!l) /* O3 */
		sim_fail(j->r->s, "%.*s has what no client sent:\n%.*s\n%.*s", STR_ARG(p->name), STR_ARG(m->envelope),
			 (int)(m->bytes.n < 1500 ? m->bytes.n : 1500), m->bytes.p);
}

static void judge_peers(struct judge *j)
{
	for (const struct peer *p = j->r->peers; p; p = p->next)
		for (const struct peer_message *m = p->messages; m; m = m->next)
			judge_relayed(j, p, m);
}

/* ---- queue -------------------------------------------------------------------------------------------------- */

static struct letter *letter_starting(const struct judge *j, struct str head)
{
	for (size_t at = 0; at < head.n;) { /* behind each line the letter may begin */
		struct str rest = str_sub(head, at, head.n);
		for (struct letter *l = j->r->ledger.letters; l; l = l->next)
			if (l->bytes.n > 0 && str_starts(l->bytes, str_sub(rest, 0, l->bytes.n)))
				return l;
		at += str_find(rest, '\n') + 1;
	}
	return NULL;
}

static YIELDS void judge_row(struct judge *j, const struct queue_row *row)
{
	struct queue_show_out out = { 0 };
	sim_note(j->r->s, "in the queue: %llx for %.*s, %s, %u attempts, next in %lld ms: %.*s", (unsigned long long)row->id,
		 STR_ARG(row->address), rcpt_state_name(row->state), row->attempts,
		 (long long)(row->next_ms ? row->next_ms - world_wall_ms(j->r->w) : 0), STR_ARG(row->reason));
	enum err e = server_queue_show(j->r, row->id, &j->arena, &out);
	if (e != ERR_NONE)
		return; /* it has just been delivered */
	bool report = out.envelope.reverse_path.n == 0 && str_find_str(out.head, STR("multipart/report")) < out.head.n;
	struct letter *l = report ? NULL : letter_starting(j, out.head);
	if (report)
		judge_report(j, out.head);
	if (l)
		judge_tally_of(j, l, arena_str(&j->arena, row->address))->queued++;
	j->queued++;
}

static YIELDS void judge_queue(struct judge *j)
{
	struct queue_list_in in = { .limit = 40 };
	struct queue_list_out out = { .more = true };
	while (out.more) {
		enum err e = server_queue_list(j->r, &in, &j->arena, &out);
		if (e != ERR_NONE) {
			sim_fail(j->r->s, "the queue cannot be listed: %s", err_name(e));
			return;
		}
		for (size_t i = 0; i < out.rows_n; i++) {
			judge_row(j, &out.rows[i]);
			in.after_id = out.rows[i].id;
			in.after_number = out.rows[i].number;
		}
		if (out.rows_n == 0)
			return;
	}
}

/* ---- verdict --------------------------------------------------------------------------------------------------- */

/* O1. */
static void judge_loss(struct judge *j, const struct tally *t)
{
	struct str head = str_sub(t->letter->bytes, 0, 160);
	if (t->found + t->queued + t->bounced >= t->must || j->r->dropped || (t->no_report && judge_is_discarded(j, t->box)) ||
	    judge_is_double_bounce(j, t->sender))
		return;
	sim_fail(j->r->s, "LOST: answered 250 for %.*s %zu times, but there %zu times, queued %zu times, bounced %zu times:\n%.*s",
		 STR_ARG(t->box), t->must, t->found, t->queued, t->bounced, STR_ARG(head));
}

/* O2. */
static void judge_tally(struct judge *j, const struct tally *t)
{
	struct sim *s = j->r->s;
	struct str head = str_sub(t->letter->bytes, 0, 160);
	size_t unknown = j->r->crashes + (size_t)j->r->opt->fault.count; /* outcomes that were never heard of */
	judge_loss(j, t);
	unknown += t->unheard;
	if (t->found > t->may + (t->remote ? unknown : 0))
		sim_fail(s, "DUPLICATE: sent to %.*s %zu times, but there %zu times:\n%.*s", STR_ARG(t->box), t->may,
			 t->found, STR_ARG(head));
	if (t->found + t->queued + t->bounced > t->may + unknown)
		sim_fail(s, "DUPLICATE: sent to %.*s %zu times, but there %zu times, queued %zu times, bounced %zu times:\n%.*s",
			 STR_ARG(t->box), t->may, t->found, t->queued, t->bounced, STR_ARG(head));
}

void oracle_judge(struct run *r)
{
	struct judge j = { .r = r, .arena = arena_make(r->mem, ARENA_MAX) };
	const struct statement *st = block(r, "accounts");
	for (const struct attempt *a = r->ledger.attempts; a; a = a->next)
		count_attempt(&j, a);
	judge_queue(&j); /* first: what leaves it meanwhile is somewhere else */
	for (st = st ? st->inside : NULL; st; st = st->next)
		judge_box(&j, st->words[0]);
	if (!is_account(r, STR("postmaster@example.org"))) /* it has a mailbox all the same */
		judge_box(&j, STR("postmaster@example.org"));
	judge_peers(&j);
	for (const struct tally *t = j.tallies; t; t = t->next)
		judge_tally(&j, t);
	r->result->accepted = r->ledger.accepted_n;
	r->result->delivered = j.found;
	r->result->queued = j.queued;
	arena_close(&j.arena);
}
