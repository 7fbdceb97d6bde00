/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of message bytes: RFC 5321 §4.5.2, §4.1.1.4; H2–H5, H7; each vector cut at every place. */
#include "smtp/data.h"

#include "base/buf.h"
#include "base/test.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }

struct row {
	enum data_framing framing;
	struct str in, out;
	size_t used; /* 0: all */
	const char *flags; /* e ended, b bare, n NUL, 8 */
};

static const struct row rows[] = {
	{ DATA_DOTS, S(".\r\n"), S(""), 0, "e" },
	{ DATA_DOTS, S("\r\n.\r\n"), S("\r\n"), 0, "e" },
	{ DATA_DOTS, S("a\r\n.\r\nMAIL"), S("a\r\n"), 6, "e" },
	{ DATA_DOTS, S("..\r\n...a\r\n.\r\n"), S(".\r\n..a\r\n"), 0, "e" },
	{ DATA_DOTS, S(".a\r\n.\r\n"), S("a\r\n"), 0, "e" },
	{ DATA_DOTS, S("a.\r\n.\r\n"), S("a.\r\n"), 0, "e" },
	{ DATA_DOTS, S("a\r\n"), S("a\r\n"), 0, "" },
	{ DATA_DOTS, S("\xc3\xa4\r\n.\r\n"), S("\xc3\xa4\r\n"), 0, "e8" },
	{ DATA_DOTS, S("a\0b\r\n.\r\n"), S("a\0b\r\n"), 0, "en" },
	/* H2: none of these is the end */
	{ DATA_DOTS, S("a\n.\n"), S("a\n.\n"), 0, "b" },
	{ DATA_DOTS, S("a\n.\r\n"), S("a\n.\r\n"), 0, "b" },
	{ DATA_DOTS, S("a\r\n.\n"), S("a\r\n\n"), 0, "b" },
	{ DATA_DOTS, S("a\r.\r"), S("a\r.\r"), 0, "b" },
	{ DATA_DOTS, S("a\r.\r\n"), S("a\r.\r\n"), 0, "b" },
	{ DATA_DOTS, S("a\r\n.\rx"), S("a\r\nx"), 0, "b" },
	{ DATA_DOTS, S("a\r\n.\r\r\n"), S("a\r\n\r\n"), 0, "b" },
	{ DATA_DOTS, S("a\r\r\n.\r\n"), S("a\r\r\n"), 0, "eb" },
	{ DATA_DOTS, S("a\r\n\0.\r\n"), S("a\r\n\0.\r\n"), 0, "n" },
	{ DATA_DOTS, S("a\r\n.\0\r\n"), S("a\r\n\0\r\n"), 0, "n" },
	{ DATA_DOTS, S("\n.\r\n\r\n.\r\n"), S("\n.\r\n\r\n"), 0, "eb" },
	/* BDAT */
	{ DATA_PLAIN, S(".\r\n..\r\n"), S(".\r\n..\r\n"), 0, "" },
	{ DATA_PLAIN, S("a"), S("a"), 0, "" },
	{ DATA_PLAIN, S("a\r"), S("a\r"), 0, "b" },
	{ DATA_PLAIN, S("a\nb\0"), S("a\nb\0"), 0, "bn" },
	{ DATA_BINARY, S("\n\r\0.\r\n.\r\n\xff"), S("\n\r\0.\r\n.\r\n\xff"), 0, "8" },
};

static void feed(struct data_reader *r, struct str in, struct buf *out, size_t *used_out)
{
	while (in.n > 0 && !r->ended) {
		size_t used;
		buf_add(out, data_next(r, in, &used));
		assert_true(used > 0);
		in = str_sub(in, used, in.n);
		*used_out += used;
	}
}

static void check(const struct row *row, size_t cut)
{
	char room[100], flags[8];
	struct buf out = buf_fixed(room, sizeof room), f = buf_fixed(flags, sizeof flags);
	struct data_reader r = data_reader_make(row->framing);
	size_t used = 0;
	feed(&r, str_sub(row->in, 0, cut), &out, &used);
	if (!r.ended)
		feed(&r, str_sub(row->in, cut, row->in.n), &out, &used);
	if (row->framing != DATA_DOTS)
		data_finish(&r);
	if (r.ended)
		buf_add_char(&f, 'e');
	if (r.bare)
		buf_add_char(&f, 'b');
	if (r.nul)
		buf_add_char(&f, 'n');
	if (r.has_8bit)
		buf_add_char(&f, '8');
	struct str want = str_z(row->flags);
	if (!str_eq(buf_str(&f), want))
		print_message("row %td cut %zu: %.*s\n", row - rows, cut, STR_ARG(buf_str(&f)));
	assert_str(buf_str(&f), want);
	assert_int_equal(used, row->used ? row->used : row->in.n);
	if (!r.bare)
		assert_str(buf_str(&out), row->out);
}

static void vectors(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t cut = 0; cut <= rows[i].in.n; cut++)
			check(&rows[i], cut);
}

/* The common case is one piece: no copying, no break. */
static void whole_chunk_is_one_piece(void **state)
{
	char text[16000];
	for (size_t i = 0; i < sizeof text; i += 80) {
		memset(text + i, 'a', 78);
		memcpy(text + i + 78, "\r\n", 2);
	}
	struct data_reader r = data_reader_make(DATA_DOTS);
	size_t used;
	struct str piece = data_next(&r, str_of(text, sizeof text), &used);
	assert_true(piece.p == text && piece.n == sizeof text && used == sizeof text);
}

/* H7: RFC 5321 §4.5.3.1.6 */
static void long_lines(void **state)
{
	static char text[65536];
	memset(text, 'a', sizeof text);
	struct data_reader r = data_reader_make(DATA_DOTS);
	size_t used;
	for (int i = 0; i < 16; i++)
		(void)data_next(&r, str_of(text, sizeof text), &used);
	assert_false(r.long_line);
	(void)data_next(&r, STR("b"), &used);
	assert_true(r.long_line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors),
		cmocka_unit_test(whole_chunk_is_one_piece),
		cmocka_unit_test(long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
