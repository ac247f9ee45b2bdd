/* The audit log's files: what is a record, what a writer leaves, what a check finds. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../host/audit.h"
#include "../../host/auditfile.h"
#include "../../host/host.h"
#include "../../tao/file.h"
#include "tap.h"

#define BIG (1u << 20)
#define SMALL_FILE 4096
#define FLOOD (AUDIT_BURST + 500)
#define SHORT_LIVED 400
#define Z64 "0000000000000000000000000000000000000000000000000000000000000000"
#define HEAD "{\"seq\":7,\"time\":\"2026-11-23T08:00:00.123Z\",\"prev\":\"" Z64 "\",\"event\":\"x\""

static char dir[64];
static struct tao_signer signer;

/* ---- records ---- */

static void good(const char *line, const char *what)
{
	struct audit_record r;

	ok_err(audit_parse(line, strlen(line), &r), TAO_OK, "%s", what);
}

static void bad(const char *line, const char *what)
{
	struct audit_record r;

	ok_err(audit_parse(line, strlen(line), &r), TAO_EFORMAT, "refused: %s", what);
}

static void check_records(void)
{
	static const char all[] = HEAD ",\"uid\":1000,\"a\":\"q\\\"\\\\\\n\\u0001\xc3\xa4\",\"n\":-5,"
	                          "\"t\":true,\"z\":null}";
	struct tao_buf text = TAO_BUF_INIT, many = TAO_BUF_INIT;
	struct audit_record r;
	uint64_t v;

	ok_err(audit_parse(all, strlen(all), &r), TAO_OK, "a record");
	ok(r.seq == 7 && r.has_uid && r.uid == 1000 && r.n == 9, "with what it says");
	audit_text(audit_member(&r, "a"), &text);
	ok_str(tao_buf_cstr(&text), "q\"\\\n\x01\xc3\xa4", "escapes");
	ok_err(audit_number(audit_member(&r, "n"), &v), TAO_EFORMAT, "a number below 0");
	ok_err(audit_number(audit_member(&r, "t"), &v), TAO_EFORMAT, "what is no number");
	ok_err(audit_number(audit_member(&r, "none"), &v), TAO_EFORMAT, "what is not there");
	good(HEAD "}", "the least");
	bad("", "nothing");
	bad("{}", "no members");
	bad(HEAD, "no end");
	bad(HEAD "} ", "more behind");
	bad(HEAD ",}", "a comma too much");
	bad(HEAD ",\"a\":1 }", "white space");
	bad(HEAD ",\"a\":{}}", "an object inside");
	bad(HEAD ",\"a\":[]}", "an array inside");
	bad(HEAD ",\"a\":01}", "a leading zero");
	bad(HEAD ",\"a\":1.5}", "a fraction");
	bad(HEAD ",\"a\":12345678901234567890}", "20 digits");
	bad(HEAD ",\"a\":-}", "a sign alone");
	bad(HEAD ",\"a\":yes}", "a word");
	bad(HEAD ",\"a\":\"\n\"}", "a control character");
	bad(HEAD ",\"a\":\"\\x\"}", "an escape");
	bad(HEAD ",\"a\":\"\\u00\"}", "half an escape");
	bad(HEAD ",\"a\":\"}", "an open string");
	bad(HEAD ",\"A\":1}", "a name in capitals");
	bad(HEAD ",\"\":1}", "an empty name");
	bad(HEAD ",\"a\":1,\"a\":2}", "a name twice");
	bad(HEAD ",\"seq\":8}", "a number twice");
	bad(HEAD ",\"uid\":-1}", "a user below 0");
	bad(HEAD ",\"uid\":4294967296}", "a user above all");
	bad(HEAD ",\"uid\":\"0\"}", "a user in words");
	bad("{\"seq\":0,\"time\":\"2026-11-23T08:00:00.123Z\",\"prev\":\"" Z64 "\",\"event\":\"x\"}", "record 0");
	bad("{\"seq\":1,\"time\":\"2026-11-23T08:00:00Z\",\"prev\":\"" Z64 "\",\"event\":\"x\"}",
	    "a short time");
	bad("{\"seq\":1,\"time\":\"2026-11-23T08:00:00.123Z\",\"prev\":\"00\",\"event\":\"x\"}",
	    "a short hash");
	bad("{\"seq\":1,\"time\":\"2026-11-23T08:00:00.123Z\",\"prev\":\"" Z64 "\",\"event\":1}",
	    "no word");
	bad("{\"time\":\"2026-11-23T08:00:00.123Z\",\"seq\":1,\"prev\":\"" Z64 "\",\"event\":\"x\"}", "another order");
	tao_buf_str(&many, HEAD);
	for (int i = 4; i < AUDIT_MEMBERS_MAX; i++)
		tao_buf_fmt(&many, ",\"a%c%c\":1", 'a' + i / 26, 'a' + i % 26);
	tao_buf_u8(&many, '}');
	good(tao_buf_cstr(&many), "the most members");
	many.n--;
	tao_buf_str(&many, ",\"more\":1}");
	bad(tao_buf_cstr(&many), "one more");
	tao_buf_reset(&many);
	tao_buf_str(&many, HEAD ",\"a\":\"");
	while (many.n < AUDIT_LINE_MAX - 2)
		tao_buf_u8(&many, 'x');
	tao_buf_str(&many, "\"}");
	good(tao_buf_cstr(&many), "the longest");
	many.n -= 2;
	tao_buf_str(&many, "x\"}");
	bad(tao_buf_cstr(&many), "one byte more");
	tao_buf_free(&text);
	tao_buf_free(&many);
}

/* ---- files ---- */

static enum tao_err put(struct audit_file *f, int n)
{
	struct audit_entry v = { 1000000000, TAO_BUF_INIT };
	enum tao_err e = TAO_OK;

	for (int i = 0; e == TAO_OK && i < n; i++) {
		tao_buf_reset(&v.body);
		tao_buf_fmt(&v.body, "\"event\":\"test\",\"i\":%d", i);
		e = audit_file_put(f, &v, 1);
	}
	tao_buf_free(&v.body);
	return e;
}

static struct audit_file *open_or_die(uint32_t max)
{
	struct audit_file *f;

	if (audit_file_open(dir, max, &signer, &f) == TAO_OK)
		return f;
	printf("Bail out! %s\n", tao_why());
	exit(1);
}

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void empty_dir(void)
{
	struct audit_files f;
	char name[AUDIT_NAME_MAX];

	if (audit_files_list(dir, &f) != TAO_OK)
		return;
	for (size_t i = 0; i < audit_files_count(&f); i++) {
		audit_file_name(&f, i, name);
		unlink(in_dir(name));
	}
	audit_files_clear(&f);
}

static void verifies(const char *what, uint64_t last, uint64_t files)
{
	uint8_t key[TAO_HASH_LEN];
	struct audit_verdict v;

	tao_key_hash(signer.public, key);
	ok_err(audit_verify(dir, key, NULL, &v), TAO_OK, "%s verifies", what);
	ok(v.last == last && v.files == files, "%s: %llu records in %llu files", what,
	   (unsigned long long)v.last, (unsigned long long)v.files);
}

static void check_life(void)
{
	struct audit_file *f = open_or_die(BIG);
	struct audit_verdict v;
	struct audit_at at;

	ok_str(audit_file_left(f), "nothing", "a new log");
	ok_err(put(f, 3), TAO_OK, "records");
	verifies("without a checkpoint", 4, 1);
	ok_err(audit_file_checkpoint(f, "time"), TAO_OK, "a checkpoint");
	ok_err(audit_file_checkpoint(f, "time"), TAO_OK, "another is not needed");
	audit_file_at(f, &at);
	ok(at.head.seq == 5 && at.signed_to == 5, "so there is one");
	ok_err(put(f, AUDIT_SIGN_EVERY + 1), TAO_OK, "many records");
	audit_file_at(f, &at);
	ok(at.signed_to == 5 + AUDIT_SIGN_EVERY + 1, "bring one by themselves");
	ok_err(audit_file_checkpoint(f, "stop"), TAO_OK, "the stop");
	audit_file_close(f);
	ok(audit_verify(dir, NULL, NULL, &v) == TAO_OK && v.ended, "is seen");
	f = open_or_die(BIG);
	ok_str(audit_file_left(f), "stop", "and told at the next start");
	ok_err(put(f, 1), TAO_OK, "which goes on");
	audit_file_close(f);
	f = open_or_die(BIG);
	ok_str(audit_file_left(f), "kill", "after a kill");
	audit_file_close(f);
	verifies("all of it", AUDIT_SIGN_EVERY + 9, 1);
	empty_dir();
}

static void check_rotation(void)
{
	struct audit_file *f = open_or_die(SMALL_FILE);
	struct audit_verdict v;
	struct audit_at at;

	ok_err(put(f, 100), TAO_OK, "records above a file's size");
	audit_file_at(f, &at);
	ok(at.number > 2, "are in %u files", at.number);
	verifies("the chain over files", at.head.seq, at.number);
	audit_file_close(f);
	unlink(in_dir("00000001.log"));
	ok(audit_verify(dir, NULL, NULL, &v) == TAO_OK && v.first > 1,
	   "the oldest may be moved away");
	unlink(in_dir("00000003.log"));
	ok(at.number < 4 || audit_verify(dir, NULL, NULL, &v) == TAO_EALTERED,
	   "but none in between");
	for (uint32_t i = 2; i < at.number; i++) {
		char name[AUDIT_NAME_MAX];

		snprintf(name, sizeof name, "%08u.log", i);
		unlink(in_dir(name));
	}
	f = open_or_die(SMALL_FILE);
	ok_err(put(f, 50), TAO_OK, "with the current file alone");
	audit_file_close(f);
	ok(audit_verify(dir, NULL, NULL, &v) == TAO_OK && v.first > 1 && v.last > at.head.seq + 50,
	   "the numbers go on");
	empty_dir();
}

static void move(const char *from, const char *to)
{
	char path[128];

	snprintf(path, sizeof path, "%s", in_dir(from));
	ok(rename(path, in_dir(to)) == 0, "%s becomes %s", from, to);
}

/* Killed between naming the old file and beginning the new one. */
static void check_between_files(void)
{
	struct audit_file *f = open_or_die(BIG);

	put(f, 2);
	audit_file_close(f);
	move("current.log", "00000001.log");
	f = open_or_die(BIG);
	ok_err(put(f, 2), TAO_OK, "no current file");
	audit_file_close(f);
	verifies("that log", 6, 2);
	empty_dir();
}

static void append(const char *text)
{
	int fd = open(in_dir("current.log"), O_WRONLY | O_APPEND);

	ok(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text),
	   "bytes behind the end");
	close(fd);
}

static void check_torn(void)
{
	static const char *const tails[] = { "{\"seq\":", "garbage\n", "{\"seq\":9}\nmore\n" };

	for (size_t i = 0; i < 3; i++) {
		struct audit_file *f = open_or_die(BIG);
		struct tao_buf kept = TAO_BUF_INIT;

		put(f, 2);
		audit_file_close(f);
		append(tails[i]);
		f = open_or_die(BIG);
		ok_err(put(f, 1), TAO_OK, "go on behind half a record");
		audit_file_close(f);
		verifies("what is left", 5, 1);
		ok_err(tao_file_read(in_dir("torn-4"), BIG, &kept), TAO_OK, "the rest is kept");
		ok_str(tao_buf_cstr(&kept), tails[i], "as it was");
		tao_buf_free(&kept);
		unlink(in_dir("torn-4"));
		empty_dir();
	}
}

/* Nothing is written behind what others did, without a word. */
static void check_altered(void)
{
	struct audit_file *f = open_or_die(BIG);
	struct audit_verdict v;

	put(f, 2);
	append("{}\n");
	ok_err(put(f, 2), TAO_OK, "it goes on");
	ok(audit_verify(dir, NULL, NULL, &v) == TAO_EALTERED && v.bad == 4,
	   "a strange line is found");
	unlink(in_dir("current.log"));
	ok_err(put(f, 2), TAO_OK, "the file is removed");
	ok(access(in_dir("current.log"), F_OK) == 0, "another is begun");
	ok_err(audit_verify(dir, NULL, NULL, &v), TAO_OK, "as if those before were moved away");
	ok(v.first > 4, "which its first number tells");
	audit_file_close(f);
	empty_dir();
}

/* A file that cannot grow: as a full disk. */
static void check_full(void)
{
	struct rlimit before, small;
	struct audit_file *f = open_or_die(BIG);
	struct audit_at at, then;

	put(f, 2);
	audit_file_at(f, &at);
	getrlimit(RLIMIT_FSIZE, &before);
	small = before;
	small.rlim_cur = at.bytes + 50; /* half a record fits */
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	ok_err(put(f, 1), TAO_ESYS, "a full disk");
	ok_err(put(f, 1), TAO_ESYS, "again");
	setrlimit(RLIMIT_FSIZE, &before);
	audit_file_at(f, &then);
	ok(then.head.seq == at.head.seq && then.bytes == at.bytes, "leaves it as it was");
	ok_err(put(f, 1), TAO_OK, "with room it goes on");
	audit_file_close(f);
	verifies("and nothing is half", 4, 1);
	empty_dir();
}

static void check_marks(void)
{
	struct audit_file *f = open_or_die(BIG);
	struct audit_verdict v;
	struct audit_at at;
	uint8_t other[TAO_HASH_LEN] = { 1 };

	put(f, 2);
	audit_file_checkpoint(f, "time");
	audit_file_at(f, &at);
	audit_file_close(f);
	ok_err(audit_verify(dir, NULL, &at.head, &v), TAO_OK, "a mark that is there");
	at.head.hash[0] ^= 1;
	ok(audit_verify(dir, NULL, &at.head, &v) == TAO_EALTERED && v.bad == 4, "another record");
	at.head.seq = 10;
	ok(audit_verify(dir, NULL, &at.head, &v) == TAO_EALTERED && v.bad == 10,
	   "one behind the end");
	ok(audit_verify(dir, other, NULL, &v) == TAO_EALTERED && v.bad == 4, "another key");
	ok_err(audit_verify("/nonexistent", NULL, NULL, &v), TAO_ENOTFOUND, "no log");
	empty_dir();
	ok(audit_verify(dir, NULL, NULL, &v) == TAO_OK && v.last == 0, "an empty one");
}

/* Who causes too many records has the others counted, also when that are those of many
 * instances. */
static uint64_t summed(const char *line, uint64_t uid)
{
	struct audit_record r;
	uint64_t n = 0;

	if (audit_parse(line, strcspn(line, "\n"), &r) != TAO_OK || !r.has_uid || r.uid != uid)
		return 0;
	if (audit_number(audit_member(&r, "n"), &n) != TAO_OK)
		n = 1; /* a record itself */
	return n;
}

static void flood(struct host *h)
{
	struct tao_node name = { .tag = TAO_INT };
	struct name_version version = { .node = &name };

	for (int n = 0; n < FLOOD; n++)
		audit_event(h, "flood", NULL, 1, TAO_OK, NULL, NULL);
	for (int n = 1; n <= SHORT_LIVED; n++) {
		struct instance i = { .id = (uint64_t)n, .uid = 1, .program = (char *)"/bin/true" };

		atomic_store(&i.name, &version);
		audit_event(h, "begin", &i, 0, TAO_OK, NULL, NULL);
		audit_event(h, "end", &i, 0, TAO_OK, NULL, NULL);
	}
	for (int n = 0; n < FLOOD; n++)
		audit_event(h, "flood", NULL, 2, TAO_OK, NULL, NULL);
}

static void check_sums(void)
{
	struct host h = { .conf = { .dir = dir, .audit_bytes = BIG * 8 }, .signer = signer };
	struct tao_node name = { .tag = TAO_INT };
	char path[2 * sizeof dir];
	struct audit_state state;
	struct tao_buf log = TAO_BUF_INIT;
	uint64_t n[3] = { 0, 0, 0 };

	h.name = &name;
	h.registry = registry_new(&h.conf);
	snprintf(path, sizeof path, "%s/audit", dir);
	mkdir(path, 0700);
	ok_err(audit_start(&h, &h.audit), TAO_OK, "a log begins");
	flood(&h);
	audit_state(h.audit, &state);
	ok(state.lost == 0, "nobody's records are lost (%llu)", (unsigned long long)state.lost);
	audit_stop(&h);
	snprintf(path, sizeof path, "%s/audit/current.log", dir);
	ok_err(tao_file_read(path, BIG * 8, &log), TAO_OK, "is there");
	for (const char *line = tao_buf_cstr(&log); line != NULL && *line != 0;
	     line = strchr(line, '\n') + 1)
		for (uint64_t uid = 1; uid <= 2; uid++)
			n[uid] += summed(line, uid);
	ok(n[1] == FLOOD + 2 * SHORT_LIVED, "all of one user are counted (%llu)",
	   (unsigned long long)n[1]);
	ok(n[2] == FLOOD, "and all of another (%llu)", (unsigned long long)n[2]);
	tao_buf_free(&log);
	registry_free(h.registry);
	unlink(path);
	snprintf(path, sizeof path, "%s/audit", dir);
	rmdir(path);
}

int main(void)
{
	EVP_PKEY *key = NULL;

	snprintf(dir, sizeof dir, "/tmp/tao-audit-%d", (int)getpid());
	if (mkdir(dir, 0700) != 0 || tao_key_generate("ecdsap256", &key) != TAO_OK ||
	    tao_signer_init(&signer, key) != TAO_OK) {
		printf("Bail out! %s\n", tao_why());
		return 1;
	}
	EVP_PKEY_free(key);
	check_records();
	check_life();
	check_rotation();
	check_between_files();
	check_torn();
	check_altered();
	check_full();
	check_marks();
	check_sums();
	tao_signer_clear(&signer);
	empty_dir();
	rmdir(dir);
	return done();
}
