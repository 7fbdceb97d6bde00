/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffered byte stream over a connected socket. Buffers come from the loop's pool when bytes are
 * there and go back when they are used up: an idle stream holds none. TLS (tls/tls.h) is a second set
 * of stream_ops over the same struct.
 */
#ifndef CO_STREAM_H
#define CO_STREAM_H

#include "base/str.h"
#include "co/co.h"

#define STREAM_IN_BYTES 16384u	/* also the longest line that stream_read_line() can return */
#define STREAM_OUT_BYTES 16384u

struct stream;
struct stream_ops { /* return ERR_BUSY when they would wait, and say in *wait_out for what */
	enum err (*recv)(struct stream *s, void *p, size_t n, size_t *n_out, unsigned *wait_out);
	enum err (*send)(struct stream *s, const struct str *parts, size_t count, size_t *n_out, unsigned *wait_out);
	void (*end)(struct stream *s); /* no more output: told to the other end, if that takes no waiting */
	void (*close)(struct stream *s);
};
struct stream {
	struct source src;
	const struct stream_ops *ops;
	char *in;  /* pool buffer or NULL */
	char *out; /* pool buffer or NULL */
	uint32_t in_from, in_to, out_n;
	bool more; /* what is sent now is followed by more, or the end */
	uint64_t received_bytes, sent_bytes;
	void *tls;
};

enum err stream_open(struct stream *s, struct loop *l, int fd) MUST_CHECK;
/* Closes the socket; unsent output is dropped. Safe to call twice. */
void stream_close(struct stream *s);

/* Says that nothing more will be sent (half-close); what comes in can still be read. */
void stream_end(struct stream *s);

/* What has arrived and is not consumed; valid until the next call on the stream. */
struct str stream_input(const struct stream *s);
void stream_consume(struct stream *s, size_t n);
/* Overwrites a part of the input that is about to be consumed: a secret. */
void stream_wipe(struct stream *s, struct str secret);
/* Receives at least one more byte. ERR_LIMIT when the buffer is full. */
YIELDS enum err stream_fill(struct stream *s) MUST_CHECK;
/* As stream_fill, at a command boundary: see source_wait_idle(). Gives an empty buffer back before. */
YIELDS enum err stream_fill_idle(struct stream *s) MUST_CHECK;
/* Nobody will wait on the stream for a while: empty buffers go back to the pool. */
void stream_idle(struct stream *s);
/* Adds to the output buffer; sends when it is full. */
YIELDS enum err stream_write(struct stream *s, struct str bytes) MUST_CHECK;
/* Sends what is buffered, all of it, or an error. */
YIELDS enum err stream_flush(struct stream *s) MUST_CHECK;
/* As stream_flush, right before the end: the last bytes and the end go out in one packet. */
YIELDS enum err stream_flush_last(struct stream *s) MUST_CHECK;

#endif
