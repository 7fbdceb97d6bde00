/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: see route.h. Addresses are strangers', and only compared. */
#include "queue/route.h"

#include "base/buf.h"

struct str address_domain(struct str address)
{
	size_t at = str_rfind(address, '@');
	return at == address.n ? address : str_sub(address, at + 1, address.n);
}

/* pattern: example.org, *.example.org (what is below it), or <> */
static bool fits(struct str pattern, struct str domain)
{
	if (!str_starts(pattern, STR("*.")))
		return str_eq_nocase(pattern, domain);
	struct str tail = str_sub(pattern, 1, pattern.n);
	return domain.n > tail.n && str_eq_nocase(str_sub(domain, domain.n - tail.n, domain.n), tail);
}

static bool fits_one(const struct conf_word *patterns, size_t n, struct str domain)
{
	for (size_t i = 0; i < n; i++)
		if (fits(patterns[i].text, domain))
			return true;
	return n == 0;
}

const struct conf_route *route_for(const struct conf *c, struct str reverse_path, struct str address)
{
	struct str to = address_domain(address), from = reverse_path.n ? address_domain(reverse_path) : STR("<>");
	for (size_t i = 0; i + 1 < c->routes_n; i++)
		if (fits_one(c->routes[i].to, c->routes[i].to_n, to) && fits_one(c->routes[i].from, c->routes[i].from_n, from))
			return &c->routes[i];
	static const struct conf_route by_mx = { .name = { "default", 7 }, .connections = 20 };
	return c->routes_n ? &c->routes[c->routes_n - 1] : &by_mx;
}

const struct conf_route *route_named(const struct conf *c, struct str name)
{
	for (size_t i = 0; i < c->routes_n; i++)
		if (str_eq(c->routes[i].name, name))
			return &c->routes[i];
	return NULL;
}

void route_describe(struct buf *b, const struct conf_route *r)
{
	static const char *const kinds[] = { [ROUTE_KIND_MX] = "mx", [ROUTE_KIND_SMTP] = "smtp", [ROUTE_KIND_LMTP] = "lmtp" };
	buf_add(b, str_z(kinds[r->kind]));
	for (size_t i = 0; i < r->hops_n; i++) {
		buf_addf(b, "%s%.*s", i ? ", " : " ", STR_ARG(r->hops[i].host));
		if (r->hops[i].port)
			buf_addf(b, ":%u", r->hops[i].port);
	}
}
