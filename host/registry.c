#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host.h"

#define MAX_ANCESTORS 64 /* generations looked at for descent */

struct registry {
	pthread_mutex_t lock;
	struct instance *first;
	uint32_t count, max;
	uint64_t last_id;
};

struct registry *registry_new(uint32_t max)
{
	struct registry *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	r->max = max;
	return r;
}

struct instance *instance_ref(struct instance *i)
{
	atomic_fetch_add(&i->refs, 1);
	return i;
}

static void instance_free(struct instance *i)
{
	struct name_version *v = atomic_load(&i->name);

	while (v != NULL) {
		struct name_version *before = v->before;

		tao_node_free(v->node);
		free(v);
		v = before;
	}
	free(i->program);
	free(i->label);
	free(i);
}

void instance_unref(struct instance *i)
{
	if (i != NULL && atomic_fetch_sub(&i->refs, 1) == 1)
		instance_free(i);
}

void registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	while (r->first != NULL) {
		struct instance *i = r->first;

		r->first = i->next;
		instance_unref(i);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static struct instance *instance_new(const struct measurement *m, uid_t uid, pid_t pid,
                                     uint64_t start, struct tao_node *name, const char *program,
                                     const char *label)
{
	struct instance *i = calloc(1, sizeof *i);
	struct name_version *v = calloc(1, sizeof *v);

	if (i == NULL || v == NULL) {
		free(i);
		free(v);
		tao_node_free(name);
		return NULL;
	}
	v->node = name;
	atomic_store(&i->name, v);
	atomic_store(&i->refs, 2); /* the registry's and the caller's */
	i->pid = pid;
	i->start = start;
	i->uid = uid;
	memcpy(i->exe, m->exe, sizeof i->exe);
	i->interpreter = m->is_interpreter || m->is_script;
	i->file = m->id;
	i->since = time(NULL);
	i->program = strdup(program);
	i->label = label != NULL ? strdup(label) : NULL;
	if (name != NULL && i->program != NULL && (label == NULL || i->label != NULL))
		return i;
	instance_free(i);
	return NULL;
}

static unsigned times_registered(const struct registry *r, pid_t pid, uint64_t start)
{
	unsigned n = 0;

	for (const struct instance *i = r->first; i != NULL; i = i->next)
		n += i->pid == pid && i->start == start;
	return n;
}

/* A process that registers again (tao run of tao run) leaves its old instance. */
static void end_earlier(struct registry *r, pid_t pid, uint64_t start)
{
	for (struct instance *i = r->first; i != NULL; i = i->next)
		if (i->pid == pid && i->start == start)
			atomic_store(&i->ended, 1);
}

enum tao_err registry_add(struct registry *r, const struct measurement *m, uid_t uid, pid_t pid,
                          uint64_t start, struct tao_node *name, const char *program,
                          const char *label, struct instance **out)
{
	struct instance *i = instance_new(m, uid, pid, start, name, program, label);
	enum tao_err e = i != NULL ? TAO_OK : tao_fail_nomem();

	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&r->lock);
	if (r->count >= r->max) {
		e = tao_fail(TAO_ELIMIT, "the host runs %u programs already: stop some, or raise "
		             "max_instances in taod.conf", r->count);
	} else if (times_registered(r, pid, start) >= INSTANCE_MAX_AGAIN) {
		e = tao_fail(TAO_ELIMIT, "process %d has run 'tao run' %d times in place: start a program "
		             "with it as a process of its own", (int)pid, INSTANCE_MAX_AGAIN);
	} else {
		end_earlier(r, pid, start);
		i->id = ++r->last_id;
		i->next = r->first;
		r->first = i;
		r->count++;
	}
	pthread_mutex_unlock(&r->lock);
	if (e != TAO_OK) {
		instance_free(i);
		return e;
	}
	*out = i;
	return TAO_OK;
}

void registry_used(struct registry *r, uint64_t id)
{
	pthread_mutex_lock(&r->lock);
	if (id > r->last_id)
		r->last_id = id;
	pthread_mutex_unlock(&r->lock);
}

void registry_restore(struct registry *r, struct instance *i)
{
	pthread_mutex_lock(&r->lock);
	/* Of several registrations of a process the last one counts. */
	for (struct instance *o = r->first; o != NULL; o = o->next)
		if (o->pid == i->pid && o->start == i->start)
			atomic_store(o->id < i->id ? &o->ended : &i->ended, 1);
	i->next = r->first;
	r->first = instance_ref(i);
	r->count++;
	pthread_mutex_unlock(&r->lock);
}

static struct instance *by_pid(struct registry *r, pid_t pid, uint64_t start)
{
	struct instance *i;

	pthread_mutex_lock(&r->lock);
	for (i = r->first; i != NULL; i = i->next)
		if (i->pid == pid && i->start == start && !atomic_load(&i->ended))
			break;
	if (i != NULL)
		instance_ref(i);
	pthread_mutex_unlock(&r->lock);
	return i;
}

/* Another user's interpreter below a registered one (su, sudo) runs a script of that user's. */
static int is_others_script(const struct instance *i, int generation, uid_t uid)
{
	return generation > 0 && i->interpreter && uid != i->uid;
}

enum tao_err registry_find(struct host *h, pid_t pid, struct instance **out)
{
	uint64_t child_start = UINT64_MAX;
	uid_t uid = 0;

	for (int n = 0; n < MAX_ANCESTORS && pid > 1; n++) {
		struct process_view v;

		/* A parent that started after its child is a reused number. */
		if (measurer_process(h->measurer, pid, &v) != TAO_OK || v.start > child_start)
			break;
		if (n == 0)
			uid = v.uid;
		*out = by_pid(h->registry, pid, v.start);
		if (*out == NULL)
			*out = recall_find(h->recall, pid, v.start);
		if (*out != NULL && is_others_script(*out, n, uid)) {
			instance_unref(*out);
			*out = NULL;
			break;
		}
		if (*out != NULL)
			return TAO_OK;
		child_start = v.start;
		pid = v.ppid;
	}
	return tao_fail(TAO_ENOTRUN, "this process was not started with 'tao run', so it has no name "
	                "and no keys here: start it as 'tao run PROGRAM ARGS'");
}

static int has_inode(const struct instance *i, const uint64_t *inodes, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (i->door == inodes[k])
			return 1;
	return 0;
}

struct instance *registry_by_door(struct registry *r, const uint64_t *inodes, size_t n)
{
	struct instance *i;

	pthread_mutex_lock(&r->lock);
	for (i = r->first; i != NULL && !has_inode(i, inodes, n); i = i->next)
		;
	if (i != NULL)
		instance_ref(i);
	pthread_mutex_unlock(&r->lock);
	return i;
}

void registry_settle(struct registry *r, struct instance *i)
{
	struct instance **p;

	pthread_mutex_lock(&r->lock);
	/* Kept while its process lives: so what one process can leave here is bounded. */
	if (!atomic_load(&i->ended) || atomic_load(&i->watched) || atomic_load(&i->door_open) ||
	    atomic_load(&i->conns) > 0) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	for (p = &r->first; *p != NULL && *p != i; p = &(*p)->next)
		;
	if (*p == NULL) {
		i = NULL; /* gone already */
	} else {
		*p = i->next;
		r->count--;
	}
	pthread_mutex_unlock(&r->lock);
	if (i != NULL)
		recall_over(i);
	instance_unref(i);
}

void registry_each(struct registry *r, void (*fn)(struct instance *, void *), void *arg)
{
	pthread_mutex_lock(&r->lock);
	for (struct instance *i = r->first; i != NULL; i = i->next)
		fn(i, arg);
	pthread_mutex_unlock(&r->lock);
}

uint32_t registry_count(struct registry *r)
{
	uint32_t n;

	pthread_mutex_lock(&r->lock);
	n = r->count;
	pthread_mutex_unlock(&r->lock);
	return n;
}

const struct tao_node *instance_name(struct instance *i)
{
	return atomic_load(&i->name)->node;
}

/* name with every extension of subprin behind it. */
static struct tao_node *extended(const struct tao_node *name, const struct tao_node *subprin)
{
	struct tao_node *all = tao_node_dup(name);

	for (size_t k = 0; all != NULL && k < subprin->n_kid; k++) {
		struct tao_node *more = tao_prin_extend(all, tao_node_dup(subprin->kid[k]));

		tao_node_free(all);
		all = more;
	}
	return all;
}

static enum tao_err check_name(const struct name_version *v)
{
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = v->node != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK && v->depth > INSTANCE_MAX_EXTENDS)
		e = tao_fail(TAO_ELIMIT, "a name can be extended %d times", INSTANCE_MAX_EXTENDS);
	if (e != TAO_OK)
		return e;
	tao_node_encode(v->node, &b);
	e = tao_buf_err(&b);
	if (e == TAO_OK && b.n > INSTANCE_MAX_NAME)
		e = tao_fail(TAO_ELIMIT, "the extended name would exceed %d bytes", INSTANCE_MAX_NAME);
	tao_buf_free(&b);
	return e;
}

enum tao_err instance_extend(struct instance *i, const struct tao_node *subprin)
{
	return instance_extend_kept(i, subprin, NULL, NULL);
}

enum tao_err instance_extend_kept(struct instance *i, const struct tao_node *subprin,
                                  instance_keep_fn *keep, void *arg)
{
	struct name_version *now = atomic_load(&i->name);
	struct name_version *v = calloc(1, sizeof *v);
	enum tao_err e;

	if (v == NULL)
		return tao_fail_nomem();
	do {
		tao_node_free(v->node);
		v->before = now;
		v->depth = now->depth + 1;
		v->node = extended(now->node, subprin);
		e = check_name(v);
		if (e == TAO_OK && keep != NULL)
			e = keep(arg, v->node);
		if (e != TAO_OK) {
			tao_node_free(v->node);
			free(v);
			return e;
		}
	} while (!atomic_compare_exchange_weak(&i->name, &now, v));
	return TAO_OK;
}
