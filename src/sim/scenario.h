/* SPDX-License-Identifier: Apache-2.0 */
/* Scenario files: text to statements. The grammar is docs/scenarios.md. Written by us: not hostile. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "base/arena.h"

#define SCENARIO_WORDS_MAX 64u

struct statement {
	unsigned line;
	struct str words[SCENARIO_WORDS_MAX]; /* strings are decoded */
	bool quoted[SCENARIO_WORDS_MAX];
	size_t n;
	struct str text;	   /* what stands in a verbatim block: config, message */
	struct statement *inside;  /* of client { … }, accounts { … }, aliases { … } */
	struct statement *next;
};

struct scenario {
	struct str name; /* of the file, without directory and suffix */
	struct str dir;	 /* where it lies, for `message FILE` */
	struct statement *first;
};

/* Strings live in `arena`. ERR_SYNTAX: *error_out says where and what. */
enum err scenario_parse(struct str path, struct str text, struct arena *arena, struct scenario *sc_out,
			struct str *error_out) MUST_CHECK;
/* The statement's i-th word is this, not quoted. */
bool word_is(const struct statement *st, size_t i, const char *word);
enum err scenario_time(struct str word, int64_t *ns_out) MUST_CHECK;
enum err scenario_size(struct str word, uint64_t *bytes_out) MUST_CHECK;

#endif
