/* TAO-RAND and TAO-SECRET, with hosts of every kind. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>

#include "badhost.h"
#include "tao.pb-c.h"

#define SOCK "byname.sock"

/* ---- hosts ---- */

struct asked {
	char op[64], label[300], policy[32];
	int size, has_label, has_policy;
};

static struct asked asked; /* the request that came last */
static int too_many;       /* bytes more than were asked for; < 0: none at all */

static void note(const struct tao_rpc_msg *m)
{
	Tao__RPCRequest *rq = tao__rpcrequest__unpack(NULL, m->body_n, m->body);

	memset(&asked, 0, sizeof asked);
	snprintf(asked.op, sizeof asked.op, "%s", m->op);
	if (rq == NULL)
		return;
	asked.size = rq->size;
	asked.has_label = rq->label != NULL;
	asked.has_policy = rq->policy != NULL;
	snprintf(asked.label, sizeof asked.label, "%s", rq->label != NULL ? rq->label : "");
	snprintf(asked.policy, sizeof asked.policy, "%s", rq->policy != NULL ? rq->policy : "");
	tao__rpcrequest__free_unpacked(rq, NULL);
}

static int gives(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	Tao__RPCResponse rs = TAO__RPCRESPONSE__INIT;
	uint8_t data[8192], body[8300];

	if (strcmp(m->op, "Tao.Hello") == 0 || strcmp(m->op, "Tao.Prove") == 0)
		return badhost_good(h, fd, m);
	note(m);
	memset(data, 0x5a, sizeof data);
	rs.has_data = too_many >= 0;
	rs.data.data = data;
	rs.data.len = too_many >= 0 ? (size_t)(asked.size + too_many) : 0;
	return badhost_reply(fd, m, body, tao__rpcresponse__pack(&rs, body));
}

static int gives_less(struct badhost *h, int fd, const struct tao_rpc_msg *m)
{
	Tao__RPCResponse rs = TAO__RPCRESPONSE__INIT;
	uint8_t body[64];

	if (strcmp(m->op, "Tao.Hello") == 0 || strcmp(m->op, "Tao.Prove") == 0)
		return badhost_good(h, fd, m);
	rs.has_data = 1;
	rs.data.data = (uint8_t *)"short";
	rs.data.len = 5;
	return badhost_reply(fd, m, body, tao__rpcresponse__pack(&rs, body));
}

/* ---- contexts ---- */

struct fix {
	OSSL_LIB_CTX *ctx;
	OSSL_PROVIDER *dflt, *tao;
};

static void setup(struct fix *f, const char *seed)
{
	const char *build = getenv("TAO_BUILD");
	char dir[4096];

	snprintf(dir, sizeof dir, "%s/modules", build != NULL ? build : ".");
	f->ctx = OSSL_LIB_CTX_new();
	OSSL_PROVIDER_set_default_search_path(f->ctx, dir);
	f->dflt = OSSL_PROVIDER_load(f->ctx, "default");
	f->tao = OSSL_PROVIDER_load(f->ctx, "tao");
	if (f->ctx == NULL || f->dflt == NULL || f->tao == NULL) {
		printf("Bail out! tao.so does not load from %s\n", dir);
		exit(1);
	}
	if (seed != NULL && !RAND_set_seed_source_type(f->ctx, seed, NULL))
		ok(0, "the seed source can be chosen");
	ERR_clear_error();
}

static void teardown(struct fix *f)
{
	OSSL_PROVIDER_unload(f->tao);
	OSSL_PROVIDER_unload(f->dflt);
	OSSL_LIB_CTX_free(f->ctx);
	ERR_clear_error();
}

/* Some error has this in its reason or data; empties the queue. */
static int told(const char *text)
{
	const char *data;
	unsigned long e;
	int flags, found = 0;

	while ((e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		const char *s = ERR_reason_error_string(e);

		found = found || (s != NULL && strstr(s, text) != NULL) ||
		        ((flags & ERR_TXT_STRING) && strstr(data, text) != NULL);
		if (getenv("TAO_KEEP") != NULL)
			printf("# %s: %s\n", s != NULL ? s : "?",
			       flags & ERR_TXT_STRING ? data : "");
	}
	return found;
}

/* ---- TAO-RAND ---- */

static void nobody_is_asked(struct badhost *h)
{
	struct fix f;
	uint8_t b[32];
	int before = atomic_load(&h->requests);

	setup(&f, NULL);
	ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) == 1 && RAND_priv_bytes_ex(f.ctx, b, sizeof b, 0) == 1,
	   "who does not name TAO-RAND has random numbers");
	ok(atomic_load(&h->requests) == before, "and asks no host for them");
	teardown(&f);
}

static int child_draws(struct fix *f, uint8_t out[32])
{
	int fds[2], status = 1;
	pid_t pid;

	if (pipe(fds) != 0)
		return 0;
	pid = fork();
	if (pid == 0) {
		uint8_t b[32];
		int good = RAND_bytes_ex(f->ctx, b, sizeof b, 0) == 1 &&
		           write(fds[1], b, sizeof b) == (ssize_t)sizeof b;

		_exit(good ? 0 : told("not running") ? 3 : 4);
	}
	close(fds[1]);
	if (read(fds[0], out, 32) != 32)
		memset(out, 0, 32);
	close(fds[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void seeds(struct badhost *h, struct fix *f)
{
	uint8_t a[32], b[32], c[32];
	int before = atomic_load(&h->requests), after;

	ok(RAND_bytes_ex(f->ctx, a, sizeof a, 0) == 1, "random bytes, seeded by the host");
	after = atomic_load(&h->requests);
	ok(after > before && strcmp(asked.op, "Tao.GetRandomBytes") == 0 && asked.size >= 32,
	   "which was asked for %d", asked.size);
	for (int i = 0; i < 1000; i++)
		RAND_bytes_ex(f->ctx, b, sizeof b, 0);
	ok(atomic_load(&h->requests) == after && memcmp(a, b, sizeof a) != 0,
	   "once: the generator is OpenSSL's");
	ok(child_draws(f, b) == 0 && atomic_load(&h->requests) > after, "a child seeds anew");
	ok(child_draws(f, c) == 0 && memcmp(b, c, sizeof b) != 0,
	   "and another one gets other bytes");
	ok(RAND_bytes_ex(f->ctx, a, sizeof a, 0) == 1 && memcmp(a, b, sizeof a) != 0,
	   "so does their parent");
}

static int source_bytes(struct fix *f, uint8_t *out, size_t n, unsigned strength)
{
	EVP_RAND *r = EVP_RAND_fetch(f->ctx, "TAO-RAND", NULL);
	EVP_RAND_CTX *c = EVP_RAND_CTX_new(r, NULL);
	int good = c != NULL && EVP_RAND_instantiate(c, strength, 0, NULL, 0, NULL) == 1 &&
	           EVP_RAND_get_strength(c) == 256 && EVP_RAND_get_state(c) == EVP_RAND_STATE_READY &&
	           EVP_RAND_generate(c, out, n, strength, 0, NULL, 0) == 1;

	EVP_RAND_CTX_free(c);
	EVP_RAND_free(r);
	return good;
}

static void source(struct fix *f)
{
	static uint8_t a[10000], b[10000], fives[32];

	ok(source_bytes(f, a, sizeof a, 256) && source_bytes(f, b, sizeof b, 0) &&
	   memcmp(a, b, sizeof a) != 0, "bytes of the source itself, in pieces");
	memset(fives, 0x5a, sizeof fives);
	ok(memcmp(a, fives, 32) != 0, "a host that gives the same each time is mended by the "
	   "kernel");
	ok(!source_bytes(f, a, 32, 512), "it is not stronger than it is");
	ERR_clear_error();
}

static void as_generator(void)
{
	struct fix f;
	uint8_t b[32];

	setup(&f, NULL);
	RAND_set_DRBG_type(f.ctx, "TAO-RAND", NULL, NULL, NULL);
	ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) <= 0 && told("write 'seed = TAO-RAND'"),
	   "it is no generator, and says so");
	teardown(&f);
}

static void bad_hosts(void)
{
	static const struct {
		badhost_fn *behave;
		int too_many;
		const char *told, *name;
	} hosts[] = {
		{ gives_less, 0, "the number of bytes", "too few bytes" },
		{ gives, 1, "the number of bytes", "too many bytes" },
		{ gives, -1, "the number of bytes", "no bytes" },
		{ NULL, 0, "not running", "a host that hangs up" },
	};
	struct badhost h;
	struct fix f;
	uint8_t b[32];

	setup(&f, "TAO-RAND");
	ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) <= 0 && told("not running: start it with"),
	   "no host: no random bytes, and the sentence");
	ok(child_draws(&f, b) == 3, "in a child as well");
	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		too_many = hosts[i].too_many;
		badhost_start(&h, SOCK, -1, hosts[i].behave);
		ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) <= 0, "%s: no random bytes", hosts[i].name);
		ok(told(hosts[i].told), "and the sentence");
		badhost_stop(&h);
	}
	too_many = 0;
	badhost_start(&h, SOCK, -1, gives);
	ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) == 1, "a good host: the same program goes on");
	badhost_stop(&h);
	ok(RAND_bytes_ex(f.ctx, b, sizeof b, 0) == 1, "while it is down, from the seed of before");
	ok(child_draws(&f, b) == 3, "but a child, which needs one of its own, gets none");
	teardown(&f);
}

/* ---- TAO-SECRET ---- */

static int derive(struct fix *f, OSSL_PARAM params[], uint8_t *out, size_t n)
{
	EVP_KDF *k = EVP_KDF_fetch(f->ctx, "TAO-SECRET", NULL);
	EVP_KDF_CTX *c = EVP_KDF_CTX_new(k), *d = c != NULL ? EVP_KDF_CTX_dup(c) : NULL;
	int good = d != NULL && EVP_KDF_CTX_get_kdf_size(d) == SIZE_MAX &&
	           EVP_KDF_derive(d, out, n, params) == 1;

	EVP_KDF_CTX_free(c);
	EVP_KDF_CTX_free(d);
	EVP_KDF_free(k);
	return good;
}

#define OCTETS(name, s) OSSL_PARAM_construct_octet_string(name, (void *)(s), sizeof(s) - 1)
#define TEXT(name, s) OSSL_PARAM_construct_utf8_string(name, (char *)(s), 0)
#define PARAMS(...) (OSSL_PARAM[]){ __VA_ARGS__, OSSL_PARAM_END }

static void secrets(struct fix *f)
{
	uint8_t out[4096] = { 0 };

	ok(derive(f, PARAMS(OCTETS("label", "disk")), out, 32) && out[31] == 0x5a && out[32] == 0,
	   "a secret");
	ok(strcmp(asked.op, "Tao.GetSharedSecret") == 0 && strcmp(asked.label, "disk") == 0 &&
	   asked.size == 32 && !asked.has_policy, "the host is asked for just this one");
	ok(derive(f, PARAMS(TEXT("info", "d\xc3\xa9"), TEXT("policy", "host")), out, 4096) &&
	   strcmp(asked.label, "d\xc3\xa9") == 0 && strcmp(asked.policy, "host") == 0 &&
	   asked.size == 4096, "info and a policy; the longest");
	too_many = 1;
	memset(out, 7, sizeof out);
	ok(!derive(f, PARAMS(OCTETS("label", "disk")), out, 32) && told("the number of bytes") &&
	   out[0] == 0 && out[31] == 0, "what the host gives has the size, or is wiped");
	too_many = 0;
}

static void bad_secrets(struct badhost *h, struct fix *f)
{
	static char longest[258];
	int number = 7, before = atomic_load(&h->requests);
	uint8_t out[8192];

	memset(longest, 'x', sizeof longest - 1);
	ok(!derive(f, NULL, out, 32) && told("needs the parameter label"), "no parameters");
	ok(!derive(f, PARAMS(TEXT("policy", "host")), out, 32) && told("needs the parameter label"),
	   "no label");
	ok(!derive(f, PARAMS(OCTETS("label", "")), out, 32) &&
	   told("label has 1 to 256 bytes, not 0"),
	   "an empty label");
	ok(!derive(f, PARAMS(OSSL_PARAM_construct_octet_string("label", NULL, 5)), out, 32) &&
	   told("label has 1 to 256 bytes"), "a label without data");
	ok(!derive(f, PARAMS(TEXT("label", longest)), out, 32) && told("1 to 256 bytes, not 257"),
	   "a label that is too long");
	ok(!derive(f, PARAMS(OCTETS("label", "a\0b")), out, 32) && told("a NUL"),
	   "a NUL in a label");
	ok(!derive(f, PARAMS(OSSL_PARAM_construct_int("label", &number)), out, 32) &&
	   told("neither text nor octets"), "a number for a label");
	ok(!derive(f, PARAMS(OCTETS("label", "a"), OCTETS("info", "b")), out, 32) &&
	   told("give one of them"), "label and info");
	ok(!derive(f, PARAMS(OCTETS("label", "a"), TEXT("policy", "0123456789abcdefg")), out, 32) &&
	   told("policy has 1 to 15 bytes, not 17"), "a policy that is too long");
	ok(!derive(f, PARAMS(OCTETS("label", "a"), OSSL_PARAM_construct_int("policy", &number)),
	           out, 32) && told("neither text nor octets"), "a number for a policy");
	ok(!derive(f, PARAMS(OCTETS("label", "a")), out, 0) && told("1 to 4096 bytes, not 0"),
	   "no byte");
	ok(!derive(f, PARAMS(OCTETS("label", "a")), out, 4097) && told("1 to 4096 bytes, not 4097"),
	   "too many");
	ok(atomic_load(&h->requests) == before, "of all this the host heard nothing");
}

static void choose_socket(void)
{
	char cwd[80], path[sizeof cwd + sizeof "/" SOCK];

	if (getcwd(cwd, sizeof cwd) == NULL) {
		printf("Bail out! the path of this folder is too long\n");
		exit(1);
	}
	snprintf(path, sizeof path, "%s/" SOCK, cwd);
	unlink(path);
	setenv("TAO_SOCKET", path, 1);
}

int main(void)
{
	struct badhost h;
	struct fix f;

	choose_socket();
	bad_hosts();
	badhost_start(&h, SOCK, -1, gives);
	nobody_is_asked(&h);
	setup(&f, "TAO-RAND");
	seeds(&h, &f);
	source(&f);
	secrets(&f);
	bad_secrets(&h, &f);
	teardown(&f);
	as_generator();
	badhost_stop(&h);
	setup(&f, NULL);
	ok(!derive(&f, PARAMS(OCTETS("label", "a")), (uint8_t[32]){ 0 }, 32) && told("not running"),
	   "no host, no secret");
	teardown(&f);
	unlink(SOCK);
	return done();
}
