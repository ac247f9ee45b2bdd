# A sealed key in the openssl command, inside `tao run`: every use that a
# user's first hour brings, against the real host.
use strict;
use warnings;
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
my $dir = tmpdir();
my $policy = $host->dir . '/policy.pem';

ok_run([$host->cmd(qw(key new web --for), $openssl)], 'tao key new');
ok_run([$host->cmd('trust', $openssl, '--serves', 'localhost')], 'tao trust');

# Every test here runs as a user would: tao run openssl ...
sub tao_openssl { return $host->cmd('run', '--', $openssl, @_) }

my $pub = ok_run([tao_openssl(qw(pkey -pubout -in tao:web))], 'pkey -pubout -in tao:web')->{out};
like($pub, qr/^-----BEGIN PUBLIC KEY-----/, 'prints the public key');
spew("$dir/pub.pem", $pub);
like(ok_run([tao_openssl(qw(pkey -in tao:web -noout -text))], 'pkey -text')->{out},
	qr/prime256v1|P-256/, 'names the curve');
like(ok_run([tao_openssl(qw(pkey -in tao:web))], 'pkey')->{out}, qr/^-----BEGIN TAO PRIVATE KEY-----/,
	'pkey writes the stub');
fails_with([tao_openssl(qw(pkey -in tao:web -outform DER -out /dev/null -traditional))], qr/private|stub/i,
	'and never the private half');
is(ok_run([tao_openssl('pkey', '-pubout', '-in', $host->dir . "/keys/$>/web.pem")],
	'the stub file works in the place of the URI')->{out}, $pub, 'and is the same key');

my $cert = ok_run([tao_openssl(qw(x509 -in tao:web))], 'x509 -in tao:web')->{out};
spew("$dir/cert.pem", $cert);
ok_run([$openssl, qw(verify -purpose sslserver -verify_hostname localhost -CAfile), $policy,
	"$dir/cert.pem"], 'the certificate verifies against the policy certificate, host name on');
my $text = ok_run([$openssl, qw(x509 -noout -text -nameopt RFC2253 -in), "$dir/cert.pem"],
	'its text')->{out};
like($text, qr/OU=key\(\[[0-9a-f]{64}\]\)\.DatalogGuard\(key\(\[[0-9a-f]{64}\]\)\)\.Measured\(\[[0-9a-f]{64}\]\\, \[[0-9a-f]{64}\]\\, $>\)\.PolicyKey\(\[[0-9a-f]{64}\]\)/,
	'the subject names the program');
like($text, qr/URI:urn:tao:key\(%5B/, 'so does the URI');
like($text, qr/DNS:localhost/, 'and the name that policy says it serves');

my $csr = ok_run([tao_openssl(qw(req -new -key tao:web -subj /CN=example.org))], 'req -new')->{out};
spew("$dir/csr.pem", $csr);
ok_run([$openssl, qw(req -verify -noout -in), "$dir/csr.pem"], 'the request is signed by the key');
ok_run([tao_openssl(qw(req -x509 -new -key tao:web -subj /CN=x -days 1 -out), "$dir/self.pem")],
	'req -x509');
ok_run([$openssl, 'verify', '-CAfile', "$dir/self.pem", "$dir/self.pem"], 'a certificate made with it');

spew("$dir/msg", "to be signed\n");
for my $md (qw(sha256 sha384 sha512)) {
	ok_run([tao_openssl('dgst', "-$md", qw(-sign tao:web -out), "$dir/sig", "$dir/msg")], "dgst -$md -sign");
	ok_run([$openssl, 'dgst', "-$md", '-verify', "$dir/pub.pem", '-signature', "$dir/sig", "$dir/msg"],
		"its $md signature verifies");
}
spew("$dir/msg2", "to be signed?\n");
isnt(run($openssl, qw(dgst -sha512 -verify), "$dir/pub.pem", '-signature', "$dir/sig", "$dir/msg2")->{status},
	0, 'and not over another message');
ok_run([tao_openssl(qw(dgst -sha512 -verify), "$dir/pub.pem", '-signature', "$dir/sig", "$dir/msg")],
	'verification works inside tao run');
fails_with([tao_openssl(qw(dgst -sha1 -sign tao:web -out), "$dir/sig1", "$dir/msg")],
	qr/SHA1|digest/i, 'SHA-1 is refused');

ok_run([tao_openssl(qw(cms -sign -signer tao:web -inkey tao:web -in), "$dir/msg", '-out', "$dir/cms")],
	'cms -sign');
like(ok_run([$openssl, qw(cms -verify -purpose any -CAfile), $policy, '-in', "$dir/cms"], 'cms -verify')->{out},
	qr/to be signed/, 'gives the message');

like(ok_run([tao_openssl(qw(storeutl tao:))], 'storeutl tao:')->{out}, qr/tao:web/, 'lists the key');
like(ok_run([tao_openssl(qw(storeutl -noout tao:web))], 'storeutl tao:web')->{out},
	qr/Total found: [23]/, 'finds key and certificates');
like(ok_run([tao_openssl(qw(x509 -noout -subject -in tao:ca))], 'x509 -in tao:ca')->{out},
	qr/Tao policy key/, 'tao:ca is the policy certificate');

# What storeutl and OSSL_STORE_find() look for: alias, subject, issuer and serial number, fingerprints.
# The policy key's name is too long for storeutl's own options.
sub found { return ok_run([tao_openssl('storeutl', @_)], "storeutl @_")->{out} }
for my $uri ('tao:web', 'tao:') {
	like(found('-noout', '-certs', '-alias', 'web', $uri), qr/Total found: 2/, "$uri: the alias' certificates");
	like(found('-keys', '-alias', 'web', $uri), qr/Total found: 1/, "$uri: the alias' key");
	ok(found_none(found('-noout', '-certs', '-subject', '/CN=nobody', $uri)), "$uri: by subject: nobody");
}
ok(found_none(found('-noout', '-alias', 'other', 'tao:web')), 'an alias that is not the URI\'s');

my $finder = tool('storefind');
ok_run([$host->cmd('trust', $finder)], 'a program that searches');
ok_run([$host->cmd('key', 'new', $_, '--for', $finder)], "its key $_") for qw(here there);
is(ok_run([$host->cmd('run', '--quiet', '--', $finder, qw(tao:here tao:here tao:there tao: tao:ca))], 'searches')->{out},
	"tao:here 1 1 1 1\ntao:there 1 0 0 0\ntao: 2 1 1 1\ntao:ca 0 0 0 0\n", 'finds by subject, by issuer and serial number, by fingerprints');
is(ok_run([$host->cmd('run', '--quiet', '--', $finder, qw(tao:ca tao:ca tao:here))], 'searches for the policy certificate')->{out},
	"tao:ca 1 1 1 1\ntao:here 1 1 1 1\n", 'which ends every chain');

# TLS, both sides with sealed keys, data both ways.
for my $version (qw(1_2 1_3)) {
	my $port = free_port();
	my $server = spawn(tao_openssl('s_server', "-tls$version", qw(-accept), "127.0.0.1:$port",
		qw(-cert tao:web -key tao:web -Verify 1 -verify_return_error -rev -CAfile), $policy));
	ok($server->wait_for_line(qr/ACCEPT/, 20), "s_server -tls$version is up") or diag $server->log;
	my $said = talk("attested\n", qr/detsetta$/, tao_openssl('s_client', "-tls$version", '-connect', "127.0.0.1:$port", '-CAfile', $policy,
		qw(-cert tao:web -key tao:web -verify_hostname localhost -verify_return_error -ign_eof)));
	like($said, qr/detsetta$/m, "TLS $version: data both ways") or diag $said, $server->log;
	like($said, qr/Peer signature type: $ECDSA_TYPE/, "TLS $version: the server signed");
	like($said, qr/Verify return code: 0 \(ok\)/, "TLS $version: the client verified");
	like($server->log, qr/verify return:1/, "TLS $version: the server verified the client");
	$server->stop;
}

done_testing();
