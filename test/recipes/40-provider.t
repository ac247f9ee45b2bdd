# The provider under OpenSSL's own commands: keys of every form, TLS as server
# and client, and what happens when the host is away or talks nonsense. The
# host is a stand-in (test/tool/fakehost.c), since the real one does not.
use strict;
use warnings;

use Test::More;
use TaoTest;

need_programs('openssl');

my $dir = tmpdir();
my @keys = qw(web bob nocert);
my $log = "$dir/host.log";
my $host;

sub start_fake {
	$host = spawn(tool('fakehost'), $dir, @keys, { log => $log });
	defined $host->wait_for_line(qr/^ready$/m, 20) or BAIL_OUT("fakehost does not start:\n" . $host->log);
}

# The fragment as it is shipped, with lines of a test's own in the provider's section.
sub fragment {
	my ($name, @lines) = @_;
	my $text = slurp(srctop() . '/conf/openssl.cnf.in');
	my $module = module_dir() . '/tao.so';
	$text =~ s/\@MODULE@/$module/g;
	$text =~ s/\@SOCKET@/$dir\/sock/g;
	$text =~ s/^socket = .*$/join "\n", @lines/me if @lines;
	return spew("$dir/$name", $text);
}

start_fake();
my $conf = fragment('openssl.cnf');
my %env = (%{ preload_env() }, OPENSSL_CONF => $conf);
my %plain = (OPENSSL_CONF => '/dev/null');

# OpenSSL with the provider, without it; the work is done in the scratch directory.
sub o { return ok_run([ 'openssl', @{ $_[0] } ], $_[1], { dir => $dir, env => \%env, @_[2 .. $#_] }) }
sub plain { return ok_run([ 'openssl', @{ $_[0] } ], $_[1], { dir => $dir, env => \%plain }) }
sub refused {
	my ($args, $like, $name, %opt) = @_;
	return fails_with([ 'openssl', @$args ], $like, $name, { dir => $dir, env => { %env, %{ $opt{env} // {} } } });
}

# What the host was asked while code ran, without the identification.
sub asked {
	my ($code) = @_;
	my $before = length slurp($log);
	$code->();
	return join ' ', grep { !/Hello|Prove|Tao.Door/ } split /\n/, substr slurp($log), $before;
}

sub mode { spew("$dir/mode", join '', map { "$_\n" } @_) }

spew("$dir/data", "what is signed\n");
my @forms = qw(web.pem web.ref tao:web);

# --- what a key shows

like(o([ 'list', '-providers' ], 'the fragment works')->{out}, qr/^  default\n.*^  tao\n.*status: active/ms,
	'and activates default, then tao');
my $pub = plain([ qw(pkey -in web.key -pubout) ], 'the control')->{out};
for my $key (@forms) {
	is(o([ qw(pkey -pubout -in), $key ], "pkey -pubout: $key")->{out}, $pub, 'the same public key');
	like(o([ qw(pkey -text -noout -in), $key ], "pkey -text: $key")->{out},
		qr/^Tao Private-Key: web, in the Tao host.*NIST CURVE: P-256/ms, 'text');
}
is(o([ qw(pkey -in tao:web) ], 'pkey -in tao:web')->{out}, slurp("$dir/web.pem"), 'writes the stub');
is(o([ qw(pkey -pubin -in tao:web) ], 'pkey -pubin')->{out}, $pub, 'takes a public key from tao:web');
spew("$dir/bom.pem", "\xef\xbb\xbf" . slurp("$dir/web.pem"));
is(o([ qw(pkey -pubout -in bom.pem) ], 'a stub behind the mark that some editors begin a file with')->{out}, $pub, 'is the same key');
o([ qw(pkey -check -noout -in web.pem) ], 'pkey -check');
is(o([ qw(x509 -in tao:web) ], 'x509 -in tao:web')->{out}, slurp("$dir/web.crt"), 'gives the certificate');
is(o([ qw(x509 -in tao:ca) ], 'x509 -in tao:ca')->{out}, slurp("$dir/ca.crt"), 'and the policy certificate');
o([ qw(genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key) ], 'EC keys are still generated');

my %objects = (
	'tao:' => [ ('Name') x 3 ], 'tao:ca' => ['Certificate'],
	'tao:web' => [qw(Pkey Certificate Certificate)], 'TAO:w%65b/key' => ['Pkey'],
	'tao:web/cert' => ['Certificate'], 'tao:web/chain' => ['Certificate'], 'tao:nocert' => ['Pkey'],
	'web.pem' => ['Pkey'], 'web.key' => ['Pkey'],
);
for my $uri (sort keys %objects) {
	my @seen = o([ qw(storeutl -noout), $uri ], "storeutl $uri")->{out} =~ /^\d+: (\w+)/mg;
	is("@seen", "@{ $objects{$uri} }", 'objects');
}
my $names = o([ qw(storeutl -noout -text tao:) ], 'storeutl tao:')->{out};
is(join(' ', $names =~ /^\d+: Name: (\S+)$/mg), 'tao:web tao:bob tao:nocert', 'gives URIs that open');
refused([ qw(storeutl -noout -certs tao:nocert) ], qr/gave this key no certificate/, 'a wanted certificate that is not there');
refused([ qw(storeutl -noout tao:nocert/cert) ], qr/gave this key no certificate/, 'or one by its own URI');
refused([ qw(storeutl -noout tao:other) ], qr/no such Tao key/, 'an unknown key');

# --- signing: verified by OpenSSL alone

for my $key (@forms) {
	for my $digest (qw(sha256 sha384 sha512)) {
		o([ 'dgst', "-$digest", '-sign', $key, '-out', 'sig', 'data' ], "dgst -$digest: $key");
		plain([ 'dgst', "-$digest", qw(-prverify web.key -signature sig data) ], 'verified');
	}
	o([ qw(req -new -subj /CN=x -out req.pem -key), $key ], "req -new: $key");
	plain([ qw(req -verify -noout -in req.pem) ], 'verified');
	o([ qw(req -new -x509 -subj /CN=x -out self.pem -key), $key ], "req -x509: $key");
	plain([ qw(verify -CAfile self.pem self.pem) ], 'verified');
	o([ qw(x509 -req -in req.pem -CA web.crt -set_serial 7 -out leaf.pem -CAkey), $key ], "x509 -req: $key");
	o([ qw(cms -sign -nodetach -in data -outform PEM -out cms.pem -signer), $key =~ /^tao:/ ? $key : 'web.crt', '-inkey', $key ],
		"cms -sign: $key");
	is(plain([ qw(cms -verify -purpose any -inform PEM -in cms.pem -CAfile ca.crt) ], 'verified')->{out} =~ s/\r//gr,
		slurp("$dir/data"), 'the same text');
	o([ qw(pkeyutl -sign -rawin -in data -out sig -inkey), $key ], "pkeyutl -rawin: $key");
	plain([ qw(pkeyutl -verify -rawin -in data -sigfile sig -inkey web.key) ], 'verified');
	o([ qw(dgst -sha256 -signature sig -prverify), $key, 'data' ], 'verified with the Tao key too');
}
plain([ qw(dgst -sha256 -binary -out raw data) ], 'a raw digest');
o([ qw(pkeyutl -sign -in raw -out sig -inkey web.pem) ], 'signed');
plain([ qw(pkeyutl -verify -in raw -sigfile sig -inkey web.key) ], 'verified');

refused([ qw(dgst -sha1 -sign web.pem data) ], qr/ECDSA and RSA keys sign SHA-256, SHA-384 and SHA-512, .*digest SHA1/, 'SHA-1 is refused');
refused([ qw(pkcs12 -export -passout pass:x -inkey web.pem -in web.crt) ], qr/never leaves the Tao host/, 'PKCS#12 is refused');
refused([ qw(ec -in tao:web) ], qr/never leaves the Tao host/, 'the private key in its own format too');
refused([ qw(pkey -aes256 -passout pass:x -in web.pem) ], qr/holds no secret/, 'and a passphrase');

# --- what the host is asked

is(asked(sub { o([ qw(pkey -pubout -in web.pem) ], 'pkey') }), '', 'a stub loads without the host');
like(substr(slurp($log), -9), qr/^Tao\.Door$/m, 'which a process without a door asks for one');
is(asked(sub { o([ qw(pkey -pubout -in tao:web) ], 'pkey') }), 'Tao.GetKey', 'tao: asks for the key only');
is(asked(sub { o([ qw(x509 -noout -in tao:web) ], 'x509') }), 'Tao.GetCertificate', 'or for the certificate only');
is(asked(sub { o([ qw(dgst -sha256 -sign web.pem -out sig data) ], 'dgst') }), 'Tao.Sign', 'one request for a signature');
$host->stop;
start_fake();
is(asked(sub { o([ qw(dgst -sha256 -sign web.pem -out sig data) ], 'dgst') }), 'Tao.Sign Tao.OpenKey Tao.Sign',
	'the stub is sent once to a new host');
is(asked(sub { o([ qw(dgst -sha256 -sign web.ref -out sig data) ], 'dgst') }), 'Tao.GetKey Tao.Sign',
	'a stub without sealed part is looked up');

# --- TLS

spew("$dir/all.pem", slurp("$dir/web.crt") . slurp("$dir/ca.crt") . slurp("$dir/web.pem"));
spew("$dir/lla.pem", "Some text.\n" . slurp("$dir/web.pem") . slurp("$dir/web.crt"));

sub server {
	my ($version, $cert, $key) = @_;
	my $port = free_port();
	my $s = spawn(qw(openssl s_server -rev -naccept 4 -Verify 1 -verify_return_error -CAfile ca.crt), $version,
		'-accept', "127.0.0.1:$port", '-cert', $cert, '-key', $key, { dir => $dir, env => \%env });
	$s->wait_for_line(qr/^ACCEPT/m, 20) // diag($s->log);
	return ($s, $port);
}

sub client {
	my ($port, $key) = @_;
	return run(qw(openssl s_client -ign_eof -CAfile ca.crt -verify_hostname localhost -verify_return_error),
		'-connect', "127.0.0.1:$port", '-cert', 'bob.crt', '-key', $key,
		{ dir => $dir, env => \%env, stdin => "forward\nCLOSE\n", timeout => 20 });
}

# The banner alone would pass although the server could not sign: look at what came after it.
sub handshake_ok {
	my ($s, $port, $key, $name) = @_;
	my $r = client($port, $key);
	my $fine = $r->{out} =~ /^Peer signature type: $ECDSA_TYPE$/m && $r->{out} =~ /Verify return code: 0/
	    && $r->{out} =~ /drawrof/ && $s->wait_for_line(qr/^Peer certificate: CN ?= ?bob\n(?:.*\n)*?Signature type: $ECDSA_TYPE\nVerification: OK/m, 5);
	ok($fine, $name) or diag($r->{out}, $r->{err}, $s->log);
}

for my $version (qw(-tls1_2 -tls1_3)) {
	for my $case ([ 'web.crt', 'web.key', 'bob.key' ], [ 'web.crt', 'web.pem', 'bob.pem' ],
		[ 'tao:web', 'tao:web', 'tao:bob' ], [ 'all.pem', 'all.pem', 'bob.ref' ], [ 'lla.pem', 'lla.pem', 'bob.pem' ]) {
		my ($s, $port) = server($version, @$case[ 0, 1 ]);
		handshake_ok($s, $port, $case->[2], "$version: server $case->[0], $case->[1]; client $case->[2]");
		$s->stop;
	}
}

# --- one server process through the host's bad days

for my $version (qw(-tls1_2 -tls1_3)) {
	my ($s, $port) = server($version, 'web.crt', 'web.pem');
	handshake_ok($s, $port, 'bob.key', "$version: a server");
	mode('Tao.Sign garbage');
	my $r = client($port, 'bob.key');
	ok($r->{out} !~ /drawrof/ && $r->{err} =~ /alert (?:internal error|handshake failure)/, 'a broken answer: an alert')
	    or diag($r->{err});
	ok($s->wait_for_line(qr/the Tao host broke the protocol/, 5), 'and the reason on the server');
	mode();
	$host->stop;
	$r = client($port, 'bob.key');
	ok($r->{out} !~ /drawrof/, 'no host: no handshake');
	ok($s->wait_for_line(qr/the Tao host is not running: start it with 'tao up'/, 5), 'and the reason');
	start_fake();
	handshake_ok($s, $port, 'bob.key', 'a new host: the next handshake succeeds');
	$s->stop;
}

# --- bad answers, each with its reason

my $broke = qr/the Tao host broke the protocol/;
my @sign = qw(dgst -sha256 -out sig -sign);
my $quick = { OPENSSL_CONF => fragment('quick.cnf', "socket = $dir/sock", 'timeout = 400') };
my @bad = (
	[ 'Tao.Sign', 'short', $broke ], [ 'Tao.Sign', 'empty', $broke ], [ 'Tao.Sign', 'long', $broke ],
	[ 'Tao.Sign', 'garbage', $broke ], [ 'Tao.Sign', 'frame', $broke ], [ 'Tao.Sign', 'huge', $broke ],
	[ 'Tao.Sign', 'seq', $broke ], [ 'Tao.Sign', 'bytes 0a00', $broke ],
	[ 'Tao.Sign', 'bytes 0a083006020101020101', qr/^$/ ], # a signature by its form: nobody verifies it
	[ 'Tao.Sign', 'bytes 0a0830060201010201010a', $broke ], [ 'Tao.Sign', 'bytes 0a09300602010102010100', $broke ],
	[ 'Tao.Sign', 'bytes 0a8103' . '30' x 131, $broke ], [ 'Tao.Sign', 'close', qr/not running/ ],
	[ 'Tao.Sign', 'silent', qr/did not answer in time/ ], [ 'Tao.Sign', 'late 900', qr/did not answer in time/ ],
	[ 'Tao.Sign', 'error 24', qr/the key's purpose does not allow this use.*told to fail/ ],
	[ 'Tao.Sign', 'error 23', qr/does not have this key open/ ],
	[ 'Tao.Sign', 'error 99', qr/Tao.*told to fail/i ],
	[ 'Tao.GetKey', 'short', $broke ], [ 'Tao.GetKey', 'empty', $broke ], [ 'Tao.GetKey', 'garbage', $broke ],
	[ 'Tao.GetKey', 'swap', qr/another key|has another key of this name/ ],
	[ 'Tao.GetKey', 'error 18', qr/sealed for another program or user/ ],
	[ 'Tao.Hello', 'garbage', $broke ], [ 'Tao.Hello', 'error 15', qr/not started with 'tao run'/ ],
	[ 'Tao.Prove', 'error 12', qr/may not use the Tao host's socket/ ],
);
for my $case (@bad) {
	my ($op, $how, $like) = @$case;
	mode("$op $how");
	my @key = $op eq 'Tao.GetKey' ? qw(web.ref tao:web) : 'web.pem';
	for my $key (@key) {
		my $r = run('openssl', @sign, $key, 'data', { dir => $dir, env => { %env, %$quick }, timeout => 20 });
		ok($r->{err} =~ $like && ($r->{status} == 0) == ("$like" eq qr/^$/) && $r->{status} < 124, "$key: $op $how")
		    or diag($r->{status}, $r->{err});
	}
}
my @open = (
	[ 'garbage', $broke ], [ 'bytes 1220' . '00' x 32, qr/opened another key/ ],
	[ 'error 17', qr/the sealed key was altered/ ], [ 'bytes 120400000000', qr/a key id's size/ ],
);
for my $case (@open) {
	$host->stop; # the new one has nothing open
	start_fake();
	mode("Tao.OpenKey $case->[0]");
	refused([ @sign, 'web.pem', 'data' ], $case->[1], "Tao.OpenKey $case->[0]");
}
for my $how ('short', 'garbage', 'empty', 'bytes 1a00', 'bytes 1a023000', 'many 17', 'bytes 1a0430030000') {
	mode("Tao.GetCertificate $how", "Tao.GetPolicyCertificate $how");
	refused([ qw(x509 -noout -in tao:web) ], $broke, "Tao.GetCertificate $how");
	refused([ qw(x509 -noout -in tao:ca) ], $broke, "Tao.GetPolicyCertificate $how");
}
mode('Tao.GetCertificate many 16');
is(scalar(() = o([ qw(storeutl -noout -certs tao:web) ], 'a long chain')->{out} =~ /Certificate$/mg), 16, 'of 16');
mode('Tao.GetCertificate garbage');
refused([ qw(storeutl -noout tao:web) ], $broke, 'a broken certificate is not an absent one');
for my $how ('short', 'garbage', 'bytes 0a00', 'bytes 0a120a022e2e10001a00220000002a003200') {
	mode("Tao.ListKeys $how");
	refused([ qw(storeutl -noout tao:) ], $broke, "Tao.ListKeys $how");
}
mode('Tao.ListKeys empty');
ok(found_none(o([ qw(storeutl -noout tao:) ], 'no keys at all')->{out}), 'is an empty list');
mode();
o([ @sign, 'web.pem', 'data' ], 'all is well again');

# --- settings, through a real openssl.cnf

my %no_host = map { $_ => { OPENSSL_CONF => fragment("$_.cnf", @{ {
	absent => ["socket = $dir/absent"], relative => ['socket = run/sock'], long => [ 'socket = /' . 'x' x 200 ],
	words => [ "socket = $dir/sock", 'timeout = soon' ],
	maybe => [ "socket = $dir/sock", 'undumpable = maybe' ], zero => [ "socket = $dir/sock", 'timeout = 0' ],
	none => ['#'] }->{$_} }) } } qw(absent relative long words zero maybe none);
refused([ @sign, 'web.pem', 'data' ], qr/no Tao host answers on \Q$dir\E\/absent/, 'socket', env => $no_host{absent});
for my $name (qw(relative long)) {
	refused([ @sign, 'web.pem', 'data' ], qr/correct 'socket', 'timeout' or 'undumpable'.*absolute path/, "socket: $name", env => $no_host{$name});
}
for my $name (qw(words zero)) {
	refused([ @sign, 'web.pem', 'data' ], qr/correct 'socket', 'timeout' or 'undumpable'.*give milliseconds/, "timeout: $name", env => $no_host{$name});
}
refused([ @sign, 'web.pem', 'data' ], qr/undumpable = maybe.*say yes or no/, 'undumpable', env => $no_host{maybe});
refused([ @sign, 'tao:web', 'data' ], qr/give milliseconds/, 'for tao: too', env => $no_host{words});
o([ @sign, 'web.pem', 'data' ], 'TAO_SOCKET without a setting', env => { %env, %{ $no_host{none} }, TAO_SOCKET => "$dir/sock" });
o([ @sign, 'web.pem', 'data' ], 'a setting before TAO_SOCKET', env => { %env, TAO_SOCKET => "$dir/absent" });
refused([ @sign, 'web.pem', 'data' ], qr/no Tao host answers on .*lib\/tao\/run\/tao\.sock|tao\.sock/, 'neither', env => $no_host{none})
    if !-e config('TAO_LOCALSTATEDIR') . '/lib/tao/run/tao.sock';

# --- many at once

for my $case ([ 'web.pem', 1, 64, 10 ], [ 'web.pem', 4, 8, 20 ], [ 'web.ref', 3, 16, 20 ], [ 'tao:web', 3, 4, 20 ]) {
	ok_run([ tool('keyuse'), @$case ], "$case->[0]: $case->[1] processes, $case->[2] threads each",
		{ dir => $dir, env => \%env, timeout => 120 });
}

done_testing();
