/*
 * keyscan-victim ROOT_KEY PASSPHRASE_FILE STUB: holds the stub's private
 * scalar in memory, in both byte orders, and a control text, until it is
 * ended: what keyscan must find. With - for STUB, what the keyset file holds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "readkey.h"

int main(int argc, char **argv)
{
	struct held {
		uint8_t big[SCALAR], limbs[SCALAR];
		char control[32];
		struct keyset_secrets keyset;
	} *held = calloc(1, sizeof *held);
	enum tao_err e;

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (argc != 4 || held == NULL)
		return 2;
	if (strcmp(argv[3], "-") == 0) {
		e = read_keyset(argv[1], argv[2], &held->keyset);
		memcpy(held->big, held->keyset.scalar, SCALAR);
	} else {
		e = read_scalar(argv[1], argv[2], argv[3], held->big);
	}
	if (e != TAO_OK) {
		fprintf(stderr, "keyscan-victim: %s\n", tao_why());
		return 2;
	}
	for (size_t i = 0; i < SCALAR; i++)
		held->limbs[i] = held->big[SCALAR - 1 - i];
	snprintf(held->control, sizeof held->control, "planted-%s", "control");
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
