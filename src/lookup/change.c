/* SPDX-License-Identifier: Apache-2.0 */
/* What operators add and delete: checked, made canonical, done. See lookup.h. */
#include "lookup/lookup.h"
#include "lookup/resolve.h"
#include "smtp/address.h"

static void say(struct directory_change_out *out, struct str text)
{
	out->done = false;
	out->text = text;
}

static struct str lower(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n ? s.n : 1);
	for (size_t i = 0; p && i < s.n; i++)
		p[i] = ascii_lower(s.p[i]);
	return p ? str_of(p, s.n) : STR_NONE;
}

enum purpose { FOR_ACCOUNT, FOR_ALIAS, FOR_TARGET };

/* A canonical address, or what is wrong with it. A target elsewhere keeps its case; others are ours. */
static enum err check_address(const struct resolver *r, struct arena *arena, struct str text, enum purpose purpose,
			      struct str *address_out, struct directory_change_out *out)
{
	bool ours = false, whole_domain = purpose == FOR_ALIAS && text.n > 1 && text.p[0] == '@';
	struct str canonical = text;
	if (!whole_domain && smtp_address_canonical(text, arena, &canonical) != ERR_NONE) {
		say(out, arena_strf(arena, "'%.*s' is not an address: write local-part@domain", (int)(text.n < 200 ? text.n : 200), text.p));
		return arena_err(arena);
	}
	*address_out = lower(arena, canonical);
	TRY(arena_err(arena));
	struct str domain = str_sub(*address_out, str_rfind(*address_out, '@') + 1, address_out->n);
	TRY(resolve_domain_is_ours(r, domain, &ours));
	out->done = true;
	if (!ours && purpose == FOR_TARGET)
		*address_out = canonical;
	else if (!ours)
		say(out, arena_strf(arena, "%.*s is not a domain of this server: add it first with: godwit domain add %.*s",
				    STR_ARG(domain), STR_ARG(domain)));
	return arena_err(arena);
}

static enum err check_targets(const struct resolver *r, struct arena *arena, struct str list, struct str *targets_out,
			      struct directory_change_out *out)
{
	struct buf b = buf_fixed(arena_alloc(arena, 4000), 4000);
	while (list.n > 0) {
		struct str one = str_trim(str_split(list, ',', &list)), address;
		if (one.n == 0)
			continue;
		TRY(check_address(r, arena, one, FOR_TARGET, &address, out));
		if (!out->done)
			return ERR_NONE;
		if (b.n)
			buf_add_char(&b, ',');
		buf_add(&b, address);
	}
	*targets_out = buf_str(&b);
	out->done = b.n > 0 && buf_err(&b) == ERR_NONE;
	if (!out->done)
		out->text = b.n ? STR("too many targets: 4,000 bytes at most") : STR("an alias needs at least one target");
	return ERR_NONE;
}

/* Where the accounts of its domain are, if that is not here. */
static bool is_kept_elsewhere(const struct conf *c, struct str account, struct arena *arena, struct directory_change_out *out)
{
	const struct conf_domain *d = backend_domain(c, account);
	if (!d)
		return false;
	struct buf b = buf_fixed(arena_alloc(arena, 1200), 1200);
	buf_addf(&b, "the accounts of %.*s are kept elsewhere: ", STR_ARG(d->name));
	backend_name_add(&b, d);
	say(out, buf_str(&b));
	return true;
}

enum err lookup_change(struct directory *d, const struct conf *c, const struct directory_change_in *in, int64_t now_ms,
		       struct arena *arena, struct directory_change_out *out)
{
	struct resolver r = { .conf = c, .directory = d };
	struct str name = str_trim(in->name), targets = STR("");
	out->done = true;
	if (in->kind == DIRECTORY_KIND_DOMAIN) {
		name = lower(arena, name);
		if (!smtp_domain_is_valid(name)) {
			say(out, arena_strf(arena, "'%.*s' is not a domain name", (int)(name.n < 200 ? name.n : 200), name.p));
			return arena_err(arena);
		}
	} else if (in->remove) {
		name = lower(arena, name);
	} else {
		TRY(check_address(&r, arena, name, in->kind == DIRECTORY_KIND_ALIAS ? FOR_ALIAS : FOR_ACCOUNT, &name, out));
		if (out->done && in->kind == DIRECTORY_KIND_ACCOUNT && is_kept_elsewhere(c, name, arena, out))
			return arena_err(arena);
		if (out->done && in->kind == DIRECTORY_KIND_ALIAS)
			TRY(check_targets(&r, arena, in->targets, &targets, out));
	}
	TRY(arena_err(arena));
	if (!out->done)
		return ERR_NONE;
	TRY(directory_change(d, in->kind, in->remove, name, targets, now_ms, &out->done));
	out->text = arena_strf(arena, "%s %.*s%s", directory_kind_name(in->kind), STR_ARG(name),
			       out->done ? in->remove ? " removed" : " added" : in->remove ? " was not there" : " was there already");
	return arena_err(arena);
}
