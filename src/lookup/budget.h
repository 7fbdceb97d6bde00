/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much an account may send (H68): messages and recipients an hour, so that a stolen password does little harm
 * and is noticed. A bucket each, which fills again as time passes: after a silent hour the whole is there at once.
 * Kept in memory only. Bounded: the account that sent longest ago is forgotten, which gives it a full bucket.
 */
#ifndef LOOKUP_BUDGET_H
#define LOOKUP_BUDGET_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/list.h"

#define BUDGETS_MAX 65536u

struct budgets {
	struct mem *mem;
	struct sip_key key;
	struct table64 by_key;
	struct list recent; /* the one used last first */
	uint32_t messages, recipients; /* an hour; 0: no limit */
};
void budgets_init(struct budgets *b, struct mem *mem, struct sip_key key, uint32_t messages, uint32_t recipients);
void budgets_done(struct budgets *b);

struct budget_answer {
	bool allowed;
	bool first;	  /* the first refusal since something was allowed: somebody should hear of it */
	int64_t wait_ms;  /* until so much would be allowed */
	bool by_recipients;
};
/* One message to so many recipients. Counted if it is allowed, and only then. Without memory: allowed. */
struct budget_answer budget_take(struct budgets *b, struct str account, uint32_t recipients, int64_t now_ms);

#endif
