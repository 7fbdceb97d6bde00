/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MTA-STS (RFC 8461) as pure functions: a domain's TXT record, its policy file, and which hosts a policy is
 * about. Nothing here fetches or keeps anything. Both texts are strangers'.
 */
#ifndef RELAY_STS_H
#define RELAY_STS_H

#include "base/str.h"

#define STS_ID_MAX 32u
#define STS_POLICY_BYTES_MAX 65536u /* §3.3 */
#define STS_MX_MAX 64u
#define STS_AGE_MAX 31557600u /* seconds; §3.2 */

/*
 * The id of the one record among a name's TXT strings that is one of MTA-STS (§3.1). ERR_NOT_FOUND: there is
 * none, or more than one. ERR_SYNTAX: it has no valid id. *id_out is a view into the record.
 */
enum err sts_record_read(const struct str *texts, size_t n, struct str *id_out) MUST_CHECK;

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };
struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age; /* seconds */
	struct str mx[STS_MX_MAX]; /* views: "mx.example.org", "*.example.org" */
	size_t mx_n;
};
/* §3.2. ERR_SYNTAX: it is none. ERR_LIMIT: it is longer, or has more mx, than a policy needs. */
enum err sts_policy_read(struct str text, struct sts_policy *out) MUST_CHECK;
/* §4.1: whether a host is one that the policy names. */
bool sts_policy_has(const struct sts_policy *p, struct str host);

#endif
