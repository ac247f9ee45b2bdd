#include <string.h>
#include <strings.h>

#include "state.h"

/* One name of a rule against one that is looked for: "*." stands for one label. */
static int dns_matches(const char *rule, const char *name)
{
	if (rule[0] == '*' && rule[1] == '.') {
		size_t label = strcspn(name, ".");

		return label > 0 && name[label] == '.' && strcasecmp(rule + 1, name + label) == 0;
	}
	return strcasecmp(rule, name) == 0;
}

/* p: NULL: whichever program. */
static int serves(struct domain *d, const struct fact_program *p, const char *dns)
{
	size_t end, i = rules_range(&d->rules, "Serves", &end);

	for (; i < end; i++) {
		struct tao_node *const *arg = d->rules.fact[i].form->kid;

		if (dns_matches(arg[1]->text, dns) && (p == NULL || fact_means_program(arg[0], p)))
			return 1;
	}
	return 0;
}

int domain_knows_service(struct domain *d, const char *dns)
{
	int known;

	pthread_mutex_lock(&d->lock);
	known = serves(d, NULL, dns);
	pthread_mutex_unlock(&d->lock);
	return known;
}

enum tao_err domain_serves(struct domain *d, const struct tao_node *name, const char *dns)
{
	struct fact_program p;
	enum tao_err e = fact_program(name, d->id, &p);

	if (e == TAO_OK) {
		pthread_mutex_lock(&d->lock);
		if (!serves(d, &p, dns))
			e = tao_fail(TAO_EDENIED, "no rule says that this program serves %.253s: "
			             "the domain's owner can add one with 'tao trust PROGRAM "
			             "--serves %.253s'", dns, dns);
		pthread_mutex_unlock(&d->lock);
	}
	fact_program_clear(&p);
	return e;
}

int domain_has_connect(struct domain *d)
{
	size_t end, first;

	pthread_mutex_lock(&d->lock);
	first = rules_range(&d->rules, "Connect", &end);
	pthread_mutex_unlock(&d->lock);
	return first < end;
}

enum tao_err domain_not_revoked(struct domain *d, const struct tao_node *name,
                                const uint8_t *subject)
{
	struct fact_program p;
	enum tao_err e = fact_program(name, d->id, &p);

	if (e == TAO_OK) {
		pthread_mutex_lock(&d->lock);
		e = domain_check_revoked(d, &p, subject);
		pthread_mutex_unlock(&d->lock);
	}
	fact_program_clear(&p);
	return e;
}

static int may_connect(struct domain *d, const struct fact_program *c,
                       const struct fact_program *s)
{
	size_t end, i = rules_range(&d->rules, "Connect", &end);

	for (; i < end; i++) {
		struct tao_node *const *arg = d->rules.fact[i].form->kid;

		if (fact_means_program(arg[0], c) && fact_means_program(arg[1], s))
			return 1;
	}
	return 0;
}

static enum tao_err deny(void)
{
	return tao_fail(TAO_EDENIED, "no rule lets this client talk to this server: the domain's "
	                "owner can add one with 'tao connect CLIENT SERVER', for the users that "
	                "run them");
}

enum tao_err domain_may_connect(struct domain *d, const struct tao_node *client,
                                const struct tao_node *server)
{
	struct fact_program c = { 0 }, s = { 0 };
	enum tao_err e = fact_program(client, d->id, &c);

	if (e == TAO_OK)
		e = fact_program(server, d->id, &s);
	if (e == TAO_OK) {
		pthread_mutex_lock(&d->lock);
		e = domain_check_revoked(d, &c, NULL);
		if (e == TAO_OK)
			e = domain_check_revoked(d, &s, NULL);
		if (e == TAO_OK && !may_connect(d, &c, &s))
			e = deny();
		pthread_mutex_unlock(&d->lock);
	}
	fact_program_clear(&c);
	fact_program_clear(&s);
	return e;
}
