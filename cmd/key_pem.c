#include "cmd.h"

#include <stdio.h>

#include "../tao/file.h"
#include "../tao/stub.h"
#include "tao.pb-c.h"

enum { OPT_OUT = 1 };

static const struct option options[] = {
	{ "out", required_argument, NULL, OPT_OUT },
	{ NULL, 0, NULL, 0 },
};

static enum tao_err fetch(struct cmd_env *env, char *name, struct tao_buf *pem)
{
	Tao__KeyRequest rq = TAO__KEY_REQUEST__INIT;
	Tao__KeyResponse *rs = NULL;
	enum tao_err e;

	rq.name = name;
	e = cmd_ask(env, "Host.Key", &rq.base, -1, &tao__key_response__descriptor,
	            (ProtobufCMessage **)&rs);
	if (e == TAO_OK && !rs->has_stub)
		e = tao_fail(TAO_EPROTO, "the host sent no stub for key %s: "
		             "check with 'tao doctor' that tao and taod are of one version", name);
	if (e == TAO_OK)
		e = tao_stub_to_pem(rs->stub.data, rs->stub.len, pem);
	if (rs != NULL)
		tao__key_response__free_unpacked(rs, NULL);
	return e;
}

static enum tao_err put(const struct cmd_env *env, const char *name, const char *out,
                        struct tao_buf *pem)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_json j;

	/* Sealed, and so no secret: everybody may read it. */
	if (out != NULL)
		return tao_file_write(out, pem->p, pem->n, 0644, 0);
	if (!env->json) {
		fwrite(pem->p, 1, pem->n, stdout);
		return TAO_OK;
	}
	tao_json_open(&j, &b);
	tao_json_begin(&j, NULL, '{');
	tao_json_str(&j, "name", name);
	tao_json_str(&j, "pem", tao_buf_cstr(pem));
	tao_json_end(&j, '}');
	cmd_put_json(env, &b);
	return TAO_OK;
}

int cmd_key_pem(struct cmd_env *env, int argc, char **argv)
{
	struct tao_buf pem = TAO_BUF_INIT;
	const char *out = NULL;
	enum tao_err e;
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return env->status;
		out = optarg;
	}
	if (argc - optind != 1)
		return cmd_usage(env, "give one key's name");
	e = fetch(env, argv[optind], &pem);
	if (e == TAO_OK)
		e = put(env, argv[optind], out, &pem);
	tao_buf_free(&pem);
	return e == TAO_OK ? 0 : cmd_failed(env);
}
