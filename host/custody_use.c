#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "custody_int.h"
#include "pkcs1.h"
#include "../domain/rules.h"
#include "../tao/attest.h"

/* ---- digests ---- */

struct digest {
	const char *name;
	size_t n;
	int tls; /* TLS 1.2 and 1.3 sign with it */
};

static const struct digest digests[] = {
	{ "SHA256", 32, 1 }, { "SHA384", 48, 1 }, { "SHA512", 64, 1 }, { "SHA224", 28, 1 },
	{ "SHA1", 20, 0 }, { "SHA3-256", 32, 0 }, { "SHA3-384", 48, 0 }, { "SHA3-512", 64, 0 },
};

static const struct digest *digest_named(const char *name)
{
	for (size_t i = 0; name != NULL && i < sizeof digests / sizeof digests[0]; i++)
		if (strcmp(digests[i].name, name) == 0)
			return &digests[i];
	return NULL;
}

static int is_given(const char *word)
{
	return word != NULL && word[0] != 0;
}

/* ---- what is asked for ---- */

enum padding { PAD_NONE, PAD_PKCS1, PAD_PSS };

struct plan {
	const struct digest *digest, *mgf1; /* NULL: none */
	enum padding padding;
	int salt_len;
	int message;
	int mu; /* the data is ML-DSA's mu */
};

static enum tao_err plan_digest(const struct held_key *k, const struct sign_how *how,
                                const char *own, struct plan *p)
{
	p->message = how->message || !is_given(how->digest);
	if (own == NULL) {
		p->mu = is_given(how->digest) && !how->message && k->type->mu > 0 &&
		        strcmp(how->digest, KEY_DIGEST_MU) == 0;
		if (is_given(how->digest) && !p->mu)
			return tao_fail(TAO_EPURPOSE, "key %s, of type %s, signs messages, not "
			                "digests", k->name, k->type->name);
		return TAO_OK;
	}
	p->digest = digest_named(is_given(how->digest) ? how->digest : own);
	if (p->digest == NULL)
		return tao_fail(TAO_EPURPOSE, "key %s does not sign %.40s digests: use SHA256, "
		                "SHA384 or SHA512", k->name, how->digest);
	if (k->purpose->tls && !p->digest->tls)
		return tao_fail(TAO_EPURPOSE, "key %s is for TLS, which does not sign with %s",
		                k->name, p->digest->name);
	return TAO_OK;
}

static enum tao_err plan_salt(const struct held_key *k, const struct sign_how *how, struct plan *p)
{
	int digest_n = (int)p->digest->n, most = (int)(k->type->bits - 1 + 7) / 8 - digest_n - 2;

	p->salt_len = how->has_salt_len ? how->salt_len : RSA_PSS_SALTLEN_DIGEST;
	if (p->salt_len == RSA_PSS_SALTLEN_DIGEST)
		p->salt_len = digest_n;
	else if (p->salt_len == RSA_PSS_SALTLEN_MAX)
		p->salt_len = most;
	if (p->salt_len < 0 || p->salt_len > most)
		return tao_fail(TAO_EINVAL, "a PSS salt with %s and key %s has 0 to %d bytes, not "
		                "%d", p->digest->name, k->name, most, p->salt_len);
	if (k->purpose->tls && (p->salt_len != digest_n || p->mgf1 != p->digest))
		return tao_fail(TAO_EPURPOSE, "key %s is for TLS, whose PSS has MGF1 with %s and a "
		                "salt of %d bytes", k->name, p->digest->name, digest_n);
	return TAO_OK;
}

static enum tao_err plan_padding(const struct held_key *k, const struct sign_how *how,
                                 struct plan *p)
{
	int pss_only = strcmp(k->type->algorithm, "RSA-PSS") == 0;
	int is_rsa = pss_only || strcmp(k->type->algorithm, "RSA") == 0;

	if (!is_rsa)
		return is_given(how->padding) || is_given(how->mgf1) || how->has_salt_len
		       ? tao_fail(TAO_EINVAL, "key %s is of type %s: its signatures have no "
		                  "padding", k->name, k->type->name) : TAO_OK;
	p->padding = pss_only ? PAD_PSS : PAD_PKCS1;
	if (is_given(how->padding))
		p->padding = strcmp(how->padding, "pss") == 0 ? PAD_PSS
		             : strcmp(how->padding, "pkcs1") == 0 ? PAD_PKCS1 : PAD_NONE;
	if (p->padding == PAD_NONE)
		return tao_fail(TAO_EINVAL, "the padding of RSA signatures is pkcs1 or pss");
	if (p->padding == PAD_PKCS1 && (pss_only || k->purpose->only_tls13))
		return tao_fail(TAO_EPURPOSE, "key %s signs with PSS only", k->name);
	if (p->padding == PAD_PKCS1)
		return is_given(how->mgf1) || how->has_salt_len
		       ? tao_fail(TAO_EINVAL, "only PSS has a salt and a mask generation function") : TAO_OK;
	p->mgf1 = is_given(how->mgf1) ? digest_named(how->mgf1) : p->digest;
	if (p->mgf1 == NULL)
		return tao_fail(TAO_EINVAL, "MGF1 with %.40s is not known: use SHA256, SHA384 or "
		                "SHA512", how->mgf1);
	return plan_salt(k, how, p);
}

/* ---- whole messages ---- */

/* The contexts of what Taos and domains sign; CloudProxy's as well. */
static const char *const statement_contexts[] = {
	TAO_ATTEST_CONTEXT, RULES_CONTEXT, "tao.ACLGuard Version 1",
	"Datalog Rules Signing Context V1",
};

static enum tao_err check_no_statement(const struct held_key *k, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < sizeof statement_contexts / sizeof statement_contexts[0]; i++) {
		size_t len = strlen(statement_contexts[i]);
		uint8_t head[2] = { 1 << 3 | 2, (uint8_t)len }; /* ContextualizedData.context */

		if (n >= 2 + len && memcmp(data, head, 2) == 0 &&
		    memcmp(data + 2, statement_contexts[i], len) == 0)
			return tao_fail(TAO_EPURPOSE, "key %s does not sign what only a Tao signs",
			                k->name);
	}
	return TAO_OK;
}

#define VERIFY_PAD 64 /* spaces */

/* RFC 8446 section 4.4.3. */
static enum tao_err check_certificate_verify(const struct held_key *k, const void *data, size_t n)
{
	static const char *const contexts[] = { "TLS 1.3, server CertificateVerify",
	                                        "TLS 1.3, client CertificateVerify" };
	struct tao_rd r = tao_rd_of(data, n);
	const uint8_t *pad = tao_rd_bytes(&r, VERIFY_PAD);
	const uint8_t *text = tao_rd_bytes(&r, strlen(contexts[0]) + 1); /* with its zero */
	int good = !r.bad && (r.n == 32 || r.n == 48); /* a transcript's hash: SHA-256, SHA-384 */

	for (size_t i = 0; good && i < VERIFY_PAD; i++)
		good = pad[i] == ' ';
	good = good && (memcmp(text, contexts[0], strlen(contexts[0]) + 1) == 0 ||
	                memcmp(text, contexts[1], strlen(contexts[1]) + 1) == 0);
	return good ? TAO_OK
	            : tao_fail(TAO_EPURPOSE, "key %s is for TLS 1.3 and signs nothing but the "
	                       "content of a CertificateVerify message", k->name);
}

/* ECDSA, Ed25519 and ML-DSA have one digest in TLS 1.3, RSA three. */
static enum tao_err check_tls13(const struct held_key *k, const struct plan *p, const char *own,
                                const void *data, size_t n)
{
	if (!p->message)
		return tao_fail(TAO_EPURPOSE, "key %s is for TLS 1.3: the host hashes what it "
		                "signs", k->name);
	if (p->digest != NULL && (p->padding == PAD_PSS ? p->digest->n < 32
	                                                : p->digest != digest_named(own)))
		return tao_fail(TAO_EPURPOSE, "TLS 1.3 does not sign with %s and a key of type %s",
		                p->digest->name, k->type->name);
	return check_certificate_verify(k, data, n);
}

static enum tao_err check_data(const struct held_key *k, const struct plan *p, const char *own,
                               const void *data, size_t n)
{
	size_t want;

	if (k->purpose->only_tls13)
		return check_tls13(k, p, own, data, n);
	if (p->message)
		return check_no_statement(k, data, n);
	want = p->mu ? k->type->mu : p->digest->n;
	if (n == want)
		return TAO_OK;
	return tao_fail(TAO_EINVAL, "a %s digest has %zu bytes, not %zu",
	                p->mu ? KEY_DIGEST_MU : p->digest->name, want, n);
}

/* ---- signing ---- */

static enum tao_err cannot_sign(const struct held_key *k)
{
	return tao_fail_crypto("signing with key %s", k->name);
}

/* libcrypto's answer to what the key's own restriction forbids. */
static enum tao_err not_so(const struct held_key *k)
{
	ERR_clear_error();
	return tao_fail(TAO_EPURPOSE, "key %s is restricted to other digests or a longer salt",
	                k->name);
}

/* mu: the data is ML-DSA's, not a message. */
static enum tao_err sign_message(struct held_key *k, EVP_PKEY *key, int mu, const void *data,
                                 size_t n, struct tao_buf *sig)
{
	/* OSSL_SIGNATURE_PARAM_MU, which older headers lack. */
	OSSL_PARAM params[] = { OSSL_PARAM_construct_int("mu", &mu), OSSL_PARAM_construct_end() };
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = (size_t)EVP_PKEY_get_size(key);
	uint8_t *to = tao_buf_room(sig, len);
	enum tao_err e = TAO_OK;

	if (ctx == NULL || to == NULL ||
	    EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, NULL, key, mu ? params : NULL) != 1 ||
	    EVP_DigestSign(ctx, to, &len, data, n) != 1)
		e = cannot_sign(k);
	EVP_MD_CTX_free(ctx);
	return e;
}

/* Appends the signature of a digest, in a context that is set up. */
static enum tao_err sign_with(struct held_key *k, EVP_PKEY *key, EVP_PKEY_CTX *ctx,
                              const void *data, size_t n, struct tao_buf *sig)
{
	size_t room = (size_t)EVP_PKEY_get_size(key), len = room;
	uint8_t *to = tao_buf_room(sig, room);

	if (to == NULL)
		return tao_buf_err(sig);
	if (EVP_PKEY_sign(ctx, to, &len, data, n) != 1) {
		sig->n -= room;
		return cannot_sign(k);
	}
	sig->n -= room - len;
	return TAO_OK;
}

static enum tao_err sign_ec(struct held_key *k, EVP_PKEY *key, const void *data, size_t n,
                            struct tao_buf *sig)
{
	int slot;
	EVP_PKEY_CTX *ctx = held_key_take_ctx(k, &slot);
	enum tao_err e = ctx != NULL ? sign_with(k, key, ctx, data, n, sig) : cannot_sign(k);

	if (ctx != NULL)
		held_key_give_ctx(k, ctx, slot);
	return e;
}

static int set_padding(EVP_PKEY_CTX *ctx, const struct plan *p)
{
	OSSL_PARAM params[6], *at = params;
	char *pad = p->padding == PAD_PSS
	            ? OSSL_PKEY_RSA_PAD_MODE_PSS : OSSL_PKEY_RSA_PAD_MODE_PKCSV15;
	int salt = p->salt_len;

	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, pad, 0);
	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST,
	                                         (char *)p->digest->name, 0);
	if (p->padding == PAD_PSS) {
		*at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST,
		                                         (char *)p->mgf1->name, 0);
		*at++ = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt);
	}
	*at = OSSL_PARAM_construct_end();
	return EVP_PKEY_CTX_set_params(ctx, params) == 1;
}

static enum tao_err sign_rsa(struct held_key *k, EVP_PKEY *key, const struct plan *p,
                             const void *data, size_t n, struct tao_buf *sig)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	enum tao_err e;

	if (ctx == NULL || EVP_PKEY_sign_init(ctx) != 1)
		e = cannot_sign(k);
	else if (!set_padding(ctx, p))
		e = not_so(k);
	else
		e = sign_with(k, key, ctx, data, n, sig);
	EVP_PKEY_CTX_free(ctx);
	return e;
}

static enum tao_err sign_planned(struct held_key *k, EVP_PKEY *key, const struct plan *p,
                                 const void *data, size_t n, struct tao_buf *sig)
{
	uint8_t hash[EVP_MAX_MD_SIZE];

	if (p->digest == NULL)
		return sign_message(k, key, p->mu, data, n, sig);
	if (p->message) {
		if (EVP_Q_digest(NULL, p->digest->name, NULL, data, n, hash, NULL) != 1)
			return cannot_sign(k);
		data = hash;
		n = p->digest->n;
	}
	if (p->padding == PAD_NONE)
		return sign_ec(k, key, data, n, sig);
	return sign_rsa(k, key, p, data, n, sig);
}

/* A restricted RSA-PSS key has the digest of its restriction, by whatever name. */
static const char *own_digest(const struct held_key *k, EVP_PKEY *key)
{
	char name[KEY_PSS_NAME], mgf1[KEY_PSS_NAME];
	const char *own = k->type->digest;
	struct key_pss pss;
	EVP_MD *md;

	if (strcmp(k->type->algorithm, "RSA-PSS") != 0 || !key_type_pss(key, name, mgf1, &pss))
		return own;
	md = EVP_MD_fetch(NULL, name, NULL);
	for (size_t i = 0; md != NULL && i < sizeof digests / sizeof digests[0]; i++)
		if (EVP_MD_is_a(md, digests[i].name))
			own = digests[i].name;
	EVP_MD_free(md);
	return own;
}

static enum tao_err check_purpose(const struct held_key *k, unsigned want, const char *what)
{
	if ((k->purpose->can & k->type->can & want) != 0)
		return TAO_OK;
	return tao_fail(TAO_EPURPOSE, "key %s, of type %s and for purpose %s, does not %s", k->name,
	                k->type->name, k->purpose->name, what);
}

enum tao_err custody_sign(struct host *h, struct held_key *k, const struct sign_how *how,
                          const void *data, size_t n, struct tao_buf *sig)
{
	struct plan p = { .padding = PAD_NONE };
	const char *own;
	EVP_PKEY *key;
	enum tao_err e = check_purpose(k, KEY_SIGNS, "sign");

	if (e == TAO_OK)
		e = held_key_use(h, k, &key);
	if (e != TAO_OK)
		return e;
	own = own_digest(k, key);
	e = plan_digest(k, how, own, &p);
	if (e == TAO_OK)
		e = plan_padding(k, how, &p);
	if (e == TAO_OK)
		e = check_data(k, &p, own, data, n);
	if (e == TAO_OK)
		e = sign_planned(k, key, &p, data, n, sig);
	held_key_done(k);
	return e;
}

/* ---- decrypting ---- */

static enum tao_err does_not_decrypt(const struct held_key *k)
{
	ERR_clear_error();
	return tao_fail(TAO_EINVAL, "this does not decrypt with key %s and that padding", k->name);
}

static int set_oaep(EVP_PKEY_CTX *ctx, const struct decrypt_how *how, const struct digest *md,
                    const struct digest *mgf1)
{
	OSSL_PARAM params[5], *at = params;

	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE,
	                                         OSSL_PKEY_RSA_PAD_MODE_OAEP, 0);
	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST,
	                                         (char *)md->name, 0);
	*at++ = OSSL_PARAM_construct_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST,
	                                         (char *)mgf1->name, 0);
	if (how->label_n > 0)
		*at++ = OSSL_PARAM_construct_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL,
		                                          (void *)how->label, how->label_n);
	*at = OSSL_PARAM_construct_end();
	return EVP_PKEY_CTX_set_params(ctx, params) == 1;
}

static enum tao_err decrypt_oaep(struct held_key *k, EVP_PKEY *key, const struct decrypt_how *how,
                                 const void *data, size_t n, struct tao_buf *plain)
{
	const struct digest *md = digest_named(is_given(how->digest) ? how->digest : "SHA1");
	const struct digest *mgf1 = is_given(how->mgf1) ? digest_named(how->mgf1) : md;
	EVP_PKEY_CTX *ctx = NULL;
	size_t room = (size_t)EVP_PKEY_get_size(key), len = room;
	uint8_t *to;
	enum tao_err e = TAO_OK;

	if (md == NULL || mgf1 == NULL)
		return tao_fail(TAO_EINVAL, "OAEP is not known with this digest: use SHA1, SHA256, "
		                "SHA384 or SHA512");
	to = tao_buf_room(plain, room);
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	if (to == NULL || ctx == NULL || EVP_PKEY_decrypt_init(ctx) != 1 ||
	    !set_oaep(ctx, how, md, mgf1))
		e = tao_fail_crypto("decrypting with key %s", k->name);
	else if (EVP_PKEY_decrypt(ctx, to, &len, data, n) != 1)
		e = does_not_decrypt(k);
	if (to != NULL)
		plain->n -= room - (e == TAO_OK ? len : 0);
	EVP_PKEY_CTX_free(ctx);
	return e;
}

static enum tao_err decrypt_pkcs1(struct held_key *k, EVP_PKEY *key, const struct decrypt_how *how,
                                  const void *data, size_t n, struct tao_buf *plain)
{
	enum tao_err e;

	if (is_given(how->digest) || is_given(how->mgf1) || how->label_n > 0)
		return tao_fail(TAO_EINVAL, "only OAEP has a digest and a label");
	if (how->tls_version != 0)
		e = pkcs1_tls_premaster(key, how->tls_version, how->tls_alt_version, data, n,
		                        plain);
	else
		e = pkcs1_decrypt(key, data, n, plain);
	return e == TAO_EINVAL ? does_not_decrypt(k) : e;
}

enum tao_err custody_decrypt(struct host *h, struct held_key *k, const struct decrypt_how *how,
                             const void *data, size_t n, struct tao_buf *plain)
{
	int oaep = !is_given(how->padding) || strcmp(how->padding, "oaep") == 0;
	EVP_PKEY *key;
	enum tao_err e = check_purpose(k, KEY_DECRYPTS, "decrypt");

	if (e == TAO_OK && !oaep && strcmp(how->padding, "pkcs1") != 0)
		e = tao_fail(TAO_EINVAL, "the padding of RSA decryption is oaep or pkcs1");
	if (e == TAO_OK && n != k->type->bits / 8)
		e = tao_fail(TAO_EINVAL, "key %s decrypts %u bytes, not %zu", k->name,
		             k->type->bits / 8, n);
	if (e == TAO_OK)
		e = held_key_use(h, k, &key);
	if (e != TAO_OK)
		return e;
	e = (oaep ? decrypt_oaep : decrypt_pkcs1)(k, key, how, data, n, plain);
	held_key_done(k);
	return e;
}

/* ---- deriving ---- */

static int is_point(const struct key_type *t, const uint8_t *p, size_t n)
{
	size_t field = (t->bits + 7) / 8;

	if (t->group == NULL)
		return n == field;
	return (n == 1 + 2 * field && p[0] == POINT_CONVERSION_UNCOMPRESSED) ||
	       (n == 1 + field && (p[0] & ~1) == POINT_CONVERSION_COMPRESSED);
}

/* The peer's public key, which has to be of the same group. */
static EVP_PKEY *peer_of(const struct held_key *k, EVP_PKEY *key, const uint8_t *p, size_t n)
{
	EVP_PKEY *peer = NULL;

	if (!is_point(k->type, p, n)) {
		if (tao_key_from_spki_any(p, n, &peer) == TAO_OK && key_type_of(peer) == k->type)
			return peer;
	} else {
		peer = EVP_PKEY_new();
		if (peer != NULL && EVP_PKEY_copy_parameters(peer, key) == 1 &&
		    EVP_PKEY_set1_encoded_public_key(peer, p, n) == 1)
			return peer;
	}
	EVP_PKEY_free(peer);
	return NULL;
}

enum tao_err custody_derive(struct host *h, struct held_key *k, const void *peer, size_t n,
                            struct tao_buf *secret)
{
	size_t len = (k->type->bits + 7) / 8, room = len;
	EVP_PKEY_CTX *ctx = NULL;
	EVP_PKEY *key, *other = NULL;
	uint8_t *to;
	enum tao_err e = check_purpose(k, KEY_DERIVES, "derive");

	if (e == TAO_OK)
		e = held_key_use(h, k, &key);
	if (e != TAO_OK)
		return e;
	to = tao_buf_room(secret, room);
	other = peer_of(k, key, peer, n);
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	/* set_peer validates the point; all zeros, from a point of small order, is refused. */
	if (to == NULL || ctx == NULL || EVP_PKEY_derive_init(ctx) != 1) {
		e = tao_fail_crypto("deriving with key %s", k->name);
	} else if (other == NULL || EVP_PKEY_derive_set_peer(ctx, other) != 1 ||
	           EVP_PKEY_derive(ctx, to, &len) != 1 || len != room) {
		ERR_clear_error();
		e = tao_fail(TAO_EINVAL, "the peer's public key is none for key %s: it takes a "
		             "point or a SubjectPublicKeyInfo of type %s", k->name, k->type->name);
	}
	if (e != TAO_OK && to != NULL)
		secret->n -= room;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(other);
	held_key_done(k);
	return e;
}

/* ---- custody program ---- */

enum tao_err custody_private(struct host *h, struct held_key *k, struct tao_buf *pkcs8)
{
	EVP_PKEY *key;
	enum tao_err e = TAO_OK;

	if (strcmp(k->sealed->custody, "program") != 0)
		return tao_fail(TAO_EPURPOSE, "key %s never leaves the host: a key with --custody "
		                "program would", k->name);
	e = held_key_use(h, k, &key);
	if (e != TAO_OK)
		return e;
	e = key_pkcs8_write(key, pkcs8);
	held_key_done(k);
	return e;
}
