# Every type of key in the openssl command, inside `tao run`, against the real
# host: what a file key can do, a sealed one does too. Each result is checked by OpenSSL alone.
use strict;
use warnings;
use JSON::PP;
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
my $dir = tmpdir();
my $policy = $host->dir . '/policy.pem';
spew("$dir/msg", "to be signed\n");
spew("$dir/other", "to be signed?\n");
ok_run([$host->cmd('trust', $openssl, '--serves', 'localhost')], 'tao trust');

sub tao_openssl { return $host->cmd('run', '--quiet', '--', $openssl, @_) }

# What `tao key new --type` calls it, as genpkey makes it, and how it signs.
my @types = (
	{ type => 'p256', gen => [qw(EC -pkeyopt group:P-256)], digests => [qw(sha256 sha384 sha512)] },
	{ type => 'p384', gen => [qw(EC -pkeyopt group:P-384)], digests => [qw(sha256 sha384 sha512)] },
	{ type => 'p521', gen => [qw(EC -pkeyopt group:secp521r1)], digests => [qw(sha256 sha384 sha512)] },
	{ type => 'rsa2048', gen => [qw(RSA -pkeyopt rsa_keygen_bits:2048)], rsa => 1 },
	{ type => 'rsa3072', gen => [qw(RSA -pkeyopt rsa_keygen_bits:3072)], rsa => 1 },
	{ type => 'ed25519', gen => ['ED25519'] },
);
my @pkcs1 = map { [ $_, [] ] } qw(sha256 sha384 sha512);
my @pss = (
	[ 'sha256', [] ], # the longest salt
	(map { [ 'sha256', [ '-sigopt', "rsa_pss_saltlen:$_" ] ] } qw(digest max 0 20)),
	[ 'sha384', [qw(-sigopt rsa_pss_saltlen:digest)] ],
	[ 'sha512', [qw(-sigopt rsa_pss_saltlen:digest)] ],
	[ 'sha256', [qw(-sigopt rsa_pss_saltlen:digest -sigopt rsa_mgf1_md:sha384)] ],
);

# dgst -sign in the host, dgst -verify outside; then over another message.
sub signs {
	my ($key, $digest, @opt) = @_;
	my $what = join ' ', $key, $digest, @opt;
	ok_run([tao_openssl('dgst', "-$digest", @opt, '-sign', "tao:$key", '-out', "$dir/sig", "$dir/msg")], "$what: signs");
	my @verify = ($openssl, 'dgst', "-$digest", @opt, '-verify', "$dir/$key.pub", '-signature', "$dir/sig");
	ok_run([@verify, "$dir/msg"], "$what: verifies");
	ok_run([tao_openssl('dgst', "-$digest", @opt, '-verify', "$dir/$key.pub", '-signature', "$dir/sig", "$dir/msg")],
		"$what: inside tao run too");
	isnt(run(@verify, "$dir/other")->{status}, 0, "$what: not over another message");
}

sub tls {
	my ($key, $version, @opt) = @_;
	my $port = free_port();
	my $server = spawn(tao_openssl('s_server', "-tls$version", '-accept', "127.0.0.1:$port",
		'-cert', "tao:$key", '-key', "tao:$key", qw(-Verify 1 -verify_return_error -rev -CAfile), $policy));
	ok($server->wait_for_line(qr/ACCEPT/, 20), "$key: s_server -tls$version is up") or diag $server->log;
	my $said = talk("abc\n", qr/cba$/, tao_openssl('s_client', "-tls$version", '-connect', "127.0.0.1:$port", '-cert', "tao:$key",
		'-key', "tao:$key", qw(-verify_return_error -verify_hostname localhost -ign_eof -CAfile), $policy, @opt));
	like($said, qr/cba$/m, "$key, TLS $version: both signed, data comes back") or diag($said, $server->log);
	$server->stop;
}

for my $t (@types) {
	my $key = $t->{type};
	ok_run([$host->cmd('key', 'new', $key, '--type', $key, '--for', $openssl)], "$key: tao key new");
	my $pub = ok_run([tao_openssl('pkey', '-pubout', '-in', "tao:$key")], "$key: pkey -pubout")->{out};
	spew("$dir/$key.pub", $pub);
	like(ok_run([tao_openssl('pkey', '-noout', '-text', '-in', "tao:$key")], "$key: pkey -text")->{out},
		qr/Tao Private-Key: $key/, "$key: says what it is");
	like(ok_run([tao_openssl('pkey', '-in', "tao:$key", '-out', "$dir/$key.pem", '-text')], "$key: pkey -out")
		&& slurp("$dir/$key.pem"), qr/BEGIN TAO PRIVATE KEY/, "$key: the stub");
	is(ok_run([tao_openssl('pkey', '-pubout', '-in', "$dir/$key.pem")], "$key: which reads")->{out}, $pub, "$key: the same key");

	signs($key, @{$_}[0], @{ $_->[1] }) for $t->{rsa} ? @pkcs1 : map { [ $_, [] ] } @{ $t->{digests} // [] };
	signs($key, $_->[0], qw(-sigopt rsa_padding_mode:pss), @{ $_->[1] }) for $t->{rsa} ? @pss : ();
	if ($key eq 'ed25519') {
		ok_run([tao_openssl(qw(pkeyutl -sign -rawin -inkey tao:ed25519 -in), "$dir/msg", '-out', "$dir/sig")], 'ed25519: pkeyutl -rawin');
		ok_run([$openssl, qw(pkeyutl -verify -rawin -pubin -inkey), "$dir/$key.pub", '-in', "$dir/msg", '-sigfile', "$dir/sig"], 'verifies');
		isnt(run($openssl, qw(pkeyutl -verify -rawin -pubin -inkey), "$dir/$key.pub", '-in', "$dir/other", '-sigfile', "$dir/sig")->{status},
			0, 'not over another message');
	}

	ok_run([tao_openssl(qw(req -new -subj /CN=example.org -key), "tao:$key", '-out', "$dir/csr")], "$key: req -new");
	ok_run([$openssl, qw(req -verify -noout -in), "$dir/csr"], "$key: the request verifies");
	ok_run([tao_openssl(qw(req -x509 -days 1 -subj /CN=x -key), "tao:$key", '-out', "$dir/self")], "$key: req -x509");
	ok_run([$openssl, 'verify', '-CAfile', "$dir/self", "$dir/self"], "$key: the certificate verifies");
	if ($key ne 'ed25519') { # CMS of OpenSSL 3.0 wants a digest
		ok_run([tao_openssl(qw(cms -sign -signer), "tao:$key", '-inkey', "tao:$key", '-in', "$dir/msg", '-out', "$dir/cms")], "$key: cms -sign");
		ok_run([$openssl, qw(cms -verify -purpose any -CAfile), $policy, '-in', "$dir/cms", '-out', '/dev/null'], "$key: cms -verify");
	}
	tls($key, '1_3');
	tls($key, '1_2');
}

# --- RSA's two faces in TLS and CMS

tls('rsa2048', '1_2', qw(-sigalgs rsa_pkcs1_sha256));
tls('rsa2048', '1_2', qw(-sigalgs rsa_pss_rsae_sha384));
tls('rsa2048', '1_3', qw(-sigalgs rsa_pss_rsae_sha512));
tls('rsa2048', '1_2', qw(-cipher AES128-GCM-SHA256)); # the client encrypts to the key
fails_with([tao_openssl(qw(pkeyutl -sign -inkey tao:rsa2048 -out), "$dir/sig", '-in', "$dir/msg")], qr/key rsa2048: none was given, say which/,
	'rsa2048: what is signed is always a digest, and has to be said');
fails_with([tao_openssl(qw(pkeyutl -sign -inkey tao:rsa2048 -pkeyopt digest:sha256 -out), "$dir/sig", '-in', "$dir/msg")],
	qr/13 bytes are no digest by SHA2-256, which has 32/, 'rsa2048: and be one');
ok_run([tao_openssl(qw(cms -sign -signer tao:rsa2048 -inkey tao:rsa2048 -keyopt rsa_padding_mode:pss -in), "$dir/msg", '-out', "$dir/cms")],
	'rsa2048: cms -sign with PSS');
ok_run([$openssl, qw(cms -verify -purpose any -CAfile), $policy, '-in', "$dir/cms", '-out', '/dev/null'], 'verifies');

fails_with([tao_openssl(qw(rsa -aes256 -passout pass:x -in tao:rsa2048))], qr/holds no secret: write it without cipher/,
	'rsa2048: a stub is not written as if it were encrypted, also for who does not look whether that was accepted');
like(ok_run([tao_openssl(qw(rsa -in tao:rsa2048))], 'rsa2048: openssl rsa')->{out}, qr/^-----BEGIN TAO PRIVATE KEY-----/, 'writes the stub');

# --- restricted RSA-PSS

ok_run([$host->cmd(qw(key new pss --type rsa-pss-2048 --for), $openssl)], 'an RSA-PSS key');
spew("$dir/pss.pub", ok_run([tao_openssl(qw(pkey -pubout -in tao:pss))], 'its public half')->{out});
signs('pss', 'sha256');
fails_with([tao_openssl(qw(dgst -sha256 -sigopt rsa_padding_mode:pkcs1 -sign tao:pss -out), "$dir/sig", "$dir/msg")],
	qr/RSA key|padding/, 'PKCS#1 v1.5 with it is refused');
tls('pss', '1_3');

# --- decryption

for my $key (qw(rsa2048 rsa3072)) {
	my $dkey = "d$key";
	ok_run([$host->cmd('key', 'new', $dkey, '--type', $key, qw(--purpose decrypt --for), $openssl)], "$dkey: for decryption");
	spew("$dir/$dkey.pub", ok_run([tao_openssl('pkey', '-pubout', '-in', "tao:$dkey")], 'its public half')->{out});
	for my $opt ([], [qw(-pkeyopt rsa_padding_mode:oaep)], [qw(-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256)],
		[qw(-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha384)],
		[qw(-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_label:7461)]) {
		ok_run([$openssl, qw(pkeyutl -encrypt -pubin -inkey), "$dir/$dkey.pub", @$opt, '-in', "$dir/msg", '-out', "$dir/box"], "$dkey: encrypted @$opt");
		is(ok_run([tao_openssl(qw(pkeyutl -decrypt -inkey), "tao:$dkey", @$opt, '-in', "$dir/box")], 'decrypts')->{out},
			"to be signed\n", 'to the message');
	}
	fails_with([tao_openssl(qw(dgst -sha256 -sign), "tao:$dkey", '-out', "$dir/sig", "$dir/msg")], qr/purpose/, "$dkey: does not sign");
}
fails_with([tao_openssl(qw(pkeyutl -decrypt -inkey tao:drsa2048 -pkeyopt rsa_padding_mode:none -in), "$dir/box")],
	qr/OAEP and PKCS#1/, 'raw decryption is refused');

# --- agreement: each side's secret is the other's

for ([ 'p256', qw(EC -pkeyopt group:P-256) ], [ 'p384', qw(EC -pkeyopt group:P-384) ], [ 'p521', qw(EC -pkeyopt group:P-521) ],
	[ 'x25519', 'X25519' ]) {
	my ($type, @gen) = @$_;
	my $key = "a$type";
	ok_run([$host->cmd('key', 'new', $key, '--type', $type, qw(--purpose decrypt --for), $openssl)], "$key: for agreement");
	spew("$dir/$key.pub", ok_run([tao_openssl('pkey', '-pubout', '-in', "tao:$key")], 'its public half')->{out});
	ok_run([$openssl, 'genpkey', '-algorithm', @gen, '-out', "$dir/peer"], 'a peer');
	ok_run([$openssl, qw(pkey -pubout -in), "$dir/peer", '-out', "$dir/peer.pub"], 'its public half');
	ok_run([tao_openssl(qw(pkeyutl -derive -inkey), "tao:$key", '-peerkey', "$dir/peer.pub", '-out', "$dir/ours")], "$key: derives");
	ok_run([$openssl, qw(pkeyutl -derive -inkey), "$dir/peer", '-peerkey', "$dir/$key.pub", '-out', "$dir/theirs"], 'so does the peer');
	is(unpack('H*', slurp("$dir/ours")), unpack('H*', slurp("$dir/theirs")), "$key: the same secret");
}

# --- CMS to a sealed key, by RSA and by ECDH

for my $key (qw(drsa2048 ap256)) {
	ok_run([$openssl, qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout), "$dir/ca.key", '-out', "$dir/ca.pem"], 'a CA');
	ok_run([$openssl, qw(x509 -new -subj /CN=to -CA), "$dir/ca.pem", '-CAkey', "$dir/ca.key", '-force_pubkey', "$dir/$key.pub", '-out', "$dir/to.pem"],
		"$key: a certificate of another CA");
	ok_run([$openssl, qw(cms -encrypt -aes128 -in), "$dir/msg", '-out', "$dir/cms", "$dir/to.pem"], 'cms -encrypt');
	like(ok_run([tao_openssl(qw(cms -decrypt -inkey), "tao:$key", '-recip', "$dir/to.pem", '-in', "$dir/cms")], 'cms -decrypt')->{out},
		qr/to be signed/, "$key: the message");
}

# --- custody program: used in the application, by URI and by stub, without a request for each use

sub made_by_host { my ($key) = @_; return scalar(() = run($host->cmd('log', '10000'))->{out} =~ /Tao\.Sign key=\Q$key\E:/g) }
cmp_ok(made_by_host('p256'), '>', 0, 'the log tells of the signatures that the host makes');
for my $t (@types, { type => 'rsa-pss-2048' }) {
	my $key = "c$t->{type}";
	ok_run([$host->cmd('key', 'new', $key, '--type', $t->{type}, qw(--custody program --for), $openssl)], "$key: for use in the program");
	spew("$dir/$key.pub", ok_run([tao_openssl('pkey', '-pubout', '-in', "tao:$key")], 'its public half')->{out});
	tls($key, '1_3');
	for my $from ("tao:$key", $host->dir . "/keys/$>/$key.pem") {
		my @sign = $t->{type} eq 'ed25519' ? (qw(pkeyutl -sign -rawin -inkey), $from, '-in', "$dir/msg", '-out', "$dir/sig")
		    : (qw(dgst -sha256 -sign), $from, '-out', "$dir/sig", "$dir/msg");
		ok_run([tao_openssl(@sign)], "$key: signs, from $from");
		my @verify = $t->{type} eq 'ed25519'
		    ? (qw(pkeyutl -verify -rawin -pubin -inkey), "$dir/$key.pub", '-in', "$dir/msg", '-sigfile', "$dir/sig")
		    : (qw(dgst -sha256 -verify), "$dir/$key.pub", '-signature', "$dir/sig", "$dir/msg");
		ok_run([$openssl, @verify], 'verifies');
	}
	is(made_by_host($key), 0, "$key: the host made no signature");
	fails_with([tao_openssl('pkey', '-in', "tao:$key", '-outform', 'DER', '-traditional', '-out', '/dev/null')], qr/private|stub/i,
		"$key: is not exported");
}

# --- made through OpenSSL

for my $t (@types, { type => 'x25519', gen => ['X25519'] }, { type => 'rsa-pss-2048', gen => [qw(RSA-PSS)] }) {
	my $name = "gen-$t->{type}";
	my $r = ok_run([tao_openssl('genpkey', '-propquery', 'provider=tao', '-algorithm', @{ $t->{gen} }, '-pkeyopt', "tao-name:$name",
		'-out', "$dir/gen.pem")], "genpkey: $t->{type}", { timeout => 60 });
	like(slurp("$dir/gen.pem"), qr/^-----BEGIN TAO PRIVATE KEY-----/, 'writes a stub');
	like(run($host->cmd(qw(key list --json)))->{out}, qr/"$name"/, 'the host has the key');
	ok_run([tao_openssl(qw(pkey -noout -in), "$dir/gen.pem")], 'which reads');
}
fails_with([tao_openssl(qw(genpkey -propquery provider=tao -algorithm RSA -pkeyopt rsa_keygen_bits:1024))], qr/2048, 3072 and 4096/,
	'a size that the host does not make');

# A stub that could not be written: the key is there, to be found, written again or deleted.
{
	my @gen = ('genpkey', '-propquery', 'provider=tao', qw(-algorithm ED25519 -pkeyopt tao-name:lost -out));
	my $before = time;
	run(tao_openssl(@gen, '/dev/full'));
	my ($key) = grep { $_->{name} eq 'lost' } @{ decode_json(ok_run([ $host->cmd(qw(key list --json)) ], 'tao key list')->{out}) };
	is($key->{program}, $openssl, 'lists a key whose stub was lost, with its program');
	cmp_ok($key->{created}, '>=', $before, 'and when it was made');
	like(ok_run([ $host->cmd(qw(key list)) ], 'as a table')->{out}, qr/^lost +\S+ +ed25519 .*\Q$openssl\E/m, 'too');
	fails_with([ tao_openssl(@gen, "$dir/gen.pem") ], qr/has a key lost already.*'tao key pem lost' writes its stub/s, 'its name is taken');
	ok_run([ $host->cmd(qw(key pem lost --out), "$dir/lost.pem") ], 'as that says');
	ok_run([ tao_openssl(qw(pkeyutl -sign -rawin -inkey), "$dir/lost.pem", '-in', "$dir/msg", '-out', "$dir/sig") ], 'its stub signs');
	ok_run([ $host->cmd(qw(key delete --yes lost)) ], 'tao key delete');
	unlike(run($host->cmd(qw(key list --json)))->{out}, qr/"lost"/, 'and it is gone');
}

# What an RSA-PSS key is restricted to, in OpenSSL's own words.
{
	my @pss = (qw(genpkey -propquery provider=tao -algorithm RSA-PSS -out), "$dir/gen.pem", '-pkeyopt', 'rsa_pss_keygen_md:sha384');
	ok_run([tao_openssl(@pss, qw(-pkeyopt rsa_pss_keygen_mgf1_md:sha384 -pkeyopt rsa_pss_keygen_saltlen:20))], 'genpkey: a restricted RSA-PSS key');
	my $text = ok_run([tao_openssl(qw(pkey -noout -text -in), "$dir/gen.pem")], 'reads')->{out};
	like($text, qr/Hash Algorithm: sha2?-?384.*Mask Algorithm: mgf1 with sha2?-?384.*Minimum Salt Length: 20/is, 'says which digests, and how long a salt')
	    or diag($text);
	ok_run([tao_openssl(qw(dgst -sha384 -out), "$dir/sig", '-sign', "$dir/gen.pem", "$dir/msg")], 'signs with this digest');
	fails_with([tao_openssl(qw(dgst -sha256 -out), "$dir/sig", '-sign', "$dir/gen.pem", "$dir/msg")],
		qr/restricted RSA-PSS keys one of these.*SHA2-256/, 'and with no other');
	fails_with([tao_openssl(@pss, qw(-pkeyopt rsa_pss_keygen_mgf1_md:sha256))], qr/one digest for the message and for MGF1, not SHA384 and/, 'two digests');
	fails_with([tao_openssl(@pss, qw(-pkeyopt rsa_pss_keygen_saltlen:65))], qr/at most 64 bytes/, 'too long a salt');
	fails_with([tao_openssl(qw(genpkey -propquery provider=tao -algorithm RSA-PSS -pkeyopt rsa_pss_keygen_md:sha1))], qr/digest \(RSA-PSS\)|SHA256/, 'SHA-1');
}
fails_with([tao_openssl(qw(pkeyutl -sign -rawin -digest sha512 -inkey tao:gen-ed25519 -in), "$dir/msg", '-out', "$dir/sig")],
	qr/Ed25519 .*without a digest|not supported with ED25519/, 'Ed25519 with a digest: 3.5 does not ask the provider');

done_testing();
