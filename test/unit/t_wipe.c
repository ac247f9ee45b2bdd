/* Secrets do not stay behind: after a keyset was made, stored under a
 * passphrase, read again and cleared, no writable memory of this process
 * holds its deriving key or its private scalar (as the file has it), nor the
 * passphrase. What is looked for is kept in complement. */
#include <fcntl.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>

#include "tao/key.h"
#include "tap.h"

#define LEN 32

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static uint8_t deriver[LEN], scalar[LEN], pass[LEN]; /* complements */

static size_t count(const uint8_t *p, size_t n, const uint8_t not_it[LEN])
{
	size_t found = 0;

	/* The second half: malloc overwrites the beginning of what is freed. */
	for (size_t i = 0; i + LEN / 2 <= n; i++) {
		size_t k = 0;

		while (k < LEN / 2 && (p[i + k] ^ not_it[LEN / 2 + k]) == 0xff)
			k++;
		found += k == LEN / 2;
	}
	return found;
}

static size_t in_region(int mem, unsigned long from, unsigned long to, const uint8_t not_it[LEN])
{
	static uint8_t copy[1 << 16]; /* of the region itself when it is in .bss: harmless */
	size_t found = 0;

	for (unsigned long at = from; at < to; at += sizeof copy - LEN) {
		size_t n = to - at < sizeof copy ? to - at : sizeof copy;
		ssize_t got = pread(mem, copy, n, (off_t)at);

		if (got > 0)
			found += count(copy, (size_t)got, not_it);
		memset(copy, 0, sizeof copy);
	}
	return found;
}

static size_t in_memory(const uint8_t not_it[LEN])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	size_t found = 0;
	char line[512], mode[8];
	unsigned long from, to;

	while (maps != NULL && mem >= 0 && fgets(line, sizeof line, maps) != NULL) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[0] == 'r' &&
		    mode[1] == 'w')
			found += in_region(mem, from, to, not_it);
	}
	if (maps != NULL)
		fclose(maps);
	close(mem);
	return found;
}

static void complement(uint8_t out[LEN], const uint8_t *in)
{
	for (size_t i = 0; i < LEN; i++)
		out[i] = (uint8_t)~in[i];
}

static void note_scalar(EVP_PKEY *key)
{
	uint8_t raw[LEN];
	BIGNUM *bn = NULL;

	if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &bn) != 1 ||
	    BN_bn2binpad(bn, raw, LEN) != LEN)
		exit(1);
	complement(scalar, raw);
	OPENSSL_cleanse(raw, sizeof raw);
	BN_clear_free(bn);
}

static void fresh_pass(struct tao_buf *pw)
{
	tao_buf_reset(pw);
	for (size_t i = 0; i < LEN; i++)
		tao_buf_u8(pw, (uint8_t)~pass[i]);
}

static void store_and_read(struct tao_buf *file)
{
	struct tao_buf plain = TAO_BUF_INIT, pw = TAO_BUF_INIT, open = TAO_BUF_INIT;
	struct tao_keyset ks, back;

	if (tao_keyset_generate(&ks) != TAO_OK)
		exit(1);
	complement(deriver, ks.deriver);
	note_scalar(ks.signer);
	fresh_pass(&pw);
	ok(tao_cryptokey_encode(ks.signer, "k", 1, &plain) == TAO_OK && in_memory(scalar) > 0,
	   "encoded");
	tao_buf_free(&plain);
	ok(in_memory(scalar) == 0, "the encoding wiped, no private scalar");
	ok(tao_keyset_encode(&ks, &plain) == TAO_OK &&
	           tao_pbe_seal(pw.p, pw.n, plain.p, plain.n, file) == TAO_OK,
	   "stored");
	ok(tao_pbe_open(pw.p, pw.n, file->p, file->n, &open) == TAO_OK &&
	           tao_keyset_decode(open.p, open.n, &back) == TAO_OK,
	   "read");
	ok(in_memory(deriver) >= 4 && in_memory(scalar) >= 2 && in_memory(pass) >= 1,
	   "while in use the scan finds them");
	tao_keyset_clear(&ks);
	tao_keyset_clear(&back);
	tao_buf_free(&plain);
	tao_buf_free(&open);
	tao_buf_free(&pw);
}

int main(void)
{
	struct tao_buf file = TAO_BUF_INIT;

#ifdef SANITIZED
	skip("secrets are wiped", "the sanitizer's own memory is too large to scan");
	return done();
#endif
	for (size_t i = 0; i < LEN; i++)
		pass[i] = (uint8_t)(i * 7 + 3);
	store_and_read(&file);
	ok(in_memory(deriver) == 0, "afterwards no deriving key");
	ok(in_memory(scalar) == 0, "no private scalar");
	ok(in_memory(pass) == 0, "no passphrase");
	tao_buf_free(&file);
	return done();
}
