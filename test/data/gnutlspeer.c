/*
 * gnutlspeer: TLS 1.3 with an external pre-shared key (psk_dhe_ke, SHA-256) by GnuTLS: a stack that
 * has nothing of OpenSSL checks what is said of the key schedule. Compiled by the recipe that uses
 * it.
 *
 *   gnutlspeer client PORT NAME   reads identity and secret, in hex, from standard input
 *   gnutlspeer server PORT        prints "identity HEX" for each client, reads "HEX" of its secret
 *
 * Both send and know the empty extension 0xFF54. A connection is over when a line went from the
 * server to the client and back. Prints "ok SUITE psk=1 extension=0|1" or "failed WHY"; the server
 * serves one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#define EXTENSION 0xFF54
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:-CIPHER-ALL:+AES-128-GCM"
#define BYTES_MAX 128

static int seen; /* the peer sent the extension */

static int die(const char *what, int r)
{
	printf("failed %s: %s\n", what, gnutls_strerror(r));
	exit(1);
}

static gnutls_datum_t read_hex(void)
{
	char line[2 * BYTES_MAX + 2];
	gnutls_datum_t hex, bytes = { 0 };
	int r;

	if (fgets(line, sizeof line, stdin) == NULL)
		exit(1);
	line[strcspn(line, "\n")] = 0;
	hex = (gnutls_datum_t){ (unsigned char *)line, (unsigned)strlen(line) };
	r = gnutls_hex_decode2(&hex, &bytes);
	if (r != 0)
		die("not hex", r);
	return bytes;
}

static int on_recv(gnutls_session_t s, const unsigned char *data, size_t n)
{
	(void)s;
	(void)data;
	seen = n == 0;
	return 0;
}

static int on_send(gnutls_session_t s, gnutls_buffer_t to)
{
	(void)s;
	(void)to;
	return GNUTLS_E_INT_RET_0; /* there is one, and nothing in it */
}

static int on_identity(gnutls_session_t s, const gnutls_datum_t *identity, gnutls_datum_t *key)
{
	(void)s;
	printf("identity ");
	for (unsigned i = 0; i < identity->size; i++)
		printf("%02x", identity->data[i]);
	printf("\n");
	fflush(stdout);
	*key = read_hex();
	return 0;
}

static gnutls_session_t session(unsigned flags, int fd)
{
	gnutls_session_t s;
	int r = gnutls_init(&s, flags);

	if (r == 0)
		r = gnutls_priority_set_direct(s, PRIORITY, NULL);
	if (r == 0)
		r = gnutls_session_ext_register(s, "tao", EXTENSION, GNUTLS_EXT_TLS, on_recv,
		                                on_send, NULL, NULL, NULL,
		                                GNUTLS_EXT_FLAG_CLIENT_HELLO | GNUTLS_EXT_FLAG_EE | GNUTLS_EXT_FLAG_TLS);
	if (r != 0)
		die("a session", r);
	gnutls_transport_set_int(s, fd);
	return s;
}

static int finish(gnutls_session_t s, int server)
{
	char line[8] = "hello\n";
	int r;

	do
		r = gnutls_handshake(s);
	while (r < 0 && gnutls_error_is_fatal(r) == 0);
	if (r == 0 && server)
		r = (int)gnutls_record_send(s, line, 6);
	if (r >= 0)
		r = (int)gnutls_record_recv(s, line, 1);
	if (r >= 0 && !server)
		r = (int)gnutls_record_send(s, line, 1);
	if (r < 0)
		die("the handshake", r);
	printf("ok %s psk=%d extension=%d\n", gnutls_session_get_desc(s),
	       gnutls_auth_get_type(s) == GNUTLS_CRD_PSK, seen);
	gnutls_bye(s, GNUTLS_SHUT_WR);
	return 0;
}

static int client(const char *port, const char *name)
{
	gnutls_datum_t identity = read_hex(), key = read_hex();
	struct sockaddr_in to = { .sin_family = AF_INET };
	gnutls_psk_client_credentials_t cred;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	gnutls_session_t s;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)atoi(port));
	if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
		return 1;
	s = session(GNUTLS_CLIENT, fd);
	gnutls_psk_allocate_client_credentials(&cred);
	gnutls_psk_set_client_credentials2(cred, &identity, &key, GNUTLS_PSK_KEY_RAW);
	gnutls_credentials_set(s, GNUTLS_CRD_PSK, cred);
	gnutls_server_name_set(s, GNUTLS_NAME_DNS, name, strlen(name));
	return finish(s, 0);
}

static int server(const char *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	gnutls_psk_server_credentials_t cred;
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	gnutls_session_t s;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons((uint16_t)atoi(port));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1) != 0)
		return 1;
	printf("listening\n");
	fflush(stdout);
	s = session(GNUTLS_SERVER, accept(fd, NULL, NULL));
	gnutls_psk_allocate_server_credentials(&cred);
	gnutls_psk_set_server_credentials_function2(cred, on_identity);
	gnutls_credentials_set(s, GNUTLS_CRD_PSK, cred);
	return finish(s, 1);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "client") == 0)
		return client(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		return server(argv[2]);
	fprintf(stderr, "usage: gnutlspeer client PORT NAME | server PORT\n");
	return 2;
}
