/* The measurer process: answers, descriptors, many callers, death, bad peers. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "../../host/measurer.h"
#include "../../host/measurer_wire.h"
#include "tap.h"

#define CALLERS 12
#define CALLS 25

static struct measurer *m;

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static enum tao_err measure(const char *path, char **args, struct measurement *out)
{
	struct measure_request rq = { .path = path, .args = args, .uid = getuid() };
	enum tao_err e;

	rq.fd = open(path, O_RDONLY | O_CLOEXEC);
	e = measurer_program(m, &rq, out);
	close(rq.fd);
	return e;
}

/* Never kill(-1): that is everybody. */
static void signal_measurer(int sig)
{
	pid_t pid = measurer_pid(m);

	if (pid > 1)
		kill(pid, sig);
}

static int same(const struct measurement *a, const struct measurement *b)
{
	return memcmp(a->exe, b->exe, 32) == 0 && memcmp(a->manifest, b->manifest, 32) == 0 &&
	       a->text.n == b->text.n && memcmp(a->text.p, b->text.p, a->text.n) == 0 &&
	       file_id_equal(&a->id, &b->id) && a->is_static == b->is_static &&
	       a->is_script == b->is_script && a->is_interpreter == b->is_interpreter;
}

static void answers(void)
{
	char *args[] = { "sh", "-c", "exit", NULL };
	struct measure_request rq = { .path = "/bin/sh", .args = args };
	struct measurement there, here;
	struct process_view v, w;

	rq.dev_uid = geteuid();
	rq.fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);
	ok_err(measure_program(&rq, &here), TAO_OK, "measured here");
	ok_err(measurer_program(m, &rq, &there), TAO_OK, "measured there");
	ok(same(&here, &there) && there.copy_fd == -1, "is the same");
	close(rq.fd);
	measurement_clear(&here);
	measurement_clear(&there);
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "a process");
	ok_err(measure_process(getpid(), &w), TAO_OK, "looked at from here");
	ok(file_id_equal(&v.exe, &w.exe) && v.uid == w.uid && v.ppid == w.ppid &&
	   v.start == w.start,
	   "is the same");
	ok(v.pid == w.pid && v.exec == w.exec && v.exec != 0, "to the last field");
	ok_err(measurer_started(m, getpid(), "x", 2, &v), TAO_EDENIED, "it was not started with x");
	ok_err(measurer_process(m, -5, &v), TAO_EINVAL, "an error's code comes back");
	ok(strstr(tao_why(), "-5") != NULL, "with its sentence");
	ok_err(measure("/etc/passwd", args, &there), TAO_EFORMAT, "a program's error too");
	ok(strstr(tao_why(), "/etc/passwd") != NULL, "with its sentence");
	measurement_clear(&there);
}

static void copy_comes_along(void)
{
	char path[] = "/tmp/t_measurer.XXXXXX", cmd[128];
	struct measurement out;
	struct file_id id;
	struct stat st;
	int fd = mkstemp(path);

	close(fd);
	snprintf(cmd, sizeof cmd, "cat /bin/sh > %s", path);
	if (system(cmd) != 0 || chmod(path, 0777) != 0)
		exit(99);
	ok_err(measure(path, NULL, &out), TAO_OK, "a program that anybody can write");
	if (ok(out.copy_fd >= 0, "comes back as a copy")) {
		fstat(out.copy_fd, &st);
		file_id_of_exe(&st, &id);
		ok(file_id_equal(&id, &out.id), "which is what was measured");
		ok(fcntl(out.copy_fd, F_GETFD) & FD_CLOEXEC, "close-on-exec");
	}
	measurement_clear(&out);
	unlink(path);
}

/* On a development host its user's own files run in place. */
static void own_program(void)
{
	char dir[] = "/tmp/t_measurer.XXXXXX", path[64], cmd[160];
	struct measurement out;

	if (mkdtemp(dir) == NULL)
		exit(99);
	snprintf(path, sizeof path, "%s/sh", dir);
	snprintf(cmd, sizeof cmd, "cat /bin/sh > %s && chmod 755 %s", path, path);
	if (system(cmd) != 0)
		exit(99);
	ok_err(measure(path, NULL, &out), TAO_OK, "an own program");
	ok(out.copy_fd == -1, "runs in place");
	measurement_clear(&out);
	unlink(path);
	rmdir(dir);
}

static void long_requests(void)
{
	char **args = calloc(MEASURE_MAX_ITEMS + 2, sizeof *args), *big;
	struct measurement out;

	big = malloc(200001);
	memset(big, 'x', 200000);
	big[200000] = 0;
	for (int i = 0; i < 1000; i++)
		args[i] = big + 200000 - 1000 - i;
	ok_err(measure("/bin/sh", args, &out), TAO_OK, "a megabyte of arguments");
	ok(out.text.n > 1000000, "is all in the manifest");
	measurement_clear(&out);
	args[1] = NULL;
	args[0] = big;
	ok_err(measure("/bin/sh", args, &out), TAO_ELIMIT, "too long an argument");
	measurement_clear(&out);
	for (int i = 0; i <= MEASURE_MAX_ITEMS; i++)
		args[i] = "x";
	ok_err(measure("/bin/sh", args, &out), TAO_ELIMIT, "too many");
	measurement_clear(&out);
	for (int i = 0; i < 40; i++)
		args[i] = big + 200000 - 120000;
	args[40] = NULL;
	ok_err(measure("/bin/sh", args, &out), TAO_ELIMIT, "too much together");
	measurement_clear(&out);
	free(args);
	free(big);
}

/* 1 and says why: several threads ask, and only their sum is a test. */
static int unexpected(enum tao_err e, int right)
{
	if (e == TAO_OK && right)
		return 0;
	printf("# %s\n", e != TAO_OK ? tao_why() : "another's answer");
	return 1;
}

static void *caller(void *arg)
{
	long number = (long)arg, bad = 0;

	for (int i = 0; i < CALLS; i++) {
		char text[32], *args[] = { text, NULL }, want[64];
		struct measurement out;
		struct process_view v;
		enum tao_err e;

		snprintf(text, sizeof text, "caller-%ld-%d", number, i);
		snprintf(want, sizeof want, "arg %s\n", text);
		if (number % 2 == 0) {
			e = measurer_process(m, getpid(), &v);
			bad += unexpected(e, v.ppid == getppid());
			continue;
		}
		e = measure("/usr/bin/env", args, &out);
		bad += unexpected(e, strstr(tao_buf_cstr(&out.text), want) != NULL);
		measurement_clear(&out);
	}
	return (void *)bad;
}

static long all_callers(int kill_it)
{
	pthread_t t[CALLERS];
	long bad = 0;

	for (long i = 0; i < CALLERS; i++)
		pthread_create(&t[i], NULL, caller, (void *)i);
	if (kill_it) {
		usleep(3000);
		signal_measurer(SIGKILL);
	}
	for (int i = 0; i < CALLERS; i++) {
		void *r;

		pthread_join(t[i], &r);
		bad += (long)r;
	}
	return bad;
}

static void confined(void)
{
	char path[64], text[4096] = "";
	unsigned long long caps = ~0ull;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)measurer_pid(m));
	f = fopen(path, "r");
	if (f == NULL || fread(text, 1, sizeof text - 1, f) == 0)
		ok(0, "its status is there");
	if (f != NULL)
		fclose(f);
	ok(strstr(text, "\nNoNewPrivs:\t1\n") != NULL, "it can get no privileges");
	if (strstr(text, "\nCapPrm:\t") != NULL)
		caps = strtoull(strstr(text, "\nCapPrm:\t") + 9, NULL, 16);
	ok((caps & ~(1ull << 19)) == 0, "it has no capability but CAP_SYS_PTRACE: %llx", caps);
	ok(geteuid() != 0 || caps == 1ull << 19, "which it has from root");
	snprintf(path, sizeof path, "/proc/%d/limits", (int)measurer_pid(m));
	f = fopen(path, "r");
	memset(text, 0, sizeof text);
	if (f == NULL) {
		skip("its limits", "they are not readable");
		return;
	}
	ok(fread(text, 1, sizeof text - 1, f) > 0 &&
	   strstr(text, "Max core file size        0                    0 ") != NULL,
	   "it dumps no core");
	fclose(f);
}

static pid_t parent_of(const char *number)
{
	char path[300], text[512] = "";
	FILE *f;
	int ppid = 0;

	snprintf(path, sizeof path, "/proc/%s/stat", number);
	f = fopen(path, "r");
	if (f != NULL && fread(text, 1, sizeof text - 1, f) > 0 && strrchr(text, ')') != NULL &&
	    sscanf(strrchr(text, ')'), ") %*c %d", &ppid) != 1)
		ppid = 0;
	if (f != NULL)
		fclose(f);
	return ppid;
}

/* The process that answers: the supervisor's only child. 0 while there is none. */
static pid_t serving(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0, parent = measurer_pid(m);

	while (found == 0 && (e = readdir(d)) != NULL)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == parent)
			found = (pid_t)strtol(e->d_name, NULL, 10);
	closedir(d);
	return found;
}

/* Both: the supervisor, and by it the child, which takes a moment. */
static void kill_all(void)
{
	pid_t child = serving();

	signal_measurer(SIGKILL);
	for (int i = 0; child > 1 && i < 500 && kill(child, 0) == 0; i++)
		usleep(10000);
}

static void dies(void)
{
	struct process_view v;
	pid_t first = measurer_pid(m), second;

	signal_measurer(SIGTERM);
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "SIGTERM is the keeper's affair");
	ok(measurer_pid(m) == first, "it goes on");
	kill_all();
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "killed: the next call starts it again");
	second = measurer_pid(m);
	ok(second != first && second > 0, "as another process");
	ok(all_callers(1) == 0, "killed under many callers: all get their answers");
	ok(measurer_pid(m) != second, "from a new one");
	kill_all();
	usleep(20000);
	ok_err(measurer_started(m, getpid(), "x", 2, &v), TAO_EDENIED, "so does another question");
	confined();
}

static void kill_serving(void)
{
	pid_t pid = serving();

	if (pid > 1)
		kill(pid, SIGKILL);
	for (int i = 0; i < 500 && (serving() == 0 || serving() == pid); i++)
		usleep(10000);
}

static void *kill_often(void *arg)
{
	for (int i = 0; i < *(int *)arg; i++)
		kill_serving();
	return NULL;
}

/* Without any capability itself, as the keeper is, it still sees another user's process. */
static void sees_others(pid_t other)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 } };
	struct process_view v;

	if (syscall(SYS_capset, &head, none) != 0)
		exit(99);
	ok_err(measure_process(other, &v), TAO_EPERM, "another user's process is not to be seen");
	ok_err(measurer_process(m, other, &v), TAO_OK, "but by the measurer");
	kill_serving();
	ok_err(measurer_process(m, other, &v), TAO_OK, "also by the next child");
}

static void child_dies(void)
{
	struct process_view v;
	pid_t supervisor = measurer_pid(m), other, now = 0;
	pthread_t t;
	int times = 1, go[2];

	kill_serving();
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "a child that is killed is started "
	       "again");
	times = 6;
	kill_often(&times);
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "also often, unnoticed");
	times = 1;
	pthread_create(&t, NULL, kill_often, &times);
	ok(all_callers(0) == 0, "killed under many callers: all get their answers");
	pthread_join(t, NULL);
	other = serving();
	signal_measurer(SIGUSR1);
	for (int i = 0; i < 500 && (now == 0 || now == other); i++, now = serving())
		usleep(10000);
	ok(now != other && now > 0, "the keeper has it killed with a signal");
	ok_err(measurer_process(m, getpid(), &v), TAO_OK, "and is answered again");
	ok(measurer_pid(m) == supervisor, "all by one supervisor");
	if (geteuid() != 0) {
		skip("another user's process", "only root can make one");
		return;
	}
	if (pipe(go) != 0)
		exit(99);
	other = fork();
	if (other == 0) {
		close(go[1]);
		_exit(setuid(65534) != 0 || read(go[0], go, 1) != 0);
	}
	while (measurer_process(m, other, &v) == TAO_OK && v.uid != 65534)
		usleep(1000);
	sees_others(other);
	close(go[0]);
	close(go[1]);
	waitpid(other, NULL, 0);
}

static void cannot_start(void)
{
	struct measurer *none;

	ok_err(measurer_start("/nonexistent/taod", 0, &none), TAO_ESYS, "no program to start");
	ok(none == NULL && strstr(tao_why(), "measurer") != NULL, "is told: %s", tao_why());
	ok_err(measurer_start("/bin/true", 0, &none), TAO_ESYS, "a program that is no measurer");
	measurer_stop(NULL);
}

/* In the middle of a long job, too: a sparse file as large as is allowed. */
static void keeper_dies(void)
{
	char path[] = "/tmp/t_measurer.XXXXXX";
	int fd = mkstemp(path), pipes[2], status;
	pid_t keeper, measurer = 0;
	struct process_view v;

	if (pipe(pipes) != 0 || ftruncate(fd, (off_t)MEASURE_MAX_FILE) != 0)
		exit(99);
	keeper = fork();
	if (keeper == 0) {
		struct measure_request rq = { .path = path, .fd = open(path,
		                                                       O_RDONLY | O_CLOEXEC) };
		struct measurement out;
		pid_t pid;

		if (measurer_start("/proc/self/exe", (int)geteuid(), &m) != TAO_OK)
			_exit(99);
		pid = measurer_pid(m);
		alarm(1);
		_exit(write(pipes[1], &pid, sizeof pid) != sizeof pid ||
		      measurer_program(m, &rq, &out) != TAO_OK);
	}
	if (read(pipes[0], &measurer, sizeof measurer) != sizeof measurer)
		measurer = 0;
	waitpid(keeper, &status, 0);
	ok(WIFSIGNALED(status) && measurer > 1, "a keeper is killed while it waits");
	/* Nobody may have reaped it yet: but it executes nothing any more. */
	for (int i = 0; i < 200 && measure_process(measurer, &v) != TAO_ENOTFOUND; i++)
		usleep(10000);
	ok_err(measure_process(measurer, &v), TAO_ENOTFOUND, "its measurer ends, too");
	unlink(path);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

/* What a broken keeper sends: the measurer ends instead of guessing. */
static int child_says(const void *p, size_t n, int with_fd)
{
	int pair[2], status;
	struct packet got = PACKET_INIT;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		exit(99);
	fflush(stdout); /* the measurer's own child leaves with exit(3) */
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(measurer_main(pair[1]));
	}
	close(pair[1]);
	if (with_fd) {
		struct packet q = PACKET_INIT;

		q.op = WIRE_PROCESS;
		q.fd = dup(0);
		tao_buf_u32(&q.body, 1);
		wire_send(pair[0], &q);
		packet_clear(&q);
	} else if (n > 0) {
		send(pair[0], p, n, MSG_NOSIGNAL);
		wire_receive(pair[0], &got);
	}
	packet_clear(&got);
	if (n == 0 && !with_fd)
		shutdown(pair[0], SHUT_RDWR);
	waitpid(pid, &status, 0);
	close(pair[0]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What it answers to a body that is not well-formed. */
static enum tao_err answer_to(uint32_t op, const void *body, size_t n)
{
	struct packet q = PACKET_INIT, got = PACKET_INIT;
	enum tao_err e;
	struct tao_rd r;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		exit(99);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(measurer_main(pair[1]));
	}
	close(pair[1]);
	q.op = op;
	tao_buf_put(&q.body, body, n);
	e = wire_send(pair[0], &q);
	if (e == TAO_OK)
		e = wire_receive(pair[0], &got);
	r = tao_rd_of(got.body.p, got.body.n);
	if (e == TAO_OK)
		e = wire_get_result(&r);
	packet_clear(&q);
	packet_clear(&got);
	close(pair[0]);
	waitpid(pid, NULL, 0);
	return e;
}

/* u64 id, u32 pid, u64 start, arguments; and u64 id. */
static void malformed(void)
{
	static const uint8_t hold[21] = { [7] = 1, [11] = 1, [20] = 'x' };
	static const uint8_t nobody[20] = { [7] = 1 }, many[20] = { [7] = 1, [8] = 0xff, [11] = 1 };
	static const uint8_t whole[9] = { [7] = 1 };

	for (size_t n = 0; n < 20; n++)
		if (answer_to(WIRE_HOLD, hold, n) != TAO_EPROTO)
			ok(0, "WIRE_HOLD with %zu bytes", n);
	ok(answer_to(WIRE_HOLD, hold, 19) == TAO_EPROTO, "WIRE_HOLD: a byte is missing");
	ok_err(answer_to(WIRE_HOLD, nobody, sizeof nobody), TAO_EPROTO, "process 0");
	ok_err(answer_to(WIRE_HOLD, many, sizeof many), TAO_EPROTO, "a negative one");
	for (size_t n = 0; n < 8; n++)
		if (answer_to(WIRE_SEEN, whole, n) != TAO_EPROTO)
			ok(0, "WIRE_SEEN with %zu bytes", n);
	ok_err(answer_to(WIRE_SEEN, whole, 7), TAO_EPROTO, "WIRE_SEEN: a byte is missing");
	ok_err(answer_to(WIRE_SEEN, whole, 9), TAO_EPROTO, "a byte too many");
	ok_err(answer_to(WIRE_SEEN, whole, 8), TAO_ENOTFOUND, "nothing is known of that number");
}

static void broken_keeper(void)
{
	static const uint8_t unknown[] = { 0, 0, 0, 99, 0, 0, 0, 1, 0, 0, 0, 0, 0 };
	static const uint8_t memfd[] = { 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 1 };
	static const uint8_t longer[] = { 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 1 };

	ok(child_says(NULL, 0, 0) == 0, "a keeper that leaves ends it");
	ok(child_says("x", 1, 0) == 1, "so does one byte");
	ok(child_says(unknown, sizeof unknown, 0) == 1, "an unknown operation ends it");
	ok(child_says(NULL, 0, 1) == 1, "so does a descriptor that does not belong");
	ok(child_says(memfd, sizeof memfd, 0) == 1, "a memfd that did not come");
	ok(child_says(longer, sizeof longer, 0) == 1, "a false length");
}

int main(int argc, char **argv)
{
	int before, after;

	if (argc == 2 && strcmp(argv[1], "--measurer") == 0)
		return measurer_main(MEASURER_FD);
	before = open_fds();
	if (!ok_err(measurer_start("/proc/self/exe", (int)geteuid(), &m), TAO_OK, "it starts"))
		return done();
	answers();
	copy_comes_along();
	own_program();
	long_requests();
	ok(all_callers(0) == 0, "many callers at a time each get their own answers");
	confined();
	dies();
	cannot_start();
	child_dies();
	after = measurer_pid(m);
	measurer_stop(m);
	ok(after > 1 && kill(after, 0) != 0, "stopped, it is gone");
	ok(open_fds() == before, "no descriptor is left over");
	broken_keeper();
	malformed();
	keeper_dies();
	return done();
}
