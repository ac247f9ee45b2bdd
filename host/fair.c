#include "fair.h"

static struct fair_item **find(struct fair *f, uint64_t flow)
{
	struct fair_item **p = &f->buckets[flow % FAIR_BUCKETS];

	while (*p != NULL && (*p)->flow != flow)
		p = &(*p)->chain;
	return p;
}

static void take_place(struct fair *f, struct fair_item *item)
{
	item->turn = NULL;
	if (f->last != NULL)
		f->last->turn = item;
	else
		f->first = item;
	f->last = item;
}

void fair_put(struct fair *f, struct fair_item *item, uint64_t flow)
{
	struct fair_item **at = find(f, flow), *head = *at;

	item->flow = flow;
	item->next = NULL;
	f->n++;
	if (head != NULL) {
		head->last->next = item;
		head->last = item;
		return;
	}
	item->last = item;
	item->chain = NULL;
	*at = item;
	take_place(f, item);
}

struct fair_item *fair_take(struct fair *f, int (*may)(const struct fair_item *, void *), void *arg)
{
	struct fair_item **p = &f->first, *before = NULL, *item, **at, *next;

	while (*p != NULL && may != NULL && !may(*p, arg)) {
		before = *p;
		p = &before->turn;
	}
	item = *p;
	if (item == NULL)
		return NULL;
	*p = item->turn;
	if (f->last == item)
		f->last = before;
	at = find(f, item->flow);
	next = item->next;
	if (next != NULL) { /* it stands for the flow now, which goes to the end */
		next->last = item->last;
		next->chain = item->chain;
		*at = next;
		take_place(f, next);
	} else {
		*at = item->chain;
	}
	f->n--;
	return item;
}
