/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed calls between processes, over SOCK_SEQPACKET pairs that master made for exactly the pairs of
 * roles that calls.def allows. Runs in every process; the other end is trusted to be of our build but
 * not to be well: each field is bounds-checked, and a packet that does not decode closes the channel.
 *
 * Frames: u32 length of what follows the length, u8 kind, u8 number of descriptors, u16 type,
 * u32 call id, then the encoded fields. One packet holds one or more whole frames; frames gather
 * during a turn of the loop and leave in as few packets as will hold them. Both ends
 * first send a hello with the build id, and close on a difference.
 *
 * Back-pressure: at most `window` calls are outstanding on a channel; further callers wait their turn.
 * When the other end dies, each pending call fails with ERR_CLOSED, which callers treat as temporary.
 */
#ifndef IPC_IPC_H
#define IPC_IPC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/cursor.h"
#include "co/co.h"

#define IPC_FRAME_HEAD 12u
/* The largest encoded argument or result. */
#define IPC_FRAME_MAX (WORLD_PACKET_MAX - IPC_FRAME_HEAD)
#define IPC_WINDOW 512u
/* Message bytes that travel inside one call; calls.def uses the same number. */
#define IPC_BODY_PART 57344u

/* What generated encoders write to and decoders read from. */
struct ipc_writer {
	struct buf b;
	int fds[WORLD_PACKET_FDS];
	uint8_t fd_count;
};
struct ipc_reader {
	struct cursor c;
	struct arena *arena; /* strings and lists of a decoded struct live here */
	const int *fds;
	uint8_t fd_count, fd_next;
};

struct ipc;

/* One incoming call or note. */
struct ipc_request {
	struct ipc *from;
	uint16_t type;
	bool is_note;
	struct ipc_reader in;
	struct ipc_writer *out; /* NULL for a note */
};
/* Decodes, calls the handler, encodes. Runs in a coroutine of its own (notes: in the reader's). */
typedef enum err (*ipc_dispatch_fn)(void *self, struct ipc_request *rq);

struct ipc_config {
	struct loop *loop;
	struct scope *scope;	  /* the channel's coroutines run in it */
	int fd;			  /* taken over; closed when ipc_open() fails */
	uint8_t peer_role;	  /* enum role of calls.h */
	uint16_t peer_index;
	ipc_dispatch_fn dispatch; /* NULL: this end serves nothing */
	void *self;
	size_t arena_max;	  /* bytes a served call may use to decode and answer */
	void (*on_closed)(void *self, struct ipc *ch); /* once, after pending calls were failed */
};
/* The channel is valid until on_closed() has been called: whoever keeps a pointer forgets it there. */
enum err ipc_open(const struct ipc_config *cfg, struct ipc **ch_out) MUST_CHECK;
/* Sends what is queued if it can be sent at once, then closes. Pending calls fail with ERR_CLOSED. */
void ipc_close(struct ipc *ch);
bool ipc_is_open(const struct ipc *ch);
/* Nothing waits to be sent: descriptors that were handed over may be closed. */
bool ipc_is_sent(const struct ipc *ch);
uint8_t ipc_peer_role(const struct ipc *ch);
uint16_t ipc_peer_index(const struct ipc *ch);
size_t ipc_outstanding(const struct ipc *ch);

/* ---- used by the generated code ------------------------------------------------------------- */

/*
 * Sends a call and waits for its answer. put(w, in) encodes; get(r, out) decodes into `arena`.
 * Descriptors in the answer belong to the caller. Errors: what the handler returned; ERR_CLOSED;
 * ERR_TIMEOUT and ERR_CANCELLED of the caller's scope (a late answer is dropped, its descriptors closed).
 */
YIELDS enum err ipc_call(struct ipc *ch, uint16_t type, void (*put)(struct ipc_writer *, const void *),
			 const void *in, struct arena *arena, enum err (*get)(struct ipc_reader *, void *),
			 void *out) MUST_CHECK;
/* Queues a note. ERR_BUSY when more than 4 MiB wait to be sent. Never waits. */
enum err ipc_note(struct ipc *ch, uint16_t type, void (*put)(struct ipc_writer *, const void *),
		  const void *in) MUST_CHECK;

void ipc_put_fd(struct ipc_writer *w, int fd);
int ipc_get_fd(struct ipc_reader *r);
void ipc_put_ip(struct ipc_writer *w, const struct ip *ip);
void ipc_get_ip(struct ipc_reader *r, struct ip *ip_out);

/* Opaque forwarding, for control: call `type` with already encoded bytes, get the encoded answer. */
YIELDS enum err ipc_call_raw(struct ipc *ch, uint16_t type, struct str in, struct arena *arena,
			     struct str *out) MUST_CHECK;

#endif
