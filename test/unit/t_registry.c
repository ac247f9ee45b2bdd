/* Instances: how long they live, what they are called, who belongs to them. */
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "../../host/host.h"
#include "tap.h"

#define MAX 40

static const struct host_conf conf = { .max_instances = MAX, .max_instances_per_user = MAX };
#define THREADS 8
#define ROUNDS 500

static const uint8_t root[TAO_HASH_LEN] = { 1 }, domain[TAO_HASH_LEN] = { 2 };

static enum tao_err add(struct registry *r, pid_t pid, uint64_t start, const char *label,
                        struct instance **out)
{
	struct measurement m = { .copy_fd = -1 };
	struct registration g = { .uid = 1000, .pid = pid, .start = start,
		                  .program = "/bin/example", .label = label };
	struct tao_node *host = name_host(root, domain), *name;

	m.exe[0] = 3;
	name = name_program(host, &m, 1000, 0, domain);
	tao_node_free(host);
	*out = NULL;
	g.m = &m;
	return registry_add(r, &g, name, out);
}

static struct instance *must_add(struct registry *r, pid_t pid, uint64_t start)
{
	struct instance *i;

	if (add(r, pid, start, NULL, &i) == TAO_OK)
		return i;
	printf("Bail out! %s\n", tao_why());
	exit(1);
}

static void over(struct registry *r, struct instance *i)
{
	atomic_store(&i->ended, 1);
	registry_settle(r, i);
	instance_unref(i);
}

/* ---- life ---- */

static void check_life(void)
{
	struct registry *r = registry_new(&conf);
	struct instance *i;

	ok_err(add(r, 10, 1, "label", &i), TAO_OK, "an instance is registered");
	ok(registry_count(r) == 1 && i->id == 1, "it counts");
	ok_str(i->label, "label", "it has its label");
	registry_settle(r, i);
	ok(registry_count(r) == 1, "it stays while its process lives");
	atomic_store(&i->door_open, 1);
	atomic_store(&i->conns, 1);
	atomic_store(&i->watched, 1);
	atomic_store(&i->ended, 1);
	registry_settle(r, i);
	ok(registry_count(r) == 1, "and after it, while somebody has its door");
	atomic_store(&i->door_open, 0);
	registry_settle(r, i);
	ok(registry_count(r) == 1, "or a connection");
	atomic_store(&i->conns, 0);
	registry_settle(r, i);
	ok(registry_count(r) == 1, "or its end was not noticed yet");
	atomic_store(&i->watched, 0);
	registry_settle(r, i);
	ok(registry_count(r) == 0, "then it is gone");
	registry_settle(r, i);
	ok(registry_count(r) == 0, "only once");
	ok_str(i->program, "/bin/example", "who holds it may still look at it");
	instance_unref(i);
	i = must_add(r, 10, 1);
	ok(i->id == 2, "identifiers are not used again");
	instance_unref(i);
	registry_free(r);
}

static void check_limits(void)
{
	struct registry *r = registry_new(&conf);
	struct instance *i, *all[MAX];

	for (int n = 0; n < MAX; n++)
		all[n] = must_add(r, 100 + n, 1);
	ok_err(add(r, 99, 1, NULL, &i), TAO_ELIMIT, "one more than max_instances");
	ok(i == NULL && registry_count(r) == MAX, "is not there");
	over(r, all[7]);
	ok_err(add(r, 99, 1, NULL, &i), TAO_OK, "but when another has ended");
	instance_unref(i);
	for (int n = 0; n < MAX; n++)
		if (n != 7)
			over(r, all[n]);
	ok(registry_count(r) == 1, "all others can go");
	registry_free(r);

	r = registry_new(&conf);
	for (int n = 0; n < INSTANCE_MAX_AGAIN; n++) {
		all[n] = must_add(r, 5, 6);
		atomic_store(&all[n]->watched, 1);
	}
	ok(atomic_load(&all[0]->ended) && !atomic_load(&all[INSTANCE_MAX_AGAIN - 1]->ended),
	   "of the registrations of a process the last one counts");
	ok_err(add(r, 5, 6, NULL, &i), TAO_ELIMIT, "there is a limit to them");
	ok_err(add(r, 5, 7, NULL, &i), TAO_OK, "which is not that of a later process with that "
	       "number");
	instance_unref(i);
	for (int n = 0; n < INSTANCE_MAX_AGAIN; n++)
		instance_unref(all[n]);
	registry_free(r);
}

/* ---- names ---- */

static enum tao_err extend(struct instance *i, const char *text)
{
	struct tao_node *sub = NULL;
	enum tao_err e = tao_subprin_parse(text, strlen(text), &sub);

	if (e == TAO_OK)
		e = instance_extend(i, sub);
	tao_node_free(sub);
	return e;
}

static void check_names(void)
{
	struct registry *r = registry_new(&conf);
	struct instance *i = must_add(r, 10, 1);
	const struct tao_node *before = instance_name(i);
	char *old = tao_node_text(before), *text;
	char want[2000], longest[INSTANCE_MAX_NAME + 10] = ".X(\"";
	int times = 1;

	ok_err(extend(i, ".A(1).B(\"b\")"), TAO_OK, "a name is extended");
	text = tao_node_text(instance_name(i));
	snprintf(want, sizeof want, "%s.A(1).B(\"b\")", old);
	ok_str(text, want, "by all of it");
	free(text);
	text = tao_node_text(before);
	ok_str(text, old, "who read the old name before may go on reading");
	free(text);
	ok(tao_prin_covers(before, instance_name(i)), "the new name is a subprincipal of it");
	for (; times < 1000 && extend(i, ".C(2)") == TAO_OK; times++)
		;
	ok(times == INSTANCE_MAX_EXTENDS, "%d times", times);
	ok_err(extend(i, ".C(2)"), TAO_ELIMIT, "and no more");
	over(r, i);
	i = must_add(r, 10, 1);
	memset(longest + 4, 'x', INSTANCE_MAX_NAME);
	strcpy(longest + 4 + INSTANCE_MAX_NAME, "\")");
	ok_err(extend(i, longest), TAO_ELIMIT, "a name does not get too long");
	text = tao_node_text(instance_name(i));
	ok_str(text, old, "it stays what it was");
	free(text);
	over(r, i);
	ok(registry_count(r) == 0, "names go with their instance");
	free(old);
	registry_free(r);
}

static void *extend_many(void *arg)
{
	for (int n = 0; n < INSTANCE_MAX_EXTENDS / THREADS; n++)
		extend(arg, ".T(1)");
	return NULL;
}

static void check_races(void)
{
	struct registry *r = registry_new(&conf);
	struct instance *i = must_add(r, 10, 1);
	size_t exts = tao_prin_ext_count(instance_name(i));
	pthread_t t[THREADS];

	for (int n = 0; n < THREADS; n++)
		pthread_create(&t[n], NULL, extend_many, i);
	for (int n = 0; n < THREADS; n++)
		pthread_join(t[n], NULL);
	ok(tao_prin_ext_count(instance_name(i)) == exts + INSTANCE_MAX_EXTENDS,
	   "no extension of %d threads is lost", THREADS);
	over(r, i);
	registry_free(r);
}

/* ---- doors ---- */

static void check_doors(void)
{
	struct registry *r = registry_new(&conf);
	struct instance *a = must_add(r, 10, 1), *b = must_add(r, 11, 1), *found;
	uint64_t inodes[] = { 5, 7, 9 };

	a->door = 6;
	b->door = 9;
	found = registry_by_door(r, inodes, 3);
	ok(found == b, "an instance is found by its door");
	instance_unref(found);
	ok(registry_by_door(r, inodes, 2) == NULL, "and not by others");
	ok(registry_by_door(r, NULL, 0) == NULL, "nor by none");
	over(r, a);
	over(r, b);
	ok(registry_by_door(r, inodes, 3) == NULL, "nor when it is gone");
	registry_free(r);
}

/* ---- many at once ---- */

static void count_one(struct instance *i, void *arg)
{
	(*(int *)arg) += instance_name(i) != NULL;
}

static void *come_and_go(void *arg)
{
	struct registry *r = arg;

	for (int n = 0; n < ROUNDS; n++) {
		struct instance *i = NULL;
		int seen = 0;

		if (add(r, 10 + n % 3, 1, "x", &i) != TAO_OK)
			continue;
		registry_each(r, count_one, &seen);
		atomic_fetch_add(&i->conns, 1);
		atomic_store(&i->ended, 1);
		registry_settle(r, i);
		atomic_fetch_sub(&i->conns, 1);
		registry_settle(r, i);
		instance_unref(i);
	}
	return NULL;
}

static void check_threads(void)
{
	struct registry *r = registry_new(&conf);
	pthread_t t[THREADS];

	for (int n = 0; n < THREADS; n++)
		pthread_create(&t[n], NULL, come_and_go, r);
	for (int n = 0; n < THREADS; n++)
		pthread_join(t[n], NULL);
	ok(registry_count(r) == 0, "%d threads register and leave: nobody stays", THREADS);
	registry_free(r);
}

/* ---- descent, asked of the real measurer ---- */

/* TAO_OK only with exactly these. */
static enum tao_err find(struct host *h, pid_t pid, const struct instance *want,
                         const struct instance *want_around)
{
	struct instance *got, *around;
	enum tao_err e = registry_find(h, pid, NULL, &got, &around);

	if (got != want || around != want_around)
		e = e == TAO_OK ? TAO_EINVAL : e;
	instance_unref(got);
	instance_unref(around);
	return e;
}

static void check_descent(void)
{
	struct host h = { 0 };
	struct process_view v, i_am;
	struct instance *i = NULL;
	const char *build = getenv("TAO_BUILD");
	char taod[4096];

	snprintf(taod, sizeof taod, "%s/bin/taod", build != NULL ? build : "");
	if (build == NULL || measurer_start(taod, 0, &h.measurer) != TAO_OK) {
		skip("descent", "no taod to be found by TAO_BUILD");
		return;
	}
	h.registry = registry_new(&conf);
	measurer_process(h.measurer, getppid(), &v);
	ok_err(find(&h, getpid(), NULL, NULL), TAO_ENOTRUN, "a process of nobody");
	i = must_add(h.registry, getppid(), v.start);
	ok_err(find(&h, getpid(), NULL, i), TAO_OK, "a child of a registered process, running "
	       "another");
	measurer_process(h.measurer, getpid(), &i_am);
	i->file = i_am.exe;
	i->uid = getuid() + 1;
	ok_err(find(&h, getpid(), NULL, i), TAO_OK, "running the same as another user, too");
	atomic_store(&i->exec, i_am.exec);
	ok_err(find(&h, getpid(), i, NULL), TAO_OK, "unless it is the start itself");
	atomic_store(&i->exec, 0);
	i->uid = getuid();
	ok_err(find(&h, getpid(), i, NULL), TAO_OK, "running the same as the same user, it is of "
	       "that instance");
	i->interpreter = 1;
	ok_err(find(&h, getpid(), NULL, i), TAO_OK, "but not of an interpreter whose start is "
	       "unknown");
	atomic_store(&i->exec, i_am.exec + 1);
	ok_err(find(&h, getpid(), NULL, i), TAO_OK, "nor of another start");
	atomic_store(&i->exec, i_am.exec);
	ok_err(find(&h, getpid(), i, NULL), TAO_OK, "but of this one");
	i->kind = INSTANCE_PROCESS;
	i->uid = getuid() + 1;
	ok_err(find(&h, getpid(), NULL, i), TAO_OK, "a Process is of one user");
	i->uid = getuid();
	i->kind = INSTANCE_RUN;
	atomic_store(&i->ended, 1);
	ok_err(find(&h, getpid(), NULL, NULL), TAO_ENOTRUN, "not when that has ended");
	over(h.registry, i);
	i = must_add(h.registry, getppid(), v.start + 1);
	ok_err(find(&h, getpid(), NULL, NULL), TAO_ENOTRUN,
	       "nor a child of a process that had the number before");
	over(h.registry, i);
	ok_err(find(&h, 0x7ffffff0, NULL, NULL), TAO_ENOTRUN, "nor a process that is not there");
	registry_free(h.registry);
	measurer_stop(h.measurer);
}

int main(void)
{
	check_life();
	check_limits();
	check_names();
	check_races();
	check_doors();
	check_threads();
	check_descent();
	return done();
}
