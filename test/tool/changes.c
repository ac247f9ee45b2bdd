/*
 * changes: what is changed in directories, in the order in which it happens.
 *
 *   changes DIR...
 *
 * Prints "watching", and then a line for each change: "DIR/NAME WORD", where WORD is created,
 * written (by one who then closed it), touched (mode, owner or times), away and here (the two
 * halves of a rename), or removed. Ends at a signal. Exit status: 1 if it cannot watch.
 */
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MAX_DIRS 16
#define BUFFER 65536

static const struct {
	uint32_t bit;
	const char *word;
} words[] = {
	{ IN_CREATE, "created" }, { IN_CLOSE_WRITE, "written" }, { IN_ATTRIB, "touched" },
	{ IN_MOVED_FROM, "away" }, { IN_MOVED_TO, "here" }, { IN_DELETE, "removed" },
};

#define WORDS (sizeof words / sizeof words[0])

static void tell(const char *dir, const struct inotify_event *e)
{
	for (size_t i = 0; i < WORDS; i++)
		if ((e->mask & words[i].bit) != 0)
			printf("%s/%s %s\n", dir, e->len > 0 ? e->name : "", words[i].word);
	if ((e->mask & IN_Q_OVERFLOW) != 0)
		printf("overflow\n");
}

int main(int argc, char **argv)
{
	static char buf[BUFFER] __attribute__((aligned(__alignof__(struct inotify_event))));
	const char *dirs[MAX_DIRS + 1] = { NULL };
	int fd = inotify_init1(IN_CLOEXEC);
	uint32_t all = 0;
	ssize_t n;

	for (size_t i = 0; i < WORDS; i++)
		all |= words[i].bit;
	for (int i = 1; i < argc; i++) {
		int wd = inotify_add_watch(fd, argv[i], all);

		if (wd < 1 || wd > MAX_DIRS)
			return perror(argv[i]), 1;
		dirs[wd] = argv[i];
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("watching\n");
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const struct inotify_event *)(buf + at);

			tell(e->wd > 0 && e->wd <= MAX_DIRS ? dirs[e->wd] : "", e);
			at += (ssize_t)(sizeof *e + e->len);
		}
	}
	return 1;
}
