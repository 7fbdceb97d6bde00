/* SPDX-License-Identifier: Apache-2.0 */
/* A doubly linked list of intrusive nodes. A zeroed node is in no list; a list must be list_init()ed. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}
static inline bool list_linked(const struct list *node)
{
	return node->next != NULL;
}
static inline void list_insert_before_(struct list *pos, struct list *node)
{
	node->prev = pos->prev;
	node->next = pos;
	pos->prev->next = node;
	pos->prev = node;
}
static inline void list_push_back(struct list *l, struct list *node)
{
	list_insert_before_(l, node);
}
static inline void list_push_front(struct list *l, struct list *node)
{
	list_insert_before_(l->next, node);
}
/* No-op when it is in no list. */
static inline void list_remove(struct list *node)
{
	if (!node->next)
		return;
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = node->prev = NULL;
}
static inline struct list *list_pop_front(struct list *l)
{
	struct list *n = l->next;
	if (n == l)
		return NULL;
	list_remove(n);
	return n;
}
/* The body may remove `it`. */
#define LIST_EACH(l, it)                                                                           \
	for (struct list *it = (l)->next, *it##_next_ = it->next; it != (l);                       \
	     it = it##_next_, it##_next_ = it->next)

#endif
