/* Policy domains as tao/tao.h shows them to C programs. */
#include "../tao/tao.h"
#include "domain.h"
#include "fact.h"

/* struct tao_domain is struct domain under its public name. */
static struct domain *in(struct tao_domain *d)
{
	return (struct domain *)d;
}

enum tao_err tao_domain_create(const char *dir, const char *name, const void *pass, size_t pass_n)
{
	return domain_create(dir, name, pass, pass_n);
}

enum tao_err tao_domain_load(const char *dir, const void *pass, size_t pass_n,
                             struct tao_domain **out)
{
	struct domain *d = NULL;
	enum tao_err e = domain_load(dir, pass, pass_n, &d);

	*out = (struct tao_domain *)d;
	return e;
}

void tao_domain_free(struct tao_domain *d)
{
	domain_free(in(d));
}

const uint8_t *tao_domain_id(const struct tao_domain *d)
{
	return domain_id((const struct domain *)d);
}

enum tao_err tao_domain_certificate(struct tao_domain *d, struct tao_buf *der)
{
	return domain_policy_cert(in(d), der);
}

enum tao_err tao_domain_add_fact(struct tao_domain *d, const char *fact)
{
	return domain_add_fact(in(d), fact);
}

enum tao_err tao_domain_remove_fact(struct tao_domain *d, const char *fact)
{
	return domain_remove_fact(in(d), fact);
}

uint64_t tao_domain_version(struct tao_domain *d)
{
	return domain_rules_version(in(d));
}

enum tao_err tao_domain_facts(struct tao_domain *d, void (*each)(const char *fact, void *arg),
                              void *arg)
{
	uint64_t version;
	char date[32];

	return domain_rules(in(d), &version, date, each, arg);
}

enum tao_err tao_domain_trusts(struct tao_domain *d, const struct tao_node *program)
{
	struct fact_program p;
	struct tao_node *host = NULL;
	enum tao_err e = fact_program(program, domain_id(in(d)), &p);

	if (e == TAO_OK && (host = tao_prin_prefix(program, p.n_host)) == NULL)
		e = tao_fail_nomem();
	if (e == TAO_OK)
		e = domain_trusts_host(in(d), host);
	if (e == TAO_OK)
		e = domain_trusts_program(in(d), program);
	fact_program_clear(&p);
	tao_node_free(host);
	return e;
}
