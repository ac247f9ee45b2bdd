#include "cert.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define DNS_MAX 64       /* names in one request, as the host takes */
#define PART_MAX 256     /* bytes of one part of a subject */

enum { OPT_SUBJECT = 1, OPT_DNS, OPT_USER, OPT_OUT };

static const struct option options[] = {
	{ "subject", required_argument, NULL, OPT_SUBJECT },
	{ "dns", required_argument, NULL, OPT_DNS },
	{ "user", required_argument, NULL, OPT_USER },
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

/* Up to the next '/' or the first '=' that no backslash precedes; where it ended, NULL if it is too
 * long. */
static const char *part(const char *at, const char *stop, char out[PART_MAX])
{
	size_t n = 0;

	while (*at != 0 && strchr(stop, *at) == NULL) {
		if (*at == '\\' && at[1] != 0)
			at++;
		if (n + 1 >= PART_MAX)
			return NULL;
		out[n++] = *at++;
	}
	out[n] = 0;
	return at;
}

/* "/C=DE/O=Example/CN=www.example.org", as openssl req -subj has it. */
static enum tao_err parse_subject(const char *text, X509_NAME *name)
{
	char type[PART_MAX], value[PART_MAX];
	const char *at = text;

	if (*at != '/')
		return tao_fail(TAO_EINVAL, "a subject is written as "
		                "/C=DE/O=Example/CN=www.example.org");
	while (*at == '/') {
		at = part(at + 1, "=/", type);
		if (at == NULL || *at != '=')
			return tao_fail(TAO_EINVAL, "in the subject, %.100s has no value: write "
			                "/CN=VALUE", text);
		at = part(at + 1, "/", value);
		if (at == NULL)
			return tao_fail(TAO_ELIMIT, "a value in a subject has less than %d bytes",
			                PART_MAX);
		if (*value != 0 && X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8,
		                                              (unsigned char *)value, -1, -1,
		                                              0) != 1) {
			ERR_clear_error();
			return tao_fail(TAO_EINVAL, "no subject has %.60s=%.100s", type, value);
		}
	}
	return TAO_OK;
}

/* The first DNS name, if no subject was given; a common name has at most 64 characters. */
static enum tao_err make_subject(const char *text, char **dns, size_t n, struct tao_buf *der)
{
	X509_NAME *name = X509_NAME_new();
	unsigned char *p = NULL;
	int len;
	enum tao_err e = name != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK && text != NULL)
		e = parse_subject(text, name);
	else if (e == TAO_OK && n > 0 && strlen(dns[0]) <= 64 &&
	         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (unsigned char *)dns[0], -1,
	                                    -1, 0) != 1)
		e = tao_fail_crypto("writing the subject");
	len = e == TAO_OK ? i2d_X509_NAME(name, &p) : 0;
	if (len > 0)
		tao_buf_put(der, p, (size_t)len);
	OPENSSL_free(p);
	X509_NAME_free(name);
	return e == TAO_OK ? tao_buf_err(der) : e;
}

static enum tao_err put_pem(const char *file, const ProtobufCBinaryData *der)
{
	BIO *bio = BIO_new(BIO_s_mem());
	enum tao_err e = TAO_OK;
	char *text;
	long n;

	if (bio == NULL ||
	    PEM_write_bio(bio, PEM_STRING_X509_REQ, "", der->data, (long)der->len) <= 0) {
		e = tao_fail_crypto("writing the request");
	} else {
		n = BIO_get_mem_data(bio, &text);
		e = cmd_output(file, text, (size_t)n, 0644);
	}
	BIO_free(bio);
	return e;
}

static enum tao_err ask_and_put(struct cmd_env *env, Tao__CertRequest *rq, const char *subject,
                                const char *out)
{
	struct tao_buf der = TAO_BUF_INIT;
	Tao__KeyResponse *rs = NULL;
	enum tao_err e = make_subject(subject, rq->dns, rq->n_dns, &der);

	rq->has_subject = 1;
	rq->subject.data = der.p;
	rq->subject.len = der.n;
	if (e == TAO_OK)
		e = cmd_ask(env, "Host.RequestCert", &rq->base, -1, &tao__key_response__descriptor,
		            (ProtobufCMessage **)&rs);
	if (e == TAO_OK && !rs->has_request)
		e = tao_fail(TAO_EPROTO, "the host sent no request: restart it with 'tao down' and "
		             "'tao up'");
	if (e == TAO_OK)
		e = put_pem(out, &rs->request);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	tao_buf_free(&der);
	return e;
}

int cmd_cert_request(struct cmd_env *env, int argc, char **argv)
{
	Tao__CertRequest rq = TAO__CERT_REQUEST__INIT;
	const char *subject = NULL, *out = NULL;
	char *dns[DNS_MAX];
	int c;

	rq.dns = dns;
	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_SUBJECT)
			subject = optarg;
		else if (c == OPT_OUT)
			out = optarg;
		else if (c == OPT_USER && cmd_user_find(optarg, &rq.uid) != TAO_OK)
			return cmd_failed(env);
		else if (c == OPT_DNS && rq.n_dns == DNS_MAX)
			return cmd_usage(env, "at most %d DNS names", DNS_MAX);
		else if (c == OPT_DNS)
			dns[rq.n_dns++] = optarg;
		rq.has_uid |= c == OPT_USER;
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give one key's name");
	if (subject == NULL && rq.n_dns == 0)
		return cmd_usage(env, "say for what it is: --dns www.example.org, or --subject "
		                 "/CN=...");
	rq.name = argv[optind];
	return ask_and_put(env, &rq, subject, out) == TAO_OK ? 0 : cmd_failed(env);
}
