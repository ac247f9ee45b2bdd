#include "cert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tao/file.h"
#include "../tls/tls.h"
#include "config.h"
#include "tao.pb-c.h"

#define MAPS_MAX (64u << 20)   /* bytes of /proc/PID/maps */
#define OUTPUT_MAX 65536       /* bytes of openssl's output */
#define SOCKETS_MAX 256        /* of one process that are looked at; 10 bytes each in the request */
#define AUXV_MAX 4096          /* bytes of /proc/PID/auxv */
#define ENVIRON_MAX (4u << 20) /* bytes of /proc/PID/environ */
#define PROVIDERS_SINCE 3      /* OpenSSL's major version */
#define OPENSSL_SECONDS 20     /* how long openssl may take */

/* ---- does openssl load the provider ---- */

/* Reads to the end within the time; 0 if it takes longer. */
static int read_output(int fd, struct tao_buf *out)
{
	struct pollfd p = { fd, POLLIN, 0 };
	time_t end = time(NULL) + OPENSSL_SECONDS;
	char chunk[4096];
	ssize_t n;

	for (;;) {
		if (poll(&p, 1, 1000) < 0 && errno != EINTR)
			return 0;
		if (time(NULL) > end || out->n > OUTPUT_MAX)
			return 0;
		if (p.revents == 0)
			continue;
		n = read(fd, chunk, sizeof chunk);
		if (n <= 0)
			return n == 0;
		tao_buf_put(out, chunk, (size_t)n);
	}
}

static enum tao_err run_openssl(const char *path, const char *conf, struct tao_buf *out)
{
	char *args[] = { "openssl", "list", "-providers", NULL };
	char *env[] = { "PATH=" CMD_PATH, NULL, NULL, NULL, NULL };
	posix_spawn_file_actions_t actions;
	char *setting = NULL;
	int p[2], err, status = 0;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) != 0)
		return tao_fail_sys("cannot make a pipe");
	if (asprintf(&setting, "OPENSSL_CONF=%s", conf) < 0)
		setting = NULL;
	env[1] = setting;
#if TAO_ASAN
	env[2] = "LD_PRELOAD=" TAO_ASAN_RUNTIME;
	env[3] = "ASAN_OPTIONS=" TAO_ASAN_OPTIONS;
#endif
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, p[1], 1);
	posix_spawn_file_actions_adddup2(&actions, p[1], 2);
	err = posix_spawn(&pid, path, &actions, NULL, args, env);
	posix_spawn_file_actions_destroy(&actions);
	close(p[1]);
	if (err == 0) {
		if (!read_output(p[0], out))
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(p[0]);
	free(setting);
	errno = err;
	return err != 0 ? tao_fail_sys("cannot start %s", path) : TAO_OK;
}

static void check_loads(const struct host_conf *conf, struct cmd_findings *f)
{
	struct tao_buf out = TAO_BUF_INIT;
	char *path = NULL;
	const char *at;
	int fd = -1;

	if (cmd_program("openssl", &path, &fd) != TAO_OK) {
		cmd_found(f, CMD_WARNING, 0, "openssl(1) is missing, so loading the provider was not "
		          "tried: install the package openssl");
	} else if (run_openssl(path, conf->openssl_conf, &out) != TAO_OK) {
		cmd_found(f, CMD_WARNING, 0, "%s", tao_why());
	} else {
		at = strstr(tao_buf_cstr(&out), "\n  tao\n");
		if (at != NULL && strstr(at, "status: active") != NULL)
			cmd_found(f, CMD_GOOD, 0, "openssl loads the tao provider");
		else
			cmd_found(f, CMD_BAD, 0, "openssl does not load the tao provider: try "
			          "'OPENSSL_CONF=%s openssl list -providers'", conf->openssl_conf);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	tao_buf_free(&out);
}

/* ---- the host ---- */

static void check_dir(const struct host_conf *conf, struct cmd_findings *f)
{
	static const char *const private[] = { "host", "host/root.key", "host/secret.sealed",
	                                       "domain/policy.key" };
	struct stat st;

	cmd_found(f, CMD_GOOD, 0, "there is a Tao host in %s", conf->dir);
	if (stat(conf->dir, &st) == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		cmd_found(f, CMD_BAD, 0, "others may write %s: 'chmod go-w %s'", conf->dir, conf->dir);
	for (size_t i = 0; i < sizeof private / sizeof private[0]; i++) {
		char *path = host_path(conf, "%s", private[i]);

		if (path != NULL && stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
			cmd_found(f, CMD_BAD, 0, "others may use %s, which is the owner's alone: "
			          "'chmod go= %s'", path, path);
		free(path);
	}
}

static void check_status(struct tao_conn *conn, struct cmd_findings *f)
{
	Tao__StatusResponse *s = NULL;

	if (cmd_call(conn, "Host.Status", NULL, -1, &tao__status_response__descriptor,
	             (ProtobufCMessage **)&s, NULL, NULL) != TAO_OK) {
		cmd_found(f, CMD_BAD, 0, "%s", tao_why());
		return;
	}
	cmd_found(f, CMD_GOOD, 0, "it runs as process %d, version %s", s->pid, s->version);
	if (strcmp(s->version, TAO_VERSION) != 0)
		cmd_found(f, CMD_WARNING, 0, "this tao is version %s: install one version, then 'tao down' "
		          "and 'tao up'", TAO_VERSION);
	for (size_t i = 0; i < s->n_warnings; i++)
		cmd_found(f, CMD_WARNING, 0, "%s", s->warnings[i]);
	tao__status_response__free_unpacked(s, NULL);
}

static void check_all(struct tao_conn *conn, struct cmd_findings *f)
{
	check_status(conn, f);
	cert_look(conn, f);
}

static void check_socket_mode(const struct host_conf *conf, struct cmd_findings *f)
{
	struct stat st;

	if (stat(conf->socket, &st) != 0)
		return;
	if (!S_ISSOCK(st.st_mode))
		cmd_found(f, CMD_BAD, 0, "%s is not a socket: remove it, then 'tao up'", conf->socket);
	else if ((st.st_mode & S_IWOTH) == 0 && st.st_uid == 0)
		cmd_found(f, CMD_WARNING, 0, "only root and its group may connect to %s: programs of other "
		          "users get no keys unless they keep their door", conf->socket);
}

static void examine_host(struct cmd_env *env, struct cmd_findings *f)
{
	struct host_conf conf;
	struct tao_conn conn;
	enum tao_err e = cmd_connect(env, &conf, &conn);

	if (conf.dir != NULL)
		check_dir(&conf, f);
	if (e == TAO_OK)
		check_all(&conn, f);
	else
		cmd_found(f, CMD_BAD, 0, "%s", tao_why());
	if (conf.dir == NULL)
		goto out;
	check_socket_mode(&conf, f);
	if (access(conf.openssl_conf, F_OK) == 0) {
		cmd_examine_conf(conf.openssl_conf, f);
		check_loads(&conf, f);
	} else { /* taod writes it when it starts */
		cmd_examine_module(conf.module, 0, f);
	}
out:
	tao_conn_close(&conn);
	host_conf_clear(&conf);
}

/* ---- a process ---- */

/* A library that tells something about a process. */
struct mapped {
	char prefix[20]; /* of the file's name */
	char path[512];  /* as mapped; "" if it is not */
	int deleted;     /* replaced on disk since */
};

/* OpenSSL's libraries are those of the major version that this program, and so tao.so, is linked to, and
 * those of any other: a system can have both. */
enum { MAP_TAO, MAP_TLS, MAP_SSL, MAP_CRYPTO, MAP_OTHER_SSL, MAP_OTHER_CRYPTO, MAP_GNUTLS, MAP_NSS, MAP_COUNT };

static void name_libraries(struct mapped maps[MAP_COUNT])
{
	static const char *const names[MAP_COUNT] = {
		[MAP_TAO] = "tao.so", [MAP_TLS] = "tao_tls.so", [MAP_OTHER_SSL] = "libssl.so.",
		[MAP_OTHER_CRYPTO] = "libcrypto.so.", [MAP_GNUTLS] = "libgnutls.so", [MAP_NSS] = "libnss3.so",
	};
	unsigned major = OPENSSL_version_major();

	memset(maps, 0, MAP_COUNT * sizeof *maps);
	for (int i = 0; i < MAP_COUNT; i++)
		snprintf(maps[i].prefix, sizeof maps[i].prefix, "%s", names[i] != NULL ? names[i] : "");
	snprintf(maps[MAP_SSL].prefix, sizeof maps[MAP_SSL].prefix, "libssl.so.%u", major);
	snprintf(maps[MAP_CRYPTO].prefix, sizeof maps[MAP_CRYPTO].prefix, "libcrypto.so.%u", major);
}

/* The file of one line of /proc/PID/maps. */
static void look_at(struct mapped *maps, const char *line, size_t n)
{
	static const char gone[] = " (deleted)";
	const char *path = memchr(line, '/', n), *base;
	int deleted = n > sizeof gone && memcmp(line + n - sizeof gone + 1, gone, sizeof gone - 1) == 0;

	if (path == NULL)
		return;
	n -= (size_t)(path - line) + (deleted ? sizeof gone - 1 : 0);
	base = memrchr(path, '/', n);
	for (int i = 0; i < MAP_COUNT; i++) {
		if (strncmp(base + 1, maps[i].prefix, strlen(maps[i].prefix)) != 0)
			continue;
		if (maps[i].path[0] == 0) {
			snprintf(maps[i].path, sizeof maps[i].path, "%.*s", (int)n, path);
			maps[i].deleted = deleted;
		}
		return;
	}
}

static enum tao_err read_maps(int pid, struct mapped *maps)
{
	struct tao_buf text = TAO_BUF_INIT;
	char path[64];
	const char *p;
	enum tao_err e;

	text.max = MAPS_MAX;
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	e = tao_file_read(path, MAPS_MAX, &text);
	p = tao_buf_cstr(&text);
	for (size_t n; e == TAO_OK && *p != 0; p += n + (p[n] == '\n')) {
		n = strcspn(p, "\n");
		look_at(maps, p, n);
	}
	if (e == TAO_ENOTFOUND || (e == TAO_ESYS && errno == ESRCH))
		e = tao_fail(TAO_ENOTFOUND, "there is no process %d: 'tao ps' lists those under the host",
		             pid);
	else if (e == TAO_EPERM)
		e = tao_fail(e, "what process %d has loaded cannot be seen by this user: "
		             "ask as its user, or as root", pid);
	tao_buf_free(&text);
	return e;
}

/* The major version in the name of a library of OpenSSL. */
static int major_of(const struct mapped *library)
{
	const char *base = strrchr(library->path, '/'), *so = base != NULL ? strstr(base, ".so.") : NULL;

	return so != NULL ? atoi(so + strlen(".so.")) : 0;
}

/* Its libssl is of another OpenSSL than tao.so, which has brought its own libcrypto. */
static int has_other_ssl(const struct mapped *maps)
{
	return maps[MAP_SSL].path[0] == 0 && maps[MAP_OTHER_SSL].path[0] != 0;
}

static void check_library(const struct mapped *maps, struct cmd_findings *f)
{
	int other = has_other_ssl(maps) || maps[MAP_CRYPTO].path[0] == 0;
	const struct mapped *crypto = &maps[other ? MAP_OTHER_CRYPTO : MAP_CRYPTO];
	unsigned own = OPENSSL_version_major();

	if (crypto->path[0] != 0 && major_of(crypto) < PROVIDERS_SINCE)
		cmd_found(f, CMD_BAD, 0, "it uses %s, which knows no providers: use a build of the program "
		          "for OpenSSL %u", crypto->path, own);
	else if (crypto->path[0] != 0 && crypto->deleted)
		cmd_found(f, CMD_WARNING, 0, "it uses %s, which was replaced since: restart it",
		          crypto->path);
	else if (crypto->path[0] != 0)
		cmd_found(f, CMD_GOOD, 0, "it uses OpenSSL %d, %s", major_of(crypto), crypto->path);
	else if (maps[MAP_GNUTLS].path[0] != 0 || maps[MAP_NSS].path[0] != 0)
		cmd_found(f, CMD_BAD, 0, "it uses %s instead of OpenSSL: use a build of the program for "
		          "OpenSSL %u", maps[maps[MAP_GNUTLS].path[0] != 0 ? MAP_GNUTLS : MAP_NSS].path, own);
	else
		cmd_found(f, CMD_BAD, 0, "it has not loaded libcrypto.so.%u: it uses no TLS yet, or brings "
		          "its own library; use a build of the program for the system's OpenSSL %u", own, own);
}

static int same_file(const char *one, const char *other)
{
	struct stat a, b;

	return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void check_module_mapped(const struct mapped *m, const struct host_conf *conf,
                                struct cmd_findings *f)
{
	if (m->path[0] == 0)
		cmd_found(f, CMD_BAD, 0, "it has not loaded tao.so: start it with 'tao run', and see that "
		          "it reads the openssl.cnf that OPENSSL_CONF names");
	else if (m->deleted)
		cmd_found(f, CMD_WARNING, 0, "it has loaded %s, which was replaced since: restart it",
		          m->path);
	else if (conf->module != NULL && access(conf->module, F_OK) == 0 && access(m->path, F_OK) == 0 &&
	         !same_file(m->path, conf->module))
		cmd_found(f, CMD_WARNING, 0, "it has loaded %s, but this host's module is %s: see that "
		          "both are of one version", m->path, conf->module);
	else
		cmd_found(f, CMD_GOOD, 0, "it has loaded %s", m->path);
}

/* ---- Tao channels of a process ---- */

/* OpenSSL takes no configuration from the environment of who runs with raised privileges. */
static int is_secure(int pid)
{
	struct tao_buf auxv = TAO_BUF_INIT;
	char path[64];
	int yes = 0;

	snprintf(path, sizeof path, "/proc/%d/auxv", pid);
	if (tao_file_read(path, AUXV_MAX, &auxv) == TAO_OK)
		for (size_t at = 0; at + 2 * sizeof(unsigned long) <= auxv.n; at += 2 * sizeof(unsigned long)) {
			unsigned long pair[2];

			memcpy(pair, auxv.p + at, sizeof pair);
			yes |= pair[0] == AT_SECURE && pair[1] != 0;
		}
	tao_buf_free(&auxv);
	return yes;
}

static void find_executable(int pid, char path[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/%d/exe", pid);
	n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = 0;
	tls_program_path(path);
}

/* The openssl.cnf that it was started with; the caller's. NULL: it does not tell. */
static char *conf_of(int pid)
{
	static const char name[] = "OPENSSL_CONF=";
	struct tao_buf env = TAO_BUF_INIT;
	char path[64], *found = NULL;
	const char *p, *end;
	int whole = 1; /* nginx and PostgreSQL write their titles over it */

	snprintf(path, sizeof path, "/proc/%d/environ", pid);
	if (tao_file_read(path, ENVIRON_MAX, &env) == TAO_OK) {
		p = tao_buf_cstr(&env);
		for (end = p + env.n; found == NULL && p < end; p += strlen(p) + 1) {
			whole = whole && strchr(p, '=') != NULL;
			if (strncmp(p, name, sizeof name - 1) == 0)
				found = strdup(p + sizeof name - 1);
		}
		if (found == NULL && whole && asprintf(&found, "%s/openssl.cnf", X509_get_default_cert_area()) < 0)
			found = NULL;
	}
	tao_buf_free(&env);
	return found;
}

/* The name by which it has loaded tao_tls.so; the caller's. NULL: it has not. The module is in tao.so, and
 * in use if the configuration names it. */
static char *tls_module_of(const struct mapped *maps, const char *conf)
{
	const struct mapped *tao = &maps[MAP_TAO];
	char *path;

	if (maps[MAP_TLS].path[0] != 0) /* a copy of its own */
		return strdup(maps[MAP_TLS].path);
	path = tao->path[0] != 0 ? cmd_tls_module(conf) : NULL;
	if (path != NULL && !tao->deleted && !same_file(tao->path, path)) {
		free(path);
		path = NULL;
	}
	return path;
}

/* What is enforced on its connections, and what cannot be. */
static void check_channels(int pid, const struct mapped *maps, const char *given,
                           const struct host_conf *host, struct cmd_findings *f)
{
	char *own = conf_of(pid), path[PATH_MAX];
	/* nginx and PostgreSQL write their titles where their environment was. */
	const char *conf = own != NULL ? own : given;
	char *module = tls_module_of(maps, conf != NULL ? conf : host->openssl_conf);

	find_executable(pid, path);
	if (is_secure(pid))
		cmd_found(f, CMD_BAD, 0, "it runs with raised privileges: OpenSSL ignores OPENSSL_CONF there, "
		          "and no Tao channel is enforced");
	if (module != NULL && has_other_ssl(maps))
		cmd_found(f, CMD_BAD, 0, "%s is for libssl.so.%u, and it uses %s: no Tao channel and no policy is "
		          "enforced, and no certificate renewed without a reload; use builds for one OpenSSL",
		          module, OPENSSL_version_major(), maps[MAP_OTHER_SSL].path);
	else if (module != NULL && maps[MAP_TLS].deleted)
		cmd_found(f, CMD_WARNING, 0, "it has loaded %s, which was replaced since: restart it", module);
	else if (module != NULL)
		cmd_found(f, CMD_GOOD, 0, "tao_tls(5) is in use, from %s", module);
	else if (maps[MAP_SSL].path[0] != 0 || maps[MAP_OTHER_SSL].path[0] != 0)
		cmd_found(f, CMD_WARNING, 0, "it uses libssl without tao_tls.so: no Tao channels, no policy on its "
		          "peers, no renewed certificates without a reload; see tao_tls(5)");
	if (has_other_ssl(maps))
		goto out;
	if (module != NULL && conf != NULL)
		cmd_examine_mode(conf, path, f);
	else if (module != NULL)
		cmd_found(f, CMD_WARNING, 0, "which openssl.cnf it has read, and so what it enforces, cannot be "
		          "told any more: its environment is overwritten");
out:
	free(own);
	free(module);
}

/* Inodes of the process's sockets: its door is among them, also when the
 * process that tao run started has ended, as a daemon's does. */
static size_t list_sockets(int pid, uint64_t *inodes, size_t max)
{
	char path[64], link[64];
	unsigned long long inode;
	struct dirent *de;
	size_t n = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	d = opendir(path);
	while (d != NULL && n < max && (de = readdir(d)) != NULL) {
		ssize_t len = readlinkat(dirfd(d), de->d_name, link, sizeof link - 1);

		link[len > 0 ? len : 0] = 0;
		if (sscanf(link, "socket:[%llu]", &inode) == 1)
			inodes[n++] = inode;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

/* *conf: the openssl.cnf that it was given, NULL if the host does not know. */
static void check_instance(struct tao_conn *conn, int pid, char **conf, struct cmd_findings *f)
{
	Tao__DoctorRequest rq = TAO__DOCTOR_REQUEST__INIT;
	Tao__DoctorResponse *rs = NULL;
	uint64_t sockets[SOCKETS_MAX];

	rq.pid = pid;
	rq.sockets = sockets;
	rq.n_sockets = list_sockets(pid, sockets, SOCKETS_MAX);
	if (cmd_call(conn, "Host.Doctor", &rq.base, -1, &tao__doctor_response__descriptor,
	             (ProtobufCMessage **)&rs, NULL, NULL) != TAO_OK) {
		cmd_found(f, CMD_BAD, 0, "%s", tao_why());
		return;
	}
	if (!rs->instance)
		cmd_found(f, CMD_BAD, 0, "%s", rs->why_not != NULL ? rs->why_not
		          : "the host does not know it: start it with 'tao run'");
	else
		cmd_found(f, CMD_GOOD, 0, "the host knows it as %s", rs->name != NULL ? rs->name : "?");
	if (rs->refused != NULL)
		cmd_found(f, CMD_BAD, 0, "the host refuses it all keys and channels: %s", rs->refused);
	*conf = rs->openssl_conf != NULL ? strdup(rs->openssl_conf) : NULL;
	if (rs->instance && rs->operations == 0)
		cmd_found(f, CMD_WARNING, 0, "it has not asked the host for anything yet: see that its "
		          "configuration names a Tao key, as tao:NAME or a TAO PRIVATE KEY file");
	else if (rs->instance)
		cmd_found(f, CMD_GOOD, 0, "it has asked the host %llu times; connections now: %u",
		          (unsigned long long)rs->operations, rs->connections);
	tao__doctor_response__free_unpacked(rs, NULL);
}

static void examine_process(struct cmd_env *env, int pid, struct cmd_findings *f)
{
	struct mapped maps[MAP_COUNT];
	struct host_conf conf;
	struct tao_conn conn;
	char *given = NULL;
	enum tao_err seen;

	name_libraries(maps);
	seen = read_maps(pid, maps);
	if (seen != TAO_OK)
		cmd_found(f, seen == TAO_EPERM ? CMD_WARNING : CMD_BAD, 0, "%s", tao_why());
	if (seen != TAO_OK && seen != TAO_EPERM)
		return;
	if (seen == TAO_OK)
		check_library(maps, f);
	if (cmd_connect(env, &conf, &conn) == TAO_OK)
		check_instance(&conn, pid, &given, f);
	else
		cmd_found(f, CMD_BAD, 0, "%s", tao_why());
	if (seen == TAO_OK) {
		check_module_mapped(&maps[MAP_TAO], &conf, f);
		check_channels(pid, maps, given, &conf, f);
	}
	free(given);
	tao_conn_close(&conn);
	host_conf_clear(&conf);
}

int cmd_doctor(struct cmd_env *env, int argc, char **argv)
{
	struct cmd_findings f = { 0 };
	char *end;
	long pid;

	if (!cmd_operands(env, argc, argv, 0, 1))
		return env->status;
	if (optind == argc) {
		examine_host(env, &f);
		return cmd_findings_print(env, &f);
	}
	if (cmd_examine_peer(argv[optind], &f))
		return cmd_findings_print(env, &f);
	errno = 0;
	pid = strtol(argv[optind], &end, 10);
	if (errno != 0 || end == argv[optind] || *end != 0 || pid < 1 || pid > 1 << 22)
		return cmd_usage(env, "PID is a process number, not '%s'; a server is HOST:PORT", argv[optind]);
	examine_process(env, (int)pid, &f);
	return cmd_findings_print(env, &f);
}
