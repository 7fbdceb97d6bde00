/* SPDX-License-Identifier: Apache-2.0 */
/* What clients sent and were told: see ledger.h. */
#include "sim/ledger.h"

#define LEDGER_MAX ((size_t)4 << 30)
#define BODY_MAX ((size_t)256 << 20)

enum pending_kind { PEND_OTHER, PEND_BANNER, PEND_MAIL, PEND_RCPT, PEND_DATA, PEND_BODY, PEND_RESET };
struct pending {
	struct pending *next;
	enum pending_kind kind;
	struct asked_rcpt *rcpt;
	struct attempt *attempt;
	struct str reverse_path;
};

struct ledger ledger_make(struct mem *mem)
{
	return (struct ledger){ .mem = mem, .arena = arena_make(mem, LEDGER_MAX) };
}

void ledger_free(struct ledger *l)
{
	arena_close(&l->arena);
}

static struct str without_cr(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);
	size_t n = 0;
	for (size_t i = 0; p && i < s.n; i++)
		if (s.p[i] != '\r' || i + 1 == s.n || s.p[i + 1] != '\n')
			p[n++] = s.p[i];
	return str_of(p, n);
}

struct letter *ledger_letter(struct ledger *l, struct str bytes)
{
	for (struct letter *it = l->letters; it; it = it->next)
		if (str_eq(it->bytes, bytes))
			return it;
	struct letter *it = ARENA_NEW(&l->arena, struct letter);
	ASSERT(it);
	it->bytes = arena_str(&l->arena, bytes);
	it->lf = without_cr(&l->arena, bytes);
	it->next = l->letters;
	l->letters = it;
	l->letters_n++;
	return it;
}

/* ---- the dialogue ------------------------------------------------------------------------------ */

static struct pending *expect(struct talk *t, enum pending_kind kind)
{
	struct pending *p = ARENA_NEW(&t->ledger->arena, struct pending);
	ASSERT(p);
	p->kind = kind;
	*t->pending_tail = p;
	t->pending_tail = &p->next;
	return p;
}

static void reset_transaction(struct talk *t)
{
	t->reverse_path = STR("");
	t->rcpts = NULL;
	t->rcpts_tail = &t->rcpts;
	buf_clear(&t->body);
	t->bdat_open = false;
}

void talk_begin(struct talk *t, struct ledger *l)
{
	*t = (struct talk){ .ledger = l, .line = buf_grow(l->mem, 1 << 20), .body = buf_grow(l->mem, BODY_MAX) };
	t->pending_tail = &t->pending;
	reset_transaction(t);
	(void)expect(t, PEND_BANNER);
}

void talk_end(struct talk *t)
{
	buf_free(&t->line);
	buf_free(&t->body);
}

static struct str in_brackets(struct str s)
{
	size_t open = str_find(s, '<'), close = str_rfind(s, '>');
	return open < close && close < s.n ? str_sub(s, open + 1, close) : str_trim(s);
}

static void submitted(struct talk *t)
{
	struct ledger *l = t->ledger;
	struct attempt *a = ARENA_NEW(&l->arena, struct attempt);
	ASSERT(a);
	a->letter = ledger_letter(l, buf_str(&t->body));
	a->reverse_path = t->reverse_path;
	a->rcpts = t->rcpts;
	a->next = l->attempts;
	l->attempts = a;
	l->attempts_n++;
	expect(t, PEND_BODY)->attempt = a;
	reset_transaction(t);
}

static void bdat(struct talk *t, struct str line)
{
	struct str rest, number = str_split(str_trim(str_sub(line, 4, line.n)), ' ', &rest);
	uint64_t n = 0;
	if (str_to_u64(number, UINT64_C(1) << 40, &n) != ERR_NONE)
		return;
	t->bdat_last = str_eq_nocase(str_trim(rest), STR("LAST"));
	t->bdat_left = n;
	t->bdat_open = true;
	t->mode = TALK_BDAT;
}

static void bdat_chunk_ends(struct talk *t)
{
	t->mode = TALK_COMMANDS;
	if (t->bdat_last)
		submitted(t);
	else
		(void)expect(t, PEND_OTHER);
}

static void command(struct talk *t, struct str line)
{
	if (str_starts_nocase(line, STR("MAIL FROM:"))) {
		struct pending *p = expect(t, PEND_MAIL);
		p->reverse_path = arena_str(&t->ledger->arena, in_brackets(line));
		if (!t->rcpts && !t->bdat_open)
			t->reverse_path = p->reverse_path;
	} else if (str_starts_nocase(line, STR("RCPT TO:"))) {
		struct asked_rcpt *r = ARENA_NEW(&t->ledger->arena, struct asked_rcpt);
		ASSERT(r);
		r->address = arena_str(&t->ledger->arena, in_brackets(line));
		r->never = str_find_str(line, STR("NOTIFY=NEVER")) < line.n;
		*t->rcpts_tail = r;
		t->rcpts_tail = &r->next;
		expect(t, PEND_RCPT)->rcpt = r;
	} else if (str_eq_nocase(line, STR("DATA"))) {
		(void)expect(t, PEND_DATA);
	} else if (str_starts_nocase(line, STR("BDAT "))) {
		bdat(t, line);
	} else if (str_eq_nocase(line, STR("RSET")) || str_starts_nocase(line, STR("EHLO")) ||
		   str_starts_nocase(line, STR("HELO"))) {
		(void)expect(t, PEND_RESET);
		reset_transaction(t);
	} else {
		(void)expect(t, PEND_OTHER);
	}
}

/* A line of message bytes, with its CRLF; RFC 5321 §4.5.2. */
static void data_line(struct talk *t)
{
	struct str line = buf_str(&t->line);
	if (str_eq(line, STR(".\r\n"))) {
		t->mode = TALK_COMMANDS;
		submitted(t);
	} else {
		buf_add(&t->body, line.p[0] == '.' ? str_sub(line, 1, line.n) : line);
	}
}

void talk_sent(struct talk *t, struct str bytes)
{
	while (bytes.n > 0 || (t->mode == TALK_BDAT && t->bdat_left == 0)) {
		if (t->mode == TALK_BDAT) {
			size_t n = bytes.n < t->bdat_left ? bytes.n : (size_t)t->bdat_left;
			buf_add(&t->body, str_sub(bytes, 0, n));
			t->bdat_left -= n;
			bytes = str_sub(bytes, n, bytes.n);
			if (t->bdat_left == 0)
				bdat_chunk_ends(t);
			continue;
		}
		size_t lf = str_find(bytes, '\n'), n = lf < bytes.n ? lf + 1 : bytes.n;
		buf_add(&t->line, str_sub(bytes, 0, n));
		bytes = str_sub(bytes, n, bytes.n);
		if (!str_ends(buf_str(&t->line), STR("\r\n")))
			continue;
		if (t->mode == TALK_DATA)
			data_line(t);
		else
			command(t, str_sub(buf_str(&t->line), 0, t->line.n - 2));
		buf_clear(&t->line);
	}
}

static void end_attempt(struct talk *t, struct attempt *a, unsigned code)
{
	a->end = code / 100 == 2 ? ATTEMPT_ACCEPTED : code / 100 == 5 ? ATTEMPT_REFUSED : ATTEMPT_UNKNOWN;
	if (a->end == ATTEMPT_ACCEPTED)
		t->ledger->accepted_n++;
}

void talk_reply(struct talk *t, unsigned code)
{
	struct pending *p = t->pending;
	if (!p)
		return; /* 421 out of turn */
	t->pending = p->next;
	if (!t->pending)
		t->pending_tail = &t->pending;
	switch (p->kind) {
	case PEND_MAIL:
		if (code / 100 == 2)
			t->reverse_path = p->reverse_path;
		break;
	case PEND_RCPT: p->rcpt->answer = code / 100 == 2 ? RCPT_ACCEPTED : RCPT_REFUSED; break;
	case PEND_DATA:
		if (code == 354)
			t->mode = TALK_DATA;
		break;
	case PEND_BODY: end_attempt(t, p->attempt, code); break;
	case PEND_RESET:
	case PEND_BANNER:
	case PEND_OTHER: break;
	}
}
