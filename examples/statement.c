/*
 * What a program can do with its Tao host: learn its name, keep a secret over
 * restarts, say something that others can verify.
 *
 *   cc statement.c -o statement $(pkg-config --cflags --libs libtao)
 *   tao run ./statement
 */
#include <stdio.h>
#include <stdlib.h>

#include <tao/tao.h>

static enum tao_err keep_secret(struct tao_parent *host)
{
	struct tao_buf sealed = TAO_BUF_INIT, secret = TAO_BUF_INIT;
	enum tao_err e = tao_parent_seal(host, "attack at dawn", 14, "program", &sealed);

	/* Here it would go to a file: only this program gets it back. */
	if (e == TAO_OK)
		e = tao_parent_unseal(host, sealed.p, sealed.n, &secret, NULL);
	if (e == TAO_OK)
		printf("%zu bytes sealed, and back: %s\n", sealed.n, tao_buf_cstr(&secret));
	tao_buf_free(&sealed);
	tao_buf_free(&secret);
	return e;
}

static enum tao_err make_statement(struct tao_parent *host, const struct tao_node *name)
{
	struct tao_node *message = tao_pred("Ready", 1, tao_term_int(1));
	struct tao_node *root = tao_prin_prefix(name, 0); /* the host's key */
	struct tao_buf att = TAO_BUF_INIT;
	struct tao_attested said = { 0 };
	char *text = NULL;
	enum tao_err e = tao_parent_attest(host, NULL, TAO_NOW, TAO_NOW, message, &att);

	/* And this is what its reader does, on another machine perhaps. */
	if (e == TAO_OK)
		e = tao_attestation_verify(att.p, att.n, TAO_NOW, root, &said);
	if (e == TAO_OK && tao_prin_covers(name, said.speaker))
		text = tao_node_text(said.message);
	if (text != NULL)
		printf("%zu bytes of attestation: the program says %s\n", att.n, text);
	free(text);
	tao_attested_clear(&said);
	tao_buf_free(&att);
	tao_node_free(root);
	tao_node_free(message);
	return e;
}

int main(void)
{
	struct tao_parent *host;
	struct tao_node *name = NULL;
	char *text = NULL;
	enum tao_err e = tao_parent_open(&host);

	if (e == TAO_OK)
		e = tao_parent_name(host, &name);
	if (e == TAO_OK && (text = tao_node_text(name)) != NULL)
		printf("I am %s\n", text);
	if (e == TAO_OK)
		e = keep_secret(host);
	if (e == TAO_OK)
		e = make_statement(host, name);
	if (e != TAO_OK)
		fprintf(stderr, "statement: %s\n", tao_why());
	free(text);
	tao_node_free(name);
	tao_parent_close(host);
	return e == TAO_OK ? 0 : 1;
}
