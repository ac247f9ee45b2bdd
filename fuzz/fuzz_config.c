/* CloudProxy's tao.config, as `tao compat import` reads it: every member is there, or none. */
#include <stdlib.h>

#include "cmd/compat_config.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tao_buf text = TAO_BUF_INIT;
	struct compat_config c;
	enum tao_err e;

	tao_buf_put(&text, data, size);
	e = compat_config(&text, &c);
	if (e == TAO_OK && (c.name == NULL || c.policy_keys_path == NULL || c.guard_type == NULL ||
	                    c.signed_acls_path == NULL || c.signed_rules_path == NULL))
		abort();
	compat_config_clear(&c);
	tao_buf_free(&text);
	return 0;
}
