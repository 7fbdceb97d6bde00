/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery status notifications as the oracle reads them: whose failure they tell to whom. See oracle.h. */
#include "sim/oracle.h"

#define HEADER_MIN 8u /* shorter ones say nothing about which letter it is */

/* What one group of fields says, once: a copy of the same report does not count. */
struct told {
	struct told *next;
	struct str report; /* the Message-ID before it */
	struct str address;
};

static bool is_new(struct judge *j, struct str report, struct str address)
{
	for (const struct told *t = j->told; t; t = t->next)
		if (str_eq(t->report, report) && str_eq_nocase(t->address, address))
			return false;
	struct told *t = ARENA_NEW(&j->arena, struct told);
	ASSERT(t);
	*t = (struct told){ j->told, report, address };
	j->told = t;
	return true;
}

static struct str header_of(struct str letter, struct str end)
{
	size_t at = str_find_str(letter, end);
	return at < letter.n ? str_sub(letter, 0, at + end.n / 2) : letter;
}

static bool returns(struct str report, const struct letter *l)
{
	struct str crlf = header_of(l->bytes, STR("\r\n\r\n")), lf = header_of(l->lf, STR("\n\n"));
	return crlf.n >= HEADER_MIN &&
	       (str_find_str(report, crlf) < report.n || str_find_str(report, lf) < report.n);
}

static void has_failed(struct judge *j, struct str report, struct str address)
{
	bool known = false;
	for (struct letter *l = j->r->ledger.letters; l; l = l->next)
		if (returns(report, l)) {
			judge_tally_of(j, l, address)->bounced++;
			known = true;
		}
	if (known)
		return;
	struct double_bounce *d = ARENA_NEW(&j->arena, struct double_bounce);
	ASSERT(d);
	*d = (struct double_bounce){ j->double_bounces, address };
	j->double_bounces = d;
}

void judge_report(struct judge *j, struct str report)
{
	static const char final[] = "Final-Recipient: rfc822; ";
	struct str rest = report, id = STR(""), address = STR("");
	j->dsns++;
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_ends(line, STR("\r")))
			line.n--;
		if (str_starts(line, STR("Message-ID:")))
			id = line;
		else if (str_starts(line, str_z(final)))
			address = str_sub(line, sizeof final - 1, line.n);
		else if (str_eq(line, STR("Action: failed")) && is_new(j, id, address))
			has_failed(j, report, address);
	}
}

bool judge_is_double_bounce(const struct judge *j, struct str sender)
{
	for (const struct double_bounce *d = j->double_bounces; d; d = d->next)
		if (str_eq_nocase(d->address, sender))
			return true;
	return false;
}

bool judge_is_discarded(const struct judge *j, struct str address)
{
	struct str rest = sim_log(j->r->s), what = arena_strf(&j->r->arena, "address=\"%.*s\"", STR_ARG(address));
	while (rest.n > 0) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_find_str(line, STR(" message_bounced ")) < line.n && str_find_str(line, what) < line.n &&
		    str_find_str(line, STR("not returned")) < line.n)
			return true;
	}
	return false;
}
