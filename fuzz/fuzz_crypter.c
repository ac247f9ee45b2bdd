/* Encrypted and protected data under fixed keys: the input as it is, and again
 * with a MAC that fits, which nobody would guess. */
#include <stdlib.h>
#include <string.h>

#include "tao.pb-c.h"
#include "tao/crypter.h"
#include "tao/pb.h"

#define KEY_MAX (TAO_AES_MAX + TAO_MAC_MAX)
#define MEMORY (1u << 20)

static const uint8_t key[KEY_MAX] = "a key that everyone knows";
static const size_t key_lens[] = { 48, 64, 96 };
static const char *const types[] = {
	"aes128-ctr-hmacsha256", "aes256-ctr-hmacsha384", "aes256-ctr-hmacsha512",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fixed(struct tao_crypter *c, size_t i)
{
	memset(c, 0, sizeof *c);
	c->type = tao_crypter_type(types[i]);
	memcpy(c->aes, key, c->type->aes_n);
	memcpy(c->mac, key + c->type->aes_n, c->type->mac_n);
}

/* What decrypts comes from a box that was whole, and encrypts again. */
static void decrypt(const struct tao_crypter *c, const uint8_t *p, size_t n)
{
	struct tao_buf out = TAO_BUF_INIT, box = TAO_BUF_INIT, again = TAO_BUF_INIT;

	if (tao_crypter_decrypt(c, p, n, &out) != TAO_OK) {
		if (out.n != 0)
			abort();
	} else if (tao_crypter_encrypt(c, "k", out.p, out.n, &box) != TAO_OK ||
	           tao_crypter_decrypt(c, box.p, box.n, &again) != TAO_OK || again.n != out.n ||
	           (out.n > 0 && memcmp(again.p, out.p, out.n) != 0)) {
		abort();
	}
	tao_buf_free(&out);
	tao_buf_free(&box);
	tao_buf_free(&again);
}

static void with_mac(const struct tao_crypter *c, const uint8_t *data, size_t size)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *m = NULL;
	Tao__EncryptedData *d;
	struct tao_rd part[2];
	uint8_t mac[TAO_MAC_MAX], *own;
	struct tao_buf box = TAO_BUF_INIT;
	size_t own_n;

	tao_pb_alloc_init(&pa, MEMORY);
	if (tao_pb_unpack(&pa, &tao__encrypted_data__descriptor, data, size, "box", &m) != TAO_OK)
		return;
	d = (Tao__EncryptedData *)m;
	part[0] = tao_rd_of(d->iv.data, d->iv.len);
	part[1] = tao_rd_of(d->ciphertext.data, d->ciphertext.len);
	own = d->mac.data;
	own_n = d->mac.len;
	if (d->has_mac &&
	    tao_hmac(c->type->md, c->mac, c->type->mac_n, part, 2, mac) == TAO_OK) {
		d->mac = (ProtobufCBinaryData){ c->type->mac_n, mac };
		tao_pb_pack(m, &box);
		decrypt(c, box.p, box.n);
		d->mac = (ProtobufCBinaryData){ own_n, own };
	}
	tao_buf_free(&box);
	tao_pb_free(&pa, m);
}

static void unprotect(size_t key_n, const uint8_t *data, size_t size)
{
	struct tao_buf out = TAO_BUF_INIT, box = TAO_BUF_INIT, back = TAO_BUF_INIT;

	if (tao_key_unprotect(key, key_n, data, size, &out) != TAO_OK && out.n != 0)
		abort();
	if (tao_key_protect(key, key_n, data, size, &box) == TAO_OK &&
	    (tao_key_unprotect(key, key_n, box.p, box.n, &back) != TAO_OK || back.n != size ||
	     (size > 0 && memcmp(back.p, data, size) != 0)))
		abort();
	tao_buf_free(&out);
	tao_buf_free(&box);
	tao_buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		struct tao_crypter c;

		fixed(&c, i);
		decrypt(&c, data, size);
		with_mac(&c, data, size);
		unprotect(key_lens[i], data, size);
	}
	return 0;
}
