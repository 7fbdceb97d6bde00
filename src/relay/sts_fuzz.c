/* SPDX-License-Identifier: Apache-2.0 */
/* MTA-STS records and policies: what is taken is as the grammar says, and within bounds. */
#include <stddef.h>
#include <stdint.h>

#include "relay/sts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str s = str_of((const char *)data, size), id;
	struct sts_policy p;
	if (sts_record_read(&s, 1, &id) == ERR_NONE)
		ASSERT(id.n > 0 && id.n <= STS_ID_MAX && str_starts(s, STR("v=STSv1")) && !str_has_control(id));
	if (sts_policy_read(s, &p) == ERR_NONE) {
		ASSERT(p.mx_n <= STS_MX_MAX && (p.mx_n > 0 || p.mode == STS_NONE) && p.max_age <= STS_AGE_MAX);
		for (size_t i = 0; i < p.mx_n; i++) {
			bool wild = str_starts(p.mx[i], STR("*."));
			ASSERT(p.mx[i].n > 0 && !str_has_control(p.mx[i]) && (wild || sts_policy_has(&p, p.mx[i])));
			ASSERT(!sts_policy_has(&p, STR("")));
		}
	}
	return 0;
}
