#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "counter.h"
#include "host.h"
#include "peers.h"
#include "root.h"
#include "tao.pb-c.h"
#include "upgrade.h"

#define MAX_WARNINGS 9

/* ---- status ---- */

static size_t warnings(struct host *h, const struct audit_state *audit,
                       const char *out[MAX_WARNINGS])
{
	size_t n = 0;

	if (audit->failing)
		out[n++] = audit->why;
	if (audit->lost > 0)
		out[n++] = "records of the audit log were lost: it could not be written for a while";
	if (audit->altered > 0)
		out[n++] = "the audit log was changed by somebody else: 'tao log verify' says where";
	if (h->development)
		out[n++] = "an ordinary user's host is for development: this user can read what it protects";
	else if (h->owner == 0)
		out[n++] = "taod runs as root: give it a user of its own (taod.8)";
	if (TAO_ASAN != 0)
		out[n++] = "built with --enable-asan: hosted programs are run with the sanitizer preloaded, "
		           "and the host has neither seccomp nor Landlock";
	else if (!h->guards.seccomp || h->guards.landlock == 0)
		out[n++] = "the host's sandbox is not complete: see its log, and sandbox in taod.conf(5)";
	if (peers_clock_was_set_back(h, time(NULL)))
		out[n++] = "the clock was set back: Tao channels have no pre-shared keys; restart the host, if "
		           "the clock is right now";
	if (counters_state(h->counters) != TAO_OK)
		out[n++] = tao_why();
	return n;
}

static enum tao_err count_key(struct host *h, uid_t uid, const char *name, void *arg)
{
	(void)h;
	(void)uid;
	(void)name;
	(*(uint32_t *)arg)++;
	return TAO_OK;
}

static enum tao_err count_user(struct host *h, uid_t uid, void *arg)
{
	return keystore_each(h, uid, count_key, arg);
}

static void put_guards(const struct process_guards *g, Tao__StatusResponse *rp)
{
	rp->has_seccomp = rp->has_landlock = rp->has_memory_locked = rp->has_no_capabilities = 1;
	rp->seccomp = g->seccomp;
	rp->landlock = (uint32_t)g->landlock;
	rp->memory_locked = g->memory;
	rp->no_capabilities = g->capabilities;
}

enum tao_err op_status(struct request *r)
{
	Tao__StatusResponse rp = TAO__STATUS_RESPONSE__INIT;
	const char *list[MAX_WARNINGS];
	struct audit_state audit;
	struct host *h = r->h;
	struct tao_buf domain = TAO_BUF_INIT;
	struct root_facts facts = { 0 };
	char *name = tao_node_text(h->name);
	enum tao_err e = name != NULL ? keystore_users(h, count_user, &rp.keys) : tao_fail_nomem();

	if (h->conf.root->facts != NULL)
		h->conf.root->facts(h, &facts);
	if (e == TAO_OK) {
		tao_buf_hex(&domain, domain_id(h->domain), TAO_HASH_LEN);
		rp.version = (char *)TAO_VERSION;
		rp.principal = name;
		rp.root = (char *)h->conf.root->name;
		rp.parent = facts.parent;
		rp.has_delegated_until = facts.delegated_until != 0;
		rp.delegated_until = facts.delegated_until;
		rp.dir = h->conf.dir;
		rp.pid = getpid();
		rp.since = h->since;
		rp.development = h->development;
		rp.sanitizer = TAO_ASAN;
		rp.domain = (char *)tao_buf_cstr(&domain);
		rp.instances = registry_count(h->registry);
		rp.rules_version = domain_rules_version(h->domain);
		audit_state(h->audit, &audit);
		rp.has_audit_records = rp.has_audit_signed = rp.has_audit_lost = 1;
		rp.audit_records = audit.head.seq;
		rp.audit_signed = audit.signed_to;
		rp.audit_lost = audit.lost;
		rp.socket = h->conf.socket;
		rp.n_warnings = warnings(h, &audit, list);
		if (facts.warning != NULL)
			list[rp.n_warnings++] = facts.warning;
		rp.warnings = (char **)list;
		rp.workers = h->conf.workers;
		put_guards(&h->guards, &rp);
		rp.has_recalled = 1;
		rp.recalled = recall_count(h->recall);
		tao_pb_pack(&rp.base, r->body);
	}
	tao_buf_free(&domain);
	free(facts.parent);
	free(facts.warning);
	free(name);
	return e;
}

/* ---- instances ---- */

struct ps {
	Tao__InstanceInfo *list;
	size_t n, max;
	int all;
	uid_t uid;
	int failed;
};

static void ps_one(struct instance *i, void *arg)
{
	struct ps *ps = arg;
	Tao__InstanceInfo *info;

	/* A daemon's first process has ended; its forks hold the door. */
	int ended = atomic_load(&i->ended);

	if (ps->n == ps->max || (!ps->all && i->uid != ps->uid) ||
	    (!instance_runs(i) && atomic_load(&i->conns) == 0))
		return;
	info = &ps->list[ps->n];
	tao__instance_info__init(info);
	info->id = i->id;
	info->name = tao_node_text(instance_name(i));
	info->pid = ended && atomic_load(&i->last_pid) != 0 ? atomic_load(&i->last_pid) : i->pid;
	info->uid = i->uid;
	info->since = i->since;
	info->program = strdup(i->program);
	info->label = i->label != NULL ? strdup(i->label) : NULL;
	info->has_start = info->has_keys = 1;
	info->start = info->pid == i->pid ? i->start : atomic_load(&i->last_start);
	info->keys = atomic_load(&i->n_uses);
	info->operations = atomic_load(&i->operations);
	info->connections = atomic_load(&i->conns);
	if (info->name == NULL || info->program == NULL)
		ps->failed = 1;
	ps->n++;
}

static void ps_free(struct ps *ps, Tao__InstanceInfo **list)
{
	for (size_t i = 0; i < ps->n; i++) {
		free(ps->list[i].name);
		free(ps->list[i].program);
		free(ps->list[i].label);
	}
	free(ps->list);
	free(list);
}

enum tao_err op_ps(struct request *r)
{
	Tao__InstanceListResponse rp = TAO__INSTANCE_LIST_RESPONSE__INIT;
	struct ps ps = { .max = registry_count(r->h->registry), .all = op_is_owner(r),
	                 .uid = r->c->uid };
	Tao__InstanceInfo **list = calloc(ps.max + 1, sizeof *list);
	enum tao_err e = TAO_OK;

	ps.list = calloc(ps.max + 1, sizeof *ps.list);
	if (list == NULL || ps.list == NULL)
		ps.failed = 1;
	else
		registry_each(r->h->registry, ps_one, &ps);
	if (ps.failed) {
		e = tao_fail_nomem();
	} else {
		for (size_t i = 0; i < ps.n; i++)
			list[i] = &ps.list[i];
		rp.n_instances = ps.n;
		rp.instances = list;
		tao_pb_pack(&rp.base, r->body);
	}
	ps_free(&ps, list);
	return e;
}

enum tao_err op_doctor(struct request *r)
{
	Tao__DoctorResponse rp = TAO__DOCTOR_RESPONSE__INIT;
	struct tao_pb_alloc pa;
	Tao__DoctorRequest *rq = NULL;
	struct instance *i = NULL, *around = NULL;
	struct process_view v;
	char *name = NULL;
	enum tao_err e = OP_UNPACK(r, &pa, tao__doctor_request, &rq);

	if (e != TAO_OK)
		goto out;
	e = measurer_process(r->h->measurer, rq->pid, &v);
	if (e != TAO_OK)
		goto out;
	if (v.uid != r->c->uid && !op_is_owner(r)) {
		e = tao_fail(TAO_EPERM, "process %d is another user's: ask as that user or as the "
		             "host's owner", rq->pid);
		goto out;
	}
	i = registry_by_door(r->h->registry, rq->sockets, rq->n_sockets);
	/* the inodes are the caller's word */
	if (i != NULL && i->uid != r->c->uid && !op_is_owner(r)) {
		instance_unref(i);
		i = NULL;
	}
	if (i == NULL && registry_find(r->h, rq->pid, &v, &i, &around) != TAO_OK) {
		rp.why_not = (char *)tao_why();
	} else if (i == NULL || !file_id_equal(&v.exe, &i->file)) {
		rp.why_not = (char *)"it runs another executable than the one 'tao run' started: "
		             "start that one with 'tao run' as well";
	} else {
		rp.instance = 1;
		name = tao_node_text(instance_name(i));
		rp.name = name;
		rp.openssl_conf = i->openssl_conf;
		rp.has_connections = rp.has_operations = 1;
		rp.connections = atomic_load(&i->conns);
		rp.operations = atomic_load(&i->operations);
		if (upgrade_check(r->h, i) != TAO_OK || peers_not_revoked(r->h, i) != TAO_OK)
			rp.refused = (char *)tao_why();
	}
	tao_pb_pack(&rp.base, r->body);
out:
	free(name);
	instance_unref(i);
	instance_unref(around);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

/* ---- policy ---- */

struct facts {
	char *list[DOMAIN_MAX_FACTS];
	size_t n;
	int failed;
};

static void keep_fact(const char *fact, void *arg)
{
	struct facts *f = arg;

	if (f->n == DOMAIN_MAX_FACTS || (f->list[f->n] = strdup(fact)) == NULL)
		f->failed = 1;
	else
		f->n++;
}

/* notice: a sentence for the user, or NULL. */
static enum tao_err put_policy(struct request *r, char *notice)
{
	Tao__PolicyResponse rp = TAO__POLICY_RESPONSE__INIT;
	struct facts *f = calloc(1, sizeof *f);
	char date[32];
	uint64_t version;
	enum tao_err e;

	if (f == NULL)
		return tao_fail_nomem();
	e = domain_rules(r->h->domain, &version, date, keep_fact, f);
	if (e == TAO_OK && f->failed)
		e = tao_fail_nomem();
	if (e == TAO_OK) {
		rp.version = version;
		rp.date = date;
		rp.n_facts = f->n;
		rp.facts = f->list;
		rp.notices = &notice;
		rp.n_notices = notice != NULL;
		tao_pb_pack(&rp.base, r->body);
	}
	while (f->n > 0)
		free(f->list[--f->n]);
	free(f);
	return e;
}

enum tao_err op_policy(struct request *r)
{
	return put_policy(r, NULL);
}

static enum tao_err owner_only(struct request *r)
{
	if (op_is_owner(r))
		return TAO_OK;
	return tao_fail(TAO_EPERM, "only the domain's owner changes its policy");
}

static enum tao_err change_fact(struct request *r, enum tao_err (*change)(struct domain *,
                                                                          const char *))
{
	struct tao_pb_alloc pa;
	Tao__FactRequest *rq = NULL;
	enum tao_err e = owner_only(r);

	if (e != TAO_OK)
		return e;
	e = OP_UNPACK(r, &pa, tao__fact_request, &rq);
	if (e == TAO_OK)
		audit_note(r, "fact", rq->fact);
	if (e == TAO_OK)
		e = change(r->h->domain, rq->fact);
	if (e == TAO_OK)
		peers_purge(r->h);
	if (e == TAO_OK)
		host_log("info", "user %u changed the policy: %s %s", (unsigned)r->c->uid, r->m->op,
		         rq->fact);
	if (e == TAO_OK)
		e = put_policy(r, NULL);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_add_fact(struct request *r)
{
	return change_fact(r, domain_add_fact);
}

enum tao_err op_remove_fact(struct request *r)
{
	return change_fact(r, domain_remove_fact);
}

/* A fact that is there already, or gone already, is as the owner wants it. */
static enum tao_err set_fact(struct request *r, const char *text, int remove)
{
	enum tao_err e = remove ? domain_remove_fact(r->h->domain, text)
	                        : domain_add_fact(r->h->domain, text);

	if (e == TAO_OK) {
		audit_note_apart(r, "rule", remove ? "removed" : "added", text);
		host_log("info", "user %u %s %s", (unsigned)r->c->uid, remove ? "removed" : "added",
		         text);
	}
	return e == TAO_EEXIST || e == TAO_ENOTFOUND ? TAO_OK : e;
}

/* What tao trust has said of an executable. */
struct serves {
	const char *hash;
	char *list[DOMAIN_MAX_FACTS];
	size_t n;
};

static void keep_serves(const char *fact, void *arg)
{
	struct serves *s = arg;

	if (s->n < DOMAIN_MAX_FACTS &&
	    (strncmp(fact, "Serves(", 7) == 0 || strncmp(fact, "Installed(", 10) == 0) &&
	    strstr(fact, s->hash) != NULL && (s->list[s->n] = strdup(fact)) != NULL)
		s->n++;
}

/* What is taken back leaves nothing that a later tao trust would revive. */
static enum tao_err remove_serves(struct request *r, const char *hash)
{
	struct serves *s = calloc(1, sizeof *s);
	uint64_t version;
	char date[32];
	enum tao_err e;

	if (s == NULL)
		return tao_fail_nomem();
	s->hash = hash;
	e = domain_rules(r->h->domain, &version, date, keep_serves, s);
	for (size_t i = 0; e == TAO_OK && i < s->n; i++)
		e = set_fact(r, s->list[i], 1);
	while (s->n > 0)
		free(s->list[--s->n]);
	free(s);
	return e;
}

static enum tao_err add_serves(struct request *r, const Tao__TrustRequest *rq, const char *hash,
                               const char *dns)
{
	struct tao_buf id = TAO_BUF_INIT, user = TAO_BUF_INIT, fact = TAO_BUF_INIT;
	enum tao_err e;

	if (strpbrk(dns, "\"\\") != NULL)
		return tao_fail(TAO_EINVAL, "%s is not a DNS name", dns);
	tao_buf_hex(&id, domain_id(r->h->domain), TAO_HASH_LEN);
	if (rq->has_any_user && rq->any_user)
		tao_buf_str(&user, "_");
	else
		tao_buf_fmt(&user, "%u", rq->has_uid ? rq->uid : (unsigned)r->c->uid);
	tao_buf_fmt(&fact, "Serves(key([%s]).Measured([%s], _, %s), \"%s\")", tao_buf_cstr(&id),
	            hash, tao_buf_cstr(&user), dns);
	e = tao_buf_err(&fact);
	if (e == TAO_OK)
		e = set_fact(r, tao_buf_cstr(&fact), rq->has_remove && rq->remove);
	tao_buf_free(&id);
	tao_buf_free(&user);
	tao_buf_free(&fact);
	return e;
}

static enum tao_err trust_facts(struct request *r, const Tao__TrustRequest *rq,
                                const uint8_t exe[TAO_HASH_LEN])
{
	struct tao_buf hash = TAO_BUF_INIT, fact = TAO_BUF_INIT;
	int remove = rq->has_remove && rq->remove;
	enum tao_err e;

	tao_buf_hex(&hash, exe, TAO_HASH_LEN);
	tao_buf_fmt(&fact, "TrustedProgram([%s])", tao_buf_cstr(&hash));
	e = tao_buf_err(&fact);
	/* --remove --serves NAME takes back that name alone. */
	if (e == TAO_OK && !(remove && rq->n_serves > 0))
		e = set_fact(r, tao_buf_cstr(&fact), remove);
	if (e == TAO_OK && remove && rq->n_serves == 0)
		e = remove_serves(r, tao_buf_cstr(&hash));
	for (size_t i = 0; e == TAO_OK && i < rq->n_serves; i++)
		e = add_serves(r, rq, tao_buf_cstr(&hash), rq->serves[i]);
	tao_buf_free(&hash);
	tao_buf_free(&fact);
	return e;
}

/* The executable of path, whose descriptor came with the request. */
static enum tao_err measure_named(struct request *r, char *path, struct measurement *m)
{
	char *none[] = { NULL };
	struct measure_request mr = {
		.path = path, .fd = r->c->passed_fd, .uid = r->c->uid,
		.dev_uid = r->h->owner, .args = none, .program_only = 1,
	};
	enum tao_err e;

	audit_note(r, "path", path);
	if (path[0] != '/' || r->c->passed_fd < 0)
		return tao_fail(TAO_EINVAL, "%s needs an absolute path and the program's "
		                "descriptor", r->m->op);
	e = measurer_program(r->h->measurer, &mr, m);
	if (e == TAO_OK && m->is_script)
		e = tao_fail(TAO_EDENIED, "%s is a script, and rules name executables: this would "
		             "be a rule for all that its interpreter runs, so give the "
		             "interpreter's own path if that is meant", path);
	return e;
}

enum tao_err op_measure(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__MeasureRequest *rq = NULL;
	Tao__MeasureResponse rp = TAO__MEASURE_RESPONSE__INIT;
	struct measurement m = { .copy_fd = -1 };
	enum tao_err e = owner_only(r);

	if (e != TAO_OK)
		return e;
	e = OP_UNPACK(r, &pa, tao__measure_request, &rq);
	if (e == TAO_OK)
		e = measure_named(r, rq->path, &m);
	if (e == TAO_OK) {
		rp.program_hash = (ProtobufCBinaryData){ sizeof m.exe, m.exe };
		rp.domain = (ProtobufCBinaryData){ TAO_HASH_LEN,
		                                   (uint8_t *)domain_id(r->h->domain) };
		tao_pb_pack(&rp.base, r->body);
	}
	measurement_clear(&m);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_trust(struct request *r)
{
	struct tao_pb_alloc pa;
	Tao__TrustRequest *rq = NULL;
	struct tao_buf notice = TAO_BUF_INIT;
	struct measurement m = { .copy_fd = -1 };
	enum tao_err e = owner_only(r);

	if (e != TAO_OK)
		return e;
	e = OP_UNPACK(r, &pa, tao__trust_request, &rq);
	if (e == TAO_OK)
		e = measure_named(r, rq->path, &m);
	if (e == TAO_OK && !(rq->has_remove && rq->remove))
		e = upgrade_program(r, rq, m.exe, &notice);
	if (e == TAO_OK)
		e = trust_facts(r, rq, m.exe);
	peers_purge(r->h);
	if (e == TAO_OK)
		e = put_policy(r, (char *)(notice.n > 0 ? tao_buf_cstr(&notice) : NULL));
	tao_buf_free(&notice);
	measurement_clear(&m);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}

enum tao_err op_shutdown(struct request *r)
{
	if (!op_is_owner(r))
		return tao_fail(TAO_EPERM, "only the host's owner stops it");
	host_log("info", "user %u stops the host", (unsigned)r->c->uid);
	kill(getpid(), SIGTERM);
	return TAO_OK;
}
