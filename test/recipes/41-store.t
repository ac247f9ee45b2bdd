# The tao: store in `openssl storeutl`: what each option gives of each URI, names with every legal
# character, and what each URI that is none is answered with.
use strict;
use warnings;
use Test::More;
use TaoTest;

need_programs('openssl');
my $openssl = '/usr/bin/openssl';
my $host = start_host();
sub tao_openssl { return $host->cmd('run', '--quiet', '--', $openssl, @_) }
sub found { return ok_run([ tao_openssl('storeutl', @_) ], "storeutl @_")->{out} }

ok_run([ $host->cmd('trust', $openssl, qw(--serves localhost)) ], 'tao trust');
# 64 characters, among them all that a name may have.
my $long = join '', 'A' .. 'Z', 'a' .. 'z', 0 .. 8, '._-';
is(length $long, 64, 'the longest name');
my @names = ('web', $long, '_', '0', 'a.b', 'a-b', 'CA', 'key', 'cert', 'chain', 'ca.');
ok_run([ $host->cmd('key', 'new', $_, '--for', $openssl) ], "a key $_") for @names;

# --- every option, on every form of URI: how many objects

my %count = ( #            all -keys -certs -crls -public
	'tao:web' =>       [ 3,  1,    2,     0 ],
	'tao:web/key' =>   [ 1,  1,    0,     0 ],
	'tao:web/cert' =>  [ 1,  0,    1,     0 ],
	'tao:web/chain' => [ 1,  0,    1,     0 ],
	'tao:ca' =>        [ 1,  0,    1,     0 ],
);
for my $uri (sort keys %count) {
	my @options = ([], ['-keys'], ['-certs'], ['-crls']);
	for my $i (0 .. $#options) {
		my $out = found('-noout', @{ $options[$i] }, $uri);
		my $n = $count{$uri}[$i];
		ok($n ? $out =~ /^Total found: $n$/m : found_none($out), join ' ', "$uri:", @{ $options[$i] }, $n) or diag($out);
	}
}
like(found('-noout', '-text', '-keys', 'tao:web'), qr/Tao Private-Key: web, in the Tao host.*^NIST CURVE: P-256.*^Total found: 1$/ms, '-text of a key');
like(found('-noout', '-text', '-certs', 'tao:web'), qr/Subject:.*OU\s*=\s*key.*DNS:localhost/s, '-text of its certificate');
my $whole = found('tao:web');
like($whole, qr/BEGIN TAO PRIVATE KEY.*BEGIN CERTIFICATE.*BEGIN CERTIFICATE/s, 'key, certificate, policy certificate, in this order');
unlike($whole, qr/BEGIN (?:EC |RSA )?PRIVATE/, 'no private half');
my $list = found('tao:');
like($list, qr/^\d+: Name: tao:\Q$_\E$/m, "tao: lists $_") for @names;
like($list, qr/^Total found: ${\ scalar @names}$/m, 'and nothing else');

# --- search

# Each start of openssl, having other arguments, has a certificate of its own from the domain: so one that
# stays, which was imported.
my $file = tmpdir() . '/self.pem';
ok_run([ tao_openssl(qw(req -x509 -new -key tao:a.b -subj /O=here/CN=a.b -days 9 -out), $file) ], 'a certificate');
ok_run([ $host->cmd(qw(cert import a.b), $file) ], 'imported');
my ($serial) = run($openssl, qw(x509 -noout -serial -in), $file)->{out} =~ /=(\w+)/;
my %print = map { ($_ => run($openssl, qw(x509 -noout -fingerprint), "-$_", '-in', $file)->{out} =~ /=([\w:]+)/ ? $1 =~ s/://gr : '') } qw(sha1 sha256);
for my $uri ('tao:a.b', 'tao:') {
	like(found(qw(-noout -certs), "-$_", '-fingerprint', $print{$_}, $uri), qr/^Total found: 1$/m, "$uri: by its $_ fingerprint") for sort keys %print;
	ok(found_none(found(qw(-noout -certs -sha256 -fingerprint), $print{sha256} =~ tr/0-9A-F/1-9A-F0/r, $uri)), "$uri: by another fingerprint");
	like(found(qw(-noout -certs -subject), '/O=here/CN=a.b', $uri), qr/^Total found: 1$/m, "$uri: by its subject");
	ok(found_none(found(qw(-noout -certs -subject), '/O=nobody', $uri)), "$uri: by another subject");
	like(found(qw(-noout -certs -issuer /O=here/CN=a.b -serial), "0x$serial", $uri), qr/^Total found: 1$/m, "$uri: by issuer and serial number");
	ok(found_none(found(qw(-noout -certs -issuer /CN=nobody -serial), "0x$serial", $uri)), "$uri: by another issuer");
	ok(found_none(found(qw(-noout -certs -issuer /O=here/CN=a.b -serial 0x1234), $uri)), "$uri: by another serial number");
}
like(found(qw(-noout -keys -alias), $_, 'tao:'), qr/^Total found: 1$/m, "by alias $_") for @names;
ok(found_none(found(qw(-noout -alias), 'no such name', 'tao:')), 'an alias that no key can have');
fails_with([ tao_openssl(qw(storeutl -noout -alias WEB tao:)) ], qr/there is no key WEB/, 'an alias that no key has: case counts');
fails_with([ tao_openssl(qw(storeutl -crls -alias web -certs tao:)) ], qr/only one search|given|type/i, 'two types at once');

# --- names

for my $name (@names) {
	my $pub = ok_run([ tao_openssl(qw(pkey -pubout -in), "tao:$name") ], "tao:$name")->{out};
	is($pub, run($host->cmd('key', 'show', $name, '--pubkey'))->{out}, 'is that key');
	my $escaped = join '', map { sprintf '%%%02x', ord } split //, $name;
	is(run(tao_openssl(qw(pkey -pubout -in), "TAO:$escaped/k%65y"))->{out}, $pub, 'escaped, too');
}
for my $bad ('', '.a', '-a', 'a b', 'a/b', 'ä', 'a%b', 'ca', $long . 'x', '..') {
	fails_with([ $host->cmd(qw(key new --for), $openssl, '--', $bad) ], qr/name|key/, "no key is called '$bad'");
}

# --- bad URIs: a sentence each, and no other key

my @bad = (
	[ 'tao:nobody' => qr/there is no key nobody/ ],
	[ 'tao:web/' => qr{behind the key's name comes /key, /cert or /chain} ],
	[ 'tao:web/keys' => qr{comes /key, /cert or /chain} ],
	[ 'tao:web/key/' => qr{comes /key, /cert or /chain} ],
	[ 'tao:web/KEY' => qr{comes /key, /cert or /chain} ],
	[ 'tao:web//key' => qr{comes /key, /cert or /chain} ],
	[ 'tao:ca/cert' => qr/tao:ca, the policy certificate, has no parts/ ],
	[ 'tao://web' => qr{without '//'} ],
	[ 'tao:/web' => qr/is not a tao: URI/ ],
	[ 'tao:web?x' => qr/neither '\?' nor '#'/ ],
	[ 'tao:web#x' => qr/neither '\?' nor '#'/ ],
	[ 'tao:web%' => qr/badly escaped/ ],
	[ 'tao:web%4' => qr/badly escaped/ ],
	[ 'tao:web%4g' => qr/badly escaped/ ],
	[ 'tao:web%00' => qr/badly escaped/ ],
	[ 'tao:we%2Fb' => qr/badly escaped/ ],
	[ 'tao:.web' => qr/is not a tao: URI/ ],
	[ 'tao:-web' => qr/is not a tao: URI/ ],
	[ 'tao:we b' => qr/is not a tao: URI/ ],
	[ 'tao:wéb' => qr/is not a tao: URI/ ],
	[ "tao:${long}x" => qr/too long/ ],
	[ 'tao:' . 'a' x 600 => qr/longer than 512 bytes/ ],
);
for (@bad) {
	my ($uri, $why) = @$_;
	fails_with([ tao_openssl(qw(storeutl -noout), $uri) ], $why, 'storeutl ' . substr($uri, 0, 40));
	fails_with([ tao_openssl(qw(pkey -noout -in), $uri) ], $why, 'pkey ' . substr($uri, 0, 40));
}

done_testing();
