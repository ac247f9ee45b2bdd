#include <string.h>

#include <openssl/err.h>

#include "tls.h"

/* Of what a message callback is shown (openssl/ssl3.h; of 3.2 and later): a whole frame. */
#define FRAME_FULL 0x202
/* RFC 9000, 20.1: errors that are alerts of TLS. */
#define ALERTS_BEGIN 0x100
#define ALERTS_END 0x200
#define STATE_ERROR "SSLERR" /* of SSL_state_string() */

/* Its type comes before it, and tells that the error queue is complete. */
static int is_alert(int type, const void *data, size_t n)
{
	return (type == SSL3_RT_HEADER || type == SSL3_RT_INNER_CONTENT_TYPE) && n > 0 &&
	       *(const uint8_t *)data == SSL3_RT_ALERT;
}

/* An alert is in the error. Others are of QUIC itself. */
static void report_close(SSL *s, struct tls_conn *c, int sent, uint64_t error)
{
	int where = sent ? SSL_CB_WRITE_ALERT : SSL_CB_READ_ALERT;

	if (error >= ALERTS_BEGIN && error < ALERTS_END) {
		tls_report_failure(s, c, where, (int)(error - ALERTS_BEGIN));
		return;
	}
	tls_conn_why(c, "the handshake failed: %s ended the connection: error %llu of QUIC",
	             sent ? "this program" : "the peer", (unsigned long long)error);
	tls_report(s, c, 0);
}

void tls_quic_message(int sent, int version, int type, const void *data, size_t n, SSL *s,
                      void *arg)
{
	struct tls_conn *c = tls_conn_of(s);
	uint64_t error;

	(void)version;
	(void)arg;
	if (c == NULL || !c->begun || c->ended || !tls_over_quic(s))
		return;
	if (sent && is_alert(type, data, n))
		tls_report_failure(s, c, SSL_CB_WRITE_ALERT, 0);
	else if (type == FRAME_FULL && tls_quic_closes(data, n, &error))
		report_close(s, c, sent, error);
}

void tls_quic_info(const SSL *s, struct tls_conn *c, int where, int value)
{
	if (c->ended || !tls_over_quic(s))
		return;
	c->followed = 1;
	if (!(where & SSL_CB_EXIT) || value > 0)
		return;
	if (strcmp(tls_libssl()->SSL_state_string(s), STATE_ERROR) == 0)
		tls_report_failure(s, c, SSL_CB_WRITE_ALERT, 0);
	else
		tls_report_note(s, c);
}

void tls_quic_end(struct tls_conn *c)
{
	if (c->begun && !c->ended && c->followed)
		tls_report_lost(c);
}
