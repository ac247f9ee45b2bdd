/* Identities of PSKs and key shares: what parses is written to the same bytes, and every field is
 * within the input. The first byte says what the rest is. */
#include <stdlib.h>
#include <string.h>

#include "tao/tlskeys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void identity(const uint8_t *p, size_t n)
{
	static const uint8_t key[TLSKEYS_LEN] = { 1 };
	uint8_t made[TLSKEYS_IDENTITY], psk[TLSKEYS_PSK_MAX];
	struct tlskeys_identity i;
	size_t psk_n;

	if (tlskeys_identity_parse(p, n, &i) != TAO_OK)
		return;
	must(i.tag == p + n - TLSKEYS_TAG);
	must(tlskeys_identity_write(NULL, key, &i, made) == TAO_OK);
	must(memcmp(made, p, n - TLSKEYS_TAG) == 0);
	must((tlskeys_identity_check(NULL, key, p) == TAO_OK) == (memcmp(made, p, n) == 0));
	must(tlskeys_psk(NULL, key, p, psk, &psk_n) == TAO_OK &&
	     psk_n == (i.hash == TLSKEYS_SHA256 ? 32 : 48));
}

static void share(unsigned group, int server, const uint8_t *p, size_t n)
{
	struct tao_buf again = TAO_BUF_INIT;
	struct tlskeys_share s;

	if (tlskeys_share_parse(group, server, p, n, &s) == TAO_OK) {
		tlskeys_share_write(&s, &again);
		must(again.n == n && memcmp(again.p, p, n) == 0);
	}
	tao_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 5) {
	case 0:
		identity(data + 1, size - 1);
		break;
	case 1:
	case 2:
		share(TLSKEYS_X25519, data[0] % 5 - 1, data + 1, size - 1);
		break;
	default:
		share(TLSKEYS_X25519MLKEM768, data[0] % 5 - 3, data + 1, size - 1);
	}
	return 0;
}
