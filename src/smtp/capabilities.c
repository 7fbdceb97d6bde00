/* SPDX-License-Identifier: Apache-2.0 */
/* What servers announce: see capabilities.h. Runs in relay. */
#include "smtp/capabilities.h"

static const struct {
	const char *keyword;
	enum capability capability;
} keywords[] = {
	{ "SIZE", CAP_SIZE },
	{ "PIPELINING", CAP_PIPELINING },
	{ "8BITMIME", CAP_8BITMIME },
	{ "SMTPUTF8", CAP_SMTPUTF8 },
	{ "CHUNKING", CAP_CHUNKING },
	{ "BINARYMIME", CAP_BINARYMIME },
	{ "DSN", CAP_DSN },
	{ "ENHANCEDSTATUSCODES", CAP_ENHANCED },
	{ "STARTTLS", CAP_STARTTLS },
	{ "AUTH", CAP_AUTH },
	{ "LIMITS", CAP_LIMITS },
};

/* RFC 1870 §4: 0 or nothing is "no fixed maximum"; so is what is no number. */
static void size(struct capabilities *c, struct str argument)
{
	uint64_t n;
	c->size_max = str_to_u64(argument, UINT64_MAX, &n) == ERR_NONE ? n : 0;
}

/* RFC 9422 §3: NAME=value, blanks between; unknown names are ignored, and so is a limit of 0. */
static void limits(struct capabilities *c, struct str arguments)
{
	while (arguments.n > 0) {
		struct str value, item = str_split(arguments, ' ', &arguments);
		struct str name = str_split(item, '=', &value);
		uint64_t n;
		if (str_to_u64(value, 1000000, &n) != ERR_NONE)
			continue;
		if (str_eq_nocase(name, STR("MAILMAX")))
			c->mail_max = (uint32_t)n;
		else if (str_eq_nocase(name, STR("RCPTMAX")))
			c->rcpt_max = (uint32_t)n;
		else if (str_eq_nocase(name, STR("RCPTDOMAINMAX")))
			c->rcpt_domain_max = (uint32_t)n;
	}
}

/* RFC 4954 §3 */
static void mechanisms(struct capabilities *c, struct str arguments)
{
	static const struct {
		const char *name;
		enum capability_auth bit;
	} names[] = { { "PLAIN", CAP_AUTH_PLAIN }, { "LOGIN", CAP_AUTH_LOGIN }, { "SCRAM-SHA-1", CAP_AUTH_SCRAM_SHA_1 },
		      { "SCRAM-SHA-256", CAP_AUTH_SCRAM_SHA_256 } };
	c->auth = 0;
	while (arguments.n > 0) {
		struct str name = str_split(arguments, ' ', &arguments);
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
			if (str_eq_nocase(name, str_z(names[i].name)))
				c->auth |= names[i].bit;
	}
}

void capabilities_add(struct capabilities *c, struct str line)
{
	struct str arguments, keyword = str_split(str_trim(line), ' ', &arguments);
	arguments = str_trim(arguments);
	for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
		if (!str_eq_nocase(keyword, str_z(keywords[i].keyword)))
			continue;
		c->has |= keywords[i].capability;
		if (keywords[i].capability == CAP_SIZE)
			size(c, arguments);
		if (keywords[i].capability == CAP_AUTH)
			mechanisms(c, arguments);
		if (keywords[i].capability == CAP_LIMITS)
			limits(c, arguments);
		return;
	}
}
