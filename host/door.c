#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

#define DOORS_MAX 256 /* of one instance: the processes of it that asked for one */

struct door {
	struct source source;
	struct instance *inst;
	uint64_t exec;
};

static void door_destroy(struct host *h, struct source *s)
{
	struct door *d = (struct door *)s;
	struct instance *i = d->inst;

	conn_drain(s->fd);
	close(s->fd);
	/* With its connections gone too, another thread would find that it is over. */
	atomic_fetch_add(&i->watched, 1);
	if (atomic_fetch_sub(&i->door_open, 1) == 1 && atomic_load(&i->ended) &&
	    !atomic_load(&i->by_member))
		recall_watch(h, i);
	atomic_fetch_sub(&i->watched, 1);
	registry_settle(h->registry, i);
	instance_unref(i);
	free(d);
}

/* Only a local stream connection is served: the host writes to what comes here. */
static int is_local_stream(int fd)
{
	int domain = 0, type = 0, listens = 0;
	socklen_t n = sizeof domain, m = sizeof type, l = sizeof listens;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &l) == 0 && !listens;
}

/* Takes one descriptor from the door: 1 served, 0 nothing there, -1 the end. */
static int door_take(struct host *h, struct door *d)
{
	int fd = -1, r = conn_take_fd(d->source.fd, &fd);

	if (fd >= 0 && !is_local_stream(fd)) {
		host_log_of(h, d->inst->uid, "warning",
		            "%s sent something else than a connection through its door",
		         d->inst->program);
		conn_close_foreign(fd);
	} else if (fd >= 0 && conn_add(h, fd, d->inst, d->exec) != TAO_OK) {
		host_log_of(h, d->inst->uid, "error", "cannot serve a connection: %s", tao_why());
	}
	return r;
}

static void door_ready(struct host *h, struct source *s, uint32_t events)
{
	int r = 1;

	(void)events;
	for (uint32_t i = 0; r == 1 && i < s->quota; i++)
		r = door_take(h, (struct door *)s);
	if (r < 0)
		loop_remove(h, s);
	else
		loop_arm(h, s, EPOLLIN);
}

enum tao_err door_add(struct host *h, struct instance *i, uint64_t exec, int *program_end)
{
	struct door *d = calloc(1, sizeof *d);
	struct stat st;
	int pair[2];
	enum tao_err e;

	if (d == NULL)
		return tao_fail_nomem();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		free(d);
		return tao_fail_sys("socketpair");
	}
	d->source.fd = pair[0];
	d->source.ready = door_ready;
	d->source.destroy = door_destroy;
	d->source.flow = FLOW_INSTANCE(i);
	d->inst = instance_ref(i);
	d->exec = exec;
	i->door = fstat(pair[1], &st) == 0 ? st.st_ino : 0;
	atomic_fetch_add(&i->door_open, 1);
	e = loop_add(h, &d->source, EPOLLIN);
	if (e != TAO_OK)
		close(pair[1]);
	else
		*program_end = pair[1];
	return e;
}

enum tao_err op_door(struct request *r)
{
	struct conn *c = r->c;
	int end;
	enum tao_err e;

	if (c->n_send_fds > 0)
		return tao_fail(TAO_EPROTO, "one Tao.Door at a time");
	if (atomic_load(&r->inst->door_open) >= DOORS_MAX)
		return tao_fail(TAO_ELIMIT, "%s has %d doors open: end some of its processes",
		                r->inst->program, DOORS_MAX);
	e = door_add(r->h, r->inst, c->exec, &end);
	if (e == TAO_OK)
		c->send_fds[c->n_send_fds++] = end;
	return e;
}

/* ---- the end of a registered process ---- */

static void watch_destroy(struct host *h, struct source *s)
{
	struct door *d = (struct door *)s;

	close(s->fd);
	atomic_fetch_sub(&d->inst->watched, 1);
	registry_settle(h->registry, d->inst);
	instance_unref(d->inst);
	free(d);
}

static void watch_ready(struct host *h, struct source *s, uint32_t events)
{
	struct instance *i = ((struct door *)s)->inst;

	(void)events;
	/* First this, then that: at the same time the last door may close, whose thread looks at
	 * both. */
	atomic_store(&i->ended, 1);
	atomic_store(&i->by_member, 0);
	if (!atomic_load(&i->door_open))
		recall_watch(h, i);
	loop_remove(h, s);
}

enum tao_err watch_add(struct host *h, struct instance *i, int pidfd)
{
	struct door *w = calloc(1, sizeof *w);

	if (w == NULL) {
		close(pidfd);
		return tao_fail_nomem();
	}
	w->source.fd = pidfd;
	w->source.ready = watch_ready;
	w->source.destroy = watch_destroy;
	w->inst = instance_ref(i);
	atomic_fetch_add(&i->watched, 1);
	return loop_add(h, &w->source, EPOLLIN);
}
