/*
 * Measuring: closures against the loader itself, manifests, stability, copies,
 * scripts, cache, processes. Runs as root or as an ordinary user: "own" files are
 * then root's or, with dev_uid, the user's; "other" files are user 12345's
 * or, without dev_uid, again the user's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../host/filehash.h"
#include "../../host/measure_with.h"
#include "../../host/proc.h"
#include "../../host/running.h"
#include "../../host/stable.h"
#include "tap.h"

#define OTHER 12345

static char dir[PATH_MAX];    /* scratch, all own */
static uid_t own_uid;         /* dev_uid for own files */
static uid_t other_uid;       /* dev_uid that makes other() files others' */

static const char *in(const char *name)
{
	static char path[8][PATH_MAX];
	static int at;

	at = (at + 1) % 8;
	snprintf(path[at], PATH_MAX, "%.2000s/%.2000s", dir, name);
	return path[at];
}

__attribute__((format(printf, 1, 2))) static int sh(const char *fmt, ...)
{
	char cmd[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	return system(cmd);
}

static void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		exit(99);
	fchmod(fd, mode);
	close(fd);
}

/* From now on somebody else's. */
static uid_t other(const char *path)
{
	if (geteuid() == 0 && chown(path, OTHER, OTHER) != 0)
		exit(99);
	return other_uid;
}

static enum tao_err run(const char *path, uid_t dev_uid, struct measure_request *rq,
                        struct measurement *m)
{
	enum tao_err e;

	rq->path = path;
	rq->fd = open(path, O_RDONLY | O_CLOEXEC);
	rq->dev_uid = dev_uid;
	rq->uid = geteuid();
	e = measure_program(rq, m);
	close(rq->fd);
	return e;
}

static enum tao_err simple(const char *path, uid_t dev_uid, struct measurement *m)
{
	char *args[] = { "prog", NULL };
	struct measure_request rq = { .args = args };

	return run(path, dev_uid, &rq, m);
}

static void hash_of(const char *path, char hex[65])
{
	uint8_t hash[32], buf[65536];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	FILE *f = fopen(path, "r");
	size_t n;

	EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	while (f != NULL && (n = fread(buf, 1, sizeof buf, f)) > 0)
		EVP_DigestUpdate(md, buf, n);
	EVP_DigestFinal_ex(md, hash, NULL);
	EVP_MD_CTX_free(md);
	if (f != NULL)
		fclose(f);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", hash[i]);
}

static void ok_exe(const struct measurement *m, const char *path, const char *what)
{
	char want[65], got[65];

	hash_of(path, want);
	for (int i = 0; i < 32; i++)
		sprintf(got + 2 * i, "%02x", m->exe[i]);
	ok_str(got, want, "%s", what);
}

/* ---- against the loader ---- */

/* Path and kind of every object line, one a line, sorted. */
static void objects_of(struct measurement *m, char *out, size_t n)
{
	char *text = strdup(tao_buf_cstr(&m->text)), *save, *line;

	*out = 0;
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, "library ", 8) == 0)
			snprintf(out + strlen(out), n - strlen(out), "%s\n", line + 8 + 65);
	free(text);
}

/* What the loader would map, asked of it. */
static void loader_says(const char *path, char *out, size_t n)
{
	char cmd[8192];
	FILE *p;
	size_t got;

	snprintf(cmd, sizeof cmd,
	         "env -i /lib64/ld-linux-x86-64.so.2 --list '%s' 2>/dev/null | grep -v -e "
	         "linux-vdso -e '/ld-linux' | sed -e 's/.*=> //' -e 's/ (0x.*//' -e "
	         "'s/^[[:space:]]*//' | xargs -r realpath | LC_ALL=C sort -u", path);
	p = popen(cmd, "r");
	got = fread(out, 1, n - 1, p);
	out[got] = 0;
	pclose(p);
}

/* As a package's upgrade does with the file of a program that runs. */
static void linked(const char *path, const char *other_name)
{
	struct file_id before, after, whole;
	struct stat st;

	stat(path, &st);
	file_id_of_exe(&st, &before);
	usleep(20000); /* the clock of file times is coarse */
	if (link(path, other_name) != 0 || stat(path, &st) != 0 || unlink(other_name) != 0)
		exit(99);
	file_id_of_exe(&st, &after);
	file_id_of(&st, &whole);
	if (st.st_uid != 0)
		skip("a linked program is the same one", "only root's files are");
	else
		ok(file_id_equal(&before, &after), "a linked program is the same one");
	ok(!file_id_equal(&before, &whole) || st.st_uid != 0, "but hashed again");
}

static void against_loader(const char *path, uid_t dev_uid)
{
	static char got[65536], want[65536];
	struct measurement m;

	if (access(path, R_OK) != 0 || access("/lib64/ld-linux-x86-64.so.2", X_OK) != 0) {
		skip(path, "it is not here");
		return;
	}
	if (ok_err(simple(path, dev_uid, &m), TAO_OK, "measures %s", path)) {
		objects_of(&m, got, sizeof got);
		loader_says(path, want, sizeof want);
		ok(*want != 0, "the loader lists libraries of %s", path);
		ok_str(got, want, "the libraries of %s are what the loader says", path);
		ok(m.copy_fd == -1, "%s runs in place", path);
	}
	measurement_clear(&m);
}

/* Search paths of every kind. */
static void search_paths(void)
{
	if (sh("cd %s && mkdir -p lib/glibc-hwcaps/x86-64-v2 lib2 && "
	       "echo 'int inner(void){return 1;}' > inner.c && "
	       "cc -shared -fPIC -Wl,-soname,libinner.so.1 -o lib2/libinner.so.1 inner.c && "
	       "ln -sf libinner.so.1 lib2/libinner.so && "
	       "echo 'int inner(void); int outer(void){return inner();}' > outer.c && "
	       "cc -shared -fPIC -Wl,-soname,libouter.so -o lib/libouter.so outer.c -Llib2 -linner "
	       "&& cp lib/libouter.so lib/glibc-hwcaps/x86-64-v2/ && "
	       "echo 'int outer(void); int main(void){return outer();}' > main.c && "
	       "cc -Wl,--no-as-needed -o runpath main.c -Llib -louter -Llib2 -linner "
	       "-Wl,--enable-new-dtags,-rpath,'$ORIGIN/lib:$ORIGIN/./lib2' && "
	       "cc -o rpath main.c -Llib -louter -Wl,--disable-new-dtags,-rpath,'${ORIGIN}/lib:"
	       "$ORIGIN/lib/../none:%s/lib2/',-rpath-link,lib2 && "
	       "ln -sf lib2 link && mkdir full.d && cp lib/libouter.so full.d/libfull.so && "
	       "cc -shared -fPIC -o full.d/libfull.so outer.c -Llib2 -linner -Wl,-rpath,%s/link/ "
	       "&& cc -o full main.c %s/full.d/libfull.so -Wl,-rpath-link,lib2",
	       dir, dir, dir, dir) != 0) {
		skip("search paths", "no C compiler");
		return;
	}
	against_loader(in("runpath"), own_uid);
	against_loader(in("rpath"), own_uid);
	against_loader(in("full"), own_uid);
}

/* A library known already by its soname alone, and one found by the DT_RPATH of a library that
 * is neither its user nor the program. */
static void search_relations(void)
{
	if (sh("cd %s && mkdir -p rel/a rel/b && cd rel && "
	       "echo 'int s(void){return 1;}' > s.c && cc -shared -fPIC -o a/libs.so s.c && "
	       "echo 'int s(void); int main(void){return s();}' > main.c && "
	       "cc -shared -fPIC -Wl,-soname,libsecret.so.1 -o libsecret.so s.c && "
	       "echo 'int s(void); int u(void){return s();}' > u.c && "
	       "cc -shared -fPIC -o b/libu.so u.c libsecret.so && "
	       "cc -Wl,--no-as-needed -o soname main.c %s/rel/a/libs.so %s/rel/b/libu.so "
	       "-Wl,--allow-shlib-undefined,--unresolved-symbols=ignore-all 2>/dev/null && "
	       "cp libsecret.so a/libs.so && rm libsecret.so && "
	       "mkdir c && cc -shared -fPIC -Wl,-soname,libdeep.so -o c/libdeep.so s.c && "
	       "echo 'int s(void); int mid(void){return s();}' > mid.c && "
	       "cc -shared -fPIC -Wl,-soname,libmid.so -o c/libmid.so mid.c -Lc -ldeep && "
	       "echo 'int mid(void); int top(void){return mid();}' > top.c && "
	       "cc -shared -fPIC -o b/libtop.so top.c -Lc -lmid "
	       "-Wl,--disable-new-dtags,-rpath,'$ORIGIN/../c' && "
	       "echo 'int top(void); int main(void){return top();}' > main2.c && "
	       "cc -o chain main2.c %s/rel/b/libtop.so -Wl,-rpath-link,c", dir, dir, dir,
	       dir) != 0) {
		skip("search relations", "no C compiler");
		return;
	}
	against_loader(in("rel/soname"), own_uid);
	against_loader(in("rel/chain"), own_uid);
}

/* ---- manifests ---- */

static void sh_line(struct tao_buf *want, const char *word, const char *path)
{
	char hex[65], *real = realpath(path, NULL);

	hash_of(real != NULL ? real : path, hex);
	tao_buf_fmt(want, "%s %s %s\n", word, hex, real != NULL ? real : path);
	free(real);
}

static void manifest(void)
{
	char *args[] = { "sh", "-c", "a b%\n\x7f\xc3\xa9", NULL };
	char *env[] = { "Z=1", "A=x y", "A0=", NULL };
	char *config[] = { (char *)in("b.cnf"), (char *)in("a.cnf"), NULL };
	struct measure_request rq = { .args = args, .env = env, .config = config };
	struct tao_buf want = TAO_BUF_INIT;
	struct measurement m;
	uint8_t hash[32];

	put(config[0], "b\n", 0644);
	put(config[1], "a\n", 0600);
	if (!ok_err(run("/bin/dash", own_uid, &rq, &m), TAO_OK, "measures dash"))
		return;
	tao_buf_str(&want, "tao manifest 1\n");
	sh_line(&want, "interpreter", "/lib64/ld-linux-x86-64.so.2");
	sh_line(&want, "library", "/lib/x86_64-linux-gnu/libc.so.6");
	sh_line(&want, "config", config[0]);
	sh_line(&want, "config", config[1]);
	tao_buf_str(&want, "arg sh\narg -c\narg a%20b%25%0a%7f\xc3\xa9\n"
	            "env A0=\nenv A=x%20y\nenv Z=1\n");
	ok_str(tao_buf_cstr(&m.text), tao_buf_cstr(&want), "its manifest, byte by byte");
	EVP_Digest(m.text.p, m.text.n, hash, NULL, EVP_sha256(), NULL);
	ok(memcmp(hash, m.manifest, 32) == 0, "manifest is the text's SHA-256");
	ok_exe(&m, "/bin/dash", "exe is the file's SHA-256");
	ok(m.is_interpreter && !m.is_script && !m.is_static, "a shell is an interpreter");
	measurement_clear(&m);
	rq.program_only = 1;
	ok_err(run("/bin/dash", own_uid, &rq, &m), TAO_OK, "program only");
	ok(m.text.n == 0, "has no manifest");
	measurement_clear(&m);
	tao_buf_free(&want);
}

static void modules(void)
{
	char *mods[] = { (char *)in("lib2/libinner.so"), NULL };
	struct measure_request rq = { .modules = mods };
	struct measurement m;

	if (access(mods[0], R_OK) != 0) {
		skip("modules", "no C compiler");
		return;
	}
	ok_err(run("/bin/dash", own_uid, &rq, &m), TAO_OK, "a program with a module");
	ok(strstr(tao_buf_cstr(&m.text), "\nmodule ") != NULL &&
	   strstr(tao_buf_cstr(&m.text), "/lib2/libinner.so.1\n") != NULL, "lists it");
	measurement_clear(&m);
	ok_err(run("/bin/dash", other(in("lib2/libinner.so.1")), &rq, &m), TAO_EDENIED,
	       "somebody else's module is refused");
	measurement_clear(&m);
	if (geteuid() == 0 && chown(in("lib2/libinner.so.1"), 0, 0) != 0)
		exit(99);
}

/* ---- stability ---- */

static void refused(enum tao_err got, struct measurement *m, const char *word, const char *what)
{
	ok_err(got, TAO_EDENIED, "%s is refused", what);
	ok(strstr(tao_why(), word) != NULL, "and the sentence says %s: %s", word, tao_why());
	measurement_clear(m);
}

static void unstable_config(void)
{
	char *config[] = { (char *)in("c.cnf"), NULL };
	struct measure_request rq = { .config = config };
	struct measurement m;
	char who[32];

	put(config[0], "c\n", 0644);
	chmod(config[0], 0664);
	refused(run("/bin/sh", own_uid, &rq, &m), &m, "chmod go-w", "a group-writable config");
	chmod(config[0], 0644);
	snprintf(who, sizeof who, "user %u", geteuid() == 0 ? OTHER : (unsigned)geteuid());
	refused(run("/bin/sh", other(config[0]), &rq, &m), &m, who, "somebody else's config");
	unlink(config[0]);
	mkdir(in("open"), 0755);
	chmod(in("open"), 0777);
	put(in("open/d.cnf"), "d\n", 0644);
	config[0] = (char *)in("open/d.cnf");
	refused(run("/bin/sh", own_uid, &rq, &m), &m, "/open ", "a config in an open directory");
	chmod(in("open"), 01777);
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_OK, "an own file in a sticky one is fine");
	measurement_clear(&m);
	config[0] = (char *)in("open/none.cnf");
	refused(run("/bin/sh", own_uid, &rq, &m), &m, "anybody could put it",
	        "an absent one there");
	config[0] = (char *)in("none.cnf");
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_ENOTFOUND, "an absent one is not found");
	config[0] = "/proc/self/status";
	refused(run("/bin/sh", own_uid, &rq, &m), &m, "proc", "a file of /proc");
	config[0] = "relative.cnf";
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_EINVAL, "a relative path is refused");
	if (symlink("/etc/passwd", in("open/link")) != 0)
		exit(99);
	config[0] = (char *)in("open/link");
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_OK, "an own link in a sticky directory");
	measurement_clear(&m);
	if (geteuid() == 0 && lchown(in("open/link"), OTHER, OTHER) == 0)
		refused(run("/bin/sh", own_uid, &rq, &m), &m, "/open/link", "another's link there");
	chmod(in("open"), 0777);
	refused(run("/bin/sh", own_uid, &rq, &m), &m, "/open ", "a link that others can replace");
}

static void unstable_libraries(void)
{
	struct measurement m;

	if (access(in("runpath"), X_OK) != 0) {
		skip("unstable libraries", "no C compiler");
		return;
	}
	chmod(in("lib/libouter.so"), 0666);
	chmod(in("lib/glibc-hwcaps/x86-64-v2/libouter.so"), 0666);
	refused(simple(in("runpath"), own_uid, &m), &m, "libouter.so", "a library all can write");
	chmod(in("lib/libouter.so"), 0644);
	chmod(in("lib/glibc-hwcaps/x86-64-v2/libouter.so"), 0644);
	/* rpath looks into lib for libinner in vain. */
	chmod(in("lib"), 0777);
	refused(simple(in("rpath"), own_uid, &m), &m, "/lib ", "a directory all can write");
	chmod(in("lib"), 0755);
	if (sh("cd %s && cc -o cwd main.c -Llib -louter -Wl,-rpath-link,lib2,-rpath,lib:lib2",
	       dir) == 0)
		refused(simple(in("cwd"), own_uid, &m), &m, "relative", "a relative RUNPATH");
	if (sh("cd %s && mkdir -p lib/tls && cp lib/libouter.so lib/tls", dir) == 0)
		ok_err(simple(in("runpath"), own_uid, &m), TAO_EFORMAT, "a legacy hwcaps variant");
	sh("rm -r %s/lib/tls", dir);
}

/* ---- copies ---- */

static int run_copy(int fd, struct process_view *v)
{
	char *argv[] = { "copy", NULL }, *envp[] = { NULL };
	int status, go[2];
	pid_t pid;

	if (pipe(go) != 0)
		exit(99);
	pid = fork();
	if (pid == 0) {
		dup2(go[0], 0);
		close(go[0]);
		close(go[1]);
		fexecve(fd, argv, envp);
		_exit(99);
	}
	close(go[0]);
	for (int i = 0; i < 500; i++) {
		struct file_id id;
		struct stat st;

		fstat(fd, &st);
		file_id_of_exe(&st, &id);
		if (measure_process(pid, v) == TAO_OK && file_id_equal(&v->exe, &id))
			break;
		usleep(2000);
	}
	close(go[1]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void sealed(const struct measurement *m)
{
	int seals = fcntl(m->copy_fd, F_GET_SEALS),
	all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	char self[64];
	int again;

	ok((seals & all) == all && (seals & F_SEAL_SEAL), "it is sealed");
	ok((fcntl(m->copy_fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "and open for reading only");
	/* Root can open it for writing; that leads nowhere either. */
	snprintf(self, sizeof self, "/proc/self/fd/%d", m->copy_fd);
	again = open(self, O_RDWR);
	ok(again >= 0 || geteuid() != 0, "only root can open it for writing");
	ok(again < 0 || (pwrite(again, "x", 1, 0) < 0 && errno == EPERM), "nobody can write it");
	ok(again < 0 || (ftruncate(again, 0) < 0 && errno == EPERM), "or cut it off");
	ok(again < 0 ||
	   mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED,
	   "or map it for writing");
	if (again >= 0)
		close(again);
	ok(fcntl(m->copy_fd, F_GETFD) & FD_CLOEXEC, "its descriptor is close-on-exec");
}

static void copies(void)
{
	struct measurement m;
	struct process_view v;
	struct file_id id;
	struct stat st;

	if (sh("cd %s && echo 'int getchar(void); int main(void){getchar();return 7;}' > c.c && "
	       "cc -o prog c.c && cp prog prog1 && printf x >> prog1", dir) != 0) {
		skip("copies", "no C compiler");
		return;
	}
	ok_err(simple(in("prog"), own_uid, &m), TAO_OK, "an own program");
	ok(m.copy_fd == -1, "runs in place");
	stat(in("prog"), &st);
	file_id_of_exe(&st, &id);
	ok(file_id_equal(&id, &m.id), "and is known by its own identity");
	linked(in("prog"), in("prog-saved"));
	measurement_clear(&m);
	ok_err(simple(in("prog"), other(in("prog")), &m), TAO_OK, "somebody else's program");
	if (!ok(m.copy_fd >= 0, "runs from a copy"))
		return;
	ok_exe(&m, in("prog"), "exe is the hash of the file that was copied");
	fstat(m.copy_fd, &st);
	file_id_of_exe(&st, &id);
	ok(file_id_equal(&id, &m.id), "its identity is the copy's");
	ok(run_copy(m.copy_fd, &v) == 7, "the copy runs");
	ok(file_id_equal(&v.exe, &m.id), "and its process is recognised");
	sealed(&m);
	measurement_clear(&m);
	ok_err(simple(in("prog1"), own_uid, &m), TAO_OK, "with one byte appended");
	ok_exe(&m, in("prog1"), "it has another hash");
	measurement_clear(&m);
	chmod(in("prog1"), 04755);
	refused(simple(in("prog1"), own_uid, &m), &m, "set-user-ID", "a set-user-ID program");
	ok_err(simple(in("runpath"), other(in("runpath")), &m), TAO_ENOTFOUND,
	       "a copy's $ORIGIN is the root");
	ok(strstr(tao_why(), "$ORIGIN") != NULL, "and the sentence says so");
	measurement_clear(&m);
}

static void statics(void)
{
	struct measurement m;

	if (sh("cd %s && cc -static -o static c.c 2>/dev/null", dir) != 0) {
		skip("a static program", "no static C library");
		return;
	}
	ok_err(simple(in("static"), own_uid, &m), TAO_OK, "a static program");
	ok(m.is_static, "is static");
	ok_str(tao_buf_cstr(&m.text), "tao manifest 1\narg prog\n", "and has a short manifest");
	measurement_clear(&m);
}

/* ---- scripts ---- */

static void script_is(const char *line, enum tao_err want, const char *what)
{
	struct measurement m;

	put(in("script"), line, 0755);
	ok_err(simple(in("script"), own_uid, &m), want, "a script: %s", what);
	if (want == TAO_OK) {
		ok_exe(&m, "/bin/sh", "is its interpreter");
		ok(m.is_script && m.is_interpreter, "and a script");
	}
	measurement_clear(&m);
}

static void scripts(void)
{
	char long_line[400], name[32], text[PATH_MAX + 16], want[PATH_MAX + 256], hex[65];
	struct measurement m;

	script_is("#!/bin/sh\necho\n", TAO_OK, "plain");
	script_is("#! \t/bin/sh  -e x \necho\n", TAO_OK, "blanks and an argument");
	script_is("#!/bin/sh", TAO_OK, "no newline");
	script_is("#!/bin/sh\r\necho\n", TAO_ENOTFOUND, "a carriage return");
	script_is("#!\n", TAO_EFORMAT, "nothing");
	script_is("#!bin/sh\n", TAO_EDENIED, "a relative interpreter");
	memset(long_line, 'x', sizeof long_line);
	memcpy(long_line, "#!/bin/sh ", 10);
	long_line[sizeof long_line - 1] = 0;
	script_is(long_line, TAO_OK, "a long argument");
	memcpy(long_line, "#!/bin/shx", 10);
	script_is(long_line, TAO_EFORMAT, "a long name");
	script_is("echo\n", TAO_EFORMAT, "without #!");
	put(in("s0"), "#!/bin/sh\n", 0755);
	for (int i = 1; i <= 4; i++) {
		snprintf(text, sizeof text, "#!%s/s%d\n", dir, i - 1);
		snprintf(name, sizeof name, "s%d", i);
		put(in(name), text, 0755);
	}
	ok_err(simple(in("s3"), own_uid, &m), TAO_OK, "a script's script's script");
	hash_of(in("s3"), hex);
	snprintf(want, sizeof want, "\nscript %s %s/s3\nscript ", hex, dir);
	ok(strstr(tao_buf_cstr(&m.text), want) != NULL, "all are listed, the outermost first");
	measurement_clear(&m);
	ok_err(simple(in("s4"), own_uid, &m), TAO_ELIMIT, "no more than four");
	refused(simple(in("s0"), other(in("s0")), &m), &m, geteuid() == 0 ? "/s0 " : "belongs",
	        "somebody else's script");
}

/* ---- requests ---- */

static void bad_requests(void)
{
	char *preload[] = { "LD_PRELOAD=/x.so", NULL }, *tunables[] = { "GLIBC_TUNABLES=x", NULL };
	char *odd[] = { "NOVALUE", NULL }, **many = calloc(MEASURE_MAX_ITEMS + 2, sizeof *many);
	struct measure_request rq = { .path = "/bin/sh", .fd = open("/bin/sh", O_PATH) };
	struct measurement m;

	ok_err(measure_program(&rq, &m), TAO_EPERM, "an O_PATH descriptor is refused");
	ok(strstr(tao_why(), "read") != NULL, "and the sentence says why");
	close(rq.fd);
	rq.fd = open(in("c.c"), O_WRONLY | O_CREAT, 0644);
	ok_err(measure_program(&rq, &m), TAO_EPERM, "so is one for writing");
	close(rq.fd);
	rq.fd = open("/dev/null", O_RDONLY);
	ok_err(measure_program(&rq, &m), TAO_EFORMAT, "and a device");
	close(rq.fd);
	rq = (struct measure_request){ .env = preload };
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_EDENIED, "LD_PRELOAD is refused");
	rq.env = tunables;
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_EDENIED, "GLIBC_TUNABLES is refused");
	rq.env = odd;
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_EINVAL, "a setting without a value");
	for (int i = 0; i <= MEASURE_MAX_ITEMS; i++)
		many[i] = "x";
	rq = (struct measure_request){ .args = many };
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_ELIMIT, "too many arguments");
	many[MEASURE_MAX_ITEMS] = NULL;
	ok_err(run("/bin/sh", own_uid, &rq, &m), TAO_OK, "as many as are allowed");
	measurement_clear(&m);
	rq = (struct measure_request){ .path = "sh", .fd = open("/bin/sh", O_RDONLY) };
	ok_err(measure_program(&rq, &m), TAO_EINVAL, "a relative program");
	close(rq.fd);
	free(many);
}

/* ---- the cache ---- */

static int cached_hash(struct measure_cache *c, const char *path, uint8_t hash[32])
{
	int fd = open(path, O_RDONLY);
	enum tao_err e = measure_file(c, fd, path, hash);

	close(fd);
	return e == TAO_OK;
}

/* Processor time of so many hashes of the file: a hit reads nothing. */
static long cost(struct measure_cache *c, const char *path, int times)
{
	struct timespec a, b;
	uint8_t hash[32];

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	while (times-- > 0)
		cached_hash(c, path, hash);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	return (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
}

static void caching(void)
{
	struct measure_cache *c = measure_cache_new();
	struct timespec times[2];
	struct stat st;
	uint8_t one[32], two[32], three[32];
	int fd;

	put(in("data"), "one", 0644);
	sh("cd %s && head -c 8000000 /dev/zero | tee big shared > new && chmod 664 shared", dir);
	cost(c, in("new"), 1);
	ok(cost(c, in("new"), 4) * 4 > cost(NULL, in("new"), 4),
	   "a file that is quite new is read each time");
	sleep(CACHE_QUIET + 2);
	ok(cached_hash(c, in("data"), one) && cached_hash(c, in("data"), two) &&
	   memcmp(one, two, 32) == 0, "the same file, the same hash");
	cost(c, in("big"), 1);
	ok(cost(c, in("big"), 10) * 4 < cost(NULL, in("big"), 10), "a hit does not read the file");
	cost(c, in("shared"), 1);
	ok(cost(c, in("shared"), 4) * 4 > cost(NULL, in("shared"), 4),
	   "a file that others can write is read each time");
	stat(in("data"), &st);
	fd = open(in("data"), O_WRONLY);
	ok(pwrite(fd, "two", 3, 0) == 3, "same size, same inode");
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	futimens(fd, times);
	close(fd);
	ok(cached_hash(c, in("data"), two) && memcmp(one, two, 32) != 0,
	   "changed, its old time put back: a new hash");
	sleep(CACHE_QUIET + 2);
	ok(cached_hash(c, in("data"), three) && memcmp(two, three, 32) == 0, "also later");
	fd = open(in("data"), O_WRONLY);
	ok(pwrite(fd, "six", 3, 0) == 3, "changed again");
	close(fd);
	ok(cached_hash(c, in("data"), three) && memcmp(two, three, 32) != 0, "a new hash again");
	measure_cache_free(c);
}

/* ---- processes ---- */

/* Its arguments end as these: of what runs now, and only the end counts. */
static void started(pid_t pid)
{
	struct process_view v;
	struct tao_buf line = TAO_BUF_INIT;

	ok_err(proc_slurp(pid, "cmdline", PROC_MAX_CMDLINE, &line), TAO_OK, "its arguments");
	ok_err(measure_started(pid, line.p, line.n, &v), TAO_OK, "it was started with them");
	ok(v.pid == pid && v.exec != 0, "so this is its start");
	ok_err(measure_started(pid, line.p + 1, line.n - 1, &v), TAO_OK, "or with their end");
	line.p[line.n - 2] ^= 1;
	ok_err(measure_started(pid, line.p, line.n, &v), TAO_EDENIED, "but not with others");
	tao_buf_put(&line, "x", 2);
	ok_err(measure_started(pid, line.p, line.n, &v), TAO_EDENIED, "nor with more");
	tao_buf_free(&line);
	ok_err(proc_slurp(pid, "status", 16, &line), TAO_ELIMIT, "what is read is bounded");
	tao_buf_free(&line);
}

static void processes(void)
{
	struct process_view self, v;
	struct file_id id;
	struct stat st;
	pid_t child, gone;
	int go[2];

	stat("/proc/self/exe", &st);
	file_id_of_exe(&st, &id);
	ok_err(measure_process(getpid(), &self), TAO_OK, "looks at itself");
	ok(file_id_equal(&id, &self.exe), "its executable");
	ok(self.uid == getuid() && self.ppid == getppid() && self.start > 0, "user, parent, start");
	if (pipe(go) != 0)
		exit(99);
	child = fork();
	if (child == 0) {
		char c;

		prctl(PR_SET_NAME, ") R 1 (\n1 2 3");
		close(go[1]);
		if (fork() == 0)
			_exit(read(go[0], &c, 1) != 0);
		_exit(read(go[0], &c, 1) != 0);
	}
	usleep(50000);
	ok_err(measure_process(child, &v), TAO_OK, "a process with a malicious name");
	ok(v.exec != 0 && v.exec == self.exec, "a fork is of the same exec");
	started(child);
	ok(v.ppid == getpid() && v.start >= self.start && v.uid == getuid(), "is read right");
	close(go[1]);
	close(go[0]);
	waitpid(child, NULL, 0);
	gone = child;
	ok_err(measure_process(gone, &v), TAO_ENOTFOUND, "a process that is gone");
	ok_err(measure_process(-1, &v), TAO_EINVAL, "no process");
	ok_err(measure_process(0, &v), TAO_EINVAL, "nor this");
	if (geteuid() == 0)
		ok_err(measure_process(2, &v), TAO_ENOTFOUND, "a kernel thread has no executable");
}

/* A process that is measured must be the one that was seen, and stay it. */
static void running(void)
{
	struct measure_cache *cache = measure_cache_new();
	struct running_request rq = { .hint = 1 };
	struct process_view self;
	struct measurement m;
	char *path;
	pid_t child = fork();
	static const enum tao_err wanted[] = { TAO_OK, TAO_EBUSY };

	if (child == 0) {
		pause();
		_exit(0);
	}
	rq.pid = child;
	measure_process(getpid(), &self);
	ok_err(proc_start(child, &rq.start), TAO_OK, "a child");
	for (int i = 0; i < 2; i++, rq.start++) {
		ok_err(measure_running(cache, &rq, &m, &path), wanted[i], "%s",
		       i == 0 ? "is measured" : "another one with its number is not");
		ok(i > 0 || file_id_equal(&m.id, &self.exe), "as what it is, or not at all");
		measurement_clear(&m);
		free(path);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ok_err(measure_running(cache, &rq, &m, &path), TAO_ENOTFOUND, "nor one that is gone");
	measurement_clear(&m);
	free(path);
	measure_cache_free(cache);
}

int main(void)
{
	static const char *const programs[] = { "/bin/sh", "/usr/bin/env", "/usr/bin/curl",
		"/usr/sbin/nginx", "/usr/bin/openssl", "/usr/bin/python3", "/usr/bin/perl" };

	strcpy(dir, "/tmp/t_measure.XXXXXX");
	if (mkdtemp(dir) == NULL || chmod(dir, 0755) != 0)
		return 99;
	umask(022);
	own_uid = geteuid();
	other_uid = 0;
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
		against_loader(programs[i], own_uid);
	search_paths();
	search_relations();
	manifest();
	modules();
	unstable_config();
	unstable_libraries();
	copies();
	statics();
	scripts();
	bad_requests();
	caching();
	processes();
	running();
	sh("rm -rf %s", dir);
	return done();
}
