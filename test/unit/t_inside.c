/* Measurements for what starts inside programs: how many a user may ask for. */
#include "../../host/inside.h"
#include "tap.h"

#define SECOND 1000000000ll

int main(void)
{
	struct inside *s = inside_new();
	int64_t now = 5 * SECOND;
	int n;

	for (n = 0; n < 10 * INSIDE_BURST && inside_take(s, 7, now) == TAO_OK; n++)
		;
	ok(n == INSIDE_BURST, "a burst of %d", n);
	ok_err(inside_take(s, 7, now), TAO_EBUSY, "and no more");
	ok_err(inside_take(s, 8, now), TAO_OK, "another user has his own");
	ok_err(inside_take(s, 7, now + SECOND / INSIDE_RATE), TAO_OK,
	       "a moment later there is one");
	ok_err(inside_take(s, 7, now + SECOND / INSIDE_RATE), TAO_EBUSY, "and one only");
	now += 1000 * SECOND;
	for (n = 0; n < 10 * INSIDE_BURST && inside_take(s, 7, now) == TAO_OK; n++)
		;
	ok(n == INSIDE_BURST, "long after, a burst again and not more: %d", n);
	inside_free(s);
	inside_free(NULL);
	return done();
}
