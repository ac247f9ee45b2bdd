#include "root.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "counter.h"
#include "host.h"
#include "../tao/attest.h"

static const struct host_root *const roots[] = { &host_root_soft, &host_root_parent };

const struct host_root *host_root_find(const char *name)
{
	for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++)
		if (strcmp(roots[i]->name, name) == 0)
			return roots[i];
	return NULL;
}

enum tao_err root_trust_host(struct domain *d, const struct tao_node *host, int trust)
{
	struct tao_node *fact = tao_pred("TrustedHost", 1, tao_node_dup(host));
	char *text = fact != NULL ? tao_node_text(fact) : NULL;
	enum tao_err e;

	if (text == NULL)
		e = tao_fail_nomem();
	else
		e = trust ? domain_add_fact(d, text) : domain_remove_fact(d, text);
	tao_node_free(fact);
	free(text);
	return e == TAO_EEXIST || e == TAO_ENOTFOUND ? TAO_OK : e;
}

enum tao_err root_make_keys(const struct host_conf *c, const char *domain_name, const void *pass,
                            size_t pass_n)
{
	struct tao_keyset ks = { 0 };
	char *key = host_path(c, "host/root.key"), *dir = host_path(c, "domain");
	char *counters = host_path(c, "host/counters");
	enum tao_err e = key != NULL && dir != NULL && counters != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_keyset_generate(&ks);
	if (e == TAO_OK)
		e = tao_keyset_save(key, &ks, pass, pass_n);
	if (e == TAO_OK)
		e = counters_create(counters, &ks);
	if (e == TAO_OK)
		e = domain_create(dir, domain_name, pass, pass_n);
	if (e == TAO_OK && chmod(dir, 0700) != 0)
		e = tao_fail_sys("permissions of %s", dir);
	tao_keyset_clear(&ks);
	free(key);
	free(dir);
	free(counters);
	return e;
}

enum tao_err root_attest(struct host *h, const struct tao_node *issuer, int64_t from, int64_t until,
                         const struct tao_node *message, const struct tao_buf *delegation,
                         struct tao_buf *out)
{
	EVP_PKEY *key = NULL;
	enum tao_err e = tao_signer_open(&h->signer, &key);

	if (e == TAO_OK)
		e = tao_attest(key, issuer, from, until, message, delegation->p, delegation->n,
		               out);
	EVP_PKEY_free(key);
	return e;
}

enum tao_err root_load_keys(struct host *h, const void *pass, size_t pass_n)
{
	char *key = host_path(&h->conf, "host/root.key"), *dir = host_path(&h->conf, "domain");
	struct tao_keyset ks = { 0 };
	enum tao_err e = key != NULL && dir != NULL ? TAO_OK : tao_fail_nomem();

	if (e == TAO_OK)
		e = tao_keyset_load(key, pass, pass_n, &ks);
	if (e == TAO_OK)
		e = tao_sealer_init(&h->sealer, &ks);
	if (e == TAO_OK)
		e = shared_secrets_init(h, &ks);
	if (e == TAO_OK)
		e = tao_signer_init(&h->signer, ks.signer);
	if (e == TAO_OK)
		e = tao_key_hash(h->signer.public, h->root);
	if (e == TAO_OK)
		e = domain_load(dir, pass, pass_n, &h->domain);
	tao_keyset_clear(&ks);
	free(key);
	free(dir);
	return e;
}
