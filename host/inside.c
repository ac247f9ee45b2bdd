#include "inside.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define SECOND 1000000000ll

/* What is missing in a bucket, as time until it is full: 0 is full, which all are at first. */
struct inside {
	pthread_mutex_t lock;
	int64_t full_at[INSIDE_USERS];
};

struct inside *inside_new(void)
{
	struct inside *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	for (size_t i = 0; i < INSIDE_USERS; i++)
		s->full_at[i] = INT64_MIN;
	return s;
}

void inside_free(struct inside *s)
{
	if (s != NULL)
		pthread_mutex_destroy(&s->lock);
	free(s);
}

enum tao_err inside_take(struct inside *s, uid_t uid, int64_t now)
{
	int64_t *full_at = &s->full_at[uid % INSIDE_USERS];
	int empty;

	pthread_mutex_lock(&s->lock);
	if (*full_at < now)
		*full_at = now;
	empty = *full_at - now > (INSIDE_BURST - 1) * SECOND / INSIDE_RATE;
	if (!empty)
		*full_at += SECOND / INSIDE_RATE;
	pthread_mutex_unlock(&s->lock);
	return empty ? tao_fail(TAO_EBUSY, "user %u starts more programs inside others than the "
	                        "host measures (%d a second): try again", (unsigned)uid,
	                        INSIDE_RATE)
	             : TAO_OK;
}

int inside_may(struct host *h, const struct instance *around)
{
	return around != NULL || h->conf.admit;
}

static enum tao_err look_at(struct host *h, const struct process_view *v, int hint,
                            struct measurement *m, char **path)
{
	char *modules[] = { h->conf.module, h->conf.tls_module, NULL };
	struct running_request rq = {
		.pid = v->pid, .start = v->start, .hint = hint,
		.openssl_conf = h->conf.openssl_conf, .modules = modules,
	};
	enum tao_err e = measurer_running(h->measurer, &rq, m, path);

	if (e == TAO_OK && !file_id_equal(&m->id, &v->exe))
		e = tao_fail(TAO_EBUSY, "process %d became another program while it was measured: "
		             "try again", (int)v->pid);
	return e;
}

/* Whose user, executable and name that is. Takes name. */
static enum tao_err add(struct host *h, struct conn *c, const struct process_view *v,
                        struct registration *g, struct tao_node *name, struct instance **out)
{
	int pidfd;
	enum tao_err e;

	if (name == NULL)
		return tao_fail_nomem();
	g->uid = v->uid;
	g->pid = v->pid;
	g->start = v->start;
	g->exec = v->exec;
	e = registry_add(h->registry, g, name, out);
	if (e == TAO_EEXIST) /* another connection of this process was here first */
		return TAO_OK;
	if (e != TAO_OK)
		return e;
	pidfd = dup(c->pidfd);
	if (pidfd < 0)
		e = tao_fail_sys("watching process %d", (int)v->pid);
	else
		e = watch_add(h, *out, pidfd);
	if (e == TAO_OK && recall_add(h, *out) != TAO_OK)
		host_log("warning", "instance %llu (%s) will not be recalled when taod starts "
		         "again: %s", (unsigned long long)(*out)->id, g->program, tao_why());
	if (e == TAO_OK)
		return TAO_OK;
	atomic_store(&(*out)->ended, 1);
	registry_settle(h->registry, *out);
	instance_unref(*out);
	*out = NULL;
	return e;
}

static enum tao_err name_measured(struct host *h, struct conn *c, const struct process_view *v,
                                  struct instance *around, struct instance **out)
{
	struct measurement m;
	char *path;
	enum tao_err e = look_at(h, v, 0, &m, &path);

	if (e == TAO_OK) {
		struct registration g = { .m = &m, .kind = INSTANCE_FOUND, .program = path,
			                  .label = around->label, .unit = around->unit };

		e = add(h, c, v, &g,
		        name_program(h->name, &m, v->uid, 0, domain_id(h->domain)), out);
	}
	if (e == TAO_OK)
		host_log("info", "process %d of user %u, inside instance %llu, runs %s as instance "
		         "%llu",
		         (int)v->pid, (unsigned)v->uid, (unsigned long long)around->id, path,
		         (unsigned long long)(*out)->id);
	measurement_clear(&m);
	free(path);
	return e;
}

static enum tao_err name_hinted(struct host *h, struct conn *c, const struct process_view *v,
                                struct instance **out)
{
	struct measurement m;
	char *path, unit[UNIT_MAX + 1];
	enum tao_err e = look_at(h, v, 1, &m, &path);

	if (e == TAO_OK) {
		struct registration g = { .m = &m, .kind = INSTANCE_PROCESS, .program = path };

		measurer_unit(h->measurer, v->pid, unit);
		e = add(h, c, v, &g,
		        name_process(h->name, m.exe, v->uid, unit_name(unit), domain_id(h->domain)),
		        out);
	}
	if (e == TAO_OK)
		host_log("info", "process %d of user %u (%s) is admitted as instance %llu",
		         (int)v->pid, (unsigned)v->uid, path, (unsigned long long)(*out)->id);
	measurement_clear(&m);
	free(path);
	return e;
}

enum tao_err inside_name(struct host *h, struct conn *c, const struct process_view *v,
                         struct instance *around, struct instance **out)
{
	enum tao_err e = inside_take(h->inside, v->uid, loop_now() * SECOND);

	if (e != TAO_OK)
		return e;
	if (around != NULL) {
		e = name_measured(h, c, v, around, out);
		if (e == TAO_OK || e == TAO_EBUSY || e == TAO_ELIMIT || e == TAO_ENOMEM)
			return e;
		if (!h->conf.admit)
			return tao_fail(TAO_ENOTRUN, "this process runs another executable than "
			                "%s, which 'tao run' started, and it cannot be named for "
			                "itself: %s", around->program, tao_why());
	}
	return name_hinted(h, c, v, out);
}
