/* Records of the audit log: what parses lies within its bytes, says the same
 * when it is read again, and its texts can be unescaped. */
#include <stdlib.h>
#include <string.h>

#include "host/auditlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void check(const struct audit_record *r, const char *line, size_t n)
{
	uint64_t seq;

	must(r->n >= 4 && r->n <= AUDIT_MEMBERS_MAX && r->seq > 0);
	must(audit_number(audit_member(r, "seq"), &seq) == TAO_OK && seq == r->seq);
	for (size_t i = 0; i < r->n; i++) {
		const struct audit_member *m = &r->m[i];
		struct tao_buf b = TAO_BUF_INIT;

		must(m->key > line && m->key + m->key_n < m->value);
		must(m->value + m->n < line + n);
		audit_text(m, &b);
		must(b.err == TAO_OK && b.n <= m->n);
		tao_buf_free(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct audit_record r;
	char *line = malloc(size + 1); /* not terminated */

	if (line == NULL)
		return 0;
	memcpy(line, data, size);
	if (audit_parse(line, size, &r) == TAO_OK) {
		check(&r, line, size);
		must(size == 0 || audit_parse(line, size - 1, &r) != TAO_OK);
	}
	free(line);
	return 0;
}
