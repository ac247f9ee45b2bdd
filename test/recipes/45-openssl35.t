# What OpenSSL 3.5 adds: ML-DSA keys, in the openssl command and in TLS 1.3, and
# the message-signing interface. With an older OpenSSL the host refuses such keys
# and says why.
use strict;
use warnings;
use Test::More;
use TaoNginx;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
my $dir = tmpdir();
my $policy = $host->dir . '/policy.pem';
my @levels = qw(44 65 87);
my ($version) = run($openssl, 'version')->{out} =~ /^OpenSSL (\d+\.\d+)/;

if ($version < 3.5) {
	fails_with([$host->cmd('key', 'new', 'pq', '--type', "ml-dsa-$_", '--for', $openssl)],
		qr/need OpenSSL 3\.5 or later, and this host runs with OpenSSL $version/, "ml-dsa-$_ is refused, with the reason") for @levels;
	like(run($host->cmd(qw(key list --json)))->{out}, qr/^\[\]$/, 'no such key is left');
	ok_run([$host->cmd(qw(key new ec --for), $openssl)], 'another type is made');
	diag("OpenSSL $version: ML-DSA and the message-signing interface are of 3.5");
	done_testing();
	exit 0;
}

spew("$dir/msg", "to be signed\n");
spew("$dir/long", "to be signed, at length\n" x 100_000);
spew("$dir/other", "to be signed?\n");
ok_run([$host->cmd('trust', $openssl, '--serves', 'localhost')], 'tao trust');
sub tao_openssl { return $host->cmd('run', '--quiet', '--', $openssl, @_) }
sub log_of { return scalar(() = run($host->cmd('log', '10000'))->{out} =~ /Tao.Sign key=\Q$_[0]\E/g) }

# Signed with a sealed key, verified by OpenSSL alone.
sub signs {
	my ($key, $pub, $file, @opt) = @_;
	ok_run([tao_openssl(qw(pkeyutl -sign -rawin -inkey), $key, '-in', "$dir/$file", '-out', "$dir/sig", @opt)], "$key signs $file @opt");
	my @verify = ($openssl, qw(pkeyutl -verify -rawin -pubin -inkey), $pub, '-sigfile', "$dir/sig", @opt);
	ok_run([@verify, '-in', "$dir/$file"], 'verifies');
	isnt(run(@verify, '-in', "$dir/other")->{status}, 0, 'not over another message');
}

sub tls {
	my ($key, $level) = @_;
	my $port = free_port();
	my $server = spawn(tao_openssl(qw(s_server -tls1_3 -accept), "127.0.0.1:$port", '-cert', "tao:$key", '-key', "tao:$key",
		qw(-Verify 1 -verify_return_error -rev -CAfile), $policy));
	ok($server->wait_for_line(qr/ACCEPT/, 20), "$key: s_server is up") or diag $server->log;
	my $said = talk("abc\n", qr/cba$/, tao_openssl(qw(s_client -tls1_3 -connect), "127.0.0.1:$port", '-cert', "tao:$key",
		'-key', "tao:$key", qw(-verify_return_error -verify_hostname localhost -ign_eof -CAfile), $policy));
	like($said, qr/cba$/m, "$key: TLS 1.3, data comes back") or diag($said, $server->log);
	like($said, qr/^Peer signature type: mldsa$level$/m, 'the server signed with ML-DSA');
	like($server->log, qr/^Signature type: mldsa$level$/m, 'and so did the client');
	$server->stop;
}

for my $level (@levels) {
	for my $custody (qw(host program)) {
		my $key = "$custody-$level";
		ok_run([$host->cmd('key', 'new', $key, '--type', "ml-dsa-$level", '--custody', $custody, '--for', $openssl)], "$key: tao key new");
		my $pub = ok_run([tao_openssl('pkey', '-pubout', '-in', "tao:$key")], "$key: pkey -pubout")->{out};
		spew("$dir/$key.pub", $pub);
		like(ok_run([tao_openssl(qw(pkey -noout -text -in), "tao:$key")], 'pkey -text')->{out},
			qr/Tao Private-Key: $key.*ML-DSA-$level Public-Key/s, 'says what it is');
		my $stub = $host->dir . "/keys/$>/$key.pem";
		is(ok_run([tao_openssl('pkey', '-pubout', '-in', $stub)], 'the stub reads')->{out}, $pub, 'as the same key');
		unlike(run(tao_openssl(qw(pkey -outform DER -in), "tao:$key"))->{out}, qr/./s, 'and gives nothing private');
		signs("tao:$key", "$dir/$key.pub", 'msg');
		signs($stub, "$dir/$key.pub", 'long');
		signs("tao:$key", "$dir/$key.pub", 'msg', qw(-pkeyopt context-string:ours));
		fails_with([tao_openssl(qw(pkeyutl -sign -rawin -inkey), "tao:$key", '-in', "$dir/msg", qw(-pkeyopt deterministic:1))],
			qr/hedged/, 'not deterministically');
		tls($key, $level);
		my $n = log_of($key);
		$custody eq 'host' ? cmp_ok($n, '>', 3, "the host made $n signatures") : is($n, 0, 'the host made no signature');
	}
	my $key = "host-$level";
	ok_run([tao_openssl(qw(req -new -subj /CN=example.org -key), "tao:$key", '-out', "$dir/csr")], "$key: req -new");
	ok_run([$openssl, qw(req -verify -noout -in), "$dir/csr"], 'the request verifies');
	ok_run([tao_openssl(qw(req -x509 -days 1 -subj /CN=x -key), "tao:$key", '-out', "$dir/self")], 'req -x509');
	ok_run([$openssl, 'verify', '-CAfile', "$dir/self", "$dir/self"], 'the certificate verifies');
	# CMS of OpenSSL 3.5 has to be told the digest of its attributes, with a key in a file as well.
	ok_run([tao_openssl(qw(cms -sign -md sha512 -signer), "tao:$key", '-inkey', "tao:$key", '-in', "$dir/msg", '-out', "$dir/cms")], 'cms -sign');
	ok_run([$openssl, qw(cms -verify -purpose any -CAfile), $policy, '-in', "$dir/cms", '-out', '/dev/null'], 'cms -verify');
	ok_run([tao_openssl(qw(genpkey -propquery provider=tao -algorithm), "ML-DSA-$level", '-pkeyopt', "tao-name:gen-$level", '-out',
		"$dir/gen.pem")], 'genpkey');
	like(slurp("$dir/gen.pem"), qr/^-----BEGIN TAO PRIVATE KEY-----/, 'writes a stub');
	signs("$dir/gen.pem", do { spew("$dir/gen.pub", run(tao_openssl('pkey', '-pubout', '-in', "$dir/gen.pem"))->{out}) }, 'msg');
}

# --- an application that has never heard of it: nginx, with the stub for its key

SKIP: {
	my ($nginx) = grep { -x } '/usr/sbin/nginx', '/usr/bin/nginx';
	skip 'nginx is not installed', 1 if !defined $nginx;
	skip 'nginx clears the environment of its workers, and with it the sanitizers\' runtime', 1 if config('TAO_ASAN');
	ok_run([$host->cmd(qw(key new web --type ml-dsa-65 --for), $nginx)], 'a key for nginx');
	ok_run([$host->cmd('trust', $nginx, qw(--serves localhost))], 'trusted');
	my $port = free_port();
	my $conf = nginx_conf("$dir/nginx", $port, $host->dir . "/certs/$>/web.pem", $host->dir . "/keys/$>/web.pem",
		{ main => 'daemon off;', says => "told\n" });
	my $server = spawn($host->cmd('run', '--quiet', '--', $nginx, '-c', $conf, '-e', "$dir/nginx/error.log"));
	ok(wait_for(sub { -s "$dir/nginx/pid" || !$server->alive }, 20), 'nginx starts') or diag $server->log;
	my $said = talk("GET / HTTP/1.0\r\n\r\n", qr/^(?:told|closed)/m, $openssl, qw(s_client -tls1_3 -connect), "127.0.0.1:$port",
		qw(-verify_return_error -verify_hostname localhost -ign_eof -CAfile), $policy);
	like($said, qr/^told$/m, 'and serves') or diag($said, $server->log);
	like($said, qr/^Peer signature type: mldsa65$/m, 'signing with ML-DSA');
	$server->stop('QUIT');
}

# --- purposes

ok_run([$host->cmd(qw(key new only13 --type ml-dsa-65 --purpose tls13 --for), $openssl)], 'a key for TLS 1.3 alone');
tls('only13', 65);
fails_with([tao_openssl(qw(pkeyutl -sign -rawin -inkey tao:only13 -in), "$dir/$_", '-out', "$dir/sig")], qr/TLS 1\.3/,
	"it does not sign $_") for qw(msg long);
fails_with([$host->cmd(qw(key new no --type ml-dsa-65 --purpose decrypt --for), $openssl)], qr/cannot serve the purpose/, 'ML-DSA does not decrypt');

# --- from elsewhere, and another generation

ok_run([$openssl, qw(genpkey -algorithm ML-DSA-65 -out), "$dir/file.pem"], 'a key in a file');
ok_run([$host->cmd(qw(key import file), "$dir/file.pem", '--for', $openssl)], 'is imported');
is(ok_run([tao_openssl(qw(pkey -pubout -in tao:file))], 'and used')->{out}, run($openssl, qw(pkey -pubout -in), "$dir/file.pem")->{out},
	'as the same key');
ok_run([$openssl, qw(pkey -pubout -in), "$dir/file.pem", '-out', "$dir/file.pub"], 'its public half');
signs('tao:file', "$dir/file.pub", 'msg');
ok_run([$openssl, qw(pkey -provparam ml-dsa.output_formats=priv-only -in), "$dir/file.pem", '-out', "$dir/seedless.pem"], 'a key without its seed');
fails_with([$host->cmd(qw(key import seedless), "$dir/seedless.pem", '--for', $openssl)], qr/seed/, 'is refused');
ok_run([$host->cmd(qw(key rotate host-65))], 'another generation');
isnt(run(tao_openssl(qw(pkey -pubout -in tao:host-65)))->{out}, slurp("$dir/host-65.pub"), 'is another key');

# --- signing messages: EVP_PKEY_sign_message_init() and what belongs to it

my $tool = tool('messages');
my %type = (ec => 'p256', rsa => 'rsa2048', ed => 'ed25519', pq => 'ml-dsa-65');
ok_run([$host->cmd('key', 'new', "m-$_", '--type', $type{$_}, '--for', $tool)], "a key m-$_ for it") for sort keys %type;
for (
	(map { [ 'ec', "ECDSA-SHA$_", qw(stream whole raw) ] } qw(256 384 512)),
	(map { [ 'rsa', "RSA-SHA$_", qw(stream whole raw) ] } qw(256 384 512)),
	[ 'ed', 'ED25519', 'whole' ],
	[ 'pq', 'ML-DSA-65', qw(stream whole context) ],
) {
	my ($key, $algorithm, @modes) = @$_;
	my $r = ok_run([$host->cmd('run', '--quiet', '--', $tool, "tao:m-$key", $algorithm, @modes)], "$algorithm: @modes");
	is($r->{out}, join('', map { "$_ yes yes no no\n" } @modes), 'verified by both, another message by none') or diag $r->{err};
}
for (qw(p256 rsa2048 ed25519)) {
	ok_run([$host->cmd('key', 'new', "raw-$_", '--type', $_, '--for', $openssl)], "a key raw-$_");
	spew("$dir/raw.pub", run(tao_openssl('pkey', '-pubout', '-in', "tao:raw-$_"))->{out});
	signs("tao:raw-$_", "$dir/raw.pub", $_ eq 'ed25519' ? 'msg' : 'long');
}

# --- EVP_SKEY: a key that the host derives for the program, used by TAO-AES-256-GCM

my $skey = tool('skey');
my $copy = "$dir/skey-copy";
spew($copy, slurp($skey) . 'x');
chmod 0755, $copy;
sub skey { my $program = shift; return $host->cmd('run', '--quiet', '--', $program, @_) }
my $box = ok_run([skey($skey, qw(encrypt disk program), 'a text to be kept')], 'encrypts')->{out};
chomp $box;
unlike($box, qr/6120746578742074/, 'the text is not in it');
is(ok_run([skey($skey, qw(decrypt disk program), $box)], 'another instance decrypts')->{out}, "a text to be kept\n", 'to the text');
isnt(run(skey($skey, qw(encrypt disk program), 'a text to be kept'))->{out}, "$box\n", 'each time with another IV');
isnt(run(skey($skey, qw(decrypt other program), $box))->{status}, 0, 'another label does not');
isnt(run(skey($copy, qw(decrypt disk program), $box))->{status}, 0, 'nor another program');
isnt(run(skey($skey, qw(decrypt disk -), $box))->{status}, 0, 'nor the same one with the default policy, which counts its arguments');
is(ok_run([skey($copy, qw(decrypt disk host), run(skey($skey, qw(encrypt disk host), 'for all'))->{out} =~ s/\n//r)],
	'with policy host another program decrypts')->{out}, "for all\n", 'to the text');
my $r = ok_run([skey($skey, qw(refusals disk program), $box)], 'what must not work');
is($r->{out}, '', 'does not');
like($r->{err}, qr/has no bytes to give or take/, 'and it says why');
fails_with([$skey, qw(encrypt disk program x)], qr/not started with 'tao run'/, 'outside tao run there is no key',
	{ env => { %{ preload_env() }, OPENSSL_CONF => $host->dir . '/openssl.cnf' } });

done_testing();
