/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What asks the DNS for the resolver. One interface, of which a process uses one:
 *
 *  backend_recursive  our own recursion and validation: libunbound (backend_unbound.c); in the
 *                     simulator a zone that the scenario gives (backend_fake.c)
 *  backend_stub       asks the resolvers that the operator trusts (backend_stub.c)
 *
 * A back end knows nothing of equal questions, deadlines, metrics and logs: that is resolver.c.
 */
#ifndef RESOLVER_BACKEND_H
#define RESOLVER_BACKEND_H

#include "base/arena.h"
#include "base/log.h"
#include "co/co.h"
#include "dns/dns.h"

/* Where the simulator's zone is: a line a record, its words with HT between them (docs/scenarios.md). */
#define BACKEND_FAKE_DIR "/etc/godwit"
#define BACKEND_FAKE_ZONE "/etc/godwit/zone"

struct backend; /* each has its own */

struct backend_config {
	struct world *w;
	struct loop *loop;
	struct scope *scope; /* for coroutines that live as long as the back end */
	struct mem *mem;
	struct arena *arena; /* as long as the process */
	struct log *log;
	const struct conf_resolver *conf; /* outlives the back end */
};

struct backend_ops {
	bool caches; /* it remembers answers itself */
	/* Before the jail, perhaps as root: reads the files there are; adds to *jail_out what it will need. Logs why it fails. */
	YIELDS enum err (*open)(const struct backend_config *cfg, struct world_jail *jail_out, struct backend **b_out);
	/*
	 * One question with a valid name in lower case. All of *out is set, strings in `arena` or static. An
	 * error only when that cannot be: ERR_TIMEOUT at the coroutine's deadline, ERR_CANCELLED, ERR_NO_MEMORY.
	 */
	YIELDS enum err (*ask)(struct backend *b, struct str name, enum dns_type type, struct arena *arena,
			       struct dns_lookup_out *out);
	/* Nobody asks any more, and what it spawned in `scope` has ended. */
	void (*close)(struct backend *b);
};

extern const struct backend_ops backend_recursive, backend_stub;

#endif
