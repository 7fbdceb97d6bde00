/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes events. Runs in every process; the text fields are hostile bytes, the keys and names are
 * ours. An event is composed in `line` and appended to `pending` when it is whole, so that what is
 * cut or dropped is always whole events. Sources: RFC 8259 §7 (JSON strings);
 * systemd.io/JOURNAL_NATIVE_PROTOCOL.
 */
#include "base/log.h"

#include "base/clockfmt.h"
#include "base/cursor.h"
#include "base/events.h"

static const char *const level_names[] = { "debug", "info", "notice", "warning", "error" };
/* syslog(3)'s priorities, which journald uses */
static const char level_priorities[] = { '7', '6', '5', '4', '3' };
static const char *const format_names[] = { "text", "json", "journald" };

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

enum err log_level_parse(struct str s, enum log_level *level_out)
{
	for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
		if (str_eq(s, str_z(level_names[i]))) {
			*level_out = (enum log_level)i;
			return ERR_NONE;
		}
	return ERR_SYNTAX;
}

enum err log_format_parse(struct str s, enum log_format *format_out)
{
	for (unsigned i = 0; i < sizeof format_names / sizeof format_names[0]; i++)
		if (str_eq(s, str_z(format_names[i]))) {
			*format_out = (enum log_format)i;
			return ERR_NONE;
		}
	return ERR_SYNTAX;
}

enum err log_init(struct log *l, struct mem *mem, struct log_sink sink, enum log_format format,
		  enum log_level min_level, struct str process)
{
	/* taken once, so that a process which has run out of memory can still say so */
	char *room = mem_alloc_raw(mem, (size_t)LOG_PENDING_BYTES * 3);

	if (!room)
		return ERR_NO_MEMORY;
	*l = (struct log){
		.mem = mem,
		.sink = sink,
		.format = format,
		.min_level = min_level,
		.process = process,
		.pending = buf_fixed(room, LOG_PENDING_BYTES),
		.line = buf_fixed(room + LOG_PENDING_BYTES, LOG_PENDING_BYTES),
		.journal_fields = buf_fixed(room + 2 * LOG_PENDING_BYTES, LOG_PENDING_BYTES),
	};
	return ERR_NONE;
}

void log_close(struct log *l)
{
	log_flush(l);
	mem_free(l->mem, l->pending.p);
	*l = (struct log){ 0 };
}

/* --- values --- */

static void add_text_quoted(struct buf *b, struct str s)
{
	size_t cut = s.n > LOG_TEXT_MAX_BYTES ? s.n - LOG_TEXT_MAX_BYTES : 0;
	struct str rest = str_sub(s, 0, LOG_TEXT_MAX_BYTES);

	buf_add_char(b, '"');
	for (;;) { /* buf_add_safe() leaves only the quote to us */
		bool more = str_find(rest, '"') < rest.n;

		buf_add_safe(b, str_split(rest, '"', &rest), LOG_TEXT_MAX_BYTES);
		if (!more)
			break;
		buf_add(b, STR("\\\""));
	}
	if (cut)
		buf_addf(b, "[+%zu bytes]", cut);
	buf_add_char(b, '"');
}

/* The code point of a well-formed character of n bytes. */
static unsigned utf8_value(const char *p, size_t n)
{
	unsigned v = (unsigned char)p[0];

	if (n > 1)
		v &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++)
		v = v << 6 | ((unsigned char)p[i] & 0x3f);
	return v;
}

static void add_json_escape(struct buf *b, unsigned code)
{
	if (code > 0xffff) { /* RFC 8259 §7: a surrogate pair */
		add_json_escape(b, 0xd800 + ((code - 0x10000) >> 10));
		code = 0xdc00 + ((code - 0x10000) & 0x3ff);
	}
	buf_add(b, STR("\\u"));
	buf_add_hex(b, code, 4);
}

static void add_json_string(struct buf *b, struct str s)
{
	size_t cut = s.n > LOG_TEXT_MAX_BYTES ? s.n - LOG_TEXT_MAX_BYTES : 0;

	s = str_sub(s, 0, LOG_TEXT_MAX_BYTES);
	buf_add_char(b, '"');
	while (s.n > 0) {
		size_t n = str_utf8_first(s);
		unsigned code = n ? utf8_value(s.p, n) : 0xfffd;

		if (code == '"' || code == '\\') {
			buf_add_char(b, '\\');
			buf_add_char(b, s.p[0]);
		} else if (code >= 0x20 && code <= 0x7e) {
			buf_add_char(b, s.p[0]);
		} else {
			add_json_escape(b, code);
		}
		s = str_sub(s, n ? n : 1, s.n);
	}
	if (cut)
		buf_addf(b, "[+%zu bytes]", cut);
	buf_add_char(b, '"');
}

/* --- fields --- */

/* GODWIT_<KEY>=; the keys are our own, [a-z0-9_]. */
static void add_journal_key(struct buf *b, const char *key)
{
	buf_add(b, STR("GODWIT_"));
	for (const char *c = key; *c; c++)
		buf_add_char(b, *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c);
	buf_add_char(b, '=');
}

static void add_key(struct log *l, const char *key)
{
	buf_add_char(&l->line, l->format == LOG_FORMAT_JSON ? ',' : ' ');
	if (l->format == LOG_FORMAT_JSON) {
		add_json_string(&l->line, str_z(key));
		buf_add_char(&l->line, ':');
	} else {
		buf_add(&l->line, str_z(key));
		buf_add_char(&l->line, '=');
	}
}

/* A value of our own making: digits, an address, a name. */
static void add_plain(struct log *l, const char *key, struct str v, bool is_number)
{
	bool quoted = l->format == LOG_FORMAT_JSON && !is_number;

	add_key(l, key);
	if (quoted)
		buf_add_char(&l->line, '"');
	buf_add(&l->line, v);
	if (quoted)
		buf_add_char(&l->line, '"');
	if (l->format == LOG_FORMAT_JOURNALD) {
		add_journal_key(&l->journal_fields, key);
		buf_add(&l->journal_fields, v);
		buf_add_char(&l->journal_fields, '\n');
	}
}

void log_field_str(struct log *l, const char *key, struct str v)
{
	add_key(l, key);
	if (l->format == LOG_FORMAT_JSON)
		add_json_string(&l->line, v);
	else
		add_text_quoted(&l->line, v);
	if (l->format == LOG_FORMAT_JOURNALD) {
		add_journal_key(&l->journal_fields, key);
		buf_add_safe(&l->journal_fields, v, LOG_TEXT_MAX_BYTES);
		buf_add_char(&l->journal_fields, '\n');
	}
}

void log_field_u64(struct log *l, const char *key, uint64_t v)
{
	char text[24];
	struct buf b = buf_fixed(text, sizeof text);

	buf_add_u64(&b, v);
	add_plain(l, key, buf_str(&b), true);
}

void log_field_i64(struct log *l, const char *key, int64_t v)
{
	char text[24];
	struct buf b = buf_fixed(text, sizeof text);

	buf_add_i64(&b, v);
	add_plain(l, key, buf_str(&b), true);
}

void log_field_ip(struct log *l, const char *key, const struct ip *v)
{
	char text[IP_TEXT_MAX];
	struct buf b = buf_fixed(text, sizeof text);

	if (v)
		ip_add(&b, v);
	else
		buf_add_char(&b, '*');
	add_plain(l, key, buf_str(&b), false);
}

void log_field_id(struct log *l, const char *key, uint64_t v)
{
	char text[MSG_ID_CHARS];
	struct buf b = buf_fixed(text, sizeof text);

	msg_id_add(&b, v);
	add_plain(l, key, buf_str(&b), false);
}

void log_field_err(struct log *l, const char *key, enum err v)
{
	add_plain(l, key, str_z(err_name(v)), false);
}

/* --- events --- */

static void begin_text(struct log *l, const char *event, enum log_level level)
{
	date_add_rfc3339(&l->line, l->sink.now_wall_ms(l->sink.arg));
	buf_add_char(&l->line, ' ');
	buf_add(&l->line, str_z(log_level_name(level)));
	buf_add_char(&l->line, ' ');
	buf_add_safe(&l->line, l->process, LOG_TEXT_MAX_BYTES);
	buf_add_char(&l->line, ' ');
	buf_add(&l->line, str_z(event));
}

static void begin_json(struct log *l, const char *event, enum log_level level)
{
	buf_add(&l->line, STR("{\"time\":\""));
	date_add_rfc3339(&l->line, l->sink.now_wall_ms(l->sink.arg));
	buf_add(&l->line, STR("\",\"level\":\""));
	buf_add(&l->line, str_z(log_level_name(level)));
	buf_add(&l->line, STR("\",\"process\":"));
	add_json_string(&l->line, l->process);
	buf_add(&l->line, STR(",\"event\":\""));
	buf_add(&l->line, str_z(event));
	buf_add_char(&l->line, '"');
}

/* journald has its own time; MESSAGE comes last, because it is finished last. */
static void begin_journald(struct log *l, const char *event, enum log_level level)
{
	struct buf *b = &l->journal_fields;

	buf_add(&l->line, str_z(event));
	buf_clear(b);
	buf_add(b, STR("PRIORITY="));
	buf_add_char(b, level_priorities[level]);
	buf_add(b, STR("\nSYSLOG_IDENTIFIER=godwit-"));
	buf_add_safe(b, l->process, LOG_TEXT_MAX_BYTES);
	buf_add(b, STR("\nGODWIT_EVENT="));
	buf_add(b, str_z(event));
	buf_add_char(b, '\n');
}

bool log_begin(struct log *l, const char *event, enum log_level level, struct log_ids ids)
{
	if (level < l->min_level)
		return false;
	if (l->dropped && l->dropped_told == 0) {
		l->dropped_told = l->dropped;
		l->dropped = 0;
		log_log_dropped(l, (struct log_ids){ 0 }, l->dropped_told);
	}
	buf_clear(&l->line);
	if (l->format == LOG_FORMAT_JSON)
		begin_json(l, event, level);
	else if (l->format == LOG_FORMAT_JOURNALD)
		begin_journald(l, event, level);
	else
		begin_text(l, event, level);
	if (ids.session)
		log_field_id(l, "session", ids.session);
	if (ids.message)
		log_field_id(l, "msg", ids.message);
	return true;
}

/* What one event is in `pending`: a line; for journald a datagram behind its length. */
static void compose(struct log *l)
{
	if (l->format == LOG_FORMAT_JOURNALD) {
		buf_add(&l->journal_fields, STR("MESSAGE="));
		buf_add(&l->journal_fields, buf_str(&l->line));
		buf_add_char(&l->journal_fields, '\n');
		if (buf_err(&l->journal_fields))
			l->line.err = buf_err(&l->journal_fields);
		return;
	}
	buf_add(&l->line, l->format == LOG_FORMAT_JSON ? STR("}\n") : STR("\n"));
}

static size_t pending_room(const struct log *l)
{
	return l->pending.cap - l->pending.n;
}

void log_end(struct log *l)
{
	bool journald = l->format == LOG_FORMAT_JOURNALD;

	compose(l);

	struct str event = buf_str(journald ? &l->journal_fields : &l->line);
	size_t need = event.n + (journald ? sizeof(uint32_t) : 0);

	if (!buf_err(&l->line) && need > pending_room(l))
		log_flush(l);
	if (buf_err(&l->line) || need > pending_room(l)) {
		l->dropped++;
		return;
	}
	if (journald)
		put_u32(&l->pending, (uint32_t)event.n);
	buf_add(&l->pending, event);
	l->pending_events++;
}

/*
 * Each datagram by itself; counts those that were lost. Behind one that failed no other is tried: a journal
 * that does not read would make us wait for each.
 */
static uint64_t flush_journald(struct log *l)
{
	struct cursor c = cursor_of(buf_str(&l->pending));
	uint64_t lost = 0;

	for (bool first = true; cursor_left(&c) > 0; first = false) {
		struct str datagram = cursor_str(&c, LOG_PENDING_BYTES);

		if (lost || l->sink.write(l->sink.arg, datagram))
			lost++;
		else if (first)
			l->dropped_told = 0; /* a log_dropped is always the first: it has arrived */
	}
	return lost;
}

void log_flush(struct log *l)
{
	uint64_t lost = 0;

	if (l->pending.n == 0)
		return;
	if (l->format == LOG_FORMAT_JOURNALD)
		lost = flush_journald(l);
	else if (l->sink.write(l->sink.arg, buf_str(&l->pending)))
		lost = l->pending_events;
	if (lost) /* the log_dropped among them is an event too, and what it told is told again */
		l->dropped += lost + l->dropped_told;
	l->dropped_told = 0;
	buf_clear(&l->pending);
	l->pending_events = 0;
}
