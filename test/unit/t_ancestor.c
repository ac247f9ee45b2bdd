/* host/ancestor.h: which epochs there are, how their keys are kept and erased, ids;
 * host/spent.h. */
#include <dirent.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../host/ancestor.h"
#include "../../host/spent.h"
#include "../../tao/file.h"
#include "tap.h"

#define SECONDS 100
#define OVERLAP 20
#define AT(epoch, into) ((int64_t)(epoch) * SECONDS + (into))

static char dir[] = "/tmp/tao-t-XXXXXX", channel[64];
static struct tao_sealer sealer, other_sealer;
static struct tao_node *name;
static int complaints;

static void complain(const char *level, const char *why)
{
	(void)level;
	(void)why;
	complaints++;
}

static enum tao_err open_at(int64_t now, struct tao_ancestor *a)
{
	struct ancestor_conf c = {
		.dir = channel, .seconds = SECONDS, .overlap = OVERLAP, .name = name,
		.sealer = &sealer, .say = complain,
	};

	return ancestor_local_new(&c, now, a);
}

static void must(enum tao_err e)
{
	if (e == TAO_OK)
		return;
	printf("Bail out! %s\n", tao_why());
	exit(1);
}

static struct principal *program(int64_t number)
{
	struct tao_node *n = tao_prin_extend(name, tao_ext("Test", 1, tao_term_int(number)));
	struct principal *p = NULL;

	must(principal_new(n, &p));
	tao_node_free(n);
	return p;
}

static int files(void)
{
	DIR *d = opendir(channel);
	int n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void path_of(unsigned epoch, char path[96])
{
	snprintf(path, 96, "%s/epoch-%u", channel, epoch);
}

static int on_file(unsigned epoch)
{
	char path[96];

	path_of(epoch, path);
	return access(path, F_OK) == 0;
}

#define F(a, f, ...) ((a)->fn->f((a)->data, __VA_ARGS__))

/* ---- epochs ---- */

static void acceptance(struct tao_ancestor *a)
{
	ok(F(a, epoch, AT(1000, 0)) == 1000 && F(a, epoch, AT(1000, 99)) == 1000,
	   "the present epoch");
	ok_err(F(a, accepts, AT(1000, 50), 1000), TAO_OK, "is accepted");
	ok_err(F(a, accepts, AT(1000, 0), 999), TAO_OK, "the one before it");
	ok_err(F(a, accepts, AT(1000, 19), 999), TAO_OK, "in the overlap");
	ok_err(F(a, accepts, AT(1000, 20), 999), TAO_EEXPIRED, "and no longer");
	ok_err(F(a, accepts, AT(1000, 49), 1001), TAO_EEXPIRED, "the next one is too early");
	ok_err(F(a, accepts, AT(1000, 50), 1001), TAO_OK, "until half an epoch before");
	ok_err(F(a, accepts, AT(1000, 50), 998), TAO_EEXPIRED, "one of long ago");
	ok_err(F(a, accepts, AT(1000, 50), 1002), TAO_EEXPIRED, "one of later");
}

static void pair(struct tao_ancestor *a, uint32_t epoch, uint8_t key[TLSKEYS_LEN])
{
	struct principal *c = program(1), *s = program(2);

	must(F(a, pair_key, epoch, c, s, key));
	principal_unref(c);
	principal_unref(s);
}

static enum tao_err try_pair(struct tao_ancestor *a, uint32_t epoch)
{
	uint8_t key[TLSKEYS_LEN];
	struct principal *c = program(1);
	enum tao_err e = F(a, pair_key, epoch, c, c, key);

	principal_unref(c);
	return e;
}

static void life(void)
{
	uint8_t before[TLSKEYS_LEN], key[TLSKEYS_LEN], next[TLSKEYS_LEN], again[TLSKEYS_LEN];
	struct tao_ancestor a;
	struct stat st;
	char path[96];

	must(open_at(AT(1000, 50), &a));
	acceptance(&a);
	ok(on_file(1000) && on_file(1001) && files() == 2, "this epoch and the next are on file");
	path_of(1000, path);
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "for the owner alone");
	pair(&a, 1000, before);
	pair(&a, 1001, next);
	ok(memcmp(before, next, sizeof next) != 0, "with other keys");
	ok_err(try_pair(&a, 999), TAO_EBUSY, "there are none of the epoch before");
	must(F(&a, prepare, AT(1001, 10)));
	ok(on_file(1000) && on_file(1001) && on_file(1002) && files() == 3,
	   "the overlap has three");
	pair(&a, 1001, key);
	ok(memcmp(key, next, sizeof key) == 0, "the next one became the present one");
	ancestor_clear(&a);
	must(open_at(AT(1001, 15), &a));
	pair(&a, 1000, again);
	ok(memcmp(again, before, sizeof again) == 0, "all three outlive taod: the one before");
	pair(&a, 1001, again);
	ok(memcmp(again, key, sizeof again) == 0, "and the present one");
	must(F(&a, prepare, AT(1001, 20)));
	ok(!on_file(1000) && files() == 2, "with the overlap its file ends");
	ok_err(try_pair(&a, 1000), TAO_EBUSY, "and its keys");
	ok(!a.fn->ready(a.data, 1000) && a.fn->ready(a.data, 1002), "as can be asked");
	ancestor_clear(&a);
	must(open_at(AT(1010, 0), &a));
	ok(on_file(1010) && on_file(1011) && files() == 2,
	   "what has been over for long goes at the start");
	must(F(&a, prepare, AT(1005, 0)));
	ok(on_file(1005) && on_file(1006) && files() == 2, "a clock that is set back begins anew");
	ok(complaints == 0, "without a complaint");
	ancestor_clear(&a);
}

static void damage(int64_t now, const char *what, size_t at, int cut)
{
	struct tao_buf b = TAO_BUF_INIT;
	struct tao_ancestor a;
	uint8_t was[TLSKEYS_LEN], is[TLSKEYS_LEN];
	char path[96];

	must(open_at(now, &a));
	pair(&a, F(&a, epoch, now), was);
	path_of(F(&a, epoch, now), path);
	ancestor_clear(&a);
	must(tao_file_read(path, 4096, &b));
	b.p[at] ^= 1;
	if (cut)
		b.n = at;
	must(tao_file_write(path, b.p, b.n, 0600, 0));
	complaints = 0;
	ok_err(open_at(now, &a), TAO_OK, "%s", what);
	pair(&a, F(&a, epoch, now), is);
	ok(memcmp(was, is, sizeof is) != 0 && complaints == 1, "fresh keys, and a complaint");
	ancestor_clear(&a);
	tao_buf_free(&b);
}

/* A file that this host has sealed, with that plaintext. */
static enum tao_err with_plain(unsigned epoch, uint8_t format, uint32_t seconds, size_t extra,
                               const struct tao_sealer *by)
{
	struct tao_buf plain = TAO_BUF_INIT, blob = TAO_BUF_INIT;
	struct tao_ancestor a = { NULL, NULL };
	char path[96];
	enum tao_err e;

	path_of(epoch, path);
	tao_buf_u8(&plain, format);
	tao_buf_u32(&plain, epoch);
	tao_buf_u32(&plain, seconds);
	tao_buf_room(&plain, 2 * TLSKEYS_LEN + extra);
	must(tao_seal(by, TAO_SEAL_EPOCH, "tao channel epoch", 17, plain.p, plain.n, &blob));
	must(tao_file_write(path, blob.p, blob.n, 0600, 0));
	complaints = 0;
	e = open_at(AT(epoch, 0), &a);
	ancestor_clear(&a);
	tao_buf_free(&plain);
	tao_buf_free(&blob);
	return e;
}

static void bad_files(void)
{
	damage(AT(2000, 30), "an altered file", 100, 0);
	damage(AT(2000, 30), "another host's header", 10, 0);
	damage(AT(2000, 30), "a cut file", 60, 1);
	ok(with_plain(2100, 1, SECONDS, 0, &sealer) == TAO_OK && complaints == 0,
	   "a file as it should be");
	ok(with_plain(2200, 1, SECONDS + 1, 0, &sealer) == TAO_OK && complaints == 1,
	   "epochs of another length are not taken up");
	ok(with_plain(2300, 1, SECONDS, 1, &sealer) == TAO_OK && complaints == 1,
	   "nor more than keys");
	ok(with_plain(2400, 0, SECONDS, 0, &sealer) == TAO_OK && complaints == 1,
	   "nor another format");
	ok(with_plain(2500, 1, SECONDS, 0, &other_sealer) == TAO_OK && complaints == 1,
	   "nor another host's");
	ok_err(with_plain(2600, 2, SECONDS, 0, &sealer), TAO_EVERSION,
	       "a newer version's file is left");
	ok(on_file(2600), "where it is");
}

/* A directory in its place cannot be written over: root may write everywhere else. */
static void no_disk(void)
{
	struct tao_ancestor a;
	char path[96];

	must(open_at(AT(3000, 0), &a));
	path_of(3002, path);
	must(tao_dir_make(path, 0700));
	complaints = 0;
	ok_err(F(&a, prepare, AT(3001, 30)), TAO_OK, "a file that cannot be written");
	ok(complaints > 0 && a.fn->ready(a.data, 3002), "is a complaint; the keys are there");
	rmdir(path);
	ok_err(F(&a, prepare, AT(3001, 40)), TAO_OK, "when it can");
	ok(on_file(3002), "it is");
	ancestor_clear(&a);
}

/* ---- ids ---- */

static int resolves(struct tao_ancestor *a, uint32_t epoch, const uint8_t *id,
                    struct principal *want)
{
	struct principal *p = NULL;
	int same = F(a, resolve, epoch, id, &p) == TAO_OK && memcmp(p->hash, want->hash, 32) == 0;

	principal_unref(p);
	return same;
}

static void ids(void)
{
	uint8_t one[3][TLSKEYS_ID], two[TLSKEYS_ID], none[TLSKEYS_ID] = { 0 };
	struct principal *p = program(1), *q = program(2), *same = program(1), *nobody = NULL;
	struct tao_ancestor a;

	must(open_at(AT(4000, 90), &a));
	ok_err(F(&a, id, 4000, p, one[0]), TAO_ENOTFOUND, "who did not enter has no id");
	must(F(&a, enter, p));
	must(F(&a, enter, same));
	must(F(&a, enter, q));
	must(F(&a, id, 4000, p, one[0]));
	must(F(&a, id, 4001, p, one[1]));
	must(F(&a, id, 4000, q, two));
	ok(memcmp(one[0], one[1], sizeof two) != 0 && memcmp(one[0], two, sizeof two) != 0,
	   "each program, in each epoch, has its own");
	ok(resolves(&a, 4000, one[0], p) && resolves(&a, 4001, one[1], p) &&
	   resolves(&a, 4000, two, q),
	   "and is found by it");
	ok(!resolves(&a, 4001, one[0], p), "in that epoch");
	ok_err(F(&a, resolve, 4000, none, &nobody), TAO_ENOTFOUND, "nobody has another");
	must(F(&a, prepare, AT(4001, 0)));
	must(F(&a, id, 4002, p, one[2]));
	ok(resolves(&a, 4002, one[2], p) && resolves(&a, 4000, one[0], p),
	   "a new epoch has all who are here");
	must(F(&a, prepare, AT(4001, 30)));
	ok_err(F(&a, resolve, 4000, one[0], &nobody), TAO_EBUSY, "an old one nobody");
	a.fn->leave(a.data, p);
	ok(resolves(&a, 4001, one[1], p), "who entered twice is there");
	a.fn->leave(a.data, same);
	ok_err(F(&a, resolve, 4001, one[1], &nobody), TAO_ENOTFOUND, "until he left twice");
	ok_err(F(&a, resolve, 4002, one[2], &nobody), TAO_ENOTFOUND, "in every epoch");
	ancestor_clear(&a);
	principal_unref(p);
	principal_unref(q);
	principal_unref(same);
}

/* ---- what was spent ---- */

static void spending(void)
{
	struct spent_room room = { { .max = 3000 }, 0x9e3779b97f4a7c15 };
	struct spent s = { .uid = 1 }, other = { .uid = 2 };
	int64_t floor = 0;
	int good = 0, twice = 0;

	for (uint64_t v = 0; v < 1000; v++)
		good += spent_add(&s, &room, 1000, 5000 + (int64_t)v % 90, v * v + 7) == TAO_OK;
	for (uint64_t v = 0; v < 1000; v++)
		twice += spent_add(&s, &room, 1000, 5000 + (int64_t)v % 90, v * v + 7) == TAO_EEXIST;
	ok(good == 1000 && twice == 1000 && s.n == 1000 && room.share.used == 1000,
	   "each value once");
	ok_err(spent_add(&s, &room, 1000, 5000, 3), TAO_ELIMIT, "a full set refuses");
	ok(spent_add(&s, &room, 1000, 5000, 7) == TAO_EEXIST, "and has forgotten nothing");
	for (uint64_t v = 0; v < 1000; v++)
		must(spent_add(&other, &room, 5000, 5000, v + 2));
	ok_err(spent_add(&other, &room, 5000, 5000, 5000), TAO_ELIMIT,
	       "nor is there more than a user's share");
	spent_sweep(&s, &room, 5000, &floor);
	ok(s.n == 1000 && floor == 0, "what is not too old stays");
	spent_sweep(&s, &room, 5041, &floor);
	ok(s.n < 1000 && s.n > 0 && room.share.used == 1000 + s.n && floor == 5040,
	   "the rest goes, up to the floor");
	ok(spent_add(&s, &room, 1000, 5089, 89 * 89 + 7) == TAO_EEXIST, "what is younger is known");
	spent_clear(&s, &room);
	spent_clear(&other, &room);
	ok(room.share.used == 0, "nothing is left");
}

/* How many more that user gets. */
static size_t take_all(struct share *s, uid_t uid)
{
	size_t n = 0;

	while (share_take(s, uid))
		n++;
	return n;
}

static void sharing(void)
{
	struct share s = { .max = 60 };

	ok(take_all(&s, 1) == 30, "a user alone has half, and not one more");
	ok(take_all(&s, 1 + SHARE_BUCKETS) == 15, "the next one half of the rest");
	ok(take_all(&s, SHARE_NOBODY) == 8 && take_all(&s, 1) == 0,
	   "and so on; nobody gets more meanwhile");
	share_give(&s, 1, 11);
	ok(take_all(&s, 1) == 0 && s.used == 42, "who has more than is free waits");
	share_give(&s, 1, 10);
	ok(take_all(&s, 1) == 10 && s.used == 42, "until it has less");
	share_give(&s, 1, 100);
	share_give(&s, 1 + SHARE_BUCKETS, 15);
	share_give(&s, SHARE_NOBODY, 8);
	ok(s.used == 0 && take_all(&s, 7) == 30, "what is given back is there again");
	share_give(&s, 7, 30);

	s.max = 1 << 20;
	for (uid_t u = 1; u < 300; u++)
		take_all(&s, u % 15);
	ok(take_all(&s, 15) > 0, "fifteen users that take all they get leave something to the next "
	   "one");
	for (uid_t u = 0; u <= 15; u++)
		share_give(&s, u, s.max);
	ok(s.used == 0, "nothing is left");
}

/* Whose share a principal takes is in its name. */
static void users(void)
{
	static const struct {
		const char *text;
		uid_t uid;
	} cases[] = {
		{ "key([00]).Measured([01], [02], 7).PolicyKey([03])", 7 },
		{ "key([00]).Measured([01], [02], 7).PolicyKey([03]).Sub(9)", 7 },
		{ "key([00]).Process([01], 8, \"unit\").PolicyKey([03])", 8 },
		{ "key([00]).Program([01]).PolicyKey([03]).Sub(9)", SHARE_NOBODY },
		{ "key([00]).Measured([01], [02], 7).Program([01])", SHARE_NOBODY },
		{ "key([00]).Measured([01], [02], 7).Measured([01], [02], 10)", 10 },
	};
	size_t good = 0;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tao_node *n = NULL;
		struct principal *p = NULL;

		must(tao_prin_parse(cases[i].text, strlen(cases[i].text), &n));
		must(principal_new(n, &p));
		good += p->uid == cases[i].uid;
		principal_unref(p);
		tao_node_free(n);
	}
	ok(good == sizeof cases / sizeof *cases, "the user of the last measurement");
}

int main(void)
{
	struct tao_keyset ks = { 0 };
	static const uint8_t host[TAO_HASH_LEN] = { 7 };
	char cmd[128];

	if (mkdtemp(dir) == NULL)
		must(tao_fail_sys("%s", dir));
	snprintf(channel, sizeof channel, "%s/channel", dir);
	must(tao_keyset_generate(&ks));
	must(tao_sealer_init(&sealer, &ks));
	tao_keyset_clear(&ks);
	must(tao_keyset_generate(&ks));
	must(tao_sealer_init(&other_sealer, &ks));
	tao_keyset_clear(&ks);
	name = tao_prin_key(host);
	life();
	bad_files();
	no_disk();
	ids();
	spending();
	sharing();
	users();
	tao_node_free(name);
	tao_sealer_clear(&sealer);
	tao_sealer_clear(&other_sealer);
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	if (system(cmd) != 0)
		printf("# %s stays\n", dir);
	return done();
}
