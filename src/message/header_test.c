/* SPDX-License-Identifier: Apache-2.0 */
/* The header section as it arrives (RFC 5322 §2.2, RFC 5321 §6.3; H40, H41, H43, H46), and Received (§4.4). */
#include "message/header.h"

#include "base/test.h"
#include "message/received.h"

#define S(lit) { "" lit, sizeof(lit) - 1 }

struct row {
	struct str in;
	unsigned fields, received;
	bool ended, bare;
	struct str message_id;
};

static const struct row rows[] = {
	{ S(""), 0, 0, false, false, S("") },
	{ S("\r\n"), 0, 0, true, false, S("") },
	{ S("A: b\r\nMessage-ID:  <x@y> \r\n\r\nReceived: no\r\n"), 2, 0, true, false, S("<x@y>") },
	{ S("message-id:\r\n <x@y>\r\n\r\n"), 1, 0, true, false, S("<x@y>") },
	{ S("Message-ID: <1>\r\nMessage-ID: <2>\r\n\r\n"), 2, 0, true, false, S("<1>") },
	{ S("Received: a\r\n\tb\r\nRECEIVED : c\r\nreceived:d\r\nReceivedx: e\r\n\r\n"), 4, 3, true, false, S("") },
	/* H41: no fields, no separator, no colon */
	{ S("From someone Mon\r\nReceived: x\r\n"), 0, 0, true, false, S("") },
	{ S(" starts with a blank\r\nReceived: x\r\n"), 0, 0, true, false, S("") },
	{ S("A: b\r\nno field here\r\nReceived: x\r\n"), 1, 0, true, false, S("") },
	{ S("A: b\r\n: x\r\nReceived: x\r\n"), 1, 0, true, false, S("") },
	{ S("A b: c\r\nReceived: x\r\n"), 0, 0, true, false, S("") },
	{ S("\xc3\xa4: c\r\nReceived: x\r\n"), 0, 0, true, false, S("") },
	/* H43 */
	{ S("A: b\rReceived: x\r\n\r\n"), 1, 0, true, true, S("") },
	{ S("A: b\nC: d\r\n\r\n"), 2, 0, true, true, S("") },
	{ S("A: b\r\r\n\r\n"), 1, 0, true, true, S("") },
	{ S("A: \0\r\n\r\n\0"), 1, 0, true, true, S("") },
	{ S("A: b\r\n\r\n\n\r\0"), 1, 0, true, false, S("") },
};

static void check(const struct row *row, size_t step)
{
	struct header_scan h = { 0 };
	for (size_t i = 0; i < row->in.n; i += step)
		header_scan_feed(&h, str_sub(row->in, i, i + step));
	if (h.fields != row->fields || h.bare != row->bare)
		print_message("row %td step %zu\n", row - rows, step);
	assert_int_equal(h.fields, row->fields);
	assert_int_equal(h.received, row->received);
	assert_int_equal(h.ended, row->ended);
	assert_int_equal(h.bare, row->bare);
	assert_str(header_message_id(&h), row->message_id);
	assert_false(h.too_big);
}

static void sections(void **state)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		for (size_t step = 1; step <= rows[i].in.n + 1; step++)
			check(&rows[i], step);
}

static void feed_times(struct header_scan *h, size_t n, struct str s)
{
	for (size_t i = 0; i < n; i++)
		header_scan_feed(h, s);
}

/* H40 */
static void sizes(void **state)
{
	struct header_scan h = { 0 };
	feed_times(&h, HEADER_FIELDS_MAX, STR("A: b\r\n"));
	assert_false(h.too_big);
	feed_times(&h, 1, STR("A: b\r\n"));
	assert_true(h.too_big);
	h = (struct header_scan){ 0 };
	feed_times(&h, 1, STR("A:\r\n"));
	feed_times(&h, 100000, STR(" b\r\n"));
	assert_true(h.too_big);
	h = (struct header_scan){ 0 };
	feed_times(&h, 60000, STR("one name without an end "));
	assert_true(h.too_big);
	h = (struct header_scan){ 0 };
	feed_times(&h, 1, STR("A: "));
	feed_times(&h, 10000, STR("a long value of 32 octets or so "));
	assert_false(h.too_big);
	feed_times(&h, 50000, STR("a long value of 32 octets or so "));
	assert_true(h.too_big);
}

static void message_ids(void **state)
{
	struct header_scan h = { 0 };
	header_scan_feed(&h, STR("Message-ID: "));
	feed_times(&h, 50, STR("<long>"));
	header_scan_feed(&h, STR("\r\n\r\n"));
	assert_int_equal(header_message_id(&h).n, 300);
	h = (struct header_scan){ 0 };
	header_scan_feed(&h, STR("Message-ID: "));
	feed_times(&h, 51, STR("<long>"));
	header_scan_feed(&h, STR("\r\n\r\n"));
	assert_int_equal(header_message_id(&h).n, 0);
}

/* H46 */
static void delivered_to(void **state)
{
	struct header_scan h = { 0 };
	header_scan_feed(&h, STR("Delivered-To: Ann@example.org\r\nX: y\r\ndelivered-to:\r\n bob@example.org\r\n\r\n"
				 "Delivered-To: carol@example.org\r\n"));
	assert_true(header_was_delivered_to(&h, STR("ann@example.org")));
	assert_true(header_was_delivered_to(&h, STR("bob@example.org")));
	assert_false(header_was_delivered_to(&h, STR("carol@example.org")));
	assert_false(header_was_delivered_to(&h, STR("nn@example.org")));
	assert_false(header_was_delivered_to(&h, STR("")));
	h = (struct header_scan){ 0 };
	feed_times(&h, 1000, STR("Delivered-To: x@example.org\r\n"));
	assert_false(header_was_delivered_to(&h, STR("ann@example.org")));
}

/* RFC 5321 §4.4 */
static void received(void **state)
{
	char room[1000];
	struct buf b = buf_fixed(room, sizeof room);
	struct received r = {
		.helo = STR("client.example.net"),
		.client = { .family = IP_V4, .bits = 32, .b = { 192, 0, 2, 7 } },
		.hostname = STR("mx.example.org"),
		.protocol = received_protocol(true, false, false, false),
		.only_recipient = STR("ann@example.org"),
		.wall_ms = INT64_C(1795459863000),
	};
	received_add(&b, &r);
	assert_str(buf_str(&b), STR("Received: from client.example.net ([192.0.2.7])\r\n"
				    "\tby mx.example.org with ESMTP id 0000000000000\r\n"
				    "\tfor <ann@example.org>;\r\n"
				    "\tMon, 23 Nov 2026 18:51:03 +0000\r\n"));
	assert_str(received_protocol(false, false, true, false), STR("SMTP"));
	assert_str(received_protocol(true, false, true, false), STR("ESMTPS"));
	assert_str(received_protocol(true, false, true, true), STR("ESMTPSA"));
	assert_str(received_protocol(true, false, false, true), STR("ESMTPA"));
	assert_str(received_protocol(true, true, true, false), STR("UTF8SMTPS"));
	assert_str(received_protocol(true, true, false, false), STR("UTF8SMTP"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections),	cmocka_unit_test(sizes),    cmocka_unit_test(message_ids),
		cmocka_unit_test(delivered_to), cmocka_unit_test(received),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
