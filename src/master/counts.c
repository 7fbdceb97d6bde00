/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for counts of connections: see counts.h. */
#include "master/counts.h"

#include <stdatomic.h>

#define BYTES_MIN ((size_t)16384)
#define BYTES_MAX ((size_t)4 << 20)
#define BYTES_EACH 64u /* four rows of four counters for each connection: few collisions */
#define HEAD_BYTES 4096u

static enum err make_one(struct counts *c)
{
	size_t i = c->n;
	TRY(world_shared_new(c->w, c->bytes, &c->v[i].write_fd, &c->v[i].read_fd));
	enum err e = world_shared_map(c->w, c->v[i].write_fd, c->bytes, WORLD_SHARED_WRITE, &c->v[i].memory);
	if (e != ERR_NONE) {
		world_close(c->w, c->v[i].write_fd);
		world_close(c->w, c->v[i].read_fd);
		return e;
	}
	c->n++;
	return ERR_NONE;
}

enum err counts_init(struct counts *c, struct world *w, unsigned n, uint32_t connections)
{
	*c = (struct counts){ .w = w, .bytes = BYTES_MIN };
	world_random(w, &c->key0, sizeof c->key0);
	world_random(w, &c->key1, sizeof c->key1);
	while (c->bytes < BYTES_MAX && c->bytes < (size_t)connections * BYTES_EACH)
		c->bytes *= 2;
	c->bytes += HEAD_BYTES;
	enum err e = n > COUNTS_MAX ? ERR_LIMIT : ERR_NONE;
	while (e == ERR_NONE && c->n < n)
		e = make_one(c);
	if (e != ERR_NONE)
		counts_done(c);
	return e;
}

enum err counts_send(const struct counts *c, struct ipc *ch, unsigned index)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct proc_counts_in in = { .index = (uint16_t)i, .bytes = c->bytes, .key0 = c->key0, .key1 = c->key1,
					     .memory = i == index ? c->v[i].write_fd : c->v[i].read_fd };
		TRY(note_proc_counts(ch, &in));
	}
	return ERR_NONE;
}

void counts_clear(struct counts *c, unsigned index)
{
	_Atomic uint32_t *at = index < c->n ? c->v[index].memory : NULL;
	for (size_t i = 0; at && i < c->bytes / sizeof *at; i++)
		atomic_store_explicit(&at[i], 0, memory_order_relaxed);
}

void counts_done(struct counts *c)
{
	for (size_t i = 0; i < c->n; i++) {
		world_shared_unmap(c->w, c->v[i].memory, c->bytes);
		world_close(c->w, c->v[i].write_fd);
		world_close(c->w, c->v[i].read_fd);
	}
	c->n = 0;
}
