#include "cmd.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

typedef enum tao_err load_fn(const char *dir, struct host_conf *conf);

static enum tao_err load(const struct cmd_env *env, load_fn *fn, struct host_conf *conf)
{
	struct tao_buf dir = TAO_BUF_INIT;
	enum tao_err e;

	memset(conf, 0, sizeof *conf);
	e = host_dir_reach(env->dir, &dir);
	if (e == TAO_OK)
		e = fn(tao_buf_cstr(&dir), conf);
	tao_buf_free(&dir);
	return e;
}

enum tao_err cmd_conf(const struct cmd_env *env, struct host_conf *conf)
{
	return load(env, host_conf_load, conf);
}

enum tao_err cmd_connect(struct cmd_env *env, struct host_conf *conf, struct tao_conn *c)
{
	enum tao_err e;

	tao_conn_init(c);
	/* A host that runs is reached, and can be ended, whatever taod.conf says by now. */
	e = load(env, host_conf_load_lenient, conf);
	if (e == TAO_OK)
		e = tao_conn_open(c, conf->socket, TAO_CALL_TIMEOUT_MS);
	if (e == TAO_ENOHOST)
		e = tao_fail(e, "the Tao host in %s is not running: start it with 'tao%s%s up'",
		             conf->dir, env->dir != NULL ? " -d " : "",
		             env->dir != NULL ? env->dir : "");
	return e;
}

enum tao_err cmd_hangs(const struct host_conf *conf, enum tao_err e)
{
	if (e != TAO_ETIMEOUT)
		return e;
	return tao_fail(e, "the Tao host in %s runs and does not answer: its process, whose number "
	                "is in run/taod.pid there, stands still ('kill -CONT' has it go on, 'kill "
	                "-KILL' ends it, and 'tao up' starts another), or the machine is "
	                "overloaded", conf->dir);
}

static enum tao_err pack(const ProtobufCMessage *rq, struct tao_buf *out)
{
	uint8_t *p;

	if (rq == NULL)
		return TAO_OK;
	p = tao_buf_room(out, protobuf_c_message_get_packed_size(rq));
	if (p != NULL)
		protobuf_c_message_pack(rq, p);
	return tao_buf_err(out);
}

/* A connection waits for an answer as long as was said when it was opened;
 * measuring large files may take longer. */
static void set_patience(struct tao_conn *c, int timeout_ms)
{
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	if (c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
}

enum tao_err cmd_call(struct tao_conn *c, const char *op, const ProtobufCMessage *rq, int fd,
                      const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, int *fds,
                      size_t *n_fds)
{
	struct tao_buf body = TAO_BUF_INIT, reply = TAO_BUF_INIT;
	int timeout = fd >= 0 ? CMD_RUN_TIMEOUT_MS : TAO_CALL_TIMEOUT_MS;
	enum tao_err e = pack(rq, &body);

	*out = NULL;
	set_patience(c, timeout);
	if (e == TAO_OK)
		e = tao_conn_call(c, op, body.p, body.n, fd, timeout, &reply, fds, n_fds);
	if (e == TAO_OK) {
		*out = protobuf_c_message_unpack(type, NULL, reply.n, reply.p);
		if (*out == NULL)
			e = tao_fail(TAO_EPROTO, "the host's answer to %s is not understood: "
			             "check with 'tao doctor' that tao and taod are of one version",
			             op);
	}
	tao_buf_free(&body);
	tao_buf_free(&reply);
	return e;
}

enum tao_err cmd_ask(struct cmd_env *env, const char *op, const ProtobufCMessage *rq, int fd,
                     const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
	struct host_conf conf;
	struct tao_conn c;
	enum tao_err e;

	*out = NULL;
	e = cmd_connect(env, &conf, &c);
	if (e == TAO_OK)
		e = cmd_call(&c, op, rq, fd, type, out, NULL, NULL);
	tao_conn_close(&c);
	host_conf_clear(&conf);
	return e;
}
