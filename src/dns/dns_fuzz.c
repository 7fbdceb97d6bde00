/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of DNS answers: the first byte chooses the type, the rest is the packet. Whatever it holds,
 * no bound is passed, no odd byte leaves in a name (N2), and "no such name" only comes by its code (N1).
 */
#include <stddef.h>
#include <stdint.h>

#include "dns/dns.h"
#include "dns/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(struct str name)
{
	ASSERT(name.n <= DNS_NAME_MAX);
	ASSERT(name.n == 0 || dns_name_is_valid(name));
}

static void check(const struct dns_lookup_out *out, struct str packet)
{
	size_t bytes = 0, records = out->addresses_n + out->mx_n + out->texts_n + out->names_n + out->tlsa_n;
	ASSERT(out->status != DNS_STATUS_NO_NAME || (packet.p[3] & 15) == 3);
	ASSERT((out->status == DNS_STATUS_FOUND) == (records > 0));
	ASSERT((out->status == DNS_STATUS_FAILED) == (out->why.n > 0));
	ASSERT(out->ttl <= DNS_TTL_MAX && out->mx_n <= 64 && out->addresses_n <= 64 && out->names_n <= 16);
	check_name(out->canonical);
	for (size_t i = 0; i < out->mx_n; i++)
		check_name(out->mx[i].host);
	for (size_t i = 0; i < out->names_n; i++)
		check_name(out->names[i].name);
	for (size_t i = 0; i < out->texts_n; i++)
		bytes += out->texts[i].text.n;
	for (size_t i = 0; i < out->tlsa_n; i++)
		bytes += out->tlsa[i].data.n;
	ASSERT(bytes <= 49152 && out->texts_n <= 100 && out->tlsa_n <= 100);
}

/* The packet's own question, so that most inputs come past it. */
static struct str question(struct str packet, struct buf *b)
{
	struct wire w = { .packet = packet, .at = 12 };
	struct wire_name name;
	wire_read_name(&w, &name);
	if (w.bad || wire_name_text(&name, "/", b) != ERR_NONE || b->n == 0)
		return STR("example.net");
	return buf_str(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mem *mem = mem_new((size_t)16 << 20);
	struct arena arena = arena_make(mem, (size_t)8 << 20);
	struct dns_lookup_out out;
	struct dns_head head;
	char text[DNS_NAME_MAX + 1];
	struct buf b = buf_fixed(text, sizeof text);
	if (size > 0) {
		enum dns_type type = data[0] % 7;
		struct str packet = str_of((const char *)data + 1, size - 1), name = question(packet, &b);
		ASSERT(dns_read(packet, name, type, &arena, &out) == ERR_NONE);
		check(&out, packet);
		if (dns_check(packet, 0, name, type, &head) == ERR_NONE)
			ASSERT(packet.n >= 12 && packet.p[0] == 0 && packet.p[1] == 0);
	}
	arena_close(&arena);
	mem_destroy(mem);
	return 0;
}
