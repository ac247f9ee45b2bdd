# tao compat: CloudProxy's own vectors, a domain directory made as CloudProxy makes one, and
# malformed files for each subcommand.
use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use POSIX ();
use Test::More;
use TaoRaw qw(field number);
use TaoTest;

need_programs('openssl');
my $tao = bin('tao');
my $dir = tmpdir();

sub compat { return run($tao, 'compat', @_, { stdin => "a password\n" }) }

sub gives {
	my ($args, $like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = compat(@$args);
	my $same = ref $like ? $r->{out} =~ $like : $r->{out} eq $like;
	ok($r->{status} == 0 && $same && $r->{err} eq '', $name)
	    or diag("exit status $r->{status}, wanted $like\n$r->{out}$r->{err}");
	return $r;
}

# Exit status 1, one sentence, and nothing on standard output.
sub refuses {
	my ($args, $like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = compat(@$args);
	ok($r->{status} == 1 && $r->{out} eq '' && $r->{err} =~ /\Atao compat $args->[0]: .+\n\z/ &&
		$r->{err} =~ $like, $name)
	    or diag("exit status $r->{status}, wanted 1 and $like\n$r->{out}$r->{err}");
	return $r;
}

# As run(), but without its polling: for thousands of commands.
sub quick {
	my ($stdin, @args) = @_;
	my ($out, $err) = map { "$dir/quick.$_" } qw(out err);
	my $pid = fork // die "fork: $!\n";
	if (!$pid) {
		open STDIN, '<', $stdin or POSIX::_exit(99);
		open STDOUT, '>', $out or POSIX::_exit(99);
		open STDERR, '>', $err or POSIX::_exit(99);
		exec { $tao } 'tao', 'compat', @args or POSIX::_exit(99);
	}
	waitpid $pid, 0;
	return { status => $?, out => slurp($out), err => slurp($err) };
}

# Each beginning of the file, and each with a bit turned: never a crash. Of the beginnings, only
# those of the lengths in whole are read, the others are refused with one sentence.
sub beginnings {
	my ($file, $whole, $stdin, @args) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $all = slurp($file);
	my $cut = "$dir/cut";
	my (@read, @bad);
	for my $n (0 .. length($all) - 1) {
		spew($cut, substr $all, 0, $n);
		my $r = quick($stdin, map { $_ eq 'FILE' ? $cut : $_ } @args);
		if ($r->{status} == 0) {
			push @read, $n;
		} elsif ($r->{status} != 1 << 8 || $r->{out} ne '' ||
			$r->{err} !~ /\Atao compat $args[0]: [^\n]+\n\z/) {
			push @bad, "$n: $r->{status} $r->{out}$r->{err}";
		}
	}
	my ($name) = $file =~ m{([^/]+)$};
	is("@bad[0 .. ($#bad > 3 ? 3 : $#bad)]", '', "$args[0]: each beginning of $name is refused with a sentence");
	is("@read", "@$whole", 'but for those that are whole files');
	@bad = ();
	for (my $n = 0; $n < length $all; $n += 3) {
		my $turned = $all;
		substr($turned, $n, 1) ^= chr(1 << $n % 8);
		spew($cut, $turned);
		my $r = quick($stdin, map { $_ eq 'FILE' ? $cut : $_ } @args);
		push @bad, "$n: $r->{status} $r->{err}" if $r->{status} != 0 && $r->{status} != 1 << 8;
	}
	is("@bad", '', 'and no bit turned in it does harm');
}

# --- protocol buffers

sub header {
	my ($name, $type, $purpose) = @_;
	return number(1, 2) . field(2, $name) . number(3, 1) . field(4, $type) . field(5, $purpose) .
	    field(6, 'active');
}
sub cryptokey { return field(1, header(@_[0 .. 2])) . join '', map { field(2, $_) } @_[3 .. $#_] }

# --- usage

for my $case (
	[ [qw(verify --context c m s)], qr/--key is missing/ ], [ [qw(verify --key k m s)], qr/--context is missing/ ],
	[ [qw(verify --key k --context c m)], qr/something is missing/ ], [ [qw(decrypt f)], qr/--key is missing/ ],
	[ [qw(unpbe f)], qr/--password-fd is missing/ ], [ [qw(unpbe --password-fd x f)], qr/--password-fd is a number/ ],
	[ [qw(unpbe --password-fd 0 -)], qr/cannot be both/ ],
	[ [qw(derive --key k --context c)], qr/--length is missing/ ],
	[ [qw(derive --key k --context c --length 0)], qr/--length is a number/ ],
	[ [qw(attestation --at x f)], qr/--at is a number/ ], [ [qw(attestation a b)], qr/'b' is too much/ ],
	[ [qw(inspect)], qr/something is missing/ ], [ [qw(import)], qr/something is missing/ ],
) {
	my $r = compat(@{ $case->[0] });
	ok($r->{status} == 2 && $r->{err} =~ $case->[1], "usage: @{ $case->[0] }") or diag($r->{err});
}
for my $args ([qw(inspect FILE)], [qw(verify --context c --key FILE FILE FILE)], [qw(decrypt --key FILE FILE)],
	[qw(unpbe --password-fd 0 FILE)], [qw(derive --key FILE --context c --length 1)],
	[qw(attestation FILE)], [qw(import FILE)]) {
	my @with = map { my $f = $_; [ map { $_ eq 'FILE' ? $f : $_ } @$args ] } "$dir/nowhere", spew("$dir/empty", '');
	refuses($with[0], qr/nowhere.* does not exist/, "$args->[0]: no such file");
	refuses($with[1], qr/empty/, "$args->[0]: an empty one");
	spew("$dir/junk", join '', map { chr(($_ * 7919) % 251) } 1 .. 500);
	refuses([ map { $_ eq 'FILE' ? "$dir/junk" : $_ } @$args ], qr/junk/, "$args->[0]: garbage");
}

# --- the vectors

my $vectors = ($ENV{TAO_VECTORS} // '') . '/cloudproxy';
SKIP: {
	skip 'TAO_VECTORS is not set, or has no files of CloudProxy', 1 if !-e "$vectors/README.md";
	my $root = 'key([5aa92173245dd9d4fb7f43df68c25ec7d34d414201aeb42f637559691dff010e])';
	my $rsa = 'key([914441c29ce3620be06c095aaa52cbed1c36c3bd089e01353eeb5062ebde3099])';
	my %kind = (
		'ecdsap256.key' => 'CryptoKey', 'rsa2048.key' => 'CryptoKey', 'oskey.key' => 'CryptoKey',
		'aes128-ctr-hmacsha256.key' => 'CryptoKey', 'hdkf-sha256.key' => 'CryptoKey',
		'ecdsap256.sig' => 'SignedData', 'rsa2048.sig' => 'SignedData', 'pbe_xxx.enc' => 'PBEData',
		'aes128-ctr-hmacsha256.enc' => 'EncryptedData', 'chain1.att' => 'Attestation',
		'chain2.att' => 'Attestation', 'chain2_nodel.bad.att' => 'Attestation',
		'ecdsap256.spki' => 'public key (SubjectPublicKeyInfo)',
		'rsa2048.spki' => 'public key (SubjectPublicKeyInfo)',
	);
	my @there = grep { !/^(README\.md|formulas\.tsv|msg)$/ } map { m{([^/]+)$} } glob "$vectors/*";
	is_deeply([ sort @there ], [ sort keys %kind ], '14 files, all known');
	my $inspected = 0;
	for my $file (sort keys %kind) {
		my $r = gives([ 'inspect', "$vectors/$file" ], qr/^kind +\Q$kind{$file}\E\n/, "inspect $file");
		$inspected++ if $r->{status} == 0;
		next if $file !~ /\.key$/;
		# No eight bytes of a part of the key, as they are or in hex.
		my $rest = slurp("$vectors/$file") =~ s/\A.*?active//sr;
		my $told = grep { my $part = substr $rest, $_, 8; my $hex = unpack 'H*', $part;
			$r->{out} =~ /\Q$part\E|$hex/i } 4 .. length($rest) - 8;
		is($told, 0, 'and tells nothing of the key');
	}
	is($inspected, 14, 'all 14 are inspected');
	gives([ 'inspect', "$vectors/ecdsap256.key" ], qr/^principal +\Q$root\E$/m, 'a key has its name');
	gives([ 'inspect', "$vectors/rsa2048.spki" ], qr/^principal +\Q$rsa\E$/m, 'and so has a public one');
	gives([ 'inspect', "$vectors/chain2.att" ], qr/^statement .*Program\(\[dead\]\) from 500 .*^delegation +1\nstatement .* from 1000 /ms,
		'an attestation is shown with its delegation');
	gives([ 'inspect', "$vectors/pbe_xxx.enc" ], qr/^iterations +4096$/m, 'and a PBEData with its cost');
	my $json = decode_json(run($tao, '--json', 'compat', 'inspect', "$vectors/chain1.att")->{out});
	is_deeply($json->{lines}[0], { name => 'kind', value => 'Attestation' }, 'inspect --json');

	my @msg = ("$vectors/msg");
	for my $type (qw(ecdsap256 rsa2048)) {
		my @key = ('--key', "$vectors/$type.spki");
		gives([ 'verify', '--context', "ctx $type", @key, @msg, "$vectors/$type.sig" ],
			'signer       ' . ($type eq 'rsa2048' ? $rsa : $root) . "\n", "verify $type");
		refuses([ 'verify', '--context', "ctx", @key, @msg, "$vectors/$type.sig" ], qr/does not verify/, 'another context');
		refuses([ 'verify', '--context', "ctx $type", @key, "$vectors/README.md", "$vectors/$type.sig" ],
			qr/does not verify/, 'another message');
		my $other = $type eq 'rsa2048' ? 'ecdsap256' : 'rsa2048';
		refuses([ 'verify', '--context', "ctx $type", '--key', "$vectors/$other.spki", @msg, "$vectors/$type.sig" ],
			qr/not the signer key's/, 'another key');
		refuses([ 'verify', '--context', "ctx $type", '--key', "$vectors/$type.key", @msg, "$vectors/$type.sig" ],
			qr/not a public key/, 'no public key');
	}

	my $aes = "$vectors/aes128-ctr-hmacsha256";
	my $msg = slurp(@msg);
	gives([ 'decrypt', '--key', "$aes.key", "$aes.enc" ], $msg, 'decrypt');
	my $set = spew("$dir/keyset", join '', map { field(1, slurp($_)) } "$vectors/ecdsap256.key", "$aes.key",
		"$vectors/hdkf-sha256.key");
	gives([ 'decrypt', '--key', $set, "$aes.enc" ], $msg, 'decrypt with a keyset');
	gives([ 'inspect', $set ], qr/^kind +CryptoKeyset\nkey +1\n.*^key +2\n.*^purpose +crypting\n.*^key +3\n/ms,
		'inspect a keyset');
	refuses([ 'decrypt', '--key', "$vectors/ecdsap256.key", "$aes.enc" ], qr/purpose must be 'crypting'/, 'a key for signing');
	my $altered = slurp("$aes.enc");
	substr($altered, -40, 1) ^= "\x01";
	refuses([ 'decrypt', '--key', "$aes.key", spew("$dir/altered", $altered) ], qr/altered/, 'decrypt an altered one');

	my $pass = spew("$dir/pass", "xxx\n");
	my $pbe = "$vectors/pbe_xxx.enc";
	my $r = quick($pass, 'unpbe', '--password-fd', 0, $pbe);
	is($r->{out}, $msg, 'unpbe') or diag($r->{err});
	$r = quick(spew("$dir/wrong", 'xxy'), 'unpbe', '--password-fd', 0, $pbe);
	ok($r->{status} == 256 && $r->{out} eq '' && $r->{err} =~ /passphrase/, 'unpbe with another password');
	refuses([ 'unpbe', '--password-fd', 77, $pbe ], qr/descriptor 77: Bad file descriptor/, 'unpbe with a descriptor that is closed');

	my @derive = ('derive', '--context', 'self|.Program([dead])', '--length');
	my $secret = '02e17e2d742e51a9b3a702692562f241ce784b05facbb481400a6a984682157018e941f454dc9a14';
	gives([ @derive, 40, '--key', "$vectors/hdkf-sha256.key" ], "$secret\n", 'derive');
	gives([ @derive, 8, '--key', $set ], substr($secret, 0, 16) . "\n", 'derive fewer, with a keyset');
	refuses([ @derive, 255 * 32 + 1, '--key', "$vectors/hdkf-sha256.key" ], qr/1 to 8160 bytes of output/, 'derive too many');
	refuses([ @derive, 40, '--key', "$aes.key" ], qr/purpose must be 'deriving'/, 'a key for encrypting');

	my %until = (chain1 => '9000000000000000000', chain2 => '8000000000000000000');
	for my $chain (sort keys %until) {
		my $file = "$vectors/$chain.att";
		my $says = qr/\Q$root\E\.OS\(\[0102\]\)\S* from 1000 until $until{$chain} says .*\n/;
		gives([ 'attestation', $file ], qr/^${says}root +\Q$root\E\n$/, "$chain, now");
		gives([ 'attestation', '--trust', $root, $file ], qr/^$says$/, "$chain, from a trusted root");
		gives([ 'attestation', '--at', 1000, $file ], qr/^$says/, "$chain, from its first nanosecond");
		refuses([ 'attestation', '--at', 999, $file ], qr/not yet valid/, 'but not before');
		refuses([ 'attestation', '--at', $until{$chain}, $file ], qr/has expired/, 'nor at its end');
		gives([ 'attestation', '--at', substr($until{$chain}, 0, 1) - 1 . '9' x 18, $file ], qr/^$says/, 'but just before');
		refuses([ 'attestation', '--trust', $rsa, $file ], qr/not trusted/, 'from another root');
		refuses([ 'attestation', '--trust', 'nobody', $file ], qr/--trust/, 'from nobody');
	}
	refuses([ 'attestation', "$vectors/chain2_nodel.bad.att" ], qr/no delegation/, 'a chain that lacks a link');

	# Without its delegation, chain2 is still an attestation, though not a valid one.
	my $whole = length slurp("$vectors/chain2_nodel.bad.att");
	my @none = ([], '/dev/null');
	beginnings("$vectors/chain2.att", [$whole], '/dev/null', 'inspect', 'FILE');
	beginnings("$vectors/$_", @none, 'inspect', 'FILE')
	    for qw(ecdsap256.key ecdsap256.sig ecdsap256.spki aes128-ctr-hmacsha256.enc hdkf-sha256.key pbe_xxx.enc);
	my @ec = ('verify', '--context', 'ctx ecdsap256');
	beginnings("$vectors/ecdsap256.sig", @none, @ec, '--key', "$vectors/ecdsap256.spki", @msg, 'FILE');
	beginnings("$vectors/ecdsap256.spki", @none, @ec, '--key', 'FILE', @msg, "$vectors/ecdsap256.sig");
	beginnings("$aes.enc", @none, 'decrypt', '--key', "$aes.key", 'FILE');
	beginnings("$aes.key", @none, 'decrypt', '--key', 'FILE', "$aes.enc");
	beginnings("$vectors/pbe_xxx.enc", [], $pass, 'unpbe', '--password-fd', 0, 'FILE');
	beginnings("$vectors/hdkf-sha256.key", @none, @derive, 40, '--key', 'FILE');
	beginnings("$vectors/chain2.att", @none, 'attestation', 'FILE');
}

# --- a key of our own making

my $secret = join '', map { chr } 1 .. 32;
my $deriver = spew("$dir/deriver", cryptokey('d', 'hdkf-sha256', 'deriving', $secret));
gives([ 'inspect', $deriver ], qr/^kind +CryptoKey\n.*^purpose +deriving\n/ms, 'a deriving key');
gives([ qw(derive --context x --length 16 --key), $deriver ], qr/^[0-9a-f]{32}\n$/, 'and what it derives');
refuses([ 'inspect', spew("$dir/escape", cryptokey("\e[31m", "\e[32m", 'deriving', $secret)) ], qr/^[ -~]+$/,
	'control characters do not come through');
gives([ 'inspect', spew("$dir/escape", cryptokey("\e[31m", 'hdkf-sha256', 'deriving', $secret)) ],
	qr/^key name     \\x1b\[31m$/m, 'nor in a report');

# --- a domain

my $old = "$dir/old";
mkdir $_ for $old, "$old/policy_keys";
ok_run([ qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=old -days 30
	-keyout), "$dir/policy.pem", '-outform', 'DER', '-out', "$old/policy_keys/cert" ], 'a policy key');
ok_run([ qw(openssl pkey -pubout -outform DER -in), "$dir/policy.pem", '-out', "$dir/policy.spki" ], 'and its public half');
my $policy = 'key([' . sha256_hex(slurp("$dir/policy.spki")) . '])';
spew("$old/policy_keys/keys", 'not read');

sub sign_with {
	my ($pem, $context, $body) = @_;
	spew("$dir/tbs", field(1, $context) . field(2, $body));
	ok(run(qw(openssl dgst -sha256 -sign), $pem, '-out', "$dir/sig", "$dir/tbs")->{status} == 0, 'signed');
	my $signed = field(1, header('policy', 'ecdsap256-public', 'signing')) . field(2, slurp("$dir/sig"));
	return field(1, $body) . field(2, $signed);
}
sub acls { return sign_with("$dir/policy.pem", 'tao.ACLGuard Version 1', join '', map { field(1, $_) } @_) }
sub rules {
	my $hex = run($tao, qw(logic encode), { stdin => join '', map { "$_\n" } @_ })->{out};
	return sign_with("$dir/policy.pem", 'Datalog Rules Signing Context V1',
		join '', map { field(1, pack 'H*', $_) } split /\n/, $hex);
}
sub write_config {
	my ($guard) = @_;
	return spew("$old/tao.config", <<"END");
domain_info: <
  name: "old \\"domain\\""
  policy_keys_path: "policy_keys"
  guard_type: "$guard"
  guard_ttl: 30
>
# a comment
x509_info { common_name: "n" serial_number: 1 }
acl_guard_info: < signed_acls_path: "acls" >
datalog_guard_info: <
  signed_rules_path: "rules"
>
END
}
my ($one, $two) = ('11' x 32, '22' x 32);
my $host = "key([$two]).ACLGuard($policy)";
sub import_says {
	my ($status, $facts, $refused, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r = compat('import', $old);
	my @facts = $r->{out} =~ /^fact +(.*)$/mg;
	my @refused = $r->{out} =~ /^refused +(.*)$/mg;
	ok($r->{status} == $status, $name) or diag($r->{out}, $r->{err});
	is_deeply(\@facts, $facts, 'facts');
	is(scalar @refused, scalar @$refused, 'as many refused') or diag($r->{out});
	like($refused[$_] // '', $refused->[$_], "refused $_") for 0 .. $#$refused;
	return $r;
}

write_config('ACLs');
spew("$old/acls", acls("Authorized($host.Program([$one]), \"Execute\")"));
my $r = import_says(0, ["TrustedProgram([$one])"], [], 'a list of one');
like($r->{out}, qr/^domain +old "domain"\nguard +ACLs\nprincipal +\Q$policy\E\nsubject +O=old\n/, 'with the domain and its key');
like($r->{out}, qr{^policy key   \Q$old\E/policy_keys/keys stays there: }m, 'whose private half stays');
is($r->{err}, '', 'without complaint');
my $json = decode_json(run($tao, '--json', 'compat', 'import', $old)->{out});
is((grep { $_->{name} eq 'fact' } @{ $json->{lines} })[0]{value}, "TrustedProgram([$one])", 'import --json');
gives([ 'inspect', "$old/acls" ], qr/^kind +signed access list \(ACLSet\)\nentry +Authorized\(/, 'inspect it');
gives([ 'inspect', "$old/policy_keys/cert" ], qr/^kind +certificate \(X\.509\)\nprincipal +\Q$policy\E\n/, 'and its certificate');
beginnings("$old/acls", [], '/dev/null', 'inspect', 'FILE');

spew("$old/acls", acls("Authorized($host.Program([$one]), \"Execute\")", "Authorized($host.Program([$two]), \"Execute\")",
	"Authorized(key([$one]).A().Program([$two]), \"Execute\")", "Authorized($host.Program([$one]), \"Read\")",
	"Authorized($host.Program([dead]), \"Execute\")", "Authorized($host.Program([$one]), \"Execute\", \"more\")",
	"Authorized($host.Program([$one]).More(), \"Execute\")", "Authorized($host.Program([$one]).Program([$two]), \"Execute\")",
	"Authorized(key([$one]), \"Execute\")"));
my $only = qr/: only the right to "Execute" of a name/;
$r = import_says(1, [ "TrustedProgram([$one])", "TrustedProgram([$two])" ], [ ($only) x 6 ], 'only what means the same');
like($r->{err}, qr/^tao compat import: not everything can be taken over/, 'and it says so');

my @rules = ("TrustedProgramHash(ext.Program([$one]))", "TrustedProgramHash(ext.Program(1, [$one]))",
	"TrustedProgramHash(ext.Program([$one]).B())", "TrustedHost(key([$one]))", "TrustedContainerHash(ext.Container([$one]))",
	'forall P: TrustedHost(P) implies Authorized(P, "Execute")', "Own(1)");
write_config('Datalog');
spew("$old/rules", rules(@rules));
import_says(1, ["TrustedProgram([$one])"], [ qr/only ext\.Program/, qr/only ext\.Program/, qr/names of hosts are new/,
	qr/containers/, qr/^forall P: .*: rules with variables/, qr/^Own\(1\): .*no fact/ ], 'rules');
gives([ 'inspect', "$old/rules" ], qr/^kind +signed rules \(DatalogRules\)\n(rule .*\n){7}signature /, 'inspect them');
spew("$old/rules", rules($rules[0]));
import_says(0, ["TrustedProgram([$one])"], [], 'rules that can all be taken over');

write_config('DenyAll');
import_says(0, [], [], 'nothing is allowed');
write_config('AllowAll');
import_says(1, [], [qr/^AllowAll: no domain here/], 'everything is allowed');
write_config('Cached');
refuses([ 'import', $old ], qr/no guard 'Cached'/, 'no such guard');

# --- malformed domains

ok_run([ qw(openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out), "$dir/other.pem" ], 'another key');
write_config('ACLs');
my $entry = field(1, "Authorized($host.Program([$one]), \"Execute\")");
spew("$old/acls", sign_with("$dir/other.pem", 'tao.ACLGuard Version 1', $entry));
refuses([ 'import', $old ], qr/acls.*does not verify/, "a list that another key signed");
spew("$old/acls", sign_with("$dir/policy.pem", 'Datalog Rules Signing Context V1', $entry));
refuses([ 'import', $old ], qr/acls.*does not verify/, 'a list that was signed as something else');
spew("$old/acls", acls('Nonsense('));
refuses([ 'import', $old ], qr/entry 1/, 'an entry that is none');
unlink "$old/acls";
refuses([ 'import', $old ], qr/acls.* does not exist/, 'no list');
spew("$old/acls", acls("Authorized($host.Program([$one]), \"Execute\")"));

# In a domain all files but the one that is cut are good.
sub cut_in_domain {
	my ($name, $whole) = @_;
	my $good = slurp("$old/$name");
	my (@read, @bad);
	for my $n (0 .. length($good) - 1) {
		spew("$old/$name", substr $good, 0, $n);
		my $r = quick('/dev/null', 'import', $old);
		push @read, $n if $r->{status} == 0;
		push @bad, "$n: $r->{status} $r->{out}$r->{err}" if $r->{status} != 0 &&
		    ($r->{status} != 256 || $r->{out} ne '' || $r->{err} !~ /\Atao compat import: [^\n]+\n\z/);
	}
	spew("$old/$name", $good);
	is("@bad", '', "import: each beginning of $name is refused with a sentence");
	is(scalar(grep { $_ < $whole } @read), 0, 'and none is taken for the whole');
}
cut_in_domain('acls', 1e9);
cut_in_domain('policy_keys/cert', 1e9);
# Behind domain_info, the others are CloudProxy's defaults.
cut_in_domain('tao.config', index(slurp("$old/tao.config"), '>'));
write_config('Datalog');
cut_in_domain('rules', 1e9);
for my $bad ('domain_info: <', '>', 'domain_info: < > >', 'a', 'a:', ': "b"', 'a: "b', "a: \"b\n\"", 'a: "\\x"', '<' x 20, 'a <' x 20,
	"domain_info: < name: \"\0\" >", "\0") {
	spew("$old/tao.config", $bad);
	refuses([ 'import', $old ], qr/tao\.config: /, 'tao.config: ' . $bad =~ s/[^ -~]/./gr);
}

done_testing();
