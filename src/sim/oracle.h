/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the oracle share; nobody else includes this. See oracle.c. */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include "sim/run.h"

/* A letter and an address: how often it was to arrive, may have, and what became of it. */
struct tally {
	struct tally *next;
	struct letter *letter;
	struct str box;
	size_t must, may, found, queued, bounced;
	size_t unheard;	   /* of those found: nobody knows whether our 250 was heard */
	bool remote;
	bool no_report;	   /* its failure is told to nobody: NOTIFY=NEVER, or from <> */
	struct str sender;
};
struct double_bounce { /* a report that could not be delivered to this address */
	struct double_bounce *next;
	struct str address;
};
struct judge {
	struct run *r;
	struct arena arena;
	struct tally *tallies;
	struct told *told;
	struct double_bounce *double_bounces;
	size_t found, queued, dsns;
};

struct tally *judge_tally_of(struct judge *j, struct letter *letter, struct str box);
/* Counts the failures that this notification tells. Line ends may be LF. */
void judge_report(struct judge *j, struct str report);
/* A report to this address has failed, and somebody was told. */
bool judge_is_double_bounce(const struct judge *j, struct str sender);
/* The log says that a failure of this address was told to nobody by a rule. */
bool judge_is_discarded(const struct judge *j, struct str address);

#endif
