/* Counters: who has them, when they move, what a table's bytes may be, and what happens without
 * one. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../host/counter.h"
#include "../../host/epoch.h"
#include "../../tao/file.h"
#include "tap.h"

#define PASS "correct horse", 13
#define LABELS 5 /* of one program */
#define THREADS 4
#define EACH 25

static char dir[] = "/tmp/tao-t-XXXXXX";
static char table_path[64], epoch_path[64];
static struct tao_keyset keys, other_keys;
static struct tao_sealer sealer;
static struct domain *domain;

static const struct counter_owner a = { COUNTER_PROGRAM, 10, { 0xaa } },
	b = { COUNTER_PROGRAM, 10, { 0xbb } }, c = { COUNTER_PROGRAM, 10, { 0xcc } },
	a_of_another = { COUNTER_PROGRAM, 11, { 0xaa } }, b_of_another = { COUNTER_PROGRAM, 11,
	                 { 0xbb } }, script = { COUNTER_EXACT, 10, { 0xaa } };

static struct counters *open_table(void)
{
	struct counters *cs = counters_open(table_path, &sealer, domain, LABELS);

	if (cs == NULL) {
		printf("Bail out! no table\n");
		exit(1);
	}
	return cs;
}

static struct counters *again(struct counters *cs)
{
	counters_free(cs);
	return open_table();
}

static int64_t value_of(struct counters *cs, const struct counter_owner *o, const char *label)
{
	int64_t v = -1;

	return counter_get(cs, o, label, &v) == TAO_OK ? v : -1;
}

static void basics(struct counters *cs)
{
	struct counter_stamp s;
	int64_t v;

	ok_err(counter_get(cs, &a, "x", &v), TAO_ENOTFOUND, "no counter at first");
	ok_err(counter_next(cs, &a, "x", 1, &s), TAO_ENOTFOUND, "nor a number of it");
	ok_err(counter_init(cs, &a, "x", 7), TAO_OK, "one is made");
	ok(value_of(cs, &a, "x") == 7, "with its number");
	ok_err(counter_init(cs, &a, "x", 7), TAO_OK, "made again");
	ok_err(counter_init(cs, &a, "x", 3), TAO_OK, "and lower");
	ok(value_of(cs, &a, "x") == 7, "it stays");
	ok_err(counter_init(cs, &a, "x", 9), TAO_OK, "higher");
	ok(value_of(cs, &a, "x") == 9, "it is raised");
	ok_err(counter_init(cs, &a, "x", -1), TAO_EINVAL, "not below 0");
	ok(value_of(cs, &b, "x") < 0 && value_of(cs, &a_of_another, "x") < 0 &&
	           value_of(cs, &script, "x") < 0 && value_of(cs, &a, "y") < 0,
	   "another program's, user's, script's or label's is another");
}

static void rollback(struct counters *cs)
{
	struct counter_stamp s1, s2, p1, p2;

	counter_init(cs, &a, "seal", 0);
	ok(counter_next(cs, &a, "seal", 1, &s1) == TAO_OK && s1.number == 1, "the first blob");
	ok_err(counter_check(cs, &a, &s1), TAO_OK, "opens");
	ok_err(counter_check(cs, &b, &s1), TAO_EWRONGPROG, "for its program");
	ok_err(counter_check(cs, &script, &s1), TAO_EWRONGPROG, "not for a script of it");
	ok(counter_next(cs, &a, "seal", 1, &s2) == TAO_OK && s2.number == 2, "the second");
	ok_err(counter_check(cs, &a, &s1), TAO_EDENIED, "ends the first");
	ok_err(counter_check(cs, &a, &s2), TAO_OK, "and opens");
	ok(counter_next(cs, &a, "seal", 0, &p1) == TAO_OK &&
	   counter_next(cs, &a, "seal", 0, &p2) == TAO_OK &&
	           p1.number == 3 && p2.number == 4, "two are prepared, with numbers of their own");
	ok_err(counter_check(cs, &a, &p1), TAO_EDENIED, "neither opens");
	ok_err(counter_check(cs, &a, &s2), TAO_OK, "but the one before");
	ok_err(counter_init(cs, &a, "seal", p2.number), TAO_OK, "until the counter is raised");
	ok(counter_check(cs, &a, &p2) == TAO_OK && counter_check(cs, &a, &s2) == TAO_EDENIED &&
	           counter_check(cs, &a, &p1) == TAO_EDENIED, "to exactly one of them");
	ok(counter_next(cs, &a, "seal", 1, &s1) == TAO_OK && s1.number == 5, "and on it goes");
	s1.id[0] ^= 1;
	ok_err(counter_check(cs, &a, &s1), TAO_ENOTFOUND, "an unknown counter opens nothing");
	counter_init(cs, &a, "end", COUNTER_TOP - 1);
	ok(counter_next(cs, &a, "end", 1, &s1) == TAO_OK && s1.number == COUNTER_TOP,
	   "the last number");
	ok_err(counter_next(cs, &a, "end", 1, &s1), TAO_ELIMIT, "there is none behind it");
}

static enum tao_err take_id(const struct counter *x, void *arg)
{
	if (strcmp(x->label, "seal") == 0 && memcmp(&x->owner, &a, sizeof a) == 0)
		memcpy(arg, x->id, sizeof x->id);
	return TAO_OK;
}

static void removing(struct counters *cs)
{
	struct counter_stamp old, s;
	uint8_t id[COUNTER_ID_LEN] = { 0 };

	counter_next(cs, &a, "seal", 1, &old);
	counters_each(cs, take_id, id);
	ok_err(counters_remove(cs, id, 5), TAO_ENOTFOUND, "half an id");
	ok_err(counters_remove(cs, id, sizeof id), TAO_OK, "a counter is removed");
	ok_err(counters_remove(cs, id, sizeof id), TAO_ENOTFOUND, "once");
	ok(value_of(cs, &a, "x") == 9, "the others stay");
	counter_init(cs, &a, "seal", old.number);
	ok_err(counter_check(cs, &a, &old), TAO_ENOTFOUND, "made again it is another one");
	counter_next(cs, &a, "seal", 1, &s);
	ok(memcmp(s.id, old.id, sizeof s.id) != 0, "with another id");
}

static void add_successor(const struct counter_owner *new_one, const struct counter_owner *old)
{
	struct tao_buf fact = TAO_BUF_INIT;

	tao_buf_str(&fact, "Successor([");
	tao_buf_hex(&fact, new_one->hash, TAO_HASH_LEN);
	tao_buf_str(&fact, "], [");
	tao_buf_hex(&fact, old->hash, TAO_HASH_LEN);
	tao_buf_str(&fact, "])");
	ok_err(domain_add_fact(domain, tao_buf_cstr(&fact)), TAO_OK, "a rule names a successor");
	tao_buf_free(&fact);
}

static void upgrades(struct counters *cs)
{
	struct counter_stamp s, t;

	counter_init(cs, &a, "up", 5);
	counter_next(cs, &a, "up", 1, &s);
	ok_err(counter_check(cs, &b, &s), TAO_EWRONGPROG, "a stranger has no part in it");
	add_successor(&b, &a);
	ok_err(counter_check(cs, &b, &s), TAO_OK, "a successor opens the newest blob");
	ok(value_of(cs, &b_of_another, "up") < 0 &&
	           counter_check(cs, &b_of_another, &s) == TAO_EWRONGPROG,
	   "not when another user runs it");
	ok(value_of(cs, &b, "up") == 6 && value_of(cs, &a, "up") == 6,
	   "and reads the counter, as the former does");
	ok_err(counter_init(cs, &b, "up", 0), TAO_OK, "its own start");
	ok(value_of(cs, &a, "up") == 6, "changes nothing");
	ok(counter_next(cs, &b, "up", 1, &t) == TAO_OK && t.number == 7, "its first blob");
	ok_err(counter_check(cs, &b, &s), TAO_EDENIED, "ends the former ones");
	ok(counter_check(cs, &a, &t) == TAO_EWRONGPROG && value_of(cs, &a, "up") < 0,
	   "and the former program's part in it");
	counter_init(cs, &a, "up", 0);
	counter_init(cs, &a, "up", s.number);
	ok_err(counter_check(cs, &a, &s), TAO_EWRONGPROG, "which cannot go back to its old blobs");
	ok(value_of(cs, &c, "up") < 0, "a program that follows nobody has none");
	add_successor(&c, &b);
	ok(value_of(cs, &c, "up") == 7, "that of the second goes on to the third");
}

static void limits(struct counters *cs)
{
	char label[COUNTER_LABEL_MAX + 2];
	int64_t v;

	memset(label, 'l', sizeof label - 1);
	label[sizeof label - 1] = 0;
	ok_err(counter_init(cs, &script, label, 0), TAO_EINVAL, "a label too long");
	ok_err(counter_init(cs, &script, "", 0), TAO_EINVAL, "an empty one");
	ok_err(counter_init(cs, &script, NULL, 0), TAO_EINVAL, "none");
	ok_err(counter_init(cs, &script, "a\nb", 0), TAO_EINVAL, "with a newline");
	ok_err(counter_get(cs, &script, "a\x7f", &v), TAO_EINVAL, "with a delete");
	label[COUNTER_LABEL_MAX] = 0;
	ok_err(counter_init(cs, &script, label, 0), TAO_OK, "the longest one");
	for (int i = 1; i < LABELS; i++) {
		snprintf(label, sizeof label, "%d", i);
		ok_err(counter_init(cs, &script, label, 0), TAO_OK, "label %d", i + 1);
	}
	ok_err(counter_init(cs, &script, "more", 0), TAO_ELIMIT,
	       "one more than a program may have");
	ok(strstr(tao_why(), "max_labels") != NULL, "it says what to do: %s", tao_why());
	ok_err(counter_init(cs, &script, "1", 5), TAO_OK, "those that there are go on");
}

static void user_limit(void)
{
	struct counter_owner o = { COUNTER_PROGRAM, 77, { 0 } };
	struct counter *list = calloc(COUNTERS_MAX_USER, sizeof *list);
	struct counter_table t = { list, COUNTERS_MAX_USER };
	struct tao_buf plain = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	struct counters *cs;
	char label[] = "l";

	for (int i = 0; i < COUNTERS_MAX_USER; i++) {
		o.hash[0] = (uint8_t)(i >> 8);
		o.hash[1] = (uint8_t)i;
		list[i] = (struct counter){ .owner = o, .label = label };
	}
	counter_table_encode(&t, &plain);
	tao_seal_in(&sealer, 1, TAO_SEAL_COUNTERS, NULL, 0, plain.p, plain.n, &blob);
	tao_file_write(table_path, blob.p, blob.n, 0600, 0);
	cs = open_table();
	ok(value_of(cs, &o, "l") == 0, "a user with as many counters as may be");
	o.hash[2] = 1;
	ok_err(counter_init(cs, &o, "l", 0), TAO_ELIMIT, "cannot have another");
	ok_err(counter_init(cs, &a, "l", 0), TAO_OK, "another user can");
	counters_free(cs);
	free(list);
	tao_buf_free(&plain);
	tao_buf_free(&blob);
}

/* ---- threads ---- */

static struct counters *shared;
static uint8_t seen[THREADS * EACH + 1];

static void *raise_it(void *arg)
{
	struct counter_stamp s;

	(void)arg;
	for (int i = 0; i < EACH; i++)
		if (counter_next(shared, &a, "threads", 1, &s) == TAO_OK && s.number > 0 &&
		    s.number <= THREADS * EACH)
			__atomic_add_fetch(&seen[s.number], 1, __ATOMIC_RELAXED);
	return NULL;
}

static void threads(struct counters *cs)
{
	pthread_t t[THREADS];
	int once = 1;

	shared = cs;
	counter_init(cs, &a, "threads", 0);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, raise_it, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 1; i <= THREADS * EACH; i++)
		once = once && seen[i] == 1;
	ok(once, "each number is given once, whoever asks at the same time");
	ok(value_of(cs, &a, "threads") == THREADS * EACH, "and the counter is at the last");
}

/* ---- files ---- */

static void refused(const char *what)
{
	struct counters *cs = open_table();
	struct counter_stamp s = { { 0 }, 0 };
	int64_t v;

	ok(counters_state(cs) == TAO_EALTERED && strstr(tao_why(), "counters --new") != NULL,
	   "%s: it says what to do", what);
	ok(counter_init(cs, &a, "x", 1) == TAO_EALTERED &&
	   counter_get(cs, &a, "x", &v) == TAO_EALTERED &&
	           counter_next(cs, &a, "x", 1, &s) == TAO_EALTERED &&
	           counter_check(cs, &a, &s) == TAO_EALTERED &&
	           counters_remove(cs, s.id, sizeof s.id) == TAO_EALTERED &&
	           counters_each(cs, take_id, NULL) == TAO_EALTERED,
	   "%s: everything is refused", what);
	counters_free(cs);
}

static void broken_tables(void)
{
	struct tao_buf good = TAO_BUF_INIT;
	struct counters *cs;
	struct stat st;

	tao_file_read(table_path, 1 << 20, &good);
	unlink(table_path);
	refused("a missing table");
	ok(access(table_path, F_OK) != 0, "none was made");
	for (size_t n = 0; n < good.n; n += good.n / 5 + 1) {
		tao_file_write(table_path, good.p, n, 0600, 0);
		refused("a table cut short");
	}
	good.p[good.n / 2] ^= 1;
	tao_file_write(table_path, good.p, good.n, 0600, 0);
	refused("an altered table");
	good.p[good.n / 2] ^= 1;
	unlink(table_path);
	ok_err(counters_create(table_path, &other_keys), TAO_OK, "another host's table");
	refused("it");
	ok_err(counters_create(table_path, &keys), TAO_EEXIST, "making one does not replace one");
	cs = open_table();
	ok_err(counters_renew(cs), TAO_OK, "the owner wants a new one");
	ok_err(counters_renew(cs), TAO_EEXIST, "not again");
	ok_err(counter_init(cs, &a, "x", 1), TAO_OK, "it works");
	cs = again(cs);
	ok(value_of(cs, &a, "x") == 1, "after a restart, too");
	ok(stat(table_path, &st) == 0 && (st.st_mode & 0777) == 0600, "it is the owner's alone");
	counters_free(cs);
	tao_file_write(table_path, good.p, good.n, 0600, 0);
	tao_buf_free(&good);
}

/* What cannot be written has not happened. */
static void unwritable(struct counters *cs)
{
	struct counter_stamp s;
	int64_t before = value_of(cs, &a, "x");

	if (geteuid() == 0) {
		skip("a table that cannot be written", "root writes everywhere");
		return;
	}
	chmod(dir, 0500);
	ok_err(counter_next(cs, &a, "x", 1, &s), TAO_EPERM, "a table that cannot be written");
	chmod(dir, 0700);
	ok(value_of(cs, &a, "x") == before, "stays as it was");
}

static void bytes(void)
{
	static const char one[] = "TaoC\1\0\0\0\1" "\1\0\0\0\12";
	struct tao_buf in = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct counter_table t;
	int bad = 0;

	tao_buf_put(&in, one, sizeof one - 1);
	for (int i = 0; i < TAO_HASH_LEN + COUNTER_ID_LEN; i++)
		tao_buf_u8(&in, (uint8_t)i);
	tao_buf_u64(&in, 5);
	tao_buf_u64(&in, 6);
	tao_buf_put(&in, "\0\2ab", 4);
	ok(counter_table_decode(in.p, in.n, &t) == TAO_OK && t.n == 1 && t.c[0].value == 5 &&
	           t.c[0].issued == 6 && t.c[0].owner.uid == 10 && strcmp(t.c[0].label, "ab") == 0,
	   "a table as it is documented is read");
	ok(counter_table_encode(&t, &out) == TAO_OK && out.n == in.n &&
	   memcmp(out.p, in.p, in.n) == 0,
	   "and written the same");
	counter_table_clear(&t);
	for (size_t n = 0; n < in.n; n++)
		bad += counter_table_decode(in.p, n, &t) == TAO_OK;
	tao_buf_u8(&in, 0);
	bad += counter_table_decode(in.p, in.n, &t) == TAO_OK;
	in.n--;
	ok(bad == 0, "cut short or too long it is not");
	static const struct {
		size_t at;
		uint8_t byte;
		const char *what;
	} cases[] = {
		{ 0, 'X', "magic" }, { 4, 0, "format 0" }, { 8, 2, "count" },
		{ 5, 0xff, "huge count" },
		{ 9, 0, "kind" }, { 9, 3, "kind" }, { 62, 0x80, "a negative value" },
		{ 69, 7, "a value above the issued" }, { 70, 0x80, "issued" },
		{ 79, 0, "no label" },
		{ 80, 0, "a label with NUL" }, { 80, '\n', "with a newline" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint8_t was = in.p[cases[i].at];

		in.p[cases[i].at] = cases[i].byte;
		ok_err(counter_table_decode(in.p, in.n, &t), TAO_EFORMAT, "refused: %s",
		       cases[i].what);
		in.p[cases[i].at] = was;
	}
	in.p[4] = 2;
	ok_err(counter_table_decode(in.p, in.n, &t), TAO_EVERSION, "a newer format");
	in.p[4] = 1;
	in.p[8] = 2;
	tao_buf_put(&in, out.p + 9, out.n - 9);
	ok_err(counter_table_decode(in.p, in.n, &t), TAO_EFORMAT, "one counter twice");
	tao_buf_free(&in);
	tao_buf_free(&out);
}

/* ---- epochs ---- */

static void epoch_file(const char *text, enum tao_err want, const char *what)
{
	struct epochs *es = NULL;

	tao_file_write(epoch_path, text, strlen(text), 0600, 0);
	ok_err(epochs_open(epoch_path, &sealer, &es), want, "epochs: %s", what);
	epochs_free(es);
}

static void epochs(void)
{
	struct tao_buf first = TAO_BUF_INIT, second = TAO_BUF_INIT, out = TAO_BUF_INIT;
	struct epochs *es = NULL;

	ok_err(epochs_open(epoch_path, &sealer, &es), TAO_OK, "without a file");
	ok(sealer.epoch == 1 && sealer.oldest == 1, "it is the first epoch");
	tao_seal(&sealer, TAO_SEAL_DATA, NULL, 0, "one", 3, &first);
	ok_err(epochs_change(es, 0, 1), TAO_EINVAL, "the current one is not retired");
	ok_err(epochs_change(es, 1, 0), TAO_OK, "a new one");
	tao_seal(&sealer, TAO_SEAL_DATA, NULL, 0, "two", 3, &second);
	ok(tao_sealed_epoch(first.p, first.n) == 1 && tao_sealed_epoch(second.p, second.n) == 2,
	   "blobs say theirs");
	ok(tao_unseal(&sealer, TAO_SEAL_DATA, NULL, 0, first.p, first.n, &out) == TAO_OK &&
	           tao_unseal(&sealer, TAO_SEAL_DATA, NULL, 0, second.p, second.n, &out) == TAO_OK,
	   "both open");
	second.p[41] = 1;
	ok_err(tao_unseal(&sealer, TAO_SEAL_DATA, NULL, 0, second.p, second.n, &out), TAO_EALTERED,
	       "none under the other's name");
	second.p[41] = 2;
	ok_err(epochs_change(es, 0, 1), TAO_OK, "the first is retired");
	ok_err(tao_unseal(&sealer, TAO_SEAL_DATA, NULL, 0, first.p, first.n, &out), TAO_EEXPIRED,
	       "its blobs do not open");
	ok_err(tao_unseal_any(&sealer, TAO_SEAL_DATA, NULL, 0, first.p, first.n, &out), TAO_OK,
	       "but for who asks for any");
	ok_err(epochs_change(es, 0, 1), TAO_OK, "again, without effect");
	epochs_free(es);
	tao_sealer_set_epochs(&sealer, 1, 1);
	ok_err(epochs_open(epoch_path, &sealer, &es), TAO_OK, "after a restart");
	ok(sealer.epoch == 2 && sealer.oldest == 2, "they are what they were");
	epochs_free(es);
	epoch_file("tao epochs 1\ncurrent 3\noldest 2\n", TAO_OK, "a file");
	epoch_file("tao epochs 2\ncurrent 3\noldest 2\n", TAO_EVERSION, "a newer one");
	epoch_file("tao epochs 1\ncurrent 2\noldest 3\n", TAO_EFORMAT, "oldest above current");
	epoch_file("tao epochs 1\ncurrent 2\noldest 0\n", TAO_EFORMAT, "none");
	epoch_file("tao epochs 1\ncurrent 02\noldest 1\n", TAO_EFORMAT, "a zero in front");
	epoch_file("tao epochs 1\ncurrent 2\noldest 1", TAO_EFORMAT, "cut short");
	epoch_file("tao epochs 1\ncurrent 2\noldest 1\n\n", TAO_EFORMAT, "more behind it");
	epoch_file("", TAO_EFORMAT, "an empty file");
	tao_sealer_set_epochs(&sealer, 1, 1);
	tao_buf_free(&first);
	tao_buf_free(&second);
	tao_buf_free(&out);
}

int main(void)
{
	struct counters *cs;
	char domain_dir[64], path[128];

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(table_path, sizeof table_path, "%s/counters", dir);
	snprintf(epoch_path, sizeof epoch_path, "%s/epoch", dir);
	snprintf(domain_dir, sizeof domain_dir, "%s/domain", dir);
	if (tao_keyset_generate(&keys) != TAO_OK || tao_keyset_generate(&other_keys) != TAO_OK ||
	    tao_sealer_init(&sealer, &keys) != TAO_OK ||
	    domain_create(domain_dir, "Example", PASS) != TAO_OK ||
	    domain_load(domain_dir, PASS, &domain) != TAO_OK ||
	    counters_create(table_path, &keys) != TAO_OK) {
		printf("Bail out! %s\n", tao_why());
		return 1;
	}
	bytes();
	cs = open_table();
	basics(cs);
	cs = again(cs);
	ok(value_of(cs, &a, "x") == 9, "a restart keeps it");
	rollback(cs);
	removing(cs);
	upgrades(cs);
	cs = again(cs);
	ok(value_of(cs, &c, "up") == 7, "a restart keeps that, too");
	limits(cs);
	unwritable(cs);
	tao_sealer_set_epochs(&sealer, 4, 4);
	counter_init(cs, &a, "x", 100);
	cs = again(cs);
	ok(value_of(cs, &a, "x") == 100, "the table opens in whatever epoch the host is");
	tao_sealer_set_epochs(&sealer, 1, 1);
	threads(cs);
	counters_free(cs);
	broken_tables();
	user_limit();
	epochs();
	domain_free(domain);
	tao_sealer_clear(&sealer);
	tao_keyset_clear(&keys);
	tao_keyset_clear(&other_keys);
	snprintf(path, sizeof path, "rm -rf %s", dir);
	return system(path) != 0 || done();
}
