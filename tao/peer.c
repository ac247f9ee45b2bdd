#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/x509v3.h>

#include "channel.h"

#define URN   "urn:tao:"
#define URN_N (sizeof URN - 1)

/* Percent-decoding, RFC 3986: an escape that is cut or malformed fails. */
static enum tao_err unescape(const uint8_t *p, size_t n, struct tao_buf *out)
{
	uint8_t byte;

	for (size_t i = 0; i < n; i++) {
		if (p[i] != '%') {
			tao_buf_u8(out, p[i]);
			continue;
		}
		if (n - i < 3 || tao_unhex((const char *)p + i + 1, 2, &byte, 1) != TAO_OK)
			return tao_fail(TAO_EFORMAT,
			                "the %s name in a certificate is cut or wrongly "
			                "escaped",
			                URN);
		tao_buf_u8(out, byte);
		i += 2;
	}
	return tao_buf_err(out);
}

/* The only urn:tao: URI, in whatever case; NULL: none, or several. */
static const ASN1_IA5STRING *find_urn(const GENERAL_NAMES *names)
{
	const ASN1_IA5STRING *found = NULL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type != GEN_URI || ASN1_STRING_length(g->d.ia5) < (int)URN_N ||
		    strncasecmp((const char *)ASN1_STRING_get0_data(g->d.ia5), URN, URN_N) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = g->d.ia5;
	}
	return found;
}

static enum tao_err urn_text(const X509 *cert, struct tao_buf *text)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	const ASN1_IA5STRING *urn = find_urn(names);
	enum tao_err e;

	if (urn == NULL)
		e = tao_fail(TAO_EFORMAT,
		             "the certificate names no program, or several: there must be "
		             "exactly one %s URI",
		             URN);
	else
		e = unescape(ASN1_STRING_get0_data(urn) + URN_N,
		             (size_t)ASN1_STRING_length(urn) - URN_N, text);
	GENERAL_NAMES_free(names);
	return e;
}

static enum tao_err check_unit(const X509 *cert, const char *text, size_t n)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_organizationalUnitName, -1);
	unsigned char *unit = NULL;
	int len = -1, same;

	if (at >= 0 &&
	    X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_organizationalUnitName, at) < 0)
		len = ASN1_STRING_to_UTF8(
		    &unit, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	same = len >= 0 && (size_t)len == n && memcmp(unit, text, n) == 0;
	OPENSSL_free(unit);
	if (!same)
		return tao_fail(TAO_EFORMAT,
		                "the certificate's subject does not name the same program "
		                "as its %s URI",
		                URN);
	return TAO_OK;
}

enum tao_err tao_cert_principal(const X509 *cert, struct tao_node **out)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct tao_node *prin = NULL;
	char *canonical = NULL;
	enum tao_err e = urn_text(cert, &text);

	*out = NULL;
	if (e == TAO_OK)
		e = tao_prin_parse(tao_buf_cstr(&text), text.n, &prin);
	if (e == TAO_OK && (canonical = tao_node_text(prin)) == NULL)
		e = tao_fail_nomem();
	if (e == TAO_OK && (strlen(canonical) != text.n || memcmp(canonical, text.p, text.n) != 0))
		e = tao_fail(TAO_EFORMAT, "the program's name in the certificate is not canonical");
	if (e == TAO_OK)
		e = check_unit(cert, canonical, text.n);
	if (e != TAO_OK)
		tao_node_free(prin);
	else
		*out = prin;
	free(canonical);
	tao_buf_free(&text);
	return e;
}
