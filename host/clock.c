#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "root.h"

#define STEP_SECONDS 2 /* less is the clock's being kept right */
#define DATE_MAX 32
#define NEVER (INT64_MAX / 1000000000) /* seconds: what the kernel counts in nanoseconds */

/* Also while the machine sleeps, both go on. */
static int64_t offset_now(void)
{
	struct timespec wall, boot;

	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	return wall.tv_sec - boot.tv_sec;
}

void clock_start(struct host *h)
{
	h->clock_offset = offset_now();
}

static int was_set(struct host *h)
{
	int64_t offset = offset_now(), by = offset - atomic_exchange(&h->clock_offset, offset);
	char date[DATE_MAX], text[DATE_MAX];
	time_t now = time(NULL);
	struct tm tm;

	if (by > -STEP_SECONDS && by < STEP_SECONDS)
		return 0;
	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	host_log("warning", "the clock was set %s by %" PRId64 " seconds, to %s",
	         by < 0 ? "back" : "forward", by < 0 ? -by : by, date);
	snprintf(text, sizeof text, "%+" PRId64, by);
	audit_event(h, "clock", NULL, h->owner, TAO_OK, "seconds", text);
	return 1;
}

static void act(struct host *h)
{
	timers_now(h);
	if (h->conf.root->clock_set != NULL)
		h->conf.root->clock_set(h);
}

void clock_look(struct host *h)
{
	if (was_set(h))
		act(h);
}

static void set_ready(struct host *h, struct source *s, uint32_t events)
{
	uint64_t ticks;

	(void)events;
	if (read(s->fd, &ticks, sizeof ticks) < 0 && errno == ECANCELED) {
		was_set(h);
		act(h);
	}
	loop_arm(h, s, EPOLLIN);
}

static void set_destroy(struct host *h, struct source *s)
{
	(void)h;
	close(s->fd);
	free(s);
}

/* A timer that never expires, and is cancelled when the clock is set. */
enum tao_err clock_watch(struct host *h)
{
	struct itimerspec never = { .it_value.tv_sec = NEVER };
	struct source *s = calloc(1, sizeof *s);

	if (s == NULL)
		return tao_fail_nomem();
	s->ready = set_ready;
	s->destroy = set_destroy;
	s->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->fd >= 0 &&
	    timerfd_settime(s->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) == 0)
		return loop_add(h, s, EPOLLIN);
	host_log("notice", "the kernel does not tell when the clock is set (%s): it is looked at "
	         "from time to time", strerror(errno));
	if (s->fd >= 0)
		close(s->fd);
	free(s);
	return TAO_OK;
}
