/* SPDX-License-Identifier: Apache-2.0 */
/* Connections by client: see clients.h. Runs in smtpd; the others' counts may be anything. */
#include "smtpd/clients.h"

/* The memory: the total, alone in its cache line; then the rows. */
#define ROWS	 4u
#define ROWS_AT	 16u
#define TOTAL_AT 0u

static size_t bytes_for(size_t cells)
{
	return (ROWS_AT + ROWS * cells) * sizeof(uint32_t);
}

void clients_init(struct clients *c, struct sip_key key, void *own, size_t bytes)
{
	ASSERT(bytes >= CLIENTS_MEMORY_MIN);
	*c = (struct clients){ .key = key, .cells = 1, .own = own };
	while (bytes_for(c->cells * 2) <= bytes)
		c->cells *= 2;
}

enum err clients_add_other(struct clients *c, const void *memory)
{
	if (c->others_n == CLIENTS_OTHERS_MAX)
		return ERR_LIMIT;
	c->others[c->others_n++] = memory;
	return ERR_NONE;
}

static void places_of(const struct clients *c, const struct ip *ip, size_t places_out[ROWS])
{
	unsigned char network[9] = { (unsigned char)ip->family };
	size_t n = ip->family == IP_V4 ? 4 : 8;
	memcpy(network + 1, ip->b, n);
	uint64_t h = siphash(c->key, str_of((const char *)network, 1 + n));
	uint32_t at = (uint32_t)h, step = (uint32_t)(h >> 32) | 1;
	for (unsigned r = 0; r < ROWS; r++)
		places_out[r] = ROWS_AT + r * c->cells + ((at + r * step) & (c->cells - 1));
}

static uint64_t sum_at(const struct clients *c, size_t place)
{
	uint64_t sum = atomic_load(&c->own[place]);
	for (size_t i = 0; i < c->others_n; i++)
		sum += atomic_load(&c->others[i][place]);
	return sum;
}

static bool is_above(const struct clients *c, const size_t places[ROWS], uint32_t max)
{
	for (unsigned r = 0; r < ROWS; r++)
		if (sum_at(c, places[r]) <= max)
			return false;
	return true;
}

void clients_leave(struct clients *c, const struct ip *ip_or_null)
{
	size_t places[ROWS];
	atomic_fetch_sub(&c->own[TOTAL_AT], 1);
	if (!ip_or_null)
		return;
	places_of(c, ip_or_null, places);
	for (unsigned r = 0; r < ROWS; r++)
		atomic_fetch_sub(&c->own[places[r]], 1);
}

enum clients_answer clients_enter(struct clients *c, const struct ip *ip_or_null, uint32_t max, uint32_t max_here)
{
	size_t places[ROWS];
	atomic_fetch_add(&c->own[TOTAL_AT], 1);
	bool too_many = sum_at(c, TOTAL_AT) > max, here = false;
	if (ip_or_null) {
		places_of(c, ip_or_null, places);
		for (unsigned r = 0; r < ROWS; r++)
			atomic_fetch_add(&c->own[places[r]], 1);
		here = is_above(c, places, max_here);
	}
	if (!too_many && !here)
		return CLIENTS_WELCOME;
	clients_leave(c, ip_or_null);
	return too_many ? CLIENTS_TOO_MANY : CLIENTS_TOO_MANY_HERE;
}
