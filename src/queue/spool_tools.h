/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spool at rest, for `godwit spool verify|dump|recover`. BLOCKING, without a loop; needs the spool's lock
 * (ERR_BUSY: the server runs) and changes nothing in it. Its input is a disk that may be damaged; the texts in
 * it are strangers', and come out safe to print.
 */
#ifndef QUEUE_SPOOL_TOOLS_H
#define QUEUE_SPOOL_TOOLS_H

#include "world/world.h"

/* Where lines go, without line ends. */
struct spool_printer {
	void *arg;
	void (*line)(void *arg, struct str text);
};

struct spool_summary {
	uint64_t segments, records, messages, live, live_bytes, bodies;
	uint64_t damaged;  /* findings: damage, missing bodies, files that are not ours */
	uint64_t torn;	   /* ends that were begun and not finished: harmless */
	uint64_t written, failed; /* by spool_recover_to() */
};

/* Reads everything, checksums of message data and the sizes of body files included; a line a finding. */
enum err spool_verify(struct world *w, struct str path, const struct spool_printer *to,
		      struct spool_summary *sum_out) MUST_CHECK;
/* A line a record, in the order of the log. */
enum err spool_dump(struct world *w, struct str path, const struct spool_printer *to,
		    struct spool_summary *sum_out) MUST_CHECK;
/*
 * Copies each live message into the directory `dir` (made if it is missing): ID.eml holds the message as
 * it would be delivered, ID.envelope sender, recipients, their states and the routes that the operator gave
 * them. ERR_EXISTS when one is there.
 */
enum err spool_recover_to(struct world *w, struct str path, struct str dir, const struct spool_printer *to,
			  struct spool_summary *sum_out) MUST_CHECK;

#endif
