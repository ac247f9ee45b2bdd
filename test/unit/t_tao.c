/* tao.h: what is refused before a host is asked, no host, and domains. */
#include <limits.h>
#include <unistd.h>

#include "tap.h"

#include "../../tao/tao.h"

static char dir[] = "/tmp/tao-t-XXXXXX";

static void opening(void)
{
	char longest[120];
	struct tao_parent *p;

	memset(longest, 'x', sizeof longest - 1);
	longest[0] = '/';
	longest[sizeof longest - 1] = 0;
	ok_err(tao_parent_open_at(NULL, 0, &p), TAO_EINVAL, "no socket");
	ok_err(tao_parent_open_at("run/tao.sock", 0, &p), TAO_EINVAL, "a relative path");
	ok_err(tao_parent_open_at(longest, 0, &p), TAO_EINVAL, "a path too long for a socket");
	ok_err(tao_parent_open_at("/x", -1, &p), TAO_EINVAL, "a deadline in the past");
	ok(p == NULL, "nothing is made");
	setenv("TAO_SOCKET", "here", 1);
	ok_err(tao_parent_open(&p), TAO_EINVAL, "TAO_SOCKET that cannot be one");
	setenv("TAO_SOCKET", "", 1);
	ok_err(tao_parent_open(&p), TAO_OK, "an empty TAO_SOCKET is none");
	tao_parent_close(p);
	tao_parent_close(NULL);
}

/* Nobody listens, so whatever is sent fails with TAO_ENOHOST. */
static void limits(struct tao_parent *p)
{
	static uint8_t big[TAO_PARENT_RANDOM_MAX + 1];
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_node *name, *str = tao_term_str("x");
	char label[TAO_PARENT_LABEL_MAX + 2];
	struct tao_sealing how = { .policy = "host" };
	int64_t counter;

	memset(label, 'l', sizeof label - 1);
	label[sizeof label - 1] = 0;
	ok_err(tao_parent_name(p, &name), TAO_ENOHOST, "no host");
	ok(name == NULL && strstr(tao_why(), "tao up") != NULL, "it says what to do: %s",
	   tao_why());
	ok_err(tao_parent_extend(p, NULL), TAO_EINVAL, "extending by nothing");
	ok_err(tao_parent_extend(p, str), TAO_EINVAL, "or by a string");
	ok_err(tao_parent_attest(p, NULL, TAO_NOW, TAO_NOW, NULL, &b), TAO_EINVAL, "no statement");
	ok_err(tao_parent_random(p, big, 0), TAO_ELIMIT, "no random bytes");
	ok_err(tao_parent_random(p, big, TAO_PARENT_RANDOM_MAX + 1), TAO_ELIMIT, "too many");
	ok_err(tao_parent_random(p, big, TAO_PARENT_RANDOM_MAX), TAO_ENOHOST,
	       "as many as there may be");
	ok_err(tao_parent_seal(p, big, TAO_PARENT_SEAL_MAX + 1, NULL, &b), TAO_ELIMIT,
	       "too much to seal");
	ok_err(tao_parent_seal(p, big, TAO_PARENT_SEAL_MAX, NULL, &b), TAO_ENOHOST, "just enough");
	ok_err(tao_parent_seal(p, big, 1, label, &b), TAO_EINVAL, "no policy");
	ok_err(tao_parent_unseal(p, big, 2 * TAO_PARENT_SEAL_MAX, &b, NULL), TAO_ELIMIT,
	       "too much to unseal");
	ok_err(tao_parent_shared_secret(p, NULL, big, 0), TAO_ELIMIT, "no secret");
	ok_err(tao_parent_shared_secret(p, NULL, big, TAO_PARENT_SECRET_MAX + 1), TAO_ELIMIT,
	       "too long a secret");
	ok_err(tao_parent_init_counter(p, label, 1), TAO_EINVAL, "a label too long");
	ok_err(tao_parent_get_counter(p, "", &counter), TAO_EINVAL, "an empty label");
	ok_err(tao_parent_rollback_seal(p, NULL, "x", 1, NULL, &b), TAO_EINVAL, "no label");
	ok_err(tao_parent_seal(p, big, 0, NULL, &b), TAO_EINVAL, "nothing to seal");
	ok_err(tao_parent_shared_secret_as(p, "host", label, big, 1), TAO_EINVAL,
	       "a secret with a label too long");
	how.label = label;
	ok_err(tao_parent_seal_as(p, "x", 1, &how, &b, NULL), TAO_EINVAL, "the same for data");
	how.label = NULL;
	ok_err(tao_parent_rollback_seal_as(p, "x", 1, &how, &b, NULL), TAO_EINVAL,
	       "no counter without a label");
	ok_err(tao_parent_rollback_prepare(p, "x", 1, &how, &b, &counter), TAO_EINVAL, "nor later");
	ok_err(tao_parent_seal_as(p, "x", 1, &how, &b, NULL), TAO_ENOHOST, "data without one");
	ok_err(tao_parent_unseal_as(p, "x", 1, NULL, &b, NULL), TAO_ENOHOST, "and back");
	label[TAO_PARENT_LABEL_MAX] = 0;
	ok_err(tao_parent_init_counter(p, label, 1), TAO_ENOHOST, "the longest label");
	ok(b.n == 0, "nothing was appended");
	tao_node_free(str);
	tao_buf_free(&b);
}

/* ---- domains ---- */

static void join(const char *fact, void *arg)
{
	tao_buf_fmt(arg, "%s;", fact);
}

static struct tao_node *program_of(const struct tao_domain *d, const char *host)
{
	char text[512];
	struct tao_buf id = TAO_BUF_INIT;
	struct tao_node *n = NULL;

	tao_buf_hex(&id, tao_domain_id(d), TAO_HASH_LEN);
	snprintf(text, sizeof text,
	         "key([%s]).DatalogGuard(key([%s])).Measured([%s], [%s], 0).PolicyKey([%s])", host,
	         tao_buf_cstr(&id), host, host, tao_buf_cstr(&id));
	ok_err(tao_prin_parse(text, strlen(text), &n), TAO_OK, "a program's name");
	tao_buf_free(&id);
	return n;
}

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void rules(struct tao_domain *d)
{
	struct tao_buf facts = TAO_BUF_INIT;
	struct tao_node *program = program_of(d, HASH), *host = tao_prin_prefix(program, 1);
	char *host_text = tao_node_text(host), fact[512];
	uint64_t version = tao_domain_version(d);

	ok_err(tao_domain_add_fact(d, "TrustedProgram([" HASH "])"), TAO_OK,
	       "a program is trusted");
	ok_err(tao_domain_trusts(d, program), TAO_EDENIED, "but not its host");
	snprintf(fact, sizeof fact, "TrustedHost(%s)", host_text);
	ok_err(tao_domain_add_fact(d, fact), TAO_OK, "a host is trusted");
	ok_err(tao_domain_trusts(d, program), TAO_OK, "and so is the program on it");
	ok(tao_domain_version(d) == version + 2, "each change is a version");
	ok_err(tao_domain_add_fact(d, fact), TAO_EEXIST, "twice is once");
	ok_err(tao_domain_facts(d, join, &facts), TAO_OK, "facts");
	ok(strstr(tao_buf_cstr(&facts), fact) != NULL, "are listed");
	ok_err(tao_domain_remove_fact(d, "TrustedProgram([" HASH "])"), TAO_OK,
	       "one is taken back");
	ok_err(tao_domain_remove_fact(d, "TrustedProgram([" HASH "])"), TAO_ENOTFOUND, "once");
	ok_err(tao_domain_trusts(d, program), TAO_EDENIED, "and counts no more");
	free(host_text);
	tao_node_free(host);
	tao_node_free(program);
	tao_buf_free(&facts);
}

static void domains(void)
{
	char path[64];
	struct tao_buf der = TAO_BUF_INIT;
	struct tao_domain *d;

	snprintf(path, sizeof path, "%s/domain", dir);
	ok_err(tao_domain_load(path, "pass", 4, &d), TAO_ENOTFOUND, "no domain");
	ok_err(tao_domain_create(path, "", "pass", 4), TAO_EINVAL, "a domain without a name");
	ok_err(tao_domain_create(path, "Example", "pass", 4), TAO_OK, "a domain is made");
	ok_err(tao_domain_create(path, "Example", "pass", 4), TAO_EEXIST, "not twice");
	ok_err(tao_domain_load(path, "past", 4, &d), TAO_EPASS, "a wrong passphrase");
	ok(d == NULL, "gives none");
	ok_err(tao_domain_load(path, "pass", 4, &d), TAO_OK, "the right one");
	ok(tao_domain_certificate(d, &der) == TAO_OK && der.n > 100 && der.p[0] == 0x30,
	   "its certificate");
	rules(d);
	tao_domain_free(d);
	tao_domain_free(NULL);
	tao_buf_free(&der);
}

int main(void)
{
	char path[64], cmd[96];
	struct tao_parent *p;

	if (mkdtemp(dir) == NULL)
		return 1;
	unsetenv("TAO_DOOR");
	opening();
	snprintf(path, sizeof path, "%s/sock", dir);
	ok_err(tao_parent_open_at(path, 1000, &p), TAO_OK, "a socket where no host is");
	limits(p);
	tao_parent_close(p);
	domains();
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	if (system(cmd) != 0)
		printf("# %s is left\n", dir);
	return done();
}
