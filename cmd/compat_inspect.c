/* tao compat inspect: which of CloudProxy's files it is, and what is in it but for secrets. */
#include "compat.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "../tao/attest.h"
#include "../tao/guard.h"
#include "../tao/key.h"
#include "../tao/pb.h"
#include "tao.pb-c.h"

#define UNPACK_MEMORY (8 * COMPAT_MAX_FILE) /* short fields take several times their size */
#define DER_SEQUENCE  0x30
#define FORM_TAG_MAX  0x1f /* no text begins with such a byte, every binary form does */

/* One message, unpacked strictly; quiet about failure. */
struct msg {
	struct tao_pb_alloc pa;
	ProtobufCMessage *pb; /* NULL: it is none */
};

static void open_msg(struct msg *m, const ProtobufCMessageDescriptor *d, const void *p, size_t n)
{
	tao_pb_alloc_init(&m->pa, UNPACK_MEMORY);
	tao_pb_unpack_strict(&m->pa, d, p, n, "message", &m->pb);
}

static void close_msg(struct msg *m)
{
	tao_pb_free(&m->pa, m->pb);
	m->pb = NULL;
}

/* ---- DER ---- */

static void say_time(struct compat_report *r, const char *name, const ASN1_TIME *t)
{
	char text[CMD_TIME_MAX];
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) == 1)
		compat_say(r, name, "%s", cmd_time(timegm(&tm), text));
}

static void say_subject(struct compat_report *r, const X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long n;

	if (bio == NULL ||
	    X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) < 0)
		r->err = TAO_ENOMEM;
	else if ((n = BIO_get_mem_data(bio, &text)) > 0)
		compat_say(r, "subject", "%.*s", (int)n, text);
	BIO_free(bio);
}

enum tao_err compat_certificate(const void *der, size_t n, struct compat_report *r, EVP_PKEY **key)
{
	const unsigned char *p = der;
	struct tao_buf spki = TAO_BUF_INIT;
	X509 *cert;
	enum tao_err e = TAO_OK;

	ERR_set_mark();
	cert = d2i_X509(NULL, &p, (long)n);
	if (cert == NULL || p != (const unsigned char *)der + n || X509_get0_pubkey(cert) == NULL)
		e = tao_fail(TAO_EFORMAT, "malformed certificate: it is damaged, truncated or "
		                          "something else");
	if (e == TAO_OK)
		e = tao_key_spki(X509_get0_pubkey(cert), &spki);
	if (e == TAO_OK) {
		compat_say_key(r, "principal", "key", spki.p, spki.n);
		say_subject(r, cert);
		say_time(r, "from", X509_get0_notBefore(cert));
		say_time(r, "until", X509_get0_notAfter(cert));
		if (key != NULL)
			e = tao_key_from_spki(spki.p, spki.n, key);
	}
	ERR_pop_to_mark();
	X509_free(cert);
	tao_buf_free(&spki);
	return e;
}

static enum tao_err show_der(const struct tao_rd *f, struct compat_report *r)
{
	EVP_PKEY *key = NULL;

	ERR_set_mark();
	if (tao_key_from_spki(f->p, f->n, &key) == TAO_OK) {
		compat_say(r, "kind", "public key (SubjectPublicKeyInfo)");
		compat_say_key(r, "principal", "key", f->p, f->n);
		EVP_PKEY_free(key);
		ERR_pop_to_mark();
		return TAO_OK;
	}
	ERR_pop_to_mark();
	compat_say(r, "kind", "certificate (X.509)");
	return compat_certificate(f->p, f->n, r, NULL);
}

/* ---- keys, and what is made with them ---- */

static void say_header(struct compat_report *r, const Tao__CryptoHeader *h)
{
	compat_say(r, "version", "%d", (int)h->version);
	if (h->key_name != NULL)
		compat_say(r, "key name", "%s", h->key_name);
	if (h->has_key_epoch)
		compat_say(r, "epoch", "%" PRId32, h->key_epoch);
	if (h->key_type != NULL)
		compat_say(r, "type", "%s", h->key_type);
	if (h->key_purpose != NULL)
		compat_say(r, "purpose", "%s", h->key_purpose);
	if (h->key_status != NULL)
		compat_say(r, "status", "%s", h->key_status);
}

/* The CryptoKey's own header, after the key was found to be a good one. */
static enum tao_err say_cryptokey(struct compat_report *r, const void *p, size_t n)
{
	struct tao_buf spki = TAO_BUF_INIT;
	struct tao_anykey k;
	struct msg m;
	enum tao_err e = tao_anykey_decode(p, n, &k);

	if (e != TAO_OK)
		return e;
	open_msg(&m, &tao__crypto_key__descriptor, p, n);
	if (m.pb != NULL)
		say_header(r, ((const Tao__CryptoKey *)m.pb)->key_header);
	close_msg(&m);
	if (k.pkey != NULL && (e = tao_key_spki(k.pkey, &spki)) == TAO_OK)
		compat_say_key(r, "principal", "key", spki.p, spki.n);
	tao_buf_free(&spki);
	tao_anykey_clear(&k);
	return e;
}

static enum tao_err show_cryptokey(const struct tao_rd *f, struct compat_report *r)
{
	compat_say(r, "kind", "CryptoKey");
	return say_cryptokey(r, f->p, f->n);
}

static int is_cryptokey(const struct tao_rd *f)
{
	struct msg m;
	int yes;

	open_msg(&m, &tao__crypto_key__descriptor, f->p, f->n);
	yes = m.pb != NULL;
	close_msg(&m);
	return yes;
}

/* A SignedData has the form of a CryptoKey with one part; but its type is a verifying key's,
 * its purpose the signer's. */
static int is_signed_data(const struct tao_rd *f)
{
	static const char suffix[] = "-public";
	const Tao__SignedData *s;
	struct msg m;
	size_t n;
	int yes = 0;

	open_msg(&m, &tao__signed_data__descriptor, f->p, f->n);
	s = (const Tao__SignedData *)m.pb;
	if (s != NULL && s->header != NULL && s->has_signature && s->header->key_type != NULL &&
	    s->header->key_purpose != NULL) {
		n = strlen(s->header->key_type);
		yes = n >= sizeof suffix - 1 &&
		      strcmp(s->header->key_type + n - (sizeof suffix - 1), suffix) == 0 &&
		      strcmp(s->header->key_purpose, "signing") == 0;
	}
	close_msg(&m);
	return yes;
}

static enum tao_err show_signed_data(const struct tao_rd *f, struct compat_report *r)
{
	const Tao__SignedData *s;
	struct msg m;

	open_msg(&m, &tao__signed_data__descriptor, f->p, f->n);
	s = (const Tao__SignedData *)m.pb;
	compat_say(r, "kind", "SignedData");
	say_header(r, s->header);
	compat_say(r, "signature", "%zu bytes", s->signature.len);
	close_msg(&m);
	return TAO_OK;
}

static int is_encrypted_data(const struct tao_rd *f)
{
	const Tao__EncryptedData *d;
	struct msg m;
	int yes;

	open_msg(&m, &tao__encrypted_data__descriptor, f->p, f->n);
	d = (const Tao__EncryptedData *)m.pb;
	yes = d != NULL && d->header != NULL && d->has_iv && d->has_mac;
	close_msg(&m);
	return yes;
}

static enum tao_err show_encrypted_data(const struct tao_rd *f, struct compat_report *r)
{
	const Tao__EncryptedData *d;
	struct msg m;

	open_msg(&m, &tao__encrypted_data__descriptor, f->p, f->n);
	d = (const Tao__EncryptedData *)m.pb;
	compat_say(r, "kind", "EncryptedData");
	say_header(r, d->header);
	compat_say(r, "iv", "%zu bytes", d->iv.len);
	compat_say(r, "ciphertext", "%zu bytes", d->has_ciphertext ? d->ciphertext.len : 0);
	compat_say(r, "mac", "%zu bytes", d->mac.len);
	close_msg(&m);
	return TAO_OK;
}

static int is_pbe(const struct tao_rd *f)
{
	struct msg m;
	int yes;

	open_msg(&m, &tao__pbedata__descriptor, f->p, f->n);
	yes = m.pb != NULL;
	close_msg(&m);
	return yes;
}

static enum tao_err show_pbe(const struct tao_rd *f, struct compat_report *r)
{
	const Tao__PBEData *d;
	struct msg m;

	open_msg(&m, &tao__pbedata__descriptor, f->p, f->n);
	d = (const Tao__PBEData *)m.pb;
	compat_say(r, "kind", "PBEData");
	compat_say(r, "version", "%d", (int)d->version);
	compat_say(r, "cipher", "%s", d->cipher);
	compat_say(r, "hmac", "%s", d->hmac);
	compat_say(r, "kdf", "%s", d->kdf != NULL ? d->kdf : "PBKDF2");
	if (d->kdf == NULL)
		compat_say(r, "iterations", "%" PRId32, d->iterations);
	else
		compat_say(r, "cost", "N=2^%" PRIu32 " r=%" PRIu32 " p=%" PRIu32, d->scrypt_log_n,
		           d->scrypt_r, d->scrypt_p);
	compat_say(r, "salt", "%zu bytes", d->salt.len);
	compat_say(r, "ciphertext", "%zu bytes", d->ciphertext.len);
	close_msg(&m);
	return TAO_OK;
}

/* ---- attestations ---- */

/* What signer_type may be; other words are not repeated as part of a principal. */
static const char *signer_word(const char *type)
{
	static const char *const words[] = { "key", "tpm", "tpm2", NULL };

	for (size_t i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], type) == 0)
			return words[i];
	return NULL;
}

static enum tao_err say_form(struct compat_report *r, const char *name,
                             const ProtobufCBinaryData *bin)
{
	struct tao_node *form = NULL;
	enum tao_err e = tao_form_decode(bin->data, bin->len, &form);

	if (e == TAO_OK)
		compat_say_node(r, name, form);
	tao_node_free(form);
	return e;
}

static enum tao_err say_attestation(struct compat_report *r, const Tao__Attestation *a)
{
	const char *word = signer_word(a->signer_type);
	enum tao_err e = say_form(r, "statement", &a->serialized_statement);

	compat_say(r, "signer type", "%s", a->signer_type);
	if (word != NULL)
		compat_say_key(r, "signer", word, a->signer_key.data, a->signer_key.len);
	compat_say(r, "signature", "%zu bytes, not verified here", a->signature.len);
	for (size_t i = 0; e == TAO_OK && i < a->n_serialized_endorsements; i++) {
		struct msg m;

		open_msg(&m, &tao__attestation__descriptor, a->serialized_endorsements[i].data,
		         a->serialized_endorsements[i].len);
		if (m.pb == NULL)
			e = tao_fail(TAO_EFORMAT, "endorsement %zu: %s", i + 1, tao_why());
		else
			e = say_form(r, "endorsement",
			             &((const Tao__Attestation *)m.pb)->serialized_statement);
		close_msg(&m);
	}
	if (a->has_tpm2_quote_structure)
		compat_say(r, "TPM quote", "%zu bytes", a->tpm2_quote_structure.len);
	if (a->has_root_endorsement)
		compat_say(r, "root cert", "%zu bytes", a->root_endorsement.len);
	return e;
}

/* From the statement down to the root. Each link is inside the one before. */
static enum tao_err say_chain(struct compat_report *r, const void *p, size_t n)
{
	struct msg m[TAO_ATTEST_MAX_CHAIN + 1];
	enum tao_err e = TAO_OK;
	size_t i = 0;

	while (e == TAO_OK && i <= TAO_ATTEST_MAX_CHAIN) {
		const Tao__Attestation *a;

		open_msg(&m[i], &tao__attestation__descriptor, p, n);
		a = (const Tao__Attestation *)m[i].pb;
		if (a == NULL) {
			e = tao_fail(TAO_EFORMAT, "delegation %zu: %s", i, tao_why());
			break;
		}
		e = say_attestation(r, a);
		i++;
		if (e != TAO_OK || !a->has_serialized_delegation)
			break;
		if (i > TAO_ATTEST_MAX_CHAIN)
			e = tao_fail(TAO_ELIMIT, "an attestation has more than %d delegations",
			             TAO_ATTEST_MAX_CHAIN);
		compat_say(r, "delegation", "%zu", i);
		p = a->serialized_delegation.data;
		n = a->serialized_delegation.len;
	}
	while (i > 0)
		close_msg(&m[--i]);
	return e;
}

static int is_attestation(const struct tao_rd *f)
{
	struct msg m;
	int yes;

	open_msg(&m, &tao__attestation__descriptor, f->p, f->n);
	yes = m.pb != NULL;
	close_msg(&m);
	return yes;
}

static enum tao_err show_attestation(const struct tao_rd *f, struct compat_report *r)
{
	compat_say(r, "kind", "Attestation");
	return say_chain(r, f->p, f->n);
}

/* ---- keysets ---- */

static int is_keyset(const struct tao_rd *f)
{
	const Tao__CryptoKeyset *s;
	struct msg m;
	int yes = 0;

	open_msg(&m, &tao__crypto_keyset__descriptor, f->p, f->n);
	s = (const Tao__CryptoKeyset *)m.pb;
	if (s != NULL && s->n_keys > 0) {
		struct tao_rd first = tao_rd_of(s->keys[0].data, s->keys[0].len);

		yes = is_cryptokey(&first);
	}
	close_msg(&m);
	return yes;
}

static enum tao_err say_keyset(struct compat_report *r, const Tao__CryptoKeyset *s)
{
	enum tao_err e = TAO_OK;

	for (size_t i = 0; e == TAO_OK && i < s->n_keys; i++) {
		compat_say(r, "key", "%zu", i + 1);
		e = say_cryptokey(r, s->keys[i].data, s->keys[i].len);
	}
	if (e == TAO_OK && s->has_cert) {
		compat_say(r, "certificate", "%zu bytes", s->cert.len);
		e = compat_certificate(s->cert.data, s->cert.len, r, NULL);
	}
	if (e == TAO_OK && s->has_delegation) {
		compat_say(r, "delegation", "%zu bytes", s->delegation.len);
		e = say_chain(r, s->delegation.data, s->delegation.len);
	}
	if (s->n_cert_chain > 0)
		compat_say(r, "chain", "%zu certificates", s->n_cert_chain);
	return e;
}

static enum tao_err show_keyset(const struct tao_rd *f, struct compat_report *r)
{
	struct tao_keyset ks;
	struct msg m;
	enum tao_err e = tao_keyset_decode_any(f->p, f->n, &ks);

	if (e != TAO_OK)
		return e;
	tao_keyset_clear(&ks);
	compat_say(r, "kind", "CryptoKeyset");
	open_msg(&m, &tao__crypto_keyset__descriptor, f->p, f->n);
	if (m.pb != NULL)
		e = say_keyset(r, (const Tao__CryptoKeyset *)m.pb);
	close_msg(&m);
	return e;
}

/* ---- access lists and rules ---- */

static void say_version(struct compat_report *r, int has, uint64_t version)
{
	if (has)
		compat_say(r, "set version", "%" PRIu64, version);
}

static enum tao_err say_acl(struct compat_report *r, const void *p, size_t n)
{
	const Tao__ACLSet *s;
	struct msg m;
	enum tao_err e = TAO_OK;

	open_msg(&m, &tao__aclset__descriptor, p, n);
	s = (const Tao__ACLSet *)m.pb;
	if (s == NULL)
		return tao_fail(TAO_EFORMAT, "%s", tao_why());
	say_version(r, s->has_version, s->version);
	for (size_t i = 0; e == TAO_OK && i < s->n_entries; i++) {
		struct tao_node *form = NULL;

		e = tao_form_parse(s->entries[i], strlen(s->entries[i]), &form);
		if (e == TAO_OK)
			compat_say_node(r, "entry", form);
		else
			e = tao_fail(e, "entry %zu of an access list: %s", i + 1, tao_why());
		tao_node_free(form);
	}
	close_msg(&m);
	return e;
}

/* Rules never have a speaker; a statement is what is left of a truncated attestation. */
static enum tao_err say_rule(struct compat_report *r, const ProtobufCBinaryData *bin)
{
	struct tao_node *form = NULL;
	enum tao_err e = tao_form_decode(bin->data, bin->len, &form);

	if (e == TAO_OK && form->tag == TAO_SAYS)
		e = tao_fail(TAO_EFORMAT,
		             "a statement is no rule: the file is truncated or something "
		             "else");
	if (e == TAO_OK)
		compat_say_node(r, "rule", form);
	tao_node_free(form);
	return e;
}

static enum tao_err say_rules(struct compat_report *r, const void *p, size_t n)
{
	const Tao__DatalogRules *s;
	struct msg m;
	enum tao_err e = TAO_OK;

	open_msg(&m, &tao__datalog_rules__descriptor, p, n);
	s = (const Tao__DatalogRules *)m.pb;
	if (s == NULL)
		return tao_fail(TAO_EFORMAT, "%s", tao_why());
	say_version(r, s->has_version, s->version);
	for (size_t i = 0; e == TAO_OK && i < s->n_rules; i++) {
		e = say_rule(r, &s->rules[i]);
		if (e != TAO_OK)
			e = tao_fail(e, "rule %zu: %s", i + 1, tao_why());
	}
	close_msg(&m);
	return e;
}

/* Both kinds of sets begin with field 1, strings or bytes: text or binary forms. */
enum set { NO_SET, EMPTY_SET, ACL_SET, RULES_SET };

static enum set set_of(const void *p, size_t n)
{
	const Tao__DatalogRules *s;
	struct msg m;
	enum set set = NO_SET;

	open_msg(&m, &tao__datalog_rules__descriptor, p, n);
	s = (const Tao__DatalogRules *)m.pb;
	if (s != NULL && s->n_rules == 0)
		set = EMPTY_SET;
	else if (s != NULL && s->rules[0].len > 0)
		set = s->rules[0].data[0] > FORM_TAG_MAX ? ACL_SET : RULES_SET;
	close_msg(&m);
	return set;
}

static enum tao_err say_set(struct compat_report *r, const char *what, const void *p, size_t n)
{
	switch (set_of(p, n)) {
	case ACL_SET:
		compat_say(r, "kind", "%saccess list (ACLSet)", what);
		return say_acl(r, p, n);
	case RULES_SET:
		compat_say(r, "kind", "%srules (DatalogRules)", what);
		return say_rules(r, p, n);
	case EMPTY_SET:
		compat_say(r, "kind", "%saccess list or rules, empty", what);
		return TAO_OK;
	default:
		return tao_fail(TAO_EFORMAT, "malformed access list or rules: they are damaged, "
		                             "truncated or something else");
	}
}

static int is_set(const struct tao_rd *f)
{
	return set_of(f->p, f->n) > EMPTY_SET;
}

static enum tao_err show_set(const struct tao_rd *f, struct compat_report *r)
{
	return say_set(r, "unsigned ", f->p, f->n);
}

/* SignedACLSet and SignedDatalogRules are the same on the outside. */
static int is_signed_set(const struct tao_rd *f)
{
	const Tao__SignedACLSet *s;
	struct msg m;
	int yes = 0;

	open_msg(&m, &tao__signed_aclset__descriptor, f->p, f->n);
	s = (const Tao__SignedACLSet *)m.pb;
	if (s != NULL) {
		struct tao_rd sig = tao_rd_of(s->signature.data, s->signature.len);

		yes = is_signed_data(&sig);
	}
	close_msg(&m);
	return yes;
}

static enum tao_err show_signed_set(const struct tao_rd *f, struct compat_report *r)
{
	const Tao__SignedACLSet *s;
	struct msg m;
	enum tao_err e;

	open_msg(&m, &tao__signed_aclset__descriptor, f->p, f->n);
	s = (const Tao__SignedACLSet *)m.pb;
	e = say_set(r, "signed ", s->serialized_aclset.data, s->serialized_aclset.len);
	compat_say(r, "signature", "%zu bytes, not verified here", s->signature.len);
	close_msg(&m);
	return e;
}

/* ---- which one ---- */

static int is_der(const struct tao_rd *f)
{
	return f->p[0] == DER_SEQUENCE;
}

/* In this order: what has a form that others have as well comes after them. */
static const struct kind {
	int (*is)(const struct tao_rd *f);
	enum tao_err (*show)(const struct tao_rd *f, struct compat_report *r);
} kinds[] = {
	{ is_der, show_der },
	{ is_encrypted_data, show_encrypted_data },
	{ is_signed_data, show_signed_data },
	{ is_cryptokey, show_cryptokey },
	{ is_pbe, show_pbe },
	{ is_attestation, show_attestation },
	{ is_signed_set, show_signed_set },
	{ is_keyset, show_keyset },
	{ is_set, show_set },
};

enum tao_err compat_inspect(const struct tao_rd *f, struct compat_report *r)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].is(f))
			return kinds[i].show(f, r);
	return tao_fail(TAO_EFORMAT,
	                "this is none of CloudProxy's files that are known here, or it "
	                "is damaged or truncated");
}
