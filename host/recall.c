#include "recall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "progsock.h"
#include "../tao/file.h"

#define FILE_MAX (64u << 10)
#define FIRST_MEMBERS 4 /* room for, at first */
#define SPARES 128      /* files of ended instances kept for new ones */
#define SPARE_PREFIX ".ended-"

/* What is kept of one instance: the instance's own, so it lives as long as who has that may look
 * at it. In the list from recall_add() to recall_over(), and longer while it is in the queue; for
 * that time the list has a reference to the instance. */
struct kept {
	struct recall *r;
	struct instance *inst;
	pthread_mutex_t io;       /* of its file; taken before the lock of all */
	struct member *members;   /* from here on: under the lock of all */
	size_t n, cap;
	size_t looked;            /* members of which the parents were looked at */
	uint64_t operations;      /* as written last */
	int queued, over;
	struct kept *next, *later;
};

struct recall {
	struct host *h;
	char *dir;
	char boot[RECALL_BOOT_MAX];
	int works;                /* there is a directory to write to */
	uint32_t recalled;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct kept *first;
	struct kept *queue, **queue_end;
	uint64_t spare[SPARES];   /* removed files, to be written again: by instance */
	size_t n_spare;
	int closing;              /* files stay */
	int ending;               /* the thread ends */
	int has_thread;
	pthread_t thread;
};

/* ---- files ---- */

static char *file_path(const struct recall *r, uint64_t id)
{
	return host_path(&r->h->conf, "host/instances/%llu", (unsigned long long)id);
}

static char *spare_path(const struct recall *r, uint64_t id)
{
	return host_path(&r->h->conf, "host/instances/" SPARE_PREFIX "%llu",
	                 (unsigned long long)id);
}

/* Makes path a spare file; 0 if there are enough of them. */
static int make_spare(struct recall *r, uint64_t id, const char *path)
{
	char *spare = spare_path(r, id);
	int good;

	pthread_mutex_lock(&r->lock);
	good = spare != NULL && r->n_spare < SPARES && !r->ending && rename(path, spare) == 0;
	if (good)
		r->spare[r->n_spare++] = id;
	pthread_mutex_unlock(&r->lock);
	free(spare);
	return good;
}

static char *take_spare(struct recall *r)
{
	char *spare = NULL;

	pthread_mutex_lock(&r->lock);
	if (r->n_spare > 0)
		spare = spare_path(r, r->spare[--r->n_spare]);
	pthread_mutex_unlock(&r->lock);
	return spare;
}

static int remove_file(struct recall *r, uint64_t id)
{
	char *path = file_path(r, id);
	int gone = path != NULL &&
	           (make_spare(r, id, path) || unlink(path) == 0 || errno == ENOENT);

	free(path);
	return gone;
}

/* A new file costs the file system more than all else that a start does, the more so where
 * many end. So one that was removed is written again; 0 if that did not do. */
static int write_spare(struct recall *r, const char *path, const struct tao_buf *blob)
{
	char *spare = take_spare(r);
	int fd, good;

	if (spare == NULL)
		return 0;
	fd = open(spare, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	good = fd >= 0 && pwrite(fd, blob->p, blob->n, 0) == (ssize_t)blob->n &&
	       ftruncate(fd, (off_t)blob->n) == 0 && rename(spare, path) == 0;
	if (fd >= 0)
		close(fd);
	if (!good)
		unlink(spare);
	free(spare);
	return good;
}

static void remove_spares(struct recall *r)
{
	for (char *spare = take_spare(r); spare != NULL; spare = take_spare(r)) {
		unlink(spare);
		free(spare);
	}
}

/* k->io held. name: as for recall_pack(). */
static enum tao_err write_file(struct kept *k, const struct tao_node *name)
{
	struct recall *r = k->r;
	struct member members[RECALL_MEMBERS];
	struct tao_buf blob = TAO_BUF_INIT;
	char *path = file_path(r, k->inst->id);
	uint64_t operations = atomic_load(&k->inst->operations);
	size_t n;
	int over;
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();

	pthread_mutex_lock(&r->lock);
	n = k->n;
	if (n > 0)
		memcpy(members, k->members, n * sizeof *members);
	k->operations = operations;
	over = k->over;
	pthread_mutex_unlock(&r->lock);
	if (over || !r->works)
		goto out;
	if (e == TAO_OK)
		e = recall_pack(&r->h->sealer, r->boot, k->inst, name, members, n, &blob);
	if (e == TAO_OK && !write_spare(r, path, &blob))
		e = tao_file_write(path, blob.p, blob.n, 0600, TAO_FILE_VOLATILE);
out:
	tao_buf_free(&blob);
	free(path);
	return e;
}

/* ---- the queue ---- */

static void queue_locked(struct kept *k)
{
	struct recall *r = k->r;

	if (k->queued)
		return;
	k->queued = 1;
	k->later = NULL;
	*r->queue_end = k;
	r->queue_end = &k->later;
	pthread_cond_signal(&r->changed);
}

void recall_forget(struct kept *k)
{
	if (k == NULL)
		return;
	pthread_mutex_destroy(&k->io);
	free(k->members);
	free(k);
}

/* The whole queue as a list, each out of it. */
static struct kept *take_queue(struct recall *r)
{
	struct kept *all;

	pthread_mutex_lock(&r->lock);
	all = r->queue;
	r->queue = NULL;
	r->queue_end = &r->queue;
	pthread_mutex_unlock(&r->lock);
	return all;
}

/* ---- members ---- */

static int lives(struct host *h, const struct member *m, struct process_view *v)
{
	return measurer_process(h->measurer, m->pid, v) == TAO_OK && v->start == m->start;
}

static int has_member(const struct kept *k, pid_t pid, uint64_t start)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->members[i].pid == pid && k->members[i].start == start)
			return 1;
	return 0;
}

/* 1 if it is new. When all places are taken, new ones are not remembered: the
 * oldest are the likeliest to outlive the others. */
static int put_member(struct kept *k, pid_t pid, uint64_t start)
{
	if (k->n == RECALL_MEMBERS || has_member(k, pid, start))
		return 0;
	if (k->n == k->cap) {
		size_t cap = k->cap > 0 ? k->cap * 2 : FIRST_MEMBERS;
		struct member *more = realloc(k->members, cap * sizeof *more);

		if (more == NULL)
			return 0;
		k->members = more;
		k->cap = cap;
	}
	k->members[k->n++] = (struct member){ pid, start };
	return 1;
}

void recall_member(struct instance *i, pid_t pid, uint64_t start)
{
	struct kept *k = i->kept;

	if (k == NULL || (pid == i->pid && start == i->start))
		return;
	pthread_mutex_lock(&k->r->lock);
	if (!k->over &&
	    (put_member(k, pid, start) || (k->n == RECALL_MEMBERS && !has_member(k, pid, start))))
		queue_locked(k); /* in the latter case some may have ended */
	pthread_mutex_unlock(&k->r->lock);
}

void recall_changed(struct instance *i)
{
	struct kept *k = i->kept;

	if (k == NULL)
		return;
	pthread_mutex_lock(&k->r->lock);
	if (!k->over)
		queue_locked(k);
	pthread_mutex_unlock(&k->r->lock);
}

/* A parent that runs the same executable belongs to the instance too, unless it was
 * there before: a shell that starts the same shell with tao run. */
static void look_at_parent(struct kept *k, pid_t ppid)
{
	const struct instance *i = k->inst;
	struct process_view v;

	if (ppid <= 1 || ppid == i->pid || i->interpreter ||
	    measurer_process(k->r->h->measurer, ppid, &v) != TAO_OK || v.start < i->start ||
	    !file_id_equal(&v.exe, &i->file))
		return;
	pthread_mutex_lock(&k->r->lock);
	put_member(k, ppid, v.start);
	pthread_mutex_unlock(&k->r->lock);
}

static void drop_member(struct kept *k, const struct member *m)
{
	pthread_mutex_lock(&k->r->lock);
	for (size_t i = 0; i < k->n; i++) {
		if (k->members[i].pid != m->pid || k->members[i].start != m->start)
			continue;
		memmove(&k->members[i], &k->members[i + 1], (k->n - i - 1) * sizeof *m);
		k->n--;
		if (i < k->looked)
			k->looked--;
		break;
	}
	pthread_mutex_unlock(&k->r->lock);
}

static int member_at(struct kept *k, size_t at, struct member *m)
{
	int there;

	pthread_mutex_lock(&k->r->lock);
	there = at < k->n;
	if (there)
		*m = k->members[at];
	pthread_mutex_unlock(&k->r->lock);
	return there;
}

/* 1 once for each place: its parent is still to be looked at. */
static int is_fresh(struct kept *k, size_t at)
{
	int fresh;

	pthread_mutex_lock(&k->r->lock);
	fresh = at >= k->looked;
	if (fresh)
		k->looked = at + 1;
	pthread_mutex_unlock(&k->r->lock);
	return fresh;
}

/* Those that ended go, parents come. */
static void tidy_members(struct kept *k)
{
	struct process_view v;
	struct member m;
	size_t at = 0;

	while (member_at(k, at, &m)) {
		if (!lives(k->r->h, &m, &v)) {
			drop_member(k, &m);
			continue;
		}
		if (is_fresh(k, at))
			look_at_parent(k, v.ppid);
		at++;
	}
}

struct instance *recall_find(struct recall *r, pid_t pid, uint64_t start)
{
	struct instance *i = NULL;

	if (r == NULL)
		return NULL;
	pthread_mutex_lock(&r->lock);
	for (struct kept *k = r->first; k != NULL && i == NULL; k = k->next)
		if (!k->over && has_member(k, pid, start))
			i = instance_ref(k->inst);
	pthread_mutex_unlock(&r->lock);
	return i;
}

static int is_closing(struct recall *r)
{
	int closing;

	pthread_mutex_lock(&r->lock);
	closing = r->closing;
	pthread_mutex_unlock(&r->lock);
	return closing;
}

void recall_watch(struct host *h, struct instance *i)
{
	struct kept *k = i->kept;
	struct process_view v;
	struct member m;

	atomic_store(&i->by_member, 0);
	for (size_t at = 0; k != NULL && !is_closing(k->r) && member_at(k, at, &m); at++) {
		int pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);

		if (pidfd >= 0 && lives(h, &m, &v) && file_id_equal(&v.exe, &i->file)) {
			atomic_store(&i->last_pid, m.pid);
			atomic_store(&i->by_member, 1);
			watch_add(h, i, pidfd);
			return;
		}
		if (pidfd >= 0)
			close(pidfd);
	}
}

/* ---- the thread that writes ---- */

static struct timespec in_seconds(int n)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += n;
	return t;
}

/* Lock held. */
static void queue_busy(struct recall *r)
{
	for (struct kept *k = r->first; k != NULL; k = k->next)
		if (atomic_load(&k->inst->operations) != k->operations)
			queue_locked(k);
}

/* 0: it is time to end. */
static int wait_for_work(struct recall *r)
{
	struct timespec at = in_seconds(RECALL_REFRESH);
	int go_on;

	pthread_mutex_lock(&r->lock);
	while (!r->ending && r->queue == NULL)
		if (pthread_cond_timedwait(&r->changed, &r->lock, &at) == ETIMEDOUT) {
			queue_busy(r);
			at = in_seconds(RECALL_REFRESH);
		}
	go_on = !r->ending;
	pthread_mutex_unlock(&r->lock);
	return go_on;
}

/* So that no file is written more often than that. */
static void pause_a_while(struct recall *r)
{
	struct timespec at = in_seconds(RECALL_PAUSE);

	pthread_mutex_lock(&r->lock);
	while (!r->ending && pthread_cond_timedwait(&r->changed, &r->lock, &at) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&r->lock);
}

static void settle_one(struct kept *k)
{
	uint64_t id = k->inst->id;
	int over;

	pthread_mutex_lock(&k->r->lock);
	k->queued = 0;
	over = k->over;
	pthread_mutex_unlock(&k->r->lock);
	if (over) {
		pthread_mutex_lock(&k->io);
		if (!is_closing(k->r) && !remove_file(k->r, id))
			host_log("warning", "cannot remove the file of instance %llu: %s",
			         (unsigned long long)id, strerror(errno));
		pthread_mutex_unlock(&k->io);
		instance_unref(k->inst);
		return;
	}
	tidy_members(k);
	pthread_mutex_lock(&k->io);
	if (write_file(k, NULL) != TAO_OK)
		host_log("warning", "instance %llu (%s) may not be recalled as it is now: %s",
		         (unsigned long long)id, k->inst->program, tao_why());
	pthread_mutex_unlock(&k->io);
}

static void settle_all(struct recall *r)
{
	struct kept *k = take_queue(r);

	while (k != NULL) {
		struct kept *later = k->later;

		settle_one(k);
		k = later;
	}
}

static void *write_on(void *arg)
{
	struct recall *r = arg;

	while (wait_for_work(r)) {
		settle_all(r);
		pause_a_while(r);
	}
	return NULL;
}

/* ---- an instance's life ---- */

static struct kept *keep(struct recall *r, struct instance *i)
{
	struct kept *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	pthread_mutex_init(&k->io, NULL);
	k->r = r;
	k->inst = instance_ref(i);
	k->operations = atomic_load(&i->operations);
	i->kept = k;
	pthread_mutex_lock(&r->lock);
	k->next = r->first;
	r->first = k;
	pthread_mutex_unlock(&r->lock);
	return k;
}

enum tao_err recall_add(struct host *h, struct instance *i)
{
	struct kept *k = keep(h->recall, i);
	enum tao_err e;

	if (k == NULL)
		return tao_fail_nomem();
	pthread_mutex_lock(&k->io);
	e = write_file(k, NULL);
	pthread_mutex_unlock(&k->io);
	return e;
}

void recall_over(struct instance *i)
{
	struct kept *k = i->kept, **p;

	if (k == NULL)
		return;
	pthread_mutex_lock(&k->r->lock);
	for (p = &k->r->first; *p != NULL && *p != k; p = &(*p)->next)
		;
	if (*p != NULL) {
		*p = k->next;
		k->over = 1;
		queue_locked(k);
	}
	pthread_mutex_unlock(&k->r->lock);
}

static int is_over(struct kept *k)
{
	int over;

	pthread_mutex_lock(&k->r->lock);
	over = k->over;
	pthread_mutex_unlock(&k->r->lock);
	return over;
}

/* Before the longer name counts its file has it; or there is no file. */
static enum tao_err keep_name(void *arg, const struct tao_node *name)
{
	struct kept *k = arg;
	enum tao_err e;

	if (is_over(k))
		return TAO_OK;
	e = write_file(k, name);
	if (e == TAO_OK)
		return TAO_OK;
	if (!remove_file(k->r, k->inst->id))
		return tao_fail(e, "the name is not extended, since a restarted host would not "
		                "know it: %s", tao_why());
	host_log("warning", "instance %llu (%s) will not be recalled when taod starts again: %s",
	         (unsigned long long)k->inst->id, k->inst->program, tao_why());
	return TAO_OK;
}

enum tao_err recall_extend(struct host *h, struct instance *i, const struct tao_node *subprin)
{
	struct kept *k = i->kept;
	enum tao_err e;

	(void)h;
	if (k == NULL)
		return instance_extend(i, subprin);
	pthread_mutex_lock(&k->io);
	e = instance_extend_kept(i, subprin, keep_name, k);
	pthread_mutex_unlock(&k->io);
	return e;
}

/* ---- the start ---- */

/* The registered process, if it lives and has not registered again since: watched. */
static int registered_lives(struct host *h, struct instance *i)
{
	const struct member first = { i->pid, i->start };
	struct process_view v;
	int pidfd = (int)syscall(SYS_pidfd_open, i->pid, 0);

	if (pidfd < 0)
		return 0;
	if (lives(h, &first, &v)) {
		watch_add(h, i, pidfd);
		return 1;
	}
	close(pidfd);
	return 0;
}

static void reopen_progsock(struct host *h, struct instance *i)
{
	if (i->has_progsock && progsock_open(h, i) != TAO_OK)
		host_log("warning", "%s has no socket of its own until it is started again: %s",
		         i->program, tao_why());
}

static enum tao_err recall_one(struct recall *r, const struct tao_buf *blob, uint64_t id)
{
	struct host *h = r->h;
	struct member members[RECALL_MEMBERS];
	struct instance *i = NULL;
	struct kept *k;
	size_t n;
	enum tao_err e = recall_unpack(&h->sealer, r->boot, blob->p, blob->n, &i, members, &n);

	if (e == TAO_OK && (i->id != id || !tao_prin_covers(h->name, instance_name(i))))
		e = tao_fail(TAO_EFORMAT, "its name is not one of this host and domain");
	if (e != TAO_OK)
		goto out;
	k = keep(r, i);
	if (k == NULL) {
		e = tao_fail_nomem();
		goto out;
	}
	for (size_t at = 0; at < n; at++)
		put_member(k, members[at].pid, members[at].start);
	if (!registered_lives(h, i)) {
		atomic_store(&i->ended, 1);
		tidy_members(k);
		recall_watch(h, i);
	}
	if (atomic_load(&i->watched) > 0) {
		registry_restore(h->registry, i);
		reopen_progsock(h, i);
		audit_event(h, "recalled", i, i->uid, TAO_OK, NULL, NULL);
		r->recalled++;
	} else {
		recall_over(i);
	}
out:
	instance_unref(i);
	return e;
}

static void recall_file(struct recall *r, const char *name)
{
	struct tao_buf blob = TAO_BUF_INIT;
	char *end, *path;
	uint64_t id = strtoull(name, &end, 10);
	enum tao_err e;

	if (name[0] < '1' || name[0] > '9' || *end != 0)
		return;
	registry_used(r->h->registry, id);
	path = file_path(r, id);
	e = path != NULL ? tao_file_read(path, FILE_MAX, &blob) : tao_fail_nomem();
	if (e == TAO_OK)
		e = recall_one(r, &blob, id);
	if (e == TAO_EVERSION)
		host_log("warning", "%s is not recalled: %s", path, tao_why());
	else if (e == TAO_EFORMAT || e == TAO_EALTERED || e == TAO_EOTHERHOST || e == TAO_ELIMIT)
		host_log("warning", "%s is removed, its program is not recalled: %s", path,
		         tao_why());
	else if (e != TAO_OK && e != TAO_ENOTFOUND)
		host_log("error", "%s is not recalled: %s", path, tao_why());
	if (e == TAO_EFORMAT || e == TAO_EALTERED || e == TAO_EOTHERHOST || e == TAO_ELIMIT ||
	    e == TAO_ENOTFOUND)
		remove_file(r, id);
	tao_buf_free(&blob);
	free(path);
}

static void recall_all(struct recall *r)
{
	DIR *d = opendir(r->dir);
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		recall_file(r, de->d_name);
		if (strncmp(de->d_name, SPARE_PREFIX, strlen(SPARE_PREFIX)) == 0)
			unlinkat(dirfd(d), de->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	if (r->recalled > 0)
		host_log("info", "recalled %u program%s", r->recalled, r->recalled == 1 ? "" : "s");
}

static struct recall *recall_new(struct host *h)
{
	struct recall *r = calloc(1, sizeof *r);
	pthread_condattr_t attr;

	if (r == NULL || (r->dir = host_path(&h->conf, "host/instances")) == NULL) {
		free(r);
		return NULL;
	}
	r->h = h;
	r->queue_end = &r->queue;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &attr);
	pthread_condattr_destroy(&attr);
	return r;
}

enum tao_err recall_open(struct host *h)
{
	struct recall *r = recall_new(h);

	if (r == NULL)
		return tao_fail_nomem();
	h->recall = r;
	progsock_sweep(h);
	r->works = recall_boot(r->boot) == TAO_OK && tao_dir_make(r->dir, 0700) == TAO_OK;
	if (!r->works)
		host_log("warning", "programs will not be recalled when taod starts again: %s",
		         tao_why());
	else
		recall_all(r);
	errno = pthread_create(&r->thread, NULL, write_on, r);
	if (errno != 0)
		return tao_fail_sys("starting a thread");
	r->has_thread = 1;
	return TAO_OK;
}

void recall_close(struct host *h)
{
	struct recall *r = h->recall;

	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	r->ending = 1;
	queue_busy(r);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (r->has_thread)
		pthread_join(r->thread, NULL);
	r->has_thread = 0;
	settle_all(r); /* one thread at a time does this */
	pthread_mutex_lock(&r->lock);
	r->closing = 1;
	pthread_mutex_unlock(&r->lock);
}

void recall_free(struct recall *r)
{
	if (r == NULL)
		return;
	settle_all(r);
	while (r->first != NULL) {
		struct kept *k = r->first;

		r->first = k->next;
		instance_unref(k->inst);
	}
	remove_spares(r);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r->dir);
	free(r);
}

uint32_t recall_count(const struct recall *r)
{
	return r != NULL ? r->recalled : 0;
}
