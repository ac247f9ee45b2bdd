/*
 * tao(1): what its subcommands share.
 *
 * One file per subcommand, one table in main.c that drives dispatch and
 * usage. A subcommand returns its exit status: 0 done, 1 failed (a sentence
 * on stderr, "tao NAME: SENTENCE"), 2 usage. `tao run` exits with 127 (no such program) and 126
 * (not executable, refused, no host) as a shell does.
 *
 * The program is front.c, which does `tao run` itself: a program's start waits for
 * nothing that it does not need, libcrypto first of all. All else, and all that is
 * out of the ordinary, is in commands.so: lib/tao/ beside the program's bin/, else
 * where it was installed.
 *
 * Data goes to stdout, sentences to stderr. Text that comes from a host, a
 * file or a certificate is escaped before it reaches a terminal.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <getopt.h>
#include <sys/types.h>

#include <protobuf-c/protobuf-c.h>

#include "../host/auditlog.h"
#include "../host/conf.h"
#include "../tao/client.h"
#include "../tao/json.h"
#include "../tao/tao.h"

struct cmd;

struct cmd_env {
	const char *self;     /* argv[0] */
	const char *name;     /* "key new": for sentences and usage */
	const char *dir;      /* -d DIR as given, or NULL */
	int json;             /* --json */
	int in_order;         /* options end at the first operand (tao run) */
	int status;           /* cmd_option() returned CMD_STOP: exit with this */
	const struct cmd *cmd; /* its row; NULL before there is one */
};

struct cmd {
	const char *name;     /* "run", "key" */
	const char *sub;      /* "new", or NULL */
	const char *args;     /* usage: what follows the name */
	const char *help;     /* one line */
	int (*fn)(struct cmd_env *env, int argc, char **argv);
	const char *details;  /* --help: options, one a line; may be NULL */
};

extern const struct cmd cmd_table[]; /* ended by a NULL name */

int cmd_init(struct cmd_env *env, int argc, char **argv);
int cmd_up(struct cmd_env *env, int argc, char **argv);
int cmd_down(struct cmd_env *env, int argc, char **argv);
int cmd_run(struct cmd_env *env, int argc, char **argv);
int cmd_ps(struct cmd_env *env, int argc, char **argv);
int cmd_status(struct cmd_env *env, int argc, char **argv);
int cmd_stop(struct cmd_env *env, int argc, char **argv);
int cmd_kill(struct cmd_env *env, int argc, char **argv);
int cmd_log(struct cmd_env *env, int argc, char **argv);
int cmd_log_verify(struct cmd_env *env, int argc, char **argv);
int cmd_key_new(struct cmd_env *env, int argc, char **argv);
int cmd_key_import(struct cmd_env *env, int argc, char **argv);
int cmd_key_show(struct cmd_env *env, int argc, char **argv);
int cmd_key_rotate(struct cmd_env *env, int argc, char **argv);
int cmd_key_delete(struct cmd_env *env, int argc, char **argv);
int cmd_key_list(struct cmd_env *env, int argc, char **argv);
int cmd_key_pem(struct cmd_env *env, int argc, char **argv);
int cmd_cert_import(struct cmd_env *env, int argc, char **argv);
int cmd_cert_remove(struct cmd_env *env, int argc, char **argv);
int cmd_cert_request(struct cmd_env *env, int argc, char **argv);
int cmd_cert_show(struct cmd_env *env, int argc, char **argv);
int cmd_trust(struct cmd_env *env, int argc, char **argv);
int cmd_peers_connect(struct cmd_env *env, int argc, char **argv);
int cmd_revoke(struct cmd_env *env, int argc, char **argv);
int cmd_group_key(struct cmd_env *env, int argc, char **argv);
int cmd_policy_show(struct cmd_env *env, int argc, char **argv);
int cmd_policy_add(struct cmd_env *env, int argc, char **argv);
int cmd_policy_remove(struct cmd_env *env, int argc, char **argv);
int cmd_conf_print(struct cmd_env *env, int argc, char **argv);
int cmd_conf_check(struct cmd_env *env, int argc, char **argv);
int cmd_doctor(struct cmd_env *env, int argc, char **argv);
int cmd_name(struct cmd_env *env, int argc, char **argv);
int cmd_extend(struct cmd_env *env, int argc, char **argv);
int cmd_random(struct cmd_env *env, int argc, char **argv);
int cmd_secret(struct cmd_env *env, int argc, char **argv);
int cmd_attest(struct cmd_env *env, int argc, char **argv);
int cmd_verify(struct cmd_env *env, int argc, char **argv);
int cmd_seal(struct cmd_env *env, int argc, char **argv);
int cmd_unseal(struct cmd_env *env, int argc, char **argv);
int cmd_counter_init(struct cmd_env *env, int argc, char **argv);
int cmd_counter_get(struct cmd_env *env, int argc, char **argv);
int cmd_host_epoch(struct cmd_env *env, int argc, char **argv);
int cmd_host_counters(struct cmd_env *env, int argc, char **argv);
int cmd_protect(struct cmd_env *env, int argc, char **argv);
int cmd_logic_encode(struct cmd_env *env, int argc, char **argv);
int cmd_logic_decode(struct cmd_env *env, int argc, char **argv);
int cmd_compat_inspect(struct cmd_env *env, int argc, char **argv);
int cmd_compat_verify(struct cmd_env *env, int argc, char **argv);
int cmd_compat_decrypt(struct cmd_env *env, int argc, char **argv);
int cmd_compat_unpbe(struct cmd_env *env, int argc, char **argv);
int cmd_compat_derive(struct cmd_env *env, int argc, char **argv);
int cmd_compat_attestation(struct cmd_env *env, int argc, char **argv);
int cmd_compat_import(struct cmd_env *env, int argc, char **argv);

/* ---- main.c: usage ---- */

/* commands.so's entry: the whole of tao(1). */
int tao_commands(int argc, char **argv);

/* Prints how it is used; returns 2. */
int cmd_usage(const struct cmd_env *env, const char *why_fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* --help and --version: on stdout; return 0. */
int cmd_help(const struct cmd_env *env);
int cmd_version(const struct cmd_env *env);

/* ---- option.c ---- */

#define CMD_END (-1)
#define CMD_STOP (-2)
#define CMD_OPTIONS_MAX 16 /* of one subcommand's own */

/* The next option's val, of own (ended by a NULL name; may be NULL) and the global ones, which are
 * dealt with here; CMD_END when only operands are left (argv[optind..]); CMD_STOP when
 * there is nothing more to do (--help, --version, wrong usage): return env->status. */
int cmd_option(struct cmd_env *env, int argc, char **argv, const struct option *own);
/* How long: "90s", "5m", "12h", "30d", in seconds; 0 if it is nothing of the kind. */
int cmd_seconds(const char *text, int64_t *out);
/* For subcommands without options of their own. Returns 1 when there are least to most operands;
 * else 0, and env->status is what to return. */
int cmd_operands(struct cmd_env *env, int argc, char **argv, int least, int most);
/* A word of a list ended by NULL; if it is not among them, explains as wrong
 * usage and returns 0. */
int cmd_one_of(struct cmd_env *env, const char *option, const char *word,
               const char *const *words);

/* ---- host.c: talking to the host ---- */

/* Finds and loads taod.conf of env->dir. conf is cleared by the caller, also after a failure. */
enum tao_err cmd_conf(const struct cmd_env *env, struct host_conf *conf);
/* The same, and connects; explains when the host is not running. Both are the caller's to
 * clear and close, also after a failure. */
enum tao_err cmd_connect(struct cmd_env *env, struct host_conf *conf, struct tao_conn *c);
/* Of a call of status or down, its error: a host that did not answer stands still or is overloaded, and
 * these are the commands that others name then. */
enum tao_err cmd_hangs(const struct host_conf *conf, enum tao_err e);

/* Only connects (open.c). */
enum tao_err cmd_open(struct cmd_env *env, struct tao_conn *c);

#define CMD_RUN_TIMEOUT_MS 120000 /* calls that may have to hash large files for the first time */

/* One call. rq NULL: an empty request. fd: goes along, or -1. type: of the reply; *out is freed
 * with protobuf_c_message_free_unpacked(). fds as in tao_conn_call(). */
enum tao_err cmd_call(struct tao_conn *c, const char *op, const ProtobufCMessage *rq, int fd,
                      const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, int *fds,
                      size_t *n_fds);
/* Connects, calls, closes. */
enum tao_err cmd_ask(struct cmd_env *env, const char *op, const ProtobufCMessage *rq, int fd,
                     const ProtobufCMessageDescriptor *type, ProtobufCMessage **out);

/* ---- list.c: lists of the host's ---- */

struct cmd_list {
	const char *op;                                   /* asked without a request */
	const ProtobufCMessageDescriptor *type;           /* of its answer */
	void (*table)(const ProtobufCMessage *list, const void *arg);
	void (*json)(struct tao_json *j, const ProtobufCMessage *list); /* the elements of an array */
	const void *arg;                                  /* for table */
};
/* Asks, prints; returns the exit status. */
int cmd_list(struct cmd_env *env, const struct cmd_list *l);

struct Tao__InstanceInfo;
/* ps.c: an instance's name for people: its label, else its program's. */
const char *cmd_instance_name(const struct Tao__InstanceInfo *in);

/* ---- log_print.c: records of the audit log ---- */

/* One line for people, newline included, escaped. */
void cmd_record_text(const struct audit_record *r, struct tao_buf *out);

/* ---- parent.c: the commands of scripts, inside tao run ---- */

/* The host of the program that this runs in: by the environment, or that of -d DIR. NULL on
 * failure. */
enum tao_err cmd_parent(const struct cmd_env *env, struct tao_parent **out);
/* A file, or standard input for NULL and "-". */
enum tao_err cmd_input(const char *file, size_t max, struct tao_buf *out);
/* To a file, atomically, or to standard output for NULL. */
enum tao_err cmd_output(const char *file, const void *p, size_t n, mode_t mode);
/* In hex with a newline on standard output, or as they are. */
enum tao_err cmd_output_hex(const void *p, size_t n, int raw);
/* A decimal number; if it is none of that range, explains as wrong usage and returns 0. */
int cmd_number(struct cmd_env *env, const char *what, const char *text, int64_t least,
               int64_t most, int64_t *out);

/* ---- program.c: programs and users as people name them ---- */

#define CMD_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Finds a program as a shell does, but in CMD_PATH; a name with a slash is a path. path: absolute,
 * malloc'ed. fd: open for reading, close-on-exec. TAO_ENOTFOUND; TAO_EPERM when it is there but
 * cannot be executed or read. */
enum tao_err cmd_program(const char *name, char **path, int *fd);
/* An absolute path for a path, malloc'ed; symbolic links stay as they are. */
enum tao_err cmd_absolute(const char *path, char **out);
/* A user by name or number. */
enum tao_err cmd_user_find(const char *user, uid_t *uid);
#define CMD_USER_MAX 64
const char *cmd_user_name(uid_t uid, char out[CMD_USER_MAX]); /* the number if it has no name */

/* ---- passphrase.c ---- */

struct cmd_pass {
	const char *file;   /* --passphrase-file */
	const char *fd;     /* --passphrase-fd */
	const char *prompt; /* on the terminal, if neither is given */
	int twice;          /* ask again, and compare */
	int credential;     /* look for systemd's credential before the terminal */
};
enum tao_err cmd_passphrase(const struct cmd_pass *p, struct tao_buf *out);

/* ---- print.c ---- */

/* Prints "tao NAME: tao_why()" to stderr; returns 1. */
int cmd_failed(const struct cmd_env *env);
/* A sentence in the same form, without consequences. */
void cmd_notice(const struct cmd_env *env, const char *sentence);
/* Appends text with control characters and bytes that are not UTF-8 as \xHH. */
void cmd_escape(struct tao_buf *out, const char *text);
/* "NAME  TEXT" on stdout, escaped; nothing when text is NULL. */
void cmd_field(const char *name, const char *text);
void cmd_fieldf(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints the buffer and a newline on stdout, and frees it; returns the exit
 * status. */
int cmd_put_json(const struct cmd_env *env, struct tao_buf *b);
#define CMD_TIME_MAX 32
const char *cmd_time(int64_t seconds, char out[CMD_TIME_MAX]); /* local, ISO 8601 */

/* "3 days", "2 h 5 min": how long, for people. */
const char *cmd_duration(int64_t seconds, char out[CMD_TIME_MAX]);

/* Aligned columns; the first row holds the titles. On a terminal, lines are cut at its width. */
struct cmd_grid {
	size_t cols, n, cap;
	char **cell; /* NULL in it: memory ran out */
};
void cmd_cell(struct cmd_grid *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cmd_grid_print(struct cmd_grid *g); /* and frees */

/* ---- findings.c: what conf check and doctor say ---- */

enum cmd_level { CMD_GOOD, CMD_WARNING, CMD_BAD };
struct cmd_finding {
	enum cmd_level level;
	char *file; /* NULL: about none */
	long line;  /* 0: unknown */
	char *text;
};
struct cmd_findings {
	struct cmd_finding *v;
	size_t n, cap;
	size_t bad;       /* how many are CMD_BAD */
	const char *file; /* put into new ones; may be NULL */
};
void cmd_found(struct cmd_findings *f, enum cmd_level level, long line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void cmd_findings_clear(struct cmd_findings *f);
/* Prints one line for each, or JSON; clears; returns 1 if there were bad ones, else 0. */
int cmd_findings_print(const struct cmd_env *env, struct cmd_findings *f);

/* conf_check.c: everything an administrator gets wrong in an openssl.cnf. */
void cmd_examine_conf(const char *path, struct cmd_findings *f);
/* What the module tao_tls of that file enforces on connections of a program, by its executable's path. */
void cmd_examine_mode(const char *path, const char *program, struct cmd_findings *f);
/* The path by which that file loads the module; the caller's. NULL: it does not. */
char *cmd_tls_module(const char *path);
/* doctor_peer.c: connects to "HOST:PORT" and says what came of it. 0 if it is not of that form. */
int cmd_examine_peer(const char *where, struct cmd_findings *f);
/* doctor_starttls.c: has a server begin TLS whose protocol does so when it is asked to, and returns the
 * protocol's name. It is waited so many milliseconds for a greeting; waits_for_us: after that, PostgreSQL is tried.
 * NULL: it is none of those, and nothing was read. *good: 0 if it does not begin TLS. */
const char *cmd_starttls(int fd, int wait_ms, int waits_for_us, int *good);
/* A provider module: there, for this machine, and a provider. */
void cmd_examine_module(const char *path, long line, struct cmd_findings *f);

#endif
