/* tao: URIs: what is taken names a legal key and says what is wanted. */
#include <stdlib.h>
#include <string.h>

#include "../store/uri.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct uri u, again;
	char *text = malloc(size + 1), back[URI_MAX];
	enum tao_err e;

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	e = uri_parse(text, &u);
	free(text);
	if (e != TAO_OK)
		return 0;
	if (u.parts == 0 || (u.name[0] != 0) != ((u.parts & (URI_KEY | URI_CERT | URI_CHAIN)) != 0))
		abort();
	if (u.name[0] == 0)
		return 0;
	if (tao_key_name_check(u.name, strlen(u.name)) != TAO_OK)
		abort();
	/* The name alone comes back as itself. */
	strcat(strcpy(back, "tao:"), u.name);
	if (uri_parse(back, &again) != TAO_OK || strcmp(again.name, u.name) != 0)
		abort();
	return 0;
}
