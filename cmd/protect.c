#include "cmd.h"

#include <string.h>

#include <openssl/crypto.h>

#include "../tao/file.h"

#define KEY_LEN         96    /* AES-256 and HMAC-SHA-512 (tao_key_protect) */
#define MAX_SEALED_KEY  65536 /* bytes of a key file */
#define PROTECTED_EXTRA 80    /* MAC and IV */
#define KEY_MODE        0600  /* sealed, but nobody else has use for it */
#define DATA_MODE       0600

enum { OPT_KEY = 1, OPT_POLICY, OPT_OUT, OPT_UNDO };

static const struct option options[] = {
	{ "key", required_argument, NULL, OPT_KEY },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "out", required_argument, NULL, OPT_OUT },
	{ "undo", no_argument, NULL, OPT_UNDO },
	{ NULL, 0, NULL, 0 },
};

struct wanted {
	const char *key, *policy, *out, *file;
	int undo;
};

static int parse(struct cmd_env *env, int argc, char **argv, struct wanted *w)
{
	int c;

	while ((c = cmd_option(env, argc, argv, options)) != CMD_END) {
		if (c == CMD_STOP)
			return 0;
		if (c == OPT_UNDO)
			w->undo = 1;
		else
			*(c == OPT_KEY ? &w->key : c == OPT_POLICY ? &w->policy : &w->out) = optarg;
	}
	w->file = argv[optind];
	if (w->key != NULL && argc - optind <= 1)
		return 1;
	env->status = w->key == NULL ? cmd_usage(env, "say where the sealed key is: --key FILE")
	                             : cmd_usage(env, "give one file, or none for standard input");
	return 0;
}

/* ---- the key: random bytes of the host, in a file only as the host sealed them ---- */

static enum tao_err key_make(struct tao_parent *p, const struct wanted *w, struct tao_buf *key)
{
	struct tao_buf blob = TAO_BUF_INIT;
	uint8_t *room = tao_buf_room(key, KEY_LEN);
	enum tao_err e = room != NULL ? tao_parent_random(p, room, KEY_LEN) : tao_buf_err(key);

	if (e == TAO_OK)
		e = tao_parent_seal(p, key->p, key->n, w->policy, &blob);
	if (e == TAO_OK)
		e = tao_file_write(w->key, blob.p, blob.n, KEY_MODE, TAO_FILE_NEW);
	tao_buf_free(&blob);
	return e;
}

static enum tao_err key_get(struct tao_parent *p, const struct wanted *w, struct tao_buf *key)
{
	struct tao_buf blob = TAO_BUF_INIT;
	enum tao_err e = tao_file_read(w->key, MAX_SEALED_KEY, &blob);

	if (e == TAO_ENOTFOUND && !w->undo) {
		tao_buf_free(&blob);
		return key_make(p, w, key);
	}
	if (e == TAO_OK)
		e = tao_parent_unseal(p, blob.p, blob.n, key, NULL);
	if (e == TAO_OK && key->n != KEY_LEN)
		e = tao_fail(TAO_EFORMAT, "%s holds sealed data, but no key of 'tao protect'",
		             w->key);
	tao_buf_free(&blob);
	return e;
}

static enum tao_err protect(struct cmd_env *env, const struct wanted *w)
{
	struct tao_buf in = TAO_BUF_INIT, key = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct tao_parent *p = NULL;
	enum tao_err e = cmd_input(w->file, TAO_CRYPT_MAX + (w->undo ? PROTECTED_EXTRA : 0), &in);

	if (e == TAO_OK)
		e = cmd_parent(env, &p);
	if (e == TAO_OK)
		e = key_get(p, w, &key);
	if (e == TAO_OK)
		e = (w->undo ? tao_key_unprotect : tao_key_protect)(key.p, key.n, in.p, in.n, &out);
	if (e == TAO_OK)
		e = cmd_output(w->out, out.p, out.n, DATA_MODE);
	tao_parent_close(p);
	tao_buf_free(&in);
	tao_buf_free(&key);
	tao_buf_free(&out);
	return e;
}

int cmd_protect(struct cmd_env *env, int argc, char **argv)
{
	struct wanted w = { NULL, NULL, NULL, NULL, 0 };

	if (!parse(env, argc, argv, &w))
		return env->status;
	return protect(env, &w) == TAO_OK ? 0 : cmd_failed(env);
}
