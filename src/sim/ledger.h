/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients sent and what they were told: the memory that the oracle of P1 and P2 judges by. A letter is
 * a content; an attempt is one transaction that ended in sending a letter, and what became of it.
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include "base/arena.h"
#include "base/list.h"

struct letter {
	struct letter *next;
	struct str bytes; /* without dot-stuffing, CRLF as sent */
	struct str lf;	  /* as it lies in a mailbox */
};
enum rcpt_answer { RCPT_ASKED, RCPT_ACCEPTED, RCPT_REFUSED };
struct asked_rcpt {
	struct asked_rcpt *next;
	struct str address;
	enum rcpt_answer answer;
	bool never; /* NOTIFY=NEVER */
};
enum attempt_end { ATTEMPT_UNKNOWN, ATTEMPT_ACCEPTED, ATTEMPT_REFUSED };
struct attempt {
	struct attempt *next;
	struct letter *letter;
	struct str reverse_path;
	struct asked_rcpt *rcpts;
	enum attempt_end end;
};
struct ledger {
	struct mem *mem;
	struct arena arena;
	struct letter *letters;
	struct attempt *attempts;
	size_t letters_n, attempts_n, accepted_n;
};
struct ledger ledger_make(struct mem *mem);
void ledger_free(struct ledger *l);
struct letter *ledger_letter(struct ledger *l, struct str bytes);

/*
 * Follows one client's dialogue: commands out, replies in (RFC 5321 §4.1; each command has one reply).
 */
enum talk_mode { TALK_COMMANDS, TALK_DATA, TALK_BDAT };
struct talk {
	struct ledger *ledger;
	enum talk_mode mode;
	struct buf line, body;
	uint64_t bdat_left;
	bool bdat_last, bdat_open;
	struct pending *pending, **pending_tail;
	/* the open transaction */
	struct str reverse_path;
	struct asked_rcpt *rcpts, **rcpts_tail;
};
void talk_begin(struct talk *t, struct ledger *l);
void talk_end(struct talk *t);
void talk_sent(struct talk *t, struct str bytes);
void talk_reply(struct talk *t, unsigned code);

#endif
