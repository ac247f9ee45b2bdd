#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "host.h"
#include "peers.h"
#include "landlock.h"
#include "process.h"
#include "root.h"
#include "seccomp.h"
#include "../tao/file.h"

/* A system's host belongs to root or to a user of its own that was given
 * CAP_SYS_PTRACE; without it, a host is an ordinary user's, for development. */
enum tao_err host_check_owner(struct host *h)
{
	struct stat st;
	mode_t mode;

	h->owner = geteuid();
	h->development = h->owner != 0 && !process_may_trace();
	/* Without CAP_SYS_PTRACE an undumpable program cannot be identified. */
	if (h->conf.undumpable == CONF_DEFAULT)
		h->conf.undumpable = h->development ? CONF_NO : CONF_YES;
	if (stat(h->conf.dir, &st) != 0)
		return tao_fail_sys("%s", h->conf.dir);
	if (st.st_uid != h->owner)
		return tao_fail(TAO_EPERM, "%s belongs to user %u, and taod runs as user %u: run "
		                "it as its owner", h->conf.dir, (unsigned)st.st_uid,
		                (unsigned)h->owner);
	/* tao init made it before it was known whose host this becomes. */
	mode = h->development ? 0700 : 0755;
	if ((st.st_mode & 07777) != mode && chmod(h->conf.dir, mode) != 0)
		return tao_fail_sys("cannot set the mode of %s to %o", h->conf.dir, (unsigned)mode);
	return TAO_OK;
}

/* The domain's policy certificate and the openssl.cnf, where programs find them. */
static enum tao_err write_public_files(struct host *h)
{
	struct tao_buf conf = TAO_BUF_INIT;
	enum tao_err e;

	host_openssl_conf(&h->conf, &conf);
	e = tao_buf_err(&conf);
	if (e == TAO_OK)
		e = tao_file_write(h->conf.openssl_conf, conf.p, conf.n, 0644, TAO_FILE_KEEP);
	if (e == TAO_OK)
		e = cert_publish_policy(h);
	tao_buf_free(&conf);
	return e;
}

static enum tao_err write_pid(struct host *h)
{
	char text[32], *path = host_path(&h->conf, "run/taod.pid");
	enum tao_err e;

	if (path == NULL)
		return tao_fail_nomem();
	e = tao_file_write(path, text, (size_t)snprintf(text, sizeof text, "%d\n", (int)getpid()),
	                   0644, 0);
	if (e != TAO_OK) { /* people's scripts read it; the host does not need it */
		host_log("warning", "%s", tao_why());
		unlink(path);
	}
	free(path);
	return TAO_OK;
}

/* tao(1) beside this program, or where it is installed: only if nobody else
 * can change it. */
static void find_tao(struct host *h)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);
	struct stat st;
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (slash != NULL)
		strcpy(slash, "/tao");
	if (slash == NULL || stat(path, &st) != 0)
		if (stat(TAO_BINDIR "/tao", &st) != 0)
			return;
	h->has_tao = S_ISREG(st.st_mode) && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
	             (st.st_uid == 0 || st.st_uid == h->owner);
	file_id_of_exe(&st, &h->tao);
}

/* Before there are threads: they inherit it. */
static void restrict_files(struct host *h)
{
	if (h->conf.sandbox == CONF_NO)
		return;
	h->guards.landlock = landlock_keeper(h->conf.dir, h->conf.socket);
	if (h->guards.landlock == 0)
		host_log("notice", "%s", tao_why());
}

/* What the kernel refuses is told here and in tao status. */
static void filter_calls(struct host *h)
{
	if (h->conf.sandbox == CONF_NO)
		host_log("notice", "no sandbox: sandbox = no in taod.conf");
	else
		h->guards.seccomp = seccomp_keeper();
	if (h->conf.sandbox != CONF_NO && !h->guards.seccomp)
		host_log("notice", "%s", tao_why());
}

/* Nothing is executed in the sandbox; without one, a new measurer would lack the capability. */
static void lost_measurer(void *arg)
{
	struct host *h = arg;

	if (atomic_exchange(&h->lost_measurer, 1))
		return;
	host_log("error", "the measurer was killed, so nobody can be told from anybody: taod ends, "
	         "start it again");
	kill(getpid(), SIGTERM);
}

/* Armed no more. */
static void measurer_over(struct host *h, struct source *s, uint32_t events)
{
	(void)s;
	(void)events;
	lost_measurer(h);
}

static void measurer_unwatch(struct host *h, struct source *s)
{
	(void)h;
	close(s->fd);
	free(s);
}

/* Its end is noticed at once; where the kernel has no pidfd, when it is asked next. */
static enum tao_err watch_measurer(struct host *h)
{
	struct source *s = calloc(1, sizeof *s);

	if (s == NULL)
		return tao_fail_nomem();
	s->ready = measurer_over;
	s->destroy = measurer_unwatch;
	s->fd = (int)syscall(SYS_pidfd_open, measurer_pid(h->measurer), 0);
	if (s->fd >= 0)
		return loop_add(h, s, EPOLLIN);
	free(s);
	return TAO_OK;
}

static void instance_over(struct host *h, struct instance *i)
{
	peers_instance_end(h, i);
	audit_instance_end(h, i);
}

enum tao_err host_start(struct host *h, const struct tao_buf *pass)
{
	unsigned stale = tao_dir_sweep(h->conf.dir); /* DIR/lock is ours */
	enum tao_err e = h->conf.root->load(h, pass);

	if (stale > 0)
		host_log("info", "removed %u temporary files of a taod that was killed", stale);
	h->since = time(NULL);
	clock_start(h);
	find_tao(h);
	if (e == TAO_OK)
		e = sealing_start(h);
	if (e == TAO_OK)
		e = measurer_start("/proc/self/exe", (int)h->owner, &h->measurer);
	if (e != TAO_OK)
		return e;
	measurer_is_last(h->measurer, lost_measurer, h);
	h->guards.capabilities = process_drop_capabilities();
	restrict_files(h);
	h->limits = limits_new();
	h->registry = registry_new(&h->conf);
	h->custody = custody_new();
	h->log = log_new();
	h->inside = inside_new();
	if (h->limits == NULL || h->registry == NULL || h->inside == NULL || h->custody == NULL)
		return tao_fail_nomem();
	registry_on_end(h->registry, instance_over, h);
	e = h->conf.root->serve != NULL ? h->conf.root->serve(h) : TAO_OK;
	if (e == TAO_OK)
		e = write_public_files(h);
	if (e == TAO_OK)
		e = audit_start(h, &h->audit);
	if (e == TAO_OK)
		e = loop_new(h, &h->loop);
	if (e == TAO_OK)
		e = peers_start(h);
	if (e == TAO_OK)
		e = recall_open(h);
	if (e == TAO_OK)
		e = loop_listen(h);
	if (e == TAO_OK)
		e = renew_start(h);
	if (e == TAO_OK)
		e = peers_watch(h);
	if (e == TAO_OK)
		e = watch_measurer(h);
	if (e == TAO_OK)
		e = clock_watch(h);
	if (e == TAO_OK)
		e = write_pid(h);
	if (e == TAO_OK)
		filter_calls(h);
	if (e == TAO_OK)
		e = loop_run(h);
	return e;
}

void host_end(struct host *h)
{
	char *pid = h->conf.dir != NULL ? host_path(&h->conf, "run/taod.pid") : NULL;

	recall_close(h);
	loop_stop(h);
	if (h->conf.root != NULL && h->conf.root->end != NULL)
		h->conf.root->end(h);
	if (h->conf.socket != NULL)
		unlink(h->conf.socket);
	if (pid != NULL)
		unlink(pid);
	free(pid);
	audit_stop(h);
	peers_free(h);
	registry_free(h->registry);
	recall_free(h->recall);
	limits_free(h->limits);
	custody_free(h->custody);
	sealing_end(h);
	inside_free(h->inside);
	log_free(h->log);
	h->log = NULL;
	measurer_stop(h->measurer);
	domain_free(h->domain);
	tao_node_free(h->name);
	tao_sealer_clear(&h->sealer);
	tao_signer_clear(&h->signer);
	host_conf_clear(&h->conf);
}
