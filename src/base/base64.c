/* SPDX-License-Identifier: Apache-2.0 */
/* Base64: see base64.h. The text may be a stranger's. */
#include "base/base64.h"

static const char digits[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static unsigned byte_at(struct str s, size_t i)
{
	return i < s.n ? (unsigned char)s.p[i] : 0;
}

void base64_add(struct buf *b, struct str bytes)
{
	for (size_t i = 0; i < bytes.n; i += 3) {
		unsigned v = byte_at(bytes, i) << 16 | byte_at(bytes, i + 1) << 8 | byte_at(bytes, i + 2);
		char four[4] = { digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63] };
		for (size_t k = bytes.n - i + 1; k < 4; k++)
			four[k] = '=';
		buf_add(b, str_of(four, 4));
	}
}

struct str base64_encode(struct arena *a, struct str bytes)
{
	size_t n = BASE64_BYTES(bytes.n);
	char *to = arena_alloc(a, n ? n : 1);
	struct buf b = buf_fixed(to, to ? n : 0);
	if (!to)
		return STR_NONE;
	base64_add(&b, bytes);
	return buf_str(&b);
}

/* 64: not a digit. */
static unsigned value_of(char c)
{
	if (ascii_is_alpha(c))
		return c >= 'a' ? (unsigned)(c - 'a') + 26 : (unsigned)(c - 'A');
	if (ascii_is_digit(c))
		return (unsigned)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

enum err base64_decode(struct arena *a, struct str text, struct str *bytes_out)
{
	size_t pad = str_ends(text, STR("==")) ? 2 : str_ends(text, STR("=")) ? 1 : 0, n = text.n - pad, m = 0;
	uint32_t v = 0;
	if (text.n % 4 != 0)
		return ERR_SYNTAX;
	char *to = arena_alloc(a, text.n / 4 * 3 + 1);
	if (!to)
		return arena_err(a);
	for (size_t i = 0; i < n; i++) {
		unsigned d = value_of(text.p[i]);
		if (d == 64)
			return ERR_SYNTAX;
		v = v << 6 | d;
		if (i % 4 != 0)
			to[m++] = (char)(v >> (6 - 2 * (i % 4)));
	}
	if (pad && (v & (pad == 2 ? 15 : 3)) != 0)
		return ERR_SYNTAX; /* there would be several texts for the same bytes */
	*bytes_out = str_of(to, m);
	return ERR_NONE;
}
