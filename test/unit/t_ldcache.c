/* /etc/ld.so.cache: hand-made caches with hwcaps variants, damaged ones, this machine's own. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../host/ldcache.h"
#include "tap.h"

#if defined(__x86_64__)
#define FLAGS 0x0303
#else
#define FLAGS 0x0a03
#endif
#define EXT (1ull << 62)

struct made {
	uint8_t p[4096];
	size_t n;          /* all of it */
	uint32_t entries;
	size_t str;
};

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t str(struct made *m, const char *s)
{
	size_t at = m->str;

	memcpy(m->p + at, s, strlen(s) + 1);
	m->str += strlen(s) + 1;
	return (uint32_t)at;
}

static void entry(struct made *m, uint32_t flags, const char *name, const char *path,
                  uint64_t hwcap)
{
	uint8_t *p = m->p + 48 + 24 * m->entries++;

	put32(p, flags);
	put32(p + 4, str(m, name));
	put32(p + 8, str(m, path));
	put32(p + 16, (uint32_t)hwcap);
	put32(p + 20, (uint32_t)(hwcap >> 32));
	put32(m->p + 20, m->entries);
}

/* Strings from 1024, extensions from 2048; subdirectory 0 is "best", 1 "good", 2 "never". */
static struct made *fresh(void)
{
	static struct made m;

	memset(&m, 0, sizeof m);
	memcpy(m.p, "glibc-ld.so.cache1.1", 20);
	m.p[28] = 2;
	m.str = 1024;
	m.n = 2200;
	put32(m.p + 32, 2048);
	put32(m.p + 2048, 0xeaa42174u);
	put32(m.p + 2052, 1);
	put32(m.p + 2056, 1);
	put32(m.p + 2064, 2100);
	put32(m.p + 2068, 12);
	put32(m.p + 2100, str(&m, "best"));
	put32(m.p + 2104, str(&m, "good"));
	put32(m.p + 2108, str(&m, "never"));
	return &m;
}

static const struct hwcaps cpu = { { "best", "good" }, 2, 1 };
static const struct hwcaps plain = { { NULL }, 0, 0 };

static void finds(const struct made *m, const struct hwcaps *h, const char *name, const char *want,
                  const char *what)
{
	struct ldcache c;
	const char *got;

	if (!ok_err(ldcache_parse(m->p, m->n, &c), TAO_OK, "parses: %s", what))
		return;
	got = ldcache_find(&c, name, h);
	if (want == NULL)
		ok(got == NULL, "%s", what);
	else
		ok_str(got, want, "%s", what);
}

static void variants(void)
{
	struct made *m = fresh();

	/* The order in which ldconfig writes: names downwards, named hwcaps first. */
	entry(m, FLAGS, "libz.so.1", "/n/libz.so.1", EXT | 2);
	entry(m, FLAGS, "libz.so.1", "/g/libz.so.1", EXT | 1);
	entry(m, FLAGS, "libz.so.1", "/b/libz.so.1", EXT | 0);
	entry(m, FLAGS, "libz.so.1", "/libz.so.1", 0);
	entry(m, FLAGS, "liby.so.1", "/b/liby.so.1", EXT | 0);
	entry(m, FLAGS, "liby.so.1", "/g/liby.so.1", EXT | 1);
	entry(m, FLAGS, "liby.so.1", "/liby.so.1", 0);
	entry(m, FLAGS, "libx.so.10", "/libx.so.10", 0);
	entry(m, FLAGS, "libx.so.9", "/wrong/libx.so.9", 8);
	entry(m, 0x0803, "libx.so.9", "/wrong/libx.so.9", 0);
	entry(m, FLAGS, "libx.so.9", "/libx.so.9", 0);
	entry(m, FLAGS, "libl.so.1", "/high/libl.so.1", EXT | 3ull << 32);
	entry(m, FLAGS, "libl.so.1", "/low/libl.so.1", EXT | 1ull << 32 | 1);
	entry(m, FLAGS, "libl.so.1", "/libl.so.1", 0);
	entry(m, FLAGS, "liba.so.1", "/liba.so.1", 0);
	finds(m, &cpu, "libz.so.1", "/b/libz.so.1", "the best variant, whatever the order");
	finds(m, &cpu, "liby.so.1", "/b/liby.so.1", "also when it comes first");
	finds(m, &plain, "libz.so.1", "/libz.so.1", "a plain processor gets the plain one");
	finds(m, &cpu, "libx.so.10", "/libx.so.10", "10 sorts above 9");
	finds(m, &cpu, "libx.so.9", "/libx.so.9",
	      "legacy hwcaps and other machines are passed over");
	finds(m, &cpu, "libl.so.1", "/low/libl.so.1", "a level that the processor lacks");
	finds(m, &cpu, "liba.so.1", "/liba.so.1", "the last entry");
	finds(m, &cpu, "libz.so.2", NULL, "nothing above the first");
	finds(m, &cpu, "lib0.so", NULL, "nothing below the last");
	finds(m, &cpu, "libm.so.6", NULL, "nothing between");
}

static void damaged(void)
{
	struct made *m = fresh(), copy;
	struct ldcache c;
	int refused = 0;

	entry(m, FLAGS, "liba.so.1", "/liba.so.1", EXT);
	for (size_t n = 0; n < 48 + 24; n++)
		refused += ldcache_parse(m->p, n, &c) == TAO_EFORMAT;
	ok(refused == 48 + 24, "cut off in the header or the entries");
	copy = *m;
	copy.p[18] = '2';
	ok_err(ldcache_parse(copy.p, copy.n, &c), TAO_EFORMAT, "another version");
	ok(strstr(tao_why(), "ldconfig") != NULL, "the sentence says what to do");
	copy = *m;
	copy.p[28] = 3;
	ok_err(ldcache_parse(copy.p, copy.n, &c), TAO_EFORMAT, "big-endian");
	copy = *m;
	put32(copy.p + 20, 0x20000000);
	ok_err(ldcache_parse(copy.p, copy.n, &c), TAO_EFORMAT, "more entries than bytes");
	copy = *m;
	put32(copy.p + 52, 0xfffffff0);
	finds(&copy, &cpu, "liba.so.1", NULL, "a name beyond the end");
	copy = *m;
	put32(copy.p + 56, 0xfffffff0);
	finds(&copy, &cpu, "liba.so.1", NULL, "a path beyond the end");
	copy = *m;
	put32(copy.p + 64, 77);
	finds(&copy, &cpu, "liba.so.1", NULL, "a subdirectory beyond the table");
}

static void own(void)
{
	static uint8_t bytes[4 << 20];
	struct ldcache c;
	struct hwcaps h;
	struct stat st;
	const char *path;
	int fd = open("/etc/ld.so.cache", O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, bytes, sizeof bytes) : 0;

	if (n <= 0) {
		skip("this machine's cache", "there is none");
		return;
	}
	close(fd);
	hwcaps_here(&h);
	ok_err(ldcache_parse(bytes, (size_t)n, &c), TAO_OK, "this machine's cache");
	path = ldcache_find(&c, "libc.so.6", &h);
	ok(path != NULL && stat(path, &st) == 0, "has libc.so.6: %s", path != NULL ? path : "no");
}

int main(void)
{
	variants();
	damaged();
	own();
	return done();
}
