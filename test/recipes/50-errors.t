# What goes wrong for a user, each with a sentence that says what is wrong and
# what to do, and nothing lost or half-written.
use strict;
use warnings;
use File::Path qw(make_path remove_tree);
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $no_key = qr/Could not (?:read|find(?: or decode)?) private key/; # 3.0's words, and later ones'
my $dir = tmpdir();
my $host = start_host();
my $state = $host->dir;
ok_run([$host->cmd(qw(key new web --for), $openssl)], 'a key');
ok_run([$host->cmd('trust', $openssl, '--serves', 'localhost')], 'trusted');
my $stub = "$state/keys/$>/web.pem";

sub tao { return [$host->cmd(@_)] }
sub tao_openssl { return [$host->cmd('run', '--quiet', '--', $openssl, @_)] }
sub sign_with { return tao_openssl(qw(dgst -sha256 -sign), $_[0], '-out', "$dir/sig", $openssl) }

# -- the key and its stub --

ok_run(sign_with($stub), 'the stub signs');
fails_with(sign_with('tao:nobody'), qr/no key nobody for user $>.*tao key new/, 'unknown key name');
fails_with(sign_with($_), qr/is not a tao: URI/, "no URI: $_") for 'tao:..', 'tao:a/b', 'tao:-x', 'tao:%', 'tao:' . 'x' x 65;
fails_with(sign_with($_), qr/^$no_key from \Q$_\E$/m, "no key: $_") for 'tao:', 'tao:web/cert';
my $pem = slurp($stub);
for my $cut (1, 30, length($pem) / 2, length($pem) - 30) {
	spew("$dir/cut.pem", substr($pem, 0, $cut));
	fails_with(sign_with("$dir/cut.pem"), $cut < 40 ? qr/^$no_key/m : qr/cut off before its END line/, "truncated PEM, $cut bytes");
}
spew("$dir/cut.pem", substr($pem, 0, length($pem) / 2));
like(run(@{ sign_with("$dir/cut.pem") })->{err}, qr/TAO PRIVATE KEY|truncated|damaged/i,
	'truncated PEM: the sentence');

# Any byte of the stub.
use MIME::Base64;
my ($body) = $pem =~ /-\n(.*?)-----END/s;
my $der = decode_base64($body);
my @signed;
for (my $i = 0; $i < length $der; $i += ($ENV{TAO_TEST_ALL} ? 1 : 7)) {
	my $changed = $der;
	substr($changed, $i, 1) ^= "\x01";
	spew("$dir/changed.pem", "-----BEGIN TAO PRIVATE KEY-----\n" . encode_base64($changed, '') =~ s/(.{64})/$1\n/gr
		. "\n-----END TAO PRIVATE KEY-----\n");
	my $r = run(@{ sign_with("$dir/changed.pem") });
	push @signed, $i if $r->{status} == 0;
}
is("@signed", '', 'no stub with a changed byte signs');
my $changed = $der;
substr($changed, -1, 1) ^= "\x01";
spew("$dir/changed.pem", "-----BEGIN TAO PRIVATE KEY-----\n" . encode_base64($changed)
	. "-----END TAO PRIVATE KEY-----\n");
fails_with(sign_with("$dir/changed.pem"), qr/altered.*tao key pem/, 'altered blob: the sentence');

# Stubs whose parts are wrong. OpenSSL's store tries decoders on anything and forgets what they
# say: the sentence must be there all the same. In DER, which is not how stubs are written, it may
# be lost where nothing has to be asked of the host.
sub element { my ($tag, $what) = @_; my $n = length $what;
	return chr($tag) . ($n < 128 ? chr $n : $n < 256 ? "\x81" . chr $n : "\x82" . pack 'n', $n) . $what }
sub elements {
	my ($rest) = @_;
	my @all;
	while (length $rest) {
		my ($tag, $n) = unpack 'CC', $rest;
		my $head = $n < 0x80 ? 2 : $n == 0x81 ? 3 : 4;
		$n = $head == 3 ? ord substr $rest, 2, 1 : unpack 'x2n', $rest if $head > 2;
		push @all, [$tag, substr $rest, $head, $n];
		$rest = substr $rest, $head + $n;
	}
	return @all;
}
sub stub_of { return element(0x30, join '', map { element(@$_) } @_) }
sub public_der {
	my $r = run($openssl, 'genpkey', @_, '-out', "$dir/real.pem");
	run($openssl, qw(pkey -pubout -outform DER -in), "$dir/real.pem", '-out', "$dir/real.der");
	return (elements(slurp("$dir/real.der")))[0];
}
my ($version, $name, $spki, $sealed) = elements((elements($der))[0][1]);
is(stub_of($version, $name, $spki, $sealed), $der, 'a stub, taken apart and put together');
ok_run([$host->cmd(qw(key new theirs --for /usr/bin/true))], 'a key of another program');
my ($theirs) = slurp("$state/keys/$>/theirs.pem") =~ /-\n(.*?)-----END/s;
my $spki_of_theirs = (elements((elements(decode_base64($theirs)))[0][1]))[2];
my @stubs = (
	['a newer version', stub_of([2, "\x02"], $name, $spki, $sealed), qr/newer version than 1: upgrade/],
	['an illegal name', stub_of($version, [12, '../x'], $spki, $sealed), qr/damaged \(key name\).*tao key pem/],
	['too long a name', stub_of($version, [12, 'x' x 65], $spki, $sealed), qr/damaged.*tao key pem/],
	['a damaged public key', stub_of($version, $name, [0x30, 'garbage'], $sealed),
		qr/damaged \(public key\).*tao key pem/],
	['no point of the curve', stub_of($version, $name, [0x30, substr($spki->[1], 0, -1) ^ "\1" x (length($spki->[1]) - 40)], $sealed),
		qr/damaged.*tao key pem/],
	['a type of key that is not known', stub_of($version, $name, public_der(qw(-algorithm ED448)), $sealed),
		qr/type that this tao.so does not know: upgrade it/],
	['another curve', stub_of($version, $name, public_der(qw(-algorithm EC -pkeyopt group:secp256k1)), $sealed),
		qr/type that this tao.so does not know: upgrade it/],
	['a length that is wrong', substr($der, 0, -5), qr/length is wrong.*tao key pem/],
	['a blob that is none', stub_of($version, $name, $spki, [0x80, 'short']), qr/not a sealed blob.*tao key pem/],
	['another public key than the blob\'s', stub_of($version, $name, $spki_of_theirs, $sealed), qr/altered.*tao key pem/],
	['another public key than the host\'s', stub_of($version, $name, $spki_of_theirs), qr/another key of this name/],
	['a blob of another program', decode_base64($theirs), qr/sealed for another program.*tao key new/],
);
for my $bad (@stubs) {
	my ($what, $bytes, $sentence) = @$bad;
	spew("$dir/bad.der", $bytes);
	spew("$dir/bad.pem", "-----BEGIN TAO PRIVATE KEY-----\n" . encode_base64($bytes) . "-----END TAO PRIVATE KEY-----\n");
	fails_with(sign_with("$dir/bad.pem"), $sentence, "$what: the sentence");
	fails_with(tao_openssl(qw(dgst -sha256 -keyform DER -sign), "$dir/bad.der", '-out', "$dir/sig", $openssl),
		qr/$sentence|$no_key/, "$what, in DER");
}

spew("$dir/long.pem", "-----BEGIN TAO PRIVATE KEY-----\n" . ('A' x 64 . "\n") x 5000 . "-----END TAO PRIVATE KEY-----\n");
fails_with(sign_with("$dir/long.pem"), qr/block is longer than \d+ bytes: write the file again with 'tao key pem'/, 'far too long a stub');

my $other = start_host();
ok_run([$other->cmd(qw(key new web --for), $openssl)], 'a key of another host');
fails_with(sign_with($other->dir . "/keys/$>/web.pem"), qr/sealed by another.*tao key new/s,
	'a stub of another host');

fails_with([$openssl, qw(dgst -sha256 -sign), $stub, $openssl], qr/tao run/, 'outside tao run',
	{ env => { %{ preload_env() }, OPENSSL_CONF => "$state/openssl.cnf" } });
fails_with(tao(qw(key new web --for), $openssl), qr/has a key web already/, 'a name that is taken');
fails_with(tao(qw(key new ca --for), $openssl), qr/policy certificate/, 'the name ca');
fails_with(tao(qw(key new ../x --for), $openssl), qr/name/, 'a name that is a path');
fails_with(tao(qw(key new k2 --for /nonexistent)), qr/nonexistent/, 'a program that is not there');
fails_with(tao(qw(key new k2 --type rsa --for), $openssl), qr/type is (one of|p256)/, 'an unknown type');
fails_with(tao(qw(key new k2 --for), '/usr/bin/perl'), qr/--policy exact/, 'an interpreter');

# -- the host --

fails_with([bin('tao'), '-d', "$dir/none", 'status'], qr/tao init/, 'no host there');
fails_with([bin('tao'), '-d', $state, 'init', '--passphrase-file', $host->passfile], qr/already/,
	'a second init');
fails_with([bin('taod'), '-d', $state, '--passphrase-file', $host->passfile, '--foreground'],
	qr/runs on .* already/, 'two hosts on one directory');
like(ok_run(tao('up', '--passphrase-file', $host->passfile), 'tao up twice')->{out}, qr/already/,
	'says so');
ok_run(sign_with('tao:web'), 'and disturbs nothing');

ok_run(tao('down'), 'tao down');
fails_with(tao_openssl('version'), qr/not running.* up'/, 'tao run without a host');
is(run(@{ tao_openssl('version') })->{status}, 126, 'exits with 126');
fails_with(tao(qw(key list)), qr/not running.* up'/, 'tao key list without a host');
spew("$dir/wrong", "not the passphrase\n");
chmod 0600, "$dir/wrong";
fails_with(tao('up', '--passphrase-file', "$dir/wrong"), qr/root\.key: wrong passphrase/, 'wrong passphrase');
fails_with(tao('up', '--passphrase-file', "$dir/nofile"), qr/nofile/, 'no passphrase file');
spew("$dir/empty", "\n");
chmod 0600, "$dir/empty";
fails_with(tao('up', '--passphrase-file', "$dir/empty"), qr/must be the passphrase.*it is empty/, 'an empty passphrase');
my $format = slurp("$state/format");
spew("$state/format", "tao state 2\n");
fails_with(tao('up', '--passphrase-file', $host->passfile), qr/newer version.*upgrade/,
	'state of a newer version');
spew("$state/format", $format);
my $conf = slurp("$state/taod.conf");
spew("$state/taod.conf", "$conf\nworkers = many\n");
fails_with(tao('up', '--passphrase-file', $host->passfile), qr/workers = many.*number/, 'a bad setting');
spew("$state/taod.conf", "$conf\nnonsense = 1\n");
fails_with(tao('up', '--passphrase-file', $host->passfile), qr/unknown key nonsense/, 'an unknown setting');
my $rules = slurp("$state/domain/rules");
spew("$state/taod.conf", "$conf\ncertificate_lifetime = 1\n");
spew("$state/domain/rules", $rules =~ s/TrustedProgram/TrustedProgrbm/r);
fails_with(tao('up', '--passphrase-file', $host->passfile), qr/rules was altered or damaged/, 'altered rules');
spew("$state/domain/rules", $rules);
my $key = slurp("$state/host/root.key");
spew("$state/host/root.key", substr($key, 0, 40));
fails_with(tao('up', '--passphrase-file', $host->passfile), qr/root\.key/, 'a truncated root key');
spew("$state/host/root.key", $key);
ok_run(tao('up', '--passphrase-file', $host->passfile), 'everything restored: up again');
ok_run(sign_with('tao:web'), 'and the key signs');

# -- certificates --

my $cert = "$state/certs/$>/web.pem";
ok_run(tao_openssl(qw(x509 -noout -in tao:web)), 'a certificate of one second');
sleep 2;
like(run($openssl, qw(verify -CAfile), "$state/policy.pem", $cert)->{err}, qr/expired/, 'is expired');
my $r = run(@{ tao(qw(cert show web)) });
like($r->{out} . $r->{err}, qr/expired.*tao run/s, 'and tao cert show says what to do');
ok_run(tao(qw(key new late --for), '/usr/bin/true'), 'a key whose program never ran');
fails_with(tao(qw(cert show late)), qr/no certificate yet.*tao run/, 'has no certificate yet');
ok_run([$host->cmd('run', '/usr/bin/true')], 'its program is not trusted and runs');
fails_with(tao(qw(cert show late)), qr/does not trust.*tao trust/, 'has none: the reason');

# -- a full disk --

SKIP: {
	skip 'only root mounts a small file system', 4 if $> != 0;
	skip 'unshare is not there', 4 if !grep { -x "$_/unshare" } split /:/, $ENV{PATH};
	my $script = "$dir/full.sh";
	make_path("$dir/full");
	spew($script, <<"SH");
mount -t tmpfs -o size=256k,mode=755 tmpfs $dir/full
tao='@{[bin('tao')]} -d $dir/full/h'
\$tao init --passphrase-file @{[$host->passfile]} >/dev/null
\$tao up --passphrase-file @{[$host->passfile]} >/dev/null
dd if=/dev/zero of=$dir/full/fill bs=1k 2>/dev/null || true
\$tao key new full --for $openssl && echo WRITTEN
ls -A $dir/full/h/keys/* | sed 's/^/left: /'
rm $dir/full/fill
\$tao key new full --for $openssl && echo AGAIN
\$tao run $openssl dgst -sha256 -sign tao:full $openssl >/dev/null && echo SIGNED
\$tao down
SH
	my $full = run('unshare', '-m', 'sh', $script);
	skip 'no mount namespace here', 4 if $full->{err} =~ /^unshare: /m;
	like($full->{err}, qr/disk is full.*free some space/, 'a full disk: the sentence');
	unlike($full->{out}, qr/WRITTEN|left: \S/, 'nothing is half-written');
	like($full->{out}, qr/AGAIN/, 'with space again the same command works');
	like($full->{out}, qr/SIGNED/, 'and the key signs');
}

# -- another user --

SKIP: {
	skip 'only root becomes another user', 3 if $> != 0;
	skip 'setpriv is not there', 3 if !grep { -x "$_/setpriv" } split /:/, $ENV{PATH};
	my @nobody = qw(setpriv --reuid=65534 --regid=65534 --clear-groups);
	chmod 0755, $dir;
	fails_with([@nobody, @{ tao('down') }], qr/owner/, 'another user does not stop the host');
	fails_with([@nobody, @{ tao('policy', 'add', 'Revoked([00])') }], qr/owner/, 'nor changes policy');
	fails_with([@nobody, @{ tao(qw(key new mine --user root --for), $openssl) }], qr/owner/,
		'nor makes keys for root');
	ok_run([@nobody, @{ tao(qw(key new mine --for), $openssl) }], 'it makes its own');
	unlike(run(@nobody, @{ tao(qw(key list)) })->{out}, qr/\bweb\b/, 'and sees those only');
	my $sock = "$state/run/tao.sock";
	chmod 0600, $sock;
	fails_with([@nobody, @{ tao('status') }], qr/may not connect/, 'a socket that is not permitted');
	chmod 0666, $sock;
}

done_testing();
