#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cpus.h"
#include "host.h"

#define BACKLOG 1024
#define SET_THREADS 2         /* of one set: a second for when the first waits for the measurer */
#define POOL_USERS 2          /* so many users fill a pool */
#define COMPUTE_NICE 10       /* of POOL_COMPUTES: a tenth of the CPU where a worker wants it */
#define COMPUTE_SLICE_NS 100000 /* the least there is */
#define TURN 16               /* requests, or connections to accept, of a flow that is alone */
#define TURN_SHARED 1         /* of one among others */
#define ALONE_AFTER 64        /* turns of one flow in a row, then it counts as alone */
#define EVENTS 16             /* taken from the kernel at a time */
#define ACCEPT_PAUSE_US 10000 /* when descriptors have run out */
#define SWEEP_SECONDS 5       /* between looks at deadlines */

/* The workers of one CPU: what is ready takes turns by its flow. */
struct set {
	int epoll;
	int more;              /* wakes another worker of the set */
	pthread_mutex_t lock;  /* ready */
	struct fair ready;
	atomic_uint n_ready;
	_Atomic uint64_t last; /* flow of the last turn */
	atomic_uint shared;    /* turns to go until last counts as alone */
};

/* Threads for what takes long. */
struct slow_pool {
	struct host *h;
	enum pool which;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct fair queue;
	pthread_t *threads;
	uint32_t n;
};

struct worker {
	struct host *h;
	struct set *set;
	uint32_t cpus;       /* which set */
	pthread_t thread;
};

struct loop {
	struct cpus cpus;
	struct set *sets;
	uint32_t n_sets;      /* opened */
	int wake;
	struct source listener, sweeper;
	pthread_mutex_t lock; /* the lists */
	struct source *first;
	atomic_int stopping;
	struct worker *workers;
	uint32_t n_workers;
	struct slow_pool pools[LIMIT_POOLS];
};

static enum tao_err set_open(struct set *s, int wake)
{
	struct epoll_event stop = { .events = EPOLLIN, .data.ptr = NULL };
	/* Never read: each write is an edge, which wakes one. */
	struct epoll_event more = { .events = EPOLLIN | EPOLLET, .data.ptr = s };

	pthread_mutex_init(&s->lock, NULL);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->more = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, wake, &stop) != 0 ||
	    epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->more, &more) != 0)
		return tao_fail_sys("making the event loop");
	return TAO_OK;
}

static void set_close(struct set *s)
{
	close(s->epoll);
	close(s->more);
	pthread_mutex_destroy(&s->lock);
}

enum tao_err loop_new(struct host *h, struct loop **out)
{
	struct loop *l = calloc(1, sizeof *l);
	enum tao_err e = TAO_OK;

	if (l == NULL)
		return tao_fail_nomem();
	cpus_read(&l->cpus, h->conf.workers);
	l->sets = calloc(l->cpus.n_sets, sizeof *l->sets);
	if (l->sets == NULL) {
		free(l);
		return tao_fail_nomem();
	}
	pthread_mutex_init(&l->lock, NULL);
	for (int i = 0; i < LIMIT_POOLS; i++) {
		l->pools[i].h = h;
		l->pools[i].which = (enum pool)i;
		pthread_mutex_init(&l->pools[i].lock, NULL);
		pthread_cond_init(&l->pools[i].more, NULL);
	}
	l->listener.fd = l->sweeper.fd = -1;
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*out = h->loop = l;
	for (; e == TAO_OK && l->n_sets < l->cpus.n_sets; l->n_sets++)
		e = set_open(&l->sets[l->n_sets], l->wake);
	return e;
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
	if (epoll_ctl(l->sets[s->set].epoll, EPOLL_CTL_ADD, s->fd, &ev) == 0)
		return TAO_OK;
	tao_fail_sys("watching a descriptor");
	loop_remove(h, s);
	return TAO_ESYS;
}

void loop_arm(struct host *h, struct source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLONESHOT, .data.ptr = s };
	const struct set *sets = h->loop->sets;
	int from = sets[s->set].epoll, to = sets[s->next_set].epoll, fd = s->fd;

	if (from != to)
		epoll_ctl(from, EPOLL_CTL_DEL, fd, NULL);
	s->set = s->next_set;
	atomic_fetch_add(&s->turns, 1); /* once it is armed it is another worker's */
	if (epoll_ctl(to, from != to ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) != 0)
		loop_remove(h, s); /* out of memory: the caller tries again */
}

void loop_defer(struct host *h, struct source *s, enum pool pool)
{
	struct slow_pool *p = &h->loop->pools[pool];

	pthread_mutex_lock(&p->lock);
	fair_put(&p->queue, &s->item, s->flow);
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

void loop_may_wait(struct host *h, struct source *s)
{
	struct set *set = &h->loop->sets[s->set];
	uint64_t one = 1;

	if (atomic_load(&set->n_ready) > 0 && write(set->more, &one, sizeof one) < 0)
		host_log("error", "cannot wake a worker: %s", strerror(errno));
}

void loop_follow(struct host *h, struct source *s, int cpu)
{
	s->next_set = cpus_set(&h->loop->cpus, cpu);
}

void loop_remove(struct host *h, struct source *s)
{
	struct loop *l = h->loop;

	epoll_ctl(l->sets[s->set].epoll, EPOLL_CTL_DEL, s->fd, NULL);
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

static void accept_one(struct host *h, int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t n = sizeof peer;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n);
	if (conn_add(h, fd, NULL, 0) != TAO_OK)
		host_log_of(h, peer.uid, "error", "cannot serve a connection: %s", tao_why());
}

void loop_accept_pause(struct host *h)
{
	host_log_of(h, LOG_NOBODY, "error", "cannot accept a connection: %s: raise LimitNOFILE",
	            strerror(errno));
	usleep(ACCEPT_PAUSE_US);
}

static void accept_ready(struct host *h, struct source *s, uint32_t events)
{
	(void)events;
	for (uint32_t i = 0; i < s->quota; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
			loop_accept_pause(h);
		if (fd < 0)
			break;
		accept_one(h, fd);
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
	clock_look(h);
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
		return tao_fail(TAO_ELIMIT, "the socket path %s is longer than %d bytes: set a "
		                "shorter one with socket = in taod.conf", path,
		                TAO_SOCKET_PATH_MAX);
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

/* ---- workers ---- */

/* Whether others want the CPU too is remembered for a while: who asks again as
 * soon as it is answered is not there at the moment of looking. */
static void serve(struct host *h, struct set *set, struct source *s)
{
	uint32_t shared = atomic_load_explicit(&set->shared, memory_order_relaxed);

	if (atomic_load_explicit(&set->last, memory_order_relaxed) != s->flow) {
		atomic_store_explicit(&set->last, s->flow, memory_order_relaxed);
		shared = ALONE_AFTER;
	} else if (shared > 0) {
		shared--;
	}
	atomic_store_explicit(&set->shared, shared, memory_order_relaxed);
	s->quota = shared > 0 ? TURN_SHARED : TURN;
	s->ready(h, s, s->events);
}

/* The source of an event, with all that the thread wrote which armed it. */
static struct source *taken_on(const struct epoll_event *ev)
{
	struct source *s = ev->data.ptr;

	atomic_load(&s->turns);
	s->events = ev->events;
	return s;
}

/* Puts what is ready into the queue, if there is more than one; the next one to serve. */
static struct source *next_ready(struct set *set, struct epoll_event *ev, int n)
{
	struct fair_item *item;

	pthread_mutex_lock(&set->lock);
	for (int i = 0; i < n; i++) {
		struct source *s;

		if (ev[i].data.ptr == NULL || ev[i].data.ptr == set) /* woken */
			continue;
		s = taken_on(&ev[i]);
		fair_put(&set->ready, &s->item, s->flow);
	}
	item = fair_take(&set->ready, NULL, NULL);
	atomic_store(&set->n_ready, set->ready.n);
	pthread_mutex_unlock(&set->lock);
	return (struct source *)item;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->h->loop;
	struct set *set = w->set;

	cpus_pin(&l->cpus, w->cpus);
	while (!atomic_load(&l->stopping)) {
		struct epoll_event ev[EVENTS];
		int n = epoll_wait(set->epoll, ev, EVENTS, atomic_load(&set->n_ready) > 0 ? 0 : -1);
		struct source *s;

		if (n == 1 && atomic_load(&set->n_ready) == 0 && ev[0].data.ptr != NULL &&
		    ev[0].data.ptr != set)
			s = taken_on(&ev[0]);
		else
			s = next_ready(set, ev, n);
		if (s != NULL)
			serve(w->h, set, s);
	}
	return NULL;
}

/* ---- threads for what takes long ---- */

static int user_may(const struct fair_item *item, void *arg)
{
	const struct slow_pool *p = arg;
	const struct limit_user *u = ((const struct source *)item)->user;

	return u == NULL || u->running[p->which] < p->h->conf.max_slow_per_user;
}

/* The next deferred source; NULL when the host stops. */
static struct source *next_deferred(struct slow_pool *p)
{
	struct loop *l = p->h->loop;
	struct source *s = NULL;

	pthread_mutex_lock(&p->lock);
	while (!atomic_load(&l->stopping) &&
	       (s = (struct source *)fair_take(&p->queue, user_may, p)) == NULL)
		pthread_cond_wait(&p->more, &p->lock);
	if (s != NULL && s->user != NULL) {
		atomic_fetch_add(&s->user->holds, 1);
		s->user->running[p->which]++;
	}
	pthread_mutex_unlock(&p->lock);
	return s;
}

/* The source may be gone by now. */
static void ran(struct slow_pool *p, struct limit_user *u)
{
	if (u == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	u->running[p->which]--;
	pthread_cond_signal(&p->more); /* what this user has waiting */
	pthread_mutex_unlock(&p->lock);
	atomic_fetch_sub(&u->holds, 1);
}

/* As struct sched_attr of linux/sched/types.h, which cannot be included beside sched.h. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* Nice alone is not enough: who wakes up would still wait for the end of this thread's slice.
 * Linux before 6.12 does not know slices and leaves it at the nice value. */
static void step_back(void)
{
	struct attr a = { .size = sizeof a, .nice = COMPUTE_NICE, .runtime = COMPUTE_SLICE_NS };

	if (syscall(SYS_sched_setattr, 0, &a, 0) != 0)
		setpriority(PRIO_PROCESS, (id_t)gettid(), COMPUTE_NICE);
}

static void *work_slowly(void *arg)
{
	struct slow_pool *p = arg;
	struct source *s;

	if (p->which == POOL_COMPUTES)
		step_back();
	while ((s = next_deferred(p)) != NULL) {
		struct limit_user *u = s->user;

		s->quota = TURN_SHARED;
		s->ready(p->h, s, 0);
		ran(p, u);
	}
	return NULL;
}

static enum tao_err start_pool(struct slow_pool *p)
{
	uint32_t n = POOL_USERS * p->h->conf.max_slow_per_user;

	p->threads = calloc(n, sizeof *p->threads);
	if (p->threads == NULL)
		return tao_fail_nomem();
	for (; p->n < n; p->n++) {
		errno = pthread_create(&p->threads[p->n], NULL, work_slowly, p);
		if (errno != 0)
			return tao_fail_sys("starting a thread for slow operations");
	}
	return TAO_OK;
}

enum tao_err loop_run(struct host *h)
{
	struct loop *l = h->loop;
	uint32_t n = l->cpus.n_sets * SET_THREADS;
	enum tao_err e = TAO_OK;

	l->workers = calloc(n, sizeof *l->workers);
	if (l->workers == NULL)
		return tao_fail_nomem();
	for (; l->n_workers < n; l->n_workers++) {
		struct worker *w = &l->workers[l->n_workers];

		w->h = h;
		w->cpus = l->n_workers % l->cpus.n_sets;
		w->set = &l->sets[w->cpus];
		errno = pthread_create(&w->thread, NULL, work, w);
		if (errno != 0)
			return tao_fail_sys("starting a worker");
	}
	for (int i = 0; e == TAO_OK && i < LIMIT_POOLS; i++)
		e = start_pool(&l->pools[i]);
	return e;
}

static void stop_pool(struct slow_pool *p)
{
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (uint32_t i = 0; i < p->n; i++)
		pthread_join(p->threads[i], NULL);
	free(p->threads);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
}

void loop_stop(struct host *h)
{
	struct loop *l = h->loop;
	uint64_t one = 1;

	if (l == NULL)
		return;
	atomic_store(&l->stopping, 1);
	if (write(l->wake, &one, sizeof one) < 0)
		host_log("error", "cannot wake the workers: %s", strerror(errno));
	for (uint32_t i = 0; i < l->n_workers; i++)
		pthread_join(l->workers[i].thread, NULL);
	for (int i = 0; i < LIMIT_POOLS; i++)
		stop_pool(&l->pools[i]);
	while (l->first != NULL)
		loop_remove(h, l->first);
	for (uint32_t i = 0; i < l->n_sets; i++)
		set_close(&l->sets[i]);
	free(l->sets);
	close(l->wake);
	free(l->workers);
	pthread_mutex_destroy(&l->lock);
	free(l);
	h->loop = NULL;
}
