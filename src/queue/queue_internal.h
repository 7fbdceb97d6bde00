/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the process queue share. */
#ifndef QUEUE_QUEUE_INTERNAL_H
#define QUEUE_QUEUE_INTERNAL_H

#include "queue/index.h"
#include "queue/queue.h"
#include "queue/site.h"
#include "queue/spool.h"

#define QUEUE_FLIGHT_MAX 1024u		     /* deliveries under way: local batches its syncs over them */
#define QUEUE_FLIGHT_FRESH 896u		     /* of which new mail may take so many: the rest is for retries */
#define QUEUE_FLIGHT_BYTES ((size_t)32 << 20) /* the memory that they, and new mail that waits for them, may hold */

#define KEPT_MAX ((size_t)1 << 20)	     /* messages that wait for a full place with what is to be delivered */

struct queue_metrics {
	struct counter *accepted, *refused, *accepted_bytes;
	struct counter *delivered, *relayed, *deferred, *failed, *held_back, *reports;
	struct counter *commits, *records, *commit_failures, *written, *copied, *damaged;
	struct gauge *messages, *recipients, *held, *flying, *log_bytes, *live_bytes, *segments, *free_bytes, *recovery_ms;
	struct gauge *memory;
	struct counter *batch[12];
};

/* Parts of a body, or the promise of a file, before their queue_submit. */
struct upload {
	struct list link;
	uint64_t id;
	uint8_t role;
	uint16_t index; /* of the peer */
	bool in_file;
	struct buf body;
};

/* Sorted ids for a listing in pages: a page continues where the last one ended, whatever came or went. */
struct id_list {
	uint64_t *ids;
	size_t n;
	int64_t used_ns;
};

struct queue {
	struct proc *p;
	struct spool *sp;
	struct index ix;
	struct sites sites;
	struct list uploads;
	size_t upload_bytes;
	size_t flying, flying_bytes;
	struct list waiting; /* deliveries of new mail, with what is to be delivered */
	struct list kept; /* deliveries that wait for a place, with what is to be delivered; the oldest first */
	struct table64 kept_by_id;
	size_t kept_bytes;
	size_t serving; /* calls under way */
	bool stopping, full;
	uint64_t taken_bytes;	  /* since space was looked at */
	struct co_queue schedule; /* the dispatcher: something is due earlier, or there is room in the window */
	struct co_queue idle;	  /* a message is no longer busy */
	struct co_queue control_came;
	uint64_t history_from;	  /* history of segments below is saved */
	uint64_t history_said;	  /* what control said last */
	bool history_lost;	  /* control has lost rows, and cannot store them yet */
	bool replay_wanted, replaying;
	int64_t replayed_ns, control_gone_ns;
	int64_t away_told_ns;
	unsigned ids; /* message ids made here */
	struct id_list list;
	struct queue_metrics m;
};

static inline struct log_ids message_ids(uint64_t id)
{
	return (struct log_ids){ .message = id };
}

/* ---- submit.c ------------------------------------------------------------------------------------- */

YIELDS enum err queue_on_submit(void *self, struct ipc *from, const struct queue_submit_in *in, struct arena *arena,
				struct queue_submit_out *out) MUST_CHECK;
enum err queue_on_part(void *self, struct ipc *from, const struct queue_part_in *in, struct arena *arena,
		       struct queue_part_out *out) MUST_CHECK;
YIELDS enum err queue_on_file(void *self, struct ipc *from, const struct queue_file_in *in, struct arena *arena,
			      struct queue_file_out *out) MUST_CHECK;
/* A message of our own making (a DSN): the same, with the body whole in `in`. Its recipients are resolved. */
YIELDS enum err queue_take_own(struct queue *q, const struct queue_submit_in *in, struct arena *arena) MUST_CHECK;
uint64_t queue_new_id(struct queue *q);
void queue_on_abort(void *self, struct ipc *from, const struct queue_abort_in *in);
/* A peer has died: what it had sent is dropped. */
void queue_drop_uploads(struct queue *q, uint8_t role, uint16_t index);

/* ---- schedule.c ------------------------------------------------------------------------------------- */

/* coroutine: starts deliveries when they are due */
void queue_dispatcher(void *arg);
/* Puts a message into the order of due times and wakes the dispatcher if it is the first. */
void queue_schedule(struct queue *q, struct message *m);
bool queue_may_deliver(const struct queue *q, size_t bytes);
/* The same for new mail that can wait in memory. */
bool queue_may_keep(const struct queue *q, size_t bytes);
/* When to try again after so many attempts. */
int64_t queue_retry_ms(const struct queue *q, unsigned attempts, uint64_t jitter);
int64_t queue_expiry_ms(const struct queue *q, const struct message *m);
/* Whether it has waited so long that its sender is to hear of it. */
bool queue_is_late(const struct queue *q, const struct message *m, int64_t now_ms);
int64_t queue_late_ms(const struct queue *q, const struct message *m);
/* Once a second: space, metrics, ends that could not be written, the history's claim on old segments. */
void queue_keeper(void *arg);
void queue_look_at_space(struct queue *q);

/* ---- deliver.c ---------------------------------------------------------------------------------------- */

/* Starts delivering what is due of a message that is read back from the spool. */
void deliver_queued(struct queue *q, struct message *m);
/* The same for one that was just submitted: nothing is read. body: its parts. */
void deliver_fresh(struct queue *q, struct message *m, const struct queue_submit_in *in, const struct str *body, size_t body_n);
/* The way a recipient goes: the operator's route while there is one of that name, else what the configuration says. */
const struct conf_route *deliver_route(const struct queue *q, const struct rcpt *r, struct str reverse_path, struct str address);
/* Starts what waits, as far as there is room. */
void deliver_waiting(struct queue *q);
/* At the end: what waits is dropped; the spool has it. */
void deliver_forget(struct queue *q);
/* Frees what is kept longer than that many nanoseconds (0: all), or too long already. */
void deliver_kept_forget(struct queue *q, int64_t ns);
void deliver_kept_look(struct queue *q);

/* ---- settle.c ------------------------------------------------------------------------------------------- */

/* Writes the states that changed, or the message's end when all are final. */
YIELDS void queue_store_states(struct queue *q, struct message *m, const struct spool_state *st, size_t n);

/* ---- history.c ------------------------------------------------------------------------------------------ */

void queue_history_message(struct queue *q, const struct envelope *env, uint64_t bytes, uint64_t segment);
void queue_history_attempt(struct queue *q, uint64_t id, const struct spool_state *st, enum verdict verdict);
void queue_on_history_saved(void *self, struct ipc *from, const struct history_saved_in *in);
void queue_on_history_lost(void *self, struct ipc *from, const struct history_lost_in *in);
/* Control came or went. */
void queue_history_peer(struct queue *q, struct ipc *channel);
void queue_history_look(struct queue *q);
/* coroutine: tells control again what it may not have */
void queue_replayer(void *arg);

/* ---- operator.c ------------------------------------------------------------------------------------------- */

YIELDS enum err queue_on_list(void *self, struct ipc *from, const struct queue_list_in *in, struct arena *arena,
			      struct queue_list_out *out) MUST_CHECK;
YIELDS enum err queue_on_show(void *self, struct ipc *from, const struct queue_show_in *in, struct arena *arena,
			      struct queue_show_out *out) MUST_CHECK;
YIELDS enum err queue_on_act(void *self, struct ipc *from, const struct queue_act_in *in, struct arena *arena,
			     struct queue_act_out *out) MUST_CHECK;
enum err queue_on_sites(void *self, struct ipc *from, const struct queue_sites_in *in, struct arena *arena,
			struct queue_sites_out *out) MUST_CHECK;
void queue_list_forget(struct queue *q);

#endif
