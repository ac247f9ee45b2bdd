/* A host's answers, as the provider takes them: the first byte chooses which. */
#include <stdlib.h>
#include <string.h>

#include "../provider/reply.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const uint8_t *p, size_t n)
{
	volatile uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum ^= p[i];
	(void)sum;
}

static void try_signature(const struct tao_buf *body)
{
	uint8_t sig[REPLY_SIG_MAX];
	size_t n = 72;

	if (reply_signature(body, REPLY_ECDSA, sig, &n) != TAO_OK)
		return;
	if (n < 8 || n > 72)
		abort();
	use(sig, n);
}

static void try_bytes(const struct tao_buf *body)
{
	uint8_t out[32];

	if (reply_bytes(body, sizeof out, out) == TAO_OK)
		use(out, sizeof out);
}

static void try_key(const struct tao_buf *body, int need)
{
	struct reply r;
	struct tao_stub stub;

	if (reply_key(&r, body, need) == TAO_OK) {
		if ((need & REPLY_ID) && r.key->key_id.len != REPLY_ID_LEN)
			abort();
		if ((need & REPLY_CHAIN) && r.key->n_chain == 0)
			abort();
		if (r.key->has_stub)
			tao_stub_parse(r.key->stub.data, r.key->stub.len, &stub);
		for (size_t i = 0; i < r.key->n_chain; i++)
			use(r.key->chain[i].data, r.key->chain[i].len);
	}
	reply_free(&r);
}

static void try_list(const struct tao_buf *body)
{
	struct reply r;

	if (reply_list(&r, body) == TAO_OK) {
		for (size_t i = 0; i < r.list->n_keys; i++) {
			const Tao__KeyInfo *k = r.list->keys[i];

			use((const uint8_t *)k->name, strlen(k->name));
			use((const uint8_t *)k->type, strlen(k->type));
		}
	}
	reply_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf body = TAO_BUF_INIT;

	if (size == 0)
		return 0;
	tao_buf_put(&body, data + 1, size - 1);
	if (data[0] < 8)
		try_key(&body, data[0]);
	else if (data[0] == 8)
		try_signature(&body);
	else if (data[0] == 10)
		try_bytes(&body);
	else
		try_list(&body);
	tao_buf_free(&body);
	return 0;
}
