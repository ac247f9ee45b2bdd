#include "spent.h"

#include <stdlib.h>

#define FIRST_BITS 6 /* a span's table begins with 64 places */

struct spent_span {
	struct spent_span *next;
	int64_t at;       /* time / SPENT_SPAN */
	unsigned bits;    /* of the number of places */
	size_t n;
	uint64_t *values; /* 0: free */
};

static struct spent_span *find(struct spent *s, int64_t at)
{
	struct spent_span *p = s->first;

	while (p != NULL && p->at != at)
		p = p->next;
	return p;
}

static struct spent_span *add_span(struct spent *s, int64_t at)
{
	struct spent_span *p = calloc(1, sizeof *p);

	if (p != NULL)
		p->values = calloc((size_t)1 << FIRST_BITS, sizeof *p->values);
	if (p == NULL || p->values == NULL) {
		free(p);
		return NULL;
	}
	p->at = at;
	p->bits = FIRST_BITS;
	p->next = s->first;
	s->first = p;
	return p;
}

/* Where value is, or would be. */
static uint64_t *place(const struct spent_span *p, uint64_t mix, uint64_t value)
{
	size_t mask = ((size_t)1 << p->bits) - 1, i = (size_t)(value * mix >> (64 - p->bits));

	while (p->values[i] != 0 && p->values[i] != value)
		i = (i + 1) & mask;
	return &p->values[i];
}

/* At most half of the places are taken. */
static enum tao_err make_room(struct spent_span *p, uint64_t mix)
{
	struct spent_span wide = *p;

	if (2 * (p->n + 1) <= (size_t)1 << p->bits)
		return TAO_OK;
	wide.bits++;
	wide.values = calloc((size_t)1 << wide.bits, sizeof *wide.values);
	if (wide.values == NULL)
		return tao_fail_nomem();
	for (size_t i = 0; i < (size_t)1 << p->bits; i++)
		if (p->values[i] != 0)
			*place(&wide, mix, p->values[i]) = p->values[i];
	free(p->values);
	*p = wide;
	return TAO_OK;
}

enum tao_err spent_add(struct spent *s, struct spent_room *room, size_t max, int64_t time,
                       uint64_t value)
{
	struct spent_span *p = find(s, time / SPENT_SPAN);
	uint64_t *at;
	enum tao_err e;

	if (value == 0)
		value = 1;
	if (p != NULL && *place(p, room->mix, value) == value)
		return TAO_EEXIST;
	if (p == NULL)
		p = add_span(s, time / SPENT_SPAN);
	if (p == NULL)
		return tao_fail_nomem();
	e = make_room(p, room->mix);
	if (e != TAO_OK)
		return e;
	if (s->n >= max || !share_take(&room->share, s->uid))
		return tao_fail(TAO_ELIMIT, "too many channels were begun in the last minutes: "
		                "raise max_channel_nonces in taod.conf");
	at = place(p, room->mix, value);
	*at = value;
	p->n++;
	s->n++;
	return TAO_OK;
}

static void free_span(struct spent *s, struct spent_room *room, struct spent_span **at)
{
	struct spent_span *p = *at;

	*at = p->next;
	s->n -= p->n;
	share_give(&room->share, s->uid, p->n);
	free(p->values);
	free(p);
}

void spent_sweep(struct spent *s, struct spent_room *room, int64_t oldest, int64_t *floor)
{
	struct spent_span **at = &s->first;

	while (*at != NULL) {
		int64_t end = ((*at)->at + 1) * SPENT_SPAN;

		if (end > oldest) {
			at = &(*at)->next;
			continue;
		}
		if (end > *floor)
			*floor = end;
		free_span(s, room, at);
	}
}

void spent_clear(struct spent *s, struct spent_room *room)
{
	while (s->first != NULL)
		free_span(s, room, &s->first);
}
