# What an administrator does with the openssl command and a sealed key beside plain TLS: a CA
# (`openssl ca`, CRL), its OCSP responder, CMS and S/MIME both ways, DTLS 1.2. By URI and by stub.
use strict;
use warnings;
use POSIX qw(mkfifo);
use Test::More;
use TaoCa;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
sub tao { return [ $host->cmd(@_) ] }
sub tao_openssl { return $host->cmd('run', '--quiet', '--', $openssl, @_) }
sub stub { return "$state/keys/$>/$_[0].pem" }

spew("$dir/msg", "to be signed\n");

# --- a CA whose key is sealed: by URI, and by stub in ca.cnf

for ([ 'p256', 'tao:ca-p256' ], [ 'rsa2048', stub('ca-rsa2048') ]) {
	my ($type, $key) = @$_;
	my $what = "CA with $key" =~ s{/.*/}{}r;
	ok_run(tao('key', 'new', "ca-$type", '--type', $type, qw(--purpose sign --for), $openssl), "$what: its key");
	my $ca = ca_new("$dir/ca-$type", "Sealed $type", { key => $key, runner => \&tao_openssl });
	ok_run([ tao_openssl(qw(req -x509 -days 300 -config), $ca->{conf}, '-new', '-key', $key, '-subj', "/O=Sealed/CN=$type", '-out', $ca->{cert}) ],
		"$what: its certificate");
	ok_run([ $openssl, qw(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj), "/CN=$_.test", '-keyout', "$dir/$_.key", '-out', "$dir/$_.csr" ],
		"a request of $_") for qw(good bad);
	$ca->sign("$dir/$_.csr", "$dir/$_.pem") for qw(good bad);
	ok_run([ $openssl, qw(verify -CAfile), $ca->{cert}, "$dir/good.pem", "$dir/bad.pem" ], "$what: both verify");
	ok_run([ tao_openssl(qw(x509 -req -days 5 -set_serial 77 -CA), $ca->{cert}, '-CAkey', $key, '-in', "$dir/good.csr", '-out', "$dir/third.pem") ],
		"$what: x509 -req");
	ok_run([ $openssl, qw(verify -CAfile), $ca->{cert}, "$dir/third.pem" ], "$what: which verifies, too");

	ok_run([ tao_openssl(qw(ca -config), $ca->{conf}, '-revoke', "$dir/bad.pem") ], "$what: revokes one");
	ok_run([ tao_openssl(qw(ca -config), $ca->{conf}, '-gencrl', '-out', "$dir/crl.pem") ], "$what: a revocation list");
	like(run($openssl, qw(crl -noout -CAfile), $ca->{cert}, '-in', "$dir/crl.pem")->{err}, qr/verify OK/, "$what: is signed by it");
	ok_run([ $openssl, qw(verify -crl_check -CRLfile), "$dir/crl.pem", '-CAfile', $ca->{cert}, "$dir/good.pem" ], "$what: one is good");
	fails_with([ $openssl, qw(verify -crl_check -CRLfile), "$dir/crl.pem", '-CAfile', $ca->{cert}, "$dir/bad.pem" ], qr/revoked/, "$what: one is revoked");

	# OCSP: the responder's key is sealed as well, in the same form.
	my $responder = $key =~ /^tao:/ ? "tao:ocsp-$type" : stub("ocsp-$type");
	ok_run(tao('key', 'new', "ocsp-$type", '--type', $type, qw(--purpose sign --for), $openssl), "$what: its responder's key");
	ok_run([ tao_openssl(qw(req -new -subj /CN=responder -key), $responder, '-out', "$dir/ocsp.csr") ], 'a request for it');
	$ca->sign("$dir/ocsp.csr", "$dir/ocsp.pem", qw(-extensions responder));
	for my $use ([ 'the responder', "$dir/ocsp.pem", $responder ], [ 'the CA itself', $ca->{cert}, $key ]) {
		my ($who, $cert, $rkey) = @$use;
		my $port = free_port();
		my $server = spawn(tao_openssl(qw(ocsp -index), "$ca->{dir}/index", '-port', $port, '-rsigner', $cert, '-rkey', $rkey, '-CA', $ca->{cert}, '-nmin', 5));
		ok($server->wait_for_line(qr/waiting for OCSP client connections/i, 20), "$what: openssl ocsp -rkey, $who") or diag($server->log);
		my @ask = ($openssl, qw(ocsp -issuer), $ca->{cert}, '-CAfile', $ca->{cert}, '-url', "http://127.0.0.1:$port", '-cert');
		for my $case ([ good => qr/good\.pem: good/ ], [ bad => qr/bad\.pem: revoked/ ]) {
			my $r = ok_run([ @ask, "$dir/$case->[0].pem" ], "$what, $who: a query");
			like($r->{out}, $case->[1], "is answered: $case->[0]");
			like($r->{err}, qr/Response verify OK/, 'and the answer verifies');
		}
		$server->stop;
	}
	my $der = "$dir/ocsp.der";
	ok_run([ $openssl, qw(ocsp -no_nonce -issuer), $ca->{cert}, '-cert', "$dir/good.pem", '-reqout', $der ], 'a query in a file');
	ok_run([ tao_openssl(qw(ocsp -index), "$ca->{dir}/index", '-rsigner', "$dir/ocsp.pem", '-rkey', $responder, '-CA', $ca->{cert}, '-reqin', $der, '-respout', "$dir/resp.der") ],
		"$what: answered without a network");
	like(run($openssl, qw(ocsp -no_nonce -respin), "$dir/resp.der", '-issuer', $ca->{cert}, '-cert', "$dir/good.pem", '-CAfile', $ca->{cert})->{out}, qr/good\.pem: good/, 'verifies');
}

# --- CMS and S/MIME, with certificates of that CA: signed, encrypted, both

my $ca = ca_new("$dir/mail", 'Mail')->self_signed;
for ([ 'rsa2048', 'any', 'server' ], [ 'p256', 'any', 'server' ], [ 'p384', 'any', 'server' ]) {
	my ($type, $purpose) = @$_;
	my $name = "mail-$type";
	ok_run(tao('key', 'new', $name, '--type', $type, '--purpose', $purpose, '--for', $openssl), "$name: a key");
	ok_run(tao('cert', 'request', $name, '--subject', "/CN=$name/emailAddress=a\@example.test", '--out', "$dir/$name.csr"), 'a request');
	ok_run([ $openssl, qw(ca -batch -notext -config), $ca->{conf}, '-extensions', 'mail', '-extfile', spew("$dir/mail.ext",
		"[mail]\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature" . ($type =~ /rsa/ ? ',keyEncipherment' : ',keyAgreement') .
		"\nextendedKeyUsage=emailProtection\nsubjectKeyIdentifier=hash\n"), '-in', "$dir/$name.csr", '-out', "$dir/$name.crt" ], 'signed');
	ok_run(tao('cert', 'import', $name, "$dir/$name.crt"), 'and imported');
	for my $key ("tao:$name", stub($name)) {
		my $what = "$name, " . ($key =~ /^tao:/ ? 'URI' : 'stub');
		for my $program ('cms', $type =~ /rsa/ ? 'smime' : ()) { # PKCS#7 encrypts to RSA alone
			my @mail = qw(-from a@example.test -to b@example.test -subject hello);
			ok_run([ tao_openssl($program, qw(-sign -text -signer), "$dir/$name.crt", '-inkey', $key, @mail, '-in', "$dir/msg", '-out', "$dir/signed") ], "$what: $program -sign");
			like(slurp("$dir/signed"), qr{^Content-Type: multipart/signed; protocol="application/(?:x-)?pkcs7-signature"}m, 'a signed mail');
			like(ok_run([ $openssl, $program, qw(-verify -text -CAfile), $ca->{cert}, '-in', "$dir/signed" ], 'verifies')->{out}, qr/to be signed/, 'gives the text');
			spew("$dir/forged", slurp("$dir/signed") =~ s/to be signed/to be forged/r);
			isnt(run($openssl, $program, qw(-verify -text -CAfile), $ca->{cert}, '-in', "$dir/forged")->{status}, 0, 'not another text');
			ok_run([ $openssl, $program, qw(-encrypt -aes256 -text), @mail, '-in', "$dir/msg", '-out', "$dir/box", "$dir/$name.crt" ], "$what: $program -encrypt");
			like(ok_run([ tao_openssl($program, qw(-decrypt -text -recip), "$dir/$name.crt", '-inkey', $key, '-in', "$dir/box") ], 'decrypts')->{out},
				qr/to be signed/, 'to the text');
			isnt(run(tao_openssl($program, qw(-decrypt -text -recip), "$dir/$name.crt", '-inkey', 'tao:ca-p256', '-in', "$dir/box"))->{status}, 0, 'not with another key');
		}
		ok_run([ tao_openssl(qw(cms -sign -nodetach -md sha384 -signer), "$dir/$name.crt", '-inkey', $key, '-in', "$dir/msg", '-outform', 'DER', '-out', "$dir/opaque") ], "$what: opaque, SHA-384");
		ok_run([ $openssl, qw(cms -verify -inform DER -CAfile), $ca->{cert}, '-in', "$dir/opaque", '-out', '/dev/null' ], 'verifies');
	}
}
for my $oaep ([], [qw(-keyopt rsa_padding_mode:oaep)], [qw(-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256)]) {
	ok_run([ $openssl, qw(cms -encrypt -aes128 -in), "$dir/msg", '-out', "$dir/box", '-recip', "$dir/mail-rsa2048.crt", @$oaep ], "cms -encrypt @$oaep");
	like(ok_run([ tao_openssl(qw(cms -decrypt -inkey tao:mail-rsa2048 -recip), "$dir/mail-rsa2048.crt", '-in', "$dir/box") ], 'decrypts')->{out}, qr/to be signed/, 'to the text');
}

# --- DTLS 1.2, both sides with sealed keys


my $n = 0;
for my $type (qw(p256 rsa2048)) {
	ok_run(tao('key', 'new', "dtls-$type", '--type', $type, qw(--purpose tls --for), $openssl), "a $type key for DTLS");
	ok_run(tao('cert', 'request', "dtls-$type", qw(--dns localhost --out), "$dir/dtls.csr"), 'a request');
	$ca->sign("$dir/dtls.csr", "$dir/dtls-$type.crt");
	ok_run(tao('cert', 'import', "dtls-$type", "$dir/dtls-$type.crt"), 'imported');
	for my $key ("tao:dtls-$type", stub("dtls-$type")) {
		my $what = "DTLS 1.2, $type, " . ($key =~ /^tao:/ ? 'URI' : 'stub');
		my ($port, $says) = (free_port(), "$dir/says" . $n++);
		mkfifo($says, 0600) or die "$says: $!\n";
		# s_server has no -rev with DTLS: it says what it reads, as often as a client may need it. Who
		# writes that ends when nobody reads any more.
		my @cmd = tao_openssl(qw(s_server -dtls1_2 -accept), "127.0.0.1:$port", '-cert', "$dir/dtls-$type.crt", '-key', $key,
			qw(-Verify 1 -verify_return_error -CAfile), $ca->{cert});
		my $server = spawn('/bin/sh', '-c', 'while echo from-the-server; do sleep 1; done >"$0" & exec "$@" <"$0"', $says, @cmd);
		ok($server->wait_for_line(qr/ACCEPT/, 20), "$what: s_server") or diag($server->log);
		my $said = talk("attested\n", qr/^from-the-server$/m, tao_openssl(qw(s_client -dtls1_2 -connect), "127.0.0.1:$port", '-cert', "$dir/dtls-$type.crt",
			'-key', $key, qw(-verify_hostname localhost -verify_return_error -ign_eof -CAfile), $ca->{cert}));
		like($said, qr/^from-the-server$/m, "$what: data to the client") or diag($said, $server->log);
		ok($server->wait_for_line(qr/^attested$/m, 20), "$what: and to the server") or diag($server->log);
		like($said, qr/Protocol\s*:\s*DTLSv1\.2/, "$what: is what it is");
		like($said, qr/Peer signature type: (?:ECDSA|ecdsa|RSA|rsa)/i, "$what: the server signed");
		like($server->log, qr/verify return:1/, "$what: the server verified the client");
		$server->stop;
	}
}

done_testing();
