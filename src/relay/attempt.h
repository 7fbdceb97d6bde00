/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One attempt to send one message: hosts and addresses in order until every recipient is decided, or the
 * attempt has used up what it may. RFC 5321 §5.1: the next host after one that could not be reached or did
 * not want to talk; what a host says about a recipient or the message is final for this attempt.
 */
#ifndef RELAY_ATTEMPT_H
#define RELAY_ATTEMPT_H

#include "relay/pool.h"

#define ATTEMPT_ADDRESSES_MAX 5u /* connections that failed, or hosts that ended one early */

struct attempt {
	struct pool *pool;
	const struct mx_dns *dns;
	const struct conf_route *route;
	struct delivery *d;
	struct str mx_set; /* result */
	/* private: what the last host must satisfy */
	struct str secure_host;
	uint16_t secure_port;
	enum err secure_err;
	struct secure secure;
};

/* Every recipient that is not decided afterwards is to wait for d->trouble's reason. */
YIELDS void attempt_run(struct attempt *a);

#endif
