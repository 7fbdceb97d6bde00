/* SPDX-License-Identifier: Apache-2.0 */
/* godwit queue and godwit trace. What strangers wrote is printed with everything unprintable escaped. */
#include "base/clockfmt.h"
#include "cli/cli.h"
#include "conf/conf_table.h"
#include "queue/route.h"

#define PAGE_ROWS 40u

static void print_id(struct cli *c, uint64_t id)
{
	char text[MSG_ID_CHARS + 1];
	struct buf b = buf_fixed(text, sizeof text);
	msg_id_add(&b, id);
	cli_print(c, buf_str(&b));
}

static void print_row_json(struct cli *c, const struct queue_row *r, bool first)
{
	cli_print(c, first ? STR("{\"id\":\"") : STR(",\n{\"id\":\""));
	print_id(c, r->id);
	cli_printf(c, "\",\"recipient\":%u,\"arrived_ms\":%lld,\"next_ms\":%lld,\"bytes\":%llu,\"state\":\"%s\",\"attempts\":%u,\"from\":",
		   r->number, (long long)r->arrived_ms, (long long)r->next_ms, (unsigned long long)r->bytes,
		   rcpt_state_name(r->state), r->attempts);
	cli_print_json(c, r->reverse_path);
	cli_print(c, STR(",\"to\":"));
	cli_print_json(c, r->address);
	cli_print(c, STR(",\"reason\":"));
	cli_print_json(c, r->reason);
	cli_print(c, STR(",\"route\":"));
	cli_print_json(c, r->route);
	cli_printf(c, ",\"moved\":%s,\"site\":", r->moved ? "true" : "false");
	cli_print_json(c, r->site);
	cli_printf(c, ",\"closed_until_ms\":%lld,\"full\":%s,\"site_failure\":", (long long)r->closed_ms, r->full ? "true" : "false");
	cli_print_json(c, r->why);
	cli_print(c, STR("}"));
}

/* "waits: mx.example.org is closed until 12:34: 451 …" */
static void print_place(struct cli *c, const struct queue_row *r)
{
	if (r->route.n == 0)
		return;
	cli_print(c, STR("\n               route "));
	cli_print_safe(c, r->route);
	cli_print(c, r->moved ? STR(" (moved there by the operator)") : STR(""));
	if (r->state != RCPT_STATE_QUEUED || (!r->closed_ms && !r->full))
		return;
	cli_print(c, STR("; waits: "));
	cli_print_safe(c, r->site);
	if (r->full) {
		cli_print(c, STR(" takes no more at present"));
		return;
	}
	cli_print(c, STR(" is closed until "));
	cli_print_time(c, r->closed_ms);
	cli_print(c, r->why.n ? STR(": ") : STR(""));
	cli_print_safe(c, r->why);
}

static void print_row(struct cli *c, const struct queue_row *r)
{
	print_id(c, r->id);
	cli_print(c, STR("  "));
	cli_print_time(c, r->arrived_ms);
	cli_printf(c, "  %8llu  %-6s  <", (unsigned long long)r->bytes, rcpt_state_name(r->state));
	cli_print_safe(c, r->reverse_path);
	cli_print(c, STR("> -> "));
	cli_print_safe(c, r->address);
	if (r->attempts) {
		cli_printf(c, "\n               %u attempts", r->attempts);
		if (r->next_ms && r->state == RCPT_STATE_QUEUED) {
			cli_print(c, STR(", next "));
			cli_print_time(c, r->next_ms);
		}
	}
	if (r->reason.n) {
		cli_print(c, r->attempts ? STR(": ") : STR("\n               "));
		cli_print_safe(c, r->reason);
	}
	print_place(c, r);
	cli_print(c, STR("\n"));
}

/* ---- which recipients ---------------------------------------------------------------------------------------- */

static bool take_age(struct cli *c, const char *option, int64_t *at_out, int *status_out)
{
	struct str word;
	uint64_t ms = 0;
	if (!cli_option(c, option, &word))
		return false;
	if (!conf_time(word, &ms) || (int64_t)ms > world_wall_ms(c->w))
		*status_out = cli_fail(c, EXIT_USAGE, "%s takes a time (30s, 5min, 4h, 5d), not '%.*s'", option, (int)(word.n < 40 ? word.n : 40), word.p);
	*at_out = world_wall_ms(c->w) - (int64_t)ms;
	return true;
}

/* Takes the options that select out of the arguments. *status_out: an exit code if one is wrong. True: there was one. */
static bool take_filter(struct cli *c, struct queue_filter *f, int *status_out)
{
	bool any = cli_option(c, "--domain", &f->domain);
	any |= cli_option(c, "--sender", &f->sender);
	any |= take_age(c, "--older", &f->before_ms, status_out);
	any |= take_age(c, "--newer", &f->after_ms, status_out);
	if (f->domain.n > 255 || f->sender.n > 320)
		*status_out = cli_fail(c, EXIT_USAGE, "that is too long for an address");
	return any;
}

/* ---- list, show, sites ------------------------------------------------------------------------------------------ */

static YIELDS int queue_list(struct cli *c)
{
	struct queue_list_in in = { .limit = PAGE_ROWS };
	struct queue_list_out out = { .more = true };
	bool first = true;
	int status = 0;
	(void)take_filter(c, &in.only, &status);
	if (status || cli_no_more(c, 2))
		return EXIT_USAGE;
	in.match = c->args_n > 1 ? str_sub(c->args[1], 0, 320) : STR("");
	if (c->json)
		cli_print(c, STR("{\"rows\":["));
	while (out.more) {
		arena_close(&c->page); /* a page at a time: a million rows must not gather */
		enum err e = CLI_CALL(c, CALL_QUEUE_LIST, queue_list, &in, &out);
		if (e != ERR_NONE)
			return cli_call_failed(c, e);
		for (size_t i = 0; i < out.rows_n; i++, first = false) {
			if (c->json)
				print_row_json(c, &out.rows[i], first);
			else
				print_row(c, &out.rows[i]);
			in.after_id = out.rows[i].id;
			in.after_number = out.rows[i].number;
		}
		if (out.rows_n == 0)
			break;
	}
	if (c->json)
		cli_printf(c, "],\"messages\":%llu,\"recipients\":%llu,\"held\":%llu}\n", (unsigned long long)out.messages,
			   (unsigned long long)out.recipients, (unsigned long long)out.held);
	else
		cli_printf(c, "%llu messages, %llu recipients (%llu held) in the queue\n", (unsigned long long)out.messages,
			   (unsigned long long)out.recipients, (unsigned long long)out.held);
	return 0;
}

static YIELDS int queue_show(struct cli *c)
{
	struct queue_show_in in;
	struct queue_show_out out;
	if (c->args_n != 2 || msg_id_parse(c->args[1], &in.id) != ERR_NONE)
		return cli_fail(c, EXIT_USAGE, "usage: godwit queue show ID (13 characters, as in queue list)");
	enum err e = CLI_CALL(c, CALL_QUEUE_SHOW, queue_show, &in, &out);
	if (e == ERR_NOT_FOUND)
		return cli_fail(c, EXIT_DATA, "no such message in the queue; try: godwit trace %.*s", STR_ARG(c->args[1]));
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	const struct envelope *env = &out.envelope;
	cli_print(c, STR("from    <"));
	cli_print_safe(c, env->reverse_path);
	cli_print(c, STR(">\nclient  "));
	char text[IP_TEXT_MAX];
	struct buf b = buf_fixed(text, sizeof text);
	ip_add(&b, &env->client);
	cli_print(c, buf_str(&b));
	cli_print(c, STR(" ("));
	cli_print_safe(c, env->helo);
	cli_printf(c, ", %.*s)\nbytes   %llu\n", STR_ARG(env->protocol), (unsigned long long)out.bytes);
	for (size_t i = 0; i < out.rows_n; i++)
		print_row(c, &out.rows[i]);
	cli_print(c, STR("\n"));
	for (struct str rest = out.head; rest.n > 0;) {
		struct str line = str_split(rest, '\n', &rest);
		if (str_ends(line, STR("\r")))
			line.n--;
		cli_print_safe(c, line);
		cli_print(c, STR("\n"));
	}
	return 0;
}

static void print_site(struct cli *c, const struct site_row *r)
{
	cli_print_safe(c, r->name);
	cli_printf(c, "\n    %u of %u under way, %u%s waiting", r->under_way, r->window, r->waiting, r->waiting >= 10000 ? " or more" : "");
	if (r->closed_ms) {
		cli_print(c, STR("; closed until "));
		cli_print_time(c, r->closed_ms);
	}
	if (r->failures)
		cli_printf(c, "; %u failures in a row: ", r->failures);
	cli_print_safe(c, r->why);
	cli_print(c, STR("\n"));
}

static void print_site_json(struct cli *c, const struct site_row *r, bool first)
{
	cli_print(c, first ? STR("{\"site\":") : STR(",\n{\"site\":"));
	cli_print_json(c, r->name);
	cli_printf(c, ",\"window\":%u,\"under_way\":%u,\"waiting\":%u,\"failures\":%u,\"closed_until_ms\":%lld,\"failure\":", r->window,
		   r->under_way, r->waiting, r->failures, (long long)r->closed_ms);
	cli_print_json(c, r->why);
	cli_print(c, STR("}"));
}

static YIELDS int queue_sites(struct cli *c)
{
	struct queue_sites_in in = { .match = c->args_n > 1 ? str_sub(c->args[1], 0, 320) : STR("") };
	struct queue_sites_out out;
	if (cli_no_more(c, 2))
		return EXIT_USAGE;
	enum err e = CLI_CALL(c, CALL_QUEUE_SITES, queue_sites, &in, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	if (c->json)
		cli_print(c, STR("{\"sites\":["));
	for (size_t i = 0; i < out.rows_n; i++)
		if (c->json)
			print_site_json(c, &out.rows[i], i == 0);
		else
			print_site(c, &out.rows[i]);
	if (c->json)
		cli_printf(c, "],\"total\":%llu}\n", (unsigned long long)out.sites);
	else
		cli_printf(c, "%llu places, %zu shown\n", (unsigned long long)out.sites, out.rows_n);
	return 0;
}

/* ---- changes ------------------------------------------------------------------------------------------------------ */

/* The route that "move" names; false: there is none, which is said. */
static bool take_route(struct cli *c, struct str *route_out)
{
	if (!cli_option(c, "--route", route_out)) {
		cli_fail(c, EXIT_USAGE, "usage: godwit queue move WHICH --route NAME (- for the one that the configuration says)");
		return false;
	}
	if (str_eq(*route_out, STR("-"))) {
		*route_out = str_of("", 0);
		return true;
	}
	if (route_out->n && route_named(&c->conf, *route_out))
		return true;
	cli_fail(c, EXIT_DATA, "the configuration has no route '%.*s'", (int)(route_out->n < 64 ? route_out->n : 64), route_out->p);
	return false;
}

static const char *what_was_done(enum queue_action action)
{
	static const char *const words[] = { [QUEUE_ACTION_FLUSH] = "to be tried now", [QUEUE_ACTION_RETRY] = "to be tried now",
					     [QUEUE_ACTION_HOLD] = "held", [QUEUE_ACTION_RELEASE] = "released",
					     [QUEUE_ACTION_DROP] = "dropped", [QUEUE_ACTION_MOVE] = "moved" };
	return words[action];
}

static bool is_retry(enum queue_action action)
{
	return action == QUEUE_ACTION_FLUSH || action == QUEUE_ACTION_RETRY;
}

static YIELDS int queue_act(struct cli *c, enum queue_action action)
{
	struct queue_act_in in = { .action = action };
	struct queue_act_out out;
	int status = 0;
	if (action == QUEUE_ACTION_MOVE && !take_route(c, &in.route))
		return EXIT_USAGE;
	bool some = take_filter(c, &in.only, &status), all = cli_option(c, "--all", NULL) || action == QUEUE_ACTION_FLUSH;
	if (status)
		return status;
	if (c->args_n > 2 || (c->args_n == 1 && !some && !all) || (all && action != QUEUE_ACTION_FLUSH && (some || c->args_n == 2)))
		return cli_fail(c, EXIT_USAGE, "usage: godwit queue %s ID | PART-OF-ADDRESS | --domain D | --sender A | --older TIME | "
				"--newer TIME | --all", queue_action_name(action));
	if (c->args_n == 2 && msg_id_parse(c->args[1], &in.id) != ERR_NONE)
		in.match = str_sub(c->args[1], 0, 320);
	enum err e = CLI_CALL(c, CALL_QUEUE_ACT, queue_act, &in, &out);
	if (e == ERR_NOT_FOUND)
		return cli_fail(c, EXIT_DATA, "no such message in the queue");
	if (e == ERR_SYNTAX)
		return cli_fail(c, EXIT_DATA, "the running server has no such route: was it started with this configuration?");
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	if (c->json)
		cli_printf(c, "{\"action\":\"%s\",\"recipients\":%llu,\"under_way\":%llu}\n", queue_action_name(action),
			   (unsigned long long)out.recipients, (unsigned long long)out.under_way);
	else
		cli_printf(c, "%s: %llu recipients %s\n", queue_action_name(action), (unsigned long long)out.recipients, what_was_done(action));
	if (!c->json && out.under_way > 0 && !is_retry(action))
		cli_printf(c, "%llu messages are being delivered this moment and were left alone: say it again for them\n",
			   (unsigned long long)out.under_way);
	return 0;
}

int cmd_queue(struct cli *c)
{
	static const enum queue_action actions[] = { QUEUE_ACTION_FLUSH, QUEUE_ACTION_RETRY, QUEUE_ACTION_HOLD,
						     QUEUE_ACTION_RELEASE, QUEUE_ACTION_DROP, QUEUE_ACTION_MOVE };
	struct str what = c->args_n && !str_starts(c->args[0], STR("--")) ? c->args[0] : STR("list");
	if (str_eq(what, STR("list")))
		return queue_list(c);
	if (str_eq(what, STR("show")))
		return queue_show(c);
	if (str_eq(what, STR("sites")))
		return queue_sites(c);
	for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
		if (str_eq(what, str_z(queue_action_name(actions[i]))))
			return queue_act(c, actions[i]);
	return cli_fail(c, EXIT_USAGE, "godwit queue can list, show, sites, flush, retry, hold, release, drop and move; not '%.*s'", STR_ARG(what));
}

/* ---- trace ------------------------------------------------------------------------------------------------- */

static void trace_json(struct cli *c, const struct trace_row *r, bool first)
{
	const struct {
		const char *name;
		struct str value;
	} texts[] = { { "kind", r->kind }, { "client", r->client }, { "from", r->reverse_path }, { "to", r->address },
		      { "code", r->code }, { "text", r->text }, { "by", r->by } };
	cli_print(c, first ? STR("{\"id\":\"") : STR(",\n{\"id\":\""));
	print_id(c, r->id);
	cli_printf(c, "\",\"at_ms\":%lld,\"bytes\":%llu", (long long)r->at_ms, (unsigned long long)r->bytes);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		cli_printf(c, ",\"%s\":", texts[i].name);
		cli_print_json(c, texts[i].value);
	}
	cli_print(c, STR("}"));
}

static void trace_text(struct cli *c, const struct trace_row *r)
{
	bool accepted = str_eq(r->kind, STR("accepted")), refused = str_eq(r->kind, STR("refused"));
	cli_print_time(c, r->at_ms);
	cli_print(c, STR("  "));
	if (r->id)
		print_id(c, r->id);
	else
		cli_print(c, STR("-            "));
	cli_printf(c, "  %-9.*s ", STR_ARG(r->kind));
	if (accepted || refused) {
		cli_print(c, STR("<"));
		cli_print_safe(c, r->reverse_path);
		cli_print(c, STR("> -> "));
	}
	cli_print_safe(c, r->address);
	if (accepted)
		cli_printf(c, "  (%llu bytes, %.*s)", (unsigned long long)r->bytes, STR_ARG(r->by));
	if (r->client.n)
		cli_printf(c, "  client %.*s", STR_ARG(r->client));
	if (r->code.n || r->text.n) {
		cli_print(c, STR("\n    "));
		cli_print_safe(c, r->code);
		cli_print(c, r->code.n ? STR(" ") : STR(""));
		cli_print_safe(c, r->text);
	}
	if (!accepted && r->by.n) {
		cli_print(c, STR("  ["));
		cli_print_safe(c, r->by);
		cli_print(c, STR("]"));
	}
	cli_print(c, STR("\n"));
}

int cmd_trace(struct cli *c)
{
	struct trace_find_in in = { .limit = 25 };
	struct trace_find_out out;
	if (c->args_n != 1)
		return cli_fail(c, EXIT_USAGE, "usage: godwit trace ID|ADDRESS|MESSAGE-ID");
	in.what = str_sub(c->args[0], 0, 320);
	enum err e = CLI_CALL(c, CALL_TRACE_FIND, trace_find, &in, &out);
	if (e != ERR_NONE)
		return cli_call_failed(c, e);
	if (c->json)
		cli_print(c, STR("["));
	for (size_t i = 0; i < out.rows_n; i++) {
		if (c->json)
			trace_json(c, &out.rows[i], i == 0);
		else
			trace_text(c, &out.rows[i]);
	}
	if (c->json)
		cli_print(c, STR("]\n"));
	else if (out.rows_n == 0)
		return cli_fail(c, EXIT_DATA, "nothing is known of '%.*s'", STR_ARG(in.what));
	else if (out.more)
		cli_print(c, STR("… and more; narrow it with a message id\n"));
	return 0;
}
