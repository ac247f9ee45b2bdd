#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "tao.pb-c.h"

#define PAGE_RECORDS 4096
#define PAGE_BYTES (1u << 20)  /* of records given */
#define SCAN_BYTES (16u << 20) /* of records looked at */

struct page {
	struct tao_buf text;     /* the records, one behind the other */
	size_t len[PAGE_RECORDS];
	size_t n, scanned;
	int all, more;
	uid_t uid;
	uint64_t next;
};

static int keep(const char *line, size_t n, const struct audit_record *r, void *arg)
{
	struct page *p = arg;

	if (p->n == PAGE_RECORDS || p->text.n + n > PAGE_BYTES || p->scanned > SCAN_BYTES) {
		p->more = 1;
		return 1;
	}
	p->scanned += n;
	p->next = r->seq + 1;
	if (!p->all && (!r->has_uid || r->uid != p->uid))
		return 0;
	tao_buf_put(&p->text, line, n);
	p->len[p->n++] = n;
	return 0;
}

static enum tao_err put_page(struct request *r, const struct page *p)
{
	Tao__LogResponse rp = TAO__LOG_RESPONSE__INIT;
	ProtobufCBinaryData *list = calloc(p->n + 1, sizeof *list);
	struct audit_state state;
	uint8_t *at = p->text.p;

	if (list == NULL)
		return tao_fail_nomem();
	for (size_t i = 0; i < p->n; i++) {
		list[i].data = at;
		list[i].len = p->len[i];
		at += p->len[i];
	}
	rp.n_records = p->n;
	rp.records = list;
	rp.next = p->next;
	rp.more = p->more;
	if (p->all) {
		audit_state(r->h->audit, &state);
		rp.has_head = rp.has_head_hash = 1;
		rp.head = state.head.seq;
		rp.head_hash.data = state.head.hash;
		rp.head_hash.len = TAO_HASH_LEN;
	}
	tao_pb_pack(&rp.base, r->body);
	free(list);
	return TAO_OK;
}

enum tao_err op_log(struct request *r)
{
	static const struct tao_buf empty = TAO_BUF_INIT;
	struct tao_pb_alloc pa;
	Tao__LogRequest *rq = NULL;
	struct page *p = calloc(1, sizeof *p);
	char *dir = host_path(&r->h->conf, "audit");
	enum tao_err e = OP_UNPACK(r, &pa, tao__log_request, &rq);

	if (e == TAO_OK && (p == NULL || dir == NULL))
		e = tao_fail_nomem();
	if (e == TAO_OK) {
		p->text = empty;
		p->all = op_is_owner(r);
		p->uid = r->c->uid;
		p->next = rq->has_from && rq->from > 0 ? rq->from : 1;
		e = audit_walk(dir, p->next, keep, p);
	}
	if (e == TAO_OK)
		e = tao_buf_err(&p->text);
	if (e == TAO_OK)
		e = put_page(r, p);
	if (p != NULL)
		tao_buf_free(&p->text);
	free(p);
	free(dir);
	tao_pb_free(&pa, (ProtobufCMessage *)rq);
	return e;
}
