#include "key.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "keytype.h"
#include "pb.h"

/* What we write. */
#define SCRYPT_LOG_N 16
#define SCRYPT_R 8
#define SCRYPT_P 1
#define SCRYPT_SALT 32
#define KEY_LEN 32
#define MAC_LEN 32
#define MAC_LABEL "tao pbe v1"

/* How much work a file may ask for when it is opened. */
#define LOG_N_MAX 20
#define R_MAX 16
#define P_MAX 4
#define SCRYPT_MEMORY_MAX (1ull << 30)
#define ITERATIONS_MAX 10000000

#define PASS_MAX 65536
#define OLD_SALT 16        /* CloudProxy's: half for each key */
#define NAME_MAX_OLD 16    /* bytes of its names of algorithms */

/* PBEData. Read and written here and not by protobuf-c: CloudProxy's version
 * is an enum, and fields twice or unknown ones are not for a key file. */
enum field {
	F_VERSION = 1, F_CIPHER, F_HMAC, F_ITERATIONS, F_IV, F_CIPHERTEXT, F_SALT,
	F_KDF, F_LOG_N, F_R, F_P, F_COUNT
};

#define WIRE_VARINT 0
#define WIRE_BYTES 2
#define NEEDED (1u << F_VERSION | 1u << F_CIPHER | 1u << F_HMAC | 1u << F_ITERATIONS | \
                1u << F_IV | 1u << F_CIPHERTEXT | 1u << F_SALT)
#define SCRYPT_NEEDED (1u << F_LOG_N | 1u << F_R | 1u << F_P)

static const uint8_t wire[F_COUNT] = {
	[F_VERSION] = WIRE_VARINT, [F_CIPHER] = WIRE_BYTES, [F_HMAC] = WIRE_BYTES,
	[F_ITERATIONS] = WIRE_VARINT, [F_IV] = WIRE_BYTES, [F_CIPHERTEXT] = WIRE_BYTES,
	[F_SALT] = WIRE_BYTES, [F_KDF] = WIRE_BYTES, [F_LOG_N] = WIRE_VARINT,
	[F_R] = WIRE_VARINT, [F_P] = WIRE_VARINT,
};

struct pbe {
	unsigned seen;           /* bit for each field */
	uint64_t num[F_COUNT];
	struct tao_rd bytes[F_COUNT];
};

struct pass {
	const char *p;
	size_t n;
};

static enum tao_err malformed(void)
{
	return tao_fail(TAO_EFORMAT, "not a passphrase-protected key, or damaged: restore it from "
	                             "a copy");
}

static enum tao_err newer(const char *what)
{
	return tao_fail(TAO_EVERSION, "protected in a way that is not known here (%s): a newer Tao "
	                              "wrote it, upgrade this one", what);
}

static void read_fields(struct tao_rd *r, struct pbe *m)
{
	while (r->n > 0 && !r->bad) {
		uint64_t tag = tao_rd_varint(r), f = tag >> 3;

		if (f == 0 || f >= F_COUNT || (tag & 7) != wire[f] || (m->seen >> f & 1) != 0) {
			r->bad = 1;
			return;
		}
		m->seen |= 1u << f;
		m->num[f] = tao_rd_varint(r);
		if (wire[f] == WIRE_BYTES)
			m->bytes[f] = tao_rd_of(tao_rd_bytes(r, m->num[f]), m->num[f]);
	}
}

static int is(const struct pbe *m, enum field f, const char *s)
{
	return m->bytes[f].n == strlen(s) && memcmp(m->bytes[f].p, s, m->bytes[f].n) == 0;
}

static enum tao_err parse(const void *p, size_t n, struct pbe *m)
{
	struct tao_rd r = tao_rd_of(p, n);

	memset(m, 0, sizeof *m);
	read_fields(&r, m);
	/* First, as a newer version may have more fields. */
	if ((m->seen & 1u << F_VERSION) != 0 &&
	    m->num[F_VERSION] > TAO__CRYPTO_VERSION__CRYPTO_VERSION_2)
		return newer("version");
	if (!tao_rd_done(&r) || (m->seen & NEEDED) != NEEDED ||
	    m->num[F_VERSION] != TAO__CRYPTO_VERSION__CRYPTO_VERSION_2)
		return malformed();
	return TAO_OK;
}

static enum tao_err check_pass(const struct pass *pass)
{
	if (pass->n == 0 || pass->n > PASS_MAX)
		return tao_fail(TAO_EINVAL, "a passphrase has 1 to %d bytes", PASS_MAX);
	return TAO_OK;
}

static enum tao_err wrong(void)
{
	return tao_fail(TAO_EPASS, "wrong passphrase, or altered (the two look alike): try the "
	                           "passphrase again, then restore the file from a copy");
}

/* Ours: scrypt */

struct cost {
	uint64_t log_n, r, p;
};

/* key: encryption, then MAC */
static enum tao_err scrypt(const struct pass *pass, const uint8_t *salt, const struct cost *c,
                           uint8_t key[KEY_LEN + MAC_LEN])
{
	uint64_t n = 1ull << c->log_n;
	/* libcrypto counts the blocks beside the table as well. */
	uint64_t memory = 128 * c->r * (n + c->p + 2) + 4096;

	if (EVP_PBE_scrypt(pass->p, pass->n, salt, SCRYPT_SALT, n, c->r, c->p, memory, key,
	                   KEY_LEN + MAC_LEN) != 1)
		return tao_fail_crypto("scrypt failed (it needs %llu MiB of memory)",
		                       (unsigned long long)(memory >> 20));
	return TAO_OK;
}

static enum tao_err scrypt_mac(const struct cost *c, const uint8_t *iv, const uint8_t *salt,
                               const uint8_t *ciphertext, size_t n, const uint8_t *key,
                               uint8_t mac[TAO_MAC_MAX])
{
	struct tao_buf m = TAO_BUF_INIT;
	struct tao_rd part[2];
	enum tao_err e;

	tao_buf_str(&m, MAC_LABEL);
	tao_buf_u32(&m, (uint32_t)c->log_n);
	tao_buf_u32(&m, (uint32_t)c->r);
	tao_buf_u32(&m, (uint32_t)c->p);
	tao_buf_put(&m, iv, TAO_IV_LEN);
	tao_buf_put(&m, salt, SCRYPT_SALT);
	part[0] = tao_rd_of(m.p, m.n);
	part[1] = tao_rd_of(ciphertext, n);
	e = tao_buf_err(&m);
	if (e == TAO_OK)
		e = tao_hmac("SHA256", key, MAC_LEN, part, 2, mac);
	tao_buf_free(&m);
	return e;
}

static void put_num(struct tao_buf *b, enum field f, uint64_t v)
{
	tao_buf_varint(b, (uint64_t)f << 3 | WIRE_VARINT);
	tao_buf_varint(b, v);
}

static void put_bytes(struct tao_buf *b, enum field f, const void *p, size_t n)
{
	tao_buf_varint(b, (uint64_t)f << 3 | WIRE_BYTES);
	tao_buf_varint(b, n);
	tao_buf_put(b, p, n);
}

static void put_all(struct tao_buf *b, const struct cost *c, const uint8_t *iv,
                    const uint8_t *salt, const struct tao_buf *ciphertext)
{
	put_num(b, F_VERSION, TAO__CRYPTO_VERSION__CRYPTO_VERSION_2);
	put_bytes(b, F_CIPHER, "aes256-ctr", strlen("aes256-ctr"));
	put_bytes(b, F_HMAC, "sha256", strlen("sha256"));
	put_num(b, F_ITERATIONS, 1);
	put_bytes(b, F_IV, iv, TAO_IV_LEN);
	put_bytes(b, F_CIPHERTEXT, ciphertext->p, ciphertext->n);
	put_bytes(b, F_SALT, salt, SCRYPT_SALT);
	put_bytes(b, F_KDF, "scrypt", strlen("scrypt"));
	put_num(b, F_LOG_N, c->log_n);
	put_num(b, F_R, c->r);
	put_num(b, F_P, c->p);
}

enum tao_err tao_pbe_seal(const void *pass, size_t pass_n, const void *p, size_t n,
                          struct tao_buf *out)
{
	static const struct cost cost = { SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P };
	struct pass ph = { pass, pass_n };
	struct tao_buf text = TAO_BUF_INIT;
	uint8_t key[KEY_LEN + MAC_LEN], mac[TAO_MAC_MAX], iv[TAO_IV_LEN], salt[SCRYPT_SALT];
	enum tao_err e = check_pass(&ph);

	if (e != TAO_OK)
		return e;
	if (RAND_bytes(iv, sizeof iv) != 1 || RAND_bytes(salt, sizeof salt) != 1)
		return tao_fail_crypto("no random bytes");
	e = scrypt(&ph, salt, &cost, key);
	if (e == TAO_OK)
		e = tao_aes_ctr(key, KEY_LEN, iv, p, n, &text);
	if (e == TAO_OK)
		e = scrypt_mac(&cost, iv, salt, text.p, text.n, key + KEY_LEN, mac);
	if (e != TAO_OK)
		goto out;
	tao_buf_put(&text, mac, MAC_LEN);
	e = tao_buf_err(&text);
	if (e != TAO_OK)
		goto out;
	put_all(out, &cost, iv, salt, &text);
	e = tao_buf_err(out);
out:
	OPENSSL_cleanse(key, sizeof key);
	tao_buf_free(&text);
	return e;
}

static enum tao_err check_cost(const struct cost *c)
{
	if (c->log_n == 0 || c->r == 0 || c->p == 0)
		return malformed();
	if (c->log_n > LOG_N_MAX || c->r > R_MAX || c->p > P_MAX ||
	    128 * c->r << c->log_n > SCRYPT_MEMORY_MAX)
		return tao_fail(TAO_ELIMIT, "opening it would take more work than is allowed "
		                            "(scrypt above N=2^%d, r=8): use the original file",
		                            LOG_N_MAX);
	return TAO_OK;
}

static enum tao_err open_scrypt(const struct pass *pass, const struct pbe *m, struct tao_buf *out)
{
	struct cost c = { m->num[F_LOG_N], m->num[F_R], m->num[F_P] };
	const uint8_t *iv = m->bytes[F_IV].p, *salt = m->bytes[F_SALT].p;
	const uint8_t *text = m->bytes[F_CIPHERTEXT].p;
	size_t n = m->bytes[F_CIPHERTEXT].n;
	uint8_t key[KEY_LEN + MAC_LEN], mac[TAO_MAC_MAX];
	enum tao_err e;

	if (!is(m, F_CIPHER, "aes256-ctr") || !is(m, F_HMAC, "sha256"))
		return newer("algorithms");
	if ((m->seen & SCRYPT_NEEDED) != SCRYPT_NEEDED || m->num[F_ITERATIONS] != 1 ||
	    m->bytes[F_IV].n != TAO_IV_LEN || m->bytes[F_SALT].n != SCRYPT_SALT || n < MAC_LEN)
		return malformed();
	n -= MAC_LEN;
	e = check_cost(&c);
	if (e != TAO_OK)
		return e;
	e = scrypt(pass, salt, &c, key);
	if (e == TAO_OK)
		e = scrypt_mac(&c, iv, salt, text, n, key + KEY_LEN, mac);
	if (e == TAO_OK && CRYPTO_memcmp(mac, text + n, MAC_LEN) != 0)
		e = wrong();
	if (e == TAO_OK)
		e = tao_aes_ctr(key, KEY_LEN, iv, text, n, out);
	OPENSSL_cleanse(key, sizeof key);
	return e;
}

/* CloudProxy's: PBKDF2 */

static const struct tao_crypter_type *suite_of(const struct pbe *m)
{
	char name[2][NAME_MAX_OLD + 1] = { "", "" };

	for (size_t i = 0; i < 2; i++) {
		const struct tao_rd *r = &m->bytes[i == 0 ? F_CIPHER : F_HMAC];

		if (r->n > NAME_MAX_OLD || memchr(r->p, 0, r->n) != NULL)
			return NULL;
		memcpy(name[i], r->p, r->n);
	}
	return tao_crypter_suite(name[0], name[1]);
}

static enum tao_err pbkdf2(const struct pass *pass, const uint8_t *half_salt, uint64_t iterations,
                           const char *md, uint8_t *key, size_t n)
{
	if (PKCS5_PBKDF2_HMAC(pass->p, (int)pass->n, half_salt, OLD_SALT / 2, (int)iterations,
	                      EVP_get_digestbyname(md), (int)n, key) != 1)
		return tao_fail_crypto("PBKDF2 failed");
	return TAO_OK;
}

static enum tao_err decrypt_old(const struct pass *pass, const struct pbe *m,
                                const struct tao_crypter_type *t, struct tao_buf *out)
{
	const uint8_t *salt = m->bytes[F_SALT].p;
	uint64_t work = m->num[F_ITERATIONS];
	struct tao_crypter c = { .type = t };
	enum tao_err e;

	e = pbkdf2(pass, salt, work, t->md, c.aes, t->aes_n);
	if (e == TAO_OK)
		e = pbkdf2(pass, salt + OLD_SALT / 2, work, t->md, c.mac, t->mac_n);
	if (e == TAO_OK)
		e = tao_crypter_decrypt(&c, m->bytes[F_CIPHERTEXT].p, m->bytes[F_CIPHERTEXT].n,
		                        out);
	tao_crypter_clear(&c);
	if (e == TAO_EALTERED)
		return wrong();
	return e == TAO_EFORMAT ? malformed() : e;
}

static enum tao_err open_old(const struct pass *pass, const struct pbe *m, struct tao_buf *out)
{
	const struct tao_crypter_type *t = suite_of(m);

	if (t == NULL)
		return newer("algorithms");
	if (m->bytes[F_SALT].n != OLD_SALT || m->num[F_ITERATIONS] == 0 ||
	    (m->seen & SCRYPT_NEEDED) != 0)
		return malformed();
	if (m->num[F_ITERATIONS] > ITERATIONS_MAX)
		return tao_fail(TAO_ELIMIT, "opening it would take more work than is allowed (%d "
		                            "iterations of PBKDF2): use the original file",
		                ITERATIONS_MAX);
	return decrypt_old(pass, m, t, out);
}

enum tao_err tao_pbe_open(const void *pass, size_t pass_n, const void *p, size_t n,
                          struct tao_buf *out)
{
	struct pass ph = { pass, pass_n };
	struct pbe m;
	enum tao_err e = parse(p, n, &m);

	if (e == TAO_OK)
		e = check_pass(&ph);
	if (e != TAO_OK)
		return e;
	if ((m.seen & 1u << F_KDF) == 0)
		return open_old(&ph, &m, out);
	return is(&m, F_KDF, "scrypt") ? open_scrypt(&ph, &m, out) : newer("key derivation");
}
