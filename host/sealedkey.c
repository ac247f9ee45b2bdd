#include "sealedkey.h"

#include <string.h>

#include "custody_type.h"
#include "tao.pb-c.h"
#include "../tao/key.h"

static const struct key_purpose purposes[] = {
	{ "any", KEY_SIGNS | KEY_DECRYPTS | KEY_DERIVES, 0, 0 },
	{ "tls", KEY_SIGNS, 1, 0 },
	{ "tls13", KEY_SIGNS, 1, 1 },
	{ "sign", KEY_SIGNS, 0, 0 },
	{ "decrypt", KEY_DECRYPTS | KEY_DERIVES, 0, 0 },
};

#define N_PURPOSES (sizeof purposes / sizeof purposes[0])

const struct key_purpose *key_purpose_named(const char *name)
{
	for (size_t i = 0; i < N_PURPOSES; i++)
		if (strcmp(purposes[i].name, name) == 0)
			return &purposes[i];
	return NULL;
}

void key_purpose_list(struct tao_buf *out)
{
	for (size_t i = 0; i < N_PURPOSES; i++)
		tao_buf_fmt(out, "%s%s", i > 0 ? ", " : "", purposes[i].name);
}

/* The policy is looked at when somebody wants the key. */
static enum tao_err check_fields(const Tao__SealedKey *k)
{
	if (k->version != SEALEDKEY_VERSION)
		return tao_fail(TAO_EVERSION, "the key was sealed by a newer version: upgrade "
		                "taod");
	if (key_type_named(k->type) == NULL || key_purpose_named(k->purpose) == NULL ||
	    (strcmp(k->custody, "host") != 0 && strcmp(k->custody, "program") != 0))
		return tao_fail(TAO_EVERSION, "the key was sealed with a type, purpose or custody "
		                "that this version does not know: upgrade taod");
	if (k->key_id.len != SEALEDKEY_ID_LEN || k->generation == 0)
		return tao_fail(TAO_EALTERED, "the sealed key has no proper id or generation");
	if (k->has_program_hash && k->program_hash.len != TAO_HASH_LEN)
		return tao_fail(TAO_EALTERED, "the sealed key names no proper executable");
	return TAO_OK;
}

enum tao_err sealedkey_parse(const void *plain, size_t n, struct tao_pb_alloc *pa,
                             struct Tao__SealedKey **out)
{
	ProtobufCMessage *m = NULL;
	enum tao_err e;

	*out = NULL;
	tao_pb_alloc_init(pa, SEALEDKEY_CAP);
	e = tao_pb_unpack(pa, &tao__sealed_key__descriptor, plain, n, "sealed key", &m);
	if (e == TAO_OK)
		e = check_fields((Tao__SealedKey *)m);
	if (e == TAO_OK)
		*out = (Tao__SealedKey *)m;
	else
		tao_pb_free(pa, m);
	return e;
}

enum tao_err sealedkey_open(const struct tao_sealer *sealer, const struct tao_stub *st,
                            struct tao_pb_alloc *pa, struct Tao__SealedKey **out)
{
	struct tao_buf aad = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	enum tao_err e;

	*out = NULL;
	tao_stub_aad(st, &aad);
	e = tao_buf_err(&aad);
	if (e == TAO_OK)
		e = tao_unseal_any(sealer, TAO_SEAL_KEY, aad.p, aad.n, st->sealed, st->sealed_n,
		                   &plain);
	if (e == TAO_OK)
		e = sealedkey_parse(plain.p, plain.n, pa, out);
	tao_buf_free(&aad);
	tao_buf_free(&plain);
	return e;
}

enum tao_err sealedkey_seal(const struct tao_sealer *sealer, const struct Tao__SealedKey *k,
                            const struct tao_stub *st, struct tao_buf *stub)
{
	struct tao_buf plain = TAO_BUF_INIT, aad = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	struct tao_stub whole = *st;
	enum tao_err e;

	tao_pb_pack(&k->base, &plain);
	tao_stub_aad(st, &aad);
	e = tao_buf_err(&plain);
	if (e == TAO_OK)
		e = tao_buf_err(&aad);
	if (e == TAO_OK)
		e = tao_seal(sealer, TAO_SEAL_KEY, aad.p, aad.n, plain.p, plain.n, &blob);
	whole.sealed = blob.p;
	whole.sealed_n = blob.n;
	if (e == TAO_OK)
		tao_stub_encode(&whole, stub);
	if (e == TAO_OK)
		e = tao_buf_err(stub);
	tao_buf_free(&plain);
	tao_buf_free(&aad);
	tao_buf_free(&blob);
	return e;
}
