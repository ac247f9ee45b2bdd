/*
 * Access lists as a guard reads them. The input is tried as a signed file,
 * which no fuzzer can sign, and as the set within one, signed here: what is
 * taken then is listed, answers yes, saves and loads as itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tao/guard.h"
#include "../tao/pb.h"
#include "tao.pb-c.h"

#define CONTEXT "tao.ACLGuard Version 1"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void sign(EVP_PKEY *key, const uint8_t *data, size_t size, struct tao_buf *out)
{
	Tao__SignedACLSet s = TAO__SIGNED_ACLSET__INIT;
	struct tao_buf sig = TAO_BUF_INIT;

	must(tao_key_sign(key, CONTEXT, data, size, &sig) == TAO_OK);
	s.serialized_aclset = (ProtobufCBinaryData){ size, (uint8_t *)data };
	s.signature = (ProtobufCBinaryData){ sig.n, sig.p };
	tao_pb_pack(&s.base, out);
	tao_buf_free(&sig);
}

static void listed(const char *rule, void *arg)
{
	struct tao_decision d;

	must(tao_guard_query(arg, rule, NULL, &d) == TAO_OK && d.yes && d.why[0] != 0);
	must(tao_guard_add_rule(arg, rule) == TAO_EEXIST);
}

/* The same rules, signed anew by way of the guard's own writer. */
static void again(struct tao_guard *g, EVP_PKEY *key)
{
	struct tao_guard_set s = { .version = tao_guard_version(g) + 1, .date = 1 };
	struct tao_buf b = TAO_BUF_INIT;
	size_t n = tao_guard_count(g);

	must(g->ops->pack(g, key, &s, &b) == TAO_OK);
	must(tao_guard_open(g, b.p, b.n, NULL) == TAO_OK);
	must(tao_guard_count(g) == n && tao_guard_version(g) == s.version);
	must(tao_guard_list(g, listed, g) == TAO_OK);
	tao_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf b = TAO_BUF_INIT;
	static EVP_PKEY *key; /* one for all inputs: making one is slow */
	struct tao_guard *g;

	if (key == NULL)
		must(tao_key_generate("ecdsap256", &key) == TAO_OK);
	must(tao_guard_acl(key, &g) == TAO_OK);
	must(tao_guard_open(g, data, size, NULL) != TAO_OK);
	must(tao_guard_count(g) == 0 && tao_guard_version(g) == 0);
	sign(key, data, size, &b);
	if (tao_guard_open(g, b.p, b.n, NULL) != TAO_OK)
		must(tao_guard_count(g) == 0 && tao_guard_version(g) == 0);
	else if (tao_guard_version(g) != UINT64_MAX)
		again(g, key);
	tao_buf_free(&b);
	tao_guard_free(g);
	return 0;
}
