/*
 * taocalls: every function of <tao/tao.h>, guards and channels, as a program under `tao run` calls
 * them, errors included. Prints TAP.
 *
 *   taocalls KEY DIR      KEY: a key of this program (tao:KEY); DIR: a directory that is its own
 */
#include <pthread.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/store.h>
#include <openssl/x509.h>

#include <tao/tao.h>

#include "../unit/tap.h"

#define PASS      "a passphrase of the test", 24
#define SECRET    "attack at dawn"
#define SECRET_N  14
#define FAR       INT64_C(8000000000000000000) /* ns: in some 200 years */

static struct tao_parent *host;
static struct tao_node *name;

static int same(const struct tao_buf *b, const char *text)
{
	return b->n == strlen(text) && memcmp(b->p, text, b->n) == 0;
}

/* ---- names, random bytes, statements ---- */

static void test_open(void)
{
	struct tao_parent *p = NULL;
	struct tao_node *n = NULL;

	ok_err(tao_parent_open(&host), TAO_OK, "tao_parent_open");
	ok_err(tao_parent_name(host, &name), TAO_OK, "tao_parent_name");
	ok_err(tao_parent_open_at("/nonexistent/tao.sock", 1000, &p), TAO_OK, "tao_parent_open_at");
	ok(tao_parent_name(p, &n) == TAO_OK && tao_node_equal(n, name), "the door goes first");
	tao_node_free(n);
	tao_parent_close(p);
	ok_err(tao_parent_open_at("tao.sock", 0, &p), TAO_EINVAL, "a path that is not absolute");
	tao_parent_close(NULL);
}

static void test_random(void)
{
	unsigned char a[40] = { 0 }, b[40] = { 0 };

	ok_err(tao_parent_random(host, a, sizeof a), TAO_OK, "tao_parent_random");
	ok_err(tao_parent_random(host, b, sizeof b), TAO_OK, "again");
	ok(memcmp(a, b, sizeof a) != 0, "differs");
	ok_err(tao_parent_random(host, a, 0), TAO_ELIMIT, "no bytes");
	ok_err(tao_parent_random(host, a, TAO_PARENT_RANDOM_MAX + 1), TAO_ELIMIT, "too many");
}

static void test_attest(void)
{
	struct tao_node *message = tao_pred("Ready", 1, tao_term_int(1));
	struct tao_node *root = tao_prin_prefix(name, 0);
	struct tao_attested said = { 0 };
	struct tao_buf att = TAO_BUF_INIT;

	ok_err(tao_parent_attest(host, NULL, 1000, FAR, message, &att), TAO_OK,
	       "tao_parent_attest");
	ok_err(tao_attestation_verify(att.p, att.n, TAO_NOW, root, &said), TAO_OK, "verifies");
	ok(tao_node_equal(said.message, message) && tao_node_equal(said.speaker, name),
	   "who says what");
	tao_attested_clear(&said);
	ok_err(tao_attestation_verify(att.p, att.n, 999, root, &said), TAO_EEXPIRED, "not before");
	tao_buf_reset(&att);
	ok_err(tao_parent_attest(host, root, TAO_NOW, TAO_NOW, message, &att), TAO_EDENIED,
	       "not as its host");
	ok_err(tao_parent_attest(host, NULL, TAO_NOW, TAO_NOW, name, &att), TAO_EFORMAT,
	       "a name is no statement");
	ok(att.n == 0, "nothing comes of it");
	tao_buf_free(&att);
	tao_node_free(root);
	tao_node_free(message);
}

/* ---- sealing ---- */

static void test_seal(void)
{
	struct tao_buf blob = TAO_BUF_INIT, data = TAO_BUF_INIT;
	char policy[TAO_PARENT_POLICY_MAX] = "";

	ok_err(tao_parent_seal(host, SECRET, SECRET_N, "host", &blob), TAO_OK, "tao_parent_seal");
	ok_err(tao_parent_unseal(host, blob.p, blob.n, &data, policy), TAO_OK, "tao_parent_unseal");
	ok(same(&data, SECRET) && strcmp(policy, "host") == 0, "the data and its policy");
	tao_buf_reset(&data);
	blob.p[blob.n - 1] ^= 1;
	ok_err(tao_parent_unseal(host, blob.p, blob.n, &data, NULL), TAO_EALTERED,
	       "not when altered");
	ok_err(tao_parent_unseal(host, "x", 1, &data, NULL), TAO_EFORMAT, "what is no blob");
	ok(data.n == 0, "nothing comes out");
	tao_buf_reset(&blob);
	ok_err(tao_parent_seal(host, SECRET, SECRET_N, "nobody", &blob), TAO_EINVAL,
	       "no such policy");
	ok_err(tao_parent_seal(host, SECRET, 0, NULL, &blob), TAO_EINVAL, "no data");
	tao_buf_free(&blob);
	tao_buf_free(&data);
}

static void test_seal_as(void)
{
	struct tao_sealing how = { .policy = "program", .label = "db", .expires = FAR };
	struct tao_buf blob = TAO_BUF_INIT, data = TAO_BUF_INIT;
	struct tao_unsealed what = { 0 };
	uint32_t epoch = 0;

	ok_err(tao_parent_seal_as(host, SECRET, SECRET_N, &how, &blob, &epoch), TAO_OK,
	       "tao_parent_seal_as");
	ok_err(tao_parent_unseal_as(host, blob.p, blob.n, "db", &data, &what), TAO_OK,
	       "tao_parent_unseal_as");
	ok(same(&data, SECRET) && strcmp(what.label, "db") == 0 && what.expires == FAR &&
	   what.epoch == epoch && what.host_epoch == epoch, "all that is known of it");
	ok_err(tao_parent_unseal_as(host, blob.p, blob.n, "web", &data, NULL), TAO_EDENIED,
	       "not under another label");
	how.expires = 1000;
	ok_err(tao_parent_seal_as(host, SECRET, SECRET_N, &how, &blob, NULL), TAO_EINVAL,
	       "nothing that has expired");
	tao_buf_free(&blob);
	tao_buf_free(&data);
}

static void test_secret(void)
{
	unsigned char a[32], b[32], c[32], d[16];

	ok_err(tao_parent_shared_secret(host, "program", a, sizeof a), TAO_OK,
	       "tao_parent_shared_secret");
	ok_err(tao_parent_shared_secret_as(host, "program", NULL, b, sizeof b), TAO_OK,
	       "tao_parent_shared_secret_as");
	ok(memcmp(a, b, sizeof a) == 0, "the same without a label");
	ok_err(tao_parent_shared_secret_as(host, "program", "db", c, sizeof c), TAO_OK, "with one");
	ok(memcmp(a, c, sizeof a) != 0, "another");
	ok_err(tao_parent_shared_secret(host, "program", d, sizeof d), TAO_OK, "fewer bytes");
	ok(memcmp(a, d, sizeof d) == 0, "are the beginning of more");
	ok_err(tao_parent_shared_secret(host, "nobody", d, sizeof d), TAO_EINVAL, "no such policy");
	ok_err(tao_parent_shared_secret(host, NULL, d, 0), TAO_ELIMIT, "no bytes");
}

static void test_group_key(void)
{
	unsigned char a[TAO_PARENT_GROUP_KEY], b[TAO_PARENT_GROUP_KEY];
	struct tao_node *other = tao_prin_extend(name, tao_ext("Other", 0));
	struct tao_node *two[] = { name, other }, *turned[] = { other, name };
	uint32_t epoch = 0, same_epoch;

	ok_err(tao_parent_group_key(host, two, 2, &epoch, a), TAO_OK, "tao_parent_group_key");
	ok(epoch != 0, "of an epoch");
	same_epoch = epoch;
	ok_err(tao_parent_group_key(host, turned, 2, &same_epoch, b), TAO_OK, "in another order");
	ok(memcmp(a, b, sizeof a) == 0 && same_epoch == epoch, "the same");
	turned[1] = other;
	ok_err(tao_parent_group_key(host, turned, 2, &epoch, b), TAO_EDENIED, "of others");
	turned[0] = turned[1] = name;
	ok_err(tao_parent_group_key(host, turned, 2, &epoch, b), TAO_EINVAL, "one twice");
	ok_err(tao_parent_group_key(host, two, 1, &epoch, b), TAO_EINVAL, "alone");
	epoch = 1;
	ok_err(tao_parent_group_key(host, two, 2, &epoch, b), TAO_EEXPIRED, "of long ago");
	tao_node_free(other);
}

/* ---- counters ---- */

static void test_counter(void)
{
	int64_t n = -1;

	ok_err(tao_parent_get_counter(host, "state", &n), TAO_ENOTFOUND,
	       "tao_parent_get_counter: none");
	ok_err(tao_parent_init_counter(host, "state", 5), TAO_OK, "tao_parent_init_counter");
	ok_err(tao_parent_init_counter(host, "state", 3), TAO_OK, "again, lower");
	ok(tao_parent_get_counter(host, "state", &n) == TAO_OK && n == 5, "it only goes up");
	ok_err(tao_parent_init_counter(host, "", 1), TAO_EINVAL, "a counter has a label");
	ok_err(tao_parent_init_counter(host, "state", -1), TAO_EINVAL, "and is not negative");
}

static void test_rollback(void)
{
	struct tao_sealing how = { .label = "state" };
	struct tao_buf old = TAO_BUF_INIT, new = TAO_BUF_INIT, next = TAO_BUF_INIT, data = TAO_BUF_INIT;
	struct tao_unsealed what = { 0 };
	int64_t n = 0;

	ok_err(tao_parent_rollback_seal(host, "state", "old", 3, NULL, &old), TAO_OK,
	       "tao_parent_rollback_seal");
	ok_err(tao_parent_rollback_unseal(host, old.p, old.n, &data, NULL), TAO_OK,
	       "tao_parent_rollback_unseal");
	ok(same(&data, "old"), "the data");
	ok_err(tao_parent_rollback_seal_as(host, "new", 3, &how, &new, NULL), TAO_OK,
	       "tao_parent_rollback_seal_as");
	tao_buf_reset(&data);
	ok_err(tao_parent_rollback_unseal(host, old.p, old.n, &data, NULL), TAO_EDENIED,
	       "the older one opens no more");
	ok_err(tao_parent_rollback_prepare(host, "next", 4, &how, &next, &n), TAO_OK,
	       "tao_parent_rollback_prepare");
	ok_err(tao_parent_rollback_unseal_as(host, next.p, next.n, "state", &data, &what),
	       TAO_EDENIED, "not yet");
	ok_err(tao_parent_init_counter(host, "state", n), TAO_OK, "the counter is raised");
	ok_err(tao_parent_rollback_unseal_as(host, next.p, next.n, "state", &data, &what), TAO_OK,
	       "tao_parent_rollback_unseal_as");
	ok(same(&data, "next") && strcmp(what.label, "state") == 0, "and now it does");
	ok_err(tao_parent_unseal(host, next.p, next.n, &data, NULL), TAO_EFORMAT,
	       "by no plain unseal");
	tao_buf_free(&old);
	tao_buf_free(&new);
	tao_buf_free(&next);
	tao_buf_free(&data);
}

/* ---- keys of its own: protect and unprotect ---- */

static void test_protect(void)
{
	unsigned char key[64];
	struct tao_buf box = TAO_BUF_INIT, data = TAO_BUF_INIT;

	ok_err(tao_parent_shared_secret_as(host, "program", "protect", key, sizeof key), TAO_OK,
	       "a key from the host");
	ok_err(tao_key_protect(key, sizeof key, SECRET, SECRET_N, &box), TAO_OK, "tao_key_protect");
	ok_err(tao_key_unprotect(key, sizeof key, box.p, box.n, &data), TAO_OK,
	       "tao_key_unprotect");
	ok(same(&data, SECRET), "the data");
	tao_buf_reset(&data);
	box.p[0] ^= 1;
	ok_err(tao_key_unprotect(key, sizeof key, box.p, box.n, &data), TAO_EALTERED,
	       "not when altered");
	ok_err(tao_key_unprotect(key, sizeof key, box.p, 5, &data), TAO_EFORMAT,
	       "what is too short");
	tao_buf_free(&box);
	tao_buf_free(&data);
}

/* ---- domains ---- */

static void count_fact(const char *fact, void *arg)
{
	size_t *n = arg;

	*n += strncmp(fact, "TrustedProgram(", 15) == 0;
}

static void test_domain(const char *dir)
{
	static const char fact[] = "TrustedProgram([0000000000000000000000000000000000000000000000000000000000000000])";
	struct tao_domain *d = NULL;
	struct tao_buf cert = TAO_BUF_INIT;
	uint64_t version;
	size_t n = 0;

	ok_err(tao_domain_create(dir, "Calls", PASS), TAO_OK, "tao_domain_create");
	ok_err(tao_domain_create(dir, "Calls", PASS), TAO_EEXIST, "not twice");
	ok_err(tao_domain_load(dir, "wrong", 5, &d), TAO_EPASS, "a wrong passphrase");
	ok_err(tao_domain_load(dir, PASS, &d), TAO_OK, "tao_domain_load");
	ok(tao_domain_id(d) != NULL, "tao_domain_id");
	ok_err(tao_domain_certificate(d, &cert), TAO_OK, "tao_domain_certificate");
	version = tao_domain_version(d);
	ok_err(tao_domain_add_fact(d, fact), TAO_OK, "tao_domain_add_fact");
	ok_err(tao_domain_add_fact(d, fact), TAO_EEXIST, "once");
	ok(tao_domain_version(d) == version + 1, "tao_domain_version");
	ok(tao_domain_facts(d, count_fact, &n) == TAO_OK && n == 1, "tao_domain_facts");
	ok_err(tao_domain_trusts(d, name), TAO_EDENIED, "tao_domain_trusts: not a program of "
	       "another domain");
	ok_err(tao_domain_remove_fact(d, fact), TAO_OK, "tao_domain_remove_fact");
	ok_err(tao_domain_remove_fact(d, fact), TAO_ENOTFOUND, "once, too");
	tao_domain_free(d);
	tao_domain_free(NULL);
	tao_buf_free(&cert);
}

/* ---- guards ---- */

static void test_simple_guards(void)
{
	struct tao_guard *yes = NULL, *no = NULL;
	struct tao_node *sub = NULL;
	struct tao_decision d;

	ok_err(tao_guard_liberal(&yes), TAO_OK, "tao_guard_liberal");
	ok_err(tao_guard_conservative(&no), TAO_OK, "tao_guard_conservative");
	ok_err(tao_guard_is_authorised(yes, name, "Execute", NULL, NULL, &d), TAO_OK,
	       "tao_guard_is_authorised: yes");
	ok(d.yes && strlen(d.why) > 0, "with a reason");
	ok_err(tao_guard_is_authorised(no, name, "Execute", NULL, NULL, &d), TAO_EDENIED, "and no");
	ok(!d.yes && strlen(d.why) > 0, "with a reason");
	ok_err(tao_guard_subprincipal(no, &sub), TAO_OK, "tao_guard_subprincipal");
	tao_node_free(sub);
	tao_guard_free(yes);
	tao_guard_free(no);
	tao_guard_free(NULL);
}

static void nothing(const char *rule, void *arg)
{
	++*(size_t *)arg;
	(void)rule;
}

static void test_acl(EVP_PKEY *key, const char *path)
{
	static const char rule[] = "Authorized(key([00]), \"Read\")";
	struct tao_guard *g = NULL, *h = NULL;
	struct tao_endorsements said = { 0 };
	struct tao_decision d;
	size_t n = 0;

	ok_err(tao_guard_acl(key, &g), TAO_OK, "tao_guard_acl");
	ok_err(tao_guard_authorise(g, name, "Execute", NULL), TAO_OK, "tao_guard_authorise");
	ok_err(tao_guard_is_authorised(g, name, "Execute", NULL, NULL, NULL), TAO_OK, "allowed");
	ok_err(tao_guard_retract(g, name, "Execute", NULL), TAO_OK, "tao_guard_retract");
	ok_err(tao_guard_is_authorised(g, name, "Execute", NULL, NULL, NULL), TAO_EDENIED,
	       "not any more");
	ok_err(tao_guard_add_rule(g, rule), TAO_OK, "tao_guard_add_rule");
	ok_err(tao_guard_add_rule(g, rule), TAO_EEXIST, "once");
	ok_err(tao_guard_query(g, rule, NULL, &d), TAO_OK, "tao_guard_query");
	ok(tao_guard_count(g) == 1, "tao_guard_count");
	ok(tao_guard_list(g, nothing, &n) == TAO_OK && n == 1, "tao_guard_list");
	ok_err(tao_guard_save(g, key, path), TAO_OK, "tao_guard_save");
	ok(tao_guard_version(g) == 1 && tao_guard_date(g) > 0, "tao_guard_version, tao_guard_date");
	ok_err(tao_guard_retract_rule(g, rule), TAO_OK, "tao_guard_retract_rule");
	ok_err(tao_guard_clear(g), TAO_OK, "tao_guard_clear");
	ok_err(tao_guard_acl(key, &h), TAO_OK, "another");
	ok_err(tao_guard_load(h, path, NULL), TAO_OK, "tao_guard_load");
	ok_err(tao_guard_query(h, rule, NULL, NULL), TAO_OK, "knows it");
	ok_err(tao_guard_import(h, path), TAO_EINVAL, "tao_guard_import: ours is none of "
	       "CloudProxy's");
	ok_err(tao_guard_open(h, "x", 1, NULL), TAO_EFORMAT,
	       "tao_guard_open: nor is this anything");
	ok_err(tao_guard_endorsements(h, "x", 1, TAO_NOW, &said), TAO_EFORMAT,
	       "tao_guard_endorsements");
	tao_endorsements_clear(&said);
	tao_guard_free(g);
	tao_guard_free(h);
}

static void test_guards(const char *dir)
{
	struct tao_buf path = TAO_BUF_INIT;
	EVP_PKEY *key = NULL;

	test_simple_guards();
	tao_buf_fmt(&path, "%s/acls", dir);
	ok_err(tao_key_generate("ecdsap256", &key), TAO_OK, "a policy key");
	test_acl(key, tao_buf_cstr(&path));
	EVP_PKEY_free(key);
	tao_buf_free(&path);
}

/* ---- channels: this program with itself ---- */

struct server {
	struct tao_listener *listener;
	enum tao_err accepted, served, read;
	char heard[16];
	size_t n;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	struct tao_channel *c = NULL;
	int fd = -1;

	s->accepted = tao_channel_accept(s->listener, 20000, &c);
	if (s->accepted == TAO_OK) {
		tao_channel_set_timeout(c, 20000);
		s->read = tao_channel_read(c, s->heard, sizeof s->heard, &s->n);
		tao_channel_write(c, s->heard, s->n);
	}
	tao_channel_close(c);
	s->served = tao_listener_wait(s->listener, 20000, &fd);
	if (s->served == TAO_OK)
		s->served = tao_channel_serve(s->listener, fd, &c);
	if (s->served == TAO_OK)
		tao_channel_close(c);
	return NULL;
}

static void talk(struct tao_channel *c)
{
	struct pollfd p = { .fd = tao_channel_fd(c), .events = POLLIN };
	char answer[2];
	size_t n = 0;

	ok(tao_node_equal(tao_channel_peer(c), name), "tao_channel_peer: it is this program");
	ok_err(tao_channel_write(c, "hello", 5), TAO_OK, "tao_channel_write");
	ok(poll(&p, 1, 20000) == 1, "tao_channel_fd");
	ok_err(tao_channel_read(c, answer, sizeof answer, &n), TAO_OK, "tao_channel_read");
	ok(n == 2 && memcmp(answer, "he", 2) == 0 && tao_channel_pending(c) == 3,
	   "tao_channel_pending");
}

static void test_channel(const char *key)
{
	struct tao_channel_conf conf = { .key = key }, nobody = { .key = key };
	struct server s = { 0 };
	struct tao_channel *c = NULL;
	pthread_t t;
	char port[16];

	ok_err(tao_channel_dial(&nobody, "127.0.0.1", "1", &c), TAO_EINVAL,
	       "nobody says who may be the peer");
	ok_err(tao_guard_liberal(&conf.guard), TAO_OK, "every program of the domain");
	ok_err(tao_channel_listen(&conf, "127.0.0.1", "0", &s.listener), TAO_OK,
	       "tao_channel_listen");
	ok(tao_listener_fd(s.listener) >= 0 && tao_listener_port(s.listener) > 0,
	   "tao_listener_fd, tao_listener_port");
	ok_err(tao_channel_accept(s.listener, 1, &c), TAO_ETIMEOUT, "nobody comes");
	snprintf(port, sizeof port, "%d", tao_listener_port(s.listener));
	ok(pthread_create(&t, NULL, serve, &s) == 0, "a server");
	ok_err(tao_channel_dial(&conf, "127.0.0.1", port, &c), TAO_OK, "tao_channel_dial");
	if (c != NULL)
		talk(c);
	tao_channel_close(c);
	ok_err(tao_channel_dial(&conf, "127.0.0.1", port, &c), TAO_OK, "once more");
	pthread_join(t, NULL);
	tao_channel_close(c);
	ok(s.accepted == TAO_OK && s.read == TAO_OK && s.n == 5, "tao_channel_accept");
	ok(s.served == TAO_OK, "tao_listener_wait, tao_channel_serve");
	tao_listener_close(s.listener);
	ok_err(tao_channel_dial(&conf, "127.0.0.1", port, &c), TAO_ESYS, "nobody listens");
	tao_guard_free(conf.guard);
}

static X509 *load_cert(const char *uri)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
	X509 *cert = NULL;

	while (store != NULL && cert == NULL && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);

		cert = info != NULL ? OSSL_STORE_INFO_get1_CERT(info) : NULL;
		OSSL_STORE_INFO_free(info);
	}
	OSSL_STORE_close(store);
	return cert;
}

static void test_cert(const char *key)
{
	struct tao_buf uri = TAO_BUF_INIT;
	struct tao_node *n = NULL;
	X509 *cert, *ca = load_cert("tao:ca");

	tao_buf_fmt(&uri, "tao:%s/cert", key);
	cert = load_cert(tao_buf_cstr(&uri));
	if (!ok(cert != NULL && ca != NULL, "certificates by their URIs"))
		return;
	ok(tao_cert_principal(cert, &n) == TAO_OK && tao_node_equal(n, name), "tao_cert_principal");
	tao_node_free(n);
	ok_err(tao_cert_principal(ca, &n), TAO_EFORMAT, "the policy key's is no program's");
	X509_free(cert);
	X509_free(ca);
	tao_buf_free(&uri);
}

/* ---- the last: what was before is out of reach ---- */

static void test_extend(void)
{
	struct tao_node *sub = NULL, *word = NULL, *now = NULL;
	struct tao_buf blob = TAO_BUF_INIT, data = TAO_BUF_INIT;

	ok_err(tao_parent_seal(host, SECRET, SECRET_N, NULL, &blob), TAO_OK,
	       "sealed for the exact name");
	ok_err(tao_subprin_parse(".Mode(1)", 8, &sub), TAO_OK, "an extension");
	ok_err(tao_subprin_parse(".Program([00])", 14, &word), TAO_OK, "and one that hosts give");
	ok_err(tao_parent_extend(host, word), TAO_EDENIED, "tao_parent_extend: not that");
	ok_err(tao_parent_extend(host, name), TAO_EINVAL, "nor a whole name");
	ok_err(tao_parent_extend(host, sub), TAO_OK, "but the other");
	ok(tao_parent_name(host, &now) == TAO_OK && tao_prin_ext_count(now) == tao_prin_ext_count(name) + 1 &&
	   tao_prin_covers(name, now), "the name has it");
	ok_err(tao_parent_unseal(host, blob.p, blob.n, &data, NULL), TAO_EWRONGPROG,
	       "what was sealed before stays closed");
	tao_buf_free(&blob);
	tao_buf_free(&data);
	tao_node_free(sub);
	tao_node_free(word);
	tao_node_free(now);
}

int main(int argc, char **argv)
{
	struct tao_buf domain = TAO_BUF_INIT;

	if (argc != 3)
		return 2;
	test_open();
	if (name == NULL)
		return done();
	test_random();
	test_attest();
	test_seal();
	test_seal_as();
	test_secret();
	test_group_key();
	test_counter();
	test_rollback();
	test_protect();
	tao_buf_fmt(&domain, "%s/domain", argv[2]);
	test_domain(tao_buf_cstr(&domain));
	test_guards(argv[2]);
	test_channel(argv[1]);
	test_cert(argv[1]);
	test_extend();
	tao_buf_free(&domain);
	tao_node_free(name);
	tao_parent_close(host);
	return done();
}
