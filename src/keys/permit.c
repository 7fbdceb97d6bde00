/* SPDX-License-Identifier: Apache-2.0 */
/* What keys signs: see permit.h. The bytes come from a process that parses strangers'. */
#include "keys/permit.h"


#define BLANKS 64u
#define CONTEXT "TLS 1.3, server CertificateVerify"
#define RANDOM_BYTES 64u
#define NAMED_CURVE 3u

/* K1 */
static bool is_certificate_verify(struct str s, enum tls_padding padding)
{
	if (padding == TLS_PADDING_PKCS1 || s.n < BLANKS + sizeof CONTEXT)
		return false;
	for (size_t i = 0; i < BLANKS; i++)
		if (s.p[i] != ' ')
			return false;
	if (memcmp(s.p + BLANKS, CONTEXT, sizeof CONTEXT) != 0) /* with its NUL */
		return false;
	size_t hash = s.n - BLANKS - sizeof CONTEXT;
	return hash == 32 || hash == 48;
}

static unsigned byte_at(struct str s, size_t i)
{
	return (unsigned char)s.p[i];
}

/* How long a point of this curve is (RFC 8422 §5.1.1, §5.11: uncompressed); 0: we do not have it. */
static size_t point_bytes(unsigned curve)
{
	switch (curve) {
	case 23:
		return 65;
	case 24:
		return 97;
	case 25:
		return 133;
	case 29:
		return 32;
	case 30:
		return 56;
	default:
		return 0;
	}
}

/* K2 */
static bool is_key_exchange(struct str s)
{
	if (s.n < RANDOM_BYTES + 4 || byte_at(s, RANDOM_BYTES) != NAMED_CURVE)
		return false;
	size_t point = point_bytes(byte_at(s, RANDOM_BYTES + 1) << 8 | byte_at(s, RANDOM_BYTES + 2));
	return point > 0 && byte_at(s, RANDOM_BYTES + 3) == point && s.n == RANDOM_BYTES + 4 + point;
}

bool keys_permits(struct str digest, enum tls_padding padding, struct str bytes)
{
	static const char *const digests[] = { "", "SHA256", "SHA384", "SHA512", "SHA2-256", "SHA2-384", "SHA2-512" };
	bool known = false;
	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++)
		known = known || str_eq(digest, str_z(digests[i]));
	return known && (is_certificate_verify(bytes, padding) || is_key_exchange(bytes)); /* K3 */
}
