/* A fact's text: what is taken is canonical, and comes back as itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../domain/fact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A principal of the fact as a program's name, against the fact itself. */
static void match(const struct fact *f, const uint8_t *domain)
{
	for (size_t i = 0; i < f->form->n_kid; i++) {
		const struct tao_node *t = f->form->kid[i];
		struct fact_program p;

		if (t->tag != TAO_PRIN || fact_program(t, domain, &p) != TAO_OK)
			continue;
		if (!fact_means_program(t, &p) || !fact_covers_program(t, &p))
			abort();
		fact_program_clear(&p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t domain[TAO_HASH_LEN];
	struct fact f, again;

	memset(domain, 0xdd, sizeof domain);
	if (fact_parse((const char *)data, size, domain, &f) != TAO_OK)
		return 0;
	if (fact_parse(f.text, strlen(f.text), domain, &again) != TAO_OK)
		abort();
	if (strcmp(f.text, again.text) != 0 || !tao_node_equal(f.form, again.form))
		abort();
	if (strchr(f.text, '\n') != NULL || !fact_match(f.form, again.form))
		abort();
	match(&f, domain);
	fact_clear(&f);
	fact_clear(&again);
	return 0;
}
