#include "progsock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../tao/file.h"

#define BACKLOG 64
#define SUFFIX ".sock"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

struct progsock {
	struct source source;
	struct instance *inst;
};

/* ---- who connects ---- */

/* Holds the process: without the kernel's own, it may be a later one with its number, if the
 * connecting one ended in this moment. */
static int hold_peer(const struct conn *c)
{
	int fd = -1;
	socklen_t n = sizeof fd;

	if (getsockopt(c->source.fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) == 0)
		return fd;
	if (errno != ENOPROTOOPT)
		return -1;
	return (int)syscall(SYS_pidfd_open, c->pid, 0);
}

static int lives(int pidfd)
{
	struct pollfd p = { pidfd, POLLIN, 0 };

	return pidfd >= 0 && poll(&p, 1, 0) == 0;
}

static enum tao_err look(struct host *h, const struct conn *c, struct process_view *v)
{
	struct instance *i = c->at;
	uint64_t exec;
	enum tao_err e = measurer_process(h->measurer, c->pid, v);

	if (e != TAO_OK)
		return e;
	instance_learn(h, i);
	exec = atomic_load(&i->exec);
	if (exec == 0 || v->exec != exec || !instance_runs_as(i, v))
		return tao_fail(TAO_EDENIED, "this socket is for %s as 'tao run' started it, and "
		                "process %d is none of its forks: start a program with its own "
		                "'tao run --channel=unix'", i->program, (int)c->pid);
	/* It is the one that was looked at, if it still has its number. */
	if (!lives(c->pidfd))
		return tao_fail(TAO_EDENIED, "process %d has ended", (int)c->pid);
	return TAO_OK;
}

void progsock_accepted(struct host *h, struct conn *c)
{
	struct process_view v;
	enum tao_err e;

	c->pidfd = hold_peer(c);
	e = look(h, c, &v);
	if (e == TAO_OK)
		e = conn_count_in(h, c->at);
	if (e == TAO_OK) {
		conn_named(h, c, c->at, &v);
		c->inst = instance_ref(c->at);
		return;
	}
	c->stranger = strdup(tao_why());
	host_log_of(h, c->uid, "warning", "process %d of user %u on the socket of instance %llu: "
	            "%s", (int)c->pid, (unsigned)c->uid, (unsigned long long)c->at->id, tao_why());
}

enum tao_err progsock_check(struct host *h, struct conn *c)
{
	struct process_view v;

	if (c->inst == NULL)
		return tao_fail(TAO_EDENIED, "%s",
		                c->stranger != NULL ? c->stranger : "out of memory");
	loop_may_wait(h, &c->source);
	return look(h, c, &v);
}

/* ---- the socket ---- */

char *progsock_path(struct host *h, const struct instance *i)
{
	return host_path(&h->conf, "run/programs/%llu" SUFFIX, (unsigned long long)i->id);
}

static void progsock_destroy(struct host *h, struct source *s)
{
	struct progsock *p = (struct progsock *)s;

	(void)h;
	close(s->fd);
	instance_unref(p->inst);
	free(p);
}

static void accept_one(struct host *h, struct progsock *p, int fd)
{
	if (conn_add_at(h, fd, p->inst) != TAO_OK)
		host_log_of(h, p->inst->uid, "error",
		            "cannot serve a connection to the socket of instance %llu: %s",
		            (unsigned long long)p->inst->id, tao_why());
}

/* After progsock_close() there is nothing to accept any more, which is EINVAL. */
static void progsock_ready(struct host *h, struct source *s, uint32_t events)
{
	int fd = 0;

	(void)events;
	loop_may_wait(h, s);
	for (uint32_t i = 0; i < s->quota && fd >= 0; i++) {
		fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			accept_one(h, (struct progsock *)s, fd);
	}
	if (fd < 0 && errno == EINVAL) {
		loop_remove(h, s);
		return;
	}
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		loop_accept_pause(h);
	loop_arm(h, s, EPOLLIN);
}

/* As with the host's socket, everybody may connect, on a system's host: a program may have
 * changed its user. */
static enum tao_err bind_at(struct host *h, int fd, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int on = 1;

	if (strlen(path) > TAO_SOCKET_PATH_MAX)
		return tao_fail(TAO_ELIMIT, "the socket path %s is longer than %d bytes: move the "
		                "host to a directory with a shorter name", path,
		                TAO_SOCKET_PATH_MAX);
	strcpy(at.sun_path, path);
	if (unlink(path) != 0 && errno != ENOENT)
		return tao_fail_sys("removing the old socket %s", path);
	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		return tao_fail_sys("making the socket %s", path);
	if (chmod(path, h->development ? 0600 : 0666) != 0 || listen(fd, BACKLOG) != 0) {
		tao_fail_sys("listening on %s", path);
		unlink(path);
		return TAO_ESYS;
	}
	return TAO_OK;
}

static enum tao_err make_dir(struct host *h)
{
	char *dir = host_path(&h->conf, "run/programs");
	enum tao_err e = dir != NULL ? tao_dir_make(dir, h->development ? 0700 : 0755)
	                             : tao_fail_nomem();

	free(dir);
	return e;
}

/* A second descriptor is the instance's, to end the listening by: the source may be any
 * worker's at that time. Takes fd. */
static enum tao_err serve(struct host *h, struct instance *i, int fd)
{
	struct progsock *p = calloc(1, sizeof *p);
	int own = p != NULL ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;

	if (own < 0) {
		enum tao_err e = p != NULL
		                 ? tao_fail_sys("the socket of a program") : tao_fail_nomem();

		free(p);
		close(fd);
		return e;
	}
	i->progsock = own;
	p->source.fd = fd;
	p->source.ready = progsock_ready;
	p->source.destroy = progsock_destroy;
	p->source.flow = FLOW_INSTANCE(i);
	p->inst = instance_ref(i);
	return loop_add(h, &p->source, EPOLLIN);
}

enum tao_err progsock_open(struct host *h, struct instance *i)
{
	char *path = progsock_path(h, i);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();

	i->has_progsock = 1;
	if (e == TAO_OK && fd < 0)
		e = tao_fail_sys("socket");
	if (e == TAO_OK)
		e = make_dir(h);
	if (e == TAO_OK)
		e = bind_at(h, fd, path);
	if (e == TAO_OK) {
		e = serve(h, i, fd);
		fd = -1;
	}
	if (fd >= 0)
		close(fd);
	free(path);
	return e;
}

void progsock_close(struct host *h, struct instance *i)
{
	char *path;

	if (i->progsock == 0)
		return;
	path = progsock_path(h, i);
	if (path != NULL)
		unlink(path);
	free(path);
	shutdown(i->progsock, SHUT_RDWR);
	close(i->progsock);
	i->progsock = 0;
}

void progsock_sweep(struct host *h)
{
	char *dir = host_path(&h->conf, "run/programs");
	DIR *d = dir != NULL ? opendir(dir) : NULL;
	struct dirent *de;

	while (d != NULL && (de = readdir(d)) != NULL) {
		const char *end = strrchr(de->d_name, '.');

		if (end != NULL && strcmp(end, SUFFIX) == 0)
			unlinkat(dirfd(d), de->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	free(dir);
}
