/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: the three formats; that no hostile byte gets through any of them (H107); that JSON is JSON;
 * and what happens when the sink fails.
 */
#include "base/log.h"

#include "base/events.h"
#include "base/test.h"

struct sink {
	struct buf got;
	unsigned writes, fail; /* the next `fail` writes fail */
};

static enum err sink_write(void *arg, struct str bytes)
{
	struct sink *s = arg;

	s->writes++;
	if (s->fail) {
		s->fail--;
		return ERR_NO_SPACE;
	}
	buf_add(&s->got, bytes);
	return ERR_NONE;
}

static int64_t sink_now(void *arg)
{
	return 1795459863123;
}

struct fixture {
	struct mem *mem;
	struct sink sink;
	struct log log;
};

static void open_log(struct fixture *f, enum log_format format, enum log_level min_level)
{
	*f = (struct fixture){ .mem = mem_new(0) };
	assert_non_null(f->mem);
	f->sink.got = buf_grow(f->mem, 1 << 22);
	assert_int_equal(log_init(&f->log, f->mem,
				  (struct log_sink){ sink_write, sink_now, &f->sink }, format,
				  min_level, STR("smtpd")),
			 ERR_NONE);
}

static void close_log(struct fixture *f)
{
	log_close(&f->log);
	buf_free(&f->sink.got);
	assert_int_equal(mem_blocks(f->mem), 0);
	mem_destroy(f->mem);
}

static struct str flushed(struct fixture *f)
{
	log_flush(&f->log);
	return buf_str(&f->sink.got);
}

static const struct log_ids nobody, somebody = { 0x1234, UINT64_MAX };

static void text_lines(void **state)
{
	struct fixture f;

	open_log(&f, LOG_FORMAT_TEXT, LEVEL_DEBUG);
	log_io_error(&f.log, somebody, STR("open"), ERR_DENIED, STR("a \"b\" \\ c"));
	log_limit_reached(&f.log, nobody, STR_NONE, 7);
	assert_int_equal(f.sink.writes, 0);
	assert_str(
		flushed(&f),
		STR("2026-11-23T18:51:03.123Z error smtpd io_error session=00000000004hm "
		    "msg=fzzzzzzzzzzzz what=\"open\" error=denied detail=\"a \\\"b\\\" \\x5c c\"\n"
		    "2026-11-23T18:51:03.123Z warning smtpd limit_reached what=\"\" limit=7\n"));
	assert_int_equal(f.sink.writes, 1);
	log_flush(&f.log);
	assert_int_equal(f.sink.writes, 1);
	close_log(&f);
}

static void json_lines(void **state)
{
	struct fixture f;

	open_log(&f, LOG_FORMAT_JSON, LEVEL_DEBUG);
	log_io_error(&f.log, somebody, STR("open"), ERR_DENIED,
		     STR("\"\\/\x01\x7f\xc3\xa4\xff\xf0\x9f\x98\x80\xed\xa0\x80"));
	assert_str(flushed(&f),
		   STR("{\"time\":\"2026-11-23T18:51:03.123Z\",\"level\":\"error\",\"process\":"
		       "\"smtpd\","
		       "\"event\":\"io_error\",\"session\":\"00000000004hm\",\"msg\":"
		       "\"fzzzzzzzzzzzz\","
		       "\"what\":\"open\",\"error\":\"denied\",\"detail\":\"\\\"\\\\/\\u0001\\u007f"
		       "\\u00e4\\ufffd\\ud83d\\ude00\\ufffd\\ufffd\\ufffd\"}\n"));
	close_log(&f);
}

static void journald_datagrams(void **state)
{
	struct fixture f;

	open_log(&f, LOG_FORMAT_JOURNALD, LEVEL_DEBUG);
	log_limit_reached(&f.log, somebody, STR("a\n\"b"), 7);
	log_process_stop(&f.log, nobody, STR("x"));
	assert_str(flushed(&f),
		   STR("PRIORITY=4\nSYSLOG_IDENTIFIER=godwit-smtpd\nGODWIT_EVENT=limit_reached\n"
		       "GODWIT_SESSION=00000000004hm\nGODWIT_MSG=fzzzzzzzzzzzz\n"
		       "GODWIT_WHAT=a\\x0a\"b\nGODWIT_LIMIT=7\n"
		       "MESSAGE=limit_reached session=00000000004hm msg=fzzzzzzzzzzzz "
		       "what=\"a\\x0a\\\"b\" limit=7\n"
		       "PRIORITY=5\nSYSLOG_IDENTIFIER=godwit-smtpd\nGODWIT_EVENT=process_stop\n"
		       "GODWIT_REASON=x\nMESSAGE=process_stop reason=\"x\"\n"));
	assert_int_equal(f.sink.writes, 2);
	close_log(&f);
}

static void every_type(void **state)
{
	static const enum log_format formats[] = { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
	static const struct str ends[] = {
		STR(" x a=-5 b=2001:db8::1 c=* d=0000000000007 e=no-space\n"),
		STR("\"x\",\"a\":-5,\"b\":\"2001:db8::1\",\"c\":\"*\",\"d\":\"0000000000007\","
		    "\"e\":\"no-space\"}\n"),
	};

	for (size_t i = 0; i < COUNT(formats); i++) {
		struct fixture f;
		struct ip ip;

		assert_int_equal(ip_parse(STR("2001:db8::1"), &ip), ERR_NONE);
		open_log(&f, formats[i], LEVEL_DEBUG);
		assert_true(log_begin(&f.log, "x", LEVEL_INFO, nobody));
		log_field_i64(&f.log, "a", -5);
		log_field_ip(&f.log, "b", &ip);
		log_field_ip(&f.log, "c", NULL);
		log_field_id(&f.log, "d", 7);
		log_field_err(&f.log, "e", ERR_NO_SPACE);
		log_end(&f.log);
		assert_true(str_ends(flushed(&f), ends[i]));
		close_log(&f);
	}
}

/* H107: each byte value, alone and in a line that tries to forge a second one. */
static void hostile_bytes(void **state)
{
	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JOURNALD; format++) {
		for (int c = 0; c < 256; c++) {
			char text[] = "x_\n2026-11-23T18:51:03.123Z info smtpd forged\r\n\x1b[2J";
			struct fixture f;

			text[1] = (char)c;
			open_log(&f, (enum log_format)format, LEVEL_DEBUG);
			log_config_error(&f.log, nobody, str_of(text, sizeof text - 1), 1,
					 str_of(text, sizeof text - 1));

			struct str got = flushed(&f);
			size_t lines = 0;

			for (size_t i = 0; i < got.n; i++) {
				lines += got.p[i] == '\n';
				assert_true(got.p[i] == '\n' ||
					    (got.p[i] >= 0x20 && got.p[i] <= 0x7e));
			}
			assert_int_equal(lines, format == LOG_FORMAT_JOURNALD ? 7 : 1);
			assert_int_equal(got.p[got.n - 1], '\n');
			close_log(&f);
		}
	}
}

/* Passes one JSON string; its end, or 0 when it is none. RFC 8259 §7, ASCII only. */
static size_t json_string_end(struct str s, size_t i)
{
	if (i >= s.n || s.p[i] != '"')
		return 0;
	for (i++; i < s.n && s.p[i] != '"'; i++) {
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return 0;
		if (s.p[i] != '\\')
			continue;
		i++;
		if (i >= s.n || str_find(STR("\"\\u"), s.p[i]) == 3)
			return 0;
		if (s.p[i] == 'u') {
			for (int k = 0; k < 4; k++)
				if (++i >= s.n || str_find(STR("0123456789abcdef"), s.p[i]) == 16)
					return 0;
		}
	}
	return i < s.n ? i + 1 : 0;
}

/* {"key":"value" or number, …}\n */
static bool is_json_line(struct str s)
{
	size_t i = 0;

	if (s.n < 3 || s.p[0] != '{' || !str_ends(s, STR("}\n")))
		return false;
	do {
		i = json_string_end(s, i + 1);
		if (!i || s.p[i] != ':')
			return false;
		i++;
		if (s.p[i] == '"')
			i = json_string_end(s, i);
		else
			while (ascii_is_digit(s.p[i]) || s.p[i] == '-')
				i++;
		if (!i)
			return false;
	} while (s.p[i] == ',');
	return i == s.n - 2;
}

static void json_is_valid(void **state)
{
	uint64_t random = 77;

	for (int round = 0; round < 3000; round++) {
		char text[64];
		struct fixture f;

		for (size_t i = 0; i < sizeof text; i++) {
			uint64_t r = test_random(&random) >> 16;

			/* half of it from bytes that matter to UTF-8 and JSON */
			text[i] = r & 1 ? (char)(r >> 8)
					: "\"\\\xc3\xa4\xf0\x9f\x98\x80\xe2\x82\xac\xed\xa0u"[(r >>
											       8) %
											      14];
		}
		open_log(&f, LOG_FORMAT_JSON, LEVEL_DEBUG);
		log_config_error(&f.log, nobody, str_of(text, (size_t)round % 65), UINT64_MAX,
				 str_of(text, 64));
		assert_true(is_json_line(flushed(&f)));
		close_log(&f);
	}
}

static void long_texts_are_cut(void **state)
{
	static const char big[100000];

	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JOURNALD; format++) {
		struct fixture f;

		open_log(&f, (enum log_format)format, LEVEL_DEBUG);
		log_process_restart(&f.log, nobody, str_of(big, sizeof big), 0);

		struct str got = flushed(&f);

		assert_true(got.n < 6 * LOG_TEXT_MAX_BYTES + 4 * LOG_TEXT_MAX_BYTES);
		assert_true(str_find_str(got, STR("[+98976 bytes]\"")) < got.n);
		close_log(&f);
	}
}

/* The worst event that the generator lets pass is not lost. */
static void largest_event_fits(void **state)
{
	static char big[LOG_TEXT_MAX_BYTES];

	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JOURNALD; format++) {
		struct fixture f;

		open_log(&f, (enum log_format)format, LEVEL_DEBUG);
		assert_true(log_begin(&f.log, "x", LEVEL_INFO, somebody));
		for (int i = 0; i < 8; i++)
			log_field_str(&f.log, "a_rather_long_name", str_of(big, sizeof big));
		for (int i = 0; i < 8; i++)
			log_field_u64(&f.log, "a_rather_long_name", UINT64_MAX);
		log_end(&f.log);
		assert_int_equal(f.log.dropped, 0);
		assert_true(flushed(&f).n > 8 * 4 * LOG_TEXT_MAX_BYTES);
		close_log(&f);
	}
}

static void levels(void **state)
{
	struct fixture f;
	enum log_level level;
	enum log_format format;

	open_log(&f, LOG_FORMAT_TEXT, LEVEL_ERROR);
	log_process_stop(&f.log, nobody, STR("x"));
	assert_str(flushed(&f), STR(""));
	log_memory_limit(&f.log, nobody, 1, 2);
	assert_true(flushed(&f).n > 0);
	close_log(&f);
	for (int i = LEVEL_DEBUG; i <= LEVEL_ERROR; i++) {
		assert_int_equal(log_level_parse(str_z(log_level_name((enum log_level)i)), &level),
				 ERR_NONE);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse(STR("warn"), &level), ERR_SYNTAX);
	assert_int_equal(log_format_parse(STR("json"), &format), ERR_NONE);
	assert_int_equal(format, LOG_FORMAT_JSON);
	assert_int_equal(log_format_parse(STR("xml"), &format), ERR_SYNTAX);
}

static size_t count_of(struct str s, struct str what)
{
	size_t n = 0;

	for (size_t at; (at = str_find_str(s, what)) < s.n; s = str_sub(s, at + what.n, s.n))
		n++;
	return n;
}

static void failing_sink(void **state)
{
	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JOURNALD; format++) {
		struct fixture f;

		open_log(&f, (enum log_format)format, LEVEL_DEBUG);
		f.sink.fail = 3;
		for (int i = 0; i < 3; i++)
			log_process_stop(&f.log, nobody, STR("lost"));
		assert_str(flushed(&f), STR(""));
		f.sink.fail =
			2; /* the log_dropped is lost as well, and what it told is not forgotten */
		log_process_stop(&f.log, nobody, STR("lost"));
		log_flush(&f.log);
		f.sink.fail = 0;
		log_process_stop(&f.log, nobody, STR("seen"));

		struct str got = flushed(&f);

		assert_int_equal(count_of(got, STR("process_stop")),
				 format == LOG_FORMAT_JOURNALD ? 2 : 1);
		assert_true(str_find_str(got, format == LOG_FORMAT_JSON ? STR("\"count\":5}")
									: STR("count=5")) < got.n);
		assert_true(str_find_str(got, STR("log_dropped")) <
			    str_find_str(got, STR("process_stop")));
		log_process_stop(&f.log, nobody, STR("seen"));
		assert_int_equal(count_of(flushed(&f), STR("[=\"]log_dropped")), 0);
		assert_int_equal(f.log.dropped, 0);
		assert_int_equal(f.log.dropped_told, 0);
		close_log(&f);
	}
}

/* Without a loop that flushes, the buffer is handed over when it is full. */
static void full_buffer(void **state)
{
	struct fixture f;

	open_log(&f, LOG_FORMAT_TEXT, LEVEL_DEBUG);
	for (int i = 0; i < 10000; i++)
		log_process_stop(&f.log, nobody, STR("something or other"));
	assert_true(f.sink.writes > 5 && f.sink.writes < 50);
	assert_int_equal(count_of(flushed(&f), STR("\n")), 10000);
	close_log(&f);
}

static void no_memory(void **state)
{
	struct mem *m = mem_new(1000);
	struct log l;

	assert_int_equal(
		log_init(&l, m, (struct log_sink){ 0 }, LOG_FORMAT_TEXT, LEVEL_INFO, STR("x")),
		ERR_NO_MEMORY);
	mem_destroy(m);
}

static void table_is_documented(void **state)
{
	bool found = false;

	assert_true(log_event_docs_count >= 10);
	for (size_t i = 0; i < log_event_docs_count; i++) {
		const struct log_event_doc *doc = &log_event_docs[i];

		assert_true(strlen(doc->doc) > 0);
		for (size_t k = 0; k < doc->n_fields; k++)
			assert_true(strlen(doc->fields[k].doc) > 0);
		if (str_eq(str_z(doc->name), STR("io_error"))) {
			found = true;
			assert_int_equal(doc->level, LEVEL_ERROR);
			assert_int_equal(doc->n_fields, 3);
			assert_string_equal(doc->fields[1].type, "err");
		}
	}
	assert_true(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_lines),
		cmocka_unit_test(json_lines),
		cmocka_unit_test(journald_datagrams),
		cmocka_unit_test(every_type),
		cmocka_unit_test(hostile_bytes),
		cmocka_unit_test(json_is_valid),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(largest_event_fits),
		cmocka_unit_test(levels),
		cmocka_unit_test(failing_sink),
		cmocka_unit_test(full_buffer),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(table_is_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
