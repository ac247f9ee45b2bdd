/* First step of reading a TAO PRIVATE KEY file: PEM to DER. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>

#include "store.h"

#define LINE_MAX_BYTES 256                   /* as libcrypto's own reader */
#define BLOCK_MAX (2 * TAO_STUB_MAX + 1024)  /* bytes of a stub's PEM block */
#define BEGIN "-----BEGIN "
#define END "-----END "
#define TAIL "-----"
#define BOM "\xef\xbb\xbf"                   /* that some editors begin a file with */

static OSSL_FUNC_decoder_newctx_fn pem_newctx;
static OSSL_FUNC_decoder_freectx_fn pem_freectx;
static OSSL_FUNC_decoder_decode_fn pem_decode;

static void *pem_newctx(void *provctx)
{
	return provctx; /* nothing to remember between blocks */
}

static void pem_freectx(void *ctx)
{
	(void)ctx;
}

/* One line without its end; longer ones come in pieces, of which only the
 * first has *start set. 0 at the end of the input. */
static int next_line(const struct prov *p, OSSL_CORE_BIO *in, char *line, int *start)
{
	int n = p->bio_gets(in, line, LINE_MAX_BYTES);
	int was_whole;

	if (n <= 0)
		return 0;
	was_whole = memchr(line, '\n', (size_t)n) != NULL;
	while (n > 0 && (unsigned char)line[n - 1] <= ' ')
		n--;
	line[n] = 0;
	*start = was_whole;
	return 1;
}

/* The label of a "-----BEGIN LABEL-----" line, in place; NULL if it is none. */
static char *label_of(char *line, const char *mark)
{
	size_t n = strlen(line), mark_n = strlen(mark), tail_n = strlen(TAIL);

	if (n < mark_n + tail_n || strncmp(line, mark, mark_n) != 0 ||
	    strcmp(line + n - tail_n, TAIL) != 0)
		return NULL;
	line[n - tail_n] = 0;
	return line + mark_n;
}

/* Skips to the next BEGIN line and says whether it is a stub's; 0 at the end of the input. */
static int find_begin(const struct prov *p, OSSL_CORE_BIO *in, int *ours)
{
	char line[LINE_MAX_BYTES];
	int start = 1, first = 1;

	for (;; first = 0) {
		int at_start = start;
		char *label, *text = line;

		if (!next_line(p, in, line, &start))
			return 0;
		if (first && strncmp(line, BOM, strlen(BOM)) == 0)
			text += strlen(BOM);
		label = at_start ? label_of(text, BEGIN) : NULL;
		if (label == NULL)
			continue;
		*ours = strcmp(label, TAO_STUB_PEM) == 0;
		return 1;
	}
}

/* Reads to the next END line, whosever it is, as libcrypto's reader does: who
 * goes on reading then finds the next block. 1 if it was the stub's. */
static int read_to_end(const struct prov *p, OSSL_CORE_BIO *in, struct tao_buf *pem, int keep)
{
	char line[LINE_MAX_BYTES];
	int start = 1;

	for (;;) {
		int at_start = start;

		if (!next_line(p, in, line, &start))
			return 0;
		if (keep) {
			tao_buf_str(pem, line);
			tao_buf_u8(pem, '\n');
		}
		if (at_start && strncmp(line, END, strlen(END)) == 0)
			return strcmp(line, END TAO_STUB_PEM TAIL) == 0;
	}
}

/* The DER in the block, and that it is a stub's of a key that is known here: what the next decoder
 * says of it may be lost (decode_der.c). */
static enum tao_err block_to_der(struct prov *p, const struct tao_buf *pem, int whole,
                                 struct tao_buf *der)
{
	struct opaque *k;
	enum tao_err e;

	if (!whole)
		return tao_fail(TAO_EFORMAT, "the " TAO_STUB_PEM " block is cut off before its END "
		                "line: write the file again with 'tao key pem'");
	if (pem->err != TAO_OK)
		return tao_fail(TAO_ELIMIT, "the " TAO_STUB_PEM " block is longer than %d bytes: "
		                "write the file again with 'tao key pem'", BLOCK_MAX);
	e = tao_stub_from_pem((const char *)pem->p, pem->n, der);
	if (e == TAO_OK)
		e = opaque_from_stub(p, der->p, der->n, &k);
	if (e == TAO_OK)
		opaque_free(k);
	return e;
}

static int give_der(const struct tao_buf *der, OSSL_CALLBACK *cb, void *cbarg)
{
	int type = OSSL_OBJECT_PKEY;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
		OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE,
		                                 PROV_STRUCTURE, 0),
		OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, der->p, der->n),
		OSSL_PARAM_construct_end(),
	};

	return cb(params, cbarg);
}

/* Others' blocks are left to others, without a word: libcrypto's reader tries
 * the next block only if nobody raised an error. */
static int pem_decode(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *cbarg,
                      OSSL_PASSPHRASE_CALLBACK *pw_cb, void *pw_cbarg)
{
	struct prov *p = ctx;
	struct tao_buf pem = TAO_BUF_INIT, der = TAO_BUF_INIT;
	int ours, whole, r = 1;
	enum tao_err e;

	(void)selection;
	(void)pw_cb;
	(void)pw_cbarg;
	pem.max = BLOCK_MAX;
	if (!find_begin(p, in, &ours))
		return 1;
	tao_buf_str(&pem, BEGIN TAO_STUB_PEM TAIL "\n");
	whole = read_to_end(p, in, &pem, ours);
	if (ours) {
		e = block_to_der(p, &pem, whole, &der);
		r = e == TAO_OK ? give_der(&der, cb, cbarg) : prov_raise(p, e);
	}
	tao_buf_free(&pem);
	tao_buf_free(&der);
	return r;
}

const OSSL_DISPATCH prov_pem_decoder[] = {
	{ OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))pem_newctx },
	{ OSSL_FUNC_DECODER_FREECTX, (void (*)(void))pem_freectx },
	{ OSSL_FUNC_DECODER_DECODE, (void (*)(void))pem_decode },
	{ 0, NULL }
};
