/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator, a service manager and the command line do, from outside: start, stop, ask. */
#include "sim/run.h"

#include "control/control.h"
#include "keys/keys.h"
#include "local/local.h"
#include "lookup/lookup.h"
#include "master/master.h"
#include "queue/queue.h"
#include "relay/relay.h"
#include "resolver/resolver.h"
#include "smtpd/smtpd.h"

#define STEP_NS (INT64_C(50) * 1000000)
#define READY_NS (INT64_C(900) * 1000000000)
#define STOP_NS (INT64_C(120) * 1000000000)
#define CALL_NS (INT64_C(40) * 1000000000)
#define CALL_ARENA_MAX ((size_t)8 << 20)
#define PROCESSES_MIN 8u
#define KILLED (256 + 9)

/* ---- the programs ------------------------------------------------------------------------------ */

static int main_master(struct world *w, unsigned index UNUSED)
{
	return master_main(w, STR(RUN_CONF_PATH));
}

static int main_smtpd(struct world *w, unsigned index)
{
	return proc_main(w, &smtpd_ops, index);
}

static int main_queue(struct world *w, unsigned index)
{
	return proc_main(w, &queue_ops, index);
}

static int main_local(struct world *w, unsigned index)
{
	return proc_main(w, &local_ops, index);
}

static int main_relay(struct world *w, unsigned index)
{
	return proc_main(w, &relay_ops, index);
}

static int main_lookup(struct world *w, unsigned index)
{
	return proc_main(w, &lookup_ops, index);
}

static int main_resolver(struct world *w, unsigned index)
{
	return proc_main(w, &resolver_ops, index);
}

static int main_keys(struct world *w, unsigned index)
{
	return proc_main(w, &keys_ops, index);
}

static int main_control(struct world *w, unsigned index)
{
	return proc_main(w, &control_ops, index);
}

const struct sim_program run_programs[] = {
	{ "master", main_master }, { "smtpd", main_smtpd },   { "queue", main_queue },	  { "local", main_local },
	{ "relay", main_relay },   { "lookup", main_lookup }, { "resolver", main_resolver }, { "control", main_control },
	{ "keys", main_keys },	   { NULL, NULL },
};

/* ---- asking ---------------------------------------------------------------------------------------- */

void run_sleep(struct run *r, int64_t ns)
{
	if (co_sleep_until(world_mono_ns(r->w) + ns) != ERR_NONE)
		return; /* cancelled: the caller's loop notices */
}

static void forget_channel(void *self, struct ipc *ch UNUSED)
{
	*(struct ipc **)self = NULL; /* it is not valid any longer */
}

/* One call by a connection of its own, as `godwit` does it. */
static YIELDS enum err call(struct run *r, uint16_t type, struct ipc_writer *in, struct arena *arena,
			    struct ipc_reader *out)
{
	struct scope scope;
	struct ipc *ch = NULL;
	struct control_call_out answer;
	int fd;
	TRY(buf_err(&in->b));
	TRY(sim_connect_path(r->w, r->mx, STR(RUN_DIRECTORY "/run/control.sock"), &fd));
	scope_open(&scope, r->loop, co_scope());
	struct ipc_config cfg = { .loop = r->loop, .scope = &scope, .fd = fd, .peer_role = ROLE_CONTROL, .arena_max = 65536,
				  .self = &ch, .on_closed = forget_channel };
	enum err e = ipc_open(&cfg, &ch);
	if (e == ERR_NONE) {
		struct control_call_in question = { .type = type, .bytes = buf_str(&in->b) };
		int64_t before = co_set_deadline(world_mono_ns(r->w) + CALL_NS);
		e = call_control_call(ch, &question, arena, &answer);
		co_set_deadline(before);
		if (ch)
			ipc_close(ch);
	}
	scope_close(&scope);
	*out = (struct ipc_reader){ .arena = arena };
	out->c = cursor_of(e == ERR_NONE ? answer.bytes : STR(""));
	return e;
}

#define ASK(r, type, name, in, arena, out)                                                         \
	({                                                                                         \
		struct ipc_writer w_ = { .b = buf_grow((r)->mem, IPC_FRAME_MAX) };                 \
		struct ipc_reader r_;                                                              \
		name##_in_put(&w_, (in));                                                          \
		enum err e_ = call((r), (type), &w_, (arena), &r_);                                \
		if (e_ == ERR_NONE)                                                                \
			e_ = name##_out_get(&r_, (out));                                           \
		buf_free(&w_.b);                                                                   \
		e_;                                                                                \
	})

enum err server_change(struct run *r, enum directory_kind kind, struct str name, struct str targets)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, CALL_ARENA_MAX);
	struct directory_change_in in = { .kind = kind, .name = name, .targets = targets };
	struct directory_change_out out = { 0 };
	TRY(ASK(r, CALL_DIRECTORY_CHANGE, directory_change, &in, &arena, &out));
	if (!out.done)
		sim_note(r->s, "%.*s: %.*s", STR_ARG(name), STR_ARG(out.text));
	return out.done || out.text.n == 0 ? ERR_NONE : ERR_DENIED;
}

enum err server_queue_list(struct run *r, const struct queue_list_in *in, struct arena *arena,
			   struct queue_list_out *out)
{
	return ASK(r, CALL_QUEUE_LIST, queue_list, in, arena, out);
}

enum err server_queue_show(struct run *r, uint64_t id, struct arena *arena, struct queue_show_out *out)
{
	struct queue_show_in in = { .id = id };
	return ASK(r, CALL_QUEUE_SHOW, queue_show, &in, arena, out);
}

enum err server_queue_act(struct run *r, enum queue_action action, struct str match, struct str route, uint64_t *count_out)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, CALL_ARENA_MAX);
	struct queue_act_in in = { .action = action, .match = match, .route = route };
	struct queue_act_out out = { 0 };
	TRY(ASK(r, CALL_QUEUE_ACT, queue_act, &in, &arena, &out));
	*count_out = out.recipients;
	return ERR_NONE;
}

enum err server_dns(struct run *r, struct str name, enum dns_type type, struct arena *arena, struct dns_lookup_out *out)
{
	struct dns_lookup_in in = { .name = name, .type = type };
	return ASK(r, CALL_DNS_LOOKUP, dns_lookup, &in, arena, out);
}

static YIELDS bool all_ready(struct run *r)
{
	struct arena ARENA_SCOPED arena = arena_make(r->mem, CALL_ARENA_MAX);
	struct master_status_out out = { 0 };
	if (!sim_process_lives(r->s, r->master_pid) ||
	    ASK(r, CALL_MASTER_STATUS, master_status, &(struct master_status_in){ 0 }, &arena, &out) != ERR_NONE)
		return false;
	for (size_t i = 0; i < out.processes_n; i++)
		if (!str_eq(out.processes[i].state, STR("ready")))
			return false;
	return out.processes_n >= PROCESSES_MIN;
}

/* ---- starting and stopping --------------------------------------------------------------------------- */

static bool log_has(struct run *r, const char *what)
{
	struct str log = str_sub(sim_log(r->s), r->log_from, SIZE_MAX);
	return str_find_str(log, str_z(what)) < log.n;
}

bool server_ready(struct run *r)
{
	int64_t until = world_mono_ns(r->w) + READY_NS;
	while (world_mono_ns(r->w) < until) {
		if (log_has(r, " server_ready ") && all_ready(r))
			return true;
		run_sleep(r, STEP_NS);
	}
	return false;
}

bool server_start(struct run *r)
{
	r->stopped = false;
	r->log_from = sim_log(r->s).n;
	r->master_pid = sim_program_start(r->mx, "master");
	return server_ready(r);
}

void server_stop(struct run *r)
{
	int64_t until = world_mono_ns(r->w) + STOP_NS;
	r->stopped = true;
	sim_process_stop(r->s, r->master_pid);
	while (sim_process_lives(r->s, r->master_pid) && world_mono_ns(r->w) < until)
		run_sleep(r, STEP_NS);
	if (sim_process_lives(r->s, r->master_pid))
		sim_fail(r->s, "the server does not stop");
	else if (sim_process_status(r->s, r->master_pid) != 0 &&
		 !(r->opt->random && sim_process_status(r->s, r->master_pid) == KILLED)) /* a crash that was planned */
		sim_fail(r->s, "the server stopped with status %d", sim_process_status(r->s, r->master_pid));
}
