/* Custody: sealed keys are made, opened, refused and used as their stubs and policies say. */
#include <ftw.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "../../host/host.h"
#include "../../host/sealedkey.h"
#include "../../tao/file.h"
#include "../../tao/stub.h"
#include "tao.pb-c.h"
#include "tap.h"

#define PASS "correct horse", 13
#define UID 4711
#define SIGNERS 8
#define SIGNATURES 200
#define KEYS_OVER_CACHE 1100 /* the cache holds 1024 */

static const uint8_t exe_a[TAO_HASH_LEN] = { 0xaa }, exe_b[TAO_HASH_LEN] = { 0xbb };

/* ---- a host without its processes ---- */

static void make_host(struct host *h, const char *dir)
{
	struct tao_keyset ks = { 0 };
	char sub[300];

	memset(h, 0, sizeof *h);
	h->conf.max_instances = h->conf.max_instances_per_user = 100;
	snprintf(sub, sizeof sub, "%s/domain", dir);
	if (tao_keyset_generate(&ks) != TAO_OK ||
	    tao_sealer_init(&h->sealer, &ks) != TAO_OK ||
	    tao_signer_init(&h->signer, ks.signer) != TAO_OK ||
	    tao_key_hash(h->signer.public, h->root) != TAO_OK ||
	    (access(sub, F_OK) != 0 && domain_create(sub, "Example", PASS) != TAO_OK) ||
	    domain_load(sub, PASS, &h->domain) != TAO_OK) {
		printf("Bail out! no host: %s\n", tao_why());
		exit(1);
	}
	tao_keyset_clear(&ks);
	h->name = name_host(h->root, domain_id(h->domain));
	h->conf.dir = (char *)dir;
	h->conf.max_keys = 100;
	snprintf(sub, sizeof sub, "%s/keys", dir);
	tao_dir_make(sub, 0755);
	h->registry = registry_new(&h->conf);
	h->custody = custody_new();
}

static void free_host(struct host *h)
{
	registry_free(h->registry);
	custody_free(h->custody);
	domain_free(h->domain);
	tao_node_free(h->name);
	tao_sealer_clear(&h->sealer);
	tao_signer_clear(&h->signer);
}

static struct instance *instance_of(struct host *h, const uint8_t *exe, uid_t uid, uint8_t manifest)
{
	static pid_t pid = 1000000;
	struct measurement m = { .copy_fd = -1 };
	struct registration g = { .m = &m, .uid = uid, .pid = pid++, .start = 1,
		                  .program = "/usr/bin/example" };
	struct instance *i = NULL;

	memcpy(m.exe, exe, sizeof m.exe);
	m.manifest[0] = manifest;
	if (registry_add(h->registry, &g, name_program(h->name, &m, uid, 0, domain_id(h->domain)),
	                 &i) != TAO_OK) {
		printf("Bail out! no instance: %s\n", tao_why());
		exit(1);
	}
	return i;
}

static struct tao_buf new_stub(struct host *h, const struct key_spec *s)
{
	struct tao_buf stub = TAO_BUF_INIT;

	if (custody_generate(h, s, &stub) != TAO_OK) {
		printf("Bail out! no key: %s\n", tao_why());
		exit(1);
	}
	return stub;
}

static struct tao_buf plain_stub(struct host *h, const char *name)
{
	struct key_spec s = { .name = name, .uid = UID, .exe = exe_a, .program = "/usr/bin/a" };

	return new_stub(h, &s);
}

static enum tao_err sign_digest(struct host *h, struct held_key *k, const char *digest,
                                const void *data, size_t n, struct tao_buf *sig)
{
	struct sign_how how = { .digest = digest };

	return custody_sign(h, k, &how, data, n, sig);
}

/* ---- making ---- */

static void check_specs(void)
{
	static const struct {
		struct key_spec s;
		enum tao_err want;
	} cases[] = {
		{ { .name = "k" }, TAO_OK },
		{ { .name = "k", .type = "p256", .purpose = "tls", .custody = "host", .policy = "exact" },
		  TAO_OK },
		{ { .name = "k", .purpose = "sign", .policy = "host" }, TAO_OK },
		{ { .name = "k", .type = "rsa2048", .purpose = "decrypt" }, TAO_OK },
		{ { .name = "k", .type = "p521", .purpose = "tls13", .custody = "program" }, TAO_OK },
		{ { .name = "k", .type = "rsa-pss-2048", .pss_digest = "SHA384" }, TAO_OK },
		{ { .name = "k", .type = "rsa-pss-2048", .pss_digest = "MD5" }, TAO_EINVAL },
		{ { .name = "k", .type = "rsa-pss-2048", .pss_salt_len = 65 }, TAO_EINVAL },
		{ { .name = "k", .type = "rsa2048", .pss_digest = "SHA384" }, TAO_EINVAL },
		{ { .name = "k", .type = "rsa2048", .pss_salt_len = 20 }, TAO_EINVAL },
		{ { .name = "k", .type = "p256", .pss_salt_len = -1 }, TAO_OK },
		{ { .name = "k", .type = "rsa1024" }, TAO_EINVAL },
		{ { .name = "k", .type = "" }, TAO_EINVAL },
		{ { .name = "k", .purpose = "tls12" }, TAO_EINVAL },
		{ { .name = "k", .custody = "nobody" }, TAO_EINVAL },
		{ { .name = "k", .type = "x25519", .purpose = "decrypt" }, TAO_OK },
		{ { .name = "k", .type = "x25519", .purpose = "tls" }, TAO_EINVAL },
		{ { .name = "k", .type = "x25519", .purpose = "sign" }, TAO_EINVAL },
		{ { .name = "k", .type = "ed25519", .purpose = "decrypt" }, TAO_EINVAL },
		{ { .name = "k", .type = "rsa-pss-2048", .purpose = "decrypt" }, TAO_EINVAL },
		{ { .name = "k", .policy = "everybody" }, TAO_EINVAL },
		{ { .name = "ca" }, TAO_EINVAL },
		{ { .name = "" }, TAO_EINVAL },
		{ { .name = "../k" }, TAO_EINVAL },
		{ { .name = ".k" }, TAO_EINVAL },
		{ { .name = "a/b" }, TAO_EINVAL },
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		ok_err(custody_check_spec(&cases[i].s), cases[i].want, "specification %zu (%s)", i,
		       cases[i].s.name);
}

static void check_facts(struct host *h)
{
	struct key_spec s = { .name = "web", .purpose = "tls", .policy = "program", .uid = UID,
	                      .exe = exe_a, .program = "/usr/sbin/nginx" };
	struct tao_buf stub = new_stub(h, &s);
	struct held_key *k = NULL, *again = NULL;
	struct key_facts f;
	uint8_t hash[TAO_HASH_LEN];
	struct tao_stub st;

	ok_err(custody_open(h, stub.p, stub.n, &k), TAO_OK, "a new key opens");
	held_key_facts(k, &f);
	ok_str(f.name, "web", "its name");
	ok_str(f.purpose, "tls", "its purpose");
	ok_str(f.policy, "program", "its policy");
	ok_str(f.type, "p256", "its type");
	ok_str(f.custody, "host", "its custody");
	ok_str(f.program, "/usr/sbin/nginx", "its program");
	ok(f.uid == UID && f.exe != NULL && memcmp(f.exe, exe_a, TAO_HASH_LEN) == 0,
	   "for whom it is");
	ok(tao_stub_parse(stub.p, stub.n, &st) == TAO_OK && st.spki_n == f.spki_n &&
	   memcmp(st.spki, f.spki, f.spki_n) == 0, "its public key is the stub's");
	ok(tao_sha256(stub.p, stub.n, hash) == TAO_OK &&
	   memcmp(hash, held_key_id(k), TAO_HASH_LEN) == 0, "its id is the stub's hash");
	ok(custody_find(h, hash, sizeof hash, &again) == TAO_OK && again == k,
	   "it is found by its id");
	held_key_release(again);
	again = NULL;
	ok_err(custody_find(h, hash, 31, &again), TAO_EINVAL, "but not by a shorter one");
	hash[31] ^= 1;
	ok_err(custody_find(h, hash, sizeof hash, &again), TAO_EUNKNOWNKEY, "nor by another");
	ok(again == NULL, "and nothing is given out");
	held_key_release(k);
	tao_buf_free(&stub);
}

/* ---- altered stubs ---- */

static void check_every_byte(struct host *h)
{
	struct tao_buf stub = plain_stub(h, "flip");
	size_t opened = 0, told = 0, outside = 0;
	struct held_key *k;
	struct tao_stub st;

	tao_stub_parse(stub.p, stub.n, &st);
	for (size_t i = 0; i < stub.n; i++) {
		for (int bit = 0; bit < 8; bit += 7) {
			enum tao_err e;

			stub.p[i] ^= (uint8_t)(1 << bit);
			k = NULL;
			e = custody_open(h, stub.p, stub.n, &k);
			opened += e == TAO_OK || k != NULL;
			told += e == TAO_EALTERED;
			outside += e != TAO_OK && e != TAO_EALTERED && e != TAO_EFORMAT && e != TAO_EVERSION &&
			           e != TAO_EOTHERHOST && e != TAO_ELIMIT;
			held_key_release(k);
			stub.p[i] ^= (uint8_t)(1 << bit);
		}
	}
	ok(opened == 0, "of %zu stubs with one bit flipped none opens", 2 * stub.n);
	ok(told >= 2 * (st.sealed_n - TAO_SEAL_HEADER), "the ciphertext's are told to be altered");
	ok(outside == 0, "and the others by their format");
	for (size_t n = 0; n < stub.n; n++) {
		k = NULL;
		opened += custody_open(h, stub.p, n, &k) == TAO_OK;
		held_key_release(k);
	}
	ok(opened == 0, "no truncated one opens");
	k = NULL;
	ok_err(custody_open(h, stub.p, stub.n, &k), TAO_OK, "the whole one does");
	held_key_release(k);
	tao_buf_free(&stub);
}

/* Stub with the named parts of others. */
static enum tao_err open_mixed(struct host *h, const struct tao_stub *name,
                               const struct tao_stub *spki, const struct tao_stub *sealed)
{
	struct tao_stub st = { name->name, name->name_n, spki->spki, spki->spki_n, sealed->sealed,
	                       sealed->sealed_n };
	struct tao_buf der = TAO_BUF_INIT;
	struct held_key *k = NULL;
	enum tao_err e;

	tao_stub_encode(&st, &der);
	e = custody_open(h, der.p, der.n, &k);
	held_key_release(k);
	tao_buf_free(&der);
	return e;
}

static void check_mixed(struct host *h, struct host *other)
{
	struct tao_buf a = plain_stub(h, "a"), b = plain_stub(h, "b"), far = plain_stub(other, "a");
	struct tao_stub sa, sb, sf, none;
	struct tao_buf data = TAO_BUF_INIT;

	tao_stub_parse(a.p, a.n, &sa);
	tao_stub_parse(b.p, b.n, &sb);
	tao_stub_parse(far.p, far.n, &sf);
	none = sa;
	none.sealed = NULL;
	ok_err(open_mixed(h, &sa, &sa, &sa), TAO_OK, "a stub put together again opens");
	ok_err(open_mixed(h, &sb, &sa, &sa), TAO_EALTERED, "one that was renamed does not");
	ok_err(open_mixed(h, &sa, &sb, &sa), TAO_EALTERED, "nor with another's public key");
	ok_err(open_mixed(h, &sa, &sa, &sb), TAO_EALTERED, "nor with another's sealed part");
	ok_err(open_mixed(h, &sf, &sf, &sf), TAO_EOTHERHOST, "nor one of another host");
	ok(strstr(tao_why(), "host") != NULL, "which the sentence says");
	ok_err(open_mixed(h, &sa, &sa, &none), TAO_EFORMAT, "nor one without a sealed part");
	if (tao_seal(&h->sealer, TAO_SEAL_DATA, NULL, 0, "data", 4, &data) == TAO_OK) {
		struct tao_stub st = sa;

		st.sealed = data.p;
		st.sealed_n = data.n;
		ok(open_mixed(h, &sa, &sa, &st) != TAO_OK, "nor one that holds sealed data");
	}
	tao_buf_free(&data);
	tao_buf_free(&a);
	tao_buf_free(&b);
	tao_buf_free(&far);
}

/* ---- what the host itself sealed, but not as this version does ---- */

static void good_key(Tao__SealedKey *k, uint8_t scalar[32], uint8_t id[SEALEDKEY_ID_LEN])
{
	tao__sealed_key__init(k);
	memset(scalar, 7, 32);
	memset(id, 1, SEALEDKEY_ID_LEN);
	k->version = SEALEDKEY_VERSION;
	k->private_key.data = scalar;
	k->private_key.len = 32;
	k->type = (char *)"p256";
	k->purpose = (char *)"any";
	k->custody = (char *)"host";
	k->policy = (char *)"host";
	k->key_id.data = id;
	k->key_id.len = SEALEDKEY_ID_LEN;
	k->generation = 1;
	k->created = 1;
}

/* Seals k under the name and public key of the stub; opens it. */
static enum tao_err open_sealed(struct host *h, const struct tao_stub *as, const Tao__SealedKey *k,
                                struct held_key **out)
{
	struct tao_buf plain = TAO_BUF_INIT, aad = TAO_BUF_INIT;
	struct tao_buf blob = TAO_BUF_INIT, der = TAO_BUF_INIT;
	struct tao_stub st = *as;
	enum tao_err e;

	tao_stub_aad(as, &aad);
	tao_pb_pack(&k->base, &plain);
	e = tao_seal(&h->sealer, TAO_SEAL_KEY, aad.p, aad.n, plain.p, plain.n, &blob);
	st.sealed = blob.p;
	st.sealed_n = blob.n;
	tao_stub_encode(&st, &der);
	if (e == TAO_OK)
		e = custody_open(h, der.p, der.n, out);
	tao_buf_free(&plain);
	tao_buf_free(&aad);
	tao_buf_free(&blob);
	tao_buf_free(&der);
	return e;
}

static enum tao_err try_sealed(struct host *h, const struct tao_stub *as, const Tao__SealedKey *k)
{
	struct held_key *out = NULL;
	enum tao_err e = open_sealed(h, as, k, &out);

	held_key_release(out);
	return e;
}

/* The public key of the scalar 0x0707...07. */
static void spki_of_sevens(struct tao_buf *spki)
{
	static const char hex[] = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
	uint8_t head[26], scalar[32], point[65];
	EC_GROUP *g = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	EC_POINT *q = EC_POINT_new(g);
	BIGNUM *d;

	memset(scalar, 7, sizeof scalar);
	d = BN_bin2bn(scalar, sizeof scalar, NULL);
	EC_POINT_mul(g, q, d, NULL, NULL, NULL);
	EC_POINT_point2oct(g, q, POINT_CONVERSION_UNCOMPRESSED, point, sizeof point, NULL);
	tao_unhex(hex, sizeof hex - 1, head, sizeof head);
	tao_buf_put(spki, head, sizeof head);
	tao_buf_put(spki, point, sizeof point);
	BN_free(d);
	EC_POINT_free(q);
	EC_GROUP_free(g);
}

static void check_versions(struct host *h)
{
	struct tao_buf spki = TAO_BUF_INIT;
	uint8_t scalar[33], id[SEALEDKEY_ID_LEN];
	struct tao_stub as = { .name = "seven", .name_n = 5 };
	struct instance *i = instance_of(h, exe_a, UID, 1);
	struct held_key *out = NULL;
	Tao__SealedKey k;

	spki_of_sevens(&spki);
	as.spki = spki.p;
	as.spki_n = spki.n;
	good_key(&k, scalar, id);
	ok_err(try_sealed(h, &as, &k), TAO_OK, "a sealed key made by hand opens");
	k.version = 2;
	ok_err(try_sealed(h, &as, &k), TAO_EVERSION, "one of version 2 does not");
	k.version = 0;
	ok_err(try_sealed(h, &as, &k), TAO_EVERSION, "nor one of version 0");
	good_key(&k, scalar, id);
	scalar[31] ^= 1;
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor one that is not the public key's");
	memset(scalar, 0, 32);
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor zero");
	memset(scalar, 0xff, 32);
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor a scalar above the order");
	good_key(&k, scalar, id);
	k.private_key.len = 31;
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor a short scalar");
	k.private_key.len = 0;
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor none");
	good_key(&k, scalar, id);
	k.has_program_hash = 1;
	k.program_hash.data = id;
	k.program_hash.len = 1;
	ok_err(try_sealed(h, &as, &k), TAO_EALTERED, "nor one with a short program hash");
	good_key(&k, scalar, id);
	k.has_principal = 1;
	k.principal.data = id;
	k.principal.len = 3;
	ok(try_sealed(h, &as, &k) != TAO_OK, "nor one whose principal is none");
	good_key(&k, scalar, id);
	k.policy = (char *)"newer";
	ok_err(open_sealed(h, &as, &k, &out), TAO_OK, "one with an unknown policy opens");
	ok_err(custody_allows(h, out, i), TAO_EVERSION, "but nobody may use it");
	held_key_release(out);
	instance_unref(i);
	tao_buf_free(&spki);
}

/* ---- policies ---- */

static void allow(struct host *h, const struct tao_buf *stub, struct instance *i, enum tao_err want,
                  const char *what)
{
	struct held_key *k = NULL;

	custody_open(h, stub->p, stub->n, &k);
	ok_err(k != NULL ? custody_allows(h, k, i) : TAO_EFORMAT, want, "%s", what);
	held_key_release(k);
}

static void check_program(struct host *h)
{
	struct tao_buf stub = plain_stub(h, "p");
	struct instance *same = instance_of(h, exe_a, UID, 1), *args = instance_of(h, exe_a, UID,
	                                                                           2),
	                *user = instance_of(h, exe_a, UID + 1, 1),
	                *exe = instance_of(h, exe_b, UID, 1), *root = instance_of(h, exe_a, 0, 1);
	struct tao_node *ext = NULL;
	char fact[300], old[65], new[65];

	allow(h, &stub, same, TAO_OK, "program: the same");
	allow(h, &stub, args, TAO_OK, "program: with other arguments");
	allow(h, &stub, user, TAO_EWRONGPROG, "program: of another user");
	allow(h, &stub, root, TAO_EWRONGPROG, "program: of root");
	allow(h, &stub, exe, TAO_EWRONGPROG, "program: another executable");
	ok_err(tao_subprin_parse(".X(1)", 5, &ext), TAO_OK, "an extension");
	instance_extend(same, ext);
	tao_node_free(ext);
	allow(h, &stub, same, TAO_OK, "program: with an extended name");
	for (int i = 0; i < TAO_HASH_LEN; i++) {
		snprintf(old + 2 * i, 3, "%02x", exe_a[i]);
		snprintf(new + 2 * i, 3, "%02x", exe_b[i]);
	}
	snprintf(fact, sizeof fact, "Successor([%s], [%s])", old, new);
	ok_err(domain_add_fact(h->domain, fact), TAO_OK, "a rule the wrong way round");
	allow(h, &stub, exe, TAO_EWRONGPROG, "program: not for a predecessor");
	snprintf(fact, sizeof fact, "Successor([%s], [%s])", new, old);
	ok_err(domain_add_fact(h->domain, fact), TAO_OK, "a rule");
	allow(h, &stub, exe, TAO_OK, "program: for a successor");
	domain_remove_fact(h->domain, fact);
	allow(h, &stub, exe, TAO_EWRONGPROG, "program: not when the rule is gone");
	instance_unref(same);
	instance_unref(args);
	instance_unref(user);
	instance_unref(exe);
	instance_unref(root);
	tao_buf_free(&stub);
}

static void check_exact(struct host *h)
{
	struct instance *one = instance_of(h, exe_a, UID, 1), *same = instance_of(h, exe_a, UID, 1),
	                *args = instance_of(h, exe_a, UID, 2),
	                *user = instance_of(h, exe_a, UID + 1, 1);
	struct key_spec s = { .name = "e", .policy = "exact", .uid = UID, .exe = exe_a,
	                      .principal = instance_name(one) };
	struct key_spec bare = { .name = "e", .policy = "exact", .uid = UID, .exe = exe_a };
	struct tao_buf stub = new_stub(h, &s), later, none = new_stub(h, &bare);
	struct tao_node *ext = NULL;

	allow(h, &stub, one, TAO_OK, "exact: the name");
	allow(h, &stub, same, TAO_OK, "exact: another instance of that name");
	allow(h, &stub, args, TAO_EWRONGPROG, "exact: other arguments");
	allow(h, &stub, user, TAO_EWRONGPROG, "exact: another user");
	allow(h, &none, one, TAO_EWRONGPROG, "exact: a key for no name is nobody's");
	tao_subprin_parse(".Mode(\"x\")", 10, &ext);
	instance_extend(same, ext);
	allow(h, &stub, same, TAO_EWRONGPROG, "exact: not after the name was extended");
	s.principal = instance_name(same);
	later = new_stub(h, &s);
	allow(h, &later, same, TAO_OK, "exact: a key for the extended name");
	allow(h, &later, one, TAO_EWRONGPROG, "exact: which is not the shorter name's");
	instance_extend(one, ext);
	allow(h, &later, one, TAO_OK, "exact: until that is extended, too");
	instance_extend(one, ext);
	allow(h, &later, one, TAO_EWRONGPROG, "exact: but not twice");
	tao_node_free(ext);
	instance_unref(one);
	instance_unref(same);
	instance_unref(args);
	instance_unref(user);
	tao_buf_free(&stub);
	tao_buf_free(&later);
	tao_buf_free(&none);
}

static void check_host_and_policy(struct host *h)
{
	struct instance *i = instance_of(h, exe_b, UID, 9), *j = instance_of(h, exe_a, UID, 9);
	struct instance *stranger = instance_of(h, exe_b, UID + 1, 9);
	struct key_spec s = { .name = "h", .policy = "host", .uid = UID, .exe = exe_a };
	struct key_spec p = { .name = "label", .policy = "policy", .uid = UID, .exe = exe_a };
	struct tao_buf host = new_stub(h, &s), policy = new_stub(h, &p), fact = TAO_BUF_INIT;
	char *name = tao_node_text(instance_name(i));

	allow(h, &host, i, TAO_OK, "host: any program");
	allow(h, &host, stranger, TAO_OK, "host: any user's");
	allow(h, &policy, i, TAO_EDENIED, "policy: nobody without a rule");
	ok(strstr(tao_why(), "Unseal") != NULL, "the sentence names the rule that is missing");
	tao_buf_fmt(&fact, "Unseal(%s, \"label\")", name);
	domain_add_fact(h->domain, tao_buf_cstr(&fact));
	allow(h, &policy, i, TAO_EDENIED, "policy: a rule for another label");
	tao_buf_reset(&fact);
	tao_buf_fmt(&fact, "Unseal(%s, \"key:label\")", name);
	ok_err(domain_add_fact(h->domain, tao_buf_cstr(&fact)), TAO_OK, "the rule");
	allow(h, &policy, i, TAO_OK, "policy: who has the rule");
	allow(h, &policy, j, TAO_EDENIED, "policy: not another program, the key's maker neither");
	domain_remove_fact(h->domain, tao_buf_cstr(&fact));
	tao_buf_reset(&fact);
	free(name);
	name = tao_node_text(instance_name(stranger));
	tao_buf_fmt(&fact, "Unseal(%s, \"key:label\")", name);
	domain_add_fact(h->domain, tao_buf_cstr(&fact));
	allow(h, &policy, stranger, TAO_EWRONGPROG, "policy: not another user, whose label it may "
	      "be");
	domain_remove_fact(h->domain, tao_buf_cstr(&fact));
	allow(h, &policy, i, TAO_EDENIED, "policy: not when the rule is gone, though the key is "
	      "open");
	free(name);
	tao_buf_free(&fact);
	tao_buf_free(&host);
	tao_buf_free(&policy);
	instance_unref(i);
	instance_unref(j);
	instance_unref(stranger);
}

/* ---- the cache ---- */

static void check_cache(struct host *h)
{
	static uint8_t id[KEYS_OVER_CACHE][TAO_HASH_LEN];
	struct tao_buf stub = plain_stub(h, "cache");
	struct held_key *first = NULL, *k, *twice = NULL;
	struct tao_buf sig = TAO_BUF_INIT;
	size_t at_hand = 0, opened = 0;

	custody_open(h, stub.p, stub.n, &first);
	ok(custody_open(h, stub.p, stub.n, &twice) == TAO_OK && twice == first,
	   "an open key is not opened again");
	held_key_release(twice);
	for (size_t i = 0; i < KEYS_OVER_CACHE; i++) {
		struct tao_buf other = plain_stub(h, "other");

		k = NULL;
		opened += custody_open(h, other.p, other.n, &k) == TAO_OK;
		if (k != NULL)
			memcpy(id[i], held_key_id(k), TAO_HASH_LEN);
		held_key_release(k);
		tao_buf_free(&other);
	}
	ok(opened == KEYS_OVER_CACHE, "%d keys open", KEYS_OVER_CACHE);
	for (size_t i = 0; i < KEYS_OVER_CACHE; i++) {
		k = NULL;
		at_hand += custody_find(h, id[i], TAO_HASH_LEN, &k) == TAO_OK;
		held_key_release(k);
	}
	ok(at_hand > 512 && at_hand <= 1024, "%zu of them are at hand", at_hand);
	k = NULL;
	ok(custody_find(h, id[KEYS_OVER_CACHE - 1], TAO_HASH_LEN, &k) == TAO_OK, "the newest is");
	held_key_release(k);
	ok_err(sign_digest(h, first, "SHA256", id[0], 32, &sig), TAO_OK,
	       "a key that somebody holds lives on");
	held_key_release(first);
	tao_buf_free(&sig);
	tao_buf_free(&stub);
}

/* ---- signing ---- */

static int verifies(const struct key_facts *f, const char *digest, const void *data, size_t n,
                    const struct tao_buf *sig)
{
	EVP_PKEY *pub = NULL;
	EVP_PKEY_CTX *c;
	int good;

	if (tao_key_from_spki_any(f->spki, f->spki_n, &pub) != TAO_OK)
		return 0;
	c = EVP_PKEY_CTX_new_from_pkey(NULL, pub, NULL);
	good = EVP_PKEY_verify_init(c) == 1 &&
	       EVP_PKEY_CTX_set_signature_md(c, EVP_get_digestbyname(digest)) == 1 &&
	       EVP_PKEY_verify(c, sig->p, sig->n, data, n) == 1;
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(pub);
	return good;
}

static void check_digests(struct host *h)
{
	static const struct {
		const char *digest;
		size_t n;
		enum tao_err want;
	} cases[] = {
		{ "SHA256", 32, TAO_OK }, { "SHA384", 48, TAO_OK }, { "SHA512", 64, TAO_OK },
		{ "SHA256", 31, TAO_EINVAL }, { "SHA256", 33, TAO_EINVAL },
		{ "SHA256", 0, TAO_EINVAL },
		{ "SHA384", 32, TAO_EINVAL }, { "SHA512", 63, TAO_EINVAL },
		{ "SHA512", 65, TAO_EINVAL },
		{ "SHA1", 20, TAO_OK }, { "SHA224", 28, TAO_OK }, { "SHA3-256", 32, TAO_OK },
		{ "SHA1", 32, TAO_EINVAL }, { "MD5", 16, TAO_EPURPOSE },
		{ "sha256", 32, TAO_EPURPOSE }, { "SHA2-256", 32, TAO_EPURPOSE },
		{ "SHA256 ", 32, TAO_EPURPOSE },
	};
	uint8_t data[65];
	struct tao_buf stub = plain_stub(h, "sign"), sig = TAO_BUF_INIT;
	struct held_key *k = NULL;
	struct key_facts f;

	memset(data, 0x5a, sizeof data);
	custody_open(h, stub.p, stub.n, &k);
	held_key_facts(k, &f);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *name = cases[i].digest != NULL ? cases[i].digest : "(none)";

		tao_buf_reset(&sig);
		ok_err(sign_digest(h, k, cases[i].digest, data, cases[i].n, &sig), cases[i].want,
		       "%zu bytes as %s", cases[i].n, name);
		ok(cases[i].want == TAO_OK ? verifies(&f, cases[i].digest, data, cases[i].n, &sig)
		                           : sig.n == 0, "%s", cases[i].want == TAO_OK
		   ? "the signature verifies" : "no signature");
	}
	tao_buf_reset(&sig);
	sign_digest(h, k, "SHA256", data, 32, &sig);
	data[0] ^= 1;
	ok(!verifies(&f, "SHA256", data, 32, &sig), "and not for other data");
	held_key_release(k);
	tao_buf_free(&sig);
	tao_buf_free(&stub);
}

struct signer {
	struct host *h;
	const struct tao_buf *stub;
	uint8_t number;
	int good;
};

/* By turns opens and finds; each signature is over data of this thread. */
static void *sign_many(void *arg)
{
	struct signer *s = arg;
	uint8_t data[32], id[TAO_HASH_LEN];

	tao_sha256(s->stub->p, s->stub->n, id);
	for (int i = 0; i < SIGNATURES; i++) {
		struct tao_buf sig = TAO_BUF_INIT;
		struct held_key *k = NULL;
		struct key_facts f;

		memset(data, s->number, sizeof data);
		data[0] = (uint8_t)i;
		if (i % 2 == 0 || custody_find(s->h, id, sizeof id, &k) != TAO_OK)
			custody_open(s->h, s->stub->p, s->stub->n, &k);
		if (k == NULL)
			break;
		held_key_facts(k, &f);
		s->good += sign_digest(s->h, k, "SHA256", data, sizeof data, &sig) == TAO_OK &&
		           verifies(&f, "SHA256", data, sizeof data, &sig);
		held_key_release(k);
		tao_buf_free(&sig);
	}
	return NULL;
}

static void check_threads(struct host *h)
{
	struct tao_buf stub = plain_stub(h, "threads");
	pthread_t t[SIGNERS];
	struct signer s[SIGNERS];
	int good = 0;

	for (int i = 0; i < SIGNERS; i++) {
		s[i] = (struct signer){ h, &stub, (uint8_t)(i + 1), 0 };
		pthread_create(&t[i], NULL, sign_many, &s[i]);
	}
	for (int i = 0; i < SIGNERS; i++) {
		pthread_join(t[i], NULL);
		good += s[i].good;
	}
	ok(good == SIGNERS * SIGNATURES, "%d threads sign with one key: %d good signatures",
	   SIGNERS, good);
	tao_buf_free(&stub);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

int main(void)
{
	char dir[] = "/tmp/t_custody.XXXXXX";
	struct host h, other;

	if (mkdtemp(dir) == NULL)
		return 1;
	make_host(&h, dir);
	make_host(&other, dir);
	check_specs();
	check_facts(&h);
	check_every_byte(&h);
	check_mixed(&h, &other);
	check_versions(&h);
	check_program(&h);
	check_exact(&h);
	check_host_and_policy(&h);
	check_cache(&h);
	check_digests(&h);
	check_threads(&h);
	free_host(&h);
	free_host(&other);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return done();
}
