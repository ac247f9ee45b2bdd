/* Sealed blobs: nothing opens that was not sealed here, and what is sealed opens only as it is, for
 * whom it was sealed. The input is tried as a blob, and as what stands behind a header that
 * fits. */
#include <stdlib.h>
#include <string.h>

#include "tao/key.h"
#include "tao/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tao_sealer sealer;

static void must(int holds)
{
	if (!holds)
		abort();
}

static void make_sealer(void)
{
	struct tao_keyset ks = { 0 };

	if (sealer.secret != NULL)
		return;
	must(tao_keyset_generate(&ks) == TAO_OK && tao_sealer_init(&sealer, &ks) == TAO_OK);
	tao_keyset_clear(&ks);
}

static void refused(const uint8_t *blob, size_t n)
{
	struct tao_buf out = TAO_BUF_INIT;

	for (int kind = TAO_SEAL_KEY; kind <= TAO_SEAL_ROLLBACK; kind++) {
		must(tao_unseal(&sealer, kind, "a", 1, blob, n, &out) != TAO_OK);
		must(tao_unseal_any(&sealer, kind, "a", 1, blob, n, &out) != TAO_OK);
	}
	must(out.n == 0);
	tao_sealed_epoch(blob, n);
	tao_buf_free(&out);
}

/* Sealed, it opens; with a header of the input's, only if that is the one it had. */
static void seal(const uint8_t *data, size_t size)
{
	struct tao_buf blob = TAO_BUF_INIT, out = TAO_BUF_INIT;
	size_t n = size < TAO_SEAL_HEADER ? size : TAO_SEAL_HEADER;

	must(tao_seal(&sealer, TAO_SEAL_DATA, "a", 1, data, size, &blob) == TAO_OK);
	must(tao_unseal(&sealer, TAO_SEAL_DATA, "a", 1, blob.p, blob.n, &out) == TAO_OK);
	must(out.n == size && (size == 0 || memcmp(out.p, data, size) == 0));
	if (n > 0 && memcmp(blob.p, data, n) != 0) {
		memcpy(blob.p, data, n);
		refused(blob.p, blob.n);
	}
	tao_buf_free(&blob);
	tao_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	make_sealer();
	refused(data, size);
	seal(data, size);
	return 0;
}
