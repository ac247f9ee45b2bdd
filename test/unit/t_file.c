/* tao/file.h: limits, atomic writing, a full disk, passphrases. */
#include "tao/file.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#define FULL_DISK (64 << 10)

static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[2][512];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
	return path[turn];
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n - 2;
}

static int holds(const char *path, const char *want)
{
	struct tao_buf b = TAO_BUF_INIT;
	int same = tao_file_read(path, 1 << 20, &b) == TAO_OK &&
	           strcmp(tao_buf_cstr(&b), want) == 0;

	tao_buf_free(&b);
	return same;
}

static void reading(void)
{
	struct tao_buf b = TAO_BUF_INIT;

	tao_buf_str(&b, "before ");
	ok_err(tao_file_write(in_dir("ten"), "0123456789", 10, 0600, 0), TAO_OK,
	       "ten bytes written");
	ok_err(tao_file_read(in_dir("ten"), 10, &b), TAO_OK, "read with a limit of ten");
	ok_str(tao_buf_cstr(&b), "before 0123456789", "and appended");
	ok_err(tao_file_read(in_dir("ten"), 9, &b), TAO_ELIMIT, "a limit of nine refuses it");
	ok(strstr(tao_why(), in_dir("ten")) != NULL, "the sentence names the path");
	ok_str(tao_buf_cstr(&b), "before 0123456789", "and nothing was appended");
	ok_err(tao_file_read(in_dir("none"), 10, &b), TAO_ENOTFOUND, "no such file");
	ok(strstr(tao_why(), in_dir("none")) != NULL, "the sentence names the path");
	ok_err(tao_file_read(dir, 10, &b), TAO_ESYS, "a directory cannot be read");
	if (geteuid() != 0) {
		chmod(in_dir("ten"), 0);
		ok_err(tao_file_read(in_dir("ten"), 10, &b), TAO_EPERM, "not permitted");
		chmod(in_dir("ten"), 0600);
	} else {
		skip("not permitted", "root may read everything");
	}
	tao_buf_free(&b);
}

static void writing(void)
{
	struct stat st;
	char longest[256];
	mode_t mask = umask(077);

	ok_err(tao_file_write(in_dir("a"), "one", 3, 0644, TAO_FILE_NEW), TAO_OK, "a new file");
	ok(stat(in_dir("a"), &st) == 0 && (st.st_mode & 07777) == 0644,
	   "has its mode, whatever the umask");
	umask(mask);
	ok_err(tao_file_write(in_dir("a"), "two", 3, 0600, TAO_FILE_NEW), TAO_EEXIST,
	       "an existing one is not overwritten when it should be new");
	ok(strstr(tao_why(), in_dir("a")) != NULL, "the sentence names the path");
	ok(holds(in_dir("a"), "one"), "it is unchanged");
	ok_err(tao_file_write(in_dir("a"), "two", 3, 0600, 0), TAO_OK, "else it is replaced");
	ok(holds(in_dir("a"), "two"), "with the new contents");
	ok(stat(in_dir("a"), &st) == 0 && (st.st_mode & 07777) == 0600, "and the new mode");
	ok(symlink("nowhere", in_dir("link")) == 0 &&
	           tao_file_write(in_dir("link"), "x", 1, 0600, TAO_FILE_NEW) == TAO_EEXIST,
	   "a dangling link exists, too");
	ok_err(tao_file_write(in_dir("no/such"), "x", 1, 0600, 0), TAO_ENOTFOUND,
	       "no such directory");
	ok_err(tao_file_write(in_dir(""), "x", 1, 0600, 0), TAO_EINVAL, "no file name");
	memset(longest, 'n', 255);
	longest[255] = 0;
	ok_err(tao_file_write(in_dir(longest), "x", 1, 0600, TAO_FILE_NEW), TAO_OK,
	       "the longest file name works");
	ok_err(tao_file_write(in_dir("empty"), NULL, 0, 0600, 0), TAO_OK, "an empty file");
	mkdir(in_dir("d"), 0700);
	ok_err(tao_file_write(in_dir("d"), "x", 1, 0600, 0), TAO_ESYS,
	       "a directory is not replaced");
	ok(entries(dir) == 6, "and nothing is left over of all that");
}

static void together(void)
{
	const struct timespec then = { 1000000000, 123456789 };
	struct tao_file *f[3] = { NULL };
	struct stat st;
	int before;

	mkdir(in_dir("one"), 0700);
	mkdir(in_dir("two"), 0700);
	tao_file_write(in_dir("one/a"), "old a", 5, 0600, 0);
	tao_file_write(in_dir("two/b"), "old b", 5, 0600, 0);
	ok_err(tao_file_prepare(in_dir("one/a"), "new a", 5, 0640, &then, &f[0]), TAO_OK,
	       "two files");
	ok_err(tao_file_prepare(in_dir("two/b"), "new b", 5, 0600, NULL, &f[1]), TAO_OK,
	       "are prepared");
	ok(holds(in_dir("one/a"), "old a") && holds(in_dir("two/b"), "old b"), "and not there yet");
	ok_err(tao_files_place(f, 2), TAO_OK, "they are put in place");
	ok(holds(in_dir("one/a"), "new a") && holds(in_dir("two/b"), "new b"), "and there");
	ok(stat(in_dir("one/a"), &st) == 0 && (st.st_mode & 07777) == 0640 &&
	   st.st_mtim.tv_sec == then.tv_sec && st.st_mtim.tv_nsec == then.tv_nsec,
	   "with mode and time");
	tao_file_free(f[0]);
	tao_file_free(f[1]);
	ok(holds(in_dir("one/a"), "new a") && holds(in_dir("two/b"), "new b") &&
	   entries(in_dir("one")) == 1 && entries(in_dir("two")) == 1, "and nothing else");

	ok_err(tao_file_prepare(in_dir("one/a"), "newer", 5, 0600, NULL, &f[0]), TAO_OK,
	       "once more");
	tao_file_free(f[0]);
	ok(holds(in_dir("one/a"), "new a") && entries(in_dir("one")) == 1,
	   "and given up: as before");
	ok_err(tao_file_prepare(in_dir("none/c"), "c", 1, 0600, NULL, &f[0]), TAO_ENOTFOUND,
	       "no directory");
	ok(f[0] == NULL, "no file");
	tao_file_free(NULL);

	mkdir(in_dir("two/d"), 0700);
	before = entries(in_dir("two"));
	tao_file_prepare(in_dir("one/a"), "newest", 6, 0600, NULL, &f[0]);
	tao_file_prepare(in_dir("two/d"), "d", 1, 0600, NULL, &f[1]);
	tao_file_prepare(in_dir("two/b"), "newest", 6, 0600, NULL, &f[2]);
	ok_err(tao_files_place(f, 3), TAO_ESYS, "the second of three cannot be put in place");
	ok(strstr(tao_why(), "two/d") != NULL, "the sentence names it");
	for (int i = 0; i < 3; i++)
		tao_file_free(f[i]);
	ok(holds(in_dir("one/a"), "newest") && holds(in_dir("two/b"), "new b") &&
	   entries(in_dir("two")) == before, "the first is, the third is not, and nothing is left over");
}

static void directories(void)
{
	struct stat st;
	mode_t mask = umask(077);

	ok_err(tao_dir_make(in_dir("made"), 0755), TAO_OK, "a directory");
	umask(mask);
	ok(stat(in_dir("made"), &st) == 0 && (st.st_mode & 07777) == 0755, "has its mode");
	ok_err(tao_dir_make(in_dir("made"), 0700), TAO_OK, "fine if it exists");
	ok(stat(in_dir("made"), &st) == 0 && (st.st_mode & 07777) == 0755,
	   "its mode is left alone");
	ok_err(tao_dir_make(in_dir("a"), 0700), TAO_EEXIST, "not where a file is");
	ok_err(tao_dir_make(in_dir("x/y"), 0700), TAO_ENOTFOUND, "parents must exist");
}

static void passphrase(const char *text, size_t n, const char *want, enum tao_err e,
                       const char *what)
{
	struct tao_buf b = TAO_BUF_INIT;

	if (tao_file_write(in_dir("pass"), text, n, 0600, 0) != TAO_OK)
		printf("# %s\n", tao_why());
	ok_err(tao_passphrase_file(in_dir("pass"), &b), e, "%s", what);
	ok_str(tao_buf_cstr(&b), want, "%s: what was read", what);
	tao_buf_free(&b);
}

static void passphrases(void)
{
	struct tao_buf b = TAO_BUF_INIT;
	char text[1100], rest[8] = "";
	int fd[2];

	passphrase("secret\n", 7, "secret", TAO_OK, "a line");
	passphrase("secret", 6, "secret", TAO_OK, "without line end");
	passphrase("two words \nmore", 15, "two words ", TAO_OK, "the first of two, blanks kept");
	passphrase("", 0, "", TAO_EINVAL, "empty file");
	passphrase("\nsecond", 7, "", TAO_EINVAL, "empty line");
	memset(text, 'p', sizeof text);
	text[1023] = 0;
	passphrase(text, 1023, text, TAO_OK, "1023 bytes");
	text[1023] = 'p';
	passphrase(text, 1024, "", TAO_EINVAL, "1024 bytes");
	ok(strstr(tao_why(), "ppp") == NULL, "no sentence shows it");
	if (pipe(fd) == 0 && write(fd[1], "pw\nrest", 7) == 7) {
		ok_err(tao_passphrase_fd(fd[0], &b), TAO_OK, "from a descriptor");
		ok_str(tao_buf_cstr(&b), "pw", "the first line");
		ok(read(fd[0], rest, sizeof rest) == 4 && memcmp(rest, "rest", 4) == 0,
		   "what follows is left there");
		close(fd[0]);
		ok_err(tao_passphrase_fd(fd[0], &b), TAO_ESYS, "a closed descriptor");
		close(fd[1]);
	}
	ok_err(tao_passphrase_file(in_dir("none"), &b), TAO_ENOTFOUND, "no such file");
	tao_buf_free(&b);
}

static void fill_disk(const char *disk)
{
	static char big[4 * FULL_DISK];
	char path[128];

	memset(big, 'b', sizeof big);
	snprintf(path, sizeof path, "%s/state", disk);
	ok_err(tao_file_write(path, "old state", 9, 0600, 0), TAO_OK, "full disk: a first version");
	ok_err(tao_file_write(path, big, sizeof big, 0600, 0), TAO_ESYS, "a second does not fit");
	ok(strstr(tao_why(), "disk is full") != NULL && strstr(tao_why(), path) != NULL,
	   "the sentence says so, and where");
	ok(holds(path, "old state"), "the first is whole");
	ok(entries(disk) == 1, "nothing half-written stays");
	ok_err(tao_file_write(path, "new state", 9, 0600, 0), TAO_OK, "and there is room again");
}

/* In a mount namespace of its own; the child counts on from our tests. */
static void full_disk(void)
{
	char disk[96], options[32];
	int status = 0;
	pid_t pid;

	snprintf(disk, sizeof disk, "%s/disk", dir);
	snprintf(options, sizeof options, "size=%d", FULL_DISK);
	mkdir(disk, 0700);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("tmpfs", disk, "tmpfs", 0, options) < 0)
			_exit(100);
		tap_failed = 0;
		fill_disk(disk);
		fflush(stdout);
		_exit(tap_failed);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		ok(0, "full disk: the test ran");
	else if (WEXITSTATUS(status) == 100)
		skip("full disk", "a small tmpfs may not be mounted here");
	else {
		tap_run += 6;
		tap_failed += WEXITSTATUS(status);
	}
}

static void sweeping(void)
{
	static const char *const temps[] = { ".tao-0123456789abcdef", "sub/.tao-fedcba9876543210",
	                                     "sub/deep/.tao-0000000000000000" };
	static const char *const others[] = { ".tao-0123456789abcde", ".tao-0123456789abcdeg",
	                                      "tao-x",
	                                      "sub/.tao-0123456789abcdef0", ".other" };
	static const struct {
		const char *text, *what;
		mode_t mode;
	} again[] = {
		{ "same", "it is left as it was", 0600 }, { "same", "but for another mode", 0644 },
		{ "some", "other bytes", 0644 }, { "longer", "or more of them", 0644 },
	};
	struct stat before, after;
	int there = 0;

	tao_dir_make(in_dir("swept"), 0755);
	tao_dir_make(in_dir("swept/sub"), 0755);
	tao_dir_make(in_dir("swept/sub/deep"), 0755);
	tao_dir_make(in_dir("outside"), 0755);
	ok_err(tao_file_write(in_dir("outside/.tao-0123456789abcdef"), "x", 1, 0600,
	                      TAO_FILE_VOLATILE),
	       TAO_OK, "a file that is not flushed");
	ok(symlink("../outside", in_dir("swept/link")) == 0, "a link to another directory");
	ok_err(tao_file_write(in_dir("swept/kept"), "same", 4, 0600, 0), TAO_OK, "a file");
	ok(stat(in_dir("swept/kept"), &before) == 0, "is there");
	for (size_t i = 0; i < sizeof again / sizeof again[0]; i++) {
		ok_err(tao_file_write(in_dir("swept/kept"), again[i].text, strlen(again[i].text),
		                      again[i].mode, TAO_FILE_KEEP), TAO_OK, "written again");
		ok(stat(in_dir("swept/kept"), &after) == 0 &&
		   (after.st_ino == before.st_ino) == (i == 0) &&
		   holds(in_dir("swept/kept"), again[i].text),
		   "%s", again[i].what);
		before = after;
	}
	for (size_t i = 0; i < 3 + 5; i++) {
		char name[64];

		snprintf(name, sizeof name, "swept/%s", i < 3 ? temps[i] : others[i - 3]);
		tao_file_write(in_dir(name), "x", 1, 0600, TAO_FILE_VOLATILE);
	}
	ok(tao_dir_sweep(in_dir("swept")) == 3, "three temporaries are swept");
	for (size_t i = 0; i < 5; i++) {
		char name[64];

		snprintf(name, sizeof name, "swept/%s", others[i]);
		there += access(in_dir(name), F_OK) == 0;
	}
	ok(there == 5, "and nothing else");
	ok(access(in_dir("outside/.tao-0123456789abcdef"), F_OK) == 0, "nor behind a link");
	ok(tao_dir_sweep(in_dir("swept")) == 0 && tao_dir_sweep(in_dir("none")) == 0,
	   "nothing to sweep");
}

int main(void)
{
	char command[96];

	snprintf(dir, sizeof dir, "/tmp/t_file.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	reading();
	writing();
	together();
	directories();
	passphrases();
	full_disk();
	sweeping();
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ok(system(command) == 0, "tidied up");
	return done();
}
