/*
 * The keeper: the process of taod that has the keys and answers programs.
 *
 * One struct host, made once at start, then only read; what changes has a
 * lock of its own inside its module. Each CPU has its workers and their epoll
 * set, a connection is with those of its caller's CPU, and each event goes to
 * one worker, which answers in place: a signature costs no hand-over between
 * threads or cores. Only what may take long (measuring, disks, large keys) goes to threads
 * of its own. Programs, not connections, take turns. Sources are one-shot, so one connection is
 * never in two threads.
 *
 *   taod.c      options, foreground and background
 *   start.c     making and ending a host
 *   root.c      roots of trust (root.h): root_soft.c, root_parent.c
 *   loop.c      sources, workers, accepting
 *   cpus.c      which workers serve which CPU
 *   limit.c     how much one program, and one user, may have
 *   fair.c      whose turn it is
 *   conn.c      connections: framing, state
 *   door.c      doors; the end of a registered process
 *   progsock.c  sockets of single programs, for CloudProxy's clients (progsock.h)
 *   identify.c  who is calling
 *   inside.c    naming what no tao run has named
 *   ops.c       table of operations, with the states that allow them
 *   op_tao.c    name, extend, random, attest
 *   op_seal.c   seal and unseal, with a counter or without
 *   op_secret.c shared secrets
 *   op_state.c  counters of programs; for the owner: counters, epochs
 *   sealing.h   who may have what was sealed
 *   counter.c   the table of counters      epoch.c   epochs of sealing
 *   op_key.c    keys and certificates, for programs
 *   op_newkey.c making, importing, rotating and deleting keys
 *   op_keys.c   lists and facts of keys
 *   op_run.c    registration
 *   op_admin.c  status, lists, policy
 *   registry.c  instances
 *   recall.c    those of the taod before this one
 *   custody.c   sealed keys; custody_type.c, custody_use.c, sealedkey.c, pkcs1.c
 *   keystore.c  their files
 *   cert.c      program certificates
 *   upgrade.c   executables that replace older ones (upgrade.h)
 *   imported.c  certificates of other authorities (imported.h); certchain.c, op_cert.c
 *   renew.c     their renewal for programs that run
 *   peers.c     Tao channels (peers.h, ancestor.h)
 *   audit.c     the audit log (audit.h)
 *   timer.c     what is due from time to time
 *   clock.c     notices when the clock is set
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/x509.h>

#include "audit.h"
#include "conf.h"
#include "fair.h"
#include "inside.h"
#include "limit.h"
#include "measure.h"
#include "measurer.h"
#include "names.h"
#include "process.h"
#include "recall.h"
#include "spent.h"
#include "../domain/domain.h"
#include "../tao/client.h"
#include "../tao/key.h"
#include "../tao/logic.h"
#include "../tao/pb.h"
#include "../tao/rpc.h"
#include "../tao/seal.h"
#include "../tao/shield.h"

struct loop;
struct counters;
struct custody;
struct epochs;
struct registry;
struct peers;
struct principal;
struct log;
struct timer;

struct host {
	struct host_conf conf;
	uid_t owner;                 /* taod's user; on a system host root */
	int development;             /* an ordinary user's host */
	int64_t since;               /* seconds since 1970 */
	_Atomic int64_t clock_offset; /* clock.c's */
	struct process_guards guards;
	void *root_data;             /* of conf.root's functions (root.h) */
	struct tao_signer signer;    /* this host's own key */
	struct tao_sealer sealer;
	struct tao_shield *secrets;  /* op_secret.c */
	uint8_t root[TAO_HASH_LEN];  /* hash of its signing key */
	struct tao_node *name;       /* the host's principal */
	struct file_id tao;          /* the installed tao(1) */
	int has_tao;
	struct domain *domain;
	struct measurer *measurer;
	atomic_int lost_measurer;    /* taod ends for it */
	struct limits *limits;
	struct registry *registry;
	struct recall *recall;
	struct inside *inside;
	struct custody *custody;
	struct audit *audit;
	struct epochs *epochs;       /* of the sealer */
	struct counters *counters;
	struct peers *peers;         /* channels */
	struct log *log;
	struct timer *timers;
	struct loop *loop;
};

/* ---- making and ending (start.c) ---- */

/* Sets owner and development: who runs this, and may it look into other users' processes? */
enum tao_err host_check_owner(struct host *h);
/* h has its conf; pass is the passphrase of its keys. After a failure host_end() as well. */
enum tao_err host_start(struct host *h, const struct tao_buf *pass);
void host_end(struct host *h);
/* What shared secrets are derived from (op_secret.c). */
enum tao_err shared_secrets_init(struct host *h, const struct tao_keyset *ks);
/* Epochs and counters (op_state.c); needs keys and domain. The second ends these and what shared
 * secrets are derived from. */
enum tao_err sealing_start(struct host *h);
void sealing_end(struct host *h);

/* The machine's clock (clock.c). Where it was set, that is logged and recorded, and all timers are
 * due at once. The kernel says so to clock_watch()'s source, also when the machine has slept;
 * clock_look(), by any thread every few seconds, is for where it does not. */
void clock_start(struct host *h);
enum tao_err clock_watch(struct host *h);
void clock_look(struct host *h);

/* ---- instances (registry.c) ---- */

#define INSTANCE_MAX_EXTENDS 64   /* ExtendTaoName of one instance */
#define INSTANCE_MAX_NAME 4096    /* bytes of its name, binary */
#define INSTANCE_MAX_LABEL 64     /* bytes of its label */
#define INSTANCE_MAX_AGAIN 16     /* registrations of one process */
#define CONN_SECONDS 60           /* to identify, to finish a request, to read answers */

enum instance_kind {
	INSTANCE_RUN,     /* registered by tao run */
	INSTANCE_FOUND,   /* another executable that a process of an instance started: Measured */
	INSTANCE_PROCESS, /* admitted without tao run: Process, whose hash is a hint */
};

#define INSTANCE_MAX_ARGS 4096 /* bytes of args */

/* One registered start of a program with its forked children. Fixed once
 * registered, but for what is atomic. Reference-counted: the registry, its
 * door and each connection hold one. */
struct instance {
	atomic_uint refs;
	uint64_t id;
	pid_t pid;                /* of the registered process */
	uint64_t start;           /* its start time */
	uid_t uid;                /* of the caller of tao run */
	uint8_t exe[TAO_HASH_LEN];
	struct file_id file;
	char *program, *label;    /* for people; label may be NULL */
	char *openssl_conf;       /* that tao run gave it; NULL: not known */
	int64_t since;
	_Atomic(struct name_version *) name;
	atomic_ullong operations;
	atomic_uint conns;
	atomic_uint keys;         /* made by it */
	struct limit_rate costly;
	struct limit_rate refusals; /* audit.h: those that others can cause */
	atomic_int door_open;     /* how many are */
	atomic_int ended;
	atomic_int watched;       /* until its process ends: how many watch */
	int interpreter;          /* a key for the executable alone would be every script's */
	enum instance_kind kind;
	atomic_ullong exec;       /* struct process_view's, of the registered start; 0: not learned.
	                           * Who runs an interpreter, or is not uid, belongs here only by
	                           * the same exec. */
	atomic_int held;          /* its start may have been seen at the exec (hold.h) */
	uint64_t before;          /* the exec of the registering process until it executes the
	                           * program: who is still that is no part of it */
	char *args;               /* end of an interpreter's arguments, each ended by NUL: what is
	                           * learned is the start with these; else NULL */
	size_t args_n;
	char *unit;               /* system unit that it was registered in; "" if in none */
	int has_progsock;         /* it has a socket of its own (progsock.h) */
	int progsock;             /* ends its listening; 0: none */
	_Atomic ino_t door;       /* inode of the newest program's end: who has it belongs here */
	atomic_int last_pid;      /* of the process that identified itself last */
	atomic_int by_member;     /* its door is dead, but a member of it lives (recall.h) */
	struct kept *kept;        /* recall's: what is in its file; NULL: none */
	_Atomic uint64_t last_start; /* its start time */
	_Atomic(struct key_use *) uses; /* audit.h */
	atomic_uint n_uses;
	_Atomic uint64_t unrevoked; /* version of the rules that say so; 0: not asked */
	struct principal *principal; /* peers.h's, under its lock: NULL before it is needed */
	const struct tao_node *principal_of; /* the name that it is of */
	int principal_over;
	struct spent shares;      /* of its nonces, under their lock */
	atomic_int answered;      /* it was the server of a Tao channel */
	struct instance *next;    /* registry's */
};

struct name_version {
	struct tao_node *node;
	struct name_version *before;
	unsigned depth;
};

/* conf: for its limits; stays the caller's. */
struct registry *registry_new(const struct host_conf *conf);
void registry_free(struct registry *r);
/* What is registered. Everything is copied. */
struct registration {
	const struct measurement *m;
	enum instance_kind kind;
	uid_t uid;
	pid_t pid;
	uint64_t start, exec, before; /* exec, before: 0 if there is none */
	const char *program, *label; /* label may be NULL */
	const char *openssl_conf;    /* may be NULL */
	const char *unit;            /* NULL: in none */
	const char *args;            /* as in struct instance; its end is kept */
	size_t args_n;
};
/* Takes over name (also on failure). One reference is the caller's. A process that runs
 * tao run again leaves its old instance. TAO_EEXIST, without a sentence: an instance that was not
 * made by tao run is there already, in *out. */
enum tao_err registry_add(struct registry *r, const struct registration *g, struct tao_node *name,
                          struct instance **out);
/* The identifier was an instance's of an earlier taod. */
void registry_used(struct registry *r, uint64_t id);
/* An instance of an earlier taod, with its identifier; the registry takes a reference. */
void registry_restore(struct registry *r, struct instance *i);
/*
 * Whose process this is, by descent and by system unit; v is what it is now, or
 * NULL to have it looked up. *out: the instance that it is of, since it or its
 * nearest such ancestor is the registered process or a member (recall.h), or it
 * is in the same system unit, and it runs as that one does and is its own. *around: if there is no
 * *out, the instance inside which it runs something else. Each is NULL or a
 * reference of the caller's; with neither, TAO_ENOTRUN.
 */
enum tao_err registry_find(struct host *h, pid_t pid, const struct process_view *v,
                           struct instance **out, struct instance **around);
/* TAO_EWRONGPROG if the hash of i's executable is a hint only (Process): nothing that is for a
 * program is for it. */
enum tao_err instance_is_measured(const struct instance *i);
/* 1 if a process of i may look like this: the same file, and of an interpreter the same start. */
int instance_runs_as(const struct instance *i, const struct process_view *v);
/* 1 if it was the instance's user that executed what this process is: it is still his, or is the
 * registered start, or descends from such a process with no execve() in between. Whoever else
 * executes the instance's file decides what is in its environment, and is himself. May ask the
 * measurer. */
int instance_is_own(struct host *h, const struct instance *i, const struct process_view *v);
/* The instance whose door has one of these inodes, or NULL: for people's questions only. */
struct instance *registry_by_door(struct registry *r, const uint64_t *inodes, size_t n);
/* Its first process lives, or who has its door, or a member. */
int instance_runs(struct instance *i);
struct instance *instance_ref(struct instance *i);
void instance_unref(struct instance *i);
/* After a change of conns, door_open, ended or watched: an instance that is over goes. */
void registry_settle(struct registry *r, struct instance *i);
void registry_each(struct registry *r, void (*fn)(struct instance *, void *), void *arg);
uint32_t registry_count(struct registry *r);
/* Identifier of the one that came last. */
uint64_t registry_newest(struct registry *r);
/* fn is told each instance that is over. Before any is registered. */
void registry_on_end(struct registry *r, void (*fn)(struct host *, struct instance *),
                     struct host *h);
/* The current principal; valid as long as the instance. */
const struct tao_node *instance_name(struct instance *i);
/* Appends ext...; the old name stays valid. subprin's ownership is not taken. */
enum tao_err instance_extend(struct instance *i, const struct tao_node *subprin);
/* keep() puts the longer name on file before it counts, or fails. */
typedef enum tao_err instance_keep_fn(void *arg, const struct tao_node *name);
enum tao_err instance_extend_kept(struct instance *i, const struct tao_node *subprin,
                                  instance_keep_fn *keep, void *arg);

/* ---- loop (loop.c) ---- */

/* Threads for what takes long, so that no worker is held up. A user has at most
 * max_slow_per_user of a pool's at once, that is half of them; those that wait are
 * bounded by the connections: one each. */
enum pool {
	POOL_WAITS,    /* for the measurer, disks */
	POOL_COMPUTES, /* at a lower priority than the workers */
};

/* Something with a descriptor in the epoll set. ready() runs in one worker; it
 * re-arms with loop_arm(), ends with loop_remove(), or has itself called again
 * with loop_defer(): by a thread that may take its time, events then being 0.
 * flow says whose it is: while several flows have something to do, each may
 * have one request answered in its turn (quota), else many. */
struct source {
	struct fair_item item;    /* in a queue */
	uint64_t flow;            /* FLOW_... */
	struct limit_user *user;  /* may be NULL */
	uint32_t quota, events;
	int fd;
	void (*ready)(struct host *h, struct source *s, uint32_t events);
	void (*destroy)(struct host *h, struct source *s); /* frees it; closes fd */
	atomic_uint turns;      /* given on: what one thread wrote, the next one sees */
	_Atomic int64_t deadline; /* loop_now() after which it is shut down; 0: none */
	struct source *prev, *next;
	uint32_t set, next_set; /* of workers: where it is armed, and where next */
};

#define FLOW_HOST 0 /* the host's own */
#define FLOW_USER(uid) ((uint64_t)1 << 63 | (uid)) /* connections that are no program's */
#define FLOW_INSTANCE(i) ((i)->id)

enum tao_err loop_new(struct host *h, struct loop **out);
enum tao_err loop_add(struct host *h, struct source *s, uint32_t events);
void loop_arm(struct host *h, struct source *s, uint32_t events);
void loop_remove(struct host *h, struct source *s); /* destroys it */
/* From its next arming on, the workers of that CPU have it (cpus.h). */
void loop_follow(struct host *h, struct source *s, int cpu);
void loop_defer(struct host *h, struct source *s, enum pool pool);
/* Before something that makes this worker wait: others serve what it has taken on. */
void loop_may_wait(struct host *h, struct source *s);
int64_t loop_now(void); /* seconds, monotonic */
enum tao_err loop_listen(struct host *h); /* binds the socket */
/* Descriptors, or memory for them, have run out: says so, and waits a little. */
void loop_accept_pause(struct host *h);
enum tao_err loop_run(struct host *h);    /* starts the workers */
void loop_stop(struct host *h);           /* ends them, destroys every source */

/* ---- timers (timer.c) ---- */

#define TIMER_SECONDS_MAX 60

/* due() is called every so many seconds (1 to TIMER_SECONDS_MAX) by a thread that may take its
 * time, never by two at once. Before loop_run(). */
enum tao_err timer_add(struct host *h, time_t every, void (*due)(struct host *h));
void timers_now(struct host *h); /* all are due; any thread */

/* ---- connections (conn.c) ---- */

enum conn_state {
	CONN_NEW = 1,     /* a user is known (kernel credentials), no program */
	CONN_HELLO = 2,   /* challenge sent */
	CONN_PROGRAM = 4, /* identified */
	/* on a program's own socket (progsock.h): inst is set if it is that program's */
	CONN_PROGSOCK = 8,
};

struct conn {
	struct source source;
	enum conn_state state;
	int by_path;              /* accepted on the socket, not through a door */
	pid_t pid;                /* of the process that made the connection */
	uid_t uid;
	int pidfd;                /* from Hello to Prove; in CONN_PROGSOCK always */
	uint8_t challenge[TAO_CHALLENGE_LEN];
	struct instance *via;     /* whose door it came through */
	uint64_t via_exec;        /* the exec of the process that asked for that door; 0: of none */
	uint64_t exec;            /* in CONN_PROGRAM: of the process that it is of */
	struct instance *inst;    /* set in CONN_PROGRAM */
	struct instance *at;      /* in CONN_PROGSOCK: whose socket it came to */
	char *stranger;           /* and why it is not that one's; NULL: it is */
	struct instance *ran;     /* what was registered here; starts when this closes */
	enum pool later;          /* which pool its next request is for */
	int charged;              /* that request was counted as a costly one */
	size_t memory;            /* bytes of its buffers that are counted for its user */
	pid_t sender;             /* of the bytes read last; 0: unknown */
	int passed_fd;            /* descriptor that came with the request, or -1 */
	struct tao_buf in, out;
	size_t behind;            /* bytes of in behind the request that is being answered */
	size_t out_done;
	int send_fds[TAO_CALL_MAX_FDS]; /* to go with the reply; closed after */
	size_t n_send_fds;
};

/* via, exec: the door's, see there; NULL and 0 without one. */
enum tao_err conn_add(struct host *h, int fd, struct instance *via, uint64_t exec);
/* Accepted on that instance's own socket. */
enum tao_err conn_add_at(struct host *h, int fd, struct instance *at);
/* A connection counts for its program, from the door on or from Tao.Prove on. */
enum tao_err conn_count_in(struct host *h, struct instance *i);
/* Closing what somebody sent must not take this thread's time. */
void conn_close_foreign(int fd);
void conn_drain(int fd);
/* One byte and a descriptor from a door (*fd stays -1 without): 1, 0 nothing there, -1 the end. */
int conn_take_fd(int door, int *fd);

/* ---- doors (door.c), who is calling (identify.c) ---- */

/* Opens a door of an instance: the program's end is the result. exec: struct process_view's, of
 * the process that asked, which is the instance's; 0: opened by tao run. Its forks belong to the
 * instance as it does, also when it has executed itself anew since and they have changed their
 * user. */
enum tao_err door_add(struct host *h, struct instance *i, uint64_t exec, int *program_end);
/* Notices the end of the registered process. Takes over pidfd. */
enum tao_err watch_add(struct host *h, struct instance *i, int pidfd);
/* Learns which exec is the start of i, if the registered process runs it by now, as its user, and
 * an interpreter with its arguments. 0: not yet. */
int instance_learn(struct host *h, struct instance *i);
/* c is from here on of i, as which v runs: counted, taken turns with, remembered. */
void conn_named(struct host *h, struct conn *c, struct instance *i, const struct process_view *v);
enum tao_err conn_hello(struct host *h, struct conn *c);
/* Also refuses when more than Tao.Prove has arrived: clients wait for its answer. */
/* OP_LATER, with nothing done, if the process has to be measured and !may_be_slow. */
enum tao_err conn_prove(struct host *h, struct conn *c, const void *challenge, size_t n,
                        int may_be_slow);

/* ---- operations (ops.c, op_*.c) ---- */

struct request {
	struct host *h;
	struct conn *c;
	struct instance *inst;    /* NULL for Host operations */
	const struct tao_rpc_msg *m;
	struct tao_buf *body;     /* reply */
	int may_be_slow;          /* this thread is one of loop_defer()'s */
	struct tao_buf notes;     /* for the audit log: audit_note() */
	struct key_use *use;      /* audit_note_key() */
};

/* What an operation returns, before it did anything, if it turns out to compute for long and
 * !may_be_slow: it is called again where it may be (POOL_COMPUTES). */
#define OP_LATER ((enum tao_err)(-1))

struct held_key;

typedef enum tao_err op_fn(struct request *r);

struct op {
	const char *name;
	unsigned states;          /* enum conn_state, or-ed */
	size_t max_body;
	op_fn *fn;
	int how;                  /* OP_..., or-ed */
	enum audit_how audit;     /* how it is recorded (audit.h) */
};

#define OP_QUICK 0
#define OP_SLOW 1     /* measures, writes files, or opens many keys: for POOL_WAITS */
#define OP_COMPUTES 2 /* makes keys: for POOL_COMPUTES */
#define OP_WAITS 4    /* may read a file or ask the measurer: a worker does it, but tells others;
                       * OP_LATER: for POOL_WAITS */
#define OP_COSTLY 8   /* counts for max_rate_per_program and max_rate_per_user */
#define OP_NOT_REVOKED 16 /* not for a program that the domain has revoked */
#define OP_QUICK_BODY 65536 /* bytes; any operation with more is for POOL_COMPUTES */

const struct op *op_find(const char *name);

/* Bytes that protobuf-c may use for one request. */
#define OP_UNPACK_CAP (TAO_RPC_MAX_REQUEST + (64u << 10))
/* Unpacks r->m's body; message type by its descriptor. */
#define OP_UNPACK(r, pa, lower, out)                                                              \
	op_unpack((r), (pa), &lower##__descriptor, (ProtobufCMessage **)(out))
enum tao_err op_unpack(struct request *r, struct tao_pb_alloc *pa,
                       const ProtobufCMessageDescriptor *d, ProtobufCMessage **out);
int op_is_owner(const struct request *r);
/* An RPCResponse with data, and a policy's word unless it is NULL. CloudProxy's clients want
 * exactly what the operation gives, and no empty data. */
void op_put_data(struct request *r, void *p, size_t n, const char *policy);
/* A NULL-terminated list of C strings; the strings are in store, the list is the caller's
 * (free). */
enum tao_err op_strings(const ProtobufCBinaryData *from, size_t n, struct tao_buf *store,
                        char ***out);

op_fn op_hello, op_prove, op_door;
op_fn op_get_name, op_extend_name, op_random, op_attest, op_seal, op_unseal, op_rollback_seal,
	op_rollback_unseal, op_shared_secret, op_init_counter, op_get_counter;
op_fn op_epoch, op_counters;
op_fn op_generate_key, op_get_key, op_open_key, op_sign, op_decrypt, op_derive, op_list_keys,
	op_get_certificate, op_policy_certificate;
op_fn op_identity, op_peer, op_psk_client, op_psk_server, op_check_peer, op_handshake;
op_fn op_group_nonces, op_group_server, op_group_client, op_group_key;
op_fn op_run;
op_fn op_new_key, op_import_key, op_rotate_key, op_delete_key;
/* Of Host operations on keys (op_newkey.c): whose key it is about, which is the caller's, or for
 * the host's owner anybody's; and that key, open. */
enum tao_err op_whose(struct request *r, int given, uid_t uid, uid_t *out);
enum tao_err op_open_named(struct request *r, const char *name, uid_t uid, struct tao_buf *stub,
                           struct held_key **k);
op_fn op_keys, op_key, op_status, op_ps, op_doctor, op_trust, op_measure, op_policy,
	op_add_fact, op_remove_fact, op_shutdown, op_log;

/* ---- sealed keys (custody.c, custody_type.c, custody_use.c, sealedkey.c) ----
 *
 * A key of type P-256 .. X25519 is generated or imported once, and from then on
 * lives in its blob: what is in there (type, purpose, custody, policy,
 * generation) is decided for ever. The host recomputes the public key whenever
 * it opens one. An opened private half that nobody used for KEY_IDLE_SECONDS is
 * wiped, and opened again from the blob when it is next used; ids stay valid.
 *
 * purpose   what the host does with the key
 *   tls       signs digests as TLS 1.2 and 1.3 do: SHA224 and above, PSS with a salt as
 *             long as the digest, Ed25519 any message (that is how TLS signs)
 *   tls13     signs nothing but the content of a CertificateVerify (RFC 8446 4.4.3), which it
 *             gets whole and hashes itself: never PKCS#1 v1.5
 *   sign      signs digests and messages
 *   decrypt   decrypts (RSA) and derives (ECDH, X25519); signs nothing
 *   any       all that its type can
 *
 * None of them signs a Tao statement that anybody believes. An attestation is
 * signed by the key that the speaker's name begins with, or by one that such a
 * key delegated to (tao/attest.h): a sealed key is in no name, this host
 * delegates to none, and its statement about one (SealedKey) is no speaksfor.
 * The domain issues on a host's own word only. So a signature over a digest,
 * which does not show what it is of, is no statement; whole messages that are
 * ContextualizedData with a context of ours are refused as well.
 *
 * custody "host": the private half never leaves. "program": a program that the
 * policy allows gets it (custody_private()), and may use it here as well.
 *
 * Policy "policy": whom a rule Unseal(P, "key:NAME") names, of the key's user. */

#define KEY_IDLE_SECONDS 30
#define KEY_LABEL "key:"           /* in front of a key's name in Unseal rules */

struct key_spec {
	const char *name;
	const char *type, *purpose, *custody, *policy; /* NULL: the default */
	uid_t uid;
	const uint8_t *exe;               /* policies program and exact */
	const struct tao_node *principal; /* policy exact */
	const char *program;              /* path, for people; may be NULL */
	const char *pss_digest;           /* RSA-PSS: NULL: SHA256 */
	int pss_salt_len;                 /* RSA-PSS: at least; -1: the digest's length */
};

struct held_key; /* a key that was opened; reference-counted */

struct key_facts {
	const char *name, *type, *purpose, *custody, *policy, *program;
	uid_t uid;
	const uint8_t *exe; /* NULL: none */
	int64_t created;
	uint8_t spki_hash[TAO_HASH_LEN];
	const uint8_t *spki;
	size_t spki_n;
	const uint8_t *key_id; /* SEALEDKEY_ID_LEN bytes, of all generations */
	uint32_t generation;
	int imported;
	unsigned bits;
	const struct tao_node *principal; /* NULL: none */
	uint32_t epoch; /* that it was sealed in */
};

struct custody *custody_new(void);
void custody_free(struct custody *c);
enum tao_err custody_check_spec(const struct key_spec *s);
/* Makes a key; the stub's DER. RSA takes its time. */
enum tao_err custody_generate(struct host *h, const struct key_spec *s, struct tao_buf *stub);
/* A key that exists: PKCS#8 DER. Its type is s->type's, if that is not NULL. Slow: it is
 * checked. Marked as imported for ever. */
enum tao_err custody_import(struct host *h, const struct key_spec *s, const void *pkcs8, size_t n,
                            struct tao_buf *stub);
/* The next generation of k: another private key, everything else as it is. */
enum tao_err custody_next(struct host *h, struct held_key *k, struct tao_buf *stub);
/* Opens a stub and keeps it at hand; id is the stub's SHA-256. TAO_ENOTFOUND if
 * this generation was deleted. */
enum tao_err custody_open(struct host *h, const void *stub, size_t n, struct held_key **out);
enum tao_err custody_find(struct host *h, const void *id, size_t n, struct held_key **out);
/* No generation of that key below this one is opened again: what keystore_retire() wrote down. */
void custody_forget(struct host *h, const uint8_t *key_id, uint32_t below);
/* Around a change of a key's files that has more than one step. */
void custody_lock_files(struct custody *c);
void custody_unlock_files(struct custody *c);
/* Wipes private halves that were idle: called at each turn of the loop's sweeper. */
void custody_sweep(struct custody *c, int64_t now);
void held_key_release(struct held_key *k);
const uint8_t *held_key_id(const struct held_key *k);
void held_key_facts(const struct held_key *k, struct key_facts *f);
/* TAO_OK, or TAO_EWRONGPROG / TAO_EDENIED with the reason. */
enum tao_err custody_allows(struct host *h, const struct held_key *k, struct instance *i);

/* What Tao.Sign and Tao.Decrypt may say about how; NULL and 0 are the defaults of tao.proto. */
struct sign_how {
	const char *digest, *padding, *mgf1;
	int has_salt_len, salt_len; /* as in tao.proto */
	int message;
};
struct decrypt_how {
	const char *padding, *digest, *mgf1;
	const uint8_t *label;
	size_t label_n;
	uint32_t tls_version, tls_alt_version; /* 0: not TLS's */
};
/* 1: one operation with this key takes longer than a request may hold up others. */
int custody_is_slow(const struct held_key *k);
/* TAO_EPURPOSE: not with this key; TAO_EINVAL: not so. */
enum tao_err custody_sign(struct host *h, struct held_key *k, const struct sign_how *how,
                          const void *data, size_t n, struct tao_buf *sig);
enum tao_err custody_decrypt(struct host *h, struct held_key *k, const struct decrypt_how *how,
                             const void *data, size_t n, struct tao_buf *plain);
enum tao_err custody_derive(struct host *h, struct held_key *k, const void *peer, size_t n,
                            struct tao_buf *secret);
/* A certificate request (PKCS#10, DER) for the key, signed with it: of whatever purpose, since the
 * host makes up what is signed. subject may be NULL; dns: n names. TAO_EPURPOSE for X25519.
 * (custody_request.c) */
enum tao_err custody_request(struct host *h, struct held_key *k, const X509_NAME *subject,
                             char **dns, size_t n, struct tao_buf *out);
/* Custody "program": the private key as PKCS#8 DER; TAO_EPURPOSE otherwise. */
enum tao_err custody_private(struct host *h, struct held_key *k, struct tao_buf *pkcs8);

/* ---- key files (keystore.c) ----
 *
 * A rotated key has two stubs: that of the newest generation under its name,
 * and that of the one before as NAME.old, with which programs that loaded it
 * go on. It works until the next rotation or 'tao key delete NAME --old'. Since
 * whoever has a stub has the sealed key, deleting is written down: the file
 * DIR/keys/deleted/KEYID, "tao deleted key 1\nbelow N\n", which is never
 * removed, says that no generation below N is opened again. */

enum tao_err keystore_put(struct host *h, uid_t uid, const char *name, const struct tao_buf *stub);
/* TAO_ENOTFOUND with what to do. */
enum tao_err keystore_get(struct host *h, uid_t uid, const char *name, struct tao_buf *stub);
enum tao_err keystore_get_old(struct host *h, uid_t uid, const char *name, struct tao_buf *stub);
/* For tao_files_place(), in this order: the stub of now becomes NAME.old, and next takes its
 * place. */
struct tao_file;
enum tao_err keystore_prepare(struct host *h, uid_t uid, const char *name,
                              const struct tao_buf *now, const struct tao_buf *next,
                              struct tao_file **old, struct tao_file **stub);
/* Stubs and certificate; TAO_OK if there are none. */
enum tao_err keystore_remove(struct host *h, uid_t uid, const char *name);
enum tao_err keystore_remove_old(struct host *h, uid_t uid, const char *name);
/* Writes down, and asks (0: nothing was deleted), below which generation a key is deleted. */
enum tao_err keystore_retire(struct host *h, const uint8_t *key_id, uint32_t below);
enum tao_err keystore_retired(struct host *h, const uint8_t *key_id, uint32_t *below);
enum tao_err keystore_each(struct host *h, uid_t uid,
                           enum tao_err (*fn)(struct host *h, uid_t uid, const char *name,
                                              void *arg), void *arg);
enum tao_err keystore_users(struct host *h,
                            enum tao_err (*fn)(struct host *h, uid_t uid, void *arg), void *arg);
char *keystore_stub_path(struct host *h, uid_t uid, const char *name);
char *keystore_cert_path(struct host *h, uid_t uid, const char *name);
char *keystore_old_path(struct host *h, uid_t uid, const char *name);

/* ---- program certificates (cert.c) ---- */

/* The certificate of key k for instance i: the one that was imported for it (imported.h), the one
 * on file if it is for this principal and key and valid, else a new one, which is put on file. */
/* der is filled also when it could not be put on file (a full disk). */
enum tao_err cert_obtain(struct host *h, struct instance *i, const struct held_key *k,
                         struct tao_buf *der);
/* The one on file: TAO_ENOTFOUND with the domain's reason when there is none.
 * not_after: seconds since 1970. */
enum tao_err cert_on_file(struct host *h, uid_t uid, const char *name, struct tao_buf *der,
                          int64_t *not_after);
/* What a rotation does to the certificate on file, found out before anything is changed. */
struct cert_change {
	struct tao_file *file; /* takes its place; NULL: none does */
	/* there is none until the program's next start: it named none that runs */
	int goes;
	struct tao_buf notice; /* for the user, if not empty: why the key has no certificate then */
};
/* For next, the generation to come: a certificate for the running program that the one on file
 * names. TAO_OK also when there is none to replace, and when an imported one stays, which is for
 * the generation before. An error: the domain gives none. Either way cert_change_clear(). */
enum tao_err cert_next(struct host *h, const struct held_key *next, struct cert_change *out);
void cert_change_clear(struct cert_change *c);
/* Writes DIR/policy.pem: what peers are given to verify program certificates with. */
enum tao_err cert_publish_policy(struct host *h);
/* Why the domain gave none, malloc'ed; NULL: it did, or was not asked. */
char *cert_refusal(struct host *h, uid_t uid, const char *name);

/* ---- renewal (renew.c) ---- */

/* From time to time, certificates of running programs that have lived for a third of their
 * life are made anew, or whose rules changed: on file, where a reload or tao_tls.so finds them. */
enum tao_err renew_start(struct host *h);

/* ---- the log (log.c) ---- */

/* One line on stderr, which is the log: time, level, sentence. Thread-safe. */
void host_log(const char *level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same about what one user did, LOG_NOBODY when it is not known who: of one kind (fmt, a
 * literal) at most 20 lines in a minute, so that nobody fills the disk. A line tells how many were
 * left out. */
#define LOG_NOBODY ((uid_t)-1)
void host_log_of(struct host *h, uid_t uid, const char *level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
struct log *log_new(void);      /* NULL: out of memory, nothing is limited then */
void log_tell(struct log *l, int all); /* tells what was left out: where the minute is over */
void log_free(struct log *l);

#endif
