/* The principal that a certificate names: what comes out is canonical, and stands in its OU. */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "tao/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct tao_node *name)
{
	struct tao_node *again = NULL;
	char *text = tao_node_text(name);

	if (text == NULL || tao_prin_parse(text, strlen(text), &again) != TAO_OK ||
	    !tao_node_equal(name, again))
		abort();
	tao_node_free(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *p = data;
	X509 *cert = d2i_X509(NULL, &p, (long)size);
	struct tao_node *name = NULL;

	ERR_clear_error();
	if (cert == NULL)
		return 0;
	if (tao_cert_principal(cert, &name) == TAO_OK)
		check(name);
	else if (name != NULL)
		abort();
	tao_node_free(name);
	X509_free(cert);
	return 0;
}
