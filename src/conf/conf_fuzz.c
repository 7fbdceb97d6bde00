/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the configuration's parser: no input may crash it, and an error count matches its result. */
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new((size_t)64 << 20);
	struct arena arena = arena_make(mem, (size_t)32 << 20);
	struct conf *conf = ARENA_NEW(&arena, struct conf);
	struct conf_errors *errs = ARENA_NEW(&arena, struct conf_errors);
	enum err e = conf_parse(str_of((const char *)data, size), STR("fuzz"), &arena, conf, errs);
	ASSERT(e != ERR_NONE || errs->n == 0);
	ASSERT(e != ERR_SYNTAX || errs->n > 0);
	arena_close(&arena);
	mem_destroy(mem);
	return 0;
}
