#include "key.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

enum { OPT_PUBKEY = 1, OPT_OLD, OPT_USER };

static const struct option options[] = {
	{ "pubkey", no_argument, NULL, OPT_PUBKEY },
	{ "old", no_argument, NULL, OPT_OLD },
	{ "user", required_argument, NULL, OPT_USER },
	{ NULL, 0, NULL, 0 },
};

/* SubjectPublicKeyInfo as openssl itself writes it. */
static enum tao_err pubkey(const Tao__KeyInfo *k, struct tao_buf *pem)
{
	BIO *bio = BIO_new(BIO_s_mem());
	enum tao_err e = TAO_OK;
	char *text;
	long n;

	if (bio == NULL || PEM_write_bio(bio, PEM_STRING_PUBLIC, "", k->spki.data,
	                                 (long)k->spki.len) <= 0) {
		e = tao_fail_crypto("writing the public key");
	} else {
		n = BIO_get_mem_data(bio, &text);
		tao_buf_put(pem, text, (size_t)n);
		e = tao_buf_err(pem);
	}
	BIO_free(bio);
	return e;
}

static void hex_field(const char *name, const ProtobufCBinaryData *b)
{
	struct tao_buf hex = TAO_BUF_INIT;

	tao_buf_hex(&hex, b->data, b->len);
	cmd_field(name, tao_buf_cstr(&hex));
	tao_buf_free(&hex);
}

static void text(const Tao__KeyInfo *k)
{
	char user[CMD_USER_MAX], when[CMD_TIME_MAX], *cert = key_certificate(k);

	cmd_fieldf("key", "%s, in applications tao:%s", k->name, k->name);
	cmd_fieldf("type", "%s, %u bits", k->type, k->bits);
	cmd_field("purpose", k->purpose);
	cmd_field("custody", k->custody);
	cmd_field("policy", k->policy);
	cmd_field("origin", k->imported ? "imported: it was outside of the host once"
	                                : "made in the host");
	cmd_fieldf("generation", "%u%s", k->generation, k->has_old && k->generation > 1
	           ? "; the one before still works ('tao key delete --old' ends that)" : "");
	cmd_field("created", cmd_time(k->created, when));
	cmd_field("user", cmd_user_name(k->uid, user));
	cmd_field("program", k->program);
	if (k->has_program_hash)
		hex_field("executable", &k->program_hash);
	cmd_field("principal", k->principal);
	hex_field("key id", &k->key_id);
	hex_field("SPKI SHA-256", &k->spki_hash);
	if (k->has_retired)
		cmd_fieldf("epoch", "%u%s", k->epoch, k->retired ? ", which is retired" : "");
	cmd_field("stub", k->stub_path);
	cmd_field("certificate", k->cert_path);
	cmd_field("", cert);
	free(cert);
}

static int json(const struct cmd_env *env, const Tao__KeyInfo *k, struct tao_buf *pem)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	key_json(&j, k);
	tao_json_str(&j, "public_key", tao_buf_cstr(pem));
	tao_json_end(&j, '}');
	return cmd_put_json(env, &b);
}

static enum tao_err show(struct cmd_env *env, Tao__KeyRequest *rq, int only_public)
{
	struct tao_buf pem = TAO_BUF_INIT;
	Tao__KeyResponse *rs = NULL;
	enum tao_err e = cmd_ask(env, "Host.Key", &rq->base, -1, &tao__key_response__descriptor,
	                         (ProtobufCMessage **)&rs);

	if (e == TAO_OK && rs->info == NULL)
		e = tao_fail(TAO_EALTERED, "key %s does not open: %s", rq->name,
		             rs->notice != NULL ? rs->notice : "the host does not say why");
	if (e == TAO_OK)
		e = pubkey(rs->info, &pem);
	if (e == TAO_OK && env->json)
		json(env, rs->info, &pem);
	else if (e == TAO_OK && only_public)
		fwrite(pem.p, 1, pem.n, stdout);
	else if (e == TAO_OK)
		text(rs->info);
	tao_buf_free(&pem);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	return e;
}

int cmd_key_show(struct cmd_env *env, int argc, char **argv)
{
	Tao__KeyRequest rq = TAO__KEY_REQUEST__INIT;
	int c, only_public = 0;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		if (c == OPT_PUBKEY)
			only_public = 1;
		else if (c == OPT_OLD)
			rq.has_old = rq.old = 1;
		else if (cmd_user_find(optarg, &rq.uid) != TAO_OK)
			return cmd_failed(env);
		rq.has_uid |= c == OPT_USER;
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give one key's name");
	rq.name = argv[optind];
	return show(env, &rq, only_public) == TAO_OK ? 0 : cmd_failed(env);
}
