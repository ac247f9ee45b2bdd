# Project Wycheproof: every case of every file that we have. Verification,
# derivation, MACs and AEAD go through libtao where it has the operation, X25519
# through the code of the group tao_x25519, ECDH, PSS and OAEP through libcrypto's calls
# (test/tool/wycheproof.c).
# How many cases a file has of which result is asserted as well, so that a
# changed file does not pass unseen.
use strict;
use warnings;

use JSON::PP;
use Test::More;
use TaoTest;

my $dir = vectors('wycheproof');

sub bytes { return length $_[0] ? $_[0] : '-' }

sub has_flag {
	my ($case, $flag) = @_;
	return scalar grep { $_ eq $flag } @{ $case->{flags} };
}

sub verify {
	my ($digest) = @_;
	return sub {
		my ($group, $case) = @_;
		return [ 'verify', $digest, $group->{publicKeyDer}, @$case{qw(msg sig)} ];
	};
}

# Each file: how many cases of each result; what a case is for the tool, and its
# result there; and for "acceptable" cases what we do with one. Sealing twice
# over: AEAD cases open, and those that are valid seal to the same bytes.
my %files = (
	'ecdsa_secp256r1_sha256_test.json' =>
	    { counts => { valid => 174, invalid => 310 }, line => verify('SHA256') },
	'ecdsa_secp384r1_sha384_test.json' =>
	    { counts => { valid => 194, invalid => 310 }, line => verify('SHA384') },
	'ecdsa_secp521r1_sha512_test.json' =>
	    { counts => { valid => 232, invalid => 310 }, line => verify('SHA512') },
	'ed25519_test.json' => { counts => { valid => 88, invalid => 63 }, line => verify('none') },
	'rsa_signature_2048_sha256_test.json' => {
		counts => { valid => 9, invalid => 249, acceptable => 1 },
		line => verify('SHA256'),
		# A DigestInfo without its NULL: one message would have two signatures.
		acceptable => sub { return has_flag($_[0], 'MissingNull') ? 'refuse' : undef },
	},
	'rsa_pss_2048_sha256_mgf1_32_test.json' => {
		counts => { valid => 63, invalid => 45 },
		line => sub { return [ 'pss', $_[0]{publicKeyDer}, @{ $_[1] }{qw(msg sig)} ] },
	},
	'rsa_oaep_2048_sha256_mgf1sha256_test.json' => {
		counts => { valid => 18, invalid => 19 },
		line => sub { return [ 'oaep', $_[0]{privateKeyPkcs8}, @{ $_[1] }{qw(label ct)} ] },
		result => sub { return $_[0]{msg} },
	},
	'hkdf_sha256_test.json' => {
		counts => { valid => 83, invalid => 3 },
		line => sub { return [ 'hkdf', @{ $_[1] }{qw(ikm salt info size)} ] },
		result => sub { return $_[0]{okm} },
	},
	'hmac_sha256_test.json' => {
		counts => { valid => 66, invalid => 108 },
		line => sub { return [ 'hmac', @{ $_[1] }{qw(key msg tag)} ] },
	},
	'aes_gcm_test.json' => {
		counts => { valid => 229, invalid => 87 },
		line => sub { return [ 'open', @{ $_[1] }{qw(key iv aad)}, $_[1]{ct} . $_[1]{tag} ] },
		result => sub { return $_[0]{msg} },
		again => sub { return [ 'seal', @{ $_[1] }{qw(key iv aad msg)} ] },
		again_result => sub { return $_[0]{ct} . $_[0]{tag} },
		# libcrypto takes IVs of up to 128 bytes; ours have 12.
		beyond => sub { return length $_[0]{iv} > 2 * 128 },
		beyond_count => 3,
		own => sub { return length $_[0]{key} == 64 && length $_[0]{iv} == 24 },
		own_count => 66,
	},
	'ecdh_secp256r1_ecpoint_test.json' => {
		counts => { valid => 330, invalid => 24, acceptable => 1 },
		line => sub { return [ 'ecdh', @{ $_[1] }{qw(private public)} ] },
		result => sub { return $_[0]{shared} },
		# A compressed point: the right secret, whichever way it is written.
		acceptable => sub { return has_flag($_[0], 'CompressedPublic') ? 'accept' : undef },
	},
	'x25519_test.json' => {
		counts => { valid => 264, acceptable => 254 },
		line => sub { return [ 'x25519', @{ $_[1] }{qw(private public)} ] },
		result => sub { return $_[0]{shared} },
		# RFC 8446, 7.4.2: an all-zero secret ends the handshake. Points on the
		# twist and not reduced ones are computed as RFC 7748 says.
		acceptable => sub {
			return 'refuse' if has_flag($_[0], 'ZeroSharedSecret');
			return 'accept' if has_flag($_[0], 'Twist') || has_flag($_[0], 'NonCanonicalPublic');
			return undef;
		},
		acceptable_count => { accept => 223, refuse => 31 },
	},
);

sub line_of {
	my ($id, $fields) = @_;
	my ($op, @rest) = @$fields;
	return join(' ', $op, $id, map { bytes($_) } @rest) . "\n";
}

sub expected {
	my ($file, $case) = @_;
	return 'refuse' if $file->{beyond} && $file->{beyond}->($case);
	return 'accept' if $case->{result} eq 'valid';
	return 'refuse' if $case->{result} eq 'invalid';
	return $file->{acceptable} ? $file->{acceptable}->($case) // 'no rule' : 'no rule';
}

# Runs [group, case] pairs through the tool; the ids of those that went wrong.
sub run_cases {
	my ($cases, $line, $want, $result) = @_;
	my $input = join '', map { line_of($_->[1]{tcId}, $line->(@$_)) } @$cases;
	my $r = run(tool('wycheproof'), { stdin => $input, timeout => 300 });
	is($r->{status}, 0, 'the tool ran to its end') or diag($r->{err});
	my @lines = split /\n/, $r->{out};
	is(scalar @lines, scalar @$cases, 'a verdict for each case');
	my @wrong;
	for my $i (0 .. $#$cases) {
		my $case = $cases->[$i][1];
		my ($id, $verdict, $rest) = split / /, $lines[$i] // '', 3;
		my $want_result = $result ? bytes($result->($case)) : '-';
		my $good = defined $verdict && $id == $case->{tcId} && $verdict eq $want->($case)
		    && ($verdict eq 'refuse' || $rest eq $want_result);
		next if $good;
		push @wrong, $case->{tcId};
		diag("case $case->{tcId} ($case->{result}: $case->{comment}): " . ($lines[$i] // 'nothing'))
		    if @wrong <= 5;
	}
	return \@wrong;
}

sub count {
	my %n;
	$n{$_}++ for @_;
	return \%n;
}

sub test_file {
	my ($name, $file) = @_;
	my $json = decode_json(slurp("$dir/$name"));
	my @cases = map { my $group = $_; map { [ $group, $_ ] } @{ $group->{tests} } }
	    @{ $json->{testGroups} };
	is(scalar @cases, $json->{numberOfTests}, 'all cases are there');
	is_deeply(count(map { $_->[1]{result} } @cases), $file->{counts}, 'as many of each result');
	my $want = sub { return expected($file, @_) };
	is_deeply(run_cases(\@cases, $file->{line}, $want, $file->{result}), [], 'no wrong verdict');
	my @acceptable = grep { $_->[1]{result} eq 'acceptable' } @cases;
	is_deeply(count(map { $want->($_->[1]) } @acceptable), $file->{acceptable_count},
		'what becomes of acceptable ones') if $file->{acceptable_count};
	return if !$file->{again};
	is(scalar(grep { $file->{beyond}->($_->[1]) } @cases), $file->{beyond_count},
		'as many beyond what is supported');
	is(scalar(grep { $file->{own}->($_->[1]) } @cases), $file->{own_count},
		q(as many of libtao's own sizes));
	my @valid = grep { $_->[1]{result} eq 'valid' } @cases;
	is_deeply(run_cases(\@valid, $file->{again}, $want, $file->{again_result}), [],
		'the other way, too');
}

my %there = map { m{([^/]+)$}; ($1 => 1) } glob "$dir/*.json";
plan tests => 1 + keys %files;
is_deeply([ sort keys %there ], [ sort keys %files ], 'no file is left out');
for my $name (sort keys %files) {
	subtest $name => sub { test_file($name, $files{$name}) };
}
