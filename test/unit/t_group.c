/* The groups of Tao channels through EVP and libssl, with a host in a thread that does the
 * ancestor's arithmetic, and does it wrong when told. */
#include <sys/stat.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "../../provider/group.h"
#include "badhost.h"
#include "tao/logic.h"

#define GROUP "tao_x25519"
#define HYBRID GROUP "mlkem768"
#define POINT MIX_X25519
#define SHARE (POINT + GROUP_TAIL)
#define SECRET MIX_SECRET
#define EPOCH 20000
#define NONCES_MAX 65536
#define THREADS 8
#define EACH 40
#define PEER "key([0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20]).Program([aa])"

static const uint8_t program_id[GROUP_ID + 1] = "the program's id";
static const uint8_t pair_key[32] = "the key of two programs: 32 ...";

/* ---- the host ---- */

/* What it answers to one operation. */
enum wrong {
	RIGHT,
	REFUSE,      /* with the error in code */
	BODY,        /* these bytes */
	SALT_SHORT,
	SALT_OTHER,
	NO_PEER,
	LONG_PEER,
	NO_SHARE,
	SHARE_SHORT,
	SHARE_POINT, /* another public part than the server's */
	SHARE_FORMAT,
	NONCE_COUNT, /* bytes of nonces in code */
	ID_SHORT,
	ONE_NONCE,
	NO_TIME      /* nonces that are good for no time at all */
};

static struct {
	const char *op;
	enum wrong wrong;
	int code;
	const void *body;
	size_t body_n;
	/* What it gave out. */
	uint32_t given;
	uint8_t spent[NONCES_MAX];
	atomic_int nonces, servers, clients;
	struct tao_buf peer;
} host;

static void wrong(const char *op, enum wrong how, int code)
{
	host.op = op;
	host.code = code;
	host.wrong = how;
}

static void right(void)
{
	wrong("", RIGHT, 0);
}

static int is_wrong(const struct tao_rpc_msg *m, enum wrong how)
{
	return host.wrong == how && strcmp(m->op, host.op) == 0;
}

static int refuse(int fd, const struct tao_rpc_msg *m, int code, const char *why)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_error(&b, m->op, m->seq, code, why);
	return badhost_send_buf(fd, &b);
}

static int answer(int fd, const struct tao_rpc_msg *m, const ProtobufCMessage *msg)
{
	uint8_t body[40000];

	return badhost_reply(fd, m, body, protobuf_c_message_pack(msg, body));
}

static int give_nonces(int fd, const struct tao_rpc_msg *m)
{
	Tao__GroupNoncesRequest *req = tao__group_nonces_request__unpack(NULL, m->body_n, m->body);
	Tao__GroupNoncesResponse r = TAO__GROUP_NONCES_RESPONSE__INIT;
	uint8_t nonces[100 * GROUP_NONCE] = { 0 };
	uint32_t n = is_wrong(m, ONE_NONCE) ? 1 : req->n;

	tao__group_nonces_request__free_unpacked(req, NULL);
	for (uint32_t i = 0; i < n; i++)
		memcpy(nonces + i * GROUP_NONCE, &(uint32_t){ ++host.given }, 4);
	r.epoch = EPOCH;
	r.id.data = (uint8_t *)program_id;
	r.id.len = is_wrong(m, ID_SHORT) ? GROUP_ID - 1 : GROUP_ID;
	r.nonces.data = nonces;
	r.nonces.len = is_wrong(m, NONCE_COUNT) ? (size_t)host.code : n * GROUP_NONCE;
	r.seconds = is_wrong(m, NO_TIME) ? 0 : 60;
	atomic_fetch_add(&host.nonces, 1);
	return answer(fd, m, &r.base);
}

/* HKDF-Expand(K, "tao x25519 v1" ‖ SHA-256(client share) ‖ SHA-256(server share), 32) */
static void make_salt(const uint8_t *client, size_t client_n, const uint8_t *server,
                      size_t server_n, uint8_t salt[SECRET])
{
	uint8_t info[13 + 64] = "tao x25519 v1";
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	size_t n = SECRET;

	EVP_Digest(client, client_n, info + 13, NULL, EVP_sha256(), NULL);
	EVP_Digest(server, server_n, info + 45, NULL, EVP_sha256(), NULL);
	EVP_PKEY_derive_init(c);
	EVP_PKEY_CTX_set_hkdf_mode(c, EVP_PKEY_HKDEF_MODE_EXPAND_ONLY);
	EVP_PKEY_CTX_set_hkdf_md(c, EVP_sha256());
	EVP_PKEY_CTX_set1_hkdf_key(c, pair_key, sizeof pair_key);
	EVP_PKEY_CTX_add1_hkdf_info(c, info, sizeof info);
	EVP_PKEY_derive(c, salt, &n);
	EVP_PKEY_CTX_free(c);
}

static int give_salt(int fd, const struct tao_rpc_msg *m, const ProtobufCBinaryData *client,
                     const ProtobufCBinaryData *server, int with_share)
{
	static uint8_t long_peer[REPLY_PEER_MAX + 1];
	Tao__GroupResponse r = TAO__GROUP_RESPONSE__INIT;
	uint8_t salt[SECRET];

	make_salt(client->data, client->len, server->data, server->len, salt);
	salt[0] ^= is_wrong(m, SALT_OTHER);
	r.salt.data = salt;
	r.salt.len = is_wrong(m, SALT_SHORT) ? SECRET - 1 : SECRET;
	r.peer.data = is_wrong(m, LONG_PEER) ? long_peer : host.peer.p;
	r.peer.len = is_wrong(m, LONG_PEER) ? sizeof long_peer : is_wrong(m, NO_PEER)
	             ? 0 : host.peer.n;
	r.has_server_share = with_share && !is_wrong(m, NO_SHARE);
	r.server_share = *server;
	r.server_share.len -= is_wrong(m, SHARE_SHORT);
	return answer(fd, m, &r.base);
}

static int serve_server(int fd, const struct tao_rpc_msg *m, const Tao__GroupServerRequest *req)
{
	const uint8_t *tail = req->client_share.data + req->client_share.len - GROUP_TAIL;
	uint8_t share[2000];
	ProtobufCBinaryData server = { req->public_.len + GROUP_TAIL, share };

	if (memcmp(tail + 1, "\0\0\x4e\x20", 4) != 0)
		return refuse(fd, m, TAO_EEXPIRED, "that epoch is over");
	if (memcmp(tail + 5, program_id, GROUP_ID) != 0)
		return refuse(fd, m, TAO_ENOTFOUND, "nobody has that id");
	memcpy(share, req->public_.data, req->public_.len);
	memcpy(share + req->public_.len, tail, GROUP_TAIL - GROUP_NONCE);
	memset(share + server.len - GROUP_NONCE, 0xee, GROUP_NONCE);
	share[0] ^= is_wrong(m, SHARE_POINT);
	share[req->public_.len] ^= is_wrong(m, SHARE_FORMAT);
	return give_salt(fd, m, &req->client_share, &server, 1);
}

static int serve_client(int fd, const struct tao_rpc_msg *m, const Tao__GroupClientRequest *req)
{
	uint32_t nonce;

	memcpy(&nonce, req->client_share.data + req->client_share.len - GROUP_NONCE, 4);
	if (nonce == 0 || nonce > host.given || nonce >= NONCES_MAX || host.spent[nonce]++)
		return refuse(fd, m, TAO_EDENIED, "that nonce was used");
	return give_salt(fd, m, &req->client_share, &req->server_share, 0);
}

static int ancestor(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	int r = -1;

	if (is_wrong(m, REFUSE))
		return refuse(fd, m, host.code, "as the test says");
	if (is_wrong(m, BODY))
		return badhost_reply(fd, m, host.body, host.body_n);
	if (strcmp(m->op, "Tao.GroupNonces") == 0)
		return give_nonces(fd, m);
	if (strcmp(m->op, "Tao.GroupServer") == 0) {
		Tao__GroupServerRequest *req =
		    tao__group_server_request__unpack(NULL, m->body_n, m->body);

		atomic_fetch_add(&host.servers, 1);
		r = serve_server(fd, m, req);
		tao__group_server_request__free_unpacked(req, NULL);
		return r;
	}
	if (strcmp(m->op, "Tao.GroupClient") == 0) {
		Tao__GroupClientRequest *req =
		    tao__group_client_request__unpack(NULL, m->body_n, m->body);

		atomic_fetch_add(&host.clients, 1);
		r = serve_client(fd, m, req);
		tao__group_client_request__free_unpacked(req, NULL);
		return r;
	}
	return badhost_good(h, fd, m);
}

static void set_peer(const char *text)
{
	struct tao_node *n = NULL;

	tao_buf_reset(&host.peer);
	tao_prin_parse(text, strlen(text), &n);
	tao_node_encode(n, &host.peer);
	tao_node_free(n);
}

static int asked(void)
{
	return atomic_load(&host.nonces) + atomic_load(&host.servers) + atomic_load(&host.clients);
}

/* ---- the application ---- */

struct fix {
	OSSL_LIB_CTX *ctx;
	OSSL_PROVIDER *dflt, *tao;
	struct badhost h;
};

/* A client's share and the key that belongs to it. */
struct begun {
	EVP_PKEY *key;
	uint8_t share[SHARE];
};

static EVP_PKEY *generate(OSSL_LIB_CTX *ctx, int params_only)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(ctx, GROUP, NULL);
	EVP_PKEY *k = NULL;
	int good = params_only ? EVP_PKEY_paramgen_init(c) > 0 : EVP_PKEY_keygen_init(c) > 0;

	if (good && EVP_PKEY_CTX_set_group_name(c, GROUP) > 0 &&
	    (params_only ? EVP_PKEY_paramgen(c, &k) : EVP_PKEY_keygen(c, &k)) <= 0)
		k = NULL;
	EVP_PKEY_CTX_free(c);
	return k;
}

static int begin(OSSL_LIB_CTX *ctx, struct begun *b)
{
	unsigned char *p = NULL;
	size_t n;

	b->key = generate(ctx, 0);
	n = b->key != NULL ? EVP_PKEY_get1_encoded_public_key(b->key, &p) : 0;
	if (n == SHARE)
		memcpy(b->share, p, SHARE);
	OPENSSL_free(p);
	return n == SHARE;
}

/* As libssl does it: a key of parameters, then the peer's share. */
static EVP_PKEY *receive(OSSL_LIB_CTX *ctx, const uint8_t *share, size_t n)
{
	EVP_PKEY *k = generate(ctx, 1);

	if (k != NULL && EVP_PKEY_set1_encoded_public_key(k, share, n) > 0)
		return k;
	EVP_PKEY_free(k);
	return NULL;
}

static int encapsulate(OSSL_LIB_CTX *ctx, EVP_PKEY *k, uint8_t out[SHARE], uint8_t secret[SECRET])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(ctx, k, NULL);
	size_t n = 0, secret_n = 0;
	int good = c != NULL && EVP_PKEY_encapsulate_init(c, NULL) > 0 &&
	           EVP_PKEY_encapsulate(c, NULL, &n, NULL, &secret_n) > 0 && n == SHARE &&
	           secret_n == SECRET && EVP_PKEY_encapsulate(c, out, &n, secret, &secret_n) > 0;

	EVP_PKEY_CTX_free(c);
	return good;
}

/* Both steps of a server with that share. */
static int answer_share(OSSL_LIB_CTX *ctx, const uint8_t *share, size_t n, uint8_t out[SHARE],
                        uint8_t secret[SECRET])
{
	EVP_PKEY *k = receive(ctx, share, n);
	int good = k != NULL && encapsulate(ctx, k, out, secret);

	EVP_PKEY_free(k);
	return good;
}

static int decapsulate(OSSL_LIB_CTX *ctx, EVP_PKEY *k, const uint8_t *in, size_t n,
                       uint8_t secret[SECRET])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(ctx, k, NULL);
	size_t room = 0;
	int good = c != NULL && EVP_PKEY_decapsulate_init(c, NULL) > 0 &&
	           EVP_PKEY_decapsulate(c, NULL, &room, in, n) > 0 && room == SECRET &&
	           EVP_PKEY_decapsulate(c, secret, &room, in, n) > 0;

	EVP_PKEY_CTX_free(c);
	return good;
}

/* The first error has that reason, and no other error of ours or of libcrypto came before it. */
static int refused(const char *reason)
{
	unsigned long e = ERR_peek_error();
	const char *s = e != 0 ? ERR_reason_error_string(e) : NULL;
	int good = s != NULL && strstr(s, reason) != NULL;

	if (!good)
		printf("# instead of %s: %s\n", reason, s != NULL ? s : "no error");
	ERR_clear_error();
	return good;
}

/* ---- one exchange ---- */

static void test_exchange(struct fix *f)
{
	uint8_t out[SHARE], a[SECRET] = { 1 }, b[SECRET] = { 2 }, name[500];
	struct begun c, other;
	EVP_PKEY *server;
	char text[200] = "";
	size_t n = 0;

	ok(asked() == 0, "loading the provider asks the host nothing");
	ok(begin(f->ctx, &c) && atomic_load(&host.nonces) == 1,
	   "a client's share takes a batch of nonces");
	ok(c.share[POINT] == 1 && memcmp(c.share + POINT + 1, "\0\0\x4e\x20", 4) == 0 &&
	   memcmp(c.share + POINT + 5, program_id, GROUP_ID) == 0,
	   "format, epoch and id stand in it");
	server = receive(f->ctx, c.share, SHARE);
	ok(server != NULL && EVP_PKEY_eq(server, c.key) == 1 && EVP_PKEY_get_bits(server) == 253 &&
	   EVP_PKEY_get_security_bits(server) == 128 && EVP_PKEY_is_a(server, GROUP),
	   "the server's key with that share");
	ok(!EVP_PKEY_get_utf8_string_param(server, GROUP_PARAM_NAME, text, sizeof text, NULL),
	   "whose peer is not known yet");
	ERR_clear_error();
	ok(encapsulate(f->ctx, server, out, a) && atomic_load(&host.servers) == 1, "encapsulated");
	ok(decapsulate(f->ctx, c.key, out, SHARE, b) && memcmp(a, b, SECRET) == 0,
	   "to the same secret");
	ok(EVP_PKEY_get_utf8_string_param(server, GROUP_PARAM_NAME, text, sizeof text, NULL),
	   "tao-name");
	ok_str(text, PEER, "is the client's principal");
	text[0] = 0;
	EVP_PKEY_get_utf8_string_param(c.key, GROUP_PARAM_NAME, text, sizeof text, NULL);
	ok_str(text, PEER, "and for the client the server's");
	ok(EVP_PKEY_get_octet_string_param(c.key, GROUP_PARAM_PRINCIPAL, name, sizeof name, &n) &&
	   n == host.peer.n && memcmp(name, host.peer.p, n) == 0,
	   "tao-principal is the same in binary");
	ok(begin(f->ctx, &other) && atomic_load(&host.nonces) == 1 &&
	   memcmp(other.share + SHARE - GROUP_NONCE, c.share + SHARE - GROUP_NONCE, GROUP_NONCE) != 0,
	   "the next share has another nonce of the batch");
	ok(EVP_PKEY_eq(c.key, other.key) == 0 && EVP_PKEY_parameters_eq(c.key, other.key) == 1,
	   "and is another key of the same group");
	ok(!decapsulate(f->ctx, c.key, out, SHARE, b) && refused("was used before"),
	   "a share serves once");
	EVP_PKEY_free(server);
	EVP_PKEY_free(c.key);
	EVP_PKEY_free(other.key);
}

/* The secret is HKDF-Extract(salt, X25519), computed here in another way. */
static void test_secret(struct fix *f)
{
	uint8_t salt[SECRET], shared[POINT], want[SECRET], got[SECRET], share[SHARE] = { 0 }, out[SHARE];
	EVP_PKEY *mine = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *theirs;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(mine, NULL);
	struct begun tail;
	size_t n = POINT;

	begin(f->ctx, &tail);
	memcpy(share, tail.share, SHARE);
	EVP_PKEY_get_raw_public_key(mine, share, &n);
	ok(answer_share(f->ctx, share, SHARE, out, got), "a share with a key of our own is "
	   "answered");
	theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, out, POINT);
	n = POINT;
	ok(EVP_PKEY_derive_init(c) > 0 && EVP_PKEY_derive_set_peer(c, theirs) > 0 &&
	   EVP_PKEY_derive(c, shared, &n) > 0, "X25519 with the answer's point");
	make_salt(share, SHARE, out, SHARE, salt);
	EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, salt, SECRET, shared, POINT, want, SECRET,
	          &n);
	ok(memcmp(got, want, SECRET) == 0, "and the host's salt give the server's secret");
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(theirs);
	EVP_PKEY_free(mine);
	EVP_PKEY_free(tail.key);
}

/* ---- shares that are none ---- */

/* Points of order 1, 2, 4 and 8, and the ways to write them: RFC 7748, section 7. */
static const uint8_t small_order[][POINT] = {
	{ 0 },
	{ 1 },
	{ 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
	  0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8,
	  0x00 },
	{ 0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
	  0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11,
	  0x57 },
	{ 0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0x7f },
	{ 0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0x7f },
	{ 0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	  0x7f },
};
#define N_SMALL (sizeof small_order / sizeof small_order[0])

static void test_client_shares(struct fix *f)
{
	uint8_t bad[SHARE + 100] = { 0 }, out[SHARE], secret[SECRET];
	int before = atomic_load(&host.servers), wrong_ones = 0;
	struct begun c;
	EVP_PKEY *k;

	begin(f->ctx, &c);
	memcpy(bad, c.share, SHARE);
	for (size_t n = 0; n < sizeof bad; n++)
		if (n != SHARE && (k = receive(f->ctx, bad, n)) != NULL) {
			wrong_ones++;
			EVP_PKEY_free(k);
		}
	ok(wrong_ones == 0 && refused("malformed"), "a client's share of another length");
	for (int v = 0; v < 256; v++) {
		bad[POINT] = (uint8_t)v;
		k = receive(f->ctx, bad, SHARE);
		wrong_ones += (k != NULL) != (v == 1);
		EVP_PKEY_free(k);
	}
	ok(wrong_ones == 0 && refused("malformed"), "of another format");
	bad[POINT] = 1;
	for (size_t i = 0; i < N_SMALL; i++) {
		memcpy(bad, small_order[i], POINT);
		wrong_ones += answer_share(f->ctx, bad, SHARE, out, secret) || !refused("malformed");
		bad[POINT - 1] |= 0x80; /* X25519 does not look at that bit */
		wrong_ones += answer_share(f->ctx, bad, SHARE, out, secret) || !refused("malformed");
	}
	ok(wrong_ones == 0, "with a point of small order");
	ok(atomic_load(&host.servers) == before, "none of these came to the host");
	memcpy(bad, c.share, SHARE);
	bad[POINT + 4] ^= 1;
	ok(!answer_share(f->ctx, bad, SHARE, out, secret) && refused("too old"),
	   "of another epoch");
	memcpy(bad, c.share, SHARE);
	bad[POINT + 5] ^= 1;
	ok(!answer_share(f->ctx, bad, SHARE, out, secret) && refused("does not know who sent"),
	   "of an unknown program");
	k = receive(f->ctx, c.share, SHARE);
	ok(EVP_PKEY_set1_encoded_public_key(k, c.share, SHARE) <= 0, "a share is not set twice");
	ok(EVP_PKEY_set1_encoded_public_key(c.key, c.share, SHARE) <= 0, "nor on a key of our own");
	EVP_PKEY_free(k);
	EVP_PKEY_free(c.key);
	ERR_clear_error();
}

static void test_server_shares(struct fix *f)
{
	uint8_t out[SHARE + 100], bad[SHARE + 100], a[SECRET], b[SECRET], none[SECRET] = { 0 };
	int before = atomic_load(&host.clients), wrong_ones = 0;
	struct begun c;

	begin(f->ctx, &c);
	memset(out, 0, sizeof out);
	memset(b, 0xaa, sizeof b);
	ok(answer_share(f->ctx, c.share, SHARE, out, a), "(a server's share)");
	for (size_t n = 0; n < sizeof out; n++)
		wrong_ones += n != SHARE && decapsulate(f->ctx, c.key, out, n, b);
	ok(wrong_ones == 0 && refused("malformed"), "a server's share of another length");
	memcpy(bad, out, SHARE);
	for (int v = 0; v < 256; v++) {
		bad[POINT] = (uint8_t)v;
		wrong_ones += v != 1 && decapsulate(f->ctx, c.key, bad, SHARE, b);
	}
	ok(wrong_ones == 0 && refused("malformed"), "of another format");
	bad[POINT] = 1;
	for (size_t i = 0; i < N_SMALL; i++) {
		memcpy(bad, small_order[i], POINT);
		wrong_ones += decapsulate(f->ctx, c.key, bad, SHARE, b) || !refused("malformed");
	}
	ok(wrong_ones == 0, "with a point of small order");
	ok(atomic_load(&host.clients) == before, "none of these came to the host");
	ok(memcmp(b, none, SECRET) == 0, "and nothing of a secret was left");
	memcpy(bad, out, SHARE);
	bad[SHARE - 1] ^= 1;
	ok(decapsulate(f->ctx, c.key, bad, SHARE, b) && memcmp(a, b, SECRET) != 0,
	   "one that was changed on the way gives another secret");
	EVP_PKEY_free(c.key);
	c.key = receive(f->ctx, c.share, SHARE);
	ok(!decapsulate(f->ctx, c.key, out, SHARE, b), "who has only a share decapsulates nothing");
	EVP_PKEY_free(c.key);
	ERR_clear_error();
}

/* ---- a host that says no, or nonsense ---- */

static void test_refusals(struct fix *f)
{
	static const struct {
		int code;
		const char *reason;
	} cases[] = {
		{ TAO_EDENIED, "no rule lets these two programs talk" },
		{ TAO_ENOTFOUND, "does not know who sent" },
		{ TAO_EEXPIRED, "too old" },
		{ TAO_ENOTRUN, "not started with 'tao run'" },
		{ TAO_EBUSY, "busy" },
	};
	uint8_t out[SHARE], secret[SECRET];
	struct begun c, d;

	begin(f->ctx, &c);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		wrong("Tao.GroupServer", REFUSE, cases[i].code);
		ok(!answer_share(f->ctx, c.share, SHARE, out, secret) && refused(cases[i].reason),
		   "server: %s", cases[i].reason);
		right();
		ok(answer_share(f->ctx, c.share, SHARE, out, secret), "(the host lets it)");
		wrong("Tao.GroupClient", REFUSE, cases[i].code);
		ok(!decapsulate(f->ctx, c.key, out, SHARE, secret) && refused(cases[i].reason),
		   "client: %s", cases[i].reason);
		wrong("Tao.GroupNonces", REFUSE, cases[i].code);
		ok(!begin(f->ctx, &d) && refused(cases[i].reason),
		   "the refusal dropped the nonces, and there are no others: %s", cases[i].reason);
		right();
	}
	EVP_PKEY_free(c.key);
}

static void test_bad_salts(struct fix *f)
{
	static const struct {
		enum wrong how;
		const char *what;
		int server_only;
	} cases[] = {
		{ SALT_SHORT, "a salt that is too short", 0 }, { NO_PEER, "no peer", 0 },
		{ LONG_PEER, "a peer that is too long", 0 },   { BODY, "no message", 0 },
		{ NO_SHARE, "no share", 1 },                   { SHARE_SHORT, "a short share", 1 },
		{ SHARE_POINT, "a share of another key", 1 },
		 { SHARE_FORMAT, "a share of format 0", 1 },
	};
	uint8_t out[SHARE], secret[SECRET];
	struct begun c;

	host.body = "\xff\xff";
	host.body_n = 2;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		begin(f->ctx, &c);
		wrong("Tao.GroupServer", cases[i].how, 0);
		ok(!answer_share(f->ctx, c.share, SHARE, out, secret) &&
		   refused("broke the protocol"),
		   "server: %s", cases[i].what);
		right();
		answer_share(f->ctx, c.share, SHARE, out, secret);
		wrong("Tao.GroupClient", cases[i].how, 0);
		if (!cases[i].server_only)
			ok(!decapsulate(f->ctx, c.key, out, SHARE, secret) &&
			   refused("broke the protocol"),
			   "client: %s", cases[i].what);
		right();
		EVP_PKEY_free(c.key);
	}
}

/* A share that the host refuses takes the batch with it. */
static void drop_batch(struct fix *f)
{
	uint8_t out[SHARE], secret[SECRET];
	struct begun c;

	begin(f->ctx, &c);
	answer_share(f->ctx, c.share, SHARE, out, secret);
	wrong("Tao.GroupClient", REFUSE, TAO_EEXPIRED);
	decapsulate(f->ctx, c.key, out, SHARE, secret);
	EVP_PKEY_free(c.key);
	ERR_clear_error();
	right();
}

static void test_bad_nonces(struct fix *f)
{
	static const int counts[] = { 0, 1, 15, 17, (GROUP_BATCH + 1) * GROUP_NONCE };
	struct begun c;
	int before;

	drop_batch(f);
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		wrong("Tao.GroupNonces", NONCE_COUNT, counts[i]);
		ok(!begin(f->ctx, &c) && refused("broke the protocol"), "%d bytes of nonces",
		   counts[i]);
	}
	wrong("Tao.GroupNonces", ID_SHORT, 0);
	ok(!begin(f->ctx, &c) && refused("broke the protocol"), "an id that is too short");
	wrong("Tao.GroupNonces", ONE_NONCE, 0);
	before = atomic_load(&host.nonces);
	for (int i = 0; i < 2 && begin(f->ctx, &c); i++)
		EVP_PKEY_free(c.key);
	ok(atomic_load(&host.nonces) == before + 2, "one nonce at a time: asked for each");
	wrong("Tao.GroupNonces", NO_TIME, 0);
	for (int i = 0; i < 2 && begin(f->ctx, &c); i++)
		EVP_PKEY_free(c.key);
	ok(atomic_load(&host.nonces) == before + 4, "nonces that are good for no time are not "
	   "kept");
	right();
}

/* ---- processes and threads ---- */

/* In the child of who made a share. 0: all was well. */
static int child(struct fix *f, struct begun *c, const uint8_t *out, const uint8_t *want)
{
	uint8_t secret[SECRET];
	int before = atomic_load(&host.nonces);
	struct begun own;

	if (!decapsulate(f->ctx, c->key, out, SHARE, secret) || memcmp(secret, want, SECRET) != 0)
		return 1;
	if (!begin(f->ctx, &own))
		return 2;
	/* The host is another process's thread: what it gave out tells whether it was asked. */
	memcpy(&before, own.share + SHARE - GROUP_NONCE, 4);
	return before > (int)host.given ? 0 : 3;
}

static void test_fork(struct fix *f)
{
	uint8_t out[SHARE], a[SECRET], b[SECRET];
	struct begun c;
	pid_t pid;

	begin(f->ctx, &c);
	ok(answer_share(f->ctx, c.share, SHARE, out, a), "(a share, and its answer)");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(child(f, &c, out, a));
	ok(wait_child(pid) == 0, "a child ends what its parent began, and draws nonces of its own");
	ok(!decapsulate(f->ctx, c.key, out, SHARE, b) && refused("used before"),
	   "the parent then cannot end it again");
	EVP_PKEY_free(c.key);
	ok(begin(f->ctx, &c), "it makes another share");
	EVP_PKEY_free(c.key);
}

struct job {
	struct fix *f;
	pthread_t thread;
	int good;
	uint8_t nonces[EACH][GROUP_NONCE];
};

static void *work(void *arg)
{
	struct job *j = arg;

	for (int i = 0; i < EACH; i++) {
		uint8_t out[SHARE], a[SECRET], b[SECRET];
		struct begun c;

		if (!begin(j->f->ctx, &c))
			break;
		memcpy(j->nonces[i], c.share + SHARE - GROUP_NONCE, GROUP_NONCE);
		j->good += answer_share(j->f->ctx, c.share, SHARE, out, a) &&
		           decapsulate(j->f->ctx, c.key, out, SHARE, b) &&
		           memcmp(a, b, SECRET) == 0;
		EVP_PKEY_free(c.key);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, GROUP_NONCE);
}

static void test_threads(struct fix *f)
{
	static struct job jobs[THREADS];
	static uint8_t all[THREADS * EACH][GROUP_NONCE];
	int good = 0, twice = 0;

	for (int i = 0; i < THREADS; i++) {
		jobs[i].f = f;
		pthread_create(&jobs[i].thread, NULL, work, &jobs[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(jobs[i].thread, NULL);
		good += jobs[i].good;
		memcpy(all[i * EACH], jobs[i].nonces, sizeof jobs[i].nonces);
	}
	qsort(all, THREADS * EACH, GROUP_NONCE, compare);
	for (int i = 1; i < THREADS * EACH; i++)
		twice += compare(all[i - 1], all[i]) == 0;
	ok(good == THREADS * EACH, "%d threads: %d exchanges", THREADS, good);
	ok(twice == 0, "and no nonce twice");
}

/* ---- TLS ---- */

struct peers {
	SSL_CTX *client_ctx, *server_ctx;
	SSL *client, *server;
};

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_NAME_new();

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1,
	                           -1, 0);
	X509_set_subject_name(x, name);
	X509_set_issuer_name(x, name);
	X509_NAME_free(name);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	return x;
}

/* With the groups that each of them names; 0 if one of the lists is refused. */
static int make_peers(struct fix *f, struct peers *p, const char *client, const char *server)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(f->ctx, NULL, "EC", "P-256");
	X509 *x = make_certificate(key);
	BIO *a = NULL, *b = NULL;
	int good;

	p->client_ctx = SSL_CTX_new_ex(f->ctx, NULL, TLS_client_method());
	p->server_ctx = SSL_CTX_new_ex(f->ctx, NULL, TLS_server_method());
	SSL_CTX_use_certificate(p->server_ctx, x);
	SSL_CTX_use_PrivateKey(p->server_ctx, key);
	X509_free(x);
	EVP_PKEY_free(key);
	good = (client == NULL || SSL_CTX_set1_groups_list(p->client_ctx, client)) &&
	       (server == NULL || SSL_CTX_set1_groups_list(p->server_ctx, server));
	p->client = SSL_new(p->client_ctx);
	p->server = SSL_new(p->server_ctx);
	BIO_new_bio_pair(&a, 0, &b, 0);
	SSL_set_bio(p->client, a, a);
	SSL_set_bio(p->server, b, b);
	SSL_set_connect_state(p->client);
	SSL_set_accept_state(p->server);
	return good;
}

static void free_peers(struct peers *p)
{
	SSL_free(p->client);
	SSL_free(p->server);
	SSL_CTX_free(p->client_ctx);
	SSL_CTX_free(p->server_ctx);
	ERR_clear_error();
}

/* 1: both are done. */
static int shake(struct peers *p)
{
	for (int i = 0; i < 20; i++) {
		int c = SSL_do_handshake(p->client), s;

		if (c <= 0 && SSL_get_error(p->client, c) != SSL_ERROR_WANT_READ)
			return 0;
		s = SSL_do_handshake(p->server);
		if (s <= 0 && SSL_get_error(p->server, s) != SSL_ERROR_WANT_READ)
			return 0;
		if (c == 1 && s == 1)
			return 1;
	}
	return 0;
}

#define X25519MLKEM768 0x11ec /* what OpenSSL 3.5 does by default */

static int negotiated(struct fix *f, const char *client, const char *server)
{
	struct peers p;
	int group = -1;

	if (make_peers(f, &p, client, server) && shake(&p))
		group = (int)(SSL_get_negotiated_group(p.client) & 0xffff);
	free_peers(&p);
	return group;
}

static void test_tls(struct fix *f)
{
	char text[200] = "";
	struct peers p;
	EVP_PKEY *k = NULL;
	int before = asked(), usual = negotiated(f, NULL, NULL);

	ok((usual == NID_X25519 || usual == X25519MLKEM768) && asked() == before,
	   "who does not name the group does not get it, and does not ask the host");
	ok(make_peers(f, &p, GROUP, GROUP) && shake(&p), "a handshake with the group");
	ok(asked() <= before + 3, "costs one request a side");
	ok((SSL_get_negotiated_group(p.client) & 0xffff) == 0xFE10 &&
	   (SSL_get_negotiated_group(p.server) & 0xffff) == 0xFE10, "both negotiated 0xFE10");
	SSL_get_peer_tmp_key(p.server, &k);
	EVP_PKEY_get_utf8_string_param(k, GROUP_PARAM_NAME, text, sizeof text, NULL);
	ok_str(text, PEER, "SSL_get_peer_tmp_key() tells the server who the client is");
	EVP_PKEY_free(k);
	k = NULL;
	text[0] = 0;
	SSL_get_tmp_key(p.client, &k);
	EVP_PKEY_get_utf8_string_param(k, GROUP_PARAM_NAME, text, sizeof text, NULL);
	ok_str(text, PEER, "SSL_get_tmp_key() tells the client who the server is");
	EVP_PKEY_free(k);
	free_peers(&p);
	ok(negotiated(f, "X25519:" GROUP ":P-256", GROUP ":P-256") == 0xFE10,
	   "by a second ClientHello");
	before = asked();
	ok(negotiated(f, "X25519:" GROUP ":P-256", "X25519:P-256") == NID_X25519 &&
	   asked() == before,
	   "a peer without the group: X25519, and the host is not asked");
	ok(negotiated(f, GROUP ":X25519", "X25519:P-256") == NID_X25519,
	   "the same when the share was offered");
	ok(negotiated(f, "X25519:P-256", GROUP ":P-256") == NID_X9_62_prime256v1,
	   "and the other way");
	ok(negotiated(f, GROUP, "X25519") == -1, "the group and nothing else: no handshake");
}

/* ---- with ML-KEM ---- */

static EVP_PKEY *receive_hybrid(OSSL_LIB_CTX *ctx, const uint8_t *share, size_t n)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(ctx, HYBRID, NULL);
	EVP_PKEY *k = NULL;

	if (EVP_PKEY_paramgen_init(c) <= 0 || EVP_PKEY_paramgen(c, &k) <= 0 ||
	    EVP_PKEY_set1_encoded_public_key(k, share, n) <= 0) {
		EVP_PKEY_free(k);
		k = NULL;
	}
	EVP_PKEY_CTX_free(c);
	return k;
}

/* Encapsulates to a share; 1 if that worked. */
static int answer_hybrid(OSSL_LIB_CTX *ctx, const uint8_t *share, size_t n)
{
	EVP_PKEY *k = receive_hybrid(ctx, share, n);
	EVP_PKEY_CTX *c = k != NULL ? EVP_PKEY_CTX_new_from_pkey(ctx, k, NULL) : NULL;
	uint8_t out[2000], secret[SECRET];
	size_t out_n = sizeof out, secret_n = sizeof secret;
	int good = c != NULL && EVP_PKEY_encapsulate_init(c, NULL) > 0 &&
	           EVP_PKEY_encapsulate(c, out, &out_n, secret, &secret_n) > 0;

	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(k);
	return good;
}

static void test_hybrid(struct fix *f)
{
	uint8_t bad[2000], *share = NULL;
	EVP_PKEY *k;
	size_t n;
	int before, wrong_ones = 0;

	if (OpenSSL_version_num() < 0x30500000) {
		ok(EVP_PKEY_Q_keygen(f->ctx, NULL, HYBRID) == NULL &&
		   negotiated(f, HYBRID, HYBRID) == -1,
		   "without ML-KEM there is no hybrid group");
		ERR_clear_error();
		return;
	}
	ok(negotiated(f, HYBRID, HYBRID) == 0xFE11, "a handshake with ML-KEM");
	ok(negotiated(f, HYBRID ":" GROUP, GROUP) == 0xFE10,
	   "with a peer that has only the other group");
	ok(negotiated(f, GROUP ":" HYBRID, HYBRID) == 0xFE11, "and by a second ClientHello");
	k = EVP_PKEY_Q_keygen(f->ctx, NULL, HYBRID);
	n = EVP_PKEY_get1_encoded_public_key(k, &share);
	ok(n == MIX_MLKEM_KEY + SHARE && EVP_PKEY_get_security_bits(k) == 192,
	   "its share and strength");
	before = atomic_load(&host.servers);
	memcpy(bad, share, n);
	for (size_t i = 0; i < sizeof bad; i++)
		wrong_ones += i != n && answer_hybrid(f->ctx, bad, i);
	ok(wrong_ones == 0 && refused("malformed"), "shares of another length");
	memset(bad, 0xff, MIX_MLKEM_KEY);
	ok(!answer_hybrid(f->ctx, bad, n) && refused("malformed"), "a key that is not reduced");
	memcpy(bad, share, n);
	memcpy(bad + MIX_MLKEM_KEY, small_order[1], POINT);
	ok(!answer_hybrid(f->ctx, bad, n) && refused("malformed"),
	   "a point of small order behind a good key");
	ok(atomic_load(&host.servers) == before, "none of these came to the host");
	ok(answer_hybrid(f->ctx, share, n), "a good one is answered");
	OPENSSL_free(share);
	EVP_PKEY_free(k);
}

/* Of the two sides' queues (here one and the same) the first error is ours. */
static void test_tls_errors(struct fix *f)
{
	static const struct {
		const char *op, *reason;
		int code, alert; /* which the other side is sent */
	} cases[] = {
		{ "Tao.GroupServer", "no rule lets", TAO_EDENIED, SSL_AD_ILLEGAL_PARAMETER },
		{ "Tao.GroupClient", "too old", TAO_EEXPIRED, SSL_AD_INTERNAL_ERROR },
		{ "Tao.GroupNonces", "not started with", TAO_ENOTRUN, -1 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct peers p;

		if (i == 2)
			drop_batch(f);
		make_peers(f, &p, GROUP, GROUP);
		wrong(cases[i].op, REFUSE, cases[i].code);
		ok(!shake(&p) && refused(cases[i].reason), "%s refused: no handshake", cases[i].op);
		right();
		free_peers(&p);
	}
	{
		struct peers p;

		make_peers(f, &p, GROUP, GROUP);
		wrong("Tao.GroupClient", SALT_OTHER, 0);
		ok(!shake(&p), "another salt than the server's: no handshake");
		right();
		free_peers(&p);
	}
}

/* ---- start and end ---- */

static int set_up(struct fix *f)
{
	const char *build = getenv("TAO_BUILD");
	char dir[1024], *sock;

	snprintf(dir, sizeof dir, "%s/modules", build != NULL ? build : ".");
	set_peer(PEER);
	right();
	badhost_start(&f->h, "sock", -1, ancestor);
	sock = realpath("sock", NULL);
	setenv("TAO_SOCKET", sock, 1);
	free(sock);
	f->ctx = OSSL_LIB_CTX_new();
	f->dflt = OSSL_PROVIDER_load(f->ctx, "default");
	OSSL_PROVIDER_set_default_search_path(f->ctx, dir);
	f->tao = OSSL_PROVIDER_load(f->ctx, "tao");
	return ok(f->tao != NULL, "the provider");
}

/* After the host's end. */
static void test_without_host(struct fix *f)
{
	struct begun c;

	ok(!begin(f->ctx, &c) && refused("not running"), "without a host there is no share");
	ok(negotiated(f, "X25519:" GROUP, "X25519") == NID_X25519,
	   "but handshakes that do not need it go on");
}

int main(void)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct fix f;
	struct begun last;

	host.peer = empty;
	if (!set_up(&f))
		return done();
	test_exchange(&f);
	test_secret(&f);
	test_client_shares(&f);
	test_server_shares(&f);
	test_refusals(&f);
	test_bad_salts(&f);
	test_bad_nonces(&f);
	test_fork(&f);
	test_threads(&f);
	test_tls(&f);
	test_hybrid(&f);
	test_tls_errors(&f);
	begin(f.ctx, &last);
	drop_batch(&f);
	badhost_stop(&f.h);
	test_without_host(&f);
	OSSL_PROVIDER_unload(f.tao); /* before its last key, on purpose */
	EVP_PKEY_free(last.key);
	OSSL_PROVIDER_unload(f.dflt);
	OSSL_LIB_CTX_free(f.ctx);
	tao_buf_free(&host.peer);
	return done();
}
