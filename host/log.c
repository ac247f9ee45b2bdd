#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

#define MAX_LINE 2048
#define BURST 20          /* lines of one kind about one user ... */
#define WINDOW_SECONDS 60 /* ... in this time */
#define SLOTS 64          /* kinds and users looked after at a time */
#define PROBES 4

/* A kind is its format string. */
struct slot {
	const char *fmt;
	uid_t uid;
	int64_t since; /* loop_now() */
	uint64_t n;
};

struct log {
	pthread_mutex_t lock;
	struct slot slots[SLOTS];
};

struct log *log_new(void)
{
	struct log *l = calloc(1, sizeof *l);

	if (l != NULL)
		pthread_mutex_init(&l->lock, NULL);
	return l;
}

/* C0, DEL, and C1, in UTF-8 or alone: a terminal acts upon all of them. */
static int is_control(const unsigned char *s, size_t i)
{
	int of_longer = i > 0 && s[i - 1] >= 0x80 && s[i - 1] != 0xc2;

	return s[i] < 0x20 || s[i] == 0x7f || (s[i] >= 0x80 && s[i] < 0xa0 && !of_longer);
}

static void write_line(const char *level, const char *fmt, va_list ap)
{
	char line[MAX_LINE];
	struct timespec t;
	struct tm tm;
	size_t n;
	int more;

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%SZ ", &tm);
	n += (size_t)snprintf(line + n, sizeof line - n, "%s: ", level);
	more = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	n = more < 0 ? n : n + (size_t)more < sizeof line - 1 ? n + (size_t)more : sizeof line - 2;
	/* One record is one line, whatever a program put into its name. */
	for (size_t i = 0; i < n; i++)
		if (is_control((const unsigned char *)line, i))
			line[i] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nowhere to tell it */
}

void host_log(const char *level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}

/* ---- about one user ---- */

static int is_over(const struct slot *s, int64_t now)
{
	return s->fmt != NULL && now - s->since >= WINDOW_SECONDS;
}

/* Ends the slot's time, and tells what was left out. */
static void close_slot(struct slot *s)
{
	if (s->n > BURST && s->uid == LOG_NOBODY)
		host_log("warning", "suppressed %llu lines like: %s",
		         (unsigned long long)s->n - BURST, s->fmt);
	else if (s->n > BURST)
		host_log("warning", "suppressed %llu lines about user %u, like: %s",
		         (unsigned long long)s->n - BURST, (unsigned)s->uid, s->fmt);
	s->fmt = NULL;
	s->n = 0;
}

/* The slot of that kind and user, else a free one, else one that is shared. */
static struct slot *find_slot(struct log *l, uid_t uid, const char *fmt, int64_t now)
{
	size_t at = ((uintptr_t)fmt * 31 + uid) % SLOTS;
	struct slot *empty = NULL;

	for (size_t i = 0; i < PROBES; i++) {
		struct slot *s = &l->slots[(at + i) % SLOTS];

		if (is_over(s, now))
			close_slot(s);
		if (s->fmt == fmt && s->uid == uid)
			return s;
		if (s->fmt == NULL && empty == NULL)
			empty = s;
	}
	if (empty == NULL)
		return &l->slots[at];
	*empty = (struct slot){ fmt, uid, now, 0 };
	return empty;
}

void host_log_of(struct host *h, uid_t uid, const char *level, const char *fmt, ...)
{
	struct log *l = h->log;
	int may = 1;
	va_list ap;

	if (l != NULL) {
		pthread_mutex_lock(&l->lock);
		may = find_slot(l, uid, fmt, loop_now())->n++ < BURST;
		pthread_mutex_unlock(&l->lock);
	}
	if (!may)
		return;
	va_start(ap, fmt);
	write_line(level, fmt, ap);
	va_end(ap);
}

void log_tell(struct log *l, int all)
{
	int64_t now = loop_now();

	if (l == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < SLOTS; i++)
		if (all || is_over(&l->slots[i], now))
			close_slot(&l->slots[i]);
	pthread_mutex_unlock(&l->lock);
}

void log_free(struct log *l)
{
	if (l == NULL)
		return;
	log_tell(l, 1);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
