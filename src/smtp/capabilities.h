/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server announces in its answer to EHLO or LHLO: RFC 5321 §4.1.1.1. Pure; the bytes are a
 * stranger's. What is malformed counts as not announced.
 */
#ifndef SMTP_CAPABILITIES_H
#define SMTP_CAPABILITIES_H

#include "base/str.h"

enum capability {
	CAP_SIZE = 1,		  /* RFC 1870 */
	CAP_PIPELINING = 2,	  /* RFC 2920 */
	CAP_8BITMIME = 4,	  /* RFC 6152 */
	CAP_SMTPUTF8 = 8,	  /* RFC 6531 */
	CAP_CHUNKING = 16,	  /* RFC 3030 */
	CAP_BINARYMIME = 32,	  /* RFC 3030 */
	CAP_DSN = 64,		  /* RFC 3461 */
	CAP_ENHANCED = 128,	  /* RFC 2034 */
	CAP_STARTTLS = 256,	  /* RFC 3207 */
	CAP_AUTH = 512,		  /* RFC 4954 */
	CAP_LIMITS = 1024,	  /* RFC 9422 */
};
/* Mechanisms that we can use. */
enum capability_auth { CAP_AUTH_PLAIN = 1, CAP_AUTH_LOGIN = 2, CAP_AUTH_SCRAM_SHA_1 = 4, CAP_AUTH_SCRAM_SHA_256 = 8 };
struct capabilities {
	unsigned has;	   /* enum capability, a bit each */
	unsigned auth;	   /* enum capability_auth, likewise */
	uint64_t size_max; /* 0: not told */
	/* RFC 9422 §4; 0: not told */
	uint32_t mail_max, rcpt_max, rcpt_domain_max;
};

/* A line behind the first: keyword and parameters. Later lines of one keyword count. */
void capabilities_add(struct capabilities *c, struct str line);

#endif
