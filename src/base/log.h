/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events, not sentences. The rows of events.def give the functions that emit them (log_<event>() in
 * the generated base/events.h) and the manual. This header is what those functions stand on.
 *
 * Formats, one event each (RFC 3339 time in UTC; session and msg only when they are not 0):
 *   text      time level process event key=value …; texts in quotes, with \" and \xHH (\x5c for \)
 *   json      one object a line, pure ASCII: other characters are \uXXXX, malformed UTF-8 is \ufffd
 *   journald  one datagram of sd_journal's native protocol: KEY=value lines; MESSAGE is the text
 *             form; values are escaped as in the text form, so that none has a line feed
 * No byte outside 0x20..0x7e of a field's value reaches the sink (H107), in any format. A text
 * above LOG_TEXT_MAX_BYTES is cut and ends with "[+N bytes]".
 *
 * Emitting only appends to a buffer of 96 KiB, in which the largest event fits that gen_events.py
 * admits; the loop calls log_flush(). When the sink fails, the lines are dropped and counted, and
 * log_dropped is the first event after it. Nothing here can fail for the caller: the mail goes on.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/buf.h"
#include "base/ip.h"

#define LOG_PENDING_BYTES  98304
#define LOG_TEXT_MAX_BYTES 1024 /* of one field, before escaping */

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON, LOG_FORMAT_JOURNALD };
enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_NOTICE, LEVEL_WARNING, LEVEL_ERROR };

/* Where the lines go and what the time is. bytes is whole lines, or one datagram. */
struct log_sink {
	enum err (*write)(void *arg, struct str bytes);
	int64_t (*now_wall_ms)(void *arg);
	void *arg;
};

/* Whom an event is about; 0 = nobody in particular. Both are shown by msg_id_add(). */
struct log_ids {
	uint64_t session, message;
};

struct log {
	struct mem *mem;
	struct log_sink sink;
	enum log_format format;
	enum log_level min_level;
	struct str process;
	struct buf line;	   /* the event being written */
	struct buf journal_fields; /* its KEY=value lines, journald only */
	struct buf pending;
	uint64_t pending_events;
	uint64_t dropped;      /* events lost that no log_dropped has told */
	uint64_t dropped_told; /* told by a log_dropped that is still pending */
};

/* process outlives the log. ERR_NO_MEMORY. */
enum err log_init(struct log *l, struct mem *mem, struct log_sink sink, enum log_format format,
		  enum log_level min_level, struct str process) MUST_CHECK;
/* Flushes and frees. */
void log_close(struct log *l);
/* Hands what is pending to the sink. */
void log_flush(struct log *l);

/* "debug" … "error"; "text", "json", "journald". */
const char *log_level_name(enum log_level level);
enum err log_level_parse(struct str s, enum log_level *level_out) MUST_CHECK;
enum err log_format_parse(struct str s, enum log_format *format_out) MUST_CHECK;

/* For the generated functions only. False when the level is not wanted; else fields, log_end(). */
bool log_begin(struct log *l, const char *event, enum log_level level, struct log_ids ids)
	MUST_CHECK;
void log_field_str(struct log *l, const char *key, struct str v);
void log_field_u64(struct log *l, const char *key, uint64_t v);
void log_field_i64(struct log *l, const char *key, int64_t v);
void log_field_ip(struct log *l, const char *key, const struct ip *v);
void log_field_id(struct log *l, const char *key, uint64_t v);
void log_field_err(struct log *l, const char *key, enum err v);
void log_end(struct log *l);

/* The table that events.def gives: for `godwit` to explain an event, and for tests. */
struct log_field_doc {
	const char *name, *type, *doc;
};
struct log_event_doc {
	const char *name;
	enum log_level level;
	const char *doc;
	const struct log_field_doc *fields;
	size_t n_fields;
};
extern const struct log_event_doc log_event_docs[];
extern const size_t log_event_docs_count;

#endif
