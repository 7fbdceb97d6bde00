/* SPDX-License-Identifier: Apache-2.0 */
/*
 * godwit-sim: runs scenario files in the simulated world (docs/scenarios.md). Exit status 0: all passed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim/run.h"

static const char usage[] =
	"usage: godwit-sim [--seed N] [--seeds N] [--verbose] FILE…     run scenarios (N seeds, from the first)\n"
	"       godwit-sim [--seed N] --faults N FILE…                  again and again, each time another\n"
	"                                                                operation failing; at most N runs a kind\n"
	"       godwit-sim [--seed N] --random SEEDS [--messages N] [--crashes N]\n"
	"                                                                random mail, with crashes at random calls\n"
	"       godwit-sim [--seed N] --year                             the same at length: 200 seeds\n";

struct args {
	uint64_t seed, seeds, faults, random, messages, crashes;
	bool verbose;
	const char *files[512];
	size_t files_n;
};

struct totals {
	uint64_t passed, failed;
};

/* For the handler below, which can be told in no other way. */
static struct {
	struct sim *sim;
	uint64_t seed;
} running;

static void run_begins(struct sim *s, uint64_t seed)
{
	running.sim = s;
	running.seed = seed;
}

static void write_all(struct str s)
{
	if (write(2, s.p, s.n) < 0)
		_exit(70);
}

/* The program under test asserts or faults: the end of its log, and which history it was. */
static void on_abort(int sig)
{
	char text[64];
	struct str log = running.sim ? sim_log(running.sim) : STR("");
	int n = snprintf(text, sizeof text, "godwit-sim: signal %d, seed %llu\n", sig, (unsigned long long)running.seed);
	if (sig != SIGABRT) /* then sim_abort() has shown it */
		write_all(str_sub(log, log.n > 4000 ? log.n - 4000 : 0, log.n));
	write_all(str_of(text, n > 0 ? (size_t)n : 0));
	signal(sig, SIG_DFL);
	raise(sig);
}

static bool number(char **argv, int *i, uint64_t *out)
{
	char *end;
	if (!argv[*i + 1])
		return false;
	*out = strtoull(argv[++*i], &end, 10);
	return *end == '\0';
}

static bool parse_args(int argc, char **argv, struct args *a)
{
	*a = (struct args){ .seed = 1, .seeds = 1, .messages = 1000, .crashes = 5 };
	for (int i = 1; i < argc; i++) {
		struct str s = str_z(argv[i]);
		bool good = true;
		if (str_eq(s, STR("--seed")))
			good = number(argv, &i, &a->seed);
		else if (str_eq(s, STR("--seeds")))
			good = number(argv, &i, &a->seeds);
		else if (str_eq(s, STR("--faults")))
			good = number(argv, &i, &a->faults);
		else if (str_eq(s, STR("--random")))
			good = number(argv, &i, &a->random);
		else if (str_eq(s, STR("--messages")))
			good = number(argv, &i, &a->messages);
		else if (str_eq(s, STR("--crashes")))
			good = number(argv, &i, &a->crashes);
		else if (str_eq(s, STR("--year")))
			a->random = 200;
		else if (str_eq(s, STR("--verbose")))
			a->verbose = true;
		else if (argv[i][0] == '-' || a->files_n == sizeof a->files / sizeof a->files[0])
			good = false;
		else
			a->files[a->files_n++] = argv[i];
		if (!good)
			return false;
	}
	return a->files_n > 0 || a->random > 0;
}

static bool load_file(const char *path, struct buf *b)
{
	FILE *f = fopen(path, "rb");
	char piece[65536];
	size_t n;
	if (!f)
		return false;
	while ((n = fread(piece, 1, sizeof piece, f)) > 0)
		buf_add(b, str_of(piece, n));
	fclose(f);
	return buf_err(b) == ERR_NONE;
}

static void count(struct totals *t, bool passed)
{
	if (passed)
		t->passed++;
	else
		t->failed++;
}

static void run_one(const struct scenario *sc, const struct run_options *opt, struct run_result *result, struct totals *t)
{
	run_scenario(sc, opt, run_begins, result);
	running.sim = NULL;
	count(t, result->passed);
}

/* The same history until one operation fails; sampled when there are too many. */
static void run_faults(const struct scenario *sc, const struct args *a, struct totals *t)
{
	static const enum err errors[SIM_OPS] = {
		[SIM_OPEN] = ERR_LIMIT,	  [SIM_READ] = ERR_IO,	 [SIM_WRITE] = ERR_NO_SPACE,  [SIM_SYNC] = ERR_IO,
		[SIM_RENAME] = ERR_IO,	  [SIM_UNLINK] = ERR_IO, [SIM_MKDIR] = ERR_NO_SPACE, [SIM_RESERVE] = ERR_NO_SPACE,
		[SIM_MEMORY] = ERR_NO_MEMORY, [SIM_SEND] = ERR_LIMIT,
	};
	static const char *const roles[] = { "smtpd", "queue", "local", "lookup", "control" };
	struct run_options opt = { .seed = a->seed };
	struct run_result plain, result;
	run_one(sc, &opt, &plain, t);
	for (unsigned op = 0; plain.passed && op < SIM_OPS; op++) {
		uint64_t n = plain.ops[op], step = n > a->faults ? (n + a->faults - 1) / a->faults : 1, failed = t->failed;
		for (uint64_t nth = 1 + a->seed % step; nth <= n; nth += step) {
			opt.fault = (struct sim_fault){ NULL, (enum sim_op)op, nth, 1, errors[op] };
			if (op == SIM_MEMORY) { /* counted in each process by itself */
				opt.fault.role = roles[nth / step % 5];
				opt.fault.nth = 1 + nth * 7919 % (n / 5 + 1);
			}
			run_one(sc, &opt, &result, t);
			if (!result.passed)
				printf("the fault was: %s number %llu%s%s\n", sim_op_names[op], (unsigned long long)opt.fault.nth,
				       opt.fault.role ? " in " : "", opt.fault.role ? opt.fault.role : "");
		}
		printf("%.*s: %llu %s operations, %llu failed\n", STR_ARG(sc->name), (unsigned long long)n, sim_op_names[op],
		       (unsigned long long)(t->failed - failed));
	}
}

static void run_file(const char *path, const struct args *a, struct mem *mem, struct totals *t)
{
	struct buf b = buf_grow(mem, (size_t)64 << 20);
	struct arena ARENA_SCOPED arena = arena_make(mem, (size_t)256 << 20);
	struct scenario sc;
	struct str error = STR("cannot be read");
	struct run_result result;
	bool good = load_file(path, &b) && scenario_parse(str_z(path), buf_str(&b), &arena, &sc, &error) == ERR_NONE;
	if (!good) {
		printf("%s: %.*s\n", path, STR_ARG(error));
		t->failed++;
	} else if (a->faults) {
		run_faults(&sc, a, t);
	} else {
		for (uint64_t i = 0; i < a->seeds; i++) {
			struct run_options opt = { .seed = a->seed + i, .verbose = a->verbose };
			run_one(&sc, &opt, &result, t);
		}
	}
	buf_free(&b);
}

/* Each domain elsewhere has a server of another temper; play_random() in run.c names the recipients. */
static const char random_text[] =
	"config {\n\thostname mx.example.org;\n\tdomain example.org { }\n\trelay_from 198.51.100.0/24;\n"
	"\ttimeouts { retry_first 1min; retry_max 20min; expire 10h; bounce_expire 12h; }\n}\n"
	"accounts {\n\tann@example.org\n\tbob@example.org\n\tcat@example.org\n}\n"
	"aliases {\n\taway@example.org = zoe@fast.example, bob@example.org\n}\n"
	"dns {\n\texample.net A 203.0.113.1\n\tfast.example A 203.0.113.2\n\tmoody.example MX 10 mx.moody.example\n"
	"\tmx.moody.example A 203.0.113.3\n\tcuts.example A 203.0.113.4\n\tdead.example A 203.0.113.5\n"
	"\tsecond.example MX 10 dead.example\n\tsecond.example MX 20 fast.example\n}\n"
	"server net at 203.0.113.1 {\n\tclose at KEPT chance 3\n\treply END 451 4.3.0 \"later\" chance 10\n}\n"
	"server fast at 203.0.113.2 {\n\treply RCPT 550 5.1.1 \"no such user\" to no@fast.example\n}\n"
	"server moody at 203.0.113.3 {\n\tslow 3ms\n\textensions 8BITMIME\n\treply GREETING 421 4.3.2 \"busy\" chance 10\n"
	"\treply MAIL 451 4.3.0 \"later\" chance 5\n\treply RCPT 452 4.5.3 \"too many\" after 1\n"
	"\treply RCPT 450 4.2.0 \"later\" chance 20\n\treply RCPT 550 5.1.1 \"never\" chance 5\n"
	"\treply DATA 451 4.3.0 \"later\" chance 5\n\treply END 554 5.6.0 \"spam\" chance 10\n}\n"
	"server cuts at 203.0.113.4 {\n\tclose at KEPT chance 10\n\tclose at END chance 10\n\tclose at CONTENT chance 10\n"
	"\tclose at RCPT chance 10\n\tclose at GREETING chance 10\n\tsilent at END chance 2\n\tsilent at MAIL chance 1\n}\n";

static void run_random(const struct args *a, struct mem *mem, struct totals *t)
{
	struct arena ARENA_SCOPED arena = arena_make(mem, (size_t)1 << 20);
	struct scenario sc;
	struct str error;
	if (scenario_parse(STR("random"), str_z(random_text), &arena, &sc, &error) != ERR_NONE)
		return;
	for (uint64_t i = 0; i < a->random; i++) {
		struct run_options opt = { .seed = a->seed + i, .verbose = a->verbose, .random = true,
					   .messages = (unsigned)a->messages, .crashes = (unsigned)a->crashes };
		struct run_result result;
		run_one(&sc, &opt, &result, t);
		printf("seed %llu: %zu accepted, %zu delivered, %zu queued, %.1f s\n", (unsigned long long)opt.seed,
		       result.accepted, result.delivered, result.queued, (double)result.took_ns / 1e9);
	}
}

int main(int argc, char **argv)
{
	struct args a;
	struct totals t = { 0 };
	if (!parse_args(argc, argv, &a)) {
		fputs(usage, stderr);
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* what is known is told, even when we are killed */
	signal(SIGABRT, on_abort);
#ifndef GODWIT_ASAN
	signal(SIGILL, on_abort); /* assert_failed() */
	signal(SIGTRAP, on_abort);
	signal(SIGSEGV, on_abort);
#endif
	struct mem *mem = mem_new(0);
	for (size_t i = 0; i < a.files_n; i++)
		run_file(a.files[i], &a, mem, &t);
	if (a.random)
		run_random(&a, mem, &t);
	mem_destroy(mem);
	printf("%llu passed, %llu failed\n", (unsigned long long)t.passed, (unsigned long long)t.failed);
	return t.failed ? 1 : 0;
}
