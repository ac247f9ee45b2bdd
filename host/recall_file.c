#include "recall.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "tao.pb-c.h"
#include "../tao/file.h"

#define VERSION 1
#define CAP (64u << 10) /* bytes that an unpacked record may take */
#define PATH_LEN_MAX 4096
#define FILE_ID_LEN 56  /* seven integers */

static const char aad[] = "tao instance";

enum tao_err recall_boot(char boot[RECALL_BOOT_MAX])
{
	struct tao_buf id = TAO_BUF_INIT;
	char ns[RECALL_BOOT_MAX / 2];
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof ns - 1);
	enum tao_err e = tao_file_read("/proc/sys/kernel/random/boot_id", RECALL_BOOT_MAX / 2, &id);

	ns[n > 0 ? n : 0] = 0;
	if (e == TAO_OK) {
		const char *text = tao_buf_cstr(&id);

		snprintf(boot, RECALL_BOOT_MAX, "%.*s %s", (int)strcspn(text, "\n"), text, ns);
	}
	tao_buf_free(&id);
	return e;
}

/* ---- identity of a file ---- */

static void put_file_id(const struct file_id *id, struct tao_buf *b)
{
	tao_buf_u64(b, (uint64_t)id->dev);
	tao_buf_u64(b, (uint64_t)id->ino);
	tao_buf_u64(b, (uint64_t)id->size);
	tao_buf_u64(b, (uint64_t)id->mtime.tv_sec);
	tao_buf_u64(b, (uint64_t)id->mtime.tv_nsec);
	tao_buf_u64(b, (uint64_t)id->ctime.tv_sec);
	tao_buf_u64(b, (uint64_t)id->ctime.tv_nsec);
}

static int get_file_id(const ProtobufCBinaryData *from, struct file_id *id)
{
	struct tao_rd r = tao_rd_of(from->data, from->len);

	id->dev = (dev_t)tao_rd_u64(&r);
	id->ino = (ino_t)tao_rd_u64(&r);
	id->size = (off_t)tao_rd_u64(&r);
	id->mtime.tv_sec = (time_t)tao_rd_u64(&r);
	id->mtime.tv_nsec = (long)tao_rd_u64(&r);
	id->ctime.tv_sec = (time_t)tao_rd_u64(&r);
	id->ctime.tv_nsec = (long)tao_rd_u64(&r);
	return tao_rd_done(&r);
}

/* ---- writing ---- */

static void fill(Tao__InstanceRecord *m, struct instance *i)
{
	m->version = VERSION;
	m->id = i->id;
	m->pid = i->pid;
	m->start = i->start;
	m->uid = i->uid;
	m->exe.data = i->exe;
	m->exe.len = sizeof i->exe;
	m->program = i->program;
	m->label = i->label;
	m->openssl_conf = i->openssl_conf;
	m->since = i->since;
	m->interpreter = i->interpreter;
	m->operations = atomic_load(&i->operations);
	m->door = i->door;
	m->has_kind = m->has_exec = 1;
	m->kind = i->kind;
	m->exec = atomic_load(&i->exec);
	m->has_args = m->exec == 0 && i->args_n > 0;
	m->args.data = (uint8_t *)i->args;
	m->args.len = m->has_args ? i->args_n : 0;
	m->unit = i->unit;
	m->has_progsock = m->progsock = i->has_progsock;
}

enum tao_err recall_pack(const struct tao_sealer *s, const char *boot, struct instance *i,
                         const struct tao_node *name, const struct member *members, size_t n,
                         struct tao_buf *blob)
{
	Tao__InstanceRecord m = TAO__INSTANCE_RECORD__INIT;
	struct tao_buf text = TAO_BUF_INIT, file = TAO_BUF_INIT, plain = TAO_BUF_INIT;
	int32_t pids[RECALL_MEMBERS];
	uint64_t starts[RECALL_MEMBERS];
	enum tao_err e;

	for (size_t k = 0; k < n; k++) {
		pids[k] = members[k].pid;
		starts[k] = members[k].start;
	}
	fill(&m, i);
	m.boot = (char *)boot;
	m.extends = atomic_load(&i->name)->depth + (name != NULL);
	tao_node_encode(name != NULL ? name : instance_name(i), &text);
	put_file_id(&i->file, &file);
	m.name.data = text.p;
	m.name.len = text.n;
	m.file.data = file.p;
	m.file.len = file.n;
	m.n_member_pids = m.n_member_starts = n;
	m.member_pids = pids;
	m.member_starts = starts;
	e = tao_buf_err(&text);
	if (e == TAO_OK)
		e = tao_buf_err(&file);
	if (e == TAO_OK)
		tao_pb_pack(&m.base, &plain);
	if (e == TAO_OK)
		e = tao_buf_err(&plain);
	if (e == TAO_OK)
		e = tao_seal(s, TAO_SEAL_INSTANCE, aad, sizeof aad, plain.p, plain.n, blob);
	tao_buf_free(&text);
	tao_buf_free(&file);
	tao_buf_free(&plain);
	return e;
}

/* ---- reading ---- */

static enum tao_err check(const Tao__InstanceRecord *m, const char *boot)
{
	if (m->version > VERSION)
		return tao_fail(TAO_EVERSION, "a newer taod wrote it (version %u): use that one",
		                m->version);
	if (strcmp(m->boot, boot) != 0)
		return tao_fail(TAO_ENOTFOUND, "it is of another boot");
	if (m->version == 0 || m->id == 0 || m->pid <= 0 || m->exe.len != TAO_HASH_LEN ||
	    m->file.len != FILE_ID_LEN || m->name.len > INSTANCE_MAX_NAME ||
	    m->extends > INSTANCE_MAX_EXTENDS || strlen(m->program) > PATH_LEN_MAX ||
	    (m->label != NULL && strlen(m->label) > INSTANCE_MAX_LABEL) ||
	    (m->openssl_conf != NULL && strlen(m->openssl_conf) > PATH_LEN_MAX) ||
	    m->kind > INSTANCE_PROCESS || m->args.len > INSTANCE_MAX_ARGS ||
	    (m->unit != NULL && strlen(m->unit) > UNIT_MAX) ||
	    m->n_member_pids > RECALL_MEMBERS || m->n_member_pids != m->n_member_starts)
		return tao_fail(TAO_EFORMAT, "it is not the record of an instance");
	for (size_t k = 0; k < m->n_member_pids; k++)
		if (m->member_pids[k] <= 0)
			return tao_fail(TAO_EFORMAT, "it is not the record of an instance");
	return TAO_OK;
}

static enum tao_err set_name(const Tao__InstanceRecord *m, struct instance *i)
{
	struct name_version *v = calloc(1, sizeof *v);

	if (v == NULL)
		return tao_fail_nomem();
	v->depth = m->extends;
	atomic_store(&i->name, v);
	return tao_prin_decode(m->name.data, m->name.len, &v->node);
}

static int copy_texts(const Tao__InstanceRecord *m, struct instance *i)
{
	i->program = strdup(m->program);
	i->label = m->label != NULL ? strdup(m->label) : NULL;
	i->openssl_conf = m->openssl_conf != NULL ? strdup(m->openssl_conf) : NULL;
	i->unit = strdup(m->unit != NULL ? m->unit : "");
	i->args = m->args.len > 0 ? malloc(m->args.len) : NULL;
	if (i->args != NULL)
		memcpy(i->args, m->args.data, m->args.len);
	i->args_n = m->args.len;
	return i->program != NULL && (m->label == NULL || i->label != NULL) && i->unit != NULL &&
	       (m->openssl_conf == NULL || i->openssl_conf != NULL) &&
	       (m->args.len == 0 || i->args != NULL);
}

static enum tao_err make(const Tao__InstanceRecord *m, struct instance **out)
{
	struct instance *i = calloc(1, sizeof *i);
	enum tao_err e;

	if (i == NULL)
		return tao_fail_nomem();
	atomic_store(&i->refs, 1);
	i->id = m->id;
	i->pid = m->pid;
	i->start = m->start;
	i->uid = m->uid;
	memcpy(i->exe, m->exe.data, sizeof i->exe);
	i->since = m->since;
	i->interpreter = m->interpreter;
	atomic_store(&i->operations, m->operations);
	i->door = (ino_t)m->door;
	i->kind = (enum instance_kind)m->kind;
	i->has_progsock = m->progsock;
	atomic_store(&i->exec, m->exec);
	e = set_name(m, i);
	if (e == TAO_OK && !get_file_id(&m->file, &i->file))
		e = tao_fail(TAO_EFORMAT, "it is not the record of an instance");
	if (!copy_texts(m, i) && e == TAO_OK)
		e = tao_fail_nomem();
	if (e != TAO_OK)
		instance_unref(i);
	else
		*out = i;
	return e;
}

enum tao_err recall_parse(const char *boot, const void *plain, size_t plain_n,
                          struct instance **out, struct member members[RECALL_MEMBERS], size_t *n)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *any = NULL;
	const Tao__InstanceRecord *m;
	enum tao_err e;

	*out = NULL;
	*n = 0;
	tao_pb_alloc_init(&pa, CAP);
	e = tao_pb_unpack(&pa, &tao__instance_record__descriptor, plain, plain_n,
	                  "record of an instance", &any);
	m = (const Tao__InstanceRecord *)any;
	if (e == TAO_OK)
		e = check(m, boot);
	if (e == TAO_OK)
		e = make(m, out);
	for (size_t k = 0; e == TAO_OK && k < m->n_member_pids; k++)
		members[(*n)++] = (struct member){ m->member_pids[k], m->member_starts[k] };
	tao_pb_free(&pa, any);
	return e;
}

enum tao_err recall_unpack(const struct tao_sealer *s, const char *boot, const void *blob,
                           size_t blob_n, struct instance **out,
                           struct member members[RECALL_MEMBERS], size_t *n)
{
	struct tao_buf plain = TAO_BUF_INIT;
	enum tao_err e = tao_unseal_any(s, TAO_SEAL_INSTANCE, aad, sizeof aad, blob, blob_n,
	                                &plain);

	if (e == TAO_OK)
		e = recall_parse(boot, plain.p, plain.n, out, members, n);
	tao_buf_free(&plain);
	return e;
}
