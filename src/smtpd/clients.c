/* SPDX-License-Identifier: Apache-2.0 */
/* Connections by client: see clients.h. */
#include "smtpd/clients.h"

struct client {
	uint32_t connections;
};

/* An IPv4 address stands where ::/64 would, from which nobody connects. */
static uint64_t key_of(const struct ip *ip)
{
	uint64_t key = 0;
	for (size_t i = 0; i < (ip->family == IP_V4 ? 4u : 8u); i++)
		key = key << 8 | ip->b[i];
	return key;
}

void clients_init(struct clients *c, struct mem *mem, struct sip_key key, size_t max)
{
	*c = (struct clients){ .mem = mem, .by_key = table64_make(mem, key, max) };
}

void clients_done(struct clients *c)
{
	size_t it = 0;
	void *client;
	while ((client = table64_next(&c->by_key, &it, NULL)) != NULL)
		mem_free(c->mem, client);
	table64_free(&c->by_key);
}

enum err clients_enter(struct clients *c, const struct ip *ip, uint32_t max)
{
	struct client *client = table64_get(&c->by_key, key_of(ip));
	if (!client) {
		client = mem_alloc(c->mem, sizeof *client);
		enum err e = client ? table64_put(&c->by_key, key_of(ip), client) : ERR_NO_MEMORY;
		if (e != ERR_NONE) {
			mem_free(c->mem, client);
			return e;
		}
	}
	if (client->connections >= max)
		return ERR_LIMIT;
	client->connections++;
	return ERR_NONE;
}

void clients_leave(struct clients *c, const struct ip *ip)
{
	struct client *client = table64_get(&c->by_key, key_of(ip));
	if (client && --client->connections == 0)
		mem_free(c->mem, table64_del(&c->by_key, key_of(ip)));
}
