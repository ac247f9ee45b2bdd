/* tao/tlskeys.h: every derivation against test/vectors/tlskeys.txt, and malformed bytes, each
 * field. */
#include <ctype.h>
#include <pthread.h>

#include "tao/tlskeys.h"

#include "tap.h"

#define LINE_MAX_ 512
#define VALUE_MAX 128
#define NAMES 24

/* One epoch of the vectors. */
struct vector {
	uint32_t epoch;
	size_t n;
	struct {
		char name[16];
		uint8_t v[VALUE_MAX];
		size_t n;
	} of[NAMES];
	struct tlskeys *keys;
};

static void die(const char *why)
{
	printf("Bail out! %s\n", why);
	exit(1);
}

static int next_vector(FILE *f, struct vector *v)
{
	char line[LINE_MAX_], hex[LINE_MAX_], name[16];

	memset(v, 0, sizeof *v);
	while (fgets(line, sizeof line, f) != NULL && strcmp(line, "end\n") != 0) {
		if (sscanf(line, "%15s %511s", name, hex) != 2 || v->n == NAMES)
			die("the vectors are malformed");
		if (strcmp(name, "epoch") == 0) {
			v->epoch = (uint32_t)strtoul(hex, NULL, 16);
			continue;
		}
		strcpy(v->of[v->n].name, name);
		v->of[v->n].n = strlen(hex) / 2;
		if (v->of[v->n].n > VALUE_MAX ||
		    tao_unhex(hex, strlen(hex), v->of[v->n].v, v->of[v->n].n) != TAO_OK)
			die("the vectors are malformed");
		v->n++;
	}
	return v->n > 0;
}

static const uint8_t *get(const struct vector *v, const char *name, size_t *n)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->of[i].name, name) == 0) {
			if (n != NULL)
				*n = v->of[i].n;
			return v->of[i].v;
		}
	die(name);
	return NULL;
}

static int is(const struct vector *v, const char *name, const uint8_t *got, size_t n)
{
	size_t want_n;
	const uint8_t *want = get(v, name, &want_n);

	return want_n == n && memcmp(want, got, n) == 0;
}

static void hash_of(const struct vector *v, const char *name, uint8_t hash[TAO_HASH_LEN])
{
	size_t n;
	const uint8_t *p = get(v, name, &n);

	if (tao_sha256(p, n, hash) != TAO_OK)
		die("SHA-256");
}

/* As the script's bytes(). */
static void bytes(unsigned from, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(from + 7 * i);
}

static void derived_keys(const struct vector *v)
{
	uint8_t c[TAO_HASH_LEN], s[TAO_HASH_LEN], member[3][TAO_HASH_LEN], key[TLSKEYS_LEN];
	const uint8_t *root = get(v, "root", NULL), *ancestor = get(v, "ancestor", NULL);
	static const char *const names[] = { "other", "c", "s" };

	hash_of(v, "c", c);
	hash_of(v, "s", s);
	ok(tlskeys_pair(root, v->epoch, ancestor, c, s, key) == TAO_OK &&
	   is(v, "pair", key, sizeof key),
	   "epoch %lx: a pair key", (unsigned long)v->epoch);
	ok(tlskeys_pair(root, v->epoch, ancestor, s, c, key) == TAO_OK &&
	   is(v, "reverse", key, sizeof key), "of the other direction");
	for (size_t i = 0; i < 3; i++)
		hash_of(v, names[i], member[i]);
	ok(tlskeys_group(root, v->epoch, ancestor, member, 3, key) == TAO_OK &&
	   is(v, "group", key, sizeof key), "a group key");
}

static void ids(const struct vector *v)
{
	uint8_t id[TLSKEYS_ID];
	size_t n;
	const uint8_t *name = get(v, "c", &n);

	ok(tlskeys_id(get(v, "naming", NULL), name, n, id) == TAO_OK &&
	   is(v, "id_c", id, sizeof id),
	   "an id");
}

static void identities(const struct vector *v, unsigned hash, unsigned number)
{
	uint8_t made[TLSKEYS_IDENTITY], psk[TLSKEYS_PSK_MAX], nonce[TLSKEYS_IDENTITY_NONCE];
	const uint8_t *key = get(v, "pair", NULL);
	struct tlskeys_identity again, i = {
		.epoch = v->epoch, .time = 0x6925f000 + number, .hash = hash, .version = 0x0304,
		.c = get(v, "id_c", NULL), .s = get(v, "id_s", NULL), .nonce = nonce,
	};
	char name[16];
	size_t n;

	bytes(200 + number, nonce, sizeof nonce);
	snprintf(name, sizeof name, "identity%u", hash);
	ok(tlskeys_identity_write(v->keys, key, &i, made) == TAO_OK &&
	   is(v, name, made, sizeof made),
	   "an identity with hash %u", hash);
	snprintf(name, sizeof name, "psk%u", hash);
	ok(tlskeys_psk(v->keys, key, made, psk, &n) == TAO_OK && is(v, name, psk, n), "its secret");
	ok_err(tlskeys_identity_check(v->keys, key, made), TAO_OK, "its tag");
	ok(tlskeys_identity_parse(made, sizeof made, &again) == TAO_OK && again.epoch == i.epoch &&
	   again.time == i.time && again.hash == hash && again.version == 0x0304 &&
	   memcmp(again.c, i.c, TLSKEYS_ID) == 0 && memcmp(again.s, i.s, TLSKEYS_ID) == 0 &&
	   memcmp(again.nonce, nonce, sizeof nonce) == 0, "its fields");
}

static void make_share(const struct vector *v, unsigned group, int server, struct tao_buf *out)
{
	uint8_t public[2000], nonce[TLSKEYS_SHARE_NONCE];
	struct tlskeys_share s = {
		.public = public, .public_n = tlskeys_public_len(group, server), .epoch = v->epoch,
		.id = get(v, server ? "id_s" : "id_c", NULL), .nonce = nonce,
	};

	bytes(server ? 5 : 3, public, s.public_n);
	bytes(server ? 60 : 50, nonce, sizeof nonce);
	tlskeys_share_write(&s, out);
}

static void shares(const struct vector *v, unsigned group)
{
	struct tao_buf c = TAO_BUF_INIT, s = TAO_BUF_INIT;
	struct tlskeys_share again;
	uint8_t salt[TLSKEYS_LEN];
	char name[16];

	make_share(v, group, 0, &c);
	make_share(v, group, 1, &s);
	snprintf(name, sizeof name, "salt%x", group);
	ok(tlskeys_salt(v->keys, get(v, "pair", NULL), c.p, c.n, s.p, s.n, salt) == TAO_OK &&
	   is(v, name, salt, sizeof salt), "the salt of group %x", group);
	ok(tlskeys_share_parse(group, 0, c.p, c.n, &again) == TAO_OK && again.epoch == v->epoch &&
	   memcmp(again.id, get(v, "id_c", NULL), TLSKEYS_ID) == 0 &&
	   again.nonce == c.p + c.n - 16 &&
	   again.public == c.p, "the client's share");
	ok_err(tlskeys_share_parse(group, 1, s.p, s.n, &again), TAO_OK, "the server's share");
	tao_buf_free(&c);
	tao_buf_free(&s);
}

/* ---- malformed ---- */

static void bad_identities(const struct vector *v)
{
	uint8_t good[TLSKEYS_IDENTITY], bad[TLSKEYS_IDENTITY + 1];
	const uint8_t *key = get(v, "pair", NULL);
	struct tlskeys_identity i;
	int altered = 0, lengths = 0;

	memcpy(good, get(v, "identity1", NULL), sizeof good);
	memset(bad, 1, sizeof bad);
	for (size_t n = 0; n <= sizeof bad; n++)
		lengths += tlskeys_identity_parse(bad, n, &i) == TAO_EFORMAT;
	ok(lengths == (int)sizeof bad, "every other length is refused");
	memcpy(bad, good, sizeof good);
	bad[0] = 0;
	ok_err(tlskeys_identity_parse(bad, sizeof good, &i), TAO_EFORMAT, "format 0");
	bad[0] = 2;
	ok_err(tlskeys_identity_parse(bad, sizeof good, &i), TAO_EVERSION, "a newer format");
	bad[0] = 1;
	bad[9] = 0;
	ok_err(tlskeys_identity_parse(bad, sizeof good, &i), TAO_EFORMAT, "hash 0");
	bad[9] = 3;
	ok_err(tlskeys_identity_parse(bad, sizeof good, &i), TAO_EFORMAT, "hash 3");
	for (size_t k = 0; k < 8 * sizeof good; k++) {
		memcpy(bad, good, sizeof good);
		bad[k / 8] ^= (uint8_t)(1 << k % 8);
		altered += tlskeys_identity_check(v->keys, key, bad) == TAO_EALTERED;
	}
	ok(altered == 8 * TLSKEYS_IDENTITY, "each bit is under the tag");
	ok_err(tlskeys_identity_check(v->keys, get(v, "reverse", NULL), good), TAO_EALTERED,
	       "nor is it another pair's");
}

static void bad_shares(const struct vector *v)
{
	struct tao_buf c = TAO_BUF_INIT;
	struct tlskeys_share s;
	int refused = 0;

	make_share(v, TLSKEYS_X25519, 0, &c);
	for (size_t n = 0; n < c.n; n++)
		refused += tlskeys_share_parse(TLSKEYS_X25519, 0, c.p, n, &s) == TAO_EFORMAT;
	ok(refused == (int)c.n, "a share that is cut");
	ok_err(tlskeys_share_parse(TLSKEYS_X25519MLKEM768, 0, c.p, c.n, &s), TAO_EFORMAT,
	       "of another group");
	ok_err(tlskeys_share_parse(0x1d, 0, c.p, c.n, &s), TAO_EINVAL,
	       "of a group that is not ours");
	c.p[32] = 0;
	ok_err(tlskeys_share_parse(TLSKEYS_X25519, 0, c.p, c.n, &s), TAO_EFORMAT, "format 0");
	c.p[32] = 2;
	ok_err(tlskeys_share_parse(TLSKEYS_X25519, 0, c.p, c.n, &s), TAO_EVERSION,
	       "a newer format");
	c.p[32] = 1;
	tao_buf_u8(&c, 0);
	ok_err(tlskeys_share_parse(TLSKEYS_X25519, 0, c.p, c.n, &s), TAO_EFORMAT, "one byte more");
	ok(tlskeys_public_len(TLSKEYS_X25519MLKEM768, 0) == 1216 &&
	   tlskeys_public_len(TLSKEYS_X25519MLKEM768, 1) == 1120, "ML-KEM's lengths");
	tao_buf_free(&c);
}

static void bad_groups(void)
{
	uint8_t member[TLSKEYS_MEMBERS + 1][TAO_HASH_LEN] = { { 2 }, { 1 },
	                                                      { 2 } }, root[TLSKEYS_LEN] = { 0 };
	uint8_t key[TLSKEYS_LEN];

	ok_err(tlskeys_group(root, 1, root, member, 1, key), TAO_EINVAL, "a group of one");
	ok_err(tlskeys_group(root, 1, root, member, 3, key), TAO_EINVAL, "a member twice");
	ok_err(tlskeys_group(root, 1, root, member, TLSKEYS_MEMBERS + 1, key), TAO_EINVAL,
	       "too many");
}

/* ---- threads ---- */

#define THREADS 4
#define TIMES 2000

struct shared {
	struct tlskeys *keys;
	uint8_t key[TLSKEYS_LEN], want[TAO_HASH_LEN];
	int wrong;
};

static void *derive(void *arg)
{
	struct shared *s = arg;
	uint8_t salt[TLSKEYS_LEN];

	for (int i = 0; i < TIMES; i++)
		if (tlskeys_salt(s->keys, s->key, "c", 1, "s", 1, salt) != TAO_OK ||
		    memcmp(salt, s->want, sizeof salt) != 0)
			s->wrong = 1;
	return NULL;
}

static void threads(struct tlskeys *keys)
{
	struct shared s[THREADS];
	pthread_t thread[THREADS];
	int wrong = 0;

	for (size_t i = 0; i < THREADS; i++) {
		s[i] = (struct shared){ .keys = keys, .key = { (uint8_t)i } };
		wrong |= tlskeys_salt(NULL, s[i].key, "c", 1, "s", 1, s[i].want) != TAO_OK ||
		         pthread_create(&thread[i], NULL, derive, &s[i]) != 0;
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		wrong |= s[i].wrong;
	}
	ok(!wrong, "threads with a key each get what is theirs");
}

int main(void)
{
	const char *src = getenv("TAO_SRC");
	struct tlskeys *keys = NULL;
	struct vector v;
	char path[4096];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/test/vectors/tlskeys.txt", src != NULL ? src : ".");
	f = fopen(path, "r");
	if (f == NULL)
		die("test/vectors/tlskeys.txt is not there: set TAO_SRC");
	ok_err(tlskeys_new(&keys), TAO_OK, "what is looked up once");
	while (next_vector(f, &v)) {
		v.keys = n == 2 ? NULL : keys;
		derived_keys(&v);
		ids(&v);
		identities(&v, TLSKEYS_SHA256, ++n);
		identities(&v, TLSKEYS_SHA384, n);
		shares(&v, TLSKEYS_X25519);
		shares(&v, TLSKEYS_X25519MLKEM768);
		bad_identities(&v);
		bad_shares(&v);
	}
	fclose(f);
	ok(n == 3, "three epochs");
	bad_groups();
	threads(keys);
	tlskeys_free(keys);
	return done();
}
