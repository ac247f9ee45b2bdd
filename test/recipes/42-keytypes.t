# Sealed keys of every type through a real host: made, imported, shown, used by a program over
# its channel, rotated and deleted; what openssl itself thinks of the results.
use strict;
use warnings;

use File::Copy qw(copy);
use JSON::PP;
use MIME::Base64;
use Test::More;
use TaoRaw qw(call code field number parse);
use TaoTest;

# Numbers of enum tao_err.
use constant { OK => 0, EINVAL => 2, ENOTFOUND => 7, EDENIED => 9, EALTERED => 17, EWRONGPROG => 18,
	EUNKNOWNKEY => 23, EPURPOSE => 24 };

my $dir = tmpdir();
my $host = start_host();
my $socket = $host->dir . '/run/tao.sock';
my $raw = tool('rawclient');
my $uid = $>;

# --- programs

sub run_as {
	my ($h, $program, @commands) = @_;
	my $r = run($h->cmd('run', '--quiet', '--', $program), $h->dir . '/run/tao.sock',
		{ stdin => join("\n", 'connect', 'identify', @commands) . "\n", timeout => 120 });
	diag("rawclient: $r->{err}") if $r->{status} != 0;
	my @lines = split /\n/, $r->{out};
	return @lines[ 2 .. $#lines ];
}
sub hosted { return run_as($host, $raw, @_) }

sub open_key { return call('Tao.OpenKey', field(2, $_[0])) }
sub sign {
	my ($id, $data, %how) = @_;
	return call('Tao.Sign', field(1, $id), field(2, $data),
		(map { defined $how{$_->[0]} ? field($_->[1], $how{$_->[0]}) : () } [ 'digest', 3 ], [ 'padding', 4 ]),
		$how{message} ? number(7, 1) : ());
}

sub openssl { return run('openssl', @_) }
sub hash_of { my ($digest, $text) = @_; return pack 'H*', openssl('dgst', "-$digest", '-r', spew("$dir/text", $text))->{out} =~ /^(\w+)/ }

sub pubkey {
	my ($name, @more) = @_;
	my $r = $host->tao(qw(key show --pubkey), @more, $name);
	return spew("$dir/$name.pub", $r->{out});
}

sub new_key {
	my ($name, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = $host->tao(qw(key new), $name, '--for', $raw, @options);
	is($r->{status}, 0, "tao key new $name @options") or diag($r->{err});
	return stub($name);
}
sub stub {
	my ($name, $suffix) = @_;
	my ($b64) = slurp($host->dir . "/keys/$uid/$name." . ($suffix // 'pem')) =~ /-----\n(.*?)-----/s;
	return decode_base64($b64);
}
sub show { return decode_json($host->tao(qw(--json key show), @_)->{out}) }

# --- signatures

my $text = "what is signed\n";
my @signers = ([ 'p256', 'SHA256' ], [ 'p384', 'SHA384' ], [ 'p521', 'SHA512' ], [ 'rsa2048', 'SHA256' ],
	[ 'rsa3072', 'SHA384' ], [ 'rsa-pss-2048', 'SHA256' ]);
push @signers, [ 'rsa4096', 'SHA512' ], [ 'rsa-pss-3072', 'SHA256' ], [ 'rsa-pss-4096', 'SHA256' ] if $ENV{TAO_TEST_ALL};
diag('rsa4096, rsa-pss-3072 and rsa-pss-4096 take long: runtests --all') if !$ENV{TAO_TEST_ALL};

sub verifies {
	my ($name, $digest, $padding, $sig) = @_;
	my @pss = $padding eq 'pss' ? qw(-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest) : ();
	spew("$dir/sig", $sig // '');
	spew("$dir/text", $text);
	return openssl('dgst', '-' . lc $digest, '-verify', pubkey($name), '-signature', "$dir/sig", @pss, "$dir/text")->{status} == 0;
}

for (@signers) {
	my ($type, $digest) = @$_;
	my $stub = new_key("s-$type", '--type', $type);
	my ($open) = hosted(open_key($stub));
	my $id = parse($open)->{2};
	is(parse($open)->{8}, $type, "Tao.OpenKey says the type of $type");
	my @paddings = $type =~ /^rsa\d/ ? qw(pkcs1 pss) : $type =~ /^rsa/ ? 'pss' : '';
	my @l = hosted(open_key($stub), map { (
		sign($id, hash_of($digest, $text), digest => $digest, padding => $_ || undef),
		sign($id, $text, digest => $digest, padding => $_ || undef, message => 1)) } @paddings);
	shift @l;
	for my $padding (@paddings) {
		ok(verifies("s-$type", $digest, $padding, parse(shift @l)->{1}), "$type $padding: a digest") for 0;
		ok(verifies("s-$type", $digest, $padding, parse(shift @l)->{1}), "$type $padding: a message");
	}
	my $info = show("s-$type");
	is($info->{type}, $type, "tao key show: $type");
	my ($bits) = $type =~ /(\d{3,4})$/;
	is($info->{bits}, $bits, "$bits bits");
	ok($info->{generation} == 1 && !$info->{imported}, 'made here, the first');
}
{
	my $stub = new_key('s-ed', qw(--type ed25519 --purpose sign));
	my $id = parse((hosted(open_key($stub)))[0])->{2};
	my @l = hosted(open_key($stub), sign($id, $text), sign($id, 'x' x 32, digest => 'SHA256'));
	spew("$dir/sig", parse($l[1])->{1} // '');
	spew("$dir/text", $text);
	ok_run([ qw(openssl pkeyutl -verify -pubin -inkey), pubkey('s-ed'), '-rawin', '-in', "$dir/text", '-sigfile', "$dir/sig" ],
		'ed25519 signs');
	is(code($l[2]), EPURPOSE, 'no digests');
}

# --- decryption, derivation

{
	my $stub = new_key('d-rsa', qw(--type rsa2048 --purpose decrypt));
	spew("$dir/text", $text);
	my @how = ([ 'oaep', [] ], [ 'oaep', [qw(-pkeyopt rsa_oaep_md:sha256)], 'SHA256' ], [ 'pkcs1', [] ]);
	my @c = map {
		openssl(qw(pkeyutl -encrypt -pubin -inkey), pubkey('d-rsa'), '-in', "$dir/text", '-out', "$dir/c",
			'-pkeyopt', "rsa_padding_mode:$_->[0]", @{ $_->[1] });
		slurp("$dir/c")
	} @how;
	my $id = parse((hosted(open_key($stub)))[0])->{2};
	my @l = hosted(open_key($stub), (map { call('Tao.Decrypt', field(1, $id), field(2, $c[$_]), field(3, $how[$_][0]),
		defined $how[$_][2] ? field(4, $how[$_][2]) : ()) } 0 .. $#how),
		(call('Tao.Decrypt', field(1, $id), field(2, "\1" x 256), field(3, 'pkcs1'))) x 2,
		sign($id, 'x' x 32, digest => 'SHA256'));
	is(parse($l[ $_ + 1 ])->{1}, $text, "Tao.Decrypt $how[$_][0]") for 0 .. $#how;
	is(code($l[4]), OK, 'a wrong padding is not told');
	is($l[4], $l[5], 'and gives the same each time');
	is(code($l[6]), EPURPOSE, 'a key for decryption signs nothing');
}
for my $type (qw(p256 p384 p521 x25519)) {
	my $stub = new_key("d-$type", '--type', $type, '--purpose', 'decrypt');
	my ($group) = $type =~ /^p(\d+)/;
	openssl('genpkey', '-out', "$dir/peer", defined $group ? ('-algorithm', 'EC', '-pkeyopt', "group:P-$group")
		: ('-algorithm', 'X25519'));
	openssl('pkey', '-in', "$dir/peer", '-pubout', '-outform', 'DER', '-out', "$dir/peer.pub");
	openssl('pkeyutl', '-derive', '-inkey', "$dir/peer", '-peerkey', pubkey("d-$type"), '-out', "$dir/secret");
	my $id = parse((hosted(open_key($stub)))[0])->{2};
	my @l = hosted(open_key($stub), call('Tao.Derive', field(1, $id), field(2, slurp("$dir/peer.pub"))),
		call('Tao.Derive', field(1, $id), field(2, "\0" x 65)));
	is(parse($l[1])->{1}, slurp("$dir/secret"), "Tao.Derive $type");
	is(code($l[2]), EINVAL, 'and not with what is no public key');
}

# --- purposes

{
	my $stub = new_key('t13', qw(--purpose tls13));
	my ($open) = hosted(open_key($stub));
	my $id = parse($open)->{2};
	is(parse($open)->{9}, 'tls13', 'Tao.OpenKey says the purpose');
	my $verify = ' ' x 64 . "TLS 1.3, server CertificateVerify\0" . 'h' x 32;
	my @l = hosted(open_key($stub), sign($id, $verify), sign($id, hash_of('sha256', $verify), digest => 'SHA256'),
		sign($id, "$verify "), sign($id, $text), sign($id, $verify, digest => 'SHA256'));
	spew("$dir/sig", parse($l[1])->{1} // '');
	ok_run([ qw(openssl dgst -sha256 -verify), pubkey('t13'), '-signature', "$dir/sig", spew("$dir/verify", $verify) ],
		'tls13: a CertificateVerify');
	is(code($l[$_]), EPURPOSE, 'tls13: nothing else') for 2 .. 4;
	is(code($l[5]), EPURPOSE, 'nor as if it were a digest');
}
fails_with([ $host->cmd(qw(key new no --type x25519 --purpose tls --for), $raw) ], qr/x25519 cannot serve the purpose tls/,
	'a type that cannot serve the purpose');

# --- certificates

is($host->tao('trust', $raw)->{status}, 0, 'the program is trusted');
for (['s-rsa2048', 'Digital Signature, Key Encipherment'], ['d-rsa', 'Key Encipherment'], ['s-p256', 'Digital Signature, Key Agreement'],
	['d-x25519', 'Key Agreement'], ['s-ed', 'Digital Signature']) {
	my ($name, $usage) = @$_;
	my ($l) = hosted(call('Tao.GetCertificate', field(1, $name)));
	is(code($l), OK, "a certificate for $name") or diag($l);
	spew("$dir/cert", parse($l)->{3} // '');
	like(openssl(qw(x509 -inform DER -noout -ext keyUsage -in), "$dir/cert")->{out}, qr/^\s+\Q$usage\E$/m, "for $usage");
}

# --- custody

for my $type (qw(p256 rsa2048 ed25519)) {
	new_key("c-$type", '--type', $type, qw(--custody program));
	my @l = hosted(map { call('Tao.GetKey', field(1, $_)) } "c-$type", 's-p256');
	spew("$dir/private", parse($l[0])->{7} // '');
	is(openssl(qw(pkey -inform DER -pubout -in), "$dir/private")->{out}, slurp(pubkey("c-$type")),
		"custody program: $type goes to the program");
	ok(!defined parse($l[1])->{7} && code($l[1]) == OK, 'custody host: the key does not');
	my $id = parse($l[0])->{2};
	is(code((hosted(sign($id, 'x' x 32, $type eq 'ed25519' ? () : (digest => 'SHA256'))))[0]), EUNKNOWNKEY, 'and the host does not sign with it');
	my $copy = "$dir/copy";
	unlink $copy;
	spew($copy, slurp($raw) . 'another');
	chmod 0755, $copy;
	my @other = run_as($host, $copy, call('Tao.GetKey', field(1, "c-$type")), open_key(stub("c-$type")));
	is(join(' ', map { code($_) } @other), join(' ', (EWRONGPROG) x 2), 'nor does either to another program');
}

# --- policy

{
	my $stub = new_key('pol', qw(--policy policy));
	my $name = (run($host->cmd('run', '--quiet', '--', $raw), $socket,
		{ stdin => "connect\nidentify\n" })->{out} =~ /^ok Tao.Prove ([0-9a-f]+)$/m)[0];
	my ($prin) = run($raw, $socket, { stdin => 'decode ' . substr($name, 6) . "\n" })->{out} =~ /^(key\(.*)$/m;
	is(code((hosted(open_key($stub)))[0]), EDENIED, 'policy: without a rule it is nobody\'s');
	ok_run([ $host->cmd(qw(policy add), qq{Unseal($prin, "key:pol")}) ], 'a rule');
	is(code((hosted(open_key($stub)))[0]), OK, 'policy: with it, the program\'s');
	ok_run([ $host->cmd(qw(policy remove), qq{Unseal($prin, "key:pol")}) ], 'it is removed');
	is(code((hosted(open_key($stub)))[0]), EDENIED, 'policy: and no longer without it');
}

# --- importing

for ([ 'rsa', [qw(genrsa -traditional)], 'rsa2048' ], [ 'ec', [qw(ecparam -name P-521 -genkey)], 'p521' ],
	[ 'ed', [qw(genpkey -algorithm ED25519)], 'ed25519' ], [ 'pss', [qw(genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048)], 'rsa-pss-2048' ],
	[ 'enc', [qw(genpkey -algorithm EC -pkeyopt group:P-256 -aes256 -pass pass:hello)], 'p256' ]) {
	my ($name, $command, $type) = @$_;
	spew("$dir/$name.pem", openssl(@$command)->{out});
	my @pass = $name eq 'enc' ? ('--passphrase-file', spew("$dir/hello", "hello\n")) : ();
	chmod 0600, "$dir/hello";
	ok_run([ $host->cmd(qw(key import), "i-$name", "$dir/$name.pem", '--for', $raw, @pass) ], "tao key import: $type");
	my $info = show("i-$name");
	ok($info->{imported} && $info->{type} eq $type, 'and it is marked');
	is($info->{public_key}, openssl(qw(pkey -pubout -passin pass:hello -in), "$dir/$name.pem")->{out}, 'the same key');
}
fails_with([ $host->cmd(qw(key import i-rsa), "$dir/rsa.pem", '--for', $raw) ], qr/has a key i-rsa already/, 'not twice');
fails_with([ $host->cmd(qw(key import x), "$dir/enc.pem", '--for', $raw, '--passphrase-file', spew("$dir/wrong", "wrong\n")) ],
	qr/does not open with this passphrase/, 'not with a wrong passphrase');
fails_with([ $host->cmd(qw(key import x), $host->dir . "/keys/$uid/s-p256.pem", '--for', $raw) ], qr/is a stub/, 'not a stub');
fails_with([ $host->cmd(qw(key import x), "$dir/text", '--for', $raw) ], qr/no private key/, 'not a text');
spew("$dir/small.pem", openssl(qw(genrsa 1024))->{out});
fails_with([ $host->cmd(qw(key import x), "$dir/small.pem", '--for', $raw) ], qr/cannot be imported/, 'not RSA of 1024 bits');
spew("$dir/sha1.pem", openssl(qw(genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha1))->{out});
fails_with([ $host->cmd(qw(key import x), "$dir/sha1.pem", '--for', $raw) ], qr/restricted to a digest that no key here signs/, 'not RSA-PSS for SHA-1 alone');
spew("$dir/three.pem", openssl(qw(genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_primes:3))->{out});
fails_with([ $host->cmd(qw(key import x), "$dir/three.pem", '--for', $raw) ], qr/more than two primes/, 'not RSA of three primes');
fails_with([ $host->cmd(qw(key new x --type rsa2048 --pss-salt 20 --for), $raw) ], qr/restricted to no digest and no salt/, 'no salt for what is not RSA-PSS');
fails_with([ $host->cmd(qw(key import x), "$dir/ed.pem", '--for', $raw, qw(--purpose decrypt)) ], qr/cannot serve/, 'not for what it cannot');
like($host->tao(qw(key list))->{out}, qr/^i-rsa .* imported /m, 'tao key list says imported');
ok_run([ $host->cmd(qw(key rotate i-ec)) ], 'one is rotated');
ok(!show('i-ec')->{imported}, 'the new one never was elsewhere');
ok(show('i-ec', '--old')->{imported}, 'as the one before');

# --- generations

for my $type (qw(p256 rsa2048 rsa-pss-2048 ed25519)) {
	my $first = new_key("g-$type", '--type', $type);
	my $info = show("g-$type");
	my $id = parse((hosted(open_key($first)))[0])->{2};
	my $digest = $type eq 'ed25519' ? undef : 'SHA256';
	is(code((hosted(sign($id, $text, digest => $digest, message => 1)))[0]), OK, "$type: signs");
	ok_run([ $host->cmd(qw(key rotate), "g-$type") ], "$type: tao key rotate");
	my $next = show("g-$type");
	is($next->{generation}, 2, 'generation 2');
	is($next->{key_id}, $info->{key_id}, 'of the same key');
	isnt($next->{spki_hash}, $info->{spki_hash}, 'with a new public key');
	is($next->{$_}, $info->{$_}, "and the same $_") for qw(type purpose policy custody program_hash);
	is(show("g-$type", '--old')->{spki_hash}, $info->{spki_hash}, 'the one before is kept');
	my @l = hosted(sign($id, $text, digest => $digest, message => 1), open_key($first), open_key(stub("g-$type")));
	is(join(' ', map { code($_) } @l), join(' ', (OK) x 3), 'both work');
	isnt(parse($l[1])->{2}, parse($l[2])->{2}, 'by different ids');
	ok_run([ $host->cmd(qw(key delete --old --yes), "g-$type") ], "$type: the older one is deleted");
	@l = hosted(sign($id, $text, digest => $digest, message => 1), open_key($first), open_key(stub("g-$type")));
	is(code($l[0]), EUNKNOWNKEY, 'its id is unknown');
	is(code($l[1]), ENOTFOUND, 'its stub does not open');
	is(code($l[2]), OK, 'the new one does');
}
{
	my $first = new_key('g-two');
	$host->tao(qw(key rotate g-two)) for 1 .. 2;
	is(code((hosted(open_key($first)))[0]), ENOTFOUND, 'after two rotations the first is gone');
	is(code((hosted(open_key(stub('g-two', 'old'))))[0]), OK, 'the second is not');
	my $stub = stub('g-two');
	fails_with([ $host->cmd(qw(key delete g-two)) ], qr/say --yes|nothing was deleted/, 'deleting asks', { stdin => '' })
	    if !-t STDIN;
	ok_run([ $host->cmd(qw(key delete --yes g-two)) ], 'the key is deleted');
	is(code((hosted(open_key($stub)))[0]), ENOTFOUND, 'no copy of its stub works');
	fails_with([ $host->cmd(qw(key show g-two)) ], qr/there is no key g-two/, 'it is gone');
	ok_run([ $host->cmd(qw(key new g-two --for), $raw) ], 'its name is free');
	is(code((hosted(open_key($stub)))[0]), ENOTFOUND, 'the old stub stays dead');
}
{
	new_key('g-cert');
	my $in = spew("$dir/in", join("\n", 'connect', 'identify', call('Tao.GetCertificate', field(1, 'g-cert')),
		'echo ready', 'sleep 60000') . "\n");
	my $p = spawn($host->cmd('run', '--quiet', '--', $raw), $socket, { stdin => $in });
	ok($p->wait_for_line(qr/^ready$/m, 20), 'a program that runs on');
	my $cert = $host->dir . "/certs/$uid/g-cert.pem";
	my $of = sub { return openssl(qw(x509 -noout -pubkey -in), $cert)->{out} };
	is($of->(), slurp(pubkey('g-cert')), 'its certificate');

	# A program reads the certificate, then the key: nothing happens between the two.
	my @dirs = map { $host->dir . "/$_/$uid" } qw(certs keys);
	mkdir "$dir/marks";
	my $watch = spawn(tool('changes'), @dirs, "$dir/marks");
	$watch->wait_for_line(qr/^watching$/m, 20) or die $watch->log;
	ok_run([ $host->cmd(qw(key rotate g-cert)) ], 'its key is rotated');
	spew("$dir/marks/rotated", '');
	ok($watch->wait_for_line(qr{^\Q$dir\E/marks/rotated written$}m, 20), 'what changed was seen');
	$watch->stop;
	my ($placed) = $watch->log =~ m{^(\Q$dirs[1]\E/g-cert\.old here\n.*)^\Q$dir\E/marks/rotated created$}ms;
	is(($placed // $watch->log) =~ s{/\.tao-\w+ away}{/TEMP away}gr,
		"$dirs[1]/g-cert.old here\n$dirs[0]/TEMP away\n$dirs[0]/g-cert.pem here\n$dirs[1]/TEMP away\n$dirs[1]/g-cert.pem here\n",
		'all is written before the first file takes its place, then both do, the certificate first');
	is($of->(), slurp(pubkey('g-cert')), 'its certificate is the new key\'s');

	# What the domain refuses.
	my @files = ($cert, map { "$dirs[1]/g-cert.$_" } qw(pem old));
	my @before = map { slurp($_) } @files;
	my ($id, $older) = map { parse($_)->{2} } hosted(open_key(stub('g-cert')), open_key(stub('g-cert', 'old')));
	ok_run([ $host->cmd('trust', $raw, '--remove') ], 'the domain trusts the program no more');
	fails_with([ $host->cmd(qw(key rotate g-cert)) ], qr/key g-cert stays as it is, .*\Q$raw\E, which runs.*next generation: /s,
		'its key is not rotated');
	is_deeply([ map { slurp($_) } @files ], \@before, 'stubs and certificate are as they were');
	is(show('g-cert')->{generation}, 2, 'and so is its generation');
	is_deeply([ map { parse($_)->{2} } hosted(open_key(stub('g-cert')), open_key(stub('g-cert', 'old'))) ], [ $id, $older ],
		'both generations work as before');
	is(scalar(() = glob("$_/.tao-*")), 0, 'nothing else is left there') for @dirs;
	$p->stop('KILL');
	ok(wait_for(sub { $host->tao('ps')->{out} !~ /sleep|\Q$raw\E/ }, 20), 'the program ends');
	ok_run([ $host->cmd(qw(key rotate g-cert)) ], 'now its key is rotated');
	ok(!-e $cert, 'and the certificate, which names nothing that runs, is gone');
	ok_run([ $host->cmd('trust', $raw) ], 'the program is trusted again');
}

# --- the deletions outlive the host; keys of an earlier version work

{
	my $dead = stub('g-p256', 'pem');
	ok_run([ $host->cmd(qw(key delete --yes g-p256)) ], 'another is deleted');
	$host->tao('down');
	$host->tao('up', '--passphrase-file', $host->passfile);
	is(code((hosted(open_key($dead)))[0]), ENOTFOUND, 'and stays so when the host starts again');
}
{
	my $old = bless { dir => "$dir/old", env => {}, passfile => "$dir/old.pass" }, 'TaoTest::Host';
	my $from = srctop() . '/test/vectors/host-p256';
	run('cp', '-r', $from, "$dir/old");
	mkdir "$dir/old/run";
	run('chmod', '-R', 'go=', "$dir/old/host", "$dir/old/domain");
	copy("$dir/old/passphrase", $old->passfile);
	chmod 0600, $old->passfile;
	my $r = $old->tao('up', '--passphrase-file', $old->passfile);
	is($r->{status}, 0, 'a host of an earlier version starts') or diag($r->{err});
	my ($b64) = slurp("$from/keys/0/old.pem") =~ /-----\n(.*?)-----/s;
	my @l = run_as($old, $raw, open_key(decode_base64($b64)));
	is(code($l[0]), OK, 'its stub opens') or diag(@l);
	my $id = parse($l[0])->{2};
	@l = run_as($old, $raw, sign($id, hash_of('sha256', $text), digest => 'SHA256'));
	ok(length(parse($l[0])->{1} // '') >= 68, 'and signs');
	if ($uid == 0) {
		my %keys = map { $_->{name} => $_ } @{ decode_json($old->tao(qw(--json key list))->{out}) };
		is_deeply([ sort keys %keys ], [qw(old signer web)], 'its keys are listed');
		is($keys{old}{generation}, 1, 'all of the first generation');
		is($old->tao(qw(key rotate web))->{status}, 0, 'and can be rotated');
	}
	$old->{up} = 1;
	$old->down;
}

done_testing();
