#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include "tls.h"

#define PROVIDER "tao"
#define NEGATIVE_SECONDS 1 /* after the host did not answer */
#define NAME_SECONDS 604800 /* that policy knew a name counts for so long if the host does not answer */

enum { KNOWN = 1, PEERS = 2, OURS = 4, ALLOWED = 8, FAILED = 16 };

/* ---- the provider ---- */

static const struct channel *look(void)
{
	const struct channel *ch = NULL;
	OSSL_PARAM wanted[] = {
		OSSL_PARAM_construct_octet_ptr(CHANNEL_PARAM, (void **)&ch, 0),
		OSSL_PARAM_construct_end(),
	};
	OSSL_PROVIDER *p;

	if (!OSSL_PROVIDER_available(NULL, PROVIDER))
		return NULL;
	p = OSSL_PROVIDER_try_load(NULL, PROVIDER, 1);
	if (p == NULL)
		return NULL;
	/* What it gives stays: the configuration keeps it loaded. */
	if (!OSSL_PROVIDER_get_params(p, wanted) || ch == NULL || ch->version != CHANNEL_VERSION)
		ch = NULL;
	OSSL_PROVIDER_unload(p);
	return ch;
}

const struct channel *tls_channel(void)
{
	static _Atomic(const struct channel *) kept;
	const struct channel *ch = atomic_load_explicit(&kept, memory_order_acquire);

	if (ch == NULL) {
		ERR_set_mark();
		ch = look();
		ERR_pop_to_mark();
		atomic_store_explicit(&kept, ch, memory_order_release);
	}
	return ch;
}

/* ---- questions whose answers are kept ---- */

static int make_key(uint8_t key[TLS_MEMO_KEY], int kind, const void *a, size_t a_n, const char *b)
{
	const uint8_t first = (uint8_t)kind;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int good = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	           EVP_DigestUpdate(md, &first, 1) == 1 &&
	           EVP_DigestUpdate(md, &a_n, sizeof a_n) == 1 &&
	           EVP_DigestUpdate(md, a, a_n) == 1 &&
	           EVP_DigestUpdate(md, b, strlen(b)) == 1 && EVP_DigestFinal_ex(md, key, NULL) == 1;

	EVP_MD_CTX_free(md);
	return good;
}

/* data: why, with its NUL, and then the peer. */
static void keep(const uint8_t *key, const struct tls_verdict *v, int flags, unsigned seconds)
{
	size_t why_n = strlen(v->why) + 1;
	struct tls_memo m;

	if (why_n + v->peer_n > sizeof m.data)
		return;
	m.flags = flags;
	m.n = why_n + v->peer_n;
	memcpy(m.data, v->why, why_n);
	memcpy(m.data + why_n, v->peer, v->peer_n);
	tls_memo_put(key, &m, seconds < TLS_KEEP_MAX ? seconds : TLS_KEEP_MAX);
}

/* 1 there, 0 not, -1: there is that the host did not answer. */
static int recall(const uint8_t *key, struct tls_verdict *v)
{
	struct tls_memo m;
	size_t why_n;

	if (!tls_memo_get(key, &m))
		return 0;
	why_n = strlen((const char *)m.data) + 1;
	memcpy(v->why, m.data, why_n);
	v->peer_n = m.n - why_n;
	memcpy(v->peer, m.data + why_n, v->peer_n);
	v->known = (m.flags & KNOWN) != 0;
	v->peers = (m.flags & PEERS) != 0;
	v->ours = (m.flags & OURS) != 0;
	v->allowed = (m.flags & ALLOWED) != 0;
	return m.flags & FAILED ? -1 : 1;
}

static void take(struct tls_verdict *v, const struct channel_answer *a)
{
	v->known = a->known;
	v->peers = a->peers;
	v->ours = a->ours;
	v->allowed = a->allowed;
	v->peer_n = a->peer_n;
	memcpy(v->peer, a->peer_n > 0 ? a->peer : v->peer, a->peer_n);
	snprintf(v->why, sizeof v->why, "%s", a->why != NULL ? a->why : "");
}

static int finish(const struct channel *ch, const uint8_t *key, struct tls_verdict *v, enum tao_err e,
                  struct channel_answer *a)
{
	if (e != TAO_OK) {
		snprintf(v->why, sizeof v->why, "%s", ch->why());
		keep(key, v, FAILED, NEGATIVE_SECONDS);
		return 0;
	}
	take(v, a);
	keep(key, v, (v->known ? KNOWN : 0) | (v->peers ? PEERS : 0) | (v->ours ? OURS : 0) |
	             (v->allowed ? ALLOWED : 0),
	     v->ours && !v->allowed ? 0 : a->seconds); /* a refusal may end at any time */
	ch->release(a);
	return 1;
}

static int begin(struct tls_verdict *v, const struct channel **ch)
{
	memset(v, 0, offsetof(struct tls_verdict, peer));
	*ch = tls_channel();
	if (*ch == NULL)
		snprintf(v->why, sizeof v->why, "the provider tao is not loaded: see 'tao conf check'");
	return *ch != NULL;
}

/* Who can keep the host from answering must not turn policy off. */
static void remember_name(const char *name, const struct tls_verdict *v)
{
	struct tls_memo m = { .flags = v->known && v->peers ? KNOWN | PEERS : 0 };
	uint8_t key[TLS_MEMO_KEY];

	if (make_key(key, 'k', name, strlen(name), "") && (m.flags != 0 || tls_memo_get(key, &m))) {
		m.flags = v->known && v->peers ? KNOWN | PEERS : 0;
		m.n = 0;
		tls_memo_put(key, &m, m.flags != 0 ? NAME_SECONDS : NEGATIVE_SECONDS);
	}
}

static int was_known(const char *name, struct tls_verdict *v)
{
	uint8_t key[TLS_MEMO_KEY];
	struct tls_memo m;

	v->known = v->peers = make_key(key, 'k', name, strlen(name), "") && tls_memo_get(key, &m) &&
	                      m.flags != 0;
	return v->known;
}

int tls_ask_name(const char *name, struct tls_verdict *v)
{
	struct channel_answer *a = NULL;
	const struct channel *ch;
	uint8_t key[TLS_MEMO_KEY];
	enum tao_err e;
	int r;

	if (!begin(v, &ch) || !make_key(key, 'n', name, strlen(name), ""))
		return 0;
	r = recall(key, v);
	if (r != 0)
		return r > 0 || was_known(name, v);
	e = ch->peer(ch->arg, name, &a);
	if (!finish(ch, key, v, e, a))
		return was_known(name, v);
	remember_name(name, v);
	return 1;
}

int tls_ask_cert(X509 *leaf, int server, const char *name, struct tls_verdict *v)
{
	struct channel_answer *a = NULL;
	struct channel_der der;
	const struct channel *ch;
	uint8_t key[TLS_MEMO_KEY];
	unsigned char *p = NULL;
	enum tao_err e;
	int n, r;

	if (!begin(v, &ch))
		return 0;
	n = i2d_X509(leaf, &p);
	if (n <= 0 || !make_key(key, server ? 's' : 'c', p, (size_t)n, name)) {
		OPENSSL_free(p);
		return 0;
	}
	der = (struct channel_der){ p, (size_t)n };
	r = recall(key, v);
	if (r == 0) {
		e = ch->check_peer(ch->arg, &der, 1, server, server || name[0] == 0 ? NULL : name, &a);
		r = finish(ch, key, v, e, a);
	}
	OPENSSL_free(p);
	return r > 0;
}

int tls_ask_identity(char name[TLS_NAME_MAX])
{
	const struct channel *ch = tls_channel();
	uint8_t key[TLS_MEMO_KEY];
	struct tls_memo m;

	if (ch == NULL || !make_key(key, 'i', "", 0, ""))
		return 0;
	if (tls_memo_get(key, &m)) {
		memcpy(name, m.data, m.n < TLS_NAME_MAX ? m.n : TLS_NAME_MAX); /* with its NUL */
		return m.flags == 0;
	}
	name[0] = 0;
	m.flags = ch->identity(ch->arg, name, TLS_NAME_MAX) == TAO_OK ? 0 : FAILED;
	m.n = strlen(name) + 1;
	memcpy(m.data, name, m.n);
	tls_memo_put(key, &m, m.flags == 0 ? TLS_KEEP_MAX : NEGATIVE_SECONDS);
	return m.flags == 0;
}

/* ---- errors ---- */

void tls_raise(const char *why)
{
	static ERR_STRING_DATA texts[] = {
		{ 0, "tao" },
		{ 0, "the Tao's policy refuses this connection ('tao log' says why)" },
		{ 0, NULL },
	};
	static atomic_int library;
	int lib = atomic_load(&library), none = 0;

	if (lib == 0) {
		lib = ERR_get_next_error_library();
		if (atomic_compare_exchange_strong(&library, &none, lib)) {
			texts[0].error = ERR_PACK(lib, 0, 0);
			texts[1].error = ERR_PACK(lib, 0, 1);
			ERR_load_strings(lib, texts);
		} else {
			lib = none;
		}
	}
	ERR_raise_data(lib, 1, "%s", why);
}
