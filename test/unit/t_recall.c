/* host/recall.h: the record of an instance, what is refused in it, and who is a member. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../host/host.h"
#include "tao.pb-c.h"
#include "tap.h"

#define BOOT "11111111-2222-3333-4444-555555555555 pid:[4026531836]"

static const struct host_conf limits = { .max_instances = 10, .max_instances_per_user = 10 };
static struct tao_sealer sealer, other;

static void make_sealer(struct tao_sealer *s)
{
	struct tao_keyset ks = { 0 };

	if (tao_keyset_generate(&ks) != TAO_OK || tao_sealer_init(s, &ks) != TAO_OK) {
		printf("Bail out! %s\n", tao_why());
		exit(1);
	}
	tao_keyset_clear(&ks);
}

static struct instance *make_instance(struct registry *r)
{
	static const uint8_t root[TAO_HASH_LEN] = { 1 }, domain[TAO_HASH_LEN] = { 2 };
	struct measurement m = { .copy_fd = -1, .is_interpreter = 1 };
	struct registration g = { .m = &m, .uid = 1000, .pid = 42, .start = 4200, .label = "label",
		                  .program = "/usr/bin/example", .unit = "example.service",
		                  .args = "a\0b", .args_n = 4 };
	struct tao_node *host = name_host(root, domain), *name, *sub;
	struct instance *i = NULL;

	memset(m.exe, 3, sizeof m.exe);
	m.id = (struct file_id){ 4, 5, 6, { 7, 8 }, { 9, 10 } };
	name = name_program(host, &m, 1000, 0, domain);
	tao_node_free(host);
	if (registry_add(r, &g, name, &i) != TAO_OK ||
	    tao_subprin_parse(".Mode(1)", 8, &sub) != TAO_OK || instance_extend(i, sub) != TAO_OK) {
		printf("Bail out! %s\n", tao_why());
		exit(1);
	}
	tao_node_free(sub);
	i->since = 12345;
	i->door = 77;
	atomic_store(&i->operations, 99);
	return i;
}

/* ---- the record ---- */

static int is_same(struct instance *a, struct instance *b)
{
	return a->id == b->id && a->pid == b->pid && a->start == b->start && a->uid == b->uid &&
	       memcmp(a->exe, b->exe, sizeof a->exe) == 0 && file_id_equal(&a->file, &b->file) &&
	       a->kind == b->kind && strcmp(a->unit, b->unit) == 0 && a->args_n == b->args_n &&
	       memcmp(a->args, b->args, a->args_n) == 0 && strcmp(a->program, b->program) == 0 &&
	       strcmp(a->label, b->label) == 0 &&
	       a->since == b->since && a->interpreter == b->interpreter && a->door == b->door &&
	       atomic_load(&a->operations) == atomic_load(&b->operations) &&
	       atomic_load(&a->name)->depth == atomic_load(&b->name)->depth &&
	       tao_node_equal(instance_name(a), instance_name(b));
}

static void round_trip(struct instance *i)
{
	static const struct member given[] = { { 43, 4300 }, { 44, 4400 } };
	struct member got[RECALL_MEMBERS];
	struct tao_buf blob = TAO_BUF_INIT;
	struct instance *again;
	size_t n;

	ok_err(recall_pack(&sealer, BOOT, i, NULL, given, 2, &blob), TAO_OK,
	       "an instance is packed");
	ok_err(recall_unpack(&sealer, BOOT, blob.p, blob.n, &again, got, &n), TAO_OK,
	       "and unpacked");
	ok(again != NULL && is_same(i, again), "with all that it had");
	ok(n == 2 && got[0].pid == 43 && got[0].start == 4300 && got[1].pid == 44 &&
	   got[1].start == 4400,
	   "and its members");
	instance_unref(again);
	ok_err(recall_unpack(&other, BOOT, blob.p, blob.n, &again, got, &n), TAO_EOTHERHOST,
	       "not by another host");
	ok_err(recall_unpack(&sealer, "later", blob.p, blob.n, &again, got, &n), TAO_ENOTFOUND,
	       "not after another boot");
	blob.p[blob.n - 1] ^= 1;
	ok_err(recall_unpack(&sealer, BOOT, blob.p, blob.n, &again, got, &n), TAO_EALTERED,
	       "not altered");
	ok_err(recall_unpack(&sealer, BOOT, blob.p, 20, &again, got, &n), TAO_EFORMAT,
	       "nor cut short");
	tao_buf_reset(&blob);
	ok_err(tao_seal(&sealer, TAO_SEAL_DATA, "x", 1, "x", 1, &blob), TAO_OK,
	       "data of a program");
	ok_err(recall_unpack(&sealer, BOOT, blob.p, blob.n, &again, got, &n), TAO_EFORMAT,
	       "is no record");
	tao_buf_free(&blob);
}

/* ---- one field at a time ---- */

static uint8_t bytes[INSTANCE_MAX_NAME + 1];
static char text[2 * INSTANCE_MAX_ARGS + 8192];

static void version_2(Tao__InstanceRecord *m) { m->version = 2; }
static void version_0(Tao__InstanceRecord *m) { m->version = 0; }
static void no_id(Tao__InstanceRecord *m) { m->id = 0; }
static void no_pid(Tao__InstanceRecord *m) { m->pid = 0; }
static void negative_pid(Tao__InstanceRecord *m) { m->pid = -5; }
static void short_exe(Tao__InstanceRecord *m) { m->exe.len--; }
static void short_file(Tao__InstanceRecord *m) { m->file.len--; }
static void long_file(Tao__InstanceRecord *m) { m->file.data = bytes; m->file.len = 57; }
static void no_name(Tao__InstanceRecord *m) { m->name.len = 0; }
static void bad_name(Tao__InstanceRecord *m) { m->name.len--; }
static void long_name(Tao__InstanceRecord *m) { m->name.data = bytes; m->name.len = sizeof bytes; }
static void extends_65(Tao__InstanceRecord *m) { m->extends = INSTANCE_MAX_EXTENDS + 1; }
static void long_program(Tao__InstanceRecord *m) { m->program = text; }
static void long_label(Tao__InstanceRecord *m) { m->label = text; }
static void unknown_kind(Tao__InstanceRecord *m) { m->has_kind = 1; m->kind = 99; }
static void long_unit(Tao__InstanceRecord *m) { m->unit = text; }
static void long_args(Tao__InstanceRecord *m)
{
	m->has_args = 1;
	m->args.data = (uint8_t *)text;
	m->args.len = INSTANCE_MAX_ARGS + 1;
}
static void uneven_members(Tao__InstanceRecord *m) { m->n_member_starts--; }
static void member_0(Tao__InstanceRecord *m) { m->member_pids[0] = 0; }
static void many_members(Tao__InstanceRecord *m)
{
	static int32_t pids[RECALL_MEMBERS + 1];
	static uint64_t starts[RECALL_MEMBERS + 1];

	for (size_t i = 0; i <= RECALL_MEMBERS; i++)
		pids[i] = 1;
	m->n_member_pids = m->n_member_starts = RECALL_MEMBERS + 1;
	m->member_pids = pids;
	m->member_starts = starts;
}

static const struct {
	const char *what;
	void (*change)(Tao__InstanceRecord *m);
	enum tao_err want;
} malformed[] = {
	{ "version 2", version_2, TAO_EVERSION }, { "version 0", version_0, TAO_EFORMAT },
	{ "no identifier", no_id, TAO_EFORMAT }, { "process 0", no_pid, TAO_EFORMAT },
	{ "a negative process", negative_pid, TAO_EFORMAT },
	{ "a short hash", short_exe, TAO_EFORMAT },
	{ "a short identity", short_file, TAO_EFORMAT }, { "a long identity", long_file, TAO_EFORMAT },
	{ "no name", no_name, TAO_EFORMAT }, { "half a name", bad_name, TAO_EFORMAT },
	{ "a long name", long_name, TAO_EFORMAT }, { "65 extensions", extends_65, TAO_EFORMAT },
	{ "a long program", long_program, TAO_EFORMAT }, { "a long label", long_label, TAO_EFORMAT },
	{ "an unknown kind", unknown_kind, TAO_EFORMAT }, { "a long unit", long_unit, TAO_EFORMAT },
	{ "long arguments", long_args, TAO_EFORMAT },
	{ "more members than start times", uneven_members, TAO_EFORMAT },
	{ "a member that is no process", member_0, TAO_EFORMAT },
	{ "65 members", many_members, TAO_EFORMAT },
};

static enum tao_err changed(struct instance *i, void (*change)(Tao__InstanceRecord *))
{
	static const struct member one = { 43, 4300 };
	struct tao_buf blob = TAO_BUF_INIT, plain = TAO_BUF_INIT, again = TAO_BUF_INIT;
	struct member got[RECALL_MEMBERS];
	Tao__InstanceRecord *m = NULL;
	struct instance *out = NULL;
	size_t n;
	enum tao_err e = recall_pack(&sealer, BOOT, i, NULL, &one, 1, &blob);

	if (e == TAO_OK)
		e = tao_unseal(&sealer, TAO_SEAL_INSTANCE, "tao instance", 13, blob.p, blob.n,
		               &plain);
	if (e == TAO_OK)
		m = tao__instance_record__unpack(NULL, plain.n, plain.p);
	if (m != NULL) {
		Tao__InstanceRecord copy = *m;

		change(&copy);
		tao_pb_pack(&copy.base, &again);
		e = recall_parse(BOOT, again.p, again.n, &out, got, &n);
		tao__instance_record__free_unpacked(m, NULL);
	}
	ok(out == NULL, "nothing comes of it");
	instance_unref(out);
	tao_buf_free(&blob);
	tao_buf_free(&plain);
	tao_buf_free(&again);
	return m != NULL ? e : TAO_ENOMEM;
}

/* ---- the registry ---- */

static struct instance *restored(struct registry *r, struct instance *of, uint64_t id)
{
	struct tao_buf blob = TAO_BUF_INIT;
	struct member got[RECALL_MEMBERS];
	struct instance *i = NULL;
	size_t n;

	if (recall_pack(&sealer, BOOT, of, NULL, NULL, 0, &blob) == TAO_OK &&
	    recall_unpack(&sealer, BOOT, blob.p, blob.n, &i, got, &n) == TAO_OK) {
		i->id = id;
		registry_restore(r, i);
	}
	tao_buf_free(&blob);
	return i;
}

static void in_registry(struct instance *of)
{
	struct registry *r = registry_new(&limits);
	struct instance *a, *b, *c;

	registry_used(r, 20);
	registry_used(r, 7);
	a = restored(r, of, 20);
	b = restored(r, of, 7);
	ok(a != NULL && b != NULL && registry_count(r) == 2, "two registrations of one process");
	ok(!atomic_load(&a->ended) && atomic_load(&b->ended), "the later one is what it is");
	c = make_instance(r);
	ok(c->id == 21, "an identifier is not used again");
	ok(atomic_load(&a->ended), "it registers once more");
	instance_unref(a);
	instance_unref(b);
	instance_unref(c);
	registry_free(r);
}

static void boots(void)
{
	char a[RECALL_BOOT_MAX], b[RECALL_BOOT_MAX];

	ok_err(recall_boot(a), TAO_OK, "this boot has a name");
	ok(recall_boot(b) == TAO_OK && strcmp(a, b) == 0 && strchr(a, '\n') == NULL &&
	   strlen(a) > 36,
	   "always the same");
}

/* Two threads learn that a program is over, in any order: its door closes, its process ends. */
static void after_the_end(void)
{
	char dir[] = "/tmp/t_recall.XXXXXX", path[64];
	struct host h = { .conf = { .max_instances = 10, .max_instances_per_user = 10 } };
	const struct timespec ms = { .tv_nsec = 1000000 };
	struct tao_node *sub = NULL;
	struct instance *i;

	if (mkdtemp(dir) == NULL)
		return;
	h.conf.dir = dir;
	h.sealer = sealer;
	h.registry = registry_new(&h.conf);
	snprintf(path, sizeof path, "%s/host", dir);
	mkdir(path, 0700);
	i = make_instance(h.registry);
	ok_err(recall_open(&h), TAO_OK, "a directory of instances");
	ok_err(recall_add(&h, i), TAO_OK, "an instance is kept");
	snprintf(path, sizeof path, "%s/host/instances/%llu", dir, (unsigned long long)i->id);
	ok(access(path, F_OK) == 0, "in a file");
	recall_over(i);
	for (int k = 0; k < 5000 && access(path, F_OK) == 0; k++)
		nanosleep(&ms, NULL);
	ok(access(path, F_OK) != 0, "which goes when the instance is over");
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	recall_watch(&h, i);
	recall_changed(i);
	recall_member(i, 4711, 4711);
	recall_over(i);
	ok(tao_subprin_parse(".Late(1)", 8, &sub) == TAO_OK && recall_extend(&h, i, sub) == TAO_OK,
	   "who still has it may go on");
	tao_node_free(sub);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	ok(access(path, F_OK) != 0, "and the file does not come back");
	recall_close(&h);
	recall_free(h.recall);
	instance_unref(i);
	registry_free(h.registry);
	snprintf(path, sizeof path, "rm -rf %s", dir);
	ok(system(path) == 0, "nothing is left");
}

int main(void)
{
	struct registry *r = registry_new(&limits);
	struct instance *i = make_instance(r);

	memset(text, 'x', sizeof text - 1);
	make_sealer(&sealer);
	make_sealer(&other);
	round_trip(i);
	for (size_t k = 0; k < sizeof malformed / sizeof malformed[0]; k++)
		ok_err(changed(i, malformed[k].change), malformed[k].want, "%s", malformed[k].what);
	in_registry(i);
	boots();
	after_the_end();
	ok(recall_find(NULL, 1, 1) == NULL && recall_count(NULL) == 0,
	   "without it, nobody is a member");
	instance_unref(i);
	registry_free(r);
	tao_sealer_clear(&sealer);
	tao_sealer_clear(&other);
	return done();
}
