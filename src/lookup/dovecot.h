/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts of a running Dovecot, by its authentication protocol over Unix sockets: auth-client checks passwords (AUTH
 * PLAIN), auth-userdb knows who exists. Lines of fields with HT between them; answers bear the question's number, so
 * many are under way on one connection. What the other end says is bounded and checked: it may be anybody who took
 * the socket's place, and at worst says who exists and which password is right, which is what it is asked for.
 *
 * States of a link, and what makes the transitions:
 *
 *   idle --a question--> connecting --VERSION, and DONE or SPID--> ready --its end, or a line that breaks a rule--> down
 *   ready --a minute, and no question under way--> ending --closed--> idle
 *   connecting --no socket, no greeting within 5 s--> down --a second later, a question--> connecting
 *
 *  K1  Each question ends: by its answer, by the end of its connection, or after 10 s.
 *  K2  At most 128 questions are under way on a link, and 256 on all, those that wait for a connection included; more
 *      are put off. So a silent Dovecot leaves room in the channels to smtpd (IPC_WINDOW) for other questions.
 *  K3  While a link is down questions fail at once: a dead Dovecot costs each client an answer 4xx and no time.
 *  K4  No connection lives much longer than a minute without need: an authentication process that Dovecot has replaced
 *      would live on for us, with the configuration of yesterday.
 */
#ifndef LOOKUP_DOVECOT_H
#define LOOKUP_DOVECOT_H

#include "base/hash.h"
#include "base/log.h"
#include "co/stream.h"
#include "lookup/backend.h"

#define DOVECOT_LINE_MAX 8192u
#define DOVECOT_QUESTIONS_MAX 128u
#define DOVECOT_ALL_MAX 256u
#define DOVECOT_LINKS_MAX 32u

/* ---- the protocol as functions of text ----------------------------------------------------------------- */

enum dovecot_kind { DOVECOT_PASSWORDS /* auth-client */, DOVECOT_USERS /* auth-userdb */ };
enum dovecot_says { DOVECOT_NOTHING, DOVECOT_VERSION, DOVECOT_READY, DOVECOT_YES, DOVECOT_NO, DOVECOT_FAILED };
struct dovecot_line {
	enum dovecot_says says;
	uint32_t id; /* of YES, NO and FAILED */
};
/* ERR_SYNTAX: the connection cannot go on. What is not known to us says nothing. */
enum err dovecot_read_line(enum dovecot_kind kind, struct str line, struct dovecot_line *out) MUST_CHECK;
/* Questions, with their LF. ERR_SYNTAX: a name that cannot be asked for: nobody has it. */
enum err dovecot_add_auth(struct buf *b, uint32_t id, struct str account, struct str password, const struct ip *client) MUST_CHECK;
enum err dovecot_add_user(struct buf *b, uint32_t id, struct str account) MUST_CHECK;

/* ---- connections ------------------------------------------------------------------------------------------- */

struct dovecot_env {
	struct world *w;
	struct loop *loop;
	struct scope *scope; /* of the links' coroutines */
	struct mem *mem;
	struct log *log;
	size_t under_way;
};
enum dovecot_state { DOVECOT_IDLE, DOVECOT_CONNECTING, DOVECOT_IS_READY, DOVECOT_ENDING, DOVECOT_DOWN };
struct dovecot_link {
	struct dovecot_env *env;
	enum dovecot_kind kind;
	struct str path;
	enum dovecot_state state;
	int64_t down_until_ns;
	struct stream stream;
	struct buf out; /* not yet handed to the stream */
	struct co_queue changed, writer;
	struct table64 questions; /* sent, by id */
	size_t under_way;	  /* those that wait to be sent, too */
	uint32_t last_id;
	bool failed_before; /* said already that it does not work */
};
void dovecot_link_init(struct dovecot_link *l, struct dovecot_env *env, enum dovecot_kind kind, struct str path);
/* After the end of env->scope. */
void dovecot_link_done(struct dovecot_link *l);

/*
 * One question; password NULL on a link to users. DOVECOT_YES or _NO, or an error: not known now.
 */
YIELDS enum err dovecot_ask(struct dovecot_link *l, struct str account, const struct str *password, const struct ip *client,
			    enum dovecot_says *says_out) MUST_CHECK;

/* ---- the back end -------------------------------------------------------------------------------------------- */

struct dovecot {
	struct backend backend;
	struct dovecot_link *passwords, *users; /* shared by the domains that name the same sockets */
};
void dovecot_init(struct dovecot *d, struct str domain, struct dovecot_link *passwords, struct dovecot_link *users);

#endif
