#include "cert.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* tao cert import, tao cert remove */

#define FILE_MAX (1u << 20) /* bytes of one file of certificates */
#define CERTS_MAX 32        /* certificates given at once, as the host takes */

static const struct option options[] = {
	{ "user", required_argument, NULL, 1 },
	{ NULL, 0, NULL, 0 },
};

/* Returns 1 when all is there; else 0 with env->status. */
static int parse(struct cmd_env *env, int argc, char **argv, Tao__CertRequest *rq)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (cmd_user_find(optarg, &rq->uid) != TAO_OK)
			return env->status = cmd_failed(env), 0;
		rq->has_uid = 1;
	}
	if (optind < argc)
		rq->name = argv[optind];
	return 1;
}

/* ---- import ---- */

static int is_certificate(const char *name)
{
	return strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0;
}

static enum tao_err nothing_in(const char *file, const struct tao_buf *text)
{
	const unsigned char *p = text->p;
	X509 *x = d2i_X509(NULL, &p, (long)text->n);

	X509_free(x);
	ERR_clear_error();
	if (x != NULL)
		return tao_fail(TAO_EFORMAT, "%s is a certificate in DER: write it as PEM with "
		                "'openssl x509 -inform DER -in %s'", file, file);
	if (memmem(text->p, text->n, "BEGIN PKCS7", 11) != NULL)
		return tao_fail(TAO_EFORMAT, "%s holds PKCS#7: write its certificates as PEM with "
		                "'openssl pkcs7 -print_certs -in %s'", file, file);
	return tao_fail(TAO_EFORMAT, "%s holds no certificate in PEM", file);
}

/* The certificates of a PEM file; whatever else is in it does not leave this process. */
static enum tao_err take_certificates(const char *file, const struct tao_buf *text,
                                      ProtobufCBinaryData *certs, size_t *n)
{
	BIO *bio = BIO_new_mem_buf(text->p, (int)text->n);
	char *name = NULL, *header = NULL;
	unsigned char *der = NULL;
	size_t before = *n;
	long len;
	enum tao_err e = TAO_OK;

	while (bio != NULL && e == TAO_OK && PEM_read_bio(bio, &name, &header, &der, &len) == 1) {
		if (!is_certificate(name)) {
			OPENSSL_clear_free(der, (size_t)len);
		} else if (*n == CERTS_MAX) {
			e = tao_fail(TAO_ELIMIT, "%s: more than %d certificates", file, CERTS_MAX);
			OPENSSL_free(der);
		} else {
			certs[*n].data = der;
			certs[(*n)++].len = (size_t)len;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
	}
	if (e == TAO_OK && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		e = tao_fail(TAO_EFORMAT, "%s is damaged: its PEM does not read", file);
	ERR_clear_error();
	BIO_free(bio);
	return e == TAO_OK && *n == before ? nothing_in(file, text) : e;
}

static enum tao_err read_file(const char *file, ProtobufCBinaryData *certs, size_t *n)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = cmd_input(file, FILE_MAX, &text);

	if (e == TAO_OK)
		e = take_certificates(file, &text, certs, n);
	tao_buf_free(&text);
	return e;
}

int cmd_cert_import(struct cmd_env *env, int argc, char **argv)
{
	Tao__CertRequest rq = TAO__CERT_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;
	ProtobufCBinaryData certs[CERTS_MAX];
	enum tao_err e = TAO_OK;

	if (!parse(env, argc, argv, &rq))
		return env->status;
	if (argc - optind < 2)
		return cmd_usage(env, "give a key's name and the files of its certificates");
	rq.chain = certs;
	for (int i = optind + 1; e == TAO_OK && i < argc; i++)
		e = read_file(argv[i], certs, &rq.n_chain);
	if (e == TAO_OK)
		e = cmd_ask(env, "Host.ImportCert", &rq.base, -1, &tao__key_response__descriptor,
		            (ProtobufCMessage **)&rs);
	if (e == TAO_OK)
		e = cert_print(env, rq.name, rs, 0);
	for (size_t i = 0; i < rq.n_chain; i++)
		OPENSSL_free(certs[i].data);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	return e == TAO_OK ? 0 : cmd_failed(env);
}

/* ---- remove ---- */

int cmd_cert_remove(struct cmd_env *env, int argc, char **argv)
{
	Tao__CertRequest rq = TAO__CERT_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;

	if (!parse(env, argc, argv, &rq))
		return env->status;
	if (argc - optind != 1)
		return cmd_usage(env, "give one key's name");
	if (cmd_ask(env, "Host.RemoveCert", &rq.base, -1, &tao__key_response__descriptor,
	            (ProtobufCMessage **)&rs) != TAO_OK)
		return cmd_failed(env);
	tao__key_response__free_unpacked(rs, NULL);
	return 0;
}
