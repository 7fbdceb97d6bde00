/* SPDX-License-Identifier: Apache-2.0 */
/* CHUNKING and BINARYMIME: RFC 3030. BDAT itself is smtpd/cmd_bdat.c. */
#include "smtp/ext.h"

static bool chunking_line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("CHUNKING"));
	return true;
}

static bool binarymime_line(const struct ext_offer *o UNUSED, struct buf *b)
{
	buf_add(b, STR("BINARYMIME"));
	return true;
}

static enum reply_id mail(const struct ext_offer *o UNUSED, const struct param *p,
			  struct mail_params *out)
{
	if (!str_eq_nocase(p->keyword, STR("BODY")) || !str_eq_nocase(p->value, STR("BINARYMIME")))
		return REPLY_UNKNOWN_PARAMETER;
	out->body = BODY_KIND_BINARY_MIME;
	return REPLY_NONE;
}

const struct ext ext_chunking = { .line = chunking_line };
const struct ext ext_binarymime = { .line = binarymime_line, .mail = mail };
