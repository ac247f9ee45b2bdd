/*
 * taod.conf, and where a host keeps its things.
 *
 *   DIR/format            "tao state 1\n"
 *   DIR/taod.conf         OpenSSL's configuration format, default section; man/taod.conf.5
 *   DIR/lock              locked by the running taod
 *   DIR/openssl.cnf       written by taod at start: what tao run sets OPENSSL_CONF to
 *   DIR/policy.pem        the domain's policy certificate, written by taod at start
 *   DIR/host/             keys of the host, as its root of trust keeps them (root.h)
 *   DIR/host/counters     counters of programs (counter.h)
 *   DIR/host/channel/     keys of channels (ancestor.h)
 *   DIR/host/epoch        epochs of sealing (epoch.h); absent: the first
 *   DIR/keys/UID/NAME.pem     stubs of sealed keys; NAME.old: of the generation before
 *   DIR/keys/deleted/KEYID    which generations of a key were deleted
 *   DIR/certs/UID/NAME.pem    program certificates; NAME.why: why there is none
 *   DIR/domain/           the policy domain (domain/domain.h)
 *   DIR/run/tao.sock      the socket           DIR/run/taod.pid
 *   DIR/run/programs/ID.sock  sockets of single programs (progsock.h)
 *   DIR/audit/            the audit log (auditlog.h)
 *   DIR/taod.log          log, unless taod runs in the foreground
 *
 * DIR, keys, certs, run are readable by everybody (stubs are sealed, certificates public); host and
 * domain by the owner alone.
 *
 * The owner of a host is the user that taod was started by: root, or an
 * ordinary user, whose host is a development host.
 *
 * Errors: TAO_EINVAL (unknown key, bad value: says which line's key and what is allowed),
 * TAO_ENOTFOUND (no host in DIR), TAO_EVERSION, and those of tao/file.h.
 */
#ifndef HOST_CONF_H
#define HOST_CONF_H

#include <stdint.h>

#include "../tao/buf.h"

#define HOST_FORMAT "tao state 1\n"
#define HOST_DIR_MAX 90 /* bytes: the socket's path must fit in sun_path */

enum { CONF_DEFAULT, CONF_YES, CONF_NO }; /* of keys that are yes or no */

struct host_root;

struct host_conf {
	char *dir;
	const struct host_root *root; /* root = soft | parent (root.h); default soft */
	char *socket;            /* socket = PATH; default DIR/run/tao.sock */
	char *openssl_conf;      /* DIR/openssl.cnf */
	char *module;            /* provider = PATH of tao.so; default: beside the installation */
	/* tao_tls.so, in the same directory, the other name of it; NULL: it is not there */
	char *tls_module;
	uint32_t workers;        /* workers = N; default: one per CPU */
	uint32_t cert_seconds;   /* certificate_lifetime = SECONDS; default 259200 */
	uint32_t admit;          /* admit = none | connected: name what connects without tao run */
	/* audit = on (default) | require: no operation without its record */
	uint32_t audit_require;
	/* audit_size = BYTES of a file of the audit log; default 16777216 */
	uint32_t audit_bytes;
	uint32_t delegation_seconds; /* delegation_lifetime = SECONDS; default 2592000 */
	/* parent = DIR of the parent host, for tao up; NULL: the default one */
	char *parent;
	uint32_t channel_epoch;  /* channel_epoch = SECONDS; default 86400 (ancestor.h) */
	uint32_t channel_overlap; /* channel_overlap = SECONDS; default 3600, at most the epoch */
	uint32_t max_channel_nonces; /* nonces of channels that are remembered; default 8388608 */
	uint32_t max_labels;     /* max_labels = N counters, per program; default 64 (counter.h) */
	uint32_t timeout_ms;     /* timeout = MILLISECONDS of provider requests; default 10000 */
	uint32_t sandbox;        /* sandbox = yes | no: seccomp and Landlock; default yes */
	/* undumpable = yes | no, for the provider; default: by the owner */
	uint32_t undumpable;
	/* Limits (limit.h); the keys have the members' names. */
	uint32_t max_instances, max_instances_per_user;
	uint32_t max_connections_per_program, max_connections_per_user, max_unnamed_per_user;
	uint32_t max_keys;       /* of a user */
	uint32_t max_keys_per_program;
	uint32_t max_request;    /* bytes */
	uint32_t max_memory_per_user; /* bytes */
	uint32_t max_rate_per_program, max_rate_per_user; /* costly operations a second */
	uint32_t max_slow_per_user; /* at once */
};

/* -d DIR, else TAO_DIR, else /var/lib/tao (root) or ~/.local/state/tao: absolute (dir.c). */
enum tao_err host_dir_find(const char *given, struct tao_buf *dir);
/* The same for who wants to reach a host: a user who has none of his own, and names none,
 * reaches the machine's in /var/lib/tao, if there is one. */
enum tao_err host_dir_reach(const char *given, struct tao_buf *dir);
enum tao_err host_conf_load(const char *dir, struct host_conf *out);
/* The same for who only wants to reach a host that runs: values that are wrong are the
 * default's. */
enum tao_err host_conf_load_lenient(const char *dir, struct host_conf *out);
void host_conf_clear(struct host_conf *c);
/* DIR/RELATIVE, printf-style, malloc'ed; NULL when out of memory. */
char *host_path(const struct host_conf *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Makes a host in DIR: every file above but those of a running taod, and, if its root
 * makes keys at once, a domain and the fact TrustedHost. TAO_EEXIST if there is one.
 * On failure nothing of it stays. domain_name: for people, in certificates. */
enum tao_err host_create(const char *dir, const struct host_root *root, const char *domain_name,
                         const void *pass, size_t pass_n);

/* The openssl.cnf fragment: default provider first, then tao. An undumpable that is not set is
 * no. */
void host_openssl_conf(const struct host_conf *c, struct tao_buf *out);

#endif
