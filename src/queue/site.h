/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destinations and sites: how much may be under way to one place, and what waits for it.
 *
 * A destination is a route and (by MX) a recipient domain; recipients know theirs by a number. A site is
 * what destinations with the same set of MX hosts share: a window of deliveries under way, a rate, and the
 * back-off after failures. It never looks at the disk and never waits. Runs in queue.
 *
 *	           refused or full                    the window opens
 *	 due  ----------------------->  waiting  -------------------------> under way
 *	      site_may_start()  false   in the site   site_next()
 *
 * One site that is dead or slow costs others nothing: its messages leave the order of due times and lie
 * in its own lists, one for each of SITE_SENDERS groups of senders, taken in turn, so that a sender of
 * many messages does not keep another's from a slow place.
 *
 * Many places that hold a connection for as long as they can must not take all deliveries either (H98): those
 * to all sites together leave room for mailboxes here; those to sites whose last answer was none, or that have
 * given none yet (strangers), leave room for the others; and a stranger's second delivery leaves room for
 * another's first. A site that one of these bounds stops is in the crowd.
 */
#ifndef QUEUE_SITE_H
#define QUEUE_SITE_H

#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "ipc/calls.h"

#define SITE_SENDERS 8u
#define SITES_FLIGHT_MAX 768u	 /* deliveries under way to all sites */
#define SITES_STRANGERS_MAX 384u /* of these, to strangers: all may be with one relay, whose channel has a window */
#define SITES_CROWD_MAX 192u	 /* with so many of those, each stranger has but one */
#define SITES_STRANGERS_BYTES ((size_t)24 << 20) /* of messages in memory that they hold */
#define SITES_CROWD_BYTES ((size_t)8 << 20)	 /* with so many, likewise */
#define SITE_WINDOW_FIRST 5u /* under way to a place that nothing is known of */
#define DEST_UNKNOWN 0u	     /* the envelope was not read yet */
#define DEST_LOCAL 1u	     /* our own mailboxes: no window */

/* Which bound on all sites counts for one. */
enum site_kind { SITE_STRANGER, SITE_IDLE_STRANGER, SITE_KNOWN, SITE_KINDS };

struct sites;

struct site {
	struct sites *all;
	struct list waiting[SITE_SENDERS]; /* message.site_link */
	struct list ready;	/* sites.ready: something waits and may start; or sites.crowd */
	struct heap_node wake;	/* sites.wakes: when it may start again */
	uint32_t refs;		/* destinations, and deliveries under way */
	uint32_t window, flying, limit, rate;
	uint32_t coming;	/* deliveries that are begun for it and still read their message */
	uint16_t failures;	/* in a row */
	uint8_t turn;		/* whose list is next */
	bool known;		/* its last answer was one */
	uint32_t flushed;	/* in this flush it was opened */
	int64_t open_at_ms;	/* in back-off until then */
	int64_t back_off_ms;
	int64_t next_start_ms;	/* by the rate */
	struct str name;	/* in the key of sites.by_name */
	struct str why;		/* it failed last; empty: it did not */
};

struct destination {
	struct site *site;
	const struct conf_route *route;
	struct str domain; /* empty unless by MX */
	struct str key;
	uint32_t rcpts;	   /* in the queue, that know this number */
	uint32_t flying;   /* deliveries under way that hold it */
	uint32_t next_free;
};

struct sites {
	struct mem *mem;
	struct table by_key;  /* destinations */
	struct table by_name; /* sites */
	struct destination *dests;
	uint32_t dests_n, dests_cap, free;
	struct heap wakes;
	struct list ready;
	struct list crowd[SITE_KINDS]; /* sites where something waits, and one of the bounds on all stops it */
	uint32_t flying[2];   /* under way or coming; [known] */
	size_t stranger_bytes; /* in memory, of messages under way to strangers: the owner counts them */
	size_t sites_n;
	uint32_t flushes;
	int64_t back_off_first_ms, back_off_max_ms; /* of a place that is down; the owner may shorten them */
};

enum err sites_open(struct sites *s, struct mem *mem, struct sip_key key) MUST_CHECK;
/* Nothing is under way; messages are out of the lists. */
void sites_close(struct sites *s);

/* The number of a destination, made if new; *dest_out holds one of its recipients more. ERR_NO_MEMORY. */
enum err dest_find(struct sites *s, const struct conf_route *route, struct str address, uint32_t *dest_out) MUST_CHECK;
/* A recipient does not need it any longer. DEST_UNKNOWN and DEST_LOCAL: no-op. */
void dest_drop(struct sites *s, uint32_t dest);
struct destination *dest_get(struct sites *s, uint32_t dest);

/* Whether a delivery may start now. */
bool site_may_start(const struct site *site, int64_t now_ms);
/* True if it is closed for a while, and not only full. */
bool site_in_back_off(const struct site *site, int64_t now_ms);
/* Room for a delivery that will soon begin there, or not; held until dest_unreserve(). */
struct site *dest_reserve(struct sites *s, uint32_t dest);
void dest_unreserve(struct sites *s, uint32_t dest, struct site *site, int64_t now_ms);
/* A delivery to this destination begins; it is held until dest_end(). */
struct site *dest_start(struct sites *s, uint32_t dest, int64_t now_ms);
/*
 * It has ended: the window moves, and the site backs off if the place did not work. mx_set: empty, or the set
 * that was tried: from now on this destination shares a site with the others of that set.
 */
struct site_news {
	enum relay_reach reach;
	struct str mx_set;
	struct str why; /* of a failure */
	int64_t now_ms;
	uint64_t jitter; /* random */
};
void dest_end(struct sites *s, uint32_t dest, struct site *site, const struct site_news *news);

/* Puts a message (its link; sender: any number) behind the others that wait. It leaves by list_remove(). */
void site_wait(struct sites *s, struct site *site, struct list *link, uint8_t sender, int64_t now_ms);
/* Takes the next that may start, or NULL; fair between sites and, within one, senders. */
struct list *sites_next(struct sites *s, int64_t now_ms);
/* When a site that is closed may start again: INT64_MAX when none waits for that. */
int64_t sites_wake_ms(const struct sites *s);
/*
 * The operator's flush: closed sites may start at once; all of them, or those of the destinations that follow,
 * each but once: one that is closed again meanwhile stays so. DEST_UNKNOWN and DEST_LOCAL: no-op.
 */
void sites_open_all(struct sites *s, int64_t now_ms);
void sites_begin_flush(struct sites *s);
void dest_flush(struct sites *s, uint32_t dest, int64_t now_ms);

#endif
