/* tls/settings.c: what openssl.cnf says. */
#include "tls/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/conf.h>
#include <openssl/err.h>

#include "tap.h"

static CONF *conf_of(const char *text)
{
	BIO *b = BIO_new_mem_buf(text, -1);
	CONF *cnf = NCONF_new(NULL);
	long line = 0;

	if (b == NULL || cnf == NULL || NCONF_load_bio(cnf, b, &line) != 1) {
		printf("Bail out! line %ld\n", line);
		exit(1);
	}
	BIO_free(b);
	return cnf;
}

static int reads(const char *text, struct tls_settings *s)
{
	CONF *cnf = conf_of(text);
	int good = tls_settings_read(cnf, "t", NULL, s);

	NCONF_free(cnf);
	return good;
}

static void refused(const char *text, const char *part, const char *name)
{
	struct tls_settings s;
	const char *why = NULL;
	int flags = 0;

	ok(!reads(text, &s), "%s is refused", name);
	ERR_peek_last_error_all(NULL, NULL, NULL, &why, &flags);
	ok(why != NULL && strstr(why, part) != NULL, "and the sentence says so: %s", why);
	ok(s.mode == TLS_REQUIRE && s.n_peers == 0 && !s.group && !s.psk, "nothing connects then");
	ERR_clear_error();
	free(s.peers);
}

static void defaults(void)
{
	struct tls_settings s;

	ok(reads("[t]\npath = /x\n", &s), "a section with the path alone");
	ok(s.mode == TLS_PREFER && s.renew == TLS_RENEW_DEFAULT && s.psk && s.group && s.identity &&
	   s.trust && !s.demand && !s.tls12 && s.n_peers == 0, "the defaults");
	ok(tls_settings_mode(&s, "a.test") == TLS_PREFER, "of every name");
}

static void all(void)
{
	struct tls_settings s;

	ok(reads("[t]\nrenew = 0\nmode = certificate\npsk = no\ngroup = no\nidentity = no\ntrust = no\n"
	         "demand = yes\ntls12_psk = yes\npeers = p\n[p]\na.test = require\n*.b.test = off\n"
	         "x.b.test = require\n", &s), "all of them");
	ok(s.mode == TLS_CERTIFICATE && s.renew == 0 && !s.psk && !s.group && !s.identity &&
	   !s.trust &&
	   s.demand && s.tls12 && s.n_peers == 2 + 1, "are taken");
	ok(tls_settings_mode(&s, "a.test") == TLS_REQUIRE, "a name with a mode");
	ok(tls_settings_mode(&s, "A.Test") == TLS_REQUIRE, "in any case");
	ok(tls_settings_mode(&s, "x.b.test") == TLS_OFF, "the first that fits");
	ok(tls_settings_mode(&s, "y.x.b.test") == TLS_OFF, "at any depth");
	ok(tls_settings_mode(&s, "b.test") == TLS_CERTIFICATE, "a domain is not below itself");
	ok(tls_settings_mode(&s, "ab.test") == TLS_CERTIFICATE, "nor is what ends alike");
	ok(tls_settings_mode(&s, "") == TLS_CERTIFICATE, "no name");
	free(s.peers);
}

static void programs(void)
{
	struct tls_settings s;

	ok(reads("[t]\nprograms = q\nmode = off\n[q]\nt_tls = own\nother = bad\n[own]\nmode = require\n"
	         "[bad]\nnonsense = 1\n", &s), "settings of this program; those of others are not "
	                                       "read");
	ok(s.mode == TLS_REQUIRE, "come on top, wherever the line is");
	ok(reads("[t]\nprograms = q\n[q]\n/bin/t_tls = own\n[own]\nmode = require\n", &s) &&
	   s.mode == TLS_PREFER, "another path is another program");
}

static void names(void)
{
	static const char *const bad[] = { "*", "*.", "*.*.test", ".test", "a..test", "a/test",
	                                   "a@test" };
	char text[128];
	struct tls_settings s;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(text, sizeof text, "[t]\npeers = p\n[p]\n%s = require\n", bad[i]);
		refused(text, "is no name that a client asks for", bad[i]);
	}
	ok(reads("[t]\npeers = p\n[p]\na.test. = require\n192.0.2.1 = off\n_x.a-b.test = off\n",
	         &s),
	   "a name with the dot at its end, an address, a name with a hyphen");
	ok(tls_settings_mode(&s, "a.test") == TLS_REQUIRE &&
	   tls_settings_mode(&s, "192.0.2.1") == TLS_OFF &&
	   tls_settings_mode(&s, "_x.a-b.test") == TLS_OFF, "count");
	free(s.peers);
}

static void path_is(const char *link, const char *path)
{
	char text[128];

	snprintf(text, sizeof text, "%s", link);
	tls_program_path(text);
	ok(strcmp(text, path) == 0, "%s is %s", link, text);
}

static void paths(void)
{
	path_is("/usr/sbin/nginx", "/usr/sbin/nginx");
	path_is("/usr/sbin/nginx (deleted)", "/usr/sbin/nginx");
	path_is("/memfd:%2Fhome%2Fa%25b%2Fc (deleted)", "/home/a%b/c");
	path_is("/memfd:c (deleted)", "c");
	path_is("/memfd:c%", "c%");
	path_is("/memfd:c%2", "c%2");
	path_is("", "");
}

static void closes(const char *bytes, size_t n, uint64_t error, const char *what)
{
	uint64_t got = 0;

	ok(tls_quic_closes(bytes, n, &got) && got == error, "a frame that ends a connection: %s",
	   what);
	for (size_t cut = 0; cut < n; cut++)
		ok(!tls_quic_closes(bytes, cut, &got), "the first %zu bytes of it do not", cut);
}

static void frames(void)
{
	uint64_t got;

	closes("\x1c\x41\x28", 3, 0x128, "an alert");
	closes("\x1c\x0a", 2, 0x0a, "an error of one byte");
	closes("\x1c\x80\x00\x01\x2f", 5, 0x12f, "of four");
	closes("\x1c\xc0\x00\x00\x00\x00\x00\x01\x78", 9, 0x178, "of eight");
	closes("\x40\x1c\x41\x28", 4, 0x128, "a type of two");
	ok(!tls_quic_closes("\x1d\x41\x28", 3, &got), "the application's does not count");
	ok(!tls_quic_closes("\x06\x00\x04", 3, &got), "nor do others");
}

int main(void)
{
	frames();
	defaults();
	all();
	programs();
	names();
	paths();
	refused("[t]\nmode = on\n", "mode in section [t] is require", "another mode");
	refused("[t]\npsk = 1\n", "psk in section [t] is yes or no", "another switch");
	refused("[t]\nrenew = 86401\n", "at most 86400", "too many seconds");
	refused("[t]\nrenew = -1\n", "at most 86400", "fewer than none");
	refused("[t]\nrenew = 1s\n", "at most 86400", "a unit");
	refused("[t]\nmodes = off\n", "none of its settings", "an unknown line");
	refused("[t]\npeers = nowhere\n", "names a section", "a section that is not there");
	refused("[t]\npeers = p\n[p]\na = b\n", "a in section [p]", "a mode of a name");
	refused("[t]\nprograms = q\n[q]\nt_tls = t\n", "names a section", "a section in itself");
	return done();
}
