/* Key shares of the groups of Tao channels, as a peer sends them, and the host's answers about
 * them: the first byte chooses which. */
#include <stdlib.h>
#include <string.h>

#include "../provider/group.c"
#include "../provider/reply.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	const uint8_t *p;
	size_t n;
} answer;

enum tao_err prov_call(struct prov *p, const char *op, const ProtobufCMessage *req,
                       struct tao_buf *reply)
{
	return prov_call_while(p, op, req, NULL, reply);
}

enum tao_err prov_call_while(struct prov *p, const char *op, const ProtobufCMessage *req,
                             struct tao_meanwhile *w, struct tao_buf *reply)
{
	(void)w;
	(void)p;
	(void)op;
	(void)req;
	tao_buf_put(reply, answer.p, answer.n);
	return tao_buf_err(reply);
}

int prov_reason(const struct prov *p, enum tao_err e)
{
	(void)p;
	return (int)e;
}

int prov_raise_at(struct prov *p, const char *file, int line, const char *func, int reason,
                  const char *fmt, ...)
{
	(void)p;
	(void)file;
	(void)line;
	(void)func;
	(void)reason;
	(void)fmt;
	return 0;
}

static void try_share(const struct group *g, int server)
{
	size_t pub_n = server ? g->server_public : g->client_public;
	struct share s;

	if (group_share(g, server, answer.p, answer.n, &s) != TAO_OK)
		return;
	if (answer.n != pub_n + GROUP_TAIL || s.pub != answer.p ||
	    answer.p[pub_n] != GROUP_FORMAT ||
	    s.id != answer.p + pub_n + 5 || s.nonce + GROUP_NONCE != answer.p + answer.n)
		abort();
}

/* Nonces: as many shares as a batch may have, and one more, which takes another batch. */
static void try_nonces(void)
{
	static struct prov p;
	uint8_t tail[GROUP_TAIL];

	for (int i = 0; i <= GROUP_BATCH; i++)
		if (group_tail(&p, tail) == TAO_OK && tail[0] != GROUP_FORMAT)
			abort();
	group_drop_nonces(&p);
}

static void try_salt(int server)
{
	static const uint8_t share[GROUP_SHARE_MAX];
	static struct prov p;
	uint8_t out[GROUP_SHARE_MAX], salt[MIX_SECRET];
	struct group_peer *peer = NULL;
	enum tao_err e = server ? group_ask_server(&p, &group_x25519, share, share, NULL, out, salt,
	                                           &peer)
	                        : group_ask_client(&p, &group_x25519, share, share, NULL, salt,
	                                           &peer);

	if ((e == TAO_OK) != (peer != NULL) || (peer != NULL && peer->n == 0))
		abort();
	group_peer_free(peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	answer.p = data + 1;
	answer.n = size - 1;
	if (data[0] < 4)
		try_share(data[0] & 2 ? &group_mlkem : &group_x25519, data[0] & 1);
	else if (data[0] == 4)
		try_nonces();
	else
		try_salt(data[0] == 5);
	return 0;
}
