#include "share.h"

#include <stdlib.h>

/* There is one as long as it has something. */
struct share_user {
	struct share_user *next;
	uid_t uid;
	size_t used;
};

static struct share_user **find(struct share *s, uid_t uid)
{
	struct share_user **u = &s->users[uid % SHARE_BUCKETS];

	while (*u != NULL && (*u)->uid != uid)
		u = &(*u)->next;
	return u;
}

int share_take(struct share *s, uid_t uid)
{
	struct share_user **u = find(s, uid);

	if (s->used >= s->max || (*u != NULL && (*u)->used >= s->max - s->used))
		return 0;
	if (*u == NULL) {
		*u = calloc(1, sizeof **u);
		if (*u == NULL)
			return 0;
		(*u)->uid = uid;
	}
	(*u)->used++;
	s->used++;
	return 1;
}

void share_give(struct share *s, uid_t uid, size_t n)
{
	struct share_user **at = find(s, uid), *u = *at;

	if (u == NULL || n == 0)
		return;
	n = n < u->used ? n : u->used;
	u->used -= n;
	s->used -= n;
	if (u->used == 0) {
		*at = u->next;
		free(u);
	}
}
