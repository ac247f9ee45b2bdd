#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "host.h"

static enum tao_err not_run(void)
{
	return tao_fail(TAO_ENOTRUN, "this process was not started with 'tao run', so it has no name "
	                "and no keys here: start it as 'tao run PROGRAM ARGS'");
}

/* From here to conn_prove() the descriptor holds the process: if it still
 * lives then, the number was not given to another in between. */
enum tao_err conn_hello(struct host *h, struct conn *c)
{
	(void)h;
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0)
		return not_run();
	if (RAND_bytes(c->challenge, sizeof c->challenge) != 1)
		return tao_fail_crypto("drawing a challenge");
	c->state = CONN_HELLO;
	return TAO_OK;
}

static int still_alive(int pidfd)
{
	struct pollfd p = { pidfd, POLLIN, 0 };

	return poll(&p, 1, 0) == 0;
}

/* A process that executes a program after it sent requests must not have them
 * answered as that program's: so none may be there yet. */
static enum tao_err nothing_behind(const struct conn *c)
{
	char byte;

	if (c->behind == 0 && recv(c->source.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
		return TAO_OK;
	return tao_fail(TAO_EPROTO, "a request came before Tao.Prove was answered");
}

/* The installed tao, started by a program itself, speaks for that program:
 * scripts have no other voice. */
static int speaks_for(struct host *h, const struct instance *i, const struct process_view *v)
{
	struct process_view parent;

	return h->has_tao && file_id_equal(&v->exe, &h->tao) &&
	       measurer_process(h->measurer, v->ppid, &parent) == TAO_OK &&
	       parent.start <= v->start && file_id_equal(&parent.exe, &i->file);
}

static enum tao_err identify(struct host *h, struct conn *c, struct instance **out)
{
	struct process_view v;
	struct instance *i = NULL;
	enum tao_err e = TAO_OK;

	if (c->via != NULL)
		i = instance_ref(c->via);
	else
		e = registry_find(h, c->pid, &i);
	if (e == TAO_OK)
		e = measurer_process(h->measurer, c->pid, &v);
	if (e == TAO_OK && !file_id_equal(&v.exe, &i->file) && !speaks_for(h, i, &v))
		e = tao_fail(TAO_ENOTRUN, "this process runs another executable than %s, which 'tao run' "
		             "started: give it a name of its own with 'tao run PROGRAM ARGS'", i->program);
	if (e == TAO_OK && !still_alive(c->pidfd))
		e = not_run();
	if (e == TAO_OK)
		e = nothing_behind(c);
	if (e == TAO_OK && c->via == NULL)
		e = conn_count_in(i);
	if (e == TAO_OK) {
		if (c->via == NULL)
			loop_dismiss(h, c->uid);
		atomic_store(&i->last_pid, c->pid);
		if (file_id_equal(&v.exe, &i->file))
			recall_member(i, c->pid, v.start);
		*out = i;
	} else {
		instance_unref(i);
	}
	return e;
}

enum tao_err conn_prove(struct host *h, struct conn *c, const void *challenge, size_t n)
{
	enum tao_err e;

	if (n != sizeof c->challenge || CRYPTO_memcmp(challenge, c->challenge, n) != 0)
		e = tao_fail(TAO_EPROTO, "the challenge came back wrong");
	else if (c->sender != c->pid)
		e = tao_fail(TAO_EDENIED, "process %d answered the challenge of process %d",
		             (int)c->sender, (int)c->pid);
	else
		e = identify(h, c, &c->inst);
	close(c->pidfd);
	c->pidfd = -1;
	c->state = e == TAO_OK ? CONN_PROGRAM : CONN_NEW;
	return e;
}
