/* tao/crypter.h: crypters, protect and unprotect, derivers, their stored keys.
 * Many a case stands for one of CloudProxy's faults: short input, purposes and
 * types unchecked, decrypting before the MAC was compared, secrets kept. */
#include "tao/crypter.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tao/file.h"
#include "tao/pb.h"
#include "tao.pb-c.h"
#include "tap.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#define TYPES 3

static const struct kind {
	const char *type;
	const EVP_CIPHER *(*cipher)(void);
	const EVP_MD *(*md)(void);
	size_t aes_n, mac_n, protect_mac_n;
} kinds[TYPES] = {
	{ "aes128-ctr-hmacsha256", EVP_aes_128_ctr, EVP_sha256, 16, 32, 32 },
	{ "aes256-ctr-hmacsha384", EVP_aes_256_ctr, EVP_sha384, 32, 48, 32 },
	{ "aes256-ctr-hmacsha512", EVP_aes_256_ctr, EVP_sha512, 32, 64, 64 },
};

static int vector(const char *name, struct tao_buf *out)
{
	const char *dir = getenv("TAO_VECTORS");
	char path[512];

	snprintf(path, sizeof path, "%s/cloudproxy/%s", dir != NULL ? dir : "", name);
	return tao_file_read(path, 1 << 20, out) == TAO_OK;
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, const struct tao_buf *b)
{
	return protobuf_c_message_unpack(d, NULL, b->n, b->p);
}

static int is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= b[i];
	return any == 0;
}

/* Round trips */

static void round_trip(const struct tao_crypter *c, size_t n)
{
	static uint8_t text[5000];
	struct tao_buf box = TAO_BUF_INIT, again = TAO_BUF_INIT, out = TAO_BUF_INIT;

	for (size_t i = 0; i < n; i++)
		text[i] = (uint8_t)(i * 31);
	ok(tao_crypter_encrypt(c, "k", text, n, &box) == TAO_OK &&
	           tao_crypter_encrypt(c, "k", text, n, &again) == TAO_OK,
	   "%s: %zu bytes", c->type->name, n);
	ok(box.n == again.n && memcmp(box.p, again.p, box.n) != 0, "never the same");
	ok(n < 16 || memmem(box.p, box.n, text, n) == NULL, "nor plain");
	tao_buf_str(&out, "kept");
	ok(tao_crypter_decrypt(c, box.p, box.n, &out) == TAO_OK && out.n == n + 4 &&
	           memcmp(out.p, "kept", 4) == 0 && (n == 0 || memcmp(out.p + 4, text, n) == 0),
	   "and back, behind what was there");
	tao_buf_free(&box);
	tao_buf_free(&again);
	tao_buf_free(&out);
}

static void round_trips(void)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 4096, 5000 };
	struct tao_crypter c;

	for (size_t i = 0; i < TYPES; i++) {
		ok_err(tao_crypter_generate(kinds[i].type, &c), TAO_OK, "%s: generated",
		       kinds[i].type);
		for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
			round_trip(&c, sizes[k]);
		tao_crypter_clear(&c);
		ok(is_zero(&c, sizeof c), "%s: cleared", kinds[i].type);
	}
	ok_err(tao_crypter_generate("aes128-ctr", &c), TAO_EINVAL, "no such type: aes128-ctr");
	ok(is_zero(&c, sizeof c), "no key comes back");
	ok_err(tao_crypter_generate("ecdsap256", &c), TAO_EINVAL, "no such type: ecdsap256");
}

/* As documented: made with libcrypto alone. */

static void boxed(const struct kind *k, const uint8_t *aes, const uint8_t *mac, size_t mac_n,
                  const char *text, uint8_t iv[16], struct tao_buf *ciphertext, uint8_t tag[64])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	struct tao_buf m = TAO_BUF_INIT;
	int len;

	memset(iv, 0xa5, 16);
	EVP_EncryptInit_ex(ctx, k->cipher(), NULL, aes, iv);
	EVP_EncryptUpdate(ctx, tao_buf_room(ciphertext, strlen(text)), &len, (const uint8_t *)text,
	                  (int)strlen(text));
	EVP_CIPHER_CTX_free(ctx);
	tao_buf_put(&m, iv, 16);
	tao_buf_put(&m, ciphertext->p, ciphertext->n);
	HMAC(k->md(), mac, (int)mac_n, m.p, m.n, tag, NULL);
	tao_buf_free(&m);
}

static void documented_box(const struct kind *k)
{
	Tao__CryptoHeader h = TAO__CRYPTO_HEADER__INIT;
	Tao__EncryptedData d = TAO__ENCRYPTED_DATA__INIT;
	struct tao_buf text = TAO_BUF_INIT, box = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct tao_crypter c;
	uint8_t iv[16], tag[64];

	tao_crypter_generate(k->type, &c);
	boxed(k, c.aes, c.mac, k->mac_n, "hello", iv, &text, tag);
	h.version = TAO__CRYPTO_VERSION__CRYPTO_VERSION_2;
	h.key_type = (char *)k->type;
	h.key_purpose = (char *)"crypting";
	h.key_status = (char *)"active";
	d.header = &h;
	d.has_iv = d.has_ciphertext = d.has_mac = 1;
	d.iv = (ProtobufCBinaryData){ 16, iv };
	d.ciphertext = (ProtobufCBinaryData){ text.n, text.p };
	d.mac = (ProtobufCBinaryData){ k->mac_n, tag };
	tao_pb_pack(&d.base, &box);
	ok_err(tao_crypter_decrypt(&c, box.p, box.n, &out), TAO_OK, "%s: as documented", k->type);
	ok_str(tao_buf_cstr(&out), "hello", "%s: its text", k->type);
	tao_buf_free(&text);
	tao_buf_free(&box);
	tao_buf_free(&out);
}

static void documented_protect(const struct kind *k)
{
	struct tao_buf text = TAO_BUF_INIT, box = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t tag_n = (size_t)EVP_MD_get_size(k->md());
	uint8_t iv[16], tag[64], key[96];

	for (size_t i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)(i + 1);
	boxed(k, key, key + k->aes_n, k->protect_mac_n, "hello", iv, &text, tag);
	tao_buf_put(&box, tag, tag_n);
	tao_buf_put(&box, iv, sizeof iv);
	tao_buf_put(&box, text.p, text.n);
	ok_err(tao_key_unprotect(key, k->aes_n + k->protect_mac_n, box.p, box.n, &out), TAO_OK,
	       "%s: unprotect, as documented", k->type);
	ok_str(tao_buf_cstr(&out), "hello", "%s: its text", k->type);
	tao_buf_free(&text);
	tao_buf_free(&box);
	tao_buf_free(&out);
}

/* Headers: what may differ and what may not. */

struct change {
	const char *what;
	int version;
	const char *name, *type, *purpose, *status;
	enum tao_err want;
};

static void replace(char **s, const char *by)
{
	if (by == NULL)
		return;
	free(*s);
	*s = strdup(by);
}

static void changed_header(const struct tao_crypter *c, const struct tao_buf *box,
                           const struct change *ch)
{
	Tao__EncryptedData *d = (Tao__EncryptedData *)unpack(&tao__encrypted_data__descriptor, box);
	struct tao_buf b = TAO_BUF_INIT, out = TAO_BUF_INIT;

	if (ch->version != 0)
		d->header->version = (Tao__CryptoVersion)ch->version;
	replace(&d->header->key_name, ch->name);
	replace(&d->header->key_type, ch->type);
	replace(&d->header->key_purpose, ch->purpose);
	replace(&d->header->key_status, ch->status);
	tao_pb_pack(&d->base, &b);
	ok_err(tao_crypter_decrypt(c, b.p, b.n, &out), ch->want, "header: %s", ch->what);
	ok((out.n > 0) == (ch->want == TAO_OK), "header: %s: what comes out", ch->what);
	protobuf_c_message_free_unpacked(&d->base, NULL);
	tao_buf_free(&b);
	tao_buf_free(&out);
}

/* What an edit does to the fields beside the header. */
static void no_header(Tao__EncryptedData *d)
{
	protobuf_c_message_free_unpacked(&d->header->base, NULL);
	d->header = NULL;
}

static void no_iv(Tao__EncryptedData *d)
{
	d->has_iv = 0;
}

static void no_mac(Tao__EncryptedData *d)
{
	d->has_mac = 0;
}

static void no_text(Tao__EncryptedData *d)
{
	d->has_ciphertext = 0;
}

static void empty_mac(Tao__EncryptedData *d)
{
	d->mac.len = 0;
}

static void short_mac(Tao__EncryptedData *d)
{
	d->mac.len--;
}

static void short_iv(Tao__EncryptedData *d)
{
	d->iv.len--;
}

/* The border between IV and text moved: the MAC is over the same bytes. */
static void moved_border(Tao__EncryptedData *d)
{
	d->iv.data = realloc(d->iv.data, 17);
	d->iv.data[d->iv.len++] = d->ciphertext.data[0];
	memmove(d->ciphertext.data, d->ciphertext.data + 1, --d->ciphertext.len);
}

static void edited(const struct tao_crypter *c, const struct tao_buf *box,
                   void (*edit)(Tao__EncryptedData *), const char *what)
{
	Tao__EncryptedData *d = (Tao__EncryptedData *)unpack(&tao__encrypted_data__descriptor, box);
	struct tao_buf b = TAO_BUF_INIT, out = TAO_BUF_INIT;

	edit(d);
	tao_pb_pack(&d->base, &b);
	ok_err(tao_crypter_decrypt(c, b.p, b.n, &out), TAO_EFORMAT, "box: %s", what);
	ok(out.n == 0, "box: %s: nothing comes out", what);
	protobuf_c_message_free_unpacked(&d->base, NULL);
	tao_buf_free(&b);
	tao_buf_free(&out);
}

static void headers(const struct tao_crypter *c, const struct tao_buf *box)
{
	static const struct change changes[] = {
		{ "unchanged", 0, NULL, NULL, NULL, NULL, TAO_OK },
		/* Outside the MAC in CloudProxy's format: nothing depends on it. */
		{ "another name", 0, "other", NULL, NULL, NULL, TAO_OK },
		{ "a newer version", 3, NULL, NULL, NULL, NULL, TAO_EVERSION },
		{ "version 1", 1, NULL, NULL, NULL, NULL, TAO_EFORMAT },
		{ "another type", 0, NULL, "aes256-ctr-hmacsha384", NULL, NULL, TAO_EFORMAT },
		{ "a type without a MAC", 0, NULL, "aes128-ctr", NULL, NULL, TAO_EFORMAT },
		{ "another purpose", 0, NULL, NULL, "signing", NULL, TAO_EFORMAT },
		{ "a key not active", 0, NULL, NULL, NULL, "revoked", TAO_EFORMAT },
	};
	static const struct {
		void (*edit)(Tao__EncryptedData *);
		const char *what;
	} edits[] = {
		{ no_header, "no header" }, { no_iv, "no IV" },
		{ no_mac, "no MAC" },       { no_text, "no ciphertext" },
		{ empty_mac, "an empty MAC" }, { short_mac, "a short MAC" },
		{ short_iv, "a short IV" }, { moved_border, "a byte moved from text to IV" },
	};

	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
		changed_header(c, box, &changes[i]);
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++)
		edited(c, box, edits[i].edit, edits[i].what);
}

/* Every bit: accepted only where the header's name or epoch was hit. */
static void altered(const struct tao_crypter *c, const struct tao_buf *box)
{
	struct tao_buf b = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t free_bits = 0, body = 0, head = 2 + box->p[1];

	tao_buf_put(&b, box->p, box->n);
	for (size_t i = 0; i < b.n * 8; i++) {
		enum tao_err e;

		b.p[i / 8] ^= (uint8_t)(1 << i % 8);
		tao_buf_reset(&out);
		e = tao_crypter_decrypt(c, b.p, b.n, &out);
		free_bits += e == TAO_OK && i / 8 < head;
		body += i / 8 >= head && (e == TAO_OK || out.n > 0);
		b.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	ok(body == 0, "no changed bit of IV, ciphertext and MAC decrypts");
	ok(free_bits > 0 && free_bits <= 8 * (1 + 1), "of the header, only in name and epoch");
	for (size_t n = 0; n < b.n; n++)
		body += tao_crypter_decrypt(c, b.p, n, &out) == TAO_OK;
	tao_buf_u8(&b, 0);
	body += tao_crypter_decrypt(c, b.p, b.n, &out) == TAO_OK;
	ok(body == 0, "no prefix does, nor anything with bytes behind it");
	tao_buf_free(&b);
	tao_buf_free(&out);
}

static void wrong_keys(const struct tao_crypter *c, const struct tao_buf *box)
{
	struct tao_crypter other, none = { 0 };
	struct tao_buf out = TAO_BUF_INIT;

	tao_crypter_generate(c->type->name, &other);
	ok_err(tao_crypter_decrypt(&other, box->p, box->n, &out), TAO_EALTERED, "another key");
	memcpy(other.mac, c->mac, sizeof other.mac);
	ok(tao_crypter_decrypt(&other, box->p, box->n, &out) == TAO_OK && out.n == 5 &&
	           memcmp(out.p, "hello", 5) != 0,
	   "the MAC key alone decides: the AES key is not compared with anything");
	tao_buf_reset(&out);
	ok_err(tao_crypter_decrypt(&none, box->p, box->n, &out), TAO_EINVAL, "no key");
	ok_err(tao_crypter_encrypt(&none, "k", "x", 1, &out), TAO_EINVAL, "no key to encrypt");
	ok(out.n == 0, "nothing comes out");
	tao_buf_free(&out);
}

static void limits(const struct tao_crypter *c)
{
	uint8_t *large = calloc(1, TAO_CRYPT_MAX + 1);
	struct tao_buf box = TAO_BUF_INIT, out = TAO_BUF_INIT;
	char name[3000];

	ok_err(tao_crypter_encrypt(c, "k", large, TAO_CRYPT_MAX + 1, &box), TAO_ELIMIT, "too much");
	ok(box.n == 0, "nothing comes out");
	ok(tao_crypter_encrypt(c, "k", large, TAO_CRYPT_MAX, &box) == TAO_OK &&
	           tao_crypter_decrypt(c, box.p, box.n, &out) == TAO_OK && out.n == TAO_CRYPT_MAX,
	   "the most there may be");
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = 0;
	ok_err(tao_crypter_encrypt(c, name, "x", 1, &box), TAO_EINVAL, "a name too long");
	free(large);
	tao_buf_free(&box);
	tao_buf_free(&out);
}

static void refusals(void)
{
	struct tao_crypter c;
	struct tao_buf box = TAO_BUF_INIT;

	tao_crypter_generate("aes128-ctr-hmacsha256", &c);
	tao_crypter_encrypt(&c, "k", "hello", 5, &box);
	headers(&c, &box);
	altered(&c, &box);
	wrong_keys(&c, &box);
	limits(&c);
	tao_crypter_clear(&c);
	tao_buf_free(&box);
}

/* Protect */

static void protect(const struct kind *k)
{
	uint8_t key[97] = { 7, 3, 1 };
	size_t key_n = k->aes_n + k->protect_mac_n, mac_n = (size_t)EVP_MD_get_size(k->md());
	struct tao_buf box = TAO_BUF_INIT, empty = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t opened = 0, malformed = 0;

	ok(tao_key_protect(key, key_n, "hello", 5, &box) == TAO_OK && box.n == mac_n + 16 + 5,
	   "%zu bytes of key: protected", key_n);
	ok(tao_key_unprotect(key, key_n, box.p, box.n, &out) == TAO_OK && out.n == 5 &&
	           memcmp(out.p, "hello", 5) == 0,
	   "and back");
	tao_buf_reset(&out);
	for (size_t i = 0; i < box.n * 8; i++) {
		box.p[i / 8] ^= (uint8_t)(1 << i % 8);
		opened += tao_key_unprotect(key, key_n, box.p, box.n, &out) != TAO_EALTERED;
		box.p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t n = 0; n < box.n; n++) {
		enum tao_err e = tao_key_unprotect(key, key_n, box.p, n, &out);

		opened += e == TAO_OK;
		malformed += e == TAO_EFORMAT;
	}
	ok(opened == 0 && out.n == 0, "no changed bit and no prefix opens");
	ok(malformed == mac_n + 16, "what is shorter than MAC and IV is called malformed");
	ok(tao_key_protect(key, key_n, "", 0, &empty) == TAO_OK && empty.n == mac_n + 16 &&
	           tao_key_unprotect(key, key_n, empty.p, empty.n, &out) == TAO_OK && out.n == 0,
	   "of nothing");
	key[key_n - 1] ^= 1;
	ok_err(tao_key_unprotect(key, key_n, box.p, box.n, &out), TAO_EALTERED, "another key");
	ok_err(tao_key_unprotect(key, key_n + 1, box.p, box.n, &out), TAO_EINVAL, "a longer key");
	ok_err(tao_key_protect(key, key_n - 1, "x", 1, &out), TAO_EINVAL, "a shorter key");
	ok_err(tao_key_protect(key, 0, "x", 1, &out), TAO_EINVAL, "no key");
	tao_buf_free(&box);
	tao_buf_free(&empty);
	tao_buf_free(&out);
}

/* Stored keys */

struct stored {
	const char *what, *type, *purpose, *status;
	int version, drop, add, part, grow; /* parts dropped, added; part that grows by so much */
	enum tao_err want;
};

static void change_key(Tao__CryptoKey *k, const struct stored *s)
{
	if (s->version != 0)
		k->key_header->version = (Tao__CryptoVersion)s->version;
	replace(&k->key_header->key_type, s->type);
	replace(&k->key_header->key_purpose, s->purpose);
	replace(&k->key_header->key_status, s->status);
	for (int i = 0; i < s->drop; i++)
		free(k->key_components[--k->n_key_components].data);
	for (int i = 0; i < s->add; i++) {
		k->key_components = realloc(k->key_components, (k->n_key_components + 1) *
		                                                       sizeof *k->key_components);
		k->key_components[k->n_key_components++] =
			(ProtobufCBinaryData){ 32, calloc(1, 32) };
	}
	if (s->grow != 0) {
		ProtobufCBinaryData *c = &k->key_components[s->part];

		c->data = realloc(c->data, c->len + 64);
		c->len = (size_t)((int)c->len + s->grow);
	}
}

static void stored_key(const struct tao_buf *good, const struct stored *s, int deriver)
{
	Tao__CryptoKey *k = (Tao__CryptoKey *)unpack(&tao__crypto_key__descriptor, good);
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_crypter c;
	struct tao_deriver d;

	change_key(k, s);
	tao_pb_pack(&k->base, &b);
	ok_err(deriver ? tao_deriver_decode(b.p, b.n, &d) : tao_crypter_decode(b.p, b.n, &c),
	       s->want,
	       "stored %s: %s", deriver ? "deriver" : "crypter", s->what);
	ok(s->want == TAO_OK || (deriver ? is_zero(&d, sizeof d) : is_zero(&c, sizeof c)),
	   "nothing comes back");
	protobuf_c_message_free_unpacked(&k->base, NULL);
	tao_buf_free(&b);
}

static void stored_crypters(void)
{
	static const struct stored cases[] = {
		{ "unchanged", NULL, NULL, NULL, 0, 0, 0, 0, 0, TAO_OK },
		{ "a newer version", NULL, NULL, NULL, 3, 0, 0, 0, 0, TAO_EVERSION },
		{ "version 1", NULL, NULL, NULL, 1, 0, 0, 0, 0, TAO_EFORMAT },
		{ "of another type", "aes256-ctr-hmacsha384", NULL, NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "without a MAC", "aes128-ctr", NULL, NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "a deriver", "hdkf-sha256", NULL, NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "that derives", NULL, "deriving", NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "that signs", NULL, "signing", NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "retired", NULL, NULL, "retired", 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "one part", NULL, NULL, NULL, 0, 1, 0, 0, 0, TAO_EFORMAT },
		{ "no parts", NULL, NULL, NULL, 0, 2, 0, 0, 0, TAO_EFORMAT },
		{ "three parts", NULL, NULL, NULL, 0, 0, 1, 0, 0, TAO_EFORMAT },
		{ "a longer AES key", NULL, NULL, NULL, 0, 0, 0, 0, 16, TAO_EFORMAT },
		{ "a shorter MAC key", NULL, NULL, NULL, 0, 0, 0, 1, -1, TAO_EFORMAT },
		{ "an empty MAC key", NULL, NULL, NULL, 0, 0, 0, 1, -32, TAO_EFORMAT },
	};
	struct tao_crypter c, back;
	struct tao_buf b = TAO_BUF_INIT;

	for (size_t i = 0; i < TYPES; i++) {
		tao_buf_reset(&b);
		tao_crypter_generate(kinds[i].type, &c);
		ok(tao_crypter_encode(&c, "k", &b) == TAO_OK &&
		           tao_crypter_decode(b.p, b.n, &back) == TAO_OK && back.type == c.type &&
		           memcmp(back.aes, c.aes, sizeof c.aes) == 0 &&
		           memcmp(back.mac, c.mac, sizeof c.mac) == 0,
		   "%s: stored and read, the same key", kinds[i].type);
	}
	tao_buf_reset(&b);
	tao_crypter_generate(kinds[0].type, &c);
	tao_crypter_encode(&c, "k", &b);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		stored_key(&b, &cases[i], 0);
	tao_buf_free(&b);
}

static void stored_derivers(void)
{
	static const struct stored cases[] = {
		{ "unchanged", NULL, NULL, NULL, 0, 0, 0, 0, 0, TAO_OK },
		{ "of another type", "hdkf-sha512", NULL, NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "spelt otherwise", "hkdf-sha256", NULL, NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "that encrypts", NULL, "crypting", NULL, 0, 0, 0, 0, 0, TAO_EFORMAT },
		{ "two parts", NULL, NULL, NULL, 0, 0, 1, 0, 0, TAO_EFORMAT },
		{ "no parts", NULL, NULL, NULL, 0, 1, 0, 0, 0, TAO_EFORMAT },
		{ "a shorter secret", NULL, NULL, NULL, 0, 0, 0, 0, -1, TAO_EFORMAT },
		{ "a longer secret", NULL, NULL, NULL, 0, 0, 0, 0, 1, TAO_EFORMAT },
	};
	struct tao_deriver d;
	struct tao_buf b = TAO_BUF_INIT;

	tao_deriver_generate("hdkf-sha256", &d);
	tao_deriver_encode(&d, "k", &b);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		stored_key(&b, &cases[i], 1);
	tao_deriver_clear(&d);
	ok(is_zero(&d, sizeof d), "deriver: cleared");
	tao_buf_free(&b);
}

/* Derivers */

/* RFC 5869 with HMAC alone; as many bytes as one hash. */
static void derived(const char *type, const EVP_MD *(*md)(void), size_t secret_n)
{
	size_t n = (size_t)EVP_MD_get_size(md());
	struct tao_deriver d, back;
	struct tao_buf b = TAO_BUF_INIT;
	uint8_t prk[64], want[64], got[64], *most = malloc(255 * n + 1);

	ok(tao_deriver_generate(type, &d) == TAO_OK && d.type->secret_n == secret_n, "%s", type);
	HMAC(md(), "salt", 4, d.secret, secret_n, prk, NULL);
	HMAC(md(), prk, (int)n, (const uint8_t *)"context\1", 8, want, NULL);
	ok(tao_deriver_derive(&d, "salt", 4, "context", 7, got, n) == TAO_OK &&
	           memcmp(got, want, n) == 0,
	   "%s: RFC 5869 with the hash in its name", type);
	ok(tao_deriver_encode(&d, "k", &b) == TAO_OK && tao_deriver_decode(b.p, b.n, &back) == TAO_OK &&
	           tao_deriver_derive(&back, "salt", 4, "context", 7, got, n) == TAO_OK &&
	           memcmp(got, want, n) == 0,
	   "%s: stored and read, it derives the same", type);
	ok(tao_deriver_derive(&d, "salt", 4, "contexu", 7, got, n) == TAO_OK &&
	           memcmp(got, want, n) != 0,
	   "%s: another context, another secret", type);
	ok(tao_deriver_derive(&d, NULL, 0, "c", 1, most, 255 * n) == TAO_OK, "%s: the most", type);
	ok_err(tao_deriver_derive(&d, NULL, 0, "c", 1, most, 255 * n + 1), TAO_EINVAL, "no more");
	ok_err(tao_deriver_derive(&d, NULL, 0, "c", 1, most, 0), TAO_EINVAL, "nor nothing");
	tao_deriver_clear(&d);
	ok_err(tao_deriver_derive(&d, NULL, 0, "c", 1, most, 1), TAO_EINVAL, "nor without a key");
	free(most);
	tao_buf_free(&b);
}

/* CloudProxy's */

static void vectors(void)
{
	static const char want[] =
		"02e17e2d742e51a9b3a702692562f241ce784b05facbb481400a6a984682157018e941f454dc9a14";
	static const char context[] = "self|.Program([dead])";
	struct tao_buf key = TAO_BUF_INIT, box = TAO_BUF_INIT, msg = TAO_BUF_INIT, out = TAO_BUF_INIT,
	               hex = TAO_BUF_INIT;
	struct tao_crypter c;
	struct tao_deriver d;
	uint8_t secret[40];

	if (getenv("TAO_VECTORS") == NULL) {
		skip("CloudProxy's vectors", "TAO_VECTORS is not set");
		return;
	}
	ok(vector("aes128-ctr-hmacsha256.key", &key) && vector("aes128-ctr-hmacsha256.enc", &box) &&
	           vector("msg", &msg),
	   "CloudProxy's vectors are there");
	ok_err(tao_crypter_decode(key.p, key.n, &c), TAO_OK, "CloudProxy's key reads");
	ok_err(tao_crypter_decrypt(&c, box.p, box.n, &out), TAO_OK, "and decrypts");
	ok(out.n == msg.n && memcmp(out.p, msg.p, msg.n) == 0, "its message");
	tao_buf_reset(&out);
	ok(tao_crypter_encode(&c, "vec_aes128-ctr-hmacsha256", &out) == TAO_OK && out.n == key.n &&
	           memcmp(out.p, key.p, key.n) == 0,
	   "stored again, byte for byte");
	tao_buf_reset(&key);
	ok(vector("hdkf-sha256.key", &key) && tao_deriver_decode(key.p, key.n, &d) == TAO_OK &&
	           tao_deriver_derive(&d, NULL, 0, context, strlen(context), secret,
	                              sizeof secret) == TAO_OK,
	   "CloudProxy's deriving key");
	tao_buf_hex(&hex, secret, sizeof secret);
	ok_str(tao_buf_cstr(&hex), want, "derives as there");
	tao_buf_free(&key);
	tao_buf_free(&box);
	tao_buf_free(&msg);
	tao_buf_free(&out);
	tao_buf_free(&hex);
}

#ifndef SANITIZED
/* Secrets do not stay behind: a scan of this process's heap for the second half
 * of a key, which is kept in complement. */

static size_t count(const uint8_t *p, size_t n, const uint8_t not_it[16])
{
	size_t found = 0;

	for (size_t i = 0; i + 16 <= n; i++) {
		size_t k = 0;

		while (k < 16 && (p[i + k] ^ not_it[k]) == 0xff)
			k++;
		found += k == 16;
	}
	return found;
}

static size_t on_heap(const uint8_t not_it[16])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long from, to;
	size_t found = 0;

	while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
		if (strstr(line, "[heap]") != NULL && sscanf(line, "%lx-%lx", &from, &to) == 2)
			found += count((const uint8_t *)from, to - from, not_it);
	}
	if (maps != NULL)
		fclose(maps);
	return found;
}

static void wiped(void)
{
	struct tao_crypter *c = malloc(sizeof *c);
	struct tao_buf key = TAO_BUF_INIT, box = TAO_BUF_INIT, out = TAO_BUF_INIT;
	uint8_t not_it[16];

	tao_crypter_generate("aes256-ctr-hmacsha512", c);
	for (size_t i = 0; i < 16; i++)
		not_it[i] = (uint8_t)~c->mac[32 + i];
	tao_crypter_encode(c, "k", &key);
	ok(on_heap(not_it) >= 2, "while in use the scan finds the MAC key");
	ok(tao_crypter_decode(key.p, key.n, c) == TAO_OK &&
	           tao_crypter_encrypt(c, "k", "hello", 5, &box) == TAO_OK &&
	           tao_crypter_decrypt(c, box.p, box.n, &out) == TAO_OK,
	   "used");
	tao_crypter_clear(c);
	tao_buf_free(&key);
	ok(on_heap(not_it) == 0, "afterwards it is nowhere");
	free(c);
	tao_buf_free(&box);
	tao_buf_free(&out);
}
#endif

int main(void)
{
	round_trips();
	for (size_t i = 0; i < TYPES; i++) {
		documented_box(&kinds[i]);
		documented_protect(&kinds[i]);
		protect(&kinds[i]);
	}
	refusals();
	stored_crypters();
	stored_derivers();
	derived("hdkf-sha256", EVP_sha256, 32);
	derived("hdkf-sha384", EVP_sha384, 48);
	derived("hdkf-sha512", EVP_sha512, 64);
	vectors();
#ifdef SANITIZED
	skip("secrets are wiped", "the sanitizer has a heap of its own");
#else
	wiped();
#endif
	return done();
}
