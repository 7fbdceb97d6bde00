/* SPDX-License-Identifier: Apache-2.0 */
/* MTA-STS: see sts.h. Pure; input is a stranger's. */
#include "relay/sts.h"

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

static struct str trim(struct str s)
{
	while (s.n > 0 && is_wsp(s.p[0]))
		s = str_sub(s, 1, s.n);
	while (s.n > 0 && is_wsp(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".") */
static bool is_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && (i == 0 || (s.p[i] != '_' && s.p[i] != '-' && s.p[i] != '.')))
			return false;
	return s.n > 0 && s.n <= 32;
}

/* ---- the record -------------------------------------------------------------------------------------- */

static bool is_id(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]))
			return false;
	return s.n > 0 && s.n <= STS_ID_MAX;
}

/* %x21-3A / %x3C / %x3E-7E */
static bool is_extension_value(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ';' || s.p[i] == '=')
			return false;
	return s.n > 0;
}

/* §3.1: "v=STSv1" and a delimiter begin it. */
static bool is_ours(struct str text)
{
	struct str first = str_sub(text, 0, str_find(text, ';'));
	return first.n < text.n && str_starts(first, STR("v=STSv1")) && trim(first).n == 7;
}

static enum err read_fields(struct str rest, struct str *id_out)
{
	bool found = false;
	while (rest.n > 0) {
		struct str value, field = trim(str_split(rest, ';', &rest));
		if (field.n == 0 && trim(rest).n == 0)
			break; /* a delimiter may end it */
		struct str name = str_split(field, '=', &value);
		bool is_the_id = str_eq(name, STR("id"));
		if (is_the_id ? !is_id(value) : !is_name(name) || !is_extension_value(value))
			return ERR_SYNTAX;
		if (is_the_id && !found) {
			*id_out = value;
			found = true;
		}
	}
	return found ? ERR_NONE : ERR_SYNTAX;
}

enum err sts_record_read(const struct str *texts, size_t n, struct str *id_out)
{
	size_t at = n;
	for (size_t i = 0; i < n; i++) {
		if (!is_ours(texts[i]))
			continue;
		if (at < n)
			return ERR_NOT_FOUND; /* "assume the recipient domain does not have an available MTA-STS Policy" */
		at = i;
	}
	if (at == n)
		return ERR_NOT_FOUND;
	return read_fields(str_sub(texts[at], str_find(texts[at], ';') + 1, texts[at].n), id_out);
}

/* ---- the policy ---------------------------------------------------------------------------------------- */

/* RFC 5321 Domain: labels of letters, digits and hyphens; A-labels for international names. */
static bool is_domain(struct str s)
{
	size_t label = 0;
	for (size_t i = 0; i <= s.n; i++) {
		if (i == s.n || s.p[i] == '.') {
			if (label == 0 || label > 63 || s.p[i - 1] == '-')
				return false;
			label = 0;
		} else if (!ascii_is_alnum(s.p[i]) && (s.p[i] != '-' || label == 0)) {
			return false;
		} else {
			label++;
		}
	}
	return s.n <= 253;
}

struct seen {
	bool version, mode, max_age;
};

static enum err read_mode(struct str value, enum sts_mode *out)
{
	*out = str_eq(value, STR("enforce")) ? STS_ENFORCE : str_eq(value, STR("testing")) ? STS_TESTING : STS_NONE;
	return *out != STS_NONE || str_eq(value, STR("none")) ? ERR_NONE : ERR_SYNTAX;
}

/* 1*10DIGIT; what is more than the greatest value means that one. */
static enum err read_age(struct str value, uint32_t *out)
{
	uint64_t v;
	if (value.n > 10 || str_to_u64(value, UINT64_MAX, &v) != ERR_NONE)
		return ERR_SYNTAX;
	*out = v < STS_AGE_MAX ? (uint32_t)v : STS_AGE_MAX;
	return ERR_NONE;
}

static enum err read_mx(struct str value, struct sts_policy *out)
{
	if (!is_domain(str_starts(value, STR("*.")) ? str_sub(value, 2, value.n) : value))
		return ERR_SYNTAX;
	if (out->mx_n == STS_MX_MAX)
		return ERR_LIMIT;
	out->mx[out->mx_n++] = value;
	return ERR_NONE;
}

/* §3.2: "If any non-repeated field … is duplicated, all entries except for the first SHALL be ignored." */
static enum err read_field(struct str name, struct str value, struct seen *seen, struct sts_policy *out)
{
	bool *once = str_eq(name, STR("version")) ? &seen->version : str_eq(name, STR("mode")) ? &seen->mode :
		     str_eq(name, STR("max_age")) ? &seen->max_age : NULL;
	if (str_eq(name, STR("mx")))
		return read_mx(value, out);
	if (!once) /* an extension */
		return is_name(name) && value.n > 0 && str_is_utf8(value) && !str_has_control(value) ? ERR_NONE : ERR_SYNTAX;
	if (*once)
		return ERR_NONE;
	*once = true;
	if (once == &seen->version)
		return str_eq(value, STR("STSv1")) ? ERR_NONE : ERR_SYNTAX;
	return once == &seen->mode ? read_mode(value, &out->mode) : read_age(value, &out->max_age);
}

enum err sts_policy_read(struct str text, struct sts_policy *out)
{
	struct seen seen = { 0 };
	*out = (struct sts_policy){ 0 };
	if (text.n > STS_POLICY_BYTES_MAX)
		return ERR_LIMIT;
	while (text.n > 0) {
		struct str value, line = str_split(text, '\n', &text);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		size_t colon = str_find(line, ':');
		if (colon == line.n)
			return ERR_SYNTAX;
		value = trim(str_sub(line, colon + 1, line.n));
		TRY(read_field(str_sub(line, 0, colon), value, &seen, out));
	}
	bool whole = seen.version && seen.mode && seen.max_age && (out->mx_n > 0 || out->mode == STS_NONE);
	return whole ? ERR_NONE : ERR_SYNTAX;
}

/* §4.1: "*" stands for one label, the left-most. */
bool sts_policy_has(const struct sts_policy *p, struct str host)
{
	struct str above = str_sub(host, str_find(host, '.') + 1, host.n);
	bool has_above = str_find(host, '.') > 0 && str_find(host, '.') + 1 < host.n;
	for (size_t i = 0; i < p->mx_n; i++) {
		bool wild = str_starts(p->mx[i], STR("*."));
		if (wild ? has_above && str_eq_nocase(above, str_sub(p->mx[i], 2, p->mx[i].n)) : str_eq_nocase(host, p->mx[i]))
			return true;
	}
	return false;
}
