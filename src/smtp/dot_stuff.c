/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot-stuffing: see dot_stuff.h. Between two line ends bytes are only looked at by memchr().
 *
 *	LINE_START --any--> INSIDE --CR--> CR --LF--> LINE_START
 */
#include "smtp/dot_stuff.h"

enum state { LINE_START, INSIDE, CR };

/* From inside a line to behind its CR, or to the end of the input. Returns how far. */
static size_t inside(struct dot_stuff *d, struct str in)
{
	size_t cr = str_find(in, '\r');
	if (memchr(in.p, '\n', cr))
		d->bare = true; /* T2 */
	if (cr == in.n)
		return cr;
	d->state = CR;
	return cr + 1;
}

struct str dot_stuff_next(struct dot_stuff *d, struct str in, bool *dot_out)
{
	size_t i = 0;
	*dot_out = d->state == LINE_START && in.n > 0 && in.p[0] == '.';
	while (i < in.n) {
		if (d->state == CR) {
			bool end = in.p[i] == '\n';
			d->bare = d->bare || !end;
			d->state = end ? LINE_START : INSIDE;
			i += end ? 1 : 0;
			continue;
		}
		if (d->state == LINE_START && in.p[i] == '.' && i > 0)
			break; /* T1: the next piece begins here */
		d->state = INSIDE;
		i += inside(d, str_sub(in, i, in.n));
	}
	return str_sub(in, 0, i);
}

struct str dot_stuff_end(struct dot_stuff *d)
{
	bool at_start = d->state == LINE_START;
	d->bare = d->bare || d->state == CR;
	d->state = LINE_START;
	return at_start ? STR(".\r\n") : STR("\r\n.\r\n");
}
