#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config.h"
#include "host.h"
#include "progsock.h"
#include "tao.pb-c.h"

#define MAX_NOTICES 64
#define MAX_SETTINGS 16

/* NULL-terminated C strings from protobuf bytes; none may hold a NUL. */
enum tao_err op_strings(const ProtobufCBinaryData *from, size_t n, struct tao_buf *store,
                        char ***out)
{
	char **list;
	size_t at = 0;

	if (n > MEASURE_MAX_ITEMS)
		return tao_fail(TAO_ELIMIT, "more than %d arguments or settings",
		                MEASURE_MAX_ITEMS);
	for (size_t i = 0; i < n; i++) {
		if (from[i].len > 0 && memchr(from[i].data, 0, from[i].len) != NULL)
			return tao_fail(TAO_EINVAL, "an argument or setting holds a NUL byte");
		tao_buf_put(store, from[i].data, from[i].len);
		tao_buf_u8(store, 0);
	}
	list = calloc(n + 1, sizeof *list);
	if (list == NULL || store->err != TAO_OK) {
		free(list);
		return store->err != TAO_OK ? tao_buf_err(store) : tao_fail_nomem();
	}
	for (size_t i = 0; i < n; i++) {
		list[i] = (char *)store->p + at;
		at += from[i].len + 1;
	}
	*out = list;
	return TAO_OK;
}

/* What a registration is made of, while it is made. */
struct run {
	struct request *r;
	const Tao__RunRequest *rq;
	const char *openssl_conf;
	int program_only;
	int own_socket;
	struct measurement m;
	struct instance *inst;
	int pidfd;
	uint64_t start, before;
	char unit[UNIT_MAX + 1];
	char *notices[MAX_NOTICES];
	size_t n_notices;
	char *settings[MAX_SETTINGS];
	size_t n_settings;
};

static void notice(struct run *run, const char *text)
{
	if (run->n_notices < MAX_NOTICES && (run->notices[run->n_notices] = strdup(text)) != NULL)
		run->n_notices++;
}

static enum tao_err setting(struct run *run, const char *name, const char *value)
{
	struct tao_buf b = TAO_BUF_INIT;
	char *text;

	tao_buf_fmt(&b, "%s=%s", name, value);
	text = tao_buf_steal(&b);
	if (text == NULL)
		return tao_fail_nomem();
	run->settings[run->n_settings++] = text;
	return TAO_OK;
}

/* People read it on their terminals. */
static int label_ok(const char *label)
{
	size_t n = strlen(label);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)label[i] < 0x20 || label[i] == 0x7f)
			return 0;
	return n <= INSTANCE_MAX_LABEL;
}

static enum tao_err check_request(struct run *run)
{
	const Tao__RunRequest *rq = run->rq;
	struct request *r = run->r;

	if (rq->path[0] != '/' || r->c->passed_fd < 0)
		return tao_fail(TAO_EINVAL, "Host.Run needs an absolute path and the program's "
		                "descriptor");
	if (rq->n_args == 0)
		return tao_fail(TAO_EINVAL, "Host.Run needs the program's arguments, its name "
		                "first");
	if (r->c->sender != r->c->pid)
		return tao_fail(TAO_EDENIED, "process %d asks on the connection of process %d, "
		                "which would be registered", (int)r->c->sender, (int)r->c->pid);
	if (rq->label != NULL && !label_ok(rq->label))
		return tao_fail(TAO_EINVAL, "a --name has at most %d bytes and no control "
		                "characters", INSTANCE_MAX_LABEL);
	if (rq->measure != NULL && strcmp(rq->measure, "closure") != 0 &&
	    strcmp(rq->measure, "program") != 0)
		return tao_fail(TAO_EINVAL, "--measure is closure or program");
	if (rq->channel != NULL && strcmp(rq->channel, "door") != 0 &&
	    strcmp(rq->channel, "unix") != 0)
		return tao_fail(TAO_EINVAL, "--channel is door or unix");
	run->own_socket = rq->channel != NULL && strcmp(rq->channel, "unix") == 0;
	run->program_only = rq->measure != NULL && strcmp(rq->measure, "program") == 0;
	run->openssl_conf = rq->openssl_conf != NULL ? rq->openssl_conf : r->h->conf.openssl_conf;
	if (run->openssl_conf[0] != '/')
		return tao_fail(TAO_EINVAL, "--openssl-conf needs an absolute path");
	return TAO_OK;
}

/* openssl.cnf first, then the --config files. */
static char **config_list(struct run *run, char **given)
{
	size_t n = run->rq->n_config;
	char **list = calloc(n + 2, sizeof *list);

	if (list == NULL)
		return NULL;
	list[0] = (char *)run->openssl_conf;
	memcpy(list + 1, given, n * sizeof *list);
	return list;
}

static enum tao_err measure(struct run *run)
{
	struct request *r = run->r;
	struct tao_buf store[3] = { TAO_BUF_INIT, TAO_BUF_INIT, TAO_BUF_INIT };
	char **args = NULL, **env = NULL, **given = NULL, **config = NULL;
	char *modules[] = { r->h->conf.module, r->h->conf.tls_module, NULL };
	enum tao_err e = op_strings(run->rq->args, run->rq->n_args, &store[0], &args);

	if (e == TAO_OK)
		e = op_strings(run->rq->env, run->rq->n_env, &store[1], &env);
	if (e == TAO_OK)
		e = op_strings(run->rq->config, run->rq->n_config, &store[2], &given);
	if (e == TAO_OK && (config = config_list(run, given)) == NULL)
		e = tao_fail_nomem();
	if (e == TAO_OK) {
		struct measure_request mr = {
			.path = run->rq->path, .fd = r->c->passed_fd, .uid = r->c->uid,
			.dev_uid = r->h->owner, .args = args, .env = env,
			.config = config, .modules = modules, .program_only = run->program_only,
		};

		e = measurer_program(r->h->measurer, &mr, &run->m);
	}
	free(args);
	free(env);
	free(given);
	free(config);
	for (size_t i = 0; i < 3; i++)
		tao_buf_free(&store[i]);
	return e;
}

static enum tao_err may_run(struct run *run)
{
	enum tao_err e = domain_executable(run->r->h->domain, run->m.exe);

	if (e != TAO_OK || !run->program_only)
		return e;
	if (!run->m.is_static)
		return tao_fail(TAO_EDENIED, "--measure=program is for statically linked programs: "
		                "%s loads libraries, so run it without", run->rq->path);
	return domain_self_contained(run->r->h->domain, run->m.exe);
}

/* Before anything slow: from here on the descriptor holds the caller's process. */
static enum tao_err hold_caller(struct run *run)
{
	struct conn *c = run->r->c;
	struct process_view v;
	enum tao_err e;

	run->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (run->pidfd < 0)
		return tao_fail_sys("the process that registers has ended");
	e = measurer_caller(run->r->h->measurer, c->pid, &v, run->unit);
	if (e == TAO_OK && v.uid != c->uid)
		e = tao_fail(TAO_EDENIED, "process %d runs for user %u, and user %u registers it: "
		             "register as the user that runs it", (int)c->pid, (unsigned)v.uid,
		             (unsigned)c->uid);
	run->start = v.start;
	run->before = v.exec;
	return e;
}

static int still_alive(int pidfd)
{
	struct pollfd p = { pidfd, POLLIN, 0 };

	return poll(&p, 1, 0) == 0;
}

/* The end of the arguments that an interpreter will be started with: Linux puts the path of a #!
 * file in the place of its name. */
static enum tao_err start_args(const struct run *run, struct tao_buf *args)
{
	const Tao__RunRequest *rq = run->rq;

	if (run->m.is_script) {
		tao_buf_str(args, rq->path);
		tao_buf_u8(args, 0);
	}
	for (size_t i = run->m.is_script ? 1 : 0; i < rq->n_args; i++) {
		tao_buf_put(args, rq->args[i].data, rq->args[i].len);
		tao_buf_u8(args, 0);
	}
	return tao_buf_err(args);
}

static enum tao_err add_instance(struct run *run)
{
	struct request *r = run->r;
	struct registration g = {
		.m = &run->m, .kind = INSTANCE_RUN, .uid = r->c->uid, .pid = r->c->pid,
		.start = run->start, .before = run->before, .program = run->rq->path,
		.label = run->rq->label, .openssl_conf = run->openssl_conf, .unit = run->unit,
	};
	struct tao_buf args = TAO_BUF_INIT;
	struct tao_node *name;
	enum tao_err e = TAO_OK;

	if (run->m.is_interpreter)
		e = start_args(run, &args);
	g.args = (char *)args.p;
	g.args_n = args.n;
	if (e == TAO_OK) {
		name = name_program(r->h->name, &run->m, r->c->uid, run->program_only,
		                    domain_id(r->h->domain));
		e = name != NULL ? registry_add(r->h->registry, &g, name, &run->inst)
		                 : tao_fail_nomem();
	}
	tao_buf_free(&args);
	return e;
}

/* Root's program can be another user's a moment after its start, too early for a look from outside.
 * Where the start cannot be seen, that is how it is looked at, and an ordinary user's always. */
static void hold_start_of(struct run *run)
{
	struct instance *i = run->inst;
	struct hold_request rq = {
		.id = i->id, .pid = i->pid, .start = i->start, .args = i->args, .args_n = i->args_n,
	};

	if (i->uid == 0 && !(run->rq->has_prepare && run->rq->prepare))
		atomic_store(&i->held, measurer_hold(run->r->h->measurer, &rq) == TAO_OK);
}

static enum tao_err register_it(struct run *run)
{
	int pidfd = run->pidfd;
	enum tao_err e;

	run->pidfd = -1;
	if (still_alive(pidfd))
		e = add_instance(run);
	else
		e = tao_fail(TAO_ENOTFOUND, "the process that registers has ended");
	if (e == TAO_OK && run->own_socket)
		e = progsock_open(run->r->h, run->inst);
	if (e == TAO_OK)
		return watch_add(run->r->h, run->inst, pidfd);
	close(pidfd);
	return e;
}

/* A certificate for each key that this program may use, ready before it starts. */
static enum tao_err one_cert(struct host *h, uid_t uid, const char *name, void *arg)
{
	struct run *run = arg;
	struct tao_buf stub = TAO_BUF_INIT, cert = TAO_BUF_INIT, text = TAO_BUF_INIT;
	struct held_key *k = NULL;

	if (keystore_get(h, uid, name, &stub) == TAO_OK &&
	    custody_open(h, stub.p, stub.n, &k) == TAO_OK &&
	    custody_allows(h, k, run->inst) == TAO_OK &&
	    cert_obtain(h, run->inst, k, &cert) != TAO_OK) {
		tao_buf_fmt(&text, "no certificate for key %s: %s", name, tao_why());
		notice(run, tao_buf_cstr(&text));
	}
	held_key_release(k);
	tao_buf_free(&stub);
	tao_buf_free(&cert);
	tao_buf_free(&text);
	return TAO_OK;
}

/* By which CloudProxy's library finds its host. A program that is a host itself is stacked on
 * us. */
static enum tao_err cloudproxy_settings(struct run *run)
{
	struct host *h = run->r->h;
	char *path = progsock_path(h, run->inst);
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = setting(run, "CLOUDPROXY_TAO_HOST_CHANNEL_TYPE", "unix");
	if (e == TAO_OK)
		e = setting(run, "CLOUDPROXY_TAO_HOST_SPEC", path);
	if (e == TAO_OK)
		e = setting(run, "CLOUDPROXY_TAO_HOST_TYPE", "stacked");
	if (e == TAO_OK)
		e = setting(run, "CLOUDPROXY_TAO_HOSTED_TYPE", "process");
	if (e == TAO_OK)
		e = setting(run, "TAO_DOMAIN", h->conf.dir);
	free(path);
	return e;
}

static enum tao_err settings(struct run *run)
{
	struct host *h = run->r->h;
	enum tao_err e = setting(run, "OPENSSL_CONF", run->openssl_conf);

	if (e == TAO_OK)
		e = setting(run, "OPENSSL_MODULES", TAO_MODULESDIR);
	if (e == TAO_OK)
		e = setting(run, "TAO_SOCKET", h->conf.socket);
	if (e == TAO_OK && run->own_socket)
		e = cloudproxy_settings(run);
#if TAO_ASAN
	if (e == TAO_OK)
		e = setting(run, "LD_PRELOAD", TAO_ASAN_RUNTIME);
	if (e == TAO_OK) /* the application's own leaks are not ours to judge */
		e = setting(run, "ASAN_OPTIONS", TAO_ASAN_OPTIONS);
#endif
	return e;
}

static enum tao_err open_door(struct run *run)
{
	struct conn *c = run->r->c;
	int end;
	enum tao_err e;

	if (c->n_send_fds > 0)
		return tao_fail(TAO_EPROTO, "one Host.Run at a time");
	e = door_add(run->r->h, run->inst, 0, &end);
	if (e != TAO_OK)
		return e;
	c->send_fds[c->n_send_fds++] = end;
	if (run->m.copy_fd >= 0) {
		c->send_fds[c->n_send_fds++] = run->m.copy_fd;
		run->m.copy_fd = -1;
	}
	return TAO_OK;
}

static enum tao_err reply(struct run *run, int copy)
{
	Tao__RunResponse rp = TAO__RUN_RESPONSE__INIT;
	struct tao_buf name = TAO_BUF_INIT;

	tao_node_encode(instance_name(run->inst), &name);
	rp.name.data = name.p;
	rp.name.len = name.n;
	rp.n_settings = run->n_settings;
	rp.settings = run->settings;
	rp.n_notices = run->n_notices;
	rp.notices = run->notices;
	rp.has_copy = copy;
	rp.copy = copy;
	if (name.err == TAO_OK)
		tao_pb_pack(&rp.base, run->r->body);
	tao_buf_free(&name);
	return name.err == TAO_OK ? TAO_OK : tao_fail_nomem();
}

/* Before the program starts; without it, it runs all the same. */
static void keep_it(struct run *run)
{
	struct tao_buf text = TAO_BUF_INIT;

	if (recall_add(run->r->h, run->inst) == TAO_OK)
		return;
	tao_buf_fmt(&text, "this program will not be recognised when the host is restarted: %s",
	            tao_why());
	notice(run, tao_buf_cstr(&text));
	tao_buf_free(&text);
}

static enum tao_err do_run(struct run *run)
{
	int copy;
	enum tao_err e = check_request(run);

	if (e == TAO_OK)
		e = hold_caller(run);
	if (e == TAO_OK)
		e = measure(run);
	if (e == TAO_OK)
		e = may_run(run);
	if (e == TAO_OK)
		e = register_it(run);
	if (e == TAO_OK)
		e = keystore_each(run->r->h, run->r->c->uid, one_cert, run);
	if (e == TAO_OK)
		e = settings(run);
	copy = run->m.copy_fd >= 0;
	if (e == TAO_OK) { /* the last one of a connection that registers again */
		instance_unref(run->r->c->ran);
		run->r->c->ran = instance_ref(run->inst);
	}
	if (e == TAO_OK)
		e = open_door(run);
	if (e == TAO_OK)
		keep_it(run);
	if (e == TAO_OK) /* the last thing: it has not much time to execute */
		hold_start_of(run);
	return e == TAO_OK ? reply(run, copy) : e;
}

enum tao_err op_run(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__RunRequest *rq = NULL;
	struct run run = { .r = r, .m = { .copy_fd = -1 }, .pidfd = -1 };
	enum tao_err e = OP_UNPACK(r, &pa, tao__run_request, &rq);

	run.rq = rq;
	if (e == TAO_OK)
		e = do_run(&run);
	if (e == TAO_OK)
		host_log_of(r->h, r->c->uid, "info", "process %d of user %u runs %s as instance "
		            "%llu",
		            (int)r->c->pid, (unsigned)r->c->uid, rq->path,
		            (unsigned long long)run.inst->id);
	else if (run.inst != NULL)
		/* it stays the caller's process, without a name */
		atomic_store(&run.inst->ended, 1);
	if (run.inst != NULL)
		audit_note_instance(r, run.inst);
	else if (rq != NULL)
		audit_note(r, "path", rq->path);
	if (run.inst != NULL)
		registry_settle(r->h->registry, run.inst);
	instance_unref(run.inst);
	if (run.pidfd >= 0)
		close(run.pidfd);
	measurement_clear(&run.m);
	while (run.n_notices > 0)
		free(run.notices[--run.n_notices]);
	while (run.n_settings > 0)
		free(run.settings[--run.n_settings]);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
