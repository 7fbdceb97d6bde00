/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The history: what happened to each message and each refusal, for `godwit trace` (P8). One interface;
 * history_sqlite.c is the real one, the simulation has history_fake.c. Used by control only. Its rows
 * hold what strangers wrote: data, never interpreted, made safe when printed.
 *
 * A row a message, a row an attempt, a row a kind of refusal; stored in batches, one transaction each,
 * with one filter a batch over the addresses and Message-IDs in it instead of indexes
 * (docs/measurements.md §4: 7 µs a message instead of 50).
 */
#ifndef CONTROL_HISTORY_H
#define CONTROL_HISTORY_H

#include "base/arena.h"
#include "ipc/calls.h"

struct history;

/* Rows that gathered; strings live in `arena` until stored. */
#define HISTORY_BATCH_ROWS 2000u
struct history_batch {
	struct arena arena;
	struct history_message_in messages[HISTORY_BATCH_ROWS];
	struct history_attempt_in attempts[HISTORY_BATCH_ROWS];
	struct history_refused_in refused[HISTORY_BATCH_ROWS];
	size_t messages_n, attempts_n, refused_n;
};

/* BLOCKING, like all here. `dir` is absolute. */
enum err history_open(struct world *w, struct str dir, struct history **h_out) MUST_CHECK;
void history_close(struct history *h);
/* One transaction. The same message or attempt stored again replaces the first. */
enum err history_store(struct history *h, const struct history_batch *b) MUST_CHECK;
/* Makes everything stored so far survive a power cut. */
enum err history_sync(struct history *h) MUST_CHECK;
/* Rows older than this go; at most some thousands at a time. *more_out: call again. */
enum err history_expire(struct history *h, int64_t before_ms, bool *more_out) MUST_CHECK;
/* By message id (13 characters), address (sender or recipient) or Message-ID; newest messages, oldest row first. */
enum err history_find(struct history *h, const struct trace_find_in *in, struct arena *arena,
		      struct trace_find_out *out) MUST_CHECK;

#endif
