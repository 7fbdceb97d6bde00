/* SPDX-License-Identifier: Apache-2.0 */
/* Dot-stuffing: what goes out, however the message is cut; and that data.h reads the message back. */
#include "smtp/dot_stuff.h"

#include "base/buf.h"
#include "base/test.h"
#include "smtp/data.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }

static const struct {
	struct str in, out;
	bool bare;
} rows[] = {
	{ S(""), S(".\r\n"), false },
	{ S("a\r\n"), S("a\r\n.\r\n"), false },
	{ S("a"), S("a\r\n.\r\n"), false },
	{ S("."), S("..\r\n.\r\n"), false },
	{ S(".\r\n"), S("..\r\n.\r\n"), false },
	{ S("..\r\n.a\r\na.\r\n\r\n.\r\n"), S("...\r\n..a\r\na.\r\n\r\n..\r\n.\r\n"), false },
	{ S("a\r\n.b"), S("a\r\n..b\r\n.\r\n"), false },
	{ S("a\0b\r\n"), S("a\0b\r\n.\r\n"), false },
	/* T2 (H2) */
	{ S("a\n.\r\nb\r\n"), S(""), true },
	{ S("a\r.\r\nb\r\n"), S(""), true },
	{ S("a\r"), S(""), true },
	{ S("\n"), S(""), true },
	{ S("\r\r\n"), S(""), true },
};

static void stuff(struct str in, size_t step, struct buf *b, bool *bare_out)
{
	struct dot_stuff d = { 0 };
	for (size_t at = 0; at < in.n; at += step) {
		struct str left = str_sub(in, at, at + step);
		while (left.n > 0) {
			bool dot;
			struct str piece = dot_stuff_next(&d, left, &dot);
			assert_true(piece.n > 0);
			if (dot)
				buf_add_char(b, '.');
			buf_add(b, piece);
			left = str_sub(left, piece.n, left.n);
		}
	}
	buf_add(b, dot_stuff_end(&d));
	*bare_out = d.bare;
}

static void messages(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t step = 1; step < 9; step++) {
			char room[200];
			struct buf b = buf_fixed(room, sizeof room);
			bool bare;
			stuff(rows[i].in, step, &b, &bare);
			assert_int_equal(bare, rows[i].bare);
			if (!bare)
				assert_str(buf_str(&b), rows[i].out);
		}
}

/* T1 against D2: what a server makes of it is the message. */
static void there_and_back(void **state)
{
	static const char alphabet[] = "\r\n\r\n\r\n..ab";
	uint64_t seed = 4711;
	for (int run = 0; run < 20000; run++) {
		char in[40], out[120], back[120];
		size_t n = test_random(&seed) % 30, back_n = 0, used = 0;
		bool bare;
		struct buf b = buf_fixed(out, sizeof out);
		for (size_t i = 0; i < n; i++)
			in[i] = alphabet[test_random(&seed) % (sizeof alphabet - 1)];
		stuff(str_of(in, n), 1 + test_random(&seed) % 7, &b, &bare);
		struct data_reader r = data_reader_make(DATA_DOTS);
		struct str left = buf_str(&b);
		while (left.n > 0 && !r.ended) {
			struct str piece = data_next(&r, left, &used);
			memcpy(back + back_n, piece.p, piece.n);
			back_n += piece.n;
			left = str_sub(left, used, left.n);
		}
		if (bare)
			continue;
		assert_true(r.ended && !r.bare && left.n == 0);
		if (n == 0 || (n >= 2 && memcmp(in + n - 2, "\r\n", 2) == 0))
			assert_int_equal(back_n, n);
		else
			assert_int_equal(back_n, n + 2);
		assert_memory_equal(back, in, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages),
		cmocka_unit_test(there_and_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
