#include "cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "../tao/key.h"

enum { OPT_PEM = 1, OPT_USER };

static const struct option options[] = {
	{ "pem", no_argument, NULL, OPT_PEM },
	{ "user", required_argument, NULL, OPT_USER },
	{ NULL, 0, NULL, 0 },
};

/* A certificate, read. The strings are owned. */
struct cert {
	X509 *x;
	char *principal, *subject, *issuer, *serial;
	GENERAL_NAMES *names;
	time_t from, until;
	int imported;   /* it is another authority's */
	size_t n_above; /* certificates of its chain */
	uint8_t key[TAO_HASH_LEN];
};

static void cert_clear(struct cert *c)
{
	X509_free(c->x);
	GENERAL_NAMES_free(c->names);
	free(c->principal);
	free(c->subject);
	free(c->issuer);
	OPENSSL_free(c->serial);
}

static char *name_text(const X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *p, *text = NULL;
	long n;
	unsigned long flags = XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;

	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, flags) >= 0) {
		n = BIO_get_mem_data(bio, &p);
		text = strndup(p, (size_t)n);
	}
	BIO_free(bio);
	return text;
}

/* The principal is the subject's OU. */
static char *unit_of(const X509_NAME *name)
{
	int i = X509_NAME_get_index_by_NID(name, NID_organizationalUnitName, -1);
	const X509_NAME_ENTRY *entry = i >= 0 ? X509_NAME_get_entry(name, i) : NULL;
	unsigned char *s = NULL;
	char *text = NULL;

	if (entry != NULL && ASN1_STRING_to_UTF8(&s, X509_NAME_ENTRY_get_data(entry)) >= 0)
		text = strdup((char *)s);
	OPENSSL_free(s);
	return text;
}

static time_t time_of(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
}

static enum tao_err cert_read(const Tao__KeyResponse *rs, struct cert *c)
{
	const ProtobufCBinaryData *der = &rs->chain[0];
	const unsigned char *p = der->data;
	BIGNUM *serial = NULL;

	c->x = d2i_X509(NULL, &p, (long)der->len);
	if (c->x == NULL || p != der->data + der->len)
		return tao_fail_crypto("the certificate that the host sent is not readable; "
		                       "start the program again with 'tao run' for a new one");
	c->imported = rs->has_cert_imported && rs->cert_imported;
	c->n_above = rs->n_chain - 1;
	if (!c->imported)
		c->principal = unit_of(X509_get_subject_name(c->x));
	c->subject = name_text(X509_get_subject_name(c->x));
	c->issuer = name_text(X509_get_issuer_name(c->x));
	serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(c->x), NULL);
	c->serial = serial != NULL ? BN_bn2hex(serial) : NULL;
	BN_free(serial);
	c->names = X509_get_ext_d2i(c->x, NID_subject_alt_name, NULL, NULL);
	c->from = time_of(X509_get0_notBefore(c->x));
	c->until = time_of(X509_get0_notAfter(c->x));
	return tao_key_hash(X509_get0_pubkey(c->x), c->key);
}

/* The i-th alternative name of this type, or NULL; malloc'ed. */
static char *alt_name(const struct cert *c, int i, int type)
{
	const GENERAL_NAME *g = sk_GENERAL_NAME_value(c->names, i);
	const ASN1_IA5STRING *s;

	if (g->type != type)
		return NULL;
	s = type == GEN_DNS ? g->d.dNSName : g->d.uniformResourceIdentifier;
	return strndup((const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

static void each_name(const struct cert *c, int type, void (*put)(void *arg, const char *name),
                      void *arg)
{
	for (int i = 0; c->names != NULL && i < sk_GENERAL_NAME_num(c->names); i++) {
		char *name = alt_name(c, i, type);

		if (name != NULL)
			put(arg, name);
		free(name);
	}
}

static void put_field(void *arg, const char *name)
{
	cmd_field(arg, name);
}

static void put_element(void *arg, const char *name)
{
	tao_json_str(arg, NULL, name);
}

static const char *state_of(const struct cert *c)
{
	time_t now = time(NULL);

	return now > c->until ? "expired" : now < c->from ? "not valid yet" : "valid";
}

static void put_end(const struct cert *c)
{
	char left[CMD_TIME_MAX];

	if (c->imported && cert_ends(c->from, c->until) == CMD_WARNING)
		cmd_fieldf("warning", "it ends in %s, and the host cannot renew it",
		           cmd_duration(c->until - time(NULL), left));
}

static void put_text(const struct cert *c, const char *path)
{
	struct tao_buf hex = TAO_BUF_INIT;
	char from[CMD_TIME_MAX], until[CMD_TIME_MAX];

	tao_buf_hex(&hex, c->key, sizeof c->key);
	cmd_field("certificate", path);
	cmd_field("origin", c->imported ? "imported" : "the domain");
	cmd_field("principal", c->principal);
	each_name(c, GEN_DNS, put_field, "DNS name");
	each_name(c, GEN_URI, put_field, "URI");
	cmd_field("subject", c->subject);
	cmd_field("issuer", c->issuer);
	cmd_fieldf("validity", "%s, from %s until %s", state_of(c), cmd_time(c->from, from),
	           cmd_time(c->until, until));
	cmd_field("renewal", c->imported ? "yours: 'tao cert import' takes the next one"
	                                 : "the host's, while the program runs");
	if (c->imported)
		cmd_fieldf("chain", "%zu above it", c->n_above);
	cmd_field("serial", c->serial);
	cmd_fieldf("public key", "SHA-256 %s", tao_buf_cstr(&hex));
	put_end(c);
	tao_buf_free(&hex);
}

static void put_json(const struct cmd_env *env, const struct cert *c, const char *path)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "certificate", path);
	tao_json_bool(&j, "imported", c->imported);
	tao_json_int(&j, "chain", (int64_t)c->n_above);
	tao_json_str(&j, "principal", c->principal);
	tao_json_begin(&j, "dns_names", '[');
	each_name(c, GEN_DNS, put_element, &j);
	tao_json_end(&j, ']');
	tao_json_begin(&j, "uris", '[');
	each_name(c, GEN_URI, put_element, &j);
	tao_json_end(&j, ']');
	tao_json_str(&j, "subject", c->subject);
	tao_json_str(&j, "issuer", c->issuer);
	tao_json_str(&j, "state", state_of(c));
	tao_json_int(&j, "not_before", c->from);
	tao_json_int(&j, "not_after", c->until);
	tao_json_bool(&j, "ends_soon", c->imported && cert_ends(c->from, c->until) == CMD_WARNING);
	tao_json_str(&j, "serial", c->serial);
	tao_json_hex(&j, "spki_hash", c->key, sizeof c->key);
	tao_json_end(&j, '}');
	cmd_put_json(env, &b);
}

static void put_pem(const Tao__KeyResponse *rs)
{
	for (size_t i = 0; i < rs->n_chain; i++)
		PEM_write(stdout, PEM_STRING_X509, "", rs->chain[i].data, (long)rs->chain[i].len);
}

enum tao_err cert_print(const struct cmd_env *env, const char *name, const Tao__KeyResponse *rs,
                        int pem)
{
	struct cert c = { 0 };
	enum tao_err e;

	if (rs->n_chain == 0)
		return tao_fail(TAO_ENOTFOUND, "key %s has no certificate yet: it is made when the "
		                "key's program runs under 'tao run', if 'tao trust PROGRAM' was "
		                "said", name);
	e = cert_read(rs, &c);
	if (e == TAO_OK) {
		if (pem)
			put_pem(rs);
		else if (env->json)
			put_json(env, &c, rs->cert_path);
		else
			put_text(&c, rs->cert_path);
		if (time(NULL) > c.until && c.imported)
			e = tao_fail(TAO_EEXPIRED, "the certificate that was imported for key %s "
			             "has expired: the host cannot renew it; make a request with "
			             "'tao cert request %s', and import what the CA answers", name,
			             name);
		else if (time(NULL) > c.until)
			e = tao_fail(TAO_EEXPIRED, "the certificate of key %s has expired: start "
			             "its program again with 'tao run' for a new one", name);
	}
	cert_clear(&c);
	return e;
}

int cmd_cert_show(struct cmd_env *env, int argc, char **argv)
{
	Tao__KeyRequest rq = TAO__KEY_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;
	int c, pem = 0;
	enum tao_err e;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		pem |= c == OPT_PEM;
		if (c == OPT_USER && cmd_user_find(optarg, &rq.uid) != TAO_OK)
			return cmd_failed(env);
		rq.has_uid |= c == OPT_USER;
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give one key's name");
	rq.name = argv[optind];
	e = cmd_ask(env, "Host.Cert", &rq.base, -1, &tao__key_response__descriptor,
	            (ProtobufCMessage **)&rs);
	if (e == TAO_OK)
		e = cert_print(env, argv[optind], rs, pem);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
