/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c() of hash.h: CRC-32C (Castagnoli; RFC 3720 §12.1), reflected polynomial 0x82f63b78. By the
 * CPU's instruction where it has one, else by tables, eight bytes a step.
 */
#include "base/hash.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1UL << 7)
#endif
#endif

/*
 * CRC is linear over xor, so that a table of 256 follows from its entries for single bits.
 * crc_table[k][b] is the CRC of byte b with k zero bytes behind it.
 */
#define P1(x, a)		   (x), (x) ^ (a)
#define P2(x, a, b)		   P1(x, a), P1((x) ^ (b), a)
#define P3(x, a, b, c)		   P2(x, a, b), P2((x) ^ (c), a, b)
#define P4(x, a, b, c, d)	   P3(x, a, b, c), P3((x) ^ (d), a, b, c)
#define P5(x, a, b, c, d, e)	   P4(x, a, b, c, d), P4((x) ^ (e), a, b, c, d)
#define P6(x, a, b, c, d, e, f)	   P5(x, a, b, c, d, e), P5((x) ^ (f), a, b, c, d, e)
#define P7(x, a, b, c, d, e, f, g) P6(x, a, b, c, d, e, f), P6((x) ^ (g), a, b, c, d, e, f)
#define ROW(a, b, c, d, e, f, g, h)                                      \
	{                                                                \
		P7(0, a, b, c, d, e, f, g), P7((h), a, b, c, d, e, f, g) \
	}

static const uint32_t crc_table[8][256] = {
	ROW(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, /* the order is that of the bits */
	    0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
	ROW(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, /**/
	    0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
	ROW(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, /**/
	    0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
	ROW(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, /**/
	    0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
	ROW(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, /**/
	    0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
	ROW(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, /**/
	    0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
	ROW(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, /**/
	    0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
	ROW(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, /**/
	    0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

static uint32_t crc_by_table(uint32_t crc, const unsigned char *p, size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		uint32_t lo = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				     (uint32_t)p[3] << 24);

		crc = crc_table[7][lo & 0xff] ^ crc_table[6][lo >> 8 & 0xff] ^
		      crc_table[5][lo >> 16 & 0xff] ^ crc_table[4][lo >> 24] ^ crc_table[3][p[4]] ^
		      crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
	}
	for (; n > 0; p++, n--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
	return crc;
}

#if defined(__x86_64__)

static bool cpu_has_crc(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_cpu(uint32_t crc, const unsigned char *p,
							     size_t n)
{
	uint64_t wide = crc;

	for (; n >= 8; p += 8, n -= 8) {
		uint64_t word;

		memcpy(&word, p, sizeof word);
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; n > 0; p++, n--)
		crc = _mm_crc32_u8(crc, *p);
	return crc;
}

#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

static bool cpu_has_crc(void)
{
#ifdef __ARM_FEATURE_CRC32
	return true;
#else
	return getauxval(AT_HWCAP) & HWCAP_CRC32;
#endif
}

/* Not by <arm_acle.h>: it declares them only where the whole file is compiled for CRC. */
#ifdef __clang__
#define CRC_TARGET "crc"
#define CRC_8	   __builtin_arm_crc32cb
#define CRC_64	   __builtin_arm_crc32cd
#else
#define CRC_TARGET "+crc"
#define CRC_8	   __builtin_aarch64_crc32cb
#define CRC_64	   __builtin_aarch64_crc32cx
#endif

__attribute__((target(CRC_TARGET))) static uint32_t crc_by_cpu(uint32_t crc, const unsigned char *p,
							       size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t word;

		memcpy(&word, p, sizeof word);
		crc = CRC_64(crc, word);
	}
	for (; n > 0; p++, n--)
		crc = CRC_8(crc, *p);
	return crc;
}

#else

static bool cpu_has_crc(void)
{
	return false;
}

static uint32_t crc_by_cpu(uint32_t crc, const unsigned char *p, size_t n)
{
	return crc_by_table(crc, p, n);
}

#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	if (cpu_has_crc())
		return ~crc_by_cpu(~crc, p, n);
	return ~crc_by_table(~crc, p, n);
}

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n)
{
	return ~crc_by_table(~crc, p, n);
}
