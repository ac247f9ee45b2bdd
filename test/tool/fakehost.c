/*
 * fakehost: answers the provider's requests as a Tao host would, and breaks
 * them on demand. It is for tests of bad replies, which a real host does not
 * give; it measures nobody and seals nothing.
 *
 *   fakehost DIR NAME...
 *
 * Listens on DIR/sock. For each key name it makes, unless they are there from
 * an earlier run:
 *   DIR/NAME.key   the private key itself, in PEM: the control
 *   DIR/NAME.pem   the stub with a sealed part
 *   DIR/NAME.ref   the stub without one
 *   DIR/NAME.crt   the certificate, for localhost; DIR/ca.crt is its issuer
 * A name with "nocert" in it gets no certificate. Prints "ready", then a line
 * with the operation for each request.
 *
 * DIR/mode, if there, breaks answers: lines "OPERATION HOW [ARGUMENT]", read
 * anew for each request:
 *   error CODE   the error with that number        short     half of the answer's body
 *   empty        an empty body                     long      bytes behind the body
 *   garbage      a body of 0xff                    frame     no frame, but garbage
 *   huge         a frame of 4 GiB is announced     silent    no answer
 *   close        the connection is closed          late MS   the answer comes late
 *   seq          the answer to another request     bytes HEX that body
 *   swap         the next key's answer             many N    N certificates
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tao/buf.h"
#include "tao/client.h"
#include "tao/pb.h"
#include "tao/rpc.h"
#include "tao/stub.h"
#include "tao.pb-c.h"

#define KEYS_MAX 8
#define SEALED_LEN 200
#define PATH_LEN 512
#define YEAR (365L * 86400)

struct key {
	const char *name;
	EVP_PKEY *key;
	struct tao_buf stub, ref, leaf;
	uint8_t id[32];
	atomic_int opened;
};

struct host {
	const char *dir;
	struct key keys[KEYS_MAX];
	size_t n;
	EVP_PKEY *ca_key;
	struct tao_buf ca;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "fakehost: %s: %s\n", what, tao_why());
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void path_of(char *path, const struct host *h, const char *name, const char *ext)
{
	if (snprintf(path, PATH_LEN, "%s/%s%s", h->dir, name, ext) >= PATH_LEN)
		die("path too long");
}

static void save(const struct host *h, const char *name, const char *ext, const void *p, size_t n)
{
	char path[PATH_LEN];
	FILE *f;

	path_of(path, h, name, ext);
	f = fopen(path, "w");
	if (f == NULL || fwrite(p, 1, n, f) != n || fclose(f) != 0)
		die(path);
}

/* ---- keys and certificates ---- */

static EVP_PKEY *key_file(const struct host *h, const char *name)
{
	char path[PATH_LEN];
	EVP_PKEY *k;
	FILE *f;

	path_of(path, h, name, ".key");
	f = fopen(path, "r");
	if (f != NULL) {
		k = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	} else {
		k = EVP_EC_gen("P-256");
		f = fopen(path, "w");
		if (k == NULL || f == NULL || !PEM_write_PrivateKey(f, k, NULL, NULL, 0, NULL,
		                                                    NULL))
			die(path);
	}
	if (k == NULL)
		die(path);
	fclose(f);
	return k;
}

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (e == NULL || !X509_add_ext(x, e, -1))
		die(value);
	X509_EXTENSION_free(e);
}

static void certify(const struct host *h, const char *name, EVP_PKEY *key, X509 *issuer,
                    struct tao_buf *der)
{
	X509 *x = X509_new();
	X509_NAME *subject = X509_NAME_new();
	BIO *b = BIO_new(BIO_s_mem());
	uint8_t *at;
	char *text;
	int n;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), (long)time(NULL) + (long)strlen(name));
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), YEAR);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
	X509_set_subject_name(x, subject);
	X509_NAME_free(subject);
	X509_set_issuer_name(x, X509_get_subject_name(issuer != NULL ? issuer : x));
	X509_set_pubkey(x, key);
	if (issuer != NULL)
		add_ext(x, issuer, NID_subject_alt_name, "DNS:localhost");
	else
		add_ext(x, x, NID_basic_constraints, "critical,CA:TRUE");
	n = X509_sign(x, h->ca_key, EVP_sha256()) ? i2d_X509(x, NULL) : 0;
	at = n > 0 ? tao_buf_room(der, (size_t)n) : NULL;
	if (at == NULL || i2d_X509(x, &at) != n || !PEM_write_bio_X509(b, x))
		die("certificate");
	n = (int)BIO_get_mem_data(b, &text);
	save(h, name, ".crt", text, (size_t)n);
	BIO_free(b);
	X509_free(x);
}

static void make_stub(const struct host *h, struct key *k, struct tao_buf *der, int sealed,
                      const char *ext)
{
	uint8_t blob[SEALED_LEN], *spki = NULL;
	struct tao_buf pem = TAO_BUF_INIT;
	struct tao_stub s = { .name = k->name, .name_n = strlen(k->name) };
	int n = i2d_PUBKEY(k->key, &spki);

	memset(blob, 0x5a, sizeof blob);
	s.spki = spki;
	s.spki_n = (size_t)n;
	if (sealed) {
		s.sealed = blob;
		s.sealed_n = sizeof blob;
	}
	if (n > 0)
		tao_stub_encode(&s, der);
	if (n <= 0 || tao_buf_err(der) != TAO_OK || tao_stub_to_pem(der->p, der->n, &pem) != TAO_OK)
		die("stub");
	save(h, k->name, ext, pem.p, pem.n);
	tao_buf_free(&pem);
	OPENSSL_free(spki);
}

static void make_keys(struct host *h)
{
	const uint8_t *at;
	X509 *ca;

	h->ca_key = key_file(h, "ca");
	certify(h, "ca", h->ca_key, NULL, &h->ca);
	at = h->ca.p;
	ca = d2i_X509(NULL, &at, (long)h->ca.n);
	for (size_t i = 0; i < h->n; i++) {
		struct key *k = &h->keys[i];

		k->key = key_file(h, k->name);
		make_stub(h, k, &k->stub, 1, ".pem");
		make_stub(h, k, &k->ref, 0, ".ref");
		if (!EVP_Digest(k->stub.p, k->stub.n, k->id, NULL, EVP_sha256(), NULL))
			die("digest");
		if (strstr(k->name, "nocert") == NULL)
			certify(h, k->name, k->key, ca, &k->leaf);
	}
	X509_free(ca);
}

/* ---- operations: each appends the body of its answer ---- */

typedef enum tao_err op_fn(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out);

static struct key *by_name(struct host *h, const char *name)
{
	for (size_t i = 0; name != NULL && i < h->n; i++) {
		if (strcmp(h->keys[i].name, name) == 0)
			return &h->keys[i];
	}
	return NULL;
}

static enum tao_err op_hello(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__HelloResponse r = TAO__HELLO_RESPONSE__INIT;
	uint8_t challenge[TAO_CHALLENGE_LEN] = { 1 };

	(void)h;
	(void)m;
	r.challenge.data = r.host.data = challenge;
	r.challenge.len = r.host.len = sizeof challenge;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static enum tao_err op_prove(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__ProveResponse r = TAO__PROVE_RESPONSE__INIT;

	(void)h;
	(void)m;
	r.name.data = (uint8_t *)"fake";
	r.name.len = 4;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static void put_key(const struct key *k, int with_stub, struct tao_buf *out)
{
	Tao__KeyResponse r = TAO__KEY_RESPONSE__INIT;

	r.has_stub = with_stub;
	r.stub.data = k->stub.p;
	r.stub.len = k->stub.n;
	r.has_key_id = 1;
	r.key_id.data = (uint8_t *)k->id;
	r.key_id.len = sizeof k->id;
	tao_pb_pack(&r.base, out);
}

static enum tao_err op_get(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__KeyRequest *q = tao__key_request__unpack(NULL, m->body_n, m->body);
	struct key *k = q != NULL ? by_name(h, q->name) : NULL;

	if (k != NULL) {
		k->opened = 1;
		put_key(k, 1, out);
	}
	tao__key_request__free_unpacked(q, NULL);
	return k != NULL ? TAO_OK : tao_fail(TAO_ENOTFOUND, "no key of that name: "
	                                     "'tao key list' shows them");
}

static enum tao_err op_open(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__KeyRequest *q = tao__key_request__unpack(NULL, m->body_n, m->body);
	struct key *k = NULL;

	for (size_t i = 0; q != NULL && i < h->n; i++) {
		if (q->stub.len == h->keys[i].stub.n &&
		    memcmp(q->stub.data, h->keys[i].stub.p, q->stub.len) == 0)
			k = &h->keys[i];
	}
	if (k != NULL) {
		k->opened = 1;
		put_key(k, 0, out);
	}
	tao__key_request__free_unpacked(q, NULL);
	return k != NULL ? TAO_OK : tao_fail(TAO_EOTHERHOST, "the stub is another host's: "
	                                     "make a key here with 'tao key new'");
}

static enum tao_err sign(struct key *k, const Tao__SignRequest *q, struct tao_buf *out)
{
	Tao__SignResponse r = TAO__SIGN_RESPONSE__INIT;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k->key, NULL);
	uint8_t sig[128];
	size_t n = sizeof sig;

	if (EVP_PKEY_sign_init(c) <= 0 || EVP_PKEY_sign(c, sig, &n, q->data.data, q->data.len) <= 0)
		die("sign");
	EVP_PKEY_CTX_free(c);
	r.signature.data = sig;
	r.signature.len = n;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

/* The message becomes its digest. */
static void hash_message(Tao__SignRequest *q, const EVP_MD *md)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	EVP_Digest(q->data.data, q->data.len, digest, &n, md, NULL);
	free(q->data.data);
	q->data.data = malloc(n);
	memcpy(q->data.data, digest, n);
	q->data.len = n;
}

static enum tao_err op_sign(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__SignRequest *q = tao__sign_request__unpack(NULL, m->body_n, m->body);
	enum tao_err e = tao_fail(TAO_EUNKNOWNKEY, "open the key first");
	const EVP_MD *md = q != NULL && q->digest != NULL ? EVP_get_digestbyname(q->digest) : NULL;

	for (size_t i = 0; md != NULL && i < h->n; i++) {
		struct key *k = &h->keys[i];

		if (!k->opened || q->key_id.len != sizeof k->id ||
		    memcmp(q->key_id.data, k->id, sizeof k->id) != 0)
			continue;
		if (q->has_message && q->message)
			hash_message(q, md);
		e = (size_t)EVP_MD_get_size(md) == q->data.len
		    ? sign(k, q, out) : tao_fail(TAO_EINVAL, "digest and data do not fit");
	}
	if (q != NULL)
		tao__sign_request__free_unpacked(q, NULL);
	return e;
}

static enum tao_err op_cert(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__KeyRequest *q = tao__key_request__unpack(NULL, m->body_n, m->body);
	struct key *k = q != NULL ? by_name(h, q->name) : NULL;
	Tao__KeyResponse r = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData chain[2];

	tao__key_request__free_unpacked(q, NULL);
	if (k == NULL || k->leaf.n == 0)
		return tao_fail(TAO_EDENIED, "the domain gave this key no certificate: its owner "
		                "can allow it with 'tao trust'");
	chain[0].data = k->leaf.p;
	chain[0].len = k->leaf.n;
	chain[1].data = h->ca.p;
	chain[1].len = h->ca.n;
	r.chain = chain;
	r.n_chain = 2;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static enum tao_err op_policy(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__KeyResponse r = TAO__KEY_RESPONSE__INIT;
	ProtobufCBinaryData ca = { h->ca.n, h->ca.p };

	(void)m;
	r.chain = &ca;
	r.n_chain = 1;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static enum tao_err op_list(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__KeyListResponse r = TAO__KEY_LIST_RESPONSE__INIT;
	Tao__KeyInfo infos[KEYS_MAX], *at[KEYS_MAX];

	(void)m;
	for (size_t i = 0; i < h->n; i++) {
		tao__key_info__init(&infos[i]);
		infos[i].name = (char *)h->keys[i].name;
		infos[i].type = (char *)"p256";
		infos[i].purpose = (char *)"any";
		infos[i].custody = (char *)"host";
		infos[i].policy = (char *)"program";
		infos[i].program = (char *)"/usr/bin/openssl";
		infos[i].spki_hash.data = h->keys[i].id;
		infos[i].spki_hash.len = sizeof h->keys[i].id;
		at[i] = &infos[i];
	}
	r.keys = at;
	r.n_keys = h->n;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

/* A domain without rules of who may talk to whom. */
static enum tao_err op_peer(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__PeerResponse r = TAO__PEER_RESPONSE__INIT;

	(void)h;
	(void)m;
	r.seconds = 60;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static enum tao_err op_check_peer(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	Tao__CheckPeerResponse r = TAO__CHECK_PEER_RESPONSE__INIT;

	(void)h;
	(void)m;
	r.allowed = 1;
	r.seconds = 60;
	tao_pb_pack(&r.base, out);
	return TAO_OK;
}

static enum tao_err op_handshake(struct host *h, const struct tao_rpc_msg *m, struct tao_buf *out)
{
	(void)h;
	(void)m;
	(void)out;
	return TAO_OK;
}

static const struct {
	const char *name;
	op_fn *fn;
} ops[] = {
	{ "Tao.Hello", op_hello }, { "Tao.Prove", op_prove }, { "Tao.GetKey", op_get },
	{ "Tao.OpenKey", op_open }, { "Tao.Sign", op_sign }, { "Tao.GetCertificate", op_cert },
	{ "Tao.GetPolicyCertificate", op_policy }, { "Tao.ListKeys", op_list },
	{ "Tao.Peer", op_peer }, { "Tao.CheckPeer", op_check_peer },
	{ "Tao.Handshake", op_handshake },
};

/* ---- breaking answers ---- */

struct mode {
	char op[64], how[16], arg[4096];
};

static int find_mode(const struct host *h, const char *op, struct mode *m)
{
	char path[PATH_LEN], line[5000];
	FILE *f;
	int found = 0;

	path_of(path, h, "mode", "");
	f = fopen(path, "r");
	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
		m->arg[0] = 0;
		found = sscanf(line, "%63s %15s %4095s", m->op, m->how, m->arg) >= 2 &&
		        strcmp(m->op, op) == 0;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

static void put_many(const struct host *h, long n, struct tao_buf *body)
{
	tao_buf_reset(body);
	for (; n > 0; n--) {
		tao_buf_u8(body, 3 << 3 | 2);
		tao_buf_varint(body, h->ca.n);
		tao_buf_put(body, h->ca.p, h->ca.n);
	}
}

static void put_next_key(const struct host *h, struct tao_buf *body)
{
	size_t i = 0;

	while (i < h->n && memmem(body->p, body->n, h->keys[i].stub.p, h->keys[i].stub.n) == NULL)
		i++;
	tao_buf_reset(body);
	put_key(&h->keys[(i + 1) % h->n], 1, body);
}

static void put_hex(const char *hex, struct tao_buf *body)
{
	uint8_t *to;

	tao_buf_reset(body);
	to = tao_buf_room(body, strlen(hex) / 2);
	if (to == NULL || tao_unhex(hex, strlen(hex), to, strlen(hex) / 2) != TAO_OK)
		die("mode bytes");
}

/* Changes what is about to be sent; 0: hang up. */
static int break_body(struct host *h, const struct mode *m, struct tao_buf *body)
{
	long arg = strtol(m->arg, NULL, 10);
	struct timespec pause = { arg / 1000, arg % 1000 * 1000000 };

	if (strcmp(m->how, "close") == 0)
		return 0;
	if (strcmp(m->how, "silent") == 0)
		pause.tv_sec = 3600;
	if (strcmp(m->how, "late") == 0 || strcmp(m->how, "silent") == 0)
		nanosleep(&pause, NULL);
	if (strcmp(m->how, "short") == 0)
		body->n /= 2;
	if (strcmp(m->how, "empty") == 0)
		body->n = 0;
	if (strcmp(m->how, "long") == 0)
		tao_buf_str(body, "\xff\xff\xff\xff\xff\xff");
	if (strcmp(m->how, "garbage") == 0)
		memset(body->p, 0xff, body->n);
	if (strcmp(m->how, "bytes") == 0)
		put_hex(m->arg, body);
	if (strcmp(m->how, "swap") == 0)
		put_next_key(h, body);
	if (strcmp(m->how, "many") == 0)
		put_many(h, arg, body);
	return 1;
}

static int answer(struct host *h, const struct tao_rpc_msg *q, struct tao_buf *out)
{
	struct tao_buf body = TAO_BUF_INIT;
	struct mode m;
	int broken = find_mode(h, q->op, &m), stay = 1;
	enum tao_err e = tao_fail(TAO_EINVAL, "unknown operation %s", q->op);

	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
		if (strcmp(ops[i].name, q->op) == 0)
			e = ops[i].fn(h, q, &body);
	}
	if (broken && strcmp(m.how, "error") == 0)
		e = tao_fail((enum tao_err)strtol(m.arg, NULL, 10), "told to fail by the test");
	if (broken && e == TAO_OK)
		stay = break_body(h, &m, &body);
	if (stay && broken && strcmp(m.how, "huge") == 0)
		tao_buf_u32(out, 0xffffffff);
	if (stay && broken && strcmp(m.how, "frame") == 0)
		tao_buf_put(out, "HTTP/1.0 400 Bad Request\r\n\r\n", 28);
	if (stay && e != TAO_OK)
		tao_rpc_put_error(out, q->op, q->seq, e, tao_why());
	else if (stay)
		tao_rpc_put_reply(out, q->op, q->seq + (broken && strcmp(m.how, "seq") == 0),
		                  body.p, body.n);
	tao_buf_free(&body);
	return stay;
}

/* ---- connections, one thread each ---- */

struct conn {
	struct host *h;
	int fd;
};

static int send_all(int fd, const struct tao_buf *b)
{
	for (size_t done = 0; done < b->n;) {
		ssize_t n = send(fd, b->p + done, b->n - done, MSG_NOSIGNAL);

		if (n <= 0)
			return 0;
		done += (size_t)n;
	}
	return 1;
}

static int serve_one(struct conn *c, struct tao_buf *in)
{
	struct tao_buf out = TAO_BUF_INIT;
	struct tao_rpc_msg q;
	size_t used;
	int stay;

	if (tao_rpc_parse_request(in->p, in->n, TAO_RPC_MAX_REQUEST, &q, &used) != TAO_OK)
		return 0;
	if (used == 0) {
		uint8_t chunk[4096];
		ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);

		if (n > 0)
			tao_buf_put(in, chunk, (size_t)n);
		return n > 0;
	}
	printf("%s\n", q.op);
	stay = answer(c->h, &q, &out) && send_all(c->fd, &out);
	memmove(in->p, in->p + used, in->n - used);
	in->n -= used;
	tao_buf_free(&out);
	return stay;
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct tao_buf in = TAO_BUF_INIT;

	while (serve_one(c, &in))
		;
	close(c->fd);
	tao_buf_free(&in);
	free(c);
	return NULL;
}

static int listen_on(const struct host *h)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (snprintf(at.sun_path, sizeof at.sun_path, "%s/sock", h->dir) >= (int)sizeof at.sun_path)
		die("socket path too long");
	unlink(at.sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 128) != 0)
		die(at.sun_path);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct host h = { .ca = empty };
	int fd;

	if (argc < 3 || argc - 2 > KEYS_MAX) {
		fprintf(stderr, "usage: fakehost DIR NAME...\n");
		return 2;
	}
	h.dir = argv[1];
	h.n = (size_t)argc - 2;
	for (size_t i = 0; i < h.n; i++) {
		h.keys[i].name = argv[i + 2];
		h.keys[i].stub = h.keys[i].ref = h.keys[i].leaf = empty;
	}
	make_keys(&h);
	fd = listen_on(&h);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	for (;;) {
		struct conn *c = malloc(sizeof *c);
		pthread_t thread;

		if (c == NULL)
			die("out of memory");
		c->h = &h;
		c->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (c->fd < 0 || pthread_create(&thread, NULL, serve, c) != 0)
			die("accept");
		pthread_detach(thread);
	}
}
