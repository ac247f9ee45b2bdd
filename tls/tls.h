/*
 * tao_tls.so: a configuration module for OpenSSL that reaches every TLS
 * connection of a program, without the program knowing.
 *
 * The file is the provider's, tao.so, by another name: a program maps it and binds its symbols once.
 *
 * openssl.cnf names it (man/tao_tls.5). OpenSSL then calls OPENSSL_init() here
 * before the program's first SSL_CTX exists; from there on each new SSL_CTX and SSL
 * passes hook.c, which adds to it what is this module's and takes nothing
 * away. What a program sets itself afterwards wins.
 *
 *   module.c    loading, once for a process
 *   settings.c  the sections of openssl.cnf
 *   libssl.c    the program's libssl
 *   hook.c      what is set in SSL_CTX and SSL; the beginning and end of handshakes
 *   conn.c      what is known of one connection
 *   ask.c       the host, by way of tao.so; answers that may be kept (memo.c)
 *   process.c   what is kept for a process, by ask.c and others
 *   renew.c     newer certificates and keys    bundle.c  where they come from
 *   identity.c  a certificate for clients that were given none
 *   verify.c    the peer's certificate and policy
 *   accept.c    would this application have accepted that peer?
 *   psk.c       TLS 1.3 pre-shared keys        session.c sessions that carry them
 *   cert.c      certificates of their peers
 *   psk12.c     TLS 1.2 pre-shared keys
 *   group.c     who was keyed by the group tao_x25519; pinning it
 *   report.c    the audit record of a handshake
 *   quic.c      how handshakes of QUIC end     frame.c   the frame that ends a connection
 *
 * The module never pulls libssl into a program: libssl's functions are found
 * in the copy that the program has loaded, when its first SSL_CTX is made. It
 * does nothing in a program whose libcrypto is not the one that it is linked
 * to, nor for an SSL_CTX of another libssl than that libcrypto's. From then on
 * the file stays in memory (CONF_modules_unload() would leave dangling
 * callbacks). It starts no thread, installs no handler, reads no environment.
 *
 * Renewal never fails a handshake: on any error the connection goes on with
 * the certificate that the program configured. Policy does, and says why: in the
 * host's audit log and, where the application prints it, in a sentence on its error queue.
 * Otherwise errors leave nothing on the program's queue.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "../provider/channel.h"

#define TLS_NAME_MAX 256        /* bytes of a key's name, with its NUL */
#define TLS_HOST_MAX 256        /* bytes of a reference name, with its NUL */
#define TLS_MAX_KEYS 64         /* keys of one process that are looked after */
#define TLS_MAX_CHAIN 8         /* certificates behind a leaf */
#define TLS_RENEW_DEFAULT 30    /* seconds between two looks at the host for one key */
#define TLS_RENEW_MAX 86400
#define TLS_KEEP_MAX 60         /* seconds that any verdict of the host is kept */
#define TLS_MAX_PEERS 256       /* names with a mode of their own */
#define TLS_SECTION_DEPTH 2     /* the module's section, and an application's */

#define TLS_EXT 0xFF54          /* the extension of tao-channel(7) */
#define TLS_GROUP "tao_x25519"
#define TLS_GROUP_ID 0xFE10
#define TLS_GROUP_MLKEM "tao_x25519mlkem768"
#define TLS_GROUP_MLKEM_ID 0xFE11
#define TLS_GROUP_CLOSED "brainpoolP512r1" /* not of TLS 1.3: with it alone nothing is negotiated */

/* ---- the libssl of this process (libssl.c) ---- */

/* 3.4 deprecates the one that is not Y2038-safe everywhere; 3.0 has no other. */
#if OPENSSL_VERSION_PREREQ(3, 4)
#define TLS_FUNCTIONS_TIME(F) F(SSL_SESSION_set_time_ex)
#define tls_set_time SSL_SESSION_set_time_ex
#else
#define TLS_FUNCTIONS_TIME(F) F(SSL_SESSION_set_time)
#define tls_set_time SSL_SESSION_set_time
#endif

#define TLS_FUNCTIONS(F) \
	F(SSL_CIPHER_get_handshake_digest) F(SSL_CIPHER_get_kx_nid) F(SSL_CIPHER_get_name) \
	F(SSL_CIPHER_get_protocol_id) F(SSL_CIPHER_is_aead) \
	F(SSL_CTX_add_custom_ext) F(SSL_CTX_get_cert_store) F(SSL_CTX_get_ciphers) F(SSL_CTX_get_info_callback) F(SSL_CTX_get_security_callback) \
	F(SSL_CTX_set_cert_cb) F(SSL_CTX_set_cert_verify_callback) F(SSL_CTX_set_client_cert_cb) \
	F(SSL_CTX_set_client_hello_cb) F(SSL_CTX_set_info_callback) F(SSL_CTX_set_msg_callback) F(SSL_CTX_set_security_callback) \
	F(SSL_state_string) \
	F(SSL_CTX_set_not_resumable_session_callback) F(SSL_CTX_set_psk_client_callback) \
	F(SSL_CTX_set_psk_find_session_callback) F(SSL_CTX_set_psk_server_callback) \
	F(SSL_CTX_set_psk_use_session_callback) F(SSL_CTX_set_session_id_context) \
	F(SSL_SESSION_dup) F(SSL_SESSION_free) F(SSL_SESSION_get0_id_context) F(SSL_SESSION_new) \
	F(SSL_SESSION_set1_id_context) F(SSL_SESSION_set1_master_key) F(SSL_SESSION_set_cipher) \
	F(SSL_SESSION_set_protocol_version) TLS_FUNCTIONS_TIME(F) F(SSL_add1_to_CA_list) \
	F(SSL_callback_ctrl) F(SSL_CTX_get_ssl_method) F(SSL_SESSION_get0_peer) F(SSL_get_ssl_method) \
	F(SSL_is_dtls) F(SSL_set_session_id_context) F(SSL_set_verify_result) \
	F(SSL_certs_clear) F(SSL_client_hello_get0_ext) F(SSL_ctrl) F(SSL_dane_tlsa_add) \
	F(SSL_get0_param) F(SSL_get1_peer_certificate) F(SSL_get_SSL_CTX) F(SSL_get_certificate) \
	F(SSL_get_ciphers) F(SSL_get_current_cipher) F(SSL_get_ex_data) \
	F(SSL_get_ex_data_X509_STORE_CTX_idx) F(SSL_get_info_callback) F(SSL_get_options) \
	F(SSL_get_pending_cipher) F(SSL_alert_desc_string_long) \
	F(SSL_get_privatekey) F(SSL_get_security_callback) F(SSL_get_security_level) \
	 F(SSL_get_servername) F(SSL_get_session) F(SSL_get_state) \
	F(SSL_get_verify_callback) F(SSL_get_verify_mode) F(SSL_group_to_name) F(SSL_in_init) F(SSL_is_server) \
	F(SSL_session_reused) F(SSL_set_cipher_list) F(SSL_set_ex_data) F(SSL_set_info_callback) \
	F(SSL_set_num_tickets) F(SSL_set_psk_client_callback) F(SSL_set_psk_find_session_callback) \
	F(SSL_set_psk_server_callback) F(SSL_set_psk_use_session_callback) F(SSL_set_security_callback) \
	F(SSL_set_session) F(SSL_set_verify) F(SSL_use_cert_and_key) \
	F(SSL_version) F(d2i_SSL_SESSION) F(i2d_SSL_SESSION)

#define TLS_FIELD(name) __typeof__(&name) name;
struct tls_libssl {
	TLS_FUNCTIONS(TLS_FIELD)
};

/* That of the libcrypto which this module is linked to, by that one's major version: libssl.so.3, libssl.so.4.
 * NULL while none is loaded, it is linked to another libcrypto, or it lacks one of these. */
const struct tls_libssl *tls_libssl(void);
/* 1 if ctx, which may be under construction, was made by it. */
int tls_is_libssls(const SSL_CTX *ctx);
/* 1 if it is for QUIC, which libssl has from 3.2 on. */
int tls_is_quic(const SSL_CTX *ctx);
/* 1 if this connection is one of libssl's QUIC. Callbacks get QUIC's SSL, and come while its
 * lock is held: of libssl's functions that take it (SSL_get_options(), SSL_want(),
 * SSL_get_error() and all of I/O) none may be called then. */
int tls_over_quic(const SSL *s);
/* As SSL_version(); of QUIC that of its TLS, 1.3. */
int tls_version(const SSL *s);

/* ---- settings (settings.c) ---- */

enum tls_mode {
	TLS_OFF,         /* the module leaves the connection alone, but for renewal */
	TLS_CERTIFICATE, /* policy on certificates only */
	TLS_PREFER,      /* client: names that policy knows are required; server: whoever can */
	TLS_REQUIRE,     /* a Tao channel or none */
};

struct tls_peer_mode {
	char name[TLS_HOST_MAX]; /* a reference name; or "*.domain": all below it */
	enum tls_mode mode;
};

struct tls_settings {
	unsigned renew;  /* seconds; 0: off */
	enum tls_mode mode;
	int psk, group, identity, trust; /* switches: 1 on */
	int demand;      /* servers ask every client for its program certificate */
	int tls12;       /* pre-shared keys with TLS 1.2 */
	int broken;      /* nobody can say what was meant: nothing connects */
	size_t n_peers;
	struct tls_peer_mode *peers;
};

/* Reads the section and, if it names one for the program, that on top; program is the path of its executable,
 * NULL: of this process's. 0 with an error on the queue if something in it is wrong: then it is broken, and
 * mode TLS_REQUIRE. */
int tls_settings_read(const CONF *cnf, const char *section, const char *program, struct tls_settings *s);
/* What /proc/PID/exe says, as a path; in its place. */
void tls_program_path(char *link);
/* The mode for a connection to that name; name may be "". */
enum tls_mode tls_settings_mode(const struct tls_settings *s, const char *name);
const char *tls_mode_word(enum tls_mode m);

/* ---- the host (ask.c) ---- */

/* tao.so's functions; NULL: the provider is not there. */
const struct channel *tls_channel(void);

struct tls_verdict {
	int known, peers;   /* of a name */
	int ours, allowed;  /* of a certificate */
	char why[CHANNEL_WHY_MAX];
	size_t peer_n;
	uint8_t peer[CHANNEL_PRINCIPAL_MAX]; /* principal */
};

/* Both from memory if the host said so less than TLS_KEEP_MAX seconds ago. 0: the host did not
 * answer, v->why says why; a name that policy knew the last time counts as known then. */
int tls_ask_name(const char *name, struct tls_verdict *v);
int tls_ask_cert(X509 *leaf, int server, const char *name, struct tls_verdict *v);
/* The key name of this program's own certificate; 0 if there is none. */
int tls_ask_identity(char name[TLS_NAME_MAX]);
/* On the error queue, for applications that print it. Some print its fixed part only, which tells where
 * the sentence is found. */
void tls_raise(const char *why);

/* ---- what one process keeps (process.c) ---- */

/* The beginning of each such structure. A child makes its own: it may have been forked while the lock
 * was held. */
struct tls_process {
	pid_t pid;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};
/* The calling process's, all zeros at first; size is that of the whole. NULL: out of memory. */
void *tls_process_get(_Atomic(struct tls_process *) *current, size_t size);
int64_t tls_now(void); /* seconds, monotonic */

/* ---- kept answers (memo.c) ---- */

#define TLS_MEMO_KEY 32   /* bytes: a SHA-256 */
#define TLS_MEMO_MAX 256  /* answers of one process; the oldest goes */

struct tls_memo {
	int flags;
	size_t n;
	uint8_t data[CHANNEL_PRINCIPAL_MAX];
};
/* 1 if it is there and not older than it may be. */
int tls_memo_get(const uint8_t key[TLS_MEMO_KEY], struct tls_memo *m);
void tls_memo_put(const uint8_t key[TLS_MEMO_KEY], const struct tls_memo *m, unsigned seconds);

/* ---- certificates of peers (cert.c) ----
 *
 * Decoding one costs more than the rest of a handshake with a pre-shared key: so it is done once for a peer. */

#define TLS_TEMPLATES 4 /* suites of TLS 1.3 */

struct tls_cert {
	atomic_int refs;
	X509 *leaf;
	STACK_OF(X509) *chain; /* without the policy certificate */
	uint8_t *der;          /* leaf's */
	size_t der_n;
	pthread_mutex_t lock;  /* of what follows: sessions that show leaf, one for each suite */
	struct {
		const SSL_CIPHER *cipher;
		SSL_SESSION *session;
	} templates[TLS_TEMPLATES];
};

/* Of an answer, with a reference; NULL: it has none, or not a good one. */
struct tls_cert *tls_cert_of(const struct channel_answer *a);
void tls_cert_release(struct tls_cert *c); /* NULL is fine */

/* ---- a connection (conn.c) ---- */

typedef int tls_security_fn(const SSL *, const SSL_CTX *, int, int, int, void *, void *);

/* Callbacks that the program set in the SSL, or NULL: they are called by ours. */
struct tls_theirs {
	void (*info)(const SSL *, int, int);
	tls_security_fn *security;
	int telling, asking; /* one of them is being called */
};

#define TLS_GROUP_NAME_MAX 64 /* bytes of a group's name, with its NUL */

/* For the record of a connection that is gone. */
struct tls_noted {
	const char *cipher, *mode; /* NULL: not known */
	char group[TLS_GROUP_NAME_MAX];
};

struct tls_conn {
	const struct tls_settings *set;
	enum tls_mode mode;
	int server, begun, ended;
	int followed;              /* QUIC: the info callback would tell that it is done */
	struct tls_noted noted;    /* QUIC */
	int later;                 /* server: the client showed its certificate after the handshake */
	char name[TLS_HOST_MAX];   /* client: reference name, "" if there is none */
	int known, peers;          /* client: of that name */
	int two_names;             /* client: it is to verify another than it asks for */
	int required;              /* without the Tao it ends here */
	int pinned;                /* to the group, or to nothing at all */
	int wants_psk12;           /* its suites are still to be added */
	int looked;                /* server: at what the client offers */
	int offers_group;          /* server: the client does */
	int peer_ems;              /* the peer does extended master secrets (RFC 7627) */
	struct channel_answer *psk; /* asked for or found */
	struct tls_cert *cert;     /* of it; NULL: none */
	int psk_hash;              /* CHANNEL_SHA... of it */
	uint8_t psk_id[CHANNEL_IDENTITY_LEN]; /* server: the client's */
	int psk_asked, psk_used;
	int psk12_asked;           /* likewise, once the version is known */
	int peer_ok;               /* a program that policy allows, by its certificate or the PSK */
	size_t peer_n;             /* the peer's principal, once it is known */
	uint8_t *peer;
	char why[CHANNEL_WHY_MAX]; /* what was wrong, for the record */
	struct tls_theirs theirs;
};

/* Reserves the place of struct tls_conn in every SSL, at the first call, which is that of the first SSL_CTX: who
 * has none does not pay for it. Any thread. */
int tls_conn_setup(const struct tls_settings *set);
/* NULL if this SSL has had no handshake. */
struct tls_conn *tls_conn_of(const SSL *s);
/* The same, made if there is none; NULL: out of memory. An SSL that is not used has none; one that libssl is still
 * making may also be something else, as QUIC's objects are. */
struct tls_conn *tls_conn_make(SSL *s);
/* A handshake begins: forgets the last one, finds role, name and mode. */
void tls_conn_begin(struct tls_conn *c, SSL *s);
void tls_conn_drop_psk(struct tls_conn *c); /* wipes */
int tls_conn_set_peer(struct tls_conn *c, const uint8_t *peer, size_t n);
/* Keeps the first sentence. */
void tls_conn_why(struct tls_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- hooks ---- */

/* hook.c: f's process, every new SSL_CTX. */
void tls_hook_ctx(SSL_CTX *ctx, const struct tls_settings *set);
/* hook.c: SSL_set_info_callback()'s, in the place of the application's, which it calls. */
void tls_info(const SSL *s, int where, int value);
/* hook.c: in a client's ClientHello, the context of sessions that tls_hook_ctx() set for servers. */
void tls_drop_context(SSL *s);
/* hook.c: as tls_conn_of(), in callbacks: where the application has both a security callback and an info callback of
 * its own, the handshake begins with the first of the others. */
struct tls_conn *tls_conn_ready(SSL *s);

/* renew.c: as SSL_CTX_set_cert_cb()'s callback; always 1. */
int tls_renew(SSL *s, const struct tls_settings *set);
/* It names a program, by a URI of urn:tao:, as certificates of this and other domains do. */
int tls_is_programs(X509 *cert);
/* identity.c: in the same callback. */
void tls_identity(SSL *s, struct tls_conn *c);
/* identity.c: SSL_CTX_set_client_cert_cb()'s, for where the application has a certificate callback. */
int tls_identity_asked(SSL *s, X509 **leaf, EVP_PKEY **key);
/* verify.c */
int tls_verify(X509_STORE_CTX *ctx, void *arg);
/* The domain's certificates are good for this peer, whatever else is: servers of names that it knows, and
 * clients that this server was told to ask. */
int tls_trusts_policy(const struct tls_conn *c);
/* Servers that ask: at the beginning, and again when virtual hosts were chosen. */
void tls_demand(SSL *s, const struct tls_conn *c);
void tls_demand_name(SSL *s, const struct tls_conn *c); /* in the list of authorities */
/* Its issuer is called as the domain's policy certificate. */
int tls_is_policys(const struct tls_conn *c, X509 *leaf);
/* accept.c: 1 if the application's own verification accepts the chain as this peer's. A DANE user's
 * is not tried: 0. */
int tls_accepts(SSL *s, X509 *leaf, STACK_OF(X509) *chain);
/* group.c */
void tls_group_pin(SSL *s, struct tls_conn *c);
int tls_group_id(const SSL *s); /* as SSL_get_negotiated_group(); 0: none yet */
int tls_group_used(const SSL *s);
/* The principal that the group was keyed for; 0 bytes if none. */
size_t tls_group_peer(SSL *s, uint8_t peer[CHANNEL_PRINCIPAL_MAX]);
/* In a server's handshake, while libssl has the ClientHello: what the client offers. */
void tls_group_look(SSL *s, struct tls_conn *c);
/* psk.c */
int tls_psk_use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **out);
int tls_psk_find(SSL *s, const unsigned char *id, size_t n, SSL_SESSION **out);
int tls_ext_add(SSL *s, unsigned type, unsigned context, const unsigned char **out, size_t *n,
                X509 *x, size_t chainidx, int *alert, void *arg);
int tls_ext_parse(SSL *s, unsigned type, unsigned context, const unsigned char *in, size_t n,
                  X509 *x, size_t chainidx, int *alert, void *arg);
/* psk12.c */
unsigned tls_psk12_client(SSL *s, const char *hint, char *identity, unsigned room,
                          unsigned char *psk, unsigned psk_room);
unsigned tls_psk12_server(SSL *s, const char *identity, unsigned char *psk, unsigned room);
/* Adds them, once in a handshake. Not at its very beginning if the list is this SSL's own: libssl may be walking
 * through it. */
void tls_psk12_suites(SSL *s, struct tls_conn *c);
/* A client looks whether the server does extended master secrets. */
void tls_psk12_watch(SSL *s, struct tls_conn *c);
int tls_psk12_chosen(SSL *s); /* server: the suite is one of pre-shared keys */
/* session.c: a session that carries psk and shows peer (may be NULL) as verified. */
SSL_SESSION *tls_session(SSL *s, const SSL_CIPHER *cipher, const uint8_t *psk, size_t n,
                         struct tls_cert *peer);
/* report.c: the record of a handshake, once. */
void tls_report(const SSL *s, struct tls_conn *c, int completed);
/* One more record, of who came to be known after the handshake. */
void tls_report_later(const SSL *s, struct tls_conn *c);
#define TLS_REPORT_NS 10000000 /* between two records of clients without the Tao; the later one counts */
void tls_report_rest(void); /* those that were not told yet, if it is time; when a connection is freed */
/* The same of a handshake that a fatal alert ends; where and value are the info callback's. */
void tls_report_failure(const SSL *s, struct tls_conn *c, int where, int value);

/* What it will need of the SSL, should the connection be lost; once it is there. */
void tls_report_note(const SSL *s, struct tls_conn *c);
/* Of a connection of QUIC that is gone, and its SSL with it. */
void tls_report_lost(struct tls_conn *c);

/* ---- QUIC (quic.c) ----
 *
 * libssl makes the connection's SSL and, inside it, one of TLS. Callbacks get the former,
 * but for the info callback's alerts, which get the one inside and come when the error queue
 * was put away. So a handshake that fails here is told by the message callback, with the
 * header of its alert; and, where the program has one of its own, by the end of its last
 * step. One that the peer refuses is told by no callback of TLS: clients see the frame in
 * the message callback; servers, which are shown none, and clients whose program has a
 * message callback of its own, find out when the connection is freed. * */

/* SSL_CTX_set_msg_callback()'s. */
void tls_quic_message(int sent, int version, int type, const void *data, size_t n, SSL *s, void *arg);
/* In the info callback. */
void tls_quic_info(const SSL *s, struct tls_conn *c, int where, int value);
/* When it is freed: libssl's part is gone already. */
void tls_quic_end(struct tls_conn *c);
/* frame.c: 1 if it ends a connection, by QUIC itself and not by the application; *error is
 * RFC 9000's. */
int tls_quic_closes(const void *frame, size_t n, uint64_t *error);

/* ---- renewed certificates (bundle.c) ---- */

/* What the host has for a key, at one time; does not change. */
struct tls_bundle {
	atomic_int refs;
	EVP_PKEY *key;           /* opaque, of tao.so */
	X509 *leaf;
	STACK_OF(X509) *chain;   /* to be sent: without the policy certificate */
	X509 *policy;            /* the domain's, self-signed; NULL: the leaf is of another authority */
};

/* The newest one that this process knows of the key, NULL if none. The
 * host is asked at the first call and then every that many seconds, by one
 * thread; the others go on with what there is, once there is some. A forked child asks anew. If the host does
 * not answer, the last good one stays. */
struct tls_bundle *tls_bundle_get(const char *name, unsigned seconds);
void tls_bundle_release(struct tls_bundle *b); /* NULL is fine */
/* The domain's policy certificate, with a reference, or NULL. */
X509 *tls_policy_cert(const struct tls_settings *set);
/* A store that trusts it and nothing else, with a reference, or NULL; the same one each time. */
X509_STORE *tls_policy_store(const struct tls_settings *set);

#endif
