/* SPDX-License-Identifier: Apache-2.0 */
/* The Received field: see received.h. */
#include "message/received.h"

#include "base/clockfmt.h"

void received_add(struct buf *b, const struct received *r)
{
	/* RFC 5321 §4.4: FROM "SHOULD contain both (1) the name … and (2) an address literal" */
	buf_add(b, STR("Received: "));
	if (r->helo.n) {
		buf_add(b, STR("from "));
		buf_add(b, r->helo);
		buf_add(b, STR(" ("));
		ip_add_literal(b, &r->client);
		buf_add(b, STR(")\r\n\t"));
	}
	buf_add(b, STR("by "));
	buf_add(b, r->hostname);
	buf_add(b, STR(" with "));
	buf_add(b, r->protocol);
	if (r->tls_version.n)
		buf_addf(b, "\r\n\t(%.*s cipher %.*s)", STR_ARG(r->tls_version), STR_ARG(r->tls_cipher));
	buf_add(b, STR(" id "));
	msg_id_add(b, r->id);
	if (r->only_recipient.n) {
		/* RFC 5321 §7.2: with several, FOR would tell one about the others */
		buf_add(b, STR("\r\n\tfor <"));
		buf_add(b, r->only_recipient);
		buf_add_char(b, '>');
	}
	buf_add(b, STR(";\r\n\t"));
	date_add_rfc5322(b, r->wall_ms);
	buf_add(b, STR("\r\n"));
}

struct str received_protocol(bool esmtp, bool smtputf8, bool tls, bool auth)
{
	static const struct str plain[] = { STR("ESMTP"), STR("ESMTPA"), STR("ESMTPS"), STR("ESMTPSA") };
	static const struct str utf8[] = { STR("UTF8SMTP"), STR("UTF8SMTPA"), STR("UTF8SMTPS"), STR("UTF8SMTPSA") };
	size_t which = (tls ? 2u : 0u) + (auth ? 1u : 0u);
	if (smtputf8)
		return utf8[which]; /* RFC 6531 §4.3 */
	return esmtp ? plain[which] : STR("SMTP"); /* RFC 3848; there is none for HELO under TLS */
}
