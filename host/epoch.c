#include "epoch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tao/file.h"

#define FORMAT_LINE "tao epochs 1\n"
#define FORMAT_WORDS "tao epochs "
#define FILE_MAX 256
#define FILE_MODE 0600

struct epochs {
	pthread_mutex_t lock;
	char *path;
	struct tao_sealer *sealer;
};

static void print(uint32_t current, uint32_t oldest, struct tao_buf *out)
{
	tao_buf_fmt(out, FORMAT_LINE "current %lu\noldest %lu\n", (unsigned long)current,
	            (unsigned long)oldest);
}

/* What is printed again is the same, or it is refused. */
static enum tao_err parse(const char *path, struct tao_buf *text, uint32_t *current,
                          uint32_t *oldest)
{
	struct tao_buf again = TAO_BUF_INIT;
	const char *s = tao_buf_cstr(text);
	unsigned long c = 0, o = 0;
	int same;

	if (strncmp(s, FORMAT_WORDS, strlen(FORMAT_WORDS)) == 0 &&
	    strncmp(s, FORMAT_LINE, strlen(FORMAT_LINE)) != 0)
		return tao_fail(TAO_EVERSION, "%s is a newer version's: upgrade taod", path);
	same = sscanf(s, FORMAT_LINE "current %7lu\noldest %7lu\n", &c, &o) == 2 && o >= 1 &&
	       o <= c &&
	       c <= EPOCH_MAX;
	*current = (uint32_t)c;
	*oldest = (uint32_t)o;
	print(*current, *oldest, &again);
	same = same && again.err == TAO_OK && again.n == text->n &&
	       memcmp(again.p, text->p, text->n) == 0;
	tao_buf_free(&again);
	return same ? TAO_OK
	            : tao_fail(TAO_EFORMAT, "%s is damaged: write again which epochs the host has, "
	                       "as tao-formats(7) shows (no lower numbers than before)", path);
}

static enum tao_err load(struct epochs *es)
{
	struct tao_buf text = TAO_BUF_INIT;
	uint32_t current = 1, oldest = 1;
	enum tao_err e = tao_file_read(es->path, FILE_MAX, &text);

	if (e == TAO_OK)
		e = parse(es->path, &text, &current, &oldest);
	else if (e == TAO_ENOTFOUND)
		e = TAO_OK;
	if (e == TAO_OK)
		e = tao_sealer_set_epochs(es->sealer, current, oldest);
	tao_buf_free(&text);
	return e;
}

enum tao_err epochs_open(const char *path, struct tao_sealer *sealer, struct epochs **out)
{
	struct epochs *es = calloc(1, sizeof *es);
	enum tao_err e = es != NULL ? TAO_OK : tao_fail_nomem();

	*out = NULL;
	if (e != TAO_OK)
		return e;
	pthread_mutex_init(&es->lock, NULL);
	es->sealer = sealer;
	es->path = strdup(path);
	e = es->path != NULL ? load(es) : tao_fail_nomem();
	if (e == TAO_OK)
		*out = es;
	else
		epochs_free(es);
	return e;
}

void epochs_free(struct epochs *es)
{
	if (es == NULL)
		return;
	pthread_mutex_destroy(&es->lock);
	free(es->path);
	free(es);
}

static enum tao_err change(struct epochs *es, uint32_t current, uint32_t oldest)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e;

	print(current, oldest, &text);
	e = tao_buf_err(&text);
	if (e == TAO_OK)
		e = tao_file_write(es->path, text.p, text.n, FILE_MODE, 0);
	if (e == TAO_OK)
		e = tao_sealer_set_epochs(es->sealer, current, oldest);
	tao_buf_free(&text);
	return e;
}

enum tao_err epochs_change(struct epochs *es, int begin, uint32_t retire)
{
	uint32_t current, oldest;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&es->lock);
	current = es->sealer->epoch + (begin ? 1 : 0);
	oldest = es->sealer->oldest;
	if (current > EPOCH_MAX)
		e = tao_fail(TAO_ELIMIT, "a host has at most %d epochs", EPOCH_MAX);
	else if (retire >= current)
		e = tao_fail(TAO_EINVAL, "epoch %lu is not over: begin a new one first ('tao host "
		             "epoch --new')", (unsigned long)retire);
	if (retire >= oldest)
		oldest = retire + 1;
	if (e == TAO_OK && (current != es->sealer->epoch || oldest != es->sealer->oldest))
		e = change(es, current, oldest);
	pthread_mutex_unlock(&es->lock);
	return e;
}
