#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cpus.h"
#include "host.h"

#define BACKLOG 1024
#define SET_THREADS 2         /* of one set: a second for when the first waits for the measurer */
#define SLOW_THREADS 4        /* for what takes long */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_US 10000 /* when descriptors have run out */
#define SWEEP_SECONDS 5       /* between looks at deadlines */

/* How many connections a user has that are no program's. */
struct user {
	uid_t uid;
	uint32_t conns;
	struct user *next;
};

struct worker {
	struct host *h;
	uint32_t set;
	pthread_t thread;
};

struct loop {
	struct cpus cpus;
	int *epoll;           /* one for each set of workers */
	int wake;
	struct source listener, sweeper;
	pthread_mutex_t lock; /* the lists */
	struct source *first;
	struct user *users;   /* those with connections */
	atomic_int stopping;
	struct worker *workers;
	uint32_t n_workers;
	pthread_cond_t deferred;
	struct source *later, **later_end; /* queue */
	pthread_t slow[SLOW_THREADS];
	uint32_t n_slow;
};

enum tao_err loop_new(struct host *h, struct loop **out)
{
	struct loop *l = calloc(1, sizeof *l);
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

	if (l == NULL)
		return tao_fail_nomem();
	cpus_read(&l->cpus, h->conf.workers);
	l->epoll = calloc(l->cpus.n_sets, sizeof *l->epoll);
	if (l->epoll == NULL) {
		free(l);
		return tao_fail_nomem();
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->deferred, NULL);
	l->later_end = &l->later;
	l->listener.fd = l->sweeper.fd = -1;
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*out = h->loop = l;
	for (uint32_t i = 0; i < l->cpus.n_sets; i++) {
		l->epoll[i] = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_ctl(l->epoll[i], EPOLL_CTL_ADD, l->wake, &ev) != 0)
			return tao_fail_sys("making the event loop");
	}
	return TAO_OK;
}

enum tao_err loop_add(struct host *h, struct source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLONESHOT, .data.ptr = s };
	struct loop *l = h->loop;

	pthread_mutex_lock(&l->lock);
	s->next = l->first;
	s->prev = NULL;
	if (l->first != NULL)
		l->first->prev = s;
	l->first = s;
	pthread_mutex_unlock(&l->lock);
	atomic_fetch_add(&s->turns, 1);
	if (epoll_ctl(l->epoll[s->set], EPOLL_CTL_ADD, s->fd, &ev) == 0)
		return TAO_OK;
	tao_fail_sys("watching a descriptor");
	loop_remove(h, s);
	return TAO_ESYS;
}

void loop_arm(struct host *h, struct source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLONESHOT, .data.ptr = s };
	int *epoll = h->loop->epoll, from = epoll[s->set], to = epoll[s->next_set], fd = s->fd;

	if (from != to)
		epoll_ctl(from, EPOLL_CTL_DEL, fd, NULL);
	s->set = s->next_set;
	atomic_fetch_add(&s->turns, 1); /* once it is armed it is another worker's */
	if (epoll_ctl(to, from != to ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) != 0)
		loop_remove(h, s); /* out of memory: the caller tries again */
}

void loop_defer(struct host *h, struct source *s)
{
	struct loop *l = h->loop;

	pthread_mutex_lock(&l->lock);
	s->later = NULL;
	*l->later_end = s;
	l->later_end = &s->later;
	pthread_cond_signal(&l->deferred);
	pthread_mutex_unlock(&l->lock);
}

void loop_follow(struct host *h, struct source *s, int cpu)
{
	s->next_set = cpus_set(&h->loop->cpus, cpu);
}

void loop_remove(struct host *h, struct source *s)
{
	struct loop *l = h->loop;

	epoll_ctl(l->epoll[s->set], EPOLL_CTL_DEL, s->fd, NULL);
	pthread_mutex_lock(&l->lock);
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		l->first = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	pthread_mutex_unlock(&l->lock);
	s->destroy(h, s);
}

/* Lock held. */
static struct user **find_user(struct loop *l, uid_t uid)
{
	struct user **u = &l->users;

	while (*u != NULL && (*u)->uid != uid)
		u = &(*u)->next;
	return u;
}

enum tao_err loop_admit(struct host *h, uid_t uid)
{
	struct loop *l = h->loop;
	struct user **u;
	enum tao_err e = TAO_OK;

	pthread_mutex_lock(&l->lock);
	u = find_user(l, uid);
	if (*u == NULL && (*u = calloc(1, sizeof **u)) != NULL)
		(*u)->uid = uid;
	if (*u == NULL)
		e = tao_fail_nomem();
	else if ((*u)->conns == USER_MAX_CONNS)
		e = tao_fail(TAO_ELIMIT, "user %u has %d connections already that are no program's",
		             (unsigned)uid, USER_MAX_CONNS);
	else
		(*u)->conns++;
	pthread_mutex_unlock(&l->lock);
	return e;
}

void loop_dismiss(struct host *h, uid_t uid)
{
	struct loop *l = h->loop;
	struct user **at, *u;

	pthread_mutex_lock(&l->lock);
	at = find_user(l, uid);
	u = *at;
	if (u != NULL && --u->conns == 0) {
		*at = u->next;
		free(u);
	}
	pthread_mutex_unlock(&l->lock);
}

static void accept_ready(struct host *h, struct source *s, uint32_t events)
{
	(void)events;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			host_log("error", "cannot accept a connection: %s: raise LimitNOFILE",
			         strerror(errno));
			usleep(ACCEPT_PAUSE_US);
		}
		if (fd < 0)
			break;
		if (conn_add(h, fd, NULL) != TAO_OK)
			host_log("error", "cannot serve a connection: %s", tao_why());
	}
	loop_arm(h, s, EPOLLIN);
}

static void own_destroy(struct host *h, struct source *s)
{
	(void)h;
	close(s->fd);
	s->fd = -1;
}

/* ---- deadlines ---- */

int64_t loop_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Another worker may have the source: it is only shut down, and ends by itself
 * when that makes it ready. While it is in the list its descriptor is open. */
static void sweep_ready(struct host *h, struct source *s, uint32_t events)
{
	struct loop *l = h->loop;
	int64_t now = loop_now(), at;
	uint64_t ticks;

	(void)events;
	if (read(s->fd, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
		host_log("error", "reading the timer: %s", strerror(errno));
	pthread_mutex_lock(&l->lock);
	for (struct source *o = l->first; o != NULL; o = o->next) {
		at = atomic_load(&o->deadline);
		if (at != 0 && now > at)
			shutdown(o->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&l->lock);
	custody_sweep(h->custody, now);
	loop_arm(h, s, EPOLLIN);
}

static enum tao_err start_sweeper(struct host *h)
{
	static const struct itimerspec every = { { SWEEP_SECONDS, 0 }, { SWEEP_SECONDS, 0 } };
	struct source *s = &h->loop->sweeper;

	s->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->ready = sweep_ready;
	s->destroy = own_destroy;
	if (s->fd < 0)
		return tao_fail_sys("making a timer");
	if (timerfd_settime(s->fd, 0, &every, NULL) != 0) {
		own_destroy(h, s);
		return tao_fail_sys("setting a timer");
	}
	return loop_add(h, s, EPOLLIN);
}

/* ---- the socket ---- */

static enum tao_err bind_socket(struct host *h, int fd)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *path = h->conf.socket;
	int on = 1;

	if (strlen(path) > TAO_SOCKET_PATH_MAX)
		return tao_fail(TAO_ELIMIT, "the socket path %s is longer than %d bytes: set a shorter one "
		                "with socket = in taod.conf", path, TAO_SOCKET_PATH_MAX);
	strcpy(at.sun_path, path);
	/* DIR/lock is ours: a socket that is there is a dead host's. */
	if (unlink(path) != 0 && errno != ENOENT)
		return tao_fail_sys("removing the old socket %s", path);
	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		return tao_fail_sys("making the socket %s", path);
	if (chmod(path, h->development ? 0600 : 0666) != 0 || listen(fd, BACKLOG) != 0)
		return tao_fail_sys("listening on %s", path);
	return TAO_OK;
}

enum tao_err loop_listen(struct host *h)
{
	struct loop *l = h->loop;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enum tao_err e;

	if (fd < 0)
		return tao_fail_sys("socket");
	e = bind_socket(h, fd);
	if (e != TAO_OK) {
		close(fd);
		return e;
	}
	l->listener.fd = fd;
	l->listener.ready = accept_ready;
	l->listener.destroy = own_destroy;
	e = loop_add(h, &l->listener, EPOLLIN);
	return e == TAO_OK ? start_sweeper(h) : e;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->h->loop;

	cpus_pin(&l->cpus, w->set);
	while (!atomic_load(&l->stopping)) {
		struct epoll_event ev;
		struct source *s;

		if (epoll_wait(l->epoll[w->set], &ev, 1, -1) != 1)
			continue;
		s = ev.data.ptr;
		if (s == NULL) /* woken to stop */
			continue;
		atomic_load(&s->turns);
		s->ready(w->h, s, ev.events);
	}
	return NULL;
}

/* The next deferred source; NULL when the host stops. */
static struct source *next_deferred(struct loop *l)
{
	struct source *s;

	pthread_mutex_lock(&l->lock);
	while (l->later == NULL && !atomic_load(&l->stopping))
		pthread_cond_wait(&l->deferred, &l->lock);
	s = atomic_load(&l->stopping) ? NULL : l->later;
	if (s != NULL) {
		l->later = s->later;
		if (l->later == NULL)
			l->later_end = &l->later;
	}
	pthread_mutex_unlock(&l->lock);
	return s;
}

static void *work_slowly(void *arg)
{
	struct host *h = arg;
	struct source *s;

	while ((s = next_deferred(h->loop)) != NULL)
		s->ready(h, s, 0);
	return NULL;
}

enum tao_err loop_run(struct host *h)
{
	struct loop *l = h->loop;
	uint32_t n = l->cpus.n_sets * SET_THREADS;

	l->workers = calloc(n, sizeof *l->workers);
	if (l->workers == NULL)
		return tao_fail_nomem();
	for (; l->n_workers < n; l->n_workers++) {
		struct worker *w = &l->workers[l->n_workers];

		w->h = h;
		w->set = l->n_workers % l->cpus.n_sets;
		errno = pthread_create(&w->thread, NULL, work, w);
		if (errno != 0)
			return tao_fail_sys("starting a worker");
	}
	for (; l->n_slow < SLOW_THREADS; l->n_slow++) {
		errno = pthread_create(&l->slow[l->n_slow], NULL, work_slowly, h);
		if (errno != 0)
			return tao_fail_sys("starting a worker");
	}
	return TAO_OK;
}

void loop_stop(struct host *h)
{
	struct loop *l = h->loop;
	uint64_t one = 1;

	if (l == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	atomic_store(&l->stopping, 1);
	pthread_cond_broadcast(&l->deferred);
	pthread_mutex_unlock(&l->lock);
	if (write(l->wake, &one, sizeof one) < 0)
		host_log("error", "cannot wake the workers: %s", strerror(errno));
	for (uint32_t i = 0; i < l->n_workers; i++)
		pthread_join(l->workers[i].thread, NULL);
	for (uint32_t i = 0; i < l->n_slow; i++)
		pthread_join(l->slow[i], NULL);
	while (l->first != NULL)
		loop_remove(h, l->first);
	for (uint32_t i = 0; i < l->cpus.n_sets; i++)
		close(l->epoll[i]);
	free(l->epoll);
	close(l->wake);
	free(l->workers);
	pthread_cond_destroy(&l->deferred);
	pthread_mutex_destroy(&l->lock);
	free(l);
	h->loop = NULL;
}
