/*
 * mkcorpus: writes the first seeds of the fuzz targets that read keys,
 * signatures, formulas or frames. The seeds are kept in fuzz/corpus; run it
 * again when a format changes, or to start a target of its own.
 *
 *   mkcorpus DIR
 *
 * Makes DIR/TARGET/SEED for the targets attest, logic_bin, logic_text, pbe,
 * pem, rpc and stub. Keys are new each time, and nobody's. Times and
 * passphrase are those at which the targets look.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tao/attest.h"
#include "tao/file.h"
#include "tao/key.h"
#include "tao/rpc.h"
#include "tao/stub.h"

#define FROM             1000 /* ns; around the time at which the target looks */
#define UNTIL            2000
#define PASS             "xxx" /* the target's */
#define CHEAP_LOG_N      2
#define CHEAP_ITERATIONS 16

static const char *folder;

static void must(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "mkcorpus: %s: %s\n", what, tao_why());
	exit(1);
}

/* Writes a seed and empties the buffer. */
static void seed(const char *target, const char *name, struct tao_buf *b)
{
	struct tao_buf path = TAO_BUF_INIT;

	must(tao_buf_err(b) == TAO_OK, name);
	tao_buf_fmt(&path, "%s/%s", folder, target);
	must(tao_dir_make(tao_buf_cstr(&path), 0755) == TAO_OK, target);
	tao_buf_fmt(&path, "/%s", name);
	must(tao_file_write(tao_buf_cstr(&path), b->p, b->n, 0644, 0) == TAO_OK, name);
	tao_buf_free(&path);
	tao_buf_free(b);
}

static void seed_text(const char *target, const char *name, const char *text)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_buf_str(&b, text);
	seed(target, name, &b);
}

/* ---- logic: each as text, and in binary ---- */

static void logic(void)
{
	typedef enum tao_err parse_fn(const char *text, size_t len, struct tao_node **out);
	static const struct {
		const char *name, *text;
		parse_fn *parse;
	} cases[] = {
		{ "says", "key([ab01]) from 5 until -7 says Running(\"a \\\"b\\\"\\n\", 42)",
		  tao_form_parse },
		{ "speaksfor",
		  "key([00]).Measured([11], [22], 33) speaksfor tpm2([44]).PCRs(\"17\", \"ff\")",
		  tao_form_parse },
		{ "connectives", "not A() and B(1) or C(\"\") implies D([]) implies true",
		  tao_form_parse },
		{ "nested", "(A() implies (B() or (C() and not (D() or false)))) implies E()",
		  tao_form_parse },
		{ "quantors", "forall X: exists Y: Likes(X, Y) implies X speaksfor Y",
		  tao_form_parse },
		{ "says-says", "key([01]) says key([02]) until 9 says key([03]) from 1 says false",
		  tao_form_parse },
		{ "delegation", "X says ext.A(1).B(\"c\") speaksfor Y", tao_form_parse },
		{ "predicate",
		  "Serves(key([77]).Program([88]).PolicyKey([99]), \"www.example.net\")",
		  tao_form_parse },
		{ "principal",
		  "key([a0b1c2]).DatalogGuard(key([dd])).Process([ee], 1000, \"x.service\")",
		  tao_prin_parse },
		{ "term-int", "-9223372036854775808", tao_term_parse },
		{ "term-string", "\"tab\\t nul\\x00 \\u00e9\"", tao_term_parse },
		{ "term-bytes", "[000102feff]", tao_term_parse },
		{ "term-key", "key(tpm2(ext.A(key(1)).B()).C())", tao_term_parse },
		{ "subprincipal", ".Program([0102]).PolicyKey([03]).X()", tao_subprin_parse },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tao_buf b = TAO_BUF_INIT;
		struct tao_node *n;

		must(cases[i].parse(cases[i].text, strlen(cases[i].text), &n) == TAO_OK,
		     cases[i].name);
		tao_node_encode(n, &b);
		tao_node_free(n);
		seed("logic_bin", cases[i].name, &b);
		seed_text("logic_text", cases[i].name, cases[i].text);
	}
	seed_text("logic_text", "base64", "{AQIDBA==}");
	seed_text("logic_text", "open-string", "A(\"b");
	seed_text("logic_text", "deep", "((((((((((((((((((((A()))))))))))))))))))))");
}

/* ---- attestations and keys ---- */

static struct tao_node *principal(EVP_PKEY *key)
{
	uint8_t hash[TAO_HASH_LEN];
	struct tao_node *n;

	must(tao_key_hash(key, hash) == TAO_OK, "hash");
	n = tao_prin_key(hash);
	must(n != NULL, "principal");
	return n;
}

static void attest(EVP_PKEY *signer, const struct tao_node *issuer, struct tao_node *message,
                   const struct tao_buf *delegation, struct tao_buf *out)
{
	must(tao_attest(signer, issuer, FROM, UNTIL, message,
	                delegation != NULL ? delegation->p : NULL,
	                delegation != NULL ? delegation->n : 0, out) == TAO_OK,
	     "attestation");
	tao_node_free(message);
}

static void attestations(EVP_PKEY *root, EVP_PKEY *key)
{
	struct tao_buf plain = TAO_BUF_INIT, chain = TAO_BUF_INIT, delegation = TAO_BUF_INIT;
	struct tao_node *issuer = principal(root), *program;

	program = tao_prin_extend(issuer, tao_ext("Program", 1, tao_term_bytes("hash", 4)));
	must(program != NULL, "program");
	attest(root, issuer, tao_pred("Running", 1, tao_term_str("a fuzzer")), NULL, &plain);
	attest(root, issuer, tao_speaksfor(principal(key), tao_node_dup(issuer)), NULL,
	       &delegation);
	attest(key, program, tao_pred("Ready", 0), &delegation, &chain);
	seed("attest", "plain", &plain);
	seed("attest", "delegation", &delegation);
	seed("attest", "chain", &chain);
	tao_node_free(program);
	tao_node_free(issuer);
}

static void keys(EVP_PKEY *key)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_keyset ks;

	must(tao_key_spki(key, &b) == TAO_OK, "spki");
	seed("attest", "spki", &b);
	must(tao_cryptokey_encode(key, "a key", 1, &b) == TAO_OK, "signing key");
	seed("attest", "cryptokey-private", &b);
	must(tao_cryptokey_encode(key, "a key", 0, &b) == TAO_OK, "verifying key");
	seed("attest", "cryptokey-public", &b);
	must(tao_key_sign(key, "c", "data", 4, &b) == TAO_OK, "signature");
	seed("attest", "signed-data", &b);
	must(tao_keyset_generate(&ks) == TAO_OK && tao_keyset_encode(&ks, &b) == TAO_OK, "keyset");
	seed("attest", "keyset", &b);
	tao_keyset_clear(&ks);
}

/* ---- protected data: as key.h says, with little work ---- */

static void number(struct tao_buf *b, unsigned field, uint64_t v)
{
	tao_buf_varint(b, field << 3);
	tao_buf_varint(b, v);
}

static void bytes(struct tao_buf *b, unsigned field, const void *p, size_t n)
{
	tao_buf_varint(b, field << 3 | 2);
	tao_buf_varint(b, n);
	tao_buf_put(b, p, n);
}

static void string(struct tao_buf *b, unsigned field, const char *s)
{
	bytes(b, field, s, strlen(s));
}

/* AES-CTR, then the MAC of what is in front of the ciphertext, and of that. */
static void encrypt(const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *mac_key,
                    const uint8_t iv[16], const struct tao_buf *front, uint8_t text[5],
                    uint8_t mac[32])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	struct tao_buf input = TAO_BUF_INIT;
	int n;

	must(ctx != NULL && EVP_EncryptInit_ex2(ctx, cipher, key, iv, NULL) == 1 &&
	         EVP_EncryptUpdate(ctx, text, &n, (const uint8_t *)"plain", 5) == 1,
	     "cipher");
	EVP_CIPHER_CTX_free(ctx);
	tao_buf_put(&input, front->p, front->n);
	tao_buf_put(&input, text, 5);
	must(HMAC(EVP_sha256(), mac_key, 32, input.p, input.n, mac, NULL) != NULL, "MAC");
	tao_buf_free(&input);
}

static void pbe_scrypt(void)
{
	static const uint8_t iv[16] = "fifteen byte iv", salt[32] = "thirty-two bytes of salt";
	struct tao_buf front = TAO_BUF_INIT, b = TAO_BUF_INIT;
	uint8_t key[64], text[5 + 32];

	must(EVP_PBE_scrypt(PASS, strlen(PASS), salt, sizeof salt, 1 << CHEAP_LOG_N, 1, 1, 0, key,
	                    sizeof key) == 1,
	     "scrypt");
	tao_buf_str(&front, "tao pbe v1");
	tao_buf_u32(&front, CHEAP_LOG_N);
	tao_buf_u32(&front, 1);
	tao_buf_u32(&front, 1);
	tao_buf_put(&front, iv, sizeof iv);
	tao_buf_put(&front, salt, sizeof salt);
	encrypt(EVP_aes_256_ctr(), key, key + 32, iv, &front, text, text + 5);
	number(&b, 1, 2);
	string(&b, 2, "aes256-ctr");
	string(&b, 3, "sha256");
	number(&b, 4, 1);
	bytes(&b, 5, iv, sizeof iv);
	bytes(&b, 6, text, sizeof text);
	bytes(&b, 7, salt, sizeof salt);
	string(&b, 8, "scrypt");
	number(&b, 9, CHEAP_LOG_N);
	number(&b, 10, 1);
	number(&b, 11, 1);
	tao_buf_free(&front);
	seed("pbe", "scrypt", &b);
}

/* The EncryptedData of a CloudProxy file. */
static void old_ciphertext(const uint8_t salt[16], struct tao_buf *out)
{
	static const uint8_t iv[16] = "another sixteen";
	struct tao_buf front = TAO_BUF_INIT, head = TAO_BUF_INIT;
	uint8_t key[16], mac_key[32], text[5], mac[32];

	must(PKCS5_PBKDF2_HMAC(PASS, (int)strlen(PASS), salt, 8, CHEAP_ITERATIONS, EVP_sha256(),
	                       sizeof key, key) == 1 &&
	         PKCS5_PBKDF2_HMAC(PASS, (int)strlen(PASS), salt + 8, 8, CHEAP_ITERATIONS,
	                           EVP_sha256(), sizeof mac_key, mac_key) == 1,
	     "PBKDF2");
	tao_buf_put(&front, iv, sizeof iv);
	encrypt(EVP_aes_128_ctr(), key, mac_key, iv, &front, text, mac);
	number(&head, 1, 2);
	string(&head, 4, "aes128-ctr-hmacsha256");
	string(&head, 5, "crypting");
	string(&head, 6, "active");
	bytes(out, 1, head.p, head.n);
	bytes(out, 2, iv, sizeof iv);
	bytes(out, 3, text, sizeof text);
	bytes(out, 4, mac, sizeof mac);
	tao_buf_free(&front);
	tao_buf_free(&head);
}

static void pbe_old(void)
{
	static const uint8_t salt[16] = "sixteen of salt";
	struct tao_buf text = TAO_BUF_INIT, b = TAO_BUF_INIT;

	old_ciphertext(salt, &text);
	number(&b, 1, 2);
	string(&b, 2, "aes128-ctr");
	string(&b, 3, "sha256");
	number(&b, 4, CHEAP_ITERATIONS);
	bytes(&b, 5, "", 0);
	bytes(&b, 6, text.p, text.n);
	bytes(&b, 7, salt, sizeof salt);
	tao_buf_free(&text);
	seed("pbe", "cloudproxy", &b);
}

/* ---- stubs ---- */

static void stubs(EVP_PKEY *key)
{
	struct tao_buf spki = TAO_BUF_INIT, der = TAO_BUF_INIT, text = TAO_BUF_INIT;
	struct tao_stub s = { "web", 3, NULL, 0, NULL, 0 };

	must(tao_key_spki(key, &spki) == TAO_OK, "spki");
	s.spki = spki.p;
	s.spki_n = spki.n;
	tao_stub_encode(&s, &der);
	must(tao_stub_to_pem(der.p, der.n, &text) == TAO_OK, "stub");
	seed("stub", "bare", &der);
	seed("pem", "bare", &text);
	s.sealed = (const uint8_t *)"TaoS\1\1 not a sealed key, but of any bytes";
	s.sealed_n = 42;
	tao_stub_encode(&s, &der);
	tao_buf_str(&text,
	            "a line\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	must(tao_stub_to_pem(der.p, der.n, &text) == TAO_OK, "stub");
	tao_buf_str(&text, "behind\n");
	seed("stub", "sealed", &der);
	seed("pem", "second-block", &text);
	tao_buf_free(&spki);
	seed_text("pem", "begin-only", "-----BEGIN TAO PRIVATE KEY-----\n");
	seed_text("pem", "empty",
	          "-----BEGIN TAO PRIVATE KEY-----\n-----END TAO PRIVATE KEY-----\n");
	seed_text("pem", "not-base64",
	          "-----BEGIN TAO PRIVATE KEY-----\n#!\n-----END TAO PRIVATE KEY-----\n");
}

/* ---- frames ---- */

static void frames(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_rpc_put_request(&b, "Tao.Hello", 0, NULL, 0);
	seed("rpc", "request", &b);
	tao_rpc_put_request(&b, "Tao.Sign", UINT64_MAX, "a body", 6);
	tao_rpc_put_request(&b, "Tao.Sign", 1, "and another", 11);
	seed("rpc", "two-requests", &b);
	tao_rpc_put_reply(&b, "Tao.Sign", 300, "a body", 6);
	seed("rpc", "reply", &b);
	tao_rpc_put_error(&b, "Tao.Sign", 7, TAO_EDENIED, "policy says no");
	seed("rpc", "error", &b);
	tao_rpc_put_reply(&b, "Tao.Sign", 300, "a body that is cut", 18);
	b.n -= 3;
	seed("rpc", "cut", &b);
	tao_buf_u32(&b, 7);
	tao_buf_put(&b, "\x0a\x01x\x10\x01\x20\x09", 7);
	tao_buf_u32(&b, 0);
	seed("rpc", "code-only", &b);
	tao_buf_u32(&b, 9);
	tao_buf_put(&b, "\x0a\x01x\x10\x01\x7a\x02yz", 9);
	tao_buf_u32(&b, 0);
	seed("rpc", "unknown-field", &b);
	tao_buf_u32(&b, TAO_RPC_MAX_HEADER + 1);
	seed("rpc", "long-header", &b);
}

int main(int argc, char **argv)
{
	EVP_PKEY *root = NULL, *key = NULL;

	if (argc != 2) {
		fprintf(stderr, "usage: mkcorpus DIR\n");
		return 2;
	}
	folder = argv[1];
	must(tao_key_generate("ecdsap256", &root) == TAO_OK &&
	         tao_key_generate("ecdsap256", &key) == TAO_OK,
	     "keys");
	logic();
	attestations(root, key);
	keys(key);
	pbe_scrypt();
	pbe_old();
	stubs(key);
	frames();
	EVP_PKEY_free(root);
	EVP_PKEY_free(key);
	return 0;
}
