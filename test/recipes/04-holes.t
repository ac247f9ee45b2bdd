# The holes of CloudProxy's Tao, one by one, and what keeps each closed here: tests of other recipes
# and of unit tests, by their descriptions. This recipe sees to it that they are there, and that those
# of unit tests run and pass; what needs no more than a look at what was built it tests itself. A
# hole of a service that is not here names the nearest thing that is.
use strict;
use warnings;

use Test::More;
use TaoTest;

plan skip_all => 'the normal build is looked at; the unit tests that it names run here in 01' if config('TAO_ASAN');

# [ the hole, { where => [ descriptions ] }, why it is another thing here, if it is ]
# Where: a recipe, in whose source the description stands as it is quoted here; a unit test, which
# prints it; or "here".
my @holes = (
	[ 'a CA signs any delegation that it is sent, and cuts the attestation short',
		{ t_domain => [ 'a program outside the domain', 'a program measured by a program', 'no guard' ],
			t_attest => [ "delegation: by one who may not" ],
			'31-host' => [ 'no certificate without a rule', 'nobody else says it: ' ] },
		'no service signs what others submit: a host issues certificates, for keys that it made itself' ],
	[ 'what the validation of an attestation says is thrown away, and any name passes',
		{ t_channel => [ 'a client of another domain', 'a server of another domain', 'refused: another OU' ],
			'70-libtao' => [ 'another root is refused', 'and an altered one' ] } ],
	[ 'a chain with a delegation need not end in the policy key',
		{ t_attest => [ 'with another root', 'the signer is not the root', 'with a root that is no key' ],
			t_domain => [ 'an unknown host', 'an unknown program' ], '37-stacked' => [ 'another root is refused' ],
			'22-compat' => [ 'from another root' ] } ],
	[ 'nobody looks at the clock, and endorsements never expire',
		{ t_attest => [ 'by the clock', 'no longer: the delegation', 'not yet: the outer one' ],
			t_guard => [ "another statement, another key's, a name below the policy key's, an expired one, garbage" ],
			t_channel => [ "a client's certificate that has expired" ], '70-libtao' => [ 'and a later time' ] } ],
	[ 'a server takes any certificate of a client, and its OU as the name',
		{ t_channel => [ 'a client without certificate', 'a client of another domain', 'refused: two OUs', 'refused: no URI',
				'nobody to say who may be it' ],
			'70-libtao' => [ 'another program of the domain is refused' ] } ],
	[ 'quotes of a TPM are hardly checked',
		{ t_attest => [ 'signed by a TPM', 'signed by an old TPM' ] },
		'no quote is believed: attestations that a TPM signed are refused until there is a verifier for them' ],
	[ 'old state can be put back: a table that is missing starts empty, counters are volatile, others make blobs',
		{ '33-ops' => [ 'counters are refused', 'the file is left as it is', 'those before it do not', 'nor by a plain Unseal',
				'a plain blob is none with a counter', "a blob of another program\\'s counter, for any program",
				'and what was old is', 'counters are as they were' ],
			t_counter => [ 'ends the first', 'an unknown counter opens nothing' ] } ],
	[ 'rules have no version, are not fresh, and stay when they were removed',
		{ t_guard => [ 'version 5 stays', "and nothing of version 4 comes in", "rules that are not fresh",
				'the file changed: a rule that is gone is gone', 'an old file is put back: nothing is allowed',
				'clear leaves a guard that works', 'no rule is lost (80)' ],
			t_domain => [ 'an older file is good: its version tells' ] } ],
	[ 'of the endorsements only the first is considered, and it becomes a rule for good',
		{ t_guard => [ 'the good one behind them', 'no endorsement became a rule', 'the next question is without' ] } ],
	[ 'a delegation is compared with itself',
		{ t_attest => [ 'delegation: for another key', 'delegation: an issuer beside it', "no delegation, but another's name" ],
			'37-stacked' => [ 'a delegation altered below the last' ] } ],
	[ 'what a program runs with is inherited and not measured, and it is started by path',
		{ '30-run' => [ '$TAO_DOOR is a descriptor above those that programs use', 'and no other but the door' ],
			'34-attacks' => [ 'nor with LD_PRELOAD', 'nor when it is traced', 'nor what was exchanged', 'but not exchanged afterwards',
				'another OPENSSL_CONF is in the name' ],
			'36-isolation' => [ q(a system's host makes its programs undumpable) ],
			'70-libtao' => [ 'for exactly one name, arguments included' ] } ],
	[ 'the first who connects to a socket is the program, and everybody may start programs',
		{ '31-host' => [ 'a process outside tao run', 'a challenge answered by a child', 'a wrong challenge' ],
			'34-attacks' => [ 'who has the number of a process that said hello is not that process' ],
			'50-errors' => [ 'another user does not stop the host', 'nor changes policy' ] } ],
	[ 'headers are not authenticated, and sealed data has neither expiry nor epoch',
		{ t_seal => [ 'no changed bit opens', 'other associated data', 'data is not a key', 'another secret, whatever the header says' ],
			t_crypter => [ 'of the header, only in name and epoch', 'header: another type', 'header: another purpose' ],
			'33-ops' => [ 'its kind cannot be changed', 'what expires in two seconds opens no more after them',
				'what was sealed in it does not open' ] } ],
	[ 'passwords are stretched little and stand on command lines, keys are not wiped, what is damaged is a panic',
		{ t_key => [ 'PBE: N=2^16, r=8, p=1', 'PBE: no changed bit and no prefix opens', 'ecdsap521: as what it is' ],
			t_wipe => [ 'afterwards no deriving key', 'no private scalar', 'no passphrase' ],
			t_crypter => [ 'no changed bit and no prefix opens', 'what is shorter than MAC and IV is called malformed' ],
			here => [ 'no option of tao takes a passphrase itself' ] } ],
	[ 'few bytes make a decoder take all memory or time, and requests have no limit',
		{ '21-logic' => [ 'any depth in hex', 'a huge count', 'a line without end is not kept (kB)' ],
			'31-host' => [ 'a header above the limit ends the connection', 'more fields than it will keep', '$_ random bytes',
				'a negative number' ],
			'39-limits' => [ 'max_request = 5000: a request of that size is looked at', 'max_instances = 3: another user is not held up by the first',
				'max_keys = 2: no third one for the user' ],
			'33-ops' => [ 'a program has 64 counters, the one before included' ] } ],
	[ 'one kind of key for all that is compiled together',
		{ t_mixed => [ 'all at the same time, in one process', 'none takes what another made (0 of 210)' ], t_key => [ "no type verifies another's signature" ] } ],
	[ 'the policy few is self',
		{ '33-ops' => [ 'few is program', 'the policies differ', '$word: another program' ],
			'31-host' => [ 'by one with an extended name: $word' ] } ],
	[ 'shared secrets are of one host, whoever shares them',
		{ '33-ops' => [ '$_: another program has another', 'policy: whom the rules let unseal the label', '$_: another with a label' ],
			here => [ 'another host has another secret' ] },
		'programs of several hosts share keys by channels, each end known by name, and not by a secret' ],
	[ 'the text of a name is what is compared',
		{ t_guard => [ 'another spelling of the same entry', 'a string is not the bytes' ],
			t_custody => [ 'exact: the name', 'exact: other arguments' ],
			t_counter => [ "another program's, user's, script's or label's is another" ],
			t_logic => [ 'tao_prin_ext_count' ] } ],
	[ 'no record of what was decided',
		{ '38-audit' => [ 'a refusal has its reason', 'what was sealed, by policy', 'a record is deleted', 'the chain is SHA-256 over lines' ] } ],
	[ 'nothing is ever revoked',
		{ t_domain => [ 'a revoked executable', 'a revoked host key', 'a revoked program', 'a revoked manifest', 'not when revoked',
				'its taod is revoked' ],
			'48-channel-host' => [ 'an identity from before it is worth nothing, at once', 'not even one that is open', 'its certificate is refused' ],
			'51-trust' => [ 'it is gone at once' ] } ],
	[ 'certificates: a year for the policy key, names anywhere, serial numbers 0 and 1',
		{ t_domain => [ 'a long serial number', 'has another serial number', 'ten years', 'unit: the whole name' ],
			t_channel => [ 'refused: two names', 'refused: an escape cut', 'another URI beside the name' ],
			'43-renewal' => [ 'it is a new one' ] } ],
	[ 'a host that was stopped lives on',
		{ '30-run' => [ 'waits until the host is gone' ],
			here => [ 'tao down leaves no process', 'and neither socket nor process number' ] } ],
	[ 'killing does nothing',
		{ '38-audit' => [ 'tao kill', 'which it got', 'asks it to end', 'and no other' ] } ],
	[ 'a library that prints',
		{ here => [ 'libtao.so.0 prints nothing', 'nor does tao.so' ] } ],
);

# ---- what is tested here ----

my %here;
sub here {
	my ($good, $name) = @_;
	$here{$name} = 1;
	return ok($good, $name);
}

my $prints = qr/^(?:(?:__)?v?f?printf(?:_chk)?|(?:f|put)?puts|f?putc|putchar|fwrite|perror|psignal|v?warnx?|v?errx?|v?dprintf|v?syslog|error|stdout|stderr)$/;
sub printing {
	my ($file) = @_;
	my @used = map { /\b[UBR] (\w+)/ ? $1 : () } split /\n/, run('nm', '-D', $file)->{out};
	cmp_ok(scalar @used, '>', 20, "$file is looked at");
	return grep { $_ =~ $prints } @used;
}
my %silent = (bldtop() . '/lib/libtao.so.0' => 'libtao.so.0 prints nothing', module_dir() . '/tao.so' => 'nor does tao.so');
for my $file (sort keys %silent) {
	my @found = printing($file);
	here(!@found, $silent{$file}) or diag("it uses @found");
}

my $tao = bin('tao');
cmp_ok(scalar printing($tao), '>', 0, 'and tao, which prints, is found out');
my @takes = grep { !/^--pass\w+-(?:file|fd)$/ } map { run($tao, split(/ /, $_), '--help')->{out} =~ /(--pass\w*(?:-\w+)*)/g }
    qw(init up), 'compat unpbe', 'key new', 'run';
here(!@takes, 'no option of tao takes a passphrase itself') or diag("@takes");

my @hosts = map { start_host() } 1, 2;
my @secret = map { ok_run([ $_->cmd('run', '--', $tao, qw(secret --policy host 32)) ], 'tao secret')->{out} } @hosts;
here($secret[0] ne $secret[1] && length $secret[0] == 65, 'another host has another secret');

sub processes {
	my ($dir) = @_;
	my @found;
	for my $proc (glob '/proc/[0-9]*') {
		open my $fh, '<', "$proc/cmdline" or next;
		my $command = <$fh> // '';
		push @found, $proc if $command =~ /taod\0/ && $command =~ /\0\Q$dir\E(?:\0|\z)/;
	}
	return @found;
}
my $host = $hosts[0];
my @before = processes($host->dir);
cmp_ok(scalar @before, '>', 0, 'a host has processes');
ok_run([ $host->cmd('down') ], 'tao down');
here(!processes($host->dir), 'tao down leaves no process');
here(!-e $host->dir . '/run/tao.sock' && !-e $host->dir . '/run/taod.pid', 'and neither socket nor process number');

# ---- what is tested elsewhere ----

my (%printed, %source);
sub passed {
	my ($unit, $name) = @_;
	$printed{$unit} //= do {
		my $r = run(bldtop() . "/test/unit/$unit", { dir => tmpdir(), timeout => 300 });
		+{ failed => $r->{status} != 0, map { /^ok \d+ - (.*?)(?: # SKIP .*)?$/ ? ($1 => 1) : () } split /\n/, $r->{out} };
	};
	return !$printed{$unit}{failed} && (!defined $name || $printed{$unit}{$name});
}
sub quoted {
	my ($recipe, $name) = @_;
	$source{$recipe} //= slurp(srctop() . "/test/recipes/$recipe.t");
	return $source{$recipe} =~ /(?:'|")\Q$name\E(?:'|")/;
}
sub there {
	my ($where, $name) = @_;
	return $here{$name} if $where eq 'here';
	return $where =~ /^t_/ ? passed($where, $name) : quoted($where, $name);
}

is(scalar @holes, 25, 'all of them');
for my $hole (@holes) {
	my ($what, $tests, $why) = @$hole;
	my (@missing, $n);
	for my $where (sort keys %$tests) {
		push @missing, "$where: did not pass" if $where =~ /^t_/ && !passed($where);
		for my $name (@{ $tests->{$where} }) {
			$n++;
			push @missing, "$where: $name" if !there($where, $name);
		}
	}
	ok($n && !@missing, "closed: $what") or diag("missing:\n  " . join "\n  ", @missing);
	note("here: $why") if defined $why;
}

done_testing();
