/* The guards that give one answer to everything. */
#include <stdio.h>

#include "guard.h"

/* The word is also what CloudProxy's TrivialGuard has in its name. */
static enum tao_err name(const char *word, struct tao_node **out)
{
	*out = tao_ext("TrivialGuard", 1, tao_term_str(word));
	return *out != NULL ? TAO_OK : tao_fail_nomem();
}

static enum tao_err liberal_name(struct tao_guard *g, struct tao_node **out)
{
	(void)g;
	return name("Liberal", out);
}

static enum tao_err conservative_name(struct tao_guard *g, struct tao_node **out)
{
	(void)g;
	return name("Conservative", out);
}

static enum tao_err liberal_ask(struct tao_guard *g, const struct tao_node *query,
                                const struct tao_endorsements *said, struct tao_decision *d)
{
	(void)g, (void)query, (void)said;
	d->yes = 1;
	snprintf(d->why, sizeof d->why, "the liberal guard allows everything");
	return TAO_OK;
}

static enum tao_err conservative_ask(struct tao_guard *g, const struct tao_node *query,
                                     const struct tao_endorsements *said, struct tao_decision *d)
{
	(void)g, (void)query, (void)said;
	snprintf(d->why, sizeof d->why,
	         "the conservative guard allows nothing: use a guard with "
	         "rules if something is to be allowed");
	return TAO_OK;
}

/* Allowing under the one, and forbidding under the other, is so already. */
static enum tao_err as_it_is(struct tao_guard *g, const struct tao_node *rule)
{
	(void)g, (void)rule;
	return TAO_OK;
}

static enum tao_err unchangeable(struct tao_guard *g, const struct tao_node *rule)
{
	(void)rule;
	return tao_fail(TAO_EINVAL, "%s cannot be changed: use a guard with rules", g->ops->kind);
}

static enum tao_err clear(struct tao_guard *g)
{
	(void)g;
	return TAO_OK;
}

static size_t count(const struct tao_guard *g)
{
	(void)g;
	return 0;
}

static const struct tao_guard_ops liberal_ops = {
	.kind = "a liberal guard",
	.subprincipal = liberal_name,
	.ask = liberal_ask,
	.add = as_it_is,
	.retract = unchangeable,
	.clear = clear,
	.count = count,
};

static const struct tao_guard_ops conservative_ops = {
	.kind = "a conservative guard",
	.subprincipal = conservative_name,
	.ask = conservative_ask,
	.add = unchangeable,
	.retract = as_it_is,
	.clear = clear,
	.count = count,
};

enum tao_err tao_guard_liberal(struct tao_guard **out)
{
	return tao_guard_new(&liberal_ops, sizeof **out, NULL, out);
}

enum tao_err tao_guard_conservative(struct tao_guard **out)
{
	return tao_guard_new(&conservative_ops, sizeof **out, NULL, out);
}
