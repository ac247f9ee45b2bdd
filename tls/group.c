#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "tls.h"

#define PRINCIPAL_PARAM "tao-principal" /* of the group's keys (provider-tao(7)) */

static int set_groups(const struct tls_libssl *f, SSL *s, const char *list)
{
	int good;

	ERR_set_mark();
	good = f->SSL_ctrl(s, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)list) == 1;
	ERR_pop_to_mark();
	return good;
}

static int set_tao(const struct tls_libssl *f, SSL *s)
{
	return set_groups(f, s, TLS_GROUP_MLKEM ":" TLS_GROUP) || set_groups(f, s, TLS_GROUP);
}

/* nginx switches it off by the option, and leaves the highest version as it is. QUIC has no other. */
static int may_be_13(const struct tls_libssl *f, const SSL *s)
{
	long max;

	if (tls_over_quic(s))
		return 1;
	max = f->SSL_ctrl((SSL *)s, SSL_CTRL_GET_MAX_PROTO_VERSION, 0, NULL);
	return (max == 0 || max == TLS1_3_VERSION) && (f->SSL_get_options(s) & SSL_OP_NO_TLSv1_3) == 0;
}

/* Why it cannot be a Tao channel; NULL: it can. */
static const char *pin(const struct tls_libssl *f, SSL *s, const struct tls_conn *c)
{
	if (c->set->broken)
		return "the settings of tao_tls are wrong: see 'tao conf check'";
	if (f->SSL_is_dtls(s))
		return "it has to be a Tao channel, which DTLS cannot be: see mode in tao_tls(5)";
	if (!may_be_13(f, s))
		return "it has to be a Tao channel, and this program's configuration does not allow TLS 1.3";
	return set_tao(f, s) ? NULL : "the group " TLS_GROUP " is not there: is tao.so loaded?";
}

/* First one that TLS 1.3 has not: should the provider be missing, nothing is negotiated. Earlier versions,
 * which need no group, are closed in hook.c. */
void tls_group_pin(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();
	const char *why;

	c->pinned = 1;
	set_groups(f, s, TLS_GROUP_CLOSED);
	why = pin(f, s, c);
	if (why == NULL)
		return;
	tls_conn_why(c, "%s", why);
	tls_raise(why);
}

/* ---- servers: as soon as the client is seen to offer it ---- */

static int offers(const unsigned char *list, size_t n)
{
	for (size_t i = 2; i + 1 < n; i += 2) {
		int id = list[i] << 8 | list[i + 1];

		if (id == TLS_GROUP_ID || id == TLS_GROUP_MLKEM_ID)
			return 1;
	}
	return 0;
}

/* Before libssl chooses anything. Thus what the application set stands for all other clients. */
void tls_group_look(SSL *s, struct tls_conn *c)
{
	const struct tls_libssl *f = tls_libssl();
	const unsigned char *list;
	size_t n;

	if (c->looked)
		return;
	c->looked = 1;
	c->peer_ems = f->SSL_client_hello_get0_ext(s, TLSEXT_TYPE_extended_master_secret, &list, &n);
	if (!f->SSL_client_hello_get0_ext(s, TLSEXT_TYPE_supported_groups, &list, &n) || !offers(list, n))
		return;
	c->offers_group = 1;
	if (!c->required && c->mode >= TLS_PREFER && c->set->group && may_be_13(f, s))
		set_tao(f, s);
}

/* ---- who was keyed ---- */

/* libssl looks into the session, and before there is one looks all the same. */
int tls_group_id(const SSL *s)
{
	const struct tls_libssl *f = tls_libssl();

	if (f->SSL_get_session(s) == NULL)
		return 0;
	return (int)f->SSL_ctrl((SSL *)s, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, NULL);
}

int tls_group_used(const SSL *s)
{
	int id = tls_group_id(s) & 0xFFFF;

	return id == TLS_GROUP_ID || id == TLS_GROUP_MLKEM_ID;
}

size_t tls_group_peer(SSL *s, uint8_t peer[CHANNEL_PRINCIPAL_MAX])
{
	const struct tls_libssl *f = tls_libssl();
	int which = f->SSL_is_server(s) ? SSL_CTRL_GET_PEER_TMP_KEY : SSL_CTRL_GET_TMP_KEY;
	EVP_PKEY *key = NULL;
	size_t n = 0;

	ERR_set_mark();
	if (!tls_group_used(s) || f->SSL_ctrl(s, which, 0, &key) != 1 ||
	    EVP_PKEY_get_octet_string_param(key, PRINCIPAL_PARAM, peer, CHANNEL_PRINCIPAL_MAX,
	                                    &n) != 1)
		n = 0;
	EVP_PKEY_free(key);
	ERR_pop_to_mark();
	return n;
}
