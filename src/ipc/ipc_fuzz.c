/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the decoders of calls.def with what a compromised process might send: no crash, no read beyond
 * the frame, and what decodes encodes to something that decodes to the same bytes again.
 */
#include <stddef.h>
#include <stdint.h>

#include "ipc/calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUND_TRIP(name)                                                                           \
	static void try_##name(struct mem *mem, struct str bytes)                                  \
	{                                                                                          \
		struct arena arena = arena_make(mem, (size_t)4 << 20);                             \
		struct name first = { 0 }, second = { 0 };                                         \
		int fds[WORLD_PACKET_FDS] = { 1000000, 1000001, 1000002 };                         \
		struct ipc_reader r = { .c = cursor_of(bytes), .arena = &arena, .fds = fds, .fd_count = 3 }; \
		if (name##_get(&r, &first) == ERR_NONE) {                                          \
			struct ipc_writer a = { .b = buf_grow(mem, (size_t)4 << 20) };             \
			struct ipc_writer b = { .b = buf_grow(mem, (size_t)4 << 20) };             \
			name##_put(&a, &first);                                                    \
			struct ipc_reader again = { .c = cursor_of(buf_str(&a.b)), .arena = &arena, .fds = fds, .fd_count = 3 }; \
			if (buf_err(&a.b) == ERR_NONE && arena_err(&arena) == ERR_NONE) {          \
				enum err e = name##_get(&again, &second);                          \
				if (arena_err(&arena) == ERR_NONE) {                               \
					ASSERT(e == ERR_NONE);                                     \
					name##_put(&b, &second);                                   \
					ASSERT(str_eq(buf_str(&a.b), buf_str(&b.b)));              \
				}                                                                  \
			}                                                                          \
			buf_free(&a.b);                                                            \
			buf_free(&b.b);                                                            \
		}                                                                                  \
		arena_close(&arena);                                                               \
	}
CALLS_EACH_SHAPE(ROUND_TRIP)

#define ENTRY(name) try_##name,
static void (*const shapes[])(struct mem *mem, struct str bytes) = { CALLS_EACH_SHAPE(ENTRY) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct mem *mem = mem_new((size_t)64 << 20);
	ASSERT(mem);
	shapes[data[0] % (sizeof shapes / sizeof shapes[0])](mem, str_of((const char *)data + 1, size - 1));
	mem_destroy(mem);
	return 0;
}
