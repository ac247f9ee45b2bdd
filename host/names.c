#include "names.h"

#include <string.h>

struct tao_node *name_host(const uint8_t root[TAO_HASH_LEN], const uint8_t domain[TAO_HASH_LEN])
{
	struct tao_node *key = tao_prin_key(root), *name = name_guarded(key, domain);

	tao_node_free(key);
	return name;
}

struct tao_node *name_guarded(const struct tao_node *base, const uint8_t domain[TAO_HASH_LEN])
{
	return tao_prin_extend(base, tao_ext("DatalogGuard", 1, tao_prin_key(domain)));
}

int name_is_guard(const struct tao_node *ext, const uint8_t domain[TAO_HASH_LEN])
{
	const struct tao_node *key;

	if (strcmp(ext->text, "DatalogGuard") != 0 || ext->n_kid != 1)
		return 0;
	key = ext->kid[0];
	return key->tag == TAO_PRIN && strcmp(key->text, "key") == 0 && key->n_kid == 1 &&
	       key->kid[0]->tag == TAO_BYTES && key->kid[0]->len == TAO_HASH_LEN &&
	       (domain == NULL || memcmp(key->kid[0]->text, domain, TAO_HASH_LEN) == 0);
}

/* host.ext.PolicyKey([domain]); takes ext. */
static struct tao_node *name_in_domain(const struct tao_node *host, struct tao_node *ext,
                                       const uint8_t domain[TAO_HASH_LEN])
{
	struct tao_node *measured = tao_prin_extend(host, ext), *name;

	name = measured == NULL ? NULL
	       : tao_prin_extend(measured, tao_ext("PolicyKey", 1,
	                                           tao_term_bytes(domain, TAO_HASH_LEN)));
	tao_node_free(measured);
	return name;
}

struct tao_node *name_program(const struct tao_node *host, const struct measurement *m, uid_t uid,
                              int program_only, const uint8_t domain[TAO_HASH_LEN])
{
	struct tao_node *ext;

	if (program_only)
		ext = tao_ext("Program", 1, tao_term_bytes(m->exe, sizeof m->exe));
	else
		ext = tao_ext("Measured", 3, tao_term_bytes(m->exe, sizeof m->exe),
		              tao_term_bytes(m->manifest, sizeof m->manifest),
		              tao_term_int((int64_t)uid));
	return name_in_domain(host, ext, domain);
}

struct tao_node *name_process(const struct tao_node *host, const uint8_t exe[TAO_HASH_LEN],
                              uid_t uid, const char *unit, const uint8_t domain[TAO_HASH_LEN])
{
	return name_in_domain(host,
	                      tao_ext("Process", 3, tao_term_bytes(exe, TAO_HASH_LEN),
	                              tao_term_int((int64_t)uid), tao_term_str(unit)),
	                      domain);
}

int name_is_host_word(const char *word)
{
	static const char *const words[] = {
		"Program", "Measured", "Process", "PolicyKey", "DatalogGuard", "ACLGuard",
		"TrivialGuard", "CachedGuard", "Container", "CoreOS", "LinuxHost", "CustomVM",
		"PCRs",
	};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(word, words[i]) == 0)
			return 1;
	return 0;
}
