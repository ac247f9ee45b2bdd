/* host/hold.h, in a measurer: what is seen at an execve(), and that whoever is traced meanwhile,
 * and his parent, notice nothing of it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../host/measurer.h"
#include "tap.h"

#define NOBODY 65534
#define SOON 2000 /* looks, of 5 ms */
#define STATUS 7  /* of one that ends by itself */

static struct measurer *m;
static struct process_view self;
static char path[4096];  /* of this program */

/* ---- processes that are held, children of this one ---- */

struct subject {
	pid_t pid;
	int go, told; /* it goes on with a byte there; what it writes */
	uint64_t id;
	struct process_view before;
};

static int told; /* in a subject */

static int start(struct subject *s, void (*act)(void))
{
	int go[2], out[2];
	char byte;

	fflush(stdout);
	if (pipe2(go, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
		exit(99);
	s->pid = fork();
	if (s->pid == 0) {
		close(go[1]);
		told = out[1];
		while (read(go[0], &byte, 1) < 0 && errno == EINTR)
			;
		act();
		_exit(STATUS);
	}
	close(go[0]);
	close(out[1]);
	s->go = go[1];
	s->told = out[0];
	return s->pid > 0 && measure_process(s->pid, &s->before) == TAO_OK;
}

static enum tao_err hold_with(struct subject *s, uint64_t start, const void *args, size_t n)
{
	static uint64_t last;
	struct hold_request rq = { .id = ++last, .pid = s->pid, .start = start, .args = args,
		                   .args_n = n };

	s->id = last;
	return measurer_hold(m, &rq);
}

static enum tao_err hold(struct subject *s)
{
	return hold_with(s, s->before.start, NULL, 0);
}

static void go(struct subject *s)
{
	if (write(s->go, "", 1) != 1)
		exit(99);
}

/* Its status as of wait(2), after sig if that is not 0. */
static int end(struct subject *s, int sig)
{
	int status = -1;

	if (sig != 0)
		kill(s->pid, sig);
	waitpid(s->pid, &status, 0);
	close(s->go);
	close(s->told);
	return status;
}

static void look_again(void)
{
	static const struct timespec pause = { 0, 5000000 };

	nanosleep(&pause, NULL);
}

static enum tao_err seen(struct subject *s, struct process_view *v)
{
	enum tao_err e = TAO_EBUSY;

	for (int i = 0; i < SOON && e == TAO_EBUSY; i++) {
		e = measurer_seen(m, s->id, v);
		if (e == TAO_EBUSY)
			look_again();
	}
	return e;
}

/* A number in a process's status; -1: there is none. */
static long status_of(pid_t pid, const char *line)
{
	char file[64], text[4096] = "", *at;
	FILE *f;

	snprintf(file, sizeof file, "/proc/%d/status", (int)pid);
	f = fopen(file, "r");
	if (f != NULL && fread(text, 1, sizeof text - 1, f) > 0)
		at = strstr(text, line);
	else
		at = NULL;
	if (f != NULL)
		fclose(f);
	return at != NULL ? strtol(at + strlen(line), NULL, 10) : -1;
}

static long tracer(const struct subject *s)
{
	return status_of(s->pid, "\nTracerPid:\t");
}

static int let_go(const struct subject *s)
{
	for (int i = 0; i < SOON && tracer(s) > 0; i++)
		look_again();
	return tracer(s) == 0;
}

/* Until it runs this program anew, as that user. */
static int runs_as(const struct subject *s, uid_t uid, struct process_view *v)
{
	for (int i = 0; i < SOON; i++, look_again())
		if (measure_process(s->pid, v) == TAO_OK && file_id_equal(&v->exe, &self.exe) &&
		    v->exec != 0 && v->exec != self.exec && v->uid == uid)
			return 1;
	return 0;
}

static int is_stopped_by_us(const struct subject *s)
{
	char file[64], text[512] = "";
	FILE *f;
	int is;

	snprintf(file, sizeof file, "/proc/%d/stat", (int)s->pid);
	f = fopen(file, "r");
	is = f != NULL && fread(text, 1, sizeof text - 1, f) > 0 && strstr(text, ") t ") != NULL;
	if (f != NULL)
		fclose(f);
	return is;
}

static int is_file(const struct process_view *v, const char *file)
{
	struct file_id id;
	struct stat st;

	if (stat(file, &st) != 0)
		return 0;
	file_id_of_exe(&st, &id);
	return file_id_equal(&v->exe, &id);
}

/* ---- what they do ---- */

static void end_now(void)
{
}

static void execute(void)
{
	execl(path, "t_hold", "wait", NULL);
}

static void execute_and_drop(void)
{
	execl(path, "t_hold", "drop", NULL);
}

static void fail_first(void)
{
	char *no[] = { "x", NULL };

	execve("/nonexistent", no, no + 1);
	execve("/etc/passwd", no, no + 1);
	execute();
}

static void execute_shell(void)
{
	execl("/bin/sh", "sh", "-c", "exec \"$0\" wait", path, NULL);
}

static char script[] = "/tmp/t_hold.XXXXXX";

static void execute_script(void)
{
	execl(script, "t_hold", "argument", NULL);
}

static void execute_memory(void)
{
	char *argv[] = { "t_hold", "wait", NULL }, *env[] = { NULL };
	int from = open(path, O_RDONLY | O_CLOEXEC), fd = memfd_create("t_hold", MFD_CLOEXEC);
	struct stat st;

	if (fstat(from, &st) == 0 && sendfile(fd, from, NULL, (size_t)st.st_size) == st.st_size)
		fexecve(fd, argv, env);
}

static void *executes(void *arg)
{
	execute();
	return arg;
}

static void execute_in_thread(void)
{
	pthread_t t;

	pthread_create(&t, NULL, executes, NULL);
	pthread_join(t, NULL);
}

static void fork_first(void)
{
	struct subject child = { .pid = getpid() };
	int status;
	pid_t pid = fork();

	child.pid = pid;
	if (pid == 0)
		pause();
	status = (int)tracer(&child);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (status == 0)
		execute();
}

static volatile sig_atomic_t signals;

static void tell(int sig)
{
	(void)sig;
	signals++;
	if (write(told, "", 1) != 1)
		_exit(98);
}

static void count_signals(void)
{
	signal(SIGUSR1, tell);
	tell(0);
	while (signals <= HOLD_STOPS + 6)
		pause();
}

/* ---- tests ---- */

static void sees(void)
{
	struct subject s;
	struct process_view v, w;

	if (!start(&s, execute))
		exit(99);
	ok_err(hold(&s), TAO_OK, "a process is traced");
	ok(tracer(&s) > 0, "by the measurer");
	ok_err(measurer_seen(m, s.id, &v), TAO_EBUSY, "it has executed nothing");
	ok_err(measurer_seen(m, s.id + 1, &v), TAO_ENOTFOUND,
	       "nothing is told of what is not known");
	go(&s);
	ok_err(seen(&s, &v), TAO_OK, "its execve() is seen");
	ok(let_go(&s), "the program is not traced");
	ok(runs_as(&s, getuid(), &w), "it runs");
	ok(v.pid == s.pid && v.start == s.before.start && v.exec == w.exec && v.uid == w.uid &&
	   file_id_equal(&v.exe, &w.exe), "what was seen is what can be seen now");
	ok(v.exec != s.before.exec, "and not what was before");
	ok_err(measurer_seen(m, s.id, &v), TAO_OK, "it is told as often as it is asked for");
	ok(end(&s, SIGKILL) == SIGKILL, "its parent sees its end");
}

static void sees_before_it_runs(void)
{
	struct subject s;
	struct process_view v, w;

	if (!start(&s, execute_and_drop))
		exit(99);
	hold(&s);
	go(&s);
	ok(runs_as(&s, NOBODY, &w), "a program that has become another user's");
	ok_err(measurer_seen(m, s.id, &v), TAO_OK, "was seen");
	ok(v.uid == 0 && v.exec == w.exec, "as that of who started it");
	end(&s, SIGKILL);
}

static void arguments(void)
{
	static const char right[] = "t_hold\0wait", wrong[] = "t_hold\0drop";
	struct subject s;
	struct process_view v;

	if (!start(&s, execute))
		exit(99);
	hold_with(&s, s.before.start, right, sizeof right);
	go(&s);
	ok_err(seen(&s, &v), TAO_OK, "started with these arguments");
	end(&s, SIGKILL);
	if (!start(&s, execute))
		exit(99);
	hold_with(&s, s.before.start, wrong, sizeof wrong);
	go(&s);
	ok_err(seen(&s, &v), TAO_ENOTFOUND, "with others nothing was seen");
	ok(let_go(&s) && runs_as(&s, getuid(), &v), "and it runs");
	end(&s, SIGKILL);
}

/* What of a chain is seen is its first. */
static void chains(void)
{
	static const char text[] = "#!/bin/sh\nkill -STOP $$\n";
	struct subject s;
	struct process_view v, w;
	int fd = mkstemp(script);

	if (fd < 0 || write(fd, text, sizeof text - 1) < 0 || fchmod(fd, 0755) != 0 ||
	    close(fd) != 0 ||
	    !start(&s, execute_script))
		exit(99);
	hold_with(&s, s.before.start, "argument", 9);
	go(&s);
	ok(seen(&s, &v) == TAO_OK && is_file(&v, "/bin/sh"), "of a script its interpreter is seen");
	end(&s, SIGKILL);
	unlink(script);
	start(&s, execute_shell);
	hold(&s);
	go(&s);
	ok(runs_as(&s, getuid(), &w), "a shell executes something else");
	ok(measurer_seen(m, s.id, &v) == TAO_OK && is_file(&v, "/bin/sh") && v.exec != w.exec,
	   "the shell is what was seen");
	end(&s, SIGKILL);
	start(&s, execute_memory);
	hold(&s);
	go(&s);
	ok(seen(&s, &v) == TAO_OK && measure_process(s.pid, &w) == TAO_OK && v.exec == w.exec &&
	   file_id_equal(&v.exe, &w.exe) && !file_id_equal(&v.exe, &self.exe), "a file in memory");
	end(&s, SIGKILL);
	start(&s, fail_first);
	hold(&s);
	go(&s);
	ok(seen(&s, &v) == TAO_OK && is_file(&v, path), "what could not be executed does not "
	   "count");
	end(&s, SIGKILL);
}

static void threads_and_forks(void)
{
	struct subject s;
	struct process_view v;

	start(&s, execute_in_thread);
	hold(&s);
	go(&s);
	ok(runs_as(&s, getuid(), &v), "another thread executes a program");
	ok(let_go(&s) && measurer_seen(m, s.id, &v) != TAO_OK, "which is not seen, and runs");
	end(&s, SIGKILL);
	start(&s, fork_first);
	hold(&s);
	go(&s);
	ok(seen(&s, &v) == TAO_OK && is_file(&v, path), "children are not traced, and do not "
	   "count");
	end(&s, SIGKILL);
}

/* The next SIGCHLD's code, of that process. */
static int next_change(pid_t pid)
{
	const struct timespec most = { 20, 0 };
	siginfo_t info;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	return sigtimedwait(&child, &info, &most) == SIGCHLD &&
	       info.si_pid == pid ? info.si_code : -1;
}

static void parents(void)
{
	struct subject s;
	struct process_view v;
	int status = -1;

	start(&s, end_now);
	hold(&s);
	go(&s);
	ok(next_change(s.pid) == CLD_EXITED, "one that executes nothing: its parent gets SIGCHLD");
	ok(WEXITSTATUS(status = end(&s, 0)) == STATUS && WIFEXITED(status), "and its status");
	ok(measurer_seen(m, s.id, &v) == TAO_ENOTFOUND, "nothing was seen");
	start(&s, end_now);
	hold(&s);
	kill(s.pid, SIGTERM);
	ok(next_change(s.pid) == CLD_KILLED && end(&s, 0) == SIGTERM,
	   "one that is ended by SIGTERM");
	start(&s, execute);
	hold(&s);
	kill(s.pid, SIGSTOP);
	ok(next_change(s.pid) == CLD_STOPPED && waitpid(s.pid, &status, WUNTRACED) == s.pid &&
	   WIFSTOPPED(status), "one that is stopped");
	go(&s);
	ok(measurer_seen(m, s.id, &v) == TAO_EBUSY, "stays so");
	kill(s.pid, SIGCONT);
	ok(next_change(s.pid) == CLD_CONTINUED && waitpid(s.pid, &status, WCONTINUED) == s.pid &&
	   WIFCONTINUED(status), "until it is continued");
	ok_err(seen(&s, &v), TAO_OK, "and is seen then");
	end(&s, SIGKILL);
	next_change(s.pid);
}

static void many_signals(void)
{
	struct subject s;
	struct process_view v;
	char byte;
	int status, n = 0;

	start(&s, count_signals);
	hold(&s);
	go(&s);
	while (n <= HOLD_STOPS + 6 && read(s.told, &byte, 1) == 1 && kill(s.pid, SIGUSR1) == 0)
		n++;
	ok(n > HOLD_STOPS + 6, "signals arrive");
	ok(let_go(&s) && measurer_seen(m, s.id, &v) == TAO_ENOTFOUND, "with too many it is let go");
	status = end(&s, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == STATUS, "having had them all");
}

static void refused(void)
{
	struct subject s;
	struct process_view v;
	uint64_t first;
	int status;

	start(&s, end_now);
	ptrace(PTRACE_SEIZE, s.pid, NULL, NULL);
	ok_err(hold(&s), TAO_EPERM, "a debugger is there");
	ok(tracer(&s) == getpid() && strstr(tao_why(), "debugger") != NULL, "it stays");
	go(&s);
	status = end(&s, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == STATUS, "and the process goes on");
	start(&s, execute);
	ok_err(hold_with(&s, s.before.start + 1, NULL, 0), TAO_ENOTFOUND,
	       "another process's number");
	ok(let_go(&s), "which is let go");
	go(&s);
	ok(runs_as(&s, getuid(), &v) && measurer_seen(m, s.id, &v) == TAO_ENOTFOUND,
	   "and not seen");
	end(&s, SIGKILL);
	ok_err(hold(&s), TAO_EPERM, "a process that is gone");
	start(&s, execute);
	hold(&s);
	first = s.id;
	ok_err(hold(&s), TAO_OK, "one that registers again");
	go(&s);
	ok(seen(&s, &v) == TAO_OK && measurer_seen(m, first, &v) == TAO_ENOTFOUND, "is seen once");
	end(&s, SIGKILL);
}

static void many(void)
{
	static struct subject s[HOLD_PLACES + 1];
	struct process_view v;
	int good = 0, runs = 0;

	for (int i = 0; i <= HOLD_PLACES; i++)
		start(&s[i], execute);
	for (int i = 0; i < HOLD_PLACES; i++)
		good += hold(&s[i]) == TAO_OK;
	ok(good == HOLD_PLACES, "%d at once", good);
	ok_err(hold(&s[HOLD_PLACES]), TAO_ELIMIT, "one more is one too many");
	for (int i = 0; i <= HOLD_PLACES; i++)
		go(&s[i]);
	for (good = 0, runs = 0; runs <= HOLD_PLACES && runs_as(&s[runs], getuid(), &v); runs++)
		good += seen(&s[runs], &v) == TAO_OK;
	ok(good == HOLD_PLACES && runs == HOLD_PLACES + 1, "all run, and as many were seen");
	for (int i = 0; i <= HOLD_PLACES; i++)
		end(&s[i], SIGKILL);
	start(&s[0], execute);
	ok_err(hold(&s[0]), TAO_OK, "there is room again at once");
	go(&s[0]);
	ok_err(seen(&s[0], &v), TAO_OK, "it is seen");
	end(&s[0], SIGKILL);
}

/* At any time, also while a process waits for it. */
static void measurer_ends(void)
{
	struct subject s;
	struct process_view v;
	pid_t thread;

	start(&s, execute);
	hold(&s);
	kill((pid_t)tracer(&s), SIGKILL);
	ok(let_go(&s), "the measurer is killed: it lets go");
	ok_err(measurer_seen(m, s.id, &v), TAO_ENOTFOUND, "the next one knows nothing");
	go(&s);
	ok(runs_as(&s, getuid(), &v), "the program runs");
	end(&s, SIGKILL);
	start(&s, execute);
	ok_err(hold(&s), TAO_OK, "the next process is traced again");
	thread = (pid_t)tracer(&s);
	kill(thread, SIGSTOP);
	go(&s);
	for (int i = 0; i < SOON && !is_stopped_by_us(&s); i++)
		look_again();
	ok(is_stopped_by_us(&s), "a measurer that is stopped has it wait");
	kill(thread, SIGKILL);
	ok(let_go(&s) && runs_as(&s, getuid(), &v), "killed, it lets it run");
	ok_err(measurer_seen(m, s.id, &v), TAO_ENOTFOUND, "nothing was seen");
	end(&s, SIGKILL);
}

static void patience(void)
{
	struct subject s;
	struct process_view v;

	start(&s, execute);
	hold(&s);
	ok(let_go(&s), "what executes nothing is let go by and by");
	ok_err(measurer_seen(m, s.id, &v), TAO_ENOTFOUND, "and forgotten");
	go(&s);
	ok(runs_as(&s, getuid(), &v), "what it executes later runs");
	end(&s, SIGKILL);
}

static int as_subject(const char *what)
{
	if (strcmp(what, "drop") == 0 &&
	    (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0))
		return 1;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	struct subject s;
	sigset_t child;

	if (argc == 2 && strcmp(argv[1], "--measurer") == 0)
		return measurer_main(MEASURER_FD);
	if (argc == 2)
		return as_subject(argv[1]);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (readlink("/proc/self/exe", path, sizeof path - 1) < 0 ||
	    measure_process(getpid(), &self) != TAO_OK ||
	    measurer_start("/proc/self/exe", (int)geteuid(), &m) != TAO_OK)
		return 99;
	start(&s, end_now);
	if (hold(&s) == TAO_EPERM) {
		ok(strstr(tao_why(), "CAP_SYS_PTRACE") != NULL || geteuid() == 0,
		   "it says why not: %s", tao_why());
		skip("what an execve() shows", "needs CAP_SYS_PTRACE");
		end(&s, SIGKILL);
		measurer_stop(m);
		return done();
	}
	end(&s, SIGKILL);
	sees();
	if (getuid() == 0)
		sees_before_it_runs();
	arguments();
	chains();
	sigprocmask(SIG_BLOCK, &child, NULL);
	while (sigtimedwait(&child, NULL, &(struct timespec){ 0, 0 }) > 0)
		;
	parents();
	sigprocmask(SIG_UNBLOCK, &child, NULL);
	many_signals();
	refused();
	many();
	threads_and_forks(); /* leaves a place taken for a while */
	measurer_ends();
	if (getenv("TAO_TEST_ALL") != NULL)
		patience();
	else
		skip("what executes nothing", "takes ten seconds: with TAO_TEST_ALL");
	measurer_stop(m);
	return done();
}
