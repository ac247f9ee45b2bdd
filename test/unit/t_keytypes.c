/* Sealed keys of every type: what each does is verified with plain libcrypto, and what its
 * purpose, type, custody and generation forbid is refused. */
#include <ftw.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "../../host/custody_int.h"
#include "../../host/pkcs1.h"
#include "../../tao/attest.h"
#include "../../tao/file.h"
#include "memscan.h"
#include "pkcs1_vectors.h"
#include "tap.h"

#define PASS "correct horse", 13
#define UID 4711

static const uint8_t exe[TAO_HASH_LEN] = { 0xaa };
static const uint8_t text[] = "what is signed, decrypted or derived";

static struct host h;

/* ---- a host without its processes ---- */

static void make_host(char *dir)
{
	struct tao_keyset ks = { 0 };
	char sub[300];

	snprintf(sub, sizeof sub, "%s/domain", dir);
	if (tao_keyset_generate(&ks) != TAO_OK || tao_sealer_init(&h.sealer, &ks) != TAO_OK ||
	    domain_create(sub, "Example", PASS) != TAO_OK ||
	    domain_load(sub, PASS, &h.domain) != TAO_OK) {
		printf("Bail out! no host: %s\n", tao_why());
		exit(1);
	}
	tao_keyset_clear(&ks);
	h.conf.dir = dir;
	h.conf.max_keys = 100;
	h.custody = custody_new();
	snprintf(sub, sizeof sub, "%s/keys", dir);
	tao_dir_make(sub, 0755);
}

static struct held_key *open_stub(const struct tao_buf *stub)
{
	struct held_key *k = NULL;

	if (custody_open(&h, stub->p, stub->n, &k) != TAO_OK)
		printf("# no key: %s\n", tao_why());
	return k;
}

static struct held_key *new_key_of(const struct key_spec *s)
{
	struct tao_buf stub = TAO_BUF_INIT;
	struct held_key *k;

	if (custody_generate(&h, s, &stub) != TAO_OK) {
		printf("Bail out! no key: %s\n", tao_why());
		exit(1);
	}
	k = open_stub(&stub);
	tao_buf_free(&stub);
	return k;
}

static struct held_key *new_key(const char *type, const char *purpose)
{
	struct key_spec s = { .name = "k", .type = type, .purpose = purpose, .uid = UID, .exe = exe,
	                      .pss_salt_len = -1 };

	return new_key_of(&s);
}

/* One for all that only look at what it refuses. */
static struct held_key *shared_key(const char *type, const char *purpose)
{
	static struct {
		const char *type, *purpose;
		struct tao_buf stub;
	} made[32];
	size_t i = 0;

	while (made[i].type != NULL &&
	       (strcmp(made[i].type, type) != 0 || strcmp(made[i].purpose, purpose) != 0))
		i++;
	if (made[i].type == NULL) {
		struct held_key *k = new_key(type, purpose);

		made[i].type = type;
		made[i].purpose = purpose;
		made[i].stub.max = TAO_BUF_MAX;
		tao_buf_put(&made[i].stub, k->stub.p, k->stub.n);
		held_key_release(k);
	}
	return open_stub(&made[i].stub);
}

/* Its public half, as anybody has it. */
static EVP_PKEY *public_of(const struct held_key *k)
{
	struct key_facts f;
	const uint8_t *p;
	EVP_PKEY *key;

	held_key_facts(k, &f);
	p = f.spki;
	key = d2i_PUBKEY(NULL, &p, (long)f.spki_n);
	return key;
}

/* ---- signatures ---- */

/* With libcrypto: salt_len -1 as long as the digest, INT32_MIN: not PSS. */
#define NO_PSS INT32_MIN
static int verifies(const struct held_key *k, const char *digest, const char *mgf1, int salt_len,
                    const struct tao_buf *sig)
{
	EVP_PKEY *pub = public_of(k);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pc;
	int good = EVP_DigestVerifyInit_ex(c, &pc, digest, NULL, NULL, pub, NULL) == 1;

	if (salt_len != NO_PSS)
		good = good && EVP_PKEY_CTX_set_rsa_padding(pc, RSA_PKCS1_PSS_PADDING) == 1 &&
		       EVP_PKEY_CTX_set_rsa_pss_saltlen(pc, salt_len) == 1 &&
		       EVP_PKEY_CTX_set_rsa_mgf1_md_name(pc, mgf1 != NULL ? mgf1 : digest, NULL) == 1;
	good = good && EVP_DigestVerify(c, sig->p, sig->n, text, sizeof text) == 1;
	EVP_MD_CTX_free(c);
	EVP_PKEY_free(pub);
	ERR_clear_error();
	return good;
}

static enum tao_err sign_digest(struct held_key *k, const struct sign_how *how, const char *digest,
                                struct tao_buf *sig)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	size_t n;

	EVP_Q_digest(NULL, digest, NULL, text, sizeof text, hash, &n);
	return custody_sign(&h, k, how, hash, n, sig);
}

/* Both ways: the digest, and the message. */
static void check_signature(struct held_key *k, const struct sign_how *how, const char *what)
{
	int pss = how->padding != NULL && strcmp(how->padding, "pss") == 0;
	int salt = !pss ? NO_PSS : !how->has_salt_len || how->salt_len == -1 ? -1
	           : how->salt_len == -3 ? RSA_PSS_SALTLEN_AUTO : how->salt_len;
	struct tao_buf sig = TAO_BUF_INIT;
	struct sign_how whole = *how;

	ok(sign_digest(k, how, how->digest, &sig) == TAO_OK &&
	   verifies(k, how->digest, how->mgf1, salt, &sig), "%s %s %s: digest", k->type->name,
	   how->digest, what);
	tao_buf_reset(&sig);
	whole.message = 1;
	ok(custody_sign(&h, k, &whole, text, sizeof text, &sig) == TAO_OK &&
	   verifies(k, how->digest, how->mgf1, salt, &sig), "%s %s %s: message", k->type->name,
	   how->digest, what);
	if (sig.n > 0)
		sig.p[sig.n - 1] ^= 1;
	ok(!verifies(k, how->digest, how->mgf1, salt, &sig), "which can fail");
	tao_buf_free(&sig);
}

static void check_signatures(const char *type)
{
	static const char *const digests[] = { "SHA1", "SHA224", "SHA256", "SHA384", "SHA512",
	                                       "SHA3-256", "SHA3-384", "SHA3-512" };
	struct held_key *k = new_key(type, "sign");
	int is_rsa = strcmp(k->type->algorithm, "RSA") == 0;

	for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
		struct sign_how plain = { .digest = digests[i] };
		struct sign_how pss = { .digest = digests[i], .padding = "pss" };

		check_signature(k, &plain, "");
		if (!is_rsa)
			continue;
		check_signature(k, &pss, "pss");
		pss.has_salt_len = 1;
		for (int salt = -3; salt <= 20; salt += salt < 0 ? 2 : salt == 1 ? 19 : 1) {
			pss.salt_len = salt;
			check_signature(k, &pss, "pss, with a salt");
		}
		pss.mgf1 = "SHA1";
		pss.salt_len = -1;
		check_signature(k, &pss, "pss, mgf1 with SHA1");
	}
	held_key_release(k);
}

/* Without a word about how: the type's own digest. */
static void check_own_digest(const char *type, const char *digest, int salt_len)
{
	struct held_key *k = new_key(type, "any");
	struct sign_how how = { .digest = NULL };
	struct tao_buf sig = TAO_BUF_INIT;

	ok(custody_sign(&h, k, &how, text, sizeof text, &sig) == TAO_OK &&
	   verifies(k, digest, NULL, salt_len, &sig), "%s signs messages with %s", type,
	   digest != NULL ? digest : "no digest");
	held_key_release(k);
	tao_buf_free(&sig);
}

static void check_restricted(void)
{
	struct key_spec s = { .name = "k", .type = "rsa-pss-2048", .pss_digest = "SHA384",
	                      .pss_salt_len = 40, .uid = UID, .exe = exe };
	struct held_key *k = new_key_of(&s), *next = NULL;
	struct sign_how how = { .digest = NULL };
	struct tao_buf sig = TAO_BUF_INIT, stub = TAO_BUF_INIT;

	ok(custody_sign(&h, k, &how, text, sizeof text, &sig) == TAO_OK &&
	   verifies(k, "SHA384", NULL, -1, &sig), "a restricted key signs with its digest");
	how.digest = "SHA256";
	ok_err(sign_digest(k, &how, "SHA256", &sig), TAO_EPURPOSE, "and no other");
	how = (struct sign_how){ .digest = "SHA384", .has_salt_len = 1, .salt_len = 39 };
	ok_err(sign_digest(k, &how, "SHA384", &sig), TAO_EPURPOSE, "nor with a shorter salt");
	how.salt_len = 40;
	ok_err(sign_digest(k, &how, "SHA384", &sig), TAO_OK, "but with its own");
	how.mgf1 = "SHA256";
	ok_err(sign_digest(k, &how, "SHA384", &sig), TAO_EPURPOSE, "nor with another MGF1");
	how = (struct sign_how){ .digest = "SHA384", .padding = "pkcs1" };
	ok_err(sign_digest(k, &how, "SHA384", &sig), TAO_EPURPOSE, "nor with PKCS#1 v1.5");
	ok_err(custody_next(&h, k, &stub), TAO_OK, "its next generation");
	next = open_stub(&stub);
	how = (struct sign_how){ .digest = "SHA384", .has_salt_len = 1, .salt_len = 39 };
	ok_err(sign_digest(next, &how, "SHA384", &sig), TAO_EPURPOSE, "is restricted as well");
	how.salt_len = 40;
	tao_buf_reset(&sig);
	ok(sign_digest(next, &how, "SHA384", &sig) == TAO_OK && verifies(next, "SHA384", NULL, 40, &sig) &&
	   !verifies(k, "SHA384", NULL, 40, &sig), "and another key");
	held_key_release(k);
	held_key_release(next);
	tao_buf_free(&sig);
	tao_buf_free(&stub);
}

/* ---- requests that are refused: one for each field ---- */

static void check_sign_refusals(void)
{
	static const struct {
		const char *type, *purpose;
		struct sign_how how;
		size_t n;
		enum tao_err want;
	} cases[] = {
		{ "p256", "any", { .digest = "SHA256" }, 32, TAO_OK },
		{ "p256", "any", { .digest = "SHA256" }, 31, TAO_EINVAL },
		{ "p256", "any", { .digest = "SHA256" }, 0, TAO_EINVAL },
		{ "p256", "any", { .digest = "MD5" }, 16, TAO_EPURPOSE },
		{ "p256", "any", { .digest = "SHA256", .padding = "pss" }, 32, TAO_EINVAL },
		{ "p256", "any", { .digest = "SHA256", .mgf1 = "SHA256" }, 32, TAO_EINVAL },
		{ "p256", "any", { .digest = "SHA256", .has_salt_len = 1 }, 32, TAO_EINVAL },
		{ "p256", "decrypt", { .digest = "SHA256" }, 32, TAO_EPURPOSE },
		{ "p256", "tls", { .digest = "SHA384" }, 48, TAO_OK },
		{ "p256", "tls", { .digest = "SHA224" }, 28, TAO_OK },
		{ "p256", "tls", { .digest = "SHA1" }, 20, TAO_EPURPOSE },
		{ "p256", "tls", { .digest = "SHA3-256" }, 32, TAO_EPURPOSE },
		{ "p256", "tls13", { .digest = "SHA256" }, 32, TAO_EPURPOSE },
		{ "p256", "tls13", { .digest = "SHA256", .message = 1 }, 32, TAO_EPURPOSE },
		{ "rsa2048", "any", { .digest = "SHA256" }, 32, TAO_OK },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "none" }, 32, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "PSS" }, 32, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pkcs1", .mgf1 = "SHA1" }, 32,
		  TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pkcs1", .has_salt_len = 1 }, 32,
		  TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .mgf1 = "MD5" }, 32,
		  TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = 222 }, 32, TAO_OK },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = 223 }, 32, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = -2 }, 32, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = INT32_MIN }, 32, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = INT32_MAX }, 32, TAO_EINVAL },
		{ "rsa2048", "tls", { .digest = "SHA256", .padding = "pss" }, 32, TAO_OK },
		{ "rsa2048", "tls", { .digest = "SHA256", .padding = "pkcs1" }, 32, TAO_OK },
		{ "rsa2048", "tls", { .digest = "SHA256", .padding = "pss", .has_salt_len = 1,
		                      .salt_len = 20 }, 32, TAO_EPURPOSE },
		{ "rsa2048", "tls", { .digest = "SHA256", .padding = "pss", .mgf1 = "SHA384" }, 32,
		  TAO_EPURPOSE },
		{ "rsa2048", "decrypt", { .digest = "SHA256" }, 32, TAO_EPURPOSE },
		{ "rsa-pss-2048", "any", { .digest = "SHA256" }, 32, TAO_OK },
		{ "rsa-pss-2048", "any", { .digest = "SHA256", .padding = "pkcs1" }, 32, TAO_EPURPOSE },
		{ "ed25519", "any", { .digest = "SHA512" }, 64, TAO_EPURPOSE },
		{ "ed25519", "tls", { .digest = NULL }, 64, TAO_OK },
		{ "ed25519", "any", { .padding = "pss" }, 32, TAO_EINVAL },
		{ "ed25519", "any", { .digest = "MU" }, 64, TAO_EPURPOSE },
		{ "p256", "any", { .digest = "MU" }, 64, TAO_EPURPOSE },
		{ "x25519", "any", { .digest = NULL }, 32, TAO_EPURPOSE },
	};
	uint8_t data[64];
	struct tao_buf sig = TAO_BUF_INIT;

	memset(data, 0x5a, sizeof data);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct held_key *k = shared_key(cases[i].type, cases[i].purpose);

		tao_buf_reset(&sig);
		ok_err(custody_sign(&h, k, &cases[i].how, data, cases[i].n, &sig), cases[i].want,
		       "case %zu: %s for %s", i, cases[i].type, cases[i].purpose);
		ok((sig.n > 0) == (cases[i].want == TAO_OK), "and %s", sig.n > 0 ? "signs" : "no signature");
		held_key_release(k);
	}
	tao_buf_free(&sig);
}

/* ---- TLS 1.3's content ---- */

static size_t certificate_verify(uint8_t *p, const char *who, size_t hash_n)
{
	size_t n = 64;

	memset(p, ' ', n);
	n += (size_t)sprintf((char *)p + n, "TLS 1.3, %s CertificateVerify", who) + 1;
	memset(p + n, 0x11, hash_n);
	return n + hash_n;
}

static enum tao_err sign13(struct held_key *k, const char *digest, const char *padding,
                           const void *data, size_t n)
{
	struct sign_how how = { .digest = digest, .padding = padding, .message = 1 };
	struct tao_buf sig = TAO_BUF_INIT;
	enum tao_err e = custody_sign(&h, k, &how, data, n, &sig);

	tao_buf_free(&sig);
	return e;
}

static void check_tls13(void)
{
	struct held_key *ec = new_key("p256", "tls13"), *ed = new_key("ed25519", "tls13");
	struct held_key *rsa = shared_key("rsa2048", "tls13");
	uint8_t p[256];
	size_t n = certificate_verify(p, "server", 32), bad = 0;

	ok_err(sign13(ec, "SHA256", NULL, p, n), TAO_OK, "tls13: a server's CertificateVerify");
	ok_err(sign13(ec, NULL, NULL, p, n), TAO_OK, "tls13: without naming the digest");
	ok_err(sign13(ed, NULL, NULL, p, n), TAO_OK, "tls13: Ed25519");
	ok_err(sign13(rsa, "SHA512", "pss", p, n), TAO_OK, "tls13: RSA");
	ok_err(sign13(rsa, "SHA256", "pkcs1", p, n), TAO_EPURPOSE, "tls13: RSA not with PKCS#1 v1.5");
	ok_err(sign13(rsa, "SHA256", NULL, p, n), TAO_EPURPOSE, "tls13: nor without a word");
	ok_err(sign13(rsa, "SHA224", "pss", p, n), TAO_EPURPOSE, "tls13: RSA not with SHA224");
	ok_err(sign13(ec, "SHA384", NULL, p, n), TAO_EPURPOSE, "tls13: P-256 not with SHA384");
	for (size_t i = 0; i < n - 32; i++) {
		p[i] ^= 1;
		bad += sign13(ec, "SHA256", NULL, p, n) == TAO_OK;
		p[i] ^= 1;
	}
	ok(bad == 0, "tls13: nothing else in its place");
	for (size_t i = 0; i < n; i++)
		bad += sign13(ec, "SHA256", NULL, p, i) == TAO_OK;
	ok(bad == 0, "tls13: nothing shorter");
	ok_err(sign13(ec, "SHA256", NULL, p, n + 1), TAO_EPURPOSE, "tls13: nothing longer");
	n = certificate_verify(p, "client", 48);
	ok_err(sign13(ec, "SHA256", NULL, p, n), TAO_OK, "tls13: a client's, after SHA-384");
	n = certificate_verify(p, "server", 64);
	ok_err(sign13(ec, "SHA256", NULL, p, n), TAO_EPURPOSE, "tls13: no hash has 64 bytes");
	held_key_release(ec);
	held_key_release(ed);
	held_key_release(rsa);
}

/* What tao_key_sign() hashes. */
static void check_statements(void)
{
	struct held_key *k = new_key("p256", "any"), *ed = new_key("ed25519", "sign");
	struct tao_buf b = TAO_BUF_INIT, sig = TAO_BUF_INIT;
	struct sign_how how = { .message = 1 };

	tao_buf_u8(&b, 1 << 3 | 2);
	tao_buf_u8(&b, sizeof TAO_ATTEST_CONTEXT - 1);
	tao_buf_str(&b, TAO_ATTEST_CONTEXT);
	tao_buf_str(&b, "\x12\x01x");
	ok_err(custody_sign(&h, k, &how, b.p, b.n, &sig), TAO_EPURPOSE, "no statement of a Tao is signed");
	ok_err(custody_sign(&h, ed, &how, b.p, b.n, &sig), TAO_EPURPOSE, "by Ed25519 neither");
	b.p[5] ^= 1;
	ok_err(custody_sign(&h, k, &how, b.p, b.n, &sig), TAO_OK, "something like it is");
	held_key_release(k);
	held_key_release(ed);
	tao_buf_free(&b);
	tao_buf_free(&sig);
}

/* ---- decrypting ---- */

static size_t encrypt(const struct held_key *k, int pad, const char *md, const char *mgf1,
                      const char *label, const void *p, size_t n, uint8_t out[512])
{
	EVP_PKEY *pub = public_of(k);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, pub, NULL);
	size_t len = 512;

	if (EVP_PKEY_encrypt_init(c) != 1 || EVP_PKEY_CTX_set_rsa_padding(c, pad) != 1 ||
	    (md != NULL && EVP_PKEY_CTX_set_rsa_oaep_md_name(c, md, NULL) != 1) ||
	    (mgf1 != NULL && EVP_PKEY_CTX_set_rsa_mgf1_md_name(c, mgf1, NULL) != 1) ||
	    (label != NULL && EVP_PKEY_CTX_set0_rsa_oaep_label(c, OPENSSL_strdup(label),
	                                                       (int)strlen(label)) != 1) ||
	    EVP_PKEY_encrypt(c, out, &len, p, n) != 1)
		len = 0;
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(pub);
	return len;
}

static int is_text(const struct tao_buf *b)
{
	return b->n == sizeof text && memcmp(b->p, text, sizeof text) == 0;
}

static void check_decryption(const char *type)
{
	static const struct decrypt_how oaep[] = {
		{ .padding = NULL }, { .padding = "oaep", .digest = "SHA1" },
		{ .padding = "oaep", .digest = "SHA256" }, { .digest = "SHA256", .mgf1 = "SHA1" },
		{ .digest = "SHA512", .label = (const uint8_t *)"label", .label_n = 5 },
	};
	struct held_key *k = new_key(type, "decrypt");
	struct decrypt_how pkcs1 = { .padding = "pkcs1" }, no_label = { .digest = "SHA512" };
	struct tao_buf plain = TAO_BUF_INIT;
	uint8_t c[512];
	size_t n = 0;

	for (size_t i = 0; i < sizeof oaep / sizeof oaep[0]; i++) {
		const struct decrypt_how *o = &oaep[i];

		n = encrypt(k, RSA_PKCS1_OAEP_PADDING, o->digest, o->mgf1, (const char *)o->label, text,
		            sizeof text, c);
		tao_buf_reset(&plain);
		ok(custody_decrypt(&h, k, o, c, n, &plain) == TAO_OK && is_text(&plain), "%s OAEP %zu", type,
		   i);
	}
	tao_buf_reset(&plain);
	ok_err(custody_decrypt(&h, k, &no_label, c, n, &plain), TAO_EINVAL, "%s OAEP, another label",
	       type);
	ok(plain.n == 0, "gives nothing");
	n = encrypt(k, RSA_PKCS1_PADDING, NULL, NULL, NULL, text, sizeof text, c);
	ok(custody_decrypt(&h, k, &pkcs1, c, n, &plain) == TAO_OK && is_text(&plain), "%s PKCS#1", type);
	held_key_release(k);
	tao_buf_free(&plain);
}

static void check_decrypt_refusals(void)
{
	static const struct {
		const char *type, *purpose;
		struct decrypt_how how;
		size_t n;
		enum tao_err want;
	} cases[] = {
		{ "rsa2048", "any", { .padding = "pkcs1" }, 256, TAO_OK },
		{ "rsa2048", "tls", { .padding = "pkcs1" }, 256, TAO_EPURPOSE },
		{ "rsa2048", "tls13", { .padding = "pkcs1" }, 256, TAO_EPURPOSE },
		{ "rsa2048", "sign", { .padding = "pkcs1" }, 256, TAO_EPURPOSE },
		{ "rsa2048", "any", { .padding = "pkcs1" }, 255, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "pkcs1" }, 257, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "pkcs1" }, 0, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "none" }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "pkcs1", .digest = "SHA1" }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "pkcs1", .mgf1 = "SHA1" }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "pkcs1", .label = text, .label_n = 1 }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .padding = "oaep" }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .digest = "MD5" }, 256, TAO_EINVAL },
		{ "rsa2048", "any", { .mgf1 = "MD5" }, 256, TAO_EINVAL },
		{ "rsa-pss-2048", "any", { .padding = "pkcs1" }, 256, TAO_EPURPOSE },
		{ "p256", "any", { .padding = NULL }, 32, TAO_EPURPOSE },
		{ "x25519", "decrypt", { .padding = NULL }, 32, TAO_EPURPOSE },
	};
	uint8_t data[257] = { 0x01 };
	struct tao_buf plain = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct held_key *k = shared_key(cases[i].type, cases[i].purpose);

		ok_err(custody_decrypt(&h, k, &cases[i].how, data, cases[i].n, &plain), cases[i].want,
		       "decryption %zu: %s for %s", i, cases[i].type, cases[i].purpose);
		held_key_release(k);
	}
	tao_buf_free(&plain);
}

static EVP_PKEY *vector_key(void)
{
	size_t n = strlen(pkcs1_key) / 2;
	uint8_t der[2048];
	const uint8_t *p = der;

	return tao_unhex(pkcs1_key, 2 * n, der, n) == TAO_OK ? d2i_AutoPrivateKey(NULL, &p, (long)n)
	                                                     : NULL;
}

static void check_implicit_rejection(void)
{
	EVP_PKEY *key = vector_key();
	uint8_t c[256], want[256];

	for (size_t i = 0; i < sizeof pkcs1_vectors / sizeof pkcs1_vectors[0]; i++) {
		struct tao_buf here = TAO_BUF_INIT, any = TAO_BUF_INIT;
		size_t n = strlen(pkcs1_vectors[i].plain) / 2;

		tao_unhex(pkcs1_vectors[i].ciphertext, 512, c, 256);
		tao_unhex(pkcs1_vectors[i].plain, 2 * n, want, n);
		ok(pkcs1_decrypt_here(key, c, 256, &here) == TAO_OK && here.n == n &&
		   memcmp(here.p != NULL ? here.p : c, want, n) == 0, "implicit rejection: %s",
		   pkcs1_vectors[i].name);
		ok(pkcs1_decrypt(key, c, 256, &any) == TAO_OK && any.n == n &&
		   memcmp(any.p != NULL ? any.p : c, want, n) == 0, "and however libcrypto does it");
		tao_buf_free(&here);
		tao_buf_free(&any);
	}
	memset(c, 0xff, sizeof c);
	ok_err(pkcs1_decrypt_here(key, c, 256, NULL), TAO_EINVAL, "a number above the modulus");
	EVP_PKEY_free(key);
}

static int premaster(struct held_key *k, const uint8_t *p, size_t n, uint32_t version, uint32_t alt,
                     uint8_t out[PKCS1_PREMASTER])
{
	struct decrypt_how how = { .padding = "pkcs1", .tls_version = version, .tls_alt_version = alt };
	struct tao_buf plain = TAO_BUF_INIT;
	uint8_t c[512];
	size_t len = encrypt(k, RSA_PKCS1_PADDING, NULL, NULL, NULL, p, n, c);
	int good = custody_decrypt(&h, k, &how, c, len, &plain) == TAO_OK && plain.n == PKCS1_PREMASTER;

	if (good)
		memcpy(out, plain.p, PKCS1_PREMASTER);
	tao_buf_free(&plain);
	return good;
}

static void check_premaster(void)
{
	struct held_key *k = shared_key("rsa2048", "any");
	uint8_t p[PKCS1_PREMASTER + 1] = { 3, 3, 7 }, out[PKCS1_PREMASTER], again[PKCS1_PREMASTER];

	ok(premaster(k, p, 48, 0x303, 0, out) && memcmp(out, p, 48) == 0, "a premaster secret");
	ok(premaster(k, p, 48, 0x302, 0x303, out) && memcmp(out, p, 48) == 0, "of the other version");
	ok(premaster(k, p, 48, 0x302, 0, out) && memcmp(out, p, 48) != 0, "of a wrong version: random");
	ok(premaster(k, p, 48, 0x302, 0, again) && memcmp(out, again, 48) != 0, "each time");
	ok(premaster(k, p, 47, 0x303, 0, out) && memcmp(out, p, 47) != 0, "too short: random");
	ok(premaster(k, p, 49, 0x303, 0, out) && memcmp(out, p, 48) != 0, "too long: random");
	held_key_release(k);
}

/* ---- deriving ---- */

/* The other side's result. */
static int agrees(const struct held_key *k, EVP_PKEY *mine, const struct tao_buf *secret)
{
	EVP_PKEY *pub = public_of(k);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, mine, NULL);
	uint8_t out[80];
	size_t n = sizeof out;
	int good = EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, pub) == 1 &&
	           EVP_PKEY_derive(c, out, &n) == 1 && n == secret->n && memcmp(out, secret->p, n) == 0;

	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(pub);
	return good;
}

static EVP_PKEY *peer_for(const struct held_key *k)
{
	return k->type->group != NULL ? EVP_EC_gen(k->type->group)
	                              : EVP_PKEY_Q_keygen(NULL, NULL, k->type->algorithm);
}

static void derive(struct held_key *k, EVP_PKEY *peer, const uint8_t *p, size_t n, const char *what)
{
	struct tao_buf secret = TAO_BUF_INIT;

	ok(custody_derive(&h, k, p, n, &secret) == TAO_OK && agrees(k, peer, &secret), "%s: %s",
	   k->type->name, what);
	tao_buf_free(&secret);
}

static void underived(struct held_key *k, const uint8_t *p, size_t n, enum tao_err want,
                      const char *what)
{
	struct tao_buf secret = TAO_BUF_INIT;

	ok(custody_derive(&h, k, p, n, &secret) == want && secret.n == 0, "%s: %s", k->type->name, what);
	tao_buf_free(&secret);
}

static void check_derivation(const char *type)
{
	struct held_key *k = new_key(type, "decrypt");
	EVP_PKEY *peer = peer_for(k), *other = EVP_EC_gen("secp256k1");
	struct tao_buf spki = TAO_BUF_INIT;
	uint8_t *point = NULL, zeros[133] = { 0 }, *strange = NULL;
	size_t n = EVP_PKEY_get1_encoded_public_key(peer, &point), m = i2d_PUBKEY(other, &strange);

	tao_key_spki(peer, &spki);
	derive(k, peer, point, n, "derives with a point");
	derive(k, peer, spki.p, spki.n, "derives with a SubjectPublicKeyInfo");
	underived(k, point, n - 1, TAO_EINVAL, "not with a shorter point");
	underived(k, spki.p, spki.n - 1, TAO_EINVAL, "nor a shorter SubjectPublicKeyInfo");
	underived(k, strange, m, TAO_EINVAL, "nor one of another curve");
	underived(k, zeros, n, TAO_EINVAL, "nor with zeros");
	underived(k, zeros, 1, TAO_EINVAL, "nor with the point at infinity");
	underived(k, zeros, 0, TAO_EINVAL, "nor with nothing");
	if (k->type->group != NULL) {
		size_t field = (n - 1) / 2;
		uint8_t flag = (uint8_t)(2 + (point[n - 1] & 1)), first = point[0];

		point[0] = flag;
		derive(k, peer, point, 1 + field, "derives with a compressed point");
		point[0] = (uint8_t)(first + 2 + (flag & 1));
		underived(k, point, n, TAO_EINVAL, "not with a hybrid form");
		point[0] = first;
		point[n - 1] ^= 1;
		underived(k, point, n, TAO_EINVAL, "nor with a point that is not on the curve");
	}
	held_key_release(k);
	EVP_PKEY_free(peer);
	EVP_PKEY_free(other);
	OPENSSL_free(point);
	OPENSSL_free(strange);
	tao_buf_free(&spki);
}

static void check_derive_refusals(void)
{
	static const struct {
		const char *type, *purpose;
	} cases[] = { { "p256", "tls" }, { "p256", "sign" }, { "p256", "tls13" }, { "rsa2048", "any" },
	              { "ed25519", "any" } };
	uint8_t point[65] = { 4 };

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct held_key *k = shared_key(cases[i].type, cases[i].purpose);

		underived(k, point, sizeof point, TAO_EPURPOSE, "does not derive for that purpose");
		held_key_release(k);
	}
}

/* ---- custody, importing ---- */

static EVP_PKEY *of_pkcs8(const struct tao_buf *b)
{
	const uint8_t *p = b->p;

	return d2i_AutoPrivateKey(NULL, &p, (long)b->n);
}

static void check_custody(const char *type)
{
	struct key_spec s = { .name = "k", .type = type, .custody = "program", .uid = UID, .exe = exe,
	                      .pss_salt_len = -1 };
	struct held_key *k = new_key_of(&s), *host = new_key(type, "any"), *imported;
	EVP_PKEY *pub = public_of(k), *private;
	struct tao_buf der = TAO_BUF_INIT, stub = TAO_BUF_INIT;
	struct key_facts f;

	ok_err(custody_private(&h, k, &der), TAO_OK, "%s: custody program gives the private key", type);
	private = of_pkcs8(&der);
	ok(private != NULL && EVP_PKEY_eq(private, pub) == 1, "%s: which is the public one's", type);
	ok_err(custody_private(&h, host, &stub), TAO_EPURPOSE, "%s: custody host never does", type);
	ok(stub.n == 0, "and gives nothing");
	s = (struct key_spec){ .name = "i", .uid = UID, .exe = exe };
	ok_err(custody_import(&h, &s, der.p, der.n, &stub), TAO_OK, "%s: imports", type);
	imported = open_stub(&stub);
	held_key_facts(imported, &f);
	ok(f.imported && f.generation == 1 && strcmp(f.type, type) == 0, "%s: and says so", type);
	EVP_PKEY_free(pub);
	pub = public_of(imported);
	ok(EVP_PKEY_eq(private, pub) == 1, "%s: the same key", type);
	held_key_facts(k, &f);
	ok(!f.imported, "%s: the other was not", type);
	tao_buf_reset(&stub);
	ok(custody_import(&h, &s, der.p, der.n - 1, &stub) == TAO_EFORMAT, "%s: not a part of one", type);
	tao_buf_u8(&der, 0);
	ok(custody_import(&h, &s, der.p, der.n, &stub) == TAO_EFORMAT, "%s: nor with more behind", type);
	s.type = strcmp(type, "p256") == 0 ? "p384" : "p256";
	ok(custody_import(&h, &s, der.p, der.n - 1, &stub) == TAO_EINVAL, "%s: nor as another type", type);
	held_key_release(k);
	held_key_release(host);
	held_key_release(imported);
	EVP_PKEY_free(pub);
	EVP_PKEY_free(private);
	tao_buf_free(&der);
	tao_buf_free(&stub);
}

static void refuse_import(EVP_PKEY *key, const char *what)
{
	struct key_spec s = { .name = "i", .uid = UID, .exe = exe };
	struct tao_buf der = TAO_BUF_INIT, stub = TAO_BUF_INIT;
	enum tao_err e = key_pkcs8_write(key, &der);

	ok(e == TAO_OK && custody_import(&h, &s, der.p, der.n, &stub) == TAO_EFORMAT && stub.n == 0,
	   "not imported: %s", what);
	tao_buf_free(&der);
	tao_buf_free(&stub);
	EVP_PKEY_free(key);
}

/* A PKCS#8 with one byte of its numbers changed, wherever that is. */
static void check_damaged(const char *type, size_t step)
{
	struct held_key *k = new_key(type, "any");
	struct key_spec s = { .name = "i", .uid = UID, .exe = exe };
	struct tao_buf der = TAO_BUF_INIT, stub = TAO_BUF_INIT, spki = TAO_BUF_INIT;
	EVP_PKEY *key = NULL, *pub = public_of(k);
	size_t same = 0, taken = 0;

	held_key_use(&h, k, &key);
	key_pkcs8_write(key, &der);
	held_key_done(k);
	tao_key_spki(pub, &spki);
	for (size_t i = der.n - 1; i > 30; i -= step < i ? step : i) {
		struct tao_stub st;

		der.p[i] ^= 1;
		tao_buf_reset(&stub);
		if (custody_import(&h, &s, der.p, der.n, &stub) == TAO_OK) {
			taken++;
			tao_stub_parse(stub.p, stub.n, &st);
			same += st.spki_n == spki.n && memcmp(st.spki, spki.p, spki.n) == 0;
		}
		der.p[i] ^= 1;
	}
	/* Bits that are no part of the key's numbers may change. */
	ok(taken == same && taken < 10, "%s: no damaged key is imported", type);
	held_key_release(k);
	EVP_PKEY_free(pub);
	tao_buf_free(&der);
	tao_buf_free(&stub);
	tao_buf_free(&spki);
}

static EVP_PKEY *huge_exponent(void)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	BIGNUM *e = BN_new();
	EVP_PKEY *key = NULL;

	BN_set_bit(e, 65);
	BN_add_word(e, 1);
	EVP_PKEY_keygen_init(c);
	EVP_PKEY_CTX_set_rsa_keygen_bits(c, 2048);
	EVP_PKEY_CTX_set1_rsa_keygen_pubexp(c, e);
	EVP_PKEY_generate(c, &key);
	EVP_PKEY_CTX_free(c);
	BN_free(e);
	return key;
}

static void check_imports(void)
{
	refuse_import(EVP_RSA_gen(1024), "RSA of 1024 bits");
	refuse_import(EVP_RSA_gen(2056), "RSA of 2056 bits");
	refuse_import(huge_exponent(), "RSA with a huge exponent");
	refuse_import(EVP_EC_gen("secp256k1"), "another curve");
	refuse_import(EVP_PKEY_Q_keygen(NULL, NULL, "X448"), "X448");
	check_damaged("rsa2048", 97);
	check_damaged("p256", 1);
}

/* ---- idle keys, generations ---- */

/* What the scan looks for: the scalar or seed, as it is sealed. */
static void note_secret(EVP_PKEY *key, uint8_t not_it[LEN])
{
	uint8_t bytes[LEN];
	BIGNUM *bn = NULL;

	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &bn) == 1)
		BN_bn2binpad(bn, bytes, LEN);
	else
		EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PRIV_KEY, bytes, LEN, NULL);
	complement(not_it, bytes);
	OPENSSL_cleanse(bytes, sizeof bytes);
	BN_clear_free(bn);
}

/* Not RSA: where it was made, libcrypto itself leaves a copy in memory that it freed (EVP_PKEY2PKCS8()). */
static void check_memory(const char *type, const uint8_t not_it[LEN])
{
#ifdef SANITIZED
	(void)type;
	(void)not_it;
	(void)in_memory;
	skip("no copy of a private half stays", "the sanitizer's own memory is too large to scan");
#else
	if (strncmp(type, "rsa", 3) != 0)
		ok(in_memory(not_it) == 0, "%s: and no copy of it is left", type);
#endif
}

static void check_idle(const char *type)
{
	uint8_t not_it[LEN];
	struct held_key *k = new_key(type, "any"), *again = NULL;
	struct sign_how how = { .digest = NULL };
	struct tao_buf sig = TAO_BUF_INIT;
	int64_t now = loop_now();
	EVP_PKEY *key;

	custody_sign(&h, k, &how, text, sizeof text, &sig);
	custody_sweep(h.custody, now);
	ok(k->key != NULL, "%s: a key that was just used is open", type);
	ok_err(held_key_use(&h, k, &key), TAO_OK, "%s: somebody uses it", type);
	custody_sweep(h.custody, now + 2 * KEY_IDLE_SECONDS);
	ok(k->key == key, "%s: for long", type);
	note_secret(key, not_it);
	held_key_done(k);
	custody_sweep(h.custody, loop_now() + KEY_IDLE_SECONDS);
	ok(k->key == NULL && k->ctx[0] == NULL, "%s: idle, its private half is gone", type);
	check_memory(type, not_it);
	ok(custody_find(&h, held_key_id(k), TAO_HASH_LEN, &again) == TAO_OK && again == k,
	   "%s: its id is not", type);
	tao_buf_reset(&sig);
	ok(custody_sign(&h, k, &how, text, sizeof text, &sig) == TAO_OK &&
	   verifies(k, k->type->digest, NULL, NO_PSS, &sig), "%s: and it signs as before", type);
	held_key_release(k);
	held_key_release(again);
	tao_buf_free(&sig);
}

static void check_generations(void)
{
	struct held_key *first = new_key("p384", "tls"), *second, *found = NULL, *other;
	struct tao_buf stub = TAO_BUF_INIT, sig = TAO_BUF_INIT, one = TAO_BUF_INIT;
	struct sign_how how = { .digest = "SHA384" };
	struct key_facts a, b;
	uint32_t below;

	tao_buf_put(&one, first->stub.p, first->stub.n);
	ok_err(custody_next(&h, first, &stub), TAO_OK, "the next generation");
	second = open_stub(&stub);
	held_key_facts(first, &a);
	held_key_facts(second, &b);
	ok(b.generation == 2 && memcmp(a.key_id, b.key_id, SEALEDKEY_ID_LEN) == 0, "number 2 of the key");
	ok(strcmp(b.type, "p384") == 0 && strcmp(b.purpose, "tls") == 0 && b.uid == UID &&
	   memcmp(b.exe, exe, sizeof exe) == 0, "for the same");
	ok(memcmp(a.spki_hash, b.spki_hash, TAO_HASH_LEN) != 0, "with another public key");
	other = new_key("p384", "tls");
	ok_err(keystore_retired(&h, a.key_id, &below), TAO_OK, "nothing was deleted");
	ok(below == 0, "of this key");
	ok_err(keystore_retire(&h, a.key_id, 2), TAO_OK, "the first is deleted");
	custody_forget(&h, a.key_id, 2);
	ok_err(sign_digest(first, &how, "SHA384", &sig), TAO_ENOTFOUND, "and no longer signs");
	ok_err(custody_find(&h, held_key_id(first), TAO_HASH_LEN, &found), TAO_EUNKNOWNKEY,
	       "nor is it at hand");
	ok_err(custody_open(&h, one.p, one.n, &found), TAO_ENOTFOUND, "nor does its stub open");
	ok_err(sign_digest(second, &how, "SHA384", &sig), TAO_OK, "the second does sign");
	ok_err(sign_digest(other, &how, "SHA384", &sig), TAO_OK, "as other keys do");
	ok_err(keystore_retire(&h, a.key_id, 1), TAO_OK, "nothing comes back");
	ok(keystore_retired(&h, a.key_id, &below) == TAO_OK && below == 2, "by deleting less");
	held_key_release(first);
	held_key_release(second);
	held_key_release(other);
	tao_buf_free(&stub);
	tao_buf_free(&sig);
	tao_buf_free(&one);
}

static void check_deleted_file(void)
{
	static const char *const texts[] = { "", "tao deleted key 1\n", "tao deleted key 2\nbelow 1\n",
	                                     "tao deleted key 1\nbelow 0\n", "tao deleted key 1\nbelow 1",
	                                     "tao deleted key 1\nbelow -1\n",
	                                     "tao deleted key 1\nbelow 1\n\n",
	                                     "tao deleted key 1\nbelow 99999999999\n" };
	struct held_key *k = new_key("p256", "any"), *out = NULL;
	struct tao_buf path = TAO_BUF_INIT;

	tao_buf_fmt(&path, "%s/keys/deleted/", h.conf.dir);
	tao_buf_hex(&path, k->sealed->key_id.data, SEALEDKEY_ID_LEN);
	custody_forget(&h, k->sealed->key_id.data, 2);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		tao_file_write(tao_buf_cstr(&path), texts[i], strlen(texts[i]), 0644, 0);
		ok_err(custody_open(&h, k->stub.p, k->stub.n, &out), TAO_EFORMAT,
		       "damaged list of deletions %zu: the key stays shut", i);
	}
	tao_file_remove(tao_buf_cstr(&path));
	ok_err(custody_open(&h, k->stub.p, k->stub.n, &out), TAO_OK, "without it, it opens");
	held_key_release(k);
	held_key_release(out);
	tao_buf_free(&path);
}

/* ---- what was sealed for another public key ---- */

static void check_mismatch(const char *type)
{
	struct held_key *a = new_key(type, "any"), *b = new_key(type, "any"), *out = NULL;
	Tao__SealedKey k = *a->sealed;
	struct tao_buf bytes = TAO_BUF_INIT, stub = TAO_BUF_INIT;
	struct tao_stub st = { .name = "k", .name_n = 1, .spki = b->spki.p, .spki_n = b->spki.n };
	EVP_PKEY *key;

	held_key_use(&h, a, &key);
	key_type_write(a->type, key, &bytes);
	held_key_done(a);
	k.private_key.data = bytes.p;
	k.private_key.len = bytes.n;
	sealedkey_seal(&h.sealer, &k, &st, &stub);
	ok_err(custody_open(&h, stub.p, stub.n, &out), TAO_EALTERED, "%s: another's public key", type);
	tao_buf_reset(&stub);
	st.spki = a->spki.p;
	st.spki_n = a->spki.n;
	sealedkey_seal(&h.sealer, &k, &st, &stub);
	ok_err(custody_open(&h, stub.p, stub.n, &out), TAO_OK, "%s: its own", type);
	held_key_release(out);
	out = NULL;
	k.private_key.len--;
	tao_buf_reset(&stub);
	sealedkey_seal(&h.sealer, &k, &st, &stub);
	ok_err(custody_open(&h, stub.p, stub.n, &out), TAO_EALTERED, "%s: a byte less", type);
	held_key_release(a);
	held_key_release(b);
	tao_buf_free(&bytes);
	tao_buf_free(&stub);
}

/* ---- ML-DSA ---- */

/* With libcrypto, from 3.5 on: data is mu. */
static int verifies_mu(const struct held_key *k, const uint8_t *mu, const struct tao_buf *sig)
{
	int yes = 1;
	OSSL_PARAM params[] = { OSSL_PARAM_construct_int("mu", &yes), OSSL_PARAM_construct_end() };
	EVP_PKEY *pub = public_of(k);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int good = EVP_DigestVerifyInit_ex(c, NULL, NULL, NULL, NULL, pub, params) == 1 &&
	           EVP_DigestVerify(c, sig->p, sig->n, mu, KEY_MU_LEN) == 1;

	EVP_MD_CTX_free(c);
	EVP_PKEY_free(pub);
	return good;
}

static void check_mu(const char *type)
{
	static const struct {
		const char *purpose;
		struct sign_how how;
		size_t n;
		enum tao_err want;
	} cases[] = {
		{ "any", { .digest = "MU" }, 64, TAO_OK },
		{ "sign", { .digest = "MU" }, 64, TAO_OK },
		{ "tls", { .digest = "MU" }, 64, TAO_OK },
		{ "tls13", { .digest = "MU" }, 64, TAO_EPURPOSE },
		{ "any", { .digest = "MU" }, 63, TAO_EINVAL },
		{ "any", { .digest = "MU" }, 65, TAO_EINVAL },
		{ "any", { .digest = "MU" }, 0, TAO_EINVAL },
		{ "any", { .digest = "MU", .message = 1 }, 64, TAO_EPURPOSE },
		{ "any", { .digest = "MU", .padding = "pss" }, 64, TAO_EINVAL },
		{ "any", { .digest = "SHA512" }, 64, TAO_EPURPOSE },
		{ "any", { .digest = "mu" }, 64, TAO_EPURPOSE },
	};
	uint8_t mu[65];
	struct tao_buf sig = TAO_BUF_INIT;

	memset(mu, 0x5a, sizeof mu);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct held_key *k = shared_key(type, cases[i].purpose);

		tao_buf_reset(&sig);
		ok_err(custody_sign(&h, k, &cases[i].how, mu, cases[i].n, &sig), cases[i].want,
		       "%s: mu, case %zu", type, i);
		ok(cases[i].want != TAO_OK ? sig.n == 0 : verifies_mu(k, mu, &sig), "%s",
		   cases[i].want == TAO_OK ? "verifies" : "no signature");
		held_key_release(k);
	}
	tao_buf_free(&sig);
}

static void check_mldsa(void)
{
	static const char *const types[] = { "ml-dsa-44", "ml-dsa-65", "ml-dsa-87" };
	struct key_spec s = { .name = "k", .uid = UID, .exe = exe };
	struct tao_buf stub = TAO_BUF_INIT;

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		s.type = types[i];
		if (OpenSSL_version_num() < 0x30500000L) {
			ok_err(custody_generate(&h, &s, &stub), TAO_EINVAL, "%s: not with this libcrypto",
			       types[i]);
			ok(strstr(tao_why(), "OpenSSL 3.5") != NULL && stub.n == 0, "and says so");
			continue;
		}
		check_custody(types[i]);
		check_mismatch(types[i]);
		check_own_digest(types[i], NULL, NO_PSS);
		check_mu(types[i]);
		check_idle(types[i]);
	}
	tao_buf_free(&stub);
}

static void check_big(void)
{
	static const char *const slow[] = { "rsa-pss-3072", "rsa-pss-4096" };

	check_own_digest("rsa3072", "SHA256", NO_PSS);
	check_own_digest("rsa4096", "SHA256", NO_PSS);
	for (size_t i = 0; i < 2; i++) {
		if (getenv("TAO_TEST_ALL") != NULL)
			check_own_digest(slow[i], "SHA256", -1);
		else
			printf("# %s takes long: runtests --all\n", slow[i]);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

int main(void)
{
	static const char *const types[] = { "p256", "p384", "p521", "rsa2048", "rsa-pss-2048",
	                                     "ed25519", "x25519" };
	char dir[] = "/tmp/t_keytypes.XXXXXX";

	if (mkdtemp(dir) == NULL)
		return 1;
	make_host(dir);
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		check_custody(types[i]);
		check_mismatch(types[i]);
	}
	check_signatures("p256");
	check_signatures("p384");
	check_signatures("p521");
	check_signatures("rsa2048");
	check_own_digest("p256", "SHA256", NO_PSS);
	check_own_digest("p384", "SHA384", NO_PSS);
	check_own_digest("p521", "SHA512", NO_PSS);
	check_own_digest("rsa2048", "SHA256", NO_PSS);
	check_own_digest("rsa-pss-2048", "SHA256", -1);
	check_own_digest("ed25519", NULL, NO_PSS);
	check_big();
	check_mldsa();
	check_restricted();
	check_sign_refusals();
	check_tls13();
	check_statements();
	check_decryption("rsa2048");
	check_decryption("rsa3072");
	check_decrypt_refusals();
	check_implicit_rejection();
	check_premaster();
	check_derivation("p256");
	check_derivation("p384");
	check_derivation("p521");
	check_derivation("x25519");
	check_derive_refusals();
	check_imports();
	check_idle("p256");
	check_idle("rsa2048");
	check_idle("ed25519");
	check_generations();
	check_deleted_file();
	custody_free(h.custody);
	domain_free(h.domain);
	tao_sealer_clear(&h.sealer);
	nftw(dir, remove_one, 10, FTW_DEPTH | FTW_PHYS);
	return done();
}
