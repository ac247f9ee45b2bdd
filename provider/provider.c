#include "provider.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "byname.h"
#include "newer.h"
#include "config.h"
#include "group.h"
#include "tao/pb.h"

#define SOCKET_ENV "TAO_SOCKET"
#define SOCKET_DEFAULT TAO_LOCALSTATEDIR "/lib/tao/run/tao.sock"

static OSSL_FUNC_provider_teardown_fn prov_teardown;
static OSSL_FUNC_provider_gettable_params_fn prov_gettable_params;
static OSSL_FUNC_provider_get_params_fn prov_get_params;
static OSSL_FUNC_provider_query_operation_fn prov_query;
static OSSL_FUNC_provider_get_reason_strings_fn prov_get_reasons;

/* ---- what there is ---- */

#define EC_NAMES "EC:id-ecPublicKey:1.2.840.10045.2.1"

#define RSA_NAMES "RSA:rsaEncryption:1.2.840.113549.1.1.1"
#define RSA_PSS_NAMES "RSA-PSS:RSASSA-PSS:1.2.840.113549.1.1.10"
#define ED25519_NAMES "ED25519:1.3.101.112"
#define X25519_NAMES "X25519:1.3.101.110"
#define MLDSA44_NAMES "ML-DSA-44:MLDSA44:2.16.840.1.101.3.4.3.17:id-ml-dsa-44"
#define MLDSA65_NAMES "ML-DSA-65:MLDSA65:2.16.840.1.101.3.4.3.18:id-ml-dsa-65"
#define MLDSA87_NAMES "ML-DSA-87:MLDSA87:2.16.840.1.101.3.4.3.19:id-ml-dsa-87"

/* Tables begin with as many entries for libcrypto from NEWER_MAJOR.NEWER_MINOR on: older ones get
 * the rest. */
#define NEWER_MAJOR 3
#define NEWER_MINOR 5
#define NEWER_KEYMGMTS 4
#define NEWER_KEMS 1
#define NEWER_DECODERS 3
#define NEWER_ENCODERS (3 * 6)

static const OSSL_ALGORITHM keymgmts[] = {
	{ MLDSA44_NAMES, PROV_PROPERTIES, prov_mldsa44_keymgmt, "Tao ML-DSA-44 keys" },
	{ MLDSA65_NAMES, PROV_PROPERTIES, prov_mldsa65_keymgmt, "Tao ML-DSA-65 keys" },
	{ MLDSA87_NAMES, PROV_PROPERTIES, prov_mldsa87_keymgmt, "Tao ML-DSA-87 keys" },
	{ "tao_x25519mlkem768", PROV_PROPERTIES, prov_tao_mlkem_keymgmt, "shares of the Tao group" },
	{ "tao_x25519", PROV_PROPERTIES, prov_tao_x25519_keymgmt, "shares of the Tao group" },
	{ EC_NAMES, PROV_PROPERTIES, prov_ec_keymgmt, "Tao EC keys" },
	{ RSA_NAMES, PROV_PROPERTIES, prov_rsa_keymgmt, "Tao RSA keys" },
	{ RSA_PSS_NAMES, PROV_PROPERTIES, prov_rsa_pss_keymgmt, "Tao RSA-PSS keys" },
	{ ED25519_NAMES, PROV_PROPERTIES, prov_ed25519_keymgmt, "Tao Ed25519 keys" },
	{ X25519_NAMES, PROV_PROPERTIES, prov_x25519_keymgmt, "Tao X25519 keys" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM kems[] = {
	{ "tao_x25519mlkem768", PROV_PROPERTIES, prov_kem, "Tao channels, with ML-KEM-768" },
	{ "tao_x25519", PROV_PROPERTIES, prov_kem, "Tao channels" },
	{ NULL, NULL, NULL, NULL }
};

#define SIGNATURES \
	{ "ECDSA", PROV_PROPERTIES, prov_ecdsa, "ECDSA by the Tao host" }, \
	{ "RSA:rsaEncryption", PROV_PROPERTIES, prov_rsa_sig, "RSA signatures by the Tao host" }

static const OSSL_ALGORITHM signatures[] = {
	SIGNATURES,
	{ "ED25519", PROV_PROPERTIES, prov_ed25519_sig, "Ed25519 by the Tao host" },
	{ NULL, NULL, NULL, NULL }
};

/* The names are those of the default provider. */
#define ECDSA_SHA(n, oid) \
	{ "ECDSA-SHA2-" #n ":ECDSA-SHA" #n ":ecdsa-with-SHA" #n ":1.2.840.10045.4.3." oid, \
	  PROV_PROPERTIES, prov_ecdsa_sha##n##_sig, "ECDSA by the Tao host" }
#define RSA_SHA(n, oid) \
	{ "RSA-SHA2-" #n ":RSA-SHA" #n ":sha" #n "WithRSAEncryption:1.2.840.113549.1.1." oid, \
	  PROV_PROPERTIES, prov_rsa_sha##n##_sig, "RSA signatures by the Tao host" }

static const OSSL_ALGORITHM newer_signatures[] = {
	SIGNATURES,
	{ "ED25519", PROV_PROPERTIES, prov_ed25519_message_sig, "Ed25519 by the Tao host" },
	{ MLDSA44_NAMES, PROV_PROPERTIES, prov_mldsa44_sig, "ML-DSA-44 by the Tao host" },
	{ MLDSA65_NAMES, PROV_PROPERTIES, prov_mldsa65_sig, "ML-DSA-65 by the Tao host" },
	{ MLDSA87_NAMES, PROV_PROPERTIES, prov_mldsa87_sig, "ML-DSA-87 by the Tao host" },
	ECDSA_SHA(256, "2"),
	ECDSA_SHA(384, "3"),
	ECDSA_SHA(512, "4"),
	RSA_SHA(256, "11"),
	RSA_SHA(384, "12"),
	RSA_SHA(512, "13"),
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM ciphers[] = {
	{ "RSA:rsaEncryption", PROV_PROPERTIES, prov_rsa_cipher, "RSA decryption by the Tao host" },
	{ NULL, NULL, NULL, NULL }
};

/* For newer ones alone. */
static const OSSL_ALGORITHM skeymgmts[] = {
	{ "TAO-SECRET", PROV_PROPERTIES, prov_secret_skeymgmt, "keys that the Tao host derives" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM symmetric_ciphers[] = {
	{ "TAO-AES-256-GCM", PROV_PROPERTIES, prov_aes_cipher, "AES-256-GCM with keys of TAO-SECRET" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM exchanges[] = {
	{ "ECDH", PROV_PROPERTIES, prov_exchange, "ECDH by the Tao host" },
	{ "X25519", PROV_PROPERTIES, prov_exchange, "X25519 by the Tao host" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM rands[] = {
	{ "TAO-RAND", PROV_PROPERTIES, prov_rand, "seeds from the Tao host" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM kdfs[] = {
	{ "TAO-SECRET", PROV_PROPERTIES, prov_kdf, "secrets that the Tao host derives" },
	{ NULL, NULL, NULL, NULL }
};

static const OSSL_ALGORITHM stores[] = {
	{ "tao", PROV_PROPERTIES, prov_store, "keys and certificates of the Tao host" },
	{ NULL, NULL, NULL, NULL }
};

#define DECODER(names, table) \
	{ names, PROV_PROPERTIES ",input=der,structure=" PROV_STRUCTURE, table, "Tao stubs to keys" }

static const OSSL_ALGORITHM decoders[] = {
	DECODER(MLDSA44_NAMES, prov_mldsa44_der_decoder),
	DECODER(MLDSA65_NAMES, prov_mldsa65_der_decoder),
	DECODER(MLDSA87_NAMES, prov_mldsa87_der_decoder),
	{ "DER", PROV_PROPERTIES ",input=pem", prov_pem_decoder, "TAO PRIVATE KEY to DER" },
	DECODER(EC_NAMES, prov_ec_der_decoder),
	DECODER(RSA_NAMES, prov_rsa_der_decoder),
	DECODER(RSA_PSS_NAMES, prov_rsa_pss_der_decoder),
	DECODER(ED25519_NAMES, prov_ed25519_der_decoder),
	DECODER(X25519_NAMES, prov_x25519_der_decoder),
	{ NULL, NULL, NULL, NULL }
};

/* PEM_write_PrivateKey() asks for PrivateKeyInfo: it gets the stub, which is
 * what the user wants in the file. In DER nothing would tell the two apart. */
#define ENCODERS(names) \
	{ names, PROV_PROPERTIES ",output=pem,structure=" PROV_STRUCTURE, \
	  prov_stub_pem_encoder, "Tao stubs" }, \
	{ names, PROV_PROPERTIES ",output=der,structure=" PROV_STRUCTURE, \
	  prov_stub_der_encoder, "Tao stubs" }, \
	{ names, PROV_PROPERTIES ",output=pem,structure=PrivateKeyInfo", \
	  prov_stub_pem_encoder, "Tao stubs" }, \
	{ names, PROV_PROPERTIES ",output=pem,structure=SubjectPublicKeyInfo", \
	  prov_spki_pem_encoder, "public halves of Tao keys" }, \
	{ names, PROV_PROPERTIES ",output=der,structure=SubjectPublicKeyInfo", \
	  prov_spki_der_encoder, "public halves of Tao keys" }, \
	{ names, PROV_PROPERTIES ",output=text", prov_text_encoder, "Tao keys for people" }

static const OSSL_ALGORITHM encoders[] = {
	ENCODERS(MLDSA44_NAMES),
	ENCODERS(MLDSA65_NAMES),
	ENCODERS(MLDSA87_NAMES),
	ENCODERS(EC_NAMES),
	ENCODERS(RSA_NAMES),
	ENCODERS(RSA_PSS_NAMES),
	ENCODERS(ED25519_NAMES),
	ENCODERS(X25519_NAMES),
	{ NULL, NULL, NULL, NULL }
};

/* ---- errors ---- */

static const char *const own_reasons[] = {
	[PROV_REXPORT - PROV_REXPORT] =
		"the private half of a Tao key never leaves the Tao host: "
		"copy the TAO PRIVATE KEY file instead, or ask for the public key",
	[PROV_RNOPRIVATE - PROV_REXPORT] =
		"only the public half of the key is here: sign with tao:NAME or a "
		"TAO PRIVATE KEY file",
	[PROV_RIMPORT - PROV_REXPORT] =
		"a private key cannot become a Tao key here: make one with 'tao key new'",
	[PROV_RDIGEST - PROV_REXPORT] =
		"this digest is not for this Tao key: ECDSA and RSA keys sign SHA-256, SHA-384 and "
		"SHA-512, restricted RSA-PSS keys one of these, Ed25519 and ML-DSA keys whole "
		"messages without a digest",
	[PROV_RCIPHER - PROV_REXPORT] =
		"a TAO PRIVATE KEY file holds no secret: write it without cipher and passphrase",
	[PROV_RURI - PROV_REXPORT] =
		"not a tao: URI: write tao:NAME, tao:NAME/key, tao:NAME/cert, tao:NAME/chain, "
		"tao:ca, or tao: for a list",
	[PROV_RSETTING - PROV_REXPORT] =
		"a setting of the Tao provider is wrong: correct 'socket', 'timeout' or "
		"'undumpable' in its section of openssl.cnf, or TAO_SOCKET",
	[PROV_RPADDING - PROV_REXPORT] =
		"this padding, salt length or digest is not for this RSA key: a Tao key signs "
		"with PKCS#1 v1.5 and PSS, within what the key allows",
	[PROV_RUNPAD - PROV_REXPORT] =
		"a Tao RSA key decrypts with OAEP and PKCS#1 v1.5 padding only: choose one of "
		"these",
	[PROV_RSEED - PROV_REXPORT] =
		"TAO-RAND seeds OpenSSL's generators and is none itself: in the random section of "
		"openssl.cnf, write 'seed = TAO-RAND'",
	[PROV_RSHARE - PROV_REXPORT] =
		"the peer's key share for a Tao group is malformed: upgrade the older of the two "
		"sides",
	[PROV_RPAIR - PROV_REXPORT] =
		"the Tao host refuses a Tao group with this peer: no rule lets these two programs "
		"talk (see 'tao connect'), one of them is revoked, or a key share was used before "
		"or by another program",
	[PROV_RSTRANGER - PROV_REXPORT] =
		"the Tao host does not know who sent a key share for a Tao group: the peer is no "
		"program of this domain",
	[PROV_RSTALE - PROV_REXPORT] =
		"a key share for a Tao group is too old: connect again, and set the clocks of both "
		"hosts",
	[PROV_RSECRET - PROV_REXPORT] =
		"a TAO-SECRET key has no bytes to give or take: it is made from a label, and used "
		"by TAO-AES-256-GCM alone",
};

static const char *reason_text(int reason)
{
	return reason < PROV_REXPORT ? tao_err_text(reason) : own_reasons[reason - PROV_REXPORT];
}

/* The list has no place for TAO_OK: a zero ends it. */
static int reason_at(int i)
{
	return i < TAO_ERR_COUNT - 1 ? TAO_OK + 1 + i : PROV_REXPORT + i - (TAO_ERR_COUNT - 1);
}

/* Only for a libcrypto that is not the one which this file is linked to: see give_reasons(). */
static const OSSL_ITEM *prov_get_reasons(void *provctx)
{
	struct prov *p = provctx;

	for (int i = 0; i < PROV_REASONS; i++)
		p->items[i] = (OSSL_ITEM){ (unsigned)reason_at(i),
		                           (void *)reason_text(reason_at(i)) };
	return p->items;
}

/* OpenSSL would take the texts from each provider at load, whoever asks for them or not. So it gets
 * them with the first error, which tells by what number it calls this provider. */
static void give_reasons(struct prov *p)
{
	char *name = NULL;
	OSSL_PARAM wanted[] = {
		OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_CORE_PROV_NAME, &name, 0),
		OSSL_PARAM_construct_end(),
	};
	int library = ERR_GET_LIB(ERR_peek_last_error()), none = 0;

	/* After OPENSSL_cleanup() there are no errors, and nothing may be loaded. */
	if (library == 0 || !atomic_compare_exchange_strong(&p->library, &none, library))
		return;
	if (p->core_get_params != NULL)
		p->core_get_params(p->handle, wanted);
	p->reasons[0] = (ERR_STRING_DATA){ ERR_PACK(library, 0, 0), name };
	for (int i = 0; i < PROV_REASONS; i++)
		p->reasons[i + 1] = (ERR_STRING_DATA){ (unsigned)reason_at(i),
		                                       reason_text(reason_at(i)) };
	ERR_load_strings(library, p->reasons);
}

int prov_raise_at(struct prov *p, const char *file, int line, const char *func, int reason,
                  const char *fmt, ...)
{
	va_list ap;

	if (p->core_new_error == NULL || p->core_vset_error == NULL)
		return 0;
	va_start(ap, fmt);
	p->core_new_error(p->handle);
	if (p->core_set_error_debug != NULL)
		p->core_set_error_debug(p->handle, file, line, func);
	p->core_vset_error(p->handle, (uint32_t)reason, fmt, ap);
	va_end(ap);
	if (p->own_libcrypto && atomic_load(&p->library) == 0)
		give_reasons(p);
	return 0;
}

int prov_reason(const struct prov *p, enum tao_err e)
{
	if (p->setup != TAO_OK && p->setup == e)
		return PROV_RSETTING;
	/* a newer host's: it has no sentence here */
	return (unsigned)e < TAO_ERR_COUNT ? (int)e : TAO_EVERSION;
}

/* ---- services to the rest of the module ---- */

/* No debugger, no core dump. Daemons make a child dumpable when it has changed its user. */
static void guard(struct prov *p)
{
	int me;

	if (!p->undumpable)
		return;
	me = getpid();
	if (atomic_load(&p->guarded) != me && tao_client_has_door(p->client) &&
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
		atomic_store(&p->guarded, me);
}

enum tao_err prov_call(struct prov *p, const char *op, const ProtobufCMessage *req,
                       struct tao_buf *reply)
{
	return prov_call_while(p, op, req, NULL, reply);
}

enum tao_err prov_call_while(struct prov *p, const char *op, const ProtobufCMessage *req,
                             struct tao_meanwhile *w, struct tao_buf *reply)
{
	struct tao_buf body = TAO_BUF_INIT;
	enum tao_err e;

	if (p->setup != TAO_OK)
		return tao_fail(p->setup, "%s", p->setup_why);
	guard(p);
	if (req != NULL)
		tao_pb_pack(req, &body);
	e = tao_buf_err(&body);
	if (e == TAO_OK)
		e = tao_client_call(p->client, op, body.p, body.n, w, reply);
	tao_buf_free(&body);
	return e;
}

void prov_outlive_cleanup(struct prov *p)
{
	if (p->core_up_ref != NULL && !OPENSSL_init_crypto(0, NULL))
		p->core_up_ref(p->handle, 0);
}

void prov_keep_door(struct prov *p)
{
	if (p->setup != TAO_OK)
		return;
	tao_client_keep_door(p->client);
	guard(p);
}

const char *prov_digest_word(struct prov *p, const char *name)
{
	static const char *const words[] = { "SHA1", "SHA224", "SHA256", "SHA384", "SHA512" };
	const char *word = name;
	EVP_MD *md;

	ERR_set_mark();
	md = EVP_MD_fetch(p->inner->libctx, name, NULL);
	for (size_t i = 0; md != NULL && i < sizeof words / sizeof words[0]; i++)
		if (EVP_MD_is_a(md, words[i]))
			word = words[i];
	EVP_MD_free(md);
	ERR_pop_to_mark();
	return word;
}

enum tao_err prov_sha256(struct prov *p, const void *data, size_t n, uint8_t hash[32])
{
	size_t size = 32;
	int good;

	ERR_set_mark();
	good = EVP_Q_digest(p->inner->libctx, "SHA256", NULL, data, n, hash, &size) && size == 32;
	ERR_pop_to_mark();
	return good ? TAO_OK : tao_fail(TAO_ECRYPTO, "SHA-256 failed inside the Tao provider");
}

static int is_whole(const OSSL_PARAM *q)
{
	switch (q->data_type) {
	case OSSL_PARAM_UTF8_PTR:
	case OSSL_PARAM_OCTET_PTR:
		return q->data != NULL && (*(void **)q->data != NULL || q->data_size == 0);
	case OSSL_PARAM_UTF8_STRING:
	case OSSL_PARAM_OCTET_STRING:
		return q->data != NULL || q->data_size == 0;
	default:
		return q->data != NULL && q->data_size > 0;
	}
}

int prov_params_whole(struct prov *p, const OSSL_PARAM params[])
{
	for (; params != NULL && params->key != NULL; params++)
		if (!is_whole(params))
			return prov_raise_text(p, TAO_EINVAL, "the parameter %.40s has no data",
			                       params->key);
	return 1;
}

int prov_bio_write(const struct prov *p, OSSL_CORE_BIO *out, const void *data, size_t n)
{
	const uint8_t *from = data;
	size_t done = 0;

	while (n > 0) {
		if (!p->bio_write(out, from, n, &done) || done == 0 || done > n)
			return 0;
		from += done;
		n -= done;
	}
	return 1;
}

/* ---- settings ---- */

static enum tao_err parse_timeout(const char *text, int *ms)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != 0 || v < PROV_TIMEOUT_MIN || v > PROV_TIMEOUT_MAX)
		return tao_fail(TAO_EINVAL, "timeout = %.40s in the Tao provider's section of "
		                "openssl.cnf: give milliseconds, %d to %d", text, PROV_TIMEOUT_MIN,
		                PROV_TIMEOUT_MAX);
	*ms = (int)v;
	return TAO_OK;
}

static enum tao_err parse_undumpable(const char *text, int *yes)
{
	*yes = strcmp(text, "yes") == 0;
	if (!*yes && strcmp(text, "no") != 0)
		return tao_fail(TAO_EINVAL, "undumpable = %.40s in the Tao provider's section of "
		                "openssl.cnf: say yes or no", text);
	return TAO_OK;
}

static enum tao_err check_socket(const char *path)
{
	if (path[0] != '/' || strlen(path) > TAO_SOCKET_PATH_MAX)
		return tao_fail(TAO_EINVAL, "'%.200s' cannot be the Tao host's socket: set "
		                "'socket' in openssl.cnf or TAO_SOCKET to an absolute path of at "
		                "most %d bytes", path, TAO_SOCKET_PATH_MAX);
	return TAO_OK;
}

static int is_newer(unsigned major, unsigned minor)
{
	return major > NEWER_MAJOR || (major == NEWER_MAJOR && minor >= NEWER_MINOR);
}

/* A program may have another libcrypto than the one that this module is linked to: what is offered
 * has to suit both. */
static int serves_newer(const struct prov *p)
{
	char *version = NULL;
	unsigned major, minor;
	OSSL_PARAM wanted[] = {
		OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_CORE_VERSION, &version, 0),
		OSSL_PARAM_construct_end(),
	};
	int newer = is_newer(OPENSSL_version_major(), OPENSSL_version_minor());

	if (p->own_libcrypto)
		return newer;
	if (p->core_get_params != NULL)
		p->core_get_params(p->handle, wanted);
	return newer &&
	       (version == NULL || sscanf(version, "%u.%u", &major, &minor) != 2 ||
	        is_newer(major, minor));
}

/* The core hands out pointers into its own copy of the configuration. */
static int read_settings(struct prov *p)
{
	char *path = NULL, *timeout = NULL, *undumpable = NULL;
	int ms = TAO_CALL_TIMEOUT_MS;
	OSSL_PARAM wanted[] = {
		OSSL_PARAM_construct_utf8_ptr("socket", &path, 0),
		OSSL_PARAM_construct_utf8_ptr("timeout", &timeout, 0),
		OSSL_PARAM_construct_utf8_ptr("undumpable", &undumpable, 0),
		OSSL_PARAM_construct_end(),
	};

	if (p->core_get_params != NULL)
		p->core_get_params(p->handle, wanted);
	if (path == NULL)
		path = secure_getenv(SOCKET_ENV);
	if (path == NULL || path[0] == 0)
		path = (char *)SOCKET_DEFAULT;
	p->setup = check_socket(path);
	if (p->setup == TAO_OK && timeout != NULL)
		p->setup = parse_timeout(timeout, &ms);
	if (p->setup == TAO_OK && undumpable != NULL)
		p->setup = parse_undumpable(undumpable, &p->undumpable);
	if (p->setup != TAO_OK)
		snprintf(p->setup_why, sizeof p->setup_why, "%s", tao_why());
	p->client = tao_client_new(path, ms);
	if (p->client == NULL)
		return 0;
	guard(p);
	return 1;
}

/* ---- what the core asks ---- */

static const OSSL_PARAM *prov_gettable_params(void *provctx)
{
	static const OSSL_PARAM table[] = {
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_NAME, OSSL_PARAM_UTF8_PTR, NULL, 0),
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_VERSION, OSSL_PARAM_UTF8_PTR, NULL, 0),
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_BUILDINFO, OSSL_PARAM_UTF8_PTR, NULL, 0),
		OSSL_PARAM_DEFN(OSSL_PROV_PARAM_STATUS, OSSL_PARAM_INTEGER, NULL, 0),
		OSSL_PARAM_DEFN(CHANNEL_PARAM, OSSL_PARAM_OCTET_PTR, NULL, 0),
		OSSL_PARAM_END
	};

	(void)provctx;
	return table;
}

static int prov_get_params(void *provctx, OSSL_PARAM params[])
{
	static const char *const texts[][2] = {
		{ OSSL_PROV_PARAM_NAME, "Tao for OpenSSL" },
		{ OSSL_PROV_PARAM_VERSION, TAO_VERSION },
		{ OSSL_PROV_PARAM_BUILDINFO, TAO_VERSION },
	};
	struct prov *p = provctx;
	OSSL_PARAM *q;

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		q = OSSL_PARAM_locate(params, texts[i][0]);
		if (q != NULL && !OSSL_PARAM_set_utf8_ptr(q, texts[i][1]))
			return 0;
	}
	q = OSSL_PARAM_locate(params, CHANNEL_PARAM);
	if (q != NULL && !OSSL_PARAM_set_octet_ptr(q, &p->channel, sizeof p->channel))
		return 0;
	q = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
	return q == NULL || OSSL_PARAM_set_int(q, 1);
}

static void inner_free(struct prov_inner *in)
{
	if (in == NULL)
		return;
	mix_clear(&in->mix);
	OSSL_LIB_CTX_free(in->libctx);
	free(in);
}

/* All algorithms come through the question for them, so whoever has one has the inner context. */
static int make_inner(struct prov *p)
{
	struct prov_inner *in, *none = NULL;

	if (p->inner != NULL)
		return 1;
	in = calloc(1, sizeof *in);
	if (in == NULL)
		return 0;
	in->libctx = OSSL_LIB_CTX_new();
	mix_init(&in->mix, in->libctx);
	if (in->libctx == NULL || !atomic_compare_exchange_strong(&p->inner, &none, in))
		inner_free(in); /* or another thread's is there */
	return p->inner != NULL;
}

static const OSSL_ALGORITHM *prov_query(void *provctx, int operation, int *no_cache)
{
	static const struct {
		int operation;
		const OSSL_ALGORITHM *algorithms, *newer;
	} operations[] = {
		{ OSSL_OP_KEYMGMT, keymgmts + NEWER_KEYMGMTS, keymgmts },
		{ OSSL_OP_KEM, kems + NEWER_KEMS, kems },
		{ OSSL_OP_SIGNATURE, signatures, newer_signatures },
		{ OSSL_OP_ASYM_CIPHER, ciphers, ciphers },
		{ OSSL_OP_SKEYMGMT, NULL, skeymgmts },
		{ OSSL_OP_CIPHER, NULL, symmetric_ciphers },
		{ OSSL_OP_KEYEXCH, exchanges, exchanges },
		{ OSSL_OP_RAND, rands, rands },
		{ OSSL_OP_KDF, kdfs, kdfs },
		{ OSSL_OP_STORE, stores, stores },
		{ OSSL_OP_DECODER, decoders + NEWER_DECODERS, decoders },
		{ OSSL_OP_ENCODER, encoders + NEWER_ENCODERS, encoders },
	};
	int newer = ((const struct prov *)provctx)->newer;
	const OSSL_ALGORITHM *found = NULL;

	for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
		if (operations[i].operation == operation)
			found = newer ? operations[i].newer : operations[i].algorithms;
	*no_cache = found != NULL && !make_inner(provctx);
	return *no_cache ? NULL : found;
}

static void prov_teardown(void *provctx)
{
	struct prov *p = provctx;

	if (p == NULL)
		return;
	if (atomic_load(&p->library) != 0)
		ERR_unload_strings(p->library, p->reasons);
	group_drop_nonces(p);
	inner_free(p->inner);
	tao_client_free(p->client);
	free(p);
}

/* The first is not for the libcrypto that this file is linked to: see give_reasons(). */
static const OSSL_DISPATCH prov_functions[] = {
	{ OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, (void (*)(void))prov_get_reasons },
	{ OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))prov_teardown },
	{ OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))prov_gettable_params },
	{ OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))prov_get_params },
	{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))prov_query },
	{ OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))group_capabilities },
	{ 0, NULL }
};

static void take_core(struct prov *p, const OSSL_DISPATCH *in)
{
	for (; in->function_id != 0; in++) {
		switch (in->function_id) {
		case OSSL_FUNC_CORE_GET_PARAMS:
			p->core_get_params = OSSL_FUNC_core_get_params(in);
			break;
		case OSSL_FUNC_CORE_NEW_ERROR:
			p->core_new_error = OSSL_FUNC_core_new_error(in);
			break;
		case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
			p->core_set_error_debug = OSSL_FUNC_core_set_error_debug(in);
			break;
		case OSSL_FUNC_CORE_VSET_ERROR:
			p->core_vset_error = OSSL_FUNC_core_vset_error(in);
			break;
		case OSSL_FUNC_CRYPTO_FREE:
			p->own_libcrypto = in->function == (void (*)(void))CRYPTO_free;
			break;
		case OSSL_FUNC_PROVIDER_UP_REF:
			p->core_up_ref = OSSL_FUNC_provider_up_ref(in);
			break;
		case OSSL_FUNC_BIO_READ_EX:
			p->bio_read = OSSL_FUNC_BIO_read_ex(in);
			break;
		case OSSL_FUNC_BIO_GETS:
			p->bio_gets = OSSL_FUNC_BIO_gets(in);
			break;
		case OSSL_FUNC_BIO_WRITE_EX:
			p->bio_write = OSSL_FUNC_BIO_write_ex(in);
			break;
		}
	}
}

__attribute__((visibility("default")))
int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
	struct prov *p = calloc(1, sizeof *p);

	if (p == NULL)
		return 0;
	p->handle = handle;
	take_core(p, in);
	prov_channel_init(p);
	p->newer = serves_newer(p);
	if (!read_settings(p)) {
		prov_teardown(p);
		return 0;
	}
	*out = prov_functions + p->own_libcrypto;
	*provctx = p;
	return 1;
}
