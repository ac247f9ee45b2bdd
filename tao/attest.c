#include "attest.h"

#include <string.h>
#include <time.h>

#include "key.h"
#include "pb.h"
#include "tao.pb-c.h"

#define UNPACK_MEMORY (8 * TAO_ATTEST_MAX) /* one link; endorsements multiply */
#define SIGNER_KEY "key"

/* One statement of a chain. */
struct link {
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb;
	struct tao_node *says;
	struct tao_node *signer; /* key([...]) */
};

int64_t tao_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Signing */

static enum tao_err principal_of(EVP_PKEY *key, struct tao_node **out)
{
	uint8_t hash[TAO_HASH_LEN];
	enum tao_err e = tao_key_hash(key, hash);

	if (e != TAO_OK)
		return e;
	*out = tao_prin_key(hash);
	return *out != NULL ? TAO_OK : tao_fail_nomem();
}

static enum tao_err encode_statement(const struct tao_node *issuer, int64_t from, int64_t until,
                                     const struct tao_node *message, struct tao_buf *out)
{
	struct tao_node *says = tao_says(tao_node_dup(issuer), from, until, tao_node_dup(message));

	if (says == NULL)
		return tao_fail_nomem();
	tao_node_encode(says, out);
	tao_node_free(says);
	return tao_buf_err(out);
}

static enum tao_err pack(const struct tao_buf *statement, const struct tao_buf *spki,
                         const struct tao_buf *sig, const void *delegation, size_t delegation_n,
                         struct tao_buf *out)
{
	Tao__Attestation a = TAO__ATTESTATION__INIT;

	a.serialized_statement = (ProtobufCBinaryData){ statement->n, statement->p };
	a.signer_type = (char *)SIGNER_KEY;
	a.signer_key = (ProtobufCBinaryData){ spki->n, spki->p };
	a.signature = (ProtobufCBinaryData){ sig->n, sig->p };
	a.has_serialized_delegation = delegation != NULL;
	a.serialized_delegation = (ProtobufCBinaryData){ delegation_n, (uint8_t *)delegation };
	if (protobuf_c_message_get_packed_size(&a.base) > TAO_ATTEST_MAX)
		return tao_fail(TAO_ELIMIT, "an attestation would be larger than %u bytes: its "
		                            "chain of delegations is too long", TAO_ATTEST_MAX);
	tao_pb_pack(&a.base, out);
	return tao_buf_err(out);
}

static enum tao_err period(int64_t *from, int64_t *until)
{
	if (*from == TAO_NOW)
		*from = tao_now_ns();
	if (*until == TAO_NOW)
		*until = *from > INT64_MAX - TAO_ATTEST_YEAR_NS ? INT64_MAX
		                                                : *from + TAO_ATTEST_YEAR_NS;
	if (*until <= *from)
		return tao_fail(TAO_EINVAL, "an attestation would end before it begins: give a "
		                            "later end");
	return TAO_OK;
}

enum tao_err tao_attest(EVP_PKEY *signer, const struct tao_node *issuer, int64_t from,
                        int64_t until, const struct tao_node *message, const void *delegation,
                        size_t delegation_n, struct tao_buf *out)
{
	struct tao_buf statement = TAO_BUF_INIT, spki = TAO_BUF_INIT, sig = TAO_BUF_INIT;
	enum tao_err e = period(&from, &until);

	if (e == TAO_OK)
		e = encode_statement(issuer, from, until, message, &statement);
	if (e == TAO_OK)
		e = tao_key_spki(signer, &spki);
	if (e == TAO_OK)
		e = tao_key_sign(signer, TAO_ATTEST_CONTEXT, statement.p, statement.n, &sig);
	if (e == TAO_OK)
		e = pack(&statement, &spki, &sig, delegation, delegation_n, out);
	tao_buf_free(&statement);
	tao_buf_free(&spki);
	tao_buf_free(&sig);
	return e;
}

/* Verifying */

static const Tao__Attestation *attestation(const struct link *l)
{
	return (const Tao__Attestation *)l->pb;
}

static const struct tao_node *speaker(const struct link *l)
{
	return l->says->kid[0];
}

static const struct tao_node *message(const struct link *l)
{
	return l->says->kid[1];
}

static void link_clear(struct link *l)
{
	tao_node_free(l->says);
	tao_node_free(l->signer);
	tao_pb_free(&l->pa, l->pb);
	l->says = l->signer = NULL;
	l->pb = NULL;
}

/* Over the bytes received, with the key whose hash becomes the signer's name. */
static enum tao_err by_key(const Tao__Attestation *a, struct tao_node **signer)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_key_from_spki(a->signer_key.data, a->signer_key.len, &key);

	if (e == TAO_OK)
		e = tao_key_verify(key, TAO_ATTEST_CONTEXT, a->serialized_statement.data,
		                   a->serialized_statement.len, a->signature.data,
		                   a->signature.len);
	if (e == TAO_OK)
		e = principal_of(key, signer);
	EVP_PKEY_free(key);
	return e;
}

/* A quote over the statement's hash is in tpm2_quote_structure; what the PCRs
 * in the speaker's name must be is for a root of that kind to check. */
static enum tao_err by_tpm(const Tao__Attestation *a, struct tao_node **signer)
{
	(void)signer;
	return tao_fail(TAO_EVERSION, "an attestation is signed by a TPM (%s), whose quotes this "
	                              "version does not verify: upgrade to one that does",
	                a->signer_type);
}

/* Verifies the signature and names the signer, by signer_type. */
static const struct {
	const char *type;
	enum tao_err (*check)(const Tao__Attestation *a, struct tao_node **signer);
} signers[] = {
	{ SIGNER_KEY, by_key },
	{ "tpm2", by_tpm },
	{ "tpm", by_tpm },
};

static enum tao_err check_signature(const Tao__Attestation *a, struct tao_node **signer)
{
	for (size_t i = 0; i < sizeof signers / sizeof signers[0]; i++)
		if (strcmp(a->signer_type, signers[i].type) == 0)
			return signers[i].check(a, signer);
	return tao_fail(TAO_EVERSION, "an attestation is signed by a '%.40s', which is not "
	                              "known here: upgrade to a Tao that knows it",
	                a->signer_type);
}

static enum tao_err check_statement(const struct tao_node *says)
{
	if (says->tag != TAO_SAYS)
		return tao_fail(TAO_EFORMAT, "an attestation does not hold a statement 'P says F'");
	if (says->kid[0]->tag != TAO_PRIN)
		return tao_fail(TAO_EFORMAT, "the speaker of an attestation is not a principal");
	if (!says->has_from || !says->has_until)
		return tao_fail(TAO_EFORMAT, "an attestation does not say from when until when it "
		                "holds");
	return TAO_OK;
}

static enum tao_err link_open(struct link *l, const void *p, size_t n)
{
	const Tao__Attestation *a;
	enum tao_err e;

	tao_pb_alloc_init(&l->pa, UNPACK_MEMORY);
	e = tao_pb_unpack_strict(&l->pa, &tao__attestation__descriptor, p, n, "attestation",
	                         &l->pb);
	if (e != TAO_OK)
		return e;
	a = attestation(l);
	e = check_signature(a, &l->signer);
	if (e == TAO_OK)
		e = tao_form_decode(a->serialized_statement.data, a->serialized_statement.len,
		                    &l->says);
	if (e == TAO_OK)
		e = check_statement(l->says);
	return e;
}

/* The root's key speaks for itself and what is below it, for nothing else. */
static enum tao_err check_root(const struct link *l)
{
	if (!tao_prin_covers(l->signer, speaker(l)))
		return tao_fail(TAO_EDENIED, "an attestation is signed by a key that may not speak "
		                             "for its issuer, and has no delegation");
	return TAO_OK;
}

/* below lets above's signer speak: it says "delegate speaksfor delegator". */
static enum tao_err check_delegation(const struct link *above, const struct link *below)
{
	const struct tao_node *m = message(below), *delegate, *delegator;

	if (m->tag != TAO_SPEAKSFOR)
		return tao_fail(TAO_EDENIED, "a delegation does not say 'P speaksfor Q'");
	delegate = m->kid[0];
	delegator = m->kid[1];
	if (delegate->tag != TAO_PRIN || delegator->tag != TAO_PRIN)
		return tao_fail(TAO_EDENIED, "a delegation is not between two principals");
	/* Nobody hands on more than his own name: never upward, never sideways. */
	if (!tao_node_equal(delegator, speaker(below)))
		return tao_fail(TAO_EDENIED, "a delegation gives away a name that is not its "
		                "issuer's");
	if (!tao_prin_covers(above->signer, delegate))
		return tao_fail(TAO_EDENIED, "a delegation is for another key than the one that "
		                "signed");
	if (!tao_prin_covers(delegator, speaker(above)))
		return tao_fail(TAO_EDENIED, "a delegation does not reach the name of the issuer");
	return TAO_OK;
}

/* Valid from its first nanosecond up to, not including, its end. */
static enum tao_err check_times(const struct link *chain, size_t n, int64_t at,
                                struct tao_attested *out)
{
	out->from = INT64_MIN;
	out->until = INT64_MAX;
	for (size_t i = 0; i < n; i++) {
		if (chain[i].says->from > out->from)
			out->from = chain[i].says->from;
		if (chain[i].says->until < out->until)
			out->until = chain[i].says->until;
	}
	if (at == TAO_NOW)
		at = tao_now_ns();
	if (at < out->from)
		return tao_fail(TAO_EEXPIRED, "an attestation is not yet valid: check the clocks "
		                              "of both machines");
	if (at >= out->until)
		return tao_fail(TAO_EEXPIRED, "an attestation has expired: ask for a new one");
	return TAO_OK;
}

static enum tao_err open_chain(const void *p, size_t n, struct link *chain, size_t *n_chain)
{
	for (;;) {
		const Tao__Attestation *a;
		enum tao_err e;

		if (*n_chain > TAO_ATTEST_MAX_CHAIN)
			return tao_fail(TAO_ELIMIT, "an attestation has more than %d delegations",
			                TAO_ATTEST_MAX_CHAIN);
		e = link_open(&chain[*n_chain], p, n);
		*n_chain += 1;
		if (e != TAO_OK)
			return e;
		a = attestation(&chain[*n_chain - 1]);
		if (!a->has_serialized_delegation)
			return TAO_OK;
		p = a->serialized_delegation.data;
		n = a->serialized_delegation.len;
	}
}

static enum tao_err check_chain(const struct link *chain, size_t n,
                                const struct tao_node *trusted_root)
{
	const struct link *root = &chain[n - 1];
	enum tao_err e = check_root(root);

	for (size_t i = n - 1; e == TAO_OK && i > 0; i--)
		e = check_delegation(&chain[i - 1], &chain[i]);
	if (e == TAO_OK && trusted_root != NULL && !tao_node_equal(trusted_root, root->signer))
		e = tao_fail(TAO_EDENIED, "an attestation comes from a root that is not trusted "
		             "here");
	return e;
}

static enum tao_err result(const struct link *chain, size_t n, struct tao_attested *out)
{
	out->speaker = tao_node_dup(speaker(&chain[0]));
	out->message = tao_node_dup(message(&chain[0]));
	out->root = tao_node_dup(chain[n - 1].signer);
	if (out->speaker == NULL || out->message == NULL || out->root == NULL)
		return tao_fail_nomem();
	return TAO_OK;
}

enum tao_err tao_attestation_verify(const void *p, size_t n, int64_t at,
                                    const struct tao_node *trusted_root,
                                    struct tao_attested *out)
{
	struct link chain[TAO_ATTEST_MAX_CHAIN + 1];
	size_t n_chain = 0;
	enum tao_err e;

	memset(out, 0, sizeof *out);
	memset(chain, 0, sizeof chain);
	if (n > TAO_ATTEST_MAX)
		return tao_fail(TAO_ELIMIT, "an attestation has %zu bytes: at most %u", n,
		                TAO_ATTEST_MAX);
	e = open_chain(p, n, chain, &n_chain);
	if (e == TAO_OK)
		e = check_chain(chain, n_chain, trusted_root);
	if (e == TAO_OK)
		e = check_times(chain, n_chain, at, out);
	if (e == TAO_OK)
		e = result(chain, n_chain, out);
	for (size_t i = 0; i < n_chain; i++)
		link_clear(&chain[i]);
	if (e != TAO_OK)
		tao_attested_clear(out);
	return e;
}

void tao_attested_clear(struct tao_attested *a)
{
	tao_node_free(a->speaker);
	tao_node_free(a->message);
	tao_node_free(a->root);
	memset(a, 0, sizeof *a);
}
