#include "imported.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "../tao/file.h"

#define HEAD "tao imported certificate "
#define FORMAT 1
#define MAX_FILE 65536 /* bytes */

int imported_is(const char *path)
{
	struct tao_buf b = TAO_BUF_INIT;
	int is = tao_file_read(path, MAX_FILE, &b) == TAO_OK && b.n > strlen(HEAD) &&
	         memcmp(b.p, HEAD, strlen(HEAD)) == 0;

	tao_buf_free(&b);
	return is;
}

void imported_clear(struct imported *i)
{
	sk_X509_pop_free(i->chain, X509_free);
	free(i->issuer);
	memset(i, 0, sizeof *i);
}

static enum tao_err check_head(const char *path, struct tao_buf *text)
{
	unsigned format = 0;
	char line[sizeof HEAD + 16];

	if (text->n < strlen(HEAD) || memcmp(text->p, HEAD, strlen(HEAD)) != 0)
		return TAO_ENOTFOUND;
	if (sscanf(tao_buf_cstr(text) + strlen(HEAD), "%9u", &format) == 1 && format > FORMAT)
		return tao_fail(TAO_EVERSION, "%s has format %u, which a newer version of the Tao "
		                "wrote: upgrade this one", path, format);
	snprintf(line, sizeof line, HEAD "%d\n", FORMAT);
	return strncmp(tao_buf_cstr(text), line, strlen(line)) == 0
	       ? TAO_OK : tao_fail(TAO_EFORMAT, "%s is damaged: import the certificate again",
	                           path);
}

static enum tao_err read_chain(const char *path, const struct tao_buf *text, struct imported *out)
{
	BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
	X509 *x = NULL;

	out->chain = sk_X509_new_null();
	ERR_set_mark();
	while (bio != NULL && out->chain != NULL && sk_X509_num(out->chain) < CERTCHAIN_MAX &&
	       (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		if (sk_X509_push(out->chain, x) == 0)
			X509_free(x);
	ERR_pop_to_mark();
	BIO_free(bio);
	if (sk_X509_num(out->chain) <= 0)
		return tao_fail(TAO_EFORMAT, "%s holds no certificate: import it again", path);
	x = sk_X509_value(out->chain, 0);
	out->not_before = certchain_time(X509_get0_notBefore(x));
	out->not_after = certchain_time(X509_get0_notAfter(x));
	out->issuer = certchain_name(X509_get_issuer_name(x));
	if (X509_get0_pubkey(x) == NULL)
		return tao_fail_crypto("reading the public key of %s", path);
	return tao_key_hash(X509_get0_pubkey(x), out->spki_hash);
}

enum tao_err imported_read(struct host *h, uid_t uid, const char *name, struct imported *out)
{
	struct tao_buf text = TAO_BUF_INIT;
	char *path = keystore_cert_path(h, uid, name);
	enum tao_err e = path != NULL ? tao_file_read(path, MAX_FILE, &text) : tao_fail_nomem();

	memset(out, 0, sizeof *out);
	if (e == TAO_OK)
		e = check_head(path, &text);
	if (e == TAO_OK)
		e = read_chain(path, &text, out);
	if (e != TAO_OK)
		imported_clear(out);
	free(path);
	tao_buf_free(&text);
	return e;
}

enum tao_err imported_write(struct host *h, uid_t uid, const char *name, STACK_OF(X509) *chain)
{
	char *path = keystore_cert_path(h, uid, name), *text;
	BIO *bio = BIO_new(BIO_s_mem());
	int good = bio != NULL && BIO_printf(bio, HEAD "%d\n", FORMAT) > 0;
	enum tao_err e = path != NULL ? TAO_OK : tao_fail_nomem();
	long n;

	for (int i = 0; good && i < sk_X509_num(chain); i++)
		good = PEM_write_bio_X509(bio, sk_X509_value(chain, i)) == 1;
	if (e == TAO_OK && !good)
		e = tao_fail_crypto("writing a certificate");
	if (e == TAO_OK) {
		n = BIO_get_mem_data(bio, &text);
		e = tao_file_write(path, text, (size_t)n, 0644, 0);
	}
	BIO_free(bio);
	free(path);
	return e;
}

enum tao_err imported_fits(const struct imported *i, const struct key_facts *f)
{
	if (memcmp(i->spki_hash, f->spki_hash, sizeof i->spki_hash) == 0)
		return TAO_OK;
	return tao_fail(TAO_ENOTFOUND, "the certificate that was imported for key %s does not fit "
	                "generation %u of it: make a request with 'tao cert request %s', and "
	                "import what the CA answers", f->name, f->generation, f->name);
}

static enum tao_err put_der(X509 *x, struct tao_buf *to)
{
	unsigned char *p = NULL;
	int n = i2d_X509(x, &p);

	if (n <= 0)
		return tao_fail_crypto("writing a certificate");
	tao_buf_put(to, p, (size_t)n);
	OPENSSL_free(p);
	return tao_buf_err(to);
}

enum tao_err imported_chain(struct host *h, const struct key_facts *f,
                            struct tao_buf chain[CERTCHAIN_MAX], size_t *n)
{
	struct imported i;
	enum tao_err e = imported_read(h, f->uid, f->name, &i);

	*n = 0;
	if (e == TAO_ENOTFOUND)
		return TAO_OK;
	if (e == TAO_OK)
		e = imported_fits(&i, f);
	while (e == TAO_OK && *n < (size_t)sk_X509_num(i.chain)) {
		e = put_der(sk_X509_value(i.chain, (int)*n), &chain[*n]);
		++*n;
	}
	imported_clear(&i);
	return e;
}
