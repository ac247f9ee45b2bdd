#include "search.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <openssl/x509.h>

const OSSL_PARAM search_settable[] = {
	OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
	OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_PROPERTIES, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_STORE_PARAM_SUBJECT, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_STORE_PARAM_ISSUER, NULL, 0),
	OSSL_PARAM_BN(OSSL_STORE_PARAM_SERIAL, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_DIGEST, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_STORE_PARAM_FINGERPRINT, NULL, 0),
	OSSL_PARAM_utf8_string(OSSL_STORE_PARAM_ALIAS, NULL, 0),
	OSSL_PARAM_END
};

void search_init(struct search *s)
{
	static const struct tao_buf empty = TAO_BUF_INIT;

	memset(s, 0, sizeof *s);
	s->subject = s->issuer = s->serial = s->fingerprint = empty;
}

void search_clear(struct search *s)
{
	tao_buf_free(&s->subject);
	tao_buf_free(&s->issuer);
	tao_buf_free(&s->serial);
	tao_buf_free(&s->fingerprint);
}

static int take_bytes(struct search *s, const OSSL_PARAM params[], const char *name,
                      struct tao_buf *to)
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, name);
	const void *p;
	size_t n;

	if (q == NULL)
		return 1;
	if (!OSSL_PARAM_get_octet_string_ptr(q, &p, &n) || n > SEARCH_MAX)
		return 0;
	s->wanted = 1;
	tao_buf_reset(to);
	tao_buf_put(to, p, n);
	return to->err == TAO_OK;
}

static int take_text(struct search *s, const OSSL_PARAM params[], const char *name, char *to,
                     size_t room)
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, name);

	if (q == NULL)
		return 1;
	s->wanted = 1;
	return OSSL_PARAM_get_utf8_string(q, &to, room);
}

static int take_serial(struct search *s, const OSSL_PARAM params[])
{
	const OSSL_PARAM *q = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_SERIAL);
	BIGNUM *bn = NULL;
	uint8_t *to;
	int good = 0;

	if (q == NULL)
		return 1;
	if (OSSL_PARAM_get_BN(q, &bn) && BN_num_bytes(bn) <= SEARCH_MAX) {
		s->wanted = 1;
		tao_buf_reset(&s->serial);
		to = tao_buf_room(&s->serial, (size_t)BN_num_bytes(bn) + 1);
		good = to != NULL && BN_bn2binpad(bn, to, BN_num_bytes(bn) + 1) > 0;
	}
	BN_free(bn);
	return good;
}

int search_set(struct search *s, const OSSL_PARAM params[])
{
	return take_bytes(s, params, OSSL_STORE_PARAM_SUBJECT, &s->subject) &&
	       take_bytes(s, params, OSSL_STORE_PARAM_ISSUER, &s->issuer) &&
	       take_bytes(s, params, OSSL_STORE_PARAM_FINGERPRINT, &s->fingerprint) &&
	       take_serial(s, params) &&
	       take_text(s, params, OSSL_STORE_PARAM_DIGEST, s->digest, sizeof s->digest) &&
	       take_text(s, params, OSSL_STORE_PARAM_ALIAS, s->alias, sizeof s->alias);
}

/* As OpenSSL compares names: case and blanks do not count. */
static int same_name(const struct tao_buf *wanted, const X509_NAME *has)
{
	const uint8_t *at = wanted->p;
	X509_NAME *name;
	int same;

	if (wanted->n == 0)
		return 1;
	name = d2i_X509_NAME(NULL, &at, (long)wanted->n);
	same = name != NULL && X509_NAME_cmp(name, has) == 0;
	X509_NAME_free(name);
	return same;
}

static int same_serial(const struct tao_buf *wanted, const X509 *x)
{
	BIGNUM *has, *want;
	int same;

	if (wanted->n == 0)
		return 1;
	has = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
	want = BN_bin2bn(wanted->p, (int)wanted->n, NULL);
	same = has != NULL && want != NULL && BN_cmp(has, want) == 0;
	BN_free(has);
	BN_free(want);
	return same;
}

static int digest_is(const EVP_MD *md, const struct tao_buf *wanted, const void *p, size_t n)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	return EVP_Digest(p, n, hash, &len, md, NULL) && len == wanted->n &&
	       memcmp(hash, wanted->p, len) == 0;
}

static int same_fingerprint(const struct prov *p, const struct search *s, const X509 *x,
                            const void *der, size_t n)
{
	uint8_t *spki = NULL;
	EVP_MD *md;
	int len, same;

	if (s->fingerprint.n == 0)
		return 1;
	md = EVP_MD_fetch(p->inner->libctx, s->digest[0] != 0 ? s->digest : "SHA256", NULL);
	len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
	same = md != NULL && (digest_is(md, &s->fingerprint, der, n) ||
	                      (len > 0 && digest_is(md, &s->fingerprint, spki, (size_t)len)));
	OPENSSL_free(spki);
	EVP_MD_free(md);
	return same;
}

int search_matches(const struct prov *p, const struct search *s, const void *der, size_t n)
{
	const uint8_t *at = der;
	X509 *x;
	int matches;

	if (!s->wanted)
		return 1;
	ERR_set_mark();
	x = d2i_X509(NULL, &at, (long)n);
	matches = x != NULL && same_name(&s->subject, X509_get_subject_name(x)) &&
	          same_name(&s->issuer, X509_get_issuer_name(x)) && same_serial(&s->serial, x) &&
	          same_fingerprint(p, s, x, der, n);
	X509_free(x);
	ERR_pop_to_mark();
	return matches;
}
