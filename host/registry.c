#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "peers.h"
#include "progsock.h"

#define MAX_ANCESTORS 64 /* generations looked at for descent */

struct registry {
	pthread_mutex_t lock;
	struct instance *first;
	uint32_t count;
	const struct host_conf *conf; /* its limits */
	atomic_uint units; /* instances that are in one */
	uint64_t last_id;
	void (*on_end)(struct host *, struct instance *);
	struct host *host;   /* for on_end */
};

struct registry *registry_new(const struct host_conf *conf)
{
	struct registry *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	r->conf = conf;
	return r;
}

int instance_runs(struct instance *i)
{
	return !atomic_load(&i->ended) || atomic_load(&i->door_open) || atomic_load(&i->by_member);
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
	recall_forget(i->kept);
	audit_uses_free(i);
	peers_instance_free(i);
	free(i->program);
	free(i->label);
	free(i->openssl_conf);
	free(i->unit);
	free(i->args);
	if (i->progsock > 0)
		close(i->progsock);
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

/* The last bytes of what may be long. */
static int keep_end(struct instance *i, const char *args, size_t n)
{
	size_t keep = n < INSTANCE_MAX_ARGS ? n : INSTANCE_MAX_ARGS;

	if (args == NULL || n == 0)
		return 1;
	i->args = malloc(keep);
	if (i->args == NULL)
		return 0;
	memcpy(i->args, args + n - keep, keep);
	i->args_n = keep;
	return 1;
}

static int copy_texts(struct instance *i, const struct registration *g)
{
	i->program = strdup(g->program);
	i->label = g->label != NULL ? strdup(g->label) : NULL;
	i->openssl_conf = g->openssl_conf != NULL ? strdup(g->openssl_conf) : NULL;
	i->unit = strdup(g->unit != NULL ? g->unit : "");
	return i->program != NULL && (g->label == NULL || i->label != NULL) && i->unit != NULL &&
	       (g->openssl_conf == NULL || i->openssl_conf != NULL) &&
	       keep_end(i, g->args, g->args_n);
}

static struct instance *instance_new(const struct registration *g, struct tao_node *name)
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
	i->kind = g->kind;
	i->pid = g->pid;
	i->start = g->start;
	i->uid = g->uid;
	atomic_store(&i->exec, g->exec);
	i->before = g->before;
	memcpy(i->exe, g->m->exe, sizeof i->exe);
	i->interpreter = g->m->is_interpreter || g->m->is_script;
	i->file = g->m->id;
	i->since = time(NULL);
	if (name != NULL && copy_texts(i, g))
		return i;
	instance_free(i);
	return NULL;
}

static uint32_t of_user(const struct registry *r, uid_t uid)
{
	uint32_t n = 0;

	for (const struct instance *i = r->first; i != NULL; i = i->next)
		n += i->uid == uid;
	return n;
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

static struct instance *twin(struct registry *r, const struct registration *g)
{
	struct instance *i = g->kind != INSTANCE_RUN ? r->first : NULL;

	for (; i != NULL; i = i->next)
		if (i->kind == g->kind && i->pid == g->pid && i->start == g->start &&
		    atomic_load(&i->exec) == g->exec && file_id_equal(&i->file, &g->m->id) &&
		    !atomic_load(&i->ended))
			return instance_ref(i);
	return NULL;
}

enum tao_err registry_add(struct registry *r, const struct registration *g, struct tao_node *name,
                          struct instance **out)
{
	struct instance *i = instance_new(g, name);
	enum tao_err e = i != NULL ? TAO_OK : tao_fail_nomem();

	if (e != TAO_OK)
		return e;
	pthread_mutex_lock(&r->lock);
	*out = twin(r, g);
	if (*out != NULL)
		e = TAO_EEXIST;
	if (e == TAO_OK)
		e = limit_check(r->conf, LIMIT_INSTANCES, "the host", r->count);
	if (e == TAO_OK)
		e = limit_check_user(r->conf, LIMIT_USER_INSTANCES, g->uid, of_user(r, g->uid));
	if (e == TAO_OK && times_registered(r, g->pid, g->start) >= INSTANCE_MAX_AGAIN)
		e = tao_fail(TAO_ELIMIT, "process %d has been %d programs in place: start the next "
		             "one as a process of its own", (int)g->pid, INSTANCE_MAX_AGAIN);
	if (e == TAO_OK) {
		if (g->kind == INSTANCE_RUN)
			end_earlier(r, g->pid, g->start);
		i->id = ++r->last_id;
		i->next = r->first;
		r->first = i;
		r->count++;
		r->units += i->unit[0] != 0;
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

/* Of several registrations of a process the last one counts. */
static void end_older(struct instance *a, struct instance *b)
{
	struct instance *older = a->id < b->id ? a : b, *newer = older == a ? b : a;

	if (newer->kind == INSTANCE_RUN)
		atomic_store(&older->ended, 1);
}

void registry_restore(struct registry *r, struct instance *i)
{
	pthread_mutex_lock(&r->lock);
	for (struct instance *o = r->first; o != NULL; o = o->next)
		if (o->pid == i->pid && o->start == i->start)
			end_older(o, i);
	i->next = r->first;
	r->first = instance_ref(i);
	r->count++;
	r->units += i->unit[0] != 0;
	pthread_mutex_unlock(&r->lock);
}

int instance_runs_as(const struct instance *i, const struct process_view *v)
{
	uint64_t exec = atomic_load(&i->exec);

	if (!file_id_equal(&v->exe, &i->file) || (i->before != 0 && v->exec == i->before))
		return 0;
	/* An interpreter is what its script is, and that is what it was started with. */
	if (i->interpreter && (exec == 0 || exec != v->exec))
		return 0;
	/* What is told of a Process is its user. */
	return i->kind != INSTANCE_PROCESS || i->uid == v->uid;
}

int instance_is_own(struct host *h, const struct instance *i, const struct process_view *v)
{
	uint64_t exec = atomic_load(&i->exec), start = v->start;
	struct process_view at = *v;

	for (int n = 0; n < MAX_ANCESTORS && at.exec == v->exec && at.start <= start; n++) {
		if (at.uid == i->uid || (exec != 0 && at.exec == exec))
			return 1;
		start = at.start;
		if (at.exec == 0 || at.ppid <= 1 ||
		    measurer_process(h->measurer, at.ppid, &at) != TAO_OK)
			break;
	}
	return 0;
}

enum tao_err instance_is_measured(const struct instance *i)
{
	if (i->kind != INSTANCE_PROCESS)
		return TAO_OK;
	return tao_fail(TAO_EWRONGPROG, "%s was not started with 'tao run', so the host does not "
	                "vouch for what it is: start it so, or use --policy host or exact",
	                i->program);
}

typedef int related_fn(const struct instance *i, const void *arg);

static int is_process(const struct instance *i, const void *arg)
{
	const struct process_view *v = arg;

	return i->pid == v->pid && i->start == v->start && !atomic_load(&i->ended) &&
	       (i->before == 0 || i->before != v->exec);
}

struct unit_member {
	char unit[UNIT_MAX + 1];
	uid_t uid;
};

/* Units in which users' own processes run (cron, sshd without sessions) are shared: only the
 * same user's. */
static int is_of_unit(const struct instance *i, const void *arg)
{
	const struct unit_member *m = arg;

	return i->kind == INSTANCE_RUN && i->uid == m->uid && strcmp(i->unit, m->unit) == 0;
}

/* Of the instances so related: the first that v runs as, in *out, else the first. */
static void look(struct registry *r, related_fn *related, const void *arg,
                 const struct process_view *v, struct instance **out, struct instance **around)
{
	struct instance *first = NULL;

	pthread_mutex_lock(&r->lock);
	for (struct instance *i = r->first; i != NULL && *out == NULL; i = i->next) {
		if (!related(i, arg))
			continue;
		if (instance_runs_as(i, v))
			*out = instance_ref(i);
		else if (first == NULL)
			first = i;
	}
	if (*out == NULL && *around == NULL && first != NULL)
		*around = instance_ref(first);
	pthread_mutex_unlock(&r->lock);
}

static void look_up_member(struct host *h, const struct process_view *at,
                           const struct process_view *v, struct instance **out,
                           struct instance **around)
{
	struct instance *i = recall_find(h->recall, at->pid, at->start);

	if (i != NULL && instance_runs_as(i, v))
		*out = i;
	else if (i != NULL && *around == NULL)
		*around = i;
	else
		instance_unref(i);
}

static void look_up_descent(struct host *h, const struct process_view *v, struct instance **out,
                            struct instance **around)
{
	struct process_view at = *v;

	for (int n = 0; n < MAX_ANCESTORS && *out == NULL; n++) {
		uint64_t child_start = at.start;

		look(h->registry, is_process, &at, v, out, around);
		if (*out == NULL)
			look_up_member(h, &at, v, out, around);
		/* A parent that started after its child is a reused number. */
		if (at.ppid <= 1 || measurer_process(h->measurer, at.ppid, &at) != TAO_OK ||
		    at.start > child_start)
			break;
	}
}

static void look_up_unit(struct host *h, const struct process_view *v, struct instance **out,
                         struct instance **around)
{
	struct unit_member m = { .uid = v->uid };

	if (atomic_load(&h->registry->units) == 0)
		return;
	measurer_unit(h->measurer, v->pid, m.unit);
	if (m.unit[0] != 0)
		look(h->registry, is_of_unit, &m, v, out, around);
}

enum tao_err registry_find(struct host *h, pid_t pid, const struct process_view *v,
                           struct instance **out, struct instance **around)
{
	struct process_view own;

	*out = *around = NULL;
	if (v == NULL && measurer_process(h->measurer, pid, &own) == TAO_OK)
		v = &own;
	if (v != NULL)
		look_up_descent(h, v, out, around);
	if (v != NULL && *out == NULL)
		look_up_unit(h, v, out, around);
	if (*out != NULL && !instance_is_own(h, *out, v)) {
		instance_unref(*around);
		*around = *out;
		*out = NULL;
	}
	if (*out != NULL) {
		instance_unref(*around);
		*around = NULL;
	}
	if (*out != NULL || *around != NULL)
		return TAO_OK;
	return tao_fail(TAO_ENOTRUN, "this process was not started with 'tao run', so it has no "
	                "name and no keys here: start it as 'tao run PROGRAM ARGS'");
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
		r->units -= i->unit[0] != 0;
	}
	pthread_mutex_unlock(&r->lock);
	if (i != NULL) {
		progsock_close(r->host, i);
		recall_over(i);
	}
	if (i != NULL && r->on_end != NULL)
		r->on_end(r->host, i);
	instance_unref(i);
}

void registry_on_end(struct registry *r, void (*fn)(struct host *, struct instance *),
                     struct host *h)
{
	r->on_end = fn;
	r->host = h;
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

uint64_t registry_newest(struct registry *r)
{
	uint64_t id;

	pthread_mutex_lock(&r->lock);
	id = r->last_id;
	pthread_mutex_unlock(&r->lock);
	return id;
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
		e = tao_fail(TAO_ELIMIT, "the extended name would exceed %d bytes",
		             INSTANCE_MAX_NAME);
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
