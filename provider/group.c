#include "group.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "tao/pb.h"

#define MLKEM_SINCE 0x30500000L /* OpenSSL 3.5 */
#define DAY 86400               /* seconds */

const struct group group_x25519 = {
	"tao_x25519", 0xFE10, 253, 128, 0, MIX_X25519, MIX_X25519,
};
const struct group group_mlkem = {
	"tao_x25519mlkem768", 0xFE11, 256, 192, 1, MIX_MLKEM_KEY + MIX_X25519,
	MIX_MLKEM_TEXT + MIX_X25519,
};

/* Fetching it would have libcrypto activate its provider, in programs that never use a group. */
int group_has_mlkem(void)
{
	return OpenSSL_version_num() >= (unsigned long)MLKEM_SINCE;
}

/* ---- what libssl is told ---- */

static int announce(const struct group *g, OSSL_CALLBACK *cb, void *arg)
{
	unsigned id = g->id, bits = (unsigned)g->security_bits, kem = 1;
	int tls = 0x0304, none = -1, any = 0;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME, (char *)g->name,
		                                 0),
		OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_NAME_INTERNAL,
		                                 (char *)g->name, 0),
		OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_GROUP_ALG, (char *)g->name, 0),
		OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_ID, &id),
		OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_SECURITY_BITS, &bits),
		OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_GROUP_IS_KEM, &kem),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_TLS, &tls),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_TLS, &any),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MIN_DTLS, &none),
		OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_GROUP_MAX_DTLS, &none),
		OSSL_PARAM_END
	};

	return cb(params, arg);
}

int group_capabilities(void *provctx, const char *capability, OSSL_CALLBACK *cb, void *arg)
{
	const struct prov *p = provctx;

	if (OPENSSL_strcasecmp(capability, "TLS-GROUP") != 0)
		return 0;
	return announce(&group_x25519, cb, arg) &&
	       (!p->newer || !group_has_mlkem() || announce(&group_mlkem, cb, arg));
}

/* ---- errors ---- */

int group_raise_at(struct prov *p, const char *file, int line, const char *func,
                   enum tao_err e)
{
	static const struct {
		enum tao_err e;
		enum prov_reason reason;
	} reasons[] = {
		{ TAO_EFORMAT, PROV_RSHARE },
		{ TAO_EDENIED, PROV_RPAIR },
		{ TAO_ENOTFOUND, PROV_RSTRANGER },
		{ TAO_EEXPIRED, PROV_RSTALE },
	};
	int reason = prov_reason(p, e);

	for (size_t i = 0; reason == (int)e && i < sizeof reasons / sizeof reasons[0]; i++)
		if (reasons[i].e == e)
			reason = (int)reasons[i].reason;
	return prov_raise_at(p, file, line, func, reason, "%s", tao_why());
}

/* ---- shares ---- */

enum tao_err group_share(const struct group *g, int server, const uint8_t *p, size_t n,
                         struct share *s)
{
	size_t pub_n = server ? g->server_public : g->client_public;
	struct tao_rd r = tao_rd_of(p, n);
	int format;

	s->pub = tao_rd_bytes(&r, pub_n);
	format = tao_rd_u8(&r);
	s->epoch = tao_rd_u32(&r);
	s->id = tao_rd_bytes(&r, GROUP_ID);
	s->nonce = tao_rd_bytes(&r, GROUP_NONCE);
	if (!tao_rd_done(&r))
		return tao_fail(TAO_EFORMAT, "the peer's share for %s has %zu bytes, not %zu",
		                g->name, n, pub_n + GROUP_TAIL);
	if (format != GROUP_FORMAT)
		return tao_fail(TAO_EFORMAT, "the peer's share for %s is of format %d, and format "
		                "%d is known here: upgrade the older of the two", g->name, format,
		                GROUP_FORMAT);
	return TAO_OK;
}

/* ---- nonces ---- */

/* Batches are a list that a thread takes off as a whole, and puts back. While one has it, others
 * find none and ask for their own: nobody waits, and no fork leaves anything locked. */
struct prov_nonces {
	struct prov_nonces *next;
	pid_t pid;
	time_t day;
	int64_t until; /* seconds of the clock that runs on in suspend */
	struct reply_nonces got;
};

static int64_t seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec;
}

static int is_good(const struct prov_nonces *b, pid_t me)
{
	return b->got.n > 0 && b->pid == me && b->day == time(NULL) / DAY &&
	       seconds_now() < b->until;
}

static void free_all(struct prov_nonces *list)
{
	for (struct prov_nonces *next; list != NULL; list = next) {
		next = list->next;
		OPENSSL_clear_free(list, sizeof *list);
	}
}

/* The list without what is used up, of another process, or old. */
static struct prov_nonces *take_good(struct prov *p)
{
	struct prov_nonces *list = atomic_exchange(&p->nonces, NULL), *good = NULL, *next;
	pid_t me = getpid();

	for (; list != NULL; list = next) {
		next = list->next;
		list->next = NULL;
		if (is_good(list, me)) {
			list->next = good;
			good = list;
		} else {
			free_all(list);
		}
	}
	return good;
}

static void put_back(struct prov *p, struct prov_nonces *list)
{
	struct prov_nonces *none = NULL, *last;

	while (list != NULL && !atomic_compare_exchange_strong(&p->nonces, &none, list)) {
		for (last = list; last->next != NULL; last = last->next)
			;
		last->next = atomic_exchange(&p->nonces, NULL);
		none = NULL;
	}
}

void group_drop_nonces(struct prov *p)
{
	free_all(atomic_exchange(&p->nonces, NULL));
}

static enum tao_err draw(struct prov *p, struct prov_nonces **out)
{
	struct prov_nonces *b = OPENSSL_zalloc(sizeof *b);
	Tao__GroupNoncesRequest req = TAO__GROUP_NONCES_REQUEST__INIT;
	struct tao_buf body = TAO_BUF_INIT;
	int64_t asked = seconds_now();
	enum tao_err e;

	*out = NULL;
	if (b == NULL)
		return tao_fail_nomem();
	b->pid = getpid();
	b->day = time(NULL) / DAY;
	req.n = GROUP_BATCH;
	e = prov_call(p, "Tao.GroupNonces", &req.base, &body);
	if (e == TAO_OK)
		e = reply_nonces(&body, &b->got);
	b->until = asked + b->got.seconds / 2;
	if (e == TAO_OK)
		*out = b;
	else
		free_all(b);
	tao_buf_free(&body);
	return e;
}

enum tao_err group_tail(struct prov *p, uint8_t tail[GROUP_TAIL])
{
	struct prov_nonces *list = take_good(p);
	struct tao_buf b = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	if (list == NULL)
		e = draw(p, &list);
	if (e != TAO_OK)
		return e;
	tao_buf_u8(&b, GROUP_FORMAT);
	tao_buf_u32(&b, list->got.epoch);
	tao_buf_put(&b, list->got.id, GROUP_ID);
	tao_buf_put(&b, list->got.nonce[--list->got.n], GROUP_NONCE);
	e = tao_buf_err(&b);
	if (e == TAO_OK)
		memcpy(tail, b.p, GROUP_TAIL);
	tao_buf_free(&b);
	put_back(p, list);
	return e;
}

/* ---- what the host is asked about two shares ---- */

static enum tao_err ask(struct prov *p, const char *op, const ProtobufCMessage *req,
                        struct tao_meanwhile *w, uint8_t *share, size_t share_n,
                        uint8_t salt[MIX_SECRET], struct group_peer **out)
{
	struct tao_buf body = TAO_BUF_INIT, name = TAO_BUF_INIT;
	struct group_peer *peer = NULL;
	enum tao_err e = prov_call_while(p, op, req, w, &body);

	*out = NULL;
	if (e == TAO_OK)
		e = reply_group(&body, share, share_n, salt, &name);
	if (e == TAO_OK) {
		peer = malloc(sizeof *peer + name.n);
		e = peer != NULL ? TAO_OK : tao_fail_nomem();
	}
	if (e == TAO_OK) {
		peer->n = name.n;
		memcpy(peer->name, name.p, name.n);
		*out = peer;
	}
	tao_buf_free(&name);
	tao_buf_free(&body);
	return e;
}

void group_peer_free(struct group_peer *peer)
{
	free(peer);
}

/* Both sides will hash what the host made, so it must be what this side can send. */
static enum tao_err check_own_share(const struct group *g, const uint8_t *pub, const uint8_t *p,
                                    size_t n)
{
	struct share s;

	if (group_share(g, 1, p, n, &s) != TAO_OK || memcmp(s.pub, pub, g->server_public) != 0)
		return tao_fail(TAO_EPROTO, "the Tao host's answer is malformed (a group's share): "
		                "check that taod and tao.so are of one version");
	return TAO_OK;
}

enum tao_err group_ask_server(struct prov *p, const struct group *g, const uint8_t *client,
                              const uint8_t *pub, struct tao_meanwhile *w, uint8_t *share,
                              uint8_t salt[MIX_SECRET], struct group_peer **peer)
{
	Tao__GroupServerRequest req = TAO__GROUP_SERVER_REQUEST__INIT;
	size_t n = g->server_public + GROUP_TAIL;
	enum tao_err e;

	req.group = g->id;
	req.client_share.data = (uint8_t *)client;
	req.client_share.len = g->client_public + GROUP_TAIL;
	req.public_.data = (uint8_t *)pub;
	req.public_.len = g->server_public;
	e = ask(p, "Tao.GroupServer", &req.base, w, share, n, salt, peer);
	if (e == TAO_OK)
		e = check_own_share(g, pub, share, n);
	if (e == TAO_OK)
		return TAO_OK;
	group_peer_free(*peer);
	*peer = NULL;
	return e;
}

enum tao_err group_ask_client(struct prov *p, const struct group *g, const uint8_t *client,
                              const uint8_t *server, struct tao_meanwhile *w,
                              uint8_t salt[MIX_SECRET], struct group_peer **peer)
{
	Tao__GroupClientRequest req = TAO__GROUP_CLIENT_REQUEST__INIT;
	enum tao_err e;

	req.group = g->id;
	req.client_share.data = (uint8_t *)client;
	req.client_share.len = g->client_public + GROUP_TAIL;
	req.server_share.data = (uint8_t *)server;
	req.server_share.len = g->server_public + GROUP_TAIL;
	e = ask(p, "Tao.GroupClient", &req.base, w, NULL, 0, salt, peer);
	if (e != TAO_OK) /* it may be another host than the one that drew them */
		group_drop_nonces(p);
	return e;
}
