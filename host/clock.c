#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "host.h"

#define STEP_SECONDS 2 /* less is the clock's being kept right */
#define DATE_MAX 32

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

void clock_look(struct host *h)
{
	int64_t offset = offset_now(), by = offset - h->clock_offset;
	char date[DATE_MAX], text[DATE_MAX];
	time_t now = time(NULL);
	struct tm tm;

	h->clock_offset = offset;
	if (by > -STEP_SECONDS && by < STEP_SECONDS)
		return;
	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	host_log("warning", "the clock was set %s by %" PRId64 " seconds, to %s",
	         by < 0 ? "back" : "forward", by < 0 ? -by : by, date);
	snprintf(text, sizeof text, "%+" PRId64, by);
	audit_event(h, "clock", NULL, h->owner, TAO_OK, "seconds", text);
}
