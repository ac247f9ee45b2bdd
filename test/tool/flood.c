/*
 * flood: ClientHellos of TLS 1.3, each with a pre-shared key's identity that nobody made.
 *
 *   flood PORT SECONDS THREADS [FORMAT]
 *
 * to 127.0.0.1, as many as go in that time, each on a connection of its own and after the answer to
 * the one before. All fields of the identity are as they should be (with FORMAT: but its first
 * byte), but for the ids, nonce and tag, which are random. Prints
 *
 *   sent N taken T unanswered U rate R
 *
 * T: the server went on with them, R: a second.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "provider/channel.h"

#define EXTENSION 0xFF54
#define EPOCH_SECONDS 86400
#define HELLO_MAX 2048
#define IDS_AT 12      /* of an identity: what a client cannot know begins */
#define RANDOM_AT 11   /* of the record: the client's random */
#define THREADS_MAX 64
#define ANSWER_SECONDS 20
#define ALERT 21       /* a record's first byte */

static const char marker[CHANNEL_IDENTITY_LEN] = "where the identity is";

struct hello {
	unsigned char bytes[HELLO_MAX];
	size_t n, at; /* of the identity */
};

struct flood {
	struct sockaddr_in to;
	struct hello hello;
	int format;
	double end;
	atomic_long sent, taken, unanswered;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- one ClientHello, by libssl ---- */

static int use(SSL *s, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **out)
{
	static const unsigned char aes128[] = { 0x13, 0x01 }, psk[32];

	(void)md;
	*out = SSL_SESSION_new();
	*id = (const unsigned char *)marker;
	*n = sizeof marker;
	return SSL_SESSION_set1_master_key(*out, psk, sizeof psk) &&
	       SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(s, aes128)) &&
	       SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

static int make_hello(struct hello *h)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	BIO *out = BIO_new(BIO_s_mem());
	unsigned char *found;
	SSL *s;
	int n;

	/* Of the identity's hash. The server has no certificate for that: its keys are not RSA. */
	if (!SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") ||
	    !SSL_CTX_set1_sigalgs_list(ctx, "RSA-PSS+SHA512") ||
	    !SSL_CTX_set1_groups_list(ctx, "X25519:P-256") ||
	    !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_add_custom_ext(ctx, EXTENSION,
	                            SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
	                            NULL, NULL, NULL, NULL, NULL))
		return 0;
	SSL_CTX_set_psk_use_session_callback(ctx, use);
	s = SSL_new(ctx);
	SSL_set_bio(s, BIO_new(BIO_s_mem()), out);
	SSL_connect(s);
	n = BIO_read(out, h->bytes, HELLO_MAX);
	found = n > 0 ? memmem(h->bytes, (size_t)n, marker, sizeof marker) : NULL;
	h->n = (size_t)(n > 0 ? n : 0);
	h->at = found != NULL ? (size_t)(found - h->bytes) : 0;
	SSL_free(s);
	SSL_CTX_free(ctx);
	return found != NULL;
}

/* ---- many ---- */

static void put_u32(unsigned char *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, sizeof v);
}

static void invent(const struct flood *f, unsigned char *hello)
{
	unsigned char *id = hello + f->hello.at;
	uint32_t seconds = (uint32_t)time(NULL);

	id[0] = (unsigned char)f->format;
	put_u32(id + 1, seconds / EPOCH_SECONDS);
	put_u32(id + 5, seconds);
	memcpy(id + 9, "\1\3\4", 3);
	if (getrandom(id + IDS_AT, CHANNEL_IDENTITY_LEN - IDS_AT, 0) < 0 ||
	    getrandom(hello + RANDOM_AT, SSL3_RANDOM_SIZE, 0) < 0)
		abort();
}

/* The first byte of the answer; -1 if there is none. */
static int shown_to(const struct flood *f, const unsigned char *hello)
{
	const struct linger reset = { 1, 0 };
	const struct timeval limit = { ANSWER_SECONDS, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned char answer[16];
	ssize_t n = -1;

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (connect(fd, (const struct sockaddr *)&f->to, sizeof f->to) == 0 &&
	    send(fd, hello, f->hello.n, MSG_NOSIGNAL) == (ssize_t)f->hello.n)
		n = recv(fd, answer, sizeof answer, 0);
	close(fd);
	return n > 0 ? answer[0] : -1;
}

static void *show(void *arg)
{
	struct flood *f = arg;
	unsigned char hello[HELLO_MAX];

	memcpy(hello, f->hello.bytes, f->hello.n);
	while (now() < f->end) {
		int r;

		invent(f, hello);
		r = shown_to(f, hello);
		atomic_fetch_add(&f->sent, 1);
		if (r < 0)
			atomic_fetch_add(&f->unanswered, 1);
		else if (r != ALERT)
			atomic_fetch_add(&f->taken, 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct flood f = { .to = { .sin_family = AF_INET },
	                   .format = argc > 4 ? atoi(argv[4]) : 1 };
	int threads = argc > 3 ? atoi(argv[3]) : 0;
	pthread_t all[THREADS_MAX];
	double began;

	if (threads < 1 || threads > THREADS_MAX) {
		fprintf(stderr, "usage: flood PORT SECONDS THREADS [FORMAT]\n");
		return 2;
	}
	if (!make_hello(&f.hello)) {
		ERR_print_errors_fp(stderr);
		return 1;
	}
	f.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f.to.sin_port = htons((uint16_t)atoi(argv[1]));
	began = now();
	f.end = began + atof(argv[2]);
	for (int i = 0; i < threads; i++)
		if (pthread_create(&all[i], NULL, show, &f) != 0)
			return 1;
	for (int i = 0; i < threads; i++)
		pthread_join(all[i], NULL);
	printf("sent %ld taken %ld unanswered %ld rate %.0f\n", f.sent, f.taken, f.unanswered,
	       (double)f.sent / (now() - began));
	return 0;
}
