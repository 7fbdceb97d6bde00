/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a submission server mends in a message (RFC 6409 §8): a missing Date or Message-ID is added, Bcc goes.
 * Pure; the header section is a stranger's, and nothing else in it is touched.
 */
#ifndef MESSAGE_FIXUP_H
#define MESSAGE_FIXUP_H

#include "base/str.h"

struct fixup {
	bool has_date, has_message_id, has_from;
};
/* Looks at a header section (without the empty line). */
struct fixup fixup_look(struct str head);
/* Takes Bcc and Resent-Bcc out of a header section of n bytes, in place; returns what is left of n. */
size_t fixup_drop_bcc(char *head, size_t n);

#endif
