/* The guard with a list of what is allowed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "pb.h"
#include "tao.pb-c.h"

#define CONTEXT "tao.ACLGuard Version 1"
#define FORMAT  1
/* Unpacked, a set of short entries takes several times its size. */
#define UNPACK_MEMORY (8 * TAO_GUARD_MAX_FILE)

/* The binary form is canonical: equal bytes, equal trees. */
struct entry {
	struct tao_node *form;
	struct tao_buf bin;
};

struct entries {
	struct entry **order;  /* as they came: unkeyed, the guard's name depends on it */
	struct entry **sorted; /* by binary form */
	size_t n, cap;
};

struct acl {
	struct tao_guard base;
	struct entries list;
};

/* ---- the list ---- */

static void entry_free(struct entry *e)
{
	if (e == NULL)
		return;
	tao_node_free(e->form);
	tao_buf_free(&e->bin);
	free(e);
}

static void entries_clear(struct entries *l)
{
	for (size_t i = 0; i < l->n; i++)
		entry_free(l->order[i]);
	free(l->order);
	free(l->sorted);
	memset(l, 0, sizeof *l);
}

static int compare(const struct tao_buf *a, const struct tao_buf *b)
{
	int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);

	return c != 0 ? c : (a->n > b->n) - (a->n < b->n);
}

/* 1 if it is there; *at: where in sorted it is, or would have to be. */
static int find(const struct entries *l, const struct tao_buf *bin, size_t *at)
{
	size_t low = 0, high = l->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (compare(&l->sorted[mid]->bin, bin) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*at = low;
	return low < l->n && compare(&l->sorted[low]->bin, bin) == 0;
}

static enum tao_err make_room(struct entries *l)
{
	size_t cap = l->cap != 0 ? 2 * l->cap : 16;
	struct entry **p;

	if (l->n >= TAO_GUARD_MAX_RULES)
		return tao_fail(TAO_ELIMIT,
		                "an access list has at most %d entries: retract those that "
		                "are no longer needed",
		                TAO_GUARD_MAX_RULES);
	if (l->n < l->cap)
		return TAO_OK;
	p = realloc(l->order, cap * sizeof *p);
	if (p == NULL)
		return tao_fail_nomem();
	l->order = p;
	p = realloc(l->sorted, cap * sizeof *p);
	if (p == NULL)
		return tao_fail_nomem();
	l->sorted = p;
	l->cap = cap;
	return TAO_OK;
}

static int ground(const struct tao_node *n)
{
	if (n->tag == TAO_VAR)
		return 0;
	for (size_t i = 0; i < n->n_kid; i++)
		if (!ground(n->kid[i]))
			return 0;
	return 1;
}

static int is_entry(const struct tao_node *f)
{
	return f->tag == TAO_PRED && strcmp(f->text, "Authorized") == 0 && f->n_kid >= 2 &&
	       f->kid[0]->tag == TAO_PRIN && f->kid[1]->tag == TAO_STR && ground(f);
}

static enum tao_err check_entry(const struct tao_node *f)
{
	struct tao_buf text = TAO_BUF_INIT;
	enum tao_err e = TAO_OK;

	tao_node_print(f, &text);
	if (!is_entry(f))
		e = tao_fail(TAO_EINVAL,
		             "an entry of an access list is Authorized(P, \"operation\", "
		             "...) without variables, not %.400s",
		             tao_buf_cstr(&text));
	else if (text.n > TAO_GUARD_MAX_RULE)
		e = tao_fail(TAO_ELIMIT, "a rule has at most %d bytes, not %zu", TAO_GUARD_MAX_RULE,
		             text.n);
	else
		e = tao_buf_err(&text);
	tao_buf_free(&text);
	return e;
}

static enum tao_err exists(const struct tao_node *f)
{
	char *text = tao_node_text(f);

	tao_fail(TAO_EEXIST, "the access list has this entry already: %.800s",
	         text != NULL ? text : "");
	free(text);
	return TAO_EEXIST;
}

static enum tao_err insert(struct entries *l, const struct tao_node *f)
{
	struct entry *new = NULL;
	enum tao_err e = check_entry(f);
	size_t at;

	if (e == TAO_OK)
		e = make_room(l);
	if (e != TAO_OK)
		return e;
	new = calloc(1, sizeof *new);
	if (new == NULL)
		return tao_fail_nomem();
	new->bin = (struct tao_buf)TAO_BUF_INIT;
	new->form = tao_node_dup(f);
	tao_node_encode(f, &new->bin);
	e = new->form != NULL ? tao_buf_err(&new->bin) : tao_fail_nomem();
	if (e == TAO_OK && find(l, &new->bin, &at))
		e = exists(f);
	if (e != TAO_OK) {
		entry_free(new);
		return e;
	}
	memmove(l->sorted + at + 1, l->sorted + at, (l->n - at) * sizeof *l->sorted);
	l->sorted[at] = new;
	l->order[l->n++] = new;
	return TAO_OK;
}

/* 1 if it was there. */
static int take_out(struct entries *l, const struct tao_buf *bin)
{
	struct entry *old;
	size_t at, i = 0;

	if (!find(l, bin, &at))
		return 0;
	old = l->sorted[at];
	while (l->order[i] != old)
		i++;
	l->n--;
	memmove(l->sorted + at, l->sorted + at + 1, (l->n - at) * sizeof *l->sorted);
	memmove(l->order + i, l->order + i + 1, (l->n - i) * sizeof *l->order);
	entry_free(old);
	return 1;
}

/* ---- the serialized set ---- */

static void free_strings(char **s, size_t n)
{
	for (size_t i = 0; s != NULL && i < n; i++)
		free(s[i]);
	free(s);
}

/* s NULL: as CloudProxy writes it, without version and date. */
static enum tao_err serialize(const struct entries *l, const struct tao_guard_set *s,
                              struct tao_buf *out)
{
	Tao__ACLSet set = TAO__ACLSET__INIT;
	enum tao_err e = TAO_OK;

	set.entries = calloc(l->n + 1, sizeof *set.entries);
	if (set.entries == NULL)
		return tao_fail_nomem();
	for (; e == TAO_OK && set.n_entries < l->n; set.n_entries++) {
		set.entries[set.n_entries] = tao_node_text(l->order[set.n_entries]->form);
		if (set.entries[set.n_entries] == NULL)
			e = tao_fail_nomem();
	}
	set.has_format = set.has_version = set.has_date = s != NULL;
	set.format = FORMAT;
	set.version = s != NULL ? s->version : 0;
	set.date = s != NULL ? s->date : 0;
	if (e == TAO_OK) {
		tao_pb_pack(&set.base, out);
		e = tao_buf_err(out);
	}
	free_strings(set.entries, set.n_entries);
	return e;
}

static enum tao_err check_set(const Tao__ACLSet *set, size_t n)
{
	if (set->has_format && set->format > FORMAT)
		return tao_fail(TAO_EVERSION,
		                "the access list has format %" PRIu32 ", which a newer "
		                "version of the Tao wrote: upgrade this one",
		                set->format);
	/* Unknown and repeated fields, and NULs in entries. */
	if (set->base.n_unknown_fields != 0 ||
	    protobuf_c_message_get_packed_size(&set->base) != n ||
	    set->has_format != set->has_version || set->has_format != set->has_date ||
	    (set->has_format && (set->format != FORMAT || set->version == 0)))
		return tao_fail(TAO_EFORMAT,
		                "malformed access list: it has fields that are unknown, "
		                "missing or there twice");
	return TAO_OK;
}

static enum tao_err parse_entry(const char *text, size_t i, struct entries *l)
{
	struct tao_node *f = NULL;
	size_t n = strlen(text);
	enum tao_err e = n > TAO_GUARD_MAX_RULE ? tao_fail(TAO_ELIMIT, "it is too long")
	                                        : tao_form_parse(text, n, &f);

	if (e == TAO_OK)
		e = insert(l, f);
	tao_node_free(f);
	/* CloudProxy adds what is there already once more. */
	if (e == TAO_OK || e == TAO_EEXIST)
		return TAO_OK;
	return tao_fail(e, "entry %zu of the access list: %.800s", i + 1, tao_why());
}

static enum tao_err parse_entries(const Tao__ACLSet *set, struct entries *l)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < set->n_entries; i++)
		e = parse_entry(set->entries[i], i, l);
	return e;
}

typedef enum tao_err accept_fn(const struct tao_guard_set *s, void *arg);

/* p was signed; what is in it becomes the guard's list, or nothing does. */
static enum tao_err take_set(struct acl *a, const ProtobufCBinaryData *p, accept_fn *accept,
                             void *arg)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	struct entries list = { 0 };
	struct tao_guard_set s = { 0 };
	enum tao_err e = tao_sha256(p->data, p->len, s.hash);

	tao_pb_alloc_init(&pa, UNPACK_MEMORY);
	if (e == TAO_OK)
		e = tao_pb_unpack(&pa, &tao__aclset__descriptor, p->data, p->len, "access list",
		                  &pb);
	if (e == TAO_OK)
		e = check_set((const Tao__ACLSet *)pb, p->len);
	if (e == TAO_OK) {
		s.version = ((const Tao__ACLSet *)pb)->version;
		s.date = ((const Tao__ACLSet *)pb)->date;
		e = accept(&s, arg);
	}
	if (e == TAO_OK)
		e = parse_entries((const Tao__ACLSet *)pb, &list);
	if (e == TAO_OK) {
		entries_clear(&a->list);
		a->list = list;
		memset(&list, 0, sizeof list);
	}
	entries_clear(&list);
	tao_pb_free(&pa, pb);
	return e;
}

static enum tao_err acl_unpack(struct tao_guard *g, const void *p, size_t n, accept_fn *accept,
                               void *arg)
{
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb = NULL;
	const Tao__SignedACLSet *set;
	enum tao_err e;

	tao_pb_alloc_init(&pa, UNPACK_MEMORY);
	e = tao_pb_unpack_strict(&pa, &tao__signed_aclset__descriptor, p, n, "signed access list",
	                         &pb);
	if (e != TAO_OK)
		return e;
	set = (const Tao__SignedACLSet *)pb;
	e = tao_key_verify(g->key, CONTEXT, set->serialized_aclset.data, set->serialized_aclset.len,
	                   set->signature.data, set->signature.len);
	if (e == TAO_OK)
		e = take_set((struct acl *)g, &set->serialized_aclset, accept, arg);
	tao_pb_free(&pa, pb);
	return e;
}

static enum tao_err acl_pack(struct tao_guard *g, EVP_PKEY *private_key, struct tao_guard_set *s,
                             struct tao_buf *out)
{
	Tao__SignedACLSet set = TAO__SIGNED_ACLSET__INIT;
	struct tao_buf body = TAO_BUF_INIT, sig = TAO_BUF_INIT;
	enum tao_err e = serialize(&((struct acl *)g)->list, s, &body);

	if (e == TAO_OK)
		e = tao_sha256(body.p, body.n, s->hash);
	if (e == TAO_OK)
		e = tao_key_sign(private_key, CONTEXT, body.p, body.n, &sig);
	if (e == TAO_OK) {
		set.serialized_aclset = (ProtobufCBinaryData){ body.n, body.p };
		set.signature = (ProtobufCBinaryData){ sig.n, sig.p };
		out->max = TAO_GUARD_MAX_FILE;
		tao_pb_pack(&set.base, out);
		e = tao_buf_err(out);
	}
	tao_buf_free(&body);
	tao_buf_free(&sig);
	return e;
}

/* ---- the guard ---- */

static enum tao_err acl_subprincipal(struct tao_guard *g, struct tao_node **out)
{
	struct tao_buf body = TAO_BUF_INIT;
	struct tao_node *what = NULL;
	uint8_t hash[TAO_HASH_LEN];
	enum tao_err e = TAO_OK;

	if (g->policy != NULL) {
		what = tao_node_dup(g->policy);
	} else {
		e = serialize(&((struct acl *)g)->list, NULL, &body);
		if (e == TAO_OK)
			e = tao_sha256(body.p, body.n, hash);
		if (e == TAO_OK)
			what = tao_term_bytes(hash, sizeof hash);
	}
	if (e == TAO_OK) {
		*out = tao_ext("ACLGuard", 1, what);
		e = *out != NULL ? TAO_OK : tao_fail_nomem();
	}
	tao_buf_free(&body);
	return e;
}

static int endorsed(const struct tao_guard *g, const struct tao_node *query,
                    const struct tao_endorsements *said)
{
	for (size_t i = 0; i < said->n; i++)
		if (tao_guard_endorses(g, &said->v[i]) && tao_node_equal(said->v[i].message, query))
			return 1;
	return 0;
}

/* How many entries there are for the principal that is asked about. */
static size_t of_the_same(const struct entries *l, const struct tao_node *query)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += tao_node_equal(l->order[i]->form->kid[0], query->kid[0]);
	return n;
}

static void explain_no(const struct acl *a, const struct tao_node *query, const char *text,
                       struct tao_decision *d)
{
	const struct entries *l = &a->list;

	if (!is_entry(query))
		snprintf(d->why, sizeof d->why,
		         "an access list answers only for Authorized(P, "
		         "\"operation\", ...) without variables, not for %.600s",
		         text);
	else
		snprintf(d->why, sizeof d->why,
		         "none of the %zu entries of the access list, %zu of "
		         "which are this principal's, is %.600s: add it if that is to be allowed",
		         l->n, of_the_same(l, query), text);
}

static enum tao_err acl_ask(struct tao_guard *g, const struct tao_node *query,
                            const struct tao_endorsements *said, struct tao_decision *d)
{
	struct acl *a = (struct acl *)g;
	struct tao_buf bin = TAO_BUF_INIT;
	char *text = tao_node_text(query);
	enum tao_err e = TAO_OK;
	size_t at;

	tao_node_encode(query, &bin);
	if (text == NULL || bin.err != TAO_OK) {
		e = text == NULL ? tao_fail_nomem() : tao_buf_err(&bin);
	} else if (find(&a->list, &bin, &at)) {
		d->yes = 1;
		snprintf(d->why, sizeof d->why, "the access list has the entry %.800s", text);
	} else if (is_entry(query) && endorsed(g, query, said)) {
		d->yes = 1;
		snprintf(d->why, sizeof d->why, "the policy key endorses %.800s", text);
	} else {
		explain_no(a, query, text, d);
	}
	tao_buf_free(&bin);
	free(text);
	return e;
}

static enum tao_err acl_add(struct tao_guard *g, const struct tao_node *rule)
{
	return insert(&((struct acl *)g)->list, rule);
}

static enum tao_err acl_retract(struct tao_guard *g, const struct tao_node *rule)
{
	struct tao_buf bin = TAO_BUF_INIT;
	enum tao_err e;
	char *text;

	tao_node_encode(rule, &bin);
	e = tao_buf_err(&bin);
	if (e == TAO_OK && !take_out(&((struct acl *)g)->list, &bin)) {
		text = tao_node_text(rule);
		e = tao_fail(TAO_ENOTFOUND, "the access list has no such entry: %.800s",
		             text != NULL ? text : "");
		free(text);
	}
	tao_buf_free(&bin);
	return e;
}

static enum tao_err acl_clear(struct tao_guard *g)
{
	entries_clear(&((struct acl *)g)->list);
	return TAO_OK;
}

static size_t acl_count(const struct tao_guard *g)
{
	return ((const struct acl *)g)->list.n;
}

static const struct tao_node *acl_rule(const struct tao_guard *g, size_t i)
{
	return ((const struct acl *)g)->list.order[i]->form;
}

static void acl_clean(struct tao_guard *g)
{
	entries_clear(&((struct acl *)g)->list);
}

static const struct tao_guard_ops acl_ops = {
	.kind = "an ACL guard",
	.subprincipal = acl_subprincipal,
	.ask = acl_ask,
	.add = acl_add,
	.retract = acl_retract,
	.clear = acl_clear,
	.count = acl_count,
	.rule = acl_rule,
	.pack = acl_pack,
	.unpack = acl_unpack,
	.clean = acl_clean,
};

enum tao_err tao_guard_acl(EVP_PKEY *policy_key, struct tao_guard **out)
{
	return tao_guard_new(&acl_ops, sizeof(struct acl), policy_key, out);
}
