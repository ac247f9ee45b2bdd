#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "host.h"

static enum tao_err not_run(void)
{
	return tao_fail(TAO_ENOTRUN, "this process was not started with 'tao run', so it has no "
	                "name and no keys here: start it as 'tao run PROGRAM ARGS'");
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

static int is_start(const struct instance *i, const struct process_view *v)
{
	return v->start == i->start && v->uid == i->uid && v->exec != 0 && v->exec != i->before &&
	       file_id_equal(&v->exe, &i->file);
}

static int learned(struct instance *i, const struct process_view *v)
{
	atomic_store(&i->exec, v->exec);
	recall_changed(i);
	return 1;
}

/* At the exec itself, so whatever the program did since. Two threads may ask at once. */
static int learn_seen(struct host *h, struct instance *i)
{
	struct process_view v;
	enum tao_err e;

	if (!atomic_load(&i->held))
		return 0;
	e = measurer_seen(h->measurer, i->id, &v);
	if (e == TAO_OK && is_start(i, &v))
		learned(i, &v);
	if (e != TAO_EBUSY)
		atomic_store(&i->held, 0);
	return atomic_load(&i->exec) != 0;
}

int instance_learn(struct host *h, struct instance *i)
{
	struct process_view v;
	enum tao_err e;

	if ((i->interpreter && i->args_n == 0) || atomic_load(&i->exec) != 0 || learn_seen(h, i))
		return 1;
	e = i->interpreter ? measurer_started(h->measurer, i->pid, i->args, i->args_n, &v)
	                   : measurer_process(h->measurer, i->pid, &v);
	return e == TAO_OK && is_start(i, &v) && learned(i, &v);
}

static int is_of(struct host *h, const struct instance *i, const struct process_view *v)
{
	return instance_runs_as(i, v) && instance_is_own(h, i, v);
}

static int is_of_door(struct host *h, const struct conn *c, const struct process_view *v)
{
	return (c->via_exec != 0 && c->via_exec == v->exec && instance_runs_as(c->via, v)) ||
	       is_of(h, c->via, v);
}

/* The instance that this process belongs to, or is inside of, or neither. */
static enum tao_err find(struct host *h, struct conn *c, const struct process_view *v,
                         struct instance **out, struct instance **around)
{
	enum tao_err e;

	*out = *around = NULL;
	if (c->via != NULL && is_of_door(h, c, v)) {
		*out = instance_ref(c->via);
		return TAO_OK;
	}
	e = registry_find(h, c->pid, v, out, around);
	/* Whose door it has counts more than what it descends from. */
	if (*out == NULL && c->via != NULL && (c->via->before == 0 || c->via->before != v->exec)) {
		instance_unref(*around);
		*around = instance_ref(c->via);
		e = TAO_OK;
	}
	return e;
}

/* The installed tao, started by a program itself, speaks for that program:
 * scripts have no other voice. An orphan's parent did not start it, but whoever
 * did could not have done so as another user. */
static struct instance *spoken_for(struct host *h, struct conn *c, const struct process_view *v)
{
	struct process_view parent;
	struct instance *i, *around;

	if (!h->has_tao || !file_id_equal(&v->exe, &h->tao) ||
	    measurer_process(h->measurer, v->ppid, &parent) != TAO_OK || parent.start > v->start ||
	    parent.uid != v->uid)
		return NULL;
	if (c->via != NULL && is_of(h, c->via, &parent))
		return instance_ref(c->via);
	registry_find(h, parent.pid, &parent, &i, &around);
	instance_unref(around);
	return i;
}

/* Belonging to another's name is decided first, then a name for itself. */
static enum tao_err whose(struct host *h, struct conn *c, const struct process_view *v,
                          int may_be_slow, struct instance **out)
{
	struct instance *i, *around;
	enum tao_err e = find(h, c, v, &i, &around);

	if (e == TAO_OK && around != NULL) {
		instance_learn(h, around);
		i = is_of(h, around, v) ? instance_ref(around) : spoken_for(h, c, v);
		e = TAO_OK;
	}
	if (i == NULL && h->has_tao && file_id_equal(&v->exe, &h->tao))
		/* Named for itself it would seal and sign for whoever calls it. */
		e = tao_fail(TAO_ENOTRUN, "tao speaks here for the program that starts it, if that "
		             "is one that 'tao run' started: this one's parent is not, or is "
		             "another executable, or another user's");
	else if (i == NULL && inside_may(h, around))
		e = may_be_slow ? inside_name(h, c, v, around, &i) : OP_LATER;
	instance_unref(around);
	*out = i;
	return e;
}

void conn_named(struct host *h, struct conn *c, struct instance *i, const struct process_view *v)
{
	if (c->via == NULL)
		limit_named(h->limits, c->source.user);
	c->source.flow = FLOW_INSTANCE(i);
	c->exec = v->exec;
	atomic_store(&i->last_start, v->start);
	atomic_store(&i->last_pid, v->pid);
	if (instance_runs_as(i, v))
		recall_member(i, v->pid, v->start);
}

static enum tao_err identify(struct host *h, struct conn *c, int may_be_slow,
                             struct instance **out)
{
	struct process_view v;
	struct instance *i = NULL;
	enum tao_err e = measurer_process(h->measurer, c->pid, &v);

	if (e == TAO_OK)
		e = whose(h, c, &v, may_be_slow, &i);
	if (e == TAO_OK && !still_alive(c->pidfd))
		e = not_run();
	if (e == TAO_OK)
		e = nothing_behind(c);
	if (e == TAO_OK && c->via == NULL)
		e = conn_count_in(h, i);
	if (e == TAO_OK) {
		conn_named(h, c, i, &v);
		*out = i;
	} else {
		instance_unref(i);
	}
	return e;
}

enum tao_err conn_prove(struct host *h, struct conn *c, const void *challenge, size_t n,
                        int may_be_slow)
{
	enum tao_err e;

	if (n != sizeof c->challenge || CRYPTO_memcmp(challenge, c->challenge, n) != 0)
		e = tao_fail(TAO_EPROTO, "the challenge came back wrong");
	else if (c->sender != c->pid)
		e = tao_fail(TAO_EDENIED, "process %d answered the challenge of process %d",
		             (int)c->sender, (int)c->pid);
	else
		e = identify(h, c, may_be_slow, &c->inst);
	if (e == OP_LATER)
		return e;
	close(c->pidfd);
	c->pidfd = -1;
	c->state = e == TAO_OK ? CONN_PROGRAM : CONN_NEW;
	return e;
}
