#include "host.h"
#include "root.h"

static enum tao_err soft_load(struct host *h, const struct tao_buf *pass)
{
	enum tao_err e = root_load_keys(h, pass->p, pass->n);

	if (e != TAO_OK)
		return e;
	h->name = name_host(h->root, domain_id(h->domain));
	return h->name != NULL ? TAO_OK : tao_fail_nomem();
}

/* The name is known as soon as the keys are, so the domain trusts its host from the start. */
static enum tao_err soft_create(const struct host_conf *c, const char *domain_name,
                                const void *pass, size_t pass_n)
{
	struct tao_buf secret = { .p = (uint8_t *)pass, .n = pass_n };
	struct host h = { .conf = *c };
	enum tao_err e = root_make_keys(c, domain_name, pass, pass_n);

	if (e == TAO_OK)
		e = soft_load(&h, &secret);
	if (e == TAO_OK)
		e = root_trust_host(h.domain, h.name, 1);
	domain_free(h.domain);
	tao_node_free(h.name);
	sealing_end(&h);
	tao_sealer_clear(&h.sealer);
	tao_signer_clear(&h.signer);
	return e;
}

static enum tao_err soft_attest(struct host *h, const struct tao_node *issuer, int64_t from,
                                int64_t until, const struct tao_node *message, struct tao_buf *out)
{
	const struct tao_buf none = TAO_BUF_INIT;

	return root_attest(h, issuer, from, until, message, &none, out);
}

const struct host_root host_root_soft = {
	.name = "soft",
	.passphrase = 1,
	.create = soft_create,
	.load = soft_load,
	.attest = soft_attest,
};
